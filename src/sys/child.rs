//! Children that inherit nothing: own session, no descriptors but the standard three, default signals, an environment
//! given word by word, and the identity of the user they run as. Their output goes straight to an append-only log, so that
//! what they leave running in the background can write on after both they and we are gone.

mod gate;
mod output;

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    sys::{
        resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
        signal::{Signal, killpg},
    },
    unistd::{Pid, pipe2},
};
use tokio::{
    process::{Child, Command},
    sync::oneshot,
    time,
};

use std::os::unix::process::ExitStatusExt;

use self::gate::Door;
use super::SysError;
pub use output::{LastLine, OutputLog};

/// How long a program may take to be executed at all: it is read from a disk.
const SPAWN_LIMIT: Duration = Duration::from_secs(10);
/// Between TERM and KILL, at most.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// How long a killed child is waited for before it counts as stuck in the kernel and is left behind.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// PATH of children that are not given another one.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whom a child runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The file, as an absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// As whom; `None` for whoever we are.
    pub identity: Option<Identity>,
    /// File mode creation mask.
    pub umask: u32,
    /// Where its output goes.
    pub output: OutputLog,
    /// What the log calls it: `service:web start`.
    pub title: String,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit status.
    Exited(i32),
    /// By this signal, from elsewhere.
    Signalled(i32),
    /// It had to be ended because its time was over.
    TimedOut {
        /// Its time.
        limit: Duration,
        /// It did not even die of KILL within two seconds: it is stuck in the kernel, and was left behind.
        stuck: bool,
    },
}

/// A child that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// How.
    pub end: End,
    /// The last line that it wrote, if any.
    pub last_line: Option<Box<LastLine>>,
}

impl Finished {
    /// Exit status 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.end == End::Exited(0)
    }
}

/// A child that runs. Dropping it kills it and its process group: whoever stops waiting for a program has changed its mind,
/// and what the program would still do must not get in the way of what is done next.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: Pid,
    output: output::Section,
    bond: Bond,
}

/// What becomes of a child that is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bond {
    /// It is killed.
    Tied,
    /// It runs on, or has ended already.
    Loose,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.bond == Bond::Tied {
            self.kill(Signal::SIGKILL);
        }
    }
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no such file, it may not be executed, the identity may not be taken, or executing it hangs.
    pub async fn spawn(self) -> Result<Running, SysError> {
        self.spawn_through(None, Stdio::null()).await
    }

    /// Starts it, but lets it execute its program only when `admit`, which is given its process id, is done.
    ///
    /// # Errors
    /// As [`Program::spawn`].
    pub async fn spawn_admitted(self, admit: impl AsyncFnOnce(i32)) -> Result<Running, SysError> {
        let failed = |source| SysError::Run { program: self.program.clone(), source };
        let (gate, door) = gate::pair().map_err(failed)?;
        let admission = async {
            if let Ok((child, opener)) = gate.child().await {
                if let Some(pid) = child {
                    admit(pid).await;
                }
                opener.open();
            }
        };
        let (running, ()) = tokio::join!(self.spawn_through(Some(door), Stdio::null()), admission);
        running
    }

    async fn spawn_through(self, door: Option<Door>, input: Stdio) -> Result<Running, SysError> {
        let program = self.program.clone();
        let (sender, receiver) = oneshot::channel();
        // Forking waits until the child has executed its program. A disk that hangs must hold up a spare thread, not us.
        tokio::task::spawn_blocking(move || {
            // When whoever asked has given up, the child comes back in an error and is dropped here, which kills it.
            drop(sender.send(self.spawn_here(door, input)));
        });
        match time::timeout(SPAWN_LIMIT, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(SysError::Run { program, source: io::Error::other("the runtime is shutting down") }),
            Err(_) => Err(SysError::Hangs { call: "executing a program", seconds: SPAWN_LIMIT.as_secs() }),
        }
    }

    fn spawn_here(self, door: Option<Door>, input: Stdio) -> Result<Running, SysError> {
        let (output, out, error) = self.output.begin(&self.title)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").stdin(input).stdout(out).stderr(error).kill_on_drop(false);
        let (umask, identity) = (self.umask, self.identity);
        // SAFETY: between fork and exec the closure makes system calls only: it allocates nothing, takes no lock, and what it
        // captured was allocated before the fork.
        unsafe {
            command.pre_exec(move || {
                if let Some(door) = &door {
                    door.wait()?;
                }
                shed_inheritance(umask, identity.as_ref())
            });
        }
        let child = command.spawn().map_err(|source| SysError::Run { program: self.program, source })?;
        // A child that has not been waited for has a pid.
        let pid = Pid::from_raw(child.id().and_then(|pid| i32::try_from(pid).ok()).expect("a child not yet waited for has a pid"));
        Ok(Running { child, pid, output, bond: Bond::Tied })
    }

    /// Starts it and waits for it, at most for `limit`; then its whole process group gets TERM, and after a grace KILL.
    ///
    /// # Errors
    /// As [`Program::spawn`].
    pub async fn run(self, limit: Duration) -> Result<Finished, SysError> {
        self.spawn().await?.finish(limit).await
    }

    /// [`Program::run`] with something to read on its standard input: what a pipe holds at most, 64 KiB.
    ///
    /// # Errors
    /// As there, and when it is more.
    pub async fn run_with_input(self, input: &[u8], limit: Duration) -> Result<Finished, SysError> {
        let filled = filled_pipe(input).map_err(|source| SysError::Run { program: self.program.clone(), source })?;
        self.spawn_through(None, filled).await?.finish(limit).await
    }
}

