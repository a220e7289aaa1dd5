//! What goes wrong, drawn from the seed: kind, victim, time and length.

use std::time::Duration;

use drcm::model::{Event, Order};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{
    clock::{Clock, Instant, MILLISECOND, SECOND, span},
    network::{Disturbance, Impairment},
    queue::What,
    setup::{self, part},
    stats::Outage,
    world::World,
};

/// Every kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Some datagrams are lost.
    Loss,
    /// Some datagrams come twice.
    Duplication,
    /// Some datagrams are held up, and overtaken by later ones.
    Delay,
    /// One machine is cut off.
    Cut,
    /// Nothing gets through in one direction.
    OneWay,
    /// Two machines do not hear each other but hear all others.
    Partial,
    /// The network falls into two.
    Split,
    /// The daemon is killed and started again later.
    Kill,
    /// The machine loses power and boots later; what it has on disk is there.
    PowerLoss,
    /// The same, and what it had on disk is gone.
    DiskLoss,
    /// The daemon is stopped for a while (SIGSTOP).
    Pause,
    /// Starts and stops take seconds.
    SlowDrivers,
    /// Starts fail.
    FailingStarts,
    /// The operator's standby.
    Standby,
    /// The daemon is told to leave, and started again.
    Leave,
    /// All daemons but one are told to leave, one after another, and started again together.
    ShutDown,
    /// The daemon is started again with another keep-alive interval or dead node count.
    NewTiming,
    /// The daemon is started again with other lists of backups.
    NewLayout,
    /// A group's link is down on one machine.
    Unfit,
    /// The operator's cleanup, asked for without need.
    Cleanup,
    /// The connections of one machine break, where it has any.
    Reset,
    /// The operator's maintenance.
    Maintenance,
    /// The operator moves a group, for a while or for good.
    Move,
    /// The operator takes a move back.
    Unmove,
    /// The operator sends a group home.
    Failback,
    /// The daemon is started again in the next protocol version; in the seeds of a rolling upgrade only.
    Upgrade,
}

/// Kinds that befall any cluster.
const COMMON: usize = Kind::ALL.len() - 2;

impl Kind {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::Loss,
        Self::Duplication,
        Self::Delay,
        Self::Cut,
        Self::OneWay,
        Self::Partial,
        Self::Split,
        Self::Kill,
        Self::PowerLoss,
        Self::DiskLoss,
        Self::Pause,
        Self::SlowDrivers,
        Self::FailingStarts,
        Self::Standby,
        Self::Leave,
        Self::ShutDown,
        Self::NewTiming,
        Self::NewLayout,
        Self::Unfit,
        Self::Cleanup,
        Self::Maintenance,
        Self::Move,
        Self::Unmove,
        Self::Failback,
        Self::Reset,
        Self::Upgrade,
    ];
}

/// Share of upgrades among the faults of a rolling upgrade.
const UPGRADES: f64 = 0.1;
/// Share of changed lists among the faults where nodes or voters differ between the lists.
const MEMBERS: f64 = 0.3;

#[derive(Clone, Copy, Debug)]
struct Ongoing {
    number: u32,
    kind: Kind,
    node: usize,
    group: usize,
}

/// Faults in force.
pub struct Faults {
    /// For what goes wrong.
    pub random: ChaCha8Rng,
    ongoing: Vec<Ongoing>,
    numbers: u32,
    /// When last a fault began or ended, other than by an order.
    changed: Instant,
}

impl Faults {
    /// None yet.
    pub fn new(random: ChaCha8Rng) -> Self {
        Self { random, ongoing: Vec::new(), numbers: 0, changed: 0 }
    }

    /// Starts and stops take seconds on this node.
    pub fn slow(&self, node: usize) -> bool {
        self.has(Kind::SlowDrivers, node)
    }

    /// Starts fail on this node, this one among them.
    pub fn failing(&mut self, node: usize) -> bool {
        self.has(Kind::FailingStarts, node) && self.random.random_bool(0.8)
    }

    /// No fault has been in force for so long, orders included.
    pub fn are_quiet_for(&self, time: Instant, now: Instant) -> bool {
        self.ongoing.is_empty() && self.settled_for(now) > time
    }

