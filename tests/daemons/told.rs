//! What people are told when a node dies: by real daemons, to real programs, a real mail server and an HTTP server.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Instant,
};

use drcm::lab::{Lab, Plan};
use serde_json::Value;

use super::{Cluster, LONG, ms, seconds};

const PEOPLE: &str = env!("CARGO_BIN_EXE_drcm");

/// A process of a test on a node, ended with it.
struct Helper(Child);

impl Helper {
    fn start(lab: &Lab, node: usize, program: &str, words: &[&str]) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
        Self(lab.node(node).namespace().run(move || command.spawn()).unwrap().unwrap())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A mail server on a node, and the mails that it took.
struct MailServer {
    _server: Helper,
    mails: PathBuf,
}

impl MailServer {
    fn start(lab: &mut Lab, node: usize) -> Self {
        let inside = lab.directory().join("tmp/mails").display().to_string();
        let words = ["-n", "-l", "127.0.0.1:2525", "-c", "aiosmtpd.handlers.Mailbox", &inside];
        let server = Helper::start(lab, node, "aiosmtpd", &words);
        let mails = lab.node(node).home().join("tmp/mails/new");
        lab.wait("the mail server (package python3-aiosmtpd)", LONG, |_| mails.is_dir()).unwrap();
        Self { _server: server, mails }
    }

    fn mails(&self) -> Vec<String> {
        fs::read_dir(&self.mails).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }
}

/// What an HTTP server on a node was asked: it answers the first with 503, and all others with 204.
fn http_server(lab: &Lab, node: usize) -> Receiver<(String, Value)> {
    let listener = lab.node(node).namespace().run(|| TcpListener::bind("127.0.0.1:8080")).unwrap().unwrap();
    let (tell, asked) = sync_channel(256);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let status = if number == 0 { "503 Service Unavailable" } else { "204 No Content" };
            if tell.send(answer(stream.unwrap(), status)).is_err() {
                return;
            }
        }
    });
    asked
}

