//! Services as units of systemd, over D-Bus: started, stopped and watched, each with its deadline.
//!
//! Owns the connection to the system bus. Never believes an order to be done because it was accepted: the end of its job is
//! waited for, and then the unit is asked. Never waits without a limit, and never restarts anything on its own account.

mod bus;
mod error;
mod order;
mod scope;
mod unit;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{sys::signal::Signal, unistd};
use tokio::{
    sync::broadcast,
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tracing::{info, warn};
use zbus::OwnedObjectPath;

use self::{
    bus::{Bus, Finished, Link, Trouble, answered},
    unit::{Reading, State, full_name},
};
use super::Condition;

pub use error::ServiceError;
pub use scope::scope_name;

/// Its existence means that systemd is in charge, see sd_booted(3).
const BOOTED: &str = "/run/systemd/system";
/// There where polkit is.
const POLKIT: &str = "/usr/share/dbus-1/system-services/org.freedesktop.PolicyKit1.service";
/// Where the system bus listens.
const SOCKET: &str = "/run/dbus/system_bus_socket";
/// Between two looks at a unit that is on its way, beside the signals.
const LOOK: Duration = Duration::from_millis(200);
/// Between two looks at a unit that becomes what it is to be, which no signal of a job tells.
const GLANCE: Duration = Duration::from_millis(20);
/// Before systemd is asked again after it went away.
const AGAIN: Duration = Duration::from_millis(50);

/// A unit that was asked about may have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEvent {
    /// Its full name.
    pub unit: String,
}

impl ServiceEvent {
    /// Whether it concerns a service of this name in the configuration.
    #[must_use]
    pub fn is_about(&self, name: &str) -> bool {
        self.unit == full_name(name)
    }
}

/// The units of this machine. Cheap to clone; the last clone takes the connection with it.
#[derive(Clone)]
pub struct Services {
    bus: Arc<Bus>,
    /// Why it is not used; scripts are.
    absent: Option<&'static str>,
    said: Arc<AtomicBool>,
    /// Units whose start may take longer than we wait, so that it is said once.
    slow: Arc<Mutex<BTreeSet<String>>>,
    _task: Option<Arc<Task>>,
}

struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is to become of a unit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Start,
    Stop,
}

impl Order {
    const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }
}

impl Services {
    /// Begins to connect, where systemd and its bus are there and will listen to us; within a tokio runtime.
    #[must_use]
    pub fn open() -> Self {
        let absent = if !Path::new(BOOTED).is_dir() {
            Some("this machine was not booted by systemd")
        } else if std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_none() && !Path::new(SOCKET).exists() {
            Some("there is no system bus (/run/dbus/system_bus_socket); install dbus")
        } else if !unistd::geteuid().is_root() && !Path::new(POLKIT).exists() {
            Some("this daemon does not run as root, and there is no polkit to let it talk to systemd")
        } else {
            None
        };
        let bus = Bus::new();
        let task = absent.is_none().then(|| Arc::new(Task(tokio::spawn(bus.clone().keep()).abort_handle())));
        Self { bus, absent, said: Arc::default(), slow: Arc::default(), _task: task }
    }

    /// Whether units can be had here. Says once why not.
    #[must_use]
    pub fn available(&self) -> bool {
        let Some(why) = self.absent else { return true };
        if !self.said.swap(true, Ordering::Relaxed) {
            info!("services are started and stopped by the script service.sh: {why}");
        }
        false
    }

    /// Whether systemd can be talked to.
    #[must_use]
    pub fn has_systemd(&self) -> bool {
        self.absent.is_none()
    }

    /// Sees to it that, at a shutdown, systemd stops these services, and no others that it was told of before, only after this daemon
    /// has ended. In the background.
    pub fn outlast(&self, names: impl IntoIterator<Item = String>) {
        let units: BTreeSet<String> = names.into_iter().map(|name| full_name(&name)).collect();
        if !self.has_systemd() {
            return;
        }
        let bus = self.bus.clone();
        tokio::spawn(async move { order::after(&bus, units.into_iter().collect()).await });
    }

