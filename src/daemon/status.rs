//! Answers to clients and to other nodes: what this node runs, how it sees the cluster, what the others say.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{sync::Semaphore, time::timeout_at};

use super::{apply::Applies, cluster_thread::Look, events, executor::Shared, journal::Journal, operator::Operator, reload::Reloads};
use crate::{
    cluster::{GroupView, Phase, Wait},
    control::client::{self, Caller},
    model::{
        Activity, Assignment, ClusterReport, DrillReport, EventQuery, Group, GroupId, GroupReport, MemberReport, NATIVE, NodeConfig,
        NodeId, NodeReport, QuorumReport, Request, Resource, ResourceId, ResourceReport, Response, Spec, Time, WishReport,
    },
    sys::clock,
};

/// Longest wait for another node's answer: a client waits for at most a second in all.
const PEER_DEADLINE: Duration = Duration::from_millis(700);

/// Longest a node may look around for a drill.
const DRILL: Duration = Duration::from_millis(3500);
/// Longest wait for another node's drill: a client waits for five seconds.
const DRILL_DEADLINE: Duration = Duration::from_secs(4);
/// Resources that a drill looks at side by side.
const DRILL_AT_ONCE: usize = 16;

/// Answers questions about this node and its cluster.
pub struct Status {
    shared: Arc<Shared>,
    authkey: Arc<crate::config::AuthKey>,
    operator: Arc<Operator>,
    reloads: Reloads,
    applies: Applies,
    journal: Arc<Journal>,
    started: i64,
}

