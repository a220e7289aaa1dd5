//! The groups this node is a candidate for: when it asks, takes up, gives back.

use std::time::Duration;

use super::{
    super::{
        member::Member,
        tenure::{Claim, Phase, Tenure},
        verdict::{Facts, Wait},
    },
    Node,
    exchange::claims,
};
use crate::model::{
    Action, AskReason, Decision, Generation, GroupId, NoQuorum, NodeId, Outcome, Output, RefusalReason, Stance, StopReason, Takeover, Time,
    Wake,
};

/// A group that comes back from home within this many failback delays has not stayed well there.
const HOMECOMING_DELAYS: u32 = 30;
/// Doublings of the failback delay at most (10 s grow to 85 minutes).
const HOMECOMING_DOUBLINGS: u32 = 9;
/// Doublings of the wait between questions at most; the wait is bounded by T/2 besides.
const ATTEMPT_DOUBLINGS: u32 = 10;
/// Longest wait that a voter's refusal is worth, unless our own lease is longer: to ask too early does no harm.
const LONGEST_REFUSAL: Duration = Duration::from_secs(60);

impl Node {
    /// At the first event: bring down whatever an earlier life left behind, or go on where it was replaced.
    pub(super) fn begin(&mut self, now: Time) {
        if std::mem::replace(&mut self.began, true) {
            return;
        }
        self.next_heartbeat = now;
        if self.hands_off {
            self.out.push(Output::Act(Action::HandsOff(true)));
        }
        for position in 0..self.tenures.len() {
            if self.resumed {
                self.go_on(position, now);
            } else if self.tenures[position].leased {
                self.stop(position, StopReason::CleanSlate);
            }
        }
    }

    /// The executor is a new one: it is told again what it was told before.
    fn go_on(&mut self, position: usize, now: Time) {
        match self.tenures[position].phase {
            Phase::Down | Phase::Asking { .. } => {}
            Phase::Starting | Phase::Running => {
                let until = self.told_until(&self.tenures[position], now);
                let generation = self.order_generation(position);
                let tenure = &mut self.tenures[position];
                if let (Some(claim), Some(until)) = (&mut tenure.claim, until) {
                    claim.told = until;
                }
                self.out.push(Output::Act(Action::Start { group: tenure.group, generation, until, adopt: true }));
            }
            Phase::Stopping { why } => self.stop(position, why),
        }
    }

    /// The end of the lease as the executor is told. By the operator's wish a group may go on without one, so the kernel must
    /// not take its addresses away when that ends.
    fn told_until(&self, tenure: &Tenure, now: Time) -> Option<Time> {
        let kept = self.kept_until(tenure.claim.as_ref()?);
        match self.config.server.no_quorum {
            NoQuorum::Stop => kept,
            NoQuorum::Freeze => Some(kept.unwrap_or(now).max(now + self.lease())),
        }
    }

    /// Orders the stop of every group whose lease has run out, or is about to.
    pub(super) fn expire(&mut self, now: Time) {
        let freeze = self.config.server.no_quorum == NoQuorum::Freeze;
        for position in 0..self.tenures.len() {
            let tenure = &self.tenures[position];
            let until = match tenure.inherits() {
                Some(inherited) => Some(inherited.until),
                None => tenure.claim.as_ref().and_then(|claim| self.kept_until(claim)),
            };
            if !tenure.leased || until.is_some_and(|until| until.before(self.stop_lead()) > now) {
                continue;
            }
            match tenure.phase {
                // Frozen: it goes on without a lease until a voter says that another node has it.
                Phase::Starting | Phase::Running if freeze && !tenure.claim.as_ref().is_some_and(Claim::is_elsewhere) => continue,
                Phase::Starting | Phase::Running => {}
                // What runs here was covered by leases of another configuration, and no majority has renewed it under this one.
                Phase::Asking { .. } if tenure.inherits().is_some() => {}
                // A planned stop takes its members in order and waits for each. Without the lease, what is quick to stop goes
                // first: it must not be found behind something that hangs.
                Phase::Stopping { why: StopReason::HandOver(_) | StopReason::Leaving | StopReason::Standby | StopReason::Failed }
                    if tenure.claim.is_some() => {}
                Phase::Stopping { .. } | Phase::Down | Phase::Asking { .. } => continue,
            }
            self.out.push(Output::Decided(Decision::Lost { group: tenure.group }));
            self.stop(position, StopReason::LeaseLost);
        }
    }

