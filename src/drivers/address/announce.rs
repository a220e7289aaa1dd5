//! The announcement plan: a burst at once, again after one and five seconds, then slowly for as long as the address is ours.
//! Lost or overwritten announcements are what clients of a moved address suffer from most.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    select,
    sync::mpsc,
    task,
    time::{Instant, sleep_until},
};

use super::{AddressEvent, Key, Shared, lock};
use crate::sys::{
    SysError,
    arp::{Form, Role},
    clock,
    netlink::{Held, Link},
};

/// Steps 0 to 2 alternate between the forms, a few milliseconds apart; the later ones send both.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(4),
    Duration::from_millis(4),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(60),
];
/// The step that repeats for ever.
pub(super) const SETTLED: usize = PAUSES.len() - 1;
/// The step at which it is looked whether the address is on another device as well.
const LOOK_AROUND: usize = 3;
/// Announcements due this soon go with those due now.
const TOGETHER: Duration = Duration::from_millis(1);
/// Addresses announced without a pause.
const TURN: usize = 64;

/// How long before a step, counted from the one before it.
pub(super) fn pause_before(step: usize) -> Duration {
    PAUSES[step.min(SETTLED)]
}

/// Whether advertisements for an address on this device are to say that we are a router.
fn role(device: &str, ip: IpAddr) -> Role {
    let path = format!("/proc/sys/net/ipv6/conf/{device}/forwarding");
    if ip.is_ipv6() && fs::read_to_string(path).is_ok_and(|text| text.trim() != "0") { Role::Router } else { Role::Host }
}

impl Shared {
    /// Sends one announcement.
    pub(super) fn tell_the_network(&self, link: &Link, ip: IpAddr, form: Form) {
        match self.announcer.announce(link, ip, form, role(&link.name, ip)) {
            Ok(()) => drop(self.announced.fetch_add(1, Ordering::Relaxed)),
            Err(error) => tracing::debug!("{ip} not announced on {}: {error}", link.name),
        }
    }
}

/// Carries out the plan, until aborted.
pub(super) async fn announce(shared: Arc<Shared>, events: mpsc::Sender<AddressEvent>) {
    loop {
        let next = lock(&shared.wanted).values().map(|wanted| wanted.next).min();
        select! {
            () = shared.replan.notified() => continue,
            () = sleep_until(next.unwrap_or_else(|| Instant::now() + PAUSES[SETTLED])) => {}
        }
        let due = take_due(&shared);
        if due.is_empty() {
            continue;
        }
        match send(&shared, &due).await {
            Ok(strays) => {
                for stray in strays {
                    if events.send(stray).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => tracing::warn!("announcements skipped, the kernel cannot be asked what we hold: {error}"),
        }
    }
}

/// The addresses whose time has come, with their step; each is moved on to its next one.
fn take_due(shared: &Shared) -> Vec<(Key, usize)> {
    let now = Instant::now();
    let lease_now = clock::now();
    let mut due = Vec::new();
    for (key, wanted) in lock(&shared.wanted).iter_mut().filter(|(_, wanted)| wanted.next <= now + TOGETHER) {
        if wanted.until.is_none_or(|until| until > lease_now) {
            due.push((key.clone(), wanted.step));
        }
        wanted.step = (wanted.step + 1).min(SETTLED);
        wanted.next = now + pause_before(wanted.step);
    }
    due
}

/// Announces those that the kernel has at this moment: this process may have been stopped for a while, the address may be
/// with another node, and an announcement of ours would take its clients away.
async fn send(shared: &Shared, due: &[(Key, usize)]) -> Result<Vec<AddressEvent>, SysError> {
    let (links, held) = shared.look().await?;
    let by_name: BTreeMap<&str, &Link> = links.iter().map(|link| (link.name.as_str(), link)).collect();
    let mut by_ip: BTreeMap<IpAddr, Vec<&Held>> = BTreeMap::new();
    for held in &held {
        by_ip.entry(held.ip).or_default().push(held);
    }
    let mut strays = Vec::new();
    for (position, (key, step)) in due.iter().enumerate() {
        // Between many, others get their turn on this thread.
        if position % TURN == TURN - 1 {
            task::yield_now().await;
        }
        let Some(link) = by_name.get(key.device.as_str()) else { continue };
        let places = by_ip.get(&key.ip).map(Vec::as_slice).unwrap_or_default();
        if link.has_carrier() && places.iter().any(|held| held.index == link.index) {
            let forms: &[Form] = match step {
                0 | 2 => &[Form::Request],
                1 => &[Form::Reply],
                _ => &[Form::Request, Form::Reply],
            };
            for form in forms {
                shared.tell_the_network(link, key.ip, *form);
            }
        }
        if *step == LOOK_AROUND {
            for other in places.iter().filter(|held| held.index != link.index) {
                let name = links.iter().find(|link| link.index == other.index).map_or("?", |link| link.name.as_str());
                strays.push(AddressEvent::AlsoOn { ip: key.ip, device: key.device.clone(), other: name.to_owned() });
            }
        }
    }
    Ok(strays)
}
