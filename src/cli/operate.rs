//! Commands that change something: said to the daemon of this machine, which tells the other nodes.

use std::{fmt::Write, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use super::{
    CliError, Exit,
    client::Client,
    output::{print, printable},
    paint::{Ink, Palette},
    select,
};
use crate::{
    control::blocking,
    model::{self, ClusterReport, Config, Request, Response, Subject, Wish, WishReport, in_words},
};

/// Longest wait: an answer means that the command is on disk, which may be slow.
const PATIENCE: Duration = Duration::from_secs(6);

/// A command as an operator writes it.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Operation {
    /// A node runs nothing from now on: what it has goes to others, or stops where there is none; it still votes
    #[command(after_help = "\
Examples:
  drcm standby node3        before work on that machine
  drcm online node3         when it is done")]
    Standby {
        /// Nodename, hostname, address or localhost
        node: String,
    },
    /// A node in standby takes part again
    #[command(after_help = "\
Examples:
  drcm online node3")]
    Online {
        /// Nodename, hostname, address or localhost
        node: String,
    },
    /// Hands off: nothing is started, stopped, moved or repaired by the cluster until it is off again
    #[command(after_help = "\
Examples:
  drcm maintenance on       before work on the services themselves
  drcm maintenance off")]
    Maintenance {
        /// on or off
        state: Switch,
    },
    /// A group runs on a node and belongs there, until unmove or for some time
    #[command(after_help = "\
Examples:
  drcm move service node2            until unmove
  drcm move service node2 --for 2h   and home again afterwards
  drcm move node1:web+db node2       where several groups have a resource of that name")]
    Move {
        /// The group as cm_stat or printcfg names it, or the nickname of a resource in it
        group: String,
        /// Nodename, hostname, address or localhost
        node: String,
        /// For this long only: 30m, 2h, 1d12h
        #[arg(long = "for", value_name = "SPAN", value_parser = span)]
        span: Option<Duration>,
    },
    /// A moved group belongs at home again
    #[command(after_help = "\
Examples:
  drcm unmove service")]
    Unmove {
        /// The group, or the nickname of a resource in it
        group: String,
    },
    /// A group goes home once (where failback = manual keeps it from doing so by itself)
    #[command(after_help = "\
Examples:
  drcm failback service")]
    Failback {
        /// The group, or the nickname of a resource in it
        group: String,
    },
    /// What failed to start may be tried again: one group or all, on one node or wherever it failed
    #[command(after_help = "\
Examples:
  drcm cleanup                everything, everywhere
  drcm cleanup service        one group, wherever it failed
  drcm cleanup service node1  one group on one node
  drcm cleanup node1          everything on one node")]
    Cleanup {
        /// The group, or the nickname of a resource in it; or, alone, a node
        group: Option<String>,
        /// Nodename, hostname, address or localhost
        node: Option<String>,
    },
}

/// A statement that only an operator can answer for.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ConfirmVoters {
    /// I have made sure of it
    #[arg(long)]
    yes: bool,
}

/// Tells the daemon of this machine that nobody counts other voters.
///
/// # Errors
/// When it was not meant so, or no daemon answers.
pub fn confirm_voters(client: &Client, statement: &ConfirmVoters) -> Result<Exit, CliError> {
    if !statement.yes {
        return Err(CliError::NotDone {
            why: format!(
                "this tells the node that nobody counts other voters than those of its file ({}). Make sure that every other node is off, \
                 or has been started with this file: one that runs with another file could own the same resources. Then say \
                 `drcm confirm-voters --yes`, on each node whose cm_stat asks for it",
                client.config().voters().map(|node| client.config().name(node)).collect::<Vec<_>>().join(", ")
            ),
        });
    }
    ask(client, &Request::ConfirmVoters)
}

/// Lets the daemon read its configuration again.
///
/// # Errors
/// When the configuration cannot be used, or no daemon answers.
pub fn reload(client: &Client) -> Result<Exit, CliError> {
    ask(client, &Request::Reload)
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// From now on.
    On,
    /// No longer.
    Off,
}

/// Gives the command and prints what the daemon says will come of it.
///
/// # Errors
/// A name that the configuration does not have, a daemon that does not answer, or its refusal.
pub fn run(client: &Client, operation: &Operation) -> Result<Exit, CliError> {
    ask(client, &Request::Command(understand(client, operation)?))
}

fn ask(client: &Client, request: &Request) -> Result<Exit, CliError> {
    let lines: String = give(client, request)?.iter().map(|sentence| printable(sentence) + "\n").collect();
    print(&lines).map(|()| Exit::Good)
}

/// Gives an order to the daemon of this machine: what it says will come of it.
///
/// # Errors
/// A daemon that does not answer, or its refusal.
pub(super) fn give(client: &Client, request: &Request) -> Result<Vec<String>, CliError> {
    match blocking::ask_local(&client.config().server.run_dir, request, PATIENCE) {
        Ok(Response::Accepted(sentences)) => Ok(sentences),
        Ok(Response::Refused(why)) => Err(CliError::NotDone { why }),
        Ok(
            Response::Pong
            | Response::Node(_)
            | Response::Cluster(_)
            | Response::Pings(_)
            | Response::Events(_)
            | Response::Drill(_)
            | Response::DrillAll(_),
        ) => Err(CliError::NotDone {
            why: "the daemon answered another question: run the drcm and drcm_server of the same version".to_owned(),
        }),
        Err(error) => Err(CliError::NotDone {
            why: format!(
                "{error}; a command is taken by the daemon of this machine, so give it on a node where one runs: it tells the others"
            ),
        }),
    }
}

