//! The reference: what is true, apart from what any core believes. It watches what nodes say and do, with the true time of
//! each, and never asks a core. A promise counts from the instant at which its answer was sent, by the clock of the voter.

use std::time::Duration;

use drcm::model::{Ack, BootId, Claims, Entry, Generation, Heartbeat, PassVote, Relayed, Stance, Time, Version};

use super::{
    clock::{Clock, Instant, span},
    nodes::Nodes,
    setup::{GroupFacts, Setup},
    votes::VoteBook,
};

/// Lists of one node that are remembered: acks name a list by number.
const LISTS: usize = 4096;

/// One list of claims as its node published it.
#[derive(Clone, Debug)]
struct List {
    boot: BootId,
    version: Version,
    entries: Vec<Option<Entry>>,
}

/// What one voter promised one node about one group.
#[derive(Clone, Copy, Debug)]
struct Grant {
    boot: BootId,
    version: Version,
    until: Instant,
    /// The holder has published a later list without the group: it cannot count on this any more.
    released: bool,
}

/// What a node may believe to hold.
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// Until then, by the clock of the node, as the executor was told.
    pub until: Time,
    /// The incarnation that was promised it; none under pair rules.
    boot: Option<BootId>,
    /// Its own vote was needed.
    own: bool,
}

/// The record.
pub struct Checker {
    groups: Vec<GroupFacts>,
    /// By node: the voters of the configuration it has read.
    voters: Vec<Vec<usize>>,
    /// By node, newest last.
    lists: Vec<Vec<List>>,
    /// By voter, node, group.
    grants: Vec<Option<Grant>>,
    /// By vote, node, group: until when the node relied on a vote that it had itself.
    own_votes: Vec<(BootId, Instant)>,
    /// The same: until when it may have granted it to itself.
    own_grants: Vec<(BootId, Instant)>,
    /// Where each vote is.
    pub votes: VoteBook,
    /// By node and group.
    holds: Vec<Option<Hold>>,
    /// By node and group: the latest order.
    generations: Vec<Option<Generation>>,
    /// By assignment: the nodes that have it active.
    active: Vec<Nodes>,
    nodes: usize,
    /// How much later than told a lease may end where nobody else's promise is needed.
    step: Duration,
    /// Owners go on without a lease.
    freeze: bool,
    /// The voters of each layout.
    electorates: Vec<Vec<usize>>,
}

impl Checker {
    /// A record of a cluster in which nothing has happened.
    pub fn new(setup: &Setup) -> Self {
        let (nodes, groups) = (setup.count(), setup.groups.clone());
        let all = nodes * groups.len();
        Self {
            votes: VoteBook::new(nodes),
            voters: vec![Vec::new(); nodes],
            lists: vec![Vec::new(); nodes],
            grants: vec![None; nodes * all],
            own_votes: vec![(BootId(0), 0); nodes * all],
            own_grants: vec![(BootId(0), 0); nodes * all],
            holds: vec![None; all],
            generations: vec![None; all],
            active: vec![Nodes::default(); setup.assignments],
            nodes,
            step: setup.longest_lease() / 7,
            freeze: setup.freeze,
            electorates: setup.memberships.iter().map(|membership| membership.voters.clone()).collect(),
            groups,
        }
    }

    /// The group with this id.
    pub fn group(&self, id: drcm::model::GroupId) -> Option<usize> {
        self.groups.iter().position(|group| group.id == id)
    }

    /// What a node holds.
    pub fn hold(&self, node: usize, group: usize) -> Option<Hold> {
        self.holds[node * self.groups.len() + group]
    }

    /// The nodes that have an assignment active.
    pub fn active(&self, assignment: usize) -> Nodes {
        self.active[assignment]
    }

    /// The first node on which all members of a group are active.
    pub fn owner(&self, group: usize) -> Option<usize> {
        let members = self.groups[group].members;
        let everywhere = (0..self.active.len())
            .filter(|index| members >> index & 1 == 1)
            .fold(Nodes::all(self.nodes), |nodes, index| nodes.and(self.active[index]));
        everywhere.first()
    }

    /// A daemon starts with a configuration that lists these voters.
    pub fn starts(&mut self, node: usize, voters: &[usize]) {
        self.voters[node] = voters.to_vec();
    }

    /// A daemon goes on where another process stood: with these votes.
    pub fn resumes(&mut self, node: usize, votes: impl Iterator<Item = usize>) {
        votes.for_each(|vote| self.votes.resumes(node, vote));
    }

