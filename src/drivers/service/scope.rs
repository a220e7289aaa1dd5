//! Scopes: units around processes that systemd did not start. Whatever an application forks stays in its scope, however it
//! daemonises and whatever it does to its environment; and at a shutdown systemd ends it only after this daemon.

use std::{fmt::Write, time::Duration};

use tokio::time::{Instant, timeout_at};
use zbus::{OwnedVariant, Variant};

use super::{
    ServiceError, Services,
    bus::{Trouble, answered},
    pause,
};

/// There is a scope of that name already: with what the last start left, for instance.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// The unit name of the scope of an application, from what is unique about it.
#[must_use]
pub fn scope_name(mark: &str) -> String {
    let mut name = String::from("drcm-");
    for byte in mark.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.') {
            name.push(char::from(byte));
        } else {
            // As systemd-escape(1) does; writing to a String cannot fail.
            let _ = write!(name, "\\x{byte:02x}");
        }
    }
    name + ".scope"
}

impl Services {
    /// Puts a process into a scope, a new one or the one that is there. On return it is in it.
    ///
    /// # Errors
    /// systemd would not, or could not be asked within `limit`.
    pub async fn enclose(&self, scope: &str, pid: i32, limit: Duration) -> Result<(), ServiceError> {
        let deadline = Instant::now() + limit;
        loop {
            match timeout_at(deadline, self.try_enclose(scope, pid.unsigned_abs(), deadline)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Trouble::Again(why))) => pause(scope, limit, deadline, why).await?,
                Ok(Err(Trouble::Refused(_, why))) => {
                    return Err(ServiceError::Refused { unit: scope.to_owned(), doing: "make", why });
                }
                Err(_) => return Err(ServiceError::TooSlow { unit: scope.to_owned(), doing: "start", limit }),
            }
        }
    }

    async fn try_enclose(&self, scope: &str, pid: u32, deadline: Instant) -> Result<(), Trouble> {
        let link = self.bus.link(deadline).await?;
        let mut properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", Variant::from(format!("application of DRCM ({scope})"))),
            ("PIDs", Variant::from(vec![pid])),
            // One in which something failed shall not be in the way of the next.
            ("CollectMode", Variant::from("inactive-or-failed")),
        ];
        if let Some(own) = link.own_unit().await? {
            properties.push(("Before", Variant::from(vec![own])));
        }
        let owned = |(name, value): (&str, Variant<'_>)| Some((name.to_owned(), OwnedVariant::try_from(value).ok()?));
        let properties: Vec<_> = properties.into_iter().filter_map(owned).collect();
        let mut finished = link.finished();
        match answered(link.manager.start_transient_unit(scope.to_owned(), "fail".to_owned(), properties, Vec::new()).await) {
            Ok(job) => match self.end_of(&link, &mut finished, &job, scope).await? {
                Some(result) if result != "done" => Err(Trouble::Refused(String::new(), format!("its job ended as \"{result}\""))),
                Some(_) | None => Ok(()),
            },
            Err(Trouble::Refused(name, _)) if name == EXISTS => {
                answered(link.manager.attach_processes_to_unit(scope.to_owned(), String::new(), vec![pid]).await)
            }
            Err(trouble) => Err(trouble),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_mark_is_a_name() {
        assert_eq!(scope_name("node1:node1:ldm"), "drcm-node1:node1:ldm.scope");
        assert_eq!(scope_name("a b/c-d:ü"), "drcm-a\\x20b\\x2fc\\x2dd:\\xc3\\xbc.scope");
    }
}
