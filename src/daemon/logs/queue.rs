//! Lines on their way to an outlet: a bounded queue and the thread that empties it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::{Timestamp, tz::TimeZone};
use tracing::Level;

use super::line::{Form, Record};

/// Between two tries to put the end mark into a full queue.
const FLUSH_PAUSE: Duration = Duration::from_millis(5);
/// How often the time zone of the machine is looked up again.
const ZONE_AGE: Duration = Duration::from_secs(60);

/// Losses are reported when the queue is empty, or after this time when it never is.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// Where lines end.
pub trait Outlet: Send + 'static {
    /// Writes a line with its end; may take as long as it likes.
    fn write_line(&mut self, line: &[u8]) -> io::Result<()>;

    /// For people.
    fn name(&self) -> String;
}

/// The near end of a queue.
#[derive(Clone)]
pub struct Queue {
    sender: SyncSender<Item>,
    /// Lines that found the queue full and were not yet reported.
    lost: Arc<AtomicU64>,
}

impl Queue {
    /// Starts the thread that writes to the outlet. It ends with the process. `complaints` learns when the outlet fails.
    pub fn start(thread: &str, capacity: u32, form: Form, outlet: impl Outlet, complaints: Option<Self>) -> Result<Self, io::Error> {
        let (sender, receiver) = sync_channel(usize::try_from(capacity).unwrap_or(usize::MAX));
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            form,
            outlet,
            complaints,
            overflow: Arc::clone(&lost),
            failed: 0,
            reported: Instant::now(),
            zone: TimeZone::system(),
            zone_read: Instant::now(),
        };
        thread::Builder::new().name(thread.into()).spawn(move || writer.run(&receiver))?;
        Ok(Self { sender, lost })
    }

    /// Puts a record into the queue; counts it as lost when there is no room. Never waits.
    pub fn put(&self, record: Arc<Record>) {
        match self.sender.try_send(Item::Line(record)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until what was put so far is written, or this time is over.
    pub fn flush(&self, deadline: Duration) {
        let began = Instant::now();
        let (done, written) = sync_channel(1);
        let mut mark = Item::Mark(done);
        while let Err(TrySendError::Full(back)) = self.sender.try_send(mark) {
            if began.elapsed() >= deadline {
                return;
            }
            mark = back;
            thread::sleep(FLUSH_PAUSE);
        }
        // Too late or the thread is gone: there is nothing more to do about it.
        let _ = written.recv_timeout(deadline.saturating_sub(began.elapsed()));
    }
}

enum Item {
    Line(Arc<Record>),
    /// All before it is written.
    Mark(SyncSender<()>),
}

/// The far end of a queue.
struct Writer<O> {
    form: Form,
    outlet: O,
    complaints: Option<Queue>,
    overflow: Arc<AtomicU64>,
    /// Lines that the outlet did not take since it last took one.
    failed: u64,
    /// When losses were last looked for.
    reported: Instant,
    zone: TimeZone,
    zone_read: Instant,
}

impl<O: Outlet> Writer<O> {
    fn run(mut self, receiver: &Receiver<Item>) {
        loop {
            let item = match receiver.try_recv() {
                Ok(item) => item,
                Err(_) => {
                    // What was lost came after all that has been written so far.
                    self.report_losses();
                    let Ok(item) = receiver.recv() else { return };
                    item
                }
            };
            match item {
                Item::Line(record) => self.write(&record),
                Item::Mark(done) => {
                    self.report_losses();
                    // Who waited for it may have given up.
                    let _ = done.try_send(());
                }
            }
        }
    }

    fn write(&mut self, record: &Record) {
        if self.failed > 0 || self.reported.elapsed() > REPORT_AFTER {
            self.report_losses();
        }
        if let Err(error) = self.write_line(record) {
            self.failed += 1;
            if self.failed == 1 {
                self.complain(&error);
            }
        }
    }

    /// Lines are missing before the one to be written now.
    fn report_losses(&mut self) {
        self.reported = Instant::now();
        let overflow = self.overflow.swap(0, Ordering::Relaxed);
        let missing = overflow + self.failed;
        if missing == 0 {
            return;
        }
        let text = match (overflow, self.failed) {
            (_, 0) => format!("{missing} log lines are missing here: they came faster than they could be written (log_queue_size)"),
            (_, failed) => format!("{missing} log lines are missing here: {failed} could not be written"),
        };
        if self.write_line(&warning(text)).is_ok() {
            self.failed = 0;
        } else {
            self.overflow.fetch_add(overflow, Ordering::Relaxed);
        }
    }

    fn write_line(&mut self, record: &Record) -> io::Result<()> {
        if self.zone_read.elapsed() > ZONE_AGE {
            self.zone = TimeZone::system();
            self.zone_read = Instant::now();
        }
        self.outlet.write_line(self.form.line(record, &self.zone).as_bytes())
    }

    fn complain(&self, error: &io::Error) {
        if let Some(complaints) = &self.complaints {
            let name = self.outlet.name();
            complaints.put(Arc::new(warning(format!("cannot write the log {name}: {error}; it is tried again with every line"))));
        }
    }
}

fn warning(text: String) -> Record {
    Record { at: Timestamp::now(), level: Level::WARN, text }
}
