//! The daemon: the cluster thread, the executor, the answers to clients, the logs, and how they start and end.
//!
//! Two kinds of threads: one that renews leases and does nothing else ([`cluster_thread`]), and tokio's, where everything that
//! may be slow happens. Never decides who owns what (`cluster` does) and never touches a resource itself (`drivers` do).

mod alone;
mod apply;
mod board;
mod chronicle;
mod cluster_thread;
mod decisions;
mod events;
mod executor;
mod identity;
mod journal;
mod ledger;
mod lifetime;
mod links;
pub mod logs;
mod operator;
mod orders;
mod reload;
mod sequence;
mod state;
mod status;
mod streams;
mod successor;
mod versions;
mod votes;
mod wish_file;

use std::{
    fmt::Display,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
    sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{broadcast, mpsc, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use self::{
    apply::Applies,
    board::Board,
    cluster_thread::{Mail, Mailbox, Notice, Parts},
    executor::Shared,
    identity::IdentityError,
    journal::{Journal, Scribe},
    ledger::Ledger,
    lifetime::Lifetimes,
    operator::Operator,
    orders::Orders,
    reload::{Reloader, Reloads, Source},
    state::{PidFile, StateError},
    status::Status,
    streams::Streams,
    successor::Successor,
    votes::Keeper,
    wish_file::WishFile,
};
use crate::{
    alert::{self, Alerts},
    cluster::{Memory, Node, Start},
    config::{AuthFault, AuthKey, Finding, load_auth_for, this_node},
    control::{ControlError, Handler, LinkHandler, LocalServer, RemoteServer},
    drivers::{DriverError, Drivers, Settings},
    model::{Assignment, BootId, Config, Electorate, Event, Incident, IncidentKind, NodeConfig, Order, Severity},
    sys::{
        clock,
        notify::{Message, Notify},
        process,
    },
    web::{Access, Meters, Site, WebServer},
    wire::Endpoint,
};

/// Events of the kernel that may wait for a group.
const KERNEL_EVENTS: usize = 1024;
/// Open files that are enough, whatever clients do.
const DESCRIPTORS: u64 = 4096;
/// Time for the log to be written before another program takes over.
const LAST_WORDS: Duration = Duration::from_millis(2);
/// Longest wait for the last events to be on disk before another program takes over, and before this one ends.
const LAST_EVENTS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];
/// Longest wait for a clean leave beyond the slowest stop.
const LEAVE_GRACE: Duration = Duration::from_secs(5);

/// What the command line says beyond the configuration file.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// `--nodename`: this node, instead of the one whose hostname is `uname -n`.
    pub nodename: Option<String>,
    /// The configuration file, for a program that takes the place of this one.
    pub file: PathBuf,
    /// Flags that go before what the file says of the log.
    pub log: logs::Overrides,
}

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// This host, or the node named, is not in the file.
    #[error("{}{}", .0.message, .0.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default())]
    NotAMember(Box<Finding>),
    /// The log cannot be started.
    #[error(transparent)]
    Log(#[from] logs::LogError),
    /// The auth files are not fit for use.
    #[error(transparent)]
    Auth(#[from] AuthFault),
    /// `cluster_user`.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Pid file, directories.
    #[error(transparent)]
    State(#[from] StateError),
    /// The heartbeat port cannot be had.
    #[error("cannot listen for heartbeats on udp {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Netlink and packet sockets.
    #[error(transparent)]
    Drivers(#[from] DriverError),
    /// The client socket cannot be had.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Everything was left to the program on disk, and that cannot be run.
    #[error("the program on disk cannot take over: {0}; start it again at once: what runs here is covered by its leases until they end")]
    NoSuccessor(io::Error),
    /// Threads, descriptors, signals.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Runs one node until it is told to leave.
///
/// # Errors
/// What kept it from starting, as a sentence for the operator.
pub fn run(config: Arc<Config>, options: &RunOptions) -> Result<(), DaemonError> {
    let node = this_node(&config, options.nodename.as_deref()).map_err(DaemonError::NotAMember)?.clone();
    identity::take_on(&config, &node, &options.file)?;
    let authkey = Arc::new(load_auth_for(&config.server.auth_dir, &config.server.cluster_user)?);
    let pid_file = PidFile::take(&config.server)?;
    let log = logs::start(&config.server.log, &config.server.service_name, &config.server.log_dir, &options.log)?;
    let notify = Notify::from_environment().unwrap_or_else(|error| {
        warn!("NOTIFY_SOCKET cannot be used, the service manager is told nothing: {error}");
        Notify::default()
    });
    // Those of the program whose place this one took; there are none of our own yet.
    process::reap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("drcm")
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    let successor = Successor::of_this_process(options.file.clone()).map_err(system("find the program that runs here"))?;
    let source = Source { file: options.file.clone(), nodename: options.nodename.clone() };
    let ended = runtime.block_on(serve(config, node, authkey, notify, (successor, source)));
    // A stuck child or mount must not keep the process from ending.
    runtime.shutdown_timeout(Duration::from_millis(200));
    drop(pid_file);
    if let Err(fault) = &ended {
        error!("{fault}");
    }
    drop(log);
    ended
}

async fn serve(
    config: Arc<Config>,
    node: NodeConfig,
    authkey: Arc<AuthKey>,
    notify: Notify,
    (successor, source): (Successor, Source),
) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(system("handle SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("handle SIGINT"))?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(system("handle SIGHUP"))?;
    let mut upgrade = signal(SignalKind::user_defined2()).map_err(system("handle SIGUSR2"))?;
    raise_descriptor_limit();
    warn_of_limits(&config, &node);

    // Whatever may keep this node from starting comes first: from the cluster thread on, it is a member and acts as one.
    let local = LocalServer::bind(&config.server.run_dir, &config.server.cluster_user, &config.server.cluster_group)?;
    let remembered = state::longest_lease(&config.server.spool_dir);
    let (ledger, memory) = Ledger::open(&config.server.run_dir, &config.server.service_name)?;
    let spool_dir = &config.server.spool_dir;
    let start = Start { longest_lease: remembered, electorate: state::electorate(spool_dir), votes: votes::read(spool_dir) };
    let mut core = resume_or_start(&config, &node, memory, start)?;
    // Before anything is granted: a crash right after a longer grant must be followed by a longer silence.
    state::note_longest_lease(&config.server.spool_dir, core.longest_lease().max(remembered))?;
    state::note_electorate(&config.server.spool_dir, core.electorate())?;
    if core.electorate().new {
        info!(
            "this node remembers no earlier life of this cluster: it runs what it shares with others once one that does, or every voter, has been heard"
        );
    }
    let wish_file = WishFile::new(&config.server.spool_dir);
    core.recall(&wish_file.load(), clock::now());
    let endpoint = Endpoint::new(authkey.bytes(), node.id, core.boot(), config.nodes.iter().map(|node| node.id), random()?);
    let socket = heartbeat_socket(&config, &node)?;
    let (drivers, kernel_events) = Drivers::new(Settings::new(&config, &node.name))?;

    let assigned = node.primary.iter().chain(node.backup.iter().map(|assignment| &assignment.resource));
    drivers.outlast(assigned.filter_map(|id| config.resource(id)));

    let (quit, quitting) = watch::channel(false);
    let lost = cluster_thread::Lost::default();
    let (inbound, arrivals) = cluster_thread::inbound(lost.receiving.clone()).map_err(system("make an event descriptor"))?;
    let (streams, outlets) = Streams::start(&streams::Parts {
        config: config.clone(),
        node: node.clone(),
        authkey: authkey.clone(),
        inbound,
        quitting: quitting.clone(),
        dropped: lost.sending.clone(),
    });

    let (orders, slots) = Orders::new(&config, node.id);
    let hands_off = orders.hands_off();
    let (notices, mut noticed) = mpsc::channel(16);
    let (keep, kept) = watch::channel(Vec::new());
    let (remember, remembering) = watch::channel(None);
    let longest = core.longest_lease();
    let notify = Arc::new(notify);
    let for_manager = notify.clone();
    let me = node.id;
    let keeper = Arc::new(Keeper::default());
    let (alerts, mut troubles) = Alerts::start(alert::Settings::new(&config.server, &node));
    let alerts = Arc::new(alerts);
    let (way, meters) = (alerts.clone(), Arc::new(Meters::default()));
    let counted = meters.clone();
    let teller = Box::new(move |event: &Arc<Incident>| {
        counted.count(event);
        way.tell(event);
    });
    let (journal, notes) = Journal::start(config.clone(), me, teller).map_err(system("start the journal of events"))?;
    let untold = notes.clone();
    tokio::spawn(async move {
        while let Some(trouble) = troubles.recv().await {
            warn!("{trouble}");
            untold.daemon(IncidentKind::Untold, Severity::Warning, trouble);
        }
    });
    let parts = Parts {
        config: config.clone(),
        node: core,
        me,
        endpoint,
        socket,
        ledger,
        outlets,
        arrivals,
        lost,
        orders,
        keep,
        remember,
        keeper: keeper.clone(),
        scribe: Scribe::new(notes.clone()),
        notices,
        notify,
    };
    let (mailbox, thread) = cluster_thread::start(parts).map_err(system("start the cluster thread"))?;
    keeper.start(config.server.spool_dir.clone(), mailbox.clone()).map_err(system("start the thread that writes notes"))?;

    let (events, _) = broadcast::channel(KERNEL_EVENTS);
    // The shortest lease that this node asks for.
    let shortest = longest.saturating_sub(config.longest_lease().saturating_sub(node.pace.lease()));
    let lifetimes = Lifetimes::for_lease(shortest.saturating_sub(shortest / 50 + Duration::from_millis(2)));
    let shared = Arc::new(Shared {
        config: config.clone(),
        node: node.clone(),
        drivers,
        mailbox: mailbox.clone(),
        board: Board::default(),
        notes: notes.clone(),
        lifetimes,
        events: events.clone(),
        hands_off,
        farewells: watch::Sender::new(None),
    });
    tokio::spawn(links::follow(shared.clone(), kernel_events, events));
    for (group, slot) in slots {
        if let Some(group) = config.group(group) {
            executor::start(shared.clone(), group.clone(), slot);
        }
    }
    tokio::spawn(shorten_memory(config.clone(), longest, remembered));
    tokio::spawn(note_voters(config.clone(), remembering));

    let operator = Operator::new(config.clone(), node.id, mailbox.clone(), wish_file);
    tokio::spawn(operator.clone().keep(kept));
    let successor = Arc::new(successor);
    let (part, mut parted) = mpsc::channel(1);
    let reloader = Reloader { shared: shared.clone(), source: source.clone(), successor: successor.clone(), notify: for_manager.clone() };
    let reloads = Reloads::start(reloader, part);
    let applies = Applies::new(shared.clone(), source, reloads.clone());
    let status = Arc::new(Status::new(shared.clone(), authkey.clone(), operator, reloads.clone(), applies, journal.clone()));
    let handler: Handler = Arc::new(move |request| {
        let status = status.clone();
        Box::pin(async move { status.answer(request).await })
    });
    let clients = tokio::spawn(local.serve(handler.clone(), quitting.clone()));
    tokio::spawn(serve_visitors(config.clone(), handler.clone(), meters, quitting.clone()));
    tokio::spawn(serve_nodes(config.clone(), node.clone(), authkey, handler, streams.links(), quitting));
    info!("node {} is up: {} nodes, {} groups, T {} ms", node.name, config.nodes.len(), config.groups.len(), node.pace.lease().as_millis());
    notes.daemon(IncidentKind::Started, Severity::Info, format!("drcm_server {} runs as {}", env!("CARGO_PKG_VERSION"), node.name));
    tell_manager(&for_manager, Message::Ready);

    let (judged, mut fitness) = mpsc::channel(1);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => reloads.signalled(),
            Some(()) = parted.recv() => {
                alerts.end();
                tokio::join!(sleep(LAST_WORDS), journal.flush(LAST_EVENTS[0]));
                return Err(DaemonError::NoSuccessor(successor.take_over()));
            }
            _ = upgrade.recv() => {
                let (successor, judged) = (successor.clone(), judged.clone());
                tokio::spawn(async move { judged.send(successor.is_fit().await).await });
            }
            Some(judgement) = fitness.recv() => match judgement {
                Ok(()) => {
                    info!("SIGUSR2: the program on disk takes over");
                    alerts.end();
                    tokio::join!(sleep(LAST_WORDS), journal.flush(LAST_EVENTS[0]));
                    let error = successor.take_over();
                    error!("the program on disk could not take over, this one goes on: {error}");
                    alerts.begin();
                }
                Err(why) => error!("SIGUSR2: the program on disk is not fit to take over, this one goes on: {why}"),
            },
            notice = noticed.recv() => match notice {
                Some(Notice::CheckAlone(checks)) => drop(tokio::spawn(alone::check(shared.clone(), checks))),
                Some(Notice::Left) => {}
                None => break,
            },
        }
    }
    tell_manager(&for_manager, Message::Stopping);
    notes.daemon(IncidentKind::Leaving, Severity::Info, format!("{} leaves the cluster, as it was told to", node.name));
    leave(&config, &mailbox, &mut noticed).await;
    // Seen by all that serve; the streams send what was said last.
    quit.send_replace(true);
    streams.end().await;
    // The socket file goes with its server; a client that will not end must not hold us.
    drop(timeout(LEAVE_GRACE, clients).await);
    journal.flush(LAST_EVENTS[1]).await;
    if thread.is_finished() {
        error!("the cluster thread had ended by itself");
    }
    Ok(())
}

/// Goes on where a process before this one was replaced, on the same run of the machine; else begins as a new incarnation.
fn resume_or_start(config: &Arc<Config>, node: &NodeConfig, memory: Option<Memory>, start: Start) -> Result<Node, DaemonError> {
    let now = clock::now();
    if let Some(memory) = memory {
        match Node::resume(config.clone(), node.id, memory, start.clone(), now) {
            Ok(core) => {
                info!("an earlier process of this node ended without leaving: going on with its leases");
                return Ok(core);
            }
            Err(stale) => warn!("what an earlier process of this node left in run_dir is of no use ({stale}): starting anew"),
        }
    }
    Ok(Node::new(config.clone(), node.id, BootId(u64::from_le_bytes(random()?)), start, now))
}

/// Hands everything over, or stops it, before the process ends.
async fn leave(config: &Config, mailbox: &Mailbox, noticed: &mut mpsc::Receiver<Notice>) {
    info!("leaving: stopping and handing over");
    let slowest = slowest_stop(config);
    if mailbox.post(Mail::Event(Event::Order(Order::Leave))).is_err() {
        return;
    }
    let left = async {
        while let Some(notice) = noticed.recv().await {
            if notice == Notice::Left {
                return;
            }
        }
    };
    if timeout(slowest + LEAVE_GRACE, left).await.is_err() {
        error!(
            "not everything could be stopped in {} s: leaving all the same; what still runs here may be started elsewhere",
            (slowest + LEAVE_GRACE).as_secs()
        );
    } else {
        info!("left the cluster");
    }
}

/// Groups stop side by side, the resources of each one after another.
fn slowest_stop(config: &Config) -> Duration {
    let stop_timeout = |assignment: &Assignment| config.resource(&assignment.resource).map(|resource| resource.options.stop_timeout);
    config.groups.iter().map(|group| group.assignments.iter().filter_map(stop_timeout).sum()).max().unwrap_or_default()
}

/// Notes what the voters are now, the newest only, off the threads that must not wait for a disk.
async fn note_voters(config: Arc<Config>, mut changes: watch::Receiver<Option<Electorate>>) {
    while changes.changed().await.is_ok() {
        let Some(electorate) = changes.borrow_and_update().clone() else { continue };
        let spool_dir = config.server.spool_dir.clone();
        match spawn_blocking(move || state::note_electorate(&spool_dir, &electorate)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!("{error}"),
            Err(error) => warn!("the voters were not noted: {error}"),
        }
    }
}

/// Once every lease of an earlier, longer configuration has run out, the silence after the next start need not cover it.
async fn shorten_memory(config: Arc<Config>, longest: Duration, remembered: Duration) {
    if remembered <= longest {
        return;
    }
    sleep(remembered * 2).await;
    if let Err(error) = state::note_longest_lease(&config.server.spool_dir, longest) {
        warn!("{error}");
    }
}

/// The status port. Its address may not be there yet, as early in a boot: nothing else waits for it.
async fn serve_nodes(
    config: Arc<Config>,
    node: NodeConfig,
    authkey: Arc<AuthKey>,
    handler: Handler,
    links: LinkHandler,
    quitting: watch::Receiver<bool>,
) {
    let address = SocketAddr::new(listen_ip(&config, &node), config.server.tcpport);
    let server = bound(|| RemoteServer::bind(address, authkey.bytes())).await;
    server.with_links(links).serve(handler, quitting).await;
}

/// The status page, where one is wanted. Its address may not be there yet, and nothing else waits for it.
async fn serve_visitors(config: Arc<Config>, handler: Handler, meters: Arc<Meters>, quitting: watch::Receiver<bool>) {
    let Some(page) = &config.server.status_page else { return };
    let access = match &page.token {
        Some(name) => Access::Token(config.server.auth_dir.join(name)),
        None => Access::Local,
    };
    let site = Site::new(config.clone(), access, handler, meters);
    let cannot = |error| format!("status_listen: {} cannot be listened on: {error}", page.listen);
    let server = bound(|| async { WebServer::bind(page.listen).await.map_err(cannot) }).await;
    server.serve(site, quitting).await;
}

/// Listens as soon as it can be done.
async fn bound<Server, Fault: Display, Attempt: Future<Output = Result<Server, Fault>>>(bind: impl Fn() -> Attempt) -> Server {
    let mut complained = false;
    loop {
        match bind().await {
            Ok(server) => return server,
            Err(fault) if !complained => warn!("{fault}; trying again each second"),
            Err(_) => {}
        }
        complained = true;
        sleep(Duration::from_secs(1)).await;
    }
}

/// Random bytes for what must not be guessed or repeated.
fn random<const N: usize>() -> Result<[u8; N], DaemonError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| DaemonError::System { what: "draw random numbers", source: io::Error::other(error.to_string()) })?;
    Ok(bytes)
}

/// Clients, children and probes of addresses need descriptors at the same time: clients must not be able to use up those that a
/// take-over needs. Children get back the limit of a fresh login.
fn raise_descriptor_limit() {
    let raise = || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        if soft >= DESCRIPTORS {
            return Ok(soft);
        }
        // Only root may raise the hard limit.
        if setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, hard.max(DESCRIPTORS)).is_err() {
            setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard)?;
        }
        getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, _)| soft)
    };
    match raise() {
        Ok(limit) if limit >= DESCRIPTORS => {}
        Ok(limit) => warn!("only {limit} open files are allowed, which many clients at a time can use up: allow {DESCRIPTORS} (ulimit -n)"),
        Err(errno) => warn!("cannot raise the limit of open files: {}", errno.desc()),
    }
}

