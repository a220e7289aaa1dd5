//! Where the votes are, by what nodes say and do; the disk on which a node notes it; and a cluster that is shut down node by node.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use drcm::model::{Ballot, BootId, Event, Heartbeat, NodeId, Order, VoteNote, VoteNotes};
use rand::Rng;

use super::{
    clock::{Instant, MILLISECOND, NEVER, SECOND, span},
    queue::What,
    setup::{self, part},
    speech::Speech,
    world::World,
};

/// Where each vote is.
pub struct VoteBook {
    nodes: Vec<NodeId>,
    /// By vote: the nodes that say they have it.
    has: Vec<BTreeSet<usize>>,
    /// By vote: the nodes that have granted something with it, and not said since that they have it no longer.
    grants: Vec<BTreeSet<usize>>,
}

impl VoteBook {
    /// Every vote is at home, and nobody has said so.
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes: (0..nodes).map(|node| NodeId::of(&format!("node{}", node + 1))).collect(),
            has: vec![BTreeSet::new(); nodes],
            grants: vec![BTreeSet::new(); nodes],
        }
    }

    /// The vote of this voter.
    pub fn vote(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| *node == id)
    }

    /// Whether a node says that it has a vote.
    pub fn has(&self, node: usize, vote: usize) -> bool {
        self.has[vote].contains(&node)
    }

    /// Somebody says that he has it.
    pub fn is_somewhere(&self, vote: usize) -> bool {
        !self.has[vote].is_empty()
    }

    /// The vote is at home and nowhere else.
    pub fn is_home(&self, vote: usize) -> bool {
        self.has[vote].len() == 1 && self.has[vote].contains(&vote)
    }

    /// A node says in a heartbeat which votes it has.
    pub fn says(&mut self, node: usize, ballot: Option<&Ballot>) {
        // One that knows nothing of lent votes has its own.
        let held: Vec<usize> =
            ballot.map_or_else(|| vec![node], |ballot| ballot.votes.iter().filter_map(|held| self.vote(held.vote)).collect());
        for vote in 0..self.nodes.len() {
            if held.contains(&vote) {
                self.has[vote].insert(node);
            } else {
                self.passes(node, vote);
            }
        }
    }

    /// A node gives a vote away.
    pub fn passes(&mut self, node: usize, vote: usize) {
        self.has[vote].remove(&node);
        self.grants[vote].remove(&node);
    }

    /// A process that takes the place of another has what that had noted.
    pub fn resumes(&mut self, node: usize, vote: usize) {
        self.has[vote].insert(node);
    }

    /// The process of a node is gone.
    pub fn gone(&mut self, node: usize) {
        (0..self.nodes.len()).for_each(|vote| self.passes(node, vote));
    }

    /// A node grants something with a vote: no other may have it.
    pub fn grants(&mut self, node: usize, vote: usize) -> Result<(), String> {
        self.grants[vote].insert(node);
        if self.grants[vote].len() > 1 {
            return Err(format!("node {node} grants with the vote of node {vote}, which others grant with too: {:?}", self.grants[vote]));
        }
        Ok(())
    }
}

/// What a machine has noted about votes.
#[derive(Debug, Default)]
pub struct Disk {
    /// On disk.
    pub notes: Option<Vec<VoteNote>>,
    /// On their way to it.
    writing: VecDeque<VoteNotes>,
    /// Votes that were given away from here, and of which the disk was lost and nobody heard since.
    forgotten: BTreeSet<NodeId>,
    /// All that were forgotten when the disk was lost last.
    lost: BTreeSet<NodeId>,
    /// The machine is set up anew before it is a node again.
    pub wiped: bool,
    /// When the process began.
    pub began: Instant,
    /// Some were, and not all were heard of in the silence of the node: so long, nothing is sure.
    pub amnesia: Instant,
}

