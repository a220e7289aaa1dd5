//! Watches on which nodes an address is, several hundred times a second, from inside their namespaces.

use std::{
    net::IpAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt},
        time::{TimeVal, TimeValLike as _},
    },
};

use super::{LabError, Namespace};

/// Between two looks at all nodes.
const INTERVAL: Duration = Duration::from_millis(2);
/// Changes kept: far more than any test makes.
const LIMIT: usize = 100_000;

/// The owners from one moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When it was first seen so.
    pub at: Instant,
    /// The nodes that have the address.
    pub owners: Vec<usize>,
}

/// A running sampler. It ends when dropped.
pub struct Sampler {
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Record {
    changes: Vec<Change>,
    doubles: Vec<Change>,
    looks: u64,
    longest_pause: Duration,
    failure: Option<String>,
}

impl Sampler {
    /// Begins to watch for `address` in these namespaces.
    pub(super) fn start<'a>(namespaces: impl Iterator<Item = &'a Namespace>, address: IpAddr) -> Result<Self, LabError> {
        let mut sockets = Vec::new();
        for namespace in namespaces {
            sockets.push(namespace.run(open)?.map_err(|errno| LabError::system("opening a netlink socket", errno))?);
        }
        let record = Arc::new(Mutex::new(Record::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&record), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("sampler".to_owned())
            .spawn(move || watch(&sockets, address, &shared, &stopped))
            .map_err(|error| LabError::system("starting a thread", error))?;
        Ok(Self { record, stop, thread: Some(thread) })
    }

    /// The nodes that have the address, at the last look.
    #[must_use]
    pub fn owners(&self) -> Vec<usize> {
        lock(&self.record).changes.last().map(|change| change.owners.clone()).unwrap_or_default()
    }

    /// The one node that has it.
    #[must_use]
    pub fn owner(&self) -> Option<usize> {
        match self.owners().as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// Every change of the owners since the start.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        lock(&self.record).changes.clone()
    }

    /// Every moment when two nodes had the address at once.
    #[must_use]
    pub fn doubles(&self) -> Vec<Change> {
        lock(&self.record).doubles.clone()
    }

    /// How often it looked, and the longest time it did not (a busy machine).
    #[must_use]
    pub fn looks(&self) -> (u64, Duration) {
        let record = lock(&self.record);
        (record.looks, record.longest_pause)
    }

    /// Why it stopped looking, if it had to.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.record).failure.clone()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A sampler that panicked has said so on standard error.
            thread.join().ok();
        }
    }
}

fn watch(sockets: &[OwnedFd], address: IpAddr, record: &Mutex<Record>, stop: &AtomicBool) {
    let mut previous = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let at = Instant::now();
        let seen = look(sockets, address);
        let mut record = lock(record);
        match seen {
            Ok(owners) => {
                record.looks += 1;
                record.longest_pause = record.longest_pause.max(at.duration_since(previous));
                let change = Change { at, owners };
                if change.owners.len() > 1 && record.doubles.len() < LIMIT {
                    record.doubles.push(change.clone());
                }
                if record.changes.last().is_none_or(|last| last.owners != change.owners) && record.changes.len() < LIMIT {
                    record.changes.push(change);
                }
            }
            Err(errno) => {
                record.failure = Some(format!("asking the kernel for addresses: {errno}"));
                return;
            }
        }
        drop(record);
        previous = at;
        thread::sleep(INTERVAL);
    }
}

/// The nodes that have the address. They are asked one after the other: a node counts beside another only if it still has
/// the address when the other was found to have it, too.
fn look(sockets: &[OwnedFd], address: IpAddr) -> Result<Vec<usize>, Errno> {
    let mut owners = Vec::new();
    for (node, socket) in sockets.iter().enumerate() {
        if has(socket, address)? {
            owners.push(node);
        }
    }
    if let Some((_, earlier)) = owners.clone().split_last().filter(|(_, earlier)| !earlier.is_empty()) {
        for node in earlier {
            if !has(&sockets[*node], address)? {
                owners.retain(|owner| owner != node);
            }
        }
    }
    Ok(owners)
}

fn open() -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
    Ok(socket)
}

/// Dumps the addresses of a namespace (rtnetlink(7)) and looks for this one.
fn has(socket: &OwnedFd, address: IpAddr) -> Result<bool, Errno> {
    const DONE: u16 = 3;
    const ERROR: u16 = 2;
    const NEW_ADDRESS: u16 = 20;
    sendto(socket.as_raw_fd(), &request(address), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut found = false;
    let mut buffer = vec![0; 32_768];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while let Some((kind, body, after)) = message(rest) {
            match kind {
                DONE => return Ok(found),
                ERROR => return Err(Errno::EPROTO),
                NEW_ADDRESS => found |= names(body, address),
                _ => {}
            }
            rest = after;
        }
    }
}

/// RTM_GETADDR, request and dump, for the family of `address`.
fn request(address: IpAddr) -> [u8; 24] {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let mut bytes = [0; 24];
    bytes[0..4].copy_from_slice(&24_u32.to_ne_bytes());
    bytes[4..6].copy_from_slice(&22_u16.to_ne_bytes());
    bytes[6..8].copy_from_slice(&0x301_u16.to_ne_bytes());
    bytes[16] = u8::try_from(family as i32).unwrap_or(0);
    bytes
}

/// The first netlink message: its type, its body, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(16..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Whether the message is about this address: IFA_LOCAL where there is one, else IFA_ADDRESS.
fn names(body: &[u8], address: IpAddr) -> bool {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    let wanted: Vec<u8> = match address {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    };
    let mut rest = body.get(8..).unwrap_or_default();
    while let (Some(Ok(length)), Some(Ok(kind))) = (rest.get(0..2).map(<[u8; 2]>::try_from), rest.get(2..4).map(<[u8; 2]>::try_from)) {
        let length = usize::from(u16::from_ne_bytes(length));
        let kind = u16::from_ne_bytes(kind);
        if (kind == IFA_LOCAL || kind == IFA_ADDRESS) && rest.get(4..length) == Some(&wanted[..]) {
            return true;
        }
        if length < 4 {
            return false;
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// A record stays whole even if a thread panicked while it held the lock: entries are pushed in one step.
fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_is_here_and_a_documentation_address_is_not() {
        let socket = open().unwrap();
        assert!(has(&socket, "127.0.0.1".parse().unwrap()).unwrap());
        assert!(!has(&socket, "192.0.2.1".parse().unwrap()).unwrap());
        assert!(!has(&socket, "2001:db8::1".parse().unwrap()).unwrap());
    }

    #[test]
    fn a_cut_off_message_is_no_message() {
        assert!(message(&[]).is_none());
        assert!(message(&[200, 0, 0, 0, 20, 0, 0, 0]).is_none());
        assert!(!names(&[0; 9], "127.0.0.1".parse().unwrap()));
        assert!(!names(&[0; 16], "127.0.0.1".parse().unwrap()));
    }
}
