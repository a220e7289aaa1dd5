//! Messages to records and back, field by field, so that the layout does not move when a struct is rearranged.

use serde::{Serialize, de::DeserializeOwned};

use crate::model::{
    Ack, AssignmentId, Ballot, BootId, Claims, Definition, Digest, Electorate, ElectorateId, Entry, Fact, Fingerprint, GroupId, Heartbeat,
    HeldVote, Late, Message, NodeId, NodeState, PassVote, PassedGrant, Record, Refusal, Relayed, Roster, Tag, Version, VoteAbsent, VoteAck,
    VoteNumber, VoteTaken, Want, WantRelayed, WantRoster, WantVote, WishDigest, Wishes,
};

/// Kind and length.
pub const RECORD_HEADER: usize = 3;
/// Echoes that a datagram carries at most.
pub const ECHOES: usize = 4;
/// Elements that a list may have: more would not fit a datagram.
const MAX_LIST: u32 = 1400;

const KIND_CHALLENGE: u8 = 1;
const KIND_ECHOES: u8 = 2;
const KIND_HEARTBEAT: u8 = 16;
const KIND_CLAIMS: u8 = 17;
const KIND_ACK: u8 = 18;
const KIND_WANT: u8 = 19;
const KIND_DEFINITION: u8 = 20;
const KIND_WISHES: u8 = 21;
const KIND_DIGEST: u8 = 32;
const KIND_ROSTER: u8 = 33;
const KIND_WANT_ROSTER: u8 = 34;
const KIND_RELAYED: u8 = 35;
const KIND_WANT_RELAYED: u8 = 36;
const KIND_ELECTORATE: u8 = 37;
const KIND_WANT_ELECTORATE: u8 = 38;
const KIND_VOTE_ACK: u8 = 48;
const KIND_PASS_VOTE: u8 = 49;
const KIND_VOTE_TAKEN: u8 = 50;
const KIND_WANT_VOTE: u8 = 51;
const KIND_VOTE_ABSENT: u8 = 52;

/// A record that breaks the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The proof of life in a datagram: see [`Endpoint`](super::Endpoint).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handshake {
    /// To be echoed by the receiver.
    pub challenge: Option<u64>,
    /// Challenges of the receiver, sent back. At most [`ECHOES`].
    pub echoes: Vec<u64>,
}

/// The name of a message's kind, for errors.
pub const fn kind_name(message: &Message) -> &'static str {
    match message {
        Message::Heartbeat(_) => "heartbeat",
        Message::Claims(_) => "claims",
        Message::Ack(_) => "ack",
        Message::Want(_) => "want",
        Message::Definition(_) => "definition",
        Message::Wishes(_) => "wishes",
        Message::Digest(_) => "digest",
        Message::Roster(_) => "roster",
        Message::WantRoster(_) => "want of a roster",
        Message::Relayed(_) => "relayed claims",
        Message::WantRelayed(_) => "want of relayed claims",
        Message::Electorate(_) => "electorate",
        Message::WantElectorate => "want of an electorate",
        Message::VoteAck(_) => "ack by a lent vote",
        Message::PassVote(_) => "vote passed on",
        Message::VoteTaken(_) => "answer to a vote passed on",
        Message::WantVote(_) => "question for a vote",
        Message::VoteAbsent(_) => "answer to a question for a vote",
    }
}

