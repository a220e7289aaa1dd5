//! The thread that renews the leases. It owns the datagram socket, the seal and the [`Node`]; it never waits for anything but
//! the next datagram, event or deadline, also where `streams` carry what it says by TCP, so that no slow mount, script or log
//! write can delay a renewal.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        time::TimeSpec,
    },
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, trace, warn};

use super::{
    decisions,
    journal::Scribe,
    ledger::Ledger,
    orders::Orders,
    streams::{Outlet, Turn},
    versions::Versions,
    votes::Keeper,
};
use crate::{
    cluster::{Draft, Node, NotNow, View},
    model::{Action, AssignmentId, Checks, Command, Config, Electorate, Event, Message, NodeId, Output, Record, Time, Unacceptable},
    sys::{
        clock,
        notify::{self, Notify},
        thread::make_urgent,
    },
    wire::{Drop as Dropped, Endpoint, MAX_DATAGRAM},
};

/// Datagrams that came by TCP and may wait for this thread; further ones are dropped, as a full socket drops them.
const FRAMES: usize = 256;
/// Events that may wait for this thread; their senders wait when it is full.
const MAILBOX: usize = 4096;
/// Datagrams taken from the socket before the deadlines are looked at again.
const DATAGRAMS_PER_TURN: usize = 64;
/// Shortest time between two answers to peers that wait for an echo.
const ECHO_INTERVAL: Duration = Duration::from_millis(5);

/// What other threads may put before the cluster thread.
pub enum Mail {
    /// Something happened.
    Event(Event),
    /// Someone wants to know.
    Look(oneshot::Sender<Look>),
    /// An operator's command is to be understood.
    Draft(Command, oneshot::Sender<Result<Draft, Unacceptable>>),
    /// It is on disk: it is said.
    Say(Vec<Record>, oneshot::Sender<()>),
    /// All that operators want.
    Wishes(oneshot::Sender<Vec<Record>>),
    /// Whether another process with another configuration could take over now.
    MayPart(oneshot::Sender<Result<(), NotNow>>),
    /// It is to take over what runs here; after a yes this thread does nothing any more.
    Part(BTreeSet<AssignmentId>, oneshot::Sender<Result<(), NotNow>>),
}

/// An answer to [`Mail::Look`].
#[derive(Clone, Debug)]
pub struct Look {
    /// The core's view.
    pub view: View,
    /// When it was taken.
    pub at: Time,
    /// Datagrams dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
}

/// The way to the cluster thread.
#[derive(Clone, Debug)]
pub struct Mailbox {
    mail: SyncSender<Mail>,
    bell: Arc<EventFd>,
}

/// Where datagrams that came by TCP are put before the cluster thread.
#[derive(Clone, Debug)]
pub struct Inbound {
    frames: SyncSender<Vec<u8>>,
    bell: Arc<EventFd>,
    dropped: Arc<AtomicU64>,
}

impl Inbound {
    /// Puts one there, or drops and counts it. Never waits.
    pub fn deliver(&self, datagram: Vec<u8>) {
        if self.frames.try_send(datagram).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else if let Err(errno) = self.bell.write(1) {
            // Its counter is full: the thread has been rung for often enough.
            trace!("event descriptor: {errno}");
        }
    }
}

/// The cluster thread's end of [`Inbound`].
#[derive(Debug)]
pub struct Arrivals {
    frames: Receiver<Vec<u8>>,
    bell: Arc<EventFd>,
}

/// A way for datagrams that come by TCP; `dropped` counts those for which there was no room.
///
/// # Errors
/// When the kernel refuses a descriptor.
pub fn inbound(dropped: Arc<AtomicU64>) -> io::Result<(Inbound, Arrivals)> {
    let (frames, arrived) = sync_channel(FRAMES);
    let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
    Ok((Inbound { frames, bell: bell.clone(), dropped }, Arrivals { frames: arrived, bell }))
}

/// The cluster thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster thread has ended")]
pub struct Ended;

