//! The laboratory of virtual machines: three Debian systems, each with a kernel, a disk and an init of its own, on one bridge; two are to
//! run the resources, the third serves the files and votes. Beside them a client that measures what it gets.
//!
//! Owns the machines, their disks and the bridge; all of it ends with the value, with this process at the latest.

mod agent;
mod ear;
mod evidence;
mod image;
mod machine;
mod prepare;
mod report;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::id,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use drcm::lab::{Mark, Namespace, Plan, Port, Probe, Switch};
use sha1::{Digest as _, Sha1};

pub use drcm::lab::{Http, Shell};
pub use ear::{Ear, PORT};
pub use evidence::Evidence;
pub use image::Image;
pub use machine::{BOOT, Machine};
pub use prepare::{Prepared, SHARE_USER};
pub use report::{Outages, Report, record};

/// Machines of a laboratory.
pub const NODES: usize = 3;
/// The one that serves the files, and only votes.
pub const STORAGE: usize = 2;
/// h. Emulated processors that share those of a busy host stand still now and then.
pub const INTERVAL: Duration = Duration::from_millis(400);
/// T is so many of them.
pub const COUNT: u32 = 15;
/// T.
pub const LEASE: Duration = Duration::from_secs(6);
/// Longest any start, move or return may take before a scenario fails.
pub const LONG: Duration = Duration::from_secs(180);
/// What every directory of a laboratory is called before the process id.
const PREFIX: &str = "site-";

/// What the cluster runs.
#[derive(Clone, Default)]
pub struct Blueprint {
    /// Lines for `[server]`.
    pub server: String,
    /// Tables of the resources.
    pub resources: String,
    /// Lines for the `[[node]]` of each.
    pub lines: [String; NODES],
    /// Files that every node has: path, mode and content.
    pub files: Vec<(String, String, String)>,
    /// What must be active before a scenario begins, as the sampler calls it, and where.
    pub expected: Vec<(String, usize)>,
}

impl Blueprint {
    /// One resource at home on `home`, with the other of the two as its backup.
    fn add(mut self, home: usize, kind: &str, nickname: &str, table: &str, seen: &str) -> Self {
        self.resources += &format!("[{kind}.{nickname}]\n{table}\n");
        self.expected.push((seen.to_owned(), home));
        let backup = 1 - home;
        for (node, list, entry) in
            [(home, kind.to_owned(), nickname.to_owned()), (backup, format!("backup_{kind}"), format!("node{}:{nickname}", home + 1))]
        {
            let line = format!("{list} = [");
            let lines = &mut self.lines[node];
            match lines.find(&line) {
                Some(at) => lines.insert_str(at + line.len(), &format!("\"{entry}\", ")),
                None => *lines += &format!("{line}\"{entry}\"]\n"),
            }
        }
        self
    }

    /// One of each: the floating address, nginx, the crontab, every kind of network mount, and the application that writes to one.
    pub fn one_of_each() -> Self {
        Self::default().address().nginx().crontab().nfs(0, "nfs3", "3").nfs(0, "nfs4", "4.2").share().writer("/mnt/nfs4/lines")
    }

    /// The floating address, at home on node1.
    pub fn address(self) -> Self {
        self.add(0, "addresses", "site", &format!("ip = \"{}\"\nnetmask = 24\ninterface = \"eth0\"", Plan::served()), SITE)
    }

    /// nginx.
    pub fn nginx(self) -> Self {
        self.add(0, "services", "web", "service = \"nginx\"", WEB)
    }

    /// A crontab whose job tells the client each minute where it ran.
    pub fn crontab(mut self) -> Self {
        let job = format!(
            "* * * * * root perl -MSocket -e 'socket S,AF_INET,SOCK_DGRAM,0; send S,\"cron \".`uname -n`,0,pack_sockaddr_in({PORT},inet_aton(\"{}\"))'\n",
            Plan::client_address()
        );
        self.files.push(("/etc/drcm/crontabs/drcm-clock".to_owned(), "644".to_owned(), job));
        self.add(0, "crontabs", "clock", "template = \"/etc/drcm/crontabs/drcm-clock\"\ninstall_dir = \"/etc/cron.d\"", CRONTAB)
    }

