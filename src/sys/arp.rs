//! "This address is at this MAC": gratuitous ARP and unsolicited neighbour advertisements, and the question whether
//! anybody else has an address (RFC 5227 probe, IPv6 neighbour solicitation).

mod claims;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{self, MsgFlags},
};
use tokio::{io::unix::AsyncFd, time};

use super::{SysError, netlink::Link, unwatchable, watch};

pub use claims::{Claim, Claims};

const ETHERNET_BROADCAST: [u8; 6] = [0xff; 6];
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Which form of gratuitous ARP. Some switches and hosts believe only the one, some only the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// "Who has X? Tell X."
    Request,
    /// "X is at."
    Reply,
}

/// Whether the machine forwards packets: hosts drop a default route through a neighbour that says it is no router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An end of the network.
    Host,
    /// It forwards IPv6.
    Router,
}

/// A socket that announces. It receives nothing.
pub struct Announcer {
    socket: OwnedFd,
}

impl Announcer {
    /// A socket in the network namespace of the calling thread. Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn open() -> Result<Self, SysError> {
        Ok(Self { socket: packet_socket(0)? })
    }

    /// Says once, to everybody on the link, that `ip` is at its hardware address. Nothing is sent on a link without one
    /// (loopback, tunnels): there nobody asks.
    ///
    /// # Errors
    /// When the kernel does not take the frame: link down, queue full.
    pub fn announce(&self, link: &Link, ip: IpAddr, form: Form, role: Role) -> Result<(), SysError> {
        let Some(hardware) = link.hardware else { return Ok(()) };
        match ip {
            IpAddr::V4(ip) => {
                let (operation, target) = match form {
                    Form::Request => (1, [0; 6]),
                    Form::Reply => (2, hardware),
                };
                send(&self.socket, link.index, ETHERTYPE_ARP, ETHERNET_BROADCAST, &arp(operation, hardware, ip, target, ip))
            }
            IpAddr::V6(ip) => {
                // Override, and no Solicited: RFC 4861 4.4 and 7.2.6.
                let flags = 0x20 | if role == Role::Router { 0x80 } else { 0 };
                let packet = neighbour_message(NEIGHBOUR_ADVERTISEMENT, flags, ip, ALL_NODES, ip, Some(hardware));
                send(&self.socket, link.index, ETHERTYPE_IPV6, multicast_hardware(ALL_NODES), &packet)
            }
        }
    }
}

/// Asks three times within `wait` whether anybody else on the link has `ip`, without claiming it, and returns the hardware
/// address of the first who says so. `None` for silence, and on a link where nobody can be asked.
///
/// # Errors
/// When the kernel refuses the socket or the frames: no CAP_NET_RAW, link down.
pub async fn claimed(link: &Link, ip: IpAddr, wait: Duration) -> Result<Option<[u8; 6]>, SysError> {
    let Some(hardware) = link.hardware else { return Ok(None) };
    let ethertype = if ip.is_ipv4() { ETHERTYPE_ARP } else { ETHERTYPE_IPV6 };
    let socket = packet_socket(ethertype)?;
    bind_packet(&socket, link.index, ethertype)?;
    let socket = watch(socket)?;
    for _ in 0..3 {
        match ip {
            IpAddr::V4(ip) => {
                let probe = arp(1, hardware, Ipv4Addr::UNSPECIFIED, [0; 6], ip);
                send(socket.get_ref(), link.index, ETHERTYPE_ARP, ETHERNET_BROADCAST, &probe)?;
            }
            IpAddr::V6(ip) => {
                let group = solicited_node(ip);
                let probe = neighbour_message(NEIGHBOUR_SOLICITATION, 0, Ipv6Addr::UNSPECIFIED, group, ip, None);
                send(socket.get_ref(), link.index, ETHERTYPE_IPV6, multicast_hardware(group), &probe)?;
            }
        }
        if let Ok(answer) = time::timeout(wait / 3, first_claim(&socket, ip, hardware)).await {
            return answer.map(Some);
        }
    }
    Ok(None)
}

