//! Children end when they must, and leave their words in the log. That they inherit nothing is tested beside their code.

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use drcm::sys::child::{End, Finished, Identity, OutputLog, Program, root_environment};
use nix::unistd::User;

use crate::{
    namespace::{block_on, require_root},
    workspace::Workspace,
};

fn shell(text: &str, output: &OutputLog) -> Program {
    Program {
        program: "/bin/bash".into(),
        arguments: ["-c".into(), text.into()].to_vec(),
        environment: root_environment(),
        identity: None,
        umask: 0o027,
        output: output.clone(),
        title: "test".into(),
    }
}

fn log(workspace: &Workspace) -> OutputLog {
    OutputLog::new(workspace.path("log/test.log"), 1 << 20)
}

fn run(program: Program, limit: Duration) -> Finished {
    block_on(program.run(limit)).unwrap()
}

const LONG: Duration = Duration::from_secs(10);

#[test]
fn a_child_of_a_user_is_that_user_for_good() {
    require_root();
    let workspace = Workspace::new();
    let output = log(&workspace);
    let user = User::from_name("nobody").unwrap().expect("every system has the user nobody");
    let mut program = shell("id -u; id -g; id -G; grep Cap /proc/$$/status; cat /etc/shadow", &output);
    program.identity = Some(Identity { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups: vec![user.gid.as_raw(), 12345] });
    let finished = run(program, LONG);
    let said = workspace.read("log/test.log");
    assert!(!finished.is_success(), "shadow is not for nobody: {said}");
    assert!(said.contains(&format!("{}\n{}\n{} 12345\n", user.uid, user.gid, user.gid)), "{said}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(said.contains(&format!("{set}:\t0000000000000000")), "{said}");
    }
    assert!(finished.last_line.unwrap().text.contains("Permission denied"));
}

#[test]
fn what_overstays_is_ended_with_its_group() {
    require_root();
    let workspace = Workspace::new();
    let output = log(&workspace);
    let begin = Instant::now();
    let limit = Duration::from_millis(300);
    let text = "trap '' TERM; sleep 987 & echo $!; echo waiting; wait; wait; sleep 988";
    let finished = run(shell(text, &output), limit);
    assert_eq!(finished.end, End::TimedOut { limit, stuck: false });
    assert_eq!(finished.last_line.unwrap().text, "waiting");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    let child: i32 = workspace.read("log/test.log").lines().find_map(|line| line.parse().ok()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let status = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    assert!(status.is_empty() || status.contains(") Z "), "its children are gone too: {status}");
}

#[test]
fn what_goes_into_the_background_may_stay_and_write() {
    require_root();
    let workspace = Workspace::new();
    let output = log(&workspace);
    let begin = Instant::now();
    let finished = run(shell("(sleep 0.4; echo later) & echo soon; exit 3", &output), LONG);
    assert_eq!((finished.end, begin.elapsed() < Duration::from_millis(350)), (End::Exited(3), true));
    let line = finished.last_line.unwrap();
    assert_eq!((line.text.as_str(), line.shared), ("soon", false));
    std::thread::sleep(Duration::from_millis(600));
    assert!(workspace.read("log/test.log").contains("\nlater\n"));
}

#[test]
fn words_of_children_are_kept_apart_as_far_as_possible() {
    require_root();
    let workspace = Workspace::new();
    let output = log(&workspace);
    block_on(async {
        let (slow, quick) =
            tokio::join!(shell("echo mine; sleep 0.3", &output).run(LONG), shell("sleep 0.1; echo yours", &output).run(LONG));
        assert!(slow.unwrap().last_line.unwrap().shared);
        assert!(quick.unwrap().last_line.unwrap().shared);
        let alone = shell("printf 'a\\033[31m colour\\n\\n'", &output).run(LONG).await.unwrap().last_line.unwrap();
        assert_eq!((alone.text.as_str(), alone.shared), ("a [31m colour", false));
        let silent = shell("true", &output).run(LONG).await.unwrap();
        assert_eq!(silent.last_line, None);
        let killed = shell("kill -9 $$", &output).run(LONG).await.unwrap();
        assert_eq!(killed.end, End::Signalled(9));
    });
}

#[test]
fn a_log_never_keeps_a_child_from_running() {
    require_root();
    let workspace = Workspace::new();
    for path in ["no-such-directory/test.log", "log"] {
        let finished = run(shell("echo lost", &OutputLog::new(workspace.path(path), 100)), LONG);
        assert_eq!(finished, Finished { end: End::Exited(0), last_line: None });
    }
    let small = OutputLog::new(workspace.path("log/small.log"), 100);
    for _ in 0..4 {
        assert!(run(shell("echo 0123456789 0123456789 0123456789 0123456789", &small), LONG).is_success());
    }
    assert!(workspace.path("log/small.log.1").exists());
    assert!(workspace.read("log/small.log").len() < 400);
}

#[test]
fn whoever_stops_waiting_ends_it() {
    require_root();
    let workspace = Workspace::new();
    let output = log(&workspace);
    let mark = workspace.path("mark");
    block_on(async {
        let text = format!("(sleep 0.5; touch {0}) & sleep 0.5; touch {0}", mark.display());
        let waiting = tokio::time::timeout(Duration::from_millis(200), shell(&text, &output).run(LONG)).await;
        assert!(waiting.is_err());
        let mut free = shell("sleep 0.3; touch $OUT", &output);
        let free_mark = workspace.path("free");
        free.environment.push(("OUT".into(), free_mark.clone().into()));
        let mut running = free.spawn().await.unwrap();
        running.let_go();
        drop(running);
        tokio::time::sleep(Duration::from_millis(800)).await;
        assert!(!mark.exists(), "it would have done its work after the stop that followed");
        assert!(free_mark.exists());
    });
}

#[test]
fn what_cannot_be_run_is_said() {
    require_root();
    let workspace = Workspace::new();
    let mut program = shell("", &log(&workspace));
    program.program = "/no/such/program".into();
    program.arguments = Vec::<OsString>::new();
    let error = block_on(program.run(LONG)).unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}
