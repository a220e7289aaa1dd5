//! Another configuration without a restart: the process reads it and another one takes its place.

use std::collections::BTreeSet;

use drcm::{
    cluster::{Node, Phase},
    model::{Assignment, AssignmentId, Config, GroupId},
};
use rand::Rng;

use super::{clock::MILLISECOND, queue::What, world::World};

/// Between the last thing that a process does and the first one of its successor, at most.
const EXCHANGE: u64 = 40 * MILLISECOND;

impl World {
    /// A daemon is told to read what is its configuration next; false when it has to be started again for that, or is by chance.
    pub fn reloads(&mut self, node: usize) -> bool {
        if !self.reloading.random_bool(0.5) || !self.runs(node) || self.hosts[node].leaving || self.hosts[node].disk_lost {
            return false;
        }
        let host = &self.hosts[node];
        let (before, after) = (&self.setup.memberships[host.layout], &self.setup.memberships[host.next_layout]);
        if before.voters != after.voters || !after.listed[node] || host.next_speech != host.speech {
            return false;
        }
        let next = &self.setup.configs[host.next_timing][host.next_layout];
        let now = host.clock.local(self.now);
        let Some(core) = host.core.as_ref().filter(|core| core.may_part(now).is_ok()) else { return false };
        // What is to end is stopped first; here such a node is started again.
        let running = self.running(node, core);
        if !running.iter().all(|(assignment, leased)| places(next, host.id, *assignment, *leased)) {
            return false;
        }
        let memory = core.part(&running.iter().map(|(assignment, _)| *assignment).collect());
        self.hosts[node].ledger = Some(postcard::to_stdvec(&memory).expect("a memory can be written"));
        self.log(|| format!("n{node} reloads"));
        self.end_daemon(node);
        self.hosts[node].reloads = true;
        let after = self.reloading.random_range(MILLISECOND..EXCHANGE);
        let life = self.hosts[node].life;
        self.queue.push(self.now + after, What::Restart { node: node as u8, life });
        true
    }

    /// What runs on a node, and whether under a lease.
    fn running(&self, node: usize, core: &Node) -> BTreeSet<(AssignmentId, bool)> {
        let host = &self.hosts[node];
        let view = core.view(host.clock.local(self.now));
        let running = view.groups.iter().filter(|group| group.phase == Phase::Running);
        running.flat_map(|group| members(&host.config, group.group).into_iter().map(|member| (member, group.leased))).collect()
    }
}

fn members(config: &Config, group: GroupId) -> Vec<AssignmentId> {
    config.group(group).into_iter().flat_map(|group| &group.assignments).map(Assignment::id).collect()
}

/// The node has it in this configuration as well, under a lease or not.
fn places(config: &Config, node: drcm::model::NodeId, assignment: AssignmentId, leased: bool) -> bool {
    config.groups.iter().any(|group| {
        group.is_leased() == leased && group.candidates.contains(&node) && group.assignments.iter().any(|member| member.id() == assignment)
    })
}
