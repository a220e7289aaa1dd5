//! rtnetlink, as far as addresses and links go: a socket for questions and orders, a socket for news.
//!
//! Messages are laid out here by hand. What we need of a link is its header and two attributes, and a parser of everything
//! a kernel may ever say would only be a way to fail.

mod message;

use std::{
    io::IoSlice,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sockopt},
        time::TimeVal,
    },
};
use tokio::io::unix::AsyncFd;

use super::{SysError, failed, unwatchable, watch};
use message::{Message, address_header, dump, encode, flag, flag16, messages_in, nlmsg, octets, parse_address, parse_link, read_u32};

/// Mark on every address we add (IFA_PROTO), where the kernel keeps one (5.18): `ip address show proto 0xdc`.
pub const OUR_PROTOCOL: u8 = 0xdc;
/// Orders sent at once. Each is answered by up to a kilobyte, and the receive buffer of a socket must hold all answers.
const BATCH: usize = 64;
/// No kernel answers with a larger datagram.
const RECEIVE: usize = 64 * 1024;
/// Most news handed over at once.
const NEWS: usize = 1024;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;

/// A network device as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// `eth0`.
    pub name: String,
    /// Its MAC, when it has one of six bytes that can be announced by ARP.
    pub hardware: Option<[u8; 6]>,
    flags: u32,
}

impl Link {
    /// Switched on by the administrator.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.flags & flag(libc::IFF_UP) != 0
    }

    /// The cable is in, or whatever stands for it.
    #[must_use]
    pub fn has_carrier(&self) -> bool {
        self.flags & flag(libc::IFF_LOWER_UP) != 0
    }
}

/// An address that a device has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Number of the device.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// Seconds that the kernel will keep it; `None` for ever.
    pub valid: Option<u32>,
    /// Added by us, this life or an earlier one. Never true before Linux 5.18.
    pub ours: bool,
}

/// Who makes the route to the subnet of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixRoute {
    /// The kernel, with the address.
    Made,
    /// Nobody: another address has it, and a lifetime of ours must not become the route's.
    Left,
}

/// An address to add, or one whose lifetime is to be renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAddress<'a> {
    /// Number of the device.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// Label, IPv4 only.
    pub label: Option<&'a str>,
    /// Seconds until the kernel takes it away by itself; `None` for never.
    pub valid: Option<u32>,
    /// IPv6 only.
    pub prefix_route: PrefixRoute,
}

