//! What the daemon keeps in files: its pid and lock in run_dir, the longest lease it may have granted and the voters that it
//! counts in spool_dir.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};

use crate::model::{Electorate, NodeId, Server};

/// Longest lease that a damaged or planted file can make us wait for.
const LONGEST_BELIEVED: Duration = Duration::from_secs(24 * 3600);
/// Longest file about voters that is read: far beyond what is written.
const LONGEST_VOTERS: u64 = 64 << 10;
/// Its first line, when this node has heard every voter, and when it has not.
const KNOWN: &str = "known";
const NEW: &str = "new";

/// Why the files could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A directory is missing and cannot be made.
    #[error("cannot make the directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This run of the machine cannot be told from others.
    #[error("cannot ask the kernel for the boot of this machine, is /proc mounted? {source}")]
    Machine {
        /// Why.
        source: io::Error,
    },
    /// Another daemon holds the lock.
    #[error("another drcm_server (pid {pid}) is already running with {path}: stop it first, or give this one another run_dir")]
    Running {
        /// The pid file.
        path: PathBuf,
        /// What it says.
        pid: String,
    },
}

/// Held for as long as the daemon runs: there is one per run_dir.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    _lock: Flock<File>,
}

impl PidFile {
    /// Takes the lock and writes our pid.
    ///
    /// # Errors
    /// When another daemon has it, or run_dir cannot be used.
    pub fn take(server: &Server) -> Result<Self, StateError> {
        for path in [&server.run_dir, &server.spool_dir] {
            fs::create_dir_all(path).map_err(|source| StateError::Directory { path: path.clone(), source })?;
        }
        let path = server.run_dir.join(format!("{}.pid", server.service_name));
        let fault = |source| StateError::File { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(nix::libc::O_CLOEXEC | nix::libc::O_NOFOLLOW)
            .open(&path)
            .map_err(fault)?;
        let mut pid = String::new();
        // Whatever stands there is only shown to people.
        (&mut file).take(32).read_to_string(&mut pid).map(drop).unwrap_or_default();
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Err(StateError::Running { path, pid: pid.trim().to_owned() }),
            Err((_, errno)) => return Err(fault(errno.into())),
        };
        lock.set_len(0).map_err(fault)?;
        io::Seek::rewind(&mut *lock).map_err(fault)?;
        writeln!(lock, "{}", std::process::id()).map_err(fault)?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // A stale file does no harm: the lock is what counts.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}

/// The longest lease that this node may have granted, as noted in spool_dir; zero when nothing (credible) is noted.
#[must_use]
pub fn longest_lease(spool_dir: &Path) -> Duration {
    let Ok(text) = fs::read_to_string(file(spool_dir)) else { return Duration::ZERO };
    text.trim().parse().map_or(Duration::ZERO, Duration::from_micros).min(LONGEST_BELIEVED)
}

/// Notes it, so that it is on disk before anything is granted.
///
/// # Errors
/// When spool_dir cannot be written.
pub fn note_longest_lease(spool_dir: &Path, lease: Duration) -> Result<(), StateError> {
    replace(&file(spool_dir), &format!("{}\n", lease.as_micros()))
}

/// The voters that this node counted last, as noted in spool_dir; nothing when nothing (credible) is noted.
#[must_use]
pub fn electorate(spool_dir: &Path) -> Option<Electorate> {
    let mut text = String::new();
    File::open(voters_file(spool_dir)).ok()?.take(LONGEST_VOTERS).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let new = match lines.next()? {
        KNOWN => false,
        NEW => true,
        _ => return None,
    };
    let set = |line: &str| line.split_whitespace().map(|node| u64::from_str_radix(node, 16).map(NodeId).ok()).collect::<Option<Vec<_>>>();
    let mut sets = lines.map(set).collect::<Option<Vec<_>>>()?.into_iter();
    Some(Electorate { voters: sets.next()?, former: sets.collect(), new })
}

/// Notes them: the present ones, then former ones that may still count somewhere.
///
/// # Errors
/// When spool_dir cannot be written.
pub fn note_electorate(spool_dir: &Path, electorate: &Electorate) -> Result<(), StateError> {
    let Electorate { voters, former, new } = electorate;
    let mut text = format!("{}\n", if *new { NEW } else { KNOWN });
    for set in std::iter::once(voters).chain(former) {
        let line: Vec<String> = set.iter().map(ToString::to_string).collect();
        text += &format!("{}\n", line.join(" "));
    }
    replace(&voters_file(spool_dir), &text)
}

/// Gives a file another content, which is on disk when this returns: the old one or the new one, whatever happens.
///
/// # Errors
/// When its directory cannot be written, a full disk for instance; the old content stays.
pub fn replace(path: &Path, text: &str) -> Result<(), StateError> {
    let new = path.with_extension("new");
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    };
    write().map_err(|source| {
        // It may take the room that is lacking; the next try makes it anew in any case.
        drop(fs::remove_file(&new));
        StateError::File { path: path.to_owned(), source }
    })
}

fn voters_file(spool_dir: &Path) -> PathBuf {
    spool_dir.join("voters")
}

fn file(spool_dir: &Path) -> PathBuf {
    spool_dir.join("longest_lease_us")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_voters_come_back_as_they_were_noted() {
        let directory = std::env::temp_dir().join(format!("drcm-state-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        assert_eq!(electorate(&directory), None);
        let set = |voters: &[u64]| voters.iter().copied().map(NodeId).collect::<Vec<_>>();
        for new in [true, false] {
            let noted = Electorate { voters: set(&[1, u64::MAX]), former: vec![set(&[1]), set(&[1, 2, 3])], new };
            note_electorate(&directory, &noted).unwrap();
            assert_eq!(electorate(&directory), Some(noted));
        }
        fs::write(voters_file(&directory), "known\nnot hexadecimal\n").unwrap();
        assert_eq!(electorate(&directory), None);
        fs::remove_dir_all(&directory).unwrap();
    }
}