impl Mailbox {
    /// Puts something before the cluster thread.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn post(&self, mail: Mail) -> Result<(), Ended> {
        self.mail.send(mail).map_err(|_| Ended)?;
        self.bell.write(1).map(drop).map_err(|_| Ended)
    }

    /// Puts an event before the core. When the cluster thread has ended so has the daemon, and nobody is left to hear it.
    pub fn tell(&self, event: Event) {
        if self.post(Mail::Event(event)).is_err() {
            debug!("the cluster thread has ended");
        }
    }

    /// What the core knows now.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn look(&self) -> Result<Look, Ended> {
        self.ask(Mail::Look).await
    }

    /// Understands an operator's command; nothing changes yet.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn draft(&self, command: Command) -> Result<Result<Draft, Unacceptable>, Ended> {
        self.ask(|answer| Mail::Draft(command, answer)).await
    }

    /// Says what a command means, now that it is on disk. On return the core has taken it in.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn say(&self, records: Vec<Record>) -> Result<(), Ended> {
        self.ask(|answer| Mail::Say(records, answer)).await
    }

    /// All that operators want.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn wishes(&self) -> Result<Vec<Record>, Ended> {
        self.ask(Mail::Wishes).await
    }

    /// Whether a process with another configuration could take over now.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn may_part(&self) -> Result<Result<(), NotNow>, Ended> {
        self.ask(Mail::MayPart).await
    }

    /// Leaves what runs here, of all that may run here, to a process with another configuration. After a yes the cluster
    /// thread does nothing any more: another process must take over at once.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn part(&self, running: BTreeSet<AssignmentId>) -> Result<Result<(), NotNow>, Ended> {
        self.ask(|answer| Mail::Part(running, answer)).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Mail) -> Result<T, Ended> {
        let (answer, answered) = oneshot::channel();
        self.post(question(answer))?;
        answered.await.map_err(|_| Ended)
    }
}

/// What the thread tells the rest of the daemon besides orders to groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The checks before carrying on alone are wanted.
    CheckAlone(Checks),
    /// Everything is given back: the daemon may exit.
    Left,
}

/// Datagrams that went no further, since a task or this thread was not quick enough to take them.
#[derive(Clone, Debug, Default)]
pub struct Lost {
    /// On the way out.
    pub sending: Arc<AtomicU64>,
    /// On the way in.
    pub receiving: Arc<AtomicU64>,
}

/// What the thread works with.
pub struct Parts {
    /// The cluster.
    pub config: Arc<Config>,
    /// The core.
    pub node: Node,
    /// The seal.
    pub endpoint: Endpoint,
    /// This node.
    pub me: NodeId,
    /// The datagram socket, bound.
    pub socket: UdpSocket,
    /// What outlives this process.
    pub ledger: Ledger,
    /// The peers that are sent to by TCP instead.
    pub outlets: BTreeMap<NodeId, Outlet>,
    /// What comes by TCP.
    pub arrivals: Arrivals,
    /// Datagrams lost between this thread and the streams, by reason.
    pub lost: Lost,
    /// Where orders to groups go.
    pub orders: Orders,
    /// Where goes what operators want, to be kept on disk.
    pub keep: watch::Sender<Vec<Record>>,
    /// Where go the voters that this node counts, to be noted on disk; nothing yet at first.
    pub remember: watch::Sender<Option<Electorate>>,
    /// Where notes about votes go.
    pub keeper: Arc<Keeper>,
    /// Where goes what operators may want to know of.
    pub scribe: Scribe,
    /// Where notices go.
    pub notices: mpsc::Sender<Notice>,
    /// The service manager.
    pub notify: Arc<Notify>,
}

/// Starts the thread.
///
/// # Errors
/// When the kernel refuses a thread or a descriptor.
pub fn start(parts: Parts) -> io::Result<(Mailbox, JoinHandle<()>)> {
    let (mail, letters) = sync_channel(MAILBOX);
    let bell = parts.arrivals.bell.clone();
    parts.socket.set_nonblocking(true)?;
    let addresses = parts.config.nodes.iter().map(|node| (node.id, parts.config.peer_address(node))).collect();
    let mut cluster = ClusterThread {
        addresses,
        letters,
        bell: bell.clone(),
        outbox: BTreeMap::new(),
        echoed: Time::ZERO,
        versions: Versions::default(),
        watchdog: parts.notify.watchdog().map(|interval| (interval / 3, Time::ZERO)),
        ledger_fails: false,
        parts,
    };
    let handle = thread::Builder::new().name("cluster".to_owned()).spawn(move || {
        for refused in make_urgent() {
            debug!("{refused}");
        }
        cluster.run();
    })?;
    Ok((Mailbox { mail, bell }, handle))
}

