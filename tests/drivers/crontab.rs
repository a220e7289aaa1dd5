//! Crontabs, by our own hands and by the script.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::PathBuf,
    time::{Duration, Instant},
};

use drcm::{
    drivers::{Condition, Drivers},
    model::{Crontab, Driver, Kind, Resource, Spec},
};

use tokio::time::timeout;

use crate::{
    namespace::{block_on, enter_new},
    workspace::{Workspace, assignment, resource, stock_scripts},
};

const JOBS: &str = "* * * * * root true\n";

fn crontab(workspace: &Workspace, driver: Driver) -> (Resource, PathBuf) {
    let template = workspace.write("apps1", JOBS);
    let install_dir = workspace.path("cron.d");
    fs::create_dir_all(&install_dir).unwrap();
    let target = install_dir.join("apps1");
    (resource(Kind::Crontab, "apps1", Spec::Crontab(Crontab { template, install_dir }), driver), target)
}

/// The same for both drivers.
fn lives(driver: impl Fn() -> Driver) {
    enter_new();
    let workspace = Workspace::new();
    let (resource, target) = crontab(&workspace, driver());
    let assignment = assignment(&resource);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        drivers.stop(&resource, &assignment).await.unwrap();
        for _ in 0..2 {
            drivers.start(&resource, &assignment, None).await.unwrap();
            assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up);
        }
        let metadata = fs::metadata(&target).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o644, 0));
        assert_eq!(fs::read_to_string(&target).unwrap(), JOBS);
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1, "nothing else is left there");

        for spoil in [
            |target: &PathBuf| fs::write(target, "# another\n").unwrap(),
            |target: &PathBuf| fs::set_permissions(target, fs::Permissions::from_mode(0o666)).unwrap(),
            |target: &PathBuf| {
                fs::rename(target, target.with_file_name("elsewhere")).unwrap();
                symlink("elsewhere", target).unwrap();
            },
        ] {
            spoil(&target);
            assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Partial);
            drivers.start(&resource, &assignment, None).await.unwrap();
            assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
            assert!(!target.is_symlink());
        }
        drivers.stop(&resource, &assignment).await.unwrap();
        drivers.stop(&resource, &assignment).await.unwrap();
        assert!(!target.exists());

        fs::remove_file(workspace.path("apps1")).unwrap();
        let error = drivers.start(&resource, &assignment, None).await.unwrap_err();
        assert!(error.to_string().contains("apps1"), "{error}");
        drivers.stop(&resource, &assignment).await.unwrap();
    });
}

#[test]
fn native_crontab() {
    lives(|| Driver::Native);
}

#[test]
fn scripted_crontab() {
    lives(|| Driver::Script(stock_scripts().join("crontab.sh")));
}

#[test]
fn an_edit_is_seen_at_once_and_taken_back_by_the_check() {
    enter_new();
    let workspace = Workspace::new();
    let (resource, target) = crontab(&workspace, Driver::Native);
    let assignment = assignment(&resource);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        drivers.start(&resource, &assignment, None).await.unwrap();
        let group = [&resource];
        let mut news = drivers.news(group.into_iter()).await;
        let template = workspace.path("apps1");
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(&target, "# another\n").unwrap(),
            &|| fs::remove_file(&target).unwrap(),
            &|| fs::set_permissions(&target, fs::Permissions::from_mode(0o666)).unwrap(),
            &|| fs::write(&template, "0 1 * * * root false\n").unwrap(),
        ];
        for change in changes {
            // What the check before did is news, too.
            while timeout(Duration::from_millis(1200), news.next()).await.is_ok() {}
            change();
            let begin = Instant::now();
            assert_eq!(timeout(Duration::from_secs(2), news.next()).await, Ok(0));
            println!("seen after {:?}", begin.elapsed());
            assert_ne!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
            assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up);
            assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Up);
            assert_eq!(fs::read(&target).unwrap(), fs::read(&template).unwrap());
        }
        fs::write(workspace.path("cron.d/other"), "").unwrap();
        while timeout(Duration::from_millis(1200), news.next()).await.is_ok() {}
        fs::write(workspace.path("cron.d/other"), "more").unwrap();
        assert!(timeout(Duration::from_millis(300), news.next()).await.is_err(), "another file is none of our business");
    });
}

#[test]
fn a_script_that_installs_elsewhere_is_trusted() {
    enter_new();
    let workspace = Workspace::new();
    let elsewhere = workspace.path("elsewhere");
    let script =
        workspace.script("own.sh", &format!("#!/bin/sh\ncase $3 in start) cp $1 {0} ;; stop) rm -f {0} ;; esac\n", elsewhere.display()));
    let (resource, target) = crontab(&workspace, Driver::Script(script));
    let transforming =
        workspace.script("other.sh", "#!/bin/sh\ncase $3 in start) sed s/true/false/ $1 > $2/apps1 ;; stop) rm -f $2/apps1 ;; esac\n");
    let (transformed, _) = crontab(&workspace, Driver::Script(transforming));
    let assignment = assignment(&resource);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Down);
        drivers.start(&resource, &assignment, None).await.unwrap();
        assert_eq!(drivers.check(&resource, &assignment).await.unwrap(), Condition::Up);
        assert!(elsewhere.exists() && !target.exists());
        drivers.stop(&resource, &assignment).await.unwrap();
        assert_eq!(drivers.probe(&resource, &assignment).await.unwrap(), Condition::Down);
        assert!(!elsewhere.exists());

        drivers.start(&transformed, &assignment, None).await.unwrap();
        assert_eq!(drivers.check(&transformed, &assignment).await.unwrap(), Condition::Up);
        fs::remove_file(&target).unwrap();
        assert_eq!(drivers.check(&transformed, &assignment).await.unwrap(), Condition::Down, "that much can be seen");
    });
}

#[test]
fn a_crontab_that_is_none_is_refused() {
    enter_new();
    let workspace = Workspace::new();
    let (resource, target) = crontab(&workspace, Driver::Native);
    let assignment = assignment(&resource);
    block_on(async {
        let (drivers, _events) = Drivers::new(workspace.settings()).unwrap();
        fs::File::create(workspace.path("apps1")).unwrap().set_len(5 << 20).unwrap();
        let error = drivers.start(&resource, &assignment, None).await.unwrap_err();
        assert!(error.to_string().contains("4 MiB"), "{error}");
        fs::remove_file(workspace.path("apps1")).unwrap();
        nix::unistd::mkfifo(&workspace.path("apps1"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = drivers.start(&resource, &assignment, None).await.unwrap_err();
        assert!(error.to_string().contains("regular file"), "{error}");
        assert!(!target.exists());
        fs::remove_dir(target.parent().unwrap()).unwrap();
        drivers.stop(&resource, &assignment).await.unwrap();
    });
}
