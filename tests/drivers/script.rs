//! The script driver with the stock scripts, and the scripts' own rules.

use std::{
    fs::{self, File, OpenOptions},
    os::fd::AsRawFd,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use drcm::{
    drivers::{Condition, DriverError, Drivers},
    model::{Address, Driver, FileSystem, Interface, Kind, Resource, Service, Spec},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{
    namespace::{Peer, block_on, enter_new, ip},
    workspace::{Workspace, assignment, resource, stock_scripts},
};

fn file_system(source: &str, target: &Path, driver: Driver) -> Resource {
    let spec = FileSystem { source: source.into(), target: target.into() };
    resource(Kind::FileSystem, "data", Spec::FileSystem(spec), driver)
}

/// Mounts of this test are seen by this test only.
fn own_mounts() {
    enter_new();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
}

/// A stock script that mounts tmpfs in place of network file systems: the kernel keeps any source for it.
fn wrapped(workspace: &Workspace, name: &str) -> Driver {
    let stock = stock_scripts().join(name);
    Driver::Script(workspace.script(
        name,
        &format!(
            "#!/bin/bash\nexport DRCM_MOUNT_TYPE=tmpfs DRCM_STALE_TIMEOUT=1 DRCM_MOUNT_TIMEOUT=3 DRCM_TERM_GRACE=1\nexec {} \"$@\"\n",
            stock.display()
        ),
    ))
}

#[test]
fn the_contract_of_each_kind() {
    enter_new();
    let workspace = Workspace::new();
    let script = workspace.script("custom.sh", "#!/bin/bash\nfor word; do printf '<%s>' \"$word\"; done; echo; env | grep ^DRCM_ | sort\n");
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        let service = resource(Kind::Service, "web", Spec::Service(Service { name: "httpd".into() }), Driver::Script(script.clone()));
        let mut mount = file_system("192.168.122.1:/a b", Path::new("/no such/b"), Driver::Script(script.clone()));
        mount.options.mount_options = Some("ro,soft".into());
        for resource in [&service, &mount] {
            let assignment = assignment(resource);
            drivers.start(resource, &assignment, None).await.unwrap();
            assert_eq!(drivers.check(resource, &assignment).await.unwrap(), Condition::Up);
            drivers.probe(resource, &assignment).await.unwrap();
            drivers.stop(resource, &assignment).await.unwrap();
        }
        let said = workspace.read("log/service_resource.log");
        let nodename = format!("DRCM_NODENAME={}", workspace.settings().nodename);
        for line in ["<httpd><start>", "<httpd><watch>", "<httpd><status>", "<httpd><stop>", nodename.as_str(), "DRCM_RESOURCE=web"] {
            assert!(said.lines().any(|found| found == line), "{line}: {said}");
        }
        assert!(said.contains(&format!("DRCM_AUTH_DIR={}", workspace.path("auth").display())), "{said}");
        let said = workspace.read("log/filesystem_resource.log");
        for action in ["mount", "watch", "unmount"] {
            assert!(said.contains(&format!("<192.168.122.1:/a b></no such/b><{action}>")), "{said}");
        }
        assert!(said.contains("DRCM_MOUNT_OPTIONS=ro,soft"), "{said}");
    });
}

#[test]
fn a_script_that_fails_hangs_or_is_missing_is_told_apart() {
    enter_new();
    let workspace = Workspace::new();
    let script = workspace.script("custom.sh", "#!/bin/bash\n[ $2 != watch ] || sleep 977\necho the disk is on fire >&2\nexit 7\n");
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        let mut service = resource(Kind::Service, "web", Spec::Service(Service { name: "httpd".into() }), Driver::Script(script));
        let timeout = Duration::from_millis(400);
        (service.options.check_timeout, service.options.start_timeout) = (timeout, timeout);
        let assignment = assignment(&service);
        let error = drivers.start(&service, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("service:web start failed with exit status 7; it said: the disk is on fire"), "{error}");
        assert!(error.contains("service_resource.log"), "{error}");
        assert_eq!(drivers.probe(&service, &assignment).await.unwrap(), Condition::Down);
        let begin = Instant::now();
        assert_eq!(drivers.check(&service, &assignment).await.unwrap(), Condition::Stalled);
        assert!(begin.elapsed() < Duration::from_secs(2));
        service.driver = Driver::Script(workspace.path("no-such.sh"));
        let error = drivers.start(&service, &assignment, None).await.unwrap_err();
        assert!(matches!(error, DriverError::NoScript { .. }), "{error}");
        assert!(drivers.probe(&service, &assignment).await.is_err(), "unknown, not down");
    });
}

