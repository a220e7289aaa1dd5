//! What operators say to real daemons, with `drcm`, while a client watches the address.

use std::{fs, process::Command, time::Instant};

use drcm::lab::{Lab, Plan, Said};

use super::{Cluster, END, LONG, assert_times, ms, seconds};

const PEOPLE: &str = env!("CARGO_BIN_EXE_drcm");

/// Says something on a node.
fn say(lab: &Lab, node: usize, words: &str) -> Said {
    let mut command = Command::new(PEOPLE);
    command.arg(format!("--config-file={}", lab.node(node).config().display())).args(words.split(' '));
    lab.node(node).command(command).unwrap()
}

/// Says something that is accepted; returns the answer.
fn accepted(lab: &Lab, node: usize, words: &str) -> String {
    let said = say(lab, node, words);
    assert_eq!(said.code, Some(0), "{words}: {}{}", said.stdout, said.stderr);
    said.stdout
}

fn quick() -> Plan {
    Plan { failback_delay: seconds(1), ..Plan::of(3) }
}

/// Started, and every node past its start-up silence.
fn settled(plan: Plan) -> Cluster {
    let mut cluster = Cluster::running(plan);
    cluster.lab.pass(seconds(2)).unwrap();
    cluster
}

#[test]
fn a_group_is_moved_there_and_back_and_a_client_hardly_waits() {
    let mut cluster = settled(quick());
    let mut outages = Vec::new();
    for _ in 0..3 {
        // Said on a node that has nothing to do with it.
        outages.push(cluster.outage(1, |lab| {
            let answer = accepted(lab, 2, "move service node2");
            assert!(answer.contains("node1:service moves from node1 to node2 now"), "{answer}");
        }));
        cluster.holds_still(seconds(2), ms(300));
        outages.push(cluster.outage(0, |lab| drop(accepted(lab, 1, "unmove node1:service"))));
    }
    assert_times("moves by the operator", outages, ms(50), ms(300));
    let begun = Instant::now();
    let outage = cluster.outage(2, |lab| drop(accepted(lab, 0, "move service node3 --for 3s")));
    assert!(outage < ms(300), "{outage:?}");
    let text = cluster.status(1);
    assert!(text.contains("move        node1:service belongs on node3, for another"), "{text}");
    cluster.wait_owner(0);
    assert!(begun.elapsed() > seconds(3));
    assert!(!cluster.status(1).contains("Operator"));
    cluster.assert_never_two();
}

#[test]
fn standby_said_elsewhere_is_kept_when_all_daemons_restart() {
    let mut cluster = settled(quick());
    let outage = cluster.outage(1, |lab| {
        let answer = accepted(lab, 2, "standby node1");
        assert!(answer.contains("node1:service moves from node1 to node2 now"), "{answer}");
    });
    assert!(outage < ms(300), "{outage:?}");
    for node in 0..3 {
        let text = cluster.status(node);
        assert!(text.contains("standby     node1 runs nothing until `drcm online node1` (said on node3)"), "{text}");
    }
    for node in 0..3 {
        cluster.lab.node_mut(node).kill();
    }
    // The kernel removes the address that the killed owner left.
    let sampler = &cluster.sampler;
    cluster.lab.wait("the end of the address", LONG, |_| sampler.owners().is_empty()).unwrap();
    cluster.lab.start_all().unwrap();
    cluster.wait_owner(1);
    cluster.holds_still(seconds(3), ms(300));
    assert!(cluster.status(0).contains("standby     node1"));
    cluster.outage(0, |lab| drop(accepted(lab, 0, "online node1")));
    cluster.assert_never_two();
}

#[test]
fn a_cut_node_learns_what_was_said_when_it_is_back() {
    let mut cluster = settled(quick());
    cluster.cut(2);
    cluster.lab.pass(seconds(2)).unwrap();
    let answer = accepted(&cluster.lab, 0, "standby node3");
    assert!(answer.contains("node3 is not heard from node1"), "{answer}");
    let answer = accepted(&cluster.lab, 0, "move service node3");
    assert!(answer.contains("node3 is dead: node1:service will move when it can take it"), "{answer}");
    assert!(!cluster.status(2).contains("Operator"));
    cluster.join(2);
    cluster.wait_status(2, "what was said", |text| text.contains("standby     node3") && text.contains("move        node1:service"));
    cluster.holds_still(seconds(3), ms(300));
    cluster.outage(2, |lab| drop(accepted(lab, 2, "online node3")));
    cluster.assert_never_two();
}

