//! What can go wrong with a mount, and what to do about it.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use nix::errno::Errno;

use crate::{model::MountSource, sys::errand::ErrandError};

/// Why a file system is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The configuration names no source that is understood.
    #[error("{text} is no source of a file system: {help}")]
    Source {
        /// As written.
        text: String,
        /// How to write it.
        help: &'static str,
    },
    /// A word of the mount options is not for us.
    #[error("mount option {word}: {why}")]
    Option {
        /// The word, without its value.
        word: String,
        /// What to do.
        why: &'static str,
    },
    /// The name of a server does not resolve.
    #[error("cannot resolve {host}: {why}; add it to /etc/hosts, or write its address")]
    Host {
        /// The name.
        host: String,
        /// Why not.
        why: String,
    },
    /// Nobody answers at the server's port.
    #[error("{host} does not answer at {address}: {why}; see whether the server runs, and the firewalls between")]
    NoServer {
        /// The server as configured.
        host: String,
        /// Where it was tried.
        address: SocketAddr,
        /// Why not.
        why: String,
    },
    /// The device of a tag is not there.
    #[error("there is no {}; see `blkid`, and whether the disk is connected", path.display())]
    NoDevice {
        /// Where it would be.
        path: PathBuf,
    },
    /// Nobody knows the content of a device.
    #[error("{}: none of the kernel's file systems is on it ({}); see `blkid {}`", device.display(), tried.join(", "), device.display())]
    UnknownType {
        /// The device.
        device: PathBuf,
        /// What was tried.
        tried: Vec<String>,
    },
    /// Something else is mounted there.
    #[error("{} is taken: {there} is mounted there, not {wanted}; unmount it, or choose another target", target.display())]
    Taken {
        /// Where.
        target: PathBuf,
        /// What is there.
        there: String,
        /// What should be.
        wanted: String,
    },
    /// mount(2) refused; for NFS once for each version tried.
    #[error("cannot mount {source_text} on {}: {}", target.display(), tries.iter().map(|(title, errno)| format!("{title}{}{}", errno.desc(), hint(*errno, kind))).collect::<Vec<_>>().join("; "))]
    Refused {
        /// The source.
        source_text: String,
        /// Where.
        target: PathBuf,
        /// Type of the file system.
        kind: String,
        /// What was tried (empty, or `NFS 4.2: `), and the kernel's answer.
        tries: Vec<(String, Errno)>,
    },
    /// A call did not come back, or could not be made.
    #[error("cannot {doing} {}: {why}", path.display())]
    Errand {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        why: ErrandError,
    },
    /// An earlier mount cannot be ended and may still come about.
    #[error("an earlier mount on {} is stuck in the kernel and may still come about: its server or disk does not answer", target.display())]
    Pending {
        /// Where.
        target: PathBuf,
    },
    /// Its device is still in use although nothing is mounted here any more.
    #[error("{} is still in use{}; no other node may mount it until that ends", device.display(), list(holders))]
    InUse {
        /// The device.
        device: PathBuf,
        /// Who has it mounted elsewhere.
        holders: Vec<String>,
    },
    /// It would not go.
    #[error("cannot unmount {}: {why}", target.display())]
    Busy {
        /// Where.
        target: PathBuf,
        /// The last answer.
        why: String,
    },
    /// It was mounted, and is not there.
    #[error("{} was mounted and is not in the kernel's table now; somebody else changes mounts there", target.display())]
    Vanished {
        /// Where.
        target: PathBuf,
    },
    /// It was mounted and does not answer.
    #[error("{} was mounted but does not answer within {limit:?}", target.display())]
    Silent {
        /// Where.
        target: PathBuf,
        /// How long it was asked.
        limit: Duration,
    },
    /// The credentials of a share cannot be used.
    #[error("{}: {why}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do. Never a value of it.
        why: String,
    },
    /// The text of all options is longer than the kernel takes.
    #[error("the mount options are longer than the 4095 bytes that the kernel takes")]
    TooLong,
    /// rpc.statd does not run, which locks of NFS 3 need.
    #[error(
        "NFS 3 from {server} needs rpc.statd for locks and it does not run: start it (`systemctl start rpc-statd`), or use nolock or vers=4.2"
    )]
    NoStatd {
        /// The server.
        server: IpAddr,
    },
}

