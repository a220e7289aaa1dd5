//! A process that takes the place of another one with another configuration.

use super::*;
use drcm::{
    cluster::{NotNow, Stale},
    model::{AssignmentId, Message, Stance},
};

/// As [`config`] of three nodes, with these addresses.
fn with_addresses(names: &[&str], server: &str) -> Arc<Config> {
    let mut text = format!("[CM_SERVER]\nkeep_alive_interval = 100\ndead_node_count = 15\n{server}\n[CM_IPADDRS]\n");
    for (number, name) in names.iter().enumerate() {
        text += &format!("{name}, 10.0.0.{}, 24, eth0, \n", 100 + number);
    }
    let home = names.join(", ");
    let backup = names.iter().map(|name| format!("a:{name}")).collect::<Vec<_>>().join(", ");
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let list =
            if number == 0 { format!("node_floating_ip_addrs = {home}") } else { format!("node_backup_floating_ip_addrs = {backup}") };
        text += &format!("[CM_NODE]\nnodename = {name}\nhostname = {name}\nkeep_alive_ip = 10.0.0.{}\n{list}\n", number + 1);
    }
    parse_cfg("test.cfg", &text).unwrap_or_else(|report| panic!("{report}")).config
}

fn members(config: &Config, group: GroupId) -> BTreeSet<AssignmentId> {
    config.group(group).unwrap().assignments.iter().map(drcm::model::Assignment::id).collect()
}

impl World {
    /// What runs on a node, by assignment, as its configuration of now says.
    fn runs(&self, node: NodeId, config: &Config) -> BTreeSet<AssignmentId> {
        self.running.get(&node).into_iter().flatten().flat_map(|group| members(config, *group)).collect()
    }

    /// The node reads another configuration; what runs on it has been reduced to what the new one has on it, too.
    fn reload(&mut self, node: &str, before: &Config, after: &Arc<Config>) {
        let node = id(node);
        let known: BTreeSet<AssignmentId> = after.groups.iter().flat_map(|group| members(after, group.id)).collect();
        let running: BTreeSet<AssignmentId> = self.runs(node, before).intersection(&known).copied().collect();
        assert_eq!(self.nodes[&node].may_part(self.now), Ok(()));
        let memory = self.nodes[&node].part(&running);
        let start = Start { electorate: Some(self.nodes[&node].electorate().clone()), ..Start::default() };
        let core = Node::resume(after.clone(), node, memory, start, self.now).unwrap();
        self.nodes.insert(node, core);
        // It still runs, whatever its group is called.
        let groups = after.groups.iter().map(|group| group.id).filter(|group| !running.is_disjoint(&members(after, *group)));
        self.running.insert(node, groups.collect());
        self.feed(node, Event::Timer);
    }
}

/// Each pair of configurations, read by one node after the other: whatever stays is never stopped and never changes its owner.
#[test]
fn what_stays_in_the_configuration_runs_on() {
    let cases: [(&[&str], &str, &[&str], &str); 5] = [
        (&["vip"], "", &["vip", "new"], ""),
        (&["vip", "old"], "", &["vip"], ""),
        (&["vip", "old"], "", &["vip", "new"], "failback_delay = 3"),
        (&["vip"], "", &["vip"], "failback_delay = 3"),
        (&["vip"], "keep_alive_interval = 150", &["vip", "new"], "keep_alive_interval = 50"),
    ];
    for (before, server_before, after, server_after) in cases {
        for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"]] {
            let (before, after) = (with_addresses(before, server_before), with_addresses(after, server_after));
            let mut world = World::new(before.clone());
            world.run(MS * 6000);
            assert_eq!(world.running[&id("a")].len(), 1);
            let since = world.now;
            for node in order {
                world.reload(node, &before, &after);
                world.run(MS * 2);
                if node == "a" {
                    assert!(world.starts.iter().any(|(at, node)| *at >= since && *node == id("a")), "it is taken over within 2 ms");
                }
                world.run(MS * 4000);
            }
            assert!(world.stops.iter().all(|(at, ..)| *at < since), "nothing was stopped: {:?}", world.stops);
            assert!(world.starts.iter().all(|(at, node)| *at < since || *node == id("a")), "nothing was started elsewhere");
            assert_eq!(world.runs(id("a"), &after), members(&after, after.groups[0].id));
            assert!(world.nodes.values().all(|node| node.view(world.now).mismatched.is_empty()));
            // The lease of now is like any other: it moves when its owner dies.
            world.crash(id("a"));
            world.run(MS * 2500);
            assert_eq!(world.runs(id("b"), &after), members(&after, after.groups[0].id));
        }
    }
}

