//! A cluster that is stopped node by node and started again: its votes move, and the address stays served.

use drcm::lab::{Mark, Plan};
use nix::sys::signal::Signal;

use super::{Cluster, END, assert_times, ms, seconds};

#[test]
fn four_nodes_stopped_one_by_one_serve_to_the_last_and_get_their_votes_back() {
    let mut cluster = Cluster::running(Plan { failback_delay: seconds(1), ..Plan::of(4) });
    // All past their start-up silence and in touch.
    cluster.wait_status(0, "all four votes", |text| text.contains("Cluster status: HEALTHY"));
    cluster.lab.pass(seconds(1)).unwrap();
    let mut outages = Vec::new();
    for gone in 0..3 {
        let began = std::time::Instant::now();
        outages.push(cluster.outage(gone + 1, |lab| lab.node_mut(gone).signal(Signal::SIGTERM).unwrap()));
        cluster.lab.node_mut(gone).wait_end(END).unwrap();
        println!("node{} was gone after {:?}", gone + 1, began.elapsed());
        assert!(began.elapsed() < seconds(3), "SIGTERM took {:?}", began.elapsed());
    }
    // Alone, with four of four votes, for much longer than a lease.
    cluster.holds_still(seconds(5), ms(200));
    let notes = std::fs::read_to_string(cluster.lab.node(3).home().join("spool/votes.json")).unwrap_or_default();
    assert_eq!(notes.matches("\"held\":true").count(), 3, "its own is at home, the others are noted: {notes}");
    // All come back at once, without their votes at first.
    let mark = Mark::now();
    for node in 0..3 {
        cluster.lab.node_mut(node).start().unwrap();
    }
    cluster.wait_owner(0);
    cluster.lab.pass(ms(300)).unwrap();
    outages.push(cluster.probe.longest_outage(mark));
    cluster.wait_status(0, "HEALTHY", |text| text.contains("Cluster status: HEALTHY"));
    let words = cluster.lab.node(3).words();
    for node in 1..=3 {
        assert!(words.contains(&format!("the vote of node{node} is back there")), "{words}");
    }
    assert_times("hand-overs with votes", outages, ms(20), ms(200));
    cluster.assert_never_two();
    // And it is a cluster of four again: the loss of one is nothing.
    cluster.outage(1, |lab| lab.node_mut(0).kill());
    cluster.assert_never_two();
}

#[test]
fn a_leave_does_not_wait_for_a_disk_that_cannot_be_written() {
    let mut cluster = Cluster::running(Plan::of(4));
    cluster.lab.pass(seconds(2)).unwrap();
    // A directory stands where the file is to be.
    let home = cluster.lab.node(0).home().to_owned();
    std::fs::create_dir_all(home.join("spool/votes.new/in-the-way")).unwrap();
    let began = std::time::Instant::now();
    let outage = cluster.outage(1, |lab| lab.node_mut(0).signal(Signal::SIGTERM).unwrap());
    cluster.lab.node_mut(0).wait_end(END).unwrap();
    assert!(began.elapsed() < seconds(4), "SIGTERM took {:?}", began.elapsed());
    assert!(outage < ms(200), "the client waited {outage:?}");
    assert!(cluster.lab.node(0).words().contains("neither lends its vote"), "{}", cluster.lab.node(0).words());
    cluster.assert_never_two();
}
