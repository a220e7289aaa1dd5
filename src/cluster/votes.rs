//! Where each vote is: at home, lent, or on its way. A vote is one [`Voter`], and moves as a whole.
//!
//! Three rules make it one. A node that gives a vote away notes so on disk before it sends it, and never answers with it again
//! unless it comes back under a higher number. A node that gets one notes it on disk before it answers with it. And a number
//! is offered to one node only. What is not on disk yet counts for nothing.

use std::{collections::BTreeMap, time::Duration};

use super::{
    memory::{PlaceMemory, SlotMemory, VotesMemory},
    tenure::drift_margin,
    voter::Voter,
};
use crate::model::{
    AssignmentId, BootId, Entry, GroupId, HeldVote, NodeId, PassVote, PassedGrant, Stance, Time, Version, VoteNote, VoteNotes, VoteNumber,
};

/// Longest claim of a peer that is believed; a lease of an hour is far beyond use.
const LONGEST_CLAIM: Duration = Duration::from_secs(3600);

/// All votes, as this node knows them.
#[derive(Clone, Debug, Hash)]
pub struct Votes {
    /// By voter; none at a node that is no voter.
    slots: Vec<Slot>,
    own: usize,
    /// The note that our own vote was lent, when by the present configuration this node lends none: it is no voter, or one of a pair.
    pub strayed: Option<VoteNote>,
    /// So that our own does not count now: somebody may rely on majorities, and on this vote where it went.
    pub withheld: bool,
    /// Votes are lent at all: not under the rules of a pair, where nothing rests on a majority.
    pub lends: bool,
    /// Knows what groups consist of, and grants nothing: what a vote begins as.
    template: Voter,
    /// The longest lease that this or an earlier life may have granted.
    pub longest: Duration,
    /// Changes worth a note so far, those given out to be noted, those on disk.
    serial: u64,
    told: u64,
    kept: u64,
    pub search: Search,
    /// The highest number of our own vote that another node remembers.
    remembered: VoteNumber,
    /// Without notes, this node may have passed on in an earlier life what it is offered now: until then it listens who has it.
    pub listens_until: Time,
    /// When a leaving node goes at the latest, whatever becomes of its votes.
    pub leave_by: Option<Time>,
}

/// The search for our own vote while that is elsewhere.
#[derive(Clone, Debug, Default, Hash)]
pub struct Search {
    /// Elsewhere since then, as far as this life knows.
    pub since: Option<Time>,
    /// Reported.
    pub reported: bool,
    /// All other voters are in touch and none has it, since then.
    pub quiet_since: Option<Time>,
    /// What others are asked to promise never to take it below; zero while nothing is asked.
    pub below: VoteNumber,
    /// Who has promised, and the longest lease that each may have granted.
    pub promised: BTreeMap<NodeId, Duration>,
}

/// One vote.
#[derive(Clone, Debug, Hash)]
pub struct Slot {
    /// The voter it belongs to.
    pub vote: NodeId,
    /// The highest number that was here, was given away from here, or will never be taken here.
    pub number: VoteNumber,
    /// The highest number taken here.
    pub accepted: VoteNumber,
    /// The highest number that another was heard to have.
    pub heard: VoteNumber,
    pub place: Place,
    /// The change that must be on disk before any of this counts.
    since: u64,
    /// Who is to be told once it is, of which offer.
    pub tell: Option<(NodeId, VoteNumber)>,
    /// It is here by the notes of an earlier life: whoever has it besides has lost its own.
    pub noted: bool,
    /// The incarnation of its voter that was known when it came: what that said before may still arrive.
    pub giver_boot: Option<BootId>,
    /// Who would not take it.
    pub refused_by: Vec<NodeId>,
    arriving: Option<Parcel>,
}

/// Where a vote is.
#[derive(Clone, Debug, Hash)]
pub enum Place {
    /// Not here. Where it went, if it went from here.
    Away { with: Option<NodeId> },
    /// Here.
    Here(Voter),
    /// Given away, and not known to have arrived.
    Passing { to: NodeId, voter: Voter, send_at: Time },
}

