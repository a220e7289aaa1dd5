//! cm.cfg to cm.toml and back: what is written stays written, in the order of the file, with its comments; nothing is added. The
//! result is read again and compared before it is given out, so that it always means the same.

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{Config, Kind, Resource, StockScript};

use super::{
    Loaded, cm_cfg, cm_toml,
    draft::{Draft, Entry, ResourceDraft, Value},
    finding::{Findings, Report},
    keys::{self, Format, Key},
    parse_cfg, parse_toml, server,
    source::{Source, Span},
};

/// Why a file cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// It is no configuration that could be used.
    #[error("{0}")]
    Unusable(Box<Report>),
    /// The other format has no words for some of it.
    #[error("{file} says what {} has no words for:\n  {}", format.file(), faults.join("\n  "))]
    NoWords {
        /// The file.
        file: String,
        /// The format that lacks them.
        format: Format,
        /// What it cannot say.
        faults: Vec<String>,
    },
    /// What came out does not mean the same.
    #[error("{file} cannot be converted without a change of its meaning: {what}; write that anew by hand")]
    Differs {
        /// The file.
        file: String,
        /// What would be different.
        what: String,
    },
}

/// Most faults that are told.
const TOLD: usize = 20;

/// The text of a configuration in another format (or in the same one, tidied up). `name` is what faults call it.
///
/// # Errors
/// [`ConvertError`]; never a result that means something else.
pub fn convert(name: &str, text: &str, from: Format, to: Format) -> Result<String, ConvertError> {
    let original = parsed(name, text, from).map_err(|report| ConvertError::Unusable(Box::new(report)))?;
    let source = Source::new(name, from, text);
    let mut findings = Findings::new(&source);
    let draft = match from {
        Format::Cfg => Some(cm_cfg::read(&source, &mut findings)),
        Format::Toml => cm_toml::read(&source, &mut findings),
    };
    let draft = draft.expect("what could be parsed can be read again");
    let defaults = server::read(&draft.server, &mut findings).options;
    let resources = original.config.resources.iter().map(|resource| ((resource.id.kind, resource.id.nickname.clone()), resource)).collect();
    let mut writer = Writer { to, text: String::new(), remarks: Remarks::of(&source, &draft), resources, faults: Vec::new(), defaults };
    writer.write(&draft);
    let Writer { text, mut faults, .. } = writer;
    if !faults.is_empty() {
        faults.truncate(TOLD);
        return Err(ConvertError::NoWords { file: name.to_owned(), format: to, faults });
    }
    let differs = |what: String| ConvertError::Differs { file: name.to_owned(), what };
    let again = parsed(name, &text, to).map_err(|report| differs(format!("read again it is not understood\n{report}")))?;
    match difference(&original.config, &again.config) {
        None => Ok(text),
        Some(what) => Err(differs(what)),
    }
}

fn parsed(name: &str, text: &str, format: Format) -> Result<Loaded, Report> {
    match format {
        Format::Cfg => parse_cfg(name, text),
        Format::Toml => parse_toml(name, text),
    }
}

/// The first thing that two configurations do not have in common. The order of resources of different kinds means nothing.
fn difference(one: &Arc<Config>, other: &Arc<Config>) -> Option<String> {
    let by_kind = |config: &Config| -> Vec<Resource> {
        let mut resources = config.resources.clone();
        resources.sort_by_key(|resource| resource.id.kind);
        resources
    };
    if one.server != other.server {
        return Some("the settings of the whole cluster".to_owned());
    }
    let (ours, theirs) = (by_kind(one), by_kind(other));
    if let Some((resource, _)) = ours.iter().zip(&theirs).find(|(one, other)| one != other) {
        return Some(format!("the resource {}", resource.id));
    }
    if let Some((node, _)) = one.nodes.iter().zip(&other.nodes).find(|(one, other)| one != other) {
        return Some(format!("the node {}", node.name));
    }
    if ours.len() != theirs.len() || one.nodes.len() != other.nodes.len() || one.groups != other.groups {
        return Some("the number of its nodes or resources".to_owned());
    }
    None
}

struct Writer<'a> {
    to: Format,
    text: String,
    remarks: Remarks,
    /// As understood.
    resources: BTreeMap<(Kind, String), &'a Resource>,
    /// What a resource has without options of its own.
    defaults: crate::model::Options,
    faults: Vec<String>,
}

