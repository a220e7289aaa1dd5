//! Floating addresses: added with a lifetime that the kernel enforces, announced, watched, removed.
//!
//! An address of ours carries the lease in its `valid_lft`: whatever becomes of this process, the kernel takes the address
//! away before another node may have it. IPv6 addresses skip duplicate address detection, because the lease is the proof
//! that nobody else has them.

mod announce;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::errno::Errno;
use tokio::{
    sync::{Notify, mpsc},
    task::{AbortHandle, spawn_blocking},
    time::Instant,
};

use super::{Condition, DriverError};
use crate::{
    model::{Address, Time},
    sys::{
        arp::{self, Announcer, Form},
        clock,
        netlink::{Changes, Held, Link, NewAddress, PrefixRoute, Requests},
    },
};

/// The kernel may be this late in removing an address whose lifetime is over.
const KERNEL_SLACK: Duration = Duration::from_millis(300);
/// Addresses added before the first of them is announced.
const CHUNK: usize = 64;
/// Events waiting to be read.
const EVENTS: usize = 4096;

/// Something that happened to an address that was started and not stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressEvent {
    /// It is gone from its device: somebody deleted it, its lifetime ended, or the device went. Start it again to put it
    /// back, if it is still ours to have.
    AddressGone {
        /// The address.
        ip: IpAddr,
        /// Its device.
        device: String,
    },
    /// Its device lost its carrier, was switched off or removed.
    LinkDown {
        /// The device.
        device: String,
    },
    /// Its device has its carrier back. The addresses on it are being announced again.
    LinkUp {
        /// The device.
        device: String,
    },
    /// It is on another device of this node too, where nobody will remove it.
    AlsoOn {
        /// The address.
        ip: IpAddr,
        /// Its device.
        device: String,
        /// The other device.
        other: String,
    },
}

/// The floating addresses of a daemon. Cheap to clone; the last clone takes the background tasks with it.
#[derive(Clone)]
pub struct Addresses {
    shared: Arc<Shared>,
    _tasks: Arc<Tasks>,
}

struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// What calls and background tasks share.
struct Shared {
    requests: Mutex<Requests>,
    announcer: Announcer,
    /// Started and not stopped. Decides what is announced and watched, never what a probe says.
    wanted: Mutex<BTreeMap<Key, Wanted>>,
    /// Devices whose `promote_secondaries` could not be set, so that it is said once.
    unpromoted: Mutex<BTreeSet<String>>,
    /// The announcement plan has changed.
    replan: Notify,
}

/// An address on a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    device: String,
    ip: IpAddr,
}

impl Key {
    fn of(address: &Address) -> Self {
        Self { device: address.interface.device.clone(), ip: address.ip }
    }
}

/// What we know of an address that was started.
#[derive(Clone, Debug)]
struct Wanted {
    until: Option<Time>,
    next: Instant,
    step: usize,
}

/// An address about to be added.
struct Plan<'a> {
    address: &'a Address,
    link: Link,
    route: PrefixRoute,
    until: Option<Time>,
    valid: Option<u32>,
}

impl Plan<'_> {
    fn order(&self) -> NewAddress<'_> {
        NewAddress {
            index: self.link.index,
            ip: self.address.ip,
            prefix: self.address.prefix,
            label: self.address.interface.label.as_deref(),
            valid: self.valid,
            prefix_route: self.route,
        }
    }
}

/// What comes with adding an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// It is new here: the device must work, and everybody is told.
    Start,
    /// Its lifetime is renewed, carrier or not; the network knows already.
    Renew,
}