#[test]
fn an_address_by_script() {
    enter_new();
    let peer = Peer::linked("10.77.0.1/24", "10.77.0.2/24");
    peer.ip("neighbour replace 10.77.0.180 lladdr 02:00:00:00:00:99 dev eth0 nud stale");
    let workspace = Workspace::new();
    let spec = |ip: &str, netmask: &str, prefix, label: Option<&str>| Address {
        ip: ip.parse().unwrap(),
        prefix,
        netmask: netmask.into(),
        interface: Interface { device: "eth0".into(), label: label.map(str::to_owned) },
    };
    let driver = || Driver::Script(stock_scripts().join("ipv4addr.sh"));
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        for (spec, shown) in [
            (spec("10.77.0.180", "255.255.255.0", 24, Some("eth0:1")), "10.77.0.180/24 brd 10.77.0.255 scope global secondary eth0:1"),
            (spec("10.77.0.181", "32", 32, None), "10.77.0.181/32 scope global eth0"),
            (spec("fd77::180", "64", 64, None), "fd77::180/64 scope global"),
        ] {
            let resource = resource(Kind::Address, "cmnodef", Spec::Address(spec), driver());
            let assignment = assignment(&resource);
            assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
            for _ in 0..2 {
                drivers.start(&resource, &assignment, None).await.unwrap();
                assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up);
            }
            let found = ip("-o address show dev eth0");
            assert!(found.contains(shown), "{found}");
            drivers.stop(&resource, &assignment).await.unwrap();
            drivers.stop(&resource, &assignment).await.unwrap();
            assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        }
        let missing = resource(Kind::Address, "cmnodef", Spec::Address(spec("10.77.0.9", "255.0.255.0", 24, None)), driver());
        let error = drivers.start(&missing, &assignment(&missing), None).await.unwrap_err().to_string();
        assert!(error.contains("neither a netmask nor a prefix length"), "{error}");
    });
    let link = ip("-o link show eth0");
    let hardware = link.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    assert!(peer.ip("neighbour show 10.77.0.180 dev eth0").contains(&hardware), "the peer heard of it");
}

#[test]
fn a_mount_by_script() {
    own_mounts();
    let workspace = Workspace::new();
    let target = workspace.path("the data");
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        let resource = file_system("192.168.122.1:/data", &target, wrapped(&workspace, "nfs.sh"));
        let assignment = assignment(&resource);
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        drivers.stop(&resource, &assignment).await.unwrap();
        for _ in 0..2 {
            drivers.start(&resource, &assignment, None).await.unwrap();
            assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
        }
        assert_eq!(fs::read_to_string("/proc/thread-self/mountinfo").unwrap().matches("192.168.122.1:/data").count(), 1);
        // Watch mounts it again.
        Command::new("umount").arg(&target).status().unwrap();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up);
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
        // Another source there is an error, and is left alone.
        let other = file_system("192.168.122.1:/other", &target, wrapped(&workspace, "nfs.sh"));
        assert_eq!(drivers.probe(&other, &assignment).await.unwrap(), Condition::Partial);
        let error = drivers.start(&other, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("192.168.122.1:/data is mounted there"), "{error}");
        // Somebody works there and does not listen to TERM.
        let mut user = Command::new("bash").args(["-c", "trap '' TERM; sleep 979; sleep 979"]).current_dir(&target).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        drivers.stop(&resource, &assignment).await.unwrap();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        assert!(user.wait().unwrap().code().is_none(), "it was killed");
        let said = workspace.read("log/filesystem_resource.log");
        assert!(said.contains("is used by bash"), "{said}");
    });
}

/// A file system whose server never answers, like an NFS mount whose server is dead.
fn dead_mount(source: &str, target: &Path) -> File {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("the kernel has FUSE");
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    mount(Some(source), target, Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
    device
}

#[test]
fn a_dead_server_never_holds_anything_up() {
    own_mounts();
    let workspace = Workspace::new();
    let target = workspace.path("data");
    fs::create_dir(&target).unwrap();
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        let resource = file_system("192.168.122.1:/data", &target, wrapped(&workspace, "nfs.sh"));
        let assignment = assignment(&resource);
        let server = dead_mount("192.168.122.1:/data", &target);
        let begin = Instant::now();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up, "the table is all that may be read");
        assert!(begin.elapsed() < Duration::from_millis(100));
        let begin = Instant::now();
        assert_eq!(
            drivers.check(&resource, &assignment).await.unwrap(),
            Condition::Up,
            "{}",
            workspace.read("log/filesystem_resource.log")
        );
        println!("a stale mount was mounted anew after {:?}", begin.elapsed());
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(table.contains(" - tmpfs 192.168.122.1:/data ") && !table.contains(" - fuse "), "{table}");
        drop(server);
        drivers.stop(&resource, &assignment).await.unwrap();

        let _server = dead_mount("192.168.122.1:/data", &target);
        let begin = Instant::now();
        drivers.stop(&resource, &assignment).await.unwrap();
        println!("a stale mount was unmounted after {:?}", begin.elapsed());
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
    });
}

