//! Lent votes by example: nodes that leave one by one, come back, crash or cannot hear each other, and what becomes of their
//! votes. Chance is the simulator's business.

#[path = "votes/world.rs"]
mod world;

use std::time::Duration;

use drcm::model::{Event, Message, Order, PassVote, VoteNews, VoteNumber, WantVote};
use world::{DISK, Fate, MS, TRIP, World, config, id};

/// All but the last leave, `gap` apart; the last has everything.
fn shut_down_one_by_one(nodes: usize, server: &str, gap: Duration) -> World {
    let mut world = World::started(nodes, server);
    let begun = world.now;
    let names: Vec<String> = ('a'..).take(nodes).map(String::from).collect();
    for name in &names[..nodes - 1] {
        world.leave(name);
        world.run(gap);
    }
    world.run(MS * 300);
    let last = &names[nodes - 1];
    assert_eq!(world.votes(last), names.concat());
    assert_eq!(world.seen(last), nodes);
    assert_eq!(world.owners(), [last.as_str()]);
    assert!(world.downtime(begun) <= TRIP * 4 * (nodes as u32 - 1) + MS * 20, "down for {:?}", world.downtime(begun));
    let before = world.now;
    world.run(MS * 60_000);
    assert_eq!(world.moves_since(before), 0, "and it stays there");
    world
}

#[test]
fn a_cluster_that_is_shut_down_one_by_one_runs_to_the_last() {
    for nodes in [3, 4, 5, 7] {
        for gap in [MS * 10_000, MS * 1600, MS * 40] {
            shut_down_one_by_one(nodes, "", gap);
        }
    }
    shut_down_one_by_one(2, "quorum = majority", MS * 100);
}

#[test]
fn nodes_told_to_leave_within_milliseconds_leave_their_votes_to_the_one_that_stays() {
    for gap in [Duration::ZERO, MS, MS * 3, MS * 7] {
        let mut world = World::started(4, "");
        for name in ["a", "b", "c"] {
            world.leave(name);
            world.run(gap);
        }
        let told = world.now;
        world.run(MS * 3000);
        assert!(world.left.values().all(|at| at.since(told) < MS * 100), "{:?} after {told:?}", world.left);
        assert_eq!(world.votes("d"), "abcd", "with {gap:?} between");
        assert_eq!(world.owners(), ["d"]);
    }
}

#[test]
fn when_all_leave_at_once_none_is_held_up_and_all_start_again() {
    let mut world = World::started(4, "");
    for name in ["a", "b", "c", "d"] {
        world.leave(name);
    }
    world.run(MS * 100);
    assert_eq!(world.left.len(), 4);
    world.start(&["a", "b", "c", "d"]);
    world.run(MS * 5000);
    assert_eq!(world.owners(), ["a"]);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(world.votes(name), name);
    }
}

#[test]
fn votes_go_home_one_by_one_and_at_once_and_nothing_stops() {
    for gap in [MS * 5000, MS * 30, Duration::ZERO] {
        let mut world = shut_down_one_by_one(4, "failback = manual", MS * 500);
        let before = world.now;
        for name in ["a", "b", "c"] {
            world.boot(id(name));
            world.run(gap);
        }
        world.run(MS * 500);
        for name in ["a", "b", "c", "d"] {
            assert_eq!(world.votes(name), name);
            assert_eq!(world.seen(name), 4);
        }
        assert_eq!(world.moves_since(before), 0);
        assert_eq!(world.owners(), ["d"]);
        // And again, the other way round.
        for name in ["d", "c", "b"] {
            world.leave(name);
            world.run(MS * 100);
        }
        assert_eq!(world.votes("a"), "abcd");
        assert_eq!(world.owners(), ["a"]);
    }
}

#[test]
fn a_node_that_returns_without_its_vote_needs_no_silence_to_run_what_is_its_own() {
    let mut world = shut_down_one_by_one(3, "failback_delay = 0", MS * 500);
    world.start(&["a"]);
    world.run(MS * 400);
    assert_eq!(world.owners(), ["a"], "the vote came home with all it had promised");
}

#[test]
fn a_vote_that_is_lent_does_not_count_at_home() {
    let mut world = shut_down_one_by_one(4, "", MS * 500);
    // a and b return, but cannot reach c's vote and d, who carries all: without their votes they are nothing.
    world.isolate(&["a", "b", "c"]);
    world.start(&["a", "b", "c"]);
    world.run(MS * 60_000);
    assert_eq!(world.owners(), ["d"]);
    assert_eq!((world.votes("a"), world.seen("a")), (String::new(), 0));
    assert!(world.news.iter().any(|(_, node, _, news)| *node == id("a") && matches!(news, VoteNews::Missed { with: Some(_) })));
    world.cut.clear();
    world.run(MS * 1000);
    assert_eq!((world.votes("a"), world.votes("d")), ("a".to_owned(), "d".to_owned()));
}

