//! What nodes say to each other, and note on disk, about the vote of each voter: where it is and how it is passed on.
//!
//! A vote belongs to a configured voter and is in one place at a time. It has a number that grows with every hand-over, so
//! that whatever arrives late is known to be old.

use serde::{Deserialize, Serialize};

use super::{Ack, BootId, GroupId, NodeId, Version, VoteNumber};

/// The votes that the sender of a heartbeat has. A node that knows nothing of lent votes sends none of this and has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// It would take another vote: it is a voter, lends by the same rules, and is not leaving.
    pub takes: bool,
    /// Its own vote was lent, and is not known to be back: it may be with a node that counts former voters.
    pub lent: bool,
    /// The votes that it answers with.
    pub votes: Vec<HeldVote>,
}

/// A vote that a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeldVote {
    /// The voter it belongs to.
    pub vote: NodeId,
    /// Its number.
    pub number: VoteNumber,
}

/// An [`Ack`] by a vote that is not the sender's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoteAck {
    /// The voter it belongs to.
    pub vote: NodeId,
    /// The answer.
    pub ack: Ack,
}

/// "This vote is yours now, with what it has promised": the grants `first ..` of `total`. The sender has noted that it gave it
/// away and answers with it no longer; repeated until answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PassVote {
    /// The voter it belongs to.
    pub vote: NodeId,
    /// Its number at the receiver.
    pub number: VoteNumber,
    /// Time for which it grants nothing new, in microseconds.
    pub silent_us: u64,
    /// Index of the first grant here.
    pub first: u32,
    /// Grants in all.
    pub total: u32,
    /// The grants.
    pub grants: Vec<PassedGrant>,
}

/// One promise of a vote that is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PassedGrant {
    /// The group.
    pub group: GroupId,
    /// Who has it.
    pub holder: NodeId,
    /// The holder's incarnation.
    pub boot: BootId,
    /// The holder's list under which it was granted last: only a later one gives it back.
    pub version: Version,
    /// Time left, in microseconds.
    pub remaining_us: u64,
}

/// The answer to [`PassVote`]. Both ways it is on disk first, and the sender will never take this number again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoteTaken {
    /// The voter it belongs to.
    pub vote: NodeId,
    /// The number offered.
    pub number: VoteNumber,
    /// It is here now; otherwise it is not, and the giver may take it back.
    pub taken: bool,
    /// The highest number that the sender will never take.
    pub known: VoteNumber,
}

/// A voter asks for its own vote, with its heartbeats, while that is elsewhere; or another asks in its stead, which is
/// in touch with a node that has it and that the voter does not hear, as while one of them is taken out of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WantVote {
    /// The voter it belongs to.
    pub vote: NodeId,
    /// Whoever does not have it is to promise never to take it under a number below this. Zero: no promise is asked for.
    pub below: VoteNumber,
}

/// "I do not have your vote, I am not passing it on, and I will never take it under a number below this": on disk before it is
/// said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoteAbsent {
    /// The promise.
    pub below: VoteNumber,
    /// The highest number known here.
    pub known: VoteNumber,
    /// The longest lease that this node may have granted with it, in microseconds.
    pub longest_us: u64,
}

/// What a node notes about one vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoteNote {
    /// The voter it belongs to.
    pub vote: NodeId,
    /// The highest number that this node had, gave away or promised not to take.
    pub number: VoteNumber,
    /// The highest number under which it took the vote.
    pub accepted: VoteNumber,
    /// The vote is here.
    pub held: bool,
    /// Otherwise, where it went from here.
    pub with: Option<NodeId>,
}

/// All that a node notes about votes. A later one replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VoteNotes {
    /// To repeat once it is on disk.
    pub serial: u64,
    /// One entry for each vote about which there is anything to note.
    pub votes: Vec<VoteNote>,
}