/// A vote of which parts are missing.
#[derive(Clone, Debug, Hash)]
struct Parcel {
    number: VoteNumber,
    silent_until: Time,
    total: u32,
    /// By place; what a peer announces costs nothing before it comes.
    grants: BTreeMap<u32, (PassedGrant, Time)>,
}

impl Votes {
    /// The votes of a node that starts, and that grants nothing before `silent_until`. `notes`: what an earlier life noted; none
    /// without its disk.
    pub fn new(
        voters: &[NodeId],
        me: NodeId,
        lends: bool,
        cap: Duration,
        longest: Duration,
        notes: Option<&[VoteNote]>,
        silent_until: Time,
    ) -> Self {
        let mut votes = Self {
            slots: Vec::new(),
            own: voters.iter().position(|voter| *voter == me).unwrap_or(0),
            strayed: None,
            withheld: false,
            lends,
            template: Voter::new(cap, Time::ZERO),
            longest,
            serial: 0,
            told: 0,
            kept: 0,
            search: Search::default(),
            remembered: VoteNumber::FIRST,
            listens_until: if notes.is_none() { silent_until } else { Time::ZERO },
            leave_by: None,
        };
        let noted = notes.unwrap_or_default();
        if !lends || !voters.contains(&me) {
            votes.strayed = noted.iter().find(|note| note.vote == me && !note.held).copied();
        }
        let notes = noted.iter().filter(|_| lends);
        // What is noted of those that are no voters now must not be believed when they are again.
        votes.serial = u64::from(notes.clone().any(|note| !voters.contains(&note.vote) || !voters.contains(&me)));
        if !voters.contains(&me) {
            return votes;
        }
        votes.slots = voters
            .iter()
            .map(|vote| {
                let fresh = VoteNote { vote: *vote, number: VoteNumber::FIRST, accepted: VoteNumber::FIRST, held: *vote == me, with: None };
                let noted = notes.clone().find(|note| note.vote == *vote).copied();
                // One of a pair has its own vote, and knows which number that had when it went.
                let strayed = votes.strayed.filter(|_| *vote == me).map(|note| VoteNote { held: true, ..note });
                let note = noted.or(strayed).unwrap_or(fresh);
                let place = if note.held { Place::Here(votes.voter(silent_until)) } else { Place::Away { with: note.with } };
                Slot {
                    vote: *vote,
                    number: note.number,
                    accepted: note.accepted,
                    heard: VoteNumber::FIRST,
                    place,
                    since: 0,
                    tell: None,
                    noted: note.held,
                    giver_boot: None,
                    refused_by: Vec::new(),
                    arriving: None,
                }
            })
            .collect();
        votes
    }

    /// What a process that takes the place of this one must know. Groups for which `configured` holds are known from the
    /// configuration.
    pub fn memory(&self, configured: impl Fn(GroupId) -> bool) -> VotesMemory {
        let slot = |slot: &Slot| SlotMemory {
            vote: slot.vote,
            number: slot.number,
            accepted: slot.accepted,
            since: slot.since,
            giver_boot: slot.giver_boot,
            place: match &slot.place {
                Place::Away { with } => PlaceMemory::Away { with: *with },
                Place::Here(voter) => PlaceMemory::Here(voter.promises(&configured)),
                Place::Passing { to, voter, .. } => PlaceMemory::Passing { to: *to, promises: voter.promises(&configured) },
            },
        };
        VotesMemory { serial: self.serial, kept: self.kept, slots: self.slots.iter().map(slot).collect() }
    }

    /// Goes on where the process before this one stood. What may not have reached the disk is noted again.
    pub fn recall(&mut self, memory: VotesMemory, now: Time) {
        self.serial = memory.serial;
        self.told = memory.kept;
        self.kept = memory.kept;
        for recalled in memory.slots {
            let Some(at) = self.position(recalled.vote) else { continue };
            let mut voter = self.voter(Time::ZERO);
            let place = match recalled.place {
                PlaceMemory::Away { with } => Place::Away { with },
                PlaceMemory::Here(promises) => {
                    voter.recall(promises);
                    Place::Here(voter)
                }
                PlaceMemory::Passing { to, promises } => {
                    voter.recall(promises);
                    Place::Passing { to, voter, send_at: now }
                }
            };
            let slot = &mut self.slots[at];
            slot.number = recalled.number;
            slot.accepted = recalled.accepted;
            slot.since = recalled.since;
            slot.giver_boot = recalled.giver_boot;
            slot.place = place;
        }
    }

