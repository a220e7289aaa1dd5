//! `drcm what-if`: what would happen if nodes died, or if another configuration were in force; by the nodes' own decision, run ahead
//! in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Subcommand;

use super::{
    CliError, Exit,
    client::Client,
    output::{complain, print, printable},
    paint::{Ink, Palette},
    printcfg,
};
use crate::{
    cluster::Wait,
    config,
    forecast::{Course, Forecast, Majority, Situation, Stop},
    health::View,
    model::{Activity, ClusterReport, Config, GroupId, Lasts, NodeId, Record, Stamp, in_words},
};

/// What might happen.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Case {
    /// These nodes lose their power, all at once
    #[command(after_help = "\
Examples:
  drcm what-if node cmnode1            who takes over what, after how long
  drcm what-if node cmnode1 cmnode2    both at once: is there a majority left?")]
    Node {
        /// Nodename, hostname, address or localhost
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// The nodes read this configuration instead
    #[command(after_help = "\
Examples:
  drcm what-if config ./cm.cfg         what differs, and what would run elsewhere")]
    Config {
        /// The other configuration
        file: PathBuf,
    },
}

/// Most differences that are listed.
const LISTED: usize = 60;

/// Foretells and prints it.
///
/// # Errors
/// An unknown node, a configuration that cannot be used, a cluster too large, or standard output.
pub fn run(client: &Client, case: &Case, palette: Palette) -> Result<Exit, CliError> {
    let other = match case {
        Case::Node { names } => Err(names.iter().map(|name| client.node(name).map(|node| node.id)).collect::<Result<BTreeSet<_>, _>>()?),
        Case::Config { file } => Ok((file, config::load(file).map_err(|report| CliError::configuration(&report))?.config)),
    };
    let report = match client.report() {
        Ok(report) => report,
        Err(no_answer) => {
            complain(&no_answer.to_string());
            return Ok(Exit::Failed);
        }
    };
    let now = situation(client.config(), &report);
    let text = match other {
        Err(nodes) => {
            let forecast = now.without(&nodes).map_err(|error| CliError::NotForetold(Box::new(error)))?;
            deaths(&now, &nodes, &forecast, palette)
        }
        Ok((file, other)) => {
            let then = Situation { config: other, ..now.clone() };
            let after = then.owners().map_err(|error| CliError::NotForetold(Box::new(error)))?;
            changes(&now, &then, &after, file, palette)
        }
    };
    print(&text).map(|()| Exit::Good)
}

/// The state of the cluster, from what its nodes report.
#[must_use]
pub fn situation(config: &Config, report: &ClusterReport) -> Situation {
    let view = View::new(config, report);
    let mut owners = BTreeMap::new();
    let mut failed = BTreeSet::new();
    for own in view.node_reports() {
        for group in &own.groups {
            match group.activity {
                Activity::Running | Activity::Starting => drop(owners.insert(group.group, own.node)),
                Activity::Failed => drop(failed.insert((group.group, own.node))),
                Activity::Stopped | Activity::Asking | Activity::Stopping => {}
            }
        }
    }
    let wishes = view.asked().map(|asked| asked.wishes.as_slice()).unwrap_or_default();
    let record = |(counter, wish): (u64, &crate::model::WishReport)| Record {
        subject: wish.subject,
        stamp: Stamp { counter, author: wish.author },
        wish: wish.wish,
        lasts: wish.seconds_left.map_or(Lasts::Always, |seconds| Lasts::For(seconds.max(1) * 1000)),
    };
    let votes = view.node_reports().flat_map(|own| own.quorum.votes.iter().flatten().map(|vote| (*vote, own.node)));
    Situation {
        config: std::sync::Arc::new(config.clone()),
        down: config.nodes.iter().map(|node| node.id).filter(|node| !view.is_up(*node)).collect(),
        owners,
        failed,
        wishes: (1..).zip(wishes).map(record).collect(),
        lent: votes.filter(|(vote, with)| vote != with).collect(),
    }
}

fn deaths(now: &Situation, nodes: &BTreeSet<NodeId>, forecast: &Forecast, palette: Palette) -> String {
    let config = &now.config;
    // In the order of the file, as everywhere.
    let names: Vec<String> = config.nodes.iter().filter(|node| nodes.contains(&node.id)).map(|node| node.name.clone()).collect();
    let verb = if nodes.len() == 1 { "lost its" } else { "lost their" };
    let mut text = palette.paint(Ink::Strong, &format!("If {} {verb} power now:", printable(&names.join(" and "))));
    text.push('\n');
    let already: Vec<String> = nodes.iter().filter(|node| now.down.contains(node)).map(|node| config.name(*node)).collect();
    if !already.is_empty() {
        text.push_str(&format!(
            "  {} down already\n",
            printable(&format!("{} {}", already.join(", "), if already.len() == 1 { "is" } else { "are" }))
        ));
    }
    for course in &forecast.courses {
        let (ink, line) = course_line(config, course);
        text.push_str(&format!("  {}\n", palette.paint(ink, &printable(&line))));
    }
    match forecast.untouched {
        0 => {}
        1 => text.push_str("  1 other group is not touched\n"),
        more => text.push_str(&format!("  {more} {}groups are not touched\n", if forecast.courses.is_empty() { "" } else { "other " })),
    }
    let (ink, line) = majority_line(forecast.quorum);
    text.push_str(&format!("  {}\n", palette.paint(ink, &line)));
    if forecast.courses.iter().any(|course| course.after.is_ok()) {
        text.push_str(
            "Interruptions are from the loss of power until the node begins to start the group: add what its resources take to start.\n",
        );
    }
    text
}

