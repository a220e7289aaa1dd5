//! The world of one run: machines, daemons, the agenda, and what passes between them. One [`World`] is one seed.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use drcm::{
    cluster::Node,
    model::{
        Action, BootId, Checks, Config, Decision, Electorate, Event, Generation, GroupId, Message, NodeId, Record, StopReason, Tag, Time,
    },
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    checker::Checker,
    clock::{Clock, Instant, MILLISECOND, NEVER},
    executor::{Job, Presence},
    faults::Faults,
    network::Network,
    post::{Post, Slot},
    queue::{Queue, What},
    schedule::Schedule,
    setup::Setup,
    speech::Speech,
    stats::{Load, Stats},
    votes::Disk,
};

/// A mistake put in on purpose, to see that the checker finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// None: the real thing.
    #[default]
    None,
    /// One clock runs 20 % slow, far beyond what is allowed.
    SlowClock,
    /// Acks arrive with the tag of the newest heartbeat, so that leases seem to last longer.
    NewestTag,
    /// Acks arrive without their refusals.
    NoRefusals,
    /// Nodes start without silence.
    NoSilence,
    /// A process finds what the one before it wrote at its start, not what it wrote last.
    OldLedger,
    /// The kernel removes no address.
    NoKernel,
    /// Lists of claims never arrive.
    NoLists,
    /// A link fails when everything is at rest.
    Restless,
}

/// What a run keeps of what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Nothing: fast.
    Off,
    /// The last lines.
    Tail,
    /// Everything, printed at once.
    Print,
}

/// One machine and the daemon on it.
pub struct Host {
    /// Its name.
    pub id: NodeId,
    /// Its clock.
    pub clock: Clock,
    /// The daemon, while its process exists.
    pub core: Option<Node>,
    /// What the daemon read at its start.
    pub config: Arc<Config>,
    /// Version of the timing in that configuration.
    pub timing: usize,
    /// Version of the lists in that configuration.
    pub layout: usize,
    /// What the daemon will read at its next start.
    pub next_timing: usize,
    /// The same.
    pub next_layout: usize,
    /// The protocol version that the daemon speaks.
    pub speech: Speech,
    /// The one that it will speak at its next start.
    pub next_speech: Speech,
    /// The incarnation of the daemon.
    pub boot: BootId,
    /// Outdates what was scheduled for an earlier state of the process.
    pub life: u32,
    /// The process is stopped (SIGSTOP).
    pub paused: bool,
    /// When it last went on after a stop or was started.
    pub resumed: Instant,
    /// The longest lease, as kept on disk.
    pub disk: Duration,
    /// The voters, as kept on disk.
    pub voters: Option<Electorate>,
    /// What is on disk will not be there at the next start.
    pub disk_lost: bool,
    /// What a process that was killed left for the next one, until the machine is restarted.
    pub ledger: Option<Vec<u8>>,
    /// That was left for a process with another configuration.
    pub reloads: bool,
    /// What is noted about votes.
    pub votes: Disk,
    /// It was shut down and is to be started with the others.
    pub stays_away: bool,
    /// The longest lease ever granted, in truth.
    pub granted: Duration,
    /// In standby.
    pub standby: bool,
    /// Told to leave.
    pub leaving: bool,
    /// When the deadline of the core will be noticed.
    pub timer: Instant,
    /// The deadline.
    pub deadline: Time,
    /// Timer events since time last passed.
    pub spins: u32,
    /// Timer events in all.
    pub timers: u64,
    /// Datagrams in the socket buffer of a stopped process.
    pub inbox: VecDeque<Slot>,
    /// What the executor of a stopped process will find done.
    pub deferred: Vec<What>,
    /// By group.
    pub jobs: Vec<Job>,
    /// By assignment.
    pub presence: Vec<Option<Presence>>,
    /// The newest heartbeat sent.
    pub tag: Tag,
    /// Said to be unable to run a group, by bit.
    pub unfit: u32,
    /// Had a failed start of a group, by bit.
    pub failed: u32,
    /// By group: how often this incarnation sent it home.
    pub sent_home: Vec<u32>,
    /// By group: the move that was ordered last is a planned one.
    pub moving: u32,
    /// What a stopped process will be told.
    pub waiting: Vec<Event>,
    /// What operators want, as kept on disk.
    pub wishes: Vec<Record>,
    /// Operators want hands off, as the executor was told.
    pub hands_off: bool,
    /// By group: whether and when another node let go in favour of this one.
    pub handed: Vec<(bool, Instant)>,
}