/// Appends the record of a message, of whatever length; returns the length of its content.
pub fn put_message(message: &Message, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER]);
    let kind = match message {
        Message::Heartbeat(Heartbeat { tag, version, entries, state, hears_you, fingerprint, wishes, electorate, ballot }) => {
            put(tag, out);
            put(version, out);
            put(entries, out);
            put(state, out);
            put(hears_you, out);
            put(fingerprint, out);
            // Fields at the end are there up to the first that is not.
            if let Some(wishes) = wishes {
                put(wishes, out);
                if let Some(electorate) = electorate {
                    put(electorate, out);
                    put_if_there(ballot.as_ref(), out);
                }
            }
            KIND_HEARTBEAT
        }
        Message::Claims(Claims { version, first, total, entries }) => {
            put(version, out);
            put(first, out);
            put(total, out);
            put(entries, out);
            KIND_CLAIMS
        }
        Message::Ack(ack) => {
            put_ack(ack, out);
            KIND_ACK
        }
        Message::Want(Want { version }) => {
            put(version, out);
            KIND_WANT
        }
        Message::Definition(Definition { group, first, total, assignments }) => {
            put(group, out);
            put(first, out);
            put(total, out);
            put(assignments, out);
            KIND_DEFINITION
        }
        Message::Wishes(Wishes { records }) => {
            put(records, out);
            KIND_WISHES
        }
        Message::Digest(Digest { began, roster, late }) => {
            put(began, out);
            put(roster, out);
            put(late, out);
            KIND_DIGEST
        }
        Message::Roster(Roster { began, from, to, facts }) => {
            put(began, out);
            put(from, out);
            put(to, out);
            put(facts, out);
            KIND_ROSTER
        }
        Message::WantRoster(WantRoster { have }) => {
            put(have, out);
            KIND_WANT_ROSTER
        }
        Message::Relayed(Relayed { node, boot, claims: Claims { version, first, total, entries } }) => {
            put(node, out);
            put(boot, out);
            put(version, out);
            put(first, out);
            put(total, out);
            put(entries, out);
            KIND_RELAYED
        }
        Message::WantRelayed(WantRelayed { node, version }) => {
            put(node, out);
            put(version, out);
            KIND_WANT_RELAYED
        }
        Message::Electorate(Electorate { voters, former, new }) => {
            put(voters, out);
            put(former, out);
            put(new, out);
            KIND_ELECTORATE
        }
        Message::WantElectorate => KIND_WANT_ELECTORATE,
        Message::VoteAck(VoteAck { vote, ack }) => {
            put(vote, out);
            put_ack(ack, out);
            KIND_VOTE_ACK
        }
        Message::PassVote(PassVote { vote, number, silent_us, first, total, grants }) => {
            put(vote, out);
            put(number, out);
            put(silent_us, out);
            put(first, out);
            put(total, out);
            put(grants, out);
            KIND_PASS_VOTE
        }
        Message::VoteTaken(VoteTaken { vote, number, taken, known }) => {
            put(vote, out);
            put(number, out);
            put(taken, out);
            put(known, out);
            KIND_VOTE_TAKEN
        }
        Message::WantVote(WantVote { vote, below }) => {
            put(vote, out);
            put(below, out);
            KIND_WANT_VOTE
        }
        Message::VoteAbsent(VoteAbsent { below, known, longest_us }) => {
            put(below, out);
            put(known, out);
            put(longest_us, out);
            KIND_VOTE_ABSENT
        }
    };
    let length = out.len() - start - RECORD_HEADER;
    out[start] = kind;
    // A content too long for the field never leaves: the packer refuses it by the length returned.
    out[start + 1..start + RECORD_HEADER].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    length
}

/// Appends the records of a handshake; none for an empty one.
pub fn put_handshake(handshake: &Handshake, out: &mut Vec<u8>) {
    let Handshake { challenge, echoes } = handshake;
    if let Some(challenge) = challenge {
        out.extend_from_slice(&[KIND_CHALLENGE, 8, 0]);
        out.extend_from_slice(&challenge.to_le_bytes());
    }
    let echoes = &echoes[..echoes.len().min(ECHOES)];
    if !echoes.is_empty() {
        let length = u8::try_from(echoes.len() * 8).expect("four echoes are 32 bytes");
        out.extend_from_slice(&[KIND_ECHOES, length, 0]);
        echoes.iter().for_each(|echo| out.extend_from_slice(&echo.to_le_bytes()));
    }
}

/// The handshake in a datagram's records.
pub fn handshake(body: &[u8]) -> Result<Handshake, Malformed> {
    let mut found = Handshake::default();
    for record in Records(body) {
        let (kind, content) = record?;
        match kind {
            KIND_CHALLENGE => found.challenge = Some(u64::from_le_bytes(*content.first_chunk().ok_or(Malformed)?)),
            KIND_ECHOES => found.echoes = content.as_chunks().0.iter().take(ECHOES).map(|bytes| u64::from_le_bytes(*bytes)).collect(),
            _ => {}
        }
    }
    Ok(found)
}

/// The messages in a datagram's records. Of a newer writer, those that cannot be read are left out.
pub fn messages(body: &[u8], newer_writer: bool) -> Result<Vec<Message>, Malformed> {
    let mut found = Vec::new();
    for record in Records(body) {
        let (kind, content) = record?;
        match message(kind, content) {
            Ok(Some(message)) => found.push(message),
            Ok(None) => {}
            Err(Malformed) if newer_writer => {}
            Err(Malformed) => return Err(Malformed),
        }
    }
    Ok(found)
}

