//! The report for people: members, resources, what is missing and why, and the health line that scripts look for.

use std::fmt::Write;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    operate,
    output::printable,
    paint::{Ink, Palette},
    table::Table,
};
use crate::{
    health::{Assessment, Health, LentVote, Majority, Row, Status, Verdict, assess},
    model::{ClusterReport, Config, Kind},
};

/// Most lines of one sort of warning; the rest are counted.
const WARNING_LIMIT: usize = 8;

/// The report of a cluster that answered. Times are shown in `zone`.
#[must_use]
pub fn render(config: &Config, report: &ClusterReport, zone: &TimeZone, palette: Palette) -> String {
    let assessment = assess(config, report);
    let seen_from = config.name(report.asked);
    let mut text = heading(report.at, Some(&seen_from), zone);
    text.push_str(&members(&assessment, palette));
    text.push_str(&resources(&assessment, zone, palette));
    text.push_str(&missing(&assessment.rows, palette));
    text.push_str(&warnings(&assessment, config, &seen_from, palette));
    text.push_str(&operate::section(config, report, palette));
    text.push_str(&health(&assessment, report, &seen_from, palette));
    text.push_str(&last_line(&assessment.verdict, palette));
    text
}

/// The report when no node answered, `at` seconds since 1970.
#[must_use]
pub fn render_unanswered(config: &Config, at: i64, zone: &TimeZone, palette: Palette) -> String {
    let mut table = Table::new(&["NAME", "HOSTNAME", "STATE", "IP"]);
    for node in &config.nodes {
        let ip = node.keep_alive_ip.to_string();
        table.inked(&[(&node.name, Ink::Plain), (&node.hostname, Ink::Plain), ("No answer", Ink::Bad), (&ip, Ink::Plain)]);
    }
    let verdict = Verdict { health: Health::Unknown, reasons: vec!["no node answered, so nothing is known of its resources".to_owned()] };
    let title = palette.paint(Ink::Strong, "Members");
    format!("{}{title}\n{}\n{}", heading(at, None, zone), table.render_in(palette), last_line(&verdict, palette))
}

fn last_line(verdict: &Verdict, palette: Palette) -> String {
    let ink = match verdict.health {
        Health::Healthy => Ink::Good,
        Health::Degraded => Ink::Warning,
        Health::Critical | Health::Unknown => Ink::Bad,
    };
    format!("{}\n", palette.paint(ink, &printable(&verdict.line())))
}

fn heading(at: i64, seen_from: Option<&str>, zone: &TimeZone) -> String {
    let seen_from = seen_from.map_or_else(String::new, |name| format!(", seen from {}", printable(name)));
    let date = Timestamp::from_second(at)
        .map_or_else(|_| at.to_string(), |at| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string());
    format!("DRCM cluster report {date}{seen_from}\n\n")
}

fn moment(at: Option<i64>, zone: &TimeZone) -> String {
    at.and_then(|at| Timestamp::from_second(at).ok())
        .map_or_else(String::new, |at| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string())
}

fn members(assessment: &Assessment, palette: Palette) -> String {
    let mut table = Table::new(&["NAME", "HOSTNAME", "STATE", "IP"]);
    for member in &assessment.members {
        let state = if member.up { ("Up", Ink::Good) } else { ("Down", Ink::Bad) };
        table.inked(&[(&member.name, Ink::Plain), (&member.hostname, Ink::Plain), state, (&member.ip, Ink::Plain)]);
        for note in &member.notes {
            table.detail(note);
        }
    }
    format!("{}\n{}\n", palette.paint(Ink::Strong, "Members"), table.render_in(palette))
}

