//! File systems without a script: memory, another view of a directory, a disk in a file, and mounts whose server is dead: FUSE
//! whose server (this process) takes questions and never answers, so that whoever asks is stuck in the kernel for good.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use drcm::{
    drivers::{Condition, Drivers},
    model::{Assignment, Driver, FileSystem, Kind, Resource, Spec},
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use crate::{
    namespace::{block_on, enter_new},
    workspace::{Workspace, assignment, resource},
};

fn file_system(source: &str, target: &Path, options: Option<&str>) -> (Resource, Assignment) {
    let spec = FileSystem { source: source.into(), target: target.into() };
    let mut resource = resource(Kind::FileSystem, "data", Spec::FileSystem(spec), Driver::Native);
    resource.options.mount_options = options.map(str::to_owned);
    resource.options.check_timeout = Duration::from_millis(500);
    let assignment = assignment(&resource);
    (resource, assignment)
}

/// Mounts of this test are seen by this test only.
fn own_mounts() {
    enter_new();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
}

fn table() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

/// A disk in a file, given back when the test ends.
struct Disk(PathBuf);

impl Disk {
    fn new(workspace: &Workspace, name: &str) -> Self {
        let image = workspace.path(name);
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-L", name]).arg(&image));
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(String::from_utf8(output.stdout).unwrap().trim().into())
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for line in table().lines().filter(|line| line.contains(self.name())) {
            let _ = umount2(line.split(' ').nth(4).unwrap(), MntFlags::MNT_DETACH);
        }
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Ended when the test is.
struct User(Child);

impl User {
    /// Works in a directory, and does or does not listen to TERM.
    fn of(directory: &Path, stubborn: bool) -> Self {
        let trap = if stubborn { "trap '' TERM; " } else { "" };
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{trap}echo; while sleep 0.1; do :; done")]).current_dir(directory);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        // It has set its trap.
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        Self(child)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Mounts FUSE here. Its server agrees to serve and then takes every question and answers none: who asks cannot even be killed.
fn dead_mount(source: &str, target: &Path) -> File {
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("the kernel has FUSE");
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    mount(Some(source), target, Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
    let mut server = device.try_clone().unwrap();
    thread::spawn(move || {
        let mut question = vec![0; 1 << 20];
        let length = server.read(&mut question).unwrap();
        assert!(length >= 40 && question[4] == 26, "the first question is whether we serve");
        // Length, no error, the number of the question; then version 7.19 of the protocol and small limits.
        let mut answer = Vec::new();
        answer.extend(40_u32.to_ne_bytes());
        answer.extend(0_i32.to_ne_bytes());
        answer.extend(&question[8..16]);
        for word in [7_u32, 19, 4096, 0, 0, 4096] {
            answer.extend(word.to_ne_bytes());
        }
        server.write_all(&answer).unwrap();
        while server.read(&mut question).is_ok() {}
    });
    device
}

#[test]
fn memory_is_mounted_once_and_comes_and_goes() {
    own_mounts();
    let workspace = Workspace::new();
    let target = workspace.path("a dir/deeper");
    let (resource, assignment) = file_system("tmpfs", &target, Some("size=1m,nosuid,x-note,defaults"));
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        drivers.stop(&resource, &assignment).await.unwrap();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Down);
        for _ in 0..2 {
            let begin = Instant::now();
            drivers.start(&resource, &assignment, None).await.unwrap();
            println!("start: {:?}", begin.elapsed());
            assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up);
            assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
        }
        let line = table().lines().find(|line| line.contains("deeper")).unwrap().to_owned();
        assert!(line.contains("nosuid") && line.contains("size=1024k") && table().matches("deeper").count() == 1, "{line}");
        let begin = Instant::now();
        drivers.stop(&resource, &assignment).await.unwrap();
        println!("stop: {:?}", begin.elapsed());
        drivers.stop(&resource, &assignment).await.unwrap();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);

        // What somebody else mounted there is an error to start, and is left alone by stop.
        mount(Some("foreign"), &target, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Partial);
        let error = drivers.start(&resource, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("foreign is mounted there, not tmpfs"), "{error}");
        drivers.stop(&resource, &assignment).await.unwrap();
        assert_eq!(table().matches("foreign").count(), 1);
        umount2(&target, MntFlags::MNT_DETACH).unwrap();

        // Ours goes even when something hides it, or hangs beneath it.
        fs::write(target.join("hidden"), "").unwrap();
        drivers.start(&resource, &assignment, None).await.unwrap();
        assert!(workspace.read("log/filesystem_resource.log").contains("is not empty; what is in it is hidden"));
        fs::create_dir(target.join("below")).unwrap();
        for place in [target.join("below"), target.clone()] {
            mount(Some("foreign"), &place, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        }
        drivers.stop(&resource, &assignment).await.unwrap();
        assert!(!table().contains("deeper"), "{}", table());
    });
}

#[test]
fn links_in_the_path_of_a_target_are_followed() {
    own_mounts();
    let workspace = Workspace::new();
    fs::create_dir(workspace.path("real")).unwrap();
    std::os::unix::fs::symlink("real", workspace.path("link")).unwrap();
    let (resource, assignment) = file_system("tmpfs", &workspace.path("link/data"), None);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        for _ in 0..2 {
            drivers.start(&resource, &assignment, None).await.unwrap();
            assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
        }
        assert_eq!(table().matches("real/data").count(), 1);
        drivers.stop(&resource, &assignment).await.unwrap();
        assert_eq!(table().matches("real/data").count(), 0);
    });
}