    /// How long before the end of a lease its owner begins to stop: under strict take-over, the stop must be done by then.
    fn stop_lead(&self) -> Duration {
        let grain = (self.lease() / 100).clamp(Duration::from_millis(1), Duration::from_millis(10));
        match self.config.server.takeover {
            Takeover::Prompt => grain,
            Takeover::Strict => grain + self.config.server.stop_timeout,
        }
    }

    /// The executor finished an order.
    pub(super) fn done(&mut self, group: GroupId, generation: Generation, outcome: Outcome, now: Time) {
        let Some(position) = self.tenures.iter().position(|tenure| tenure.group == group) else { return };
        let tenure = &mut self.tenures[position];
        if tenure.generation != generation {
            return;
        }
        match (outcome, tenure.phase) {
            (Outcome::Started, Phase::Starting) => {
                tenure.phase = Phase::Running;
                self.out.push(Output::Decided(Decision::Running { group }));
            }
            (Outcome::StartFailed, Phase::Starting | Phase::Running) => {
                tenure.unable = true;
                self.out.push(Output::Decided(Decision::Unable { group }));
                self.release(position, None);
            }
            (Outcome::Stopped, Phase::Stopping { why }) => {
                let next = match why {
                    StopReason::HandOver(next) | StopReason::Moved(next) => Some(next),
                    // Nobody is to start anything now.
                    StopReason::Leaving if self.hands_off => None,
                    StopReason::Leaving | StopReason::Standby => self.heir(position, now),
                    StopReason::CleanSlate | StopReason::LeaseLost | StopReason::Failed | StopReason::PairHealed => None,
                };
                self.release(position, next.map(|next| (next, now + self.silence(next))));
            }
            (Outcome::Started | Outcome::StartFailed | Outcome::Stopped, _) => return,
        }
        self.list_changed = true;
    }

    /// A group has been stopped: its claim goes, perhaps in favour of another node.
    fn release(&mut self, position: usize, handing: Option<(NodeId, Time)>) {
        let tenure = &self.tenures[position];
        if tenure.claim.is_some() {
            self.out.push(Output::Decided(Decision::Released { group: tenure.group, next: handing.map(|(next, _)| next) }));
        }
        self.give_back(position, handing);
    }

    fn give_back(&mut self, position: usize, handing: Option<(NodeId, Time)>) {
        let tenure = &mut self.tenures[position];
        tenure.phase = Phase::Down;
        tenure.prompt = false;
        tenure.handing = handing;
        tenure.handed_by = None;
        tenure.free_since = None;
        tenure.claim = None;
        self.list_changed = true;
    }

    /// A group lost its footing here beyond local repair, or found it again.
    pub(super) fn fitness(&mut self, group: GroupId, able: bool) {
        let Some(position) = self.tenures.iter().position(|tenure| tenure.group == group) else { return };
        let tenure = &mut self.tenures[position];
        if tenure.unable != able {
            return;
        }
        tenure.unable = !able;
        self.list_changed = true;
        if !able {
            self.out.push(Output::Decided(Decision::Unable { group }));
        }
    }

    /// Looks at every group once more and notes when the next look is due.
    pub(super) fn review(&mut self, now: Time) {
        self.review = (Time::NEVER, Wake::Heartbeat);
        self.adjust_leases(now);
        for position in 0..self.tenures.len() {
            if self.tenures[position].leased {
                self.review_leased(position, now);
            } else {
                self.review_unleased(position, now);
            }
        }
        for at in 0..self.members.len() {
            let member = &self.members[at];
            if let Some(dies) = member.dies_at().filter(|_| member.known_alive) {
                self.look_again(dies, Wake::PeerSilence(self.members[at].node), now);
            }
        }
        if let Some(at) = self.wishes.next_end() {
            self.look_again(at, Wake::WishEnd, now);
        }
        if let Some(at) = self.alone_check_at(now) {
            self.look_again(at, Wake::AloneCheck, now);
        }
    }

