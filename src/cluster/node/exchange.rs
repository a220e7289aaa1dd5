//! What is said to peers and what they say: heartbeats, lists of claims, acks.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::{ASSIGNMENTS_PER_DEFINITION, ENTRIES_PER_MESSAGE, member::Hearing, member::Member, tenure::Phase, tenure::Tenure, voter},
    Node,
};
use crate::model::{
    Ack, AssignmentId, BootId, Claims, Decision, Definition, Entry, GroupId, Heartbeat, Message, NodeId, Output, RefusalReason, Stance,
    Time, Version, VoteAck, Want,
};

/// Heartbeats whose answers still count at most, however fast peers make us say more.
const HEARTBEATS_ASKED: usize = 4_096;
/// How often a leaving node says goodbye.
const GOODBYES: u32 = 3;
/// Longest time between two of them.
const GOODBYE_GAP: Duration = Duration::from_millis(5);
/// The same where some node is far: what is under way on a stream goes with it when the process ends.
const FAR_GOODBYE_GAP: Duration = Duration::from_millis(200);
/// Assignments of a group that a voter accepts at most.
const LEARNED_ASSIGNMENTS: u32 = 10_000;
/// Assignments, in parts of definitions, that one peer may leave without the rest.
const LESSONS: usize = 20_000;

/// The definition of a group that our configuration does not know, as far as a peer has told it.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Lesson {
    total: u32,
    parts: BTreeMap<u32, AssignmentId>,
}

impl Node {
    pub(super) fn receive(&mut self, from: NodeId, boot: BootId, message: Message, now: Time) {
        let Some(position) = self.members.iter().position(|member| member.node == from) else { return };
        let before = self.members[position].boot();
        if !self.members[position].meet(boot) {
            return;
        }
        if before.is_some_and(|before| before != boot) {
            self.forget_told(from);
        }
        match message {
            Message::Heartbeat(heartbeat) => self.hear(position, &heartbeat, now),
            Message::Claims(claims) => {
                if self.members[position].learn(&claims) {
                    self.list_learned(position, now);
                }
            }
            // A voter names each group once, in the order of the list.
            Message::Ack(ack) if ack.refused.is_sorted_by(|a, b| a.group < b.group) => self.acked(from, from, &ack, now),
            Message::VoteAck(VoteAck { vote, ack }) if ack.refused.is_sorted_by(|a, b| a.group < b.group) => {
                self.acked(from, vote, &ack, now);
            }
            Message::Ack(_) | Message::VoteAck(_) => {}
            Message::Want(want) => {
                if want.version <= self.version {
                    self.send_list(from);
                    self.begin_heartbeat(now);
                    self.send_heartbeat(from, now);
                }
            }
            Message::Definition(definition) => self.learn_definition(from, &definition, now),
            Message::Wishes(wishes) => self.learn_wishes(&wishes, now),
            Message::Electorate(electorate) => self.electorate_told(position, electorate),
            Message::WantElectorate => self.electorate_wanted(from),
            Message::Digest(digest) => self.digest(from, &digest, now),
            Message::Roster(roster) => self.roster(from, &roster, now),
            Message::WantRoster(want) => self.roster_wanted(from, want, now),
            Message::Relayed(relayed) => self.relayed(from, &relayed, now),
            Message::WantRelayed(want) => self.list_wanted(from, want),
            Message::PassVote(part) => self.vote_offered(from, &part, now),
            Message::VoteTaken(answer) => self.vote_answered(from, &answer),
            Message::WantVote(want) if want.vote == from => self.vote_wanted(from, want.below, now),
            Message::WantVote(want) => self.vote_wanted_for(from, want.vote, now),
            Message::VoteAbsent(answer) => self.vote_absent(from, &answer, now),
        }
    }

