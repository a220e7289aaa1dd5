//! The voter: who has which lease, as far as this node has promised.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{ENTRIES_PER_MESSAGE, memory::Promises};
use crate::model::{Ack, AssignmentId, BootId, Entry, GroupId, NodeId, PassedGrant, Refusal, RefusalReason, Stance, Tag, Time, Version};

/// Assignments, in groups of other configurations, that a voter learns from one peer at most.
const LEARNED: usize = 20_000;

/// One promise: nobody else gets these assignments before `expires`.
#[derive(Clone, Debug, Hash)]
struct Grant {
    holder: NodeId,
    boot: BootId,
    /// The holder's list under which it was granted last. A vote that was passed on meets lists that its giver knew already:
    /// only a later one gives back.
    version: Version,
    expires: Time,
}

/// Grants leases and remembers them: one vote. Everything is by the clock of the node that has it.
#[derive(Clone, Debug, Hash)]
pub struct Voter {
    grants: BTreeMap<GroupId, Grant>,
    /// Which granted groups contain an assignment: groups of different configurations may overlap.
    holders: BTreeSet<(AssignmentId, GroupId)>,
    definitions: BTreeMap<GroupId, Vec<AssignmentId>>,
    /// Which of them our configuration does not have, and who told them.
    learned: BTreeMap<GroupId, NodeId>,
    cap: Duration,
    silent_until: Time,
}

impl Voter {
    /// A voter that remembers nothing and therefore grants nothing before `silent_until`, and never more than `cap` at a time.
    pub fn new(cap: Duration, silent_until: Time) -> Self {
        Self {
            grants: BTreeMap::new(),
            holders: BTreeSet::new(),
            definitions: BTreeMap::new(),
            learned: BTreeMap::new(),
            cap,
            silent_until,
        }
    }

    /// What must be known again by a process that takes the place of this one. Groups for which `configured` holds are known
    /// from the configuration, and what nobody holds will be told again.
    pub fn promises(&self, configured: impl Fn(GroupId) -> bool) -> Promises {
        Promises {
            silent_until: self.silent_until,
            grants: self.grants.iter().map(|(group, grant)| (*group, grant.holder, grant.boot, grant.version, grant.expires)).collect(),
            learned: self
                .definitions
                .iter()
                .filter(|(group, _)| !configured(**group) && self.grants.contains_key(*group))
                .map(|(group, members)| (*group, members.clone()))
                .collect(),
        }
    }

    /// Is bound by the promises of the process before this one.
    pub fn recall(&mut self, promises: Promises) {
        self.silent_until = promises.silent_until;
        let learned: BTreeMap<GroupId, Vec<AssignmentId>> = promises.learned.into_iter().collect();
        for (group, holder, boot, version, expires) in promises.grants {
            if let Some(members) = learned.get(&group).filter(|_| !self.definitions.contains_key(&group)) {
                self.definitions.insert(group, members.clone());
                // Who holds it is who taught it, mostly.
                self.learned.insert(group, holder);
            }
            self.insert(group, Grant { holder, boot, version, expires });
        }
    }

    /// Learns what a group consists of. The caller has checked that the id is the hash of the members.
    pub fn define(&mut self, group: GroupId, members: Vec<AssignmentId>) {
        self.definitions.insert(group, members);
    }

    /// Learns from a peer what a group consists of that our configuration does not have. What a peer teaches beyond
    /// [`LEARNED`] takes the place of what it taught before and nobody holds. The id must be the hash of the members.
    pub fn learn(&mut self, from: NodeId, group: GroupId, members: Vec<AssignmentId>, now: Time) {
        if self.taught_by(from) + members.len() > LEARNED {
            let taught: Vec<GroupId> = self.learned.iter().filter(|(_, teacher)| **teacher == from).map(|(group, _)| *group).collect();
            for old in taught {
                if self.grants.get(&old).is_none_or(|grant| grant.expires <= now) {
                    self.forget(old);
                    self.definitions.remove(&old);
                    self.learned.remove(&old);
                }
            }
        }
        if self.taught_by(from) + members.len() <= LEARNED {
            self.define(group, members);
            self.learned.insert(group, from);
        }
    }

