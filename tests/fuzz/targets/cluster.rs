//! The cluster core among peers that say anything: sequences of decoded messages, timers, orders and reports that make no
//! sense. It must not panic, say without end, ask to be woken in the past, or grow; and once its peers are honest again it must
//! grant to them and take up what is its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use drcm::{
    cluster::{Node, Phase, Start},
    config::parse_cfg,
    model::{
        Ack, Action, AssignmentId, BootId, Checks, Claims, Config, Definition, Electorate, ElectorateId, Entry, Event, Fingerprint,
        Generation, GroupId, Heartbeat, Message, NodeId, NodeState, Order, Outcome, Output, Refusal, RefusalReason, Stance, Tag, Time,
        Version, Want, WishDigest,
    },
    wire::{MAX_MESSAGE, put_records, records},
};

use super::bytes::Bytes;

/// Events of one input.
const STEPS: usize = 300;
/// Timer events in a row before time must have passed.
const SPINS: usize = 5;
/// Messages and orders that one event may bring: for each peer a list, a heartbeat, an answer and a definition of each group;
/// for each group some orders.
const OUTPUTS: usize = 50;
/// Longest description of a node after so many events, in bytes.
const STATE: usize = 1 << 20;
/// Seconds within which a node among honest peers runs its groups; a refusal keeps it waiting for a minute at most.
const PATIENCE: usize = 70;
/// Between two lives of a peer that the input does not know.
const HONEST: u64 = 1 << 40;

/// A configuration, a place in it, and what happens there.
pub fn hostile_peers(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    let configs = configs();
    let config = &configs[input.pick(configs.len())];
    let me = input.pick(config.nodes.len());
    let mut play = Play::new(Arc::clone(config), me);
    for _ in 0..STEPS {
        if input.is_empty() || play.left {
            break;
        }
        play.step(&mut input);
        let _ = play.node.view(play.now);
    }
    if !play.left {
        play.recovers();
    }
}

fn configs() -> &'static [Arc<Config>] {
    static CONFIGS: OnceLock<Vec<Arc<Config>>> = OnceLock::new();
    CONFIGS.get_or_init(|| {
        let three = |server| config(3, server);
        vec![three(""), config(2, "quorum = majority"), config(2, ""), three("takeover = strict\nstop_timeout = 2\nno_quorum = freeze")]
    })
}

/// Each node is home of an address that all others back up, and of a crontab that needs no lease.
fn config(nodes: usize, server: &str) -> Arc<Config> {
    let names: Vec<char> = ('a'..).take(nodes).collect();
    let mut text = format!("[CM_SERVER]\nkeep_alive_interval = 100\ndead_node_count = 15\nfailback_delay = 1\n{server}\n");
    let each = |line: fn(usize, char) -> String| names.iter().enumerate().map(|(at, name)| line(at, *name)).collect::<String>();
    text += "[CM_CRONTABS]\n";
    text += &each(|_, name| format!("cron{name}, /tmp/cron{name}, /etc/cron.d,\n"));
    text += "[CM_IPADDRS]\n";
    text += &each(|at, name| format!("vip{name}, 10.0.1.{}, 24, eth0,\n", at + 1));
    for (at, name) in names.iter().enumerate() {
        let backups: Vec<String> = names.iter().filter(|other| *other != name).map(|other| format!("{other}:vip{other}")).collect();
        text += &format!("[CM_NODE]\nnodename = {name}\nhostname = {name}\nkeep_alive_ip = 10.0.0.{}\n", at + 1);
        text += &format!(
            "node_floating_ip_addrs = vip{name}\nnode_crontabs = cron{name}\nnode_backup_floating_ip_addrs = {}\n",
            backups.join(",")
        );
    }
    parse_cfg("test.cfg", &text).unwrap_or_else(|report| panic!("{report}")).config
}

