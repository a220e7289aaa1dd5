//! Floating addresses on real devices.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use drcm::{
    drivers::{AddressEvent, Addresses, Condition, DriverError},
    model::{Address, Interface},
    sys::{
        arp::{Announcer, Form, Role},
        clock,
        netlink::Requests,
    },
};
use tokio::{sync::mpsc, time};

use crate::namespace::{Peer, block_on, enter_new, ip};

pub fn address(text: &str, prefix: u8, interface: &str) -> Address {
    let (device, label) = match interface.split_once(':') {
        Some((device, _)) => (device.to_owned(), Some(interface.to_owned())),
        None => (interface.to_owned(), None),
    };
    Address { ip: text.parse().unwrap(), prefix, netmask: prefix.to_string(), interface: Interface { device, label } }
}

/// A device with a carrier and nobody behind it.
pub fn device(name: &str) {
    ip(&format!("link add {name} type veth peer name {name}far"));
    ip(&format!("link set {name}far up"));
    ip(&format!("link set {name} up"));
}

pub async fn is_there(ip: IpAddr) -> bool {
    Requests::open().unwrap().addresses().await.unwrap().iter().any(|held| held.ip == ip)
}

pub async fn next(events: &mut mpsc::Receiver<AddressEvent>) -> AddressEvent {
    time::timeout(Duration::from_secs(3), events.recv()).await.expect("an event within three seconds").unwrap()
}

#[test]
fn comes_and_goes_as_configured() {
    enter_new();
    device("eth0");
    ip("address add 10.77.0.1/24 broadcast + dev eth0");
    block_on(async {
        let (addresses, _events) = Addresses::open().unwrap();
        let floating = address("10.77.0.180", 24, "eth0:1");
        assert_eq!(addresses.probe(&floating).await.unwrap(), Condition::Down);
        addresses.stop(&floating).await.unwrap();

        addresses.start(&floating, None).await.unwrap();
        addresses.start(&floating, None).await.unwrap();
        let shown = ip("-o -4 address show dev eth0 label eth0:1");
        assert!(shown.contains("inet 10.77.0.180/24 brd 10.77.0.255 scope global secondary"), "{shown}");
        assert!(shown.contains("valid_lft forever"), "{shown}");
        assert_eq!(addresses.probe(&floating).await.unwrap(), Condition::Up);

        // The same, with a lifetime, and back.
        addresses.start(&floating, Some(clock::now() + Duration::from_secs(60))).await.unwrap();
        let shown = ip("-o -4 address show dev eth0 label eth0:1");
        assert!(shown.contains("valid_lft 58sec"), "{shown}");
        addresses.start(&floating, None).await.unwrap();
        assert!(ip("-o -4 address show dev eth0 label eth0:1").contains("valid_lft forever"));

        ip("link set eth0 down");
        assert_eq!(addresses.probe(&floating).await.unwrap(), Condition::Partial);
        ip("link set eth0 up");

        // With another prefix length as well: nothing of it stays.
        ip("address add 10.77.0.180/32 dev eth0");
        addresses.stop(&floating).await.unwrap();
        addresses.stop(&floating).await.unwrap();
        assert_eq!(addresses.probe(&floating).await.unwrap(), Condition::Down);
        assert!(!is_there(floating.ip).await);
        assert!(is_there("10.77.0.1".parse().unwrap()).await, "the address of the node stays");

        ip("address add 10.77.0.180/32 dev eth0");
        assert_eq!(addresses.probe(&floating).await.unwrap(), Condition::Partial);
        addresses.start(&floating, None).await.unwrap();
        assert_eq!(addresses.probe(&floating).await.unwrap(), Condition::Up);
    });
}