#[test]
fn another_view_of_a_directory() {
    own_mounts();
    let workspace = Workspace::new();
    let (source, target) = (workspace.path("the source"), workspace.path("view"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "here").unwrap();
    let (resource, assignment) = file_system(source.to_str().unwrap(), &target, Some("bind,ro,noexec"));
    let (other, _) = file_system(workspace.path("log").to_str().unwrap(), &target, Some("bind"));
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        drivers.start(&resource, &assignment, None).await.unwrap();
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "here");
        assert!(fs::write(target.join("file"), "x").is_err(), "it is read-only");
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up);
        assert_eq!(drivers.check(&other, &assignment).await.unwrap(), Condition::Partial);
        drivers.stop(&resource, &assignment).await.unwrap();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        let (missing, _) = file_system("/no/such/directory", &target, Some("bind"));
        let error = drivers.start(&missing, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("cannot mount /no/such/directory") && error.contains("No such file"), "{error}");
    });
}

#[test]
fn a_disk_whose_type_is_found_out() {
    own_mounts();
    let workspace = Workspace::new();
    let disk = Disk::new(&workspace, "disk");
    let target = workspace.path("data");
    let (resource, assignment) = file_system(disk.name(), &target, Some("noatime"));
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        for _ in 0..2 {
            drivers.start(&resource, &assignment, None).await.unwrap();
            assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up);
        }
        assert!(table().contains(&format!(" - ext4 {} ", disk.name())), "{}", table());
        drivers.stop(&resource, &assignment).await.unwrap();

        // An error of the disk has made it read-only: it is mended.
        drivers.start(&resource, &assignment, None).await.unwrap();
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(&target));
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Partial);
        drivers.start(&resource, &assignment, None).await.unwrap();
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up);
        fs::write(target.join("file"), "here").unwrap();
        drivers.stop(&resource, &assignment).await.unwrap();

        // Nothing that could be mounted.
        run(Command::new("dd").args(["if=/dev/zero", "bs=1M", "count=16", "conv=notrunc"]).arg(format!("of={}", disk.name())));
        let error = drivers.start(&resource, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("none of the kernel's file systems is on it (ext3, ext2, ext4") || error.contains("ext4"), "{error}");
        assert!(error.contains("blkid"), "{error}");
        let (missing, _) = file_system("UUID=no-such-disk", &target, None);
        let error = drivers.start(&missing, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("/dev/disk/by-uuid/no-such-disk"), "{error}");
        drivers.stop(&missing, &assignment).await.unwrap();
    });
}