/// The socket for questions and orders. Calls return when the kernel has done them: within microseconds, or as long as
/// someone else holds its configuration lock, so they belong on a thread that may wait.
pub struct Requests {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    /// A socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn open() -> Result<Self, SysError> {
        let socket = open_socket(SockFlag::SOCK_CLOEXEC, 0)?;
        // The kernel answers before the call that asked returns. A bound all the same: no wait without a limit.
        socket::setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(5, 0)).map_err(failed("setsockopt SO_RCVTIMEO"))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; RECEIVE] })
    }

    /// The device of that name, if there is one now.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, SysError> {
        let mut message = Message::new(libc::RTM_GETLINK, 0);
        message.header(&[0; 16]);
        message.attribute(libc::IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        message.text(libc::IFLA_IFNAME, name);
        let mut found = None;
        let result = self.exchange("RTM_GETLINK", vec![message], |kind, body| {
            if kind == libc::RTM_NEWLINK {
                found = parse_link(body);
            }
        })?;
        match result.first() {
            Some(Err(Errno::ENODEV | Errno::ERANGE | Errno::EINVAL)) => Ok(None),
            Some(Err(errno)) => Err(SysError::Call { call: "RTM_GETLINK", errno: *errno }),
            Some(Ok(())) | None => Ok(found),
        }
    }

    /// Every device.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn links(&mut self) -> Result<Vec<Link>, SysError> {
        let mut body = Message::new(libc::RTM_GETLINK, dump());
        body.header(&[0; 16]);
        body.attribute(libc::IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        self.dump("RTM_GETLINK", &body, libc::RTM_NEWLINK, parse_link)
    }

    /// Every address of every device.
    ///
    /// # Errors
    /// When the kernel refuses to say.
    pub fn addresses(&mut self) -> Result<Vec<Held>, SysError> {
        let mut body = Message::new(libc::RTM_GETADDR, dump());
        body.header(&[0; 8]);
        self.dump("RTM_GETADDR", &body, libc::RTM_NEWADDR, parse_address)
    }

    /// Adds addresses, or renews those that are there. One result for each, in order.
    ///
    /// # Errors
    /// When the socket itself fails; then it is not known which were added.
    pub fn add(&mut self, addresses: &[NewAddress<'_>]) -> Result<Vec<Result<(), Errno>>, SysError> {
        let flags = flag(libc::NLM_F_CREATE) | flag(libc::NLM_F_REPLACE);
        self.exchange("RTM_NEWADDR", addresses.iter().map(|address| encode(libc::RTM_NEWADDR, flags, address)).collect(), |_, _| {})
    }

    /// Removes addresses: device number, address, prefix length (of IPv4 any prefix goes). One result for each, in order;
    /// `EADDRNOTAVAIL` for one that was not there.
    ///
    /// # Errors
    /// When the socket itself fails; then it is not known which were removed.
    pub fn remove(&mut self, addresses: &[(u32, IpAddr, u8)]) -> Result<Vec<Result<(), Errno>>, SysError> {
        let messages = addresses.iter().map(|(index, ip, prefix)| {
            let mut message = Message::new(libc::RTM_DELADDR, 0);
            message.header(&address_header(*ip, *prefix, *index));
            message.attribute(libc::IFA_LOCAL, &octets(*ip));
            message
        });
        self.exchange("RTM_DELADDR", messages.collect(), |_, _| {})
    }

    /// Sends messages that are each acknowledged, a batch at a time, and hands on whatever else comes back.
    fn exchange(
        &mut self,
        request: &'static str,
        messages: Vec<Message>,
        mut other: impl FnMut(u16, &[u8]),
    ) -> Result<Vec<Result<(), Errno>>, SysError> {
        let mut results = Vec::with_capacity(messages.len());
        for batch in messages.chunks(BATCH) {
            let first = self.sequence.wrapping_add(1);
            let mut datagram = Vec::with_capacity(batch.len() * 96);
            for message in batch {
                self.sequence = self.sequence.wrapping_add(1);
                message.append_to(&mut datagram, flag(libc::NLM_F_ACK), self.sequence);
            }
            send(&self.socket, request, &datagram)?;
            let mut answers: Vec<Option<Result<(), Errno>>> = vec![None; batch.len()];
            let mut waiting = batch.len();
            while waiting > 0 {
                let length = receive(&self.socket, request, &mut self.buffer)?;
                for (kind, sequence, _, body) in messages_in(&self.buffer[..length]) {
                    let Some(answer) = answers.get_mut(sequence.wrapping_sub(first) as usize) else { continue };
                    if kind == nlmsg(libc::NLMSG_ERROR) {
                        let code = read_u32(body, 0).ok_or(SysError::Answer { request })?.cast_signed();
                        if answer.replace(if code == 0 { Ok(()) } else { Err(Errno::from_raw(code.saturating_neg())) }).is_none() {
                            waiting -= 1;
                        }
                    } else {
                        other(kind, body);
                    }
                }
            }
            results.extend(answers.into_iter().flatten());
        }
        Ok(results)
    }

    /// Asks for a list, again when the kernel says that it changed meanwhile.
    fn dump<T>(
        &mut self,
        request: &'static str,
        message: &Message,
        wanted: u16,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, SysError> {
        let mut found = Vec::new();
        for _ in 0..4 {
            found.clear();
            self.sequence = self.sequence.wrapping_add(1);
            let mut datagram = Vec::new();
            message.append_to(&mut datagram, 0, self.sequence);
            send(&self.socket, request, &datagram)?;
            let (mut done, mut whole) = (false, true);
            while !done {
                let length = receive(&self.socket, request, &mut self.buffer)?;
                for (kind, sequence, flags, body) in messages_in(&self.buffer[..length]) {
                    if sequence != self.sequence {
                        continue;
                    }
                    whole &= flags & flag16(libc::NLM_F_DUMP_INTR) == 0;
                    if kind == nlmsg(libc::NLMSG_DONE) {
                        done = true;
                    } else if kind == nlmsg(libc::NLMSG_ERROR) {
                        let code = read_u32(body, 0).ok_or(SysError::Answer { request })?.cast_signed();
                        return Err(SysError::Call { call: request, errno: Errno::from_raw(code.saturating_neg()) });
                    } else if kind == wanted {
                        found.extend(parse(body));
                    }
                }
            }
            if whole {
                break;
            }
        }
        // A list that changed under each of four readings is as good as any list can be: every change is also news.
        Ok(found)
    }
}

/// One piece of news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A device has a new address, or one was renewed.
    AddressAdded(Held),
    /// A device has lost an address.
    AddressRemoved(Held),
    /// A device is new, or something about it changed.
    Link(Link),
    /// A device is gone.
    LinkRemoved(Link),
    /// News was lost: look again at everything.
    Overrun,
}

