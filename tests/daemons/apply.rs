//! Another configuration for all nodes with one command: all have it, or none.

use std::{fs, path::PathBuf, thread};

use drcm::lab::Said;
use nix::sys::signal::Signal;

use super::*;

/// Three nodes, each with a file of its own as on machines of their own, and the new configuration.
struct Change {
    cluster: Cluster,
    new: PathBuf,
}

fn file(lab: &Lab, node: usize) -> PathBuf {
    lab.node(node).config().to_owned()
}

fn text(lab: &Lab, node: usize) -> String {
    fs::read_to_string(file(lab, node)).unwrap()
}

fn log(lab: &Lab, node: usize) -> String {
    fs::read_to_string(lab.node(node).home().join("log/drcm.log")).unwrap_or_default()
}

impl Change {
    fn new(change: impl Fn(&str) -> String) -> Self {
        let cluster = Cluster::running_on_files(Plan { failback_delay: seconds(1), ..Plan::of(3) });
        let new = cluster.lab.directory().join("new.cfg");
        fs::write(&new, change(&text(&cluster.lab, 0))).unwrap();
        Self { cluster, new }
    }

    fn apply(&self, more: &[&str]) -> Said {
        let node = self.cluster.lab.node(0);
        let mut command = Command::new(env!("CARGO_BIN_EXE_drcm"));
        command.arg(format!("--config-file={}", node.config().display())).arg("apply").arg(&self.new).args(more);
        node.command(command).unwrap()
    }
}

/// Whether the first node has the new address.
fn has_other(lab: &Lab) -> bool {
    let mut command = Command::new("ip");
    command.args(["-br", "-4", "addr", "show", "dev", "eth0"]);
    lab.node(0).command(command).unwrap().stdout.contains(&other())
}

/// An address beside the one of the plan.
fn other() -> String {
    let [a, b, c, _] = Plan::served().octets();
    format!("{a}.{b}.{c}.250")
}

fn with_another_address(text: &str) -> String {
    text.replace("[CM_IPADDRS]\n", &format!("[CM_IPADDRS]\nother, {}, 24, eth0, \n", other()))
        .replace("node_floating_ip_addrs = service", "node_floating_ip_addrs = service, other")
        .replace("node_backup_floating_ip_addrs = node1:service", "node_backup_floating_ip_addrs = node1:service, node1:other")
}

