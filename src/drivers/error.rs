//! What can go wrong with a resource, in words that name the thing, the place and the remedy.

use std::{io, net::IpAddr, path::PathBuf, time::Duration};

use nix::errno::Errno;

use super::{ServiceError, file_system::MountError};
use crate::sys::{
    SysError,
    child::{End, Finished, LastLine},
};

/// Why a driver could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The device of an address does not exist.
    #[error("{ip}: there is no device {device}; see `ip link`, and the interface of the address in the configuration")]
    NoDevice {
        /// The address.
        ip: IpAddr,
        /// The device.
        device: String,
    },
    /// The device of an address is switched off.
    #[error("{ip}: device {device} is down; `ip link set {device} up`")]
    DeviceDown {
        /// The address.
        ip: IpAddr,
        /// The device.
        device: String,
    },
    /// The device of an address has no carrier.
    #[error("{ip}: device {device} has no carrier; look at its cable, switch port or virtual switch")]
    NoCarrier {
        /// The address.
        ip: IpAddr,
        /// The device.
        device: String,
    },
    /// The lease was over before the address was added.
    #[error("{ip}: not added to {device}, its lease is over")]
    LeaseOver {
        /// The address.
        ip: IpAddr,
        /// The device.
        device: String,
    },
    /// The kernel refused an address.
    #[error("{ip}: the kernel would not {doing} {device}: {}{}", errno.desc(), address_hint(*ip, *errno))]
    Address {
        /// The address.
        ip: IpAddr,
        /// The device.
        device: String,
        /// `add it to`, `remove it from`.
        doing: &'static str,
        /// The kernel's reason.
        errno: Errno,
    },
    /// The kernel could not be asked about an address.
    #[error("{ip} on {device}: cannot ask the kernel: {why}")]
    Unasked {
        /// The address.
        ip: IpAddr,
        /// The device.
        device: String,
        /// Why not; in words, since one failure may concern many addresses.
        why: String,
    },
    /// The kernel could not be asked at all.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: String,
        /// Why not.
        source: SysError,
    },
    /// A file could not be used.
    #[error("cannot {doing} {}: {source}{}", path.display(), file_hint(source))]
    File {
        /// `read`, `write`, `rename` ...
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A template or installed crontab is no plain file, or too large to be one.
    #[error("{}: {why}", path.display())]
    NotACrontab {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An application's user is unknown.
    #[error("{title}: there is no user {user} on this node; create it, or correct user:group in the configuration")]
    NoUser {
        /// The application.
        title: String,
        /// The user.
        user: String,
    },
    /// An application's group is unknown.
    #[error("{title}: there is no group {group} on this node; create it, or correct user:group in the configuration")]
    NoGroup {
        /// The application.
        title: String,
        /// The group.
        group: String,
    },
    /// An application's user may not log in.
    #[error("{title}: user {user} has the shell {}, which runs nothing; `usermod -s /bin/bash {user}`, or use another user", shell.display())]
    NoLogin {
        /// The application.
        title: String,
        /// The user.
        user: String,
        /// Its shell.
        shell: PathBuf,
    },
    /// A program ended with a failure.
    #[error("{title} {}{}; log: {}", ending(*end), said(last_line.as_deref()), log.display())]
    Failed {
        /// What was run.
        title: String,
        /// How it ended.
        end: End,
        /// Its last line.
        last_line: Option<Box<LastLine>>,
        /// Where its output is.
        log: PathBuf,
    },
    /// A program did not end in time.
    #[error("{title} was not done after {limit:?} and was {}{}; log: {}", if *stuck { "left behind, stuck in the kernel (a hung disk or network mount?)" } else { "ended" }, said(last_line.as_deref()), log.display())]
    TimedOut {
        /// What was run.
        title: String,
        /// Its time.
        limit: Duration,
        /// It could not even be killed.
        stuck: bool,
        /// Its last line.
        last_line: Option<Box<LastLine>>,
        /// Where its output is.
        log: PathBuf,
    },
    /// A script cannot be run.
    #[error("{title}: {} is missing or not executable; install it or `chmod 755` it", path.display())]
    NoScript {
        /// What it was for.
        title: String,
        /// The script.
        path: PathBuf,
    },
    /// Processes of an application survived KILL.
    #[error("{title}: still running after KILL: {}; stuck in the kernel (a hung disk or network mount?)", processes.join(", "))]
    Survived {
        /// The application.
        title: String,
        /// `name (pid)` of each.
        processes: Vec<String>,
    },
    /// A file system is not as it should be.
    #[error(transparent)]
    Mount(Box<MountError>),
    /// A unit of systemd.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// More than one thing failed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; and "))]
    Several(Vec<DriverError>),
}

impl DriverError {
    /// All failures of several steps, each of which was tried.
    pub(super) fn gather(results: impl IntoIterator<Item = Result<(), Self>>) -> Result<(), Self> {
        let mut failures: Vec<Self> = results.into_iter().filter_map(Result::err).collect();
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(Self::Several(failures)),
        }
    }

    /// Whether it will fail the same way until an administrator does something on this node: to try again at once only keeps
    /// the next node waiting.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::NoUser { .. } | Self::NoGroup { .. } | Self::NoLogin { .. } | Self::NoScript { .. } => true,
            Self::Service(error) => error.is_lasting(),
            Self::NoDevice { .. }
            | Self::DeviceDown { .. }
            | Self::NoCarrier { .. }
            | Self::LeaseOver { .. }
            | Self::Address { .. }
            | Self::Unasked { .. }
            | Self::System { .. }
            | Self::File { .. }
            | Self::NotACrontab { .. }
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Survived { .. }
            | Self::Mount(_)
            | Self::Several(_) => false,
        }
    }

    /// Whether something that a start needs was not there, and its coming can be seen without a start.
    #[must_use]
    pub fn is_lack(&self) -> bool {
        match self {
            Self::NoUser { .. } | Self::NoGroup { .. } | Self::NoLogin { .. } | Self::NoScript { .. } => true,
            Self::NoDevice { .. } | Self::DeviceDown { .. } | Self::NoCarrier { .. } => true,
            Self::Service(error) => error.is_lasting(),
            Self::Mount(error) => error.is_lack(),
            Self::LeaseOver { .. }
            | Self::Address { .. }
            | Self::Unasked { .. }
            | Self::System { .. }
            | Self::File { .. }
            | Self::NotACrontab { .. }
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Survived { .. }
            | Self::Several(_) => false,
        }
    }

    /// What a finished program means: exit status 0 is success.
    pub(super) fn judge(title: &str, finished: Finished, log: PathBuf) -> Result<(), Self> {
        let (title, Finished { end, last_line }) = (title.to_owned(), finished);
        match end {
            End::Exited(0) => Ok(()),
            End::Exited(_) | End::Signalled(_) => Err(Self::Failed { title, end, last_line, log }),
            End::TimedOut { limit, stuck } => Err(Self::TimedOut { title, limit, stuck, last_line, log }),
        }
    }
}