    pub(super) fn look_again(&mut self, at: Time, why: Wake, now: Time) {
        if at > now && at < self.review.0 {
            self.review = (at, why);
        }
    }

    fn review_unleased(&mut self, position: usize, _now: Time) {
        let eligible = self.eligible();
        let tenure = &self.tenures[position];
        if self.hands_off && !self.leaving {
            return;
        }
        if tenure.is_active() && tenure.unable {
            self.stop(position, StopReason::Failed);
        } else if tenure.phase == Phase::Down && eligible && !tenure.unable {
            let generation = self.order_generation(position);
            let tenure = &mut self.tenures[position];
            tenure.phase = Phase::Starting;
            self.out.push(Output::Act(Action::Start { group: tenure.group, generation, until: None, adopt: false }));
        } else if tenure.is_active() && !eligible {
            self.stop(position, if self.leaving { StopReason::Leaving } else { StopReason::Standby });
        }
    }

    fn review_leased(&mut self, position: usize, now: Time) {
        self.forget_hand_overs(position, now);
        match self.tenures[position].phase {
            Phase::Down => self.review_down(position, now),
            Phase::Asking { since } => self.review_asking(position, since, now),
            Phase::Starting | Phase::Running => self.review_active(position, now),
            Phase::Stopping { .. } => {
                let tenure = &self.tenures[position];
                let (group, until) = (tenure.group, tenure.claim.as_ref().and_then(|claim| self.kept_until(claim)));
                if let Some(until) = until {
                    self.look_again(until.before(self.stop_lead()), Wake::LeaseEnd(group), now);
                }
            }
        }
    }

    fn forget_hand_overs(&mut self, position: usize, now: Time) {
        let tenure = &mut self.tenures[position];
        if tenure.handed_by.is_some_and(|(_, end)| end <= now) {
            tenure.handed_by = None;
        }
        if tenure.handing.is_some_and(|(_, end)| end <= now) {
            tenure.handing = None;
            self.list_changed = true;
        }
    }

    /// What is known about a group that is down here.
    pub(super) fn facts(&self, tenure: &Tenure, now: Time) -> Facts {
        Facts {
            now,
            eligible: self.eligible(),
            unable: tenure.unable,
            quorate: self.quorate(now),
            silent_until: self.silent_until(),
            hands_off: !self.may_begin(tenure),
            rank: tenure.standing,
            preferred: tenure.preferred == Some(self.me),
            claimed_by: self.claimed_by(tenure.group, now),
            granted_to: self.votes.obstacle(self.me, self.boot, tenure.group, now),
            retry_at: tenure.retry_at,
            handed_by: tenure.handed_by.map(|(by, _)| by),
            better: self.better(tenure, now),
            free_since: tenure.free_since.unwrap_or(now).max(self.silent_until),
            patience: self.patience(tenure),
        }
    }

    /// A living peer that claims the group.
    pub(super) fn claimed_by(&self, group: GroupId, now: Time) -> Option<NodeId> {
        self.members.iter().find(|member| claims(member, group) && self.is_alive(member, now)).map(|member| member.node)
    }

    fn is_well(&self, member: &Member, group: GroupId, now: Time) -> bool {
        let state = member.state();
        self.is_alive(member, now) && state.eligible && state.quorate && !declares_unable(member, group)
    }

    /// A well node that would start the group if it were given it. One that still claims what runs here lost it and has not
    /// got it down: it would hold the lease and never start.
    pub(super) fn could_take(&self, member: &Member, group: GroupId, now: Time) -> bool {
        self.is_well(member, group, now) && !claims(member, group)
    }

