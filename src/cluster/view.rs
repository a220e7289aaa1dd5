//! What a node knows, as plain facts for a report.

use super::{tenure::Phase, verdict::Wait};
use crate::model::{GroupId, NodeId, Subject, Time, Wish};

/// One node's view of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// In two-way touch with as many voters as a lease needs.
    pub quorate: bool,
    /// Votes of nodes in two-way touch, this node included: each counts where it is.
    pub voters_seen: usize,
    /// The votes that this node grants with: those past their silence.
    pub votes: Vec<NodeId>,
    /// Voters configured.
    pub voters: usize,
    /// In start-up silence.
    pub silent: bool,
    /// May run resources.
    pub eligible: bool,
    /// In standby.
    pub standby: bool,
    /// Operators want hands off.
    pub hands_off: bool,
    /// Every wish of operators in force.
    pub wishes: Vec<WishView>,
    /// Carries on alone, by the rules of a pair.
    pub alone: bool,
    /// Peers heard within the lease time.
    pub alive: Vec<NodeId>,
    /// Living peers whose configuration differs.
    pub mismatched: Vec<NodeId>,
    /// Living nodes that count other voters, such that two majorities could miss each other: their votes do not count.
    pub uncounted: Vec<NodeId>,
    /// Voters that must be heard once before this node, which remembers no earlier cluster, relies on others like it.
    pub unheard: Vec<NodeId>,
    /// Former voters, not in touch, that may still count former voters, where a lease needs their vote besides a majority or they may
    /// have votes that were lent.
    pub awaited: Vec<NodeId>,
    /// Voters in touch whose vote is with a node that is not.
    pub votes_astray: Vec<NodeId>,
    /// The groups this node is a candidate for.
    pub groups: Vec<GroupView>,
}

/// One wish in a [`View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WishView {
    /// About what.
    pub subject: Subject,
    /// What.
    pub wish: Wish,
    /// Where it was said.
    pub author: NodeId,
    /// Its end; none until it is taken back.
    pub ends: Option<Time>,
}

/// One group in a [`View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupView {
    /// The group.
    pub group: GroupId,
    /// Rank of this node; 0 is home.
    pub rank: u32,
    /// Where it stands here.
    pub phase: Phase,
    /// More than one candidate.
    pub leased: bool,
    /// End of the lease when this node holds it.
    pub until: Option<Time>,
    /// The owner as this node knows it.
    pub owner: Option<NodeId>,
    /// What it waits for when it is down here.
    pub wait: Option<Wait>,
    /// It failed here, or its link is down.
    pub unable: bool,
}
