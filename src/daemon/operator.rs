//! Operators' commands: understood by the core, kept on disk, then said; and the words in which they are answered and told.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{
    cluster_thread::{Mail, Mailbox},
    state::StateError,
    wish_file::WishFile,
};
use crate::model::{Command, Config, Event, GroupId, Lasts, NodeId, Order, Outlook, Record, Response, Subject, Wish, in_words};

/// Longest wait for the command before this one to reach the disk.
const TURN: Duration = Duration::from_secs(3);
/// How often the time that is left of wishes is written down.
const REFRESH: Duration = Duration::from_secs(300);
/// After a failed write.
const RETRY: Duration = Duration::from_secs(10);

/// Takes commands, one at a time.
pub struct Operator {
    config: Arc<Config>,
    me: NodeId,
    mailbox: Mailbox,
    file: Arc<WishFile>,
    /// Held by whoever writes the file, until the core has what was written.
    turn: Mutex<()>,
}

impl Operator {
    /// For one daemon.
    #[must_use]
    pub fn new(config: Arc<Config>, me: NodeId, mailbox: Mailbox, file: WishFile) -> Arc<Self> {
        Arc::new(Self { config, me, mailbox, file: Arc::new(file), turn: Mutex::new(()) })
    }

    /// Does what an operator said on this node. Once begun it is brought to its end, even when nobody waits for it any more.
    pub async fn command(self: &Arc<Self>, command: Command) -> Response {
        let own = self.clone();
        let done = tokio::spawn(async move { own.accept(command).await });
        match done.await {
            Ok(Ok(sentences)) => Response::Accepted(sentences),
            Ok(Err(why)) => Response::Refused(why),
            Err(_) => Response::Refused("the daemon is ending".to_owned()),
        }
    }

    /// An operator answers for it that nobody counts other voters.
    pub fn confirm_voters(&self) -> Response {
        match self.mailbox.post(Mail::Event(Event::Order(Order::ConfirmVoters))) {
            Ok(()) => {
                warn!("an operator said here that nobody counts other voters than those of the configuration");
                Response::Accepted(vec![
                    "this node counts the voters of its file from now on, and waits for no others; say it on each node that waits"
                        .to_owned(),
                ])
            }
            Err(ended) => Response::Refused(ended.to_string()),
        }
    }

    async fn accept(&self, command: Command) -> Result<Vec<String>, String> {
        let Ok(_turn) = timeout(TURN, self.turn.lock()).await else {
            return Err("not accepted, nothing has changed: the order before this one has not reached the disk of spool_dir yet".to_owned());
        };
        let draft = self.mailbox.draft(command).await.map_err(|ended| ended.to_string())?;
        let draft = draft.map_err(|why| format!("not accepted, nothing has changed: {why}"))?;
        if !draft.records.is_empty() {
            self.write(draft.keep).await.map_err(|fault| {
                format!("not accepted, nothing has changed: it could not be written down ({fault}); mend that and say it again")
            })?;
            info!("an operator said here: {}", self.title(command));
            self.mailbox.say(draft.records).await.map_err(|ended| ended.to_string())?;
        }
        let mut sentences = vec![self.title(command)];
        sentences.extend(draft.outlook.into_iter().map(|outlook| self.sentence(outlook)));
        Ok(sentences)
    }

    async fn write(&self, records: Vec<Record>) -> Result<(), StateError> {
        let file = self.file.clone();
        spawn_blocking(move || file.write(&records)).await.expect("writing a file does not panic")
    }

    /// Keeps on disk what the core has come to know. Ends with the cluster thread.
    pub async fn keep(self: Arc<Self>, mut kept: watch::Receiver<Vec<Record>>) {
        let mut complained = false;
        loop {
            let ends = kept.borrow().iter().any(|record| matches!(record.lasts, Lasts::For(_)));
            tokio::select! {
                changed = kept.changed() => if changed.is_err() { return },
                () = sleep(REFRESH), if ends => {}
            }
            while let Err(fault) = self.keep_newest(&mut kept).await {
                if !std::mem::replace(&mut complained, true) {
                    warn!("what operators want cannot be written down: {fault}; trying again every {} s", RETRY.as_secs());
                }
                sleep(RETRY).await;
            }
            complained = false;
        }
    }