    /// The first candidate before this node that could run the group.
    fn better(&self, tenure: &Tenure, now: Time) -> Option<NodeId> {
        // When all start together, a better one may end its silence a little later than this node.
        let starting = now < self.silent_until() + self.patience(tenure) * tenure.standing;
        let mut before = self.candidates(tenure).take(tenure.standing as usize);
        before.find(|node| {
            self.member(*node).is_some_and(|member| {
                let starts_too = starting && self.is_alive(member, now) && member.state().eligible;
                self.is_well(member, tenure.group, now) || (starts_too && !declares_unable(member, tenure.group))
            })
        })
    }

    /// The first other candidate that could run the group.
    fn heir(&self, position: usize, now: Time) -> Option<NodeId> {
        let tenure = &self.tenures[position];
        let id = tenure.group;
        self.candidates(tenure).find(|node| self.member(*node).is_some_and(|member| self.could_take(member, id, now)))
    }

    fn review_down(&mut self, position: usize, now: Time) {
        let facts = self.facts(&self.tenures[position], now);
        let tenure = &mut self.tenures[position];
        if facts.claimed_by.is_some() || facts.granted_to.is_some() || facts.hands_off {
            tenure.free_since = None;
            tenure.attempts = 0;
        } else {
            tenure.free_since.get_or_insert(now);
        }
        // The moment it became free is a fact of this very look.
        let free_since = tenure.free_since.unwrap_or(now).max(self.silent_until);
        match (Facts { free_since, ..facts }).verdict() {
            Ok(why) => self.ask(position, why, now),
            Err(Wait::LeaseRuns { until: at, .. } | Wait::Silent { until: at } | Wait::Retry { at } | Wait::Better { at, .. }) => {
                let group = self.tenures[position].group;
                self.look_again(at, Wake::Ask(group), now);
            }
            Err(Wait::Ineligible | Wait::Maintenance | Wait::Unable | Wait::NoQuorum | Wait::OwnedBy(_)) => {}
        }
    }

    fn ask(&mut self, position: usize, why: AskReason, now: Time) {
        let since = self.next_version();
        let lease = self.lease_to_ask(now);
        let patience = self.asking_time(now);
        let tenure = &mut self.tenures[position];
        if matches!(why, AskReason::BetterGone | AskReason::StayedFree)
            && let Some(sent) = tenure.sent_home_at.take()
        {
            let soon = sent + self.config.server.failback_delay * HOMECOMING_DELAYS > now;
            tenure.homecomings_failed = if soon { (tenure.homecomings_failed + 1).min(HOMECOMING_DOUBLINGS) } else { 0 };
        }
        tenure.phase = Phase::Asking { since: now };
        tenure.handing = None;
        tenure.claim = Some(Claim::new(since, lease, self.voters.len()));
        self.list_changed = true;
        let group = tenure.group;
        self.out.push(Output::Decided(Decision::Asks { group, why }));
        self.look_again(now + patience, Wake::Ask(group), now);
    }

    fn review_asking(&mut self, position: usize, since: Time, now: Time) {
        if let Some(inherited) = self.tenures[position].inherits() {
            // It runs: there is nothing to be given up before its end.
            let (group, ends) = (self.tenures[position].group, inherited.until.before(self.stop_lead()));
            return self.look_again(ends, Wake::LeaseEnd(group), now);
        }
        let needed = self.needed_to_take();
        let eligible = self.eligible() && self.may_begin(&self.tenures[position]);
        let (group, quorate) = (self.tenures[position].group, self.quorate(now));
        let Some(claim) = &self.tenures[position].claim else { return };
        if self.taken_until(claim).is_some_and(|until| until.before(self.stop_lead()) > now) {
            // Taken up at the end of this turn, unless this node may no longer run it.
            if eligible && !self.must_yield(position, now) {
                return;
            }
        }
        let refused = claim.refusals().count();
        let hopeless = self.voters.len() - refused < needed;
        let patience = since + self.asking_time(now);
        if !eligible || !quorate || hopeless || patience <= now || self.must_yield(position, now) {
            self.withdraw(position, now);
            return;
        }
        let nudge = claim.nudge;
        if let Some(at) = nudge {
            if at <= now {
                self.ask_now = true;
                if let Some(claim) = &mut self.tenures[position].claim {
                    claim.nudge = None;
                }
            } else {
                self.look_again(at, Wake::Ask(group), now);
            }
        } else if let Some(at) = self.void_after(position, refused, None, now).filter(|at| *at < self.next_heartbeat) {
            if let Some(claim) = &mut self.tenures[position].claim {
                claim.nudge = Some(at);
            }
            self.look_again(at, Wake::Ask(group), now);
        }
        self.look_again(patience, Wake::Ask(group), now);
    }

