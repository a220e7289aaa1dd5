//! What a cluster report means against the configuration: which resources should run, where each does, and why not.
//! Pure; the text is made elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    verdict::{self, Verdict},
    view::{View, describe},
};
use crate::model::{
    Activity, Assignment, ClusterReport, Config, Fingerprint, Group, GroupId, Kind, MemberReport, NATIVE, NodeId, NodeReport, Quorum,
    ResourceId, ResourceReport, Spec, Subject, Wish,
};

/// A cluster report, judged.
#[derive(Clone, Debug)]
pub struct Assessment {
    /// Every node of the configuration in file order, then those only the report knows.
    pub members: Vec<Member>,
    /// Every assignment, home by home; one that runs on several nodes has a row for each.
    pub rows: Vec<Row>,
    /// Resources active on two nodes that must be active on one.
    pub duplicates: Vec<Duplicate>,
    /// Nodes whose configuration differs from the one used here, by name.
    pub mismatched: Vec<String>,
    /// Who has which configuration, by name, the one used here first; one entry when all agree.
    pub configurations: Vec<(Fingerprint, Vec<String>)>,
    /// Votes that are not with the node they belong to.
    pub lent: Vec<LentVote>,
    /// Pairs `(listener, speaker)`, by name: both are up, yet the first does not hear the second.
    pub unheard: Vec<(String, String)>,
    /// Majority, as the node that was asked sees it.
    pub majority: Majority,
    /// Operators want hands off.
    pub maintenance: bool,
    /// What it all comes to.
    pub verdict: Verdict,
}

/// A vote away from home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LentVote {
    /// The voter it belongs to, by name.
    pub vote: String,
    /// The node that answers with it, by name.
    pub with: String,
}

/// A line of the members table.
#[derive(Clone, Debug)]
pub struct Member {
    /// Identity.
    pub node: NodeId,
    /// `nodename`.
    pub name: String,
    /// `hostname`.
    pub hostname: String,
    /// `keep_alive_ip`.
    pub ip: String,
    /// The node asked counts it as alive.
    pub up: bool,
    /// It gave a report of its own.
    pub answered: bool,
    /// Daemon version, when it answered.
    pub version: Option<String>,
    /// In standby, by an operator's wish.
    pub standby: bool,
    /// What is odd about it.
    pub notes: Vec<String>,
}

/// A line of the resource table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The resource.
    pub resource: ResourceId,
    /// What it moves with; none when the configuration read here does not list it.
    pub group: Option<GroupId>,
    /// The node it belongs to.
    pub home_node: NodeId,
    /// The node that runs it, or is about to.
    pub owner_node: Option<NodeId>,
    /// `hostname` of the node it belongs to.
    pub home: String,
    /// `hostname` of the node that runs it, or is about to.
    pub owner: Option<String>,
    /// How it is.
    pub status: Status,
    /// Start, in seconds since 1970.
    pub since: Option<i64>,
    /// What it is.
    pub what: String,
    /// Why it is not at home, and what failed last.
    pub notes: Vec<String>,
    /// It runs nowhere, not even for another home.
    pub absent: bool,
}

/// How a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Up on its home node.
    Normal,
    /// Up on a backup node.
    Backup,
    /// Being brought up.
    Starting,
    /// Being brought down.
    Stopping,
    /// Down, and a start failed.
    Failed,
    /// Down.
    Missing,
    /// Not to be seen: a node that may run it gave no report.
    Unknown,
    /// Down because every node that may run it is inactive.
    Inactive,
}

impl Status {
    /// The word of the table; the two that begin with `OK-` are a contract.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Normal => "OK-Normal",
            Self::Backup => "OK-Backup",
            Self::Starting => "Starting",
            Self::Stopping => "Stopping",
            Self::Failed => "Failed",
            Self::Missing => "Missing",
            Self::Unknown => "Unknown",
            Self::Inactive => "Inactive",
        }
    }

    /// Up somewhere.
    #[must_use]
    pub const fn runs(self) -> bool {
        match self {
            Self::Normal | Self::Backup => true,
            Self::Starting | Self::Stopping | Self::Failed | Self::Missing | Self::Unknown | Self::Inactive => false,
        }
    }
}