fn course_line(config: &Config, course: &Course) -> (Ink, String) {
    let title = config.title(course.group);
    match (course.before, &course.after) {
        (Some(before), Ok((after, outage))) if before == *after => {
            (Ink::Warning, format!("{title} is interrupted on {} for {}", config.name(before), span(*outage)))
        }
        (Some(before), Ok((after, outage))) => {
            (Ink::Warning, format!("{title} goes from {} to {}, after {}", config.name(before), config.name(*after), span(*outage)))
        }
        (None, Ok((after, _))) => (Ink::Plain, format!("{title} is started on {}", config.name(*after))),
        (_, Err(stop)) => (Ink::Bad, format!("{title} runs nowhere: {}", stop_words(config, course.group, *stop))),
    }
}

fn stop_words(config: &Config, group: GroupId, stop: Stop) -> String {
    let single = config.group(group).is_some_and(|group| !group.is_leased());
    match stop {
        Stop::NobodyLeft if single => "no other node may run it".to_owned(),
        Stop::NobodyLeft => "no node that may run it is left".to_owned(),
        Stop::Undecided(node) => format!("{} has not taken it", config.name(node)),
        Stop::Waits(node, wait) => {
            let name = config.name(node);
            match wait {
                Wait::Ineligible => format!("{name} is inactive or in standby"),
                Wait::Maintenance => "maintenance is on, and nothing is started".to_owned(),
                Wait::Unable => format!("it failed on {name} (`drcm cleanup` lets it try again)"),
                Wait::NoQuorum => "no majority of voters is left".to_owned(),
                Wait::Silent { .. } => format!("{name} has just started"),
                Wait::OwnedBy(owner) => format!("{} claims it", config.name(owner)),
                Wait::LeaseRuns { holder, .. } => format!("the lease of {} goes on", config.name(holder)),
                Wait::Retry { .. } => format!("the voters refuse it to {name}"),
                Wait::Better { node, .. } => format!("it is left to {}", config.name(node)),
            }
        }
    }
}

fn majority_line(quorum: Option<Majority>) -> (Ink, String) {
    match quorum {
        None => (Ink::Bad, "no node is left".to_owned()),
        Some(Majority { seen, voters, alone: true, .. }) => {
            (Ink::Warning, format!("the survivor carries on alone ({seen} of {voters} votes), if its link and the gateway are well"))
        }
        Some(Majority { quorate: true, seen, voters, .. }) => {
            // As many may go as leave more than half.
            let spare = seen.saturating_sub(voters / 2 + 1);
            let more = match spare {
                0 => "one more loss stops what is leased".to_owned(),
                1 => "one more voter may be lost".to_owned(),
                spare => format!("{spare} more voters may be lost"),
            };
            (if spare == 0 { Ink::Warning } else { Ink::Good }, format!("a majority is left, {seen} of {voters} votes: {more}"))
        }
        Some(Majority { quorate: false, seen, voters, .. }) => {
            (Ink::Bad, format!("no majority is left, {seen} of {voters} votes: what is leased stops"))
        }
    }
}

fn span(span: Duration) -> String {
    if span < Duration::from_millis(20) {
        "hardly any interruption".to_owned()
    } else if span < Duration::from_secs(60) {
        format!("{:.1} s", span.as_secs_f64())
    } else {
        in_words(span.as_secs())
    }
}

fn changes(now: &Situation, then: &Situation, after: &BTreeMap<GroupId, NodeId>, file: &Path, palette: Palette) -> String {
    let mut text = String::new();
    let mut line = |ink: Ink, line: &str| text.push_str(&format!("{}\n", palette.paint(ink, &printable(line))));
    if now.config.fingerprint == then.config.fingerprint {
        line(Ink::Good, &format!("{} means the same for the cluster as the configuration in force", file.display()));
    } else {
        line(Ink::Strong, &format!("{} instead of the configuration in force:", file.display()));
    }
    let differences = differences(&now.config, &then.config);
    for (ink, difference) in differences.iter().take(LISTED) {
        line(*ink, &format!("  {difference}"));
    }
    if differences.len() > LISTED {
        line(Ink::Plain, &format!("  and {} more differences", differences.len() - LISTED));
    }
    let runs = runs(now, then, after);
    if runs.is_empty() {
        line(Ink::Good, "Every resource would run where it runs now.");
    } else {
        line(Ink::Strong, "What runs where, once all nodes have it:");
        for (ink, difference) in runs.iter().take(LISTED) {
            line(*ink, &format!("  {difference}"));
        }
        if runs.len() > LISTED {
            line(Ink::Plain, &format!("  and {} more", runs.len() - LISTED));
        }
    }
    text
}

