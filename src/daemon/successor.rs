//! An upgrade that interrupts nothing: another program takes the place of this one, in the same process, and goes on with its
//! leases as a daemon does that was killed and started again.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use tokio::time::timeout;

use crate::sys::child::DEFAULT_PATH;

/// Longest that the new program may take to look at the configuration.
const LOOK: Duration = Duration::from_secs(20);
/// Lines of what it says that are told.
const TOLD: usize = 3;

/// The program that this process was started from, as it is on disk by then.
#[derive(Debug)]
pub struct Successor {
    program: PathBuf,
    name: OsString,
    arguments: Vec<OsString>,
    configuration: PathBuf,
}

impl Successor {
    /// To be asked at start: later the file may be another one, and the kernel would call ours deleted.
    ///
    /// # Errors
    /// When the kernel does not say what runs here.
    pub fn of_this_process(configuration: PathBuf) -> io::Result<Self> {
        let mut arguments = env::args_os();
        let program = env::current_exe()?;
        let name = arguments.next().unwrap_or_else(|| program.clone().into_os_string());
        Ok(Self { program, name, arguments: arguments.collect(), configuration })
    }

    /// Whether it runs on this machine and can make sense of the configuration as it is now: there is no way back.
    ///
    /// # Errors
    /// Why not, for the log.
    pub async fn is_fit(&self) -> Result<(), String> {
        if !self.configuration.exists() {
            return Err(format!("there is no {}", self.configuration.display()));
        }
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.arguments).arg("--check-config").env_clear().env("PATH", DEFAULT_PATH);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let said = timeout(LOOK, command.output()).await.map_err(|_| format!("it did not answer within {} s", LOOK.as_secs()))?;
        let Output { status, stdout, stderr } = said.map_err(|error| format!("it cannot be run: {error}"))?;
        match status.code() {
            // 2 is for warnings.
            Some(0 | 2) => Ok(()),
            _ => {
                let text = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
                let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(TOLD).collect();
                Err(format!("{status}: {}", lines.join(" / ")))
            }
        }
    }

    /// Becomes it. What is open is closed by that, other threads end, and what this process started runs on.
    ///
    /// Returns only when it cannot be done, with the reason.
    #[must_use]
    pub fn take_over(&self) -> io::Error {
        Command::new(&self.program).arg0(&self.name).args(&self.arguments).exec()
    }
}
