//! Applications of users: shell text run in the user's login environment, supervised while it stays in the foreground, and
//! stopped down to its last process.
//!
//! Every process of an application carries `DRCM_APPLICATION=node:home:nickname` in its environment, so that what went into
//! the background is found as well, also by a daemon that was started after it; and so is what shares a session with such a
//! process or descends from it. Where systemd is, each application runs in a scope of its own as well, which a process does not
//! leave by wiping its environment; elsewhere such a process is found by its relatives only.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsString},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    libc,
    unistd::{Gid, Group, Uid, User, geteuid, getgrouplist},
};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use super::{
    Condition, DriverError, Settings,
    script::{log_of, quote},
    service::{Services, scope_name},
};
use crate::{
    model::{Application, Assignment, Kind},
    sys::{
        SysError,
        child::{Finished, Identity, OutputLog, Program, Running},
        process::{self, Found},
    },
};

/// A start program that still runs after this is one that stays in the foreground.
const FOREGROUND: Duration = Duration::from_secs(2);
/// How long systemd may take to make a scope.
const ENCLOSE: Duration = Duration::from_secs(5);
/// How long the user database, which may be on a network, is waited for.
const LOOK_UP: Duration = Duration::from_secs(10);
/// Between TERM and KILL for what a stop program left behind, at most.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// How long killed processes are waited for.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// The mark in the environment.
const MARK: &str = "DRCM_APPLICATION";

/// The applications of a daemon. Cheap to clone.
#[derive(Clone)]
pub struct Applications {
    settings: Settings,
    log: OutputLog,
    services: Services,
    lives: Arc<Mutex<BTreeMap<Assignment, watch::Receiver<Life>>>>,
}

/// What became of a start program that this daemon ran.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Life {
    /// It runs, in the foreground.
    Runs(i32),
    /// It ended well; whatever it started is in the background.
    Done,
    /// It failed.
    Failed(Finished),
}

/// A user as a login makes one.
struct Login {
    user: User,
    identity: Option<Identity>,
}

impl Applications {
    /// With the log of this node.
    #[must_use]
    pub fn new(settings: Settings, services: Services) -> Self {
        let log = log_of(&settings, Kind::Application);
        Self { settings, log, services, lives: Arc::default() }
    }

    /// Runs the start program. It has started when the program exits with 0, or still runs after two seconds: it is then
    /// watched for as long as it lives. Succeeds at once when such a program, or anything that carries our mark, runs.
    ///
    /// # Errors
    /// User, group or program are missing, the user may not log in, or the program fails within `limit` and two seconds.
    pub async fn start(&self, application: &Application, assignment: &Assignment, limit: Duration) -> Result<(), DriverError> {
        let title = title(assignment, "start");
        // Something may be left of it while what matters has died; only its ensure script could tell.
        if self.runs(assignment).await?
            && (application.ensure.is_none() || self.probe(application, assignment, limit).await? == Condition::Up)
        {
            return Ok(());
        }
        let program = self.program(application, assignment, &application.start, &title).await?;
        let mut running = self.spawn(program, assignment, &title).await.map_err(|source| self.unstarted(&title, source))?;
        match timeout(FOREGROUND.min(limit), running.wait()).await {
            Ok(finished) => {
                let finished = finished.map_err(|source| self.unstarted(&title, source))?;
                let life = if finished.is_success() { Life::Done } else { Life::Failed(finished.clone()) };
                self.lives().insert(assignment.clone(), watch::channel(life).1);
                DriverError::judge(&title, finished, self.log.path().to_owned())
            }
            Err(_) => {
                self.supervise(assignment, running);
                Ok(())
            }
        }
    }

    /// Whether user, group and shell are there, and the program where it is named by its path.
    ///
    /// # Errors
    /// What is missing.
    pub async fn could_start(&self, application: &Application, assignment: &Assignment) -> Result<(), DriverError> {
        let title = title(assignment, "start");
        self.program(application, assignment, &application.start, &title).await?;
        // Anything but a plain path is for the shell of the user to understand.
        let word = application.start.split_whitespace().next().unwrap_or_default();
        let is_plain = word.starts_with('/') && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
        let program = PathBuf::from(word);
        let there = spawn_blocking(move || !is_plain || crate::sys::child::is_executable(&program));
        match timeout(LOOK_UP, there).await {
            Ok(Ok(true)) => Ok(()),
            Ok(_) => Err(DriverError::NoScript { title, path: PathBuf::from(word) }),
            Err(_) => Err(hangs("looking for the program")),
        }
    }

