//! Another configuration without an interruption: the process ends, and the one that takes its place reads the new file and
//! goes on as the same incarnation.
//!
//! What was promised as a voter stands. What is held as an owner is held under groups that the new file may have made others
//! of, so each group that covers something that runs here asks for a lease of its own, and the leases of old are claimed until
//! it has one. Voters grant it at once, since exclusion is by assignment and holder; nothing is started before. If no majority
//! answers until the leases of old end, what runs is stopped, as by any owner that lost its lease.

use std::collections::BTreeSet;

use super::{
    super::{
        memory::{HeldGroup, Memory, Parting, Stale},
        tenure::{Claim, Inherited, Phase, Tenure},
    },
    Node,
};
use crate::model::{Assignment, AssignmentId, GroupId, Time};

/// Why this is no moment for another configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// It leaves.
    #[error("this node is leaving")]
    Leaving,
    /// Its leases rest on something else than a majority, or may be about to end.
    #[error("this node has no quorum together with others")]
    NoQuorum,
    /// A group is on its way up, down or home.
    #[error("a group is being started or stopped")]
    Busy(GroupId),
    /// What another process must know cannot be written down.
    #[error("run_dir cannot be written")]
    NoMemory,
}

impl Node {
    /// Whether this is a moment to let a process with another configuration take the place of this one.
    ///
    /// # Errors
    /// Why not; it may be one soon.
    pub fn may_part(&self, now: Time) -> Result<(), NotNow> {
        if self.leaving {
            return Err(NotNow::Leaving);
        }
        let leased = || self.tenures.iter().filter(|tenure| tenure.leased);
        if leased().any(|tenure| tenure.claim.is_some()) && (!self.quorate(now) || self.alone.needed_to_keep().is_some()) {
            return Err(NotNow::NoQuorum);
        }
        let settled = |tenure: &&Tenure| match tenure.phase {
            Phase::Down | Phase::Running => true,
            Phase::Asking { .. } => tenure.inherits().is_none(),
            Phase::Starting | Phase::Stopping { .. } => false,
        };
        leased().find(|tenure| !settled(tenure)).map_or(Ok(()), |tenure| Err(NotNow::Busy(tenure.group)))
    }

    /// What a process must know that takes the place of this one with another configuration, under which nothing of this may
    /// have the same name. `running`: what runs here still; whatever else did has been stopped. Nothing may be handled after this.
    #[must_use]
    pub fn part(&self, running: &BTreeSet<AssignmentId>) -> Memory {
        let held = self.tenures.iter().filter(|tenure| tenure.leased && !matches!(tenure.phase, Phase::Asking { .. }));
        let held = held.filter_map(|tenure| {
            let claim = tenure.claim.as_ref()?;
            let members: Vec<AssignmentId> = self.config.group(tenure.group)?.assignments.iter().map(Assignment::id).collect();
            let runs = members.iter().any(|member| running.contains(member));
            let until = self.kept_until(claim)?;
            runs.then_some(HeldGroup { group: tenure.group, members, lease: claim.lease, until })
        });
        let parting = Parting { running: running.iter().copied().collect(), held: held.collect() };
        Memory { parting: Some(parting), ..self.remembered(|_| false) }
    }

    /// Takes over what runs here from a process with another configuration.
    pub(super) fn inherit(&mut self, parting: &Parting, before: &[Tenure], now: Time) -> Result<(), Stale> {
        let mut homeless: BTreeSet<AssignmentId> = parting.running.iter().copied().collect();
        let since = self.next_version();
        let (lease, voters) = (self.lease_to_ask(now), self.voters.len());
        for tenure in &mut self.tenures {
            let Some(group) = self.config.group(tenure.group) else { continue };
            let members: Vec<AssignmentId> = group.assignments.iter().map(Assignment::id).collect();
            let runs = members.iter().filter(|member| parting.running.contains(member)).copied().collect::<Vec<_>>();
            if let Some(known) = before.iter().find(|known| known.group == tenure.group) {
                (tenure.sent_home_at, tenure.homecomings_failed) = (known.sent_home_at, known.homecomings_failed);
            }
            if runs.is_empty() {
                continue;
            }
            if !tenure.leased {
                tenure.phase = Phase::Running;
                homeless.retain(|member| !runs.contains(member));
                continue;
            }
            let covers = |held: &&HeldGroup| held.members.iter().any(|member| runs.contains(member));
            let covering: Vec<&HeldGroup> = parting.held.iter().filter(covers).collect();
            let Some(until) = covering.iter().map(|held| held.until).min() else { continue };
            homeless.retain(|member| !(runs.contains(member) && covering.iter().any(|held| held.members.contains(member))));
            let groups = covering.iter().map(|held| (held.group, held.lease)).collect();
            tenure.phase = Phase::Asking { since: now };
            tenure.claim = Some(Claim::new(since, lease, voters).inheriting(Inherited { until, groups }));
        }
        if homeless.is_empty() { Ok(()) } else { Err(Stale::NoPlace) }
    }
}
