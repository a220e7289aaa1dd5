//! Version 1 of the messages, frozen: what a node of that version writes and how it reads. It shares nothing with the codec
//! that is shipped, so that the shipped one cannot change without being told. Never edited.

/// A message of version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Heartbeat {
        tag: u64,
        version: u64,
        entries: u32,
        eligible: bool,
        left: bool,
        quorate: bool,
        standby: bool,
        hears_you: bool,
        fingerprint: u64,
    },
    Claims {
        version: u64,
        first: u32,
        total: u32,
        entries: Vec<(u64, Stance)>,
    },
    Ack {
        tag: u64,
        version: u64,
        first: u32,
        count: u32,
        cap_us: u64,
        refused: Vec<(u64, Reason)>,
    },
    Want {
        version: u64,
    },
    Definition {
        group: u64,
        first: u32,
        total: u32,
        assignments: Vec<u64>,
    },
}

/// What a list of claims says of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    Claims { lease_us: u64, running: bool },
    HandsOver { next: u64 },
    Unable,
}

/// Why a voter refuses one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Busy { holder: u64, remaining_us: u64 },
    Silent { remaining_us: u64 },
    Unknown,
}

/// The records of these messages.
pub fn write(messages: &[Message]) -> Vec<u8> {
    let mut body = Vec::new();
    for message in messages {
        let mut content = Vec::new();
        let kind = match message {
            Message::Heartbeat { tag, version, entries, eligible, left, quorate, standby, hears_you, fingerprint } => {
                [*tag, *version, u64::from(*entries)].into_iter().for_each(|number| put(number, &mut content));
                content.extend([*eligible, *left, *quorate, *standby, *hears_you].map(u8::from));
                put(*fingerprint, &mut content);
                16
            }
            Message::Claims { version, first, total, entries } => {
                [*version, u64::from(*first), u64::from(*total), entries.len() as u64]
                    .into_iter()
                    .for_each(|number| put(number, &mut content));
                for (group, stance) in entries {
                    put(*group, &mut content);
                    match stance {
                        Stance::Claims { lease_us, running } => {
                            content.push(0);
                            put(*lease_us, &mut content);
                            content.push(u8::from(*running));
                        }
                        Stance::HandsOver { next } => {
                            content.push(1);
                            put(*next, &mut content);
                        }
                        Stance::Unable => content.push(2),
                    }
                }
                17
            }
            Message::Ack { tag, version, first, count, cap_us, refused } => {
                let numbers = [*tag, *version, u64::from(*first), u64::from(*count), *cap_us, refused.len() as u64];
                numbers.into_iter().for_each(|number| put(number, &mut content));
                for (group, reason) in refused {
                    put(*group, &mut content);
                    match reason {
                        Reason::Busy { holder, remaining_us } => {
                            content.push(0);
                            put(*holder, &mut content);
                            put(*remaining_us, &mut content);
                        }
                        Reason::Silent { remaining_us } => {
                            content.push(1);
                            put(*remaining_us, &mut content);
                        }
                        Reason::Unknown => content.push(2),
                    }
                }
                18
            }
            Message::Want { version } => {
                put(*version, &mut content);
                19
            }
            Message::Definition { group, first, total, assignments } => {
                let numbers = [*group, u64::from(*first), u64::from(*total), assignments.len() as u64];
                numbers.iter().chain(assignments).for_each(|number| put(*number, &mut content));
                20
            }
        };
        body.push(kind);
        body.extend(u16::try_from(content.len()).expect("a message is short").to_le_bytes());
        body.extend(content);
    }
    body
}

/// The messages in these records: kinds that version 1 does not know, fields after the last it knows, and messages that it
/// cannot read are left out. `None` when the records themselves are broken.
pub fn read(body: &[u8]) -> Option<Vec<Message>> {
    let mut messages = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let (&[kind, low, high], after) = rest.split_first_chunk()?;
        let (content, after) = after.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        messages.extend(message(kind, content));
        rest = after;
    }
    Some(messages)
}

fn message(kind: u8, content: &[u8]) -> Option<Message> {
    let mut fields = Fields(content);
    Some(match kind {
        16 => Message::Heartbeat {
            tag: fields.number()?,
            version: fields.number()?,
            entries: fields.small()?,
            eligible: fields.truth()?,
            left: fields.truth()?,
            quorate: fields.truth()?,
            standby: fields.truth()?,
            hears_you: fields.truth()?,
            fingerprint: fields.number()?,
        },
        17 => Message::Claims {
            version: fields.number()?,
            first: fields.small()?,
            total: fields.small()?,
            entries: fields.list(|fields| Some((fields.number()?, fields.stance()?)))?,
        },
        18 => Message::Ack {
            tag: fields.number()?,
            version: fields.number()?,
            first: fields.small()?,
            count: fields.small()?,
            cap_us: fields.number()?,
            refused: fields.list(|fields| Some((fields.number()?, fields.reason()?)))?,
        },
        19 => Message::Want { version: fields.number()? },
        20 => Message::Definition {
            group: fields.number()?,
            first: fields.small()?,
            total: fields.small()?,
            assignments: fields.list(Fields::number)?,
        },
        _ => return None,
    })
}

/// Seven bits a byte, the low ones first; the highest bit says that more follow.
fn put(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    out.push(number as u8);
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in 0..10 {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return (place < 9 || byte < 2).then_some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn truth(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn stance(&mut self) -> Option<Stance> {
        Some(match self.byte()? {
            0 => Stance::Claims { lease_us: self.number()?, running: self.truth()? },
            1 => Stance::HandsOver { next: self.number()? },
            2 => Stance::Unable,
            _ => return None,
        })
    }

    fn reason(&mut self) -> Option<Reason> {
        Some(match self.byte()? {
            0 => Reason::Busy { holder: self.number()?, remaining_us: self.number()? },
            1 => Reason::Silent { remaining_us: self.number()? },
            2 => Reason::Unknown,
            _ => return None,
        })
    }

    fn list<T>(&mut self, mut element: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.small()? as usize;
        (length <= self.0.len()).then_some(())?;
        (0..length).map(|_| element(self)).collect()
    }
}
