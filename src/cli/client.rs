//! The commands of the client: fetch, render, print, and the exit code.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, tz::TimeZone};
use tokio::runtime::{Builder, Runtime};

use super::{
    CliError, Exit, cm_stat,
    command::Command,
    explain,
    fetch::{NoAnswer, Source},
    json, monitor,
    output::{complain, print},
    paint::Palette,
    ping, printcfg, rstats, select,
};
use crate::{
    config,
    model::{ClusterReport, Config, EventPage, EventQuery, NodeConfig, NodeId, ResourceId},
};

/// From the beginning of one round of pings to that of the next.
const ROUND: Duration = Duration::from_secs(1);

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people, in colour or not, and for the scripts that always read it.
    Text(Palette),
    /// For programs.
    Json,
}

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

    /// The address by which the nodes know this machine, when it is one of them.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.config.node(self.here?).map(|node| node.keep_alive_ip)
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
    pub fn run(&self, command: &Command, form: Form) -> Result<Exit, CliError> {
        match command {
            Command::Status => self.status(form),
            Command::Rstats { node } => self.rstats(&self.chosen(node.as_deref())?, form),
            Command::Ping { node, count } => self.ping(&self.chosen(node.as_deref())?, *count, form),
            Command::PrintConfig => print(&match form {
                Form::Text(_) => printcfg::render(&self.config, &self.file),
                Form::Json => json::printcfg(&self.config, &self.file),
            })
            .map(|()| Exit::Good),
        }
    }

    /// The cluster as its nodes see it.
    ///
    /// # Errors
    /// No node answered.
    pub fn report(&self) -> Result<ClusterReport, NoAnswer> {
        self.runtime.block_on(self.source().cluster())
    }

    /// What happened lately on the nodes.
    ///
    /// # Errors
    /// No node answered.
    pub fn events(&self, query: &EventQuery) -> Result<Vec<EventPage>, NoAnswer> {
        self.runtime.block_on(self.source().events(query))
    }

    /// The answer of a monitoring plugin: the line, and the exit code.
    #[must_use]
    pub fn check(&self) -> (String, Exit) {
        match self.report() {
            Ok(report) => monitor::check(&self.config, &report),
            Err(no_answer) => monitor::unknown(&no_answer.to_string()),
        }
    }

    /// Explains where a resource runs and why, to people.
    ///
    /// # Errors
    /// An unknown name, or an answer that cannot be written.
    pub fn explain(&self, wanted: &str, palette: Palette) -> Result<Exit, CliError> {
        let groups = match select::groups(&self.config, &self.file, wanted) {
            Ok(groups) => groups,
            Err(error) => {
                let idle: Vec<&ResourceId> = select::resources(&self.config, wanted).collect();
                return if idle.is_empty() { Err(error) } else { print(&explain::unlisted(&idle)).map(|()| Exit::Good) };
            }
        };
        match self.report() {
            Ok(report) => print(&explain::render(&self.config, &report, &groups, &TimeZone::system(), palette)).map(|()| Exit::Good),
            Err(no_answer) => Ok(give_up(&no_answer)),
        }
    }

    /// Runs what talks to nodes.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
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

    fn status(&self, form: Form) -> Result<Exit, CliError> {
        let zone = TimeZone::system();
        match self.report() {
            Ok(report) => print(&match form {
                Form::Text(palette) => cm_stat::render(&self.config, &report, &zone, palette),
                Form::Json => json::status(&self.config, &report),
            })
            .map(|()| Exit::Good),
            Err(no_answer) => {
                print(&match form {
                    Form::Text(palette) => cm_stat::render_unanswered(&self.config, now(), &zone, palette),
                    Form::Json => json::status_unanswered(&self.config, now()),
                })?;
                Ok(give_up(&no_answer))
            }
        }
    }

    fn rstats(&self, nodes: &[&NodeConfig], form: Form) -> Result<Exit, CliError> {
        match self.report() {
            Ok(report) => {
                let (text, answered) = match form {
                    Form::Text(_) => rstats::render(&self.config, &report, nodes),
                    Form::Json => json::rstats(&self.config, Some(&report), nodes),
                };
                print(&text)?;
                Ok(if answered { Exit::Good } else { Exit::Failed })
            }
            Err(no_answer) => {
                print(&match form {
                    Form::Text(_) => rstats::render_unanswered(nodes),
                    Form::Json => json::rstats(&self.config, None, nodes).0,
                })?;
                Ok(give_up(&no_answer))
            }
        }
    }

    fn ping(&self, nodes: &[&NodeConfig], count: u32, form: Form) -> Result<Exit, CliError> {
        let mut summary = ping::Summary::default();
        let mut rounds = Vec::new();
        for number in 0..count {
            let round = self.runtime.block_on(async {
                let pace = tokio::time::sleep(if number + 1 < count { ROUND } else { Duration::ZERO });
                let source = self.source();
                let (round, ()) = tokio::join!(async { source.ping(nodes).await }, pace);
                round
            });
            summary.add(&round);
            match form {
                Form::Text(_) => print(&ping::render_round(&round))?,
                Form::Json => rounds.push(round),
            }
        }
        print(&match form {
            Form::Text(_) => summary.render(),
            Form::Json => json::ping(nodes, &rounds),
        })?;
        Ok(if summary.all_answered() { Exit::Good } else { Exit::Failed })
    }
}

fn give_up(no_answer: &NoAnswer) -> Exit {
    complain(&no_answer.to_string());
    Exit::Failed
}

/// Now, in seconds since 1970.
pub(super) fn now() -> i64 {
    Timestamp::try_from(SystemTime::now()).map_or(0, Timestamp::as_second)
}
