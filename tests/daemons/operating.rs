//! Every command that the documentation for operators shows, as it stands there, against real daemons; and `drcm watch` in a
//! terminal of its own.

use std::{
    io::{Read as _, Write as _},
    num::NonZero,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Instant,
};

use drcm::lab::{Lab, Plan, Port};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{BINARY, Cluster, LONG, ms, seconds};

const PEOPLE: &str = env!("CARGO_BIN_EXE_drcm");
const DOCUMENTS: [(&str, &str); 4] = [
    ("operating.md", include_str!("../../docs/operating.md")),
    ("json.md", include_str!("../../docs/json.md")),
    ("README.md", include_str!("../../README.md")),
    ("migrate-from-keepalived.md", include_str!("../../docs/migrate-from-keepalived.md")),
];
/// Where the documents say that the configuration is.
const INSTALLED: &str = "/etc/drcm/cm.cfg";

/// The commands of a document: in indented lines, with what they do behind them, or another command.
fn commands(text: &str) -> Vec<String> {
    let shown = text.lines().filter_map(|line| line.strip_prefix("    ")).flat_map(|line| line.split("  "));
    shown.map(str::trim).filter(|part| part.starts_with("drcm ") || part.starts_with("drcm_server ")).map(str::to_owned).collect()
}

#[test]
fn every_documented_command_does_what_it_should() {
    let mut cluster = Cluster::running(Plan { failback_delay: seconds(1), ..Plan::of(3) });
    cluster.wait_status(0, "a healthy cluster", |text| text.lines().last() == Some("Cluster status: HEALTHY"));
    let mut count = 0;
    for (document, text) in DOCUMENTS {
        for line in commands(text) {
            if line == "drcm watch" || line.contains("--follow") {
                // They do not end by themselves: see below, and told.rs.
                continue;
            }
            let node = cluster.lab.node(0);
            let config = node.config().display().to_string();
            let mut words = line.split_whitespace().map(|word| match word {
                INSTALLED => config.clone(),
                "cm.toml" | "cluster.toml" => node.home().join(format!("tmp/{document}-{word}")).display().to_string(),
                "lb1.conf" | "lb2.conf" => format!("{}/tests/corpus/keepalived/pair/{word}", env!("CARGO_MANIFEST_DIR")),
                other => other.to_owned(),
            });
            let mut command = Command::new(if words.next().as_deref() == Some("drcm") { PEOPLE } else { BINARY });
            command.args(words).arg(format!("--config-file={config}"));
            let said = node.command(command).unwrap();
            let good: &[i32] = match line.as_str() {
                // This machine's own: warnings are to be expected.
                "drcm check /etc/drcm/cm.cfg" | "drcm_server --check-config" => &[0, 2],
                // What it cannot carry over is told.
                other if other.contains("--from keepalived") => &[0, 2],
                // It may be on its way home.
                "drcm status --check" => &[0, 1],
                _ => &[0],
            };
            assert!(
                said.code.is_some_and(|code| good.contains(&code)),
                "{document}: {line}: {:?}\n{}{}",
                said.code,
                said.stdout,
                said.stderr
            );
            assert!(!said.stdout.is_empty() || line.contains(" -o "), "{document}: {line} says nothing");
            count += 1;
        }
    }
    assert!(count > 25, "{count} commands");
    let converted = cluster.lab.node(0).home().join("tmp/operating.md-cm.toml");
    let original = drcm::config::load(cluster.lab.node(0).config()).unwrap().config;
    assert_eq!(drcm::config::load(&converted).unwrap().config, original);
    cluster.assert_never_two();
}

#[test]
fn a_forecast_comes_true() {
    let mut cluster = Cluster::running(Plan::of(3));
    cluster.wait_status(0, "a healthy cluster", |text| text.lines().last() == Some("Cluster status: HEALTHY"));
    let mut command = Command::new(PEOPLE);
    command.arg(format!("--config-file={}", cluster.lab.node(1).config().display())).args(["what-if", "node", "node1"]);
    let said = cluster.lab.node(1).command(command).unwrap().stdout;
    assert!(said.contains("node1:service goes from node1 to node2, after 1.5 s"), "{said}");
    let outage = cluster.outage(1, |lab| lab.switch().cut(Port::Node(0)).unwrap());
    assert!(outage > ms(1200) && outage < ms(2300), "{outage:?}: {said}");
    let mut command = Command::new(PEOPLE);
    command.arg(format!("--config-file={}", cluster.lab.node(1).config().display())).args(["explain", "service"]);
    let said = cluster.lab.node(1).command(command).unwrap().stdout;
    assert!(said.contains("away from its home node1") && said.contains("waits for node1: it is down"), "{said}");
}

