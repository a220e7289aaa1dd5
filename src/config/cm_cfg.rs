//! The format of cm.cfg: sections, `key = value`, comma-separated resources, `#` comments with `\#` for a literal `#`.

use crate::model::Kind;

use super::{
    draft::{Draft, Entry, NodeDraft, ResourceDraft, Value},
    finding::{Findings, Severity},
    keys,
    source::{MAX_LINE, Source, Span, Text},
};

/// The section that the current line belongs to.
enum Section {
    /// Before the first header.
    None,
    Server,
    Node,
    Resources(Kind),
    /// Already reported: its lines are passed over.
    Unknown,
}

/// Reads the sections of a cm.cfg. What cannot be read is reported and left out.
pub(super) fn read(source: &Source, findings: &mut Findings<'_>) -> Draft {
    let mut draft = Draft::default();
    let mut section = Section::None;
    let mut server_seen: Option<Span> = None;
    for (start, line) in source.lines() {
        if line.len() > MAX_LINE {
            let span = Span { start, end: start + line.len() };
            findings.error(span, format!("the line is longer than {MAX_LINE} bytes"), "");
            continue;
        }
        let Some(statement) = Raw { text: before_comment(line), start }.trimmed() else { continue };
        if let Some(at) = statement.text.find(|c: char| c.is_control() && c != '\t') {
            let start = statement.start + at;
            findings.error(Span { start, end: start + 1 }, "a control character", "remove it; this file is text");
            continue;
        }
        if statement.text.starts_with('[') {
            section = header(statement, findings);
            match section {
                Section::Server => {
                    if let Some(first) = server_seen {
                        let line = findings.line(first);
                        findings.warning(
                            statement.span(),
                            format!("[CM_SERVER] appears again (first in line {line})"),
                            "both are read as one section; join them",
                        );
                    }
                    server_seen.get_or_insert(statement.span());
                }
                Section::Node => draft.nodes.push(NodeDraft { header: statement.span(), entries: Vec::new() }),
                Section::None | Section::Resources(_) | Section::Unknown => {}
            }
            continue;
        }
        match section {
            Section::None => {
                findings.error(statement.span(), "this line is in no section", "begin with a section such as [CM_SERVER]");
                // One finding for all such lines is enough.
                section = Section::Unknown;
            }
            Section::Server => draft.server.extend(entry(statement, keys::SERVER, findings)),
            Section::Node => {
                if let Some(node) = draft.nodes.last_mut() {
                    node.entries.extend(entry(statement, keys::NODE, findings));
                }
            }
            Section::Resources(kind) => draft.resources.extend(resource(kind, statement, findings)),
            Section::Unknown => {}
        }
    }
    draft
}

/// A piece of a line, not yet unescaped.
#[derive(Clone, Copy)]
struct Raw<'a> {
    text: &'a str,
    start: usize,
}

impl<'a> Raw<'a> {
    /// Without white space around it; `None` when nothing is left.
    fn trimmed(self) -> Option<Self> {
        let trimmed = self.trim();
        (!trimmed.text.is_empty()).then_some(trimmed)
    }

    fn trim(self) -> Self {
        let front = self.text.trim_start();
        Self { text: front.trim_end(), start: self.start + (self.text.len() - front.len()) }
    }

    fn span(self) -> Span {
        Span { start: self.start, end: self.start + self.text.len() }
    }

    fn text(self) -> Text {
        // Hardly any has one, and there may be ten thousands.
        let text = if self.text.contains('\\') { self.text.replace("\\#", "#") } else { self.text.to_owned() };
        Text { text, span: self.span() }
    }

    /// The pieces between commas, trimmed; empty ones too.
    fn split(self) -> impl Iterator<Item = Raw<'a>> {
        let mut start = self.start;
        self.text.split(',').map(move |piece| {
            let raw = Raw { text: piece, start }.trim();
            start += piece.len() + 1;
            raw
        })
    }
}

/// The line up to the first `#` that is not written `\#`.
fn before_comment(line: &str) -> &str {
    let bytes = line.as_bytes();
    let comment = (0..bytes.len()).find(|&at| bytes[at] == b'#' && (at == 0 || bytes[at - 1] != b'\\'));
    comment.map_or(line, |at| &line[..at])
}

fn header(statement: Raw<'_>, findings: &mut Findings<'_>) -> Section {
    let Some(name) = statement.text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).map(str::trim) else {
        findings.error(statement.span(), "a section name ends with `]`", "write the name alone on its line, such as [CM_NODE]");
        return Section::Unknown;
    };
    if name.eq_ignore_ascii_case("CM_SERVER") {
        return Section::Server;
    }
    if name.eq_ignore_ascii_case("CM_NODE") {
        return Section::Node;
    }
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| keys::section(*kind).eq_ignore_ascii_case(name)) {
        return Section::Resources(kind);
    }
    // An error, unlike an unknown key: everything below it would be lost.
    let nearest = if findings.has_room(Severity::Error) { keys::nearest(name, keys::SECTIONS) } else { None };
    let mut help = format!("the sections are [{}]", keys::SECTIONS.join("] ["));
    let first_word = name.trim_start_matches('[').split(['.', ']']).next().unwrap_or_default();
    if keys::TABLES.iter().any(|table| table.eq_ignore_ascii_case(first_word)) {
        help.push_str("; a file in the format of cm.toml needs a name that ends in .toml");
    }
    findings.error(statement.span(), format!("there is no section [{name}]{}", keys::did_you_mean(nearest)), help);
    Section::Unknown
}

