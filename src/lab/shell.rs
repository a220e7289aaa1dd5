//! Machines of which one asks more than their daemon: whole systems, in containers or emulated, that run shell text.

/// What shell text said.
#[derive(Clone, Debug)]
pub struct Spoken {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output and error.
    pub text: String,
}

/// A machine that runs shell text. All but [`Shell::try_run`] and [`Shell::holds`] are assertions of a test: they panic, and
/// say where the test stands.
pub trait Shell {
    /// What a message calls it.
    fn name(&self) -> &str;

    /// Runs shell text, to its end; none when the machine does not answer.
    #[track_caller]
    fn try_run(&self, text: &str) -> Option<Spoken>;

    /// Runs shell text, to its end.
    ///
    /// # Panics
    /// When the machine does not answer.
    #[track_caller]
    fn run(&self, text: &str) -> Spoken {
        self.try_run(text).unwrap_or_else(|| panic!("`{text}` cannot be run on {}: it does not answer", self.name()))
    }

    /// Runs shell text that must succeed, and gives what it said.
    ///
    /// # Panics
    /// When the machine does not answer, or the text fails.
    #[track_caller]
    fn must(&self, text: &str) -> String {
        let said = self.run(text);
        assert_eq!(said.code, Some(0), "`{text}` failed on {}: {}", self.name(), said.text);
        said.text
    }

    /// Whether shell text succeeds; a machine that does not answer does nothing successfully.
    fn holds(&self, text: &str) -> bool {
        self.try_run(text).is_some_and(|said| said.code == Some(0))
    }
}
