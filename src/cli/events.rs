//! `drcm events`: what happened lately on every node, oldest first; and what happens, as it happens.

use std::{collections::BTreeMap, thread, time::Duration};

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};

use super::{
    CliError, Exit,
    client::Client,
    fetch::NoAnswer,
    json, operate,
    output::{complain, print, printable},
    paint::{Ink, Palette},
    select,
};
use crate::model::{Config, EventPage, EventQuery, Incident, NodeId, Severity};

/// Events asked for at once; what is not wanted of them is left out here.
const ASKED: u32 = 1000;
/// From one question to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Selection {
    /// Not those that are older than this: 30m, 2h, 1d12h
    #[arg(long, value_name = "SPAN", value_parser = operate::span)]
    since: Option<Duration>,
    /// Those that this node saw, or that are about it
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Those about a group, named as for move
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Those at least as grave: info, warning or critical
    #[arg(long, value_name = "SEVERITY", default_value = "info", value_parser = severity)]
    severity: Severity,
    /// So many at most, the latest
    #[arg(long, short = 'c', value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(ASKED)))]
    count: u32,
    /// And what happens from now on, until it is interrupted
    #[arg(long)]
    follow: bool,
    /// Answer in JSON (docs/json.md); with --follow a line for each
    #[arg(long)]
    json: bool,
}

/// Which events are shown.
struct Filter {
    node: Option<String>,
    /// Titles, as events repeat them.
    groups: Option<Vec<String>>,
    severity: Severity,
}

impl Filter {
    fn wants(&self, event: &Incident) -> bool {
        let node = |wanted: &String| event.node == *wanted || event.about.as_ref() == Some(wanted);
        let group = |wanted: &Vec<String>| event.group.as_ref().is_some_and(|group| wanted.contains(group));
        event.severity >= self.severity && self.node.as_ref().is_none_or(node) && self.groups.as_ref().is_none_or(group)
    }
}

/// Prints what is wanted.
///
/// # Errors
/// A name that the configuration does not have, or an answer that cannot be written.
pub fn run(client: &Client, selection: &Selection, palette: Palette) -> Result<Exit, CliError> {
    let filter = understand(client, selection)?;
    let since_ms = selection.since.map_or(0, |since| {
        let span = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        Timestamp::now().as_millisecond().saturating_sub(span)
    });
    let query = EventQuery { own: false, after: Vec::new(), since_ms, newest: ASKED };
    let pages = match client.events(&query) {
        Ok(pages) => pages,
        Err(no_answer) => {
            if selection.json && !selection.follow {
                print(&json::events(client.config(), &[], &[]))?;
            }
            return Ok(give_up(&no_answer));
        }
    };
    let mut events = chosen(&pages, &filter);
    let most = usize::try_from(selection.count).unwrap_or(usize::MAX);
    events.drain(..events.len().saturating_sub(most));
    match (selection.json, selection.follow) {
        (true, false) => print(&json::events(client.config(), &pages, &events))?,
        (true, true) => print(&events.iter().map(|event| json::event(event)).collect::<String>())?,
        (false, false) if events.is_empty() => print("no such events\n")?,
        (false, _) => print(&render(&events, &TimeZone::system(), palette))?,
    }
    if !selection.json {
        missing(client.config(), &pages);
    }
    if !selection.follow {
        return Ok(Exit::Good);
    }
    follow(client, selection, &filter, newest(&BTreeMap::new(), &pages), palette)
}

/// Prints what is new each second. Ends with the reader of it, or a signal.
fn follow(
    client: &Client,
    selection: &Selection,
    filter: &Filter,
    mut known: BTreeMap<NodeId, u64>,
    palette: Palette,
) -> Result<Exit, CliError> {
    let mut silent = false;
    loop {
        thread::sleep(INTERVAL);
        let after = known.iter().map(|(node, number)| (*node, *number)).collect();
        match client.events(&EventQuery { own: false, after, since_ms: 0, newest: ASKED }) {
            Ok(pages) => {
                silent = false;
                let events = chosen(&pages, filter);
                known = newest(&known, &pages);
                print(&if selection.json {
                    events.iter().map(|event| json::event(event)).collect::<String>()
                } else {
                    render(&events, &TimeZone::system(), palette)
                })?;
            }
            Err(no_answer) if !std::mem::replace(&mut silent, true) => complain(&format!("{no_answer}; trying again each second")),
            Err(_) => {}
        }
    }
}

fn understand(client: &Client, selection: &Selection) -> Result<Filter, CliError> {
    let config = client.config();
    let groups = |wanted: &String| -> Result<Vec<String>, CliError> {
        let found = select::groups(config, client.file(), wanted)?;
        Ok(found.iter().map(|group| Incident::title(&group.title(config))).collect())
    };
    Ok(Filter {
        node: selection.node.as_deref().map(|wanted| client.node(wanted).map(|node| node.name.clone())).transpose()?,
        groups: selection.group.as_ref().map(groups).transpose()?,
        severity: selection.severity,
    })
}

