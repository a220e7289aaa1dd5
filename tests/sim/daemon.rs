//! The daemon of one machine as the core knows it: it starts and ends, is stopped and goes on, looks at the clock, gives the
//! core what happens and does what the core says.

use std::{sync::Arc, time::Duration};

use drcm::{
    cluster::{Memory, Node, Start},
    model::{Action, BootId, Decision, Event, Message, NodeId, Output, StopReason, Tag},
};
use rand::Rng;

use super::{
    clock::{MILLISECOND, NEVER},
    queue::What,
    setup,
    world::{Sabotage, Trace, World},
};

/// Timer events that a core may ask for without letting time pass.
const SPINS: u32 = 100;

impl World {
    /// A daemon starts, with what is on the machine's disk and what a process before it left.
    pub fn start_daemon(&mut self, node: usize) {
        let fresh = BootId(self.random.random());
        let host = &mut self.hosts[node];
        host.life += 1;
        host.timing = host.next_timing;
        host.layout = host.next_layout;
        host.speech = host.next_speech;
        host.config = Arc::clone(&self.setup.configs[host.timing][host.layout]);
        let membership = &self.setup.memberships[host.layout];
        self.checker.starts(node, &membership.voters);
        if !membership.listed[node] {
            // It is no longer a node: its machine is taken away, or has yet to be set up.
            host.leaving = false;
            host.votes.wiped = true;
            self.loses_power(node);
            return;
        }
        host.paused = false;
        host.leaving = false;
        host.resumed = self.now;
        host.spins = 0;
        host.tag = Tag(0);
        // A disk that is lost while two voters or more change is not protected: see docs/cluster.md.
        if host.disk_lost && self.setup.voters_differ_by_one {
            host.voters = None;
        }
        // Without the disk a node can only assume its own configuration: safe while that is not shorter than before.
        let disk_lost = std::mem::take(&mut host.disk_lost);
        if disk_lost && setup::longest(&host.config) >= host.granted {
            host.disk = Duration::ZERO;
        }
        host.hands_off = false;
        let kept = if disk_lost { Vec::new() } else { std::mem::take(&mut host.wishes) };
        self.keeps(node, kept);
        if disk_lost || std::mem::take(&mut self.hosts[node].votes.wiped) {
            self.loses_notes(node);
        }
        let host = &mut self.hosts[node];
        let start = Start { longest_lease: host.disk, electorate: host.voters.clone(), votes: host.votes.notes.clone() };
        let now = host.clock.local(self.now);
        let told = if self.sabotage == Sabotage::NoSilence { now.before(Duration::from_secs(1000)) } else { now };
        let resumed = host.ledger.take().and_then(|ledger| {
            let memory: Memory = postcard::from_bytes(&ledger).expect("a ledger can be read");
            Node::resume(Arc::clone(&host.config), host.id, memory, start.clone(), now).ok()
        });
        let resumes = resumed.is_some();
        if !resumes {
            host.sent_home.fill(0);
        }
        let mut core = resumed.unwrap_or_else(|| Node::new(Arc::clone(&host.config), host.id, fresh, start, told));
        let boot = core.boot();
        host.boot = boot;
        core.recall(&host.wishes, now);
        host.voters = Some(core.electorate().clone());
        host.votes.began = self.now;
        if resumes {
            let notes = host.votes.notes.iter().flatten();
            let held = |vote: &NodeId| notes.clone().find(|note| note.vote == *vote).map_or(*vote == host.id, |note| note.held);
            let votes: Vec<usize> = (0..self.setup.count()).filter(|vote| held(&self.setup.nodes[*vote])).collect();
            self.checker.resumes(node, votes.into_iter());
        }
        let host = &mut self.hosts[node];
        host.standby = core.view(now).standby;
        host.deadline = core.deadline().0;
        host.core = Some(core);
        host.timer = host.clock.instant(host.deadline).max(self.now + 50_000);
        let secret = self.random.random();
        self.post.starts(node, boot, secret);
        self.stats.resumptions += u64::from(resumes);
        self.stats.reloads += u64::from(std::mem::take(&mut self.hosts[node].reloads) && resumes);
        self.log(|| format!("n{node} {} as {boot:?}", if resumes { "goes on" } else { "starts" }));
        if self.sabotage == Sabotage::OldLedger {
            self.writes_ledger(node);
        }
        self.remove_orphans(node);
    }

    /// The process of a daemon is killed: most find what it wrote in run_dir. It may have been about to do what it had decided.
    pub fn kill_daemon(&mut self, node: usize) {
        if self.runs(node) && self.random.random_bool(0.5) {
            let now = self.hosts[node].clock.local(self.now);
            if let Some(core) = &mut self.hosts[node].core {
                drop(core.handle(Event::Timer, now));
            }
        }
        if self.sabotage != Sabotage::OldLedger {
            self.writes_ledger(node);
        }
        if self.random.random_bool(0.2) {
            self.hosts[node].ledger = None;
        }
        self.end_daemon(node);
    }

    /// What a process that takes the place of this one will know.
    pub fn writes_ledger(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        let memory = host.core.as_ref().map(Node::memory);
        host.ledger = memory.map(|memory| postcard::to_stdvec(&memory).expect("a memory can be written"));
    }

    /// The process of a daemon ends at once, for whatever reason.
    pub fn end_daemon(&mut self, node: usize) {
        self.stops_writing(node);
        let host = &mut self.hosts[node];
        host.life += 1;
        host.core = None;
        host.paused = false;
        host.leaving = false;
        host.timer = NEVER;
        host.deferred.clear();
        host.waiting.clear();
        host.unfit = 0;
        host.failed = 0;
        for slot in std::mem::take(&mut host.inbox) {
            self.post.done(slot);
        }
        for job in &mut self.hosts[node].jobs {
            job.cancel();
        }
        self.checker.gone(node);
    }

