//! Links and fitness: a group whose address has lost its link cannot run here, and the core is told at once.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{broadcast, mpsc};
use tracing::{info, warn};

use super::executor::Shared;
use crate::{
    drivers::AddressEvent,
    model::{Address, Config, Event, GroupId, NodeId, Spec},
};

/// Follows the kernel's events: hands them to the groups and tells the core about links. Ends with the daemon.
pub async fn follow(shared: Arc<Shared>, mut events: mpsc::Receiver<AddressEvent>, to_groups: broadcast::Sender<AddressEvent>) {
    let devices = groups_by_device(&shared.config, shared.node.id);
    for (device, groups) in &devices {
        for (group, address) in groups {
            if let Err(fault) = shared.drivers.addresses().check_link(address).await {
                warn!("{device} cannot carry addresses now: {fault}");
                shared.mailbox.tell(Event::Fitness { group: *group, able: false });
            }
        }
    }
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
        if let Some(groups) = device.and_then(|device| devices.get(device)) {
            info!("link of {} is {}", device.map_or("", String::as_str), if able { "up" } else { "down" });
            for (group, _) in groups {
                shared.mailbox.tell(Event::Fitness { group: *group, able });
            }
        }
        // Without a group that listens there is nobody to hear it.
        drop(to_groups.send(event));
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
