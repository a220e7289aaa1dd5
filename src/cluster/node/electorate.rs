//! Whose votes count while the voters are being changed: see [`electorate`](super::super::electorate) for the rules.

use std::sync::Arc;

use super::{
    super::{
        electorate::{always_meet, counts, meets_majorities},
        member::Member,
        tenure::Claim,
    },
    Node,
    alone::pair_rules,
};
use crate::model::{Decision, Electorate, ElectorateId, Message, NodeId, Output, Time};

/// Former sets that are remembered at most: as many changes in a row while some node was never there.
const FORMER_SETS: usize = 16;
/// Voters in all sets of an electorate that is told at most: more would not fit a datagram.
const VOTERS_TOLD: usize = 100;

/// What this node counts.
#[derive(Clone, Debug, Hash)]
pub(super) struct Own {
    record: Arc<Electorate>,
    id: ElectorateId,
    /// What a lease needs besides a majority.
    bounds: Vec<Bound>,
}

/// So many of these voters, by number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Bound {
    among: Vec<usize>,
    needed: usize,
}

impl Own {
    /// With the voters of its configuration, after an earlier life that counted `before`.
    pub(super) fn after(before: Option<Electorate>, voters: &[NodeId]) -> Self {
        let mut record = Electorate::new(voters.iter().copied());
        if let Some(before) = before {
            record.new = before.new;
            record.former = before.former;
            record.former.push(before.voters);
            record.former.retain(|former| *former != record.voters);
            record.tidy();
        }
        Self::of(record)
    }

    fn of(record: Electorate) -> Self {
        Self { id: record.id(), record: Arc::new(record), bounds: Vec::new() }
    }

    pub(super) fn id(&self) -> ElectorateId {
        self.id
    }

    pub(super) fn record(&self) -> &Electorate {
        &self.record
    }

    /// Somebody may count former voters still.
    pub(super) fn is_changing(&self) -> bool {
        !self.record.former.is_empty()
    }

    /// Every node has been heard with these voters: nobody counts others.
    pub(super) fn is_settled(&self) -> bool {
        !self.record.new && self.record.former.is_empty()
    }
}

impl Electorate {
    /// Each set once, the latest last; of too many the oldest are forgotten.
    fn tidy(&mut self) {
        let mut seen: Vec<Vec<NodeId>> = Vec::new();
        for mut former in std::mem::take(&mut self.former) {
            former.sort_unstable();
            if !seen.contains(&former) {
                seen.push(former);
            }
        }
        seen.drain(..seen.len().saturating_sub(FORMER_SETS));
        self.former = seen;
    }

    fn size(&self) -> usize {
        self.voters.len() + self.former.iter().map(Vec::len).sum::<usize>()
    }
}

impl Node {
    /// A peer named what it counts.
    pub(super) fn electorate_named(&mut self, position: usize, named: Option<ElectorateId>) {
        let own = &self.electorate;
        // An older version says nothing: it is taken to count what we count.
        let id = named.unwrap_or(own.id);
        if self.members[position].electorate.as_ref().is_some_and(|(known, _)| *known == id) {
            return;
        }
        if id == own.id {
            let record = own.record.clone();
            return self.electorate_learned(position, id, record);
        }
        // The most frequent ones need not be asked for.
        let plain = |new| Electorate { voters: own.record.voters.clone(), former: Vec::new(), new };
        if let Some(record) = [plain(false), plain(true)].into_iter().find(|record| record.id() == id) {
            return self.electorate_learned(position, id, Arc::new(record));
        }
        self.send(self.members[position].node, Message::WantElectorate);
    }

    /// A peer wants to know what we count.
    pub(super) fn electorate_wanted(&mut self, from: NodeId) {
        if self.electorate.record.size() <= VOTERS_TOLD {
            self.send(from, Message::Electorate(Electorate::clone(&self.electorate.record)));
        }
    }

    /// A peer says what it counts.
    pub(super) fn electorate_told(&mut self, position: usize, mut record: Electorate) {
        record.tidy();
        let id = record.id();
        self.electorate_learned(position, id, Arc::new(record));
    }

    fn electorate_learned(&mut self, position: usize, id: ElectorateId, record: Arc<Electorate>) {
        self.members[position].electorate = Some((id, record));
        self.rebound();
    }

