//! What the utilities read out of the report of the cluster, as it is shown in tests/golden/cm_stat, and out of the system.

use super::workspace::Workspace;

/// A workspace whose cluster says this; ping fails unless a file says otherwise.
fn cluster(name: &str, report: &str, information: &str) -> Workspace {
    let workspace = Workspace::new(name);
    workspace.program(
        "drcm_server",
        "#!/bin/bash\ncase \"$*\" in\n*--command=cm_stat*) cat report; [ -s report ] ;;\n*--command=ping*) echo \"$*\" >>pings; [ -e alive ] ;;\nesac\n",
    );
    workspace.write("report", &std::fs::read_to_string(format!("tests/golden/cm_stat/{report}.txt")).unwrap_or_default());
    workspace.write("conf/my_cluster_info.sh", information);
    workspace
}

fn asked(workspace: &Workspace, program: &str) -> (Option<i32>, String, String) {
    let said = workspace.run(&format!("export DRCM_SERVER=$PWD/drcm_server; \"$utils/{program}\""));
    (said.code, said.text.trim_end().to_owned(), said.error)
}

#[test]
fn a_failover_is_believed_only_when_nothing_speaks_against_it() {
    let primary = |ip: &str| format!("export PRIMARY_FILESYSTEMS_IP={ip}\n");
    for (report, information, expected) in [
        ("healthy", primary("10.0.0.1"), "FALSE"),
        ("node_down", primary("10.0.0.1"), "FALSE"),
        ("node_down", primary("10.0.0.2"), "TRUE"),
        ("failback_pending", primary("10.0.0.2"), "FALSE"),
        ("node_down", primary("10.0.0.2") + "export PRIMARY_FILESYSTEMS_NODE=cmnode1\n", "FALSE"),
        ("node_down", primary("192.168.9.9") + "export PRIMARY_FILESYSTEMS_NODE=CMNODE2.example.com\n", "TRUE"),
        // Not a member, nothing said, no quorum, no answer, no report.
        ("node_down", primary("10.0.0.22"), "ERROR"),
        ("node_down", String::new(), "ERROR"),
        ("no_answer", primary("10.0.0.1"), "ERROR"),
        ("none", primary("10.0.0.1"), "ERROR"),
    ] {
        let workspace = cluster("failover", report, &information);
        let (code, text, error) = asked(&workspace, "fs_has_failedover.sh");
        assert_eq!(text, expected, "{report} {information}: {error}");
        assert_eq!(code, Some(i32::from(expected == "ERROR")));
        assert_eq!(error.contains("ERROR: "), expected == "ERROR", "{error}");
    }
    // The other side of a split network, and a node that answers although it is said to be down.
    let workspace = cluster("contradiction", "no_quorum", &primary("10.0.0.3"));
    let (_, text, error) = asked(&workspace, "fs_has_failedover.sh");
    assert!(text == "ERROR" && error.contains("no quorum"), "{text} {error}");
    let workspace = cluster("contradiction", "node_down", &primary("10.0.0.2"));
    workspace.write("alive", "");
    let (_, text, error) = asked(&workspace, "fs_has_failedover.sh");
    assert!(text == "ERROR" && error.contains("yet it answers"), "{text} {error}");
    assert!(workspace.read("pings").contains("-ncmnode2"));
    // A pair: the survivor carries on alone.
    let report = std::fs::read_to_string("tests/golden/cm_stat/pair.txt").unwrap();
    let down = report.lines().find(|line| line.contains(" Down ")).and_then(|line| line.split_whitespace().last()).unwrap();
    let workspace = cluster("pair", "pair", &primary(down));
    assert_eq!(asked(&workspace, "fs_has_failedover.sh").1, "TRUE");
}

#[test]
fn the_role_of_a_node_is_the_address_it_has() {
    let workspace = cluster(
        "role",
        "healthy",
        "export PRIMARY_FILESYSTEMS_IP=127.0.0.1 PRIMARY_FILESYSTEMS_ETH=lo\nexport BACKUP_FILESYSTEMS_IP=127.0.0 BACKUP_FILESYSTEMS_ETH=lo:1\n",
    );
    assert_eq!(asked(&workspace, "is_primary_fs.sh").1, "TRUE");
    assert_eq!(asked(&workspace, "is_backup_fs.sh").1, "FALSE", "no part of an address is the address");
    workspace.write("conf/my_cluster_info.sh", "");
    let (code, text, error) = asked(&workspace, "is_primary_fs.sh");
    assert!((code, text.as_str()) == (Some(1), "FALSE") && error.contains("set PRIMARY_FILESYSTEMS_IP"), "{error}");
    std::fs::remove_file(workspace.path("conf/my_cluster_info.sh")).unwrap();
    let (code, text, error) = asked(&workspace, "is_backup_fs.sh");
    assert!((code, text.as_str()) == (Some(1), "FALSE") && error.contains("there is no"), "{error}");
}

#[test]
fn a_time_is_told_in_words() {
    let workspace = Workspace::new("runtime");
    assert_eq!(workspace.run("\"$utils/calc_runtime.sh\" 1000 8384").text, "Runtime: 2 hours 3 minutes 4 seconds\n");
    assert_eq!(workspace.run(". \"$utils/calc_runtime.sh\"; calc_runtime 7 7").text, "Runtime: 0 hours 0 minutes 0 seconds\n");
    for words in ["", "x", "9 1", "1 2x"] {
        assert_eq!(workspace.run(&format!("\"$utils/calc_runtime.sh\" {words}")).code, Some(2), "{words}");
    }
}