fn resources(assessment: &Assessment, zone: &TimeZone, palette: Palette) -> String {
    let title = palette.paint(Ink::Strong, "Resources");
    if assessment.rows.is_empty() {
        return format!("{title}\nThe configuration lists none.\n\n");
    }
    let mut table = Table::new(&["KIND", "NICKNAME", "OWNER", "STATUS", "STARTED"]);
    for row in &assessment.rows {
        let owner = row.owner.as_deref().unwrap_or_default();
        let (kind, since) = (row.resource.kind.word(), moment(row.since, zone));
        let status = (row.status.word(), Ink::of(row.status));
        table.inked(&[(kind, Ink::Plain), (&row.resource.nickname, Ink::Plain), (owner, Ink::Plain), status, (&since, Ink::Plain)]);
        if !row.what.is_empty() {
            table.detail(&row.what);
        }
        if row.status != Status::Normal {
            table.detail(&format!("home {}", row.home));
        }
        for note in &row.notes {
            table.detail(note);
        }
    }
    format!("{title}\n{}\n", table.render_in(palette))
}

fn missing(rows: &[Row], palette: Palette) -> String {
    let counts: Vec<String> = [Kind::Crontab, Kind::Address, Kind::Service, Kind::Application, Kind::FileSystem]
        .into_iter()
        .map(|kind| {
            let count = rows.iter().filter(|row| row.resource.kind == kind && !row.status.runs()).count();
            format!("{count} {}", plural(kind, count))
        })
        .collect();
    let ink = if rows.iter().all(|row| row.status.runs()) { Ink::Plain } else { Ink::Bad };
    format!("{}\n", palette.paint(ink, &format!("Missing: {}", counts.join(", "))))
}

fn plural(kind: Kind, count: usize) -> &'static str {
    match (kind, count == 1) {
        (Kind::FileSystem, true) => "file system",
        (Kind::FileSystem, false) => "file systems",
        (Kind::Address, true) => "address",
        (Kind::Address, false) => "addresses",
        (Kind::Service, true) => "service",
        (Kind::Service, false) => "services",
        (Kind::Application, true) => "application",
        (Kind::Application, false) => "applications",
        (Kind::Crontab, true) => "crontab",
        (Kind::Crontab, false) => "crontabs",
    }
}

fn warnings(assessment: &Assessment, config: &Config, seen_from: &str, palette: Palette) -> String {
    let mut text = String::new();
    let mut warn = |lines: Vec<String>| {
        let surplus = lines.len().saturating_sub(WARNING_LIMIT);
        let surplus = (surplus > 0).then(|| format!("and {surplus} more like it"));
        for line in lines.iter().take(WARNING_LIMIT).chain(&surplus) {
            text.push_str(&palette.paint(Ink::Warning, &format!("WARNING: {}", printable(line))));
            text.push('\n');
        }
    };
    let duplicate = |resource: &str, nodes: &[String], listed: bool| {
        let cause = if listed { " (each lists it as its own)" } else { "" };
        format!("duplicate {resource}: active on {}{cause}", nodes.join(" and "))
    };
    warn(assessment.duplicates.iter().map(|found| duplicate(&found.resource.to_string(), &found.nodes, found.listed)).collect());
    if !assessment.mismatched.is_empty() {
        warn(vec![format!(
            "the configuration of {} differs from the one read here: make the files equal on all nodes",
            assessment.mismatched.join(", ")
        )]);
        warn(
            assessment
                .configurations
                .iter()
                .map(|(fingerprint, nodes)| {
                    let here = if *fingerprint == config.fingerprint { " (read here)" } else { "" };
                    let nodes = if nodes.is_empty() { "no node that answered".to_owned() } else { nodes.join(", ") };
                    format!("configuration {fingerprint}{here}: {nodes}")
                })
                .collect(),
        );
    }
    let unheard =
        assessment.unheard.iter().map(|(listener, speaker)| format!("{listener} does not hear {speaker}: check the network between them"));
    warn(unheard.collect());
    if assessment.majority.unknown {
        warn(vec![format!("{seen_from} gave no report of its own")]);
    }
    text
}

