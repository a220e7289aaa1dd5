//! The configuration as an administrator meets it: a corpus of good and bad files with what is said of each, hostile
//! input, size, and the check of a host.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use drcm::{
    config::{self, CFG_TEMPLATE, Loaded, Report, Severity, TOML_TEMPLATE, render},
    model::Config,
};
use proptest::prelude::*;

const CORPUS: &str = "tests/corpus/config";

fn corpus() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(CORPUS).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "cfg" || extension == "toml"));
    files.sort();
    assert!(files.len() > 15);
    files
}

/// What a configuration means, for people: voters, groups and drivers.
fn meaning(config: &Config) -> String {
    let mut text = String::new();
    let name = |id| config.name(id);
    let voters: Vec<String> = config.voters().map(name).collect();
    writeln!(text, "voters: {}", voters.join(" ")).unwrap();
    for group in &config.groups {
        let candidates: Vec<String> = group.candidates.iter().map(|id| name(*id)).collect();
        let members: Vec<String> = group.assignments.iter().map(|member| member.resource.to_string()).collect();
        writeln!(text, "group: {} on {}", members.join(" "), candidates.join(" ")).unwrap();
    }
    for resource in &config.resources {
        writeln!(text, "resource: {} {:?} {:?}", resource.id, resource.driver, resource.spec).unwrap();
    }
    text
}

fn outcome(result: &Result<Loaded, Report>) -> String {
    match result {
        Ok(loaded) => format!("{}\n---\n{}", render(&loaded.findings), meaning(&loaded.config)),
        Err(report) => format!("{report}\n"),
    }
}

