//! `--check-config`: a configuration, the auth files, and whether this host has what it needs for its part.

use std::{
    collections::HashSet,
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::{net::if_::if_nametoindex, unistd::gethostname};

use crate::model::{Config, Driver, NodeConfig, NodeId, Resource, ResourceId, Spec};

use super::{
    advice::advice,
    alerts,
    auth::{AuthFault, auth_faults},
    finding::{Finding, Severity, render},
    interfaces, keys, load, mounts, status_page,
    template::write_template,
};

/// What `--check-config` prints, and its exit code.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// The file.
    pub path: PathBuf,
    /// Everything found: first the file's findings, then those about the auth files, the host, the cluster, the resources.
    pub findings: Vec<Finding>,
    /// What the file describes, when it can be used.
    content: Option<String>,
}

impl CheckReport {
    /// 0 good, 1 errors, 2 warnings only (also when a template was written).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.findings.iter().map(|finding| finding.severity).min() {
            Some(Severity::Error) => 1,
            Some(Severity::Warning) => 2,
            Some(Severity::Info) | None => 0,
        }
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.findings.is_empty() {
            writeln!(f, "{}", render(&self.findings))?;
        }
        let path = self.path.display();
        let (errors, warnings) = (plural(self.count(Severity::Error), "error"), plural(self.count(Severity::Warning), "warning"));
        let content = self.content.as_ref().map(|content| format!(" ({content})")).unwrap_or_default();
        match self.exit_code() {
            1 => write!(f, "ERROR: {path}: {errors}, {warnings}{content}"),
            2 => write!(f, "WARNING: {path}: {warnings}{content}"),
            _ => write!(f, "INFO: {path} is good{content}"),
        }
    }
}

/// Checks a configuration file and this host against it. A missing file is created from the template.
/// `nodename` stands for `uname -n`, as `--nodename` does for the daemon.
#[must_use]
pub fn check(path: &Path, nodename: Option<&str>) -> CheckReport {
    let mut report = CheckReport { path: path.to_path_buf(), findings: Vec::new(), content: None };
    if is_missing(path) {
        report.findings.push(template(path));
        return report;
    }
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(faults) => {
            report.findings = faults.findings;
            return report;
        }
    };
    let config = &loaded.config;
    report.content = Some(format!(
        "{}, {}, {} in {}, fingerprint {}",
        plural(config.nodes.len(), "node"),
        plural(config.voters().count(), "voter"),
        plural(config.resources.len(), "resource"),
        plural(config.groups.len(), "group"),
        config.fingerprint
    ));
    report.findings = loaded.findings;
    report.findings.extend(file_mode(path));
    report.findings.extend(auth(config));
    report.findings.extend(accounts_and_shell(config));
    report.findings.extend(alerts::check(config));
    report.findings.extend(status_page::check(config));
    match this_node(config, nodename) {
        Ok(node) => host(config, node, &mut report.findings),
        Err(finding) => report.findings.push(*finding),
    }
    report.findings.extend(advice(config));
    report
}

/// The node that this host is: the one whose hostname is `uname -n`, or the one with this nodename or hostname.
///
/// # Errors
/// A finding that says which name was looked for and what the file has instead.
pub fn this_node<'c>(config: &'c Config, nodename: Option<&str>) -> Result<&'c NodeConfig, Box<Finding>> {
    let hostnames = || config.nodes.iter().map(|node| node.hostname.as_str());
    if let Some(wanted) = nodename {
        let found = config.nodes.iter().find(|node| node.name == wanted);
        return found.or_else(|| config.nodes.iter().find(|node| node.hostname.eq_ignore_ascii_case(wanted))).ok_or_else(|| {
            let nearest = keys::nearest(wanted, config.nodes.iter().map(|node| node.name.as_str()).chain(hostnames()));
            let message = format!("no node has the nodename or hostname `{wanted}`{}", keys::did_you_mean(nearest));
            Box::new(Finding::new(Severity::Error, message).help(format!("correct --nodename: {}", listed(config))))
        });
    }
    let hostname = gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    config.nodes.iter().find(|node| node.hostname.eq_ignore_ascii_case(&hostname)).ok_or_else(|| {
        // A host that knows only its short name, or the other way round, is the usual case.
        let short = |name: &str| name.split('.').next().unwrap_or_default().to_lowercase();
        let nearest = hostnames().find(|name| short(name) == short(&hostname)).or_else(|| keys::nearest(&hostname, hostnames()));
        let message = format!("no node has the hostname `{hostname}`, which `uname -n` says here{}", keys::did_you_mean(nearest));
        Box::new(Finding::new(Severity::Warning, message).help(
            "drcm_server does not start on this host: write what `uname -n` says as hostname of its node, or use --nodename=NODENAME; what this host needs was not checked",
        ))
    })
}

