//! What a daemon tells a client, over the client socket or, sealed, over TCP.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Command, EventPage, EventQuery, Fingerprint, Format, GroupId, NodeId, ResourceId, Subject, Wish};

/// A question to a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Are you there?
    Ping,
    /// What runs on you, and how do you see the cluster?
    Node,
    /// The same in few words: without the resources that are merely down, for whoever knows the configuration.
    Outline,
    /// Ask every member, each with a deadline, and put the answers together.
    Cluster,
    /// Ping these nodes from where you are (each with a deadline); empty for all.
    PingNodes(Vec<NodeId>),
    /// What happened lately.
    Events(EventQuery),
    /// An operator's command. Over the client socket only: the node tells the others.
    Command(Command),
    /// An operator answers for it that nobody counts other voters than those of the file. Over the client socket only; about this
    /// node only.
    ConfirmVoters,
    /// Read the configuration again. Over the client socket only; about this node only.
    Reload,
    /// Could you start what you are a candidate for?
    Drill,
    /// Ask every member that, each with a deadline.
    DrillAll,
    /// Another configuration. Over the status port only, whose clients know the authkey: what it names is run as root.
    Apply(Apply),
}

/// Another configuration for all nodes: this node's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Apply {
    /// Would it do? Changes nothing.
    Try {
        /// Of the file.
        text: String,
        /// Of the text.
        format: Format,
        /// Who asks, when the node is to be kept for a switch: the last one who did so may switch. Drawn by chance.
        ticket: Option<u64>,
    },
    /// Put it in place of the file, and reload. When it is refused the former file is back in place.
    Switch {
        /// Of the file.
        text: String,
        /// Of the text.
        format: Format,
        /// Of the try. When another one came after it, nothing is done: of two operators at once neither overwrites the other.
        ticket: u64,
    },
    /// Put the former file back where this text is in place, and reload.
    Undo {
        /// Of the file.
        text: String,
    },
}

/// Who may put a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Whoever may talk to the daemon at all.
    Ask,
    /// Who may steer the cluster: the client socket.
    Steer,
    /// Who knows the authkey: the status port.
    Configure,
}

