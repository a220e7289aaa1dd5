//! More nodes than vote: those that do not vote hear of each other through the voters.

use drcm::lab::{NodePlan, Plan};
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