    async fn keep_newest(&self, kept: &mut watch::Receiver<Vec<Record>>) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        // What is left of each wish is a fact of this moment.
        let Ok(records) = self.mailbox.wishes().await else { return Ok(()) };
        kept.mark_unchanged();
        self.write(records).await.map_err(|fault| fault.to_string())
    }

    fn name(&self, node: NodeId) -> String {
        self.config.name(node)
    }

    fn group(&self, id: GroupId) -> String {
        self.config.title(id)
    }

    /// The command, as a sentence.
    fn title(&self, command: Command) -> String {
        match command {
            Command::Standby { node, on: true } => format!("{} is in standby: it runs nothing and still votes", self.name(node)),
            Command::Standby { node, on: false } => format!("{} takes part again", self.name(node)),
            Command::Maintenance { on: true } => {
                "maintenance: nothing is started, stopped, moved or repaired until `drcm maintenance off`".to_owned()
            }
            Command::Maintenance { on: false } => "maintenance is over: what failed meanwhile is seen to now".to_owned(),
            Command::Move { group, to, for_seconds } => {
                let until = for_seconds.map_or_else(|| "until `drcm unmove`".to_owned(), |seconds| format!("for {}", in_words(seconds)));
                format!("{} belongs on {} {until}", self.group(group), self.name(to))
            }
            Command::Unmove { group } => format!("{} is no longer moved", self.group(group)),
            Command::Failback { group } => format!("{} goes home once", self.group(group)),
            Command::Cleanup { .. } => "failures are forgotten".to_owned(),
        }
    }

    fn sentence(&self, outlook: Outlook) -> String {
        match outlook {
            Outlook::Moves { group, from, to } => {
                format!("{} moves from {} to {} now", self.group(group), self.name(from), self.name(to))
            }
            Outlook::Stays { group, on } => format!("{} runs on {} and stays there", self.group(group), self.name(on)),
            Outlook::Waits { group, to, obstacle } => {
                format!("{} {obstacle}: {} will move when it can take it", self.name(to), self.group(group))
            }
            Outlook::Idle { group, to } => format!("{} runs nowhere now: {} is the first to be asked", self.group(group), self.name(to)),
            Outlook::GoesHome { group, home } => {
                let delay = self.config.server.failback_delay.as_secs();
                format!("{} goes home to {} once that has been well for {delay} s", self.group(group), self.name(home))
            }
            Outlook::Stops { group, on } => {
                format!("{} stops on {}: no other node can take it now", self.group(group), self.name(on))
            }
            Outlook::Unheard(node) => {
                format!("{} is not heard from {}: it will do so when it is back", self.name(node), self.name(self.me))
            }
            Outlook::Retried { group, on } => format!("{} may be tried again on {}", self.group(group), self.name(on)),
            Outlook::Nothing => "there was nothing to do: it is so already".to_owned(),
            Outlook::AfterMaintenance => "maintenance is on: it is noted, and done when that ends".to_owned(),
        }
    }
}

/// A wish in words, for the log.
#[must_use]
pub fn phrase(config: &Config, subject: Subject, wish: Wish) -> String {
    let name = |node: NodeId| config.name(node);
    let title = |group: GroupId| config.title(group);
    match (subject, wish) {
        (Subject::Maintenance, Wish::On) => "maintenance: nothing is started, stopped, moved or repaired".to_owned(),
        (Subject::Maintenance, _) => "maintenance is over".to_owned(),
        (Subject::Standby(node), Wish::On) => format!("standby of {}", name(node)),
        (Subject::Standby(node), _) => format!("{} takes part again", name(node)),
        (Subject::Place(group), Wish::Prefer(node)) => format!("{} belongs on {}", title(group), name(node)),
        (Subject::Place(group), Wish::Home) => format!("{} goes home once", title(group)),
        (Subject::Place(group), Wish::Cleared | Wish::On) => format!("{} is no longer moved", title(group)),
        (Subject::Cleanup(group, node), _) => format!("{} may be tried again on {}", title(group), name(node)),
    }
}

/// What no longer holds, in words, for the log.
#[must_use]
pub fn lapsed(config: &Config, subject: Subject) -> String {
    phrase(config, subject, Wish::Cleared)
}
