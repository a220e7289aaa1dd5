//! The 2-way replication of file systems, as its documentation has it: rsync over a real sshd between two machines, a failover
//! by hand, one by a power cut, and everything that must not be copied.

use std::time::{Duration, Instant};

use drcm::lab::Plan;

use super::lab::{Blueprint, LONG, Shell as _, Site, Spoken};

const SYNC: &str = "/etc/drcm/file_system_sync/sync_testfs.sh";
const LIST: &str = "/etc/drcm/my_cluster_conf/testfs_sync_list.sh";
const RUN_FLAG: &str = "/var/run/drcm/testfs_failback_sync_flag";
const SPOOL_FLAG: &str = "/var/spool/drcm/testfs_failback_sync_flag";

/// The output that the documentation promises on the backup node.
const NOTHING_TO_BRING_BACK: &str = "Checking to see if failback sync flag exists
We have no sync flag for testfs files
No file sync to primary cluster node will be performed
";

/// `node1` is the primary, `node2` the backup, `node3` a witness. More lines for my_cluster_info.sh.
fn cluster(more: &str) -> Site {
    let mut blueprint = Blueprint::web(2, 1);
    let information = format!(
        "export CLUSTER_NAME=\"NFS-CLUSTER1\"
export BACKUP_STORAGE_SERVER=\"{storage}\"
export BACKUP_STORAGE_LOCATION=\"/backups\"
export BACKUP_USER=\"root\"
export PRIMARY_FILESYSTEMS_IP=\"{primary}\"
export PRIMARY_FILESYSTEMS_ETH=\"eth0\"
export BACKUP_FILESYSTEMS_IP=\"{backup}\"
export BACKUP_FILESYSTEMS_ETH=\"eth0\"
export SYNC_CONFIRM_SECONDS=2
{more}
",
        storage = Plan::address(2),
        primary = Plan::address(0),
        backup = Plan::address(1),
    );
    blueprint.files.push(("/etc/drcm/my_cluster_conf/my_cluster_info.sh".to_owned(), information));
    blueprint.files.push((LIST.to_owned(), "RsyncMirror /testfs\n".to_owned()));
    let site = Site::boot(&blueprint);
    let host_key = site.node(0).must("cat /etc/ssh/ssh_host_ed25519_key.pub");
    let host_key = host_key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let mut keys = String::new();
    for node in 0..3 {
        site.node(node).must("mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519");
        keys += &site.node(node).must("cat /root/.ssh/id_ed25519.pub");
    }
    for node in 0..3 {
        site.node(node).must(&format!("echo '* {host_key}' >/root/.ssh/known_hosts; printf '%s' '{keys}' >/root/.ssh/authorized_keys"));
        site.node(node).must("systemctl start ssh && mkdir -p /testfs");
    }
    site.enable_all();
    site.wait("the whole cluster", LONG, || (0..2).all(|node| site.status(node).contains("Cluster status: HEALTHY")));
    site
}

fn sync(site: &Site, node: usize) -> Spoken {
    site.node(node).run(SYNC)
}

/// What is in /testfs of a node: names and contents.
fn files(site: &Site, node: usize) -> String {
    site.node(node).must("cd /testfs && find . -type f | sort | while IFS= read -r name; do echo \"$name: $(cat \"$name\")\"; done")
}

fn flags(site: &Site, node: usize) -> usize {
    let text = site.node(node).must(&format!("ls {RUN_FLAG} {SPOOL_FLAG} 2>/dev/null | wc -l"));
    text.trim().parse().unwrap()
}

