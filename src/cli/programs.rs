//! The two programs: arguments in, exit code out.

use std::{env, ffi::OsString, path::Path, process::ExitCode};

use clap::{CommandFactory as _, Parser, error::ErrorKind};

use super::{
    CliError, Exit, apply,
    arguments::{self, ServerArguments},
    check,
    client::{Client, Form},
    command::{self, Command, ConsoleCommand},
    console, convert, demo, drill, events, monitor, operate,
    output::{complain, print},
    paint::Palette,
    people::{PeopleArguments, Task},
    run, watch, what_if,
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

/// The arguments of `drcm` and of `drcm_server`, for manual pages and completions.
#[must_use]
pub fn commands() -> [clap::Command; 2] {
    [PeopleArguments::command(), ServerArguments::command()]
}

fn serve(arguments: &ServerArguments) -> Result<Exit, CliError> {
    let file = arguments::config_file(arguments.config_file.as_deref());
    let nodename = arguments.nodename.as_deref();
    let palette = Palette::of_stdout(arguments.color);
    if arguments.check_config {
        return check::run(&file, nodename);
    }
    match &arguments.command {
        Some(line) => {
            let form = if arguments.json { Form::Json } else { Form::Text(palette) };
            ask(&file, nodename, command::parse_with(line, arguments.node.as_deref(), arguments.count)?, form)
        }
        None if arguments.client => console::run(&Client::open(&file, nodename)?, palette),
        None => run::run(&file, nodename, &arguments.log),
    }
}

/// `--command` takes what the console takes.
fn ask(file: &Path, nodename: Option<&str>, command: ConsoleCommand, form: Form) -> Result<Exit, CliError> {
    match command {
        ConsoleCommand::Ask(command) => Client::open(file, nodename)?.run(&command, form),
        ConsoleCommand::Help => print(&command::help()).map(|()| Exit::Good),
        ConsoleCommand::Leave => Ok(Exit::Good),
        ConsoleCommand::Nothing => Err(CliError::NoCommand),
    }
}

fn answer(arguments: &PeopleArguments) -> Result<Exit, CliError> {
    let file = arguments::config_file(arguments.config_file.as_deref());
    let nodename = arguments.nodename.as_deref();
    let palette = Palette::of_stdout(arguments.color);
    let client = || Client::open(&file, nodename);
    match &arguments.task {
        Task::Status { check: true, .. } => {
            let (line, exit) = client().map_or_else(|error| monitor::failed(&error), |client| client.check());
            print(&line).map(|()| exit)
        }
        Task::Status { form, check: false } => client()?.run(&Command::Status, form.form(palette)),
        Task::Rstats { node, form } => client()?.run(&Command::Rstats { node: node.clone() }, form.form(palette)),
        Task::Ping { node, count, form } => client()?.run(&Command::Ping { node: node.clone(), count: *count }, form.form(palette)),
        Task::Printcfg { form } => client()?.run(&Command::PrintConfig, form.form(palette)),
        Task::Explain { resource } => client()?.explain(resource, palette),
        Task::Events(selection) => events::run(&client()?, selection, palette),
        Task::Watch => watch::run(&file, nodename, palette),
        Task::WhatIf(case) => what_if::run(&client()?, case, palette),
        Task::Operate(operation) => operate::run(&client()?, operation),
        Task::ConfirmVoters(statement) => operate::confirm_voters(&client()?, statement),
        Task::Reload => operate::reload(&client()?),
        Task::Drill { node } => drill::run(&client()?, node.as_deref(), palette),
        Task::Apply(change) => apply::run(&client()?, change),
        Task::Check { file: named } => check::run(named.as_deref().unwrap_or(&file), nodename),
        Task::Convert(conversion) => convert::run(conversion),
        Task::Console => console::run(&client()?, palette),
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
