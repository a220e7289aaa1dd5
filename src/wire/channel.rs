//! The sealed channel of the status port: a question and an answer over a byte stream.
//!
//! The asker opens with a hello: 32 random bytes and a seal that only a holder of the authkey can make; without it nothing
//! is answered. The answerer sends the same kind of hello. Keys, one per direction, come from the authkey and both random
//! parts, so nothing recorded fits another channel. Then each side sends frames: a length (4 bytes, little-endian) and that
//! many sealed bytes. The caller reads and writes the stream.

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305};

use super::{
    READABLE_FROM, VERSION, WireError,
    keys::{Root, nonce},
    speaks,
};

/// Bytes of a hello.
pub const HELLO_LENGTH: usize = 4 + 2 + 32 + TAG;
/// Longest question, in bytes.
pub const MAX_QUESTION: usize = 512 << 10;
/// Longest answer, in bytes.
pub const MAX_ANSWER: usize = 4 << 20;

const MAGIC: [u8; 4] = *b"DRCM";
const TAG: usize = 16;
/// Bytes of a hello before its seal.
const GREETING: usize = HELLO_LENGTH - TAG;

/// The two ends of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Connects and sends questions.
    Asker,
    /// Listens and sends answers.
    Answerer,
}

impl Side {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Asker => b"channel asker",
            Self::Answerer => b"channel answerer",
        }
    }

    const fn longest(self) -> usize {
        match self {
            Self::Asker => MAX_QUESTION,
            Self::Answerer => MAX_ANSWER,
        }
    }
}

/// An asker that has sent its hello.
pub struct Opening {
    root: Root,
    random: [u8; 32],
}

impl Opening {
    /// The hello to send. `random` must be random and never used before.
    #[must_use]
    pub fn new(authkey: &[u8], random: [u8; 32]) -> (Self, [u8; HELLO_LENGTH]) {
        let root = Root::new(authkey);
        let hello = hello(&root, Side::Asker, &random);
        (Self { root, random }, hello)
    }

    /// The channel, once the answerer's hello is there.
    ///
    /// # Errors
    /// Another authkey, or a version that cannot be read.
    pub fn finish(self, answer: &[u8; HELLO_LENGTH]) -> Result<Channel, WireError> {
        let theirs = read_hello(&self.root, Side::Answerer, answer)?;
        Ok(Channel::new(&self.root, Side::Asker, &self.random, &theirs))
    }
}

/// The answerer's part: the channel and the hello to send, for an asker that knows the authkey. `random` must be random
/// and never used before.
///
/// # Errors
/// Another authkey, or a version that cannot be read: close the stream without a word.
pub fn answer_hello(authkey: &[u8], random: [u8; 32], asker: &[u8; HELLO_LENGTH]) -> Result<(Channel, [u8; HELLO_LENGTH]), WireError> {
    let root = Root::new(authkey);
    let theirs = read_hello(&root, Side::Asker, asker)?;
    Ok((Channel::new(&root, Side::Answerer, &theirs, &random), hello(&root, Side::Answerer, &random)))
}

/// One end of an open channel.
pub struct Channel {
    side: Side,
    sealing: Direction,
    opening: Direction,
}

impl Channel {
    fn new(root: &Root, side: Side, asker: &[u8; 32], answerer: &[u8; 32]) -> Self {
        let direction =
            |of: Side| Direction { cipher: root.cipher(&[of.label(), b" frames", asker, answerer]), next: 0, longest: of.longest() };
        let (asking, answering) = (direction(Side::Asker), direction(Side::Answerer));
        match side {
            Side::Asker => Self { side, sealing: asking, opening: answering },
            Side::Answerer => Self { side, sealing: answering, opening: asking },
        }
    }

    /// Which end this is.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.side
    }

    /// The frame that carries this content.
    ///
    /// # Errors
    /// Content longer than this side may send.
    pub fn seal(&mut self, content: &[u8]) -> Result<Vec<u8>, WireError> {
        let Direction { cipher, next, longest } = &mut self.sealing;
        if content.len() > *longest {
            return Err(WireError::FrameTooLong { bytes: content.len(), limit: *longest });
        }
        let length = u32::try_from(content.len() + TAG).expect("a frame has less than 5 MiB").to_le_bytes();
        let mut frame = Vec::with_capacity(length.len() + content.len() + TAG);
        frame.extend_from_slice(&length);
        frame.extend_from_slice(content);
        let (_, body) = frame.split_at_mut(length.len());
        let tag = cipher.encrypt_inout_detached(&nonce(*next), &length, body.into());
        frame.extend_from_slice(&tag.expect("a frame is far shorter than what the cipher can take"));
        *next = next.checked_add(1).ok_or(WireError::Exhausted)?;
        Ok(frame)
    }

    /// How many sealed bytes follow this length.
    ///
    /// # Errors
    /// More than the other side may send.
    pub fn sealed_length(&self, length: [u8; 4]) -> Result<usize, WireError> {
        let bytes = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        let limit = self.opening.longest;
        if bytes < TAG {
            return Err(WireError::BadSeal);
        }
        if bytes - TAG > limit { Err(WireError::FrameTooLong { bytes: bytes - TAG, limit }) } else { Ok(bytes) }
    }

    /// The content of the other side's next frame, given what follows its length.
    ///
    /// # Errors
    /// Altered, repeated, out of order.
    pub fn open(&mut self, mut sealed: Vec<u8>) -> Result<Vec<u8>, WireError> {
        let length = u32::try_from(sealed.len()).map_err(|_| WireError::BadSeal)?.to_le_bytes();
        let Direction { cipher, next, .. } = &mut self.opening;
        cipher.decrypt_in_place(&nonce(*next), &length, &mut sealed).map_err(|_| WireError::BadSeal)?;
        *next = next.checked_add(1).ok_or(WireError::Exhausted)?;
        Ok(sealed)
    }
}

