//! A client that asks the web server at the floating address again and again, each time on a new connection.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{LabError, Namespace};

/// Between two questions.
const INTERVAL: Duration = Duration::from_millis(1);
/// Longest a connection or an answer may take before the question is lost.
const PATIENCE: Duration = Duration::from_millis(250);
/// Longest page that is read, in bytes.
const LONGEST: u64 = 65_536;
/// Lost questions that are told of.
const TOLD: usize = 10;

/// A question: when it was asked, and whose page came or why none did.
type Question = (Instant, Result<String, String>);

/// A running client. It ends when dropped.
pub struct Http {
    record: Arc<Mutex<Vec<Question>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    /// Begins to ask `address` from this namespace every millisecond, with 250 ms of patience.
    ///
    /// # Errors
    /// [`LabError`], when no thread can be started there.
    pub fn start(client: &Namespace, address: Ipv4Addr) -> Result<Self, LabError> {
        Self::start_every(client, address, INTERVAL, PATIENCE)
    }

    /// The same at another pace, and with so much patience for a connection and for an answer.
    ///
    /// # Errors
    /// As [`Http::start`].
    pub fn start_every(client: &Namespace, address: Ipv4Addr, interval: Duration, patience: Duration) -> Result<Self, LabError> {
        let (record, stop) = (Arc::<Mutex<Vec<Question>>>::default(), Arc::<AtomicBool>::default());
        let (shared, stopped) = (Arc::clone(&record), Arc::clone(&stop));
        let work = move || {
            while !stopped.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let answer = ask(SocketAddr::from((address, 80)), patience);
                lock(&shared).push((asked, answer));
                thread::sleep(interval.saturating_sub(asked.elapsed()));
            }
        };
        // Started from a thread of the namespace, it belongs there.
        let thread = client.run(move || thread::Builder::new().name("http".to_owned()).spawn(work))?;
        let thread = thread.map_err(|error| LabError::system("starting a thread", error))?;
        Ok(Self { record, stop, thread: Some(thread) })
    }

    /// Whose page came last; none when the last question was lost.
    #[must_use]
    pub fn answering(&self) -> Option<String> {
        lock(&self.record).last().and_then(|(_, answer)| answer.clone().ok())
    }

    /// Whose page the last question since then got.
    #[must_use]
    pub fn last_since(&self, since: Instant) -> Option<String> {
        let record = lock(&self.record);
        record.last().filter(|(asked, _)| *asked >= since).and_then(|(_, answer)| answer.clone().ok())
    }

    /// The questions since then that got no page: how long after it they were asked, and why. At most ten.
    #[must_use]
    pub fn lost_since(&self, since: Instant) -> Vec<(Duration, String)> {
        let record = lock(&self.record);
        let lost = record.iter().filter(|(asked, _)| *asked >= since);
        lost.filter_map(|(asked, answer)| Some((asked.duration_since(since), answer.as_ref().err()?.clone()))).take(TOLD).collect()
    }

    /// Questions asked since then, and how many of them got no page.
    #[must_use]
    pub fn counts(&self, since: Instant) -> (usize, usize) {
        let record = lock(&self.record);
        let asked = record.iter().filter(|(asked, _)| *asked >= since);
        asked.fold((0, 0), |(asked, lost), (_, answer)| (asked + 1, lost + usize::from(answer.is_err())))
    }

    /// The longest time since then from a question that was lost to the next that got a page; until now, if none did.
    #[must_use]
    pub fn longest_outage(&self, since: Instant) -> Duration {
        let record = lock(&self.record);
        let mut longest = Duration::ZERO;
        let mut first_lost = None;
        for (asked, answer) in record.iter().filter(|(asked, _)| *asked >= since) {
            match (answer, first_lost) {
                (Ok(_), Some(lost)) => {
                    longest = longest.max(asked.duration_since(lost));
                    first_lost = None;
                }
                (Err(_), None) => first_lost = Some(*asked),
                (Ok(_), None) | (Err(_), Some(_)) => {}
            }
        }
        first_lost.map_or(longest, |lost| longest.max(lost.elapsed()))
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A client that panicked has said so on standard error.
            thread.join().ok();
        }
    }
}

fn ask(address: SocketAddr, patience: Duration) -> Result<String, String> {
    let said = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, patience).map_err(said("connect"))?;
    stream.set_read_timeout(Some(patience)).map_err(said("timeout"))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(said("ask"))?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer).map_err(said("answer"))?;
    let page = answer.split_once("\r\n\r\n").filter(|_| answer.starts_with("HTTP/1.1 200")).map(|(_, page)| page.trim().to_owned());
    page.ok_or_else(|| format!("no page: {}", answer.lines().next().unwrap_or_default()))
}

/// A record stays whole even if a thread panicked while it held the lock: entries are pushed in one step.
fn lock(record: &Mutex<Vec<Question>>) -> MutexGuard<'_, Vec<Question>> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
