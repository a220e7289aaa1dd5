//! What the sections say of each other: names to nodes and resources, voters, groups; and what cannot be true at once.

use std::collections::HashMap;

use crate::model::{Assignment, Config, Kind, NodeId, Resource, ResourceId};

use super::{
    conflicts::{Assigned, check_options, families},
    finding::{Findings, Severity},
    fingerprint::fingerprint,
    group::group,
    keys::{self, Format},
    node::NodeText,
    resource::ResourceText,
    server::ServerSettings,
    source::{Span, Text},
};

/// Most nodes of a cluster.
pub const MAX_NODES: usize = 1_000;

/// Up to this many nodes all of them vote; beyond it this many do, unless some are marked.
const VOTERS: usize = 7;

/// Puts the sections together. With errors among the findings the result is not to be used.
pub(super) fn resolve(settings: ServerSettings, nodes: Vec<NodeText>, resources: Vec<ResourceText>, findings: &mut Findings<'_>) -> Config {
    let names = Names::collect(&nodes, &resources, findings);
    let mut assigned = Assigned::default();
    let mut lists: Vec<(Vec<ResourceId>, Vec<Assignment>)> = Vec::with_capacity(nodes.len());
    for node in &nodes {
        lists.push((names.primary(node, &mut assigned, findings), Vec::new()));
    }
    for (node, list) in nodes.iter().zip(&mut lists) {
        list.1 = names.backup(node, &assigned, findings);
    }
    assigned.check(&nodes, &resources, findings);
    check_options(&settings, &resources, findings);
    let voters = voters(&nodes, findings);
    let mut configs = Vec::with_capacity(nodes.len());
    for ((node, (primary, backup)), voter) in nodes.into_iter().zip(lists).zip(voters) {
        let mut config = node.config;
        (config.primary, config.backup, config.voter) = (primary, backup, voter);
        configs.push(config);
    }
    let resources: Vec<Resource> = resources.into_iter().filter_map(|text| text.resource).collect();
    let groups = group(&configs, &resources);
    let fingerprint = fingerprint(&settings.server, &configs, &resources);
    Config { server: settings.server, nodes: configs, resources, groups, fingerprint }
}

/// Who is called what.
struct Names<'a> {
    nodes: HashMap<&'a str, NodeId>,
    resources: HashMap<(Kind, &'a str), Span>,
}

impl<'a> Names<'a> {
    fn collect(nodes: &'a [NodeText], resources: &'a [ResourceText], findings: &mut Findings<'_>) -> Self {
        let mut names = Self { nodes: HashMap::new(), resources: HashMap::new() };
        let mut seen: HashMap<(&str, String), Span> = HashMap::new();
        let mut unique = |what: &'static str, value: String, span: Span, findings: &mut Findings<'_>| match seen.entry((what, value)) {
            std::collections::hash_map::Entry::Occupied(first) => {
                let line = findings.line(*first.get());
                findings.error(
                    span,
                    format!("{what} `{}` is taken by another node (line {line})", first.key().1),
                    format!("every node has its own {what}; correct this line or line {line}"),
                );
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(span);
            }
        };
        for node in nodes {
            unique("nodename", node.config.name.clone(), node.name, findings);
            if let Some(span) = node.hostname {
                unique("hostname", node.config.hostname.to_lowercase(), span, findings);
            }
            if let Some(span) = node.keep_alive_ip {
                unique("keep_alive_ip", node.config.keep_alive_ip.to_string(), span, findings);
            }
            names.nodes.entry(&node.config.name).or_insert(node.config.id);
        }
        for resource in resources {
            let key = (resource.kind, resource.nickname.as_str());
            if let Some(first) = names.resources.get(&key) {
                let line = findings.line(*first);
                findings.error(
                    resource.span,
                    format!("the {} `{}` is defined twice (first in line {line})", keys::noun(resource.kind), resource.nickname),
                    format!("rename or remove this line or line {line}"),
                );
                continue;
            }
            names.resources.insert(key, resource.span);
        }
        families(nodes, findings);
        if nodes.is_empty() {
            findings.error_anywhere("there is no node", format!("add a {} section for each node of the cluster", findings.format().node()));
        } else if nodes.len() > MAX_NODES {
            findings.error(nodes[MAX_NODES].name, format!("there are {} nodes, more than {MAX_NODES}", nodes.len()), "");
        }
        names
    }

