//! `[CM_NODE]`: what one section says by itself. What its lists mean is for `resolve`.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use crate::model::{CheckIntervals, Keep, Kind, NodeConfig, NodeId, Pace, Transport};

use super::{
    draft::NodeDraft,
    fields::Fields,
    finding::Findings,
    keys, server,
    source::{Span, Text},
};

/// A node whose lists are not resolved yet.
pub(super) struct NodeText {
    /// `primary` and `backup` are empty and `voter` is not decided.
    pub(super) config: NodeConfig,
    /// Where the name is.
    pub(super) name: Span,
    /// Where the hostname is; `None` when it is missing or faulty (reported) and a placeholder stands in.
    pub(super) hostname: Option<Span>,
    /// Where the keep-alive address is; `None` as above.
    pub(super) keep_alive_ip: Option<Span>,
    /// `voter`, when written, and where.
    pub(super) voter: Option<(bool, Span)>,
    /// The `node_*` lists in the order of [`Kind::ALL`].
    pub(super) primary: Vec<(Kind, Text)>,
    /// The `node_backup_*` lists in the order of [`Kind::ALL`].
    pub(super) backup: Vec<(Kind, Text)>,
}

/// Reads one node; `None` (reported) without a name. Without host name or address (reported) its name still counts as known.
pub(super) fn read(draft: &NodeDraft, cluster: Pace, findings: &mut Findings<'_>) -> Option<NodeText> {
    let fields = Fields::collect(&draft.entries, &[keys::NODE], findings.format().node(), findings);
    let name = required(&fields, "nodename", draft.header, findings);
    let hostname = required(&fields, "hostname", draft.header, findings);
    let keep_alive_ip = keep_alive_ip(&fields, draft.header, findings);
    let transport = fields.choice("transport", Transport::Udp, findings);
    let pace = server::pace(&fields, cluster, findings);
    if pace != cluster {
        server::lease(pace, &fields, findings);
    }
    let interval = |key, findings: &mut Findings<'_>| fields.seconds(key, 0.1..=86_400.0, Duration::from_secs(60), findings);
    let checks = CheckIntervals {
        addresses: interval("ipaddrs_check", findings),
        filesystems: interval("filesystems_check", findings),
        services: interval("services_check", findings),
        crontabs: interval("crontabs_check", findings),
        applications: interval("applications_check", findings),
    };
    let active = fields.boolean("node_is_active", true, findings);
    let keep = Keep {
        services: fields.boolean("keep_services", false, findings),
        filesystems: fields.boolean("keep_filesystems", true, findings),
        applications: fields.boolean("keep_applications", false, findings),
    };
    let voter = fields.optional_boolean("voter", findings).zip(fields.span("voter"));
    let lists = |key: fn(Kind) -> &'static str| {
        Kind::ALL.into_iter().flat_map(|kind| fields.list(key(kind)).into_iter().map(move |text| (kind, text))).collect()
    };
    let (primary, backup) = (lists(keys::primary_list), lists(keys::backup_list));
    let name = name?;
    let hostname_span = hostname.as_ref().map(|text| text.span);
    Some(NodeText {
        config: NodeConfig {
            id: NodeId::of(&name.text),
            name: name.text,
            hostname: hostname.map(|text| text.text).unwrap_or_default(),
            keep_alive_ip: keep_alive_ip.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |(address, _)| address),
            active,
            voter: true,
            transport,
            pace,
            keep,
            checks,
            primary: Vec::new(),
            backup: Vec::new(),
        },
        name: name.span,
        hostname: hostname_span,
        keep_alive_ip: keep_alive_ip.map(|(_, span)| span),
        voter,
        primary,
        backup,
    })
}

/// Advice when one is missing.
const NEEDED: &str = "every node needs nodename, hostname and keep_alive_ip";

/// A name that ends up in lists, reports and file names.
fn required(fields: &Fields<'_>, key: &'static str, header: Span, findings: &mut Findings<'_>) -> Option<Text> {
    const LONGEST: usize = 255;
    let Some(text) = fields.unquoted(key, findings) else {
        findings.error(fields.span(key).unwrap_or(header), format!("this node has no `{key}`"), NEEDED);
        return None;
    };
    if text.text.len() > LONGEST
        || text.text.chars().any(|c| matches!(c, '/' | ':' | ',' | '@' | '=') || c.is_whitespace() || c.is_control())
    {
        findings.error(text.span, format!("`{}` cannot be a {key}", text.text), "use letters, digits, `-`, `_` and `.`, no spaces");
        return None;
    }
    Some(text)
}

fn keep_alive_ip(fields: &Fields<'_>, header: Span, findings: &mut Findings<'_>) -> Option<(IpAddr, Span)> {
    if fields.unquoted("keep_alive_ip", findings).is_none() {
        findings.error(fields.span("keep_alive_ip").unwrap_or(header), "this node has no `keep_alive_ip`", NEEDED);
        return None;
    }
    let (address, span) = fields.ip("keep_alive_ip", findings)?;
    let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || link_local || broadcast {
        findings.error(span, format!("{address} is no address by which other nodes reach this one"), "give the node's own unicast address");
        return None;
    }
    Some((address, span))
}
