//! Every key of every section, with its other spellings; and the search for what was probably meant.

use crate::model::Kind;

/// One key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The name in cm.cfg, and in cm.toml when `aliases` has none.
    pub(super) name: &'static str,
    /// Accepted too. For node lists the first one is the name in cm.toml.
    pub(super) aliases: &'static [&'static str],
    /// Takes a list.
    pub(super) list: bool,
}

const fn key(name: &'static str, aliases: &'static [&'static str]) -> Key {
    Key { name, aliases, list: false }
}

const fn list(name: &'static str, aliases: &'static [&'static str]) -> Key {
    Key { name, aliases, list: true }
}

/// `[CM_SERVER]`.
pub(super) const SERVER: &[Key] = &[
    key("udpport", &["udp_port"]),
    key("tcpport", &["tcp_port"]),
    key("keep_alive_interval", &[]),
    key("dead_node_count", &[]),
    key("bind_to_keep_alive_ip", &[]),
    key("quorum", &[]),
    key("no_quorum", &[]),
    key("failback", &[]),
    key("failback_delay", &[]),
    key("takeover", &[]),
    key("start_timeout", &[]),
    key("stop_timeout", &[]),
    key("check_timeout", &[]),
    key("restart_limit", &[]),
    key("restart_window", &[]),
    key("gateway", &[]),
    key("resource_driver", &[]),
    key("auth_dir", &[]),
    key("run_dir", &[]),
    key("log_dir", &[]),
    key("spool_dir", &[]),
    key("cluster_user", &[]),
    key("cluster_group", &[]),
    key("sudo_command", &[]),
    key("service_name", &[]),
    key("logfile", &["logfile_name", "log_file", "log_file_name"]),
    key("num_logs_to_keep", &[]),
    key("max_log_size", &[]),
    key("log_queue_size", &[]),
    key("log_queue_debug_size", &[]),
    key("log_queue_proc_size", &[]),
    key("clear_log", &[]),
    key("enable_logging", &[]),
    key("log_level", &[]),
    key("debug", &[]),
    key("debug_level", &[]),
    key("verbose", &[]),
    key("verbose_level", &[]),
    key("bash_shell", &[]),
    key("bash_rc_file", &[]),
    key("cluster_umask", &["cluser_mask", "cluster_mask", "cluser_umask"]),
];

/// `[CM_NODE]`.
pub(super) const NODE: &[Key] = &[
    key("nodename", &["node_name"]),
    key("hostname", &["host_name"]),
    key("keep_alive_ip", &[]),
    key("node_is_active", &[]),
    key("voter", &[]),
    key("transport", &[]),
    key("keep_alive_interval", &[]),
    key("dead_node_count", &[]),
    key("keep_services", &[]),
    key("keep_filesystems", &[]),
    key("keep_applications", &[]),
    key("ipaddrs_check", &["ipapddrs_check", "ipaddr_check"]),
    key("filesystems_check", &[]),
    key("services_check", &[]),
    key("crontabs_check", &[]),
    key("applications_check", &[]),
    list("node_crontabs", &["crontabs"]),
    list("node_backup_crontabs", &["backup_crontabs"]),
    list("node_floating_ip_addrs", &["addresses"]),
    list("node_backup_floating_ip_addrs", &["backup_addresses"]),
    list("node_services", &["services"]),
    list("node_backup_services", &["backup_services"]),
    list("node_applications", &["applications"]),
    list("node_backup_applications", &["backup_applications"]),
    list("node_filesystems", &["filesystems"]),
    list("node_backup_filesystems", &["backup_filesystems"]),
];

/// Options of a resource: in cm.toml only.
pub(super) const OPTIONS: &[Key] = &[
    key("start_timeout", &[]),
    key("stop_timeout", &[]),
    key("check_timeout", &[]),
    key("restart_limit", &[]),
    key("restart_window", &[]),
    key("order", &[]),
];

const CRONTAB: &[Key] = &[key("template", &[]), key("install_dir", &[]), key("script", &[])];
const ADDRESS: &[Key] = &[key("ip", &[]), key("netmask", &["prefix"]), key("interface", &[]), key("script", &[])];
const SERVICE: &[Key] = &[key("service", &["name"]), key("script", &[])];
const APPLICATION: &[Key] = &[key("run_as", &[]), key("start", &[]), key("stop", &[]), key("ensure", &[])];
const FILE_SYSTEM: &[Key] = &[key("source", &[]), key("target", &[]), key("script", &[]), key("mount_options", &[])];

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

/// How a configuration is written; findings speak the language of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// cm.cfg
    Cfg,
    /// cm.toml
    Toml,
}

impl Format {
    pub(super) const fn server(self) -> &'static str {
        match self {
            Self::Cfg => "[CM_SERVER]",
            Self::Toml => "[server]",
        }
    }

    pub(super) const fn node(self) -> &'static str {
        match self {
            Self::Cfg => "[CM_NODE]",
            Self::Toml => "[[node]]",
        }
    }

    /// Where the resources of a kind are defined.
    pub(super) fn resources(self, kind: Kind) -> String {
        match self {
            Self::Cfg => format!("[{}]", section(kind)),
            Self::Toml => format!("[{}]", table(kind)),
        }
    }

    /// The key of a node that lists what it is home of.
    pub(super) fn primary_list(self, kind: Kind) -> &'static str {
        self.list_name(primary_list(kind))
    }

    /// The key of a node that lists what it is backup for.
    pub(super) fn backup_list(self, kind: Kind) -> &'static str {
        self.list_name(backup_list(kind))
    }

    fn list_name(self, name: &'static str) -> &'static str {
        match self {
            Self::Cfg => name,
            Self::Toml => find(NODE, name).and_then(|key| key.aliases.first()).unwrap_or(&name),
        }
    }
}

