//! The owner is stopped as for maintenance, and started again: how long does a client wait?

use std::time::Duration;

use drcm::lab::Plan;

use super::failover::every;
use crate::{
    bed::{Bed, Contender},
    report::{Goal, Report, Spread},
};

const LABORATORIES: usize = 4;
const ROUNDS: usize = 3;

pub fn run(report: &mut Report) {
    let goals = [Goal::Median(2.0), Goal::Worst(5.0)];
    let slow = Plan { failback_delay: Duration::from_secs(1), ..Plan::of(3) };
    for (what, plan, interval) in
        [("template and keepalived's default", slow, Duration::from_secs(1)), ("10 ms x 3", every(10, 3), Duration::from_millis(10))]
    {
        let (drcm, keepalived) = (Contender::Drcm(plan), Contender::Keepalived(interval));
        let (mut ours, mut theirs) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for _ in 0..LABORATORIES {
            for (contender, found) in [(&drcm, &mut ours), (&keepalived, &mut theirs)] {
                let (gone, back) = of(contender);
                found.0.extend(gone);
                found.1.extend(back);
            }
        }
        report.row(&format!("stopped (SIGTERM), {what}"), "ms", &times(&ours.0), Some(("keepalived", &times(&theirs.0))), &goals);
        report.row(&format!("started again, home, {what}"), "ms", &times(&ours.1), Some(("keepalived", &times(&theirs.1))), &goals);
    }
}

fn times(times: &[Duration]) -> Spread {
    Spread::of_times(times)
}

fn of(contender: &Contender) -> (Vec<Duration>, Vec<Duration>) {
    let mut bed = Bed::serving(contender);
    (0..ROUNDS).map(|_| (bed.outage(1, |bed| bed.stop(0)), bed.outage(0, |bed| bed.start(0)))).unzip()
}
