//! The blocks of a keepalived.conf that matter here, as one node has them; a warning for each that cannot be carried over.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr};

use super::text::Statement;
use crate::config::{
    finding::Findings,
    source::{Span, Text},
};

/// What one node's file says.
#[derive(Default)]
pub(super) struct Machine {
    pub(super) router_id: Option<Text>,
    pub(super) instances: Vec<Instance>,
    /// The instances of each sync group, and where it is.
    pub(super) bundles: Vec<(Text, Vec<Text>)>,
    pub(super) checks: BTreeMap<String, Check>,
}

/// A `vrrp_instance`.
pub(super) struct Instance {
    pub(super) name: Text,
    pub(super) interface: Option<String>,
    pub(super) router: u8,
    pub(super) priority: u8,
    pub(super) master: bool,
    /// Seconds of silence after which a backup takes over.
    pub(super) silence: f64,
    pub(super) preempt: bool,
    /// Seconds.
    pub(super) preempt_delay: f64,
    pub(super) source: Option<IpAddr>,
    pub(super) peers: Vec<(IpAddr, Span)>,
    pub(super) addresses: Vec<Address>,
    pub(super) tracked: Vec<Text>,
    pub(super) notices: Notices,
}

/// A virtual address.
pub(super) struct Address {
    pub(super) ip: IpAddr,
    pub(super) prefix: u8,
    pub(super) device: Option<String>,
    pub(super) label: Option<String>,
    pub(super) span: Span,
}

/// What is run when an instance changes its state.
#[derive(Clone, Default)]
pub(super) struct Notices {
    pub(super) master: Option<Command>,
    pub(super) backup: Option<Command>,
}

/// Shell text and who runs it; nobody named is the user of all scripts.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) text: String,
    pub(super) run_as: Option<String>,
}

/// A `vrrp_script`, or a process to look for.
#[derive(Clone)]
pub(super) struct Check {
    pub(super) command: Command,
    /// Seconds.
    pub(super) interval: f64,
    /// Seconds.
    pub(super) timeout: Option<f64>,
    pub(super) weight: i32,
    pub(super) span: Span,
}

/// Of an instance, means nothing where the nodes answer for themselves by a key.
const NEEDLESS: &[&str] = &[
    "authentication",
    "native_ipv6",
    "version",
    "debug",
    "mcast_dst_ip",
    "unicast_ttl",
    "check_unicast_src",
    "unicast_fault_no_peer",
    "old_unicast_checksum",
    "lower_prio_no_advert",
    "higher_prio_send_advert",
    "strict_mode",
    "skip_check_adv_addr",
    "kernel_rx_buf_size",
    "notify_deleted",
    "notify_priority_changes",
    "track_src_ip",
    "accept",
    "preempt",
    "promote_secondaries",
    "linkbeat_use_polling",
    "smtp_alert",
    "no_accept",
];
const BY_HAND: &str = "do what it did by a resource script or an application, or leave it to keepalived";

/// Reads the statements of one file.
pub(super) fn read(statements: &[Statement], findings: &mut Findings<'_>) -> Machine {
    let mut machine = Machine::default();
    let mut user = None;
    let mut bundle_settings = Vec::new();
    for statement in statements {
        match statement.keyword() {
            "global_defs" => globals(statement, &mut machine, &mut user, findings),
            "vrrp_instance" => machine.instances.extend(instance(statement, findings)),
            "vrrp_sync_group" => bundle_settings.extend(bundle(statement, &mut machine, findings)),
            "vrrp_script" => check(statement, script, &mut machine, findings),
            "vrrp_track_process" | "track_process" => check(statement, process, &mut machine, findings),
            word if word.starts_with("include") => findings.error(
                statement.span(),
                "other files are not read from here",
                "put the text of that file in the place of this line, in a copy",
            ),
            "virtual_server" | "virtual_server_group" | "SSL" => findings.warning(
                statement.span(),
                format!("`{}` is not carried over: balancing load is not what drcm does", statement.keyword()),
                "keep keepalived for the virtual servers alone, or use a proxy as a service of the cluster",
            ),
            "garp_group" | "linkbeat_interfaces" | "lvs_sync_daemon" => {}
            keyword => not_carried(statement, keyword, findings),
        }
    }
    for command in machine.checks.values_mut().map(|check| &mut check.command).chain(machine.instances.iter_mut().flat_map(commands)) {
        command.run_as = command.run_as.take().or_else(|| user.clone());
    }
    for (first, tracked, notices) in bundle_settings {
        let Some(instance) = machine.instances.iter_mut().find(|instance| instance.name.text == first.text) else {
            findings.warning(first.span, format!("there is no vrrp_instance `{}`", first.text), "");
            continue;
        };
        instance.tracked.extend(tracked);
        instance.notices.master = instance.notices.master.take().or(notices.master);
        instance.notices.backup = instance.notices.backup.take().or(notices.backup);
    }
    machine
}

