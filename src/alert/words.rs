//! Events in words: the environment of programs, subjects, bodies and text messages. Pure.

use std::{ffi::OsString, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};

use crate::model::Incident;

/// A text message holds no more, in characters.
const TEXT_MESSAGE: usize = 160;
/// Longest subject, in characters.
const SUBJECT: usize = 150;

/// What a program is told of an event besides the JSON on its standard input.
pub(super) fn environment(event: &Incident) -> Vec<(OsString, OsString)> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let ms = |span: Option<u64>| span.map(|span| span.to_string()).unwrap_or_default();
    let timeline = event.timeline.as_ref();
    let variables = [
        ("DRCM_EVENT", event.kind.word().to_owned()),
        ("DRCM_SEVERITY", event.severity.word().to_owned()),
        ("DRCM_NODE", event.node.clone()),
        ("DRCM_ABOUT", text(&event.about)),
        ("DRCM_GROUP", text(&event.group)),
        ("DRCM_RESOURCE", text(&event.resource)),
        ("DRCM_TEXT", event.text.clone()),
        ("DRCM_NUMBER", event.number.to_string()),
        ("DRCM_AT_MS", event.at_ms.to_string()),
        ("DRCM_TELLS", if event.tells { "1" } else { "0" }.to_owned()),
        ("DRCM_FROM", timeline.and_then(|timeline| timeline.from.clone()).unwrap_or_default()),
        ("DRCM_TO", timeline.map(|timeline| timeline.to.clone()).unwrap_or_default()),
        ("DRCM_DETECTED_MS", ms(timeline.and_then(|timeline| timeline.detected_ms))),
        ("DRCM_LEASE_MS", ms(timeline.and_then(|timeline| timeline.lease_ms))),
        ("DRCM_RUNNING_MS", ms(timeline.map(|timeline| timeline.running_ms))),
        ("DRCM_ANNOUNCED_MS", ms(timeline.and_then(|timeline| timeline.announced_ms))),
    ];
    // The kernel takes no zero byte.
    variables.into_iter().map(|(name, value)| (name.into(), value.replace('\0', " ").into())).collect()
}

/// The event in one JSON document.
pub(super) fn json(event: &Incident) -> Vec<u8> {
    let mut text = serde_json::to_vec(&event.document()).expect("an event is plain data, which JSON can hold");
    text.push(b'\n');
    text
}

/// The subject of a mail about these: the gravest, the first of them.
pub(super) fn subject(node: &str, events: &[Arc<Incident>]) -> String {
    let gravest = events.iter().rev().max_by_key(|event| event.severity);
    let what = gravest.map_or("", |event| event.text.as_str());
    let more = match events.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let room = SUBJECT.saturating_sub(more.len());
    clipped(&format!("[!ACTION!] Cluster alert, {node}: {}", one_line(what)), room) + &more
}

/// The body of a mail about these. `dropped`: there were more, for which there was no room.
pub(super) fn body(node: &str, events: &[Arc<Incident>], dropped: u64, hours: u32, zone: &TimeZone) -> String {
    let mut text = format!("{node} says what happened in the cluster:\n\n");
    for event in events {
        text += &format!(
            "{} {} {}\n    {}\n",
            clock(event.at_ms, zone),
            event.severity.word().to_uppercase(),
            event.node,
            one_line(&event.text)
        );
    }
    if dropped > 0 {
        text += &format!("\nand {dropped} more before these, for which there was no room here\n");
    }
    text += "\nOn any node, `drcm status` says how the cluster is now, `drcm events` what happened on every node.\n";
    if hours > 0 {
        text += &format!(
            "After this message there is none from {node} for {hours} h (alert_hours); what happens meanwhile is in the next one.\n"
        );
    }
    text
}

/// A text message about these.
pub(super) fn text_message(events: &[Arc<Incident>]) -> String {
    let gravest = events.iter().rev().max_by_key(|event| event.severity);
    clipped(&gravest.map(|event| format!("{}: {}", event.node, one_line(&event.text))).unwrap_or_default(), TEXT_MESSAGE)
}

fn clock(at_ms: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(at) => at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => "at no time".to_owned(),
    }
}

/// Names come from a file, and errors from anywhere: a header must not be begun by them.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most.saturating_sub(1)).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alert::fixture::{event, failover},
        model::Severity,
    };

    #[test]
    fn a_program_knows_all_numbers() {
        let environment = environment(&failover());
        let of = |name: &str| {
            environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_string_lossy().into_owned()).unwrap()
        };
        assert_eq!((of("DRCM_EVENT"), of("DRCM_SEVERITY"), of("DRCM_NODE")), ("failover".into(), "warning".into(), "node2".into()));
        assert_eq!((of("DRCM_FROM"), of("DRCM_TO"), of("DRCM_GROUP")), ("node1".into(), "node2".into(), "node1:web".into()));
        assert_eq!((of("DRCM_DETECTED_MS"), of("DRCM_RUNNING_MS"), of("DRCM_RESOURCE")), ("1500".into(), "1504".into(), String::new()));
        assert!(!of("DRCM_TEXT").contains('\0'));
        let documented = include_str!("../../docs/operating.md");
        for (name, _) in &environment {
            assert!(documented.contains(&format!("`{}`", name.to_string_lossy())), "{name:?} is not in docs/operating.md");
        }
    }

    #[test]
    fn a_mail_says_the_gravest_first_and_all_of_it() {
        let events: Vec<Arc<Incident>> =
            [event(Severity::Warning, "one\r\nBcc: x"), event(Severity::Critical, "two"), event(Severity::Critical, "three")]
                .map(Arc::new)
                .into();
        assert_eq!(subject("node2", &events), "[!ACTION!] Cluster alert, node2: two (and 2 more)");
        assert_eq!(subject("node2", &events[..1]), "[!ACTION!] Cluster alert, node2: one  Bcc: x");
        let long = [Arc::new(event(Severity::Info, &"ä".repeat(300))), events[0].clone()];
        assert_eq!(subject("n", &long[..1]).chars().count(), SUBJECT);
        assert_eq!(text_message(&long[..1]).chars().count(), TEXT_MESSAGE);
        assert_eq!(text_message(&events), "node2: two");
        let body = body("node2", &events, 3, 4, &TimeZone::UTC);
        assert!(body.contains("1970-01-01 00:00:01.500 CRITICAL node2\n    two\n"), "{body}");
        assert!(body.contains("and 3 more before these") && body.contains("for 4 h (alert_hours)"), "{body}");
    }
}
