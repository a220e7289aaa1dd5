//! `--check-config`: what is wrong with a configuration and with this host for it.

use std::path::Path;

use super::{CliError, Exit, output::print};
use crate::config;

/// Checks a configuration, or writes the template where it is missing, and prints the findings.
///
/// # Errors
/// Standard output fails.
pub fn run(file: &Path, nodename: Option<&str>) -> Result<Exit, CliError> {
    let report = config::check(file, nodename);
    // A finding may quote the file: nothing in it steers the terminal, since findings are made safe where they are made.
    print(&format!("{report}\n"))?;
    Ok(match report.exit_code() {
        0 => Exit::Good,
        2 => Exit::Warnings,
        _ => Exit::Failed,
    })
}
