//! The two programs: arguments in, exit code out.

use std::{env, ffi::OsString, path::Path, process::ExitCode};

use clap::{Parser, error::ErrorKind};

use super::{
    CliError, Exit,
    arguments::{self, ServerArguments},
    check,
    client::Client,
    command::{self, Command, ConsoleCommand},
    console, demo, operate,
    output::{complain, print},
    people::{PeopleArguments, Task},
    run,
};

/// The program `drcm_server`.
#[must_use]
pub fn drcm_server() -> ExitCode {
    finish(parse::<ServerArguments>(env::args_os()).and_then(|arguments| match arguments {
        Parsed::Arguments(arguments) => serve(&arguments),
        Parsed::Told(exit) => Ok(exit),
    }))
}

/// The program `drcm`.
#[must_use]
pub fn drcm() -> ExitCode {
    finish(parse::<PeopleArguments>(env::args_os()).and_then(|arguments| match arguments {
        Parsed::Arguments(arguments) => answer(&arguments),
        Parsed::Told(exit) => Ok(exit),
    }))
}

fn serve(arguments: &ServerArguments) -> Result<Exit, CliError> {
    let file = arguments::config_file(arguments.config_file.as_deref());
    let nodename = arguments.nodename.as_deref();
    if arguments.check_config {
        return check::run(&file, nodename);
    }
    match &arguments.command {
        Some(line) => ask(&file, nodename, command::parse_with(line, arguments.node.as_deref(), arguments.count)?),
        None if arguments.client => console::run(&Client::open(&file, nodename)?),
        None => run::run(&file, nodename, &arguments.log),
    }
}

/// `--command` takes what the console takes.
fn ask(file: &Path, nodename: Option<&str>, command: ConsoleCommand) -> Result<Exit, CliError> {
    match command {
        ConsoleCommand::Ask(command) => Client::open(file, nodename)?.run(&command),
        ConsoleCommand::Help => print(&command::help()).map(|()| Exit::Good),
        ConsoleCommand::Leave => Ok(Exit::Good),
        ConsoleCommand::Nothing => Err(CliError::NoCommand),
    }
}

fn answer(arguments: &PeopleArguments) -> Result<Exit, CliError> {
    let file = arguments::config_file(arguments.config_file.as_deref());
    let nodename = arguments.nodename.as_deref();
    let client = || Client::open(&file, nodename);
    match &arguments.task {
        Task::Status => client()?.run(&Command::Status),
        Task::Rstats { node } => client()?.run(&Command::Rstats { node: node.clone() }),
        Task::Ping { node, count } => client()?.run(&Command::Ping { node: node.clone(), count: *count }),
        Task::Printcfg => client()?.run(&Command::PrintConfig),
        Task::Operate(operation) => operate::run(&client()?, operation),
        Task::ConfirmVoters(statement) => operate::confirm_voters(&client()?, statement),
        Task::Check { file: named } => check::run(named.as_deref().unwrap_or(&file), nodename),
        Task::Console => console::run(&client()?),
        Task::Run { log } => run::run(&file, nodename, log),
        Task::Demo { server } => demo::run(server.as_deref()),
    }
}

enum Parsed<A> {
    Arguments(A),
    /// The parser has printed what there was to say.
    Told(Exit),
}

fn parse<A: Parser>(words: impl Iterator<Item = OsString>) -> Result<Parsed<A>, CliError> {
    let error = match A::try_parse_from(words) {
        Ok(arguments) => return Ok(Parsed::Arguments(arguments)),
        Err(error) => error,
    };
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => print(&text).map(|()| Parsed::Told(Exit::Good)),
        // Not clap's 2, which means "warnings only" to those who run --check-config from a script.
        _ => {
            complain(&text);
            Ok(Parsed::Told(Exit::Failed))
        }
    }
}

fn finish(done: Result<Exit, CliError>) -> ExitCode {
    match done {
        Ok(exit) => exit.into(),
        Err(error @ CliError::ReaderGone) => error.exit().into(),
        Err(error) => {
            complain(&error.to_string());
            error.exit().into()
        }
    }
}
