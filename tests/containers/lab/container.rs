//! One container: a whole Debian with its own systemd, network and processes, booted from the shared root.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use drcm::lab::{Namespace, Plan, Port, Shell, Spoken, Switch};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Longest a boot may take.
const BOOT: Duration = Duration::from_secs(30);
/// Longest a command in a container may take.
const COMMAND: Duration = Duration::from_secs(30);
/// Lines of the console that are shown when a test fails.
const SHOWN: usize = 120;

/// One machine. It is powered off when dropped.
pub struct Container {
    number: usize,
    name: String,
    /// Of its control group: unlike any other container's on this host.
    unique: String,
    home: PathBuf,
    lower: String,
    running: Option<Child>,
    network: Option<Namespace>,
}

impl Container {
    /// A machine that is off. Its disk lies in `home`, over the `lower` directories.
    pub fn new(number: usize, home: PathBuf, lower: String) -> Self {
        let name = format!("node{}", number + 1);
        let unique = format!("{}-{name}", home.parent().and_then(Path::file_name).unwrap().display());
        let etc = home.join("upper/etc");
        fs::create_dir_all(&etc).unwrap();
        fs::write(etc.join("hostname"), format!("{name}.lab\n")).unwrap();
        fs::write(etc.join("machine-id"), format!("{:032x}\n", number + 1)).unwrap();
        Self { number, name, unique, home, lower, running: None, network: None }
    }

    /// Switches it on, with a new cable in its port of the switch, and does not wait.
    pub fn power_on(&mut self, switch: &Switch) {
        assert!(self.running.is_none(), "{} runs already", self.name);
        let network = Namespace::create(&self.name).unwrap();
        switch.connect(Port::Node(self.number), &network, Plan::address(self.number), Plan::address_6(self.number)).unwrap();
        let console = File::options().create(true).append(true).open(self.console()).unwrap();
        // The kernel ends all of it with this process, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "nsenter"])
            .arg(format!("--net={}", network.path().display()))
            .args(["--", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/containers/lab/start"))
            .args([&self.unique, &self.home.display().to_string(), &self.lower])
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console);
        self.running = Some(command.spawn().unwrap());
        self.network = Some(network);
    }

    /// Waits until its systemd has started what belongs to a boot.
    #[track_caller]
    pub fn booted(&self) {
        self.wait("a complete boot", BOOT, || {
            self.init().is_some()
                && self
                    .try_run("test -S /run/dbus/system_bus_socket && systemctl is-system-running")
                    .is_some_and(|said| matches!(said.text.trim(), "running" | "degraded"))
        });
    }

    /// Cuts the power: nothing of it is left but its disk.
    pub fn power_cut(&mut self) {
        if let Some(network) = self.network.take() {
            // The cable goes with it; before the processes, so that none of them has a last word.
            network.ip("link del eth0\n").ok();
            drop(network);
        }
        self.end();
    }

    /// Waits until it has powered itself off.
    #[track_caller]
    pub fn wait_off(&mut self, limit: Duration) {
        let start = Instant::now();
        while self.running.as_mut().unwrap().try_wait().unwrap().is_none() {
            assert!(start.elapsed() < limit, "{} was not off after {limit:?}", self.name);
            thread::sleep(Duration::from_millis(5));
        }
        self.end();
        self.network = None;
    }

    /// The process id, seen from outside, of its first process.
    pub fn init(&self) -> Option<i32> {
        let unshare = i32::try_from(self.running.as_ref()?.id()).ok()?;
        // unshare, the start script, systemd-nspawn, and then what it boots.
        (0..3).try_fold(unshare, |parent, _| children(parent).last().copied())
    }

    /// Waits until something holds, and shows the console when it does not in time.
    #[track_caller]
    pub fn wait(&self, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < limit, "no {what} on {} within {limit:?}", self.name);
            thread::sleep(Duration::from_millis(10));
        }
        start.elapsed()
    }

    /// Sends a signal to the main process of a unit, from outside, at once.
    #[track_caller]
    pub fn signal(&self, unit: &str, signal: Signal) {
        let pid = self.main_process(unit);
        self.must(&format!("kill -{} {pid}", signal as i32));
    }

    /// The main process of a unit, in the numbers of the container.
    #[track_caller]
    pub fn main_process(&self, unit: &str) -> i32 {
        let pid = self.must(&format!("systemctl show --property=MainPID --value {unit}"));
        let pid = pid.trim().parse().unwrap_or(0);
        assert!(pid > 0, "{unit} has no main process on {}", self.name);
        pid
    }

    /// All that its console showed, the journal too, also when it is off.
    pub fn words(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.console()).unwrap_or_default()).into_owned()
    }

    /// The end of that, and of the log of its daemon.
    fn evidence(&self) -> String {
        let text = self.words();
        let lines: Vec<&str> = text.lines().collect();
        let log = fs::read_to_string(self.home.join("upper/var/log/drcm/drcm.log")).unwrap_or_default();
        let log: Vec<&str> = log.lines().collect();
        format!(
            "\n--- console of {}:\n{}\n--- drcm.log of {}:\n{}",
            self.name,
            lines[lines.len().saturating_sub(SHOWN)..].join("\n"),
            self.name,
            log[log.len().saturating_sub(SHOWN)..].join("\n"),
        )
    }

    /// The log of its daemon, also when it is off.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("upper/var/log/drcm/drcm.log")).unwrap_or_default()
    }

    fn console(&self) -> PathBuf {
        self.home.join("console")
    }

    fn end(&mut self) {
        let Some(mut unshare) = self.running.take() else { return };
        if let Ok(pid) = i32::try_from(unshare.id()) {
            // The first process of the process namespace: the kernel ends all others with it.
            for first in children(pid) {
                kill(Pid::from_raw(first), Signal::SIGKILL).ok();
            }
        }
        unshare.kill().ok();
        unshare.wait().ok();
        for hierarchy in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"] {
            remove_group(&Path::new(hierarchy).join(&self.unique));
        }
    }
}

impl Shell for Container {
    fn name(&self) -> &str {
        &self.name
    }

    fn try_run(&self, text: &str) -> Option<Spoken> {
        let init = self.init()?;
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &init.to_string(), "-m", "-u", "-p", "-n", "-i", "--", "/bin/sh", "-c"])
            .arg(format!("exec 2>&1; {text}"))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let pipe = child.stdout.take().unwrap();
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.take(1 << 24).read_to_end(&mut bytes).ok();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let start = Instant::now();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if start.elapsed() > COMMAND => {
                    child.kill().ok();
                    child.wait().ok();
                    panic!("`{text}` took more than {COMMAND:?} on {}", self.name);
                }
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        Some(Spoken { code: status.code(), text: reader.join().unwrap() })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.evidence());
        }
        self.end();
    }
}

/// Removes an empty control group with all below it. A process that is just ending may hold it for a moment.
pub fn remove_group(group: &Path) {
    for _ in 0..200 {
        if !group.exists() {
            return;
        }
        let mut below = vec![group.to_owned()];
        let mut all = Vec::new();
        while let Some(next) = below.pop() {
            let entries = fs::read_dir(&next).into_iter().flatten().flatten();
            below.extend(entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
            all.push(next);
        }
        for group in all.iter().rev() {
            fs::remove_dir(group).ok();
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}
