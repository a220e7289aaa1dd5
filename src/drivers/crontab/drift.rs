//! What becomes of installed crontabs between two checks: told at once by the kernel, so that nobody's edit is run by cron for
//! long.

use std::{collections::BTreeMap, ffi::OsString, future::pending, path::Path, sync::Arc, time::Duration};

use nix::sys::inotify::WatchDescriptor;
use tokio::{
    select,
    sync::broadcast::{self, error::RecvError},
    task::{AbortHandle, spawn_blocking},
    time::{Instant, sleep_until},
};

use super::installed;
use crate::{
    model::{Resource, Spec},
    sys::inotify::{FileNews, FileWatch},
};

/// News that may wait for a group.
const NEWS: usize = 256;
/// An editor writes a file in several steps.
const QUIET: Duration = Duration::from_millis(50);
/// Between two checks for news: two who fight about a file do so slowly.
const PACE: Duration = Duration::from_secs(1);

/// The directories of crontabs, watched. Cheap to clone; the last clone takes the background task with it.
#[derive(Clone)]
pub struct Drift {
    watch: Option<Arc<FileWatch>>,
    news: broadcast::Sender<FileNews>,
    _task: Arc<Task>,
}

struct Task(Option<AbortHandle>);

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Drift {
    /// Within a tokio runtime. Where the kernel refuses to watch, checks find out at their interval.
    #[must_use]
    pub fn open() -> Self {
        let (news, _) = broadcast::channel(NEWS);
        let watch = match FileWatch::open() {
            Ok(watch) => Some(Arc::new(watch)),
            Err(error) => {
                tracing::warn!("edited crontabs are only seen at the next check: {error}");
                None
            }
        };
        let task = watch.clone().map(|watch| tokio::spawn(tell(watch, news.clone())).abort_handle());
        Self { watch, news, _task: Arc::new(Task(task)) }
    }

    /// News of those of these resources that are crontabs.
    pub async fn of<'r>(&self, resources: impl Iterator<Item = &'r Resource>) -> News {
        let receiver = self.news.subscribe();
        let mut files = Vec::new();
        for (position, resource) in resources.enumerate() {
            let (Spec::Crontab(crontab), Some(watch)) = (&resource.spec, &self.watch) else { continue };
            for path in installed(crontab).into_iter().chain([crontab.template.clone()]) {
                let (Some(directory), Some(name)) = (path.parent().map(Path::to_owned), path.file_name()) else { continue };
                let (watch, shown) = (Arc::clone(watch), directory.display().to_string());
                match spawn_blocking(move || watch.add(&directory)).await {
                    Ok(Ok(directory)) => files.push((directory, name.to_owned(), position)),
                    Ok(Err(error)) => tracing::debug!("{shown} is not watched: {error}"),
                    Err(_) => {}
                }
            }
        }
        News { receiver, files, latest: BTreeMap::new(), due: BTreeMap::new() }
    }
}

async fn tell(watch: Arc<FileWatch>, news: broadcast::Sender<FileNews>) {
    loop {
        match watch.next().await {
            // Nobody listens when nothing runs.
            Ok(events) => events.into_iter().for_each(|event| drop(news.send(event))),
            Err(error) => {
                tracing::warn!("edited crontabs are only seen at the next check: {error}");
                return;
            }
        }
    }
}

/// News of the crontabs of a group.
pub struct News {
    receiver: broadcast::Receiver<FileNews>,
    /// Directory, name, and the position of the resource that it belongs to.
    files: Vec<(WatchDescriptor, OsString, usize)>,
    /// When each was told of last.
    latest: BTreeMap<usize, Instant>,
    /// When each is to be told of.
    due: BTreeMap<usize, Instant>,
}

impl News {
    /// Waits until something happened to the copy or the template of a crontab; its position. Tells of each at most once a
    /// second. May be cancelled and called again.
    pub async fn next(&mut self) -> usize {
        if self.files.is_empty() {
            return pending().await;
        }
        loop {
            let first = self.due.iter().min_by_key(|(_, at)| **at).map(|(position, at)| (*position, *at));
            let Some((position, at)) = first else {
                let told = self.receiver.recv().await;
                self.note(told);
                continue;
            };
            select! {
                () = sleep_until(at) => {
                    self.due.remove(&position);
                    self.latest.insert(position, Instant::now());
                    return position;
                }
                told = self.receiver.recv() => self.note(told),
            }
        }
    }

    fn note(&mut self, told: Result<FileNews, RecvError>) {
        let positions: Vec<usize> = match told {
            Ok(FileNews { directory, name: Some(name) }) => {
                let about = |(watched, file, _): &&(WatchDescriptor, OsString, usize)| *watched == directory && *file == name;
                self.files.iter().filter(about).map(|(.., position)| *position).collect()
            }
            // News were lost: any of them may have changed.
            Ok(FileNews { name: None, .. }) | Err(RecvError::Lagged(_)) => self.files.iter().map(|(.., position)| *position).collect(),
            // The sender lives as long as the drivers.
            Err(RecvError::Closed) => Vec::new(),
        };
        let quiet = Instant::now() + QUIET;
        for position in positions {
            let earliest = self.latest.get(&position).map_or(quiet, |latest| (*latest + PACE).max(quiet));
            self.due.entry(position).or_insert(earliest);
        }
    }
}
