//! Who votes, as one node counts it. Nodes say it by a hash on every heartbeat and every ack.

use serde::{Deserialize, Serialize};

use super::{ElectorateId, NodeId};

/// The voters that one node counts, and those that it or others may have counted before.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Electorate {
    /// The voters of its configuration, ascending.
    pub voters: Vec<NodeId>,
    /// Other sets of voters, each ascending, that may still be counted somewhere: those of the configurations before, until
    /// every node has been heard with the present one.
    pub former: Vec<Vec<NodeId>>,
    /// Knows nothing of earlier times and has not yet heard every voter: what came before, the others must say.
    pub new: bool,
}

impl Electorate {
    /// What a node that remembers nothing counts by this set of voters.
    #[must_use]
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Self {
        let mut voters: Vec<NodeId> = voters.into_iter().collect();
        voters.sort_unstable();
        Self { voters, former: Vec::new(), new: true }
    }

    /// The hash that stands for it.
    #[must_use]
    pub fn id(&self) -> ElectorateId {
        ElectorateId::of(self)
    }
}
