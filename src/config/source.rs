//! A configuration file in memory: bounded reading, and spots as line and column.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::OFlag;
use unicode_width::UnicodeWidthChar;

use super::{
    finding::{Finding, Place, Report, Severity},
    keys::Format,
};

/// Largest configuration file that is read, in bytes.
pub const MAX_FILE: u64 = 16 * 1024 * 1024;
/// Longest line, in bytes: a node list of tens of thousands of nicknames fits.
pub(super) const MAX_LINE: usize = 1024 * 1024;

/// Characters of a long line that a finding shows.
const EXCERPT: usize = 140;

/// Bytes `start .. end` of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A piece of a file: what it says (unescaped) and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) span: Span,
}

/// The text of one file and where its lines begin.
pub(super) struct Source {
    name: String,
    format: Format,
    text: String,
    lines: Vec<usize>,
}

impl Source {
    pub(super) fn new(name: &str, format: Format, text: &str) -> Self {
        let lines = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1)).collect();
        Self { name: name.to_owned(), format, text: text.to_owned(), lines }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The lines with the offset at which each begins, without their end (LF or CRLF) and without a byte order mark.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines.iter().enumerate().map(|(index, &start)| {
            let end = self.lines.get(index + 1).map_or(self.text.len(), |next| next - 1);
            let line = &self.text[start..end];
            let line = line.strip_suffix('\r').unwrap_or(line);
            match line.strip_prefix('\u{feff}') {
                Some(rest) if start == 0 => ('\u{feff}'.len_utf8(), rest),
                Some(_) | None => (start, line),
            }
        })
    }

    /// Line of the beginning of a span, from 1.
    pub(super) fn line(&self, span: Span) -> usize {
        self.lines.partition_point(|&start| start <= span.start).max(1)
    }

    /// The line of the beginning of a span.
    pub(super) fn line_text(&self, span: Span) -> &str {
        let line = self.line(span);
        &self.text[self.lines[line - 1]..self.lines.get(line).map_or(self.text.len(), |next| next - 1)]
    }

    /// A span as a place to show. Any span is accepted: it is cut to the text, to characters and to one line.
    pub(super) fn place(&self, span: Span) -> Place {
        let line = self.line(span);
        let line_start = self.lines[line - 1];
        let line_end = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        let whole = &self.text[line_start..line_end];
        let start = whole.floor_char_boundary(span.start.saturating_sub(line_start));
        let end = whole.ceil_char_boundary(span.end.saturating_sub(line_start)).max(start);
        let (before, marked) = (&whole[..start], &whole[start..end]);
        let column = before.trim_start_matches('\u{feff}').chars().count();
        // Of a long line show what is around the spot.
        let skipped = if column > EXCERPT / 2 && whole.chars().count() > EXCERPT { column - EXCERPT / 2 } else { 0 };
        let visible = whole.trim_start_matches('\u{feff}').trim_end();
        let source: String = visible.chars().skip(skipped).take(EXCERPT).map(printable).collect();
        let shown = column - skipped;
        // What the terminal makes of it: many scripts take two columns for a character.
        let width = |text: &mut dyn Iterator<Item = char>| text.map(|c| printable(c).width().unwrap_or(0)).sum::<usize>();
        let indent = width(&mut visible.chars().skip(skipped).take(shown));
        let length = width(&mut marked.trim_end().chars().take(EXCERPT.saturating_sub(shown))).max(1);
        Place { file: self.name.clone(), line, column: column + 1, source, indent, length }
    }
}

