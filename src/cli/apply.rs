//! Another configuration for the whole cluster: every node says whether it would do, then all switch together; when one does
//! not get there, all go back.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use futures_util::future::join_all;
use tokio::time::sleep;

use super::{
    CliError, Exit,
    client::Client,
    output::{print, printable},
};
use crate::{
    config::{self, load_auth_for},
    control::{
        ControlError, MAX_QUESTION,
        client::{self, Caller},
    },
    model::{Apply, Config, Fingerprint, NodeId, Request, Response},
};

/// Longest wait for a node's word on the file, and for what becomes of the order to switch.
const PATIENCE: Duration = Duration::from_secs(6);
/// Longest wait for a node to run with another configuration: it lets groups that are on their way arrive, which may take a minute,
/// and stops what ends.
const ARRIVAL: Duration = Duration::from_secs(100);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long a node may be deaf because it has just begun to follow another process.
const HICCUP: Duration = Duration::from_secs(2);
/// Tries to reach a node that is to go back.
const TRIES: u32 = 5;

/// What to apply.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Change {
    /// The new configuration, in the format of the present one
    file: PathBuf,
    /// Only ask every node what would come of it
    #[arg(long)]
    check: bool,
    /// Leave out a node that is down; it needs the file before its next start
    #[arg(long = "without", value_name = "NODE")]
    without: Vec<String>,
}

/// A node that is asked.
struct Target {
    id: NodeId,
    name: String,
    /// In the present configuration, and in the new one where it is another.
    addresses: Vec<SocketAddr>,
}

/// Everybody who is asked, and how.
struct Round<'a> {
    targets: Vec<Target>,
    caller: Caller<'a>,
}

/// Asks every node, and when all agree lets all switch.
///
/// # Errors
/// A file with faults, a node that refuses or cannot be reached; the message says what is in force then.
pub fn run(client: &Client, change: &Change) -> Result<Exit, CliError> {
    let (text, format) = config::read(&change.file).map_err(|report| CliError::configuration(&report))?;
    let loaded = config::load_text(&change.file.display().to_string(), &text, format).map_err(|report| CliError::configuration(&report))?;
    let (before, after) = (client.config(), &*loaded.config);
    let bytes = serde_json::to_vec(&text).map_or(usize::MAX, |quoted| quoted.len());
    if bytes > MAX_QUESTION - 1024 {
        return Err(not_done(format!(
            "{} has {bytes} bytes on its way, more than the {} that a node takes: put it in place on each node and say `drcm reload` there",
            change.file.display(),
            MAX_QUESTION - 1024
        )));
    }
    let without = change.without.iter().map(|wanted| client.node(wanted).map(|node| node.id)).collect::<Result<Vec<_>, _>>()?;
    let key = load_auth_for(&before.server.auth_dir, &before.server.cluster_user)
        .map_err(|fault| not_done(format!("the other nodes cannot be asked: {fault}")))?;
    let caller = Caller { authkey: key.bytes(), from: client.address() };
    let round = Round { targets: targets(before, after, &without), caller };
    print(&remarks(before, after, &without))?;
    client.block_on(async {
        let ticket = ticket()?;
        let asked = Apply::Try { text: text.clone(), format, ticket: (!change.check).then_some(ticket) };
        let tried = round.try_all(&Request::Apply(asked)).await;
        print(&lines(&tried))?;
        refusals(&tried, "nothing was changed")?;
        if change.check {
            return Ok(Exit::Good);
        }
        let former = join_all(round.targets.iter().map(|target| round.fingerprint(target))).await;
        let began = Instant::now();
        let switched = round.ask_all(&Request::Apply(Apply::Switch { text: text.clone(), format, ticket }), PATIENCE).await;
        let mut failures: Vec<String> = switched
            .iter()
            .filter_map(|(target, answer)| match answer {
                Ok(Response::Refused(why)) => Some(format!("{}: {why}", target.name)),
                // Where the answer was lost, the node says itself what it runs with.
                _ => None,
            })
            .collect();
        if failures.is_empty() {
            let late = round.arrive(|_, fingerprint| fingerprint == after.fingerprint).await;
            failures.extend(
                late.iter().map(|name| format!("{name}: it does not run with the new configuration after {ARRIVAL:?}; see its log")),
            );
        }
        if failures.is_empty() {
            let names: Vec<&str> = round.targets.iter().map(|target| target.name.as_str()).collect();
            print(&format!("in force on {} after {:.1} s\n", names.join(", "), began.elapsed().as_secs_f64()))?;
            return Ok(Exit::Good);
        }
        let back = round.go_back(&former, after.fingerprint, text).await;
        Err(not_done(format!("{}; {back}", failures.join("; "))))
    })
}

/// By which the nodes tell this change from another one.
fn ticket() -> Result<u64, CliError> {
    getrandom::u64().map_err(|error| not_done(format!("nothing was changed: no random number could be had: {error}")))
}

fn not_done(why: String) -> CliError {
    CliError::NotDone { why }
}

/// The nodes that are in both configurations.
fn targets(before: &Config, after: &Config, without: &[NodeId]) -> Vec<Target> {
    let stay = before.nodes.iter().filter(|node| !without.contains(&node.id));
    let address = |config: &Config, id| Some(SocketAddr::new(config.node(id)?.keep_alive_ip, config.server.tcpport));
    stay.filter_map(|node| {
        let mut addresses = vec![address(after, node.id)?, address(before, node.id)?];
        addresses.dedup();
        Some(Target { id: node.id, name: node.name.clone(), addresses })
    })
    .collect()
}

