//! The owner is cut off from the network: with a witness the other takes over, and without one nobody does.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drcm::lab::{Mark, Port};

use crate::lab::{Blueprint, Image, LEASE, LONG, Outages, Report, SITE, STORAGE, Site, WEB};

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let mut site = Site::serving(image, &Blueprint::default().address().nginx().crontab());

    let (since, mark) = (Instant::now(), Mark::now());
    site.switch.cut(Port::Node(0)).unwrap();
    site.wait_all_on(1, LONG);
    report.row("the owner is cut off, a witness is there", site.outages(since, mark), "");
    sleep(LEASE);
    let (since, mark) = (Instant::now(), Mark::now());
    site.switch.join(Port::Node(0)).unwrap();
    site.settle();
    report.row("joined again: home", site.outages(since, mark), "");

    // Without the witness neither half is a majority.
    site.node_mut(STORAGE).power_cut();
    sleep(LEASE * 2);
    assert_eq!(site.evidence.owners(SITE), [0], "the two that are left are a majority");
    let cut = Instant::now();
    site.switch.cut(Port::Node(0)).unwrap();
    let stopped = site.wait("end of the resources everywhere", LONG, || (0..2).all(|node| site.evidence.active(node).is_empty()));
    assert!(stopped < LEASE + Duration::from_secs(3), "the owner held on for {stopped:?}");
    sleep(LEASE * 2);
    assert_eq!(site.evidence.owners(SITE), [0; 0], "half of two took over");
    site.switch.join(Port::Node(0)).unwrap();
    let joined = Instant::now();
    site.wait_all_on(0, LONG);
    let also = format!(
        "stopped {stopped:.1?} after the cut; there again {:.1?} after the end of the split, {:.0?} after its beginning",
        joined.elapsed(),
        cut.elapsed()
    );
    report.row("the witness has lost its power and the owner is cut off: nobody has a majority", Outages::default(), also);
    site.power_on(STORAGE);
    site.node(STORAGE).booted();
    // With `takeover = prompt` a service may still be stopping where the lease ran out.
    site.conclude(&mut report, &[WEB]);
    report
}