    /// A daemon is gone, for whatever reason: it holds nothing any more.
    pub fn gone(&mut self, node: usize) {
        self.votes.gone(node);
        let groups = self.groups.len();
        self.holds[node * groups..(node + 1) * groups].fill(None);
        self.generations[node * groups..(node + 1) * groups].fill(None);
    }

    /// A node said it is alive and named its list.
    pub fn heartbeat(&mut self, node: usize, boot: BootId, heartbeat: &Heartbeat, clock: &Clock, now: Instant) -> Result<(), String> {
        self.grants_itself(node, boot, clock, now);
        self.votes.says(node, heartbeat.ballot.as_ref());
        if heartbeat.entries == 0 { self.publish(node, boot, heartbeat.version, 0, clock, now).map(|_| ()) } else { Ok(()) }
    }

    /// A node gives a vote away: what that has granted the node itself holds wherever it goes.
    pub fn passes(&mut self, node: usize, boot: BootId, vote: usize, passed: &PassVote, clock: &Clock, now: Instant) {
        if self.votes.has(node, vote) {
            for grant in passed.grants.iter().filter(|grant| grant.boot == boot) {
                if let Some(group) = self.group(grant.group) {
                    let slot = self.grant_slot(vote, node, group);
                    self.own_grants[slot] = (boot, clock.instant(clock.local(now) + Duration::from_micros(grant.remaining_us)));
                }
            }
        }
        self.votes.passes(node, vote);
    }

    /// A node asks the votes that it has itself, too: what they may have granted it when they leave it.
    fn grants_itself(&mut self, node: usize, boot: BootId, clock: &Clock, now: Instant) {
        let Some(list) = self.lists[node].last().filter(|list| list.boot == boot) else { return };
        let claims: Vec<(usize, Duration)> = list.entries.iter().flatten().filter_map(|entry| self.claimed(entry)).collect();
        for vote in self.voters[node].clone().into_iter().filter(|vote| self.votes.has(node, *vote)) {
            for (group, lease) in &claims {
                if self.nobody_else(vote, node, *group, now).is_ok() {
                    let slot = self.grant_slot(vote, node, *group);
                    let ends = clock.instant(clock.local(now) + *lease);
                    let before = self.own_grants[slot];
                    self.own_grants[slot] = (boot, if before.0 == boot { before.1.max(ends) } else { ends });
                }
            }
        }
    }

    fn claimed(&self, entry: &Entry) -> Option<(usize, Duration)> {
        match entry.stance {
            Stance::Claims { lease_us, .. } => Some((self.group(entry.group)?, Duration::from_micros(lease_us))),
            Stance::HandsOver { .. } | Stance::Unable => None,
        }
    }

    /// A node sent its list or a part of it.
    pub fn claims(&mut self, node: usize, boot: BootId, claims: &Claims, clock: &Clock, now: Instant) -> Result<(), String> {
        let list = self.publish(node, boot, claims.version, claims.total as usize, clock, now)?;
        let Some(list) = list else { return Ok(()) };
        let first = claims.first as usize;
        if first + claims.entries.len() > self.lists[node][list].entries.len() {
            return Err(format!("node {node} sent entries beyond the end of its list: {claims:?}"));
        }
        let mut changed = false;
        for (index, entry) in claims.entries.iter().enumerate() {
            match self.lists[node][list].entries[first + index].replace(*entry) {
                None => changed = true,
                Some(before) if before == *entry => {}
                Some(before) => return Err(format!("node {node} published list {} twice: {before:?} and {entry:?}", claims.version)),
            }
        }
        if changed { self.release(node, list, clock, now) } else { Ok(()) }
    }

    /// A voter passes on another node's list: as that node published it.
    pub fn relayed(&mut self, voter: usize, of: usize, relayed: &Relayed) -> Result<(), String> {
        let claims = &relayed.claims;
        let list = self.lists[of].iter().rev().find(|list| list.boot == relayed.boot && list.version == claims.version);
        let first = claims.first as usize;
        let end = first + claims.entries.len();
        let same = list.is_some_and(|list| {
            list.entries.len() == claims.total as usize
                && list
                    .entries
                    .get(first..end)
                    .is_some_and(|said| said.iter().zip(&claims.entries).all(|(said, entry)| *said == Some(*entry)))
        });
        if same { Ok(()) } else { Err(format!("node {voter} relays a list of node {of} that it never published: {relayed:?}")) }
    }

