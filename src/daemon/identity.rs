//! `cluster_user`: a daemon that was started as root goes on as that user, with those capabilities that the resources of its node
//! need and no others. They are ambient, so that the program that takes the place of this one on a reload has them, too;
//! children give them up.

use std::{
    ffi::CString,
    fmt, fs, io,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
};

use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    errno::Errno,
    unistd::{AccessFlags, Gid, Group, Uid, User, access, geteuid, getgrouplist, setgroups, setresgid, setresuid},
};

use crate::model::{Config, Kind, NodeConfig};

/// systemd's drop-ins until the next boot. The one that orders our unit is written by `drivers`.
const DROP_INS: &str = "/run/systemd/system";

/// Why the daemon cannot be `cluster_user`.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The system does not know the name.
    #[error("{key} = {name}: this host does not know that name; make it, or name another one")]
    Unknown {
        /// `cluster_user`, `cluster_group`.
        key: &'static str,
        /// What the configuration says.
        name: String,
    },
    /// The user could not write what the daemon has to write.
    #[error("cluster_user = {user} may not write to {}: chown -R {user} {}", path.display(), path.display())]
    NotWritable {
        /// Who.
        user: String,
        /// `run_dir`, `log_dir` or `spool_dir`.
        path: PathBuf,
    },
    /// A reload would find what this start cannot read.
    #[error("cluster_user = {user} cannot read {}: {source}; chown or chmod it", path.display())]
    NotReadable {
        /// Who.
        user: String,
        /// The configuration.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot become cluster_user {user}: {what}: {why}")]
    Refused {
        /// Who.
        user: String,
        /// What was tried.
        what: &'static str,
        /// In the system's words.
        why: String,
    },
}

/// The capabilities that a node needs for all that it may come to run. Whoever is not root asks systemd by polkit's leave.
#[must_use]
pub fn needed(config: &Config, node: &NodeConfig) -> CapsHashSet {
    let assigned = node.primary.iter().chain(node.backup.iter().map(|assignment| &assignment.resource));
    let mut needed = CapsHashSet::from([Capability::CAP_SYS_NICE, Capability::CAP_IPC_LOCK, Capability::CAP_NET_RAW]);
    for resource in assigned {
        let capabilities: &[Capability] = match resource.kind {
            Kind::Address => &[Capability::CAP_NET_ADMIN],
            // systemd does the work.
            Kind::Service => &[],
            Kind::Application => &[Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_KILL],
            // In a directory of root's, and root's: no cron takes another one's.
            Kind::Crontab => &[Capability::CAP_DAC_OVERRIDE, Capability::CAP_CHOWN, Capability::CAP_FOWNER],
            // Credentials of root's; and whoever uses a mount point is found and ended.
            Kind::FileSystem => {
                &[Capability::CAP_SYS_ADMIN, Capability::CAP_DAC_OVERRIDE, Capability::CAP_SYS_PTRACE, Capability::CAP_KILL]
            }
        };
        needed.extend(capabilities);
    }
    let server = &config.server;
    if server.udpport < 1024 || server.tcpport < 1024 || server.status_page.as_ref().is_some_and(|page| page.listen.port() < 1024) {
        needed.insert(Capability::CAP_NET_BIND_SERVICE);
    }
    needed
}

/// What of it this process does not have.
#[must_use]
pub fn missing(needed: &CapsHashSet) -> Vec<Capability> {
    let have = caps::read(None, CapSet::Permitted).unwrap_or_default();
    sorted(needed.difference(&have))
}

fn sorted<'a>(set: impl Iterator<Item = &'a Capability>) -> Vec<Capability> {
    let mut capabilities: Vec<Capability> = set.copied().collect();
    capabilities.sort_by_key(Capability::index);
    capabilities
}

