//! Applications of a real user, made for the test.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use drcm::{
    drivers::{Condition, Drivers},
    model::{Application, Assignment, Driver, Kind, Resource, Spec},
    sys::process,
};

use crate::{
    namespace::{block_on, enter_new},
    workspace::{Workspace, assignment, resource},
};

/// A user with a home directory, for as long as the test runs.
struct TestUser(String);

impl TestUser {
    fn new(workspace: &Workspace) -> Self {
        let user = Self(format!("drv{}", std::process::id()));
        let home = workspace.path("home");
        // useradd takes a lock that other tests may hold for a moment.
        for attempt in 0.. {
            let made = Command::new("useradd")
                .args(["--user-group", "--shell", "/bin/bash", "--groups", "users", "--create-home", "--home-dir"])
                .arg(&home)
                .arg(&user.0)
                .output()
                .expect("useradd is installed");
            if made.status.success() {
                break;
            }
            assert!(attempt < 50, "useradd: {}", String::from_utf8_lossy(&made.stderr));
            std::thread::sleep(Duration::from_millis(100));
        }
        fs::write(home.join(".bash_profile"), "PATH=$HOME/bin:$PATH; export FROM_PROFILE=yes\n").unwrap();
        fs::create_dir(home.join("bin")).unwrap();
        user
    }
}

