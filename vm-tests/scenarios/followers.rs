//! A real cron and a real nginx follow the address: each minute the job runs once, where the address is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use drcm::lab::Mark;

use crate::lab::{Blueprint, Image, LONG, Report, Shell as _, Site};

/// A minute, and what an emulated cron is late.
const MINUTE: Duration = Duration::from_secs(100);

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let mut site = Site::serving(image, &Blueprint::default().address().nginx().crontab());
    ran_on(&site, "node1.lab");
    assert_eq!(site.http.answering().as_deref(), Some("node1.lab"));
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(0).must("drcm move site node2");
    site.wait_all_on(1, LONG);
    site.wait("page from node2", LONG, || site.http.answering().as_deref() == Some("node2.lab"));
    report.row("`drcm move` of address, nginx and crontab", site.outages(since, mark), "");
    ran_on(&site, "node2.lab");
    site.node(0).must("drcm unmove site");
    site.settle();
    ran_on(&site, "node1.lab");
    // Minutes are 60 s apart: two jobs within one are two owners.
    let jobs: Vec<(Instant, String)> = site.ear.heard().into_iter().filter(|(_, line)| line.starts_with("cron ")).collect();
    let mut by_node: BTreeMap<String, usize> = BTreeMap::new();
    for pair in jobs.windows(2) {
        assert!(pair[1].0.duration_since(pair[0].0) > Duration::from_secs(30), "the job ran twice in a minute: {pair:?}");
    }
    for (_, node) in jobs {
        *by_node.entry(node).or_default() += 1;
    }
    println!("    the job ran: {by_node:?}");
    site.conclude(&mut report, &[]);
    report
}

#[track_caller]
fn ran_on(site: &Site, node: &str) {
    let since = Instant::now();
    let wanted = format!("cron {node}");
    site.wait(&format!("job of cron on {node}"), MINUTE, || site.ear.heard().iter().any(|(at, line)| *at > since && *line == wanted));
}
