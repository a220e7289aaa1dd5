//! The entries of one section by key, and their values as types. Every fault is reported and answered with the default,
//! so that all faults of a file are found in one pass.

use std::{fmt, net::IpAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{
    draft::{Entry, Value},
    finding::{Findings, Severity},
    keys::{self, Key},
    source::{Span, Text},
    words::Word,
};

/// The entries of one section.
pub(super) struct Fields<'d> {
    /// By the name of their key; so few that a search is faster than a map.
    entries: Vec<(&'static str, &'d Entry)>,
}

impl<'d> Fields<'d> {
    /// Sorts entries by key. Unknown keys are warnings; of a key that appears twice the last one counts, as in most programs.
    pub(super) fn collect(entries: &'d [Entry], known: &[&'static [Key]], section: impl fmt::Display, findings: &mut Findings<'_>) -> Self {
        let mut found: Vec<(&'static str, &'d Entry)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(key) = known.iter().find_map(|keys| keys::find(keys, &entry.key.text)) else {
                let nearest = if findings.has_room(Severity::Warning) {
                    keys::nearest(&entry.key.text, known.iter().copied().flatten().flat_map(keys::spellings))
                } else {
                    None
                };
                findings.warning(
                    entry.key.span,
                    format!("{section} has no key `{}`{}: it is ignored", entry.key.text, keys::did_you_mean(nearest)),
                    "",
                );
                continue;
            };
            if let Some((_, first)) = found.iter_mut().find(|(name, _)| *name == key.name) {
                let line = findings.line(first.key.span);
                findings.warning(
                    entry.key.span,
                    format!("`{}` is set again (first in line {line}): the value here counts", entry.key.text),
                    "remove one of the two",
                );
                *first = entry;
            } else {
                found.push((key.name, entry));
            }
        }
        Self { entries: found }
    }

    fn entry(&self, key: &'static str) -> Option<&'d Entry> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, entry)| *entry)
    }

    /// The value of a key as written, when there is one and it is not empty.
    pub(super) fn text(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<Text> {
        match &self.entry(key)?.value {
            Value::One(text) if text.text.is_empty() => None,
            Value::One(text) => Some(text.clone()),
            Value::Many(_, span) => {
                findings.error(*span, format!("`{key}` takes one value, not a list"), "");
                None
            }
        }
    }

    /// The value of a key, without quotation marks around it.
    pub(super) fn unquoted(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<Text> {
        let mut text = self.text(key, findings)?;
        if let Some(inner) = text.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            text.text = inner.to_owned();
        }
        Some(text).filter(|text| !text.text.is_empty())
    }

    /// Where a key is, for messages about its value; the whole entry.
    pub(super) fn span(&self, key: &'static str) -> Option<Span> {
        self.entry(key).map(|entry| match &entry.value {
            Value::One(text) if text.text.is_empty() => entry.key.span,
            Value::One(text) => text.span,
            Value::Many(_, span) => *span,
        })
    }

    /// Whether a list is written where one value belongs.
    pub(super) fn is_list(&self, key: &'static str) -> bool {
        self.entry(key).is_some_and(|entry| matches!(entry.value, Value::Many(..)))
    }

    /// A list of names.
    pub(super) fn list(&self, key: &'static str) -> Vec<Text> {
        match self.entry(key).map(|entry| &entry.value) {
            None => Vec::new(),
            Some(Value::Many(list, _)) => list.iter().filter(|text| !text.text.is_empty()).cloned().collect(),
            // TOML may give a string where a list belongs: read it as cm.cfg would.
            Some(Value::One(text)) => {
                let names = text.text.split(',').map(str::trim).filter(|name| !name.is_empty());
                names.map(|name| Text { text: name.to_owned(), span: text.span }).collect()
            }
        }
    }

    /// A whole number.
    pub(super) fn number<N>(&self, key: &'static str, range: RangeInclusive<N>, default: N, findings: &mut Findings<'_>) -> N
    where
        N: Copy + PartialOrd + fmt::Display + TryFrom<i64>,
    {
        let Some(text) = self.bare(key, findings) else { return default };
        match whole_number(&text.text).and_then(|number| N::try_from(number).ok()).filter(|number| range.contains(number)) {
            Some(number) => number,
            None => {
                findings.error(
                    text.span,
                    format!("`{key}` is `{}`, which is not a whole number from {} to {}", text.text, range.start(), range.end()),
                    format!("without this line it is {default}"),
                );
                default
            }
        }
    }

    /// A span of time, in seconds with an optional fraction.
    pub(super) fn seconds(
        &self,
        key: &'static str,
        range: RangeInclusive<f64>,
        default: Duration,
        findings: &mut Findings<'_>,
    ) -> Duration {
        let Some(text) = self.bare(key, findings) else { return default };
        match decimal(&text.text).filter(|seconds| range.contains(seconds)).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            Some(span) => span,
            None => {
                findings.error(
                    text.span,
                    format!("`{key}` is `{}`, which is not a number of seconds from {} to {}", text.text, range.start(), range.end()),
                    format!("without this line it is {} seconds", default.as_secs_f64()),
                );
                default
            }
        }
    }

    /// Yes or no.
    pub(super) fn boolean(&self, key: &'static str, default: bool, findings: &mut Findings<'_>) -> bool {
        self.optional_boolean(key, findings).unwrap_or(default)
    }

    /// Yes or no, when written.
    pub(super) fn optional_boolean(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<bool> {
        let text = self.bare(key, findings)?;
        match text.text.to_ascii_lowercase().as_str() {
            "1" | "true" | "t" | "yes" | "y" => Some(true),
            "0" | "false" | "f" | "no" | "n" => Some(false),
            _ => {
                findings.error(text.span, format!("`{key}` is `{}`, which is neither 1 (yes, true) nor 0 (no, false)", text.text), "");
                None
            }
        }
    }

    /// One word of several.
    pub(super) fn choice<T: Word>(&self, key: &'static str, default: T, findings: &mut Findings<'_>) -> T {
        let Some(text) = self.bare(key, findings) else { return default };
        if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text.text)) {
            return *value;
        }
        let names: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
        let nearest = keys::did_you_mean(keys::nearest(&text.text, names.iter().copied()));
        findings.error(text.span, format!("`{key}` is `{}`{nearest}, which is none of: {}", text.text, names.join(", ")), "");
        default
    }

    /// An absolute path.
    pub(super) fn path(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<PathBuf> {
        let text = self.unquoted(key, findings)?;
        if !text.text.starts_with('/') {
            findings.error(text.span, format!("`{key}` is `{}`, which is not an absolute path", text.text), "write it from / on");
            return None;
        }
        Some(PathBuf::from(text.text))
    }

    /// The name of a file in `auth_dir` with a token.
    pub(super) fn secret(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<Text> {
        let token = self.unquoted(key, findings)?;
        if token.text.contains('/') || token.text.starts_with('.') {
            findings.error(
                token.span,
                format!("`{key}` is `{}`, which is no name of a file in auth_dir", token.text),
                "put the token into a file in auth_dir, with mode 600, and write its name here",
            );
        }
        Some(token)
    }

    /// An IP address.
    pub(super) fn ip(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<(IpAddr, Span)> {
        let text = self.bare(key, findings)?;
        match text.text.parse() {
            Ok(address) => Some((address, text.span)),
            Err(_) => {
                findings.error(
                    text.span,
                    format!("`{key}` is `{}`, which is not an IP address", text.text),
                    "write it like 192.168.1.10 or 2001:db8::10; a host name is not accepted here",
                );
                None
            }
        }
    }

    /// A value that is no free text: a `;` after it, as shipped examples have, is taken off with a warning.
    fn bare(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<Text> {
        let mut text = self.unquoted(key, findings)?;
        let kept = text.text.trim_end_matches(|c: char| c == ';' || c.is_whitespace()).len();
        if kept < text.text.len() {
            findings.warning(text.span, format!("`{key}` ends with a stray `;`: it is ignored"), "remove the `;`");
            text.text.truncate(kept);
        }
        Some(text).filter(|text| !text.text.is_empty())
    }
}

/// A whole number: decimal, or with 0x, 0o, 0b as TOML has it.
fn whole_number(text: &str) -> Option<i64> {
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return i64::from_str_radix(digits, radix).ok();
        }
    }
    text.parse().ok()
}

/// A decimal number, written plainly: no exponent, no `inf`.
fn decimal(text: &str) -> Option<f64> {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.').then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::{super::source::Source, *};

    fn with<T>(value: &str, read: impl FnOnce(&Fields<'_>, &mut Findings<'_>) -> T) -> (T, String) {
        let text = format!("debug = {value}");
        let source = Source::new("t", keys::Format::Cfg, &text);
        let mut findings = Findings::new(&source);
        let spot = Span { start: 8, end: text.len() };
        let entries = [Entry {
            key: Text { text: "Debug".into(), span: Span { start: 0, end: 5 } },
            value: Value::One(Text { text: value.into(), span: spot }),
        }];
        let fields = Fields::collect(&entries, &[keys::SERVER], "[CM_SERVER]", &mut findings);
        let value = read(&fields, &mut findings);
        let said = findings.finish().first().map(|finding| finding.message.clone()).unwrap_or_default();
        (value, said)
    }

    #[test]
    fn booleans_in_every_spelling() {
        for (yes, no) in [("1", "0"), ("TRUE", "False"), ("t", "F"), ("Yes", "no"), ("y", "N"), ("1;", "0 ;")] {
            assert!(with(yes, |fields, findings| fields.boolean("debug", false, findings)).0, "{yes}");
            assert!(!with(no, |fields, findings| fields.boolean("debug", true, findings)).0, "{no}");
        }
        assert!(with("maybe", |fields, findings| fields.boolean("debug", true, findings)).0);
        assert!(with("maybe", |fields, findings| fields.boolean("debug", true, findings)).1.contains("neither"));
    }

    #[test]
    fn numbers_and_their_bounds() {
        let number = |text: &str| with(text, |fields, findings| fields.number("debug", 1_u32..=60, 7, findings));
        assert_eq!(number("60"), (60, String::new()));
        assert_eq!(number("60;"), (60, "`debug` ends with a stray `;`: it is ignored".into()));
        for wrong in ["0", "61", "-1", "1.5", "99999999999999999999", "ten"] {
            let (value, said) = number(wrong);
            assert!(value == 7 && said.contains("not a whole number from 1 to 60"), "{wrong}: {said}");
        }
        assert_eq!(number(""), (7, String::new()));
    }

    #[test]
    fn seconds_take_fractions() {
        let seconds = |text: &str| with(text, |fields, findings| fields.seconds("debug", 0.0..=60.0, Duration::from_secs(7), findings)).0;
        assert_eq!(seconds("0.25"), Duration::from_millis(250));
        assert_eq!(seconds("10"), Duration::from_secs(10));
        for wrong in ["inf", "NaN", "1e1", "-1", "60.1", "."] {
            assert_eq!(seconds(wrong), Duration::from_secs(7), "{wrong}");
        }
    }
}
