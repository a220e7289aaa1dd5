//! The journal: the latest events in memory, for whoever asks, and in `log_dir/events.jsonl`, one JSON document in a line, so that
//! they outlive this process.
//!
//! Whoever notes something puts it into a bounded queue and goes on at once; what finds no room is counted, and the count is an
//! event itself. A disk that hangs or is full costs lines of the file, nothing else.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::OpenOptions,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use nix::libc;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    chronicle::{Chronicle, Note, ResourceNews},
    logs::{file::RotatingFile, queue::Outlet as _},
};
use crate::{
    model::{
        Action, Assignment, Config, Decision, EventPage, EventQuery, GroupId, Incident, IncidentKind, Message, NodeId, Severity, Stance,
        Time,
    },
    sys::clock,
};

/// Notes that may wait to be made events of: all steps of a thousand groups at a time.
const NOTES: usize = 8192;
/// Events that are remembered.
const REMEMBERED: usize = 1024;
/// Events that may wait to be written.
const LINES: usize = 2048;
/// Bytes at which a new file is begun.
const MAX_FILE: u64 = 1_000_000;
/// Files of before that are kept.
const KEPT: u32 = 1;
/// Most that is read of each file at start, in bytes.
const MAX_READ: u64 = MAX_FILE;
/// Longest wait for what was written before to be read.
const READING: Duration = Duration::from_secs(2);

/// The way to the journal, for all parts of the daemon. Never waits.
#[derive(Clone, Debug)]
pub struct Notes {
    notes: mpsc::Sender<Entry>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Note(Note, Time),
    /// Everything before it has been taken in.
    Barrier(oneshot::Sender<()>),
}

