//! What operators want, obeyed: standby, maintenance, groups that belong elsewhere for a while, failures to be forgotten.
//!
//! Any node takes a command about any node. It becomes a wish under a stamp of its own ([`Node::draft`]), is kept on disk,
//! and only then said ([`Event::Wished`](crate::model::Event::Wished)): the others hear of it at once, and every heartbeat
//! carries a digest so that who missed it is told.
//!
//! Maintenance leaves everything as it is, but for what keeps the promise of one owner: leases are renewed, and what has lost
//! its lease, was held on both sides of a pair, or is left by a daemon that ends or begins, is stopped all the same. A
//! hand-over that has begun is brought to its end.

use super::{
    super::{
        WISHES_PER_MESSAGE,
        member::Member,
        tenure::{Phase, Tenure},
        voter,
        wishes::{self, LONGEST, Live, MAX_WISHES},
    },
    Node,
};
use crate::model::{
    Action, Command, Decision, Failback, GroupId, Lasts, Message, NodeId, Obstacle, Outlook, Output, Record, Stance, Subject, Time,
    Unacceptable, Wish, WishDigest, Wishes,
};

/// How long a group that is to go home once may wait for its home node, in milliseconds.
const HOME_ONCE: u64 = 24 * 3600 * 1000;

/// A command, understood: nothing has changed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// To be kept on disk and then given back as [`Event::Wished`](crate::model::Event::Wished); none when there is nothing to do.
    pub records: Vec<Record>,
    /// All that is to be kept on disk, these among them.
    pub keep: Vec<Record>,
    /// What will come of it.
    pub outlook: Vec<Outlook>,
}

impl Node {
    /// Takes in what was kept on disk. Before the first [`Node::handle`].
    pub fn recall(&mut self, kept: &[Record], now: Time) {
        for subject in self.wishes.merge(kept, now) {
            self.obey(subject, now);
        }
    }

    /// All that operators want, as it is kept.
    #[must_use]
    pub fn wishes(&self, now: Time) -> Vec<Record> {
        self.wishes.records(now)
    }

    /// Understands a command, without doing anything yet.
    ///
    /// # Errors
    /// Why it cannot be accepted.
    pub fn draft(&self, command: Command, now: Time) -> Result<Draft, Unacceptable> {
        let said = self.said(command)?;
        let subjects: Vec<Subject> = said.iter().map(|(subject, ..)| *subject).collect();
        if !self.wishes.has_room(&subjects) {
            return Err(Unacceptable::Full { max: MAX_WISHES });
        }
        let mut records = Vec::with_capacity(said.len());
        if !said.is_empty() {
            let stamp = self.wishes.next_stamp(self.me).ok_or(Unacceptable::Exhausted)?;
            records.extend(said.into_iter().map(|(subject, wish, lasts)| Record { subject, stamp, wish, lasts }));
        }
        let mut map = self.wishes.clone();
        map.merge(&records, now);
        Ok(Draft { keep: map.records(now), outlook: self.outlook(command, &records, now), records })
    }

    /// The wishes that a command means.
    fn said(&self, command: Command) -> Result<Vec<(Subject, Wish, Lasts)>, Unacceptable> {
        let known = |node: NodeId| self.config.node(node).map(|_| ()).ok_or(Unacceptable::UnknownNode);
        let group = |id: GroupId| self.config.group(id).ok_or(Unacceptable::UnknownGroup);
        let switch = |subject: Subject, on: bool| match on {
            true => vec![(subject, Wish::On, Lasts::Always)],
            false if self.wishes.live(subject).is_none() => Vec::new(),
            false => vec![(subject, Wish::Cleared, wishes::over())],
        };
        match command {
            Command::Standby { node, on } => known(node).map(|()| switch(Subject::Standby(node), on)),
            Command::Maintenance { on } => Ok(switch(Subject::Maintenance, on)),
            Command::Move { group: id, to, for_seconds } => {
                let group = group(id)?;
                known(to)?;
                if !group.is_leased() {
                    return Err(Unacceptable::SingleCandidate);
                }
                if !group.candidates.contains(&to) {
                    return Err(Unacceptable::NotACandidate);
                }
                let lasts = match for_seconds {
                    None => Lasts::Always,
                    Some(seconds) if (1..=LONGEST.as_secs()).contains(&seconds) => Lasts::For(seconds * 1000),
                    Some(_) => return Err(Unacceptable::BadSpan { max_days: LONGEST.as_secs() / (24 * 3600) }),
                };
                Ok(vec![(Subject::Place(id), Wish::Prefer(to), lasts)])
            }
            Command::Unmove { group: id } => group(id).map(|_| switch(Subject::Place(id), false)),
            Command::Failback { group: id } => match group(id)? {
                group if !group.is_leased() => Err(Unacceptable::SingleCandidate),
                _ => Ok(vec![(Subject::Place(id), Wish::Home, Lasts::For(HOME_ONCE))]),
            },
            Command::Cleanup { group: id, node } => {
                id.map(group).transpose()?;
                node.map(known).transpose()?;
                let named = |(group, at): &(GroupId, NodeId)| id.is_none_or(|id| id == *group) && node.is_none_or(|node| node == *at);
                let mut failed: Vec<(GroupId, NodeId)> = self.failed().into_iter().filter(named).collect();
                // Said of a node that is not heard, it may well be meant.
                if let (Some(group), Some(node)) = (id, node)
                    && failed.is_empty()
                    && self.config.group(group).is_some_and(|group| group.candidates.contains(&node))
                {
                    failed.push((group, node));
                }
                Ok(failed.into_iter().map(|(group, node)| (Subject::Cleanup(group, node), Wish::On, wishes::over())).collect())
            }
        }
    }

