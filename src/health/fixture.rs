//! Configurations and reports for the tests of this room.

use std::{net::IpAddr, time::Duration};

use crate::{
    config::{default_options, default_server},
    model::{
        Activity, Address, Application, Assignment, AssignmentId, CheckIntervals, ClusterReport, Config, Crontab, Driver, FileSystem,
        Fingerprint, Group, GroupId, GroupReport, Incident, Interface, Keep, Kind, MemberReport, NodeConfig, NodeId, NodeReport,
        QuorumReport, Resource, ResourceId, ResourceReport, Server, Service, Spec, Transport, example,
    },
};

pub use crate::model::example::event;

/// 2026-03-01 12:00:00 UTC.
pub const NOON: i64 = 1_772_366_400;

/// Three nodes, three leased groups and a service that each of the first two runs for itself.
pub fn three_nodes() -> Config {
    let mut config = nodes(&["cmnode1", "cmnode2", "cmnode3"]);
    config.resources =
        vec![address("cmnodef", "10.0.0.100", "eth0:1"), crontab("apps2"), service("web"), application("ldm"), file_system("data")];
    let (first, second) = (NodeId::of("cmnode1"), NodeId::of("cmnode2"));
    let third = NodeId::of("cmnode3");
    group(&mut config, &[first, second, third], &[Kind::Address], "cmnodef");
    group(&mut config, &[first, third], &[Kind::FileSystem], "data");
    group(&mut config, &[second, first], &[Kind::Crontab], "apps2");
    group(&mut config, &[first], &[Kind::Service], "web");
    group(&mut config, &[second], &[Kind::Service], "web");
    group(&mut config, &[third], &[Kind::Application], "ldm");
    config
}

/// A configuration with these nodes and no resources.
pub fn nodes(names: &[&str]) -> Config {
    let nodes = names.iter().zip(1..).map(|(name, number)| node(name, number)).collect();
    Config { server: server(), nodes, resources: Vec::new(), groups: Vec::new(), fingerprint: Fingerprint(1) }
}

/// Adds a group with the same nickname in these kinds.
pub fn group(config: &mut Config, candidates: &[NodeId], kinds: &[Kind], nickname: &str) {
    let home = candidates[0];
    let assignments: Vec<Assignment> =
        kinds.iter().map(|kind| Assignment { home, resource: ResourceId { kind: *kind, nickname: nickname.into() } }).collect();
    for node in &mut config.nodes {
        if node.id == home {
            node.primary.extend(assignments.iter().map(|assignment| assignment.resource.clone()));
        } else if candidates.contains(&node.id) {
            node.backup.extend(assignments.iter().cloned());
        }
    }
    let ids: Vec<AssignmentId> = assignments.iter().map(Assignment::id).collect();
    config.groups.push(Group { id: GroupId::of(&ids), home, candidates: candidates.to_vec(), assignments });
}

/// Every node answers and runs what it is home of.
pub fn healthy(config: &Config) -> ClusterReport {
    let alive: Vec<NodeId> = config.nodes.iter().map(|node| node.id).collect();
    let members = config
        .nodes
        .iter()
        .map(|node| MemberReport {
            node: node.id,
            name: node.name.clone(),
            hostname: node.hostname.clone(),
            ip: node.keep_alive_ip,
            report: Some(node_report(config, node.id, &alive)),
            up: true,
        })
        .collect();
    ClusterReport { at: NOON, asked: config.nodes[0].id, members }
}

fn node_report(config: &Config, id: NodeId, alive: &[NodeId]) -> NodeReport {
    let voters = u32::try_from(alive.len()).expect("few");
    let mine = config.groups.iter().filter(|group| group.candidates.contains(&id));
    let activity = |home: NodeId| if home == id { Activity::Running } else { Activity::Stopped };
    NodeReport {
        node: id,
        version: "2.0.0".into(),
        started: NOON - 3600,
        fingerprint: config.fingerprint,
        eligible: true,
        quorum: QuorumReport {
            quorate: true,
            voters_seen: voters,
            voters,
            silent: false,
            alive: alive.to_vec(),
            mismatched: vec![],
            votes: Some(vec![id]),
        },
        groups: mine
            .clone()
            .map(|group| GroupReport {
                group: group.id,
                rank: u32::try_from(group.candidates.iter().position(|candidate| *candidate == id).expect("a candidate")).expect("few"),
                activity: activity(group.home),
                lease_ms: (group.home == id && group.is_leased()).then_some(1400),
                owner: Some(group.home),
                reason: String::new(),
            })
            .collect(),
        resources: mine
            .flat_map(|group| &group.assignments)
            .map(|assignment| ResourceReport {
                resource: assignment.resource.clone(),
                home: assignment.home,
                activity: activity(assignment.home),
                since: (assignment.home == id).then_some(NOON - 1800),
                what: "as the node says".into(),
                driver: "native".into(),
                problem: None,
            })
            .collect(),
        wishes: vec![],
        dropped: vec![],
        announcements: 0,
    }
}

