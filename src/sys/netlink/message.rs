//! The bytes of rtnetlink.

use std::net::{IpAddr, Ipv4Addr};

use nix::libc;

use super::{Held, Link, NewAddress, OUR_PROTOCOL, PrefixRoute};

const IFA_PROTO: u16 = 11;

/// A message without its netlink header.
pub(super) struct Message {
    kind: u16,
    flags: u32,
    body: Vec<u8>,
}

impl Message {
    pub(super) fn new(kind: u16, flags: u32) -> Self {
        Self { kind, flags, body: Vec::with_capacity(80) }
    }

    pub(super) fn header(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("attributes of ours are a few bytes long");
        self.body.extend_from_slice(&length.to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
    }

    /// A zero-terminated string. Longer than any device name is cut, which the kernel then does not find.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes: Vec<u8> = value.bytes().take(128).collect();
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    pub(super) fn append_to(&self, datagram: &mut Vec<u8>, flags: u32, sequence: u32) {
        let length = u32::try_from(self.body.len() + 16).expect("messages of ours are a few hundred bytes long");
        let flags = u16::try_from(self.flags | flags | flag(libc::NLM_F_REQUEST)).expect("netlink flags have 16 bits");
        datagram.extend_from_slice(&length.to_ne_bytes());
        datagram.extend_from_slice(&self.kind.to_ne_bytes());
        datagram.extend_from_slice(&flags.to_ne_bytes());
        datagram.extend_from_slice(&sequence.to_ne_bytes());
        datagram.extend_from_slice(&0_u32.to_ne_bytes());
        datagram.extend_from_slice(&self.body);
        datagram.resize(datagram.len().next_multiple_of(4), 0);
    }
}

pub(super) fn encode(kind: u16, flags: u32, address: &NewAddress<'_>) -> Message {
    let mut message = Message::new(kind, flags);
    message.header(&address_header(address.ip, address.prefix, address.index));
    message.attribute(libc::IFA_LOCAL, &octets(address.ip));
    message.attribute(libc::IFA_ADDRESS, &octets(address.ip));
    match address.ip {
        IpAddr::V4(ip) => {
            if let Some(broadcast) = broadcast(ip, address.prefix) {
                message.attribute(libc::IFA_BROADCAST, &broadcast.octets());
            }
            if let Some(label) = address.label {
                message.text(libc::IFA_LABEL, label);
            }
        }
        IpAddr::V6(_) => {
            // No duplicate address detection: it would leave the address unusable for a second, and the lease already
            // proves that nobody else has it.
            let route = if address.prefix_route == PrefixRoute::Left { libc::IFA_F_NOPREFIXROUTE } else { 0 };
            message.attribute(libc::IFA_FLAGS, &(libc::IFA_F_NODAD | route).to_ne_bytes());
        }
    }
    let valid = address.valid.unwrap_or(u32::MAX);
    let mut lifetimes = [0; 16];
    lifetimes[..4].copy_from_slice(&valid.to_ne_bytes());
    lifetimes[4..8].copy_from_slice(&valid.to_ne_bytes());
    message.attribute(libc::IFA_CACHEINFO, &lifetimes);
    message.attribute(IFA_PROTO, &[OUR_PROTOCOL]);
    message
}

/// struct ifaddrmsg.
pub(super) fn address_header(ip: IpAddr, prefix: u8, index: u32) -> [u8; 8] {
    let (family, scope) = match ip {
        IpAddr::V4(ip) if ip.is_loopback() => (libc::AF_INET, libc::RT_SCOPE_HOST),
        IpAddr::V4(ip) if ip.is_link_local() => (libc::AF_INET, libc::RT_SCOPE_LINK),
        IpAddr::V4(_) => (libc::AF_INET, libc::RT_SCOPE_UNIVERSE),
        // The kernel works out the scope of an IPv6 address itself.
        IpAddr::V6(_) => (libc::AF_INET6, libc::RT_SCOPE_UNIVERSE),
    };
    let mut header = [0; 8];
    header[0] = u8::try_from(family).expect("address families of IP fit a byte");
    header[1] = prefix;
    header[3] = scope;
    header[4..].copy_from_slice(&index.to_ne_bytes());
    header
}

/// What `ip address add ... broadcast +` would set.
fn broadcast(ip: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    (prefix <= 30 && !ip.is_loopback()).then(|| Ipv4Addr::from(u32::from(ip) | hosts))
}

pub(super) fn parse_address(body: &[u8]) -> Option<Held> {
    let index = read_u32(body, 4)?;
    let (mut local, mut peer, mut valid, mut ours) = (None, None, None, false);
    for (kind, value) in attributes_in(body.get(8..)?) {
        match kind {
            libc::IFA_LOCAL => local = parse_ip(value),
            libc::IFA_ADDRESS => peer = parse_ip(value),
            libc::IFA_CACHEINFO => valid = read_u32(value, 4).filter(|valid| *valid != u32::MAX),
            IFA_PROTO => ours = value == [OUR_PROTOCOL],
            _ => {}
        }
    }
    Some(Held { index, ip: local.or(peer)?, prefix: *body.get(1)?, valid, ours })
}

pub(super) fn parse_link(body: &[u8]) -> Option<Link> {
    let link_type = u16::from_ne_bytes(body.get(2..4)?.try_into().ok()?);
    let (index, flags) = (read_u32(body, 4)?, read_u32(body, 8)?);
    let (mut name, mut hardware) = (None, None);
    for (kind, value) in attributes_in(body.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => name = Some(String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()),
            libc::IFLA_ADDRESS => hardware = value.try_into().ok(),
            _ => {}
        }
    }
    let announces = link_type == libc::ARPHRD_ETHER && flags & flag(libc::IFF_NOARP) == 0;
    Some(Link { index, name: name?, hardware: hardware.filter(|_| announces), flags })
}

