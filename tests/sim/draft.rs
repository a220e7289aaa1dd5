//! The configurations of a seed, made from what was drawn: see [`Setup`](super::setup::Setup).

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use drcm::config::group;
use drcm::model::{
    Address, Assignment, CheckIntervals, Config, Driver, Failback, Fingerprint, Interface, Keep, Kind, LogSettings, NoQuorum, NodeConfig,
    NodeId, Options, Pace, Quorum, Resource, ResourceId, Server, Service, Spec, Takeover, Transport,
};

use super::{
    membership::Membership,
    setup::{GroupFacts, Plan, Timing, name},
};

/// What is drawn, before it becomes configurations.
pub struct Draft<'a> {
    pub freeze: bool,
    pub far: &'a [Option<Pace>],
    pub count: usize,
    pub memberships: &'a [Membership],
    pub plans: &'a [Plan],
    pub inactive: Option<usize>,
    pub takeover: Takeover,
    pub failback: Failback,
    pub failback_delay: Duration,
    pub quorum: Quorum,
}

impl Draft<'_> {
    /// By timing and layout.
    pub fn configs(&self, timings: &[Timing], layouts: usize) -> Vec<Vec<Arc<Config>>> {
        timings.iter().map(|timing| (0..layouts).map(|layout| Arc::new(self.config(*timing, layout))).collect()).collect()
    }

    fn config(&self, timing: Timing, layout: usize) -> Config {
        let listed = &self.memberships[layout].listed;
        let nodes: Vec<NodeConfig> = (0..self.count).filter(|index| listed[*index]).map(|index| self.node(index, timing, layout)).collect();
        let resources: Vec<Resource> = self.plans.iter().map(|plan| resource(&plan.resource)).collect();
        let groups = group(&nodes, &resources);
        let fingerprint = Fingerprint::of(&format!("{timing:?} {layout}"));
        Config { server: self.server(timing), nodes, resources, groups, fingerprint }
    }

    fn node(&self, index: usize, timing: Timing, layout: usize) -> NodeConfig {
        let home = |plan: &Plan| plan.candidates[layout][0];
        let backs = |plan: &&Plan| plan.candidates[layout][1..].contains(&index);
        let minute = Duration::from_secs(60);
        NodeConfig {
            id: NodeId::of(&name(index)),
            name: name(index),
            hostname: name(index),
            keep_alive_ip: IpAddr::from([10, 0, 0, index as u8 + 1]),
            active: self.inactive != Some(index),
            voter: self.memberships[layout].voters.contains(&index),
            transport: if self.far[index].is_some() { Transport::Tcp } else { Transport::Udp },
            pace: self.far[index].unwrap_or(Pace { interval: timing.interval, count: timing.count }),
            keep: Keep { services: false, filesystems: true, applications: false },
            checks: CheckIntervals { addresses: minute, filesystems: minute, services: minute, crontabs: minute, applications: minute },
            primary: self.plans.iter().filter(|plan| home(plan) == index).map(|plan| plan.resource.clone()).collect(),
            backup: self
                .plans
                .iter()
                .filter(backs)
                .map(|plan| Assignment { home: NodeId::of(&name(home(plan))), resource: plan.resource.clone() })
                .collect(),
        }
    }

    fn server(&self, timing: Timing) -> Server {
        Server {
            udpport: 53897,
            tcpport: 53897,
            keep_alive_interval: timing.interval,
            dead_node_count: timing.count,
            apply: true,
            bind_to_keep_alive_ip: true,
            quorum: self.quorum,
            no_quorum: if self.freeze { NoQuorum::Freeze } else { NoQuorum::Stop },
            failback: self.failback,
            failback_delay: self.failback_delay,
            takeover: self.takeover,
            stop_timeout: Duration::from_secs(2),
            gateway: None,
            script_driver: false,
            auth_dir: PathBuf::from("/etc/drcm/.auth"),
            run_dir: PathBuf::from("/var/run/drcm"),
            log_dir: PathBuf::from("/var/log/drcm"),
            spool_dir: PathBuf::from("/var/spool/drcm"),
            cluster_user: "root".into(),
            cluster_group: "root".into(),
            sudo_command: String::new(),
            service_name: "drcm_server".into(),
            log: LogSettings {
                file: "drcm.log".into(),
                keep: 3,
                max_size: 5_000_000,
                queue: 2048,
                clear: false,
                enabled: true,
                level: 1,
                debug: None,
                verbose: None,
            },
            bash_shell: PathBuf::from("/bin/bash"),
            bash_rc_file: None,
            umask: 0o22,
            alerts: drcm::config::default_server().alerts,
            status_page: None,
        }
    }
}

fn resource(id: &ResourceId) -> Resource {
    let spec = match id.kind {
        Kind::Address => Spec::Address(Address {
            ip: IpAddr::from([10, 0, 1, 1]),
            prefix: 24,
            netmask: "24".into(),
            interface: Interface { device: "eth0".into(), label: None },
        }),
        Kind::Service => Spec::Service(Service { name: id.nickname.clone() }),
        Kind::FileSystem | Kind::Application | Kind::Crontab => unreachable!("the plans hold addresses and services only"),
    };
    Resource {
        id: id.clone(),
        spec,
        driver: Driver::Native,
        options: Options {
            start_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(2),
            check_timeout: Duration::from_secs(5),
            restart_limit: 3,
            restart_window: Duration::from_secs(60),
            order: 0,
            mount_options: None,
        },
    }
}

/// Every group of any layout.
pub fn facts(layouts: &[Arc<Config>], nodes: &[NodeId], plans: &[Plan]) -> Vec<GroupFacts> {
    let mut facts: Vec<GroupFacts> = Vec::new();
    for (layout, config) in layouts.iter().enumerate() {
        for group in &config.groups {
            let place = |id: &NodeId| nodes.iter().position(|node| node == id).expect("a candidate is a node");
            let member = |assignment: &Assignment| {
                let plan = plans.iter().position(|plan| plan.resource == assignment.resource).expect("an assignment is planned");
                1_u32 << plan
            };
            let at = facts.iter().position(|known| known.id == group.id).unwrap_or_else(|| {
                facts.push(GroupFacts {
                    id: group.id,
                    members: group.assignments.iter().map(member).sum(),
                    candidates: vec![Vec::new(); layouts.len()],
                    addresses: group.assignments.iter().all(|assignment| assignment.resource.kind == Kind::Address),
                    leased: group.is_leased(),
                });
                facts.len() - 1
            });
            facts[at].candidates[layout] = group.candidates.iter().map(place).collect();
        }
    }
    facts
}