/// The same in few words, as nodes tell each other: whatever is shown must not differ.
pub fn outlined(report: &ClusterReport) -> ClusterReport {
    let mut report = report.clone();
    for own in report.members.iter_mut().filter_map(|member| member.report.as_mut()) {
        own.resources.retain(|resource| !resource.is_unremarkable());
    }
    report
}

/// A node dies: no report, and nobody hears it.
pub fn kill(report: &mut ClusterReport, name: &str) {
    let id = NodeId::of(name);
    for member in &mut report.members {
        if member.node == id {
            member.report = None;
            member.up = false;
        } else if let Some(own) = &mut member.report {
            own.quorum.alive.retain(|alive| *alive != id);
            own.quorum.voters_seen -= 1;
            own.quorum.quorate = own.quorum.voters_seen * 2 > own.quorum.voters;
        }
    }
}

/// What a node reports of itself.
pub fn of<'a>(report: &'a mut ClusterReport, name: &str) -> &'a mut NodeReport {
    let id = NodeId::of(name);
    let member = report.members.iter_mut().find(|member| member.node == id).expect("a member");
    member.report.as_mut().expect("it answered")
}

/// Sets what a node does with a resource and, unless it runs it, why it does not.
pub fn set(report: &mut ClusterReport, name: &str, kind: Kind, nickname: &str, activity: Activity, reason: &str) {
    let own = of(report, name);
    let resource = own
        .resources
        .iter_mut()
        .find(|resource| resource.resource.kind == kind && resource.resource.nickname == nickname)
        .expect("a candidate for it");
    resource.activity = activity;
    resource.since = (activity == Activity::Running).then_some(NOON - 60);
    let config = three_nodes();
    let member = |group: &&Group| {
        group.assignments.iter().any(|assignment| assignment.resource.kind == kind && assignment.resource.nickname == nickname)
    };
    let id = config.groups.iter().find(member).expect("its group").id;
    let group = own.groups.iter_mut().find(|group| group.group == id).expect("told of");
    group.activity = activity;
    group.reason = reason.into();
}

pub fn address(nickname: &str, ip: &str, interface: &str) -> Resource {
    let device = interface.split(':').next().expect("a device").to_owned();
    let label = interface.contains(':').then(|| interface.to_owned());
    let spec = Address {
        ip: ip.parse().expect("an address"),
        prefix: 24,
        netmask: "255.255.255.0".into(),
        interface: Interface { device, label },
    };
    resource(Kind::Address, nickname, Spec::Address(spec))
}

pub fn crontab(nickname: &str) -> Resource {
    let spec = Crontab { template: format!("/etc/drcm/crontabs/{nickname}").into(), install_dir: "/etc/cron.d".into() };
    resource(Kind::Crontab, nickname, Spec::Crontab(spec))
}

pub fn service(nickname: &str) -> Resource {
    resource(Kind::Service, nickname, Spec::Service(Service { name: "httpd".into() }))
}

pub fn application(nickname: &str) -> Resource {
    let (user, group) = ("ldm".into(), "users".into());
    let spec = Application { user, group, start: "ldmadmin clean; ldmadmin start".into(), stop: "ldmadmin stop".into(), ensure: None };
    resource(Kind::Application, nickname, Spec::Application(spec))
}

pub fn file_system(nickname: &str) -> Resource {
    let spec = FileSystem { source: "192.168.122.1:/data".into(), target: "/data".into() };
    resource(Kind::FileSystem, nickname, Spec::FileSystem(spec))
}

fn resource(kind: Kind, nickname: &str, spec: Spec) -> Resource {
    Resource { id: ResourceId { kind, nickname: nickname.into() }, spec, driver: Driver::Native, options: default_options() }
}

fn node(name: &str, number: u8) -> NodeConfig {
    let minute = Duration::from_secs(60);
    NodeConfig {
        id: NodeId::of(name),
        name: name.into(),
        hostname: format!("{name}.example.com"),
        keep_alive_ip: IpAddr::from([10, 0, 0, number]),
        active: true,
        voter: true,
        transport: Transport::Udp,
        pace: server().pace(),
        keep: Keep { services: false, filesystems: true, applications: false },
        checks: CheckIntervals { addresses: minute, filesystems: minute, services: minute, crontabs: minute, applications: minute },
        primary: vec![],
        backup: vec![],
    }
}

/// A group of cmnode1 came to cmnode2.
pub fn failover(number: u64, at_ms: i64) -> Incident {
    example::failover("cmnode1", "cmnode2", number, at_ms)
}

/// The defaults, with the count of heartbeats that the template has.
fn server() -> Server {
    Server { dead_node_count: 15, ..default_server() }
}
