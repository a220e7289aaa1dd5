//! Three machines are booted, the package is on them, and an administrator enables the daemon.

use std::time::Instant;

use drcm::lab::Mark;

use crate::lab::{Blueprint, Image, Report, Site};

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let began = Instant::now();
    let mut site = Site::booted(image, &Blueprint::default().address().nginx().crontab());
    let booted = began.elapsed();

    let (since, mark) = (Instant::now(), Mark::now());
    site.enable();
    site.settle();
    let also = format!("three machines were booted and configured in {booted:.0?}");
    report.row("`systemctl enable --now drcm_server` everywhere, until it is there", site.outages(since, mark), also);
    site.conclude(&mut report, &[]);
    report
}