/// Every file of the corpus gives exactly the findings beside it. With DRCM_WRITE_EXPECTED set they are written instead,
/// to be read before they are committed.
#[test]
fn the_corpus_is_judged_as_expected() {
    let write = std::env::var_os("DRCM_WRITE_EXPECTED").is_some();
    let mut different = Vec::new();
    for path in corpus() {
        let result = config::load(&path);
        let bad = path.file_name().unwrap().to_str().unwrap().starts_with("bad_");
        assert_eq!(result.is_err(), bad, "{}: {}", path.display(), outcome(&result));
        if let Err(report) = &result {
            assert!(report.errors().count() > 0);
        }
        let mut expected_path = path.clone().into_os_string();
        expected_path.push(".expected");
        let said = outcome(&result);
        if write {
            fs::write(&expected_path, &said).unwrap();
        } else if fs::read_to_string(&expected_path).unwrap_or_default() != said {
            different.push(format!("{} now says:\n{said}", path.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn the_examples_are_good_and_those_in_toml_describe_the_same_clusters() {
    let mut configs = Vec::new();
    for name in ["etc/cm_2_node_example.cfg", "etc/cm_4_node_example.cfg", "etc/cm_4_node_example.toml", "etc/cm_2_node_example.toml"] {
        let loaded = config::load(Path::new(name)).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(loaded.findings, [], "{name}");
        configs.push(loaded.config);
    }
    let far = config::load(Path::new("etc/cm_2_datacenters_example.cfg")).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(far.findings, [], "the example of two data centres");
    let test = config::load(Path::new("etc/cm_4_node_test.cfg")).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(test.findings, [], "the test applications");
    let members = |config: &Config| {
        let mut groups: Vec<_> = config.groups.iter().map(|group| (group.id, group.candidates.clone())).collect();
        groups.sort_by_key(|(id, _)| *id);
        groups
    };
    assert_eq!(members(&configs[1]), members(&configs[2]));
    assert_eq!(members(&configs[0]), members(&configs[3]));
    assert_eq!(configs[0].resources, configs[3].resources);
    let database = configs[2].groups.iter().find(|group| group.title(&configs[2]).contains("tables")).unwrap();
    let kinds: Vec<&str> = database.assignments.iter().map(|member| member.resource.nickname.as_str()).collect();
    assert_eq!(kinds, ["tables", "database", "feed", "backup_jobs", "database", "database6"]);
}

#[test]
fn files_that_cannot_be_read_are_said_to_be_so() {
    let dir = Scratch::new("unreadable");
    let said = |path: &Path| config::load(path).unwrap_err().to_string();
    assert!(said(&dir.path("missing.cfg")).contains("does not exist"));
    assert!(said(&dir.0).contains("is a directory"));
    assert!(said(Path::new("/dev/zero")).contains("not a regular file"));
    let huge = dir.path("huge.cfg");
    fs::File::create(&huge).unwrap().set_len(config::MAX_FILE + 1).unwrap();
    assert!(said(&huge).contains("larger than"));
    let fifo = dir.path("fifo.cfg");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(said(&fifo).contains("not a regular file"));
    let line = dir.path("line.cfg");
    fs::write(&line, format!("[CM_SERVER]\nlog_dir = /{}\n", "x".repeat(2_000_000))).unwrap();
    assert!(said(&line).contains("longer than"));
    let zeros = dir.path("zeros.cfg");
    fs::File::create(&zeros).unwrap().set_len(1_000).unwrap();
    assert!(said(&zeros).contains("NUL"));
}

#[test]
fn a_file_of_garbage_is_answered_with_few_findings_and_fast() {
    let text = "[CM_NODE]\nnode_crontabs = ".to_owned() + &"nonsense,".repeat(100_000) + "\n" + &"x\n".repeat(1_000_000);
    let begin = Instant::now();
    let report = config::parse_cfg("cm.cfg", &text).unwrap_err();
    assert!(report.findings.len() < 1_000);
    assert!(report.findings.iter().any(|finding| finding.message.contains("more findings")));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

/// `count` floating addresses at home on the nodes in turn, each with the next node as backup.
fn large(count: usize, nodes: usize, toml: bool) -> String {
    let mut text = String::new();
    let address = |index: usize| format!("10.{}.{}.{}", 1 + index / 60_000, index / 250 % 240, 1 + index % 250);
    if !toml {
        text.push_str("[CM_IPADDRS]\n");
    }
    for index in 0..count {
        let ip = address(index);
        if toml {
            write!(text, "[addresses.address{index}]\nip = \"{ip}\"\nnetmask = 16\ninterface = \"eth0\"\n").unwrap();
        } else {
            writeln!(text, "address{index}, {ip}, 255.255.0.0, eth0, /etc/drcm/resources/ipv4addr.sh").unwrap();
        }
    }
    for node in 0..nodes {
        let quote = if toml { "\"" } else { "" };
        let list = |of: usize, home: &str| {
            let names: Vec<String> =
                (0..count).filter(|index| index % nodes == of).map(|index| format!("{quote}{home}address{index}{quote}")).collect();
            names.join(",")
        };
        let (own, backup) = (list(node, ""), list((node + 1) % nodes, &format!("node{}:", (node + 1) % nodes)));
        if toml {
            write!(text, "[[node]]\nnodename = \"node{node}\"\nhostname = \"host{node}\"\nkeep_alive_ip = \"192.168.0.{}\"\n", node + 1)
                .unwrap();
            write!(text, "addresses = [{own}]\nbackup_addresses = [{backup}]\n").unwrap();
        } else {
            write!(text, "[CM_NODE]\nnodename = node{node}\nhostname = host{node}\nkeep_alive_ip = 192.168.0.{}\n", node + 1).unwrap();
            write!(text, "node_floating_ip_addrs = {own}\nnode_backup_floating_ip_addrs = {backup}\n").unwrap();
        }
    }
    text
}

/// What this thread has used of a processor: unlike the time on the wall it does not depend on the machine's other work.
fn processor_time() -> Duration {
    Duration::from(nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap())
}

#[test]
fn ten_thousand_resources_are_read_at_once() {
    for toml in [false, true] {
        let text = large(10_000, 5, toml);
        let begin = processor_time();
        let loaded =
            if toml { config::parse_toml("t", &text) } else { config::parse_cfg("t", &text) }.unwrap_or_else(|report| panic!("{report}"));
        let took = processor_time() - begin;
        println!("toml {toml}: {took:?}");
        assert_eq!(loaded.config.resources.len(), 10_000);
        assert_eq!(loaded.config.groups.len(), 5);
        // An optimised build takes some ten milliseconds; this bound catches what is quadratic, not a busy machine.
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

#[test]
fn what_must_agree_makes_the_fingerprint_and_nothing_else() {
    let of = |text: &str| config::parse_cfg("t", text).unwrap_or_else(|report| panic!("{report}")).config.fingerprint;
    let base = of(CFG_TEMPLATE);
    assert_eq!(base, config::parse_toml("t", TOML_TEMPLATE).unwrap().config.fingerprint);
    // Part of the protocol: nodes of different versions compare it.
    assert_eq!(base.to_string(), "555302f58470aa10");
    let changed = |from: &str, to: &str| {
        assert!(CFG_TEMPLATE.contains(from), "{from}");
        of(&CFG_TEMPLATE.replacen(from, to, 1))
    };
    for (from, to) in [
        ("log_level = 1 ", "log_level = 3 "),
        ("# Every node", "# Each node"),
        ("udpport = 53897", "UDPPORT=53897;"),
        ("/var/log/drcm", "/srv/log"),
        ("255.255.255.0, eth0:1", "24 ,eth0:1"),
    ] {
        assert_eq!(changed(from, to), base, "{from}");
    }
    for (from, to) in [
        ("dead_node_count = 15", "dead_node_count = 16"),
        ("quorum = auto", "quorum = none"),
        ("192.168.122.180", "192.168.122.181"),
        ("hostname = cmnode2.example.com", "hostname = cmnode2.example.net"),
        ("cmnode1:entry", ""),
        ("failback_delay = 10", "failback_delay = 11"),
    ] {
        assert_ne!(changed(from, to), base, "{from}");
    }
}

/// A directory for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("drcm-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Auth files as the documented commands make them.
    fn auth(&self) -> PathBuf {
        let dir = self.path("auth");
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        let commands = format!(
            "cd '{}' && dd if=/dev/urandom bs=1024 count=2 2>/dev/null > authkey && sha1sum authkey | cut -b1-40 > authkey.sha1 && chmod 600 authkey authkey.sha1",
            dir.display()
        );
        assert!(std::process::Command::new("sh").args(["-c", &commands]).status().unwrap().success());
        dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn check_writes_the_template_once_and_then_judges_it() {
    let dir = Scratch::new("template");
    let auth = dir.auth();
    let path = dir.path("cm.cfg");
    let first = config::check(&path, None);
    assert_eq!(first.exit_code(), 2);
    assert!(first.to_string().starts_with("WARNING: "), "{first}");
    assert_eq!(fs::read_to_string(&path).unwrap(), CFG_TEMPLATE);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);

    let set = |from: &str, to: &str| fs::write(&path, fs::read_to_string(&path).unwrap().replace(from, to)).unwrap();
    set("/etc/drcm/.auth", auth.to_str().unwrap());
    set("eth0", "lo");
    let good = config::check(&path, Some("cmnode1"));
    assert_eq!(good.exit_code(), 0, "{good}");
    let text = good.to_string();
    assert!(
        text.contains(
            "INFO: address entry: native driver, group cmnode1:entry, lease 1.5 s, takeover prompt, ends with the kernel's address lifetime"
        ),
        "{text}"
    );
    assert!(text.contains("is good (3 nodes, 3 voters, 1 resource in 1 group"), "{text}");
    assert!(text.lines().last().unwrap().starts_with("INFO: "));

    let elsewhere = config::check(&path, None);
    assert_eq!(elsewhere.exit_code(), 2, "{elsewhere}");
    assert_eq!(config::check(&path, Some("cmnode9")).exit_code(), 1);
    set("lo:1", "nolink0:1");
    let no_interface = config::check(&path, Some("cmnode2.example.com"));
    assert!(no_interface.exit_code() == 2 && no_interface.to_string().contains("no interface `nolink0`"), "{no_interface}");
    set("192.168.122.184", "192.168.122.183");
    let broken = config::check(&path, Some("cmnode1"));
    assert!(broken.exit_code() == 1 && broken.to_string().lines().last().unwrap().starts_with("ERROR: "), "{broken}");

    let nowhere = config::check(&dir.path("none/cm.toml"), None);
    assert!(nowhere.exit_code() == 1 && nowhere.to_string().contains("mkdir -p"), "{nowhere}");
}

#[test]
fn check_says_what_a_host_lacks() {
    let dir = Scratch::new("host");
    let auth = dir.auth();
    fs::set_permissions(auth.join("authkey"), fs::Permissions::from_mode(0o644)).unwrap();
    let script = dir.path("mine.sh");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    let path = dir.path("cm.toml");
    fs::write(
        &path,
        format!(
            r#"
            [server]
            auth_dir = "{auth}"
            keep_alive_interval = 10
            dead_node_count = 3
            cluster_group = "no-such-group"
            [crontabs.jobs]
            template = "{dir}/jobs.cron"
            install_dir = "/etc/cron.d"
            [services.web]
            service = "httpd"
            script = "{script}"
            [applications.feed]
            run_as = "no-such-user:no-such-group"
            start = "a"
            stop = "b"
            [filesystems.data]
            source = "LABEL=no-such-label"
            target = "/d"
            mount_options = "ro"
            [addresses.entry]
            ip = "10.0.0.9/24"
            interface = "lo"
            [[node]]
            nodename = "a"
            hostname = "a"
            keep_alive_ip = "10.0.0.1"
            crontabs = ["jobs"]
            services = ["web"]
            applications = ["feed"]
            addresses = ["entry"]
            filesystems = ["data"]
            [[node]]
            nodename = "b"
            hostname = "b"
            keep_alive_ip = "10.0.0.2"
            transport = "tcp"
            backup_crontabs = ["a:jobs"]
            backup_addresses = ["a:entry"]
            "#,
            auth = auth.display(),
            dir = dir.0.display(),
            script = script.display(),
        ),
    )
    .unwrap();
    let report = config::check(&path, Some("a"));
    let text = report.to_string();
    assert_eq!(report.exit_code(), 1);
    for expected in [
        "authkey has mode 0644",
        "no group `no-such-group`",
        "jobs.cron is missing",
        "many crons pass over a file of the name `jobs.cron`",
        "mine.sh is not executable",
        "application feed: this host has no user `no-such-user`",
        "file system data: this host has no /dev/disk/by-label/no-such-label",
        "file system data: native driver",
        "WARNING: two voters",
        "INFO: node b: transport = tcp: heartbeats to and from it go by TCP port 53897, every 10 ms or more",
        "WARNING: node b: by TCP, a lost packet can hold up",
        "(a witness)",
        "INFO: the lease is 0.03 s",
        "so it is 1 s",
        "INFO: takeover = prompt",
        "INFO: crontab jobs: native driver, group a:entry+jobs, lease 0.03 s, takeover prompt, ends with its stop",
        "on a only, no lease",
    ] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
    // Node b is no candidate for the service, and so does not need its script.
    assert!(!config::check(&path, Some("b")).to_string().contains("mine.sh is not"));
    assert!(report.findings.iter().all(|finding| !finding.message.contains('\n')));
}

fn harmless(result: Result<Loaded, Report>) {
    match result {
        Ok(loaded) => assert!(loaded.findings.iter().all(|finding| finding.severity != Severity::Error)),
        Err(report) => assert!(report.errors().count() > 0 && !report.to_string().is_empty()),
    }
}

/// A text with some of its bytes replaced, removed or repeated.
fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let edit = (
        0..text.len(),
        0..4_usize,
        prop_oneof![Just("\""), Just(","), Just("="), Just("#"), Just("["), Just(":"), Just("\\"), Just("é"), Just("9"), Just("\n")],
        0..40_usize,
    );
    prop::collection::vec(edit, 1..30).prop_map(move |edits| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, what, insert, length) in edits {
            let at = at.min(bytes.len());
            let end = (at + length).min(bytes.len());
            match what {
                0 => drop(bytes.drain(at..end)),
                1 => drop(bytes.splice(at..at, insert.bytes())),
                2 => drop(bytes.splice(at..end, insert.bytes())),
                _ => {
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..400), toml in any::<bool>()) {
        let text = String::from_utf8_lossy(&bytes);
        harmless(if toml { config::parse_toml("t", &text) } else { config::parse_cfg("t", &text) });
    }

    #[test]
    fn no_words_do_harm(words in prop::collection::vec(prop_oneof![
        Just("[CM_NODE]\n"), Just("[CM_SERVER]\n"), Just("[CM_IPADDRS]\n"), Just("[CM_APPLICATIONS]\n"), Just("[[node]]\n"), Just("[services.a]\n"),
        Just("nodename"), Just("voter"), Just("node_services"), Just("node_backup_services"), Just(" = "), Just("a"), Just("a:a"), Just(","), Just("\n"),
        Just("\""), Just("#"), Just("1"), Just("\\"), Just("ü"), Just("99999999999999999999999"), Just("fd00::1"), Just("{"), Just("]"),
    ], 0..80), toml in any::<bool>()) {
        let text = words.concat();
        harmless(if toml { config::parse_toml("t", &text) } else { config::parse_cfg("t", &text) });
    }

    #[test]
    fn no_change_of_a_cfg_does_harm(text in mutated(CFG_TEMPLATE)) {
        harmless(config::parse_cfg("t", &text));
    }

    #[test]
    fn no_change_of_a_toml_does_harm(text in mutated(TOML_TEMPLATE)) {
        harmless(config::parse_toml("t", &text));
    }
}
