//! `drcm demo`: shows on this machine, in under a minute, what a cluster does.

use std::{
    env,
    io::Write,
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::unistd::Uid;

use super::{Change, Lab, LabError, Plan, Probe, Sampler, probe::Mark, program, switch::Port};

/// Set in the copy of the program that runs in a user namespace.
const INSIDE: &str = "DRCM_DEMO_INSIDE";

/// Set by SIGINT, SIGTERM and SIGHUP while a demonstration runs.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Builds a cluster of three real daemons in network namespaces, takes its owner away in three ways, and tells what a
/// client saw. `binary` is the `drcm_server` to run. Without root it starts the program again in a user namespace.
///
/// # Errors
/// [`LabError`], when the machine does not permit a laboratory, or the cluster does not do what it should.
pub fn demo(binary: &Path, out: &mut dyn Write) -> Result<(), LabError> {
    if !Uid::effective().is_root() {
        return Err(enter_user_namespace());
    }
    catch_interrupts()?;
    let mut plan = Plan::of(3);
    plan.failback_delay = Duration::from_secs(3);
    Show { lab: Lab::new(plan, binary)?, out }.run()
}

/// Whether the operator has asked the demonstration to end.
pub(super) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

struct Show<'a> {
    lab: Lab,
    out: &'a mut dyn Write,
}

impl Show<'_> {
    fn run(&mut self) -> Result<(), LabError> {
        let (probe, sampler) = (self.lab.probe()?, self.lab.sampler()?);
        self.start(&probe, &sampler)?;
        self.cut(&probe, &sampler)?;
        self.join(&probe, &sampler)?;
        self.hand_over(&probe, &sampler)?;
        self.balance(&sampler)
    }

    fn start(&mut self, probe: &Probe, sampler: &Sampler) -> Result<(), LabError> {
        let plan = self.lab.plan().clone();
        self.say(&format!(
            "Three nodes on this machine, each in a network namespace, joined by a bridge; one cm.cfg for all, in\n\
             {}. They send a heartbeat every {} ms, and a node that misses {} of them is dead.\n\
             The floating address {} is at home on node1; node2 and then node3 are its backups.\n\
             A client beside them asks that address every millisecond.",
            self.lab.directory().join("cm.cfg").display(),
            plan.keep_alive_interval.as_millis(),
            plan.dead_node_count,
            Plan::served(),
        ))?;
        self.title("Starting drcm_server on all three")?;
        self.lab.start_all()?;
        let took = self.lab.wait("an answer from the floating address", Duration::from_secs(15), |_| {
            sampler.owner().is_some() && probe.answering().is_some()
        })?;
        let (owner, _) = owner(sampler)?;
        let name = self.name(owner);
        self.say(&format!("{:.1} s after the start the address answers, on {name}. What the operator sees:", took.as_secs_f64()))?;
        self.lab.pass(Duration::from_millis(700))?;
        self.status(1)
    }

    fn cut(&mut self, probe: &Probe, sampler: &Sampler) -> Result<(), LabError> {
        let (before, _) = owner(sampler)?;
        let name = self.name(before);
        self.title(&format!("Cutting {name} off the network (it keeps running, and its carrier stays up)"))?;
        let mark = Mark::now();
        self.lab.switch().cut(Port::Node(before))?;
        let after = self.moved(probe, sampler, mark, before)?;
        let outage = probe.longest_outage(mark);
        let name_after = self.name(after);
        self.say(&format!("The address answers on {name_after}. The client waited {} ms.", outage.as_millis()))?;
        if let Some(gap) = gap(&sampler.changes(), after) {
            self.say(&format!(
                "{name}, alone, had dropped the address by itself {:.0} ms before {name_after} took it.",
                milliseconds(gap)
            ))?;
        }
        self.lab.pass(Duration::from_millis(700))?;
        self.status(after)
    }

    fn join(&mut self, probe: &Probe, sampler: &Sampler) -> Result<(), LabError> {
        let (before, _) = owner(sampler)?;
        let delay = self.lab.plan().failback_delay.as_secs();
        self.title(&format!("Joining node1 again; it takes its address back when it has been well for {delay} s"))?;
        let mark = Mark::now();
        self.lab.switch().join(Port::Node(0))?;
        let after = self.moved(probe, sampler, mark, before)?;
        let (name, outage) = (self.name(after), probe.longest_outage(mark));
        self.say(&format!("The address is back on {name}. The client waited {:.1} ms.", milliseconds(outage)))
    }

    fn hand_over(&mut self, probe: &Probe, sampler: &Sampler) -> Result<(), LabError> {
        let (before, _) = owner(sampler)?;
        let name = self.name(before);
        self.title(&format!("Stopping the daemon of {name} with SIGTERM, as `systemctl stop drcm_server` does"))?;
        let mark = Mark::now();
        self.lab.node_mut(before).stop(Duration::from_secs(10))?;
        let after = self.moved(probe, sampler, mark, before)?;
        let (name, outage) = (self.name(after), probe.longest_outage(mark));
        self.say(&format!("It handed the address to {name}. The client waited {:.1} ms.", milliseconds(outage)))
    }

    fn balance(&mut self, sampler: &Sampler) -> Result<(), LabError> {
        let doubles = sampler.doubles();
        if let Some(first) = doubles.first() {
            let nodes = first.owners.iter().map(|node| self.name(*node)).collect();
            return Err(LabError::TwoOwners { nodes, times: doubles.len() });
        }
        let (looks, pause) = sampler.looks();
        self.say(&format!(
            "\nAll the while every node was asked for the address, {looks} times, at most {:.0} ms apart: it was never on two nodes.\n\
             Ending the daemons and removing everything again.",
            milliseconds(pause),
        ))
    }

    /// Waits until another node than `before` has the address and answers for it.
    fn moved(&mut self, probe: &Probe, sampler: &Sampler, mark: Mark, before: usize) -> Result<usize, LabError> {
        self.lab.wait("the move of the address to another node", Duration::from_secs(20), |_| {
            sampler.owner().is_some_and(|now| now != before && probe.answered_since(mark).contains(&now) && probe.answering() == Some(now))
        })?;
        // The last of the old owner's answers may still be on their way.
        self.lab.pass(Duration::from_millis(100))?;
        owner(sampler).map(|(now, _)| now)
    }

    fn status(&mut self, node: usize) -> Result<(), LabError> {
        let name = self.name(node);
        self.say(&format!("\n[{name}]# drcm_server --client --command=cm_stat"))?;
        let said = self.lab.node(node).client(&["--command=cm_stat"])?;
        self.say(said.stdout.trim_end())?;
        if !said.stderr.trim().is_empty() {
            self.say(said.stderr.trim_end())?;
        }
        Ok(())
    }

    fn name(&self, node: usize) -> String {
        self.lab.node(node).name().to_owned()
    }

    fn title(&mut self, text: &str) -> Result<(), LabError> {
        self.say(&format!("\n== {text}"))
    }

    fn say(&mut self, text: &str) -> Result<(), LabError> {
        writeln!(self.out, "{text}").and_then(|()| self.out.flush()).map_err(LabError::Output)
    }
}

