//! The packages: installed, upgraded under load, verified, removed and purged on whole systems.

#[path = "../../examples/manual/pages.rs"]
mod pages;

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::lab::{Blueprint, LONG, Shell as _, Site};

/// A file that the administrator of these tests edits.
const EDITED: &str = "/etc/drcm/resources/service.sh";
/// One that is there before the package.
const OLD: &str = "/etc/drcm/resources/nfs.sh";

/// Packages of the programs that are tested, made in a directory of their own. It is removed when dropped.
pub struct Packages {
    /// A tree of our sources with other programs in its `target`.
    directory: PathBuf,
}

impl Packages {
    pub fn new() -> Self {
        let directory = env::temp_dir().join(format!("drcm-packages-{}", std::process::id()));
        let release = directory.join("target/release");
        fs::create_dir_all(&release).unwrap();
        for entry in fs::read_dir(source()).unwrap() {
            let entry = entry.unwrap();
            let (name, kind) = (entry.file_name(), entry.file_type().unwrap());
            if kind.is_file() {
                fs::copy(entry.path(), directory.join(&name)).unwrap();
            } else if name != "target" && name != ".git" {
                symlink(entry.path(), directory.join(&name)).unwrap();
            }
        }
        let built = Path::new(env!("CARGO_BIN_EXE_drcm_server")).parent().unwrap();
        for program in ["drcm", "drcm_server"] {
            say(Command::new("strip").arg(built.join(program)).arg("-o").arg(release.join(program)));
        }
        pages::write(&directory.join("target/manual")).unwrap();
        Self { directory }
    }

    pub fn deb(&self, version: &str) -> PathBuf {
        let package = self.directory.join(format!("drcm-server-{version}.deb"));
        say(self
            .packager("deb")
            .args(["--locked", "--no-build", "--no-strip", "--fast", "--deb-version", version, "--output"])
            .arg(&package));
        package
    }

    pub fn rpm(&self, release: &str) -> PathBuf {
        let package = self.directory.join(format!("drcm_server-{release}.rpm"));
        let release = format!("release = \"{release}\"");
        say(self.packager("generate-rpm").args(["--payload-compress", "none", "--set-metadata", &release, "--output"]).arg(&package));
        package
    }

    fn packager(&self, command: &str) -> Command {
        let mut packager = Command::new(env!("CARGO"));
        packager.arg(command).current_dir(&self.directory).env("SOURCE_DATE_EPOCH", "1700000000");
        for moved in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_MANIFEST_DIR"] {
            packager.env_remove(moved);
        }
        packager
    }

    /// What `make install_root` puts in place, as `FILE MODE`, where packages of this kind have it.
    fn installed(&self, documents: &str, settings: &str, init: &str) -> BTreeSet<String> {
        let root = self.directory.join("root");
        let mut install = Command::new(source().join("scripts/install"));
        install.arg(&root).arg("/usr/lib/systemd/system");
        say(install.arg(self.directory.join("target/release")).arg(self.directory.join("target/manual")));
        let listed = say(Command::new("find").arg(&root).args(["-type", "f", "-printf", "/%P %m\n"]));
        fs::remove_dir_all(&root).unwrap();
        let place = |line: &str| {
            let line = line.replace("/usr/share/doc/drcm/", documents).replace("/etc/default/", settings).replace("/etc/init.d/", init);
            // In packages all of these are executable, what is only sourced too.
            if line.starts_with("/etc/drcm/") && line.contains(".sh ") && !line.contains("/my_cluster_conf/") {
                line.replace(" 644", " 755")
            } else {
                line
            }
        };
        listed.lines().map(place).collect()
    }
}

impl Drop for Packages {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// Runs a command that must succeed.
#[track_caller]
fn say(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/setup test installs what is missing"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text} (scripts/setup test installs what is missing)");
    text
}

fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files of a package as `FILE MODE`, without those that only packages have and as they are before they are compressed.
fn listed(files: &str) -> BTreeSet<String> {
    let own = |line: &&str| !line.contains("/LICENSE-") && !line.contains("/copyright ");
    files.lines().filter(own).map(|line| line.replace(".gz ", " ")).collect()
}

