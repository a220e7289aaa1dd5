//! Resources of every kind that follow their group, and what an administrator does to them behind our back.

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt as _, time::Duration};

use drcm::lab::{Mark, Plan, Port};
use nix::sys::signal::Signal;

use super::{Cluster, END, LONG, ms, seconds};

#[test]
fn an_address_deleted_by_hand_is_put_back() {
    let mut cluster = Cluster::running(Plan::of(3));
    for _ in 0..3 {
        let mark = Mark::now();
        cluster.lab.node(0).namespace().ip(&format!("address del {}/24 dev eth0\n", Plan::served())).unwrap();
        cluster.wait_owner(0);
        cluster.lab.pass(ms(300)).unwrap();
        let outage = cluster.probe.longest_outage(mark);
        assert!(outage < ms(500), "it was away for {outage:?}");
    }
    assert!(cluster.sampler.changes().iter().all(|change| change.owners.is_empty() || change.owners == [0]));
}

#[test]
fn an_address_of_either_family_follows_its_group() {
    let six: IpAddr = "fd77::100".parse().unwrap();
    let mut plan = Plan::of(3);
    plan.sections = format!("six, {six}, 64, eth0, /etc/drcm/resources/ipv4addr.sh");
    plan.nodes[0].lines = "node_floating_ip_addrs = service, six".into();
    for node in [1, 2] {
        plan.nodes[node].lines = "node_backup_floating_ip_addrs = node1:service, node1:six".into();
    }
    plan.own_lists = true;
    let mut cluster = Cluster::running(plan);
    let six = cluster.lab.sampler_of(six).unwrap();
    cluster.lab.wait("the IPv6 address on node1", LONG, |_| six.owner() == Some(0)).unwrap();
    // Killed: one that leaves would lend node2 its vote, and that would be enough for it alone.
    cluster.outage(1, |lab| lab.node_mut(0).kill());
    cluster.lab.wait("the IPv6 address on node2", LONG, |_| six.owner() == Some(1)).unwrap();
    cluster.cut(1);
    cluster.lab.wait("no quorum, no address", LONG, |_| six.owners().is_empty()).unwrap();
    cluster.assert_never_two();
    assert!(six.doubles().is_empty());
}

/// An address, a crontab, an application and a script-driven service in one group.
fn mixed() -> Plan {
    let mut plan = Plan::of(3);
    plan.sections = "\
[CM_CRONTABS]
jobs, @/jobs, @/cron, /etc/drcm/resources/crontab.sh
[CM_APPLICATIONS]
feed, root:root, nohup sleep 86400 >/dev/null 2>&1 & echo $! > @/tmp/feed.pid, kill $(cat @/tmp/feed.pid); rm @/tmp/feed.pid
[CM_SERVICES]
web, httpd, @/service.sh
"
    .into();
    plan.nodes[0].lines = "node_crontabs = jobs\nnode_applications = feed\nnode_services = web\n".into();
    for node in [1, 2] {
        plan.nodes[node].lines =
            "node_backup_crontabs = node1:jobs\nnode_backup_applications = node1:feed\nnode_backup_services = node1:web\n".into();
    }
    plan
}

/// Whether each of the four is on a node: address, crontab, application, service.
fn have(cluster: &Cluster, node: usize) -> [bool; 4] {
    let home = cluster.lab.node(node).home();
    [
        cluster.sampler.owners().contains(&node),
        home.join("cron/jobs").exists(),
        home.join("tmp/feed.pid").exists(),
        home.join("tmp/web.up").exists(),
    ]
}

/// Whether a process runs. One that has ended may lie about for a moment until init collects it.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), None | Some('Z' | 'X'))
}

fn wait_all(cluster: &mut Cluster, node: usize) {
    let others: Vec<usize> = (0..3).filter(|other| *other != node).collect();
    let mut left = LONG;
    loop {
        let complete = have(cluster, node) == [true; 4] && others.iter().all(|other| have(cluster, *other) == [false; 4]);
        if complete {
            return;
        }
        let all: Vec<[bool; 4]> = (0..3).map(|node| have(cluster, node)).collect();
        assert!(!left.is_zero(), "node{} should have all four and nobody else any: {all:?}", node + 1);
        cluster.lab.pass(ms(50)).unwrap();
        left = left.saturating_sub(ms(50));
    }
}

