//! One virtual machine: its disk, its power switch, its ports to the laboratory.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use drcm::lab::{Port, Shell, Spoken, Switch};
use serde_json::{Value, json};

use super::{
    agent::{Agent, until},
    evidence::Evidence,
    image::{Accelerator, Image},
};

/// Longest a boot may take, on emulated processors that are shared.
pub const BOOT: Duration = Duration::from_secs(240);
/// Longest a command in a machine may take, if nothing else is said.
const COMMAND: Duration = Duration::from_secs(120);
const MEGABYTES: u32 = 512;

/// A machine. It is off when dropped.
pub struct Machine {
    number: usize,
    name: String,
    home: PathBuf,
    agent: Mutex<Agent>,
    running: Option<Child>,
}

impl Machine {
    /// A machine that is off, with a disk of its own over `below`.
    pub fn new(number: usize, home: &Path, below: &Path, format: &str, payload: &Path) -> Self {
        fs::create_dir_all(home).unwrap();
        let disk = home.join("disk");
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
            .arg(fs::canonicalize(below).unwrap())
            .arg(&disk)
            .status()
            .unwrap();
        assert!(made.success(), "qemu-img cannot make {}", disk.display());
        if home.join("payload") != payload {
            fs::hard_link(payload, home.join("payload")).unwrap();
        }
        let agent = Mutex::new(Agent::new(home.join("agent")));
        Self { number, name: format!("node{}", number + 1), home: home.to_owned(), agent, running: None }
    }

