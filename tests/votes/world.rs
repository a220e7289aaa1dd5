//! A world for votes: real nodes, messages that take their time, disks that are slow, and a record of who ran what.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use drcm::{
    cluster::{Node, Start},
    config::parse_cfg,
    model::{
        Action, BootId, Config, Decision, Electorate, Event, GroupId, Message, NodeId, Order, Outcome, Output, Time, VoteNews, VoteNote,
    },
};

pub const MS: Duration = Duration::from_millis(1);
pub const TRIP: Duration = Duration::from_micros(200);
/// A disk takes this long.
pub const DISK: Duration = Duration::from_millis(2);

/// Nodes a, b, c ... of which a is home of one address that all others back up, in order.
pub fn config(nodes: usize, server: &str) -> Arc<Config> {
    config_of(&String::from_iter(('a'..).take(nodes)), server)
}

/// The same, of these nodes.
pub fn config_of(names: &str, server: &str) -> Arc<Config> {
    let mut text =
        format!("[CM_SERVER]\nkeep_alive_interval = 100\ndead_node_count = 15\n{server}\n[CM_IPADDRS]\nvip, 10.0.0.100, 24, eth0, \n");
    for (number, name) in names.chars().enumerate() {
        let list = if number == 0 { "node_floating_ip_addrs = vip" } else { "node_backup_floating_ip_addrs = a:vip" };
        text += &format!("[CM_NODE]\nnodename = {name}\nhostname = {name}\nkeep_alive_ip = 10.0.0.{}\n{list}\n", number + 1);
    }
    parse_cfg("test.cfg", &text).unwrap_or_else(|report| panic!("{report}")).config
}

pub fn id(name: &str) -> NodeId {
    NodeId::of(name)
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Arrives,
    Lost,
    Twice,
    Late,
}

pub enum Flying {
    Message {
        from: NodeId,
        to: NodeId,
        boot: BootId,
        message: Message,
    },
    /// Notes have reached the disk.
    Noted {
        node: NodeId,
        boot: BootId,
        serial: u64,
        votes: Vec<VoteNote>,
    },
}

pub struct World {
    pub now: Time,
    /// Of all nodes.
    pub config: Arc<Config>,
    /// Of nodes that have another.
    pub configs: BTreeMap<NodeId, Arc<Config>>,
    pub nodes: BTreeMap<NodeId, Node>,
    pub boots: BTreeMap<NodeId, BootId>,
    pub disks: BTreeMap<NodeId, Vec<VoteNote>>,
    pub electorates: BTreeMap<NodeId, Electorate>,
    /// Nodes whose disk hangs.
    pub hung: BTreeSet<NodeId>,
    pub agenda: BTreeMap<(Time, u64), Flying>,
    pub numbers: u64,
    pub cut: BTreeSet<(NodeId, NodeId)>,
    pub fate: fn(&Message, u64) -> Fate,
    pub sent: u64,
    pub running: BTreeMap<NodeId, BTreeSet<GroupId>>,
    pub moves: Vec<(Time, NodeId, &'static str)>,
    pub left: BTreeMap<NodeId, Time>,
    pub news: Vec<(Time, NodeId, NodeId, VoteNews)>,
}

impl World {
    pub fn new(config: Arc<Config>) -> Self {
        let mut world = Self {
            now: Time::ZERO + Duration::from_secs(1000),
            configs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            boots: BTreeMap::new(),
            disks: BTreeMap::new(),
            electorates: BTreeMap::new(),
            hung: BTreeSet::new(),
            agenda: BTreeMap::new(),
            numbers: 0,
            cut: BTreeSet::new(),
            fate: |_, _| Fate::Arrives,
            sent: 0,
            running: BTreeMap::new(),
            moves: Vec::new(),
            left: BTreeMap::new(),
            news: Vec::new(),
            config: config.clone(),
        };
        for node in &config.nodes {
            world.boot(node.id);
        }
        world
    }

    pub fn started(nodes: usize, server: &str) -> Self {
        let mut world = Self::new(config(nodes, server));
        world.run(MS * 5000);
        assert_eq!(world.owners(), ["a"]);
        world
    }