impl World {
    /// A core has something noted.
    pub fn keeps_votes(&mut self, node: usize, notes: VoteNotes) {
        let longest = if self.faults.slow(node) { 2 * SECOND } else { 12 * MILLISECOND };
        let after = self.random.random_range(MILLISECOND / 10..longest);
        let serial = notes.serial;
        let host = &mut self.hosts[node];
        host.votes.writing.push_back(notes);
        let boot = host.boot;
        self.queue.push(self.now + after, What::Noted { node: node as u8, boot, serial });
    }

    /// It is on disk.
    pub fn noted(&mut self, node: usize, boot: BootId, serial: u64) {
        let host = &mut self.hosts[node];
        if host.core.is_none() || host.boot != boot {
            return;
        }
        let disk = &mut host.votes;
        let Some(at) = disk.writing.iter().position(|notes| notes.serial == serial) else { return };
        disk.notes = disk.writing.drain(..=at).next_back().map(|notes| notes.votes);
        let notes = format!("n{node} has on disk {serial}: {:?}", disk.notes);
        self.log(|| notes);
        self.tell(node, Event::VotesKept { serial });
    }

    /// A process ends: what it was writing may be on disk or not.
    pub fn stops_writing(&mut self, node: usize) {
        let lands = self.random.random_bool(0.5);
        let disk = &mut self.hosts[node].votes;
        if let Some(notes) = disk.writing.pop_front().filter(|_| lands) {
            disk.notes = Some(notes.votes);
        }
        disk.writing.clear();
    }

    /// The disk of a machine is lost.
    pub fn loses_notes(&mut self, node: usize) {
        let disk = &mut self.hosts[node].votes;
        disk.forgotten.extend(disk.notes.take().iter().flatten().filter(|note| !note.held).map(|note| note.vote));
        if !disk.forgotten.is_empty() {
            disk.lost = disk.forgotten.clone();
            disk.amnesia = NEVER;
        }
    }

    /// A node that lost its notes hears where a vote is that it had given away: from then on it must not grant with it.
    pub fn learns_of_votes(&mut self, node: usize, from: NodeId, heartbeat: &Heartbeat) {
        let now = self.now;
        // It hears nobody else.
        if self.hosts[node].config.node(from).is_none() {
            return;
        }
        let lease = span(self.setup.longest_lease());
        let host = &mut self.hosts[node];
        for held in heartbeat.ballot.iter().flat_map(|ballot| &ballot.votes) {
            host.votes.forgotten.remove(&held.vote);
        }
        // It may have lent it again before it heard of it: then two have it, each by its notes.
        let lost: Vec<NodeId> = host.votes.lost.iter().copied().collect();
        if self.hosts[node].votes.forgotten.is_empty() && lost.iter().all(|vote| self.noted_by(*vote) < 2) {
            let host = &mut self.hosts[node];
            let in_time = now < host.votes.began + span(setup::longest(&host.config));
            host.votes.amnesia = if in_time { 0 } else { now + 3 * lease };
        }
    }

    /// How many have a vote by their notes.
    fn noted_by(&self, vote: NodeId) -> usize {
        let has = |node: &usize| {
            let host = &self.hosts[*node];
            let note = host.votes.notes.iter().flatten().find(|note| note.vote == vote);
            note.map_or(host.id == vote, |note| note.held)
        };
        (0..self.setup.count()).filter(has).count()
    }

    /// A vote that is in no machine's notes has to be made anew, which takes time.
    pub fn votes_are_lost(&self) -> bool {
        let voters = &self.setup.memberships[self.schedule.layout()].voters;
        voters.iter().any(|vote| {
            let id = self.hosts[*vote].id;
            !voters.iter().any(|node| {
                let note = self.hosts[*node].votes.notes.iter().flatten().find(|note| note.vote == id);
                note.map_or(node == vote, |note| note.held)
            })
        })
    }

