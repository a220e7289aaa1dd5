//! Carries out the orders of the core. One task per group, so that a slow one delays nobody else; deadlines, retries and undo
//! live here, and so does the upkeep of what runs.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{broadcast, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::{error, info, warn};

use super::{
    board::Board,
    cluster_thread::Mailbox,
    lifetime::Lifetimes,
    orders::{Order, Slot},
};
use crate::{
    drivers::{AddressEvent, Condition, DriverError, Drivers, ServiceEvent},
    model::{Activity, Address, Assignment, Config, Event, Generation, Group, Kind, NodeConfig, Outcome, Resource, Spec, StopReason, Time},
    sys::clock,
};

/// Wait after a first failed start or stop; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// Longest wait between tries.
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// Checks without an answer in a row before a resource counts as failed: one that timed out once is not a fault.
const STALLED_CHECKS: u32 = 3;

/// What all workers share.
pub struct Shared {
    /// The cluster.
    pub config: Arc<Config>,
    /// This node.
    pub node: NodeConfig,
    /// The hands.
    pub drivers: Drivers,
    /// Where reports to the core go.
    pub mailbox: Mailbox,
    /// Where reports to people go.
    pub board: Board,
    /// What address lifetimes this cluster's lease allows.
    pub lifetimes: Lifetimes,
    /// What the kernel says of addresses and links.
    pub events: broadcast::Sender<AddressEvent>,
    /// Operators want hands off what runs.
    pub hands_off: watch::Receiver<bool>,
}

/// Starts the worker of one group.
pub fn start(shared: Arc<Shared>, group: Group, slot: watch::Receiver<Slot>) {
    let members = group
        .assignments
        .iter()
        .filter_map(|assignment| {
            let resource = shared.config.resource(&assignment.resource)?.clone();
            Some(Member { assignment: assignment.clone(), resource, failures: Mutex::default() })
        })
        .collect();
    let title = group.title(&shared.config);
    let worker = Worker { shared, group, title, members, slot, address_turn: Arc::default(), held: Mutex::default() };
    tokio::spawn(worker.run());
}

/// One resource of the group.
struct Member {
    assignment: Assignment,
    resource: Resource,
    /// When its latest failures were, within the restart window.
    failures: Mutex<VecDeque<Instant>>,
}

impl Member {
    fn address(&self) -> Option<&Address> {
        match &self.resource.spec {
            Spec::Address(address) => Some(address),
            Spec::FileSystem(_) | Spec::Service(_) | Spec::Application(_) | Spec::Crontab(_) => None,
        }
    }

    fn service(&self) -> Option<&str> {
        match &self.resource.spec {
            Spec::Service(service) => Some(&service.name),
            Spec::FileSystem(_) | Spec::Address(_) | Spec::Application(_) | Spec::Crontab(_) => None,
        }
    }

    /// Notes a failure; returns how many there were within the window, and whether that is too many.
    fn failed(&self) -> (u32, bool) {
        let (now, options) = (Instant::now(), &self.resource.options);
        let mut failures = locked(&self.failures);
        failures.push_back(now);
        while failures.front().is_some_and(|first| now - *first > options.restart_window) {
            failures.pop_front();
        }
        let count = u32::try_from(failures.len()).unwrap_or(u32::MAX);
        (count, count >= options.restart_limit.max(1))
    }
}

/// An address that the kernel holds for us.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// The lifetime last set, and when it ends; `None` when it has no end.
    lifetime: Option<(Duration, Time)>,
    /// Gone by someone else's hand or by its lifetime.
    missing: bool,
}

