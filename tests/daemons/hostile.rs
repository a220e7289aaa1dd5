//! Packets and files from people who mean no good, or err.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use drcm::{
    lab::{Namespace, Plan, Port},
    wire::VERSION,
};
use nix::sys::{
    socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recvfrom, sendto, setsockopt, socket, sockopt,
    },
    time::{TimeVal, TimeValLike as _},
};

use super::{Cluster, ms, seal::Header, seconds};

const PORT: u16 = 53897;

#[test]
fn a_node_with_another_key_is_never_accepted() {
    // A cluster that has been whole once: a new one begins when every voter has been heard.
    let mut cluster = Cluster::running(Plan::of(3));
    // Killed: one that leaves would lend its vote, and two of the three would be at one node.
    cluster.lab.node_mut(2).kill();
    let made = cluster.shell(
        2,
        "mkdir -p @/nodes/node3/auth && chmod 700 @/nodes/node3/auth && dd if=/dev/urandom bs=1024 count=2 2>/dev/null > @/nodes/node3/auth/authkey && \
         sha1sum @/nodes/node3/auth/authkey | cut -b1-40 > @/nodes/node3/auth/authkey.sha1 && chmod 600 @/nodes/node3/auth/* && \
         mount --bind @/nodes/node3/auth @/auth",
    );
    assert_eq!(made.code, Some(0), "{made:?}");
    cluster.lab.node_mut(2).start().unwrap();
    cluster.holds_still(seconds(4), ms(300));
    let text =
        cluster.wait_status(0, "node3 down, and what was dropped", |text| line(text, "node3").contains("Down") && text.contains("dropped"));
    let dropped = line(&text, "dropped");
    assert!(dropped.chars().any(|letter| letter.is_ascii_digit()), "{text}");
    // A cluster of two out of three goes on without it, and survives nothing more: it has no vote to give.
    cluster.cut(1);
    let sampler = &cluster.sampler;
    cluster.lab.wait("the owner letting go without a majority", seconds(5), |_| sampler.owners().is_empty()).unwrap();
    cluster.lab.pass(seconds(3)).unwrap();
    assert!(cluster.sampler.owners().is_empty(), "a vote under another key was counted");
    cluster.join(1);
    cluster.wait_owner(0);
    cluster.assert_never_two();
}