struct ClusterThread {
    parts: Parts,
    addresses: BTreeMap<NodeId, SocketAddr>,
    letters: Receiver<Mail>,
    bell: Arc<EventFd>,
    /// Messages of one turn by peer: they share datagrams.
    outbox: BTreeMap<NodeId, Vec<Message>>,
    echoed: Time,
    versions: Versions,
    watchdog: Option<(Duration, Time)>,
    /// The ledger cannot be written: told once.
    ledger_fails: bool,
}

impl ClusterThread {
    fn run(&mut self) {
        loop {
            // Deadlines first after every wake-up: a lease that ran out while we slept must not be acted upon.
            if clock::now() >= self.parts.node.deadline().0 {
                self.handle(Event::Timer);
            }
            self.feed_watchdog();
            if !self.read_mail() {
                return;
            }
            let more = self.read_datagrams() | self.read_frames();
            if !more {
                self.wait();
            }
        }
    }

    fn wait(&self) {
        let until = self.watchdog.map_or(Time::NEVER, |(interval, fed)| fed + interval).min(self.parts.node.deadline().0);
        let timeout = TimeSpec::from_duration(until.since(clock::now()).min(Duration::from_secs(3600)));
        let mut waiting = [PollFd::new(self.parts.socket.as_fd(), PollFlags::POLLIN), PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        // An interrupted or failed wait only means that we look around earlier.
        if let Err(errno) = ppoll(&mut waiting, Some(timeout), None) {
            trace!("ppoll: {errno}");
        }
    }

    fn feed_watchdog(&mut self) {
        if let Some((interval, fed)) = &mut self.watchdog {
            let now = clock::now();
            if now.since(*fed) >= *interval {
                *fed = now;
                if let Err(error) = self.parts.notify.send(notify::Message::Watchdog) {
                    debug!("watchdog of the service manager: {error}");
                }
            }
        }
    }

    /// False when nobody can send us anything any more.
    fn read_mail(&mut self) -> bool {
        // Emptied before the letters are read: one that arrives meanwhile rings again.
        if let Err(errno) = self.bell.read()
            && errno != nix::errno::Errno::EAGAIN
        {
            debug!("event descriptor: {errno}");
        }
        for _ in 0..MAILBOX {
            match self.letters.try_recv() {
                Ok(Mail::Event(event)) => self.handle(event),
                Ok(Mail::Look(answer)) => {
                    let at = clock::now();
                    let look = Look { view: self.parts.node.view(at), at, dropped: self.dropped() };
                    // Whoever asked may have stopped waiting.
                    drop(answer.send(look));
                }
                Ok(Mail::Draft(command, answer)) => drop(answer.send(self.parts.node.draft(command, clock::now()))),
                Ok(Mail::Say(records, answer)) => {
                    self.handle(Event::Wished(records));
                    // Whoever said it may have stopped waiting.
                    answer.send(()).unwrap_or_default();
                }
                Ok(Mail::Wishes(answer)) => drop(answer.send(self.parts.node.wishes(clock::now()))),
                Ok(Mail::MayPart(answer)) => drop(answer.send(self.parts.node.may_part(clock::now()))),
                Ok(Mail::Part(running, answer)) => {
                    let parted = self.part(&running);
                    let over = parted.is_ok();
                    drop(answer.send(parted));
                    if over {
                        loop {
                            thread::park();
                        }
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        true
    }

    /// True when there may be more.
    fn read_datagrams(&mut self) -> bool {
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.parts.socket.recv_from(&mut buffer) {
                Ok((length, _)) => self.datagram(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // An ICMP answer to an earlier datagram: a peer's port is closed. The silence itself will tell.
                Err(error) => trace!("datagram socket: {error}"),
            }
        }
        true
    }

    /// True when there may be more.
    fn read_frames(&mut self) -> bool {
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.parts.arrivals.frames.try_recv() {
                Ok(datagram) => self.datagram(&datagram),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return false,
            }
        }
        true
    }

    fn datagram(&mut self, bytes: &[u8]) {
        match self.parts.endpoint.open(bytes) {
            Ok(opened) => {
                if opened.waits_for_echo {
                    self.echo(opened.from);
                }
                for message in opened.messages {
                    self.handle(Event::Received { from: opened.from, boot: opened.boot, message });
                }
            }
            Err(Dropped::UnprovenBoot { from, waits_for_echo, .. }) => {
                if waits_for_echo {
                    self.echo(from);
                }
            }
            Err(Dropped::Version { from: Some(from), theirs, .. }) => {
                self.versions.unreadable(&self.parts.config, from, theirs, clock::now());
            }
            Err(reason) => trace!("datagram dropped: {reason}"),
        }
    }

    /// Lets a peer prove us (and itself) without waiting for the next heartbeat.
    fn echo(&mut self, to: NodeId) {
        let now = clock::now();
        if now.since(self.echoed) >= ECHO_INTERVAL {
            self.echoed = now;
            self.send(to, &[]);
        }
    }

    fn handle(&mut self, event: Event) {
        if let Event::Received { from, message, .. } = &event {
            self.parts.scribe.heard(*from, message);
        }
        let outputs = self.parts.node.handle(event, clock::now());
        self.remember();
        for output in outputs {
            match output {
                Output::Send { to, message } => self.outbox.entry(to).or_default().push(message),
                Output::Act(Action::CheckAlone { checks }) => self.notice(Notice::CheckAlone(checks)),
                Output::Act(action) => {
                    self.parts.orders.give(action);
                    self.parts.scribe.ordered(action);
                }
                Output::Decided(decision) => {
                    decisions::log(&self.parts.config, self.parts.me, &decision);
                    self.parts.scribe.decided(&decision);
                }
                Output::Keep(records) => drop(self.parts.keep.send_replace(records)),
                Output::Remember(electorate) => drop(self.parts.remember.send_replace(Some(electorate))),
                Output::KeepVotes(notes) => self.parts.keeper.keep(notes),
                Output::Left => {
                    self.flush();
                    self.parts.ledger.remove();
                    self.notice(Notice::Left);
                }
            }
        }
        self.flush();
    }

    /// The last entry in the ledger is for a process with another configuration.
    fn part(&mut self, running: &BTreeSet<AssignmentId>) -> Result<(), NotNow> {
        // What has come to its end by now is noticed first.
        self.handle(Event::Timer);
        self.parts.node.may_part(clock::now())?;
        self.parts.ledger.write(&self.parts.node.part(running)).map_err(|error| {
            warn!("run_dir cannot be written: {error}");
            NotNow::NoMemory
        })
    }

    /// Before anything of what was decided is done or said. Without a ledger the node goes on: it only makes a crash costlier,
    /// as a successor that finds an older one knows less than was promised; so that one must not be found.
    fn remember(&mut self) {
        let written = self.parts.ledger.write(&self.parts.node.memory());
        match written {
            Ok(()) => self.ledger_fails = false,
            Err(error) => {
                self.parts.ledger.spoil();
                if !std::mem::replace(&mut self.ledger_fails, true) {
                    warn!("run_dir cannot be written ({error}): should this daemon be killed, what runs here is stopped and started anew");
                }
            }
        }
    }

    fn flush(&mut self) {
        let mut outbox = std::mem::take(&mut self.outbox);
        for (to, messages) in &mut outbox {
            if !messages.is_empty() {
                self.send(*to, messages);
                messages.clear();
            }
        }
        // Kept for its capacity.
        self.outbox = outbox;
    }

    fn send(&mut self, to: NodeId, messages: &[Message]) {
        let Some(address) = self.addresses.get(&to) else { return };
        match (self.parts.endpoint.seal(to, messages), self.parts.outlets.get(&to)) {
            (Ok(datagrams), Some(outlet)) => outlet.offer(Turn::of(messages, datagrams)),
            (Ok(datagrams), None) => {
                for datagram in datagrams {
                    // Loss is the network's right, and the protocol's business.
                    if let Err(error) = self.parts.socket.send_to(&datagram, address) {
                        trace!("to {address}: {error}");
                    }
                }
            }
            (Err(error), _) => warn!("cannot seal a message to {}: {error}", self.parts.config.name(to)),
        }
    }

    fn dropped(&self) -> Vec<(&'static str, u64)> {
        let Lost { sending, receiving } = &self.parts.lost;
        let lost = [("tcp send queue full", sending), ("tcp receive queue full", receiving)];
        let lost = lost.into_iter().map(|(reason, count)| (reason, count.load(Ordering::Relaxed)));
        self.parts.endpoint.counters().dropped().chain(lost).collect()
    }

    fn notice(&self, notice: Notice) {
        // The receiver lives as long as the daemon and the queue is never left unread.
        if let Err(error) = self.parts.notices.try_send(notice) {
            info!("notice {notice:?} not taken: {error}");
        }
    }
}
