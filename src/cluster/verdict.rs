//! Whether a candidate asks for a group now, from facts alone; and if not, what it waits for, in words an operator can be told.

use std::time::Duration;

use crate::model::{AskReason, NodeId, Time};

/// What a candidate knows about a group that is down here.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub now: Time,
    /// May this node run resources at all?
    pub eligible: bool,
    pub unable: bool,
    pub quorate: bool,
    /// This node, as a voter, may have forgotten a grant until then: so may its fellows that started with it.
    pub silent_until: Time,
    /// Operators want hands off: nothing is begun.
    pub hands_off: bool,
    /// 0 is the first that is to have it: the node an operator wants it on, else home.
    pub rank: u32,
    /// This is the node an operator wants it on.
    pub preferred: bool,
    /// A living peer claims it.
    pub claimed_by: Option<NodeId>,
    /// This node, as a voter, has granted it to another until then.
    pub granted_to: Option<(NodeId, Time)>,
    /// Asked in vain: not again before.
    pub retry_at: Time,
    /// The owner let go in our favour.
    pub handed_by: Option<NodeId>,
    /// The first better candidate that is alive, well and able.
    pub better: Option<NodeId>,
    /// Nobody is known to have it since then.
    pub free_since: Time,
    /// How long a better candidate may leave it free, per rank.
    pub patience: Duration,
}

/// What a group that is down here waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The node may not run anything: inactive, in standby or leaving.
    Ineligible,
    /// Maintenance: operators want nothing begun.
    Maintenance,
    /// It failed here, or its link is down.
    Unable,
    /// No majority of voters is in touch.
    NoQuorum,
    /// The node has just started and does not vote yet.
    Silent {
        /// Until when.
        until: Time,
    },
    /// A living node claims it.
    OwnedBy(NodeId),
    /// The last owner's lease has not run out.
    LeaseRuns {
        /// The last owner.
        holder: NodeId,
        /// When it has.
        until: Time,
    },
    /// The voters refused; asked again then.
    Retry {
        /// When.
        at: Time,
    },
    /// A better candidate is expected to take it; if not, this node asks then.
    Better {
        /// The better candidate.
        node: NodeId,
        /// When this node asks all the same.
        at: Time,
    },
}

impl Facts {
    /// The decision.
    pub fn verdict(&self) -> Result<AskReason, Wait> {
        if !self.eligible {
            return Err(Wait::Ineligible);
        }
        if self.hands_off {
            return Err(Wait::Maintenance);
        }
        if self.unable {
            return Err(Wait::Unable);
        }
        if !self.quorate {
            return Err(Wait::NoQuorum);
        }
        if self.silent_until > self.now {
            return Err(Wait::Silent { until: self.silent_until });
        }
        if let Some(node) = self.claimed_by {
            return Err(Wait::OwnedBy(node));
        }
        if let Some((holder, until)) = self.granted_to {
            return Err(Wait::LeaseRuns { holder, until });
        }
        if self.retry_at > self.now {
            return Err(Wait::Retry { at: self.retry_at });
        }
        if let Some(by) = self.handed_by {
            return Ok(AskReason::HandedOver { by });
        }
        if self.rank == 0 {
            return Ok(if self.preferred { AskReason::Preferred } else { AskReason::Home });
        }
        let Some(node) = self.better else { return Ok(AskReason::BetterGone) };
        let at = self.free_since + self.patience * self.rank;
        if at <= self.now { Ok(AskReason::StayedFree) } else { Err(Wait::Better { node, at }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            now: Time(1_000_000_000),
            eligible: true,
            unable: false,
            quorate: true,
            silent_until: Time::ZERO,
            hands_off: false,
            rank: 1,
            preferred: false,
            claimed_by: None,
            granted_to: None,
            retry_at: Time::ZERO,
            handed_by: None,
            better: Some(NodeId(7)),
            free_since: Time(900_000_000),
            patience: Duration::from_millis(750),
        }
    }

    #[test]
    fn home_asks_and_a_backup_waits_for_its_betters() {
        assert_eq!(Facts { rank: 0, ..facts() }.verdict(), Ok(AskReason::Home));
        assert!(matches!(facts().verdict(), Err(Wait::Better { node: NodeId(7), .. })));
        assert_eq!(Facts { better: None, ..facts() }.verdict(), Ok(AskReason::BetterGone));
        assert_eq!(Facts { handed_by: Some(NodeId(7)), ..facts() }.verdict(), Ok(AskReason::HandedOver { by: NodeId(7) }));
    }

    #[test]
    fn a_backup_asks_when_its_better_leaves_it_free_for_too_long() {
        assert_eq!(Facts { now: Time(1_650_000_000), ..facts() }.verdict(), Ok(AskReason::StayedFree));
        assert!(Facts { now: Time(1_649_999_999), ..facts() }.verdict().is_err());
        assert!(Facts { now: Time(1_650_000_000), rank: 2, ..facts() }.verdict().is_err());
    }

    #[test]
    fn nothing_is_asked_for_that_someone_has_or_this_node_may_not_run() {
        let home = Facts { rank: 0, ..facts() };
        assert_eq!(Facts { eligible: false, ..home }.verdict(), Err(Wait::Ineligible));
        assert_eq!(Facts { hands_off: true, ..home }.verdict(), Err(Wait::Maintenance));
        assert_eq!(Facts { unable: true, ..home }.verdict(), Err(Wait::Unable));
        assert_eq!(Facts { quorate: false, ..home }.verdict(), Err(Wait::NoQuorum));
        assert_eq!(Facts { claimed_by: Some(NodeId(3)), ..home }.verdict(), Err(Wait::OwnedBy(NodeId(3))));
        assert!(matches!(Facts { silent_until: Time::NEVER, ..home }.verdict(), Err(Wait::Silent { .. })));
        assert!(matches!(Facts { granted_to: Some((NodeId(3), Time::NEVER)), ..home }.verdict(), Err(Wait::LeaseRuns { .. })));
        assert!(matches!(Facts { retry_at: Time::NEVER, ..home }.verdict(), Err(Wait::Retry { .. })));
    }
}
