//! The clock of the day of each node is set back by an hour, and forward again.

use std::{thread::sleep, time::Instant};

use drcm::lab::Mark;

use crate::lab::{Blueprint, Image, LEASE, NODES, Report, Shell as _, Site};

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let mut site = Site::serving(image, &Blueprint::default().address().nginx().crontab().nfs(0, "nfs4", "4.2").writer("/mnt/nfs4/lines"));
    let (since, mark) = (Instant::now(), Mark::now());
    for node in 0..NODES {
        site.node(node).must("date -u -s \"@$(($(date +%s) - 3600))\"");
        sleep(LEASE);
    }
    site.node(0).must("date -u -s \"@$(($(date +%s) + 7200))\"");
    sleep(LEASE * 2);
    let outages = site.outages(since, mark);
    assert!(outages.longest() < LEASE / 2, "something was interrupted: {outages:?}");
    report.row("the clocks of all nodes go back an hour, one after the other; that of the owner two forward", outages, "nothing moves");
    let (_, lost) = site.http.counts(since);
    assert_eq!(lost, 0, "pages were lost");
    for node in 0..NODES {
        site.node(node).set_clock();
    }
    site.conclude(&mut report, &[]);
    report
}
