//! Floating addresses: added with a lifetime that the kernel enforces, announced, watched, removed.
//!
//! An address of ours carries the lease in its `valid_lft`: whatever becomes of this process, the kernel takes the address
//! away before another node may have it. IPv6 addresses skip duplicate address detection, because the lease is the proof
//! that nobody else has them.

mod announce;
mod change;
mod rival;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    net::IpAddr,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{self, Notify, mpsc},
    task::AbortHandle,
    time::Instant,
};

use super::{Condition, DriverError};
use crate::{
    model::{Address, Time},
    sys::{
        SysError,
        arp::{self, Announcer, Claims},
        netlink::{Changes, Held, Link, Requests},
    },
};

/// Events waiting to be read.
const EVENTS: usize = 4096;

/// Something that happened to a link, or to an address that was started and not stopped.
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
    /// A device, ours or not, lost its carrier, was switched off or removed.
    LinkDown {
        /// The device.
        device: String,
    },
    /// A device, ours or not, has its carrier back, or is new. The addresses of ours on it are being announced again.
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
    /// Adding and removing go one after another.
    turn: Arc<sync::Mutex<()>>,
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
    requests: Requests,
    announcer: Announcer,
    /// Announcements sent so far.
    announced: AtomicU64,
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
        let shared = Arc::new(Shared {
            requests: Requests::open().map_err(unable)?,
            announcer: Announcer::open().map_err(unable)?,
            announced: AtomicU64::new(0),
            wanted: Mutex::default(),
            unpromoted: Mutex::default(),
            replan: Notify::new(),
        });
        let turn = Arc::new(sync::Mutex::new(()));
        let first = Arc::clone(&turn).try_lock_owned().expect("nobody else has it yet");
        let (sender, receiver) = mpsc::channel(EVENTS);
        let watching = tokio::spawn(watch::watch(Arc::clone(&shared), changes, first, sender.clone()));
        let announcing = tokio::spawn(announce::announce(Arc::clone(&shared), sender));
        let listening = tokio::spawn(rival::listen(Arc::clone(&shared), Claims::open().map_err(unable)?));
        let tasks = Tasks(vec![watching.abort_handle(), announcing.abort_handle(), listening.abort_handle()]);
        Ok((Self { shared, turn, _tasks: Arc::new(tasks) }, receiver))
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
        self.changing(Arc::clone(&self.shared).add(addresses, Purpose::Start)).await
    }

    /// Renews the lifetime of addresses that are up. One result for each, in order. An address that this daemon did not
    /// start (an earlier life did) is watched and announced from now on like the others.
    pub async fn refresh(&self, addresses: Vec<(Address, Time)>) -> Vec<Result<(), DriverError>> {
        let addresses = addresses.into_iter().map(|(address, until)| (address, Some(until))).collect();
        self.changing(Arc::clone(&self.shared).add(addresses, Purpose::Renew)).await
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
        self.changing(Arc::clone(&self.shared).remove(addresses)).await
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
        let look = self.shared.look().await;
        let (links, held) = look.map_err(|source| DriverError::System { what: "cannot list addresses".to_owned(), source })?;
        Ok(addresses.iter().map(|address| condition(address, &links, &held)).collect())
    }

    /// How many announcements were sent so far.
    #[must_use]
    pub fn announcements(&self) -> u64 {
        self.shared.announced.load(Ordering::Relaxed)
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
        self.shared.usable_link(address).await.map(drop)
    }

    /// Asks the link whether anybody else has the address, for at most `wait`: the MAC of whoever says so.
    ///
    /// # Errors
    /// The device is missing, down or without carrier; the kernel refuses the question.
    pub async fn claimed_by_other(&self, address: &Address, wait: Duration) -> Result<Option<String>, DriverError> {
        let link = self.shared.usable_link(address).await?;
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
        let look = self.shared.look().await;
        let (links, held) = look.map_err(|source| DriverError::System { what: format!("cannot find the device of {ip}"), source })?;
        let index = held.iter().find(|held| held.ip == ip).map(|held| held.index);
        Ok(links.into_iter().find(|link| Some(link.index) == index).map(|link| link.name))
    }

    /// Does work that changes something, one after another. Work that nobody waits for any more is not begun; once begun it
    /// goes on to its end, and the next waits for that. So a start that was cancelled is over when the stop that followed it
    /// begins, and has taken back what it had to.
    async fn changing<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let done = tokio::spawn(async move {
            let _turn = turn;
            work.await
        });
        match done.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime is being shut down, with whoever waits here.
                Err(_) => pending().await,
            },
        }
    }
}

impl Shared {
    /// Every device, and every address.
    async fn look(&self) -> Result<(Vec<Link>, Vec<Held>), SysError> {
        Ok((self.requests.links().await?, self.requests.addresses().await?))
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

fn one(results: Vec<Result<(), DriverError>>) -> Result<(), DriverError> {
    results.into_iter().collect()
}

/// None of what is behind our locks is left half done by a panic; and a panic ends the process.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
