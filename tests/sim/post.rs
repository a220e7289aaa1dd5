//! Datagrams under way, through the real codec, sealed in some runs, and who has proven to whom that it lives.

use drcm::{
    model::{BootId, Message, NodeId},
    wire::{Drop, Endpoint, put_records, records},
};

use super::{
    clock::{Instant, MILLISECOND},
    speech::Speech,
};

/// A datagram under way.
pub type Slot = u32;

/// A peer that waits for an echo is sent one at once, but not more often than this.
const ECHO_INTERVAL: Instant = 5 * MILLISECOND;

/// What the seal adds to the records.
const SEAL: usize = 58;

#[derive(Default)]
struct Datagram {
    from: usize,
    boot: Option<BootId>,
    sent: Instant,
    bytes: Vec<u8>,
    copies: u32,
}

/// What one node knows of the incarnations of another.
#[derive(Clone, Copy, Default)]
struct Trust {
    /// Proven alive, by a datagram sent at that time; nothing sent before it counts.
    proven: Option<(BootId, Instant)>,
    /// Heard but not proven, since then.
    candidate: Option<(BootId, Instant)>,
}

/// What came of a datagram.
#[derive(Default)]
pub struct Opened {
    /// Its sender.
    pub from: usize,
    /// The sender's incarnation and what it says, if it has proven to live.
    pub content: Option<(BootId, Vec<Message>)>,
    /// The sender waits for an echo: send it something now.
    pub echo: bool,
}

/// All datagrams and all trust.
pub struct Post {
    nodes: Vec<NodeId>,
    /// The real endpoints, where datagrams travel sealed.
    endpoints: Option<Vec<Option<Endpoint>>>,
    echoed: Vec<Instant>,
    trust: Vec<Trust>,
    datagrams: Vec<Datagram>,
    free: Vec<Slot>,
    fresh: Vec<Slot>,
}

impl Post {
    /// Nothing sent, nobody known.
    pub fn new(nodes: Vec<NodeId>, sealed: bool) -> Self {
        let count = nodes.len();
        Self {
            endpoints: sealed.then(|| (0..count).map(|_| None).collect()),
            echoed: vec![0; count],
            trust: vec![Trust::default(); count * count],
            datagrams: Vec::new(),
            free: Vec::new(),
            fresh: Vec::new(),
            nodes,
        }
    }

    /// Datagrams travel sealed.
    pub fn is_sealed(&self) -> bool {
        self.endpoints.is_some()
    }

    /// A process starts: it knows nobody, and nobody it.
    pub fn starts(&mut self, node: usize, boot: BootId, secret: [u8; 32]) {
        let count = self.nodes.len();
        self.trust[node * count..(node + 1) * count].fill(Trust::default());
        if let Some(endpoints) = &mut self.endpoints {
            let me = self.nodes[node];
            let peers = self.nodes.iter().copied().filter(|peer| *peer != me);
            endpoints[node] = Some(Endpoint::new(b"the simulator's authkey", me, boot, peers, secret));
        }
    }

    /// The incarnation of a peer that a node believes in.
    pub fn proven(&self, node: usize, peer: usize) -> Option<BootId> {
        match &self.endpoints {
            Some(endpoints) => endpoints[node].as_ref()?.proven_boot(self.nodes[peer]),
            None => self.trust[node * self.nodes.len() + peer].proven.map(|(boot, _)| boot),
        }
    }

    /// Writes messages into a datagram that may go to several nodes.
    pub fn pack(&mut self, from: usize, boot: BootId, speech: Speech, messages: &[Message], now: Instant) -> Slot {
        let slot = self.slot(from, boot, now);
        let bytes = &mut self.datagrams[slot as usize].bytes;
        put_records(messages, bytes);
        speech.embellish(bytes);
        slot
    }

