//! A child that waits, between fork and exec, until whoever has to know of it does: it can be put where it belongs before its
//! program can start anything of its own.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use nix::{fcntl::OFlag, libc, unistd::pipe2};
use tokio::{io::AsyncReadExt, net::unix::pipe};

/// Our side.
pub(super) struct Gate {
    pid: OwnedFd,
    opener: OwnedFd,
}

/// The child's side.
pub(super) struct Door {
    pid: OwnedFd,
    opened: OwnedFd,
    /// Our end of the second pipe, of which the child has a copy: with that open it would never notice that we are gone.
    opener: RawFd,
}

/// Both sides of a new gate.
pub(super) fn pair() -> io::Result<(Gate, Door)> {
    let (pid_read, pid_write) = pipe2(OFlag::O_CLOEXEC)?;
    let (opened, opener) = pipe2(OFlag::O_CLOEXEC)?;
    let raw = opener.as_raw_fd();
    Ok((Gate { pid: pid_read, opener }, Door { pid: pid_write, opened, opener: raw }))
}

impl Gate {
    /// The child that waits; none when there will not be one. And what lets it through.
    pub(super) async fn child(self) -> io::Result<(Option<i32>, Opener)> {
        let mut number = [0; 4];
        let read = pipe::Receiver::from_owned_fd(self.pid)?.read_exact(&mut number).await;
        Ok((read.is_ok().then(|| i32::from_ne_bytes(number)), Opener(self.opener)))
    }
}

/// Lets the child through. Dropped without, the child gives up.
pub(super) struct Opener(OwnedFd);

impl Opener {
    pub(super) fn open(self) {
        // A child that has died meanwhile is the business of whoever waits for it.
        let _ = nix::unistd::write(&self.0, &[1]);
    }
}

impl Door {
    /// Tells our side the id of this process and waits to be let through.
    ///
    /// # Safety
    /// Only in a child, between fork and exec. Makes system calls only.
    pub(super) unsafe fn wait(&self) -> io::Result<()> {
        let mut byte = 0_u8;
        // SAFETY: descriptors of this process, and buffers on this stack of the length that is given.
        unsafe {
            libc::close(self.opener);
            let number = libc::getpid().to_ne_bytes();
            if libc::write(self.pid.as_raw_fd(), number.as_ptr().cast(), number.len()) < 0 {
                return Err(io::Error::last_os_error());
            }
            loop {
                match libc::read(self.opened.as_raw_fd(), (&raw mut byte).cast(), 1) {
                    1 => return Ok(()),
                    // Whoever started us is gone, or does not want us any more.
                    0 => return Err(io::Error::from_raw_os_error(libc::ECANCELED)),
                    _ if *libc::__errno_location() == libc::EINTR => {}
                    _ => return Err(io::Error::last_os_error()),
                }
            }
        }
    }
}
