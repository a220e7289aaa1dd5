//! The log: `log_dir/drcm.log` with rotation, and stderr for journald or a terminal.
//!
//! Whoever logs only formats a line and puts it into a bounded queue. A full disk, a hanging one or a stalled terminal
//! costs lines, never time: what was lost is counted and the count is logged once there is room again.
//!
//! | `log_level`   | what is written                                                      |
//! |---------------|----------------------------------------------------------------------|
//! | 0             | errors                                                               |
//! | 1 (default)   | and warnings and information; of libraries warnings only             |
//! | 2             | and information of libraries                                         |
//! | 3             | and debug messages                                                   |
//! | 4             | and debug messages of libraries                                      |
//! | 5             | everything, also each datagram                                       |
//!
//! `debug` raises that to 3 (`debug_level` 1 and 2), 4 (3 and 4) or 5 (5). stderr shows what the log shows, also when the
//! log is disabled; `verbose` raises it there to `verbose_level`.

pub(super) mod file;
mod line;
pub(super) mod queue;

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use nix::sys::stat::fstat;
use tracing::{Event, Metadata, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
};

use crate::model::LogSettings;
use file::RotatingFile;
use line::{Form, Record};
use queue::Queue;

/// How long the end of the daemon waits for the last lines to be written.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);
/// Lines that may wait, whatever `log_queue_size` says.
const QUEUE_LIMITS: (u32, u32) = (16, 65_536);

/// What the command line says against the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--log-file`: a name in `log_dir`, or a path.
    pub file: Option<PathBuf>,
    /// `--log-level`.
    pub level: Option<u8>,
    /// `--log-file-clear`.
    pub clear: bool,
    /// `--log-disable`.
    pub disable: bool,
    /// `--debug` and `--debug-level`.
    pub debug: Option<u8>,
    /// `--verbose` and `--verbose-level`.
    pub verbose: Option<u8>,
}

/// Why there is no log. An unwritable file is not among the reasons: that is reported on stderr and tried again.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log was started before.
    #[error("the log has been started already")]
    AlreadyStarted,
    /// There is no file name in it.
    #[error("logfile = {} names no file", file.display())]
    NoName {
        /// As configured.
        file: PathBuf,
    },
    /// A writer could not be started.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(io::Error),
}

/// Keeps the log going; flushes it, for a second at most, when dropped.
pub struct LogGuard {
    queues: Vec<Queue>,
    levels: Arc<Levels>,
    overrides: Overrides,
}

/// Starts the log of this process. `name` is `service_name`.
///
/// # Errors
/// See [`LogError`].
pub fn start(settings: &LogSettings, name: &str, log_dir: &Path, overrides: &Overrides) -> Result<LogGuard, LogError> {
    let stderr = io::stderr();
    let form = if is_journal() {
        Form::Journal
    } else {
        // Where people look at it the name of the program says nothing new.
        Form::Dated { program: if stderr.is_terminal() { String::new() } else { program(name) } }
    };
    let (subscriber, guard) = build(settings, name, log_dir, overrides, Box::new(stderr), form)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadyStarted)?;
    Ok(guard)
}