    /// Assignments in the definitions that a peer taught.
    fn taught_by(&self, from: NodeId) -> usize {
        self.learned.iter().filter(|(_, teacher)| **teacher == from).map(|(group, _)| self.definitions[group].len()).sum()
    }

    /// What a group consists of, if it is known.
    pub fn definition(&self, group: GroupId) -> Option<&[AssignmentId]> {
        self.definitions.get(&group).map(Vec::as_slice)
    }

    /// Whether the members of a group are known.
    pub fn knows(&self, group: GroupId) -> bool {
        self.definitions.contains_key(&group)
    }

    /// Answers heartbeat `tag` of one node, which claims the `Claims` entries of list `version`. Tags and versions older than
    /// what was seen before are the caller's to drop.
    pub fn answer(&mut self, from: NodeId, boot: BootId, tag: Tag, version: Version, list: &[Entry], now: Time) -> Vec<Ack> {
        let cap_us = micros(self.cap);
        let empty = |first: usize| Ack { tag, version, first: index(first), count: 0, cap_us, refused: Vec::new(), electorate: None };
        let mut acks = vec![empty(0)];
        for (position, entry) in list.iter().enumerate() {
            let Stance::Claims { lease_us, .. } = entry.stance else { continue };
            if let Err(reason) = self.grant((from, boot, version), entry.group, Duration::from_micros(lease_us), now) {
                if acks.last().is_some_and(|ack| ack.refused.len() >= ENTRIES_PER_MESSAGE) {
                    acks.push(empty(position));
                }
                let last = acks.len() - 1;
                acks[last].refused.push(Refusal { group: entry.group, reason });
            }
        }
        let ends: Vec<u32> = acks.iter().skip(1).map(|ack| ack.first).chain(std::iter::once(index(list.len()))).collect();
        for (ack, end) in acks.iter_mut().zip(ends) {
            ack.count = end - ack.first;
        }
        acks
    }

    /// Takes back what `(from, boot)` was granted and no longer claims in its newest list (ascending by group).
    pub fn release_unclaimed(&mut self, from: NodeId, boot: BootId, version: Version, list: &[Entry]) {
        let claims = |group: GroupId| {
            list.binary_search_by_key(&group, |entry| entry.group).is_ok_and(|at| matches!(list[at].stance, Stance::Claims { .. }))
        };
        let gone: Vec<GroupId> = self
            .grants
            .iter()
            .filter(|(group, grant)| (grant.holder, grant.boot) == (from, boot) && grant.version <= version && !claims(**group))
            .map(|(group, _)| *group)
            .collect();
        for group in gone {
            self.forget(group);
        }
    }

    /// The other holder whose unexpired grant stands in the way of `(node, boot)`, and when that ends.
    pub fn obstacle(&self, node: NodeId, boot: BootId, group: GroupId, now: Time) -> Option<(NodeId, Time)> {
        let members = self.definitions.get(&group)?;
        members
            .iter()
            .flat_map(|member| self.holders.range((*member, GroupId(0))..=(*member, GroupId(u64::MAX))))
            .filter_map(|(_, other)| self.grants.get(other))
            .filter(|grant| (grant.holder, grant.boot) != (node, boot) && grant.expires > now)
            .max_by_key(|grant| grant.expires)
            .map(|grant| (grant.holder, grant.expires))
    }

    /// Until when it grants nothing new.
    pub fn silent_until(&self) -> Time {
        self.silent_until
    }

    /// Grants nothing new before `until`: it may have forgotten something.
    pub fn silence(&mut self, until: Time) {
        self.silent_until = self.silent_until.max(until);
    }

