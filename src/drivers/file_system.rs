//! Mounted file systems: NFS, shares, local disks, other views of directories, memory.
//!
//! Nothing here ever waits for a mount itself: what is mounted is read from the kernel's table, and every call that a dead server
//! could hold up is an errand of [`crate::sys::errand`], with a time. Each mount point has its own order of changes; none
//! waits for another.

mod cifs;
mod credentials;
mod device;
mod error;
mod mount;
mod nfs;
mod options;
mod resolve;
mod table;
mod unmount;
mod users;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::errno::Errno;
use tokio::{
    sync,
    time::{Instant, timeout_at},
};

use self::{
    options::MountOptions,
    table::{Mount, Table, plain, same_source},
};
use super::{Condition, DriverError, Settings, script::log_of};
use crate::{
    model::{FileSystem, Kind, MountSource, Resource, is_bind},
    sys::{
        child::OutputLog,
        errand::{Errand, ErrandError, Errands},
    },
};

pub use error::MountError;

/// Longest wait for the directory above a mount point to be found.
const RESOLVE: Duration = Duration::from_secs(2);
/// Longest wait for a mount that was given up to be over.
const SETTLE: Duration = Duration::from_secs(3);

/// The file systems of a daemon. Cheap to clone.
#[derive(Clone)]
pub struct FileSystems {
    settings: Settings,
    log: OutputLog,
    errands: Errands,
    /// Who may change a mount point now; one entry for each that is configured.
    turns: Arc<Mutex<BTreeMap<PathBuf, Arc<sync::Mutex<()>>>>>,
    /// Mount points whose device was still in use when they were unmounted.
    unfinished: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// A resource, understood.
#[derive(Debug)]
struct Wanted {
    title: String,
    /// As written, without slashes at its end.
    text: String,
    source: MountSource,
    target: PathBuf,
    options: MountOptions,
}

/// What the table shows at a target.
#[derive(Debug)]
enum Seen {
    Nothing,
    Ours(Mount),
    Other(Mount),
}

/// What a mount says when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    /// It does not answer, or not now.
    Silent,
    /// It will never answer again.
    Broken(Errno),
}

