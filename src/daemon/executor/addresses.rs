//! The addresses of a group: added within the lease, prolonged with it, put back when somebody takes them away.

use std::time::Duration;

use tokio::sync::broadcast;
use tracing::warn;

use super::{Worker, locked};
use crate::{
    daemon::{chronicle::ResourceNews, lifetime::Lifetimes, orders::Slot},
    drivers::{AddressEvent, Condition, DriverError},
    model::{Address, Time},
    sys::clock,
};

/// An address that the kernel holds for us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// The lifetime last set, and when it ends; `None` when it has no end.
    lifetime: Option<(Duration, Time)>,
    /// Gone by someone else's hand or by its lifetime.
    missing: bool,
}

impl Worker {
    pub(super) async fn adopt_address(&self, position: usize, address: Address) -> Result<(), DriverError> {
        let until = self.slot.borrow().until;
        let shared = self.shared.clone();
        let lifetime = until.map(|until| self.kept_for(until));
        if let Some(until) = until {
            let renewed = self.in_order(async move { shared.drivers.addresses().refresh(vec![(address, until)]).await }).await;
            renewed.into_iter().collect::<Result<(), _>>()?;
        } else {
            shared.drivers.addresses().adopt(&address, None);
        }
        locked(&self.held).insert(position, Held { lifetime, missing: false });
        Ok(())
    }

