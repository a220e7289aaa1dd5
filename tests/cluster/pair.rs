//! The rules of a pair, and of clusters that are told to need no majority.

use super::*;

#[test]
fn a_pair_carries_on_alone_when_the_checks_are_clear() {
    let mut world = started(2, "");
    world.crash(id("a"));
    world.run(MS * 1520);
    assert_eq!(world.owner().as_deref(), Some("b"));
    assert!(world.decisions.iter().any(|(.., decision)| *decision == Decision::CarriesOnAlone));
    let mut world = started(2, "");
    world.clear = false;
    world.crash(id("a"));
    world.run(MS * 60_000);
    assert_eq!(world.owner(), None);
}

#[test]
fn the_owner_in_a_pair_does_not_feel_the_death_of_its_backup() {
    let mut world = started(2, "");
    world.crash(id("b"));
    let died = world.now;
    world.run(MS * 60_000);
    assert_eq!(world.moves_since(died), 0);
    assert!(world.decisions.iter().any(|(.., decision)| *decision == Decision::KeepsAlone));
    assert!(world.nodes[&id("a")].view(world.now).alone);
    // And with it back, a majority counts again.
    world.boot(id("b"), world.config.clone());
    world.run(MS * 10_000);
    assert_eq!(world.moves_since(died), 1, "only the clean slate of the one that came back");
    assert!(!world.nodes[&id("a")].view(world.now).alone);
}

#[test]
fn the_owner_in_a_pair_whose_link_is_dead_lets_go() {
    let mut world = started(2, "");
    world.clear = false;
    world.split("a", "b");
    world.run(MS * 1500);
    assert_eq!(world.owner(), None);
    assert!(world.stops.iter().any(|(_, node, why)| *node == id("a") && *why == StopReason::LeaseLost));
}

#[test]
fn the_owner_in_a_pair_keeps_what_it_has_and_takes_nothing_before_all_checks() {
    let text = "[CM_SERVER]\nkeep_alive_interval = 100\ndead_node_count = 15\n[CM_IPADDRS]\nvip, 10.0.0.100, 24, eth0, \nvip2, 10.0.0.101, 24, eth0, \n\
                [CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\nnode_floating_ip_addrs = vip\n\
                node_backup_floating_ip_addrs = b:vip2\n\
                [CM_NODE]\nnodename = b\nhostname = b\nkeep_alive_ip = 10.0.0.2\nnode_floating_ip_addrs = vip2\n\
                node_backup_floating_ip_addrs = a:vip\n";
    let mut world = World::new(parse_cfg("test.cfg", text).unwrap_or_else(|report| panic!("{report}")).config);
    // Each home has its own.
    world.run(MS * 8000);
    assert_eq!((world.running[&id("a")].len(), world.running[&id("b")].len()), (1, 1));
    world.clear = false;
    world.link_is_fine = true;
    world.crash(id("b"));
    world.run(MS * 60_000);
    assert_eq!(world.running[&id("a")].len(), 1, "the address of the other was found in use");
    world.clear = true;
    world.run(MS * 2_000);
    assert_eq!(world.running[&id("a")].len(), 2);
    assert!(world.stops.iter().all(|(_, _, why)| *why == StopReason::CleanSlate), "and its own it never let go");
}

#[test]
fn what_a_pair_keeps_after_a_short_silence_needs_both_again_at_once() {
    let mut world = started(2, "");
    let before = world.now;
    for _ in 0..20 {
        world.split("a", "b");
        world.run(MS * 900);
        world.cut.clear();
        world.run(MS * 250);
        assert!(!world.nodes[&id("a")].view(world.now).alone);
    }
    assert_eq!(world.moves_since(before), 0);
    assert!(world.decisions.iter().all(|(.., decision)| *decision != Decision::CarriesOnAlone));
    // The last of these silences is over: a lease rests on both votes, and ends without the other's.
    world.clear = false;
    world.split("a", "b");
    world.run(MS * 1500);
    assert_eq!(world.owner(), None);
}

#[test]
fn one_node_of_a_pair_starts_without_the_other() {
    let config = config(2, "");
    let mut world = World::new(config);
    world.crash(id("a"));
    world.run(MS * 4000);
    assert_eq!(world.owner().as_deref(), Some("b"));
}

#[test]
fn a_pair_that_must_have_a_majority_does_not_run_alone() {
    let mut world = started(2, "quorum = majority");
    world.crash(id("a"));
    world.run(MS * 60_000);
    assert_eq!(world.owner(), None);
}

#[test]
fn a_clean_leave_of_a_pair_needs_no_checks() {
    let mut world = started(2, "");
    world.clear = false;
    world.feed(id("a"), Event::Order(Order::Leave));
    world.run(MS * 10);
    assert_eq!(world.owner().as_deref(), Some("b"));
}

#[test]
fn after_a_split_of_a_pair_the_earlier_candidate_keeps_it() {
    let mut world = started(2, "failback = manual");
    world.split("a", "b");
    world.run(MS * 5000);
    assert_eq!(world.owners().len(), 2, "each is alone by its own lights");
    let healed = world.now;
    world.cut.clear();
    world.run(MS * 1000);
    assert_eq!(world.owner().as_deref(), Some("a"));
    assert!(world.stops.iter().all(|(at, node, _)| *at < healed || *node == id("b")), "a was never stopped");
    let before = world.now;
    world.run(MS * 60_000);
    assert_eq!(world.moves_since(before), 0);
    assert!(!world.nodes[&id("a")].view(world.now).alone);
}

#[test]
fn without_quorum_a_part_of_a_larger_cluster_carries_on() {
    let mut world = started(4, "quorum = none");
    for node in ["b", "c", "d"] {
        world.crash(id(node));
    }
    world.run(MS * 60_000);
    assert_eq!(world.owner().as_deref(), Some("a"));
}
