//! What the paces of the nodes mean: who takes over from whom after how long, and what makes no sense. Pure.

use std::time::Duration;

use crate::model::{Config, NodeConfig, NodeId, Transport};

use super::{
    advice::{seconds, title},
    finding::{Finding, Severity},
};

/// A lost packet can hold up a TCP connection over a long link for about a second, and then again: a shorter silence must
/// not make a node dead.
const LEAST_BY_TCP: Duration = Duration::from_secs(3);
/// Heartbeats more often than this tell nothing new where a round trip takes longer.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Groups with a line of their own.
const LISTED: usize = 40;

/// Findings about nodes with a pace or a transport of their own.
pub(super) fn paces(config: &Config, findings: &mut Vec<Finding>) {
    for node in config.nodes.iter().filter(|node| node.transport == Transport::Tcp) {
        far(config, node, findings);
    }
    if config.nodes.iter().any(|node| node.pace != config.server.pace()) {
        start(config, findings);
        failovers(config, findings);
    }
}

/// How much silence makes one node dead for another.
pub(super) fn silence(config: &Config, one: NodeId, other: NodeId) -> Duration {
    [one, other].into_iter().filter_map(|node| config.node(node)).map(|node| node.pace.lease()).max().unwrap_or_default()
}

/// The T of the leases that a node asks for while all voters are in touch: that of the nearest majority.
pub(super) fn lease_of(config: &Config, owner: NodeId) -> Duration {
    let mut times: Vec<Duration> = config.voters().map(|voter| silence(config, owner, voter)).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_else(|| config.lease())
}

fn far(config: &Config, node: &NodeConfig, findings: &mut Vec<Finding>) {
    let name = &node.name;
    let lease = node.pace.lease();
    findings.push(Finding::new(
        Severity::Info,
        format!(
            "node {name}: transport = tcp: heartbeats to and from it go by TCP port {}, every {} ms or more; after {} of silence it is dead",
            config.server.tcpport,
            node.pace.interval.as_millis(),
            seconds(lease)
        ),
    ));
    if lease < LEAST_BY_TCP {
        findings.push(
            Finding::new(
                Severity::Warning,
                format!(
                    "node {name}: by TCP, a lost packet can hold up its heartbeats for a second or two, and {} of silence make it dead",
                    seconds(lease)
                ),
            )
            .help(format!("give {name} a pace of its own: keep_alive_interval = 500 and dead_node_count = 20 (10 s) suit most long links")),
        );
    } else if node.pace.interval < ROUND_TRIP {
        findings.push(
            Finding::new(
                Severity::Warning,
                format!(
                    "node {name}: a heartbeat every {} ms is more often than a round trip between data centres takes",
                    node.pace.interval.as_millis()
                ),
            )
            .help("a longer keep_alive_interval and a smaller dead_node_count do the same with less traffic"),
        );
    }
}

/// What one slow node costs all others.
fn start(config: &Config, findings: &mut Vec<Finding>) {
    let longest = config.longest_lease();
    findings.push(Finding::new(
        Severity::Info,
        format!("a voter that has just started grants nothing for {}, the longest lease that it may have granted before", seconds(longest)),
    ));
}

fn failovers(config: &Config, findings: &mut Vec<Finding>) {
    let leased: Vec<_> = config.groups.iter().filter(|group| group.is_leased()).collect();
    for group in leased.iter().take(LISTED) {
        let lease = lease_of(config, group.home);
        let heirs: Vec<String> = group
            .candidates
            .iter()
            .skip(1)
            .map(|heir| format!("{} after {}", config.name(*heir), seconds(silence(config, group.home, *heir).max(lease))))
            .collect();
        let heirs = heirs.join(", else by ");
        let message = format!("group {}: when {} fails, it is taken over by {heirs}", title(group, config), config.name(group.home));
        findings.push(Finding::new(Severity::Info, message));
    }
    if leased.len() > LISTED {
        findings.push(Finding::new(Severity::Info, format!("... and {} more groups", leased.len() - LISTED)));
    }
}
