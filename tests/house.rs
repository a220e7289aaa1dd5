//! Reads the sources and holds the laws that the compiler does not know: which room may import which, what the pure rooms
//! must never touch, where unsafe code may live, and what is never written at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Words that would let the decision see a clock, chance, an order that differs from run to run, a socket or a thread.
const BANNED_IN_PURE_ROOMS: [&str; 15] = [
    "Instant",
    "SystemTime",
    "clock_gettime",
    "HashMap",
    "HashSet",
    "RandomState",
    "rand::",
    "getrandom",
    "OsRng",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "tokio::",
    "std::thread",
    "thread::spawn",
];

/// Never written anywhere in the sources, whole words.
const NEVER: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[allow"];

struct Source {
    path: PathBuf,
    room: String,
    /// How many `super::` lead from here to the crate's root.
    depth: usize,
    text: String,
}

impl Source {
    /// Without comments, which import nothing.
    fn code(&self) -> String {
        self.text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line }).collect::<Vec<_>>().join("\n")
    }

    /// Without comments and without the unit tests, which stand last.
    fn shipped(&self) -> String {
        if self.path.file_name().is_some_and(|name| name == "tests.rs") {
            return String::new();
        }
        let code = self.code();
        code.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()
    }
}

#[test]
fn every_room_imports_only_what_the_table_in_lib_rs_allows() {
    let law = law();
    let mut broken = Vec::new();
    for source in sources() {
        let Some(allowed) = law.get(&source.room) else { continue };
        for import in imports(&source.shipped(), source.depth) {
            if import != source.room && law.contains_key(&import) && !allowed.contains(&import) {
                broken.push(format!("{}: `{}` may not import `{import}`", source.path.display(), source.room));
            }
        }
    }
    assert_none("the import law in src/lib.rs is broken", &broken);
}

#[test]
fn every_room_is_in_the_table() {
    let law = law();
    let missing: Vec<String> = sources()
        .iter()
        .filter(|source| !source.room.is_empty() && !law.contains_key(&source.room))
        .map(|source| format!("{}: room `{}` is not in the table", source.path.display(), source.room))
        .collect();
    assert_none("a room without a law", &missing);
}

#[test]
fn every_room_says_what_it_owns() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|source| source.path.ends_with("mod.rs") || source.path.components().count() == 2)
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| format!("{}: does not open with `//!`", source.path.display()))
        .collect();
    assert_none("rooms that do not say what they own and never do", &silent);
}

#[test]
fn the_decision_and_the_wire_are_pure() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.room == "cluster" || source.room == "wire") {
        for (number, line) in source.shipped().lines().enumerate() {
            for word in BANNED_IN_PURE_ROOMS.iter().filter(|word| has_word(line, word)) {
                broken.push(format!("{}:{}: `{word}`", source.path.display(), number + 1));
            }
        }
    }
    assert_none("clocks, chance, hash order, sockets and threads stay out of `cluster` and `wire`", &broken);
}

#[test]
fn unsafe_code_lives_in_sys_alone() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.room != "sys") {
        for (number, line) in source.code().lines().enumerate() {
            if has_word(line, "unsafe") || line.contains("(unsafe_code") {
                broken.push(format!("{}:{}: {}", source.path.display(), number + 1, line.trim()));
            }
        }
    }
    assert_none("unsafe code outside src/sys", &broken);
}

#[test]
fn nothing_is_left_unfinished_or_silenced() {
    let mut broken = Vec::new();
    for source in sources() {
        for (number, line) in source.code().lines().enumerate() {
            for word in NEVER.iter().chain(["#![allow"].iter()).filter(|word| has_word(line, word)) {
                broken.push(format!("{}:{}: `{word}`", source.path.display(), number + 1));
            }
        }
    }
    assert_none("unfinished or silenced code", &broken);
}

#[test]
fn shipped_code_does_not_unwrap() {
    let mut broken = Vec::new();
    for source in sources() {
        for (number, line) in source.shipped().lines().enumerate() {
            if line.contains(".unwrap()") || line.contains(".unwrap_err()") {
                broken.push(format!("{}:{}: {}", source.path.display(), number + 1, line.trim()));
            }
        }
    }
    assert_none("unwrap outside tests: return the error, or `expect` with the invariant's name", &broken);
}

#[test]
fn no_test_is_skipped() {
    let mut broken = Vec::new();
    for path in rust_files(Path::new("tests")).into_iter().chain(rust_files(Path::new("src"))) {
        let text = read(&path);
        // Spelled in two parts so that this file does not find itself.
        let word = ["#[", "ignore"].concat();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.contains(&word)) {
            broken.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
        }
    }
    assert_none("tests that would be skipped in silence", &broken);
}

#[test]
fn the_reader_sees_every_form_of_import() {
    let seen = |text: &str, depth| imports(text, depth).into_iter().collect::<Vec<_>>();
    assert_eq!(seen("use crate::model::Time;", 2), ["model"]);
    assert_eq!(seen("use crate::{model::{Time, NodeId}, sys, wire::seal};", 2), ["model", "sys", "wire"]);
    assert_eq!(seen("let x = crate::daemon::run();", 2), ["daemon"]);
    assert_eq!(seen("use drcm::cli;", 0), ["cli"]);
    assert_eq!(seen("use super::sys;", 1), ["sys"]);
    assert_eq!(seen("use super::sibling; use super::super::sys::clock;", 2), ["sys"]);
    assert_eq!(seen("use super::{\n    model::Time,\n    wire,\n};", 1), ["model", "wire"]);
    assert_eq!(seen("use mycrate::model; let subcrate::y;", 1), Vec::<String>::new());
}

