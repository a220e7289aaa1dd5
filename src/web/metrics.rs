//! The metrics, as OpenMetrics text. Each node tells what it runs and how it sees the others: ask every node. docs/metrics.md is
//! their contract.

use std::{collections::HashMap, fmt};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::meters::Meters;
use crate::model::{Activity, Config, GroupId, NodeReport, Subject, Wish};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfNode {
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGroup {
    group: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOwner {
    group: String,
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResource {
    kind: &'static str,
    nickname: String,
    home: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReason {
    reason: String,
}

/// Gauges of one name.
type Gauges<Label> = Family<Label, Gauge>;

/// All that there is to tell, now.
///
/// # Errors
/// Never: a string takes all.
pub fn metrics(config: &Config, own: &NodeReport, meters: &Meters) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("drcm");
    registry.register("build", "The version of the daemon", Info::new([("version", own.version.clone())]));
    gauge(&mut registry, "start_time_seconds", "When the daemon started, in seconds since 1970", own.started);
    nodes(&mut registry, config, own);
    groups(&mut registry, config, own);
    resources(&mut registry, config, own);
    let dropped: Family<OfReason, Counter> = Family::default();
    for (reason, count) in &own.dropped {
        dropped.get_or_create(&OfReason { reason: reason.clone() }).inc_by(*count);
    }
    registry.register("datagrams_dropped", "Datagrams that were dropped, by reason", dropped);
    let announced: Counter = Counter::default();
    announced.inc_by(own.announcements);
    registry.register("announcements", "Announcements of addresses sent to the network", announced);
    registry.register("events", "Events of this node, as drcm events shows them", meters.events.clone());
    registry.register_with_unit(
        "outage",
        "How long a group was down before it ran here: by a failover, or by a move",
        Unit::Seconds,
        meters.outages.clone(),
    );
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn nodes(registry: &mut Registry, config: &Config, own: &NodeReport) {
    let (up, differs, standby) = (Gauges::<OfNode>::default(), Gauges::<OfNode>::default(), Gauges::<OfNode>::default());
    for node in &config.nodes {
        let label = OfNode { node: node.name.clone() };
        let stands_by = own.wishes.iter().any(|wish| wish.subject == Subject::Standby(node.id) && wish.wish == Wish::On);
        up.get_or_create(&label).set(i64::from(own.quorum.alive.contains(&node.id)));
        differs.get_or_create(&label).set(i64::from(own.quorum.mismatched.contains(&node.id)));
        standby.get_or_create(&label).set(i64::from(stands_by));
    }
    registry.register("node_up", "Whether this node hears that one", up);
    registry.register("node_configuration_differs", "Whether that node has another configuration than this one", differs);
    registry.register("node_standby", "Whether an operator wants nothing to run on that node", standby);
    let quorum = &own.quorum;
    gauge(registry, "quorum", "Whether this node is in touch with a majority of voters", i64::from(quorum.quorate));
    gauge(registry, "voters_seen", "Voters in touch with this node", i64::from(quorum.voters_seen));
    gauge(registry, "voters", "Voters of the configuration", i64::from(quorum.voters));
    gauge(registry, "eligible", "Whether this node may run resources", i64::from(own.eligible));
    let maintenance = own.wishes.iter().any(|wish| wish.subject == Subject::Maintenance && wish.wish == Wish::On);
    gauge(registry, "maintenance", "Whether operators want hands off", i64::from(maintenance));
}

fn groups(registry: &mut Registry, config: &Config, own: &NodeReport) {
    let (running, owner) = (Gauges::<OfGroup>::default(), Gauges::<OfOwner>::default());
    let left = Family::<OfGroup, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    let titles: HashMap<GroupId, String> = config.groups.iter().map(|group| (group.id, group.title(config))).collect();
    for group in &own.groups {
        let title = titles.get(&group.group).cloned().unwrap_or_else(|| config.title(group.group));
        running.get_or_create(&OfGroup { group: title.clone() }).set(i64::from(group.activity == Activity::Running));
        if let Some(node) = group.owner {
            owner.get_or_create(&OfOwner { group: title.clone(), node: config.name(node).to_owned() }).set(1);
        }
        if let Some(ms) = group.lease_ms {
            let seconds = f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0;
            left.get_or_create(&OfGroup { group: title }).set(seconds);
        }
    }
    registry.register("group_running", "Whether the group runs on this node", running);
    registry.register("group_owner", "1 for the node that has the group, as this node knows it", owner);
    registry.register_with_unit("lease_remaining", "What is left of the lease that this node holds", Unit::Seconds, left);
}

fn resources(registry: &mut Registry, config: &Config, own: &NodeReport) {
    let (state, failures) = (Gauges::<OfResource>::default(), Gauges::<OfResource>::default());
    for resource in &own.resources {
        let label = OfResource {
            kind: resource.resource.kind.word(),
            nickname: resource.resource.nickname.clone(),
            home: config.name(resource.home).to_owned(),
            state: resource.activity.word(),
        };
        if let Some(problem) = &resource.problem {
            failures.get_or_create(&label).set(i64::from(problem.count));
        }
        state.get_or_create(&label).set(1);
    }
    registry.register("resource_state", "1 for the state that the resource is in on this node", state);
    registry.register("resource_recent_failures", "Failures of the resource on this node within its restart window", failures);
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        health::fixture::{event, failover, healthy, of, three_nodes},
        model::{Problem, WishReport},
    };

    #[test]
    fn what_the_documentation_promises_is_told() {
        let config = three_nodes();
        let mut report = healthy(&config);
        let own = of(&mut report, "cmnode1");
        own.dropped = vec![("bad seal".to_owned(), 12)];
        own.announcements = 7;
        own.groups[0].lease_ms = Some(1_250);
        own.resources[0].problem = Some(Problem { message: "m".into(), at: 0, count: 3 });
        let wish = |subject| WishReport { subject, wish: Wish::On, author: own.node, seconds_left: None };
        own.wishes = vec![wish(Subject::Maintenance), wish(Subject::Standby(config.nodes[1].id))];
        let meters = Meters::default();
        meters.count(&failover(1, 0));
        meters.count(&event("cmnode1", 2, 0, "up"));
        let text = metrics(&config, own, &meters).unwrap();
        for line in [
            "drcm_quorum 1\n",
            "drcm_node_up{node=\"cmnode2\"} 1\n",
            "drcm_node_standby{node=\"cmnode2\"} 1\n",
            "drcm_node_standby{node=\"cmnode1\"} 0\n",
            "drcm_maintenance 1\n",
            "drcm_datagrams_dropped_total{reason=\"bad seal\"} 12\n",
            "drcm_announcements_total 7\n",
            "drcm_outage_seconds_count{kind=\"failover\"} 1\n",
            "drcm_outage_seconds_count{kind=\"moved\"} 0\n",
            "drcm_outage_seconds_bucket{le=\"+Inf\",kind=\"failover\"} 1\n",
            "} 1.25\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        let documented = include_str!("../../docs/metrics.md");
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split(' ').next()) {
            assert!(documented.contains(&format!("`{name}")), "{name} is not in docs/metrics.md");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_label() {
        let mut config = three_nodes();
        let mut report = healthy(&config);
        let own = of(&mut report, "cmnode1");
        config.nodes[0].name = "a\"} 7\nevil 1\n\\".to_owned();
        let text = metrics(&config, own, &Meters::default()).unwrap();
        assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
    }
}
