//! Probe, start and stop of each kind of resource, and the one door through which the executor asks for them.
//!
//! Owns how a thing is done and what the system says about it now. Never decides that it should be done, never retries a
//! start, and remembers nothing that the system can be asked for.

pub mod address;
pub mod application;
pub mod crontab;
mod drill;
mod error;
pub mod file_system;
pub mod script;
pub mod service;
mod turn;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use tokio::sync::mpsc;

use crate::model::{Assignment, Config, Driver, NodeId, Resource, Spec, StockScript, Time};

pub use address::{AddressEvent, Addresses};
pub use crontab::drift::News;
pub use error::DriverError;
pub use file_system::{FileSystems, MountError};
pub use service::{ServiceError, ServiceEvent, Services};

use application::Applications;
use crontab::{ByScript, drift::Drift};
use script::{Scripts, Verb};

/// What the system says of a resource now. That it could not be asked is an error, and means nothing about the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It runs, wholly.
    Up,
    /// Nothing of it is there.
    Down,
    /// Some of it is there, or not as configured: start mends it, stop clears it away.
    Partial,
    /// The question did not come back in time.
    Stalled,
}

/// What drivers need of the configuration of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `nodename` of this node.
    pub nodename: String,
    /// `nodename` of every node: resources are named after their home.
    pub nodenames: BTreeMap<NodeId, String>,
    /// Where the `*_resource.log` files are.
    pub log_dir: PathBuf,
    /// Given to scripts.
    pub run_dir: PathBuf,
    /// Given to scripts.
    pub spool_dir: PathBuf,
    /// Given to scripts.
    pub auth_dir: PathBuf,
    /// Where the stock resource scripts are.
    pub resource_dir: PathBuf,
    /// Shell of applications.
    pub bash_shell: PathBuf,
    /// Sourced before an application's commands.
    pub bash_rc_file: Option<PathBuf>,
    /// Prefix of scripts when we are not root.
    pub sudo_command: String,
    /// umask of children.
    pub umask: u32,
    /// Bytes at which a `*_resource.log` is moved aside.
    pub max_log_size: u64,
}

impl Settings {
    /// The settings of this node of a cluster.
    #[must_use]
    pub fn new(config: &Config, nodename: &str) -> Self {
        let server = &config.server;
        Self {
            nodename: nodename.to_owned(),
            nodenames: config.nodes.iter().map(|node| (node.id, node.name.clone())).collect(),
            log_dir: server.log_dir.clone(),
            run_dir: server.run_dir.clone(),
            spool_dir: server.spool_dir.clone(),
            auth_dir: server.auth_dir.clone(),
            resource_dir: PathBuf::from(StockScript::DIRECTORY),
            bash_shell: server.bash_shell.clone(),
            bash_rc_file: server.bash_rc_file.clone(),
            sudo_command: server.sudo_command.clone(),
            umask: server.umask,
            max_log_size: server.log.max_size,
        }
    }
}

/// Every driver of a daemon. Cheap to clone.
#[derive(Clone)]
pub struct Drivers {
    addresses: Addresses,
    applications: Applications,
    by_script: ByScript,
    drift: Drift,
    file_systems: FileSystems,
    scripts: Scripts,
    services: Services,
    settings: Settings,
}

impl Drivers {
    /// Opens what the drivers need from the kernel, in the network namespace of the calling thread and within a tokio
    /// runtime. The receiver tells what happens to addresses that were started and not stopped; it must be read.
    ///
    /// # Errors
    /// When the kernel refuses a socket (needs CAP_NET_ADMIN and CAP_NET_RAW).
    pub fn new(settings: Settings) -> Result<(Self, mpsc::Receiver<AddressEvent>), DriverError> {
        let (addresses, events) = Addresses::open()?;
        let services = Services::open();
        let drivers = Self {
            addresses,
            applications: Applications::new(settings.clone(), services.clone()),
            by_script: ByScript::default(),
            drift: Drift::open(),
            file_systems: FileSystems::new(&settings),
            scripts: Scripts::new(settings.clone()),
            services,
            settings,
        };
        Ok((drivers, events))
    }

