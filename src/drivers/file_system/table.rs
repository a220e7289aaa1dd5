//! The kernel's table of mounts: all that may be read about a mount without touching it.

use std::{
    ffi::OsStr,
    fs,
    io::Read,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use super::super::DriverError;

/// Mounts are read up to this size; a machine with a hundred thousand mounts has less.
const LIMIT: u64 = 16 << 20;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) id: u64,
    pub(super) parent: u64,
    /// Device number of its file system, as `major:minor`.
    pub(super) device: String,
    /// The directory of the file system that is shown.
    pub(super) root: PathBuf,
    pub(super) target: PathBuf,
    pub(super) kind: String,
    pub(super) source: String,
    /// The options of the file system itself, as opposed to those of the mount.
    pub(super) options: String,
}

/// All mounts that a process sees, in the kernel's order: of several on one target the last hides the others.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(Vec<Mount>);

impl Table {
    /// Of the calling thread.
    pub(super) fn read() -> Result<Self, DriverError> {
        Self::read_from(Path::new("/proc/thread-self/mountinfo"))
    }

    pub(super) fn read_from(path: &Path) -> Result<Self, DriverError> {
        let mut table = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut table));
        read.map_err(|source| DriverError::File { doing: "read", path: path.to_owned(), source })?;
        Ok(Self::parse(&table))
    }

    pub(super) fn parse(table: &[u8]) -> Self {
        Self(table.split(|byte| *byte == b'\n').filter_map(parse_line).collect())
    }

    /// What is seen at a target.
    pub(super) fn at(&self, target: &Path) -> Option<&Mount> {
        let target = plain(target);
        self.0.iter().rev().find(|mount| mount.target.as_os_str() == target.as_os_str())
    }

    /// The mount that a path is on. Only the path is looked at: links in it are not followed.
    pub(super) fn holding(&self, path: &Path) -> Option<&Mount> {
        self.0.iter().filter(|mount| path.starts_with(&mount.target)).max_by_key(|mount| mount.target.components().count())
    }

    /// The mounts beneath a mount, those that hang on others first.
    pub(super) fn beneath(&self, id: u64) -> Vec<&Mount> {
        let mut found: Vec<&Mount> = Vec::new();
        let mut next = vec![id];
        while let Some(parent) = next.pop() {
            for mount in self.0.iter().filter(|mount| mount.parent == parent && mount.id != parent) {
                if found.len() < self.0.len() {
                    found.push(mount);
                    next.push(mount.id);
                }
            }
        }
        found.reverse();
        found
    }

    /// The mounts that a mount hides: those on the same target, from the top down.
    pub(super) fn below(&self, mount: &Mount) -> Vec<&Mount> {
        let mut found = Vec::new();
        let mut parent = mount.parent;
        while let Some(below) = self.0.iter().find(|other| other.id == parent && other.target == mount.target) {
            if found.len() >= self.0.len() {
                break;
            }
            found.push(below);
            parent = below.parent;
        }
        found
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.0.iter().any(|mount| mount.id == id)
    }

    pub(super) fn has_device(&self, device: &str) -> bool {
        self.0.iter().any(|mount| mount.device == device)
    }
}

/// Without slashes at its end; the root keeps its one.
pub(super) fn plain(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(bytes.len().min(1), |last| last + 1);
    OsStr::from_bytes(&bytes[..end]).into()
}

/// Whether two sources of network file systems are the same: `host:/dir/` and `host:/dir`, `//host/share` with either slash.
pub(super) fn same_source(one: &str, other: &str) -> bool {
    fn folded(source: &str) -> String {
        let source = source.replace('\\', "/");
        let source = source.strip_prefix("//").map_or(source.clone(), |share| format!("/{share}"));
        let trimmed = source.trim_end_matches('/');
        if trimmed.is_empty() || trimmed.ends_with(':') { format!("{trimmed}/") } else { trimmed.to_owned() }
    }
    folded(one) == folded(other)
}

/// A line cut short, or of a shape that no kernel writes, is none.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = words.iter().position(|word| *word == b"-")?;
    let number = |place: usize| std::str::from_utf8(words.get(place)?).ok()?.parse().ok();
    let text = |place: usize| Some(String::from_utf8_lossy(&unescape(words.get(place)?)).into_owned());
    let path = |place: usize| Some(PathBuf::from(std::ffi::OsString::from_vec(unescape(words.get(place)?))));
    Some(Mount {
        id: number(0)?,
        parent: number(1)?,
        device: text(2)?,
        root: path(3)?,
        target: path(4)?,
        kind: text(separator + 1)?,
        source: text(separator + 2)?,
        options: text(separator + 3).unwrap_or_default(),
    })
}

/// The kernel writes space, tab, line feed, backslash and # as three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, tail)) = rest.split_first() {
        let digits = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(value.unwrap_or(*first));
        rest = if value.is_some() { &tail[3..] } else { tail };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 0:20 / / rw - ext4 /dev/vda1 rw\n\
        30 22 0:30 / /data rw shared:1 master:2 - nfs4 192.168.122.1:/data rw,addr=192.168.122.1\n\
        31 22 0:31 / /home/users/the\\040web rw - cifs //host/users/web rw\n\
        32 22 0:32 / /twice rw - tmpfs one rw\n\
        33 32 0:33 / /twice rw - tmpfs two ro\n\
        34 30 0:34 /x /data/sub rw - ext4 /dev/vdb rw\n\
        35 34 0:35 / /data/sub/deeper rw - ext4 /dev/vdc rw\n\
        cut short\n";

    #[test]
    fn lines_are_read_exactly() {
        let table = Table::parse(TABLE);
        assert_eq!(table.0.len(), 7);
        assert_eq!(table.at(Path::new("/data/")).unwrap().source, "192.168.122.1:/data");
        assert!(table.at(Path::new("/dat")).is_none());
        assert_eq!(table.at(Path::new("/home/users/the web")).unwrap().kind, "cifs");
        let twice = table.at(Path::new("/twice")).unwrap();
        assert_eq!((twice.source.as_str(), twice.options.as_str(), twice.parent), ("two", "ro", 32));
        assert_eq!(table.at(Path::new("/")).unwrap().id, 22);
        assert_eq!(table.at(Path::new("/data/sub")).unwrap().root, Path::new("/x"));
    }

    #[test]
    fn a_path_is_on_the_nearest_mount() {
        let table = Table::parse(TABLE);
        for (path, id) in [("/etc", 22), ("/data", 30), ("/data/a", 30), ("/database", 22), ("/data/sub/x", 34), ("/twice/x", 33)] {
            assert_eq!(table.holding(Path::new(path)).unwrap().id, id, "{path}");
        }
        let beneath: Vec<u64> = table.beneath(30).iter().map(|mount| mount.id).collect();
        assert_eq!(beneath, [35, 34]);
        assert!(table.has_device("0:35") && !table.has_device("0:36"));
    }

    #[test]
    fn sources_are_the_same_but_for_their_slashes() {
        for (one, other) in [("h:/data", "h:/data/"), ("h:/", "h:/"), ("//host/share", "/host/share"), ("//host/share/", "\\\\host\\share")]
        {
            assert!(same_source(one, other), "{one} {other}");
        }
        for (one, other) in [("h:/data", "h:/dat"), ("h:/data", "i:/data"), ("//host/share", "//host/share/x")] {
            assert!(!same_source(one, other), "{one} {other}");
        }
    }
}
