//! One state of the cluster and what can happen next in it.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    time::Duration,
};

use drcm::{
    cluster::Node,
    model::{
        Ack, Action, Config, Decision, Event, GroupId, Heartbeat, Message, NodeId, Order, Outcome, Output, PassVote, RefusalReason, Stance,
        Tag, VoteAck, VoteNotes,
    },
};

use super::{
    host::{Clock, Executor, Host, Instant, boot, digest},
    scenario,
    truth::{NODES, Truth, Votes, bound_until},
};

/// Time between two ticks: a third of the lease.
pub const TICK: Instant = 100_000;
/// A datagram that was not there after so many further ticks is lost: it may be late by almost a lease.
const JOURNEY: u64 = 2;

/// What never changes during a search.
#[derive(Clone)]
pub struct Rules {
    pub config: std::sync::Arc<Config>,
    /// The configuration that is being replaced, and by node: the first life that reads the present one.
    pub before: Option<(std::sync::Arc<Config>, [u8; NODES])>,
    pub names: [NodeId; NODES],
    pub group: GroupId,
    pub clocks: [Clock; NODES],
    /// A mistake put in on purpose: answers arrive with the tag of the newest question.
    pub newest_tag: bool,
}

impl Rules {
    /// What a life of a node reads.
    pub fn config_of(&self, node: usize, life: u8) -> &std::sync::Arc<Config> {
        match &self.before {
            Some((before, changed)) if life < changed[node] => before,
            _ => &self.config,
        }
    }

    /// Not a node before the change.
    pub fn is_newcomer(&self, node: usize) -> bool {
        self.before.as_ref().is_some_and(|(before, _)| before.node(self.names[node]).is_none())
    }

    /// The number of a node.
    pub fn number(&self, name: NodeId) -> usize {
        self.names.iter().position(|other| *other == name).expect("only nodes are named")
    }

    /// The votes that a host has, as it counts them.
    pub fn votes(&self, node: usize, host: &Host) -> Votes {
        let config = self.config_of(node, host.life);
        let majority = config.voters().count() / 2 + 1;
        let has = [0, 1, 2]
            .map(|other: usize| config.voters().any(|voter| voter == self.names[other]) && host.has_vote(self.names[other], other == node));
        Votes { has, needed: majority.saturating_sub(has.iter().filter(|has| **has).count()) }
    }
}

/// How much of each kind may still go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Daemons killed.
    pub crashes: u8,
    /// Ticks that one process sleeps through, or orders that are done a tick later.
    pub hiccups: u8,
    /// Nodes put in standby.
    pub standbys: u8,
    /// Times that the witness is told to leave.
    pub leaves: u8,
}

/// Messages of one turn to one peer: they share a fate.
#[derive(Clone, Debug, Hash)]
pub struct Datagram {
    pub from: usize,
    pub to: usize,
    life: u8,
    sent: Instant,
    /// By the number of the last heartbeat that its sender had begun; later ones have later tags.
    said: Tag,
    messages: Vec<Message>,
}

/// A datagram and its hash.
pub struct Flying {
    pub datagram: Datagram,
    digest: u128,
}

#[derive(Clone)]
pub struct State {
    pub rules: Rc<Rules>,
    pub now: Instant,
    pub hosts: [Rc<Host>; NODES],
    pub flying: Vec<Rc<Flying>>,
    pub truth: Rc<Truth>,
    pub budget: Budget,
}

/// What many states have in common, kept once: the states of a search differ in few parts each.
#[derive(Default)]
pub struct Pool {
    hosts: HashMap<u128, Rc<Host>>,
    flying: HashMap<u128, Rc<Flying>>,
    truths: HashSet<Rc<Truth>>,
}

impl Pool {
    /// Replaces the parts of a state by equal ones that are kept already.
    pub fn share(&mut self, state: &mut State) {
        for host in &mut state.hosts {
            *host = self.hosts.entry(host.digest()).or_insert_with(|| host.clone()).clone();
        }
        for flying in &mut state.flying {
            *flying = self.flying.entry(flying.digest).or_insert_with(|| flying.clone()).clone();
        }
        state.flying.shrink_to_fit();
        match self.truths.get(&state.truth) {
            Some(kept) => state.truth = kept.clone(),
            None => drop(self.truths.insert(state.truth.clone())),
        }
    }
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A datagram arrives: its place among those in flight.
    Arrives(u8),
    /// Time passes; due timers fire, except that of one process that sleeps.
    Tick { asleep: Option<u8> },
    /// A daemon is killed.
    Crash(u8),
    /// A daemon is started again.
    Restart(u8),
    /// The operator puts a node in standby.
    Standby(u8),
    /// A node is told to leave.
    Leave(u8),
}