#[test]
fn an_ipv6_address_is_usable_at_once_and_leaves_the_route_alone() {
    enter_new();
    device("eth0");
    ip("-6 address add fd77::1/64 dev eth0 nodad");
    block_on(async {
        let (addresses, _events) = Addresses::open().unwrap();
        let floating = address("fd77::180", 64, "eth0");
        addresses.start(&floating, Some(clock::now() + Duration::from_secs(30))).await.unwrap();
        let shown = ip("-o -6 address show dev eth0 to fd77::180");
        assert!(!shown.contains("tentative") && shown.contains("noprefixroute") && shown.contains("valid_lft 28sec"), "{shown}");
        assert!(!ip("-6 route show fd77::/64").contains("expires"), "the route of the node's own address never expires");
        addresses.refresh(vec![(floating.clone(), clock::now() + Duration::from_secs(40))]).await.remove(0).unwrap();
        assert!(!ip("-6 route show fd77::/64").contains("expires"));
        assert_eq!(addresses.probe(&floating).await.unwrap(), Condition::Up);
        addresses.stop(&floating).await.unwrap();
        assert!(ip("-6 route show fd77::/64").contains("dev eth0"));

        // Alone in its subnet it brings its own route.
        let alone = address("fd78::180", 64, "eth0");
        addresses.start(&alone, None).await.unwrap();
        assert!(ip("-6 route show fd78::/64").contains("dev eth0"));
        addresses.stop(&alone).await.unwrap();

        // There with another prefix length: mended, and removed.
        ip("-6 address add fd78::180/128 dev eth0 nodad");
        assert_eq!(addresses.probe(&alone).await.unwrap(), Condition::Partial);
        addresses.start(&alone, None).await.unwrap();
        assert_eq!(addresses.probe(&alone).await.unwrap(), Condition::Up);
        addresses.stop(&alone).await.unwrap();
        ip("-6 address add fd78::180/128 dev eth0 nodad");
        addresses.stop(&alone).await.unwrap();
        assert!(!is_there(alone.ip).await);
    });
}

#[test]
fn what_is_wrong_with_the_device_is_said() {
    enter_new();
    device("eth1");
    ip("link set eth1 down");
    device("eth2");
    ip("link set eth2far down");
    block_on(async {
        let (addresses, _events) = Addresses::open().unwrap();
        let on = |device| address("10.77.0.180", 24, device);
        let missing = addresses.start(&on("eth9"), None).await.unwrap_err();
        assert!(matches!(missing, DriverError::NoDevice { .. }) && missing.to_string().contains("no device eth9"), "{missing}");
        assert_eq!(addresses.probe(&on("eth9")).await.unwrap(), Condition::Down);
        addresses.stop(&on("eth9")).await.unwrap();
        let down = addresses.start(&on("eth1"), None).await.unwrap_err();
        assert!(matches!(down, DriverError::DeviceDown { .. }), "{down}");
        let unplugged = addresses.start(&on("eth2"), None).await.unwrap_err();
        assert!(matches!(unplugged, DriverError::NoCarrier { .. }), "{unplugged}");
        ip("link set eth1 up");
        let late = addresses.start(&on("eth1"), Some(clock::now())).await.unwrap_err();
        assert!(matches!(late, DriverError::LeaseOver { .. }), "{late}");
        assert!(!is_there("10.77.0.180".parse().unwrap()).await);
        std::fs::write("/proc/sys/net/ipv6/conf/eth1/disable_ipv6", "1").unwrap();
        let without = addresses.start(&address("fd77::1", 64, "eth1"), None).await.unwrap_err();
        assert!(without.to_string().contains("disable_ipv6"), "{without}");
    });
}

/// Milliseconds from the call until the kernel has taken an address away by itself, with nobody renewing it.
async fn lifetime(addresses: &Addresses, floating: &Address, lease: Duration) -> u128 {
    let begin = Instant::now();
    addresses.start(floating, Some(clock::now() + lease)).await.unwrap();
    assert!(is_there(floating.ip).await);
    while is_there(floating.ip).await {
        assert!(begin.elapsed() < Duration::from_secs(10), "the kernel never removed it");
        time::sleep(Duration::from_millis(2)).await;
    }
    begin.elapsed().as_millis()
}

#[test]
fn the_kernel_ends_the_lease_of_an_address() {
    enter_new();
    device("eth0");
    ip("address add 10.77.0.1/24 dev eth0");
    block_on(async {
        let (addresses, mut events) = Addresses::open().unwrap();
        let floating = address("10.77.0.180", 24, "eth0");
        let took = lifetime(&addresses, &floating, Duration::from_millis(1500)).await;
        println!("IPv4: removed after {took} ms");
        assert!((700..=1250).contains(&took), "{took} ms");
        assert_eq!(next(&mut events).await, AddressEvent::AddressGone { ip: floating.ip, device: "eth0".into() });
        let took = lifetime(&addresses, &floating, Duration::from_millis(2400)).await;
        println!("IPv4: removed after {took} ms");
        assert!(took <= 2300, "{took} ms");
        // IPv6 is looked through by a slower timer of the kernel, worst when another address has just made it run.
        addresses.start(&address("fd77::1", 64, "eth0"), Some(clock::now() + Duration::from_millis(1400))).await.unwrap();
        time::sleep(Duration::from_millis(150)).await;
        let took = lifetime(&addresses, &address("fd77::180", 64, "eth0"), Duration::from_millis(1400)).await;
        println!("IPv6: removed after {took} ms");
        assert!((700..=1300).contains(&took), "{took} ms");
    });
}

