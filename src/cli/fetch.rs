//! Answers from the cluster: from the daemon of this machine, and when that is down or mute, sealed, from the other nodes all at
//! once. A dead node, a dead daemon or a stopped one never costs more than about a second.

use std::{net::SocketAddr, path::Path, pin::pin, time::Duration};

use futures_util::future::join_all;

use super::ping::Echo;
use crate::{
    config::{AuthFault, AuthKey, load_auth_for},
    control::{
        ControlError,
        client::{self, Caller},
    },
    model::{ClusterReport, Config, EventPage, EventQuery, NodeConfig, NodeId, Request, Response},
};

/// Longest wait for an answer. A daemon gives its peers less before it answers without them.
const PATIENCE: Duration = Duration::from_millis(950);
/// A daemon that does not even echo within this time is stuck: the other nodes are asked meanwhile.
const ECHO_PATIENCE: Duration = Duration::from_millis(200);

/// Longest wait for a node that is pinged from here: with the echo it stays below a second.
const PING_PATIENCE: Duration = Duration::from_millis(700);

/// Why nobody answered.
#[derive(Debug, thiserror::Error)]
#[error("no node answered:\n  this machine: {local}{}", others.iter().map(|line| format!("\n  {line}")).collect::<String>())]
pub struct NoAnswer {
    /// About the daemon of this machine.
    pub local: String,
    /// About the others, a line each.
    pub others: Vec<String>,
}

/// Whom to ask.
pub struct Source<'a> {
    config: &'a Config,
    run_dir: &'a Path,
    here: Option<NodeId>,
}

impl<'a> Source<'a> {
    /// The nodes of a configuration, asked from the one that this machine is, if it is one.
    #[must_use]
    pub fn new(config: &'a Config, here: Option<NodeId>) -> Self {
        Self { config, run_dir: &config.server.run_dir, here }
    }

    /// The cluster as the daemon of this machine sees it, else as the first of the others to answer does.
    ///
    /// # Errors
    /// Nobody answered.
    pub async fn cluster(&self) -> Result<ClusterReport, NoAnswer> {
        let understand = |response| match response {
            Response::Cluster(report) => Ok(report),
            other => Err(unexpected(other)),
        };
        self.first(&Request::Cluster, understand).await
    }

    /// What happened lately on the nodes, as the daemon of this machine hears from them, else the first of the others to answer.
    ///
    /// # Errors
    /// Nobody answered.
    pub async fn events(&self, query: &EventQuery) -> Result<Vec<EventPage>, NoAnswer> {
        let understand = |response| match response {
            Response::Events(pages) => Ok(pages),
            other => Err(unexpected(other)),
        };
        self.first(&Request::Events(query.clone()), understand).await
    }

    /// The first good answer, that of this machine if it can be had.
    async fn first<T>(&self, request: &Request, understand: impl Fn(Response) -> Result<T, String>) -> Result<T, NoAnswer> {
        let mut local = pin!(async {
            let answer = client::ask_local(self.run_dir, request, PATIENCE).await;
            answer.map_err(|error| error.to_string()).and_then(&understand)
        });
        let others = async {
            let answer = self.ask_others(request).await?;
            understand(answer).map_err(|why| vec![why])
        };
        // While the daemon of this machine echoes it is worth waiting for; one that is mute is only half the hope.
        let local_why = tokio::select! {
            answer = &mut local => match answer {
                Ok(report) => return Ok(report),
                Err(why) => Some(why),
            },
            () = self.local_is_mute() => None,
        };
        let Some(local_why) = local_why else {
            let mut others = pin!(others);
            return tokio::select! {
                answer = &mut local => match answer {
                    Ok(report) => Ok(report),
                    Err(local) => others.await.map_err(|others| NoAnswer { local, others }),
                },
                answer = &mut others => match answer {
                    Ok(report) => Ok(report),
                    Err(others) => local.await.map_err(|local| NoAnswer { local, others }),
                },
            };
        };
        others.await.map_err(|others| NoAnswer { local: local_why, others })
    }

