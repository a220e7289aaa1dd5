//! One node takes over a thousand addresses: when has the kernel all of them, and when do the neighbours know?

use std::{
    collections::BTreeSet,
    io::Read as _,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use drcm::lab::{Namespace, NodePlan, Plan};
use nix::sys::{
    socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt},
    time::{TimeVal, TimeValLike as _},
};

use crate::{
    bed::{Bed, Contender, LONG},
    report::{Goal, Report, Spread},
};

const ADDRESSES: usize = 1000;
const ROUNDS: usize = 5;

pub fn run(report: &mut Report) {
    let (mut added, mut announced, mut batch) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (kernel, neighbours) = take_over(&plan(""));
        added.push(kernel);
        announced.push(neighbours);
        batch.push(by_batch());
    }
    report.row(
        "1,000 addresses taken over: from the first to the last in the kernel",
        "ms",
        &Spread::of_times(&added),
        Some(("`ip -batch`", &Spread::of_times(&batch))),
        &[Goal::Ratio(1.5)],
    );
    let later: Vec<Duration> = added.iter().zip(&announced).map(|(added, announced)| announced.saturating_sub(*added)).collect();
    report.row("announced to the neighbours, after the last was added", "ms", &Spread::of_times(&later), None, &[Goal::Worst(100.0)]);
    let (scripts, _) = take_over(&plan("resource_driver = script"));
    report.row("the same by the stock scripts", "ms", &Spread::of_times(&[scripts]), None, &[]);
}

fn plan(server: &str) -> Plan {
    let plan = Plan::of(3);
    let names: Vec<String> = (0..ADDRESSES).map(|number| format!("a{number}")).collect();
    let sections: Vec<String> = (0..ADDRESSES).map(|number| format!("a{number}, {}, 32, eth0", address(number))).collect();
    let nodes = plan.nodes.iter().enumerate().map(|(node, own)| {
        let lines = match node {
            0 => format!("node_floating_ip_addrs = service, {}", names.join(", ")),
            1 => format!(
                "node_backup_floating_ip_addrs = node1:service, {}",
                names.iter().map(|name| format!("node1:{name}")).collect::<Vec<_>>().join(", ")
            ),
            _ => String::new(),
        };
        NodePlan { lines, ..own.clone() }
    });
    Plan {
        own_lists: true,
        nodes: nodes.collect(),
        sections: sections.join("\n"),
        server: server.to_owned(),
        failback_delay: Duration::from_secs(600),
        ..Plan::of(3)
    }
}

fn address(number: usize) -> Ipv4Addr {
    let part = |number: usize| u8::try_from(number).unwrap();
    Ipv4Addr::new(10, 88, part(number / 250), part(number % 250 + 1))
}

/// From the first to the last address in the kernel of the heir, and to the last of which the client has heard for the first time.
fn take_over(plan: &Plan) -> (Duration, Duration) {
    let mut bed = Bed::serving(&Contender::Drcm(plan.clone()));
    wait_for_all(bed.lab.node(0).namespace());
    // What the home node announced has been heard.
    sleep(Duration::from_secs(3));
    let kernel = Monitor::start(bed.lab.node(1).namespace());
    let neighbours = Hearing::start(bed.lab.client());
    bed.cut(0);
    bed.wait_owner(1);
    wait_for_all(bed.lab.node(1).namespace());
    sleep(Duration::from_millis(500));
    let (kernel, heard) = (kernel.end(), neighbours.end());
    assert_eq!((kernel.len(), heard.len()), (ADDRESSES, ADDRESSES), "addresses added, and announced");
    let span = |times: &[f64]| Duration::from_secs_f64(times[times.len() - 1] - times[0]);
    let last = heard.iter().max().unwrap().duration_since(*heard.iter().min().unwrap());
    (span(&kernel), last)
}