    /// The export of the storage machine, by this version of NFS, at /mnt/NICKNAME of `home`.
    pub fn nfs(self, home: usize, nickname: &str, version: &str) -> Self {
        self.nfs_of("/srv/export", home, nickname, version)
    }

    /// The same of a directory in it.
    pub fn nfs_of(self, directory: &str, home: usize, nickname: &str, version: &str) -> Self {
        let table = format!(
            "source = \"{}:{directory}\"\ntarget = \"/mnt/{nickname}\"\nmount_options = \"vers={version}\"",
            Plan::address(STORAGE)
        );
        self.add(home, "filesystems", nickname, &table, &format!("mount:{nickname}"))
    }

    /// The share of the storage machine, at /mnt/share.
    pub fn share(mut self) -> Self {
        let (user, word) = SHARE_USER;
        let server = Plan::address(STORAGE);
        self.files.push((
            format!("/etc/drcm/.auth/{server}"),
            "600".to_owned(),
            format!("export username=\"{user}\"\nexport password='{word}'\n"),
        ));
        self.add(0, "filesystems", "share", &format!("source = \"//{server}/share\"\ntarget = \"/mnt/share\""), SHARE)
    }

    /// The application, which writes to a file on a mount.
    pub fn writer(self, path: &str) -> Self {
        let table = format!(
            "run_as = \"root:root\"\nstart = \"exec perl /usr/local/sbin/writer {path} {} {PORT}\"\nstop = \"true\"",
            Plan::client_address()
        );
        self.add(0, "applications", "writer", &table, WRITER)
    }

    /// The text of /etc/drcm/cm.toml.
    fn text(&self) -> String {
        let mut text = format!(
            "[server]\nkeep_alive_interval = {}\ndead_node_count = {COUNT}\nfailback_delay = 10\n{}\n{}\n",
            INTERVAL.as_millis(),
            self.server,
            self.resources
        );
        for (number, lines) in self.lines.iter().enumerate() {
            let name = format!("node{}", number + 1);
            text += &format!(
                "[[node]]\nnodename = \"{name}\"\nhostname = \"{name}.lab\"\nkeep_alive_ip = \"{}\"\nkeep_filesystems = false\n{}\n",
                Plan::address(number),
                lines.replace(", ]", "]")
            );
        }
        text
    }
}

/// The floating address, as the sampler calls it.
pub const SITE: &str = "address:10.77.0.100";
/// nginx.
pub const WEB: &str = "service:nginx";
/// The crontab.
pub const CRONTAB: &str = "crontab:clock";
/// The share.
pub const SHARE: &str = "mount:share";
/// The application.
pub const WRITER: &str = "application:writer";

/// A cluster of machines, and its client.
pub struct Site<'i> {
    // In this order: machines first, then the network, then the files.
    machines: Vec<Machine>,
    probe: Probe,
    pub http: Http,
    pub ear: Ear,
    pub switch: Switch,
    _client: Namespace,
    pub evidence: Evidence,
    blueprint: Blueprint,
    image: &'i Image,
    directory: PathBuf,
    healthy: bool,
}

impl<'i> Site<'i> {
    /// Machines that go on where they were prepared. The daemon is installed and configured, and not started.
    pub fn woken(image: &'i Image, blueprint: &Blueprint) -> Self {
        let prepared = Prepared::ready(image);
        let mut site = Self::dark(image, &prepared, blueprint);
        for node in 0..NODES {
            site.machines[node].power_on(image, &site.switch, &site.evidence, Some(&prepared.state(node)));
        }
        site.each(Machine::wake);
        site.configure();
        site
    }

    /// Machines that are booted from their disks. The daemon is installed and configured, and not started.
    pub fn booted(image: &'i Image, blueprint: &Blueprint) -> Self {
        let prepared = Prepared::ready(image);
        let mut site = Self::dark(image, &prepared, blueprint);
        for node in 0..NODES {
            site.power_on(node);
        }
        site.each(Machine::booted);
        site.configure();
        site
    }

