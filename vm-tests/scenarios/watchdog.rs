//! The daemon hangs, the kernel crashes, the machine hangs until its watchdog resets it, and the host stops it for a while.

use std::{thread::sleep, time::Instant};

use drcm::lab::Mark;

use crate::lab::{BOOT, Blueprint, CRONTAB, Image, LEASE, LONG, Report, SITE, Shell as _, Site, WEB};

pub fn run(image: &Image) -> Report {
    let mut report = Report::default();
    let mut site = Site::serving(image, &Blueprint::default().address().nginx().crontab());

    // systemd's watchdog for the daemon; the kernel takes the address away in time, and nothing else.
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(0).must("kill -STOP $(systemctl show --property=MainPID --value drcm_server)");
    site.wait("address on node2", LONG, || site.evidence.owners(SITE) == [1]);
    site.wait("crontab and nginx on node2", LONG, || [WEB, CRONTAB].iter().all(|resource| site.evidence.owners(resource).contains(&1)));
    let outages = site.outages(since, mark);
    site.settle();
    report.row(
        "the daemon of the owner is stopped (SIGSTOP), and ended by `WatchdogSec`",
        outages,
        "nginx and crontab are not fenced: see docs/cluster.md",
    );

    // Watched by systemd, which feeds a watchdog in the kernel.
    site.node(0).must(
        "modprobe softdog && mkdir -p /etc/systemd/system.conf.d && echo softdog >/etc/modules-load.d/softdog.conf && \
         printf '[Manager]\\nRuntimeWatchdogSec=20s\\n' >/etc/systemd/system.conf.d/watchdog.conf && systemctl daemon-reexec",
    );
    site.wait("armed watchdog", LONG, || site.node(0).holds("test -c /dev/watchdog0 && ls -l /proc/1/fd | grep -q watchdog"));
    let before = site.node(0).boot();
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(0)
        .begin("echo 1 >/sys/fs/cgroup/system.slice/drcm_server.service/cgroup.freeze; echo 1 >/sys/fs/cgroup/init.scope/cgroup.freeze");
    site.wait("everything on node2", LONG, || [SITE, WEB, CRONTAB].iter().all(|resource| site.evidence.owners(resource).contains(&1)));
    let outages = site.outages(since, mark);
    site.wait("reset by the watchdog", BOOT, || site.node(0).try_boot().is_some_and(|boot| boot != before));
    let reset = since.elapsed();
    site.node(0).booted();
    site.settle();
    report.row("daemon and systemd of the owner hang; softdog resets the machine", outages, format!("booted again after {reset:.0?}"));

    let before = site.node(0).boot();
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(0).begin("sync; echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger");
    site.wait_all_on(1, LONG);
    let outages = site.outages(since, mark);
    site.wait("boot after the crash", BOOT, || site.node(0).try_boot().is_some_and(|boot| boot != before));
    site.node(0).booted();
    site.settle();
    report.row("the kernel of the owner crashes", outages, "");

    // Its clocks stand still as well: it does not know that its time is over before it hears so.
    let (since, mark) = (Instant::now(), Mark::now());
    site.node(0).freeze();
    site.wait("everything on node2", LONG, || [SITE, WEB, CRONTAB].iter().all(|resource| site.evidence.owners(resource).contains(&1)));
    let outages = site.outages(since, mark);
    sleep(LEASE);
    site.thaw(0);
    let thawed = Instant::now();
    site.wait("look at node1", LONG, || site.evidence.looked_since(0, thawed));
    site.wait("end of everything on node1", LONG, || {
        site.evidence.owners(SITE) == [1] && site.evidence.owners(WEB) == [1] && site.evidence.owners(CRONTAB) == [1]
    });
    let also = format!("let go after it went on: within {:.1?}", thawed.elapsed());
    report.row("the host stops the owner's machine, and lets it go on later", outages, also);
    site.settle();
    site.conclude(&mut report, &[WEB, CRONTAB, SITE]);
    report
}
