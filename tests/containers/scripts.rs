//! The resource scripts and the utilities by hand, against what they are for: units of systemd, addresses, mounts, cron, mail that
//! is really delivered, and locks that several machines share.

use super::lab::{Blueprint, LONG, Shell as _, Site};
use drcm::lab::Plan;

#[test]
fn the_resource_scripts_do_their_work_by_hand() {
    let site = Site::boot(&Blueprint::web(1, 0));
    let machine = site.node(0);
    let code = |command: &str| machine.run(&format!("/etc/drcm/resources/{command}")).code;

    // A unit of the real systemd.
    assert_eq!(code("service.sh nginx status"), Some(1));
    for _ in 0..2 {
        assert_eq!(code("service.sh nginx start"), Some(0));
        assert_eq!(code("service.sh nginx status"), Some(0));
    }
    let first = machine.main_process("nginx");
    assert_eq!(code("service.sh nginx reload"), Some(0));
    assert_eq!(machine.main_process("nginx"), first);
    assert_eq!(code("service.sh nginx restart"), Some(0));
    assert_ne!(machine.main_process("nginx"), first);
    machine.must("kill -9 $(systemctl show --property=MainPID --value nginx)");
    machine.wait("the end of nginx", LONG, || !machine.holds("systemctl is-active --quiet nginx"));
    assert_eq!(code("service.sh nginx watch"), Some(0));
    assert!(machine.holds("systemctl is-active --quiet nginx"));
    assert_eq!(code("service.sh nginx stop"), Some(0));
    assert_eq!(code("service.sh nginx stop"), Some(0));
    assert!(!machine.holds("systemctl is-active --quiet nginx"));
    machine.must("systemctl mask --quiet nginx");
    assert_eq!(code("service.sh nginx start"), Some(1), "masked");
    machine.must("systemctl unmask --quiet nginx");
    assert_eq!((code("service.sh missing start"), code("service.sh missing stop"), code("service.sh nginx")), (Some(1), Some(0), Some(2)));

    // An address, with a label, on an interface that has others.
    for (mask, length) in [("255.255.255.0", 24), ("32", 32)] {
        for _ in 0..2 {
            assert_eq!(code(&format!("ipv4addr.sh 10.77.0.180 {mask} eth0:1 start")), Some(0));
        }
        let shown = machine.must("ip -o -4 address show dev eth0");
        assert!(shown.contains(&format!("10.77.0.180/{length} ")) && shown.contains("eth0:1"), "{shown}");
        for _ in 0..2 {
            assert_eq!(code(&format!("ipv4addr.sh 10.77.0.180 {mask} eth0:1 stop")), Some(0));
        }
        assert!(machine.must("ip -o -4 address show dev eth0").contains(&Plan::address(0).to_string()), "its own is still there");
    }
    assert_eq!(code("ipv4addr.sh 10.77.0.180 255.0.255.0 eth0 start"), Some(1));
    assert_eq!(code("ipv4addr.sh 10.77.0.180 24 none0 start"), Some(1));

    // A crontab that cron runs.
    machine.must("mkdir -p /opt/crons && echo '* * * * * root date >>/var/tmp/by_cron' >/opt/crons/jobs");
    for _ in 0..2 {
        assert_eq!(code("crontab.sh /opt/crons/jobs /etc/cron.d start"), Some(0));
    }
    machine.must("cmp /opt/crons/jobs /etc/cron.d/jobs");

    // A mount; what the kernel here has in place of NFS.
    let mount =
        |action: &str| machine.run(&format!("DRCM_MOUNT_TYPE=tmpfs /etc/drcm/resources/nfs.sh server:/data '/srv/the data' {action}")).code;
    for _ in 0..2 {
        assert_eq!(mount("mount"), Some(0));
    }
    assert!(machine.holds("test $(grep -c '/srv/the.040data' /proc/self/mounts) = 1"));
    machine.must("umount '/srv/the data'");
    assert_eq!(mount("watch"), Some(0));
    assert_eq!(mount("remount"), Some(0));
    machine.must("mountpoint '/srv/the data'");
    assert_eq!((mount("umount"), mount("unmount"), mount("start")), (Some(0), Some(0), Some(2)));

    machine.wait("the job", std::time::Duration::from_secs(75), || machine.holds("test -s /var/tmp/by_cron"));
    for _ in 0..2 {
        assert_eq!(code("crontab.sh /opt/crons/jobs /etc/cron.d stop"), Some(0));
    }
    assert!(!machine.holds("test -e /etc/cron.d/jobs"));
}

#[test]
fn the_resource_scripts_do_their_work_for_the_daemon() {
    let mut blueprint = Blueprint::web(2, 1);
    blueprint.server += "resource_driver = script\n";
    blueprint.sections += "[CM_CRONTABS]\njobs, /etc/drcm/crontabs/jobs, /etc/cron.d, /etc/drcm/resources/crontab.sh\n";
    blueprint.lines[0] += "node_crontabs = jobs\n";
    blueprint.lines[1] += "node_backup_crontabs = node1:jobs\n";
    blueprint.files.push(("/etc/drcm/crontabs/jobs".to_owned(), "# none\n".to_owned()));
    let site = Site::serving(&blueprint);
    let http = site.http();
    site.wait_served(&http, 0);
    site.wait("all of it", LONG, || site.status(0).contains("Cluster status: HEALTHY"));
    assert!(site.status(0).contains("by script"), "{}", site.status(0));
    site.node(0).must("test -e /etc/cron.d/jobs");
    site.node(0).must("systemctl stop drcm_server");
    site.wait_served(&http, 1);
    site.node(1).wait("the crontab", LONG, || site.node(1).holds("test -e /etc/cron.d/jobs"));
    site.node(0).must("test ! -e /etc/cron.d/jobs");
    for log in ["crontab", "ipv4addr", "service"] {
        site.node(0).must(&format!("test -s /var/log/drcm/{log}_resource.log"));
    }
}

