//! What waits for a stream to take it. A datagram socket loses what it cannot send; a stream would keep it, and bring it late.
//! Late heartbeats are of no use, so here too what is newer takes the place of what it makes useless.

use std::collections::VecDeque;

use crate::model::Message;

/// Turns that wait at most; beyond that the oldest go.
const LONGEST: usize = 64;

/// What a later turn of the same kind makes useless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Heartbeats: only the newest renews anything, a lease being timed from when its heartbeat was begun.
    Heartbeat,
    /// Answers to heartbeats: the same, seen from the voter.
    Answer,
    /// A mere echo, which every datagram carries.
    Echo,
    /// Lists, questions, definitions: each says something of its own.
    News,
}

/// The datagrams of one turn of the core for one peer.
#[derive(Debug)]
pub struct Turn {
    kind: Kind,
    /// Sealed, in order.
    pub datagrams: Vec<Vec<u8>>,
}

impl Turn {
    /// These messages, sealed as these datagrams.
    pub fn of(messages: &[Message], datagrams: Vec<Vec<u8>>) -> Self {
        let kind = match messages {
            [] => Kind::Echo,
            _ if messages.iter().all(|message| matches!(message, Message::Heartbeat(_) | Message::Digest(_))) => Kind::Heartbeat,
            _ if messages.iter().all(|message| matches!(message, Message::Ack(_))) => Kind::Answer,
            _ => Kind::News,
        };
        Self { kind, datagrams }
    }
}

/// What waits, oldest first.
#[derive(Debug, Default)]
pub struct Queue {
    turns: VecDeque<Turn>,
}

impl Queue {
    /// Puts a turn at the end, in place of the older ones that it makes useless.
    pub fn put(&mut self, turn: Turn) {
        if turn.kind != Kind::News {
            self.turns.retain(|older| older.kind != turn.kind);
        }
        if self.turns.len() == LONGEST {
            self.turns.pop_front();
        }
        self.turns.push_back(turn);
    }

    /// The oldest.
    pub fn take(&mut self) -> Option<Turn> {
        self.turns.pop_front()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// A new connection begins with the newest heartbeat: what else had waited for one is asked for again where it matters.
    pub fn renew(&mut self) {
        self.turns.retain(|turn| turn.kind == Kind::Heartbeat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ack, Fingerprint, Heartbeat, NodeState, Tag, Version, Want};

    fn beat(tag: u64) -> Heartbeat {
        let (version, state, fingerprint) = (Version(0), NodeState::default(), Fingerprint(0));
        Heartbeat { tag: Tag(tag), version, entries: 0, state, hears_you: true, fingerprint, wishes: None, electorate: None, ballot: None }
    }

    fn heartbeat(tag: u64) -> Turn {
        Turn::of(&[Message::Heartbeat(beat(tag))], vec![tag.to_le_bytes().to_vec()])
    }

    fn ack(tag: u64) -> Turn {
        let ack = Ack { tag: Tag(tag), version: Version(0), first: 0, count: 0, cap_us: 0, refused: Vec::new(), electorate: None };
        Turn::of(&[Message::Ack(ack)], vec![tag.to_le_bytes().to_vec()])
    }

    fn news(number: u64) -> Turn {
        Turn::of(&[Message::Want(Want { version: Version(number) })], vec![number.to_le_bytes().to_vec()])
    }

    fn left(mut queue: Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.take()).map(|turn| u64::from_le_bytes(*turn.datagrams[0].first_chunk().unwrap())).collect()
    }

    #[test]
    fn after_a_stall_only_the_newest_heartbeat_and_answer_are_sent() {
        let mut queue = Queue::default();
        for tag in 0..1000 {
            queue.put(heartbeat(tag));
            queue.put(ack(10_000 + tag));
            if tag == 500 {
                queue.put(news(77));
            }
        }
        assert_eq!(left(queue), [77, 999, 10_999]);
    }

    #[test]
    fn a_heartbeat_that_came_with_a_list_stays_with_it() {
        let mut queue = Queue::default();
        let want = Message::Want(Want { version: Version(9) });
        queue.put(Turn::of(&[want, Message::Heartbeat(beat(1))], vec![1_u64.to_le_bytes().to_vec()]));
        queue.put(heartbeat(2));
        assert_eq!(left(queue), [1, 2]);
    }

    #[test]
    fn it_never_holds_more_than_its_limit_and_keeps_the_newest() {
        let mut queue = Queue::default();
        (0..10_000).for_each(|number| queue.put(news(number)));
        assert_eq!(left(queue), (10_000 - LONGEST as u64..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_new_connection_begins_with_the_newest_heartbeat_alone() {
        let mut queue = Queue::default();
        queue.put(news(1));
        queue.put(heartbeat(2));
        queue.put(ack(3));
        queue.renew();
        assert_eq!(left(queue), [2]);
    }
}
