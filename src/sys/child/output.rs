//! The append-only logs that children write to.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Zoned;
use nix::libc;

use super::{End, SysError};

/// Most of a line that is kept for a message, in characters.
const LINE_LIMIT: usize = 300;
/// Most that is read to find the last line, in bytes.
const TAIL: u64 = 4096;
/// What our own lines in the log begin with.
const NOTE: &str = "## ";

/// One log that children share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OutputLog {
    path: PathBuf,
    max_size: u64,
    writers: Arc<Writers>,
}

#[derive(Debug, Default)]
struct Writers {
    running: AtomicU64,
    started: AtomicU64,
}

/// The last line that a child wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastLine {
    /// The line, without control characters, cut to a bearable length.
    pub text: String,
    /// Another child wrote to the same log meanwhile, so the line may be of that one.
    pub shared: bool,
    /// The log.
    pub log: PathBuf,
}

impl fmt::Display for LastLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, shared, log } = self;
        if *shared { write!(f, "{} (shared with others) ends: {text}", log.display()) } else { write!(f, "it said: {text}") }
    }
}

/// The part of a log that one child writes.
#[derive(Debug)]
pub(super) struct Section {
    log: OutputLog,
    title: String,
    file: Option<File>,
    begin: u64,
    number: u64,
    shared: bool,
    open: bool,
}

impl OutputLog {
    /// The log at this path. It is moved aside to `.1` at the next start of a child once it has `max_size` bytes.
    #[must_use]
    pub fn new(path: PathBuf, max_size: u64) -> Self {
        Self { path, max_size, writers: Arc::default() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A line of ours. A log that cannot be written never keeps a resource from running.
    pub fn note(&self, text: &str) {
        if let Ok(mut file) = self.open() {
            write_note(&mut file, text);
        }
    }

    /// Opens it for one child: the section, and its standard output and error.
    pub(super) fn begin(&self, title: &str) -> Result<(Section, Stdio, Stdio), SysError> {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.is_file() && metadata.len() >= self.max_size) {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            let _ = fs::rename(&self.path, old);
        }
        let shared = self.writers.running.fetch_add(1, Ordering::Relaxed) > 0;
        let number = self.writers.started.fetch_add(1, Ordering::Relaxed) + 1;
        let mut section = Section { log: self.clone(), title: title.to_owned(), file: None, begin: 0, number, shared, open: true };
        match self.open() {
            Ok(mut file) => {
                write_note(&mut file, title);
                section.begin = file.metadata().map_or(0, |metadata| metadata.len());
                let copy = |file: &File| {
                    file.try_clone().map(Stdio::from).map_err(|source| SysError::File { doing: "share", path: self.path.clone(), source })
                };
                let (out, error) = (copy(&file)?, copy(&file)?);
                section.file = Some(file);
                Ok((section, out, error))
            }
            Err(error) => {
                tracing::warn!("cannot write {}: {error}; the output of {title} is lost", self.path.display());
                Ok((section, Stdio::null(), Stdio::null()))
            }
        }
    }

    fn open(&self) -> io::Result<File> {
        let flags = libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).custom_flags(flags).open(&self.path)?;
        // A pipe or device put in its place could block us, or be anything.
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
    }
}

impl Section {
    /// Writes how it ended and returns its last line.
    pub(super) fn finish(&mut self, end: End) -> Option<Box<LastLine>> {
        self.shared |= self.log.writers.started.load(Ordering::Relaxed) != self.number;
        let file = self.file.as_mut()?;
        let text = last_line(file, self.begin).ok().flatten();
        write_note(
            file,
            &match end {
                End::Exited(code) => format!("{}: exit status {code}", self.title),
                End::Signalled(signal) => format!("{}: killed by signal {signal}", self.title),
                End::TimedOut { limit, stuck: false } => format!("{}: ended after {limit:?}", self.title),
                End::TimedOut { limit, stuck: true } => format!("{}: not done after {limit:?}, and cannot be killed", self.title),
            },
        );
        self.close();
        Some(Box::new(LastLine { text: text?, shared: self.shared, log: self.log.path.clone() }))
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.open) {
            self.log.writers.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        self.close();
    }
}

/// One write, so that lines of several writers stay whole.
fn write_note(file: &mut File, text: &str) {
    let line = format!("{NOTE}{} {text}\n", Zoned::now().strftime("%Y-%m-%d %H:%M:%S"));
    let _ = file.write_all(line.as_bytes());
}

/// The last line after `begin` that is not empty and not ours.
fn last_line(file: &mut File, begin: u64) -> io::Result<Option<String>> {
    let length = file.metadata()?.len();
    // Shorter than it was: somebody emptied it.
    let from = begin.min(length).max(length.saturating_sub(TAIL));
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    let line = tail.lines().rev().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(NOTE));
    Ok(line.map(|line| line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE_LIMIT).collect()))
}
