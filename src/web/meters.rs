//! What is counted over the life of the daemon.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};

use crate::model::{Incident, IncidentKind};

/// Outages in seconds: from a planned move to a take-over after a long lease.
const OUTAGES: [f64; 14] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Why a group came to run here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Why {
    kind: &'static str,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Happened {
    event: &'static str,
    severity: &'static str,
}

/// The counters.
#[derive(Clone, Debug)]
pub struct Meters {
    pub(super) outages: Family<Why, Histogram, fn() -> Histogram>,
    pub(super) events: Family<Happened, Counter>,
}

impl Default for Meters {
    fn default() -> Self {
        let meters = Self { outages: Family::new_with_constructor(|| Histogram::new(OUTAGES)), events: Family::default() };
        // Known from the start, so that the first failover is seen as one more.
        for kind in [IncidentKind::Failover, IncidentKind::Moved] {
            drop(meters.outages.get_or_create(&Why { kind: kind.word() }));
        }
        meters
    }
}

impl Meters {
    /// Counts an event. Never waits.
    pub fn count(&self, event: &Incident) {
        self.events.get_or_create(&Happened { event: event.kind.word(), severity: event.severity.word() }).inc();
        if let (IncidentKind::Failover | IncidentKind::Moved, Some(timeline)) = (event.kind, &event.timeline) {
            // Clients notice when it is announced.
            let out_ms = u32::try_from(timeline.announced_ms.unwrap_or(timeline.running_ms)).unwrap_or(u32::MAX);
            self.outages.get_or_create(&Why { kind: event.kind.word() }).observe(f64::from(out_ms) / 1000.0);
        }
    }
}
