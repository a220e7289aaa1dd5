//! Starts that go wrong: of a daemon, and of what it is to run.

use std::{fs, net::UdpSocket, os::unix::fs::PermissionsExt as _, process::Command};

use drcm::lab::Plan;

use super::{BINARY, Cluster, LONG, seconds};

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
    // The port that another one has ends the daemon; NOTIFY_SOCKET, which is looked at before, must not.
    let cluster = Cluster::idle(Plan::of(1));
    let node = cluster.lab.node(0);
    let _taken = node.namespace().run(|| UdpSocket::bind("0.0.0.0:53897")).unwrap().unwrap();
    let mut command = Command::new(BINARY);
    command.arg(format!("--config-file={}", node.config().display())).env("NOTIFY_SOCKET", format!("/{}", "x".repeat(200)));
    let said = node.command(command).unwrap();
    assert!(said.stderr.contains("NOTIFY_SOCKET") && said.stderr.contains("cannot listen for heartbeats"), "{}", said.stderr);
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

/// A crontab beside the address, whose template each node has, or has not, in a directory of its own.
fn with_private_template() -> Cluster {
    let mut plan = Plan::of(3);
    plan.failback_delay = seconds(1);
    plan.sections = "[CM_CRONTABS]\njobs, @/tmp/jobs, @/cron, /etc/drcm/resources/crontab.sh\n".into();
    plan.nodes[0].lines = "node_crontabs = jobs".into();
    for node in [1, 2] {
        plan.nodes[node].lines = "node_backup_crontabs = node1:jobs".into();
    }
    Cluster::idle(plan)
}

/// Puts the template where only this node sees it.
fn install(cluster: &Cluster, node: usize) {
    let mut command = Command::new("sh");
    command.args(["-c", "echo '# none' >$0.new && mv $0.new $0"]).arg(cluster.lab.directory().join("tmp/jobs"));
    let said = cluster.lab.node(node).command(command).unwrap();
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// How often a node gave the crontab up.
fn given_up(cluster: &Cluster, node: usize) -> usize {
    cluster.lab.node(node).words().matches("cannot be started here").count()
}

#[test]
fn what_was_missing_everywhere_is_started_once_it_is_there() {
    let mut cluster = with_private_template();
    cluster.lab.start_all().unwrap();
    cluster.wait_status(0, "that it failed on all nodes", |text| text.contains("tmp/jobs"));
    cluster.lab.wait("all to give it up", LONG, |lab| (0..3).all(|node| lab.node(node).words().contains("looking every 5 s"))).unwrap();
    // More than one look without success tries nothing.
    cluster.lab.pass(seconds(11)).unwrap();
    assert_eq!((0..3).map(|node| given_up(&cluster, node)).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(cluster.sampler.owner(), None);

    for node in 0..3 {
        install(&cluster, node);
    }
    cluster.wait_owner(0);
    cluster.assert_never_two();
}

#[test]
fn what_was_missing_at_home_goes_home_once_it_is_there() {
    let mut cluster = with_private_template();
    cluster.lab.start_all().unwrap();
    // A node's own directory is there with its daemon.
    install(&cluster, 1);
    cluster.wait_owner(1);
    cluster.lab.pass(seconds(7)).unwrap();
    assert_eq!((given_up(&cluster, 0), cluster.sampler.owner()), (1, Some(1)));

    install(&cluster, 0);
    cluster.wait_owner(0);
    assert_eq!(given_up(&cluster, 0), 1);
    cluster.assert_never_two();
}