#[test]
fn garbage_on_the_ports_moves_nothing() {
    let mut cluster = Cluster::running(Plan::of(3));
    let sender = cluster.lab.client().run(|| {
        std::thread::spawn(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let mut random = fs::File::open("/dev/urandom").unwrap();
            let end = Instant::now() + Duration::from_secs(4);
            let mut sent = 0_usize;
            while Instant::now() < end {
                for node in 0..3 {
                    let mut bytes = vec![0; 1 + sent * 97 % 1500];
                    random.read_exact(&mut bytes).unwrap();
                    // A full queue is the kernel's way of saying that this is enough.
                    socket.send_to(&bytes, (Plan::address(node), PORT)).ok();
                    sent += 1;
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            sent
        })
    });
    // Meanwhile, connections to the status port that say nothing, or nonsense.
    let silent: Vec<TcpStream> = cluster
        .lab
        .client()
        .run(|| (0..40).filter_map(|_| TcpStream::connect_timeout(&(Plan::address(0), PORT).into(), Duration::from_secs(1)).ok()).collect())
        .unwrap();
    cluster
        .lab
        .client()
        .run(|| {
            if let Ok(mut stream) = TcpStream::connect_timeout(&(Plan::address(1), PORT).into(), Duration::from_secs(1)) {
                stream.write_all(&[0xff; 100_000]).ok();
            }
        })
        .unwrap();
    cluster.holds_still(ms(3500), ms(300));
    assert!(sender.unwrap().join().unwrap() > 1000);
    let text = cluster.status(0);
    assert!(text.contains("Cluster status: HEALTHY"), "{text}");
    drop(silent);
    cluster.assert_never_two();
}

#[test]
fn replayed_packets_keep_nobody_alive() {
    let mut cluster = Cluster::running(Plan::of(3));
    let recorded = record(cluster.lab.node(1).namespace(), Duration::from_secs(3));
    let from_owner: Vec<Vec<u8>> = recorded.iter().filter(|packet| packet[12..16] == Plan::address(0).octets()).cloned().collect();
    assert!(from_owner.len() > 20, "only {} datagrams of the owner were recorded", from_owner.len());

    // Everything that was said, said again by a stranger: nothing may move.
    replay(cluster.lab.client(), &recorded, Duration::from_secs(2));
    cluster.holds_still(seconds(2), ms(300));

    // The owner is cut off while a stranger goes on in its name: it is dead all the same.
    let count = from_owner.len();
    let stranger = {
        let namespace = cluster.lab.client();
        let packets = from_owner.clone();
        namespace.run(move || std::thread::spawn(move || send_for(&packets, Duration::from_secs(4)))).unwrap()
    };
    let outage = cluster.outage(1, |lab| lab.switch().cut(Port::Node(0)).unwrap());
    assert!(outage < ms(2500), "{count} replayed datagrams delayed the take-over to {outage:?}");
    assert!(stranger.join().unwrap() > count);
    let text = cluster.status(1);
    assert!(line(&text, "node1").contains("Down"), "{text}");
    cluster.join(0);
    cluster.wait_owner(0);

    // What the owner said before its daemon was started anew counts no more, either.
    cluster.lab.node_mut(0).kill();
    let outage = cluster.outage(1, |lab| {
        let namespace = lab.client();
        replay(namespace, &from_owner, Duration::from_secs(2));
    });
    assert!(outage < ms(4000), "{outage:?}");
    cluster.assert_never_two();
}

#[test]
fn a_node_with_another_configuration_is_reported_and_moves_nothing() {
    let mut cluster = Cluster::running(Plan::of(3));
    let other = cluster.lab.directory().join("other.cfg");
    let text = fs::read_to_string(cluster.lab.directory().join("cm.cfg")).unwrap();
    fs::write(
        &other,
        text.replace("service, 10.77.0.100,", "extra, 10.77.0.150, 24, eth0, /etc/drcm/resources/ipv4addr.sh\nservice, 10.77.0.100,"),
    )
    .unwrap();
    let before = cluster.sampler.changes().len();
    cluster.lab.node_mut(2).stop(seconds(10)).unwrap();
    cluster.lab.node_mut(2).set_config(&other);
    cluster.lab.node_mut(2).start().unwrap();
    let text = cluster
        .wait_status(0, "the mismatch", |text| text.lines().any(|line| line.starts_with("WARNING") && line.contains("configuration")));
    assert!(text.contains("node3"), "{text}");
    cluster.holds_still(seconds(5), ms(300));
    assert_eq!(cluster.sampler.changes().len(), before);
    assert!(!text.contains("Cluster status: HEALTHY"), "{text}");
    // Its vote still counts: the owner and it are a majority.
    cluster.cut(1);
    cluster.holds_still(seconds(4), ms(300));
    cluster.assert_never_two();
}

#[test]
fn a_peer_of_another_time_is_named_in_the_log_and_moves_nothing() {
    let mut cluster = Cluster::running(Plan::of(3));
    let key = fs::read(cluster.lab.directory().join("auth/authkey")).unwrap();
    let recorded = record(cluster.lab.node(1).namespace(), Duration::from_secs(1));
    let payload = recorded
        .iter()
        .find(|packet| packet[12..16] == Plan::address(2).octets() && packet[16..20] == Plan::address(1).octets())
        .map(|packet| &packet[28..])
        .expect("node3 speaks to node2 all the time");
    let (header, records) = Header::open(&key, payload).expect("the daemons seal as every version does");
    // Each is told of once, however often it speaks.
    let datagrams: Vec<Vec<u8>> = [(VERSION + 1, VERSION + 1), (0, 0)]
        .into_iter()
        .flat_map(|(version, readable_from)| {
            (0..50).map(move |more| Header { version, readable_from, counter: header.counter + more, ..header })
        })
        .map(|header| header.seal(&key, &records))
        .collect();
    let send = move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for datagram in &datagrams {
            socket.send_to(datagram, (Plan::address(1), PORT)).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    cluster.lab.client().run(send).unwrap();
    cluster.holds_still(seconds(1), ms(300));
    let log = fs::read_to_string(cluster.lab.node(1).home().join("log/drcm.log")).unwrap();
    for (theirs, older) in [(VERSION + 1, "this node"), (0, "node3")] {
        let told: Vec<&str> = log.lines().filter(|line| line.contains(&format!("node node3 speaks protocol version {theirs}"))).collect();
        let [line] = told.as_slice() else { panic!("told {} times of version {theirs}: {told:?}\n{log}", told.len()) };
        assert!(
            line.contains("WARNING") && line.contains(&format!("this node {VERSION}:")) && line.contains(&format!("update {older}")),
            "{line}"
        );
    }
    let text = cluster.status(1);
    assert!(text.contains("Cluster status: HEALTHY"), "{text}");
    cluster.assert_never_two();
}

#[test]
fn a_daemon_without_a_safe_key_does_not_start() {
    for (what, spoil) in [
        ("readable by others", "chmod 644 @/auth/authkey"),
        ("missing", "rm @/auth/authkey.sha1"),
        ("not matching", "echo 0000000000000000000000000000000000000000 > @/auth/authkey.sha1"),
    ] {
        let mut cluster = Cluster::idle(Plan::of(1));
        assert_eq!(cluster.shell(0, spoil).code, Some(0));
        cluster.lab.node_mut(0).start().unwrap();
        cluster.lab.node_mut(0).wait_end(seconds(10)).unwrap_or_else(|_| panic!("the daemon runs though its key is {what}"));
        let words = cluster.lab.node(0).words();
        assert!(words.contains("authkey"), "a key that is {what} should be named: {words}");
    }
}

/// The line of a report that begins with a word.
fn line<'a>(text: &'a str, first: &str) -> &'a str {
    text.lines().find(|line| line.split_whitespace().next() == Some(first)).unwrap_or_default()
}

