//! The commands of the client, as `--command` and the console write them.

use super::CliError;
use crate::config::nearest;

/// Most rounds of one ping.
pub const MAX_ROUNDS: u32 = 100_000;

/// A question to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `cm_stat`
    Status,
    /// `rstats`, of one node or all.
    Rstats {
        /// As the operator wrote it.
        node: Option<String>,
    },
    /// `ping`, of one node or all.
    Ping {
        /// As the operator wrote it.
        node: Option<String>,
        /// Rounds.
        count: u32,
    },
    /// `printcfg`
    PrintConfig,
}

/// What the console understands besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsoleCommand {
    /// Ask.
    Ask(Command),
    /// `help`
    Help,
    /// `exit`, `quit`
    Leave,
    /// An empty line.
    Nothing,
}

/// A command, how it is written, and what it does.
struct Usage {
    word: &'static str,
    usage: &'static str,
    does: &'static str,
}

const USAGES: [Usage; 7] = [
    Usage { word: "cm_stat", usage: "cm_stat", does: "report on the nodes and resources of the cluster" },
    Usage { word: "ping", usage: "ping [NODE] [-cCOUNT]", does: "ask one node, or all, whether it answers" },
    Usage { word: "rstats", usage: "rstats [NODE]", does: "raw lines of what runs on one node, or on all, for scripts" },
    Usage { word: "printcfg", usage: "printcfg", does: "the configuration as understood" },
    Usage { word: "help", usage: "help", does: "this list" },
    Usage { word: "exit", usage: "exit", does: "leave" },
    Usage { word: "quit", usage: "quit", does: "leave" },
];

/// What `help` prints.
#[must_use]
pub fn help() -> String {
    let width = USAGES.iter().map(|usage| usage.usage.len()).max().unwrap_or(0);
    let lines = USAGES.iter().map(|Usage { usage, does, .. }| format!("  {usage:width$}  {does}\n"));
    format!("{}NODE is a nodename, a hostname, an address or localhost.\n", lines.collect::<String>())
}

/// Reads a line of the console.
///
/// # Errors
/// An unknown command with the nearest one, or words that a command has no use for.
pub fn parse(line: &str) -> Result<ConsoleCommand, CliError> {
    parse_with(line, None, None)
}

/// Reads the value of `--command`, with the node and count of `-n` and `-c`.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(line: &str, node: Option<&str>, count: Option<u32>) -> Result<ConsoleCommand, CliError> {
    let mut words = line.split_whitespace();
    let Some(word) = words.next() else { return Ok(ConsoleCommand::Nothing) };
    let lower = word.to_lowercase();
    let Some(usage) = USAGES.iter().find(|usage| usage.word == lower) else {
        let nearest = nearest(word, USAGES.iter().map(|usage| usage.word)).map(str::to_owned);
        return Err(CliError::UnknownCommand { word: word.to_owned(), nearest });
    };
    let mut rest = Rest { usage, node: node.map(str::to_owned), count };
    rest.read(words)?;
    match usage.word {
        "cm_stat" => rest.nothing().map(|()| ConsoleCommand::Ask(Command::Status)),
        "printcfg" => rest.nothing().map(|()| ConsoleCommand::Ask(Command::PrintConfig)),
        "ping" => Ok(ConsoleCommand::Ask(Command::Ping { node: rest.node, count: rest.count.unwrap_or(1) })),
        "rstats" if rest.count.is_some() => Err(rest.fault("takes no count")),
        "rstats" => Ok(ConsoleCommand::Ask(Command::Rstats { node: rest.node })),
        "help" => Ok(ConsoleCommand::Help),
        _ => Ok(ConsoleCommand::Leave),
    }
}

/// What follows the word of a command.
struct Rest {
    usage: &'static Usage,
    node: Option<String>,
    count: Option<u32>,
}

impl Rest {
    fn read<'a>(&mut self, mut words: impl Iterator<Item = &'a str>) -> Result<(), CliError> {
        while let Some(word) = words.next() {
            let mut value = |joined: &'a str| if joined.is_empty() { words.next() } else { Some(joined) };
            if let Some(joined) = word.strip_prefix("-n") {
                let node = value(joined).ok_or_else(|| self.fault("has -n without a node"))?;
                self.node = Some(node.to_owned());
            } else if let Some(joined) = word.strip_prefix("-c") {
                let count = value(joined).and_then(|count| count.parse().ok()).filter(|count| (1..=MAX_ROUNDS).contains(count));
                self.count = Some(count.ok_or_else(|| self.fault(&format!("has -c without a number from 1 to {MAX_ROUNDS}")))?);
            } else if word.starts_with('-') {
                return Err(self.fault(&format!("has no option {word}")));
            } else if self.node.is_none() {
                self.node = Some(word.to_owned());
            } else {
                return Err(self.fault(&format!("has no use for \"{word}\"")));
            }
        }
        Ok(())
    }

    fn nothing(&self) -> Result<(), CliError> {
        match (&self.node, self.count) {
            (None, None) => Ok(()),
            (Some(node), _) => Err(self.fault(&format!("is about the whole cluster and has no use for \"{node}\""))),
            (None, Some(_)) => Err(self.fault("takes no count")),
        }
    }

    fn fault(&self, fault: &str) -> CliError {
        CliError::Usage { command: self.usage.word.to_owned(), fault: fault.to_owned(), usage: self.usage.usage.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(node: Option<&str>, count: u32) -> ConsoleCommand {
        ConsoleCommand::Ask(Command::Ping { node: node.map(str::to_owned), count })
    }

    #[test]
    fn nodes_and_counts_are_read_joined_and_apart() {
        for (line, wanted) in [
            ("ping", ping(None, 1)),
            ("  PING cmnode2 ", ping(Some("cmnode2"), 1)),
            ("ping -ncmnode2 -c3", ping(Some("cmnode2"), 3)),
            ("ping -c 3 -n cmnode2", ping(Some("cmnode2"), 3)),
            ("rstats localhost", ConsoleCommand::Ask(Command::Rstats { node: Some("localhost".into()) })),
            ("cm_stat", ConsoleCommand::Ask(Command::Status)),
            ("printcfg", ConsoleCommand::Ask(Command::PrintConfig)),
            ("help", ConsoleCommand::Help),
            ("quit", ConsoleCommand::Leave),
            ("exit", ConsoleCommand::Leave),
            ("", ConsoleCommand::Nothing),
        ] {
            assert_eq!(parse(line).expect(line), wanted, "{line}");
        }
    }

    #[test]
    fn faults_say_how_it_is_written() {
        for (line, wanted) in [
            ("cmstat", "unknown command \"cmstat\": did you mean \"cm_stat\"? \"help\" lists all commands"),
            ("cm_stat cmnode2", "cm_stat is about the whole cluster and has no use for \"cmnode2\"; usage: cm_stat"),
            ("ping -c0", "ping has -c without a number from 1 to 100000; usage: ping [NODE] [-cCOUNT]"),
            ("ping a b", "ping has no use for \"b\"; usage: ping [NODE] [-cCOUNT]"),
            ("ping -x", "ping has no option -x; usage: ping [NODE] [-cCOUNT]"),
            ("rstats -c2", "rstats takes no count; usage: rstats [NODE]"),
        ] {
            assert_eq!(parse(line).expect_err(line).to_string(), wanted);
        }
    }
}