    /// When the shortest `count` of the standing refusals will be void: a grant lasts as long as the voter says at most. That
    /// of a living node is worth a try before, at `living`: a fellow candidate's claim may be gone at once.
    fn void_after(&self, position: usize, count: usize, living: Option<Time>, now: Time) -> Option<Time> {
        let claim = self.tenures[position].claim.as_ref()?;
        let longest = self.longest_lease().max(LONGEST_REFUSAL);
        let left = |remaining_us: u64| Duration::from_micros(remaining_us).min(longest);
        let mut ends: Vec<Time> = claim
            .refusals()
            .filter_map(|(reason, at)| match reason {
                RefusalReason::Busy { holder, remaining_us } => {
                    let end = at + left(remaining_us);
                    let lives = self.member(holder).is_some_and(|member| self.is_alive(member, now));
                    Some(living.filter(|_| lives).map_or(end, |living| living.min(end)))
                }
                RefusalReason::Silent { remaining_us } => Some(at + left(remaining_us)),
                RefusalReason::Unknown => None,
            })
            .collect();
        ends.sort_unstable();
        // A millisecond for the round trip, so that the voter's clock has surely passed it.
        count
            .checked_sub(1)
            .and_then(|last| ends.get(last))
            .map(|end| (*end + Duration::from_millis(1)).max(now + Duration::from_millis(1)))
    }

    /// No majority: what was granted is given back, and the next try waits by rank so that split votes resolve themselves.
    fn withdraw(&mut self, position: usize, now: Time) {
        let longest = self.asking_time(now);
        let base = (self.lease() / 100).clamp(Duration::from_millis(1), Duration::from_millis(20));
        let rank = self.tenures[position].rank;
        let attempts = self.tenures[position].attempts.min(ATTEMPT_DOUBLINGS);
        let by_rank = now + (base * (1 + 2 * rank) * 2_u32.pow(attempts)).min(longest);
        let refused = self.tenures[position].claim.as_ref().map_or(0, |claim| claim.refusals().count());
        let must_void = (refused + self.needed_to_take()).saturating_sub(self.voters.len());
        let retry_at = self.void_after(position, must_void, Some(by_rank), now).unwrap_or(by_rank);
        let tenure = &mut self.tenures[position];
        tenure.attempts += 1;
        tenure.retry_at = retry_at;
        let handed_by = tenure.handed_by;
        self.out.push(Output::Decided(Decision::Withdrew { group: tenure.group }));
        self.give_back(position, None);
        let tenure = &mut self.tenures[position];
        tenure.handed_by = handed_by;
        tenure.free_since = Some(now);
        let group = tenure.group;
        self.look_again(retry_at, Wake::Ask(group), now);
    }

    fn review_active(&mut self, position: usize, now: Time) {
        if let Some(why) = self.must_stop(position, now) {
            let tenure = &mut self.tenures[position];
            // What the operator has just said is no sign of a node that does not stay well.
            if matches!(why, StopReason::HandOver(_) | StopReason::Moved(_)) && !tenure.prompt {
                tenure.sent_home_at = Some(now);
            }
            self.stop(position, why);
        }
    }

