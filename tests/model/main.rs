//! Every interleaving, to a stated depth: an explicit-state search over the real core. Three voters, of which two are
//! candidates of one group; any datagram in flight may arrive next, late or never; any daemon may be killed and started
//! again; any process may oversleep; orders finish at once or a tick later; clocks differ by as much as is allowed. A
//! reference that sees only what is said and done decides what is true. See docs/proof.md.

mod host;
mod scenario;
mod search;
mod state;
mod truth;

use std::{env, rc::Rc, time::Duration};

use scenario::Scenario;
use search::{Counts, Limits, Report, search};

/// Longest time that one scenario may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// States of one scenario at most, which bounds the memory: some gigabytes.
const STATES: usize = 20_000_000;

fn depth(of: Scenario) -> usize {
    match env::var("DRCM_MODEL_DEPTH").ok().filter(|text| !text.is_empty()) {
        None => of.usual_depth(),
        Some(text) => match text.strip_prefix(['+', '-']).map(str::parse::<usize>) {
            Some(Ok(change)) if text.starts_with('+') => of.usual_depth() + change,
            Some(Ok(change)) => of.usual_depth().saturating_sub(change),
            Some(Err(_)) => panic!("DRCM_MODEL_DEPTH={text} is neither a depth nor a change of depth"),
            None => text.parse().unwrap_or_else(|_| panic!("DRCM_MODEL_DEPTH={text} is neither a depth nor a change of depth")),
        },
    }
}

/// Searches a scenario, which must show something; a search less deep than usual need not.
fn check(of: Scenario, shows: impl Fn(&Counts) -> bool) {
    let report = search_through(of);
    assert!(depth(of) < of.usual_depth() || shows(&report.seen), "{of:?} did not show what it is for: {:?}", report.seen);
}

fn search_through(of: Scenario) -> Report {
    let limits = Limits { depth: depth(of), states: STATES, patience: PATIENCE };
    let report = search(of.begin(), limits);
    println!("{of:?}: {}", report.summary());
    if let Some(broken) = &report.broken {
        panic!("{of:?}: a rule is broken\n{broken}");
    }
    assert!(report.complete, "{of:?}: not every state was visited: lower the depth");
    report
}

#[test]
fn model_from_a_settled_cluster() {
    check(Scenario::Settled, |seen| seen.owned > 0 && seen.crashes > 0 && seen.naps > 0 && seen.slow > 0);
}

#[test]
fn model_from_a_cold_start() {
    check(Scenario::Cold, |seen| seen.owned > 0 && seen.starts > 0 && seen.busy > 0);
}

#[test]
fn model_of_an_owner_that_is_cut_off() {
    check(Scenario::CutOff, |seen| seen.lost > 0 && seen.taken_over > 0);
}

#[test]
fn model_of_an_owner_that_one_candidate_cannot_hear() {
    check(Scenario::HalfHeard, |seen| seen.owned > 0 && seen.busy > 0 && seen.silent > 0 && seen.crashes > 0);
}

#[test]
fn model_of_a_witness_that_has_forgotten() {
    check(Scenario::Forgotten, |seen| seen.owned > 0 && seen.silent > 0);
}

#[test]
fn model_of_an_owner_that_was_killed_and_started_again() {
    check(Scenario::Reborn, |seen| seen.owned > 0 && seen.starts > 0 && seen.busy > 0);
}

#[test]
fn model_of_a_planned_move() {
    check(Scenario::Planned, |seen| seen.taken_over > 0 && seen.slow > 0);
}

#[test]
fn model_of_going_home() {
    check(Scenario::Homecoming, |seen| seen.taken_over > 0);
}

#[test]
fn model_of_recruits_that_are_a_majority_by_themselves() {
    check(Scenario::Recruits, |seen| seen.owned > 0 && seen.crashes > 0);
}

#[test]
fn model_of_a_vote_that_is_lent() {
    check(Scenario::Lending, |seen| seen.lent > 0 && seen.crashes > 0);
}

#[test]
fn model_of_a_vote_that_goes_home() {
    check(Scenario::Returning, |seen| seen.lent > 0 && seen.crashes > 0);
}

/// The reference is not blind: with answers that carry the tag of the newest question, which makes a lease seem to last
/// longer than it was promised, the search finds the mistake. Deliberate mistakes in the core itself: scripts/mutants.
#[test]
fn model_finds_a_core_that_counts_answers_for_the_newest_question() {
    let mut begin = Scenario::CutOff.begin();
    Rc::make_mut(&mut begin.rules).newest_tag = true;
    let report = search(begin, Limits { depth: Scenario::CutOff.usual_depth(), states: STATES, patience: PATIENCE });
    println!("sabotaged: {}", report.summary());
    let broken = report.broken.expect("the sabotage is found");
    println!("{broken}");
}
