//! A client that asks the web server at the floating address every millisecond, each time on a new connection.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use drcm::lab::Namespace;

/// Between two questions.
const INTERVAL: Duration = Duration::from_millis(1);
/// Longest a connection or an answer may take before the question is lost.
const PATIENCE: Duration = Duration::from_millis(250);

/// A question: when it was asked, and whose page came or why none did.
type Question = (Instant, Result<String, String>);

/// A running client. It ends when dropped.
pub struct Http {
    record: Arc<Mutex<Vec<Question>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    pub fn start(client: &Namespace, address: Ipv4Addr) -> Self {
        let (record, stop) = (Arc::<Mutex<Vec<Question>>>::default(), Arc::<AtomicBool>::default());
        let (shared, stopped) = (record.clone(), stop.clone());
        // Started from a thread of the namespace, it belongs there.
        let thread = client.run(move || {
            thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let answer = ask(SocketAddr::from((address, 80)));
                    shared.lock().unwrap().push((asked, answer));
                    thread::sleep(INTERVAL.saturating_sub(asked.elapsed()));
                }
            })
        });
        Self { record, stop, thread: Some(thread.unwrap()) }
    }

    /// Whose page the last question since then got.
    pub fn last_since(&self, since: Instant) -> Option<String> {
        let record = self.record.lock().unwrap();
        record.last().filter(|(asked, _)| *asked >= since).and_then(|(_, answer)| answer.clone().ok())
    }

    /// The questions since then that got no page: how long after it they were asked, and why. At most ten.
    pub fn lost_since(&self, since: Instant) -> Vec<(Duration, String)> {
        let record = self.record.lock().unwrap();
        let lost = record.iter().filter(|(asked, _)| *asked >= since);
        lost.filter_map(|(asked, answer)| Some((asked.duration_since(since), answer.as_ref().err()?.clone()))).take(10).collect()
    }

    /// Questions asked since then.
    pub fn asked_since(&self, since: Instant) -> usize {
        self.record.lock().unwrap().iter().filter(|(asked, _)| *asked >= since).count()
    }

    /// The longest time since then from a question that was lost to the next that got a page; until now, if none did.
    pub fn longest_outage(&self, since: Instant) -> Duration {
        let record = self.record.lock().unwrap();
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
            thread.join().ok();
        }
    }
}

fn ask(address: SocketAddr) -> Result<String, String> {
    let said = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(said("connect"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(said("timeout"))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(said("ask"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(said("answer"))?;
    let page = answer.split_once("\r\n\r\n").filter(|_| answer.starts_with("HTTP/1.1 200")).map(|(_, page)| page.trim().to_owned());
    page.ok_or_else(|| format!("no page: {}", answer.lines().next().unwrap_or_default()))
}
