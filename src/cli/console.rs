//! The `DRCM> ` console: a line, a command, its answer, until `exit`, `quit` or the end of the input.

use std::io::{self, BufRead, IsTerminal, Read};

use super::{
    CliError, Exit,
    client::{Client, Form},
    command::{self, ConsoleCommand},
    output::{complain, print},
    paint::Palette,
};

const PROMPT: &str = "DRCM> ";
/// Longest line, in bytes.
const MAX_LINE: u64 = 4096;

/// Reads commands from standard input. A person leaves with exit 0; a script gets the exit of its last command.
///
/// # Errors
/// Standard input or output fails.
pub fn run(client: &Client, palette: Palette) -> Result<Exit, CliError> {
    let stdin = io::stdin();
    let by_hand = stdin.is_terminal();
    let mut input = stdin.lock();
    let mut last = Exit::Good;
    if by_hand {
        print("Type help for the commands, exit to leave.\n")?;
    }
    loop {
        print(PROMPT)?;
        let line = match read_line(&mut input).map_err(CliError::Input)? {
            Line::End => {
                print("\n")?;
                break;
            }
            Line::TooLong => {
                complain(&format!("the line is longer than {MAX_LINE} bytes and was not read as a command; \"help\" lists all commands"));
                last = Exit::Failed;
                continue;
            }
            Line::Text(line) => line,
        };
        let done = command::parse(&line).and_then(|command| match command {
            ConsoleCommand::Ask(command) => client.run(&command, Form::Text(palette)).map(Some),
            ConsoleCommand::Help => print(&command::help()).map(|()| Some(Exit::Good)),
            ConsoleCommand::Nothing => Ok(Some(last)),
            ConsoleCommand::Leave => Ok(None),
        });
        match done {
            Ok(Some(exit)) => last = exit,
            Ok(None) => break,
            Err(error @ (CliError::Output(_) | CliError::ReaderGone)) => return Err(error),
            Err(error) => {
                complain(&error.to_string());
                last = error.exit();
            }
        }
    }
    Ok(if by_hand { Exit::Good } else { last })
}

enum Line {
    Text(String),
    TooLong,
    End,
}

fn read_line(input: &mut impl BufRead) -> io::Result<Line> {
    let mut bytes = Vec::new();
    input.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(Line::End);
    }
    if bytes.len() as u64 == MAX_LINE && bytes.last() != Some(&b'\n') {
        input.skip_until(b'\n')?;
        return Ok(Line::TooLong);
    }
    Ok(Line::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_is_passed_over() {
        let mut input = [b"x".repeat(10_000).as_slice(), b"\nping\nlast"].concat();
        let mut reader = io::Cursor::new(&mut input);
        assert!(matches!(read_line(&mut reader), Ok(Line::TooLong)));
        assert!(matches!(read_line(&mut reader), Ok(Line::Text(line)) if line == "ping\n"));
        assert!(matches!(read_line(&mut reader), Ok(Line::Text(line)) if line == "last"));
        assert!(matches!(read_line(&mut reader), Ok(Line::End)));
    }
}