fn commands(instance: &mut Instance) -> impl Iterator<Item = &mut Command> {
    instance.notices.master.iter_mut().chain(&mut instance.notices.backup)
}

fn not_carried(statement: &Statement, what: &str, findings: &mut Findings<'_>) {
    findings.warning(statement.span(), format!("`{what}` is not carried over"), BY_HAND);
}

fn globals(statement: &Statement, machine: &mut Machine, user: &mut Option<String>, findings: &mut Findings<'_>) {
    for inner in &statement.block {
        match inner.keyword() {
            "router_id" => machine.router_id = inner.values().first().cloned(),
            "script_user" => *user = run_as(inner.values()),
            "notification_email" => {
                findings.info(inner.span(), "mail is sent by the crontab of utils/watch_cluster.sh, to my_cluster_conf/cm_alert_list.sh");
            }
            "net_namespace" | "namespace_with_ipsets" | "static_ipaddress" => not_carried(inner, inner.keyword(), findings),
            _ => {}
        }
    }
}

fn instance(statement: &Statement, findings: &mut Findings<'_>) -> Option<Instance> {
    let name = named(statement, findings)?;
    let mut instance = Instance {
        interface: None,
        router: 0,
        priority: 100,
        master: false,
        silence: 0.0,
        preempt: true,
        preempt_delay: 0.0,
        source: None,
        peers: Vec::new(),
        addresses: Vec::new(),
        tracked: Vec::new(),
        notices: Notices::default(),
        name,
    };
    let (mut interval, mut intervals, mut tracked_devices) = (1.0, 3.0, Vec::new());
    for inner in &statement.block {
        match inner.keyword() {
            "state" => instance.master = inner.values().first().is_some_and(|state| state.text.eq_ignore_ascii_case("MASTER")),
            "interface" => instance.interface = inner.values().first().map(|name| name.text.clone()),
            "virtual_router_id" => instance.router = number(inner, 1, 255, findings).unwrap_or(0),
            "priority" => instance.priority = number(inner, 1, 255, findings).unwrap_or(100),
            "advert_int" => interval = number(inner, 0.01, 255.0, findings).unwrap_or(interval),
            "down_timer_adverts" => intervals = number(inner, 1.0, 100.0, findings).unwrap_or(intervals),
            "nopreempt" => instance.preempt = false,
            "preempt_delay" => instance.preempt_delay = number(inner, 0.0, 1_000.0, findings).unwrap_or(0.0),
            "unicast_src_ip" => instance.source = inner.values().first().and_then(|value| address(value, findings)),
            "mcast_src_ip" if instance.source.is_none() => {
                instance.source = inner.values().first().and_then(|value| address(value, findings));
            }
            "unicast_peer" => {
                let peers = inner.block.iter().filter_map(|peer| Some((address(&peer.words()[0], findings)?, peer.span())));
                instance.peers.extend(peers);
            }
            "virtual_ipaddress" | "virtual_ipaddress_excluded" => {
                instance.addresses.extend(inner.block.iter().filter_map(|entry| virtual_address(entry, findings)));
            }
            "track_interface" => tracked_devices.extend(&inner.block),
            "track_script" | "track_process" => instance.tracked.extend(tracked(inner, findings)),
            "notify" | "notify_master" | "notify_backup" | "notify_stop" | "notify_fault" | "notify_master_rx_lower_pri" => {
                notice(inner, "INSTANCE", &instance.name.text, &mut instance.notices, findings);
            }
            "use_vmac" | "use_vmac_addr" | "vmac_xmit_base" | "use_ipvlan" => findings.warning(
                inner.span(),
                format!("`{}` is not carried over: an address has the hardware address of the node that owns it", inner.keyword()),
                "its move is announced at once and again later; rules of the network that name the virtual hardware address must go",
            ),
            "dont_track_primary" => findings.warning(
                inner.span(),
                "`dont_track_primary` is not carried over: an interface without carrier is a failure of its addresses",
                "",
            ),
            keyword if NEEDLESS.contains(&keyword) || keyword.starts_with("garp_") || keyword.starts_with("kernel_") => {}
            keyword => not_carried(inner, keyword, findings),
        }
    }
    if instance.router == 0 {
        findings.error(
            statement.span(),
            format!("`{}` has no virtual_router_id", instance.name.text),
            "keepalived would not take it either",
        );
        return None;
    }
    for device in tracked_devices {
        let name = device.keyword();
        let own = instance.interface.iter().chain(instance.addresses.iter().filter_map(|address| address.device.as_ref()));
        if !own.into_iter().any(|own| own == name) {
            findings.warning(
                device.span(),
                format!("that `{}` depends on the interface {name}, on which it has no address, is not carried over", instance.name.text),
                format!("an application with ensure = \"grep -q 1 /sys/class/net/{name}/carrier\" in the same lists does that"),
            );
        }
    }
    instance.silence = interval * intervals;
    Some(instance)
}