impl LogGuard {
    /// Takes over the levels of a changed configuration; what the command line said still counts. File, rotation and queue
    /// stay as they are until the next start.
    pub fn reload(&self, settings: &LogSettings) {
        self.levels.set(settings, &self.overrides);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Waits until all that was logged so far is written, for a second at most.
    pub fn flush(&self) {
        self.queues.iter().for_each(|queue| queue.flush(FLUSH_DEADLINE));
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.flush();
    }
}

/// A subscriber that is not yet anybody's, so that tests can have several.
fn build(
    settings: &LogSettings,
    name: &str,
    log_dir: &Path,
    overrides: &Overrides,
    stderr: Box<dyn Write + Send>,
    form: Form,
) -> Result<(impl Subscriber + Send + Sync + 'static, LogGuard), LogError> {
    let levels = Arc::new(Levels::default());
    levels.set(settings, overrides);
    let capacity = settings.queue.clamp(QUEUE_LIMITS.0, QUEUE_LIMITS.1);
    let stderr = Queue::start("log-stderr", capacity, form, StandardError(stderr), None).map_err(LogError::Thread)?;
    let file = if settings.enabled && !overrides.disable {
        let chosen = overrides.file.clone().unwrap_or_else(|| settings.file.clone().into());
        let Some(_) = chosen.file_name() else { return Err(LogError::NoName { file: chosen }) };
        // An absolute path replaces log_dir, and so does one that starts at the working directory.
        let path = if overrides.file.is_some() && chosen.components().count() > 1 { chosen } else { log_dir.join(chosen) };
        let file = RotatingFile::new(path, settings.keep, settings.max_size, settings.clear || overrides.clear);
        let form = Form::Dated { program: program(name) };
        Some(Queue::start("log-file", capacity, form, file, Some(stderr.clone())).map_err(LogError::Thread)?)
    } else {
        None
    };
    let layer = LogLayer { file: file.clone(), stderr: stderr.clone(), levels: Arc::clone(&levels) };
    let guard = LogGuard { queues: file.into_iter().chain([stderr]).collect(), levels, overrides: overrides.clone() };
    Ok((tracing_subscriber::registry().with(layer), guard))
}

/// How much each outlet shows, 0 to 5.
#[derive(Default)]
struct Levels {
    file: AtomicU8,
    stderr: AtomicU8,
}

impl Levels {
    fn set(&self, settings: &LogSettings, overrides: &Overrides) {
        let level = overrides.level.unwrap_or(settings.level).min(5);
        let debug = overrides.debug.or(settings.debug).map_or(0, |debug| match debug {
            0..=2 => 3,
            3..=4 => 4,
            5.. => 5,
        });
        let verbose = overrides.verbose.or(settings.verbose).map_or(0, |verbose| verbose.clamp(1, 5));
        self.file.store(level.max(debug), Ordering::Relaxed);
        self.stderr.store(level.max(debug).max(verbose), Ordering::Relaxed);
    }

    fn show_anywhere(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && (Self::show(&self.stderr, metadata) || Self::show(&self.file, metadata))
    }

    fn show(level: &AtomicU8, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= most_shown(level.load(Ordering::Relaxed), metadata.target().starts_with("drcm"))
    }
}

/// The table at the top of this file.
const fn most_shown(level: u8, ours: bool) -> LevelFilter {
    match (level, ours) {
        (0, _) => LevelFilter::ERROR,
        (1, false) => LevelFilter::WARN,
        (1 | 2, _) | (3, false) => LevelFilter::INFO,
        (3, true) | (4, _) => LevelFilter::DEBUG,
        (5.., _) => LevelFilter::TRACE,
    }
}

/// Turns events into lines for both queues.
struct LogLayer {
    file: Option<Queue>,
    stderr: Queue,
    levels: Arc<Levels>,
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.levels.show_anywhere(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        self.levels.show_anywhere(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(most_shown(self.levels.stderr.load(Ordering::Relaxed).max(self.levels.file.load(Ordering::Relaxed)), true))
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let record = Arc::new(Record { at: Timestamp::now(), level: *event.metadata().level(), text: line::text(event) });
        if let Some(file) = &self.file
            && Levels::show(&self.levels.file, event.metadata())
        {
            file.put(Arc::clone(&record));
        }
        if Levels::show(&self.levels.stderr, event.metadata()) {
            self.stderr.put(record);
        }
    }
}

/// stderr, or what a test has in its place.
struct StandardError(Box<dyn Write + Send>);

impl queue::Outlet for StandardError {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.0.write_all(line)?;
        self.0.flush()
    }

    fn name(&self) -> String {
        "stderr".into()
    }
}

fn program(name: &str) -> String {
    format!("{name}[{}] ", process::id())
}

/// Whether stderr leads to journald: systemd names the device and inode of the stream that it made.
fn is_journal() -> bool {
    let Some((device, inode)) = std::env::var("JOURNAL_STREAM").ok().and_then(|value| {
        let (device, inode) = value.split_once(':')?;
        Some((device.parse().ok()?, inode.parse().ok()?))
    }) else {
        return false;
    };
    fstat(io::stderr()).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (device, inode))
}

#[cfg(test)]
mod tests;