struct Worker {
    shared: Arc<Shared>,
    group: Group,
    title: String,
    members: Vec<Member>,
    slot: watch::Receiver<Slot>,
    /// Held by whoever changes addresses of this group.
    address_turn: Arc<tokio::sync::Mutex<()>>,
    /// By position of the member.
    held: Mutex<BTreeMap<usize, Held>>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let slot = *self.slot.borrow_and_update();
            match slot.order {
                Order::None => {}
                Order::Up { adopt } => self.up(slot.generation, adopt).await,
                Order::Down(why) => self.down(slot.generation, why).await,
            }
            if self.superseded(slot.generation).await.is_err() {
                // The cluster thread has ended, and the daemon with it.
                return;
            }
        }
    }

    /// Waits for a newer order.
    async fn superseded(&self, generation: Generation) -> Result<(), watch::error::RecvError> {
        self.slot.clone().wait_for(|slot| slot.generation != generation).await.map(drop)
    }

    fn report(&self, generation: Generation, outcome: Outcome) {
        self.shared.mailbox.tell(Event::Done { group: self.group.id, generation, outcome });
    }

    async fn up(&self, generation: Generation, adopt: bool) {
        // While a later member starts, the addresses of the earlier ones must be kept alive.
        tokio::select! {
            _ = self.superseded(generation) => {}
            () = self.keep_addresses() => {}
            () = self.start_and_watch(generation, adopt) => {}
        }
    }

    async fn start_and_watch(&self, generation: Generation, adopt: bool) {
        let begun = Instant::now();
        if adopt {
            self.adopt_members().await;
            let runs = |member: &Member| self.shared.board.note(&member.assignment).activity == Activity::Running;
            if !self.members.iter().all(runs) {
                // What ended meanwhile is not started while operators want hands off.
                self.attended().await;
            }
        }
        if self.start_members().await.is_ok() {
            let how = if adopt { "taken over" } else { "up" };
            info!("group {}: {how} after {:.1} ms", self.title, begun.elapsed().as_secs_f64() * 1000.0);
            self.report(generation, Outcome::Started);
            self.watch_members().await;
        }
        // What was started comes down again, and stays down until it is ordered anew.
        self.stop_until_down(StopReason::Failed).await;
        self.report(generation, Outcome::StartFailed);
        std::future::pending::<()>().await;
    }

    /// Takes over what the process before this one left up: the addresses at once, since their lifetimes run out.
    async fn adopt_members(&self) {
        let addresses_first = |position: &usize| self.members[*position].address().is_none();
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by_key(addresses_first);
        for position in order {
            let member = &self.members[position];
            let condition = self.shared.drivers.probe(&member.resource, &member.assignment).await;
            match condition {
                Ok(Condition::Up) => {}
                Ok(other) => {
                    info!("{} was left running and is {other:?} now", member.assignment.resource);
                    continue;
                }
                Err(failure) => {
                    warn!("{}: cannot see whether it was left running: {failure}", member.assignment.resource);
                    continue;
                }
            }
            if let Some(address) = member.address()
                && let Err(failure) = self.adopt_address(position, address.clone()).await
            {
                warn!("{} was left up but cannot be taken over: {failure}", member.assignment.resource);
                continue;
            }
            self.shared.board.set(&member.assignment, Activity::Running);
        }
    }

    async fn adopt_address(&self, position: usize, address: Address) -> Result<(), DriverError> {
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

    async fn start_members(&self) -> Result<(), ()> {
        for (position, member) in self.members.iter().enumerate() {
            if self.shared.board.note(&member.assignment).activity == Activity::Running {
                continue;
            }
            self.shared.board.set(&member.assignment, Activity::Starting);
            self.start_member(position, member).await?;
            self.shared.board.set(&member.assignment, Activity::Running);
        }
        Ok(())
    }

    /// Tries until it is up or its restart limit is reached.
    async fn start_member(&self, position: usize, member: &Member) -> Result<(), ()> {
        let mut wait = FIRST_RETRY;
        let mut tries = 0;
        loop {
            let Err(failure) = self.try_start(position, member).await else { return Ok(()) };
            // A start that takes long to fail would never fail often enough within the window, and nobody else would try.
            tries += 1;
            let (recent, too_many) = member.failed();
            let (count, too_many) = (recent.max(tries), too_many || tries >= member.resource.options.restart_limit);
            self.shared.board.fail(&member.assignment, failure.to_string(), count);
            if too_many {
                error!("{} cannot be started here after {count} tries: {failure}", member.assignment.resource);
                self.shared.board.set(&member.assignment, Activity::Failed);
                self.shared.board.fail(&member.assignment, failure.to_string(), count);
                return Err(());
            }
            warn!("{} did not start, trying again: {failure}", member.assignment.resource);
            sleep(wait).await;
            self.attended().await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
    }

    async fn try_start(&self, position: usize, member: &Member) -> Result<(), DriverError> {
        if member.address().is_none() {
            return self.shared.drivers.start(&member.resource, &member.assignment, None).await;
        }
        let until = self.fresh_lease().await;
        self.start_address(position, until).await
    }

    /// The end of the lease; waits for a renewal when too little is left for the kernel. `None` without a lease.
    async fn fresh_lease(&self) -> Option<Time> {
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

    async fn start_address(&self, position: usize, until: Option<Time>) -> Result<(), DriverError> {
        let (shared, member) = (self.shared.clone(), &self.members[position]);
        let (resource, assignment) = (member.resource.clone(), member.assignment.clone());
        self.in_order(async move { shared.drivers.start(&resource, &assignment, until).await }).await?;
        let lifetime = until.map(|until| self.kept_for(until));
        locked(&self.held).insert(position, Held { lifetime, missing: false });
        Ok(())
    }

    /// Runs what changes addresses to its end, one after another, even when whoever asked for it stops waiting: an address
    /// added after its own removal would have two owners.
    async fn in_order<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
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
    async fn keep_addresses(&self) {
        let (mut slot, mut events) = (self.slot.clone(), self.shared.events.subscribe());
        let mut hands_off = self.shared.hands_off.clone();
        let mut announced = slot.borrow_and_update().announcements;
        loop {
            tokio::select! {
                changed = slot.changed() => {
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                    let now = *slot.borrow_and_update();
                    self.refresh_addresses(now).await;
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

    async fn refresh_addresses(&self, slot: Slot) {
        let now = clock::now();
        let (Some(until), Some(lifetime)) = (slot.until, self.lifetime(slot)) else { return };
        let (step, interval) = (self.shared.node.pace.lease() / 8, self.shared.node.pace.interval);
        let (mut due, mut missing) = (Vec::new(), Vec::new());
        for (position, held) in locked(&self.held).iter_mut() {
            let Some(address) = self.members[*position].address() else { continue };
            if held.missing {
                missing.push(*position);
            } else if held.lifetime.is_none_or(|(life, ends)| Lifetimes::is_due(life, ends.since(now), step, interval)) {
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
        match self.start_address(position, until).await {
            Ok(()) => warn!("{} was gone from its interface and has been put back", member.assignment.resource),
            Err(failure) => warn!("{} is gone from its interface and cannot be put back: {failure}", member.assignment.resource),
        }
    }

    fn announce(&self) {
        let addresses: Vec<Address> = locked(&self.held).keys().filter_map(|position| self.members[*position].address().cloned()).collect();
        self.shared.drivers.addresses().announce(&addresses);
    }

    /// Checks every member at its interval; returns when one of them cannot be kept running.
    async fn watch_members(&self) {
        let interval = |member: &Member| self.shared.node.checks.of(member.assignment.resource.kind);
        let mut ended = self.shared.drivers.services().events();
        // What ended before anybody listened is seen by a first look.
        let first = |member: &Member| if member.service().is_some() { Duration::ZERO } else { interval(member) };
        let mut due: Vec<Instant> = self.members.iter().map(|member| Instant::now() + first(member)).collect();
        let mut stalled = vec![0; self.members.len()];
        let mut news = self.shared.drivers.news(self.members.iter().map(|member| &member.resource)).await;
        loop {
            let Some((position, at)) = due.iter().copied().enumerate().min_by_key(|(_, at)| *at) else {
                return std::future::pending().await;
            };
            let position = tokio::select! {
                () = sleep_until(at) => position,
                changed = news.next() => changed,
                event = next_event(&mut ended) => {
                    // None: too many at once to follow, so all of them are looked at.
                    let concerned = |name| event.as_ref().is_none_or(|event: &ServiceEvent| event.is_about(name));
                    for (position, member) in self.members.iter().enumerate() {
                        if member.service().is_some_and(concerned) {
                            due[position] = Instant::now();
                        }
                    }
                    continue;
                }
            };
            if self.attended().await {
                // Everything is looked at as soon as that is over.
                due.fill(Instant::now());
                continue;
            }
            let member = &self.members[position];
            if !self.check(position, member, &mut stalled[position]).await {
                return;
            }
            due[position] = Instant::now() + interval(member);
        }
    }

    /// Waits until operators let us look after what runs; true when that took a while.
    async fn attended(&self) -> bool {
        let mut hands_off = self.shared.hands_off.clone();
        if !*hands_off.borrow_and_update() {
            return false;
        }
        if hands_off.wait_for(|off| !off).await.is_err() {
            // The cluster thread has ended, and the daemon with it.
            std::future::pending::<()>().await;
        }
        true
    }

    /// False when the member is down for good.
    async fn check(&self, position: usize, member: &Member, stalled: &mut u32) -> bool {
        let condition = self.shared.drivers.check(&member.resource, &member.assignment).await;
        let failure = match condition {
            Ok(Condition::Up) => {
                *stalled = 0;
                self.shared.board.set(&member.assignment, Activity::Running);
                return true;
            }
            Ok(Condition::Stalled) => {
                *stalled += 1;
                let message = format!("no answer to {stalled} checks in a row");
                self.shared.board.fail(&member.assignment, message, *stalled);
                if *stalled < STALLED_CHECKS {
                    return true;
                }
                "it does not answer".to_owned()
            }
            Ok(Condition::Down) => "it is down".to_owned(),
            Ok(Condition::Partial) => "it is only partly up".to_owned(),
            // Unknown is not down.
            Err(failure) => {
                warn!("{}: cannot be checked: {failure}", member.assignment.resource);
                self.shared.board.fail(&member.assignment, failure.to_string(), 1);
                return true;
            }
        };
        *stalled = 0;
        let (count, too_many) = member.failed();
        self.shared.board.fail(&member.assignment, failure.clone(), count);
        if too_many {
            error!("{} failed {count} times and is given up here: {failure}", member.assignment.resource);
            self.shared.board.set(&member.assignment, Activity::Failed);
            self.shared.board.fail(&member.assignment, failure, count);
            return false;
        }
        warn!("{}: {failure}; starting it again", member.assignment.resource);
        self.start_member(position, member).await.is_ok()
    }

    async fn down(&self, generation: Generation, why: StopReason) {
        let begun = Instant::now();
        tokio::select! {
            _ = self.superseded(generation) => return,
            () = self.stop_until_down(why) => {}
        }
        if why != StopReason::CleanSlate {
            info!("group {}: down after {:.1} ms ({why})", self.title, begun.elapsed().as_secs_f64() * 1000.0);
        }
        self.report(generation, Outcome::Stopped);
    }

    /// A failed stop is never "stopped": nobody else may start it meanwhile, so it is tried until it succeeds.
    async fn stop_until_down(&self, why: StopReason) {
        let mut wait = FIRST_RETRY;
        loop {
            let failures = self.stop_members(why).await;
            if failures.is_empty() {
                return;
            }
            for failure in failures {
                error!("group {}: {failure}", self.title);
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_RETRY);
        }
    }

    /// Every step is tried; the failures are returned. When the lease is lost, what is quick to stop goes first.
    async fn stop_members(&self, why: StopReason) -> Vec<String> {
        let mut order: Vec<&Member> = self.members.iter().rev().filter(|member| !self.keeps(member, why)).collect();
        if why == StopReason::LeaseLost {
            order.sort_by_key(|member| !matches!(member.assignment.resource.kind, Kind::Address | Kind::Crontab));
        }
        locked(&self.held).clear();
        let mut failures = Vec::new();
        for member in order {
            let note = self.shared.board.note(&member.assignment);
            if note.activity != Activity::Failed {
                self.shared.board.set(&member.assignment, Activity::Stopping);
            }
            match self.stop_member(member).await {
                Ok(()) if note.activity == Activity::Failed => {}
                Ok(()) => self.shared.board.set(&member.assignment, Activity::Stopped),
                Err(failure) => {
                    let message = format!("{} did not stop: {failure}", member.assignment.resource);
                    self.shared.board.fail(&member.assignment, message.clone(), 1);
                    failures.push(message);
                }
            }
        }
        failures
    }

    async fn stop_member(&self, member: &Member) -> Result<(), DriverError> {
        let (shared, resource, assignment) = (self.shared.clone(), member.resource.clone(), member.assignment.clone());
        let stop = async move { shared.drivers.stop(&resource, &assignment).await };
        if member.address().is_some() { self.in_order(stop).await } else { stop.await }
    }

    /// `keep_*`: what this node leaves running when its daemon exits. Only what no other node may start meanwhile.
    fn keeps(&self, member: &Member, why: StopReason) -> bool {
        let keep = self.shared.node.keep;
        why == StopReason::Leaving
            && !self.group.is_leased()
            && match member.assignment.resource.kind {
                Kind::Service => keep.services,
                Kind::FileSystem => keep.filesystems,
                Kind::Application => keep.applications,
                Kind::Address | Kind::Crontab => false,
            }
    }
}

/// The next service that may have ended; none when some were missed.
async fn next_event(ended: &mut broadcast::Receiver<ServiceEvent>) -> Option<ServiceEvent> {
    match ended.recv().await {
        Ok(event) => Some(event),
        Err(broadcast::error::RecvError::Lagged(_)) => None,
        Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
