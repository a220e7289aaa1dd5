//! The order of a shutdown: systemd stops the services of a group only after this daemon has released them. A drop-in for our
//! own unit says so, until the next boot.

use std::{fs, io, path::Path, time::Duration};

use tokio::{task::spawn_blocking, time::Instant};
use tracing::{debug, warn};

use super::bus::{Bus, Trouble, answered};

/// Where drop-ins live until the next boot.
const DROP_INS: &str = "/run/systemd/system";
/// Name of ours.
const NAME: &str = "50-managed-services.conf";
/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// Orders our unit after these and no others: what starts earlier stops later. A unit that a script stops must not be among them, since
/// the script would wait for systemd, which would wait for us. Says what it could not do.
pub(super) async fn after(bus: &Bus, units: Vec<String>) {
    match try_after(bus, &units).await {
        Ok(()) => {}
        Err(Trouble::Again(why) | Trouble::Refused(_, why)) if units.is_empty() => {
            warn!("a service that this daemon no longer stops by itself may delay its end: {why}");
        }
        Err(Trouble::Again(why) | Trouble::Refused(_, why)) => {
            warn!("at a shutdown systemd may stop {} before this daemon hands over: {why}", units.join(", "));
        }
    }
}

async fn try_after(bus: &Bus, units: &[String]) -> Result<(), Trouble> {
    let link = bus.link(Instant::now() + PATIENCE).await?;
    let Some(own) = link.own_unit().await? else {
        debug!("this process belongs to no service of systemd: there is nothing to order at a shutdown");
        return Ok(());
    };
    let text = format!("# Written by {own}: what it manages is stopped after it.\n[Unit]\nAfter={}\n", units.join(" "));
    let text = (!units.is_empty()).then_some(text);
    let changed = spawn_blocking(move || write(&Path::new(DROP_INS).join(format!("{own}.d")), text.as_deref())).await;
    let changed = changed.map_err(io::Error::other).and_then(|written| written);
    if changed.map_err(|error| Trouble::Refused(String::new(), format!("cannot write a drop-in below {DROP_INS}: {error}")))? {
        answered(link.manager.reload().await)?;
    }
    Ok(())
}

/// Whether it was not like this: there with a text, or not there. Replaced whole, since systemd may read it at any time.
fn write(directory: &Path, text: Option<&str>) -> io::Result<bool> {
    let (path, new) = (directory.join(NAME), directory.join(format!("{NAME}.new")));
    let Some(text) = text else {
        return match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
    };
    if fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(false);
    }
    fs::create_dir_all(directory)?;
    fs::write(&new, text)?;
    fs::rename(&new, &path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drop_in_names_what_is_managed_now() {
        let directory = std::env::temp_dir().join(format!("drcm-order-{}", std::process::id()));
        let path = directory.join(NAME);
        assert!(!write(&directory, None).unwrap());
        assert!(write(&directory, Some("After=a")).unwrap());
        assert!(!write(&directory, Some("After=a")).unwrap());
        assert!(write(&directory, Some("After=b")).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "After=b");
        assert!(write(&directory, None).unwrap());
        assert!(!path.exists());
        fs::remove_dir_all(&directory).unwrap();
    }
}
