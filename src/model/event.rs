//! What goes into the cluster core and what comes out of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BootId, Electorate, Generation, GroupId, Message, NodeId, Record, Stamp, Subject, Time, VoteNotes, Wish};

/// Something that happened; given to the core with the time at which it is handled.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The deadline of the core has come (or may have: a spurious one does no harm).
    Timer,
    /// A peer's message that passed the seal and the replay window.
    Received {
        /// Its sender, proven by the seal.
        from: NodeId,
        /// The sender's incarnation, proven live.
        boot: BootId,
        /// The message.
        message: Message,
    },
    /// The executor finished an order.
    Done {
        /// The group.
        group: GroupId,
        /// The order it answers; anything but the latest is ignored.
        generation: Generation,
        /// How it went.
        outcome: Outcome,
    },
    /// A running group died or lost its link beyond local repair, or got well again.
    Fitness {
        /// The group.
        group: GroupId,
        /// Whether this node can run it.
        able: bool,
    },
    /// An operator's or init system's wish.
    Order(Order),
    /// Operators' wishes that were said on this node and are kept on its disk.
    Wished(Vec<Record>),
    /// The answer to [`Action::CheckAlone`].
    Alone {
        /// What was looked at.
        checks: Checks,
        /// All of it was found as it should be.
        clear: bool,
    },
    /// The [`Output::KeepVotes`] with this serial, and with it all before, is on disk.
    VotesKept {
        /// The serial.
        serial: u64,
    },
}

/// How an order of the core ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Every member is up.
    Started,
    /// Some member could not be started, or kept running, within its restart limit; every member is down again.
    StartFailed,
    /// Every member is down.
    Stopped,
}

/// What an operator can ask of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Stop what must be stopped, hand over, then report [`Output::Left`].
    Leave,
    /// This node: run nothing (true), or take part again (false). As a wish said here, and told to the others.
    Standby(bool),
    /// Let a group that rests as failed here be tried again.
    Cleanup(GroupId),
    /// An operator answers for it that nobody counts other voters than those of the configuration: what was counted before is forgotten.
    ConfirmVoters,
}

/// What the core wants done. In order: an output must not overtake the one before it.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send to a peer.
    Send {
        /// The peer.
        to: NodeId,
        /// The message.
        message: Message,
    },
    /// Do something to resources.
    Act(Action),
    /// Something was decided; for the log and the events.
    Decided(Decision),
    /// What operators want has changed: all of it, to be kept where it survives a reboot.
    Keep(Vec<Record>),
    /// To be kept where it survives a reboot; when it cannot be, what was kept before is still right, only more careful.
    Remember(Electorate),
    /// Note this where it survives a reboot, in place of what was noted before; answer with [`Event::VotesKept`] once it does.
    KeepVotes(VoteNotes),
    /// After [`Order::Leave`]: nothing is held any more; the daemon may exit.
    Left,
}

/// An order to the executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bring every member up, in order. A later order for the group cancels it.
    Start {
        /// The group.
        group: GroupId,
        /// To repeat in the report.
        generation: Generation,
        /// The lease, for what the kernel enforces; `None` when the group needs none.
        until: Option<Time>,
        /// An earlier process of this incarnation had it up, or began to bring it up: what is found up is taken over untouched.
        adopt: bool,
    },
    /// Bring every member down, in reverse order. Tried until it succeeds; only then reported.
    Stop {
        /// The group.
        group: GroupId,
        /// To repeat in the report.
        generation: Generation,
        /// Why.
        why: StopReason,
    },
    /// The lease of a started group now lasts until then.
    Extend {
        /// The group.
        group: GroupId,
        /// End of the lease.
        until: Time,
    },
    /// A healed membership: announce the group's addresses again.
    Announce {
        /// The group.
        group: GroupId,
    },
    /// Check this before carrying on alone; answer with [`Event::Alone`]. A later order replaces the one before.
    CheckAlone {
        /// What to look at.
        checks: Checks,
    },
    /// Leave what runs to the operator: no check, no repair; leases go on being kept (true). Or look after it again (false).
    HandsOff(bool),
}

/// What must be found in order before a node of a pair goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checks {
    /// The keep-alive link has carrier and the gateway, when one is configured, answers: enough to keep what runs.
    Link,
    /// Nobody else uses the addresses it might take, besides: enough to take them.
    All,
}