    /// Nothing has changed for so long, save by orders.
    pub fn settled_for(&self, now: Instant) -> Instant {
        now.saturating_sub(self.changed)
    }

    /// A fault is in force.
    pub fn is_on(&self, number: u32) -> bool {
        self.ongoing.iter().any(|fault| fault.number == number)
    }

    fn has(&self, kind: Kind, node: usize) -> bool {
        self.ongoing.iter().any(|fault| fault.kind == kind && fault.node == node)
    }
}

impl World {
    /// The next fault of a round begins.
    pub fn next_fault(&mut self, cycle: u32) {
        if !self.schedule.has_faults() || self.schedule.cycle() != cycle {
            return;
        }
        let lease = self.longest_lease_now();
        let resets = self.setup.has_far() && self.faults.random.random_bool(0.15);
        let upgrades = self.setup.upgrades() && self.faults.random.random_bool(UPGRADES);
        let kind = match (resets, upgrades) {
            (true, _) => Kind::Reset,
            (false, true) => Kind::Upgrade,
            (false, false) if self.setup.changes_members() && self.faults.random.random_bool(MEMBERS) => Kind::NewLayout,
            (false, false) => Kind::ALL[self.faults.random.random_range(0..COMMON)],
        };
        let length = self.length_of(kind, lease);
        let ends = self.begin_fault(kind, length);
        let gap = if self.schedule.is_single() {
            // All is overcome and at home again, mostly, before the next.
            ends.saturating_sub(self.now) + self.bound_to_run() + part(lease, 0.0, 2.0, &mut self.faults.random)
        } else {
            part(lease, 0.02, 1.5, &mut self.faults.random).min(20 * SECOND) + self.faults.random.random_range(0..200 * MILLISECOND)
        };
        self.queue.push(self.now + gap, What::Fault { cycle });
    }

    fn length_of(&mut self, kind: Kind, lease: Duration) -> Instant {
        let random = &mut self.faults.random;
        match kind {
            Kind::FailingStarts | Kind::SlowDrivers => part(lease, 1.0, 8.0, random) + random.random_range(0..10 * SECOND),
            // Long enough that even the last has left, and that the one who stays is looked at.
            Kind::ShutDown => part(lease, 6.0, 12.0, random) + random.random_range(8 * SECOND..20 * SECOND),
            _ => match random.random_range(0..5) {
                0 => part(lease, 0.0, 0.5, random),
                1 => part(lease, 0.5, 1.1, random),
                2 => part(lease, 1.0, 2.5, random),
                3 => part(lease, 2.0, 6.0, random),
                _ => part(lease, 0.5, 3.0, random) + random.random_range(0..5 * SECOND),
            },
        }
    }

    /// Begins a fault; returns when it ends.
    fn begin_fault(&mut self, kind: Kind, length: Instant) -> Instant {
        let count = self.setup.count();
        let node = self.faults.random.random_range(0..count);
        let group = self.faults.random.random_range(0..self.setup.groups.len());
        self.faults.numbers += 1;
        let number = self.faults.numbers;
        if !self.strikes(kind, number, node, group, length) {
            return self.now;
        }
        self.log(|| format!("*** fault {number}: {kind:?} of n{node} for {:.3} s", length as f64 / 1e9));
        self.stats.faults[kind as usize] += 1;
        if !matches!(kind, Kind::Leave | Kind::Standby | Kind::Move | Kind::Unmove | Kind::Failback) {
            self.faults.changed = self.now;
        }
        self.faults.ongoing.push(Ongoing { number, kind, node, group });
        self.queue.push(self.now + length, What::Undo { fault: number });
        self.now + length
    }

