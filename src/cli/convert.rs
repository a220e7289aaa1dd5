//! `drcm convert`: a configuration in the other format, or one made of the files of another program, on standard output or in a new
//! file.

use std::{
    fs::OpenOptions,
    io::Write,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::ValueEnum;

use super::{
    CliError, Exit,
    output::{complain, print},
};
use crate::config::{self, ConvertError, Converted, Format, KeepalivedFile, Severity};

/// A format, as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// cm.toml
    Toml,
    /// cm.cfg
    Cfg,
}

/// A program whose files can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    /// keepalived.conf, one of each node
    Keepalived,
}

/// What `drcm convert` is told.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Conversion {
    /// The file: TOML when its name ends in .toml, else the format of cm.cfg. With --from one of each node
    #[arg(required = true)]
    file: Vec<PathBuf>,
    /// The format to write [default: the other one; toml with --from]
    #[arg(long, value_name = "FORMAT")]
    to: Option<Target>,
    /// The program that the files are from
    #[arg(long, value_name = "PROGRAM")]
    from: Option<Origin>,
    /// With --from, what `uname -n` says on a node and its own address, in the order of the files; of several nodes with one file it
    /// is the file of all
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = node, requires = "from")]
    node: Vec<(String, IpAddr)>,
    /// A new file for the result, instead of standard output; one that is there is never overwritten
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Converts. What the result does not say, and what was guessed, goes to standard error.
///
/// # Errors
/// A file cannot be read or used, or says what the other format cannot; the result cannot be written.
pub fn run(conversion: &Conversion) -> Result<Exit, CliError> {
    let (text, findings) = match conversion.from {
        None => (in_the_other_format(conversion)?, Vec::new()),
        Some(Origin::Keepalived) => {
            let Converted { text, findings } = from_keepalived(conversion)?;
            (text, findings)
        }
    };
    match &conversion.output {
        None => print(&text)?,
        Some(output) => write(output, &text)?,
    }
    if !findings.is_empty() {
        complain(&config::render(&findings));
    }
    let warned = findings.iter().any(|finding| finding.severity != Severity::Info);
    Ok(if warned { Exit::Warnings } else { Exit::Good })
}

fn in_the_other_format(conversion: &Conversion) -> Result<String, CliError> {
    let [file] = conversion.file.as_slice() else {
        return Err(usage("takes one file"));
    };
    let (text, from) = config::read(file).map_err(|report| CliError::configuration(&report))?;
    let to = match (conversion.to, from) {
        (Some(Target::Toml), _) | (None, Format::Cfg) => Format::Toml,
        (Some(Target::Cfg), _) | (None, Format::Toml) => Format::Cfg,
    };
    config::convert(&file.display().to_string(), &text, from, to).map_err(not_converted)
}

fn from_keepalived(conversion: &Conversion) -> Result<Converted, CliError> {
    let Conversion { file, node, to, .. } = conversion;
    let of_all = file.len() == 1 && node.len() > 1;
    if !node.is_empty() && node.len() != file.len() && !of_all {
        return Err(usage(&format!("has {} files and {} --node", file.len(), node.len())));
    }
    let mut files = Vec::new();
    for at in 0..if of_all { node.len() } else { file.len() } {
        let path = if of_all { &file[0] } else { &file[at] };
        let (text, _) = config::read(path).map_err(|report| CliError::configuration(&report))?;
        files.push(KeepalivedFile { name: path.display().to_string(), text, node: node.get(at).cloned() });
    }
    let to = if *to == Some(Target::Cfg) { Format::Cfg } else { Format::Toml };
    config::from_keepalived(&files, to).map_err(not_converted)
}

fn not_converted(error: ConvertError) -> CliError {
    CliError::NotConverted(Box::new(error))
}

fn usage(fault: &str) -> CliError {
    CliError::Usage {
        command: "convert".to_owned(),
        fault: fault.to_owned(),
        usage: "drcm convert FILE, or drcm convert --from keepalived [--node NAME=ADDRESS]... FILE...".to_owned(),
    }
}

/// `NAME=ADDRESS`.
fn node(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text.split_once('=').ok_or("write NAME=ADDRESS")?;
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if name.is_empty() || name.len() > 253 || !name.bytes().all(good) {
        return Err(format!("{name:?} is no host name"));
    }
    Ok((name.to_owned(), address.parse().map_err(|_| format!("{address:?} is no address"))?))
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let failed = |source| CliError::NotWritten { file: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}