/// About nodes that nobody asks.
fn remarks(before: &Config, after: &Config, without: &[NodeId]) -> String {
    let mut text = String::new();
    for node in &before.nodes {
        if after.node(node.id).is_none() {
            text += &format!("{}: is no longer a node: stop its daemon (systemctl disable --now drcm_server)\n", printable(&node.name));
        } else if without.contains(&node.id) {
            text += &format!("{}: left out; it needs the file before its next start\n", printable(&node.name));
        }
    }
    for node in after.nodes.iter().filter(|node| before.node(node.id).is_none()) {
        text += &format!("{}: is new: put the file and the auth directory there, and start its daemon\n", printable(&node.name));
    }
    text
}

type Answer<'t> = (&'t Target, Result<Response, ControlError>);

fn lines(answers: &[Answer<'_>]) -> String {
    answers
        .iter()
        .map(|(target, answer)| {
            let said = match answer {
                Ok(Response::Accepted(sentences)) => sentences.join("; "),
                Ok(Response::Refused(why)) => format!("REFUSES: {why}"),
                Ok(_) => "REFUSES: it answered another question".to_owned(),
                Err(error) => format!("NO ANSWER: {error}"),
            };
            // What a node finds wrong with the file has several lines.
            let said: Vec<String> = said.lines().map(printable).collect();
            format!("{}: {}\n", printable(&target.name), said.join("\n    "))
        })
        .collect()
}

/// That every one of them agreed.
fn refusals(answers: &[Answer<'_>], so: &str) -> Result<(), CliError> {
    let named = |wanted: fn(&Result<Response, ControlError>) -> bool| {
        let names: Vec<&str> = answers.iter().filter(|(_, answer)| wanted(answer)).map(|(target, _)| target.name.as_str()).collect();
        names.join(", ")
    };
    let refused = named(|answer| answer.as_ref().is_ok_and(|response| !matches!(response, Response::Accepted(_))));
    let silent = named(Result::is_err);
    match (refused.as_str(), silent.as_str()) {
        ("", "") => Ok(()),
        ("", silent) => Err(not_done(format!("{so}: no answer from {silent}; --without leaves out a node that is down"))),
        (refused, _) => Err(not_done(format!("{so}: {refused} would not take it"))),
    }
}

impl Round<'_> {
    /// Asks one node at the first of its addresses that answers.
    async fn ask(&self, target: &Target, request: &Request, patience: Duration) -> Result<Response, ControlError> {
        let mut answer = None;
        for address in &target.addresses {
            let asked = client::ask_remote(*address, self.caller, request, patience).await;
            let done = asked.is_ok();
            answer = Some(asked);
            if done {
                break;
            }
        }
        answer.expect("a target has an address")
    }

    /// Asks all of them what changes nothing, and may be asked again.
    async fn try_all(&self, request: &Request) -> Vec<Answer<'_>> {
        let began = Instant::now();
        join_all(self.targets.iter().map(async |target| {
            loop {
                let answer = self.ask(target, request, PATIENCE).await;
                if answer.is_ok() || began.elapsed() > HICCUP {
                    return (target, answer);
                }
                sleep(LOOK_AGAIN).await;
            }
        }))
        .await
    }

    async fn ask_all(&self, request: &Request, patience: Duration) -> Vec<Answer<'_>> {
        join_all(self.targets.iter().map(async |target| (target, self.ask(target, request, patience).await))).await
    }

    /// The fingerprint that a node runs with, if it says so.
    async fn fingerprint(&self, target: &Target) -> Option<Fingerprint> {
        match self.ask(target, &Request::Node, PATIENCE).await {
            Ok(Response::Node(report)) if report.node == target.id => Some(report.fingerprint),
            _ => None,
        }
    }

    /// Waits until each of them, by position, runs with such a configuration; who does not.
    async fn arrive(&self, good: impl Fn(usize, Fingerprint) -> bool) -> Vec<String> {
        let began = Instant::now();
        let late = join_all(self.targets.iter().enumerate().map(async |(position, target)| {
            loop {
                if self.fingerprint(target).await.is_some_and(|fingerprint| good(position, fingerprint)) {
                    return None;
                }
                if began.elapsed() > ARRIVAL {
                    return Some(target.name.clone());
                }
                sleep(LOOK_AGAIN).await;
            }
        }));
        late.await.into_iter().flatten().collect()
    }

    /// Takes it back everywhere; what came of that, as a sentence. `former` is what each ran with before.
    async fn go_back(&self, former: &[Option<Fingerprint>], after: Fingerprint, text: String) -> String {
        let undo = Request::Apply(Apply::Undo { text });
        let undone = join_all(self.targets.iter().map(async |target| {
            for _ in 0..TRIES {
                if let Ok(Response::Accepted(_)) = self.ask(target, &undo, PATIENCE).await {
                    return;
                }
                sleep(LOOK_AGAIN).await;
            }
        }));
        undone.await;
        let is_former = |position: usize, now| former[position].map_or(now != after, |former| former == now);
        // Another operator's may be in force there by now.
        let astray = self.arrive(|position, now| now != after || is_former(position, now)).await;
        let now = join_all(self.targets.iter().map(|target| self.fingerprint(target))).await;
        let others: Vec<&str> = (self.targets.iter().zip(now).enumerate())
            .filter(|(position, (_, now))| now.is_some_and(|now| now != after && !is_former(*position, now)))
            .map(|(_, (target, _))| target.name.as_str())
            .collect();
        if !others.is_empty() {
            format!("a third configuration is in force on {}: `drcm status` shows who has which", others.join(", "))
        } else if astray.is_empty() {
            "the former configuration is in force everywhere".to_owned()
        } else {
            format!(
                "the former configuration is in force, but not on {}: put it in place there (what was replaced is kept as FILE.before) and \
                 say `drcm reload`",
                astray.join(", ")
            )
        }
    }
}