#[test]
fn halves_of_a_cluster_after_a_loan_do_not_both_own() {
    let mut world = World::started(4, "failback = manual");
    world.leave("a");
    world.run(MS * 100);
    assert_eq!(world.votes("b"), "ab");
    // b has two votes: with c it is a majority, and c and d are none.
    world.isolate(&["b", "c"]);
    world.run(MS * 20_000);
    assert_eq!(world.owners(), ["b"]);
    // a comes back among c and d.
    world.cut.clear();
    world.isolate(&["b"]);
    world.start(&["a"]);
    world.run(MS * 20_000);
    assert_eq!(world.owners(), Vec::<String>::new(), "two votes here and two there");
    world.cut.clear();
    world.run(MS * 5000);
    assert_eq!(world.owners().len(), 1);
    assert_eq!(world.votes("a"), "a");
}

#[test]
fn loans_survive_loss_repetition_and_disorder() {
    let fates: [fn(&Message, u64) -> Fate; 4] = [
        |message, number| if matches!(message, Message::PassVote(_)) && number % 3 > 0 { Fate::Lost } else { Fate::Arrives },
        |message, number| if matches!(message, Message::VoteTaken(_)) && number % 3 > 0 { Fate::Lost } else { Fate::Arrives },
        |message, _| if matches!(message, Message::PassVote(_) | Message::VoteTaken(_)) { Fate::Twice } else { Fate::Arrives },
        |message, number| if matches!(message, Message::PassVote(_)) && number % 2 > 0 { Fate::Late } else { Fate::Arrives },
    ];
    for fate in fates {
        let mut world = World::started(4, "failback = manual");
        world.fate = fate;
        for round in 0..3 {
            for name in ["a", "b", "c"] {
                world.leave(name);
                world.run(MS * 1600);
            }
            assert_eq!(world.votes("d"), "abcd", "round {round}");
            assert_eq!(world.owners(), ["d"]);
            world.start(&["a", "b", "c"]);
            world.run(MS * 3000);
            for name in ["a", "b", "c", "d"] {
                assert_eq!(world.votes(name), name);
            }
        }
    }
}

#[test]
fn a_borrower_that_crashes_before_it_has_accepted_costs_no_vote_for_ever() {
    let mut world = World::started(4, "");
    world.leave("d");
    world.run(TRIP);
    // d's next voter is a.
    world.crash("a");
    world.run(MS * 5000);
    assert!(world.left.contains_key(&id("d")), "it does not wait for ever");
    assert_eq!(world.owners(), Vec::<String>::new(), "b and c are two of four");
    world.start(&["a", "d"]);
    world.run(MS * 8000);
    assert_eq!(world.owners().len(), 1);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(world.votes(name), name);
    }
}

#[test]
fn a_borrower_that_crashes_after_it_has_accepted_has_it_still() {
    let mut world = World::started(5, "failback = manual");
    world.leave("b");
    world.run(MS * 100);
    assert_eq!(world.votes("c"), "bc");
    world.crash("c");
    world.run(MS * 200);
    world.start(&["c"]);
    world.run(MS * 500);
    assert_eq!((world.votes("c"), world.seen("c")), (String::new(), 5), "silent, but there");
    world.run(MS * 3000);
    assert_eq!(world.votes("c"), "bc");
    // With its notes it counts: a, and c with two.
    world.isolate(&["a", "c"]);
    world.run(MS * 5000);
    assert_eq!(world.owners(), ["a"]);
}

#[test]
fn a_vote_that_nobody_has_is_made_anew_only_when_all_say_so() {
    let mut world = World::started(4, "failback = manual");
    world.leave("a");
    world.run(MS * 100);
    assert_eq!(world.votes("b"), "ab");
    // b loses its disk.
    world.crash("b");
    world.loses_disk("b");
    world.start(&["a"]);
    world.run(MS * 30_000);
    assert_eq!(world.votes("a"), "", "b might come back with it");
    // One that cannot note its promise gives none.
    world.hung.insert(id("d"));
    world.start(&["b"]);
    world.run(MS * 20_000);
    assert_eq!(world.votes("a"), "", "d has not promised");
    world.hung.clear();
    world.crash("d");
    world.start(&["d"]);
    world.run(MS * 8000);
    assert_eq!(world.votes("a"), "a");
    assert!(world.news.iter().any(|(.., news)| *news == VoteNews::MadeAnew));
    // The promise of the others binds the lost one only: the new one can be lent.
    world.leave("a");
    world.run(MS * 100);
    assert_eq!(world.votes("b"), "ab");
    world.start(&["a"]);
    world.run(MS * 1000);
    assert_eq!(world.votes("a"), "a");
}

