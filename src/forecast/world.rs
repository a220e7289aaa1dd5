//! The nodes, the messages between them, and what runs where.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{ForecastError, Majority, Situation, Stop};
use crate::{
    cluster::{Node, Start, Wait},
    model::{
        Action, BootId, Config, Electorate, Event, Group, GroupId, Lasts, Message, NodeId, Outcome, Output, Record, Stamp, Subject, Time,
        VoteNote, VoteNumber, Wish,
    },
};

/// One way from node to node.
const TRIP: Duration = Duration::from_millis(1);
/// Most messages and timers of one run.
const LIMIT: u64 = 3_000_000;
/// The beginning of time: nobody has been up for long.
const BEGINNING: Time = Time(1_000_000_000_000);
/// Under which a group is first held where it runs; above all that an operator said in the forecast.
const HOLD: u64 = 1 << 20;

/// A cluster in memory.
#[derive(Clone)]
pub(super) struct World {
    config: Arc<Config>,
    now: Time,
    nodes: BTreeMap<NodeId, Node>,
    /// By arrival, in the order of sending.
    flying: BTreeMap<(Time, u64), (NodeId, NodeId, Message)>,
    sent: u64,
    handled: u64,
    failed: BTreeSet<(GroupId, NodeId)>,
    running: BTreeMap<GroupId, BTreeSet<NodeId>>,
    /// Every moment at which the last node stopped running a group, or the first began to.
    changes: Vec<(Time, GroupId, bool)>,
}

impl World {
    /// The cluster of a situation, come to rest.
    pub(super) fn settled(situation: &Situation) -> Result<Self, ForecastError> {
        let config = &situation.config;
        let mut world = Self {
            config: Arc::clone(config),
            now: BEGINNING,
            nodes: BTreeMap::new(),
            flying: BTreeMap::new(),
            sent: 0,
            handled: 0,
            failed: situation.failed.clone(),
            running: BTreeMap::new(),
            changes: Vec::new(),
        };
        let electorate = Electorate { new: false, ..Electorate::new(config.voters()) };
        for node in config.nodes.iter().map(|node| node.id).filter(|node| !situation.down.contains(node)) {
            let start =
                Start { longest_lease: Duration::ZERO, electorate: Some(electorate.clone()), votes: Some(notes(node, &situation.lent)) };
            world.nodes.insert(node, Node::new(Arc::clone(config), node, boot(node), start, BEGINNING));
        }
        let (early, late) = situation.wishes_at_start();
        world.say(&early);
        // Who runs a group now does so in the forecast, by an order that is taken back at once.
        let held: Vec<(GroupId, NodeId)> = world.misplaced(situation);
        let hold = |wish: fn(NodeId) -> Wish, counter, lasts| -> Vec<Record> {
            let record = |&(group, node): &(GroupId, NodeId)| Record {
                subject: Subject::Place(group),
                stamp: Stamp { counter, author: node },
                wish: wish(node),
                lasts,
            };
            held.iter().map(record).collect()
        };
        world.say(&hold(Wish::Prefer, HOLD, Lasts::Always));
        world.run(world.horizon())?;
        let mut released = hold(|_| Wish::Cleared, HOLD + 1, Lasts::Over(3_600_000));
        for record in &mut released {
            // What an operator said of the group before holds again.
            if let Some(said) = early.iter().find(|said| said.subject == record.subject) {
                (record.wish, record.lasts) = (said.wish, said.lasts);
            }
        }
        world.say(&released);
        world.say(&late);
        world.run(TRIP * 4)?;
        Ok(world)
    }

    /// Groups that run on another node than the one that would take them first.
    fn misplaced(&self, situation: &Situation) -> Vec<(GroupId, NodeId)> {
        let leased = self.config.groups.iter().filter(|group| group.is_leased());
        leased
            .filter_map(|group| Some((group, *situation.owners.get(&group.id)?)))
            .filter(|(group, owner)| group.candidates.contains(owner) && self.nodes.contains_key(owner) && *owner != group.home)
            .map(|(group, owner)| (group.id, owner))
            .collect()
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Longer than it takes to come to rest after whatever happens.
    pub(super) fn horizon(&self) -> Duration {
        let longest = self.nodes.values().map(Node::longest_lease).max().unwrap_or_else(|| self.config.longest_lease());
        let ranks = u32::try_from(self.config.groups.iter().map(|group| group.candidates.len()).max().unwrap_or(1)).unwrap_or(u32::MAX);
        longest * 3 + (self.config.longest_lease() / 2) * ranks.min(20) + Duration::from_secs(2)
    }

    /// A node loses its power.
    pub(super) fn crash(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        let here: Vec<GroupId> = self.running.iter().filter(|(_, nodes)| nodes.contains(&node)).map(|(group, _)| *group).collect();
        here.into_iter().for_each(|group| self.stopped(node, group));
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: Duration) -> Result<(), ForecastError> {
        let end = self.now + span;
        // The deadlines of all nodes, in order: looking through hundreds for each message would take too long.
        let mut deadlines: BTreeSet<(Time, NodeId)> = self.nodes.iter().map(|(node, core)| (core.deadline().0, *node)).collect();
        loop {
            let timer = deadlines.first().copied();
            let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = timer.map(|(at, _)| at).into_iter().chain(arrival).min().filter(|next| *next <= end) else {
                self.now = end;
                return Ok(());
            };
            self.handled += 1;
            if self.handled > LIMIT {
                return Err(ForecastError::TooLarge { events: self.handled });
            }
            self.now = self.now.max(next);
            let (node, event) = match (timer, arrival) {
                (_, Some(at)) if at <= self.now => {
                    let Some((_, (from, to, message))) = self.flying.pop_first() else { continue };
                    (to, Event::Received { from, boot: boot(from), message })
                }
                (Some((_, node)), _) => (node, Event::Timer),
                (None, _) => continue,
            };
            let Some(before) = self.nodes.get(&node).map(|core| core.deadline().0) else { continue };
            self.feed(node, event);
            if let Some(core) = self.nodes.get(&node) {
                deadlines.remove(&(before, node));
                deadlines.insert((core.deadline().0, node));
            }
        }
    }

    fn say(&mut self, records: &[Record]) {
        if !records.is_empty() {
            for node in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.feed(node, Event::Wished(records.to_vec()));
            }
        }
    }

