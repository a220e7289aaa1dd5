//! The reference: what voters have promised and what owners rely on, from what is said and done alone. It never asks a core.

use super::host::{Clock, Instant};

/// Nodes.
pub const NODES: usize = 3;

/// The votes at a node.
#[derive(Clone, Copy, Debug)]
pub struct Votes {
    /// Whose.
    pub has: [bool; NODES],
    /// How many more make a majority.
    pub needed: usize,
}

/// What one voter has promised one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Grant {
    life: u8,
    version: u64,
    until: Instant,
    /// The holder has published a later list without the group: it cannot count on this any more.
    released: bool,
}

/// What one life of a node has published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Lists {
    life: u8,
    /// Versions that claim the group, one bit each.
    claims: u64,
    /// The newest version that does not.
    gave_back: u64,
}

/// The record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Truth {
    /// By voter, then holder.
    grants: [[Grant; NODES]; NODES],
    /// By node: the present life and the one before.
    lists: [[Lists; 2]; NODES],
    /// By voter: who has its vote and relies on it, and until when.
    own_votes: [(usize, Instant); NODES],
}

impl Truth {
    /// A node begins another life.
    pub fn restarts(&mut self, node: usize, life: u8) {
        self.lists[node] = [Lists { life, ..Lists::default() }, self.lists[node][0]];
        // Its own vote is forgotten, and so is what it relied upon: a daemon that is dead extends nothing. What others
        // promised the life before stays promised.
    }

    /// A node said which list is its newest, and what that says of the group. `owns`: it has the group up under a lease.
    pub fn publishes(&mut self, node: usize, version: u64, claims: bool, owns: bool) -> Result<(), String> {
        assert!(version < 64, "the search is not that deep");
        let lists = &mut self.lists[node][0];
        let bit = 1 << version;
        if claims {
            if lists.gave_back >= version && version > 0 {
                return Err(format!("node {node} claims the group with list {version}, which did not before"));
            }
            lists.claims |= bit;
            return Ok(());
        }
        if lists.claims & bit != 0 {
            return Err(format!("node {node} published list {version} with and without the group"));
        }
        if version <= lists.gave_back {
            return Ok(());
        }
        lists.gave_back = version;
        if owns {
            return Err(format!("node {node} gives the group back (list {version}) while it is up there"));
        }
        let life = lists.life;
        for voter in 0..NODES {
            let grant = &mut self.grants[voter][node];
            grant.released |= grant.life == life && grant.version < version;
        }
        for (_, until) in self.own_votes.iter_mut().filter(|(holder, _)| *holder == node) {
            *until = 0;
        }
        Ok(())
    }

    /// A voter answered life `life` of a node without refusing the group: from now on it is bound until `until`.
    pub fn grants(&mut self, voter: usize, to: usize, life: u8, version: u64, until: Instant, now: Instant) -> Result<(), String> {
        let Some(lists) = self.lists[to].iter().find(|lists| lists.life == life) else { return Ok(()) };
        if lists.claims >> version & 1 == 0 {
            return Ok(());
        }
        let released = lists.gave_back > version;
        self.nobody_else(voter, to, life, now)?;
        let before = self.grants[voter][to];
        let kept = before.life == life && !before.released;
        let until = if kept { until.max(before.until) } else { until };
        self.grants[voter][to] = Grant { life, version, until, released };
        Ok(())
    }

    /// A vote goes to another node, with what it has promised: what its last place relied upon is a promise to it now.
    pub fn passes(&mut self, voter: usize, to: usize, life: u8, version: u64, until: Instant) {
        let before = self.grants[voter][to];
        if before.life != life || before.released || before.until < until {
            self.grants[voter][to] = Grant { life, version, until, released: false };
        }
    }

    /// A node starts the group, or extends its lease, until `until`: as many as are needed besides the votes it has must have
    /// promised as much.
    pub fn relies(&mut self, node: usize, life: u8, votes: Votes, until: Instant, now: Instant) -> Result<(), String> {
        if until <= now {
            return Err(format!("node {node} relies on a lease that ended at {until}"));
        }
        let promised = self.promised(node, life, votes);
        if until > promised {
            return Err(format!(
                "node {node} relies on a lease until {until}, but the other voters promised it until {promised} only: {:?}",
                self.grants.map(|grants| grants[node])
            ));
        }
        for voter in (0..NODES).filter(|voter| votes.has[*voter]) {
            self.nobody_else(voter, node, life, now)?;
            let before = self.own_votes[voter];
            self.own_votes[voter] = (node, if before.0 == node { before.1.max(until) } else { until });
        }
        Ok(())
    }

    /// Until when so many other voters have promised it to a node.
    pub fn promised(&self, node: usize, life: u8, votes: Votes) -> Instant {
        let mut ends: Vec<Instant> = (0..NODES)
            .filter(|voter| !votes.has[*voter])
            .map(|voter| self.grants[voter][node])
            .filter(|grant| grant.life == life && !grant.released)
            .map(|grant| grant.until)
            .collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        match votes.needed.checked_sub(1) {
            Some(last) => ends.get(last).copied().unwrap_or(0),
            None => Instant::MAX,
        }
    }

    /// Nobody but this life of `to` may have an unexpired promise of this voter.
    fn nobody_else(&self, voter: usize, to: usize, life: u8, now: Instant) -> Result<(), String> {
        for (holder, grant) in self.grants[voter].iter().enumerate() {
            if (holder, grant.life) != (to, life) && !grant.released && grant.until > now {
                return Err(format!("voter {voter} grants the group to node {to} while node {holder} has it: {grant:?}"));
            }
        }
        let (holder, end) = self.own_votes[voter];
        if holder != to && end > now {
            return Err(format!(
                "the vote of {voter} grants the group to node {to} while node {holder} has it and relies on it until {end}"
            ));
        }
        Ok(())
    }

    /// What lies in the past cannot matter any more: so that states differ in what matters only.
    pub fn forget(&mut self, now: Instant) {
        for grant in self.grants.iter_mut().flatten().filter(|grant| grant.until <= now) {
            *grant = Grant::default();
        }
        for own in self.own_votes.iter_mut().filter(|(_, end)| *end <= now) {
            *own = (0, 0);
        }
    }
}

/// When a voter that grants now for `lease` is free again.
pub fn bound_until(clock: Clock, lease: std::time::Duration, now: Instant) -> Instant {
    now + clock.takes(lease)
}
