//! rtnetlink, as far as addresses and links go: a connection for questions and orders, a connection for news.
//!
//! The crates rtnetlink and netlink-packet-route speak the protocol. Here is what we want of it, and the care that an
//! answer which never came is not taken for a good one.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo},
    link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkLayerType, LinkMessage},
};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{setsockopt, sockopt},
};
use rtnetlink::{
    AddressMessageBuilder, Handle, MulticastGroup, new_connection, new_multicast_connection,
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    proto::Connection,
    sys::{AsyncSocket, SocketAddr},
};
use tokio::{sync::Mutex, task, time};

use super::{SysError, errno_of};

/// Mark on every address we add (IFA_PROTO), where the kernel keeps one (5.18): `ip address show proto 0xdc`.
pub const OUR_PROTOCOL: u8 = 0xdc;
/// Orders under way at once. Each is answered by up to a kilobyte, and the receive buffer of a socket must hold all answers.
const IN_FLIGHT: usize = 64;
/// The kernel answers within microseconds, or as long as someone else holds its configuration lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// A network device as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// `eth0`.
    pub name: String,
    /// Its MAC, when it has one of six bytes that can be announced by ARP.
    pub hardware: Option<[u8; 6]>,
    flags: LinkFlags,
}

impl Link {
    /// Switched on by the administrator.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.flags.contains(LinkFlags::Up)
    }

    /// The cable is in, or whatever stands for it.
    #[must_use]
    pub fn has_carrier(&self) -> bool {
        self.flags.contains(LinkFlags::LowerUp)
    }

    fn read(message: &LinkMessage) -> Option<Self> {
        let header = &message.header;
        let name = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })?;
        let announces = header.link_layer_type == LinkLayerType::Ether && !header.flags.contains(LinkFlags::Noarp);
        let hardware = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => None,
        });
        Some(Self { index: header.index, name, hardware: hardware.filter(|_| announces), flags: header.flags })
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
    /// Added by us, this life or an earlier one. Never true before Linux 5.18.
    pub ours: bool,
}

impl Held {
    fn read(message: &AddressMessage) -> Option<Self> {
        let (mut local, mut address, mut ours) = (None, None, false);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Protocol(protocol) => ours = u8::from(*protocol) == OUR_PROTOCOL,
                _ => {}
            }
        }
        // Between two ends of a tunnel the address is the other end's.
        Some(Self { index: message.header.index, ip: local.or(address)?, prefix: message.header.prefix_len, ours })
    }
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

impl NewAddress<'_> {
    fn message(&self) -> AddressMessage {
        let mut message = address_message(self.index, self.ip, self.prefix);
        if self.ip.is_ipv4() {
            message.attributes.extend(self.label.map(|label| AddressAttribute::Label(label.to_owned())));
        } else {
            // No duplicate address detection: it would leave the address unusable for a second, and the lease already
            // proves that nobody else has it.
            let route = if self.prefix_route == PrefixRoute::Left { AddressFlags::Noprefixroute } else { AddressFlags::empty() };
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad | route));
        }
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_valid = self.valid.unwrap_or(u32::MAX);
        lifetimes.ifa_preferred = lifetimes.ifa_valid;
        message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
        message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(OUR_PROTOCOL)));
        message
    }
}

/// The connection for questions and orders. The kernel gets them in the order of the calls. Cheap to clone; the last clone
/// closes it.
#[derive(Clone)]
pub struct Requests {
    handle: Handle,
    /// The kernel makes one list at a time for a socket.
    listing: Arc<Mutex<()>>,
}

