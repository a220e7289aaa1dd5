//! The client commands against real daemons: answers, exit codes, and how long they take when a node is dead.

use std::fs;

use drcm::lab::{Plan, Said};

use super::{Cluster, END, ms, seconds};

/// One dead node may not make a command wait longer than this; starting the program included.
const PATIENCE: std::time::Duration = ms(1500);

fn healthy(plan: Plan) -> Cluster {
    let mut cluster = Cluster::running(plan);
    cluster.wait_status(0, "a healthy cluster", |text| text.lines().last() == Some("Cluster status: HEALTHY"));
    cluster
}

fn ask(cluster: &Cluster, node: usize, arguments: &[&str]) -> Said {
    let said = cluster.lab.node(node).client(arguments).unwrap();
    assert!(said.took < PATIENCE, "{arguments:?} took {:?}: {}", said.took, said.stdout);
    said
}

#[test]
fn every_node_reports_the_same_cluster() {
    let cluster = healthy(Plan::of(3));
    for node in 0..3 {
        let said = ask(&cluster, node, &["--command=cm_stat"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert_eq!(said.stdout.lines().last(), Some("Cluster status: HEALTHY"), "{}", said.stdout);
        let service = said.stdout.lines().find(|line| line.contains("service")).unwrap();
        assert!(service.contains("node1.lab") && service.contains("OK-Normal"), "{service}");
        assert!(said.stdout.contains("10.77.0.100"), "{}", said.stdout);
        for (name, ip) in [("node1", "10.77.0.1"), ("node2", "10.77.0.2"), ("node3", "10.77.0.3")] {
            assert!(said.stdout.lines().any(|line| line.starts_with(name) && line.contains("Up") && line.contains(ip)), "{}", said.stdout);
        }
    }
}

#[test]
fn nodes_ask_each_other_from_the_address_that_firewalls_know_them_by() {
    let mut cluster = healthy(Plan::of(3));
    // An address of a narrower network: the kernel would ask from it.
    let nearer = cluster.shell(0, "ip address add 10.77.0.99/25 dev eth0 && ip route get 10.77.0.2");
    assert!(nearer.stdout.contains("src 10.77.0.99"), "{nearer:?}");
    for node in [1, 2] {
        let strict = cluster.shell(
            node,
            "nft 'add table inet strict; add chain inet strict in { type filter hook input priority 0; }; \
             add rule inet strict in tcp dport 53897 ip saddr != { 10.77.0.1, 10.77.0.2, 10.77.0.3 } drop'",
        );
        assert_eq!(strict.code, Some(0), "{strict:?}");
    }
    let said = ask(&cluster, 0, &["--command=cm_stat"]);
    assert_eq!(said.stdout.lines().last(), Some("Cluster status: HEALTHY"), "{}", said.stdout);
    // Without its daemon the client asks the others itself.
    cluster.lab.node_mut(0).stop(END).unwrap();
    let said = ask(&cluster, 0, &["--command=cm_stat"]);
    assert!(said.stdout.contains("seen from node"), "{}{}", said.stdout, said.stderr);
}

#[test]
fn raw_statistics_keep_the_framing_that_scripts_cut_up() {
    let cluster = healthy(Plan::of(3));
    let said = ask(&cluster, 2, &["--command=rstats"]);
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[0], "rstats node1@10.77.0.1 successful");
    assert!(lines[1].starts_with("ip:service,"), "{}", said.stdout);
    assert_eq!(lines[2], "rstats node1@10.77.0.1 end");
    assert_eq!(lines[3..6], ["rstats node2@10.77.0.2 successful", "No CM resources started", "rstats node2@10.77.0.2 end"]);
    let only = ask(&cluster, 2, &["--command=rstats", "-nnode1"]);
    assert_eq!(only.stdout.lines().count(), 3, "{}", only.stdout);
}

#[test]
fn ping_tells_who_answers() {
    let mut cluster = healthy(Plan::of(3));
    let said = ask(&cluster, 0, &["--command=ping"]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    for node in ["node1@10.77.0.1", "node2@10.77.0.2", "node3@10.77.0.3"] {
        assert!(said.stdout.contains(&format!("ping {node} successful")), "{}", said.stdout);
    }
    assert_eq!(ask(&cluster, 0, &["--command=ping", "-nnode2"]).code, Some(0));
    assert_eq!(ask(&cluster, 0, &["--command=ping", "-nnode2.lab"]).code, Some(0));
    assert_eq!(ask(&cluster, 0, &["--command=ping", "-n10.77.0.3"]).code, Some(0));
    assert_eq!(ask(&cluster, 0, &["--command=ping", "-nnobody"]).code, Some(255));

    cluster.cut(2);
    cluster.lab.pass(ms(200)).unwrap();
    let said = ask(&cluster, 0, &["--command=ping"]);
    assert_ne!(said.code, Some(0));
    assert!(said.stdout.contains("ping node2@10.77.0.2 successful"), "{}", said.stdout);
    assert!(said.stdout.contains("ping node3@10.77.0.3 failed"), "{}", said.stdout);
}

#[test]
fn a_dead_node_holds_up_no_command() {
    let mut cluster = healthy(Plan::of(3));
    // Just cut: nobody knows yet that it is dead.
    cluster.cut(2);
    for arguments in [["--command=cm_stat"], ["--command=rstats"], ["--command=ping"]] {
        ask(&cluster, 0, &arguments);
        ask(&cluster, 1, &arguments);
    }
    let text = cluster.wait_status(0, "node3 down", |text| text.lines().any(|line| line.starts_with("node3") && line.contains("Down")));
    assert!(text.lines().last().unwrap().starts_with("Cluster status: "), "{text}");
    assert_ne!(text.lines().last(), Some("Cluster status: HEALTHY"));
    for arguments in [["--command=cm_stat"], ["--command=rstats"], ["--command=ping"]] {
        ask(&cluster, 0, &arguments);
    }
}

#[test]
fn without_a_local_daemon_the_other_nodes_answer() {
    let mut cluster = healthy(Plan::of(3));
    cluster.lab.node_mut(2).stop(END).unwrap();
    let text = cluster.wait_status(2, "node3 down", |text| text.lines().any(|line| line.starts_with("node3") && line.contains("Down")));
    assert!(text.lines().any(|line| line.contains("service") && line.contains("node1.lab")), "{text}");
    // The first node that could be asked is dead, too.
    cluster.lab.node_mut(0).kill();
    cluster.lab.pass(seconds(4)).unwrap();
    let said = ask(&cluster, 2, &["--command=cm_stat"]);
    assert!(said.stdout.lines().any(|line| line.starts_with("node2") && line.contains("Up")), "{}", said.stdout);
    // Nobody at all.
    cluster.lab.node_mut(1).kill();
    let said = ask(&cluster, 2, &["--command=cm_stat"]);
    assert_ne!(said.code, Some(0), "{}", said.stdout);
    assert_ne!(said.stdout.lines().last(), Some("Cluster status: HEALTHY"));
}

#[test]
fn a_backup_shows_as_one() {
    let mut cluster = healthy(Plan::of(3));
    cluster.outage(1, |lab| lab.node_mut(0).stop(END).unwrap());
    let text = cluster.wait_status(1, "the backup", |text| text.contains("OK-Backup"));
    let service = text.lines().find(|line| line.contains("service")).unwrap();
    assert!(service.contains("node2.lab"), "{text}");
    let said = ask(&cluster, 1, &["--command=rstats", "-nnode2"]);
    assert!(said.stdout.contains("backup_ip:service,"), "{}", said.stdout);
}

#[test]
fn the_configuration_is_printed_as_the_daemon_reads_it() {
    let cluster = healthy(Plan::of(3));
    let said = ask(&cluster, 0, &["--command=printcfg"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for word in ["node1", "node2", "node3", "10.77.0.100", "service"] {
        assert!(said.stdout.contains(word), "{}", said.stdout);
    }
}

#[test]
fn the_log_is_written_where_the_configuration_says() {
    let mut cluster = healthy(Plan::of(3));
    let log = cluster.lab.node(0).home().join("log/drcm.log");
    let before = fs::read_to_string(&log).unwrap();
    assert!(!before.trim().is_empty());
    cluster.outage(1, |lab| lab.node_mut(0).stop(END).unwrap());
    assert!(fs::read_to_string(&log).unwrap().len() > before.len());
    let key = fs::read(cluster.lab.directory().join("auth/authkey")).unwrap();
    let log = fs::read(&log).unwrap();
    assert!(!log.windows(16).any(|window| window == &key[..16]), "the key is in the log");
}

#[test]
fn programs_and_monitors_are_answered() {
    let mut cluster = healthy(Plan::of(3));
    let people = |cluster: &Cluster, words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_drcm"));
        command.arg(format!("--config-file={}", cluster.lab.node(1).config().display())).args(words);
        cluster.lab.node(1).command(command).unwrap()
    };
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let status = json(&people(&cluster, &["status", "--json"]).stdout);
    assert_eq!((&status["schema"], &status["health"], &status["seen_from"]), (&"drcm.status/1".into(), &"healthy".into(), &"node2".into()));
    assert_eq!(status["resources"][0]["owner"], "node1");
    assert_eq!(status["nodes"][2]["votes"], serde_json::json!(["node3"]), "{status}");
    assert_eq!(json(&ask(&cluster, 0, &["--command=rstats", "--json"]).stdout)["nodes"][0]["resources"][0]["nickname"], "service");
    assert_eq!(json(&ask(&cluster, 0, &["--command=ping", "-c2", "--json"]).stdout)["answered"], 6);
    assert_eq!(json(&people(&cluster, &["printcfg", "--json"]).stdout)["groups"][0]["leased"], true);
    let check = people(&cluster, &["status", "--check"]);
    assert_eq!(check.code, Some(0), "{}", check.stdout);
    assert!(check.stdout.starts_with("DRCM OK - ") && check.stdout.contains("nodes_up=3;;;0;3"), "{}", check.stdout);
    // A vote that was lent by a node that left is where cm_stat says.
    cluster.lab.node_mut(2).stop(END).unwrap();
    cluster.wait_status(1, "the end of node3", |text| text.lines().any(|line| line.starts_with("node3") && line.contains("Down")));
    let check = people(&cluster, &["status", "--check"]);
    assert_eq!(check.code, Some(1), "{}", check.stdout);
    assert!(check.stdout.starts_with("DRCM WARNING - node3 is down"), "{}", check.stdout);
    let lent = json(&people(&cluster, &["status", "--json"]).stdout)["lent_votes"].clone();
    assert_eq!(lent[0]["vote"], "node3", "{lent}");
}