    /// Tells the executor of leases that last longer than it knows: once a turn, when everybody has answered who does so at
    /// once, this node's own votes among them.
    pub(super) fn extend(&mut self, now: Time) {
        let lease = self.lease();
        for position in 0..self.tenures.len() {
            let tenure = &self.tenures[position];
            if !tenure.leased || !matches!(tenure.phase, Phase::Starting | Phase::Running) {
                continue;
            }
            let Some(until) = self.told_until(tenure, now) else { continue };
            let group = tenure.group;
            let Some(claim) = &mut self.tenures[position].claim else { continue };
            // Voters of another configuration may grant far less than T.
            let step = until.since(now).min(lease) / 8;
            if until >= claim.told + step {
                claim.told = until;
                self.out.push(Output::Act(Action::Extend { group, until }));
            }
            self.look_again(until.before(self.stop_lead()), Wake::LeaseEnd(group), now);
        }
    }

    /// Why a group that is up here, or on its way up, must be stopped although its lease lasts.
    fn must_stop(&mut self, position: usize, now: Time) -> Option<StopReason> {
        if self.leaving {
            return Some(StopReason::Leaving);
        }
        if self.must_yield(position, now) {
            return Some(Self::YIELDS);
        }
        if self.hands_off {
            return None;
        }
        if !self.eligible() {
            return Some(StopReason::Standby);
        }
        if self.tenures[position].unable {
            return Some(StopReason::Failed);
        }
        let node = self.goes_home(position, now)?;
        let by_wish = self.tenures[position].preferred.is_some();
        Some(if by_wish { StopReason::Moved(node) } else { StopReason::HandOver(node) })
    }

    /// The home node, or the one that an operator wants it on, when it has been well for long enough.
    fn goes_home(&mut self, position: usize, now: Time) -> Option<NodeId> {
        let tenure = &self.tenures[position];
        if tenure.phase != Phase::Running || tenure.standing == 0 {
            return None;
        }
        let (group, failed) = (tenure.group, tenure.homecomings_failed);
        let member = self.belongs(tenure)?;
        let since = member.well_since.filter(|_| self.could_take(member, group, now))?;
        let due = since + self.config.server.failback_delay * 2_u32.pow(failed);
        if due <= now || tenure.prompt {
            return Some(member.node);
        }
        self.look_again(due, Wake::Failback(group), now);
        None
    }

    /// Starts what a majority has granted: the last step of a turn, after our own vote was cast.
    pub(super) fn take_up(&mut self, now: Time) {
        for position in 0..self.tenures.len() {
            let tenure = &self.tenures[position];
            let adopt = tenure.inherits().is_some();
            let may = adopt || (self.eligible() && self.may_begin(tenure) && !self.must_yield(position, now));
            if !matches!(tenure.phase, Phase::Asking { .. }) || !may {
                continue;
            }
            let Some(until) = tenure.claim.as_ref().and_then(|claim| self.taken_until(claim)) else { continue };
            let ends = until.before(self.stop_lead());
            if ends <= now {
                continue;
            }
            let generation = self.order_generation(position);
            let tenure = &mut self.tenures[position];
            tenure.phase = Phase::Starting;
            tenure.attempts = 0;
            tenure.handed_by = None;
            tenure.free_since = None;
            if let Some(claim) = &mut tenure.claim {
                claim.told = until;
                claim.nudge = None;
                // From the next list on, what it took the place of is not claimed any more.
                claim.inherited = None;
                self.list_changed |= adopt;
            }
            let group = tenure.group;
            self.out.push(Output::Decided(Decision::Acquired { group, until }));
            self.out.push(Output::Act(Action::Start { group, generation, until: Some(until), adopt }));
            self.look_again(ends, Wake::LeaseEnd(group), now);
        }
    }

    fn order_generation(&mut self, position: usize) -> Generation {
        let tenure = &mut self.tenures[position];
        tenure.generation = tenure.generation.next();
        tenure.generation
    }

    /// Orders a stop; the claim stays until it is done.
    fn stop(&mut self, position: usize, why: StopReason) {
        let generation = self.order_generation(position);
        let tenure = &mut self.tenures[position];
        tenure.phase = Phase::Stopping { why };
        let group = tenure.group;
        self.out.push(Output::Act(Action::Stop { group, generation, why }));
    }
}

/// Whether a peer cannot run a group.
fn declares_unable(member: &Member, group: GroupId) -> bool {
    matches!(member.stance(group), Some(Stance::Unable))
}
