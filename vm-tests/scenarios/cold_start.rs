//! The power of all machines fails in the same moment, and comes back.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drcm::lab::Mark;

use crate::lab::{Blueprint, CRONTAB, Image, NODES, Report, Site};

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let mut site = Site::serving(image, &Blueprint::one_of_each());
    sleep(Duration::from_secs(5));
    for node in 0..NODES {
        site.node_mut(node).power_cut();
    }
    sleep(Duration::from_secs(2));
    let (since, mark) = (Instant::now(), Mark::now());
    for node in 0..NODES {
        site.power_on(node);
    }
    site.each(crate::lab::Machine::reachable);
    let booted = since.elapsed();
    site.settle();
    report.row(
        "the power of all fails while the application writes; from its return",
        site.outages(since, mark),
        format!("the machines answer after {booted:.0?}"),
    );
    // The crontab of the former life lies on the disk, and cron begins before the daemon does.
    site.conclude(&mut report, &[CRONTAB]);
    report
}