/// Keys that are understood, but whose work is not done yet, must not pass in silence.
fn warn_of_limits(config: &Config, node: &NodeConfig) {
    let user = users::get_current_username().unwrap_or_default();
    if *user != *config.server.cluster_user {
        warn!("cluster_user = {}: this process was started by {} and runs as that", config.server.cluster_user, user.display());
    }
    let missing = identity::missing(&identity::needed(config, node));
    if !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        warn!("this process lacks {}: resources that need them will fail", missing.join(", "));
    }
    if !node.active {
        info!("node_is_active = 0: this node votes and runs nothing");
    }
}

fn listen_ip(config: &Config, node: &NodeConfig) -> IpAddr {
    match (config.server.bind_to_keep_alive_ip, node.keep_alive_ip) {
        (true, ip) => ip,
        (false, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
        (false, IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Bound even when the address is not there yet, as early in a boot.
fn heartbeat_socket(config: &Config, node: &NodeConfig) -> Result<std::net::UdpSocket, DaemonError> {
    let ip = listen_ip(config, node);
    let address = SocketAddr::new(ip, config.server.udpport);
    let open = || -> Result<std::net::UdpSocket, Errno> {
        let family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let descriptor = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&descriptor, sockopt::IpFreebind, &true)?;
        // Room for a burst while this thread is not scheduled.
        setsockopt(&descriptor, sockopt::RcvBuf, &(1 << 20))?;
        setsockopt(&descriptor, sockopt::Priority, &6)?;
        bind(std::os::fd::AsRawFd::as_raw_fd(&descriptor), &SockaddrStorage::from(address))?;
        Ok(std::net::UdpSocket::from(descriptor))
    };
    open().map_err(|errno| DaemonError::Bind { address, source: errno.into() })
}

fn tell_manager(notify: &Notify, message: Message<'_>) {
    if let Err(error) = notify.send(message) {
        warn!("cannot tell the service manager: {error}");
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leave_waits_for_stops_one_after_another() {
        let node = |name: &str, lists: &str| {
            format!("[CM_NODE]\nnodename = {name}\nhostname = {name}\nkeep_alive_ip = 10.0.0.{}\n{lists}\n", &name[1..])
        };
        let text = format!(
            "[CM_SERVER]\nstop_timeout = 10\n[CM_SERVICES]\none, one, /bin/true\ntwo, two, /bin/true\nthree, three, /bin/true\n{}{}",
            node("n1", "node_services = one, two"),
            node("n2", "node_services = three\nnode_backup_services = n1:one, n1:two")
        );
        let config = crate::config::parse_cfg("test.cfg", &text).unwrap_or_else(|report| panic!("{report}")).config;
        assert_eq!(slowest_stop(&config), Duration::from_secs(20));
    }
}
