//! What a child must not inherit. Changes signals, limits and environment of the whole process: one test, in a process of
//! its own under nextest.

use std::{fs, os::fd::AsRawFd};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigHandler, SigSet, signal},
    },
};

use super::*;

fn program(file: &str, arguments: &[&str], output: &OutputLog) -> Program {
    Program {
        program: file.into(),
        arguments: arguments.iter().map(OsString::from).collect(),
        environment: root_environment(),
        identity: None,
        umask: 0o027,
        output: output.clone(),
        title: "test".into(),
    }
}

fn run(program: Program) -> Finished {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(program.run(Duration::from_secs(10))).unwrap()
}

#[test]
fn a_child_inherits_nothing() {
    let path = std::env::temp_dir().join(format!("drcm-child-{}.log", std::process::id()));
    let output = OutputLog::new(path.clone(), 1 << 20);
    // Everything that could be inherited is made worth inheriting.
    let leak = fs::File::open("/etc/passwd").unwrap();
    fcntl(&leak, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard).unwrap();
    // SAFETY: nothing in this test relies on what these signals do.
    unsafe {
        signal(Signal::SIGHUP, SigHandler::SigIgn).unwrap();
        signal(Signal::SIGPIPE, SigHandler::SigIgn).unwrap();
    }
    SigSet::from(Signal::SIGUSR1).thread_block().unwrap();
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("NOTIFY_SOCKET", "/nowhere") };
    std::fs::write("/proc/self/oom_score_adj", "300").unwrap();

    let text = "for n in {3..300}; do [ ! -e /proc/$$/fd/$n ] || echo leaked $n; done; grep NoNewPrivs /proc/$$/status; echo umask $(umask); echo session $(ps -o sid= -p $$) $$; ulimit -n; ulimit -Hn; cat /proc/$$/oom_score_adj; pwd; env";
    let finished = run(program("/bin/bash", &["-c", text], &output));
    let said = fs::read_to_string(&path).unwrap();
    assert!(finished.is_success(), "{said}");
    assert!(leak.as_raw_fd() > 2 && !said.contains("leaked"), "{said}");
    assert!(said.contains("NoNewPrivs:\t0"), "sudo must work: {said}");
    assert!(said.contains("umask 0027"), "{said}");
    assert!(said.contains(&format!("\n1024\n{}\n0\n/\n", hard.min(524_288))), "limits, score and directory: {said}");
    assert!(!said.contains("NOTIFY_SOCKET"), "{said}");
    let session = said.lines().find_map(|line| line.strip_prefix("session ")).unwrap();
    let ids: Vec<&str> = session.split_whitespace().collect();
    assert_eq!(ids[0], ids[1], "the leader of its own session: {said}");

    // Shells have ideas of their own about signals.
    assert!(run(program("/bin/grep", &["Sig", "/proc/self/status"], &output)).is_success());
    let said = fs::read_to_string(&path).unwrap();
    let ignored = said.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    // 32 and 33 belong to the C library, which lets nobody touch them.
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & !(3 << 31), 0, "{said}");
    assert!(said.contains("SigBlk:\t0000000000000000"), "{said}");
    fs::remove_file(path).unwrap();
}