impl Requests {
    /// A socket in the network namespace of the calling thread, carried by the tokio runtime that this is called in.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn open() -> Result<Self, SysError> {
        let (mut connection, handle, _) = new_connection().map_err(|error| unopened(&error))?;
        // Otherwise a good answer and a connection that broke would look the same: no more messages.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        // Each poll sends one message at most, and the next one would wait until the answer to that has woken the connection.
        tokio::spawn(poll_fn(move |context| {
            let closed = (0..IN_FLIGHT).any(|_| Pin::new(&mut connection).poll(context).is_ready());
            if closed { Poll::Ready(()) } else { Poll::Pending }
        }));
        Ok(Self { handle, listing: Arc::default() })
    }

    /// The device of that name, if there is one now.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, SysError> {
        let request = "RTM_GETLINK";
        if name.len() >= libc::IFNAMSIZ {
            return Ok(None);
        }
        let mut message = without_statistics();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.ask(request, RouteNetlinkMessage::GetLink(message), NLM_F_ACK).await {
            Ok(answer) => answer.messages.iter().find_map(link_in).map(Some).ok_or(SysError::Answer { request }),
            Err(SysError::Call { errno: Errno::ENODEV | Errno::EINVAL, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every device.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub async fn links(&self) -> Result<Vec<Link>, SysError> {
        let messages = self.list("RTM_GETLINK", RouteNetlinkMessage::GetLink(without_statistics())).await?;
        Ok(messages.iter().filter_map(link_in).collect())
    }

    /// Every address of every device.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub async fn addresses(&self) -> Result<Vec<Held>, SysError> {
        let messages = self.list("RTM_GETADDR", RouteNetlinkMessage::GetAddress(AddressMessage::default())).await?;
        Ok(messages.iter().filter_map(address_in).collect())
    }

    /// Adds addresses, or renews those that are there. One result for each, in order: [`SysError::Call`] when the kernel
    /// refused; after any other error it is not known.
    pub async fn add(&self, addresses: &[NewAddress<'_>]) -> Vec<Result<(), SysError>> {
        let messages = addresses.iter().map(|address| RouteNetlinkMessage::NewAddress(address.message())).collect();
        self.order("RTM_NEWADDR", messages, NLM_F_CREATE | NLM_F_REPLACE).await
    }

    /// Removes addresses: device number, address, prefix length (of IPv4 any prefix goes). One result for each, in order, as
    /// of [`Requests::add`]; `EADDRNOTAVAIL` for one that was not there.
    pub async fn remove(&self, addresses: &[(u32, IpAddr, u8)]) -> Vec<Result<(), SysError>> {
        let messages = addresses.iter().map(|(index, ip, prefix)| {
            let mut message = address_message(*index, *ip, *prefix);
            message.attributes.retain(|attribute| matches!(attribute, AddressAttribute::Local(_)));
            RouteNetlinkMessage::DelAddress(message)
        });
        self.order("RTM_DELADDR", messages.collect(), 0).await
    }

    async fn order(&self, request: &'static str, mut messages: Vec<RouteNetlinkMessage>, flags: u16) -> Vec<Result<(), SysError>> {
        let mut results = Vec::with_capacity(messages.len());
        while !messages.is_empty() {
            let batch = messages.drain(..messages.len().min(IN_FLIGHT));
            let asked: Vec<_> = batch.map(|message| self.ask(request, message, flags | NLM_F_ACK)).collect();
            let first = results.len();
            // Answers come in the order of the orders. When the last is there, none of the others needs to be waited for.
            for answer in asked.into_iter().rev() {
                results.push(answer.await.map(drop));
            }
            results[first..].reverse();
        }
        results
    }

    /// A list, asked for again when the kernel says that it changed meanwhile.
    async fn list(&self, request: &'static str, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, SysError> {
        let (requests, turn) = (self.clone(), Arc::clone(&self.listing).lock_owned().await);
        // In a task of its own: also a list that nobody waits for any more is to end before the next begins.
        let listed = tokio::spawn(async move {
            let _turn = turn;
            let mut answer = requests.ask(request, message.clone(), NLM_F_DUMP).await?;
            for _ in 0..3 {
                if answer.whole {
                    break;
                }
                answer = requests.ask(request, message.clone(), NLM_F_DUMP).await?;
            }
            // A list that changed under each of four readings is as good as any list can be: every change is also news.
            Ok(answer.messages)
        });
        listed.await.unwrap_or(Err(SysError::Answer { request }))
    }

    /// Hands a message to the connection, before this returns, for the kernel to get it after those of earlier calls. What
    /// is returned waits for the answer.
    fn ask(
        &self,
        request: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> impl Future<Output = Result<Answer, SysError>> + Send + use<> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        let asked = self.handle.clone().request(message);
        async move {
            let lost = SysError::Answer { request };
            let Ok(messages) = asked else { return Err(lost) };
            time::timeout(PATIENCE, read_answer(request, messages)).await.unwrap_or(Err(lost))
        }
    }
}

/// What the kernel said before it said that this was all.
struct Answer {
    messages: Vec<RouteNetlinkMessage>,
    /// Nothing changed while it was written.
    whole: bool,
}

async fn read_answer(
    request: &'static str,
    mut stream: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Unpin,
) -> Result<Answer, SysError> {
    let mut answer = Answer { messages: Vec::new(), whole: true };
    while let Some(message) = stream.next().await {
        answer.whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
        let code = match message.payload {
            NetlinkPayload::InnerMessage(message) => {
                answer.messages.push(message);
                continue;
            }
            NetlinkPayload::Error(end) => end.code.map_or(0, i32::from),
            NetlinkPayload::Done(end) => end.code,
            _ => continue,
        };
        return if code == 0 { Ok(answer) } else { Err(SysError::Call { call: request, errno: Errno::from_raw(code.saturating_neg()) }) };
    }
    Err(SysError::Answer { request })
}

/// One piece of news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A device has lost an address.
    AddressRemoved(Held),
    /// A device is new, or something about it changed.
    Link(Link),
    /// A device is gone.
    LinkRemoved(Link),
    /// News was lost: look again at everything.
    Overrun,
}

impl Change {
    fn read(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Self> {
        match &message.payload {
            NetlinkPayload::Overrun(_) => Some(Self::Overrun),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => Held::read(message).map(Self::AddressRemoved),
            // A bridge tells of its ports in the same words; one that leaves it is not gone.
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message))
                if message.header.interface_family != AddressFamily::Unspec =>
            {
                None
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => Link::read(message).map(Self::Link),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => Link::read(message).map(Self::LinkRemoved),
            _ => None,
        }
    }
}

/// The connection for news of addresses and links.
pub struct Changes {
    connection: Connection<RouteNetlinkMessage>,
    news: Pin<Box<dyn Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)> + Send>>,
}