    /// One question to each of these nodes, in their order: from the daemon of this machine, else from here.
    pub async fn ping<'n>(&self, nodes: &[&'n NodeConfig]) -> Vec<(&'n NodeConfig, Echo)> {
        let request = Request::PingNodes(nodes.iter().map(|node| node.id).collect());
        let mut local = pin!(client::ask_local(self.run_dir, &request, PATIENCE));
        let answer = tokio::select! {
            answer = &mut local => answer,
            () = self.local_is_mute() => Err(ControlError::TimedOut { whom: "the daemon of this machine".to_owned(), after: ECHO_PATIENCE }),
        };
        let why = match answer {
            Ok(Response::Pings(pings)) => return nodes.iter().map(|node| (*node, echo_of(node, &pings))).collect(),
            Ok(other) => unexpected(other),
            Err(error) => error.to_string(),
        };
        match self.authkey() {
            Ok(key) => {
                let asked = nodes.iter().map(async |node| (*node, self.ping_directly(node, &key).await));
                join_all(asked).await
            }
            Err(fault) => {
                let why = format!("{why}; and the other nodes cannot be asked: {fault}");
                nodes.iter().map(|node| (*node, Err(why.clone()))).collect()
            }
        }
    }

    async fn ping_directly(&self, node: &NodeConfig, key: &AuthKey) -> Echo {
        let began = tokio::time::Instant::now();
        match client::ask_remote(self.status_address(node), self.caller(key), &Request::Ping, PING_PATIENCE).await {
            Ok(Response::Pong) => Ok(began.elapsed()),
            Ok(other) => Err(unexpected(other)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Why none of them answered, a line each, when none did.
    async fn ask_others(&self, request: &Request) -> Result<Response, Vec<String>> {
        let others: Vec<&NodeConfig> = self.config.nodes.iter().filter(|node| Some(node.id) != self.here).collect();
        let addresses: Vec<SocketAddr> = others.iter().map(|node| self.status_address(node)).collect();
        let key = self.authkey().map_err(|fault| vec![format!("the other nodes cannot be asked: {fault}")])?;
        let name = |address: &SocketAddr| {
            let index = addresses.iter().position(|other| other == address);
            index.map_or_else(|| address.to_string(), |index| format!("{}@{}", others[index].name, others[index].keep_alive_ip))
        };
        match client::ask_any(&addresses, self.caller(&key), request, PATIENCE).await {
            Ok((_, response)) => Ok(response),
            Err(ControlError::NobodyAnswered { failures }) if failures.is_empty() => Err(vec!["there is no other node to ask".to_owned()]),
            Err(ControlError::NobodyAnswered { failures }) => {
                Err(failures.iter().map(|(address, failure)| format!("{}: {failure}", name(address))).collect())
            }
            Err(error) => Err(vec![error.to_string()]),
        }
    }

    /// Returns once the daemon of this machine has not echoed for too long; never while it does, or is not there at all.
    async fn local_is_mute(&self) {
        if !matches!(client::ask_local(self.run_dir, &Request::Ping, ECHO_PATIENCE).await, Err(ControlError::TimedOut { .. })) {
            std::future::pending::<()>().await;
        }
    }

    fn status_address(&self, node: &NodeConfig) -> SocketAddr {
        SocketAddr::new(node.keep_alive_ip, self.config.server.tcpport)
    }

    fn caller<'k>(&self, key: &'k AuthKey) -> Caller<'k> {
        let own = self.here.and_then(|here| self.config.node(here));
        Caller { authkey: key.bytes(), from: own.map(|node| node.keep_alive_ip) }
    }

    fn authkey(&self) -> Result<AuthKey, AuthFault> {
        load_auth_for(&self.config.server.auth_dir, &self.config.server.cluster_user)
    }
}

fn echo_of(node: &NodeConfig, pings: &[(NodeId, Option<u64>)]) -> Echo {
    match pings.iter().find(|(id, _)| *id == node.id) {
        Some((_, Some(micros))) => Ok(Duration::from_micros(*micros)),
        Some((_, None)) => Err("no answer in time".to_owned()),
        None => Err("the daemon of this machine does not know it: its configuration differs".to_owned()),
    }
}

fn unexpected(response: Response) -> String {
    match response {
        Response::Refused(why) => why,
        Response::Pong
        | Response::Node(_)
        | Response::Cluster(_)
        | Response::Pings(_)
        | Response::Events(_)
        | Response::Drill(_)
        | Response::DrillAll(_)
        | Response::Accepted(_) => {
            "an answer to another question: run the drcm and drcm_server of the same version on every node".to_owned()
        }
    }
}
