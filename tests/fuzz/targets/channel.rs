//! The sealed channel of the status port: what was not sealed by the other side is refused, and does no harm.

use drcm::wire::{Channel, HELLO_LENGTH, MAX_ANSWER, Opening, answer_hello};

use super::bytes::Bytes;

const KEY: &[u8] = b"the authkey of the fuzzed cluster";

/// A hello of whoever, then frames of whoever.
pub fn hellos_and_frames(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    let (opening, hello) = Opening::new(KEY, [1; 32]);
    let forged: [u8; HELLO_LENGTH] = input.array();
    assert!(forged == hello || answer_hello(KEY, [2; 32], &forged).is_err(), "a hello without the authkey was answered");
    let (other, _) = Opening::new(KEY, [1; 32]);
    assert!(other.finish(&forged).is_err(), "a hello without the authkey was taken for an answer");
    let (mut answerer, answer) = answer_hello(KEY, [2; 32], &hello).unwrap();
    let mut asker = opening.finish(&answer).unwrap();
    while !input.is_empty() {
        let to_asker = input.truth();
        let (from, to) = if to_asker { (&mut answerer, &mut asker) } else { (&mut asker, &mut answerer) };
        frame(&mut input, from, to);
    }
}

/// An honest frame, and what somebody makes of it on its way.
fn frame(input: &mut Bytes<'_>, from: &mut Channel, to: &mut Channel) {
    if let Ok(length) = to.sealed_length(input.array()) {
        assert!(length <= MAX_ANSWER + 16);
    }
    let content = input.chunk();
    let honest = from.seal(content).unwrap();
    let (length, sealed) = honest.split_first_chunk().unwrap();
    assert_eq!(to.sealed_length(*length), Ok(sealed.len()));
    let mut altered = sealed.to_vec();
    let keep = usize::from(input.small()) % (altered.len() + 1);
    altered.truncate(keep);
    altered.extend_from_slice(input.chunk());
    assert!(altered == sealed || to.open(altered).is_err(), "an altered frame was opened");
    assert_eq!(to.open(sealed.to_vec()).as_deref(), Ok(content), "a forged frame did harm");
    assert!(to.open(sealed.to_vec()).is_err(), "a frame was opened twice");
}