impl Addresses {
    /// Opens the sockets in the network namespace of the calling thread, and starts watching; within a tokio runtime. The
    /// receiver must be read.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn open() -> Result<(Self, mpsc::Receiver<AddressEvent>), DriverError> {
        let unable = |source| DriverError::System { what: "floating addresses cannot be managed".to_owned(), source };
        let changes = Changes::open().map_err(unable)?;
        let mut requests = Requests::open().map_err(unable)?;
        let links = requests.links().map_err(unable)?;
        let shared = Arc::new(Shared {
            requests: Mutex::new(requests),
            announcer: Announcer::open().map_err(unable)?,
            wanted: Mutex::default(),
            unpromoted: Mutex::default(),
            replan: Notify::new(),
        });
        let (sender, receiver) = mpsc::channel(EVENTS);
        let watching = tokio::spawn(watch::watch(Arc::clone(&shared), changes, links, sender.clone()));
        let announcing = tokio::spawn(announce::announce(Arc::clone(&shared), sender));
        let tasks = Tasks(vec![watching.abort_handle(), announcing.abort_handle()]);
        Ok((Self { shared, _tasks: Arc::new(tasks) }, receiver))
    }

    /// Adds the address, or renews it when it is there, and announces it. Until `until`, the end of the lease, the kernel
    /// keeps it, in whole seconds and never longer (with less than 1.3 s left: for one second); `None` for ever.
    ///
    /// # Errors
    /// The device is missing, down or without carrier; the lease is over; the kernel refuses.
    pub async fn start(&self, address: &Address, until: Option<Time>) -> Result<(), DriverError> {
        one(self.start_all(vec![(address.clone(), until)]).await)
    }

    /// [`Addresses::start`] of many: one result for each, in order.
    pub async fn start_all(&self, addresses: Vec<(Address, Option<Time>)>) -> Vec<Result<(), DriverError>> {
        self.blocking(move |shared| shared.add(&addresses, Purpose::Start)).await
    }

    /// Renews the lifetime of addresses that are up. One result for each, in order. An address that this daemon did not
    /// start (an earlier life did) is watched and announced from now on like the others.
    pub async fn refresh(&self, addresses: Vec<(Address, Time)>) -> Vec<Result<(), DriverError>> {
        let addresses: Vec<_> = addresses.into_iter().map(|(address, until)| (address, Some(until))).collect();
        self.blocking(move |shared| shared.add(&addresses, Purpose::Renew)).await
    }

    /// Watches and announces an address that somebody else, such as a script, has added. Its lifetime stays as it is.
    pub fn adopt(&self, address: &Address, until: Option<Time>) {
        self.shared.want(Key::of(address), until, Purpose::Start, 0);
        self.shared.replan.notify_one();
    }

    /// Removes the address from its device, whatever its prefix length; succeeds when it, or the device, is not there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn stop(&self, address: &Address) -> Result<(), DriverError> {
        one(self.stop_all(vec![address.clone()]).await)
    }

    /// [`Addresses::stop`] of many: one result for each, in order.
    pub async fn stop_all(&self, addresses: Vec<Address>) -> Vec<Result<(), DriverError>> {
        self.blocking(move |shared| shared.remove(&addresses)).await
    }

    /// What the kernel says: up on its device with its prefix length and a carrier; partial when one of these is wrong.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn probe(&self, address: &Address) -> Result<Condition, DriverError> {
        let asked = vec![address.clone()];
        let mut conditions = self.probe_all(asked).await?;
        Ok(conditions.pop().unwrap_or(Condition::Down))
    }

    /// [`Addresses::probe`] of many, in order, with one question to the kernel.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn probe_all(&self, addresses: Vec<Address>) -> Result<Vec<Condition>, DriverError> {
        let look = self.blocking(move |shared| {
            let mut requests = lock(&shared.requests);
            let (links, held) = (requests.links()?, requests.addresses()?);
            Ok(addresses.iter().map(|address| condition(address, &links, &held)).collect())
        });
        look.await.map_err(|source| DriverError::System { what: "cannot list addresses".to_owned(), source })
    }

    /// Announces addresses again, with a new burst. Those that were not started here are left alone.
    pub fn announce(&self, addresses: &[Address]) {
        let now = Instant::now();
        let mut wanted = lock(&self.shared.wanted);
        for address in addresses {
            if let Some(wanted) = wanted.get_mut(&Key::of(address)) {
                (wanted.step, wanted.next) = (0, now);
            }
        }
        drop(wanted);
        self.shared.replan.notify_one();
    }

    /// Whether the device of an address could carry it now.
    ///
    /// # Errors
    /// The device is missing, down or without carrier; the kernel cannot be asked.
    pub async fn check_link(&self, address: &Address) -> Result<(), DriverError> {
        self.link_of(address.clone()).await.map(drop)
    }

    /// Asks the link whether anybody else has the address, for at most `wait`: the MAC of whoever says so.
    ///
    /// # Errors
    /// The device is missing, down or without carrier; the kernel refuses the question.
    pub async fn claimed_by_other(&self, address: &Address, wait: Duration) -> Result<Option<String>, DriverError> {
        let link = self.link_of(address.clone()).await?;
        let claimed = arp::claimed(&link, address.ip, wait)
            .await
            .map_err(|source| DriverError::System { what: format!("cannot ask who has {}", address.ip), source })?;
        Ok(claimed.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")))
    }

    /// The device that has this address now, whoever put it there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn device_of(&self, ip: IpAddr) -> Result<Option<String>, DriverError> {
        let look = self.blocking(move |shared| {
            let mut requests = lock(&shared.requests);
            let index = requests.addresses()?.into_iter().find(|held| held.ip == ip).map(|held| held.index);
            let links = requests.links()?;
            Ok(links.into_iter().find(|link| Some(link.index) == index).map(|link| link.name))
        });
        look.await.map_err(|source: crate::sys::SysError| DriverError::System { what: format!("cannot find the device of {ip}"), source })
    }

    async fn link_of(&self, address: Address) -> Result<Link, DriverError> {
        self.blocking(move |shared| usable_link(&mut lock(&shared.requests), &address)).await
    }

    /// Kernel calls wait for the kernel's configuration lock: not on a thread that serves others.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> T + Send + 'static) -> T {
        let shared = Arc::clone(&self.shared);
        spawn_blocking(move || work(&shared)).await.expect("the work neither panics nor is it aborted")
    }
}

