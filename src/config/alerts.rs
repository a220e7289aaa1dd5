//! The `[CM_SERVER]` keys about telling people: their values, and whether this host has what they name.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::model::{Alerts, Config, Relay, Severity, Webhook};

use super::{
    auth::secret,
    fields::Fields,
    finding::{self, Finding, Findings},
    source::Text,
    words::Word,
};

/// Longest time that a program may be given, in seconds.
const LONGEST_TIMEOUT: f64 = 3600.0;
/// Hours without a message after one: a year.
const LONGEST_SILENCE: u32 = 8760;
/// Where mail is taken without any more said.
const SMTP: u16 = 25;
/// Where an account without a domain is: on the machine of the mail server.
const HERE: &str = "localhost";
/// Programs that are looked at.
const LOOKED_AT: usize = 1000;

impl Word for Severity {
    const WORDS: &'static [(&'static str, Self)] = &[("info", Self::Info), ("warning", Self::Warning), ("critical", Self::Critical)];
}

/// What holds without any key.
pub(super) fn default() -> Alerts {
    Alerts {
        command: None,
        hooks_dir: PathBuf::from("/etc/drcm/hooks.d"),
        timeout: std::time::Duration::from_secs(30),
        severity: Severity::Warning,
        email: Vec::new(),
        text: Vec::new(),
        lists: None,
        from: None,
        hours: 4,
        smtp: Relay { host: HERE.to_owned(), port: SMTP },
        webhook: None,
    }
}

/// Reads the keys.
pub(super) fn read(fields: &Fields<'_>, findings: &mut Findings<'_>) -> Alerts {
    let default = default();
    Alerts {
        command: fields.path("alert_command", findings),
        hooks_dir: fields.path("hooks_dir", findings).unwrap_or(default.hooks_dir),
        timeout: fields.seconds("alert_timeout", 0.1..=LONGEST_TIMEOUT, default.timeout, findings),
        severity: fields.choice("alert_severity", default.severity, findings),
        email: addresses(fields, "alert_email", findings),
        text: addresses(fields, "alert_text", findings),
        lists: fields.path("alert_lists", findings),
        from: fields.unquoted("alert_from", findings).filter(|from| is_address(from, "alert_from", findings)).map(|from| from.text),
        hours: fields.number("alert_hours", 0..=LONGEST_SILENCE, default.hours, findings),
        smtp: relay(fields, findings).unwrap_or(default.smtp),
        webhook: webhook(fields, findings),
    }
}

/// A mail address, or the name of an account.
///
/// # Errors
/// What is wrong with it.
pub fn mail_address(text: &str) -> Result<lettre::Address, String> {
    let (user, domain) = text.rsplit_once('@').unwrap_or((text, HERE));
    lettre::Address::new(user, domain).map_err(|error| format!("`{text}` is no mail address: {error}"))
}

fn addresses(fields: &Fields<'_>, key: &'static str, findings: &mut Findings<'_>) -> Vec<String> {
    let mut addresses = fields.list(key);
    addresses.retain(|address| is_address(address, key, findings));
    addresses.into_iter().map(|address| address.text).collect()
}

fn is_address(text: &Text, key: &str, findings: &mut Findings<'_>) -> bool {
    match mail_address(&text.text) {
        Ok(_) => true,
        Err(fault) => {
            findings.error(text.span, format!("`{key}`: {fault}"), "write it like name@example.com, or the name of an account");
            false
        }
    }
}

/// `host`, `host:port`, `address`, `[address]:port`.
fn relay(fields: &Fields<'_>, findings: &mut Findings<'_>) -> Option<Relay> {
    let text = fields.unquoted("smtp_server", findings)?;
    let relay = parse_relay(&text.text);
    if relay.is_none() {
        let message = format!("`smtp_server` is `{}`, which is no server of mail", text.text);
        findings.error(text.span, message, "write it like mail.example.com:25, 192.168.1.10 or [2001:db8::10]:25");
    }
    relay
}

fn parse_relay(text: &str) -> Option<Relay> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Some(Relay { host: address.to_string(), port: SMTP });
    }
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return (address.port() > 0).then(|| Relay { host: address.ip().to_string(), port: address.port() });
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
        None => (text, SMTP),
    };
    let is_name =
        |part: &str| !part.is_empty() && part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_');
    (host.len() < 256 && host.trim_end_matches('.').split('.').all(is_name)).then(|| Relay { host: host.to_owned(), port })
}

fn webhook(fields: &Fields<'_>, findings: &mut Findings<'_>) -> Option<Webhook> {
    let authorities = fields.path("webhook_ca", findings);
    let Some(url) = fields.unquoted("webhook_url", findings) else {
        for key in ["webhook_token", "webhook_ca"] {
            if let (Some(span), Some(_)) = (fields.span(key), fields.unquoted(key, findings)) {
                findings.warning(span, format!("`{key}` has no effect without webhook_url"), "");
            }
        }
        return None;
    };
    if let Err(fault) = check_url(&url.text) {
        findings.error(url.span, format!("`webhook_url` {fault}"), "write it like https://alerts.example.com/drcm");
        return None;
    }
    let token = fields.secret("webhook_token", findings);
    if token.is_some() && url.text.starts_with("http:") {
        findings.warning(url.span, "the token of the webhook goes over the network in clear", "use an address that begins with https:");
    }
    Some(Webhook { url: url.text, token: token.map(|token| token.text), authorities })
}