fn ending(end: End) -> String {
    match end {
        End::Exited(126) => "could not run its program: it is not executable (exit status 126)".to_owned(),
        End::Exited(127) => "did not find its program: it is missing or not in PATH (exit status 127)".to_owned(),
        End::Exited(code) => format!("failed with exit status {code}"),
        End::Signalled(signal) => format!("was killed by signal {signal}"),
        End::TimedOut { limit, .. } => format!("was not done after {limit:?}"),
    }
}

fn said(last_line: Option<&LastLine>) -> String {
    last_line.map_or_else(String::new, |line| format!("; {line}"))
}

fn address_hint(ip: IpAddr, errno: Errno) -> &'static str {
    match (ip, errno) {
        (_, Errno::EPERM) => "; the daemon needs CAP_NET_ADMIN",
        (IpAddr::V6(_), Errno::EACCES | Errno::EOPNOTSUPP) => "; IPv6 is switched off there (sysctl disable_ipv6)",
        (_, Errno::EINVAL) => "; check address, netmask and label",
        _ => "",
    }
}

fn file_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space there",
        io::ErrorKind::ReadOnlyFilesystem => "; the disk may have failed, see `dmesg`",
        io::ErrorKind::PermissionDenied => "; check owner and mode, or run the daemon as root",
        _ => "",
    }
}
