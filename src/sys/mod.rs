//! The kernel and libc, in safe words: clocks, children, errands to mounts, news of files, processes, rtnetlink, gratuitous ARP, systemd's notify socket,
//! thread priority.
//!
//! Owns every `unsafe` block of the project, each with the reason why it is sound. Never decides anything: it reports what
//! the kernel says and does what it is told, once, without retries of its own.

#![expect(unsafe_code, reason = "this is the one room that talks to the kernel and to libc directly")]

pub mod arp;
pub mod child;
pub mod clock;
pub mod errand;
pub mod inotify;
pub mod netlink;
pub mod notify;
pub mod process;
pub mod thread;

use std::{io, os::fd::OwnedFd, path::PathBuf};

use nix::errno::Errno;
use tokio::io::{Interest, unix::AsyncFd};

/// Why the kernel would not.
#[derive(Debug, thiserror::Error)]
pub enum SysError {
    /// A system call failed.
    #[error("{call}: {errno}", errno = errno.desc())]
    Call {
        /// The call, and on what.
        call: &'static str,
        /// Its error.
        errno: Errno,
    },
    /// A file could not be used.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// `open`, `read`, `write` ...
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel did not answer in time, or not in a way that was understood; or the connection to it is closed.
    #[error("no answer of the kernel to {request} that could be understood")]
    Answer {
        /// What was asked.
        request: &'static str,
    },
    /// A program could not be started.
    #[error("cannot run {}: {source}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A kernel call did not come back in time and was abandoned.
    #[error("{call} did not come back within {seconds} s; the disk or the network behind it hangs")]
    Hangs {
        /// The call.
        call: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
}

/// Has the runtime watch a socket for something to read.
fn watch(socket: OwnedFd) -> Result<AsyncFd<OwnedFd>, SysError> {
    // SAFETY: an OwnedFd is open, always gives the same descriptor, and keeps it open until the AsyncFd is dropped.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    watched.map_err(|error| SysError::Call { call: "epoll_ctl", errno: errno_of(&io::Error::from(error)) })
}

/// Waiting for a watched socket failed.
fn unwatchable(error: io::Error) -> SysError {
    SysError::Call { call: "epoll_wait", errno: errno_of(&error) }
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
