//! The pages and completions, from the arguments, and the reference of the configuration.

#[path = "configuration.rs"]
mod configuration;

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

/// Writes all of them into a directory.
///
/// # Errors
/// When it cannot be written.
pub fn write(directory: &Path) -> io::Result<()> {
    let [people, server] = drcm::cli::commands();
    pages(directory, people.clone(), "1", "drcm_server(8)")?;
    pages(directory, server.clone(), "8", "drcm(1)")?;
    fs::write(directory.join("configuration.md"), configuration::reference())?;
    for command in [people, server] {
        let name = command.get_name().to_owned();
        for (shell, place) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let place = directory.join(place);
            fs::create_dir_all(&place)?;
            let made = generate_to(shell, &mut command.clone(), &name, &place)?;
            if shell == Shell::Bash {
                // The name under which it is looked for.
                fs::rename(made, place.join(&name))?;
            }
        }
    }
    Ok(())
}

/// A page for the command and one for each of its subcommands.
fn pages(directory: &Path, mut command: Command, section: &str, also: &str) -> io::Result<()> {
    let place = directory.join(format!("man{section}"));
    fs::create_dir_all(&place)?;
    command = command.disable_help_subcommand(true);
    command.build();
    page(&place, &command, section, also)
}

fn page(place: &Path, command: &Command, section: &str, also: &str) -> io::Result<()> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        page(place, inner, section, also)?;
    }
    let man = Man::new(command.clone()).section(section).source(concat!("drcm ", env!("CARGO_PKG_VERSION"))).manual("drcm");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    sections(&mut text, &command.get_after_help().map(ToString::to_string).unwrap_or_default())?;
    writeln!(text, ".SH \"SEE ALSO\"\n{}", escaped(also))?;
    fs::write(place.join(man.get_filename()), text)
}

/// What follows the options in `--help`, in its columns: a line that ends in a colon and is not indented heads a section.
fn sections(text: &mut Vec<u8>, help: &str) -> io::Result<()> {
    let mut open = false;
    for line in help.lines() {
        if let Some(head) = line.strip_suffix(':').filter(|head| !head.starts_with(' ')) {
            writeln!(text, "{}.SH \"{}\"\n.nf", if open { ".fi\n" } else { "" }, escaped(&head.to_uppercase()))?;
            open = true;
        } else if open && !line.is_empty() && !line.starts_with(' ') {
            writeln!(text, ".fi\n.PP\n{}", escaped(line))?;
            open = false;
        } else if !line.is_empty() {
            writeln!(text, "{}", escaped(line.strip_prefix("  ").unwrap_or(line)))?;
        }
    }
    if open { writeln!(text, ".fi") } else { Ok(()) }
}

/// As roff wants it: no line begins with a dot or a quote by accident, no hyphen turns into another sign.
fn escaped(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}
