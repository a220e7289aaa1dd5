//! Files of keepalived made into a configuration: what keepalived itself takes is understood, and the result is what is expected.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use drcm::config::{Format, KeepalivedFile, Severity, from_keepalived, parse_cfg, parse_toml, render};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/keepalived")
}

/// The files of a directory, by name; or one file for the nodes that are named.
fn files(directory: &str, nodes: &[(&str, &str)]) -> Vec<KeepalivedFile> {
    let mut paths: Vec<PathBuf> = fs::read_dir(corpus().join(directory)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    paths.sort();
    let file = |path: &PathBuf, node: Option<&(&str, &str)>| KeepalivedFile {
        name: path.file_name().unwrap().to_str().unwrap().to_owned(),
        text: fs::read_to_string(path).unwrap(),
        node: node.map(|(name, address)| ((*name).to_owned(), address.parse().unwrap())),
    };
    match nodes {
        [] => paths.iter().map(|path| file(path, None)).collect(),
        nodes => nodes.iter().map(|node| file(&paths[0], Some(node))).collect(),
    }
}

/// With DRCM_WRITE_EXPECTED set it writes what is expected.
fn assert_expected(name: &str, files: &[KeepalivedFile]) {
    let converted = from_keepalived(files, Format::Toml).unwrap_or_else(|error| panic!("{name}: {error}"));
    parse_toml("t", &converted.text).unwrap();
    let said = format!("{}\n# Findings:\n{}\n", converted.text, render(&converted.findings));
    let path = corpus().join(format!("{name}.expected"));
    if env::var_os("DRCM_WRITE_EXPECTED").is_some() {
        fs::write(&path, &said).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), said, "{}", path.display());
    let cfg = from_keepalived(files, Format::Cfg).unwrap_or_else(|error| panic!("{name}: {error}"));
    parse_cfg("t", &cfg.text).unwrap();
}

#[test]
fn the_corpus_becomes_what_is_expected() {
    assert_expected("pair", &files("pair", &[]));
    assert_expected("trio", &files("trio", &[]));
    assert_expected("same", &files("same", &[("web1.example.com", "172.16.3.1"), ("web2.example.com", "172.16.3.2")]));
}

/// keepalived itself understands the files of the corpus. It may complain of what is not there, or not as it likes it.
#[test]
fn keepalived_takes_the_corpus() {
    const COMPLAINTS: [&str; 3] =
        ["due to insecure", "script_security not enabled", "preempt delay will not work with initial state MASTER"];
    for (file, id) in [("pair/lb1", "lb1"), ("pair/lb2", "lb2"), ("trio/gw1", "gw1"), ("trio/gw2", "gw2"), ("trio/gw3", "gw3")]
        .into_iter()
        .chain([("same/keepalived", "web1"), ("same/keepalived", "web2")])
    {
        let script = "ip link add eth0 type veth peer name peer0 && ip link add eth1 type veth peer name peer1 || exit 77
            ip address add 192.168.7.1/24 dev eth0; ip link set eth0 up; ip link set eth1 up
            exec keepalived --config-test --config-id=\"$2\" --use-file=\"$1\"";
        let mut asked = Command::new("unshare");
        asked.args(["--net", "--map-root-user", "sh", "-c", script, "sh"]).arg(corpus().join(format!("{file}.conf"))).arg(id);
        asked.env("PATH", format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default()));
        let output = asked.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(matches!(output.status.code(), Some(0 | 5 | 6)), "{file}: {:?}: {said}", output.status);
        let unknown: Vec<&str> = said.lines().filter(|line| !COMPLAINTS.iter().any(|known| line.contains(known))).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:#?}");
    }
}

fn two(first: &str, second: &str) -> Vec<KeepalivedFile> {
    let file = |name: &str, text: &str| KeepalivedFile { name: name.to_owned(), text: text.to_owned(), node: None };
    vec![file("one.conf", first), file("two.conf", second)]
}

fn instance(source: u8, peer: u8, more: &str) -> String {
    format!(
        "vrrp_instance A {{\ninterface eth0\nvirtual_router_id 9\nunicast_src_ip 10.0.0.{source}\nunicast_peer {{\n10.0.0.{peer}\n}}\n\
         virtual_ipaddress {{\n10.0.0.9/24\n}}\n{more}\n}}\n"
    )
}

