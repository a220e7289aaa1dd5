//! Writes the manual pages and the completions of both programs from their own arguments: `make man`.
//!
//! usage: cargo run --example manual -- DIRECTORY
//!
//! An example, so that what makes pages is no part of what runs a cluster.

mod pages;

use std::{env, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let Some(directory) = env::args_os().nth(1) else {
        eprintln!("usage: manual DIRECTORY");
        return ExitCode::FAILURE;
    };
    match pages::write(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manual: {}: {error}", Path::new(&directory).display());
            ExitCode::FAILURE
        }
    }
}
