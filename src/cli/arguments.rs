//! The documented flags of `drcm_server`.

use std::path::{Path, PathBuf};

use clap::{ArgAction, Parser};

use super::{command::MAX_ROUNDS, paint::When};
use crate::{daemon::logs::Overrides, model::LogSettings};

/// The default configuration, and the one that is read when it is missing and this one is not.
const DEFAULT_CONFIG: &str = "/etc/drcm/cm.cfg";
const DEFAULT_TOML: &str = "/etc/drcm/cm.toml";

const AFTER_HELP: &str = "\
Examples:
  drcm_server --check-config                               check /etc/drcm/cm.cfg; write a template when it is missing
  drcm_server                                              run this node, in the foreground (as systemd does)
  drcm_server --client --command=cm_stat                   report on the cluster
  drcm_server --client --command=ping -ncmnode2 -c3        ask one node three times
  drcm_server --client --command=cm_stat --json            the same report for a program
  drcm_server --client                                     console

Exit codes:
  --check-config   0 good, 1 errors, 2 warnings only or a template was written
  cm_stat, rstats  0 when a report could be had, however bad the news; 1 when no node answered
  ping             0 when every node answered every time, else 1
  -n               255 when the configuration has no such node
  otherwise        0 done, 1 not done; the reason is on standard error

rstats prints start times in seconds since 1970. Members of cluster_group need no auth files to ask the local daemon.
The tool drcm has the same functions as subcommands: drcm --help";

/// Run a node of a high-availability cluster, check its configuration, or ask the cluster. Without --client and
/// --check-config it runs the node that this machine is.
#[derive(Clone, Debug, Parser)]
#[command(name = "drcm_server", version, disable_help_flag = true, disable_version_flag = true, after_help = AFTER_HELP, max_term_width = 120)]
pub struct ServerArguments {
    /// Configuration: cm.cfg, or TOML when the name ends in .toml [default: /etc/drcm/cm.cfg, else /etc/drcm/cm.toml]
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Be this node, instead of the one whose hostname is this machine's
    #[arg(long, value_name = "NAME")]
    pub nodename: Option<String>,
    /// Check the configuration and exit; write a commented template when it is missing
    #[arg(long, conflicts_with_all = ["client", "command"])]
    pub check_config: bool,
    /// Ask the cluster: one command with --command, else a console
    #[arg(long)]
    pub client: bool,
    /// cm_stat, rstats, ping or printcfg; implies --client
    #[arg(long, value_name = "COMMAND")]
    pub command: Option<String>,
    /// Node that ping or rstats is about: nodename, hostname, address or localhost
    #[arg(short = 'n', value_name = "NODE", requires = "command")]
    pub node: Option<String>,
    /// Times that ping asks
    #[arg(short = 'c', value_name = "COUNT", requires = "command", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROUNDS)))]
    pub count: Option<u32>,
    /// When to answer --command in colour
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto)]
    pub color: When,
    /// Answer --command in JSON (docs/json.md)
    #[arg(long, requires = "command", conflicts_with = "check_config")]
    pub json: bool,
    /// The log settings.
    #[command(flatten)]
    pub log: LogArguments,
    /// Print this help
    #[arg(long, short = '?', visible_short_alias = 'h', action = ArgAction::HelpShort)]
    help: Option<bool>,
    /// Print the version
    #[arg(long, short = 'V', action = ArgAction::Version)]
    version: Option<bool>,
}

/// Flags that go before what the configuration says of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct LogArguments {
    /// Log debug messages
    #[arg(long, short = 'd')]
    pub debug: bool,
    /// How much to debug, 1 to 5; implies --debug
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub debug_level: Option<u8>,
    /// Say on standard error what happens
    #[arg(long, short = 'v')]
    pub verbose: bool,
    /// How much to say there, 1 to 5; implies --verbose
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub verbose_level: Option<u8>,
    /// Log to this file; a directory in it goes before log_dir
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// How much to log, 0 to 5
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=5))]
    pub log_level: Option<u8>,
    /// Begin with an empty log
    #[arg(long)]
    pub log_file_clear: bool,
    /// Write no log file
    #[arg(long)]
    pub log_disable: bool,
}

impl LogArguments {
    /// What goes before these settings. `--debug` alone keeps the level that the file gives, if it gives one.
    #[must_use]
    pub fn overrides(&self, settings: &LogSettings) -> Overrides {
        let level = |flag: bool, level: Option<u8>, before: Option<u8>| level.or_else(|| flag.then(|| before.unwrap_or(1)));
        Overrides {
            file: self.log_file.clone(),
            level: self.log_level,
            clear: self.log_file_clear,
            disable: self.log_disable,
            debug: level(self.debug, self.debug_level, settings.debug),
            verbose: level(self.verbose, self.verbose_level, settings.verbose),
        }
    }
}

/// The configuration to read: the one named, else the default one, else the default TOML.
#[must_use]
pub fn config_file(named: Option<&Path>) -> PathBuf {
    match named {
        Some(file) => file.to_owned(),
        None if !Path::new(DEFAULT_CONFIG).exists() && Path::new(DEFAULT_TOML).exists() => PathBuf::from(DEFAULT_TOML),
        None => PathBuf::from(DEFAULT_CONFIG),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::health::fixture;

    fn parse(words: &[&str]) -> ServerArguments {
        ServerArguments::try_parse_from(std::iter::once(&"drcm_server").chain(words)).expect("good arguments")
    }

    #[test]
    fn the_flags_are_consistent() {
        ServerArguments::command().debug_assert();
    }

    #[test]
    fn node_and_count_are_read_joined_and_apart() {
        for words in
            [["--client", "--command=ping", "-ncmnode2", "-c3"].as_slice(), &["--client", "--command", "ping", "-n", "cmnode2", "-c", "3"]]
        {
            let arguments = parse(words);
            assert_eq!((arguments.client, arguments.command.as_deref()), (true, Some("ping")));
            assert_eq!((arguments.node.as_deref(), arguments.count), (Some("cmnode2"), Some(3)));
        }
    }

    #[test]
    fn log_flags_go_before_the_file() {
        let mut settings = fixture::three_nodes().server.log;
        let none = LogArguments::default().overrides(&settings);
        assert_eq!(none, Overrides::default(), "no flag changes nothing");
        let words = ["-d", "--verbose-level=4", "--log-file=/tmp/x/y.log", "--log-level=5", "--log-file-clear", "--log-disable"];
        let some = parse(&words).log.overrides(&settings);
        let file = Some(PathBuf::from("/tmp/x/y.log"));
        assert_eq!(some, Overrides { file, level: Some(5), clear: true, disable: true, debug: Some(1), verbose: Some(4) });
        settings.debug = Some(3);
        assert_eq!(parse(&["-d"]).log.overrides(&settings).debug, Some(3));
    }
}