    /// A vote answered, at the node `at`: from now on it is bound.
    pub fn ack(
        &mut self,
        (voter, at): (usize, usize),
        to: usize,
        boot: BootId,
        ack: &Ack,
        clock: &Clock,
        now: Instant,
    ) -> Result<(), String> {
        let Some(list) = self.lists[to].iter().rev().find(|list| list.boot == boot && list.version == ack.version) else {
            return if ack.count == 0 {
                Ok(())
            } else {
                Err(format!("node {voter} acknowledged list {} of node {to}, which it cannot know", ack.version))
            };
        };
        let granted: Vec<(usize, Duration)> = list
            .entries
            .iter()
            .skip(ack.first as usize)
            .take(ack.count as usize)
            .flatten()
            .filter(|entry| !ack.refused.iter().any(|refusal| refusal.group == entry.group))
            .filter_map(|entry| match entry.stance {
                Stance::Claims { lease_us, .. } => Some((self.group(entry.group)?, Duration::from_micros(lease_us.min(ack.cap_us)))),
                Stance::HandsOver { .. } | Stance::Unable => None,
            })
            .collect();
        if !granted.is_empty() {
            self.votes.grants(at, voter)?;
        }
        for (group, lease) in granted {
            self.nobody_else(voter, to, group, now)?;
            // The holder may have published meanwhile that it claims the group no longer.
            let released = self.lists[to]
                .iter()
                .rev()
                .skip_while(|later| later.boot != boot)
                .take_while(|later| later.boot == boot && later.version > ack.version)
                .any(|later| !later.claims(self.groups[group].id));
            let until = clock.instant(clock.local(now) + lease);
            let slot = self.grant_slot(voter, to, group);
            let before = self.grants[slot].filter(|grant| grant.boot == boot && !grant.released);
            let until = before.map_or(until, |grant| grant.until.max(until));
            self.grants[slot] = Some(Grant { boot, version: ack.version, until, released });
        }
        Ok(())
    }

    /// A node orders a start or extends one under a lease.
    pub fn relies(&mut self, node: usize, boot: BootId, group: usize, until: Time, clock: &Clock, now: Instant) -> Result<(), String> {
        if until <= clock.local(now) {
            return Err(format!("node {node} relies on a lease of group {group} that ended at {until:?}"));
        }
        let ends = clock.instant(until);
        let (mut others, mut own) = (0, Vec::new());
        for vote in &self.voters[node] {
            let slot = self.grant_slot(*vote, node, group);
            if self.grants[slot].is_some_and(|grant| grant.boot == boot && !grant.released && grant.until >= ends) {
                others += 1;
            } else if self.votes.has(node, *vote) || (self.own_grants[slot].0 == boot && self.own_grants[slot].1 >= ends) {
                own.push(*vote);
            }
        }
        let majority = self.voters[node].len() / 2 + 1;
        if !self.relies_on_own((node, boot, group), ends, majority.saturating_sub(others), &own, now)? {
            return Err(format!(
                "node {node} relies on a lease of group {group} until {until:?} ({ends} true), but only {others} other voters of {} \
                 promised as much: {:?}",
                self.voters[node].len(),
                self.voters[node].iter().map(|voter| self.grants[self.grant_slot(*voter, node, group)]).collect::<Vec<_>>()
            ));
        }
        self.holds[node * self.groups.len() + group] = Some(Hold { until, boot: Some(boot), own: others < majority });
        Ok(())
    }

    /// Of the votes that a node had itself, so many are relied upon; false when there are not so many.
    fn relies_on_own(
        &mut self,
        (node, boot, group): (usize, BootId, usize),
        ends: Instant,
        needed: usize,
        own: &[usize],
        now: Instant,
    ) -> Result<bool, String> {
        let (mut found, mut broken) = (0, Ok(()));
        // Its own first: that is the one it has for certain.
        let order = own.iter().filter(|vote| **vote == node).chain(own.iter().filter(|vote| **vote != node));
        for vote in order {
            if found == needed {
                break;
            }
            match self.nobody_else(*vote, node, group, now) {
                Ok(()) => {
                    let slot = self.grant_slot(*vote, node, group);
                    let before = self.own_votes[slot];
                    self.own_votes[slot] = (boot, if before.0 == boot { before.1.max(ends) } else { ends });
                    found += 1;
                }
                Err(what) => broken = Err(what),
            }
        }
        if found < needed { broken.map(|()| false) } else { Ok(true) }
    }

    /// A node under pair rules starts or extends alone: only the end of the lease is held against it.
    pub fn relies_on_itself(&mut self, node: usize, group: usize, until: Time) {
        self.holds[node * self.groups.len() + group] = Some(Hold { until, boot: None, own: true });
    }