    /// The voters change hands: what every node has been heard with needs no memory of earlier ones.
    pub(super) fn review_electorate(&mut self) {
        if self.electorate.is_settled() {
            return;
        }
        let own = &self.electorate.record;
        // What a process before this one heard says whom it counts, not where its vote is now.
        let heard = |member: &Member| member.boot().is_some() && member.electorate.is_some();
        let counts_the_same = |member: &Member| heard(member) && self.counts_no_other(member);
        let mut record = Electorate::clone(own);
        if record.new {
            let mut voters = self.members.iter().filter(|member| self.voters.contains(&member.node));
            if !voters.all(counts_the_same) {
                return;
            }
            record.new = false;
            let told =
                self.members.iter().filter_map(|member| member.electorate.as_ref()).flat_map(|(_, told)| told.former.iter().cloned());
            record.former.extend(told);
            record.former.retain(|former| *former != record.voters);
            record.tidy();
        } else if self.members.iter().filter(|member| self.talks_to(member.node)).all(counts_the_same) {
            // Voters that are no longer nodes were not heard, nor were the votes that others lent them: the rest must be so many
            // that those are no majority.
            let told = self.members.iter().filter_map(|member| member.electorate.as_ref()).flat_map(|(_, told)| &told.former);
            if own.former.iter().chain(told).flatten().all(|node| self.config.node(*node).is_some()) {
                record.former.clear();
            }
            record.former.retain(|former| former.iter().filter(|vote| self.is_among_us(**vote)).count() < meets_majorities(former.len()));
        }
        if record == **own {
            return;
        }
        self.electorate = Own::of(record.clone());
        self.out.push(Output::Remember(record));
        self.rebound();
    }

    /// Each of these voters may act without the others, under the rules of a pair.
    fn may_act_alone(&self, voters: &[NodeId]) -> bool {
        pair_rules(&self.config, voters.len())
    }

    /// Somebody may count former voters that rely on their majority: the rules of a pair are not for now.
    pub(super) fn others_rely_on_majorities(&self) -> bool {
        self.electorate.record.former.iter().any(|former| !self.may_act_alone(former))
    }

    /// As far as is known, a peer counts the same voters.
    pub(super) fn counts_no_other(&self, member: &Member) -> bool {
        member.electorate.as_ref().is_none_or(|(_, record)| record.voters == self.electorate.record.voters)
    }

    /// No node but the configured ones can have this vote.
    fn is_among_us(&self, vote: NodeId) -> bool {
        let at_home = match self.member(vote) {
            // What only voters hear is for them to judge.
            Some(member) => !self.talks_to(vote) || member.ballot().is_none_or(|ballot| !ballot.lent),
            None => vote == self.me && !self.votes.is_lent(),
        };
        at_home || self.votes.serves(vote) || self.members.iter().any(|member| member.has_vote(vote))
    }

    /// An operator answers for it that nobody counts other voters.
    pub(super) fn confirm_voters(&mut self) {
        let record = Electorate { voters: self.electorate.record.voters.clone(), former: Vec::new(), new: false };
        if record != *self.electorate.record {
            self.electorate = Own::of(record.clone());
            self.out.push(Output::Remember(record));
            self.rebound();
        }
    }

    /// What a lease needs besides a majority, and whose votes count, has changed.
    pub(super) fn rebound(&mut self) {
        let own = self.electorate.record.clone();
        let mut bounds: Vec<Bound> = Vec::new();
        let mut remember: Vec<usize> = Vec::new();
        let mut sets: Vec<&Vec<NodeId>> = own.former.iter().collect();
        for member in &mut self.members {
            let Some((_, record)) = &member.electorate else { continue };
            let differs = !counts(&own, record);
            if differs != member.other_voters {
                member.other_voters = differs;
                self.out.push(Output::Decided(Decision::OtherVoters { node: member.node, differs }));
            }
        }
        for member in &self.members {
            let Some(voter) = self.voters.iter().position(|voter| *voter == member.node) else { continue };
            let Some((_, record)) = member.electorate.as_ref().filter(|_| !member.other_voters) else { continue };
            sets.extend(record.former.iter().chain(std::iter::once(&record.voters)));
            if !record.new {
                remember.push(voter);
            }
        }
        for set in sets {
            let lone = self.may_act_alone(set);
            if *set == own.voters || (!lone && always_meet(&own.voters, set)) {
                continue;
            }
            let among: Vec<usize> = self.voters.iter().enumerate().filter(|(_, voter)| set.contains(voter)).map(|(at, _)| at).collect();
            let needed = if lone { among.len() } else { meets_majorities(set.len()) };
            let bound = Bound { among, needed };
            if !bounds.contains(&bound) {
                bounds.push(bound);
            }
        }
        if own.new {
            bounds.push(Bound { among: remember, needed: 1 });
        }
        self.electorate.bounds = bounds;
        self.withhold_strayed_vote();
    }

