//! More and more nodes: what each of them costs and how soon a death is found does not depend on how many there are.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drcm::lab::{Cost, NodePlan, Packets, Plan};

use crate::{
    bed::{Bed, Contender},
    report::{Goal, Report, Spread},
};

/// So many nodes, each a process in namespaces of its own on this machine.
const SIZES: [usize; 5] = [3, 10, 50, 100, 200];
const VOTERS: usize = 5;
const LOOK: Duration = Duration::from_secs(10);

pub fn run(report: &mut Report) {
    let mut first: Option<Spread> = None;
    for size in SIZES {
        let start = Instant::now();
        let mut bed = Bed::serving(&Contender::Drcm(plan(size)));
        let up = start.elapsed();
        // All have met, and the start is over.
        bed.wait_healthy();
        sleep(Duration::from_secs(2));
        // Neither a voter nor an owner, where there is such a node.
        let plain = if size > VOTERS + 2 { size - 1 } else { size - 2 };
        let look = |bed: &Bed| (Cost::of(&bed.processes(plain)), Packets::of(bed.lab.node(plain).namespace()).unwrap());
        let (cost_before, packets_before) = look(&bed);
        sleep(LOOK);
        let (cost, packets) = look(&bed);
        let per_second = |count: u64| count as f64 / LOOK.as_secs_f64();
        let name = |what: &str| format!("{size} nodes: {what}");
        report.row(
            &name("packets of one that does not vote"),
            "per s",
            &Spread::one(per_second(packets.since(packets_before).all())),
            None,
            &[],
        );
        report.row(&name("processor of it"), "per mille", &Spread::one(per_second(cost.since(cost_before).nanoseconds) / 1e6), None, &[]);
        let stat: Vec<Duration> = (0..11)
            .map(|_| {
                let asked = Instant::now();
                let said = bed.lab.node(1).client(&["--command=cm_stat"]).unwrap();
                assert!(said.stdout.contains("HEALTHY"), "{}", said.stdout);
                asked.elapsed()
            })
            .collect();
        report.row(&name("cm_stat"), "ms", &Spread::of_times(&stat), None, &[]);
        report.row(&name("from the start of all to the first answer"), "ms", &Spread::of_times(&[up]), None, &[]);
        let cuts: Vec<Duration> = (0..3)
            .map(|_| {
                let gone = bed.outage(1, |bed| bed.cut(0));
                bed.outage(0, |bed| bed.join(0));
                gone
            })
            .collect();
        let found = Spread::of_times(&cuts);
        let goals: &[Goal] = if first.is_some() { &[Goal::Ratio(1.1)] } else { &[] };
        report.row(&name("the owner is cut off"), "ms", &found, first.as_ref().map(|first| ("3 nodes", first)), goals);
        first.get_or_insert(found);
    }
}

/// The first two are home and backup of the address, the last few vote.
fn plan(size: usize) -> Plan {
    let plan = Plan::of(size);
    let nodes = plan.nodes.iter().enumerate().map(|(number, node)| {
        let mut lines = match number {
            0 => "node_floating_ip_addrs = service\n",
            1 => "node_backup_floating_ip_addrs = node1:service\n",
            _ => "",
        }
        .to_owned();
        if size > VOTERS && (2..2 + VOTERS).contains(&number) {
            lines += "voter = 1\n";
        }
        NodePlan { lines, ..node.clone() }
    });
    Plan { own_lists: true, nodes: nodes.collect(), failback_delay: Duration::from_secs(1), ..Plan::of(size) }
}