/// A resource active on more nodes than it may be.
#[derive(Clone, Debug)]
pub struct Duplicate {
    /// The resource, or the first of those with the same address.
    pub resource: ResourceId,
    /// The nodes, by name.
    pub nodes: Vec<String>,
    /// Two homes list it, each runs its own: unwise for a crontab, but what the file says.
    pub listed: bool,
}

/// Majority, as the node that was asked sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Majority {
    /// In touch with a majority of voters.
    pub quorate: bool,
    /// Voters in touch.
    pub seen: u32,
    /// Voters in all.
    pub voters: u32,
    /// Still in start-up silence.
    pub silent: bool,
    /// A survivor carries on without a majority.
    pub pair_rules: bool,
    /// The node asked gave no report of its own.
    pub unknown: bool,
}

/// Judges a report.
#[must_use]
pub fn assess(config: &Config, report: &ClusterReport) -> Assessment {
    let view = View::new(config, report);
    let members = view.members();
    let rows = view.rows();
    let duplicates = view.duplicates();
    let mismatched = view.mismatched();
    let unheard = view.unheard();
    let majority = view.majority();
    let verdict = verdict::judge(&members, &rows, &duplicates, &mismatched, &unheard, majority);
    let (configurations, lent) = (view.configurations(), view.lent());
    let maintenance = view.is_wished(Subject::Maintenance);
    Assessment { members, rows, duplicates, mismatched, configurations, lent, unheard, majority, maintenance, verdict }
}

impl<'a> View<'a> {
    fn members(&self) -> Vec<Member> {
        let asked = self.name(self.report.asked);
        let configured = self.config.nodes.iter().map(|node| {
            let member = self.member(node.id);
            let report = member.and_then(|member| member.report.as_ref());
            let up = member.is_some_and(|member| member.up);
            let mut notes = Vec::new();
            match (member, up, report) {
                (None, ..) => notes.push(format!("{asked} does not know it: the configurations differ")),
                (Some(_), true, None) => {
                    notes.push(format!(
                        "its heartbeats arrive but it gave {asked} no report: is TCP port {} open?",
                        self.config.server.tcpport
                    ));
                }
                (Some(_), false, Some(_)) => notes.push(format!(
                    "it gave a report but its heartbeats do not reach {asked}: is UDP port {} open both ways?",
                    self.config.server.udpport
                )),
                (Some(_), true, Some(_)) | (Some(_), false, None) => {}
            }
            if report.is_some_and(|report| report.quorum.silent) {
                notes.push("just started: it waits one lease time before it grants leases".to_owned());
            }
            if !node.active {
                notes.push("inactive (node_is_active = 0): runs nothing".to_owned());
            }
            let standby = self.is_wished(Subject::Standby(node.id));
            if standby {
                notes.push(format!("standby: runs nothing until `drcm online {}`", node.name));
            }
            let version = report.map(|report| report.version.clone());
            let (name, hostname, ip) = (node.name.clone(), node.hostname.clone(), node.keep_alive_ip.to_string());
            Member { node: node.id, name, hostname, ip, up, answered: report.is_some(), version, standby, notes }
        });
        let unlisted = self.report.members.iter().filter(|member| self.config.node(member.node).is_none()).map(|member| Member {
            node: member.node,
            name: member.name.clone(),
            hostname: member.hostname.clone(),
            ip: member.ip.to_string(),
            up: member.up,
            answered: member.report.is_some(),
            version: member.report.as_ref().map(|report| report.version.clone()),
            standby: self.is_wished(Subject::Standby(member.node)),
            notes: vec!["not in the configuration read here".to_owned()],
        });
        configured.chain(unlisted).collect()
    }

    fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut expected = BTreeSet::new();
        for kind in [Kind::Crontab, Kind::Address, Kind::Service, Kind::Application, Kind::FileSystem] {
            for group in &self.config.groups {
                for assignment in group.assignments.iter().filter(|assignment| assignment.resource.kind == kind) {
                    expected.insert(assignment.clone());
                    rows.extend(self.rows_of(group, assignment));
                }
            }
        }
        // What runs although this configuration does not list it: the nodes read another one.
        for report in self.node_reports() {
            for running in report.resources.iter().filter(|resource| resource.activity == Activity::Running) {
                let assignment = Assignment { home: running.home, resource: running.resource.clone() };
                if !expected.contains(&assignment) {
                    let mut row = self.running_row(report, running);
                    row.notes.insert(0, "not in the configuration read here".to_owned());
                    rows.push(row);
                }
            }
        }
        rows
    }

    fn rows_of(&self, group: &Group, assignment: &Assignment) -> Vec<Row> {
        let running: Vec<Row> = self
            .running(assignment)
            .map(|(report, resource)| {
                let mut row = self.running_row(report, resource);
                row.group = Some(group.id);
                if resource.home != report.node {
                    let better = group.candidates.iter().take_while(|candidate| **candidate != report.node);
                    let better = better.filter(|candidate| !self.running(assignment).any(|(other, _)| other.node == **candidate));
                    row.notes.splice(0..0, better.map(|candidate| format!("not on {}", self.why_not(*candidate, group, assignment))));
                }
                row
            })
            .collect();
        if running.is_empty() { vec![self.idle_row(group, assignment)] } else { running }
    }

    fn running_row(&self, report: &NodeReport, resource: &ResourceReport) -> Row {
        let failure = resource.problem.as_ref().map(|problem| format!("last failure: {}", problem.message));
        Row {
            resource: resource.resource.clone(),
            group: None,
            home_node: resource.home,
            owner_node: Some(report.node),
            home: self.hostname(resource.home),
            owner: Some(self.hostname(report.node)),
            status: if resource.home == report.node { Status::Normal } else { Status::Backup },
            since: resource.since,
            what: {
                let what = self.resource(&resource.resource);
                let what = what.map_or_else(|| resource.what.clone(), |resource| describe(&resource.spec));
                // Nothing is said of what is as usual.
                if resource.driver == NATIVE { what } else { format!("{what}, by {}", resource.driver) }
            },
            notes: failure.into_iter().collect(),
            absent: false,
        }
    }

    fn idle_row(&self, group: &Group, assignment: &Assignment) -> Row {
        let (status, owner) = self.idle_status(group, assignment);
        // The same resource may have several homes.
        let elsewhere = self.config.nodes.iter().any(|node| {
            let other = Assignment { home: node.id, resource: assignment.resource.clone() };
            self.running(&other).next().is_some()
        });
        Row {
            resource: assignment.resource.clone(),
            group: Some(group.id),
            home_node: group.home,
            owner_node: owner,
            home: self.hostname(group.home),
            owner: owner.map(|owner| self.hostname(owner)),
            status,
            since: None,
            what: self.resource(&assignment.resource).map_or_else(String::new, |resource| describe(&resource.spec)),
            notes: group.candidates.iter().map(|candidate| self.why_not(*candidate, group, assignment)).collect(),
            absent: !elsewhere,
        }
    }

    /// The most hopeful explanation comes first.
    fn idle_status(&self, group: &Group, assignment: &Assignment) -> (Status, Option<NodeId>) {
        let activity_on = |wanted: Activity| {
            group.candidates.iter().copied().find(|candidate| self.activity(*candidate, group, assignment) == Some(wanted))
        };
        // Reports are made one after another: while it is handed over, its new owner may have spoken before it knew.
        let handed = || {
            group.candidates.iter().copied().find_map(|candidate| {
                let owner = self.group_on(candidate, group)?.owner.filter(|owner| *owner != candidate && self.is_up(*owner))?;
                let could = matches!(self.activity(owner, group, assignment), Some(Activity::Stopped | Activity::Asking));
                could.then_some(owner)
            })
        };
        let hidden = |candidate: &NodeId| self.member(*candidate).is_some_and(|member| member.up && member.report.is_none());
        let inactive = |candidate: &NodeId| self.config.node(*candidate).is_some_and(|node| !node.active);
        if let Some(owner) = activity_on(Activity::Starting) {
            (Status::Starting, Some(owner))
        } else if let Some(owner) = activity_on(Activity::Stopping) {
            (Status::Stopping, Some(owner))
        } else if let Some(owner) = handed() {
            (Status::Starting, Some(owner))
        } else if group.candidates.iter().any(hidden) {
            (Status::Unknown, None)
        } else if group.candidates.iter().all(inactive) {
            (Status::Inactive, None)
        } else if activity_on(Activity::Failed).is_some() {
            (Status::Failed, None)
        } else {
            (Status::Missing, None)
        }
    }

    /// Any assignment on two nodes; and an address or crontab on two nodes, whichever homes list it.
    fn duplicates(&self) -> Vec<Duplicate> {
        let mut holders: BTreeMap<String, (ResourceId, BTreeSet<NodeId>, BTreeSet<NodeId>)> = BTreeMap::new();
        for report in self.node_reports() {
            for resource in report.resources.iter().filter(|resource| resource.activity == Activity::Running) {
                let entry = holders
                    .entry(self.exclusive_key(resource))
                    .or_insert_with(|| (resource.resource.clone(), BTreeSet::new(), BTreeSet::new()));
                entry.1.insert(report.node);
                entry.2.insert(resource.home);
            }
        }
        let in_order = |nodes: &BTreeSet<NodeId>| {
            let members = self.report.members.iter().filter(|member| nodes.contains(&member.node));
            members.map(|member| self.name(member.node)).collect()
        };
        holders
            .into_values()
            .filter(|(_, nodes, _)| nodes.len() > 1)
            .map(|(resource, nodes, homes)| {
                let listed = resource.kind == Kind::Crontab && homes.len() >= nodes.len();
                Duplicate { resource, nodes: in_order(&nodes), listed }
            })
            .collect()
    }

    /// What may be active once only: for an address the address itself, since two nicknames may share one.
    fn exclusive_key(&self, report: &ResourceReport) -> String {
        let spec = self.resource(&report.resource).map(|resource| &resource.spec);
        match (report.resource.kind, spec) {
            (Kind::Address, Some(Spec::Address(address))) => format!("{} {}", Kind::Address, address.ip),
            (Kind::Address | Kind::Crontab, _) => report.resource.to_string(),
            (Kind::FileSystem | Kind::Service | Kind::Application, _) => format!("{} of {}", report.resource, report.home),
        }
    }

    fn mismatched(&self) -> Vec<String> {
        let told: BTreeSet<NodeId> = self.asked().map(|asked| asked.quorum.mismatched.iter().copied().collect()).unwrap_or_default();
        let differs = |member: &&MemberReport| {
            let seen = member.report.as_ref().is_some_and(|report| report.fingerprint != self.config.fingerprint);
            seen || (member.report.is_none() && told.contains(&member.node))
        };
        self.report.members.iter().filter(differs).map(|member| self.name(member.node)).collect()
    }

    fn configurations(&self) -> Vec<(Fingerprint, Vec<String>)> {
        let mut found: Vec<(Fingerprint, Vec<String>)> = vec![(self.config.fingerprint, Vec::new())];
        for own in self.node_reports() {
            let name = self.name(own.node);
            match found.iter_mut().find(|(fingerprint, _)| *fingerprint == own.fingerprint) {
                Some((_, names)) => names.push(name),
                None => found.push((own.fingerprint, vec![name])),
            }
        }
        found
    }

    fn lent(&self) -> Vec<LentVote> {
        let votes = |own: &'a NodeReport| own.quorum.votes.iter().flatten().filter(|vote| **vote != own.node);
        self.node_reports().flat_map(|own| votes(own).map(|vote| LentVote { vote: self.name(*vote), with: self.name(own.node) })).collect()
    }

    fn is_wished(&self, subject: Subject) -> bool {
        let wishes = self.asked().map(|asked| asked.wishes.as_slice()).unwrap_or_default();
        wishes.iter().any(|wish| wish.subject == subject && wish.wish == Wish::On)
    }

    fn unheard(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for report in self.node_reports().filter(|report| self.is_up(report.node)) {
            for member in self.report.members.iter().filter(|member| member.up && member.node != report.node) {
                if !report.quorum.alive.contains(&member.node) {
                    pairs.push((self.name(report.node), self.name(member.node)));
                }
            }
        }
        pairs
    }

    fn majority(&self) -> Majority {
        let voters = u32::try_from(self.config.voters().count()).unwrap_or(u32::MAX);
        let pair_rules = match self.config.server.quorum {
            Quorum::None => true,
            Quorum::Auto => voters == 2,
            Quorum::Majority => false,
        };
        match self.asked().map(|asked| &asked.quorum) {
            Some(quorum) => Majority {
                quorate: quorum.quorate,
                seen: quorum.voters_seen,
                voters: quorum.voters,
                silent: quorum.silent,
                pair_rules,
                unknown: false,
            },
            None => Majority { quorate: false, seen: 0, voters, silent: false, pair_rules, unknown: true },
        }
    }
}
