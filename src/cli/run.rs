//! Runs the node that this machine is, until it is told to leave.

use std::path::Path;

use super::{CliError, Exit, arguments::LogArguments, output::complain};
use crate::{
    config,
    daemon::{self, RunOptions},
};

/// Reads the configuration, puts the flags before it, and becomes the daemon.
///
/// # Errors
/// The configuration cannot be used, or the daemon did not start: a sentence for the operator.
pub fn run(file: &Path, nodename: Option<&str>, log: &LogArguments) -> Result<Exit, CliError> {
    let loaded = config::load(file).map_err(|report| CliError::configuration(&report))?;
    if !loaded.findings.is_empty() {
        complain(&config::render(&loaded.findings));
    }
    let options =
        RunOptions { nodename: nodename.map(str::to_owned), file: file.to_owned(), log: log.overrides(&loaded.config.server.log) };
    daemon::run(loaded.config, &options).map_err(|error| CliError::Daemon(Box::new(error)))?;
    Ok(Exit::Good)
}
