//! The notes about votes that are not at home, in spool_dir: read at start, written by a thread of its own, since a disk may
//! take its time and the cluster thread has none.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::{error, info};

use super::{cluster_thread::Mailbox, state};
use crate::model::{Event, VoteNote, VoteNotes};

/// Layout of the file.
const VERSION: u32 = 1;
/// Longest file that is read.
const LONGEST: u64 = 64 << 10;
/// Wait before a failed write is tried again.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    votes: Vec<VoteNote>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Read(#[from] io::Error),
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its layout is that of another version ({0}, and this one knows {VERSION})")]
    Version(u32),
    #[error("it cannot be understood: {0}")]
    Content(#[from] serde_json::Error),
}

/// What an earlier life noted; `None` when it noted nothing or that is lost. A file that cannot be used is moved aside.
#[must_use]
pub fn read(spool_dir: &Path) -> Option<Vec<VoteNote>> {
    let path = file(spool_dir);
    match read_file(&path) {
        Ok(votes) => Some(votes),
        Err(Fault::Read(fault)) if fault.kind() == io::ErrorKind::NotFound => None,
        Err(fault) => {
            let aside = path.with_extension("damaged");
            let moved = fs::rename(&path, &aside)
                .map_or_else(|fault| format!("cannot be moved aside: {fault}"), |()| format!("is now {}", aside.display()));
            error!(
                "{} is not used, {fault}; it {moved}. Where the vote of this node is, and whose votes it carries, it must learn from the \
                 other nodes: let it reach them",
                path.display()
            );
            None
        }
    }
}

/// Why notes could not be written.
#[derive(Debug, thiserror::Error)]
enum WriteFault {
    #[error(transparent)]
    State(#[from] state::StateError),
    #[error(transparent)]
    Content(#[from] serde_json::Error),
}

fn read_file(path: &Path) -> Result<Vec<VoteNote>, Fault> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    let (content, checksum) = text.trim_end().rsplit_once('\n').ok_or(Fault::Checksum)?;
    if checksum != sum(content) {
        return Err(Fault::Checksum);
    }
    let Content { version, votes } = serde_json::from_str(content)?;
    if version == VERSION { Ok(votes) } else { Err(Fault::Version(version)) }
}

fn write(spool_dir: &Path, votes: &[VoteNote]) -> Result<(), WriteFault> {
    let content = serde_json::to_string(&Content { version: VERSION, votes: votes.to_vec() })?;
    let sum = sum(&content);
    Ok(state::replace(&file(spool_dir), &format!("{content}\n{sum}\n"))?)
}

fn file(spool_dir: &Path) -> PathBuf {
    spool_dir.join("votes.json")
}

fn sum(content: &str) -> String {
    Sha256::digest(content.as_bytes()).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string succeeds");
        text
    })
}

/// The way to the disk: the newest notes only.
#[derive(Debug, Default)]
pub struct Keeper {
    waiting: Mutex<Option<VoteNotes>>,
    bell: Condvar,
}

impl Keeper {
    /// Has this noted in place of what was noted before. Never waits for the disk.
    pub fn keep(&self, notes: VoteNotes) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(notes);
        self.bell.notify_one();
    }

    /// Starts the thread that writes, and tells the core what is on disk. It ends with the process: nothing waits for it.
    ///
    /// # Errors
    /// When the kernel refuses a thread.
    pub fn start(self: Arc<Self>, spool_dir: PathBuf, mailbox: Mailbox) -> io::Result<()> {
        thread::Builder::new().name("votes".to_owned()).spawn(move || self.run(&spool_dir, &mailbox)).map(drop)
    }

    fn run(&self, spool_dir: &Path, mailbox: &Mailbox) {
        let mut failed = false;
        loop {
            let notes = self.next();
            let serial = notes.serial;
            match write(spool_dir, &notes.votes) {
                Ok(()) => {
                    if std::mem::take(&mut failed) {
                        info!("{} can be written again", file(spool_dir).display());
                    }
                    mailbox.tell(Event::VotesKept { serial });
                }
                Err(fault) => {
                    if !std::mem::replace(&mut failed, true) {
                        error!(
                            "cannot write {}: {fault}; until it can be, this node neither lends its vote nor takes one: make room, or \
                             mend the disk",
                            file(spool_dir).display()
                        );
                    }
                    // A newer one that came meanwhile says more.
                    self.waiting.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(notes);
                    thread::sleep(AGAIN);
                }
            }
        }
    }

    fn next(&self) -> VoteNotes {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match waiting.take() {
                Some(notes) => return notes,
                None => waiting = self.bell.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NodeId, VoteNumber};

    fn notes() -> Vec<VoteNote> {
        let note = |vote: u64, held: bool, with: Option<u64>| VoteNote {
            vote: NodeId(vote),
            number: VoteNumber(u64::MAX - 1),
            accepted: VoteNumber(2),
            held,
            with: with.map(NodeId),
        };
        vec![note(u64::MAX, true, None), note(7, false, Some(u64::MAX))]
    }

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("drcm-votes-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn what_is_noted_is_read_again() {
        let directory = directory("again");
        assert_eq!(read(&directory), None);
        write(&directory, &notes()).unwrap();
        assert_eq!(read(&directory), Some(notes()));
        write(&directory, &[]).unwrap();
        assert_eq!(read(&directory), Some(vec![]));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_damaged_file_is_moved_aside_and_counts_as_lost() {
        let directory = directory("damaged");
        write(&directory, &notes()).unwrap();
        let path = file(&directory);
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [text.replacen("true", "false", 1), text[..text.len() / 2].to_owned(), String::new()] {
            fs::write(&path, &damaged).unwrap();
            assert_eq!(read(&directory), None);
            assert!(!path.exists());
            assert_eq!(fs::read_to_string(path.with_extension("damaged")).unwrap(), damaged);
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
