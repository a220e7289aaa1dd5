//! What would fail in a failover is seen before.

use std::fs;

use drcm::lab::Said;

use super::*;

fn drill(cluster: &Cluster, node: Option<&str>) -> Said {
    let lab = cluster.lab.node(0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_drcm"));
    command.arg(format!("--config-file={}", lab.config().display())).arg("drill").args(node);
    lab.command(command).unwrap()
}

#[test]
fn what_a_backup_could_not_run_is_named_before_it_has_to() {
    let mut cluster = Cluster::idle(Plan::of(3));
    let file = cluster.lab.node(0).config().to_owned();
    let directory = cluster.lab.directory().display().to_string();
    let text = fs::read_to_string(&file).unwrap();
    let resources = format!(
        "[CM_IPADDRS]\nloose, 10.255.255.9, 24, nodevice0,\n[CM_CRONTABS]\njobs, {directory}/jobs, {directory}/cron\n\
         [CM_SERVICES]\nown, own, /opt/drcm/missing.sh\n[CM_APPLICATIONS]\nfeed, nobody-here:root, /bin/true, /bin/true\n\
         [CM_FILESYSTEMS]\ndata, 127.0.0.1:/data, /data, /etc/drcm/resources/nfs.sh\n[CM_NODE]\n"
    );
    let text = text
        .replacen("[CM_NODE]\n", &resources, 1)
        .replace("node_floating_ip_addrs = service", "node_floating_ip_addrs = service, loose\nnode_crontabs = jobs\nnode_services = own\nnode_applications = feed\nnode_filesystems = data")
        .replacen("node_backup_floating_ip_addrs = node1:service", "node_backup_floating_ip_addrs = node1:service, node1:loose\nnode_backup_crontabs = node1:jobs\nnode_backup_services = node1:own\nnode_backup_applications = node1:feed\nnode_backup_filesystems = node1:data", 1);
    fs::write(&file, text).unwrap();
    cluster.lab.start_all().unwrap();
    cluster.lab.pass(seconds(3)).unwrap();

    let said = drill(&cluster, None);
    assert_eq!(said.code, Some(1), "{said:?}");
    println!("{}", said.stdout);
    let (_, second) = said.stdout.split_once("node2: ").unwrap();
    let (second, third) = second.split_once("node3: ").unwrap();
    for what in [
        "ip:loose (backup of node1): 10.255.255.9: there is no device nodevice0",
        "cron:jobs (backup of node1): cannot read ",
        "service:own (backup of node1): /opt/drcm/missing.sh is missing or not executable",
        "there is no user nobody-here on this node",
        "filesystem:data (backup of node1): 127.0.0.1 does not answer at 127.0.0.1:2049",
    ] {
        assert!(second.contains(what), "{what}: {second}");
    }
    assert!(!second.contains("ip:service") && third.starts_with("ready"), "{said:?}");

    // What is mended is no longer named; and one node can be asked alone.
    fs::write(format!("{directory}/jobs"), "# none\n").unwrap();
    let said = drill(&cluster, Some("node2"));
    assert!(!said.stdout.contains("cron:jobs") && !said.stdout.contains("node1: "), "{said:?}");

    cluster.lab.node_mut(2).kill();
    let said = drill(&cluster, Some("node3"));
    assert!(said.code == Some(1) && said.stdout.contains("node3: no answer"), "{said:?}");
}
