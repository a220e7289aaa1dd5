//! One group on one candidate: from down over asking to running and back, and the lease that covers it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Generation, GroupId, NodeId, RefusalReason, StopReason, Time, Version};

/// Where a group stands on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Down, nothing claimed.
    Down,
    /// Down, the voters are being asked.
    Asking {
        /// Since when.
        since: Time,
    },
    /// Being brought up.
    Starting,
    /// Up.
    Running,
    /// Being brought down; a claim is kept until that is done.
    Stopping {
        /// Why.
        why: StopReason,
    },
}

/// One group on one candidate.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct Tenure {
    pub group: GroupId,
    /// Position among the candidates; 0 is home.
    pub rank: u32,
    /// Position in the order in which the candidates are to have it, an operator's wish considered.
    pub standing: u32,
    /// The candidate that an operator wants it on.
    pub preferred: Option<NodeId>,
    /// Only until it has come home.
    pub once: bool,
    /// The preferred node could take it when that was said: it need not show for how long it is well.
    pub prompt: bool,
    /// More than one candidate.
    pub leased: bool,
    pub phase: Phase,
    pub generation: Generation,
    pub claim: Option<Claim>,
    /// Cannot run here until someone cleans up or its link returns.
    pub unable: bool,
    /// Published favour for another node, and until when it is shown.
    pub handing: Option<(NodeId, Time)>,
    /// Another node let go in our favour.
    pub handed_by: Option<(NodeId, Time)>,
    /// Nobody is known to have it since then.
    pub free_since: Option<Time>,
    /// Not to be asked for before.
    pub retry_at: Time,
    /// Questions in a row that got no majority.
    pub attempts: u32,
    /// When this node last sent it home, and how often it came back soon.
    pub sent_home_at: Option<Time>,
    pub homecomings_failed: u32,
}

impl Tenure {
    pub fn new(group: GroupId, rank: u32, leased: bool) -> Self {
        Self {
            group,
            rank,
            standing: rank,
            preferred: None,
            once: false,
            prompt: false,
            leased,
            phase: Phase::Down,
            generation: Generation(0),
            claim: None,
            unable: false,
            handing: None,
            handed_by: None,
            free_since: None,
            retry_at: Time::ZERO,
            attempts: 0,
            sent_home_at: None,
            homecomings_failed: 0,
        }
    }

    /// As the process that takes the place of this one finds it; its order is still to be given again. What was only asked
    /// for is given back, and what could not run here is given another chance, as by any start: links are looked at anew.
    pub fn recalled(self) -> Self {
        let asked = matches!(self.phase, Phase::Asking { .. });
        Self {
            phase: if asked { Phase::Down } else { self.phase },
            claim: self.claim.filter(|_| !asked),
            unable: false,
            handed_by: None,
            free_since: None,
            retry_at: Time::ZERO,
            attempts: 0,
            ..self
        }
    }

    /// What it asks for covers what runs here already.
    pub fn inherits(&self) -> Option<&Inherited> {
        self.claim.as_ref()?.inherited.as_ref()
    }

    /// Up or on the way up.
    pub fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }
}

/// A lease asked for or held.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// The list that first named it: answers to older lists say nothing about it.
    pub since: Version,
    /// Lease time asked for, from the list `lease_since` on.
    pub lease: Duration,
    lease_since: Version,
    /// The shortest that was asked for in earlier lists.
    lease_before: Duration,
    /// By voter: until when its grant surely lasts, by our clock.
    ends: Vec<Time>,
    /// By voter: its last refusal, when it has not granted since, and when that came.
    refusals: Vec<Option<(RefusalReason, Time)>>,
    /// The end last told to the executor.
    pub told: Time,
    /// When the refusals may have become void: ask again then rather than at the next heartbeat.
    pub nudge: Option<Time>,
    /// It takes the place of leases that cover what runs here already.
    pub inherited: Option<Inherited>,
}

/// Leases of groups that another configuration made of the same resources.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct Inherited {
    /// Until when all of them are surely kept.
    pub until: Time,
    /// They are claimed for as long as nothing has taken their place: the groups, and the lease asked for.
    pub groups: Vec<(GroupId, Duration)>,
}

impl Claim {
    pub fn new(since: Version, lease: Duration, voters: usize) -> Self {
        Self {
            since,
            lease,
            lease_since: since,
            lease_before: lease,
            ends: vec![Time::ZERO; voters],
            refusals: vec![None; voters],
            told: Time::ZERO,
            nudge: None,
            inherited: None,
        }
    }

    /// The same, in the place of leases that cover what runs here already.
    pub fn inheriting(self, inherited: Inherited) -> Self {
        Self { inherited: Some(inherited), ..self }
    }

