//! What becomes of a service and its address when something happens to the daemon or its machine.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use drcm::lab::{Mark, Plan};
use nix::sys::signal::Signal;

use super::lab::{Blueprint, LONG, Shell as _, Site};

#[test]
fn a_killed_daemon_is_started_again_and_nobody_notices() {
    let site = Site::serving(&Blueprint::web(2, 1));
    let (http, ping) = (site.http(), site.ping());
    site.wait_served(&http, 0);
    let (nginx, began) = (site.node(0).main_process("nginx"), Instant::now());
    for _ in 0..3 {
        let before = site.node(0).main_process("drcm_server");
        site.node(0).signal("drcm_server", Signal::SIGKILL);
        site.holds_still(&http, &ping, Duration::from_secs(2));
        assert_ne!(site.node(0).main_process("drcm_server"), before);
    }
    assert_eq!(site.node(0).main_process("nginx"), nginx, "nginx was started again");
    assert_eq!(http.lost_since(began), []);
    println!("three kills: {} pages asked for, none lost", http.counts(began).0);
}

#[test]
fn a_paused_daemon_loses_its_resources_and_the_watchdog_ends_it() {
    let site = Site::serving(&Blueprint::web(2, 1));
    let http = site.http();
    site.wait_served(&http, 0);
    let before = site.node(0).main_process("drcm_server");
    let paused = Instant::now();
    site.node(0).signal("drcm_server", Signal::SIGSTOP);
    site.wait_served(&http, 1);
    let failover = http.longest_outage(paused);
    assert!(failover < Duration::from_secs(3), "it took {failover:?}");
    let restarted = site.wait("the watchdog", LONG, || {
        let said = site.node(0).run("systemctl show --property=MainPID --value drcm_server").text;
        said.trim().parse::<i32>().is_ok_and(|now| now != 0 && now != before)
    });
    // Home again, served by a node that is well.
    site.wait_served(&http, 0);
    println!("paused: no page for {failover:?}; a new daemon after {restarted:?}");
}

#[test]
fn the_owner_reboots() {
    let mut site = Site::serving(&Blueprint::web(2, 1));
    let http = site.http();
    site.wait_served(&http, 0);
    let (rebooted, first) = (Instant::now(), site.node(0).init());
    site.node(0).must("systemctl --no-block reboot");
    site.wait_served(&http, 1);
    let outage = http.longest_outage(rebooted);
    assert!(outage < Duration::from_secs(1), "a reboot is a planned move, and took {outage:?}");
    site.wait("another boot", LONG, || site.node(0).init().is_some_and(|init| Some(init) != first));
    site.wait_served(&http, 0);
    println!("reboot: no page for {outage:?}");
    // systemd left nginx alone until it was handed over.
    let words = site.node(0).words();
    let at = |what: &str| words.find(what).unwrap_or_else(|| panic!("no `{what}` in\n{words}"));
    assert!(at("Stopping drcm_server.service") < at("Stopping nginx.service"), "{words}");
    assert!(at("INFO: leaving: stopping") < at("Stopping nginx.service"), "{words}");

    // Switched off, it stays off, and nothing is lost by it.
    site.node_mut(0).must("systemctl --no-block poweroff");
    site.wait_served(&http, 1);
    site.node_mut(0).wait_off(LONG);
    assert!(site.node(0).log().contains("left the cluster"), "{}", site.node(0).log());
}

#[test]
fn an_address_that_is_deleted_comes_back() {
    let site = Site::serving(&Blueprint::web(2, 1));
    let (http, ping) = (site.http(), site.ping());
    site.wait_served(&http, 0);
    let (mark, deleted) = (Mark::now(), Instant::now());
    site.node(0).must(&format!("ip address del {}/24 dev eth0", Plan::served()));
    sleep(Duration::from_secs(1));
    let (pause, outage) = (ping.longest_outage(mark), http.longest_outage(deleted));
    assert!(pause < Duration::from_millis(500) && outage < Duration::from_millis(700), "{pause:?}, {outage:?}");
    assert!(site.status(0).contains("node1"), "{}", site.status(0));
}

#[test]
fn the_unit_is_sound_and_gives_the_daemon_no_more_than_it_needs() {
    let site = Site::boot(&Blueprint::web(1, 0));
    let unit = "/usr/lib/systemd/system/drcm_server.service";
    assert_eq!(site.node(0).must(&format!("systemd-analyze verify --man=no {unit}")), "");
    let security = site.node(0).must(&format!("systemd-analyze security --offline=true --no-pager {unit}"));
    for taken in ["SystemCallFilter=~@module", "SystemCallFilter=~@reboot", "CapabilityBoundingSet=~CAP_SYS_MODULE"] {
        let line = security.lines().find(|line| line.contains(taken)).unwrap_or_default();
        assert!(line.contains('\u{2713}'), "{taken}: {security}");
    }
    // What it mounts is seen by the host: it has no mount namespace of its own.
    site.node(0).must("systemctl enable --quiet --now drcm_server");
    let daemon = site.node(0).main_process("drcm_server");
    site.node(0).must(&format!("test $(readlink /proc/{daemon}/ns/mnt) = $(readlink /proc/1/ns/mnt)"));
}