fn parse_ip(value: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(value).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
}

pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The messages of a datagram: type, sequence number, flags, body. Ends at the first one that is cut short.
pub(super) fn messages_in(mut datagram: &[u8]) -> impl Iterator<Item = (u16, u32, u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(read_u32(datagram, 0)?).ok()?;
        let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
        let flags = u16::from_ne_bytes(datagram.get(6..8)?.try_into().ok()?);
        let sequence = read_u32(datagram, 8)?;
        let body = datagram.get(16..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, sequence, flags, body))
    })
}

/// The attributes of a body: type, value. Ends at the first one that is cut short.
fn attributes_in(mut body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(body.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(body.get(2..4)?.try_into().ok()?);
        let value = body.get(4..length)?;
        body = body.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

pub(super) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// libc has flags as signed integers of several widths; none of those used here is negative.
pub(super) fn flag(value: impl TryInto<u32>) -> u32 {
    value.try_into().unwrap_or(0)
}

pub(super) fn flag16(value: impl TryInto<u16>) -> u16 {
    value.try_into().unwrap_or(0)
}

pub(super) fn nlmsg(value: impl TryInto<u16>) -> u16 {
    value.try_into().unwrap_or(0)
}

pub(super) fn dump() -> u32 {
    flag(libc::NLM_F_DUMP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_message_ends_the_list_and_never_panics() {
        let address = NewAddress {
            index: 7,
            ip: "10.1.2.3".parse().unwrap(),
            prefix: 24,
            label: Some("eth0:1"),
            valid: Some(3),
            prefix_route: PrefixRoute::Made,
        };
        let mut datagram = Vec::new();
        encode(libc::RTM_NEWADDR, 0, &address).append_to(&mut datagram, 0, 5);
        let (kind, sequence, _, body) = messages_in(&datagram).next().unwrap();
        assert_eq!((kind, sequence), (libc::RTM_NEWADDR, 5));
        assert_eq!(parse_address(body), Some(Held { index: 7, ip: address.ip, prefix: 24, valid: Some(3), ours: true }));
        for cut in 0..datagram.len() {
            for (_, _, _, body) in messages_in(&datagram[..cut]) {
                parse_address(body);
            }
            parse_address(&datagram[..cut]);
            parse_link(&datagram[..cut]);
        }
    }

    #[test]
    fn the_broadcast_address_is_what_ip_would_set() {
        let of = |ip: &str, prefix| broadcast(ip.parse().unwrap(), prefix).map(|ip| ip.to_string());
        assert_eq!(of("192.168.122.180", 24).as_deref(), Some("192.168.122.255"));
        assert_eq!(of("10.1.2.3", 30).as_deref(), Some("10.1.2.3"));
        assert_eq!(of("10.1.2.3", 0).as_deref(), Some("255.255.255.255"));
        assert_eq!(of("10.1.2.3", 31), None);
        assert_eq!(of("10.1.2.3", 32), None);
    }
}