    /// The `node_*` lists of a node.
    fn primary(&self, node: &NodeText, assigned: &mut Assigned, findings: &mut Findings<'_>) -> Vec<ResourceId> {
        let mut list = Vec::with_capacity(node.primary.len());
        for (kind, text) in &node.primary {
            let id = ResourceId { kind: *kind, nickname: text.text.clone() };
            if !self.resources.contains_key(&(*kind, text.text.as_str())) {
                let what = format!("node {} lists the {} `{}`", node.config.name, keys::noun(*kind), text.text);
                self.unknown(*kind, &text.text, text.span, &what, Format::primary_list, findings);
                // Known from here on, so that a backup entry for it is not a fault of its own.
                assigned.insert(Assignment { home: node.config.id, resource: id }, text.span);
                continue;
            }
            if let Some(first) = assigned.insert(Assignment { home: node.config.id, resource: id.clone() }, text.span) {
                let line = findings.line(first);
                findings.warning(
                    text.span,
                    format!("node {} lists the {} `{}` twice (first in line {line})", node.config.name, keys::noun(*kind), text.text),
                    "remove one of the two",
                );
                continue;
            }
            list.push(id);
        }
        list
    }

    /// The `node_backup_*` lists of a node.
    fn backup(&self, node: &NodeText, assigned: &Assigned, findings: &mut Findings<'_>) -> Vec<Assignment> {
        let mut list = Vec::with_capacity(node.backup.len());
        let mut seen: HashMap<Assignment, Span> = HashMap::new();
        for (kind, text) in &node.backup {
            let Some(assignment) = self.backup_entry(node, *kind, text, assigned, findings) else { continue };
            let own = Assignment { home: node.config.id, resource: assignment.resource.clone() };
            if assignment.home == node.config.id {
                findings.warning(
                    text.span,
                    format!("node {} names itself as backup for `{}`: the entry is ignored", node.config.name, text.text),
                    "name the home node of the resource before the colon",
                );
            } else if let Some(first) = seen.get(&assignment) {
                let line = findings.line(*first);
                findings.warning(
                    text.span,
                    format!("`{}` is in this list twice (first in line {line})", text.text),
                    "remove one of the two",
                );
            } else if let Some(first) = assigned.get(&own).filter(|_| *kind != Kind::Address) {
                let line = findings.line(first);
                findings.warning(
                    text.span,
                    format!(
                        "node {} already runs the {} `{}` as its own (line {line}): the entry is ignored",
                        node.config.name,
                        keys::noun(*kind),
                        assignment.resource.nickname
                    ),
                    "were both kept, giving the one back would stop the other",
                );
            } else {
                seen.insert(assignment.clone(), text.span);
                list.push(assignment);
            }
        }
        list
    }

    fn backup_entry(
        &self,
        node: &NodeText,
        kind: Kind,
        text: &Text,
        assigned: &Assigned,
        findings: &mut Findings<'_>,
    ) -> Option<Assignment> {
        let Some((home, nickname)) = text.text.split_once(':').map(|(home, nickname)| (home.trim(), nickname.trim())) else {
            let help = match assigned.homes(kind, &text.text).next() {
                Some(home) => format!("write it as home:nickname, here `{}:{}`", self.node_name(home), text.text),
                None => "write it as home:nickname, with the node whose list names the resource as home".to_owned(),
            };
            findings.error(text.span, format!("the backup entry `{}` names no home node", text.text), help);
            return None;
        };
        if home.is_empty() {
            findings.error(text.span, format!("the backup entry `{}` names no home node", text.text), "write it as home:nickname");
            return None;
        }
        if nickname.is_empty() {
            findings.error(text.span, format!("the backup entry `{}` names no resource", text.text), "write it as home:nickname");
            return None;
        }
        let home_span = Span { start: text.span.start, end: text.span.end.min(text.span.start + home.len()) };
        let nickname_span = Span { start: text.span.end.saturating_sub(nickname.len()).max(text.span.start), end: text.span.end };
        let Some(&home_id) = self.nodes.get(home) else {
            let nearest = if findings.has_room(Severity::Error) { keys::nearest(home, self.node_names()) } else { None };
            findings.error(
                home_span,
                format!("the backup entry `{}` names the node `{home}`, which does not exist{}", text.text, keys::did_you_mean(nearest)),
                "before the colon stands the nodename of the resource's home",
            );
            return None;
        };
        if !self.resources.contains_key(&(kind, nickname)) {
            let what = format!("node {} is backup for the {} `{nickname}`", node.config.name, keys::noun(kind));
            self.unknown(kind, nickname, nickname_span, &what, Format::backup_list, findings);
            return None;
        }
        let assignment = Assignment { home: home_id, resource: ResourceId { kind, nickname: nickname.to_owned() } };
        if assigned.get(&assignment).is_none() {
            let homes: Vec<&str> = assigned.homes(kind, nickname).map(|home| self.node_name(home)).take(3).collect();
            let help = if homes.is_empty() {
                format!("no node lists `{nickname}`: add it to {} of {home}", findings.format().primary_list(kind))
            } else {
                format!(
                    "`{nickname}` is at home on {}: name that node here, or add it to {} of {home}",
                    homes.join(", "),
                    findings.format().primary_list(kind)
                )
            };
            findings.error(
                text.span,
                format!(
                    "the backup entry `{}` has no counterpart: node {home} does not list the {} `{nickname}`",
                    text.text,
                    keys::noun(kind)
                ),
                help,
            );
            return None;
        }
        Some(assignment)
    }

