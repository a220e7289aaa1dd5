//! The judgement as a document for programs: `drcm.status/1`, see docs/json.md.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    assess::{Assessment, assess},
    verdict::Health,
    view::{View, activity_word},
};
use crate::model::{ClusterReport, Config, Subject, Wish};

/// To be serialized.
#[derive(Serialize)]
pub struct Document {
    schema: &'static str,
    at: i64,
    seen_from: Option<String>,
    health: &'static str,
    reasons: Vec<String>,
    quorum: Option<Quorum>,
    configurations: Vec<Configuration>,
    nodes: Vec<Node>,
    groups: Vec<Group>,
    resources: Vec<Resource>,
    duplicates: Vec<Duplicate>,
    unheard: Vec<Unheard>,
    lent_votes: Vec<LentVote>,
    wishes: Vec<WishEntry>,
}

#[derive(Serialize)]
struct Quorum {
    quorate: bool,
    voters_seen: u32,
    voters: u32,
    silent: bool,
    survivor_carries_on: bool,
}

#[derive(Serialize)]
struct Configuration {
    fingerprint: String,
    nodes: Vec<String>,
    read_here: bool,
}

#[derive(Serialize)]
struct Node {
    name: String,
    hostname: String,
    ip: String,
    up: bool,
    answered: bool,
    standby: bool,
    version: Option<String>,
    started: Option<i64>,
    fingerprint: Option<String>,
    eligible: Option<bool>,
    quorate: Option<bool>,
    votes: Option<Vec<String>>,
    hears: Option<Vec<String>>,
    dropped: BTreeMap<String, u64>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Group {
    id: String,
    title: String,
    home: String,
    candidates: Vec<Candidate>,
}

#[derive(Serialize)]
struct Candidate {
    node: String,
    activity: Option<&'static str>,
    lease_ms: Option<u64>,
    owner: Option<String>,
    reason: Option<String>,
}

#[derive(Serialize)]
struct Resource {
    kind: &'static str,
    nickname: String,
    group: Option<String>,
    home: String,
    owner: Option<String>,
    status: &'static str,
    since: Option<i64>,
    what: String,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Duplicate {
    kind: &'static str,
    nickname: String,
    nodes: Vec<String>,
    listed: bool,
}

#[derive(Serialize)]
struct Unheard {
    listener: String,
    speaker: String,
}

#[derive(Serialize)]
struct LentVote {
    vote: String,
    with: String,
}

#[derive(Serialize)]
struct WishEntry {
    wish: &'static str,
    node: Option<String>,
    group: Option<String>,
    said_on: String,
    seconds_left: Option<u64>,
}

/// The document of a cluster that answered.
#[must_use]
pub fn document(config: &Config, report: &ClusterReport) -> Document {
    let assessment = assess(config, report);
    let view = View::new(config, report);
    let majority = assessment.majority;
    Document {
        schema: "drcm.status/1",
        at: report.at,
        seen_from: Some(view.name(report.asked)),
        health: health(assessment.verdict.health),
        reasons: assessment.verdict.reasons.clone(),
        quorum: (!majority.unknown).then_some(Quorum {
            quorate: majority.quorate,
            voters_seen: majority.seen,
            voters: majority.voters,
            silent: majority.silent,
            survivor_carries_on: majority.pair_rules,
        }),
        configurations: assessment
            .configurations
            .iter()
            .map(|(fingerprint, nodes)| Configuration {
                fingerprint: fingerprint.to_string(),
                nodes: nodes.clone(),
                read_here: *fingerprint == config.fingerprint,
            })
            .collect(),
        nodes: nodes(&view, &assessment),
        groups: groups(&view),
        resources: resources(&view, &assessment),
        duplicates: assessment
            .duplicates
            .iter()
            .map(|duplicate| Duplicate {
                kind: duplicate.resource.kind.word(),
                nickname: duplicate.resource.nickname.clone(),
                nodes: duplicate.nodes.clone(),
                listed: duplicate.listed,
            })
            .collect(),
        unheard: assessment
            .unheard
            .iter()
            .map(|(listener, speaker)| Unheard { listener: listener.clone(), speaker: speaker.clone() })
            .collect(),
        lent_votes: assessment.lent.iter().map(|lent| LentVote { vote: lent.vote.clone(), with: lent.with.clone() }).collect(),
        wishes: wishes(&view),
    }
}

/// The document when no node answered, `at` seconds since 1970.
#[must_use]
pub fn unanswered(config: &Config, at: i64) -> Document {
    let silent = |node: &crate::model::NodeConfig| Node {
        name: node.name.clone(),
        hostname: node.hostname.clone(),
        ip: node.keep_alive_ip.to_string(),
        up: false,
        answered: false,
        standby: false,
        version: None,
        started: None,
        fingerprint: None,
        eligible: None,
        quorate: None,
        votes: None,
        hears: None,
        dropped: BTreeMap::new(),
        notes: vec!["no answer".to_owned()],
    };
    Document {
        schema: "drcm.status/1",
        at,
        seen_from: None,
        health: health(Health::Unknown),
        reasons: vec!["no node answered, so nothing is known of its resources".to_owned()],
        quorum: None,
        configurations: vec![Configuration { fingerprint: config.fingerprint.to_string(), nodes: Vec::new(), read_here: true }],
        nodes: config.nodes.iter().map(silent).collect(),
        groups: Vec::new(),
        resources: Vec::new(),
        duplicates: Vec::new(),
        unheard: Vec::new(),
        lent_votes: Vec::new(),
        wishes: Vec::new(),
    }
}

const fn health(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Critical => "critical",
        Health::Unknown => "unknown",
    }
}

fn nodes(view: &View<'_>, assessment: &Assessment) -> Vec<Node> {
    let names = |ids: &[crate::model::NodeId]| ids.iter().map(|id| view.name(*id)).collect::<Vec<_>>();
    assessment
        .members
        .iter()
        .map(|member| {
            let own = view.node_report(member.node);
            Node {
                name: member.name.clone(),
                hostname: member.hostname.clone(),
                ip: member.ip.clone(),
                up: member.up,
                answered: member.answered,
                standby: member.standby,
                version: member.version.clone(),
                started: own.map(|own| own.started),
                fingerprint: own.map(|own| own.fingerprint.to_string()),
                eligible: own.map(|own| own.eligible),
                quorate: own.map(|own| own.quorum.quorate),
                votes: own.and_then(|own| own.quorum.votes.as_deref()).map(names),
                hears: own.map(|own| names(&own.quorum.alive)),
                dropped: own.map(|own| own.dropped.iter().cloned().collect()).unwrap_or_default(),
                notes: member.notes.clone(),
            }
        })
        .collect()
}

fn groups(view: &View<'_>) -> Vec<Group> {
    view.config
        .groups
        .iter()
        .map(|group| Group {
            id: group.id.to_string(),
            title: group.title(view.config),
            home: view.name(group.home),
            candidates: group
                .candidates
                .iter()
                .map(|candidate| {
                    let its = view.group_on(*candidate, group);
                    Candidate {
                        node: view.name(*candidate),
                        activity: its.map(|its| activity_word(its.activity)),
                        lease_ms: its.and_then(|its| its.lease_ms),
                        owner: its.and_then(|its| its.owner).map(|owner| view.name(owner)),
                        reason: its.and_then(|its| view.reason(its)),
                    }
                })
                .collect(),
        })
        .collect()
}

fn resources(view: &View<'_>, assessment: &Assessment) -> Vec<Resource> {
    assessment
        .rows
        .iter()
        .map(|row| Resource {
            kind: row.resource.kind.word(),
            nickname: row.resource.nickname.clone(),
            group: row.group.map(|group| view.title(group)),
            home: view.name(row.home_node),
            owner: row.owner_node.map(|owner| view.name(owner)),
            status: row.status.word(),
            since: row.since,
            what: row.what.clone(),
            notes: row.notes.clone(),
        })
        .collect()
}

fn wishes(view: &View<'_>) -> Vec<WishEntry> {
    let wishes = view.asked().map(|asked| asked.wishes.as_slice()).unwrap_or_default();
    wishes
        .iter()
        .filter_map(|wish| {
            let (word, node, group) = match (wish.subject, wish.wish) {
                (Subject::Maintenance, Wish::On) => ("maintenance", None, None),
                (Subject::Standby(node), Wish::On) => ("standby", Some(node), None),
                (Subject::Place(group), Wish::Prefer(node)) => ("move", Some(node), Some(group)),
                (Subject::Place(group), Wish::Home) => ("failback", None, Some(group)),
                (Subject::Maintenance | Subject::Standby(_) | Subject::Place(_) | Subject::Cleanup(..), _) => return None,
            };
            Some(WishEntry {
                wish: word,
                node: node.map(|node| view.name(node)),
                group: group.map(|group| view.config.title(group)),
                said_on: view.name(wish.author),
                seconds_left: wish.seconds_left,
            })
        })
        .collect()
}
