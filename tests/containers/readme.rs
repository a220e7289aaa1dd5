//! The README of DRCM 1.x, command by command, with our package on two machines. What these machines do not have (yum, httpd, servers
//! for NFS and CIFS) is replaced by what they do have. docs/readme-walk.md says where each of its sections is proven.

use drcm::lab::{Plan, Shell as _};

use super::{
    lab::{Blueprint, LONG, Site},
    package::Packages,
};

/// The README's example of two nodes: its typo, in `node_filesystems`, included.
fn example() -> String {
    let (first, second) = (Plan::address(0), Plan::address(1));
    format!(
        "# Global cluser configuration
[CM_SERVER]
udpport = 53897
tcpport = 53897
bind_to_keep_alive_ip = 1
dead_node_count = 15

[CM_CRONTABS]
# CSV format: nickname, template_file, install_location, resource_script
system, /etc/drcm/crontabs/system_crons, /etc/cron.d, /etc/drcm/resources/crontab.sh
user, /etc/drcm/crontabs/user_crons, /etc/cron.d, /etc/drcm/resources/crontab.sh
apps1, /etc/drcm/crontabs/apps_package1, /etc/cron.d, /etc/drcm/resources/crontab.sh
apps2, /etc/drcm/crontabs/apps_package2, /etc/cron.d, /etc/drcm/resources/crontab.sh

[CM_IPADDRS]
# CSV format: nickname, Floating IP, netmask, Ethernet interface, ip takeover script
cmnodef, {served}, 255.255.255.0, eth0:1, /etc/drcm/resources/ipv4addr.sh

[CM_SERVICES]
# CSV format: nickname, service_name, resource_script
web, nginx, /etc/drcm/resources/service.sh

[CM_APPLICATIONS]
# CSV format: nickname, user:group, start_program, stop_program
# CSV format: nickname, user:group, start_program, stop_program, ensure_script
ldm, ldm:users, ~/util/ldm_ensure.sh, ldmadmin stop, ~/util/ldm_ensure.sh

[CM_FILESYSTEMS]
# CSV format: nickname, source, target, resource_script
data, tmpfs, /data, /etc/drcm/resources/nfs.sh
archive, tmpfs, /archive, /etc/drcm/resources/nfs.sh
webshare, tmpfs, /home/users/web, /etc/drcm/resources/nfs.sh

[CM_NODE]
nodename = cmnode1  # This can be any name you will recognize this node as
hostname = node1.lab # uname -n
keep_alive_ip = {first}
node_crontabs = user,system,apps1
node_backup_crontabs = cmnode2:apps2
node_floating_ip_addrs = cmnodef
node_services = web
node_filesystems = data,arhive,webshare
node_applications = ldm

[CM_NODE]
nodename = cmnode2
hostname = node2.lab
keep_alive_ip = {second}
node_crontabs = apps2
node_backup_crontabs = cmnode1:user,cmnode1:system
node_backup_floating_ip_addrs = cmnode1:cmnodef
node_services = web
node_filesystems = data,arhive,webshare
node_applications = ldm
",
        served = Plan::served(),
    )
}

const TEST_ALERT: &str = r#"#!/bin/bash

export ALERTTIMESPANHOURS="0"
SUBJECT="[!ACTION!] Cluster Alert Test Message"
BODY="This is an cluster manager alert test message"
source /etc/drcm/utils/send_alert.sh
send_alert "${SUBJECT}" "${BODY}"
"#;

/// An application that goes on in the background.
const LDM: &str =
    "#!/bin/bash\npgrep -u ldm -f ldm_works >/dev/null || (exec -a ldm_works sleep 3600 </dev/null >/dev/null 2>&1 &)\nsleep 0.2\n";