/// One message; `None` for a kind that is not known here.
fn message(kind: u8, content: &[u8]) -> Result<Option<Message>, Malformed> {
    let mut fields = Fields(content);
    // Fields are read in the order in which the initialisers stand.
    Ok(Some(match kind {
        KIND_HEARTBEAT => Message::Heartbeat(Heartbeat {
            tag: fields.take::<Tag>()?,
            version: fields.take::<Version>()?,
            entries: fields.take()?,
            state: fields.take::<NodeState>()?,
            hears_you: fields.take()?,
            fingerprint: fields.take::<Fingerprint>()?,
            wishes: fields.take_if_there::<WishDigest>()?,
            electorate: fields.take_if_there::<ElectorateId>()?,
            ballot: fields.ballot()?,
        }),
        KIND_CLAIMS => Message::Claims(Claims {
            version: fields.take::<Version>()?,
            first: fields.take()?,
            total: fields.take()?,
            entries: fields.list::<Entry>()?,
        }),
        KIND_ACK => Message::Ack(fields.ack()?),
        KIND_WANT => Message::Want(Want { version: fields.take::<Version>()? }),
        KIND_DEFINITION => Message::Definition(Definition {
            group: fields.take::<GroupId>()?,
            first: fields.take()?,
            total: fields.take()?,
            assignments: fields.list::<AssignmentId>()?,
        }),
        KIND_WISHES => Message::Wishes(Wishes { records: fields.list::<Record>()? }),
        KIND_DIGEST => {
            Message::Digest(Digest { began: fields.take::<Version>()?, roster: fields.take::<Version>()?, late: fields.list::<Late>()? })
        }
        KIND_ROSTER => Message::Roster(Roster {
            began: fields.take::<Version>()?,
            from: fields.take::<Version>()?,
            to: fields.take::<Version>()?,
            facts: fields.list::<Fact>()?,
        }),
        KIND_WANT_ROSTER => Message::WantRoster(WantRoster { have: fields.take::<Version>()? }),
        KIND_RELAYED => Message::Relayed(Relayed {
            node: fields.take::<NodeId>()?,
            boot: fields.take::<BootId>()?,
            claims: Claims {
                version: fields.take::<Version>()?,
                first: fields.take()?,
                total: fields.take()?,
                entries: fields.list::<Entry>()?,
            },
        }),
        KIND_WANT_RELAYED => Message::WantRelayed(WantRelayed { node: fields.take::<NodeId>()?, version: fields.take::<Version>()? }),
        KIND_ELECTORATE => {
            Message::Electorate(Electorate { voters: fields.list::<NodeId>()?, former: fields.lists::<NodeId>()?, new: fields.take()? })
        }
        KIND_WANT_ELECTORATE => Message::WantElectorate,
        KIND_VOTE_ACK => Message::VoteAck(VoteAck { vote: fields.take::<NodeId>()?, ack: fields.ack()? }),
        KIND_PASS_VOTE => Message::PassVote(PassVote {
            vote: fields.take::<NodeId>()?,
            number: fields.take::<VoteNumber>()?,
            silent_us: fields.take()?,
            first: fields.take()?,
            total: fields.take()?,
            grants: fields.list::<PassedGrant>()?,
        }),
        KIND_VOTE_TAKEN => Message::VoteTaken(VoteTaken {
            vote: fields.take::<NodeId>()?,
            number: fields.take::<VoteNumber>()?,
            taken: fields.take()?,
            known: fields.take::<VoteNumber>()?,
        }),
        KIND_WANT_VOTE => Message::WantVote(WantVote { vote: fields.take::<NodeId>()?, below: fields.take::<VoteNumber>()? }),
        KIND_VOTE_ABSENT => Message::VoteAbsent(VoteAbsent {
            below: fields.take::<VoteNumber>()?,
            known: fields.take::<VoteNumber>()?,
            longest_us: fields.take()?,
        }),
        _ => return Ok(None),
    }))
}

/// Appends one field. A list is its length and its elements.
fn put<T: Serialize + ?Sized>(field: &T, out: &mut Vec<u8>) {
    *out = postcard::to_extend(field, std::mem::take(out)).expect("integers and lists of them can always be appended to a vector");
}

/// Appends a field that older versions do not have, the last ones of a message.
fn put_if_there<T: Serialize>(field: Option<&T>, out: &mut Vec<u8>) {
    if let Some(field) = field {
        put(field, out);
    }
}

fn put_ack(Ack { tag, version, first, count, cap_us, refused, electorate }: &Ack, out: &mut Vec<u8>) {
    put(tag, out);
    put(version, out);
    put(first, out);
    put(count, out);
    put(cap_us, out);
    put(refused, out);
    put_if_there(electorate.as_ref(), out);
}

