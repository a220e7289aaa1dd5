//! The operator: says things on any machine about any machine, at any time; and what must have come of it.

use drcm::model::{Command, Event, Failback, GroupId, Lasts, Record, Stamp, StopReason, Subject, Wish};
use rand::Rng;

use super::{
    clock::{Instant, MILLISECOND, span},
    faults::Kind,
    queue::What,
    speech::Speech,
    world::World,
};

/// Where a group should be once everything is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    On(usize),
    /// Anywhere: an operator's wish ends about now, or nobody wants anything.
    Anywhere,
}

/// Whether a wish is in force.
fn is_live(record: &Record) -> bool {
    record.wish != Wish::Cleared && !matches!(record.lasts, Lasts::Over(_))
}

impl World {
    /// Says a command on one machine. False when its daemon does not take it.
    pub fn says(&mut self, at: usize, command: Command) -> bool {
        let host = &self.hosts[at];
        let now = host.clock.local(self.now);
        let Some(core) = host.core.as_ref().filter(|_| !host.paused) else { return false };
        let draft = match core.draft(command, now) {
            Ok(draft) => draft,
            Err(why) => {
                self.log(|| format!("n{at} does not accept {command:?}: {why}"));
                return false;
            }
        };
        self.log(|| format!("n{at} is told {command:?}: {:?}", draft.outlook));
        // Written down before it is said; the machine may lose power between the two.
        self.keeps(at, draft.keep);
        self.dispatch(at, Event::Wished(draft.records));
        true
    }

    /// The disk of a machine has all that its daemon knows of operators' wishes.
    pub fn keeps(&mut self, node: usize, records: Vec<Record>) {
        let host = &mut self.hosts[node];
        host.standby = records.iter().any(|record| record.subject == Subject::Standby(host.id) && is_live(record));
        host.wishes = records;
    }

    /// A machine with a running daemon, where something can be said.
    fn somewhere(&mut self) -> Option<usize> {
        let running: Vec<usize> =
            (0..self.setup.count()).filter(|node| self.runs(*node) && self.hosts[*node].speech != Speech::Before).collect();
        if running.is_empty() { None } else { Some(running[self.faults.random.random_range(0..running.len())]) }
    }

    /// An operator's command as a fault: at a random machine, about this one or this group.
    pub fn commands(&mut self, kind: Kind, node: usize, group: usize) -> bool {
        let Some(at) = self.somewhere() else { return false };
        let (id, about) = (self.setup.groups[group].id, self.hosts[node].id);
        let random = &mut self.faults.random;
        let command = match kind {
            Kind::Standby => Command::Standby { node: about, on: true },
            Kind::Maintenance => Command::Maintenance { on: true },
            Kind::Move => {
                let for_seconds = if random.random_bool(0.5) { Some(random.random_range(1..60)) } else { None };
                Command::Move { group: id, to: about, for_seconds }
            }
            Kind::Unmove => Command::Unmove { group: id },
            Kind::Failback => Command::Failback { group: id },
            _ => {
                let group = if random.random_bool(0.5) { Some(id) } else { None };
                let node = if random.random_bool(0.5) { Some(about) } else { None };
                Command::Cleanup { group, node }
            }
        };
        self.says(at, command)
    }

    /// The operator takes back a standby or a maintenance, where a daemon runs.
    pub fn takes_back(&mut self, kind: Kind, node: usize) {
        let about = self.hosts[node].id;
        let command = match kind {
            Kind::Standby => Command::Standby { node: about, on: false },
            _ => Command::Maintenance { on: false },
        };
        if let Some(at) = self.somewhere() {
            self.says(at, command);
        }
    }

    /// After the faults all nodes tell each other what they know within this.
    pub fn bound_to_agree(&self) -> Instant {
        // A node that has just started is believed after an exchange; a heartbeat may get lost where the network always loses some; a far
        // link has to be made anew first.
        let stalls = self.setup.stalls();
        12 * span(self.setup.longest_interval()) + 10 * self.network.longest_trip() + 50 * MILLISECOND + stalls
    }

    /// The faults have ended: the operator will see to it that every node takes part again.
    pub fn will_tidy_up(&mut self) {
        let cycle = self.schedule.cycle();
        self.queue.push(self.now + self.bound_to_agree(), What::TidyUp { cycle });
    }