impl FileSystems {
    /// With the log of this node.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            log: log_of(settings, Kind::FileSystem),
            settings: settings.clone(),
            errands: Errands::default(),
            turns: Arc::default(),
            unfinished: Arc::default(),
        }
    }

    /// Up when it is mounted, partial when something else is in its place; the mount itself is not touched.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn probe(&self, resource: &Resource, file_system: &FileSystem) -> Result<Condition, DriverError> {
        let wanted = self.wanted(resource, file_system).await?;
        Ok(match self.see(&wanted).await? {
            Seen::Nothing => Condition::Down,
            Seen::Ours(_) => Condition::Up,
            Seen::Other(_) => Condition::Partial,
        })
    }

    /// As [`FileSystems::probe`], and asks the mount itself: stalled when it does not answer within the resource's check
    /// timeout, partial when it will never do so, or when the kernel has made it read-only.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn check(&self, resource: &Resource, file_system: &FileSystem) -> Result<Condition, DriverError> {
        let wanted = self.wanted(resource, file_system).await?;
        let mount = match self.see(&wanted).await? {
            Seen::Nothing => return Ok(Condition::Down),
            Seen::Other(_) => return Ok(Condition::Partial),
            Seen::Ours(mount) => mount,
        };
        if wanted.is_spoilt(&mount) {
            tracing::warn!("{}: the kernel has made it read-only after an error of its disk; see `dmesg`", wanted.title);
            return Ok(Condition::Partial);
        }
        Ok(match self.look(&wanted, resource.options.check_timeout).await {
            Health::Well => Condition::Up,
            Health::Silent => Condition::Stalled,
            Health::Broken(errno) => {
                tracing::warn!("{}: {}", wanted.title, errno.desc());
                Condition::Partial
            }
        })
    }

    /// Mounts it; succeeds when it is mounted and answers. One that does not answer is remounted, then unmounted and mounted.
    ///
    /// # Errors
    /// Something else is mounted there; the kernel, the server or the disk refuse; no answer within the start timeout.
    pub async fn start(&self, resource: &Resource, file_system: &FileSystem) -> Result<(), DriverError> {
        let deadline = Instant::now() + resource.options.start_timeout;
        let wanted = self.wanted(resource, file_system).await?;
        let turn = self.turn(&wanted.target);
        let _turn = turn.lock().await;
        if !self.errands.settle(&wanted.target, SETTLE).await {
            return Err(MountError::Pending { target: wanted.target }.into());
        }
        let check = resource.options.check_timeout;
        match self.see(&wanted).await? {
            Seen::Nothing => {}
            Seen::Other(mount) => {
                return Err(MountError::Taken { target: wanted.target, there: mount.source, wanted: wanted.text }.into());
            }
            Seen::Ours(mount) => {
                let spoilt = wanted.is_spoilt(&mount);
                if !spoilt && self.look(&wanted, check).await == Health::Well {
                    return Ok(());
                }
                let state = if spoilt { "has become read-only" } else { "does not answer" };
                self.say(&format!("{}: {} on {} {state}: mounting it anew", wanted.title, wanted.text, wanted.target.display()));
                if self.remount(&wanted, &mount, check).await.is_ok() && self.is_mended(&wanted, check).await? {
                    return Ok(());
                }
                self.unmount(&wanted, Instant::now() + resource.options.stop_timeout).await?;
            }
        }
        self.mount(&wanted, deadline).await?;
        match self.see(&wanted).await? {
            Seen::Ours(_) => {}
            Seen::Nothing | Seen::Other(_) => {
                return Err(MountError::Vanished { target: wanted.target }.into());
            }
        }
        match self.look(&wanted, check).await {
            Health::Well => {
                self.say(&format!("{}: mounted {} on {}", wanted.title, wanted.text, wanted.target.display()));
                Ok(())
            }
            Health::Silent | Health::Broken(_) => Err(MountError::Silent { target: wanted.target, limit: check }.into()),
        }
    }

    /// Unmounts it; succeeds when it is not mounted. Whoever uses it is ended: see `unmount`.
    ///
    /// # Errors
    /// It is still mounted, or its disk still in use.
    pub async fn stop(&self, resource: &Resource, file_system: &FileSystem) -> Result<(), DriverError> {
        let deadline = Instant::now() + resource.options.stop_timeout;
        let wanted = self.wanted(resource, file_system).await?;
        let turn = self.turn(&wanted.target);
        // A start that was given up has let go already: what it began was killed.
        let Ok(_turn) = timeout_at(deadline, turn.lock()).await else {
            return Err(MountError::Pending { target: wanted.target }.into());
        };
        let settled = self.errands.settle(&wanted.target, SETTLE).await;
        self.unmount(&wanted, deadline).await?;
        if !settled && !wanted.source.is_remote() {
            return Err(MountError::Pending { target: wanted.target }.into());
        }
        Ok(())
    }

    /// Whether source, options and credentials are there, and a server answers at the port of its service.
    ///
    /// # Errors
    /// What is in the way, or no answer within `limit`.
    pub async fn could_start(&self, resource: &Resource, file_system: &FileSystem, limit: Duration) -> Result<(), DriverError> {
        let deadline = Instant::now() + limit;
        let wanted = self.wanted(resource, file_system).await?;
        self.could_mount(&wanted, deadline).await?;
        Ok(())
    }

    async fn wanted(&self, resource: &Resource, file_system: &FileSystem) -> Result<Wanted, DriverError> {
        let mount_options = resource.options.mount_options.as_deref();
        let text = plain(Path::new(&file_system.source)).to_string_lossy().into_owned();
        let text = if text.ends_with(':') { format!("{text}/") } else { text };
        let source = MountSource::parse(&text, is_bind(mount_options)).map_err(|help| MountError::Source { text: text.clone(), help })?;
        let options = MountOptions::parse(mount_options, &source)?;
        let target = self.place(plain(&file_system.target)).await?;
        Ok(Wanted { title: resource.id.to_string(), text, source, target, options })
    }

    /// A target as the kernel writes it: without links above it. What is mounted there is not touched.
    async fn place(&self, target: PathBuf) -> Result<PathBuf, DriverError> {
        let (Some(above), Some(name)) = (target.parent(), target.file_name()) else { return Ok(target) };
        if above == Path::new("/") || Table::read()?.at(&target).is_some() {
            return Ok(target);
        }
        let errand = Errand::Resolve { path: c_path(above)? };
        Ok(match self.errands.send(&target, errand, RESOLVE).await {
            Ok(path) => PathBuf::from(std::ffi::OsString::from_vec(path)).join(name),
            // It will be made.
            Err(_) => target,
        })
    }

    async fn see(&self, wanted: &Wanted) -> Result<Seen, DriverError> {
        let table = Table::read()?;
        let Some(mount) = table.at(&wanted.target) else { return Ok(Seen::Nothing) };
        let ours = match &wanted.source {
            MountSource::Nfs { .. } | MountSource::Share { .. } | MountSource::Memory => same_source(&mount.source, &wanted.text),
            MountSource::Device(path) => is_device(mount, path, &wanted.text),
            MountSource::Tag { directory, name } => is_device(mount, &device::of_tag(directory, name), &wanted.text),
            MountSource::Directory(directory) => self.shows(&table, mount, directory, &wanted.target).await?,
        };
        Ok(if ours { Seen::Ours(mount.clone()) } else { Seen::Other(mount.clone()) })
    }

    /// Whether a mount shows a directory.
    async fn shows(&self, table: &Table, mount: &Mount, directory: &Path, target: &Path) -> Result<bool, DriverError> {
        let is = |directory: &Path| {
            table.holding(directory).filter(|holder| holder.id != mount.id).is_some_and(|holder| {
                let within = directory.strip_prefix(&holder.target).unwrap_or(Path::new(""));
                holder.device == mount.device && plain(&holder.root.join(within)) == mount.root
            })
        };
        if is(directory) {
            return Ok(true);
        }
        // There may be links in its path.
        let resolved = self.errands.send(target, Errand::Resolve { path: c_path(directory)? }, RESOLVE).await;
        Ok(resolved.is_ok_and(|path| is(Path::new(&std::ffi::OsString::from_vec(path)))))
    }

    async fn look(&self, wanted: &Wanted, limit: Duration) -> Health {
        let Ok(target) = c_path(&wanted.target) else { return Health::Silent };
        match self.errands.send(&wanted.target, Errand::Look { target }, limit).await {
            // A server that does not let us in is alive.
            Ok(_) | Err(ErrandError::Refused(Errno::EACCES | Errno::EPERM)) => Health::Well,
            Err(ErrandError::Refused(errno @ (Errno::ESTALE | Errno::ENOTCONN | Errno::ESHUTDOWN | Errno::ENODEV | Errno::ENXIO))) => {
                Health::Broken(errno)
            }
            Err(error) => {
                tracing::warn!("{}: asked {} for life: {error}", wanted.title, wanted.target.display());
                Health::Silent
            }
        }
    }

    async fn is_mended(&self, wanted: &Wanted, limit: Duration) -> Result<bool, DriverError> {
        Ok(match self.see(wanted).await? {
            Seen::Ours(mount) => !wanted.is_spoilt(&mount) && self.look(wanted, limit).await == Health::Well,
            Seen::Nothing | Seen::Other(_) => false,
        })
    }

    /// For the daemon's log and for that of file systems.
    fn say(&self, text: &str) {
        tracing::info!("{text}");
        self.log.note(text);
    }

    fn warn(&self, text: &str) {
        tracing::warn!("{text}");
        self.log.note(&format!("WARNING: {text}"));
    }

    fn turn(&self, target: &Path) -> Arc<sync::Mutex<()>> {
        locked(&self.turns).entry(target.to_owned()).or_default().clone()
    }
}

