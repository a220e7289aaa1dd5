//! Datagrams over a byte stream, for nodes that talk by TCP: a length (2 bytes, little-endian) and one sealed datagram, again
//! and again. The seal, the proof of life and the replay window are the datagram's own, so a stream adds no trust and needs
//! none. Who may open one at all is settled before, on the status port's channel: its first question is an [`Introduction`]
//! in place of a request.

use super::{MAX_DATAGRAM, WireError};
use crate::model::NodeId;

/// What an introduction begins with; a request is JSON and never does.
const WORD: &[u8; 8] = b"datagram";
const LENGTH: usize = 2;

/// "From here on this stream carries datagrams."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Who opened the stream.
    pub from: NodeId,
    /// Whom it means to talk to.
    pub to: NodeId,
}

impl Introduction {
    /// As the first question on a channel.
    #[must_use]
    pub fn question(self) -> Vec<u8> {
        [WORD.as_slice(), &self.from.0.to_le_bytes(), &self.to.0.to_le_bytes()].concat()
    }

    /// What a question introduces, if it does. A later version may say more after it.
    #[must_use]
    pub fn read(question: &[u8]) -> Option<Self> {
        let (ids, _) = question.strip_prefix(WORD)?.split_first_chunk::<16>()?;
        let (from, to) = (ids.first_chunk::<8>()?, ids.last_chunk::<8>()?);
        Some(Self { from: NodeId(u64::from_le_bytes(*from)), to: NodeId(u64::from_le_bytes(*to)) })
    }
}

/// Appends a datagram as a frame.
///
/// # Errors
/// Longer than a datagram may be.
pub fn put_frame(datagram: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    let bytes = datagram.len();
    let length = u16::try_from(bytes).ok().filter(|_| bytes <= MAX_DATAGRAM);
    let length = length.ok_or(WireError::FrameTooLong { bytes, limit: MAX_DATAGRAM })?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(datagram);
    Ok(())
}

/// Puts datagrams together from what a stream brings. Holds no more than what was put in last and half a frame.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where the next frame begins.
    at: usize,
}

impl Frames {
    /// More bytes of the stream. Take out all frames before the next ones.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.at));
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole datagram.
    ///
    /// # Errors
    /// A length that no datagram has: nothing that follows can be understood.
    pub fn take(&mut self) -> Result<Option<&[u8]>, WireError> {
        let Some((length, rest)) = self.bytes[self.at..].split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = usize::from(u16::from_le_bytes(*length));
        if length == 0 || length > MAX_DATAGRAM {
            return Err(WireError::FrameTooLong { bytes: length, limit: MAX_DATAGRAM });
        }
        if rest.len() < length {
            return Ok(None);
        }
        let begins = self.at + LENGTH;
        self.at = begins + length;
        Ok(Some(&self.bytes[begins..self.at]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(datagrams: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        datagrams.iter().for_each(|datagram| put_frame(datagram, &mut bytes).unwrap());
        bytes
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_stream_is_cut() {
        let longest = [7; MAX_DATAGRAM];
        let datagrams: [&[u8]; 4] = [b"one", &longest, b"x", b"last"];
        let bytes = stream(&datagrams);
        for piece in [1, 2, 3, 7, 100, 1401, 1402, 1403, bytes.len()] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for bytes in bytes.chunks(piece) {
                frames.put(bytes);
                while let Some(datagram) = frames.take().unwrap() {
                    seen.push(datagram.to_vec());
                }
                assert!(frames.bytes.len() <= LENGTH + MAX_DATAGRAM + piece);
            }
            assert_eq!(seen, datagrams, "cut every {piece} bytes");
        }
    }

    #[test]
    fn what_no_datagram_can_be_is_refused() {
        assert!(put_frame(&[0; MAX_DATAGRAM + 1], &mut Vec::new()).is_err());
        for length in [0, 1401_u16, u16::MAX] {
            let mut frames = Frames::default();
            frames.put(&length.to_le_bytes());
            assert!(frames.take().is_err(), "{length}");
        }
    }

    #[test]
    fn an_introduction_is_no_request_and_a_request_no_introduction() {
        let introduction = Introduction { from: NodeId(1), to: NodeId(u64::MAX) };
        let question = introduction.question();
        assert_eq!(Introduction::read(&question), Some(introduction));
        assert_eq!(Introduction::read(&[question.as_slice(), b"more"].concat()), Some(introduction));
        assert_eq!(Introduction::read(&question[..question.len() - 1]), None);
        assert_eq!(Introduction::read(b"\"Node\""), None);
        assert!(serde_json::from_slice::<crate::model::Request>(&question).is_err());
    }
}