    /// Seals messages for one node.
    pub fn seal(&mut self, from: usize, to: usize, boot: BootId, messages: &[Message], now: Instant) -> Result<Vec<Slot>, String> {
        let peer = self.nodes[to];
        let Some(endpoint) = self.endpoints.as_mut().and_then(|endpoints| endpoints[from].as_mut()) else {
            return Err(format!("node {from} seals without an endpoint"));
        };
        let sealed = endpoint.seal(peer, messages).map_err(|error| format!("node {from} cannot seal: {error}"))?;
        let mut slots = Vec::new();
        for bytes in sealed {
            let slot = self.slot(from, boot, now);
            self.datagrams[slot as usize].bytes = bytes;
            slots.push(slot);
        }
        Ok(slots)
    }

    /// Who sent a datagram, and when.
    pub fn sent(&self, slot: Slot) -> (usize, Instant) {
        let datagram = &self.datagrams[slot as usize];
        (datagram.from, datagram.sent)
    }

    /// Bytes of a datagram on a link: unsealed ones as if they were sealed, and the headers of UDP and IPv4.
    pub fn bytes(&self, slot: Slot) -> u64 {
        let seal = if self.is_sealed() { 0 } else { SEAL };
        (self.datagrams[slot as usize].bytes.len() + seal + 28) as u64
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
        while let Some(slot) = self.fresh.pop() {
            if self.datagrams[slot as usize].copies == 0 {
                self.free.push(slot);
            }
        }
    }

    /// Reads a datagram.
    pub fn open(&mut self, to: usize, slot: Slot, now: Instant, back: Instant) -> Result<Opened, String> {
        let Some(endpoints) = &mut self.endpoints else { return self.open_plain(to, slot, now, back) };
        let datagram = &self.datagrams[slot as usize];
        let from = datagram.from;
        let Some(endpoint) = &mut endpoints[to] else { return Ok(Opened::default()) };
        let (content, waits) = match endpoint.open(&datagram.bytes) {
            Ok(opened) => (Some((opened.boot, opened.messages)), opened.waits_for_echo),
            Err(Drop::UnprovenBoot { waits_for_echo, .. }) => (None, waits_for_echo),
            Err(Drop::Replayed | Drop::OldBoot) => (None, false),
            Err(other) => return Err(format!("node {to} drops what node {from} sealed: {other}")),
        };
        let echo = waits && now >= self.echoed[to] + ECHO_INTERVAL;
        if echo {
            self.echoed[to] = now;
        }
        Ok(Opened { from, content, echo })
    }

    /// Without a seal: a new incarnation counts only once it could have echoed a challenge, which takes a trip to it and
    /// `back`; and nothing that was sent before that counts.
    fn open_plain(&mut self, to: usize, slot: Slot, now: Instant, back: Instant) -> Result<Opened, String> {
        let datagram = &self.datagrams[slot as usize];
        let from = datagram.from;
        let nothing = Ok(Opened { from, ..Opened::default() });
        let Some(boot) = datagram.boot else { return nothing };
        let trust = &mut self.trust[to * self.nodes.len() + from];
        match (trust.proven, trust.candidate) {
            (Some((proven, since)), _) if proven == boot => {
                if datagram.sent < since {
                    return nothing;
                }
            }
            (_, Some((candidate, since))) if candidate == boot => {
                if datagram.sent < since + back {
                    return nothing;
                }
                *trust = Trust { proven: Some((boot, datagram.sent)), candidate: None };
            }
            _ => {
                trust.candidate = Some((boot, now));
                return nothing;
            }
        }
        let messages = records(&datagram.bytes).ok_or_else(|| format!("node {to} cannot read what node {from} wrote"))?;
        Ok(Opened { from, content: Some((boot, messages)), echo: false })
    }

    fn slot(&mut self, from: usize, boot: BootId, sent: Instant) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.datagrams.push(Datagram::default());
            self.datagrams.len() as Slot - 1
        });
        let datagram = &mut self.datagrams[slot as usize];
        let mut bytes = std::mem::take(&mut datagram.bytes);
        bytes.clear();
        *datagram = Datagram { from, boot: Some(boot), sent, bytes, copies: 0 };
        self.fresh.push(slot);
        slot
    }
}
