//! What operators want, on disk: `operator_orders` in spool_dir. The first line is the SHA-256 of the rest, which is JSON.
//! A file that cannot be believed is put aside and reported, and the other nodes tell what was in it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::warn;

use super::state::{self, StateError};
use crate::{
    model::{Lasts, Record, Time},
    sys::clock,
};

/// Longest file that is read: several times what all wishes need.
const LONGEST: u64 = 512 * 1024;
/// Layout of the JSON.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    /// Which life of the operating system it was written in, and when, by its BOOTTIME.
    os_boot: String,
    at: Time,
    records: Vec<Record>,
}

/// The file of one daemon.
#[derive(Debug)]
pub struct WishFile {
    path: PathBuf,
    os_boot: String,
}

impl WishFile {
    /// The file in this directory.
    #[must_use]
    pub fn new(spool_dir: &Path) -> Self {
        // Without it, what is left of a wish is taken as it was written: it lasts longer rather than being lost.
        let os_boot = clock::boot_of_the_machine().unwrap_or_default();
        Self { path: spool_dir.join("operator_orders"), os_boot }
    }

    /// What was kept; nothing when there is no file, or none that can be believed.
    #[must_use]
    pub fn load(&self) -> Vec<Record> {
        match self.read() {
            Ok(Some(kept)) => self.aged(kept),
            Ok(None) => Vec::new(),
            Err(fault) => {
                let aside = self.path.with_extension("broken");
                let put = fs::rename(&self.path, &aside);
                let what =
                    put.map_or_else(|error| format!("it cannot be put aside: {error}"), |()| format!("it is now {}", aside.display()));
                warn!("{} cannot be used ({fault}); {what}; the other nodes will tell what operators want", self.path.display());
                Vec::new()
            }
        }
    }

    fn read(&self) -> Result<Option<Kept>, String> {
        let file = match OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > LONGEST {
            return Err(format!("it is longer than {LONGEST} bytes"));
        }
        let text = String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
        let (sum, json) = text.split_once('\n').ok_or("it has no checksum")?;
        if sum != checksum(json) {
            return Err("its checksum is wrong".to_owned());
        }
        let kept: Kept = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if kept.format == FORMAT { Ok(Some(kept)) } else { Err(format!("its format is {}, this version reads {FORMAT}", kept.format)) }
    }

    /// What is left now. After a reboot nobody knows for how long the machine was off.
    fn aged(&self, kept: Kept) -> Vec<Record> {
        let now = clock::now();
        let known = !self.os_boot.is_empty() && kept.os_boot == self.os_boot && kept.at <= now;
        let passed = if known { u64::try_from(now.since(kept.at).as_millis()).unwrap_or(u64::MAX) } else { 0 };
        let left = |lasts| match lasts {
            Lasts::Always => Lasts::Always,
            Lasts::For(ms) => Lasts::For(ms.saturating_sub(passed)),
            Lasts::Over(ms) => Lasts::Over(ms.saturating_sub(passed)),
        };
        kept.records.into_iter().map(|record| Record { lasts: left(record.lasts), ..record }).collect()
    }

    /// Writes all of it, so that it is on disk when this returns. What was there before stays when this fails.
    ///
    /// # Errors
    /// When spool_dir cannot be written, a full disk for instance.
    pub fn write(&self, records: &[Record]) -> Result<(), StateError> {
        let kept = Kept { format: FORMAT, os_boot: self.os_boot.clone(), at: clock::now(), records: records.to_vec() };
        let json = serde_json::to_string(&kept).expect("numbers and words can be written as JSON");
        state::replace(&self.path, &format!("{}\n{json}", checksum(&json)))
    }
}

fn checksum(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupId, NodeId, Stamp, Subject, Wish};

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("drcm-wishes-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("operator_orders")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn record(lasts: Lasts) -> Record {
        let stamp = Stamp { counter: u64::MAX / 3, author: NodeId(u64::MAX) };
        Record { subject: Subject::Place(GroupId(u64::MAX - 1)), stamp, wish: Wish::Prefer(NodeId(7)), lasts }
    }

    #[test]
    fn what_is_written_is_read_back_and_ages() {
        let place = Place::new("back");
        let file = WishFile::new(&place.0);
        assert_eq!(file.load(), []);
        file.write(&[record(Lasts::Always)]).unwrap();
        assert_eq!(file.load(), [record(Lasts::Always)]);
        file.write(&[record(Lasts::For(7_200_000))]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let Lasts::For(left) = file.load()[0].lasts else { panic!("it has an end") };
        assert!((7_100_000..=7_199_990).contains(&left), "{left}");
        // Written in another life of the machine: nobody knows for how long it was off.
        let other = WishFile { os_boot: "another".into(), ..WishFile::new(&place.0) };
        assert_eq!(other.load(), [record(Lasts::For(7_200_000))]);
    }

    #[test]
    fn a_broken_file_is_put_aside() {
        let place = Place::new("broken");
        let file = WishFile::new(&place.0);
        file.write(&[record(Lasts::Always)]).unwrap();
        let good = fs::read(place.file()).unwrap();
        let flipped = [&good[..100], &[good[100] ^ 1], &good[101..]].concat();
        let foreign = format!("{}\n{}", checksum("[1, 2]"), "[1, 2]").into_bytes();
        let huge = vec![b'x'; 600_000];
        for bad in [&good[..good.len() / 2], &flipped, &foreign, &huge, b"", b"\xff\xfe\n"] {
            fs::write(place.file(), bad).unwrap();
            assert_eq!(file.load(), []);
            assert!(!place.file().exists());
            assert_eq!(fs::read(place.0.join("operator_orders.broken")).unwrap(), bad);
        }
        file.write(&[record(Lasts::Always)]).unwrap();
        assert_eq!(file.load(), [record(Lasts::Always)]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let place = Place::new("full");
        let file = WishFile::new(&place.0);
        file.write(&[record(Lasts::Always)]).unwrap();
        // Whatever keeps the new file from being made.
        fs::create_dir(place.0.join("operator_orders.new")).unwrap();
        let fault = file.write(&[]).expect_err("it cannot be made").to_string();
        assert!(fault.contains("operator_orders"), "{fault}");
        assert_eq!(file.load(), [record(Lasts::Always)]);
    }
}
