//! A client that asks the floating address every millisecond, and remembers when it was answered and by whom.

use std::{
    io::IoSliceMut,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    cmsg_space,
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{
            AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recvmsg, sendto,
            setsockopt, socket, sockopt,
        },
        time::TimeSpec,
    },
};

use super::{
    LabError, Namespace,
    switch::{Port, port_of},
};

/// Between two questions.
const INTERVAL: Duration = Duration::from_millis(1);
/// Questions after which the probe stops by itself: an hour.
const LIMIT: usize = 3_600_000;
/// `sll_pkttype` of what we sent ourselves.
const OUTGOING: u8 = 4;

/// A moment of the probe, to measure from. Nanoseconds since 1970: the kernel stamps arrivals with that clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

impl Mark {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    fn after(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A running probe. It ends when dropped.
pub struct Probe {
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Record {
    asked: Vec<Mark>,
    answered: Vec<(Mark, Option<Port>)>,
}

impl Probe {
    /// Begins to ask `address` from this namespace.
    ///
    /// # Errors
    /// [`LabError`], when sockets are refused.
    pub fn start(namespace: &Namespace, address: Ipv4Addr) -> Result<Self, LabError> {
        Self::start_every(namespace, address, INTERVAL)
    }

    /// The same at a slower pace, for nodes that each question costs dear (emulated ones).
    ///
    /// # Errors
    /// As [`Probe::start`].
    pub fn start_every(namespace: &Namespace, address: Ipv4Addr, interval: Duration) -> Result<Self, LabError> {
        let (asking, hearing) = namespace.run(sockets)?.map_err(|errno| match errno {
            Errno::EPERM => LabError::NotPermitted { detail: "raw socket: not permitted".to_owned() },
            other => LabError::system("opening raw sockets", other),
        })?;
        let record = Arc::new(Mutex::new(Record::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&record), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("probe".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) && lock(&shared).asked.len() < LIMIT {
                    let next = Instant::now() + interval;
                    ask(&asking, address, &shared);
                    hear(&hearing, address, &shared, next);
                }
            })
            .map_err(|error| LabError::system("starting a thread", error))?;
        Ok(Self { record, stop, thread: Some(thread) })
    }

    /// Which node answered last; none before the first answer.
    #[must_use]
    pub fn answering(&self) -> Option<usize> {
        match lock(&self.record).answered.last() {
            Some((_, Some(Port::Node(node)))) => Some(*node),
            Some((_, Some(Port::Client) | None)) | None => None,
        }
    }

    /// Whether any question since `mark` was answered, and by which nodes.
    #[must_use]
    pub fn answered_since(&self, mark: Mark) -> Vec<usize> {
        let record = lock(&self.record);
        let mut nodes: Vec<usize> = record
            .answered
            .iter()
            .rev()
            .take_while(|(at, _)| *at >= mark)
            .filter_map(|(_, port)| match port {
                Some(Port::Node(node)) => Some(*node),
                Some(Port::Client) | None => None,
            })
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The longest wait of a client since `mark`: from the first question after an answer to the next answer that came. A
    /// wait that is not over counts up to now.
    #[must_use]
    pub fn longest_outage(&self, mark: Mark) -> Duration {
        longest_outage(&lock(&self.record), mark, Mark::now())
    }

    /// Questions asked and answers had since `mark`.
    #[must_use]
    pub fn counts(&self, mark: Mark) -> (usize, usize) {
        let record = lock(&self.record);
        (record.asked.iter().filter(|at| **at >= mark).count(), record.answered.iter().filter(|(at, _)| *at >= mark).count())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A probe that panicked has said so on standard error.
            thread.join().ok();
        }
    }
}

fn longest_outage(record: &Record, mark: Mark, now: Mark) -> Duration {
    let mut answered: Vec<Mark> = record.answered.iter().map(|(at, _)| *at).filter(|at| *at >= mark).collect();
    answered.sort_unstable();
    let mut longest = Duration::ZERO;
    let mut previous = mark;
    let mut asked = record.asked.iter().copied().skip_while(|at| *at < mark).peekable();
    for next in answered.into_iter().chain([now]) {
        while asked.peek().is_some_and(|at| *at < previous) {
            asked.next();
        }
        if let Some(first) = asked.peek() {
            longest = longest.max(next.after(*first));
        }
        previous = next;
    }
    longest
}

/// A socket to ask with, and one that shows who answered: raw ICMP, and packets with their link-layer source.
fn sockets() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let asking = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
    let hearing = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll)?;
    setsockopt(&hearing, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&hearing, sockopt::RcvBuf, &(1 << 20))?;
    Ok((asking, hearing))
}