impl Running {
    /// Its process id, which is the id of its process group and session too.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Lets it run on when this is dropped; it is reaped all the same.
    pub fn let_go(&mut self) {
        self.bond = Bond::Loose;
    }

    /// Waits until it ends by itself. May be cancelled and called again.
    ///
    /// # Errors
    /// When it cannot be waited for, which is a bug somewhere.
    pub async fn wait(&mut self) -> Result<Finished, SysError> {
        let status =
            self.child.wait().await.map_err(|source| SysError::Run { program: PathBuf::from(format!("process {}", self.pid)), source })?;
        Ok(self.finished(end_of(status)))
    }

    /// Waits for it, at most for `limit`; then ends it and its process group.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub async fn finish(&mut self, limit: Duration) -> Result<Finished, SysError> {
        match time::timeout(limit, self.wait()).await {
            Ok(finished) => finished,
            Err(_) => self.end(limit).await,
        }
    }

    /// Ends it and its process group: TERM, a grace of at most `limit` and five seconds, KILL.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub async fn end(&mut self, limit: Duration) -> Result<Finished, SysError> {
        self.kill(Signal::SIGTERM);
        let exited = time::timeout(limit.min(TERM_GRACE), self.child.wait()).await.is_ok();
        // Also when the leader has gone: it may have left others behind in its group.
        self.kill(Signal::SIGKILL);
        let stuck = !exited && time::timeout(KILL_GRACE, self.child.wait()).await.is_err();
        Ok(self.finished(End::TimedOut { limit, stuck }))
    }

    fn finished(&mut self, end: End) -> Finished {
        self.bond = Bond::Loose;
        Finished { end, last_line: self.output.finish(end) }
    }

    /// The group may be gone already, and that is fine.
    fn kill(&self, signal: Signal) {
        let _ = killpg(self.pid, signal);
    }
}

/// A pipe that holds this and then ends: nobody has to stay and write it.
fn filled_pipe(content: &[u8]) -> io::Result<Stdio> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    File::from(write).write_all(content)?;
    Ok(Stdio::from(read))
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signalled(signal.unwrap_or(0)),
    }
}

/// Runs in the child, between fork and exec.
fn shed_inheritance(umask: u32, identity: Option<&Identity>) -> io::Result<()> {
    // SAFETY: every call below either takes plain numbers, or pointers to values on this stack and to a slice that was
    // allocated before the fork; all of them are async-signal-safe system calls.
    unsafe {
        check(libc::setsid())?;
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=64 {
            // KILL, STOP and those that libc keeps for itself cannot be set; they are never ignored either.
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()))?;
        libc::umask(umask);
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        // What a service manager raised for us is not for others: the limits of a fresh login.
        soften(Resource::RLIMIT_NOFILE, 1024, 524_288);
        soften(Resource::RLIMIT_MEMLOCK, 8 << 20, 8 << 20);
        soften(Resource::RLIMIT_RTPRIO, 0, 0);
        soften(Resource::RLIMIT_CORE, 0, RLIM_INFINITY);
        let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if score >= 0 {
            libc::write(score, c"0".as_ptr().cast(), 1);
            libc::close(score);
        }
        close_descriptors();
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if let Some(identity) = identity {
            check(libc::setgroups(identity.groups.len(), identity.groups.as_ptr()))?;
            check(libc::setgid(identity.gid))?;
            check(libc::setuid(identity.uid))?;
            shed_capabilities()?;
            if identity.uid != 0 && libc::setuid(0) == 0 {
                return Err(io::Error::from_raw_os_error(libc::EPERM));
            }
        } else {
            shed_capabilities()?;
        }
    }
    Ok(())
}

