//! What the machines are made of: the image that `scripts/vm-image` builds, the packages under test, and how fast this host can
//! run a machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};

use super::{agent::until, machine::arguments};

/// Who executes what the machines do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor of this host.
    Kvm,
    /// A translator: any host can do that, ten to twenty times slower.
    Tcg,
}

/// Kernel, first file system and disk, and where things are kept.
pub struct Image {
    pub directory: PathBuf,
    pub accelerator: Accelerator,
    /// The package under test, and the same as a later revision.
    pub packages: [PathBuf; 2],
    /// The first digits of the SHA-256 of the package under test.
    pub package: String,
    /// Changes with all that a machine is made of.
    pub digest: String,
    /// What may be kept from run to run.
    pub cache: PathBuf,
}

impl Image {
    /// Makes what is missing.
    pub fn ready() -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = source.join("scripts/vm-image");
        let output =
            Command::new(&script).stderr(Stdio::inherit()).output().unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        assert!(output.status.success(), "{} failed", script.display());
        let directory = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        let cache = directory.parent().unwrap().parent().unwrap().join("vm-tests");
        fs::create_dir_all(&cache).unwrap();
        let accelerator = accelerator(&directory);
        let package = newest_package(&cache.parent().unwrap().join("debian"));
        let content = fs::read(&package).unwrap();
        let hexadecimal =
            |digest: Sha256, bytes: usize| -> String { digest.finalize().iter().take(bytes).map(|byte| format!("{byte:02x}")).collect() };
        let named = hexadecimal(Sha256::new().chain_update(&content), 4);
        let mut digest = Sha256::new();
        digest.update(&content);
        digest.update(arguments(&directory, accelerator, 0, Path::new("home")).join(" "));
        for text in [include_str!("sampler.pl"), include_str!("writer.pl"), include_str!("prepare.rs")] {
            digest.update(text);
        }
        let digest = hexadecimal(digest, 8);
        let later = later_revision(&package, &cache);
        Self { directory, accelerator, packages: [package, later], package: named, digest, cache }
    }
}

/// Hardware acceleration counts only when a kernel really starts with it: some hosts have the device and cannot do it.
fn accelerator(image: &Path) -> Accelerator {
    if !Path::new("/dev/kvm").exists() {
        return Accelerator::Tcg;
    }
    let said = image.with_extension("kvm");
    let mut child = Command::new("qemu-system-x86_64")
        .args("-nodefaults -no-user-config -machine q35 -accel kvm -cpu host -m 256 -display none -no-reboot".split(' '))
        .arg("-kernel")
        .arg(image.join("vmlinuz"))
        .args(["-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1", "-serial"])
        .arg(format!("file:{}", said.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let works = until(Duration::from_secs(5), Duration::from_millis(50), || {
        fs::read_to_string(&said).is_ok_and(|said| said.contains("Linux version")) || child.try_wait().unwrap().is_some()
    });
    let works = works.is_some() && fs::read_to_string(&said).is_ok_and(|said| said.contains("Linux version"));
    child.kill().ok();
    child.wait().ok();
    fs::remove_file(&said).ok();
    if works { Accelerator::Kvm } else { Accelerator::Tcg }
}

fn newest_package(directory: &Path) -> PathBuf {
    let mut found: Vec<(SystemTime, PathBuf)> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "deb"))
        .map(|entry| (entry.metadata().unwrap().modified().unwrap(), entry.path()))
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| panic!("no package in {}: run `make deb`", directory.display())).1
}

/// The same content under a higher revision.
fn later_revision(package: &Path, cache: &Path) -> PathBuf {
    let tree = cache.join("revision");
    fs::remove_dir_all(&tree).ok();
    let run = |command: &mut Command| assert!(command.stdout(Stdio::null()).status().unwrap().success(), "{command:?} failed");
    run(Command::new("dpkg-deb").arg("-R").args([package, &tree]));
    let control = tree.join("DEBIAN/control");
    let text: String = fs::read_to_string(&control)
        .unwrap()
        .lines()
        .map(|line| if line.starts_with("Version:") { format!("{line}.1\n") } else { format!("{line}\n") })
        .collect();
    fs::write(control, text).unwrap();
    let later = cache.join("later.deb");
    // Quickly unpacked, by processors that are emulated.
    run(Command::new("dpkg-deb").args(["-Zgzip", "-z1", "--root-owner-group", "-b"]).args([&tree, &later]));
    fs::remove_dir_all(&tree).ok();
    later
}
