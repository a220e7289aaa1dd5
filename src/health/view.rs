//! A cluster report beside the configuration: who is called what, who runs what, and why a candidate does not. Pure.

use std::collections::HashMap;

use crate::model::{
    Activity, Assignment, AssignmentId, ClusterReport, Config, Group, GroupId, GroupReport, MemberReport, NodeId, NodeReport, Resource,
    ResourceId, ResourceReport, Spec,
};

/// Where a resource of one home is, or could be: the nodes that report it, in the report's order.
type Places<'a> = Vec<(&'a NodeReport, &'a ResourceReport)>;

/// A report beside the configuration.
pub struct View<'a> {
    /// What should be.
    pub config: &'a Config,
    /// What is.
    pub report: &'a ClusterReport,
    /// So that hundreds of resources cost no more than they must.
    places: HashMap<AssignmentId, Places<'a>>,
    resources: HashMap<&'a ResourceId, &'a Resource>,
    groups: HashMap<GroupId, &'a Group>,
    told: HashMap<(NodeId, GroupId), &'a GroupReport>,
}

impl<'a> View<'a> {
    /// Puts the two together.
    pub fn new(config: &'a Config, report: &'a ClusterReport) -> Self {
        let mut places: HashMap<AssignmentId, Places<'_>> = HashMap::new();
        for own in report.members.iter().filter_map(|member| member.report.as_ref()) {
            for resource in &own.resources {
                let assignment = Assignment { home: resource.home, resource: resource.resource.clone() };
                places.entry(assignment.id()).or_default().push((own, resource));
            }
        }
        let reports = report.members.iter().filter_map(|member| member.report.as_ref());
        Self {
            config,
            report,
            places,
            resources: config.resources.iter().map(|resource| (&resource.id, resource)).collect(),
            groups: config.groups.iter().map(|group| (group.id, group)).collect(),
            told: reports.flat_map(|own| own.groups.iter().map(|group| ((own.node, group.group), group))).collect(),
        }
    }

    /// What the configuration says of a resource.
    pub fn resource(&self, id: &ResourceId) -> Option<&'a Resource> {
        self.resources.get(id).copied()
    }

    /// What the configuration calls a group.
    pub fn title(&self, id: GroupId) -> String {
        self.groups.get(&id).map_or_else(|| format!("group {id}"), |group| group.title(self.config))
    }

    /// What a node says of a resource. Nothing may mean that it is merely down there: [`View::activity`].
    pub fn on(&self, node: NodeId, assignment: &Assignment) -> Option<&'a ResourceReport> {
        self.everywhere(assignment).find(|(own, _)| own.node == node).map(|(_, resource)| resource)
    }

    /// What a node says of a group.
    pub fn group_on(&self, node: NodeId, group: &Group) -> Option<&'a GroupReport> {
        self.told.get(&(node, group.id)).copied()
    }

    /// What a node does with a member of a group. A node that tells of a group tells of those members that are not merely down.
    pub fn activity(&self, node: NodeId, group: &Group, assignment: &Assignment) -> Option<Activity> {
        let told = self.on(node, assignment).map(|resource| resource.activity);
        told.or_else(|| self.group_on(node, group).map(|_| Activity::Stopped))
    }

    /// Why a node does not run a group, in its own words; nothing while it does.
    pub fn reason(&self, its: &GroupReport) -> Option<String> {
        match its.owner {
            _ if !its.reason.is_empty() => Some(its.reason.clone()),
            Some(owner) if its.activity == Activity::Stopped => Some(format!("{} owns it", self.name(owner))),
            _ => None,
        }
    }

    /// A node's own words.
    pub fn node_report(&self, id: NodeId) -> Option<&'a NodeReport> {
        self.member(id).and_then(|member| member.report.as_ref())
    }

    fn everywhere(&self, assignment: &Assignment) -> impl Iterator<Item = (&'a NodeReport, &'a ResourceReport)> {
        self.places.get(&assignment.id()).into_iter().flatten().copied()
    }

    /// What the report says of a node.
    pub fn member(&self, id: NodeId) -> Option<&'a MemberReport> {
        self.report.members.iter().find(|member| member.node == id)
    }

    /// Every node that gave a report.
    pub fn node_reports(&self) -> impl Iterator<Item = &'a NodeReport> + use<'a> {
        self.report.members.iter().filter_map(|member| member.report.as_ref())
    }

    /// `nodename` of a node.
    pub fn name(&self, id: NodeId) -> String {
        match (self.config.node(id), self.member(id)) {
            (Some(node), _) => node.name.clone(),
            (None, Some(member)) => member.name.clone(),
            (None, None) => format!("node {id}"),
        }
    }

    /// `hostname` of a node.
    pub fn hostname(&self, id: NodeId) -> String {
        match (self.config.node(id), self.member(id)) {
            (Some(node), _) => node.hostname.clone(),
            (None, Some(member)) => member.hostname.clone(),
            (None, None) => format!("node {id}"),
        }
    }

    /// Whether the node asked counts it as alive.
    pub fn is_up(&self, id: NodeId) -> bool {
        self.member(id).is_some_and(|member| member.up)
    }

    /// Where an assignment is up.
    pub fn running(&self, assignment: &Assignment) -> impl Iterator<Item = (&'a NodeReport, &'a ResourceReport)> {
        self.everywhere(assignment).filter(|(_, resource)| resource.activity == Activity::Running)
    }

    /// The words of the node that asked the others.
    pub fn asked(&self) -> Option<&'a NodeReport> {
        self.node_report(self.report.asked)
    }

    /// Why a candidate does not run it: its name and a reason.
    pub fn why_not(&self, candidate: NodeId, group: &Group, assignment: &Assignment) -> String {
        let name = self.name(candidate);
        let Some(member) = self.member(candidate) else {
            return format!("{name}: not known to the node asked");
        };
        if member.report.is_none() {
            return if member.up { format!("{name}: up, but it gave no report") } else { format!("{name}: down") };
        }
        let resource = self.on(candidate, assignment);
        if let Some(problem) = resource.and_then(|resource| resource.problem.as_ref()) {
            let times = if problem.count > 1 { format!(" ({} failures)", problem.count) } else { String::new() };
            return format!("{name}: {}{times}", problem.message);
        }
        let reason = self.group_on(candidate, group).and_then(|its| self.reason(its));
        match (reason, self.activity(candidate, group, assignment)) {
            (Some(reason), _) => format!("{name}: {reason}"),
            (None, _) if self.config.node(candidate).is_some_and(|node| !node.active) => format!("{name}: inactive (node_is_active = 0)"),
            (None, Some(activity)) => format!("{name}: {}", activity_word(activity)),
            (None, None) => format!("{name}: its configuration does not list it"),
        }
    }
}

/// One line that says what a resource is, from the configuration.
#[must_use]
pub fn describe(spec: &Spec) -> String {
    match spec {
        Spec::Address(address) => {
            let interface = address.interface.label.as_ref().unwrap_or(&address.interface.device);
            format!("{}/{} on {interface}", address.ip, address.prefix)
        }
        Spec::Service(service) => format!("service {}", service.name),
        Spec::Application(application) => format!("as {}:{}: {}", application.user, application.group, application.start),
        Spec::Crontab(crontab) => format!("{} in {}", crontab.template.display(), crontab.install_dir.display()),
        Spec::FileSystem(file_system) => format!("{} on {}", file_system.source, file_system.target.display()),
    }
}

/// What a node does, in a word or three.
pub fn activity_word(activity: Activity) -> &'static str {
    match activity {
        Activity::Asking => "asks for the lease",
        other => other.word(),
    }
}