    /// Reports a nickname that its section does not have.
    fn unknown(
        &self,
        kind: Kind,
        nickname: &str,
        span: Span,
        what: &str,
        list: fn(Format, Kind) -> &'static str,
        findings: &mut Findings<'_>,
    ) {
        let format = findings.format();
        if let Some((home, name)) = nickname.split_once(':') {
            // No nickname has a colon, so it cannot be defined either.
            let help = if self.nodes.contains_key(home.trim()) && self.resources.contains_key(&(kind, name.trim())) {
                format!("home:nickname belongs into {}; is a comma missing before it?", format.backup_list(kind))
            } else {
                format!("a nickname alone belongs into {}, one home:nickname into {}", format.primary_list(kind), format.backup_list(kind))
            };
            findings.error(span, format!("{what}: a nickname holds no colon"), help);
            return;
        }
        let elsewhere = Kind::ALL.into_iter().find(|other| self.resources.contains_key(&(*other, nickname)));
        if let Some(other) = elsewhere {
            findings.error(
                span,
                format!("{what}, which {} does not define", format.resources(kind)),
                format!("`{nickname}` is in {}: it belongs into {}", format.resources(other), list(format, other)),
            );
            return;
        }
        let nearest = if findings.has_room(Severity::Error) {
            // In the order of the map two equally near names would change places from run to run.
            let mut known: Vec<&str> = self.resources.keys().filter(|(of, _)| *of == kind).map(|(_, name)| *name).collect();
            known.sort_unstable();
            keys::nearest(nickname, known)
        } else {
            None
        };
        let help = match nearest {
            Some(nearest) => format!("did you mean `{nearest}`? Otherwise define `{nickname}` in {}", format.resources(kind)),
            None => format!("define `{nickname}` in {}, or remove it here", format.resources(kind)),
        };
        findings.error(span, format!("{what}, which {} does not define{}", format.resources(kind), keys::did_you_mean(nearest)), help);
    }

    fn node_names(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = self.nodes.keys().copied().collect();
        names.sort_unstable();
        names
    }

    fn node_name(&self, id: NodeId) -> &'a str {
        self.nodes.iter().find(|(_, node)| **node == id).map_or("", |(name, _)| name)
    }
}

/// Who votes: up to seven nodes all of them; beyond that the marked ones, or else the first seven. `voter = 0` always holds.
fn voters(nodes: &[NodeText], findings: &mut Findings<'_>) -> Vec<bool> {
    let wish = |node: &NodeText| node.voter.map(|(wish, _)| wish);
    let any_marked = nodes.iter().any(|node| wish(node) == Some(true));
    let voters: Vec<bool> = if nodes.len() <= VOTERS {
        nodes.iter().map(|node| wish(node) != Some(false)).collect()
    } else if any_marked {
        nodes.iter().map(|node| wish(node) == Some(true)).collect()
    } else {
        let mut free = VOTERS;
        let take = |node: &NodeText| {
            let votes = free > 0 && wish(node) != Some(false);
            free -= usize::from(votes);
            votes
        };
        nodes.iter().map(take).collect()
    };
    if let (false, Some(first)) = (voters.contains(&true), nodes.first()) {
        let span = first.voter.map_or(first.name, |(_, span)| span);
        findings.error(
            span,
            "no node is a voter: nobody could grant a lease",
            "remove `voter = 0` from an odd number of nodes, three or more if there are",
        );
    }
    if nodes.len() <= VOTERS
        && let Some((_, span)) = nodes.iter().find_map(|node| node.voter.filter(|(wish, _)| *wish))
        && nodes.iter().any(|node| node.voter.is_none())
    {
        findings.info(span, format!("up to {VOTERS} nodes all vote, marked or not: write `voter = 0` for those that shall not"));
    }
    voters
}
