//! What nodes say to each other. Each node publishes a numbered list of its claims and keeps it alive by heartbeats
//! that name the number only, so a heartbeat costs the same however many groups there are.

use serde::{Deserialize, Serialize};

use super::{
    AssignmentId, Ballot, BootId, Electorate, ElectorateId, Fingerprint, GroupId, NodeId, PassVote, Tag, Version, VoteAbsent, VoteAck,
    VoteTaken, WantVote, WishDigest, Wishes,
};

/// One message. Several to the same node may share a datagram.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// "I live, and I still claim list N."
    Heartbeat(Heartbeat),
    /// A list of claims, or a part of one.
    Claims(Claims),
    /// A voter's answer to a heartbeat whose sender claims something.
    Ack(Ack),
    /// "I do not know your list N: send it."
    Want(Want),
    /// What a group consists of, for a voter whose configuration differs.
    Definition(Definition),
    /// What operators want.
    Wishes(Wishes),
    /// A voter's word, to a node that is none, on the nodes that are none: they do not hear each other.
    Digest(Digest),
    /// What a voter knows of nodes that are no voters, as far as it has changed.
    Roster(Roster),
    /// "I know your roster up to N: send what came after."
    WantRoster(WantRoster),
    /// A list of claims, or a part of one, as another node published it.
    Relayed(Relayed),
    /// "Send me that node's list."
    WantRelayed(WantRelayed),
    /// The voters that the sender counts, and those it or others counted before.
    Electorate(Electorate),
    /// "Send me your electorate."
    WantElectorate,
    /// An answer by a vote that was lent to the sender.
    VoteAck(VoteAck),
    /// A vote changes its place.
    PassVote(PassVote),
    /// Whether it has.
    VoteTaken(VoteTaken),
    /// A voter asks for its own vote.
    WantVote(WantVote),
    /// It is not here.
    VoteAbsent(VoteAbsent),
}

/// Sent to every peer each `keep_alive_interval`, and at once when something changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Number of this heartbeat; acks repeat it.
    pub tag: Tag,
    /// The list of claims that this heartbeat renews.
    pub version: Version,
    /// Entries in that list; zero needs no ack.
    pub entries: u32,
    /// What the sender is.
    pub state: NodeState,
    /// The sender has heard the receiver within its lease time: touch is two-way.
    pub hears_you: bool,
    /// Its configuration.
    pub fingerprint: Fingerprint,
    /// What operators want, as far as it knows; none from a version that knows of no such thing.
    pub wishes: Option<WishDigest>,
    /// The voters it counts; none from a version that knows of no such thing.
    pub electorate: Option<ElectorateId>,
    /// The votes it has; none from a node that knows nothing of lent votes.
    pub ballot: Option<Ballot>,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeState {
    /// May run resources: `node_is_active`, not in standby, not leaving.
    pub eligible: bool,
    /// Has left cleanly and holds nothing: forget me at once.
    pub left: bool,
    /// In two-way touch with a majority of voters and past its start-up silence: it would ask for what it may run.
    pub quorate: bool,
    /// In standby by the operator's order.
    pub standby: bool,
}

/// Entries `first ..` of the list `version`, which has `total` entries in ascending order of group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claims {
    /// Number of the list.
    pub version: Version,
    /// Index of the first entry here.
    pub first: u32,
    /// Entries in the whole list.
    pub total: u32,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// What a node says of one group. No entry: the node has nothing to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The group.
    pub group: GroupId,
    /// What it does with it.
    pub stance: Stance,
}

/// A node's relation to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stance {
    /// Asks for, or holds, the lease for this long after each heartbeat, in microseconds. `running`: it was up at the last report.
    Claims {
        /// Lease time asked for.
        lease_us: u64,
        /// Resources are up.
        running: bool,
    },
    /// Has let the lease go in favour of this node, which is to ask at once.
    HandsOver {
        /// The node meant.
        next: NodeId,
    },
    /// Cannot run it (its start failed, its link is down).
    Unable,
}

/// A voter's answer: entries `first .. first + count` of list `version` are granted for heartbeat `tag`, except the refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ack {
    /// The heartbeat answered.
    pub tag: Tag,
    /// The list it named.
    pub version: Version,
    /// First entry this ack speaks of.
    pub first: u32,
    /// Number of entries it speaks of.
    pub count: u32,
    /// Longest lease this voter grants, in microseconds: a claim for more got this much.
    pub cap_us: u64,
    /// Entries not granted, ascending.
    pub refused: Vec<Refusal>,
    /// The voters that the answering one counts; none from a version that knows of no such thing.
    pub electorate: Option<ElectorateId>,
}

/// One entry not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refusal {
    /// The group.
    pub group: GroupId,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a voter does not grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefusalReason {
    /// Another holder's grant has not expired.
    Busy {
        /// Who has it.
        holder: NodeId,
        /// Time left by the voter's clock, in microseconds.
        remaining_us: u64,
    },
    /// The voter has just started and may have forgotten a grant.
    Silent {
        /// Time until it grants, in microseconds.
        remaining_us: u64,
    },
    /// The voter does not know what this group consists of: send a [`Definition`].
    Unknown,
}

/// See [`Message::Want`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Want {
    /// The list wanted.
    pub version: Version,
}

/// Members `first ..` of the `total` members of a group, ascending: the hash of all of them is its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Definition {
    /// The group.
    pub group: GroupId,
    /// Index of the first member here.
    pub first: u32,
    /// Members of the whole group.
    pub total: u32,
    /// The members.
    pub assignments: Vec<AssignmentId>,
}

/// Rides on every heartbeat of a voter to a node that is none. Every node that the roster calls alive has been heard within
/// the last two heartbeat intervals or an eighth of T, whichever is longer, but for the late ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest {
    /// Number with which the voter's roster began: what was told of an earlier one is void.
    pub began: Version,
    /// Number of the voter's roster.
    pub roster: Version,
    /// Nodes not heard for longer than that; the longest silent ones, when there are too many to name.
    pub late: Vec<Late>,
}

/// A node whose heartbeat is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Late {
    /// The node.
    pub node: NodeId,
    /// How long the voter has not heard it, by the voter's clock, in microseconds.
    pub age_us: u64,
}

/// Everything that changed in a voter's roster after `from`, up to `to`. A reader that has not come as far as `from` lacks
/// something and asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Roster {
    /// Number with which the roster began: what was told of an earlier one is void.
    pub began: Version,
    /// The reader must know the roster up to here.
    pub from: Version,
    /// And does up to here afterwards.
    pub to: Version,
    /// What has changed.
    pub facts: Vec<Fact>,
}

/// What a voter knows of one node that is no voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fact {
    /// The node.
    pub node: NodeId,
    /// Its incarnation, proven to the voter.
    pub boot: BootId,
    /// The voter has heard it within T.
    pub alive: bool,
    /// How long ago that was when this was sent, by the voter's clock, in microseconds.
    pub age_us: u64,
    /// The heartbeat that said so.
    pub tag: Tag,
    /// What it says of itself.
    pub state: NodeState,
    /// The list it claims.
    pub version: Version,
    /// Entries in that list.
    pub entries: u32,
}

/// See [`Message::WantRoster`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WantRoster {
    /// Known up to here.
    pub have: Version,
}

/// See [`Message::Relayed`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Relayed {
    /// Whose list it is.
    pub node: NodeId,
    /// The incarnation that published it.
    pub boot: BootId,
    /// The list, or a part of it.
    pub claims: Claims,
}

/// See [`Message::WantRelayed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WantRelayed {
    /// Whose list.
    pub node: NodeId,
    /// The list wanted, or any later one.
    pub version: Version,
}