    /// Where groups cannot run, as far as it is known here.
    fn failed(&self) -> Vec<(GroupId, NodeId)> {
        let own = self.tenures.iter().filter(|tenure| tenure.unable).map(|tenure| (tenure.group, self.me));
        let others = self.members.iter().flat_map(|member| {
            let unable = member.list().iter().filter(|entry| entry.stance == Stance::Unable);
            unable.map(|entry| (entry.group, member.node))
        });
        own.chain(others).collect()
    }

    /// What an operator is told will happen.
    fn outlook(&self, command: Command, records: &[Record], now: Time) -> Vec<Outlook> {
        let mut outlook = match command {
            _ if records.is_empty() => vec![Outlook::Nothing],
            Command::Maintenance { .. } => return Vec::new(),
            Command::Standby { node, on: true } => self.standby_outlook(node, now),
            Command::Standby { node, on: false } => vec![Outlook::Unheard(node)].into_iter().filter(|_| !self.hears(node, now)).collect(),
            Command::Move { group, to, .. } => self.move_outlook(group, to, now),
            Command::Failback { group } => self.config.group(group).map(|g| self.move_outlook(group, g.home, now)).unwrap_or_default(),
            Command::Unmove { group } => self.unmove_outlook(group, now),
            Command::Cleanup { .. } => records.iter().filter_map(|record| self.cleanup_outlook(record.subject, now)).collect(),
        };
        if self.hands_off && !records.is_empty() {
            outlook.push(Outlook::AfterMaintenance);
        }
        outlook
    }

    fn hears(&self, node: NodeId, now: Time) -> bool {
        node == self.me || self.member(node).is_some_and(|member| self.is_alive(member, now))
    }

    /// Where a group runs, or is claimed.
    fn owner(&self, group: GroupId, now: Time) -> Option<NodeId> {
        let own = self.tenures.iter().any(|tenure| tenure.group == group && (tenure.is_active() || tenure.claim.is_some()));
        if own { Some(self.me) } else { self.claimed_by(group, now) }
    }

    fn move_outlook(&self, group: GroupId, to: NodeId, now: Time) -> Vec<Outlook> {
        let outlook = match (self.owner(group, now), self.obstacle(group, to, now)) {
            (Some(on), _) if on == to => Outlook::Stays { group, on },
            (_, Some(obstacle)) => Outlook::Waits { group, to, obstacle },
            (Some(from), None) => Outlook::Moves { group, from, to },
            (None, None) => Outlook::Idle { group, to },
        };
        vec![outlook]
    }

    fn unmove_outlook(&self, group: GroupId, now: Time) -> Vec<Outlook> {
        let Some(home) = self.config.group(group).map(|group| group.home) else { return Vec::new() };
        let outlook = match self.owner(group, now) {
            Some(on) if on == home || self.config.server.failback == Failback::Manual => Outlook::Stays { group, on },
            Some(_) => Outlook::GoesHome { group, home },
            None => Outlook::Idle { group, to: home },
        };
        vec![outlook]
    }

    fn cleanup_outlook(&self, subject: Subject, now: Time) -> Option<Outlook> {
        let Subject::Cleanup(group, on) = subject else { return None };
        Some(if self.hears(on, now) { Outlook::Retried { group, on } } else { Outlook::Unheard(on) })
    }

