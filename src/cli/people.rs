//! The subcommands of `drcm`.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

use super::{
    apply::Change,
    arguments::LogArguments,
    client::Form,
    command::MAX_ROUNDS,
    convert::Conversion,
    events::Selection,
    operate::{ConfirmVoters, Operation},
    paint::{Palette, When},
    what_if::Case,
};

const AFTER_HELP: &str = "\
Examples:
  drcm status                      what runs where, and is it well
  drcm watch                       the same, live
  drcm events --since 2h           what happened, and how long each step took
  drcm explain web                 why it runs there, why not elsewhere, what it waits for
  drcm what-if node cmnode1        who would take over what if that node died
  drcm check ./cm.cfg              what is wrong with a configuration, before it is installed
  drcm --config-file=F printcfg    what that configuration means
  drcm move web cmnode2 --for 2h   run it there, and bring it home afterwards

Exit codes:
  check           0 good, 1 errors, 2 warnings only or a template was written
  status, rstats  0 when a report could be had, however bad the news; 1 when no node answered
  status --check  0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
  ping            0 when every node answered every time, else 1
  NODE            255 when the configuration has no such node
  otherwise       0 done, 1 not done; the reason is on standard error";

/// A high-availability cluster: ask it, check its configuration, run a node of it.
#[derive(Clone, Debug, Parser)]
#[command(name = "drcm", version, disable_help_flag = true, disable_version_flag = true, after_help = AFTER_HELP, max_term_width = 120)]
#[command(arg_required_else_help = true, disable_help_subcommand = false)]
pub struct PeopleArguments {
    /// Configuration: cm.cfg, or TOML when the name ends in .toml [default: /etc/drcm/cm.cfg, else /etc/drcm/cm.toml]
    #[arg(long, short = 'f', value_name = "FILE", global = true)]
    pub config_file: Option<PathBuf>,
    /// Be this node, instead of the one whose hostname is this machine's
    #[arg(long, value_name = "NAME", global = true)]
    pub nodename: Option<String>,
    /// When to answer in colour
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto, global = true)]
    pub color: When,
    /// What to do
    #[command(subcommand)]
    pub task: Task,
    /// Print help
    #[arg(long, short = 'h', visible_short_alias = '?', action = ArgAction::HelpShort, global = true)]
    help: Option<bool>,
    /// Print the version
    #[arg(long, short = 'V', action = ArgAction::Version)]
    version: Option<bool>,
}

/// What `drcm` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Task {
    /// Report on the nodes and resources of the cluster
    #[command(visible_alias = "cm_stat")]
    #[command(after_help = "\
Examples:
  drcm status                  what runs where, and is it well
  drcm status --check          one line and 0, 1, 2 or 3, for a monitor
  drcm status --json           for a program
  drcm status --color=always   through a pager: | less -R")]
    Status {
        /// The form of the answer.
        #[command(flatten)]
        form: JsonArgument,
        /// One line and an exit code, as a monitoring plugin answers
        #[arg(long, conflicts_with = "json")]
        check: bool,
    },
    /// Raw lines of what runs on one node, or on all, for scripts
    #[command(after_help = "\
Examples:
  drcm rstats                  all nodes, framed by lines with their names
  drcm rstats node1            one of them")]
    Rstats {
        /// Nodename, hostname, address or localhost; all nodes when left out
        node: Option<String>,
        /// The form of the answer.
        #[command(flatten)]
        form: JsonArgument,
    },
    /// Ask one node, or all, whether it answers
    #[command(after_help = "\
Examples:
  drcm ping                    all nodes
  drcm ping node2 -c 3         one of them, three times")]
    Ping {
        /// Nodename, hostname, address or localhost; all nodes when left out
        node: Option<String>,
        /// Times to ask, a second apart
        #[arg(long, short = 'c', value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROUNDS)))]
        count: u32,
        /// The form of the answer.
        #[command(flatten)]
        form: JsonArgument,
    },
    /// The configuration as understood
    #[command(after_help = "\
Examples:
  drcm printcfg                every default filled in; read back it means the same
  drcm -f ./cm.cfg printcfg    of another file")]
    Printcfg {
        /// The form of the answer.
        #[command(flatten)]
        form: JsonArgument,
    },
    /// Why a resource runs where it runs, why not elsewhere, and what it waits for
    #[command(after_help = "\
Examples:
  drcm explain service         by nickname
  drcm explain ip:web          where several kinds have it
  drcm explain node1:web       where several nodes have it")]
    Explain {
        /// Nickname, kind:nickname, home:nickname, or a group as cm_stat names it
        resource: String,
    },
    /// What happened lately on every node: failovers and how long each step took, failures, orders
    #[command(after_help = "\
Examples:
  drcm events                       the last hundred
  drcm events --since 2h            of the last two hours
  drcm events --group service       how a group moved, and when
  drcm events --severity warning    without the normal course of things
  drcm events --follow              and what happens from now on
  drcm events --follow --json       a line of JSON for each, for a program")]
    Events(Selection),
    /// The cluster live on this terminal, with keys to move, stand by and explain
    #[command(after_help = "\
