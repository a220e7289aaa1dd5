//! The disks of all nodes are full, logs and notes included; the owner fails nevertheless.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drcm::lab::{Mark, Port};

use crate::lab::{Blueprint, Image, LEASE, LONG, Report, Shell as _, Site};

/// All that there is, to the last block.
const FILL: &str = "fallocate -l $(($(stat -f -c '%f*%S' /) * 98 / 100)) /full 2>/dev/null; dd if=/dev/zero of=/full.more bs=4096 2>/dev/null; \
                    dd if=/dev/zero of=/full.rest bs=512 2>/dev/null; ! echo x >/var/spool/drcm/probe 2>/dev/null || test ! -s /var/spool/drcm/probe";

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    // No crontab: its copy has no place on a full disk, and its group would have to go where there is one.
    let mut site = Site::serving(image, &Blueprint::default().address().nginx());
    // nginx makes its directories when it is first started, which has not been everywhere.
    site.each(|machine| drop(machine.must("nginx -t")));
    let (since, mark) = (Instant::now(), Mark::now());
    site.each(|machine| drop(machine.must(FILL)));
    sleep(LEASE * 2);
    report.row("the disks of all nodes become full: log_dir and spool_dir with them", site.outages(since, mark), "");

    let (since, mark) = (Instant::now(), Mark::now());
    site.switch.cut(Port::Node(0)).unwrap();
    site.wait_all_on(1, LONG);
    report.row("and the owner is cut off", site.outages(since, mark), "");
    site.switch.join(Port::Node(0)).unwrap();
    site.settle();

    // An order that cannot be kept is not accepted.
    let said = site.node(0).run("drcm standby node1");
    assert!(said.code != Some(0), "an order that cannot be kept was accepted: {}", said.text);
    let answer = said.text.lines().next().unwrap_or_default().trim().replace('|', "/");
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(0).must("systemctl stop drcm_server");
    site.wait_all_on(1, LONG);
    report.row("`systemctl stop drcm_server` on the owner", site.outages(since, mark), format!("an order is refused: `{answer}`"));
    site.node(0).must("systemctl start drcm_server");
    sleep(Duration::from_secs(3));
    site.settle();
    site.each(|machine| drop(machine.must("rm -f /full /full.more /full.rest /var/spool/drcm/probe; sync")));
    site.node(0).must("drcm standby node2 && drcm online node2");
    site.conclude(&mut report, &[]);
    report
}