#[test]
fn files_follow_a_failover_by_hand_and_come_back() {
    let site = cluster("");
    site.node(0).must("mkdir '/testfs/a directory'; echo one >/testfs/one; echo two >'/testfs/a directory/two *?'; ln -s one /testfs/link");
    let said = sync(&site, 0);
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert_eq!(files(&site, 1), "./a directory/two *?: two\n./one: one\n");
    // The backup node does as the documentation says, to the letter.
    let said = sync(&site, 1);
    assert_eq!((said.code, said.text.as_str()), (Some(0), NOTHING_TO_BRING_BACK));
    // A mirror deletes, a copy does not.
    site.node(0).must("rm /testfs/one /testfs/link");
    site.node(0).must(&format!("echo 'RsyncCopy /testfs' >{LIST}; {SYNC}"));
    assert!(files(&site, 1).contains("./one: one"));
    site.node(0).must(&format!("echo 'RsyncMirror /testfs' >{LIST}; {SYNC}"));
    assert_eq!(files(&site, 1), "./a directory/two *?: two\n");
    assert_eq!(site.node(0).must("/etc/drcm/utils/is_primary_fs.sh; /etc/drcm/utils/is_backup_fs.sh"), "TRUE\nFALSE\n");
    assert_eq!(site.node(1).must("/etc/drcm/utils/is_primary_fs.sh; /etc/drcm/utils/is_backup_fs.sh"), "FALSE\nTRUE\n");

    // By hand: asked first, brought up to date, then the service is stopped.
    let failover = "/etc/drcm/utils/manual_fs_failover.sh";
    assert_eq!(site.node(1).run(&format!("{failover} --yes")).code, Some(1), "only on the primary");
    site.node(0).must("echo three >/testfs/three");
    let said = site.node(0).run(&format!("echo no | {failover}"));
    assert!(said.code == Some(1) && said.text.contains("Nothing was failed over"), "{}", said.text);
    assert!(site.node(0).holds("systemctl is-active drcm_server"));
    let said = site.node(0).run(&format!("echo yes | {failover}"));
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert!(files(&site, 1).contains("./three: three"));
    assert!(!site.node(0).holds("systemctl is-active drcm_server"));

    // The backup node is in office: a flag on both nodes, with the time.
    site.wait("the failover", LONG, || site.node(1).run("/etc/drcm/utils/fs_has_failedover.sh").text == "TRUE\n");
    let said = sync(&site, 1);
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert_eq!((flags(&site, 0), flags(&site, 1)), (2, 2), "{}", said.text);
    site.node(0).must(&format!("test $(( $(date +%s) - $(cat {RUN_FLAG}) )) -lt 60"));
    site.node(1).must("echo newer >/testfs/three; rm '/testfs/a directory/two *?'; echo four >/testfs/four");
    let newer = files(&site, 1);
    // Neither while it is down nor once it is up again may the primary send its old files.
    let said = sync(&site, 0);
    assert!(said.text.contains("No file sync to backup cluster node will be performed"), "{}", said.text);
    site.node(0).must("systemctl start drcm_server");
    site.wait("the primary in office", LONG, || site.node(1).run("/etc/drcm/utils/fs_has_failedover.sh").text == "FALSE\n");
    let said = sync(&site, 0);
    assert!(said.code == Some(0) && said.text.contains("brings them back"), "{}", said.text);
    assert_eq!(files(&site, 1), newer);
    let said = sync(&site, 1);
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert_eq!(files(&site, 0), newer);
    assert_eq!((flags(&site, 0), flags(&site, 1)), (0, 0));
    assert_eq!(sync(&site, 1).text, NOTHING_TO_BRING_BACK);
    // And on it goes.
    site.node(0).must(&format!("echo five >/testfs/five; {SYNC}"));
    assert!(files(&site, 1).contains("./five: five"));
    // The log has all of it, since cron throws the output away.
    assert!(site.node(1).must("cat /var/log/drcm/sync_testfs.log").contains("replicated back to the primary node"));
}

