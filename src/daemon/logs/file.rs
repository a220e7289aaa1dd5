//! A log file that is rotated when it has grown to its size: `drcm.log`, `drcm.log.1` (the latest) ... `drcm.log.N`.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::queue::Outlet;

/// Between two tries to open a file that cannot be opened, and between two looks whether the file is still in its place.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Smallest size at which a log is rotated, in bytes.
const LEAST_SIZE: u64 = 4096;

/// The log file; opened with the first line, and again when somebody moved it away.
pub struct RotatingFile {
    path: PathBuf,
    /// Rotated logs to keep.
    keep: u32,
    max_size: u64,
    /// Begin with an empty file.
    clear: bool,
    open: Option<Open>,
    /// The last try to open, when it failed.
    failed: Option<Instant>,
}

struct Open {
    file: File,
    size: u64,
    looked: Instant,
    /// A line was written in part: the disk is or was full.
    cut: bool,
}

impl RotatingFile {
    /// Nothing is opened yet: that is the writer's work.
    pub fn new(path: PathBuf, keep: u32, max_size: u64, clear: bool) -> Self {
        Self { path, keep, max_size: max_size.max(LEAST_SIZE), clear, open: None, failed: None }
    }

    fn opened(&mut self, bytes: u64) -> io::Result<&mut Open> {
        if self.open.as_mut().is_some_and(|open| open.is_lost(&self.path)) {
            self.open = None;
        }
        if self.open.as_ref().is_some_and(|open| open.size > 0 && open.size + bytes > self.max_size) {
            self.open = None;
            self.rotate();
        }
        if self.open.is_none() {
            if self.failed.is_some_and(|failed| failed.elapsed() < LOOK_AGAIN) {
                return Err(io::Error::other("it could not be opened"));
            }
            let opened = self.open_file();
            self.failed = opened.is_err().then(Instant::now);
            self.open = Some(opened?);
        }
        Ok(self.open.as_mut().expect("opened just now"))
    }

    fn open_file(&mut self) -> io::Result<Open> {
        if let Some(log_dir) = self.path.parent() {
            fs::create_dir_all(log_dir)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path)?;
        if self.clear {
            file.set_len(0)?;
            self.clear = false;
        }
        let size = file.metadata()?.len();
        Ok(Open { file, size, looked: Instant::now(), cut: false })
    }

    /// Moves each log one number up. What cannot be moved is emptied: the space that logs take has a limit.
    fn rotate(&self) {
        // Those of a time when more were to be kept.
        (self.keep.saturating_add(1)..).take_while(|number| fs::remove_file(self.numbered(*number)).is_ok()).for_each(drop);
        for number in (1..self.keep).rev() {
            // Most often missing, since there are not that many yet.
            let _ = fs::rename(self.numbered(number), self.numbered(number + 1));
        }
        let is_moved = self.keep > 0 && fs::rename(&self.path, self.numbered(1)).is_ok();
        if !is_moved && let Ok(file) = OpenOptions::new().write(true).open(&self.path) {
            let _ = file.set_len(0);
        }
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

impl Outlet for RotatingFile {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.opened(line.len() as u64)?.append(line)
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

impl Open {
    fn append(&mut self, mut line: &[u8]) -> io::Result<()> {
        if self.cut {
            self.file.write_all(b"\n")?;
            self.size += 1;
            self.cut = false;
        }
        while !line.is_empty() {
            let written = match self.file.write(line) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                written => written?,
            };
            self.size += written as u64;
            line = &line[written..];
            self.cut = !line.is_empty();
        }
        Ok(())
    }

    /// Whether the path now leads to another file or to none. Looked at from time to time.
    fn is_lost(&mut self, path: &Path) -> bool {
        if self.looked.elapsed() < LOOK_AGAIN {
            return false;
        }
        self.looked = Instant::now();
        let here = self.file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        let there = fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
        !matches!((here, there), (Ok(here), Ok(there)) if here == there)
    }
}
