//! Which counters of one sender have been seen.

/// Accepts each counter once, in any order within [`Window::WIDTH`] of the highest.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    highest: u64,
    /// Bit n: `highest - n` has been seen.
    seen: u128,
}

impl Window {
    /// How far behind the highest counter one is still accepted.
    pub const WIDTH: u64 = 128;

    /// A window in which this counter and all before it have been seen.
    pub const fn from(highest: u64) -> Self {
        Self { highest, seen: u128::MAX }
    }

    /// The highest counter seen.
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether this counter would be accepted.
    pub const fn is_new(&self, counter: u64) -> bool {
        if counter > self.highest {
            return true;
        }
        let age = self.highest - counter;
        age < Self::WIDTH && self.seen & (1 << age) == 0
    }

    /// Marks a counter as seen; only after its seal was checked.
    pub const fn mark(&mut self, counter: u64) {
        if counter > self.highest {
            let step = counter - self.highest;
            self.seen = if step < Self::WIDTH { self.seen << step | 1 } else { 1 };
            self.highest = counter;
        } else if self.highest - counter < Self::WIDTH {
            self.seen |= 1 << (self.highest - counter);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_never_accepts_a_counter_twice_and_misses_none_within_its_width(
            counters in prop::collection::vec(prop_oneof![1..400_u64, any::<u64>()], 0..300),
        ) {
            let mut window = Window::from(0);
            let mut seen = BTreeSet::from([0]);
            for counter in counters {
                let highest = *seen.last().unwrap();
                let expected = counter > highest || (highest - counter < Window::WIDTH && !seen.contains(&counter));
                prop_assert_eq!(window.is_new(counter), expected && counter != 0);
                if window.is_new(counter) {
                    window.mark(counter);
                    seen.insert(counter);
                }
                prop_assert!(!window.is_new(counter));
                prop_assert_eq!(window.highest(), *seen.last().unwrap());
            }
        }
    }
}
