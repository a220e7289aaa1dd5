//! `cluster_user`: a daemon that is not root, on machines with a real polkit and a real sudo.

use std::time::Duration;

use super::lab::{Blueprint, Container, LONG, Shell as _, Site};

/// What `systemctl enable drcm_server` needs besides on machines whose daemon is not root.
fn admit(node: &Container, rule: bool) {
    node.must("useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin drcm");
    node.must("useradd --create-home --shell /bin/bash worker");
    node.must("chown -R drcm /etc/drcm/.auth");
    if rule {
        node.must("install -m 0644 /etc/drcm/system_templates/50-drcm.rules /etc/polkit-1/rules.d/");
    }
}

/// Identity and capabilities of a process, as the kernel has them.
fn status_of(node: &Container, pid: &str, what: &str) -> String {
    node.must(&format!("awk '/^{what}:/ {{ print $2 }}' /proc/{pid}/status")).trim().to_owned()
}

const DAEMON: &str = "$(systemctl show --property=MainPID --value drcm_server)";

fn all_kinds() -> Blueprint {
    let mut blueprint = Blueprint::web(2, 1);
    blueprint.server += "cluster_user = drcm\ncluster_group = drcm\n";
    blueprint.sections += "[CM_CRONTABS]
table, /etc/drcm/crontabs/table, /etc/cron.d, /etc/drcm/resources/crontab.sh
[CM_APPLICATIONS]
work, worker:worker, ~/work.sh, pkill -u worker sleep, pgrep -u worker sleep
[CM_FILESYSTEMS]
data, tmpfs, /data, /etc/drcm/resources/nfs.sh
";
    for line in &mut blueprint.lines[..2] {
        let (own, from) = if line.starts_with("node_backup") { ("node_backup_", "node1:") } else { ("node_", "") };
        *line += &format!("{own}crontabs = {from}table\n{own}applications = {from}work\n{own}filesystems = {from}data\n");
    }
    blueprint.files.push(("/etc/drcm/crontabs/table".to_owned(), "* * * * * root true\n".to_owned()));
    blueprint
}

#[test]
fn all_five_kinds_run_and_move_under_a_daemon_that_is_not_root() {
    let mut site = Site::boot(&all_kinds());
    for node in 0..3 {
        admit(site.node(node), true);
        site.node(node).must("printf '#!/bin/sh\\nexec sleep 1000\\n' >/home/worker/work.sh; chmod 755 /home/worker/work.sh");
    }
    site.enable_all();
    let http = site.http();
    site.wait_served(&http, 0);
    for node in 0..3 {
        site.wait("all of it", LONG, || site.status(node).contains("Cluster status: HEALTHY"));
    }
    let user = site.node(0).must("id -u drcm").trim().to_owned();
    let daemon = |node: usize, what: &str| status_of(site.node(node), DAEMON, what);
    assert_eq!(daemon(0, "Uid"), user);
    // The witness runs nothing and needs nearly nothing; nobody has more than it needs, such as CAP_SYS_BOOT.
    let set = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let (much, little) = (set(&daemon(0, "CapEff")), set(&daemon(2, "CapEff")));
    assert!(little.count_ones() == 3 && much & little == little && much.count_ones() == 12, "{much:x} {little:x}");
    // What it starts has nothing of it.
    let work = site.node(0).must("pgrep -u worker sleep").trim().to_owned();
    for what in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(set(&status_of(site.node(0), &work, what)), 0, "{what}");
    }
    assert_eq!(site.node(0).must("stat -c '%U %a' /etc/cron.d/table").trim(), "root 644");
    assert!(
        site.node(0).holds("findmnt -n -t tmpfs /data")
            && site.node(0).must("cat /proc/$(pgrep -u worker sleep)/cgroup").contains(".scope")
    );
    // Nothing was refused on the way, and what concerns a shutdown is in place.
    let log = site.node(0).log();
    // What of the kernel cannot be set in a container cannot be set by root either.
    let refused = log
        .lines()
        .filter(|line| !line.contains("/proc/sys/") && ["ermission denied", "WARNING", "ERROR"].iter().any(|word| line.contains(word)));
    assert_eq!(refused.collect::<Vec<_>>(), Vec::<&str>::new(), "{log}");
    assert!(site.node(0).must("systemctl show --property=After drcm_server").contains("nginx.service"));

    // A reload is another program in the same process, with the same rights; a client does not notice.
    let before = daemon(0, "CapEff");
    site.node(0).must("sed -i 's/^failback_delay = 2/failback_delay = 3/' /etc/drcm/cm.cfg && systemctl reload drcm_server");
    site.wait("the reload", LONG, || site.node(0).log().contains("going on with its leases"));
    assert_eq!((daemon(0, "Uid"), daemon(0, "CapEff")), (user, before));
    site.wait_served(&http, 0);
    site.node(0).must("sed -i 's/^failback_delay = 3/failback_delay = 2/' /etc/drcm/cm.cfg && systemctl reload drcm_server");

    // All of it moves when the machine dies, and back when it is there again.
    site.node_mut(0).power_cut();
    site.wait_served(&http, 1);
    site.wait("all of it on node2", LONG, || {
        site.node(1).holds("test -e /etc/cron.d/table && pgrep -u worker sleep && findmnt -n /data && systemctl is-active nginx")
    });
    site.power_on(0);
    site.node(0).booted();
    site.wait_served(&http, 0);
    site.wait("all well again", LONG, || site.status(0).contains("Cluster status: HEALTHY"));
    assert!(!site.node(1).holds("test -e /etc/cron.d/table || pgrep -u worker sleep || findmnt -n /data"));

    // The witness has no right to mount: a configuration that wants it to takes a restart, and says so.
    let log = site.node(2).log();
    site.node(2).must("sed -i '/^nodename = node3/a node_filesystems = data' /etc/drcm/cm.cfg && systemctl reload drcm_server");
    site.wait("word of the refusal", LONG, || site.node(2).log()[log.len()..].contains("CAP_SYS_ADMIN"));
    assert!(site.status(0).contains("node3"), "it stays a member");
}

