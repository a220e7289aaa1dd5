//! The reference executor of one machine, and its kernel: what an order does to resources, and when. An address is bound to
//! its lease by the lifetime that the kernel enforces, whatever becomes of the daemon.

use std::time::Duration;

use drcm::model::{Event, Generation, Outcome, Takeover, Time};
use rand::Rng;

use super::{
    clock::{Instant, MILLISECOND, NEVER, SECOND, span},
    queue::What,
    world::{Sabotage, World},
};

/// A lifetime ends at least this long before the lease does.
const SHORT: Duration = Duration::from_millis(300);
/// The kernel removes an address within this long after the end of its lifetime.
const REMOVAL: Duration = Duration::from_millis(250);
/// Leases from here on leave room for a lifetime of a whole second even when the answers took their time. Below, one second
/// is used although it may be too long.
const EXACT_FROM: Duration = Duration::from_millis(1_600);

/// What the executor does with one group.
#[derive(Clone, Copy, Debug, Default)]
pub struct Job {
    /// Outdates what was scheduled for an earlier order.
    epoch: u32,
    state: State,
    generation: Generation0,
    /// End of the lease, as last told.
    until: Option<Time>,
    /// What comes next, for this epoch.
    next: Option<What>,
}

type Generation0 = Option<Generation>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    /// Ordered; nothing is up yet.
    Beginning,
    /// Members come up or are up.
    Up,
    Stopping,
}

impl Job {
    /// The daemon is gone, and with it every order.
    pub fn cancel(&mut self) {
        *self = Self { epoch: self.epoch + 1, ..Self::default() };
    }
}

/// An assignment that is active on a machine.
#[derive(Clone, Copy, Debug)]
pub struct Presence {
    /// Outdates the removal scheduled for an earlier lifetime.
    token: u32,
    /// The kernel removes it then, at the latest.
    gone: Instant,
    /// The lifetime may end after the lease: it had to be a whole second.
    coarse: bool,
}

impl World {
    /// A start is ordered.
    pub fn starts(&mut self, node: usize, group: usize, generation: Generation, until: Option<Time>, adopt: bool) {
        let facts = &self.setup.groups[group];
        match until {
            // What is frozen goes on whatever became of its lease.
            Some(until) if adopt && self.setup.freeze => self.checker.relies_on_itself(node, group, until),
            Some(until) => self.relies(node, group, until),
            None if facts.leased => self.fail(format!("node {node} starts group {group} without a lease")),
            None => {}
        }
        let slow = self.faults.slow(node);
        let addresses = self.setup.groups[group].addresses;
        let delay = match (addresses, slow) {
            // What is up already needs a look only.
            _ if adopt => self.random.random_range(10_000..MILLISECOND),
            (true, false) => self.random.random_range(10_000..MILLISECOND / 2),
            (true, true) => self.random.random_range(0..2 * SECOND),
            (false, false) => self.random.random_range(0..5 * MILLISECOND),
            (false, true) => self.random.random_range(0..SECOND),
        };
        let job = &mut self.hosts[node].jobs[group];
        let epoch = job.epoch + 1;
        let next = What::Effect { node: node as u8, group: group as u8, epoch };
        *job = Job { epoch, state: State::Beginning, generation: Some(generation), until, next: Some(next) };
        self.queue.push(self.now + delay, next);
    }

    /// A stop is ordered.
    pub fn stops(&mut self, node: usize, group: usize, generation: Generation) {
        self.checker.lets_go(node, group);
        let slow = self.faults.slow(node);
        let addresses = self.setup.groups[group].addresses;
        // Under the strict regime a stop that takes longer than `stop_timeout` ends in a reset by the watchdog.
        let strict = self.setup.configs[0][0].server.takeover == Takeover::Strict;
        let delay = match (addresses, slow) {
            (true, _) => self.random.random_range(5_000..200_000),
            (false, false) => self.random.random_range(5 * MILLISECOND..200 * MILLISECOND),
            (false, true) if strict => self.random.random_range(5 * MILLISECOND..1_800 * MILLISECOND),
            (false, true) => self.random.random_range(5 * MILLISECOND..5 * SECOND),
        };
        let job = &mut self.hosts[node].jobs[group];
        let epoch = job.epoch + 1;
        let next = What::Finish { node: node as u8, group: group as u8, epoch, outcome: Outcome::Stopped };
        *job = Job { epoch, state: State::Stopping, generation: Some(generation), until: None, next: Some(next) };
        self.queue.push(self.now + delay, next);
    }

    /// A lease was renewed.
    pub fn extends(&mut self, node: usize, group: usize, until: Time) {
        let job = &mut self.hosts[node].jobs[group];
        job.until = Some(job.until.map_or(until, |before| before.max(until)));
        match job.state {
            State::Beginning | State::Idle | State::Stopping => {}
            State::Up => self.keeps_up(node, group),
        }
    }

