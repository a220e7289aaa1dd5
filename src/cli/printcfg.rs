//! The configuration as it is understood, in the format of cm.cfg: read back it means the same. What was resolved, and what
//! only TOML can say, stands in comments. Passwords in mount options are left out.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::output::printable;
use crate::{
    config::Word as _,
    model::{
        Alerts, Assignment, Config, Driver, Group, Kind, NodeConfig, Options, Quorum, Relay, Resource, ResourceId, Server, Spec,
        StockScript,
    },
};

/// The text of a configuration that was read from `file`.
#[must_use]
pub fn render(config: &Config, file: &Path) -> String {
    let mut page = Page::default();
    page.comment(&format!("the configuration of {}, as understood", file.display()));
    page.comment(&format!("fingerprint {} (the same on nodes that agree)", config.fingerprint));
    let common = Common::of(config);
    server(&mut page, config, &common);
    for kind in [Kind::Crontab, Kind::Address, Kind::Service, Kind::Application, Kind::FileSystem] {
        resources(&mut page, config, kind, &common);
    }
    for node in &config.nodes {
        self::node(&mut page, config, node);
    }
    groups(&mut page, config);
    page.text
}

/// The same by section, without comments: for comparing two configurations line by line.
#[must_use]
pub fn sections(config: &Config) -> Vec<(String, Vec<String>)> {
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    for line in render(config, Path::new("")).lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((name.to_owned(), Vec::new()));
            continue;
        }
        let Some((name, lines)) = sections.last_mut() else { continue };
        if let Some(node) = line.strip_prefix("nodename = ") {
            *name = format!("node {node}");
        } else if let (Some(note), Some(resource)) = (line.strip_prefix("#   in cm.toml only: "), lines.last_mut()) {
            resource.push_str(&format!(" ({note})"));
        } else if let Some(resource) = line.strip_prefix("# cm.toml only, a field holds a comma or a line break: ") {
            lines.push(resource.to_owned());
        } else if !line.is_empty() && !line.starts_with('#') {
            lines.push(line.split("  # ").next().unwrap_or(line).to_owned());
        }
    }
    sections
}

/// Lines in the making.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn comment(&mut self, comment: &str) {
        self.line(&format!("# {}", printable(comment)));
    }

    fn section(&mut self, name: &str) {
        self.line(&format!("\n[{name}]"));
    }

    fn key(&mut self, key: &str, value: &str) {
        self.line(&format!("{key} = {}", escaped(value)));
    }

    fn noted(&mut self, key: &str, value: &str, note: &str) {
        self.line(&format!("{key} = {}  # {note}", escaped(value)));
    }

    fn flag(&mut self, key: &str, value: bool) {
        self.key(key, flag(value));
    }

    fn path(&mut self, key: &str, value: &Path) {
        self.key(key, &value.to_string_lossy());
    }
}

/// The options that all resources share can be said in `[CM_SERVER]`; others are for TOML.
struct Common {
    start_timeout: Option<Duration>,
    check_timeout: Option<Duration>,
    restart_limit: Option<u32>,
    restart_window: Option<Duration>,
}

impl Common {
    fn of(config: &Config) -> Self {
        fn shared<T: PartialEq + Copy>(config: &Config, value: impl Fn(&Options) -> T) -> Option<T> {
            let first = value(&config.resources.first()?.options);
            config.resources.iter().all(|resource| value(&resource.options) == first).then_some(first)
        }
        Self {
            start_timeout: shared(config, |options| options.start_timeout),
            check_timeout: shared(config, |options| options.check_timeout),
            restart_limit: shared(config, |options| options.restart_limit),
            restart_window: shared(config, |options| options.restart_window),
        }
    }
}

