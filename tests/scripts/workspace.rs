//! A directory for one test, and bash with the utilities in it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Removed with everything in it when the test ends.
pub struct Workspace(PathBuf);

/// What a script said.
#[derive(Debug)]
pub struct Said {
    /// Exit status; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub text: String,
    /// Standard error.
    pub error: String,
}

impl Workspace {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("drcm scripts {name} {}", std::process::id()));
        fs::create_dir_all(path.join("conf")).unwrap();
        fs::create_dir_all(path.join("var")).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn program(&self, name: &str, content: &str) -> PathBuf {
        self.write(name, content);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        self.path(name)
    }

    /// bash that runs this text here; `$utils` is the directory of the utilities, and errors of unset variables are fatal.
    pub fn command(&self, text: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .args(["-uc", text])
            .current_dir(&self.0)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.0)
            .env("utils", utilities())
            .env("DRCM_CONF_DIR", self.path("conf"))
            .env("VARdir", self.path("var"))
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    pub fn run(&self, text: &str) -> Said {
        let output = self.command(text).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: output.status.code(), text: text(&output.stdout), error: text(&output.stderr) }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn utilities() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-scripts/utils")
}
