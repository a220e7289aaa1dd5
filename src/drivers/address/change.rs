//! Adding, renewing and removing: what is told to the kernel, in which order, and what is looked at before and after.

use std::{collections::BTreeMap, fs, net::IpAddr, sync::Arc, time::Duration};

use nix::errno::Errno;
use tokio::time::Instant;

use super::{Key, Purpose, Shared, Wanted, announce, lock};
use crate::{
    drivers::DriverError,
    model::{Address, Time},
    sys::{
        SysError,
        arp::Form,
        clock,
        netlink::{Held, Link, NewAddress, PrefixRoute},
    },
};

/// The kernel may be this late in removing an address whose lifetime is over.
const KERNEL_SLACK: Duration = Duration::from_millis(300);
/// And this much later when another one ended shortly before: it looks once a second at most.
const NEXT_LOOK: Duration = Duration::from_secs(1);
/// Addresses added before the first of them is announced.
const CHUNK: usize = 64;

/// The devices asked for so far, by name.
type Links<'a> = BTreeMap<&'a str, Option<Link>>;

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

impl Shared {
    pub(super) async fn add(self: Arc<Self>, addresses: Vec<(Address, Option<Time>)>, purpose: Purpose) -> Vec<Result<(), DriverError>> {
        let mut results = Vec::with_capacity(addresses.len());
        let mut links: Links<'_> = BTreeMap::new();
        for chunk in addresses.chunks(CHUNK) {
            // Who makes the route of an IPv6 subnet depends on what else is there.
            let held = if chunk.iter().any(|(address, _)| address.ip.is_ipv6()) { self.requests.addresses().await } else { Ok(Vec::new()) };
            let held = match held {
                Ok(held) => held,
                Err(error) => {
                    results.extend(chunk.iter().map(|(address, _)| Err(unasked(address, &error))));
                    continue;
                }
            };
            let mut plans = Vec::with_capacity(chunk.len());
            for (address, until) in chunk {
                plans.push(self.plan(address, *until, purpose, &mut links, &held).await);
            }
            results.extend(self.add_planned(plans, purpose).await);
        }
        self.replan.notify_one();
        results
    }

