//! The command line: reads what the operator typed, fetches reports, and makes text of them.
//!
//! Owns the two sets of arguments (the documented flags of `drcm_server`, the subcommands of `drcm`), the console, and the
//! text of every command. Rendering is pure and apart from fetching. Never decides anything about the cluster, and
//! never prints a secret.

pub mod apply;
pub mod arguments;
pub mod check;
pub mod client;
pub mod cm_stat;
pub mod command;
pub mod console;
pub mod convert;
pub mod demo;
pub mod drill;
pub mod events;
pub mod explain;
pub mod fetch;
pub mod json;
pub mod monitor;
pub mod operate;
pub mod output;
pub mod paint;
pub mod people;
pub mod ping;
pub mod printcfg;
pub mod rstats;
pub mod run;
pub mod select;
pub mod table;
pub mod watch;
pub mod what_if;

mod error;
mod exit;
mod programs;

pub use error::CliError;
pub use exit::Exit;
pub use programs::{commands, drcm, drcm_server};