    /// A node orders a stop.
    pub fn lets_go(&mut self, node: usize, group: usize) {
        self.holds[node * self.groups.len() + group] = None;
    }

    /// An order got its number.
    pub fn ordered(&mut self, node: usize, group: usize, generation: Generation) -> Result<(), String> {
        let slot = node * self.groups.len() + group;
        match self.generations[slot].replace(generation) {
            Some(before) if before >= generation => {
                Err(format!("node {node} used generation {generation} for group {group} after {before}"))
            }
            _ => Ok(()),
        }
    }

    /// After a core has handled something: what it holds must not be over, and it must want to be woken in time. A lease may
    /// last longer than the executor was told: the core renews what it tells in steps.
    pub fn handled(&mut self, node: usize, deadline: Time, clock: &Clock, now: Instant) -> Result<(), String> {
        let local = clock.local(now);
        for group in 0..self.groups.len() {
            let Some(hold) = self.hold(node, group) else { continue };
            if self.freeze || (hold.until > local && hold.until >= deadline) {
                continue;
            }
            let ends = match hold.boot {
                Some(boot) => self.promised_until(node, boot, group, now),
                None => clock.instant(hold.until + self.step),
            };
            let until = hold.until.max(clock.local(ends));
            if until <= local {
                return Err(format!("node {node} did not stop group {group} when its lease ended at {until:?}; it is {local:?}"));
            }
            if deadline > until {
                return Err(format!(
                    "node {node} wants to sleep until {deadline:?}, past the end of its lease of group {group} at {until:?}"
                ));
            }
            if let Some(boot) = hold.boot.filter(|_| hold.own) {
                for vote in 0..self.nodes {
                    let slot = self.grant_slot(vote, node, group);
                    if self.own_votes[slot].0 == boot && self.own_votes[slot].1 > now {
                        self.own_votes[slot].1 = self.own_votes[slot].1.max(ends);
                    }
                }
            }
        }
        Ok(())
    }

    /// Until when a node surely has an assignment, by whatever group: with a majority of its own voters, and with so many of
    /// those of every other layout that none of their majorities is without it. That is more than it needs when nobody counts
    /// those any more.
    pub fn surely_has(&self, node: usize, boot: BootId, assignment: usize, now: Instant) -> Instant {
        let groups = self.groups.iter().enumerate().filter(|(_, group)| group.members >> assignment & 1 == 1);
        let surely = |group: usize| {
            let own = &self.voters[node];
            let others = self.electorates.iter().filter(|set| *set != own).map(|set| {
                let common: Vec<usize> = own.iter().filter(|voter| set.contains(voter)).copied().collect();
                self.promised_by(&common, set.len().div_ceil(2), node, boot, group, now)
            });
            others.fold(self.promised_until(node, boot, group, now), Instant::min)
        };
        groups.map(|(group, _)| surely(group)).max().unwrap_or(0)
    }

    /// Until when a majority of votes has promised a node a group; what it may have granted itself counts.
    fn promised_until(&self, node: usize, boot: BootId, group: usize, now: Instant) -> Instant {
        let voters = &self.voters[node];
        self.promised_by(voters, voters.len() / 2 + 1, node, boot, group, now)
    }

    fn promised_by(&self, voters: &[usize], needed: usize, node: usize, boot: BootId, group: usize, now: Instant) -> Instant {
        let promised = |vote: &usize| {
            let slot = self.grant_slot(*vote, node, group);
            let granted = self.grants[slot].filter(|grant| grant.boot == boot && !grant.released).map_or(0, |grant| grant.until);
            if self.votes.has(node, *vote) {
                return granted.max(now + span(self.step * 8));
            }
            granted.max(if self.own_grants[slot].0 == boot { self.own_grants[slot].1 } else { 0 })
        };
        let mut ends: Vec<Instant> = voters.iter().map(promised).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(needed.wrapping_sub(1)).copied().unwrap_or(0)
    }

    /// An assignment becomes active somewhere. Returns the other nodes that have it active too.
    pub fn activate(&mut self, node: usize, assignment: usize) -> Nodes {
        let mut others = self.active[assignment];
        others.remove(node);
        self.active[assignment].insert(node);
        others
    }

    /// An assignment is no longer active somewhere.
    pub fn deactivate(&mut self, node: usize, assignment: usize) {
        self.active[assignment].remove(node);
    }

    fn grant_slot(&self, voter: usize, node: usize, group: usize) -> usize {
        (voter * self.nodes + node) * self.groups.len() + group
    }