    fn voter(&self, silent_until: Time) -> Voter {
        let mut voter = self.template.clone();
        voter.silence(silent_until);
        voter
    }

    /// This node is a voter.
    pub fn is_voter(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Our own vote was lent, and is not known to be back.
    pub fn is_lent(&self) -> bool {
        self.strayed.is_some() || self.own().is_some_and(|slot| !matches!(slot.place, Place::Here(_)))
    }

    /// This node takes a vote when it is offered.
    pub fn takes(&self, vote: NodeId) -> bool {
        self.lends || self.strayed.is_some_and(|strayed| strayed.vote == vote)
    }

    /// All of them.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// One of them.
    pub fn slot(&mut self, at: usize) -> &mut Slot {
        &mut self.slots[at]
    }

    /// Our own vote, wherever it is.
    pub fn own(&self) -> Option<&Slot> {
        self.slots.get(self.own)
    }

    /// The position of a vote.
    pub fn position(&self, vote: NodeId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.vote == vote)
    }

    /// The votes that answer here, with their position.
    pub fn serving(&mut self) -> impl Iterator<Item = (usize, NodeId, &mut Voter)> {
        let (kept, withheld) = (self.kept, self.withheld.then_some(self.own));
        let counts = move |(at, slot): &(usize, &mut Slot)| slot.since <= kept && withheld != Some(*at);
        self.slots.iter_mut().enumerate().filter(counts).filter_map(|(at, slot)| match &mut slot.place {
            Place::Here(voter) => Some((at, slot.vote, voter)),
            Place::Away { .. } | Place::Passing { .. } => None,
        })
    }

    /// The votes that answer here, as heartbeats name them.
    pub fn held(&self) -> Vec<HeldVote> {
        self.slots.iter().filter(|slot| self.serves_slot(slot)).map(|slot| HeldVote { vote: slot.vote, number: slot.number }).collect()
    }

    /// The votes that grant here.
    pub fn granting(&self, now: Time) -> Vec<NodeId> {
        let grants = |slot: &&Slot| matches!(&slot.place, Place::Here(voter) if voter.silent_until() <= now) && self.serves_slot(slot);
        self.slots.iter().filter(grants).map(|slot| slot.vote).collect()
    }

    /// Whether a vote answers here.
    pub fn serves(&self, vote: NodeId) -> bool {
        self.slots.iter().any(|slot| slot.vote == vote && self.serves_slot(slot))
    }

    fn serves_slot(&self, slot: &Slot) -> bool {
        matches!(slot.place, Place::Here(_))
            && self.is_kept(slot)
            && !(self.withheld && self.own().is_some_and(|own| own.vote == slot.vote))
    }

    /// What is known of a vote is on disk.
    pub fn is_kept(&self, slot: &Slot) -> bool {
        slot.since <= self.kept
    }

    /// The end of the silence of our own vote; one that is elsewhere keeps nobody here silent.
    pub fn silent_until(&self) -> Time {
        match self.own().map(|slot| &slot.place) {
            Some(Place::Here(voter)) => voter.silent_until(),
            Some(Place::Away { .. } | Place::Passing { .. }) | None => Time::ZERO,
        }
    }

    /// Learns from the configuration what a group consists of.
    pub fn define(&mut self, group: GroupId, members: &[AssignmentId]) {
        if self.is_voter() {
            self.voters_here().for_each(|voter| voter.define(group, members.to_vec()));
        }
    }

    /// Learns it from a peer. The caller has checked that the id is the hash of the members.
    pub fn learn(&mut self, from: NodeId, group: GroupId, members: &[AssignmentId], now: Time) {
        self.voters_here().for_each(|voter| voter.learn(from, group, members.to_vec(), now));
    }

