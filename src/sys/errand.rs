//! System calls that may never come back: mount, umount, a look at a mount whose server is dead. Each is made by a process of
//! its own, forked for it, which holds nothing of ours but the answer's pipe.
//!
//! Why a process and not a thread: a thread that is stuck in the kernel keeps its whole process from ending, and with it a
//! restart of the daemon; a stuck child holds up nobody. Why a fork and no new program: it needs no file that an upgrade may
//! be replacing, and what is secret stays in memory, off every command line. Between fork and exit the child makes system calls
//! only. It is never waited for beyond its time: it is killed, and reaped whenever the kernel lets it go. How many may be stuck at a time is
//! limited.

use std::{
    ffi::{CStr, CString},
    fmt,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        signal::{Signal, kill},
        stat::{Mode, lstat},
        statfs::statfs,
        uio::pread,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, mkdir, pipe2, read},
};
use tokio::time::{Instant, sleep, timeout};

use super::{SysError, watch};

/// Errands of one sort on one subject that may be stuck at a time.
const STUCK_EACH: usize = 3;
/// Errands that may be stuck at a time in all: each holds a copy of what little memory we have changed since. What takes a
/// mount away is not held up by those that ask.
const STUCK_IN_ALL: usize = 24;
/// Longest answer; a pipe takes as much in one piece.
const ANSWER: usize = 2048;
/// Where the superblocks of file systems tell their type: offset and length.
pub const SUPERBLOCK: [(i64, usize); 4] = [(0, 512), (0x400, 256), (0x8000, 64), (0x10000, 128)];

/// Text for the kernel that may hold a password. Never shown; overwritten when dropped.
pub struct Secret(Vec<u8>);

impl Secret {
    /// Of bytes without a zero; `None` when there is one.
    #[must_use]
    pub fn new(mut text: Vec<u8>) -> Option<Self> {
        if text.contains(&0) {
            text.fill(0);
            return None;
        }
        // Growing moves the text and leaves the old place as it was: the caller makes room for one more byte.
        text.push(0);
        Some(Self(text))
    }

    fn text(&self) -> &CStr {
        CStr::from_bytes_with_nul(&self.0).expect("one zero, at the end")
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.len() - 1
    }

    /// What is secret, for a test to compare with.
    #[cfg(test)]
    pub(crate) fn reveal(&self) -> &str {
        self.text().to_str().expect("tests use text")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the optimiser from leaving the zeros out.
        std::hint::black_box(&mut self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.length())
    }
}

/// What to do.
#[derive(Debug)]
pub enum Errand {
    /// mount(2).
    Mount {
        /// Shown in the mount table.
        source: CString,
        /// Where.
        target: CString,
        /// Type of the file system.
        kind: CString,
        /// Generic flags.
        flags: MsFlags,
        /// What the file system itself is told.
        data: Secret,
    },
    /// umount2(2).
    Unmount {
        /// Where.
        target: CString,
        /// How.
        flags: MntFlags,
    },
    /// Asks a mount how full it is and what its root is: a server has to answer.
    Look {
        /// Where.
        target: CString,
    },
    /// Makes a directory and those above it, in this order. Answers with one byte: whether there is something in the last.
    MakeDirectories {
        /// From the top down.
        path: Vec<CString>,
    },
    /// Answers with the path without links in it.
    Resolve {
        /// The path.
        path: CString,
    },
    /// Answers with the bytes of [`SUPERBLOCK`], one piece after another; zeros where the device has none.
    ReadSuperblock {
        /// The device.
        device: CString,
    },
    /// Fails with EBUSY while anything has the device mounted, here or in another mount namespace.
    Claim {
        /// The device.
        device: CString,
    },
}

/// What errands have in common that would be stuck in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Ask,
    Mount,
    Unmount,
    /// By force, or out of sight: what helps when the others are stuck.
    Free,
}

impl Errand {
    fn sort(&self) -> Sort {
        match self {
            Self::Mount { .. } => Sort::Mount,
            Self::Unmount { flags, .. } if flags.intersects(MntFlags::MNT_FORCE | MntFlags::MNT_DETACH) => Sort::Free,
            Self::Unmount { .. } => Sort::Unmount,
            Self::Look { .. } | Self::MakeDirectories { .. } | Self::Resolve { .. } | Self::ReadSuperblock { .. } | Self::Claim { .. } => {
                Sort::Ask
            }
        }
    }
}

