//! Carrying on alone: the rules of a pair. Two voters have no majority without each other, so the survivor may go on by
//! itself after T of silence, once its link, the gateway and the addresses have been checked. This is the one place where
//! safety rests on something else than a majority.
//!
//! A lease ends a little before T of silence is over. So what runs here is looked after earlier: once the other voter has
//! been silent for a part of T and the link and the gateway are found to work, a node *keeps* what it runs on its own vote,
//! and takes nothing new. Without that, the death of a backup would stop what its owner runs for as long as the checks take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    super::{member::Member, tenure::Phase},
    Node,
};
use crate::model::{Action, Checks, Config, Decision, Output, Quorum, StopReason, Time};

/// Shortest time between two checks of the link while a lease still runs.
const LINK_AGAIN: Duration = Duration::from_millis(10);
/// Shortest time between two checks of everything.
const ALL_AGAIN: Duration = Duration::from_secs(1);

/// Whether this node carries on without a majority.
#[derive(Clone, Debug, Hash)]
pub(super) struct Alone {
    standing: Standing,
    /// Not to be checked (again) before.
    check_at: Time,
    link_check_at: Time,
    asked: Option<Checks>,
}

/// On whose votes a lease rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Standing {
    /// A majority.
    Together,
    /// Its own side, for what it runs already.
    Keeping {
        /// Since when.
        since: Time,
        /// Votes that a lease needs.
        needed: usize,
    },
    /// Its own side, for whatever it is a candidate for.
    Alone {
        /// Since when.
        since: Time,
        /// Votes that a lease needs.
        needed: usize,
    },
}

impl Alone {
    pub(super) fn new(silent_until: Time) -> Self {
        Self { standing: Standing::Together, check_at: silent_until, link_check_at: silent_until, asked: None }
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// Goes on where the process before this one stood.
    pub(super) fn recall(&mut self, standing: Standing) {
        self.standing = standing;
    }

    pub(super) fn is_alone(&self) -> bool {
        matches!(self.standing, Standing::Alone { .. })
    }

    /// Votes that a lease of what runs here needs, when that is not a majority.
    pub(super) fn needed_to_keep(&self) -> Option<usize> {
        match self.standing {
            Standing::Together => None,
            Standing::Keeping { needed, .. } | Standing::Alone { needed, .. } => Some(needed),
        }
    }

    /// Votes that a new lease needs, when that is not a majority.
    pub(super) fn needed_to_take(&self) -> Option<usize> {
        match self.standing {
            Standing::Together | Standing::Keeping { .. } => None,
            Standing::Alone { needed, .. } => Some(needed),
        }
    }

    fn since(&self) -> Option<Time> {
        match self.standing {
            Standing::Together => None,
            Standing::Keeping { since, .. } | Standing::Alone { since, .. } => Some(since),
        }
    }
}

impl Node {
    fn pair_rules_hold(&self) -> bool {
        pair_rules(&self.config, self.voters.len()) && !self.others_rely_on_majorities()
    }

    fn other_voters(&self) -> impl Iterator<Item = Option<&Member>> {
        self.voters.iter().filter(|voter| **voter != self.me).map(|voter| self.member(*voter))
    }

    /// Voters that were heard within `patience` and hear us, this node included.
    fn voters_within(&self, patience: Duration, now: Time) -> usize {
        1 + self.other_voters().flatten().filter(|member| member.alive_within(now, patience) && member.hears_us()).count()
    }

    /// Every voter that is not in two-way touch is silent altogether: a half-deaf one may still be an owner.
    fn others_are_silent(&self, patience: Duration, now: Time) -> bool {
        self.other_voters().flatten().all(|member| !member.alive_within(now, patience) || member.hears_us())
    }

    /// Every voter that is not in touch has said goodbye: nothing is left to check.
    fn others_have_left(&self, now: Time) -> bool {
        self.other_voters()
            .all(|member| member.is_some_and(|member| member.has_left() || (self.is_alive(member, now) && member.hears_us())))
    }

    fn may_be_alone(&self, now: Time) -> bool {
        let patience = self.voters_time();
        self.pair_rules_hold()
            && self.votes.is_voter()
            && self.voters_within(patience, now) < self.needed_to_take()
            && self.others_are_silent(patience, now)
    }

    /// How long another voter must have been silent before what runs here is looked after: there must be time for the checks
    /// before the lease ends, and one lost heartbeat must not do.
    fn unease(&self) -> Duration {
        self.voters_time() * 2 / 5
    }