    fn standby_outlook(&self, node: NodeId, now: Time) -> Vec<Outlook> {
        if !self.hears(node, now) {
            return vec![Outlook::Unheard(node)];
        }
        let its = self.config.groups.iter().filter(|group| match group.is_leased() {
            true => self.owner(group.id, now) == Some(node),
            false => group.home == node,
        });
        its.map(|group| {
            let other = |candidate: &NodeId| *candidate != node && self.obstacle(group.id, *candidate, now).is_none();
            match group.candidates.iter().copied().find(other) {
                Some(to) => Outlook::Moves { group: group.id, from: node, to },
                None => Outlook::Stops { group: group.id, on: node },
            }
        })
        .collect()
    }

    /// What keeps a node from taking a group now.
    fn obstacle(&self, group: GroupId, node: NodeId, now: Time) -> Option<Obstacle> {
        if node == self.me {
            let unable = self.tenures.iter().any(|tenure| tenure.group == group && tenure.unable);
            return match (self.standby, self.eligible(), self.quorate(now) && self.silent_until() <= now, unable) {
                (true, ..) => Some(Obstacle::Standby),
                (false, false, ..) => Some(Obstacle::Ineligible),
                (false, true, false, _) => Some(Obstacle::NotQuorate),
                (false, true, true, true) => Some(Obstacle::Unable),
                (false, true, true, false) => None,
            };
        }
        let Some(member) = self.member(node).filter(|member| self.is_alive(member, now)) else { return Some(Obstacle::Dead) };
        let state = member.state();
        match member.stance(group) {
            _ if state.standby => Some(Obstacle::Standby),
            _ if !state.eligible => Some(Obstacle::Ineligible),
            _ if !state.quorate => Some(Obstacle::NotQuorate),
            Some(Stance::Unable) => Some(Obstacle::Unable),
            Some(Stance::Claims { .. }) if self.owner(group, now) != Some(node) => Some(Obstacle::Stopping),
            Some(Stance::Claims { .. } | Stance::HandsOver { .. }) | None => None,
        }
    }

    /// A command that was said here and is kept on disk: obeyed, and told to everybody.
    pub(super) fn wished(&mut self, records: &[Record], now: Time) {
        let changed = self.wishes.merge(records, now);
        self.changed(&changed, false, now);
        let told: Vec<Record> = self.wishes.records(now).into_iter().filter(|record| changed.contains(&record.subject)).collect();
        for peer in self.members.iter().map(|member| member.node).collect::<Vec<_>>() {
            self.send_wishes(peer, &told);
        }
    }

    /// What a peer knows.
    pub(super) fn learn_wishes(&mut self, wishes: &Wishes, now: Time) {
        let changed = self.wishes.merge(&wishes.records, now);
        self.changed(&changed, true, now);
    }

    /// A peer knows something else: it is given all that is known here. When it knows more, it does the same at our next heartbeat.
    pub(super) fn compare_wishes(&mut self, from: NodeId, theirs: Option<WishDigest>, now: Time) {
        if theirs.is_some_and(|theirs| theirs != self.wishes.digest()) {
            let all = self.wishes.records(now);
            self.send_wishes(from, &all);
        }
    }

    fn send_wishes(&mut self, to: NodeId, records: &[Record]) {
        for part in records.chunks(WISHES_PER_MESSAGE) {
            self.send(to, Message::Wishes(Wishes { records: part.to_vec() }));
        }
    }

    /// The time of some wishes may be over; and what was wished once may have come true.
    pub(super) fn look_at_wishes(&mut self, now: Time) {
        let lapsed = self.wishes.expire(now);
        for subject in &lapsed {
            self.out.push(Output::Decided(Decision::Lapsed(*subject)));
            self.obey(*subject, now);
        }
        if !lapsed.is_empty() {
            self.keep_wishes(now);
        }
        let is_home = |tenure: &&Tenure| tenure.once && tenure.rank == 0 && tenure.phase == Phase::Running;
        let home: Vec<Subject> = self.tenures.iter().filter(is_home).map(|tenure| Subject::Place(tenure.group)).collect();
        if home.is_empty() {
            return;
        }
        if let Some(stamp) = self.wishes.next_stamp(self.me) {
            let done = |subject| Record { subject, stamp, wish: Wish::Cleared, lasts: wishes::over() };
            let done: Vec<Record> = home.into_iter().map(done).collect();
            self.wished(&done, now);
        }
    }