    /// A cluster that serves, and is well.
    pub fn serving(image: &'i Image, blueprint: &Blueprint) -> Self {
        let site = Self::woken(image, blueprint);
        site.enable();
        site.settle();
        site
    }

    /// Machines that are off.
    fn dark(image: &'i Image, prepared: &Prepared, blueprint: &Blueprint) -> Self {
        let directory = fresh(&image.cache);
        let switch = Switch::create().unwrap();
        let client = Namespace::create("client").unwrap();
        switch.connect(Port::Client, &client, Plan::client_address(), Plan::address_6(98)).unwrap();
        let evidence = Evidence::new();
        let machines = (0..NODES)
            .map(|node| {
                switch.socket(Port::Node(node)).unwrap();
                Machine::new(node, &directory.join(format!("node{}", node + 1)), &prepared.disk(node), "qcow2", &prepared.payload(node))
            })
            .collect();
        // Each question costs an emulated processor a millisecond or so.
        let probe = Probe::start_every(&client, Plan::served(), Duration::from_millis(20)).unwrap();
        let http = Http::start_every(&client, Plan::served(), Duration::from_millis(50), Duration::from_secs(2)).unwrap();
        let ear = Ear::start(&client, PORT);
        Self {
            machines,
            probe,
            http,
            ear,
            switch,
            _client: client,
            evidence,
            blueprint: blueprint.clone(),
            image,
            directory,
            healthy: false,
        }
    }

    pub fn node(&self, node: usize) -> &Machine {
        &self.machines[node]
    }

    pub fn node_mut(&mut self, node: usize) -> &mut Machine {
        &mut self.machines[node]
    }

    /// Boots it from its disk.
    pub fn power_on(&mut self, node: usize) {
        self.machines[node].power_on(self.image, &self.switch, &self.evidence, None);
    }

    /// Lets a machine go on that was frozen.
    pub fn thaw(&self, node: usize) {
        self.evidence.another_life(node);
        self.machines[node].thaw();
    }

    /// Does something on all machines at once.
    pub fn each(&self, work: impl Fn(&Machine) + Sync) {
        thread::scope(|scope| {
            for machine in &self.machines {
                scope.spawn(|| work(machine));
            }
        });
    }