struct Play {
    config: Arc<Config>,
    me: NodeId,
    peers: Vec<NodeId>,
    node: Node,
    now: Time,
    /// The executor's orders that have not been reported.
    orders: BTreeMap<GroupId, (Generation, bool)>,
    /// The newest heartbeat and list of the node.
    tag: Tag,
    version: Version,
    /// The tag of each peer's newest heartbeat.
    tags: u64,
    /// What the last event made the node say.
    said: Vec<(NodeId, Message)>,
    left: bool,
}

impl Play {
    fn new(config: Arc<Config>, me: usize) -> Self {
        let me = config.nodes[me].id;
        let now = Time(1_000_000_000);
        Self {
            peers: config.nodes.iter().map(|node| node.id).filter(|node| *node != me).collect(),
            node: Node::new(Arc::clone(&config), me, BootId(77 << 32), Start::default(), now),
            config,
            me,
            now,
            orders: BTreeMap::new(),
            tag: Tag(0),
            version: Version(0),
            tags: 0,
            said: Vec::new(),
            left: false,
        }
    }

    fn step(&mut self, input: &mut Bytes<'_>) {
        let event = match input.pick(16) {
            0 | 1 => return self.pass(Duration::from_millis(u64::from(input.byte())) * 2_u32.pow(u32::from(input.byte() % 10))),
            2 | 3 => self.heartbeat(input),
            4 | 5 => self.claims(input),
            6 | 7 => self.ack(input),
            8 => Message::Want(Want { version: Version(input.number(self.version.0)) }),
            9 => self.definition(input),
            10 => {
                // Whatever can be decoded.
                let (from, boot) = self.speaker(input);
                let made_up = input.truth();
                let bytes = if made_up { self.made_up(input) } else { input.chunk().to_vec() };
                for message in records(&bytes).into_iter().flatten() {
                    self.handle(Event::Received { from, boot, message });
                }
                return;
            }
            11 | 12 => return self.report(input),
            13 => {
                let (group, able) = (self.group(input), input.truth());
                return self.handle(Event::Fitness { group, able });
            }
            14 => {
                let order = match input.pick(8) {
                    0 => Order::Leave,
                    1..=3 => Order::Standby(input.truth()),
                    4 => Order::ConfirmVoters,
                    _ => Order::Cleanup(self.group(input)),
                };
                return self.handle(Event::Order(order));
            }
            _ => {
                let checks = match input.pick(4) {
                    0 => return self.is_replaced(),
                    1 => Checks::Link,
                    _ => Checks::All,
                };
                return self.handle(Event::Alone { checks, clear: input.truth() });
            }
        };
        let (from, boot) = self.speaker(input);
        self.handle(Event::Received { from, boot, message: event });
    }

    /// A record of any kind, made of numbers that mean something here.
    fn made_up(&self, input: &mut Bytes<'_>) -> Vec<u8> {
        let mut content = Vec::new();
        let kind = 16 + input.byte() % 24;
        for _ in 0..input.pick(32) {
            let mut number = match input.pick(8) {
                0..3 => u64::from(input.byte() % 8),
                3 => self.anybody(input).0,
                4 => self.group(input).0,
                5 => input.number(self.tag.0),
                6 => input.number(self.version.0),
                _ => input.number(self.config.fingerprint.0),
            };
            // As numbers are written: seven bits a byte, the low ones first.
            while number >= 0x80 {
                content.push(0x80 | (number & 0x7f) as u8);
                number >>= 7;
            }
            content.push(number as u8);
        }
        let length = u16::try_from(content.len()).expect("a few numbers are short").to_le_bytes();
        [&[kind], length.as_slice(), &content].concat()
    }

    /// A peer, this node itself or a stranger, in one of some lives.
    fn speaker(&mut self, input: &mut Bytes<'_>) -> (NodeId, BootId) {
        let choice = input.pick(16);
        let from = match choice {
            0 => self.me,
            1 => NodeId(input.number(1)),
            _ => self.peers[choice % self.peers.len()],
        };
        let life = input.byte();
        (from, BootId(if life < 192 { 1 } else { u64::from(life) }))
    }