#[test]
fn whoever_uses_a_mount_is_ended_and_nobody_else() {
    own_mounts();
    let workspace = Workspace::new();
    let target = workspace.path("data");
    let (resource, assignment) = file_system("tmpfs", &target, None);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        drivers.start(&resource, &assignment, None).await.unwrap();
        // In the directory below the mount point's name, but not on the mount; and with a file of the mount open.
        let mut beside = User::of(&workspace.path("log"), false);
        let mut working = User::of(&target, false);
        let mut stubborn = User::of(&target, true);
        fs::write(target.join("file"), "").unwrap();
        let held = File::open(target.join("file")).unwrap();
        let mut reader = User(Command::new("sleep").arg("979").stdin(held).spawn().unwrap());
        let begin = Instant::now();
        drivers.stop(&resource, &assignment).await.unwrap();
        println!("unmounted after {:?}", begin.elapsed());
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(working.0.wait().unwrap().signal(), Some(15));
        assert_eq!(reader.0.wait().unwrap().signal(), Some(15));
        assert_eq!(stubborn.0.wait().unwrap().signal(), Some(9));
        assert!(beside.0.try_wait().unwrap().is_none(), "it lives");
        assert!(!table().contains("/data "), "{}", table());
        let said = workspace.read("log/filesystem_resource.log");
        for part in
            [format!("is used by bash ({}): TERM", working.0.id()), format!("bash ({}): KILL", stubborn.0.id()), "after ending".into()]
        {
            assert!(said.contains(&part), "{part}: {said}");
        }
    });
}

#[test]
fn a_disk_that_is_still_in_use_elsewhere_is_never_called_stopped() {
    own_mounts();
    let workspace = Workspace::new();
    let disk = Disk::new(&workspace, "disk");
    let target = workspace.path("data");
    let (mut resource, assignment) = file_system(disk.name(), &target, None);
    resource.options.stop_timeout = Duration::from_secs(2);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        drivers.start(&resource, &assignment, None).await.unwrap();
        // A container started meanwhile has a copy of every mount.
        let mut container = User(Command::new("unshare").args(["--mount", "--propagation", "private", "sleep", "983"]).spawn().unwrap());
        thread::sleep(Duration::from_millis(200));
        for _ in 0..2 {
            let error = drivers.stop(&resource, &assignment).await.unwrap_err().to_string();
            assert!(error.contains("is still in use by the mount namespace of sleep"), "{error}");
            assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        }
        container.0.kill().unwrap();
        container.0.wait().unwrap();
        drivers.stop(&resource, &assignment).await.unwrap();

        // Ourselves, too: a file that this process holds open cannot be taken from it.
        drivers.start(&resource, &assignment, None).await.unwrap();
        let held = File::create(target.join("file")).unwrap();
        let error = drivers.stop(&resource, &assignment).await.unwrap_err().to_string();
        assert!(error.contains("is still in use"), "{error}");
        drop(held);
        drivers.stop(&resource, &assignment).await.unwrap();
    });
}

