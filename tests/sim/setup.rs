//! The cluster of one seed: its nodes, its groups, the configurations they may read, the network it lives in.

use std::{sync::Arc, time::Duration};

use drcm::model::{Config, Failback, GroupId, Kind, NodeId, Pace, Quorum, ResourceId, Takeover};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    clock::{Clock, Instant, MILLISECOND, SECOND},
    draft::{Draft, facts},
    membership::Membership,
    network::Impairment,
    speech::Speech,
};

/// One of so many seeds is a large cluster.
const LARGE_EVERY: u64 = 50;
/// Nothing may move for so long at the end of a run, or for ten minutes in one of so many.
const LAST_REST: Instant = 60 * SECOND;
const LONG_REST: Instant = 600 * SECOND;
const LONG_REST_EVERY: u64 = 20;
/// One of so many seeds has `no_quorum = freeze`.
const FREEZE_EVERY: u64 = 25;
/// Backups of a group at most.
const MOST_BACKUPS: usize = 8;
/// Nodes of a large cluster.
const LARGE: usize = 100;
/// How long it is simulated.
const LARGE_LENGTH: Instant = 90 * SECOND;

/// Keep-alive interval and dead node count of one version of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// h.
    pub interval: Duration,
    /// Heartbeats missed before a node counts as dead.
    pub count: u32,
}

impl Timing {
    /// T.
    pub fn lease(self) -> Duration {
        self.interval * self.count
    }
}

/// A resource and who may run it in each layout: the home node first.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is.
    pub resource: ResourceId,
    /// Candidates by layout. The home node never changes: it is part of the identity.
    pub candidates: Vec<Vec<usize>>,
}

/// One group as the world sees it.
#[derive(Clone, Debug)]
pub struct GroupFacts {
    /// Its id.
    pub id: GroupId,
    /// Its members, one bit each.
    pub members: u32,
    /// Candidates by layout, best first; none where the layout has no such group.
    pub candidates: Vec<Vec<usize>>,
    /// All members are addresses: microseconds to stop, removed by the kernel when nobody extends them.
    pub addresses: bool,
    /// Needs a lease. The same in all layouts.
    pub leased: bool,
}

/// What a plain setup is made of.
pub struct Plain {
    pub seed: u64,
    pub timings: Vec<Timing>,
    pub plans: Vec<Plan>,
    pub memberships: Vec<Membership>,
    pub takeover: Takeover,
    pub failback_delay: Duration,
    pub quorum: Quorum,
    pub length: Instant,
}

/// Everything that is fixed before a run begins.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// The nodes.
    pub nodes: Vec<NodeId>,
    /// Versions of the timing; the first is in force at the beginning.
    pub timings: Vec<Timing>,
    /// Versions of the lists.
    pub layouts: usize,
    /// The configurations, by timing and layout.
    pub configs: Vec<Vec<Arc<Config>>>,
    /// Every group of any layout.
    pub groups: Vec<GroupFacts>,
    /// Assignments in all.
    pub assignments: usize,
    /// The nodes that are far away: they are talked to by TCP, at a pace of their own.
    pub far: Vec<bool>,
    /// The clocks.
    pub clocks: Vec<Clock>,
    /// Shortest one-way travel time.
    pub latency: Instant,
    /// What the network does when it is well.
    pub always: Impairment,
    /// Datagrams travel sealed.
    pub sealed: bool,
    /// Datagrams a socket buffer holds.
    pub socket: usize,
    /// Two voters under pair rules: two owners are possible while they do not see each other.
    pub pair: bool,
    /// By layout: the voters are under the rules of a pair.
    pub acts_alone: Vec<bool>,
    /// The protocol versions before and after a rolling upgrade; the same where there is none.
    pub speeches: (Speech, Speech),
    /// How long the run takes.
    pub length: Instant,
    /// The nodes and voters by layout.
    pub memberships: Vec<Membership>,
    /// No two sets of voters differ by more than one.
    pub voters_differ_by_one: bool,
    /// The node that may run nothing.
    pub inactive: Option<usize>,
    /// How long nothing may move after each settling.
    pub rest: Instant,
    /// How long nothing may move at the end of the run, at the least.
    pub last_rest: Instant,
    /// An owner without a majority goes on (`no_quorum = freeze`).
    pub freeze: bool,
}

