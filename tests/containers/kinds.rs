//! All five kinds at once: the example of the README of DRCM 1.x on two machines, and a group that takes its disk along.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use super::lab::{Blueprint, Disk, LONG, Shell as _, Site};

/// Cron looks at its tables once a minute.
const CRON: Duration = Duration::from_secs(75);

/// A program that gets rid of everything by which its starter could know it: parent, session, environment.
const LDM_ENSURE: &str = "#!/bin/bash
beat=/home/ldm/beat
[ -e $beat ] && [ -n \"$(find $beat -newermt '-2 seconds')\" ] && exit 0
( setsid env -i /bin/bash -c 'cd /home/ldm; echo $$ >pid; id -un >user; while :; do date >beat; sleep 0.2; done' </dev/null >/dev/null 2>&1 & )
sleep 0.5
";

/// The five kinds as the README has them, with what these machines have in place of httpd and of servers for NFS and CIFS.
fn readme(disk: &Disk) -> Blueprint {
    let sections = format!(
        "[CM_CRONTABS]
# CSV format: nickname, template_file, install_location, resource_script
system, /etc/drcm/crontabs/system_crons, /etc/cron.d, /etc/drcm/resources/crontab.sh
user, /etc/drcm/crontabs/user_crons, /etc/cron.d, /etc/drcm/resources/crontab.sh
apps1, /etc/drcm/crontabs/apps_package1, /etc/cron.d, /etc/drcm/resources/crontab.sh
apps2, /etc/drcm/crontabs/apps_package2, /etc/cron.d, /etc/drcm/resources/crontab.sh

[CM_SERVICES]
web, nginx, /etc/drcm/resources/service.sh

[CM_APPLICATIONS]
ldm, ldm:users, ~/util/ldm_ensure.sh, ldmadmin stop, ~/util/ldm_ensure.sh

[CM_FILESYSTEMS]
data, tmpfs, /data, /etc/drcm/resources/nfs.sh
archive, {}, /archive, /etc/drcm/resources/nfs.sh
webshare, tmpfs, /home/users/web, /etc/drcm/resources/nfs.sh
",
        disk.device().display()
    );
    let first = "node_crontabs = user,system,apps1
node_backup_crontabs = node2:apps2
node_floating_ip_addrs = site
node_services = web
node_filesystems = data,archive,webshare
node_applications = ldm
";
    let second = "node_crontabs = apps2
node_backup_crontabs = node1:user,node1:system
node_backup_floating_ip_addrs = node1:site
node_services = web
node_filesystems = data,webshare
node_applications = ldm
";
    let cron = |name: &str| (format!("/etc/drcm/crontabs/{name}"), format!("* * * * * root date >>/var/tmp/{name}\n"));
    Blueprint {
        nodes: 2,
        server: "keep_alive_interval = 100\ndead_node_count = 15\nfailback_delay = 2\n".to_owned(),
        sections,
        lines: vec![first.to_owned(), second.to_owned()],
        files: vec![
            cron("system_crons"),
            cron("user_crons"),
            cron("apps_package1"),
            cron("apps_package2"),
            ("/home/ldm/util/ldm_ensure.sh".to_owned(), LDM_ENSURE.to_owned()),
            // It stops nothing: what is left is the daemon's business.
            ("/usr/local/bin/ldmadmin".to_owned(), "#!/bin/sh\nexit 0\n".to_owned()),
        ],
        packages: Vec::new(),
    }
}

#[test]
fn the_example_of_the_readme_runs_all_five_kinds_on_two_machines() {
    let directory = tempdir();
    let disk = Disk::format(&directory);
    let site = Site::boot(&readme(&disk));
    for node in [0, 1] {
        let machine = site.node(node);
        machine.must("useradd --gid users --shell /bin/bash --home-dir /home/ldm ldm");
        machine.must("chown -R ldm:users /home/ldm && chmod 755 /home/ldm/util/ldm_ensure.sh /usr/local/bin/ldmadmin");
        disk.plug_into(machine);
    }
    site.enable_all();
    let http = site.http();
    site.wait_served(&http, 0);
    for node in [0, 1] {
        site.wait("all of it", LONG, || site.status(node).contains("Cluster status: HEALTHY"));
    }
    let text = site.status(0);
    assert!(!text.contains("by script"), "the stock scripts mean the drivers of the daemon:\n{text}");
    let crons = |node: usize| {
        site.node(node).must("cd /etc/cron.d; for name in system_crons user_crons apps_package1 apps_package2; do [ -e $name ] && printf '%s ' $name; done; true")
    };
    assert_eq!((crons(0).trim(), crons(1).trim()), ("system_crons user_crons apps_package1", "apps_package2"));
    assert!(site.node(0).holds("findmnt -n -t tmpfs /data && findmnt -n -t ext4 /archive && findmnt -n -t tmpfs /home/users/web"));

    // The application has no parent, session or environment that would give it away; its scope does.
    let ldm = |node: usize| site.node(node).must("cat /home/ldm/pid").trim().to_owned();
    assert_eq!(site.node(0).must("cat /home/ldm/user").trim(), "ldm");
    let group = site.node(0).must(&format!("cat /proc/{}/cgroup", ldm(0)));
    assert!(group.contains("/drcm-node1:node1:ldm.scope"), "{group}");
    site.node(0).must("systemctl is-active drcm-node1:node1:ldm.scope");

    // Edited, deleted: put back at once.
    let cron = "/etc/cron.d/system_crons";
    for harm in [format!("echo '# edited' >>{cron}"), format!("rm {cron}"), format!("chmod 666 {cron}")] {
        site.node(0).must(&harm);
        let good = format!("cmp -s {cron} /etc/drcm/crontabs/system_crons && test $(stat -c %a {cron}) = 644");
        site.wait("the repair of the crontab", Duration::from_secs(2), || site.node(0).holds(&good));
    }
    // cron reads it, and the other machine's does not.
    site.wait("a job run by cron", CRON, || site.node(0).holds("test -s /var/tmp/system_crons"));
    assert!(!site.node(1).holds("test -e /var/tmp/system_crons"));

    // Another daemon in its place touches nothing.
    let before = (ldm(0), site.node(0).main_process("nginx"), site.node(0).must("findmnt -n -o ID /archive"));
    let killed = Instant::now();
    site.node(0).signal("drcm_server", Signal::SIGKILL);
    sleep(Duration::from_secs(2));
    assert_eq!(before, (ldm(0), site.node(0).main_process("nginx"), site.node(0).must("findmnt -n -o ID /archive")));
    assert_eq!(http.lost_since(killed), []);

    // Stopped: what can move has moved, and nothing is left of the rest.
    site.node(0).must("systemctl stop drcm_server");
    site.wait_served(&http, 1);
    assert!(!site.node(0).holds(&format!("kill -0 {}", before.0)), "the application was left running");
    // keep_filesystems is 1 where nothing else is said: what only this node mounts stays mounted.
    assert!(site.node(0).holds("findmnt -n -t tmpfs /data && findmnt -n -t ext4 /archive && findmnt -n -t tmpfs /home/users/web"));
    assert!(!site.node(0).holds("systemctl is-active --quiet nginx"));
    assert_eq!(crons(0).trim(), "");
    site.wait("its crontabs on the other", LONG, || crons(1).trim() == "system_crons user_crons apps_package2");
    site.wait("its job run by the other's cron", CRON, || site.node(1).holds("test -s /var/tmp/system_crons"));

    site.node(0).must("systemctl start drcm_server");
    site.wait_served(&http, 0);
    site.wait("all of it at home", LONG, || site.status(1).contains("Cluster status: HEALTHY"));
    drop(site);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_disk_and_what_is_written_on_it_follow_their_address() {
    let directory = tempdir();
    let disk = Disk::format(&directory);
    let mut blueprint = Blueprint::web(2, 1);
    blueprint.sections += &format!(
        "[CM_FILESYSTEMS]
disk, {}, /srv/www, /etc/drcm/resources/nfs.sh
[CM_APPLICATIONS]
log, root:root, cd /srv/www; while :; do date >>log; sleep 0.1; done, true
",
        disk.device().display()
    );
    blueprint.lines[0] += "node_filesystems = disk\nnode_applications = log\n";
    blueprint.lines[1] += "node_backup_filesystems = node1:disk\nnode_backup_applications = node1:log\n";
    let mut site = Site::boot(&blueprint);
    (0..2).for_each(|node| disk.plug_into(site.node(node)));
    site.enable_all();
    let http = site.http();
    site.wait_served(&http, 0);
    site.node(0).must("mountpoint -q /srv/www && test ! -e /srv/www/page");
    site.node(0).must("echo first >/srv/www/page");

    // A shell sits in it: it has to go, and the disk moves all the same.
    site.node(0).must("setsid sh -c 'cd /srv/www; exec sleep 3600' >/dev/null 2>&1 </dev/null &");
    let moved = Instant::now();
    site.node(0).must("drcm standby node1");
    site.wait_served(&http, 1);
    site.wait("the application on the other", LONG, || site.node(1).holds("mountpoint -q /srv/www && test -s /srv/www/log"));
    println!("a group with a disk that was in use: no page for {:?}", http.longest_outage(moved));
    assert_eq!(site.node(1).must("cat /srv/www/page").trim(), "first");
    assert!(!site.node(0).holds("mountpoint -q /srv/www"));
    site.node(1).must("echo second >/srv/www/page && sync -f /srv/www/page");
    site.node(0).must("drcm online node1");
    site.wait_served(&http, 0);
    site.wait("the disk at home", LONG, || site.node(0).holds("mountpoint -q /srv/www"));
    assert_eq!(site.node(0).must("cat /srv/www/page").trim(), "second");

    // The power fails while it is written to: the journal of the file system is for that.
    let cut = Instant::now();
    site.node_mut(0).power_cut();
    site.wait_served(&http, 1);
    site.wait("the disk on the other", LONG, || site.node(1).holds("mountpoint -q /srv/www"));
    println!("power cut: no page for {:?}", http.longest_outage(cut));
    assert_eq!(site.node(1).must("cat /srv/www/page").trim(), "second");
    drop(site);
    std::fs::remove_dir_all(directory).unwrap();
}

/// On a real disk, and not below the site: that is gone before the disk is.
fn tempdir() -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("drcm-kinds-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}
