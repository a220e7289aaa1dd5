//! Adding, renewing and removing: what is told to the kernel, in which order, and what is looked at before and after.

use std::{collections::BTreeMap, fs, net::IpAddr, time::Duration};

use nix::errno::Errno;
use tokio::time::Instant;

use super::{Key, Purpose, Shared, Wanted, announce, lock};
use crate::{
    drivers::DriverError,
    model::{Address, Time},
    sys::{
        arp::Form,
        clock,
        netlink::{Held, Link, NewAddress, PrefixRoute, Requests},
    },
};

/// The kernel may be this late in removing an address whose lifetime is over.
const KERNEL_SLACK: Duration = Duration::from_millis(300);
/// Addresses added before the first of them is announced.
const CHUNK: usize = 64;

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
    pub(super) fn add(&self, addresses: &[(Address, Option<Time>)], purpose: Purpose) -> Vec<Result<(), DriverError>> {
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

    pub(super) fn remove(&self, addresses: &[Address]) -> Vec<Result<(), DriverError>> {
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

pub(super) fn usable_link(requests: &mut Requests, address: &Address) -> Result<Link, DriverError> {
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