impl Setup {
    /// The setup of a seed.
    pub fn of(seed: u64, length: Instant, random: &mut ChaCha8Rng) -> Self {
        if seed.is_multiple_of(LARGE_EVERY) {
            let timing = |random: &mut ChaCha8Rng| Timing {
                interval: Duration::from_millis(weighted(random, &[(500, 2), (700, 1)]) as u64),
                count: random.random_range(3..=5),
            };
            let mut timings = vec![timing(random)];
            if random.random_bool(0.35) {
                timings.push(timing(random));
            }
            return Self::large(seed, LARGE, timings, length.min(LARGE_LENGTH), random);
        }
        let count = weighted(random, &[(2, 6), (3, 42), (4, 18), (5, 20), (6, 4), (7, 4), (8, 3), (9, 3)]);
        let timings = timings(count, random);
        let shortest = timings.iter().map(|timing| timing.interval).min().expect("there is a timing");
        let shortest_lease = timings.iter().map(|timing| timing.lease()).min().expect("there is a timing");
        let latency = latency(shortest, shortest_lease, random);
        let patient = timings.iter().all(|timing| timing.count >= 10);
        let always = Impairment {
            loss: if patient && random.random_bool(0.3) { 2_000 } else { 0 },
            duplicate: if random.random_bool(0.2) { 1_000 } else { 0 },
            ..Impairment::default()
        };
        let layouts = if random.random_bool(0.3) { 2 } else { 1 };
        let plans = plans(count, layouts, random);
        let inactive = if count > 2 && random.random_bool(0.1) { Some(random.random_range(0..count)) } else { None };
        let takeover = if random.random_bool(0.15) { Takeover::Strict } else { Takeover::Prompt };
        let failback = if random.random_bool(0.85) { Failback::Auto } else { Failback::Manual };
        let failback_delay = Duration::from_millis(weighted(random, &[(0, 5), (500, 30), (2_000, 30), (10_000, 35)]) as u64);
        let pair = count == 2 && random.random_bool(0.5);
        let memberships = Membership::of(seed, count, layouts, &plans);
        let quorum = if !pair && Membership::has_pair(&memberships) { Quorum::Majority } else { Quorum::Auto };
        let nodes: Vec<NodeId> = (0..count).map(|index| NodeId::of(&name(index))).collect();
        let far = far(seed, count);
        let last_rest = if seed % LONG_REST_EVERY == 7 { LONG_REST.min(length * 10) } else { LAST_REST };
        // Drawn from nothing, so that other seeds stay what they are.
        let freeze = seed % FREEZE_EVERY == 11 && !pair;
        let draft = Draft {
            freeze,
            far: &far,
            count,
            memberships: &memberships,
            plans: &plans,
            inactive,
            takeover,
            failback,
            failback_delay,
            quorum,
        };
        let configs = draft.configs(&timings, layouts);
        let groups = facts(&configs[0], &nodes, &plans);
        let clocks = (0..count).map(|_| clock(random)).collect();
        Self {
            seed,
            nodes,
            layouts,
            groups,
            assignments: plans.len(),
            far: far.iter().map(Option::is_some).collect(),
            clocks,
            latency,
            always,
            sealed: shortest >= Duration::from_millis(100) && random.random_bool(0.03),
            socket: random.random_range(16..=256),
            pair,
            acts_alone: vec![pair; layouts],
            speeches: Speech::of(seed),
            length: length + last_rest - LAST_REST,
            voters_differ_by_one: Membership::differ_by_one(&memberships),
            memberships,
            inactive,
            rest: 60 * SECOND,
            last_rest,
            freeze,
            timings,
            configs,
        }
    }

    /// A cluster of many nodes of which five vote, whatever is drawn for the rest.
    pub fn large(seed: u64, count: usize, timings: Vec<Timing>, length: Instant, random: &mut ChaCha8Rng) -> Self {
        let layouts = if random.random_bool(0.3) { 2 } else { 1 };
        let plans = plans(count, layouts, random);
        let takeover = if random.random_bool(0.15) { Takeover::Strict } else { Takeover::Prompt };
        let failback_delay = Duration::from_millis(random.random_range(0..3_000));
        let memberships = vec![Membership::of_all(count, count.min(5)); layouts];
        let quorum = Quorum::Auto;
        Self::plain(Plain { seed, timings, plans, memberships, takeover, failback_delay, quorum, length }, random)
    }

    /// A cluster in which little is drawn.
    pub fn plain(plain: Plain, random: &mut ChaCha8Rng) -> Self {
        let Plain { seed, timings, plans, memberships, takeover, failback_delay, quorum, length } = plain;
        let (count, layouts) = (memberships[0].listed.len(), memberships.len());
        let failback = Failback::Auto;
        let near = vec![None; count];
        let draft = Draft {
            freeze: false,
            far: &near,
            count,
            memberships: &memberships,
            plans: &plans,
            inactive: None,
            takeover,
            failback,
            failback_delay,
            quorum,
        };
        let configs = draft.configs(&timings, layouts);
        let nodes: Vec<NodeId> = (0..count).map(|index| NodeId::of(&name(index))).collect();
        Self {
            seed,
            groups: facts(&configs[0], &nodes, &plans),
            nodes,
            layouts,
            assignments: plans.len(),
            clocks: (0..count).map(|_| clock(random)).collect(),
            latency: random.random_range(30..2_000) * 1_000,
            always: Impairment::default(),
            sealed: false,
            socket: random.random_range(256..=512),
            far: vec![false; count],
            pair: false,
            acts_alone: memberships.iter().map(|membership| quorum == Quorum::Auto && membership.voters.len() == 2).collect(),
            speeches: (Speech::default(), Speech::default()),
            length,
            voters_differ_by_one: Membership::differ_by_one(&memberships),
            memberships,
            inactive: None,
            rest: 5 * SECOND,
            last_rest: 5 * SECOND,
            freeze: false,
            timings,
            configs,
        }
    }

