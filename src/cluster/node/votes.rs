//! The way of a vote from node to node: lent on a clean leave, given back to a home that returns, made anew when nobody has it.

use std::time::Duration;

use super::{
    super::{
        ASSIGNMENTS_PER_DEFINITION,
        member::Member,
        voter,
        votes::{Place, Search},
    },
    Node,
};
use crate::model::{
    AssignmentId, Ballot, Decision, Definition, GroupId, Message, NodeId, Output, PassVote, Time, VoteAbsent, VoteNews, VoteNumber,
    VoteTaken, Wake, WantVote,
};

/// Most grants of a vote in one message.
const GRANTS_PER_MESSAGE: usize = 24;
/// Time between two tries to pass a vote on.
const PASS_AGAIN: Duration = Duration::from_millis(20);
/// Longest that a leaving node waits for its votes to arrive.
const LONGEST_PASSING: Duration = Duration::from_secs(3);
/// Most votes that a heartbeat names.
const VOTES_PER_HEARTBEAT: usize = 30;

impl Node {
    /// What heartbeats say of votes.
    pub(super) fn ballot(&self, now: Time) -> Ballot {
        let mut votes = self.votes.held();
        votes.truncate(VOTES_PER_HEARTBEAT);
        let takes = self.votes.takes(self.me) && self.votes.is_voter() && !self.leaving && self.votes.listens_until <= now;
        Ballot { takes, lent: self.votes.is_lent(), votes }
    }

    /// Goes with each heartbeat while our own vote is elsewhere.
    pub(super) fn want_vote(&self, to: NodeId) -> Option<Message> {
        let away = self.votes.own().is_some_and(|slot| matches!(slot.place, Place::Away { .. }) || self.votes.strayed.is_some());
        let below = if self.votes.search.quiet_since.is_some() { self.votes.search.below } else { VoteNumber::FIRST };
        (away && !self.leaving && self.voters.contains(&to)).then_some(Message::WantVote(WantVote { vote: self.me, below }))
    }

    /// What a peer says of the votes it has.
    pub(super) fn hear_ballot(&mut self, position: usize, now: Time) {
        let member = &self.members[position];
        let (from, Some(boot), Some(ballot)) = (member.node, member.boot(), member.ballot().cloned()) else { return };
        if !self.votes.lends {
            return;
        }
        for held in ballot.votes {
            let Some(at) = self.votes.position(held.vote) else { continue };
            let (longest, me) = (self.votes.longest, self.me);
            let slot = self.votes.slot(at);
            let home = held.vote == from;
            // A number is offered to one node only, but its voter forgot that with its notes and offered it again.
            let twice = held.number == slot.number;
            let ours = held.vote == me || (!home && me < from);
            slot.heard = slot.heard.max(held.number);
            match &mut slot.place {
                Place::Passing { .. } if held.number >= slot.number => {
                    // It has arrived, and may have gone further, although nobody said so.
                    self.votes.drop(at, from, held.number);
                    self.out.push(Output::Decided(Decision::Vote { vote: held.vote, news: VoteNews::Passed { to: from } }));
                }
                Place::Here(_) if held.number > slot.number || (twice && !ours) => {
                    self.votes.drop(at, from, held.number);
                    self.out.push(Output::Decided(Decision::Vote { vote: held.vote, news: VoteNews::Overtaken { by: from } }));
                }
                Place::Here(voter) if twice || (held.number < slot.number && (slot.noted || (home && slot.giver_boot != Some(boot)))) => {
                    // Without its notes its voter takes it for its own, or has lent it again, until it hears of this. What it grants meanwhile must
                    // have run out.
                    let until = now + longest + longest / 40 + Duration::from_millis(2);
                    if voter.silent_until() <= now {
                        self.out.push(Output::Decided(Decision::Vote { vote: held.vote, news: VoteNews::Doubted }));
                    }
                    voter.silence(until);
                }
                Place::Away { .. } if home && held.number < slot.number.max(slot.heard) => {
                    // It has lost its notes: were it to lend under a number of old, nobody would take that for new.
                    let known = slot.number.max(slot.heard);
                    let absent = VoteAbsent { below: VoteNumber::FIRST, known, longest_us: voter::micros(self.votes.longest) };
                    self.send(from, Message::VoteAbsent(absent));
                }
                Place::Here(_) | Place::Away { .. } | Place::Passing { .. } => {}
            }
        }
    }

