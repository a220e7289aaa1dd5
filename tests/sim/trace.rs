//! What a run can tell of itself, in lines: for the report of a failure and for a replay.

use std::fmt::Write;

use drcm::model::{Event, Message, Outcome, Time};

use super::world::{Trace, World};

/// Lines that are kept for the report of a failure.
const TRACE_LINES: usize = 200;

impl World {
    /// Adds a line to the trace, if there is one.
    pub fn log(&mut self, line: impl FnOnce() -> String) {
        if self.trace == Trace::Off {
            return;
        }
        let line = format!("{:>13.6} {}", self.now as f64 / 1e9, line());
        if self.trace == Trace::Print {
            println!("{line}");
        }
        if self.lines.len() == TRACE_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The last lines of the trace.
    pub fn tail(&self) -> String {
        self.lines.iter().fold(String::new(), |mut text, line| {
            writeln!(text, "{line}").expect("writing to a string succeeds");
            text
        })
    }

    /// One event as a line.
    pub fn describe(&self, node: usize, now: Time, event: &Event) -> String {
        match event {
            Event::Received { from, boot: _, message } => {
                let from = self.hosts.iter().position(|host| host.id == *from).map_or_else(|| from.to_string(), |from| format!("n{from}"));
                format!("n{node} [{now:?}] hears {from}: {}", brief(message))
            }
            Event::Done { group, generation, outcome } => {
                let word = match outcome {
                    Outcome::Started => "started",
                    Outcome::StartFailed => "failed to start",
                    Outcome::Stopped => "stopped",
                };
                format!("n{node} [{now:?}] {word} {group} ({})", generation.0)
            }
            Event::Timer | Event::Fitness { .. } | Event::Order(_) | Event::Wished(_) | Event::Alone { .. } | Event::VotesKept { .. } => {
                format!("n{node} [{now:?}] {event:?}")
            }
        }
    }
}

/// One message in a few words.
pub fn brief(message: &Message) -> String {
    match message {
        Message::Heartbeat(heartbeat) => {
            let state = heartbeat.state;
            let words = [
                (state.eligible, "eligible"),
                (state.quorate, "quorate"),
                (state.standby, "standby"),
                (state.left, "left"),
                (heartbeat.hears_you, "hears you"),
            ];
            let words: Vec<&str> = words.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
            format!("heartbeat {} list {} of {} ({})", heartbeat.tag.0, heartbeat.version.0, heartbeat.entries, words.join(", "))
        }
        Message::Claims(claims) => {
            let entries: Vec<String> = claims.entries.iter().map(|entry| format!("{} {:?}", entry.group, entry.stance)).collect();
            format!("list {}: {}", claims.version.0, entries.join(", "))
        }
        Message::Ack(ack) => {
            let grants = ack.count as usize - ack.refused.len();
            format!("ack {} of list {}: {grants} granted, cap {} us, refused {:?}", ack.tag.0, ack.version.0, ack.cap_us, ack.refused)
        }
        Message::Want(want) => format!("wants list {}", want.version.0),
        Message::Wishes(wishes) => format!("{wishes:?}"),
        Message::Definition(_)
        | Message::Electorate(_)
        | Message::WantElectorate
        | Message::Digest(_)
        | Message::Roster(_)
        | Message::WantRoster(_)
        | Message::WantRelayed(_)
        | Message::PassVote(_)
        | Message::VoteTaken(_)
        | Message::WantVote(_)
        | Message::VoteAbsent(_) => {
            format!("{message:?}")
        }
        Message::Relayed(relayed) => format!("of {}: {}", relayed.node, brief(&Message::Claims(relayed.claims.clone()))),
        Message::VoteAck(answer) => format!("vote of {}: {}", answer.vote, brief(&Message::Ack(answer.ack.clone()))),
    }
}
