//! The configuration as cm.toml.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    Host,
    cluster::{Node, Router},
};
use crate::config::{
    convert::{quoted, toml_key},
    finding::{Finding, Severity},
    keys::Format,
};

/// Heartbeats in the time after which a node is dead, as in our templates.
const COUNT: u32 = 15;
/// Shortest such time, in milliseconds: what a busy machine may miss without anything being wrong.
const SHORTEST: f64 = 300.0;

/// The text. What only cm.toml can say is left out (and said) when cm.cfg is wanted.
pub(super) fn write(
    routers: &[Router],
    order: &[usize],
    hosts: &[Host],
    nodes: &[Node<'_>],
    to: Format,
    findings: &mut Vec<Finding>,
) -> String {
    let mut files: Vec<&str> = nodes.iter().map(|node| node.file.as_str()).collect();
    files.dedup();
    let mut text = format!("# Made from {}.\n", files.join(", "));
    server(routers, nodes, &mut text, findings);
    // What a router brings along: lists of addresses and of applications.
    let mut names: Vec<[Vec<String>; 2]> = Vec::new();
    let mut taken = BTreeSet::new();
    for router in routers {
        let mut own = [Vec::new(), Vec::new()];
        for (number, address) in router.addresses.iter().enumerate() {
            let base = super::nickname(&router.name);
            let mut name = if router.addresses.len() == 1 { base.clone() } else { format!("{base}-{}", number + 1) };
            while !taken.insert(name.clone()) {
                name.push('x');
            }
            push(
                &mut text,
                &format!(
                    "\n[addresses.{}]\nip = \"{}\"\nnetmask = {}\ninterface = {}\n",
                    toml_key(&name),
                    address.ip,
                    address.prefix,
                    quoted(&address.interface)
                ),
            );
            own[0].push(name);
        }
        for application in &router.applications {
            let run_as = application.run_as.clone().unwrap_or_else(|| {
                findings.push(Finding::new(
                    Severity::Info,
                    format!(
                        "the application {} runs as root, as keepalived's scripts do without script_user and a user keepalived_script",
                        application.name
                    ),
                ));
                "root:root".to_owned()
            });
            let (start, stop) = (quoted(&application.start), quoted(&application.stop));
            push(
                &mut text,
                &format!(
                    "\n[applications.{}]\nrun_as = {}\nstart = {start}\nstop = {stop}\n",
                    toml_key(&application.name),
                    quoted(&run_as)
                ),
            );
            if let Some(ensure) = &application.ensure {
                push(&mut text, &format!("ensure = {}\n", quoted(ensure)));
                if to == Format::Toml {
                    push(&mut text, "order = -1  # before the addresses: a node where it fails never has them\n");
                }
            }
            if let Some(timeout) = application.timeout.filter(|_| to == Format::Toml) {
                push(&mut text, &format!("check_timeout = {timeout}\n"));
            }
            own[1].push(application.name.clone());
        }
        names.push(own);
    }
    let interval = interval(routers, nodes);
    for &node in order {
        let host = &hosts[node];
        let name = nodename(&host.name);
        push(
            &mut text,
            &format!("\n[[node]]\nnodename = {}\nhostname = {}\nkeep_alive_ip = \"{}\"\n", quoted(name), quoted(&host.name), host.address),
        );
        if let Some(interval) = interval {
            push(&mut text, &format!("applications_check = {interval}\n"));
        }
        for (kind, key) in ["addresses", "applications"].into_iter().enumerate() {
            let home = |router: &Router| router.members[0].0 == node;
            let own = routers.iter().zip(&names).filter(|(router, _)| home(router)).flat_map(|(_, names)| &names[kind]);
            list(&mut text, key, own.map(|name| quoted(name)));
            let others = routers.iter().zip(&names).filter(|(router, _)| router.members[1..].iter().any(|(other, _)| *other == node));
            let backup = others.flat_map(|(router, names)| {
                let home = nodename(&hosts[router.members[0].0].name);
                names[kind].iter().map(move |name| quoted(&format!("{home}:{name}")))
            });
            list(&mut text, &format!("backup_{key}"), backup);
        }
    }
    text
}

fn push(text: &mut String, more: &str) {
    text.push_str(more);
}

fn list(text: &mut String, key: &str, names: impl Iterator<Item = String>) {
    let names: Vec<String> = names.collect();
    if !names.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key} = [{}]", names.join(", "));
    }
}

/// The name without its domain, as people call it.
fn nodename(host: &str) -> &str {
    host.split('.').next().filter(|name| !name.is_empty()).unwrap_or(host)
}

fn server(routers: &[Router], nodes: &[Node<'_>], text: &mut String, findings: &mut Vec<Finding>) {
    let instances = || nodes.iter().flat_map(|node| &node.machine.instances);
    let (least, most) =
        instances().fold((f64::INFINITY, 0.0_f64), |(least, most), instance| (least.min(instance.silence), most.max(instance.silence)));
    let silence = (least * 1_000.0).max(SHORTEST);
    let interval = (silence / f64::from(COUNT)).round();
    let _ = write!(text, "\n[server]\nkeep_alive_interval = {interval}\ndead_node_count = {COUNT}\n");
    let mut message =
        format!("a node is dead after {} s of silence: keep_alive_interval x dead_node_count", interval * f64::from(COUNT) / 1_000.0);
    if least < most {
        message.push_str("; the instances had different times, of which this is the shortest");
    } else if least * 1_000.0 < SHORTEST {
        message.push_str("; keepalived had less, but here all nodes decide together");
    }
    findings.push(Finding::new(Severity::Info, message));
    // Only the word of a home counts: the others are away from it anyway.
    let homes = || routers.iter().map(|router| router.members[0]).map(|(node, number)| &nodes[node].machine.instances[number]);
    if homes().all(|home| !home.preempt) {
        text.push_str("failback = \"manual\"\n");
        return;
    }
    if homes().any(|home| !home.preempt) {
        findings.push(
            Finding::new(Severity::Warning, "`nopreempt` of some instances is not carried over: everything goes home by itself")
                .help("failback = \"manual\" in [server] keeps everything where it is"),
        );
    }
    let delay = homes().map(|home| home.preempt_delay).fold(0.0, f64::max);
    if delay > 0.0 {
        let _ = writeln!(text, "failback_delay = {delay}");
    }
}

/// Seconds between the checks of applications: those of the most frequent one.
fn interval(routers: &[Router], nodes: &[Node<'_>]) -> Option<f64> {
    let checks = nodes.iter().flat_map(|node| node.machine.checks.values()).map(|check| check.interval);
    let any = routers.iter().any(|router| router.applications.iter().any(|application| application.ensure.is_some()));
    any.then(|| checks.fold(f64::INFINITY, f64::min)).filter(|interval| interval.is_finite())
}
