//! Real daemons in a laboratory: what a client and an operator see when things go wrong.

mod apply;
mod commands;
mod demo;
mod drill;
mod failover;
mod hostile;
mod large;
mod operating;
mod operator;
mod page;
mod partition;
mod reload;
mod resources;
mod rest;
#[path = "../frozen/seal.rs"]
mod seal;
mod start;
mod told;
mod votes;
mod wan;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use drcm::lab::{Lab, Mark, Plan, Port, Probe, Said, Sampler};

const BINARY: &str = env!("CARGO_BIN_EXE_drcm_server");
/// Longest any start, move or return may take before a test gives up.
const LONG: Duration = Duration::from_secs(20);
/// Longest a daemon may take to end after SIGTERM.
const END: Duration = Duration::from_secs(10);

/// A cluster whose first node serves the address, under watch.
struct Cluster {
    lab: Lab,
    probe: Probe,
    sampler: Sampler,
}

impl Cluster {
    /// Built, its daemons not started.
    fn idle(plan: Plan) -> Self {
        let lab = Lab::new(plan, Path::new(BINARY)).unwrap();
        let (probe, sampler) = (lab.probe().unwrap(), lab.sampler().unwrap());
        Self { lab, probe, sampler }
    }

    /// Started, and served by the first node.
    fn running(plan: Plan) -> Self {
        let mut cluster = Self::idle(plan);
        cluster.lab.start_all().unwrap();
        cluster.wait_owner(0);
        cluster
    }

    /// The same, each node with a configuration file of its own.
    fn running_on_files(plan: Plan) -> Self {
        let mut cluster = Self::idle(plan);
        for node in 0..cluster.lab.plan().nodes.len() {
            let directory = cluster.lab.node(node).home().join("etc");
            std::fs::create_dir_all(&directory).unwrap();
            let file = directory.join("cm.cfg");
            std::fs::copy(cluster.lab.node(node).config(), &file).unwrap();
            cluster.lab.node_mut(node).set_config(&file);
        }
        cluster.lab.start_all().unwrap();
        cluster.wait_owner(0);
        cluster
    }

    /// Waits until this node has the address and answers for it.
    fn wait_owner(&mut self, node: usize) -> Duration {
        let mark = Mark::now();
        let (probe, sampler) = (&self.probe, &self.sampler);
        let what = format!("{} serving the address", self.lab.node(node).name());
        self.lab
            .wait(&what, LONG, |_| {
                sampler.owner() == Some(node) && probe.answering() == Some(node) && probe.answered_since(mark).contains(&node)
            })
            .unwrap()
    }

    /// Does something that moves the address to another node, and gives how long the client waited.
    fn outage(&mut self, to: usize, act: impl FnOnce(&mut Lab)) -> Duration {
        let mark = Mark::now();
        act(&mut self.lab);
        self.wait_owner(to);
        self.lab.pass(Duration::from_millis(100)).unwrap();
        self.probe.longest_outage(mark)
    }

    /// Nothing may move for this long, and the client may not wait longer than `limit`.
    fn holds_still(&mut self, time: Duration, limit: Duration) {
        let before = self.sampler.changes().len();
        let mark = Mark::now();
        self.lab.pass(time).unwrap();
        let changes = self.sampler.changes();
        assert_eq!(changes.len(), before, "the address moved: {:?}", &changes[before..]);
        let outage = self.probe.longest_outage(mark);
        assert!(outage < limit, "nothing moved, and yet the client waited {outage:?}");
    }

    /// The law: never on two nodes.
    fn assert_never_two(&self) {
        assert_eq!(self.sampler.failure(), None);
        let doubles = self.sampler.doubles();
        if let (Some(first), Some(last)) = (doubles.first(), doubles.last()) {
            panic!(
                "the address was on two nodes {} times, first {:?}, over {:?}; all changes: {:#?}",
                doubles.len(),
                first.owners,
                last.at - first.at,
                self.sampler.changes()
            );
        }
    }

    fn cut(&mut self, node: usize) {
        self.lab.switch().cut(Port::Node(node)).unwrap();
    }

    fn join(&mut self, node: usize) {
        self.lab.switch().join(Port::Node(node)).unwrap();
    }

    /// Runs shell text on a node; `@` stands for the laboratory's directory.
    fn shell(&self, node: usize, text: &str) -> Said {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(text.replace('@', &self.lab.directory().display().to_string()));
        self.lab.node(node).command(shell).unwrap()
    }

    /// `cm_stat` as seen from a node.
    fn status(&self, node: usize) -> String {
        self.lab.node(node).client(&["--command=cm_stat"]).unwrap().stdout
    }

    /// Waits until `cm_stat` on a node satisfies `condition`.
    fn wait_status(&mut self, node: usize, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let text = self.status(node);
            if condition(&text) {
                return text;
            }
            assert!(start.elapsed() < LONG, "cm_stat on {} never showed {what}:\n{text}", self.lab.node(node).name());
            self.lab.pass(Duration::from_millis(100)).unwrap();
        }
    }
}

/// The middle one, and the worst.
fn median_and_worst(mut values: Vec<Duration>) -> (Duration, Duration) {
    values.sort_unstable();
    (values[values.len() / 2], values[values.len() - 1])
}

/// Measured on a machine that others use, too: the middle of several rounds must be within the limit, and the worst round
/// within `worst`.
fn assert_times(what: &str, values: Vec<Duration>, limit: Duration, worst: Duration) {
    println!("{what}: {values:?}");
    let (median, longest) = median_and_worst(values.clone());
    assert!(median < limit, "{what}: the median {median:?} is not under {limit:?}: {values:?}");
    assert!(longest < worst, "{what}: the worst {longest:?} is not under {worst:?}: {values:?}");
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
