//! The orders of the core, one slot per group: the newest order is what counts, so nothing can pile up and the cluster
//! thread never waits for an executor.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::watch;

use super::lifetime::Lifetimes;
use crate::{
    model::{Action, Config, Generation, GroupId, NodeId, StopReason, Time},
    sys::clock,
};

/// What a group is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing was ordered yet.
    None,
    /// Be up. What is up already is taken over untouched when a process before this one had it up.
    Up {
        /// Such a process was.
        adopt: bool,
    },
    /// Be down.
    Down(StopReason),
}

/// The slot of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What to do.
    pub order: Order,
    /// Number of the order.
    pub generation: Generation,
    /// End of the lease as last told; `None` without a lease.
    pub until: Option<Time>,
    /// The longest lease that was left when the core told of it, since the start was ordered. Voters of another configuration
    /// may grant far less than T.
    pub longest_left: Duration,
    /// How often the core told of it.
    pub told: u32,
    /// Grows with each wish to announce the group's addresses again.
    pub announcements: u64,
}

/// Times a lease must have been told of before it is believed to be short: a single late look proves nothing.
const TOLD_OFTEN: u32 = 3;

impl Slot {
    /// What address lifetimes the lease allows, given what the configuration promises.
    #[must_use]
    pub fn lifetimes(&self, promised: Lifetimes) -> Lifetimes {
        // A lease that is long now, by far voters alone, may be as short as promised again.
        if promised == Lifetimes::Exact && self.told >= TOLD_OFTEN { Lifetimes::for_lease(self.longest_left) } else { promised }
    }

    fn tell(&mut self, until: Time) {
        self.until = Some(until);
        self.longest_left = self.longest_left.max(until.since(clock::now()));
        self.told = self.told.saturating_add(1);
    }
}

/// The writing side, on the cluster thread.
#[derive(Debug)]
pub struct Orders {
    slots: BTreeMap<GroupId, watch::Sender<Slot>>,
    hands_off: watch::Sender<bool>,
}

impl Orders {
    /// Slots for every group that `me` is a candidate of, with their reading sides.
    #[must_use]
    pub fn new(config: &Config, me: NodeId) -> (Self, Vec<(GroupId, watch::Receiver<Slot>)>) {
        let empty =
            Slot { order: Order::None, generation: Generation(0), until: None, longest_left: Duration::ZERO, told: 0, announcements: 0 };
        let mut slots = BTreeMap::new();
        let mut readers = Vec::new();
        for group in config.groups.iter().filter(|group| group.candidates.contains(&me)) {
            let (writer, reader) = watch::channel(empty);
            slots.insert(group.id, writer);
            readers.push((group.id, reader));
        }
        (Self { slots, hands_off: watch::Sender::new(false) }, readers)
    }

    /// Whether operators want hands off what runs, and every change of that.
    #[must_use]
    pub fn hands_off(&self) -> watch::Receiver<bool> {
        self.hands_off.subscribe()
    }

    /// Writes an order of the core into its slot. Orders that are not about one group are not for here.
    pub fn give(&self, action: Action) {
        match action {
            Action::Start { group, generation, until, adopt } => self.change(group, |slot| {
                *slot = Slot { order: Order::Up { adopt }, generation, until: None, longest_left: Duration::ZERO, told: 0, ..*slot };
                if let Some(until) = until {
                    slot.tell(until);
                }
            }),
            Action::Stop { group, generation, why } => self.change(group, |slot| {
                *slot = Slot { order: Order::Down(why), generation, until: None, ..*slot };
            }),
            Action::Extend { group, until } => self.change(group, |slot| slot.tell(until)),
            Action::Announce { group } => self.change(group, |slot| slot.announcements += 1),
            Action::HandsOff(off) => drop(self.hands_off.send_replace(off)),
            Action::CheckAlone { .. } => {}
        }
    }

    fn change(&self, group: GroupId, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.get(&group) {
            slot.send_modify(change);
        }
    }
}