/// The leases of old are claimed until the new one is held, and no longer.
#[test]
fn the_lease_of_old_is_claimed_until_the_new_one_is_held() {
    let (before, after) = (with_addresses(&["vip"], ""), with_addresses(&["vip", "new"], ""));
    let mut world = World::new(before.clone());
    world.run(MS * 6000);
    world.flying.clear();
    world.reload("a", &before, &after);
    let lists = |world: &World| {
        let mut lists: Vec<Vec<GroupId>> = Vec::new();
        for (.., message) in &world.flying {
            if let Message::Claims(claims) = message {
                let claimed = claims.entries.iter().filter(|entry| matches!(entry.stance, Stance::Claims { .. }));
                lists.push(claimed.map(|entry| entry.group).collect());
            }
        }
        lists.dedup();
        lists
    };
    let mut both = vec![before.groups[0].id, after.groups[0].id];
    both.sort_unstable();
    assert_eq!(lists(&world), [both]);
    world.run(MS * 3000);
    world.flying.clear();
    world.feed(id("a"), Event::Order(Order::Standby(true)));
    let last = lists(&world).pop();
    assert!(last.is_none_or(|claimed| !claimed.contains(&before.groups[0].id)), "the old name is forgotten");
}

#[test]
fn a_node_that_is_cut_off_when_it_reloads_stops_what_it_has_in_time() {
    let (before, after) = (with_addresses(&["vip"], ""), with_addresses(&["vip", "new"], ""));
    let mut world = World::new(before.clone());
    world.run(MS * 6000);
    world.split("a", "b");
    world.split("a", "c");
    world.run(MS * 100);
    let cut = world.now;
    world.reload("a", &before, &after);
    world.run(MS * 5000);
    let (stopped, _, why) = *world.stops.iter().find(|(at, node, _)| *at > cut && *node == id("a")).unwrap();
    assert_eq!(why, StopReason::LeaseLost);
    assert!(stopped.since(cut) < MS * 1500, "{:?}", stopped.since(cut));
    assert!(world.starts.iter().all(|(at, node)| *at < cut || *node == id("b")), "nothing new was started without a lease");
    assert_eq!(world.running[&id("b")].len(), 1);
}

#[test]
fn a_resource_that_another_node_has_is_not_started_with_its_new_group() {
    // vip and other were two groups, now they are one: a has vip, b has other.
    let text = |together: bool| {
        let list = if together { "node_floating_ip_addrs = vip, other" } else { "node_floating_ip_addrs = vip" };
        let (b, c) = match together {
            true => ("node_backup_floating_ip_addrs = a:vip, a:other", "node_backup_floating_ip_addrs = a:vip, a:other"),
            false => ("node_backup_floating_ip_addrs = a:vip", "node_backup_floating_ip_addrs = a:vip"),
        };
        let mut text = "[CM_SERVER]\nkeep_alive_interval = 100\ndead_node_count = 15\n[CM_IPADDRS]\n\
                        vip, 10.0.0.100, 24, eth0, \nother, 10.0.0.101, 24, eth0, \n"
            .to_owned();
        for (number, (name, list)) in [("a", list), ("b", b), ("c", c)].into_iter().enumerate() {
            text += &format!("[CM_NODE]\nnodename = {name}\nhostname = {name}\nkeep_alive_ip = 10.0.0.{}\n{list}\n", number + 1);
        }
        parse_cfg("test.cfg", &text).unwrap_or_else(|report| panic!("{report}")).config
    };
    let (before, after) = (text(false), text(true));
    let mut world = World::new(before.clone());
    world.run(MS * 6000);
    let since = world.now;
    // Voters know that b has it, under the name of the group of both.
    world.split("a", "b");
    world.split("a", "c");
    world.run(MS * 2500);
    assert!(!world.running[&id("b")].is_empty());
    world.reload("b", &before, &after);
    world.run(MS * 3000);
    world.cut.clear();
    world.boot(id("a"), after.clone());
    world.run(MS * 3000);
    assert!(world.starts.iter().all(|(at, node)| *at < since || *node == id("b")));
    assert_eq!(world.runs(id("b"), &after).len(), 2);
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let before = with_addresses(&["vip"], "");
    let mut world = World::new(before.clone());
    assert_eq!(world.nodes[&id("a")].may_part(world.now), Ok(()), "nothing is held");
    world.run(MS * 6000);
    let core = &world.nodes[&id("a")];
    let running = members(&before, before.groups[0].id);
    let start = Start { electorate: Some(core.electorate().clone()), ..Start::default() };
    let resume = |config| Node::resume(config, id("a"), core.part(&running), start.clone(), world.now).err();
    assert_eq!(resume(config(4, "")), Some(Stale::OtherVoters));
    assert_eq!(resume(with_addresses(&["other"], "")), Some(Stale::NoPlace));
    assert_eq!(resume(with_addresses(&["vip", "other"], "")), None);
    world.split("a", "b");
    world.split("a", "c");
    world.run(MS * 1200);
    world.feed(id("a"), Event::Timer);
    assert!(matches!(world.nodes[&id("a")].may_part(world.now), Err(NotNow::NoQuorum | NotNow::Busy(_)) | Ok(())));
    world.run(MS * 400);
    world.cut.clear();
    world.run(MS * 20_000);
    world.feed(id("a"), Event::Order(Order::Leave));
    assert_eq!(world.nodes[&id("a")].may_part(world.now), Err(NotNow::Leaving));
}