#[test]
fn renewing_keeps_an_address() {
    enter_new();
    device("eth0");
    block_on(async {
        let (addresses, mut events) = Addresses::open().unwrap();
        let floating = [address("10.77.0.180", 24, "eth0"), address("fd77::180", 64, "eth0")];
        for address in &floating {
            addresses.start(address, Some(clock::now() + Duration::from_millis(1500))).await.unwrap();
        }
        for _ in 0..10 {
            time::sleep(Duration::from_millis(250)).await;
            let until = clock::now() + Duration::from_millis(1500);
            for result in addresses.refresh(floating.iter().map(|address| (address.clone(), until)).collect()).await {
                result.unwrap();
            }
            for address in &floating {
                assert!(is_there(address.ip).await);
            }
        }
        assert!(events.try_recv().is_err());
    });
}

#[test]
fn removing_the_first_of_a_subnet_keeps_the_others() {
    enter_new();
    device("eth0");
    block_on(async {
        let (addresses, mut events) = Addresses::open().unwrap();
        let floating = [1, 2, 3].map(|last| address(&format!("10.77.0.{last}"), 24, "eth0"));
        for address in &floating {
            addresses.start(address, None).await.unwrap();
        }
        addresses.stop(&floating[0]).await.unwrap();
        assert!(!is_there(floating[0].ip).await && is_there(floating[1].ip).await && is_there(floating[2].ip).await);
        // The same when it is the kernel that removes it.
        addresses.start(&floating[1], Some(clock::now() + Duration::from_millis(1400))).await.unwrap();
        assert_eq!(next(&mut events).await, AddressEvent::AddressGone { ip: floating[1].ip, device: "eth0".into() });
        assert!(is_there(floating[2].ip).await);
    });
}

#[test]
fn a_deleted_address_is_back_within_milliseconds() {
    enter_new();
    device("eth0");
    block_on(async {
        let (addresses, mut events) = Addresses::open().unwrap();
        let floating = address("10.77.0.180", 24, "eth0");
        addresses.start(&floating, None).await.unwrap();
        let mut worst = Duration::ZERO;
        for _ in 0..20 {
            let index = Requests::open().unwrap().link("eth0").await.unwrap().unwrap().index;
            let begin = Instant::now();
            Requests::open().unwrap().remove(&[(index, floating.ip, 24)]).await.remove(0).unwrap();
            assert_eq!(next(&mut events).await, AddressEvent::AddressGone { ip: floating.ip, device: "eth0".into() });
            addresses.start(&floating, None).await.unwrap();
            worst = worst.max(begin.elapsed());
            assert!(is_there(floating.ip).await);
        }
        println!("deleted and put back: {worst:?} at worst");
        assert!(worst < Duration::from_millis(100), "{worst:?}");
        // What we remove ourselves is no news.
        addresses.stop(&floating).await.unwrap();
        time::sleep(Duration::from_millis(50)).await;
        assert!(events.try_recv().is_err());
    });
}

#[test]
fn links_that_come_and_go_are_told() {
    enter_new();
    let peer = Peer::linked("10.77.0.1/24", "10.77.0.2/24");
    block_on(async {
        let (addresses, mut events) = Addresses::open().unwrap();
        let floating = address("10.77.0.180", 24, "eth0");
        addresses.start(&floating, None).await.unwrap();
        peer.ip("link set eth0 down");
        assert_eq!(next(&mut events).await, AddressEvent::LinkDown { device: "eth0".into() });
        assert!(matches!(addresses.check_link(&floating).await, Err(DriverError::NoCarrier { .. })));
        peer.ip("link set eth0 up");
        assert_eq!(next(&mut events).await, AddressEvent::LinkUp { device: "eth0".into() });
        addresses.check_link(&floating).await.unwrap();
        // Also while nothing of ours is there: it may be what a group waits for.
        addresses.stop(&floating).await.unwrap();
        peer.ip("link set eth0 down");
        assert_eq!(next(&mut events).await, AddressEvent::LinkDown { device: "eth0".into() });
        peer.ip("link set eth0 up");
        assert_eq!(next(&mut events).await, AddressEvent::LinkUp { device: "eth0".into() });
        addresses.start(&floating, None).await.unwrap();
        ip("link delete eth0");
        let gone = [next(&mut events).await, next(&mut events).await];
        assert!(gone.contains(&AddressEvent::LinkDown { device: "eth0".into() }), "{gone:?}");
    });
}

