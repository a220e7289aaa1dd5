//! Every machine is rebooted in its turn, as for a new kernel.

use std::time::Instant;

use drcm::lab::Mark;

use crate::lab::{BOOT, Blueprint, Image, LONG, Report, Site};

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let mut site = Site::serving(image, &Blueprint::default().address().nginx().crontab().nfs(0, "nfs4", "4.2").writer("/mnt/nfs4/lines"));
    let whom = ["the owner", "its backup", "the file server, which also votes"];
    for (node, whom) in whom.into_iter().enumerate() {
        let before = site.node(node).boot();
        let (since, mark) = (Instant::now(), Mark::now());
        site.node(node).begin("systemctl reboot");
        if node == 0 {
            site.wait_all_on(1, LONG);
            report.row("the owner is rebooted: to its backup", site.outages(since, mark), "");
        }
        site.wait("another boot", BOOT, || site.node(node).try_boot().is_some_and(|boot| boot != before));
        site.node(node).booted();
        let up = since.elapsed();
        let home = (Instant::now(), Mark::now());
        let (since, mark) = if node == 0 { home } else { (since, mark) };
        site.settle();
        let also = format!("up again after {up:.0?}");
        let what = if node == 0 { "and home again".to_owned() } else { format!("{whom} is rebooted") };
        report.row(&what, site.outages(since, mark), also);
    }
    site.conclude(&mut report, &[]);
    report
}