/// One run.
pub struct World {
    /// What is fixed.
    pub setup: Setup,
    /// True time.
    pub now: Instant,
    /// The agenda.
    pub queue: Queue,
    /// The machines.
    pub hosts: Vec<Host>,
    /// The links.
    pub network: Network,
    /// Datagrams under way and who trusts whom.
    pub post: Post,
    /// The record of what is true.
    pub checker: Checker,
    /// Faults in force.
    pub faults: Faults,
    /// Phases.
    pub schedule: Schedule,
    /// For delays of machines.
    pub random: ChaCha8Rng,
    /// For what is asked of daemons besides: it came later than the faults, and leaves their draws as they were.
    pub reloading: ChaCha8Rng,
    /// What is counted.
    pub stats: Stats,
    /// The first broken rule.
    pub failure: Option<String>,
    /// The mistake put in on purpose.
    pub sabotage: Sabotage,
    /// What is told.
    pub trace: Trace,
    /// The last lines of the trace.
    pub lines: VecDeque<String>,
    /// By receiver: what the event in hand made the node say.
    pub outgoing: Vec<Vec<Message>>,
    /// By node: what it has sent and what has reached it.
    pub load: Vec<Load>,
    tokens: u32,
}

impl World {
    /// A world before anything has happened.
    pub fn new(seed: u64, length: Instant, sabotage: Sabotage, trace: Trace) -> Self {
        Self::of(Setup::of(seed, length, &mut stream(seed, 1)), sabotage, trace)
    }

    /// The world of a setup.
    pub fn of(setup: Setup, sabotage: Sabotage, trace: Trace) -> Self {
        let mut world = Self::dark(setup, sabotage, trace);
        world.begin();
        world
    }

    /// A world in which nothing happens by itself: no daemon has been started, and no fault will come.
    pub fn by_hand(setup: Setup) -> Self {
        let mut world = Self::dark(setup, Sabotage::None, Trace::Tail);
        world.schedule = Schedule::by_hand(world.setup.layouts);
        world
    }

    fn dark(mut setup: Setup, sabotage: Sabotage, trace: Trace) -> Self {
        let stream = |number| stream(setup.seed, number);
        let (links, faults, machines, stalls) = (stream(2), stream(3), stream(4), stream(6));
        let reloading = stream(8);
        if sabotage == Sabotage::SlowClock {
            setup.clocks[0] = Clock::new(0, 1_000_000_000, -200_000);
        }
        let count = setup.count();
        let network = Network::new(count, setup.latency, setup.always, &setup.far, links, stalls);
        let checker = Checker::new(&setup);
        let hosts = (0..count)
            .map(|node| Host {
                id: setup.nodes[node],
                clock: setup.clocks[node],
                core: None,
                config: Arc::clone(&setup.configs[0][0]),
                timing: 0,
                layout: 0,
                next_timing: 0,
                next_layout: 0,
                speech: setup.speeches.0,
                next_speech: setup.speeches.0,
                boot: BootId(0),
                life: 0,
                paused: false,
                resumed: 0,
                disk: Duration::ZERO,
                voters: None,
                disk_lost: false,
                ledger: None,
                reloads: false,
                votes: Disk::default(),
                stays_away: false,
                granted: Duration::ZERO,
                standby: false,
                leaving: false,
                timer: NEVER,
                deadline: Time::NEVER,
                spins: 0,
                timers: 0,
                inbox: VecDeque::new(),
                deferred: Vec::new(),
                jobs: vec![Job::default(); setup.groups.len()],
                presence: vec![None; setup.assignments],
                tag: Tag(0),
                unfit: 0,
                failed: 0,
                sent_home: vec![0; setup.groups.len()],
                moving: 0,
                waiting: Vec::new(),
                wishes: Vec::new(),
                hands_off: false,
                handed: vec![(false, 0); setup.groups.len()],
            })
            .collect();
        Self {
            now: 0,
            queue: Queue::default(),
            hosts,
            network,
            post: Post::new(setup.nodes.clone(), setup.sealed),
            checker,
            faults: Faults::new(faults),
            schedule: Schedule::new(setup.layouts),
            random: machines,
            reloading,
            stats: Stats { last_owner: vec![None; setup.assignments], watches: vec![None; setup.assignments], ..Stats::default() },
            failure: None,
            sabotage,
            trace,
            lines: VecDeque::new(),
            outgoing: vec![Vec::new(); count],
            load: vec![Load::default(); count],
            tokens: 0,
            setup,
        }
    }

    /// Runs to the end or to the first broken rule.
    pub fn run(&mut self) {
        while self.failure.is_none() && self.step() {}
        self.wakes_must_be_few();
        self.stats.simulated += self.now;
    }

    /// Runs up to an instant, or to the end or the first broken rule.
    pub fn run_until(&mut self, until: Instant) {
        while self.now < until && self.failure.is_none() && self.step() {}
    }