fn server(page: &mut Page, config: &Config, common: &Common) {
    let Server { log, .. } = &config.server;
    let server = &config.server;
    page.section("CM_SERVER");
    page.key("udpport", &server.udpport.to_string());
    page.key("tcpport", &server.tcpport.to_string());
    page.noted("keep_alive_interval", &server.keep_alive_interval.as_millis().to_string(), "milliseconds");
    let lease = format!("a node silent for {} s is dead", seconds(config.lease()));
    page.noted("dead_node_count", &server.dead_node_count.to_string(), &lease);
    page.flag("bind_to_keep_alive_ip", server.bind_to_keep_alive_ip);
    page.flag("apply", server.apply);
    let voters = config.voters().count();
    page.noted(
        "quorum",
        server.quorum.word(),
        &format!("{voters} of {} nodes vote: {}", config.nodes.len(), regime(server.quorum, voters)),
    );
    page.key("no_quorum", server.no_quorum.word());
    page.key("failback", server.failback.word());
    page.noted("failback_delay", &seconds(server.failback_delay), "seconds");
    page.key("takeover", server.takeover.word());
    page.noted("stop_timeout", &seconds(server.stop_timeout), "seconds");
    let timeouts =
        [("start_timeout", common.start_timeout), ("check_timeout", common.check_timeout), ("restart_window", common.restart_window)];
    for (key, value) in timeouts {
        if let Some(value) = value {
            page.noted(key, &seconds(value), "seconds");
        }
    }
    if let Some(limit) = common.restart_limit {
        page.key("restart_limit", &limit.to_string());
    }
    match server.gateway {
        Some(gateway) => page.key("gateway", &gateway.to_string()),
        None => page.comment("gateway is not set"),
    }
    page.key("resource_driver", if server.script_driver { "script" } else { "native" });
    page.path("auth_dir", &server.auth_dir);
    page.path("run_dir", &server.run_dir);
    page.path("log_dir", &server.log_dir);
    page.path("spool_dir", &server.spool_dir);
    page.key("cluster_user", &server.cluster_user);
    page.key("cluster_group", &server.cluster_group);
    page.key("sudo_command", &server.sudo_command);
    page.key("service_name", &server.service_name);
    page.key("logfile", &log.file);
    page.key("num_logs_to_keep", &log.keep.to_string());
    page.key("max_log_size", &log.max_size.to_string());
    page.key("log_queue_size", &log.queue.to_string());
    page.flag("clear_log", log.clear);
    page.flag("enable_logging", log.enabled);
    page.key("log_level", &log.level.to_string());
    level(page, "debug", log.debug);
    level(page, "verbose", log.verbose);
    page.path("bash_shell", &server.bash_shell);
    match &server.bash_rc_file {
        Some(file) => page.path("bash_rc_file", file),
        None => page.comment("bash_rc_file is not set"),
    }
    page.key("cluster_umask", &format!("{:03o}", server.umask));
    alerts(page, &server.alerts);
    match &server.status_page {
        Some(own) => {
            page.key("status_listen", &own.listen.to_string());
            if let Some(token) = &own.token {
                page.key("status_token", token);
            }
        }
        None => page.comment("status_listen is not set: no status page"),
    }
}

fn alerts(page: &mut Page, alerts: &Alerts) {
    let mut optional = |key: &str, value: Option<String>| match value {
        Some(value) => page.key(key, &value),
        None => page.comment(&format!("{key} is not set")),
    };
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
    let names = |names: &[String]| (!names.is_empty()).then(|| names.join(", "));
    optional("alert_command", path(&alerts.command));
    optional("alert_email", names(&alerts.email));
    optional("alert_text", names(&alerts.text));
    optional("alert_lists", path(&alerts.lists));
    optional("alert_from", alerts.from.clone());
    let webhook = alerts.webhook.as_ref();
    optional("webhook_url", webhook.map(|webhook| webhook.url.clone()));
    optional("webhook_token", webhook.and_then(|webhook| webhook.token.clone()));
    optional("webhook_ca", webhook.and_then(|webhook| path(&webhook.authorities)));
    page.path("hooks_dir", &alerts.hooks_dir);
    page.noted("alert_timeout", &seconds(alerts.timeout), "seconds");
    page.key("alert_severity", alerts.severity.word());
    page.noted("alert_hours", &alerts.hours.to_string(), "hours without a mail after one");
    page.key("smtp_server", &relay(&alerts.smtp));
}

