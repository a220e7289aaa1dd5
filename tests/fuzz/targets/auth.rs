//! The auth files: only a key of lawful length beside its own digest is taken.

use std::{fs, os::unix::fs::OpenOptionsExt as _, path::PathBuf, process, sync::OnceLock};

use drcm::config::load_auth;
use sha1::{Digest as _, Sha1};

use super::bytes::Bytes;

/// The first byte says whether the digest is the right one; then the length of the key, the key, and what is in the other file.
pub fn files(bytes: &[u8]) {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let directory = std::env::temp_dir().join(format!("drcm-fuzz-auth-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    });
    let mut input = Bytes(bytes);
    let right = input.truth();
    let length = usize::from(input.small());
    let key = input.slice(length);
    let digest: String = Sha1::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
    let written = if right { [digest.as_bytes(), input.0].concat() } else { input.0.to_vec() };
    for (name, content) in [("authkey", key), ("authkey.sha1", &written)] {
        let path = directory.join(name);
        // Made anew: a mode is given to new files only.
        let _ = fs::remove_file(&path);
        let mut options = fs::OpenOptions::new();
        std::io::Write::write_all(&mut options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap(), content).unwrap();
    }
    match load_auth(directory) {
        Ok(loaded) => {
            assert_eq!(loaded.bytes(), key);
            assert!(String::from_utf8_lossy(&written).trim().eq_ignore_ascii_case(&digest), "a key beside another digest was taken");
        }
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
}