/// The nodes of the file, for who has to choose one.
fn listed(config: &Config) -> String {
    /// More names than this are not worth a line.
    const LISTED: usize = 12;
    let names: Vec<&str> = config.nodes.iter().map(|node| node.name.as_str()).take(LISTED).collect();
    match config.nodes.len().saturating_sub(LISTED) {
        0 => format!("the nodes are {}", names.join(", ")),
        more => format!("the nodes are {} and {more} more", names.join(", ")),
    }
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn is_missing(path: &Path) -> bool {
    // A dangling symbolic link is not missing: a template cannot be written through it.
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn template(path: &Path) -> Finding {
    let shown = path.display();
    match write_template(path) {
        Ok(()) => Finding::new(Severity::Warning, format!("{shown} did not exist: a template was written there"))
            .help("set nodes and resources in it, then run --check-config again"),
        Err(error) => {
            let finding = Finding::new(Severity::Error, format!("{shown} does not exist, and a template cannot be written there: {error}"));
            match (error.kind(), path.parent()) {
                (io::ErrorKind::NotFound, Some(parent)) => finding.help(format!("mkdir -p {}", parent.display())),
                (io::ErrorKind::PermissionDenied, _) => finding.help("run this as root"),
                _ => finding,
            }
        }
    }
}

/// The file decides which commands run as root.
fn file_mode(path: &Path) -> Option<Finding> {
    let mode = fs::metadata(path).ok()?.mode();
    (mode & 0o022 != 0).then(|| {
        let message = format!("{} has mode {:04o}: whoever may write it has the rights of the daemon", path.display(), mode & 0o7777);
        Finding::new(Severity::Warning, message).help(format!("chmod 644 {}", path.display()))
    })
}

fn auth(config: &Config) -> Vec<Finding> {
    // Who reads them.
    let own = users::get_user_by_name(&config.server.cluster_user).map(|user| user.uid());
    let is_root = users::get_effective_uid() == 0 || Some(users::get_effective_uid()) == own;
    let judge = |fault: AuthFault| match &fault {
        AuthFault::Unreadable { path, source } if source.kind() == io::ErrorKind::PermissionDenied && !is_root => {
            Finding::new(Severity::Warning, format!("{} could not be checked by this user", path.display())).help("run this as root")
        }
        _ => Finding::new(Severity::Error, format!("auth: {fault}")),
    };
    auth_faults(&config.server.auth_dir, &config.server.cluster_user).into_iter().map(judge).collect()
}

fn accounts_and_shell(config: &Config) -> Vec<Finding> {
    let server = &config.server;
    let mut findings = Vec::new();
    if users::get_user_by_name(&server.cluster_user).is_none() {
        findings.push(Finding::new(Severity::Error, format!("cluster_user: this host has no user `{}`", server.cluster_user)));
    }
    if users::get_group_by_name(&server.cluster_group).is_none() {
        findings.push(Finding::new(Severity::Error, format!("cluster_group: this host has no group `{}`", server.cluster_group)));
    }
    if let Some(fault) = executable_fault(&server.bash_shell) {
        findings.push(Finding::new(Severity::Error, format!("bash_shell: {} {fault}", server.bash_shell.display())));
    }
    if let Some(file) = server.bash_rc_file.as_ref().filter(|file| !file.is_file()) {
        findings.push(Finding::new(Severity::Warning, format!("bash_rc_file: {} is no file", file.display())));
    }
    findings
}

/// What this host lacks for the resources that may come to run on it. Mount points are not looked at: one whose server is
/// dead would not answer.
fn host(config: &Config, node: &NodeConfig, findings: &mut Vec<Finding>) {
    findings.push(Finding::new(
        Severity::Info,
        format!("this host is node {} ({}, {}, {})", node.name, node.hostname, node.keep_alive_ip, role(node)),
    ));
    let here = candidates(config, node.id);
    let mut seen_scripts = HashSet::new();
    let mut seen_devices = HashSet::new();
    for resource in config.resources.iter().filter(|resource| here.contains(&resource.id)) {
        let what = format!("{} {}", keys::noun(resource.id.kind), resource.id.nickname);
        if let Driver::Script(path) = &resource.driver
            && seen_scripts.insert(path)
        {
            script(path, &what, findings);
        }
        if let (Driver::Script(path), Some(_)) = (&resource.driver, &resource.options.mount_options) {
            let message = format!("{what}: {} is given its mount_options as DRCM_MOUNT_OPTIONS", path.display());
            findings.push(Finding::new(Severity::Info, message).help("the stock scripts use them; a script of your own has to"));
        }
        if let Spec::FileSystem(file_system) = &resource.spec {
            mounts::check(resource, file_system, &config.server.auth_dir, &what, findings);
        }
        spec(resource, &what, &mut seen_devices, findings);
    }
}

fn role(node: &NodeConfig) -> &'static str {
    match (node.active, node.voter) {
        (true, true) => "active, votes",
        (true, false) => "active, does not vote",
        (false, true) => "inactive, votes",
        (false, false) => "inactive, does not vote",
    }
}

fn candidates(config: &Config, node: NodeId) -> HashSet<&ResourceId> {
    let groups = config.groups.iter().filter(|group| group.candidates.contains(&node));
    groups.flat_map(|group| group.assignments.iter().map(|member| &member.resource)).collect()
}

fn spec<'c>(resource: &'c Resource, what: &str, seen_devices: &mut HashSet<&'c str>, findings: &mut Vec<Finding>) {
    match &resource.spec {
        Spec::Address(address) => {
            let device = address.interface.device.as_str();
            if !seen_devices.insert(device) {
                return;
            }
            match if_nametoindex(device) {
                Ok(index) => interfaces::check(device, index, what, findings),
                Err(_) => findings.push(
                    Finding::new(Severity::Warning, format!("{what}: this host has no interface `{device}`"))
                        .help("`ip link` lists the interfaces; all nodes use the name in the file"),
                ),
            }
        }
        Spec::Crontab(crontab) => {
            let template = crontab.template.display();
            match fs::metadata(&crontab.template) {
                Ok(metadata) if metadata.is_file() => {}
                Ok(_) => findings.push(Finding::new(Severity::Error, format!("{what}: the template {template} is no file"))),
                Err(error) => findings.push(Finding::new(Severity::Error, format!("{what}: the template {template} is missing: {error}"))),
            }
            if !crontab.install_dir.is_dir() {
                let directory = crontab.install_dir.display();
                findings.push(Finding::new(Severity::Error, format!("{what}: {directory}, where it is to be installed, is no directory")));
            }
            let name = crontab.template.file_name().unwrap_or_default().to_string_lossy();
            if crontab.install_dir == Path::new("/etc/cron.d") && !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
                findings.push(
                    Finding::new(Severity::Warning, format!("{what}: many crons pass over a file of the name `{name}` in /etc/cron.d"))
                        .help("use letters, digits, `-` and `_` only"),
                );
            }
        }
        Spec::Application(application) => {
            if users::get_user_by_name(&application.user).is_none() {
                findings.push(Finding::new(Severity::Error, format!("{what}: this host has no user `{}`", application.user)));
            }
            if users::get_group_by_name(&application.group).is_none() {
                findings.push(Finding::new(Severity::Error, format!("{what}: this host has no group `{}`", application.group)));
            }
        }
        Spec::Service(_) | Spec::FileSystem(_) => {}
    }
}

fn script(path: &Path, what: &str, findings: &mut Vec<Finding>) {
    let shown = path.display();
    if let Some(fault) = executable_fault(path) {
        findings.push(Finding::new(Severity::Error, format!("{what}: the script {shown} {fault}")));
    } else if let Ok(metadata) = fs::metadata(path)
        && metadata.mode() & 0o022 != 0
    {
        let mode = metadata.mode() & 0o7777;
        let message = format!("{what}: the script {shown} has mode {mode:04o}: whoever may write it has the rights of the daemon");
        findings.push(Finding::new(Severity::Warning, message).help(format!("chmod 755 {shown}")));
    }
}

/// What keeps a file from being run, as the end of a sentence.
pub(super) fn executable_fault(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => Some("is no file".into()),
        Ok(metadata) if metadata.mode() & 0o111 == 0 => Some(format!("is not executable; chmod 755 {}", path.display())),
        Ok(_) => None,
        Err(error) => Some(format!("is missing: {error}")),
    }
}