impl Request {
    /// What it takes.
    #[must_use]
    pub const fn right(&self) -> Right {
        match self {
            Self::Command(_) | Self::ConfirmVoters | Self::Reload => Right::Steer,
            Self::Apply(_) => Right::Configure,
            Self::Ping
            | Self::Node
            | Self::Outline
            | Self::Cluster
            | Self::PingNodes(_)
            | Self::Events(_)
            | Self::Drill
            | Self::DrillAll => Right::Ask,
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Ping`].
    Pong,
    /// To [`Request::Node`] and [`Request::Outline`].
    Node(Box<NodeReport>),
    /// To [`Request::Cluster`].
    Cluster(ClusterReport),
    /// To [`Request::PingNodes`]: each node asked, with the round trip in microseconds when it answered.
    Pings(Vec<(NodeId, Option<u64>)>),
    /// To [`Request::Events`]: a page for each node that was to be asked.
    Events(Vec<EventPage>),
    /// To [`Request::Command`]: what was accepted and what comes of it, in sentences.
    Accepted(Vec<String>),
    /// To [`Request::Drill`]: every resource that the node may have to run.
    Drill(Vec<DrillReport>),
    /// To [`Request::DrillAll`]: each node in file order, with its answer if it had one in time.
    DrillAll(Vec<(NodeId, Option<Vec<DrillReport>>)>),
    /// The question could not be answered: a sentence for the operator.
    Refused(String),
}

/// Whether a node could start a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillReport {
    /// Which.
    pub resource: ResourceId,
    /// Its home: another node for what it backs up.
    pub home: NodeId,
    /// It runs there now, so there was nothing to find out.
    pub runs: bool,
    /// What is in the way of a start.
    pub fault: Option<String>,
}

/// The cluster as seen from one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// When, in seconds since 1970.
    pub at: i64,
    /// The node that asked the others.
    pub asked: NodeId,
    /// Every configured node, in file order.
    pub members: Vec<MemberReport>,
}

/// One configured node in a [`ClusterReport`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberReport {
    /// Identity.
    pub node: NodeId,
    /// `nodename`.
    pub name: String,
    /// `hostname`.
    pub hostname: String,
    /// `keep_alive_ip`.
    pub ip: IpAddr,
    /// Its own words, when it answered in time.
    pub report: Option<NodeReport>,
    /// The asked node counts it as alive.
    pub up: bool,
}

/// What one daemon knows of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Identity.
    pub node: NodeId,
    /// Daemon version.
    pub version: String,
    /// Daemon start, in seconds since 1970.
    pub started: i64,
    /// Its configuration.
    pub fingerprint: Fingerprint,
    /// May run resources.
    pub eligible: bool,
    /// Majority and who it sees.
    pub quorum: QuorumReport,
    /// Every group it is a candidate for.
    pub groups: Vec<GroupReport>,
    /// Every member of those groups; in an outline, the remarkable ones.
    pub resources: Vec<ResourceReport>,
    /// What operators want, as this node knows it.
    #[serde(default)]
    pub wishes: Vec<WishReport>,
    /// Datagrams dropped since start, by reason.
    pub dropped: Vec<(String, u64)>,
    /// Announcements of addresses sent to the network since start.
    #[serde(default)]
    pub announcements: u64,
}

/// An operator's wish in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WishReport {
    /// About what.
    pub subject: Subject,
    /// What.
    pub wish: Wish,
    /// Where it was said.
    pub author: NodeId,
    /// Its end, in seconds from now; none until it is taken back.
    pub seconds_left: Option<u64>,
}

/// Majority, as one node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuorumReport {
    /// In two-way touch with a majority of voters.
    pub quorate: bool,
    /// Voters in two-way touch, itself included.
    pub voters_seen: u32,
    /// Voters in the configuration.
    pub voters: u32,
    /// Still in start-up silence: grants nothing yet.
    pub silent: bool,
    /// Nodes heard within the lease time, itself included.
    pub alive: Vec<NodeId>,
    /// Nodes whose configuration differs.
    pub mismatched: Vec<NodeId>,
    /// The votes that this node grants with, by the voter each belongs to; none from a daemon that does not say.
    #[serde(default)]
    pub votes: Option<Vec<NodeId>>,
}

/// One group, as one candidate sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    /// The group.
    pub group: GroupId,
    /// Rank of this node among the candidates: 0 is the home node.
    pub rank: u32,
    /// What this node does with it.
    pub activity: Activity,
    /// Milliseconds left of the lease when this node holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// The owner as this node knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<NodeId>,
    /// Why it is not (or not yet) running here, as a sentence; empty while it runs, and where it is down because its owner has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What a node does with a group or a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// Nothing: it is down here.
    Stopped,
    /// Asks the voters for the lease.
    Asking,
    /// Being brought up.
    Starting,
    /// Up.
    Running,
    /// Being brought down.
    Stopping,
    /// Could not be run here.
    Failed,
}

impl Activity {
    /// The word in JSON and in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Asking => "asking",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }

    /// Neither up nor down.
    #[must_use]
    pub const fn is_on_its_way(self) -> bool {
        match self {
            Self::Asking | Self::Starting | Self::Stopping => true,
            Self::Stopped | Self::Running | Self::Failed => false,
        }
    }
}

/// The driver of a resource that needs no script.
pub const NATIVE: &str = "native";

/// One resource on one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// The resource.
    pub resource: ResourceId,
    /// Its home node.
    pub home: NodeId,
    /// What this node does with it.
    pub activity: Activity,
    /// When it was started here, in seconds since 1970.
    pub since: Option<i64>,
    /// What it is, in a line: the address and interface, the service name ...
    pub what: String,
    /// [`NATIVE`], or which script.
    pub driver: String,
    /// The last failure, when there is one.
    pub problem: Option<Problem>,
}

impl ResourceReport {
    /// Down, by nobody's fault, and nothing special if it were up.
    #[must_use]
    pub fn is_unremarkable(&self) -> bool {
        self.activity == Activity::Stopped && self.problem.is_none() && self.driver == NATIVE
    }
}

/// A failure of a resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// What failed and what to do, in a sentence.
    pub message: String,
    /// When, in seconds since 1970.
    pub at: i64,
    /// Failures within the restart window.
    pub count: u32,
}