fn answer(mut stream: TcpStream, status: &str) -> (String, Value) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(count) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = count.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The events that the hook on a node was told of.
fn hooked(lab: &Lab, node: usize) -> Vec<Value> {
    let text = fs::read_to_string(lab.node(node).home().join("tmp/hooked")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn drcm(lab: &Lab, node: usize, words: &str) -> String {
    let mut command = Command::new(PEOPLE);
    command.arg(format!("--config-file={}", lab.node(node).config().display())).args(words.split(' '));
    let said = lab.node(node).command(command).unwrap();
    assert_eq!(said.code, Some(0), "{words}: {}{}", said.stdout, said.stderr);
    said.stdout
}

#[test]
fn a_failover_is_told_by_every_way_and_one_that_hangs_delays_nothing() {
    let mut plan = Plan { failback_delay: seconds(1), ..Plan::of(3) };
    // Addresses have the sign that stands for the directory here.
    plan.server = "hooks_dir = @/hooks\nalert_command = @/alert\nalert_timeout = 4\nalert_email = root\nalert_lists = @/lists.sh\n\
                   smtp_server = 127.0.0.1:2525\nwebhook_url = http://127.0.0.1:8080/told\nwebhook_token = webhook\n"
        .into();
    let mut cluster = Cluster::idle(plan);
    let here = cluster.lab.directory().to_owned();
    program(&here.join("hooks/all"), &format!("cat >> {}/tmp/hooked", here.display()));
    program(
        &here.join("hooks/numbers"),
        &format!("[ $DRCM_EVENT = failover ] && echo $DRCM_FROM $DRCM_TO $DRCM_DETECTED_MS >> {}/tmp/numbers", here.display()),
    );
    program(
        &here.join("alert"),
        &format!("echo $DRCM_EVENT >> {0}/tmp/alerted; sleep 600 & echo $! >> {0}/tmp/sleeping; wait", here.display()),
    );
    fs::write(here.join("lists.sh"), "export EMAILlist=\"root,second@example.com\"\nexport TEXTlist=\"555@example.com\"\n").unwrap();
    fs::write(here.join("auth/webhook"), "a-token\n").unwrap();
    fs::set_permissions(here.join("auth/webhook"), fs::Permissions::from_mode(0o600)).unwrap();
    let server = MailServer::start(&mut cluster.lab, 1);
    let asked = http_server(&cluster.lab, 1);
    cluster.lab.start_all().unwrap();
    cluster.wait_owner(0);
    cluster.wait_status(1, "a healthy cluster", |text| text.lines().last() == Some("Cluster status: HEALTHY"));
    // Nobody is alerted of a start.
    assert!(server.mails().is_empty() && asked.try_recv().is_err());

    let outage = cluster.outage(1, |lab| lab.switch().cut(drcm::lab::Port::Node(0)).unwrap());
    assert!(outage > ms(1200) && outage < ms(2300), "{outage:?}");
    let is_failover = |event: &Value| event["event"] == "failover";
    cluster.lab.wait("the hook", LONG, |lab| hooked(lab, 1).iter().any(is_failover)).unwrap();
    let event = hooked(&cluster.lab, 1).into_iter().find(is_failover).unwrap();
    assert_eq!((&event["schema"], &event["node"], &event["about"]), (&"drcm.event/1".into(), &"node2".into(), &"node1".into()));
    assert_eq!((&event["group"], &event["severity"], &event["tells"]), (&"node1:service".into(), &"warning".into(), &true.into()));
    let timeline = &event["timeline"];
    assert_eq!((&timeline["from"], &timeline["to"], &timeline["cause"]), (&"node1".into(), &"node2".into(), &"silence".into()));
    let span = |name: &str| timeline[name].as_u64().unwrap_or_else(|| panic!("{name}: {event}"));
    let (detected, lease, running, announced) = (span("detected_ms"), span("lease_ms"), span("running_ms"), span("announced_ms"));
    assert!((1400..2000).contains(&detected), "{event}");
    assert!(detected <= lease && lease <= announced && announced <= running, "{event}");
    // The client waited for no longer than from the last sign of life until it ran, but for its own pace.
    let told = ms(running);
    assert!(told + ms(150) > outage && told < outage + ms(200), "{outage:?}: {event}");
    assert_eq!(fs::read_to_string(cluster.lab.node(1).home().join("tmp/numbers")).unwrap(), format!("node1 node2 {detected}\n"));
    assert!(!hooked(&cluster.lab, 2).iter().any(is_failover), "the others see only that the node is down");
    let down = |event: &Value| event["event"] == "node_down" && event["about"] == "node1";
    let tells = |lab: &Lab, node: usize| hooked(lab, node).iter().find(|event| down(event)).map(|event| event["tells"] == true);
    cluster.lab.wait("the hook on the third", LONG, |lab| tells(lab, 2).is_some()).unwrap();
    assert_eq!((tells(&cluster.lab, 1), tells(&cluster.lab, 2)), (Some(true), Some(false)));

    // The webhook: refused once, and then every event in its order.
    let mut posts = Vec::new();
    while !posts.iter().any(|(_, event): &(String, Value)| is_failover(event)) {
        posts.push(asked.recv_timeout(LONG).unwrap());
    }
    assert_eq!(posts[0].1["number"], posts[1].1["number"], "tried again");
    for (head, _) in &posts {
        assert!(head.starts_with("POST /told HTTP/1.1") && head.contains("Bearer a-token"), "{head}");
    }
    assert!(posts.iter().all(|(_, event)| event["severity"] != "info"), "{posts:?}");

    // One mail for each receiver, with all of it.
    cluster.lab.wait("the mails", LONG, |_| server.mails().len() >= 3).unwrap();
    let mails = server.mails();
    let to = |receiver: &str| {
        mails.iter().find(|mail| mail.contains(&format!("X-RcptTo: {receiver}"))).unwrap_or_else(|| panic!("{receiver}: {mails:?}"))
    };
    for receiver in ["root@localhost", "second@example.com"] {
        let mail = to(receiver).replace("=\n", "");
        assert!(mail.contains("Subject: [!ACTION!] Cluster alert, node2: ") && mail.contains("drcm@node2.lab"), "{mail}");
        assert!(mail.contains("node node1 is down") && mail.contains("group node1:service moved from node1 to node2"), "{mail}");
        assert!(mail.contains(&format!("running after {running} ms")), "{mail}");
    }
    let text = to("555@example.com");
    assert!(text.split("\n\n").nth(1).unwrap().trim().len() <= 160 && text.contains("node2: "), "{text}");
    let spool = cluster.lab.node(1).home().join("spool");
    // As send_alert keeps them; once the last mail is out.
    let kept = |_: &Lab| spool.join("alert_last_sent").exists() && spool.join("alert_init").exists();
    cluster.lab.wait("what is kept of the mails", LONG, kept).unwrap();

    // The command hangs, and is ended with its child; the next event has its turn.
    let alerted = || fs::read_to_string(cluster.lab.node(1).home().join("tmp/alerted")).unwrap_or_default();
    let begun = Instant::now();
    while alerted().lines().count() < 2 {
        assert!(begun.elapsed() < LONG, "{}", alerted());
        thread::sleep(ms(50));
    }
    let sleeping = fs::read_to_string(cluster.lab.node(1).home().join("tmp/sleeping")).unwrap();
    // Ended, whether or not its new parent has looked at it yet.
    let state = fs::read_to_string(format!("/proc/{}/stat", sleeping.lines().next().unwrap())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "its child lives on: {state}");
    let said = drcm(&cluster.lab, 1, "events");
    assert!(said.contains("alert was not done after 4 s (alert_timeout) and was ended"), "{said}");

    // Any node tells what happened on all that answer.
    let said = drcm(&cluster.lab, 2, "events --group service");
    assert!(said.contains(&format!("running after {running} ms")) && said.contains("silence detected after"), "{said}");
    let json: Value = serde_json::from_str(&drcm(&cluster.lab, 2, "events --json --severity warning --since 1h")).unwrap();
    assert!(json["events"].as_array().unwrap().contains(&event), "{json}");
    assert_eq!(json["nodes"][0]["answered"], false, "{json}");

    // Whoever follows sees what comes; and within four hours there is no second mail.
    let config = format!("--config-file={}", cluster.lab.node(2).config().display());
    let mut follow = Helper::start(&cluster.lab, 2, PEOPLE, &[&config, "events", "--follow", "-c", "1"]);
    let mut lines = BufReader::new(follow.0.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    cluster.join(0);
    cluster.wait_owner(0);
    let back = lines.map(Result::unwrap).find(|line| line.contains("moved from node2 to node1")).unwrap();
    assert!(back.contains("INFO") && back.contains("counted from when it was down there"), "{first}\n{back}");
    cluster.outage(1, |lab| lab.switch().cut(drcm::lab::Port::Node(0)).unwrap());
    cluster.lab.wait("the second failover", LONG, |lab| hooked(lab, 1).iter().filter(|event| is_failover(event)).count() == 2).unwrap();
    cluster.lab.pass(seconds(6)).unwrap();
    assert_eq!(server.mails().len(), 3);
    cluster.assert_never_two();
}

#[test]
fn a_reload_changes_who_is_told_and_the_journal_goes_on() {
    let mut plan = Plan::of(2);
    plan.server = "hooks_dir = @/none\n".into();
    let mut cluster = Cluster::running(plan);
    let here = cluster.lab.directory().to_owned();
    program(&here.join("hooks/all"), &format!("cat >> {}/tmp/hooked", here.display()));
    cluster.lab.pass(seconds(2)).unwrap();
    let count = |lab: &Lab| fs::read_to_string(lab.node(1).home().join("log/events.jsonl")).unwrap_or_default().lines().count();
    let before = count(&cluster.lab);
    assert!(before > 1 && hooked(&cluster.lab, 1).is_empty());
    let file = cluster.lab.node(1).config().to_owned();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("/none\n", "/hooks\n")).unwrap();
    let said = drcm(&cluster.lab, 1, "reload");
    assert!(said.contains("in force from now on"), "{said}");
    let started = |event: &Value| event["event"] == "started";
    cluster.lab.wait("the hook", LONG, |lab| hooked(lab, 1).iter().any(started)).unwrap();
    let number = hooked(&cluster.lab, 1).iter().find(|event| started(event)).unwrap()["number"].as_u64().unwrap();
    assert!(number > before as u64, "{number} after {before}");
    let said = drcm(&cluster.lab, 1, "events --node node2");
    assert!(said.contains("reload: the configuration is another one") && said.matches("runs as node2").count() == 2, "{said}");
    assert_eq!(said.matches("node1:service: running").count(), 0, "what was taken over is no event: {said}");

    // A hook that others may write is refused, with a word.
    fs::set_permissions(here.join("hooks/all"), fs::Permissions::from_mode(0o757)).unwrap();
    drcm(&cluster.lab, 1, "maintenance on");
    cluster
        .lab
        .wait("the refusal", LONG, |lab| {
            drcm(lab, 1, "events --node node2").contains("all is not run: it may be written by others; chmod go-w")
        })
        .unwrap();
    assert!(!hooked(&cluster.lab, 1).iter().any(|event| event["event"] == "order"));
    cluster.assert_never_two();
}