    /// Whether every vote here knows a group.
    pub fn knows(&self, group: GroupId) -> bool {
        let knows = |slot: &Slot| match &slot.place {
            Place::Here(voter) => voter.knows(group),
            Place::Away { .. } | Place::Passing { .. } => true,
        };
        self.template.knows(group) && self.slots.iter().all(knows)
    }

    /// The votes here, and what further ones begin as. A vote on its way does not change any more.
    fn voters_here(&mut self) -> impl Iterator<Item = &mut Voter> {
        let here = self.slots.iter_mut().filter_map(|slot| match &mut slot.place {
            Place::Here(voter) => Some(voter),
            Place::Away { .. } | Place::Passing { .. } => None,
        });
        std::iter::once(&mut self.template).chain(here)
    }

    /// A node's newest list takes back what it no longer claims. A vote on its way does not change any more.
    pub fn release_unclaimed(&mut self, from: NodeId, boot: BootId, version: Version, list: &[Entry]) {
        for slot in &mut self.slots {
            if let Place::Here(voter) = &mut slot.place {
                voter.release_unclaimed(from, boot, version, list);
            }
        }
    }

    /// The other holder whose unexpired grant by a vote here stands longest in the way of `(node, boot)`, and until when.
    pub fn obstacle(&self, node: NodeId, boot: BootId, group: GroupId, now: Time) -> Option<(NodeId, Time)> {
        let voters = self.slots.iter().filter_map(|slot| match &slot.place {
            Place::Here(voter) if self.is_kept(slot) => Some(voter),
            Place::Here(_) | Place::Away { .. } | Place::Passing { .. } => None,
        });
        voters.filter_map(|voter| voter.obstacle(node, boot, group, now)).max_by_key(|(_, end)| *end)
    }

    /// A vote has changed: nothing of it counts before that is on disk.
    pub fn change(&mut self, at: usize) {
        self.serial += 1;
        self.slots[at].since = self.serial;
    }

    /// What is to be noted, when that has changed.
    pub fn notes(&mut self) -> Option<VoteNotes> {
        if self.told == self.serial {
            return None;
        }
        self.told = self.serial;
        let note = |slot: &Slot| VoteNote {
            vote: slot.vote,
            number: slot.number,
            accepted: slot.accepted,
            held: matches!(slot.place, Place::Here(_)),
            with: match slot.place {
                Place::Away { with } => with,
                Place::Passing { to, .. } => Some(to),
                Place::Here(_) => None,
            },
        };
        let own = self.own().map(|slot| slot.vote);
        let fresh = |note: &VoteNote| note.number == VoteNumber::FIRST && note.held == (Some(note.vote) == own);
        let strayed = |note: &VoteNote| self.strayed.is_some_and(|strayed| strayed.vote == note.vote);
        let votes = self.slots.iter().map(note).filter(|note| !fresh(note) && !strayed(note)).chain(self.strayed).collect();
        Some(VoteNotes { serial: self.serial, votes })
    }

    /// The note with that serial is on disk.
    pub fn kept(&mut self, serial: u64) {
        self.kept = self.kept.max(serial.min(self.told));
    }

    /// Gives a vote away. It is not sent before that is on disk.
    pub fn pass(&mut self, at: usize, to: NodeId, now: Time) {
        let (own, remembered) = (at == self.own, self.remembered);
        let slot = &mut self.slots[at];
        if let Place::Here(voter) = std::mem::replace(&mut slot.place, Place::Away { with: None }) {
            slot.place = Place::Passing { to, voter, send_at: now };
            // Without its notes a voter would lend under a number of old, which nobody takes for new.
            let lost = own && remembered > slot.number;
            slot.number = if lost { remembered.anew() } else { slot.number.next() };
            self.change(at);
        }
    }

    /// The node that it was offered to will never take it: it is ours again.
    pub fn take_back(&mut self, at: usize, known: VoteNumber) {
        let own = at == self.own;
        let slot = &mut self.slots[at];
        if let Place::Passing { to, voter, .. } = std::mem::replace(&mut slot.place, Place::Away { with: None }) {
            slot.refused_by.push(to);
            slot.place = Place::Here(voter);
            // Only its own voter may leave numbers out: others could run into the next that it makes anew.
            slot.number = if own && known > slot.number { known.anew() } else { slot.number.next() };
            self.change(at);
        }
    }