#[test]
fn a_primary_that_lost_its_power_gets_the_newer_files_and_what_it_loses_is_kept() {
    let mut site = cluster("export FAILBACK_SAVE_DIR=/var/spool/drcm/saved");
    site.node(0).must(&format!("echo old >/testfs/file; {SYNC}; echo 'not replicated yet' >/testfs/late"));
    site.node_mut(0).power_cut();
    site.wait("the failover", LONG, || site.node(1).run("/etc/drcm/utils/fs_has_failedover.sh").text == "TRUE\n");
    let said = sync(&site, 1);
    assert!(said.code == Some(0) && said.text.contains("the primary cannot be reached"), "{}", said.text);
    site.node(1).must("echo new >/testfs/file");
    // A reboot of the backup node empties /run: the flag is known all the same.
    site.node(1).must(&format!("rm {RUN_FLAG}"));
    site.power_on(0);
    site.node(0).booted();
    site.node(0).must("systemctl start ssh");
    site.wait("the primary in office", LONG, || site.node(1).run("/etc/drcm/utils/fs_has_failedover.sh").text == "FALSE\n");
    assert_eq!(flags(&site, 0), 0, "it was off");
    let said = sync(&site, 0);
    assert!(said.code == Some(0) && said.text.contains("brings them back"), "{}", said.text);
    assert_eq!(files(&site, 1), "./file: new\n");
    let said = sync(&site, 1);
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert_eq!(files(&site, 0), "./file: new\n");
    assert_eq!(flags(&site, 1), 0);
    let saved = site.node(0).must("cd /var/spool/drcm/saved/testfs/* && find . -type f -exec cat {} + | sort");
    assert_eq!(saved, "not replicated yet\nold\n");
}

#[test]
fn what_is_empty_unmounted_unknown_or_wrong_is_never_copied() {
    let mut site = cluster("export UNIXMAILPROGRAM=/usr/local/bin/sink");
    for node in [0, 1] {
        site.node(node).must("printf '#!/bin/sh\\ncat >>/tmp/mail\\n' >/usr/local/bin/sink && chmod 755 /usr/local/bin/sink");
    }
    site.node(0).must("mount -t tmpfs tmpfs /testfs && echo precious >/testfs/file");
    assert_eq!(sync(&site, 0).code, Some(0));
    let refused = |node: usize, why: &str| {
        let said = sync(&site, node);
        assert!(said.code == Some(1) && said.text.contains(why), "`{why}` was expected: {:?} {}", said.code, said.text);
        assert_eq!(files(&site, 1), "./file: precious\n", "{why}");
    };
    // No longer mounted, with a file below it.
    site.node(0).must("umount /testfs && echo decoy >/testfs/decoy");
    refused(0, "was mounted at the last run");
    site.node(0).must("rm /var/spool/drcm/sync_testfs_mounts_*; echo 'tmpfs /testfs tmpfs defaults 0 0' >>/etc/fstab");
    refused(0, "although /etc/fstab has it");
    site.node(0).must("sed -i '/testfs/d' /etc/fstab; rm /testfs/decoy; mkdir /testfs/lost+found");
    refused(0, "is empty here");
    site.node(0).must("rmdir /testfs/lost+found /testfs");
    refused(0, "there is no directory /testfs");
    site.node(0).must("mkdir /testfs; echo other >/testfs/file");
    for (line, why) in [
        ("RsyncMirror /", "not a directory to replicate"),
        ("RsyncMirror testfs", "not a directory to replicate"),
        ("RsyncMirror /testfs/../testfs", "not a directory to replicate"),
        ("RsyncMirror /testfs; then", "has an error"),
    ] {
        site.node(0).must(&format!("cp {LIST} /tmp/list; echo '{line}' >{LIST}"));
        refused(0, why);
        site.node(0).must(&format!("cp /tmp/list {LIST}"));
    }
    site.node(0).must(&format!("chmod o+w {LIST}"));
    refused(0, "may be written by everyone");
    site.node(0).must(&format!("chmod 644 {LIST}"));
    // The other side has nothing to put it on.
    site.node(1).must("echo 'tmpfs /testfs tmpfs defaults 0 0' >>/etc/fstab");
    refused(0, "although /etc/fstab has it");
    site.node(1).must("sed -i '/testfs/d' /etc/fstab");
    // Another user; a node that is neither; one that is both.
    let said = site.node(0).run(&format!("runuser -u nobody -- {SYNC}"));
    assert!(said.code == Some(1) && said.text.contains("only root"), "{}", said.text);
    site.node(0).must(&format!("ip address add {}/32 dev eth0", Plan::address(1)));
    refused(0, "this node has both");
    site.node(0).must(&format!("ip address del {}/32 dev eth0", Plan::address(1)));
    let said = sync(&site, 2);
    assert!(said.code == Some(1) && said.text.contains("this node has neither"), "{}", said.text);

    // A flag that nobody takes away: nothing goes out, and the operator is told.
    site.node(1).must(&format!("echo $(( $(date +%s) - 7200 )) >{RUN_FLAG}"));
    refused(0, "has stood for 120 minutes");
    assert!(site.node(0).must("cat /tmp/mail").contains("has stood for 120 minutes"));
    site.node(1).must(&format!("rm {RUN_FLAG}"));
    // Both were in office since the failover: that is for people to decide.
    site.node(1).must(&format!(
        "echo $(( $(date +%s) - 900 )) >{RUN_FLAG}; printf '%s\\n%s\\n' $(( $(date +%s) - 900 )) $(( $(date +%s) - 1800 )) >{SPOOL_FLAG}"
    ));
    site.node(0).must("date +%s >/var/spool/drcm/testfs_primary_active");
    refused(1, "both nodes have had the testfs files since");
    assert_eq!(files(&site, 0), "./file: other\n");
    site.node(1).must(&format!("rm {RUN_FLAG} {SPOOL_FLAG}"));

    // The backup node is cut off from the cluster: that the primary is down is its own mistake.
    site.node(1).must("nft 'add table inet cut; add chain inet cut in { type filter hook input priority 0; }; add rule inet cut in meta l4proto { tcp, udp } th dport 53897 drop; add chain inet cut out { type filter hook output priority 0; }; add rule inet cut out meta l4proto { tcp, udp } th dport 53897 drop'");
    site.wait("the loss of the quorum", LONG, || site.node(1).run("/etc/drcm/utils/fs_has_failedover.sh").text.contains("ERROR"));
    let said = sync(&site, 1);
    assert!(said.code == Some(1) && said.text.contains("it is not known whether"), "{}", said.text);
    assert_eq!((flags(&site, 0), flags(&site, 1)), (0, 0));
    // No daemon at all, anywhere it could ask.
    site.node(1).must("systemctl stop drcm_server; nft delete table inet cut");
    site.node(0).must("systemctl stop drcm_server");
    site.node_mut(2).power_cut();
    for node in [0, 1] {
        let said = site.node(node).run(SYNC);
        assert!(said.code == Some(1), "{}", said.text);
    }
    assert_eq!(files(&site, 1), "./file: precious\n");
    assert_eq!((flags(&site, 0), flags(&site, 1)), (0, 0));
}