/// What a step showed, so that a search that saw nothing is noticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Orders were issued: whether they finish at once makes a difference.
    pub ordered: bool,
    pub started: bool,
    pub busy: bool,
    pub silent: bool,
    pub lost: bool,
    pub lent: bool,
}

impl State {
    pub fn digest(&self) -> u128 {
        let hosts = [0, 1, 2].map(|node: usize| self.hosts[node].digest());
        let flying: Vec<u128> = self.flying.iter().map(|flying| flying.digest).collect();
        digest(&(self.now, hosts, flying, &self.truth, self.budget))
    }

    /// Everything that can happen next. A datagram that never arrives is lost, so loss needs no step of its own.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (at, flying) in (0..).zip(&self.flying) {
            if self.hosts[flying.datagram.to].node.is_some() {
                steps.push(Step::Arrives(at));
            }
        }
        steps.push(Step::Tick { asleep: None });
        for (node, host) in (0..).zip(&self.hosts) {
            if host.node.is_none() {
                steps.push(Step::Restart(node));
                continue;
            }
            if self.budget.hiccups > 0 {
                steps.push(Step::Tick { asleep: Some(node) });
            }
            if self.budget.crashes > 0 {
                steps.push(Step::Crash(node));
            }
            if self.budget.standbys > 0 && host.executor.up {
                steps.push(Step::Standby(node));
            }
            if self.budget.leaves > 0 && usize::from(node) == NODES - 1 {
                steps.push(Step::Leave(node));
            }
        }
        steps
    }

    /// The state after a step. `slow`: orders it leads to are done a tick later.
    pub fn after(&self, step: Step, slow: bool) -> (Self, Seen, Result<(), String>) {
        let mut turn = Turn { state: self.clone(), seen: Seen::default(), slow, touched: [false; NODES] };
        turn.state.budget.hiccups -= u8::from(slow);
        let result = turn.take(step);
        let Turn { mut state, seen, touched, .. } = turn;
        for (host, _) in state.hosts.iter_mut().zip(touched).filter(|(_, touched)| *touched) {
            Rc::make_mut(host).seal();
        }
        Rc::make_mut(&mut state.truth).forget(state.now);
        state.flying.sort_unstable_by_key(|flying| flying.digest);
        let result = result.and_then(|()| state.one_owner());
        (state, seen, result)
    }

    pub fn owners(&self) -> impl Iterator<Item = usize> + '_ {
        (0..NODES).filter(|node| self.hosts[*node].owns(self.rules.clocks[*node], self.now))
    }

    fn one_owner(&self) -> Result<(), String> {
        let owners: Vec<usize> = self.owners().collect();
        if owners.len() > 1 { Err(format!("the nodes {owners:?} have the group active under a lease")) } else { Ok(()) }
    }

    /// A step in words.
    pub fn tell(&self, step: Step) -> String {
        match step {
            Step::Arrives(at) => {
                let Datagram { from, to, sent, messages, .. } = &self.flying[usize::from(at)].datagram;
                format!("{from} -> {to} arrives, sent at {sent}: {messages:?}")
            }
            other => format!("{other:?}"),
        }
    }

    /// Ticks in which everything arrives except between the pairs that are cut.
    pub fn calm(mut self, ticks: usize, cut: &[(usize, usize)]) -> Self {
        for _ in 0..ticks {
            self = self.must(Step::Tick { asleep: None }).all_arrives(cut);
        }
        self
    }

    /// Everything in flight arrives except between the pairs that are cut.
    pub fn all_arrives(mut self, cut: &[(usize, usize)]) -> Self {
        let separated = |datagram: &Datagram| cut.contains(&(datagram.from, datagram.to)) || cut.contains(&(datagram.to, datagram.from));
        loop {
            let hosts = &self.hosts;
            self.flying.retain(|flying| !separated(&flying.datagram) && hosts[flying.datagram.to].node.is_some());
            // The order in which they were sent: the hash must not decide how a scenario begins.
            let next = (0..self.flying.len()).min_by_key(|at| {
                let Datagram { from, to, said, .. } = &self.flying[*at].datagram;
                (*said, *from, *to)
            });
            let Some(at) = next else { return self };
            self = self.must(Step::Arrives(u8::try_from(at).expect("few datagrams are in flight")));
        }
    }

    /// Takes out of the air what one node has sent another.
    pub fn intercept(&mut self, from: usize, to: usize) -> Rc<Flying> {
        let at = self.flying.iter().position(|flying| (flying.datagram.from, flying.datagram.to) == (from, to));
        self.flying.remove(at.expect("it is in flight"))
    }

    /// It arrives after all.
    pub fn arrives_late(mut self, late: Rc<Flying>) -> Self {
        let at = self.flying.len();
        self.flying.push(late);
        self.must(Step::Arrives(u8::try_from(at).expect("few datagrams are in flight")))
    }

    /// A step of which no harm is expected.
    pub fn must(self, step: Step) -> Self {
        let (next, _, result) = self.after(step, false);
        result.unwrap_or_else(|broken| panic!("{broken}, at {} after {}", self.now, self.tell(step)));
        next
    }

    /// The node's new life.
    fn fresh(&self, node: usize) -> Node {
        scenario::node(
            &self.rules,
            node,
            self.hosts[node].life + 1,
            self.hosts[node].noted.clone(),
            self.hosts[node].votes.clone(),
            self.now,
        )
    }
}