fn health(assessment: &Assessment, report: &ClusterReport, seen_from: &str, palette: Palette) -> String {
    let up = assessment.members.iter().filter(|member| member.up).count();
    let count = |status: Status| assessment.rows.iter().filter(|row| row.status == status).count();
    let idle = assessment.rows.iter().filter(|row| !row.status.runs()).count();
    let mut text = format!("\n{}\n", palette.paint(Ink::Strong, "Health"));
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {label:<10} {}", printable(value));
    };
    line("nodes", &format!("{up} of {} up", assessment.members.len()));
    line("quorum", &quorum(assessment.majority));
    if !assessment.lent.is_empty() {
        line("votes", &votes(&assessment.lent));
    }
    line(
        "config",
        &if assessment.mismatched.is_empty() {
            "the same on every node that answered".to_owned()
        } else {
            format!("differs on {}", assessment.mismatched.join(", "))
        },
    );
    line("resources", &format!("{} at home, {} on a backup node, {idle} not running", count(Status::Normal), count(Status::Backup)));
    if let Some(versions) = versions(assessment) {
        line("versions", &versions);
    }
    if up < assessment.members.len()
        && let Some(dropped) = dropped(report)
    {
        line("dropped", &format!("datagrams at {seen_from}: {dropped}"));
    }
    text
}

fn quorum(majority: Majority) -> String {
    let Majority { quorate, seen, voters, silent, pair_rules, unknown } = majority;
    let touch = format!("{seen} of {voters} voters in touch");
    match (unknown, quorate, silent, pair_rules) {
        (true, ..) => "unknown".to_owned(),
        (false, true, true, _) => format!("yes, {touch}; just started, it grants nothing yet"),
        (false, true, false, _) => format!("yes, {touch}"),
        (false, false, true, _) => format!("not yet, {touch}; just started"),
        (false, false, false, true) => format!("no majority, {touch}; the survivor carries on alone"),
        (false, false, false, false) => format!("NO, {touch}: leased resources stay down until a majority is back"),
    }
}

/// Where each vote is that is not at home.
fn votes(lent: &[LentVote]) -> String {
    let places: Vec<String> = lent.iter().map(|lent| format!("{}'s is with {}", lent.vote, lent.with)).collect();
    format!("{} (lent on leaving, and given back on return)", places.join(", "))
}

/// Only worth a line when they differ.
fn versions(assessment: &Assessment) -> Option<String> {
    let known: Vec<(&str, &str)> =
        assessment.members.iter().filter_map(|member| member.version.as_deref().map(|version| (version, member.name.as_str()))).collect();
    let (first, _) = known.first()?;
    let differ = known.iter().any(|(version, _)| version != first);
    differ.then(|| known.iter().map(|(version, name)| format!("{version} on {name}")).collect::<Vec<_>>().join(", "))
}