    /// Starts a program in the scope of its application, where there is systemd. That there is no scope is no reason not to run.
    async fn spawn(&self, program: Program, assignment: &Assignment, title: &str) -> Result<Running, SysError> {
        if !self.services.has_systemd() {
            return program.spawn().await;
        }
        let scope = scope_name(&self.mark(assignment));
        let enclose = async |pid| {
            if let Err(error) = self.services.enclose(&scope, pid, ENCLOSE).await {
                tracing::warn!("{title}: it runs without a scope: {error}");
            }
        };
        program.spawn_admitted(enclose).await
    }

    /// Runs the stop program for at most `limit`, then ends every process of the application that is left: TERM, KILL.
    ///
    /// # Errors
    /// Something survives KILL; or the stop program fails and it cannot be seen whether the application is down, because it
    /// was started but nothing that carries our mark was running.
    pub async fn stop(&self, application: &Application, assignment: &Assignment, limit: Duration) -> Result<(), DriverError> {
        let title = title(assignment, "stop");
        let ran = self.runs(assignment).await?;
        let knew = self.lives().get(assignment).is_some_and(|life| !matches!(*life.borrow(), Life::Failed(_)));
        // Also when nothing of ours seems to run: a start program may have handed over to something without our mark.
        let by_program = match self.program(application, assignment, &application.stop, &title).await {
            Ok(program) => match program.run(limit).await {
                Ok(finished) => DriverError::judge(&title, finished, self.log.path().to_owned()),
                Err(source) => Err(self.unstarted(&title, source)),
            },
            Err(error) => Err(error),
        };
        let left = self.end_all(assignment, &title).await;
        let result = match by_program {
            // A stop program that finds nothing to stop usually says so by failing.
            Err(error) if !ran && !knew => {
                tracing::debug!("{error}; nothing of it was running");
                left
            }
            // Its processes were seen, and are seen to be gone now: it is down, whatever its stop program thinks.
            Err(error) if ran && left.is_ok() => {
                tracing::warn!("{error}; its processes were ended");
                left
            }
            by_program => DriverError::gather([by_program, left]),
        };
        if result.is_ok() {
            self.lives().remove(assignment);
        }
        result
    }

    /// With an ensure script: what that says. Without: up while the start program runs in the foreground, while anything
    /// with our mark runs, or when the start program ended well in this life of the daemon, since then only the application
    /// itself could tell more.
    ///
    /// # Errors
    /// User, group or ensure script are missing, or /proc cannot be read.
    pub async fn probe(&self, application: &Application, assignment: &Assignment, limit: Duration) -> Result<Condition, DriverError> {
        let Some(ensure) = &application.ensure else { return self.look(assignment).await };
        let title = title(assignment, "ensure");
        let program = self.program(application, assignment, ensure, &title).await?;
        let finished = program.run(limit).await.map_err(|source| self.unstarted(&title, source))?;
        match DriverError::judge(&title, finished, self.log.path().to_owned()) {
            Ok(()) => Ok(Condition::Up),
            Err(DriverError::TimedOut { .. }) => Ok(Condition::Stalled),
            Err(error) => {
                tracing::warn!("{error}");
                Ok(Condition::Down)
            }
        }
    }

    async fn look(&self, assignment: &Assignment) -> Result<Condition, DriverError> {
        if self.runs(assignment).await? {
            return Ok(Condition::Up);
        }
        let life = self.lives().get(assignment).map(|life| life.borrow().clone());
        Ok(match life {
            Some(Life::Runs(_) | Life::Done) => Condition::Up,
            Some(Life::Failed(_)) | None => Condition::Down,
        })
    }

