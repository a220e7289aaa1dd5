//! Links and fitness: a group whose address has lost its link cannot run here, and the core is told at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::{broadcast, mpsc};
use tracing::{info, warn};

use super::executor::Shared;
use crate::{
    drivers::AddressEvent,
    model::{Address, Config, Event, GroupId, NodeId, Spec},
};

/// Follows the kernel's events: hands them to the groups and tells the core about links. Ends with the daemon.
pub async fn follow(shared: Arc<Shared>, mut events: mpsc::Receiver<AddressEvent>, to_groups: broadcast::Sender<AddressEvent>) {
    let mut links = Links { devices: groups_by_device(&shared.config, shared.node.id), down: BTreeSet::new() };
    let tell = |told: Vec<(GroupId, bool)>| {
        for (group, able) in told {
            shared.mailbox.tell(Event::Fitness { group, able });
        }
    };
    let mut down = Vec::new();
    for (device, groups) in &links.devices {
        // The link is the same for all of them.
        let Some((_, address)) = groups.first() else { continue };
        if let Err(fault) = shared.drivers.addresses().check_link(address).await {
            warn!("{device} cannot carry addresses now: {fault}");
            down.push(device.clone());
        }
    }
    down.iter().for_each(|device| tell(links.changed(device, false)));
    while let Some(event) = events.recv().await {
        let (device, able) = match &event {
            AddressEvent::LinkDown { device } => (Some(device), false),
            AddressEvent::LinkUp { device } => (Some(device), true),
            AddressEvent::AlsoOn { ip, device, other } => {
                warn!("{ip} of {device} is on {other} too, where drcm does not manage it: remove it there");
                (None, true)
            }
            AddressEvent::AddressGone { .. } => (None, true),
        };
        if let Some(device) = device.filter(|device| links.devices.contains_key(*device)) {
            info!("link of {device} is {}", if able { "up" } else { "down" });
            tell(links.changed(device, able));
        }
        // Without a group that listens there is nobody to hear it.
        drop(to_groups.send(event));
    }
}

/// The devices that groups need, and those of them that are down.
struct Links {
    devices: BTreeMap<String, Vec<(GroupId, Address)>>,
    down: BTreeSet<String>,
}

impl Links {
    /// A link came or went: what that means to its groups. A group needs all of its links.
    fn changed(&mut self, device: &str, able: bool) -> Vec<(GroupId, bool)> {
        if able {
            self.down.remove(device);
        } else {
            self.down.insert(device.to_owned());
        }
        let lacks = |group: GroupId| self.down.iter().any(|down| self.needs(down).any(|other| other == group));
        self.needs(device).filter(|group| !able || !lacks(*group)).map(|group| (group, able)).collect()
    }

    fn needs(&self, device: &str) -> impl Iterator<Item = GroupId> + '_ {
        self.devices.get(device).into_iter().flatten().map(|(group, _)| *group)
    }
}

/// The groups with an address on each device, with one such address.
fn groups_by_device(config: &Config, me: NodeId) -> BTreeMap<String, Vec<(GroupId, Address)>> {
    let mut devices: BTreeMap<String, Vec<(GroupId, Address)>> = BTreeMap::new();
    for group in config.groups.iter().filter(|group| group.candidates.contains(&me)) {
        for assignment in &group.assignments {
            let Some(Spec::Address(address)) = config.resource(&assignment.resource).map(|resource| &resource.spec) else { continue };
            let groups = devices.entry(address.interface.device.clone()).or_default();
            if !groups.iter().any(|(known, _)| *known == group.id) {
                groups.push((group.id, address.clone()));
            }
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_able_again_only_when_all_of_its_links_are() {
        let addresses = "[CM_IPADDRS]\none, 10.0.0.100, 24, eth0, \ntwo, 10.0.1.100, 24, eth1, \n";
        let home = "[CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\nnode_floating_ip_addrs = one, two\n";
        let backup = "[CM_NODE]\nnodename = b\nhostname = b\nkeep_alive_ip = 10.0.0.2\nnode_backup_floating_ip_addrs = a:one, a:two\n";
        let text = format!("{addresses}{home}{backup}");
        let config = crate::config::parse_cfg("test.cfg", &text).unwrap_or_else(|report| panic!("{report}")).config;
        let group = config.groups[0].id;
        let mut links = Links { devices: groups_by_device(&config, config.nodes[0].id), down: BTreeSet::new() };
        assert_eq!(links.changed("eth1", false), [(group, false)]);
        assert_eq!(links.changed("eth0", false), [(group, false)]);
        assert_eq!(links.changed("eth0", true), [], "eth1 is still down");
        assert_eq!(links.changed("eth1", true), [(group, true)]);
    }
}