impl Status {
    /// For a daemon that started now.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        authkey: Arc<crate::config::AuthKey>,
        operator: Arc<Operator>,
        reloads: Reloads,
        applies: Applies,
        journal: Arc<Journal>,
    ) -> Self {
        Self { shared, authkey, operator, reloads, applies, journal, started: clock::wall_seconds() }
    }

    /// The answer to one question.
    pub async fn answer(&self, request: Request) -> Response {
        match request {
            Request::Ping => Response::Pong,
            Request::Node | Request::Outline => match self.shared.mailbox.look().await {
                Ok(look) => Response::Node(Box::new(self.node_report(&look, request == Request::Outline))),
                Err(ended) => Response::Refused(ended.to_string()),
            },
            Request::Cluster => match self.shared.mailbox.look().await {
                Ok(look) => Response::Cluster(self.cluster_report(&look).await),
                Err(ended) => Response::Refused(ended.to_string()),
            },
            Request::Drill => Response::Drill(self.drill().await),
            Request::DrillAll => self.drill_all().await,
            Request::PingNodes(nodes) => self.ping_nodes(&nodes).await,
            Request::Events(query) if query.own => Response::Events(vec![self.journal.page(&query)]),
            Request::Events(query) => self.events(&query).await,
            Request::Command(command) => self.operator.command(command).await,
            Request::ConfirmVoters => self.operator.confirm_voters(),
            Request::Reload => self.reloads.ask().await,
            Request::Apply(apply) => self.applies.answer(apply).await,
        }
    }

    async fn ping_nodes(&self, nodes: &[NodeId]) -> Response {
        let asked = self.shared.config.nodes.iter().filter(|node| nodes.is_empty() || nodes.contains(&node.id));
        let pings = asked.map(|node| async move {
            if node.id == self.shared.node.id {
                return (node.id, Some(0));
            }
            let begun = Instant::now();
            let pong = self.ask(node, &Request::Ping).await == Some(Response::Pong);
            (node.id, pong.then(|| u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)))
        });
        Response::Pings(join_all(pings).await)
    }

    /// Looks whether what this node is a candidate for could be started here.
    async fn drill(&self) -> Vec<DrillReport> {
        let (config, me, deadline) = (&self.shared.config, self.shared.node.id, tokio::time::Instant::now() + DRILL);
        let mine = config.groups.iter().filter(|group| group.candidates.contains(&me)).flat_map(|group| &group.assignments);
        let turns = Semaphore::new(DRILL_AT_ONCE);
        let looks =
            mine.filter_map(|assignment| Some((assignment, config.resource(&assignment.resource)?))).map(|(assignment, resource)| {
                let turns = &turns;
                async move {
                    let runs = self.shared.board.note(assignment).activity == Activity::Running;
                    let look = async {
                        let _turn = turns.acquire().await;
                        if runs { Ok(()) } else { self.shared.drivers.could_start(resource, assignment).await }
                    };
                    let fault = match timeout_at(deadline, look).await {
                        Ok(looked) => looked.err().map(|fault| fault.to_string()),
                        Err(_) => Some(format!("it could not be seen within {DRILL:?}; the machine or a server that it asks hangs")),
                    };
                    DrillReport { resource: assignment.resource.clone(), home: assignment.home, runs, fault }
                }
            });
        join_all(looks).await
    }

    async fn drill_all(&self) -> Response {
        let nodes = self.shared.config.nodes.iter().map(|node| async move {
            if node.id == self.shared.node.id {
                return (node.id, Some(self.drill().await));
            }
            match self.ask_within(node, &Request::Drill, DRILL_DEADLINE).await {
                Some(Response::Drill(reports)) => (node.id, Some(reports)),
                _ => (node.id, None),
            }
        });
        Response::DrillAll(join_all(nodes).await)
    }

    /// The events of every node that answers in time.
    async fn events(&self, query: &EventQuery) -> Response {
        let own = EventQuery { own: true, ..query.clone() };
        let request = Request::Events(own.clone());
        let alive = self.shared.mailbox.look().await.map(|look| look.view.alive).unwrap_or_default();
        let pages = self.shared.config.nodes.iter().map(|node| {
            let (own, request, alive) = (&own, &request, &alive);
            async move {
                if node.id == self.shared.node.id {
                    return self.journal.page(own);
                }
                let answer = if alive.contains(&node.id) { self.ask(node, request).await } else { None };
                match answer {
                    Some(Response::Events(pages)) => events::page_of(node.id, pages),
                    _ => events::no_page(node.id),
                }
            }
        });
        Response::Events(events::within(join_all(pages).await, query.newest))
    }

    /// A peer's answer, or nothing within the deadline.
    async fn ask(&self, node: &NodeConfig, request: &Request) -> Option<Response> {
        self.ask_within(node, request, PEER_DEADLINE).await
    }

    async fn ask_within(&self, node: &NodeConfig, request: &Request, limit: Duration) -> Option<Response> {
        let address = SocketAddr::new(node.keep_alive_ip, self.shared.config.server.tcpport);
        let caller = Caller { authkey: self.authkey.bytes(), from: Some(self.shared.node.keep_alive_ip) };
        client::ask_remote(address, caller, request, limit).await.ok()
    }

    async fn cluster_report(&self, look: &Look) -> ClusterReport {
        let members = self.shared.config.nodes.iter().map(|node| async move {
            let own = node.id == self.shared.node.id;
            let up = own || look.view.alive.contains(&node.id);
            let report = if own {
                Some(self.node_report(look, true))
            } else if up {
                match self.ask(node, &Request::Outline).await {
                    Some(Response::Node(report)) => Some(*report),
                    _ => None,
                }
            } else {
                None
            };
            MemberReport { node: node.id, name: node.name.clone(), hostname: node.hostname.clone(), ip: node.keep_alive_ip, report, up }
        });
        ClusterReport { at: clock::wall_seconds(), asked: self.shared.node.id, members: join_all(members).await }
    }

    fn node_report(&self, look: &Look, outline: bool) -> NodeReport {
        let (config, me) = (&self.shared.config, self.shared.node.id);
        // There may be thousands.
        let by_id: HashMap<GroupId, &Group> = config.groups.iter().map(|group| (group.id, group)).collect();
        let specs: HashMap<&ResourceId, &Resource> = config.resources.iter().map(|resource| (&resource.id, resource)).collect();
        let groups: Vec<(&Group, &GroupView)> = look.view.groups.iter().filter_map(|view| Some((*by_id.get(&view.group)?, view))).collect();
        let resources = groups
            .iter()
            .flat_map(|(group, view)| group.assignments.iter().map(move |assignment| (assignment, *view)))
            .filter_map(|(assignment, view)| Some(self.resource_report(assignment, specs.get(&assignment.resource)?, view)))
            .filter(|report| !(outline && report.is_unremarkable()))
            .collect();
        NodeReport {
            node: me,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            fingerprint: config.fingerprint,
            eligible: look.view.eligible,
            quorum: QuorumReport {
                quorate: look.view.quorate,
                voters_seen: count(look.view.voters_seen),
                voters: count(look.view.voters),
                silent: look.view.silent,
                alive: std::iter::once(me).chain(look.view.alive.iter().copied()).collect(),
                mismatched: look.view.mismatched.clone(),
                votes: Some(look.view.votes.clone()),
            },
            groups: groups.iter().map(|(group, view)| self.group_report(group, view, look)).collect(),
            resources,
            wishes: look
                .view
                .wishes
                .iter()
                .map(|wish| WishReport {
                    subject: wish.subject,
                    wish: wish.wish,
                    author: wish.author,
                    seconds_left: wish.ends.map(|ends| ends.since(look.at).as_secs()),
                })
                .collect(),
            dropped: look
                .dropped
                .iter()
                .filter(|(_, dropped)| *dropped > 0)
                .map(|(reason, dropped)| ((*reason).to_owned(), *dropped))
                .collect(),
            announcements: self.shared.drivers.addresses().announcements(),
        }
    }

    fn group_report(&self, group: &Group, view: &GroupView, look: &Look) -> GroupReport {
        let at = look.at;
        let activity = match view.phase {
            Phase::Down if view.unable => Activity::Failed,
            Phase::Down => Activity::Stopped,
            Phase::Asking { .. } => Activity::Asking,
            Phase::Starting => Activity::Starting,
            Phase::Running => Activity::Running,
            Phase::Stopping { .. } => Activity::Stopping,
        };
        GroupReport {
            group: group.id,
            rank: view.rank,
            activity,
            lease_ms: view.until.map(|until| u64::try_from(until.since(at).as_millis()).unwrap_or(u64::MAX)),
            owner: match (view.phase, view.wait) {
                (Phase::Down, Some(Wait::OwnedBy(node))) => Some(node),
                _ => view.owner,
            },
            reason: self.reason(view, look),
        }
    }

    /// Why a group is not running here, as a sentence.
    fn reason(&self, view: &GroupView, look: &Look) -> String {
        let at = look.at;
        let name = |node: NodeId| self.shared.config.name(node);
        let in_ms = |when: Time| format!("{} ms", when.since(at).as_millis());
        match (view.phase, view.wait) {
            (Phase::Running, _) | (Phase::Down, Some(Wait::OwnedBy(_))) => String::new(),
            (Phase::Starting, _) => "being started".to_owned(),
            (Phase::Stopping { why }, _) => format!("being stopped: {why}"),
            (Phase::Asking { .. }, _) => "asking the voters for the lease".to_owned(),
            (Phase::Down, Some(Wait::Ineligible)) => "this node runs nothing: inactive, in standby or leaving".to_owned(),
            (Phase::Down, Some(Wait::Maintenance)) => "maintenance: nothing is started".to_owned(),
            (Phase::Down, Some(Wait::Unable)) | (Phase::Down, None) if view.unable => {
                "it failed on this node, or its link is down: see the problem of its resources".to_owned()
            }
            (Phase::Down, Some(Wait::Unable)) => "it failed on this node".to_owned(),
            (Phase::Down, Some(Wait::NoQuorum)) => self.no_quorum(look),
            (Phase::Down, Some(Wait::Silent { until })) => format!("this node has just started and waits for another {}", in_ms(until)),
            (Phase::Down, Some(Wait::LeaseRuns { holder, until })) => {
                format!("the lease of {} runs for another {}", name(holder), in_ms(until))
            }
            (Phase::Down, Some(Wait::Retry { at: when })) => format!("the voters refused; asked again in {}", in_ms(when)),
            (Phase::Down, Some(Wait::Better { node, at: when })) => {
                format!("left to {}, which is a better candidate, for another {}", name(node), in_ms(when))
            }
            (Phase::Down, None) => "about to be taken".to_owned(),
        }
    }

    /// Why there is no quorum, and what to do.
    fn no_quorum(&self, look: &Look) -> String {
        let names = |nodes: &[NodeId]| nodes.iter().map(|node| self.shared.config.name(*node)).collect::<Vec<_>>().join(", ");
        let view = &look.view;
        if !view.uncounted.is_empty() {
            format!(
                "no quorum: {} count other voters; restart them with the new configuration, and change one voter at a time",
                names(&view.uncounted)
            )
        } else if view.voters_seen > view.voters / 2 && !view.unheard.is_empty() {
            format!(
                "no quorum: none of the voters in touch remembers this cluster; it begins once {} has been up with the others. If this \
                 is a new cluster, say so on one node: `drcm confirm-voters`",
                names(&view.unheard)
            )
        } else if (view.voters_seen > view.voters / 2 || !view.votes_astray.is_empty()) && !view.awaited.is_empty() {
            format!(
                "no quorum: {} may still count the former voters, or have votes of others; start it with the new configuration. If it is off for good, say so on \
                 each node: `drcm confirm-voters`",
                names(&view.awaited)
            )
        } else if !view.votes_astray.is_empty() {
            format!(
                "no quorum: the votes of {} were lent when they were stopped, and the nodes that have them are not in touch: start those \
                 (the log of each says where its vote went)",
                names(&view.votes_astray)
            )
        } else {
            "no quorum: a majority of voters is not in touch".to_owned()
        }
    }

    fn resource_report(&self, assignment: &Assignment, resource: &Resource, view: &GroupView) -> ResourceReport {
        let note = self.shared.board.note(assignment);
        let activity = match note.activity {
            // What the executor has not touched yet is what the core says of its group.
            Activity::Stopped if matches!(view.phase, Phase::Asking { .. }) => Activity::Asking,
            other => other,
        };
        ResourceReport {
            resource: assignment.resource.clone(),
            home: assignment.home,
            activity,
            since: note.since,
            what: what(&resource.spec),
            driver: match self.shared.drivers.script_for(resource) {
                None => NATIVE.to_owned(),
                Some(path) => format!("script {}", path.display()),
            },
            problem: note.problem,
        }
    }
}

/// A resource in a line.
fn what(spec: &Spec) -> String {
    match spec {
        Spec::FileSystem(file_system) => format!("{} on {}", file_system.source, file_system.target.display()),
        Spec::Address(address) => {
            let interface = address.interface.label.as_ref().unwrap_or(&address.interface.device);
            format!("{}/{} on {interface}", address.ip, address.prefix)
        }
        Spec::Service(service) => service.name.clone(),
        Spec::Application(application) => format!("{} as {}:{}", application.start, application.user, application.group),
        Spec::Crontab(crontab) => format!("{} in {}", crontab.template.display(), crontab.install_dir.display()),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
