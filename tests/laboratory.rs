//! The laboratory itself, without daemons: its instruments must see what is there, and its faults must be real.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use drcm::{
    config,
    lab::{Lab, Mark, Plan, Port},
    model::Driver,
};

const MOMENT: Duration = Duration::from_millis(150);

fn laboratory(nodes: usize) -> Lab {
    Lab::new(Plan::of(nodes), Path::new("/nonexistent")).unwrap()
}

fn give(lab: &Lab, node: usize) {
    lab.node(node).namespace().ip(&format!("address add {}/24 dev eth0\n", Plan::served())).unwrap();
}

fn take(lab: &Lab, node: usize) {
    lab.node(node).namespace().ip(&format!("address del {}/24 dev eth0\n", Plan::served())).unwrap();
}

#[test]
fn the_instruments_see_where_the_address_is_and_how_long_it_was_gone() {
    let mut lab = laboratory(2);
    let (probe, sampler) = (lab.probe().unwrap(), lab.sampler().unwrap());
    assert_eq!(sampler.owner(), None);
    give(&lab, 0);
    lab.wait("the first answer", Duration::from_secs(5), |_| probe.answering() == Some(0)).unwrap();
    assert_eq!(sampler.owner(), Some(0));

    let mark = Mark::now();
    thread::sleep(MOMENT);
    let (asked, answered) = probe.counts(mark);
    assert!(asked > 75 && answered + 5 > asked, "{answered} of {asked} answered");
    assert_eq!(probe.answered_since(mark), [0]);

    take(&lab, 0);
    thread::sleep(MOMENT);
    give(&lab, 0);
    lab.wait("an answer again", Duration::from_secs(5), |_| {
        probe.longest_outage(mark) > MOMENT && probe.longest_outage(Mark::now()).is_zero()
    })
    .unwrap();
    let outage = probe.longest_outage(mark);
    assert!(outage >= MOMENT && outage < MOMENT + Duration::from_millis(500), "{outage:?}");
    assert!(sampler.doubles().is_empty());
    assert_eq!(sampler.failure(), None);
}

#[test]
fn the_sampler_sees_two_owners() {
    let mut lab = laboratory(3);
    let sampler = lab.sampler().unwrap();
    give(&lab, 1);
    give(&lab, 2);
    lab.wait("a look", Duration::from_secs(5), |_| !sampler.doubles().is_empty()).unwrap();
    assert_eq!(sampler.doubles()[0].owners, [1, 2]);
    assert_eq!(sampler.owner(), None);
}

#[test]
fn a_cut_node_keeps_its_carrier_and_an_unplugged_one_does_not() {
    let mut lab = laboratory(1);
    let carrier = |lab: &Lab| {
        let mut ip = Command::new("ip");
        ip.args(["-oneline", "link", "show", "dev", "eth0"]);
        let said = lab.node(0).command(ip).unwrap();
        !said.stdout.contains("NO-CARRIER") && said.stdout.contains("LOWER_UP")
    };
    lab.switch().cut(Port::Node(0)).unwrap();
    assert!(carrier(&lab));
    lab.switch().unplug(Port::Node(0)).unwrap();
    assert!(!carrier(&lab));
    lab.switch().plug(Port::Node(0)).unwrap();
    assert!(carrier(&lab));
}

#[test]
fn faults_are_one_way_where_asked_and_healed_when_told() {
    let mut lab = laboratory(3);
    let probe = lab.probe().unwrap();
    give(&lab, 0);
    lab.wait("the first answer", Duration::from_secs(5), |_| probe.answering() == Some(0)).unwrap();

    let silent = |lab: &mut Lab, what: &str| {
        thread::sleep(Duration::from_millis(30));
        let mark = Mark::now();
        thread::sleep(MOMENT);
        let answered = probe.counts(mark).1;
        assert_eq!(answered, 0, "{what}: {answered} answers came through");
        lab.switch().heal().unwrap();
        lab.switch().join(Port::Node(0)).unwrap();
        lab.wait("an answer again", Duration::from_secs(5), |_| probe.counts(mark).1 > 0).unwrap();
    };
    lab.switch().block(Port::Node(0), Port::Client).unwrap();
    silent(&mut lab, "answers blocked");
    lab.switch().block(Port::Client, Port::Node(0)).unwrap();
    silent(&mut lab, "questions blocked");
    lab.switch().cut(Port::Node(0)).unwrap();
    silent(&mut lab, "port cut");

    lab.switch().part(Port::Node(1), Port::Client).unwrap();
    let mark = Mark::now();
    thread::sleep(MOMENT);
    let (asked, answered) = probe.counts(mark);
    assert!(answered + 5 > asked, "another node's fault cost answers: {answered} of {asked}");

    lab.switch().lose(Port::Client, Port::Node(0), 500).unwrap();
    let mark = Mark::now();
    thread::sleep(Duration::from_millis(400));
    let (asked, answered) = probe.counts(mark);
    assert!(answered > asked / 4 && answered < asked * 3 / 4, "half should be lost: {answered} of {asked} answered");
}