    fn feed(&mut self, node: NodeId, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let Some(core) = self.nodes.get_mut(&node) else { return };
            // What follows at once is answered before what came with it: an executor without work to do.
            let mut answers = Vec::new();
            for output in core.handle(event, self.now) {
                match output {
                    Output::Send { to, message } => {
                        self.flying.insert((self.now + TRIP, self.sent), (node, to, message));
                        self.sent += 1;
                    }
                    Output::Act(Action::Start { group, generation, .. }) => {
                        let outcome = if self.failed.contains(&(group, node)) {
                            Outcome::StartFailed
                        } else {
                            if self.running.entry(group).or_default().insert(node) && self.running[&group].len() == 1 {
                                self.changes.push((self.now, group, true));
                            }
                            Outcome::Started
                        };
                        answers.push(Event::Done { group, generation, outcome });
                    }
                    Output::Act(Action::Stop { group, generation, .. }) => {
                        if let Some(nodes) = self.running.get_mut(&group)
                            && nodes.remove(&node)
                            && nodes.is_empty()
                        {
                            self.changes.push((self.now, group, false));
                        }
                        answers.push(Event::Done { group, generation, outcome: Outcome::Stopped });
                    }
                    // The link works and nobody else has the address: a forecast of broken networks is not made here.
                    Output::Act(Action::CheckAlone { checks }) => answers.push(Event::Alone { checks, clear: true }),
                    Output::KeepVotes(notes) => answers.push(Event::VotesKept { serial: notes.serial }),
                    Output::Act(Action::Extend { .. } | Action::Announce { .. } | Action::HandsOff(_))
                    | Output::Decided(_)
                    | Output::Keep(_)
                    | Output::Remember(_)
                    | Output::Left => {}
                }
            }
            answers.reverse();
            events.extend(answers);
        }
    }

    fn stopped(&mut self, node: NodeId, group: GroupId) {
        if let Some(nodes) = self.running.get_mut(&group)
            && nodes.remove(&node)
            && nodes.is_empty()
        {
            self.changes.push((self.now, group, false));
        }
    }

    /// Who runs what.
    pub(super) fn owners(&self) -> BTreeMap<GroupId, NodeId> {
        self.running.iter().filter_map(|(group, nodes)| Some((*group, *nodes.first()?))).collect()
    }

    /// How long each group that stopped ran nowhere, at the longest; until now for those that still do not run.
    pub(super) fn outages_since(&self, begin: Time) -> BTreeMap<GroupId, Duration> {
        let mut down: BTreeMap<GroupId, Time> = BTreeMap::new();
        let mut outages: BTreeMap<GroupId, Duration> = BTreeMap::new();
        for (at, group, up) in self.changes.iter().filter(|(at, ..)| *at >= begin) {
            if *up {
                if let Some(since) = down.remove(group) {
                    let longest = outages.entry(*group).or_default();
                    // A hand-over takes no time here, and yet is one.
                    *longest = (*longest).max(at.since(since)).max(TRIP);
                }
            } else {
                down.insert(*group, *at);
            }
        }
        outages.extend(down.into_iter().map(|(group, since)| (group, self.now.since(since))));
        outages
    }

    /// Why a group runs nowhere, as the first of its candidates that is up sees it.
    pub(super) fn stop(&self, group: &Group) -> Stop {
        let mut undecided = None;
        for candidate in &group.candidates {
            let Some(core) = self.nodes.get(candidate) else { continue };
            let view = core.view(self.now);
            let its = view.groups.iter().find(|its| its.group == group.id);
            match its.and_then(|its| its.wait.or_else(|| its.unable.then_some(Wait::Unable))) {
                Some(wait) => return Stop::Waits(*candidate, wait),
                None if !view.eligible => return Stop::Waits(*candidate, Wait::Ineligible),
                None => undecided = undecided.or(Some(*candidate)),
            }
        }
        undecided.map_or(Stop::NobodyLeft, Stop::Undecided)
    }

    /// Majority, as the first node sees it that is up.
    pub(super) fn majority(&self) -> Option<Majority> {
        let first = self.config.nodes.iter().find_map(|node| self.nodes.get(&node.id))?;
        let view = first.view(self.now);
        Some(Majority { quorate: view.quorate, seen: view.voters_seen, voters: view.voters, alone: view.alone })
    }
}

/// Every node has been up once.
fn boot(node: NodeId) -> BootId {
    BootId(node.0 | 1)
}

/// What a node has noted about votes that were lent.
fn notes(node: NodeId, lent: &[(NodeId, NodeId)]) -> Vec<VoteNote> {
    let number = VoteNumber::FIRST.next();
    lent.iter()
        .filter_map(|(vote, with)| {
            if *with == node {
                Some(VoteNote { vote: *vote, number, accepted: number, held: true, with: None })
            } else if *vote == node {
                Some(VoteNote { vote: *vote, number, accepted: VoteNumber::FIRST, held: false, with: Some(*with) })
            } else {
                None
            }
        })
        .collect()
}
