//! News of files in directories, from the kernel.

use std::{
    ffi::OsString,
    os::fd::{AsFd, AsRawFd, RawFd},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{SysError, unwatchable};

/// Something happened to a file: its directory, and its name when it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNews {
    /// As [`FileWatch::add`] returned it.
    pub directory: WatchDescriptor,
    /// `None` when news were lost, or when it is about the directory itself.
    pub name: Option<OsString>,
}

/// Watches directories.
#[derive(Debug)]
pub struct FileWatch(AsyncFd<Descriptor>);

#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl FileWatch {
    /// Watches nothing yet. Within a tokio runtime.
    ///
    /// # Errors
    /// When there are too many (fs.inotify.max_user_instances).
    pub fn open() -> Result<Self, SysError> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|errno| SysError::Call { call: "inotify_init1", errno })?;
        // SAFETY: an Inotify is an open descriptor, always gives the same one, and keeps it open until the AsyncFd is dropped.
        let watched = unsafe { AsyncFd::register_with_interest(Descriptor(inotify), Interest::READABLE) };
        watched.map(Self).map_err(|error| unwatchable(error.into()))
    }

    /// Watches for files of a directory that are written, made, renamed, removed, or given another owner or mode. Blocks while
    /// its disk does.
    ///
    /// # Errors
    /// When there is no such directory, or there are too many watches.
    pub fn add(&self, directory: &Path) -> Result<WatchDescriptor, SysError> {
        let what = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_ONLYDIR;
        self.0.get_ref().0.add_watch(directory, what).map_err(|errno| SysError::Call { call: "inotify_add_watch", errno })
    }

    /// Waits for news.
    ///
    /// # Errors
    /// When the descriptor cannot be read, which is a bug somewhere.
    pub async fn next(&self) -> Result<Vec<FileNews>, SysError> {
        loop {
            let mut ready = self.0.readable().await.map_err(unwatchable)?;
            match ready.get_inner().0.read_events() {
                Ok(events) => return Ok(events.into_iter().map(|event| FileNews { directory: event.wd, name: event.name }).collect()),
                Err(Errno::EAGAIN | Errno::EINTR) => ready.clear_ready(),
                Err(errno) => return Err(SysError::Call { call: "read", errno }),
            }
        }
    }
}
