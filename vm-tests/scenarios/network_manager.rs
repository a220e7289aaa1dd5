//! The manager of the machine's network is restarted beside us, and reconfigures the interface on which the floating address is.

use std::{thread::sleep, time::Instant};

use drcm::lab::Mark;

use crate::lab::{Blueprint, Image, LEASE, Report, Shell as _, Site};

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let mut site = Site::serving(image, &Blueprint::default().address().nginx());
    for (what, command) in [
        ("`systemctl restart systemd-networkd`", "systemctl restart systemd-networkd"),
        ("`networkctl reconfigure eth0`", "networkctl reconfigure eth0"),
    ] {
        let (since, mark) = (Instant::now(), Mark::now());
        site.node(0).must(command);
        sleep(LEASE);
        let outages = site.outages(since, mark);
        let restored = site.node(0).must("drcm events | grep -c restored || true");
        let also = format!("put back by drcm so far: {} times", restored.trim());
        assert!(outages.longest() < LEASE / 2, "{command}: {outages:?}");
        report.row(what, outages, also);
    }
    site.conclude(&mut report, &[]);
    report
}