    /// A peer claims these: a vote that was lent to it, and is lost with it, may have granted them for so long, although no
    /// configuration that this node knows asks for as much.
    pub fn may_have_granted(&mut self, list: &[Entry]) {
        let claimed = list.iter().filter_map(|entry| match entry.stance {
            Stance::Claims { lease_us, .. } => Some(Duration::from_micros(lease_us)),
            Stance::HandsOver { .. } | Stance::Unable => None,
        });
        self.longest = self.longest.max(claimed.max().unwrap_or_default().min(LONGEST_CLAIM));
    }

    /// Another node remembers our own vote under that number.
    pub fn remember(&mut self, number: VoteNumber) {
        self.remembered = self.remembered.max(number);
    }

    /// Takes in a part of a vote that is offered to this node under a number it may take; true when all is there and known.
    pub fn assemble(&mut self, at: usize, part: &PassVote, now: Time) -> bool {
        let slot = &mut self.slots[at];
        let (first, total) = (part.first as usize, part.total as usize);
        if total > super::ENTRIES_PER_LIST || first + part.grants.len() > total {
            return false;
        }
        let silent_until = now + lengthened(Duration::from_micros(part.silent_us));
        let fresh = || Parcel { number: part.number, silent_until, total: part.total, grants: BTreeMap::new() };
        let mut parcel = slot.arriving.take().filter(|old| (old.number, old.total) == (part.number, part.total)).unwrap_or_else(fresh);
        for (place, grant) in (part.first..).zip(&part.grants) {
            let expires = now + lengthened(Duration::from_micros(grant.remaining_us));
            parcel.grants.entry(place).or_insert((*grant, expires));
        }
        let complete = parcel.grants.len() == total && parcel.grants.values().all(|(grant, _)| self.template.knows(grant.group));
        slot.arriving = Some(parcel);
        complete
    }

    /// The vote that was assembled is here. It answers once that is on disk.
    pub fn accept(&mut self, at: usize, from: NodeId, now: Time) {
        let Some(parcel) = self.slots[at].arriving.take() else { return };
        let mut voter = self.voter(parcel.silent_until);
        for (grant, expires) in parcel.grants.values() {
            voter.adopt(grant, *expires);
        }
        if matches!(self.slots[at].place, Place::Here(_)) {
            // Without its notes this node took it for its own, and may have granted what the real one did not.
            voter.silence(now + self.longest + drift_margin(self.longest));
        }
        let below = std::mem::take(&mut self.search).below;
        let own = at == self.own;
        let slot = &mut self.slots[at];
        slot.place = Place::Here(voter);
        slot.accepted = parcel.number;
        slot.noted = false;
        // Others may have promised never to take it below.
        slot.number = if own { parcel.number.max(below) } else { parcel.number };
        slot.tell = Some((from, parcel.number));
        slot.refused_by.clear();
        if own {
            self.strayed = None;
        }
        self.change(at);
    }

    /// It is elsewhere under a higher number.
    pub fn drop(&mut self, at: usize, with: NodeId, number: VoteNumber) {
        let slot = &mut self.slots[at];
        slot.place = Place::Away { with: Some(with) };
        slot.number = slot.number.max(number);
        self.change(at);
    }

    /// Nobody has our own vote: it begins anew, silent for as long as any life of it may have been believed.
    pub fn make_anew(&mut self, now: Time) {
        let search = std::mem::take(&mut self.search);
        let longest = search.promised.values().copied().max().unwrap_or_default().max(self.longest);
        let voter = self.voter(now + lengthened(longest));
        let slot = &mut self.slots[self.own];
        slot.place = Place::Here(voter);
        slot.number = search.below;
        self.change(self.own);
    }
}

/// A time that is counted by another node's clock: both may be 1 % off, and timers have grain.
fn lengthened(span: Duration) -> Duration {
    span + span / 40 + Duration::from_millis(2)
}