    fn group(&self, input: &mut Bytes<'_>) -> GroupId {
        let choice = input.pick(self.config.groups.len() + 2);
        self.config.groups.get(choice).map_or_else(|| GroupId(input.number(1)), |group| group.id)
    }

    fn anybody(&self, input: &mut Bytes<'_>) -> NodeId {
        let choice = input.pick(self.config.nodes.len() + 1);
        self.config.nodes.get(choice).map_or_else(|| NodeId(input.number(1)), |node| node.id)
    }

    fn heartbeat(&mut self, input: &mut Bytes<'_>) -> Message {
        self.tags += 1;
        let flags = input.byte();
        let is = |bit: u8| flags >> bit & 1 == 1;
        Message::Heartbeat(Heartbeat {
            tag: Tag(if is(0) { self.tags } else { input.number(self.tags) }),
            version: Version(input.number(u64::from(flags))),
            entries: u32::try_from(input.number(1) % (1 << 32)).unwrap(),
            state: NodeState { eligible: is(1), left: is(2) && is(3), quorate: is(4), standby: is(5) },
            hears_you: is(6),
            fingerprint: if is(7) { self.config.fingerprint } else { Fingerprint(input.number(1)) },
            wishes: is(4).then(|| WishDigest(input.number(0))),
            electorate: is(4).then(|| ElectorateId(input.number(1))),
            ballot: None,
        })
    }

    fn claims(&mut self, input: &mut Bytes<'_>) -> Message {
        let version = Version(input.number(1));
        let mut entries: Vec<Entry> = (0..input.pick(8))
            .map(|_| {
                let group = self.group(input);
                let stance = match input.pick(4) {
                    0 | 1 => Stance::Claims { lease_us: input.number(1_500_000), running: input.truth() },
                    2 => Stance::HandsOver { next: self.anybody(input) },
                    _ => Stance::Unable,
                };
                Entry { group, stance }
            })
            .collect();
        let honest = input.pick(4) > 0;
        if honest {
            entries.sort_by_key(|entry| entry.group);
            entries.dedup_by_key(|entry| entry.group);
        }
        let length = u32::try_from(entries.len()).unwrap();
        let first = if honest { 0 } else { input.number(0) as u32 };
        let total = if honest { length } else { input.number(u64::from(length)) as u32 };
        Message::Claims(Claims { version, first, total, entries })
    }

    fn ack(&mut self, input: &mut Bytes<'_>) -> Message {
        let refused = (0..input.pick(4) * input.pick(20))
            .map(|_| {
                let group = self.group(input);
                let reason = match input.pick(3) {
                    0 => RefusalReason::Busy { holder: self.anybody(input), remaining_us: input.number(1_500_000) },
                    1 => RefusalReason::Silent { remaining_us: input.number(1_500_000) },
                    _ => RefusalReason::Unknown,
                };
                Refusal { group, reason }
            })
            .collect();
        Message::Ack(Ack {
            tag: Tag(input.number(self.tag.0)),
            version: Version(input.number(self.version.0)),
            first: input.number(0) as u32,
            count: input.number(8) as u32,
            cap_us: input.number(1_500_000),
            refused,
            electorate: input.truth().then(|| ElectorateId(input.number(1))),
        })
    }

    fn definition(&mut self, input: &mut Bytes<'_>) -> Message {
        let known: Vec<AssignmentId> =
            self.config.groups.iter().flat_map(|group| &group.assignments).map(drcm::model::Assignment::id).collect();
        let assignments: Vec<AssignmentId> = (0..input.pick(6))
            .map(|_| {
                let choice = input.pick(known.len() + 2);
                known.get(choice).copied().unwrap_or_else(|| AssignmentId(input.number(1)))
            })
            .collect();
        let honest = input.truth();
        let length = assignments.len() as u64;
        Message::Definition(Definition {
            group: if honest { GroupId::of(&assignments) } else { self.group(input) },
            first: if honest { 0 } else { input.number(0) as u32 },
            total: if honest { length } else { input.number(length) } as u32,
            assignments,
        })
    }

