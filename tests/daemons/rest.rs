//! What a cluster costs while nothing happens, in counts: those are much the same on any machine, however busy.

use std::path::Path;

use drcm::lab::{Cost, Lab, Packets, Plan};

use super::{BINARY, LONG, seconds};

/// Seconds that are looked at.
const LOOK: u64 = 5;

#[test]
fn a_cluster_at_rest_sends_and_wakes_no_more_than_its_heartbeats_need() {
    let mut lab = Lab::new(Plan::of(3), Path::new(BINARY)).unwrap();
    lab.start_all().unwrap();
    let healthy = |lab: &Lab| lab.node(0).client(&["--command=cm_stat"]).is_ok_and(|said| said.stdout.contains("Cluster status: HEALTHY"));
    lab.wait("a healthy cluster", LONG, healthy).unwrap();
    lab.pass(seconds(3)).unwrap();
    let look = |lab: &Lab| {
        let nodes = lab.nodes().iter();
        nodes.map(|node| (Cost::of(&[node.pid().unwrap().as_raw()]), Packets::of(node.namespace()).unwrap())).collect::<Vec<_>>()
    };
    let before = look(&lab);
    lab.pass(seconds(LOOK)).unwrap();
    for (node, ((cost, packets), (cost_before, packets_before))) in look(&lab).into_iter().zip(before).enumerate() {
        let (wake_ups, packets) = (cost.since(cost_before).wake_ups / LOOK, packets.since(packets_before));
        let (sent, received) = (packets.sent / LOOK, packets.received / LOOK);
        let seen = format!("node{}: {wake_ups} wake-ups, {sent} packets sent and {received} received a second", node + 1);
        println!("{seen}");
        // Ten heartbeats to each of two others, and answers where there is something to answer: 30 sent and 41 received at most, when this
        // was written, and 58 wake-ups.
        assert!((10..=40).contains(&sent) && (10..=50).contains(&received) && wake_ups <= 120, "{seen}");
    }
}
