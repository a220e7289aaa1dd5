//! Nodes near and far: how often two of them talk, how much silence makes one dead for the other, and how long a lease to
//! ask for, where nodes have paces of their own.
//!
//! With h and T of each node, two nodes talk every max(h, h') and each is dead for the other after max(T, T'). These decide
//! who is waited for, never who may own: that a lease does, and a lease of any length is safe as long as no voter promises more
//! than its silence after a start covers, which is the longest T of all nodes. So the length is chosen for its use alone: an
//! owner asks for the shortest lease that a majority of the voters *in touch now* can be expected to renew, each voter within
//! its max(T, T'). Among near nodes that is their own short T, whatever far voters there are; once only far ones make up the
//! majority, the lease grows to theirs in time, and a hiccup of the long link costs nothing.
//!
//! Renewals ride on heartbeats. A claimant therefore talks to voters several times per lease, also to those whose
//! interval is longer, but never more often than its own h.

use std::time::Duration;

use super::{
    super::{
        member::{Between, Member},
        tenure::{Tenure, drift_margin},
    },
    Node,
};
use crate::model::{Config, NodeConfig, NodeId, Takeover, Time};

/// Heartbeats to a voter per lease that it is to renew, at the least.
const RENEWALS_PER_LEASE: u32 = 5;

/// How a node and one of its peers talk.
pub(super) fn between(one: &NodeConfig, other: &NodeConfig) -> Between {
    Between { interval: one.pace.interval.max(other.pace.interval), silence: one.pace.lease().max(other.pace.lease()) }
}

/// The lease that lasts T: under strict take-over what a stop may take comes on top.
pub(super) fn lease_over(config: &Config, time: Duration) -> Duration {
    match config.server.takeover {
        Takeover::Prompt => time,
        // The holder gives up the drift margin of the whole lease. What `stop_timeout` costs it must not come out of T, which
        // may be much shorter.
        Takeover::Strict => time + config.server.stop_timeout + drift_margin(config.server.stop_timeout),
    }
}

impl Node {
    /// How much silence makes a peer dead for this node.
    pub(super) fn silence(&self, peer: NodeId) -> Duration {
        self.member(peer).map_or(self.lease(), |member| member.between.silence)
    }

    /// As much silence as makes the farthest voter dead.
    pub(super) fn voters_time(&self) -> Duration {
        if self.alike {
            return self.lease();
        }
        self.voters.iter().map(|voter| self.silence(*voter)).max().unwrap_or(self.lease())
    }

    /// How long a better candidate may leave a group free, per rank: even the slowest of them must have had its chance.
    pub(super) fn patience(&self, tenure: &Tenure) -> Duration {
        if self.alike {
            return self.lease() / 2;
        }
        let slowest = self.candidates(tenure).take(tenure.standing as usize).map(|node| self.silence(node)).max();
        slowest.unwrap_or(self.lease()).max(self.lease()) / 2
    }

    /// The shortest T within which a majority of the voters in touch can be expected to renew; `None` without a majority. A
    /// voter that may be silent after its start renews nothing: it counts only when there is no majority without it.
    pub(super) fn lease_time(&self, now: Time) -> Option<Duration> {
        if self.alike {
            return Some(self.lease());
        }
        let renews = |voter: &NodeId, surely: bool| {
            if *voter == self.me {
                return Some(self.lease());
            }
            let member = self.member(*voter).filter(|member| self.is_in_touch(member, now))?;
            (!surely || member.state().quorate).then_some(member.between.silence)
        };
        let majority = |surely: bool| {
            let mut times: Vec<Duration> = self.voters.iter().filter_map(|voter| renews(voter, surely)).collect();
            times.sort_unstable();
            times.get(self.needed_to_take().checked_sub(1)?).copied()
        };
        majority(true).or_else(|| majority(false))
    }

    /// The lease to ask for.
    pub(super) fn lease_to_ask(&self, now: Time) -> Duration {
        self.lease_time(now).map_or_else(|| self.longest_lease(), |time| lease_over(&self.config, time))
    }

    /// How long the voters are given for their answers, and the longest wait before they are asked again.
    pub(super) fn asking_time(&self, now: Time) -> Duration {
        self.lease_time(now).unwrap_or(self.lease()) / 2
    }

    /// Claims follow the voters in touch: a claim for another length is another list.
    pub(super) fn adjust_leases(&mut self, now: Time) {
        if self.alike || self.tenures.iter().all(|tenure| tenure.claim.is_none()) {
            return;
        }
        let Some(lease) = self.lease_time(now).map(|time| lease_over(&self.config, time)) else { return };
        let since = self.next_version();
        for claim in self.tenures.iter_mut().filter_map(|tenure| tenure.claim.as_mut()) {
            self.list_changed |= claim.change(lease, since);
        }
    }

    /// The peers that a regular heartbeat goes to now.
    pub(super) fn due_peers(&mut self, now: Time) -> Vec<NodeId> {
        let own = self.own.interval;
        let claims = self.tenures.iter().any(|tenure| tenure.claim.is_some());
        let renewal = self.lease_time(now).filter(|_| claims && !self.alike).map(|time| time / RENEWALS_PER_LEASE);
        let voters = &self.voters;
        let interval = |member: &Member| match renewal.filter(|_| voters.contains(&member.node)) {
            Some(renewal) => member.between.interval.min(renewal).max(own),
            None => member.between.interval,
        };
        self.members
            .iter_mut()
            .filter_map(|member| {
                let interval = interval(member);
                // What is due with each of our own heartbeats needs no reckoning.
                (interval <= own || member.is_due(interval, now)).then_some(member.node)
            })
            .collect()
    }
}
