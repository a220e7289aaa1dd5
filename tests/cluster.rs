//! The ownership core by example: a few nodes on a perfect network in virtual time, one rule of the protocol per test. What
//! happens on an imperfect network is the simulator's business.

#[path = "cluster/far.rs"]
mod far;
#[path = "cluster/operator.rs"]
mod operator;
#[path = "cluster/pair.rs"]
mod pair;
#[path = "cluster/reload.rs"]
mod reload;
#[path = "cluster/replaced.rs"]
mod replaced;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use drcm::{
    cluster::{Node, Phase, Start},
    config::parse_cfg,
    model::{
        Ack, Action, BootId, Checks, Config, Decision, Electorate, Event, Generation, GroupId, Heartbeat, Message, NodeId, NodeState,
        Order, Outcome, Output, Refusal, RefusalReason, StopReason, Tag, Time, Version,
    },
};

const MS: Duration = Duration::from_millis(1);
const TRIP: Duration = Duration::from_micros(200);

/// Nodes a, b, c ... of which a is home of one address that all others back up, in order.
fn config(nodes: usize, server: &str) -> Arc<Config> {
    let mut text =
        format!("[CM_SERVER]\nkeep_alive_interval = 100\ndead_node_count = 15\n{server}\n[CM_IPADDRS]\nvip, 10.0.0.100, 24, eth0, \n");
    for (number, name) in ('a'..).take(nodes).enumerate() {
        let list = if number == 0 { "node_floating_ip_addrs = vip" } else { "node_backup_floating_ip_addrs = a:vip" };
        text += &format!("[CM_NODE]\nnodename = {name}\nhostname = {name}\nkeep_alive_ip = 10.0.0.{}\n{list}\n", number + 1);
    }
    parse_cfg("test.cfg", &text).unwrap_or_else(|report| panic!("{report}")).config
}

struct World {
    now: Time,
    config: Arc<Config>,
    nodes: BTreeMap<NodeId, Node>,
    boots: BTreeMap<NodeId, u64>,
    /// In flight: arrival, from, to, message.
    flying: VecDeque<(Time, NodeId, NodeId, BootId, Message)>,
    /// Pairs that do not hear each other.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Nodes where starting fails.
    broken: BTreeSet<NodeId>,
    running: BTreeMap<NodeId, BTreeSet<GroupId>>,
    decisions: Vec<(Time, NodeId, Decision)>,
    stops: Vec<(Time, NodeId, StopReason)>,
    starts: Vec<(Time, NodeId)>,
    /// Until when the executor of each node was last told to keep addresses.
    kept_until: BTreeMap<NodeId, Time>,
    /// Nodes where stopping never ends.
    stuck: BTreeSet<NodeId>,
    left: BTreeSet<NodeId>,
    /// Nodes whose executor was told to leave alone what runs.
    hands_off: BTreeMap<NodeId, bool>,
    /// The voters that each node has noted.
    disks: BTreeMap<NodeId, Electorate>,
    /// The answers to the checks of a pair.
    clear: bool,
    /// Those of the link are fine whatever the others are.
    link_is_fine: bool,
    /// Nodes whose clock stood still for so long.
    behind: BTreeMap<NodeId, Duration>,
}

fn id(name: &str) -> NodeId {
    NodeId::of(name)
}

impl World {
    fn new(config: Arc<Config>) -> Self {
        let mut world = Self {
            now: Time::ZERO + Duration::from_secs(1000),
            nodes: BTreeMap::new(),
            boots: BTreeMap::new(),
            flying: VecDeque::new(),
            cut: BTreeSet::new(),
            broken: BTreeSet::new(),
            running: BTreeMap::new(),
            decisions: Vec::new(),
            stops: Vec::new(),
            starts: Vec::new(),
            kept_until: BTreeMap::new(),
            stuck: BTreeSet::new(),
            left: BTreeSet::new(),
            hands_off: BTreeMap::new(),
            disks: BTreeMap::new(),
            clear: true,
            link_is_fine: false,
            behind: BTreeMap::new(),
            config: config.clone(),
        };
        for node in &config.nodes {
            world.boot(node.id, config.clone());
        }
        world
    }

