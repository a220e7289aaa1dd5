//! The text of a keepalived.conf: comments, conditions, definitions, quotes and braces. What a word means is not known here.

use std::{borrow::Cow, collections::BTreeMap};

use crate::config::{
    finding::Findings,
    source::{MAX_LINE, Source, Span, Text},
};

/// Blocks within blocks. keepalived has four.
const DEEPEST: usize = 16;
/// Definitions within definitions.
const ROUNDS: usize = 16;

/// A line of words, and the block behind it.
#[derive(Debug)]
pub(super) struct Statement {
    /// At least one.
    words: Vec<Text>,
    pub(super) block: Vec<Statement>,
    has_block: bool,
}

impl Statement {
    pub(super) fn keyword(&self) -> &str {
        &self.words[0].text
    }

    /// Where it begins.
    pub(super) fn span(&self) -> Span {
        self.words[0].span
    }

    /// What follows the keyword.
    pub(super) fn values(&self) -> &[Text] {
        &self.words[1..]
    }

    /// All words of it, the first one included, where a block is a plain list.
    pub(super) fn words(&self) -> &[Text] {
        &self.words
    }
}

/// Reads the statements of a file as the node that calls itself `id` sees it: lines that begin with `@` are for some nodes only.
pub(super) fn read(source: &Source, id: &str, findings: &mut Findings<'_>) -> Vec<Statement> {
    let mut reader = Reader { id, definitions: BTreeMap::new(), tree: Tree::default() };
    let mut joined: Option<(String, Span)> = None;
    let mut skipping = false;
    for (start, line) in source.lines() {
        let span = Span { start, end: start + line.len() };
        if line.len() > MAX_LINE {
            findings.error(span, format!("this line has more than {MAX_LINE} bytes"), "this is no keepalived.conf, or a damaged one");
            continue;
        }
        let continues = line.trim_end().ends_with('\\');
        if skipping {
            skipping = continues;
            continue;
        }
        if continues && joined.is_none() && definition(line.trim_start()).is_some() {
            findings.error(span, "a definition of several lines is not understood here", "write the lines out where it is used");
            skipping = true;
            continue;
        }
        let part = if continues { line.trim_end().trim_end_matches('\\') } else { line };
        let whole = match joined.take() {
            Some((mut text, first)) => {
                text.push(' ');
                text.push_str(part);
                Some((text, Span { start: first.start, end: span.end }))
            }
            None if continues => Some((part.to_owned(), span)),
            None => None,
        };
        match whole {
            Some((text, whole)) if continues && text.len() <= MAX_LINE => joined = Some((text, whole)),
            Some((text, whole)) => reader.line(&text, whole, None, findings),
            None => reader.line(line, span, Some(start), findings),
        }
    }
    if let Some((text, whole)) = joined {
        reader.line(&text, whole, None, findings);
    }
    reader.tree.finish(findings)
}

struct Reader<'i> {
    id: &'i str,
    definitions: BTreeMap<String, String>,
    tree: Tree,
}

impl Reader<'_> {
    /// One line; `at` is its offset in the file when it stands there like this.
    fn line(&mut self, line: &str, span: Span, mut at: Option<usize>, findings: &mut Findings<'_>) {
        let mut text = line.trim_start();
        if let Some(rest) = text.strip_prefix('@') {
            let (name, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let wanted = match name.strip_prefix('^') {
                Some(name) => name != self.id,
                None => name == self.id,
            };
            if !wanted {
                return;
            }
            text = rest.trim_start();
        }
        if let Some((name, value)) = definition(text) {
            self.definitions.insert(name.to_owned(), without_comment(value).trim().to_owned());
            return;
        }
        if text.starts_with('~') {
            findings.error(span, "lines of ~SEQ and ~LST are not understood here", "write the lines out that they stand for");
            return;
        }
        at = at.map(|at| at + (line.len() - text.len()));
        let text = match self.substituted(text) {
            Ok(Cow::Owned(text)) => {
                at = None;
                Cow::Owned(text)
            }
            Ok(same) => same,
            Err(()) => {
                findings.error(span, format!("with its definitions this line has more than {MAX_LINE} bytes"), "");
                return;
            }
        };
        let place = |from: usize, to: usize| at.map_or(span, |at| Span { start: at + from, end: at + to });
        self.tree.line(&text, place, findings);
    }

    /// With every `${NAME}`, and `$NAME` before a space, replaced that is defined.
    fn substituted<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, ()> {
        let mut text = Cow::Borrowed(text);
        for _ in 0..ROUNDS {
            if !text.contains('$') {
                break;
            }
            let (mut new, mut rest, mut changed) = (String::new(), &*text, false);
            while let Some(dollar) = rest.find('$') {
                let (before, from) = rest.split_at(dollar);
                new.push_str(before);
                let found = name_at(from).and_then(|(name, length)| {
                    let value = if name == "_INSTANCE" { Some(self.id) } else { self.definitions.get(name).map(String::as_str) };
                    value.map(|value| (value, length))
                });
                let (value, length) = found.unwrap_or(("$", 1));
                changed |= found.is_some();
                new.push_str(value);
                rest = &from[length..];
                if new.len() > MAX_LINE {
                    return Err(());
                }
            }
            if !changed {
                break;
            }
            new.push_str(rest);
            text = Cow::Owned(new);
        }
        Ok(text)
    }
}

