//! Starts that go wrong: of a daemon, and of what it is to run.

use drcm::lab::Plan;

use super::{Cluster, seconds};

#[test]
fn what_keeps_a_daemon_from_starting_is_found_before_it_joins() {
    let mut plan = Plan::of(1);
    plan.server = "cluster_user = nobody-of-this-name".into();
    let mut cluster = Cluster::idle(plan);
    cluster.lab.node_mut(0).start().unwrap();
    cluster.lab.node_mut(0).wait_end(seconds(10)).unwrap();
    let words = cluster.lab.node(0).words();
    assert!(words.contains("cluster_user = nobody-of-this-name"), "{words}");
    assert!(!words.contains("quorum"), "it joined the cluster before it gave up: {words}");
}