#[test]
fn a_promise_never_to_take_a_vote_is_kept() {
    let mut world = World::started(4, "");
    let says = |world: &mut World, from: &str, message: Message| {
        let boot = world.boots[&id(from)];
        world.feed(id("b"), Event::Received { from: id(from), boot, message });
        world.run(DISK * 2);
    };
    let (vote, below) = (id("c"), VoteNumber(1 << 32));
    for _ in 0..2 {
        says(&mut world, "c", Message::WantVote(WantVote { vote, below }));
    }
    // What was offered before that, and was under way for long.
    let offer = PassVote { vote, number: VoteNumber(5), silent_us: 0, first: 0, total: 0, grants: Vec::new() };
    says(&mut world, "d", Message::PassVote(offer.clone()));
    assert_eq!(world.votes("b"), "b");
    // Of the next epoch it may be taken: c has gone without it meanwhile.
    world.crash("c");
    says(&mut world, "d", Message::PassVote(PassVote { number: below, ..offer }));
    assert_eq!(world.votes("b"), "bc");
}

#[test]
fn a_home_that_lost_its_notes_learns_that_its_vote_is_lent() {
    let mut world = shut_down_one_by_one(3, "", MS * 500);
    world.loses_disk("a");
    world.start(&["a"]);
    world.run(MS * 4000);
    assert_eq!((world.votes("a"), world.votes("c")), ("a".to_owned(), "bc".to_owned()));
    // And lends it again, under a number that counts as new.
    world.leave("a");
    world.run(MS * 100);
    assert_eq!(world.votes("c"), "abc");
    // The same while the one that has it is down.
    world.crash("c");
    world.loses_disk("a");
    world.start(&["a"]);
    world.run(MS * 5000);
    world.start(&["c"]);
    world.run(MS * 6000);
    assert_eq!((world.votes("a"), world.votes("c")), ("a".to_owned(), "bc".to_owned()));
}

#[test]
fn a_vote_that_was_lent_twice_under_one_number_is_one_again_when_both_hear_of_it() {
    let mut world = World::started(3, "failback = manual");
    world.leave("a");
    world.run(MS * 500);
    assert_eq!(world.votes("b"), "ab");
    // Nobody is left that remembers: a has lost its notes, and c has heard nothing in this life.
    world.crash("b");
    world.crash("c");
    world.run(MS * 100);
    world.disks.remove(&id("a"));
    world.start(&["a", "c"]);
    world.run(MS * 5000);
    world.leave("a");
    world.run(MS * 500);
    assert_eq!(world.votes("c"), "ac");
    world.start(&["b"]);
    world.run(MS * 200);
    let holders = |world: &World| ["b", "c"].into_iter().filter(|node| world.holds(node, "a")).count();
    assert_eq!(holders(&world), 1);
    world.run(MS * 5000);
    assert_eq!(holders(&world), 1);
    assert_eq!(world.owners().len(), 1);
    world.start(&["a"]);
    world.run(MS * 5000);
    assert_eq!((world.votes("a"), world.votes("b"), world.votes("c")), ("a".to_owned(), "b".to_owned(), "c".to_owned()));
}

#[test]
fn what_was_passed_on_in_a_life_that_is_forgotten_is_not_taken_again() {
    let mut world = World::started(4, "failback = manual");
    world.leave("a");
    world.run(MS * 2);
    // a hears nothing of it and goes on to offer; b has the vote, and passes it on.
    world.cut.extend(["b", "c", "d"].map(|other| (id(other), id("a"))));
    while !world.holds("b", "a") {
        world.run(MS);
    }
    world.leave("b");
    while !world.holds("c", "a") {
        world.run(MS);
    }
    // Without its notes, and before it hears of c, b is offered the same again.
    world.crash("b");
    world.disks.remove(&id("b"));
    world.cut.insert((id("c"), id("b")));
    world.cut.insert((id("d"), id("b")));
    world.start(&["b"]);
    let offered = world.now;
    world.run(MS * 1000);
    assert!(world.left.get(&id("a")).is_none_or(|at| *at >= offered + MS * 200), "a still offered it");
    assert!(!world.holds("b", "a"), "it was here once, and went on");
    world.cut.clear();
    world.start(&["a"]);
    world.run(MS * 10_000);
    assert_eq!((world.votes("a"), world.votes("b"), world.votes("c")), ("a".to_owned(), "b".to_owned(), "c".to_owned()));
}