Examples:
  drcm watch                   ? lists the keys, q leaves
  ssh -t node1 drcm watch      from elsewhere")]
    Watch,
    /// What would happen: by the nodes' own decision, run ahead in memory; nothing is touched
    #[command(subcommand)]
    #[command(after_help = "\
Examples:
  drcm what-if node node1            who takes over what, after how long
  drcm what-if config ./cm.cfg       what differs, and what would run elsewhere")]
    WhatIf(Case),
    /// What changes something.
    #[command(flatten)]
    Operate(Operation),
    /// An operator answers for it that nobody counts other voters than those of this node's file
    #[command(after_help = "\
Examples:
  drcm confirm-voters          what has to be made sure of before
  drcm confirm-voters --yes    it is so")]
    ConfirmVoters(ConfirmVoters),
    /// Read the configuration of this node again; what has not changed in it runs on untouched
    #[command(after_help = "\
Examples:
  drcm reload                  on each node, once all have the new file")]
    Reload,
    /// Could every node run what it may have to take over: scripts, units, users, interfaces, sources of mounts
    #[command(after_help = "\
Examples:
  drcm drill                   every node looks around; nothing is started or stopped
  drcm drill node2             what that node says only")]
    Drill {
        /// Nodename, hostname, address or localhost
        node: Option<String>,
    },
    /// Another configuration for all nodes: each says whether it would do, then all switch together, or none
    #[command(after_help = "\
Examples:
  drcm apply /root/cm.cfg --check            what would come of it, on every node
  drcm apply /root/cm.cfg                    do it; what has not changed runs on untouched
  drcm apply /root/cm.cfg --without node3    although node3 is down")]
    Apply(Change),
    /// Find what is wrong with a configuration; write a commented template when it is missing
    #[command(after_help = "\
Examples:
  drcm check                   the one in force
  drcm check ./cm.cfg          another, before it is installed")]
    Check {
        /// The file, instead of --config-file
        file: Option<PathBuf>,
    },
    /// Write a configuration in the other format, cm.cfg or cm.toml, or one made of the files of keepalived
    #[command(after_help = "\
Examples:
  drcm convert /etc/drcm/cm.cfg                   on standard output
  drcm convert /etc/drcm/cm.cfg -o /etc/drcm/cm.toml
  drcm convert cm.toml --to toml                  the same format, tidied up
  drcm convert --from keepalived node1.conf node2.conf
  drcm convert --from keepalived --node node1=10.0.0.1 --node node2=10.0.0.2 keepalived.conf")]
    Convert(Conversion),
    /// Commands one after another
    #[command(after_help = "\
Examples:
  drcm console
  echo cm_stat | drcm console")]
    Console,
    /// Run the node that this machine is, in the foreground
    #[command(after_help = "\
Examples:
  drcm run                     as systemd does
  drcm run --verbose-level 3   and say what happens")]
    Run {
        /// The log settings.
        #[command(flatten)]
        log: LogArguments,
    },
    /// Watch three nodes on this machine take over from each other (root, or user namespaces; a minute)
    #[command(after_help = "\
Examples:
  drcm demo
  drcm demo --server ./target/release/drcm_server")]
    Demo {
        /// The drcm_server to run, instead of the one beside this program
        #[arg(long, value_name = "FILE")]
        server: Option<PathBuf>,
    },
}

/// For commands that answer programs, too.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct JsonArgument {
    /// Answer in JSON (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

impl JsonArgument {
    /// The form that is wanted.
    #[must_use]
    pub const fn form(self, palette: Palette) -> Form {
        if self.json { Form::Json } else { Form::Text(palette) }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_subcommands_are_consistent() {
        PeopleArguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_that_can_be_typed() {
        fn look(command: &clap::Command, seen: &mut usize) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{}", command.get_name());
            for line in help.lines().skip(1).take_while(|line| line.starts_with("  ")) {
                let typed = line.trim_start().split("   ").next().expect("a line");
                let typed = typed.split("  ").next().expect("a line");
                let Some(at) = typed.find("drcm ") else { panic!("{line}") };
                let parsed = PeopleArguments::try_parse_from(typed[at..].split_whitespace());
                assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|error| error.to_string()).unwrap_or_default());
                *seen += 1;
            }
            command.get_subcommands().for_each(|inner| look(inner, seen));
        }
        let mut seen = 0;
        look(&PeopleArguments::command(), &mut seen);
        assert!(seen > 30, "{seen}");
    }

    #[test]
    fn a_slip_is_answered_with_the_nearest_subcommand() {
        let error = PeopleArguments::try_parse_from(["drcm", "statsu"]).expect_err("no such subcommand").to_string();
        assert!(error.contains("'status'"), "{error}");
    }
}
