//! A share, mounted by the daemon itself with user and password from its file in `auth_dir`, moves while an application writes to it.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drcm::lab::Mark;

use crate::lab::{Blueprint, Image, LONG, Report, SHARE_USER, Shell as _, Site};

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let mut site = Site::serving(image, &Blueprint::default().address().share().writer("/mnt/share/lines"));
    let mounts = site.node(0).must("grep ' /mnt/share cifs ' /proc/mounts");
    assert!(mounts.contains(&format!("username={}", SHARE_USER.0)), "{mounts}");

    sleep(Duration::from_secs(3));
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(1).must("drcm move share node2");
    site.wait_all_on(1, LONG);
    report.row("`drcm move` away from a node where an application writes", site.outages(since, mark), "");

    sleep(Duration::from_secs(3));
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(1).must("drcm unmove share");
    site.settle();
    report.row("`drcm unmove`: home again", site.outages(since, mark), "");

    // The word is where it belongs and nowhere else.
    for node in 0..2 {
        let leaks = site.node(node).run(&format!(
            "(grep -rl {word} /var/log/drcm /run/drcm /proc/mounts /proc/[0-9]*/cmdline; journalctl | grep {word}) 2>/dev/null | grep -v /proc/self/",
            word = format!("{}[{}]", &SHARE_USER.1[..SHARE_USER.1.len() - 1], &SHARE_USER.1[SHARE_USER.1.len() - 1..])
        ));
        assert_eq!(leaks.text, "", "the password is to be seen");
    }
    site.conclude(&mut report, &[]);
    report
}
