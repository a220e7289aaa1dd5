//! Events and settings for the tests of this room.

use std::path::Path;

use super::Settings;
use crate::{
    config::default_server,
    model::{Cause, Incident, IncidentKind, Severity, Timeline},
};

/// Something that a node saw.
pub fn event(severity: Severity, text: &str) -> Incident {
    Incident {
        number: 7,
        at_ms: 1500,
        boot_ms: 77,
        node: "node2".into(),
        kind: IncidentKind::ResourceFailed,
        severity,
        about: None,
        group: None,
        resource: None,
        text: text.into(),
        timeline: None,
        took_ms: None,
        tells: true,
    }
}

/// A failover from node1 to node2.
pub fn failover() -> Incident {
    let timeline = Timeline {
        from: Some("node1".into()),
        to: "node2".into(),
        cause: Cause::Silence,
        detected_ms: Some(1500),
        stopped_ms: None,
        lease_ms: Some(1502),
        running_ms: 1504,
        announced_ms: Some(1504),
    };
    Incident {
        kind: IncidentKind::Failover,
        about: Some("node1".into()),
        group: Some("node1:web".into()),
        timeline: Some(timeline),
        took_ms: Some(1504),
        ..event(Severity::Warning, "group node1:web\0 moved")
    }
}

/// Settings with every directory in this place, that tell nobody.
pub fn settings(place: &Path) -> Settings {
    let mut alerts = default_server().alerts;
    alerts.hooks_dir = place.join("none");
    Settings {
        alerts,
        node: "node2".into(),
        hostname: "node2.lab".into(),
        log_dir: place.to_owned(),
        run_dir: place.to_owned(),
        spool_dir: place.to_owned(),
        auth_dir: place.to_owned(),
        umask: 0o022,
        max_log_size: 1 << 20,
    }
}