/// Every cluster datagram that a node sends or receives in this time, as IPv4 packets.
fn record(namespace: &Namespace, time: Duration) -> Vec<Vec<u8>> {
    namespace
        .run(move || {
            let socket = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
            setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50)).unwrap();
            let end = Instant::now() + time;
            let mut packets = Vec::new();
            let mut buffer = vec![0; 2048];
            while Instant::now() < end && packets.len() < 10_000 {
                let Ok((length, _)) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) else { continue };
                let packet = &buffer[..length];
                if length > 28 && packet[0] == 0x45 && packet[9] == 17 && packet[22..24] == PORT.to_be_bytes() {
                    packets.push(packet.to_vec());
                }
            }
            packets
        })
        .unwrap()
}

/// Sends recorded packets again and again, in the name of those who sent them first.
fn replay(namespace: &Namespace, packets: &[Vec<u8>], time: Duration) {
    let packets = packets.to_vec();
    let sent = namespace.run(move || send_for(&packets, time)).unwrap();
    assert!(sent > 0);
}

fn send_for(packets: &[Vec<u8>], time: Duration) -> usize {
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap();
    let end = Instant::now() + time;
    let mut sent = 0;
    for packet in packets.iter().cycle() {
        if Instant::now() >= end {
            break;
        }
        let to = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
        sendto(socket.as_raw_fd(), packet, &SockaddrIn::from(SocketAddrV4::new(to, 0)), MsgFlags::empty()).unwrap();
        sent += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    sent
}
