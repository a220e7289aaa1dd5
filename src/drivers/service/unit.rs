//! Names and states of units, as systemd writes them. Pure.

/// What comes after the last dot of a unit's name.
const SUFFIXES: [&str; 11] = ["service", "socket", "target", "timer", "mount", "automount", "path", "slice", "scope", "swap", "device"];

/// The full name of a unit: a service, unless the name says otherwise.
pub(super) fn full_name(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((_, suffix)) if SUFFIXES.contains(&suffix) => name.to_owned(),
        Some(_) | None => format!("{name}.service"),
    }
}

/// Where a unit is, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It runs; also while it reads its configuration again.
    Running,
    /// On its way up or down, by an order or by its own `Restart=`.
    Pending,
    /// It does not run.
    Down,
    /// It does not run, and ended badly.
    Failed,
}

/// What systemd says of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// `LoadState`.
    pub load: String,
    /// From `ActiveState`, `SubState` and `Job`.
    pub state: State,
}

impl Reading {
    /// From the properties of the unit; `job` is the number of its job, 0 for none.
    pub(super) fn new(load: String, active: &str, sub: &str, job: u32) -> Self {
        let state = match active {
            "active" | "reloading" | "refreshing" => State::Running,
            // A dead unit with a job, or with a restart coming, is about to be up.
            "inactive" | "failed" if job != 0 || sub.contains("auto-restart") => State::Pending,
            "inactive" => State::Down,
            "failed" => State::Failed,
            // activating, deactivating, maintenance, and what later versions may add.
            _ => State::Pending,
        };
        Self { load, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_type_is_a_service() {
        for (name, full) in [
            ("nginx", "nginx.service"),
            ("nginx.service", "nginx.service"),
            ("openvpn@office", "openvpn@office.service"),
            ("openvpn@office.service", "openvpn@office.service"),
            ("my.app", "my.app.service"),
            ("cluster.target", "cluster.target"),
        ] {
            assert_eq!(full_name(name), full);
        }
    }

    #[test]
    fn what_is_on_its_way_is_neither_up_nor_down() {
        let state = |active, sub, job| Reading::new("loaded".into(), active, sub, job).state;
        assert_eq!(state("active", "running", 0), State::Running);
        assert_eq!(state("reloading", "reload", 7), State::Running);
        assert_eq!(state("activating", "auto-restart", 0), State::Pending);
        assert_eq!(state("inactive", "dead-before-auto-restart", 0), State::Pending);
        assert_eq!(state("deactivating", "stop-sigterm", 3), State::Pending);
        assert_eq!(state("inactive", "dead", 3), State::Pending, "a job that waits for another unit");
        assert_eq!(state("inactive", "dead", 0), State::Down);
        assert_eq!(state("failed", "failed", 0), State::Failed);
    }
}
