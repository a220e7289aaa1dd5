//! `[CM_SERVER]`: its defaults and bounds.

use std::{path::PathBuf, time::Duration};

use crate::model::{Failback, LogSettings, NoQuorum, Options, Pace, Quorum, Server, Takeover};

use super::{alerts, draft::Entry, fields::Fields, finding::Findings, keys, status_page, words::ResourceDriver};

/// Longest lease time that a file may ask for.
const LONGEST_LEASE: Duration = Duration::from_secs(3_600);
/// Longest time any timeout may have, in seconds.
pub(super) const LONGEST_TIMEOUT: f64 = 86_400.0;

/// `[CM_SERVER]` as read: the model's part, and the defaults for resources.
pub(super) struct ServerSettings {
    pub(super) server: Server,
    pub(super) options: Options,
}

/// What holds without any key, as documented.
#[must_use]
pub fn default_server() -> Server {
    Server {
        udpport: 53897,
        tcpport: 53897,
        keep_alive_interval: Duration::from_millis(100),
        dead_node_count: 60,
        bind_to_keep_alive_ip: true,
        apply: true,
        quorum: Quorum::Auto,
        no_quorum: NoQuorum::Stop,
        failback: Failback::Auto,
        failback_delay: Duration::from_secs(10),
        takeover: Takeover::Prompt,
        stop_timeout: Duration::from_secs(60),
        gateway: None,
        script_driver: false,
        auth_dir: PathBuf::from("/etc/drcm/.auth"),
        run_dir: PathBuf::from("/var/run/drcm"),
        log_dir: PathBuf::from("/var/log/drcm"),
        spool_dir: PathBuf::from("/var/spool/drcm"),
        cluster_user: "root".into(),
        cluster_group: "root".into(),
        sudo_command: "sudo su root -c".into(),
        service_name: "drcm_server".into(),
        log: LogSettings {
            file: "drcm.log".into(),
            keep: 3,
            max_size: 5_000_000,
            queue: 2_048,
            clear: false,
            enabled: true,
            level: 1,
            debug: None,
            verbose: None,
        },
        bash_shell: PathBuf::from("/bin/bash"),
        bash_rc_file: None,
        umask: 0o022,
        alerts: alerts::default(),
        status_page: None,
    }
}

/// What a resource has without options of its own.
#[must_use]
pub fn default_options() -> Options {
    Options {
        start_timeout: Duration::from_secs(90),
        stop_timeout: Duration::from_secs(60),
        check_timeout: Duration::from_secs(10),
        restart_limit: 3,
        restart_window: Duration::from_secs(600),
        order: 0,
        mount_options: None,
    }
}

/// Reads `[CM_SERVER]`.
pub(super) fn read(entries: &[Entry], findings: &mut Findings<'_>) -> ServerSettings {
    let fields = Fields::collect(entries, &[keys::SERVER], findings.format().server(), findings);
    let default = default_server();
    let options = options(&fields, &default_options(), findings);
    let pace = pace(&fields, default.pace(), findings);
    let server = Server {
        udpport: fields.number("udpport", 1..=u16::MAX, default.udpport, findings),
        tcpport: fields.number("tcpport", 1..=u16::MAX, default.tcpport, findings),
        keep_alive_interval: pace.interval,
        dead_node_count: pace.count,
        bind_to_keep_alive_ip: fields.boolean("bind_to_keep_alive_ip", default.bind_to_keep_alive_ip, findings),
        apply: fields.boolean("apply", default.apply, findings),
        quorum: fields.choice("quorum", default.quorum, findings),
        no_quorum: fields.choice("no_quorum", default.no_quorum, findings),
        failback: fields.choice("failback", default.failback, findings),
        failback_delay: fields.seconds("failback_delay", 0.0..=LONGEST_TIMEOUT, default.failback_delay, findings),
        takeover: fields.choice("takeover", default.takeover, findings),
        stop_timeout: options.stop_timeout,
        gateway: gateway(&fields, findings),
        script_driver: fields.choice("resource_driver", ResourceDriver::Native, findings) == ResourceDriver::Script,
        auth_dir: fields.path("auth_dir", findings).unwrap_or(default.auth_dir),
        run_dir: fields.path("run_dir", findings).unwrap_or(default.run_dir),
        log_dir: fields.path("log_dir", findings).unwrap_or(default.log_dir),
        spool_dir: fields.path("spool_dir", findings).unwrap_or(default.spool_dir),
        cluster_user: name(&fields, "cluster_user", default.cluster_user, findings),
        cluster_group: name(&fields, "cluster_group", default.cluster_group, findings),
        sudo_command: fields.unquoted("sudo_command", findings).map_or(default.sudo_command, |text| text.text),
        service_name: name(&fields, "service_name", default.service_name, findings),
        log: log(&fields, default.log, findings),
        bash_shell: fields.path("bash_shell", findings).unwrap_or(default.bash_shell),
        bash_rc_file: fields.path("bash_rc_file", findings),
        umask: umask(&fields, default.umask, findings),
        alerts: alerts::read(&fields, findings),
        status_page: status_page::read(&fields, findings),
    };
    lease(pace, &fields, findings);
    ServerSettings { server, options }
}

/// The options of a resource, or the cluster's defaults for them.
pub(super) fn options(fields: &Fields<'_>, default: &Options, findings: &mut Findings<'_>) -> Options {
    Options {
        start_timeout: fields.seconds("start_timeout", 0.1..=LONGEST_TIMEOUT, default.start_timeout, findings),
        stop_timeout: fields.seconds("stop_timeout", 0.1..=LONGEST_TIMEOUT, default.stop_timeout, findings),
        check_timeout: fields.seconds("check_timeout", 0.1..=LONGEST_TIMEOUT, default.check_timeout, findings),
        restart_limit: fields.number("restart_limit", 1..=1_000_000, default.restart_limit, findings),
        restart_window: fields.seconds("restart_window", 1.0..=LONGEST_TIMEOUT * 31.0, default.restart_window, findings),
        order: fields.number("order", -1_000_000..=1_000_000, default.order, findings),
        mount_options: fields.unquoted("mount_options", findings).map(|text| text.text).or_else(|| default.mount_options.clone()),
    }
}