#[test]
fn without_leave_of_polkit_the_advice_is_given_and_scripts_by_sudo_do_it() {
    let mut blueprint = Blueprint::web(1, 0);
    blueprint.server += "cluster_user = drcm\ncluster_group = drcm\n";
    let site = Site::boot(&blueprint);
    let node = site.node(0);
    admit(node, false);
    node.must("install -m 0440 /etc/drcm/system_templates/drcm.sudoers /etc/sudoers.d/drcm && visudo -cqf /etc/sudoers.d/drcm");
    node.must("systemctl enable --quiet --now drcm_server");
    site.wait("the advice", LONG, || {
        let status = site.status(0);
        status.contains("polkit does not let this daemon start nginx") && status.contains("50-drcm.rules")
    });
    assert!(!node.holds("systemctl is-active --quiet nginx"));
    node.must("sed -i 's/^\\[CM_SERVER\\]/[CM_SERVER]\\nresource_driver = script/' /etc/drcm/cm.cfg && systemctl restart drcm_server");
    let http = site.http();
    site.wait_served(&http, 0);
    let status = site.status(0);
    assert!(status.contains("Cluster status: HEALTHY") && status.contains("by script /etc/drcm/resources/service.sh"), "{status}");
    assert_ne!(status_of(node, DAEMON, "Uid"), "0");
    node.must("systemctl stop drcm_server");
    assert!(!node.holds("systemctl is-active --quiet nginx"));

    // What cannot be had is said before anything is started, with what to do.
    node.must("chown root /var/log/drcm; sed -i 's/^keep_alive_interval/log_dir = \\/var\\/log\\/elsewhere\\n&/' /etc/drcm/cm.cfg; mkdir /var/log/elsewhere; touch /var/log/elsewhere/file");
    assert!(!node.holds("systemctl start drcm_server"));
    let journal = node.must("journalctl --no-pager -u drcm_server");
    assert!(journal.contains("cluster_user = drcm may not write to /var/log/elsewhere: chown -R drcm /var/log/elsewhere"), "{journal}");
    node.must("chown -R drcm /var/log/elsewhere && systemctl reset-failed drcm_server && systemctl start drcm_server");
    site.wait("it runs", Duration::from_secs(20), || site.status(0).contains("Cluster status: HEALTHY"));
}
