//! The last line of cm_stat: one word for the cluster and the reasons for it.

use super::assess::{Duplicate, Majority, Member, Row, Status};

/// One word and its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The word.
    pub health: Health,
    /// Why, gravest first; empty when healthy.
    pub reasons: Vec<String>,
}

/// How the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Every node is up and every resource runs at home, under one configuration.
    Healthy,
    /// Every resource runs, or will in a moment; something needs attention.
    Degraded,
    /// A resource runs nowhere, or on two nodes.
    Critical,
    /// No node answered.
    Unknown,
}

impl Health {
    /// The word of the last line (`HEALTHY` is a contract).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl Verdict {
    /// The last line, without its end.
    #[must_use]
    pub fn line(&self) -> String {
        let word = self.health.word();
        if self.reasons.is_empty() {
            format!("Cluster status: {word}")
        } else {
            format!("Cluster status: {word} - {}", self.reasons.join("; "))
        }
    }
}

/// Comes to a word.
pub(super) fn judge(
    members: &[Member],
    rows: &[Row],
    duplicates: &[Duplicate],
    mismatched: &[String],
    unheard: &[(String, String)],
    majority: Majority,
) -> Verdict {
    let row_names = |wanted: &dyn Fn(&Row) -> bool| -> Vec<String> {
        let mut names: Vec<String> = rows.iter().filter(|row| wanted(row)).map(|row| row.resource.to_string()).collect();
        names.dedup();
        names
    };
    let down = |row: &Row| matches!(row.status, Status::Failed | Status::Missing);
    let grave = |duplicate: &&Duplicate| !duplicate.listed;

    let mut critical = Vec::new();
    critical.extend(some(&row_names(&|row| down(row) && row.absent), "resource", "is not running", "are not running"));
    critical.extend(some(
        &duplicates.iter().filter(grave).map(|duplicate| duplicate.resource.to_string()).collect::<Vec<_>>(),
        "resource",
        "is active on two nodes",
        "are active on two nodes",
    ));
    if !majority.quorate && !majority.pair_rules && !majority.unknown && !majority.silent {
        critical.push("no quorum".to_owned());
    }

    let mut degraded = Vec::new();
    let names = |wanted: &dyn Fn(&Member) -> bool| -> Vec<String> {
        members.iter().filter(|member| wanted(member)).map(|member| member.name.clone()).collect()
    };
    degraded.extend(some(&names(&|member| !member.up), "node", "is down", "are down"));
    degraded.extend(some(&names(&|member| member.up && !member.answered), "node", "gave no report", "gave no report"));
    degraded.extend(some(&row_names(&|row| row.status == Status::Backup), "resource", "is away from home", "are away from home"));
    degraded.extend(some(&row_names(&|row| down(row) && !row.absent), "resource", "is missing on one node", "are missing on one node"));
    degraded.extend(some(&row_names(&|row| row.status == Status::Starting), "resource", "is starting", "are starting"));
    degraded.extend(some(&row_names(&|row| row.status == Status::Stopping), "resource", "is stopping", "are stopping"));
    degraded.extend(some(
        &row_names(&|row| row.status == Status::Unknown),
        "resource",
        "is in an unknown state",
        "are in an unknown state",
    ));
    degraded.extend(some(
        &row_names(&|row| row.status == Status::Inactive),
        "resource",
        "is on inactive nodes only",
        "are on inactive nodes only",
    ));
    degraded.extend(some(mismatched, "node", "has another configuration", "have another configuration"));
    if !unheard.is_empty() {
        degraded.push("heartbeats are lost between nodes that are up".to_owned());
    }

    let health = match (critical.is_empty(), degraded.is_empty()) {
        (true, true) => Health::Healthy,
        (true, false) => Health::Degraded,
        (false, _) => Health::Critical,
    };
    critical.append(&mut degraded);
    Verdict { health, reasons: critical }
}

/// `cmnode2 is down`, `3 nodes are down`, or nothing.
fn some(names: &[String], noun: &str, one: &str, many: &str) -> Option<String> {
    match names {
        [] => None,
        [name] => Some(format!("{name} {one}")),
        more => Some(format!("{} {noun}s {many}", more.len())),
    }
}
