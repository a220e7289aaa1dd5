//! Which assignments move together.

use std::collections::{HashMap, HashSet};

use crate::model::{Assignment, Group, GroupId, Kind, NodeConfig, NodeId, Resource, ResourceId};

/// Puts every assignment into exactly one group: those with the same home and the same candidates together, but each
/// with a single candidate by itself, so that one that fails does not take others with it; only a file system that lies on
/// another one goes with that, since it would be covered when it was mounted first. Groups are ordered by home
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
        let file_system = |member: &Assignment| resources.iter().find(|resource| resource.id == member.resource)?.file_system();
        let first = groups.len();
        for member in members {
            let mut candidates = vec![node.id];
            candidates.extend(backups.get(&member).into_iter().flatten());
            let mut assignments = vec![member];
            if candidates.len() == 1 {
                let mounted = file_system(&assignments[0]);
                let touches = |other: &Assignment| {
                    let (Some(mounted), Some(other)) = (mounted, file_system(other)) else { return false };
                    mounted.lies_on(other) || other.lies_on(mounted)
                };
                for group in groups[first..].iter_mut().filter(|group| group.candidates.len() == 1) {
                    if group.assignments.iter().any(touches) {
                        assignments.append(&mut group.assignments);
                    }
                }
                assignments.sort_by_key(|member| place(&member.resource));
            } else if let Some(&index) = shared.get(&candidates) {
                groups[index].assignments.append(&mut assignments);
                continue;
            }
            shared.insert(candidates.clone(), groups.len());
            groups.push(Group { id: GroupId(0), home: node.id, candidates, assignments });
        }
    }
    groups.retain(|group| !group.assignments.is_empty());
    for group in &mut groups {
        let members: Vec<_> = group.assignments.iter().map(Assignment::id).collect();
        group.id = GroupId::of(&members);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_cfg;

    fn titles(text: &str) -> Vec<String> {
        let config = parse_cfg("t", text).unwrap_or_else(|report| panic!("{report}")).config;
        config
            .groups
            .iter()
            .map(|group| {
                format!("{} on {}", group.title(&config), group.candidates.iter().map(|id| config.name(*id)).collect::<Vec<_>>().join(" "))
            })
            .collect()
    }

    const RESOURCES: &str =
        "[CM_CRONTABS]\nj, /x/j, /etc/cron.d\n[CM_IPADDRS]\ny, 10.1.0.2, 24, eth0\nx, 10.1.0.1, 24, eth0\n[CM_SERVICES]\nw, httpd\n";

    fn node(name: &str, number: u8, lines: &str) -> String {
        format!("[CM_NODE]\nnodename={name}\nhostname={name}\nkeep_alive_ip=10.0.0.{number}\n{lines}\n")
    }

    #[test]
    fn a_mount_goes_with_the_ones_that_it_lies_on_and_no_other() {
        let text = "[CM_FILESYSTEMS]\nleft, nas:/l, /data/left\nother, nas:/o, /other\nright, nas:/r, /data/right\ndata, nas:/d, /data\n"
            .to_owned()
            + &node("a", 1, "node_filesystems = left, other, right, data")
            + &node("b", 2, "node_filesystems = other");
        assert_eq!(titles(&text), ["a:other on a", "a:left+right+data on a", "b:other on b"]);
    }

    #[test]
    fn the_same_candidates_move_together_in_start_order() {
        let text = RESOURCES.to_owned()
            + &node("c", 3, "node_backup_floating_ip_addrs = a:x, a:y\nnode_backup_services = a:w")
            + &node("a", 1, "node_crontabs = j\nnode_floating_ip_addrs = x, y\nnode_services = w")
            + &node("b", 2, "node_backup_services = a:w\nnode_backup_floating_ip_addrs = a:y\nnode_backup_crontabs = a:j");
        // Candidates in the order of the file, whoever is named first; members by kind, then order of the sections.
        assert_eq!(titles(&text), ["a:y+w on a c b", "a:x on a c", "a:j on a b"]);
    }

    #[test]
    fn a_single_candidate_stands_by_itself() {
        let text = RESOURCES.to_owned() + &node("a", 1, "node_crontabs = j\nnode_floating_ip_addrs = x, y\nnode_services = w");
        assert_eq!(titles(&text), ["a:y on a", "a:x on a", "a:w on a", "a:j on a"]);
    }

    #[test]
    fn every_assignment_is_in_one_group_and_ids_do_not_depend_on_the_order_of_the_file() {
        let nodes = [
            node("a", 1, "node_floating_ip_addrs = x\nnode_services = w"),
            node("b", 2, "node_floating_ip_addrs = y\nnode_services = w\nnode_backup_floating_ip_addrs = a:x"),
            node("c", 3, "node_backup_floating_ip_addrs = a:x, b:y\nnode_crontabs = j"),
        ];
        let ids = |order: [usize; 3]| {
            let text = RESOURCES.to_owned() + &order.map(|index| nodes[index].clone()).concat();
            let config = parse_cfg("t", &text).unwrap().config;
            let assigned: usize = config.nodes.iter().map(|node| node.primary.len()).sum();
            assert_eq!(config.groups.iter().map(|group| group.assignments.len()).sum::<usize>(), assigned);
            let mut ids: Vec<GroupId> = config.groups.iter().map(|group| group.id).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids([0, 1, 2]), ids([2, 0, 1]));
    }
}