    fn changed(&mut self, subjects: &[Subject], from_peer: bool, now: Time) {
        for subject in subjects {
            if let Some((stamp, wish)) = self.wishes.word(*subject) {
                let over = self.wishes.live(*subject).is_none() && wish != Wish::Cleared && !matches!(subject, Subject::Cleanup(..));
                let decision = if over { Decision::Lapsed(*subject) } else { Decision::Wished { subject: *subject, wish, stamp } };
                self.out.push(Output::Decided(decision));
            }
            self.obey(*subject, now);
        }
        if !subjects.is_empty() {
            self.keep_wishes(now);
            // Ours are said with the heartbeat that carries the new digest; and who has something else may hear of it soon.
            self.ask_now |= !from_peer;
        }
    }

    fn keep_wishes(&mut self, now: Time) {
        self.out.push(Output::Keep(self.wishes.records(now)));
    }

    /// Makes the last word on a subject count.
    pub(super) fn obey(&mut self, subject: Subject, now: Time) {
        match subject {
            Subject::Maintenance => {
                let hands_off = self.wishes.live(subject).is_some();
                if std::mem::replace(&mut self.hands_off, hands_off) != hands_off && self.began {
                    self.out.push(Output::Act(Action::HandsOff(hands_off)));
                }
            }
            Subject::Standby(node) if node == self.me => {
                self.standby = self.wishes.live(subject).is_some();
                // What peers are told of us has changed: do not let them wait for the next heartbeat.
                self.ask_now = true;
            }
            Subject::Standby(_) => {}
            Subject::Place(group) => self.place(group, now),
            Subject::Cleanup(group, node) if node == self.me => self.clean_up(group),
            Subject::Cleanup(..) => {}
        }
    }

    /// Where a group belongs has changed.
    fn place(&mut self, id: GroupId, now: Time) {
        let Some(position) = self.tenures.iter().position(|tenure| tenure.group == id && tenure.leased) else { return };
        let Some(group) = self.config.group(id) else { return };
        let live = self.wishes.live(Subject::Place(id));
        let preferred = match live {
            Some(Live { wish: Wish::Prefer(node), .. }) => Some(node),
            Some(Live { wish: Wish::Home, .. }) => Some(group.home),
            Some(Live { wish: Wish::Cleared | Wish::On, .. }) | None => None,
        };
        let place = |wanted: NodeId| group.candidates.iter().position(|candidate| *candidate == wanted).map(voter::index);
        let preferred = preferred.and_then(|node| Some((node, place(node)?)));
        let could_take = preferred.is_some_and(|(node, _)| self.member(node).is_some_and(|member| self.could_take(member, id, now)));
        let tenure = &mut self.tenures[position];
        tenure.preferred = preferred.map(|(node, _)| node);
        tenure.once = live.is_some_and(|live| live.wish == Wish::Home);
        tenure.standing = match preferred {
            Some((_, place)) if place == tenure.rank => 0,
            Some((_, place)) if place > tenure.rank => tenure.rank + 1,
            Some(_) | None => tenure.rank,
        };
        // Now, when it can be done now; else once the node has been well for the failback delay.
        tenure.prompt = could_take && tenure.phase != Phase::Down;
    }

    pub(super) fn clean_up(&mut self, group: GroupId) {
        if let Some(tenure) = self.tenures.iter_mut().find(|tenure| tenure.group == group) {
            tenure.unable = false;
            self.list_changed = true;
        }
        self.ask_now = true;
    }

    /// This node's standby, said here.
    pub(super) fn stand_by(&mut self, on: bool, now: Time) {
        if let Ok(draft) = self.draft(Command::Standby { node: self.me, on }, now) {
            self.wished(&draft.records, now);
        }
    }

    /// May begin to run the group here now, as far as operators are concerned.
    pub(super) fn may_begin(&self, tenure: &Tenure) -> bool {
        !self.hands_off || tenure.handed_by.is_some()
    }

    /// The candidates in the order in which they are to have the group.
    pub(super) fn candidates(&self, tenure: &Tenure) -> impl Iterator<Item = NodeId> + '_ {
        let preferred = tenure.preferred;
        let all = self.config.group(tenure.group).map(|group| group.candidates.as_slice()).unwrap_or_default();
        preferred.into_iter().chain(all.iter().copied().filter(move |node| Some(*node) != preferred))
    }

    /// The other node on which the group belongs, and when it may go there: by the operator's wish, or because it is home.
    pub(super) fn belongs(&self, tenure: &Tenure) -> Option<&Member> {
        let by_itself = self.config.server.failback == Failback::Auto;
        let home = || self.config.group(tenure.group).map(|group| group.home).filter(|_| by_itself);
        match tenure.preferred {
            Some(node) => self.member(node).filter(|member| member.knows_wishes()),
            None => self.member(home()?),
        }
    }
}