    fn hear(&mut self, position: usize, heartbeat: &Heartbeat, now: Time) {
        let version = self.members[position].version();
        let hearing = self.members[position].hear(heartbeat, now);
        if hearing != Hearing::Stale {
            self.hear_ballot(position, now);
        }
        match hearing {
            Hearing::Stale => return,
            Hearing::ListMissing => {
                self.electorate_named(position, heartbeat.electorate);
                let to = self.members[position].node;
                self.send(to, Message::Want(Want { version: heartbeat.version }));
                self.note_fingerprint(position, heartbeat);
                self.compare_wishes(to, heartbeat.wishes, now);
                return;
            }
            Hearing::Renews => {}
        }
        self.electorate_named(position, heartbeat.electorate);
        if self.members[position].version() != version {
            self.list_learned(position, now);
        }
        self.note_fingerprint(position, heartbeat);
        self.compare_wishes(self.members[position].node, heartbeat.wishes, now);
        let member = &self.members[position];
        let (to, Some(boot)) = (member.node, member.boot()) else { return };
        if member.list().iter().any(|entry| matches!(entry.stance, Stance::Claims { .. })) {
            let electorate = Some(self.electorate.id());
            for (_, vote, voter) in self.votes.serving() {
                for ack in voter.answer(to, boot, heartbeat.tag, heartbeat.version, member.list(), now) {
                    let ack = Ack { electorate, ..ack };
                    let message = if vote == self.me { Message::Ack(ack) } else { Message::VoteAck(VoteAck { vote, ack }) };
                    self.out.push(Output::Send { to, message });
                }
            }
        }
    }

    fn note_fingerprint(&mut self, position: usize, heartbeat: &Heartbeat) {
        let member = &mut self.members[position];
        let differs = heartbeat.fingerprint != self.config.fingerprint;
        let differed = member.fingerprint.is_some_and(|known| known != self.config.fingerprint);
        member.fingerprint = Some(heartbeat.fingerprint);
        if differs != differed {
            let node = member.node;
            self.out.push(Output::Decided(Decision::Mismatch { node, differs }));
        }
    }

    /// A newer list of a peer is complete: what it no longer claims is free, what it hands over may be ours.
    pub(super) fn list_learned(&mut self, position: usize, now: Time) {
        self.list_to_pass_on(position);
        let member = &self.members[position];
        if let Some(boot) = member.boot() {
            self.votes.release_unclaimed(member.node, boot, member.version(), member.list());
        }
        self.votes.may_have_granted(member.list());
        let shown = member.between.silence;
        for tenure in &mut self.tenures {
            if let Some(Stance::HandsOver { next }) = member.stance(tenure.group)
                && next == self.me
            {
                tenure.handed_by = Some((member.node, now + shown));
                tenure.retry_at = now;
            }
        }
    }

    /// A vote answered; `from` is where it is. What counts it is what its node counts.
    fn acked(&mut self, from: NodeId, vote: NodeId, ack: &Ack, now: Time) {
        let Some(voter) = self.voter_index(vote) else { return };
        if !self.counts_vote(from, ack.electorate) {
            return;
        }
        let Some(asked) = self.asked.iter().rev().find(|(tag, _)| *tag == ack.tag).map(|(_, asked)| *asked) else { return };
        self.apply_ack(voter, asked, ack, now);
        if from != self.me && ack.refused.iter().any(|refusal| refusal.reason == RefusalReason::Unknown) {
            self.explain_groups(from, ack, now);
        }
    }

    /// Notes what a voter granted and refused for the question asked at `asked`.
    fn apply_ack(&mut self, voter: usize, asked: Time, ack: &Ack, now: Time) {
        let cap = Duration::from_micros(ack.cap_us);
        let (first, end) = (ack.first as usize, ack.first.saturating_add(ack.count) as usize);
        let whole = ack.version == self.version && first == 0 && end >= self.list.len();
        // An older list is no longer at hand: its acks count only when one ack speaks of all of it.
        if ack.version != self.version && first != 0 {
            return;
        }
        for tenure in &mut self.tenures {
            let Some(claim) = &mut tenure.claim else { continue };
            if claim.since > ack.version {
                continue;
            }
            let cap = cap.min(claim.lease_in(ack.version));
            if let Some(refusal) = ack.refused.iter().find(|refusal| refusal.group == tenure.group) {
                claim.refused(voter, refusal.reason, asked, cap, now);
                continue;
            }
            let spoken_of = whole
                || match self.list.binary_search_by_key(&tenure.group, |entry| entry.group) {
                    Ok(at) if ack.version == self.version => (first..end).contains(&at),
                    // One ack for a whole older list has no bound on refusals to fear: it was split if there were many.
                    _ => ack.version < self.version && ack.refused.len() < ENTRIES_PER_MESSAGE,
                };
            if spoken_of {
                claim.granted(voter, asked, cap);
            }
        }
    }