/// As it is written in a configuration.
pub(super) fn relay(relay: &Relay) -> String {
    if relay.host.contains(':') { format!("[{}]:{}", relay.host, relay.port) } else { format!("{}:{}", relay.host, relay.port) }
}

fn level(page: &mut Page, key: &str, level: Option<u8>) {
    page.flag(key, level.is_some());
    if let Some(level) = level {
        page.key(&format!("{key}_level"), &level.to_string());
    }
}

fn resources(page: &mut Page, config: &Config, kind: Kind, common: &Common) {
    let (section, fields) = match kind {
        Kind::Crontab => ("CM_CRONTABS", "nickname, template_file, install_location, resource_script"),
        Kind::Address => ("CM_IPADDRS", "nickname, address, netmask, interface, resource_script"),
        Kind::Service => ("CM_SERVICES", "nickname, service_name, resource_script"),
        Kind::Application => ("CM_APPLICATIONS", "nickname, user:group, start_program, stop_program, ensure_script"),
        Kind::FileSystem => ("CM_FILESYSTEMS", "nickname, source, target, resource_script"),
    };
    page.section(section);
    page.comment(fields);
    for resource in config.resources.iter().filter(|resource| resource.id.kind == kind) {
        let mut line: Vec<String> = vec![resource.id.nickname.clone()];
        line.extend(words(&resource.spec));
        line.extend(script(resource));
        let text = line.iter().map(|word| escaped(word)).collect::<Vec<_>>().join(", ");
        if line.iter().any(|word| word.contains([',', '\n'])) {
            page.comment(&format!("cm.toml only, a field holds a comma or a line break: {text}"));
        } else {
            page.line(&text);
        }
        for note in notes(resource, &config.server, common) {
            page.comment(&format!("  {note}"));
        }
    }
}

fn words(spec: &Spec) -> Vec<String> {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    match spec {
        Spec::FileSystem(file_system) => vec![file_system.source.clone(), path(&file_system.target)],
        Spec::Address(address) => {
            let interface = address.interface.label.as_ref().unwrap_or(&address.interface.device);
            vec![address.ip.to_string(), address.netmask.clone(), interface.clone()]
        }
        Spec::Service(service) => vec![service.name.clone()],
        Spec::Application(application) => {
            let run_as = format!("{}:{}", application.user, application.group);
            [run_as, application.start.clone(), application.stop.clone()].into_iter().chain(application.ensure.clone()).collect()
        }
        Spec::Crontab(crontab) => vec![path(&crontab.template), path(&crontab.install_dir)],
    }
}

/// The last field: the script itself, or the stock script that the native driver stands for.
fn script(resource: &Resource) -> Option<String> {
    match &resource.driver {
        Driver::Script(path) => Some(path.to_string_lossy().into_owned()),
        Driver::Native => {
            // Either of the two names the driver of all file systems.
            let mounter = matches!(resource.spec, Spec::FileSystem(_)).then_some(StockScript::Nfs);
            StockScript::of_spec(&resource.spec).or(mounter).map(|stock| format!("{}/{}", StockScript::DIRECTORY, stock.name()))
        }
    }
}

fn notes(resource: &Resource, server: &Server, common: &Common) -> Vec<String> {
    let options = &resource.options;
    let mut notes = vec![match &resource.driver {
        Driver::Native => "native driver".to_owned(),
        Driver::Script(_) => "script driver".to_owned(),
    }];
    let mut own = Vec::new();
    if common.start_timeout.is_none() {
        own.push(format!("start_timeout = {}", seconds(options.start_timeout)));
    }
    if options.stop_timeout != server.stop_timeout {
        own.push(format!("stop_timeout = {}", seconds(options.stop_timeout)));
    }
    if common.check_timeout.is_none() {
        own.push(format!("check_timeout = {}", seconds(options.check_timeout)));
    }
    if common.restart_limit.is_none() {
        own.push(format!("restart_limit = {}", options.restart_limit));
    }
    if common.restart_window.is_none() {
        own.push(format!("restart_window = {}", seconds(options.restart_window)));
    }
    if options.order != 0 {
        own.push(format!("order = {}", options.order));
    }
    if let Some(mount_options) = &options.mount_options {
        own.push(format!("mount_options = {}", without_passwords(mount_options)));
    }
    if !own.is_empty() {
        notes.push(format!("in cm.toml only: {}", own.join("; ")));
    }
    notes
}