    /// The floating addresses, for what only they can do: batches, renewals, announcements.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What happens to resources between two checks, as far as the system tells by itself: edited crontabs.
    pub async fn news<'r>(&self, resources: impl Iterator<Item = &'r Resource>) -> News {
        self.drift.of(resources).await
    }

    /// The units of systemd, for what only they can tell.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Sees to it that, at a shutdown, the system stops none of these by itself before this daemon has released them.
    pub fn outlast<'a>(&self, resources: impl Iterator<Item = &'a Resource>) {
        self.services.outlast(resources.filter_map(|resource| match (&resource.spec, &resource.driver) {
            (Spec::Service(service), Driver::Native) => Some(service.name.clone()),
            _ => None,
        }));
    }

    /// The script that does the work for a resource on this machine; none where we do.
    #[must_use]
    pub fn script_for(&self, resource: &Resource) -> Option<PathBuf> {
        match (&resource.spec, &resource.driver) {
            (_, Driver::Script(path)) => Some(path.clone()),
            (Spec::Service(_), Driver::Native) if !self.services.available() => Some(self.script_of(resource, &resource.driver)),
            (_, Driver::Native) => None,
        }
    }

    /// What the system says now. Changes nothing, except that an application's ensure script, which is its only probe, may
    /// restart what died.
    ///
    /// # Errors
    /// When the system could not be asked.
    pub async fn probe(&self, resource: &Resource, assignment: &Assignment) -> Result<Condition, DriverError> {
        let limit = resource.options.check_timeout;
        match (&resource.spec, &resource.driver) {
            // The scripts of addresses and crontabs know no question; what they do can be seen without them.
            (Spec::Address(address), Driver::Native | Driver::Script(_)) => self.addresses.probe(address).await,
            (Spec::Crontab(crontab), Driver::Native) => crontab::probe(crontab).await,
            (Spec::Crontab(crontab), Driver::Script(_)) => Ok(self.by_script.judge(&resource.id, crontab::probe(crontab).await?)),
            (Spec::Application(application), Driver::Native | Driver::Script(_)) => {
                self.applications.probe(application, assignment, limit).await
            }
            (Spec::FileSystem(file_system), Driver::Native) => self.file_systems.probe(resource, file_system).await,
            (Spec::FileSystem(named), Driver::Script(_)) => file_system::mounted(named),
            (Spec::Service(service), Driver::Native) if self.services.available() => Ok(self.services.probe(&service.name, limit).await?),
            (Spec::Service(_), driver) => self.ask_script(resource, driver, Verb::Status).await,
        }
    }

    /// Brings it up; succeeds when it is up already. `until` is the end of the lease, for what the kernel itself enforces.
    ///
    /// # Errors
    /// What failed; some of it may be up.
    pub async fn start(&self, resource: &Resource, assignment: &Assignment, until: Option<Time>) -> Result<(), DriverError> {
        let limit = resource.options.start_timeout;
        match (&resource.spec, &resource.driver) {
            (Spec::Address(address), Driver::Native) => self.addresses.start(address, until).await,
            (Spec::Crontab(crontab), Driver::Native) => crontab::start(crontab).await,
            (Spec::Application(application), Driver::Native | Driver::Script(_)) => {
                self.applications.start(application, assignment, limit).await
            }
            (Spec::Address(address), Driver::Script(script)) => {
                self.run_script(resource, script, Verb::Start, limit).await?;
                self.addresses.adopt(address, until);
                Ok(())
            }
            (Spec::Service(service), Driver::Native) if self.services.available() => Ok(self.services.start(&service.name, limit).await?),
            (Spec::FileSystem(file_system), Driver::Native) => self.file_systems.start(resource, file_system).await,
            (Spec::Crontab(crontab), Driver::Script(script)) => {
                self.run_script(resource, script, Verb::Start, limit).await?;
                self.by_script.started(&resource.id, crontab).await;
                Ok(())
            }
            (Spec::FileSystem(_) | Spec::Service(_), driver) => {
                self.run_script(resource, &self.script_of(resource, driver), Verb::Start, limit).await
            }
        }
    }

    /// Brings it down; succeeds when it is down already. Tries every step.
    ///
    /// # Errors
    /// All that failed, as [`DriverError::Several`] when there is more than one; it may still be up.
    pub async fn stop(&self, resource: &Resource, assignment: &Assignment) -> Result<(), DriverError> {
        let limit = resource.options.stop_timeout;
        match (&resource.spec, &resource.driver) {
            (Spec::Address(address), Driver::Native) => self.addresses.stop(address).await,
            (Spec::Crontab(crontab), Driver::Native) => crontab::stop(crontab).await,
            (Spec::Application(application), Driver::Native | Driver::Script(_)) => {
                self.applications.stop(application, assignment, limit).await
            }
            (Spec::Address(address), Driver::Script(script)) => {
                let by_script = self.run_script(resource, script, Verb::Stop, limit).await;
                // Whatever the script left: an address must not outlive its lease.
                DriverError::gather([by_script, self.addresses.stop(address).await])
            }
            (Spec::Service(service), Driver::Native) if self.services.available() => Ok(self.services.stop(&service.name, limit).await?),
            (Spec::FileSystem(file_system), Driver::Native) => self.file_systems.stop(resource, file_system).await,
            (Spec::Crontab(_), Driver::Script(script)) => {
                self.by_script.stopping(&resource.id);
                self.run_script(resource, script, Verb::Stop, limit).await
            }
            (Spec::FileSystem(_) | Spec::Service(_), driver) => {
                self.run_script(resource, &self.script_of(resource, driver), Verb::Stop, limit).await
            }
        }
    }

    /// The periodic check of something that should be up: asks, and lets what can repair itself do so (`watch` of scripts,
    /// the ensure script of applications, an edited crontab).
    ///
    /// # Errors
    /// When the system could not be asked.
    pub async fn check(&self, resource: &Resource, assignment: &Assignment) -> Result<Condition, DriverError> {
        match (&resource.spec, &resource.driver) {
            (Spec::Crontab(crontab), Driver::Native) => crontab::check(crontab).await,
            (Spec::Address(_) | Spec::Application(_), Driver::Native | Driver::Script(_)) | (Spec::Crontab(_), Driver::Script(_)) => {
                self.probe(resource, assignment).await
            }
            (Spec::FileSystem(file_system), Driver::Native) => self.file_systems.check(resource, file_system).await,
            (Spec::Service(service), Driver::Native) if self.services.available() => {
                let (limit, patience) = (resource.options.check_timeout, resource.options.start_timeout);
                Ok(self.services.check(&service.name, limit, patience).await?)
            }
            (Spec::FileSystem(_) | Spec::Service(_), driver) => self.ask_script(resource, driver, Verb::Watch).await,
        }
    }

    /// Runs a script for its answer: success is up, failure down, silence stalled.
    async fn ask_script(&self, resource: &Resource, driver: &Driver, verb: Verb) -> Result<Condition, DriverError> {
        let limit = match verb {
            // It may repair, which takes as long as a start does.
            Verb::Watch => resource.options.check_timeout.max(resource.options.start_timeout),
            Verb::Status | Verb::Start | Verb::Stop => resource.options.check_timeout,
        };
        match self.run_script(resource, &self.script_of(resource, driver), verb, limit).await {
            Ok(()) => Ok(Condition::Up),
            Err(DriverError::TimedOut { .. }) => Ok(Condition::Stalled),
            Err(DriverError::Failed { .. }) => Ok(Condition::Down),
            Err(other) => Err(other),
        }
    }

    async fn run_script(&self, resource: &Resource, script: &std::path::Path, verb: Verb, limit: Duration) -> Result<(), DriverError> {
        self.scripts.run(resource, script, verb, limit).await
    }

    /// The script of a resource: the stock one, where there is no driver of ours or none that works here.
    fn script_of(&self, resource: &Resource, driver: &Driver) -> PathBuf {
        match driver {
            Driver::Script(path) => path.clone(),
            Driver::Native => {
                // A source that tells no type comes with a script of its own, see the configuration.
                self.settings.resource_dir.join(StockScript::of_spec(&resource.spec).unwrap_or(StockScript::Nfs).name())
            }
        }
    }
}
