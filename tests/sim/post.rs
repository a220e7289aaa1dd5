//! Datagrams under way, through the real codec, and who has proven to whom that it lives.

use drcm::model::{BootId, Message};

use super::clock::Instant;

/// A datagram under way.
pub type Slot = u32;

#[derive(Default)]
struct Datagram {
    from: usize,
    boot: BootId0,
    sent: Instant,
    bytes: Vec<u8>,
    copies: u32,
}

type BootId0 = Option<BootId>;

/// What one node knows of the incarnations of another.
#[derive(Clone, Copy, Default)]
struct Trust {
    /// Proven alive, by a datagram sent at that time; nothing sent before it counts.
    proven: Option<(BootId, Instant)>,
    /// Heard but not proven, since then.
    candidate: Option<(BootId, Instant)>,
}

/// All datagrams and all trust.
pub struct Post {
    nodes: usize,
    trust: Vec<Trust>,
    datagrams: Vec<Datagram>,
    free: Vec<Slot>,
    fresh: Vec<Slot>,
}

impl Post {
    /// Nothing sent, nobody known.
    pub fn new(nodes: usize) -> Self {
        Self { nodes, trust: vec![Trust::default(); nodes * nodes], datagrams: Vec::new(), free: Vec::new(), fresh: Vec::new() }
    }

    /// A new process knows nobody.
    pub fn forget(&mut self, node: usize) {
        self.trust[node * self.nodes..(node + 1) * self.nodes].fill(Trust::default());
    }

    /// The incarnation of a peer that a node believes in.
    pub fn proven(&self, node: usize, peer: usize) -> Option<BootId> {
        self.trust[node * self.nodes + peer].proven.map(|(boot, _)| boot)
    }

    /// Writes messages into a datagram.
    pub fn pack(&mut self, from: usize, boot: BootId, messages: &[Message], now: Instant) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.datagrams.push(Datagram::default());
            self.datagrams.len() as Slot - 1
        });
        let datagram = &mut self.datagrams[slot as usize];
        datagram.from = from;
        datagram.boot = Some(boot);
        datagram.sent = now;
        datagram.copies = 0;
        datagram.bytes.clear();
        encode(messages, &mut datagram.bytes);
        self.fresh.push(slot);
        slot
    }

    /// One more copy is under way.
    pub fn again(&mut self, slot: Slot) {
        self.datagrams[slot as usize].copies += 1;
    }

    /// One copy is gone.
    pub fn done(&mut self, slot: Slot) {
        let datagram = &mut self.datagrams[slot as usize];
        datagram.copies -= 1;
        if datagram.copies == 0 {
            self.free.push(slot);
        }
    }

    /// Forgets the new datagrams of which no copy is under way.
    pub fn sweep(&mut self) {
        for slot in std::mem::take(&mut self.fresh) {
            if self.datagrams[slot as usize].copies == 0 {
                self.free.push(slot);
            }
        }
    }

    /// Reads a datagram, if its sender has proven to live: a new incarnation counts only once it has echoed what a trip to
    /// it and `back` takes, and nothing from before that proof counts.
    pub fn open(&mut self, to: usize, slot: Slot, now: Instant, back: Instant) -> Option<(usize, BootId, Vec<Message>)> {
        let datagram = &self.datagrams[slot as usize];
        let boot = datagram.boot?;
        let trust = &mut self.trust[to * self.nodes + datagram.from];
        match trust.proven {
            Some((proven, since)) if proven == boot => {
                if datagram.sent < since {
                    return None;
                }
            }
            _ => match trust.candidate {
                Some((candidate, since)) if candidate == boot => {
                    if datagram.sent < since + back {
                        return None;
                    }
                    *trust = Trust { proven: Some((boot, datagram.sent)), candidate: None };
                }
                _ => {
                    trust.candidate = Some((boot, now));
                    return None;
                }
            },
        }
        Some((datagram.from, boot, decode(&datagram.bytes)))
    }
}

fn encode(messages: &[Message], bytes: &mut Vec<u8>) {
    let buffer = std::mem::take(bytes);
    *bytes = postcard::to_extend(messages, buffer).expect("a message of ours can be written");
}

fn decode(bytes: &[u8]) -> Vec<Message> {
    postcard::from_bytes(bytes).expect("what we wrote can be read")
}
