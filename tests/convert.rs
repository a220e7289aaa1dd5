//! Conversion between cm.cfg and cm.toml: whatever is converted means the same, and what cannot be said is refused.

use std::{fmt::Write as _, fs, path::Path};

use drcm::{
    config::{CFG_TEMPLATE, ConvertError, Format, TOML_TEMPLATE, convert, parse_cfg, parse_toml},
    model::{Config, Resource},
};
use proptest::prelude::*;

fn parsed(text: &str, format: Format) -> Config {
    let loaded = match format {
        Format::Cfg => parse_cfg("t", text),
        Format::Toml => parse_toml("t", text),
    };
    Config::clone(&loaded.unwrap_or_else(|report| panic!("{report}\n{text}")).config)
}

const fn other(format: Format) -> Format {
    match format {
        Format::Cfg => Format::Toml,
        Format::Toml => Format::Cfg,
    }
}

/// The order of resources of different kinds means nothing.
fn comparable(mut config: Config) -> Config {
    config.resources.sort_by_key(|resource: &Resource| resource.id.kind);
    config
}

fn assert_same(text: &str, from: Format) -> String {
    let converted = convert("t", text, from, other(from)).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(comparable(parsed(text, from)), comparable(parsed(&converted, other(from))), "{text}\n{converted}");
    converted
}

