//! A reload: the configuration is read again, and when it is another one the program on disk takes the place of this one and
//! goes on with its leases. What the new file no longer has here, or has as something else, is stopped before; nothing else
//! is touched. A file that cannot be used changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tracing::{error, info, warn};

use super::{cluster_thread::Ended, executor::Shared, identity, successor::Successor};
use crate::{
    cluster::{NotNow, Phase},
    config::{self, Loaded, this_node},
    model::{Activity, Assignment, AssignmentId, Config, Electorate, Group, IncidentKind, Kind, NodeConfig, Resource, Response, Severity},
    sys::{
        clock,
        notify::{Message, Notify},
    },
};

/// Longest wait for groups that are on their way up, down or home.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at that.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Reloads that may wait.
const WAITING: usize = 4;
/// Longest that a client waits for what became of it.
const ANSWER: Duration = Duration::from_secs(4);
/// Beyond the longest stop.
const GRACE: Duration = Duration::from_secs(5);

/// What a reload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The file says what it said before.
    Unchanged,
    /// Everything is ready, and this process can only be followed by another one.
    Parted,
}

/// Why the configuration of before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file has faults.
    #[error("{0}")]
    Configuration(String),
    /// The change is too deep.
    #[error("this change needs a restart of the daemon, node by node: {}", .0.join("; "))]
    NeedsRestart(Vec<String>),
    /// The program on disk would not run.
    #[error("the program on disk is not fit to take over: {0}")]
    Unfit(String),
    /// Groups move, or there is no quorum.
    #[error("{0}; reload again when `drcm status` shows that this is over")]
    NotNow(NotNow),
    /// Something that the new file does not have, or has as something else, does not stop.
    #[error("{0}")]
    Stop(String),
    /// The daemon is ending.
    #[error(transparent)]
    Ended(#[from] Ended),
}

/// What workers of groups are to stop, and how they say that it is done.
#[derive(Clone, Debug)]
pub struct Farewell {
    /// To be stopped.
    pub ends: BTreeSet<AssignmentId>,
    /// One word per group that has any of them.
    pub done: mpsc::Sender<Result<(), String>>,
}

/// The way from a reload to the workers; nothing while none is under way.
pub type Farewells = watch::Sender<Option<Arc<Farewell>>>;

/// Where reloads are asked for.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<Option<oneshot::Sender<Response>>>);

/// What a reload needs.
pub struct Reloader {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Where the configuration is.
    pub source: Source,
    /// Who takes over.
    pub successor: Arc<Successor>,
    /// The service manager.
    pub notify: Arc<Notify>,
}

impl Reloads {
    /// Does what is asked for, one after another. Once nothing is left to do for this process, `parted` hears of it.
    pub fn start(reloader: Reloader, parted: mpsc::Sender<()>) -> Self {
        let (asks, mut asked) = mpsc::channel::<Option<oneshot::Sender<Response>>>(WAITING);
        tokio::spawn(async move {
            while let Some(answer) = asked.recv().await {
                let done = reloader.reload().await;
                let over = matches!(done, Ok(Reloaded::Parted));
                if let Some(answer) = answer {
                    let response = match done {
                        Ok(done) => Response::Accepted(vec![done.to_string()]),
                        Err(why) => Response::Refused(format!("the configuration of before stays in force: {why}")),
                    };
                    // Whoever asked may have stopped waiting.
                    answer.send(response).unwrap_or_default();
                }
                if over {
                    parted.send(()).await.unwrap_or_default();
                    return;
                }
            }
        });
        Self(asks)
    }

    /// A signal asks for it.
    pub fn signalled(&self) {
        if self.0.try_send(None).is_err() {
            info!("SIGHUP: reloads are waiting already");
        }
    }

    /// A client asks for it, and wants to know what became of it.
    pub async fn ask(&self) -> Response {
        let (answer, answered) = oneshot::channel();
        if self.0.try_send(Some(answer)).is_err() {
            return Response::Refused("reloads are waiting already".to_owned());
        }
        match timeout(ANSWER, answered).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => Response::Refused("the daemon is ending".to_owned()),
            Err(_) => Response::Accepted(vec!["the reload is under way: the log tells what becomes of it".to_owned()]),
        }
    }
}

impl Reloader {
    async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let tell = |message| {
            if let Err(error) = self.notify.send(message) {
                warn!("cannot tell the service manager: {error}");
            }
        };
        tell(Message::Reloading(clock::monotonic()));
        let done = self.source.reload(&self.shared, &self.successor).await;
        match &done {
            Ok(done) => {
                info!("reload: {done}");
                self.shared.notes.daemon(IncidentKind::Reload, Severity::Info, format!("reload: {done}"));
            }
            Err(why) => {
                error!("reload: the configuration of before stays in force: {why}");
                let text = format!("reload: the configuration of before stays in force: {why}");
                self.shared.notes.daemon(IncidentKind::Reload, Severity::Warning, text);
            }
        }
        if !matches!(done, Ok(Reloaded::Parted)) {
            tell(Message::Ready);
        }
        done
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unchanged => "the configuration says what it said before: nothing to do",
            Self::Parted => "the configuration is another one: it is in force from now on, and what has not changed in it runs on",
        })
    }
}

