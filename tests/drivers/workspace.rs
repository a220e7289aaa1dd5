//! A directory for one test, and the settings and resources that point into it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::mount::{MntFlags, umount2};

use drcm::{
    drivers::Settings,
    model::{Assignment, Driver, Kind, NodeId, Options, Resource, ResourceId, Spec},
};

/// Removed with everything in it when the test ends.
pub struct Workspace(PathBuf);

impl Workspace {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("drcm-drivers-{}", std::process::id()));
        fs::create_dir(&path).expect("a fresh directory for this process");
        // Users of applications get in.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["log", "run", "spool", "auth"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub fn script(&self, name: &str, content: &str) -> PathBuf {
        let path = self.write(name, content);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn settings(&self) -> Settings {
        Settings {
            // No other test sees the processes of this one.
            nodename: format!("node{}", std::process::id()),
            nodenames: std::collections::BTreeMap::new(),
            log_dir: self.path("log"),
            run_dir: self.path("run"),
            spool_dir: self.path("spool"),
            auth_dir: self.path("auth"),
            resource_dir: stock_scripts(),
            bash_shell: "/bin/bash".into(),
            bash_rc_file: None,
            sudo_command: "sudo su root -c".into(),
            umask: 0o022,
            max_log_size: 1 << 20,
        }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What a failed test left mounted, in the mount namespace of this thread.
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        for target in table.lines().filter_map(|line| line.split(' ').nth(4)).map(|target| target.replace("\\040", " ")) {
            if Path::new(&target).starts_with(&self.0) {
                let _ = umount2(target.as_str(), MntFlags::MNT_DETACH);
            }
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn stock_scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-scripts/resources")
}

pub fn resource(kind: Kind, nickname: &str, spec: Spec, driver: Driver) -> Resource {
    let second = Duration::from_secs(1);
    let options = Options {
        start_timeout: 10 * second,
        stop_timeout: 10 * second,
        check_timeout: 10 * second,
        restart_limit: 3,
        restart_window: 60 * second,
        order: 0,
        mount_options: None,
    };
    Resource { id: ResourceId { kind, nickname: nickname.into() }, spec, driver, options }
}

pub fn assignment(resource: &Resource) -> Assignment {
    Assignment { home: NodeId::of("cmnode1"), resource: resource.id.clone() }
}