fn node(page: &mut Page, config: &Config, node: &NodeConfig) {
    page.section("CM_NODE");
    page.key("nodename", &node.name);
    page.key("hostname", &node.hostname);
    page.key("keep_alive_ip", &node.keep_alive_ip.to_string());
    page.flag("node_is_active", node.active);
    page.noted("voter", flag(node.voter), if node.voter { "grants leases" } else { "grants no leases" });
    page.key("transport", node.transport.word());
    if node.pace != config.server.pace() {
        page.noted("keep_alive_interval", &node.pace.interval.as_millis().to_string(), "milliseconds");
        page.noted("dead_node_count", &node.pace.count.to_string(), &format!("silent for {} s it is dead", seconds(node.pace.lease())));
    }
    page.flag("keep_services", node.keep.services);
    page.flag("keep_filesystems", node.keep.filesystems);
    page.flag("keep_applications", node.keep.applications);
    for (kind, key) in [
        (Kind::Address, "ipaddrs_check"),
        (Kind::FileSystem, "filesystems_check"),
        (Kind::Service, "services_check"),
        (Kind::Crontab, "crontabs_check"),
        (Kind::Application, "applications_check"),
    ] {
        page.key(key, &seconds(node.checks.of(kind)));
    }
    for (kind, primary, backup) in [
        (Kind::Crontab, "node_crontabs", "node_backup_crontabs"),
        (Kind::Address, "node_floating_ip_addrs", "node_backup_floating_ip_addrs"),
        (Kind::Service, "node_services", "node_backup_services"),
        (Kind::Application, "node_applications", "node_backup_applications"),
        (Kind::FileSystem, "node_filesystems", "node_backup_filesystems"),
    ] {
        let own = node.primary.iter().filter(|id| id.kind == kind).map(|id| id.nickname.clone());
        list(page, primary, own);
        let others = node.backup.iter().filter(|assignment| assignment.resource.kind == kind);
        list(page, backup, others.map(|assignment| format!("{}:{}", config.name(assignment.home), assignment.resource.nickname)));
    }
}

fn list(page: &mut Page, key: &str, names: impl Iterator<Item = String>) {
    let names: Vec<String> = names.collect();
    if !names.is_empty() {
        page.key(key, &names.join(","));
    }
}

fn groups(page: &mut Page, config: &Config) {
    page.line("");
    page.comment("groups: what moves together, and who may run it, in this order");
    for group in &config.groups {
        page.comment(&format!("  {}", group_line(config, group)));
    }
}

fn group_line(config: &Config, group: &Group) -> String {
    let member = |Assignment { resource: ResourceId { kind, nickname }, .. }: &Assignment| format!("{kind}:{nickname}");
    let members: Vec<String> = group.assignments.iter().map(member).collect();
    let candidates: Vec<String> = group.candidates.iter().map(|candidate| config.name(*candidate)).collect();
    let lease = if group.is_leased() { "one at a time, under a lease" } else { "no other node, no lease" };
    format!("{} on {} ({lease})", members.join(" + "), candidates.join(", "))
}

/// `\#` for a literal `#`.
fn escaped(value: &str) -> String {
    printable(value).replace('#', "\\#")
}

/// Seconds, with a fraction where there is one.
fn seconds(span: Duration) -> String {
    span.as_secs_f64().to_string()
}

const fn flag(yes: bool) -> &'static str {
    if yes { "1" } else { "0" }
}

/// Mount options as they may be shown.
pub(super) fn without_passwords(options: &str) -> String {
    let hide = |option: &str| match option.split_once('=') {
        Some((key, _)) if key.trim().to_ascii_lowercase().starts_with("pass") => format!("{key}=(hidden)"),
        Some(_) | None => option.to_owned(),
    };
    options.split(',').map(hide).collect::<Vec<_>>().join(",")
}

