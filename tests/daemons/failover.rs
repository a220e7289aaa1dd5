//! Measured times of every way in which an owner can go and come back.

use drcm::lab::{Mark, Plan, Port};
use nix::sys::signal::Signal;

use super::{Cluster, END, assert_times, ms, seconds};

/// Heartbeats every 10 ms, dead after three.
fn fast() -> Plan {
    Plan { keep_alive_interval: ms(10), dead_node_count: 3, ..Plan::of(3) }
}

#[test]
fn three_nodes_started_together_serve_within_five_seconds() {
    let times = (0..3)
        .map(|_| {
            let mut cluster = Cluster::idle(Plan::of(3));
            let start = std::time::Instant::now();
            cluster.lab.start_all().unwrap();
            cluster.wait_owner(0);
            cluster.assert_never_two();
            start.elapsed()
        })
        .collect();
    assert_times("start to served", times, seconds(5), seconds(8));
}

#[test]
fn a_cut_owner_is_replaced_and_home_takes_back() {
    let mut cluster = Cluster::running(Plan::of(3));
    let (mut cuts, mut returns) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        cuts.push(cluster.outage(1, |lab| lab.switch().cut(Port::Node(0)).unwrap()));
        returns.push(cluster.outage(0, |lab| lab.switch().join(Port::Node(0)).unwrap()));
    }
    cluster.assert_never_two();
    assert_times("cut, h = 100 ms x 15", cuts, ms(1700), ms(2500));
    assert_times("failback, h = 100 ms x 15", returns, ms(20), ms(200));
}

#[test]
fn a_cut_owner_is_replaced_within_45_ms_when_heartbeats_are_fast() {
    let mut cluster = Cluster::running(fast());
    let (mut cuts, mut returns) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        cuts.push(cluster.outage(1, |lab| lab.switch().cut(Port::Node(0)).unwrap()));
        returns.push(cluster.outage(0, |lab| lab.switch().join(Port::Node(0)).unwrap()));
    }
    assert_times("cut, h = 10 ms x 3", cuts, ms(45), ms(300));
    assert_times("failback, h = 10 ms x 3", returns, ms(20), ms(200));
}

#[test]
fn a_stopped_owner_hands_over_at_once() {
    let mut cluster = Cluster::running(Plan::of(3));
    let (mut stops, mut returns) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        stops.push(cluster.outage(1, |lab| lab.node(0).signal(Signal::SIGTERM).unwrap()));
        cluster.lab.node_mut(0).wait_end(END).unwrap();
        returns.push(cluster.outage(0, |lab| lab.node_mut(0).start().unwrap()));
    }
    cluster.assert_never_two();
    assert_times("SIGTERM", stops, ms(20), ms(200));
    assert_times("failback after a start", returns, ms(20), ms(200));
}

#[test]
fn a_killed_owner_never_shares_the_address() {
    let mut cluster = Cluster::running(Plan::of(3));
    let mut times = Vec::new();
    for _ in 0..4 {
        times.push(cluster.outage(1, |lab| lab.node_mut(0).kill()));
        assert_eq!(cluster.sampler.owners(), [1]);
        cluster.outage(0, |lab| lab.node_mut(0).start().unwrap());
    }
    cluster.assert_never_two();
    // The kernel takes the address away before the lease is over, in whole seconds: the client waits a little longer.
    assert_times("SIGKILL", times, ms(2700), ms(3500));
}

#[test]
fn a_paused_owner_never_shares_the_address() {
    let mut cluster = Cluster::running(Plan::of(3));
    for pause in [ms(700), ms(1600), ms(2200), ms(4000)] {
        cluster.lab.node(0).signal(Signal::SIGSTOP).unwrap();
        // A paused process is alive: nobody ended by himself.
        cluster.lab.pass(pause).unwrap();
        cluster.lab.node(0).signal(Signal::SIGCONT).unwrap();
        cluster.lab.pass(ms(300)).unwrap();
        cluster.wait_owner(0);
        cluster.assert_never_two();
    }
    let took_over = cluster.sampler.changes().iter().any(|change| change.owners == [1]);
    assert!(took_over, "nobody took over during a pause of 4 s: {:#?}", cluster.sampler.changes());
}

#[test]
fn a_killed_daemon_that_is_started_again_at_once_never_shares_the_address() {
    let mut cluster = Cluster::running(Plan::of(3));
    for pause in [ms(0), ms(300), ms(1200)] {
        let mark = Mark::now();
        cluster.lab.node_mut(0).kill();
        cluster.lab.pass(pause).unwrap();
        cluster.lab.node_mut(0).start().unwrap();
        cluster.lab.pass(seconds(4)).unwrap();
        cluster.wait_owner(0);
        let outage = cluster.probe.longest_outage(mark);
        assert!(outage < seconds(4), "the client waited {outage:?}");
        cluster.assert_never_two();
    }
}

#[test]
fn the_second_backup_takes_over_when_the_first_is_gone_too() {
    let mut cluster = Cluster::running(Plan::of(5));
    cluster.outage(1, |lab| lab.node_mut(0).kill());
    cluster.outage(2, |lab| lab.node_mut(1).kill());
    cluster.outage(1, |lab| lab.node_mut(1).start().unwrap());
    cluster.outage(0, |lab| lab.node_mut(0).start().unwrap());
    cluster.assert_never_two();
}
