//! What a run consists of: the cluster settles, rests, suffers, heals, settles again. Here is what must hold when no fault is
//! in force: every group runs within bounded time, goes home, and then nothing moves.

use std::time::Duration;

use drcm::cluster;
use drcm::model::{Event, NodeId, Order};
use rand::Rng;

use super::{
    clock::{Instant, MILLISECOND, SECOND, span},
    operator::Place,
    queue::What,
    setup,
    world::{Sabotage, World},
};

/// The first rest, before any fault.
const FIRST_REST: Instant = 10 * SECOND;

/// The part of the schedule in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Faults have ended; groups may still be down.
    Settling,
    /// All groups run; some may still go home.
    Homing,
    /// Nothing may move.
    Still,
    /// Faults come, one upon the other or (`single`) each after the last has been overcome.
    Faults { single: bool },
}

/// Where a run stands.
pub struct Schedule {
    phase: Phase,
    cycle: u32,
    /// Layout that all nodes have after the next healing.
    layout: usize,
    layouts: usize,
    /// Timer events of each node when the rest began, and when that was.
    timers: Vec<u64>,
    rest_began: Instant,
    /// Groups that home may still be waiting for, since it did not stay well before: by bit.
    pub restless: u32,
    /// Groups that an operator wanted elsewhere for some time only: by bit.
    pub timed: u32,
    /// Assignments that have been active since the healing, by bit.
    pub ran: u32,
}

impl Schedule {
    /// The schedule of a run.
    pub fn new(layouts: usize) -> Self {
        Self { phase: Phase::Settling, cycle: 0, layout: 0, layouts, timers: Vec::new(), rest_began: 0, restless: 0, timed: 0, ran: 0 }
    }

    /// Whatever happens is done by hand.
    pub fn by_hand(layouts: usize) -> Self {
        Self { phase: Phase::Faults { single: false }, ..Self::new(layouts) }
    }

    /// Nothing may move.
    pub fn is_still(&self) -> bool {
        self.phase == Phase::Still
    }

    /// Faults may come.
    pub fn has_faults(&self) -> bool {
        matches!(self.phase, Phase::Faults { .. })
    }

    /// Each fault comes alone.
    pub fn is_single(&self) -> bool {
        self.phase == Phase::Faults { single: true }
    }

    /// Number of the round of faults.
    pub fn cycle(&self) -> u32 {
        self.cycle
    }

    /// The layout in force.
    pub fn layout(&self) -> usize {
        self.layout
    }

    /// Number of layouts of the configuration.
    pub fn layouts(&self) -> usize {
        self.layouts
    }
}

impl World {
    /// The first thing that happens: all machines come up.
    pub fn begin(&mut self) {
        for node in 0..self.setup.count() {
            let at = self.random.random_range(0..200 * MILLISECOND);
            self.queue.push(at, What::Restart { node: node as u8, life: 0 });
        }
        self.queue.push(200 * MILLISECOND + self.bound_to_run(), What::Phase);
    }

    /// Longest lease in force at the running nodes.
    pub fn longest_lease_now(&self) -> Duration {
        self.hosts.iter().map(|host| setup::longest(&host.config)).max().expect("there is a node")
    }

    /// After the last fault every group runs within this: start-up silence of the slowest, a lease, some round trips, a start.
    pub fn bound_to_run(&self) -> Instant {
        let silence = span(self.setup.longest_lease()) * 104 / 100 + 10 * MILLISECOND;
        let lease = span(self.longest_lease_now());
        silence + 2 * lease + 40 * self.network.longest_trip() + 4 * span(self.setup.longest_interval()) + SECOND + self.setup.stalls()
    }

    /// And has gone home within this, if home stayed well before.
    fn bound_to_go_home(&self) -> Instant {
        let delay = span(self.setup.configs[0][0].server.failback_delay);
        let lease = span(self.longest_lease_now());
        delay * 102 / 100
            + lease
            + 40 * self.network.longest_trip()
            + 4 * span(self.setup.longest_interval())
            + SECOND
            + self.setup.stalls()
    }

    /// Whether the nodes' timings fit each other, so that progress and stillness can be asked for: every node must hear every
    /// other several times within its own lease time.
    pub fn timings_fit(&self) -> bool {
        let shortest = self.hosts.iter().map(|host| host.config.lease()).min().expect("there is a node");
        let longest = self.hosts.iter().map(|host| host.config.server.keep_alive_interval).max().expect("there is a node");
        shortest >= longest * 3
    }

