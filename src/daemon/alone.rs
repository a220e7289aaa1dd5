//! The three checks before a node of a pair carries on alone: its link has carrier, the gateway answers, and nobody else uses
//! the addresses it would take.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tracing::warn;

use super::executor::Shared;
use crate::model::{Address, Checks, Event, Group, Interface, Spec};

/// How long an address is asked for: RFC 5227 takes seconds, a cluster that fails over cannot.
const PROBE: Duration = Duration::from_millis(300);

/// Checks and tells the core.
pub async fn check(shared: Arc<Shared>, checks: Checks) {
    let mut faults: Vec<String> = link_faults(&shared).await.into_iter().collect();
    match checks {
        Checks::Link => {}
        Checks::All => faults.extend(address_faults(&shared).await),
    }
    for fault in &faults {
        warn!("not carrying on alone: {fault}");
    }
    shared.mailbox.tell(Event::Alone { checks, clear: faults.is_empty() });
}

async fn link_faults(shared: &Shared) -> Option<String> {
    let keep_alive = shared.node.keep_alive_ip;
    match shared.drivers.addresses().device_of(keep_alive).await {
        Ok(Some(device)) => {
            let own = on_device(keep_alive, &device);
            if let Err(fault) = shared.drivers.addresses().check_link(&own).await {
                return Some(format!("the keep-alive link does not work: {fault}"));
            }
            let gateway = shared.config.server.gateway?;
            (!answers(shared, gateway, &device).await).then(|| format!("the gateway {gateway} does not answer on {device}"))
        }
        Ok(None) => Some(format!("no interface has the keep-alive address {keep_alive}")),
        Err(fault) => Some(fault.to_string()),
    }
}

async fn address_faults(shared: &Shared) -> Vec<String> {
    let claims = addresses_to_take(shared).into_iter().map(|address| async move {
        match shared.drivers.addresses().claimed_by_other(&address, PROBE).await {
            Ok(None) => None,
            Ok(Some(mac)) => Some(format!("{} is in use by {mac}", address.ip)),
            // A link that does not work keeps its group from being taken, and is reported there.
            Err(fault) => {
                warn!("cannot ask who has {}: {fault}", address.ip);
                None
            }
        }
    });
    join_all(claims).await.into_iter().flatten().collect()
}

/// Whether anybody answers for the gateway's address on that link.
async fn answers(shared: &Shared, gateway: IpAddr, device: &str) -> bool {
    matches!(shared.drivers.addresses().claimed_by_other(&on_device(gateway, device), PROBE).await, Ok(Some(_)))
}

/// An address as a probe of a link needs it.
fn on_device(ip: IpAddr, device: &str) -> Address {
    let prefix = if ip.is_ipv4() { 32 } else { 128 };
    Address { ip, prefix, netmask: prefix.to_string(), interface: Interface { device: device.to_owned(), label: None } }
}

fn addresses_to_take(shared: &Shared) -> Vec<Address> {
    let candidate = |group: &&Group| group.is_leased() && group.candidates.contains(&shared.node.id);
    let assignments = shared.config.groups.iter().filter(candidate).flat_map(|group| &group.assignments);
    assignments
        .filter_map(|assignment| match &shared.config.resource(&assignment.resource)?.spec {
            // What runs here already is our own.
            Spec::Address(address) if shared.board.note(assignment).activity == crate::model::Activity::Stopped => Some(address.clone()),
            Spec::Address(_) | Spec::FileSystem(_) | Spec::Service(_) | Spec::Application(_) | Spec::Crontab(_) => None,
        })
        .collect()
}