/// What the peer believes.
fn neighbour(peer: &Peer, ip: &str) -> String {
    peer.ip(&format!("neighbour show {ip} dev eth0"))
}

#[test]
fn neighbours_learn_the_new_place_at_once() {
    enter_new();
    let peer = Peer::linked("10.77.0.1/24", "10.77.0.2/24");
    peer.ip("-6 address add fd77::2/64 dev eth0 nodad");
    for stale in ["10.77.0.180", "fd77::180"] {
        peer.ip(&format!("neighbour replace {stale} lladdr 02:00:00:00:00:99 dev eth0 nud stale"));
    }
    block_on(async {
        let link = Requests::open().unwrap().link("eth0").await.unwrap().unwrap();
        let hardware = link.hardware.unwrap().map(|byte| format!("{byte:02x}")).join(":");
        let (addresses, _events) = Addresses::open().unwrap();
        for (text, prefix) in [("10.77.0.180", 24), ("fd77::180", 64)] {
            let begin = Instant::now();
            addresses.start(&address(text, prefix, "eth0"), None).await.unwrap();
            println!("{text}: from call to first announcement {:?}", begin.elapsed());
            while !neighbour(&peer, text).contains(&hardware) {
                assert!(begin.elapsed() < Duration::from_millis(500), "{}", neighbour(&peer, text));
                thread::sleep(Duration::from_millis(1));
            }
        }
        // Lost, and told again after a second.
        time::sleep(Duration::from_millis(50)).await;
        peer.ip("neighbour replace 10.77.0.180 lladdr 02:00:00:00:00:99 dev eth0 nud stale");
        time::sleep(Duration::from_millis(1200)).await;
        assert!(neighbour(&peer, "10.77.0.180").contains(&hardware));
        // On demand.
        peer.ip("neighbour replace 10.77.0.180 lladdr 02:00:00:00:00:99 dev eth0 nud stale");
        addresses.announce(&[address("10.77.0.180", 24, "eth0")]);
        time::sleep(Duration::from_millis(100)).await;
        assert!(neighbour(&peer, "10.77.0.180").contains(&hardware));
    });
}

#[test]
fn whoever_believed_another_is_told_again() {
    enter_new();
    let peer = Peer::linked("10.77.0.1/24", "10.77.0.2/24");
    peer.ip("-6 address add fd77::2/64 dev eth0 nodad");
    block_on(async {
        let link = Requests::open().unwrap().link("eth0").await.unwrap().unwrap();
        let hardware = link.hardware.unwrap().map(|byte| format!("{byte:02x}")).join(":");
        let (addresses, _events) = Addresses::open().unwrap();
        for (text, prefix) in [("10.77.0.180", 24), ("fd77::180", 64)] {
            addresses.start(&address(text, prefix, "eth0"), None).await.unwrap();
            time::sleep(Duration::from_millis(200)).await;
            peer.ip(&format!("neighbour replace {text} lladdr 02:00:00:00:00:99 dev eth0 nud stale"));
            // Another speaks as it, once, and does not have it.
            peer.run(move || {
                block_on(async {
                    let link = Requests::open().unwrap().link("eth0").await.unwrap().unwrap();
                    Announcer::open().unwrap().announce(&link, text.parse().unwrap(), Form::Reply, Role::Host).unwrap();
                });
            });
            let claimed = Instant::now();
            while !neighbour(&peer, text).contains(&hardware) {
                assert!(claimed.elapsed() < Duration::from_millis(400), "{}", neighbour(&peer, text));
                thread::sleep(Duration::from_millis(1));
            }
            println!("{text}: told again {:?} after the claim", claimed.elapsed());
        }
    });
}

