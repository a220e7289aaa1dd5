//! Sealed datagrams between nodes that share an authkey, and the proof that their sender is alive now.
//!
//! Each process seals under a key of its own (node, boot, session), so a recording of an earlier process opens as well as
//! a datagram of the present one. Therefore an incarnation, a boot and session of a peer, counts only once it has echoed
//! a challenge that we chose after the incarnation before it had been accepted; an earlier one cannot have echoed that.
//!
//! While a peer has no proven incarnation, or an authentic datagram of another one has come since, every datagram to it
//! carries the challenge. The challenge belongs to the peer, not to the incarnation, so recordings of any number of old
//! incarnations cannot keep it from the living one. Every datagram to a peer also carries the echoes of what it asks:
//! of its proven incarnation always, and of up to three others, of which a random one gives way when a fourth asks, so
//! that recordings cannot keep an echo from the living one either. Datagrams go both ways all the time, so lost ones only
//! delay the proof; nothing is sent in answer by this room.

use std::{collections::BTreeMap, fmt};

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, Tag};

use super::{
    MAX_DATAGRAM, READABLE_FROM, VERSION, WireError,
    codec::{self, ECHOES, Handshake},
    keys::{Root, nonce},
    pack::{HEADER, TAG, pack},
    speaks,
    window::Window,
};
use crate::model::{BootId, Message, NodeId};

/// Unproven incarnations of a peer whose challenges are echoed at a time.
const CANDIDATES: usize = ECHOES - 1;
/// Former incarnations remembered by name. One that is forgotten still cannot prove itself.
const RETIRED: usize = 8;

/// What an authentic datagram of a living peer held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The sender.
    pub from: NodeId,
    /// Its boot.
    pub boot: BootId,
    /// In the order in which they were given to [`Endpoint::seal`]; none in a mere handshake.
    pub messages: Vec<Message>,
    /// The sender has just begun to ask for our echo and may drop our messages until it has it: a datagram to it, even
    /// without messages, is worth sending now (at a limited rate: a recording can cause this too).
    pub waits_for_echo: bool,
    /// This datagram proved the boot: its earlier messages were dropped, and so were ours to it.
    pub newly_proven: bool,
}

/// Why a datagram was dropped. Never answered, save that a peer that waits for an echo may be sent one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Drop {
    /// Too short for a header and a seal.
    #[error("too short")]
    TooShort,
    /// Longer than [`MAX_DATAGRAM`].
    #[error("too long")]
    TooLong,
    /// Written in a version that cannot be read here.
    #[error("protocol version {theirs}, readable from version {readable_from} on, not by this node")]
    Version {
        /// The peer that wrote it, if it has our authkey: the header and the seal are the same in every version.
        from: Option<NodeId>,
        /// Its version.
        theirs: u8,
        /// The oldest version that can read it.
        readable_from: u8,
    },
    /// The sender it names is not a peer.
    #[error("sender {from} is not a member of this cluster")]
    UnknownSender {
        /// The sender it names.
        from: NodeId,
    },
    /// Addressed to another node.
    #[error("addressed to another node")]
    NotForMe,
    /// Altered, or sealed under another authkey.
    #[error("the seal does not match: altered, or another authkey")]
    BadSeal,
    /// Seen before, or too old to tell.
    #[error("seen before")]
    Replayed,
    /// Authentic, of an incarnation that has not (yet) shown that it lives.
    #[error("boot {boot} of node {from} has yet to prove that it lives")]
    UnprovenBoot {
        /// The sender.
        from: NodeId,
        /// Its boot.
        boot: BootId,
        /// As in [`Opened::waits_for_echo`].
        waits_for_echo: bool,
    },
    /// Of an incarnation that a newer one has replaced.
    #[error("of a boot that a newer one has replaced")]
    OldBoot,
    /// Authentic, but its content breaks the layout.
    #[error("its content cannot be read")]
    Malformed,
}

impl Drop {
    /// Every reason's word, in the order of [`Drop::index`].
    const REASONS: [&str; 10] = [
        "too short",
        "too long",
        "version",
        "unknown sender",
        "not for me",
        "bad seal",
        "replayed",
        "unproven boot",
        "old boot",
        "malformed",
    ];