    /// A vote is offered to us.
    pub(super) fn vote_offered(&mut self, from: NodeId, part: &PassVote, now: Time) {
        let Some(at) = self.votes.position(part.vote).filter(|_| self.votes.takes(part.vote)) else { return };
        let listening = now < self.votes.listens_until;
        let slot = self.votes.slot(at);
        if part.number <= slot.number {
            self.answer_offer(from, at, part.number);
        } else if listening || (part.number <= slot.heard && from != part.vote) {
            // It was here, or may have been, in a life that is forgotten. That cannot be answered: it was taken, and is not here.
        } else if self.leaving || part.number <= slot.heard {
            // Its own voter, without its notes, lends it under a number of old: it is told of the later one.
            if !matches!(slot.place, Place::Here(_)) {
                slot.place = Place::Away { with: None };
                slot.number = part.number.max(slot.heard);
                slot.tell = Some((from, part.number));
                self.votes.change(at);
            }
        } else if self.votes.assemble(at, part, now) {
            self.votes.accept(at, from, now);
            self.withhold_strayed_vote();
            let giver_boot = self.member(part.vote).and_then(Member::boot);
            self.votes.slot(at).giver_boot = giver_boot;
            self.release_by_lists();
            self.out.push(Output::Decided(Decision::Vote { vote: part.vote, news: VoteNews::Taken { from } }));
        }
    }

    /// What the newest lists no longer claim.
    fn release_by_lists(&mut self) {
        for member in &self.members {
            if let Some(boot) = member.boot() {
                self.votes.release_unclaimed(member.node, boot, member.version(), member.list());
            }
        }
        self.votes.release_unclaimed(self.me, self.boot, self.version, &self.list);
    }

    fn answer_offer(&mut self, to: NodeId, at: usize, number: VoteNumber) {
        let slot = &self.votes.slots()[at];
        if self.votes.is_kept(slot) {
            let taken = VoteTaken { vote: slot.vote, number, taken: number <= slot.accepted, known: slot.number };
            self.send(to, Message::VoteTaken(taken));
        }
    }

    /// An offer of ours was answered.
    pub(super) fn vote_answered(&mut self, from: NodeId, answer: &VoteTaken) {
        let Some(at) = self.votes.position(answer.vote) else { return };
        let slot = self.votes.slot(at);
        if !matches!(slot.place, Place::Passing { to, .. } if to == from) || slot.number != answer.number {
            return;
        }
        if answer.taken {
            slot.place = Place::Away { with: Some(from) };
            self.out.push(Output::Decided(Decision::Vote { vote: answer.vote, news: VoteNews::Passed { to: from } }));
        } else if from == answer.vote && answer.known > answer.number {
            // Its own voter knows of a later place: what was noted here was of old.
            self.votes.drop(at, from, answer.known);
            self.out.push(Output::Decided(Decision::Vote { vote: answer.vote, news: VoteNews::Overtaken { by: from } }));
        } else {
            self.votes.take_back(at, answer.known);
            self.release_by_lists();
        }
    }

