//! Could every node run what it may have to take over? Each looks at what a start would need, and starts nothing.

use std::{fmt::Write as _, time::Duration};

use super::{
    CliError, Exit,
    client::Client,
    output::{print, printable},
    paint::{Ink, Palette},
};
use crate::{
    control::blocking,
    model::{Config, DrillReport, NodeId, Request, Response},
};

/// Longest wait: every node has some seconds to look around.
const PATIENCE: Duration = Duration::from_secs(6);

/// What each node said; nothing from one that did not answer.
pub type Drill = Vec<(NodeId, Option<Vec<DrillReport>>)>;

/// Lets the nodes look around, and prints what they found.
///
/// # Errors
/// An unknown node, or no daemon on this machine that answers.
pub fn run(client: &Client, node: Option<&str>, palette: Palette) -> Result<Exit, CliError> {
    let only = node.map(|wanted| client.node(wanted).map(|node| node.id)).transpose()?;
    let config = client.config();
    let mut drill = match blocking::ask_local(&config.server.run_dir, &Request::DrillAll, PATIENCE) {
        Ok(Response::DrillAll(drill)) => drill,
        Ok(Response::Refused(why)) => return Err(CliError::NotDone { why }),
        Ok(_) => {
            let why = "the daemon answered another question: run the drcm and drcm_server of the same version".to_owned();
            return Err(CliError::NotDone { why });
        }
        Err(error) => {
            let why = format!("{error}; the daemon of this machine asks the others, so say it on a node where one runs");
            return Err(CliError::NotDone { why });
        }
    };
    drill.retain(|(node, _)| only.is_none_or(|only| only == *node));
    let (text, good) = render(config, &drill, palette);
    print(&text)?;
    Ok(if good { Exit::Good } else { Exit::Failed })
}

/// The report, and whether every node could run all of it.
#[must_use]
pub fn render(config: &Config, drill: &Drill, palette: Palette) -> (String, bool) {
    let mut text = String::new();
    let mut good = true;
    for (node, reports) in drill {
        let name = printable(&config.name(*node));
        let Some(reports) = reports else {
            good = false;
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}: {}", palette.paint(Ink::Bad, "no answer"));
            continue;
        };
        let faults: Vec<&DrillReport> = reports.iter().filter(|report| report.fault.is_some()).collect();
        let running = reports.iter().filter(|report| report.runs).count();
        let backups = reports.iter().filter(|report| report.home != *node).count();
        let summary = match faults.len() {
            0 => palette.paint(Ink::Good, "ready"),
            count => palette.paint(Ink::Bad, &format!("{count} of {} could not be started", reports.len())),
        };
        let _ = writeln!(text, "{name}: {summary} (resources: {}, running here: {running}, backups: {backups})", reports.len());
        for report in faults {
            good = false;
            let home = if report.home == *node { String::new() } else { format!(" (backup of {})", printable(&config.name(report.home))) };
            let (resource, fault) = (report.resource.to_string(), report.fault.as_deref().unwrap_or_default());
            let fault = fault.strip_prefix(&resource).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(fault);
            let _ = writeln!(text, "  {}{home}: {}", printable(&resource), printable(fault));
        }
    }
    (text, good)
}