#[test]
fn nodes_have_their_own_host_name_and_directories_and_nothing_is_left_of_them() {
    let lab = laboratory(2);
    let directory = lab.directory().to_owned();
    let say = |node: usize, script: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &script.replace('@', &directory.display().to_string())]);
        let said = lab.node(node).command(shell).unwrap();
        assert_eq!(said.code, Some(0), "{script}: {}", said.stderr);
        said.stdout.trim().to_owned()
    };
    assert_eq!(say(0, "uname -n"), "node1.lab");
    assert_eq!(say(1, "uname -n"), "node2.lab");
    say(0, "echo one > @/log/x; echo one > @/run/x; echo one > @/spool/x");
    assert_eq!(say(1, "ls @/log @/run @/spool | grep -c x || true"), "0");
    assert_eq!(fs::read_to_string(lab.node(0).home().join("log/x")).unwrap(), "one\n");
    assert_eq!(say(0, "stat -c %a @/auth/authkey @/auth/authkey.sha1"), "600\n600");
    assert_eq!(say(0, "sha1sum @/auth/authkey | cut -b1-40 | diff - @/auth/authkey.sha1 && echo same"), "same");

    let stray = say(1, "sleep 1000 >/dev/null 2>&1 & echo $!");
    assert!(Path::new(&format!("/proc/{stray}")).exists());
    drop(lab);
    assert!(!directory.exists());
    assert!(!Path::new(&format!("/proc/{stray}/ns/net")).exists() || fs::read_link(format!("/proc/{stray}/ns/net")).is_err());
}

#[test]
fn the_cluster_that_a_plan_describes_is_the_one_that_is_read() {
    let lab = laboratory(3);
    let loaded = config::load(&lab.directory().join("cm.cfg")).unwrap_or_else(|report| panic!("{}", config::render(&report.findings)));
    let cfg = loaded.config;
    assert_eq!(cfg.lease(), lab.plan().lease());
    assert_eq!(cfg.nodes.len(), 3);
    assert_eq!(cfg.groups.len(), 1);
    assert_eq!(cfg.groups[0].candidates, cfg.nodes.iter().map(|node| node.id).collect::<Vec<_>>());
    assert_eq!(cfg.resources[0].driver, Driver::Native);
    config::load_auth(&cfg.server.auth_dir).unwrap();
}

#[test]
fn a_test_that_failed_without_its_processors_runs_again_and_is_named_but_never_one_that_saw_two_owners() {
    let directory = std::env::temp_dir().join(format!("drcm-steadily-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    // Fails as often as it is told, and counts.
    let program = "echo >> $COUNT; echo spoken; echo \"thread panicked at $WORDS\" >&2; test $(wc -l < $COUNT) -gt $FAILURES";
    let run = |what: &str, excuse: &str, failures: &str, words: &str| {
        let count = directory.join(what);
        let output = Command::new("scripts/steadily")
            .args(["sh", "-c", program, "the_test"])
            .envs([("COUNT", count.to_str().unwrap()), ("FAILURES", failures), ("WORDS", words)])
            .envs([("CARGO_TARGET_DIR", directory.to_str().unwrap()), ("DRCM_STEAL_EXCUSE", excuse), ("DRCM_STEAL_PATIENCE", "1")])
            .output()
            .unwrap();
        let report = Command::new("scripts/steadily").arg("--report").env("CARGO_TARGET_DIR", &directory).output().unwrap();
        let runs = fs::read_to_string(&count).unwrap().lines().count();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.matches("spoken").count(), runs, "{said}");
        (output.status.code(), runs, String::from_utf8(report.stdout).unwrap())
    };
    let (never, always) = ("1000000000", "0");
    assert_eq!(run("passes", always, "0", "nothing"), (Some(0), 1, String::new()));
    assert_eq!(run("calm", never, "1", "nothing"), (Some(1), 1, String::new()));
    assert_eq!(run("law", always, "1", "the address was on two nodes"), (Some(1), 1, String::new()));
    let (code, runs, report) = run("again", always, "2", "main.rs:1");
    assert_eq!((code, runs, report.matches("the_test: ").count()), (Some(0), 3, 2), "{report}");
    assert!(report.contains("panicked at main.rs:1"), "{report}");
    let (code, runs, report) = run("given up", always, "9", "nothing");
    assert_eq!((code, runs, report.matches("the_test: ").count()), (Some(1), 4, 3), "{report}");
    fs::remove_dir_all(directory).unwrap();
}
