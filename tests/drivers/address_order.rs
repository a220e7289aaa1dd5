//! What holds for floating addresses however calls are timed: orders that are cancelled, come too late, or whose news is lost.

use std::{
    future::{Future, poll_fn},
    io::Write,
    pin::pin,
    process::{Command, Stdio},
    task::Poll,
    thread,
    time::Duration,
};

use drcm::{
    drivers::{AddressEvent, Addresses, Condition, DriverError},
    sys::{
        clock,
        netlink::{Change, Changes, Requests},
    },
};
use tokio::{task, time};

use crate::{
    address::{address, device, is_there, next},
    namespace::{block_on, enter_new, ip},
};

/// Gives a future up after it was polled that often.
async fn polled<F: Future>(future: F, times: u32) {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|context| match (left, future.as_mut().poll(context)) {
        (0, _) | (_, Poll::Ready(_)) => Poll::Ready(()),
        (_, Poll::Pending) => {
            left -= 1;
            Poll::Pending
        }
    })
    .await;
}

#[test]
fn a_cancelled_start_never_acts_after_the_stop_that_follows() {
    enter_new();
    device("eth0");
    block_on(async {
        let (addresses, _events) = Addresses::open().unwrap();
        let floating = address("10.77.0.180", 24, "eth0");
        let many: Vec<_> = (1..=200).map(|last| (address(&format!("10.77.1.{last}"), 24, "eth0"), None)).collect();
        for round in 0..60_u32 {
            // Under way, and waiting behind another that is under way.
            let wait = Duration::from_micros(u64::from(round) * 40);
            match round % 3 {
                0 => polled(addresses.start(&floating, None), round / 3).await,
                1 => drop(time::timeout(wait, addresses.start(&floating, None)).await),
                _ => {
                    let first = time::timeout(wait, addresses.start_all(many.clone()));
                    let second = polled(addresses.start(&floating, None), 1 + round / 30);
                    let _ = tokio::join!(first, second);
                }
            }
            addresses.stop(&floating).await.unwrap();
            assert!(!is_there(floating.ip).await, "round {round}");
            time::sleep(Duration::from_millis(10)).await;
            assert!(!is_there(floating.ip).await, "round {round}, later");
        }
        for result in addresses.stop_all(many.iter().map(|(address, _)| address.clone()).collect()).await {
            result.unwrap();
        }
    });
}

#[test]
fn an_address_added_too_late_is_taken_back() {
    enter_new();
    device("eth0");
    // One thread, which somebody else takes again and again.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (addresses, _events) = Addresses::open().unwrap();
        let mut changes = Changes::open().unwrap();
        let floating = address("10.77.0.180", 24, "eth0");
        let (mut up, mut late) = (0, 0);
        let hog = tokio::spawn(async {
            loop {
                thread::sleep(Duration::from_millis(5));
                task::yield_now().await;
            }
        });
        for lease in (5..80).step_by(2) {
            let until = clock::now() + Duration::from_millis(lease);
            match addresses.start(&floating, Some(until)).await {
                Ok(()) => {
                    up += 1;
                    assert!(is_there(floating.ip).await);
                    addresses.stop(&floating).await.unwrap();
                }
                Err(DriverError::LeaseOver { .. }) => {
                    // The kernel would keep it for a second.
                    assert!(!is_there(floating.ip).await, "lease of {lease} ms");
                    late += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        hog.abort();
        let removed = changes.next().await.unwrap().into_iter().filter(|change| matches!(change, Change::AddressRemoved(_))).count();
        println!("in time {up}, too late {late}, of these taken back {}", removed - up);
        assert!(removed > up, "none of those that came too late was there for a moment: this has tested nothing");
    });
}

#[test]
fn news_that_was_lost_is_made_up_for() {
    enter_new();
    device("eth0");
    device("eth1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (addresses, mut events) = Addresses::open().unwrap();
        let mut changes = Changes::open().unwrap();
        let floating = address("10.77.0.180", 24, "eth0");
        addresses.start(&floating, None).await.unwrap();
        // Nobody reads news meanwhile: the only thread waits here.
        let mut batch = String::new();
        for round in 0..20_000 {
            let (high, low) = (round / 250 % 250, round % 250);
            batch.push_str(&format!("address add 10.99.{high}.{low}/32 dev lo\naddress delete 10.99.{high}.{low}/32 dev lo\n"));
        }
        let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        ip("address delete 10.77.0.180/24 dev eth0");
        ip("link set eth1 down");

        let told = [next(&mut events).await, next(&mut events).await, next(&mut events).await];
        assert!(told.contains(&AddressEvent::AddressGone { ip: floating.ip, device: "eth0".into() }), "{told:?}");
        assert!(told.contains(&AddressEvent::LinkDown { device: "eth1".into() }), "{told:?}");
        let news = changes.next().await.unwrap();
        println!("{} pieces of news were kept", news.len());
        assert!(news.contains(&Change::Overrun), "nothing was lost: this has tested nothing");
        // And news is heard again.
        ip("link set eth1 up");
        let told = [next(&mut events).await, next(&mut events).await];
        assert!(told.contains(&AddressEvent::LinkUp { device: "eth1".into() }), "{told:?}");
    });
}