impl Shared {
    fn add(&self, addresses: &[(Address, Option<Time>)], purpose: Purpose) -> Vec<Result<(), DriverError>> {
        let mut results = Vec::with_capacity(addresses.len());
        let mut links: BTreeMap<&str, Option<Link>> = BTreeMap::new();
        for chunk in addresses.chunks(CHUNK) {
            let mut requests = lock(&self.requests);
            // Who makes the route of an IPv6 subnet depends on what else is there.
            let held = if chunk.iter().any(|(address, _)| address.ip.is_ipv6()) { requests.addresses() } else { Ok(Vec::new()) };
            let held = match held {
                Ok(held) => held,
                Err(error) => {
                    results.extend(chunk.iter().map(|(address, _)| Err(unasked(address, &error))));
                    continue;
                }
            };
            let plans: Vec<Result<Plan<'_>, DriverError>> = chunk
                .iter()
                .map(|(address, until)| {
                    let device = address.interface.device.as_str();
                    if !links.contains_key(device) {
                        links.insert(device, requests.link(device).map_err(|error| unasked(address, &error))?);
                        if address.ip.is_ipv4() {
                            self.promote_secondaries(device);
                        }
                    }
                    let link = links.get(device).cloned().flatten();
                    let link = match purpose {
                        Purpose::Start => usable(address, link)?,
                        Purpose::Renew => existing(address, link)?,
                    };
                    clear_other_prefix(&mut requests, address, &link, &held);
                    let route = self.prefix_route(address, &link, &held);
                    Ok(Plan { address, link, route, until: *until, valid: None })
                })
                .collect();
            results.extend(self.add_planned(&mut requests, plans, purpose));
        }
        self.replan.notify_one();
        results
    }