    /// The executor reports what it was ordered, or something else.
    fn report(&mut self, input: &mut Bytes<'_>) {
        let outcome = [Outcome::Started, Outcome::StartFailed, Outcome::Stopped][input.pick(3)];
        if input.truth() {
            let (group, generation) = (self.group(input), Generation(input.number(2)));
            self.handle(Event::Done { group, generation, outcome });
        } else {
            let honest = input.truth();
            let all: Vec<_> = self.orders.iter().map(|(group, order)| (*group, *order)).collect();
            if let Some((group, (generation, start))) = all.get(input.pick(all.len().max(1))).copied() {
                let expected = if start { Outcome::Started } else { Outcome::Stopped };
                let outcome = if honest { expected } else { outcome };
                // A report that answers another question leaves the order unanswered.
                if outcome == expected || (start && outcome == Outcome::StartFailed) {
                    self.orders.remove(&group);
                }
                self.handle(Event::Done { group, generation, outcome });
            }
        }
    }

    /// The process is killed, and another goes on in its place.
    fn is_replaced(&mut self) {
        let memory = self.node.memory();
        self.node = Node::resume(Arc::clone(&self.config), self.me, memory, Start::default(), self.now).expect("it is its own memory");
        self.orders.clear();
        self.handle(Event::Timer);
    }

    /// Time passes; the deadlines in between are kept.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..10_000 {
            let next = self.node.deadline().0.max(self.now);
            if next > end || self.left {
                break;
            }
            self.now = next;
            self.handle(Event::Timer);
        }
        self.now = self.now.max(end);
    }

    fn handle(&mut self, event: Event) {
        if self.left {
            return;
        }
        let outputs = self.node.handle(event, self.now);
        assert!(outputs.len() <= OUTPUTS, "one event brought {} messages and orders", outputs.len());
        self.said.clear();
        for output in outputs {
            match output {
                Output::Send { to, message } => {
                    assert!(self.peers.contains(&to), "it speaks to a stranger");
                    self.note(&message);
                    self.said.push((to, message));
                }
                Output::Act(Action::Start { group, generation, until, .. }) => {
                    assert!(until.is_none_or(|until| until > self.now), "it starts a group after its lease");
                    self.orders.insert(group, (generation, true));
                }
                Output::Act(Action::Stop { group, generation, .. }) => drop(self.orders.insert(group, (generation, false))),
                Output::Act(Action::Extend { until, .. }) => assert!(until > self.now, "it extends a lease that is over"),
                Output::Act(Action::Announce { .. } | Action::CheckAlone { .. } | Action::HandsOff(_))
                | Output::Decided(_)
                | Output::Keep(_)
                | Output::Remember(_)
                | Output::KeepVotes(_) => {}
                Output::Left => self.left = true,
            }
        }
        let mut spins = 0;
        while self.node.deadline().0 <= self.now {
            spins += 1;
            assert!(spins <= SPINS, "it wants to be woken at {:?} again and again; it is {:?}", self.node.deadline(), self.now);
            self.node.handle(Event::Timer, self.now);
        }
    }

    /// A message of the node can be sent and read.
    fn note(&mut self, message: &Message) {
        if let Message::Heartbeat(heartbeat) = message {
            (self.tag, self.version) = (heartbeat.tag, heartbeat.version);
        }
        let mut bytes = Vec::new();
        put_records(std::slice::from_ref(message), &mut bytes);
        assert!(bytes.len() <= MAX_MESSAGE + 3, "a message of {} bytes cannot be sent", bytes.len());
        assert_eq!(records(&bytes).as_deref(), Some(std::slice::from_ref(message)));
    }

    /// The hostile peers are gone, honest ones are there: they are granted what they ask for, and the node takes up its own.
    fn recovers(&mut self) {
        let size = format!("{:?}", self.node).len();
        assert!(size <= STATE, "the state of the node has grown to {size} bytes");
        self.handle(Event::Order(Order::Standby(true)));
        // Whatever was promised to the hostile ones is over after a lease.
        self.rest(self.node.longest_lease() * 3 + Duration::from_secs(1));
        // It was told to leave, and has.
        if self.left {
            return;
        }
        let asked: Vec<GroupId> = self.config.groups.iter().filter(|group| group.is_leased()).map(|group| group.id).collect();
        let mut honest = Honest { boot: BootId(HONEST), tag: 0, lists: 0 };
        let peer = self.peers[0];
        for group in asked {
            honest.lists += 1;
            let granted = (0..80).any(|_| {
                self.rest(Duration::from_millis(100));
                honest.says(self, peer, Some(group), honest.lists);
                self.said.iter().any(|(to, message)| {
                    let Message::Ack(ack) = message else { return false };
                    *to == peer && ack.tag == Tag(honest.tag) && ack.refused.is_empty() && ack.count > 0
                })
            });
            let said = &self.said;
            assert!(granted, "an honest peer is not granted {group}: {said:?}");
        }
        self.takes_up(&mut honest);
    }

    /// Time passes while the executor does what it is told.
    fn rest(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end && !self.left {
            while let Some((group, (generation, start))) = self.orders.pop_first() {
                let outcome = if start { Outcome::Started } else { Outcome::Stopped };
                self.handle(Event::Done { group, generation, outcome });
            }
            self.pass((end.since(self.now)).min(Duration::from_millis(50)));
        }
    }

    /// Everything that this node is a candidate for is free, and every voter grants.
    fn takes_up(&mut self, honest: &mut Honest) {
        honest.lists += 1;
        self.handle(Event::Order(Order::Standby(false)));
        for at in 0..self.config.groups.len() {
            let group = self.config.groups[at].id;
            self.handle(Event::Fitness { group, able: true });
            self.handle(Event::Order(Order::Cleanup(group)));
        }
        for _ in 0..PATIENCE * 20 {
            self.rest(Duration::from_millis(50));
            for peer in self.peers.clone() {
                honest.says(self, peer, None, honest.lists);
                let ack = Ack {
                    tag: self.tag,
                    version: self.version,
                    first: 0,
                    count: 1000,
                    cap_us: u64::MAX,
                    refused: Vec::new(),
                    electorate: Some(settled(&self.config)),
                };
                self.handle(Event::Received { from: peer, boot: honest.boot, message: Message::Ack(ack) });
            }
            if self.node.view(self.now).groups.iter().all(|group| group.phase == Phase::Running) {
                return;
            }
        }
        panic!("after {PATIENCE} seconds among honest peers it does not run its groups: {:#?}", self.node.view(self.now));
    }
}