/// The sections of cm.cfg.
pub(super) const SECTIONS: [&str; 7] =
    ["CM_SERVER", "CM_NODE", "CM_CRONTABS", "CM_IPADDRS", "CM_SERVICES", "CM_APPLICATIONS", "CM_FILESYSTEMS"];

/// The tables of cm.toml.
pub(super) const TABLES: [&str; 7] = ["server", "node", "crontabs", "addresses", "services", "applications", "filesystems"];

/// The section of a kind in cm.cfg.
pub(super) const fn section(kind: Kind) -> &'static str {
    match kind {
        Kind::FileSystem => "CM_FILESYSTEMS",
        Kind::Address => "CM_IPADDRS",
        Kind::Service => "CM_SERVICES",
        Kind::Application => "CM_APPLICATIONS",
        Kind::Crontab => "CM_CRONTABS",
    }
}

/// The table of a kind in cm.toml.
pub(super) const fn table(kind: Kind) -> &'static str {
    match kind {
        Kind::FileSystem => "filesystems",
        Kind::Address => "addresses",
        Kind::Service => "services",
        Kind::Application => "applications",
        Kind::Crontab => "crontabs",
    }
}

/// The `node_*` key that lists a kind.
pub(super) const fn primary_list(kind: Kind) -> &'static str {
    match kind {
        Kind::FileSystem => "node_filesystems",
        Kind::Address => "node_floating_ip_addrs",
        Kind::Service => "node_services",
        Kind::Application => "node_applications",
        Kind::Crontab => "node_crontabs",
    }
}

/// The `node_backup_*` key that lists a kind.
pub(super) const fn backup_list(kind: Kind) -> &'static str {
    match kind {
        Kind::FileSystem => "node_backup_filesystems",
        Kind::Address => "node_backup_floating_ip_addrs",
        Kind::Service => "node_backup_services",
        Kind::Application => "node_backup_applications",
        Kind::Crontab => "node_backup_crontabs",
    }
}

/// What an operator calls a resource of this kind.
pub(super) const fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::FileSystem => "file system",
        Kind::Address => "address",
        Kind::Service => "service",
        Kind::Application => "application",
        Kind::Crontab => "crontab",
    }
}

/// The key of this name or other spelling, in any case.
pub(super) fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| spellings(key).any(|spelling| spelling.eq_ignore_ascii_case(name)))
}

/// All names of a key.
pub(super) fn spellings(key: &'static Key) -> impl Iterator<Item = &'static str> {
    std::iter::once(key.name).chain(key.aliases.iter().copied())
}

/// The candidate nearest to a word, when one is near enough to be meant. Case does not count.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Beyond this a word is no typing mistake.
    const LONGEST: usize = 64;
    let word = word.to_lowercase();
    let length = word.chars().count();
    if length > LONGEST {
        return None;
    }
    // One letter for another is no typing mistake in a word of one letter.
    let mut limit = if length < 2 { 0 } else { length.max(3) / 3 };
    let mut best = None;
    for candidate in candidates {
        if candidate.len().abs_diff(word.len()) > limit * 4 {
            continue;
        }
        let distance = strsim::osa_distance(&word, &candidate.to_lowercase());
        if distance < limit || (distance == limit && best.is_none()) {
            (limit, best) = (distance, Some(candidate));
        }
    }
    best
}

/// The end of a message about an unknown name.
pub(super) fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (nearest: `{name}`)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        assert_eq!(nearest("arhive", ["data", "archive", "webshare"]), Some("archive"));
        assert_eq!(nearest("WEB", ["db", "web"]), Some("web"));
        assert_eq!(nearest("x", ["data", "archive"]), None);
        assert_eq!(nearest("dead_node_cuont", SERVER.iter().map(|key| key.name)), Some("dead_node_count"));
    }

    #[test]
    fn no_spelling_means_two_keys() {
        for keys in [SERVER, NODE, OPTIONS] {
            let all: Vec<&str> = keys.iter().flat_map(spellings).collect();
            for name in &all {
                assert_eq!(all.iter().filter(|other| other == &name).count(), 1, "{name}");
            }
        }
    }
}