#[test]
fn a_question_that_was_given_up_does_not_disturb_the_next() {
    enter_new();
    device("eth0");
    block_on(async {
        let (addresses, _events) = Addresses::open().unwrap();
        let many: Vec<_> = (0..500).map(|n| address(&format!("10.77.{}.{}", 1 + n / 250, 1 + n % 250), 16, "eth0")).collect();
        for result in addresses.start_all(many.iter().map(|address| (address.clone(), None)).collect()).await {
            result.unwrap();
        }
        for round in 0..100 {
            // A list is several datagrams long, and the kernel writes one at a time for a socket.
            drop(time::timeout(Duration::from_micros(round * 10), addresses.probe_all(many.clone())).await);
            let (one, other) = tokio::join!(addresses.probe_all(many.clone()), addresses.probe(&many[0]));
            assert!(one.unwrap().iter().all(|condition| *condition == Condition::Up));
            assert_eq!(other.unwrap(), Condition::Up);
        }
    });
}

#[test]
fn a_port_that_leaves_its_bridge_is_not_down() {
    enter_new();
    device("eth0");
    ip("link add bridge0 type bridge");
    ip("link set bridge0 up");
    block_on(async {
        let (addresses, mut events) = Addresses::open().unwrap();
        let floating = address("10.77.0.180", 24, "eth0");
        addresses.start(&floating, None).await.unwrap();
        ip("link set eth0 master bridge0");
        ip("link set eth0 nomaster");
        ip("link set eth0 down");
        // The bridge has a carrier while it has a port; eth0 goes down once, at the end.
        let mut told = Vec::new();
        while told.last() != Some(&AddressEvent::LinkDown { device: "eth0".into() }) {
            told.push(next(&mut events).await);
        }
        time::sleep(Duration::from_millis(50)).await;
        while let Ok(event) = events.try_recv() {
            told.push(event);
        }
        told.retain(|event| matches!(event, AddressEvent::LinkUp { device } | AddressEvent::LinkDown { device } if device == "eth0"));
        assert_eq!(told, [AddressEvent::LinkDown { device: "eth0".into() }]);
    });
}

#[test]
fn every_kind_of_device_is_understood() {
    enter_new();
    device("eth0");
    for device in [
        "dummy0 type dummy",
        "bridge0 type bridge",
        "bond0 type bond mode active-backup",
        "vlan0 link eth0 type vlan id 7",
        "macvlan0 link eth0 type macvlan mode bridge",
        "ipvlan0 link eth0far type ipvlan mode l3",
        "vxlan0 type vxlan id 7 dstport 4789",
        "geneve0 type geneve id 7 remote 10.77.0.9",
        "wireguard0 type wireguard",
        "vrf0 type vrf table 77",
        "gre0x type gre remote 10.77.0.9",
        "tap0 type ifb",
        "team0 type team",
        "macsec0 link eth0 type macsec",
        "ipip0x type ipip remote 10.77.0.9",
        "sit0x type sit remote 10.77.0.9",
        "veth0 type veth peer name veth1",
    ] {
        // Not every kernel has them all.
        let _ = Command::new("ip").args(["link", "add"]).args(device.split(' ')).stderr(Stdio::null()).status().unwrap();
    }
    let _ = Command::new("ip").args(["link", "set", "dummy0", "master", "bridge0"]).stderr(Stdio::null()).status().unwrap();
    let _ = Command::new("ip").args(["tuntap", "add", "tun0", "mode", "tun"]).stderr(Stdio::null()).status().unwrap();
    let shown = ip("-o link show");
    let expected: Vec<&str> = shown.lines().filter_map(|line| line.split([' ', '@', ':']).nth(2)).collect();
    block_on(async {
        let requests = Requests::open().unwrap();
        let listed: Vec<String> = requests.links().await.unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(listed, expected);
        for name in listed {
            assert!(requests.link(&name).await.unwrap().is_some(), "{name}");
        }
        println!("understood: {}", expected.join(" "));
    });
}
