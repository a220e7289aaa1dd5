//! What others on the links say about who has which address.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{errno::Errno, libc};
use tokio::{io::unix::AsyncFd, select};

use super::{ETHERTYPE_ARP, ETHERTYPE_IPV6, NEIGHBOUR_ADVERTISEMENT, advertisement_claim, arp_claim, packet_socket};
use crate::sys::{SysError, unwatchable, watch};

/// Somebody on a link speaks as an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The link.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// Who; zeros when an advertisement leaves it out.
    pub hardware: [u8; 6],
}

/// Hears the claims on all links.
pub struct Claims {
    four: AsyncFd<OwnedFd>,
    six: AsyncFd<OwnedFd>,
}

impl Claims {
    /// In the network namespace of the calling thread and within a tokio runtime. Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn open() -> Result<Self, SysError> {
        let six = packet_socket(0)?;
        // Filtered before it is bound: not every IPv6 packet of the machine is to come this way.
        advertisements_only(&six)?;
        super::bind_packet(&six, 0, ETHERTYPE_IPV6)?;
        Ok(Self { four: watch(packet_socket(ETHERTYPE_ARP)?)?, six: watch(six)? })
    }

    /// The next one. May be cancelled.
    ///
    /// # Errors
    /// When a socket fails.
    pub async fn next(&mut self) -> Result<Claim, SysError> {
        select! {
            claim = next_on(&self.four, |packet| {
                let ip = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(14..18)?).ok()?);
                (!ip.is_unspecified()).then_some(())?;
                Some((ip.into(), arp_claim(packet, ip)?))
            }) => claim,
            claim = next_on(&self.six, |packet| {
                let ip = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(48..64)?).ok()?);
                Some((ip.into(), advertisement_claim(packet, ip)?))
            }) => claim,
        }
    }
}

async fn next_on(socket: &AsyncFd<OwnedFd>, understood: impl Fn(&[u8]) -> Option<(IpAddr, [u8; 6])>) -> Result<Claim, SysError> {
    let mut frame = [0_u8; 256];
    loop {
        let mut ready = socket.readable().await.map_err(unwatchable)?;
        // SAFETY: a sockaddr_ll is plain numbers, for which zeros are good.
        let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut size = super::size_of_address();
        // SAFETY: buffer and address are whole, outlive the call, and their sizes are given.
        let length = unsafe {
            libc::recvfrom(
                socket.get_ref().as_raw_fd(),
                frame.as_mut_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw mut from).cast(),
                &raw mut size,
            )
        };
        match Errno::result(length) {
            Err(Errno::EAGAIN) => ready.clear_ready(),
            // A link that goes down says so here; others go on.
            Err(Errno::EINTR | Errno::ENETDOWN) => {}
            Err(errno) => return Err(SysError::Call { call: "recvfrom AF_PACKET", errno }),
            Ok(length) => {
                let packet = frame.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
                // What we say ourselves is none of others' claims.
                if from.sll_pkttype == libc::PACKET_OUTGOING {
                    continue;
                }
                let index = u32::try_from(from.sll_ifindex).unwrap_or(0);
                if let Some((ip, hardware)) = understood(packet) {
                    return Ok(Claim { index, ip, hardware });
                }
            }
        }
    }
}

/// Lets neighbour advertisements through: ICMPv6 is the next header, and its type is 136.
fn advertisements_only(socket: &OwnedFd) -> Result<(), SysError> {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD_BYTE, 0, 0, 6),
        step(JUMP_IF_EQUAL, 0, 3, 58),
        step(LOAD_BYTE, 0, 0, 40),
        step(JUMP_IF_EQUAL, 0, 1, u32::from(NEIGHBOUR_ADVERTISEMENT)),
        step(RETURN, 0, 0, 256),
        step(RETURN, 0, 0, 0),
    ];
    let filter = libc::sock_fprog { len: 6, filter: program.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).expect("it is 16 bytes long");
    // SAFETY: the program is whole and outlives the call, which copies it; its length and the size of the structure are given.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const filter).cast(), size) };
    Errno::result(result).map(drop).map_err(|errno| SysError::Call { call: "setsockopt SO_ATTACH_FILTER", errno })
}