    /// The reason in a word or two, without facts: to count by.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        Self::REASONS[self.index()]
    }

    const fn index(&self) -> usize {
        match self {
            Self::TooShort => 0,
            Self::TooLong => 1,
            Self::Version { .. } => 2,
            Self::UnknownSender { .. } => 3,
            Self::NotForMe => 4,
            Self::BadSeal => 5,
            Self::Replayed => 6,
            Self::UnprovenBoot { .. } => 7,
            Self::OldBoot => 8,
            Self::Malformed => 9,
        }
    }
}

/// Datagrams since the endpoint was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Delivered.
    pub accepted: u64,
    dropped: [u64; Drop::REASONS.len()],
}

impl Counters {
    /// Dropped, by reason; every reason is listed.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Drop::REASONS.into_iter().zip(self.dropped)
    }
}

/// One process of one node, as its peers hear it.
pub struct Endpoint {
    root: Root,
    secret: Root,
    me: NodeId,
    boot: BootId,
    session: u64,
    cipher: ChaCha20Poly1305,
    /// The last counter used.
    counter: u64,
    /// Challenges drawn so far: none is ever drawn twice, not even for a peer that left the file and came back.
    challenges: u64,
    /// State of the choice which candidate gives way.
    lots: u64,
    peers: BTreeMap<NodeId, Peer>,
    counters: Counters,
    /// Where datagrams are opened.
    scratch: Vec<u8>,
}

impl Endpoint {
    /// An endpoint for this process. `secret` must be random and new for each process, also when a process resumes the
    /// `boot` of one before it: the key and the challenges come from it.
    #[must_use]
    pub fn new(authkey: &[u8], me: NodeId, boot: BootId, peers: impl IntoIterator<Item = NodeId>, secret: [u8; 32]) -> Self {
        let root = Root::new(authkey);
        let secret = Root::new(&secret);
        let session = secret.number(&[b"session"]);
        let cipher = root.datagrams(me, boot, session);
        let lots = secret.number(&[b"lots"]);
        let mut endpoint = Self {
            root,
            secret,
            me,
            boot,
            session,
            cipher,
            counter: 0,
            challenges: 0,
            lots,
            peers: BTreeMap::new(),
            counters: Counters::default(),
            scratch: Vec::with_capacity(MAX_DATAGRAM),
        };
        endpoint.set_peers(peers);
        endpoint
    }

    /// Replaces the list of peers, for a changed configuration. What is known of those that stay is kept.
    pub fn set_peers(&mut self, peers: impl IntoIterator<Item = NodeId>) {
        let mut kept = BTreeMap::new();
        for id in peers.into_iter().filter(|id| *id != self.me) {
            let peer = self.peers.remove(&id).unwrap_or_else(|| Peer::new(next_challenge(&self.secret, &mut self.challenges, id)));
            kept.insert(id, peer);
        }
        self.peers = kept;
    }

    /// Datagrams accepted and dropped so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The boot of a peer that has been proven, if any.
    #[must_use]
    pub fn proven_boot(&self, peer: NodeId) -> Option<BootId> {
        Some(self.peers.get(&peer)?.proven.as_ref()?.name.boot)
    }

    /// Seals messages for a peer into as few datagrams as hold them in order; one at least, which then carries the
    /// handshake only.
    ///
    /// # Errors
    /// A message that does not fit a datagram, an addressee that is no peer. Nothing is sealed then.
    pub fn seal(&mut self, to: NodeId, messages: &[Message]) -> Result<Vec<Vec<u8>>, WireError> {
        let peer = self.peers.get(&to).ok_or(WireError::UnknownPeer { peer: to })?;
        let mut datagrams = pack(&peer.handshake(), messages)?;
        for datagram in &mut datagrams {
            self.counter = self.counter.checked_add(1).ok_or(WireError::Exhausted)?;
            let header = Header { from: self.me, to, name: Name { boot: self.boot, session: self.session }, counter: self.counter };
            let (head, body) = datagram.split_at_mut(HEADER);
            header.write(head);
            let tag = self.cipher.encrypt_inout_detached(&nonce(self.counter), head, body.into());
            let tag = tag.expect("a datagram is far shorter than what the cipher can take");
            datagram.extend_from_slice(&tag);
        }
        Ok(datagrams)
    }

    /// Opens a datagram.
    ///
    /// # Errors
    /// Why it was dropped; counted.
    pub fn open(&mut self, datagram: &[u8]) -> Result<Opened, Drop> {
        let opened = self.open_uncounted(datagram);
        match &opened {
            Ok(_) => self.counters.accepted += 1,
            Err(reason) => self.counters.dropped[reason.index()] += 1,
        }
        opened
    }

