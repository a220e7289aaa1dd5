//! Telling people of events: programs of theirs, mails, a webhook.
//!
//! Owns the ways out and their limits: each has a queue of its own, of which the oldest give way and are counted, one task, a
//! deadline for every try and an end to the tries. Whoever tells of an event never waits. Decides nothing of the cluster, and
//! makes no events: it is given them. What could not be told is said to the daemon, which logs it and makes an event of
//! it that nobody is told of.

#[cfg(test)]
mod fixture;
mod lists;
mod mail;
mod outbox;
mod programs;
mod throttle;
mod webhook;
mod words;

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::AbortHandle};

use crate::model::{self, Incident, IncidentKind, NodeConfig, Server};
use outbox::Outbox;

/// Events that wait for one way out.
const WAITING: usize = 1024;
/// Troubles that wait to be heard.
const TROUBLES: usize = 64;
/// After so long a trouble that lasts is said again.
const SAID_AGAIN: Duration = Duration::from_secs(600);

/// What this room needs of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whom to tell, and how.
    pub alerts: model::Alerts,
    /// `nodename` of this node.
    pub node: String,
    /// What `uname -n` says here.
    pub hostname: String,
    /// Where the output of programs is.
    pub log_dir: PathBuf,
    /// Given to programs.
    pub run_dir: PathBuf,
    /// Where the time of the last mail is.
    pub spool_dir: PathBuf,
    /// Where the token of the webhook is.
    pub auth_dir: PathBuf,
    /// Of programs.
    pub umask: u32,
    /// Bytes at which the log of their output is moved aside.
    pub max_log_size: u64,
}

impl Settings {
    /// Of a node.
    #[must_use]
    pub fn new(server: &Server, node: &NodeConfig) -> Self {
        Self {
            alerts: server.alerts.clone(),
            node: node.name.clone(),
            hostname: node.hostname.clone(),
            log_dir: server.log_dir.clone(),
            run_dir: server.run_dir.clone(),
            spool_dir: server.spool_dir.clone(),
            auth_dir: server.auth_dir.clone(),
            umask: server.umask,
            max_log_size: server.log.max_size,
        }
    }
}

/// All ways to people. Dropped, it tells nobody any more.
pub struct Alerts {
    settings: Arc<Settings>,
    /// Of every event on this node.
    hooks: Outbox<Arc<Incident>>,
    /// Of grave ones, that this node is to tell of.
    command: Outbox<Arc<Incident>>,
    mail: Outbox<Arc<Incident>>,
    webhook: Outbox<Arc<Incident>>,
    troubles: Troubles,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Alerts {
    /// Opens the ways that the configuration names. Needs a runtime. The receiver tells what could not be told, in sentences.
    #[must_use]
    pub fn start(settings: Settings) -> (Self, mpsc::Receiver<String>) {
        let (say, heard) = mpsc::channel(TROUBLES);
        let [hooks, command, mail, webhook] = std::array::from_fn(|_| Outbox::new(WAITING));
        let settings = Arc::new(settings);
        let alerts = Self { settings, hooks, command, mail, webhook, troubles: Troubles::new(say), tasks: Mutex::default() };
        alerts.begin();
        (alerts, heard)
    }

    /// Tells of an event, later: never waits.
    pub fn tell(&self, event: &Arc<Incident>) {
        // That nobody could be told must not be told, or it would go round for ever.
        if event.kind == IncidentKind::Untold {
            return;
        }
        self.hooks.put(event.clone());
        let alerts = &self.settings.alerts;
        if event.tells && event.severity >= alerts.severity {
            let ways = [(alerts.command.is_some(), &self.command), (alerts.mails(), &self.mail), (alerts.webhook.is_some(), &self.webhook)];
            ways.into_iter().filter(|(open, _)| *open).for_each(|(_, outbox)| outbox.put(event.clone()));
        }
    }

    /// Ends what runs, before another program takes the place of this one: it would not know of it, nor of its deadline.
    pub fn end(&self) {
        self.tasks().drain(..).for_each(|task| task.abort());
    }

    /// Goes on after [`Alerts::end`], since it did not come to that.
    pub fn begin(&self) {
        let (settings, troubles) = (|| self.settings.clone(), || self.troubles.clone());
        let alerts = &self.settings.alerts;
        let mut tasks = self.tasks();
        tasks.push(tokio::spawn(programs::hooks(settings(), self.hooks.clone(), troubles())).abort_handle());
        if let Some(program) = alerts.command.clone() {
            tasks.push(tokio::spawn(programs::command(settings(), program, self.command.clone(), troubles())).abort_handle());
        }
        if alerts.mails() {
            tasks.push(tokio::spawn(mail::mail(settings(), self.mail.clone(), troubles())).abort_handle());
        }
        if let Some(webhook) = alerts.webhook.clone() {
            tasks.push(tokio::spawn(webhook::webhook(settings(), webhook, self.webhook.clone(), troubles())).abort_handle());
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Alerts {
    fn drop(&mut self) {
        self.end();
    }
}

/// Where it is said what could not be told. The same is said once in a while only: what fails for one event fails for the next.
#[derive(Clone, Debug)]
struct Troubles {
    say: mpsc::Sender<String>,
    said: Arc<Mutex<VecDeque<(String, Instant)>>>,
}

impl Troubles {
    fn new(say: mpsc::Sender<String>) -> Self {
        Self { say, said: Arc::default() }
    }

    fn say(&self, text: String) {
        // Nothing that holds the lock can panic half-way through a change. Nobody listens when the daemon ends.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|(_, at)| at.elapsed() < SAID_AGAIN);
        if said.iter().any(|(known, _)| *known == text) || self.say.try_send(text.clone()).is_err() {
            tracing::debug!("{text}");
            return;
        }
        if said.len() == TROUBLES {
            said.pop_front();
        }
        said.push_back((text, Instant::now()));
    }

    fn dropped(&self, way: &str, count: u64) {
        if count > 0 {
            self.say(format!("{count} events were not told ({way}): they came faster than they could be told"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_trouble_is_said_once() {
        let (say, mut heard) = mpsc::channel(2);
        let troubles = Troubles::new(say);
        for text in ["a", "a", "b", "a"] {
            troubles.say(text.to_owned());
        }
        // No room: it is not held to have been said.
        troubles.say("c".to_owned());
        assert_eq!((heard.recv().await.as_deref(), heard.recv().await.as_deref()), (Some("a"), Some("b")));
        troubles.say("c".to_owned());
        assert_eq!(heard.recv().await.as_deref(), Some("c"));
    }
}
