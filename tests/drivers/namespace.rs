//! Network namespaces without names: they are gone when the test is, however it ends.

use std::{
    process::Command,
    sync::mpsc::{self, SyncSender},
    thread,
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::{geteuid, gettid},
};

/// Fails where the tests of this file cannot run.
pub fn require_root() {
    assert!(geteuid().is_root(), "these tests need root: run them with sudo, or in a user namespace with root");
}

/// Moves the calling thread, and what it starts from now on, to a new network namespace.
pub fn enter_new() {
    require_root();
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (needs CAP_SYS_ADMIN)");
    ip("link set lo up");
}

/// Runs `ip` with these words and returns what it prints.
pub fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split_whitespace()).output().expect("ip of iproute2 is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

type Job = Box<dyn FnOnce() + Send>;

/// Another machine on the link: a thread in a network namespace of its own.
pub struct Peer {
    jobs: SyncSender<Job>,
    thread: i32,
}

impl Peer {
    /// With an empty namespace.
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::sync_channel::<Job>(1);
        let (tell, told) = mpsc::sync_channel(1);
        thread::spawn(move || {
            enter_new();
            tell.send(gettid().as_raw()).unwrap();
            queue.iter().for_each(|job| job());
        });
        Self { jobs, thread: told.recv().expect("the peer's namespace was made") }
    }

    /// A peer behind a veth pair: `eth0` here with this address, `eth0` there with that one.
    pub fn linked(here: &str, there: &str) -> Self {
        let peer = Self::new();
        ip(&format!("link add eth0 type veth peer name peer0 netns {}", peer.thread));
        ip(&format!("address add {here} dev eth0"));
        ip("link set eth0 up");
        peer.ip("link set peer0 name eth0");
        peer.ip(&format!("address add {there} dev eth0"));
        peer.ip("link set eth0 up");
        peer
    }

    /// Runs something there.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::sync_channel(1);
        self.jobs.send(Box::new(move || drop(tell.send(work())))).expect("the peer's thread lives");
        told.recv().expect("the peer's work succeeded")
    }

    /// Runs `ip` there.
    pub fn ip(&self, words: &str) -> String {
        let words = words.to_owned();
        self.run(move || ip(&words))
    }
}

/// Runs a test with a runtime whose threads are in the namespace of the calling thread.
pub fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
}