    /// The operator ends standby and maintenance; moves stay as they are.
    pub fn tidies_up(&mut self, cycle: u32) {
        if self.schedule.cycle() != cycle || self.schedule.has_faults() {
            return;
        }
        self.all_must_agree();
        let Some(at) = self.somewhere() else { return };
        let records = self.hosts[at].wishes.clone();
        for record in records.iter().filter(|record| is_live(record)) {
            match record.subject {
                Subject::Maintenance => drop(self.says(at, Command::Maintenance { on: false })),
                Subject::Standby(node) => drop(self.says(at, Command::Standby { node, on: false })),
                Subject::Place(_) | Subject::Cleanup(..) => {}
            }
        }
        for group in 0..self.setup.groups.len() {
            let timed = |record: &&Record| {
                let ended = !is_live(record) && record.wish != Wish::Cleared;
                record.subject == Subject::Place(self.setup.groups[group].id) && (ended || matches!(record.lasts, Lasts::For(_)))
            };
            if records.iter().any(|record| timed(&record)) {
                self.schedule.timed |= 1 << group;
            }
        }
    }

    /// Some nodes are of a version that knows nothing of what operators want.
    pub fn is_mixed(&self) -> bool {
        self.hosts.iter().any(|host| host.speech == Speech::Before)
    }

    /// Without a fault, every node knows the same.
    pub fn all_must_agree(&mut self) {
        if !self.timings_fit() || self.is_mixed() {
            return;
        }
        type Words = Vec<(Subject, Stamp, Wish)>;
        let all: Vec<(usize, Words)> = (0..self.setup.count())
            .filter_map(|node| {
                let host = &self.hosts[node];
                let records = host.core.as_ref()?.wishes(host.clock.local(self.now));
                Some((node, records.iter().map(|record| (record.subject, record.stamp, record.wish)).collect()))
            })
            .collect();
        // A group that comes home just now ends the wish to send it there, which takes a trip to be known.
        let coming_home: Vec<Subject> =
            all.iter().flat_map(|(_, words)| words).filter(|(_, _, wish)| *wish == Wish::Home).map(|(subject, ..)| *subject).collect();
        let all: Vec<(usize, Words)> = all
            .into_iter()
            .map(|(node, words)| (node, words.into_iter().filter(|word| !coming_home.contains(&word.0)).collect()))
            .collect();
        for pair in all.windows(2) {
            if pair[0].1 != pair[1].1 {
                self.fail(format!("no fault was in force, but nodes do not agree on what operators want: {:?} and {:?}", pair[0], pair[1]));
                return;
            }
        }
    }

    /// Where a group should be when everything has been well for long enough.
    pub fn place(&self, group: usize, able: &[usize]) -> Place {
        if self.schedule.timed >> group & 1 == 1 || self.is_mixed() {
            return Place::Anywhere;
        }
        let candidates = &self.setup.groups[group].candidates[self.schedule.layout()];
        let wish = self.wish(self.setup.groups[group].id);
        let wanted = match wish {
            Some(Wish::Prefer(node)) => self.setup.nodes.iter().position(|other| *other == node).filter(|node| candidates.contains(node)),
            Some(Wish::Home | Wish::Cleared | Wish::On) | None => None,
        };
        let home = candidates.first().copied().filter(|_| self.setup.configs[0][0].server.failback == Failback::Auto);
        match wanted.or(home).filter(|node| able.contains(node)) {
            Some(node) => Place::On(node),
            None => Place::Anywhere,
        }
    }

    fn wish(&self, group: GroupId) -> Option<Wish> {
        let host = self.hosts.iter().find(|host| host.core.is_some())?;
        host.wishes.iter().find(|record| record.subject == Subject::Place(group) && is_live(record)).map(|record| record.wish)
    }

    /// An executor that was told to keep its hands off is given a start: only a hand-over that had begun may end so.
    pub fn begins_in_maintenance(&mut self, node: usize, group: usize) {
        let (to, at) = self.hosts[node].handed[group];
        // One that was stopped when it was handed the group hears of it when it goes on.
        let at = at.max(self.hosts[node].resumed);
        let fresh = to && self.now - at < 2 * span(self.setup.longest_lease()) + 20 * self.network.longest_trip();
        if !fresh {
            self.fail(format!("node {node} starts group {group} although it knows of the maintenance"));
        }
    }

    /// The same with a stop: only what the promise of one owner asks for.
    pub fn ends_in_maintenance(&mut self, node: usize, group: usize, why: StopReason) {
        match why {
            StopReason::CleanSlate | StopReason::LeaseLost | StopReason::Leaving | StopReason::PairHealed => {}
            // It stops everything.
            StopReason::Failed if self.hosts[node].leaving => {}
            // A process that goes on says again what the one before it had said.
            _ if self.now - self.hosts[node].resumed < MILLISECOND => {}
            StopReason::HandOver(_) | StopReason::Moved(_) | StopReason::Standby | StopReason::Failed => {
                self.fail(format!("node {node} stops group {group} ({why}) although it knows of the maintenance"));
            }
        }
    }

    /// A node has let go of a group in favour of another.
    pub fn hands_over(&mut self, group: usize, to: drcm::model::NodeId) {
        let now = self.now;
        if let Some(host) = self.hosts.iter_mut().find(|host| host.id == to) {
            host.handed[group] = (true, now);
        }
    }
}
