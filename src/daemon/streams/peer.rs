//! The connections with one peer, and the task that keeps them.

use std::{future::Future, io, pin::Pin, sync::Arc};

use tokio::{
    io::AsyncReadExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    FAREWELL, Parts,
    connect::{Limits, adopt, dial},
    queue::{Queue, Turn},
};
use crate::{
    config::AuthKey,
    daemon::cluster_thread::Inbound,
    model::{Config, NodeConfig},
    wire::{Frames, Introduction, put_frame},
};

/// Bytes taken from a connection at a time.
const PIECE: usize = 4096;
/// Connections with one peer: the one to send on, and the one before it.
const CONNECTIONS: usize = 2;

type Dialing = Pin<Box<dyn Future<Output = Result<TcpStream, String>> + Send>>;

/// How a connection ended.
type End = (u64, String);

/// One connection.
struct Connection {
    number: u64,
    /// Kept also when it is not sent on: dropping it would end the other direction, too.
    writer: OwnedWriteHalf,
    reader: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The task of one peer.
pub struct Peer {
    config: Arc<Config>,
    node: NodeConfig,
    peer: NodeConfig,
    authkey: Arc<AuthKey>,
    inbound: Inbound,
    limits: Limits,
    /// It is for this node to connect, too.
    dials: bool,
    turns: mpsc::Receiver<Turn>,
    opened: mpsc::Receiver<TcpStream>,
    ends: (mpsc::Sender<End>, mpsc::Receiver<End>),
    quitting: watch::Receiver<bool>,

    queue: Queue,
    /// What of the turn in hand has not been written yet.
    unwritten: Vec<u8>,
    /// The newest last: the only one that is sent on.
    connections: Vec<Connection>,
    /// The last of them may be sent on. When it ends, the one before is not: a frame may be half sent there.
    up: bool,
    numbers: u64,
    dialing: Option<Dialing>,
    failures: u32,
    /// The next try does not begin sooner.
    dial_at: Instant,
    /// Why the last try failed, when that has been said.
    complained: Option<String>,
}

impl Peer {
    /// Nothing is connected yet.
    pub fn new(parts: &Parts, peer: &NodeConfig, turns: mpsc::Receiver<Turn>, opened: mpsc::Receiver<TcpStream>) -> Self {
        let silence = parts.node.pace.lease().max(peer.pace.lease());
        Self {
            dials: parts.config.by_tcp(parts.node.id, peer.id),
            config: parts.config.clone(),
            node: parts.node.clone(),
            peer: peer.clone(),
            authkey: parts.authkey.clone(),
            inbound: parts.inbound.clone(),
            limits: Limits::for_silence(silence),
            turns,
            opened,
            ends: mpsc::channel(CONNECTIONS * 2),
            quitting: parts.quitting.clone(),
            queue: Queue::default(),
            unwritten: Vec::new(),
            connections: Vec::new(),
            up: false,
            numbers: 0,
            dialing: None,
            failures: 0,
            dial_at: Instant::now(),
            complained: None,
        }
    }

    /// Until the daemon ends.
    pub async fn run(mut self) {
        let mut quitting = self.quitting.clone();
        loop {
            if self.dials && !self.up && self.dialing.is_none() && self.dial_at <= Instant::now() {
                // From one try's beginning to the next one's: whoever has waited long for an answer has waited enough.
                self.dial_at = Instant::now() + self.limits.wait(self.failures.saturating_add(1), chance());
                self.dialing = Some(self.dial());
            }
            let waits_to_dial = self.dials && !self.up && self.dialing.is_none();
            let waits_to_write = self.up && !(self.unwritten.is_empty() && self.queue.is_empty());
            let writer = self.connections.last().map(|connection| &connection.writer);
            tokio::select! {
                // An error means that the sender is gone.
                _ = quitting.wait_for(|quit| *quit) => break,
                Some(turn) = self.turns.recv() => self.queue.put(turn),
                Some(stream) = self.opened.recv() => self.accepted(stream),
                Some((number, reason)) = self.ends.1.recv() => self.ended(number, &reason),
                dialled = in_hand(&mut self.dialing) => self.dialled(dialled),
                () = sleep_until(self.dial_at), if waits_to_dial => {}
                ready = writable(writer), if waits_to_write => match ready.and_then(|()| self.write()) {
                    Ok(()) => {}
                    Err(error) => self.broken(&error),
                },
            }
        }
        drop(timeout(FAREWELL, self.farewell()).await);
    }

    fn name(&self) -> &str {
        &self.peer.name
    }

    fn dial(&self) -> Dialing {
        let address = std::net::SocketAddr::new(self.peer.keep_alive_ip, self.config.server.tcpport);
        let source = self.config.server.bind_to_keep_alive_ip.then_some(self.node.keep_alive_ip);
        let introduction = Introduction { from: self.node.id, to: self.peer.id };
        let (authkey, limits) = (self.authkey.clone(), self.limits);
        Box::pin(async move { dial(address, source, &authkey, introduction, limits).await })
    }