#[test]
fn runs_never_overlap_and_a_host_that_hangs_holds_up_nobody() {
    let site = cluster("export DRCM_RSYNC=/usr/local/bin/slow_rsync");
    for node in [0, 1] {
        site.node(node).must(
            "printf '#!/bin/sh\\necho begin >>/tmp/runs\\nsleep 1\\nrsync \"$@\"\\ncode=$?\\necho end >>/tmp/runs\\nexit $code\\n' >/usr/local/bin/slow_rsync && chmod 755 /usr/local/bin/slow_rsync",
        );
    }
    site.node(0).must("echo one >/testfs/file");
    let said =
        site.node(0).must(&format!("for run in 1 2 3 4 5 6; do {SYNC} >/tmp/said.$run 2>&1 & done; wait; cat /tmp/said.*; cat /tmp/runs"));
    let runs: Vec<&str> = said.lines().filter(|line| ["begin", "end"].contains(line)).collect();
    assert!(!runs.is_empty() && runs.chunks(2).all(|pair| pair == ["begin", "end"]), "{said}");
    assert!(said.contains("has had /var/run/drcm/sync_testfs.lock"), "{said}");
    assert_eq!(files(&site, 1), "./file: one\n");
    assert!(!site.node(0).holds("ls /var/run/drcm/sync_testfs.lock") && !site.node(1).holds("ls /var/run/drcm/sync_testfs.lock"));

    // The other node has its part of the lock: a run here waits for nobody, and takes nothing away.
    site.node(1).must("sleep 600 >/dev/null 2>&1 & echo $(uname -n):$! >/var/run/drcm/sync_testfs.lock");
    let said = sync(&site, 0);
    assert!(said.code == Some(1) && said.text.contains("has had /var/run/drcm/sync_testfs.lock"), "{}", said.text);
    // Once that process is gone its lock is nothing.
    site.node(1).must("kill $(cut -d: -f2 /var/run/drcm/sync_testfs.lock)");
    assert_eq!(sync(&site, 0).code, Some(0));
    // So is one that a run of this node left behind there when it was killed.
    site.node(1).must("echo node1.lab:999999 >/var/run/drcm/sync_testfs.lock");
    let said = sync(&site, 0);
    assert_eq!(said.code, Some(0), "{}", said.text);

    // Accepts connections and says nothing.
    site.node(1).signal("ssh", nix::sys::signal::Signal::SIGSTOP);
    let began = Instant::now();
    let said = sync(&site, 0);
    let took = began.elapsed();
    assert!(said.code == Some(1) && took < Duration::from_secs(25), "{took:?}: {}", said.text);
    println!("a host that hangs is given up after {took:?}");
}