    /// A voter asks for its own vote.
    pub(super) fn vote_wanted(&mut self, from: NodeId, below: VoteNumber, now: Time) {
        let Some(at) = self.votes.position(from).filter(|_| self.votes.lends) else { return };
        let fits = self.takes_votes(from, now);
        let longest_us = voter::micros(self.votes.longest);
        let kept = self.votes.is_kept(&self.votes.slots()[at]);
        let slot = self.votes.slot(at);
        match slot.place {
            Place::Here(_) => {
                if fits && kept {
                    self.votes.pass(at, from, now);
                }
            }
            Place::Passing { .. } => {}
            Place::Away { .. } if below == VoteNumber::FIRST => self.ask_in_its_stead(from, now),
            Place::Away { .. } if !slot.number.rules_out_below(below) => {
                slot.number = slot.number.ruling_out_below(below);
                self.votes.change(at);
            }
            Place::Away { .. } => {
                if kept {
                    let absent = VoteAbsent { below, known: slot.number, longest_us };
                    self.send(from, Message::VoteAbsent(absent));
                }
            }
        }
    }

    /// A voter may not hear the one that has its vote, but we do: it can come to us, and on to its voter.
    fn ask_in_its_stead(&mut self, voter: NodeId, now: Time) {
        let has = |member: &&Member| member.node != voter && member.has_vote(voter) && self.is_in_touch(member, now);
        let Some(other) = self.members.iter().find(has).map(|member| member.node).filter(|_| self.takes_votes(voter, now)) else { return };
        if !self.leaving {
            self.send(other, Message::WantVote(WantVote { vote: voter, below: VoteNumber::FIRST }));
        }
    }

    /// A node asks for another's vote, to give it back there: it gets it when that other is not in touch with us.
    pub(super) fn vote_wanted_for(&mut self, from: NodeId, vote: NodeId, now: Time) {
        let Some(at) = self.votes.position(vote).filter(|_| self.votes.lends && vote != self.me) else { return };
        let slot = &self.votes.slots()[at];
        let here = matches!(slot.place, Place::Here(_)) && self.votes.is_kept(slot);
        if here && !self.takes_votes(vote, now) && self.can_have(from, vote) && self.takes_votes(from, now) {
            self.votes.pass(at, from, now);
        }
    }

    /// A node knows a vote: its voter is one by that node's configuration.
    fn can_have(&self, node: NodeId, vote: NodeId) -> bool {
        let record = self.member(node).and_then(|member| member.electorate.as_ref());
        record.is_some_and(|(_, record)| record.voters.contains(&vote))
    }

    /// A node does not have our own vote.
    pub(super) fn vote_absent(&mut self, from: NodeId, answer: &VoteAbsent, now: Time) {
        let Some(at) = self.votes.position(self.me).filter(|_| self.votes.lends && self.voters.contains(&from)) else { return };
        let below = self.votes.search.below;
        let slot = self.votes.slot(at);
        match slot.place {
            Place::Here(_) => self.votes.remember(answer.known),
            Place::Away { .. } if answer.below == below && below > VoteNumber::FIRST => {
                self.votes.search.promised.insert(from, Duration::from_micros(answer.longest_us));
                self.make_anew_when_promised(now);
            }
            Place::Away { .. } | Place::Passing { .. } => {}
        }
    }

    fn make_anew_when_promised(&mut self, now: Time) {
        let all = self.voters.iter().all(|voter| *voter == self.me || self.votes.search.promised.contains_key(voter));
        if all && !self.leaving && self.electorate.is_settled() {
            self.votes.make_anew(now);
            self.out.push(Output::Decided(Decision::Vote { vote: self.me, news: VoteNews::MadeAnew }));
        }
    }

    /// Notes are on disk.
    pub(super) fn votes_kept(&mut self, serial: u64) {
        self.votes.kept(serial);
        for at in 0..self.votes.slots().len() {
            let slot = &self.votes.slots()[at];
            if let Some((to, number)) = slot.tell.filter(|_| self.votes.is_kept(slot)) {
                self.votes.slot(at).tell = None;
                self.answer_offer(to, at, number);
                // What it answers with has changed: do not let peers wait for the next heartbeat.
                self.ask_now = true;
            }
        }
    }

