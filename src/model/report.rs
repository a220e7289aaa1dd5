//! What a daemon tells a client, over the client socket or, sealed, over TCP.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Command, Fingerprint, GroupId, NodeId, ResourceId, Subject, Wish};

/// A question to a daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Are you there?
    Ping,
    /// What runs on you, and how do you see the cluster?
    Node,
    /// Ask every member, each with a deadline, and put the answers together.
    Cluster,
    /// Ping these nodes from where you are (each with a deadline); empty for all.
    PingNodes(Vec<NodeId>),
    /// An operator's command. Over the client socket only: the node tells the others.
    Command(Command),
    /// An operator answers for it that nobody counts other voters than those of the file. Over the client socket only; about this
    /// node only.
    ConfirmVoters,
}

impl Request {
    /// Changes something, rather than only asking.
    #[must_use]
    pub const fn is_command(&self) -> bool {
        match self {
            Self::Command(_) | Self::ConfirmVoters => true,
            Self::Ping | Self::Node | Self::Cluster | Self::PingNodes(_) => false,
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Ping`].
    Pong,
    /// To [`Request::Node`].
    Node(NodeReport),
    /// To [`Request::Cluster`].
    Cluster(ClusterReport),
    /// To [`Request::PingNodes`]: each node asked, with the round trip in microseconds when it answered.
    Pings(Vec<(NodeId, Option<u64>)>),
    /// To [`Request::Command`]: what was accepted and what comes of it, in sentences.
    Accepted(Vec<String>),
    /// The question could not be answered: a sentence for the operator.
    Refused(String),
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
    /// Every member of those groups.
    pub resources: Vec<ResourceReport>,
    /// What operators want, as this node knows it.
    #[serde(default)]
    pub wishes: Vec<WishReport>,
    /// Datagrams dropped since start, by reason.
    pub dropped: Vec<(String, u64)>,
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
}

/// One group, as one candidate sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    /// The group.
    pub group: GroupId,
    /// Its name for people.
    pub title: String,
    /// Rank of this node among the candidates: 0 is the home node.
    pub rank: u32,
    /// What this node does with it.
    pub activity: Activity,
    /// Milliseconds left of the lease when this node holds it.
    pub lease_ms: Option<u64>,
    /// The owner as this node knows it.
    pub owner: Option<NodeId>,
    /// Why it is not (or not yet) running here, as a sentence; empty while it runs.
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
    /// Native or script.
    pub driver: String,
    /// The last failure, when there is one.
    pub problem: Option<Problem>,
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