/// The voters of a cluster that has always had these.
fn settled(config: &Config) -> ElectorateId {
    Electorate { new: false, ..Electorate::new(config.voters()) }.id()
}

/// A peer in its senses.
struct Honest {
    boot: BootId,
    tag: u64,
    lists: u64,
}

impl Honest {
    /// A heartbeat with the list that claims this group, or nothing.
    fn says(&mut self, play: &mut Play, from: NodeId, group: Option<GroupId>, list: u64) {
        self.tag += 1;
        let (boot, version) = (self.boot, Version(list));
        let stance = Stance::Claims { lease_us: 1_500_000, running: false };
        let entries: Vec<Entry> = group.into_iter().map(|group| Entry { group, stance }).collect();
        let length = entries.len() as u32;
        let heartbeat = Heartbeat {
            tag: Tag(self.tag),
            version,
            entries: length,
            state: NodeState { eligible: true, left: false, quorate: false, standby: false },
            hears_you: true,
            fingerprint: play.config.fingerprint,
            wishes: None,
            electorate: Some(settled(&play.config)),
            ballot: None,
        };
        if length > 0 {
            let claims = Claims { version, first: 0, total: length, entries };
            play.handle(Event::Received { from, boot, message: Message::Claims(claims) });
        }
        play.handle(Event::Received { from, boot, message: Message::Heartbeat(heartbeat) });
    }
}