fn ask(socket: &OwnedFd, address: Ipv4Addr, record: &Mutex<Record>) {
    let mut record = lock(record);
    let packet = echo(record.asked.len());
    record.asked.push(Mark::now());
    drop(record);
    // A question that cannot be sent (no route, no neighbour) is a question without an answer.
    sendto(socket.as_raw_fd(), &packet, &SockaddrIn::from(SocketAddrV4::new(address, 0)), MsgFlags::empty()).ok();
}

/// Takes answers until `next`.
fn hear(socket: &OwnedFd, address: Ipv4Addr, record: &Mutex<Record>, next: Instant) {
    loop {
        let left = next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let timeout = if left > Duration::from_micros(900) { PollTimeout::from(1_u8) } else { PollTimeout::ZERO };
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) if left < Duration::from_micros(900) => thread::sleep(left),
            Ok(0) | Err(_) => {}
            Ok(_) => {
                while let Some((at, port)) = receive(socket, address) {
                    if let Some(at) = at {
                        lock(record).answered.push((at, port));
                    }
                }
            }
        }
    }
}

/// One packet; the outer none: there is no more. Without a time: not an answer to us.
fn receive(socket: &OwnedFd, address: Ipv4Addr) -> Option<(Option<Mark>, Option<Port>)> {
    let mut buffer = [0_u8; 128];
    let mut control = cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()).ok()?;
    let (length, source) = (message.bytes, message.address);
    let at = message.cmsgs().ok().into_iter().flatten().find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(time) => Some(mark_of(time)),
        _ => None,
    });
    let incoming = source.is_some_and(|source| source.pkttype() != OUTGOING);
    if !incoming || !is_answer(&buffer[..length.min(128)], address) {
        return Some((None, None));
    }
    Some((at.or_else(|| Some(Mark::now())), source.and_then(|source| source.addr()).and_then(port_of)))
}

fn mark_of(time: TimeSpec) -> Mark {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    Mark(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0))
}

/// What marks our questions among the ICMP of this namespace.
const IDENTIFIER: [u8; 2] = *b"dr";

/// An ICMP echo request (RFC 792).
fn echo(number: usize) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[0] = 8;
    packet[4..6].copy_from_slice(&IDENTIFIER);
    packet[6..8].copy_from_slice(&u16::try_from(number % 65_536).unwrap_or(0).to_be_bytes());
    let checksum = internet_checksum(&packet);
    packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// Whether an IPv4 packet is an echo reply from `address` to us.
fn is_answer(packet: &[u8], address: Ipv4Addr) -> bool {
    let Some(first) = packet.first() else { return false };
    let header = usize::from(first & 0x0f) * 4;
    first >> 4 == 4
        && packet.get(9) == Some(&1)
        && packet.get(12..16) == Some(&address.octets())
        && packet.get(header) == Some(&0)
        && packet.get(header + 4..header + 6) == Some(&IDENTIFIER)
}

/// RFC 1071, for an even number of bytes.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// A record stays whole even if a thread panicked while it held the lock: entries are pushed in one step.
fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(asked: &[u64], answered: &[u64]) -> Record {
        let ms = |at: &u64| Mark(at * 1_000_000);
        Record { asked: asked.iter().map(ms).collect(), answered: answered.iter().map(|at| (ms(at), None)).collect() }
    }

    fn outage(record: &Record, mark: u64, now: u64) -> u128 {
        longest_outage(record, Mark(mark * 1_000_000), Mark(now * 1_000_000)).as_millis()
    }

    #[test]
    fn an_outage_runs_from_the_first_unanswered_question_to_the_next_answer() {
        let record = record(&[10, 20, 30, 40, 50, 60], &[11, 21, 51, 61]);
        assert_eq!(outage(&record, 0, 62), 21);
        assert_eq!(outage(&record, 45, 62), 1);
    }

    #[test]
    fn a_pause_of_the_probe_itself_is_no_outage() {
        assert_eq!(outage(&record(&[10, 500], &[11, 501]), 0, 502), 1);
    }

    #[test]
    fn an_outage_that_lasts_counts_up_to_now() {
        assert_eq!(outage(&record(&[10, 20, 30], &[11]), 0, 100), 80);
        assert_eq!(outage(&record(&[10], &[]), 0, 100), 90);
    }

    #[test]
    fn a_checksum_over_a_packet_with_its_checksum_is_zero() {
        assert_eq!(internet_checksum(&echo(77)), 0);
    }
}
