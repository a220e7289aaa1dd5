//! Exit codes, as --help documents them.

use std::process::ExitCode;

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Good,
    /// 1: not done, or a node did not answer.
    Failed,
    /// 2: the configuration has warnings only, or a template was written.
    Warnings,
    /// 1: `status --check` says WARNING.
    MonitorWarning,
    /// 2: `status --check` says CRITICAL.
    MonitorCritical,
    /// 3: `status --check` says UNKNOWN.
    MonitorUnknown,
    /// 255
    UnknownNode,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Failed | Self::MonitorWarning => 1,
            Self::Warnings | Self::MonitorCritical => 2,
            Self::MonitorUnknown => 3,
            Self::UnknownNode => 255,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
