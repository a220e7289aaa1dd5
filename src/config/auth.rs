//! The two auth files that every node of a cluster has alike: `authkey`, and its SHA-1 in `authkey.sha1`.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use sha1::{Digest, Sha1};

/// Fewest bytes of a key: with fewer it could be guessed.
const MIN_KEY: usize = 32;
/// Most bytes of a key. The documented command makes 2048.
const MAX_KEY: usize = 64 * 1024;
/// Most bytes of the file with the digest.
const MAX_DIGEST_FILE: usize = 4_096;
/// Hexadecimal characters of a SHA-1.
const DIGEST_LENGTH: usize = 40;

/// The secret that the nodes of a cluster share. Never shown; overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthKey(Vec<u8>);

impl AuthKey {
    /// A key of these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for deriving keys from them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthKey({} bytes)", self.0.len())
    }
}

impl Drop for AuthKey {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the optimiser from leaving the zeros out.
        std::hint::black_box(&mut self.0);
    }
}

/// What is wrong with the auth files: what, where, and the command that mends it.
#[derive(Debug, thiserror::Error)]
pub enum AuthFault {
    /// The directory or a file is not there.
    #[error("{} does not exist; {}", path.display(), make(path))]
    Missing {
        /// What is missing.
        path: PathBuf,
    },
    /// It could not be opened or read.
    #[error("{} cannot be read: {source}; run as root or as the owner of the file", path.display())]
    Unreadable {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a regular file, or not a directory.
    #[error("{} is no {expected}; remove it and {}", path.display(), make(path))]
    NotRegular {
        /// What is of the wrong type.
        path: PathBuf,
        /// `regular file` or `directory`.
        expected: &'static str,
    },
    /// Group or others may read, write or execute the file.
    #[error("{} has mode {mode:04o}: others than its owner have access; chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Group or others may put another file in place of the key.
    #[error("{} has mode {mode:04o}: others than its owner may replace the files in it; chmod 700 {}", path.display(), path.display())]
    DirectoryWritable {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody who is neither root nor the cluster's user.
    #[error("{} belongs to user id {owner}, neither root nor the cluster user; chown root {}", path.display(), path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The key is too short or too long.
    #[error("{} has {size} bytes, where {MIN_KEY} to {MAX_KEY} are expected; {}", path.display(), make(path))]
    Size {
        /// The key file.
        path: PathBuf,
        /// Its size in bytes, or one more than the most.
        size: usize,
    },
    /// The digest file does not hold 40 hexadecimal characters.
    #[error("{} does not hold the 40 hexadecimal characters of a SHA-1; {}", path.display(), make(path))]
    NoDigest {
        /// The digest file.
        path: PathBuf,
    },
    /// The digest is that of another key.
    #[error("{} is not the SHA-1 of {}: one of the two was replaced or damaged; copy both from a node that works, or {}", digest.display(), key.display(), make(digest))]
    Mismatch {
        /// The key file.
        key: PathBuf,
        /// The digest file.
        digest: PathBuf,
    },
}

/// Reads the auth files of a daemon that runs as this process does: they must belong to root or to the process's user.
///
/// # Errors
/// The first of [`auth_faults`].
pub fn load_auth(dir: &Path) -> Result<AuthKey, AuthFault> {
    load(dir, &[0, users::get_effective_uid()]).map_err(first)
}

/// Reads the auth files of a daemon that runs as `cluster_user`: they must belong to root or to that user.
///
/// # Errors
/// The first of [`auth_faults`].
pub fn load_auth_for(dir: &Path, cluster_user: &str) -> Result<AuthKey, AuthFault> {
    load(dir, &owners(cluster_user)).map_err(first)
}

/// Longest token that is read, in bytes.
const LONGEST_TOKEN: u64 = 4096;

/// A token from a file that nobody else may read, named by this key of the configuration. Never shown.
///
/// # Errors
/// A sentence: there is no such file, others may read it, or it holds anything but one word.
pub fn secret(path: &Path, key: &str) -> Result<String, String> {
    let fault = |why: String| format!("the token in {} ({key}) cannot be used: {why}", path.display());
    let file = fs::File::open(path).map_err(|error| fault(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| fault(error.to_string()))?;
    if !metadata.is_file() || metadata.mode() & 0o077 != 0 {
        return Err(fault(format!("others may read it, or it is no file; chmod 600 {}", path.display())));
    }
    let mut text = String::new();
    file.take(LONGEST_TOKEN).read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() || !token.chars().all(|letter| letter.is_ascii_graphic()) {
        return Err(fault("it is empty, or holds more than one word".to_owned()));
    }
    Ok(token.to_owned())
}

/// Everything that is wrong with the auth files of a daemon that runs as `cluster_user`; empty when they are good.
#[must_use]
pub fn auth_faults(dir: &Path, cluster_user: &str) -> Vec<AuthFault> {
    load(dir, &owners(cluster_user)).err().unwrap_or_default()
}

fn owners(cluster_user: &str) -> Vec<u32> {
    std::iter::once(0).chain(users::get_user_by_name(cluster_user).map(|user| user.uid())).collect()
}

fn first(faults: Vec<AuthFault>) -> AuthFault {
    faults.into_iter().next().expect("a key that was not loaded has a fault")
}

fn load(dir: &Path, owners: &[u32]) -> Result<AuthKey, Vec<AuthFault>> {
    let (key_path, digest_path) = (dir.join("authkey"), dir.join("authkey.sha1"));
    let mut faults = Vec::new();
    if !check_directory(dir, owners, &mut faults) {
        return Err(faults);
    }
    let key = read(&key_path, MAX_KEY, owners, &mut faults).map(AuthKey::new);
    let digest = read(&digest_path, MAX_DIGEST_FILE, owners, &mut faults);
    let key = key.filter(|key| {
        let good = (MIN_KEY..=MAX_KEY).contains(&key.0.len());
        if !good {
            faults.push(AuthFault::Size { path: key_path.clone(), size: key.0.len() });
        }
        good
    });
    let digest = digest.and_then(|bytes| {
        let digest = digest_in(&bytes);
        if digest.is_none() {
            faults.push(AuthFault::NoDigest { path: digest_path.clone() });
        }
        digest
    });
    if let (Some(key), Some(digest)) = (&key, &digest)
        && *digest != hexadecimal(&Sha1::digest(&key.0))
    {
        faults.push(AuthFault::Mismatch { key: key_path, digest: digest_path });
    }
    match key {
        Some(key) if faults.is_empty() => Ok(key),
        Some(_) | None => Err(faults),
    }
}

/// Whether it is worth looking into the directory.
fn check_directory(dir: &Path, owners: &[u32], faults: &mut Vec<AuthFault>) -> bool {
    let path = dir.to_path_buf();
    let metadata = match fs::metadata(dir) {
        Ok(metadata) => metadata,
        Err(error) => {
            faults.push(unreadable(path, error));
            return false;
        }
    };
    if !metadata.is_dir() {
        faults.push(AuthFault::NotRegular { path, expected: "directory" });
        return false;
    }
    if !owners.contains(&metadata.uid()) {
        faults.push(AuthFault::Owner { path: path.clone(), owner: metadata.uid() });
    }
    if metadata.mode() & 0o022 != 0 {
        faults.push(AuthFault::DirectoryWritable { path, mode: metadata.mode() & 0o7777 });
    }
    true
}

/// At most `limit` + 1 bytes of a file, whose type, owner and mode are examined on the open file, so that it cannot be exchanged in between.
fn read(path: &Path, limit: usize, owners: &[u32], faults: &mut Vec<AuthFault>) -> Option<Vec<u8>> {
    let opened: io::Result<(File, fs::Metadata)> = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .and_then(|file| file.metadata().map(|metadata| (file, metadata)));
    let (file, metadata) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            faults.push(unreadable(path.to_path_buf(), error));
            return None;
        }
    };
    if !metadata.is_file() {
        faults.push(AuthFault::NotRegular { path: path.to_path_buf(), expected: "regular file" });
        return None;
    }
    if !owners.contains(&metadata.uid()) {
        faults.push(AuthFault::Owner { path: path.to_path_buf(), owner: metadata.uid() });
    }
    if metadata.mode() & 0o077 != 0 {
        faults.push(AuthFault::Exposed { path: path.to_path_buf(), mode: metadata.mode() & 0o7777 });
    }
    // Room for all at once: a vector that grows would leave pieces of the key behind in freed memory.
    let mut bytes = Vec::with_capacity(limit + 2);
    match file.take(limit as u64 + 1).read_to_end(&mut bytes) {
        Ok(_) => Some(bytes),
        Err(source) => {
            faults.push(AuthFault::Unreadable { path: path.to_path_buf(), source });
            None
        }
    }
}

fn unreadable(path: PathBuf, source: io::Error) -> AuthFault {
    if source.kind() == io::ErrorKind::NotFound { AuthFault::Missing { path } } else { AuthFault::Unreadable { path, source } }
}

/// The digest in a file that holds nothing else but white space.
fn digest_in(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    (text.len() == DIGEST_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The documented commands that make a file (of one node; the others get copies).
fn make(path: &Path) -> String {
    let shown = path.display();
    match path.file_name().and_then(|name| name.to_str()) {
        Some("authkey") => format!(
            "make it with: dd if=/dev/urandom bs=1024 count=2 > {shown}; sha1sum {shown} | cut -b1-40 > {shown}.sha1; chmod 600 {shown} {shown}.sha1 (then copy both to every node)"
        ),
        Some("authkey.sha1") => {
            let key = path.with_extension("");
            let key = key.display();
            format!("make it with: sha1sum {key} | cut -b1-40 > {shown}; chmod 600 {shown}")
        }
        Some(_) | None => format!(
            "make it with: mkdir -pv {shown}; chmod 700 {shown}; dd if=/dev/urandom bs=1024 count=2 > {shown}/authkey; sha1sum {shown}/authkey | cut -b1-40 > {shown}/authkey.sha1; chmod 600 {shown}/authkey {shown}/authkey.sha1 (then copy both to every node)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory with good auth files, removed at the end.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("drcm-auth-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            let files = Self(dir);
            mode(&files.0, 0o700);
            files.write("authkey", &[7; 2_048]);
            files.write("authkey.sha1", format!("{}\n", hexadecimal(&Sha1::digest([7; 2_048]))).as_bytes());
            files
        }

        fn write(&self, name: &str, bytes: &[u8]) {
            fs::write(self.0.join(name), bytes).unwrap();
            mode(&self.0.join(name), 0o600);
        }

        fn said(&self) -> String {
            load_auth(&self.0).unwrap_err().to_string()
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn good_files_are_loaded_and_not_shown() {
        let files = Files::new("good");
        let key = load_auth(&files.0).unwrap();
        assert_eq!(key.bytes(), [7; 2_048]);
        assert_eq!(format!("{key:?}"), "AuthKey(2048 bytes)");
        assert!(auth_faults(&files.0, "root").is_empty() || users::get_effective_uid() != 0);
        // Without a newline, and in capitals.
        files.write("authkey.sha1", hexadecimal(&Sha1::digest([7; 2_048])).to_uppercase().as_bytes());
        assert!(load_auth(&files.0).is_ok());
    }

    #[test]
    fn every_fault_names_the_file_and_the_remedy() {
        let files = Files::new("faults");
        let (key, digest) = (files.0.join("authkey"), files.0.join("authkey.sha1"));
        for open in [0o644, 0o640, 0o604, 0o610] {
            mode(&key, open);
            assert!(files.said().contains(&format!("has mode {open:04o}")), "{}", files.said());
            assert!(files.said().ends_with(&format!("chmod 600 {}", key.display())));
        }
        mode(&key, 0o600);
        mode(&digest, 0o620);
        assert!(files.said().contains("authkey.sha1 has mode 0620"));
        files.write("authkey.sha1", b"not a digest\n");
        assert!(files.said().contains("40 hexadecimal characters") && files.said().contains("sha1sum"));
        files.write("authkey.sha1", format!("{}\n", "0".repeat(40)).as_bytes());
        assert!(files.said().contains("is not the SHA-1 of"));
        fs::remove_file(&digest).unwrap();
        assert!(files.said().contains("authkey.sha1 does not exist; make it with: sha1sum"));
        for size in [0, 31, MAX_KEY + 1, MAX_KEY * 2] {
            files.write("authkey", &vec![1; size]);
            assert!(files.said().contains("authkey.sha1 does not exist"));
            assert!(
                load(&files.0, &[0, users::get_effective_uid()]).unwrap_err().iter().any(|fault| matches!(fault, AuthFault::Size { .. })),
                "{size}"
            );
        }
        fs::remove_file(&key).unwrap();
        assert!(files.said().contains("dd if=/dev/urandom bs=1024 count=2"));
        fs::create_dir(&key).unwrap();
        assert!(files.said().contains("is no regular file"));
        fs::remove_dir(&key).unwrap();
        symlink("/dev/zero", &key).unwrap();
        assert!(files.said().contains("is no regular file"));
    }

    #[test]
    fn the_directory_counts_too() {
        let files = Files::new("directory");
        mode(&files.0, 0o730);
        assert!(files.said().contains("others than its owner may replace the files in it"));
        mode(&files.0, 0o750);
        assert!(load_auth(&files.0).is_ok());
        assert!(load_auth(&files.0.join("none")).unwrap_err().to_string().contains("mkdir -pv"));
        assert!(load_auth(&files.0.join("authkey")).unwrap_err().to_string().contains("is no directory"));
    }

    #[test]
    fn a_stranger_may_not_own_the_files() {
        let files = Files::new("owner");
        if users::get_effective_uid() != 0 {
            // Only root can give files away: what can be seen without is that a foreign owner is refused.
            let faults = load(&files.0, &[u32::MAX - 1]).unwrap_err();
            assert!(matches!(faults[0], AuthFault::Owner { .. }));
            return;
        }
        std::os::unix::fs::chown(files.0.join("authkey"), Some(4_242), None).unwrap();
        assert!(files.said().contains("belongs to user id 4242"));
        assert!(load(&files.0, &[0, 4_242]).is_ok());
    }
}
