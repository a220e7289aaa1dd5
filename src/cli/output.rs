//! Text on its way to the operator: nothing from the network steers the terminal, and a reader that went away is no error.

use std::io::{self, ErrorKind, Write};

use super::CliError;

/// Writes to standard output.
///
/// # Errors
/// [`CliError::ReaderGone`] when nobody reads any more, [`CliError::Output`] when the write fails for another reason, a full disk
/// for instance.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CliError::ReaderGone,
        _ => CliError::Output(error),
    })
}

/// Writes a line to standard error; nobody can be told when that fails.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", text.trim_end());
}

/// The text on one line, control characters replaced, so that what another machine sent cannot steer a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.trim_end().chars().map(|character| if character.is_whitespace() { ' ' } else { character }).map(visible).collect()
}

fn visible(character: char) -> char {
    // Besides the control characters proper, those that reorder or hide text.
    match character {
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => '?',
        other if other.is_control() => '?',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\t\u{202e}d\n"), "a?[2Jb c ?d");
    }
}
