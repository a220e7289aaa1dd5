//! Local disks: which device a tag names, and what is on it.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::sys::stat::{major, minor};

use super::error::MountError;
use crate::sys::errand::SUPERBLOCK;

/// A block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// The name that the kernel gave it, or that it was configured by where links do not lead further.
    pub(super) path: PathBuf,
    /// As the mount table writes it: `major:minor`.
    pub(super) number: String,
}

/// The device that a path means. /dev is in memory: to look there cannot hang.
pub(super) fn find(path: &Path) -> Result<Device, MountError> {
    let missing = || MountError::NoDevice { path: path.to_owned() };
    let real = fs::canonicalize(path).map_err(|_| missing())?;
    let metadata = fs::metadata(&real).map_err(|_| missing())?;
    if !metadata.file_type().is_block_device() {
        return Err(missing());
    }
    let number = format!("{}:{}", major(metadata.rdev()), minor(metadata.rdev()));
    Ok(Device { path: real, number })
}

/// Where a tag is looked up.
pub(super) fn of_tag(directory: &str, name: &str) -> PathBuf {
    Path::new("/dev/disk").join(directory).join(name)
}

/// Offset, what stands there, and the type that says so. Ext 2 and 3 are the same to the driver of ext 4.
const MARKS: [(i64, &[u8], &str); 12] = [
    (0x438, b"\x53\xef", "ext4"),
    (0, b"XFSB", "xfs"),
    (0x10040, b"_BHRfS_M", "btrfs"),
    (0x400, b"\x10\x20\xf5\xf2", "f2fs"),
    (0, b"hsqs", "squashfs"),
    (0x400, b"\xe2\xe1\xf5\xe0", "erofs"),
    (0x8001, b"CD001", "iso9660"),
    (3, b"NTFS    ", "ntfs3"),
    (3, b"EXFAT   ", "exfat"),
    (0x52, b"FAT32   ", "vfat"),
    (0x36, b"FAT", "vfat"),
    (0x10000, b"\x01\x16\x19\x70", "gfs2"),
];

/// The type of the file system whose superblock this is; `pieces` as an errand brings them.
pub(super) fn type_in(pieces: &[u8]) -> Option<&'static str> {
    let at = |offset: i64, length: usize| {
        let mut begin = 0;
        for (from, size) in SUPERBLOCK {
            if let Ok(within) = usize::try_from(offset - from)
                && within + length <= size
            {
                return pieces.get(begin + within..begin + within + length);
            }
            begin += size;
        }
        None
    };
    MARKS.iter().find(|(offset, mark, _)| at(*offset, mark.len()) == Some(*mark)).map(|(.., name)| *name)
}

/// The types that the kernel has and that need a device.
pub(super) fn known_types(proc_file_systems: &str) -> Vec<String> {
    proc_file_systems.lines().filter_map(|line| line.strip_prefix('\t')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(offset: usize, mark: &[u8]) -> Vec<u8> {
        let mut disk = vec![0; 0x11000];
        disk[offset..offset + mark.len()].copy_from_slice(mark);
        SUPERBLOCK.iter().flat_map(|(from, size)| disk[usize::try_from(*from).unwrap()..][..*size].to_vec()).collect()
    }

    #[test]
    fn superblocks_are_known_by_their_marks() {
        for (offset, mark, name) in MARKS {
            assert_eq!(type_in(&pieces(usize::try_from(offset).unwrap(), mark)), Some(name));
        }
        assert_eq!(type_in(&pieces(0, b"nothing")), None);
        assert_eq!(type_in(&[]), None);
    }

    #[test]
    fn types_without_a_device_are_left_out() {
        assert_eq!(known_types("nodev\tsysfs\n\text4\nnodev\ttmpfs\n\txfs\n"), ["ext4", "xfs"]);
    }

    #[test]
    fn what_is_no_device_is_told() {
        for path in ["/dev/no-such-disk", "/dev/null", "/etc/passwd"] {
            assert!(find(Path::new(path)).unwrap_err().to_string().contains("blkid"), "{path}");
        }
        assert_eq!(of_tag("by-uuid", "0a"), Path::new("/dev/disk/by-uuid/0a"));
    }
}