/// A thousand lines of one `ip`, in a node where nothing else happens.
fn by_batch() -> Duration {
    let bed = Bed::serving(&Contender::Drcm(Plan::of(3)));
    let node = bed.lab.node(2).namespace();
    let lines: String = (0..ADDRESSES).map(|number| format!("address add {}/32 dev eth0\n", address(number))).collect();
    let monitor = Monitor::start(node);
    node.ip(&lines).unwrap();
    wait_for_all(node);
    let times = monitor.end();
    assert_eq!(times.len(), ADDRESSES);
    Duration::from_secs_f64(times[times.len() - 1] - times[0])
}

fn wait_for_all(node: &Namespace) {
    let start = Instant::now();
    while count(node) < ADDRESSES {
        assert!(start.elapsed() < LONG * 3, "only {} addresses are there", count(node));
        sleep(Duration::from_millis(20));
    }
}

fn count(node: &Namespace) -> usize {
    // One line for each; the kernel writes them without the help of another process.
    let text = node.run(|| std::fs::read_to_string("/proc/thread-self/net/fib_trie").unwrap_or_default()).unwrap();
    let (mut seen, mut address) = (BTreeSet::new(), None);
    for line in text.lines() {
        if let Some(leaf) = line.trim().strip_prefix("|-- ") {
            address = leaf.parse::<Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL") {
            seen.extend(address.filter(|address| address.octets()[1] == 88));
        }
    }
    seen.len()
}

/// `ip monitor`: when the kernel had each address, in seconds of the clock of the day.
struct Monitor(Child);

impl Monitor {
    fn start(node: &Namespace) -> Self {
        let child = node.run(|| {
            let mut command = Command::new("ip");
            command.args(["-tshort", "-oneline", "monitor", "address"]).stdin(Stdio::null()).stdout(Stdio::piped());
            command.spawn().unwrap()
        });
        // It says nothing when it has begun.
        sleep(Duration::from_millis(200));
        Self(child.unwrap())
    }

    fn end(mut self) -> Vec<f64> {
        self.0.kill().unwrap();
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.0.wait().unwrap();
        let times = text.lines().filter(|line| line.contains("inet 10.88.") && !line.contains("Deleted"));
        // A lifetime that is renewed is told as if it were added again.
        let (mut known, mut found) = (BTreeSet::new(), Vec::new());
        for line in times {
            let name = line.split("inet ").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
            let stamp = line.trim_start_matches('[').split(']').next().unwrap_or_default();
            if known.insert(name.to_owned()) {
                found.push(seconds(stamp));
            }
        }
        found
    }
}

/// Of a line like `2026-11-24T01:02:03.123456`.
fn seconds(stamp: &str) -> f64 {
    let time: jiff::civil::DateTime = stamp.parse().unwrap_or_else(|error| panic!("{stamp}: {error}"));
    time.duration_since(jiff::civil::DateTime::constant(2026, 1, 1, 0, 0, 0, 0)).as_secs_f64()
}

/// Who announced itself to the client, and when for the first time.
struct Hearing {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Instant>>,
}

impl Hearing {
    fn start(client: &Namespace) -> Self {
        let socket = client.run(ears).unwrap();
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut known, mut times, mut bytes) = (BTreeSet::new(), Vec::new(), [0; 64]);
            while !stopped.load(Ordering::Relaxed) {
                let Ok(length) = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) else { continue };
                // RFC 826: 14 to 18 is the sender's protocol address, 24 to 28 the target's; alike, they are an announcement.
                if length >= 28 && bytes[14..18] == bytes[24..28] && bytes[15] == 88 && known.insert(bytes[14..18].to_vec()) {
                    times.push(Instant::now());
                }
            }
            times
        });
        Self { stop, thread }
    }

    fn end(self) -> Vec<Instant> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Hears ARP.
fn ears() -> OwnedFd {
    let arp = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
    setsockopt(&arp, sockopt::RcvBufForce, &(16 << 20)).unwrap();
    setsockopt(&arp, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50)).unwrap();
    arp
}