    fn boot(&mut self, node: NodeId, config: Arc<Config>) {
        let boot = self.boots.entry(node).or_insert(0);
        *boot += 1;
        let start = Start { electorate: self.disks.get(&node).cloned(), ..Start::default() };
        let core = Node::new(config, node, BootId(node.0 ^ *boot), start, self.now);
        self.nodes.insert(node, core);
        self.feed(node, Event::Timer);
    }

    /// The process of a node is replaced within its run of the machine: what runs goes on running.
    fn replace(&mut self, node: NodeId) {
        let memory = self.nodes[&node].memory();
        let core = Node::resume(self.config.clone(), node, memory, Start::default(), self.now).unwrap();
        self.nodes.insert(node, core);
        self.feed(node, Event::Timer);
    }

    fn crash(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.running.remove(&node);
    }

    fn split(&mut self, one: &str, other: &str) {
        self.cut.extend([(id(one), id(other)), (id(other), id(one))]);
    }

    fn feed(&mut self, node: NodeId, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(core) = self.nodes.get_mut(&node) else { return };
            let behind = self.behind.get(&node).copied().unwrap_or_default();
            for output in core.handle(event, self.now.before(behind)) {
                match output {
                    Output::Send { to, message } => {
                        let boot = BootId(node.0 ^ self.boots[&node]);
                        self.flying.push_back((self.now + TRIP, node, to, boot, message));
                    }
                    Output::Act(Action::Start { group, generation, .. }) => {
                        self.starts.push((self.now, node));
                        let outcome = if self.broken.contains(&node) {
                            Outcome::StartFailed
                        } else {
                            self.running.entry(node).or_default().insert(group);
                            Outcome::Started
                        };
                        events.push_back(Event::Done { group, generation, outcome });
                    }
                    Output::Act(Action::Stop { group, generation, why }) => {
                        self.stops.push((self.now, node, why));
                        self.running.entry(node).or_default().remove(&group);
                        // Its address is down, and something else of the group never is.
                        if self.stuck.contains(&node) {
                            continue;
                        }
                        events.push_back(Event::Done { group, generation, outcome: Outcome::Stopped });
                    }
                    Output::Act(Action::CheckAlone { checks }) => {
                        let clear = self.clear || (checks == Checks::Link && self.link_is_fine);
                        events.push_back(Event::Alone { checks, clear });
                    }
                    Output::Act(Action::Extend { until, .. }) => drop(self.kept_until.insert(node, until)),
                    Output::Act(Action::Announce { .. }) | Output::Keep(_) => {}
                    Output::Act(Action::HandsOff(off)) => drop(self.hands_off.insert(node, off)),
                    Output::Decided(decision) => self.decisions.push((self.now, node, decision)),
                    Output::Remember(electorate) => drop(self.disks.insert(node, electorate)),
                    Output::KeepVotes(notes) => events.push_back(Event::VotesKept { serial: notes.serial }),
                    Output::Left => drop(self.left.insert(node)),
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let behind = |node: &NodeId| self.behind.get(node).copied().unwrap_or_default();
            let timer = self.nodes.iter().map(|(node, core)| (core.deadline().0 + behind(node), *node)).min();
            let arrival = self.flying.front().map(|message| message.0);
            let next = timer.map(|(at, _)| at).into_iter().chain(arrival).min().unwrap_or(end);
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if arrival.is_some_and(|at| at <= self.now) {
                let (_, from, to, boot, message) = self.flying.pop_front().unwrap();
                if !self.cut.contains(&(from, to)) {
                    self.feed(to, Event::Received { from, boot, message });
                }
            } else if let Some((_, node)) = timer {
                self.feed(node, Event::Timer);
            }
            assert!(self.owners().len() <= 1 || self.may_be_two(), "two owners: {:?}", self.owners());
        }
    }

    /// Only a pair may have two owners, while it is split.
    fn may_be_two(&self) -> bool {
        self.nodes.len() == 2
    }

    fn owners(&self) -> Vec<NodeId> {
        self.running.iter().filter(|(_, groups)| !groups.is_empty()).map(|(node, _)| *node).collect()
    }

    fn owner(&self) -> Option<String> {
        match self.owners()[..] {
            [] => None,
            [one] => Some(self.config.name(one)),
            _ => Some("several".to_owned()),
        }
    }

    fn moves_since(&self, since: Time) -> usize {
        self.starts.iter().filter(|(at, _)| *at > since).count() + self.stops.iter().filter(|(at, ..)| *at > since).count()
    }
}

fn started(nodes: usize, server: &str) -> World {
    let mut world = World::new(config(nodes, server));
    world.run(MS * 8000);
    assert_eq!(world.owner().as_deref(), Some("a"));
    world
}

#[test]
fn home_gets_it_as_soon_as_the_voters_may_grant() {
    let mut world = World::new(config(3, ""));
    world.run(MS * 1530);
    assert_eq!(world.owner(), None, "start-up silence");
    world.run(MS * 20);
    assert_eq!(world.owner().as_deref(), Some("a"));
}

#[test]
fn a_dead_owner_is_replaced_after_its_lease_by_the_first_backup() {
    let mut world = started(3, "");
    world.crash(id("a"));
    world.run(MS * 1390);
    assert_eq!(world.owner(), None);
    world.run(MS * 120);
    assert_eq!(world.owner().as_deref(), Some("b"));
}

#[test]
fn a_leaving_owner_hands_over_within_three_trips() {
    let mut world = started(3, "");
    world.feed(id("a"), Event::Order(Order::Leave));
    assert_eq!(world.owner(), None);
    world.run(TRIP * 3);
    assert_eq!(world.owner().as_deref(), Some("b"));
    world.run(MS * 20);
    assert!(world.left.contains(&id("a")), "after its goodbyes");
    let before = world.now;
    world.run(MS * 60_000);
    assert_eq!(world.moves_since(before), 0, "and nothing moves after that");
}

#[test]
fn it_goes_home_after_the_failback_delay_and_stays() {
    let mut world = started(3, "failback_delay = 10");
    world.crash(id("a"));
    world.run(MS * 5000);
    assert_eq!(world.owner().as_deref(), Some("b"));
    world.boot(id("a"), world.config.clone());
    // The delay counts from the end of its start-up silence.
    world.run(MS * (1530 + 9900));
    assert_eq!(world.owner().as_deref(), Some("b"));
    world.run(MS * 400);
    assert_eq!(world.owner().as_deref(), Some("a"));
    let before = world.now;
    world.run(MS * 600_000);
    assert_eq!(world.moves_since(before), 0);
}

#[test]
fn nothing_is_sent_home_before_home_may_vote() {
    let mut world = started(3, "failback_delay = 0.1");
    world.crash(id("a"));
    world.run(MS * 5000);
    world.boot(id("a"), world.config.clone());
    world.run(MS * 1500);
    assert_eq!(world.owner().as_deref(), Some("b"), "a is in its start-up silence");
    let before = world.now;
    while world.owner().as_deref() != Some("a") {
        world.run(MS);
    }
    let stop = world.stops.iter().find(|(at, node, _)| *at > before && *node == id("b")).unwrap().0;
    let start = world.starts.iter().find(|(at, node)| *at > before && *node == id("a")).unwrap().0;
    assert!(start.since(stop) <= TRIP * 3);
}

#[test]
fn a_manual_failback_does_not_go_home() {
    let mut world = started(3, "failback = manual");
    world.crash(id("a"));
    world.run(MS * 5000);
    world.boot(id("a"), world.config.clone());
    world.run(MS * 60_000);
    assert_eq!(world.owner().as_deref(), Some("b"));
}

#[test]
fn a_home_that_keeps_failing_waits_longer_each_time() {
    let mut world = started(3, "failback_delay = 10");
    let mut waits = Vec::new();
    for _ in 0..3 {
        world.crash(id("a"));
        world.run(MS * 3000);
        assert_eq!(world.owner().as_deref(), Some("b"));
        world.boot(id("a"), world.config.clone());
        let back = world.now;
        while world.owner().as_deref() != Some("a") {
            world.run(MS * 100);
        }
        waits.push(world.now.since(back).as_secs());
    }
    assert_eq!(waits, [11, 21, 41], "1.5 s of silence and 10, 20, 40 s");
}

#[test]
fn an_isolated_owner_stops_before_the_others_start() {
    let mut world = started(3, "");
    world.split("a", "b");
    world.split("a", "c");
    let cut = world.now;
    world.run(MS * 5000);
    assert_eq!(world.owner().as_deref(), Some("b"));
    let stop = world.stops.iter().find(|(at, node, _)| *at > cut && *node == id("a")).unwrap();
    let start = world.starts.iter().find(|(at, node)| *at > cut && *node == id("b")).unwrap();
    assert!(stop.0 < start.0);
    assert_eq!(stop.2, StopReason::LeaseLost);
}

#[test]
fn nothing_moves_when_the_owner_loses_sight_of_one_node_only() {
    let mut world = started(3, "");
    world.split("a", "b");
    let before = world.now;
    world.run(MS * 60_000);
    assert_eq!(world.moves_since(before), 0);
    assert_eq!(world.owner().as_deref(), Some("a"));
}

#[test]
fn a_minority_owns_nothing() {
    let mut world = started(3, "");
    world.crash(id("b"));
    world.crash(id("c"));
    world.run(MS * 60_000);
    assert_eq!(world.owner(), None);
}

#[test]
fn a_frozen_minority_keeps_what_runs() {
    let mut world = started(3, "no_quorum = freeze");
    world.crash(id("b"));
    world.crash(id("c"));
    // The kernel enforces what is told of the lease: it must never run short, or frozen addresses would go all the same.
    for _ in 0..600 {
        world.run(MS * 100);
        assert!(world.kept_until[&id("a")] >= world.now + MS * 1000, "addresses are kept no longer at {:?}", world.now);
    }
    assert_eq!(world.owner().as_deref(), Some("a"));
}

#[test]
fn what_runs_is_not_given_to_a_node_that_has_not_stopped_it() {
    let mut world = started(3, "");
    world.stuck.insert(id("a"));
    world.split("a", "b");
    world.split("a", "c");
    world.run(MS * 3000);
    world.cut.clear();
    let healed = world.now;
    world.run(MS * 60_000);
    assert!(world.running[&id("b")].len() == 1 && world.moves_since(healed) == 0, "it went home to a node that cannot take it");
    // Nor is it when its owner leaves.
    world.feed(id("b"), Event::Order(Order::Leave));
    world.run(MS * 100);
    assert!(
        !world.decisions.iter().any(|(_, _, decision)| matches!(decision, Decision::Released { next: Some(next), .. } if *next == id("a")))
    );
}

#[test]
fn what_cannot_start_at_home_goes_on_to_the_next_and_rests_when_all_have_failed() {
    let mut world = World::new(config(3, ""));
    world.broken.insert(id("a"));
    world.run(MS * 2000);
    assert_eq!(world.owner().as_deref(), Some("b"));
    let mut world = World::new(config(3, ""));
    world.broken.extend([id("a"), id("b"), id("c")]);
    world.run(MS * 60_000);
    assert_eq!(world.owner(), None);
    assert_eq!(world.starts.len(), 3, "each tried once, nothing loops");
    assert!(world.nodes[&id("a")].view(world.now).groups.iter().all(|group| group.unable && group.phase == Phase::Down));
    world.broken.clear();
    let group = world.config.groups[0].id;
    world.feed(id("c"), Event::Order(Order::Cleanup(group)));
    world.run(MS * 1000);
    assert_eq!(world.owner().as_deref(), Some("c"));
}

#[test]
fn a_lost_link_moves_it_at_once() {
    let mut world = started(3, "");
    let group = world.config.groups[0].id;
    world.feed(id("a"), Event::Fitness { group, able: false });
    world.run(TRIP * 4);
    assert_eq!(world.owner().as_deref(), Some("b"));
}

#[test]
fn standby_hands_over_and_comes_back() {
    let mut world = started(3, "failback_delay = 1");
    world.feed(id("a"), Event::Order(Order::Standby(true)));
    world.run(MS * 10_000);
    assert_eq!(world.owner().as_deref(), Some("b"));
    world.feed(id("a"), Event::Order(Order::Standby(false)));
    world.run(MS * 10_000);
    assert_eq!(world.owner().as_deref(), Some("a"));
}

#[test]
fn a_restarted_owner_is_another_holder_and_waits_for_its_own_old_lease() {
    let mut world = started(3, "");
    world.crash(id("b"));
    world.run(MS * 5000);
    world.crash(id("a"));
    world.run(MS * 50);
    world.boot(id("a"), world.config.clone());
    world.run(MS * 1340);
    assert_eq!(world.owner(), None);
    world.run(MS * 200);
    assert!(world.owner().is_some());
}

#[test]
fn a_lease_lost_during_a_planned_stop_that_hangs_is_stopped_as_lost() {
    let mut world = started(3, "");
    world.stuck.insert(id("a"));
    world.feed(id("a"), Event::Order(Order::Standby(true)));
    world.run(MS * 5000);
    // Renewed meanwhile: nobody else may start it.
    assert!(world.stops.iter().all(|(.., why)| *why != StopReason::LeaseLost));
    assert_eq!(world.owner(), None);
    let cut = world.now;
    world.split("a", "b");
    world.split("a", "c");
    world.run(MS * 1520);
    let lost: Vec<_> =
        world.stops.iter().filter(|(at, node, why)| *at > cut && *node == id("a") && *why == StopReason::LeaseLost).collect();
    assert_eq!(lost.len(), 1, "ordered once");
    assert!(lost[0].0 < cut + MS * 1470);
    assert_eq!(world.owner().as_deref(), Some("b"));
}

#[test]
fn strict_take_over_waits_for_the_stop_of_the_loser() {
    let mut world = started(3, "takeover = strict\nstop_timeout = 5");
    world.crash(id("a"));
    world.run(MS * 6200);
    assert_eq!(world.owner(), None);
    world.run(MS * 500);
    assert_eq!(world.owner().as_deref(), Some("b"));
}

#[test]
fn another_grouping_of_the_same_resource_never_makes_a_second_owner() {
    let mut world = started(3, "");
    // c reads a file in which the address shares its group with another: the group has another id.
    let text = "[CM_SERVER]\nkeep_alive_interval = 100\ndead_node_count = 15\n[CM_IPADDRS]\nvip, 10.0.0.100, 24, eth0, \nvip2, 10.0.0.101, 24, eth0, \n\
                [CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\nnode_floating_ip_addrs = vip, vip2\n\
                [CM_NODE]\nnodename = b\nhostname = b\nkeep_alive_ip = 10.0.0.2\n\
                [CM_NODE]\nnodename = c\nhostname = c\nkeep_alive_ip = 10.0.0.3\nnode_backup_floating_ip_addrs = a:vip, a:vip2\n";
    let other = parse_cfg("other.cfg", text).unwrap_or_else(|report| panic!("{report}")).config;
    assert_ne!(other.fingerprint, world.config.fingerprint);
    world.crash(id("c"));
    world.boot(id("c"), other);
    let before = world.now;
    world.run(MS * 60_000);
    assert_eq!(world.owner().as_deref(), Some("a"));
    assert!(world.starts.iter().all(|(at, node)| *at < before || *node == id("a")));
    assert!(world.decisions.iter().any(|(.., decision)| matches!(decision, Decision::Mismatch { differs: true, .. })));
}

/// A virtual machine that its host stopped and let go on: by its own clock, its lease has hardly begun.
#[test]
fn an_owner_whose_clock_stood_still_lets_go_when_the_voters_name_another() {
    let mut world = started(3, "");
    let frozen = world.nodes.remove(&id("a")).unwrap();
    world.running.remove(&id("a"));
    world.run(MS * 5000);
    assert_eq!(world.owner().as_deref(), Some("b"));
    world.nodes.insert(id("a"), frozen);
    world.behind.insert(id("a"), MS * 5000);
    let thawed = world.now;
    world.run(MS * 110);
    let let_go = world.stops.iter().find(|(at, node, _)| *at >= thawed && *node == id("a"));
    assert!(
        matches!(let_go, Some((.., StopReason::LeaseLost))),
        "within a heartbeat, not at the end of what it takes for its lease: {let_go:?}"
    );
    world.run(MS * 30_000);
    assert_eq!(world.owner().as_deref(), Some("a"), "home again when it has been well");
}

#[test]
fn a_refusal_without_end_keeps_nobody_waiting_for_ever() {
    let config = config(2, "quorum = majority");
    let (me, peer, group) = (config.nodes[0].id, config.nodes[1].id, config.groups[0].id);
    let mut now = Time(1_000_000_000);
    let mut node = Node::new(config.clone(), me, BootId(1), Start::default(), now);
    let (mut tag, mut refused, mut started) = (0, 0, false);
    while !started && now < Time(100_000_000_000) {
        let mut events = vec![Event::Timer];
        tag += 1;
        let heartbeat = Heartbeat {
            tag: Tag(tag),
            version: Version(0),
            entries: 0,
            state: NodeState { eligible: true, left: false, quorate: true, standby: false },
            hears_you: true,
            fingerprint: config.fingerprint,
            electorate: None,
            ballot: None,
            wishes: None,
        };
        events.push(Event::Received { from: peer, boot: BootId(2), message: Message::Heartbeat(heartbeat) });
        while let Some(event) = events.pop() {
            for output in node.handle(event, now) {
                match output {
                    Output::Act(Action::Stop { group, generation, .. }) => {
                        events.push(Event::Done { group, generation, outcome: Outcome::Stopped });
                    }
                    Output::Act(Action::Start { .. }) => started = true,
                    Output::Send { message: Message::Heartbeat(Heartbeat { tag, version, entries: 1, .. }), .. } => {
                        // The first answer names a holder whom nobody knows, and a time without end.
                        let reason = RefusalReason::Busy { holder: NodeId(9), remaining_us: u64::MAX };
                        let refusals = if refused == 0 { vec![Refusal { group, reason }] } else { Vec::new() };
                        refused += 1;
                        let ack = Ack { tag, version, first: 0, count: 1, cap_us: 1_500_000, refused: refusals, electorate: None };
                        events.push(Event::Received { from: peer, boot: BootId(2), message: Message::Ack(ack) });
                    }
                    _ => {}
                }
            }
        }
        now = now + MS * 50;
    }
    assert!(refused > 0, "it asked");
    assert!(started, "it never asked again");
}

/// A report may still be on its way when another order is given: it answers the order before.
#[test]
fn a_report_that_answers_an_older_order_counts_for_nothing() {
    let mut world = started(3, "failback_delay = 1");
    let group = world.config.groups[0].id;
    world.stuck.insert(id("a"));
    world.feed(id("a"), Event::Order(Order::Standby(true)));
    let told = world.now;
    // Cleared at its start, started, and now to be stopped: what comes is about one of the two before.
    for generation in [Generation(1), Generation(2)] {
        world.feed(id("a"), Event::Done { group, generation, outcome: Outcome::Stopped });
        world.run(MS * 3000);
    }
    let released =
        |(at, node, decision): &(Time, NodeId, Decision)| *at >= told && *node == id("a") && matches!(decision, Decision::Released { .. });
    assert!(!world.decisions.iter().any(released), "it was not down");
    assert!(world.starts.iter().all(|(at, _)| *at < told), "nobody else may start it");
    world.feed(id("a"), Event::Done { group, generation: Generation(3), outcome: Outcome::Stopped });
    world.run(MS * 3000);
    assert_eq!(world.owner().as_deref(), Some("b"));
}
