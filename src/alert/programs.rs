//! `alert_command` and the programs in `hooks_dir`: each event in their environment and on their standard input. Each runs in a process
//! group of its own, inherits nothing, and is ended when its time is over.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{task::spawn_blocking, time::timeout};
use tracing::info;

use super::{Settings, Troubles, outbox::Outbox, words};
use crate::{
    config::{is_hook_name, program_fault},
    model::Incident,
    sys::child::{End, Finished, OutputLog, Program, root_environment},
};

/// Programs of `hooks_dir` that are run; further ones are not.
const MOST: usize = 16;
/// Entries of it that are looked at.
const LOOKED_AT: usize = 1000;
/// Longest wait for the directory to be read before it is said.
const READING: Duration = Duration::from_secs(5);

/// Gives every event to every program in the directory, those of one event side by side, one event after another.
pub(super) async fn hooks(settings: Arc<Settings>, outbox: Outbox<Arc<Incident>>, troubles: Troubles) {
    let runner = Runner::new(&settings);
    loop {
        let taken = outbox.take().await;
        troubles.dropped("hooks_dir", taken.dropped);
        let (programs, faults) = list(settings.alerts.hooks_dir.clone(), &troubles).await;
        for fault in faults {
            troubles.say(fault);
        }
        let done = join_all(programs.iter().map(|program| runner.run(program, &taken.item))).await;
        for fault in done.into_iter().filter_map(Result::err) {
            troubles.say(fault);
        }
    }
}

/// Gives events to the one program, one after another.
pub(super) async fn command(settings: Arc<Settings>, program: PathBuf, outbox: Outbox<Arc<Incident>>, troubles: Troubles) {
    let runner = Runner::new(&settings);
    loop {
        let taken = outbox.take().await;
        troubles.dropped("alert_command", taken.dropped);
        let looked_at = program.clone();
        // A disk that hangs holds up this one receiver.
        let done = match spawn_blocking(move || program_fault(&looked_at)).await {
            Ok(None) => runner.run(&program, &taken.item).await,
            Ok(Some(fault)) => Err(format!("{} is not run (alert_command): it {fault}", program.display())),
            Err(error) => Err(format!("{} cannot be looked at (alert_command): {error}", program.display())),
        };
        if let Err(fault) = done {
            troubles.say(fault);
        }
    }
}

struct Runner {
    output: OutputLog,
    limit: Duration,
    umask: u32,
    directories: Vec<(std::ffi::OsString, std::ffi::OsString)>,
}

impl Runner {
    fn new(settings: &Settings) -> Self {
        let directories = [
            ("DRCM_LOG_DIR", settings.log_dir.as_os_str()),
            ("DRCM_RUN_DIR", settings.run_dir.as_os_str()),
            ("DRCM_SPOOL_DIR", settings.spool_dir.as_os_str()),
        ];
        Self {
            output: OutputLog::new(settings.log_dir.join("alerts.log"), settings.max_log_size),
            limit: settings.alerts.timeout,
            umask: settings.umask,
            directories: directories.map(|(name, value)| (name.into(), value.into())).into(),
        }
    }

    async fn run(&self, path: &Path, event: &Incident) -> Result<(), String> {
        let title = format!("{} {} {}", path.display(), event.kind.word(), event.number);
        let mut environment = root_environment();
        environment.extend(self.directories.iter().cloned());
        environment.extend(words::environment(event));
        let program = Program {
            program: path.to_owned(),
            arguments: Vec::new(),
            environment,
            identity: None,
            umask: self.umask,
            output: self.output.clone(),
            title,
        };
        let finished = program.run_with_input(&words::json(event), self.limit).await;
        let finished = finished.map_err(|error| format!("{} was not told of an event: {error}", path.display()))?;
        judge(path, &finished).map_or(Ok(()), Err)
    }
}

/// What is wrong with how it ended.
fn judge(path: &Path, finished: &Finished) -> Option<String> {
    let how = match finished.end {
        End::Exited(0) => return None,
        End::Exited(code) => format!("ended with exit status {code}"),
        End::Signalled(signal) => format!("was killed by signal {signal}"),
        End::TimedOut { limit, stuck: false } => format!("was not done after {} s (alert_timeout) and was ended", limit.as_secs_f64()),
        End::TimedOut { limit, stuck: true } => format!("was not done after {} s (alert_timeout) and cannot be ended", limit.as_secs_f64()),
    };
    let said = finished.last_line.as_ref().map(|line| format!("; {line}")).unwrap_or_default();
    Some(format!("{} {how}{said}", path.display()))
}

/// The programs to run, and what keeps others from being run. A directory that hangs holds up this one receiver.
async fn list(directory: PathBuf, troubles: &Troubles) -> (Vec<PathBuf>, Vec<String>) {
    let shown = directory.display().to_string();
    let mut listing = spawn_blocking(move || runnable(&directory));
    let listed = match timeout(READING, &mut listing).await {
        Ok(listed) => listed,
        Err(_) => {
            troubles.say(format!("{shown} (hooks_dir) cannot be read: its disk hangs; events wait for it"));
            listing.await
        }
    };
    listed.unwrap_or_else(|error| (Vec::new(), vec![format!("{shown} (hooks_dir) cannot be read: {error}")]))
}