    /// Those of a cluster that know nothing of the others yet.
    pub fn started_with(present: &str, all: usize) -> Self {
        let mut world = Self::new(config(all, ""));
        world.nodes.clear();
        for name in present.chars().map(String::from) {
            world.configure(&name, present);
            world.start(&[&name]);
        }
        world.run(MS * 5000);
        assert_eq!(world.owners(), ["a"]);
        world
    }

    pub fn boot(&mut self, node: NodeId) {
        self.numbers += 1;
        let boot = BootId(node.0 ^ self.numbers << 33);
        self.boots.insert(node, boot);
        self.left.remove(&node);
        let start = Start { votes: self.disks.get(&node).cloned(), electorate: self.electorates.get(&node).cloned(), ..Start::default() };
        let config = self.configs.get(&node).unwrap_or(&self.config).clone();
        self.nodes.insert(node, Node::new(config, node, boot, start, self.now));
        self.feed(node, Event::Timer);
    }

    pub fn loses_disk(&mut self, name: &str) {
        self.disks.remove(&id(name));
        self.electorates.remove(&id(name));
    }

    pub fn start(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.boot(id(name)));
    }

    /// Stops a node cleanly and starts it again, with the configuration of these nodes.
    pub fn restart(&mut self, name: &str, nodes: &str) {
        self.leave(name);
        self.run(MS * 3000);
        self.configure(name, nodes);
        self.start(&[name]);
        self.run(MS * 10_000);
    }

    pub fn configure(&mut self, name: &str, nodes: &str) {
        self.configs.insert(id(name), config_of(nodes, ""));
    }

    pub fn crash(&mut self, name: &str) {
        self.nodes.remove(&id(name));
        self.running.remove(&id(name));
    }

    pub fn leave(&mut self, name: &str) {
        self.feed(id(name), Event::Order(Order::Leave));
    }

    pub fn isolate(&mut self, names: &[&str]) {
        let all: Vec<NodeId> = self.config.nodes.iter().map(|node| node.id).collect();
        let inside: Vec<NodeId> = names.iter().map(|name| id(name)).collect();
        for one in &all {
            for other in all.iter().filter(|other| inside.contains(one) != inside.contains(other)) {
                self.cut.insert((*one, *other));
            }
        }
    }

    pub fn put(&mut self, at: Time, what: Flying) {
        self.numbers += 1;
        self.agenda.insert((at, self.numbers), what);
    }

