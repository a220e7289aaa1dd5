//! Heartbeats by TCP, for nodes with `transport = tcp` and whoever talks to them. The datagrams are those that UDP would carry,
//! sealed and opened on the cluster thread; here they travel in frames.
//!
//! One task per peer. It connects when it has no connection to send on, waiting longer after each failure, and takes
//! connections that the peer opens, which come in by the status port and have shown that they know the authkey. It sends on
//! the newest connection, whoever opened it, and still listens on the one before: when both ends connect at once, both
//! connections serve, and where a firewall lets only one end connect, that one serves both. No task waits for another, none
//! holds more than a bounded queue, and the cluster thread waits for none: it drops what cannot be taken at once, as a
//! datagram socket does.

mod connect;
mod peer;
mod queue;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::debug;

use super::cluster_thread::Inbound;
use crate::{
    config::AuthKey,
    control::{Link, LinkHandler},
    model::{Config, NodeConfig, NodeId},
};

pub use queue::Turn;

/// Turns of the cluster thread that may wait for a task, which does nothing but take them and write.
const TURNS: usize = 64;
/// Connections that a peer may have opened before its task has looked at them.
const LINKS: usize = 2;
/// Longest wait for the last datagrams to be taken when the daemon ends.
const FAREWELL: Duration = Duration::from_millis(200);

/// The cluster thread's way to one peer.
#[derive(Clone, Debug)]
pub struct Outlet {
    turns: mpsc::Sender<Turn>,
    dropped: Arc<AtomicU64>,
}

impl Outlet {
    /// Sends, or drops and counts.
    pub fn offer(&self, turn: Turn) {
        if self.turns.try_send(turn).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Streams to all peers.
pub struct Streams {
    tasks: JoinSet<()>,
    links: LinkHandler,
}

/// What the streams work with.
pub struct Parts {
    /// The cluster.
    pub config: Arc<Config>,
    /// This node.
    pub node: NodeConfig,
    /// Opens the status port of others.
    pub authkey: Arc<AuthKey>,
    /// Where what arrives goes.
    pub inbound: Inbound,
    /// True when the daemon ends.
    pub quitting: watch::Receiver<bool>,
    /// Counts the turns that were dropped.
    pub dropped: Arc<AtomicU64>,
}

impl Streams {
    /// Starts the tasks; returns them with the outlets of the peers that are to be sent to by TCP. A peer that our file says
    /// to use UDP for may still talk to us by TCP, as while a change of the file is rolled out.
    pub fn start(parts: &Parts) -> (Self, BTreeMap<NodeId, Outlet>) {
        let (config, me) = (&parts.config, parts.node.id);
        let mut outlets = BTreeMap::new();
        let mut doors = BTreeMap::new();
        let mut tasks = JoinSet::new();
        for peer in config.nodes.iter().filter(|peer| peer.id != me) {
            let by_tcp = config.by_tcp(me, peer.id);
            let (turns, taken) = mpsc::channel(TURNS);
            let (door, opened) = mpsc::channel(LINKS);
            if by_tcp {
                outlets.insert(peer.id, Outlet { turns, dropped: parts.dropped.clone() });
            }
            doors.insert(peer.id, door);
            tasks.spawn(peer::Peer::new(parts, peer, taken, opened).run());
        }
        let links: LinkHandler = Arc::new(move |link: Link| {
            let (from, to) = (link.introduction.from, link.introduction.to);
            match doors.get(&from).filter(|_| to == me) {
                // When it is full the peer has opened several at once, and will do with those.
                Some(door) => drop(door.try_send(link.stream)),
                None => debug!("node {from} opened a connection for node {to}: one of the two is not in this node's file"),
            }
        });
        (Self { tasks, links }, outlets)
    }

    /// Where the status port brings connections.
    pub fn links(&self) -> LinkHandler {
        self.links.clone()
    }

    /// Waits, for a moment, until what was said last has been sent. `quitting` must be true.
    pub async fn end(mut self) {
        // The tasks bound their own ends; whatever is left then goes with the process.
        drop(tokio::time::timeout(FAREWELL * 2, async { while self.tasks.join_next().await.is_some() {} }).await);
    }
}