    fn runs_something(&self) -> bool {
        self.tenures.iter().any(|tenure| tenure.leased && tenure.is_active())
    }

    fn may_keep(&self, now: Time) -> bool {
        let patience = self.unease();
        self.pair_rules_hold()
            && self.votes.is_voter()
            && self.runs_something()
            && self.voters_within(patience, now) < self.needed_to_keep()
            && self.others_are_silent(patience, now)
    }

    /// When this node has to look at its standing next.
    pub(super) fn alone_check_at(&self, now: Time) -> Option<Time> {
        if !self.pair_rules_hold() {
            return None;
        }
        let all = self.may_be_alone(now).then_some(self.alone.check_at);
        let link = if !self.runs_something() {
            None
        } else if self.may_keep(now) {
            Some(self.alone.link_check_at)
        } else {
            let uneasy = |member: &Member| member.last_heard().map(|heard| heard + self.unease());
            self.other_voters().flatten().filter_map(uneasy).filter(|at| *at > now).min()
        };
        all.into_iter().chain(link).min()
    }

    pub(super) fn watch_alone(&mut self, now: Time) {
        self.end_alone(now);
        if self.may_be_alone(now) {
            if self.others_have_left(now) && now >= self.silent_until {
                self.carry_on(now);
            } else if now >= self.alone.check_at {
                self.alone.check_at = now + self.voters_time().max(ALL_AGAIN);
                self.ask_for(Checks::All);
            }
        } else if self.may_keep(now) {
            if now >= self.alone.link_check_at {
                self.alone.link_check_at = now + (self.voters_time() / 5).max(LINK_AGAIN);
                self.ask_for(Checks::Link);
            }
        } else {
            self.alone.asked = None;
        }
    }

    fn ask_for(&mut self, checks: Checks) {
        self.alone.asked = Some(checks);
        self.out.push(Output::Act(Action::CheckAlone { checks }));
    }

    pub(super) fn alone_answer(&mut self, checks: Checks, clear: bool, now: Time) {
        if self.alone.asked != Some(checks) {
            return;
        }
        self.alone.asked = None;
        if !clear {
            return;
        }
        match checks {
            Checks::Link if self.may_keep(now) => {
                let needed = self.voters_within(self.unease(), now) / 2 + 1;
                self.alone.standing = Standing::Keeping { since: now, needed };
                self.out.push(Output::Decided(Decision::KeepsAlone));
            }
            Checks::All if self.may_be_alone(now) => self.carry_on(now),
            Checks::Link | Checks::All => {}
        }
    }

    fn carry_on(&mut self, now: Time) {
        let needed = self.voters_within(self.voters_time(), now) / 2 + 1;
        self.alone.standing = Standing::Alone { since: now, needed };
        self.alone.asked = None;
        self.out.push(Output::Decided(Decision::CarriesOnAlone));
    }

    /// With the others back, a lease counts by majority again as soon as all that runs has one; until then it goes on.
    fn end_alone(&mut self, now: Time) {
        let Some(since) = self.alone.since() else { return };
        let majority = self.majority();
        let lease = self.voters_time();
        let back = |member: &&Member| {
            member.alive_within(now, lease) && member.hears_us() && member.last_heard().is_some_and(|heard| heard > since)
        };
        if 1 + self.other_voters().flatten().filter(back).count() < majority {
            return;
        }
        let settled = self
            .tenures
            .iter()
            .filter(|tenure| tenure.is_active())
            .filter_map(|tenure| tenure.claim.as_ref())
            .all(|claim| claim.until(majority).is_some_and(|until| until > now));
        if settled {
            self.alone.standing = Standing::Together;
            self.alone.asked = None;
        }
    }

    /// After a split of a pair heals, both may hold a group: the candidate earlier in the list keeps it.
    pub(super) fn must_yield(&self, position: usize, now: Time) -> bool {
        let tenure = &self.tenures[position];
        if self.alone.since().is_none() || !matches!(tenure.phase, Phase::Starting | Phase::Running | Phase::Asking { .. }) {
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

/// Whether a node may carry on without a majority at all.
pub(super) fn pair_rules(config: &Config, voters: usize) -> bool {
    match config.server.quorum {
        Quorum::Auto => voters == 2,
        Quorum::Majority => false,
        Quorum::None => true,
    }
}