fn gateway(fields: &Fields<'_>, findings: &mut Findings<'_>) -> Option<std::net::IpAddr> {
    let (address, span) = fields.ip("gateway", findings)?;
    if address.is_unspecified() || address.is_multicast() {
        findings.error(
            span,
            format!("the gateway {address} is no address of a host"),
            "name a router outside the cluster that answers pings",
        );
        return None;
    }
    Some(address)
}

/// A name of a user, group or service: it ends up in file names and command lines.
fn name(fields: &Fields<'_>, key: &'static str, default: String, findings: &mut Findings<'_>) -> String {
    let Some(text) = fields.unquoted(key, findings) else { return default };
    if text.text.starts_with('-') || text.text.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        findings.error(
            text.span,
            format!("`{key}` is `{}`, which is no name: it holds a `/`, `:` or space, or begins with `-`", text.text),
            "",
        );
        return default;
    }
    text.text
}

fn log(fields: &Fields<'_>, default: LogSettings, findings: &mut Findings<'_>) -> LogSettings {
    let debug = fields.boolean("debug", false, findings);
    let debug_level = fields.number("debug_level", 1..=5_u8, 1, findings);
    let verbose = fields.boolean("verbose", false, findings);
    let verbose_level = fields.number("verbose_level", 1..=5_u8, 1, findings);
    let queue = fields.number("log_queue_size", 1..=1_000_000, default.queue, findings);
    let debug_queue = fields.number("log_queue_debug_size", 1..=1_000_000, 4_096, findings);
    let _ = fields.number("log_queue_proc_size", 1..=1_000_000_u32, 255, findings);
    if let Some(span) = fields.span("log_queue_proc_size") {
        findings.info(span, "`log_queue_proc_size` has no effect: one queue takes the lines of all");
    }
    LogSettings {
        file: log_file(fields, default.file, findings),
        keep: fields.number("num_logs_to_keep", 0..=10_000, default.keep, findings),
        max_size: fields.number("max_log_size", 1_000..=2_000_000_000, default.max_size, findings),
        queue: if debug { queue.max(debug_queue) } else { queue },
        clear: fields.boolean("clear_log", default.clear, findings),
        enabled: fields.boolean("enable_logging", default.enabled, findings),
        level: fields.number("log_level", 0..=5, default.level, findings),
        debug: debug.then_some(debug_level),
        verbose: verbose.then_some(verbose_level),
    }
}

/// The log's file name. A directory in it is ignored, as documented.
fn log_file(fields: &Fields<'_>, default: String, findings: &mut Findings<'_>) -> String {
    let Some(text) = fields.unquoted("logfile", findings) else { return default };
    let base = text.text.rsplit('/').next().unwrap_or_default().trim();
    if base.is_empty() || base == "." || base == ".." {
        findings.error(
            text.span,
            format!("`logfile` is `{}`, which names no file", text.text),
            format!("without this line it is {default}"),
        );
        return default;
    }
    if base.len() < text.text.len() {
        findings.warning(
            text.span,
            format!("the directory in `{}` is ignored: logs are in log_dir", text.text),
            "set log_dir, and a file name here",
        );
    }
    base.to_owned()
}

/// The umask: octal digits, as in the shell.
fn umask(fields: &Fields<'_>, default: u32, findings: &mut Findings<'_>) -> u32 {
    let Some(text) = fields.unquoted("cluster_umask", findings) else { return default };
    let trimmed = text.text.trim_end_matches([';', ' ']);
    let digits = trimmed.strip_prefix("0o").unwrap_or(trimmed);
    match u32::from_str_radix(digits, 8).ok().filter(|mask| *mask <= 0o777 && !digits.starts_with('+')) {
        Some(mask) => mask,
        None => {
            findings.error(
                text.span,
                format!("the umask is `{}`, which is not an octal number from 0 to 777", text.text),
                "the usual one is 022",
            );
            default
        }
    }
}

/// The lease time that interval and count make together.
pub(super) fn lease(pace: Pace, fields: &Fields<'_>, findings: &mut Findings<'_>) {
    let span = fields.span("dead_node_count").or_else(|| fields.span("keep_alive_interval")).unwrap_or_default();
    let lease = pace.interval.saturating_mul(pace.count);
    if lease > LONGEST_LEASE {
        findings.error(
            span,
            format!("keep_alive_interval x dead_node_count is {} seconds: no take-over within an hour", lease.as_secs()),
            "keep_alive_interval is in milliseconds; 100 and 15 take over within 1.5 seconds",
        );
    } else if pace.count < 3 {
        findings.warning(
            span,
            format!("with dead_node_count = {} a single lost packet can move resources", pace.count),
            "use 3 or more, and a shorter keep_alive_interval for a fast take-over",
        );
    }
}

/// The keys `keep_alive_interval` and `dead_node_count`, of the cluster or of one node.
pub(super) fn pace(fields: &Fields<'_>, default: Pace, findings: &mut Findings<'_>) -> Pace {
    let milliseconds = u32::try_from(default.interval.as_millis()).unwrap_or(u32::MAX);
    Pace {
        interval: Duration::from_millis(u64::from(fields.number("keep_alive_interval", 1_u32..=60_000, milliseconds, findings))),
        count: fields.number("dead_node_count", 1..=100_000, default.count, findings),
    }
}