    /// Whether a node may run anything, by its configuration.
    pub fn is_active(&self, node: usize) -> bool {
        self.inactive != Some(node)
    }

    /// Nodes or voters differ between the layouts.
    pub fn changes_members(&self) -> bool {
        self.memberships.iter().any(|membership| *membership != self.memberships[0])
    }

    /// Some listed node does not vote: it hears of its like through the voters.
    pub fn relays(&self) -> bool {
        self.memberships.iter().any(|membership| membership.listed.iter().filter(|listed| **listed).count() > membership.voters.len())
    }

    /// Nodes are upgraded one after another.
    pub fn upgrades(&self) -> bool {
        self.speeches.0 != self.speeches.1
    }

    /// Number of nodes.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// The longest lease that any node may grant at any time of the run.
    pub fn longest_lease(&self) -> Duration {
        self.configs.iter().flatten().map(|config| longest(config) * 51 / 50).max().expect("there is a configuration")
    }

    /// The longest time between heartbeats.
    pub fn longest_interval(&self) -> Duration {
        let nodes = self.configs.iter().flatten().flat_map(|config| &config.nodes);
        nodes.map(|node| node.pace.interval).max().expect("there is a node")
    }

    /// Some node is far away.
    pub fn has_far(&self) -> bool {
        self.far.contains(&true)
    }

    /// What stalls of streams may add to the time in which something must have happened.
    pub fn stalls(&self) -> Instant {
        if self.has_far() { 4 * SECOND } else { 0 }
    }

    /// For the report of a failure.
    pub fn describe(&self) -> String {
        let server = &self.configs[0][0].server;
        let groups: Vec<String> = self
            .groups
            .iter()
            .map(|group| {
                let kind = if group.addresses { "addresses" } else { "services" };
                format!("{} of {kind} {:b} on {:?}", group.id, group.members, group.candidates)
            })
            .collect();
        let clocks: Vec<i64> = self.clocks.iter().map(Clock::fast).collect();
        let timings: Vec<String> = self.timings.iter().map(|timing| format!("{:?} x {}", timing.interval, timing.count)).collect();
        let nodes = self.configs[0][0].nodes.iter().enumerate();
        let far: Vec<String> = nodes
            .filter(|(index, _)| self.far[*index])
            .map(|(index, node)| format!("n{index} {:?} x {}", node.pace.interval, node.pace.count))
            .collect();
        format!(
            "seed {}: {} nodes, timings {timings:?}, far {far:?}, {:?} {:?} {:?} after {:?}, latency {} us, always {:?}, clocks {clocks:?} ppm{}{}{}{}\n  groups: {}",
            self.seed,
            self.count(),
            server.quorum,
            server.takeover,
            server.failback,
            server.failback_delay,
            self.latency / 1_000,
            self.always,
            if self.sealed { ", sealed" } else { "" },
            if self.pair { ", pair" } else { "" },
            if self.changes_members() { format!(", members {:?}", self.memberships) } else { String::new() },
            if self.upgrades() { format!(", upgrade {:?}", self.speeches) } else { String::new() },
            groups.join("\n          ")
        )
    }
}

/// The longest lease of one configuration, roughly: what the core adds for drift is left out.
pub fn longest(config: &Config) -> Duration {
    match config.server.takeover {
        Takeover::Prompt => config.longest_lease(),
        Takeover::Strict => config.longest_lease() + config.server.stop_timeout,
    }
}

/// Draws one of some values by weight.
pub fn weighted(random: &mut ChaCha8Rng, choices: &[(usize, u32)]) -> usize {
    let total: u32 = choices.iter().map(|(_, weight)| weight).sum();
    let mut left = random.random_range(0..total);
    for (value, weight) in choices {
        if left < *weight {
            return *value;
        }
        left -= weight;
    }
    unreachable!("the weights add up to the total")
}

/// A clock of a machine that has been up for a while, up to 1 % wrong.
pub fn clock(random: &mut ChaCha8Rng) -> Clock {
    let fast = match random.random_range(0..4) {
        0 => -10_000,
        1 => 10_000,
        _ => random.random_range(-10_000..=10_000),
    };
    Clock::new(0, random.random_range(SECOND..5_000 * SECOND), fast)
}

