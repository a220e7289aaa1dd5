//! What is wrong, doubtful or worth knowing in a configuration, and where.

use std::{fmt, fmt::Write as _};

use super::{
    keys::Format,
    source::{Source, Span},
};

/// Findings of one severity that are kept; the rest are counted. A file of garbage must not fill the memory.
const KEPT_PER_SEVERITY: usize = 200;

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but hardly means what was intended, or will not work on this host.
    Warning,
    /// Worth knowing.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Info => "INFO",
        })
    }
}

/// A spot in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line, made safe for a terminal; the part around the spot when it is long.
    pub source: String,
    /// Columns that `source` takes on a terminal before the spot.
    pub indent: usize,
    /// Columns of the spot itself, at least one.
    pub length: usize,
}

/// One thing to tell the operator. Displays as one line that begins with the severity, then the source line and a caret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, on one line.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Where it is, when it is in a file.
    pub place: Option<Place>,
}

impl Finding {
    /// A finding that is not about a spot in a file.
    #[must_use]
    pub fn new(severity: Severity, message: impl Into<String>) -> Self {
        Self { severity, message: one_line(message.into()), help: None, place: None }
    }

    /// The same finding with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else {
            write!(f, "{}: {}", self.severity, self.message)?;
            return self.help.as_ref().map_or(Ok(()), |help| write!(f, "\n  = {help}"));
        };
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "{}: {}:{}:{}: {}", self.severity, place.file, place.line, place.column, self.message)?;
        writeln!(f, "  {number} | {}", place.source)?;
        write!(f, "  {margin} | {}{}", " ".repeat(place.indent), "^".repeat(place.length))?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, "\n  {margin} = {help}"))
    }
}

/// A configuration that cannot be used, with everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", render(findings))]
pub struct Report {
    /// All findings, in file order; at least one is an error.
    pub findings: Vec<Finding>,
}

impl Report {
    /// A report of one finding.
    #[must_use]
    pub fn of(finding: Finding) -> Self {
        Self { findings: vec![finding] }
    }

    /// Only the errors.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }
}

/// Findings one below the other.
#[must_use]
pub fn render(findings: &[Finding]) -> String {
    let mut text = String::new();
    for (index, finding) in findings.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{finding}");
    }
    text
}

/// Collects the findings of one file.
pub(super) struct Findings<'s> {
    source: &'s Source,
    list: Vec<(Option<Span>, Finding)>,
    count: [usize; 3],
}

impl<'s> Findings<'s> {
    pub(super) fn new(source: &'s Source) -> Self {
        Self { source, list: Vec::new(), count: [0; 3] }
    }

    /// An error at a spot; `help` may be empty.
    pub(super) fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Error, Some(span), message.into(), help.into());
    }

    /// A warning at a spot; `help` may be empty.
    pub(super) fn warning(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, Some(span), message.into(), help.into());
    }

    /// Something worth knowing at a spot.
    pub(super) fn info(&mut self, span: Span, message: impl Into<String>) {
        self.add(Severity::Info, Some(span), message.into(), String::new());
    }

    /// An error about the file as a whole.
    pub(super) fn error_anywhere(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Error, None, message.into(), help.into());
    }

    /// How the file is written.
    pub(super) fn format(&self) -> Format {
        self.source.format()
    }

    /// The line of a spot, for messages that name a second place.
    pub(super) fn line(&self, span: Span) -> usize {
        self.source.line(span)
    }

    /// Whether another finding of this severity would still be kept: a search for the nearest name is wasted otherwise.
    pub(super) fn has_room(&self, severity: Severity) -> bool {
        self.count[severity as usize] < KEPT_PER_SEVERITY
    }

    pub(super) fn has_errors(&self) -> bool {
        self.count[Severity::Error as usize] > 0
    }

    /// All findings in file order, those about no spot last.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        self.list.sort_by_key(|(span, _)| span.map_or(usize::MAX, |span| span.start));
        let mut all: Vec<Finding> = self.list.into_iter().map(|(_, finding)| finding).collect();
        for severity in [Severity::Error, Severity::Warning, Severity::Info] {
            let hidden = self.count[severity as usize].saturating_sub(KEPT_PER_SEVERITY);
            if hidden > 0 {
                all.push(Finding::new(severity, format!("{}: {hidden} more findings of this severity are not shown", self.source.name())));
            }
        }
        all
    }

    fn add(&mut self, severity: Severity, span: Option<Span>, message: String, help: String) {
        let room = self.has_room(severity);
        self.count[severity as usize] += 1;
        if room {
            let message = if span.is_some() { message } else { format!("{}: {message}", self.source.name()) };
            let mut finding = Finding::new(severity, message);
            finding.help = Some(help).filter(|help| !help.is_empty());
            finding.place = span.map(|span| self.source.place(span));
            self.list.push((span, finding));
        }
    }
}

/// Messages quote what the file says: keep them on one line and free of terminal controls, and short.
fn one_line(message: String) -> String {
    const LONGEST: usize = 600;
    if message.len() <= LONGEST && !message.chars().any(char::is_control) {
        return message;
    }
    let mut line: String = message.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if message.chars().nth(LONGEST).is_some() {
        line.push_str(" ...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_the_line_and_a_caret() {
        let source = Source::new("cm.cfg", Format::Cfg, "a\nnode_filesystems = data,arhive\n");
        let mut findings = Findings::new(&source);
        findings.error(Span { start: 26, end: 32 }, "no file system `arhive`", "write `archive`");
        assert_eq!(
            findings.finish()[0].to_string(),
            "ERROR: cm.cfg:2:25: no file system `arhive`\n  2 | node_filesystems = data,arhive\n    |                         ^^^^^^\n    = write `archive`"
        );
    }

    #[test]
    fn a_flood_is_counted() {
        let source = Source::new("cm.cfg", Format::Cfg, "x");
        let mut findings = Findings::new(&source);
        for _ in 0..1_000 {
            findings.warning(Span { start: 0, end: 1 }, "again", "");
        }
        findings.error(Span { start: 0, end: 1 }, "kept", "");
        let all = findings.finish();
        assert_eq!(all.len(), KEPT_PER_SEVERITY + 2);
        assert!(all.iter().any(|finding| finding.message.contains("800 more")));
        assert!(all.iter().any(|finding| finding.severity == Severity::Error));
    }

    #[test]
    fn controls_do_not_reach_the_terminal() {
        assert_eq!(Finding::new(Severity::Info, "a\u{1b}[2J\nb").message, "a\u{fffd}[2J\u{fffd}b");
    }
}
