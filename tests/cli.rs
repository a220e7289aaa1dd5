//! The command line as an operator meets it: the real binaries, without daemons.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

const SERVER: &str = env!("CARGO_BIN_EXE_drcm_server");
const PEOPLE: &str = env!("CARGO_BIN_EXE_drcm");

/// A directory of its own for each test, removed afterwards.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("drcm-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Three nodes on loopback addresses where nothing listens, with good auth files.
    fn cluster(&self) -> PathBuf {
        let auth = self.0.join("auth");
        fs::create_dir_all(&auth).unwrap();
        fs::set_permissions(&auth, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(auth.join("authkey"), [b'k'; 64]).unwrap();
        let digest = Command::new("sha1sum").arg(auth.join("authkey")).output().unwrap();
        fs::write(auth.join("authkey.sha1"), &digest.stdout[..40]).unwrap();
        for name in ["authkey", "authkey.sha1"] {
            fs::set_permissions(auth.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut text = format!(
            "[CM_SERVER]\ntcpport = 9\nauth_dir = {}\nrun_dir = {}\n[CM_IPADDRS]\nfront, 127.0.0.100, 24, lo, /etc/drcm/resources/ipv4addr.sh\n",
            auth.display(),
            self.0.display()
        );
        for number in 1..=3 {
            let lists = match number {
                1 => "node_floating_ip_addrs = front",
                _ => "node_backup_floating_ip_addrs = cmnode1:front",
            };
            text.push_str(&format!(
                "[CM_NODE]\nnodename = cmnode{number}\nhostname = cmnode{number}.example.com\nkeep_alive_ip = 127.77.0.{number}\n{lists}\n"
            ));
        }
        self.file("cm.cfg", text)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    took: Duration,
}

fn said(output: Output, began: Instant) -> Said {
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        took: began.elapsed(),
    }
}

fn run(program: &str, words: &[&str]) -> Said {
    let began = Instant::now();
    let output = Command::new(program).args(words).stdin(Stdio::null()).output().unwrap();
    said(output, began)
}

fn server(file: &Path, words: &[&str]) -> Said {
    run(SERVER, &[&[format!("--config-file={}", file.display()).as_str()], words].concat())
}

fn typed(file: &Path, text: &str) -> Said {
    let began = Instant::now();
    let mut child = Command::new(SERVER)
        .arg(format!("--config-file={}", file.display()))
        .arg("--client")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    said(child.wait_with_output().unwrap(), began)
}

#[test]
fn help_names_every_documented_flag() {
    for flag in ["--help", "-?", "-h"] {
        let said = run(SERVER, &[flag]);
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{flag}");
        for word in [
            "--help",
            "--version",
            "--check-config",
            "--debug",
            "--debug-level",
            "--verbose",
            "--verbose-level",
            "--config-file",
            "--log-file",
            "--log-level",
            "--log-file-clear",
            "--log-disable",
            "--client",
            "--command",
            "--nodename",
            "-v",
            "-d",
            "-?",
            "-n",
            "-c",
            "Exit codes:",
            "Examples:",
        ] {
            assert!(said.stdout.contains(word), "{word} is missing from:\n{}", said.stdout);
        }
    }
    let said = run(PEOPLE, &["--help"]);
    assert_eq!(said.code, Some(0));
    for word in ["status", "rstats", "ping", "printcfg", "check", "console", "run", "demo", "Examples:"] {
        assert!(said.stdout.contains(word), "{word} is missing from:\n{}", said.stdout);
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(run(SERVER, &["--version"]).stdout, format!("drcm_server {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(PEOPLE, &["--version"]).stdout, format!("drcm {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_is_not_understood_is_said_and_is_no_warning() {
    for (words, hint) in [
        (["--chek-config"].as_slice(), "--check-config"),
        (&["--log-level=9"], "0..=5"),
        (&["-nnode"], "--command"),
        (&["--command=cmstat"], "did you mean \"cm_stat\"?"),
        (&["--command="], "cm_stat, rstats, ping or printcfg"),
        (&["--command=ping", "-c0"], "1..=100000"),
        (&["surplus"], "surplus"),
    ] {
        let said = run(SERVER, words);
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{words:?}: {}", said.stderr);
        assert!(said.stderr.contains(hint), "{words:?}: {}", said.stderr);
    }
    let said = run(PEOPLE, &["sttaus"]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("'status'"), "{}", said.stderr);
    assert_eq!(run(PEOPLE, &[]).code, Some(1), "without a subcommand");
}

#[test]
fn check_config_answers_every_file_with_a_code_and_a_word() {
    let place = Place::new("check");
    let missing = place.0.join("new.cfg");
    let said = server(&missing, &["--check-config"]);
    assert_eq!(said.code, Some(2), "{}", said.stdout);
    assert!(said.stdout.contains("WARNING") && missing.exists(), "{}", said.stdout);

    let good = place.cluster();
    let said = server(&good, &["--check-config", "--nodename=cmnode1"]);
    assert!(!said.stdout.contains("ERROR") && said.code != Some(1), "{}", said.stdout);

    let nowhere = place.0.join("no/such/directory/cm.cfg");
    let directory = place.0.clone();
    let binary = place.file("binary.cfg", (0..=255).cycle().take(100_000).collect::<Vec<u8>>());
    let bad = place.file("bad.cfg", "[CM_SERVER]\nudpport = many\n");
    let empty = place.file("empty.cfg", "");
    let huge = place.file("huge.cfg", "");
    fs::File::options().write(true).open(&huge).unwrap().set_len(1 << 40).unwrap();
    for file in [&nowhere, &directory, &binary, &bad, &empty, &huge] {
        for words in [["--check-config"], ["--command=cm_stat"], ["--client"], ["--log-disable"]] {
            let said = server(file, &words);
            let text = format!("{}{}", said.stdout, said.stderr);
            assert_eq!(said.code, Some(1), "{} {words:?}: {text}", file.display());
            assert!(text.contains("ERROR") && !text.contains("panicked"), "{} {words:?}: {text}", file.display());
            assert!(text.len() < 100_000 && said.took < Duration::from_secs(5), "{} {words:?}", file.display());
        }
    }
    assert!(server(&bad, &["--check-config"]).stdout.contains("bad.cfg:2:11"), "the place is named");
    assert_eq!(run(PEOPLE, &["check", bad.to_str().unwrap()]).code, Some(1));
}

#[test]
fn without_any_daemon_a_command_says_so_soon() {
    let place = Place::new("nobody");
    let file = place.cluster();
    let said = server(&file, &["--client", "--command=cm_stat"]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.took < Duration::from_millis(1200), "{:?}", said.took);
    assert!(said.stdout.lines().last().is_some_and(|line| line.starts_with("Cluster status: UNKNOWN")), "{}", said.stdout);
    for word in ["no node answered", "this machine", "systemctl start drcm_server", "cmnode3@127.77.0.3"] {
        assert!(said.stderr.contains(word), "{}", said.stderr);
    }

    let said = server(&file, &["--client", "--command=rstats", "-ncmnode2"]);
    assert_eq!((said.code, said.took < Duration::from_millis(1200)), (Some(1), true), "{:?}", said.took);
    assert_eq!(said.stdout, "rstats cmnode2@127.77.0.2 failed: no node answered\nrstats cmnode2@127.77.0.2 end\n");

    let said = server(&file, &["--client", "--command=ping"]);
    assert_eq!((said.code, said.took < Duration::from_millis(1200)), (Some(1), true), "{:?}", said.took);
    assert_eq!(said.stdout.lines().count(), 4, "{}", said.stdout);
    assert!(said.stdout.starts_with("ping cmnode1@127.77.0.1 failed: "), "{}", said.stdout);
    assert!(said.stdout.ends_with("ping: 0 of 3 answered\n"), "{}", said.stdout);
}

#[test]
fn a_stuck_daemon_is_not_waited_for_long() {
    let place = Place::new("stuck");
    let file = place.cluster();
    // The kernel accepts for a listener that never does, as for a daemon that was stopped with SIGSTOP.
    let _mute = std::os::unix::net::UnixListener::bind(place.0.join("drcm_server.sock")).unwrap();
    for words in [["--command=cm_stat"], ["--command=rstats"], ["--command=ping"]] {
        let said = server(&file, &words);
        assert_eq!((said.code, said.took < Duration::from_millis(1200)), (Some(1), true), "{words:?} {:?}", said.took);
    }
}

#[test]
fn an_unknown_node_is_255_with_the_nearest_name() {
    let place = Place::new("unknown");
    let file = place.cluster();
    for words in [["--command=ping", "-ncmnod2"], ["--command=rstats", "-ncmnod2"]] {
        let said = server(&file, &words);
        assert_eq!((said.code, said.stdout.as_str()), (Some(255), ""));
        assert!(said.stderr.contains("did you mean \"cmnode2\"?"), "{}", said.stderr);
    }
}

#[test]
fn a_nodename_that_is_none_is_an_error() {
    let place = Place::new("nodename");
    let said = server(&place.cluster(), &["--command=cm_stat", "--nodename=cmnod1"]);
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""));
    assert!(said.stderr.contains("cmnode1"), "{}", said.stderr);
}

#[test]
fn without_the_authkey_only_the_local_daemon_can_be_asked() {
    let place = Place::new("nokey");
    let file = place.cluster();
    fs::remove_file(place.0.join("auth/authkey")).unwrap();
    let said = server(&file, &["--command=cm_stat"]);
    assert_eq!(said.code, Some(1));
    assert!(said.stderr.contains("the other nodes cannot be asked") && said.stderr.contains("authkey"), "{}", said.stderr);
}

#[test]
fn printcfg_prints_what_reads_back_and_no_secret() {
    let place = Place::new("printcfg");
    let file = place.cluster();
    let said = server(&file, &["--client", "--command=printcfg"]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    assert!(said.stdout.contains("\nnodename = cmnode2\n"), "{}", said.stdout);
    assert!(!said.stdout.contains("kkkk"), "the key is printed");
    let copy = place.file("copy.cfg", &said.stdout);
    let again = run(PEOPLE, &["--config-file", copy.to_str().unwrap(), "printcfg"]);
    let without_heading = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(without_heading(&again.stdout), without_heading(&said.stdout));
}

#[test]
fn the_console_reads_a_pipe() {
    let place = Place::new("console");
    let file = place.cluster();
    let said = typed(&file, "help\n\npign\nprintcfg\nexit\ncm_stat\n");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.stdout.matches("DRCM> ").count(), 5, "{}", said.stdout);
    assert!(said.stdout.contains("raw lines of what runs") && said.stdout.contains("[CM_SERVER]"), "{}", said.stdout);
    assert!(!said.stdout.contains("Cluster status"), "nothing is done after exit");
    assert_eq!(said.stderr, "unknown command \"pign\": did you mean \"ping\"? \"help\" lists all commands\n");
    // The end of the input ends it, and a script learns how its last command went.
    assert_eq!(typed(&file, "help").code, Some(0));
    assert_eq!(typed(&file, "ping cmnode9\n").code, Some(255));
    assert_eq!(typed(&file, "").stdout, "DRCM> \n");
    assert_eq!(typed(&file, &"x".repeat(100_000)).code, Some(1));
}

#[test]
fn a_reader_that_leaves_is_no_fault() {
    let place = Place::new("pipe");
    let file = place.cluster();
    for words in ["--help", "--command=printcfg", "--command=cm_stat", "--check-config"] {
        let mut child = Command::new(SERVER)
            .arg(format!("--config-file={}", file.display()))
            .arg(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some() && !stderr.contains("panicked"), "{words}: {stderr}");
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(SERVER).arg("--help").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output"));
}

#[test]
fn an_unreadable_file_is_said_to_be_one() {
    let place = Place::new("unreadable");
    let file = place.cluster();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything: be nobody, unless this is an ordinary user already.
    let copy = place.0.join("drcm_server");
    fs::copy(SERVER, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&copy);
    if nix::unistd::Uid::effective().is_root() {
        use std::os::unix::process::CommandExt;
        command.uid(65534).gid(65534);
    }
    let output = command.arg(format!("--config-file={}", file.display())).arg("--check-config").output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains("ERROR") && stdout.contains("may not be read by this user"), "{stdout}");
}

#[test]
fn programs_are_answered_in_json_also_when_nobody_answers() {
    let place = Place::new("json");
    let file = place.cluster();
    let option = format!("--config-file={}", file.display());
    for (command, words, code) in [
        ("cm_stat", ["status", "--json"], 1),
        ("rstats", ["rstats", "--json"], 1),
        ("ping", ["ping", "--json"], 1),
        ("printcfg", ["printcfg", "--json"], 0),
    ] {
        let old = server(&file, &["--client", &format!("--command={command}"), "--json"]);
        let new = run(PEOPLE, &[&[option.as_str()], words.as_slice()].concat());
        assert_eq!((old.code, new.code), (Some(code), Some(code)), "{command}: {}", new.stderr);
        for said in [old, new] {
            let document: serde_json::Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.stdout));
            let name = words[0];
            assert_eq!(document["schema"], format!("drcm.{name}/1"));
            assert_eq!(document["nodes"].as_array().unwrap().len(), 3);
        }
    }
    // Only commands are answered.
    assert_eq!(server(&file, &["--json"]).code, Some(1));
    assert_eq!(server(&file, &["--check-config", "--json"]).code, Some(1));
}

#[test]
fn a_monitor_gets_one_line_and_3_when_nothing_is_known() {
    let place = Place::new("monitor");
    let file = place.cluster();
    let bad = place.file("bad.cfg", "[CM_SERVER]\nudpport = many\n");
    let missing = place.0.join("none.cfg");
    for file in [&file, &bad, &missing] {
        let said = run(PEOPLE, &["-f", file.to_str().unwrap(), "status", "--check"]);
        assert_eq!((said.code, said.stdout.lines().count(), said.stderr.as_str()), (Some(3), 1, ""), "{}", said.stdout);
        assert!(said.stdout.starts_with("DRCM UNKNOWN - "), "{}", said.stdout);
    }
}