#[test]
fn all_nodes_switch_with_one_command_and_a_client_never_notices() {
    let mut change = Change::new(with_another_address);
    change.cluster.lab.pass(seconds(2)).unwrap();
    let (before, mark) = (change.cluster.sampler.changes().len(), Mark::now());

    // Only asked.
    let said = change.apply(&["--check"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for node in ["node1", "node2", "node3"] {
        assert!(said.stdout.contains(&format!("{node}: new here: ip:other")), "{said:?}");
    }
    assert!(!text(&change.cluster.lab, 0).contains(&other()));

    let said = change.apply(&[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains("in force on node1, node2, node3 after"), "{said:?}");
    println!("{}", said.stdout);
    let new = fs::read_to_string(&change.new).unwrap();
    for node in 0..3 {
        assert_eq!(text(&change.cluster.lab, node), new);
    }
    change.cluster.lab.wait("the new address", LONG, has_other).unwrap();
    change.cluster.lab.pass(seconds(2)).unwrap();
    assert_eq!(change.cluster.sampler.changes().len(), before, "the address moved");
    let outage = change.cluster.probe.longest_outage(mark);
    assert!(outage < ms(50), "the client waited {outage:?}");

    // Once more: nothing to do, and nothing is put back by mistake later.
    let said = change.apply(&[]);
    assert!(said.code == Some(0) && said.stdout.matches("nothing to do").count() == 3, "{said:?}");
    change.cluster.lab.node_mut(0).kill();
    change.cluster.wait_owner(1);
    change.cluster.assert_never_two();
}

#[test]
fn when_one_node_will_not_none_does() {
    let mut change = Change::new(with_another_address);
    let before: Vec<String> = (0..3).map(|node| text(&change.cluster.lab, node)).collect();
    let unchanged = |change: &Change| {
        for (node, before) in before.iter().enumerate() {
            assert_eq!(&text(&change.cluster.lab, node), before, "node{}", node + 1);
        }
        assert!(!has_other(&change.cluster.lab));
    };

    // One that takes none.
    let closed = format!("[CM_SERVER]\napply = 0\n{}", before[2].replacen("[CM_SERVER]\n", "", 1));
    fs::write(file(&change.cluster.lab, 2), closed).unwrap();
    change.cluster.lab.node_mut(2).signal(Signal::SIGHUP).unwrap();
    change.cluster.lab.wait("the reload", LONG, |lab| log(lab, 2).contains("going on with its leases")).unwrap();
    let said = change.apply(&[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stdout.contains("node3: REFUSES: this node takes no configuration"), "{said:?}");
    assert!(said.stderr.contains("nothing was changed: node3 would not take it"), "{said:?}");
    fs::write(file(&change.cluster.lab, 2), &before[2]).unwrap();
    change.cluster.lab.node_mut(2).signal(Signal::SIGHUP).unwrap();
    change.cluster.lab.wait("the reload", LONG, |lab| log(lab, 2).matches("going on with its leases").count() == 2).unwrap();
    unchanged(&change);

    // One that says yes and then cannot: what the others have done is taken back.
    let directory = change.cluster.lab.node(2).config().parent().unwrap().to_owned();
    let mut immutable = Command::new("mount");
    immutable.args(["--bind", "-o", "ro"]).arg(&directory).arg(&directory);
    let said = change.cluster.lab.node(2).command(immutable).unwrap();
    assert_eq!(said.code, Some(0), "{said:?}");
    let said = change.apply(&[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    println!("{}{}", said.stdout, said.stderr);
    assert!(
        said.stderr.contains("node3: cannot write") && said.stderr.contains("the former configuration is in force everywhere"),
        "{said:?}"
    );
    change.cluster.lab.pass(seconds(1)).unwrap();
    unchanged(&change);

    // One that is down has to be named.
    change.cluster.lab.node_mut(2).kill();
    let said = change.apply(&[]);
    assert!(said.code == Some(1) && said.stderr.contains("no answer from node3; --without"), "{said:?}");
    unchanged(&change);
    let said = change.apply(&["--without", "node3"]);
    assert!(said.code == Some(0) && said.stdout.contains("in force on node1, node2 after"), "{said:?}");
    assert!(text(&change.cluster.lab, 1).contains(&other()) && !text(&change.cluster.lab, 2).contains(&other()));

    // A file with faults is refused where it is.
    fs::write(&change.new, "[CM_SERVER]\nudpport = many\n").unwrap();
    let said = change.apply(&[]);
    assert!(said.code == Some(1) && said.stderr.contains("udpport"), "{said:?}");
}

/// Whoever comes second does not overwrite a part of what the first one does: at the end all nodes have one and the same file.
#[test]
fn two_operators_at_once_never_leave_two_configurations() {
    let change = Change::new(with_another_address);
    let lab = &change.cluster.lab;
    let former = text(lab, 0);
    let news: Vec<String> =
        (0..2).map(|number| former.replace("[CM_SERVER]\n", &format!("[CM_SERVER]\nfailback_delay = {}\n", 7 + number))).collect();
    let files: Vec<PathBuf> = (0..2).map(|number| lab.directory().join(format!("new{number}.cfg"))).collect();
    let mut won = [0, 0];
    for round in 0..6 {
        for (file, new) in files.iter().zip(&news) {
            fs::write(file, new).unwrap();
        }
        let said: Vec<Said> = thread::scope(|scope| {
            let both: Vec<_> = (files.iter().enumerate())
                .map(|(number, file)| {
                    let node = lab.node(number);
                    scope.spawn(move || {
                        thread::sleep(ms(15 * round * u64::try_from(number).unwrap()));
                        let mut command = Command::new(env!("CARGO_BIN_EXE_drcm"));
                        command.arg(format!("--config-file={}", node.config().display())).arg("apply").arg(file);
                        node.command(command).unwrap()
                    })
                })
                .collect();
            both.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let texts: Vec<String> = (0..3).map(|node| text(lab, node)).collect();
        assert!(texts.iter().all(|one| *one == texts[0]), "round {round}: {said:#?}");
        // Whoever was told that it is in force has it in force, unless the other one came after him.
        let done: Vec<bool> = said.iter().map(|said| said.code == Some(0)).collect();
        match texts[0] {
            ref now if *now == news[0] || *now == news[1] => {
                let winner = usize::from(*now == news[1]);
                assert!(done[winner], "round {round}: {said:#?}");
                won[winner] += 1;
            }
            ref now => assert!(*now == former && done == [false, false], "round {round}: {said:#?}"),
        }
        for (number, said) in said.iter().enumerate() {
            let why = said.stderr.contains("somebody else") || said.stderr.contains("reloads are waiting");
            assert!(done[number] || why || said.stderr.contains("would not take it"), "{said:#?}");
        }
        // Back to the beginning.
        fs::write(&change.new, &former).unwrap();
        let said = change.apply(&[]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    println!("in force at the end: {won:?} of 6");
    change.cluster.assert_never_two();
}
