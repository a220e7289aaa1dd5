//! What a good configuration means in practice: how votes fall, and which driver and regime each resource gets. Pure.

use std::{collections::HashMap, time::Duration};

use crate::model::{Config, Driver, Group, Kind, NoQuorum, Quorum, Resource, ResourceId, Takeover};

use super::{
    finding::{Finding, Severity},
    keys, paces,
    words::Word as _,
};

/// Below this lease time whole seconds, the unit of an address's lifetime in the kernel, are too coarse.
const SHORTEST_KERNEL_LEASE: Duration = Duration::from_millis(1_300);

/// Longest group name that is shown, in characters.
const LONGEST_TITLE: usize = 80;

/// Findings about the cluster as a whole, then one line for each assignment.
pub(super) fn advice(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    votes(config, &mut findings);
    paces::paces(config, &mut findings);
    leases(config, &mut findings);
    assignments(config, &mut findings);
    findings
}

fn votes(config: &Config, findings: &mut Vec<Finding>) {
    let voters = config.voters().count();
    let mut say = |severity, message: String, help: &str| findings.push(Finding::new(severity, message).help(help));
    match config.server.quorum {
        Quorum::Auto | Quorum::Majority if config.nodes.len() > 1 && voters == 1 => say(
            Severity::Warning,
            "only one node votes: when it is down, no node may start anything".into(),
            "let three nodes vote; a node without resources (a witness) will do",
        ),
        Quorum::Auto if voters == 2 => say(
            Severity::Warning,
            format!(
                "two voters: a node cannot tell a dead partner from a cut link, so after {} it carries on alone, and a split leaves two owners",
                seconds(config.longest_lease())
            ),
            if config.server.gateway.is_some() {
                "add a third node without resources (a witness): three voters cannot split in two"
            } else {
                "add a third node without resources (a witness): three voters cannot split in two; or at least set `gateway`"
            },
        ),
        Quorum::Majority if voters == 2 => say(
            Severity::Warning,
            "two voters and quorum = majority: when one is down, the other stops what it leases".into(),
            "add a third node without resources (a witness)",
        ),
        Quorum::None if voters > 1 => say(
            Severity::Warning,
            "quorum = none: after a split each part runs everything, and leased resources have two owners".into(),
            "use quorum = auto, unless every resource bears two owners",
        ),
        Quorum::Auto | Quorum::Majority if voters > 2 && voters.is_multiple_of(2) => say(
            Severity::Info,
            format!("{voters} voters bear the loss of {} nodes, no more than {} voters would", (voters - 1) / 2, voters - 1),
            "`voter = 0` on one node, or a witness, makes the number odd",
        ),
        Quorum::Auto | Quorum::Majority | Quorum::None => {}
    }
    if config.server.no_quorum == NoQuorum::Freeze {
        say(
            Severity::Info,
            "no_quorum = freeze: a node cut off from the majority keeps what it runs, while the majority starts it again".into(),
            "use it only where every resource bears two owners",
        );
    }
}

fn leases(config: &Config, findings: &mut Vec<Finding>) {
    let leased = |kind: fn(Kind) -> bool| {
        config.groups.iter().filter(|group| group.is_leased()).flat_map(|group| &group.assignments).any(|member| kind(member.resource.kind))
    };
    let shortest = config.nodes.iter().map(|node| node.pace.lease()).min().unwrap_or_else(|| config.lease());
    if shortest < SHORTEST_KERNEL_LEASE && leased(|kind| kind == Kind::Address) {
        findings.push(
            Finding::new(
                Severity::Info,
                format!(
                    "the lease is {}, shorter than {}: the kernel counts the lifetime of an address in whole seconds, so it is 1 s",
                    seconds(shortest),
                    seconds(SHORTEST_KERNEL_LEASE)
                ),
            )
            .help("only after a daemon was paused or killed, two nodes may have an address at once, for at most that long"),
        );
    }
    if config.server.takeover == Takeover::Prompt && leased(|kind| kind != Kind::Address) {
        findings.push(
            Finding::new(
                Severity::Info,
                "takeover = prompt: only addresses end with the kernel's help; what else is leased is stopped by the daemon alone",
            )
            .help("when a stop is slow, or the daemon was paused, another node may start it meanwhile; takeover = strict waits"),
        );
    }
}

fn assignments(config: &Config, findings: &mut Vec<Finding>) {
    let resources: HashMap<&ResourceId, &Resource> = config.resources.iter().map(|resource| (&resource.id, resource)).collect();
    let active: HashMap<_, bool> = config.nodes.iter().map(|node| (node.id, node.active)).collect();
    for group in &config.groups {
        let title = title(group, config);
        if !group.candidates.iter().any(|node| active.get(node).copied().unwrap_or(false)) {
            findings.push(
                Finding::new(Severity::Warning, format!("group {title}: none of its nodes is active, so it never runs"))
                    .help("set node_is_active = 1 on one of them"),
            );
        }
        let regime = regime(group, config);
        for member in &group.assignments {
            let Some(resource) = resources.get(&member.resource) else { continue };
            let end = match member.resource.kind {
                _ if !group.is_leased() => "",
                Kind::Address if resource.driver == Driver::Native => ", ends with the kernel's address lifetime",
                Kind::Address | Kind::FileSystem | Kind::Service | Kind::Application | Kind::Crontab => ", ends with its stop",
            };
            findings.push(Finding::new(
                Severity::Info,
                format!(
                    "{} {}: {}, group {title}, {regime}{end}",
                    keys::noun(member.resource.kind),
                    member.resource.nickname,
                    driver(&resource.driver)
                ),
            ));
        }
    }
}

fn driver(driver: &Driver) -> String {
    match driver {
        Driver::Native => "native driver".into(),
        Driver::Script(path) => format!("script {}", path.display()),
    }
}

/// How a group's ownership ends and passes on.
fn regime(group: &Group, config: &Config) -> String {
    if !group.is_leased() {
        return format!("on {} only, no lease", config.name(group.home));
    }
    let lease = paces::lease_of(config, group.home);
    let lease = match config.server.takeover {
        Takeover::Prompt => seconds(lease),
        Takeover::Strict => format!("{} + {}", seconds(lease), seconds(config.server.stop_timeout)),
    };
    format!("lease {lease}, takeover {}", config.server.takeover.word())
}

pub(super) fn title(group: &Group, config: &Config) -> String {
    let title = group.title(config);
    match title.char_indices().nth(LONGEST_TITLE) {
        Some((end, _)) => format!("{}... ({} members)", &title[..end], group.assignments.len()),
        None => title,
    }
}

pub(super) fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs_f64())
}
