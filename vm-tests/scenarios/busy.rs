//! A mount has to go that somebody uses and will not leave.

use std::time::Instant;

use drcm::lab::Mark;

use crate::lab::{Blueprint, Image, LONG, Report, Shell as _, Site};

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let mut site = Site::serving(image, &Blueprint::default().address().nfs(0, "nfs3", "3").nfs(0, "nfs4", "4.2"));
    // Two that obey a TERM, by directory and by file, and one that does not.
    site.node(0).must(
        "(cd /mnt/nfs3 && exec setsid sleep 1000 >/dev/null 2>&1) & \
         setsid sh -c 'exec 5>/mnt/nfs4/open; exec sleep 1000' >/dev/null 2>&1 & \
         setsid sh -c 'trap \"\" TERM; cd /mnt/nfs4; while :; do sleep 1; done' >/dev/null 2>&1 & \
         setsid sleep 2000 >/dev/null 2>&1 & sleep 1",
    );
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(0).must("drcm move nfs4 node2");
    site.wait_all_on(1, LONG);
    let log = site.node(0).must("cat /var/log/drcm/drcm.log");
    assert!(log.contains("TERM") && log.contains("KILL"), "who was ended is in the log: {log}");
    // Who did not use it was left alone.
    site.node(0).must("pgrep -f '^sleep 2000'");
    assert_eq!(site.node(0).run("pgrep -f '^sleep 1000'").text, "");
    report.row(
        "`drcm move` while three processes use the mounts, one of which ignores TERM",
        site.outages(since, mark),
        "they are named in the log",
    );
    site.node(1).must("drcm unmove nfs4");
    site.conclude(&mut report, &[]);
    report
}