#[test]
fn credentials_come_from_a_file_and_go_nowhere() {
    own_mounts();
    let workspace = Workspace::new();
    let target = workspace.path("web");
    let secret = "s3cret'$(id) word";
    // In place of mount: shows what it is given, and mounts a tmpfs.
    let tools = workspace.path("tools");
    fs::create_dir(&tools).unwrap();
    let seen = workspace.path("seen");
    workspace.script(
        "tools/mount",
        &format!(
            "#!/bin/bash\n{{ echo \"arguments: $*\"; env; file=${{4#credentials=}}; cat \"${{file%%,*}}\"; stat -c 'mode %a' \"${{file%%,*}}\"; }} > {}\n\
             exec /bin/mount -t tmpfs \"$6\" \"$7\"\n",
            seen.display()
        ),
    );
    let stock = stock_scripts().join("cifs.sh");
    let script =
        workspace.script("cifs-wrapped.sh", &format!("#!/bin/bash\nPATH={}:$PATH exec {} \"$@\"\n", tools.display(), stock.display()));
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        let resource = file_system("//192.168.122.225/users/web", &target, Driver::Script(script));
        let assignment = assignment(&resource);
        let error = drivers.start(&resource, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("a template has been written"), "{error}");
        let auth = workspace.path("auth/192.168.122.225");
        let template = fs::read_to_string(&auth).unwrap();
        for name in ["username", "password", "passwordage", "dir_mode", "file_mode", "uid", "gid"] {
            assert!(template.contains(&format!("export {name}=")), "{template}");
        }
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&auth).unwrap().permissions().mode() & 0o777, 0o600);
        let error = drivers.start(&resource, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("has no username"), "{error}");

        let filled = template
            .replace("username=\"\"", "username=web")
            .replace("password=''", "password=\"s3cret'\\$(id) word\"")
            .replace("uid=\"\"", "uid=33")
            .replace("passwordage=\"0\"", "passwordage=30");
        fs::write(&auth, filled).unwrap();
        fs::set_permissions(&auth, fs::Permissions::from_mode(0o622)).unwrap();
        let error = drivers.start(&resource, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("may be written by others"), "{error}");
        fs::set_permissions(&auth, fs::Permissions::from_mode(0o600)).unwrap();

        drivers.start(&resource, &assignment, None).await.unwrap();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
        let seen = workspace.read("seen");
        assert!(seen.contains(&format!("username=web\npassword={secret}\n")), "{seen}");
        assert!(seen.contains("mode 600") && seen.contains(",uid=33,dir_mode=0755,file_mode=0644"), "{seen}");
        assert_eq!(seen.matches("s3cret").count(), 1, "not an argument, not in the environment: {seen}");
        assert!(!workspace.read("log/filesystem_resource.log").contains("s3cret"));
        assert!(fs::read_dir(workspace.path("run")).unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().contains("cifs")));
        assert!(workspace.read("run/192.168.122.225.last").trim().parse::<u64>().is_ok());
        assert!(!workspace.path("run/192.168.122.225.expired").exists());

        drivers.stop(&resource, &assignment).await.unwrap();
        Command::new("touch").args(["-d", "40 days ago"]).arg(&auth).status().unwrap();
        drivers.start(&resource, &assignment, None).await.unwrap();
        assert!(workspace.path("run/192.168.122.225.expired").exists());
        drivers.stop(&resource, &assignment).await.unwrap();
    });
}

/// An init script of the old kind, for a daemon that really runs.
const INIT_SCRIPT: &str = r#"#!/bin/sh
pid=HERE/web.pid
case $1 in
    start) setsid sleep 981 > /dev/null 2>&1 & echo $! > $pid ;;
    stop) kill "$(cat $pid)" && rm -f $pid ;;
    restart) $0 stop; $0 start ;;
    reload) [ -f $pid ] ;;
    status) [ -f $pid ] && grep -q 'State:.[^Z]' "/proc/$(cat $pid)/status" ;;
esac
"#;

