//! Unmounting, gently first: plainly; without those who use it; by force; and at last out of sight.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use nix::{errno::Errno, libc, mount::MntFlags};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use super::{
    FileSystems, Seen, Wanted, c_path, device,
    error::MountError,
    is_device, locked,
    mount::left,
    table::{Mount, Table, same_source},
    users,
};
use crate::{
    drivers::DriverError,
    model::MountSource,
    sys::{
        errand::{Errand, ErrandError},
        process::Found,
    },
};

/// Between TERM and KILL, at most.
const TERM_GRACE: Duration = Duration::from_secs(3);
/// For those who were killed to be gone.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// A look through /proc may hang on a process that hangs.
const LOOK: Duration = Duration::from_secs(5);
/// Mounts on one target that are taken away one after another.
const LAYERS: usize = 16;
/// For the last of a file system to be written and its disk to be let go.
const RELEASE: Duration = Duration::from_secs(5);

impl FileSystems {
    /// Takes away what is mounted on the target, ours and what hides it; a mount of somebody else alone is left where it is.
    pub(super) async fn unmount(&self, wanted: &Wanted, deadline: Instant) -> Result<(), DriverError> {
        let mut number = None;
        for _ in 0..LAYERS {
            let mount = match self.see(wanted).await? {
                Seen::Nothing => return self.let_go(wanted, number, deadline).await,
                Seen::Ours(mount) => mount,
                Seen::Other(mount) if hides_ours(wanted, &mount)? => mount,
                Seen::Other(mount) => {
                    self.say(&format!("{}: {} is mounted on {}, which is left alone", wanted.title, mount.source, wanted.target.display()));
                    return self.let_go(wanted, number, deadline).await;
                }
            };
            number = Some(mount.device.clone());
            self.take_away(wanted, &mount, deadline).await?;
        }
        let why = "too many mounts on top of one another".to_owned();
        Err(MountError::Busy { target: wanted.target.clone(), why }.into())
    }

    /// The ladder, for the mount that is seen on the target.
    async fn take_away(&self, wanted: &Wanted, mount: &Mount, deadline: Instant) -> Result<(), DriverError> {
        let gone = |how: &str| self.say(&format!("{}: unmounted {}{how}", wanted.title, wanted.target.display()));
        let plainly = MntFlags::UMOUNT_NOFOLLOW;
        if self.try_once(wanted, mount, plainly, deadline).await?.is_none() {
            gone("");
            return Ok(());
        }
        let ended = self.end_users(wanted, mount, deadline).await?;
        let told = if ended.is_empty() { String::new() } else { format!(", after ending those who used it: {}", ended.join(", ")) };
        // Force is for a server that does not answer; a disk knows no such thing.
        let remote = wanted.source.is_remote() || mount.kind.starts_with("fuse") || mount.kind.starts_with("nfs");
        let steps = [(!ended.is_empty(), plainly, ""), (remote, plainly | MntFlags::MNT_FORCE, " by force")];
        for (_, flags, how) in steps.into_iter().filter(|(applies, ..)| *applies) {
            if self.try_once(wanted, mount, flags, deadline).await?.is_none() {
                gone(&format!("{how}{told}"));
                return Ok(());
            }
        }
        if let Some(why) = self.try_once(wanted, mount, plainly | MntFlags::MNT_DETACH, deadline).await? {
            return Err(MountError::Busy { target: wanted.target.clone(), why }.into());
        }
        let target = wanted.target.display();
        self.warn(&format!("{}: took {target} out of sight (lazy unmount): something still holds it{told}", wanted.title));
        if matches!(wanted.source, MountSource::Device(_) | MountSource::Tag { .. }) {
            locked(&self.unfinished).insert(wanted.target.clone());
        }
        Ok(())
    }

    /// One umount2(2), after what is mounted beneath: why the mount is still there. `None` when it is gone from the table,
    /// whatever the call said: it may still be writing.
    async fn try_once(&self, wanted: &Wanted, mount: &Mount, flags: MntFlags, deadline: Instant) -> Result<Option<String>, DriverError> {
        // Each step leaves time to those after it.
        let limit = |deadline| (left(deadline) / 4).max(Duration::from_millis(500));
        if !flags.contains(MntFlags::MNT_DETACH) {
            for beneath in Table::read()?.beneath(mount.id) {
                let errand = Errand::Unmount { target: c_path(&beneath.target)?, flags };
                if self.errands.send(&wanted.target, errand, limit(deadline)).await.is_ok() {
                    self.say(&format!("{}: unmounted {}, which was mounted beneath it", wanted.title, beneath.target.display()));
                }
            }
        }
        let errand = Errand::Unmount { target: c_path(&wanted.target)?, flags };
        let answer = self.errands.send(&wanted.target, errand, limit(deadline)).await;
        if !Table::read()?.has(mount.id) {
            return Ok(None);
        }
        let why = match answer {
            Ok(_) => "the kernel said that it was done, and it was not".to_owned(),
            Err(ErrandError::Refused(Errno::EBUSY)) => "it is in use".to_owned(),
            Err(other) => other.to_string(),
        };
        Ok(Some(why))
    }

