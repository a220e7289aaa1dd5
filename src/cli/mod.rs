//! The command line: reads what the operator typed, fetches reports, and makes text of them.
//!
//! Owns the two sets of arguments (the documented flags of `drcm_server`, the subcommands of `drcm`), the console, and the
//! text of every command. Rendering is pure and apart from fetching. Never decides anything about the cluster, and
//! never prints a secret.

pub mod arguments;
pub mod assess;
pub mod check;
pub mod client;
pub mod cm_stat;
pub mod command;
pub mod console;
pub mod demo;
pub mod fetch;
pub mod operate;
pub mod output;
pub mod people;
pub mod ping;
pub mod printcfg;
pub mod rstats;
pub mod run;
pub mod select;
pub mod table;
pub mod verdict;

mod error;
mod exit;
#[cfg(test)]
mod fixture;
mod programs;

pub use error::CliError;
pub use exit::Exit;
pub use programs::{drcm, drcm_server};
