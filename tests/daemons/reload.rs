//! Another configuration without an interruption: what stays in it is never missed by a client.

use nix::sys::signal::Signal;

use drcm::lab::Said;

use super::*;

fn log(lab: &Lab, node: usize) -> String {
    std::fs::read_to_string(lab.node(node).home().join("log/drcm.log")).unwrap_or_default()
}

fn say_reload(lab: &Lab, node: usize) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drcm"));
    command.arg(format!("--config-file={}", lab.node(node).config().display())).arg("reload");
    lab.node(node).command(command).unwrap()
}

/// An address beside the one of the plan.
fn other() -> String {
    let [a, b, c, _] = Plan::served().octets();
    format!("{a}.{b}.{c}.250")
}

/// The addresses of a node's device, one per line.
fn addresses(lab: &Lab, node: usize) -> String {
    let mut command = Command::new("ip");
    command.args(["-br", "-4", "addr", "show", "dev", "eth0"]);
    lab.node(node).command(command).unwrap().stdout
}

/// The configuration of a node as the next reload will find it.
fn rewrite(lab: &Lab, node: usize, change: impl Fn(&str) -> String) {
    let file = lab.node(node).config().to_owned();
    let text = std::fs::read_to_string(&file).unwrap();
    // Nodes may share the file.
    std::fs::write(&file, change(&text)).unwrap();
}

fn with_another_address(text: &str) -> String {
    if text.contains(&other()) {
        return text.to_owned();
    }
    text.replace("[CM_IPADDRS]\n", &format!("[CM_IPADDRS]\nother, {}, 24, eth0, \n", other()))
        .replace("node_floating_ip_addrs = service", "node_floating_ip_addrs = service, other")
        .replace("node_backup_floating_ip_addrs = node1:service", "node_backup_floating_ip_addrs = node1:service, node1:other")
}

#[test]
fn another_address_comes_and_goes_and_a_client_of_the_first_never_notices() {
    let mut cluster = Cluster::running(Plan::of(3));
    cluster.lab.pass(seconds(2)).unwrap();
    let before = cluster.sampler.changes().len();
    let mark = Mark::now();
    let reload_all = |cluster: &mut Cluster, change: &dyn Fn(&str) -> String| {
        for node in [1, 0, 2] {
            rewrite(&cluster.lab, node, change);
            let count = log(&cluster.lab, node).matches("going on with its leases").count();
            if node == 0 {
                let said = say_reload(&cluster.lab, node);
                assert!(said.stdout.contains("it is in force from now on"), "{said:?}");
            } else {
                cluster.lab.node_mut(node).signal(Signal::SIGHUP).unwrap();
            }
            cluster
                .lab
                .wait("the successor", seconds(20), |lab| log(lab, node).matches("going on with its leases").count() > count)
                .unwrap();
            cluster.lab.pass(seconds(2)).unwrap();
        }
    };
    reload_all(&mut cluster, &with_another_address);
    cluster.lab.wait("the new address", seconds(10), |lab| addresses(lab, 0).contains(&other())).unwrap();
    assert!(!addresses(&cluster.lab, 1).contains(&other()));
    // Gone again, and the pace is another one.
    reload_all(&mut cluster, &|text| {
        text.replace(&format!("other, {}, 24, eth0, \n", other()), "").replace("service, other", "service").replace(", node1:other", "")
    });
    assert!(!addresses(&cluster.lab, 0).contains(&other()), "{}", addresses(&cluster.lab, 0));
    assert_eq!(cluster.sampler.changes().len(), before, "the address moved");
    let outage = cluster.probe.longest_outage(mark);
    println!("reloaded six times: longest wait for an answer {outage:?}");
    assert!(outage < ms(50), "the client waited {outage:?}");
    // It is guarded as before.
    cluster.lab.node_mut(0).kill();
    cluster.wait_owner(1);
    cluster.assert_never_two();
}

#[test]
fn what_cannot_be_put_in_force_changes_nothing() {
    let mut cluster = Cluster::running(Plan::of(3));
    let before = cluster.sampler.changes().len();
    let file = cluster.lab.node(0).config().to_owned();
    let good = std::fs::read_to_string(&file).unwrap();
    let pid = cluster.lab.node(0).pid();
    let said = say_reload(&cluster.lab, 0);
    assert!(said.stdout.contains("nothing to do"), "{said:?}");
    for (wrong, why) in [
        (good.replace("[CM_SERVER]\n", "[CM_SERVER]\nudpport = many\n"), "udpport"),
        (good.replace("[CM_SERVER]\n", "[CM_SERVER]\nservice_name = another\n"), "needs a restart"),
        (good.replace("nodename = node3\n", "nodename = node3\nvoter = 0\n"), "other nodes vote"),
    ] {
        assert_ne!(wrong, good);
        std::fs::write(&file, wrong).unwrap();
        let count = log(&cluster.lab, 0).matches("stays in force").count();
        cluster.lab.node_mut(0).signal(Signal::SIGHUP).unwrap();
        cluster.lab.wait("a refusal", LONG, |lab| log(lab, 0).matches("stays in force").count() > count).unwrap();
        assert!(log(&cluster.lab, 0).contains(why), "{}", log(&cluster.lab, 0));
    }
    std::fs::write(&file, good).unwrap();
    cluster.lab.pass(seconds(2)).unwrap();
    assert_eq!(cluster.lab.node(0).pid(), pid);
    assert_eq!(cluster.sampler.changes().len(), before);
    assert!(!log(&cluster.lab, 0).contains("going on with its leases"));
}
