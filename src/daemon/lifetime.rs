//! How long the kernel may keep an address without hearing from us: always less than the lease that covers it, so that the
//! address is gone before anyone else may have it even when this daemon is killed or paused.

use std::time::Duration;

use crate::model::Time;

/// The kernel counts whole seconds and removes an IPv4 address up to 0.25 s late (measured); this much is kept clear.
const CLEARANCE: Duration = Duration::from_millis(300);
/// And it looks for addresses that are over once a second at most: of two that end one after the other, the second may stay
/// for as much longer (measured: up to 0.98 s). Where the lease has room for it, that is kept clear as well.
const NEXT_LOOK: Duration = SECOND;
/// A renewal may be this late through a lost heartbeat or a busy machine, besides the interval between heartbeats.
const LATENESS: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);

/// Lifetimes for one lease time T.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetimes {
    /// Whole seconds that fit the lease.
    Exact,
    /// T is too short for whole seconds: one second, whatever remains. After a killed or paused daemon the overlap is bounded by it.
    Coarse,
}

impl Lifetimes {
    /// For leases that are at most `longest` when fresh.
    #[must_use]
    pub fn for_lease(longest: Duration) -> Self {
        if longest >= SECOND + CLEARANCE + Duration::from_millis(20) { Self::Exact } else { Self::Coarse }
    }

    /// Whether a lifetime of `life`, of which `left` is left, is to be renewed now, when the core tells of renewals every
    /// `step` or a heartbeat `interval` later: at half of it, or earlier when it might end before there is another chance. A
    /// lifetime of one second is much shorter than its lease, so each renewal is used: a break that the lease bears should not
    /// cost the address.
    #[must_use]
    pub fn is_due(life: Duration, left: Duration, step: Duration, interval: Duration) -> bool {
        life <= SECOND || left < (life / 2).max(step + interval * 2 + LATENESS)
    }

    /// When to look whether a lifetime that `ends` can be prolonged although no renewal has come: its lease may have more left
    /// than it had room for then. Too late is a machine that is busy.
    #[must_use]
    pub fn last_chance(ends: Time) -> Time {
        ends.before(LATENESS * 2)
    }

    /// The lifetime to set when this much of the lease is left; `None` when too little is left to set any safely.
    #[must_use]
    pub fn lifetime(self, left: Duration) -> Option<Duration> {
        match self {
            Self::Exact => {
                let tight = || Duration::from_secs(left.saturating_sub(CLEARANCE).as_secs());
                Self::roomy(left).or_else(|| Some(tight()).filter(|life| !life.is_zero()))
            }
            Self::Coarse => (!left.is_zero()).then_some(SECOND),
        }
    }

    /// The lifetime to set at the last chance, when the lease has not been renewed and this much of it is left.
    #[must_use]
    pub fn prolonged(self, left: Duration) -> Option<Duration> {
        match self {
            Self::Exact => Self::roomy(left),
            // It is set at every renewal, and is longer than the lease as it is.
            Self::Coarse => None,
        }
    }

    fn roomy(left: Duration) -> Option<Duration> {
        Some(Duration::from_secs(left.saturating_sub(CLEARANCE + NEXT_LOOK).as_secs())).filter(|life| !life.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_address_never_outlives_the_lease_where_seconds_fit() {
        let lifetimes = Lifetimes::for_lease(ms(1468));
        assert_eq!(lifetimes, Lifetimes::Exact);
        for left in 0..20_000 {
            if let Some(life) = lifetimes.lifetime(ms(left)) {
                assert!(life + ms(250) < ms(left), "{life:?} of {left} ms");
            }
        }
        assert_eq!(lifetimes.lifetime(ms(1468)), Some(ms(1000)));
        assert_eq!(lifetimes.lifetime(ms(1299)), None);
        assert_eq!(lifetimes.lifetime(ms(2_299)), Some(ms(1000)));
        // From here on there is room for the second of two that end one after the other.
        for left in 2_300..20_000 {
            let life = lifetimes.lifetime(ms(left)).unwrap();
            assert!(life + ms(1_250) < ms(left), "{life:?} of {left} ms");
        }
        assert_eq!(lifetimes.lifetime(ms(15_000)), Some(ms(13_000)));
    }

    #[test]
    fn a_lifetime_is_renewed_at_half_or_before_the_next_chance_is_too_late() {
        let due = |life, left, step, interval| Lifetimes::is_due(ms(life), ms(left), ms(step), ms(interval));
        assert!(due(14_000, 6_999, 1_875, 100));
        assert!(!due(14_000, 7_001, 1_875, 100));
        // h = 500 ms, T = 1.5 s: every renewal is used.
        assert!(due(1_000, 999, 188, 500));
        assert!(due(1_000, 990, 188, 100), "one second: always");
        assert!(due(4_000, 2_900, 750, 1_000));
        assert!(!due(4_000, 3_100, 750, 1_000));
    }

    /// No renewal comes any more: the address stays nearly as long as its lease.
    #[test]
    fn a_lifetime_is_prolonged_as_far_as_its_lease_goes() {
        for lease in 2_300..20_000 {
            let lifetimes = Lifetimes::for_lease(ms(lease));
            let until = Time::ZERO + ms(lease);
            let mut ends = Time::ZERO + lifetimes.lifetime(ms(lease)).unwrap();
            loop {
                let now = Lifetimes::last_chance(ends);
                let Some(life) = lifetimes.prolonged(until.since(now)).filter(|life| now + *life > ends) else { break };
                ends = now + life;
                assert!(ends + ms(1_250) < until);
            }
            assert!(ends + ms(1_800) >= until, "{ends:?} of {lease} ms");
        }
    }

    #[test]
    fn short_leases_get_one_second() {
        let lifetimes = Lifetimes::for_lease(ms(27));
        assert_eq!(lifetimes.lifetime(ms(20)), Some(ms(1000)));
        assert_eq!(lifetimes.lifetime(ms(0)), None);
    }
}
