//! Another configuration for the whole cluster, this node's part: would it do here, put it in place, put the former one back.
//!
//! Whoever asks has shown over the status port that he knows the authkey, which root alone can read. The text of the file in
//! place is kept beside it as `FILE.before`.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{sync::Mutex, task::spawn_blocking};
use tracing::{info, warn};

use super::{
    executor::Shared,
    reload::{Reloads, Source},
};
use crate::{
    config::{self, Loaded, Severity},
    model::{Apply, Format, Response},
};

/// Answers what `drcm apply` asks of a node.
pub struct Applies {
    shared: Arc<Shared>,
    source: Source,
    reloads: Reloads,
    /// Held by whoever changes the file. Who may, if anyone: gone once it was used, and with this process.
    turn: Mutex<Option<u64>>,
}

/// What to do with the file.
enum Work {
    Place(String),
    PutBack(String),
}

impl Applies {
    /// For the configuration of this daemon.
    #[must_use]
    pub fn new(shared: Arc<Shared>, source: Source, reloads: Reloads) -> Self {
        Self { shared, source, reloads, turn: Mutex::default() }
    }

    /// Does one of the three.
    pub async fn answer(&self, apply: Apply) -> Response {
        if !self.shared.config.server.apply {
            return Response::Refused(
                "this node takes no configuration over the network (apply = 0 in [CM_SERVER]): put the file in place and reload".to_owned(),
            );
        }
        let done = match apply {
            Apply::Try { text, format, ticket } => {
                let tried = self.try_out(text, format).await;
                if let (Ok(_), Some(ticket)) = (&tried, ticket) {
                    *self.turn.lock().await = Some(ticket);
                }
                tried
            }
            Apply::Switch { text, format, ticket } => self.switch(text, format, ticket).await,
            Apply::Undo { text } => self.undo(text).await,
        };
        done.unwrap_or_else(Response::Refused)
    }

    async fn try_out(&self, text: String, format: Format) -> Result<Response, String> {
        let file = self.source.file.clone();
        if format != config::format_of(&file) {
            return Err(format!("its configuration is {}, of the other format: `drcm convert` writes the file in that", file.display()));
        }
        let parsed =
            spawn_blocking(move || config::load_text(&file.display().to_string(), &text, format).map_err(|report| report.to_string()));
        let Loaded { config, findings } = parsed.await.expect("reading a text does not panic")?;
        let warnings = findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
        let mut said = self.source.would_do(&self.shared, &config)?;
        if warnings > 0 {
            said.push(format!("{warnings} warnings: `drcm check FILE` on that node shows them"));
        }
        Ok(Response::Accepted(said))
    }

    async fn switch(&self, text: String, format: Format, ticket: u64) -> Result<Response, String> {
        self.try_out(text.clone(), format).await?;
        let mut turn = self.turn.lock().await;
        if *turn != Some(ticket) {
            return Err("somebody else changes the configuration at the same time: look what is in force, then apply again".to_owned());
        }
        *turn = None;
        let placed = self.on_file(Work::Place(text)).await?;
        let response = self.reloads.ask().await;
        if placed && let Response::Refused(why) = &response {
            warn!("apply: {why}");
            let file = self.source.file.clone();
            let back = spawn_blocking(move || put_back(&file)).await.expect("file work does not panic");
            if let Err(error) = back {
                return Err(format!("{why}; and {} could not be put back: {error}", self.source.file.display()));
            }
        }
        drop(turn);
        Ok(response)
    }

    async fn undo(&self, text: String) -> Result<Response, String> {
        let _turn = self.turn.lock().await;
        if !self.on_file(Work::PutBack(text)).await? {
            return Ok(Response::Accepted(vec!["its file is another one already".to_owned()]));
        }
        Ok(self.reloads.ask().await)
    }

    /// Whether the file is another one now.
    async fn on_file(&self, work: Work) -> Result<bool, String> {
        let file = self.source.file.clone();
        let (path, done) = spawn_blocking(move || {
            let done = match work {
                Work::Place(text) => place(&file, &text),
                Work::PutBack(text) => match fs::read(&file) {
                    Ok(present) if present == text.as_bytes() => put_back(&file),
                    Ok(_) => Ok(false),
                    Err(error) => Err(error),
                },
            };
            (file, done)
        })
        .await
        .expect("file work does not panic");
        if matches!(done, Ok(true)) {
            info!("apply: {} is another one now", path.display());
        }
        done.map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

/// Where the former text is kept.
fn before(file: &Path) -> PathBuf {
    beside(file, "before")
}

fn beside(file: &Path, what: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

/// Puts the text in place, and keeps the former one; false when it is there already.
fn place(file: &Path, text: &str) -> io::Result<bool> {
    // A link stays one.
    let file = fs::canonicalize(file)?;
    let former = fs::read(&file)?;
    if former == text.as_bytes() {
        // What an earlier change kept is not what was here before this one.
        match fs::remove_file(before(&file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => return Ok(false),
        }
    }
    write_whole(&before(&file), &former, &file)?;
    write_whole(&file, text.as_bytes(), &file)?;
    Ok(true)
}

/// False when nothing was kept.
fn put_back(file: &Path) -> io::Result<bool> {
    let file = fs::canonicalize(file)?;
    match fs::rename(before(&file), &file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Ok(()) => sync_directory(&file).map(|()| true),
        Err(error) => Err(error),
    }
}

/// All of it or nothing of it, with owner and mode of another file.
fn write_whole(file: &Path, content: &[u8], like: &Path) -> io::Result<()> {
    let new = beside(file, "new");
    let metadata = fs::metadata(like)?;
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    chown(&new, Some(metadata.uid()), Some(metadata.gid()))?;
    written.set_permissions(Permissions::from_mode(metadata.mode() & 0o7777))?;
    written.write_all(content)?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    sync_directory(file)
}

fn sync_directory(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_the_former_one_can_be_put_back() {
        let directory = std::env::temp_dir().join(format!("drcm-apply-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (file, link) = (directory.join("cm.cfg"), directory.join("link"));
        fs::write(&file, "one").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let text = || fs::read_to_string(&file).unwrap();
        assert!(place(&link, "two").unwrap());
        assert_eq!((text().as_str(), fs::metadata(&file).unwrap().mode() & 0o7777), ("two", 0o640));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(put_back(&link).unwrap() && text() == "one");
        assert!(!put_back(&file).unwrap(), "it is kept once");
        // The same text again keeps nothing: nothing was changed.
        assert!(place(&file, "two").unwrap() && !place(&file, "two").unwrap() && !put_back(&file).unwrap());
        assert_eq!((text().as_str(), fs::read_dir(&directory).unwrap().count()), ("two", 2));
        fs::remove_dir_all(&directory).unwrap();
    }
}
