//! The connection to systemd: made again whenever it ends, with all that was subscribed to; what it says goes to whoever
//! waits for it.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{debug, info, warn};
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant, connection, fdo, message, proxy::CacheProperties};
use zbus_systemd::systemd1::{ManagerProxy, ServiceProxy, UnitProxy};

use super::{ServiceEvent, unit::Reading};

/// Name of systemd on the bus.
const SYSTEMD: &str = "org.freedesktop.systemd1";
/// Longest that connecting and subscribing may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest that any one call may take, before its caller's own deadline.
const CALL: Duration = Duration::from_secs(10);
/// Between two tries to connect: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Messages that may wait to be looked at.
const QUEUE: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Events and finished jobs that may wait for a slow listener.
const NEWS: usize = 256;

/// Why a call had no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The bus or systemd went away, or is just executing itself again: ask again.
    Again(String),
    /// systemd said no: the name of the error, and its text.
    Refused(String, String),
}

/// A job that is over.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    pub job: OwnedObjectPath,
    pub result: String,
}

/// A connection that works, or did a moment ago.
#[derive(Clone)]
pub(super) struct Link {
    connection: Connection,
    pub manager: ManagerProxy<'static>,
    finished: broadcast::Sender<Finished>,
}

/// The way to systemd, through whatever connection there is.
pub(super) struct Bus {
    link: watch::Sender<Option<Link>>,
    /// The units that were ever asked about, by their path.
    known: Mutex<BTreeMap<String, String>>,
    events: broadcast::Sender<ServiceEvent>,
}