/// Names to identities.
fn understand(client: &Client, operation: &Operation) -> Result<model::Command, CliError> {
    let node = |wanted: &str| client.node(wanted).map(|node| node.id);
    let group = |wanted: &str| select::group(client.config(), client.file(), wanted).map(|group| group.id);
    Ok(match operation {
        Operation::Standby { node: wanted } => model::Command::Standby { node: node(wanted)?, on: true },
        Operation::Online { node: wanted } => model::Command::Standby { node: node(wanted)?, on: false },
        Operation::Maintenance { state } => model::Command::Maintenance { on: *state == Switch::On },
        Operation::Move { group: wanted, node: to, span } => {
            model::Command::Move { group: group(wanted)?, to: node(to)?, for_seconds: span.map(|span| span.as_secs()) }
        }
        Operation::Unmove { group: wanted } => model::Command::Unmove { group: group(wanted)? },
        Operation::Failback { group: wanted } => model::Command::Failback { group: group(wanted)? },
        Operation::Cleanup { group: Some(only), node: None } => match (group(only), node(only)) {
            (Ok(id), _) => model::Command::Cleanup { group: Some(id), node: None },
            (Err(_), Ok(id)) => model::Command::Cleanup { group: None, node: Some(id) },
            (Err(error), Err(_)) => return Err(error),
        },
        Operation::Cleanup { group: wanted, node: at } => {
            model::Command::Cleanup { group: wanted.as_deref().map(group).transpose()?, node: at.as_deref().map(node).transpose()? }
        }
    })
}

/// Reads `2h`, `90m`, `1d12h`, `45s`.
///
/// # Errors
/// What is wrong with it.
pub fn span(text: &str) -> Result<Duration, String> {
    let fault = || format!("\"{text}\" is no span of time: write it like 30m, 2h, 1d12h or 90s");
    let mut seconds = 0_u64;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let each = match unit {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(fault()),
        };
        let number: u64 = number.parse().map_err(|_| fault())?;
        seconds = number.checked_mul(each).and_then(|more| seconds.checked_add(more)).ok_or_else(fault)?;
        rest = after.trim_start();
    }
    if seconds == 0 { Err(fault()) } else { Ok(Duration::from_secs(seconds)) }
}

/// The part of cm_stat that shows what operators want; nothing when they want nothing.
#[must_use]
pub fn section(config: &Config, report: &ClusterReport, palette: Palette) -> String {
    let asked = report.members.iter().find(|member| member.node == report.asked).and_then(|member| member.report.as_ref());
    let wishes: &[WishReport] = asked.map(|own| own.wishes.as_slice()).unwrap_or_default();
    let mut text = String::new();
    for wish in wishes {
        let Some((label, what)) = describe(config, wish) else { continue };
        if text.is_empty() {
            text = format!("\n{}\n", palette.paint(Ink::Strong, "Operator"));
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {label:<11} {}", printable(&format!("{what}{}", circumstances(config, wish))));
    }
    text
}

/// A wish in one sentence; nothing when it is none that lasts.
#[must_use]
pub fn sentence(config: &Config, wish: &WishReport) -> Option<String> {
    describe(config, wish).map(|(label, what)| format!("{label}: {what}{}", circumstances(config, wish)))
}

fn circumstances(config: &Config, wish: &WishReport) -> String {
    let left = wish.seconds_left.map_or_else(String::new, |seconds| format!(", for another {}", in_words(seconds)));
    format!("{left} (said on {})", config.name(wish.author))
}

fn describe(config: &Config, wish: &WishReport) -> Option<(&'static str, String)> {
    let title = |id| config.title(id);
    Some(match (wish.subject, wish.wish) {
        (Subject::Maintenance, Wish::On) => {
            ("maintenance", "nothing is started, stopped, moved or repaired until `drcm maintenance off`".to_owned())
        }
        (Subject::Standby(node), Wish::On) => {
            let name = config.name(node);
            ("standby", format!("{name} runs nothing until `drcm online {name}`"))
        }
        (Subject::Place(group), Wish::Prefer(node)) => ("move", format!("{} belongs on {}", title(group), config.name(node))),
        (Subject::Place(group), Wish::Home) => ("failback", format!("{} goes home when it can", title(group))),
        (Subject::Maintenance | Subject::Standby(_) | Subject::Place(_) | Subject::Cleanup(..), _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, seconds) in [("2h", 7200), ("90m", 5400), ("90min", 5400), ("1d12h", 129_600), ("1h 30m", 5400), ("45s", 45)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0h", "2", "h", "2x", "-1h", "99999999999999999999h", "9999999999999999d", "2h3"] {
            let fault = span(text).expect_err(text);
            assert!(fault.contains("30m, 2h"), "{fault}");
        }
    }
}
