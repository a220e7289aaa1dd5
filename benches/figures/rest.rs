//! What a node costs while nothing happens.

use std::{thread::sleep, time::Duration};

use drcm::lab::{Cost, Memory, NodePlan, Packets, Plan};

use crate::{
    bed::{Bed, Contender},
    report::{Goal, Report, Spread},
};

/// Until caches are filled and neighbours known.
const SETTLE: Duration = Duration::from_secs(5);
/// How long is looked.
const LOOK: Duration = Duration::from_secs(30);

/// What one node was seen to cost.
struct Rest {
    /// Of a processor.
    permille: f64,
    wake_ups: f64,
    /// Per second, both ways.
    packets: f64,
    sent: f64,
    /// Microseconds of a processor.
    per_packet: f64,
    kibibytes: f64,
    private: f64,
}

pub fn run(report: &mut Report) {
    let ours = look(&Contender::Drcm(Plan::of(3)));
    let theirs = look(&Contender::Keepalived(Duration::from_millis(100)));
    let row = |report: &mut Report, what: &str, unit: &str, of: fn(&Rest) -> f64, goals: &[Goal]| {
        report.row(what, unit, &spread(&ours, of), Some(("keepalived, 2 nodes, 100 ms", &spread(&theirs, of))), goals);
    };
    row(report, "processor, of one, per node: 3 nodes, h = 100 ms", "per mille", |rest| rest.permille, &[]);
    row(report, "processor per packet, sent or received", "us", |rest| rest.per_packet, &[Goal::Ratio(1.0)]);
    row(report, "wake-ups", "per s", |rest| rest.wake_ups, &[]);
    row(report, "packets, sent and received", "per s", |rest| rest.packets, &[]);
    row(report, "resident memory", "MiB", |rest| rest.kibibytes / 1024.0, &[Goal::Worst(10.0)]);
    row(report, "of that its own, without shared pages", "MiB", |rest| rest.private / 1024.0, &[]);

    let (one, many) = (look(&Contender::Drcm(crowd(1, 1))), look(&Contender::Drcm(crowd(1000, 50))));
    let row = |report: &mut Report, what: &str, unit: &str, of: fn(&Rest) -> f64, goals: &[Goal]| {
        report.row(what, unit, &spread(&many, of), Some(("one resource", &spread(&one, of))), goals);
    };
    row(report, "packets sent by each of 5 nodes: 1,000 resources in 50 groups", "per s", |rest| rest.sent, &[Goal::Ratio(1.05)]);
    row(report, "processor of the same", "per mille", |rest| rest.permille, &[]);
    row(report, "resident memory of the same", "MiB", |rest| rest.kibibytes / 1024.0, &[]);
}

fn spread(nodes: &[Rest], of: fn(&Rest) -> f64) -> Spread {
    Spread::of(nodes.iter().map(of).collect())
}

fn look(contender: &Contender) -> Vec<Rest> {
    let mut bed = Bed::serving(contender);
    bed.leave();
    sleep(SETTLE);
    let counters = || -> Vec<(Cost, Packets)> {
        let nodes = bed.lab.nodes().iter().enumerate();
        nodes.map(|(node, own)| (Cost::of(&bed.processes(node)), Packets::of(own.namespace()).unwrap())).collect()
    };
    let before = counters();
    sleep(LOOK);
    let after = counters();
    let per_second = |count: u64| count as f64 / LOOK.as_secs_f64();
    let rest = |node: usize| {
        let (cost, packets) = (after[node].0.since(before[node].0), after[node].1.since(before[node].1));
        let memory = Memory::of(&bed.processes(node));
        Rest {
            permille: per_second(cost.nanoseconds) / 1e6,
            wake_ups: per_second(cost.wake_ups),
            packets: per_second(packets.all()),
            sent: per_second(packets.sent),
            per_packet: cost.nanoseconds as f64 / 1000.0 / packets.all() as f64,
            kibibytes: memory.resident as f64,
            private: memory.private as f64,
        }
    };
    (0..before.len()).map(rest).collect()
}

/// Addresses on five nodes, in so many groups: another home, or other backups, make another group.
fn crowd(addresses: usize, groups: usize) -> Plan {
    const NODES: usize = 5;
    let plan = Plan::of(NODES);
    let home = |address: usize| address % groups % NODES;
    // The bits of this number, over the nodes that are not home, in turn.
    let is_backup = |address: usize, node: usize| {
        let set = address % groups / NODES + 1;
        node != home(address) && set >> ((node + NODES - home(address)) % NODES - 1) & 1 == 1
    };
    let sections: Vec<String> =
        (0..addresses).map(|number| format!("a{number}, 10.88.{}.{}, 32, eth0", number / 250, number % 250 + 1)).collect();
    let nodes = plan.nodes.iter().enumerate().map(|(node, own)| {
        let list =
            |key: &str, entries: Vec<String>| if entries.is_empty() { String::new() } else { format!("{key} = {}\n", entries.join(", ")) };
        let service = if node == 0 { Some("service".to_owned()) } else { None };
        let owned = (0..addresses).filter(|address| home(*address) == node).map(|address| format!("a{address}"));
        let backed =
            (0..addresses).filter(|address| is_backup(*address, node)).map(|address| format!("node{}:a{address}", home(address) + 1));
        let guest = if node == 1 { Some("node1:service".to_owned()) } else { None };
        let lines = list("node_floating_ip_addrs", service.into_iter().chain(owned).collect())
            + &list("node_backup_floating_ip_addrs", guest.into_iter().chain(backed).collect());
        NodePlan { lines, ..own.clone() }
    });
    Plan { own_lists: true, nodes: nodes.collect(), sections: sections.join("\n"), ..Plan::of(NODES) }
}