#[test]
fn the_templates_and_every_good_file_of_the_corpus_go_there_and_back() {
    let mut files = vec![(CFG_TEMPLATE.to_owned(), Format::Cfg), (TOML_TEMPLATE.to_owned(), Format::Toml)];
    for directory in ["tests/corpus/config", "etc"] {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let format = match path.extension().and_then(|extension| extension.to_str()) {
                Some("cfg") => Format::Cfg,
                Some("toml") => Format::Toml,
                _ => continue,
            };
            if directory == "etc" || name.starts_with("good_") {
                files.push((fs::read_to_string(&path).unwrap(), format));
            }
        }
    }
    assert!(files.len() > 6, "{}", files.len());
    for (text, format) in files {
        match convert("t", &text, format, other(format)) {
            Ok(converted) => {
                assert_same(&text, format);
                assert_same(&converted, other(format));
            }
            Err(ConvertError::NoWords { .. }) if format == Format::Toml => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A comment of the template stands in the result.
#[test]
fn comments_survive() {
    let converted = convert("t", CFG_TEMPLATE, Format::Cfg, Format::Toml).unwrap();
    let comments = |text: &str| text.lines().filter(|line| line.trim_start().starts_with('#')).count();
    assert!(comments(&converted) + 2 >= comments(CFG_TEMPLATE), "{converted}");
}

/// Text of a field: anything that people put into shell text and comments into files.
fn shell() -> impl Strategy<Value = String> {
    "[a-z~/][a-zA-Z0-9 #;'\"\\\\\\[\\]~/.$&|=:{}é-]{0,30}[a-z0-9]"
}

fn nickname() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_. #é'-]{0,10}[a-z0-9]"
}

prop_compose! {
    fn cluster()(
        nicknames in proptest::collection::btree_set(nickname(), 1..8),
        commands in proptest::collection::vec((shell(), shell(), proptest::option::of(shell())), 8),
        masks in proptest::collection::vec(8_u8..=32, 8),
        labels in proptest::collection::vec(any::<bool>(), 8),
        server in proptest::collection::vec(0_usize..SERVER.len(), 0..6),
        numbers in proptest::collection::vec(1_u32..1000, 6),
        nodes in 1_usize..9,
        remark in "[a-zA-Z0-9 #\"'\\[=]{0,20}",
        flags in proptest::collection::vec(any::<bool>(), 8),
        votes in proptest::collection::vec(proptest::option::of(any::<bool>()), 9),
    ) -> String {
        let mut text = format!("# {remark}\n[CM_SERVER] # {remark}\n");
        for (index, key) in server.iter().enumerate() {
            let (name, values) = SERVER[*key];
            let value = values[numbers[index % 6] as usize % values.len()];
            let _ = writeln!(text, "{name} = {value} # {remark}");
        }
        let escape = |value: &str| value.replace('#', "\\#");
        let names: Vec<String> = nicknames.iter().map(|name| escape(name)).collect();
        text += "[CM_APPLICATIONS]\n";
        for (name, (start, stop, ensure)) in names.iter().zip(&commands) {
            let ensure = ensure.as_ref().map_or_else(String::new, |ensure| format!(", {}", escape(ensure)));
            let _ = writeln!(text, "# {remark}\n{name}, root:root, {}, {}{ensure}", escape(start), escape(stop));
        }
        text += "[CM_IPADDRS]\n";
        for (index, name) in names.iter().enumerate() {
            let label = if labels[index] { ":1" } else { "" };
            let script = if flags[index] { ", /opt/own.sh" } else if labels[index] { ", /etc/drcm/resources/ipv4addr.sh" } else { "" };
            let _ = writeln!(text, "{name}, 10.1.0.{}, {}, eth0{label}{script}", index + 1, masks[index]);
        }
        text += "[CM_FILESYSTEMS]\n";
        for (index, name) in names.iter().enumerate() {
            let source = if flags[index] { "//host/share" } else { "host:/dir" };
            let script = if labels[index] { ", /etc/drcm/resources/cifs.sh".replace("cifs", if flags[index] { "cifs" } else { "nfs" }) } else { String::new() };
            let _ = writeln!(text, "{name}, {source}{index}, /mnt/{index}{script} # {remark}");
        }
        for node in 0..nodes {
            let own: Vec<&str> = names.iter().enumerate().filter(|(index, _)| index % nodes == node).map(|(_, name)| name.as_str()).collect();
            let other: Vec<String> =
                names.iter().enumerate().filter(|(index, _)| nodes > 1 && (index + 1) % nodes == node && index % nodes != node).map(|(index, name)| format!("n{}:{name}", index % nodes)).collect();
            let _ = writeln!(
                text,
                "# {remark}\n[CM_NODE] # {remark}\nnodename = n{node}\nhostname = n{node}.example.com\nkeep_alive_ip = 10.0.0.{}\nnode_applications = {}\n\
                 node_floating_ip_addrs = {}\nnode_backup_floating_ip_addrs = {}\nnode_filesystems = {}\nnode_backup_filesystems = {}\nkeep_services = {}",
                node + 1, own.join(","), own.join(" , "), other.join(","), own.join(","), other.join(","), if flags[node % 8] { "yes" } else { "0" }
            );
            if let Some(vote) = votes[node].filter(|vote| *vote || node > 0) {
                let _ = writeln!(text, "voter = {}", u8::from(vote));
            }
        }
        text
    }
}

const SERVER: [(&str, &[&str]); 10] = [
    ("udpport", &["4000", "53897", "\"4001\""]),
    ("dead_node_count", &["60;", "15", "20 ;"]),
    ("failback_delay", &["2.5", "10", "0"]),
    ("enable_logging", &["yes", "0", "TRUE", "f"]),
    ("quorum", &["auto", "Majority", "none"]),
    ("cluser_mask", &["027", "022", "77"]),
    ("logfile_name", &["a.log", "x/y.log"]),
    ("sudo_command", &["sudo su root -c", "\"sudo\" -n", "doas"]),
    ("gateway", &["10.0.0.254", ""]),
    ("start_timeout", &["30", "1.5", "007"]),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_converted_means_the_same_and_comes_back(text in cluster()) {
        // Chance may make what is no configuration: that is refused, and none of our business here.
        if parse_cfg("t", &text).is_ok() {
            let toml = assert_same(&text, Format::Cfg);
            let cfg = assert_same(&toml, Format::Toml);
            prop_assert_eq!(comparable(parsed(&text, Format::Cfg)), comparable(parsed(&cfg, Format::Cfg)));
            // Converted twice nothing changes any more; where comments stand, and a table that holds nothing else, do not matter.
            let says = |line: &&str| !line.is_empty() && !line.starts_with('#') && *line != "[server]";
            let lines = |text: &str| text.lines().filter(says).map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(lines(&toml), lines(&convert("t", &toml, Format::Toml, Format::Toml).unwrap()));
        }
    }
}
