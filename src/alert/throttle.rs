//! At most one message in so many hours, by the same files as `send_alert.sh` and under the same lock: whichever of the two tells
//! people first, the other keeps still.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    libc,
};

/// Between two tries to lock.
const AGAIN: Duration = Duration::from_millis(100);
/// Most that is read of a time, in bytes.
const LONGEST: u64 = 20;

/// The files.
#[derive(Clone, Debug)]
pub(super) struct Throttle {
    /// When the last message was sent, in seconds since 1970.
    last: PathBuf,
    /// Made with the first message.
    first: PathBuf,
    guard: PathBuf,
    hours: u32,
}

/// Held while a message is on its way: two at the same moment are one.
#[derive(Debug)]
pub(super) struct Turn {
    throttle: Throttle,
    _lock: Flock<File>,
}

impl Throttle {
    pub(super) fn new(spool_dir: &Path, hours: u32) -> Self {
        Self {
            last: spool_dir.join("alert_last_sent"),
            first: spool_dir.join("alert_init"),
            guard: spool_dir.join("alert_last_sent.guard"),
            hours,
        }
    }

    /// How long until a message may be sent; zero: now.
    pub(super) fn wait(&self, now: i64) -> Duration {
        let mut text = String::new();
        let file = File::open(&self.last);
        let read = file.and_then(|file| file.take(LONGEST).read_to_string(&mut text));
        let last = if read.is_ok() && self.first.exists() { text.trim().parse().ok() } else { None };
        until(last, self.hours, now)
    }

    /// Takes the lock; waits for it, blocking, at most for so long.
    ///
    /// # Errors
    /// Somebody else has it for too long, or the files cannot be used.
    pub(super) fn turn(&self, patience: Duration) -> io::Result<Turn> {
        let begun = Instant::now();
        let options = || OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&self.guard);
        let mut file = options()?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Turn { throttle: self.clone(), _lock: lock }),
                Err((again, Errno::EWOULDBLOCK)) if begun.elapsed() < patience => file = again,
                Err((_, errno)) => return Err(errno.into()),
            }
            thread::sleep(AGAIN);
        }
    }
}

impl Turn {
    /// Notes that a message was sent now.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub(super) fn sent(&self, now: i64) -> io::Result<()> {
        let Throttle { last, first, .. } = &self.throttle;
        replace(last, now)?;
        if first.exists() { Ok(()) } else { replace(first, now) }
    }
}

/// The time to wait after a message at `last`. One in the future is none: the clock was wrong.
fn until(last: Option<i64>, hours: u32, now: i64) -> Duration {
    let Some(passed) = last.and_then(|last| now.checked_sub(last)).and_then(|passed| u64::try_from(passed).ok()) else {
        return Duration::ZERO;
    };
    Duration::from_secs(u64::from(hours) * 3600).saturating_sub(Duration::from_secs(passed))
}

fn replace(path: &Path, now: i64) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&new)?;
    writeln!(file, "{now}")?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_in_so_many_hours() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert_eq!(until(None, 4, 1_000_000), Duration::ZERO);
        assert_eq!(until(Some(1_000_000), 4, 1_000_000), hours(4));
        assert_eq!(until(Some(1_000_000), 4, 1_000_000 + 3 * 3600), hours(1));
        assert_eq!(until(Some(1_000_000), 4, 1_000_000 + 4 * 3600), Duration::ZERO);
        assert_eq!(until(Some(1_000_001), 4, 1_000_000), Duration::ZERO, "in the future");
        assert_eq!(until(Some(1_000_000), 0, 1_000_000), Duration::ZERO);
        assert_eq!(until(Some(i64::MIN), 4, i64::MAX), Duration::ZERO);
    }

    #[test]
    fn the_files_are_those_of_the_script() {
        let directory = std::env::temp_dir().join(format!("drcm-throttle-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let throttle = Throttle::new(&directory, 4);
        assert_eq!(throttle.wait(5_000_000), Duration::ZERO);
        let turn = throttle.turn(Duration::ZERO).unwrap();
        assert!(throttle.turn(Duration::from_millis(150)).is_err(), "two at the same moment");
        turn.sent(5_000_000).unwrap();
        drop(turn);
        assert_eq!(fs::read_to_string(directory.join("alert_last_sent")).unwrap(), "5000000\n");
        assert!(throttle.wait(5_000_000) == Duration::from_secs(4 * 3600) && throttle.turn(Duration::ZERO).is_ok());
        // Nonsense, and a missing first message, as in the script.
        fs::write(directory.join("alert_last_sent"), "soon").unwrap();
        assert_eq!(throttle.wait(5_000_000), Duration::ZERO);
        fs::write(directory.join("alert_last_sent"), "5000000\n").unwrap();
        fs::remove_file(directory.join("alert_init")).unwrap();
        assert_eq!(throttle.wait(5_000_000), Duration::ZERO);
        fs::remove_dir_all(&directory).unwrap();
    }
}
