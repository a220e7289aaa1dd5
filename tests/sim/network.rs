//! The network between the machines: latency, and everything that can go wrong with a datagram.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    clock::{Instant, MILLISECOND},
    stream::Stream,
};

/// What afflicts all datagrams for a while, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Impairment {
    /// Lost.
    pub loss: u32,
    /// Delivered twice.
    pub duplicate: u32,
    /// Held up, for up to `longest`.
    pub delay: u32,
    /// Longest hold-up.
    pub longest: Instant,
}

impl Impairment {
    fn or(self, other: Self) -> Self {
        Self {
            loss: self.loss.max(other.loss),
            duplicate: self.duplicate.max(other.duplicate),
            delay: self.delay.max(other.delay),
            longest: self.longest.max(other.longest),
        }
    }
}

/// A fault of the network in force.
#[derive(Clone, Debug)]
pub enum Disturbance {
    /// Nothing gets from the first to the second machine of each pair.
    Block(Vec<(usize, usize)>),
    /// Everything suffers.
    Impair(Impairment),
}

/// How one datagram fares: when it arrives, and when once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Travel time of each copy that arrives.
    pub arrivals: [Option<Instant>; 2],
}

/// All links.
pub struct Network {
    nodes: usize,
    /// One-way travel time by sender and receiver.
    base: Vec<Instant>,
    longest_trip: Instant,
    /// How much the travel time of one datagram differs from the next.
    jitter: u32,
    /// What always holds, also when no fault is in force.
    always: Impairment,
    /// By sender and receiver: the links that are streams.
    streams: Vec<Option<Stream>>,
    disturbances: Vec<(u32, Disturbance)>,
    blocked: Vec<bool>,
    current: Impairment,
    random: ChaCha8Rng,
}

impl Network {
    /// A network of so many machines with one-way travel times from `latency` to twice that. The links of those that are
    /// far away are streams, whose times are drawn from `far_random`.
    pub fn new(
        nodes: usize,
        latency: Instant,
        always: Impairment,
        far: &[bool],
        mut random: ChaCha8Rng,
        mut far_random: ChaCha8Rng,
    ) -> Self {
        let base: Vec<Instant> = (0..nodes * nodes).map(|_| random.random_range(latency..=latency * 2)).collect();
        let streams: Vec<Option<Stream>> = (0..nodes * nodes)
            .map(|link| (link / nodes != link % nodes && (far[link / nodes] || far[link % nodes])).then(|| Stream::new(&mut far_random)))
            .collect();
        let jitter = u32::try_from(latency / 2).unwrap_or(u32::MAX).max(1);
        let near = base.iter().max().copied().unwrap_or(0) + u64::from(jitter);
        Self {
            nodes,
            longest_trip: streams.iter().flatten().map(Stream::base).fold(near, Instant::max),
            base,
            streams,
            jitter,
            always,
            disturbances: Vec::new(),
            blocked: vec![false; nodes * nodes],
            current: always,
            random,
        }
    }

    /// The longest undisturbed travel time.
    pub fn longest_trip(&self) -> Instant {
        self.longest_trip
    }

    /// A fault begins.
    pub fn disturb(&mut self, fault: u32, disturbance: Disturbance) {
        self.disturbances.push((fault, disturbance));
        self.recompute();
    }

    /// A fault ends.
    pub fn heal(&mut self, fault: u32) {
        self.disturbances.retain(|(number, _)| *number != fault);
        self.recompute();
    }

    /// A fault of the network is in force.
    pub fn is_disturbed(&self) -> bool {
        !self.disturbances.is_empty()
    }

    /// Whether datagrams pass from one machine to another at all.
    pub fn passes(&self, from: usize, to: usize) -> bool {
        !self.blocked[from * self.nodes + to]
    }

    /// The connections of a machine break.
    pub fn reset(&mut self, node: usize, now: Instant) {
        for link in 0..self.streams.len() {
            if (link / self.nodes == node || link % self.nodes == node)
                && let Some(stream) = &mut self.streams[link]
            {
                stream.reset(now, &mut self.random);
            }
        }
    }

    /// Whether what arrives was lost with its connection.
    pub fn has_lost(&self, from: usize, to: usize, sent: Instant) -> bool {
        self.streams[from * self.nodes + to].is_some_and(|stream| stream.has_lost(sent))
    }

    /// Draws the fate of one datagram.
    pub fn send(&mut self, from: usize, to: usize, now: Instant) -> Fate {
        let link = from * self.nodes + to;
        if self.streams[link].is_some() {
            return self.send_by_stream(link, now);
        }
        if self.blocked[link] {
            return Fate { arrivals: [None, None] };
        }
        let travel = self.base[link] + u64::from(self.random.random_range(0..self.jitter));
        if self.current == Impairment::default() {
            return Fate { arrivals: [Some(travel), None] };
        }
        let first = if self.hits(self.current.loss) { None } else { Some(travel + self.hold_up()) };
        let second = if self.hits(self.current.duplicate) { Some(travel + self.hold_up() + MILLISECOND / 10) } else { None };
        Fate { arrivals: [first, second] }
    }

    fn send_by_stream(&mut self, link: usize, now: Instant) -> Fate {
        let held = self.hold_up();
        let Some(stream) = &mut self.streams[link] else { return Fate { arrivals: [None, None] } };
        if self.blocked[link] {
            // Nothing is acknowledged: the connection is given up, and what was said meanwhile with it.
            stream.reset(now, &mut self.random);
            return Fate { arrivals: [None, None] };
        }
        let loss = if self.disturbances.is_empty() { 0 } else { self.current.loss };
        Fate { arrivals: [stream.send(now, loss, held, &mut self.random), None] }
    }

    fn hits(&mut self, millionths: u32) -> bool {
        millionths > 0 && self.random.random_range(0..1_000_000) < millionths
    }

    fn hold_up(&mut self) -> Instant {
        if self.hits(self.current.delay) { self.random.random_range(0..=self.current.longest) } else { 0 }
    }

    fn recompute(&mut self) {
        self.blocked.fill(false);
        self.current = self.always;
        for (_, disturbance) in &self.disturbances {
            match disturbance {
                Disturbance::Block(pairs) => {
                    for (from, to) in pairs {
                        self.blocked[from * self.nodes + to] = true;
                    }
                }
                Disturbance::Impair(impairment) => self.current = self.current.or(*impairment),
            }
        }
    }
}
