//! What a configuration means, after every check: a [`Config`] cannot hold a wrong state.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Assignment, Fingerprint, GroupId, Kind, NodeId, ResourceId, Severity};

/// One cluster, as every node reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[CM_SERVER]`.
    pub server: Server,
    /// The nodes, in file order.
    pub nodes: Vec<NodeConfig>,
    /// The global resources, in file order.
    pub resources: Vec<Resource>,
    /// Every assignment is in exactly one group. Ordered by home (file order), then by first member.
    pub groups: Vec<Group>,
    /// Hash of all that must agree between nodes.
    pub fingerprint: Fingerprint,
}

impl Config {
    /// The node with this id.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeConfig> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The `nodename` of a node, or its id when this file does not list it.
    #[must_use]
    pub fn name(&self, id: NodeId) -> String {
        self.node(id).map_or_else(|| id.to_string(), |node| node.name.clone())
    }

    /// A name for people of the group with this id; the id when it is in no file of ours.
    #[must_use]
    pub fn title(&self, id: GroupId) -> String {
        self.group(id).map_or_else(|| format!("group {id}"), |group| group.title(self))
    }

    /// The resource with this id.
    #[must_use]
    pub fn resource(&self, id: &ResourceId) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.id == *id)
    }

    /// The group with this id.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.iter().find(|group| group.id == id)
    }

    /// The nodes that grant leases, in file order.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.iter().filter(|node| node.voter).map(|node| node.id)
    }

    /// T of the cluster: a lease that is not renewed for this long is over (`keep_alive_interval` x `dead_node_count`). A
    /// node may have another one of its own: [`NodeConfig::pace`].
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.server.pace().lease()
    }

    /// The longest T of any node: no voter ever promises more (`takeover = strict` adds the time to stop).
    #[must_use]
    pub fn longest_lease(&self) -> Duration {
        self.nodes.iter().map(|node| node.pace.lease()).max().unwrap_or_else(|| self.lease())
    }

    /// Whether two nodes talk by TCP: one of them asks for it.
    #[must_use]
    pub fn by_tcp(&self, one: NodeId, other: NodeId) -> bool {
        self.nodes.iter().any(|node| (node.id == one || node.id == other) && node.transport == Transport::Tcp)
    }

    /// Where a node listens for cluster datagrams and its peers send them.
    #[must_use]
    pub fn peer_address(&self, node: &NodeConfig) -> SocketAddr {
        SocketAddr::new(node.keep_alive_ip, self.server.udpport)
    }
}

/// How often a node is heard, and how much silence makes it dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// h: time between heartbeats.
    pub interval: Duration,
    /// Heartbeats missed in a row before the node counts as dead.
    pub count: u32,
}

impl Pace {
    /// T: as much silence as makes it dead.
    #[must_use]
    pub fn lease(self) -> Duration {
        self.interval * self.count
    }
}

/// `[CM_SERVER]`: what holds for the whole cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// UDP port of the heartbeats.
    pub udpport: u16,
    /// TCP port for status questions between nodes, and for heartbeats of `transport = tcp` nodes.
    pub tcpport: u16,
    /// h: time between heartbeats (`keep_alive_interval`, written in milliseconds).
    pub keep_alive_interval: Duration,
    /// Heartbeats missed in a row before a node counts as dead.
    pub dead_node_count: u32,
    /// Listen on the node's own keep-alive address only.
    pub bind_to_keep_alive_ip: bool,
    /// `apply`: the node takes another configuration from `drcm apply`.
    pub apply: bool,
    /// When a candidate may own a lease.
    pub quorum: Quorum,
    /// What an owner does when it sees no majority.
    pub no_quorum: NoQuorum,
    /// Whether a resource goes home by itself.
    pub failback: Failback,
    /// How long the home node must have been well before a resource goes home.
    pub failback_delay: Duration,
    /// What a loser and a winner wait for.
    pub takeover: Takeover,
    /// How long a stop may take under [`Takeover::Strict`].
    pub stop_timeout: Duration,
    /// An address outside the cluster that must answer before a node of a pair carries on alone.
    pub gateway: Option<IpAddr>,
    /// Force scripts for every resource (`resource_driver = script`).
    pub script_driver: bool,
    /// Directory of `authkey`, `authkey.sha1` and the CIFS credentials.
    pub auth_dir: PathBuf,
    /// Directory of the client socket, pid and lease state (lost at boot).
    pub run_dir: PathBuf,
    /// Directory of all logs.
    pub log_dir: PathBuf,
    /// Directory of what survives a boot.
    pub spool_dir: PathBuf,
    /// User the daemon runs as.
    pub cluster_user: String,
    /// Group whose members may use the client socket.
    pub cluster_group: String,
    /// Prefix for scripts when the daemon is not root.
    pub sudo_command: String,
    /// Name of the daemon in logs and of its pid file.
    pub service_name: String,
    /// The log.
    pub log: LogSettings,
    /// Shell for scripts and applications.
    pub bash_shell: PathBuf,
    /// File sourced before an application's commands, after the login profile; empty for none.
    pub bash_rc_file: Option<PathBuf>,
    /// umask of the daemon and its children.
    pub umask: u32,
    /// Who is told of what happens.
    pub alerts: Alerts,
    /// Where the cluster can be looked at.
    pub status_page: Option<StatusPage>,
}