    /// A peer that would take a vote.
    fn takes_votes(&self, node: NodeId, now: Time) -> bool {
        self.voters.contains(&node)
            && self.member(node).is_some_and(|member| self.is_in_touch(member, now) && member.ballot().is_some_and(|ballot| ballot.takes))
    }

    /// Who gets a vote when this node leaves: the voter it belongs to, or the next one in order.
    fn heir_of_vote(&self, vote: NodeId, refused_by: &[NodeId], now: Time) -> Option<NodeId> {
        let here = self.voter_index(self.me)?;
        let after = (1..self.voters.len()).map(|step| self.voters[(here + step) % self.voters.len()]);
        // While voters are being changed, not all count the same ones, and some may be about to go; and a version that knows nothing of
        // lent votes cannot say that it has not got one that is lost: then only a voter itself gets its vote.
        let knows = |member: &Member| member.boot().is_none() || member.ballot().is_some();
        let others = !self.electorate.is_changing() && self.members.iter().all(|member| self.counts_no_other(member) && knows(member));
        std::iter::once(vote)
            .chain(after.filter(|_| others))
            .find(|node| *node != self.me && !refused_by.contains(node) && self.takes_votes(*node, now) && self.can_have(*node, vote))
    }

    /// A leaving node has nothing more to do for its votes.
    pub(super) fn votes_settled(&self, now: Time) -> bool {
        !self.votes.lends
            || self.votes.leave_by.is_some_and(|by| by <= now)
            || self.votes.slots().iter().all(|slot| {
                slot.tell.is_none()
                    && match &slot.place {
                        Place::Away { .. } => true,
                        Place::Here(_) => self.heir_of_vote(slot.vote, &slot.refused_by, now).is_none(),
                        Place::Passing { .. } => false,
                    }
            })
    }

    /// The last step of a turn: what is to be passed on, what is to be noted, whether our own vote is missing.
    pub(super) fn tend_votes(&mut self, now: Time) {
        if self.votes.lends && self.votes.is_voter() {
            self.move_votes(now);
        }
        if let Some(notes) = self.votes.notes() {
            self.out.push(Output::KeepVotes(notes));
        }
    }

    fn move_votes(&mut self, now: Time) {
        if self.leaving && self.is_clear() && !self.list_changed {
            self.lend_votes(now);
        }
        self.search_vote(now);
        for at in 0..self.votes.slots().len() {
            self.send_vote(at, now);
        }
    }

    fn lend_votes(&mut self, now: Time) {
        let patience = self.lease().min(LONGEST_PASSING);
        let by = *self.votes.leave_by.get_or_insert(now + patience);
        self.look_again(by, Wake::Vote, now);
        // Whoever gets our groups needs these votes at once, not after they have moved.
        let heirs_by = by.before(patience * 3 / 4);
        let any_here = self.votes.slots().iter().any(|slot| matches!(slot.place, Place::Here(_)));
        if any_here && heirs_by > now && !self.heirs_have_asked(now) {
            self.look_again(heirs_by, Wake::Vote, now);
            return;
        }
        for at in 0..self.votes.slots().len() {
            let slot = &self.votes.slots()[at];
            if matches!(slot.place, Place::Here(_))
                && let Some(to) = self.heir_of_vote(slot.vote, &slot.refused_by, now).filter(|_| by > now)
            {
                self.votes.pass(at, to, now);
            }
        }
        if self.goodbyes == 0 && self.votes_settled(now) {
            self.next_heartbeat = now;
        }
    }

    /// Every node that a group was handed to has what the votes here can give it, or will not ask for it.
    fn heirs_have_asked(&self, now: Time) -> bool {
        self.tenures.iter().all(|tenure| {
            let heir = tenure.handing.and_then(|(next, _)| self.member(next));
            let answered = self.votes.obstacle(self.me, self.boot, tenure.group, now).is_some();
            heir.is_none_or(|heir| answered || !heir.state().eligible || !self.is_alive(heir, now))
        })
    }

