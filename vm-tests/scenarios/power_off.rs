//! The power of the owner fails while its application writes; what the application had acknowledged is there on the other node. The
//! power comes back, and so do the resources.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drcm::lab::Mark;

use crate::lab::{Blueprint, CRONTAB, Image, LONG, Report, Site};

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let mut site = Site::serving(image, &Blueprint::one_of_each());

    sleep(Duration::from_secs(5));
    let (since, mark) = (Instant::now(), Mark::now());
    site.node_mut(0).power_cut();
    site.wait_all_on(1, LONG);
    report.row("the power of the owner fails while it writes", site.outages(since, mark), "");

    site.power_on(0);
    site.node(0).reachable();
    let (since, mark) = (Instant::now(), Mark::now());
    site.settle();
    report.row(
        "the power is back: home again",
        site.outages(since, mark),
        "the crontab of the former life is there until the daemon has started",
    );
    // It lies on the disk, and cron begins before the daemon does.
    site.conclude(&mut report, &[CRONTAB]);
    report
}