/// The configuration and the keys of the laboratory's web cluster, put in place by hand.
fn configure(site: &Site, blueprint: &Blueprint) {
    for node in 0..blueprint.nodes {
        site.node(node).must(&format!(
            "cat >/etc/drcm/cm.cfg <<'END'\n{}END\nyes | head -c 2048 >/etc/drcm/.auth/authkey; cd /etc/drcm/.auth; sha1sum authkey | cut -b1-40 >authkey.sha1; chmod 600 *",
            blueprint.text()
        ));
    }
}

#[test]
fn the_deb_is_installed_upgraded_under_load_removed_and_purged() {
    let packages = Packages::new();
    let mut blueprint = Blueprint::web(2, 1);
    blueprint.packages = vec![packages.deb("2.0.0-1"), packages.deb("2.0.0-2")];
    let twice = fs::read(&blueprint.packages[0]).unwrap();
    assert!(twice == fs::read(packages.deb("2.0.0-1")).unwrap(), "the same sources make the same package");
    let site = Site::boot(&blueprint);
    for node in 0..3 {
        // The root was made without documentation, and dpkg told to go on so.
        site.node(node).must("rm -f /etc/dpkg/dpkg.cfg.d/*mmdebstrap");
        if node == 2 {
            // Put over a site of DRCM 1.x that no package knows of: its files stay as they are.
            let said = site.node(node).must(&format!("mkdir -p /etc/drcm/resources; echo '# of old' >{OLD}; dpkg -i --force-confold /root/drcm-server-2.0.0-1.deb && cat {OLD} && mv {OLD}.dpkg-dist {OLD}"));
            assert!(said.trim().ends_with("# of old"), "{said}");
        } else {
            site.node(node).must("dpkg -i /root/drcm-server-2.0.0-1.deb");
        }
        assert_eq!(site.node(node).must("dpkg -V drcm-server"), "");
    }
    let machine = site.node(0);
    let files = machine.must("for file in $(dpkg -L drcm-server); do [ -f $file ] && stat -c '%n %a' $file; done; true");
    assert_eq!(listed(&files), packages.installed("/usr/share/doc/drcm-server/", "/etc/default/", "/etc/init.d/"));
    let configurations = machine.must("dpkg-query -W -f='${Conffiles}' drcm-server");
    for file in files.lines().filter_map(|line| line.split_once(' ')).map(|(file, _)| file) {
        assert_eq!(configurations.contains(&format!(" {file} ")), file.starts_with("/etc/"), "{file}: {configurations}");
    }
    // It starts nothing by itself.
    assert!(!machine.holds("systemctl is-active drcm_server") && !machine.holds("systemctl is-enabled drcm_server"));
    machine.must("test -L /var/drcm && test -d /var/drcm/. && test $(stat -c %a /etc/drcm/.auth) = 700 && test -d /var/spool/drcm");
    machine.must("test -x /etc/init.d/drcm_server && test -s /usr/share/man/man8/drcm_server.8* && test -s /etc/default/drcm_server");
    assert!(machine.must("dpkg -S /usr/sbin/drcm_server").starts_with("drcm-server:"));
    configure(&site, &blueprint);
    site.enable_all();
    let http = site.http();
    site.wait_served(&http, 0);

    // Upgraded while it serves: no page is lost, nothing is started again, what was edited stays.
    machine.must(&format!("echo '# mine' >>{EDITED}"));
    let (daemon, nginx, began) = (machine.main_process("drcm_server"), machine.main_process("nginx"), Instant::now());
    let said = machine.must("dpkg -i --force-confdef --force-confold /root/drcm-server-2.0.0-2.deb");
    site.wait("the successor", LONG, || site.node(0).log().contains("going on with its leases"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((machine.main_process("drcm_server"), machine.main_process("nginx")), (daemon, nginx), "{said}");
    assert_eq!(http.lost_since(began), []);
    println!("upgraded by dpkg: {} pages asked for, none lost", http.counts(began).0);
    machine.must(&format!("tail -n 1 {EDITED} | grep -qx '# mine'"));
    assert_eq!(machine.run("dpkg -V drcm-server").text.lines().filter(|line| !line.contains(EDITED)).count(), 0);
    assert!(machine.must("dpkg-query -W drcm-server").contains("2.0.0-2"));

    // Removed: it hands over first, and what the administrator made is still there.
    machine.must("dpkg -r drcm-server");
    site.wait_served(&http, 1);
    machine.must("test ! -e /usr/sbin/drcm_server && test ! -L /var/drcm && test -s /etc/drcm/cm.cfg && test -s /etc/drcm/.auth/authkey");
    machine.must(&format!("tail -n 1 {EDITED} | grep -qx '# mine'"));
    assert!(!machine.holds("systemctl is-active --quiet nginx"));
    // Installed again it has all of it; purged it leaves nothing.
    machine.must("dpkg -i --force-confold /root/drcm-server-2.0.0-2.deb && systemctl start drcm_server");
    site.wait_served(&http, 0);
    machine.must("dpkg -P drcm-server");
    machine.must("test ! -e /etc/drcm && test ! -e /var/log/drcm && test ! -e /var/spool/drcm && test ! -e /var/drcm && test ! -e /etc/init.d/drcm_server");
    site.wait_served(&http, 1);
}

#[test]
fn the_rpm_is_installed_upgraded_and_removed() {
    let packages = Packages::new();
    let mut blueprint = Blueprint::web(1, 0);
    blueprint.packages = vec![packages.rpm("1"), packages.rpm("2")];
    let site = Site::boot(&blueprint);
    let machine = site.node(0);
    // Put over a site of DRCM 1.x that no package knows of: its files stay as they are.
    machine.must(&format!("mkdir -p /etc/drcm/resources; echo '# of old' >{OLD}"));
    // These machines are no machines of that kind: what it requires is here under other names.
    machine.must("rpm -i --nodeps /root/drcm_server-1.rpm");
    assert_eq!(machine.must(&format!("cat {OLD} && mv {OLD}.rpmnew {OLD}")).trim(), "# of old");
    assert_eq!(machine.must("rpm -V --nodeps drcm_server"), "");
    let files = machine.must("for file in $(rpm -ql drcm_server); do stat -c '%n %a' $file; done");
    assert_eq!(listed(&files), packages.installed("/usr/share/doc/drcm_server/", "/etc/sysconfig/", "/etc/rc.d/init.d/"));
    machine.must("test -L /var/drcm && test -d /var/drcm/. && test $(stat -c %a /etc/drcm/.auth) = 700 && test -d /var/spool/drcm");
    assert!(machine.must("rpm -qf /usr/sbin/drcm_server").starts_with("drcm_server-2.0.0-1"));
    let configurations: BTreeSet<String> = machine.must("rpm -qc drcm_server").lines().map(str::to_owned).collect();
    let below_etc = files.lines().filter_map(|line| line.split_once(' ')).map(|(file, _)| file.to_owned());
    assert_eq!(configurations, below_etc.filter(|file| file.starts_with("/etc/")).collect());
    let documents = machine.must("rpm -qd drcm_server");
    assert!(documents.contains("/usr/share/man/man8/drcm_server.8") && documents.contains("/replication.md"), "{documents}");

    configure(&site, &blueprint);
    machine.must("systemctl enable --now drcm_server");
    let http = site.http();
    site.wait_served(&http, 0);
    machine.must(&format!("echo '# mine' >>{EDITED}"));
    let (daemon, began) = (machine.main_process("drcm_server"), Instant::now());
    machine.must("rpm -U --nodeps /root/drcm_server-2.rpm");
    site.wait("the successor", LONG, || site.node(0).log().contains("going on with its leases"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((machine.main_process("drcm_server"), http.lost_since(began)), (daemon, vec![]));
    machine.must(&format!("tail -n 1 {EDITED} | grep -qx '# mine'"));
    let changed = machine.run("rpm -V --nodeps drcm_server").text;
    assert!(changed.lines().all(|line| line.contains(EDITED)), "{changed}");
    machine.must("rpm -e --nodeps drcm_server");
    machine.must("test ! -e /usr/sbin/drcm_server && test ! -L /var/drcm && test -s /etc/drcm/cm.cfg && test ! -e /etc/drcm/utils");
    machine.must(&format!("test -s {EDITED}.rpmsave && test -s /etc/drcm/.auth/authkey"));
    assert!(!machine.holds("systemctl is-active --quiet nginx"));
}
