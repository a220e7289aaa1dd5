//! What operators want of the cluster besides its configuration: nodes in standby, maintenance, groups that belong elsewhere
//! for a while. Every node keeps all of it; the last word on a subject counts.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{GroupId, NodeId};

/// What an operator can say on any node, about any node or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A node shall run nothing, or take part again.
    Standby {
        /// The node.
        node: NodeId,
        /// Run nothing.
        on: bool,
    },
    /// Nothing shall be started, stopped, moved or repaired, or all of that again.
    Maintenance {
        /// Hands off.
        on: bool,
    },
    /// A group shall run on a node, and come back to it.
    Move {
        /// The group.
        group: GroupId,
        /// The node.
        to: NodeId,
        /// For so many seconds; until it is taken back when left out.
        for_seconds: Option<u64>,
    },
    /// A move is taken back.
    Unmove {
        /// The group.
        group: GroupId,
    },
    /// A group shall go home, once.
    Failback {
        /// The group.
        group: GroupId,
    },
    /// What failed shall be tried again.
    Cleanup {
        /// This group; every group that failed when left out.
        group: Option<GroupId>,
        /// On this node; on every node where it failed when left out.
        node: Option<NodeId>,
    },
}

/// What a wish is about: there is one wish at most about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// The cluster's maintenance.
    Maintenance,
    /// A node's standby.
    Standby(NodeId),
    /// Where a group belongs.
    Place(GroupId),
    /// A group that failed on a node.
    Cleanup(GroupId, NodeId),
}

/// What is wished. Ordered so that two different wishes under one stamp are settled the same way everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Wish {
    /// Nothing any more.
    Cleared,
    /// Maintenance, standby, or a cleanup (which is done once by whom it concerns).
    On,
    /// The group belongs on this node for now.
    Prefer(NodeId),
    /// The group goes home once.
    Home,
}

/// The age of a wish: the later one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Greater than every counter that its author knew.
    pub counter: u64,
    /// The node where it was said; settles a tie.
    pub author: NodeId,
}

/// How long a wish lasts. Spans are in milliseconds from when this is said, so clocks need not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lasts {
    /// Until another one takes its place.
    Always,
    /// For so long.
    For(u64),
    /// It is over, and is remembered for so long so that nobody brings it back.
    Over(u64),
}

/// A wish as it travels and as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// What it is about.
    pub subject: Subject,
    /// Its age.
    pub stamp: Stamp,
    /// What is wished.
    pub wish: Wish,
    /// How long it lasts.
    pub lasts: Lasts,
}

/// Wishes of which the receiver may not know all: any number at a time, in any order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wishes {
    /// The wishes.
    pub records: Vec<Record>,
}

/// All wishes of a node as a number: nodes that agree have the same. Zero when there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WishDigest(pub u64);

/// What will come of a command, as the node where it was said sees the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// The group leaves one node for another at once.
    Moves {
        /// The group.
        group: GroupId,
        /// Where it runs.
        from: NodeId,
        /// Where it goes.
        to: NodeId,
    },
    /// It runs where it is wanted.
    Stays {
        /// The group.
        group: GroupId,
        /// The node.
        on: NodeId,
    },
    /// It will move once the node can take it.
    Waits {
        /// The group.
        group: GroupId,
        /// The node.
        to: NodeId,
        /// What keeps it from it.
        obstacle: Obstacle,
    },
    /// Nobody runs it; the node will be the first to be asked.
    Idle {
        /// The group.
        group: GroupId,
        /// The node.
        to: NodeId,
    },
    /// Its home node takes it back when it has been well for the failback delay.
    GoesHome {
        /// The group.
        group: GroupId,
        /// The home node.
        home: NodeId,
    },
    /// It stops: no other node can take it.
    Stops {
        /// The group.
        group: GroupId,
        /// Where it runs.
        on: NodeId,
    },
    /// A node that is not heard will do it when it is.
    Unheard(NodeId),
    /// A failure is forgotten.
    Retried {
        /// The group.
        group: GroupId,
        /// Where it failed.
        on: NodeId,
    },
    /// There was nothing to do.
    Nothing,
    /// Maintenance is on: it is noted, and done when that ends.
    AfterMaintenance,
}

/// What keeps a node from taking a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It is not heard.
    Dead,
    /// It is in standby.
    Standby,
    /// It is inactive, or leaving.
    Ineligible,
    /// It does not see a majority, or has just started.
    NotQuorate,
    /// The group failed there.
    Unable,
    /// It has not got it down yet.
    Stopping,
}

/// Why a command cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unacceptable {
    /// The configuration of the node asked has no such node.
    #[error("this node's configuration has no such node: are the configuration files of all nodes equal?")]
    UnknownNode,
    /// The configuration of the node asked has no such group.
    #[error("this node's configuration has no such group: are the configuration files of all nodes equal?")]
    UnknownGroup,
    /// The node is no candidate of the group.
    #[error("that node is no candidate of the group: it neither is its home nor names it in a backup list")]
    NotACandidate,
    /// The group has one candidate only.
    #[error("the group has one candidate only: there is nowhere to move it to")]
    SingleCandidate,
    /// A move for longer than is kept, or for no time.
    #[error("a move lasts from one second to {max_days} days, or until it is taken back (no --for)")]
    BadSpan {
        /// The longest.
        max_days: u64,
    },
    /// Too many wishes at once.
    #[error("{max} orders are remembered already: take back (unmove, online) what is no longer needed")]
    Full {
        /// How many there may be.
        max: usize,
    },
    /// The counter has reached its end.
    #[error(
        "the counter of orders has been driven to its end, by a peer gone astray: stop all nodes, remove the file operator_orders from each spool_dir, start them again"
    )]
    Exhausted,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dead => "is dead",
            Self::Standby => "is in standby",
            Self::Ineligible => "is inactive or leaving",
            Self::NotQuorate => "is not in touch with a majority, or has just started",
            Self::Unable => "cannot run it (see cm_stat; `drcm cleanup` lets it try again)",
            Self::Stopping => "has not got it down yet",
        })
    }
}