    /// With all nodes up and no fault in force for long enough, every vote is at home.
    pub fn all_votes_must_be_home(&mut self) {
        // A vote that is lost is made anew when all have said that they have not got it, and older versions say nothing.
        if self.hosts.iter().any(|host| host.speech == Speech::Before) {
            return;
        }
        for vote in self.setup.memberships[self.schedule.layout()].voters.clone() {
            if !self.checker.votes.is_home(vote) {
                self.fail(format!("the vote of node {vote} is not at home although no fault has been in force for long enough"));
            }
        }
    }

    /// All nodes but one leave, one after another.
    pub fn shuts_down(&mut self, survivor: usize, number: u32, length: Instant) -> bool {
        let count = self.setup.count();
        let layout = self.hosts[survivor].layout;
        let membership = &self.setup.memberships[layout];
        let listed: Vec<usize> = (0..count).filter(|node| membership.listed[*node]).collect();
        let ready = |node: &usize| {
            let host = &self.hosts[*node];
            self.runs(*node) && !host.leaving && !host.standby && host.layout == layout
        };
        if self.setup.pair || !listed.iter().all(ready) || !membership.voters.contains(&survivor) {
            return false;
        }
        let mut others: Vec<usize> = listed.into_iter().filter(|node| *node != survivor).collect();
        let gap = [0, 2 * MILLISECOND, length / 2 / count as u64][self.faults.random.random_range(0..3)];
        let mut at = self.now;
        while !others.is_empty() {
            let node = others.swap_remove(self.faults.random.random_range(0..others.len()));
            self.hosts[node].stays_away = true;
            self.queue.push(at, What::LeaveNow { node: node as u8, fault: number });
            at += gap + if gap > 0 { self.faults.random.random_range(0..gap / 2 + 1) } else { 0 };
        }
        true
    }

    /// Whoever was shut down starts again.
    pub fn starts_up(&mut self) {
        let lease = self.longest_lease_now();
        let at_once = self.faults.random.random_bool(0.5);
        for node in 0..self.setup.count() {
            if !std::mem::take(&mut self.hosts[node].stays_away) || self.hosts[node].core.is_some() {
                continue;
            }
            let after = if at_once { 0 } else { part(lease, 0.0, 2.0, &mut self.faults.random) };
            let life = self.hosts[node].life;
            self.queue.push(self.now + after, What::Restart { node: node as u8, life });
        }
    }

    /// The turn of one node to leave.
    pub fn leaves_now(&mut self, node: usize) {
        if self.runs(node) && !self.hosts[node].leaving && self.hosts[node].stays_away {
            self.leave(node);
        }
    }

    /// All nodes but one have left cleanly and nothing else went wrong: that one runs everything it may run.
    pub fn the_last_must_run_all(&mut self, survivor: usize) {
        let alone =
            (0..self.setup.count()).all(|node| node == survivor || (self.hosts[node].core.is_none() && self.hosts[node].stays_away));
        let patient = span(self.longest_lease_now()) * 2 + 6 * SECOND;
        if !alone
            || !self.schedule.is_single()
            || !self.timings_fit()
            || self.faults.settled_for(self.now) < patient
            || self.setup.always.loss > 0
        {
            return;
        }
        let layout = self.hosts[survivor].layout;
        if self.hosts.iter().any(|host| host.layout != layout || host.speech == Speech::Before) {
            return;
        }
        self.stats.last_of_all += 1;
        for group in 0..self.setup.groups.len() {
            let facts = &self.setup.groups[group];
            let mine = facts.leased && facts.candidates[layout].contains(&survivor) && self.hosts[survivor].config.nodes[survivor].active;
            if mine && self.hosts[survivor].failed >> group & 1 == 0 && self.checker.owner(group) != Some(survivor) {
                self.fail(format!("node {survivor} is the last of all, which left cleanly, and does not run group {group}"));
            }
        }
    }

    /// The order to leave, with its own limit of time.
    pub fn longest_passing(&self, node: usize) -> Duration {
        self.hosts[node].config.lease().min(Duration::from_secs(3))
    }

    /// Told to leave.
    pub fn told_to_leave(&mut self, node: usize) {
        self.tell(node, Event::Order(Order::Leave));
    }
}