    /// Asks for another lease time from the list `since` on; false when it is the same.
    pub fn change(&mut self, lease: Duration, since: Version) -> bool {
        if self.lease == lease {
            return false;
        }
        self.lease_before = self.lease_before.min(self.lease);
        (self.lease, self.lease_since) = (lease, since);
        true
    }

    /// The lease time that a voter may surely have been asked for by a list: answers to an older one speak of what that said.
    pub fn lease_in(&self, version: Version) -> Duration {
        if version >= self.lease_since { self.lease } else { self.lease_before }
    }

    /// A voter granted it for a question asked at `asked`; our clock may run up to 1 % off its own, so the end is taken early.
    pub fn granted(&mut self, voter: usize, asked: Time, cap: Duration) {
        self.ends[voter] = self.ends[voter].max(self.end(asked, cap));
        self.refusals[voter] = None;
    }

    /// A voter refused it when it was asked at `asked`. One that has granted it to another since it granted it to us knows better than our clock
    /// that our time is over: a virtual machine does not notice that its host stopped it for a while.
    pub fn refused(&mut self, voter: usize, reason: RefusalReason, asked: Time, cap: Duration, now: Time) {
        if matches!(reason, RefusalReason::Busy { .. }) && self.end(asked, cap) > self.ends[voter] {
            self.ends[voter] = Time::ZERO;
        }
        self.refusals[voter] = Some((reason, now));
    }

    /// Until when a grant would surely last that a voter gave when it was asked at `asked`.
    fn end(&self, asked: Time, cap: Duration) -> Time {
        let lease = self.lease.min(cap);
        asked + lease.saturating_sub(drift_margin(lease))
    }

    /// Until when `needed` voters together surely grant it to nobody else.
    pub fn until(&self, needed: usize) -> Option<Time> {
        let kept_by = |end: Time| self.ends.iter().filter(|other| **other >= end).count();
        self.ends.iter().copied().filter(|end| *end > Time::ZERO && kept_by(*end) >= needed).max()
    }

    /// Until when `needed` of these voters together surely grant it to nobody else.
    pub fn until_among(&self, voters: &[usize], needed: usize) -> Option<Time> {
        let mut ends: Vec<Time> =
            voters.iter().filter_map(|voter| self.ends.get(*voter).copied()).filter(|end| *end > Time::ZERO).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(needed.checked_sub(1)?).copied()
    }

    /// A voter has granted it to another holder.
    pub fn is_elsewhere(&self) -> bool {
        self.refusals().any(|(reason, _)| matches!(reason, RefusalReason::Busy { .. }))
    }

    /// The refusals that stand.
    pub fn refusals(&self) -> impl Iterator<Item = (RefusalReason, Time)> + '_ {
        self.refusals.iter().flatten().copied()
    }
}

/// What a lease is shortened by on the holder's side: clock rates differ by up to 1 % each way, and timers have grain.
pub fn drift_margin(lease: Duration) -> Duration {
    lease / 50 + Duration::from_millis(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_millis(1500);

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_lease_lasts_as_long_as_a_majority_surely_keeps_it() {
        let mut claim = Claim::new(Version(1), T, 3);
        assert_eq!(claim.until(2), None);
        claim.granted(0, at(1000), T);
        assert_eq!(claim.until(2), None);
        assert_eq!(claim.until(1), Some(at(1000 + 1468)));
        claim.granted(2, at(1100), T);
        assert_eq!(claim.until(2), Some(at(1000 + 1468)));
        claim.granted(1, at(1300), T);
        assert_eq!(claim.until(2), Some(at(1100 + 1468)));
        assert_eq!(claim.until(3), Some(at(1000 + 1468)));
    }

    #[test]
    fn an_answer_to_an_older_list_counts_for_what_that_one_asked_for() {
        let mut claim = Claim::new(Version(1), T, 1);
        assert!(!claim.change(T, Version(2)));
        assert!(claim.change(T * 10, Version(3)));
        assert_eq!((claim.lease_in(Version(2)), claim.lease_in(Version(3))), (T, T * 10));
        claim.granted(0, at(0), Duration::MAX.min(claim.lease_in(Version(2))));
        assert_eq!(claim.until(1), Some(at(1468)));
        assert!(claim.change(T, Version(5)));
        claim.granted(0, at(100), claim.lease_in(Version(4)));
        assert_eq!(claim.until(1), Some(at(1568)), "once shorter, the longer one of old does not count any more");
    }

    #[test]
    fn a_late_answer_to_an_old_question_never_shortens_and_a_cap_does() {
        let mut claim = Claim::new(Version(1), T, 1);
        claim.granted(0, at(2000), T);
        claim.granted(0, at(1000), T);
        assert_eq!(claim.until(1), Some(at(2000 + 1468)));
        let mut claim = Claim::new(Version(1), T, 1);
        claim.granted(0, at(0), Duration::from_millis(100));
        assert_eq!(claim.until(1), Some(at(96)));
    }
}
