//! The commands of the client: fetch, render, print, and the exit code.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, tz::TimeZone};
use tokio::runtime::{Builder, Runtime};

use super::{
    CliError, Exit, cm_stat,
    command::Command,
    fetch::{NoAnswer, Source},
    output::{complain, print},
    ping, printcfg, rstats, select,
};
use crate::{
    config,
    model::{Config, NodeConfig, NodeId},
};

/// From the beginning of one round of pings to that of the next.
const ROUND: Duration = Duration::from_secs(1);

/// A client of one cluster.
pub struct Client {
    file: PathBuf,
    config: Arc<Config>,
    here: Option<NodeId>,
    runtime: Runtime,
}

impl Client {
    /// Reads the configuration. `nodename` is the node that this machine is, when its hostname does not say so.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn open(file: &Path, nodename: Option<&str>) -> Result<Self, CliError> {
        let config = config::load(file).map_err(|report| CliError::configuration(&report))?.config;
        // A machine that is no node asks the nodes; but a name that was given has to be one.
        let here = match (config::this_node(&config, nodename), nodename) {
            (Ok(node), _) => Some(node.id),
            (Err(_), None) => None,
            (Err(finding), Some(_)) => return Err(CliError::ThisNode(finding)),
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
        Ok(Self { file: file.to_owned(), config, here, runtime })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it was read from.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The node that an operator means.
    ///
    /// # Errors
    /// [`CliError::UnknownNode`].
    pub fn node(&self, wanted: &str) -> Result<&NodeConfig, CliError> {
        select::node(&self.config, &self.file, self.here, wanted)
    }

    /// Does a command and prints its answer.
    ///
    /// # Errors
    /// An unknown node, or an answer that cannot be written. That no node answers is told on standard error and in the exit.
    pub fn run(&self, command: &Command) -> Result<Exit, CliError> {
        match command {
            Command::Status => self.status(),
            Command::Rstats { node } => self.rstats(&self.chosen(node.as_deref())?),
            Command::Ping { node, count } => self.ping(&self.chosen(node.as_deref())?, *count),
            Command::PrintConfig => print(&printcfg::render(&self.config, &self.file)).map(|()| Exit::Good),
        }
    }

    fn chosen(&self, wanted: Option<&str>) -> Result<Vec<&NodeConfig>, CliError> {
        match wanted {
            Some(wanted) => Ok(vec![self.node(wanted)?]),
            None => Ok(self.config.nodes.iter().collect()),
        }
    }

    fn source(&self) -> Source<'_> {
        Source::new(&self.config, self.here)
    }

    fn status(&self) -> Result<Exit, CliError> {
        let zone = TimeZone::system();
        match self.runtime.block_on(self.source().cluster()) {
            Ok(report) => print(&cm_stat::render(&self.config, &report, &zone)).map(|()| Exit::Good),
            Err(no_answer) => {
                print(&cm_stat::render_unanswered(&self.config, now(), &zone))?;
                Ok(give_up(&no_answer))
            }
        }
    }

    fn rstats(&self, nodes: &[&NodeConfig]) -> Result<Exit, CliError> {
        match self.runtime.block_on(self.source().cluster()) {
            Ok(report) => {
                let (text, answered) = rstats::render(&self.config, &report, nodes);
                print(&text)?;
                Ok(if answered { Exit::Good } else { Exit::Failed })
            }
            Err(no_answer) => {
                print(&rstats::render_unanswered(nodes))?;
                Ok(give_up(&no_answer))
            }
        }
    }

    fn ping(&self, nodes: &[&NodeConfig], count: u32) -> Result<Exit, CliError> {
        let mut summary = ping::Summary::default();
        for number in 0..count {
            let round = self.runtime.block_on(async {
                let pace = tokio::time::sleep(if number + 1 < count { ROUND } else { Duration::ZERO });
                let source = self.source();
                let (round, ()) = tokio::join!(async { source.ping(nodes).await }, pace);
                round
            });
            summary.add(&round);
            print(&ping::render_round(&round))?;
        }
        print(&summary.render())?;
        Ok(if summary.all_answered() { Exit::Good } else { Exit::Failed })
    }
}

fn give_up(no_answer: &NoAnswer) -> Exit {
    complain(&no_answer.to_string());
    Exit::Failed
}

fn now() -> i64 {
    Timestamp::try_from(SystemTime::now()).map_or(0, Timestamp::as_second)
}