fn regime(quorum: Quorum, voters: usize) -> &'static str {
    match (quorum, voters) {
        (Quorum::None, _) => "a survivor carries on alone",
        (Quorum::Auto, 2) => "a pair, the survivor carries on alone",
        (Quorum::Auto | Quorum::Majority, _) => "a majority grants leases",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::fixture::three_nodes;

    #[test]
    fn what_toml_alone_can_say_is_a_comment_without_passwords() {
        let mut config = three_nodes();
        config.resources[4].options.mount_options = Some("vers=3.0,password=hush,Pass=hush".into());
        config.resources[4].options.order = -1;
        config.resources[4].options.start_timeout = Duration::from_millis(1500);
        let text = render(&config, Path::new("/etc/drcm/cm.toml"));
        assert!(!text.contains("hush"), "{text}");
        assert!(
            text.contains(
                "#   in cm.toml only: start_timeout = 1.5; order = -1; mount_options = vers=3.0,password=(hidden),Pass=(hidden)\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_hash_in_a_command_is_escaped() {
        let mut config = three_nodes();
        let Spec::Application(application) = &mut config.resources[3].spec else { panic!("an application") };
        application.start = "echo '#1'".into();
        assert!(render(&config, Path::new("cm.cfg")).contains("ldm, ldm:users, echo '\\#1', ldmadmin stop\n"));
    }

    #[test]
    fn what_is_printed_means_the_same_when_read_back() {
        let written = "
[CM_SERVER]
udpport = 4000
keep_alive_interval = 50
dead_node_count = 9
quorum = majority
failback = manual
failback_delay = 2.5
takeover = strict
stop_timeout = 7
start_timeout = 8
restart_limit = 5
gateway = 10.0.0.254
debug = yes
debug_level = 3
logfile = other.log
bash_rc_file = /etc/rc
cluster_umask = 027
[CM_CRONTABS]
apps2, /etc/drcm/crontabs/apps2, /etc/cron.d, /etc/drcm/resources/crontab.sh
own, /etc/drcm/crontabs/own, /etc/cron.d, /opt/own.sh
[CM_IPADDRS]
front, 10.0.0.100, 255.255.255.0, eth0:1, /etc/drcm/resources/ipv4addr.sh
six, fd00::100, 64, eth0, /etc/drcm/resources/ipv4addr.sh
[CM_SERVICES]
front, httpd, /etc/drcm/resources/service.sh
[CM_APPLICATIONS]
ldm, ldm:users, echo '\\#1'; ldmadmin start, ldmadmin stop, if [ -f ~/x ]; then ~/x; fi
[CM_FILESYSTEMS]
data, 10.0.0.9:/data, /data, /etc/drcm/resources/nfs.sh
share, //10.0.0.9/share, /share, /etc/drcm/resources/cifs.sh
[CM_NODE]
nodename = a
hostname = a.example.com
keep_alive_ip = 10.0.0.1
node_crontabs = own
node_floating_ip_addrs = six,front
node_services = front
node_applications = ldm
node_filesystems = data
services_check = 1.5
keep_services = 1
[CM_NODE]
nodename = b
hostname = b.example.com
keep_alive_ip = 10.0.0.2
node_filesystems = data,share
node_crontabs = apps2
node_backup_floating_ip_addrs = a:front,a:six
node_backup_services = a:front
transport = tcp
keep_alive_interval = 500
dead_node_count = 20
[CM_NODE]
nodename = c
hostname = c.example.com
keep_alive_ip = 10.0.0.3
node_is_active = 0
voter = 0
node_backup_crontabs = b:apps2
";
        let first = crate::config::parse_cfg("cm.cfg", written).expect("a good configuration").config;
        let printed = render(&first, Path::new("cm.cfg"));
        let second = crate::config::parse_cfg("printed", &printed).unwrap_or_else(|report| panic!("{report}\n{printed}"));
        assert_eq!(*first, *second.config, "{printed}");
        assert_eq!(render(&second.config, Path::new("cm.cfg")), printed);
    }
}