fn check_url(text: &str) -> Result<(), String> {
    let fault = |why: &str| Err(format!("is `{text}`, {why}"));
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return fault("which begins with neither http:// nor https://");
    }
    match text.parse::<http::Uri>() {
        Err(error) => fault(&format!("which cannot be understood: {error}")),
        Ok(uri) if uri.host().is_none_or(str::is_empty) => fault("which names no host"),
        // It would be shown by printcfg, and would be logged.
        Ok(uri) if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => {
            Err("holds a name or password: use webhook_token".to_owned())
        }
        Ok(_) => Ok(()),
    }
}

/// What this host lacks for telling people. Warnings: a cluster that cannot call for help still helps itself.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    let server = &config.server;
    let alerts = &server.alerts;
    let mut findings = Vec::new();
    let mut say = |severity, message: String| findings.push(Finding::new(severity, message));
    if let Some(program) = &alerts.command
        && let Some(fault) = program_fault(program)
    {
        say(finding::Severity::Warning, format!("alert_command: {} {fault}", program.display()));
    }
    hooks(&alerts.hooks_dir, &mut say);
    if let Some(lists) = &alerts.lists {
        match fs::metadata(lists) {
            Ok(metadata) if !metadata.is_file() => say(finding::Severity::Warning, format!("alert_lists: {} is no file", lists.display())),
            Ok(metadata) if metadata.mode() & 0o002 != 0 => {
                say(finding::Severity::Warning, format!("alert_lists: everybody may write {0}; chmod o-w {0}", lists.display()));
            }
            Ok(_) => {}
            Err(error) => say(finding::Severity::Warning, format!("alert_lists: {} is missing: {error}", lists.display())),
        }
    }
    if let Some(webhook) = &alerts.webhook {
        let token = webhook.token.as_ref().map(|name| secret(&server.auth_dir.join(name), "webhook_token"));
        if let Some(Err(fault)) = token {
            say(finding::Severity::Warning, fault);
        }
        if let Some(path) = webhook.authorities.as_ref().filter(|path| !path.is_file()) {
            say(finding::Severity::Warning, format!("webhook_ca: {} is no file", path.display()));
        }
    }
    findings
}

fn hooks(directory: &Path, say: &mut impl FnMut(finding::Severity, String)) {
    let Ok(entries) = fs::read_dir(directory) else {
        // Most have none, and that is fine.
        if directory.exists() {
            say(finding::Severity::Warning, format!("hooks_dir: {} cannot be read, or is no directory", directory.display()));
        }
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().take(LOOKED_AT).map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    for path in paths {
        let shown = path.display();
        if !path.file_name().and_then(|name| name.to_str()).is_some_and(is_hook_name) {
            say(finding::Severity::Info, format!("hooks_dir: {shown} is not run: its name holds more than letters, digits, - and _"));
        } else if let Some(fault) = program_fault(&path) {
            say(finding::Severity::Warning, format!("hooks_dir: {shown} is not run: it {fault}"));
        }
    }
}

/// Whether a file of this name in `hooks_dir` is run: by the rules of run-parts.
#[must_use]
pub fn is_hook_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
}