/// What is left of a message's content.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<T: DeserializeOwned>(&mut self) -> Result<T, Malformed> {
        let (field, rest) = postcard::take_from_bytes(self.0).map_err(|_| Malformed)?;
        self.0 = rest;
        Ok(field)
    }

    /// A field that older versions do not write.
    fn take_if_there<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Malformed> {
        if self.0.is_empty() { Ok(None) } else { self.take().map(Some) }
    }

    /// A list of lists.
    fn lists<T: DeserializeOwned>(&mut self) -> Result<Vec<Vec<T>>, Malformed> {
        let length: u32 = self.take()?;
        let possible = usize::try_from(length).is_ok_and(|length| length <= self.0.len());
        if possible { (0..length).map(|_| self.list()).collect() } else { Err(Malformed) }
    }

    fn ballot(&mut self) -> Result<Option<Ballot>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(Ballot { takes: self.take()?, lent: self.take()?, votes: self.list::<HeldVote>()? }))
    }

    fn ack(&mut self) -> Result<Ack, Malformed> {
        Ok(Ack {
            tag: self.take::<Tag>()?,
            version: self.take::<Version>()?,
            first: self.take()?,
            count: self.take()?,
            cap_us: self.take()?,
            refused: self.list::<Refusal>()?,
            electorate: self.take_if_there::<ElectorateId>()?,
        })
    }

    /// A list whose announced length is believed only as far as bytes are there for it.
    fn list<T: DeserializeOwned>(&mut self) -> Result<Vec<T>, Malformed> {
        let length: u32 = self.take()?;
        let possible = length <= MAX_LIST && usize::try_from(length).is_ok_and(|length| length <= self.0.len());
        if possible { (0..length).map(|_| self.take()).collect() } else { Err(Malformed) }
    }
}

/// Cuts a body into (kind, content); ends after the first fault.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u8, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let cut = self.0.split_first_chunk::<RECORD_HEADER>().and_then(|([kind, low, high], rest)| {
            let (content, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
            Some((*kind, content, rest))
        });
        let Some((kind, content, rest)) = cut else {
            self.0 = &[];
            return Some(Err(Malformed));
        };
        self.0 = rest;
        Some(Ok((kind, content)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&u16::try_from(content.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(content);
        bytes
    }

    fn want(version: u64) -> (Message, Vec<u8>) {
        let message = Message::Want(Want { version: Version(version) });
        let mut bytes = Vec::new();
        put_message(&message, &mut bytes);
        (message, bytes)
    }

    #[test]
    fn an_unknown_kind_and_later_fields_are_skipped() {
        let (first, first_bytes) = want(3);
        let (second, second_bytes) = want(4);
        let mut longer = second_bytes[RECORD_HEADER..].to_vec();
        longer.extend_from_slice(b"a field of version 3");
        let body = [first_bytes, record(200, b"who knows"), record(KIND_WANT, &longer)].concat();
        assert_eq!(messages(&body, false), Ok(vec![first, second]));
    }

    #[test]
    fn an_unreadable_message_is_skipped_only_for_a_newer_writer() {
        let (first, bytes) = want(3);
        let mut stance_of_version_3 = Vec::new();
        for field in [1_u64, 0, 1] {
            put(&field, &mut stance_of_version_3);
        }
        stance_of_version_3.extend_from_slice(&[1, 9, 99]);
        let body = [bytes, record(KIND_CLAIMS, &stance_of_version_3)].concat();
        assert_eq!(messages(&body, true), Ok(vec![first]));
        assert_eq!(messages(&body, false), Err(Malformed));
    }

    #[test]
    fn a_list_is_not_believed_beyond_its_bytes() {
        let mut content = Vec::new();
        put(&(7_u64, 0_u32, 9_u32), &mut content);
        put(&u32::MAX, &mut content);
        assert_eq!(messages(&record(KIND_DEFINITION, &content), false), Err(Malformed));
        let mut content = Vec::new();
        put(&(7_u64, 0_u32, 9_u32), &mut content);
        put(&(MAX_LIST + 1), &mut content);
        content.resize(2000, 0);
        assert_eq!(messages(&record(KIND_DEFINITION, &content), false), Err(Malformed));
    }

    #[test]
    fn a_record_beyond_the_end_is_malformed() {
        assert_eq!(messages(&[KIND_WANT, 9, 0, 1], false), Err(Malformed));
        assert_eq!(messages(&[KIND_WANT, 1], false), Err(Malformed));
        assert_eq!(handshake(&[KIND_CHALLENGE, 1, 0, 1]), Err(Malformed));
    }

    #[test]
    fn a_handshake_comes_back() {
        let sent = Handshake { challenge: Some(5), echoes: vec![u64::MAX, 0, 1, 2] };
        let mut bytes = Vec::new();
        put_handshake(&sent, &mut bytes);
        assert_eq!(handshake(&bytes), Ok(sent));
        assert_eq!(messages(&bytes, false), Ok(vec![]));
    }
}