    /// Something of it runs, as far as can be seen.
    async fn runs(&self, assignment: &Assignment) -> Result<bool, DriverError> {
        let in_foreground = self.lives().get(assignment).is_some_and(|life| matches!(*life.borrow(), Life::Runs(_)));
        Ok(in_foreground || !self.processes(assignment).await?.is_empty())
    }

    /// Waits for a program in the foreground, in the background.
    fn supervise(&self, assignment: &Assignment, mut running: Running) {
        // It stays when the daemon goes, if it is to be kept; if not, it is stopped before.
        running.let_go();
        let (sender, receiver) = watch::channel(Life::Runs(running.pid()));
        self.lives().insert(assignment.clone(), receiver);
        let assignment = assignment.clone();
        tokio::spawn(async move {
            let life = match running.wait().await {
                Ok(finished) if finished.is_success() => Life::Done,
                Ok(finished) => {
                    tracing::warn!("{}: its start program ended: {:?}", assignment.resource, finished.end);
                    Life::Failed(finished)
                }
                Err(error) => {
                    tracing::warn!("{}: {error}", assignment.resource);
                    Life::Done
                }
            };
            // Nobody wants to know any more when it was stopped.
            let _ = sender.send(life);
        });
    }

    /// TERM and then KILL to every process of an application, until none is left.
    async fn end_all(&self, assignment: &Assignment, title: &str) -> Result<(), DriverError> {
        let mut ended = BTreeMap::new();
        for (signal, grace) in [(libc::SIGTERM, TERM_GRACE), (libc::SIGKILL, KILL_GRACE)] {
            let deadline = Instant::now() + grace;
            let mut told = BTreeMap::new();
            loop {
                let left = self.processes(assignment).await?;
                if left.is_empty() {
                    self.report(title, &ended);
                    return Ok(());
                }
                for found in &left {
                    // Once each; but whoever appears while we look is told as well.
                    if told.insert(found.pid, ()).is_none() {
                        ended.insert(found.pid, found.command.clone());
                        if let Err(errno) = found.signal(signal) {
                            tracing::warn!("{title}: cannot signal {} ({}): {}", found.command, found.pid, errno.desc());
                        }
                    }
                }
                if Instant::now() >= deadline {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        self.report(title, &ended);
        let left = self.processes(assignment).await?;
        let processes = left.iter().map(|found| format!("{} ({})", found.command, found.pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(DriverError::Survived { title: title.to_owned(), processes }) }
    }

    fn report(&self, title: &str, ended: &BTreeMap<i32, String>) {
        if !ended.is_empty() {
            let names: Vec<String> = ended.iter().map(|(pid, command)| format!("{command} ({pid})")).collect();
            let text = format!("{title}: ended what was left: {}", names.join(", "));
            tracing::info!("{text}");
            self.log.note(&text);
        }
    }

    /// Its processes. A look at /proc can hang on a process that hangs, so it is given up after a while.
    async fn processes(&self, assignment: &Assignment) -> Result<Vec<Found>, DriverError> {
        let mark = self.mark(assignment);
        let look = timeout(LOOK_UP, spawn_blocking(move || process::marked(&format!("{MARK}={mark}"), &scope_name(&mark))));
        match look.await {
            Ok(found) => found.expect("the work neither panics nor is it aborted").map_err(|source| DriverError::File {
                doing: "list",
                path: PathBuf::from("/proc"),
                source,
            }),
            Err(_) => Err(hangs("looking through /proc")),
        }
    }

    /// Shell text as a program in the login environment of the user.
    async fn program(&self, application: &Application, assignment: &Assignment, text: &str, title: &str) -> Result<Program, DriverError> {
        let (names, title) = ((application.user.clone(), application.group.clone()), title.to_owned());
        let looked_up = title.clone();
        let login = timeout(LOOK_UP, spawn_blocking(move || log_in(&names.0, &names.1, &looked_up))).await;
        let login = login.map_err(|_| hangs("looking up the user"))?.expect("the work neither panics nor is it aborted")?;
        let shell = &self.settings.bash_shell;
        if !crate::sys::child::is_executable(shell) {
            return Err(DriverError::NoScript { title, path: shell.clone() });
        }
        let mut environment = environment(&login.user);
        environment.push((MARK.into(), self.mark(assignment).into()));
        Ok(Program {
            program: shell.clone(),
            arguments: vec!["-l".into(), "-c".into(), self.shell_text(text)],
            environment,
            identity: login.identity,
            umask: self.settings.umask,
            output: self.log.clone(),
            title,
        })
    }

    /// The home directory is entered by the shell, not by us: it may be on a network file system that hangs.
    fn shell_text(&self, text: &str) -> OsString {
        let mut whole = OsString::from("cd || cd /\n");
        if let Some(file) = &self.settings.bash_rc_file {
            let quoted = quote(file.as_os_str());
            whole.push("[ ! -r ");
            whole.push(&quoted);
            whole.push(" ] || . ");
            whole.push(&quoted);
            whole.push("\n");
        }
        whole.push(text);
        whole
    }

    /// The same nickname may run for two homes on one node, and several nodes may share a machine in a laboratory.
    fn mark(&self, assignment: &Assignment) -> String {
        let home = self.settings.nodenames.get(&assignment.home).cloned().unwrap_or_else(|| assignment.home.to_string());
        format!("{}:{home}:{}", self.settings.nodename, assignment.resource.nickname)
    }

    fn unstarted(&self, title: &str, source: SysError) -> DriverError {
        match source {
            SysError::Run { program, source } => DriverError::File { doing: "run", path: program, source },
            other => DriverError::System { what: title.to_owned(), source: other },
        }
    }

    fn lives(&self) -> MutexGuard<'_, BTreeMap<Assignment, watch::Receiver<Life>>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn title(assignment: &Assignment, action: &str) -> String {
    format!("{} {action}", assignment.resource)
}

fn hangs(call: &'static str) -> DriverError {
    DriverError::System { what: "applications".to_owned(), source: SysError::Hangs { call, seconds: LOOK_UP.as_secs() } }
}

fn log_in(user: &str, group: &str, title: &str) -> Result<Login, DriverError> {
    let (title, unreadable) = (title.to_owned(), |errno: nix::Error| DriverError::File {
        doing: "read",
        path: PathBuf::from("the user database"),
        source: io::Error::from(errno),
    });
    let Some(found) = User::from_name(user).map_err(unreadable)? else { return Err(DriverError::NoUser { title, user: user.to_owned() }) };
    let Some(group) = Group::from_name(group).map_err(unreadable)? else {
        return Err(DriverError::NoGroup { title, group: group.to_owned() });
    };
    if runs_nothing(&found.shell) {
        return Err(DriverError::NoLogin { title, user: user.to_owned(), shell: found.shell });
    }
    let identity = identity(&found, group.gid).map_err(unreadable)?;
    Ok(Login { user: found, identity })
}

/// As whom to run; `None` when that is who we are and cannot change it.
fn identity(user: &User, group: Gid) -> nix::Result<Option<Identity>> {
    if !geteuid().is_root() && user.uid == Uid::effective() {
        return Ok(None);
    }
    // A name from the user database has no zero byte.
    let name = CString::new(user.name.as_bytes()).map_err(|_| nix::Error::EINVAL)?;
    // As initgroups does: the given group first, then every group that lists the user.
    let groups = getgrouplist(&name, group)?.into_iter().map(Gid::as_raw).collect();
    Ok(Some(Identity { uid: user.uid.as_raw(), gid: group.as_raw(), groups }))
}

fn runs_nothing(shell: &Path) -> bool {
    shell.file_name().is_some_and(|name| name == "nologin" || name == "false")
}

/// What login(1) sets.
fn environment(user: &User) -> Vec<(OsString, OsString)> {
    let path = if user.uid.is_root() { crate::sys::child::DEFAULT_PATH } else { "/usr/local/bin:/usr/bin:/bin" };
    let shell = if user.shell.as_os_str().is_empty() { PathBuf::from("/bin/sh") } else { user.shell.clone() };
    vec![
        ("HOME".into(), user.dir.clone().into()),
        ("USER".into(), user.name.clone().into()),
        ("LOGNAME".into(), user.name.clone().into()),
        ("SHELL".into(), shell.into()),
        ("PATH".into(), path.into()),
    ]
}
