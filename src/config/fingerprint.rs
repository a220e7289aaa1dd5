//! What must agree between the nodes of a cluster, as a hash.

use std::time::Duration;

use crate::model::{Driver, Fingerprint, Kind, NodeConfig, Options, Resource, Server, Spec};

use super::words::Word as _;

/// The fingerprint of a configuration. Comments, white space, the format of the file and what is a node's own business
/// (logs, directories, users) do not enter. The rendering is part of the protocol: between versions it must stay the same.
pub(super) fn fingerprint(server: &Server, nodes: &[NodeConfig], resources: &[Resource]) -> Fingerprint {
    Fingerprint::of(&canonical(server, nodes, resources))
}

fn canonical(server: &Server, nodes: &[NodeConfig], resources: &[Resource]) -> String {
    let mut text = String::new();
    let mut line = |words: &[&str]| {
        for word in words {
            // Length before each word: no two configurations have the same rendering.
            push_number(&mut text, word.len());
            text.push(':');
            text.push_str(word);
            text.push(' ');
        }
        text.push('\n');
    };
    line(&[
        "server",
        &server.udpport.to_string(),
        &server.tcpport.to_string(),
        &micros(server.keep_alive_interval),
        &server.dead_node_count.to_string(),
        server.quorum.word(),
        server.no_quorum.word(),
        server.failback.word(),
        &micros(server.failback_delay),
        server.takeover.word(),
        &micros(server.stop_timeout),
        &server.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
    ]);
    for node in nodes {
        line(&[
            "node",
            &node.name,
            &node.hostname,
            &node.keep_alive_ip.to_string(),
            flag(node.active),
            flag(node.voter),
            node.transport.word(),
            flag(node.keep.services),
            flag(node.keep.filesystems),
            flag(node.keep.applications),
        ]);
        // Said only where it differs, so that a cluster without has the fingerprint it always had.
        if node.pace != server.pace() {
            line(&["pace", &micros(node.pace.interval), &node.pace.count.to_string()]);
        }
        for interval in Kind::ALL.map(|kind| node.checks.of(kind)) {
            line(&["check", &micros(interval)]);
        }
        for id in &node.primary {
            line(&["primary", id.kind.word(), &id.nickname]);
        }
        for assignment in &node.backup {
            let home = assignment.home.to_string();
            line(&["backup", &home, assignment.resource.kind.word(), &assignment.resource.nickname]);
        }
    }
    let mut numbers: Option<(&Options, [String; 6])> = None;
    // The order of the sections is free in cm.cfg; the order within one is that in which a group starts.
    for kind in Kind::ALL {
        for resource in resources.iter().filter(|resource| resource.id.kind == kind) {
            let options = &resource.options;
            // Mostly those of the one before.
            let rendered = numbers.take().filter(|(of, _)| *of == options).unwrap_or_else(|| (options, self::numbers(options)));
            let [start, stop, check, limit, window, order] = &rendered.1;
            line(&[
                "resource",
                kind.word(),
                &resource.id.nickname,
                match &resource.driver {
                    Driver::Native => "native",
                    Driver::Script(path) => path.to_str().unwrap_or_default(),
                },
                start,
                stop,
                check,
                limit,
                window,
                order,
                options.mount_options.as_deref().unwrap_or_default(),
            ]);
            numbers = Some(rendered);
            let words = spec(&resource.spec);
            line(&words.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    text
}

fn numbers(options: &Options) -> [String; 6] {
    [
        micros(options.start_timeout),
        micros(options.stop_timeout),
        micros(options.check_timeout),
        options.restart_limit.to_string(),
        micros(options.restart_window),
        options.order.to_string(),
    ]
}

fn micros(span: Duration) -> String {
    span.as_micros().to_string()
}

/// In decimal, without the machinery of formatting: it is written before each of a hundred thousand words.
fn push_number(text: &mut String, number: usize) {
    if number >= 10 {
        push_number(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

fn spec(spec: &Spec) -> Vec<String> {
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    match spec {
        Spec::FileSystem(file_system) => vec![file_system.source.clone(), path(&file_system.target)],
        Spec::Address(address) => {
            let interface = address.interface.label.as_ref().unwrap_or(&address.interface.device);
            vec![address.ip.to_string(), address.prefix.to_string(), interface.clone()]
        }
        Spec::Service(service) => vec![service.name.clone()],
        Spec::Application(application) => {
            let ensure = application.ensure.clone().unwrap_or_default();
            vec![application.user.clone(), application.group.clone(), application.start.clone(), application.stop.clone(), ensure]
        }
        Spec::Crontab(crontab) => vec![path(&crontab.template), path(&crontab.install_dir)],
    }
}

const fn flag(yes: bool) -> &'static str {
    if yes { "1" } else { "0" }
}
