//! Processes that are not our children: finding those that carry a mark in their environment, and ending them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    libc,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
};

/// An environment may have two megabytes; what is longer is not ours.
const ENVIRONMENT_LIMIT: u64 = 4 << 20;

/// A process found.
#[derive(Debug)]
pub struct Found {
    /// Its id.
    pub pid: i32,
    /// Its short name, as `ps` shows it.
    pub command: String,
    /// Stays with this very process when the id is given to another; `None` before Linux 5.3.
    handle: Option<OwnedFd>,
}

impl Found {
    /// Sends a signal. A process that has gone meanwhile is fine.
    ///
    /// # Errors
    /// When it may not be signalled.
    pub fn signal(&self, signal: i32) -> Result<(), Errno> {
        let result = match &self.handle {
            // SAFETY: plain numbers, and null for "as kill(2) would".
            Some(handle) => unsafe {
                libc::syscall(libc::SYS_pidfd_send_signal, handle.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
            },
            // SAFETY: plain numbers.
            None => unsafe { libc::c_long::from(libc::kill(self.pid, signal)) },
        };
        match Errno::result(result) {
            Ok(_) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// Takes note of the end of every child that has ended by now. Only where nobody waits for one: at the start of a program.
pub fn reap() {
    // Fails when there is no child at all.
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
}

/// The processes with `mark` (`NAME=value`) in their environment as it was when they were started, those in the control group
/// of the unit `scope`, their descendants, and whoever shares a session with them; never ourselves. A look at /proc: blocks while a process is stuck in a page fault.
///
/// # Errors
/// When /proc cannot be listed.
pub fn marked(mark: &str, scope: &str) -> io::Result<Vec<Found>> {
    let own = std::process::id().cast_signed();
    let others = self::all()?.into_iter().filter(|pid| *pid > 1 && *pid != own);
    let all: BTreeMap<i32, Status> = others.filter_map(|pid| Some((pid, Status::read(pid)?))).collect();
    let own_session = Status::read(own).map_or(0, |status| status.session);
    let mut chosen: BTreeSet<i32> = all.keys().copied().filter(|pid| carries(*pid, mark) || is_in(*pid, scope)).collect();
    let sessions: BTreeSet<i32> = chosen
        .iter()
        .filter_map(|pid| all.get(pid))
        .map(|status| status.session)
        .filter(|session| *session != own_session && *session > 1)
        .collect();
    chosen.extend(all.iter().filter(|(_, status)| sessions.contains(&status.session)).map(|(pid, _)| *pid));
    // Ids grow from parent to child except when they wrap around, so this ends after two or three rounds.
    loop {
        let children: Vec<i32> =
            all.iter().filter(|(pid, status)| chosen.contains(&status.parent) && !chosen.contains(pid)).map(|(pid, _)| *pid).collect();
        if children.is_empty() {
            break;
        }
        chosen.extend(children);
    }
    Ok(chosen
        .into_iter()
        .filter_map(|pid| {
            let seen = all.get(&pid)?;
            let handle = open_handle(pid);
            // Only now does the id stand for the process that the handle holds: is it still the one that was chosen?
            (Status::read(pid)?.started == seen.started).then(|| Found { pid, command: seen.command.clone(), handle })
        })
        .collect())
}

/// The ids of all processes.
///
/// # Errors
/// When /proc cannot be listed.
pub fn all() -> io::Result<Vec<i32>> {
    let ids = fs::read_dir("/proc")?.map(|entry| Ok(entry?.file_name().to_str().and_then(|name| name.parse().ok())));
    ids.filter_map(Result::transpose).collect()
}

/// The process with this id, so that it can be signalled; `None` when it is gone.
#[must_use]
pub fn found(pid: i32) -> Option<Found> {
    let handle = open_handle(pid);
    Status::read(pid).map(|status| Found { pid, command: status.command, handle })
}

/// What /proc/PID/stat says.
struct Status {
    command: String,
    parent: i32,
    session: i32,
    started: u64,
}

impl Status {
    /// `None` for a process that has gone, or has ended and waits to be reaped.
    fn read(pid: i32) -> Option<Self> {
        let bytes = read_limited(Path::new(&format!("/proc/{pid}/stat")), 4096)?;
        let text = String::from_utf8_lossy(&bytes);
        // The name stands in parentheses and may hold anything, parentheses too.
        let (head, tail) = text.rsplit_once(')')?;
        let command = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let alive = !matches!(*fields.first()?, "Z" | "X" | "x");
        let status = Self {
            command,
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        };
        alive.then_some(status)
    }
}

fn carries(pid: i32, mark: &str) -> bool {
    read_limited(Path::new(&format!("/proc/{pid}/environ")), ENVIRONMENT_LIMIT)
        .is_some_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()))
}

/// By any of its control groups; their paths escape nothing that is in the name of a unit.
fn is_in(pid: i32, scope: &str) -> bool {
    read_limited(Path::new(&format!("/proc/{pid}/cgroup")), 64 << 10)
        .is_some_and(|groups| String::from_utf8_lossy(&groups).lines().any(|group| group.split('/').any(|part| part == scope)))
}

fn read_limited(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn open_handle(pid: i32) -> Option<OwnedFd> {
    // SAFETY: plain numbers.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let raw = i32::try_from(raw).ok().filter(|raw| *raw >= 0)?;
    // SAFETY: the descriptor was opened above (with O_CLOEXEC, as always) and nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(raw) })
}
