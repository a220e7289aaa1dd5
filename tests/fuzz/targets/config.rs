//! Configuration files: every text is read or refused with findings, and what is read can be used.

use std::{fs, process, sync::Arc, time::Duration};

use drcm::{
    cluster::{Node, Start},
    config::{Loaded, Report, Severity, check, parse_cfg, parse_toml, render},
    model::{BootId, Config, Event, Time},
};

use super::bytes::Bytes;

/// Nodes of a configuration that are started.
const NODES: usize = 4;
/// Timer events that each of them gets.
const TIMERS: usize = 8;

/// The text of a cm.cfg.
pub fn cfg(bytes: &[u8]) {
    judge(parse_cfg, "cm.cfg", &String::from_utf8_lossy(bytes));
}

/// The text of a cm.toml.
pub fn toml(bytes: &[u8]) {
    judge(parse_toml, "cm.toml", &String::from_utf8_lossy(bytes));
}

/// `--check-config` of a file; the first byte says of which format.
pub fn check_of_a_file(bytes: &[u8]) {
    let mut input = Bytes(bytes);
    let extension = ["cfg", "toml"][input.pick(2)];
    let path = std::env::temp_dir().join(format!("drcm-fuzz-check-{}.{extension}", process::id()));
    fs::write(&path, input.0).unwrap();
    let report = check(&path, Some("cmnode1"));
    fs::remove_file(&path).unwrap();
    let worst = report.findings.iter().map(|finding| finding.severity).min();
    assert_eq!(report.exit_code() == 1, worst == Some(Severity::Error));
    assert!(!report.to_string().is_empty());
}

fn judge(parse: fn(&str, &str) -> Result<Loaded, Report>, name: &str, text: &str) {
    match parse(name, text) {
        Ok(loaded) => {
            assert!(loaded.findings.iter().all(|finding| finding.severity != Severity::Error));
            let _ = render(&loaded.findings);
            let again = parse(name, text).expect("it could be read before");
            assert_eq!(loaded.config.fingerprint, again.config.fingerprint);
            use_it(&loaded.config);
        }
        Err(report) => {
            assert!(report.errors().next().is_some(), "refused without a word");
            assert!(!render(&report.findings).is_empty());
        }
    }
}

/// The core takes every configuration that can be read.
fn use_it(config: &Arc<Config>) {
    for group in &config.groups {
        let _ = group.title(config);
    }
    for me in config.nodes.iter().take(NODES) {
        let _ = config.peer_address(me);
        let mut now = Time(1);
        let mut node = Node::new(Arc::clone(config), me.id, BootId(7), Start { longest_lease: Duration::MAX, ..Start::default() }, now);
        for _ in 0..TIMERS {
            node.handle(Event::Timer, now);
            let next = node.deadline().0;
            assert!(next > now, "the core wants to be woken in the past");
            let _ = node.view(now);
            now = next;
        }
    }
}