/// Of all nodes, in the order of their clocks.
fn chosen<'a>(pages: &'a [EventPage], filter: &Filter) -> Vec<&'a Incident> {
    let mut events = EventPage::merged(pages);
    events.retain(|event| filter.wants(event));
    events
}

/// The greatest number known of each node; of one that does not answer the one known before.
#[must_use]
pub fn newest(known: &BTreeMap<NodeId, u64>, pages: &[EventPage]) -> BTreeMap<NodeId, u64> {
    let mut newest = known.clone();
    newest.extend(pages.iter().filter(|page| page.answered).map(|page| (page.node, page.newest)));
    newest
}

/// How a group came where it runs, in few words; none of an event that is about something else.
#[must_use]
pub fn short(event: &Incident) -> Option<String> {
    let timeline = event.timeline.as_ref()?;
    let from = timeline.from.as_deref().filter(|from| **from != timeline.to)?;
    let steps = [("noticed", timeline.detected_ms), ("lease", timeline.lease_ms), ("announced", timeline.announced_ms)];
    let steps: Vec<String> = steps.into_iter().filter_map(|(step, span)| Some(format!("{step} {}", span?))).collect();
    let group = event.group.as_deref().unwrap_or_default();
    Some(format!("{group}: {from} to {} in {} ms ({})", timeline.to, timeline.running_ms, steps.join(", ")))
}

/// A line each.
#[must_use]
pub fn render(events: &[&Incident], zone: &TimeZone, palette: Palette) -> String {
    events.iter().map(|event| line(event, zone, palette) + "\n").collect()
}

fn line(event: &Incident, zone: &TimeZone, palette: Palette) -> String {
    let severity = palette.paint(ink(event), &format!("{:<8}", event.severity.word().to_uppercase()));
    format!("{} {severity} {:<12} {}", clock(event.at_ms, zone), printable(&event.node), printable(&event.text))
}

/// How an event is shown.
#[must_use]
pub const fn ink(event: &Incident) -> Ink {
    match event.severity {
        Severity::Info => Ink::Plain,
        Severity::Warning => Ink::Warning,
        Severity::Critical => Ink::Bad,
    }
}

fn clock(at_ms: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(at) => at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => "at no time".to_owned(),
    }
}

/// Whose events are not among them.
fn missing(config: &Config, pages: &[EventPage]) {
    let names: Vec<String> = pages.iter().filter(|page| !page.answered).map(|page| config.name(page.node)).collect();
    if !names.is_empty() {
        complain(&format!("what {} saw is missing: no answer from there", names.join(", ")));
    }
}

fn give_up(no_answer: &NoAnswer) -> Exit {
    complain(&no_answer.to_string());
    Exit::Failed
}

fn severity(text: &str) -> Result<Severity, String> {
    let all = [Severity::Info, Severity::Warning, Severity::Critical];
    all.into_iter().find(|severity| severity.word() == text).ok_or_else(|| format!("\"{text}\" is none of info, warning and critical"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::fixture::{event, failover};

    #[test]
    fn events_of_all_nodes_are_one_story() {
        let page = |node: &str, events: Vec<Incident>| EventPage {
            node: NodeId::of(node),
            answered: true,
            newest: events.last().map_or(0, |event| event.number),
            events,
        };
        let pages = [
            page("cmnode2", vec![event("cmnode2", 7, 1_500, "node cmnode1 is down"), failover(8, 1_504)]),
            page("cmnode3", vec![event("cmnode3", 3, 1_501, "x\u{1b}[2J")]),
        ];
        let all = Filter { node: None, groups: None, severity: Severity::Info };
        let text = render(&chosen(&pages, &all), &TimeZone::UTC, Palette::PLAIN);
        assert_eq!(
            text,
            "1970-01-01 00:00:01.500 INFO     cmnode2      node cmnode1 is down\n\
             1970-01-01 00:00:01.501 INFO     cmnode3      x?[2J\n\
             1970-01-01 00:00:01.504 WARNING  cmnode2      group cmnode1:web moved\n"
        );
        let count = |filter: Filter| chosen(&pages, &filter).len();
        assert_eq!(count(Filter { severity: Severity::Warning, ..all }), 1);
        assert_eq!(count(Filter { node: Some("cmnode3".into()), groups: None, severity: Severity::Info }), 1);
        assert_eq!(count(Filter { node: Some("cmnode1".into()), groups: None, severity: Severity::Info }), 1, "it is about it");
        assert_eq!(count(Filter { node: None, groups: Some(vec!["cmnode1:web".into()]), severity: Severity::Info }), 1);
        let short: Vec<String> =
            chosen(&pages, &Filter { node: None, groups: None, severity: Severity::Info }).into_iter().filter_map(short).collect();
        assert_eq!(short, ["cmnode1:web: cmnode1 to cmnode2 in 1504 ms (noticed 1500, lease 1502, announced 1504)"]);
        let known = newest(&BTreeMap::from([(NodeId::of("cmnode1"), 4)]), &pages);
        assert_eq!(known.values().copied().sum::<u64>(), 4 + 8 + 3);
    }
}
