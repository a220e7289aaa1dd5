//! Carries out the orders of the core. One task per group, so that a slow one delays nobody else; deadlines, retries and undo
//! live here, and so does the upkeep of what runs.

mod addresses;
mod recovery;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU32},
    time::Duration,
};

use futures_util::future::{join_all, try_join_all};
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::{error, info, warn};

use addresses::Held;
use recovery::GivenUp;

use super::{
    board::Board,
    chronicle::ResourceNews,
    cluster_thread::Mailbox,
    journal::Notes,
    lifetime::Lifetimes,
    orders::{Order, Slot},
    reload::{Farewell, Farewells},
    sequence::{Step, steps},
};
use crate::{
    drivers::{AddressEvent, Condition, DriverError, Drivers, ServiceEvent},
    model::{Activity, Address, Assignment, Config, Event, Generation, Group, Kind, NodeConfig, Outcome, Resource, Spec, StopReason},
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
    /// Where goes what operators may want to know of.
    pub notes: Notes,
    /// What address lifetimes this cluster's lease allows.
    pub lifetimes: Lifetimes,
    /// What the kernel says of addresses and links.
    pub events: broadcast::Sender<AddressEvent>,
    /// Operators want hands off what runs.
    pub hands_off: watch::Receiver<bool>,
    /// What is to be stopped before another process takes over.
    pub farewells: Farewells,
}

