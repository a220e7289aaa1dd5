//! `drcm.rstats/1`

use serde::Serialize;

use super::page;
use crate::{
    cli::rstats::state,
    model::{Activity, ClusterReport, Config, NodeConfig},
};

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    at: Option<i64>,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    name: String,
    ip: String,
    answered: bool,
    failure: Option<String>,
    resources: Vec<Resource>,
}

#[derive(Serialize)]
struct Resource {
    kind: &'static str,
    nickname: String,
    backup: bool,
    since: Option<i64>,
}

/// The document about these nodes, and whether any of them answered; no report when no node answered.
#[must_use]
pub fn rstats(config: &Config, report: Option<&ClusterReport>, nodes: &[&NodeConfig]) -> (String, bool) {
    let nodes: Vec<Node> = nodes
        .iter()
        .map(|node| {
            let own = report.map_or_else(|| Err("no node answered".to_owned()), |report| state(config, report, node));
            let resources = own.iter().flat_map(|own| {
                own.resources.iter().filter(|resource| resource.activity == Activity::Running).map(|resource| Resource {
                    kind: resource.resource.kind.word(),
                    nickname: resource.resource.nickname.clone(),
                    backup: resource.home != own.node,
                    since: resource.since,
                })
            });
            Node {
                name: node.name.clone(),
                ip: node.keep_alive_ip.to_string(),
                answered: own.is_ok(),
                resources: resources.collect(),
                failure: own.err(),
            }
        })
        .collect();
    let answered = nodes.iter().any(|node| node.answered);
    (page(&Document { schema: "drcm.rstats/1", at: report.map(|report| report.at), nodes }), answered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::json::golden,
        health::fixture::{healthy, kill, set, three_nodes},
        model::Kind,
    };

    #[test]
    fn each_node_says_what_it_runs() {
        let config = three_nodes();
        let nodes: Vec<&NodeConfig> = config.nodes.iter().collect();
        let mut report = healthy(&config);
        kill(&mut report, "cmnode2");
        set(&mut report, "cmnode1", Kind::Crontab, "apps2", Activity::Running, "");
        let (text, answered) = rstats(&config, Some(&report), &nodes);
        assert!(answered);
        golden("rstats", "drcm.rstats/1", &text);
        let (text, answered) = rstats(&config, None, &nodes[..1]);
        assert!(!answered);
        golden("rstats_no_answer", "drcm.rstats/1", &text);
    }
}