#[test]
fn the_readme_is_walked_through_with_our_package() {
    let packages = Packages::new();
    let mut blueprint = Blueprint::web(2, 0);
    blueprint.packages = vec![packages.deb("2.0.0-1")];
    blueprint.files = vec![
        ("/root/test_alert.sh".to_owned(), TEST_ALERT.to_owned()),
        ("/root/example.cfg".to_owned(), example()),
        ("/home/ldm/util/ldm_ensure.sh".to_owned(), LDM.to_owned()),
        ("/usr/local/bin/ldmadmin".to_owned(), "#!/bin/sh\npkill -u ldm -f ldm_works\nexit 0\n".to_owned()),
    ];
    let site = Site::boot(&blueprint);
    let one = site.node(0);

    // RPM Install, with the package of this system; the queries for an RPM are tried in package.rs.
    for node in [0, 1] {
        let machine = site.node(node);
        machine.must("dpkg -i /root/drcm-server-2.0.0-1.deb");
        machine.must("useradd --gid users --shell /bin/bash --home-dir /home/ldm ldm; chown -R ldm:users /home/ldm; chmod 755 /home/ldm/util/ldm_ensure.sh /usr/local/bin/ldmadmin");
    }

    // DRCM Auth Tokens
    one.must("mkdir -pv /etc/drcm/.auth");
    one.must("chmod 700 /etc/drcm/.auth");
    one.must("dd if=/dev/urandom bs=1024 count=2 > /etc/drcm/.auth/authkey");
    one.must("sha1sum /etc/drcm/.auth/authkey | cut -b1-40 > /etc/drcm/.auth/authkey.sha1");
    one.must("chmod 600 /etc/drcm/.auth/authkey /etc/drcm/.auth/authkey.sha1");

    // Building CM Configuration Files
    assert_eq!(one.run("/usr/sbin/drcm_server --check-config").code, Some(2));
    assert_eq!(one.run("/usr/sbin/drcm_server --config-file=/tmp/test1.cfg --check-config").code, Some(2));
    one.must("cmp /etc/drcm/cm.cfg /tmp/test1.cfg && grep -q '^# Configuration of a drcm cluster' /tmp/test1.cfg");

    // Testing CM Configuration Files; CM Node Hostname and IP Settings; CM Global Configuration Settings; Setting Up Global Cluster
    // Resources; Linking Global Cluster Resources to Nodes
    one.must("cp /root/example.cfg /etc/drcm/cm.cfg; for name in system_crons user_crons apps_package1 apps_package2; do echo '# none' >/etc/drcm/crontabs/$name; done");
    let said = one.must("/usr/sbin/drcm_server --check-config | grep -i -E 'error|warn|fail|info'");
    assert!(said.contains("ERROR") && said.contains("arhive"), "{said}");
    assert_eq!(one.run("/usr/sbin/drcm_server --check-config").code, Some(1));
    one.must("sed -i s/arhive/archive/ /etc/drcm/cm.cfg");
    let said = one.run("/usr/sbin/drcm_server --check-config");
    assert!(!said.text.contains("ERROR") && said.code != Some(1), "{}", said.text);

    // Host-based firewall rules, in front of a policy that drops
    for node in [0, 1] {
        let machine = site.node(node);
        machine.must("iptables -P INPUT DROP; iptables -A INPUT -i lo -j ACCEPT; iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT; iptables -A INPUT -p tcp -m multiport --dports 22,80 -j ACCEPT");
        machine.must("iptables -N CLUSTERMANAGER");
        machine.must("iptables -I INPUT 3 -j CLUSTERMANAGER");
        for protocol in ["UDP", "TCP"] {
            for from in [0, 1] {
                machine.must(&format!("iptables -A CLUSTERMANAGER -p {protocol} --dport 53897 -s {}/32 -j ACCEPT", Plan::address(from)));
            }
        }
    }

    // "Push all /etc/drcm updates to all the nodes in the cluster"
    let key = one.must("mkdir -p -m 700 /root/.ssh; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519; echo \"* $(cut -d' ' -f1-2 /etc/ssh/ssh_host_ed25519_key.pub)\" >/root/.ssh/known_hosts; cat /root/.ssh/id_ed25519.pub");
    site.node(1).must(&format!("mkdir -p -m 700 /root/.ssh; echo '{}' >/root/.ssh/authorized_keys; systemctl start ssh", key.trim()));
    one.must(&format!("rsync -a --delete /etc/drcm/ {}:/etc/drcm/", Plan::address(1)));

    // Running the DRCM Server
    for node in [0, 1] {
        site.node(node).must("systemctl start drcm_server");
        site.node(node).must("systemctl status drcm_server");
    }
    let healthy =
        |node: usize| site.node(node).must("drcm_server --client --command=cm_stat").lines().last() == Some("Cluster status: HEALTHY");
    site.wait("the whole cluster", LONG, || healthy(0) && healthy(1));
    let log = one.run("timeout 1 tail -f /var/drcm/drcm.log").text;
    assert!(log.contains("group cmnode1:cmnodef+system+user: running"), "{log}");
    // Floating IP Address Interface Configuration: no file is needed
    let addresses = |node: usize| site.node(node).must("ip -o -4 address show dev eth0");
    assert!(addresses(0).contains(&Plan::served().to_string()) && addresses(0).contains("eth0:1"));
    let applications = |node: usize| site.node(node).holds("pgrep -u ldm -f ldm_works");
    assert!(applications(0) && applications(1), "applications run on both");
    one.must("systemctl stop drcm_server");
    site.wait("the failover", LONG, || addresses(1).contains(&Plan::served().to_string()));
    let said = site.node(1).must("drcm_server --client --command=cm_stat");
    assert!(said.contains("OK-Backup") && !said.contains("HEALTHY"), "{said}");
    site.node(1).must("ls /etc/cron.d/system_crons /etc/cron.d/user_crons /etc/cron.d/apps_package2");
    one.must("systemctl start drcm_server");
    site.wait("the way home", LONG, || addresses(0).contains(&Plan::served().to_string()) && healthy(0));
    one.must("systemctl enable --quiet drcm_server");
    one.must("service drcm_server status");

    // Cluster Monitor and Reports
    let script = "for CMNODE in cmnode1 cmnode2\ndo\necho $CMNODE\n/usr/sbin/drcm_server --client --command=rstats | sed -n \"/$CMNODE/,/$CMNODE/p\" | grep -v $CMNODE\necho \"\"\ndone";
    let said = one.must(script);
    let (first, second) = said.split_once("\n\ncmnode2\n").unwrap_or_else(|| panic!("{said}"));
    for line in ["cron:user,", "cron:system,", "cron:apps1,", "ip:cmnodef,", "service:web,", "application:ldm,", "filesystem:data,"] {
        assert!(first.contains(line), "{line}: {said}");
    }
    assert!(second.contains("cron:apps2,") && !second.contains("ip:cmnodef"), "{said}");

    // Setting up cluster alerts
    one.must("/etc/drcm/utils/watch_cluster.sh > /dev/null 2>&1");
    one.must("grep -q 'export EMAILlist=\"root\"' /etc/drcm/my_cluster_conf/cm_alert_list.sh");
    one.must("export HOME=/root; chmod 755 ~/test_alert.sh && ~/test_alert.sh");
    one.wait("the message", LONG, || one.holds("grep -q 'Cluster Alert Test Message' /var/mail/root"));

    // To remove the package
    one.must("dpkg -r drcm-server");
    site.wait("the failover", LONG, || addresses(1).contains(&Plan::served().to_string()));
}
