//! What is counted, so that a run that did nothing is visible; and how long resources were down.

use super::{
    clock::{Instant, MILLISECOND, span},
    faults::Kind,
    nodes::Nodes,
    queue::What,
    world::World,
};

/// What an outage was caused by, where one fault alone was in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The owner was cut off.
    Cut,
    /// Its daemon was killed.
    Kill,
    /// Its machine lost power.
    PowerLoss,
    /// Its daemon was stopped (SIGSTOP).
    Pause,
    /// A planned move: leaving, standby, home-coming.
    Planned,
}

impl Outage {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cut, Self::Kill, Self::PowerLoss, Self::Pause, Self::Planned];
}

/// An assignment whose take-over is timed.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    number: u32,
    cause: Outage,
    since: Instant,
    from: usize,
}

/// What one node has sent, and what has reached it: datagrams and bytes, with their headers down to IP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Datagrams sent.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Datagrams received.
    pub received: u64,
    /// Bytes of them.
    pub received_bytes: u64,
}

/// The counters of a run, or of many.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Events handled by cores.
    pub events: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Datagrams lost in a full socket buffer.
    pub overflows: u64,
    /// Simulated time in nanoseconds.
    pub simulated: u64,
    /// Faults by kind.
    pub faults: [u64; Kind::ALL.len()],
    /// Processes that went on where one before them was killed.
    pub resumptions: u64,
    /// Daemons that read another configuration without being started again.
    pub reloads: u64,
    /// Clusters shut down to their last node, which ran everything.
    pub last_of_all: u64,
    /// Runs that ended where a lost disk is not protected.
    pub unprotected: u64,
    /// Leases acquired.
    pub acquisitions: u64,
    /// Assignments that became active on another node than before.
    pub moves: u64,
    /// Starts that failed.
    pub failed_starts: u64,
    /// Overlaps that cluster.md allows: a helpless daemon, and a lifetime of a whole second.
    pub excused: u64,
    /// Times at which the kernel removed an address of a living owner, whose lease lasted.
    pub gaps: u64,
    /// Outages by cause, in nanoseconds.
    pub outages: [Vec<Instant>; 5],
    /// The same, in units of a millionth of the lease time.
    pub relative: [Vec<Instant>; 5],
    /// By assignment: the last owner.
    pub last_owner: Vec<Option<usize>>,
    /// By assignment: the take-over being timed.
    pub watches: Vec<Option<Watch>>,
}

impl Stats {
    /// Adds the counters of another run.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.datagrams += other.datagrams;
        self.overflows += other.overflows;
        self.simulated += other.simulated;
        for (sum, more) in self.faults.iter_mut().zip(other.faults) {
            *sum += more;
        }
        self.resumptions += other.resumptions;
        self.reloads += other.reloads;
        self.last_of_all += other.last_of_all;
        self.unprotected += other.unprotected;
        self.acquisitions += other.acquisitions;
        self.moves += other.moves;
        self.failed_starts += other.failed_starts;
        self.excused += other.excused;
        self.gaps += other.gaps;
        for (sum, more) in self.outages.iter_mut().zip(&other.outages) {
            sum.extend(more);
        }
        for (sum, more) in self.relative.iter_mut().zip(&other.relative) {
            sum.extend(more);
        }
    }

    /// The summary of many runs.
    pub fn summary(&mut self, seeds: u64, wall: std::time::Duration) -> String {
        let mut text = format!(
            "{seeds} seeds, {:.1} simulated hours, {} events, {} datagrams, {:.1} s of wall time ({:.0} ns per event)\n",
            self.simulated as f64 / 3.6e12,
            self.events,
            self.datagrams,
            wall.as_secs_f64(),
            wall.as_nanos() as f64 / self.events.max(1) as f64,
        );
        let faults: Vec<String> = Kind::ALL.iter().map(|kind| format!("{kind:?} {}", self.faults[*kind as usize])).collect();
        text += &format!("faults: {}\n", faults.join(", "));
        text += &format!(
            "last of all {}, unprotected {}, resumed {}, reloaded {}, leases acquired {}, moves {}, failed starts {}, excused overlaps {}, address gaps {}, full sockets {}\n",
            self.last_of_all,
            self.unprotected,
            self.resumptions,
            self.reloads,
            self.acquisitions,
            self.moves,
            self.failed_starts,
            self.excused,
            self.gaps,
            self.overflows
        );
        for cause in Outage::ALL {
            let (absolute, relative) = (&mut self.outages[cause as usize], &mut self.relative[cause as usize]);
            absolute.sort_unstable();
            relative.sort_unstable();
            let at = |sorted: &[Instant], share: usize| sorted.get(sorted.len().saturating_sub(1) * share / 100).copied().unwrap_or(0);
            text += &format!(
                "outage after {cause:?}: {} timed, median {:.2} ms, longest {:.2} ms; in lease times: median {:.3}, longest {:.3}\n",
                absolute.len(),
                at(absolute, 50) as f64 / 1e6,
                at(absolute, 100) as f64 / 1e6,
                at(relative, 50) as f64 / 1e6,
                at(relative, 100) as f64 / 1e6,
            );
        }
        text
    }
}