    /// Sends a vote that is on its way to a node that is in touch.
    fn send_vote(&mut self, at: usize, now: Time) {
        let slot = &self.votes.slots()[at];
        let Place::Passing { to, voter, send_at } = &slot.place else { return };
        let (to, send_at) = (*to, *send_at);
        let in_touch = self.member(to).is_some_and(|member| self.is_alive(member, now) && member.hears_us());
        if !in_touch || !self.votes.is_kept(slot) {
            return;
        }
        if send_at > now {
            self.look_again(send_at, Wake::Vote, now);
            return;
        }
        let grants = voter.passed(now);
        let silent_us = voter::micros(voter.silent_until().since(now));
        let (vote, number, total) = (slot.vote, slot.number, voter::index(grants.len()));
        let same_configuration = self.member(to).and_then(|member| member.fingerprint) == Some(self.config.fingerprint);
        let unknown = |group: &GroupId| !same_configuration || self.config.group(*group).is_none();
        let strange = grants.iter().map(|grant| grant.group).filter(unknown);
        let strange: Vec<_> = strange.filter_map(|group| Some((group, voter.definition(group)?.to_vec()))).collect();
        for (group, members) in strange {
            self.define_group(to, group, members);
        }
        let part = |(number_of, grants): (usize, &[_])| PassVote {
            vote,
            number,
            silent_us,
            first: voter::index(number_of * GRANTS_PER_MESSAGE),
            total,
            grants: grants.to_vec(),
        };
        let mut parts: Vec<PassVote> = grants.chunks(GRANTS_PER_MESSAGE).enumerate().map(part).collect();
        if parts.is_empty() {
            parts.push(part((0, &[])));
        }
        for part in parts {
            self.send(to, Message::PassVote(part));
        }
        let again = now + PASS_AGAIN;
        if let Place::Passing { send_at, .. } = &mut self.votes.slot(at).place {
            *send_at = again;
        }
        self.look_again(again, Wake::Vote, now);
    }

    /// Tells a node what a group consists of.
    fn define_group(&mut self, to: NodeId, group: GroupId, mut members: Vec<AssignmentId>) {
        members.sort_unstable();
        for (part, assignments) in members.chunks(ASSIGNMENTS_PER_DEFINITION).enumerate() {
            let first = voter::index(part * ASSIGNMENTS_PER_DEFINITION);
            let definition = Definition { group, first, total: voter::index(members.len()), assignments: assignments.to_vec() };
            self.send(to, Message::Definition(definition));
        }
    }

    /// Looks for our own vote. When every other voter is in touch and none has it, each is asked to promise never to take it.
    fn search_vote(&mut self, now: Time) {
        let Some(slot) = self.votes.own() else { return };
        let (number, with) = match slot.place {
            Place::Away { with } => (slot.number, with),
            Place::Here(_) | Place::Passing { .. } => {
                self.votes.search = Search::default();
                return;
            }
        };
        let vote = self.me;
        let lease = self.lease();
        // While voters are being changed, one that is a voter no longer may have it still.
        let none_has_it = self.electorate.is_settled()
            && self.voters.iter().filter(|voter| **voter != vote).all(|voter| {
                self.member(*voter)
                    .is_some_and(|member| self.is_in_touch(member, now) && member.ballot().is_some() && !member.has_vote(vote))
            });
        let mut lonely = false;
        let search = &mut self.votes.search;
        let since = *search.since.get_or_insert(now);
        if none_has_it {
            let quiet = *search.quiet_since.get_or_insert(now);
            if quiet + lease <= now && search.below <= number {
                search.below = number.anew();
                search.promised.clear();
                lonely = self.voters.len() == 1;
            }
        } else {
            search.quiet_since = None;
        }
        if !search.reported && since + lease * 2 <= now {
            search.reported = true;
            self.out.push(Output::Decided(Decision::Vote { vote, news: VoteNews::Missed { with } }));
        }
        if lonely {
            // Nobody else is a voter any more.
            self.make_anew_when_promised(now);
        }
    }
}
