//! One node: its namespaces, its own run, log and spool directories, and its daemon.

use std::{
    fs::{self, File, OpenOptions},
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sys::signal::{Signal, kill},
    unistd::{Pid, sethostname},
};

use super::{LabError, Namespace, NodePlan, directory::Directory, program};

/// Longest a client command may take before it counts as hung.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// A node of a laboratory.
pub struct LabNode {
    name: String,
    daemon: Option<Child>,
    /// Told to end: its end is no surprise.
    told: bool,
    // After the daemon, which it outlives.
    namespace: Namespace,
    binary: PathBuf,
    config: PathBuf,
    home: PathBuf,
}

/// What a command said, and how long it took.
#[derive(Clone, Debug)]
pub struct Said {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl LabNode {
    /// Gives the namespaces private directories and the node's host name. Starts nothing.
    pub(super) fn create(plan: &NodePlan, namespace: Namespace, directory: &Directory, binary: &Path) -> Result<Self, LabError> {
        let path = directory.path().to_owned();
        let home = path.join("nodes").join(&plan.name);
        let (host, private) = (format!("{}.lab", plan.name), home.clone());
        namespace
            .run(move || furnish(&host, &path, &private))?
            .map_err(|errno| LabError::system(format!("mounting the directories of {}", plan.name), errno))?;
        let config = directory.path().join("cm.cfg");
        Ok(Self { name: plan.name.clone(), daemon: None, told: false, namespace, binary: binary.to_owned(), config, home })
    }

    /// `nodename`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespaces.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its own files, as seen from outside: `log`, `spool`, `cron`.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The configuration file it reads.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Makes it read another file from its next start on.
    pub fn set_config(&mut self, config: &Path) {
        config.clone_into(&mut self.config);
    }

    /// The process of its daemon, while one was started and not waited for.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.daemon.as_ref().and_then(|daemon| i32::try_from(daemon.id()).ok()).map(Pid::from_raw)
    }

    /// Starts its daemon. Does nothing when it runs.
    ///
    /// # Errors
    /// [`LabError`], when it cannot be started.
    pub fn start(&mut self) -> Result<(), LabError> {
        if self.daemon.is_some() {
            return Ok(());
        }
        // The kernel ends the daemon with this process, however that ends.
        let mut command = Command::new(program("setpriv", "util-linux")?);
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.binary);
        command.arg(format!("--config-file={}", self.config.display()));
        let stderr = self.stderr_file()?;
        let stdout = stderr.try_clone().map_err(|error| LabError::system("duplicating a file", error))?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0).current_dir("/");
        let child = self
            .namespace
            .run(move || command.spawn())?
            .map_err(|error| LabError::system(format!("starting the daemon of {}", self.name), error))?;
        (self.daemon, self.told) = (Some(child), false);
        Ok(())
    }

    /// Sends a signal to its daemon.
    ///
    /// # Errors
    /// [`LabError::System`], when no daemon runs.
    pub fn signal(&mut self, signal: Signal) -> Result<(), LabError> {
        self.told |= matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGKILL);
        let failed = |errno: Errno| LabError::system(format!("sending {signal} to the daemon of {}", self.name), errno);
        kill(self.pid().ok_or_else(|| failed(Errno::ESRCH))?, signal).map_err(failed)
    }

    /// Sends SIGTERM and waits for the end of the daemon.
    ///
    /// # Errors
    /// [`LabError::TooLate`] after `limit`.
    pub fn stop(&mut self, limit: Duration) -> Result<(), LabError> {
        self.signal(Signal::SIGTERM)?;
        self.wait_end(limit)
    }

    /// Waits for the end of the daemon.
    ///
    /// # Errors
    /// [`LabError::TooLate`] after `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> Result<(), LabError> {
        let start = Instant::now();
        while let Some(daemon) = &mut self.daemon {
            match daemon.try_wait() {
                Ok(Some(_)) => self.daemon = None,
                Ok(None) if start.elapsed() > limit => {
                    return Err(LabError::TooLate { what: format!("the end of the daemon of {}", self.name), limit });
                }
                Ok(None) => thread::sleep(Duration::from_millis(2)),
                Err(error) => return Err(LabError::system("waiting for a daemon", error)),
            }
        }
        Ok(())
    }

    /// SIGKILL, and waits for it.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // Both fail only when it has ended and been waited for.
            daemon.kill().ok();
            daemon.wait().ok();
        }
    }

    /// Fails when the daemon was started and has ended without being told to.
    ///
    /// # Errors
    /// [`LabError::Ended`].
    pub fn check(&mut self) -> Result<(), LabError> {
        match self.daemon.as_mut().map(Child::try_wait) {
            Some(Ok(Some(_))) if self.told => {
                self.daemon = None;
                Ok(())
            }
            Some(Ok(Some(status))) => {
                self.daemon = None;
                Err(LabError::Ended { node: self.name.clone(), status, said: self.last_words() })
            }
            Some(Ok(None) | Err(_)) | None => Ok(()),
        }
    }

    /// Runs `drcm_server --client` with these arguments on this node.
    ///
    /// # Errors
    /// [`LabError`], when it cannot be run or hangs.
    pub fn client(&self, arguments: &[&str]) -> Result<Said, LabError> {
        let mut command = Command::new(&self.binary);
        command.arg(format!("--config-file={}", self.config.display())).arg("--client").args(arguments);
        self.command(command)
    }

    /// Runs a command on this node, to its end.
    ///
    /// # Errors
    /// [`LabError`], when it cannot be run or takes more than 20 seconds.
    pub fn command(&self, mut command: Command) -> Result<Said, LabError> {
        let shown = format!("{command:?}");
        let start = Instant::now();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            self.namespace.run(move || command.spawn())?.map_err(|error| LabError::system(format!("running {shown}"), error))?;
        let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
        let status = loop {
            match child.try_wait().map_err(|error| LabError::system(format!("waiting for {shown}"), error))? {
                Some(status) => break status,
                None if start.elapsed() > COMMAND_LIMIT => {
                    // It may have ended just now.
                    child.kill().ok();
                    child.wait().ok();
                    return Err(LabError::TooLate { what: format!("the end of {shown} on {}", self.name), limit: COMMAND_LIMIT });
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        let took = start.elapsed();
        Ok(Said { code: status.code(), stdout: stdout.join().unwrap_or_default(), stderr: stderr.join().unwrap_or_default(), took })
    }

    /// All that its daemons wrote to standard output and error.
    #[must_use]
    pub fn words(&self) -> String {
        fs::read(self.home.join("stderr")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of that.
    #[must_use]
    pub fn last_words(&self) -> String {
        let words = self.words();
        let lines: Vec<&str> = words.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    fn stderr_file(&self) -> Result<File, LabError> {
        let path = self.home.join("stderr");
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| LabError::system(format!("opening {}", path.display()), error))
    }
}

/// Gives the node's namespaces their host name, and directories of their own under the names that all nodes share.
fn furnish(host: &str, shared: &Path, private: &Path) -> Result<(), Errno> {
    let none: Option<&str> = None;
    sethostname(host)?;
    mount(Some("tmpfs"), &shared.join("run"), Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755,size=16m"))?;
    for name in ["log", "spool", "cron", "tmp"] {
        mount(Some(&private.join(name)), &shared.join(name), none, MsFlags::MS_BIND, none)?;
    }
    Ok(())
}

/// Reads a pipe to its end on a thread of its own, so that neither pipe can fill up unread.
fn reader(pipe: Option<impl std::io::Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // What was read before an error is still worth showing.
            pipe.take(1 << 24).read_to_end(&mut bytes).ok();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
