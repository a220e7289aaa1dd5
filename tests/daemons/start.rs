//! Starts that go wrong: of a daemon, and of what it is to run.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

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

#[test]
fn what_fails_slowly_goes_on_to_the_next_node_and_open_files_suffice() {
    // Each try takes longer than the window in which tries are counted.
    let mut plan = Plan::of(2);
    plan.server = "quorum = none\nrestart_limit = 2\nrestart_window = 1\n".into();
    plan.sections = "[CM_SERVICES]\nweb, httpd, @/service.sh\n".into();
    plan.nodes[0].lines = "node_services = web".into();
    plan.nodes[1].lines = "node_backup_services = node1:web".into();
    let mut cluster = Cluster::idle(plan);
    let script = cluster.lab.directory().join("service.sh");
    fs::write(&script, "#!/bin/sh\n[ \"$DRCM_NODENAME $2\" != 'node1 start' ] || { sleep 1.1; exit 3; }\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    cluster.lab.start_all().unwrap();
    cluster.wait_owner(1);
    cluster.wait_status(0, "why not on node1", |text| text.contains("(2 failures)"));

    // So that clients cannot use up what a take-over needs.
    let limits = fs::read_to_string(format!("/proc/{}/limits", cluster.lab.node(0).pid().unwrap())).unwrap();
    let open = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let soft: u64 = open.split_whitespace().next().unwrap().parse().unwrap();
    assert!(soft >= 4096, "{open}");
}
