//! `drcm status --check`: the cluster in the one line and the exit code of a monitoring plugin (Nagios, Icinga, Naemon, Zabbix ...).

use super::{CliError, Exit, output::printable};
use crate::{
    health::{Assessment, Health, Majority, Status, assess},
    model::{ClusterReport, Config},
};

/// Longest text before the figures, in characters: some monitors cut a line.
const LONGEST: usize = 400;

/// The line and the exit code for a cluster that answered.
#[must_use]
pub fn check(config: &Config, report: &ClusterReport) -> (String, Exit) {
    let assessment = assess(config, report);
    let verdict = &assessment.verdict;
    let mut said =
        if verdict.reasons.is_empty() { "every node is up, every resource at home".to_owned() } else { verdict.reasons.join("; ") };
    let standby: Vec<&str> = assessment.members.iter().filter(|member| member.standby).map(|member| member.name.as_str()).collect();
    if assessment.maintenance {
        said.push_str("; maintenance is on");
    }
    if !standby.is_empty() {
        said.push_str(&format!("; in standby: {}", standby.join(", ")));
    }
    (line(verdict.health, &said, &figures(&assessment)), exit(verdict.health))
}

/// The line and the exit code when nothing could be learned.
#[must_use]
pub fn unknown(why: &str) -> (String, Exit) {
    (line(Health::Unknown, why, ""), Exit::MonitorUnknown)
}

/// The same for a configuration that cannot be used and whatever else keeps the question from being asked: a plugin answers on
/// standard output, always.
#[must_use]
pub fn failed(error: &CliError) -> (String, Exit) {
    unknown(&error.to_string())
}

const fn exit(health: Health) -> Exit {
    match health {
        Health::Healthy => Exit::Good,
        Health::Degraded => Exit::MonitorWarning,
        Health::Critical => Exit::MonitorCritical,
        Health::Unknown => Exit::MonitorUnknown,
    }
}

fn line(health: Health, said: &str, figures: &str) -> String {
    let word = match health {
        Health::Healthy => "OK",
        Health::Degraded => "WARNING",
        Health::Critical => "CRITICAL",
        Health::Unknown => "UNKNOWN",
    };
    // A bar begins the figures, and may stand nowhere before.
    let said: String = printable(said).replace('|', "/").chars().take(LONGEST).collect();
    let figures = if figures.is_empty() { String::new() } else { format!(" | {figures}") };
    format!("DRCM {word} - {said}{figures}\n")
}

/// `label=value;warn;crit;min;max`, as monitors read it.
fn figures(assessment: &Assessment) -> String {
    let count = |wanted: &dyn Fn(Status) -> bool| assessment.rows.iter().filter(|row| wanted(row.status)).count();
    let (nodes, rows) = (assessment.members.len(), assessment.rows.len());
    let up = assessment.members.iter().filter(|member| member.up).count();
    let mut figures = vec![
        format!("nodes_up={up};;;0;{nodes}"),
        format!("resources_home={};;;0;{rows}", count(&|status| status == Status::Normal)),
        format!("resources_backup={};;;0;{rows}", count(&|status| status == Status::Backup)),
        format!("resources_down={};;;0;{rows}", count(&|status| !status.runs())),
        format!("duplicates={};;;0;", assessment.duplicates.len()),
    ];
    let Majority { seen, voters, unknown, .. } = assessment.majority;
    if !unknown {
        figures.push(format!("voters_seen={seen};;;0;{voters}"));
    }
    figures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        health::fixture::{healthy, kill, of, set, three_nodes},
        model::{Activity, Kind, NodeId, Subject, Wish, WishReport},
    };

    #[test]
    fn a_line_and_a_code_for_each_state() {
        let config = three_nodes();
        let mut report = healthy(&config);
        assert_eq!(
            check(&config, &report),
            (
                "DRCM OK - every node is up, every resource at home | nodes_up=3;;;0;3 resources_home=6;;;0;6 \
                 resources_backup=0;;;0;6 resources_down=0;;;0;6 duplicates=0;;;0; voters_seen=3;;;0;3\n"
                    .to_owned(),
                Exit::Good
            )
        );
        let author = NodeId::of("cmnode1");
        of(&mut report, "cmnode1").wishes = vec![
            WishReport { subject: Subject::Maintenance, wish: Wish::On, author, seconds_left: None },
            WishReport { subject: Subject::Standby(NodeId::of("cmnode3")), wish: Wish::On, author, seconds_left: None },
        ];
        let (text, exit) = check(&config, &report);
        assert_eq!(exit, Exit::Good);
        assert!(
            text.starts_with("DRCM OK - every node is up, every resource at home; maintenance is on; in standby: cmnode3 | "),
            "{text}"
        );

        set(&mut report, "cmnode2", Kind::Address, "cmnodef", Activity::Running, "");
        set(&mut report, "cmnode1", Kind::Address, "cmnodef", Activity::Stopped, "");
        let (text, exit) = check(&config, &report);
        assert_eq!((exit, exit.code()), (Exit::MonitorWarning, 1));
        assert!(text.starts_with("DRCM WARNING - ip:cmnodef is away from home;") && text.contains(" resources_backup=1;;;0;6 "), "{text}");

        kill(&mut report, "cmnode2");
        let (text, exit) = check(&config, &report);
        assert_eq!((exit, exit.code()), (Exit::MonitorCritical, 2));
        assert!(text.starts_with("DRCM CRITICAL - ") && text.contains("nodes_up=2;;;0;3") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn a_hand_over_seen_half_way_is_no_outage() {
        let config = three_nodes();
        let mut report = healthy(&config);
        set(&mut report, "cmnode1", Kind::Address, "cmnodef", Activity::Stopped, "cmnode2 owns it");
        let group = config.groups[0].id;
        let said = of(&mut report, "cmnode1").groups.iter_mut().find(|its| its.group == group).expect("its group");
        said.owner = Some(NodeId::of("cmnode2"));
        let (text, exit) = check(&config, &report);
        assert_eq!(exit, Exit::MonitorWarning, "{text}");
        assert!(text.contains("ip:cmnodef is starting"), "{text}");
        // Nobody takes it over from itself, nor does who is down.
        let said = of(&mut report, "cmnode1").groups.iter_mut().find(|its| its.group == group).expect("its group");
        said.owner = None;
        for name in ["cmnode2", "cmnode3"] {
            of(&mut report, name).groups.iter_mut().filter(|its| its.group == group).for_each(|its| its.owner = None);
        }
        assert_eq!(check(&config, &report).1, Exit::MonitorCritical);
    }

    #[test]
    fn what_is_not_known_is_3_on_one_line_without_bars() {
        let (text, exit) = unknown("a|b\nc");
        assert_eq!((text.as_str(), exit.code()), ("DRCM UNKNOWN - a/b c\n", 3));
        assert!(unknown(&"x".repeat(10_000)).0.len() < 500);
    }
}