/// Datagrams that the node asked dropped for a reason that makes a running node look dead.
fn dropped(report: &ClusterReport) -> Option<String> {
    let asked = report.members.iter().find(|member| member.node == report.asked)?.report.as_ref()?;
    let telling = asked.dropped.iter().filter(|(_, count)| *count > 0).filter_map(|(reason, count)| {
        let question = match reason.as_str() {
            "bad seal" => "are the authkey files of all nodes equal?",
            "unknown sender" => "does every node read the same configuration?",
            "version" => "are the releases of all nodes close enough?",
            // The rest is everyday: repeats, and the first words of a daemon that has just started.
            _ => return None,
        };
        Some(format!("{count} ({reason}: {question})"))
    });
    let telling: Vec<String> = telling.collect();
    (!telling.is_empty()).then(|| telling.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        health::fixture::{self, NOON, healthy, kill, of, outlined, set, three_nodes},
        model::{Activity, Fingerprint, GroupId, NodeId, Problem, Quorum, Subject, Wish, WishReport},
    };

    /// Compares with the golden file; `DRCM_WRITE_GOLDEN=1` writes it instead, to be read before it is committed.
    fn golden(name: &str, text: &str) {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cm_stat").join(format!("{name}.txt"));
        if std::env::var_os("DRCM_WRITE_GOLDEN").is_some() {
            std::fs::write(&file, text).expect("the golden file is writable");
        }
        let wanted = std::fs::read_to_string(&file).expect("the golden file exists");
        assert!(text == wanted, "differs from {}:\n{text}", file.display());
        let last = text.lines().last().expect("a last line");
        assert!(last.starts_with("Cluster status: "), "{last}");
        assert_eq!(last == "Cluster status: HEALTHY", text.contains("HEALTHY"), "the word stands for itself only");
    }

    fn check(name: &str, config: &Config, report: &ClusterReport) {
        let text = render(config, report, &TimeZone::UTC, Palette::PLAIN);
        assert_eq!(text, render(config, &outlined(report), &TimeZone::UTC, Palette::PLAIN));
        golden(name, &text);
    }

    #[test]
    fn all_is_well() {
        let config = three_nodes();
        check("healthy", &config, &healthy(&config));
    }

    #[test]
    fn a_node_is_down_and_its_backup_runs() {
        let config = three_nodes();
        let mut report = healthy(&config);
        kill(&mut report, "cmnode2");
        set(&mut report, "cmnode1", Kind::Crontab, "apps2", Activity::Running, "");
        of(&mut report, "cmnode1").dropped = vec![("bad seal".into(), 12), ("replayed".into(), 3), ("version".into(), 0)];
        check("node_down", &config, &report);
    }

    #[test]
    fn home_is_back_but_has_not_taken_over_yet() {
        let config = three_nodes();
        let mut report = healthy(&config);
        set(&mut report, "cmnode2", Kind::Address, "cmnodef", Activity::Running, "");
        set(&mut report, "cmnode1", Kind::Address, "cmnodef", Activity::Stopped, "goes home in 7 s (failback_delay)");
        set(&mut report, "cmnode2", Kind::Crontab, "apps2", Activity::Starting, "");
        check("failback_pending", &config, &report);
    }

    #[test]
    fn a_resource_runs_nowhere() {
        let config = three_nodes();
        let mut report = healthy(&config);
        set(&mut report, "cmnode1", Kind::FileSystem, "data", Activity::Failed, "its start failed 3 times");
        set(&mut report, "cmnode3", Kind::FileSystem, "data", Activity::Failed, "its start failed 3 times");
        let problem = Problem { message: "mount: 192.168.122.1 does not answer;\n\u{1b}[31mcheck the server".into(), at: NOON, count: 3 };
        for name in ["cmnode1", "cmnode3"] {
            let own = of(&mut report, name);
            own.resources.iter_mut().find(|resource| resource.resource.nickname == "data").expect("listed").problem = Some(problem.clone());
        }
        check("missing", &config, &report);
    }

    #[test]
    fn an_address_is_on_two_nodes() {
        let config = three_nodes();
        let mut report = healthy(&config);
        set(&mut report, "cmnode3", Kind::Address, "cmnodef", Activity::Running, "");
        check("duplicate", &config, &report);
    }

    #[test]
    fn the_files_differ() {
        let config = three_nodes();
        let mut report = healthy(&config);
        of(&mut report, "cmnode3").fingerprint = Fingerprint(2);
        let mut stray = of(&mut report, "cmnode2").resources[0].clone();
        (stray.resource.nickname, stray.home) = ("stray".into(), NodeId::of("cmnode3"));
        stray.activity = Activity::Running;
        of(&mut report, "cmnode3").resources.push(stray);
        of(&mut report, "cmnode3").version = "2.1.0".into();
        check("mismatch", &config, &report);
    }

    #[test]
    fn a_vote_was_lent() {
        let config = three_nodes();
        let mut report = healthy(&config);
        kill(&mut report, "cmnode2");
        of(&mut report, "cmnode3").quorum.votes = Some(vec![NodeId::of("cmnode3"), NodeId::of("cmnode2")]);
        of(&mut report, "cmnode1").quorum.votes = None;
        check("lent_vote", &config, &report);
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let config = three_nodes();
        let mut report = healthy(&config);
        kill(&mut report, "cmnode2");
        let coloured = render(&config, &report, &TimeZone::UTC, Palette::COLOURED);
        assert!(coloured.contains("\u{1b}[1;31mDown\u{1b}[0m") && coloured.contains("\u{1b}[1mMembers\u{1b}[0m"), "{coloured}");
        let mut plain = String::new();
        for (at, part) in coloured.split('\u{1b}').enumerate() {
            plain.push_str(if at == 0 { part } else { part.split_once('m').expect("a colour").1 });
        }
        assert_eq!(plain, render(&config, &report, &TimeZone::UTC, Palette::PLAIN));
    }

    #[test]
    fn operators_want_something() {
        let config = three_nodes();
        let mut report = healthy(&config);
        let (group, author) = (config.groups[0].id, NodeId::of("cmnode3"));
        let wish = |subject, wish, seconds_left| WishReport { subject, wish, author, seconds_left };
        of(&mut report, "cmnode1").wishes = vec![
            wish(Subject::Maintenance, Wish::On, None),
            wish(Subject::Standby(NodeId::of("cmnode2")), Wish::On, None),
            wish(Subject::Place(group), Wish::Prefer(NodeId::of("cmnode2")), Some(7_140)),
            wish(Subject::Place(config.groups[1].id), Wish::Home, Some(86_399)),
            wish(Subject::Place(GroupId(5)), Wish::Prefer(NodeId(6)), None),
        ];
        check("operator", &config, &report);
    }

    #[test]
    fn no_node_answers() {
        golden("no_answer", &render_unanswered(&three_nodes(), NOON, &TimeZone::UTC, Palette::PLAIN));
    }

    #[test]
    fn long_names_stay_in_their_columns() {
        let long = "a-node-with-a-name-that-nobody-would-like-to-type";
        let mut config = fixture::nodes(&[long, "b"]);
        config.resources = vec![fixture::address("the-floating-address-of-the-web-servers", "10.0.0.100", "eth0"), fixture::crontab("ä")];
        fixture::group(&mut config, &[NodeId::of(long), NodeId::of("b")], &[Kind::Address], "the-floating-address-of-the-web-servers");
        fixture::group(&mut config, &[NodeId::of("b")], &[Kind::Crontab], "ä");
        check("long_names", &config, &healthy(&config));
    }

    #[test]
    fn a_crontab_is_listed_by_two_homes() {
        let mut config = fixture::nodes(&["cmnode1", "cmnode2"]);
        config.resources = vec![fixture::crontab("system"), fixture::service("web")];
        for home in ["cmnode1", "cmnode2"] {
            fixture::group(&mut config, &[NodeId::of(home)], &[Kind::Crontab], "system");
            fixture::group(&mut config, &[NodeId::of(home)], &[Kind::Service], "web");
        }
        check("two_homes", &config, &healthy(&config));
    }

    #[test]
    fn a_pair_loses_a_node() {
        let mut config = fixture::nodes(&["cmnode1", "cmnode2"]);
        config.resources = vec![fixture::service("web")];
        for home in ["cmnode1", "cmnode2"] {
            fixture::group(&mut config, &[NodeId::of(home)], &[Kind::Service], "web");
        }
        let mut report = healthy(&config);
        kill(&mut report, "cmnode2");
        check("pair", &config, &report);
    }

    #[test]
    fn no_quorum_and_links_in_doubt() {
        let mut config = three_nodes();
        config.server.quorum = Quorum::Majority;
        config.nodes[2].active = false;
        let mut report = healthy(&config);
        kill(&mut report, "cmnode2");
        kill(&mut report, "cmnode3");
        for (kind, nickname) in [(Kind::Address, "cmnodef"), (Kind::FileSystem, "data")] {
            set(&mut report, "cmnode1", kind, nickname, Activity::Asking, "waits for a majority: 1 of 3 voters answer");
        }
        report.members[1].up = true;
        check("no_quorum", &config, &report);
    }

    #[test]
    fn no_resources_at_all() {
        let config = fixture::nodes(&["cmnode1", "cmnode2", "cmnode3"]);
        check("no_resources", &config, &healthy(&config));
    }
}