impl Server {
    /// The pace of nodes that have none of their own.
    #[must_use]
    pub fn pace(&self) -> Pace {
        Pace { interval: self.keep_alive_interval, count: self.dead_node_count }
    }
}

/// The `[CM_SERVER]` keys about telling people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts {
    /// Told of events that are grave enough, on the node that is to tell.
    pub command: Option<PathBuf>,
    /// Every program in it is told of every event on its node.
    pub hooks_dir: PathBuf,
    /// Longest that a program may take.
    pub timeout: Duration,
    /// How grave an event must be for mails, `alert_command` and the webhook.
    pub severity: Severity,
    /// Receivers of mails: addresses, or names of accounts where the mail server is.
    pub email: Vec<String>,
    /// Receivers of text messages.
    pub text: Vec<String>,
    /// A `cm_alert_list.sh` with more of both.
    pub lists: Option<PathBuf>,
    /// Sender; `drcm@HOSTNAME` when left out.
    pub from: Option<String>,
    /// After a mail there is none for so many hours.
    pub hours: u32,
    /// Who takes mails.
    pub smtp: Relay,
    /// Where events are posted.
    pub webhook: Option<Webhook>,
}

impl Alerts {
    /// Somebody may get mails.
    #[must_use]
    pub fn mails(&self) -> bool {
        !self.email.is_empty() || !self.text.is_empty() || self.lists.is_some()
    }
}

/// The status page and the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusPage {
    /// Where they are served.
    pub listen: std::net::SocketAddr,
    /// File in `auth_dir` with what a visitor must know.
    pub token: Option<String>,
}

/// A server of mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Where events are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// `http` or `https`.
    pub url: String,
    /// File in `auth_dir` with a bearer token.
    pub token: Option<String>,
    /// Certificates of those who may vouch for the server, instead of those that this machine knows.
    pub authorities: Option<PathBuf>,
}

/// The `[CM_SERVER]` keys about the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// File name within `log_dir`, never a path.
    pub file: String,
    /// Rotated logs to keep besides the current one.
    pub keep: u32,
    /// Bytes at which the log is rotated.
    pub max_size: u64,
    /// Lines waiting to be written before further ones are dropped and counted.
    pub queue: u32,
    /// Start with an empty log.
    pub clear: bool,
    /// Write the log at all.
    pub enabled: bool,
    /// 0 to 5; more is chattier.
    pub level: u8,
    /// Debug messages, and how many (1 to 5).
    pub debug: Option<u8>,
    /// Verbose messages on stderr, and how many (1 to 5).
    pub verbose: Option<u8>,
}

/// `quorum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quorum {
    /// Majority; pair rules when there are exactly two voters.
    Auto,
    /// Majority always.
    Majority,
    /// Pair rules at any size: a survivor carries on alone.
    None,
}

/// `no_quorum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoQuorum {
    /// Stop what is leased.
    Stop,
    /// Keep what runs running, start nothing. Two owners become possible: for resources that bear it.
    Freeze,
}

/// `failback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Failback {
    /// After `failback_delay`.
    Auto,
    /// When the operator says so.
    Manual,
}

/// `takeover`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Takeover {
    /// The loser stops as soon as it may; the winner does not wait for slow stops.
    Prompt,
    /// The lease is longer by `stop_timeout`; the winner starts only after the loser must be done.
    Strict,
}

/// `transport` of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Length-prefixed frames, for WAN links.
    Tcp,
}

/// One `[CM_NODE]`.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// Identity, from the name.
    pub id: NodeId,
    /// `nodename`.
    pub name: String,
    /// `hostname`, equal to `uname -n` there.
    pub hostname: String,
    /// Where its heartbeats come from and go to.
    pub keep_alive_ip: IpAddr,
    /// An inactive node is a member that runs nothing.
    pub active: bool,
    /// Grants leases. Resolved: all nodes up to seven; beyond that those marked, else the first seven.
    pub voter: bool,
    /// How heartbeats reach it, and its own the others.
    pub transport: Transport,
    /// `keep_alive_interval` and `dead_node_count` of its own, else those of the cluster. Two nodes talk at the longer interval
    /// of the two, and count each other as dead after the longer time.
    pub pace: Pace,
    /// What stays running when its daemon exits.
    pub keep: Keep,
    /// How often each kind is probed.
    pub checks: CheckIntervals,
    /// The resources it is home of, in list order, kind by kind.
    pub primary: Vec<ResourceId>,
    /// The assignments it is a backup for, in list order, kind by kind.
    pub backup: Vec<Assignment>,
}

