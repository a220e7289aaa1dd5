//! Breadth first through every state, each visited once.

use std::{
    collections::HashSet,
    fmt::Write,
    mem,
    time::{Duration, Instant},
};

use super::state::{Pool, Seen, State, Step};

/// When a search ends.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub depth: usize,
    pub states: usize,
    pub patience: Duration,
}

/// How many transitions showed what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// States with an owner.
    pub owned: u64,
    pub starts: u64,
    /// Starts on a node after another had the group.
    pub taken_over: u64,
    pub busy: u64,
    pub silent: u64,
    pub lost: u64,
    pub lent: u64,
    pub crashes: u64,
    pub naps: u64,
    pub slow: u64,
}

/// What a search found.
pub struct Report {
    pub depth: usize,
    pub states: usize,
    pub transitions: u64,
    pub time: Duration,
    pub seen: Counts,
    /// Every state to the depth was visited.
    pub complete: bool,
    /// The shortest way to a broken rule, step by step.
    pub broken: Option<String>,
}

impl Report {
    pub fn summary(&self) -> String {
        format!(
            "depth {}{}, {} states, {} transitions, {:.1} s; {:?}",
            self.depth,
            if self.complete { "" } else { " (ended early)" },
            self.states,
            self.transitions,
            self.time.as_secs_f64(),
            self.seen
        )
    }
}

/// How a state was reached.
#[derive(Clone, Copy)]
struct Origin {
    parent: u32,
    step: Step,
    slow: bool,
}

/// A state to be expanded: where it came from, and who had the group last.
struct Open {
    state: State,
    origin: u32,
    last_owner: Option<usize>,
}

const ROOT: u32 = u32::MAX;

/// Visits everything that can be reached from `begin` within the limits.
pub fn search(begin: State, limits: Limits) -> Report {
    let began = Instant::now();
    let mut visited = HashSet::from([begin.digest()]);
    let mut origins: Vec<Origin> = Vec::new();
    let mut pool = Pool::default();
    let mut report =
        Report { depth: 0, states: 1, transitions: 0, time: Duration::ZERO, seen: Counts::default(), complete: true, broken: None };
    let last_owner = begin.owners().next();
    let mut frontier = vec![Open { state: begin.clone(), origin: ROOT, last_owner }];
    'search: while report.depth < limits.depth && !frontier.is_empty() {
        report.depth += 1;
        for open in mem::take(&mut frontier) {
            if visited.len() >= limits.states || began.elapsed() >= limits.patience {
                report.complete = false;
                break 'search;
            }
            for step in open.state.steps() {
                // Whether an order is slow matters only where one is given.
                let mut slow = false;
                loop {
                    let (next, seen, result) = open.state.after(step, slow);
                    let may_be_slow = !slow && seen.ordered && next.budget.hiccups > 0;
                    report.transitions += 1;
                    let owner = next.owners().next();
                    report.seen.count(&seen, step, slow, owner, open.last_owner);
                    let origin = Origin { parent: open.origin, step, slow };
                    if let Err(broken) = result {
                        report.broken = Some(tell(&begin, &origins, origin, &broken));
                        break 'search;
                    }
                    if visited.insert(next.digest()) {
                        let number = u32::try_from(origins.len()).expect("states are limited");
                        origins.push(origin);
                        // The last level is checked and not expanded.
                        if report.depth < limits.depth {
                            let mut next = next;
                            pool.share(&mut next);
                            frontier.push(Open { state: next, origin: number, last_owner: owner.or(open.last_owner) });
                        }
                    }
                    if !may_be_slow {
                        break;
                    }
                    slow = true;
                }
            }
        }
    }
    report.states = visited.len();
    report.time = began.elapsed();
    report
}

impl Counts {
    fn count(&mut self, seen: &Seen, step: Step, slow: bool, owner: Option<usize>, last_owner: Option<usize>) {
        let taken_over = seen.started && owner.is_some() && last_owner.is_some() && owner != last_owner;
        self.owned += u64::from(owner.is_some());
        self.starts += u64::from(seen.started);
        self.taken_over += u64::from(taken_over);
        self.busy += u64::from(seen.busy);
        self.silent += u64::from(seen.silent);
        self.lost += u64::from(seen.lost);
        self.lent += u64::from(seen.lent);
        self.crashes += u64::from(matches!(step, Step::Crash(_)));
        self.naps += u64::from(matches!(step, Step::Tick { asleep: Some(_) }));
        self.slow += u64::from(slow);
    }
}

/// The way to a state, replayed from the beginning.
fn tell(begin: &State, origins: &[Origin], last: Origin, broken: &str) -> String {
    let mut way = vec![last];
    while let Some(before) = way.last().filter(|origin| origin.parent != ROOT) {
        way.push(origins[before.parent as usize]);
    }
    let mut state = begin.clone();
    let mut text = String::new();
    for (number, origin) in way.iter().rev().enumerate() {
        let slowly = if origin.slow { ", orders done a tick later" } else { "" };
        writeln!(text, "{:3}. at {} {}{slowly}", number + 1, state.now, state.tell(origin.step)).expect("a string takes all");
        state = state.after(origin.step, origin.slow).0;
    }
    text + broken
}
