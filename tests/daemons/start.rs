//! Starts that go wrong: of a daemon, and of what it is to run.

use std::process::Command;

use drcm::lab::Plan;

use super::{BINARY, Cluster, seconds};

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

#[test]
fn a_service_manager_that_cannot_be_told_is_no_reason_not_to_start() {
    // The unknown user ends the daemon; NOTIFY_SOCKET, which is looked at before, must not.
    let mut plan = Plan::of(1);
    plan.server = "cluster_user = nobody-of-this-name".into();
    let cluster = Cluster::idle(plan);
    let node = cluster.lab.node(0);
    let mut command = Command::new(BINARY);
    command.arg(format!("--config-file={}", node.config().display())).env("NOTIFY_SOCKET", format!("/{}", "x".repeat(200)));
    let said = node.command(command).unwrap();
    assert!(said.stderr.contains("NOTIFY_SOCKET") && said.stderr.contains("nobody-of-this-name"), "{}", said.stderr);
}