/// Where the configuration of this node is.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// `--nodename`.
    pub nodename: Option<String>,
}

impl Source {
    /// Reads the configuration again and, when it is another one, brings this node to the point where another process can
    /// take its place.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub async fn reload(&self, shared: &Shared, successor: &Successor) -> Result<Reloaded, ReloadError> {
        let (config, node) = self.read().await?;
        if config == *shared.config {
            return Ok(Reloaded::Unchanged);
        }
        let obstacles = obstacles(&shared.config, &config, &shared.node, &node);
        if !obstacles.is_empty() {
            return Err(ReloadError::NeedsRestart(obstacles));
        }
        successor.is_fit().await.map_err(ReloadError::Unfit)?;
        settled(shared).await?;
        let (running, ends) = sort(shared, &config, &node).await?;
        let done = async {
            stop(shared, &running, ends).await?;
            let running = running.values().flatten().filter(|assignment| runs(shared, assignment)).map(Assignment::id).collect();
            shared.mailbox.part(running).await?.map_err(ReloadError::NotNow)
        };
        let done = done.await;
        if done.is_err() {
            // What was stopped is started again by its worker.
            shared.farewells.send_replace(None);
        }
        done.map(|()| Reloaded::Parted)
    }

    /// What this configuration would come to here, in sentences.
    ///
    /// # Errors
    /// Why it cannot be put in force without a restart.
    pub fn would_do(&self, shared: &Shared, config: &Config) -> Result<Vec<String>, String> {
        let node = this_node(config, self.nodename.as_deref()).map_err(|finding| config::render(&[*finding]))?;
        let obstacles = obstacles(&shared.config, config, &shared.node, node);
        if !obstacles.is_empty() {
            return Err(ReloadError::NeedsRestart(obstacles).to_string());
        }
        if *config == *shared.config {
            return Ok(vec![Reloaded::Unchanged.to_string()]);
        }
        let assignments = |config: &Config| -> BTreeSet<Assignment> {
            config.groups.iter().filter(|group| group.candidates.contains(&node.id)).flat_map(|group| group.assignments.clone()).collect()
        };
        let (before, after) = (assignments(&shared.config), assignments(config));
        let changed = after.intersection(&before).filter(|assignment| {
            let (before, after) = (shared.config.resource(&assignment.resource), config.resource(&assignment.resource));
            !before.zip(after).is_some_and(|(before, after)| is_same(before, after))
        });
        let names = |assignments: Vec<&Assignment>| assignments.iter().map(|one| one.resource.to_string()).collect::<Vec<_>>().join(", ");
        let mut said = Vec::new();
        for (what, which) in [
            ("new here", after.difference(&before).collect()),
            ("no longer here", before.difference(&after).collect()),
            ("stopped and started as something else", changed.collect::<Vec<_>>()),
        ] {
            if !which.is_empty() {
                said.push(format!("{what}: {}", names(which)));
            }
        }
        if said.is_empty() {
            said.push("no resource is touched".to_owned());
        }
        Ok(said)
    }

    async fn read(&self) -> Result<(Config, NodeConfig), ReloadError> {
        let Self { file, nodename } = self.clone();
        let read = spawn_blocking(move || {
            let Loaded { config, findings } = config::load(&file).map_err(|report| ReloadError::Configuration(report.to_string()))?;
            let node =
                this_node(&config, nodename.as_deref()).map_err(|finding| ReloadError::Configuration(config::render(&[*finding])))?.clone();
            if !findings.is_empty() {
                warn!("{}", config::render(&findings));
            }
            Ok((Arc::unwrap_or_clone(config), node))
        });
        read.await.expect("reading a file does not panic")
    }
}

