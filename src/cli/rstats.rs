//! The raw lines of what runs where: a contract with the scripts that cut them up.
//!
//! Per node: `rstats NAME@IP successful`, the lines `TYPE:NICKNAME,STARTTIME`, `rstats NAME@IP end`. TYPE begins with
//! `backup_` when the node runs it for another; STARTTIME is in seconds since 1970, 0 when not known. A node that did not answer
//! has `rstats NAME@IP failed: REASON` and the same end line, so that `sed -n "/NAME/,/NAME/p"` still ends where it should. No
//! line of a node names another node, for the same reason: a reason says by its address who was asked.

use std::fmt::Write;

use super::output::printable;
use crate::model::{Activity, ClusterReport, Config, NodeConfig, NodeReport};

/// The text for these nodes, and whether any of them answered.
#[must_use]
pub fn render(config: &Config, report: &ClusterReport, nodes: &[&NodeConfig]) -> (String, bool) {
    let mut text = String::new();
    let mut answered = false;
    for node in nodes {
        let name = format!("{}@{}", node.name, node.keep_alive_ip);
        let own = state(config, report, node);
        answered |= own.is_ok();
        let (state, lines) = match own {
            Ok(own) => ("successful".to_owned(), raw_lines(own)),
            Err(why) => (format!("failed: {why}"), String::new()),
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "rstats {name} {}\n{lines}rstats {name} end\n", printable(&state));
    }
    (text, answered)
}

/// What a node said, or why it said nothing.
pub(super) fn state<'a>(config: &Config, report: &'a ClusterReport, node: &NodeConfig) -> Result<&'a NodeReport, String> {
    let asked = config.node(report.asked).map_or_else(|| "another node".to_owned(), |node| node.keep_alive_ip.to_string());
    let member = report.members.iter().find(|member| member.node == node.id);
    match member.map(|member| (member.up, member.report.as_ref())) {
        Some((_, Some(own))) => Ok(own),
        Some((true, None)) => Err(format!("{asked} hears it but it gave no report (is TCP port {} open?)", config.server.tcpport)),
        Some((false, None)) => Err(format!("it is down, as seen from {asked}")),
        None => Err(format!("{asked} does not know it (the configurations differ)")),
    }
}

/// The text when no node answered.
#[must_use]
pub fn render_unanswered(nodes: &[&NodeConfig]) -> String {
    let lines = nodes.iter().map(|node| {
        let name = format!("{}@{}", node.name, node.keep_alive_ip);
        format!("rstats {name} failed: no node answered\nrstats {name} end\n")
    });
    lines.collect()
}

fn raw_lines(report: &NodeReport) -> String {
    let running = report.resources.iter().filter(|resource| resource.activity == Activity::Running);
    let mut lines: Vec<String> = running
        .map(|resource| {
            let prefix = if resource.home == report.node { "" } else { "backup_" };
            let nickname = printable(&resource.resource.nickname);
            format!("{prefix}{}:{nickname},{}\n", resource.resource.kind.word(), resource.since.unwrap_or(0))
        })
        .collect();
    // What it is home of first, kind by kind; the order of a node's own list means nothing to a script.
    lines.sort_by_key(|line| line.starts_with("backup_"));
    if lines.is_empty() { "No CM resources started\n".to_owned() } else { lines.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        health::fixture::{healthy, kill, of, set, three_nodes},
        model::{Kind, NodeId},
    };

    #[test]
    fn each_node_is_framed_and_a_dead_one_too() {
        let config = three_nodes();
        let mut report = healthy(&config);
        kill(&mut report, "cmnode2");
        set(&mut report, "cmnode1", Kind::Crontab, "apps2", Activity::Running, "");
        set(&mut report, "cmnode1", Kind::Service, "web", Activity::Starting, "");
        of(&mut report, "cmnode3").resources.clear();
        let nodes: Vec<&NodeConfig> = config.nodes.iter().collect();
        let (text, answered) = render(&config, &report, &nodes);
        assert!(answered);
        assert_eq!(
            text,
            "rstats cmnode1@10.0.0.1 successful\n\
             ip:cmnodef,1772364600\n\
             filesystem:data,1772364600\n\
             backup_cron:apps2,1772366340\n\
             rstats cmnode1@10.0.0.1 end\n\
             rstats cmnode2@10.0.0.2 failed: it is down, as seen from 10.0.0.1\n\
             rstats cmnode2@10.0.0.2 end\n\
             rstats cmnode3@10.0.0.3 successful\n\
             No CM resources started\n\
             rstats cmnode3@10.0.0.3 end\n"
        );
    }

    /// What the documented `sed -n "/NAME/,/NAME/p" | grep -v NAME` makes of a text.
    fn cut(text: &str, name: &str) -> Vec<String> {
        let mut inside = false;
        let mut kept = Vec::new();
        for line in text.lines() {
            if line.contains(name) {
                inside = !inside;
            } else if inside {
                kept.push(line.to_owned());
            }
        }
        kept
    }

    #[test]
    fn the_documented_loop_finds_the_lines_of_each_node_also_when_one_is_down() {
        let config = three_nodes();
        let nodes: Vec<&NodeConfig> = config.nodes.iter().collect();
        let whole = healthy(&config);
        let (healthy_text, _) = render(&config, &whole, &nodes);
        let mut down = healthy(&config);
        kill(&mut down, "cmnode2");
        let mut mute = healthy(&config);
        mute.members.iter_mut().find(|member| member.node == NodeId::of("cmnode2")).expect("listed").report = None;
        let mut unknown = healthy(&config);
        unknown.members.retain(|member| member.node != NodeId::of("cmnode2"));
        for report in [down, mute, unknown] {
            let (text, _) = render(&config, &report, &nodes);
            assert_eq!(cut(&text, "cmnode2"), Vec::<String>::new(), "{text}");
            for name in ["cmnode1", "cmnode3"] {
                assert_eq!(cut(&text, name), cut(&healthy_text, name), "{text}");
            }
        }
    }

    #[test]
    fn a_dead_node_alone_is_no_answer() {
        let config = three_nodes();
        let mut report = healthy(&config);
        kill(&mut report, "cmnode2");
        let node = config.node(NodeId::of("cmnode2")).expect("listed");
        let (text, answered) = render(&config, &report, &[node]);
        assert!(!answered);
        assert_eq!(text, "rstats cmnode2@10.0.0.2 failed: it is down, as seen from 10.0.0.1\nrstats cmnode2@10.0.0.2 end\n");
    }
}