/// What one side sends.
struct Direction {
    cipher: ChaCha20Poly1305,
    /// Counter of its next frame.
    next: u64,
    longest: usize,
}

/// Magic, version, oldest readable version, random part, seal of all that.
fn hello(root: &Root, side: Side, random: &[u8; 32]) -> [u8; HELLO_LENGTH] {
    let mut hello = [0; HELLO_LENGTH];
    let (greeting, seal) = hello.split_at_mut(GREETING);
    greeting[..4].copy_from_slice(&MAGIC);
    greeting[4..6].copy_from_slice(&[VERSION, READABLE_FROM]);
    greeting[6..].copy_from_slice(random);
    let tag = greeting_cipher(root, side, random).encrypt_inout_detached(&nonce(0), greeting, (&mut [][..]).into());
    seal.copy_from_slice(&tag.expect("nothing is enciphered"));
    hello
}

/// The random part of a hello of that side.
fn read_hello(root: &Root, side: Side, hello: &[u8; HELLO_LENGTH]) -> Result<[u8; 32], WireError> {
    let (greeting, seal) = hello.split_at(GREETING);
    let (Some(random), Some(tag)) = (greeting.last_chunk::<32>(), seal.first_chunk::<TAG>()) else { return Err(WireError::BadSeal) };
    if greeting[..4] != MAGIC {
        return Err(WireError::BadSeal);
    }
    let cipher = greeting_cipher(root, side, random);
    cipher.decrypt_inout_detached(&nonce(0), greeting, (&mut [][..]).into(), &(*tag).into()).map_err(|_| WireError::BadSeal)?;
    if speaks(greeting[4], greeting[5]) { Ok(*random) } else { Err(WireError::Version { theirs: greeting[4], ours: VERSION }) }
}

fn greeting_cipher(root: &Root, side: Side, random: &[u8; 32]) -> ChaCha20Poly1305 {
    root.cipher(&[side.label(), b" hello", random])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(asker_key: &[u8], answerer_key: &[u8]) -> Result<(Channel, Channel), WireError> {
        let (opening, hello) = Opening::new(asker_key, [1; 32]);
        let (answerer, answer) = answer_hello(answerer_key, [2; 32], &hello)?;
        Ok((opening.finish(&answer)?, answerer))
    }

    fn carry(from: &mut Channel, to: &mut Channel, content: &[u8]) -> Result<Vec<u8>, WireError> {
        let frame = from.seal(content)?;
        let (length, sealed) = frame.split_first_chunk().unwrap();
        assert_eq!(to.sealed_length(*length)?, sealed.len());
        to.open(sealed.to_vec())
    }

    #[test]
    fn both_directions_carry_frames_up_to_their_limits() {
        let (mut asker, mut answerer) = pair(b"key", b"key").unwrap();
        for content in [&b"question"[..], b"", &[7; MAX_QUESTION]] {
            assert_eq!(carry(&mut asker, &mut answerer, content).unwrap(), content);
        }
        assert_eq!(carry(&mut answerer, &mut asker, &vec![8; MAX_ANSWER]).unwrap(), vec![8; MAX_ANSWER]);
        assert!(matches!(asker.seal(&[0; MAX_QUESTION + 1]), Err(WireError::FrameTooLong { .. })));
        assert!(matches!(answerer.sealed_length(u32::MAX.to_le_bytes()), Err(WireError::FrameTooLong { limit: MAX_QUESTION, .. })));
        assert_eq!(answerer.sealed_length(15_u32.to_le_bytes()), Err(WireError::BadSeal));
    }

    #[test]
    fn another_key_and_every_altered_bit_of_a_hello_are_refused() {
        assert_eq!(pair(b"key", b"other").err(), Some(WireError::BadSeal));
        let (_, hello) = Opening::new(b"key", [1; 32]);
        for bit in 0..HELLO_LENGTH * 8 {
            let mut altered = hello;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(answer_hello(b"key", [2; 32], &altered).is_err(), "bit {bit}");
        }
        let (opening, hello) = Opening::new(b"key", [1; 32]);
        assert!(opening.finish(&hello).is_err(), "a reflected hello is not an answer");
    }

    #[test]
    fn altered_repeated_reordered_and_reflected_frames_are_refused() {
        let (mut asker, mut answerer) = pair(b"key", b"key").unwrap();
        let first = asker.seal(b"first").unwrap()[4..].to_vec();
        let second = asker.seal(b"second").unwrap()[4..].to_vec();
        assert!(asker.open(first.clone()).is_err());
        assert!(answerer.open(second.clone()).is_err());
        let mut altered = first.clone();
        altered[0] ^= 1;
        assert!(answerer.open(altered).is_err());
        assert_eq!(answerer.open(first.clone()).unwrap(), b"first");
        assert!(answerer.open(first).is_err());
        assert_eq!(answerer.open(second).unwrap(), b"second");
    }

    #[test]
    fn a_recorded_question_does_not_fit_another_channel() {
        let (opening, hello) = Opening::new(b"key", [1; 32]);
        let (_, answer) = answer_hello(b"key", [2; 32], &hello).unwrap();
        let frame = opening.finish(&answer).unwrap().seal(b"question").unwrap();
        let (mut again, _) = answer_hello(b"key", [3; 32], &hello).unwrap();
        assert!(again.open(frame[4..].to_vec()).is_err());
    }
}
