//! What the administrator changes on a machine in service: the configuration, the daemon's rest, the network's other masters.

use std::time::{Duration, Instant};

use super::lab::{Blueprint, LONG, Shell as _, Site};

#[test]
fn a_reload_applies_what_differs_and_nothing_else() {
    let site = Site::serving(&Blueprint::web(2, 1));
    let (http, ping) = (site.http(), site.ping());
    site.wait_served(&http, 0);
    let machine = site.node(0);
    let processes = || (machine.main_process("drcm_server"), machine.main_process("nginx"));
    let (before, began) = (processes(), Instant::now());

    // A resource more, on every node.
    let more = "sed -i 's/^node_services = web$/&\\nnode_crontabs = jobs/' /etc/drcm/cm.cfg; printf '[CM_CRONTABS]\\njobs, /etc/drcm/crontabs/jobs, /etc/cron.d\\n' >>/etc/drcm/cm.cfg; echo '# none' >/etc/drcm/crontabs/jobs";
    for node in 0..3 {
        site.node(node).must(&format!("cp /etc/drcm/cm.cfg /root/before.cfg; {more}"));
        site.node(node).must("drcm_server --check-config >/dev/null; test $? != 1 && systemctl reload drcm_server");
    }
    site.wait("the crontab", LONG, || machine.holds("test -e /etc/cron.d/jobs"));
    site.holds_still(&http, &ping, Duration::from_secs(2));
    assert_eq!(processes(), before);

    // A file that cannot be used changes nothing, and who reloads is told.
    machine.must("echo 'nonsense =' >>/etc/drcm/cm.cfg");
    let said = machine.run("systemctl reload drcm_server; journalctl --no-pager -u drcm_server -n 20; tail -n 20 /var/log/drcm/drcm.log");
    assert!(said.text.contains("nonsense"), "{}", said.text);
    assert_eq!(processes(), before);

    // And back.
    for node in 0..3 {
        site.node(node).must("cp /root/before.cfg /etc/drcm/cm.cfg && systemctl reload drcm_server");
    }
    site.wait("the end of the crontab", LONG, || !machine.holds("test -e /etc/cron.d/jobs"));
    site.holds_still(&http, &ping, Duration::from_secs(2));
    assert_eq!((processes(), http.lost_since(began)), (before, vec![]));
    println!("two reloads of three machines: {} pages asked for, none lost", http.counts(began).0);
}

#[test]
fn what_is_to_be_kept_outlives_a_stop_and_is_taken_over_at_the_start() {
    let mut blueprint = Blueprint::web(2, 0);
    blueprint.sections += "[CM_APPLICATIONS]\nwork, nobody:nogroup, /usr/local/bin/works, /bin/true\n";
    blueprint.lines[1] = "node_applications = work\nkeep_applications = 1\nkeep_services = 1\nnode_services = web\n".to_owned();
    blueprint.files.push(("/usr/local/bin/works".to_owned(), "#!/bin/sh\nenv -i sleep 3601 &\nexec sleep 3600\n".to_owned()));
    let site = Site::boot(&blueprint);
    (0..2).for_each(|node| drop(site.node(node).must("chmod 755 /usr/local/bin/works; usermod -s /bin/sh nobody")));
    site.enable_all();
    let machine = site.node(1);
    let runs = || machine.run("pgrep -u nobody -f '^sleep 360' | sort | tr '\\n' ' '").text;
    site.wait("the application and the service", LONG, || {
        runs().split_whitespace().count() == 2 && machine.holds("systemctl is-active --quiet nginx")
    });
    // A start that is not over yet would be taken back.
    site.wait("a healthy cluster", LONG, || site.status(1).contains("Cluster status: HEALTHY"));
    let before = (runs(), machine.main_process("nginx"));
    machine.must("systemctl stop drcm_server");
    assert_eq!((runs(), machine.main_process("nginx")), before, "both outlive the daemon");
    machine.must("systemctl start drcm_server");
    site.wait("a healthy cluster", LONG, || site.status(1).contains("Cluster status: HEALTHY"));
    assert_eq!((runs(), machine.main_process("nginx")), before, "both are taken over as they are");

    // Not to be kept: nothing is left, nor of what wiped its environment.
    machine.must("sed -i 's/^\\(keep_.*s\\) = 1/\\1 = 0/' /etc/drcm/cm.cfg && systemctl restart drcm_server && systemctl stop drcm_server");
    assert_eq!(runs(), "");
    assert!(!machine.holds("systemctl is-active --quiet nginx"));
}

#[test]
fn without_a_bus_the_script_does_it_and_says_so() {
    let site = Site::boot(&Blueprint::web(1, 0));
    let machine = site.node(0);
    machine.must("systemctl mask --quiet --now dbus.socket dbus.service; rm -f /run/dbus/system_bus_socket");
    site.enable_all();
    let http = site.http();
    site.wait_served(&http, 0);
    assert!(machine.log().contains("by the script service.sh: there is no system bus"), "{}", machine.log());
    assert!(site.status(0).contains("by script /etc/drcm"), "{}", site.status(0));
    machine.must("systemctl stop drcm_server");
    assert!(!machine.holds("systemctl is-active --quiet nginx"));
}

#[test]
fn another_master_of_the_interface_is_named() {
    let site = Site::boot(&Blueprint::web(1, 0));
    let machine = site.node(0);
    let warned = || machine.run("drcm_server --check-config").text.contains("systemd-networkd manages eth0");
    assert!(!warned());
    machine.must("printf '[Match]\\nName=eth0\\n[Network]\\nKeepConfiguration=no\\n' >/etc/systemd/network/eth0.network && systemctl start systemd-networkd");
    site.wait("systemd-networkd to take the interface", LONG, warned);
}