/// A sync group: what it tracks and tells belongs to its first instance.
fn bundle(statement: &Statement, machine: &mut Machine, findings: &mut Findings<'_>) -> Option<(Text, Vec<Text>, Notices)> {
    let name = named(statement, findings)?;
    let (mut members, mut all_tracked, mut notices) = (Vec::new(), Vec::new(), Notices::default());
    for inner in &statement.block {
        match inner.keyword() {
            "group" => members.extend(inner.block.iter().flat_map(|line| line.words().iter().cloned())),
            "track_script" | "track_process" => all_tracked.extend(tracked(inner, findings)),
            "notify" | "notify_master" | "notify_backup" | "notify_stop" | "notify_fault" => {
                notice(inner, "GROUP", &name.text, &mut notices, findings);
            }
            "smtp_alert" | "global_tracking" | "sync_group_tracking_weight" => {}
            keyword => not_carried(inner, keyword, findings),
        }
    }
    let first = members.first().cloned();
    machine.bundles.push((name, members));
    Some((first?, all_tracked, notices))
}

/// What an instance depends on, by name. Of what changes priorities nothing but the rule itself can be carried over.
fn tracked(statement: &Statement, findings: &mut Findings<'_>) -> Vec<Text> {
    let mut names = Vec::new();
    for entry in &statement.block {
        let words: Vec<&str> = entry.values().iter().map(|word| word.text.as_str()).collect();
        if words.contains(&"reverse") {
            findings.warning(entry.span(), format!("`{} ... reverse` is not carried over", entry.keyword()), BY_HAND);
            continue;
        }
        if let ["weight", weight, ..] = words[..]
            && weight.parse() != Ok(0)
        {
            weighs(entry.span(), entry.keyword(), weight, findings);
        }
        names.push(entry.words()[0].clone());
    }
    names
}

/// A check that changes a priority in keepalived.
pub(super) fn weighs(span: Span, name: &str, weight: impl std::fmt::Display, findings: &mut Findings<'_>) {
    findings.warning(
        span,
        format!("`{name}` has the weight {weight}, which is not carried over: when it fails the addresses move, whatever the priorities"),
        "leave it out of the lists of applications where that is not meant",
    );
}

fn check(statement: &Statement, read: fn(&Statement, &mut Check, &mut Findings<'_>), machine: &mut Machine, findings: &mut Findings<'_>) {
    let Some(name) = named(statement, findings) else { return };
    let command = Command { text: String::new(), run_as: None };
    let mut check = Check { command, interval: 1.0, timeout: None, weight: 0, span: name.span };
    for inner in &statement.block {
        match inner.keyword() {
            "interval" => check.interval = number(inner, 1.0, 86_400.0, findings).unwrap_or(1.0),
            "timeout" => check.timeout = number(inner, 1.0, 86_400.0, findings),
            "weight" => check.weight = number(inner, -254, 254, findings).unwrap_or(0),
            "user" => check.command.run_as = run_as(inner.values()),
            // It is tried again at once, up to restart_limit times, before anything moves.
            "rise" | "fall" | "init_fail" | "delay" | "terminate_delay" | "fork_delay" | "full_command" | "param_match" => {}
            _ => read(inner, &mut check, findings),
        }
    }
    if check.command.text.is_empty() {
        findings.warning(statement.span(), format!("`{}` runs nothing", name.text), "keepalived ignores it, too");
        return;
    }
    machine.checks.insert(name.text, check);
}

fn script(inner: &Statement, check: &mut Check, findings: &mut Findings<'_>) {
    match inner.keyword() {
        "script" => check.command.text = inner.values().iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" "),
        keyword => not_carried(inner, keyword, findings),
    }
}

