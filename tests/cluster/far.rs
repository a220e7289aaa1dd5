//! Near nodes and far ones, each at its own pace.

use super::*;

/// Nodes a and b near each other, c far away with T = 10 s and a heartbeat each half second.
fn near_and_far() -> World {
    let text = "[CM_SERVER]\nkeep_alive_interval = 100\ndead_node_count = 15\nfailback = manual\n[CM_IPADDRS]\nvip, 10.0.0.100, 24, eth0, \n\
                [CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\nnode_floating_ip_addrs = vip\n\
                [CM_NODE]\nnodename = b\nhostname = b\nkeep_alive_ip = 10.0.0.2\nnode_backup_floating_ip_addrs = a:vip\n\
                [CM_NODE]\nnodename = c\nhostname = c\nkeep_alive_ip = 10.0.0.3\nnode_backup_floating_ip_addrs = a:vip\n\
                transport = tcp\nkeep_alive_interval = 500\ndead_node_count = 20\n";
    let mut world = World::new(parse_cfg("test.cfg", text).unwrap_or_else(|report| panic!("{report}")).config);
    // The voters may have granted far leases before: their silence covers those.
    world.run(10_100 * MS);
    assert_eq!(world.owner(), None);
    world.run(400 * MS);
    assert_eq!(world.owner().as_deref(), Some("a"));
    world
}

#[test]
fn near_nodes_take_over_at_their_own_pace_and_the_far_one_at_its_own() {
    let mut world = near_and_far();
    world.run(15_000 * MS);
    world.crash(id("a"));
    world.run(1_600 * MS);
    assert_eq!(world.owner().as_deref(), Some("b"), "between near nodes the near T counts");
    let mut world = near_and_far();
    world.run(15_000 * MS);
    world.crash(id("b"));
    world.run(15_000 * MS);
    assert_eq!(world.owner().as_deref(), Some("a"));
    world.crash(id("a"));
    world.run(20_000 * MS);
    assert_eq!(world.owner(), None, "one of three is no majority");
    let config = Arc::clone(&world.config);
    world.boot(id("b"), config);
    // Its silence, which covers the far T, and then it is the better candidate.
    world.run(11_000 * MS);
    assert_eq!(world.owner().as_deref(), Some("b"));
}

#[test]
fn a_lease_that_needs_a_far_vote_bears_a_stall_of_the_long_link() {
    let mut world = near_and_far();
    world.run(15_000 * MS);
    world.crash(id("b"));
    world.run(3_000 * MS);
    let since = world.now;
    world.split("a", "c");
    world.run(6_000 * MS);
    world.cut.clear();
    world.run(5_000 * MS);
    assert_eq!((world.owner().as_deref(), world.moves_since(since)), (Some("a"), 0));
}

#[test]
fn a_far_node_is_heard_and_spoken_to_at_its_own_pace() {
    let mut world = near_and_far();
    let heartbeats = |world: &mut World, from: &str, to: &str| {
        let (from, to, mut seen) = (id(from), id(to), 0);
        let mut last = None;
        for _ in 0..10_000 {
            world.run(MS);
            let newest = world.flying.iter().rev().find_map(|(_, sender, receiver, _, message)| match message {
                Message::Heartbeat(heartbeat) if *sender == from && *receiver == to => Some(heartbeat.tag),
                _ => None,
            });
            if newest.is_some() && newest != last {
                (last, seen) = (newest, seen + 1);
            }
        }
        seen
    };
    world.run(15_000 * MS);
    let seen = [("c", "a"), ("b", "c"), ("a", "c"), ("a", "b")].map(|(from, to)| heartbeats(&mut world, from, to));
    // In ten seconds. The owner renews its lease of 1.5 s with the far voter five times per lease, on its own beat.
    assert!((19..=22).contains(&seen[0]) && (19..=22).contains(&seen[1]), "{seen:?}");
    assert!((30..=36).contains(&seen[2]) && (95..=105).contains(&seen[3]), "{seen:?}");
}