/// The node that has the address now, of how many.
fn owner(sampler: &Sampler) -> Result<(usize, usize), LabError> {
    let owners = sampler.owners();
    match owners.first() {
        Some(first) => Ok((*first, owners.len())),
        None => Err(LabError::TooLate { what: "the address being on a node".to_owned(), limit: Duration::ZERO }),
    }
}

/// How long nobody had the address before this node took it.
fn gap(changes: &[Change], taken_by: usize) -> Option<Duration> {
    let taken = changes.iter().rposition(|change| change.owners == [taken_by])?;
    let before = changes.get(taken.checked_sub(1)?)?;
    before.owners.is_empty().then(|| changes[taken].at - before.at)
}

fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// Starts this program again as root of a user namespace. Returns only when that fails.
fn enter_user_namespace() -> LabError {
    if env::var_os(INSIDE).is_some() {
        return LabError::NotPermitted { detail: "a user namespace did not make us root".to_owned() };
    }
    let unshare = match program("unshare", "util-linux") {
        Ok(path) => path,
        Err(error) => return error,
    };
    let arguments = ["--user", "--map-root-user", "--net", "--mount"];
    match Command::new(&unshare).args(arguments).arg("true").output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => return LabError::NotPermitted { detail: String::from_utf8_lossy(&output.stderr).trim().to_owned() },
        Err(error) => return LabError::system("running unshare", error),
    }
    let own = match env::current_exe() {
        Ok(path) => path,
        Err(error) => return LabError::system("finding this program", error),
    };
    let error = Command::new(unshare).args(arguments).arg(own).args(env::args_os().skip(1)).env(INSIDE, "1").exec();
    LabError::system("running unshare", error)
}

/// Lets the first signal end the demonstration in order. A second one ends it at once: the kernel then ends the daemons.
fn catch_interrupts() -> Result<(), LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| LabError::system("starting the signal thread", error))?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
                let Ok([mut interrupt, mut terminate, mut hangup]) =
                    <[_; 3]>::try_from(kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect::<Vec<_>>())
                else {
                    return;
                };
                for _ in 0..2 {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    if INTERRUPTED.swap(true, Ordering::Relaxed) {
                        std::process::exit(130);
                    }
                }
            });
        })
        .map_err(|error| LabError::system("starting the signal thread", error))?;
    Ok(())
}