    /// The end of the lease; waits for a renewal when too little is left for the kernel. `None` without a lease.
    pub(super) async fn fresh_lease(&self) -> Option<Time> {
        let mut slot = self.slot.clone();
        loop {
            let now = *slot.borrow_and_update();
            let until = now.until?;
            if self.lifetime(now).is_some() {
                return Some(until);
            }
            if slot.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The lifetime that the lease allows now; `None` when too little of it is left, or when there is none.
    fn lifetime(&self, slot: Slot) -> Option<Duration> {
        slot.lifetimes(self.shared.lifetimes).lifetime(slot.until?.since(clock::now()))
    }

    pub(super) async fn start_address(&self, position: usize, until: Option<Time>) -> Result<(), DriverError> {
        let (shared, member) = (self.shared.clone(), &self.members[position]);
        let (resource, assignment) = (member.resource.clone(), member.assignment.clone());
        self.in_order(async move { shared.drivers.start(&resource, &assignment, until).await }).await?;
        let lifetime = until.map(|until| self.kept_for(until));
        locked(&self.held).insert(position, Held { lifetime, missing: false });
        // Adding one announces it.
        self.shared.notes.announced(self.group.id);
        Ok(())
    }

    /// Runs what changes addresses to its end, one after another, even when whoever asked for it stops waiting: an address
    /// added after its own removal would have two owners.
    pub(super) async fn in_order<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let turn = self.address_turn.clone().lock_owned().await;
        let task = tokio::spawn(async move {
            let done = work.await;
            drop(turn);
            done
        });
        task.await.expect("work on addresses neither panics nor is it aborted")
    }

    /// What the kernel was told of a lease that ends then: for how long, and until when.
    fn kept_for(&self, until: Time) -> (Duration, Time) {
        let now = clock::now();
        let slot = Slot { until: Some(until), ..*self.slot.borrow() };
        // With too little left to be exact the driver sets the shortest lifetime there is.
        let life = self.lifetime(slot).unwrap_or(Duration::from_secs(1));
        (life, now + life)
    }

    /// Refreshes lifetimes as the lease is renewed, and puts back what someone took away.
    pub(super) async fn keep_addresses(&self) {
        let (mut slot, mut events) = (self.slot.clone(), self.shared.events.subscribe());
        let mut hands_off = self.shared.hands_off.clone();
        let mut announced = slot.borrow_and_update().announcements;
        loop {
            let last_chance = self.last_chance();
            tokio::select! {
                () = async {
                    match last_chance {
                        Some(wait) => tokio::time::sleep(wait).await,
                        None => std::future::pending().await,
                    }
                } => {
                    let now = *slot.borrow();
                    self.refresh_addresses(now, Lifetimes::prolonged).await;
                }
                changed = slot.changed() => {
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                    let now = *slot.borrow_and_update();
                    self.refresh_addresses(now, Lifetimes::lifetime).await;
                    if std::mem::replace(&mut announced, now.announcements) != now.announcements {
                        self.announce();
                    }
                }
                changed = hands_off.changed() => {
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                    if !*hands_off.borrow_and_update() {
                        self.look_at_addresses().await;
                    }
                }
                event = events.recv() => match event {
                    Ok(AddressEvent::AddressGone { ip, device }) => self.put_back(ip, &device).await,
                    Ok(AddressEvent::LinkDown { .. } | AddressEvent::LinkUp { .. } | AddressEvent::AlsoOn { .. }) => {}
                    // Too many at once to follow: look at all of them.
                    Err(broadcast::error::RecvError::Lagged(_)) => self.look_at_addresses().await,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        }
    }

    /// How long until the first lifetime is to be prolonged although the core has told nothing new; `None` when it was tried.
    fn last_chance(&self) -> Option<Duration> {
        let now = clock::now();
        let ends = |held: &Held| held.lifetime.map(|(_, ends)| Lifetimes::last_chance(ends)).filter(|at| *at > now);
        locked(&self.held).values().filter_map(ends).min().map(|at| at.since(now))
    }

    async fn refresh_addresses(&self, slot: Slot, allowed: fn(Lifetimes, Duration) -> Option<Duration>) {
        let now = clock::now();
        let Some(until) = slot.until else { return };
        let Some(lifetime) = allowed(slot.lifetimes(self.shared.lifetimes), until.since(now)) else { return };
        let (step, interval) = (self.shared.node.pace.lease() / 8, self.shared.node.pace.interval);
        let (mut due, mut missing) = (Vec::new(), Vec::new());
        for (position, held) in locked(&self.held).iter_mut() {
            let Some(address) = self.members[*position].address() else { continue };
            if held.missing {
                missing.push(*position);
            } else if held
                .lifetime
                .is_none_or(|(life, ends)| now + lifetime > ends && Lifetimes::is_due(life, ends.since(now), step, interval))
            {
                held.lifetime = Some((lifetime, now + lifetime));
                due.push((address.clone(), until));
            }
        }
        if !due.is_empty() {
            let shared = self.shared.clone();
            let results = self.in_order(async move { shared.drivers.addresses().refresh(due).await }).await;
            for failure in results.into_iter().filter_map(Result::err) {
                warn!("group {}: cannot renew an address: {failure}", self.title);
            }
        }
        for position in missing {
            self.restore(position).await;
        }
    }

    async fn put_back(&self, ip: std::net::IpAddr, device: &str) {
        let ours = |position: &usize| {
            self.members[*position].address().is_some_and(|address| address.ip == ip && address.interface.device == device)
        };
        let Some(position) = locked(&self.held).keys().copied().find(ours) else { return };
        if let Some(held) = locked(&self.held).get_mut(&position) {
            held.missing = true;
        }
        self.restore(position).await;
    }

    async fn look_at_addresses(&self) {
        let positions: Vec<usize> = locked(&self.held).keys().copied().collect();
        for position in positions {
            let member = &self.members[position];
            if let Ok(Condition::Down | Condition::Partial) = self.shared.drivers.probe(&member.resource, &member.assignment).await {
                self.restore(position).await;
            }
        }
    }

    /// Adds an address again that the lease still covers; when too little of it is left, the next renewal does.
    async fn restore(&self, position: usize) {
        if *self.shared.hands_off.borrow() {
            // Not even renewed, which would bring it back.
            if let Some(held) = locked(&self.held).get_mut(&position) {
                held.missing = true;
            }
            return;
        }
        let member = &self.members[position];
        let slot = *self.slot.borrow();
        let until = slot.until;
        if until.is_some() && self.lifetime(slot).is_none() {
            return;
        }
        let ended = locked(&self.held).get(&position).and_then(|held| held.lifetime).is_some_and(|(_, ends)| ends <= clock::now());
        match self.start_address(position, until).await {
            Ok(()) => {
                let why = if ended {
                    "ran out with its lifetime, since this node or its link stood still,"
                } else {
                    "was gone from its interface"
                };
                warn!("{} {why} and has been put back", member.assignment.resource);
                self.news(member, ResourceNews::Restored(why));
            }
            Err(failure) => warn!("{} is gone from its interface and cannot be put back: {failure}", member.assignment.resource),
        }
    }

    fn announce(&self) {
        let addresses: Vec<Address> = locked(&self.held).keys().filter_map(|position| self.members[*position].address().cloned()).collect();
        self.shared.drivers.addresses().announce(&addresses);
    }
}