    /// Tells a voter what the groups consist of that it does not know.
    fn explain_groups(&mut self, to: NodeId, ack: &Ack, now: Time) {
        let config = self.config.clone();
        for refusal in ack.refused.iter().filter(|refusal| refusal.reason == RefusalReason::Unknown) {
            let Some(group) = config.group(refusal.group) else { continue };
            let mut members: Vec<_> = group.assignments.iter().map(crate::model::Assignment::id).collect();
            members.sort_unstable();
            for (part, assignments) in members.chunks(ASSIGNMENTS_PER_DEFINITION).enumerate() {
                let definition = Definition {
                    group: group.id,
                    first: voter::index(part * ASSIGNMENTS_PER_DEFINITION),
                    total: voter::index(members.len()),
                    assignments: assignments.to_vec(),
                };
                self.send(to, Message::Definition(definition));
            }
        }
        self.begin_heartbeat(now);
        self.send_heartbeat(to, now);
    }

    fn learn_definition(&mut self, from: NodeId, definition: &Definition, now: Time) {
        if !self.votes.is_voter() {
            return;
        }
        let (first, total) = (definition.first as usize, definition.total as usize);
        if self.votes.knows(definition.group)
            || definition.total > LEARNED_ASSIGNMENTS
            || first + definition.assignments.len() > total
            || definition.assignments.is_empty()
        {
            return;
        }
        let taught: usize = self.learning.range((from, GroupId(0))..=(from, GroupId(u64::MAX))).map(|(_, lesson)| lesson.parts.len()).sum();
        if taught + definition.assignments.len() > LESSONS {
            // It begins much and ends nothing. What it means it will say again.
            self.learning.retain(|(teacher, _), _| *teacher != from);
        }
        let lesson = self.learning.entry((from, definition.group)).or_default();
        if lesson.total != definition.total {
            *lesson = Lesson { total: definition.total, parts: BTreeMap::new() };
        }
        lesson.parts.extend((definition.first..).zip(definition.assignments.iter().copied()));
        if lesson.parts.len() == total {
            let members: Vec<_> = lesson.parts.values().copied().collect();
            self.learning.remove(&(from, definition.group));
            if GroupId::of(&members) == definition.group {
                self.votes.learn(from, definition.group, &members, now);
            }
        }
    }

    /// Says what there is to say: the new list when it changed, and a heartbeat when one is due or something cannot wait.
    /// Returns whom to.
    pub(super) fn publish(&mut self, now: Time) -> Vec<NodeId> {
        let changed = std::mem::take(&mut self.list_changed);
        let ask_now = std::mem::take(&mut self.ask_now);
        let due = now >= self.next_heartbeat;
        if !(changed || ask_now || due) {
            return Vec::new();
        }
        if due {
            let interval = self.own.interval;
            let next = self.next_heartbeat + interval;
            self.next_heartbeat = if next > now { next } else { now + interval };
        }
        if changed {
            self.renew_list(now);
        }
        let goodbye = self.leaving && self.goodbyes < GOODBYES && self.is_clear() && self.votes_settled(now);
        let at_their_pace = if due { self.due_peers(now) } else { Vec::new() };
        let at_once = changed || ask_now || goodbye;
        let mut peers: Vec<NodeId> = if at_once { self.members.iter().map(|member| member.node).collect() } else { at_their_pace };
        peers.retain(|peer| self.talks_to(*peer));
        self.begin_heartbeat(now);
        for peer in &peers {
            if changed || goodbye {
                self.send_list(*peer);
            }
            self.send_heartbeat(*peer, now);
        }
        self.answer_ourselves(now);
        if goodbye {
            // Nobody asks again for a goodbye that got lost, so it is said more than once, in datagrams apart.
            self.goodbyes += 1;
            let gap = if self.alike { (self.own.interval / 10).min(GOODBYE_GAP) } else { FAR_GOODBYE_GAP };
            self.next_heartbeat = now + gap;
            if self.goodbyes == GOODBYES {
                self.out.push(Output::Left);
            }
        }
        peers
    }

