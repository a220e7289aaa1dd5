//! Colour for a terminal that wants it; never in a pipe, a file or a golden test.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal},
};

use clap::ValueEnum;

use crate::health::Status;

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR or TERM=dumb is set; elsewhere when CLICOLOR_FORCE is
    #[default]
    Auto,
    /// Whatever standard output is
    Always,
    /// Not at all
    Never,
}

/// What a word is to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Like all others.
    Plain,
    /// A heading.
    Strong,
    /// As it should be.
    Good,
    /// Deserves a look.
    Warning,
    /// Broken.
    Bad,
    /// Beside the point.
    Quiet,
}

impl Ink {
    /// That of the word for how a resource is.
    #[must_use]
    pub const fn of(status: Status) -> Self {
        match status {
            Status::Normal => Self::Good,
            Status::Backup | Status::Starting | Status::Stopping | Status::Unknown => Self::Warning,
            Status::Failed | Status::Missing => Self::Bad,
            Status::Inactive => Self::Quiet,
        }
    }
}

/// Whether words are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    on: bool,
}

impl Palette {
    /// No colour.
    pub const PLAIN: Self = Self { on: false };
    /// Colour.
    pub const COLOURED: Self = Self { on: true };

    /// What the operator and the surroundings ask for on standard output.
    #[must_use]
    pub fn of_stdout(when: When) -> Self {
        Self::choose(when, io::stdout().is_terminal(), |name| env::var_os(name))
    }

    fn choose(when: When, terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let on = match when {
            When::Always => true,
            When::Never => false,
            When::Auto if set("NO_COLOR") => false,
            When::Auto if variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") => true,
            When::Auto if variable("CLICOLOR").is_some_and(|value| value == "0") => false,
            When::Auto => terminal && variable("TERM").is_some_and(|term| term != "dumb"),
        };
        Self { on }
    }

    /// The text, coloured where that is wanted.
    #[must_use]
    pub fn paint(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Plain => "",
            Ink::Strong => "1",
            Ink::Good => "32",
            Ink::Warning => "33",
            Ink::Bad => "1;31",
            Ink::Quiet => "2",
        };
        if self.on && !code.is_empty() && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_environment_and_that_before_the_terminal() {
        let choose = |when, terminal, set: &[(&str, &str)]| {
            let variable = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
            Palette::choose(when, terminal, variable).on
        };
        let xterm = ("TERM", "xterm");
        assert!(choose(When::Auto, true, &[xterm]));
        assert!(!choose(When::Auto, false, &[xterm]));
        assert!(!choose(When::Auto, true, &[("TERM", "dumb")]));
        assert!(!choose(When::Auto, true, &[]));
        assert!(!choose(When::Auto, true, &[xterm, ("NO_COLOR", "1")]));
        assert!(choose(When::Auto, true, &[xterm, ("NO_COLOR", "")]));
        assert!(choose(When::Auto, false, &[("CLICOLOR_FORCE", "1")]));
        assert!(!choose(When::Auto, false, &[("CLICOLOR_FORCE", "0")]));
        assert!(!choose(When::Auto, true, &[xterm, ("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
        assert!(!choose(When::Auto, true, &[xterm, ("CLICOLOR", "0")]));
        assert!(choose(When::Always, false, &[("NO_COLOR", "1")]));
        assert!(!choose(When::Never, true, &[xterm, ("CLICOLOR_FORCE", "1")]));
    }

    #[test]
    fn words_are_coloured_whole() {
        assert_eq!(Palette::COLOURED.paint(Ink::Good, "Up"), "\u{1b}[32mUp\u{1b}[0m");
        assert_eq!(Palette::PLAIN.paint(Ink::Bad, "Down"), "Down");
    }
}
