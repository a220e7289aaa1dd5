//! `drcm.ping/1`

use serde::Serialize;

use super::page;
use crate::{cli::ping::Echo, model::NodeConfig};

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    asked: usize,
    answered: usize,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    name: String,
    ip: String,
    asked: usize,
    answered: usize,
    round_trip_us: Option<RoundTrip>,
    failure: Option<String>,
}

#[derive(Serialize)]
struct RoundTrip {
    min: u64,
    avg: u64,
    max: u64,
}

/// The document of all rounds.
#[must_use]
pub fn ping(nodes: &[&NodeConfig], rounds: &[Vec<(&NodeConfig, Echo)>]) -> String {
    let nodes: Vec<Node> = nodes.iter().map(|node| summary(node, rounds)).collect();
    let sum = |count: fn(&Node) -> usize| nodes.iter().map(count).sum();
    page(&Document { schema: "drcm.ping/1", asked: sum(|node| node.asked), answered: sum(|node| node.answered), nodes })
}

fn summary(node: &NodeConfig, rounds: &[Vec<(&NodeConfig, Echo)>]) -> Node {
    let echoes: Vec<&Echo> = rounds.iter().flatten().filter(|(asked, _)| asked.id == node.id).map(|(_, echo)| echo).collect();
    let micros = |trip: &std::time::Duration| u64::try_from(trip.as_micros()).unwrap_or(u64::MAX);
    let trips: Vec<u64> = echoes.iter().filter_map(|echo| echo.as_ref().ok()).map(micros).collect();
    let mean = trips.iter().sum::<u64>().checked_div(trips.len() as u64);
    Node {
        name: node.name.clone(),
        ip: node.keep_alive_ip.to_string(),
        asked: echoes.len(),
        answered: trips.len(),
        round_trip_us: trips.iter().min().zip(mean).zip(trips.iter().max()).map(|((min, avg), max)| RoundTrip {
            min: *min,
            avg,
            max: *max,
        }),
        // The last one: it is the one to mend.
        failure: echoes.iter().rev().find_map(|echo| echo.as_ref().err().cloned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{cli::json::golden, health::fixture::three_nodes};

    #[test]
    fn rounds_are_summed_up_by_node() {
        let config = three_nodes();
        let nodes: Vec<&NodeConfig> = config.nodes.iter().take(2).collect();
        let round = |first: u64, second: Echo| vec![(nodes[0], Ok(Duration::from_micros(first))), (nodes[1], second)];
        let rounds =
            [round(200, Err("no answer in time".into())), round(300, Err("refused".into())), round(500, Ok(Duration::from_micros(90)))];
        golden("ping", "drcm.ping/1", &ping(&nodes, &rounds));
    }
}
