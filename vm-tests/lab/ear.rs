//! The client outside the machines that hears what the application says is safe.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use drcm::lab::Namespace;

/// What the application acknowledged is sent here.
pub const PORT: u16 = 5000;

/// Hears datagrams, and remembers each with its moment.
pub struct Ear {
    record: Arc<Mutex<Vec<(Instant, String)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    pub fn start(client: &Namespace, port: u16) -> Self {
        let (record, stop) = (Arc::<Mutex<Vec<(Instant, String)>>>::default(), Arc::<AtomicBool>::default());
        let (shared, stopped) = (Arc::clone(&record), Arc::clone(&stop));
        let thread = client.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            thread::spawn(move || {
                let mut bytes = [0; 512];
                while !stopped.load(Ordering::Relaxed) {
                    if let Ok(length) = socket.recv(&mut bytes) {
                        shared.lock().unwrap().push((Instant::now(), String::from_utf8_lossy(&bytes[..length]).trim().to_owned()));
                    }
                }
            })
        });
        Self { record, stop, thread: Some(thread.unwrap()) }
    }

    /// All that was heard.
    pub fn heard(&self) -> Vec<(Instant, String)> {
        self.record.lock().unwrap().clone()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