    /// What was scheduled for an order happens.
    pub fn executes(&mut self, what: What) {
        match what {
            What::Effect { node, group, epoch } => {
                if self.hosts[usize::from(node)].jobs[usize::from(group)].epoch == epoch {
                    self.takes_effect(usize::from(node), usize::from(group));
                }
            }
            What::Finish { node, group, epoch, outcome } => {
                if self.hosts[usize::from(node)].jobs[usize::from(group)].epoch == epoch {
                    self.finishes(usize::from(node), usize::from(group), outcome);
                }
            }
            _ => unreachable!("only orders are executed"),
        }
    }

    /// Drivers are well again: what they are at will be done soon.
    pub fn hurries(&mut self, node: usize) {
        for group in 0..self.setup.groups.len() {
            if let Some(mut next) = self.hosts[node].jobs[group].next {
                if let What::Finish { outcome, .. } = &mut next
                    && *outcome == Outcome::StartFailed
                {
                    *outcome = Outcome::Started;
                }
                let soon = self.random.random_range(0..MILLISECOND);
                self.queue.push(self.now + soon, next);
            }
        }
    }

    /// The kernel's removal is due.
    pub fn expires(&mut self, node: usize, assignment: usize, token: u32) {
        let is_due = self.hosts[node].presence[assignment].is_some_and(|presence| presence.token == token);
        if is_due && self.sabotage != Sabotage::NoKernel {
            self.log(|| format!("n{node} kernel removes assignment {assignment}"));
            if self.runs(node) {
                self.stats.gaps += 1;
                if self.schedule.is_still() {
                    self.fail(format!("no fault was in force, but the kernel removed assignment {assignment} from node {node}"));
                }
            }
            self.takes_down(node, assignment);
        }
    }

    /// The power goes: nothing is active any more.
    pub fn loses_power(&mut self, node: usize) {
        for assignment in 0..self.setup.assignments {
            self.takes_down(node, assignment);
        }
    }

    /// A daemon that starts removes what an earlier life left and its configuration does not give to this node.
    pub fn remove_orphans(&mut self, node: usize) {
        let layout = self.hosts[node].layout;
        let mine: u32 =
            self.setup.groups.iter().filter(|group| group.candidates[layout].contains(&node)).fold(0, |mine, group| mine | group.members);
        for assignment in (0..self.setup.assignments).filter(|assignment| mine >> assignment & 1 == 0) {
            self.takes_down(node, assignment);
        }
    }

    fn takes_effect(&mut self, node: usize, group: usize) {
        let job = &mut self.hosts[node].jobs[group];
        job.state = State::Up;
        job.epoch += 1;
        let epoch = job.epoch;
        self.keeps_up(node, group);
        let fails = self.faults.failing(node);
        let after = match (self.setup.groups[group].addresses, self.faults.slow(node)) {
            (true, _) => self.random.random_range(10_000..200_000),
            (false, false) => self.random.random_range(5 * MILLISECOND..300 * MILLISECOND),
            (false, true) => self.random.random_range(5 * MILLISECOND..5 * SECOND),
        };
        let outcome = if fails { Outcome::StartFailed } else { Outcome::Started };
        let next = What::Finish { node: node as u8, group: group as u8, epoch, outcome };
        self.hosts[node].jobs[group].next = Some(next);
        self.queue.push(self.now + after, next);
    }

    fn finishes(&mut self, node: usize, group: usize, outcome: Outcome) {
        let job = &mut self.hosts[node].jobs[group];
        let Some(generation) = job.generation else { return };
        job.epoch += 1;
        job.next = None;
        match outcome {
            Outcome::Started => {}
            Outcome::StartFailed => {
                job.state = State::Idle;
                self.hosts[node].failed |= 1 << group;
                self.stats.failed_starts += 1;
                // What was started has been stopped again.
                self.checker.lets_go(node, group);
                self.takes_group_down(node, group);
            }
            Outcome::Stopped => {
                job.state = State::Idle;
                self.takes_group_down(node, group);
            }
        }
        self.dispatch(node, Event::Done { group: self.setup.groups[group].id, generation, outcome });
    }