/// What is written differently, line by line as printcfg has it.
fn differences(one: &Config, other: &Config) -> Vec<(Ink, String)> {
    let mut found = Vec::new();
    let sections = |config: &Config| printcfg::sections(config);
    let (before, after) = (sections(one), sections(other));
    for (name, lines) in &after {
        match before.iter().find(|(known, _)| known == name) {
            None => found.push((Ink::Good, format!("new: {name}"))),
            Some((_, old)) => {
                found.extend(old.iter().filter(|line| !lines.contains(line)).map(|line| (Ink::Bad, format!("{name}: - {line}"))));
                found.extend(lines.iter().filter(|line| !old.contains(line)).map(|line| (Ink::Good, format!("{name}: + {line}"))));
            }
        }
    }
    let gone = before.iter().filter(|(name, _)| !after.iter().any(|(known, _)| known == name));
    found.extend(gone.map(|(name, _)| (Ink::Bad, format!("gone: {name}"))));
    found
}

/// What would run elsewhere, begin or end.
fn runs(now: &Situation, then: &Situation, after: &BTreeMap<GroupId, NodeId>) -> Vec<(Ink, String)> {
    let places = |config: &Config, owners: &BTreeMap<GroupId, NodeId>| -> BTreeMap<String, String> {
        let owned = config.groups.iter().filter_map(|group| Some((group, config.name(*owners.get(&group.id)?))));
        owned
            .flat_map(|(group, owner)| {
                let home = config.name(group.home);
                group
                    .assignments
                    .iter()
                    .map(move |assignment| (format!("{home}:{}", assignment.resource), owner.clone()))
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let (before, after) = (places(&now.config, &now.owners), places(&then.config, after));
    let mut found = Vec::new();
    for (name, owner) in &after {
        match before.get(name) {
            None => found.push((Ink::Good, format!("{name} is started on {owner}"))),
            Some(was) if was != owner => found.push((Ink::Warning, format!("{name} goes from {was} to {owner}"))),
            Some(_) => {}
        }
    }
    for (name, was) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
        found.push((Ink::Bad, format!("{name} is stopped on {was}")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        health::fixture::{healthy, kill, set, three_nodes},
        model::Kind,
    };

    fn told(report: &ClusterReport, nodes: &[&str]) -> String {
        let now = situation(&three_nodes(), report);
        let nodes = nodes.iter().map(|node| NodeId::of(node)).collect();
        deaths(&now, &nodes, &now.without(&nodes).expect("small"), Palette::PLAIN)
    }

    /// Without the figures, which the next test looks at.
    fn golden(name: &str, text: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/what_if").join(format!("{name}.txt"));
        if std::env::var_os("DRCM_WRITE_GOLDEN").is_some() {
            std::fs::write(&file, text).expect("the golden file is writable");
        }
        let wanted = std::fs::read_to_string(&file).expect("the golden file exists");
        assert!(text == wanted, "differs from {}:\n{text}", file.display());
    }

    #[test]
    fn deaths_are_foretold_from_the_reports() {
        let mut report = healthy(&three_nodes());
        golden("one", &told(&report, &["cmnode1"]));
        golden("two", &told(&report, &["cmnode1", "cmnode2"]));
        kill(&mut report, "cmnode2");
        set(&mut report, "cmnode1", Kind::Crontab, "apps2", Activity::Running, "");
        golden("another", &told(&report, &["cmnode2", "cmnode3"]));
    }

    #[test]
    fn another_configuration_is_compared_and_its_places_are_foretold() {
        let text = |front: &str, backup: &str| {
            format!(
                "[CM_SERVER]\ndead_node_count = 15\n[CM_IPADDRS]\nfront, 10.0.0.100, 24, {front}\n[CM_SERVICES]\nweb, httpd\n\
                 [CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\nnode_floating_ip_addrs = front\n\
                 [CM_NODE]\nnodename = b\nhostname = b\nkeep_alive_ip = 10.0.0.2\n{backup}\n"
            )
        };
        let config = |text: &str| config::parse_cfg("t", text).unwrap_or_else(|report| panic!("{report}")).config;
        let first = config(&text("eth0", "node_backup_floating_ip_addrs = a:front"));
        let now = situation(&first, &healthy(&first));
        let page = |other: &str| {
            let then = Situation { config: config(other), ..now.clone() };
            changes(&now, &then, &then.owners().expect("small"), Path::new("new.cfg"), Palette::PLAIN)
        };
        golden("same", &page(&format!("# a remark\n{}", text("eth0", "node_backup_floating_ip_addrs = a:front"))));
        golden("other", &page(&text("eth1", "node_services = web")));
        let third = "[CM_NODE]\nnodename = c\nhostname = c\nkeep_alive_ip = 10.0.0.3\nnode_services = web\n";
        let moved = text("eth0", third).replace(
            "nodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\nnode_floating",
            "nodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\n#",
        );
        golden("third", &page(&moved));
    }
}
