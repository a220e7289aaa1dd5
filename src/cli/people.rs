//! The subcommands of `drcm`.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

use super::{
    arguments::LogArguments,
    command::MAX_ROUNDS,
    operate::{ConfirmVoters, Operation},
};

const AFTER_HELP: &str = "\
Examples:
  drcm status                      what runs where, and is it well
  drcm ping cmnode2                does that node answer
  drcm check ./cm.cfg              what is wrong with a configuration, before it is installed
  drcm --config-file=F printcfg    what that configuration means
  drcm move web cmnode2 --for 2h   run it there, and bring it home afterwards

Exit codes:
  check           0 good, 1 errors, 2 warnings only or a template was written
  status, rstats  0 when a report could be had, however bad the news; 1 when no node answered
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
    Status,
    /// Raw lines of what runs on one node, or on all, for scripts
    Rstats {
        /// Nodename, hostname, address or localhost; all nodes when left out
        node: Option<String>,
    },
    /// Ask one node, or all, whether it answers
    Ping {
        /// Nodename, hostname, address or localhost; all nodes when left out
        node: Option<String>,
        /// Times to ask, a second apart
        #[arg(long, short = 'c', value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROUNDS)))]
        count: u32,
    },
    /// The configuration as understood
    Printcfg,
    /// What changes something.
    #[command(flatten)]
    Operate(Operation),
    /// An operator answers for it that nobody counts other voters than those of this node's file
    ConfirmVoters(ConfirmVoters),
    /// Find what is wrong with a configuration; write a commented template when it is missing
    Check {
        /// The file, instead of --config-file
        file: Option<PathBuf>,
    },
    /// Commands one after another
    Console,
    /// Run the node that this machine is, in the foreground
    Run {
        /// The log settings.
        #[command(flatten)]
        log: LogArguments,
    },
    /// Watch three nodes on this machine take over from each other (root, or user namespaces; a minute)
    Demo {
        /// The drcm_server to run, instead of the one beside this program
        #[arg(long, value_name = "FILE")]
        server: Option<PathBuf>,
    },
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
    fn a_slip_is_answered_with_the_nearest_subcommand() {
        let error = PeopleArguments::try_parse_from(["drcm", "statsu"]).expect_err("no such subcommand").to_string();
        assert!(error.contains("'status'"), "{error}");
    }
}