impl Changes {
    /// Listens in the network namespace of the calling thread. Within a tokio runtime only.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, SysError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (mut connection, _, news) = new_multicast_connection(&groups).map_err(|error| unopened(&error))?;
        // A thousand addresses change at once at a take-over. Refused to the unprivileged; then an overrun is noticed.
        let socket = connection.socket_mut().socket_ref();
        if setsockopt(socket, sockopt::RcvBufForce, &(4 << 20)).is_err() {
            let _ = setsockopt(socket, sockopt::RcvBuf, &(1 << 20));
        }
        Ok(Self { connection, news: Box::pin(news) })
    }

    /// Waits for news and takes all that is there. Never empty.
    ///
    /// # Errors
    /// When the socket fails for good.
    pub async fn next(&mut self) -> Result<Vec<Change>, SysError> {
        // The connection is driven here, by whoever reads: what waits, waits in the kernel's buffer, which has a limit. And it
        // is read until it is empty, whatever tokio thinks of that: after an overrun the kernel drops news without a word
        // until then, so a look around that is taken earlier would miss them.
        task::unconstrained(poll_fn(|context| {
            let closed = Pin::new(&mut self.connection).poll(context).is_ready();
            let mut changes = Vec::new();
            while let Poll::Ready(Some((message, _))) = self.news.poll_next_unpin(context) {
                changes.extend(Change::read(&message));
            }
            match (changes.is_empty(), closed) {
                (false, _) => Poll::Ready(Ok(changes)),
                (true, true) => Poll::Ready(Err(SysError::Answer { request: "rtnetlink news" })),
                (true, false) => Poll::Pending,
            }
        }))
        .await
    }
}

/// The address with its broadcast address, as `ip address add ... broadcast +` would set it.
fn address_message(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = match ip {
        IpAddr::V4(ip) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(ip, prefix).build(),
        IpAddr::V6(ip) => AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(ip, prefix).build(),
    };
    // The kernel works out the scope of an IPv6 address itself.
    message.header.scope = match ip {
        IpAddr::V4(ip) if ip.is_loopback() => AddressScope::Host,
        IpAddr::V4(ip) if ip.is_link_local() => AddressScope::Link,
        IpAddr::V4(_) | IpAddr::V6(_) => AddressScope::Universe,
    };
    if ip.is_loopback() {
        message.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
    }
    message
}

fn without_statistics() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

fn link_in(message: &RouteNetlinkMessage) -> Option<Link> {
    if let RouteNetlinkMessage::NewLink(message) = message { Link::read(message) } else { None }
}

fn address_in(message: &RouteNetlinkMessage) -> Option<Held> {
    if let RouteNetlinkMessage::NewAddress(message) = message { Held::read(message) } else { None }
}

fn unopened(error: &io::Error) -> SysError {
    SysError::Call { call: "socket AF_NETLINK", errno: errno_of(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_known() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let requests = Requests::open().unwrap();
            let link = requests.link("lo").await.unwrap().unwrap();
            assert_eq!((link.index, link.hardware), (1, None));
            assert_eq!(requests.link("no-such-device").await.unwrap(), None);
            assert_eq!(requests.link("a-name-far-longer-than-any-device-name-can-be").await.unwrap(), None);
            assert!(requests.links().await.unwrap().contains(&link));
        });
    }

    #[test]
    fn the_broadcast_address_is_what_ip_would_set() {
        let of = |ip: &str, prefix| {
            address_message(1, ip.parse().unwrap(), prefix).attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Broadcast(ip) => Some(ip.to_string()),
                _ => None,
            })
        };
        assert_eq!(of("192.168.122.180", 24).as_deref(), Some("192.168.122.255"));
        assert_eq!(of("10.1.2.3", 30).as_deref(), Some("10.1.2.3"));
        assert_eq!(of("10.1.2.3", 0).as_deref(), Some("255.255.255.255"));
        for (ip, prefix) in [("10.1.2.3", 31), ("10.1.2.3", 32), ("127.0.0.2", 8), ("fd00::1", 16)] {
            assert_eq!(of(ip, prefix), None);
        }
    }
}
