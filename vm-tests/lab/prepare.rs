//! Boots the three machines once, installs the package and the servers on them, and saves them as they are: every scenario goes on
//! from there. The daemon is installed and was never started.

use std::{fs, path::PathBuf, process::Command, thread, time::Instant};

use drcm::lab::{Plan, Port, Shell as _, Switch};

use super::{NODES, STORAGE, evidence::Evidence, image::Image, machine::Machine};

/// Who may use the share, and by which word.
pub const SHARE_USER: (&str, &str) = ("cluster", "not-to-be-seen");

/// Saved machines.
pub struct Prepared {
    directory: PathBuf,
}

impl Prepared {
    /// Those of an earlier run, if nothing has changed since.
    pub fn ready(image: &Image) -> Self {
        let directory = image.cache.join(format!("prepared-{}", image.digest));
        let complete = directory.join("complete");
        if complete.exists() {
            return Self { directory };
        }
        for entry in fs::read_dir(&image.cache).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("prepared-") {
                fs::remove_dir_all(entry.path()).ok();
            }
        }
        let start = Instant::now();
        println!("preparing: three machines are booted, and saved");
        // Made where it stays: the disks name each other by path.
        fs::create_dir_all(&directory).unwrap();
        make(image, &directory);
        fs::write(complete, "").unwrap();
        println!("preparing: done after {:.0?}", start.elapsed());
        Self { directory }
    }

    pub fn disk(&self, node: usize) -> PathBuf {
        self.directory.join(format!("node{}/disk", node + 1))
    }

    pub fn payload(&self, node: usize) -> PathBuf {
        self.directory.join(format!("node{}/payload", node + 1))
    }

    pub fn state(&self, node: usize) -> PathBuf {
        self.directory.join(format!("node{}/state", node + 1))
    }
}

fn make(image: &Image, directory: &std::path::Path) {
    let switch = Switch::create().unwrap();
    let evidence = Evidence::new();
    let mut machines: Vec<Machine> = (0..NODES)
        .map(|node| {
            let home = directory.join(format!("node{}", node + 1));
            fs::create_dir_all(&home).unwrap();
            payload(image, node, &home.join("payload"));
            switch.socket(Port::Node(node)).unwrap();
            let mut machine = Machine::new(node, &home, &image.directory.join("disk.raw"), "raw", &home.join("payload"));
            machine.power_on(image, &switch, &evidence, None);
            machine
        })
        .collect();
    thread::scope(|scope| {
        for (node, machine) in machines.iter_mut().enumerate() {
            scope.spawn(move || {
                machine.booted();
                machine.must("dpkg -i /root/drcm.deb && sync");
                if node == STORAGE {
                    serve(machine);
                }
                // As any server has it that mounts something.
                machine.must("systemctl start network-online.target");
                // What is still written after a boot is not to be written again in each scenario.
                machine.must("systemctl daemon-reload; sync; sleep 2; sync");
                let state = directory.join(format!("node{}/state", node + 1));
                machine.save(&state);
            });
        }
    });
}

/// NFS by the kernel, and a share by samba: the kernel's own server (ksmbd) of this Debian falls over its own feet at the first open.
fn serve(machine: &Machine) {
    let (user, word) = SHARE_USER;
    machine.must(
        "chmod 777 /srv/export /srv/share && \
         printf '/srv/export 10.77.0.0/24(rw,sync,no_root_squash,no_subtree_check,fsid=77)\\n' >/etc/exports && \
         systemctl enable --quiet --now rpcbind.socket nfs-server",
    );
    machine.must(&format!(
        "printf '[global]\\nload printers = no\\nprinting = bsd\\ndisable spoolss = yes\\n[share]\\npath = /srv/share\\nread only = no\\n\
         valid users = {user}\\nforce user = root\\n' >/etc/samba/smb.conf && \
         useradd --no-create-home --shell /usr/sbin/nologin {user} && printf '{word}\\n{word}\\n' | smbpasswd -s -a {user} && \
         systemctl enable --quiet --now smbd",
    ));
}

/// What makes a machine differ from the others, and what the laboratory has on each.
fn payload(image: &Image, node: usize, to: &std::path::Path) {
    let tree = to.with_extension("tree");
    fs::remove_dir_all(&tree).ok();
    let name = format!("node{}", node + 1);
    let write = |path: &str, content: &str| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write("etc/hostname", &format!("{name}.lab\n"));
    write("etc/machine-id", &format!("{:032x}\n", node + 1));
    let hosts: String = (0..NODES).map(|node| format!("{} node{}.lab node{}\n", Plan::address(node), node + 1, node + 1)).collect();
    write("etc/hosts", &format!("127.0.0.1 localhost\n{hosts}"));
    write(
        "etc/systemd/network/eth0.network",
        &format!("[Match]\nName=eth0\n[Network]\nAddress={}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n", Plan::address(node)),
    );
    // It would tell the journal of every question, twenty times a second.
    write("etc/systemd/system/qemu-guest-agent.service.d/quiet.conf", "[Service]\nLogLevelMax=warning\n");
    // As on a machine with one network: two minutes are what a wait for any others would take.
    write(
        "etc/systemd/system/systemd-networkd-wait-online.service.d/interface.conf",
        "[Service]\nExecStart=\nExecStart=/lib/systemd/systemd-networkd-wait-online --interface=eth0 --timeout=30\n",
    );
    write("usr/local/sbin/sampler", include_str!("sampler.pl"));
    write("usr/local/sbin/writer", include_str!("writer.pl"));
    let unit = "[Unit]\nDefaultDependencies=no\nAfter=systemd-udevd.service systemd-modules-load.service\nWants=dev-virtio\\x2dports-org.drcm.sampler.device\n\
                After=dev-virtio\\x2dports-org.drcm.sampler.device\n[Service]\nExecStart=/usr/bin/perl /usr/local/sbin/sampler\nNice=-5\nRestart=always\n";
    write("etc/systemd/system/sampler.service", unit);
    let wants = tree.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    std::os::unix::fs::symlink("../sampler.service", wants.join("sampler.service")).unwrap();
    fs::create_dir_all(tree.join("root")).unwrap();
    fs::copy(&image.packages[0], tree.join("root/drcm.deb")).unwrap();
    fs::copy(&image.packages[1], tree.join("root/later.deb")).unwrap();
    let tar = Command::new("tar").args(["--owner=0", "--group=0", "-cf"]).arg(to).arg("-C").arg(&tree).arg(".").status().unwrap();
    assert!(tar.success(), "tar failed");
    fs::remove_dir_all(&tree).unwrap();
}