    /// Adds, announces, and takes back what took so long that its lease is over.
    fn add_planned(
        &self,
        requests: &mut Requests,
        plans: Vec<Result<Plan<'_>, DriverError>>,
        purpose: Purpose,
    ) -> Vec<Result<(), DriverError>> {
        // The lease is looked at here, right before the kernel is told, not when the order was given.
        let now = clock::now();
        let plans: Vec<Result<Plan<'_>, DriverError>> = plans
            .into_iter()
            .map(|plan| {
                let mut plan = plan?;
                if let Some(until) = plan.until {
                    if until <= now {
                        return Err(lease_over(plan.address));
                    }
                    plan.valid = Some(valid_seconds(until.since(now)));
                }
                self.want(Key::of(plan.address), plan.until, purpose, 1);
                Ok(plan)
            })
            .collect();
        let added = requests.add(&plans.iter().flatten().map(Plan::order).collect::<Vec<_>>());
        let mut answers = added.as_deref().unwrap_or_default().iter();
        plans
            .into_iter()
            .map(|plan| {
                let plan = plan?;
                let refusal = match (&added, answers.next()) {
                    (Ok(_), Some(Ok(()))) => return self.added(requests, &plan, purpose),
                    (Ok(_), Some(Err(errno))) => refused(plan.address, "add it to", *errno),
                    (Ok(_), None) => unasked(plan.address, &"the kernel did not answer"),
                    (Err(error), _) => unasked(plan.address, error),
                };
                if purpose == Purpose::Start {
                    self.forget(plan.address);
                }
                Err(refusal)
            })
            .collect()
    }

    /// The kernel has it.
    fn added(&self, requests: &mut Requests, plan: &Plan<'_>, purpose: Purpose) -> Result<(), DriverError> {
        let Plan { address, link, until, .. } = plan;
        if until.is_some_and(|until| until <= clock::now()) {
            // We were held up between looking at the clock and the kernel's doing. It would remove the address by itself a
            // second later; another node may have it now.
            self.forget(address);
            let _ = requests.remove(&[(link.index, address.ip, address.prefix)]);
            return Err(lease_over(address));
        }
        if purpose == Purpose::Start
            && let Err(error) = self.announcer.announce(link, address.ip, Form::Request, announce::role(&link.name, address.ip))
        {
            tracing::debug!("{} not announced at once on {}: {error}", address.ip, link.name);
        }
        Ok(())
    }

    fn remove(&self, addresses: &[Address]) -> Vec<Result<(), DriverError>> {
        let mut requests = lock(&self.requests);
        let mut links: BTreeMap<&str, Option<Link>> = BTreeMap::new();
        let mut results = Vec::with_capacity(addresses.len());
        let mut waiting: Vec<(usize, &Address, u32)> = Vec::new();
        for (position, address) in addresses.iter().enumerate() {
            self.forget(address);
            let device = address.interface.device.as_str();
            let link = match links.get(device) {
                Some(link) => Ok(link.clone()),
                None => requests.link(device),
            };
            results.push(match link {
                Err(error) => Err(unasked(address, &error)),
                Ok(link) => {
                    if let Some(link) = &link {
                        waiting.push((position, address, link.index));
                    }
                    links.insert(device, link);
                    Ok(())
                }
            });
        }
        // Once more for each that was there: it may be there with another prefix length too. The bound is for the case that
        // somebody adds as fast as we remove.
        for _ in 0..8 {
            if waiting.is_empty() {
                break;
            }
            let orders: Vec<_> = waiting.iter().map(|(_, address, index)| (*index, address.ip, address.prefix)).collect();
            let answers = match requests.remove(&orders) {
                Ok(answers) => answers,
                Err(error) => {
                    for (position, address, _) in waiting.drain(..) {
                        results[position] = Err(unasked(address, &error));
                    }
                    break;
                }
            };
            let mut answers = answers.into_iter();
            waiting.retain(|(position, address, _)| match answers.next() {
                Some(Ok(())) => true,
                Some(Err(Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::ENXIO)) => false,
                Some(Err(errno)) => {
                    results[*position] = Err(refused(address, "remove it from", errno));
                    false
                }
                None => {
                    results[*position] = Err(unasked(address, &"the kernel did not answer"));
                    false
                }
            });
        }
        for (position, address, _) in waiting {
            results[position] = Err(refused(address, "remove it from", Errno::EBUSY));
        }
        if addresses.iter().any(|address| address.ip.is_ipv6()) {
            remove_other_prefixes(&mut requests, addresses, &links, &mut results);
        }
        results
    }