#[test]
fn crontab_application_and_service_move_with_their_address() {
    let mut cluster = Cluster::idle(mixed());
    let directory = cluster.lab.directory().to_owned();
    fs::write(directory.join("jobs"), "* * * * * root true\n").unwrap();
    let script = directory.join("service.sh");
    let tmp = directory.join("tmp");
    let text = format!(
        "#!/bin/sh\n\
         echo \"$@\" >> {tmp}/web.calls\n\
         case \"$2\" in\n\
         start) touch {tmp}/web.up ;;\n\
         stop) rm -f {tmp}/web.up ;;\n\
         watch | status) test -e {tmp}/web.up ;;\n\
         esac\n",
        tmp = tmp.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    cluster.lab.start_all().unwrap();
    wait_all(&mut cluster, 0);

    // Stopped cleanly: everything goes over, and nothing stays behind.
    let application = fs::read_to_string(cluster.lab.node(0).home().join("tmp/feed.pid")).unwrap();
    cluster.lab.node_mut(0).stop(END).unwrap();
    wait_all(&mut cluster, 1);
    cluster.lab.wait("the end of the application on node1", LONG, |_| !runs(application.trim())).unwrap();
    let calls = fs::read_to_string(cluster.lab.node(0).home().join("tmp/web.calls")).unwrap();
    assert_eq!(calls.lines().find(|line| line.ends_with("start")), Some("httpd start"), "{calls}");
    assert_eq!(calls.lines().last(), Some("httpd stop"), "{calls}");

    // Home again.
    cluster.lab.node_mut(0).start().unwrap();
    wait_all(&mut cluster, 0);

    // Cut off: it stops its own, the next one starts them.
    cluster.cut(0);
    wait_all(&mut cluster, 1);
    cluster.join(0);
    wait_all(&mut cluster, 0);
    cluster.assert_never_two();
}

#[test]
fn what_a_killed_daemon_left_behind_is_removed_when_another_node_owns_it() {
    let mut cluster = Cluster::running(Plan::of(3));
    cluster.outage(1, |lab| lab.node_mut(0).kill());
    // As an orphan would look like: the address, added by somebody, on a node that does not own it.
    cluster.lab.switch().part(Port::Node(0), Port::Client).unwrap();
    cluster.lab.node(0).namespace().ip(&format!("address add {}/24 dev eth0\n", Plan::served())).unwrap();
    cluster.lab.node_mut(0).start().unwrap();
    let sampler = &cluster.sampler;
    cluster.lab.wait("the removal of the orphan", LONG, |_| !sampler.owners().contains(&0)).unwrap();
    cluster.lab.switch().heal().unwrap();
    cluster.wait_owner(0);
}

#[test]
fn manual_failback_stays_where_it_is() {
    let mut plan = Plan::of(3);
    plan.server = "failback = manual".into();
    let mut cluster = Cluster::running(plan);
    cluster.outage(1, |lab| lab.node_mut(0).signal(Signal::SIGTERM).unwrap());
    cluster.lab.node_mut(0).wait_end(END).unwrap();
    cluster.lab.node_mut(0).start().unwrap();
    cluster.holds_still(seconds(7), ms(300));
}

#[test]
fn a_resource_of_one_node_runs_there_and_nowhere_else() {
    let mut plan = Plan::of(3);
    plan.sections = "local, 10.77.0.101, 24, eth0, /etc/drcm/resources/ipv4addr.sh".into();
    plan.own_lists = true;
    plan.nodes[0].lines = "node_floating_ip_addrs = service".into();
    plan.nodes[1].lines = "node_backup_floating_ip_addrs = node1:service".into();
    plan.nodes[2].lines = "node_floating_ip_addrs = local\nnode_backup_floating_ip_addrs = node1:service".into();
    let mut cluster = Cluster::running(plan);
    let local = cluster.lab.sampler_of("10.77.0.101".parse().unwrap()).unwrap();
    cluster.lab.wait("the local address on node3", LONG, |_| local.owner() == Some(2)).unwrap();
    // It needs no lease: node3 keeps it when it is alone.
    cluster.cut(2);
    cluster.lab.pass(Duration::from_secs(4)).unwrap();
    assert_eq!(local.owner(), Some(2));
    assert_eq!(cluster.sampler.owner(), Some(0));
}