    /// Units of which something new is known. A listener that is too slow misses some, and is told so.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<ServiceEvent> {
        self.bus.events()
    }

    /// What systemd says now.
    ///
    /// # Errors
    /// It could not be asked within `limit`.
    pub async fn probe(&self, name: &str, limit: Duration) -> Result<Condition, ServiceError> {
        let reading = self.reading(&full_name(name), limit).await?;
        Ok(match reading.state {
            State::Running => Condition::Up,
            State::Pending => Condition::Partial,
            State::Down | State::Failed => Condition::Down,
        })
    }

    /// What systemd says; a unit on its way is given `patience` to arrive, since to interfere would only make it take longer.
    ///
    /// # Errors
    /// As [`Services::probe`].
    pub async fn check(&self, name: &str, limit: Duration, patience: Duration) -> Result<Condition, ServiceError> {
        let (unit, deadline) = (full_name(name), Instant::now() + patience);
        loop {
            match self.reading(&unit, limit).await?.state {
                State::Running => return Ok(Condition::Up),
                State::Pending if Instant::now() < deadline => sleep(GLANCE).await,
                State::Pending | State::Down | State::Failed => return Ok(Condition::Down),
            }
        }
    }

    /// Whether systemd knows the unit and would start it.
    ///
    /// # Errors
    /// It is masked, missing or unreadable; systemd could not be asked within `limit`.
    pub async fn could_start(&self, name: &str, limit: Duration) -> Result<(), ServiceError> {
        let unit = full_name(name);
        match self.reading(&unit, limit).await?.load.as_str() {
            "masked" => Err(ServiceError::Masked { unit }),
            "not-found" => Err(ServiceError::NotFound { unit }),
            "bad-setting" | "error" => Err(ServiceError::Unloadable { why: format!("see `systemctl status {unit}`"), unit }),
            _ => Ok(()),
        }
    }

    /// Starts it, and waits until it runs. Succeeds when it runs already.
    ///
    /// # Errors
    /// [`ServiceError`]; masked and missing units by name.
    pub async fn start(&self, name: &str, limit: Duration) -> Result<(), ServiceError> {
        let unit = full_name(name);
        let deadline = Instant::now() + limit;
        loop {
            match timeout_at(deadline, self.try_start(&unit, limit)).await {
                Ok(Ok(done)) => return done,
                Ok(Err(Trouble::Again(why))) => pause(&unit, limit, deadline, why).await?,
                Ok(Err(Trouble::Refused(name, text))) => return Err(refused(unit, Order::Start, &name, text)),
                Err(_) => return Err(ServiceError::TooSlow { unit, doing: "start", limit }),
            }
        }
    }

    /// Stops it, and waits until nothing of it is left. Succeeds when it does not run, or does not exist. What does not end by
    /// itself in four fifths of the time is killed.
    ///
    /// # Errors
    /// [`ServiceError`]; it may still be there.
    pub async fn stop(&self, name: &str, limit: Duration) -> Result<(), ServiceError> {
        let unit = full_name(name);
        let (patience, deadline) = (Instant::now() + limit * 4 / 5, Instant::now() + limit);
        let mut killed = false;
        loop {
            let until = if killed { deadline } else { patience };
            match timeout_at(until, self.try_stop(&unit, killed)).await {
                Ok(Ok(done)) => return done,
                Ok(Err(Trouble::Again(why))) => pause(&unit, limit, deadline, why).await?,
                Ok(Err(Trouble::Refused(name, _))) if name == NO_SUCH_UNIT => return Ok(()),
                Ok(Err(Trouble::Refused(name, text))) => return Err(refused(unit, Order::Stop, &name, text)),
                Err(_) if !killed => {
                    warn!("{unit} did not stop in {:?}, and is killed now", limit * 4 / 5);
                    killed = true;
                }
                Err(_) => return Err(ServiceError::Survived { unit, limit }),
            }
        }
    }

    async fn try_start(&self, unit: &str, limit: Duration) -> Result<Result<(), ServiceError>, Trouble> {
        let link = self.bus.link(Instant::now() + limit).await?;
        let reading = self.bus.read(&link, unit).await?;
        if reading.state == State::Running {
            return Ok(Ok(()));
        }
        let unit_name = || unit.to_owned();
        match reading.load.as_str() {
            "masked" => return Ok(Err(ServiceError::Masked { unit: unit_name() })),
            "not-found" => return Ok(Err(ServiceError::NotFound { unit: unit_name() })),
            "bad-setting" | "error" => {
                let why = link.load_error(unit).await?;
                return Ok(Err(ServiceError::Unloadable { unit: unit_name(), why }));
            }
            _ => {}
        }
        if unit.ends_with(".service") {
            self.compare_timeouts(unit, limit, link.start_timeout(unit).await?);
        }
        // A unit that failed too often in a row would not even be tried; an order of the cluster is a fresh start.
        match answered(link.manager.reset_failed_unit(unit.to_owned()).await) {
            Err(Trouble::Again(why)) => return Err(Trouble::Again(why)),
            Ok(()) | Err(Trouble::Refused(..)) => {}
        }
        let mut finished = link.finished();
        let job = answered(link.manager.start_unit(unit.to_owned(), "replace".to_owned()).await)?;
        match self.end_of(&link, &mut finished, &job, unit).await? {
            None => {}
            Some(result) if result == "done" => {}
            Some(result) => return Ok(Err(ServiceError::Job { unit: unit_name(), doing: "start", result })),
        }
        // The job is done; what matters is the unit.
        loop {
            match self.bus.read(&link, unit).await?.state {
                State::Running => return Ok(Ok(())),
                State::Pending => sleep(GLANCE).await,
                State::Down => return Ok(Err(ServiceError::EndedAtOnce { unit: unit_name() })),
                State::Failed => return Ok(Err(ServiceError::Job { unit: unit_name(), doing: "start", result: "failed".to_owned() })),
            }
        }
    }

    async fn try_stop(&self, unit: &str, kill: bool) -> Result<Result<(), ServiceError>, Trouble> {
        // The caller's deadline ends this wait.
        let link = self.bus.link(Instant::now() + Duration::from_secs(60)).await?;
        let is_down = |reading: &Reading| matches!(reading.state, State::Down | State::Failed);
        if is_down(&self.bus.read(&link, unit).await?) {
            return Ok(Ok(()));
        }
        let mut finished = link.finished();
        // While systemd stops us, it would let the unit wait until we have ended, see `outlast`.
        let mode = if link.is_leaving().await? { "ignore-dependencies" } else { "replace" };
        let job = answered(link.manager.stop_unit(unit.to_owned(), mode.to_owned()).await)?;
        if kill {
            let all = link.manager.kill_unit(unit.to_owned(), "all".to_owned(), Signal::SIGKILL as i32).await;
            if let Err(Trouble::Refused(_, text)) = answered(all) {
                warn!("{unit} cannot be killed: {text}");
            }
        }
        let result = self.end_of(&link, &mut finished, &job, unit).await?;
        loop {
            let reading = self.bus.read(&link, unit).await?;
            if is_down(&reading) {
                return Ok(Ok(()));
            }
            // Somebody started it again, or took our order back.
            if reading.state == State::Running {
                let result = result.unwrap_or_else(|| "canceled".to_owned());
                return Ok(Err(ServiceError::Job { unit: unit.to_owned(), doing: "stop", result }));
            }
            sleep(GLANCE).await;
        }
    }

    /// The result of a job; none when its end was not seen, but the unit has arrived.
    async fn end_of(
        &self,
        link: &Link,
        finished: &mut broadcast::Receiver<Finished>,
        job: &OwnedObjectPath,
        unit: &str,
    ) -> Result<Option<String>, Trouble> {
        let mut look = Instant::now() + LOOK;
        loop {
            tokio::select! {
                news = finished.recv() => match news {
                    Ok(news) if news.job == *job => return Ok(Some(news.result)),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Err(Trouble::Again("the connection ended".to_owned())),
                },
                () = sleep_until(look) => {
                    // A safety net: what is said while systemd executes itself again is lost.
                    if self.bus.read(link, unit).await?.state != State::Pending {
                        return Ok(None);
                    }
                    look = Instant::now() + LOOK;
                }
            }
        }
    }

    async fn reading(&self, unit: &str, limit: Duration) -> Result<Reading, ServiceError> {
        let deadline = Instant::now() + limit;
        let late = |why: String| ServiceError::Unanswered { unit: unit.to_owned(), limit, why };
        loop {
            let answer = timeout_at(deadline, async {
                let link = self.bus.link(deadline).await?;
                self.bus.read(&link, unit).await
            });
            match answer.await {
                Ok(Ok(reading)) => return Ok(reading),
                Ok(Err(Trouble::Again(why))) => pause(unit, limit, deadline, why).await?,
                Ok(Err(Trouble::Refused(_, why))) => {
                    return Err(ServiceError::Refused { unit: unit.to_owned(), doing: "show", why });
                }
                Err(_) => return Err(late("no answer".to_owned())),
            }
        }
    }

    fn compare_timeouts(&self, unit: &str, limit: Duration, theirs: Option<Duration>) {
        let Some(theirs) = theirs.filter(|theirs| *theirs > limit) else { return };
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        if slow.insert(unit.to_owned()) {
            warn!(
                "{unit} may take {theirs:?} to start (its TimeoutStartSec), but start_timeout is {limit:?}: a slow start is given up \
                 before systemd does; raise start_timeout, or lower TimeoutStartSec with `systemctl edit {unit}`"
            );
        }
    }
}

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

fn refused(unit: String, order: Order, name: &str, text: String) -> ServiceError {
    match name {
        NO_SUCH_UNIT => ServiceError::NotFound { unit },
        "org.freedesktop.systemd1.UnitMasked" => ServiceError::Masked { unit },
        // The first is systemd's word for: polkit would have to ask somebody for a password.
        "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" | "org.freedesktop.DBus.Error.AccessDenied" => {
            ServiceError::Denied { unit, doing: order.word() }
        }
        _ => ServiceError::Refused { unit, doing: order.word(), why: text },
    }
}

/// Waits a little before systemd is asked again; not past the deadline.
async fn pause(unit: &str, limit: Duration, deadline: Instant, why: String) -> Result<(), ServiceError> {
    if Instant::now() + AGAIN >= deadline {
        return Err(ServiceError::Unanswered { unit: unit.to_owned(), limit, why });
    }
    sleep(AGAIN).await;
    Ok(())
}
