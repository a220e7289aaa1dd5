//! The log as a whole, into real files.

use std::{
    fs,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tracing::{debug, error, info, subscriber::with_default, trace, warn};

use super::*;
use crate::config::default_server;

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = std::env::temp_dir().join(format!("drcm-logs-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What was written to stderr.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shown {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn settings() -> LogSettings {
    default_server().log
}

/// Logs what `what` logs and returns what went to stderr, in journald's form.
fn logged(directory: &Directory, settings: &LogSettings, overrides: &Overrides, what: impl FnOnce(&LogGuard)) -> String {
    let shown = Shown::default();
    let (subscriber, guard) = build(settings, "drcm_server", &directory.0, overrides, Box::new(shown.clone()), Form::Journal).unwrap();
    with_default(subscriber, || what(&guard));
    drop(guard);
    shown.text()
}

fn each_level() {
    error!("broken");
    warn!("odd");
    info!(node = "cmnode1", missed = 3, error = %io::Error::from_raw_os_error(2), list = ?[1, 2], "heard");
    debug!("detail");
    trace!("datagram");
    info!(target: "zbus", "chatter");
    debug!(target: "zbus", "more chatter");
}

#[test]
fn a_line_has_date_program_level_message_and_fields() {
    let directory = Directory::new();
    let shown = logged(&directory, &settings(), &Overrides::default(), |_| each_level());
    let text = directory.read("drcm.log");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    let (date, rest) = lines[2].split_at(24);
    jiff::civil::DateTime::strptime("%a %b %e %H:%M:%S %Y", date).unwrap();
    let program = format!(" drcm_server[{}] ", process::id());
    let fields = r#"heard node=cmnode1 missed=3 error="No such file or directory (os error 2)" list=[1, 2]"#;
    assert_eq!(rest, format!("{program}INFO: {fields}"));
    assert_eq!(shown, format!("<3>ERROR: broken\n<4>WARNING: odd\n<6>INFO: {fields}\n"));
}

#[test]
fn each_level_shows_what_the_table_says() {
    let words = |level: u8, overrides: Overrides| {
        let directory = Directory::new();
        let shown = logged(&directory, &LogSettings { level, ..settings() }, &overrides, |_| each_level());
        (directory.read("drcm.log").lines().count(), shown.lines().count())
    };
    for (level, lines) in [(0, 1), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (9, 7)] {
        assert_eq!(words(level, Overrides::default()), (lines, lines), "level {level}");
    }
    assert_eq!(words(1, Overrides { debug: Some(1), ..Overrides::default() }), (5, 5));
    assert_eq!(words(1, Overrides { verbose: Some(5), ..Overrides::default() }), (3, 7));
    assert_eq!(words(5, Overrides { level: Some(0), ..Overrides::default() }), (1, 1));
    assert_eq!(words(1, Overrides { disable: true, ..Overrides::default() }), (0, 3));
}

#[test]
fn a_reload_changes_the_levels() {
    let directory = Directory::new();
    logged(&directory, &settings(), &Overrides::default(), |guard| {
        debug!("before");
        guard.reload(&LogSettings { level: 3, ..settings() });
        debug!("after");
    });
    let text = directory.read("drcm.log");
    assert!(text.contains("after") && !text.contains("before"), "{text}");
}

#[test]
fn the_log_is_rotated_at_its_size_and_so_many_are_kept() {
    let directory = Directory::new();
    fs::write(directory.0.join("drcm.log.3"), "of a time when more were kept").unwrap();
    let settings = LogSettings { max_size: 4096, keep: 2, ..settings() };
    logged(&directory, &settings, &Overrides::default(), |guard| {
        for number in 0..100 {
            info!(number, "{}", "x".repeat(200));
            if number % 10 == 0 {
                guard.flush();
            }
        }
    });
    let mut names: Vec<_> = fs::read_dir(&directory.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["drcm.log", "drcm.log.1", "drcm.log.2"]);
    assert!(names.iter().all(|name| fs::metadata(directory.0.join(name)).unwrap().len() <= 4096));
    let all: Vec<String> =
        ["drcm.log.2", "drcm.log.1", "drcm.log"].map(|name| directory.read(name)).concat().lines().map(Into::into).collect();
    for (line, number) in all.iter().rev().zip((0..100).rev()) {
        assert!(line.ends_with(&format!("number={number}")), "{line}");
    }
}

#[test]
fn without_logs_to_keep_the_log_is_emptied_and_clear_begins_anew() {
    let directory = Directory::new();
    fs::write(directory.0.join("drcm.log"), "old\n").unwrap();
    logged(&directory, &settings(), &Overrides::default(), |_| info!("new"));
    assert!(directory.read("drcm.log").starts_with("old\n"));
    logged(&directory, &LogSettings { max_size: 4096, keep: 0, ..settings() }, &Overrides { clear: true, ..Overrides::default() }, |_| {
        for _ in 0..100 {
            info!("{}", "x".repeat(200));
        }
    });
    let text = directory.read("drcm.log");
    assert!(text.len() <= 4096 && !text.contains("old"));
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
}

#[test]
fn a_file_may_be_chosen_by_path_or_by_name() {
    let directory = Directory::new();
    for (file, place) in [("other.log".into(), "other.log"), (directory.0.join("deep/other.log"), "deep/other.log")] {
        logged(&directory, &settings(), &Overrides { file: Some(file), ..Overrides::default() }, |_| info!("here"));
        assert!(directory.read(place).contains("here"), "{place}");
    }
    let nameless = Overrides { file: Some("/".into()), ..Overrides::default() };
    let result = build(&settings(), "drcm_server", &directory.0, &nameless, Box::new(Shown::default()), Form::Journal);
    assert!(matches!(result, Err(LogError::NoName { .. })));
}

#[test]
fn a_file_that_was_moved_away_is_made_again() {
    let directory = Directory::new();
    logged(&directory, &settings(), &Overrides::default(), |guard| {
        info!("first");
        guard.flush();
        fs::rename(directory.0.join("drcm.log"), directory.0.join("moved")).unwrap();
        std::thread::sleep(Duration::from_millis(1100));
        info!("second");
    });
    assert!(directory.read("moved").contains("first"));
    assert!(directory.read("drcm.log").contains("second"));
}

#[test]
fn nobody_can_forge_a_line() {
    let directory = Directory::new();
    logged(&directory, &settings(), &Overrides::default(), |_| {
        info!(name = "a\nSun Nov 22 23:01:21 2026 drcm_server[1] ERROR: forged", "b\r\u{1b}[2J");
        info!("{}", "ä".repeat(100_000));
    });
    let text = directory.read("drcm.log");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().next().unwrap().contains(r"b\r\u{1b}[2J name="), "{text}");
    assert!(text.ends_with("[cut]\n") && text.len() < 5000);
}

#[test]
fn a_full_disk_costs_lines_and_says_so_on_stderr() {
    let directory = Directory::new();
    std::os::unix::fs::symlink("/dev/full", directory.0.join("drcm.log")).unwrap();
    let shown = logged(&directory, &settings(), &Overrides::default(), |_| {
        for number in 0..100 {
            info!(number, "line");
        }
    });
    assert_eq!(shown.lines().filter(|line| line.contains("INFO: line")).count(), 100);
    let complaints: Vec<&str> = shown.lines().filter(|line| line.contains("cannot write the log")).collect();
    assert!(matches!(complaints[..], [one] if one.contains("No space left")), "{complaints:?}");
}

#[test]
fn a_directory_that_cannot_be_is_no_reason_to_stop() {
    let directory = Directory::new();
    fs::write(directory.0.join("file"), "").unwrap();
    let overrides = Overrides { file: Some(directory.0.join("file/drcm.log")), ..Overrides::default() };
    let shown = logged(&directory, &settings(), &overrides, |_| info!("line"));
    assert!(shown.contains("INFO: line") && shown.contains("cannot write the log"), "{shown}");
}

#[test]
fn a_hanging_disk_never_delays_and_the_lost_lines_are_counted_later() {
    let directory = Directory::new();
    let path = directory.0.join("drcm.log");
    // Opening it hangs until somebody reads, like a file on a dead server.
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let settings = LogSettings { queue: 100, ..settings() };
    let mut reader = None;
    logged(&directory, &settings, &Overrides::default(), |guard| {
        let began = Instant::now();
        for number in 0..1000 {
            info!(number, "line");
        }
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        reader = Some(std::thread::spawn(move || fs::read_to_string(path).unwrap()));
        guard.flush();
        // The writer holds the fifo open; the reader is done when it is moved away and another line comes.
        fs::remove_file(directory.0.join("drcm.log")).unwrap();
        std::thread::sleep(Duration::from_millis(1100));
        info!("last");
    });
    let text = reader.unwrap().join().unwrap();
    let lines = text.lines().filter(|line| line.contains("INFO: line")).count();
    assert!((100..=102).contains(&lines), "{lines}");
    let missing =
        text.lines().filter_map(|line| line.split_once("WARNING: ")?.1.split_once(" log lines are missing")?.0.parse::<usize>().ok());
    assert_eq!(lines + missing.sum::<usize>(), 1000, "{text}");
    assert!(directory.read("drcm.log").contains("last"));
}

#[test]
fn the_process_can_start_its_log_once() {
    let directory = Directory::new();
    let guard = start(&settings(), "drcm_server", &directory.0, &Overrides::default()).unwrap();
    assert!(matches!(start(&settings(), "drcm_server", &directory.0, &Overrides::default()), Err(LogError::AlreadyStarted)));
    info!("to the global log");
    drop(guard);
    assert!(directory.read("drcm.log").contains("to the global log"));
}