    fn renew_list(&mut self, now: Time) {
        self.version = self.version.next();
        let mut list: Vec<Entry> = self
            .tenures
            .iter()
            .filter(|tenure| tenure.leased)
            .filter_map(|tenure| {
                let stance = if let Some(claim) = &tenure.claim {
                    Stance::Claims { lease_us: voter::micros(claim.lease), running: tenure.phase == Phase::Running }
                } else if let Some((next, _)) = tenure.handing.filter(|(_, end)| *end > now) {
                    Stance::HandsOver { next }
                } else if tenure.unable {
                    Stance::Unable
                } else {
                    return None;
                };
                Some(Entry { group: tenure.group, stance })
            })
            .collect();
        for (group, lease) in self.tenures.iter().filter_map(Tenure::inherits).flat_map(|inherited| &inherited.groups) {
            if !list.iter().any(|entry| entry.group == *group) {
                list.push(Entry { group: *group, stance: Stance::Claims { lease_us: voter::micros(*lease), running: true } });
            }
        }
        list.sort_unstable_by_key(|entry| entry.group);
        self.list = list;
        self.votes.release_unclaimed(self.me, self.boot, self.version, &self.list);
    }

    /// The version that the list will have once the changes of this turn are published.
    pub(super) fn next_version(&self) -> Version {
        self.version.next()
    }

    /// Draws the next tag. Leases are timed from here: before the question leaves.
    fn begin_heartbeat(&mut self, now: Time) {
        self.tag = self.tag.next();
        let longest = self.longest_lease();
        while self.asked.len() >= HEARTBEATS_ASKED || self.asked.front().is_some_and(|(_, asked)| *asked + longest < now) {
            self.asked.pop_front();
        }
        self.asked.push_back((self.tag, now));
    }

    fn send_heartbeat(&mut self, to: NodeId, now: Time) {
        let hears_you = self.member(to).is_some_and(|member| self.is_alive(member, now));
        let heartbeat = Heartbeat {
            tag: self.tag,
            version: self.version,
            entries: voter::index(self.list.len()),
            state: self.state(now),
            hears_you,
            fingerprint: self.config.fingerprint,
            wishes: Some(self.wishes.digest()),
            electorate: Some(self.electorate.id()),
            ballot: Some(self.ballot(now)),
        };
        self.send(to, Message::Heartbeat(heartbeat));
        if let Some(want) = self.want_vote(to) {
            self.send(to, want);
        }
    }

    fn send_list(&mut self, to: NodeId) {
        let (version, total) = (self.version, voter::index(self.list.len()));
        let parts: Vec<Claims> = self
            .list
            .chunks(ENTRIES_PER_MESSAGE)
            .enumerate()
            .map(|(part, entries)| Claims { version, first: voter::index(part * ENTRIES_PER_MESSAGE), total, entries: entries.to_vec() })
            .collect();
        for part in parts {
            self.send(to, Message::Claims(part));
        }
    }

    /// The votes here, by the same rules.
    fn answer_ourselves(&mut self, now: Time) {
        if self.list.iter().any(|entry| matches!(entry.stance, Stance::Claims { .. })) {
            let (me, boot, tag, version, list) = (self.me, self.boot, self.tag, self.version, &self.list);
            let answer = |(_, vote, voter): (_, NodeId, &mut voter::Voter)| (vote, voter.answer(me, boot, tag, version, list, now));
            let answers: Vec<(NodeId, Vec<Ack>)> = self.votes.serving().map(answer).collect();
            for (vote, acks) in answers {
                for ack in acks {
                    self.acked(me, vote, &ack, now);
                }
            }
        }
    }

    pub(super) fn send(&mut self, to: NodeId, message: Message) {
        self.out.push(Output::Send { to, message });
    }
}

/// Whether a peer's newest list claims a group.
pub(super) fn claims(member: &Member, group: GroupId) -> bool {
    matches!(member.stance(group), Some(Stance::Claims { .. }))
}
