//! What can go wrong between an operator and an answer, in sentences that say what, where and what to do next.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::{Exit, output::printable};
use crate::{
    config::{ConvertError, Finding, Report},
    daemon::DaemonError,
    forecast::ForecastError,
    lab::LabError,
};

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
    /// A name that no group and no resource of the configuration has.
    #[error("unknown group or resource \"{name}\" in {}: {}", file.display(), unknown_group_advice(nearest.as_deref(), known))]
    UnknownGroup {
        /// As the operator wrote it.
        name: String,
        /// The configuration that was searched.
        file: PathBuf,
        /// The most similar name, when one is similar.
        nearest: Option<String>,
        /// The titles of all groups with several candidates.
        known: Vec<String>,
    },
    /// A nickname in several groups.
    #[error("\"{name}\" is in several groups: say which, {}", titles.join(" or "))]
    AmbiguousGroup {
        /// As the operator wrote it.
        name: String,
        /// The groups.
        titles: Vec<String>,
    },
    /// A command that the daemon did not take.
    #[error("{}", printable(why))]
    NotDone {
        /// Why.
        why: String,
    },
    /// A word that is no command.
    #[error("unknown command \"{word}\": {}", unknown_command_advice(nearest.as_deref()))]
    UnknownCommand {
        /// As the operator wrote it.
        word: String,
        /// The most similar command, when one is similar.
        nearest: Option<String>,
    },
    /// `--command=` with nothing behind it.
    #[error("--command= names no command: it takes cm_stat, rstats, ping or printcfg; --client alone opens a console")]
    NoCommand,
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
    /// The configuration cannot be used.
    #[error("{0}")]
    Configuration(Box<Report>),
    /// `--nodename` names no node.
    #[error("{0}")]
    ThisNode(Box<Finding>),
    /// There is no daemon for the demonstration.
    #[error("no drcm_server was found in {}: build it, or name it with --server=FILE", looked.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" or "))]
    NoServer {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// A configuration that cannot be converted.
    #[error("{0}")]
    NotConverted(Box<ConvertError>),
    /// A new file cannot be written.
    #[error("cannot write {}: {source}", file.display())]
    NotWritten {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// `drcm watch` without a terminal.
    #[error("watch needs a terminal, for input and for output (over ssh: ssh -t); `drcm status` does not")]
    NoTerminal,
    /// The terminal failed.
    #[error("the terminal failed: {0}")]
    Terminal(io::Error),
    /// Nothing can be foretold.
    #[error("{0}")]
    NotForetold(Box<ForecastError>),
    /// The demonstration could not be given.
    #[error("{0}")]
    Demo(Box<LabError>),
    /// The daemon did not start, or ended badly.
    #[error("{0}")]
    Daemon(Box<DaemonError>),
    /// The client's own machinery.
    #[error("cannot begin to ask: {0}")]
    Runtime(io::Error),
    /// Standard input failed.
    #[error("cannot read commands from standard input: {0}")]
    Input(io::Error),
    /// The reader of standard output went away (`| head`): it has had enough, and so have we.
    #[error("nobody reads the answer any more")]
    ReaderGone,
    /// Standard output failed otherwise.
    #[error("cannot write the answer to standard output: {0}")]
    Output(io::Error),
}

impl CliError {
    /// A configuration that cannot be used; only its errors are kept.
    #[must_use]
    pub fn configuration(report: &Report) -> Self {
        Self::Configuration(Box::new(Report { findings: report.errors().cloned().collect() }))
    }

    /// The exit code it means.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::UnknownNode { .. } => Exit::UnknownNode,
            Self::ReaderGone => Exit::Good,
            Self::UnknownGroup { .. }
            | Self::AmbiguousGroup { .. }
            | Self::NotDone { .. }
            | Self::UnknownCommand { .. }
            | Self::NoCommand
            | Self::Usage { .. }
            | Self::Configuration(_)
            | Self::ThisNode(_)
            | Self::NoServer { .. }
            | Self::NotConverted(_)
            | Self::NotWritten { .. }
            | Self::NotForetold(_)
            | Self::NoTerminal
            | Self::Terminal(_)
            | Self::Demo(_)
            | Self::Daemon(_)
            | Self::Runtime(_)
            | Self::Input(_)
            | Self::Output(_) => Exit::Failed,
        }
    }
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

fn unknown_group_advice(nearest: Option<&str>, known: &[String]) -> String {
    /// More names than these are not worth a line.
    const LISTED: usize = 12;
    match nearest {
        Some(nearest) => format!("did you mean \"{nearest}\"?"),
        None if known.is_empty() => "it has no group with several candidates".to_owned(),
        None if known.len() <= LISTED => format!("it has {} (the nickname of a resource in it will do)", known.join(", ")),
        None => format!("it has {} groups with several candidates; give the nickname of a resource in one", known.len()),
    }
}

fn unknown_command_advice(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean \"{nearest}\"? \"help\" lists all commands"),
        None => "\"help\" lists all commands".to_owned(),
    }
}
