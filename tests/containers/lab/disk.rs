//! A disk that several machines can reach, as in a storage network: a loop device of the host.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use drcm::lab::Shell as _;

use super::Container;

/// A formatted disk. Taken away when dropped.
pub struct Disk {
    device: PathBuf,
}

impl Disk {
    /// A new one with an ext4 file system, kept in this directory.
    pub fn format(directory: &Path) -> Self {
        let file = directory.join("shared-disk");
        File::create(&file).unwrap().set_len(32 << 20).unwrap();
        say("mkfs.ext4", &["-q", file.to_str().unwrap()]);
        let device = say("losetup", &["--find", "--show", file.to_str().unwrap()]);
        Self { device: PathBuf::from(device.trim()) }
    }

    /// Its device file, the same on every machine.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Plugs it in; again after each boot.
    #[track_caller]
    pub fn plug_into(&self, machine: &Container) {
        let numbers = say("stat", &["--format=%Hr %Lr", self.device.to_str().unwrap()]);
        machine.must(&format!("test -b {0} || mknod {0} b {1}", self.device.display(), numbers.trim()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("losetup").arg("--detach").arg(&self.device).status().ok();
    }
}

fn say(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
