//! News from the kernel: addresses of ours that go, links that come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::{
    sync::{OwnedMutexGuard, mpsc},
    time::Instant,
};

use super::{AddressEvent, Key, Shared, lock};
use crate::sys::netlink::{Change, Changes, Link};

/// What is known of a device.
struct Device {
    name: String,
    alive: bool,
}

impl Device {
    fn of(link: &Link) -> Self {
        Self { name: link.name.clone(), alive: link.is_up() && link.has_carrier() }
    }
}

/// Turns news into events, until aborted or nobody listens any more. Whoever wants to change something waits for `turn`: what
/// became of a device since an address was put on it is told only when the device was known before.
pub(super) async fn watch(shared: Arc<Shared>, mut changes: Changes, turn: OwnedMutexGuard<()>, events: mpsc::Sender<AddressEvent>) {
    let mut devices: BTreeMap<u32, Device> = match shared.requests.links().await {
        Ok(links) => links.iter().map(|link| (link.index, Device::of(link))).collect(),
        Err(error) => {
            tracing::error!(
                "changes of addresses and links are not seen, the kernel cannot be asked for its links: {error}; restart the daemon"
            );
            return;
        }
    };
    drop(turn);
    loop {
        let news = match changes.next().await {
            Ok(news) => news,
            Err(error) => {
                // Nothing of ours makes this socket fail. The periodic probes still see what happens, more slowly.
                tracing::error!("changes of addresses and links are no longer seen at once: {error}; restart the daemon");
                return;
            }
        };
        for event in digest(&shared, &mut devices, news).await {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

async fn digest(shared: &Shared, devices: &mut BTreeMap<u32, Device>, news: Vec<Change>) -> Vec<AddressEvent> {
    let mut events = Vec::new();
    let mut suspects: BTreeSet<Key> = BTreeSet::new();
    let mut overrun = false;
    for change in news {
        match change {
            Change::AddressRemoved(held) => {
                if let Some(device) = devices.get(&held.index) {
                    suspects.insert(Key { device: device.name.clone(), ip: held.ip });
                }
            }
            Change::Link(link) => events.extend(link_changed(shared, devices, &link)),
            Change::LinkRemoved(link) => events.extend(link_gone(devices, link.index)),
            Change::Overrun => overrun = true,
        }
    }
    if overrun {
        suspects.extend(lock(&shared.wanted).keys().cloned());
    }
    suspects.retain(|key| lock(&shared.wanted).contains_key(key));
    if suspects.is_empty() && !overrun {
        return events;
    }
    // News is old by the time it is read: ours may have been put back, or removed by ourselves.
    match shared.look().await {
        Ok((links, held)) => {
            if overrun {
                events.extend(links.iter().filter_map(|link| link_changed(shared, devices, link)));
                let present: BTreeSet<u32> = links.iter().map(|link| link.index).collect();
                let gone: Vec<u32> = devices.keys().copied().filter(|index| !present.contains(index)).collect();
                events.extend(gone.into_iter().filter_map(|index| link_gone(devices, index)));
            }
            let there: BTreeSet<Key> =
                held.into_iter().filter_map(|held| Some(Key { device: devices.get(&held.index)?.name.clone(), ip: held.ip })).collect();
            let wanted = lock(&shared.wanted);
            events.extend(
                suspects
                    .into_iter()
                    .filter(|key| !there.contains(key) && wanted.contains_key(key))
                    .map(|Key { device, ip }| AddressEvent::AddressGone { ip, device }),
            );
        }
        Err(error) => tracing::warn!("addresses may have changed, but the kernel cannot be asked: {error}"),
    }
    events
}

/// A new or changed device: an event when its carrier came or went. Also for a device without an address of ours, since one
/// may be waiting for it.
fn link_changed(shared: &Shared, devices: &mut BTreeMap<u32, Device>, link: &Link) -> Option<AddressEvent> {
    let device = Device::of(link);
    let (name, alive) = (device.name.clone(), device.alive);
    let before = devices.insert(link.index, device);
    if before.as_ref().map_or(!alive, |before| before.alive == alive) {
        return None;
    }
    if !alive {
        return Some(AddressEvent::LinkDown { device: name });
    }
    let now = Instant::now();
    for (_, wanted) in lock(&shared.wanted).iter_mut().filter(|(key, _)| key.device == name) {
        (wanted.step, wanted.next) = (0, now);
    }
    shared.replan.notify_one();
    Some(AddressEvent::LinkUp { device: name })
}

fn link_gone(devices: &mut BTreeMap<u32, Device>, index: u32) -> Option<AddressEvent> {
    let device = devices.remove(&index)?;
    device.alive.then_some(AddressEvent::LinkDown { device: device.name })
}
