//! What was active where and when: the lines of the samplers in all machines, brought to one time base.
//!
//! Each line has the time since boot of its machine, and the moment when it arrived here. The emulated clocks run as fast as that of
//! this host, but each line is under way for a while, longer when the host is busy. The least delay within some seconds tells how
//! the two clocks lie to each other, to a millisecond or two; by that every line is dated.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Overlaps up to this are within the error of the time base.
const TOLERANCE: Duration = Duration::from_millis(20);
/// Lines before and after a line that tell how its clock lies.
const NEIGHBOURS: usize = 300;
/// Longest for the port of a machine that is just being started.
const PORT: Duration = Duration::from_secs(30);

/// One line.
#[derive(Clone, Debug)]
struct Look {
    /// Lines of another life of the machine have another clock.
    life: u64,
    arrived: Instant,
    /// By the clock of the machine: before and after it looked.
    before: Duration,
    after: Duration,
    active: BTreeSet<String>,
}

/// A time during which every look found a resource on a node.
#[derive(Clone, Debug)]
pub struct Span {
    pub node: usize,
    pub from: Instant,
    pub to: Instant,
}

#[derive(Default)]
struct Record {
    lives: u64,
    /// The present life of each node.
    present: BTreeMap<usize, u64>,
    looks: BTreeMap<usize, Vec<Look>>,
}

impl Record {
    fn another_life(&mut self, node: usize) {
        self.lives += 1;
        self.present.insert(node, self.lives);
    }
}

/// All lines so far.
#[derive(Clone)]
pub struct Evidence {
    record: Arc<Mutex<Record>>,
    began: Instant,
}

impl Evidence {
    pub fn new() -> Self {
        Self { record: Arc::default(), began: Instant::now() }
    }