/// What a process that goes on where this one stood cannot take up.
fn obstacles(before: &Config, after: &Config, node: &NodeConfig, node_after: &NodeConfig) -> Vec<String> {
    let mut obstacles = Vec::new();
    if node.id != node_after.id {
        obstacles.push(format!("this host is now {} instead of {}", node_after.name, node.name));
    }
    let (old, new) = (&before.server, &after.server);
    for (name, differs) in [
        ("run_dir", old.run_dir != new.run_dir),
        ("spool_dir", old.spool_dir != new.spool_dir),
        ("service_name", old.service_name != new.service_name),
    ] {
        if differs {
            obstacles.push(format!("{name} is another one"));
        }
    }
    if old.cluster_user != new.cluster_user || old.cluster_group != new.cluster_group {
        obstacles.push("cluster_user or cluster_group is another one".to_owned());
    }
    let missing = identity::missing(&identity::needed(after, node_after));
    if !missing.is_empty() && identity::missing(&identity::needed(before, node)) != missing {
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        obstacles.push(format!("what is new needs {}, which cluster_user {} gets at a start", missing.join(", "), new.cluster_user));
    }
    if Electorate::new(before.voters()).voters != Electorate::new(after.voters()).voters {
        obstacles.push("other nodes vote: nodes were added or removed, or `voter` changed".to_owned());
    }
    obstacles
}

/// Waits until nothing is on its way.
async fn settled(shared: &Shared) -> Result<(), ReloadError> {
    let begun = Instant::now();
    loop {
        match shared.mailbox.may_part().await? {
            Ok(()) => return Ok(()),
            Err(why) if begun.elapsed() > PATIENCE => return Err(ReloadError::NotNow(why)),
            Err(_) => sleep(LOOK_AGAIN).await,
        }
    }
}

fn runs(shared: &Shared, assignment: &Assignment) -> bool {
    shared.board.note(assignment).activity == Activity::Running
}

type Running = BTreeMap<crate::model::GroupId, Vec<Assignment>>;

/// What runs here, by group, and what of it ends with the configuration of before.
async fn sort(shared: &Shared, after: &Config, me: &NodeConfig) -> Result<(Running, BTreeSet<AssignmentId>), ReloadError> {
    let view = shared.mailbox.look().await?.view;
    let active = view.groups.iter().filter(|group| group.phase == Phase::Running).filter_map(|group| shared.config.group(group.group));
    let groups: Vec<&Group> = active.collect();
    let held: BTreeSet<AssignmentId> = groups.iter().flat_map(|group| &group.assignments).map(Assignment::id).collect();
    let known: BTreeSet<AssignmentId> = shared.config.groups.iter().flat_map(|group| &group.assignments).map(Assignment::id).collect();
    let mut running = Running::new();
    let mut ends = BTreeSet::new();
    for group in groups {
        let mut below_changed = false;
        for assignment in &group.assignments {
            let before = shared.config.resource(&assignment.resource);
            let place = after.groups.iter().find(|group| group.assignments.contains(assignment));
            let stays = place.is_some_and(|place| {
                // A group of which another node has a part is nobody's before all of it is down.
                let apart = place.assignments.iter().map(Assignment::id).any(|member| known.contains(&member) && !held.contains(&member));
                place.is_leased() == group.is_leased() && place.candidates.contains(&me.id) && !apart
            });
            let same = before.is_some_and(|before| after.resource(&assignment.resource).is_some_and(|after| is_same(before, after)));
            // What lives on a file system cannot outlive it.
            let lives_above = !matches!(assignment.resource.kind, Kind::Address | Kind::FileSystem);
            if !stays || !same || (below_changed && lives_above) {
                below_changed |= assignment.resource.kind == Kind::FileSystem;
                ends.insert(assignment.id());
            }
        }
        running.insert(group.id, group.assignments.iter().filter(|assignment| runs(shared, assignment)).cloned().collect());
    }
    Ok((running, ends))
}

/// The same thing is up before and after; what else is said of it can be obeyed while it runs.
fn is_same(before: &Resource, after: &Resource) -> bool {
    before.spec == after.spec && before.driver == after.driver && before.options.mount_options == after.options.mount_options
}

/// Stops what ends, in the order in which its groups would stop it.
async fn stop(shared: &Shared, running: &Running, ends: BTreeSet<AssignmentId>) -> Result<(), ReloadError> {
    let concerned = running.values().filter(|members| members.iter().any(|member| ends.contains(&member.id()))).count();
    if concerned == 0 {
        return Ok(());
    }
    let timeouts = running.values().flatten().filter_map(|member| shared.config.resource(&member.resource));
    let longest: Duration = timeouts.map(|resource| resource.options.stop_timeout).sum();
    info!("reload: {} resources end with the configuration of before", ends.len());
    let (done, mut answers) = mpsc::channel(concerned);
    shared.farewells.send_replace(Some(Arc::new(Farewell { ends, done })));
    let all = async {
        for _ in 0..concerned {
            answers.recv().await.unwrap_or_else(|| Err("a group was given up meanwhile".to_owned())).map_err(ReloadError::Stop)?;
        }
        Ok(())
    };
    timeout(longest + GRACE, all).await.unwrap_or_else(|_| Err(ReloadError::Stop("not everything stopped in time".to_owned())))
}
