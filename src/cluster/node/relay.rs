//! Clusters with nodes that are no voters: those talk to voters only, and learn from them how their fellows are. What is
//! learned that way decides who asks for a group and when, never who has it: grants pass between a node and each voter
//! directly, and a voter takes nobody's word on another node.

use std::{collections::BTreeSet, time::Duration};

use super::{
    super::{
        ENTRIES_PER_MESSAGE,
        member::{Hearsay, Member},
        relay::{Book, Told},
        voter::{index, micros},
    },
    Node,
};
use crate::model::{Claims, Digest, Fact, Late, Message, NodeId, Relayed, Roster, Time, Version, WantRelayed, WantRoster};

/// Late nodes that a digest names at most.
const LATE_PER_DIGEST: usize = 60;
/// Voters whose word counts at most; more would tell nothing new.
const VOUCHERS: usize = 64;

/// What is relayed here, and what is heard that way.
#[derive(Clone, Debug, Hash)]
pub(super) enum Relays {
    /// All nodes are voters: everyone hears everyone.
    None,
    /// A voter among nodes that are none.
    Tells {
        book: Book,
        /// Places of members whose new list has to be passed on.
        lists: Vec<usize>,
    },
    /// No voter.
    Told {
        /// By voter.
        by: Vec<Told>,
        /// The voters that were alive at the last look, one bit each: their word counts.
        live: u64,
    },
}

impl Relays {
    pub(super) fn new(is_voter: bool, voters: usize, nodes: usize) -> Self {
        match (is_voter, nodes > voters) {
            (_, false) => Self::None,
            (true, true) => Self::Tells { book: Book::default(), lists: Vec::new() },
            (false, true) => Self::Told { by: vec![Told::default(); voters.min(VOUCHERS)], live: 0 },
        }
    }
}

impl Node {
    /// Whether heartbeats pass between this node and that one.
    pub(super) fn talks_to(&self, peer: NodeId) -> bool {
        match self.relays {
            Relays::None | Relays::Tells { .. } => true,
            Relays::Told { .. } => self.is_voter(peer),
        }
    }

    fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node)
    }

    /// The voters whose word on others counts, one bit each.
    pub(super) fn live_voters(&self) -> u64 {
        match self.relays {
            Relays::None | Relays::Tells { .. } => 0,
            Relays::Told { live, .. } => live,
        }
    }

    /// Looks which voters are alive.
    pub(super) fn watch_voters(&mut self, now: Time) {
        let Relays::Told { live, .. } = &mut self.relays else { return };
        let alive = |voter: &NodeId| self.members.iter().any(|member| member.node == *voter && member.alive(now));
        *live = self.voters.iter().take(VOUCHERS).enumerate().filter(|(_, voter)| alive(voter)).fold(0, |live, (at, _)| live | 1 << at);
    }

    /// Notes what is news about nodes that are no voters, and tells it. `greeted`: those that a heartbeat goes to now.
    pub(super) fn relay(&mut self, greeted: &[NodeId], now: Time) {
        let Relays::Tells { book, lists } = &mut self.relays else { return };
        let (mut book, lists) = (std::mem::take(book), std::mem::take(lists));
        for (place, member) in self.members.iter().enumerate().filter(|(_, member)| !self.voters.contains(&member.node)) {
            if let Some(fact) = member.fact(now) {
                book.note(place, fact);
            }
        }
        for place in lists {
            self.pass_on(place);
        }
        let news = book.news(!greeted.is_empty(), |place| self.age_us(place, now));
        if !news.is_empty() {
            let listeners: Vec<NodeId> = self.members.iter().map(|member| member.node).filter(|node| !self.is_voter(*node)).collect();
            for listener in listeners {
                news.iter().for_each(|part| self.send(listener, Message::Roster(part.clone())));
            }
        }
        let late = if greeted.is_empty() { Vec::new() } else { self.late(now) };
        for listener in greeted.iter().filter(|node| !self.voters.contains(node)).copied().collect::<Vec<_>>() {
            self.send(listener, Message::Digest(Digest { began: book.began(), roster: book.version(), late: late.clone() }));
        }
        if let Relays::Tells { book: kept, .. } = &mut self.relays {
            *kept = book;
        }
    }

    fn age_us(&self, place: usize, now: Time) -> u64 {
        self.members.get(place).and_then(Member::last_heard).map_or(u64::MAX, |heard| micros(now.since(heard)))
    }

    /// Living nodes whose heartbeat is overdue.
    fn late(&self, now: Time) -> Vec<Late> {
        let overdue = |member: &Member| (member.between.interval * 2).max(member.between.silence / 8);
        let mut late: Vec<(Duration, NodeId)> = self
            .members
            .iter()
            .filter(|member| !self.voters.contains(&member.node) && member.alive(now))
            .filter_map(|member| Some((member, now.since(member.last_heard()?))))
            .filter(|(member, age)| *age > overdue(member))
            .map(|(member, age)| (age, member.node))
            .collect();
        late.sort_unstable_by(|a, b| b.cmp(a));
        late.truncate(LATE_PER_DIGEST);
        late.into_iter().map(|(age, node)| Late { node, age_us: micros(age) }).collect()
    }

    /// A node has a new list: whoever is a candidate of the same groups, and cannot hear it, is told at once.
    pub(super) fn list_to_pass_on(&mut self, place: usize) {
        let is_voter = self.members.get(place).is_none_or(|member| self.voters.contains(&member.node));
        if let Relays::Tells { lists, .. } = &mut self.relays
            && !is_voter
        {
            lists.push(place);
        }
    }

    fn pass_on(&mut self, place: usize) {
        let Some(member) = self.members.get(place) else { return };
        let node = member.node;
        let fellows: BTreeSet<NodeId> = self
            .config
            .groups
            .iter()
            .filter(|group| group.is_leased() && group.candidates.contains(&node))
            .flat_map(|group| group.candidates.iter().copied())
            .filter(|other| *other != node && !self.voters.contains(other))
            .collect();
        for fellow in fellows {
            self.send_relayed(fellow, place);
        }
    }

    fn send_relayed(&mut self, to: NodeId, place: usize) {
        let Some(member) = self.members.get(place) else { return };
        let Some(boot) = member.boot() else { return };
        let (node, version, total) = (member.node, member.version(), index(member.list().len()));
        let parts: Vec<Claims> = member
            .list()
            .chunks(ENTRIES_PER_MESSAGE)
            .enumerate()
            .map(|(part, entries)| Claims { version, first: index(part * ENTRIES_PER_MESSAGE), total, entries: entries.to_vec() })
            .collect();
        for claims in parts {
            self.send(to, Message::Relayed(Relayed { node, boot, claims }));
        }
    }

    /// A listener has not come as far as we have.
    pub(super) fn roster_wanted(&mut self, from: NodeId, want: WantRoster, now: Time) {
        let Relays::Tells { book, .. } = &self.relays else { return };
        for part in book.since(want.have, |place| self.age_us(place, now)) {
            self.send(from, Message::Roster(part));
        }
    }

    /// A listener lacks a list.
    pub(super) fn list_wanted(&mut self, from: NodeId, want: WantRelayed) {
        if !matches!(self.relays, Relays::Tells { .. }) {
            return;
        }
        let has = |member: &Member| member.node == want.node && member.version() >= want.version;
        if let Some(place) = self.members.iter().position(has) {
            self.send_relayed(from, place);
        }
    }

    /// What a voter told, if its word counts here.
    fn told_by(&mut self, from: NodeId) -> Option<(usize, &mut Told)> {
        let voter = self.voter_index(from)?;
        let Relays::Told { by, .. } = &mut self.relays else { return None };
        Some((voter, by.get_mut(voter)?))
    }

    /// A voter has begun another life: what the one before told is void.
    pub(super) fn forget_told(&mut self, from: NodeId) {
        self.roster_begins(from, Version(0));
    }

    /// A voter's process has taken the place of another: it may not know whom that one called alive.
    fn roster_begins(&mut self, from: NodeId, began: Version) {
        let Some((voter, told)) = self.told_by(from) else { return };
        *told = Told::beginning(began);
        self.members.iter_mut().for_each(|member| member.vouched_by(voter, false));
    }

    /// The roster of a process that takes the place of another: its numbers come after any the other may have used.
    pub(super) fn begin_roster_anew(&mut self) {
        if let Relays::Tells { book, .. } = &mut self.relays {
            *book = Book::beginning(Version(((self.tag.0 & 0xffff_ffff) + 1) << 16));
        }
    }

    /// A voter says that those it calls alive still are.
    pub(super) fn digest(&mut self, from: NodeId, digest: &Digest, now: Time) {
        let Some((_, told)) = self.told_by(from) else { return };
        if told.began < digest.began {
            self.roster_begins(from, digest.began);
        }
        let Some((_, told)) = self.told_by(from) else { return };
        if (told.began, told.have) != (digest.began, digest.roster) {
            // Somebody it no longer calls alive may still be so called here.
            let have = told.have;
            if have < digest.roster {
                self.send(from, Message::WantRoster(WantRoster { have }));
            }
            return;
        }
        let mut wanted = Vec::new();
        let vouched: Vec<_> = told.vouched().collect();
        for (place, boot) in vouched {
            let Some(member) = self.members.get_mut(place).filter(|member| member.boot() == Some(boot)) else { continue };
            let late = digest.late.iter().find(|late| late.node == member.node);
            member.refresh(now.before(late.map_or(Duration::ZERO, |late| Duration::from_micros(late.age_us))));
            if let Some(version) = member.list_missing() {
                wanted.push((member.node, version));
            }
        }
        for (node, version) in wanted {
            self.want_relayed(from, node, version);
        }
    }

    /// A voter says what has changed.
    pub(super) fn roster(&mut self, from: NodeId, roster: &Roster, now: Time) {
        let Some((_, told)) = self.told_by(from) else { return };
        if told.began < roster.began {
            self.roster_begins(from, roster.began);
        }
        let Some((voter, told)) = self.told_by(from) else { return };
        if roster.began < told.began {
            return;
        }
        if roster.from > told.have {
            let have = told.have;
            self.send(from, Message::WantRoster(WantRoster { have }));
            return;
        }
        if roster.to <= told.have {
            return;
        }
        told.have = roster.to;
        for fact in &roster.facts {
            self.told(from, voter, fact, now);
        }
    }

    fn told(&mut self, from: NodeId, voter: usize, fact: &Fact, now: Time) {
        if self.is_voter(fact.node) {
            return;
        }
        let Some(place) = self.members.iter().position(|member| member.node == fact.node) else { return };
        let heard = now.before(Duration::from_micros(fact.age_us));
        let member = &mut self.members[place];
        let hearsay = member.hear_of(fact, heard);
        let vouched = fact.alive && hearsay != Hearsay::Over;
        member.vouched_by(voter, vouched);
        if let Some((_, told)) = self.told_by(from) {
            told.vouches(place, vouched.then_some(fact.boot));
        }
        match hearsay {
            Hearsay::Over | Hearsay::Known => {}
            Hearsay::Emptied => self.list_learned(place, now),
            Hearsay::ListMissing(version) => self.want_relayed(from, fact.node, version),
        }
    }

    /// Asks for the list of a node that is a candidate of the same groups; the others' lists are nothing to us.
    fn want_relayed(&mut self, voter: NodeId, node: NodeId, version: Version) {
        let me = self.me;
        if self.config.groups.iter().any(|group| group.candidates.contains(&me) && group.candidates.contains(&node)) {
            self.send(voter, Message::WantRelayed(WantRelayed { node, version }));
        }
    }

    /// A voter passes on a list.
    pub(super) fn relayed(&mut self, from: NodeId, relayed: &Relayed, now: Time) {
        if self.told_by(from).is_none() || self.is_voter(relayed.node) {
            return;
        }
        let same = |member: &Member| member.node == relayed.node && member.boot() == Some(relayed.boot);
        let Some(place) = self.members.iter().position(same) else { return };
        if self.members[place].learn(&relayed.claims) {
            self.list_learned(place, now);
        }
    }
}
