//! What is to happen, in order: by true time, and in the order of scheduling where two things fall on one instant.

use std::{cmp::Ordering, collections::BinaryHeap};

use drcm::model::{BootId, Checks, Outcome};

use super::clock::Instant;

/// Something that will happen. Epochs and tokens outdate it when the thing it speaks of has been cancelled since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A datagram reaches a machine.
    Deliver { to: u8, slot: u32 },
    /// A start begins to have effect.
    Effect { node: u8, group: u8, epoch: u32 },
    /// An order is done and the executor reports it.
    Finish { node: u8, group: u8, epoch: u32, outcome: Outcome },
    /// The kernel removes an address whose lifetime is over.
    Expire { node: u8, assignment: u8, token: u32 },
    /// The answer to the three checks of a pair.
    Alone { node: u8, life: u32, checks: Checks },
    /// A daemon starts.
    Restart { node: u8, life: u32 },
    /// A daemon that was told to leave must have left by now.
    MustHaveLeft { node: u8, life: u32 },
    /// Notes about votes are on disk.
    Noted { node: u8, boot: BootId, serial: u64 },
    /// The turn of a node to leave, where all but one do.
    LeaveNow { node: u8, fault: u32 },
    /// The next fault.
    Fault { cycle: u32 },
    /// A fault ends.
    Undo { fault: u32 },
    /// A take-over must have happened by now.
    MustBeTaken { probe: u32 },
    /// The operator ends standby and maintenance.
    TidyUp { cycle: u32 },
    /// The operator vouches for it that nobody counts former voters, where nodes wait for that.
    Vouch { cycle: u32 },
    /// The next part of the schedule.
    Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Scheduled {
    at: Instant,
    number: u64,
    what: What,
}

impl Ord for Scheduled {
    /// The earliest is the greatest, since the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The agenda of a run.
#[derive(Default)]
pub struct Queue {
    heap: BinaryHeap<Scheduled>,
    numbers: u64,
}

impl Queue {
    /// Puts something on the agenda.
    pub fn push(&mut self, at: Instant, what: What) {
        self.numbers += 1;
        self.heap.push(Scheduled { at, number: self.numbers, what });
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|scheduled| scheduled.at)
    }

    /// Takes the next thing.
    pub fn pop(&mut self) -> Option<(Instant, What)> {
        self.heap.pop().map(|scheduled| (scheduled.at, scheduled.what))
    }
}
