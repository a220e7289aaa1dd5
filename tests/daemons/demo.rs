//! The demonstration, as an operator runs it, lets it run, or does not.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{ms, seconds};

/// A running `drcm demo`.
struct Demo {
    child: Child,
    /// What it has said so far.
    said: String,
}

impl Demo {
    fn start() -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_drcm")).arg("demo").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        Self { child, said: String::new() }
    }

    /// Reads until it says this.
    fn until(&mut self, word: &str) {
        let mut output = BufReader::new(self.child.stdout.as_mut().unwrap());
        while !self.said.contains(word) {
            let mut line = String::new();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "it ended before it said {word:?}:\n{}", self.said);
            self.said += &line;
        }
    }

    fn end(&mut self) -> ExitStatus {
        self.child.stdout.as_mut().unwrap().read_to_string(&mut self.said).unwrap();
        self.child.wait().unwrap()
    }

    /// Its directory.
    fn directory(&self) -> PathBuf {
        let start = self.said.find("/drcm-lab-").unwrap();
        let name: String = self.said[start + 1..].chars().take_while(|letter| *letter != '/').collect();
        std::env::temp_dir().join(name)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// No process that was started from its directory may live on.
    fn assert_no_process(&self) {
        let name = self.directory().file_name().unwrap().to_str().unwrap().to_owned();
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            let left: Vec<String> = fs::read_dir("/proc")
                .unwrap()
                .flatten()
                .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
                .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
                .filter(|line| line.contains(&name))
                .collect();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "left behind: {left:#?}");
            thread::sleep(ms(20));
        }
    }
}

#[test]
fn the_demonstration_shows_what_it_promises_and_leaves_nothing() {
    let start = Instant::now();
    let mut demo = Demo::start();
    let status = demo.end();
    assert!(status.success(), "{status}\n{}", demo.said);
    assert!(start.elapsed() < seconds(40), "it took {:?}", start.elapsed());
    for words in [
        "the address answers, on node1",
        "Cluster status: HEALTHY",
        "OK-Backup",
        "The address answers on node2. The client waited ",
        "The address is back on node1. The client waited ",
        "It handed the address to node2. The client waited ",
        "it was never on two nodes",
    ] {
        assert!(demo.said.contains(words), "it does not say {words:?}:\n{}", demo.said);
    }
    assert!(!demo.directory().exists());
    demo.assert_no_process();
}

#[test]
fn an_interrupted_demonstration_leaves_nothing() {
    for (signal, moment) in [(Signal::SIGINT, "== Starting"), (Signal::SIGTERM, "== Cutting")] {
        let mut demo = Demo::start();
        demo.until(moment);
        assert!(demo.directory().exists());
        demo.signal(signal);
        let status = demo.end();
        assert!(!status.success(), "{status}\n{}", demo.said);
        assert!(!demo.directory().exists(), "{signal} left its directory");
        demo.assert_no_process();
    }
}

#[test]
fn a_killed_demonstration_leaves_no_process() {
    let mut demo = Demo::start();
    demo.until("Cluster status:");
    demo.signal(Signal::SIGKILL);
    demo.end();
    demo.assert_no_process();
    // Its files wait for the next laboratory, which removes them.
    let left = demo.directory();
    let mut next = Demo::start();
    next.until("== Starting");
    assert!(!left.exists(), "{} is still there", left.display());
    next.signal(Signal::SIGINT);
    next.end();
    next.assert_no_process();
}
