//! The format of cm.toml. It says what cm.cfg says, and per resource what cm.cfg cannot:
//!
//! ```toml
//! [server]                      # the keys of [CM_SERVER]
//! keep_alive_interval = 100
//!
//! [[node]]                      # the keys of [CM_NODE]; the lists are named after the tables below
//! nodename = "cmnode1"
//! hostname = "cmnode1.example.com"
//! keep_alive_ip = "192.168.122.183"
//! addresses = ["cmnodef"]
//! backup_crontabs = ["cmnode2:apps"]
//!
//! [addresses.cmnodef]           # ip, netmask (or ip with /24), interface, script
//! ip = "192.168.122.180/24"
//! interface = "eth0:1"
//!
//! [crontabs.apps]               # template, install_dir, script
//! template = "/etc/drcm/crontabs/apps"
//! install_dir = "/etc/cron.d"
//!
//! [services.web]                # service, script
//! service = "httpd"
//!
//! [applications.ldm]            # run_as, start, stop, ensure: commas and several lines are welcome
//! run_as = "ldm:users"
//! start = "ldmadmin start"
//! stop = "ldmadmin stop"
//!
//! [filesystems.data]            # source, target, script, mount_options
//! source = "192.168.122.1:/data"
//! target = "/data"
//! mount_options = "ro,nosuid"
//! start_timeout = 30            # options of every resource: start_timeout, stop_timeout, check_timeout (seconds),
//! order = -1                    # restart_limit, restart_window (seconds), order
//! ```

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use crate::model::Kind;

use super::{
    draft::{Draft, Entry, NodeDraft, ResourceDraft, Value},
    finding::{Findings, Severity},
    keys,
    source::{Source, Span, Text},
};

type Item<'a, 'i> = (&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>);

/// Reads the tables of a cm.toml. What cannot be read is reported and left out; `None` when nothing else can be
/// judged then.
pub(super) fn read(source: &Source, findings: &mut Findings<'_>) -> Option<Draft> {
    let mut draft = Draft::default();
    let (document, errors) = DeTable::parse_recoverable(source.text());
    let broken = errors.iter().filter_map(toml::de::Error::span).any(|at| source.line_text(span(at)).trim_start().starts_with('['));
    for error in errors {
        let message = format!("not TOML: {}", error.message().replace('\n', "; "));
        findings.error(error.span().map(span).unwrap_or_default(), message, "");
    }
    if broken {
        // Behind a header that cannot be read everything lands in the wrong table: what is said of it would be wrong too.
        return None;
    }
    for (key, value) in in_file_order(document.get_ref()) {
        let name: &str = key.get_ref();
        if name.eq_ignore_ascii_case("server") {
            if let Some(table) = table(value, "[server]", findings) {
                draft.server.extend(entries(table, Lines::One, findings));
            }
        } else if name.eq_ignore_ascii_case("node") {
            nodes(value, &mut draft, findings);
        } else if let Some(kind) = Kind::ALL.into_iter().find(|kind| keys::table(*kind).eq_ignore_ascii_case(name)) {
            if let Some(table) = table(value, &format!("[{name}.NICKNAME]"), findings) {
                draft.resources.extend(in_file_order(table).into_iter().map(|item| resource(kind, item, findings)));
            }
        } else {
            unknown_table(key, findings);
        }
    }
    Some(draft)
}

fn unknown_table(key: &Spanned<DeString<'_>>, findings: &mut Findings<'_>) {
    let nearest = if findings.has_room(Severity::Error) { keys::nearest(key.get_ref(), keys::TABLES) } else { None };
    let mut help = format!("the tables are {}", keys::TABLES.join(", "));
    if keys::SECTIONS.iter().any(|section| section.eq_ignore_ascii_case(key.get_ref())) {
        help.push_str("; a file in the format of cm.cfg must not have a name that ends in .toml");
    }
    findings.error(span(key.span()), format!("there is no table [{}]{}", key.get_ref(), keys::did_you_mean(nearest)), help);
}

fn nodes(value: &Spanned<DeValue<'_>>, draft: &mut Draft, findings: &mut Findings<'_>) {
    let DeValue::Array(array) = value.get_ref() else {
        findings.error(span(value.span()), "`node` is one table", "write each node as [[node]], with two brackets");
        return;
    };
    for node in array {
        if let Some(table) = table(node, "[[node]]", findings) {
            draft.nodes.push(NodeDraft { header: span(node.span()), entries: entries(table, Lines::One, findings) });
        }
    }
}

fn resource(kind: Kind, (nickname, value): Item<'_, '_>, findings: &mut Findings<'_>) -> ResourceDraft {
    let table = table(value, &format!("[{}.{}]", keys::table(kind), nickname.get_ref()), findings);
    let lines = if kind == Kind::Application { Lines::Several } else { Lines::One };
    let fields = table.map(|table| entries(table, lines, findings));
    ResourceDraft { kind, nickname: Text { text: nickname.get_ref().to_string(), span: span(nickname.span()) }, fields }
}

/// Whether a string may have several lines, as a command may.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    One,
    Several,
}

fn entries(table: &DeTable<'_>, lines: Lines, findings: &mut Findings<'_>) -> Vec<Entry> {
    let mut list = Vec::with_capacity(table.len());
    for (key, value) in in_file_order(table) {
        let key = Text { text: key.get_ref().to_string(), span: span(key.span()) };
        let value = match value.get_ref() {
            DeValue::Array(array) => {
                let texts = array.iter().filter_map(|item| scalar(&key.text, item, lines, findings)).collect();
                Some(Value::Many(texts, span(value.span())))
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => scalar(&key.text, value, lines, findings).map(Value::One),
        };
        list.extend(value.map(|value| Entry { key, value }));
    }
    list
}

/// A single value as the text that cm.cfg would have: both formats are judged by the same rules.
fn scalar(key: &str, value: &Spanned<DeValue<'_>>, lines: Lines, findings: &mut Findings<'_>) -> Option<Text> {
    let mut place = span(value.span());
    let text = match value.get_ref() {
        DeValue::String(text) => {
            // Without the quotes, so that columns within the text are right.
            if place.end - place.start == text.len() + 2 {
                place = Span { start: place.start + 1, end: place.end - 1 };
            }
            text.to_string()
        }
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            findings.error(place, format!("`{key}` cannot hold a value of type {}", value.get_ref().type_str()), "");
            return None;
        }
    };
    let allowed = |c: char| lines == Lines::Several && matches!(c, '\n' | '\t');
    if text.chars().any(|c| c.is_control() && !allowed(c)) {
        findings.error(place, format!("`{key}` holds control characters"), "");
        return None;
    }
    Some(Text { text, span: place })
}

fn table<'a, 'i>(value: &'a Spanned<DeValue<'i>>, what: &str, findings: &mut Findings<'_>) -> Option<&'a DeTable<'i>> {
    let table = value.get_ref().as_table();
    if table.is_none() {
        findings.error(
            span(value.span()),
            format!("the value is of type {}, where the table {what} belongs", value.get_ref().type_str()),
            "",
        );
    }
    table
}

/// The parser sorts by name; people and start order go by the file.
fn in_file_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Item<'a, 'i>> {
    let mut items: Vec<Item<'a, 'i>> = table.iter().collect();
    items.sort_by_key(|(key, _)| key.span().start);
    items
}

fn span(range: Range<usize>) -> Span {
    Span { start: range.start, end: range.end }
}