    fn want(&self, key: Key, until: Option<Time>, purpose: Purpose, step: usize) {
        let mut wanted = lock(&self.wanted);
        let now = Instant::now();
        match (wanted.get_mut(&key), purpose) {
            (Some(wanted), Purpose::Renew) => wanted.until = until,
            (_, Purpose::Start) => {
                wanted.insert(key, Wanted { until, next: now + announce::pause_before(step), step });
            }
            (None, Purpose::Renew) => {
                let step = announce::SETTLED;
                wanted.insert(key, Wanted { until, next: now + announce::pause_before(step), step });
            }
        }
    }

    fn forget(&self, address: &Address) {
        lock(&self.wanted).remove(&Key::of(address));
    }

    /// The route to an IPv6 subnet is shared by all addresses in it, and takes over the lifetime of the one that was touched
    /// last. When somebody else's address is there, ours must leave the route alone, or it would expire under the other.
    fn prefix_route(&self, address: &Address, link: &Link, held: &[Held]) -> PrefixRoute {
        let wanted = lock(&self.wanted);
        let other = held.iter().any(|held| {
            held.index == link.index
                && held.ip != address.ip
                && held.prefix == address.prefix
                && same_subnet(held.ip, address.ip, address.prefix)
                && !held.ours
                && !wanted.contains_key(&Key { device: link.name.clone(), ip: held.ip })
        });
        if other { PrefixRoute::Left } else { PrefixRoute::Made }
    }

    /// Without this the kernel, when it removes the first address of a subnet, removes all others of that subnet with it;
    /// and the first may be ours. systemd sets it on every machine; elsewhere we do.
    fn promote_secondaries(&self, device: &str) {
        let path = format!("/proc/sys/net/ipv4/conf/{device}/promote_secondaries");
        if fs::read_to_string(&path).is_ok_and(|text| text.trim() == "0")
            && let Err(error) = fs::write(&path, "1")
            && lock(&self.unpromoted).insert(device.to_owned())
        {
            tracing::warn!(
                "cannot set {path} to 1 ({error}): when the first address of a subnet is removed from {device}, the kernel removes the others \
                 of that subnet too, and they are put back one by one; set it with sysctl"
            );
        }
    }
}

/// An IPv6 address is on a device once; with another prefix length it would be kept as it is.
fn clear_other_prefix(requests: &mut Requests, address: &Address, link: &Link, held: &[Held]) {
    let wrong =
        held.iter().find(|held| held.index == link.index && held.ip == address.ip && held.ip.is_ipv6() && held.prefix != address.prefix);
    if let Some(wrong) = wrong {
        let _ = requests.remove(&[(wrong.index, wrong.ip, wrong.prefix)]);
    }
}

/// IPv6 addresses are removed by prefix length too; look for those that have another one.
fn remove_other_prefixes(
    requests: &mut Requests,
    addresses: &[Address],
    links: &BTreeMap<&str, Option<Link>>,
    results: &mut [Result<(), DriverError>],
) {
    let held = match requests.addresses() {
        Ok(held) => held,
        Err(error) => {
            for (address, result) in addresses.iter().zip(results).filter(|(address, result)| address.ip.is_ipv6() && result.is_ok()) {
                *result = Err(unasked(address, &error));
            }
            return;
        }
    };
    for (address, result) in addresses.iter().zip(results).filter(|(address, _)| address.ip.is_ipv6()) {
        let Some(Some(link)) = links.get(address.interface.device.as_str()) else { continue };
        for left in held.iter().filter(|held| held.index == link.index && held.ip == address.ip) {
            let removed = requests.remove(&[(left.index, left.ip, left.prefix)]);
            if let Ok([Err(errno)]) = removed.as_deref()
                && *errno != Errno::EADDRNOTAVAIL
            {
                *result = Err(refused(address, "remove it from", *errno));
            }
        }
    }
}

