//! process_lock.sh and process_lock_net.sh.

use std::{
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use super::workspace::Workspace;

/// Takes the lock, notes begin and end, and gives it back.
const WORK: &str = r#"
LOCKfile=$PWD/lock
. "$utils/process_lock.sh"
LockFileCheck 60
CreateLockFile
echo begin >>runs; sleep 0.05; echo end >>runs
RemoveLockFile
"#;

#[test]
fn of_many_at_the_same_moment_one_at_a_time_works() {
    let workspace = Workspace::new("locks");
    let mut waiting: Vec<_> =
        (0..24).map(|_| workspace.command(WORK).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()).collect();
    let done = waiting.iter_mut().filter_map(|child| child.wait().unwrap().success().then_some(())).count();
    let runs = workspace.read("runs");
    let runs: Vec<&str> = runs.lines().collect();
    assert_eq!(runs.len(), 2 * done);
    assert!(done >= 1 && runs.chunks(2).all(|pair| pair == ["begin", "end"]), "{runs:?}");
    assert!(!workspace.path("lock").exists());
    // Whoever did not get it has harmed nothing.
    assert_eq!(workspace.run(WORK).code, Some(0));
}

#[test]
fn many_that_find_the_lock_of_a_dead_process_do_not_both_take_it() {
    let workspace = Workspace::new("dead");
    for _ in 0..5 {
        workspace.run("echo \"$(uname -n):999999999\" >lock; : >runs");
        let mut waiting: Vec<_> = (0..12).map(|_| workspace.command(WORK).stderr(Stdio::null()).spawn().unwrap()).collect();
        for child in &mut waiting {
            child.wait().unwrap();
        }
        let runs = workspace.read("runs");
        let runs: Vec<&str> = runs.lines().collect();
        assert!(!runs.is_empty() && runs.chunks(2).all(|pair| pair == ["begin", "end"]), "{runs:?}");
    }
}

#[test]
fn a_lock_holds_host_and_process_and_counts_only_while_that_process_is_there() {
    let workspace = Workspace::new("holder");
    let text = "LOCKfile=$PWD/lock; . \"$utils/process_lock.sh\"; CreateLockFile; cat \"$LOCKfile\"; echo $(uname -n):$$";
    let said = workspace.run(text);
    let lines: Vec<&str> = said.text.lines().collect();
    assert_eq!(lines[0], lines[1]);
    // It ended without giving it back.
    assert!(workspace.path("lock").exists());
    assert_eq!(workspace.run(WORK).code, Some(0));
    // A number that another process has got since: one that is alive, but younger than the lock.
    let said = workspace.run(
        "echo \"$(uname -n):$PPID\" >lock; touch -d '20 years ago' lock; LOCKfile=$PWD/lock; . \"$utils/process_lock.sh\"; CreateLockFile",
    );
    assert_eq!(said.code, Some(0), "{said:?}");
    // Another's lock is not given back by us.
    workspace.run("echo other:1 >lock; LOCKfile=$PWD/lock; . \"$utils/process_lock.sh\"; RemoveLockFile");
    assert_eq!(workspace.read("lock"), "other:1\n");
    // One of another host counts for as long as it is told.
    let said = workspace.run(WORK);
    assert!(said.code == Some(1) && said.error.contains("not known here"), "{said:?}");
    workspace.run("touch -d '61 minutes ago' lock");
    assert_eq!(workspace.run(WORK).code, Some(0));
}

#[test]
fn one_that_runs_for_too_long_is_ended_with_all_it_started() {
    let workspace = Workspace::new("overdue");
    let text = "LOCKfile=$PWD/lock; . \"$utils/process_lock.sh\"; CreateLockFile; trap '' TERM; echo $$ >pid; sleep 983; sleep 983";
    let mut overdue = workspace.command(text).spawn().unwrap();
    let begin = Instant::now();
    while workspace.read("pid").is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        sleep(Duration::from_millis(10));
    }
    assert_eq!(workspace.run(WORK).code, Some(1), "its time is not over");
    // Two hours later; it was started before that for the sake of the lock's age.
    let said = workspace.run("LOCKfile=$PWD/lock; . \"$utils/process_lock.sh\"; LockFileCheck 0; CreateLockFile; echo mine");
    assert!(said.code == Some(0) && said.text.contains("mine") && said.error.contains("too long"), "{said:?}");
    assert!(!overdue.wait().unwrap().success());
}

#[test]
fn a_lock_over_several_nodes_is_all_or_nothing() {
    let workspace = Workspace::new("net");
    // Another node: the same machine, seen under another name and with a root of its own for the lock.
    let ssh = workspace.program(
        "ssh",
        "#!/bin/bash\nwhile [ \"$1\" != -- ]; do shift; done\n[ \"$2\" != gone ] || exit 255\ncd \"$(dirname \"$0\")/$2\" || exit 1\nshift 2\nuname() { echo there; }\nexport -f uname\nexec bash -c \"$*\"\n",
    );
    std::fs::create_dir(workspace.path("one")).unwrap();
    std::fs::create_dir(workspace.path("two")).unwrap();
    let run = |nodes: &str, text: &str| {
        workspace.run(&format!(
            "DRCM_SSH={:?} LOCKfile=lock LOCKnodes='{nodes}'; . \"$utils/process_lock_net.sh\"; {text}",
            ssh.display().to_string()
        ))
    };
    let said = run("one two", "CreateLockFile; cat lock one/lock two/lock | sort -u | wc -l; RemoveLockFile");
    assert_eq!((said.code, said.text.as_str()), (Some(0), "1\n"), "{said:?}");
    for place in ["lock", "one/lock", "two/lock"] {
        assert!(!workspace.path(place).exists(), "{place}");
    }
    // One that cannot be reached, or has another's: none is kept.
    for (nodes, holder) in [("one gone", ""), ("one two", "elsewhere:5")] {
        workspace.write("two/lock", holder);
        let said = run(nodes, "LockFileCheck 60; CreateLockFile; echo mine");
        assert!(said.code == Some(1) && !said.text.contains("mine"), "{said:?}");
        assert!(!workspace.path("lock").exists() && !workspace.path("one/lock").exists());
    }
    // A lock there of a process here that is gone.
    workspace.run("echo \"$(uname -n):999999999\" >two/lock");
    let said = run("one two", "LockFileCheck 60; CreateLockFile; echo mine; RemoveLockFile");
    assert!(said.code == Some(0) && said.text.contains("mine"), "{said:?}");
}
