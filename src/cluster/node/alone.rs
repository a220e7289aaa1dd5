//! Carrying on alone: the rules of a pair. Two voters have no majority without each other, so the survivor may go on by
//! itself after T of silence, once its link, the gateway and the addresses have been checked. This is the one place where
//! safety rests on something else than a majority.

use super::{super::tenure::Phase, Node};
use crate::model::{Action, Decision, Output, Quorum, StopReason, Time};

/// Whether this node carries on without a majority.
#[derive(Clone, Debug, Hash)]
pub(super) struct Alone {
    /// Grants that make a lease while alone.
    needed: Option<usize>,
    /// Not to be checked (again) before.
    check_at: Time,
    asked: bool,
}

impl Alone {
    pub(super) fn new(silent_until: Time) -> Self {
        Self { needed: None, check_at: silent_until, asked: false }
    }

    pub(super) fn is_alone(&self) -> bool {
        self.needed.is_some()
    }

    pub(super) fn needed(&self) -> Option<usize> {
        self.needed
    }
}

impl Node {
    fn pair_rules(&self) -> bool {
        match self.config.server.quorum {
            Quorum::Auto => self.voters.len() == 2,
            Quorum::Majority => false,
            Quorum::None => true,
        }
    }

    /// Every voter that is not in two-way touch is silent altogether: a half-deaf one may still be an owner.
    fn others_are_silent(&self, now: Time) -> bool {
        self.voters
            .iter()
            .filter(|voter| **voter != self.me)
            .all(|voter| self.member(*voter).is_none_or(|member| !self.is_alive(member, now) || member.hears_us()))
    }

    /// Every voter that is not in touch has said goodbye: nothing is left to check.
    fn others_have_left(&self, now: Time) -> bool {
        self.voters
            .iter()
            .filter(|voter| **voter != self.me)
            .all(|voter| self.member(*voter).is_some_and(|member| member.has_left() || (self.is_alive(member, now) && member.hears_us())))
    }

    fn may_be_alone(&self, now: Time) -> bool {
        self.pair_rules() && self.voter.is_some() && self.voters_seen(now) < self.majority() && self.others_are_silent(now)
    }

    /// When the checks are due next; `None` when they are not.
    pub(super) fn alone_check_at(&self, now: Time) -> Option<Time> {
        (!self.alone.is_alone() && self.may_be_alone(now)).then_some(self.alone.check_at)
    }

    pub(super) fn watch_alone(&mut self, now: Time) {
        if self.alone.is_alone() {
            self.end_alone(now);
        } else if !self.may_be_alone(now) {
            self.alone.asked = false;
        } else if self.others_have_left(now) && now >= self.silent_until {
            self.carry_on(now);
        } else if now >= self.alone.check_at {
            self.alone.asked = true;
            self.alone.check_at = now + self.lease().max(std::time::Duration::from_secs(1));
            self.out.push(Output::Act(Action::CheckAlone));
        }
    }

    pub(super) fn alone_answer(&mut self, clear: bool, now: Time) {
        if clear && std::mem::take(&mut self.alone.asked) && self.may_be_alone(now) {
            self.carry_on(now);
        }
    }

    fn carry_on(&mut self, now: Time) {
        self.alone.needed = Some(self.voters_seen(now) / 2 + 1);
        self.out.push(Output::Decided(Decision::CarriesOnAlone));
    }

    /// With the others back, a lease counts by majority again as soon as every claim has one; until then what runs goes on.
    fn end_alone(&mut self, now: Time) {
        if self.voters_seen(now) < self.majority() {
            return;
        }
        let majority = self.majority();
        let settled = self
            .tenures
            .iter()
            .filter_map(|tenure| tenure.claim.as_ref())
            .all(|claim| claim.until(majority).is_some_and(|until| until > now));
        if settled {
            self.alone.needed = None;
            self.alone.asked = false;
        }
    }

    /// After a split of a pair heals, both may hold a group: the candidate earlier in the list keeps it.
    pub(super) fn must_yield(&self, position: usize, now: Time) -> bool {
        let tenure = &self.tenures[position];
        if !self.alone.is_alone() || !matches!(tenure.phase, Phase::Starting | Phase::Running | Phase::Asking { .. }) {
            return false;
        }
        let Some(group) = self.config.group(tenure.group) else { return false };
        let rank = tenure.rank as usize;
        group.candidates.iter().take(rank).any(|better| {
            self.member(*better).is_some_and(|member| self.is_alive(member, now) && super::exchange::claims(member, tenure.group))
        })
    }

    /// The reason given when it yields.
    pub(super) const YIELDS: StopReason = StopReason::PairHealed;
}