    fn dialled(&mut self, dialled: Result<TcpStream, String>) {
        self.dialing = None;
        match dialled {
            Ok(stream) => self.connected(stream, "opened by this node"),
            Err(reason) => {
                self.failures = self.failures.saturating_add(1);
                // The peer may have connected meanwhile.
                if !self.up && self.complained.as_ref() != Some(&reason) {
                    info!("node {}: no TCP connection: {reason}; trying on", self.name());
                    self.complained = Some(reason);
                }
            }
        }
    }

    fn accepted(&mut self, stream: TcpStream) {
        match adopt(&stream, self.limits) {
            Ok(()) => self.connected(stream, "opened by that node"),
            Err(error) => debug!("node {}: a connection broke as it came: {error}", self.name()),
        }
    }

    fn connected(&mut self, stream: TcpStream, by: &str) {
        if self.up {
            debug!("node {}: another TCP connection, {by}", self.name());
        } else {
            info!("node {}: TCP connection up, {by}", self.name());
        }
        self.numbers += 1;
        let (number, (reader, writer)) = (self.numbers, stream.into_split());
        let reader = tokio::spawn(read(reader, self.inbound.clone(), number, self.ends.0.clone()));
        if self.connections.len() == CONNECTIONS {
            self.connections.remove(0);
        }
        self.connections.push(Connection { number, writer, reader });
        self.unwritten.clear();
        self.queue.renew();
        (self.up, self.failures, self.complained) = (true, 0, None);
    }

    /// Writes as much as the connection takes now.
    fn write(&mut self) -> io::Result<()> {
        let Some(connection) = self.connections.last() else { return Ok(()) };
        loop {
            if self.unwritten.is_empty() {
                let Some(turn) = self.queue.take() else { return Ok(()) };
                for datagram in &turn.datagrams {
                    put_frame(datagram, &mut self.unwritten).map_err(io::Error::other)?;
                }
                continue;
            }
            match connection.writer.try_write(&self.unwritten) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.unwritten.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn broken(&mut self, error: &io::Error) {
        if let Some(number) = self.connections.last().map(|connection| connection.number) {
            self.ended(number, &error.to_string());
        }
    }

    fn ended(&mut self, number: u64, reason: &str) {
        let newest = self.connections.last().is_some_and(|connection| connection.number == number);
        self.connections.retain(|connection| connection.number != number);
        if !(newest && self.up) {
            return;
        }
        self.up = false;
        self.unwritten.clear();
        if !self.dials {
            debug!("node {}: TCP connection lost: {reason}", self.name());
        } else if reason == CLOSED {
            info!("node {}: TCP connection closed by that node", self.name());
        } else {
            warn!("node {}: TCP connection lost: {reason}; connecting again", self.name());
        }
        // Not in the same moment on both ends, and not at once after each of many losses.
        self.dial_at = Instant::now() + self.limits.wait(1, chance());
    }

    /// What was said last, a goodbye perhaps, is still sent.
    async fn farewell(&mut self) {
        while let Ok(turn) = self.turns.try_recv() {
            self.queue.put(turn);
        }
        while self.up && !(self.unwritten.is_empty() && self.queue.is_empty()) {
            let writer = self.connections.last().map(|connection| &connection.writer);
            if writable(writer).await.and_then(|()| self.write()).is_err() {
                return;
            }
        }
    }
}

/// The reason of an end in good order.
const CLOSED: &str = "closed";

/// Hands what arrives to the cluster thread, until the connection ends.
async fn read(mut reader: OwnedReadHalf, inbound: Inbound, number: u64, ends: mpsc::Sender<End>) {
    let mut frames = Frames::default();
    let mut piece = [0; PIECE];
    let reason = 'ended: loop {
        match reader.read(&mut piece).await {
            Ok(0) => break CLOSED.to_owned(),
            Ok(length) => frames.put(&piece[..length]),
            Err(error) => break error.to_string(),
        }
        loop {
            match frames.take() {
                Ok(Some(datagram)) => inbound.deliver(datagram.to_vec()),
                Ok(None) => break,
                Err(fault) => break 'ended fault.to_string(),
            }
        }
    };
    // Nobody hears it when the daemon ends.
    drop(ends.send((number, reason)).await);
}

/// The connection being opened; never, when there is none.
async fn in_hand(dialing: &mut Option<Dialing>) -> Result<TcpStream, String> {
    match dialing {
        Some(dialing) => dialing.await,
        None => std::future::pending().await,
    }
}

async fn writable(writer: Option<&OwnedWriteHalf>) -> io::Result<()> {
    match writer {
        Some(writer) => writer.writable().await,
        None => std::future::pending().await,
    }
}

/// A number by chance, for waits that must not be the same everywhere.
fn chance() -> u32 {
    let mut bytes = [0; 4];
    // Without chance the waits are merely regular.
    getrandom::fill(&mut bytes).unwrap_or_default();
    u32::from_le_bytes(bytes)
}