/// The script that the documentation has for a try.
const TEST_ALERT: &str = r#"#!/bin/bash

export ALERTTIMESPANHOURS="0"
SUBJECT="[!ACTION!] Cluster Alert Test Message"
BODY="This is an cluster manager alert test message"
source /etc/drcm/utils/send_alert.sh
send_alert "${SUBJECT}" "${BODY}"
"#;

#[test]
fn alerts_reach_a_mailbox_and_not_too_often() {
    let mut blueprint = Blueprint::web(2, 1);
    blueprint.files.push(("/root/test_alert.sh".to_owned(), TEST_ALERT.to_owned()));
    let site = Site::serving(&blueprint);
    site.wait("the whole cluster", LONG, || site.status(0).contains("Cluster status: HEALTHY"));
    let machine = site.node(0);
    let mails = || {
        let count = machine.must("grep -c '^Subject: ' /var/mail/root 2>/dev/null || true");
        count.trim().parse::<usize>().unwrap_or(0)
    };
    // Nothing to tell, and the list is there to be filled in.
    machine.must("/etc/drcm/utils/watch_cluster.sh");
    assert!(machine.must("cat /etc/drcm/my_cluster_conf/cm_alert_list.sh").contains("export EMAILlist=\"root\""));
    assert_eq!(mails(), 0);
    // The real mail program, delivered on this machine.
    machine.must("bash /root/test_alert.sh");
    machine.wait("the first mail", LONG, || mails() == 1);
    machine.must("rm -rf /var/spool/drcm/alert_*");

    site.node(1).must("systemctl stop drcm_server");
    site.wait("the loss", LONG, || !site.status(0).contains("Cluster status: HEALTHY"));
    for _ in 0..3 {
        assert_eq!(machine.run("/etc/drcm/utils/watch_cluster.sh").code, Some(1));
    }
    machine.wait("one mail more", LONG, || mails() == 2);
    let text = machine.must("cat /var/mail/root");
    assert!(text.contains("Subject: [!ACTION!] Cluster alert node1.lab: DEGRADED - node2 is down"), "{text}");
    assert!(text.contains("node2  node2.lab  Down"), "{text}");
    // Four hours later the next one is due.
    machine.must("echo $(( $(date +%s) - 4 * 3600 - 1 )) >/var/spool/drcm/alert_last_sent");
    machine.run("/etc/drcm/utils/watch_cluster.sh");
    machine.wait("a third mail", LONG, || mails() == 3);

    // The report and the members, by the utilities.
    assert_eq!(machine.must("/etc/drcm/utils/cm_stat | tail -n 1"), machine.must("drcm_server --client --command=cm_stat | tail -n 1"));
    // A service that died.
    let said = machine.run("/etc/drcm/utils/watch_service.sh ssh");
    assert!(said.code == Some(1) && said.text.contains("it runs again"), "{}", said.text);
    machine.must("/etc/drcm/utils/watch_service.sh ssh");
    machine.wait("a mail of it", LONG, || mails() == 4);
    // rsync that has run too long.
    machine.must("touch /tmp/rsyncd.conf; rsync --daemon --no-detach --config=/tmp/rsyncd.conf --port=8730 >/dev/null 2>&1 & sleep 1; /etc/drcm/utils/clean_rsync_procs.sh 1");
    machine.must("pgrep -x rsync");
    machine.must("/etc/drcm/utils/clean_rsync_procs.sh 0");
    assert!(!machine.holds("pgrep -x rsync"));
    assert_eq!(machine.run("/etc/drcm/utils/clean_rsync_procs.sh soon").code, Some(2));
}

#[test]
fn the_firewall_templates_let_the_cluster_through_and_keep_others_out() {
    let site = Site::boot(&Blueprint::web(2, 1));
    for node in 0..3 {
        let machine = site.node(node);
        // The documented rules, in front of a policy that drops.
        machine.must("iptables -P INPUT DROP && iptables -A INPUT -i lo -j ACCEPT && iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT && iptables -A INPUT -p tcp --dport 80 -j ACCEPT");
        let addresses: Vec<String> = (0..3).map(|number| Plan::address(number).to_string()).collect();
        for _ in 0..2 {
            machine.must(&format!("/etc/drcm/system_templates/iptables.sh {}", addresses.join(" ")));
        }
        machine.must(&format!(
            "sed 's/192.168.122.183, 192.168.122.184/{}/' /etc/drcm/system_templates/nftables.conf >/tmp/nft && nft -f /tmp/nft && nft -f /tmp/nft",
            addresses.join(", ")
        ));
    }
    site.enable_all();
    let http = site.http();
    site.wait_served(&http, 0);
    site.wait("the whole cluster", LONG, || site.status(1).contains("Cluster status: HEALTHY"));
    // Whoever else knocks is not heard.
    let knock = format!("timeout 2 bash -c '</dev/tcp/{}/53897'", Plan::address(0));
    site.node(2).must(&knock);
    site.node(2).must(&format!("ip address add 10.77.0.150/32 dev eth0; ip route add {}/32 dev eth0 src 10.77.0.150", Plan::address(0)));
    assert!(!site.node(2).holds(&knock));
    let rules = site.node(0).must("iptables -S CLUSTERMANAGER");
    assert_eq!(rules.matches("--dport 53897").count(), 6, "twice is once: {rules}");
}
