//! What this node knows of one peer: whether it lives, what it says of itself, what it claims.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{ENTRIES_PER_LIST, voter::index};
use crate::model::{
    Ballot, BootId, Claims, Electorate, ElectorateId, Entry, Fact, Fingerprint, GroupId, Heartbeat, NodeId, NodeState, Stance, Tag, Time,
    Version,
};

/// Boots of a peer that are over; a late datagram of one must not bring it back.
const REMEMBERED_BOOTS: usize = 8;

/// How this node and a peer talk.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Between {
    /// Time between heartbeats.
    pub interval: Duration,
    /// Silence that makes the peer dead.
    pub silence: Duration,
}

/// One peer.
#[derive(Clone, Debug, Hash)]
pub struct Member {
    pub node: NodeId,
    pub between: Between,
    /// When the next regular heartbeat to it is due, where it is talked to less often than others.
    next_heartbeat: Time,
    boot: Option<BootId>,
    old_boots: VecDeque<BootId>,
    last_heard: Option<Time>,
    /// Announced as alive; kept apart from the clock so that each change is reported once.
    pub known_alive: bool,
    left: bool,
    tag: Option<Tag>,
    state: NodeState,
    hears_us: bool,
    /// Of a version that does not keep what operators want.
    ignores_wishes: bool,
    ballot: Option<Ballot>,
    pub fingerprint: Option<Fingerprint>,
    /// The voters it counts, as it last said.
    pub electorate: Option<(ElectorateId, Arc<Electorate>)>,
    /// They are others than ours: its vote does not count here.
    pub other_voters: bool,
    /// Alive, eligible and quorate without a break since then.
    pub well_since: Option<Time>,
    version: Version,
    list: Vec<Entry>,
    assembling: Option<Assembly>,
    /// Last heard of through voters, not from itself.
    by_hearsay: bool,
    /// The voters that call it alive, one bit each.
    vouchers: u64,
    /// The list that it claims as far as voters tell, when that has entries.
    claims: Version,
}

/// A list of which parts are missing.
#[derive(Clone, Debug, Hash)]
struct Assembly {
    version: Version,
    total: usize,
    /// By position. Grows with what arrives, never on the word of a total.
    entries: BTreeMap<usize, Entry>,
}

/// What to do about a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// Too old to mean anything.
    Stale,
    /// It names a list that has not arrived.
    ListMissing,
    /// It renews the list at hand.
    Renews,
}

/// What to do about a voter's word on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearsay {
    /// It speaks of an incarnation that is over.
    Over,
    /// Nothing more is to be learned.
    Known,
    /// It claims nothing any more.
    Emptied,
    /// It claims this list, which has not arrived.
    ListMissing(Version),
}

impl Member {
    pub fn new(node: NodeId, between: Between) -> Self {
        Self {
            node,
            between,
            next_heartbeat: Time::ZERO,
            boot: None,
            old_boots: VecDeque::new(),
            last_heard: None,
            known_alive: false,
            left: false,
            tag: None,
            state: NodeState::default(),
            hears_us: false,
            ignores_wishes: false,
            ballot: None,
            fingerprint: None,
            electorate: None,
            other_voters: false,
            well_since: None,
            version: Version(0),
            list: Vec::new(),
            assembling: None,
            by_hearsay: false,
            vouchers: 0,
            claims: Version(0),
        }
    }

    /// Heard lately, and has not said goodbye.
    pub fn alive(&self, now: Time) -> bool {
        self.alive_within(now, self.between.silence)
    }

    /// Heard within this time, and has not said goodbye.
    pub fn alive_within(&self, now: Time, patience: Duration) -> bool {
        !self.left && self.last_heard.is_some_and(|heard| heard + patience > now)
    }

    /// When it will count as dead if it stays silent.
    pub fn dies_at(&self) -> Option<Time> {
        if self.left { None } else { self.last_heard.map(|heard| heard + self.between.silence) }
    }

    /// Whether a heartbeat to it is due now, when they are this far apart; if so, the next one is set.
    pub fn is_due(&mut self, interval: Duration, now: Time) -> bool {
        let due = self.next_heartbeat <= now;
        if due {
            let next = self.next_heartbeat + interval;
            self.next_heartbeat = if next > now { next } else { now + interval };
        } else {
            // It may be wanted sooner than it was when this was set.
            self.next_heartbeat = self.next_heartbeat.min(now + interval);
        }
        due
    }

