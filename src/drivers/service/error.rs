//! What can go wrong between us and systemd.

use std::time::Duration;

/// Why a service could not be started, stopped or asked about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The administrator forbade the unit.
    #[error("{unit} is masked on this node; `systemctl unmask {unit}`")]
    Masked {
        /// Which.
        unit: String,
    },
    /// There is no such unit.
    #[error("there is no {unit} on this node; install it, or look for its name with `systemctl list-unit-files`")]
    NotFound {
        /// Which.
        unit: String,
    },
    /// systemd cannot read the unit.
    #[error("{unit} cannot be loaded: {why}; correct it, then `systemctl daemon-reload`")]
    Unloadable {
        /// Which.
        unit: String,
        /// In systemd's words.
        why: String,
    },
    /// systemd tried and gave up.
    #[error("{unit} did not {doing}: {}; see `journalctl -u {unit}`", meaning(result))]
    Job {
        /// Which.
        unit: String,
        /// `start`, `stop`.
        doing: &'static str,
        /// The result of the job, as JobRemoved has it.
        result: String,
    },
    /// It was up and ended at once.
    #[error("{unit} was started and ended at once; see `journalctl -u {unit}` (a oneshot service needs RemainAfterExit=yes)")]
    EndedAtOnce {
        /// Which.
        unit: String,
    },
    /// It is still on its way.
    #[error("{unit} was not done with its {doing} after {limit:?}; see `systemctl status {unit}`")]
    TooSlow {
        /// Which.
        unit: String,
        /// `start`, `stop`.
        doing: &'static str,
        /// Its time.
        limit: Duration,
    },
    /// Not even KILL ended it.
    #[error("{unit} is still there {limit:?} after the order to stop, KILL included; stuck in the kernel (a hung disk or network mount?)")]
    Survived {
        /// Which.
        unit: String,
        /// Its time.
        limit: Duration,
    },
    /// We are not root, and polkit has no rule for us.
    #[error(
        "polkit does not let this daemon {doing} {unit}: put 50-drcm.rules of /etc/drcm/system_templates, with the name of cluster_user, into /etc/polkit-1/rules.d"
    )]
    Denied {
        /// Which.
        unit: String,
        /// `start`, `stop`.
        doing: &'static str,
    },
    /// systemd will not.
    #[error("systemd would not {doing} {unit}: {why}")]
    Refused {
        /// Which.
        unit: String,
        /// `start`, `stop`, `show`.
        doing: &'static str,
        /// In its words.
        why: String,
    },
    /// systemd could not be asked.
    #[error("systemd did not answer about {unit} within {limit:?}: {why}; see `systemctl status dbus`")]
    Unanswered {
        /// Which.
        unit: String,
        /// Our patience.
        limit: Duration,
        /// What was in the way.
        why: String,
    },
}

impl ServiceError {
    /// Whether it will fail the same way until an administrator changes the unit.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::Masked { .. } | Self::NotFound { .. } | Self::Unloadable { .. } => true,
            Self::Job { .. }
            | Self::EndedAtOnce { .. }
            | Self::TooSlow { .. }
            | Self::Survived { .. }
            | Self::Refused { .. }
            | Self::Denied { .. }
            | Self::Unanswered { .. } => false,
        }
    }
}

/// The results of jobs, in words.
fn meaning(result: &str) -> &str {
    match result {
        "canceled" => "the order was taken back, by another one or by hand",
        "timeout" => "it took longer than its unit file allows",
        "failed" => "it failed",
        "dependency" => "a unit that it needs failed",
        "skipped" => "a condition of its unit file does not hold here",
        "invalid" | "assert" => "an assertion of its unit file does not hold here",
        "unsupported" => "this kind of unit is not supported here",
        "collected" => "the unit was unloaded meanwhile",
        "once" => "it may be started only once",
        other => other,
    }
}
