//! The documented resource scripts: the arguments of each kind, their environment, their logs.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::unistd;

use super::{DriverError, Settings};
use crate::{
    model::{Kind, Resource, Spec},
    sys::{
        SysError,
        child::{self, OutputLog, Program},
    },
};

/// What a script is asked to do, before the words of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Bring it up.
    Start,
    /// Bring it down.
    Stop,
    /// Check it and repair it.
    Watch,
    /// Only check it.
    Status,
}

/// Runs resource scripts. Cheap to clone.
#[derive(Clone)]
pub struct Scripts {
    settings: Settings,
    logs: Arc<BTreeMap<Kind, OutputLog>>,
}

impl Scripts {
    /// With the logs of this node.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let kinds = [Kind::Crontab, Kind::Address, Kind::Service, Kind::FileSystem, Kind::Application];
        let logs = kinds.map(|kind| (kind, log_of(&settings, kind)));
        Self { settings, logs: Arc::new(logs.into()) }
    }

    /// Runs a script for a resource and waits, at most for `limit`.
    ///
    /// # Errors
    /// The script is missing, fails, or is not done in time (it is then ended, with all its children).
    pub async fn run(&self, resource: &Resource, script: &Path, verb: Verb, limit: Duration) -> Result<(), DriverError> {
        let (arguments, word) = arguments(&resource.spec, verb);
        let title = format!("{} {word}", resource.id);
        if !child::is_executable(script) {
            return Err(DriverError::NoScript { title, path: script.to_owned() });
        }
        let output = self.logs.get(&resource.id.kind).expect("there is a log for every kind").clone();
        let log = output.path().to_owned();
        let mut environment = child::root_environment();
        environment.extend(self.environment(resource));
        let (program, arguments) =
            if unistd::geteuid().is_root() { (script.to_owned(), arguments) } else { self.with_prefix(script, &arguments, &environment) };
        let program = Program { program, arguments, environment, identity: None, umask: self.settings.umask, output, title: title.clone() };
        let finished = program.run(limit).await.map_err(|source| match source {
            SysError::Run { source, .. } => DriverError::File { doing: "run", path: script.to_owned(), source },
            other => DriverError::System { what: title.clone(), source: other },
        })?;
        DriverError::judge(&title, finished, log)
    }

    /// What a script may want to know beyond its arguments.
    fn environment(&self, resource: &Resource) -> Vec<(OsString, OsString)> {
        let settings = &self.settings;
        let mut environment: Vec<(OsString, OsString)> = [
            ("DRCM_LOG_DIR", settings.log_dir.as_os_str()),
            ("DRCM_RUN_DIR", settings.run_dir.as_os_str()),
            ("DRCM_SPOOL_DIR", settings.spool_dir.as_os_str()),
            ("DRCM_AUTH_DIR", settings.auth_dir.as_os_str()),
            ("DRCM_NODENAME", OsStr::new(&settings.nodename)),
            ("DRCM_RESOURCE", OsStr::new(&resource.id.nickname)),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
        if let Some(options) = &resource.options.mount_options {
            environment.push(("DRCM_MOUNT_OPTIONS".into(), options.into()));
        }
        environment
    }

    /// `sudo su root -c "script arguments"`: a prefix that ends in `-c` gets one word of shell, any other the words
    /// themselves. sudo gives no environment on, so the command sets it.
    fn with_prefix(&self, script: &Path, arguments: &[OsString], environment: &[(OsString, OsString)]) -> (PathBuf, Vec<OsString>) {
        let mut prefix = self.settings.sudo_command.split_whitespace().map(OsString::from);
        let first = prefix.next().unwrap_or_else(|| "sudo".into());
        let mut words: Vec<OsString> = prefix.collect();
        let assignments = environment.iter().filter(|(name, _)| name.as_bytes().starts_with(b"DRCM_")).map(|(name, value)| {
            let mut assignment = name.clone();
            assignment.push("=");
            assignment.push(value);
            assignment
        });
        let command =
            std::iter::once("env".into()).chain(assignments).chain(std::iter::once(script.into())).chain(arguments.iter().cloned());
        if words.last().is_some_and(|word| word == "-c") {
            let quoted: Vec<OsString> = command.map(|word| quote(&word)).collect();
            words.push(quoted.join(OsStr::new(" ")));
        } else {
            words.extend(command);
        }
        (in_path(&first), words)
    }
}