/// The socket for news of addresses and links.
pub struct Changes {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl Changes {
    /// Listens in the network namespace of the calling thread. Within a tokio runtime only.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, SysError> {
        let groups = flag(libc::RTMGRP_LINK) | flag(libc::RTMGRP_IPV4_IFADDR) | flag(libc::RTMGRP_IPV6_IFADDR);
        let socket = open_socket(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, groups)?;
        // A thousand addresses change at once at a take-over. Refused to the unprivileged; then an overrun is noticed.
        if socket::setsockopt(&socket, sockopt::RcvBufForce, &(4 << 20)).is_err() {
            let _ = socket::setsockopt(&socket, sockopt::RcvBuf, &(1 << 20));
        }
        let socket = watch(socket)?;
        Ok(Self { socket, buffer: vec![0; RECEIVE] })
    }

    /// Waits for news and takes all that is there, up to a limit. Never empty.
    ///
    /// # Errors
    /// When the socket fails for good.
    pub async fn next(&mut self) -> Result<Vec<Change>, SysError> {
        let mut changes = Vec::new();
        loop {
            let mut ready = self.socket.readable().await.map_err(unwatchable)?;
            while changes.len() < NEWS {
                match receive(self.socket.get_ref(), "rtnetlink news", &mut self.buffer) {
                    Err(SysError::Call { errno: Errno::EAGAIN, .. }) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(SysError::Call { errno: Errno::ENOBUFS, .. }) => changes.push(Change::Overrun),
                    Err(error) => return Err(error),
                    Ok(length) => changes.extend(messages_in(&self.buffer[..length]).filter_map(|(kind, _, _, body)| match kind {
                        libc::RTM_NEWADDR => parse_address(body).map(Change::AddressAdded),
                        libc::RTM_DELADDR => parse_address(body).map(Change::AddressRemoved),
                        libc::RTM_NEWLINK => parse_link(body).map(Change::Link),
                        libc::RTM_DELLINK => parse_link(body).map(Change::LinkRemoved),
                        _ => None,
                    })),
                }
            }
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}

fn open_socket(flags: SockFlag, groups: u32) -> Result<OwnedFd, SysError> {
    let socket =
        socket::socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute).map_err(failed("socket AF_NETLINK"))?;
    socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(failed("bind AF_NETLINK"))?;
    Ok(socket)
}

fn send(socket: &OwnedFd, request: &'static str, datagram: &[u8]) -> Result<(), SysError> {
    let kernel = NetlinkAddr::new(0, 0);
    let sent =
        socket::sendmsg(socket.as_raw_fd(), &[IoSlice::new(datagram)], &[], MsgFlags::empty(), Some(&kernel)).map_err(failed(request))?;
    if sent == datagram.len() { Ok(()) } else { Err(SysError::Answer { request }) }
}

fn receive(socket: &OwnedFd, request: &'static str, buffer: &mut [u8]) -> Result<usize, SysError> {
    loop {
        // Only the kernel can send here: a netlink socket of ours is not bound to a port that others know how to reach
        // without privilege, and answers are matched by sequence number.
        match socket::recv(socket.as_raw_fd(), buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            other => return other.map_err(failed(request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_known() {
        let mut requests = Requests::open().unwrap();
        let link = requests.link("lo").unwrap().unwrap();
        assert_eq!((link.index, link.hardware), (1, None));
        assert_eq!(requests.link("no-such-device").unwrap(), None);
        assert_eq!(requests.link("a-name-far-longer-than-any-device-name-can-be").unwrap(), None);
        assert!(requests.links().unwrap().contains(&link));
    }
}