#[test]
fn a_server_that_never_answers_stalls_a_check_and_nothing_else() {
    own_mounts();
    let workspace = Workspace::new();
    let target = workspace.path("data");
    fs::create_dir(&target).unwrap();
    let (resource, assignment) = file_system("tmpfs", &target, None);
    let (other, _) = file_system("tmpfs", &workspace.path("other"), None);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        let server = dead_mount("tmpfs", &target);
        let begin = Instant::now();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up, "the table is all that is read");
        assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
        for round in 0..6 {
            let begin = Instant::now();
            let (stalled, other) = tokio::join!(drivers.check(&resource, &assignment), async {
                let begin = Instant::now();
                drivers.start(&other, &assignment, None).await.unwrap();
                drivers.stop(&other, &assignment).await.unwrap();
                begin.elapsed()
            });
            assert_eq!(stalled.unwrap(), Condition::Stalled);
            println!("check {round}: stalled after {:?}; meanwhile another was mounted and unmounted in {other:?}", begin.elapsed());
            assert!(begin.elapsed() < Duration::from_millis(900));
            assert!(other < Duration::from_millis(400), "{other:?}");
        }
        assert!(stuck_children() <= 3, "no more than three are ever left behind: {}", stuck_children());
        println!("{} children are stuck in the kernel", stuck_children());
        // Mounted anew.
        let begin = Instant::now();
        drivers.start(&resource, &assignment, None).await.unwrap();
        println!("a stale mount was mounted anew after {:?}", begin.elapsed());
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up);
        assert!(!table().contains(" - fuse "), "{}", table());
        drop(server);
        drivers.stop(&resource, &assignment).await.unwrap();

        let _server = dead_mount("tmpfs", &target);
        let mut user = User(Command::new("stat").arg("-f").arg(&target).stdout(std::process::Stdio::null()).spawn().unwrap());
        let begin = Instant::now();
        drivers.stop(&resource, &assignment).await.unwrap();
        println!("a stale mount was unmounted after {:?}", begin.elapsed());
        assert!(!table().contains(" - fuse "), "{}", table());
        user.0.wait().unwrap();
        assert_eq!(stuck_children(), 0, "all are let go with the mount");
    });
}

/// Our children that sleep in the kernel, not to be woken by a signal.
fn stuck_children() -> usize {
    let own = std::process::id().to_string();
    let stuck = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = status.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        status.contains("(drcm-errand)") && fields.first() == Some(&"D") && fields.get(1) == Some(&own.as_str())
    };
    fs::read_dir("/proc").unwrap().flatten().filter(|entry| stuck(&entry.file_name().to_string_lossy())).count()
}

#[test]
fn a_start_that_is_given_up_is_over_before_its_stop() {
    own_mounts();
    let workspace = Workspace::new();
    let target = workspace.path("data");
    let (resource, assignment) = file_system("tmpfs", &target, None);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        for microseconds in (0..6000).step_by(50) {
            let start = drivers.start(&resource, &assignment, None);
            drop(tokio::time::timeout(Duration::from_micros(microseconds), start).await);
            drivers.stop(&resource, &assignment).await.unwrap();
            assert!(!table().contains("/data "), "{microseconds}: {}", table());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!table().contains("/data "), "{}", table());
    });
}

#[test]
fn network_file_systems_fail_with_advice_where_the_kernel_has_none() {
    own_mounts();
    let workspace = Workspace::new();
    let target = workspace.path("data");
    workspace.write("auth/127.0.0.1", "export username=web\nexport password='hush'\n");
    let has = |kind: &str| fs::read_to_string("/proc/filesystems").unwrap().lines().any(|line| line.ends_with(&format!("\t{kind}")));
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        for (source, kind, advice) in [("127.0.0.1:/data", "nfs", "modprobe nfs"), ("//127.0.0.1/share", "cifs", "modprobe cifs")] {
            let (resource, assignment) = file_system(source, &target, None);
            let error = drivers.start(&resource, &assignment, None).await.unwrap_err().to_string();
            println!("{error}");
            assert!(error.contains(source) && (has(kind) || error.contains(advice)), "{error}");
            assert!(!error.contains("hush") && !workspace.read("log/filesystem_resource.log").contains("hush"));
            drivers.stop(&resource, &assignment).await.unwrap();
        }
        assert!(workspace.read("run/127.0.0.1.last").trim().parse::<u64>().is_ok());
        let (share, assignment) = file_system("//no-such-host.invalid/share", &target, None);
        let error = drivers.start(&share, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("cannot resolve no-such-host.invalid"), "{error}");
        let (share, assignment) = file_system("//127.0.0.2/share", &target, None);
        let error = drivers.start(&share, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("a template has been written there"), "{error}");
        let error = drivers.start(&share, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("it has no username"), "{error}");
        let (share, assignment) = file_system("//127.0.0.1/share", &target, Some("password=hush"));
        let error = drivers.start(&share, &assignment, None).await.unwrap_err().to_string();
        assert!(error.contains("auth_dir/HOST") && !error.contains("hush"), "{error}");
    });
}
