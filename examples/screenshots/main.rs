//! Pictures of a real cluster after a failover, as an operator sees it: `drcm watch` in a terminal, the status page in a
//! browser and on a phone. `scripts/screenshots` installs what it takes and runs this.
//!
//!     cargo run --example screenshots -- DIRECTORY

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use drcm::lab::{Lab, Plan, Port};

type Failure = Box<dyn std::error::Error>;

/// Longest for the cluster to be as it should.
const LONG: Duration = Duration::from_secs(30);
/// Where the page is, on the node that is looked at.
const PAGE: &str = "http://127.0.0.1:9186/";
/// A terminal of usual size.
const TERMINAL: (u32, u32) = (100, 30);

fn main() -> ExitCode {
    let Some(directory) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("screenshots: give the directory for the pictures");
        return ExitCode::from(2);
    };
    match take(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("screenshots: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Three nodes with some of everything that a laboratory can run.
fn plan() -> Plan {
    let mut plan = Plan::of(3);
    plan.server = "status_listen = 127.0.0.1:9186\n".into();
    let feed = "nohup sleep 86400 >/dev/null 2>&1 & echo $! > @/tmp/feed.pid, kill $(cat @/tmp/feed.pid); rm @/tmp/feed.pid";
    plan.sections = format!(
        "mail, 10.77.0.101, 24, eth0\nfiles, 10.77.0.102, 24, eth0\n\
         [CM_CRONTABS]\nbackups, @/backups, @/cron\n\
         [CM_APPLICATIONS]\nfeed, root:root, {feed}\n"
    );
    plan.own_lists = true;
    let lists = [
        "node_floating_ip_addrs = service\nnode_crontabs = backups\nnode_backup_floating_ip_addrs = node2:mail, node3:files\n\
         node_backup_applications = node2:feed\n",
        "node_floating_ip_addrs = mail\nnode_applications = feed\nnode_backup_floating_ip_addrs = node1:service, node3:files\n\
         node_backup_crontabs = node1:backups\n",
        "node_floating_ip_addrs = files\nnode_backup_floating_ip_addrs = node1:service, node2:mail\n\
         node_backup_crontabs = node1:backups\nnode_backup_applications = node2:feed\n",
    ];
    for (node, lines) in plan.nodes.iter_mut().zip(lists) {
        node.lines = lines.into();
    }
    plan
}

fn take(directory: &Path) -> Result<(), Failure> {
    let programs = env::current_exe()?.parent().and_then(Path::parent).ok_or("where are the programs?")?.to_owned();
    let (server, people) = (programs.join("drcm_server"), programs.join("drcm"));
    if !server.is_file() || !people.is_file() {
        return Err(format!("{} and drcm are built first: cargo build", server.display()).into());
    }
    let mut lab = Lab::new(plan(), &server)?;
    fs::write(lab.directory().join("backups"), "0 3 * * * root true\n")?;
    lab.start_all()?;
    let healthy = |lab: &Lab| cm_stat(lab).contains("Cluster status: HEALTHY");
    lab.wait("a healthy cluster", LONG, healthy)?;
    lab.switch().cut(Port::Node(0))?;
    lab.wait("the failover", LONG, |lab| cm_stat(lab).contains("Cluster status: DEGRADED"))?;
    fs::create_dir_all(directory)?;
    let directory = directory.canonicalize()?;
    terminal(&lab, &people, &directory.join("watch.png"))?;
    page(&lab, (1100, 950), &directory.join("page.png"))?;
    page(&lab, (500, 1000), &directory.join("phone.png"))?;
    Ok(())
}

/// What the second node says.
fn cm_stat(lab: &Lab) -> String {
    lab.node(1).client(&["--command=cm_stat"]).map(|said| said.stdout).unwrap_or_default()
}

/// Runs a command on the second node.
fn on_node(lab: &Lab, program: &str, words: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new(program);
    command.args(words).env("HOME", lab.directory().join("tmp"));
    let said = lab.node(1).command(command)?;
    if said.code == Some(0) { Ok(said.stdout) } else { Err(format!("{program} failed: {}{}", said.stdout, said.stderr).into()) }
}

/// The live view, in a terminal of tmux, made a page by aha.
fn terminal(lab: &Lab, people: &Path, picture: &Path) -> Result<(), Failure> {
    let socket = lab.directory().join("tmp/tmux").display().to_string();
    let watch = format!("exec {} --config-file={} watch", people.display(), lab.node(1).config().display());
    let (columns, rows) = (TERMINAL.0.to_string(), TERMINAL.1.to_string());
    let begin = ["-S", &socket, "-f", "/dev/null", "new-session", "-d", "-s", "watch", "-x", &columns, "-y", &rows, &watch];
    on_node(lab, "tmux", &begin)?;
    // It shows what it finds, and then what has changed.
    thread::sleep(Duration::from_secs(4));
    let shown = on_node(lab, "tmux", &["-S", &socket, "capture-pane", "-e", "-p", "-t", "watch"]);
    on_node(lab, "tmux", &["-S", &socket, "kill-server"])?;
    // The node has a directory of its own in the place of tmp.
    let (inside, outside) = (lab.directory().join("tmp"), lab.node(1).home().join("tmp"));
    // Of colours that change places aha makes nothing that can be read: the chosen line gets a background instead.
    let shown = shown?.replace("\u{1b}[7m", "\u{1b}[48;5;238m").replace("\u{1b}[27m", "\u{1b}[49m");
    fs::write(outside.join("watch.txt"), shown)?;
    let body = on_node(lab, "aha", &["--stylesheet", "--no-header", "-f", &inside.join("watch.txt").display().to_string()])?;
    let style = "body { background: #101418; color: #d8dee6; margin: 12px; }
        pre { font: 15px/1.25 'DejaVu Sans Mono', monospace; margin: 0; } .bold { font-weight: bold; } .dimgray { color: #8a949e; }
        .red { color: #ff6b66; } .green { color: #56d364; } .yellow { color: #e3b341; } .cyan { color: #56d4dd; } .blue { color: #79b8ff; }";
    fs::write(outside.join("watch.html"), format!("<!doctype html><meta charset=utf-8><style>{style}</style><pre>{body}</pre>"))?;
    let url = format!("file://{}/watch.html", inside.display());
    shoot(lab, &url, (930, 600), picture)
}

fn page(lab: &Lab, size: (u32, u32), picture: &Path) -> Result<(), Failure> {
    shoot(lab, PAGE, size, picture)
}

fn shoot(lab: &Lab, url: &str, (width, height): (u32, u32), picture: &Path) -> Result<(), Failure> {
    let profile = format!("--user-data-dir={}", lab.directory().join("tmp/browser").display());
    let (size, file) = (format!("--window-size={width},{height}"), format!("--screenshot={}", picture.display()));
    // As root, in a namespace without a display. The page needs a moment for its first answers.
    let words =
        ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--virtual-time-budget=5000"];
    let words: Vec<&str> = words.into_iter().chain([profile.as_str(), size.as_str(), file.as_str(), url]).collect();
    on_node(lab, "chromium", &words)?;
    if picture.is_file() { Ok(()) } else { Err(format!("chromium made no {}", picture.display()).into()) }
}
