//! What failed here because something was missing runs here again once that has come: the file server that boots last, the disk, the
//! unit, the user. What failed for any other reason waits for an operator, since to try again would only interrupt whoever runs it.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::sleep;
use tracing::{info, warn};

use super::Worker;
use crate::model::Event;

/// Between two looks for what is missing.
const LOOK: Duration = Duration::from_secs(5);
/// Longest pause after which a group is tried again that failed although all was there.
const LONGEST: Duration = Duration::from_secs(300);

/// A resource that cannot be kept running here.
pub(super) struct GivenUp {
    /// Which of the group.
    pub position: usize,
    /// It is known that something it needs was not there.
    pub lacks: bool,
}

impl Worker {
    /// Whether something is missing that it needs.
    pub(super) async fn lacks(&self, given_up: &GivenUp) -> bool {
        given_up.lacks || self.could_start(given_up.position).await.is_err()
    }

    /// Waits until that is there, and tells the core that the group may run here again.
    pub(super) async fn recover(&self, given_up: &GivenUp) {
        let member = &self.members[given_up.position];
        let name = &member.assignment.resource;
        let pause = pause(self.vain.fetch_add(1, Ordering::Relaxed));
        info!("{name}: looking every {} s for what it lacks; it may run here again once that is there", LOOK.as_secs());
        sleep(pause).await;
        let mut told = String::new();
        loop {
            self.attended().await;
            match self.could_start(given_up.position).await {
                Ok(()) => break,
                Err(lack) if lack == told => {}
                Err(lack) => {
                    warn!("{name} still cannot run here: {lack}");
                    told = lack;
                }
            }
            sleep(LOOK).await;
        }
        info!("{name}: what it lacked is there, group {} may run here again", self.title);
        self.shared.mailbox.tell(Event::Fitness { group: self.group.id, able: true });
    }

    /// It runs.
    pub(super) fn recovered(&self) {
        self.vain.store(0, Ordering::Relaxed);
    }

    async fn could_start(&self, position: usize) -> Result<(), String> {
        let member = &self.members[position];
        self.shared.drivers.could_start(&member.resource, &member.assignment).await.map_err(|lack| lack.to_string())
    }
}

/// Before the first look, by the number of times that it was in vain.
fn pause(vain: u32) -> Duration {
    LOOK.saturating_mul(1 << vain.min(10)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_although_all_is_there_is_tried_less_and_less() {
        let seconds: Vec<u64> = (0..9).map(|vain| pause(vain).as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(pause(u32::MAX), LONGEST);
    }
}