#[test]
fn a_hung_disk_does_not_hold_up_a_leave() {
    let mut world = World::started(4, "");
    world.hung.insert(id("a"));
    let told = world.now;
    world.leave("a");
    world.run(MS * 10_000);
    assert!(world.left[&id("a")].since(told) <= MS * 1520);
    assert_eq!(world.owners(), ["b"], "the group was handed over at once all the same");
    assert!(world.downtime(told) <= TRIP * 4);
    // Nor does that of a borrower.
    let mut world = World::started(4, "");
    world.hung.insert(id("b"));
    let told = world.now;
    world.leave("a");
    world.run(MS * 1000);
    assert_eq!((world.votes("b"), world.seen("b")), ("b".to_owned(), 3), "what is not on disk counts for nothing");
    world.run(MS * 9000);
    assert!(world.left[&id("a")].since(told) <= MS * 1520);
    world.hung.clear();
    world.start(&["a"]);
    world.run(MS * 10_000);
    assert_eq!(world.owners().len(), 1);
}

#[test]
fn under_the_rules_of_a_pair_nothing_is_lent() {
    let mut world = World::started(2, "");
    let told = world.now;
    world.leave("a");
    world.run(MS * 5000);
    assert_eq!(world.votes("b"), "b");
    assert_eq!(world.owners(), ["b"]);
    assert!(world.left[&id("a")].since(told) <= MS * 20 && world.disks.is_empty());
}

#[test]
fn former_voters_are_not_forgotten_while_one_that_was_taken_out_has_the_vote_of_another() {
    let mut world = World::started_with("abc", 4);
    world.leave("b");
    world.run(MS * 2000);
    assert_eq!(world.votes("c"), "bc");
    // Cut off, it has two of the three former votes.
    world.isolate(&["c"]);
    world.run(MS * 5000);
    assert_eq!(world.owners(), ["c"]);
    world.crash("a");
    for name in ["a", "b", "d"] {
        world.configure(name, "abd");
        world.start(&[name]);
    }
    world.run(MS * 60_000);
    assert_eq!(world.owners(), ["c"], "nobody can tell that it has stopped");
    // It is off for good, and only an operator can say so.
    world.crash("c");
    world.run(MS * 10_000);
    assert!(world.owners().is_empty());
    for name in ["a", "b", "d"] {
        assert!(world.nodes[&id(name)].view(world.now).awaited.contains(&id("c")));
        world.feed(id(name), Event::Order(Order::ConfirmVoters));
    }
    world.run(MS * 20_000);
    assert_eq!(world.owners(), ["a"]);
    assert_eq!(["a", "b", "d"].map(|name| world.votes(name)), ["a", "b", "d"]);
}

#[test]
fn a_node_that_is_taken_out_and_stopped_last_takes_no_vote_with_it() {
    for all in [3, 4] {
        let whole = String::from_iter(('a'..).take(all));
        let mut world = World::started_with(&whole, all + 1);
        let (rest, gone) = whole.split_at(all - 1);
        for name in rest.chars().map(String::from) {
            world.restart(&name, rest);
        }
        world.leave(gone);
        world.run(MS * 3000);
        assert_eq!(world.owners(), ["a"]);
        let at = |world: &World, names: &str| names.chars().map(|name| world.votes(&name.to_string())).collect::<Vec<_>>();
        let home = |names: &str| names.chars().map(String::from).collect::<Vec<_>>();
        assert_eq!(at(&world, rest), home(rest), "of {whole}");
        let lent =
            world.disks.iter().filter(|(node, notes)| **node != id(gone) && notes.iter().any(|note| !note.held && note.vote == **node));
        assert_eq!(lent.count(), 0, "of {whole}: {:?}", world.disks);
        // Another takes its place.
        let came = char::from(b'a' + u8::try_from(all).expect("few")).to_string();
        let next = format!("{rest}{came}");
        world.configure(&came, &next);
        world.start(&[&came]);
        for name in rest.chars().map(String::from) {
            world.restart(&name, &next);
        }
        world.run(MS * 10_000);
        assert_eq!(at(&world, &next), home(&next));
        assert_eq!(world.owners(), ["a"]);
    }
}

#[test]
fn a_new_cluster_waits_for_all_its_voters_or_for_an_operator_to_vouch_for_it() {
    let mut world = World::new(config(3, ""));
    world.nodes.clear();
    world.agenda.clear();
    world.start(&["a", "b"]);
    world.run(MS * 60_000);
    assert!(world.owners().is_empty(), "there may be older voters that nobody has heard");
    assert_eq!(world.nodes[&id("a")].view(world.now).unheard, [id("c")]);
    world.feed(id("b"), Event::Order(Order::ConfirmVoters));
    world.run(MS * 1_000);
    assert_eq!(world.owners().len(), 1, "one that knows is enough");
    world.run(MS * 20_000);
    assert_eq!(world.owners(), ["a"]);
    // Noted on disk: it need not be said again.
    world.crash("a");
    world.crash("b");
    world.start(&["a", "b"]);
    world.run(MS * 5_000);
    assert_eq!(world.owners(), ["a"]);
}