fn condition(address: &Address, links: &[Link], held: &[Held]) -> Condition {
    let Some(link) = links.iter().find(|link| link.name == address.interface.device) else { return Condition::Down };
    let mut there = held.iter().filter(|held| held.index == link.index && held.ip == address.ip).peekable();
    if there.peek().is_none() {
        Condition::Down
    } else if there.any(|held| held.prefix == address.prefix) && link.is_up() && link.has_carrier() {
        Condition::Up
    } else {
        Condition::Partial
    }
}

fn usable_link(requests: &mut Requests, address: &Address) -> Result<Link, DriverError> {
    let link = requests.link(&address.interface.device).map_err(|error| unasked(address, &error))?;
    usable(address, link)
}

fn existing(address: &Address, link: Option<Link>) -> Result<Link, DriverError> {
    link.ok_or_else(|| DriverError::NoDevice { ip: address.ip, device: address.interface.device.clone() })
}

fn usable(address: &Address, link: Option<Link>) -> Result<Link, DriverError> {
    let (ip, device) = (address.ip, address.interface.device.clone());
    let link = existing(address, link)?;
    if !link.is_up() {
        Err(DriverError::DeviceDown { ip, device })
    } else if !link.has_carrier() {
        Err(DriverError::NoCarrier { ip, device })
    } else {
        Ok(link)
    }
}

/// Whole seconds that end before the lease does, but at least one: the kernel knows nothing shorter.
fn valid_seconds(remaining: Duration) -> u32 {
    u32::try_from(remaining.saturating_sub(KERNEL_SLACK).as_secs()).unwrap_or(u32::MAX - 1).max(1)
}

fn same_subnet(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            (u32::from(one) ^ u32::from(other)).checked_shr(32_u32.saturating_sub(u32::from(prefix))).unwrap_or(0) == 0
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            (u128::from(one) ^ u128::from(other)).checked_shr(128_u32.saturating_sub(u32::from(prefix))).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn unasked(address: &Address, why: &dyn ToString) -> DriverError {
    DriverError::Unasked { ip: address.ip, device: address.interface.device.clone(), why: why.to_string() }
}

fn refused(address: &Address, doing: &'static str, errno: Errno) -> DriverError {
    DriverError::Address { ip: address.ip, device: address.interface.device.clone(), doing, errno }
}

fn lease_over(address: &Address) -> DriverError {
    DriverError::LeaseOver { ip: address.ip, device: address.interface.device.clone() }
}

fn one(results: Vec<Result<(), DriverError>>) -> Result<(), DriverError> {
    results.into_iter().collect()
}

/// None of what is behind our locks is left half done by a panic; and a panic ends the process.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_lets_go_before_the_lease_does() {
        for (milliseconds, seconds) in [(1, 1), (1299, 1), (1300, 1), (2299, 1), (2300, 2), (30_000, 29)] {
            assert_eq!(valid_seconds(Duration::from_millis(milliseconds)), seconds, "{milliseconds} ms");
        }
    }

    #[test]
    fn subnets() {
        let same = |one: &str, other: &str, prefix| same_subnet(one.parse().unwrap(), other.parse().unwrap(), prefix);
        assert!(same("10.0.0.1", "10.0.0.254", 24));
        assert!(!same("10.0.0.1", "10.0.1.1", 24));
        assert!(same("10.0.0.1", "192.168.0.1", 0));
        assert!(!same("10.0.0.1", "10.0.0.2", 32));
        assert!(same("fd00::1", "fd00::2", 64));
        assert!(!same("fd00::1", "fd00:0:0:1::1", 64));
        assert!(!same("fd00::1", "10.0.0.1", 0));
    }
}