/// Reads a configuration file: a regular file of at most [`MAX_FILE`] bytes of UTF-8 text without NUL.
pub(super) fn read(path: &Path) -> Result<String, Report> {
    let fault = |what: String, help: &str| {
        let finding = Finding::new(Severity::Error, format!("{}: {what}", path.display()));
        Report::of(if help.is_empty() { finding } else { finding.help(help) })
    };
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if path.is_symlink() => fault(
            "is a symbolic link to a file that does not exist".into(),
            "correct the link, or remove it: a template is written in its place then",
        ),
        io::ErrorKind::NotFound => {
            fault("the configuration file does not exist".into(), "`drcm_server --config-file=FILE --check-config` writes a template there")
        }
        io::ErrorKind::PermissionDenied => fault("the configuration file may not be read by this user".into(), "run this as root"),
        _ => fault(format!("the configuration file cannot be opened: {error}"), ""),
    })?;
    let metadata = file.metadata().map_err(|error| fault(format!("the configuration file cannot be examined: {error}"), ""))?;
    if metadata.is_dir() {
        return Err(fault("is a directory, not a configuration file".into(), "name the file in it, such as cm.cfg"));
    }
    if !metadata.is_file() {
        return Err(fault("is not a regular file".into(), "copy the configuration into a file first"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fault(format!("the configuration file cannot be read: {error}"), ""))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(fault(format!("the file is larger than {MAX_FILE} bytes: this is no configuration file"), ""));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let what = format!("byte 0x{:02x} is not UTF-8 text", error.as_bytes()[at]);
        let finding = at_byte(path, error.as_bytes(), at, what);
        Report::of(finding.help("if the file was written in Latin-1: iconv -f latin1 -t utf-8 FILE"))
    })?;
    match text.find('\0') {
        Some(at) => {
            let finding = at_byte(path, text.as_bytes(), at, "NUL byte: this is a binary file or a damaged one".into());
            Err(Report::of(finding.help("copy the file again from a node where it is good")))
        }
        None => Ok(text),
    }
}

/// An error at a byte of a file that is no text: up to there it is.
fn at_byte(path: &Path, bytes: &[u8], at: usize, what: String) -> Finding {
    /// Bytes behind the spot that are still looked at, for the line that is shown.
    const BEHIND: usize = 4 * EXCERPT;
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(at + BEHIND)]);
    let source = Source::new(&path.display().to_string(), Format::Cfg, &shown);
    let mut finding = Finding::new(Severity::Error, what);
    finding.place = Some(source.place(Span { start: at, end: at + 1 }));
    finding
}

fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_spot_whatever_is_before_it() {
        for (line, spot) in [("\tkey = x", "       ^"), ("ключ = x", "       ^"), ("日本 = x", "       ^"), ("e\u{301} = x", "    ^")]
        {
            let source = Source::new("f", Format::Cfg, &format!("{line}\r\n"));
            let at = line.find('x').unwrap();
            let place = source.place(Span { start: at, end: at + 1 });
            assert_eq!(format!("{}{}", " ".repeat(place.indent), "^".repeat(place.length)), spot, "{line}");
        }
        let source = Source::new("f", Format::Cfg, "日本");
        assert_eq!(source.place(Span { start: 0, end: 6 }).length, 4);
        assert_eq!(source.place(Span { start: 3, end: 6 }).column, 2);
    }

    #[test]
    fn any_span_gives_a_place() {
        let text = "\u{feff}äö = ü\r\n\n[X]";
        let source = Source::new("f", Format::Cfg, text);
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                let place = source.place(Span { start, end });
                assert!(place.line <= 3 && place.length >= 1);
            }
        }
        let place = source.place(Span { start: 10, end: 12 });
        assert_eq!((place.line, place.column, place.source.as_str(), place.length), (1, 6, "äö = ü", 1));
    }

    #[test]
    fn a_long_line_is_shown_around_the_spot() {
        let text = format!("{}wrong{}", "a,".repeat(5_000), ",b".repeat(5_000));
        let place = Source::new("f", Format::Cfg, &text).place(Span { start: 10_000, end: 10_005 });
        assert_eq!(place.column, 10_001);
        assert_eq!(place.source.chars().skip(place.indent).take(place.length).collect::<String>(), "wrong");
        assert!(place.source.chars().count() <= EXCERPT);
    }

    #[test]
    fn lines_lose_their_ends_and_the_mark() {
        let source = Source::new("f", Format::Cfg, "\u{feff}a\r\nb\n\nc");
        assert_eq!(source.lines().collect::<Vec<_>>(), [(3, "a"), (6, "b"), (8, ""), (9, "c")]);
    }
}
