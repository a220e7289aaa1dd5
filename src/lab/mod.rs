//! A laboratory: one cluster of real daemons on this machine, each node in network, mount and UTS namespaces of its own,
//! joined by a bridge that can be cut, made lossy or partitioned; and the instruments that measure what a client sees.
//!
//! Owns the namespaces, the switch between them, the files of that one cluster and the processes it starts. Everything is
//! anonymous and hangs on this process: nothing is named under /run, and when the laboratory is dropped, or the process
//! dies, namespaces and daemons are gone. Never touches the machine's own network, nor any process it did not start.

mod cost;
mod demo;
mod directory;
mod http;
mod namespace;
mod node;
mod plan;
mod probe;
mod record;
mod sampler;
mod shell;
mod switch;

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

pub use cost::{Cost, Memory, Packets};
pub use demo::demo;
pub use http::Http;
pub use namespace::Namespace;
pub use node::{LabNode, Said};
pub use plan::{NodePlan, Plan};
pub use probe::{Mark, Probe};
pub use record::{processors, record, stolen};
pub use sampler::{Change, Sampler};
pub use shell::{Shell, Spoken};
pub use switch::{Port, Protocol, Switch};

use directory::Directory;

/// Why a laboratory could not be set up or used.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A document has no place for the rows of a run.
    #[error("{} has no table between the two comments of its writer", document.display())]
    NoTable {
        /// The document.
        document: PathBuf,
    },
    /// Neither root nor a user namespace.
    #[error(
        "the laboratory makes network namespaces, which needs root or unprivileged user namespaces, and neither is to be had here: run it as root ({detail})"
    )]
    NotPermitted {
        /// What was tried.
        detail: String,
    },
    /// A command is missing.
    #[error("`{command}` is not installed; it is in the package {package}")]
    Missing {
        /// The command.
        command: &'static str,
        /// Its package, on Debian and Fedora.
        package: &'static str,
    },
    /// A command failed.
    #[error("`{command}` failed ({status}): {said}")]
    Command {
        /// As run.
        command: String,
        /// Its end.
        status: ExitStatus,
        /// Its standard error.
        said: String,
    },
    /// The system refused something.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The thread that keeps a namespace is gone.
    #[error("the namespace {name} is gone: the thread that kept it has ended")]
    Gone {
        /// Of the namespace.
        name: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {limit:?}")]
    TooLate {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// A daemon ended by itself.
    #[error("the daemon of {node} has ended by itself ({status}). It said last:\n{said}")]
    Ended {
        /// Which.
        node: String,
        /// How.
        status: ExitStatus,
        /// The end of its standard error.
        said: String,
    },
    /// The law was broken.
    #[error("the address was on two nodes at once ({times} times, first on {}): this is a fault of drcm, please report it", nodes.join(" and "))]
    TwoOwners {
        /// Where it was.
        nodes: Vec<String>,
        /// How often it was seen so.
        times: usize,
    },
    /// SIGINT, SIGTERM or SIGHUP came.
    #[error("interrupted")]
    Interrupted,
    /// The text of the demonstration could not be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl LabError {
    fn system(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System { doing: doing.into(), source: source.into() }
    }
}

/// A cluster in its laboratory. Nodes are counted from 0 in the order of the plan.
pub struct Lab {
    plan: Plan,
    // Dropped in this order: daemons first, then the network, then the files.
    nodes: Vec<LabNode>,
    client: Namespace,
    switch: Switch,
    directory: Directory,
}

impl Lab {
    /// Lays the network and writes the files; starts no daemon. `binary` is the `drcm_server` to run.
    ///
    /// # Errors
    /// [`LabError`], when namespaces are not permitted or a command is missing.
    pub fn new(plan: Plan, binary: &Path) -> Result<Self, LabError> {
        let directory = Directory::create(&plan)?;
        let switch = Switch::create()?;
        let client = Namespace::create("client")?;
        switch.connect(Port::Client, &client, plan::CLIENT_ADDRESS, plan::CLIENT_ADDRESS_6)?;
        let mut nodes = Vec::with_capacity(plan.nodes.len());
        for (number, node) in plan.nodes.iter().enumerate() {
            let namespace = Namespace::create(&node.name)?;
            switch.connect(Port::Node(number), &namespace, Plan::address(number), Plan::address_6(number))?;
            nodes.push(LabNode::create(node, namespace, &directory, binary)?);
        }
        Ok(Self { plan, nodes, client, switch, directory })
    }

    /// The plan it was built from.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The directory of this cluster's files: `cm.cfg`, `auth/`, `nodes/NAME/{log,spool,cron}`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A node.
    #[must_use]
    pub fn node(&self, node: usize) -> &LabNode {
        &self.nodes[node]
    }

    /// A node, to start or signal.
    pub fn node_mut(&mut self, node: usize) -> &mut LabNode {
        &mut self.nodes[node]
    }

    /// The nodes, in the order of the plan.
    #[must_use]
    pub fn nodes(&self) -> &[LabNode] {
        &self.nodes
    }

    /// The namespace of the client.
    #[must_use]
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// The switch, to make faults.
    pub fn switch(&mut self) -> &mut Switch {
        &mut self.switch
    }

    /// Starts the daemons of all nodes.
    ///
    /// # Errors
    /// [`LabError`], when one cannot be started.
    pub fn start_all(&mut self) -> Result<(), LabError> {
        self.nodes.iter_mut().try_for_each(LabNode::start)
    }

    /// Begins to probe the plan's address from the client.
    ///
    /// # Errors
    /// [`LabError`], when sockets are refused.
    pub fn probe(&self) -> Result<Probe, LabError> {
        Probe::start(&self.client, plan::SERVED)
    }

    /// Begins to watch on which nodes the plan's address is.
    ///
    /// # Errors
    /// [`LabError`], when sockets are refused.
    pub fn sampler(&self) -> Result<Sampler, LabError> {
        self.sampler_of(plan::SERVED.into())
    }

    /// Begins to watch on which nodes an address is.
    ///
    /// # Errors
    /// [`LabError`], when sockets are refused.
    pub fn sampler_of(&self, address: IpAddr) -> Result<Sampler, LabError> {
        Sampler::start(self.nodes.iter().map(LabNode::namespace), address)
    }

    /// Begins to watch on which of the first few nodes the plan's address is: a look at each of hundreds would be a load of its own.
    ///
    /// # Errors
    /// [`LabError`], when sockets are refused.
    pub fn sampler_on(&self, nodes: usize) -> Result<Sampler, LabError> {
        Sampler::start(self.nodes.iter().take(nodes).map(LabNode::namespace), plan::SERVED.into())
    }

    /// Waits until `condition` holds, looking every few milliseconds, and fails when a daemon ends meanwhile by itself.
    ///
    /// # Errors
    /// [`LabError::TooLate`] after `limit`; [`LabError::Ended`].
    pub fn wait(&mut self, what: &str, limit: Duration, mut condition: impl FnMut(&Self) -> bool) -> Result<Duration, LabError> {
        let start = Instant::now();
        loop {
            if condition(self) {
                return Ok(start.elapsed());
            }
            if demo::interrupted() {
                return Err(LabError::Interrupted);
            }
            self.nodes.iter_mut().try_for_each(LabNode::check)?;
            if start.elapsed() > limit {
                return Err(LabError::TooLate { what: what.to_owned(), limit });
            }
            thread::sleep(Duration::from_millis(3));
        }
    }

    /// Lets time pass, and fails when a daemon ends meanwhile by itself.
    ///
    /// # Errors
    /// [`LabError::Ended`], [`LabError::Interrupted`].
    pub fn pass(&mut self, time: Duration) -> Result<(), LabError> {
        let start = Instant::now();
        self.wait("the passing of time", time * 2 + Duration::from_secs(1), |_| start.elapsed() >= time).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            for node in &self.nodes {
                eprintln!("--- {}, the end of what its daemon said:\n{}", node.name(), node.last_words());
            }
        }
        for node in &mut self.nodes {
            node.kill();
        }
        namespace::end_strays(self.nodes.iter().map(LabNode::namespace));
    }
}

/// The path of a program, or the package that has it.
fn program(command: &'static str, package: &'static str) -> Result<PathBuf, LabError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beyond = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(beyond)
        .map(|directory| directory.join(command))
        .find(|candidate| candidate.is_file())
        .ok_or(LabError::Missing { command, package })
}