/// A step being taken.
struct Turn {
    state: State,
    seen: Seen,
    slow: bool,
    /// Hosts that have changed.
    touched: [bool; NODES],
}

impl Turn {
    fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Arrives(at) => {
                let flying = self.state.flying.remove(usize::from(at));
                self.arrives(&flying.datagram)
            }
            Step::Tick { asleep } => {
                self.state.budget.hiccups -= u8::from(asleep.is_some());
                self.state.now += TICK;
                let now = self.state.now;
                self.state.flying.retain(|flying| flying.datagram.sent + JOURNEY * TICK >= now);
                for node in (0..NODES).filter(|node| asleep.map(usize::from) != Some(*node)) {
                    self.wakes(node)?;
                }
                Ok(())
            }
            Step::Crash(node) => {
                let node = usize::from(node);
                self.state.budget.crashes -= 1;
                // What it had up stays up until the kernel ends it with the lease it was told.
                self.change(node, |host| {
                    host.node = None;
                    host.executor.pending = None;
                });
                Ok(())
            }
            Step::Restart(node) => {
                let node = usize::from(node);
                let fresh = self.state.fresh(node);
                self.change(node, |host| {
                    host.noted = Some(fresh.electorate().clone());
                    host.node = Some(fresh);
                    host.life += 1;
                });
                Rc::make_mut(&mut self.state.truth).restarts(node, self.state.hosts[node].life);
                // The seal lets nothing through that was sent before the receiver's process began.
                self.state.flying.retain(|flying| flying.datagram.to != node);
                self.handle(node, Event::Timer, None)
            }
            Step::Standby(node) => {
                self.state.budget.standbys -= 1;
                self.handle(usize::from(node), Event::Order(Order::Standby(true)), None)
            }
            Step::Leave(node) => {
                self.state.budget.leaves -= 1;
                self.handle(usize::from(node), Event::Order(Order::Leave), None)
            }
        }
    }

    /// A process does what has become due.
    fn wakes(&mut self, node: usize) -> Result<(), String> {
        if self.state.hosts[node].node.is_none() {
            return Ok(());
        }
        if let Some((generation, outcome)) = self.state.hosts[node].executor.pending {
            self.finishes(node, generation, outcome)?;
        }
        let local = self.state.rules.clocks[node].local(self.state.now);
        let due = self.state.hosts[node].node.as_ref().is_some_and(|core| core.deadline().0 <= local);
        if due { self.handle(node, Event::Timer, None) } else { Ok(()) }
    }

    fn finishes(&mut self, node: usize, generation: drcm::model::Generation, outcome: Outcome) -> Result<(), String> {
        self.change(node, |host| {
            host.executor.pending = None;
            if outcome == Outcome::Stopped {
                host.executor = Executor::default();
            }
        });
        let group = self.state.rules.group;
        self.handle(node, Event::Done { group, generation, outcome }, None)
    }

    fn arrives(&mut self, datagram: &Datagram) -> Result<(), String> {
        let Datagram { from, to, life, messages, .. } = datagram;
        for message in messages {
            let mut message = message.clone();
            if let Message::Ack(ack) = &mut message
                && self.state.rules.newest_tag
            {
                ack.tag = self.state.hosts[*to].said;
            }
            let name = self.state.rules.names[*from];
            self.handle(*to, Event::Received { from: name, boot: boot(*life), message }, Some(*life))?;
        }
        self.prune(datagram);
        Ok(())
    }

    /// Drops what was sent on the same way before and would now change nothing: tags and versions only grow, so it never will.
    fn prune(&mut self, arrived: &Datagram) {
        let State { rules, now, hosts, flying, .. } = &mut self.state;
        let host = &hosts[arrived.to];
        let Some(core) = &host.node else { return };
        let local = rules.clocks[arrived.to].local(*now);
        if core.deadline().0 <= local {
            return;
        }
        flying.retain(|other| {
            let Datagram { from, to, life, said, messages, .. } = &other.datagram;
            if (*from, *to, *life) != (arrived.from, arrived.to, arrived.life) || *said > arrived.said {
                return true;
            }
            let mut copy = core.clone();
            let silent = messages.iter().all(|message| {
                let event = Event::Received { from: rules.names[*from], boot: boot(*life), message: message.clone() };
                copy.handle(event, local).is_empty()
            });
            !silent || digest(&copy) != digest(core)
        });
    }

    /// The core handles an event, and what it wants is done. `from_life`: which life of the sender an answer would be for.
    fn handle(&mut self, node: usize, event: Event, from_life: Option<u8>) -> Result<(), String> {
        let clock = self.state.rules.clocks[node];
        let now = self.state.now;
        let local = clock.local(now);
        let mut outputs = Vec::new();
        self.change(node, |host| {
            if let Some(core) = &mut host.node {
                outputs = core.handle(event, local);
            }
        });
        let mut post: [Vec<Message>; NODES] = Default::default();
        let mut done = Vec::new();
        let (mut kept, mut left) = (None, false);
        for output in outputs {
            match output {
                Output::Send { to, message } => {
                    let to = self.state.rules.names.iter().position(|name| *name == to).expect("peers are nodes");
                    self.says(node, to, &message, from_life)?;
                    post[to].push(message);
                }
                Output::Act(Action::Start { generation, until, .. }) => {
                    let until = until.ok_or("a leased group is started without a lease")?;
                    self.relies(node, until)?;
                    self.seen.started = true;
                    self.change(node, |host| host.executor = Executor { up: true, until, pending: Some((generation, Outcome::Started)) });
                    done.push((generation, Outcome::Started));
                }
                Output::Act(Action::Stop { generation, .. }) => {
                    self.change(node, |host| host.executor.pending = Some((generation, Outcome::Stopped)));
                    done.push((generation, Outcome::Stopped));
                }
                Output::Act(Action::Extend { until, .. }) => {
                    if self.state.hosts[node].executor.until <= local {
                        return Err(format!("node {node} extends a lease that is over"));
                    }
                    self.relies(node, until)?;
                    self.change(node, |host| host.executor.until = until);
                }
                Output::Act(Action::CheckAlone { .. }) => return Err(format!("node {node} of three wants to carry on alone")),
                Output::Act(Action::Announce { .. } | Action::HandsOff(_)) | Output::Keep(_) => {}
                Output::Left => left = true,
                // The disk is as fast as the process: what is not on it yet is not said, so a crash before is a crash earlier.
                Output::KeepVotes(VoteNotes { serial, votes }) => {
                    self.change(node, |host| host.votes = Some(votes));
                    kept = Some(serial);
                }
                Output::Remember(electorate) => self.change(node, |host| host.noted = Some(electorate)),
                Output::Decided(decision) => self.seen.lost |= matches!(decision, Decision::Lost { .. }),
            }
        }
        self.sends(node, post);
        if left {
            self.change(node, |host| host.node = None);
        }
        self.stops_in_time(node)?;
        self.seen.ordered |= !done.is_empty();
        if self.slow {
            done.clear();
        }
        for (generation, outcome) in done {
            if self.state.hosts[node].executor.pending == Some((generation, outcome)) {
                self.finishes(node, generation, outcome)?;
            }
        }
        kept.map_or(Ok(()), |serial| self.handle(node, Event::VotesKept { serial }, None))
    }

    fn relies(&mut self, node: usize, until: drcm::model::Time) -> Result<(), String> {
        let (clock, now, life) = (self.state.rules.clocks[node], self.state.now, self.state.hosts[node].life);
        let votes = self.state.rules.votes(node, &self.state.hosts[node]);
        Rc::make_mut(&mut self.state.truth).relies(node, life, votes, clock.instant(until), now)
    }

    /// A group must not be up without a stop being ordered once its lease is over, by what was told and by what is promised.
    fn stops_in_time(&self, node: usize) -> Result<(), String> {
        let (host, clock, now) = (&self.state.hosts[node], self.state.rules.clocks[node], self.state.now);
        let votes = self.state.rules.votes(node, host);
        if !host.executor.up || host.is_stopping() || host.owns(clock, now) || self.state.truth.promised(node, host.life, votes) > now {
            return Ok(());
        }
        Err(format!("node {node} did not stop the group when its lease ended"))
    }

    /// What a message means for the record.
    fn says(&mut self, node: usize, to: usize, message: &Message, from_life: Option<u8>) -> Result<(), String> {
        let (rules, now) = (self.state.rules.clone(), self.state.now);
        match message {
            Message::Heartbeat(Heartbeat { tag, version, entries, .. }) => {
                let tag = *tag;
                self.change(node, |host| host.said = tag);
                if *entries == 0 { self.publishes(node, version.0, false) } else { Ok(()) }
            }
            Message::Claims(claims) => {
                let claimed =
                    claims.entries.iter().any(|entry| entry.group == rules.group && matches!(entry.stance, Stance::Claims { .. }));
                self.publishes(node, claims.version.0, claimed)
            }
            Message::Ack(ack) => self.answers(node, node, to, ack, from_life),
            Message::VoteAck(VoteAck { vote, ack }) => self.answers(node, rules.number(*vote), to, ack, from_life),
            Message::PassVote(PassVote { vote, grants, .. }) => {
                let clock = rules.clocks[node];
                for grant in grants.iter().filter(|grant| grant.group == rules.group) {
                    let until = now + clock.takes(Duration::from_micros(grant.remaining_us));
                    let life = u8::try_from(grant.boot.0 - boot(0).0).expect("few lives");
                    let holder = rules.number(grant.holder);
                    Rc::make_mut(&mut self.state.truth).passes(rules.number(*vote), holder, life, grant.version.0, until);
                }
                Ok(())
            }
            Message::VoteTaken(taken) => {
                self.seen.lent |= taken.taken;
                Ok(())
            }
            Message::Want(_) | Message::Wishes(_) | Message::Electorate(_) | Message::WantElectorate => Ok(()),
            Message::Definition(_) => Err("nobody needs a definition here".to_owned()),
            Message::Digest(_) | Message::Roster(_) | Message::WantRoster(_) | Message::Relayed(_) | Message::WantRelayed(_) => Ok(()),
            Message::WantVote(_) | Message::VoteAbsent(_) => Ok(()),
        }
    }

    /// The vote of a voter, which is at this node, answers another. `life`: which of the other's lives asked.
    fn answers(&mut self, node: usize, vote: usize, to: usize, ack: &Ack, life: Option<u8>) -> Result<(), String> {
        let (rules, now) = (self.state.rules.clone(), self.state.now);
        if let Some(refusal) = ack.refused.iter().find(|refusal| refusal.group == rules.group) {
            match refusal.reason {
                RefusalReason::Busy { .. } => self.seen.busy = true,
                RefusalReason::Silent { .. } => self.seen.silent = true,
                RefusalReason::Unknown => return Err(format!("node {node} does not know the group")),
            }
            return Ok(());
        }
        let life = life.ok_or("an answer without a question")?;
        let until = bound_until(rules.clocks[node], rules.config.lease(), now);
        Rc::make_mut(&mut self.state.truth).grants(vote, to, life, ack.version.0, until, now)
    }

    fn publishes(&mut self, node: usize, version: u64, claims: bool) -> Result<(), String> {
        let owns = self.state.hosts[node].owns(self.state.rules.clocks[node], self.state.now);
        Rc::make_mut(&mut self.state.truth).publishes(node, version, claims, owns)
    }

    fn sends(&mut self, from: usize, post: [Vec<Message>; NODES]) {
        let (life, said) = (self.state.hosts[from].life, self.state.hosts[from].said);
        for (to, messages) in post.into_iter().enumerate().filter(|(_, messages)| !messages.is_empty()) {
            let datagram = Datagram { from, to, life, sent: self.state.now, said, messages };
            let digest = digest(&datagram);
            if self.state.flying.iter().all(|other| other.digest != digest) {
                self.state.flying.push(Rc::new(Flying { datagram, digest }));
            }
        }
    }

    fn change(&mut self, node: usize, how: impl FnOnce(&mut Host)) {
        let host = Rc::make_mut(&mut self.state.hosts[node]);
        how(host);
        self.touched[node] = true;
    }
}
