//! What cannot be true at once, or hardly was meant: two homes of one address, two owners of one path, and the like.

use std::{collections::HashMap, net::IpAddr, path::PathBuf};

use crate::model::{Assignment, Kind, NodeId, ResourceId, Spec, Takeover};

use super::{finding::Findings, keys, node::NodeText, resource::ResourceText, server::ServerSettings, source::Span};

/// Nodes of both address families cannot hear each other.
pub(super) fn families(nodes: &[NodeText], findings: &mut Findings<'_>) {
    let mut known = nodes.iter().filter(|node| node.keep_alive_ip.is_some());
    let Some(first) = known.next() else { return };
    if let Some(other) = known.find(|node| node.config.keep_alive_ip.is_ipv4() != first.config.keep_alive_ip.is_ipv4()) {
        let span = other.keep_alive_ip.unwrap_or(other.name);
        findings.error(
            span,
            format!(
                "{} of node {} and {} of node {} are of different families: the nodes cannot reach each other",
                other.config.keep_alive_ip, other.config.name, first.config.keep_alive_ip, first.config.name
            ),
            "give all nodes IPv4 addresses, or all of them IPv6 addresses",
        );
    }
}

/// Which node lists which resource, and where.
#[derive(Default)]
pub(super) struct Assigned {
    by_resource: HashMap<ResourceId, Vec<(NodeId, Span)>>,
}

impl Assigned {
    /// Notes an assignment; where it was noted before, if it was.
    pub(super) fn insert(&mut self, assignment: Assignment, span: Span) -> Option<Span> {
        let homes = self.by_resource.entry(assignment.resource).or_default();
        let first = homes.iter().find(|(home, _)| *home == assignment.home).map(|(_, span)| *span);
        if first.is_none() {
            homes.push((assignment.home, span));
        }
        first
    }

    pub(super) fn get(&self, assignment: &Assignment) -> Option<Span> {
        self.by_resource.get(&assignment.resource)?.iter().find(|(home, _)| *home == assignment.home).map(|(_, span)| *span)
    }

    pub(super) fn homes(&self, kind: Kind, nickname: &str) -> impl Iterator<Item = NodeId> {
        let id = ResourceId { kind, nickname: nickname.to_owned() };
        self.by_resource.get(&id).into_iter().flatten().map(|(home, _)| *home)
    }

    /// What may not, or should not, run in two places; and what runs nowhere.
    pub(super) fn check(&self, nodes: &[NodeText], resources: &[ResourceText], findings: &mut Findings<'_>) {
        let mut addresses: HashMap<IpAddr, &ResourceText> = HashMap::new();
        let mut paths: HashMap<(Kind, PathBuf), &ResourceText> = HashMap::new();
        let keep_alive: HashMap<IpAddr, &str> = nodes.iter().map(|node| (node.config.keep_alive_ip, node.config.name.as_str())).collect();
        for text in resources {
            let id = ResourceId { kind: text.kind, nickname: text.nickname.clone() };
            let homes = self.by_resource.get(&id).map(Vec::as_slice).unwrap_or_default();
            let what = format_args!("the {} `{}`", keys::noun(text.kind), text.nickname);
            if homes.is_empty() {
                findings.warning(
                    text.span,
                    format!("{what} is in no node's list: it never runs"),
                    format!("add it to {} of its home node", findings.format().primary_list(text.kind)),
                );
            }
            if let [(_, first), (_, second), ..] = homes {
                let line = findings.line(*first);
                if text.kind == Kind::Address {
                    findings.error(
                        *second,
                        format!("{what} has two home nodes (the first in line {line}): both would have it at once"),
                        "list it on one node, and as home:nickname in the backup list of the others",
                    );
                } else if text.kind == Kind::Crontab {
                    findings.warning(
                        *second,
                        format!("{what} has two home nodes (the first in line {line}): its jobs run on both"),
                        "if that is not meant, list it on one node, and as home:nickname in the backup list of the others",
                    );
                }
            }
            let Some(resource) = &text.resource else { continue };
            match &resource.spec {
                Spec::Address(address) => {
                    if let Some(node) = keep_alive.get(&address.ip) {
                        findings.error(
                            text.span,
                            format!("{what} is {}, the keep_alive_ip of node {node}", address.ip),
                            "a floating address is one that no host has of its own",
                        );
                    }
                    if let Some(other) = addresses.insert(address.ip, text).filter(|other| other.nickname != text.nickname) {
                        let line = findings.line(other.span);
                        findings.error(
                            text.span,
                            format!(
                                "{what} is {}, and so is `{}` (line {line}): two nodes could have it at once",
                                address.ip, other.nickname
                            ),
                            "define an address once",
                        );
                    }
                }
                Spec::FileSystem(file_system) => {
                    same_path(&mut paths, text, file_system.target.clone(), "is mounted on", findings);
                }
                Spec::Crontab(crontab) => {
                    let name = crontab.template.file_name().unwrap_or_default();
                    same_path(&mut paths, text, crontab.install_dir.join(name), "is installed as", findings);
                }
                Spec::Service(_) | Spec::Application(_) => {}
            }
        }
    }
}

fn same_path<'a>(
    paths: &mut HashMap<(Kind, PathBuf), &'a ResourceText>,
    text: &'a ResourceText,
    path: PathBuf,
    verb: &str,
    findings: &mut Findings<'_>,
) {
    let shown = path.display().to_string();
    if let Some(other) = paths.insert((text.kind, path), text).filter(|other| other.nickname != text.nickname) {
        let line = findings.line(other.span);
        findings.warning(
            text.span,
            format!("the {} `{}` {verb} {shown}, and so is `{}` (line {line})", keys::noun(text.kind), text.nickname, other.nickname),
            "on a node that runs both, one replaces the other",
        );
    }
}

/// Under `takeover = strict` the lease outlasts the cluster's `stop_timeout`, no longer one.
pub(super) fn check_options(settings: &ServerSettings, resources: &[ResourceText], findings: &mut Findings<'_>) {
    if settings.server.takeover != Takeover::Strict {
        return;
    }
    for text in resources {
        let Some(resource) = &text.resource else { continue };
        if resource.options.stop_timeout > settings.server.stop_timeout {
            findings.error(
                text.span,
                format!(
                    "under takeover = strict the stop_timeout of the {} `{}` ({} s) may not exceed that of the cluster ({} s)",
                    keys::noun(text.kind),
                    text.nickname,
                    resource.options.stop_timeout.as_secs_f64(),
                    settings.server.stop_timeout.as_secs_f64()
                ),
                "raise stop_timeout of the cluster, or lower this one",
            );
        }
    }
}
