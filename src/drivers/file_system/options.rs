//! Mount options: those that every file system knows become flags, those for programs are dropped, the others are for the
//! file system itself.

use nix::mount::MsFlags;

use super::error::MountError;
use crate::model::MountSource;

/// Mount options, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MountOptions {
    pub(super) flags: Flags,
    /// For the file system itself, in their order.
    pub(super) words: Vec<String>,
}

/// `MsFlags` with a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(pub(super) MsFlags);

impl Default for Flags {
    fn default() -> Self {
        Self(MsFlags::empty())
    }
}

impl MountOptions {
    pub(super) fn parse(text: Option<&str>, source: &MountSource) -> Result<Self, MountError> {
        let mut options = Self::default();
        for word in text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let name = word.split('=').next().unwrap_or(word);
            if let Some((flag, on)) = flag(word) {
                options.flags.0.set(flag, on);
            } else if let Some(why) = unfit(name, source) {
                return Err(MountError::Option { word: name.to_owned(), why });
            } else if !for_programs(name, source) {
                options.words.push(word.to_owned());
            }
        }
        if options.flags.0.contains(MsFlags::MS_BIND)
            && let Some(word) = options.words.first()
        {
            let word = word.split('=').next().unwrap_or(word).to_owned();
            return Err(MountError::Option { word, why: "another view of a directory (bind) has no options of a file system; remove it" });
        }
        Ok(options)
    }

    /// It is to be read only.
    pub(super) fn is_read_only(&self) -> bool {
        self.flags.0.contains(MsFlags::MS_RDONLY)
    }
}

/// The value of the last of these words.
pub(super) fn value_of<'w>(words: &'w [String], names: &[&str]) -> Option<&'w str> {
    words.iter().rev().find_map(|word| word.split_once('=').filter(|(name, _)| names.contains(name)).map(|(_, value)| value))
}

/// Whether one of these words is there, with or without a value.
pub(super) fn has(words: &[String], names: &[&str]) -> bool {
    words.iter().any(|word| names.contains(&word.split('=').next().unwrap_or(word)))
}

/// A flag of the kernel, and whether the word sets or clears it.
fn flag(word: &str) -> Option<(MsFlags, bool)> {
    Some(match word {
        "ro" => (MsFlags::MS_RDONLY, true),
        "rw" => (MsFlags::MS_RDONLY, false),
        "nosuid" => (MsFlags::MS_NOSUID, true),
        "suid" => (MsFlags::MS_NOSUID, false),
        "nodev" => (MsFlags::MS_NODEV, true),
        "dev" => (MsFlags::MS_NODEV, false),
        "noexec" => (MsFlags::MS_NOEXEC, true),
        "exec" => (MsFlags::MS_NOEXEC, false),
        "sync" => (MsFlags::MS_SYNCHRONOUS, true),
        "async" => (MsFlags::MS_SYNCHRONOUS, false),
        "dirsync" => (MsFlags::MS_DIRSYNC, true),
        "mand" => (MsFlags::MS_MANDLOCK, true),
        "nomand" => (MsFlags::MS_MANDLOCK, false),
        "noatime" => (MsFlags::MS_NOATIME, true),
        "atime" => (MsFlags::MS_NOATIME, false),
        "nodiratime" => (MsFlags::MS_NODIRATIME, true),
        "diratime" => (MsFlags::MS_NODIRATIME, false),
        "relatime" => (MsFlags::MS_RELATIME, true),
        "norelatime" => (MsFlags::MS_RELATIME, false),
        "strictatime" => (MsFlags::MS_STRICTATIME, true),
        "nostrictatime" => (MsFlags::MS_STRICTATIME, false),
        "lazytime" => (MsFlags::MS_LAZYTIME, true),
        "nolazytime" => (MsFlags::MS_LAZYTIME, false),
        "silent" => (MsFlags::MS_SILENT, true),
        "loud" => (MsFlags::MS_SILENT, false),
        "bind" => (MsFlags::MS_BIND, true),
        "rbind" => (MsFlags::MS_BIND.union(MsFlags::MS_REC), true),
        _ => return None,
    })
}

/// Words for mount(8), for fstab, for systemd: the kernel would refuse them.
fn for_programs(name: &str, source: &MountSource) -> bool {
    let everywhere =
        matches!(name, "defaults" | "auto" | "noauto" | "nofail" | "_netdev" | "user" | "nouser" | "users" | "owner" | "group" | "comment")
            || name.starts_with("x-")
            || name.starts_with("X-");
    everywhere
        || (matches!(source, MountSource::Nfs { .. }) && matches!(name, "bg" | "fg" | "retry" | "addr" | "clientaddr" | "sloppy"))
        || (matches!(source, MountSource::Share { .. }) && matches!(name, "unc" | "prefixpath" | "ip" | "addr"))
}

/// Why a word cannot be honoured.
fn unfit(name: &str, source: &MountSource) -> Option<&'static str> {
    match (name, source) {
        ("credentials" | "cred" | "password" | "pass" | "password2", MountSource::Share { .. }) => {
            Some("the credentials of a share belong into auth_dir/HOST; move them there")
        }
        ("loop" | "offset" | "sizelimit", _) => Some("make the loop device beforehand (`losetup`) and name it as the source"),
        ("remount" | "move", _) => Some("this is an action, no property of a mount; remove it"),
        ("helper" | "uhelper" | "verity.hashdevice", _) => Some("it needs mount(8); use a script of your own"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, source: &str) -> Result<MountOptions, MountError> {
        MountOptions::parse(Some(text), &MountSource::parse(source, text.contains("bind")).unwrap())
    }

    #[test]
    fn flags_and_words_are_told_apart() {
        let options = parse("defaults,ro,nosuid, rw,noatime,_netdev,x-systemd.automount,nofail,bg,retry=3,soft,timeo=50", "h:/x").unwrap();
        assert_eq!(options.flags.0, MsFlags::MS_NOSUID | MsFlags::MS_NOATIME);
        assert_eq!(options.words, ["soft", "timeo=50"]);
        assert_eq!(parse("bg,size=1m", "tmpfs").unwrap().words, ["bg", "size=1m"]);
        assert!(parse("ro", "/dev/vdb").unwrap().is_read_only());
        assert_eq!(parse("rbind", "/srv").unwrap().flags.0, MsFlags::MS_BIND | MsFlags::MS_REC);
        assert_eq!(MountOptions::parse(None, &MountSource::Memory).unwrap(), MountOptions::default());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_without_its_value() {
        for (text, source) in
            [("password=hush", "//h/s"), ("credentials=/root/hush", "//h/s"), ("loop", "/dev/vdb"), ("bind,data=x", "/srv")]
        {
            let said = parse(text, source).unwrap_err().to_string();
            assert!(said.starts_with("mount option ") && !said.contains("hush"), "{said}");
        }
    }
}
