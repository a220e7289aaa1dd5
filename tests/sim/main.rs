//! A deterministic simulator of the cluster core: the real core behind the real codec, in a world of its own, under faults
//! drawn from a seed, watched by a checker that knows the truth. See docs/simulation.md.

mod checker;
mod clock;
mod daemon;
mod draft;
mod earlier_boot;
mod executor;
mod faults;
mod large;
mod membership;
mod network;
mod nodes;
mod operator;
mod post;
mod queue;
mod reload;
mod schedule;
mod setup;
mod speech;
mod stats;
mod stream;
mod trace;
mod traffic;
#[path = "../frozen/version_1.rs"]
mod version_1;
mod voters;
mod votes;
mod world;

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clock::SECOND;
use faults::Kind;
use stats::{Outage, Stats};
use world::{Sabotage, Trace, World};

/// Simulated time per seed.
const LENGTH: u64 = 600 * SECOND;
/// Seeds when nobody says how many.
const SEEDS: u64 = 1_000;
/// Workers of the bulk run.
const WORKERS: usize = 2;
/// Seeds that once broke a rule.
const REGRESSIONS: &str = include_str!("regressions.txt");

/// Runs a seed; a broken rule or a panic is told with the last lines of the trace.
fn run(seed: u64, length: u64, sabotage: Sabotage) -> Result<Stats, String> {
    let attempt = |trace: Trace| {
        let mut world = None;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let world = world.insert(World::new(seed, length, sabotage, trace));
            world.run();
        }));
        let panic = result.err().map(|panic| {
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "a panic without a word".to_owned())
        });
        (world, panic)
    };
    let (world, panic) = attempt(Trace::Off);
    let failed = panic.is_some() || world.as_ref().is_none_or(|world| world.failure.is_some());
    if !failed && let Some(world) = world {
        return Ok(world.stats);
    }
    // The same again, this time with a trace.
    let (world, panic) = attempt(Trace::Tail);
    let (setup, tail, broken) =
        world.map_or_else(Default::default, |world| (world.setup.describe(), world.tail(), world.failure.clone().unwrap_or_default()));
    Err(format!(
        "{setup}\n{tail}seed {seed} broke a rule: {}\nreplay: SIM_SEED={seed} cargo nextest run --test sim --no-capture replay",
        panic.unwrap_or(broken)
    ))
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Runs many seeds on all workers and says at once what broke; stops early when some have failed. How many have run, too.
fn run_all(seeds: &[u64]) -> (Stats, Vec<String>, u64) {
    let next = AtomicU64::new(0);
    let total = Mutex::new((Stats::default(), Vec::new(), 0));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(seed) = seeds.get(index) else { break };
                    let result = run(*seed, LENGTH, Sabotage::None);
                    let mut total = total.lock().expect("no worker panics while it adds");
                    total.2 += 1;
                    match result {
                        Ok(stats) => total.0.add(&stats),
                        Err(report) => {
                            println!("{report}\n");
                            total.1.push(report);
                        }
                    }
                    if total.1.len() >= 3 {
                        break;
                    }
                }
            });
        }
    });
    total.into_inner().expect("no worker panics while it adds")
}

#[test]
fn simulation_of_many_seeds_breaks_no_rule() {
    let count = number("DRCM_SIM_SEEDS").or_else(|| number("SEEDS")).unwrap_or(SEEDS);
    let first = number("DRCM_SIM_FIRST").unwrap_or(1);
    let began = Instant::now();
    let seeds: Vec<u64> = (first..first + count).collect();
    let (mut stats, failures, ran) = run_all(&seeds);
    println!("{}", stats.summary(ran, began.elapsed()));
    assert!(failures.is_empty(), "{} of {ran} seeds broke a rule; {} were not run any more", failures.len(), count - ran);
    // A run that did nothing proves nothing.
    if count >= 50 {
        for kind in Kind::ALL {
            assert!(stats.faults[kind as usize] > 0, "no {kind:?} occurred");
        }
        for cause in Outage::ALL {
            assert!(!stats.outages[cause as usize].is_empty(), "no take-over after {cause:?} was timed");
        }
        assert!(stats.moves > count, "hardly anything moved");
        assert!(stats.reloads > count / 4, "hardly any daemon read another configuration");
        assert!(stats.resumptions > count, "hardly any process went on where another was killed");
        assert!(stats.last_of_all > 0, "no cluster was shut down to its last node");
        assert!(stats.unprotected * 100 <= count * 6 + 200, "{} runs ended where a lost disk is not protected", stats.unprotected);
        assert!(stats.simulated == count * LENGTH || stats.unprotected > 0);
    }
}

#[test]
fn simulation_of_seeds_that_once_failed_breaks_no_rule() {
    let seeds: Vec<u64> = REGRESSIONS
        .lines()
        .filter_map(|line| line.split('#').next())
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| line.parse().expect("a line is a seed"))
        .collect();
    let (_, failures, _) = run_all(&seeds);
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// One seed with its whole trace: `SIM_SEED=n cargo nextest run --test sim --no-capture replay`.
#[test]
fn replay_of_one_seed() {
    let seed = number("SIM_SEED");
    let trace = if seed.is_some() { Trace::Print } else { Trace::Tail };
    let length = number("SIM_SECONDS").map_or(LENGTH, |seconds| seconds * SECOND);
    let mut world = World::new(seed.unwrap_or(1), length, Sabotage::None, trace);
    println!("{}", world.setup.describe());
    world.run();
    assert_eq!(world.failure, None, "{}", world.setup.describe());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let once = |seed| {
        let mut world = World::new(seed, 120 * SECOND, Sabotage::None, Trace::Tail);
        world.run();
        (world.tail(), world.stats.events)
    };
    for seed in 1..4 {
        assert_eq!(once(seed), once(seed));
    }
}

/// The checker finds a mistake that is put in on purpose: one of some seeds breaks a rule, the one that is expected.
fn must_be_found(sabotage: Sabotage, rule: &str) {
    let began = Instant::now();
    for seed in 1..=60 {
        if let Err(report) = run(seed, LENGTH / 2, sabotage) {
            let what = report.lines().rev().nth(1).unwrap_or_default();
            println!("{sabotage:?} found after {seed} seeds and {:?}: {what}", began.elapsed());
            assert!(what.contains(rule), "found by another rule than the one that says {rule:?}: {what}");
            return;
        }
    }
    panic!("{sabotage:?} was not found");
}

#[test]
fn a_slow_clock_is_found() {
    must_be_found(Sabotage::SlowClock, "relies on a lease");
}

#[test]
fn acks_with_the_newest_tag_are_found() {
    must_be_found(Sabotage::NewestTag, "relies on a lease");
}

#[test]
fn acks_without_refusals_are_found() {
    must_be_found(Sabotage::NoRefusals, "relies on a lease");
}

#[test]
fn nodes_that_start_without_silence_are_found() {
    must_be_found(Sabotage::NoSilence, "granted group");
}

#[test]
fn a_process_that_goes_on_with_an_old_ledger_is_found() {
    must_be_found(Sabotage::OldLedger, "");
}

#[test]
fn an_address_that_stays_behind_is_found() {
    must_be_found(Sabotage::NoKernel, "while it is active on node");
}

#[test]
fn a_cluster_that_makes_no_progress_is_found() {
    must_be_found(Sabotage::NoLists, "runs nowhere");
}

#[test]
fn a_move_at_rest_is_found() {
    must_be_found(Sabotage::Restless, "no fault was in force");
}
