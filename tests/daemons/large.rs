//! More nodes than vote: those that do not vote hear of each other through the voters. And more resources than fit a screen.

use std::time::{Duration, Instant};

use drcm::lab::{NodePlan, Plan, Port};
use nix::sys::signal::Signal;

use super::{Cluster, END, ms, seconds};

/// Nine nodes of which the last five vote. The first four are home of the address and its only backups.
fn nine() -> Plan {
    let plan = Plan::of(9);
    let nodes = plan.nodes.iter().enumerate().map(|(number, node)| {
        let lines = match number {
            0 => "node_floating_ip_addrs = service",
            1..4 => "node_backup_floating_ip_addrs = node1:service",
            _ => "voter = 1",
        };
        NodePlan { lines: lines.to_owned(), ..node.clone() }
    });
    Plan { own_lists: true, nodes: nodes.collect(), failback_delay: seconds(1), ..Plan::of(9) }
}

#[test]
fn nine_nodes_of_which_five_vote_fail_over_between_nodes_that_do_not() {
    let mut cluster = Cluster::running(nine());
    let complete = cluster.wait_status(1, "nine nodes up", |text| text.contains("Cluster status: HEALTHY"));
    for number in 1..=9 {
        assert!(complete.contains(&format!("node{number}")), "{complete}");
    }
    // A planned move: one trip more than between voters.
    let stop = cluster.outage(1, |lab| lab.node_mut(0).signal(Signal::SIGTERM).unwrap());
    assert!(stop < ms(300), "handing over took {stop:?}");
    cluster.lab.node_mut(0).wait_end(END).unwrap();
    let down = cluster.wait_status(2, "node1 down", |text| !text.contains("Cluster status: HEALTHY"));
    assert!(down.contains("OK-Backup"), "{down}");
    // A death: found through the voters.
    cluster.cut(1);
    cluster.wait_owner(2);
    cluster.join(1);
    cluster.outage(0, |lab| lab.node_mut(0).start().unwrap());
    cluster.wait_status(3, "all well again", |text| text.contains("Cluster status: HEALTHY"));
    cluster.holds_still(seconds(3), ms(300));
    cluster.assert_never_two();
}

/// Addresses of seven nodes, each backed up by all others.
fn five_hundred() -> Plan {
    const RESOURCES: usize = 500;
    let plan = Plan::of(7);
    let home = |number: usize| number % plan.nodes.len();
    let sections: Vec<String> =
        (0..RESOURCES).map(|number| format!("a{number}, 10.88.{}.{}, 32, eth0", number / 250, number % 250 + 1)).collect();
    let nodes = plan.nodes.iter().enumerate().map(|(node, own)| {
        let own_ones = (0..RESOURCES).filter(|number| home(*number) == node).map(|number| format!("a{number}"));
        let others = (0..RESOURCES).filter(|number| home(*number) != node).map(|number| format!("node{}:a{number}", home(number) + 1));
        let (service, backup) = if node == 0 { ("service, ", "") } else { ("", "node1:service, ") };
        let lines = format!(
            "node_floating_ip_addrs = {service}{}\nnode_backup_floating_ip_addrs = {backup}{}",
            own_ones.collect::<Vec<_>>().join(", "),
            others.collect::<Vec<_>>().join(", ")
        );
        NodePlan { lines, ..own.clone() }
    });
    Plan { own_lists: true, nodes: nodes.collect(), sections: sections.join("\n"), ..Plan::of(7) }
}

#[test]
fn a_report_of_seven_nodes_and_five_hundred_resources_with_one_node_dead_is_there_at_once() {
    let mut cluster = Cluster::running(five_hundred());
    cluster.wait_status(1, "all up", |text| text.contains("Cluster status: HEALTHY"));
    cluster.lab.switch().cut(Port::Node(0)).unwrap();
    let text = cluster.wait_status(1, "all taken over", |text| text.contains("0 not running") && text.contains("6 of 7 up"));
    assert_eq!(text.matches("OK-Backup").count(), 500 / 7 + 2, "{text}");
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let begun = Instant::now();
            let said = cluster.lab.node(1).client(&["--command=cm_stat"]).unwrap();
            let took = begun.elapsed();
            assert!(said.stdout.contains("node1 is down"), "{}", said.stdout);
            took
        })
        .collect();
    times.sort_unstable();
    let (fastest, median) = (times[0], times[times.len() / 2]);
    println!("cm_stat with its start: fastest {fastest:?}, median {median:?}");
    // The fastest, since what else the machine does is no fault of ours; and these programs are not built for speed.
    assert!(fastest < ms(40), "fastest {fastest:?}, median {median:?}");
    cluster.assert_never_two();
}
