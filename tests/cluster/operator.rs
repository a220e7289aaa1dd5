//! What operators want, by example.

use drcm::model::{Command, Lasts, Outlook, Record, Stamp, Subject, Unacceptable, Wish, Wishes};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

impl World {
    /// An operator says something on a node; returns what is to be expected.
    fn says(&mut self, node: &str, command: Command) -> Vec<Outlook> {
        let draft = self.nodes[&id(node)].draft(command, self.now).unwrap();
        self.feed(id(node), Event::Wished(draft.records));
        draft.outlook
    }

    fn group(&self) -> GroupId {
        self.config.groups[0].id
    }

    fn moves(&mut self, said_on: &str, to: &str, for_seconds: Option<u64>) -> Vec<Outlook> {
        let command = Command::Move { group: self.group(), to: id(to), for_seconds };
        self.says(said_on, command)
    }

    fn knows(&self, node: &str) -> Vec<(Subject, Wish)> {
        self.nodes[&id(node)].view(self.now).wishes.iter().map(|wish| (wish.subject, wish.wish)).collect()
    }
}

#[test]
fn a_move_said_anywhere_is_a_hand_over_and_stays() {
    let mut world = started(4, "failback_delay = 1");
    let group = world.group();
    let outlook = world.moves("d", "c", None);
    assert_eq!(outlook, [Outlook::Moves { group, from: id("a"), to: id("c") }]);
    let said = world.now;
    while world.owner().as_deref() != Some("c") {
        world.run(TRIP / 4);
    }
    assert!(world.now.since(said) <= TRIP * 4, "one trip for the word, a stop, and a hand-over: {:?}", world.now.since(said));
    assert!(world.stops.iter().any(|(_, node, why)| *node == id("a") && *why == StopReason::Moved(id("c"))));
    let before = world.now;
    world.run(HOUR);
    assert_eq!(world.moves_since(before), 0, "it does not go home meanwhile");
    let outlook = world.says("b", Command::Unmove { group });
    assert_eq!(outlook, [Outlook::GoesHome { group, home: id("a") }]);
    world.run(MS * 1500);
    assert_eq!(world.owner().as_deref(), Some("a"));
    assert!(["a", "b", "c", "d"].iter().all(|node| world.knows(node).is_empty()));
}

#[test]
fn a_move_that_has_an_end_ends() {
    let mut world = started(3, "failback_delay = 1");
    world.moves("a", "b", Some(600));
    world.run(MS * 100);
    assert_eq!(world.owner().as_deref(), Some("b"));
    world.run(MS * 599_000);
    assert_eq!(world.owner().as_deref(), Some("b"));
    world.run(MS * 2500);
    assert_eq!(world.owner().as_deref(), Some("a"));
    let lapsed = world.decisions.iter().filter(|(.., decision)| matches!(decision, Decision::Lapsed(Subject::Place(_)))).count();
    assert_eq!(lapsed, 3, "each node says so once");
}

#[test]
fn a_group_goes_on_when_its_preferred_node_dies_and_comes_back_to_it() {
    let mut world = started(3, "failback_delay = 5");
    world.moves("a", "c", None);
    world.run(MS * 100);
    world.crash(id("c"));
    world.run(MS * 3000);
    assert_eq!(world.owner().as_deref(), Some("a"), "the preferred node is dead, home is next");
    world.boot(id("c"), world.config.clone());
    world.run(MS * (1530 + 4800));
    assert_eq!(world.owner().as_deref(), Some("a"), "it must have been well for the failback delay");
    world.run(MS * 400);
    assert_eq!(world.owner().as_deref(), Some("c"), "the restarted node learned of it from the others");
    let before = world.now;
    world.run(HOUR);
    assert_eq!(world.moves_since(before), 0);
}

#[test]
fn a_move_to_a_dead_node_waits_for_it() {
    let mut world = started(3, "failback_delay = 1");
    world.crash(id("b"));
    world.run(MS * 3000);
    let outlook = world.moves("c", "b", None);
    assert!(matches!(outlook[..], [Outlook::Waits { obstacle: drcm::model::Obstacle::Dead, .. }]), "{outlook:?}");
    world.run(MS * 60_000);
    assert_eq!(world.owner().as_deref(), Some("a"));
    world.boot(id("b"), world.config.clone());
    world.run(MS * 3000);
    assert_eq!(world.owner().as_deref(), Some("b"));
}

