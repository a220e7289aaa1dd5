//! The decisions of the core, as lines of the log.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::operator;
use crate::model::{AskReason, Config, Decision, GroupId, NodeId, VoteNews};

/// Logs one decision. WARNING is for what an operator should look at; the normal course of a failover is INFO.
pub fn log(config: &Config, me: NodeId, decision: &Decision) {
    let title = |group: GroupId| config.title(group);
    match *decision {
        Decision::PeerUp(node) => info!("node {} is up", config.name(node)),
        Decision::PeerDown { node, .. } => {
            warn!("node {} is down: not heard for {} ms", config.name(node), silence(config, me, node).as_millis());
        }
        Decision::PeerLeft(node) => info!("node {} has left the cluster cleanly", config.name(node)),
        Decision::Mismatch { node, differs: true } => {
            warn!("node {} runs another configuration: compare the configuration files of both nodes", config.name(node));
        }
        Decision::Mismatch { node, differs: false } => info!("node {} runs the same configuration again", config.name(node)),
        Decision::OtherVoters { node, differs: true } => warn!(
            "node {} counts other voters than this node, and its vote does not count here: restart it with the new configuration, \
             and change one voter at a time",
            config.name(node)
        ),
        Decision::OtherVoters { node, differs: false } => info!("the vote of node {} counts again", config.name(node)),
        Decision::Quorum { quorate: true, voters } => info!("quorum: in touch with {voters} of {} voters", config.voters().count()),
        Decision::Quorum { quorate: false, voters } => {
            warn!("no quorum: in touch with {voters} of {} voters; nothing that needs a lease can run here", config.voters().count());
        }
        Decision::Asks { group, why } => {
            let because = match why {
                AskReason::Home => "this is its home node".to_owned(),
                AskReason::Preferred => "an operator wants it here".to_owned(),
                AskReason::HandedOver { by } => format!("{} hands it over", config.name(by)),
                AskReason::BetterGone => "every better candidate is gone".to_owned(),
                AskReason::StayedFree => "nobody took it".to_owned(),
            };
            info!("group {}: asking the voters, {because}", title(group));
        }
        Decision::Acquired { group, .. } => info!("group {}: lease acquired, starting", title(group)),
        Decision::Withdrew { group } => debug!("group {}: no majority granted it yet, asking again", title(group)),
        Decision::Lost { group } => warn!("group {}: the lease ran out, stopping", title(group)),
        Decision::Released { group, next: Some(next) } => info!("group {}: stopped and handed over to {}", title(group), config.name(next)),
        Decision::Released { group, next: None } => info!("group {}: stopped and released", title(group)),
        Decision::Running { group } => info!("group {}: running", title(group)),
        Decision::Unable { group } => warn!("group {}: cannot run here", title(group)),
        Decision::KeepsAlone => info!("the other voter is silent and the link works: what runs here is kept on this node's own vote"),
        Decision::Wished { subject, wish, stamp } => {
            info!(
                "operator's order (number {}, said on {}): {}",
                stamp.counter,
                config.name(stamp.author),
                operator::phrase(config, subject, wish)
            );
        }
        Decision::Lapsed(subject) => info!("the time of an operator's order is over: {}", operator::lapsed(config, subject)),
        Decision::Vote { vote, news } => log_vote(config, vote, news),
        Decision::CarriesOnAlone => warn!("the other voter is silent: this node carries on alone"),
    }
}

/// How much silence makes one node dead for another.
fn silence(config: &Config, one: NodeId, other: NodeId) -> Duration {
    [one, other].into_iter().filter_map(|node| config.node(node)).map(|node| node.pace.lease()).max().unwrap_or_default()
}

fn log_vote(config: &Config, vote: NodeId, news: VoteNews) {
    let voter = config.name(vote);
    match news {
        VoteNews::Passed { to } if to == vote => info!("the vote of {voter} is back there"),
        VoteNews::Passed { to } => info!("the vote of {voter} is lent to {}", config.name(to)),
        VoteNews::Taken { from } => info!("the vote of {voter} is here now, from {}", config.name(from)),
        VoteNews::Missed { with } => {
            let place = with.map_or_else(|| "elsewhere".to_owned(), |node| format!("with {}, as far as is known here", config.name(node)));
            warn!(
                "the vote of this node was lent and is {place}: it counts again when the node that has it is up and in touch, or when \
                 every other voter says that it has not got it. A node that will never come back must be taken out of the \
                 configuration of all nodes"
            );
        }
        VoteNews::MadeAnew => warn!("no node had the vote of {voter} any more: it is made anew and counts after a silence"),
        VoteNews::Overtaken { by } => {
            warn!("{} has the vote of {voter} by a later hand-over: what was noted here was old or lost", config.name(by));
        }
        VoteNews::Doubted => {
            warn!(
                "{voter} has lost its notes and takes its vote for its own, while it is lent to this node: nothing new is granted with it until {voter} knows"
            );
        }
    }
}