impl Notes {
    fn put(&self, note: Note) {
        if self.notes.try_send(Entry::Note(note, clock::now())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The addresses of a group were announced.
    pub fn announced(&self, group: GroupId) {
        self.put(Note::Announced(group));
    }

    /// Something became of a resource.
    pub fn resource(&self, assignment: &Assignment, news: ResourceNews) {
        self.put(Note::Resource(assignment.clone(), news));
    }

    /// Something became of this daemon.
    pub fn daemon(&self, kind: IncidentKind, severity: Severity, text: String) {
        self.put(Note::Daemon(kind, severity, text));
    }
}

/// What the cluster thread notes.
#[derive(Debug)]
pub struct Scribe {
    notes: Notes,
    /// Who runs what, as last heard: repeated lists are not noted again.
    heard: BTreeMap<GroupId, NodeId>,
}

impl Scribe {
    /// For the groups of this configuration.
    #[must_use]
    pub fn new(notes: Notes) -> Self {
        Self { notes, heard: BTreeMap::new() }
    }

    /// A peer said something: who runs what is of interest.
    pub fn heard(&mut self, from: NodeId, message: &Message) {
        let (node, claims) = match message {
            Message::Claims(claims) => (from, claims),
            Message::Relayed(relayed) => (relayed.node, &relayed.claims),
            _ => return,
        };
        let runs = claims.entries.iter().filter(|entry| matches!(entry.stance, Stance::Claims { running: true, .. }));
        let new: Vec<GroupId> = runs.map(|entry| entry.group).filter(|group| self.heard.insert(*group, node) != Some(node)).collect();
        if !new.is_empty() {
            self.notes.put(Note::Runs(node, new));
        }
    }

    /// The core decided something.
    pub fn decided(&mut self, decision: &Decision) {
        if let Decision::Running { group } = decision {
            self.heard.remove(group);
        }
        self.notes.put(Note::Decided(decision.clone()));
    }

    /// The core ordered something.
    pub fn ordered(&self, action: Action) {
        if matches!(action, Action::Start { .. } | Action::Stop { .. }) {
            self.notes.put(Note::Ordered(action));
        }
    }
}

/// The events of this node.
pub struct Journal {
    me: NodeId,
    events: Mutex<VecDeque<Arc<Incident>>>,
    notes: mpsc::Sender<Entry>,
    lines: SyncSender<Line>,
}

enum Line {
    Event(Arc<Incident>),
    /// Everything before it has been written, or could not be.
    Barrier(oneshot::Sender<()>),
}

/// Takes an event on to where people are told of it. Must not wait.
pub type Teller = Box<dyn Fn(&Arc<Incident>) + Send + Sync>;

impl Journal {
    /// Starts it. Needs a runtime.
    ///
    /// # Errors
    /// When the kernel refuses a thread.
    pub fn start(config: Arc<Config>, me: NodeId, teller: Teller) -> io::Result<(Arc<Self>, Notes)> {
        let (notes, noted) = mpsc::channel(NOTES);
        let (lines, written) = sync_channel(LINES);
        let (read, before) = oneshot::channel();
        let path = config.server.log_dir.join("events.jsonl");
        thread::Builder::new().name("events".to_owned()).spawn(move || write(&path, read, &written))?;
        let journal = Arc::new(Self { me, events: Mutex::default(), notes: notes.clone(), lines });
        let lost = Arc::new(AtomicU64::new(0));
        let keeper = Keeper { journal: journal.clone(), config, teller, lost: lost.clone() };
        tokio::spawn(keeper.keep(noted, before));
        Ok((journal, Notes { notes, lost }))
    }

    /// The events that are asked for, of this node.
    #[must_use]
    pub fn page(&self, query: &EventQuery) -> EventPage {
        let events = self.events();
        let newest = events.back().map_or(0, |event| event.number);
        let after = query.after.iter().find(|(node, _)| *node == self.me).map_or(0, |(_, after)| *after);
        // The file was lost and the count began anew.
        let after = if after > newest { 0 } else { after };
        let wanted = |event: &&Arc<Incident>| event.number > after && event.at_ms >= query.since_ms;
        let most = usize::try_from(query.newest).unwrap_or(REMEMBERED);
        let mut page: Vec<Incident> = events.iter().rev().filter(wanted).take(most).map(|event| Incident::clone(event)).collect();
        page.reverse();
        EventPage { node: self.me, answered: true, newest, events: page }
    }

    /// Waits until all that was noted so far is on disk, at most for so long.
    pub async fn flush(&self, patience: Duration) {
        let flushed = async {
            let (taken_in, all_in) = oneshot::channel();
            self.notes.send(Entry::Barrier(taken_in)).await.ok()?;
            all_in.await.ok()?;
            let (written, all_written) = oneshot::channel();
            self.lines.try_send(Line::Barrier(written)).ok()?;
            all_written.await.ok()
        };
        if timeout(patience, flushed).await.is_err() {
            info!("the last events are not on disk yet");
        }
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<Arc<Incident>>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, event: Arc<Incident>) {
        let mut events = self.events();
        if events.len() == REMEMBERED {
            events.pop_front();
        }
        events.push_back(event);
    }
}

/// Makes events of notes.
struct Keeper {
    journal: Arc<Journal>,
    config: Arc<Config>,
    teller: Teller,
    lost: Arc<AtomicU64>,
}

impl Keeper {
    async fn keep(self, mut noted: mpsc::Receiver<Entry>, before: oneshot::Receiver<Vec<Incident>>) {
        let before = timeout(READING, before).await;
        for event in before.ok().and_then(Result::ok).unwrap_or_default() {
            self.journal.remember(Arc::new(event));
        }
        let mut number = self.journal.events().back().map_or(0, |event| event.number);
        let mut chronicle = Chronicle::new(self.journal.me);
        let mut take = |note, at| {
            if let Some(mut event) = chronicle.take(&self.config, note, at, clock::wall_millis()) {
                number += 1;
                event.number = number;
                self.tell(event);
            }
        };
        while let Some(entry) = noted.recv().await {
            match entry {
                Entry::Note(note, at) => take(note, at),
                // Whoever waited may have gone.
                Entry::Barrier(reached) => reached.send(()).unwrap_or_default(),
            }
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                warn!("{lost} notes for the journal were lost: they came faster than events could be made of them");
                let text = format!("{lost} notes of what happened were lost: they came faster than events could be made of them");
                take(Note::Daemon(IncidentKind::Untold, Severity::Warning, text), clock::now());
            }
        }
    }

    fn tell(&self, event: Incident) {
        // Everything else is in the log already, by whoever noted it.
        if event.timeline.is_some() {
            info!("{}", event.text);
        }
        let event = Arc::new(event);
        self.journal.remember(event.clone());
        (self.teller)(&event);
        // A file that cannot be written fast enough lacks lines; the memory has them.
        if self.journal.lines.try_send(Line::Event(event)).is_err() {
            tracing::debug!("an event was not written down: the disk of log_dir is slow");
        }
    }
}

/// The thread that reads what was written before, and writes what comes.
fn write(path: &Path, read: oneshot::Sender<Vec<Incident>>, lines: &Receiver<Line>) {
    // The daemon may have stopped waiting.
    drop(read.send(written_before(path)));
    let mut file = RotatingFile::new(path.to_owned(), KEPT, MAX_FILE, false);
    let mut failed = false;
    while let Ok(line) = lines.recv() {
        match line {
            Line::Event(event) => {
                let mut text = serde_json::to_vec(&event.document()).expect("an event is plain data, which JSON can hold");
                text.push(b'\n');
                match file.write_line(&text) {
                    Ok(()) => failed = false,
                    Err(error) if !std::mem::replace(&mut failed, true) => {
                        warn!("events cannot be written to {}: {error}; it is tried again with each", path.display());
                    }
                    Err(_) => {}
                }
            }
            Line::Barrier(reached) => reached.send(()).unwrap_or_default(),
        }
    }
}

/// The latest events of the files, oldest first. A line that is no event is passed over.
fn written_before(path: &Path) -> Vec<Incident> {
    let older = PathBuf::from(format!("{}.1", path.display()));
    let mut events = Vec::new();
    for path in [older.as_path(), path] {
        match tail(path) {
            Ok(text) => events.extend(text.lines().filter_map(|line| serde_json::from_str::<Incident>(line).ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!("the events of before cannot be read from {}: {error}", path.display()),
        }
    }
    // Numbers grow; where they do not, the file is from elsewhere or the count began anew.
    let first = (1..events.len()).rev().find(|at| events[*at].number <= events[*at - 1].number).unwrap_or(0);
    events.split_off(first.max(events.len().saturating_sub(REMEMBERED)))
}

fn tail(path: &Path) -> io::Result<String> {
    // A pipe put in its place would hold us up.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(MAX_READ)))?;
    let mut bytes = Vec::new();
    file.take(MAX_READ).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn event(number: u64) -> Incident {
        Incident {
            number,
            at_ms: i64::try_from(number).unwrap(),
            boot_ms: 1,
            node: "a".into(),
            kind: IncidentKind::Started,
            severity: Severity::Info,
            about: None,
            group: None,
            resource: None,
            text: "x".into(),
            timeline: None,
            took_ms: None,
            tells: true,
        }
    }

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("drcm-journal-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn lines(numbers: impl IntoIterator<Item = u64>) -> String {
        numbers.into_iter().map(|number| serde_json::to_string(&event(number).document()).unwrap() + "\n").collect()
    }

    #[test]
    fn what_was_written_before_is_read_whatever_stands_between() {
        let directory = directory("read");
        let path = directory.join("events.jsonl");
        assert_eq!(written_before(&path), []);
        fs::write(directory.join("events.jsonl.1"), lines([1, 2, 3])).unwrap();
        fs::write(&path, lines([4, 5]) + "half a li\n{}\n\u{fffd}\n" + &lines([6])).unwrap();
        let numbers = |path: &Path| written_before(path).iter().map(|event| event.number).collect::<Vec<_>>();
        assert_eq!(numbers(&path), [1, 2, 3, 4, 5, 6]);
        // The count began anew: what was before is another story.
        fs::write(&path, lines([1, 2])).unwrap();
        assert_eq!(numbers(&path), [1, 2]);
        fs::write(&path, lines(4..4 + 2 * REMEMBERED as u64)).unwrap();
        assert_eq!(numbers(&path).len(), REMEMBERED);
        fs::remove_dir_all(directory).unwrap();
    }

    fn config(log_dir: &Path) -> Arc<Config> {
        let text =
            format!("[CM_SERVER]\nlog_dir = {}\n[CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\n", log_dir.display());
        crate::config::parse_cfg("test.cfg", &text).unwrap_or_else(|report| panic!("{report}")).config
    }

    #[tokio::test]
    async fn the_count_goes_on_in_the_next_process_and_pages_are_cut() {
        let directory = directory("count");
        let config = config(&directory);
        let me = config.nodes[0].id;
        let query = |after: u64, newest: u32| EventQuery { own: true, after: vec![(me, after)], since_ms: 0, newest };
        let numbers =
            |journal: &Journal, query: &EventQuery| -> Vec<u64> { journal.page(query).events.iter().map(|event| event.number).collect() };
        for life in 0..2_u64 {
            let told = Arc::new(AtomicU64::new(0));
            let count = told.clone();
            let teller: Teller = Box::new(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            let (journal, notes) = Journal::start(config.clone(), me, teller).unwrap();
            for _ in 0..3 {
                notes.daemon(IncidentKind::Started, Severity::Info, "up".into());
            }
            journal.flush(Duration::from_secs(5)).await;
            let all: Vec<u64> = (1..=3 * (life + 1)).collect();
            assert_eq!(numbers(&journal, &query(0, 100)), all);
            assert_eq!(told.load(Ordering::Relaxed), 3, "what is old is not told again");
            assert_eq!(numbers(&journal, &query(all.len() as u64 - 1, 100)), all[all.len() - 1..]);
            assert_eq!(numbers(&journal, &query(0, 2)), all[all.len() - 2..]);
            assert_eq!(numbers(&journal, &query(1_000, 100)), all, "a number of an earlier count");
            assert_eq!(journal.page(&EventQuery { since_ms: i64::MAX, ..query(0, 9) }).events, []);
            assert_eq!(fs::read_to_string(directory.join("events.jsonl")).unwrap().lines().count(), all.len());
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn a_log_dir_that_cannot_be_written_costs_only_the_file() {
        let config = config(Path::new("/dev/null/logs"));
        let (journal, notes) = Journal::start(config.clone(), config.nodes[0].id, Box::new(|_| {})).unwrap();
        notes.daemon(IncidentKind::Started, Severity::Info, "up".into());
        journal.flush(Duration::from_secs(5)).await;
        assert_eq!(journal.page(&EventQuery { own: true, after: Vec::new(), since_ms: 0, newest: 9 }).events.len(), 1);
    }
}
