//! What can go wrong between an operator and an answer, in sentences that say what, where and what to do next.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A command that could not do what it was asked.
#[derive(Debug, Error)]
pub enum CliError {
    /// A name that no node of the configuration has.
    #[error("unknown node \"{name}\" in {}: {}", file.display(), unknown_node_advice(nearest.as_deref(), known))]
    UnknownNode {
        /// As the operator wrote it.
        name: String,
        /// The configuration that was searched.
        file: PathBuf,
        /// The most similar name, when one is similar.
        nearest: Option<String>,
        /// All names, in file order.
        known: Vec<String>,
    },
    /// A word that is no command.
    #[error("unknown command \"{word}\": {}", unknown_command_advice(nearest.as_deref()))]
    UnknownCommand {
        /// As the operator wrote it.
        word: String,
        /// The most similar command, when one is similar.
        nearest: Option<String>,
    },
    /// A command with words it has no use for.
    #[error("{command} {fault}; usage: {usage}")]
    Usage {
        /// The command.
        command: String,
        /// What is wrong with what follows it.
        fault: String,
        /// How it is written.
        usage: String,
    },
    /// Standard output or input failed for a reason other than a reader that went away.
    #[error("cannot write the answer to standard output: {0}")]
    Output(#[from] io::Error),
}

fn unknown_node_advice(nearest: Option<&str>, known: &[String]) -> String {
    /// More names than this are not worth a line.
    const LISTED: usize = 12;
    match nearest {
        Some(nearest) => format!("did you mean \"{nearest}\"?"),
        None if known.len() <= LISTED => format!("it lists {} (a nodename, hostname, address or localhost will do)", known.join(", ")),
        None => format!("it lists {} nodes; give a nodename, hostname, address or localhost", known.len()),
    }
}

fn unknown_command_advice(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean \"{nearest}\"? \"help\" lists all commands"),
        None => "\"help\" lists all commands".to_owned(),
    }
}
