//! What can go wrong when something is sealed, or on the status channel. Datagrams that are not accepted have
//! [`Drop`](super::Drop).

use crate::model::NodeId;

/// A fault of this room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A message does not fit a datagram even alone. Lists are split by their author, never cut here.
    #[error("a {kind} message of {bytes} bytes does not fit a datagram (at most {limit}): its list must be sent in parts")]
    MessageTooLong {
        /// Its kind.
        kind: &'static str,
        /// Its length.
        bytes: usize,
        /// The longest that fits.
        limit: usize,
    },
    /// The addressee is not a peer of this endpoint.
    #[error("node {peer} is not a member of this cluster")]
    UnknownPeer {
        /// The addressee.
        peer: NodeId,
    },
    /// Every counter has been used: nothing more can be sealed under this key.
    #[error("the sealing key is used up: restart the daemon")]
    Exhausted,
    /// A frame of the status channel is longer than its direction allows.
    #[error("a frame of {bytes} bytes is longer than the {limit} allowed")]
    FrameTooLong {
        /// Announced or actual length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not sealed under our authkey, or altered.
    #[error("the seal does not match: the authkey files of the two nodes differ, or the bytes were altered")]
    BadSeal,
    /// The other side speaks a version that cannot be read here.
    #[error("the other node speaks protocol version {theirs}, this one {ours}: update the older one")]
    Version {
        /// Theirs.
        theirs: u8,
        /// Ours.
        ours: u8,
    },
}
