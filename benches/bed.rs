//! The stand on which both contenders are tried: the same namespaces, the same switch, the same client; only what keeps the address differs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use drcm::lab::{Lab, LabNode, Mark, Plan, Port, Probe, Sampler};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The daemon that is measured: the optimised one, of the same build as this program.
pub fn daemon() -> PathBuf {
    program("drcm_server")
}

/// A program beside this one: examples lie one directory below.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().skip(1).take(2).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("there is no {name} beside {}: `make bench` builds both", own.display()))
}

/// Nodes that may have the address, at most.
const CANDIDATES: usize = 3;
/// Longest that anything may take before a figure is given up.
pub const LONG: Duration = Duration::from_secs(60);

/// Who keeps the address.
#[derive(Clone)]
pub enum Contender {
    /// Ours, with this plan.
    Drcm(Plan),
    /// Debian's keepalived on two nodes, with this time between advertisements.
    Keepalived(Duration),
}

/// A cluster that serves the address, and its client.
pub struct Bed {
    pub lab: Lab,
    probe: Option<Probe>,
    pub sampler: Sampler,
    keepalived: Option<Vec<Keepalived>>,
}

impl Bed {
    /// Started, and served by the first node.
    pub fn serving(contender: &Contender) -> Self {
        let plan = match contender {
            Contender::Drcm(plan) => plan.clone(),
            Contender::Keepalived(_) => Plan::of(2),
        };
        let lab = Lab::new(plan, &daemon()).unwrap();
        let (probe, sampler) = (lab.probe().unwrap(), lab.sampler_on(CANDIDATES).unwrap());
        let mut bed = Self { lab, probe: Some(probe), sampler, keepalived: None };
        match contender {
            Contender::Drcm(_) => bed.lab.start_all().unwrap(),
            Contender::Keepalived(interval) => {
                bed.keepalived =
                    Some(bed.lab.nodes().iter().enumerate().map(|(place, node)| Keepalived::new(node, place, *interval)).collect());
                for place in 0..2 {
                    bed.start(place);
                }
            }
        }
        bed.wait_owner(0);
        bed
    }

    /// Waits until this node has the address and answers for it.
    #[track_caller]
    pub fn wait_owner(&mut self, node: usize) {
        let mark = Mark::now();
        let (probe, sampler) = (self.probe.as_ref().expect("the client has left"), &self.sampler);
        let served =
            |_: &Lab| sampler.owner() == Some(node) && probe.answering() == Some(node) && probe.answered_since(mark).contains(&node);
        self.lab.wait(&format!("the address on node{}", node + 1), LONG, served).unwrap();
    }

    /// Waits until all nodes know that all is well.
    pub fn wait_healthy(&mut self) {
        let healthy =
            |lab: &Lab| lab.node(1).client(&["--command=cm_stat"]).is_ok_and(|said| said.stdout.contains("Cluster status: HEALTHY"));
        self.lab.wait("a healthy cluster", LONG, healthy).unwrap();
    }

    /// Does something that moves the address to another node, and gives how long the client waited.
    #[track_caller]
    pub fn outage(&mut self, to: usize, act: impl FnOnce(&mut Self)) -> Duration {
        let mark = Mark::now();
        act(self);
        self.wait_owner(to);
        // The last of the old owner's answers may still be on their way.
        thread::sleep(Duration::from_millis(100));
        self.waited(mark)
    }

    /// How long the client waited since then, at the longest.
    pub fn waited(&self, mark: Mark) -> Duration {
        self.probe.as_ref().expect("the client has left").longest_outage(mark)
    }

    /// Nobody asks for the address any more: that would be packets, too.
    pub fn leave(&mut self) {
        self.probe = None;
    }

    pub fn cut(&mut self, node: usize) {
        self.lab.switch().cut(Port::Node(node)).unwrap();
    }

    pub fn join(&mut self, node: usize) {
        self.lab.switch().join(Port::Node(node)).unwrap();
    }

    /// Tells the node's daemon to stop, as systemd does, and does not wait.
    pub fn stop(&mut self, node: usize) {
        match &mut self.keepalived {
            Some(all) => all[node].signal(Signal::SIGTERM),
            None => self.lab.node_mut(node).signal(Signal::SIGTERM).unwrap(),
        }
    }

    /// Starts the node's daemon again; one that was told to stop has stopped.
    pub fn start(&mut self, node: usize) {
        match &mut self.keepalived {
            Some(all) => all[node].start(self.lab.node(node)),
            None => {
                self.lab.node_mut(node).wait_end(LONG).unwrap();
                self.lab.node_mut(node).start().unwrap();
            }
        }
    }

    /// The processes of the daemon on a node.
    pub fn processes(&self, node: usize) -> Vec<i32> {
        match &self.keepalived {
            Some(all) => all[node].processes(),
            None => self.lab.node(node).pid().map(Pid::as_raw).into_iter().collect(),
        }
    }
}

/// One keepalived. It ends with the value.
struct Keepalived {
    home: PathBuf,
    running: Option<Child>,
}

impl Keepalived {
    fn new(node: &LabNode, place: usize, interval: Duration) -> Self {
        let home = node.home().join("keepalived");
        fs::create_dir_all(&home).unwrap();
        let text = format!(
            "global_defs {{\n  router_id node{number}\n  vrrp_version 3\n}}\n\
             vrrp_instance site {{\n  state {state}\n  interface eth0\n  virtual_router_id 51\n  priority {priority}\n  advert_int {interval}\n\
             \x20 virtual_ipaddress {{\n    {address}/24 dev eth0\n  }}\n}}\n",
            number = place + 1,
            state = if place == 0 { "MASTER" } else { "BACKUP" },
            priority = 150 - 50 * place,
            interval = interval.as_secs_f64(),
            address = Plan::served(),
        );
        fs::write(home.join("keepalived.conf"), text).unwrap();
        Self { home, running: None }
    }

    fn start(&mut self, node: &LabNode) {
        self.wait_end();
        let home = self.home.clone();
        let child = node.namespace().run(move || {
            let log = fs::File::create(home.join("log")).unwrap();
            let file = |name: &str| home.join(name).display().to_string();
            Command::new("setpriv")
                .args([
                    "--pdeathsig",
                    "KILL",
                    "--",
                    "keepalived",
                    "--vrrp",
                    "--dont-fork",
                    "--log-console",
                    "--use-file",
                    &file("keepalived.conf"),
                ])
                .args(["--pid", &file("pid"), "--vrrp_pid", &file("vrrp.pid")])
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap()
        });
        self.running = Some(child.unwrap());
    }

    /// The parent, and the child that does the work.
    fn processes(&self) -> Vec<i32> {
        let parent = self.running.as_ref().map(|child| i32::try_from(child.id()).unwrap());
        parent.into_iter().chain(number_in(&self.home.join("vrrp.pid"))).collect()
    }

    fn signal(&self, signal: Signal) {
        if let Some(parent) = self.processes().first() {
            kill(Pid::from_raw(*parent), signal).unwrap();
        }
    }

    fn wait_end(&mut self) {
        let start = Instant::now();
        while let Some(child) = &mut self.running {
            if child.try_wait().unwrap().is_some() {
                self.running = None;
            } else if start.elapsed() > LONG {
                panic!("keepalived does not end");
            } else {
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        // It takes its address away, and its child with it.
        self.signal(Signal::SIGTERM);
        self.wait_end();
    }
}

fn number_in(path: &Path) -> Option<i32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