/// Whether what a script mounts is there, from the kernel's table alone.
///
/// # Errors
/// The table cannot be read.
pub fn mounted(file_system: &FileSystem) -> Result<Condition, DriverError> {
    let table = Table::read()?;
    Ok(match table.at(&file_system.target) {
        None => Condition::Down,
        Some(mount) if same_source(&mount.source, &file_system.source) => Condition::Up,
        Some(_) => Condition::Partial,
    })
}

impl Wanted {
    /// Mounted to be written, and read-only now: what the kernel does to a disk with errors.
    fn is_spoilt(&self, mount: &Mount) -> bool {
        let on_disk = matches!(self.source, MountSource::Device(_) | MountSource::Tag { .. });
        on_disk && !self.options.is_read_only() && mount.options.split(',').any(|word| word == "ro")
    }
}

impl From<MountError> for DriverError {
    fn from(error: MountError) -> Self {
        Self::Mount(Box::new(error))
    }
}

fn is_device(mount: &Mount, path: &Path, text: &str) -> bool {
    mount.source == text
        || Path::new(&mount.source) == path
        || device::find(path).is_ok_and(|device| Path::new(&mount.source) == device.path || mount.device == device.number)
}

fn c_path(path: &Path) -> Result<CString, MountError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| MountError::Source { text: path.display().to_string(), help: "it holds a zero byte; write it without" })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