    /// Does the next thing; false when the run is over.
    fn step(&mut self) -> bool {
        let mut timer = NEVER;
        let mut node = 0;
        for (index, host) in self.hosts.iter().enumerate() {
            if host.timer < timer {
                timer = host.timer;
                node = index;
            }
        }
        let next = self.queue.next_at().unwrap_or(NEVER);
        if timer.min(next) > self.setup.length {
            self.now = self.setup.length;
            return false;
        }
        if timer <= next {
            self.now = timer;
            self.tick(node);
        } else if let Some((at, what)) = self.queue.pop() {
            self.now = at;
            self.happens(what);
        }
        true
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Deliver { to, slot } => self.arrives(usize::from(to), slot),
            What::Effect { node, .. } | What::Finish { node, .. } => {
                if self.hosts[usize::from(node)].paused {
                    self.hosts[usize::from(node)].deferred.push(what);
                } else {
                    self.executes(what);
                }
            }
            What::Expire { node, assignment, token } => self.expires(usize::from(node), usize::from(assignment), token),
            What::Alone { node, life, checks } => self.answers_alone(usize::from(node), life, checks),
            What::Restart { node, life } => {
                if self.hosts[usize::from(node)].life == life {
                    self.start_daemon(usize::from(node));
                }
            }
            What::MustHaveLeft { node, life } => {
                let host = &self.hosts[usize::from(node)];
                if host.life == life && host.leaving && host.core.is_some() {
                    self.fail(format!("node {node} was told to leave and has not left"));
                }
            }
            What::Noted { node, boot, serial } => self.noted(usize::from(node), boot, serial),
            What::LeaveNow { node, fault } => {
                if self.faults.is_on(fault) {
                    self.leaves_now(usize::from(node));
                }
            }
            What::Fault { cycle } => self.next_fault(cycle),
            What::Undo { fault } => self.undo(fault),
            What::MustBeTaken { probe } => self.must_be_taken(probe),
            What::TidyUp { cycle } => self.tidies_up(cycle),
            What::Vouch { cycle } => self.vouch(cycle),
            What::Phase => self.next_phase(),
        }
    }

    /// The first broken rule ends the run.
    pub fn fail(&mut self, what: String) {
        if self.failure.is_none()
            && self.hosts.iter().any(|host| host.votes.amnesia > self.now)
            && ["grant", "relies", "becomes active"].iter().any(|word| what.contains(word))
        {
            // docs/cluster.md: a voter that lost its notes of votes it gave away, and has not heard of them in its silence.
            self.log(|| format!("not protected: {what}"));
            self.stats.unprotected += 1;
            self.setup.length = self.now;
            return;
        }
        if self.failure.is_none() {
            self.log(|| format!("BROKEN: {what}"));
            self.failure = Some(what);
        }
    }

    /// Fails the run when a rule was found broken.
    pub fn hold(&mut self, checked: Result<(), String>) {
        if let Err(what) = checked {
            self.fail(what);
        }
    }

    /// A number that outdates all before it.
    pub fn token(&mut self) -> u32 {
        self.tokens += 1;
        self.tokens
    }

    /// Whether the daemon of a node exists and is not stopped.
    pub fn runs(&self, node: usize) -> bool {
        self.hosts[node].core.is_some() && !self.hosts[node].paused
    }

    pub fn decided(&mut self, node: usize, decision: &Decision) {
        self.log(|| format!("n{node} decides {decision:?}"));
        match decision {
            Decision::Acquired { .. } => self.stats.acquisitions += 1,
            Decision::Released { group, next: Some(next) } => {
                if let Some(group) = self.checker.group(*group) {
                    self.hands_over(group, *next);
                }
            }
            Decision::Lost { .. }
            | Decision::Released { next: None, .. }
            | Decision::PeerUp(_)
            | Decision::PeerDown { .. }
            | Decision::PeerLeft(_)
            | Decision::Mismatch { .. }
            | Decision::OtherVoters { .. }
            | Decision::Quorum { .. }
            | Decision::Asks { .. }
            | Decision::Withdrew { .. }
            | Decision::Running { .. }
            | Decision::Unable { .. }
            | Decision::Vote { .. }
            | Decision::KeepsAlone
            | Decision::Wished { .. }
            | Decision::Lapsed(_)
            | Decision::CarriesOnAlone => {}
        }
    }

    pub fn act(&mut self, node: usize, action: Action) {
        self.log(|| format!("n{node} orders {action:?}"));
        match action {
            Action::Start { group, generation, until, adopt } => {
                let Some(group) = self.ordered(node, group, Some(generation)) else { return };
                if self.hosts[node].hands_off && !adopt {
                    self.begins_in_maintenance(node, group);
                }
                self.starts(node, group, generation, until, adopt);
            }
            Action::Stop { group, generation, why } => {
                let Some(group) = self.ordered(node, group, Some(generation)) else { return };
                if self.hosts[node].hands_off {
                    self.ends_in_maintenance(node, group, why);
                }
                let host = &mut self.hosts[node];
                host.moving &= !(1 << group);
                match why {
                    StopReason::HandOver(_) | StopReason::Moved(_) => {
                        host.sent_home[group] += 1;
                        host.moving |= 1 << group;
                    }
                    StopReason::Leaving | StopReason::Standby => host.moving |= 1 << group,
                    StopReason::CleanSlate | StopReason::LeaseLost | StopReason::Failed | StopReason::PairHealed => {}
                }
                self.stops(node, group, generation);
            }
            Action::Extend { group, until } => {
                let Some(group) = self.ordered(node, group, None) else { return };
                if self.checker.hold(node, group).is_none() {
                    self.fail(format!("node {node} extends group {group}, which it was not told to start"));
                }
                if self.setup.freeze {
                    self.checker.relies_on_itself(node, group, until);
                } else {
                    self.relies(node, group, until);
                }
                self.extends(node, group, until);
            }
            Action::Announce { .. } => {}
            Action::HandsOff(off) => self.hosts[node].hands_off = off,
            Action::CheckAlone { checks } => {
                let after = match checks {
                    // The link is looked at in no time; only a gateway that is gone is waited for.
                    Checks::Link => self.random.random_range(50_000..2 * MILLISECOND),
                    Checks::All => self.random.random_range(50..300) * MILLISECOND,
                };
                let life = self.hosts[node].life;
                self.queue.push(self.now + after, What::Alone { node: node as u8, life, checks });
            }
        }
    }

    /// The group meant by an order, after the checks that hold for any order.
    fn ordered(&mut self, node: usize, id: GroupId, generation: Option<Generation>) -> Option<usize> {
        let Some(group) = self.checker.group(id) else {
            self.fail(format!("node {node} gives an order for group {id}, which is in no configuration"));
            return None;
        };
        if let Some(generation) = generation {
            let checked = self.checker.ordered(node, group, generation);
            self.hold(checked);
            if self.schedule.is_still() && self.setup.groups[group].leased && self.schedule.restless >> group & 1 == 0 {
                self.fail(format!("no fault was in force, but node {node} gave an order for group {group}"));
            }
        }
        let candidates = &self.setup.groups[group].candidates[self.hosts[node].layout];
        if !candidates.contains(&node) {
            self.fail(format!("node {node} gives an order for group {group}, of which it is no candidate"));
        }
        Some(group)
    }

    /// The node relies on a lease: the truth must bear it out.
    pub fn relies(&mut self, node: usize, group: usize, until: Time) {
        if self.setup.acts_alone[self.hosts[node].layout] {
            self.checker.relies_on_itself(node, group, until);
        } else {
            let host = &self.hosts[node];
            let checked = self.checker.relies(node, host.boot, group, until, &host.clock, self.now);
            self.hold(checked);
        }
    }

    fn answers_alone(&mut self, node: usize, life: u32, checks: Checks) {
        if self.hosts[node].life != life || !self.runs(node) {
            return;
        }
        let clear = match checks {
            // A link may have carrier although nothing passes.
            Checks::Link => self.random.random_bool(0.95),
            // Only an address in use where a probe reaches would be seen.
            Checks::All => (0..self.setup.count()).all(|other| {
                other == node
                    || !self.network.passes(node, other)
                    || !self.network.passes(other, node)
                    || (0..self.setup.assignments).all(|assignment| !self.checker.active(assignment).contains(other))
            }),
        };
        self.dispatch(node, Event::Alone { checks, clear });
    }

    /// A daemon that was told to leave is done.
    pub fn has_left(&mut self, node: usize) {
        self.log(|| format!("n{node} has left"));
        if !self.hosts[node].leaving {
            self.fail(format!("node {node} left without being told to"));
        }
        for group in 0..self.setup.groups.len() {
            let facts = &self.setup.groups[group];
            let members = facts.members;
            if facts.leased
                && facts.addresses
                && (0..self.setup.assignments).any(|a| members >> a & 1 == 1 && self.hosts[node].presence[a].is_some())
            {
                self.fail(format!("node {node} left while group {group} is active there"));
            }
        }
        self.end_daemon(node);
        if !self.hosts[node].stays_away {
            self.restart_after_leaving(node);
        }
    }
}

/// One of the sequences of random numbers of a seed.
fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(number);
    random
}
