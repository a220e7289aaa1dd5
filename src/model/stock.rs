//! The resource scripts that come with the package. The daemon does their work itself; they are run where the administrator
//! changed one, asks for scripts, or the machine lacks what the daemon needs.

use std::path::{Path, PathBuf};

use super::{Kind, Spec};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StockScript {
    /// Floating addresses.
    Address,
    /// Crontabs.
    Crontab,
    /// Services.
    Service,
    /// NFS mounts.
    Nfs,
    /// CIFS mounts.
    Cifs,
}

impl StockScript {
    /// Where they are.
    pub const DIRECTORY: &str = "/etc/drcm/resources";

    /// The script for a kind and, for file systems, a source; none for applications and for sources that tell no type.
    #[must_use]
    pub fn of(kind: Kind, source: Option<&str>) -> Option<Self> {
        match kind {
            Kind::Address => Some(Self::Address),
            Kind::Crontab => Some(Self::Crontab),
            Kind::Service => Some(Self::Service),
            Kind::FileSystem => match source {
                Some(source) if source.starts_with("//") => Some(Self::Cifs),
                Some(source) if source.contains(":/") => Some(Self::Nfs),
                Some(_) | None => None,
            },
            Kind::Application => None,
        }
    }

    /// The script for a resource.
    #[must_use]
    pub fn of_spec(spec: &Spec) -> Option<Self> {
        match spec {
            Spec::FileSystem(file_system) => Self::of(Kind::FileSystem, Some(&file_system.source)),
            Spec::Address(_) => Some(Self::Address),
            Spec::Service(_) => Some(Self::Service),
            Spec::Crontab(_) => Some(Self::Crontab),
            Spec::Application(_) => None,
        }
    }

    /// Its file name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "ipv4addr.sh",
            Self::Crontab => "crontab.sh",
            Self::Service => "service.sh",
            Self::Nfs => "nfs.sh",
            Self::Cifs => "cifs.sh",
        }
    }

    /// Where it is installed.
    #[must_use]
    pub fn path(self) -> PathBuf {
        Path::new(Self::DIRECTORY).join(self.name())
    }

    /// Its content as shipped: whatever differs is somebody's work.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Address => include_str!("../../compat-scripts/resources/ipv4addr.sh"),
            Self::Crontab => include_str!("../../compat-scripts/resources/crontab.sh"),
            Self::Service => include_str!("../../compat-scripts/resources/service.sh"),
            Self::Nfs => include_str!("../../compat-scripts/resources/nfs.sh"),
            Self::Cifs => include_str!("../../compat-scripts/resources/cifs.sh"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_of_file_systems_follow_the_source() {
        assert_eq!(StockScript::of(Kind::FileSystem, Some("//host/share")), Some(StockScript::Cifs));
        assert_eq!(StockScript::of(Kind::FileSystem, Some("host:/data")), Some(StockScript::Nfs));
        assert_eq!(StockScript::of(Kind::FileSystem, Some("/dev/sdb1")), None);
    }
}