/// Reads frames until one says that somebody but `own` has `ip`.
async fn first_claim(socket: &AsyncFd<OwnedFd>, ip: IpAddr, own: [u8; 6]) -> Result<[u8; 6], SysError> {
    let mut frame = [0; 256];
    loop {
        let mut ready = socket.readable().await.map_err(unwatchable)?;
        match socket::recv(socket.get_ref().as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => ready.clear_ready(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(SysError::Call { call: "recv AF_PACKET", errno }),
            Ok(length) => {
                let claim = match ip {
                    IpAddr::V4(ip) => arp_claim(&frame[..length], ip),
                    IpAddr::V6(ip) => advertisement_claim(&frame[..length], ip),
                };
                if let Some(hardware) = claim.filter(|hardware| *hardware != own) {
                    return Ok(hardware);
                }
            }
        }
    }
}

/// An ARP packet for IPv4 over Ethernet.
fn arp(operation: u8, sender: [u8; 6], sender_ip: Ipv4Addr, target: [u8; 6], target_ip: Ipv4Addr) -> [u8; 28] {
    let mut packet = [0; 28];
    packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    packet[8..14].copy_from_slice(&sender);
    packet[14..18].copy_from_slice(&sender_ip.octets());
    packet[18..24].copy_from_slice(&target);
    packet[24..28].copy_from_slice(&target_ip.octets());
    packet
}

/// The sender of an ARP packet that speaks as `ip`.
fn arp_claim(packet: &[u8], ip: Ipv4Addr) -> Option<[u8; 6]> {
    let speaks_as = packet.get(14..18)? == ip.octets();
    (packet.get(..6)? == [0, 1, 8, 0, 6, 4] && speaks_as).then(|| packet.get(8..14)?.try_into().ok()).flatten()
}

/// The hardware address in a neighbour advertisement for `ip`; zeros when it leaves it out.
fn advertisement_claim(packet: &[u8], ip: Ipv6Addr) -> Option<[u8; 6]> {
    let is_advertisement = *packet.get(6)? == 58 && *packet.get(40)? == NEIGHBOUR_ADVERTISEMENT;
    let about = packet.get(48..64)? == ip.octets();
    let option = packet.get(64..72).filter(|option| option.starts_with(&[2, 1])).and_then(|option| option[2..].try_into().ok());
    (is_advertisement && about).then(|| option.unwrap_or_default())
}

/// An IPv6 packet with a neighbour solicitation or advertisement.
fn neighbour_message(kind: u8, flags: u8, from: Ipv6Addr, to: Ipv6Addr, about: Ipv6Addr, hardware: Option<[u8; 6]>) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend_from_slice(&about.octets());
    if let Some(hardware) = hardware {
        // Option 2, target link-layer address, one unit of eight bytes.
        message.extend_from_slice(&[2, 1]);
        message.extend_from_slice(&hardware);
    }
    let length = u16::try_from(message.len()).expect("a neighbour message is at most 32 bytes long");
    let mut pseudo = Vec::with_capacity(72);
    pseudo.extend_from_slice(&from.octets());
    pseudo.extend_from_slice(&to.octets());
    pseudo.extend_from_slice(&u32::from(length).to_be_bytes());
    pseudo.extend_from_slice(&58_u32.to_be_bytes());
    pseudo.extend_from_slice(&message);
    let checksum = internet_checksum(&pseudo);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    // Next header ICMPv6; hop limit 255, since neighbours believe no other.
    packet.extend_from_slice(&[58, 255]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(&message);
    packet
}

/// RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let tail = ip.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (tail[6] & 0xff), tail[7])
}

fn multicast_hardware(group: Ipv6Addr) -> [u8; 6] {
    let octets = group.octets();
    [0x33, 0x33, octets[12], octets[13], octets[14], octets[15]]
}

/// A socket whose frames get their Ethernet header from the kernel. With protocol 0 it receives nothing.
fn packet_socket(ethertype: u16) -> Result<OwnedFd, SysError> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket(2) takes no pointers.
    let raw = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(ethertype.to_be())) };
    let raw = Errno::result(raw).map_err(|errno| SysError::Call { call: "socket AF_PACKET (needs CAP_NET_RAW)", errno })?;
    // SAFETY: the descriptor was opened a line above and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Receives frames of one link only.
fn bind_packet(socket: &OwnedFd, index: u32, ethertype: u16) -> Result<(), SysError> {
    let address = link_address(index, ethertype, [0; 6]);
    // SAFETY: the address is a whole sockaddr_ll that outlives the call, and its size is given.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_address()) };
    Errno::result(result).map(drop).map_err(|errno| SysError::Call { call: "bind AF_PACKET", errno })
}

fn send(socket: &OwnedFd, index: u32, ethertype: u16, to: [u8; 6], packet: &[u8]) -> Result<(), SysError> {
    let address = link_address(index, ethertype, to);
    // SAFETY: packet and address are whole, outlive the call, and their sizes are given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            size_of_address(),
        )
    };
    Errno::result(sent).map(drop).map_err(|errno| SysError::Call { call: "sendto AF_PACKET", errno })
}

fn link_address(index: u32, ethertype: u16, hardware: [u8; 6]) -> libc::sockaddr_ll {
    let mut padded = [0; 8];
    padded[..6].copy_from_slice(&hardware);
    libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("AF_PACKET is 17"),
        sll_protocol: ethertype.to_be(),
        sll_ifindex: i32::try_from(index).unwrap_or(0),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: padded,
    }
}

fn size_of_address() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("a sockaddr_ll is 20 bytes long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_checks_out() {
        let ip: Ipv6Addr = "fd00::1:2".parse().unwrap();
        let packet = neighbour_message(NEIGHBOUR_ADVERTISEMENT, 0x20, ip, ALL_NODES, ip, Some([2, 0, 0, 0, 0, 9]));
        // A packet with its checksum in place sums to zero.
        let mut pseudo = packet[8..40].to_vec();
        pseudo.extend_from_slice(&u32::try_from(packet.len() - 40).unwrap().to_be_bytes());
        pseudo.extend_from_slice(&58_u32.to_be_bytes());
        pseudo.extend_from_slice(&packet[40..]);
        assert_eq!(internet_checksum(&pseudo), 0);
        assert_eq!(advertisement_claim(&packet, ip), Some([2, 0, 0, 0, 0, 9]));
        assert_eq!(advertisement_claim(&packet, "fd00::1:3".parse().unwrap()), None);
        for cut in 0..packet.len() {
            advertisement_claim(&packet[..cut], ip);
            arp_claim(&packet[..cut], Ipv4Addr::LOCALHOST);
        }
    }

    #[test]
    fn who_speaks_as_an_address_claims_it() {
        let ip = Ipv4Addr::new(10, 0, 0, 1);
        let reply = arp(2, [2, 0, 0, 0, 0, 7], ip, [0; 6], Ipv4Addr::UNSPECIFIED);
        assert_eq!(arp_claim(&reply, ip), Some([2, 0, 0, 0, 0, 7]));
        let probe = arp(1, [2, 0, 0, 0, 0, 7], Ipv4Addr::UNSPECIFIED, [0; 6], ip);
        assert_eq!(arp_claim(&probe, ip), None);
    }
}