/// By the rules of run-parts: letters, digits, `-` and `_` only, executable files, in the order of their names. Blocks.
fn runnable(directory: &Path) -> (Vec<PathBuf>, Vec<String>) {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), Vec::new()),
        Err(error) => return (Vec::new(), vec![format!("{} (hooks_dir) cannot be read: {error}", directory.display())]),
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .take(LOOKED_AT)
        .filter(|entry| entry.file_name().to_str().is_some_and(is_hook_name))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    let (mut programs, mut faults) = (Vec::new(), Vec::new());
    for path in paths {
        match program_fault(&path) {
            None if programs.len() < MOST => programs.push(path),
            None => {
                faults.push(format!("{} is not run: there are more than {MOST} programs in hooks_dir", path.display()));
                break;
            }
            Some(fault) => faults.push(format!("{} is not run: it {fault}", path.display())),
        }
    }
    if programs.is_empty() && faults.is_empty() {
        info!("nothing to run in {} (hooks_dir)", directory.display());
    }
    (programs, faults)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Instant};

    use super::*;
    use crate::alert::{Alerts, fixture};

    fn place(name: &str) -> PathBuf {
        let place = std::env::temp_dir().join(format!("drcm-alert-{name}-{}", std::process::id()));
        fs::create_dir_all(place.join("hooks")).unwrap();
        fs::set_permissions(place.join("hooks"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    fn program(path: &Path, text: &str, mode: u32) {
        fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    async fn wait(what: &str, condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[test]
    fn hooks_are_named_as_for_run_parts_and_unsafe_ones_are_refused() {
        let place = place("names");
        let hooks = place.join("hooks");
        for (name, mode) in [("20-b", 0o755), ("10_a", 0o700), ("x.sh", 0o755), ("y~", 0o755), ("writable", 0o775), ("plain", 0o644)] {
            program(&hooks.join(name), "exit 0", mode);
        }
        let (programs, faults) = runnable(&hooks);
        assert_eq!(programs, [hooks.join("10_a"), hooks.join("20-b")]);
        assert!(faults.len() == 2 && faults[0].contains("plain is not run: it is not executable"), "{faults:?}");
        assert!(faults[1].contains("writable is not run") && faults[1].contains("chmod go-w"), "{faults:?}");
        fs::set_permissions(&hooks, fs::Permissions::from_mode(0o777)).unwrap();
        let (programs, faults) = runnable(&hooks);
        assert!(programs.is_empty() && faults.len() == 4, "{faults:?}");
        assert_eq!(runnable(&place.join("none")), (Vec::new(), Vec::new()));
        fs::remove_dir_all(place).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn programs_are_told_all_and_one_that_hangs_is_ended_with_its_children() {
        let place = place("told");
        let (hooks, here) = (place.join("hooks"), place.display());
        program(&hooks.join("all"), &format!("cat > {here}/json; env > {here}/env"), 0o755);
        program(&hooks.join("hangs"), &format!("sleep 600 & echo $! > {here}/pid; echo $$ >> {here}/pid; wait"), 0o755);
        program(&place.join("alert"), &format!("echo $DRCM_EVENT >> {here}/alerted"), 0o755);
        let mut settings = fixture::settings(&place);
        settings.alerts.hooks_dir = hooks;
        settings.alerts.command = Some(place.join("alert"));
        settings.alerts.timeout = Duration::from_millis(1500);
        let (alerts, mut troubles) = Alerts::start(settings);
        let event = Arc::new(fixture::failover());
        alerts.tell(&event);
        // Nobody is alerted of the normal course of things, nor by a node that is not the one to tell.
        alerts.tell(&Arc::new(Incident { severity: crate::model::Severity::Info, ..fixture::failover() }));
        alerts.tell(&Arc::new(Incident { tells: false, ..fixture::failover() }));
        wait("the command", || place.join("alerted").exists()).await;
        let json = || fs::read_to_string(place.join("json")).unwrap_or_default();
        wait("the hook", || json().ends_with('\n') && place.join("env").exists()).await;
        let told: Incident = serde_json::from_str(&json()).unwrap();
        assert_eq!(told, *event);
        wait("its environment", || fs::read_to_string(place.join("env")).is_ok_and(|text| text.contains("DRCM_TELLS="))).await;
        let environment = fs::read_to_string(place.join("env")).unwrap();
        assert!(environment.contains("DRCM_DETECTED_MS=1500\n") && !environment.contains("CARGO"), "{environment}");
        let trouble = tokio::time::timeout(Duration::from_secs(20), troubles.recv()).await.unwrap().unwrap();
        assert!(trouble.contains("hangs was not done after 1.5 s (alert_timeout) and was ended"), "{trouble}");
        let pids = fs::read_to_string(place.join("pid")).unwrap();
        for pid in pids.lines() {
            let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            wait("the end of what hangs", || state().is_empty() || state().contains(") Z ")).await;
        }
        assert_eq!(fs::read_to_string(place.join("alerted")).unwrap(), "failover\n");
        drop(alerts);
        fs::remove_dir_all(place).unwrap();
    }
}
