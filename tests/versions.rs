//! Nodes of this version among nodes of the one before, the one after, and of stranger ones: what they wrote then and what they
//! can read is frozen in tests/frozen and tests/golden/wire.

#[path = "frozen/seal.rs"]
mod seal;
#[path = "frozen/version_1.rs"]
mod version_1;

use drcm::{
    model::{
        Ack, Ballot, BootId, Claims, Definition, ElectorateId, Entry, Heartbeat, Message, NodeId, Refusal, RefusalReason, Response, Stance,
        Version, Want, WishDigest,
    },
    wire::{Drop, Endpoint, READABLE_FROM, VERSION, put_records, records},
};
use seal::Header;
use version_1::{Message as Old, Reason as OldReason, Stance as OldStance};

const ME: NodeId = NodeId(2);
const PEER: NodeId = NodeId(1);
const KEY: &[u8] = b"two kilobytes of /dev/urandom";
/// What version 1 wrote of each kind.
const GOLDEN: &str = include_str!("golden/wire/version_1.txt");
const FIRST: u64 = 0x6625_6ff2_ab1a_dc6a;
const SECOND: u64 = 0x9224_92cf_b6ce_5509;
const A: u64 = 0x799a_f48b_c059_0dcb;
const B: u64 = 0x799a_f58b_c059_0f7e;

fn golden() -> Vec<(&'static str, Vec<u8>)> {
    GOLDEN
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, text) = line.split_once(' ').unwrap();
            (name, (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect())
        })
        .collect()
}

/// The golden messages in the words of version 1.
fn old_messages() -> Vec<Old> {
    let heartbeat = Old::Heartbeat {
        tag: 0x4d_0000_0012,
        version: 6,
        entries: 3,
        eligible: true,
        left: false,
        quorate: true,
        standby: false,
        hears_you: true,
        fingerprint: 0xad44_7b18_d937_111b,
    };
    let stances = [OldStance::Claims { lease_us: 1_500_000, running: true }, OldStance::HandsOver { next: B }, OldStance::Unable];
    let reasons = [OldReason::Busy { holder: A, remaining_us: 1_234_567 }, OldReason::Silent { remaining_us: 1 << 63 }, OldReason::Unknown];
    let groups = [FIRST, SECOND, u64::MAX];
    vec![
        heartbeat,
        Old::Claims { version: 6, first: 0, total: 3, entries: groups.into_iter().zip(stances).collect() },
        Old::Ack {
            tag: 0x4d_0000_0012,
            version: 6,
            first: 0,
            count: 3,
            cap_us: 1_500_000,
            refused: groups.into_iter().zip(reasons).collect(),
        },
        Old::Want { version: 300 },
        Old::Definition { group: FIRST, first: 0, total: 2, assignments: vec![7, u64::MAX] },
    ]
}

/// What version 1 knows of a message of today; `None` for a kind that it does not know.
fn in_old_words(message: &Message) -> Option<Old> {
    if let Message::Heartbeat(Heartbeat { tag, version, entries, state, hears_you, fingerprint, .. }) = message {
        return Some(Old::Heartbeat {
            tag: tag.0,
            version: version.0,
            entries: *entries,
            eligible: state.eligible,
            left: state.left,
            quorate: state.quorate,
            standby: state.standby,
            hears_you: *hears_you,
            fingerprint: fingerprint.0,
        });
    }
    if let Message::Claims(Claims { version, first, total, entries, .. }) = message {
        let stance = |entry: &Entry| match entry.stance {
            Stance::Claims { lease_us, running } => OldStance::Claims { lease_us, running },
            Stance::HandsOver { next } => OldStance::HandsOver { next: next.0 },
            Stance::Unable => OldStance::Unable,
        };
        let entries = entries.iter().map(|entry| (entry.group.0, stance(entry))).collect();
        return Some(Old::Claims { version: version.0, first: *first, total: *total, entries });
    }
    if let Message::Ack(Ack { tag, version, first, count, cap_us, refused, .. }) = message {
        let reason = |refusal: &Refusal| match refusal.reason {
            RefusalReason::Busy { holder, remaining_us } => OldReason::Busy { holder: holder.0, remaining_us },
            RefusalReason::Silent { remaining_us } => OldReason::Silent { remaining_us },
            RefusalReason::Unknown => OldReason::Unknown,
        };
        let refused = refused.iter().map(|refusal| (refusal.group.0, reason(refusal))).collect();
        return Some(Old::Ack { tag: tag.0, version: version.0, first: *first, count: *count, cap_us: *cap_us, refused });
    }
    if let Message::Want(Want { version, .. }) = message {
        return Some(Old::Want { version: version.0 });
    }
    if let Message::Definition(Definition { group, first, total, assignments, .. }) = message {
        let assignments = assignments.iter().map(|assignment| assignment.0).collect();
        return Some(Old::Definition { group: group.0, first: *first, total: *total, assignments });
    }
    None
}

