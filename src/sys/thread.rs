//! Priority for the one thread that renews leases, and memory that stays in memory.

use std::fs;

use nix::{errno::Errno, libc};

const CAP_IPC_LOCK: u32 = 14;

/// Something that was asked for and not granted; the daemon runs on without it, a little later when the machine is busy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// SCHED_RR.
    #[error("no real-time priority for the lease thread: {} (give it CAP_SYS_NICE or LimitRTPRIO=)", .0.desc())]
    Priority(Errno),
    /// mlockall.
    #[error("memory is not locked and may be swapped out: {} (give it CAP_IPC_LOCK and LimitMEMLOCK=infinity)", .0.desc())]
    Memory(Errno),
}

/// Gives the calling thread SCHED_RR, and locks the memory of the process as it is touched. Children and threads made by
/// this thread do not inherit the priority. Best effort: returns what was refused.
#[must_use]
pub fn make_urgent() -> Vec<Refused> {
    let mut refused = Vec::new();
    if let Err(errno) = round_robin() {
        refused.push(Refused::Priority(errno));
    }
    if let Err(errno) = lock_memory() {
        refused.push(Refused::Memory(errno));
    }
    refused
}

fn round_robin() -> Result<(), Errno> {
    // Low among the real-time priorities: above every ordinary process, below the kernel's own threads.
    let priority: libc::c_int = 10;
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // Not by libc's function: that of musl always refuses.
    // SAFETY: the kernel's sched_param is this one number, which outlives the call; 0 means the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
    Errno::result(result).map(drop)
}

fn lock_memory() -> Result<(), Errno> {
    // Under a limit, locking all that is to come would make a later allocation fail, and that ends the process.
    if !has_capability(CAP_IPC_LOCK) {
        return Err(Errno::EPERM);
    }
    // SAFETY: mlockall(2) takes no pointers. ONFAULT: stacks of sleeping threads are not filled in just to be locked.
    let result = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    Errno::result(result).map(drop)
}

fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    effective.is_some_and(|capabilities| capabilities >> number & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgency_is_granted_or_refused_and_not_inherited() {
        let refused = make_urgent();
        let policy = || {
            // SAFETY: takes no pointers; 0 means the calling thread.
            unsafe { libc::sched_getscheduler(0) }
        };
        if !refused.iter().any(|refused| matches!(refused, Refused::Priority(_))) {
            assert_eq!(policy() & !libc::SCHED_RESET_ON_FORK, libc::SCHED_RR);
        }
        assert_eq!(std::thread::spawn(policy).join().unwrap(), libc::SCHED_OTHER);
    }
}
