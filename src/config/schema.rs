//! Every key of every section: its spellings, what it takes, what holds without it, and what it means. The reader finds its keys here,
//! and the reference is made of it.

use crate::model::Kind;

/// One key.
#[derive(Debug, PartialEq)]
pub struct Key {
    /// The name in cm.cfg, and in cm.toml when `aliases` has none.
    pub name: &'static str,
    /// Accepted too. For node lists the first one is the name in cm.toml.
    pub aliases: &'static [&'static str],
    /// What it takes.
    pub takes: Takes,
    /// What holds without it.
    pub default: Without,
    /// What it means, in one sentence.
    pub means: &'static str,
}

/// What a key takes.
#[derive(Debug, PartialEq)]
pub enum Takes {
    /// Yes or no.
    Flag,
    /// A whole number, and what it counts.
    Whole {
        /// At least this.
        least: i64,
        /// At most this.
        most: i64,
        /// The unit; empty for a plain number.
        unit: &'static str,
    },
    /// Seconds, with a fraction where wanted.
    Seconds {
        /// At least this.
        least: f64,
        /// At most this.
        most: f64,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// An absolute path.
    Path,
    /// An IP address.
    Address,
    /// What is named in words.
    Text(&'static str),
    /// Nicknames, or `home:nickname` in the lists of backups.
    List,
    /// Several of what is named in words.
    Several(&'static str),
}

/// What holds where a key is left out.
#[derive(Debug, PartialEq)]
pub enum Without {
    /// This value, as cm.toml has it.
    Is(&'static str),
    /// What the words say.
    Said(&'static str),
    /// Nothing: it must be there.
    Required,
}

use Without::{Is, Required, Said};

impl Key {
    /// Whether it takes a list.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(self.takes, Takes::List | Takes::Several(_))
    }

    const fn also(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }
}

const fn key(name: &'static str, takes: Takes, default: Without, means: &'static str) -> Key {
    Key { name, aliases: &[], takes, default, means }
}

const fn whole(least: i64, most: i64, unit: &'static str) -> Takes {
    Takes::Whole { least, most, unit }
}

const fn seconds(least: f64, most: f64) -> Takes {
    Takes::Seconds { least, most }
}

const fn list(name: &'static str, toml: &'static [&'static str], means: &'static str) -> Key {
    key(name, Takes::List, Said("none"), means).also(toml)
}

const DAY: f64 = 86_400.0;

const START_TIMEOUT: Key = key("start_timeout", seconds(0.1, DAY), Is("90"), "time that a start may take");
const STOP_TIMEOUT: Key = key("stop_timeout", seconds(0.1, DAY), Is("60"), "time that a stop may take before it is forced");
const CHECK_TIMEOUT: Key =
    key("check_timeout", seconds(0.1, DAY), Is("10"), "time that a check may take before the resource counts as stalled");
const RESTART_LIMIT: Key =
    key("restart_limit", whole(1, 1_000_000, "tries"), Is("3"), "tries to start within `restart_window` before another node has its turn");
const RESTART_WINDOW: Key = key("restart_window", seconds(1.0, 31.0 * DAY), Is("600"), "time after which a failure is forgotten");

/// `[CM_SERVER]`.
pub(super) const SERVER: &[Key] = &[
    key("udpport", whole(1, 65_535, ""), Is("53897"), "UDP port of the heartbeats between the nodes").also(&["udp_port"]),
    key("tcpport", whole(1, 65_535, ""), Is("53897"), "TCP port of status questions, and of heartbeats with `transport = tcp`")
        .also(&["tcp_port"]),
    key("keep_alive_interval", whole(1, 60_000, "milliseconds"), Is("100"), "time between heartbeats"),
    key(
        "dead_node_count",
        whole(1, 100_000, "heartbeats"),
        Is("60"),
        "heartbeats missed in a row after which a node is dead and has stopped what it ran; 15 is the advice. Times `keep_alive_interval` it is at most an hour",
    ),
    key("bind_to_keep_alive_ip", Takes::Flag, Is("true"), "listen on the node's `keep_alive_ip` only, not on all of its addresses"),
    key("apply", Takes::Flag, Is("true"), "this node takes a configuration from `drcm apply` on another one"),
    key(
        "quorum",
        Takes::Word(&["auto", "majority", "none"]),
        Is("\"auto\""),
        "who may run what is shared. `auto`: a majority of the voters, or of two voters the survivor alone; `majority`: a majority always; `none`: a survivor alone in a cluster of any size",
    ),
    key(
        "no_quorum",
        Takes::Word(&["stop", "freeze"]),
        Is("\"stop\""),
        "without a majority: stop what could run elsewhere, or leave it running and risk two owners",
    ),
    key(
        "failback",
        Takes::Word(&["auto", "manual"]),
        Is("\"auto\""),
        "whether a resource goes home by itself, or when an operator says so",
    ),
    key("failback_delay", seconds(0.0, DAY), Is("10"), "time for which its home must have been well before a resource goes back"),
    key(
        "takeover",
        Takes::Word(&["prompt", "strict"]),
        Is("\"prompt\""),
        "`prompt`: a slow stop does not delay the next node; `strict`: the next node starts only when the stop must be over, at most `stop_timeout` later",
    ),
    START_TIMEOUT,
    STOP_TIMEOUT,
    CHECK_TIMEOUT,
    RESTART_LIMIT,
    RESTART_WINDOW,
    key("gateway", Takes::Address, Said("none"), "two nodes: an address outside that must answer before one carries on alone"),
    key(
        "resource_driver",
        Takes::Word(&["native", "script"]),
        Is("\"native\""),
        "`script`: the resource scripts do all the work that the daemon can do by itself",
    ),
    key("auth_dir", Takes::Path, Is("\"/etc/drcm/.auth\""), "directory of authkey and authkey.sha1, and of the credentials of shares"),
    key("run_dir", Takes::Path, Is("\"/var/run/drcm\""), "directory of the client socket and the pid file"),
    key("log_dir", Takes::Path, Is("\"/var/log/drcm\""), "directory of the logs"),
    key("spool_dir", Takes::Path, Is("\"/var/spool/drcm\""), "directory of what outlives a restart; must not be emptied at boot"),
    key("cluster_user", Takes::Text("user"), Is("\"root\""), "the daemon runs as that user (docs/security.md); it may own the auth files"),
    key("cluster_group", Takes::Text("group"), Is("\"root\""), "its members may ask the daemon for its status"),
    key(
        "sudo_command",
        Takes::Text("command"),
        Is("\"sudo su root -c\""),
        "put before resource scripts when the daemon does not run as root",
    ),
    key("service_name", Takes::Text("name"), Is("\"drcm_server\""), "what the daemon is called in its logs and pid file"),
    key("logfile", Takes::Text("file name"), Is("\"drcm.log\""), "the log in `log_dir`").also(&[
        "logfile_name",
        "log_file",
        "log_file_name",
    ]),
    key("num_logs_to_keep", whole(0, 10_000, "files"), Is("3"), "old logs that are kept"),
    key("max_log_size", whole(1_000, 2_000_000_000, "bytes"), Is("5000000"), "size at which a new log is begun"),
    key("log_queue_size", whole(1, 1_000_000, "lines"), Is("2048"), "lines that may wait to be written"),
    key("log_queue_debug_size", whole(1, 1_000_000, "lines"), Is("4096"), "the same with `debug`"),
    key("log_queue_proc_size", whole(1, 1_000_000, "lines"), Is("255"), "accepted for older files; has no effect"),
    key("clear_log", Takes::Flag, Is("false"), "begin with an empty log"),
    key("enable_logging", Takes::Flag, Is("true"), "write the log"),
    key("log_level", whole(0, 5, ""), Is("1"), "how much is logged"),
    key("debug", Takes::Flag, Is("false"), "log what helps to find a fault in the program"),
    key("debug_level", whole(1, 5, ""), Is("1"), "how much of that"),
    key("verbose", Takes::Flag, Is("false"), "say more on standard error"),
    key("verbose_level", whole(1, 5, ""), Is("1"), "how much of that"),
    key("bash_shell", Takes::Path, Is("\"/bin/bash\""), "the shell that runs scripts and applications"),
    key("bash_rc_file", Takes::Path, Said("none"), "a file to source before the commands of an application"),
    key("cluster_umask", Takes::Text("octal digits, 0 to 777"), Is("\"022\""), "umask of the daemon and of what it runs").also(&[
        "cluser_mask",
        "cluster_mask",
        "cluser_umask",
    ]),
    key("alert_command", Takes::Path, Said("none"), "a program that is told of events worth an alert"),
    key("hooks_dir", Takes::Path, Is("\"/etc/drcm/hooks.d\""), "every program in it is told of every event on its node"),
    key("alert_timeout", seconds(0.1, 3600.0), Is("30"), "time that such a program may take"),
    key("alert_severity", Takes::Word(&["info", "warning", "critical"]), Is("\"warning\""), "how grave an event must be for an alert"),
    key("alert_email", Takes::Several("mail addresses, or accounts where the mail server is"), Said("nobody"), "who gets mails"),
    key("alert_text", Takes::Several("mail addresses"), Said("nobody"), "who gets text messages: mails of 160 characters"),
    key("alert_lists", Takes::Path, Said("none"), "a `cm_alert_list.sh` with more of both; it is read, not run"),
    key("alert_from", Takes::Text("mail address"), Said("`drcm@HOSTNAME`"), "sender of mails"),
    key("alert_hours", whole(0, 8760, "hours"), Is("4"), "after a mail there is none for so long"),
    key("smtp_server", Takes::Text("host, or host:port"), Is("\"localhost:25\""), "who takes mails"),
    key("webhook_url", Takes::Text("URL"), Said("none"), "gets each event worth an alert as JSON"),
    key("webhook_token", Takes::Text("name of a file in `auth_dir`"), Said("none"), "its bearer token"),
    key("webhook_ca", Takes::Path, Said("those of the system"), "certificates of those who vouch for it"),
    key(
        "status_listen",
        Takes::Text("address:port"),
        Said("no status page"),
        "where the status page and the metrics are served; other addresses than loopback need `status_token`",
    ),
    key("status_token", Takes::Text("name of a file in `auth_dir`"), Said("none"), "what a visitor must know"),
];

const CHECK: &str = "time between checks of them";

/// `[CM_NODE]`.
pub(super) const NODE: &[Key] = &[
    key("nodename", Takes::Text("name"), Required, "any name that people recognise; lists and commands use it").also(&["node_name"]),
    key("hostname", Takes::Text("name"), Required, "what `uname -n` says on the node").also(&["host_name"]),
    key("keep_alive_ip", Takes::Address, Required, "the node's own address, by which the others reach it"),
    key("node_is_active", Takes::Flag, Is("true"), "no: it takes part, but runs nothing"),
    key("voter", Takes::Flag, Said("up to seven nodes all vote, of more the first seven"), "whether it has a vote"),
    key(
        "transport",
        Takes::Word(&["udp", "tcp"]),
        Is("\"udp\""),
        "how heartbeats go to and from it; `tcp` for a node in another data centre",
    ),
    key(
        "keep_alive_interval",
        whole(1, 60_000, "milliseconds"),
        Said("that of the cluster"),
        "a pace of its own: with each other node it talks at the longer interval of the two",
    ),
    key(
        "dead_node_count",
        whole(1, 100_000, "heartbeats"),
        Said("that of the cluster"),
        "the same: each of two nodes is dead for the other after the longer time of the two",
    ),
    key("keep_services", Takes::Flag, Is("false"), "they stay up when the daemon on this node is stopped"),
    key("keep_filesystems", Takes::Flag, Is("true"), "what only this node mounts stays mounted then"),
    key("keep_applications", Takes::Flag, Is("false"), "they stay up then"),
    key("ipaddrs_check", seconds(0.1, DAY), Is("60"), CHECK).also(&["ipapddrs_check", "ipaddr_check"]),
    key("filesystems_check", seconds(0.1, DAY), Is("60"), CHECK),
    key("services_check", seconds(0.1, DAY), Is("60"), CHECK),
    key("crontabs_check", seconds(0.1, DAY), Is("60"), CHECK),
    key("applications_check", seconds(0.1, DAY), Is("60"), CHECK),
    list("node_crontabs", &["crontabs"], "crontabs that are at home here"),
    list("node_backup_crontabs", &["backup_crontabs"], "crontabs of others for which it stands in, as `home:nickname`"),
    list("node_floating_ip_addrs", &["addresses"], "addresses that are at home here"),
    list("node_backup_floating_ip_addrs", &["backup_addresses"], "addresses of others for which it stands in, as `home:nickname`"),
    list("node_services", &["services"], "services that are at home here"),
    list("node_backup_services", &["backup_services"], "services of others for which it stands in, as `home:nickname`"),
    list("node_applications", &["applications"], "applications that are at home here"),
    list("node_backup_applications", &["backup_applications"], "applications of others for which it stands in, as `home:nickname`"),
    list("node_filesystems", &["filesystems"], "file systems that are at home here"),
    list("node_backup_filesystems", &["backup_filesystems"], "file systems of others for which it stands in, as `home:nickname`"),
];

/// Options of a resource: in cm.toml only.
pub(super) const OPTIONS: &[Key] = &[
    START_TIMEOUT,
    STOP_TIMEOUT,
    CHECK_TIMEOUT,
    RESTART_LIMIT,
    RESTART_WINDOW,
    key(
        "order",
        whole(-1_000_000, 1_000_000, ""),
        Is("0"),
        "what moves together starts by ascending order, and in each order file systems and addresses before services before the rest",
    ),
];

const SCRIPT: Key =
    key("script", Takes::Path, Said("the stock one of the kind"), "who does the work; the stock one stands for the driver in the daemon");

const CRONTAB: &[Key] = &[
    key("template", Takes::Path, Required, "the file to install"),
    key("install_dir", Takes::Path, Required, "the directory to install it in, such as /etc/cron.d"),
    SCRIPT,
];
const ADDRESS: &[Key] = &[
    key("ip", Takes::Address, Required, "the floating address; in cm.toml with /24 in place of `netmask`, if you like"),
    key("netmask", Takes::Text("netmask"), Required, "255.255.255.0 or 24").also(&["prefix"]),
    key("interface", Takes::Text("interface"), Required, "eth0, or eth0:1 with a label; at most 15 characters"),
    SCRIPT,
];
const SERVICE: &[Key] = &[key("service", Takes::Text("name"), Required, "the unit of systemd, or the init script").also(&["name"]), SCRIPT];
const APPLICATION: &[Key] = &[
    key("run_as", Takes::Text("user:group"), Required, "as whom its programs run"),
    key("start", Takes::Text("shell"), Required, "starts it; in cm.cfg without commas"),
    key("stop", Takes::Text("shell"), Required, "stops it"),
    key("ensure", Takes::Text("shell"), Said("none"), "says by its exit status whether it runs, and revives what died"),
];
const FILE_SYSTEM: &[Key] = &[
    key("source", Takes::Text("source"), Required, "host:/export, //host/share, a device, UUID= or LABEL=, tmpfs, or a directory to bind"),
    key("target", Takes::Path, Required, "the mount point"),
    SCRIPT,
    key("mount_options", Takes::Text("options"), Said("none"), "in cm.toml only: as for mount(8), `bind` included"),
];

/// The keys that describe a resource, in the order of the fields in cm.cfg (after the nickname).
pub(super) const fn resource(kind: Kind) -> &'static [Key] {
    match kind {
        Kind::FileSystem => FILE_SYSTEM,
        Kind::Address => ADDRESS,
        Kind::Service => SERVICE,
        Kind::Application => APPLICATION,
        Kind::Crontab => CRONTAB,
    }
}

/// A section of cm.cfg, which is a table of cm.toml.
#[derive(Debug)]
pub struct Section {
    /// `CM_SERVER`; none for what only cm.toml has.
    pub cfg: Option<&'static str>,
    /// As its header is written in cm.toml.
    pub toml: &'static str,
    /// In the order of the fields, for a section of resources.
    pub keys: &'static [Key],
}

/// All sections, for people to read.
#[must_use]
pub fn sections() -> Vec<Section> {
    let mut sections = vec![Section { cfg: Some("CM_SERVER"), toml: "[server]", keys: SERVER }];
    for (kind, toml) in [
        (Kind::Address, "[addresses.NICKNAME]"),
        (Kind::FileSystem, "[filesystems.NICKNAME]"),
        (Kind::Service, "[services.NICKNAME]"),
        (Kind::Application, "[applications.NICKNAME]"),
        (Kind::Crontab, "[crontabs.NICKNAME]"),
    ] {
        sections.push(Section { cfg: Some(super::keys::section(kind)), toml, keys: resource(kind) });
    }
    sections.push(Section { cfg: None, toml: "any resource", keys: OPTIONS });
    sections.push(Section { cfg: Some("CM_NODE"), toml: "[[node]]", keys: NODE });
    sections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::parse_toml, model::Config};

    /// A small cluster with one more line in one of its tables.
    fn with(table: &str, line: &str) -> Result<Config, String> {
        let mut text = String::new();
        for (header, body) in [
            ("server", ""),
            ("addresses.a", "ip = \"10.0.0.9/24\"\ninterface = \"eth0\"\n"),
            ("[node]", "nodename = \"n\"\nhostname = \"n\"\nkeep_alive_ip = \"10.0.0.1\"\naddresses = [\"a\"]\n"),
        ] {
            text += &format!("[{header}]\n{body}{}\n", if header == table { line } else { "" });
        }
        // Without a vote on the first there is one still.
        text += "[[node]]\nnodename = \"o\"\nhostname = \"o\"\nkeep_alive_ip = \"10.0.0.2\"\n";
        parse_toml("t", &text).map(|loaded| Config::clone(&loaded.config)).map_err(|report| report.to_string())
    }

    /// The table says what the reader does.
    #[test]
    fn bounds_words_and_defaults_are_those_of_the_reader() {
        for (table, keys) in [("server", SERVER), ("addresses.a", OPTIONS), ("[node]", NODE)] {
            for key in keys {
                // Together with the other half of the lease they would be more than an hour.
                let beside = if key.name == "dead_node_count" { "\nkeep_alive_interval = 1" } else { "" };
                let beside = if key.name == "keep_alive_interval" { "\ndead_node_count = 3" } else { beside };
                let takes = |value: &str| with(table, &format!("{} = {value}{beside}", key.name)).is_ok();
                let (good, bad): (Vec<String>, Vec<String>) = match key.takes {
                    Takes::Flag => (vec!["true".into(), "false".into()], vec!["2".into()]),
                    Takes::Whole { least, most, .. } => {
                        (vec![least.to_string(), most.to_string()], vec![(least - 1).to_string(), (most + 1).to_string(), "1.5".into()])
                    }
                    Takes::Seconds { least, most } => (
                        vec![format!("{least:.1}"), format!("{most:.1}"), "1.5".into()],
                        vec![format!("{:.2}", least - 0.01), format!("{:.1}", most + 0.1)],
                    ),
                    Takes::Word(words) => (words.iter().map(|word| format!("\"{word}\"")).collect(), vec!["\"other\"".into()]),
                    Takes::Path => (vec!["\"/a/b\"".into()], vec!["\"a/b\"".into()]),
                    Takes::Address | Takes::Text(_) | Takes::List | Takes::Several(_) => (Vec::new(), Vec::new()),
                };
                for value in good {
                    assert!(takes(&value), "{table} {} = {value}", key.name);
                }
                for value in bad {
                    assert!(!takes(&value), "{table} {} = {value}", key.name);
                }
                if let Takes::Word(words) = key.takes {
                    let said = with(table, &format!("{} = \"other\"", key.name)).unwrap_err();
                    assert!(said.contains(&format!("none of: {}\n", words.join(", "))), "{said}");
                }
                if let Is(value) = key.default {
                    assert_eq!(with(table, &format!("{} = {value}", key.name)).unwrap(), with(table, "").unwrap(), "{table} {}", key.name);
                }
            }
        }
    }

    #[test]
    fn no_spelling_means_two_keys() {
        for section in sections() {
            let all: Vec<&str> = section.keys.iter().flat_map(crate::config::keys::spellings).collect();
            for name in &all {
                assert_eq!(all.iter().filter(|other| other == &name).count(), 1, "{name}");
            }
        }
    }
}