#[test]
fn in_maintenance_nothing_is_repaired_until_it_ends() {
    let mut plan = quick();
    plan.sections = "[CM_APPLICATIONS]\nfeed, root:root, touch @/tmp/feed, rm -f @/tmp/feed, touch @/tmp/feed\n".into();
    plan.nodes[0].lines = "node_applications = feed\napplications_check = 1\n".into();
    for node in [1, 2] {
        plan.nodes[node].lines = "node_backup_applications = node1:feed\n".into();
    }
    let mut cluster = settled(plan);
    let feed = cluster.lab.node(0).home().join("tmp/feed");
    cluster.lab.wait("the application", LONG, |_| feed.exists()).unwrap();
    // Outside maintenance it is mended within a second or so.
    fs::remove_file(&feed).unwrap();
    cluster.lab.wait("the repair", seconds(5), |_| feed.exists()).unwrap();

    accepted(&cluster.lab, 1, "maintenance on");
    cluster.lab.pass(ms(300)).unwrap();
    // What runs goes on for longer than any lifetime that the kernel was told.
    cluster.holds_still(seconds(4), ms(300));
    fs::remove_file(&feed).unwrap();
    cluster.lab.node(0).namespace().ip(&format!("address del {}/24 dev eth0\n", Plan::served())).unwrap();
    cluster.lab.pass(seconds(4)).unwrap();
    assert!(!feed.exists(), "it was restarted in maintenance");
    assert!(cluster.sampler.owners().is_empty(), "the address was put back in maintenance");
    let text = cluster.status(2);
    assert!(text.contains("maintenance nothing is started, stopped, moved or repaired"), "{text}");

    accepted(&cluster.lab, 2, "maintenance off");
    let over = Instant::now();
    cluster.wait_owner(0);
    cluster.lab.wait("the repair of the application", seconds(3), |_| feed.exists()).unwrap();
    assert!(over.elapsed() < seconds(5));
    assert_eq!(cluster.sampler.changes().iter().filter(|change| change.owners.iter().any(|owner| *owner != 0)).count(), 0, "it moved");
    cluster.assert_never_two();
}

#[test]
fn an_order_that_cannot_be_written_down_is_refused_and_changes_nothing() {
    let mut cluster = settled(quick());
    cluster.shell(0, "mount -t tmpfs -o size=8k none @/spool && head -c 8192 /dev/zero > @/spool/full");
    let said = say(&cluster.lab, 0, "move service node2");
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("nothing has changed") && said.stderr.contains("No space left on device"), "{}", said.stderr);
    cluster.holds_still(seconds(2), ms(300));
    assert!(!cluster.status(1).contains("Operator"));
    // What others say is obeyed all the same.
    cluster.outage(1, |lab| drop(accepted(lab, 1, "move service node2")));
    cluster.shell(0, "umount @/spool");
    cluster.outage(0, |lab| drop(accepted(lab, 0, "unmove service")));
}

#[test]
fn a_broken_file_is_put_aside_and_the_others_tell() {
    let mut cluster = settled(quick());
    accepted(&cluster.lab, 0, "standby node3");
    cluster.lab.node_mut(2).stop(END).unwrap();
    let spool = cluster.lab.node(2).home().join("spool");
    fs::write(spool.join("operator_orders"), "nonsense").unwrap();
    cluster.lab.node_mut(2).start().unwrap();
    cluster.lab.wait("the broken file", LONG, |_| spool.join("operator_orders.broken").exists()).unwrap();
    cluster.wait_status(2, "the standby", |text| text.contains("standby     node3"));
    assert_eq!(fs::read_to_string(spool.join("operator_orders.broken")).unwrap(), "nonsense");
    let kept = spool.join("operator_orders");
    cluster.lab.wait("the new file", LONG, |_| fs::read_to_string(&kept).is_ok_and(|text| text.contains("Standby"))).unwrap();
}

#[test]
fn names_are_helped_with_and_what_cannot_be_is_refused() {
    let cluster = settled(quick());
    for (words, code, wanted) in [
        ("move servce node2", 1, "did you mean \"service\"?"),
        ("move service node22", 255, "did you mean \"node2\"?"),
        ("standby nobody", 255, "node1, node2, node3"),
        ("move service node2 --for never", 1, "30m, 2h"),
        ("cleanup nonsense", 1, "unknown group or resource"),
    ] {
        let said = say(&cluster.lab, 0, words);
        assert_eq!(said.code, Some(code), "{words}: {}", said.stderr);
        assert!(said.stderr.contains(wanted), "{words}: {}", said.stderr);
    }
    assert!(accepted(&cluster.lab, 0, "maintenance off").contains("nothing to do"));
    assert!(accepted(&cluster.lab, 0, "cleanup").contains("nothing to do"));
    assert!(accepted(&cluster.lab, 1, "cleanup service node1").contains("may be tried again"));
}

#[test]
fn a_new_cluster_that_lacks_a_node_begins_when_an_operator_vouches_for_it() {
    let mut cluster = Cluster::idle(quick());
    for node in [0, 1] {
        cluster.lab.node_mut(node).start().unwrap();
    }
    cluster.wait_status(1, "what it waits for", |text| text.contains("drcm confirm-voters"));
    cluster.lab.pass(seconds(3)).unwrap();
    assert!(cluster.sampler.owners().is_empty());
    let said = say(&cluster.lab, 1, "confirm-voters");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("node1, node2, node3") && said.stderr.contains("--yes"), "{}", said.stderr);
    let answer = accepted(&cluster.lab, 1, "confirm-voters --yes");
    assert!(answer.contains("counts the voters of its file"), "{answer}");
    cluster.wait_owner(0);
    // The third one comes at last, and nothing moves.
    cluster.lab.node_mut(2).start().unwrap();
    cluster.holds_still(seconds(4), ms(300));
    cluster.assert_never_two();
}
