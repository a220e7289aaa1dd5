//! An export of a kernel's NFS server, mounted by the daemon itself by version 3 and by version 4.2, moves while an application
//! writes to it.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drcm::lab::Mark;

use crate::lab::{Blueprint, Image, LONG, Report, Shell as _, Site};

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let blueprint = Blueprint::default().address().nfs(0, "nfs3", "3").nfs(0, "nfs4", "4.2").writer("/mnt/nfs4/lines");
    let mut site = Site::serving(image, &blueprint);
    let mounts = site.node(0).must("grep ' /mnt/' /proc/mounts");
    assert!(mounts.contains("/mnt/nfs3 nfs rw") && mounts.contains("vers=3,"), "{mounts}");
    assert!(mounts.contains("/mnt/nfs4 nfs4 rw") && mounts.contains("vers=4.2,"), "{mounts}");
    site.node(0).must("echo written by version 3 >/mnt/nfs3/word; grep -q 'by version 3' /mnt/nfs4/word");

    sleep(Duration::from_secs(3));
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(1).must("drcm move nfs4 node2");
    site.wait_all_on(1, LONG);
    report.row("`drcm move` away from a node where an application writes", site.outages(since, mark), "");
    site.node(1).must("grep -q 'by version 3' /mnt/nfs3/word && grep -q 'by version 3' /mnt/nfs4/word");
    assert_eq!(site.node(0).run("grep ' /mnt/' /proc/mounts").text, "");

    sleep(Duration::from_secs(3));
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(1).must("drcm unmove nfs4");
    site.settle();
    report.row("`drcm unmove`: home again", site.outages(since, mark), "");
    site.conclude(&mut report, &[]);
    report
}