    /// One of a pair has its own vote although it lent it before, but not while somebody may rely on majorities.
    pub(super) fn withhold_strayed_vote(&mut self) {
        self.votes.withheld = self.votes.strayed.is_some() && self.others_rely_on_majorities();
    }

    /// Whether a voter's answer counts: it says what it counted when it answered.
    pub(super) fn counts_vote(&mut self, from: NodeId, named: Option<ElectorateId>) -> bool {
        if from == self.me {
            return true;
        }
        let Some(position) = self.members.iter().position(|member| member.node == from) else { return false };
        self.electorate_named(position, named);
        let id = named.unwrap_or(self.electorate.id);
        let member = &self.members[position];
        member.electorate.as_ref().is_some_and(|(known, _)| *known == id) && !member.other_voters
    }

    /// Whether these voters, a majority, can be a lease's.
    fn sufficient(&self, voters: impl Fn(usize) -> bool) -> bool {
        self.electorate.bounds.iter().all(|bound| bound.among.iter().filter(|voter| voters(**voter)).count() >= bound.needed)
    }

    /// Whether the voters in touch, if a majority, can give a lease.
    pub(super) fn suffices(&self, now: Time) -> bool {
        self.sufficient(|vote| self.sees_vote(vote, now))
    }

    /// Until when this node surely has what runs here.
    pub(super) fn kept_until(&self, claim: &Claim) -> Option<Time> {
        let until = claim.until(self.needed_to_keep())?;
        if self.alone.needed_to_keep().is_some() { Some(until) } else { self.bounded(claim, until) }
    }

    /// Until when it would have what it asks for.
    pub(super) fn taken_until(&self, claim: &Claim) -> Option<Time> {
        let until = claim.until(self.needed_to_take())?;
        if self.alone.needed_to_take().is_some() { Some(until) } else { self.bounded(claim, until) }
    }

    fn bounded(&self, claim: &Claim, until: Time) -> Option<Time> {
        let mut until = until;
        for bound in &self.electorate.bounds {
            until = until.min(claim.until_among(&bound.among, bound.needed)?);
        }
        Some(until)
    }

    /// Living voters that count others.
    pub(super) fn uncounted(&self, now: Time) -> Vec<NodeId> {
        self.members.iter().filter(|member| member.other_voters && self.is_alive(member, now)).map(|member| member.node).collect()
    }

    /// Former voters that are not in touch, when a lease needs some of them, or when votes may be with them.
    pub(super) fn awaited(&self, now: Time) -> Vec<NodeId> {
        if self.suffices(now) && self.votes_astray(now).is_empty() {
            return Vec::new();
        }
        let absent = |node: &NodeId| !self.is_here(*node, now);
        let mut awaited: Vec<NodeId> = self.electorate.record.former.iter().flatten().copied().filter(absent).collect();
        awaited.sort_unstable();
        awaited.dedup();
        awaited
    }

    /// Voters in touch whose vote is not.
    pub(super) fn votes_astray(&self, now: Time) -> Vec<NodeId> {
        let astray = |vote: &usize| self.is_here(self.voters[*vote], now) && !self.sees_vote(*vote, now);
        (0..self.voters.len()).filter(astray).map(|vote| self.voters[vote]).collect()
    }

    fn is_here(&self, node: NodeId, now: Time) -> bool {
        node == self.me || self.member(node).is_some_and(|member| self.is_in_touch(member, now))
    }

    /// Voters that a node which remembers nothing has yet to hear, once.
    pub(super) fn unheard(&self) -> Vec<NodeId> {
        if !self.electorate.record.new {
            return Vec::new();
        }
        let heard = |member: &Member| member.electorate.as_ref().is_some_and(|(_, record)| record.voters == self.electorate.record.voters);
        let members = self.members.iter().filter(|member| self.voters.contains(&member.node) && !heard(member));
        members.map(|member| member.node).collect()
    }
}
