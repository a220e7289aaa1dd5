//! Which assignments move together.

use std::collections::{HashMap, HashSet};

use crate::model::{Assignment, Group, GroupId, Kind, NodeConfig, NodeId, Resource, ResourceId};

/// Puts every assignment into exactly one group: those with the same home and the same candidates together, but each
/// with a single candidate by itself, so that one that fails does not take others with it. Groups are ordered by home
/// (order of `nodes`), then by their first member; members by [`crate::model::Options::order`], kind, order of `resources`.
#[must_use]
pub fn group(nodes: &[NodeConfig], resources: &[Resource]) -> Vec<Group> {
    let places: HashMap<&ResourceId, (i32, usize)> =
        resources.iter().enumerate().map(|(index, resource)| (&resource.id, (resource.options.order, index))).collect();
    let place = |id: &ResourceId| -> (i32, Kind, usize) {
        let (order, index) = places.get(id).copied().unwrap_or((0, usize::MAX));
        (order, id.kind, index)
    };
    let mut backups: HashMap<&Assignment, Vec<NodeId>> = HashMap::new();
    for node in nodes {
        for assignment in &node.backup {
            let candidates = backups.entry(assignment).or_default();
            if node.id != assignment.home && candidates.last() != Some(&node.id) {
                candidates.push(node.id);
            }
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    for node in nodes {
        let mut listed = HashSet::new();
        let mut members: Vec<Assignment> =
            node.primary.iter().filter(|id| listed.insert(*id)).map(|id| Assignment { home: node.id, resource: id.clone() }).collect();
        members.sort_by_key(|member| place(&member.resource));
        let mut shared: HashMap<Vec<NodeId>, usize> = HashMap::new();
        for member in members {
            let mut candidates = vec![node.id];
            candidates.extend(backups.get(&member).into_iter().flatten());
            match shared.get(&candidates) {
                Some(&index) if candidates.len() > 1 => groups[index].assignments.push(member),
                Some(_) | None => {
                    shared.insert(candidates.clone(), groups.len());
                    groups.push(Group { id: GroupId(0), home: node.id, candidates, assignments: vec![member] });
                }
            }
        }
    }
    for group in &mut groups {
        let members: Vec<_> = group.assignments.iter().map(Assignment::id).collect();
        group.id = GroupId::of(&members);
    }
    groups
}