#[test]
fn a_failback_by_hand_is_done_once() {
    let mut world = started(3, "failback = manual");
    let group = world.group();
    world.crash(id("a"));
    world.run(MS * 5000);
    world.boot(id("a"), world.config.clone());
    world.run(MS * 60_000);
    assert_eq!(world.owner().as_deref(), Some("b"));
    world.says("c", Command::Failback { group });
    world.run(TRIP * 6);
    assert_eq!(world.owner().as_deref(), Some("a"));
    world.run(MS * 1000);
    assert!(["a", "b", "c"].iter().all(|node| world.knows(node).is_empty()), "it has come true and is no longer wanted");
    world.crash(id("a"));
    world.run(MS * 5000);
    world.boot(id("a"), world.config.clone());
    world.run(MS * 60_000);
    assert_eq!(world.owner().as_deref(), Some("b"), "the next time it is by hand again");
}

#[test]
fn standby_said_elsewhere_hands_over_and_survives_the_node() {
    let mut world = started(3, "failback_delay = 1");
    let group = world.group();
    let outlook = world.says("c", Command::Standby { node: id("a"), on: true });
    assert_eq!(outlook, [Outlook::Moves { group, from: id("a"), to: id("b") }]);
    world.run(TRIP * 4);
    assert_eq!(world.owner().as_deref(), Some("b"));
    assert!(world.nodes[&id("a")].view(world.now).quorate, "it still votes");
    // It has no disk, and is told when it comes back.
    world.crash(id("a"));
    world.run(MS * 5000);
    world.boot(id("a"), world.config.clone());
    world.run(MS * 60_000);
    assert_eq!(world.owner().as_deref(), Some("b"));
    assert!(world.nodes[&id("a")].view(world.now).standby);
    assert_eq!(world.says("b", Command::Standby { node: id("a"), on: false }), []);
    world.run(MS * 3000);
    assert_eq!(world.owner().as_deref(), Some("a"));
}

#[test]
fn a_cut_node_learns_within_a_heartbeat_of_its_return() {
    let mut world = started(3, "");
    world.split("c", "a");
    world.split("c", "b");
    world.run(MS * 3000);
    world.says("a", Command::Maintenance { on: true });
    world.run(MS * 3000);
    assert_eq!(world.knows("c"), []);
    world.cut.clear();
    world.run(MS * 101);
    assert_eq!(world.knows("c"), [(Subject::Maintenance, Wish::On)]);
    assert_eq!(world.hands_off.get(&id("c")), Some(&true));
}

#[test]
fn the_later_word_counts_when_a_split_heals() {
    let mut world = started(3, "");
    world.says("a", Command::Standby { node: id("b"), on: true });
    world.run(MS * 100);
    world.split("c", "a");
    world.split("c", "b");
    world.run(MS * 100);
    world.says("c", Command::Standby { node: id("b"), on: false });
    world.says("c", Command::Standby { node: id("b"), on: true });
    world.says("c", Command::Standby { node: id("b"), on: false });
    world.says("a", Command::Standby { node: id("b"), on: false });
    world.says("a", Command::Standby { node: id("b"), on: true });
    world.cut.clear();
    world.run(MS * 200);
    assert!(["a", "b", "c"].iter().all(|node| world.knows(node).is_empty()), "c said more");
}

#[test]
fn in_maintenance_nothing_is_touched_and_afterwards_nothing_moves_needlessly() {
    let mut world = started(3, "failback_delay = 1");
    let group = world.group();
    world.says("b", Command::Maintenance { on: true });
    world.run(MS * 100);
    assert!(["a", "b", "c"].iter().all(|node| world.hands_off.get(&id(node)) == Some(&true)));
    let before = world.now;
    // A link goes, a move and a standby are said: all of it is noted.
    world.feed(id("a"), Event::Fitness { group, able: false });
    world.run(MS * 10_000);
    world.feed(id("a"), Event::Fitness { group, able: true });
    assert!(world.moves("c", "b", None).contains(&Outlook::AfterMaintenance));
    world.says("c", Command::Standby { node: id("c"), on: true });
    world.run(MS * 60_000);
    world.says("a", Command::Unmove { group });
    world.run(MS * 60_000);
    assert_eq!(world.moves_since(before), 0);
    assert!(world.kept_until[&id("a")] > world.now, "its lease is renewed");
    world.says("c", Command::Maintenance { on: false });
    world.run(MS * 60_000);
    assert_eq!(world.moves_since(before), 0, "all is as it should be");
}

#[test]
fn what_was_noted_in_maintenance_is_done_at_its_end() {
    let mut world = started(3, "failback_delay = 1");
    world.says("b", Command::Maintenance { on: true });
    world.run(MS * 100);
    world.moves("c", "b", None);
    world.run(MS * 1000);
    assert_eq!(world.owner().as_deref(), Some("a"));
    world.says("c", Command::Maintenance { on: false });
    world.run(TRIP * 5);
    assert_eq!(world.owner().as_deref(), Some("b"));
    // A link that went meanwhile, too.
    let group = world.group();
    world.says("b", Command::Maintenance { on: true });
    world.run(MS * 100);
    world.feed(id("b"), Event::Fitness { group, able: false });
    world.run(MS * 1000);
    assert_eq!(world.owner().as_deref(), Some("b"));
    world.says("b", Command::Maintenance { on: false });
    world.run(TRIP * 5);
    assert_eq!(world.owner().as_deref(), Some("a"));
}