/// Why an errand has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ErrandError {
    /// The kernel refused.
    #[error("{}", .0.desc())]
    Refused(Errno),
    /// It did not come back in time and was left behind.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// Too many did not come back: another one would be stuck as well.
    #[error("{0} earlier attempts are stuck in the kernel, and no further one is made until they are over: a server or disk is dead")]
    TooMany(usize),
    /// It could not be sent, or ended without a word.
    #[error(transparent)]
    Unsent(#[from] SysError),
}

/// Sends errands, and knows those that are stuck. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Errands {
    stuck: Arc<Mutex<Vec<Stuck>>>,
}

/// An errand that was given up.
#[derive(Clone, Debug)]
struct Stuck {
    pid: Pid,
    subject: PathBuf,
    sort: Sort,
}

/// A child that has not answered yet. Dropping it kills it.
struct Sent {
    child: Stuck,
    errands: Errands,
    reaped: bool,
}

impl Drop for Sent {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill(self.child.pid, Signal::SIGKILL);
            if !reap(self.child.pid) {
                self.errands.stuck().push(self.child.clone());
            }
        }
    }
}

impl Errands {
    /// Has an errand done that concerns `subject` (a mount point, a device), at most for `limit`. When whoever asked stops
    /// waiting it is killed.
    ///
    /// # Errors
    /// Also when too many errands on the same subject are stuck already.
    pub async fn send(&self, subject: &Path, errand: Errand, limit: Duration) -> Result<Vec<u8>, ErrandError> {
        let sort = errand.sort();
        self.room_for(subject, sort)?;
        let call = |call, errno| SysError::Call { call, errno };
        let (answer, tell) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(|errno| call("pipe2", errno))?;
        let answer = watch(answer)?;
        let pid = start(&errand, tell).map_err(|errno| call("fork", errno))?;
        let child = Stuck { pid, subject: subject.to_owned(), sort };
        let mut sent = Sent { child, errands: self.clone(), reaped: false };
        let mut bytes = [0; ANSWER + 4];
        let read = timeout(limit, async {
            loop {
                let mut ready = answer.readable().await.map_err(super::unwatchable)?;
                match read(answer.as_fd(), &mut bytes) {
                    Err(Errno::EAGAIN | Errno::EINTR) => ready.clear_ready(),
                    other => return other.map_err(|errno| call("read", errno)),
                }
            }
        })
        .await;
        let length = match read {
            Ok(length) => length?,
            Err(_) => return Err(ErrandError::Late(limit)),
        };
        // It has said all that it had to say; its exit is a matter of microseconds.
        for _ in 0..50 {
            sent.reaped = reap(sent.child.pid);
            if sent.reaped {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        let (errno, answer) = bytes[..length].split_first_chunk::<4>().ok_or(SysError::Answer { request: "an errand" })?;
        match i32::from_ne_bytes(*errno) {
            0 => Ok(answer.to_vec()),
            errno => Err(ErrandError::Refused(Errno::from_raw(errno))),
        }
    }

    fn room_for(&self, subject: &Path, sort: Sort) -> Result<(), ErrandError> {
        let stuck = self.stuck();
        let like_it = stuck.iter().filter(|stuck| stuck.subject == subject && stuck.sort == sort).count();
        let full = stuck.len() >= STUCK_IN_ALL && !matches!(sort, Sort::Unmount | Sort::Free);
        if like_it >= STUCK_EACH || full { Err(ErrandError::TooMany(stuck.len())) } else { Ok(()) }
    }

    /// Waits, at most for `limit`, until no given up mount of a subject can come about any more; false when one still may.
    pub async fn settle(&self, subject: &Path, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if !self.stuck().iter().any(|stuck| stuck.sort == Sort::Mount && stuck.subject == subject) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Those that are still stuck; the others are reaped.
    fn stuck(&self) -> MutexGuard<'_, Vec<Stuck>> {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.retain(|stuck| !reap(stuck.pid));
        stuck
    }
}

/// Whether a child of ours is over.
fn reap(pid: Pid) -> bool {
    !matches!(waitpid(pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
}

fn start(errand: &Errand, tell: OwnedFd) -> Result<Pid, Errno> {
    let parent = std::process::id();
    // SAFETY: the child calls only `errand_of_child`, which makes system calls and nothing else: it allocates nothing, takes no
    // lock, and ends by _exit. All that it reads was made before the fork.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => errand_of_child(errand, tell.as_raw_fd(), parent),
    }
}

/// All that the child does.
fn errand_of_child(errand: &Errand, tell: i32, parent: u32) -> ! {
    let mut answer = [0_u8; ANSWER + 4];
    let (head, body) = answer.split_at_mut(4);
    // SAFETY: plain numbers and pointers to values on this stack; all of them are async-signal-safe system calls.
    unsafe {
        libc::setsid();
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=64 {
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_NAME, c"drcm-errand".as_ptr());
        // A mount must not come about after the daemon that wanted it is gone.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid().cast_unsigned() != parent {
            libc::_exit(1);
        }
        // Neither a lock nor a port of ours must outlive us in a child that cannot end.
        close_all_but(tell);
        libc::umask(0o022);
        libc::chdir(c"/".as_ptr());
    }
    let (errno, length) = match perform(errand, body) {
        Ok(length) => (0, length),
        Err(errno) => (errno as i32, 0),
    };
    head.copy_from_slice(&errno.to_ne_bytes());
    // SAFETY: the buffer is as long as said; _exit takes a number and never returns.
    unsafe {
        libc::write(tell, answer.as_ptr().cast(), 4 + length);
        libc::_exit(0)
    }
}

/// # Safety
/// Only in a child that uses no other descriptor any more.
unsafe fn close_all_but(kept: i32) {
    // SAFETY: plain numbers.
    unsafe {
        let kept_number = kept.cast_unsigned();
        let below = kept_number == 0 || libc::syscall(libc::SYS_close_range, 0_u32, kept_number - 1, 0_u32) == 0;
        if below && libc::syscall(libc::SYS_close_range, kept_number + 1, u32::MAX, 0_u32) == 0 {
            return;
        }
        // Before Linux 5.9.
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let most = i32::try_from(limit.rlim_cur).unwrap_or(i32::MAX).min(1 << 20);
        for descriptor in (0..most).filter(|descriptor| *descriptor != kept) {
            libc::close(descriptor);
        }
    }
}

/// Makes the calls; returns how many bytes of the answer are used. No allocation here: a path given as CStr goes to the kernel
/// as it is.
fn perform(errand: &Errand, answer: &mut [u8]) -> Result<usize, Errno> {
    match errand {
        Errand::Mount { source, target, kind, flags, data } => {
            mount(Some(source.as_c_str()), target.as_c_str(), Some(kind.as_c_str()), *flags, Some(data.text())).map(|()| 0)
        }
        Errand::Unmount { target, flags } => umount2(target.as_c_str(), *flags).map(|()| 0),
        Errand::Look { target } => {
            statfs(target.as_c_str())?;
            lstat(target.as_c_str()).map(|_| 0)
        }
        Errand::MakeDirectories { path } => {
            for directory in path {
                match mkdir(directory.as_c_str(), Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST | Errno::EROFS) => {}
                    Err(errno) => return Err(errno),
                }
            }
            let last = path.last().ok_or(Errno::EINVAL)?;
            answer[0] = u8::from(has_entries(last)?);
            Ok(1)
        }
        Errand::Resolve { path } => resolve(path, answer),
        Errand::ReadSuperblock { device } => {
            let device = nix::fcntl::open(device.as_c_str(), OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())?;
            let mut used = 0;
            for (offset, length) in SUPERBLOCK {
                // A device that ends before is no error.
                let _ = pread(&device, &mut answer[used..used + length], offset);
                used += length;
            }
            Ok(used)
        }
        Errand::Claim { device } => {
            nix::fcntl::open(device.as_c_str(), OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_EXCL, Mode::empty()).map(|_| 0)
        }
    }
}

/// Whether there is anything but `.` and `..`; a directory that may not be read counts as empty.
fn has_entries(directory: &CStr) -> Result<bool, Errno> {
    let opened = match nix::fcntl::open(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()) {
        Err(Errno::EACCES) => return Ok(false),
        other => other?,
    };
    // Records are aligned to eight bytes; three of them, or one long one, fit.
    let mut records = [0_u64; 128];
    // SAFETY: the buffer is as long as said and aligned for what is written there.
    let length = unsafe { libc::syscall(libc::SYS_getdents64, opened.as_raw_fd(), records.as_mut_ptr(), size_of_val(&records)) };
    let length = usize::try_from(Errno::result(length)?).unwrap_or(0);
    let mut bytes = [0_u8; 1024];
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(records) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    let mut rest = bytes.get(..length).unwrap_or(&[]);
    // Inode number, offset, length of the record, type, name.
    while let Some((head, name)) = rest.split_at_checked(19) {
        if !name.starts_with(b".\0") && !name.starts_with(b"..\0") {
            return Ok(true);
        }
        let step = usize::from(u16::from_ne_bytes([head[16], head[17]]));
        if step < 19 {
            break;
        }
        rest = rest.get(step..).unwrap_or(&[]);
    }
    Ok(false)
}

/// The path that the kernel knows a file by.
fn resolve(path: &CStr, answer: &mut [u8]) -> Result<usize, Errno> {
    let file = nix::fcntl::open(path, OFlag::O_PATH, Mode::empty())?;
    // "/proc/self/fd/" and at most ten digits.
    let mut link = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0";
    let mut number = file.as_raw_fd();
    let mut digits = 1;
    while number >= 10_i32.pow(digits) && digits < 9 {
        digits += 1;
    }
    for place in (14..14 + digits as usize).rev() {
        link[place] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    // SAFETY: the link ends in a zero, and the buffer is as long as said.
    let length = unsafe { libc::readlink(link.as_ptr().cast(), answer.as_mut_ptr().cast(), answer.len()) };
    usize::try_from(Errno::result(length)?).map_err(|_| Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(work)
    }

    fn text(text: &str) -> CString {
        CString::new(text).unwrap()
    }

    #[test]
    fn errands_bring_answers_and_leave_nobody_behind() {
        let directory = std::env::temp_dir().join(format!("drcm-errand-{}", std::process::id()));
        let inner = directory.join("a/b");
        let path: Vec<CString> = [&directory, &directory.join("a"), &inner].map(|path| text(path.to_str().unwrap())).into();
        let (errands, second) = (Errands::default(), Duration::from_secs(5));
        run(async {
            let make = || errands.send(&inner, Errand::MakeDirectories { path: path.clone() }, second);
            assert_eq!(make().await.unwrap(), [0]);
            std::fs::write(inner.join("something"), "").unwrap();
            assert_eq!(make().await.unwrap(), [1]);
            std::os::unix::fs::symlink("b", directory.join("a/link")).unwrap();
            let link = text(directory.join("a/link/something").to_str().unwrap());
            let resolved = errands.send(&inner, Errand::Resolve { path: link }, second).await.unwrap();
            assert_eq!(String::from_utf8(resolved).unwrap(), inner.join("something").to_str().unwrap());
            errands.send(&inner, Errand::Look { target: text("/") }, second).await.unwrap();
            let missing = errands.send(&inner, Errand::Look { target: text("/no/such") }, second).await.unwrap_err();
            assert!(matches!(missing, ErrandError::Refused(Errno::ENOENT)), "{missing}");
            assert!(errands.stuck().is_empty());
            let begin = Instant::now();
            for _ in 0..100 {
                errands.send(&inner, Errand::Look { target: text("/") }, second).await.unwrap();
            }
            println!("an errand takes {:?}", begin.elapsed() / 100);
        });
        std::fs::remove_dir_all(directory).unwrap();
        assert!(waitpid(None, Some(WaitPidFlag::WNOHANG)).is_err(), "no child is left");
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::new(b"pass=hush".to_vec()).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(9 bytes)");
        assert!(Secret::new(b"a\0b".to_vec()).is_none());
    }
}