    /// Its promises, as they travel when the vote is passed on: always in the same order, and those that are over among them.
    pub fn passed(&self, now: Time) -> Vec<PassedGrant> {
        let promise = |(group, grant): (&GroupId, &Grant)| PassedGrant {
            group: *group,
            holder: grant.holder,
            boot: grant.boot,
            version: grant.version,
            remaining_us: micros(grant.expires.since(now)),
        };
        self.grants.iter().map(promise).collect()
    }

    /// Takes over a promise that the vote gave elsewhere. Its group must be known.
    pub fn adopt(&mut self, promise: &PassedGrant, expires: Time) {
        let PassedGrant { group, holder, boot, version, remaining_us: _ } = *promise;
        self.insert(group, Grant { holder, boot, version, expires });
    }

    fn insert(&mut self, group: GroupId, grant: Grant) {
        let Some(members) = self.definitions.get(&group) else { return };
        self.holders.extend(members.iter().map(|member| (*member, group)));
        self.grants.insert(group, grant);
    }

    fn grant(
        &mut self,
        (from, boot, version): (NodeId, BootId, Version),
        group: GroupId,
        lease: Duration,
        now: Time,
    ) -> Result<(), RefusalReason> {
        let expires = now + lease.min(self.cap);
        if let Some(grant) = self.grants.get_mut(&group)
            && grant.holder == from
            && grant.boot == boot
            && grant.expires > now
        {
            // Nobody else can have been granted a member meanwhile. Never earlier than promised before.
            grant.expires = grant.expires.max(expires);
            grant.version = grant.version.max(version);
            return Ok(());
        }
        if !self.knows(group) {
            return Err(RefusalReason::Unknown);
        }
        if now < self.silent_until {
            return Err(RefusalReason::Silent { remaining_us: micros(self.silent_until.since(now)) });
        }
        if let Some((holder, end)) = self.obstacle(from, boot, group, now) {
            return Err(RefusalReason::Busy { holder, remaining_us: micros(end.since(now)) });
        }
        self.insert(group, Grant { holder: from, boot, version, expires });
        Ok(())
    }

    fn forget(&mut self, group: GroupId) {
        if self.grants.remove(&group).is_some() {
            for member in &self.definitions[&group] {
                self.holders.remove(&(*member, group));
            }
        }
    }
}