/// Starts the worker of one group.
pub fn start(shared: Arc<Shared>, group: Group, slot: watch::Receiver<Slot>) {
    let members: Vec<Member> = group
        .assignments
        .iter()
        .filter_map(|assignment| {
            let resource = shared.config.resource(&assignment.resource)?.clone();
            Some(Member { assignment: assignment.clone(), resource, failures: Mutex::default() })
        })
        .collect();
    let title = group.title(&shared.config);
    let steps = steps(&members.iter().map(|member| &member.resource).collect::<Vec<_>>());
    let worker = Worker {
        shared,
        group,
        title,
        members,
        steps,
        slot,
        address_turn: Arc::default(),
        held: Mutex::default(),
        vain: AtomicU32::new(0),
    };
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

struct Worker {
    shared: Arc<Shared>,
    group: Group,
    title: String,
    members: Vec<Member>,
    /// Positions of the members, in the order in which they start.
    steps: Vec<Step>,
    slot: watch::Receiver<Slot>,
    /// Held by whoever changes addresses of this group.
    address_turn: Arc<tokio::sync::Mutex<()>>,
    /// By position of the member.
    held: Mutex<BTreeMap<usize, Held>>,
    /// Times that it was ordered to be tried again here because what it lacked had come, and failed all the same.
    vain: AtomicU32,
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
        let mut adopt = adopt;
        loop {
            // While a later member starts, the addresses of the earlier ones must be kept alive.
            let farewell = tokio::select! {
                _ = self.superseded(generation) => return,
                () = self.keep_addresses() => return,
                () = self.start_and_watch(generation, adopt) => return,
                farewell = self.farewell() => farewell,
            };
            tokio::select! {
                _ = self.superseded(generation) => return,
                () = self.keep_addresses() => return,
                () = self.part(&farewell) => {}
            }
            // It did not come to that: what was stopped is started again.
            adopt = true;
        }
    }

    /// Waits until something of this group is to be stopped before another process takes over.
    async fn farewell(&self) -> Arc<Farewell> {
        let mut farewells = self.shared.farewells.subscribe();
        loop {
            let said = farewells.borrow_and_update().clone();
            if let Some(farewell) =
                said.filter(|farewell| self.members.iter().any(|member| farewell.ends.contains(&member.assignment.id())))
            {
                return farewell;
            }
            if farewells.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops that, and waits for the other process; returns when it will not come.
    async fn part(&self, farewell: &Arc<Farewell>) {
        let mut done = Ok(());
        for (position, member) in self.members.iter().enumerate().rev() {
            if !farewell.ends.contains(&member.assignment.id()) {
                continue;
            }
            locked(&self.held).remove(&position);
            self.shared.board.set(&member.assignment, Activity::Stopping);
            done = self.stop_member(member).await.map_err(|failure| format!("{} did not stop: {failure}", member.assignment.resource));
            if done.is_err() {
                break;
            }
            self.shared.board.set(&member.assignment, Activity::Stopped);
        }
        drop(farewell.done.send(done).await);
        let same = |said: &Option<Arc<Farewell>>| said.as_ref().is_some_and(|said| Arc::ptr_eq(said, farewell));
        if self.shared.farewells.subscribe().wait_for(|said| !same(said)).await.is_err() {
            std::future::pending::<()>().await;
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
        let given_up = match self.start_members().await {
            Ok(()) => {
                let how = if adopt { "taken over" } else { "up" };
                info!("group {}: {how} after {:.1} ms", self.title, begun.elapsed().as_secs_f64() * 1000.0);
                self.report(generation, Outcome::Started);
                self.recovered();
                self.watch_members().await
            }
            Err(given_up) => given_up,
        };
        // What was started comes down again, and stays down until it is ordered anew.
        let (lacks, ()) = tokio::join!(self.lacks(&given_up), self.stop_until_down(StopReason::Failed));
        self.report(generation, Outcome::StartFailed);
        if lacks {
            self.recover(&given_up).await;
        }
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

    async fn start_members(&self) -> Result<(), GivenUp> {
        for step in &self.steps {
            try_join_all(step.iter().map(|lane| self.start_lane(lane))).await?;
        }
        Ok(())
    }

    /// One after another.
    async fn start_lane(&self, lane: &[usize]) -> Result<(), GivenUp> {
        for position in lane.iter().copied() {
            let member = &self.members[position];
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
    async fn start_member(&self, position: usize, member: &Member) -> Result<(), GivenUp> {
        let mut wait = FIRST_RETRY;
        let mut tries = 0;
        loop {
            let Err(failure) = self.try_start(position, member).await else { return Ok(()) };
            // A start that takes long to fail would never fail often enough within the window, and nobody else would try.
            tries += 1;
            let (recent, too_many) = member.failed();
            let count = recent.max(tries);
            let too_many = too_many || tries >= member.resource.options.restart_limit || failure.is_lasting();
            self.shared.board.fail(&member.assignment, failure.to_string(), count);
            if too_many {
                let tried = if failure.is_lasting() { "here".to_owned() } else { format!("here after {count} tries") };
                error!("{} cannot be started {tried}: {failure}", member.assignment.resource);
                self.shared.board.set(&member.assignment, Activity::Failed);
                self.shared.board.fail(&member.assignment, failure.to_string(), count);
                self.news(member, ResourceNews::GivenUp(failure.to_string()));
                return Err(GivenUp { position, lacks: failure.is_lack() });
            }
            warn!("{} did not start, trying again: {failure}", member.assignment.resource);
            self.news(member, ResourceNews::Failed(format!("it did not start: {failure}")));
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

    fn news(&self, member: &Member, news: ResourceNews) {
        self.shared.notes.resource(&member.assignment, news);
    }

    /// Checks every member at its interval; returns when one of them cannot be kept running.
    async fn watch_members(&self) -> GivenUp {
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
            if let Err(given_up) = self.check(position, member, &mut stalled[position]).await {
                return given_up;
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

    /// Fails when the member is down for good.
    async fn check(&self, position: usize, member: &Member, stalled: &mut u32) -> Result<(), GivenUp> {
        let condition = self.shared.drivers.check(&member.resource, &member.assignment).await;
        let failure = match condition {
            Ok(Condition::Up) => {
                *stalled = 0;
                self.shared.board.set(&member.assignment, Activity::Running);
                return Ok(());
            }
            Ok(Condition::Stalled) => {
                *stalled += 1;
                let message = format!("no answer to {stalled} checks in a row");
                self.shared.board.fail(&member.assignment, message, *stalled);
                if *stalled < STALLED_CHECKS {
                    return Ok(());
                }
                "it does not answer".to_owned()
            }
            Ok(Condition::Down) => "it is down".to_owned(),
            Ok(Condition::Partial) => "it is only partly up".to_owned(),
            // Unknown is not down.
            Err(failure) => {
                warn!("{}: cannot be checked: {failure}", member.assignment.resource);
                self.shared.board.fail(&member.assignment, failure.to_string(), 1);
                return Ok(());
            }
        };
        *stalled = 0;
        let (count, too_many) = member.failed();
        self.shared.board.fail(&member.assignment, failure.clone(), count);
        if too_many {
            error!("{} failed {count} times and is given up here: {failure}", member.assignment.resource);
            self.shared.board.set(&member.assignment, Activity::Failed);
            self.news(member, ResourceNews::GivenUp(failure.clone()));
            self.shared.board.fail(&member.assignment, failure, count);
            return Err(GivenUp { position, lacks: false });
        }
        warn!("{}: {failure}; starting it again", member.assignment.resource);
        self.news(member, ResourceNews::Failed(failure));
        self.start_member(position, member).await
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
        locked(&self.held).clear();
        let mut failures = Vec::new();
        let quick = |position: &usize| matches!(self.members[*position].assignment.resource.kind, Kind::Address | Kind::Crontab);
        if why == StopReason::LeaseLost {
            let all: Vec<usize> = (0..self.members.len()).filter(quick).collect();
            failures.extend(self.stop_lane(&all, why).await);
        }
        for step in self.steps.iter().rev() {
            let lanes = step.iter().map(|lane| {
                let left: Vec<usize> = lane.iter().copied().filter(|position| why != StopReason::LeaseLost || !quick(position)).collect();
                async move { self.stop_lane(&left, why).await }
            });
            failures.extend(join_all(lanes).await.into_iter().flatten());
        }
        failures
    }

    /// One after another, the last one first.
    async fn stop_lane(&self, lane: &[usize], why: StopReason) -> Vec<String> {
        let mut failures = Vec::new();
        for member in lane.iter().rev().map(|position| &self.members[*position]).filter(|member| !self.keeps(member, why)) {
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
                    self.news(member, ResourceNews::Stuck(failure.to_string()));
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