    /// TERM and then KILL to every process that uses the mount or one beneath it, until none is left; who was told.
    async fn end_users(&self, wanted: &Wanted, mount: &Mount, deadline: Instant) -> Result<Vec<String>, DriverError> {
        let mut ended = BTreeSet::new();
        for (signal, grace) in [(libc::SIGTERM, TERM_GRACE), (libc::SIGKILL, KILL_GRACE)] {
            let until = Instant::now() + grace.min(left(deadline) / 4);
            let mut told = BTreeSet::new();
            loop {
                let users = self.users(mount).await?;
                if users.is_empty() {
                    return Ok(ended.into_iter().collect());
                }
                for found in &users {
                    // Once each; but whoever comes while we look is told as well.
                    if !told.insert(found.pid) {
                        continue;
                    }
                    let name = format!("{} ({})", found.command, found.pid);
                    let word = if signal == libc::SIGTERM { "TERM" } else { "KILL" };
                    self.say(&format!("{}: {} is used by {name}: {word}", wanted.title, wanted.target.display()));
                    if let Err(errno) = found.signal(signal) {
                        tracing::warn!("{}: cannot signal {name}: {}", wanted.title, errno.desc());
                    }
                    ended.insert(name);
                }
                if Instant::now() >= until {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(ended.into_iter().collect())
    }

    async fn users(&self, mount: &Mount) -> Result<Vec<Found>, DriverError> {
        let id = mount.id;
        let look = move || {
            let table = Table::read()?;
            let mounts = table.beneath(id).iter().map(|mount| mount.id).chain([id]).collect();
            users::users(&table, &mounts).map_err(|source| DriverError::File { doing: "list", path: PathBuf::from("/proc"), source })
        };
        match timeout(LOOK, spawn_blocking(look)).await {
            Ok(found) => found.expect("the work neither panics nor is it aborted"),
            Err(_) => {
                tracing::warn!("looking through /proc for the users of {} hangs", mount.target.display());
                Ok(Vec::new())
            }
        }
    }

    /// A disk may be mounted by one node only: it must be free, not merely out of sight.
    async fn let_go(&self, wanted: &Wanted, unmounted: Option<String>, deadline: Instant) -> Result<(), DriverError> {
        let path = match &wanted.source {
            MountSource::Device(path) => path.clone(),
            MountSource::Tag { directory, name } => device::of_tag(directory, name),
            MountSource::Nfs { .. } | MountSource::Share { .. } | MountSource::Directory(_) | MountSource::Memory => return Ok(()),
        };
        if unmounted.is_none() && !locked(&self.unfinished).contains(&wanted.target) {
            return Ok(());
        }
        // A disk that has gone holds nothing.
        let Ok(found) = device::find(&path) else { return Ok(()) };
        let until = Instant::now() + RELEASE.min(left(deadline));
        loop {
            let errand = Errand::Claim { device: c_path(&found.path)? };
            match self.errands.send(&found.path, errand, left(deadline)).await {
                Err(ErrandError::Refused(Errno::EBUSY)) if Instant::now() < until => sleep(Duration::from_millis(20)).await,
                Err(ErrandError::Refused(Errno::EBUSY)) => break,
                Ok(_) | Err(ErrandError::Refused(_)) => {
                    locked(&self.unfinished).remove(&wanted.target);
                    return Ok(());
                }
                Err(why) => return Err(MountError::Errand { doing: "see whether anybody uses", path: found.path, why }.into()),
            }
        }
        locked(&self.unfinished).insert(wanted.target.clone());
        let number = unmounted.unwrap_or_else(|| found.number.clone());
        let holders = timeout(LOOK, spawn_blocking(move || users::holders_elsewhere(&number))).await;
        let holders = holders.ok().and_then(Result::ok).unwrap_or_default();
        Err(MountError::InUse { device: found.path, holders }.into())
    }
}

/// Whether one of the mounts below a foreign one is ours: it is on the same target, and hidden.
fn hides_ours(wanted: &Wanted, mount: &Mount) -> Result<bool, DriverError> {
    let table = Table::read()?;
    Ok(table.below(mount).iter().any(|below| match &wanted.source {
        MountSource::Device(path) => is_device(below, path, &wanted.text),
        MountSource::Tag { directory, name } => is_device(below, &device::of_tag(directory, name), &wanted.text),
        MountSource::Nfs { .. } | MountSource::Share { .. } | MountSource::Memory => same_source(&below.source, &wanted.text),
        // What is hidden cannot be compared any more with what it shows.
        MountSource::Directory(_) => true,
    }))
}