    pub fn feed(&mut self, node: NodeId, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(core) = self.nodes.get_mut(&node) else { return };
            let boot = self.boots[&node];
            for output in core.handle(event, self.now) {
                match output {
                    Output::Send { to, message } => {
                        self.sent += 1;
                        let fate = (self.fate)(&message, self.sent);
                        let flying = |message| Flying::Message { from: node, to, boot, message };
                        match fate {
                            Fate::Arrives => self.put(self.now + TRIP, flying(message)),
                            Fate::Lost => {}
                            Fate::Twice => {
                                self.put(self.now + TRIP, flying(message.clone()));
                                self.put(self.now + MS * 700, flying(message));
                            }
                            Fate::Late => self.put(self.now + MS * 35, flying(message)),
                        }
                    }
                    Output::KeepVotes(notes) => {
                        if !self.hung.contains(&node) {
                            self.put(self.now + DISK, Flying::Noted { node, boot, serial: notes.serial, votes: notes.votes });
                        }
                    }
                    Output::Act(Action::Start { group, generation, .. }) => {
                        self.moves.push((self.now, node, "start"));
                        self.running.entry(node).or_default().insert(group);
                        events.push_back(Event::Done { group, generation, outcome: Outcome::Started });
                    }
                    Output::Act(Action::Stop { group, generation, .. }) => {
                        if self.running.entry(node).or_default().remove(&group) {
                            self.moves.push((self.now, node, "stop"));
                        }
                        events.push_back(Event::Done { group, generation, outcome: Outcome::Stopped });
                    }
                    Output::Act(Action::CheckAlone { checks }) => events.push_back(Event::Alone { checks, clear: false }),
                    Output::Act(Action::Extend { .. } | Action::Announce { .. } | Action::HandsOff(_)) => {}
                    Output::Decided(Decision::Vote { vote, news }) => self.news.push((self.now, node, vote, news)),
                    Output::Remember(electorate) => drop(self.electorates.insert(node, electorate)),
                    Output::Decided(_) | Output::Keep(_) => {}
                    Output::Left => drop(self.left.insert(node, self.now)),
                }
            }
        }
        if self.left.contains_key(&node) {
            self.nodes.remove(&node);
        }
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut spins = 0;
        let mut last = self.now;
        loop {
            let timer = self.nodes.iter().map(|(node, core)| (core.deadline().0, *node)).min();
            let arrival = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let next = timer.map(|(at, _)| at).into_iter().chain(arrival).min().unwrap_or(end);
            if next > end || (timer.is_none() && arrival.is_none()) {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            spins = if self.now == last { spins + 1 } else { 0 };
            last = self.now;
            assert!(
                spins < 1000,
                "nothing lets time pass: {:?}",
                self.nodes.iter().map(|(node, core)| (self.config.name(*node), core.deadline())).collect::<Vec<_>>()
            );
            if arrival.is_some_and(|at| at <= self.now) {
                match self.agenda.pop_first().expect("it was there").1 {
                    Flying::Message { from, to, boot, message } => {
                        // The seal lets nothing of a life that is over through to one that began since.
                        if !self.cut.contains(&(from, to)) {
                            self.feed(to, Event::Received { from, boot, message });
                        }
                    }
                    Flying::Noted { node, boot, serial, votes } => {
                        if self.nodes.contains_key(&node) && self.boots[&node] == boot {
                            self.disks.insert(node, votes);
                            self.feed(node, Event::VotesKept { serial });
                        }
                    }
                }
            } else if let Some((_, node)) = timer {
                self.feed(node, Event::Timer);
            }
            assert!(self.owners().len() <= 1, "two owners: {:?}", self.owners());
            self.every_vote_is_in_one_place();
        }
    }

    pub fn every_vote_is_in_one_place(&self) {
        for vote in self.config.voters() {
            let at: Vec<String> = self
                .nodes
                .iter()
                .filter(|(_, core)| core.view(self.now).votes.contains(&vote))
                .map(|(node, _)| self.config.name(*node))
                .collect();
            assert!(at.len() <= 1, "the vote of {} is at {at:?}", self.config.name(vote));
        }
    }

    pub fn owners(&self) -> Vec<String> {
        self.running.iter().filter(|(_, groups)| !groups.is_empty()).map(|(node, _)| self.config.name(*node)).collect()
    }

    /// The votes at a node, in the order of the file.
    pub fn votes(&self, name: &str) -> String {
        let held = self.nodes[&id(name)].view(self.now).votes;
        self.config.voters().filter(|vote| held.contains(vote)).map(|vote| self.config.name(vote)).collect()
    }

    /// By its notes a node has a vote.
    pub fn holds(&self, node: &str, vote: &str) -> bool {
        self.disks.get(&id(node)).into_iter().flatten().any(|note| note.vote == id(vote) && note.held)
    }

    pub fn seen(&self, name: &str) -> usize {
        self.nodes[&id(name)].view(self.now).voters_seen
    }

    /// How long nobody owned the address since then.
    pub fn downtime(&self, since: Time) -> Duration {
        let mut down = None;
        let mut total = Duration::ZERO;
        for (at, _, what) in self.moves.iter().filter(|(at, ..)| *at > since) {
            match (*what, down) {
                ("stop", None) => down = Some(*at),
                ("start", Some(stopped)) => {
                    total += at.since(stopped);
                    down = None;
                }
                _ => {}
            }
        }
        total + down.map_or(Duration::ZERO, |stopped| self.now.since(stopped))
    }

    pub fn moves_since(&self, since: Time) -> usize {
        self.moves.iter().filter(|(at, ..)| *at > since).count()
    }
}