/// Why a group is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopReason {
    /// The node has just started: whatever an earlier life left behind goes down first.
    CleanSlate,
    /// The lease ran out.
    LeaseLost,
    /// It goes home.
    HandOver(NodeId),
    /// It goes where the operator wants it.
    Moved(NodeId),
    /// The daemon leaves.
    Leaving,
    /// The operator's standby.
    Standby,
    /// The group failed here.
    Failed,
    /// A pair healed and the other node keeps it.
    PairHealed,
}

/// Something decided, with the facts that led to it.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// A peer was heard.
    PeerUp(NodeId),
    /// A peer has been silent for the lease time.
    PeerDown {
        /// The peer.
        node: NodeId,
        /// Last heard.
        last: Option<Time>,
    },
    /// A peer said goodbye.
    PeerLeft(NodeId),
    /// A peer's configuration differs from ours (or agrees again).
    Mismatch {
        /// The peer.
        node: NodeId,
        /// It differs now.
        differs: bool,
    },
    /// A peer counts other voters than this node, such that two majorities could miss each other (or no longer does): its
    /// vote does not count here.
    OtherVoters {
        /// The peer.
        node: NodeId,
        /// It does now.
        differs: bool,
    },
    /// Touch with a majority of voters won or lost.
    Quorum {
        /// Won.
        quorate: bool,
        /// Voters in two-way touch, this node included.
        voters: u32,
    },
    /// The node asks for a group.
    Asks {
        /// The group.
        group: GroupId,
        /// Why now.
        why: AskReason,
    },
    /// A majority granted it.
    Acquired {
        /// The group.
        group: GroupId,
        /// Until when.
        until: Time,
    },
    /// No majority came: what was granted is given back.
    Withdrew {
        /// The group.
        group: GroupId,
    },
    /// The lease ran out.
    Lost {
        /// The group.
        group: GroupId,
    },
    /// Stopped and given back.
    Released {
        /// The group.
        group: GroupId,
        /// For whom.
        next: Option<NodeId>,
    },
    /// Started.
    Running {
        /// The group.
        group: GroupId,
    },
    /// This node cannot run it.
    Unable {
        /// The group.
        group: GroupId,
    },
    /// In a pair, the other voter is silent and the link works: what runs here goes on although its lease is about to end.
    KeepsAlone,
    /// A vote changed its place, or should.
    Vote {
        /// The voter it belongs to.
        vote: NodeId,
        /// What happened.
        news: VoteNews,
    },
    /// Alone in a pair, after the three checks.
    CarriesOnAlone,
    /// An operator's wish was said or heard of, or was met and is cleared.
    Wished {
        /// About what.
        subject: Subject,
        /// What.
        wish: Wish,
        /// Its age.
        stamp: Stamp,
    },
    /// The time of an operator's wish is over.
    Lapsed(Subject),
}

/// What happened to a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteNews {
    /// It was passed on.
    Passed {
        /// To this node.
        to: NodeId,
    },
    /// It came.
    Taken {
        /// From this node.
        from: NodeId,
    },
    /// Our own has been elsewhere for some time; it is asked for.
    Missed {
        /// Where it is, as far as is known here.
        with: Option<NodeId>,
    },
    /// Nobody had our own any more; it counts again after a silence.
    MadeAnew,
    /// Another node has it under a higher number: ours was void.
    Overtaken {
        /// The other node.
        by: NodeId,
    },
    /// Its voter has lost its notes and took it for its own: no new grants until what it may have promised is over.
    Doubted,
}

/// Why a candidate asks now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskReason {
    /// It is the home node.
    Home,
    /// The operator wants it here.
    Preferred,
    /// The owner named it.
    HandedOver {
        /// By whom.
        by: NodeId,
    },
    /// Every better candidate is dead, ineligible or unable.
    BetterGone,
    /// The lease stayed free although a better candidate seems well.
    StayedFree,
}

/// Why the core wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wake {
    /// The next heartbeat is due.
    Heartbeat,
    /// A held lease ends.
    LeaseEnd(GroupId),
    /// A peer would count as dead.
    PeerSilence(NodeId),
    /// A question to the voters is to be asked or given up.
    Ask(GroupId),
    /// The home node has been well for long enough.
    Failback(GroupId),
    /// The checks before carrying on alone are due.
    AloneCheck,
    /// An operator's wish ends.
    WishEnd,
    /// A vote is to be passed on.
    Vote,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CleanSlate => "clean slate at start-up",
            Self::LeaseLost => "lease lost",
            Self::HandOver(_) => "handed over",
            Self::Moved(_) => "moved by the operator",
            Self::Leaving => "this node is leaving",
            Self::Standby => "standby",
            Self::Failed => "it failed here",
            Self::PairHealed => "the other node of the pair keeps it",
        })
    }
}
