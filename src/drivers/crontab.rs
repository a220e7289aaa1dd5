//! Crontabs: a template copied into cron's directory, whole or not at all.

pub mod drift;

use std::{
    collections::BTreeMap,
    fs::{self, File, FileTimes, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use nix::{libc, unistd};
use tokio::task::spawn_blocking;

use super::{Condition, DriverError, turn::Turn};
use crate::model::{Crontab, ResourceId};

/// A crontab larger than this is a mistake in the configuration.
const LIMIT: u64 = 4 << 20;
/// Who may change a crontab now; one entry for each that is configured.
static TURNS: Mutex<BTreeMap<PathBuf, Turn>> = Mutex::new(BTreeMap::new());
/// cron looks again at its directories when this file is newer.
const SYSTEM_CRONTAB: &str = "/etc/crontab";

/// Copies the template: into a temporary file in the same directory, which then takes the name. Succeeds when it is there
/// already.
///
/// # Errors
/// The template cannot be read, or the directory not be written.
pub async fn start(crontab: &Crontab) -> Result<(), DriverError> {
    let (crontab, target) = (crontab.clone(), installed(crontab)?);
    turn(target).take(move || install(&crontab)).await
}

/// Removes the copy; succeeds when there is none.
///
/// # Errors
/// It is there and cannot be removed.
pub async fn stop(crontab: &Crontab) -> Result<(), DriverError> {
    let (crontab, target) = (crontab.clone(), installed(crontab)?);
    turn(target).take(move || remove(&crontab)).await
}

/// Up when the copy is what the template says, with the right owner and mode; partial when it differs; down when there is
/// none.
///
/// # Errors
/// Either file cannot be read.
pub async fn probe(crontab: &Crontab) -> Result<Condition, DriverError> {
    let crontab = crontab.clone();
    spawn_blocking(move || compare(&crontab)).await.expect("the work neither panics nor is it aborted")
}

/// As [`probe`], and puts back what was edited, deleted, or has an older template.
///
/// # Errors
/// Either file cannot be read.
pub async fn check(crontab: &Crontab) -> Result<Condition, DriverError> {
    let found = probe(crontab).await?;
    if found == Condition::Up {
        return Ok(found);
    }
    let target = installed(crontab)?;
    match start(crontab).await {
        Ok(()) => {
            let what = if found == Condition::Down { "was gone" } else { "was not what its template says" };
            tracing::warn!("{} {what} and has been installed again", target.display());
            Ok(Condition::Up)
        }
        Err(error) => {
            tracing::warn!("{} cannot be mended: {error}", target.display());
            Ok(found)
        }
    }
}

/// What scripts of a site's own make of their crontabs. They know no question but start and stop, and may install elsewhere or
/// something else than the template: how the documented place looked right after a good start is how it is expected to look.
#[derive(Clone, Debug, Default)]
pub struct ByScript(Arc<Mutex<BTreeMap<ResourceId, Condition>>>);

impl ByScript {
    /// After a good start.
    pub async fn started(&self, id: &ResourceId, crontab: &Crontab) {
        let Ok(seen) = probe(crontab).await else { return };
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), seen);
        if seen != Condition::Up && before != Some(seen) {
            let what = if seen == Condition::Down { "installs elsewhere" } else { "installs something else than its template" };
            tracing::info!("{id}: its script {what}; that its crontab is there is not checked beyond that, its start is trusted");
        }
    }

    /// Before a stop.
    pub fn stopping(&self, id: &ResourceId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// What a look at the documented place means.
    #[must_use]
    pub fn judge(&self, id: &ResourceId, seen: Condition) -> Condition {
        let expected = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied();
        match (expected, seen) {
            (Some(Condition::Down), _) | (Some(Condition::Partial), Condition::Partial) => Condition::Up,
            (_, seen) => seen,
        }
    }
}

/// Why cron would silently ignore a file of this name, if it would: names in cron's directories are letters, digits, `_` and
/// `-` on Debian (run-parts), and never begin with a dot or end in `~` anywhere.
#[must_use]
pub fn ignored_by_cron(name: &str) -> Option<&'static str> {
    if name.starts_with('.') || name.ends_with('~') || name.starts_with('#') {
        Some("cron ignores names that begin with '.' or '#' or end in '~'")
    } else if name.ends_with(".rpmsave") || name.ends_with(".rpmorig") || name.ends_with(".rpmnew") {
        Some("cron ignores what a package manager left behind")
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        Some("cron on Debian and Ubuntu ignores names with anything but letters, digits, '_' and '-'")
    } else {
        None
    }
}

/// Where the copy goes.
fn installed(crontab: &Crontab) -> Result<PathBuf, DriverError> {
    let why = "the template has no file name";
    let name = crontab.template.file_name().ok_or_else(|| DriverError::NotACrontab { path: crontab.template.clone(), why })?;
    Ok(crontab.install_dir.join(name))
}