/// Fills the fields that version 1 does not have.
fn complete(message: &mut Message) {
    if let Message::Heartbeat(heartbeat) = message {
        heartbeat.wishes = Some(WishDigest(1));
        heartbeat.electorate = Some(ElectorateId(2));
        heartbeat.ballot = Some(Ballot::default());
    }
    if let Message::Ack(ack) = message {
        ack.electorate = Some(ElectorateId(2));
    }
}

fn today(bytes: &[u8]) -> Vec<Message> {
    records(bytes).expect("the records are well-formed")
}

fn written(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_records(messages, &mut bytes);
    bytes
}

#[test]
fn the_frozen_codec_writes_and_reads_the_golden_bytes() {
    assert_eq!(golden().len(), old_messages().len());
    for ((name, bytes), message) in golden().into_iter().zip(old_messages()) {
        assert_eq!(version_1::write(std::slice::from_ref(&message)), bytes, "{name}");
        assert_eq!(version_1::read(&bytes), Some(vec![message]), "{name}");
    }
}

#[test]
fn what_version_1_wrote_is_read_today() {
    for ((name, bytes), old) in golden().into_iter().zip(old_messages()) {
        let messages = today(&bytes);
        assert_eq!(messages.iter().filter_map(in_old_words).collect::<Vec<_>>(), [old], "{name}");
    }
    let all: Vec<u8> = golden().into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(today(&all).len(), 5);
}

#[test]
fn what_is_written_today_is_of_use_to_version_1() {
    for (name, bytes) in golden() {
        let messages = today(&bytes);
        let read = version_1::read(&written(&messages)).expect("version 1 can cut it into records");
        assert_eq!(read, messages.iter().filter_map(in_old_words).collect::<Vec<_>>(), "{name}");
        assert_eq!(read.len(), 1, "{name}");
    }
}

#[test]
fn what_a_later_version_adds_is_left_out_today_as_it_was_in_version_1() {
    for (name, bytes) in golden() {
        let mut longer = bytes.clone();
        longer.extend_from_slice(b"a later field");
        let length = u16::from_le_bytes([longer[1], longer[2]]) + 13;
        longer[1..3].copy_from_slice(&length.to_le_bytes());
        let body = [&[250, 3, 0, 1, 2, 3], longer.as_slice()].concat();
        assert_eq!(version_1::read(&body), version_1::read(&bytes), "{name}");
    }
    // What follows the fields of today: a message that today writes with every field that it has, made longer.
    for (name, bytes) in golden() {
        let mut messages = today(&bytes);
        messages.iter_mut().for_each(complete);
        let bytes = written(&messages);
        let mut longer = bytes.clone();
        longer.extend_from_slice(b"a later field");
        let length = u16::from_le_bytes([longer[1], longer[2]]) + 13;
        longer[1..3].copy_from_slice(&length.to_le_bytes());
        let body = [&[250, 3, 0, 1, 2, 3], longer.as_slice()].concat();
        assert_eq!(today(&body), today(&bytes), "{name}");
    }
}

/// A peer that writes the frozen seal.
struct Peer(Header);

impl Peer {
    fn of(version: u8, readable_from: u8) -> Self {
        Self(Header { version, readable_from, from: PEER.0, to: ME.0, boot: 11, session: 12, counter: 0 })
    }

    fn says(&mut self, records: &[u8]) -> Vec<u8> {
        self.0.counter += 1;
        self.0.seal(KEY, records)
    }

    /// Lets an endpoint know that this peer lives.
    fn proves_itself(&mut self, endpoint: &mut Endpoint) {
        let (_, asked) = Header::open(KEY, &endpoint.seal(PEER, &[]).unwrap()[0]).unwrap();
        let [1, 8, 0, challenge @ ..] = asked.as_slice() else { panic!("no challenge: {asked:?}") };
        let echo = self.says(&[&[2, 8, 0], challenge].concat());
        assert!(endpoint.open(&echo).unwrap().newly_proven);
    }
}

fn endpoint() -> Endpoint {
    Endpoint::new(KEY, ME, BootId(22), [PEER, NodeId(3)], [3; 32])
}