/// The arguments of the contract, and the word for the action.
fn arguments(spec: &Spec, verb: Verb) -> (Vec<OsString>, &'static str) {
    let plain = match verb {
        Verb::Start => "start",
        Verb::Stop => "stop",
        Verb::Watch => "watch",
        Verb::Status => "status",
    };
    let mount = match verb {
        Verb::Start => "mount",
        Verb::Stop => "unmount",
        Verb::Watch | Verb::Status => "watch",
    };
    let (mut arguments, word): (Vec<OsString>, _) = match spec {
        Spec::Crontab(crontab) => (vec![crontab.template.clone().into(), crontab.install_dir.clone().into()], plain),
        Spec::Address(address) => {
            // The scripts know the interface as it is written in the configuration.
            let interface = address.interface.label.as_ref().unwrap_or(&address.interface.device);
            (vec![address.ip.to_string().into(), address.netmask.clone().into(), interface.clone().into()], plain)
        }
        Spec::Service(service) => (vec![service.name.clone().into()], plain),
        Spec::FileSystem(file_system) => (vec![file_system.source.clone().into(), file_system.target.clone().into()], mount),
        // Applications have no script; their shell is run by their own driver.
        Spec::Application(_) => (Vec::new(), plain),
    };
    arguments.push(word.into());
    (arguments, word)
}

/// The log of a kind.
pub(super) fn log_of(settings: &Settings, kind: Kind) -> OutputLog {
    let name = match kind {
        Kind::Crontab => "crontab",
        Kind::Address => "ipv4addr",
        Kind::Service => "service",
        Kind::FileSystem => "filesystem",
        Kind::Application => "application",
    };
    OutputLog::new(settings.log_dir.join(format!("{name}_resource.log")), settings.max_log_size)
}

/// One word for a POSIX shell, whatever it holds.
pub(super) fn quote(word: &OsStr) -> OsString {
    let mut quoted = b"'".to_vec();
    for byte in word.as_bytes() {
        if *byte == b'\'' { quoted.extend_from_slice(b"'\\''") } else { quoted.push(*byte) }
    }
    quoted.push(b'\'');
    OsStr::from_bytes(&quoted).to_owned()
}

/// The file that a shell would run for a command.
fn in_path(command: &OsStr) -> PathBuf {
    if command.as_bytes().contains(&b'/') {
        return command.into();
    }
    let found = child::DEFAULT_PATH.split(':').map(|directory| Path::new(directory).join(command)).find(|path| child::is_executable(path));
    found.unwrap_or_else(|| command.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixed(sudo_command: &str) -> (PathBuf, Vec<OsString>) {
        let directory = PathBuf::from("/tmp");
        let settings = Settings {
            nodename: "cmnode1".into(),
            nodenames: BTreeMap::new(),
            log_dir: directory.clone(),
            run_dir: directory.clone(),
            spool_dir: directory.clone(),
            auth_dir: directory.clone(),
            resource_dir: directory,
            bash_shell: "/bin/bash".into(),
            bash_rc_file: None,
            sudo_command: sudo_command.into(),
            umask: 0o022,
            max_log_size: 1,
        };
        let environment = [("PATH".into(), "/bin".into()), ("DRCM_NODENAME".into(), "it's".into())];
        Scripts::new(settings).with_prefix(Path::new("/etc/x.sh"), &["a b".into(), "start".into()], &environment)
    }

    #[test]
    fn without_root_the_prefix_runs_the_script() {
        let (program, words) = prefixed("/usr/bin/sudo su root -c");
        assert_eq!(program, Path::new("/usr/bin/sudo"));
        assert_eq!(words, ["su", "root", "-c", "'env' 'DRCM_NODENAME=it'\\''s' '/etc/x.sh' 'a b' 'start'"]);
        let (_, words) = prefixed("/usr/bin/sudo -n");
        assert_eq!(words, ["-n", "env", "DRCM_NODENAME=it's", "/etc/x.sh", "a b", "start"]);
    }

    #[test]
    fn quoted_words_stay_one_word() {
        assert_eq!(quote(OsStr::new("a b")), "'a b'");
        assert_eq!(quote(OsStr::new("it's; rm -rf /")), "'it'\\''s; rm -rf /'");
        assert_eq!(quote(OsStr::new("")), "''");
    }
}
