//! The files of one laboratory: a directory of its own under the temporary directory, removed with it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::id,
};

use sha1::{Digest as _, Sha1};

use super::{LabError, Plan};

/// What every directory is called before the process id.
const PREFIX: &str = "drcm-lab-";

pub(super) struct Directory(PathBuf);

impl Directory {
    /// Writes cm.cfg and the auth files, and makes the directories that the configuration names.
    pub fn create(plan: &Plan) -> Result<Self, LabError> {
        remove_stale();
        let directory = Self(fresh()?);
        let path = directory.path();
        for sub in ["run", "log", "spool", "cron", "auth", "nodes", "tmp"] {
            make(&path.join(sub))?;
        }
        for node in &plan.nodes {
            for sub in ["", "log", "spool", "cron", "tmp"] {
                make(&path.join("nodes").join(&node.name).join(sub))?;
            }
        }
        write_key(&path.join("auth"))?;
        write(&path.join("cm.cfg"), plan.text(path).as_bytes(), 0o644)?;
        Ok(directory)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is found by the next laboratory.
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A new key, as the documented commands make it: 2,048 random bytes and the hex of their SHA-1.
pub(super) fn write_key(auth: &Path) -> Result<(), LabError> {
    let mut key = vec![0; 2048];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut key))
        .map_err(|error| LabError::system("reading /dev/urandom", error))?;
    let digest: String = Sha1::digest(&key).iter().map(|byte| format!("{byte:02x}")).collect();
    write(&auth.join("authkey"), &key, 0o600)?;
    write(&auth.join("authkey.sha1"), format!("{digest}\n").as_bytes(), 0o600)
}

pub(super) fn make(path: &Path) -> Result<(), LabError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|error| LabError::system(format!("making {}", path.display()), error))
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), LabError> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .map_err(|error| LabError::system(format!("writing {}", path.display()), error))
}

/// A directory that did not exist before, readable by applications that run as other users, writable by us alone.
fn fresh() -> Result<PathBuf, LabError> {
    for number in 0..1000 {
        let path = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", id()));
        match DirBuilder::new().mode(0o755).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(LabError::system(format!("making {}", path.display()), error)),
        }
    }
    Err(LabError::system("making a directory of our own", std::io::Error::from(std::io::ErrorKind::AlreadyExists)))
}

/// Removes what laboratories left whose process was killed before it could tidy up.
fn remove_stale() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another user's, perhaps: then it is not ours to remove.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