    /// Does what a fault does; false when it cannot befall this victim now.
    fn strikes(&mut self, kind: Kind, number: u32, node: usize, group: usize, length: Instant) -> bool {
        let count = self.setup.count();
        let exists = self.hosts[node].core.is_some();
        let runs = self.runs(node) && !self.hosts[node].leaving;
        self.forget_watches();
        match kind {
            Kind::Loss | Kind::Duplication | Kind::Delay => {
                let impairment = self.impairment(kind);
                self.network.disturb(number, Disturbance::Impair(impairment));
            }
            Kind::Cut => {
                self.watch(node, Outage::Cut, length);
                let pairs = (0..count).filter(|other| *other != node).flat_map(|other| [(node, other), (other, node)]).collect();
                self.network.disturb(number, Disturbance::Block(pairs));
            }
            Kind::OneWay => {
                let other = (node + self.faults.random.random_range(1..count)) % count;
                let others = (0..count).filter(|other| *other != node);
                let pairs = match self.faults.random.random_range(0..3) {
                    0 => vec![(node, other)],
                    1 => others.map(|other| (node, other)).collect(),
                    _ => others.map(|other| (other, node)).collect(),
                };
                self.network.disturb(number, Disturbance::Block(pairs));
            }
            Kind::Partial => {
                let other = (node + self.faults.random.random_range(1..count)) % count;
                self.network.disturb(number, Disturbance::Block(vec![(node, other), (other, node)]));
            }
            Kind::Split => {
                let sides: Vec<bool> = (0..count).map(|_| self.faults.random.random_bool(0.5)).collect();
                let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b))).filter(|(a, b)| sides[*a] != sides[*b]).collect();
                self.network.disturb(number, Disturbance::Block(pairs));
            }
            Kind::Kill => {
                if !exists {
                    return false;
                }
                self.watch(node, Outage::Kill, length);
                self.kill_daemon(node);
            }
            Kind::PowerLoss | Kind::DiskLoss => {
                self.watch(node, Outage::PowerLoss, length);
                self.end_daemon(node);
                self.loses_power(node);
                let host = &mut self.hosts[node];
                host.ledger = None;
                // The clock of a machine that boots starts anew. Its rate stays: it is the machine's crystal.
                host.clock = Clock::new(self.now, self.faults.random.random_range(0..SECOND), host.clock.fast());
                host.disk_lost |= kind == Kind::DiskLoss;
            }
            Kind::Pause => {
                if !self.runs(node) {
                    return false;
                }
                self.watch(node, Outage::Pause, length);
                self.pause(node);
            }
            Kind::Reset => self.network.reset(node, self.now),
            Kind::SlowDrivers | Kind::FailingStarts => {}
            Kind::Leave => {
                if !runs {
                    return false;
                }
                self.leave(node);
            }
            Kind::ShutDown => return self.shuts_down(node, number, length),
            Kind::NewTiming | Kind::NewLayout => {
                let (timings, layouts) = (self.setup.timings.len(), self.schedule.layouts());
                if kind == Kind::NewTiming && timings > 1 {
                    self.hosts[node].next_timing = self.faults.random.random_range(0..timings);
                } else if kind == Kind::NewLayout && layouts > 1 {
                    self.hosts[node].next_layout = self.faults.random.random_range(0..layouts);
                } else {
                    return false;
                }
                let leaves = runs && self.faults.random.random_bool(0.5);
                if self.reloads(node) {
                    return true;
                }
                if leaves {
                    self.leave(node);
                } else if exists {
                    self.kill_daemon(node);
                }
            }
            Kind::Upgrade => {
                if self.hosts[node].next_speech == self.setup.speeches.1 {
                    return false;
                }
                self.hosts[node].next_speech = self.setup.speeches.1;
                if runs && self.faults.random.random_bool(0.5) {
                    self.leave(node);
                } else if exists {
                    self.end_daemon(node);
                }
            }
            Kind::Unfit => {
                let candidate = self.setup.groups[group].candidates[self.hosts[node].layout].contains(&node);
                if !runs || !candidate || self.hosts[node].unfit >> group & 1 == 1 {
                    return false;
                }
                self.hosts[node].unfit |= 1 << group;
                let id = self.setup.groups[group].id;
                self.tell(node, Event::Fitness { group: id, able: false });
            }
            Kind::Standby | Kind::Cleanup | Kind::Maintenance | Kind::Move | Kind::Unmove | Kind::Failback => {
                return self.commands(kind, node, group);
            }
        }
        true
    }

    fn impairment(&mut self, kind: Kind) -> Impairment {
        let lease = span(self.longest_lease_now());
        let random = &mut self.faults.random;
        let share = [10_000, 50_000, 200_000, 500_000, 800_000][random.random_range(0..5)];
        match kind {
            Kind::Loss => Impairment { loss: share, ..Impairment::default() },
            Kind::Duplication => Impairment { duplicate: share, ..Impairment::default() },
            _ => {
                let longest = match random.random_range(0..3) {
                    0 => 5 * MILLISECOND,
                    1 => lease / 2,
                    _ => lease * 3,
                };
                Impairment { delay: share, longest, ..Impairment::default() }
            }
        }
    }

    /// A fault ends.
    pub fn undo(&mut self, number: u32) {
        let Some(at) = self.faults.ongoing.iter().position(|fault| fault.number == number) else { return };
        let fault = self.faults.ongoing.remove(at);
        self.log(|| format!("*** fault {number} ends: {:?} of n{}", fault.kind, fault.node));
        let node = fault.node;
        if fault.kind == Kind::ShutDown {
            self.the_last_must_run_all(node);
            self.starts_up();
        }
        self.faults.changed = self.now;
        self.forget_kept(node);
        match fault.kind {
            Kind::Loss | Kind::Duplication | Kind::Delay | Kind::Cut | Kind::OneWay | Kind::Partial | Kind::Split => {
                self.network.heal(number);
            }
            Kind::Kill | Kind::PowerLoss | Kind::DiskLoss | Kind::NewTiming | Kind::NewLayout | Kind::Upgrade => {
                if self.hosts[node].core.is_none() {
                    self.start_daemon(node);
                }
            }
            Kind::Pause => self.resume(node),
            Kind::Standby | Kind::Maintenance => self.takes_back(fault.kind, node),
            Kind::Unfit => {
                if self.hosts[node].unfit >> fault.group & 1 == 1 {
                    self.hosts[node].unfit &= !(1 << fault.group);
                    let id = self.setup.groups[fault.group].id;
                    self.tell(node, Event::Fitness { group: id, able: true });
                }
            }
            Kind::SlowDrivers
            | Kind::FailingStarts
            | Kind::Leave
            | Kind::ShutDown
            | Kind::Cleanup
            | Kind::Move
            | Kind::Unmove
            | Kind::Failback
            | Kind::Reset => {}
        }
        if self.schedule.is_single() && self.faults.ongoing.is_empty() {
            self.clean_up_failures();
        }
    }

    /// Every fault in force ends. What they did to daemons is for the healing to mend.
    pub fn end_all_faults(&mut self) {
        for fault in std::mem::take(&mut self.faults.ongoing) {
            self.network.heal(fault.number);
        }
        self.forget_watches();
    }

    /// A daemon is told to leave, and will be started again when it has.
    pub fn leave(&mut self, node: usize) {
        self.hosts[node].leaving = true;
        let life = self.hosts[node].life;
        // Its slowest stop takes 5 s, and is begun anew when the lease ends meanwhile; nothing else may hold it up but that lease.
        let by = self.now
            + 11 * SECOND
            + span(self.longest_passing(node)) * 102 / 100
            + span(setup::longest(&self.hosts[node].config)) * 11 / 10;
        self.queue.push(by, What::MustHaveLeft { node: node as u8, life });
        self.told_to_leave(node);
    }

    /// A daemon has left: it is started again in a while.
    pub fn restart_after_leaving(&mut self, node: usize) {
        let lease = self.longest_lease_now();
        let after = part(lease, 0.0, 2.0, &mut self.faults.random);
        let life = self.hosts[node].life;
        self.queue.push(self.now + after, What::Restart { node: node as u8, life });
    }

    /// What an operator does after failed starts.
    fn clean_up_failures(&mut self) {
        for node in 0..self.setup.count() {
            for group in 0..self.setup.groups.len() {
                if self.hosts[node].failed >> group & 1 == 1 {
                    self.hosts[node].failed &= !(1 << group);
                    let id = self.setup.groups[group].id;
                    self.tell(node, Event::Order(Order::Cleanup(id)));
                }
            }
        }
    }

    /// Tells a daemon something from its own machine; a stopped one hears it when it goes on.
    pub fn tell(&mut self, node: usize, event: Event) {
        if self.hosts[node].paused {
            self.hosts[node].waiting.push(event);
        } else {
            self.dispatch(node, event);
        }
    }
}