/// Whoever is not root has none: changing from one such user to another keeps them.
///
/// # Safety
/// Only between fork and exec.
unsafe fn shed_capabilities() -> io::Result<()> {
    /// Version 3 of capset(2): the header, and two words for each of the three sets.
    const VERSION: u32 = 0x2008_0522;
    let (header, none) = ([VERSION, 0], [0_u32; 6]);
    // SAFETY: both arrays have the form that this version wants, and outlive the call.
    let done = unsafe { libc::geteuid() == 0 || libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) == 0 };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lowers a limit; never raises one above what we have.
fn soften(resource: Resource, soft: u64, hard: u64) {
    if let Ok((_, had)) = getrlimit(resource) {
        let hard = had.min(hard);
        // Where it cannot be lowered it stays: nothing that the child may do depends on it.
        let _ = setrlimit(resource, soft.min(hard), hard);
    }
}

/// Has every descriptor above 2 closed by exec. Not closed now: exec reports its failure through one of them.
///
/// # Safety
/// Only between fork and exec.
unsafe fn close_descriptors() {
    // SAFETY: plain numbers; flags and limits of the child itself.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 {
            return;
        }
        // Before Linux 5.11. Everything of ours is opened with O_CLOEXEC anyway; this is for what a library forgot.
        for descriptor in 3..4096 {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The environment of a child that runs as root: nothing but what a program needs to find its tools.
#[must_use]
pub fn root_environment() -> Vec<(OsString, OsString)> {
    [("PATH", DEFAULT_PATH), ("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root"), ("SHELL", "/bin/sh")]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec()
}

/// Whether a file can be run as a program: it is a regular file with an executable bit.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    // Changes signals and limits of the whole process: one test, in a process of its own under nextest.
    use super::*;

    use std::{fs, os::fd::AsRawFd};

    use nix::{
        fcntl::FdFlag,
        sys::signal::{SigHandler, SigSet, signal},
    };

    fn program(file: &str, arguments: &[&str], output: &OutputLog) -> Program {
        Program {
            program: file.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: root_environment(),
            identity: None,
            umask: 0o027,
            output: output.clone(),
            title: "test".into(),
        }
    }

    fn run(program: Program) -> Finished {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(program.run(Duration::from_secs(10))).unwrap()
    }

    #[test]
    fn a_child_inherits_nothing() {
        let path = std::env::temp_dir().join(format!("drcm-child-{}.log", std::process::id()));
        let output = OutputLog::new(path.clone(), 1 << 20);
        // Everything that could be inherited is made worth inheriting.
        let leak = fs::File::open("/etc/passwd").unwrap();
        fcntl(&leak, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard).unwrap();
        // SAFETY: nothing in this test relies on what these signals do.
        unsafe {
            signal(Signal::SIGHUP, SigHandler::SigIgn).unwrap();
            signal(Signal::SIGPIPE, SigHandler::SigIgn).unwrap();
        }
        SigSet::from(Signal::SIGUSR1).thread_block().unwrap();
        std::fs::write("/proc/self/oom_score_adj", "300").unwrap();

        let text = "for n in {3..300}; do [ ! -e /proc/$$/fd/$n ] || echo leaked $n; done; grep NoNewPrivs /proc/$$/status; echo umask $(umask); echo session $(ps -o sid= -p $$) $$; ulimit -n; ulimit -Hn; cat /proc/$$/oom_score_adj; pwd; env";
        let finished = run(program("/bin/bash", &["-c", text], &output));
        let said = fs::read_to_string(&path).unwrap();
        assert!(finished.is_success(), "{said}");
        assert!(leak.as_raw_fd() > 2 && !said.contains("leaked"), "{said}");
        assert!(said.contains("NoNewPrivs:\t0"), "sudo must work: {said}");
        assert!(said.contains("umask 0027"), "{said}");
        assert!(said.contains(&format!("\n1024\n{}\n0\n/\n", hard.min(524_288))), "limits, score and directory: {said}");
        assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")), "there is an environment to inherit");
        assert!(!said.contains("CARGO"), "{said}");
        let session = said.lines().find_map(|line| line.strip_prefix("session ")).unwrap();
        let ids: Vec<&str> = session.split_whitespace().collect();
        assert_eq!(ids[0], ids[1], "the leader of its own session: {said}");

        // Shells have ideas of their own about signals.
        assert!(run(program("/bin/grep", &["Sig", "/proc/self/status"], &output)).is_success());
        let said = fs::read_to_string(&path).unwrap();
        let ignored = said.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        // 32 and 33 belong to the C library, which lets nobody touch them.
        assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & !(3 << 31), 0, "{said}");
        assert!(said.contains("SigBlk:\t0000000000000000"), "{said}");
        fs::remove_file(path).unwrap();
    }
}
