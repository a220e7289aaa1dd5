//! What is different between two reports, in sentences.

use std::collections::BTreeMap;

use crate::{
    cli::{operate, paint::Ink},
    health::{Assessment, Status},
    model::{ClusterReport, Config, WishReport},
};

/// What a report is compared by.
pub(super) struct Known {
    members: Vec<(String, bool)>,
    quorate: Option<bool>,
    rows: Vec<(String, Status, Option<String>)>,
    /// Who ran each of them last.
    last: BTreeMap<String, String>,
    wishes: Vec<WishReport>,
    mismatched: Vec<String>,
    health: &'static str,
}

impl Known {
    /// Of a report and what it comes to.
    pub(super) fn of(config: &Config, report: &ClusterReport, assessment: &Assessment, before: Option<&Self>) -> Self {
        let mut last = before.map(|before| before.last.clone()).unwrap_or_default();
        for row in assessment.rows.iter().filter(|row| row.status.runs()) {
            if let Some(owner) = row.owner_node {
                last.insert(format!("{}:{}", config.name(row.home_node), row.resource), config.name(owner));
            }
        }
        let asked = report.members.iter().find(|member| member.node == report.asked).and_then(|member| member.report.as_ref());
        Self {
            members: assessment.members.iter().map(|member| (member.name.clone(), member.up)).collect(),
            quorate: (!assessment.majority.unknown).then_some(assessment.majority.quorate),
            rows: assessment
                .rows
                .iter()
                .map(|row| {
                    let name = format!("{}:{}", config.name(row.home_node), row.resource);
                    (name, row.status, row.owner_node.map(|owner| config.name(owner)))
                })
                .collect(),
            last,
            wishes: asked.map(|asked| asked.wishes.clone()).unwrap_or_default(),
            mismatched: assessment.mismatched.clone(),
            health: assessment.verdict.health.word(),
        }
    }

    /// What has become different.
    pub(super) fn since(&self, before: &Self, config: &Config) -> Vec<(Ink, String)> {
        let mut told = Vec::new();
        for (name, up) in &self.members {
            if before.members.iter().any(|(known, was)| known == name && was != up) {
                told.push(if *up { (Ink::Good, format!("{name} is up")) } else { (Ink::Bad, format!("{name} is down")) });
            }
        }
        match (before.quorate, self.quorate) {
            (Some(false), Some(true)) => told.push((Ink::Good, "a majority is in touch".to_owned())),
            (Some(true), Some(false)) => told.push((Ink::Bad, "no majority is in touch".to_owned())),
            (Some(true), Some(true)) | (Some(false), Some(false)) | (None, _) | (_, None) => {}
        }
        for (name, status, owner) in &self.rows {
            let Some((_, was, from)) = before.rows.iter().find(|(known, ..)| known == name) else { continue };
            if (was, from) == (status, owner) {
                continue;
            }
            let on = owner.as_ref().map_or_else(String::new, |owner| format!(" on {owner}"));
            // In the midst of a move it runs nowhere.
            let from = before.last.get(name);
            told.push(match (from, owner) {
                (Some(from), Some(to)) if from != to && status.runs() => (Ink::of(*status), format!("{name} went from {from} to {to}")),
                _ => (Ink::of(*status), format!("{name}: {}{on}", status.word())),
            });
        }
        let sentences = |wishes: &[WishReport], others: &[WishReport]| -> Vec<String> {
            let same = |one: &WishReport, other: &WishReport| (one.subject, one.wish) == (other.subject, other.wish);
            let new = wishes.iter().filter(|wish| !others.iter().any(|other| same(wish, other)));
            new.filter_map(|wish| operate::sentence(config, wish)).collect()
        };
        told.extend(sentences(&self.wishes, &before.wishes).into_iter().map(|wish| (Ink::Warning, format!("operator: {wish}"))));
        told.extend(sentences(&before.wishes, &self.wishes).into_iter().map(|wish| (Ink::Plain, format!("no longer: {wish}"))));
        for name in self.mismatched.iter().filter(|name| !before.mismatched.contains(name)) {
            told.push((Ink::Warning, format!("the configuration of {name} differs")));
        }
        if self.health != before.health {
            told.push((Ink::Plain, format!("the cluster is {}", self.health)));
        }
        told
    }
}