    /// The next part begins.
    pub fn next_phase(&mut self) {
        let fits = self.timings_fit();
        match self.schedule.phase {
            Phase::Settling => {
                if fits {
                    self.all_must_run();
                }
                self.enter(Phase::Homing, self.bound_to_go_home());
            }
            Phase::Homing => {
                if fits {
                    self.all_must_be_home();
                    self.all_must_be_explained();
                    if !self.setup.pair {
                        self.all_votes_must_be_home();
                    }
                    self.schedule.timers = self.hosts.iter().map(|host| host.timers).collect();
                    self.schedule.rest_began = self.now;
                }
                let rest = if self.schedule.cycle == 0 { FIRST_REST } else { self.setup.rest };
                let more = rest + 20 * SECOND + self.bound_to_run() + self.bound_to_go_home() + self.setup.last_rest;
                let last = self.now + more > self.setup.length;
                match (fits, last) {
                    (true, false) => {
                        self.enter(Phase::Still, rest);
                        if self.sabotage == Sabotage::Restless {
                            self.breaks_a_link();
                        }
                    }
                    // It lasts to the end of the run.
                    (true, true) => self.schedule.phase = Phase::Still,
                    (false, false) => self.begin_faults(),
                    (false, true) => {}
                }
            }
            Phase::Still => self.begin_faults(),
            Phase::Faults { .. } => self.heal(),
        }
    }

    fn enter(&mut self, phase: Phase, length: Instant) {
        self.schedule.phase = phase;
        self.log(|| format!("=== {phase:?}"));
        self.queue.push(self.now + length, What::Phase);
    }

    /// A mistake put in on purpose: an owner loses its link at rest.
    fn breaks_a_link(&mut self) {
        for group in 0..self.setup.groups.len() {
            let facts = &self.setup.groups[group];
            if let Some(owner) = self.checker.owner(group).filter(|_| facts.leased) {
                let id = facts.id;
                self.tell(owner, Event::Fitness { group: id, able: false });
            }
        }
    }

    fn begin_faults(&mut self) {
        self.wakes_must_be_few();
        self.schedule.cycle += 1;
        let single = self.faults.random.random_bool(0.4);
        let room = self.setup.length.saturating_sub(self.now + self.bound_to_run() + self.bound_to_go_home() + self.setup.last_rest);
        let wanted = self.faults.random.random_range(20 * SECOND..150 * SECOND);
        self.enter(Phase::Faults { single }, wanted.min(room.max(5 * SECOND)));
        let cycle = self.schedule.cycle;
        self.queue.push(self.now + 10 * MILLISECOND, What::Fault { cycle });
    }

    /// All faults end.
    fn heal(&mut self) {
        self.end_all_faults();
        self.hosts.iter_mut().for_each(|host| host.stays_away = false);
        let forgetful = self.hosts.iter().any(|host| host.disk_lost || host.votes.amnesia > 0);
        if self.faults.random.random_bool(0.5) {
            self.schedule.layout = self.faults.random.random_range(0..self.schedule.layouts);
        }
        // Timings may stay mixed; lists may not, or nobody could say which groups there are.
        let timing = self.faults.random.random_bool(0.6).then(|| self.faults.random.random_range(0..self.setup.timings.len()));
        for node in 0..self.setup.count() {
            let host = &self.hosts[node];
            let wrong = host.layout != self.schedule.layout || timing.is_some_and(|timing| timing != host.timing);
            if host.paused {
                self.resume(node);
            }
            let host = &mut self.hosts[node];
            if wrong || host.leaving || host.core.is_none() {
                host.next_layout = self.schedule.layout;
                host.next_timing = timing.unwrap_or(host.next_timing);
                if !self.reloads(node) {
                    if self.hosts[node].core.is_some() {
                        self.end_daemon(node);
                    }
                    self.start_daemon(node);
                }
            }
            for group in 0..self.setup.groups.len() {
                let id = self.setup.groups[group].id;
                if self.hosts[node].unfit >> group & 1 == 1 {
                    self.tell(node, Event::Fitness { group: id, able: true });
                }
                if self.hosts[node].failed >> group & 1 == 1 {
                    self.tell(node, Event::Order(Order::Cleanup(id)));
                }
            }
            self.hosts[node].unfit = 0;
            self.hosts[node].failed = 0;
            self.hurries(node);
        }
        self.schedule.ran = 0;
        for assignment in (0..self.setup.assignments).filter(|assignment| self.checker.active(*assignment).count() > 0) {
            self.schedule.ran |= 1 << assignment;
        }
        self.schedule.timed = 0;
        self.will_tidy_up();
        self.queue.push(self.now + self.bound_to_agree(), What::Vouch { cycle: self.schedule.cycle });
        // Votes that nobody has are looked for, made anew and silent for a while.
        let votes = if forgetful || self.votes_are_lost() { 6 * span(self.setup.longest_lease()) } else { 0 };
        self.enter(Phase::Settling, self.bound_to_agree() + self.bound_to_run() + votes);
    }