#[test]
fn a_service_of_the_init_kind() {
    enter_new();
    let workspace = Workspace::new();
    fs::create_dir(workspace.path("init.d")).unwrap();
    workspace.script("init.d/web", &INIT_SCRIPT.replace("HERE", &workspace.path("run").display().to_string()));
    let stock = stock_scripts().join("service.sh");
    let script = workspace.script(
        "service.sh",
        &format!(
            "#!/bin/bash\nexport DRCM_SYSTEMD_RUN_DIR=/no/systemd DRCM_INIT_DIR={}\nexec {} \"$@\"\n",
            workspace.path("init.d").display(),
            stock.display()
        ),
    );
    let service = |name: &str| resource(Kind::Service, "web", Spec::Service(Service { name: name.into() }), Driver::Script(script.clone()));
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        let resource = service("web");
        let assignment = assignment(&resource);
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        drivers.stop(&resource, &assignment).await.unwrap();
        for _ in 0..2 {
            drivers.start(&resource, &assignment, None).await.unwrap();
            assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
        }
        let pid = workspace.read("run/web.pid");
        for action in ["restart", "reload"] {
            let status = Command::new(&script).args(["web", action]).status().unwrap();
            assert!(status.success(), "{action}");
        }
        assert_ne!(pid, workspace.read("run/web.pid"), "restarted");
        Command::new("kill").arg(workspace.read("run/web.pid").trim()).status().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up, "watch starts it again");
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
        drivers.stop(&resource, &assignment).await.unwrap();
        drivers.stop(&resource, &assignment).await.unwrap();
        // One that does not exist can be stopped, not started.
        let missing = service("missing");
        drivers.stop(&missing, &assignment).await.unwrap();
        let error = drivers.start(&missing, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("there is no service missing"), "{error}");
    });
}

/// In place of systemctl, which machines without systemd lack: one unit whose state is a file.
const SYSTEMCTL: &str = r#"#!/bin/bash
state=HERE/unit
echo "$*" >> HERE/calls
case $1 in
    show)
        if [ "$4" != web ]; then
            echo "${2#--property=}=$([ "$2" = --property=LoadState ] && echo not-found || echo inactive)"
        elif [ "$2" = --property=LoadState ]; then
            echo LoadState=loaded
        else
            echo "ActiveState=$(cat $state)"
        fi ;;
    start) echo active > $state ;;
    stop) echo inactive > $state ;;
esac
"#;

#[test]
fn a_service_of_systemd() {
    enter_new();
    let workspace = Workspace::new();
    let here = workspace.path("run").display().to_string();
    let systemctl = workspace.script("systemctl", &SYSTEMCTL.replace("HERE", &here));
    let script = workspace.script(
        "service.sh",
        &format!(
            "#!/bin/bash\nexport DRCM_SYSTEMD_RUN_DIR=/ DRCM_SYSTEMCTL={}\nexec {} \"$@\"\n",
            systemctl.display(),
            stock_scripts().join("service.sh").display()
        ),
    );
    let service = |name: &str| resource(Kind::Service, "web", Spec::Service(Service { name: name.into() }), Driver::Script(script.clone()));
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        let resource = service("web");
        let assignment = assignment(&resource);
        for (state, condition, calls) in [
            ("active", Condition::Up, ""),
            ("reloading", Condition::Up, ""),
            ("activating", Condition::Down, ""),
            ("deactivating", Condition::Down, ""),
            ("inactive", Condition::Down, "start -- web"),
            ("failed", Condition::Down, "start -- web"),
        ] {
            workspace.write("run/unit", state);
            assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), condition, "{state}");
            workspace.write("run/calls", "");
            assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up, "{state}");
            let asked = workspace.read("run/calls");
            assert_eq!(asked.lines().any(|line| line.starts_with("start")), !calls.is_empty(), "{state}: {asked}");
            assert!(asked.contains(calls), "{state}: {asked}");
        }
        drivers.start(&resource, &assignment, None).await.unwrap();
        drivers.stop(&resource, &assignment).await.unwrap();
        drivers.stop(&resource, &assignment).await.unwrap();
        assert_eq!(workspace.read("run/unit"), "inactive\n");
        drivers.stop(&service("missing"), &assignment).await.unwrap();
        assert!(drivers.start(&service("missing"), &assignment, None).await.is_err());
    });
}

#[test]
fn wrong_usage_is_told_by_exit_status_two() {
    for (script, words) in [
        ("crontab.sh", vec!["/etc/crontab", "/tmp"]),
        ("crontab.sh", vec!["/etc/crontab", "/tmp", "watch"]),
        ("ipv4addr.sh", vec!["10.0.0.1", "24", "eth0"]),
        ("ipv4addr.sh", vec!["10.0.0.1", "24", "eth0", "watch"]),
        ("service.sh", vec!["web"]),
        ("service.sh", vec!["--help", "start"]),
        ("service.sh", vec!["../x", "start"]),
        ("nfs.sh", vec!["no-colon", "/data", "mount"]),
        ("nfs.sh", vec!["host:/data", "/data", "start"]),
        ("cifs.sh", vec!["//host", "/data", "mount"]),
        ("cifs.sh", vec![]),
    ] {
        let output = Command::new(stock_scripts().join(script)).args(&words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{script} {words:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage: "), "{script} {words:?}");
    }
}
