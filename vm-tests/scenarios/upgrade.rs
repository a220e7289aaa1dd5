//! The package is upgraded on one node after the other while clients ask and the application writes.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drcm::lab::Mark;

use crate::lab::{Blueprint, Image, LONG, NODES, Report, Shell as _, Site};

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let mut site = Site::serving(image, &Blueprint::default().address().nginx().crontab().nfs(0, "nfs4", "4.2").writer("/mnt/nfs4/lines"));
    let (since, mark) = (Instant::now(), Mark::now());
    let main = |site: &Site, node| site.node(node).must("systemctl show --property=MainPID --value drcm_server nginx");
    for node in 0..NODES {
        let before = main(&site, node);
        site.node(node).must("dpkg -i --force-confdef --force-confold /root/later.deb");
        site.wait("successor", LONG, || site.node(node).holds("grep -q 'going on with its leases' /var/log/drcm/drcm.log"));
        sleep(Duration::from_secs(5));
        assert_eq!(main(&site, node), before, "something was started again");
        assert!(site.node(node).must("dpkg-query -W -f='${Version}' drcm-server").ends_with(".1"));
    }
    let outages = site.outages(since, mark);
    let (asked, lost) = site.http.counts(since);
    assert_eq!(lost, 0, "{lost} of {asked} pages were lost");
    report.row("`dpkg -i` of a later revision on every node", outages, format!("{asked} pages asked for, none lost"));
    site.conclude(&mut report, &[]);
    report
}
