//! One case that chance hardly ever makes: an answer meant for an earlier incarnation reaches the present one.

use std::time::Duration;

use drcm::{
    cluster::{Node, Start},
    model::{Ack, Action, BootId, Event, Message, NodeId, NodeState, Output, Time},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::setup::Setup;

/// A node and the answers that it would get.
struct Asker {
    node: Node,
    now: Time,
    /// Tag, list and number of entries of each heartbeat that claims something.
    asked: Vec<Ack>,
    started: bool,
}

impl Asker {
    fn new(setup: &Setup, boot: u64, now: Time) -> Self {
        let node = Node::new(setup.configs[0][0].clone(), setup.nodes[0], BootId(boot), Start::default(), now);
        Self { node, now, asked: Vec::new(), started: false }
    }

    fn handle(&mut self, event: Event) {
        for output in self.node.handle(event, self.now) {
            match output {
                Output::Act(Action::Stop { group, generation, .. }) => {
                    self.handle(Event::Done { group, generation, outcome: drcm::model::Outcome::Stopped });
                }
                Output::Act(Action::Start { until, .. }) => self.started |= until.is_some(),
                Output::Send { message: Message::Heartbeat(heartbeat), .. } if heartbeat.entries > 0 => self.asked.push(Ack {
                    tag: heartbeat.tag,
                    version: heartbeat.version,
                    first: 0,
                    count: heartbeat.entries,
                    cap_us: 60_000_000,
                    refused: Vec::new(),
                    electorate: None,
                }),
                _ => {}
            }
        }
    }

    /// Lives for a while among peers that are heard but answer nothing.
    fn live(&mut self, setup: &Setup, span: Duration, tag: &mut u64) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + setup.timings[0].interval / 2;
            *tag += 1;
            for peer in &setup.nodes[1..] {
                let message = Message::Heartbeat(drcm::model::Heartbeat {
                    tag: drcm::model::Tag(*tag),
                    version: drcm::model::Version(0),
                    entries: 0,
                    state: NodeState { eligible: true, left: false, quorate: true, standby: false },
                    hears_you: true,
                    fingerprint: setup.configs[0][0].fingerprint,
                    wishes: None,
                    electorate: None,
                    ballot: None,
                });
                self.handle(Event::Received { from: *peer, boot: BootId(7), message });
            }
            self.handle(Event::Timer);
        }
    }

    fn hear(&mut self, from: NodeId, ack: Ack) {
        self.handle(Event::Received { from, boot: BootId(7), message: Message::Ack(ack) });
    }
}

/// A setup of three nodes or more of which the first is home of an address with a backup.
fn setup() -> Setup {
    (1..1_000)
        .map(|seed| Setup::of(seed, 0, &mut ChaCha8Rng::seed_from_u64(seed)))
        .find(|setup| {
            let home = setup.groups.iter().any(|group| group.leased && group.candidates[0].first() == Some(&0));
            setup.count() >= 3 && home && setup.configs[0][0].nodes[0].active
        })
        .expect("one of many setups is like that")
}

#[test]
fn an_answer_to_an_earlier_incarnation_grants_nothing() {
    let setup = setup();
    let span = setup.longest_lease() * 2;
    let (mut tag, start) = (0, Time(1_000_000_000));
    let mut earlier = Asker::new(&setup, 1 << 33 | 5, start);
    earlier.live(&setup, span, &mut tag);
    assert!(!earlier.asked.is_empty(), "it asked");
    let mut present = Asker::new(&setup, 2 << 33 | 5, earlier.now);
    present.live(&setup, span, &mut tag);
    assert!(!present.asked.is_empty(), "it asked");
    for ack in earlier.asked {
        for voter in &setup.nodes[1..] {
            present.hear(*voter, ack.clone());
        }
    }
    assert!(!present.started, "it took an answer to its earlier life for its own");
    let last = present.asked.last().cloned().expect("it asked");
    for voter in &setup.nodes[1..] {
        present.hear(*voter, last.clone());
    }
    assert!(present.started, "an answer to itself counts");
}
