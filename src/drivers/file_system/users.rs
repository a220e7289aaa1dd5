//! Who uses a mount: this very mount, by its id. Only /proc is read; the mount itself is never touched, since it may hang.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::table::Table;
use crate::sys::process::{self, Found};

/// Mapped files are read up to this size.
const MAPS_LIMIT: u64 = 8 << 20;
/// Most mount namespaces that are named.
const NAMED: usize = 8;

/// The processes that use any of these mounts: by working directory, root, program, open or mapped file. Never the first
/// process, never ourselves.
///
/// # Errors
/// /proc cannot be listed.
pub(super) fn users(table: &Table, mounts: &BTreeSet<u64>) -> io::Result<Vec<Found>> {
    let own = std::process::id().cast_signed();
    let namespace = fs::read_link("/proc/thread-self/ns/mnt").ok();
    let used = process::all()?.into_iter().filter(|pid| *pid > 1 && *pid != own).filter(|pid| {
        let here = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok() == namespace;
        opens(*pid, mounts) || (here && stands_in(*pid, table, mounts))
    });
    // The id may be another's by now: it is looked at again once its handle is held.
    Ok(used.filter_map(|pid| process::found(pid).filter(|_| Path::new(&format!("/proc/{pid}")).exists())).collect())
}

/// `name (pid)` of processes in other mount namespaces that have a device mounted.
pub(super) fn holders_elsewhere(device: &str) -> Vec<String> {
    let mut namespaces: BTreeSet<PathBuf> = fs::read_link("/proc/thread-self/ns/mnt").into_iter().collect();
    let mut holders = Vec::new();
    for pid in process::all().unwrap_or_default() {
        let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { continue };
        if !namespaces.insert(namespace) {
            continue;
        }
        let table = Table::read_from(Path::new(&format!("/proc/{pid}/mountinfo")));
        if table.is_ok_and(|table| table.has_device(device)) && holders.len() < NAMED {
            let name = process::found(pid).map_or_else(String::new, |found| found.command);
            holders.push(format!("the mount namespace of {name} ({pid})"));
        }
    }
    holders
}

/// A file of one of these mounts is open: the kernel tells the mount of each descriptor.
fn opens(pid: i32, mounts: &BTreeSet<u64>) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return false };
    entries.flatten().any(|entry| {
        let mut text = String::new();
        let read = File::open(entry.path()).and_then(|file| file.take(4096).read_to_string(&mut text));
        let mount = text.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse().ok());
        read.is_ok() && mount.is_some_and(|mount: u64| mounts.contains(&mount))
    })
}

/// A directory or file that it works with is on one of these mounts, as far as the paths tell.
fn stands_in(pid: i32, table: &Table, mounts: &BTreeSet<u64>) -> bool {
    let on = |path: &Path| table.holding(path).is_some_and(|mount| mounts.contains(&mount.id));
    let linked = ["cwd", "root", "exe"].iter().any(|name| fs::read_link(format!("/proc/{pid}/{name}")).is_ok_and(|path| on(&path)));
    linked || mapped(pid).iter().any(|path| on(path))
}

/// The files that a process has mapped.
fn mapped(pid: i32) -> BTreeSet<PathBuf> {
    let mut text = Vec::new();
    if File::open(format!("/proc/{pid}/maps")).and_then(|file| file.take(MAPS_LIMIT).read_to_end(&mut text)).is_err() {
        return BTreeSet::new();
    }
    // Five columns without a slash, and the path.
    let path = |line: &[u8]| line.iter().position(|byte| *byte == b'/').map(|at| std::ffi::OsStr::from_bytes(&line[at..]).into());
    text.split(|byte| *byte == b'\n').filter_map(path).collect()
}