    /// What is to be told to the kernel, but for the lifetime.
    async fn plan<'a>(
        &self,
        address: &'a Address,
        until: Option<Time>,
        purpose: Purpose,
        links: &mut Links<'a>,
        held: &[Held],
    ) -> Result<Plan<'a>, DriverError> {
        let device = address.interface.device.as_str();
        if !links.contains_key(device) {
            links.insert(device, self.requests.link(device).await.map_err(|error| unasked(address, &error))?);
            if address.ip.is_ipv4() {
                self.promote_secondaries(device);
            }
        }
        let link = links.get(device).cloned().flatten();
        let link = match purpose {
            Purpose::Start => usable(address, link)?,
            Purpose::Renew => existing(address, link)?,
        };
        self.clear_other_prefix(address, &link, held).await;
        let route = self.prefix_route(address, &link, held);
        Ok(Plan { address, link, route, until, valid: None })
    }

    /// Adds, announces, and takes back what took so long that its lease is over.
    async fn add_planned(&self, plans: Vec<Result<Plan<'_>, DriverError>>, purpose: Purpose) -> Vec<Result<(), DriverError>> {
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
        let orders: Vec<NewAddress<'_>> = plans.iter().flatten().map(Plan::order).collect();
        let mut answers = self.requests.add(&orders).await.into_iter();
        let mut results = Vec::with_capacity(plans.len());
        for plan in plans {
            results.push(match plan {
                Ok(plan) => {
                    let answer = answers.next().expect("there is an answer to every order");
                    self.added(&plan, answer, purpose).await
                }
                Err(error) => Err(error),
            });
        }
        results
    }

    /// The kernel has answered.
    async fn added(&self, plan: &Plan<'_>, answer: Result<(), SysError>, purpose: Purpose) -> Result<(), DriverError> {
        let Plan { address, link, until, .. } = plan;
        if let Err(error) = answer {
            if purpose == Purpose::Start {
                self.forget(address);
            }
            return Err(undone(address, "add it to", &error));
        }
        if until.is_some_and(|until| until <= clock::now()) {
            // We were held up between looking at the clock and the kernel's doing. It would remove the address by itself a
            // second later; another node may have it now.
            self.forget(address);
            self.requests.remove(&[(link.index, address.ip, address.prefix)]).await;
            return Err(lease_over(address));
        }
        if purpose == Purpose::Start {
            self.tell_the_network(link, address.ip, Form::Request);
        }
        Ok(())
    }

    pub(super) async fn remove(self: Arc<Self>, addresses: Vec<Address>) -> Vec<Result<(), DriverError>> {
        let mut links: Links<'_> = BTreeMap::new();
        let mut results = Vec::with_capacity(addresses.len());
        let mut waiting: Vec<(usize, &Address, u32)> = Vec::new();
        for (position, address) in addresses.iter().enumerate() {
            self.forget(address);
            let device = address.interface.device.as_str();
            let link = match links.get(device) {
                Some(link) => Ok(link.clone()),
                None => self.requests.link(device).await,
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
            let mut answers = self.requests.remove(&orders).await.into_iter();
            waiting.retain(|(position, address, _)| match answers.next().expect("there is an answer to every order") {
                Ok(()) => true,
                Err(SysError::Call { errno: Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::ENXIO, .. }) => false,
                Err(error) => {
                    results[*position] = Err(undone(address, "remove it from", &error));
                    false
                }
            });
        }
        for (position, address, _) in waiting {
            results[position] = Err(refused(address, "remove it from", Errno::EBUSY));
        }
        if addresses.iter().any(|address| address.ip.is_ipv6()) {
            self.remove_other_prefixes(&addresses, &links, &mut results).await;
        }
        results
    }

    pub(super) fn want(&self, key: Key, until: Option<Time>, purpose: Purpose, step: usize) {
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

    /// An IPv6 address is on a device once; with another prefix length it would be kept as it is.
    async fn clear_other_prefix(&self, address: &Address, link: &Link, held: &[Held]) {
        let wrong = held
            .iter()
            .find(|held| held.index == link.index && held.ip == address.ip && held.ip.is_ipv6() && held.prefix != address.prefix);
        if let Some(wrong) = wrong {
            self.requests.remove(&[(wrong.index, wrong.ip, wrong.prefix)]).await;
        }
    }

    /// IPv6 addresses are removed by prefix length too; look for those that have another one.
    async fn remove_other_prefixes(&self, addresses: &[Address], links: &Links<'_>, results: &mut [Result<(), DriverError>]) {
        let held = match self.requests.addresses().await {
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
            let left = held.iter().filter(|held| held.index == link.index && held.ip == address.ip);
            let orders: Vec<_> = left.map(|left| (left.index, left.ip, left.prefix)).collect();
            for answer in self.requests.remove(&orders).await {
                match answer {
                    Ok(()) | Err(SysError::Call { errno: Errno::EADDRNOTAVAIL, .. }) => {}
                    Err(error) => *result = Err(undone(address, "remove it from", &error)),
                }
            }
        }
    }

    pub(super) async fn usable_link(&self, address: &Address) -> Result<Link, DriverError> {
        let link = self.requests.link(&address.interface.device).await.map_err(|error| unasked(address, &error))?;
        usable(address, link)
    }
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
    let seconds = |slack: Duration| u32::try_from(remaining.saturating_sub(slack).as_secs()).unwrap_or(u32::MAX - 1);
    seconds(KERNEL_SLACK + NEXT_LOOK).max(1)
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

/// An order failed: the kernel refused it, or did not say.
fn undone(address: &Address, doing: &'static str, error: &SysError) -> DriverError {
    match error {
        SysError::Call { errno, .. } => refused(address, doing, *errno),
        other => unasked(address, other),
    }
}

fn refused(address: &Address, doing: &'static str, errno: Errno) -> DriverError {
    DriverError::Address { ip: address.ip, device: address.interface.device.clone(), doing, errno }
}

fn lease_over(address: &Address) -> DriverError {
    DriverError::LeaseOver { ip: address.ip, device: address.interface.device.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_lets_go_before_the_lease_does() {
        for (milliseconds, seconds) in [(1, 1), (1299, 1), (1300, 1), (3299, 1), (3300, 2), (30_000, 28)] {
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