#[test]
fn the_storage_server_gets_a_copy_from_the_node_that_has_the_files() {
    let site = cluster("");
    let backup = "/etc/drcm/file_system_sync/backup_to_shared_storage.sh";
    site.node(0).must("echo one >'/testfs/a file'");
    let said = site.node(0).run(backup);
    assert!(said.code == Some(1) && said.text.contains("there is no directory /backups"), "{}", said.text);
    site.node(2).must("mkdir /backups");
    for node in [0, 1] {
        site.node(node).must("echo 'RsyncMirror /testfs' >/etc/drcm/my_cluster_conf/backup_storage_list.sh");
    }
    site.node(0).must(backup);
    assert_eq!(site.node(2).must("cat '/backups/NFS-CLUSTER1/testfs/a file'"), "one\n");
    assert!(site.node(1).must(backup).contains("on the other node"));
    site.node(0).must(SYNC);
    site.node(0).must("systemctl stop drcm_server");
    site.wait("the failover", LONG, || site.node(1).run("/etc/drcm/utils/fs_has_failedover.sh").text == "TRUE\n");
    site.node(1).must(&format!("echo two >/testfs/two; {backup}"));
    assert_eq!(site.node(2).must("ls /backups/NFS-CLUSTER1/testfs"), "a file\ntwo\n");
}

#[test]
fn a_user_of_its_own_with_directories_of_its_own_can_run_it() {
    let site = cluster("export BACKUP_USER=keeper\nexport DRCM_RUN_DIR=/home/keeper/run\nexport DRCM_SPOOL_DIR=/home/keeper/spool");
    for node in [0, 1] {
        let machine = site.node(node);
        // Of cluster_group, so that the daemon answers.
        machine.must("useradd --create-home --groups root keeper && chown keeper /testfs && chgrp keeper /etc/drcm/my_cluster_conf && chmod g+w /etc/drcm/my_cluster_conf");
        machine.must("cp -r /root/.ssh /home/keeper/ && chown -R keeper /home/keeper/.ssh");
        machine.must("runuser -u keeper -- mkdir /home/keeper/run /home/keeper/spool");
    }
    site.node(0).must("echo one >/testfs/one");
    let as_keeper = |node: usize, script: &str| site.node(node).run(&format!("cd / && runuser -u keeper -- {script}"));
    let said = as_keeper(0, SYNC);
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert_eq!(files(&site, 1), "./one: one\n");
    let said = as_keeper(1, SYNC);
    assert_eq!((said.code, said.text.as_str()), (Some(0), NOTHING_TO_BRING_BACK));
    // Missing lists are written, with examples that do nothing.
    let said = as_keeper(0, "/etc/drcm/file_system_sync/sync_mysql.sh");
    assert!(said.code == Some(0) && said.text.contains("wrote /etc/drcm/my_cluster_conf/mysql_sync_list.sh"), "{}", said.text);
    site.node(0).must("grep -q '^# RsyncMirror' /etc/drcm/my_cluster_conf/mysql_sync_list.sh");
    site.node(0).must("echo yes | /etc/drcm/utils/manual_fs_failover.sh");
    site.wait("the failover", LONG, || as_keeper(1, "/etc/drcm/utils/fs_has_failedover.sh").text == "TRUE\n");
    let said = as_keeper(1, SYNC);
    assert!(said.code == Some(0) && said.text.contains("on both nodes"), "{}", said.text);
}