/// `$NAME=VALUE`.
fn definition(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.strip_prefix('$')?.split_once('=')?;
    is_name(name).then_some((name, value))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !name.as_bytes()[0].is_ascii_digit()
}

/// The name behind a `$`, and how many bytes it takes with it.
fn name_at(text: &str) -> Option<(&str, usize)> {
    let rest = &text[1..];
    if let Some(inner) = rest.strip_prefix('{') {
        let end = inner.find('}')?;
        return is_name(&inner[..end]).then_some((&inner[..end], end + 3));
    }
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    is_name(&rest[..end]).then_some((&rest[..end], end + 1))
}

fn without_comment(text: &str) -> &str {
    text.find(['#', '!']).map_or(text, |at| &text[..at])
}

/// Statements as they come, the open blocks on a stack.
#[derive(Default)]
struct Tree {
    open: Vec<Statement>,
    done: Vec<Statement>,
    words: Vec<Text>,
    too_deep: bool,
}

impl Tree {
    fn line(&mut self, text: &str, place: impl Fn(usize, usize) -> Span, findings: &mut Findings<'_>) {
        let mut letters = text.char_indices().peekable();
        while let Some((from, letter)) = letters.next() {
            match letter {
                '#' | '!' => break,
                '{' => self.begin(place(from, from + 1), findings),
                '}' => self.end(place(from, from + 1), findings),
                letter if letter.is_whitespace() => {}
                mut letter => {
                    let (mut word, mut quote, mut end) = (String::new(), None, from);
                    loop {
                        end += letter.len_utf8();
                        match (quote, letter) {
                            (None, '"' | '\'') => quote = Some(letter),
                            (Some(open), letter) if open == letter => quote = None,
                            (Some(_), '\\') => {
                                if let Some((_, escaped)) = letters.next() {
                                    end += escaped.len_utf8();
                                    word.push(match escaped {
                                        'n' => '\n',
                                        't' => '\t',
                                        other => other,
                                    });
                                }
                            }
                            (_, letter) => word.push(letter),
                        }
                        let ends = |next: char| quote.is_none() && (next.is_whitespace() || matches!(next, '{' | '}' | '#' | '!'));
                        match letters.next_if(|(_, next)| !ends(*next)) {
                            Some((_, next)) => letter = next,
                            None => break,
                        }
                    }
                    let span = place(from, end);
                    if quote.is_some() {
                        findings.error(span, "this quotation mark is never closed", "");
                    }
                    self.words.push(Text { text: word, span });
                }
            }
        }
        self.flush();
    }

    fn list(&mut self) -> &mut Vec<Statement> {
        self.open.last_mut().map_or(&mut self.done, |statement| &mut statement.block)
    }

    fn flush(&mut self) {
        if !self.words.is_empty() {
            let statement = Statement { words: std::mem::take(&mut self.words), block: Vec::new(), has_block: false };
            self.list().push(statement);
        }
    }

