//! A daemon starts, and one that was killed goes on.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use drcm::lab::{Mark, Plan};
use nix::sys::{
    signal::Signal,
    socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt},
    time::{TimeVal, TimeValLike as _},
};

use crate::{
    bed::{Bed, Contender},
    report::{Goal, Report, Spread},
};

const ROUNDS: usize = 9;

pub fn run(report: &mut Report) {
    let mut bed = Bed::serving(&Contender::Drcm(Plan::of(3)));
    let starts: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            bed.stop(2);
            bed.lab.node_mut(2).wait_end(Duration::from_secs(20)).unwrap();
            let ear = bed.lab.node(2).namespace().run(own_packets).unwrap();
            let start = Instant::now();
            bed.start(2);
            first_heartbeat(&ear);
            start.elapsed()
        })
        .collect();
    report.row("from exec to the first heartbeat", "ms", &Spread::of_times(&starts), None, &[Goal::Median(20.0)]);

    let waits: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            // It renews its lease before it is killed again.
            bed.lab.pass(Duration::from_secs(1)).unwrap();
            let mark = Mark::now();
            bed.lab.node_mut(0).signal(Signal::SIGKILL).unwrap();
            bed.start(0);
            bed.lab.pass(Duration::from_secs(3)).unwrap();
            bed.waited(mark)
        })
        .collect();
    assert_eq!(bed.sampler.owner(), Some(0));
    report.row(
        "killed and started again: longest wait of a client that asks each millisecond",
        "ms",
        &Spread::of_times(&waits),
        None,
        &[Goal::Worst(10.0)],
    );
}

/// Sees what the node sends.
fn own_packets() -> OwnedFd {
    let all = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
    setsockopt(&all, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100)).unwrap();
    all
}

fn first_heartbeat(ear: &OwnedFd) {
    let mut bytes = [0; 2048];
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        let Ok(length) = recv(ear.as_raw_fd(), &mut bytes, MsgFlags::empty()) else { continue };
        // IPv4 (RFC 791), UDP, from this node: its own address is the third.
        let from_here = length > 28 && bytes[0] >> 4 == 4 && bytes[9] == 17 && bytes[12..16] == Plan::address(2).octets();
        if from_here {
            return;
        }
    }
    panic!("no heartbeat in 20 s");
}
