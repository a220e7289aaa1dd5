//! Peers whose protocol this node cannot read: the operator is told which, now and then.

use std::{collections::BTreeMap, time::Duration};

use tracing::warn;

use crate::{
    model::{Config, NodeId, Time},
    wire::VERSION,
};

/// Shortest time between two lines about the same version of the same peer.
const PAUSE: Duration = Duration::from_secs(60);

/// When each of them was last told of: at most one entry for each version of each peer.
#[derive(Debug, Default)]
pub struct Versions {
    told: BTreeMap<(NodeId, u8), Time>,
}

impl Versions {
    /// A datagram that a peer sealed, and that cannot be read here.
    pub fn unreadable(&mut self, config: &Config, from: NodeId, theirs: u8, now: Time) {
        if self.is_due(from, theirs, now) {
            let name = config.name(from);
            let older = if theirs < VERSION { name.as_str() } else { "this node" };
            warn!(
                "node {name} speaks protocol version {theirs}, this node {VERSION}: they cannot understand each other, so {name} counts as silent; update {older}"
            );
        }
    }

    fn is_due(&mut self, from: NodeId, theirs: u8, now: Time) -> bool {
        let due = self.told.get(&(from, theirs)).is_none_or(|told| now.since(*told) >= PAUSE);
        if due {
            self.told.insert((from, theirs), now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_of_each_peer_is_told_of_once_in_a_while() {
        let mut versions = Versions::default();
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let due: Vec<u64> = (0..200).filter(|second| versions.is_due(NodeId(1), 9, at(*second))).collect();
        assert_eq!(due, [0, 60, 120, 180]);
        assert!(versions.is_due(NodeId(1), 0, at(181)) && versions.is_due(NodeId(2), 9, at(181)));
        assert!(!versions.is_due(NodeId(1), 0, at(182)));
    }
}
