//! What a daemon costs: processor time, wake-ups, memory, packets. As the kernel counts them, from outside.

use std::fs;

use super::{LabError, Namespace};

/// What some processes have used since their start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Time on a processor, in nanoseconds.
    pub nanoseconds: u64,
    /// Times that a thread slept and woke.
    pub wake_ups: u64,
}

impl Cost {
    /// Of these processes, with all their threads; one that has ended costs nothing any more.
    #[must_use]
    pub fn of(processes: &[i32]) -> Self {
        let mut cost = Self::default();
        for process in processes {
            let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { continue };
            for thread in threads.flatten() {
                let read = |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
                // proc(5): time on the processor in ns, time in the queue, slices.
                cost.nanoseconds += first_number(&read("schedstat"));
                cost.wake_ups += field(&read("status"), "voluntary_ctxt_switches:");
            }
        }
        cost
    }

    /// What was used since then.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { nanoseconds: self.nanoseconds.saturating_sub(earlier.nanoseconds), wake_ups: self.wake_ups.saturating_sub(earlier.wake_ups) }
    }
}

/// Resident memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub resident: u64,
    /// What it shares with no other process, and what is not in a file.
    pub private: u64,
}

impl Memory {
    /// Of these processes together; nothing of one that has ended.
    #[must_use]
    pub fn of(processes: &[i32]) -> Self {
        processes.iter().fold(Self::default(), |sum, process| {
            let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
            Self { resident: sum.resident + field(&text, "Rss:"), private: sum.private + field(&text, "Private_Dirty:") }
        })
    }
}

/// Packets of a node's interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// Out of it.
    pub sent: u64,
    /// Into it.
    pub received: u64,
}

impl Packets {
    /// Of `eth0` since the laboratory was made.
    ///
    /// # Errors
    /// [`LabError::Gone`], [`LabError::System`].
    pub fn of(namespace: &Namespace) -> Result<Self, LabError> {
        let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/dev"))?;
        let text = text.map_err(|error| LabError::system("reading /proc/net/dev", error))?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap_or_default();
        // proc(5): eight columns of what was received, the second of them packets; then what was sent.
        let column = |number: usize| line.split_whitespace().nth(number).and_then(|count| count.parse().ok()).unwrap_or(0);
        Ok(Self { sent: column(9), received: column(1) })
    }

    /// What came and went since then.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { sent: self.sent.saturating_sub(earlier.sent), received: self.received.saturating_sub(earlier.received) }
    }

    /// Both ways.
    #[must_use]
    pub fn all(self) -> u64 {
        self.sent + self.received
    }
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn field(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)).map_or(0, first_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_costs_something() {
        let own = [i32::try_from(std::process::id()).unwrap()];
        let (before, memory) = (Cost::of(&own), Memory::of(&own));
        std::thread::sleep(std::time::Duration::from_millis(20));
        let cost = Cost::of(&own).since(before);
        assert!(cost.wake_ups >= 1 && cost.nanoseconds < 1_000_000_000, "{cost:?}");
        assert!(memory.resident > memory.private && memory.private > 0, "{memory:?}");
    }
}
