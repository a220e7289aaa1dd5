//! True time and what one machine's CLOCK_BOOTTIME makes of it.

use std::time::Duration;

use drcm::model::Time;

/// A point in true time, in nanoseconds since the run began. Nobody in the simulated cluster can read it.
pub type Instant = u64;

/// Later than anything that happens.
pub const NEVER: Instant = u64::MAX;

/// One millisecond of true time.
pub const MILLISECOND: Instant = 1_000_000;

/// One second of true time.
pub const SECOND: Instant = 1_000_000_000;

/// A span of true time; spans beyond the run saturate.
pub fn span(duration: Duration) -> Instant {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}

/// A clock with an offset and a wrong rate.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// True time at which the machine came up.
    since: Instant,
    /// What the clock showed then, in nanoseconds.
    shown: u64,
    /// How much too fast it runs, in millionths.
    fast: i64,
}

impl Clock {
    /// A clock that shows `shown` nanoseconds at `since` and runs `fast` millionths too fast.
    pub fn new(since: Instant, shown: u64, fast: i64) -> Self {
        Self { since, shown, fast }
    }

    /// How much too fast this clock runs, in millionths.
    pub fn fast(&self) -> i64 {
        self.fast
    }

    /// What the clock shows at an instant.
    pub fn local(&self, at: Instant) -> Time {
        let elapsed = at.saturating_sub(self.since) as i64;
        Time(self.shown + (elapsed + (elapsed * self.fast).div_euclid(1_000_000)) as u64)
    }

    /// The first instant at which the clock shows `time` or more.
    pub fn instant(&self, time: Time) -> Instant {
        let shown = time.0.saturating_sub(self.shown);
        // Beyond 10,000 s after the machine came up: no run lasts that long, and the product below stays in range.
        if shown > 10_000 * SECOND {
            return NEVER;
        }
        let mut at = self.since + shown * 1_000_000 / (1_000_000 + self.fast) as u64;
        while self.local(at) < time {
            at += 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_the_first_at_which_the_clock_shows_the_time() {
        for fast in [-200_000, -10_000, -1, 0, 1, 9_999, 10_000] {
            let clock = Clock::new(5 * SECOND, 77 * SECOND, fast);
            for local in [0, 1, 999, 12_345_678, SECOND, 599 * SECOND + 7].map(|after| Time(77 * SECOND + after)) {
                let at = clock.instant(local);
                assert!(clock.local(at) >= local);
                assert!(at == 5 * SECOND || clock.local(at - 1) < local);
            }
        }
    }
}