fn process(inner: &Statement, check: &mut Check, findings: &mut Findings<'_>) {
    match (inner.keyword(), inner.values()) {
        ("process", [program]) if program.text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte)) => {
            check.command.text = format!("pidof {} > /dev/null", program.text);
        }
        (keyword, _) => not_carried(inner, keyword, findings),
    }
}

/// A script that is told of a change. keepalived starts it and goes on; here it is an application, and must succeed.
fn notice(statement: &Statement, kind: &str, name: &str, notices: &mut Notices, findings: &mut Findings<'_>) {
    let [script, user @ ..] = statement.values() else { return };
    let run_as = run_as(user);
    let command = |text: String| Some(Command { text, run_as: run_as.clone() });
    match statement.keyword() {
        "notify_master" => notices.master = command(script.text.clone()),
        "notify_backup" => notices.backup = command(script.text.clone()),
        "notify" => {
            let state = |state: &str| command(format!("{} {kind} {name} {state}", script.text));
            notices.master = notices.master.take().or_else(|| state("MASTER"));
            notices.backup = notices.backup.take().or_else(|| state("BACKUP"));
        }
        keyword => findings.warning(
            statement.span(),
            format!("`{keyword}` is not carried over"),
            "what notify_backup runs is run whenever a node gives up, for whatever reason",
        ),
    }
}

fn virtual_address(entry: &Statement, findings: &mut Findings<'_>) -> Option<Address> {
    let first = &entry.words()[0];
    let (ip, prefix) = first.text.split_once('/').map_or((first.text.as_str(), None), |(ip, prefix)| (ip, Some(prefix)));
    let Ok(ip) = ip.parse::<IpAddr>() else {
        findings.error(first.span, format!("`{}` is no address", first.text), "keepalived would leave it out");
        return None;
    };
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let Some(prefix) = prefix.map_or(Some(longest), |prefix| prefix.parse().ok().filter(|prefix| *prefix <= longest)) else {
        findings.error(first.span, format!("`{}` has no prefix length from 0 to {longest}", first.text), "");
        return None;
    };
    let mut address = Address { ip, prefix, device: None, label: None, span: first.span };
    let mut words = entry.values().iter();
    while let Some(word) = words.next() {
        match word.text.as_str() {
            "dev" => address.device = words.next().map(|word| word.text.clone()),
            "label" => address.label = words.next().map(|word| word.text.clone()),
            // Made from the prefix by the kernel.
            "brd" | "broadcast" => drop(words.next()),
            "scope" if words.clone().next().is_some_and(|scope| scope.text == "global") => drop(words.next()),
            "no_track" | "noprefixroute" | "-nodad" | "nodad" | "home" | "mngtmpaddr" | "autojoin" | "use_vmac" => {
                findings.warning(word.span, format!("`{}` of {ip} is not carried over", word.text), "");
            }
            other => {
                findings.warning(word.span, format!("`{other}` of {ip} is not carried over"), "");
                words.next();
            }
        }
    }
    Some(address)
}

fn address(text: &Text, findings: &mut Findings<'_>) -> Option<IpAddr> {
    let parsed = text.text.parse().ok();
    if parsed.is_none() {
        findings.error(text.span, format!("`{}` is no address", text.text), "");
    }
    parsed
}

/// `user [group]`; a group that is not named is called as its user.
fn run_as(words: &[Text]) -> Option<String> {
    let user = words.first()?;
    Some(format!("{}:{}", user.text, words.get(1).unwrap_or(user).text))
}

fn named(statement: &Statement, findings: &mut Findings<'_>) -> Option<Text> {
    let name = statement.values().first();
    if name.is_none() {
        findings.error(statement.span(), format!("this `{}` has no name", statement.keyword()), "");
    }
    name.cloned()
}

fn number<N: FromStr + PartialOrd + std::fmt::Display>(statement: &Statement, least: N, most: N, findings: &mut Findings<'_>) -> Option<N> {
    let keyword = statement.keyword();
    let Some(word) = statement.values().first() else {
        findings.error(statement.span(), format!("`{keyword}` has no number"), "");
        return None;
    };
    let parsed = word.text.parse().ok().filter(|number| (&least..=&most).contains(&number));
    if parsed.is_none() {
        findings.error(word.span, format!("`{keyword}` is `{}`, which is not a number from {least} to {most}", word.text), "");
    }
    parsed
}