/// `drcm watch` in a terminal, and what it shows.
struct Watching {
    child: Child,
    keys: ChildStdin,
    parts: Receiver<Vec<u8>>,
    /// All that was written.
    shown: String,
    /// What it looks like now: a line that resembles the one before it is not written as a whole.
    screen: vt100::Parser,
}

impl Watching {
    fn start(lab: &Lab) -> Self {
        let inner = format!("echo PID=$$.; exec {PEOPLE} --config-file={} watch", lab.node(1).config().display());
        let outer = format!(
            "stty rows 24 cols 80; before=$(stty -g); TERM=xterm sh -c '{inner}'; echo CODE=$?.; test \"$(stty -g)\" = \"$before\" && echo SAME TERMINAL"
        );
        let mut child = lab
            .node(1)
            .namespace()
            .run(move || {
                let mut command = Command::new("script");
                command.args(["-q", "-c", &outer, "/dev/null"]);
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
            })
            .unwrap();
        let (mut output, keys) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        let (tell, parts) = sync_channel(64);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = output.read(&mut buffer) {
                if count == 0 || tell.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let size = |cells| NonZero::new(cells).unwrap();
        Self { child, keys, parts, shown: String::new(), screen: vt100::Parser::new(size(24), size(80), 0) }
    }

    fn until(&mut self, word: &str) {
        let end = Instant::now() + LONG;
        while !self.shown.contains(word) && !self.screen.screen().contents().contains(word) {
            let left = end.saturating_duration_since(Instant::now());
            let part =
                self.parts.recv_timeout(left).unwrap_or_else(|_| panic!("it never shows {word:?}:\n{}", self.screen.screen().contents()));
            self.screen.process(&part);
            self.shown.push_str(&String::from_utf8_lossy(&part));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// It ended with this code and gave the terminal back.
    fn ends(mut self, code: i32) {
        self.until("SAME TERMINAL");
        assert!(self.shown.contains(&format!("CODE={code}.")), "{:?}", self.shown);
        for (taken, given) in [("\u{1b}[?1049h", "\u{1b}[?1049l"), ("\u{1b}[?25l", "\u{1b}[?25h")] {
            assert!(self.shown.find(taken).unwrap() < self.shown.rfind(given).unwrap(), "{:?}", self.shown);
        }
        drop(self.keys);
        self.child.wait().unwrap();
    }
}

#[test]
fn watch_shows_the_cluster_moves_a_group_and_gives_the_terminal_back() {
    let mut cluster = Cluster::running(Plan { failback_delay: seconds(1), ..Plan::of(3) });
    cluster.wait_status(0, "a healthy cluster", |text| text.lines().last() == Some("Cluster status: HEALTHY"));
    let mut watching = Watching::start(&cluster.lab);
    watching.until("HEALTHY");
    watching.until("node1:service");
    let outage = cluster.outage(1, |_| {
        watching.press("m");
        watching.until("Move node1:service to");
        watching.press("\r");
        watching.until("Sure?");
        watching.press("y");
    });
    assert!(outage < ms(500), "{outage:?}");
    watching.until("went from node1 to node2");
    watching.until("node1:service: node1 to node2 in");
    watching.press("uy");
    cluster.wait_owner(0);
    watching.until("no longer: move");
    watching.press("q");
    watching.ends(0);

    let mut watching = Watching::start(&cluster.lab);
    watching.until("HEALTHY");
    let after = watching.shown.split("PID=").nth(1).unwrap();
    let pid: i32 = after.split('.').next().unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    watching.ends(0);
    cluster.assert_never_two();
}

#[test]
fn watch_without_a_terminal_says_so() {
    let said = Command::new(PEOPLE).arg("watch").stdin(Stdio::null()).output().unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&said.stderr).contains("drcm status"), "{said:?}");
}
