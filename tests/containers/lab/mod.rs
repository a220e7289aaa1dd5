//! The container laboratory: whole Debian systems on one bridge, each with a systemd of its own, installed as a package
//! would install them, and a client that asks for what they serve.
//!
//! Owns the containers, their disks and the bridge; all of it ends with the value, with the test process at the latest.

mod container;
mod disk;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::{Command, id},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use drcm::lab::{Http, Mark, Namespace, Plan, Port, Probe, Switch};
use sha1::{Digest as _, Sha1};

pub use container::Container;
pub use disk::Disk;
pub use drcm::lab::{Shell, Spoken};

/// Longest any start, move or return may take before a test gives up.
pub const LONG: Duration = Duration::from_secs(20);
/// What every directory of a laboratory is called before the process id.
const PREFIX: &str = "drcm-site-";

/// What a cluster of containers is to be.
pub struct Blueprint {
    /// Nodes; `node1` is home, the others are its backups in turn.
    pub nodes: usize,
    /// More lines for `[CM_SERVER]`.
    pub server: String,
    /// The global resources: whole sections, the floating address apart.
    pub sections: String,
    /// Lines for `[CM_NODE]`, by node.
    pub lines: Vec<String>,
    /// Files that every node has: path and content.
    pub files: Vec<(String, String)>,
    /// Where there are some, nothing is installed or configured, and these lie in /root.
    pub packages: Vec<PathBuf>,
}

/// A cluster of containers, and its client.
pub struct Site {
    // In this order: containers first, then the network, then the files.
    nodes: Vec<Container>,
    client: Namespace,
    switch: Switch,
    directory: PathBuf,
}

impl Blueprint {
    /// This many nodes that share the floating address and nginx, and `witnesses` more that only vote.
    pub fn web(nodes: usize, witnesses: usize) -> Self {
        let mut lines = vec!["node_floating_ip_addrs = site\nnode_services = web\n".to_owned()];
        lines.resize(nodes, "node_backup_floating_ip_addrs = node1:site\nnode_backup_services = node1:web\n".to_owned());
        lines.resize(nodes + witnesses, String::new());
        Self {
            nodes: nodes + witnesses,
            server: "keep_alive_interval = 100\ndead_node_count = 15\nfailback_delay = 2\n".to_owned(),
            sections: "[CM_SERVICES]\nweb, nginx, /etc/drcm/resources/service.sh\n".to_owned(),
            lines,
            files: Vec::new(),
            packages: Vec::new(),
        }
    }

    /// The text of /etc/drcm/cm.cfg.
    pub fn text(&self) -> String {
        let mut text = format!(
            "[CM_SERVER]\n{}\n[CM_IPADDRS]\nsite, {}, 255.255.255.0, eth0, /etc/drcm/resources/ipv4addr.sh\n\n{}\n",
            self.server,
            Plan::served(),
            self.sections
        );
        for (number, lines) in self.lines.iter().enumerate() {
            let name = format!("node{}", number + 1);
            text += &format!("[CM_NODE]\nnodename = {name}\nhostname = {name}.lab\nkeep_alive_ip = {}\n{lines}\n", Plan::address(number));
        }
        text
    }
}

impl Site {
    /// Installs and boots every node. The daemon is installed, not enabled.
    pub fn boot(blueprint: &Blueprint) -> Self {
        remove_stale();
        let root = root();
        let directory = fresh(&root);
        let installed = directory.join("installed");
        install(&installed, blueprint);
        let lower = format!("{}:{}", installed.display(), root.display());
        let switch = Switch::create().unwrap();
        let client = Namespace::create("client").unwrap();
        switch.connect(Port::Client, &client, Plan::client_address(), Plan::address_6(98)).unwrap();
        let nodes = (0..blueprint.nodes).map(|number| {
            let home = directory.join(format!("node{}", number + 1));
            Container::new(number, home, lower.clone())
        });
        let mut site = Self { nodes: nodes.collect(), client, switch, directory };
        for number in 0..site.nodes.len() {
            site.nodes[number].power_on(&site.switch);
        }
        site.nodes.iter().for_each(Container::booted);
        site
    }

    /// Boots, enables the daemon on every node at once as an administrator would, and waits for the first to serve.
    pub fn serving(blueprint: &Blueprint) -> Self {
        let site = Self::boot(blueprint);
        site.enable_all();
        site
    }

    /// Enables and starts the daemon everywhere at once.
    pub fn enable_all(&self) {
        thread::scope(|scope| {
            for node in &self.nodes {
                scope.spawn(|| node.must("systemctl enable --quiet --now drcm_server"));
            }
        });
    }