    fn open_uncounted(&mut self, datagram: &[u8]) -> Result<Opened, Drop> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(Drop::TooLong);
        }
        let (head, rest) = datagram.split_at_checked(HEADER).ok_or(Drop::TooShort)?;
        let (body, tag) = rest.split_last_chunk::<TAG>().ok_or(Drop::TooShort)?;
        let ([version, readable_from], header) = Header::read(head)?;
        let Header { from, to, name, counter } = header;
        if !speaks(version, readable_from) {
            let authentic = to == self.me && self.peers.contains_key(&from) && self.is_authentic(header, head, body, tag);
            return Err(Drop::Version { from: authentic.then_some(from), theirs: version, readable_from });
        }
        if to != self.me {
            return Err(Drop::NotForMe);
        }
        let peer = self.peers.get_mut(&from).ok_or(Drop::UnknownSender { from })?;
        // What cannot be of use is dropped before the costly part. Nothing is believed yet.
        if peer.retired.contains(&Some(name)) {
            return Err(Drop::OldBoot);
        }
        let cipher = match peer.key(name, counter) {
            Some((_, Use::Seen)) => return Err(Drop::Replayed),
            Some((cipher, Use::New)) => cipher.clone(),
            None => self.root.datagrams(from, name.boot, name.session),
        };
        self.scratch.clear();
        self.scratch.extend_from_slice(body);
        let opening = cipher.decrypt_inout_detached(&nonce(counter), head, self.scratch.as_mut_slice().into(), &Tag::from(*tag));
        opening.map_err(|_| Drop::BadSeal)?;
        // From here on it is authentic; whether it is of the living is another question.
        let Handshake { challenge, echoes } = codec::handshake(&self.scratch).map_err(|_| Drop::Malformed)?;
        let waits_for_echo = challenge.is_some() && challenge != peer.asked_by(name);
        let mut newly_proven = false;
        match &mut peer.proven {
            Some(live) if live.name == name => live.hear(counter, challenge),
            _ if echoes.contains(&peer.challenge) => {
                let next = next_challenge(&self.secret, &mut self.challenges, from);
                peer.prove(Live { name, cipher, window: Window::from(counter), asks: challenge }, next);
                newly_proven = true;
            }
            _ => {
                peer.note(Candidate { name, cipher, highest: counter, asks: challenge }, &mut self.lots);
                return Err(Drop::UnprovenBoot { from, boot: name.boot, waits_for_echo });
            }
        }
        let messages = codec::messages(&self.scratch, version > VERSION).map_err(|_| Drop::Malformed)?;
        Ok(Opened { from, boot: name.boot, messages, waits_for_echo, newly_proven })
    }
}

impl Endpoint {
    /// Whether a datagram that is of no other use was sealed under our authkey. It may be a recording.
    fn is_authentic(&mut self, Header { from, name, counter, .. }: Header, head: &[u8], body: &[u8], tag: &[u8; TAG]) -> bool {
        let cipher = self.root.datagrams(from, name.boot, name.session);
        self.scratch.clear();
        self.scratch.extend_from_slice(body);
        cipher.decrypt_inout_detached(&nonce(counter), head, self.scratch.as_mut_slice().into(), &Tag::from(*tag)).is_ok()
    }
}

impl fmt::Debug for Endpoint {
    /// Without keys and secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("me", &self.me).field("boot", &self.boot).field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// One incarnation of a peer.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    boot: BootId,
    session: u64,
}

/// The incarnation whose messages are delivered.
struct Live {
    name: Name,
    cipher: ChaCha20Poly1305,
    window: Window,
    /// Its challenge, while it carries one.
    asks: Option<u64>,
}

impl Live {
    fn hear(&mut self, counter: u64, challenge: Option<u64>) {
        // A datagram that was overtaken does not bring back an older challenge.
        if counter > self.window.highest() {
            self.asks = challenge;
        }
        self.window.mark(counter);
    }
}

/// An incarnation that has not proven itself.
struct Candidate {
    name: Name,
    cipher: ChaCha20Poly1305,
    /// The highest counter heard; recordings up to it are of no more use.
    highest: u64,
    asks: Option<u64>,
}

/// Whether a counter has been seen.
#[derive(Clone, Copy)]
enum Use {
    New,
    Seen,
}

/// What is known of one peer. Its size never grows.
struct Peer {
    proven: Option<Live>,
    /// What the next incarnation must echo.
    challenge: u64,
    candidates: [Option<Candidate>; CANDIDATES],
    retired: [Option<Name>; RETIRED],
    /// Where the next retired one goes.
    next_retired: usize,
}