impl Bus {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { link: watch::Sender::new(None), known: Mutex::default(), events: broadcast::Sender::new(NEWS) })
    }

    pub(super) fn events(&self) -> broadcast::Receiver<ServiceEvent> {
        self.events.subscribe()
    }

    /// A connection; waits for one, at most until then.
    pub(super) async fn link(&self, deadline: Instant) -> Result<Link, Trouble> {
        let mut link = self.link.subscribe();
        let there = timeout_at(deadline, link.wait_for(Option::is_some)).await;
        let there = there.ok().and_then(Result::ok).and_then(|link| link.clone());
        there.ok_or_else(|| Trouble::Again("there is no connection to the system bus".to_owned()))
    }

    /// Keeps a connection, until aborted.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut wait = RETRY.0;
        let mut said = false;
        loop {
            match timeout(CONNECT, Link::connect()).await {
                Ok(Ok((link, signals))) => {
                    if said {
                        info!("connected to the system bus again: services are looked at anew");
                    }
                    (wait, said) = (RETRY.0, false);
                    self.link.send_replace(Some(link.clone()));
                    self.look_at_all();
                    self.follow(&link, signals).await;
                    self.link.send_replace(None);
                }
                Ok(Err(fault)) => debug!("cannot connect to the system bus: {fault}"),
                Err(_) => debug!("cannot connect to the system bus: no answer"),
            }
            if !said {
                warn!("no connection to the system bus: services run on, and are not watched until it is back");
                said = true;
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Passes on what systemd says, until the connection ends.
    async fn follow(&self, link: &Link, mut signals: Signals) {
        loop {
            tokio::select! {
                message = signals.jobs.next() => {
                    let Some(Ok(message)) = message else { return };
                    if let Ok((_, job, _, result)) = message.body().deserialize::<(u32, OwnedObjectPath, String, String)>() {
                        // Nobody may be waiting: others give systemd orders, too.
                        drop(link.finished.send(Finished { job, result }));
                    }
                }
                message = signals.changes.next() => {
                    let Some(Ok(message)) = message else { return };
                    self.changed(&message);
                }
                message = signals.owners.next() => {
                    let Some(Ok(message)) = message else { return };
                    let owner = message.body().deserialize::<(String, String, String)>().map(|(_, _, new)| new).unwrap_or_default();
                    if !owner.is_empty() {
                        // Executed again. Most of what it said meanwhile was said to nobody.
                        if let Err(fault) = timeout(CALL, link.manager.subscribe()).await.unwrap_or(Ok(())) {
                            debug!("systemd takes no second subscription: {fault}");
                        }
                        self.look_at_all();
                    }
                }
            }
        }
    }

    /// Some property of some unit has changed.
    fn changed(&self, message: &message::Message) {
        let header = message.header();
        let Some(unit) = header.path().and_then(|path| self.known().get(path.as_str()).cloned()) else { return };
        let body = message.body();
        let Ok((_, changed, _)) = body.deserialize::<(String, BTreeMap<String, OwnedVariant>, Vec<String>)>() else { return };
        let state = changed.get("ActiveState").and_then(|state| <&str>::try_from(state).ok());
        if state.is_some_and(|state| !matches!(state, "active" | "reloading" | "refreshing" | "activating")) {
            drop(self.events.send(ServiceEvent { unit }));
        }
    }

    /// Whatever happened unseen: everybody looks.
    fn look_at_all(&self) {
        for unit in self.known().values() {
            drop(self.events.send(ServiceEvent { unit: unit.clone() }));
        }
    }

    /// What systemd says of a unit now; from then on, events tell of it.
    pub(super) async fn read(&self, link: &Link, unit: &str) -> Result<Reading, Trouble> {
        let path = answered(link.manager.load_unit(unit.to_owned()).await)?;
        self.known().insert(path.as_str().to_owned(), unit.to_owned());
        let unit = link.unit(path).await?;
        let load = answered(unit.load_state().await)?;
        // A unit that was merely mentioned and is not there has no job, and "Job" is "/".
        let (job, _) = answered(unit.job().await)?;
        let (active, sub) = (answered(unit.active_state().await)?, answered(unit.sub_state().await)?);
        Ok(Reading::new(load, &active, &sub, job))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What systemd tells us unasked.
struct Signals {
    jobs: MessageStream,
    changes: MessageStream,
    owners: MessageStream,
}

impl Link {
    async fn connect() -> zbus::Result<(Self, Signals)> {
        let connection = connection::Builder::system().method_timeout(CALL).build().await?;
        let signal = || MatchRule::builder().msg_type(message::Type::Signal);
        let jobs = signal().sender(SYSTEMD).interface("org.freedesktop.systemd1.Manager").member("JobRemoved").build()?;
        let changes = signal()
            .sender(SYSTEMD)
            .path_namespace("/org/freedesktop/systemd1/unit")
            .interface("org.freedesktop.DBus.Properties")
            .member("PropertiesChanged")
            .arg(0, "org.freedesktop.systemd1.Unit")
            .build()?;
        let owners =
            signal().sender("org.freedesktop.DBus").interface("org.freedesktop.DBus").member("NameOwnerChanged").arg(0, SYSTEMD).build()?;
        let stream = async |rule: MatchRule<'static>| MessageStream::for_match_rule(rule, &connection, Some(QUEUE)).await;
        let signals = Signals { jobs: stream(jobs).await?, changes: stream(changes).await?, owners: stream(owners).await? };
        let manager = ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
        manager.subscribe().await?;
        Ok((Self { connection, manager, finished: broadcast::Sender::new(NEWS) }, signals))
    }

    /// The jobs that end from now on.
    pub(super) fn finished(&self) -> broadcast::Receiver<Finished> {
        self.finished.subscribe()
    }

    async fn unit(&self, path: OwnedObjectPath) -> Result<UnitProxy<'static>, Trouble> {
        let builder = UnitProxy::builder(&self.connection).destination(SYSTEMD).path(path);
        answered(builder.cache_properties(CacheProperties::No).build().await)
    }

    /// The service that this process is; none when it was started by hand.
    pub(super) async fn own_unit(&self) -> Result<Option<String>, Trouble> {
        let Some(unit) = self.own().await? else { return Ok(None) };
        let name = answered(unit.id().await)?;
        Ok(name.ends_with(".service").then_some(name))
    }

    /// Whether systemd is stopping us, or all.
    pub(super) async fn is_leaving(&self) -> Result<bool, Trouble> {
        if answered(self.manager.system_state().await)? == "stopping" {
            return Ok(true);
        }
        let Some(unit) = self.own().await? else { return Ok(false) };
        Ok(answered(unit.active_state().await)? == "deactivating")
    }

    /// The unit that this process belongs to.
    async fn own(&self) -> Result<Option<UnitProxy<'static>>, Trouble> {
        match answered(self.manager.get_unit_by_pid(std::process::id()).await) {
            Ok(path) => self.unit(path).await.map(Some),
            Err(Trouble::Refused(..)) => Ok(None),
            Err(again) => Err(again),
        }
    }

    /// systemd's words on why a unit cannot be loaded.
    pub(super) async fn load_error(&self, unit: &str) -> Result<String, Trouble> {
        let path = answered(self.manager.load_unit(unit.to_owned()).await)?;
        let (name, text) = answered(self.unit(path).await?.load_error().await)?;
        Ok(if text.is_empty() { name } else { text })
    }

    /// `TimeoutStartSec=` of a service; none when it is infinite.
    pub(super) async fn start_timeout(&self, unit: &str) -> Result<Option<Duration>, Trouble> {
        let path = answered(self.manager.load_unit(unit.to_owned()).await)?;
        let builder = ServiceProxy::builder(&self.connection).destination(SYSTEMD).path(path);
        let service = answered(builder.cache_properties(CacheProperties::No).build().await)?;
        let micros = answered(service.timeout_start_u_sec().await)?;
        Ok((micros != u64::MAX).then(|| Duration::from_micros(micros)))
    }
}

/// Sorts the failures of a call.
pub(super) fn answered<T>(result: zbus::Result<T>) -> Result<T, Trouble> {
    result.map_err(|error| match error {
        zbus::Error::MethodError(name, text, _) => {
            let (name, text) = (name.to_string(), text.unwrap_or_default());
            // It came back as somebody else in the middle of our question.
            if name == "org.freedesktop.systemd1.ShuttingDown" { Trouble::Again(text) } else { Trouble::Refused(name, text) }
        }
        zbus::Error::FDO(error) => match *error {
            fdo::Error::NoReply(_)
            | fdo::Error::ServiceUnknown(_)
            | fdo::Error::NameHasNoOwner(_)
            | fdo::Error::Disconnected(_)
            | fdo::Error::Timeout(_)
            | fdo::Error::TimedOut(_)
            | fdo::Error::NoServer(_)
            | fdo::Error::UnknownObject(_) => Trouble::Again(error.to_string()),
            other => Trouble::Refused(zbus::DBusError::name(&other).to_string(), other.to_string()),
        },
        zbus::Error::InputOutput(error) => Trouble::Again(error.to_string()),
        other => Trouble::Refused(String::new(), other.to_string()),
    })
}
