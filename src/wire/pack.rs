//! Messages into as few datagrams as hold them.

use super::{
    MAX_DATAGRAM, WireError,
    codec::{self, ECHOES, Handshake, RECORD_HEADER},
};
use crate::model::Message;

/// Bytes before the sealed records.
pub const HEADER: usize = 42;
/// Bytes after them.
pub const TAG: usize = 16;
/// Longest handshake: a challenge and all echoes.
const HANDSHAKE: usize = RECORD_HEADER + 8 + RECORD_HEADER + 8 * ECHOES;
/// Longest content of one message, in bytes: fits a datagram beside any handshake.
pub const MAX_MESSAGE: usize = MAX_DATAGRAM - HEADER - TAG - HANDSHAKE - RECORD_HEADER;

/// Datagrams yet to be sealed, with room for the header in front: each carries the handshake and the next messages in
/// order. One at least, even without messages: it carries the handshake.
pub fn pack(handshake: &Handshake, messages: &[Message]) -> Result<Vec<Vec<u8>>, WireError> {
    let begin = || {
        let mut datagram = Vec::with_capacity(MAX_DATAGRAM);
        datagram.resize(HEADER, 0);
        codec::put_handshake(handshake, &mut datagram);
        datagram
    };
    let mut datagrams = Vec::with_capacity(1);
    let mut current = begin();
    for message in messages {
        let before = current.len();
        let bytes = codec::put_message(message, &mut current);
        if bytes > MAX_MESSAGE {
            return Err(WireError::MessageTooLong { kind: codec::kind_name(message), bytes, limit: MAX_MESSAGE });
        }
        if current.len() + TAG > MAX_DATAGRAM {
            let mut next = begin();
            next.extend_from_slice(&current[before..]);
            current.truncate(before);
            datagrams.push(std::mem::replace(&mut current, next));
        }
    }
    datagrams.push(current);
    Ok(datagrams)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AssignmentId, Definition, GroupId};

    fn definition(members: usize) -> Message {
        Message::Definition(Definition { group: GroupId(1), first: 0, total: 0, assignments: vec![AssignmentId(1); members] })
    }

    #[test]
    fn a_message_of_the_longest_length_fits_beside_any_handshake_and_a_longer_one_is_refused() {
        let full = Handshake { challenge: Some(u64::MAX), echoes: vec![u64::MAX; ECHOES] };
        let fixed = MAX_MESSAGE - 5;
        let datagrams = pack(&full, &[definition(fixed)]).unwrap();
        assert_eq!(datagrams.len(), 1);
        assert_eq!(datagrams[0].len() + TAG, MAX_DATAGRAM);
        assert_eq!(
            pack(&Handshake::default(), &[definition(fixed + 1)]),
            Err(WireError::MessageTooLong { kind: "definition", bytes: MAX_MESSAGE + 1, limit: MAX_MESSAGE })
        );
    }

    #[test]
    fn a_full_datagram_is_followed_by_another_in_order() {
        let sent: Vec<Message> = (1..200).map(definition).collect();
        let datagrams = pack(&Handshake::default(), &sent).unwrap();
        let read: Vec<Message> = datagrams.iter().flat_map(|datagram| codec::messages(&datagram[HEADER..], false).unwrap()).collect();
        assert_eq!(read, sent);
        for pair in datagrams.windows(2) {
            let first_of_next = codec::messages(&pair[1][HEADER..], false).unwrap().remove(0);
            let mut bytes = Vec::new();
            codec::put_message(&first_of_next, &mut bytes);
            assert!(pair[0].len() + bytes.len() + TAG > MAX_DATAGRAM, "it would have fitted the datagram before");
        }
    }
}