fn entry(statement: Raw<'_>, known: &'static [keys::Key], findings: &mut Findings<'_>) -> Option<Entry> {
    let Some(equals) = statement.text.find('=') else {
        findings.error(statement.span(), "this line is not `key = value`", "a comment begins with #");
        return None;
    };
    let key = Raw { text: &statement.text[..equals], start: statement.start }.trim();
    let value = Raw { text: &statement.text[equals + 1..], start: statement.start + equals + 1 }.trim();
    if key.text.is_empty() {
        findings.error(statement.span(), "there is no key before the `=`", "");
        return None;
    }
    let is_list = keys::find(known, key.text).is_some_and(keys::Key::is_list);
    let value = if is_list {
        // A comma too many does no harm.
        Value::Many(value.split().filter(|piece| !piece.text.is_empty()).map(Raw::text).collect(), value.span())
    } else {
        Value::One(value.text())
    };
    Some(Entry { key: key.text(), value })
}

/// Fields that a resource of this kind may have in cm.cfg, the nickname included: fewest, most, and their names.
const fn fields(kind: Kind) -> (usize, usize, &'static str) {
    match kind {
        Kind::FileSystem => (3, 4, "nickname, source, target, resource_script"),
        Kind::Address => (4, 5, "nickname, floating IP, netmask, interface, resource_script"),
        Kind::Service => (2, 3, "nickname, service_name, resource_script"),
        Kind::Application => (4, 5, "nickname, user:group, start_program, stop_program, ensure_script"),
        Kind::Crontab => (3, 4, "nickname, template_file, install_location, resource_script"),
    }
}

fn resource(kind: Kind, statement: Raw<'_>, findings: &mut Findings<'_>) -> Option<ResourceDraft> {
    let mut pieces: Vec<Raw<'_>> = statement.split().collect();
    let nickname = pieces.remove(0);
    if nickname.text.is_empty() {
        findings.error(
            statement.span(),
            format!("the {} has no nickname", keys::noun(kind)),
            format!("the fields are: {}", fields(kind).2),
        );
        return None;
    }
    let nickname = nickname.text();
    let (fewest, most, names) = fields(kind);
    // A comma at the end of the line is no further field.
    while pieces.len() + 1 > most && pieces.last().is_some_and(|piece| piece.text.is_empty()) {
        pieces.pop();
    }
    let count = pieces.len() + 1;
    if count < fewest || count > most {
        let mut help = format!("the fields are: {names}");
        if kind == Kind::Application && count > most {
            help.push_str("; a command cannot hold a comma here: put it into a script, or use cm.toml");
        }
        findings.error(
            statement.span(),
            format!(
                "the {} `{}` has {count} field{}, where {fewest} or {most} are expected",
                keys::noun(kind),
                nickname.text,
                if count == 1 { "" } else { "s" }
            ),
            help,
        );
        return Some(ResourceDraft { kind, nickname, fields: None });
    }
    let entries = keys::resource(kind)
        .iter()
        .zip(pieces)
        .map(|(key, piece)| Entry { key: Text { text: key.name.to_owned(), span: piece.span() }, value: Value::One(piece.text()) })
        .collect();
    Some(ResourceDraft { kind, nickname, fields: Some(entries) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str) -> (Draft, Vec<String>) {
        let source = Source::new("t", keys::Format::Cfg, text);
        let mut findings = Findings::new(&source);
        let draft = read(&source, &mut findings);
        (draft, findings.finish().into_iter().map(|finding| finding.to_string().lines().next().unwrap().to_owned()).collect())
    }

    #[test]
    fn comments_escapes_and_spaces() {
        let (draft, findings) = draft(
            "# x\r\n[ cm_server ] # head\r\n  udpport=1 # port\r\n[CM_APPLICATIONS]\n a , u:g , echo \\#1; [ -f ~/x ] , b\n[CM_NODE]\nnode_crontabs = a , b,,c,\n",
        );
        assert_eq!(findings, Vec::<String>::new());
        assert_eq!(draft.server[0].key.text, "udpport");
        let Value::One(port) = &draft.server[0].value else { panic!() };
        assert_eq!(port.text, "1");
        let Value::One(start) = &draft.resources[0].fields.as_ref().unwrap()[1].value else { panic!() };
        assert_eq!(start.text, "echo #1; [ -f ~/x ]");
        let Value::Many(list, _) = &draft.nodes[0].entries[0].value else { panic!() };
        assert_eq!(list.iter().map(|text| text.text.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn lines_that_are_nothing() {
        let (draft, findings) = draft("x\ny\n[CM_NODES]\na=b\n[CM_SERVER]\nfoo\n= 3\n[CM_NODE\n[CM_SERVICES]\na\n, b, c\na,b,c,d\n");
        assert_eq!(draft.resources.len(), 2);
        assert_eq!(
            findings,
            [
                "ERROR: t:1:1: this line is in no section",
                "ERROR: t:3:1: there is no section [CM_NODES] (nearest: `CM_NODE`)",
                "ERROR: t:6:1: this line is not `key = value`",
                "ERROR: t:7:1: there is no key before the `=`",
                "ERROR: t:8:1: a section name ends with `]`",
                "ERROR: t:10:1: the service `a` has 1 field, where 2 or 3 are expected",
                "ERROR: t:11:1: the service has no nickname",
                "ERROR: t:12:1: the service `a` has 4 fields, where 2 or 3 are expected",
            ]
        );
    }
}
