//! `drcm demo`: a cluster of three real daemons on this machine.

use std::{
    env,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::{CliError, Exit};
use crate::lab::{self, LabError};

/// Where a package puts the daemon.
const INSTALLED: &str = "/usr/sbin/drcm_server";

/// Runs the demonstration with the `drcm_server` named, else the one beside this program, else the installed one.
///
/// # Errors
/// There is no daemon to run, or the laboratory could not do what it should.
pub fn run(server: Option<&Path>) -> Result<Exit, CliError> {
    let server = match server {
        Some(named) => named.to_owned(),
        None => candidates().into_iter().find(|file| file.is_file()).ok_or_else(|| CliError::NoServer { looked: candidates() })?,
    };
    match lab::demo(&server, &mut io::stdout().lock()) {
        Ok(()) => Ok(Exit::Good),
        Err(LabError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Err(CliError::ReaderGone),
        Err(error) => Err(CliError::Demo(Box::new(error))),
    }
}

fn candidates() -> Vec<PathBuf> {
    let beside = env::current_exe().ok().map(|program| program.with_file_name("drcm_server"));
    beside.into_iter().chain([PathBuf::from(INSTALLED)]).collect()
}