    /// Writes the configuration and the key, as an administrator would.
    fn configure(&self) {
        let mut key = vec![0; 2048];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut key).unwrap();
        let digest: String = Sha1::digest(&key).iter().map(|byte| format!("{byte:02x}")).collect();
        let text = self.blueprint.text();
        self.each(|machine| {
            machine.write("/etc/drcm/cm.toml", "644", text.as_bytes());
            machine.write("/etc/drcm/.auth/authkey", "600", &key);
            machine.write("/etc/drcm/.auth/authkey.sha1", "600", digest.as_bytes());
            for (path, mode, content) in &self.blueprint.files {
                machine.write(path, mode, content.as_bytes());
            }
            let said = machine.run("drcm_server --check-config");
            assert!(said.code == Some(0) || said.code == Some(2), "{}", said.text);
        });
    }

    /// Enables and starts the daemon everywhere at once.
    pub fn enable(&self) {
        self.each(|machine| {
            let said = machine.run_within("systemctl enable --quiet --now drcm_server", LONG);
            assert!(said.as_ref().is_some_and(|said| said.code == Some(0)), "the daemon does not start: {said:?}");
        });
    }

    /// Waits until everything is at home and the cluster says that it is well; gives how long that took.
    #[track_caller]
    pub fn settle(&self) -> Duration {
        let start = Instant::now();
        for (resource, home) in &self.blueprint.expected {
            self.wait(&format!("{resource} on node{}", home + 1), LONG, || self.evidence.owners(resource) == [*home]);
        }
        let served = start.elapsed();
        self.wait("healthy cluster", LONG, || self.status(0).contains("Cluster status: HEALTHY"));
        served
    }

    /// Waits until something holds, and gives how long that took.
    #[track_caller]
    pub fn wait(&self, what: &str, limit: Duration, condition: impl FnMut() -> bool) -> Duration {
        agent::until(limit, Duration::from_millis(50), condition).unwrap_or_else(|| panic!("no {what} within {limit:?}"))
    }

    /// Waits until all these are on one node and nowhere else.
    #[track_caller]
    pub fn wait_all_on(&self, node: usize, limit: Duration) -> Duration {
        let start = Instant::now();
        for (resource, _) in &self.blueprint.expected {
            self.wait(&format!("{resource} on node{}", node + 1), limit.saturating_sub(start.elapsed()), || {
                self.evidence.owners(resource) == [node]
            });
        }
        start.elapsed()
    }

    /// What cm_stat says on a node.
    pub fn status(&self, node: usize) -> String {
        self.machines[node].run_within("drcm_server --client --command=cm_stat", LONG).map(|said| said.text).unwrap_or_default()
    }

    /// How long each resource was gone since then: at the longest, in one piece.
    pub fn outages(&self, since: Instant, mark: Mark) -> Outages {
        let mut outages = Outages::default();
        for (resource, _) in &self.blueprint.expected {
            let gone = match resource.as_str() {
                SITE => self.probe.longest_outage(mark),
                WEB => self.http.longest_outage(since),
                _ => self.evidence.outage(resource, since),
            };
            outages.set(resource, gone);
        }
        outages
    }

    /// What each scenario must show in the end: all is well, nothing was ever active twice, nothing is lost that was acknowledged.
    /// `but` names resources that may have been, where that is documented; the times when they were are told in the report.
    #[track_caller]
    pub fn conclude(&mut self, report: &mut Report, but: &[&str]) {
        self.settle();
        let (known, doubles): (Vec<String>, Vec<String>) =
            self.evidence.doubles().into_iter().partition(|double| but.iter().any(|but| double.starts_with(but)));
        assert!(doubles.is_empty(), "active on two nodes: {doubles:#?}");
        self.nothing_lost();
        if !but.is_empty() {
            let known = if known.is_empty() { "no".to_owned() } else { known.join("; ") };
            report.row("over all of it, overlaps of what is not fenced", Outages::default(), known);
        }
        self.healthy = true;
    }

    /// Every line that the application acknowledged is in its file, once.
    #[track_caller]
    fn nothing_lost(&self) {
        let heard: BTreeSet<String> =
            self.ear.heard().into_iter().map(|(_, line)| line).filter(|line| !line.starts_with("cron ")).collect();
        if heard.is_empty() {
            return;
        }
        let text = self.machines[STORAGE].must("cat /srv/export/lines* /srv/share/lines* 2>/dev/null || true");
        let mut written = BTreeSet::new();
        for line in text.lines() {
            assert!(written.insert(line.to_owned()), "`{line}` was written twice");
        }
        let lost: Vec<&String> = heard.iter().filter(|line| !written.contains(*line)).collect();
        assert!(lost.is_empty(), "{} of {} acknowledged lines are lost: {:?} ...", lost.len(), heard.len(), lost.first());
        println!("    {} acknowledged lines, none lost", heard.len());
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if !self.healthy {
            for machine in &mut self.machines {
                eprintln!("{}", machine.last_words());
            }
            for resource in self.evidence.resources() {
                eprintln!("{}", self.evidence.story(&resource));
            }
        }
        let (looks, median, longest) = self.evidence.pace();
        println!("    {looks} looks at what is active: every {median:.0?}, the longest pause {longest:.1?}");
        self.machines.clear();
        if std::env::var_os("DRCM_VM_KEEP").is_none() {
            // What cannot be removed is found by the next laboratory.
            fs::remove_dir_all(&self.directory).ok();
        }
    }
}

/// A directory for the disks of one laboratory, and the end of those whose process was killed before it could tidy up.
fn fresh(cache: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    for entry in fs::read_dir(cache).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
    let path = cache.join(format!("{PREFIX}{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&path).unwrap();
    path
}