    /// Every daemon that runs has the same nodes and voters: where one waits for a node that is none of them any more, the operator
    /// answers for that.
    pub fn vouch(&mut self, cycle: u32) {
        if cycle != self.schedule.cycle || !matches!(self.schedule.phase, Phase::Settling) {
            return;
        }
        let listed = &self.setup.memberships[self.schedule.layout].listed;
        let is_gone = |id: &NodeId| self.setup.nodes.iter().position(|node| node == id).is_some_and(|node| !listed[node]);
        let waits = |node: &usize| {
            let host = &self.hosts[*node];
            host.core.as_ref().is_some_and(|core| core.view(host.clock.local(self.now)).awaited.iter().any(is_gone))
        };
        for node in (0..self.setup.count()).filter(waits).collect::<Vec<_>>() {
            self.tell(node, Event::Order(Order::ConfirmVoters));
        }
    }

    /// The candidates of a group that may run it.
    fn able_candidates(&self, group: usize) -> Vec<usize> {
        let candidates = &self.setup.groups[group].candidates[self.schedule.layout];
        candidates.iter().copied().filter(|node| self.setup.is_active(*node)).collect()
    }

    fn all_must_run(&mut self) {
        for group in 0..self.setup.groups.len() {
            let able = self.able_candidates(group);
            let members = self.setup.groups[group].members;
            // It may be on its way home at this very moment: that it has run is enough here.
            if !able.is_empty() && self.schedule.ran & members != members {
                self.fail(format!("group {group} runs nowhere although no fault has been in force for long enough"));
            }
        }
    }

    fn all_must_be_home(&mut self) {
        self.schedule.restless = self.schedule.timed;
        self.all_must_agree();
        for group in 0..self.setup.groups.len() {
            let facts = &self.setup.groups[group];
            let (members, leased) = (facts.members, facts.leased);
            if self.able_candidates(group).is_empty() {
                continue;
            }
            for assignment in (0..self.setup.assignments).filter(|assignment| members >> assignment & 1 == 1) {
                let owners = self.checker.active(assignment).count();
                if leased && owners != 1 && (self.setup.groups[group].addresses || owners == 0) && !facts_empty(self, group) {
                    self.fail(format!("assignment {assignment} is active on {owners} nodes although no fault is in force"));
                }
            }
            let Place::On(home) = self.place(group, &self.able_candidates(group)) else {
                if self.is_mixed() {
                    // It may be on its way, with a delay that has grown.
                    self.schedule.restless |= 1 << group;
                }
                continue;
            };
            let owner = self.checker.owner(group);
            if let Some(owner) = owner.filter(|owner| *owner != home) {
                if self.hosts[owner].sent_home[group] == 0 {
                    self.fail(format!("group {group} is on node {owner} and has not gone to node {home}, where it belongs"));
                }
                self.schedule.restless |= 1 << group;
            }
        }
    }

    /// Each node can say of each group that is down there what it waits for.
    fn all_must_be_explained(&mut self) {
        for node in 0..self.setup.count() {
            let host = &self.hosts[node];
            let Some(view) = host.core.as_ref().map(|core| core.view(host.clock.local(self.now))) else { continue };
            if let Some(group) =
                view.groups.iter().find(|group| group.leased && group.phase == cluster::Phase::Down && group.wait.is_none())
            {
                self.fail(format!("node {node} cannot say why group {} is down there", group.group));
            }
        }
    }

    /// A core at rest needs a few wake-ups per heartbeat interval.
    pub fn wakes_must_be_few(&mut self) {
        if !self.schedule.is_still() {
            return;
        }
        for node in 0..self.setup.count() {
            let host = &self.hosts[node];
            let interval = span(host.config.node(host.id).map_or(host.config.server.pace(), |own| own.pace).interval);
            let intervals = (self.now - self.schedule.rest_began) / interval + 1;
            let wakes = host.timers - self.schedule.timers[node];
            if wakes > intervals * 5 + 50 {
                self.fail(format!("the core of node {node} asked for {wakes} wake-ups in {intervals} heartbeat intervals of rest"));
            }
        }
    }
}

/// No node has this group in the layout in force.
fn facts_empty(world: &World, group: usize) -> bool {
    world.setup.groups[group].candidates[world.schedule.layout].is_empty()
}
