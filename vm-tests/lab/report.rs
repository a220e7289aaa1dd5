//! What a scenario measured, and the table of all of them in docs/vm-tests.md.

use std::{collections::BTreeMap, path::Path, time::Duration};

use drcm::lab::processors;

use super::{
    COUNT, CRONTAB, INTERVAL, LEASE, SHARE, SITE, WEB, WRITER,
    image::{Accelerator, Image},
};

/// The columns: what the sampler calls them.
const COLUMNS: [&str; 7] = [SITE, WEB, "mount:nfs3", "mount:nfs4", SHARE, WRITER, CRONTAB];
/// How long each resource was gone.
#[derive(Clone, Debug, Default)]
pub struct Outages(BTreeMap<String, Duration>);

impl Outages {
    pub fn set(&mut self, resource: &str, gone: Duration) {
        self.0.insert(resource.to_owned(), gone);
    }

    pub fn of(&self, resource: &str) -> Duration {
        self.0.get(resource).copied().unwrap_or_default()
    }

    pub fn longest(&self) -> Duration {
        self.0.values().copied().max().unwrap_or_default()
    }
}

/// What one scenario found.
#[derive(Default)]
pub struct Report {
    rows: Vec<(String, Outages, String)>,
}

impl Report {
    /// One thing that happened, how long each resource was gone, and what else is worth telling.
    pub fn row(&mut self, what: &str, outages: Outages, also: impl Into<String>) {
        let also = also.into();
        println!("    {what}: {} {also}", cells(&outages).join(" | "));
        self.rows.push((what.to_owned(), outages, also));
    }
}

fn cells(outages: &Outages) -> Vec<String> {
    let mut cells: Vec<String> =
        COLUMNS.iter().map(|column| outages.0.get(*column).map_or_else(String::new, |gone| words(*gone))).collect();
    let longest = outages.longest();
    cells.push(if outages.0.is_empty() { String::new() } else { format!("{:.2}", longest.as_secs_f64() / LEASE.as_secs_f64()) });
    cells
}

fn words(gone: Duration) -> String {
    if gone < Duration::from_secs(1) { format!("{} ms", gone.as_millis()) } else { format!("{:.1} s", gone.as_secs_f64()) }
}

/// Puts the rows of a scenario into the document, in the place of its earlier ones.
pub fn record(document: &Path, order: &[&str], scenario: &str, report: &Report, image: &Image) {
    let made = format!("{}, {} ({}), {}", jiff::Zoned::now().date(), env!("CARGO_PKG_VERSION"), image.package, accelerator(image));
    let row = |(what, outages, also): &(String, Outages, String)| {
        format!("| {scenario} | {what} | {} | {also} | {made} |", cells(outages).join(" | "))
    };
    let rows: Vec<String> = report.rows.iter().map(row).collect();
    let heading = format!(
        "h = {} ms, dead_node_count = {COUNT}, T = {} s. Last written on {}.\n\n\
         | scenario | what happened | address | nginx | NFS 3 | NFS 4.2 | CIFS | application | crontab | longest in T | also | when, version (package), processors |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|",
        INTERVAL.as_millis(),
        LEASE.as_secs(),
        processors(),
    );
    drcm::lab::record(document, "make vm-test", order, scenario, &heading, &rows).unwrap();
}

fn accelerator(image: &Image) -> &'static str {
    match image.accelerator {
        Accelerator::Kvm => "KVM",
        Accelerator::Tcg => "emulated",
    }
}
