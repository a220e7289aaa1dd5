//! How sections, keys and kinds are called in each format; and the search for what was probably meant.

pub use crate::model::Format;
use crate::model::Kind;

pub(super) use super::schema::{Key, NODE, OPTIONS, SERVER, Takes, resource};

impl Format {
    /// What a file of this format is usually called.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Cfg => "cm.cfg",
            Self::Toml => "cm.toml",
        }
    }

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
}