    /// Brings the members up, or renews their lifetime.
    fn keeps_up(&mut self, node: usize, group: usize) {
        let facts = &self.setup.groups[group];
        let (members, addresses) = (facts.members, facts.addresses);
        let until = self.hosts[node].jobs[group].until;
        for assignment in (0..self.setup.assignments).filter(|assignment| members >> assignment & 1 == 1) {
            let before = self.hosts[node].presence[assignment];
            let Some(until) = until.filter(|_| addresses) else {
                if before.is_none() {
                    self.hosts[node].presence[assignment] = Some(Presence { token: 0, gone: NEVER, coarse: false });
                    self.comes_up(node, group, assignment);
                }
                continue;
            };
            if let Some(renewed) = self.lifetime(node, until, before) {
                self.hosts[node].presence[assignment] = Some(renewed);
                let removed = renewed.gone - u64::from(self.random.random_range(0..200_u32)) * MILLISECOND;
                self.queue.push(removed, What::Expire { node: node as u8, assignment: assignment as u8, token: renewed.token });
                if before.is_none() {
                    self.comes_up(node, group, assignment);
                }
            }
        }
    }

    /// The lifetime to set for a lease, if one is to be set now.
    fn lifetime(&mut self, node: usize, until: Time, before: Option<Presence>) -> Option<Presence> {
        // A voter of another configuration may grant less than this node asks for.
        let lease = self.setup.timings.iter().map(|timing| timing.lease()).min().unwrap_or_default();
        let host = &self.hosts[node];
        let interval = host.config.node(host.id).map_or(host.config.server.pace(), |own| own.pace).interval;
        let clock = self.hosts[node].clock;
        let now = clock.local(self.now);
        let left = until.since(now);
        if left.is_zero() {
            return None;
        }
        let whole = left.saturating_sub(SHORT).as_secs();
        let (lifetime, coarse) = match whole {
            0 if lease < EXACT_FROM => (Duration::from_secs(1), true),
            0 => return None,
            whole => (Duration::from_secs(whole), false),
        };
        if let Some(before) = before {
            let remains = before.gone.saturating_sub(self.now);
            if remains > span(lifetime / 2 + interval + REMOVAL) {
                return None;
            }
        }
        let token = self.token();
        Some(Presence { token, gone: clock.instant(now + lifetime + REMOVAL), coarse })
    }

    fn comes_up(&mut self, node: usize, group: usize, assignment: usize) {
        self.log(|| format!("n{node} has assignment {assignment} active"));
        let others = self.checker.activate(node, assignment);
        let strict = self.setup.configs[0][0].server.takeover == Takeover::Strict;
        let exclusive = self.setup.groups[group].leased && (self.setup.groups[group].addresses || strict);
        if exclusive {
            for other in others.iter() {
                let frozen = self.is_frozen(other, assignment) || self.is_frozen(node, assignment);
                if !self.excused(other, assignment) && !frozen && !self.are_apart(node, other) {
                    self.fail(format!("assignment {assignment} becomes active on node {node} while it is active on node {other}"));
                }
                self.stats.excused += 1;
            }
        }
        self.taken(node, assignment);
    }

    /// By the operator's wish an owner without a lease goes on.
    fn is_frozen(&self, node: usize, assignment: usize) -> bool {
        self.setup.freeze && self.checker.surely_has(node, self.hosts[node].boot, assignment, self.now) <= self.now
    }

    /// The nodes of a pair may both be owners while they do not hear each other, and until they have settled who keeps it.
    fn are_apart(&self, node: usize, other: usize) -> bool {
        let enough = 3 * span(self.longest_lease_now()) + 2 * SECOND;
        let together = |node: usize| self.runs(node) && self.now - self.hosts[node].resumed > enough;
        self.setup.pair && !(self.faults.are_quiet_for(enough, self.now) && together(node) && together(other))
    }

    /// Whether two owners are what cluster.md allows: the daemon of one cannot act, and the kernel was told whole seconds
    /// that are longer than the lease; or (strict services) there is no watchdog here to reset the machine.
    fn excused(&self, node: usize, assignment: usize) -> bool {
        let host = &self.hosts[node];
        let Some(presence) = host.presence[assignment] else { return false };
        // Just continued: the stop it has ordered takes some microseconds.
        let just_continued = self.now - host.resumed < MILLISECOND;
        let helpless = !self.runs(node) || just_continued;
        if presence.gone == NEVER {
            // A service that goes on without its daemon, or whose stop was ordered late for that reason.
            let late = span(host.config.server.stop_timeout);
            return helpless || self.now - host.resumed < late;
        }
        helpless && presence.coarse
    }

    fn takes_group_down(&mut self, node: usize, group: usize) {
        let members = self.setup.groups[group].members;
        for assignment in (0..self.setup.assignments).filter(|assignment| members >> assignment & 1 == 1) {
            if self.takes_down(node, assignment) {
                self.given_up(node, group, assignment);
            }
        }
    }

    /// Takes one assignment down; false when it was down.
    fn takes_down(&mut self, node: usize, assignment: usize) -> bool {
        let was_up = self.hosts[node].presence[assignment].take().is_some();
        if was_up {
            self.log(|| format!("n{node} has assignment {assignment} inactive"));
            self.checker.deactivate(node, assignment);
        }
        was_up
    }
}