/// Goes on as `cluster_user` and `cluster_group` with what this node needs. Does nothing when the user is root, or when another one
/// started this process: that one has what he was given. To be called while there is one thread.
///
/// # Errors
/// Why not, and what to do.
pub fn take_on(config: &Config, node: &NodeConfig, file: &Path) -> Result<(), IdentityError> {
    let server = &config.server;
    let name = &server.cluster_user;
    let unknown = |key, name: &str| IdentityError::Unknown { key, name: name.to_owned() };
    let user = User::from_name(name).ok().flatten().ok_or_else(|| unknown("cluster_user", name))?;
    let group = Group::from_name(&server.cluster_group).ok().flatten().ok_or_else(|| unknown("cluster_group", &server.cluster_group))?;
    if user.uid.is_root() || !geteuid().is_root() {
        return Ok(());
    }
    let directories = [&server.run_dir, &server.log_dir, &server.spool_dir];
    let refused =
        |what: &'static str| move |why: &dyn fmt::Display| IdentityError::Refused { user: name.clone(), what, why: why.to_string() };
    for directory in directories {
        hand_over(directory, user.uid, group.gid).map_err(|error| refused("handing over its directories")(&error))?;
    }
    if let Some(drop_in) = own_drop_in() {
        hand_over(&drop_in, user.uid, group.gid).map_err(|error| refused("making the directory of its drop-in")(&error))?;
    }
    change(&user, group.gid, &needed(config, node)).map_err(|(what, why)| refused(what)(&why))?;
    for directory in directories {
        // By the rights of the user alone: what a capability allows now is gone with the resource that needs it.
        if access(directory.as_path(), AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
            return Err(IdentityError::NotWritable { user: name.clone(), path: directory.clone() });
        }
    }
    fs::File::open(file).map(drop).map_err(|source| IdentityError::NotReadable { user: name.clone(), path: file.to_owned(), source })
}

/// Makes a directory, or takes one that is root's and empty, for the user. What lies in one is not given away: who knows whose it is.
fn hand_over(directory: &Path, user: Uid, group: Gid) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let is_roots = fs::symlink_metadata(directory).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == 0);
    if is_roots && fs::read_dir(directory)?.next().is_none() {
        chown(directory, Some(user.as_raw()), Some(group.as_raw()))?;
    }
    Ok(())
}

/// The directory of the drop-ins of the unit that this process belongs to.
fn own_drop_in() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let unit = groups.lines().find_map(|line| line.strip_prefix("0::"))?.rsplit('/').find(|part| part.ends_with(".service"))?;
    Path::new(DROP_INS).is_dir().then(|| Path::new(DROP_INS).join(format!("{unit}.d")))
}

fn change(user: &User, group: Gid, needed: &CapsHashSet) -> Result<(), (&'static str, String)> {
    let system = |what: &'static str| move |errno: Errno| (what, errno.desc().to_owned());
    let capable = |what: &'static str| move |error: caps::errors::CapsError| (what, error.to_string());
    let bound = caps::read(None, CapSet::Permitted).map_err(capable("reading its capabilities"))?;
    let wanted: CapsHashSet = needed.intersection(&bound).copied().collect();
    // A name from the user database has no zero byte.
    let name = CString::new(user.name.as_bytes()).map_err(|_| ("looking for its groups", "a name with a zero byte".to_owned()))?;
    let groups = getgrouplist(&name, group).map_err(system("looking for its groups"))?;
    caps::securebits::set_keepcaps(true).map_err(capable("keeping capabilities"))?;
    setgroups(&groups).map_err(system("taking its groups"))?;
    setresgid(group, group, group).map_err(system("taking its group"))?;
    setresuid(user.uid, user.uid, user.uid).map_err(system("taking its identity"))?;
    for set in [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable] {
        // What is permitted goes first: the other two must lie within it, and the effective ones are none by now.
        caps::set(None, set, &wanted).map_err(capable("keeping what its resources need"))?;
    }
    caps::set(None, CapSet::Ambient, &wanted).map_err(capable("keeping what its resources need over a reload"))?;
    caps::securebits::set_keepcaps(false).map_err(capable("keeping no more capabilities"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_what_its_resources_need_and_no_more() {
        let text = |lines: &str| {
            format!(
                "[CM_IPADDRS]\nip, 10.0.0.9, 255.255.255.0, eth0, \n[CM_SERVICES]\nweb, httpd, \n[CM_CRONTABS]\nc, /etc/drcm/c, /etc/cron.d, \n[CM_NODE]\nnodename = a\n\
                 hostname = a\nkeep_alive_ip = 10.0.0.1\n{lines}\n[CM_NODE]\nnodename = b\nhostname = b\nkeep_alive_ip = 10.0.0.2\n"
            )
        };
        let of = |lines: &str| {
            let loaded = crate::config::load_text("cm.cfg", &text(lines), crate::model::Format::Cfg).unwrap();
            sorted(needed(&loaded.config, &loaded.config.nodes[0]).iter()).iter().map(Capability::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("node_services = web"), "CAP_NET_RAW CAP_IPC_LOCK CAP_SYS_NICE");
        assert_eq!(of("node_floating_ip_addrs = ip"), "CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_SYS_NICE");
        assert_eq!(of("node_crontabs = c"), "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_NET_RAW CAP_IPC_LOCK CAP_SYS_NICE");
    }
}