    pub fn last_heard(&self) -> Option<Time> {
        self.last_heard
    }

    /// It said goodbye.
    pub fn has_left(&self) -> bool {
        self.left
    }

    pub fn boot(&self) -> Option<BootId> {
        self.boot
    }

    pub fn state(&self) -> NodeState {
        self.state
    }

    /// Touch with it is two-way. One that only voters hear need not hear us.
    pub fn hears_us(&self) -> bool {
        self.hears_us || self.by_hearsay
    }

    /// Whether it keeps what operators want: an older version would send home what was moved to it, again and again.
    pub fn knows_wishes(&self) -> bool {
        !self.ignores_wishes
    }

    /// What it last said of votes.
    pub fn ballot(&self) -> Option<&Ballot> {
        self.ballot.as_ref()
    }

    /// It answers with this vote; one that knows nothing of lent votes, with its own.
    pub fn has_vote(&self, vote: NodeId) -> bool {
        match &self.ballot {
            None => vote == self.node,
            Some(ballot) => ballot.votes.iter().any(|held| held.vote == vote),
        }
    }

    pub fn list(&self) -> &[Entry] {
        &self.list
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// What it says of a group.
    pub fn stance(&self, group: GroupId) -> Option<Stance> {
        self.list.binary_search_by_key(&group, |entry| entry.group).ok().map(|at| self.list[at].stance)
    }

    /// Notes the sender's incarnation; false when that one is over.
    pub fn meet(&mut self, boot: BootId) -> bool {
        if self.boot == Some(boot) {
            return true;
        }
        if self.old_boots.contains(&boot) {
            return false;
        }
        if let Some(old) = self.boot {
            self.old_boots.push_back(old);
            if self.old_boots.len() > REMEMBERED_BOOTS {
                self.old_boots.pop_front();
            }
        }
        let old_boots = std::mem::take(&mut self.old_boots);
        *self = Self {
            boot: Some(boot),
            old_boots,
            known_alive: self.known_alive,
            fingerprint: self.fingerprint,
            // Leases may rest on what it granted in its life before.
            electorate: self.electorate.take(),
            other_voters: self.other_voters,
            ..Self::new(self.node, self.between)
        };
        true
    }

    /// Notes a heartbeat.
    pub fn hear(&mut self, heartbeat: &Heartbeat, now: Time) -> Hearing {
        if self.tag.is_some_and(|tag| tag >= heartbeat.tag) {
            return Hearing::Stale;
        }
        self.tag = Some(heartbeat.tag);
        self.last_heard = Some(now);
        self.by_hearsay = false;
        self.left = heartbeat.state.left;
        self.state = heartbeat.state;
        self.hears_us = heartbeat.hears_you;
        self.ignores_wishes = heartbeat.wishes.is_none();
        self.ballot.clone_from(&heartbeat.ballot);
        if heartbeat.version < self.version {
            return Hearing::Stale;
        }
        if heartbeat.version > self.version {
            if heartbeat.entries > 0 {
                return Hearing::ListMissing;
            }
            self.version = heartbeat.version;
            self.list.clear();
            self.assembling = None;
        }
        Hearing::Renews
    }

    /// Somebody whose word counts says that it lives; not needed where it is heard itself.
    pub fn is_vouched(&self, live_voters: u64) -> bool {
        !self.by_hearsay || self.vouchers & live_voters != 0
    }

    /// A voter calls it alive, or does not.
    pub fn vouched_by(&mut self, voter: usize, vouched: bool) {
        if vouched {
            self.vouchers |= 1 << voter;
        } else {
            self.vouchers &= !(1 << voter);
        }
    }

    /// What a voter tells others of it.
    pub fn fact(&self, now: Time) -> Option<Fact> {
        Some(Fact {
            node: self.node,
            boot: self.boot?,
            alive: self.alive(now),
            age_us: 0,
            tag: self.tag?,
            state: self.state,
            version: self.version,
            entries: index(self.list.len()),
        })
    }

    /// A voter's word on it: it was heard then, and said this. Of two incarnations the one that was heard later lives.
    pub fn hear_of(&mut self, fact: &Fact, heard: Time) -> Hearsay {
        if self.boot != Some(fact.boot) {
            let older = self.boot.is_some() && self.last_heard.is_some_and(|last| last >= heard);
            if older || !self.meet(fact.boot) {
                return Hearsay::Over;
            }
        }
        if self.last_heard.is_none_or(|last| last < heard) {
            self.by_hearsay = true;
            self.last_heard = Some(heard);
        }
        if self.tag.is_none_or(|tag| tag < fact.tag) {
            self.tag = Some(fact.tag);
            self.left = fact.state.left;
            self.state = fact.state;
        }
        if fact.version <= self.version {
            return Hearsay::Known;
        }
        if fact.entries > 0 {
            self.claims = self.claims.max(fact.version);
            return Hearsay::ListMissing(fact.version);
        }
        self.version = fact.version;
        self.list.clear();
        self.assembling = None;
        Hearsay::Emptied
    }

    /// A voter's word that it has been heard since.
    pub fn refresh(&mut self, heard: Time) {
        if self.last_heard.is_none_or(|last| last < heard) {
            self.by_hearsay = true;
            self.last_heard = Some(heard);
        }
    }

    /// The list that voters tell of and that has not arrived.
    pub fn list_missing(&self) -> Option<Version> {
        (self.claims > self.version).then_some(self.claims)
    }

    /// Takes in (a part of) a list; true when a newer list is now complete. Ill-formed parts are ignored.
    pub fn learn(&mut self, claims: &Claims) -> bool {
        let (first, total) = (claims.first as usize, claims.total as usize);
        if claims.version <= self.version || total > ENTRIES_PER_LIST || first + claims.entries.len() > total {
            return false;
        }
        if self.assembling.as_ref().is_some_and(|assembly| assembly.version > claims.version) {
            return false;
        }
        let fresh = || Assembly { version: claims.version, total, entries: BTreeMap::new() };
        let mut assembly = self.assembling.take().filter(|old| old.version == claims.version && old.total == total).unwrap_or_else(fresh);
        assembly.entries.extend((first..).zip(claims.entries.iter().copied()));
        if assembly.entries.len() < total {
            self.assembling = Some(assembly);
            return false;
        }
        let list: Vec<Entry> = assembly.entries.into_values().collect();
        if !list.is_sorted_by(|a, b| a.group < b.group) {
            return false;
        }
        self.version = claims.version;
        self.list = list;
        true
    }

    /// Forgets what a dead peer claimed.
    pub fn bury(&mut self) {
        self.known_alive = false;
        self.hears_us = false;
        self.well_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BETWEEN: Between = Between { interval: Duration::from_millis(100), silence: Duration::from_millis(1500) };

    fn entry(group: u64) -> Entry {
        Entry { group: GroupId(group), stance: Stance::Unable }
    }

    fn part(version: u64, first: u32, total: u32, groups: &[u64]) -> Claims {
        Claims { version: Version(version), first, total, entries: groups.iter().copied().map(entry).collect() }
    }

    #[test]
    fn a_list_is_taken_over_only_when_complete_and_newer() {
        let mut member = Member::new(NodeId(1), BETWEEN);
        assert!(!member.learn(&part(3, 2, 3, &[9])));
        assert!(member.list().is_empty());
        assert!(!member.learn(&part(2, 0, 1, &[4])), "older than the one being assembled");
        assert!(member.learn(&part(3, 0, 3, &[1, 5])));
        assert_eq!(member.list(), [entry(1), entry(5), entry(9)]);
        assert!(!member.learn(&part(2, 0, 1, &[4])));
        assert!(!member.learn(&part(3, 0, 1, &[4])));
    }

    #[test]
    fn ill_formed_parts_change_nothing() {
        let mut member = Member::new(NodeId(1), BETWEEN);
        assert!(!member.learn(&part(1, 2, 2, &[1])));
        assert!(!member.learn(&part(1, 0, u32::MAX, &[1])));
        assert!(!member.learn(&part(1, 0, 2, &[5, 1])), "not ascending");
        assert!(member.list().is_empty());
    }

    #[test]
    fn an_old_boot_stays_old() {
        let mut member = Member::new(NodeId(1), BETWEEN);
        assert!(member.meet(BootId(1)));
        assert!(member.meet(BootId(2)));
        assert!(!member.meet(BootId(1)));
        assert_eq!(member.boot(), Some(BootId(2)));
    }
}