impl Drop for TestUser {
    fn drop(&mut self) {
        // What a failed test left running.
        let home = drcm::model::NodeId::of("cmnode1");
        for found in process::marked(&format!("DRCM_APPLICATION=node{}:{home}:ldm", std::process::id()), "none.scope").unwrap_or_default() {
            let _ = found.signal(9);
        }
        for _ in 0..50 {
            if Command::new("userdel").arg("--force").arg(&self.0).output().is_ok_and(|output| output.status.success()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = Command::new("groupdel").arg(&self.0).output();
    }
}

fn application(user: &str, group: &str, start: &str, stop: &str, ensure: Option<&str>) -> Resource {
    let spec =
        Application { user: user.into(), group: group.into(), start: start.into(), stop: stop.into(), ensure: ensure.map(str::to_owned) };
    resource(Kind::Application, "ldm", Spec::Application(spec), Driver::Native)
}

fn processes(assignment: &Assignment) -> Vec<process::Found> {
    process::marked(&format!("DRCM_APPLICATION=node{}:{}:ldm", std::process::id(), assignment.home), "none.scope").unwrap()
}

fn running(assignment: &Assignment) -> usize {
    processes(assignment).len()
}

#[test]
fn an_application_lives_in_the_login_environment_of_its_user() {
    enter_new();
    let workspace = Workspace::new();
    let user = TestUser::new(&workspace);
    let start = "pwd; id -un; id -gn; id -Gn; echo ~ $HOME $USER $LOGNAME $SHELL $FROM_PROFILE; echo $PATH; \
        echo \"it's [ fine ]\"; echo one > ~/one; echo two > two";
    let resource = application(&user.0, "users", start, "true", None);
    let assignment = assignment(&resource);
    let mut settings = workspace.settings();
    settings.bash_rc_file = Some(workspace.write("rc file", "echo from the rc file; PATH=/rc:$PATH\n"));
    block_on(async {
        let (drivers, _events) = Drivers::new(settings).unwrap();
        drivers.start(&resource, &assignment, None).await.unwrap();
        let said = workspace.read("log/application_resource.log");
        let home = workspace.path("home").display().to_string();
        let name = &user.0;
        assert!(said.contains(&format!("from the rc file\n{home}\n{name}\nusers\n")), "{said}");
        assert!(said.contains(&format!("{home} {home} {name} {name} /bin/bash yes\n/rc:{home}/bin:")), "{said}");
        assert!(said.contains("it's [ fine ]"), "{said}");
        assert!(workspace.path("home/one").exists() && workspace.path("home/two").exists());
        // It ended well and nothing of it can be seen: only the application could say that it is down.
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
        drivers.stop(&resource, &assignment).await.unwrap();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
    });
}

#[test]
fn what_went_into_the_background_is_found_and_ended() {
    enter_new();
    let workspace = Workspace::new();
    let user = TestUser::new(&workspace);
    // A daemon in a session of its own, one that wiped its environment, and one that does not listen to TERM.
    let start = "setsid sleep 971 & sleep 970 & env -i sleep 972 & setsid bash -c \"trap '' TERM; sleep 973; sleep 974\" & sleep 0.1";
    let resource = application(&user.0, &user.0, start, "exit 1", None);
    let assignment = assignment(&resource);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        drivers.start(&resource, &assignment, None).await.unwrap();
        assert_eq!(running(&assignment), 5);

        // A daemon that knows nothing of it adopts it and stops it.
        let (successor, _events) = Drivers::new(workspace.settings()).unwrap();
        assert_eq!(successor.probe(&resource, &assignment).await.unwrap(), Condition::Up);
        successor.start(&resource, &assignment, None).await.unwrap();
        assert_eq!(running(&assignment), 5, "not started twice");
        // For another home it is another application.
        let other = Assignment { home: drcm::model::NodeId::of("cmnode2"), ..assignment.clone() };
        assert_eq!(successor.probe(&resource, &other).await.unwrap(), Condition::Down);
        successor.stop(&resource, &other).await.unwrap();
        assert_eq!(running(&assignment), 5);

        let begin = Instant::now();
        successor.stop(&resource, &assignment).await.unwrap();
        println!("ended after {:?}", begin.elapsed());
        assert_eq!(running(&assignment), 0);
        assert_eq!(successor.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        successor.stop(&resource, &assignment).await.unwrap();
        let said = workspace.read("log/application_resource.log");
        assert!(said.contains("ended what was left: ") && said.contains("sleep ("), "{said}");
    });
}

#[test]
fn a_program_in_the_foreground_is_supervised() {
    enter_new();
    let workspace = Workspace::new();
    let user = TestUser::new(&workspace);
    let resource = application(&user.0, &user.0, "echo up; exec sleep 975", "true", None);
    let assignment = assignment(&resource);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        let begin = Instant::now();
        drivers.start(&resource, &assignment, None).await.unwrap();
        assert!((1900..4000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
        for found in processes(&assignment) {
            found.signal(9).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        drivers.start(&resource, &assignment, None).await.unwrap();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
        drivers.stop(&resource, &assignment).await.unwrap();
        assert_eq!(running(&assignment), 0);
    });
}

#[test]
fn the_ensure_script_decides_and_repairs() {
    enter_new();
    let workspace = Workspace::new();
    let user = TestUser::new(&workspace);
    let ensure = "if [ -f ~/broken ]; then echo broken; exit 4; fi; [ ! -f ~/slow ] || sleep 60; [ -f ~/alive ] || touch ~/alive";
    let mut resource = application(&user.0, &user.0, "touch ~/alive", "rm -f ~/alive", Some(ensure));
    resource.options.check_timeout = Duration::from_millis(600);
    let assignment = assignment(&resource);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        drivers.start(&resource, &assignment, None).await.unwrap();
        fs::remove_file(workspace.path("home/alive")).unwrap();
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up);
        assert!(workspace.path("home/alive").exists(), "restarted what died");
        workspace.write("home/slow", "");
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Stalled);
        workspace.write("home/broken", "");
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Down);
        drivers.stop(&resource, &assignment).await.unwrap();
        assert!(!workspace.path("home/alive").exists());
    });
}

#[test]
fn what_is_wrong_with_an_application_is_said() {
    enter_new();
    let workspace = Workspace::new();
    let user = TestUser::new(&workspace);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        let name = user.0.as_str();
        for (user, group, start, words) in [
            ("no-such-user", name, "true", "no user no-such-user"),
            (name, "no-such-group", "true", "no group no-such-group"),
            ("daemon", "daemon", "true", "runs nothing"),
            (name, name, "no-such-program --start", "missing or not in PATH (exit status 127)"),
            (name, name, "/etc/passwd", "not executable (exit status 126)"),
            (name, name, "echo no licence >&2; exit 5", "exit status 5; it said: no licence"),
        ] {
            let resource = application(user, group, start, "true", None);
            let error = drivers.start(&resource, &assignment(&resource), None).await.unwrap_err().to_string();
            println!("{error}");
            assert!(error.contains(words), "{error}");
            assert_eq!(drivers.probe(&resource, &assignment(&resource)).await.unwrap(), Condition::Down);
        }
        // Nothing runs: what cannot stop it does not matter.
        let resource = application("no-such-user", name, "true", "true", None);
        drivers.stop(&resource, &assignment(&resource)).await.unwrap();
    });
}
