//! Nodes of several protocol versions in one cluster: a rolling upgrade. Nodes of the version before say and hear only what that
//! version knew; nodes of a version to come say more than anybody knows.

use drcm::{
    model::Message,
    wire::{put_records, records},
};

use super::version_1;

/// What a daemon speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speech {
    /// The version before this one: through its frozen codec, both ways.
    Before,
    /// This version.
    #[default]
    Today,
    /// The one to come: kinds and fields that nobody knows are among what it says.
    After,
}

impl Speech {
    /// What the daemons of a seed speak at first, and after their upgrade. Drawn from nothing, so that other seeds stay what
    /// they are.
    pub fn of(seed: u64) -> (Self, Self) {
        match seed % 10 {
            3 => (Self::Before, Self::Today),
            8 => (Self::Today, Self::After),
            _ => (Self::Today, Self::Today),
        }
    }

    /// What is left of a message that a daemon says or hears; `None` when it does not know the kind.
    pub fn knows(self, message: Message) -> Option<Message> {
        match self {
            Self::Before => {
                let mut today = Vec::new();
                put_records(&[message], &mut today);
                let known = version_1::read(&today).expect("today writes records that version 1 can tell apart");
                let mut read = records(&version_1::write(&known)).expect("today reads what version 1 writes");
                assert!(read.len() == known.len() && known.len() < 2, "of one message came {read:?}");
                read.pop()
            }
            Self::Today | Self::After => Some(message),
        }
    }

    /// Adds to a datagram's records what only this version knows.
    pub fn embellish(self, bytes: &mut Vec<u8>) {
        if self != Self::After {
            return;
        }
        const UNKNOWN: [u8; 5] = [250, 2, 0, 1, 2];
        const FIELD: [u8; 3] = [7, 0, 255];
        let mut more = UNKNOWN.to_vec();
        let mut rest = bytes.as_slice();
        while let Some((&[kind, low, high], after)) = rest.split_first_chunk() {
            let length = u16::from_le_bytes([low, high]);
            let (content, after) = after.split_at(usize::from(length));
            more.push(kind);
            more.extend_from_slice(&(length + FIELD.len() as u16).to_le_bytes());
            more.extend_from_slice(content);
            more.extend_from_slice(&FIELD);
            more.extend_from_slice(&UNKNOWN);
            rest = after;
        }
        *bytes = more;
    }
}
