//! Changes of the voters by rolling restarts, each at its most dangerous: newcomers first, the old ones cut off meanwhile,
//! one or several voters at a time.

use std::time::Duration;

use drcm::model::{Kind, Quorum, ResourceId, Takeover};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    clock::{Instant, MILLISECOND, SECOND},
    membership::Membership,
    network::Disturbance,
    setup::{Plain, Plan, Setup, Timing},
    world::World,
};

/// T.
const LEASE: Instant = 1_500 * MILLISECOND;

/// Nodes 0 to `count`: the first so many are listed and vote, before and after. One address, at home on the first node,
/// which every other node that is listed backs up.
fn changing(count: usize, before: &[usize], after: &[usize]) -> World {
    changing_under(Quorum::Majority, count, before, after)
}

fn changing_under(quorum: Quorum, count: usize, before: &[usize], after: &[usize]) -> World {
    let membership =
        |voters: &[usize]| Membership { listed: (0..count).map(|node| voters.contains(&node)).collect(), voters: voters.to_vec() };
    changing_members(quorum, (before, membership(before)), (after, membership(after)))
}

/// The candidates, and the nodes and voters, before and after.
fn changing_members(quorum: Quorum, before: (&[usize], Membership), after: (&[usize], Membership)) -> World {
    let (candidates, memberships) = (vec![before.0.to_vec(), after.0.to_vec()], vec![before.1, after.1]);
    let before = before.0;
    let address = ResourceId { kind: Kind::Address, nickname: "address".to_owned() };
    let plan = Plan { resource: address, candidates };
    let plain = Plain {
        seed: 1,
        timings: vec![Timing { interval: Duration::from_millis(100), count: 15 }],
        plans: vec![plan],
        memberships,
        takeover: Takeover::Prompt,
        failback_delay: Duration::from_secs(1),
        quorum,
        length: 600 * SECOND,
    };
    let mut world = World::by_hand(Setup::plain(plain, &mut ChaCha8Rng::seed_from_u64(1)));
    before.iter().for_each(|node| world.start_daemon(*node));
    pass(&mut world, 4 * LEASE);
    assert_eq!(world.checker.owner(0), Some(0));
    world
}

fn pass(world: &mut World, time: Instant) {
    world.run_until(world.now + time);
    assert_eq!(world.failure, None, "{}", world.tail());
}

/// A node is started again with the new configuration.
fn change(world: &mut World, node: usize) {
    if world.runs(node) {
        world.leave(node);
        pass(world, 100 * MILLISECOND);
        if world.hosts[node].core.is_some() {
            world.end_daemon(node);
        }
    }
    world.hosts[node].next_layout = 1;
    world.start_daemon(node);
}

fn is_up(world: &World) -> bool {
    world.checker.active(0).count() > 0
}

/// Changes node after node and gives how long the address was down at most.
fn roll(world: &mut World, order: &[usize]) -> Instant {
    let mut longest = 0;
    for node in order {
        change(world, *node);
        let end = world.now + 3 * LEASE;
        let mut down_since = world.now;
        while world.now < end {
            pass(world, MILLISECOND);
            if is_up(world) {
                down_since = world.now;
            }
            longest = longest.max(world.now - down_since);
        }
    }
    longest
}

#[test]
fn simulation_of_three_voters_that_become_five_while_the_old_ones_are_cut_off() {
    let mut world = changing(5, &[0, 1, 2], &[0, 1, 2, 3, 4]);
    let sides = [0, 1].into_iter().flat_map(|old| [2, 3, 4].map(|new| (old, new)));
    world.network.disturb(1, Disturbance::Block(sides.flat_map(|(old, new)| [(old, new), (new, old)]).collect()));
    // The old voters that remain are a majority of three; the changed one and the new ones would be one of five.
    [3, 4, 2].into_iter().for_each(|node| change(&mut world, node));
    pass(&mut world, 20 * LEASE);
    assert_eq!(world.checker.owner(0), Some(0), "a majority of the old voters keeps what it has");
    world.network.heal(1);
    pass(&mut world, 4 * LEASE);
    assert_eq!(world.checker.owner(0), Some(0));
    [1, 0].into_iter().for_each(|node| {
        change(&mut world, node);
        pass(&mut world, 4 * LEASE);
    });
    assert!(is_up(&world), "with all nodes changed it runs");
    let view = world.hosts[0].core.as_ref().map(|core| core.view(world.hosts[0].clock.local(world.now)));
    let view = view.expect("it lives");
    assert!(view.quorate && view.uncounted.is_empty() && view.unheard.is_empty(), "{view:?}");
}

#[test]
fn simulation_of_newcomers_that_are_a_majority_by_themselves() {
    for before in [&[0][..], &[0, 1], &[0, 1, 2]] {
        let after: Vec<usize> = (0..2 * before.len() + 1).collect();
        let mut world = if before.len() == 1 {
            // A group of one candidate is never leased: the second one does not vote.
            let mut world = changing(3, &[0, 1], &[0, 1, 2]);
            world.end_daemon(1);
            pass(&mut world, 4 * LEASE);
            world
        } else {
            changing(after.len(), before, &after)
        };
        // They hear nothing from the old ones, which do not know them yet.
        let newcomers: Vec<usize> = after.iter().copied().filter(|node| !before.contains(node)).collect();
        newcomers.iter().for_each(|node| change(&mut world, *node));
        pass(&mut world, 10 * LEASE);
        for node in &newcomers {
            assert!(!world.checker.active(0).contains(*node));
        }
        before.iter().for_each(|node| {
            change(&mut world, *node);
            pass(&mut world, 4 * LEASE);
        });
        assert!(is_up(&world), "from {before:?} to {after:?}");
    }
}