    /// SIGSTOP.
    pub fn pause(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        host.life += 1;
        host.paused = true;
        host.timer = NEVER;
        self.log(|| format!("n{node} is stopped"));
    }

    /// SIGCONT. The daemon looks at the clock first, then at what has piled up; its executor may be quicker or slower.
    pub fn resume(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        if !host.paused {
            return;
        }
        host.life += 1;
        host.paused = false;
        host.resumed = self.now;
        let deferred = std::mem::take(&mut host.deferred);
        let inbox = std::mem::take(&mut host.inbox);
        let waiting = std::mem::take(&mut host.waiting);
        self.log(|| format!("n{node} goes on, {} datagrams wait", inbox.len()));
        let executor_first = self.random.random_bool(0.5);
        let (effects, reports): (Vec<What>, Vec<What>) = deferred.into_iter().partition(|what| matches!(what, What::Effect { .. }));
        if executor_first {
            effects.iter().for_each(|what| self.executes(*what));
        }
        self.tick(node);
        if !executor_first {
            effects.iter().for_each(|what| self.executes(*what));
        }
        reports.iter().for_each(|what| self.executes(*what));
        for slot in inbox {
            self.arrives(node, slot);
        }
        waiting.into_iter().for_each(|event| self.dispatch(node, event));
        self.rearm(node, true);
    }

    /// A timer event.
    pub fn tick(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        host.timers += 1;
        let before = host.clock.local(self.now);
        self.dispatch(node, Event::Timer);
        let host = &mut self.hosts[node];
        if host.deadline <= before {
            host.spins += 1;
            if host.spins > SPINS {
                let deadline = host.deadline;
                self.fail(format!("the core of node {node} wants to be woken at {deadline:?} again and again; it is {before:?}"));
            }
        } else {
            host.spins = 0;
        }
    }

    /// Gives the core of a node something to handle and does what it says.
    pub fn dispatch(&mut self, node: usize, event: Event) {
        let host = &mut self.hosts[node];
        let now = host.clock.local(self.now);
        if host.core.is_none() {
            return;
        }
        if self.trace != Trace::Off {
            let line = self.describe(node, now, &event);
            self.log(|| line);
        }
        let host = &mut self.hosts[node];
        if host.votes.amnesia == NEVER
            && let Event::Received { from, message: Message::Heartbeat(heartbeat), .. } = &event
        {
            let (from, heartbeat) = (*from, heartbeat.clone());
            self.learns_of_votes(node, from, &heartbeat);
        }
        let host = &mut self.hosts[node];
        let Some(core) = host.core.as_mut() else { return };
        let outputs = core.handle(event, now);
        host.deadline = core.deadline().0;
        host.disk = host.disk.max(core.longest_lease());
        host.granted = host.granted.max(setup::longest(&host.config));
        let deadline = host.deadline;
        self.stats.events += 1;
        let mut left = false;
        let mut decided = Vec::new();
        for output in outputs {
            match output {
                Output::Send { to, message } => self.send(node, to, message),
                Output::Act(action) => {
                    self.must_be_explained(node, action, &decided);
                    self.act(node, action);
                }
                Output::Decided(decision) => {
                    self.decided(node, &decision);
                    decided.push(decision);
                }
                Output::Keep(records) => self.keeps(node, records),
                Output::Remember(electorate) => self.hosts[node].voters = Some(electorate),
                Output::KeepVotes(notes) => self.keeps_votes(node, notes),
                Output::Left => left = true,
            }
        }
        self.flush(node);
        let host = &self.hosts[node];
        let checked = self.checker.handled(node, deadline, &host.clock, self.now);
        self.hold(checked);
        if left {
            self.has_left(node);
        } else {
            self.rearm(node, false);
        }
    }

    /// What is started under a lease, or stopped without one, has been declared in the same turn.
    fn must_be_explained(&mut self, node: usize, action: Action, decided: &[Decision]) {
        let wanted = match action {
            Action::Start { group, until: Some(_), adopt: false, .. } => {
                decided.iter().any(|decision| matches!(decision, Decision::Acquired { group: acquired, .. } if *acquired == group))
            }
            // A process that goes on gives the orders again that the one before it gave.
            Action::Stop { group, why: StopReason::LeaseLost, .. } => {
                let held = self.checker.group(group).is_some_and(|group| self.checker.hold(node, group).is_some());
                !held || decided.iter().any(|decision| matches!(decision, Decision::Lost { group: lost } if *lost == group))
            }
            _ => true,
        };
        if !wanted {
            self.fail(format!("node {node} orders {action:?} and does not say why"));
        }
    }

    fn rearm(&mut self, node: usize, always: bool) {
        let late = match self.random.random::<u32>() {
            draw if draw % 64 == 0 => u64::from(draw >> 6) % (MILLISECOND * 8 / 10),
            draw => u64::from(draw >> 6) % 60_000,
        };
        let now = self.now;
        let host = &mut self.hosts[node];
        if host.core.is_none() || host.paused {
            host.timer = NEVER;
            return;
        }
        let due = host.clock.instant(host.deadline).max(now);
        // An unchanged deadline keeps its delay, or a stream of events could put the timer off for ever.
        if always || host.timer < due || host.timer > due + MILLISECOND {
            host.timer = due.saturating_add(late);
        }
    }
}
