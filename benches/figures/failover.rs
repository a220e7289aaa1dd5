//! The owner is cut off the network, at once and without a word: how long does a client wait?

use std::time::Duration;

use drcm::lab::Plan;

use crate::{
    bed::{Bed, Contender},
    report::{Goal, Report, Spread},
};

/// Laboratories of each contender, in turn, and rounds in each. Not more rounds: a home that goes again and again is left alone for longer.
const LABORATORIES: usize = 3;
const ROUNDS: usize = 3;

pub fn run(report: &mut Report) {
    let slow = Plan { failback_delay: Duration::from_secs(1), ..Plan::of(3) };
    compare(report, "cut, template (100 ms x 15) and keepalived's default (1 s)", slow, Duration::from_secs(1), &[Goal::Ratio(0.55)]);
    compare(report, "cut, 10 ms x 3", every(10, 3), Duration::from_millis(10), &[Goal::Ratio(0.85)]);
    // What this costs in stillness: see there.
    let (gone, _) = of(&Contender::Drcm(every(FASTEST.0, FASTEST.1)));
    let what = format!("cut, {} ms x {}: the fastest that stays still", FASTEST.0, FASTEST.1);
    report.row(&what, "ms", &Spread::of_times(&gone), None, &[Goal::Median(20.0)]);
}

/// h in milliseconds, and heartbeats: the fastest that does not move anything in ten minutes on a busy machine.
pub const FASTEST: (u64, u32) = (5, 3);

/// Three nodes at this pace.
pub fn every(milliseconds: u64, count: u32) -> Plan {
    Plan {
        keep_alive_interval: Duration::from_millis(milliseconds),
        dead_node_count: count,
        failback_delay: Duration::from_secs(1),
        ..Plan::of(3)
    }
}

fn compare(report: &mut Report, what: &str, plan: Plan, interval: Duration, goals: &[Goal]) {
    let (drcm, keepalived) = (Contender::Drcm(plan), Contender::Keepalived(interval));
    let (mut ours, mut theirs, mut home) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..LABORATORIES {
        let (gone, back) = of(&drcm);
        ours.extend(gone);
        home.extend(back);
        theirs.extend(of(&keepalived).0);
    }
    report.row(what, "ms", &Spread::of_times(&ours), Some(("keepalived", &Spread::of_times(&theirs))), goals);
    report.row("and home again, once it is joined", "ms", &Spread::of_times(&home), None, &[Goal::Median(2.0)]);
}

fn of(contender: &Contender) -> (Vec<Duration>, Vec<Duration>) {
    let mut bed = Bed::serving(contender);
    let rounds = (0..ROUNDS).map(|_| (bed.outage(1, |bed| bed.cut(0)), bed.outage(0, |bed| bed.join(0))));
    let found = rounds.unzip();
    if matches!(contender, Contender::Drcm(_)) {
        assert!(bed.sampler.doubles().is_empty(), "two owners: {:?}", bed.sampler.doubles());
    }
    found
}
