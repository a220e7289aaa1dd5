//! Measured times of every way in which an owner can go and come back.

use std::time::Duration;

use drcm::lab::{Lab, Mark, Plan, Port};
use nix::sys::signal::Signal;

use super::{Cluster, END, assert_times, ms, seconds};

/// The documented times: heartbeats every 100 ms, dead after fifteen.
fn slow() -> Plan {
    Plan { failback_delay: seconds(1), ..Plan::of(3) }
}

/// Heartbeats every 10 ms, dead after three.
fn fast() -> Plan {
    Plan { keep_alive_interval: ms(10), dead_node_count: 3, ..slow() }
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
    let (cuts, returns) = rounds(&slow(), 2, cut, join);
    assert_times("cut, h = 100 ms x 15", cuts, ms(1700), ms(2500));
    assert_times("failback, h = 100 ms x 15", returns, ms(20), ms(200));
}

#[test]
fn a_cut_owner_is_replaced_within_45_ms_when_heartbeats_are_fast() {
    let (cuts, returns) = rounds(&fast(), 3, cut, join);
    assert_times("cut, h = 10 ms x 3", cuts, ms(45), ms(300));
    assert_times("failback, h = 10 ms x 3", returns, ms(20), ms(200));
}

#[test]
fn a_stopped_owner_hands_over_at_once() {
    let stop = |lab: &mut Lab| lab.node_mut(0).signal(Signal::SIGTERM).unwrap();
    let start = |lab: &mut Lab| {
        lab.node_mut(0).wait_end(END).unwrap();
        lab.node_mut(0).start().unwrap();
    };
    let (stops, returns) = rounds(&slow(), 2, stop, start);
    assert_times("SIGTERM", stops, ms(20), ms(200));
    assert_times("failback after a start", returns, ms(20), ms(200));
}

fn cut(lab: &mut Lab) {
    lab.switch().cut(Port::Node(0)).unwrap();
}

fn join(lab: &mut Lab) {
    lab.switch().join(Port::Node(0)).unwrap();
}

/// Three times in each of several laboratories, the home node goes and comes back; how long the client waited each time.
/// Not more often, since a home that goes again and again is left alone for longer each time.
fn rounds(plan: &Plan, laboratories: usize, go: impl Fn(&mut Lab), come: impl Fn(&mut Lab)) -> (Vec<Duration>, Vec<Duration>) {
    let (mut gone, mut back) = (Vec::new(), Vec::new());
    for _ in 0..laboratories {
        let mut cluster = Cluster::running(plan.clone());
        for _ in 0..3 {
            gone.push(cluster.outage(1, &go));
            back.push(cluster.outage(0, &come));
        }
        cluster.assert_never_two();
    }
    (gone, back)
}

#[test]
fn a_killed_owner_never_shares_the_address() {
    let mut cluster = Cluster::running(slow());
    let mut times = Vec::new();
    for _ in 0..3 {
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
        cluster.lab.node_mut(0).signal(Signal::SIGSTOP).unwrap();
        // A paused process is alive: nobody ended by himself.
        cluster.lab.pass(pause).unwrap();
        cluster.lab.node_mut(0).signal(Signal::SIGCONT).unwrap();
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
    // Back to the home node only: the first backup has no more right to it than the second.
    cluster.lab.node_mut(1).start().unwrap();
    cluster.holds_still(seconds(4), ms(300));
    cluster.outage(0, |lab| lab.node_mut(0).start().unwrap());
    cluster.assert_never_two();
}

#[test]
fn a_killed_daemon_that_is_back_at_once_loses_nothing() {
    let mut cluster = Cluster::running(Plan::of(3));
    let before = cluster.sampler.changes().len();
    let mark = Mark::now();
    for node in [0, 1, 2, 0, 0] {
        cluster.lab.node_mut(node).kill();
        cluster.lab.node_mut(node).start().unwrap();
        cluster.lab.pass(ms(700)).unwrap();
    }
    // All of them at once, which leaves nobody who remembers but their files.
    for node in 0..3 {
        cluster.lab.node_mut(node).kill();
    }
    for node in 0..3 {
        cluster.lab.node_mut(node).start().unwrap();
    }
    cluster.lab.pass(seconds(4)).unwrap();
    let changes = cluster.sampler.changes();
    assert_eq!(changes.len(), before, "the address moved: {:#?}", &changes[before..]);
    let outage = cluster.probe.longest_outage(mark);
    println!("longest time without an answer: {outage:?}");
    assert!(outage < ms(50), "a probe was lost: {outage:?}");
    cluster.assert_never_two();
}

#[test]
fn a_killed_daemon_that_is_back_too_late_finds_itself_replaced() {
    let mut cluster = Cluster::running(Plan::of(3));
    cluster.outage(1, |lab| lab.node_mut(0).kill());
    cluster.lab.node_mut(0).start().unwrap();
    cluster.lab.pass(seconds(1)).unwrap();
    assert_eq!(cluster.sampler.owners(), [1], "home comes back by the ordinary rule");
    cluster.wait_owner(0);
    cluster.assert_never_two();
}

#[test]
fn a_daemon_that_is_replaced_by_the_program_on_disk_loses_nothing() {
    let mut cluster = Cluster::running(Plan::of(3));
    let before = cluster.sampler.changes().len();
    let mark = Mark::now();
    for node in [0, 1, 2, 0] {
        let pid = cluster.lab.node(node).pid();
        let count = log(&cluster.lab, node).matches("going on with its leases").count();
        cluster.lab.node_mut(node).signal(Signal::SIGUSR2).unwrap();
        cluster.lab.wait("the successor", seconds(10), |lab| log(lab, node).matches("going on with its leases").count() > count).unwrap();
        cluster.lab.pass(seconds(2)).unwrap();
        assert_eq!(cluster.lab.node(node).pid(), pid, "it is the same process");
    }
    assert_eq!(cluster.sampler.changes().len(), before, "the address moved");
    let outage = cluster.probe.longest_outage(mark);
    println!("replaced four times: longest wait for an answer {outage:?}");
    assert!(outage < ms(50), "the client waited {outage:?}");
    // One that is not fit stays out.
    let file = cluster.lab.node(1).config().to_owned();
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "[CM_SERVER]\nudpport = many\n").unwrap();
    cluster.lab.node_mut(1).signal(Signal::SIGUSR2).unwrap();
    cluster.lab.wait("a refusal", seconds(10), |lab| log(lab, 1).contains("is not fit to take over, this one goes on")).unwrap();
    std::fs::write(&file, good).unwrap();
    cluster.holds_still(seconds(2), ms(300));
    cluster.assert_never_two();
}

fn log(lab: &Lab, node: usize) -> String {
    std::fs::read_to_string(lab.node(node).home().join("log/drcm.log")).unwrap_or_default()
}
