//! nginx, by its own unit file, and its address.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::lab::{Blueprint, LONG, Shell as _, Site};

#[test]
fn a_web_server_moves_with_its_address_and_comes_home() {
    let mut site = Site::serving(&Blueprint::web(2, 1));
    let http = site.http();
    site.wait_served(&http, 0);

    // Stopped on purpose: the other has it as soon as nginx has stopped here and started there.
    let stopped = Instant::now();
    site.node(0).must("systemctl stop drcm_server");
    site.wait_served(&http, 1);
    let planned = http.longest_outage(stopped);
    assert!(!site.node(0).holds("systemctl is-active --quiet nginx"), "nginx was left running");
    assert!(planned < Duration::from_secs(2), "a planned move took {planned:?}");

    // It comes back, and its resources with it.
    site.node(0).must("systemctl start drcm_server");
    site.wait_served(&http, 0);

    // The power fails.
    let cut = Instant::now();
    site.node_mut(0).power_cut();
    site.wait_served(&http, 1);
    let failover = http.longest_outage(cut);
    assert!(failover < Duration::from_secs(3), "after a power cut it took {failover:?}");

    // The machine is switched on again: the daemon is enabled, so all goes home.
    site.power_on(0);
    site.wait("node1 to serve again", LONG * 2, || http.last_since(cut).is_some_and(|from| from == "node1.lab"));
    sleep(Duration::from_millis(200));
    println!("planned move: no page for {planned:?}; power cut: no page for {failover:?}");
}
