//! Nothing fails, but the machine has no time, no memory and a bad network: nothing may move.

use std::{
    env,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, available_parallelism, sleep},
    time::Duration,
};

use drcm::lab::{Mark, Plan, Port};

use super::failover::{FASTEST, every};
use crate::{
    bed::{Bed, Contender},
    report::{Goal, Report, Spread},
};

/// Packets lost, of a thousand.
const LOSS: u16 = 100;

pub fn run(report: &mut Report) {
    let minutes: u64 = env::var("DRCM_BENCH_MINUTES").ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(10);
    let time = Duration::from_secs(minutes * 60);
    let (moves, waited) = watch(&Plan::of(3), time, LOSS);
    report.row(
        &format!("moves in {minutes} min: template, processors busy, memory short, 10 % of packets lost"),
        "moves",
        &Spread::one(moves),
        None,
        &[Goal::Worst(0.0)],
    );
    report.row("longest wait of a client meanwhile (its questions are lost, too)", "ms", &Spread::of_times(&[waited]), None, &[]);
    let (moves, waited) = watch(&every(FASTEST.0, FASTEST.1), time, 0);
    let what = format!("moves in {minutes} min: {} ms x {}, processors busy", FASTEST.0, FASTEST.1);
    report.row(&what, "moves", &Spread::one(moves), None, &[Goal::Worst(0.0)]);
    report.row("longest wait of a client meanwhile", "ms", &Spread::of_times(&[waited]), None, &[]);
}

/// Changes of the owner in this time, and the longest wait of the client.
fn watch(plan: &Plan, time: Duration, loss: u16) -> (f64, Duration) {
    let mut bed = Bed::serving(&Contender::Drcm(plan.clone()));
    sleep(Duration::from_secs(3));
    if loss > 0 {
        let ports: Vec<Port> = (0..plan.nodes.len()).map(Port::Node).collect();
        for from in &ports {
            for to in ports.iter().filter(|to| *to != from) {
                bed.lab.switch().lose(*from, *to, loss).unwrap();
            }
        }
    }
    let _load = Load::start(loss > 0);
    let (before, mark) = (bed.sampler.changes().len(), Mark::now());
    bed.lab.pass(time).unwrap();
    assert!(bed.sampler.doubles().is_empty(), "two owners: {:?}", bed.sampler.doubles());
    ((bed.sampler.changes().len() - before) as f64, bed.waited(mark))
}

/// Twice as many busy threads as processors; with `memory`, one more that fills pages and lets them go without end.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(memory: bool) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let count = available_parallelism().map_or(2, |count| count.get() * 2);
        let spin = |stop: Arc<AtomicBool>| {
            move || {
                while !stop.load(Ordering::Relaxed) {
                    black_box((0..10_000_u64).sum::<u64>());
                }
            }
        };
        let mut threads: Vec<JoinHandle<()>> = (0..count).map(|_| thread::spawn(spin(Arc::clone(&stop)))).collect();
        if memory {
            let stopped = Arc::clone(&stop);
            threads.push(thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    black_box(vec![1_u8; free_bytes() / 2]);
                }
            }));
        }
        Self { stop, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// What the kernel calls available.
fn free_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    kibibytes.unwrap_or(1 << 20) * 1024
}
