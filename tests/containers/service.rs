//! Services that die, cannot start, or lose their service manager for a moment.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::lab::{Blueprint, Container, LONG, Shell as _, Site};

/// Kills nginx and gives how long after systemd it took until the daemon knew, both by the clock of the journal.
fn seen_after_a_kill(node: &Container) -> Duration {
    let journal = "journalctl --no-pager -o short-monotonic -u nginx -u drcm_server";
    let count = |text: &str, what: &str| text.lines().filter(|line| line.contains(what)).count();
    let (died, seen) = ("nginx.service: Main process exited", "starting it again");
    let before = node.must(journal);
    node.signal("nginx", Signal::SIGKILL);
    let mut after = String::new();
    node.wait("word that nginx is down", LONG, || {
        after = node.must(journal);
        count(&after, seen) > count(&before, seen)
    });
    let at = |what: &str| {
        let line = after.lines().rfind(|line| line.contains(what)).unwrap_or_else(|| panic!("no `{what}` in\n{after}"));
        let stamp = line.trim_start_matches(['[', ' ']).split(']').next().unwrap();
        Duration::from_secs_f64(stamp.parse().unwrap())
    };
    at(seen).saturating_sub(at(died))
}

#[test]
fn a_service_that_dies_is_seen_at_once_and_started_again() {
    let site = Site::serving(&Blueprint::web(2, 1));
    let http = site.http();
    site.wait_served(&http, 0);
    for _ in 0..2 {
        let killed = Instant::now();
        let seen = seen_after_a_kill(site.node(0));
        site.wait_served(&http, 0);
        let outage = http.longest_outage(killed);
        println!("killed: seen after {seen:?}, no page for {outage:?}");
        assert!(seen < Duration::from_millis(100), "it was seen only after {seen:?}");
        assert!(outage < Duration::from_secs(1), "no page for {outage:?}");
    }
}

#[test]
fn a_restart_of_the_bus_and_of_systemd_itself_moves_nothing_and_blinds_nobody() {
    let site = Site::serving(&Blueprint::web(2, 1));
    let (http, ping) = (site.http(), site.ping());
    site.wait_served(&http, 0);
    let nginx = site.node(0).main_process("nginx");
    let began = Instant::now();
    site.node(0).must("systemctl restart dbus");
    site.holds_still(&http, &ping, Duration::from_millis(1500));
    site.node(0).must("systemctl daemon-reexec");
    site.holds_still(&http, &ping, Duration::from_millis(1500));
    site.node(0).must("systemctl daemon-reload");
    site.holds_still(&http, &ping, Duration::from_millis(500));
    assert_eq!(site.node(0).main_process("nginx"), nginx);
    assert_eq!(http.lost_since(began), []);
    let seen = seen_after_a_kill(site.node(0));
    println!("after all that a death is seen after {seen:?}");
    assert!(seen < Duration::from_millis(100), "it was seen only after {seen:?}");
    site.wait_served(&http, 0);

    // And one that dies while systemd executes itself is started by the systemd that comes out of it.
    let died = Instant::now();
    site.node(0).must("kill -9 $(systemctl show --property=MainPID --value nginx); systemctl daemon-reexec");
    site.wait_served(&http, 0);
    println!("died beside a daemon-reexec: no page for {:?}", http.longest_outage(died));
}

#[test]
fn a_node_whose_unit_is_masked_says_so_and_the_next_one_takes_over() {
    let site = Site::serving(&Blueprint::web(3, 0));
    let http = site.http();
    site.wait_served(&http, 0);
    site.node(1).must("systemctl mask --quiet nginx");
    site.node(0).must("systemctl stop drcm_server");
    site.wait_served(&http, 2);
    let status = site.status(1);
    assert!(status.contains("masked") && status.contains("systemctl unmask nginx.service"), "{status}");
}

#[test]
fn a_service_that_crashes_again_and_again_moves() {
    let mut blueprint = Blueprint::web(2, 1);
    blueprint.sections = "[CM_SERVICES]\nweb, fragile, /etc/drcm/resources/service.sh\n".to_owned();
    let unit = "[Service]\nExecStart=/bin/sh -c 'while [ ! -e /crash ]; do sleep 0.05; done; sleep 0.1; exit 1'\n";
    blueprint.files.push(("/usr/lib/systemd/system/fragile.service".to_owned(), unit.to_owned()));
    let site = Site::serving(&blueprint);
    let runs = |node: usize| site.node(node).holds("systemctl is-active --quiet fragile");
    site.wait("fragile on node1", LONG, || runs(0));
    let began = Instant::now();
    site.node(0).must("touch /crash");
    site.wait("fragile on node2", LONG, || runs(1));
    println!("a crash loop moves after {:?}", began.elapsed());
    let log = site.node(0).log();
    let restarts = log.lines().filter(|line| line.contains("starting it again")).count();
    assert!(restarts >= 1 && log.contains("given up here"), "{restarts} restarts:\n{log}");
    // Nothing loops: it rests there.
    sleep(Duration::from_secs(1));
    assert!(runs(1) && !runs(0));
    let status = site.status(0);
    assert!(status.contains("it is down"), "{status}");
}

#[test]
fn a_unit_that_restarts_itself_is_left_alone_while_it_does() {
    let mut blueprint = Blueprint::web(2, 1);
    blueprint.sections = "[CM_SERVICES]\nweb, selfish@one, /etc/drcm/resources/service.sh\n".to_owned();
    let unit = "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=1500ms\n";
    blueprint.files.push(("/usr/lib/systemd/system/selfish@.service".to_owned(), unit.to_owned()));
    let site = Site::serving(&blueprint);
    let runs = |node: usize| site.node(node).holds("systemctl is-active --quiet selfish@one");
    site.wait("an instance of the template on node1", LONG, || runs(0));
    site.node(0).signal("selfish@one", Signal::SIGKILL);
    sleep(Duration::from_millis(700));
    assert!(!runs(0) && !runs(1), "systemd was to wait a while before it starts it again");
    site.wait("the instance, by systemd itself", LONG, || runs(0));
    assert!(!site.node(0).log().contains("starting it again"), "{}", site.node(0).log());
}

#[test]
fn a_service_that_will_not_stop_is_killed_before_its_time_is_over() {
    let mut blueprint = Blueprint::web(2, 1);
    blueprint.server.push_str("stop_timeout = 4\n");
    blueprint.sections = "[CM_SERVICES]\nweb, stubborn, /etc/drcm/resources/service.sh\n".to_owned();
    let unit = "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'\nTimeoutStopSec=90s\n";
    blueprint.files.push(("/usr/lib/systemd/system/stubborn.service".to_owned(), unit.to_owned()));
    let site = Site::serving(&blueprint);
    let runs = |node: usize| site.node(node).holds("systemctl is-active --quiet stubborn");
    site.wait("stubborn on node1", LONG, || runs(0));
    let began = Instant::now();
    site.node(0).must("systemctl stop drcm_server");
    let took = began.elapsed();
    assert!(!site.node(0).holds("systemctl show --property=ActiveState --value stubborn | grep -q activ.*ing"));
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(5), "the stop took {took:?}");
    assert!(site.node(0).log().contains("did not stop in 3.2s, and is killed now"), "{}", site.node(0).log());
    site.wait("stubborn on node2", LONG, || runs(1));
}
