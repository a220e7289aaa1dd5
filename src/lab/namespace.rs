//! One set of network, mount and UTS namespaces, kept by a thread that lives in it and does there what it is told.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::{Command, Stdio, id},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::{Pid, gettid, sethostname},
};

use super::{LabError, program};

type Job = Box<dyn FnOnce() + Send>;

/// Namespaces that live as long as this value, or a process in them.
pub struct Namespace {
    name: String,
    /// As in /proc, for `ip link set ... netns`.
    path: PathBuf,
    inode: u64,
    jobs: Option<SyncSender<Job>>,
    keeper: Option<JoinHandle<()>>,
}

impl Namespace {
    /// New namespaces with the loopback up; `name` becomes the host name in them.
    ///
    /// # Errors
    /// [`LabError::NotPermitted`] without the privilege.
    pub fn create(name: &str) -> Result<Self, LabError> {
        let (jobs, inbox) = sync_channel::<Job>(4);
        let (report, entered) = sync_channel(1);
        let host = name.to_owned();
        let keeper = thread::Builder::new()
            .name(format!("keep {name}"))
            .spawn(move || keep(&host, &report, &inbox))
            .map_err(|error| LabError::system("starting a thread", error))?;
        let gone = || LabError::Gone { name: name.to_owned() };
        let path = entered.recv().map_err(|_| gone())?.map_err(|errno| match errno {
            Errno::EPERM => LabError::NotPermitted { detail: format!("unshare: {errno}") },
            other => LabError::system(format!("making the namespaces of {name}"), other),
        })?;
        let inode = fs::metadata(&path).map_err(|error| LabError::system(format!("reading {}", path.display()), error))?.ino();
        let namespace = Self { name: name.to_owned(), path, inode, jobs: Some(jobs), keeper: Some(keeper) };
        namespace.ip("link set lo up\n")?;
        Ok(namespace)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where /proc shows the network namespace.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Does `work` on the thread in the namespaces and gives its result. Sockets made and processes started there belong
    /// there.
    ///
    /// # Errors
    /// [`LabError::Gone`], when `work` panicked now or before.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, LabError> {
        let gone = || LabError::Gone { name: self.name.clone() };
        let (answer, answered) = sync_channel(1);
        let job: Job = Box::new(move || {
            // Nobody waits for the answer any more only when the asker panicked.
            answer.send(work()).ok();
        });
        self.jobs.as_ref().ok_or_else(gone)?.send(job).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())
    }

    /// Runs `ip -batch` with these lines.
    ///
    /// # Errors
    /// [`LabError::Command`] with what `ip` said.
    pub fn ip(&self, lines: &str) -> Result<(), LabError> {
        let mut command = Command::new(program("ip", "iproute2 (Fedora: iproute)")?);
        command.args(["-batch", "-"]);
        self.feed(command, lines)
    }

    /// Runs a command with this standard input, to its end.
    ///
    /// # Errors
    /// [`LabError::Command`] with its standard error, when it fails.
    pub fn feed(&self, mut command: Command, input: &str) -> Result<(), LabError> {
        let shown = format!("{command:?}");
        let input = input.to_owned();
        let output = self
            .run(move || {
                let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
                if let Some(mut stdin) = child.stdin.take() {
                    stdin.write_all(input.as_bytes())?;
                }
                child.wait_with_output()
            })?
            .map_err(|error| LabError::system(format!("running {shown}"), error))?;
        if output.status.success() {
            Ok(())
        } else {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(LabError::Command { command: shown, status: output.status, said })
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(keeper) = self.keeper.take() {
            // A keeper that panicked has said so on standard error.
            keeper.join().ok();
        }
    }
}

/// Ends every process left in these namespaces: what a killed daemon had started and could not stop.
pub(super) fn end_strays<'a>(namespaces: impl Iterator<Item = &'a Namespace>) {
    let inodes: Vec<u64> = namespaces.map(|namespace| namespace.inode).collect();
    // A process may fork while we look: look again until nothing is left.
    for _ in 0..50 {
        let strays = processes_in(&inodes);
        if strays.is_empty() {
            return;
        }
        for stray in strays {
            // It may have ended meanwhile.
            kill(stray, Signal::SIGKILL).ok();
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn processes_in(inodes: &[u64]) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| u32::try_from(*pid) != Ok(id()))
        .filter(|pid| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|network| inodes.contains(&network.ino())))
        .map(Pid::from_raw)
        .collect()
}

/// The life of the keeper: enter, report, work until the last order.
fn keep(host: &str, report: &SyncSender<Result<PathBuf, Errno>>, inbox: &Receiver<Job>) {
    let entered = enter(host).map(|()| PathBuf::from(format!("/proc/{}/task/{}/ns/net", id(), gettid())));
    let inside = entered.is_ok();
    if report.send(entered).is_err() || !inside {
        return;
    }
    for job in inbox {
        job();
    }
}

fn enter(host: &str) -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
    sethostname(host)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    // What /sys shows of the network belongs to whoever mounted it. Where that is refused (a user namespace in a container)
    // the old one stays: the daemons ask the kernel by netlink.
    if umount2("/sys", MntFlags::MNT_DETACH).is_ok() {
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).ok();
    }
    Ok(())
}
