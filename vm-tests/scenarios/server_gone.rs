//! The file server falls silent, comes back, and later has forgotten what its files were called. The mounts of one group stall; another
//! group on the same node moves as ever; afterwards the mounts work again by themselves.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drcm::lab::{Mark, Port, Protocol};

use crate::lab::{Blueprint, Image, LONG, Outages, Report, SITE, STORAGE, Shell as _, Site, WEB};

/// Between two checks of a mount.
const CHECK: Duration = Duration::from_secs(5);
/// Below the root of the export, whose handle would fit any directory in its place.
const DATA: &str = "/srv/export/data";

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let mut blueprint = Blueprint::default().address().nginx().nfs_of(DATA, 1, "nfs3", "3").nfs_of(DATA, 1, "nfs4", "4.2");
    // It fails more often than a group may that is to stay where it is.
    blueprint.server = "check_timeout = 3\nrestart_limit = 10\n".to_owned();
    for lines in &mut blueprint.lines {
        *lines += &format!("filesystems_check = {}\n", CHECK.as_secs());
    }
    let mut site = Site::woken(image, &blueprint);
    site.node(STORAGE).must(&format!("mkdir -m 777 {DATA}"));
    site.enable();
    site.settle();

    // Its cable is well and its vote is heard; only what the files need is swallowed.
    let silent = Instant::now();
    for node in 0..STORAGE {
        site.switch.filter(Port::Node(node), Port::Node(STORAGE), Protocol::Tcp).unwrap();
    }
    let shown = site.wait("word that the mounts stall", LONG, || site.status(1).contains("no answer to"));
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(0).must("drcm move web node2");
    site.wait("address and nginx on node2", LONG, || [SITE, WEB].iter().all(|resource| site.evidence.owners(resource) == [1]));
    let there = only(&site.outages(since, mark), &[SITE, WEB]);
    report.row(
        "the file server is silent; another group moves to the node that waits for it",
        there,
        format!("shown as stalled after {shown:.0?}"),
    );
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(0).must("drcm unmove web");
    site.wait("address and nginx on node1", LONG, || [SITE, WEB].iter().all(|resource| site.evidence.owners(resource) == [0]));
    report.row("and home from it", only(&site.outages(since, mark), &[SITE, WEB]), "");

    // Long enough for it to be mounted anew, which cannot succeed.
    sleep((CHECK * 6).saturating_sub(silent.elapsed()));
    site.switch.heal().unwrap();
    let healed = Instant::now();
    for mount in ["nfs3", "nfs4"] {
        site.wait("mount that answers", LONG, || site.node(1).holds(&format!("timeout -s KILL 5 touch /mnt/{mount}/touched")));
    }
    let answered = healed.elapsed();
    site.settle();
    report.row(
        "the file server is back",
        Outages::default(),
        format!("mounts work after {answered:.0?}, HEALTHY after {:.0?}", healed.elapsed()),
    );

    // The same path, and another directory behind it.
    site.node(STORAGE).must(&format!("rm -r {DATA} && mkdir -m 777 {DATA}"));
    let changed = Instant::now();
    for mount in ["nfs3", "nfs4"] {
        site.wait("mount of the new export", LONG, || {
            site.node(1).holds(&format!("timeout -s KILL 5 touch /mnt/{mount}/anew"))
                && site.node(STORAGE).holds("test -e /srv/export/data/anew")
        });
    }
    report.row(
        "the export is another directory (stale handles)",
        Outages::default(),
        format!("mounted anew after {:.0?}", changed.elapsed()),
    );
    site.conclude(&mut report, &[]);
    report
}

fn only(outages: &Outages, resources: &[&str]) -> Outages {
    let mut some = Outages::default();
    for resource in resources {
        some.set(resource, outages.of(resource));
    }
    some
}
