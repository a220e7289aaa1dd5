//! Where the content of a file system comes from, as the configuration writes it.

use std::path::PathBuf;

/// A source of a file system, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// `host:/export`, `[address]:/export`
    Nfs {
        /// Name or address, without brackets.
        host: String,
        /// Directory on the server.
        export: String,
    },
    /// `//host/share`, `//host/share/directory`
    Share {
        /// Name or address.
        host: String,
        /// The share.
        share: String,
        /// Directory within it; may be empty.
        directory: String,
    },
    /// `/dev/...`
    Device(PathBuf),
    /// `UUID=...`, `LABEL=...` and the like.
    Tag {
        /// Directory below `/dev/disk` that lists them: `by-uuid`.
        directory: &'static str,
        /// The value as that directory writes it.
        name: String,
    },
    /// A directory of this node, shown at another place (`mount_options = "bind"`).
    Directory(PathBuf),
    /// `tmpfs`
    Memory,
}

impl MountSource {
    /// Understands a source; `bind` when the mount options say so.
    ///
    /// # Errors
    /// How it has to be written.
    pub fn parse(text: &str, bind: bool) -> Result<Self, &'static str> {
        if let Some(share) = text.strip_prefix("//") {
            return parse_share(share).ok_or("a share is written //host/share");
        }
        if text == "tmpfs" {
            return Ok(Self::Memory);
        }
        if text.starts_with('/') {
            return match (bind, text.strip_prefix("/dev/")) {
                (true, _) => Ok(Self::Directory(text.into())),
                (false, Some(device)) if !device.is_empty() => Ok(Self::Device(text.into())),
                (false, _) => Err("a share is written //host/share, a device /dev/..., and a directory needs mount_options = \"bind\""),
            };
        }
        if let Some(tag) = parse_tag(text) {
            return tag.ok_or("a tag is written like UUID=0a1b2c3d or LABEL=data");
        }
        parse_export(text).ok_or(
            "write host:/export, [address]:/export for IPv6, //host/share, /dev/..., UUID=..., LABEL=..., tmpfs, or a directory with \
             mount_options = \"bind\"",
        )
    }

    /// Its server is somewhere else, and may fall silent.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Nfs { .. } | Self::Share { .. } => true,
            Self::Device(_) | Self::Tag { .. } | Self::Directory(_) | Self::Memory => false,
        }
    }
}

/// Whether mount options ask for another view of a directory.
#[must_use]
pub fn is_bind(mount_options: Option<&str>) -> bool {
    mount_options.is_some_and(|options| options.split(',').any(|word| matches!(word.trim(), "bind" | "rbind")))
}

fn parse_export(text: &str) -> Option<MountSource> {
    let (host, export) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:/").filter(|(host, _)| host.contains(':'))?,
        None => text.split_once(":/").filter(|(host, _)| !host.contains([':', '[', ']']))?,
    };
    is_host(host).then(|| MountSource::Nfs { host: host.to_owned(), export: format!("/{export}") })
}

fn parse_share(text: &str) -> Option<MountSource> {
    let mut parts = text.splitn(3, '/');
    let (host, share) = (parts.next()?, parts.next()?);
    let directory = parts.next().unwrap_or_default().trim_matches('/');
    let good = is_host(host) && !share.is_empty();
    good.then(|| MountSource::Share { host: host.to_owned(), share: share.to_owned(), directory: directory.to_owned() })
}

/// `None` when it is no tag, `Some(None)` when it is one with a senseless value.
fn parse_tag(text: &str) -> Option<Option<MountSource>> {
    let (name, value) = text.split_once('=')?;
    let directory = match name {
        "UUID" => "by-uuid",
        "LABEL" => "by-label",
        "PARTUUID" => "by-partuuid",
        "PARTLABEL" => "by-partlabel",
        _ => return None,
    };
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let value = if directory.ends_with("uuid") { value.to_ascii_lowercase() } else { value.to_owned() };
    Some((!value.is_empty()).then(|| MountSource::Tag { directory, name: encode(&value) }))
}

/// As udev writes a tag in a file name: everything that is unusual there as `\x` and two digits.
fn encode(value: &str) -> String {
    let mut encoded = String::new();
    for letter in value.chars() {
        if !letter.is_ascii() || letter.is_ascii_alphanumeric() || "#+-.:=@_".contains(letter) {
            encoded.push(letter);
        } else {
            encoded.push_str(&format!("\\x{:02x}", u32::from(letter)));
        }
    }
    encoded
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && !host.starts_with('-') && !host.contains(|c: char| c == '/' || c == ',' || c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        let nfs = |host: &str, export: &str| Ok(MountSource::Nfs { host: host.into(), export: export.into() });
        let share = |host: &str, share: &str, directory: &str| {
            Ok(MountSource::Share { host: host.into(), share: share.into(), directory: directory.into() })
        };
        let tag = |directory, name: &str| Ok(MountSource::Tag { directory, name: name.into() });
        for (text, understood) in [
            ("192.168.122.1:/data", nfs("192.168.122.1", "/data")),
            ("nas.example.com:/", nfs("nas.example.com", "/")),
            ("[2001:db8::1]:/x y", nfs("2001:db8::1", "/x y")),
            ("[fe80::1%eth0]:/x", nfs("fe80::1%eth0", "/x")),
            ("//host/share", share("host", "share", "")),
            ("//192.168.122.225/users/web/", share("192.168.122.225", "users", "web")),
            ("//host/share/a/b", share("host", "share", "a/b")),
            ("/dev/sdb1", Ok(MountSource::Device("/dev/sdb1".into()))),
            ("UUID=0A1B-2c3d", tag("by-uuid", "0a1b-2c3d")),
            ("LABEL=\"the data\"", tag("by-label", "the\\x20data")),
            ("LABEL=a/b", tag("by-label", "a\\x2fb")),
            ("PARTLABEL=Data", tag("by-partlabel", "Data")),
            ("tmpfs", Ok(MountSource::Memory)),
        ] {
            assert_eq!(MountSource::parse(text, false), understood, "{text}");
        }
        assert_eq!(MountSource::parse("/srv/data", true), Ok(MountSource::Directory("/srv/data".into())));
        assert_eq!(MountSource::parse("/dev/shm", true), Ok(MountSource::Directory("/dev/shm".into())));
    }

    #[test]
    fn what_cannot_be_a_source_is_refused_with_advice() {
        for text in [
            "",
            "host",
            "host:data",
            ":/data",
            "-h:/x",
            "a b:/x",
            "2001:db8::1:/x",
            "[host]:/x",
            "[::1]",
            "//host",
            "///x",
            "//host/",
            "/srv",
            "/dev/",
            "UUID=",
            "LABEL=\"\"",
            "SERIAL=1",
            "a,b:/x",
        ] {
            let said = MountSource::parse(text, false).unwrap_err();
            assert!(said.contains("writ"), "{text}: {said}");
        }
    }

    #[test]
    fn bind_is_a_word_of_its_own() {
        assert!(is_bind(Some("ro, bind")) && is_bind(Some("rbind")));
        assert!(!is_bind(Some("nobind,binder")) && !is_bind(None));
    }
}