impl Peer {
    fn new(challenge: u64) -> Self {
        Self { proven: None, challenge, candidates: [const { None }; CANDIDATES], retired: [None; RETIRED], next_retired: 0 }
    }

    /// The key of an incarnation heard before, and whether a datagram with this counter can be of use.
    fn key(&self, name: Name, counter: u64) -> Option<(&ChaCha20Poly1305, Use)> {
        let of = |is_new| if is_new { Use::New } else { Use::Seen };
        match &self.proven {
            Some(live) if live.name == name => Some((&live.cipher, of(live.window.is_new(counter)))),
            _ => self.candidate(name).map(|candidate| (&candidate.cipher, of(counter > candidate.highest))),
        }
    }

    /// The challenge that this incarnation was last heard to carry.
    fn asked_by(&self, name: Name) -> Option<u64> {
        match &self.proven {
            Some(live) if live.name == name => live.asks,
            _ => self.candidate(name)?.asks,
        }
    }

    fn candidate(&self, name: Name) -> Option<&Candidate> {
        self.candidates.iter().flatten().find(|candidate| candidate.name == name)
    }

    /// What a datagram to this peer carries besides messages.
    fn handshake(&self) -> Handshake {
        let unproven = self.proven.is_none() || self.candidates.iter().any(Option::is_some);
        let asked = self.proven.iter().filter_map(|live| live.asks);
        let echoes = asked.chain(self.candidates.iter().flatten().filter_map(|candidate| candidate.asks)).collect();
        Handshake { challenge: unproven.then_some(self.challenge), echoes }
    }

    /// An incarnation has echoed the challenge: it takes the place of the one before.
    fn prove(&mut self, live: Live, next_challenge: u64) {
        if let Some(old) = self.proven.replace(live) {
            self.retired[self.next_retired] = Some(old.name);
            self.next_retired = (self.next_retired + 1) % RETIRED;
        }
        self.challenge = next_challenge;
        self.candidates = [const { None }; CANDIDATES];
    }

    /// Remembers an authentic incarnation, in its own place, a free one, or that of a random other.
    fn note(&mut self, candidate: Candidate, lots: &mut u64) {
        let own = self.candidates.iter().position(|place| place.as_ref().is_some_and(|other| other.name == candidate.name));
        let place = own.or_else(|| self.candidates.iter().position(Option::is_none)).unwrap_or_else(|| draw(lots, CANDIDATES));
        self.candidates[place] = Some(candidate);
    }
}

/// What stands before the sealed records.
#[derive(Clone, Copy)]
struct Header {
    from: NodeId,
    to: NodeId,
    name: Name,
    counter: u64,
}

impl Header {
    /// Fills exactly [`HEADER`] bytes.
    fn write(&self, out: &mut [u8]) {
        let Self { from, to, name: Name { boot, session }, counter } = *self;
        out[0] = VERSION;
        out[1] = READABLE_FROM;
        for (place, field) in out[2..].chunks_exact_mut(8).zip([from.0, to.0, boot.0, session, counter]) {
            place.copy_from_slice(&field.to_le_bytes());
        }
    }

    /// Reads [`HEADER`] bytes, with the writer's version and the oldest that can read it.
    fn read(head: &[u8]) -> Result<([u8; 2], Self), Drop> {
        let (&versions, fields) = head.split_first_chunk().ok_or(Drop::TooShort)?;
        let [from, to, boot, session, counter] = fields.as_chunks().0 else { return Err(Drop::TooShort) };
        let [from, to, boot, session, counter] = [from, to, boot, session, counter].map(|bytes| u64::from_le_bytes(*bytes));
        Ok((versions, Self { from: NodeId(from), to: NodeId(to), name: Name { boot: BootId(boot), session }, counter }))
    }
}

/// A challenge that was never used before and cannot be foreseen.
fn next_challenge(secret: &Root, drawn: &mut u64, peer: NodeId) -> u64 {
    *drawn += 1;
    secret.number(&[b"challenge", &drawn.to_le_bytes(), &peer.0.to_le_bytes()])
}

/// One of `places`, by lot (splitmix64, seeded from the secret).
fn draw(lots: &mut u64, places: usize) -> usize {
    *lots = lots.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *lots;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((mixed ^ mixed >> 31) % places as u64).expect("less than a number of places")
}
