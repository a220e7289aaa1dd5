//! What a large cluster costs its nodes, and that its take-overs are no slower: five voters, up to 200 nodes.

use std::time::Duration;

use drcm::model::{Event, Order};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    clock::{MILLISECOND, SECOND, span},
    setup::{Setup, Timing},
    stats::Load,
    world::{Sabotage, Trace, World},
};

/// h = 100 ms, T = 1.5 s.
const TIMING: Timing = Timing { interval: Duration::from_millis(100), count: 15 };
/// Sizes that are compared.
const SIZES: [usize; 4] = [10, 50, 100, 200];
/// When a cluster has come to rest.
const SETTLED: u64 = 6;
/// How long traffic is counted.
const COUNTED: u64 = 4;

/// A cluster at rest that runs its groups.
fn settled(setup: Setup) -> World {
    let mut world = World::of(setup, Sabotage::None, Trace::Off);
    world.run_until(SETTLED * SECOND);
    assert_eq!(world.failure, None, "{}", world.setup.describe());
    world
}

fn setup(count: usize, seed: u64) -> Setup {
    Setup::large(seed, count, vec![TIMING], 30 * SECOND, &mut ChaCha8Rng::seed_from_u64(seed))
}

/// Clusters, each with a group of addresses that none but nodes without a vote may run.
fn without_voters(count: usize, wanted: usize) -> impl Iterator<Item = (Setup, usize)> {
    (1..)
        .map(move |seed| setup(count, seed))
        .filter_map(|setup| {
            let group = setup.groups.iter().position(|group| {
                group.leased && group.addresses && group.candidates[0].iter().all(|node| *node >= setup.memberships[0].voters.len())
            })?;
            Some((setup, group))
        })
        .take(wanted)
}

/// Datagrams and bytes each second, sent and received together: the mean of some nodes.
fn per_second(loads: &[Load], before: &[Load]) -> (f64, f64) {
    let per = (COUNTED * loads.len() as u64) as f64;
    let sum = |what: fn(&Load) -> u64| loads.iter().map(what).sum::<u64>() - before.iter().map(what).sum::<u64>();
    (sum(|load| load.sent + load.received) as f64 / per, sum(|load| load.sent_bytes + load.received_bytes) as f64 / per)
}

#[test]
fn the_traffic_of_a_node_that_is_no_voter_does_not_grow_with_the_cluster() {
    println!("nodes  no voter: datagrams/s  bytes/s   voter: datagrams/s  bytes/s");
    let mut others: Vec<(f64, f64)> = Vec::new();
    for count in SIZES {
        let mut world = settled(setup(count, 1));
        let voters = world.setup.memberships[0].voters.len();
        let before = world.load.clone();
        world.run_until((SETTLED + COUNTED) * SECOND);
        assert_eq!(world.failure, None, "{}", world.setup.describe());
        let voter = per_second(&world.load[..voters], &before[..voters]);
        let other = per_second(&world.load[voters..], &before[voters..]);
        println!("{count:5} {:23.0} {:8.0} {:20.0} {:8.0}", other.0, other.1, voter.0, voter.1);
        others.push(other);
    }
    let (_, first) = others[0];
    assert!(others.iter().all(|(_, bytes)| *bytes < first * 1.1), "{others:?}");
}

/// How long an address is down when its owner, no voter, loses power: with 100 nodes as with 10.
#[test]
fn simulation_of_a_large_cluster_takes_over_as_fast_as_a_small_one() {
    for count in [10, 100] {
        let mut outages = Vec::new();
        for (setup, group) in without_voters(count, 3) {
            let mut world = settled(setup);
            let owner = world.checker.owner(group).expect("it runs");
            let began = world.now;
            world.end_daemon(owner);
            world.loses_power(owner);
            let lease = span(TIMING.lease());
            while world.checker.owner(group).is_none() && world.now < began + 3 * lease {
                world.run_until(world.now + MILLISECOND);
            }
            assert_eq!(world.failure, None, "{}", world.setup.describe());
            outages.push((world.now - began) / MILLISECOND);
        }
        println!("{count} nodes: down for {outages:?} ms");
        let limit = span(TIMING.lease()) / MILLISECOND + 30;
        assert!(outages.iter().all(|outage| *outage <= limit), "{outages:?}");
    }
}

/// A hand-over between two nodes that do not hear each other takes one trip more than one between voters.
#[test]
fn a_node_hands_over_through_the_voters_without_waiting_for_a_heartbeat() {
    for (setup, group) in without_voters(100, 3) {
        let mut world = settled(setup);
        let owner = world.checker.owner(group).expect("it runs");
        let began = world.now;
        world.tell(owner, Event::Order(Order::Standby(true)));
        while world.checker.owner(group).is_none_or(|now| now == owner) && world.now < began + SECOND {
            world.run_until(world.now + MILLISECOND / 10);
        }
        assert_eq!(world.failure, None, "{}", world.setup.describe());
        let took = world.now - began;
        println!("handed over within {} us, the longest trip takes {} us", took / 1_000, world.network.longest_trip() / 1_000);
        assert!(took <= 5 * world.network.longest_trip() + 3 * MILLISECOND, "{took} ns: {}", world.setup.describe());
    }
}
