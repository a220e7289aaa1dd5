//! Events and settings for the tests of this room.

use std::path::Path;

use super::Settings;
use crate::{
    config::default_server,
    model::{Incident, IncidentKind, Severity, example},
};

/// Something that a node saw.
pub fn event(severity: Severity, text: &str) -> Incident {
    Incident { kind: IncidentKind::ResourceFailed, severity, ..example::event("node2", 7, 1500, text) }
}

/// A failover from node1 to node2.
pub fn failover() -> Incident {
    Incident { text: "group node1:web\0 moved".to_owned(), ..example::failover("node1", "node2", 7, 1500) }
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
