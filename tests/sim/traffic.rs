//! What passes between the machines: what cores say goes into datagrams, datagrams travel, and what is in them is heard.

use drcm::model::{Event, Message, NodeId, VoteAck};

use super::{
    post::Slot,
    queue::What,
    trace::brief,
    world::{Sabotage, Trace, World},
};

impl World {
    /// A core says something. The checker hears it first.
    pub fn send(&mut self, node: usize, to: NodeId, message: Message) {
        let Some(receiver) = self.hosts.iter().position(|host| host.id == to) else {
            self.fail(format!("node {node} sends to {to}, which is no node"));
            return;
        };
        // What its version does not know is never said.
        let Some(message) = self.hosts[node].speech.knows(message) else { return };
        let host = &mut self.hosts[node];
        let checked = match &message {
            Message::Heartbeat(heartbeat) => {
                host.tag = heartbeat.tag;
                self.checker.heartbeat(node, host.boot, heartbeat, &host.clock, self.now)
            }
            Message::Claims(claims) => self.checker.claims(node, host.boot, claims, &host.clock, self.now),
            Message::Ack(ack) => match self.post.proven(node, receiver) {
                Some(boot) => self.checker.ack((node, node), receiver, boot, ack, &host.clock, self.now),
                None => Err(format!("node {node} answers node {receiver}, which it has not heard")),
            },
            Message::Relayed(relayed) => match self.hosts.iter().position(|host| host.id == relayed.node) {
                Some(of) => self.checker.relayed(node, of, relayed),
                None => Err(format!("node {node} relays a list of {}, which is no node", relayed.node)),
            },
            Message::VoteAck(VoteAck { vote, ack }) => match (self.post.proven(node, receiver), self.checker.votes.vote(*vote)) {
                (Some(boot), Some(vote)) => self.checker.ack((vote, node), receiver, boot, ack, &host.clock, self.now),
                _ => Err(format!("node {node} answers node {receiver}, which it has not heard, or with a vote that is none")),
            },
            Message::PassVote(passed) => match self.checker.votes.vote(passed.vote) {
                Some(vote) => {
                    self.checker.passes(node, host.boot, vote, passed, &host.clock, self.now);
                    Ok(())
                }
                None => Err(format!("node {node} passes on a vote that is none")),
            },
            Message::Want(_)
            | Message::Definition(_)
            | Message::Wishes(_)
            | Message::Digest(_)
            | Message::Roster(_)
            | Message::WantRoster(_)
            | Message::WantRelayed(_)
            | Message::Electorate(_)
            | Message::WantElectorate
            | Message::VoteTaken(_)
            | Message::WantVote(_)
            | Message::VoteAbsent(_) => Ok(()),
        };
        self.hold(checked);
        self.outgoing[receiver].push(message);
    }

    /// What was said to one peer while one event was handled shares a datagram.
    pub fn flush(&mut self, node: usize) {
        let mut previous: Option<(usize, Slot)> = None;
        let mut any = false;
        for to in 0..self.outgoing.len() {
            if self.outgoing[to].is_empty() {
                continue;
            }
            any = true;
            if self.trace != Trace::Off {
                let said: Vec<String> = self.outgoing[to].iter().map(brief).collect();
                let line = format!("n{node} -> n{to}: {}", said.join("; "));
                self.log(|| line);
            }
            if self.post.is_sealed() {
                let messages = std::mem::take(&mut self.outgoing[to]);
                self.seal(node, to, &messages);
                continue;
            }
            // Mostly the same is said to all: it is written once.
            let shared = previous.filter(|(before, _)| self.outgoing[*before] == self.outgoing[to]).map(|(_, slot)| slot);
            let slot = match shared {
                Some(slot) => slot,
                None => self.post.pack(node, self.hosts[node].boot, self.hosts[node].speech, &self.outgoing[to], self.now),
            };
            previous = Some((to, slot));
            self.travels(node, to, slot);
        }
        if any {
            self.post.sweep();
            self.outgoing.iter_mut().for_each(Vec::clear);
        }
    }

    /// A datagram reaches a machine.
    pub fn arrives(&mut self, to: usize, slot: Slot) {
        let (from, sent) = self.post.sent(slot);
        let host = &mut self.hosts[to];
        if host.core.is_none() || self.network.has_lost(from, to, sent) {
            self.post.done(slot);
            return;
        }
        if host.paused {
            if host.inbox.len() < self.setup.socket {
                host.inbox.push_back(slot);
            } else {
                self.stats.overflows += 1;
                self.post.done(slot);
            }
            return;
        }
        let back = self.network.longest_trip();
        match self.post.open(to, slot, self.now, back) {
            Ok(opened) => {
                let from = self.hosts[opened.from].id;
                if let Some((boot, messages)) = opened.content {
                    for message in messages {
                        let Some(mut message) = self.hosts[to].speech.knows(message) else { continue };
                        // One of them may have ended the daemon.
                        if self.hosts[to].core.is_none() {
                            break;
                        }
                        if self.tamper(to, &mut message) {
                            self.dispatch(to, Event::Received { from, boot, message });
                        }
                    }
                }
                if opened.echo && self.hosts[to].core.is_some() {
                    self.seal(to, opened.from, &[]);
                    self.post.sweep();
                }
            }
            Err(what) => self.fail(what),
        }
        self.post.done(slot);
    }

    fn seal(&mut self, from: usize, to: usize, messages: &[Message]) {
        match self.post.seal(from, to, self.hosts[from].boot, messages, self.now) {
            Ok(slots) => slots.into_iter().for_each(|slot| self.travels(from, to, slot)),
            Err(what) => self.fail(what),
        }
    }

    fn travels(&mut self, from: usize, to: usize, slot: Slot) {
        self.stats.datagrams += 1;
        let bytes = self.post.bytes(slot);
        self.load[from].sent += 1;
        self.load[from].sent_bytes += bytes;
        let fate = self.network.send(from, to, self.now);
        for travel in fate.arrivals.into_iter().flatten() {
            self.post.again(slot);
            self.load[to].received += 1;
            self.load[to].received_bytes += bytes;
            self.queue.push(self.now + travel, What::Deliver { to: to as u8, slot });
        }
    }

    /// Puts the mistake in, if it is one of messages; false when the message is to be lost.
    fn tamper(&self, to: usize, message: &mut Message) -> bool {
        match (self.sabotage, message) {
            (Sabotage::NewestTag, Message::Ack(ack)) => ack.tag = self.hosts[to].tag,
            (Sabotage::NoRefusals, Message::Ack(ack)) => ack.refused.clear(),
            (Sabotage::NewestTag, Message::VoteAck(answer)) => answer.ack.tag = self.hosts[to].tag,
            (Sabotage::NoRefusals, Message::VoteAck(answer)) => answer.ack.refused.clear(),
            (Sabotage::NoLists, Message::Claims(_)) => return false,
            _ => {}
        }
        true
    }
}
