//! Datagrams before an endpoint: of strangers, of former incarnations, of peers that have lost their senses, recorded and
//! altered. Nothing is accepted twice, nothing altered is accepted, and the living prove each other in the end.

use drcm::{
    model::{BootId, Message, NodeId, Version, Want},
    wire::{Endpoint, Opened},
};

use super::{bytes::Bytes, seal::Header};

const KEY: &[u8] = b"the authkey of the fuzzed cluster";
const ME: NodeId = NodeId(2);
const PEER: NodeId = NodeId(1);
/// Datagrams of one input.
const STEPS: usize = 200;
/// Rounds in which two living endpoints must prove each other.
const ROUNDS: usize = 100;

/// A sequence of datagrams.
pub fn datagrams(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    let mut play = Play {
        endpoint: Endpoint::new(KEY, ME, BootId(22), [PEER, NodeId(3)], [3; 32]),
        opened: 0,
        sent: Vec::new(),
        challenge: Vec::new(),
    };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        play.step(&mut input);
    }
    let counters = play.endpoint.counters();
    assert_eq!(counters.accepted + counters.dropped().map(|(_, count)| count).sum::<u64>(), play.opened, "a datagram was not counted");
    play.the_living_are_proven();
}

struct Play {
    endpoint: Endpoint,
    opened: u64,
    /// Authentic datagrams, and whether each has been accepted.
    sent: Vec<(Vec<u8>, bool)>,
    /// The last challenge put to the peer.
    challenge: Vec<u8>,
}

impl Play {
    fn step(&mut self, input: &mut Bytes<'_>) {
        match input.pick(7) {
            0 => {
                let garbage = input.chunk();
                let known = self.sent.iter().any(|(sent, _)| sent == garbage);
                assert!(self.open(garbage).is_none() || known, "garbage was accepted");
            }
            1 => self.authentic(input, &[]),
            2 => {
                let echo = [&[2, 8, 0], self.challenge.as_slice()].concat();
                let echo = if self.challenge.len() == 8 { echo } else { Vec::new() };
                self.authentic(input, &echo);
            }
            3 => {
                if let Ok(datagrams) = self.endpoint.seal(PEER, &[]) {
                    let (_, records) = Header::open(KEY, &datagrams[0]).expect("an endpoint seals under its key");
                    if let [1, 8, 0, rest @ ..] = records.as_slice() {
                        self.challenge = rest[..8].to_vec();
                    }
                }
            }
            4 => {
                let at = usize::from(input.byte());
                if let Some((datagram, accepted)) = self.sent.get(at).cloned() {
                    let again = self.open(&datagram);
                    let anew = again.as_ref().is_some_and(|opened| opened.newly_proven);
                    assert!(!accepted || anew || again.is_none(), "a datagram was accepted twice");
                    self.sent[at].1 |= again.is_some();
                }
            }
            5 => {
                let (at, place, change) = (usize::from(input.byte()), usize::from(input.small()), input.byte());
                if let Some((datagram, _)) = self.sent.get(at).filter(|_| change != 0) {
                    let mut altered = datagram.clone();
                    let place = place % altered.len();
                    altered[place] ^= change;
                    assert!(self.open(&altered).is_none(), "an altered datagram was accepted");
                }
            }
            _ => {
                let all = input.truth();
                self.endpoint.set_peers(if all { vec![PEER, NodeId(3)] } else { vec![NodeId(3)] });
                self.endpoint.set_peers([PEER, NodeId(3)]);
                self.a_new_term();
            }
        }
    }

    /// Sealed under the authkey, whatever is in it.
    fn authentic(&mut self, input: &mut Bytes<'_>, before: &[u8]) {
        let header = Header {
            version: input.byte() % 6,
            readable_from: input.byte() % 6,
            from: input.number(PEER.0),
            to: input.number(ME.0),
            boot: u64::from(input.byte() % 8),
            session: u64::from(input.byte() % 4),
            counter: input.number(self.sent.len() as u64),
        };
        let datagram = header.seal(KEY, &[before, input.chunk()].concat());
        let repeated = self.sent.iter().any(|(sent, accepted)| *accepted && *sent == datagram);
        let accepted = self.open(&datagram);
        if let Some(opened) = &accepted {
            assert!(!repeated || opened.newly_proven, "a datagram was accepted twice");
            assert_eq!((opened.from.0, opened.boot.0, header.to), (header.from, header.boot, ME.0));
            assert!(header.version > 0 && header.readable_from <= header.version, "an unreadable version was accepted");
        }
        if self.sent.len() < 256 {
            self.sent.push((datagram, accepted.is_some()));
        }
    }

    fn open(&mut self, datagram: &[u8]) -> Option<Opened> {
        self.opened += 1;
        let opened = self.endpoint.open(datagram).ok();
        if opened.as_ref().is_some_and(|opened| opened.newly_proven) {
            self.a_new_term();
        }
        opened
    }

    /// A peer out of its senses may prove an incarnation again that has been forgotten; it only repeats itself then.
    fn a_new_term(&mut self) {
        self.sent.iter_mut().for_each(|(_, accepted)| *accepted = false);
    }

    fn the_living_are_proven(&mut self) {
        // An incarnation that was never heard before.
        let mut peer = Endpoint::new(KEY, PEER, BootId(1000), [ME, NodeId(3)], [9; 32]);
        let say = |number: u64| [Message::Want(Want { version: Version(number) })];
        for _ in 0..ROUNDS {
            let heard = peer.seal(ME, &say(1)).unwrap().iter().filter_map(|datagram| self.open(datagram)).count();
            let answered = self.endpoint.seal(PEER, &say(2)).unwrap().iter().filter_map(|datagram| peer.open(datagram).ok()).count();
            if heard > 0 && answered > 0 {
                return;
            }
        }
        panic!("a living peer was kept out");
    }
}