impl MountError {
    /// Whether its server or device was not there.
    pub(in crate::drivers) fn is_lack(&self) -> bool {
        let silent = |errno: &Errno| {
            matches!(
                errno,
                Errno::ECONNREFUSED
                    | Errno::ECONNRESET
                    | Errno::ECONNABORTED
                    | Errno::ETIMEDOUT
                    | Errno::EHOSTDOWN
                    | Errno::EHOSTUNREACH
                    | Errno::ENETDOWN
                    | Errno::ENETUNREACH
            )
        };
        match self {
            Self::Host { .. } | Self::NoServer { .. } | Self::NoDevice { .. } => true,
            // The version tried last tells most: it is the oldest that the server may speak.
            Self::Refused { tries, .. } => tries.last().is_some_and(|(_, errno)| silent(errno)),
            Self::Source { .. }
            | Self::Option { .. }
            | Self::UnknownType { .. }
            | Self::Taken { .. }
            | Self::Errand { .. }
            | Self::Pending { .. }
            | Self::InUse { .. }
            | Self::Busy { .. }
            | Self::Vanished { .. }
            | Self::Silent { .. }
            | Self::Credentials { .. }
            | Self::TooLong
            | Self::NoStatd { .. } => false,
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" by {}", names.join(", ")) }
}

/// What an operator may do about a refused mount.
fn hint(errno: Errno, kind: &str) -> String {
    match (errno, kind) {
        (Errno::ENODEV, "nfs") => "; the kernel has no file system nfs: `modprobe nfs`, or install the kernel's network modules".into(),
        (Errno::ENODEV, "cifs") => "; the kernel has no file system cifs: `modprobe cifs`, or install the kernel's network modules".into(),
        (Errno::ENODEV, kind) => format!("; the kernel has no file system {kind}: `modprobe {kind}`"),
        (Errno::EPERM, _) => "; the daemon needs CAP_SYS_ADMIN".into(),
        (Errno::EACCES, "nfs") => "; the server does not export it to this node: see its exports".into(),
        (Errno::EACCES, "cifs") => "; the server does not accept the user or password".into(),
        (Errno::EACCES | Errno::EROFS, _) => "; it can only be read: mount_options = \"ro\"".into(),
        (Errno::ENOENT, "nfs") => "; the server has no such export".into(),
        (Errno::ENOENT | Errno::ENXIO, "cifs") => "; the server has no such share or directory".into(),
        (Errno::ETIMEDOUT | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EHOSTDOWN, "nfs" | "cifs") => {
            "; the server does not answer: is it up, and does a firewall let us through?".into()
        }
        (Errno::ECONNREFUSED, "nfs" | "cifs") => "; the server runs no such service".into(),
        (Errno::EPROTONOSUPPORT, "nfs") => "; the server does not speak this version".into(),
        (Errno::EBUSY, _) => "; it is in use: mounted elsewhere, or part of a RAID or volume group".into(),
        (Errno::EUCLEAN, _) => "; it is damaged: `fsck` it".into(),
        (Errno::EINVAL, _) => "; see the last lines of `dmesg`: a mount option may be wrong".into(),
        _ => String::new(),
    }
}

/// The type that the kernel calls a source, as far as it follows from the source.
pub(super) fn kind_of(source: &MountSource) -> &'static str {
    match source {
        MountSource::Nfs { .. } => "nfs",
        MountSource::Share { .. } => "cifs",
        MountSource::Memory => "tmpfs",
        MountSource::Directory(_) => "none",
        MountSource::Device(_) | MountSource::Tag { .. } => "auto",
    }
}