/// `keep_*` of a node: leave running when the daemon exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// `keep_services`.
    pub services: bool,
    /// `keep_filesystems`.
    pub filesystems: bool,
    /// `keep_applications`.
    pub applications: bool,
}

/// `*_check` of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckIntervals {
    /// `ipaddrs_check` and its other spellings.
    pub addresses: Duration,
    /// `filesystems_check`.
    pub filesystems: Duration,
    /// `services_check`.
    pub services: Duration,
    /// `crontabs_check`.
    pub crontabs: Duration,
    /// `applications_check`.
    pub applications: Duration,
}

impl CheckIntervals {
    /// The interval for one kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> Duration {
        match kind {
            Kind::FileSystem => self.filesystems,
            Kind::Address => self.addresses,
            Kind::Service => self.services,
            Kind::Application => self.applications,
            Kind::Crontab => self.crontabs,
        }
    }
}

/// One global resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Kind and nickname.
    pub id: ResourceId,
    /// What it is.
    pub spec: Spec,
    /// Who does the work.
    pub driver: Driver,
    /// What only TOML can say; defaults otherwise.
    pub options: Options,
}

impl Resource {
    /// What it mounts, if that is what it does.
    #[must_use]
    pub const fn file_system(&self) -> Option<&FileSystem> {
        match &self.spec {
            Spec::FileSystem(file_system) => Some(file_system),
            Spec::Address(_) | Spec::Service(_) | Spec::Application(_) | Spec::Crontab(_) => None,
        }
    }
}

/// How a configuration is written; findings speak the language of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// cm.cfg
    Cfg,
    /// cm.toml
    Toml,
}

/// Who starts and stops a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The daemon itself.
    Native,
    /// This script, with the documented arguments.
    Script(PathBuf),
}

/// Per-resource options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Longest a start may take.
    pub start_timeout: Duration,
    /// Longest a stop may take before it escalates.
    pub stop_timeout: Duration,
    /// Longest a probe may take before it counts as *stalled*.
    pub check_timeout: Duration,
    /// Start tries within `restart_window` before the node declares itself unable.
    pub restart_limit: u32,
    /// Window of `restart_limit`.
    pub restart_window: Duration,
    /// Start order within the group; lower first; equal ones by kind, then by file order.
    pub order: i32,
    /// Mount options of a file system, comma separated.
    pub mount_options: Option<String>,
}

/// What a resource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// `[CM_FILESYSTEMS]`
    FileSystem(FileSystem),
    /// `[CM_IPADDRS]`
    Address(Address),
    /// `[CM_SERVICES]`
    Service(Service),
    /// `[CM_APPLICATIONS]`
    Application(Application),
    /// `[CM_CRONTABS]`
    Crontab(Crontab),
}

/// A floating address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// The netmask as written, which scripts are given.
    pub netmask: String,
    /// Where it goes.
    pub interface: Interface,
}

/// `eth0` or `eth0:1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The device: `eth0`.
    pub device: String,
    /// The address label when one is written: `eth0:1`.
    pub label: Option<String>,
}

/// A system service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unit or init script name, as written.
    pub name: String,
}

/// An application of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// User it runs as.
    pub user: String,
    /// Group it runs as.
    pub group: String,
    /// Shell text that starts it.
    pub start: String,
    /// Shell text that stops it.
    pub stop: String,
    /// Shell text that restarts what died, run at every check.
    pub ensure: Option<String>,
}

/// A crontab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crontab {
    /// File to copy.
    pub template: PathBuf,
    /// Directory to copy it to, under its base name.
    pub install_dir: PathBuf,
}

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// `host:/dir`, `//host/share`, a device ... as written.
    pub source: String,
    /// Mount point.
    pub target: PathBuf,
}

impl FileSystem {
    /// Whether its mount point, or the directory that it shows, is within the other: it is mounted after that one.
    #[must_use]
    pub fn lies_on(&self, base: &Self) -> bool {
        self.target.starts_with(&base.target) || Path::new(&self.source).starts_with(&base.target)
    }
}

/// Assignments with the same home and the same candidates: they move together under one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Identity: the hash of the members.
    pub id: GroupId,
    /// The home node.
    pub home: NodeId,
    /// The home node first, then its backups in file order. One candidate: no lease is needed.
    pub candidates: Vec<NodeId>,
    /// Members in start order.
    pub assignments: Vec<Assignment>,
}

impl Group {
    /// A group that may run on one node only of several.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        self.candidates.len() > 1
    }

    /// A name for people: the home and the nicknames.
    #[must_use]
    pub fn title(&self, config: &Config) -> String {
        let names: Vec<&str> = self.assignments.iter().map(|assignment| assignment.resource.nickname.as_str()).collect();
        format!("{}:{}", config.name(self.home), names.join("+"))
    }
}