#[test]
fn an_address_that_is_not_there_is_not_announced() {
    enter_new();
    let peer = Peer::linked("10.77.0.1/24", "10.77.0.2/24");
    block_on(async {
        let (addresses, mut events) = Addresses::open().unwrap();
        let floating = address("10.77.0.180", 24, "eth0");
        addresses.start(&floating, None).await.unwrap();
        time::sleep(Duration::from_millis(50)).await;
        ip("address delete 10.77.0.180/24 dev eth0");
        next(&mut events).await;
        peer.ip("neighbour replace 10.77.0.180 lladdr 02:00:00:00:00:99 dev eth0 nud stale");
        addresses.announce(&[floating]);
        time::sleep(Duration::from_millis(1300)).await;
        assert!(neighbour(&peer, "10.77.0.180").contains("02:00:00:00:00:99"));
    });
}

#[test]
fn whoever_has_an_address_is_found() {
    enter_new();
    let peer = Peer::linked("10.77.0.1/24", "10.77.0.2/24");
    peer.ip("-6 address add fd77::2/64 dev eth0 nodad");
    block_on(async {
        let (addresses, _events) = Addresses::open().unwrap();
        let wait = Duration::from_millis(300);
        for (taken, free, prefix) in [("10.77.0.2", "10.77.0.3", 24), ("fd77::2", "fd77::3", 64)] {
            let begin = Instant::now();
            let found = addresses.claimed_by_other(&address(taken, prefix, "eth0"), wait).await.unwrap();
            println!("{taken}: {found:?} after {:?}", begin.elapsed());
            assert!(found.is_some_and(|hardware| hardware.len() == 17));
            assert_eq!(addresses.claimed_by_other(&address(free, prefix, "eth0"), wait).await.unwrap(), None);
        }
        // Our own does not count.
        assert_eq!(addresses.claimed_by_other(&address("10.77.0.1", 24, "eth0"), wait).await.unwrap(), None);
    });
}

#[test]
fn an_address_on_two_devices_is_told() {
    enter_new();
    device("eth0");
    device("eth1");
    ip("address add 10.77.0.180/32 dev eth1");
    block_on(async {
        let (addresses, mut events) = Addresses::open().unwrap();
        let floating = address("10.77.0.180", 24, "eth0");
        addresses.start(&floating, None).await.unwrap();
        assert_eq!(next(&mut events).await, AddressEvent::AlsoOn { ip: floating.ip, device: "eth0".into(), other: "eth1".into() });
    });
}

#[test]
fn a_thousand_addresses_are_fast() {
    enter_new();
    let _peer = Peer::linked("10.77.0.1/16", "10.77.0.2/16");
    block_on(async {
        let (addresses, mut events) = Addresses::open().unwrap();
        let many: Vec<Address> = (0..1000).map(|n| address(&format!("10.77.{}.{}", 1 + n / 250, 1 + n % 250), 16, "eth0")).collect();
        let until = clock::now() + Duration::from_secs(60);
        let begin = Instant::now();
        for result in addresses.start_all(many.iter().map(|address| (address.clone(), Some(until))).collect()).await {
            result.unwrap();
        }
        let started = begin.elapsed();
        let begin = Instant::now();
        for result in addresses.refresh(many.iter().map(|address| (address.clone(), until)).collect()).await {
            result.unwrap();
        }
        let renewed = begin.elapsed();
        let begin = Instant::now();
        assert!(addresses.probe_all(many.clone()).await.unwrap().iter().all(|condition| *condition == Condition::Up));
        let probed = begin.elapsed();
        let begin = Instant::now();
        ip("address flush dev eth0 to 10.77.1.0/24");
        for _ in 0..250 {
            assert!(matches!(next(&mut events).await, AddressEvent::AddressGone { .. }));
        }
        let noticed = begin.elapsed();
        let begin = Instant::now();
        for result in addresses.stop_all(many.clone()).await {
            result.unwrap();
        }
        let stopped = begin.elapsed();
        println!("1000 addresses: started and announced {started:?}, renewed {renewed:?}, probed {probed:?}, stopped {stopped:?}");
        println!("250 deleted: noticed {noticed:?} (with `ip`)");
        assert!(addresses.probe_all(many).await.unwrap().iter().all(|condition| *condition == Condition::Down));
        assert!(started < Duration::from_millis(500), "{started:?}");
    });
}