impl World {
    /// A fault strikes a node: from now on its assignments' take-over is timed, if the fault lasts and comes alone.
    pub fn watch(&mut self, node: usize, cause: Outage, length: Instant) {
        if !self.schedule.is_single() || self.setup.pair || !self.timings_fit() || !self.others_can_take_over(node) {
            return;
        }
        let lease = self.longest_lease_now();
        for assignment in 0..self.setup.assignments {
            if self.checker.active(assignment) != only(node) || !self.has_other_candidate(assignment, node) {
                continue;
            }
            let number = self.token();
            self.stats.watches[assignment] = Some(Watch { number, cause, since: self.now, from: node });
            let by = span(lease) * 103 / 100
                + 2 * span(self.setup.longest_interval()).min(span(lease) / 2)
                + 12 * self.network.longest_trip()
                + 15 * MILLISECOND
                + self.setup.stalls();
            if by < length {
                self.queue.push(self.now + by, What::MustBeTaken { probe: number });
            }
        }
    }

    /// Another fault begins, or all end: what is being timed would mean nothing.
    pub fn forget_watches(&mut self) {
        self.stats.watches.fill(None);
    }

    /// A fault ends before the owner has lost what is timed.
    pub fn forget_kept(&mut self, node: usize) {
        for assignment in 0..self.setup.assignments {
            if self.checker.active(assignment).contains(node) {
                self.stats.watches[assignment] = None;
            }
        }
    }

    /// A take-over is due.
    pub fn must_be_taken(&mut self, probe: u32) {
        let late = self.stats.watches.iter().position(|watch| watch.is_some_and(|watch| watch.number == probe));
        if let Some(assignment) = late {
            let watch = self.stats.watches[assignment];
            self.fail(format!("assignment {assignment} was not taken over in time: {watch:?}"));
        }
    }

    /// An assignment became active.
    pub fn taken(&mut self, node: usize, assignment: usize) {
        self.schedule.ran |= 1 << assignment;
        if self.stats.last_owner[assignment].replace(node).is_some_and(|before| before != node) {
            self.stats.moves += 1;
        }
        let Some(watch) = self.stats.watches[assignment].take() else { return };
        if watch.from == node {
            return;
        }
        let outage = self.now - watch.since;
        // A lost datagram is made up for by the next heartbeat.
        let repair = if self.setup.always.loss > 0 { span(self.setup.longest_lease()) } else { 0 };
        if watch.cause == Outage::Planned && outage > self.longest_move() + repair + self.setup.stalls() {
            self.fail(format!("a planned move took {:.3} ms: {watch:?}", outage as f64 / 1e6));
        }
        self.stats.outages[watch.cause as usize].push(outage);
        self.stats.relative[watch.cause as usize].push(outage * 1_000_000 / span(self.longest_lease_now()).max(1));
    }

    /// How long a planned move may leave an address down: three trips (one more where a voter relays it), a start, and the
    /// grain of timers.
    fn longest_move(&self) -> Instant {
        let trips = if self.setup.relays() { 5 } else { 4 };
        trips * self.network.longest_trip() + 3 * MILLISECOND
    }

    /// An assignment is no longer active, because its group has been stopped.
    pub fn given_up(&mut self, node: usize, group: usize, assignment: usize) {
        // Of an owner that is well, by its own doing, in a network that has come to rest: a planned move begins.
        let planned = self.schedule.is_single() && self.hosts[node].moving >> group & 1 == 1 && !self.network.is_disturbed();
        let settled = self.faults.settled_for(self.now) > 2 * span(self.longest_lease_now());
        let timed = self.stats.watches[assignment].is_none() && self.timings_fit() && self.others_can_take_over(node);
        // One that waits for a vote on its way waits for two disks as well.
        let votes = self.setup.memberships[self.schedule.layout()].voters.iter().all(|vote| self.checker.votes.is_somewhere(*vote));
        if planned && settled && timed && votes && self.has_other_candidate(assignment, node) {
            let number = self.token();
            self.stats.watches[assignment] = Some(Watch { number, cause: Outage::Planned, since: self.now, from: node });
        }
    }

    /// A majority of voters is left without this node, and all agree on what groups there are.
    fn others_can_take_over(&self, node: usize) -> bool {
        let alike = self.hosts.iter().all(|host| host.layout == self.hosts[node].layout);
        if !alike || (0..self.setup.count()).any(|other| self.faults.slow(other)) {
            return false;
        }
        let voters = &self.setup.memberships[self.hosts[node].layout].voters;
        let others = voters.iter().filter(|other| **other != node && self.runs(**other)).count();
        others > voters.len() / 2
    }

    /// Another candidate can run an address.
    fn has_other_candidate(&self, assignment: usize, node: usize) -> bool {
        self.setup.groups.iter().enumerate().any(|(index, group)| {
            let layout = self.hosts[node].layout;
            group.members >> assignment & 1 == 1
                && group.addresses
                && group.candidates[layout].iter().any(|other| {
                    let host = &self.hosts[*other];
                    *other != node
                        && !host.hands_off
                        && self.runs(*other)
                        && host.layout == layout
                        && !host.standby
                        && !host.leaving
                        && self.setup.is_active(*other)
                        && (host.unfit | host.failed) >> index & 1 == 0
                })
        })
    }
}

fn only(node: usize) -> Nodes {
    let mut nodes = Nodes::default();
    nodes.insert(node);
    nodes
}
