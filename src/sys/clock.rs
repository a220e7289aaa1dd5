//! The two clocks: the one that leases are timed by, and the one that people read.

use std::{
    fs, io,
    time::{SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};

use crate::model::Time;

/// Now, on CLOCK_BOOTTIME: it runs on while the machine is suspended and no one can set it.
#[must_use]
pub fn now() -> Time {
    // CLOCK_BOOTTIME exists since Linux 2.6.39 and the call has no other way to fail; zero would read as "just booted",
    // which expires nothing and grants nothing.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Time::ZERO, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanoseconds = u64::try_from(time.tv_nsec()).unwrap_or(0);
        Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
    })
}

/// What systemd times a reload by.
#[must_use]
pub fn monotonic() -> std::time::Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(std::time::Duration::ZERO, Into::into)
}

/// Names this run of the machine: CLOCK_BOOTTIME of another run means nothing in it.
///
/// # Errors
/// When /proc is not there.
pub fn boot_of_the_machine() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Seconds since 1970, for logs and reports only.
#[must_use]
pub fn wall_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Milliseconds since 1970, for events and reports only.
#[must_use]
pub fn wall_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward() {
        let first = now();
        assert!(first > Time::ZERO);
        assert!(now() >= first);
        assert!(wall_seconds() > 1_600_000_000);
    }
}