/// Whether there is something to install, and where to.
///
/// # Errors
/// The template is missing or no crontab; the directory is missing.
pub async fn could_start(crontab: &Crontab) -> Result<(), DriverError> {
    let crontab = crontab.clone();
    let look = move || {
        installed(&crontab)?;
        read(&crontab.template)?.ok_or_else(|| at("read", &crontab.template)(io::Error::from_raw_os_error(libc::ENOENT)))?;
        let directory = fs::metadata(&crontab.install_dir).map_err(at("look at", &crontab.install_dir))?;
        if directory.is_dir() { Ok(()) } else { Err(at("look at", &crontab.install_dir)(io::Error::from_raw_os_error(libc::ENOTDIR))) }
    };
    tokio::task::spawn_blocking(look).await.expect("the work neither panics nor is it aborted")
}

fn install(crontab: &Crontab) -> Result<(), DriverError> {
    let target = installed(crontab)?;
    if compare(crontab)? == Condition::Up {
        return Ok(());
    }
    let content = read(&crontab.template)?.ok_or_else(|| at("read", &crontab.template)(io::Error::from_raw_os_error(libc::ENOENT)))?;
    // Begins with a dot, so that no cron takes the half-written file for a crontab.
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = target.with_file_name(format!(".{name}.drcm"));
    write(&temporary, &content).map_err(at("write", &temporary)).inspect_err(|_| discard(&temporary))?;
    fs::rename(&temporary, &target).map_err(at("rename a new file to", &target)).inspect_err(|_| discard(&temporary))?;
    sync_directory(&crontab.install_dir);
    nudge_cron();
    Ok(())
}

fn remove(crontab: &Crontab) -> Result<(), DriverError> {
    let target = installed(crontab)?;
    match fs::remove_file(&target) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        other => other.map_err(at("remove", &target))?,
    }
    sync_directory(&crontab.install_dir);
    nudge_cron();
    Ok(())
}

fn compare(crontab: &Crontab) -> Result<Condition, DriverError> {
    let target = installed(crontab)?;
    let Some(content) = read(&target)? else { return Ok(Condition::Down) };
    let metadata = fs::symlink_metadata(&target).map_err(at("look at", &target))?;
    let as_written = metadata.is_file() && metadata.mode() & 0o7777 == 0o644 && (metadata.uid() == 0 || !unistd::geteuid().is_root());
    // Without its template there is nothing to compare with; what is installed goes on.
    let same = read(&crontab.template)?.is_none_or(|template| template == content);
    Ok(if as_written && same { Condition::Up } else { Condition::Partial })
}

/// A file's content; `None` when there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, DriverError> {
    // O_NONBLOCK: opening a pipe that somebody put there must not wait for its writer.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        other => other.map_err(at("read", path))?,
    };
    if !file.metadata().map_err(at("read", path))?.is_file() {
        return Err(DriverError::NotACrontab { path: path.to_owned(), why: "it is not a regular file" });
    }
    let mut content = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut content).map_err(at("read", path))?;
    if content.len() as u64 > LIMIT {
        return Err(DriverError::NotACrontab { path: path.to_owned(), why: "it is larger than 4 MiB, which no crontab is" });
    }
    Ok(Some(content))
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    // A left-over of ours, or a link that somebody placed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(content)?;
    // The umask may have taken something away, and cron refuses what others may write.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    if !unistd::geteuid().is_root() {
        // Nor is it one if it is not root's.
        fchown(&file, Some(0), Some(0))?;
    }
    file.sync_all()
}

fn discard(path: &Path) {
    let _ = fs::remove_file(path);
}

/// So that the name survives a power cut; where a directory cannot be synced, nothing is lost but that.
fn sync_directory(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

/// Some crons look only at the time of this file. Never made when there is none: it would be an empty one.
fn nudge_cron() {
    let now = SystemTime::now();
    let touch = |file: File| file.set_times(FileTimes::new().set_accessed(now).set_modified(now));
    match OpenOptions::new().append(true).open(SYSTEM_CRONTAB).and_then(touch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!("cannot touch {SYSTEM_CRONTAB}: {error}; cron looks at its directory within a minute anyway");
        }
        _ => {}
    }
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DriverError {
    let path = path.to_owned();
    move |source| DriverError::File { doing, path, source }
}

fn turn(target: PathBuf) -> Turn {
    TURNS.lock().unwrap_or_else(PoisonError::into_inner).entry(target).or_default().clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cron_ignores() {
        for name in ["apps1", "system_crons", "a-b"] {
            assert_eq!(ignored_by_cron(name), None, "{name}");
        }
        for name in [".hidden", "old~", "a.b", "x.rpmsave", "#x", "with space"] {
            assert!(ignored_by_cron(name).is_some(), "{name}");
        }
    }
}