/// A span in microseconds, as it travels.
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// A list position, as it travels; lists are bounded far below.
pub fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_millis(1500);
    const A: (NodeId, BootId) = (NodeId(1), BootId(11));
    const B: (NodeId, BootId) = (NodeId(2), BootId(22));

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn group(members: &[u64]) -> (GroupId, Vec<AssignmentId>) {
        let members: Vec<AssignmentId> = members.iter().copied().map(AssignmentId).collect();
        (GroupId::of(&members), members)
    }

    fn voter(groups: &[&[u64]]) -> Voter {
        let mut voter = Voter::new(T, Time::ZERO);
        for members in groups {
            let (id, members) = group(members);
            voter.define(id, members);
        }
        voter
    }

    fn ask(voter: &mut Voter, (node, boot): (NodeId, BootId), groups: &[GroupId], now: Time) -> Vec<Refusal> {
        let mut list: Vec<Entry> =
            groups.iter().map(|group| Entry { group: *group, stance: Stance::Claims { lease_us: micros(T), running: false } }).collect();
        list.sort_by_key(|entry| entry.group);
        voter.release_unclaimed(node, boot, Version(1), &list);
        voter.answer(node, boot, Tag(1), Version(1), &list, now).into_iter().flat_map(|ack| ack.refused).collect()
    }

    #[test]
    fn one_holder_at_a_time_until_expiry_by_own_clock() {
        let g = group(&[1]).0;
        let mut voter = voter(&[&[1]]);
        assert!(ask(&mut voter, A, &[g], at(0)).is_empty());
        assert!(matches!(ask(&mut voter, B, &[g], at(1499))[0].reason, RefusalReason::Busy { remaining_us: 1000, .. }));
        assert!(ask(&mut voter, B, &[g], at(1500)).is_empty());
    }

    #[test]
    fn another_boot_of_the_holder_is_another_holder() {
        let g = group(&[1]).0;
        let mut voter = voter(&[&[1]]);
        assert!(ask(&mut voter, A, &[g], at(0)).is_empty());
        assert_eq!(ask(&mut voter, (A.0, BootId(12)), &[g], at(10)).len(), 1);
    }

    #[test]
    fn groups_of_two_configurations_that_share_an_assignment_exclude_each_other() {
        let (old, new) = (group(&[1]).0, group(&[1, 2]).0);
        let mut voter = voter(&[&[1], &[1, 2]]);
        assert!(ask(&mut voter, A, &[old], at(0)).is_empty());
        assert_eq!(ask(&mut voter, B, &[new], at(10)).len(), 1);
        // The holder itself may grow into the new group without letting go.
        assert!(ask(&mut voter, A, &[old, new], at(20)).is_empty());
        assert!(ask(&mut voter, A, &[new], at(30)).is_empty());
        assert_eq!(ask(&mut voter, B, &[old], at(40)).len(), 1);
    }

    #[test]
    fn silence_refuses_and_a_list_without_the_group_releases() {
        let g = group(&[1]).0;
        let mut voter = Voter::new(T, at(2000));
        voter.define(g, group(&[1]).1);
        assert!(matches!(ask(&mut voter, A, &[g], at(0))[0].reason, RefusalReason::Silent { remaining_us: 2_000_000 }));
        assert!(ask(&mut voter, A, &[g], at(2000)).is_empty());
        assert!(ask(&mut voter, A, &[], at(2001)).is_empty());
        assert!(ask(&mut voter, B, &[g], at(2002)).is_empty());
    }

    #[test]
    fn an_unknown_group_is_refused_until_defined() {
        let mut voter = voter(&[]);
        let (g, members) = group(&[7]);
        assert_eq!(ask(&mut voter, A, &[g], at(0))[0].reason, RefusalReason::Unknown);
        voter.define(g, members);
        assert!(ask(&mut voter, A, &[g], at(0)).is_empty());
    }

    #[test]
    fn a_peer_that_teaches_without_end_is_forgotten_but_for_what_somebody_holds() {
        let mut voter = voter(&[&[1]]);
        let held = group(&[7]).0;
        voter.learn(B.0, held, group(&[7]).1, at(0));
        assert!(ask(&mut voter, A, &[held], at(0)).is_empty());
        for first in (0..10_u64).map(|part| 1_000_000 * part) {
            let (id, members) = group(&(first..first + 9_000).collect::<Vec<_>>());
            voter.learn(B.0, id, members, at(1));
            assert!(voter.knows(id) && voter.knows(held) && voter.taught_by(B.0) <= LEARNED);
        }
        assert_eq!(ask(&mut voter, B, &[held], at(2)).len(), 1);
        // Nobody holds it any more: it makes room.
        let (id, members) = group(&(5..20_005).collect::<Vec<_>>());
        voter.learn(B.0, id, members, at(5000));
        assert!(voter.knows(id) && !voter.knows(held));
        assert_eq!(voter.taught_by(A.0), 0);
    }

    #[test]
    fn many_refusals_are_split_into_acks_that_cover_the_list_once() {
        let groups: Vec<GroupId> = (0..100).map(|n| group(&[n]).0).collect();
        let mut voter = voter(&[]);
        let mut list: Vec<Entry> =
            groups.iter().map(|group| Entry { group: *group, stance: Stance::Claims { lease_us: 1, running: false } }).collect();
        list.sort_by_key(|entry| entry.group);
        let acks = voter.answer(A.0, A.1, Tag(1), Version(1), &list, at(0));
        assert_eq!(acks.iter().map(|ack| ack.refused.len()).collect::<Vec<_>>(), [36, 36, 28]);
        let mut covered = 0;
        for ack in acks {
            assert_eq!(ack.first, covered);
            covered += ack.count;
        }
        assert_eq!(covered, 100);
    }
}
