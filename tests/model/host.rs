//! One machine: the real core, the executor it orders about, and a clock that runs a little wrong.

use std::{
    hash::{Hash, Hasher},
    time::Duration,
};

use drcm::{
    cluster::Node,
    model::{BootId, Electorate, Generation, NodeId, Outcome, Tag, Time, VoteNote},
};

/// True time, in microseconds since the beginning.
pub type Instant = u64;

/// Time of a clock at the beginning: not zero, so that nothing is true by accident.
const BEGINNING: u64 = 1_000_000_000;

/// A clock whose rate is wrong by parts of a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Its seconds in a thousand true seconds.
    pub rate: u64,
}

impl Clock {
    /// What it shows.
    pub fn local(self, now: Instant) -> Time {
        Time((BEGINNING + now) * self.rate)
    }

    /// When it will show that; rounded up.
    pub fn instant(self, local: Time) -> Instant {
        local.0.div_ceil(self.rate).saturating_sub(BEGINNING)
    }

    /// The true time it takes to count a span; rounded down.
    pub fn takes(self, span: Duration) -> Instant {
        u64::try_from(span.as_nanos()).expect("leases are short") / self.rate
    }
}

/// The executor of the one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Executor {
    /// Up, or partly so.
    pub up: bool,
    /// The end of the lease as it was told, by the clock of the machine: the kernel ends an address then.
    pub until: Time,
    /// An order that is not done yet, and how it will end.
    pub pending: Option<(Generation, Outcome)>,
}

/// One machine. The daemon on it may be dead; the executor's last state stays.
#[derive(Clone)]
pub struct Host {
    pub node: Option<Node>,
    /// Number of the daemon's life.
    pub life: u8,
    pub executor: Executor,
    /// Its newest heartbeat.
    pub said: Tag,
    /// The voters that it has noted on its disk.
    pub noted: Option<Electorate>,
    /// What it has noted on its disk about votes.
    pub votes: Option<Vec<VoteNote>>,
    digest: u128,
}

impl Host {
    pub fn new(node: Node, life: u8) -> Self {
        let noted = Some(node.electorate().clone());
        Self { node: Some(node), life, executor: Executor::default(), said: Tag(0), noted, votes: None, digest: 0 }
    }

    /// A machine that has yet to be started for the first time.
    pub fn dark() -> Self {
        Self { node: None, life: 0, executor: Executor::default(), said: Tag(0), noted: None, votes: None, digest: 0 }
    }

    /// The group is up and its lease has not been declared over.
    pub fn owns(&self, clock: Clock, now: Instant) -> bool {
        self.executor.up && self.executor.until > clock.local(now)
    }

    /// By what is on its disk, it has this vote, which is its own or not.
    pub fn has_vote(&self, vote: NodeId, own: bool) -> bool {
        self.votes.iter().flatten().find(|note| note.vote == vote).map_or(own, |note| note.held)
    }

    /// A stop is ordered and not done.
    pub fn is_stopping(&self) -> bool {
        matches!(self.executor.pending, Some((_, Outcome::Stopped)))
    }

    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// To be called when it has changed.
    pub fn seal(&mut self) {
        self.digest = digest(&(&self.node, self.life, self.executor, self.said, &self.noted, &self.votes));
    }
}

/// The boot of a node's life.
pub fn boot(life: u8) -> BootId {
    BootId(100 + u64::from(life))
}

/// 128 bits, so that two states of a search never share one by chance.
pub fn digest(what: &impl Hash) -> u128 {
    let mut both = Both(0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03);
    what.hash(&mut both);
    u128::from(both.0) << 64 | u128::from(both.1)
}

/// Two multiply-and-fold hashes side by side. They differ in their multipliers and in how a word enters.
struct Both(u64, u64);

impl Hasher for Both {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = fold(self.0 ^ word, 0xa076_1d64_78bd_642f);
        self.1 = fold(self.1.rotate_left(23).wrapping_add(word) ^ 0x8ebc_6af0_9c88_c6e3, 0xe703_7ed1_a0b4_28db);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Both halves of the product, so that no bit of the word is lost.
fn fold(word: u64, factor: u64) -> u64 {
    let product = u128::from(word) * u128::from(factor);
    product as u64 ^ (product >> 64) as u64
}