/// What keeps a program from being run with the rights of the daemon, as the end of a sentence: it is no executable file, or somebody
/// besides root and the daemon's user could put something else in its place.
#[must_use]
pub fn program_fault(path: &Path) -> Option<String> {
    if let Some(fault) = super::check::executable_fault(path) {
        return Some(fault);
    }
    let ours = |uid: u32| uid == 0 || uid == users::get_effective_uid();
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    for file in [path, real.as_path()] {
        let metadata = fs::metadata(file).ok()?;
        if !ours(metadata.uid()) {
            return Some(format!("belongs to user {}; chown root {}", metadata.uid(), file.display()));
        }
        if metadata.mode() & 0o022 != 0 {
            return Some(format!("may be written by others; chmod go-w {}", file.display()));
        }
        let directory = file.parent().unwrap_or(Path::new("/"));
        let metadata = fs::metadata(directory).ok()?;
        // In a sticky directory, as /tmp, nobody may replace the files of others.
        if !ours(metadata.uid()) || (metadata.mode() & 0o022 != 0 && metadata.mode() & 0o1000 == 0) {
            return Some(format!("is in a directory that others may write; chown root {0} and chmod go-w {0}", directory.display()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, time::Duration};

    use super::*;
    use crate::config::{parse_cfg, parse_toml};

    const NODE: &str = "[CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\n";

    fn parsed(lines: &str) -> (Alerts, String) {
        match parse_cfg("t", &format!("[CM_SERVER]\n{lines}\n{NODE}")) {
            Ok(loaded) => (loaded.config.server.alerts.clone(), finding::render(&loaded.findings)),
            Err(report) => (default(), report.to_string()),
        }
    }

    #[test]
    fn every_key_in_both_formats() {
        let cfg = "alert_command = /usr/local/bin/page\nhooks_dir = /etc/hooks\nalert_timeout = 5\nalert_severity = critical\n\
                   alert_email = root, a@example.com\nalert_text = 555@example.com\nalert_lists = /etc/lists\nalert_from = b@example.com\n\
                   alert_hours = 0\nsmtp_server = mail.example.com:2525\nwebhook_url = https://example.com:8443/x?y=1\nwebhook_token = hook\n\
                   webhook_ca = /etc/ca.pem\n";
        let (alerts, said) = parsed(cfg);
        assert_eq!(said, "");
        assert_eq!((alerts.timeout, alerts.severity, alerts.hours), (Duration::from_secs(5), Severity::Critical, 0));
        assert_eq!(alerts.email, ["root", "a@example.com"]);
        assert_eq!(alerts.smtp, Relay { host: "mail.example.com".into(), port: 2525 });
        let webhook = alerts.webhook.clone().unwrap();
        assert_eq!((webhook.token.as_deref(), webhook.authorities.as_deref()), (Some("hook"), Some(Path::new("/etc/ca.pem"))));
        let toml: String = cfg
            .lines()
            .map(|line| {
                let (key, value) = line.split_once(" = ").unwrap();
                match key {
                    "alert_timeout" | "alert_hours" => format!("{line}\n"),
                    "alert_email" => "alert_email = [\"root\", \"a@example.com\"]\n".to_owned(),
                    _ => format!("{key} = \"{value}\"\n"),
                }
            })
            .collect();
        let text = format!("[server]\n{toml}[[node]]\nnodename = \"a\"\nhostname = \"a\"\nkeep_alive_ip = \"10.0.0.1\"\n");
        assert_eq!(parse_toml("t", &text).unwrap().config.server.alerts, alerts);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, wanted) in [
            ("alert_command = page", "not an absolute path"),
            ("alert_email = a b@example.com", "is no mail address"),
            ("alert_email = -x@", "is no mail address"),
            ("alert_severity = waring", "nearest: `warning`"),
            ("smtp_server = mail:0", "no server of mail"),
            ("smtp_server = smtp://mail", "no server of mail"),
            ("webhook_url = example.com/x", "begins with neither"),
            ("webhook_url = https:///x", "cannot be understood"),
            ("webhook_url = https://user:secret@example.com/", "use webhook_token"),
            ("webhook_url = https://example.com/\nwebhook_token = ../x", "no name of a file in auth_dir"),
            ("webhook_url = http://example.com/\nwebhook_token = x", "in clear"),
            ("webhook_token = x", "no effect without webhook_url"),
        ] {
            let said = parsed(line).1;
            assert!(said.contains(wanted), "{line}: {said}");
        }
        assert!(!parsed("webhook_url = https://user:secret@example.com/").1.lines().next().unwrap().contains("secret"));
        for (text, host, port) in
            [("10.0.0.9", "10.0.0.9", 25), ("[fd00::9]:26", "fd00::9", 26), ("fd00::9", "fd00::9", 25), ("mail.", "mail.", 25)]
        {
            assert_eq!(parse_relay(text), Some(Relay { host: host.into(), port }), "{text}");
        }
    }

    #[test]
    fn nodes_may_tell_different_people() {
        let print = |lines: &str| parse_cfg("t", &format!("[CM_SERVER]\n{lines}\n{NODE}")).unwrap().config.fingerprint;
        assert_eq!(print(""), print("alert_email = a@example.com\nwebhook_url = http://10.0.0.9/\nalert_hours = 1"));
    }

    #[test]
    fn a_program_that_others_may_change_is_refused() {
        let directory = std::env::temp_dir().join(format!("drcm-program-{}", std::process::id()));
        let program = directory.join("page");
        fs::create_dir_all(&directory).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&directory, 0o755);
        assert!(program_fault(&program).unwrap().contains("is missing"));
        fs::write(&program, "#!/bin/sh\n").unwrap();
        mode(&program, 0o644);
        assert!(program_fault(&program).unwrap().contains("chmod 755"));
        mode(&program, 0o755);
        assert_eq!(program_fault(&program), None);
        let link = std::env::temp_dir().join(format!("drcm-program-link-{}", std::process::id()));
        std::os::unix::fs::symlink(&program, &link).unwrap();
        assert_eq!(program_fault(&link), None, "/tmp is sticky");
        mode(&program, 0o775);
        assert!(program_fault(&program).unwrap().contains("chmod go-w"));
        mode(&program, 0o755);
        mode(&directory, 0o777);
        assert!(program_fault(&program).unwrap().contains("directory that others may write"));
        assert!(program_fault(&link).is_some());
        fs::remove_file(link).unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
}
