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
    /// 255
    UnknownNode,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Failed => 1,
            Self::Warnings => 2,
            Self::UnknownNode => 255,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