#[test]
fn a_datagram_of_today_is_one_that_version_1_opens() {
    let mut endpoint = endpoint();
    let sent = today(&golden()[0].1);
    let datagram = endpoint.seal(PEER, &sent).unwrap().remove(0);
    let (header, body) = Header::open(KEY, &datagram).expect("the seal is as it was");
    assert_eq!((header.version, header.readable_from), (VERSION, READABLE_FROM));
    // The rule by which a node of the version before decides.
    assert!(header.readable_from < VERSION);
    assert_eq!((header.from, header.to, header.boot), (ME.0, PEER.0, 22));
    let read = version_1::read(&body).unwrap();
    assert_eq!(read, old_messages()[..1], "its handshake is a kind of its own");
}

#[test]
fn datagrams_of_the_version_before_and_the_one_after_are_understood() {
    for (version, readable_from) in
        [(VERSION - 1, VERSION - 1), (VERSION - 1, 0), (VERSION, VERSION), (VERSION + 1, VERSION), (VERSION + 1, 0), (u8::MAX, 1)]
    {
        let (mut endpoint, mut peer) = (endpoint(), Peer::of(version, readable_from));
        peer.proves_itself(&mut endpoint);
        for (name, bytes) in golden() {
            let opened = endpoint.open(&peer.says(&bytes)).unwrap_or_else(|drop| panic!("{name} of version {version}: {drop}"));
            assert_eq!(opened.messages, today(&bytes), "{name} of version {version}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_forgiven_to_a_newer_writer_only() {
    let want = written(&[Message::Want(Want { version: Version(1) })]);
    let strange = [&[17, 5, 0, 1, 0, 1, 1, 9], want.as_slice()].concat();
    for (version, readable_from, forgiven) in [(VERSION + 1, VERSION, true), (VERSION, VERSION, false), (VERSION - 1, VERSION - 1, false)] {
        let (mut endpoint, mut peer) = (endpoint(), Peer::of(version, readable_from));
        peer.proves_itself(&mut endpoint);
        let opened = endpoint.open(&peer.says(&strange));
        match opened {
            Ok(opened) => assert_eq!((opened.messages, forgiven), (today(&want), true)),
            Err(drop) => assert_eq!((drop, forgiven), (Drop::Malformed, false)),
        }
    }
}

#[test]
fn a_peer_of_a_version_too_old_or_too_new_is_named_and_nothing_it_says_counts() {
    for (version, readable_from) in [(0, 0), (VERSION + 1, VERSION + 1), (VERSION + 2, VERSION + 1), (VERSION, VERSION + 1), (0, VERSION)] {
        let (mut endpoint, mut peer) = (endpoint(), Peer::of(version, readable_from));
        let named = Drop::Version { from: Some(PEER), theirs: version, readable_from };
        let datagram = peer.says(&golden()[0].1);
        assert_eq!(endpoint.open(&datagram), Err(named));
        assert_eq!(endpoint.proven_boot(PEER), None);
        // Who has not the authkey puts nothing into the log.
        let unnamed = Drop::Version { from: None, theirs: version, readable_from };
        let mut forged = datagram.clone();
        forged[50] ^= 1;
        assert_eq!(endpoint.open(&forged), Err(unnamed));
        let stranger = Peer(Header { from: 77, ..peer.0 }).says(&[]);
        assert_eq!(endpoint.open(&stranger), Err(unnamed));
        let for_another = Peer(Header { to: 3, ..peer.0 }).says(&[]);
        assert_eq!(endpoint.open(&for_another), Err(unnamed));
        assert_eq!(endpoint.counters().dropped().find(|(reason, _)| *reason == "version").unwrap().1, 4);
        // A peer that is updated is heard as if nothing had been.
        let mut updated = Peer(Header { boot: 12, version: VERSION, readable_from: READABLE_FROM, ..peer.0 });
        updated.proves_itself(&mut endpoint);
        assert!(endpoint.open(&updated.says(&golden()[0].1)).is_ok());
    }
}

#[test]
fn the_report_of_a_node_of_version_1_is_read_today() {
    let golden = include_str!("golden/wire/node_report_1.json");
    let response: Response = serde_json::from_str(golden).unwrap();
    let Response::Node(report) = &response else { panic!("{response:?}") };
    assert_eq!((report.node.0, report.groups.len(), report.resources.len()), (A, 2, 2));
    // What a later version adds to it is left out.
    let longer = golden.replace("\"rank\"", "\"later\":[1,{}],\"rank\"");
    assert_eq!(serde_json::from_str::<Response>(&longer).unwrap(), response);
}