    /// No node but `to` may have an unexpired promise of this voter for any member of the group.
    fn nobody_else(&self, voter: usize, to: usize, group: usize, now: Instant) -> Result<(), String> {
        let members = self.groups[group].members;
        for (other, facts) in self.groups.iter().enumerate().filter(|(_, facts)| facts.leased && facts.members & members != 0) {
            for holder in (0..self.nodes).filter(|holder| *holder != to) {
                if let Some(grant) = self.grants[self.grant_slot(voter, holder, other)].filter(|grant| !grant.released && grant.until > now)
                {
                    return Err(format!(
                        "voter {voter} granted group {group} to node {to} while node {holder} has {} until {} ({:?})",
                        facts.id, grant.until, grant
                    ));
                }
            }
            for holder in (0..self.nodes).filter(|holder| *holder != to) {
                let until = self.own_votes[self.grant_slot(voter, holder, other)].1;
                if until > now {
                    return Err(format!(
                        "voter {voter} granted group {group} to node {to} while node {holder}, which had this vote, relies on {} until \
                         {until}",
                        facts.id
                    ));
                }
            }
        }
        Ok(())
    }

    /// A version was named; returns its place among the lists, or `None` when it is too old to matter.
    fn publish(
        &mut self,
        node: usize,
        boot: BootId,
        version: Version,
        total: usize,
        clock: &Clock,
        now: Instant,
    ) -> Result<Option<usize>, String> {
        let lists = &mut self.lists[node];
        if let Some(at) = lists.iter().rposition(|list| list.boot == boot && list.version == version) {
            return if lists[at].entries.len() == total {
                Ok(Some(at))
            } else {
                Err(format!("node {node} published list {version} with {total} and with {} entries", lists[at].entries.len()))
            };
        }
        if lists.last().is_some_and(|last| last.boot == boot && last.version > version) {
            return Err(format!("node {node} published list {version} after a later one"));
        }
        if lists.len() == LISTS {
            lists.remove(0);
        }
        lists.push(List { boot, version, entries: vec![None; total] });
        let at = lists.len() - 1;
        if total == 0 {
            self.release(node, at, clock, now)?;
        }
        Ok(Some(at))
    }

    /// A list is complete: what it does not claim is given back, and must be down already.
    fn release(&mut self, node: usize, list: usize, clock: &Clock, now: Instant) -> Result<(), String> {
        let list = &self.lists[node][list];
        if list.entries.iter().any(Option::is_none) {
            return Ok(());
        }
        let (boot, version) = (list.boot, list.version);
        let unclaimed: Vec<usize> = (0..self.groups.len()).filter(|group| !list.claims(self.groups[*group].id)).collect();
        for group in unclaimed {
            if let Some(hold) = self.hold(node, group)
                && hold.until > clock.local(now)
                && self.groups[group].leased
            {
                return Err(format!("node {node} gave group {group} back without having stopped it: list {version}"));
            }
            let mut gave_back = false;
            for voter in 0..self.nodes {
                let slot = self.grant_slot(voter, node, group);
                if let Some(grant) = &mut self.grants[slot]
                    && grant.boot == boot
                    && grant.version < version
                    && !grant.released
                {
                    grant.released = true;
                    gave_back |= grant.until > now;
                }
            }
            for vote in 0..self.nodes {
                let own = self.grant_slot(vote, node, group);
                if self.own_votes[own].0 == boot {
                    gave_back |= self.own_votes[own].1 > now;
                    self.own_votes[own].1 = 0;
                }
                if self.own_grants[own].0 == boot {
                    self.own_grants[own].1 = 0;
                }
            }
            if gave_back && self.groups[group].addresses {
                // What another group of the same list covers is not given back.
                let covered = |facts: &&GroupFacts| self.lists[node].last().is_some_and(|list| list.claims(facts.id));
                let kept = self.groups.iter().filter(covered).fold(0, |kept, facts| kept | facts.members);
                let members = self.groups[group].members & !kept;
                if let Some(up) = (0..self.active.len()).find(|index| members >> index & 1 == 1 && self.active[*index].contains(node)) {
                    return Err(format!("node {node} gave group {group} back while assignment {up} is active there: list {version}"));
                }
            }
        }
        Ok(())
    }
}

impl List {
    fn claims(&self, id: drcm::model::GroupId) -> bool {
        self.entries.iter().flatten().any(|entry| entry.group == id && matches!(entry.stance, Stance::Claims { .. }))
    }
}
