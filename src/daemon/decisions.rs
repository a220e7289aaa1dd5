//! The decisions of the core in words, for the log and the journal.

use std::time::Duration;

use tracing::{Level, debug, info, warn};

use super::operator;
use crate::model::{AskReason, Config, Decision, GroupId, NodeId, VoteNews};

/// Logs one decision.
pub fn log(config: &Config, me: NodeId, decision: &Decision) {
    match sentence(config, me, decision) {
        (Level::WARN, text) => warn!("{text}"),
        (Level::DEBUG, text) => debug!("{text}"),
        (_, text) => info!("{text}"),
    }
}

/// One decision in words. WARN is for what an operator should look at; the normal course of a failover is INFO.
pub fn sentence(config: &Config, me: NodeId, decision: &Decision) -> (Level, String) {
    let title = |group: GroupId| config.title(group);
    let info = |text: String| (Level::INFO, text);
    let warn = |text: String| (Level::WARN, text);
    match *decision {
        Decision::PeerUp(node) => info(format!("node {} is up", config.name(node))),
        Decision::PeerDown { node, .. } => {
            warn(format!("node {} is down: not heard for {} ms", config.name(node), silence(config, me, node).as_millis()))
        }
        Decision::PeerLeft(node) => info(format!("node {} has left the cluster cleanly", config.name(node))),
        Decision::Mismatch { node, differs: true } => {
            warn(format!("node {} runs another configuration: compare the configuration files of both nodes", config.name(node)))
        }
        Decision::Mismatch { node, differs: false } => info(format!("node {} runs the same configuration again", config.name(node))),
        Decision::OtherVoters { node, differs: true } => warn(format!(
            "node {} counts other voters than this node, and its vote does not count here: restart it with the new configuration, \
             and change one voter at a time",
            config.name(node)
        )),
        Decision::OtherVoters { node, differs: false } => info(format!("the vote of node {} counts again", config.name(node))),
        Decision::Quorum { quorate: true, voters } => info(format!("quorum: in touch with {voters} of {} voters", config.voters().count())),
        Decision::Quorum { quorate: false, voters } => warn(format!(
            "no quorum: in touch with {voters} of {} voters; nothing that needs a lease can run here",
            config.voters().count()
        )),
        Decision::Asks { group, why } => {
            let because = match why {
                AskReason::Home => "this is its home node".to_owned(),
                AskReason::Preferred => "an operator wants it here".to_owned(),
                AskReason::HandedOver { by } => format!("{} hands it over", config.name(by)),
                AskReason::BetterGone => "every better candidate is gone".to_owned(),
                AskReason::StayedFree => "nobody took it".to_owned(),
            };
            info(format!("group {}: asking the voters, {because}", title(group)))
        }
        Decision::Acquired { group, .. } => info(format!("group {}: lease acquired, starting", title(group))),
        Decision::Withdrew { group } => (Level::DEBUG, format!("group {}: no majority granted it yet, asking again", title(group))),
        Decision::Lost { group } => warn(format!("group {}: the lease ran out, stopping", title(group))),
        Decision::Released { group, next: Some(next) } => {
            info(format!("group {}: stopped and handed over to {}", title(group), config.name(next)))
        }
        Decision::Released { group, next: None } => info(format!("group {}: stopped and released", title(group))),
        Decision::Running { group } => info(format!("group {}: running", title(group))),
        Decision::Unable { group } => warn(format!("group {}: cannot run here", title(group))),
        Decision::KeepsAlone => {
            info("the other voter is silent and the link works: what runs here is kept on this node's own vote".to_owned())
        }
        Decision::Wished { subject, wish, stamp } => info(format!(
            "operator's order (number {}, said on {}): {}",
            stamp.counter,
            config.name(stamp.author),
            operator::phrase(config, subject, wish)
        )),
        Decision::Lapsed(subject) => info(format!("the time of an operator's order is over: {}", operator::lapsed(config, subject))),
        Decision::Vote { vote, news } => about_vote(config, vote, news),
        Decision::CarriesOnAlone => warn("the other voter is silent: this node carries on alone".to_owned()),
    }
}

/// How much silence makes one node dead for another.
fn silence(config: &Config, one: NodeId, other: NodeId) -> Duration {
    [one, other].into_iter().filter_map(|node| config.node(node)).map(|node| node.pace.lease()).max().unwrap_or_default()
}

fn about_vote(config: &Config, vote: NodeId, news: VoteNews) -> (Level, String) {
    let voter = config.name(vote);
    match news {
        VoteNews::Passed { to } if to == vote => (Level::INFO, format!("the vote of {voter} is back there")),
        VoteNews::Passed { to } => (Level::INFO, format!("the vote of {voter} is lent to {}", config.name(to))),
        VoteNews::Taken { from } => (Level::INFO, format!("the vote of {voter} is here now, from {}", config.name(from))),
        VoteNews::Missed { with } => {
            let place = with.map_or_else(|| "elsewhere".to_owned(), |node| format!("with {}, as far as is known here", config.name(node)));
            let text = format!(
                "the vote of this node was lent and is {place}: it counts again when the node that has it is up and in touch, or when \
                 every other voter says that it has not got it. A node that will never come back must be taken out of the \
                 configuration of all nodes"
            );
            (Level::WARN, text)
        }
        VoteNews::MadeAnew => {
            (Level::WARN, format!("no node had the vote of {voter} any more: it is made anew and counts after a silence"))
        }
        VoteNews::Overtaken { by } => {
            (Level::WARN, format!("{} has the vote of {voter} by a later hand-over: what was noted here was old or lost", config.name(by)))
        }
        VoteNews::Doubted => (
            Level::WARN,
            format!(
                "{voter} has lost its notes and takes its vote for its own, while it is lent to this node: nothing new is granted with it until {voter} knows"
            ),
        ),
    }
}
