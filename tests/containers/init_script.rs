//! The init script with the real daemon, as on a machine without systemd: what it does, what it says by its exit status.

use std::time::Duration;

use super::lab::{Blueprint, LONG, Shell as _, Site, Spoken};

/// The script, told that systemd is not in charge.
fn service(site: &Site, node: usize, action: &str) -> Spoken {
    site.node(node).run(&format!("DRCM_SYSTEMD_RUN_DIR=/none /etc/init.d/drcm_server {action}"))
}

#[track_caller]
fn expect(site: &Site, action: &str, code: i32) -> String {
    let said = service(site, 0, action);
    assert_eq!(said.code, Some(code), "{action}: {}", said.text);
    said.text
}

fn pid(site: &Site) -> String {
    site.node(0).must("cat /var/run/drcm/drcm_server.pid").trim().to_owned()
}

#[test]
fn the_init_script_starts_stops_and_tells_as_the_standard_has_it() {
    let site = Site::boot(&Blueprint::web(2, 1));
    expect(&site, "status", 3);
    expect(&site, "reload", 7);
    expect(&site, "stop", 0);
    expect(&site, "start", 0);
    for node in [1, 2] {
        let said = service(&site, node, "start");
        assert_eq!(said.code, Some(0), "{}", said.text);
    }
    let http = site.http();
    site.wait_served(&http, 0);
    assert!(expect(&site, "status", 0).contains(&pid(&site)));
    let first = pid(&site);
    assert!(expect(&site, "start", 0).contains("runs already"));
    assert_eq!(pid(&site), first);
    // A session of its own, and nothing of whoever started it.
    site.node(0).must(&format!("test $(ps -o sid= -p {first}) = {first} && test $(readlink /proc/{first}/cwd) = /"));

    // It is told to look at its configuration, but only at one without errors.
    expect(&site, "reload", 0);
    site.wait("word of the reload", LONG, || site.node(0).log().contains("reload: "));
    site.node(0).must("cp /etc/drcm/cm.cfg /tmp/good; echo 'node_services = nonsense' >>/etc/drcm/cm.cfg");
    assert!(expect(&site, "reload", 1).contains("has errors"));
    expect(&site, "upgrade", 1);
    site.node(0).must("cp /tmp/good /etc/drcm/cm.cfg");
    expect(&site, "upgrade", 0);
    site.wait("the successor", LONG, || site.node(0).log().contains("going on with its leases"));
    assert_eq!(pid(&site), first);
    expect(&site, "status", 0);

    // Killed: dead, with a pid file; another process of that number is not taken for it.
    site.node(0).must(&format!("kill -9 {first}"));
    site.node(0).wait("its end", LONG, || !site.node(0).holds(&format!("kill -0 {first}")));
    expect(&site, "status", 1);
    site.node(0).must("echo 1 >/var/run/drcm/drcm_server.pid");
    expect(&site, "status", 1);
    expect(&site, "start", 0);
    site.wait_served(&http, 0);
    // restart and try-restart
    let second = pid(&site);
    expect(&site, "restart", 0);
    let third = pid(&site);
    assert_ne!(second, third);
    expect(&site, "try-restart", 0);
    assert_ne!(third, pid(&site));
    site.wait_served(&http, 0);

    // Stopped, it has handed over.
    expect(&site, "stop", 0);
    site.wait_served(&http, 1);
    expect(&site, "status", 3);
    expect(&site, "stop", 0);
    expect(&site, "try-restart", 0);
    expect(&site, "status", 3);

    // What keeps it from starting, each with a status of its own.
    expect(&site, "", 2);
    expect(&site, "nonsense", 2);
    let said = site.node(0).run("DRCM_SYSTEMD_RUN_DIR=/none runuser -u nobody -- /etc/init.d/drcm_server start");
    assert_eq!(said.code, Some(4), "{}", said.text);
    site.node(0).must("mv /etc/drcm/cm.cfg /tmp/away");
    expect(&site, "start", 6);
    site.node(0).must("echo nonsense >/etc/drcm/cm.cfg");
    assert!(expect(&site, "start", 1).contains("did not start"));
    // Its settings: another program, another configuration, options.
    site.node(0)
        .must("mv /tmp/away /etc/drcm/other.cfg; mv /etc/default/drcm_server /tmp/settings; echo CMPROC=/none >/etc/default/drcm_server");
    expect(&site, "start", 5);
    site.node(0).must("printf 'CFGFILE=/etc/drcm/other.cfg\\nARGS=\"--log-level=3 --debug\"\\n' >/etc/default/drcm_server");
    site.node(0).must("sed -i 's|^.CM_SERVER.|&\\nrun_dir = /run/elsewhere|' /etc/drcm/other.cfg");
    expect(&site, "start", 0);
    let daemon = site.node(0).must("cat /run/elsewhere/drcm_server.pid");
    let line = site.node(0).must(&format!("tr '\\0' ' ' </proc/{}/cmdline", daemon.trim()));
    assert_eq!(line.trim(), "/usr/sbin/drcm_server --config-file=/etc/drcm/other.cfg --log-level=3 --debug");
    expect(&site, "stop", 0);
}

#[test]
fn under_systemd_the_init_script_hands_on_to_the_unit() {
    let site = Site::boot(&Blueprint::web(1, 0));
    site.node(0).must("/etc/init.d/drcm_server start");
    assert!(site.node(0).holds("systemctl is-active drcm_server"));
    site.node(0).must("service drcm_server status");
    site.node(0).must("/etc/init.d/drcm_server reload");
    site.wait("word of the reload", LONG, || site.node(0).log().contains("reload: "));
    // A daemon that died where nothing restarts it is started by the watcher, from cron.
    site.node(0).must("service drcm_server stop");
    assert!(!site.node(0).holds("systemctl is-active drcm_server"));
    let said = site.node(0).run("UNIXMAILPROGRAM=/bin/true /etc/drcm/utils/watch_service.sh drcm_server");
    assert!(said.code == Some(1) && said.text.contains("it runs again"), "{}", said.text);
    site.node(0).wait("it again", Duration::from_secs(5), || site.node(0).holds("systemctl is-active drcm_server"));
}