impl Writer<'_> {
    fn write(&mut self, draft: &Draft) {
        if !draft.server.is_empty() {
            self.line(match self.to {
                Format::Cfg => "[CM_SERVER]",
                Format::Toml => "[server]",
            });
            self.entries(&draft.server, keys::SERVER);
        }
        let mut kinds: Vec<Kind> = Vec::new();
        for resource in &draft.resources {
            if !kinds.contains(&resource.kind) {
                kinds.push(resource.kind);
            }
        }
        for kind in kinds {
            if self.to == Format::Cfg {
                self.blank();
                self.line(&format!("[{}]", keys::section(kind)));
            }
            for resource in draft.resources.iter().filter(|resource| resource.kind == kind) {
                match self.to {
                    Format::Cfg => self.cfg_resource(resource),
                    Format::Toml => self.toml_resource(resource),
                }
            }
        }
        for node in &draft.nodes {
            self.blank();
            self.remarked(
                node.header,
                match self.to {
                    Format::Cfg => "[CM_NODE]",
                    Format::Toml => "[[node]]",
                },
            );
            self.entries(&node.entries, keys::NODE);
        }
        let rest = std::mem::take(&mut self.remarks.rest);
        if !rest.is_empty() {
            self.blank();
            rest.iter().for_each(|remark| self.line(remark));
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn blank(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// A line with the comments that stood before and behind what it is made of.
    fn remarked(&mut self, anchor: Span, line: &str) {
        let remark = self.remarks.take(anchor);
        remark.before.iter().for_each(|before| self.line(before));
        match remark.behind {
            Some(behind) => self.line(&format!("{line}  {behind}")),
            None => self.line(line),
        }
    }

    /// The keys of `[CM_SERVER]` or of a node; of a key that appears twice the last one counts.
    fn entries(&mut self, entries: &[Entry], known: &'static [Key]) {
        for (at, entry) in entries.iter().enumerate() {
            let Some(key) = keys::find(known, &entry.key.text) else {
                self.remarked(entry.key.span, &format!("# {} = {} (no such key: it was ignored)", entry.key.text, plain(&entry.value)));
                continue;
            };
            let again = entries[at + 1..].iter().any(|later| keys::find(known, &later.key.text) == Some(key));
            if again || plain(&entry.value).is_empty() && !key.is_list() {
                self.remarked(entry.key.span, &format!("# {} = {}", entry.key.text, plain(&entry.value)));
                continue;
            }
            let line = match self.to {
                Format::Cfg if key.is_list() => format!("{} = {}", key.name, escaped(&names(&entry.value).join(", "))),
                Format::Cfg => format!("{} = {}", key.name, escaped(&simple(key, &plain(&entry.value), "1", "0"))),
                Format::Toml if key.is_list() => {
                    let name = key.aliases.first().unwrap_or(&key.name);
                    format!("{name} = [{}]", names(&entry.value).iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "))
                }
                Format::Toml => format!("{} = {}", key.name, toml_value(&simple(key, &plain(&entry.value), "true", "false"))),
            };
            self.remarked(entry.key.span, &line);
        }
    }

    fn toml_resource(&mut self, resource: &ResourceDraft) {
        let nickname = &resource.nickname.text;
        self.blank();
        self.remarked(resource.nickname.span, &format!("[{}.{}]", keys::table(resource.kind), toml_key(nickname)));
        for (key, entry) in last_of(resource) {
            let value = plain(&entry.value);
            if value.is_empty() || key == "script" && is_superfluous(resource.kind, &value) {
                continue;
            }
            let line = format!("{key} = {}", toml_value(&value));
            if entry.key.span == resource.nickname.span { self.line(&line) } else { self.remarked(entry.key.span, &line) }
        }
    }

    fn cfg_resource(&mut self, resource: &ResourceDraft) {
        let (kind, nickname) = (resource.kind, resource.nickname.text.clone());
        let mut values: BTreeMap<&str, String> = last_of(resource).map(|(key, entry)| (key, plain(&entry.value))).collect();
        let what = format!("{} {nickname}", keys::noun(kind));
        if let (Kind::Address, Some((ip, prefix))) =
            (kind, values.get("ip").and_then(|ip| ip.split_once('/')).map(|(ip, prefix)| (ip.trim().to_owned(), prefix.trim().to_owned())))
        {
            values.insert("ip", ip);
            values.entry("netmask").or_insert(prefix);
        }
        if let Some(known) = self.resources.get(&(kind, nickname.clone())) {
            if let Some(options) = &known.options.mount_options {
                // The value may hold a password.
                self.faults.push(format!("{what}: mount_options ({} of them)", options.split(',').count()));
            }
            let plain = crate::model::Options { mount_options: None, ..known.options.clone() };
            if plain != self.defaults {
                self.faults.push(format!("{what}: options of its own (timeouts, restarts, order) that are not those of [CM_SERVER]"));
            }
        }
        let mut fields = vec![nickname];
        let positions = keys::resource(kind).iter().map(|key| key.name).filter(|name| *name != "mount_options");
        fields.extend(positions.map(|name| values.get(name).cloned().unwrap_or_default()));
        while fields.last().is_some_and(String::is_empty) {
            fields.pop();
        }
        for field in &fields {
            if field.contains([',', '\n']) {
                self.faults.push(format!("{what}: a comma or a line break in \"{}\": put the command into a script", field.escape_debug()));
            }
        }
        let line = fields.iter().map(|field| escaped(field)).collect::<Vec<_>>().join(", ");
        // What was said of its single keys stands before it.
        let inner: Vec<Span> = resource.fields.iter().flatten().map(|entry| entry.key.span).collect();
        for span in inner.into_iter().filter(|span| *span != resource.nickname.span) {
            let remark = self.remarks.take(span);
            let own = self.remarks.found.entry(resource.nickname.span).or_default();
            own.before.extend(remark.before);
            own.before.extend(remark.behind);
        }
        self.remarked(resource.nickname.span, &line);
    }
}

/// The entries of a resource by canonical key; of a key that appears twice the last one counts.
fn last_of(resource: &ResourceDraft) -> impl Iterator<Item = (&'static str, &Entry)> {
    let fields = resource.fields.as_deref().unwrap_or_default();
    let key = |entry: &Entry| {
        let known = [keys::resource(resource.kind), keys::OPTIONS];
        known.into_iter().find_map(|keys| keys::find(keys, &entry.key.text)).map(|key| key.name)
    };
    fields.iter().enumerate().filter_map(move |(at, entry)| {
        let name = key(entry)?;
        let again = fields[at + 1..].iter().any(|later| key(later) == Some(name));
        (!again).then_some((name, entry))
    })
}

/// The script that is run for this kind anyway.
fn is_superfluous(kind: Kind, script: &str) -> bool {
    kind != Kind::FileSystem && StockScript::of(kind, None).is_some_and(|stock| stock.path().as_os_str() == script)
}

fn plain(value: &Value) -> String {
    match value {
        Value::One(text) => text.text.clone(),
        Value::Many(list, _) => list.iter().map(|text| text.text.as_str()).collect::<Vec<_>>().join(", "),
    }
}

fn names(value: &Value) -> Vec<String> {
    match value {
        Value::Many(list, _) => list.iter().map(|text| text.text.clone()).collect(),
        Value::One(text) => text.text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect(),
    }
}

/// A yes or no in the words of the format, and a number without the stray `;` of old files.
fn simple(key: &Key, value: &str, yes: &str, no: &str) -> String {
    let bare = value.trim_matches('"').trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    if key.takes == keys::Takes::Flag {
        match bare.to_ascii_lowercase().as_str() {
            "1" | "true" | "t" | "yes" | "y" => return yes.to_owned(),
            "0" | "false" | "f" | "no" | "n" => return no.to_owned(),
            _ => {}
        }
    }
    if is_number(bare) { bare.to_owned() } else { value.to_owned() }
}

/// A number that TOML writes, and reads back, in the same letters.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = |text: &str| digits(text) && (text == "0" || !text.starts_with('0'));
    match text.split_once('.') {
        Some((front, back)) => whole(front) && digits(back),
        None => whole(text),
    }
}

fn toml_value(text: &str) -> String {
    if is_number(text) || text.strip_prefix('-').is_some_and(|rest| is_number(rest) && rest != "0") || text == "true" || text == "false" {
        text.to_owned()
    } else if text.contains('\n') && !text.contains("'''") {
        format!("'''\n{text}'''")
    } else {
        quoted(text)
    }
}

pub(super) fn toml_key(text: &str) -> String {
    let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if bare { text.to_owned() } else { quoted(text) }
}

/// A basic string, or a literal one where that spares escapes.
pub(super) fn quoted(text: &str) -> String {
    if text.contains(['"', '\\']) && !text.contains('\'') && !text.chars().any(char::is_control) {
        return format!("'{text}'");
    }
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// `\#` for a literal `#`.
fn escaped(value: &str) -> String {
    value.replace('#', "\\#")
}

/// The comments of a file, by what they belong to.
#[derive(Default)]
struct Remarks {
    found: BTreeMap<Span, Remark>,
    /// At the end of the file.
    rest: Vec<String>,
}

#[derive(Default)]
struct Remark {
    before: Vec<String>,
    behind: Option<String>,
}

impl Remarks {
    fn of(source: &Source, draft: &Draft) -> Self {
        let mut anchors: Vec<(Span, Span)> = Vec::new();
        let whole = |entry: &Entry| match &entry.value {
            Value::One(text) => text.span,
            Value::Many(_, span) => *span,
        };
        for entry in draft.server.iter().chain(draft.nodes.iter().flat_map(|node| &node.entries)) {
            anchors.push((entry.key.span, whole(entry)));
        }
        for resource in &draft.resources {
            let end = match source.format() {
                // All of it is one line.
                Format::Cfg => resource.fields.iter().flatten().map(whole).max().unwrap_or(resource.nickname.span),
                Format::Toml => resource.nickname.span,
            };
            anchors.push((resource.nickname.span, end));
            if source.format() == Format::Toml {
                anchors.extend(resource.fields.iter().flatten().map(|entry| (entry.key.span, whole(entry))));
            }
        }
        // In TOML a table's span may be that of its first bracket or of all of it: its own line is what counts.
        anchors.extend(draft.nodes.iter().map(|node| (node.header, Span { start: node.header.start, end: node.header.start })));
        anchors.sort();
        Self::collect(source, &anchors)
    }

    fn collect(source: &Source, anchors: &[(Span, Span)]) -> Self {
        let mut remarks = Self::default();
        let mut pending: Vec<String> = Vec::new();
        let mut next = anchors.iter().peekable();
        // The end of the value that the last anchor has, which may go over several lines.
        let mut inside = 0;
        for (start, line) in source.lines() {
            let end = start + line.len();
            let mut anchor = None;
            while let Some((span, value)) = next.next_if(|(span, _)| span.start <= end) {
                anchor = Some(*span);
                inside = inside.max(value.end);
                remarks.found.entry(*span).or_default().before.append(&mut pending);
            }
            let comment = comment(source.format(), line, inside.saturating_sub(start).min(line.len()));
            match (anchor, comment) {
                (_, None) => {}
                (Some(span), Some(comment)) => {
                    let remark = remarks.found.entry(span).or_default();
                    match remark.behind {
                        None => remark.behind = Some(comment),
                        Some(_) => remark.before.push(comment),
                    }
                }
                (None, Some(_)) if start < inside && end <= inside => {}
                (None, Some(comment)) => pending.push(comment),
            }
        }
        remarks.rest = pending;
        remarks
    }

    fn take(&mut self, anchor: Span) -> Remark {
        self.found.remove(&anchor).unwrap_or_default()
    }
}

/// The comment of a line, behind its first `after` bytes.
fn comment(format: Format, line: &str, after: usize) -> Option<String> {
    let bytes = line.as_bytes();
    let at = match format {
        Format::Cfg => (0..bytes.len()).find(|&at| bytes[at] == b'#' && (at == 0 || bytes[at - 1] != b'\\')),
        Format::Toml => {
            let rest = line.get(line.ceil_char_boundary(after)..).unwrap_or_default();
            let at = line.len() - rest.len() + rest.find('#')?;
            // Nothing but the end of a value or a header may stand between.
            let header = line.trim_start().starts_with('[') && after == 0;
            let between =
                line[line.ceil_char_boundary(after).min(at)..at].chars().all(|c| matches!(c, '"' | '\'' | ']' | '}' | ',' | ' ' | '\t'));
            (header || between).then_some(at)
        }
    };
    at.map(|at| line[at..].trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str, from: Format, to: Format) -> String {
        convert("t", text, from, to).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    const CFG: &str = "# The cluster of the shop.\n\n[CM_SERVER] # for all\nudpport = 4000 # open it\ndead_node_count = 60;\nenable_logging = yes\n\
        cluster_umask = 027\nudport = 5\n\n[CM_APPLICATIONS]\n# restarts itself\nldm, ldm:users, echo \"\\#1\"; ldmadmin start, ldmadmin stop # old\n\
        [CM_IPADDRS]\nfront desk, 10.0.0.100, 255.255.255.0, eth0:1, /etc/drcm/resources/ipv4addr.sh\n\
        [CM_NODE] # first\nnodename = a\nhostname = a.example.com\nkeep_alive_ip = 10.0.0.1\nnode_floating_ip_addrs = front desk\n\
        node_applications = ldm\nvoter = 1\n# the other\n[CM_NODE]\nnodename = b\nhostname = b.example.com\nkeep_alive_ip = 10.0.0.2\n\
        node_backup_floating_ip_addrs = a:front desk,\n# The end.\n";

    #[test]
    fn what_is_written_stays_written_with_its_comments() {
        let toml = both(CFG, Format::Cfg, Format::Toml);
        let wanted = "[server]\n# The cluster of the shop.\n# for all\nudpport = 4000  # open it\ndead_node_count = 60\nenable_logging = true\n\
            cluster_umask = \"027\"\n# udport = 5 (no such key: it was ignored)\n\n# restarts itself\n[applications.ldm]  # old\nrun_as = \"ldm:users\"\n\
            start = 'echo \"#1\"; ldmadmin start'\nstop = \"ldmadmin stop\"\n\n[addresses.\"front desk\"]\nip = \"10.0.0.100\"\n\
            netmask = \"255.255.255.0\"\ninterface = \"eth0:1\"\n\n[[node]]  # first\nnodename = \"a\"\nhostname = \"a.example.com\"\n\
            keep_alive_ip = \"10.0.0.1\"\naddresses = [\"front desk\"]\napplications = [\"ldm\"]\nvoter = true\n\n# the other\n[[node]]\n\
            nodename = \"b\"\nhostname = \"b.example.com\"\nkeep_alive_ip = \"10.0.0.2\"\nbackup_addresses = [\"a:front desk\"]\n\n# The end.\n";
        assert_eq!(toml, wanted);
        let cfg = both(&toml, Format::Toml, Format::Cfg);
        for line in [
            "udpport = 4000  # open it\n",
            "# restarts itself\n",
            "front desk, 10.0.0.100, 255.255.255.0, eth0:1\n",
            "# The end.\n",
            "enable_logging = 1\n",
        ] {
            assert!(cfg.contains(line), "{line}{cfg}");
        }
        assert_eq!(both(&cfg, Format::Cfg, Format::Toml).lines().filter(|line| line.starts_with('#')).count(), 6, "{cfg}");
    }

    #[test]
    fn what_the_other_format_has_no_words_for_is_named() {
        let node = "[[node]]\nnodename = \"a\"\nhostname = \"a\"\nkeep_alive_ip = \"10.0.0.1\"\n";
        let text = format!(
            "{node}[applications.feed]\nrun_as = \"a:b\"\nstart = '''\nif x; then # y, z\n  w\nfi'''\nstop = \"s\"\norder = 3\n\
             [filesystems.data]\nsource = \"10.0.0.9:/d\"\ntarget = \"/d\"\nmount_options = \"ro\"\n"
        );
        let error = convert("t", &text, Format::Toml, Format::Cfg).unwrap_err().to_string();
        for word in [
            "t says what cm.cfg has no words for:",
            "application feed: a comma or a line break in \"if x",
            "application feed: options of its own",
            "file system data: mount_options (1 of them)",
        ] {
            assert!(error.contains(word), "{error}");
        }
        let tidy = both(&text, Format::Toml, Format::Toml);
        assert!(tidy.contains("start = '''\nif x; then # y, z\n  w\nfi'''\n"), "{tidy}");
        let unusable = convert("t", "[CM_SERVER]\nudpport = x\n", Format::Cfg, Format::Toml).unwrap_err().to_string();
        assert!(unusable.contains("ERROR: t:2:11"), "{unusable}");
    }
}