    /// Switches it on, and does not wait. With a `state` it goes on where that was saved.
    pub fn power_on(&mut self, image: &Image, switch: &Switch, evidence: &Evidence, state: Option<&Path>) {
        assert!(self.running.is_none(), "{} runs already", self.name);
        for port in ["agent", "sampler", "control"] {
            fs::remove_file(self.home.join(port)).ok();
        }
        // The kernel ends it with the laboratory, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]).args(arguments(
            &image.directory,
            image.accelerator,
            self.number,
            &self.home,
        ));
        if let Some(state) = state {
            command.arg("-incoming").arg(format!("exec:cat {}", state.display()));
        }
        let said = File::options().create(true).append(true).open(self.home.join("qemu")).unwrap();
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        self.running = Some(switch.namespace().run(move || command.spawn()).unwrap().unwrap());
        *self.agent() = Agent::new(self.home.join("agent"));
        evidence.listen(self.number, self.home.join("sampler"));
    }

    /// Waits until its agent answers.
    #[track_caller]
    pub fn reachable(&self) {
        self.wait("answer of the agent", BOOT, || self.agent().answers(Duration::from_secs(2)));
    }

    /// Waits until its systemd has started what belongs to a boot.
    #[track_caller]
    pub fn booted(&self) {
        self.reachable();
        self.wait("complete boot", BOOT, || {
            self.try_run("systemctl is-system-running").is_some_and(|said| matches!(said.text.trim(), "running" | "degraded"))
        });
    }

    /// Cuts the power: what its disk has not been told is lost.
    pub fn power_cut(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Stops its processor, as a host does that is overloaded or moves a machine.
    pub fn freeze(&self) {
        self.control("stop", &json!({}));
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.control("cont", &json!({}));
    }

    /// Saves its state beside its disk and ends it.
    pub fn save(&mut self, state: &Path) {
        self.freeze();
        self.control("migrate", &json!({"uri": format!("exec:cat >{}", state.display())}));
        self.wait("saved state", COMMAND, || match self.control("query-migrate", &json!({}))["status"].as_str() {
            Some("completed") => true,
            Some("failed") => panic!("the state of {} cannot be saved", self.name),
            _ => false,
        });
        self.control("quit", &json!({}));
        let mut child = self.running.take().unwrap();
        child.wait().unwrap();
    }

    /// Whether it runs, in the sense of its host.
    pub fn is_on(&mut self) -> bool {
        self.running.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// One order to its host, and the answer.
    fn control(&self, order: &str, arguments: &Value) -> Value {
        let mut stream = UnixStream::connect(self.home.join("control")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for question in [json!({"execute": "qmp_capabilities"}), json!({"execute": order, "arguments": arguments})] {
            stream.write_all(format!("{question}\n").as_bytes()).unwrap();
            // Greetings and events come between.
            loop {
                let line = lines.next().unwrap_or_else(|| panic!("{}: no answer to {question}", self.name)).unwrap();
                let mut answer: Value = serde_json::from_str(&line).unwrap();
                assert!(answer.get("error").is_none(), "{}: {question}: {answer}", self.name);
                if answer.get("return").is_some() {
                    if question["execute"] == order {
                        return answer["return"].take();
                    }
                    break;
                }
            }
        }
        Value::Null
    }

    /// Which boot this is: another one has another name.
    #[track_caller]
    pub fn boot(&self) -> String {
        self.must("cat /proc/sys/kernel/random/boot_id")
    }

    /// The same, when it answers at all.
    pub fn try_boot(&self) -> Option<String> {
        let answers = self.agent().answers(Duration::from_secs(2));
        if answers { self.try_run("cat /proc/sys/kernel/random/boot_id").map(|said| said.text) } else { None }
    }

    /// Starts shell text and does not wait for it.
    pub fn begin(&self, text: &str) {
        assert!(self.agent().start(text).is_some(), "`{text}` cannot be started on {}", self.name);
    }

    /// Runs shell text that may take so long; none when the machine does not answer.
    #[track_caller]
    pub fn run_within(&self, text: &str, limit: Duration) -> Option<Spoken> {
        let started = self.agent().start(text);
        let pid = match started {
            Some(pid) => pid,
            // It was away meanwhile: another conversation.
            None if self.agent().answers(Duration::from_secs(3)) => self.agent().start(text)?,
            None => return None,
        };
        let start = Instant::now();
        loop {
            let ended = self.agent().ended(pid)?;
            if ended.is_some() {
                return ended;
            }
            assert!(start.elapsed() < limit, "`{text}` took more than {limit:?} on {}", self.name);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until something holds.
    #[track_caller]
    pub fn wait(&self, what: &str, limit: Duration, condition: impl FnMut() -> bool) -> Duration {
        until(limit, Duration::from_millis(100), condition).unwrap_or_else(|| panic!("no {what} on {} within {limit:?}", self.name))
    }

    /// Writes a file, with this mode.
    #[track_caller]
    pub fn write(&self, path: &str, mode: &str, content: &[u8]) {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let text = STANDARD.encode(content);
        self.must(&format!(
            "mkdir -p $(dirname {path}); umask 077; echo {text} | base64 -d >{path}.new && chmod {mode} {path}.new && mv {path}.new {path}"
        ));
    }

    /// Lets it go on where it was saved, with the clock of this host and other randomness: that state is used many times.
    pub fn wake(&self) {
        self.wait("control port", BOOT, || self.home.join("control").exists());
        // It was stopped when it was saved, and is so when all of it has been read.
        self.wait("state", BOOT, || self.control("query-status", &json!({}))["status"] == "paused");
        self.thaw();
        self.reachable();
        self.set_clock();
        self.must("head -c 64 /dev/hwrng >/dev/urandom");
    }

    /// Gives it the time of day of this host.
    pub fn set_clock(&self) {
        let now = jiff::Timestamp::now();
        self.must(&format!("date -u -s @{}.{:09} >/dev/null", now.as_second(), now.subsec_nanosecond()));
    }

    /// What tells why a test failed, as far as it can be had.
    pub fn last_words(&mut self) -> String {
        let mut text = format!("\n--- console of {}:\n{}", self.name, end_of(&self.home.join("console"), 25));
        text += &format!("\n--- qemu of {}:\n{}", self.name, end_of(&self.home.join("qemu"), 10));
        if self.is_on() && self.agent().answers(Duration::from_secs(3)) {
            for what in [
                "tail -n 60 /var/log/drcm/drcm.log",
                "journalctl --no-pager -n 40 -o short-precise",
                "drcm_server --client --command=cm_stat",
            ] {
                let said = self.try_run(&format!("timeout 20 {what}")).map(|said| said.text).unwrap_or_default();
                text += &format!("\n--- {}: {what}:\n{said}", self.name);
            }
        }
        text
    }

    fn agent(&self) -> MutexGuard<'_, Agent> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shell for Machine {
    fn name(&self) -> &str {
        &self.name
    }

    fn try_run(&self, text: &str) -> Option<Spoken> {
        self.run_within(text, COMMAND)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_cut();
    }
}

/// What its host is told. A saved state fits only a machine of the same kind.
pub fn arguments(image: &Path, accelerator: Accelerator, number: usize, home: &Path) -> Vec<String> {
    let (directory, home, name) = (image.display(), home.display(), Port::Node(number));
    let hardware = Switch::hardware_address(name);
    let (accelerator, processor) = match accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Tcg => ("tcg,thread=multi,tb-size=256", "max"),
    };
    format!(
        "-nodefaults|-no-user-config|-name|{name}|-machine|q35|-accel|{accelerator}|-cpu|{processor}|-smp|1|-m|{MEGABYTES}|-display|none|\
             -kernel|{directory}/vmlinuz|-initrd|{directory}/initrd|\
             -append|console=ttyS0 net.ifnames=0 mitigations=off nowatchdog panic=5 loglevel=4 systemd.show_status=0 \
             module_blacklist=kvm,kvm_amd,powernow_k8|\
             -drive|file={home}/disk,if=none,id=disk,format=qcow2,cache=writeback|-device|virtio-blk-pci,drive=disk|\
             -drive|file={home}/payload,if=none,id=payload,format=raw,readonly=on|-device|virtio-blk-pci,drive=payload|\
             -netdev|tap,id=net,ifname={name},script=no,downscript=no|-device|virtio-net-pci,netdev=net,mac={hardware},romfile=|\
             -device|virtio-serial-pci|-chardev|socket,id=agent,path={home}/agent,server=on,wait=off|\
             -device|virtserialport,chardev=agent,name=org.qemu.guest_agent.0|\
             -chardev|socket,id=sampler,path={home}/sampler,server=on,wait=off|\
             -device|virtserialport,chardev=sampler,name=org.drcm.sampler|\
             -chardev|file,id=console,path={home}/console,append=on|-serial|chardev:console|\
             -qmp|unix:{home}/control,server=on,wait=off|-device|virtio-rng-pci|-rtc|base=utc,clock=host"
    )
    .split('|')
    .map(str::to_owned)
    .collect()
}

/// The last lines of a file.
fn end_of(path: &Path, count: usize) -> String {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
