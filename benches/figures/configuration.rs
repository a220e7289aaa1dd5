//! A configuration of ten thousand resources: read, checked, and reported.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use drcm::lab::{NodePlan, Plan};

use crate::{
    bed::{Bed, Contender, daemon},
    report::{Goal, Report, Spread},
};

const RESOURCES: usize = 10_000;
const ROUNDS: usize = 15;

pub fn run(report: &mut Report) {
    let mut bed = Bed::serving(&Contender::Drcm(plan()));
    let file = bed.lab.node(0).config().to_owned();
    let checks: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let said = Command::new(daemon()).arg(format!("--config-file={}", file.display())).arg("--check-config").output().unwrap();
            assert!(matches!(said.status.code(), Some(0 | 2)), "{said:?}");
            start.elapsed()
        })
        .collect();
    let bytes = fs::metadata(&file).unwrap().len();
    let what = format!("--check-config of 10,000 resources ({} KiB), with the start of the program", bytes / 1024);
    report.row(&what, "ms", &Spread::of_times(&checks), None, &[Goal::Median(100.0)]);
    let text = fs::read_to_string(&file).unwrap();
    let parses: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            drcm::config::parse_cfg("cm.cfg", &text).unwrap_or_else(|report| panic!("{report}"));
            start.elapsed()
        })
        .collect();
    report.row("of that, parsed and checked", "ms", &Spread::of_times(&parses), None, &[Goal::Median(100.0)]);

    bed.wait_healthy();
    let stats: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let said = bed.lab.node(1).client(&["--command=cm_stat"]).unwrap();
            assert!(said.stdout.contains("HEALTHY"), "{}", said.stdout);
            start.elapsed()
        })
        .collect();
    report.row("cm_stat of it, with the start of the program", "ms", &Spread::of_times(&stats), None, &[Goal::Median(50.0)]);
}

fn plan() -> Plan {
    let plan = Plan::of(3);
    let names = |node: usize| (0..RESOURCES).filter(move |number| number % 3 == node).map(|number| format!("a{number}"));
    let sections: Vec<String> = (0..RESOURCES)
        .map(|number| format!("a{number}, 10.{}.{}.{}, 32, eth0", 88 + number / 62_500, number / 250 % 250, number % 250 + 1))
        .collect();
    let nodes = plan.nodes.iter().enumerate().map(|(node, own)| {
        let others =
            (0..3).filter(|other| *other != node).flat_map(|other| names(other).map(move |name| format!("node{}:{name}", other + 1)));
        let (service, backup) = if node == 0 { ("service, ", "") } else { ("", "node1:service, ") };
        let lines = format!(
            "node_floating_ip_addrs = {service}{}\nnode_backup_floating_ip_addrs = {backup}{}",
            names(node).collect::<Vec<_>>().join(", "),
            others.collect::<Vec<_>>().join(", ")
        );
        NodePlan { lines, ..own.clone() }
    });
    Plan { own_lists: true, nodes: nodes.collect(), sections: sections.join("\n"), ..Plan::of(3) }
}