    pub fn node(&self, node: usize) -> &Container {
        &self.nodes[node]
    }

    pub fn node_mut(&mut self, node: usize) -> &mut Container {
        &mut self.nodes[node]
    }

    pub fn power_on(&mut self, node: usize) {
        self.nodes[node].power_on(&self.switch);
    }

    /// Asks the floating address every millisecond.
    pub fn ping(&self) -> Probe {
        Probe::start(&self.client, Plan::served()).unwrap()
    }

    /// Asks the web server at the floating address every millisecond.
    pub fn http(&self) -> Http {
        Http::start(&self.client, Plan::served()).unwrap()
    }

    /// Waits until this node answers web requests at the floating address, and gives how long that took.
    #[track_caller]
    pub fn wait_served(&self, http: &Http, node: usize) -> Duration {
        let since = Instant::now();
        let name = format!("{}.lab", self.nodes[node].name());
        self.wait(&format!("web page from {name}"), LONG, || http.last_since(since).is_some_and(|from| from == name))
    }

    /// Waits until something holds, and gives how long that took.
    #[track_caller]
    pub fn wait(&self, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
        let start = Instant::now();
        while !condition() {
            if start.elapsed() > limit {
                panic!("no {what} within {limit:?}");
            }
            thread::sleep(Duration::from_millis(3));
        }
        start.elapsed()
    }

    /// Nothing may be lost and nothing may move for this long.
    #[track_caller]
    pub fn holds_still(&self, http: &Http, ping: &Probe, time: Duration) {
        let (mark, since) = (Mark::now(), Instant::now());
        thread::sleep(time);
        let (pause, lost) = (ping.longest_outage(mark), http.lost_since(since));
        assert!(pause < Duration::from_millis(100) && lost.is_empty(), "a client waited {pause:?}, and lost {lost:?}");
    }

    /// What cm_stat says on a node.
    #[track_caller]
    pub fn status(&self, node: usize) -> String {
        self.nodes[node].run("drcm_server --client --command=cm_stat").text
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.nodes.clear();
        // What cannot be removed is found by the next laboratory.
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// The shared root, made when it is missing.
fn root() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/container-root");
    let output = Command::new(&script).output().unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// What a package and an administrator put on every node.
fn install(installed: &Path, blueprint: &Blueprint) {
    if blueprint.packages.is_empty() {
        install_build(installed, blueprint);
    } else {
        fs::create_dir_all(installed.join("root")).unwrap();
    }
    for package in &blueprint.packages {
        fs::copy(package, installed.join("root").join(package.file_name().unwrap())).unwrap();
    }
    for (path, content) in &blueprint.files {
        let path = installed.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn install_build(installed: &Path, blueprint: &Blueprint) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binaries = Path::new(env!("CARGO_BIN_EXE_drcm_server")).parent().unwrap();
    let output = Command::new(source.join("scripts/install")).arg(installed).arg("/usr/lib/systemd/system").arg(binaries).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(installed.join("etc/drcm/cm.cfg"), blueprint.text()).unwrap();
    let mut key = vec![0; 2048];
    fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut key)).unwrap();
    let digest: String = Sha1::digest(&key).iter().map(|byte| format!("{byte:02x}")).collect();
    for (name, content) in [("authkey", key.as_slice()), ("authkey.sha1", digest.as_bytes())] {
        let path = installed.join("etc/drcm/.auth").join(name);
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
        file.write_all(content).unwrap();
    }
}

/// A directory beside the roots, on a disk that bears overlays.
fn fresh(root: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let path = root.parent().unwrap().parent().unwrap().join("container-sites");
    fs::create_dir_all(&path).unwrap();
    let path = path.join(format!("{PREFIX}{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::DirBuilder::new().mode(0o755).create(&path).unwrap();
    path
}

/// Removes what laboratories left whose process was killed before it could tidy up.
fn remove_stale() {
    let ours = |name: &str| {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse::<u32>().ok());
        pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    let binaries = Path::new(env!("CARGO_BIN_EXE_drcm_server")).parent().and_then(Path::parent).unwrap();
    for directory in [
        binaries.join("container-sites").as_path(),
        Path::new("/sys/fs/cgroup"),
        Path::new("/sys/fs/cgroup/unified"),
        Path::new("/sys/fs/cgroup/systemd"),
    ] {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if !entry.file_name().to_str().is_some_and(ours) {
                continue;
            }
            if directory.starts_with("/sys") {
                container::remove_group(&entry.path());
            } else {
                fs::remove_dir_all(entry.path()).ok();
            }
        }
    }
}
