//! What can go wrong between a client and a daemon, as sentences for the operator.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use crate::wire::WireError;

/// A fault of this room. `whom` names the daemon that was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nothing listens on the client socket.
    #[error("the drcm_server daemon is not running on this node (nothing listens on {}): start it with `systemctl start drcm_server`", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The client may not use the socket.
    #[error("permission denied for {}: only root, cluster_user and members of {group} may ask the daemon; run this as one of them", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
        /// Its group.
        group: String,
    },
    /// No answer in time.
    #[error("{whom} does not answer within {} ms", after.as_millis())]
    TimedOut {
        /// Who was asked.
        whom: String,
        /// How long was waited.
        after: Duration,
    },
    /// No connection, or a broken one.
    #[error("cannot talk to {whom}: {source}")]
    Unreachable {
        /// Who was asked.
        whom: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection was closed instead of an answer.
    #[error("{whom} closed the connection without an answer; if that goes on, compare the authkey files of the two nodes")]
    Closed {
        /// Who was asked.
        whom: String,
    },
    /// What came back is not of this protocol.
    #[error("{whom} speaks another protocol ({detail}): run the drcm and drcm_server of the same version on every node")]
    Protocol {
        /// Who was asked.
        whom: String,
        /// What was wrong.
        detail: String,
    },
    /// The sealed channel failed.
    #[error("cannot talk to {whom}: {source}")]
    Seal {
        /// Who was asked.
        whom: String,
        /// Why.
        source: WireError,
    },
    /// None of several daemons answered.
    #[error("no node answered{}", list(failures))]
    NobodyAnswered {
        /// Each, and why not.
        failures: Vec<(SocketAddr, ControlError)>,
    },
    /// The client's own runtime could not be made.
    #[error("cannot start asking: {0}")]
    Runtime(io::Error),
    /// The kernel gives no random numbers.
    #[error("the kernel gives no random numbers: getrandom(2) failed")]
    Random,
    /// Another daemon serves this run_dir.
    #[error("another drcm_server already runs with this run_dir ({} is locked): stop it first, or give this one a run_dir of its own", lock.display())]
    AlreadyRunning {
        /// The lock file.
        lock: PathBuf,
    },
    /// Something else stands where the socket belongs.
    #[error("{} exists and is not a socket: move it away", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A file of the socket could not be made.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `cluster_user` or `cluster_group` does not exist.
    #[error("{key} = {name}: this machine does not know it; create it or correct [CM_SERVER] in the configuration")]
    UnknownAccount {
        /// The configuration key.
        key: &'static str,
        /// Its value.
        name: String,
    },
    /// The status port cannot be listened on.
    #[error("cannot listen on {address} (tcp) for other nodes: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// `: failure; failure`, or nothing.
fn list(failures: &[(SocketAddr, ControlError)]) -> String {
    if failures.is_empty() {
        return ": there is nobody to ask".into();
    }
    let sentences: Vec<String> = failures.iter().map(|(_, failure)| failure.to_string()).collect();
    format!(": {}", sentences.join("; "))
}
