//! What a node must know again when its process is replaced within one run of the machine: what it promised as a voter, and
//! what it holds as an owner. With it, a daemon that crashed or was upgraded goes on as the same incarnation: no silence, no
//! new acquisition, nothing stopped. Without it, it is another incarnation and starts silent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{node::Standing, tenure::Tenure, wishes::WishMap};
use crate::model::{AssignmentId, BootId, Electorate, Fingerprint, GroupId, NodeId, Tag, Time, Version, VoteNumber};

/// To be kept, where only a reboot of the machine can lose it, after each [`Node::handle`](super::Node::handle) and before
/// its outputs are carried out: a promise must not be made that a successor would not know of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    pub(super) me: NodeId,
    pub(super) boot: BootId,
    pub(super) fingerprint: Fingerprint,
    pub(super) tag: Tag,
    pub(super) version: Version,
    pub(super) silent_until: Time,
    pub(super) wishes: WishMap,
    pub(super) standing: Standing,
    pub(super) votes: VotesMemory,
    pub(super) tenures: Vec<Tenure>,
    /// What peers count, where leases rest on their votes.
    pub(super) electorates: Vec<(NodeId, Electorate)>,
    /// Left on purpose, for a process with another configuration.
    pub(super) parting: Option<Parting>,
}

/// What a process leaves to one that reads another configuration, in which the groups may be others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Parting {
    /// What runs here still.
    pub running: Vec<AssignmentId>,
    /// The leases that cover it.
    pub held: Vec<HeldGroup>,
}

/// A lease as a process with another configuration must go on saying it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct HeldGroup {
    pub group: GroupId,
    pub members: Vec<AssignmentId>,
    /// What was asked for.
    pub lease: Duration,
    /// Until when it is surely kept.
    pub until: Time,
}

impl Memory {
    /// The incarnation that it continues.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.boot
    }
}

/// Where the votes are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VotesMemory {
    /// Changes worth a note on disk so far.
    pub serial: u64,
    /// Those that are known to be there.
    pub kept: u64,
    /// By voter.
    pub slots: Vec<SlotMemory>,
}

/// One vote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotMemory {
    /// The voter it belongs to.
    pub vote: NodeId,
    /// See [`Slot`](super::votes::Slot).
    pub number: VoteNumber,
    /// See there.
    pub accepted: VoteNumber,
    /// See there.
    pub since: u64,
    /// See there.
    pub giver_boot: Option<BootId>,
    /// Where it is.
    pub place: PlaceMemory,
}

/// Where a vote is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PlaceMemory {
    /// Not here.
    Away {
        /// Where it went from here.
        with: Option<NodeId>,
    },
    /// Here.
    Here(Promises),
    /// Given away, and not known to have arrived.
    Passing {
        /// To whom.
        to: NodeId,
        /// What it had promised.
        promises: Promises,
    },
}

/// What a vote has promised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Promises {
    /// Until then it promises nothing new.
    pub silent_until: Time,
    /// Group, holder, its boot, its list, and until when.
    pub grants: Vec<(GroupId, NodeId, BootId, Version, Time)>,
    /// What those of them consist of that the configuration does not know.
    pub learned: Vec<(GroupId, Vec<AssignmentId>)>,
}

/// Why a memory is of no use: the node must start as another incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// It is another node's.
    #[error("it is that of another node")]
    AnotherNode,
    /// The configuration has changed since: the groups may be others.
    #[error("the configuration has changed since")]
    AnotherConfiguration,
    /// By the configuration of now, other nodes vote.
    #[error("the voters have changed since")]
    OtherVoters,
    /// Something runs here that by the configuration of now this node does not run under a lease.
    #[error("something runs here that has no place in the configuration of now")]
    NoPlace,
}
