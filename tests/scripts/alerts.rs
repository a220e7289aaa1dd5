//! send_alert.sh: whom it tells, how often, and what it refuses to hand to a mail program. The program that takes the mails is
//! given through UNIXMAILPROGRAM, as documented.

use std::process::Stdio;

use super::workspace::Workspace;

/// Notes receivers and subject in a line and the body below it, as one write.
const SINK: &str = "#!/bin/bash\nbody=$(cat)\nprintf '%s\\n%s\\n' \"MAIL $*\" \"$body\" >>\"$HOME/mails\"\n";

fn prepared(name: &str) -> Workspace {
    let workspace = Workspace::new(name);
    workspace.program("sink", SINK);
    workspace
}

const SEND: &str = "export UNIXMAILPROGRAM=$HOME/sink; . \"$utils/send_alert.sh\"; send_alert";

fn mails(workspace: &Workspace) -> usize {
    workspace.read("mails").lines().filter(|line| line.starts_with("MAIL ")).count()
}

#[test]
fn the_list_is_written_and_its_receivers_are_told_once_in_four_hours() {
    let workspace = prepared("throttle");
    let said = workspace.run(&format!("{SEND} 'a subject' 'a body'"));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(workspace.read("mails"), "MAIL -s a subject root\na body\n");
    let list = workspace.read("conf/cm_alert_list.sh");
    assert!(list.contains("export EMAILlist=\"root\"") && list.contains("export TEXTlist=\"\""), "{list}");
    workspace.write("conf/cm_alert_list.sh", "export EMAILlist=\"root,name@example.com\"\nexport TEXTlist=\"555-555-5555@example.com\"\n");
    let said = workspace.run(&format!("{SEND} 'a subject' 'a body'"));
    assert!(said.code == Some(0) && said.text.contains("there is one every 4 hours"), "{said:?}");
    assert_eq!(mails(&workspace), 1);
    // Four hours later; with another span; without INITFILE.
    let age = "echo $(( $(date +%s) - 4 * 3600 - 1 )) >var/alert_last_sent; ";
    workspace.run(&format!("{age}{SEND} s b"));
    assert_eq!(mails(&workspace), 3, "a mail and a text");
    assert!(workspace.read("mails").contains("MAIL -s s root name@example.com\n"));
    workspace.run(&format!("export ALERTTIMESPANHOURS=0; {SEND} s b"));
    assert_eq!(mails(&workspace), 5);
    workspace.run(&format!("{SEND} s b"));
    assert_eq!(mails(&workspace), 5);
    workspace.run(&format!("rm var/alert_init; {SEND} s b"));
    assert_eq!(mails(&workspace), 7);
    // A clock that was wrong silences nothing for ever, nor does a span that is none.
    workspace.run(&format!("echo 99999999999 >var/alert_last_sent; {SEND} s b"));
    assert_eq!(mails(&workspace), 9);
    let said = workspace.run(&format!("export ALERTTIMESPANHOURS=often; {SEND} s b"));
    assert!(said.code == Some(0) && said.error.contains("it counts as 4"), "{said:?}");
    assert_eq!(mails(&workspace), 9);
    // Files of another script.
    workspace.run(&format!("export TIMEFILE=$PWD/var/mine INITFILE=$PWD/var/mine_too SENDTEXT=FALSE; {SEND} s b"));
    assert_eq!(mails(&workspace), 10);
    workspace.run(&format!("export TIMEFILE=$PWD/var/other INITFILE=$PWD/var/other_too SENDEMAIL=no; {SEND} s b"));
    assert_eq!(mails(&workspace), 11);
}

#[test]
fn alerts_at_the_same_moment_are_one() {
    let workspace = prepared("moment");
    let text = format!("{SEND} s b");
    let mut senders: Vec<_> = (0..12).map(|_| workspace.command(&text).stdout(Stdio::null()).spawn().unwrap()).collect();
    assert!(senders.iter_mut().all(|sender| sender.wait().unwrap().success()));
    assert_eq!(mails(&workspace), 1);
}

#[test]
fn what_could_not_be_sent_is_due_again_at_once() {
    let workspace = prepared("failed");
    let said = workspace.run("export UNIXMAILPROGRAM=/bin/false; . \"$utils/send_alert.sh\"; send_alert s b");
    assert!(said.code == Some(1) && said.error.contains("could not be sent"), "{said:?}");
    workspace.run(&format!("{SEND} s b"));
    assert_eq!(mails(&workspace), 1);
}

#[test]
fn bodies_come_from_files_subjects_are_one_line_and_receivers_are_addresses() {
    let workspace = prepared("words");
    workspace.write("report", "line one\nline two\n\nCluster status: DEGRADED - node1 is down\n");
    workspace.write("conf/cm_alert_list.sh", "EMAILlist=root\nTEXTlist=5@example.com\n");
    let run = |text: &str| workspace.run(&format!("export ALERTTIMESPANHOURS=0; {SEND} {text}"));
    run("$'two\\nlines' \"$PWD/report\"");
    let text = workspace.read("mails");
    assert!(text.starts_with("MAIL -s two lines root\nline one\nline two\n\nCluster status"), "{text}");
    // A text message holds the verdict, and no more than it can.
    assert!(text.ends_with("MAIL -s two lines 5@example.com\nCluster status: DEGRADED - node1 is down\n"), "{text}");
    run("s \"$(printf 'x%.0s' {1..500})\"");
    assert_eq!(workspace.read("mails").lines().last().unwrap().len(), 160);
    let before = mails(&workspace);
    run("s b 'only@example.com, me@example.com'");
    assert!(workspace.read("mails").contains("MAIL -s s only@example.com me@example.com\n"));
    assert_eq!(mails(&workspace), before + 1);
    for receiver in ["-oQ/tmp", "|id", "/etc/motd", "a`id`", "a;b"] {
        let said = run(&format!("s b '{receiver}'"));
        assert!(said.code == Some(1) && said.error.contains("not an address"), "{receiver}: {said:?}");
    }
    assert_eq!(mails(&workspace), before + 1);
    // The interface of sendmail.
    workspace.program("sendmail", SINK);
    let said = workspace.run(
        "export UNIXMAILPROGRAM=$HOME/sendmail; export ALERTTIMESPANHOURS=0; . \"$utils/send_alert.sh\"; send_alert s b a@example.com",
    );
    assert_eq!(said.code, Some(0), "{said:?}");
    let text = workspace.read("mails");
    assert!(text.contains("MAIL -i -- a@example.com\nTo: a@example.com\nSubject: s\n"), "{text}");
    // A list that anybody could have written is not run.
    workspace.run("chmod o+w conf/cm_alert_list.sh; echo 'touch harm' >>conf/cm_alert_list.sh");
    let said = run("s b");
    assert!(said.error.contains("may be written by everyone") && !workspace.path("harm").exists(), "{said:?}");
}