#[test]
fn faults_are_named_with_their_line() {
    for (files, fault) in [
        (two(&instance(1, 2, ""), "vrrp_instance A {\n"), "ERROR: two.conf:1:1: the block `vrrp_instance` is never closed"),
        (
            two(&instance(1, 2, "priority x"), &instance(2, 1, "")),
            "ERROR: one.conf:11:10: `priority` is `x`, which is not a number from 1 to 255",
        ),
        (two(&instance(1, 3, ""), &instance(2, 1, "")), "ERROR: one.conf:6:1: no file is that of the peer 10.0.0.3"),
        (
            two(&instance(1, 2, ""), &instance(2, 1, "").replace(" 9\n", " 8\n")),
            "ERROR: two.conf:9:1: 10.0.0.9 is an address of the virtual router 8 here, and of 9 in one.conf",
        ),
        (two(&instance(1, 2, ""), "global_defs {\n}\n"), "ERROR: two.conf: there is no vrrp_instance in it"),
        (two("include conf.d/*.conf\n", &instance(2, 1, "")), "ERROR: one.conf:1:1: other files are not read"),
        (two(&instance(1, 2, ""), &instance(2, 1, ""))[..1].to_vec(), "ERROR: this is the file of one node"),
    ] {
        let error = from_keepalived(&files, Format::Toml).unwrap_err().to_string();
        assert!(error.contains(fault), "{fault}\n{error}");
    }
    let nameless = two(&instance(1, 2, "").replace("unicast_src_ip 10.0.0.1\n", ""), &instance(2, 1, ""));
    let converted = from_keepalived(&nameless, Format::Toml).unwrap();
    assert!(converted.text.contains("keep_alive_ip = \"10.0.0.1\""), "the other one knows it\n{}", converted.text);
    let nobody = instance(1, 2, "").replace("unicast_src_ip 10.0.0.1\nunicast_peer {\n10.0.0.2\n}\n", "");
    let error = from_keepalived(&two(&nobody, &nobody), Format::Toml).unwrap_err().to_string();
    assert!(
        error.contains("one.conf: the file does not say which address its node has") && error.contains("--node NAME=ADDRESS"),
        "{error}"
    );
}

#[test]
fn what_differs_between_the_files_is_told() {
    let first = instance(1, 2, "priority 100\ntrack_script {\nup\n}") + "vrrp_script up {\nscript /bin/true\nweight 5\n}\n";
    let second =
        instance(2, 1, "priority 100").replace("interface eth0", "interface ens3").replace("10.0.0.9/24", "10.0.0.9/24\n10.0.0.8/24");
    let converted = from_keepalived(&two(&first, &second), Format::Toml).unwrap();
    let said = render(&converted.findings);
    for word in [
        "has the priority 100 here and in two.conf",
        "10.0.0.9 is 10.0.0.9/24 on ens3 in two.conf, which counts everywhere",
        "10.0.0.8 is missing here",
        "`up` has the weight 5",
        "one.conf: its node is taken to be one, 10.0.0.1",
    ] {
        assert!(said.contains(word), "{word}\n{said}");
    }
    assert!(converted.findings.iter().all(|finding| finding.severity != Severity::Error));
}

/// The block of a document that begins with these words, without the indentation.
fn block(document: &str, begins: &str) -> String {
    let lines = document.lines().skip_while(|line| line.trim() != begins);
    lines.take_while(|line| line.is_empty() || line.starts_with("    ")).map(|line| format!("{}\n", line.trim_start())).collect()
}

#[test]
fn the_examples_of_the_documents_are_true() {
    let read = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap();
    let document = read("migrate-from-keepalived.md");
    let first = block(&document, "vrrp_script chk_haproxy {");
    let second =
        first.replace("150", "100").replace("10.0.0.1 ", "10.0.0.3 ").replace("10.0.0.2 ", "10.0.0.1 ").replace("10.0.0.3 ", "10.0.0.2 ");
    let mut files = two(&first, &second);
    files[0].name = "lb1.conf".to_owned();
    files[1].name = "lb2.conf".to_owned();
    let converted = from_keepalived(&files, Format::Toml).unwrap();
    assert!(document.contains(&format!("```toml\n{}```\n", converted.text)), "{}", converted.text);
    let document = read("migrate-from-heartbeat.md");
    let example = document.split("```ini\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let config = parse_cfg("t", example).unwrap_or_else(|report| panic!("{report}")).config;
    assert_eq!(config.groups.len(), 1, "all of it moves together");
}

/// Whatever it is given, it ends, and what it gives out is good.
#[test]
fn mutilated_files_do_no_harm() {
    let whole = fs::read_to_string(corpus().join("trio/gw1.conf")).unwrap();
    let other = fs::read_to_string(corpus().join("trio/gw2.conf")).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    for left_out in 0..lines.len() {
        let text: String = lines.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, line)| format!("{line}\n")).collect();
        let cut: String = whole.chars().take(left_out * whole.len() / lines.len()).collect();
        for text in [text, cut] {
            if let Ok(converted) = from_keepalived(&two(&text, &other), Format::Toml) {
                parse_toml("t", &converted.text).unwrap();
            }
        }
    }
}