#[test]
fn who_loses_its_lease_in_maintenance_stops_and_nobody_starts() {
    let mut world = started(3, "failback_delay = 1");
    world.says("b", Command::Maintenance { on: true });
    world.run(MS * 100);
    world.split("a", "b");
    world.split("a", "c");
    let before = world.now;
    world.run(MS * 60_000);
    assert_eq!(world.owner(), None);
    assert!(world.stops.iter().filter(|(at, ..)| *at > before).all(|(_, _, why)| *why == StopReason::LeaseLost));
    world.cut.clear();
    world.run(MS * 60_000);
    assert_eq!(world.owner(), None, "not even when it could");
    world.says("c", Command::Maintenance { on: false });
    world.run(MS * 1000);
    assert_eq!(world.owner().as_deref(), Some("a"), "home, not who heard of the end first");
    assert_eq!(world.starts.iter().filter(|(at, _)| *at > before).count(), 1);
}

#[test]
fn a_cleanup_reaches_the_node_where_it_failed() {
    let mut world = World::new(config(3, ""));
    world.broken.extend([id("a"), id("b"), id("c")]);
    world.run(MS * 60_000);
    assert_eq!(world.owner(), None);
    world.broken.clear();
    let group = world.group();
    let outlook = world.says("a", Command::Cleanup { group: Some(group), node: Some(id("c")) });
    assert_eq!(outlook, [Outlook::Retried { group, on: id("c") }]);
    world.run(MS * 1000);
    assert_eq!(world.owner().as_deref(), Some("c"));
    assert_eq!(world.says("b", Command::Cleanup { group: None, node: None }).len(), 2, "where it failed besides");
    world.run(MS * 60_000);
    assert_eq!(world.owner().as_deref(), Some("a"));
}

#[test]
fn what_makes_no_sense_is_not_accepted() {
    let world = started(3, "");
    let refused = |command| world.nodes[&id("a")].draft(command, world.now).unwrap_err();
    let group = world.group();
    assert_eq!(refused(Command::Standby { node: id("z"), on: true }), Unacceptable::UnknownNode);
    assert_eq!(refused(Command::Unmove { group: GroupId(7) }), Unacceptable::UnknownGroup);
    assert_eq!(refused(Command::Move { group, to: id("b"), for_seconds: Some(0) }), Unacceptable::BadSpan { max_days: 365 });
    let idle = world.nodes[&id("a")].draft(Command::Maintenance { on: false }, world.now).unwrap();
    assert!(idle.records.is_empty() && idle.outlook == [Outlook::Nothing]);
}

#[test]
fn a_restart_remembers_and_a_peer_gone_astray_wedges_nothing() {
    let mut world = started(3, "");
    let record =
        |counter| Record { subject: Subject::Maintenance, stamp: Stamp { counter, author: id("b") }, wish: Wish::On, lasts: Lasts::Always };
    for counter in [u64::MAX, 1 << 62, 1 << 40] {
        let message = Message::Wishes(Wishes { records: vec![record(counter)] });
        let boot = BootId(id("b").0 ^ world.boots[&id("b")]);
        world.feed(id("a"), Event::Received { from: id("b"), boot, message });
    }
    assert_eq!(world.knows("a"), []);
    world.says("a", Command::Maintenance { on: true });
    world.run(MS * 100);
    assert_eq!(world.knows("b"), [(Subject::Maintenance, Wish::On)]);
    // All nodes restart at once, with what is on their disks.
    let kept: Vec<(NodeId, Vec<Record>)> = world.nodes.iter().map(|(node, core)| (*node, core.wishes(world.now))).collect();
    for (node, records) in kept {
        world.crash(node);
        let mut core = Node::new(world.config.clone(), node, BootId(node.0 ^ 9), Start::default(), world.now);
        core.recall(&records, world.now);
        world.boots.insert(node, 9);
        world.nodes.insert(node, core);
        world.feed(node, Event::Timer);
    }
    world.run(MS * 60_000);
    assert_eq!(world.owner(), None, "maintenance: nothing is started");
    assert!(world.hands_off.values().all(|off| *off));
    world.says("c", Command::Maintenance { on: false });
    world.run(MS * 1000);
    assert_eq!(world.owner().as_deref(), Some("a"));
}