#[test]
fn every_mutant_still_fits_the_core() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutants");
    let mut broken = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let text = read(&path);
        let said = text.lines().next().is_some_and(|line| !line.is_empty() && !line.starts_with("---"));
        let target = text.lines().find_map(|line| line.strip_prefix("+++ b/")).unwrap_or_default();
        let source = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(target));
        // What a hunk expects to find, whole lines.
        let mut hunks: Vec<String> = Vec::new();
        for line in text.lines().skip_while(|line| !line.starts_with("@@")) {
            match (line.split_at_checked(1), hunks.last_mut()) {
                (Some(("@", _)), _) => hunks.push("\n".to_owned()),
                (Some((" " | "-", rest)), Some(hunk)) => *hunk += &format!("{rest}\n"),
                // Some tools leave the blank of an empty line out.
                (None, Some(hunk)) => *hunk += "\n",
                _ => {}
            }
        }
        if !said || hunks.is_empty() || hunks.iter().any(|hunk| !format!("\n{source}").contains(hunk)) {
            broken.push(path.display().to_string());
        }
        count += 1;
    }
    assert!(count >= 10, "{count} mutants");
    assert_none("mutants of an earlier core: make the same mistake in the present one", &broken);
}

#[test]
fn the_first_cluster_of_the_readme_is_sound() {
    let readme = read(Path::new("README.md"));
    let block = readme.split("```ini\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let loaded = drcm::config::parse_cfg("README.md", block).unwrap_or_else(|report| panic!("{}", drcm::config::render(&report.findings)));
    let spoken: Vec<_> = loaded.findings.iter().filter(|finding| finding.severity != drcm::config::Severity::Info).cloned().collect();
    assert!(spoken.is_empty(), "{}", drcm::config::render(&spoken));
    assert_eq!(loaded.config.nodes.len(), 3);
    assert_eq!(loaded.config.groups[0].candidates.len(), 3);
}

/// Room to the rooms it may import, from the table in src/lib.rs.
fn law() -> BTreeMap<String, BTreeSet<String>> {
    let text = read(Path::new("src/lib.rs"));
    let rows: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `"))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            (cells[0].trim_end_matches('`').trim_end_matches(['`', ' ']).to_owned(), cells[2].to_owned())
        })
        .collect();
    assert!(rows.len() >= 9, "the table of rooms in src/lib.rs was not found");
    let rooms: BTreeSet<String> = rows.iter().map(|(room, _)| room.clone()).collect();
    rows.into_iter()
        .map(|(room, cell)| {
            let named: BTreeSet<String> = cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            let allowed = if cell.starts_with("all but") { rooms.difference(&named).cloned().collect() } else { named };
            (room, allowed)
        })
        .collect()
}

/// First path segments after the crate's root, however it is reached: `crate::`, `drcm::` or enough `super::`.
fn imports(code: &str, depth: usize) -> BTreeSet<String> {
    let mut roots = vec!["crate::".to_owned(), "drcm::".to_owned()];
    if depth > 0 {
        roots.push("super::".repeat(depth));
    }
    let mut found = BTreeSet::new();
    for root in roots {
        for (at, _) in code.match_indices(&root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':') {
                continue;
            }
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(list) => found.extend(first_segments(list)),
                None => found.extend(identifier(rest)),
            }
        }
    }
    found
}

/// The first segment of every entry of a braced import list, whose opening brace was taken off.
fn first_segments(list: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut segments = Vec::new();
    let mut entry = String::new();
    for letter in list.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => segments.extend(identifier(std::mem::take(&mut entry).trim())),
            _ if depth == 0 => entry.push(letter),
            _ => {}
        }
    }
    segments.extend(identifier(entry.trim()));
    segments
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!name.is_empty() && name != "super" && name != "self").then_some(name)
}

/// Whether a line holds a word that is not a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let within = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
        let open_ended = word.ends_with(|letter: char| !letter.is_alphanumeric());
        !within(before) && (open_ended || !within(after))
    })
}

fn sources() -> Vec<Source> {
    let found: Vec<Source> = rust_files(Path::new("src"))
        .into_iter()
        .map(|path| {
            let inner: Vec<String> =
                path.components().skip(1).map(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()).collect();
            let names_itself = inner.last().is_some_and(|last| last == "mod" || last == "lib");
            let room = match inner.as_slice() {
                [only] if only == "lib" => String::new(),
                [first, ..] if first == "bin" => String::new(),
                [first, ..] => first.clone(),
                [] => String::new(),
            };
            Source { text: read(&path), depth: inner.len() - usize::from(names_itself), room, path }
        })
        .collect();
    assert!(found.len() > 5, "the sources were not found");
    found
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(root.join(&next)).unwrap() {
            let entry = entry.unwrap();
            let path = next.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn assert_none(what: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{what}:\n  {}", broken.join("\n  "));
}
