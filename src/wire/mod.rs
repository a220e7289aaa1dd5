//! Messages to sealed bytes and back.
//!
//! Owns the layout of a message and of a datagram, the seal that proves who sent it, the replay window, the proof that a
//! sender is alive now, and the sealed channel of the status port. Never opens a socket, reads a clock or draws a random
//! number: bytes and secrets are handed in, so the simulator runs exactly what the daemon runs.
//!
//! # A datagram
//!
//! At most [`MAX_DATAGRAM`] bytes; integers are little-endian.
//!
//! | bytes | what                                                                              |
//! |-------|-----------------------------------------------------------------------------------|
//! | 1     | protocol version of the writer                                                    |
//! | 1     | the oldest version that can read it                                               |
//! | 8     | sender ([`NodeId`](crate::model::NodeId))                                         |
//! | 8     | receiver                                                                          |
//! | 8     | boot of the sender ([`BootId`](crate::model::BootId))                             |
//! | 8     | session: drawn by each process, so that a daemon resumed as the same boot has a key of its own |
//! | 8     | counter, which is the nonce                                                       |
//! | n     | sealed records                                                                    |
//! | 16    | the seal's tag, which covers the header too                                       |
//!
//! # Growth
//!
//! A record is a kind (1 byte), a length (2 bytes) and that many bytes. A reader skips kinds it does not know and the bytes
//! after the last field it knows. So a later version may add kinds, and add fields at the end of a message; the reader of
//! such a field must accept its absence. What stands inside a field (an entry of a list, a reason) never changes its shape
//! under a known kind: that needs a new kind, or raises the oldest version that can read the datagram. A message of a newer
//! writer that cannot be read is skipped; one of our own version is an error.

mod channel;
mod codec;
mod error;
mod keys;
mod link;
mod pack;
mod seal;
mod window;

pub use channel::{Channel, HELLO_LENGTH, MAX_ANSWER, MAX_QUESTION, Opening, Side, answer_hello};
pub use error::WireError;
pub use link::{Frames, Introduction, put_frame};
pub use pack::MAX_MESSAGE;
pub use seal::{Counters, Drop, Endpoint, Opened};

use crate::model::Message;

/// Appends the records of messages: what a datagram holds inside its seal, of whatever length. For the simulator, whose
/// bulk runs leave the seal out.
pub fn put_records(messages: &[Message], out: &mut Vec<u8>) {
    for message in messages {
        codec::put_message(message, out);
    }
}

/// Reads what [`put_records`] wrote; `None` when it is malformed.
#[must_use]
pub fn records(bytes: &[u8]) -> Option<Vec<Message>> {
    codec::messages(bytes, false).ok()
}

/// Version of the protocol spoken here.
pub const VERSION: u8 = 2;
/// The oldest version that can read what is written here.
pub const READABLE_FROM: u8 = 1;
/// Longest datagram, in bytes: fits one Ethernet frame with room for tunnels.
pub const MAX_DATAGRAM: usize = 1400;

/// Whether text of a writer of this version, readable from that one on, can be read here.
const fn speaks(version: u8, readable_from: u8) -> bool {
    version >= VERSION - 1 && readable_from <= VERSION && readable_from <= version
}