    fn begin(&mut self, span: Span, findings: &mut Findings<'_>) {
        self.flush();
        // It may stand on a line of its own.
        let statement = self.list().pop_if(|last| !last.has_block);
        let mut statement = statement.unwrap_or_else(|| {
            findings.error(span, "this { has nothing before it", "");
            Statement { words: vec![Text { text: String::new(), span }], block: Vec::new(), has_block: true }
        });
        statement.has_block = true;
        if self.open.len() < DEEPEST {
            self.open.push(statement);
        } else if !std::mem::replace(&mut self.too_deep, true) {
            findings.error(span, format!("there are more than {DEEPEST} blocks within each other here"), "is a } missing above?");
        }
    }

    fn end(&mut self, span: Span, findings: &mut Findings<'_>) {
        self.flush();
        match self.open.pop() {
            Some(statement) => self.list().push(statement),
            None => findings.error(span, "this } closes nothing", "is one too many above?"),
        }
    }

    fn finish(mut self, findings: &mut Findings<'_>) -> Vec<Statement> {
        while let Some(statement) = self.open.pop() {
            findings.error(statement.span(), format!("the block `{}` is never closed", statement.keyword()), "a } is missing");
            self.list().push(statement);
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{finding::render, keys::Format};

    fn shown(statements: &[Statement]) -> String {
        let one = |statement: &Statement| {
            let words: Vec<&str> = statement.words.iter().map(|word| word.text.as_str()).collect();
            let block = if statement.has_block { format!(" {{{}}}", shown(&statement.block)) } else { String::new() };
            format!("{}{block};", words.join("|"))
        };
        statements.iter().map(one).collect()
    }

    fn read_as(id: &str, text: &str) -> (String, String) {
        let source = Source::new("t", Format::Cfg, text);
        let mut findings = Findings::new(&source);
        let statements = read(&source, id, &mut findings);
        (shown(&statements), render(&findings.finish()))
    }

    #[test]
    fn words_blocks_and_comments() {
        let text =
            "! all\nglobal_defs {\n  router_id \"a # b\" # here\n}\nvrrp_script x{ script \"/bin/test -e '/a b'\"\n}\nb\n{\n c { d }\n}\n";
        let (shown, faults) = read_as("n", text);
        assert_eq!(shown, "global_defs {router_id|a # b;};vrrp_script|x {script|/bin/test -e '/a b';};b {c {d;};};");
        assert_eq!(faults, "");
    }

    #[test]
    fn conditions_and_definitions() {
        let text = "$IP=10.0.0.1\n$NET=${IP}/24\n@one priority 150\n@two priority 100\n@^one nopreempt\n@one $WHO=me\na $IP ${NET} $WHO\nb \\\n  c\n${_INSTANCE}\n";
        assert_eq!(read_as("one", text), ("priority|150;a|10.0.0.1|10.0.0.1/24|me;b|c;one;".into(), String::new()));
        assert_eq!(read_as("two", text).0, "priority|100;nopreempt;a|10.0.0.1|10.0.0.1/24|$WHO;b|c;two;");
    }

    #[test]
    fn faults_say_where() {
        for (text, fault) in [
            ("a {\nb\n", "ERROR: t:1:1: the block `a` is never closed"),
            ("a\n}\n", "ERROR: t:2:1: this } closes nothing"),
            ("{\n}\n", "ERROR: t:1:1: this { has nothing"),
            ("a \"b\n", "ERROR: t:1:3: this quotation mark"),
            ("~SEQ(a, 1, 2) b\n", "ERROR: t:1:1: lines of ~SEQ"),
            ("$A= \\\n b \\\n c\nd\n", "ERROR: t:1:1: a definition of several lines"),
        ] {
            let (_, faults) = read_as("n", text);
            assert!(faults.starts_with(fault), "{text}: {faults}");
        }
        let bomb =
            (0..40).fold("$A0=xxxxxxxxxx\n".to_owned(), |text, n| format!("{text}$A{}=${{A{n}}}${{A{n}}}${{A{n}}}${{A{n}}}\n", n + 1));
        assert!(read_as("n", &format!("{bomb}a ${{A40}}\n")).1.contains("with its definitions"));
        assert!(read_as("n", &"a {\n".repeat(100_000)).1.contains("more than 16 blocks"));
    }
}