#[test]
fn an_upgrade_in_place_loses_nothing() {
    let site = Site::serving(&Blueprint::web(2, 1));
    let (http, ping) = (site.http(), site.ping());
    site.wait_served(&http, 0);
    let (daemon, nginx, began) = (site.node(0).main_process("drcm_server"), site.node(0).main_process("nginx"), Instant::now());
    // As a package does: another file under the same name, then the signal.
    site.node(0).must("cp /usr/sbin/drcm_server /usr/sbin/drcm_server.new && mv /usr/sbin/drcm_server.new /usr/sbin/drcm_server");
    site.node(0).must("systemctl kill --kill-who=main --signal=USR2 drcm_server");
    site.wait("the successor", LONG, || site.node(0).log().contains("going on with its leases"));
    site.holds_still(&http, &ping, Duration::from_secs(3));
    assert_eq!((site.node(0).main_process("drcm_server"), site.node(0).main_process("nginx")), (daemon, nginx));
    assert_eq!(http.lost_since(began), []);
    println!("upgrade in place: {} pages asked for, none lost", http.counts(began).0);
    // The service manager and the watchdog are still served.
    sleep(Duration::from_secs(12));
    assert_eq!(site.node(0).main_process("drcm_server"), daemon);
    site.node(0).must("systemctl is-active drcm_server");
    // A file that cannot be run changes nothing.
    site.node(0).must("cp /bin/false /usr/sbin/drcm_server.new && mv /usr/sbin/drcm_server.new /usr/sbin/drcm_server");
    site.node(0).must("systemctl kill --kill-who=main --signal=USR2 drcm_server");
    site.wait("a refusal", LONG, || site.node(0).log().contains("is not fit to take over"));
    site.holds_still(&http, &ping, Duration::from_secs(1));
}

#[test]
fn an_owner_whose_link_goes_down_hands_over_what_it_has() {
    let site = Site::serving(&Blueprint::web(2, 1));
    let http = site.http();
    site.wait_served(&http, 0);
    let down = Instant::now();
    site.node(0).must("ip link set eth0 down");
    site.wait_served(&http, 1);
    let outage = http.longest_outage(down);
    assert!(outage < Duration::from_secs(3), "it took {outage:?}");
    site.wait("the end of nginx on the cut node", LONG, || !site.node(0).holds("systemctl is-active --quiet nginx"));
    println!("link down: no page for {outage:?}");
    site.node(0).must("ip link set eth0 up");
    site.wait_served(&http, 0);
}

#[test]
fn a_script_that_hangs_delays_nobody_else() {
    let mut blueprint = Blueprint::web(2, 1);
    blueprint.server += "start_timeout = 4\nstop_timeout = 3\n";
    blueprint.sections = "[CM_SERVICES]\nweb, nginx, /etc/drcm/resources/service.sh\nslow, slow, /opt/hangs.sh\n".to_owned();
    blueprint.lines[0] += "node_services = web,slow\n";
    blueprint.lines[0] = blueprint.lines[0].replace("node_services = web\n", "");
    // Of its own: nothing of it moves with the web server.
    blueprint.lines[2] = "node_backup_services = node1:slow\n".to_owned();
    blueprint.files.push(("/opt/hangs.sh".to_owned(), "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n".to_owned()));
    let site = Site::boot(&blueprint);
    (0..3).for_each(|node| drop(site.node(node).must("chmod 755 /opt/hangs.sh")));
    site.enable_all();
    let (http, ping) = (site.http(), site.ping());
    let waited = site.wait_served(&http, 0);
    println!("served {waited:?} after the start, beside a script that hangs");
    // While it is tried here and there, the rest stands still and cm_stat answers.
    site.holds_still(&http, &ping, Duration::from_secs(8));
    let asked = Instant::now();
    let text = site.status(0);
    assert!(asked.elapsed() < Duration::from_secs(1), "cm_stat took {:?}", asked.elapsed());
    assert!(text.contains("slow") && !text.contains("HEALTHY"), "{text}");
    let left = Instant::now();
    site.node(0).must("systemctl stop drcm_server");
    site.wait_served(&http, 1);
    let planned = http.longest_outage(left);
    assert!(planned < Duration::from_secs(2), "the planned move took {planned:?} beside a script that hangs");
}
