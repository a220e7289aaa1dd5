//! Could it be started here? Looks at everything that a start needs and that can be seen without one: the script, the unit, the
//! user, the interface, the source of a mount. Changes nothing.

use std::{path::Path, time::Duration};

use super::{DriverError, Drivers, crontab};
use crate::{
    model::{Assignment, Driver, Resource, Spec},
    sys::child::is_executable,
};

/// Longest look at one resource.
const LOOK: Duration = Duration::from_secs(3);

impl Drivers {
    /// Succeeds when nothing is seen that would keep a start from succeeding.
    ///
    /// # Errors
    /// The first thing that is in the way.
    pub async fn could_start(&self, resource: &Resource, assignment: &Assignment) -> Result<(), DriverError> {
        match (&resource.spec, &resource.driver) {
            (Spec::Address(address), Driver::Native) => self.addresses.check_link(address).await,
            (Spec::Application(application), Driver::Native | Driver::Script(_)) => {
                self.applications.could_start(application, assignment).await
            }
            (Spec::Crontab(crontab), Driver::Native) => crontab::could_start(crontab).await,
            (Spec::FileSystem(file_system), Driver::Native) => self.file_systems.could_start(resource, file_system, LOOK).await,
            (Spec::Service(service), Driver::Native) if self.services.available() => {
                Ok(self.services.could_start(&service.name, LOOK).await?)
            }
            (Spec::Address(address), Driver::Script(script)) => {
                has_script(resource, script)?;
                self.addresses.check_link(address).await
            }
            (Spec::Crontab(crontab), Driver::Script(script)) => {
                has_script(resource, script)?;
                crontab::could_start(crontab).await
            }
            (Spec::FileSystem(_) | Spec::Service(_), driver) => has_script(resource, &self.script_of(resource, driver)),
        }
    }
}

fn has_script(resource: &Resource, script: &Path) -> Result<(), DriverError> {
    if is_executable(script) {
        return Ok(());
    }
    Err(DriverError::NoScript { title: resource.id.to_string(), path: script.to_owned() })
}