    /// Reads the port of a machine that was just switched on, until it is off.
    pub fn listen(&self, node: usize, port: PathBuf) {
        let record = Arc::clone(&self.record);
        self.another_life(node);
        thread::spawn(move || {
            let start = Instant::now();
            let stream = loop {
                match UnixStream::connect(&port) {
                    Ok(stream) => break stream,
                    Err(_) if start.elapsed() < PORT => thread::sleep(Duration::from_millis(5)),
                    Err(_) => return,
                }
            };
            let mut latest = Duration::ZERO;
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                let arrived = Instant::now();
                let Some((before, after, active)) = parse(&line) else { continue };
                let mut record = lock(&record);
                if before < latest {
                    // It was started again within the same process of the host.
                    record.another_life(node);
                }
                latest = before;
                let life = record.present.get(&node).copied().unwrap_or_default();
                record.looks.entry(node).or_default().push(Look { life, arrived, before, after, active });
            }
        });
    }

    /// From now on the clock of this node has another relation to ours.
    pub fn another_life(&self, node: usize) {
        lock(&self.record).another_life(node);
    }

    /// What was active on a node at the last look, if that is not longer ago than a second.
    pub fn active(&self, node: usize) -> BTreeSet<String> {
        let record = lock(&self.record);
        let last = record.looks.get(&node).and_then(|looks| looks.last());
        last.filter(|look| look.arrived.elapsed() < Duration::from_secs(1)).map(|look| look.active.clone()).unwrap_or_default()
    }

    /// Whether there was a look at this node since then.
    pub fn looked_since(&self, node: usize, since: Instant) -> bool {
        lock(&self.record).looks.get(&node).and_then(|looks| looks.last()).is_some_and(|look| look.arrived >= since)
    }

    /// The nodes where a resource is active.
    pub fn owners(&self, resource: &str) -> Vec<usize> {
        let nodes: Vec<usize> = lock(&self.record).looks.keys().copied().collect();
        nodes.into_iter().filter(|node| self.active(*node).contains(resource)).collect()
    }

    /// Every resource that was seen anywhere.
    pub fn resources(&self) -> BTreeSet<String> {
        let record = lock(&self.record);
        record.looks.values().flatten().flat_map(|look| look.active.iter().cloned()).collect()
    }

    /// When a resource was active, and where, in the order of their beginnings.
    pub fn spans(&self, resource: &str) -> Vec<Span> {
        let record = lock(&self.record);
        let mut spans = Vec::new();
        for (node, looks) in &record.looks {
            let dates = dates(looks);
            let mut open: Option<(u64, Span)> = None;
            for (look, (before, after)) in looks.iter().zip(dates) {
                let goes_on = open.as_ref().is_some_and(|(life, _)| *life == look.life) && look.active.contains(resource);
                if !goes_on {
                    spans.extend(open.take().map(|(_, span)| span));
                }
                match &mut open {
                    Some((_, span)) => span.to = before,
                    None if look.active.contains(resource) => {
                        open = Some((look.life, Span { node: *node, from: after, to: before.max(after) }));
                    }
                    None => {}
                }
            }
            spans.extend(open.map(|(_, span)| span));
        }
        spans.sort_by_key(|span| span.from);
        spans
    }

    /// Every time that a resource was on two nodes, in words.
    pub fn doubles(&self) -> Vec<String> {
        let mut doubles = Vec::new();
        for resource in self.resources() {
            let spans = self.spans(&resource);
            for (index, one) in spans.iter().enumerate() {
                for other in spans[index + 1..].iter().filter(|other| other.node != one.node) {
                    let both = one.to.min(other.to).saturating_duration_since(one.from.max(other.from));
                    if both > TOLERANCE {
                        doubles.push(format!(
                            "{resource} on node{} and node{} for {both:.1?}, {:.1?} after the beginning",
                            one.node + 1,
                            other.node + 1,
                            other.from.saturating_duration_since(self.began),
                        ));
                    }
                }
            }
        }
        doubles
    }

    /// The longest time since then in which a resource was nowhere.
    pub fn outage(&self, resource: &str, since: Instant) -> Duration {
        let mut longest = Duration::ZERO;
        let mut covered = since;
        for span in self.spans(resource).iter().filter(|span| span.to >= since) {
            // What was active before and is seen again after `since` was there meanwhile.
            longest = longest.max(span.from.saturating_duration_since(covered));
            covered = covered.max(span.to);
        }
        let looked = lock(&self.record).looks.values().filter_map(|looks| looks.last()).map(|look| look.arrived).max();
        longest.max(looked.map_or(Duration::ZERO, |looked| looked.saturating_duration_since(covered)))
    }

    /// How many looks there were, and the median and longest time between two in one life of a machine.
    pub fn pace(&self) -> (usize, Duration, Duration) {
        let record = lock(&self.record);
        let mut pauses: Vec<Duration> = Vec::new();
        for looks in record.looks.values() {
            pauses.extend(
                looks.windows(2).filter(|pair| pair[0].life == pair[1].life).map(|pair| pair[1].before.saturating_sub(pair[0].before)),
            );
        }
        pauses.sort_unstable();
        let median = pauses.get(pauses.len() / 2).copied().unwrap_or_default();
        (pauses.len(), median, pauses.last().copied().unwrap_or_default())
    }

    /// The story of a resource, for a failed test.
    pub fn story(&self, resource: &str) -> String {
        let since = |at: Instant| at.saturating_duration_since(self.began).as_secs_f64();
        let spans = self.spans(resource);
        let lines: Vec<String> =
            spans.iter().map(|span| format!("    node{} {:9.3} - {:9.3} s", span.node + 1, since(span.from), since(span.to))).collect();
        format!("{resource}\n{}\n", lines.join("\n"))
    }
}

/// The moments, by the clock of this host, before and after each look.
fn dates(looks: &[Look]) -> Vec<(Instant, Instant)> {
    let mut dates = Vec::with_capacity(looks.len());
    for (index, look) in looks.iter().enumerate() {
        let near = &looks[index.saturating_sub(NEIGHBOURS)..looks.len().min(index + NEIGHBOURS)];
        // When that machine was booted, as the line with the least delay tells it.
        let booted = near.iter().filter(|other| other.life == look.life).filter_map(|other| other.arrived.checked_sub(other.after)).min();
        let booted = booted.unwrap_or(look.arrived);
        dates.push((booted + look.before, booted + look.after));
    }
    dates
}

fn parse(line: &[u8]) -> Option<(Duration, Duration, BTreeSet<String>)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let mut time = || words.next()?.parse().ok().map(Duration::from_nanos);
    let (before, after) = (time()?, time()?);
    Some((before, after, words.map(str::to_owned).collect()))
}

/// A record stays whole even if a thread panicked while it held the lock: entries are pushed in one step.
fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