/// One voter at a time. Who comes is started first, who goes is stopped last, and the others are restarted one after another
/// in between: nothing is down but for the restart of its owner. In any other order an even number of voters may lack one
/// for a while: safe, and well in the end.
#[test]
fn simulation_of_one_voter_more_or_less_interrupts_nothing() {
    let all = |count: usize| (0..count).collect::<Vec<usize>>();
    let restart = 30 * MILLISECOND;
    for count in 2..6 {
        let (few, many) = (all(count), all(count + 1));
        let others: Vec<usize> = (0..count).rev().collect();
        let mut world = changing(count + 1, &few, &many);
        let order: Vec<usize> = [count].into_iter().chain(others.iter().copied()).collect();
        let down = roll(&mut world, &order);
        // Two voters have no majority while one of them is restarted.
        assert!(down <= restart || count == 2, "{few:?} to {many:?}: down for {down} ns");

        let mut world = changing(count + 1, &many, &few);
        let down = roll(&mut world, &others);
        world.leave(count);
        pass(&mut world, 4 * LEASE);
        assert!((down <= restart || count == 2) && is_up(&world), "{many:?} to {few:?}: down for {down} ns");

        let mut world = changing(count + 1, &few, &many);
        let order: Vec<usize> = others.iter().copied().chain([count]).collect();
        roll(&mut world, &order);
        assert!(is_up(&world), "{few:?} to {many:?}");

        let mut world = changing(count + 1, &many, &few);
        world.leave(count);
        pass(&mut world, 4 * LEASE);
        roll(&mut world, &others);
        assert!(is_up(&world), "{many:?} to {few:?}");
    }
}

/// A pair gets a witness, or gives it up, each node restarted once in any order: at no time do two own the address, although one
/// of a pair acts alone.
#[test]
fn simulation_of_a_pair_that_gets_a_third_voter_or_gives_it_up() {
    for order in [[2, 0, 1], [2, 1, 0], [0, 2, 1], [1, 2, 0], [0, 1, 2], [1, 0, 2]] {
        let mut world = changing_under(Quorum::Auto, 3, &[0, 1], &[0, 1, 2]);
        let down = roll(&mut world, &order);
        pass(&mut world, 4 * LEASE);
        assert!(is_up(&world) && down < 3 * LEASE, "{order:?}: down for {down} ns");
        // The rules are those of three now: who is alone stops.
        world.end_daemon(0);
        world.end_daemon(1);
        pass(&mut world, 10 * LEASE);
        assert!(!is_up(&world), "{order:?}");

        let mut world = changing_under(Quorum::Auto, 3, &[0, 1, 2], &[0, 1]);
        let kept: Vec<usize> = order.into_iter().filter(|node| *node != 2).collect();
        let down = roll(&mut world, &kept);
        world.leave(2);
        pass(&mut world, 4 * LEASE);
        assert!(is_up(&world) && down < 3 * LEASE, "{order:?}: down for {down} ns");
        // The rules are those of a pair.
        world.end_daemon(0);
        pass(&mut world, 4 * LEASE);
        assert_eq!(world.checker.owner(0), Some(1), "{order:?}");
    }
}

/// One of three that is to be one of a pair must not act alone while the other two are a majority of three.
#[test]
fn simulation_of_one_of_a_pair_to_be_cut_off_from_the_majority_of_three() {
    let mut world = changing_under(Quorum::Auto, 3, &[0, 1, 2], &[0, 1]);
    change(&mut world, 1);
    // It has the vote back that it lent while it was away.
    pass(&mut world, 2 * LEASE);
    let sides = [(1, 0), (0, 1), (1, 2), (2, 1)];
    world.network.disturb(1, Disturbance::Block(sides.into_iter().collect()));
    pass(&mut world, 20 * LEASE);
    // The first node does not know that the other waits for it as well; the third has never heard of a pair.
    assert!(matches!(world.checker.owner(0), Some(0 | 2)), "{:?}", world.checker.owner(0));
    world.network.heal(1);
    pass(&mut world, 4 * LEASE);
    change(&mut world, 0);
    pass(&mut world, 4 * LEASE);
    assert!(is_up(&world));
}

/// One of three voters is to be the only one while another, which it does not know any more, is an owner with a vote that was
/// lent to it. A process that takes the place of the one that waits waits as well: it knows whom the lender counts, and must
/// hear from itself where its vote is.
#[test]
fn simulation_of_a_lent_vote_that_a_next_process_does_not_know_of() {
    let before = Membership { listed: vec![true; 3], voters: vec![0, 1, 2] };
    let after = Membership { listed: vec![true, true, false], voters: vec![0] };
    let mut world = changing_members(Quorum::Majority, (&[0, 1, 2], before), (&[0, 1], after));
    world.end_daemon(0);
    pass(&mut world, 4 * LEASE);
    change(&mut world, 1);
    change(&mut world, 0);
    pass(&mut world, 10 * LEASE);
    assert_eq!(world.checker.owner(0), Some(2), "it has the vote of the second one");
    world.writes_ledger(0);
    world.end_daemon(0);
    world.start_daemon(0);
    pass(&mut world, 10 * LEASE);
    assert_eq!(world.checker.owner(0), Some(2));
}