pub fn name(index: usize) -> String {
    format!("node{}", index + 1)
}

fn timings(count: usize, random: &mut ChaCha8Rng) -> Vec<Timing> {
    let versions = if random.random_bool(0.35) { random.random_range(2..=3) } else { 1 };
    let draw = |random: &mut ChaCha8Rng| {
        // Short intervals cost the most to simulate: rarer, and in small clusters.
        let intervals: &[(usize, u32)] = match count {
            0..=3 => &[(10, 8), (20, 8), (50, 14), (100, 35), (200, 12), (500, 12), (1000, 11)],
            4 | 5 => &[(20, 5), (50, 15), (100, 40), (200, 15), (500, 13), (1000, 12)],
            _ => &[(100, 40), (200, 25), (500, 20), (1000, 15)],
        };
        let interval = weighted(random, intervals);
        let count = match random.random_range(0..4) {
            0 => 3,
            1 => 15,
            _ => random.random_range(3..=30),
        };
        Timing { interval: Duration::from_millis(interval as u64), count }
    };
    let first = draw(random);
    let mut timings = vec![first];
    while timings.len() < versions {
        // Half of the changes are moderate; the others go from anything to anything.
        let other = if random.random_bool(0.5) { Timing { count: random.random_range(3..=30), ..first } } else { draw(random) };
        timings.push(other);
    }
    timings
}

/// One-way travel time: a local network mostly, a campus or a WAN where the lease is long enough for it.
fn latency(interval: Duration, lease: Duration, random: &mut ChaCha8Rng) -> Instant {
    let micros = match random.random_range(0..10) {
        0..6 => random.random_range(30..300),
        6..9 => random.random_range(500..2_000),
        _ => random.random_range(3_000..20_000),
    };
    // A round trip of twice the base must leave the lease mostly intact.
    let bound = (lease.as_micros() / 40).min(interval.as_micros() / 2) as u64;
    u64::from(micros as u32).min(bound.max(30)) * 1_000
}

fn plans(count: usize, layouts: usize, random: &mut ChaCha8Rng) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    let groups = weighted(random, &[(1, 30), (2, 35), (3, 25), (4, 10)]);
    // One kind per home: a group of both kinds would have to be treated like a slow one.
    let mut kinds: Vec<Kind> = (0..count).map(|_| if random.random_bool(0.75) { Kind::Address } else { Kind::Service }).collect();
    for group in 0..groups {
        let home = random.random_range(0..count);
        let single = group > 0 && random.random_bool(0.15);
        let base = if single { vec![home] } else { candidates(home, count, random) };
        if group == 0 {
            kinds[home] = Kind::Address;
        }
        let kind = kinds[home];
        let members = random.random_range(1..=3);
        for member in 0..members {
            let mut by_layout = vec![base.clone()];
            while by_layout.len() < layouts {
                // Another layout takes a member out of its group by giving it other candidates.
                let other = !single && random.random_bool(0.5);
                by_layout.push(if other { candidates(home, count, random) } else { base.clone() });
            }
            plans.push(Plan { resource: ResourceId { kind, nickname: format!("r{group}{member}") }, candidates: by_layout });
        }
    }
    plans
}

fn candidates(home: usize, count: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut others: Vec<usize> = (0..count).filter(|node| *node != home).collect();
    let wanted = random.random_range(1..=others.len().min(MOST_BACKUPS));
    let mut chosen = vec![home];
    for _ in 0..wanted {
        chosen.push(others.swap_remove(random.random_range(0..others.len())));
    }
    // Backups stand in the order of the nodes in the file.
    chosen[1..].sort_unstable();
    chosen
}

/// The paces of the nodes that are far away: in one seed of five, one node or some.
fn far(seed: u64, count: usize) -> Vec<Option<Pace>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(5);
    if !random.random_bool(0.2) {
        return vec![None; count];
    }
    let share = [0.2, 0.5, 1.0][random.random_range(0..3)];
    let sure = random.random_range(0..count);
    (0..count)
        .map(|node| {
            let chosen = random.random_bool(share) || node == sure;
            let interval = Duration::from_millis([100, 200, 500, 1000][random.random_range(0..4)]);
            // Six seconds at the least, which a stall or two do not fill.
            let least = 6_000 / interval.as_millis() as u32;
            chosen.then(|| Pace { interval, count: least + random.random_range(0..10) })
        })
        .collect()
}

/// A moment scaled to a lease: some milliseconds at the least.
pub fn part(lease: Duration, from: f64, to: f64, random: &mut ChaCha8Rng) -> Instant {
    let nanos = lease.as_nanos() as f64 * random.random_range(from..to);
    (nanos as Instant).max(2 * MILLISECOND)
}
