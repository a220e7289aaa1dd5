//! The global resource sections: one resource at a time.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use crate::model::{
    Address, Application, Crontab, Driver, FileSystem, Interface, Kind, MountSource, Options, Resource, ResourceId, Service, Spec,
    StockScript, is_bind,
};

use super::{draft::ResourceDraft, fields::Fields, finding::Findings, keys, server, source::Span};

/// Longest interface name or label that the kernel takes, in bytes.
const LONGEST_INTERFACE: usize = 15;

/// A resource and where it is named.
pub(super) struct ResourceText {
    pub(super) kind: Kind,
    pub(super) nickname: String,
    pub(super) span: Span,
    /// `None` when it is faulty (reported): its name still counts as known.
    pub(super) resource: Option<Resource>,
}

/// Reads one resource; `None` (reported) when it has no usable nickname.
pub(super) fn read(draft: &ResourceDraft, script_driver: bool, default: &Options, findings: &mut Findings<'_>) -> Option<ResourceText> {
    const LONGEST: usize = 255;
    let (kind, nickname) = (draft.kind, &draft.nickname.text);
    let odd = |c: char| matches!(c, ':' | ',' | '/' | '@') || c.is_control();
    if nickname.is_empty() || nickname.len() > LONGEST || nickname.chars().any(odd) {
        findings.error(
            draft.nickname.span,
            format!("`{nickname}` cannot be a nickname"),
            "a nickname has 1 to 255 bytes and none of `:` `,` `/` `@`",
        );
        return None;
    }
    let errors_before = findings.has_errors();
    let resource = draft.fields.as_ref().and_then(|entries| {
        let section = format_args!("the {} `{nickname}`", keys::noun(kind));
        let fields = Fields::collect(entries, &[keys::resource(kind), keys::OPTIONS], section, findings);
        let reader = Reader { kind, nickname, span: draft.nickname.span, fields };
        let spec = reader.spec(findings);
        let driver = reader.driver(script_driver, findings);
        let options = server::options(&reader.fields, default, findings);
        Some(Resource { id: ResourceId { kind, nickname: nickname.clone() }, spec: spec?, driver: driver?, options })
    });
    debug_assert!(resource.is_some() || errors_before || findings.has_errors(), "a resource is dropped only with an error");
    Some(ResourceText { kind, nickname: nickname.clone(), span: draft.nickname.span, resource })
}

/// Whether the native driver mounts what names this script, or none: both stock scripts mount any source that it knows.
fn is_mounter(script: Option<&Path>) -> bool {
    script.is_none_or(|script| [StockScript::Nfs, StockScript::Cifs].iter().any(|stock| script == stock.path()))
}

struct Reader<'d> {
    kind: Kind,
    nickname: &'d str,
    span: Span,
    fields: Fields<'d>,
}

impl Reader<'_> {
    fn spec(&self, findings: &mut Findings<'_>) -> Option<Spec> {
        match self.kind {
            Kind::FileSystem => self.file_system(findings).map(Spec::FileSystem),
            Kind::Address => self.address(findings).map(Spec::Address),
            Kind::Service => self.service(findings).map(Spec::Service),
            Kind::Application => self.application(findings).map(Spec::Application),
            Kind::Crontab => self.crontab(findings).map(Spec::Crontab),
        }
    }

    /// The native driver stands for the stock scripts of every kind. A script of the site's own stays what it is.
    fn driver(&self, script_driver: bool, findings: &mut Findings<'_>) -> Option<Driver> {
        if self.kind == Kind::Application {
            return Some(Driver::Native);
        }
        let written = match self.fields.text("script", findings) {
            Some(_) => Some(self.fields.path("script", findings)?),
            None => None,
        };
        let source = self.fields.text("source", findings).map(|text| text.text);
        let stock = StockScript::of(self.kind, source.as_deref()).map(StockScript::path);
        if self.kind == Kind::FileSystem && !script_driver && is_mounter(written.as_deref()) {
            return Some(Driver::Native);
        }
        let Some(script) = written.clone().or_else(|| stock.clone()) else {
            // A missing source is reported by itself.
            if source.is_some() {
                findings.error(
                    self.span,
                    format!("{} has no resource script, and its source tells no type", self.what()),
                    "name a script as the last field",
                );
            }
            return None;
        };
        let is_stock = written.is_none() || written == stock;
        match self.kind {
            Kind::Address | Kind::Crontab | Kind::Service if is_stock && !script_driver => Some(Driver::Native),
            Kind::FileSystem | Kind::Address | Kind::Service | Kind::Application | Kind::Crontab => Some(Driver::Script(script)),
        }
    }

    fn file_system(&self, findings: &mut Findings<'_>) -> Option<FileSystem> {
        let source = self.required("source", findings);
        let target = self.required_path("target", findings);
        let script = self.fields.text("script", findings).map(|script| PathBuf::from(script.text));
        let (mut source, target) = (source?, target?);
        if target == Path::new("/") {
            let span = self.fields.span("target").unwrap_or(self.span);
            findings.error(span, format!("{} cannot be mounted on /", self.what()), "name a directory of its own, such as /data");
            return None;
        }
        if script.as_deref().is_some_and(|script| script.ends_with("cifs.sh")) && !source.starts_with("//") {
            findings.warning(
                self.fields.span("source").unwrap_or(self.span),
                format!("{} is mounted by cifs.sh, but its source `{source}` does not begin with //", self.what()),
                "a share is written //host/path",
            );
            if source.starts_with('/') && is_mounter(script.as_deref()) {
                source.insert(0, '/');
            }
        }
        if is_mounter(script.as_deref()) {
            let mount_options = self.fields.text("mount_options", findings).map(|text| text.text);
            self.mountable(&source, mount_options.as_deref(), findings)?;
        }
        Some(FileSystem { source, target })
    }

    /// `None` (reported) when the native driver could not make sense of a source or of its options.
    fn mountable(&self, source: &str, mount_options: Option<&str>, findings: &mut Findings<'_>) -> Option<()> {
        let parsed = match MountSource::parse(source, is_bind(mount_options)) {
            Ok(parsed) => parsed,
            Err(help) => {
                let span = self.fields.span("source").unwrap_or(self.span);
                findings.error(span, format!("{} has the source `{source}`, which is none", self.what()), help);
                return None;
            }
        };
        for word in mount_options.unwrap_or_default().split(',') {
            // Never the value: it may be a password.
            let name = word.split('=').next().unwrap_or_default().trim();
            let help = match (name, &parsed) {
                ("password" | "pass" | "credentials" | "cred", MountSource::Share { .. }) => {
                    "the credentials of a share belong into auth_dir/HOST, which only root may read"
                }
                ("loop", _) => "make the loop device beforehand (losetup) and name it as the source",
                ("remount" | "move", _) => "this is an action, no property of a mount; remove it",
                _ => continue,
            };
            // Not where the option stands: the line would be shown with it.
            findings.error(self.span, format!("{} has the mount option `{name}`", self.what()), help);
            return None;
        }
        Some(())
    }

    fn service(&self, findings: &mut Findings<'_>) -> Option<Service> {
        let name = self.required("service", findings)?;
        if name.starts_with('-') || name.contains('/') || name.chars().any(char::is_whitespace) {
            findings.error(
                self.fields.span("service").unwrap_or(self.span),
                format!("`{name}` is no name of a service"),
                "write it like httpd or httpd.service",
            );
            return None;
        }
        Some(Service { name })
    }

    fn application(&self, findings: &mut Findings<'_>) -> Option<Application> {
        let run_as = self.required("run_as", findings);
        let start = self.required("start", findings);
        let stop = self.required("stop", findings);
        let ensure = self.fields.text("ensure", findings).map(|text| text.text);
        let run_as = run_as.and_then(|run_as| {
            let parts = run_as.split_once(':').map(|(user, group)| (user.trim().to_owned(), group.trim().to_owned()));
            let good = |name: &String| !name.is_empty() && !name.starts_with('-') && !name.contains([':', '/', ' ', '\t']);
            let parts = parts.filter(|(user, group)| good(user) && good(group));
            if parts.is_none() {
                findings.error(
                    self.fields.span("run_as").unwrap_or(self.span),
                    format!("`{run_as}` is not user:group"),
                    "name the user that the application runs as and its group, such as ldm:users",
                );
            }
            parts
        });
        let (user, group) = run_as?;
        Some(Application { user, group, start: start?, stop: stop?, ensure })
    }

    fn crontab(&self, findings: &mut Findings<'_>) -> Option<Crontab> {
        let template = self.required_path("template", findings);
        let install_dir = self.required_path("install_dir", findings);
        let template = template.filter(|template| {
            let named = template.file_name().is_some() && !template.as_os_str().as_encoded_bytes().ends_with(b"/");
            if !named {
                let span = self.fields.span("template").unwrap_or(self.span);
                findings.error(span, format!("`{}` names a directory, not a crontab", template.display()), "name the file to install");
            }
            named
        });
        let (template, install_dir) = (template?, install_dir?);
        if template.parent() == Some(install_dir.as_path()) {
            let span = self.fields.span("install_dir").unwrap_or(self.span);
            let what =
                format!("`{}` lies in the directory that it would be installed in, and would be removed with its copy", template.display());
            findings.error(span, what, "keep templates elsewhere, such as in /etc/drcm/crontabs");
            return None;
        }
        Some(Crontab { template, install_dir })
    }

    fn address(&self, findings: &mut Findings<'_>) -> Option<Address> {
        let written = self.required("ip", findings);
        let interface = self.interface(findings);
        let written = written?;
        let (ip_text, prefix_text) = written.split_once('/').map_or((written.as_str(), None), |(ip, prefix)| (ip, Some(prefix)));
        let span = self.fields.span("ip").unwrap_or(self.span);
        let ip: Option<IpAddr> = ip_text.trim().parse().ok();
        if ip.is_none() {
            findings.error(
                span,
                format!("`{written}` is not an IP address, as {} needs one", self.what()),
                "write it like 192.168.1.10 or 2001:db8::10",
            );
        }
        let netmask =
            self.fields.text("netmask", findings).map(|text| text.text).or_else(|| prefix_text.map(|prefix| prefix.trim().to_owned()));
        let Some(netmask) = netmask else {
            findings.error(span, format!("{} has no netmask", self.what()), "write it like 255.255.255.0 or 24");
            return None;
        };
        let ip = ip?;
        let Some(prefix) = prefix_length(ip, &netmask) else {
            let expected = if ip.is_ipv4() { "255.255.255.0 or 24" } else { "64" };
            findings.error(
                self.fields.span("netmask").unwrap_or(span),
                format!("the netmask of {} is `{netmask}`, which is no netmask for {ip}", self.what()),
                format!("write it like {expected}"),
            );
            return None;
        };
        if !is_host(ip) {
            findings.error(span, format!("{ip} cannot be a floating address"), "use an address of a host in the interface's network");
            return None;
        }
        if let Some(role) = not_of_a_host(ip, prefix) {
            findings.warning(
                span,
                format!("{ip} is the {role} address of its network /{prefix}"),
                "use another address, or correct the netmask",
            );
        }
        Some(Address { ip, prefix, netmask, interface: interface? })
    }

    fn interface(&self, findings: &mut Findings<'_>) -> Option<Interface> {
        let text = self.required("interface", findings)?;
        let device = text.split(':').next().unwrap_or_default();
        let odd = |c: char| c == '/' || c.is_whitespace() || c.is_control() || !c.is_ascii();
        if device.is_empty()
            || text.len() > LONGEST_INTERFACE
            || text.ends_with(':')
            || device.starts_with(['-', '.'])
            || text.chars().any(odd)
        {
            findings.error(
                self.fields.span("interface").unwrap_or(self.span),
                format!("the interface of {} is `{text}`, which cannot be one", self.what()),
                format!("write it like eth0, or eth0:1 with a label; at most {LONGEST_INTERFACE} characters"),
            );
            return None;
        }
        let label = (device.len() < text.len()).then(|| text.clone());
        Some(Interface { device: device.to_owned(), label })
    }

    fn required(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<String> {
        let text = self.fields.text(key, findings);
        if text.is_none() && !self.is_list(key) {
            findings.error(self.span, format!("{} has no {key}", self.what()), "");
        }
        text.map(|text| text.text)
    }

    fn required_path(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<PathBuf> {
        self.required(key, findings)?;
        self.fields.path(key, findings)
    }

    /// A list where one value belongs was reported by itself.
    fn is_list(&self, key: &'static str) -> bool {
        self.fields.is_list(key)
    }

    fn what(&self) -> String {
        format!("the {} `{}`", keys::noun(self.kind), self.nickname)
    }
}

/// The length of a netmask, dotted or as a number; `None` when it is none for this address.
fn prefix_length(ip: IpAddr, netmask: &str) -> Option<u8> {
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    if netmask.bytes().all(|byte| byte.is_ascii_digit()) {
        return netmask.parse().ok().filter(|prefix| (1..=longest).contains(prefix));
    }
    let mask: Ipv4Addr = netmask.parse().ok().filter(|_| ip.is_ipv4())?;
    let bits = mask.to_bits();
    let prefix = bits.leading_ones();
    let contiguous = prefix == bits.count_ones() && prefix > 0;
    contiguous.then_some(u8::try_from(prefix).ok()?)
}

fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()),
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip == Ipv6Addr::LOCALHOST),
    }
}

/// What an IPv4 address is in its network, if not a host.
fn not_of_a_host(ip: IpAddr, prefix: u8) -> Option<&'static str> {
    let IpAddr::V4(ip) = ip else { return None };
    if prefix > 30 {
        return None;
    }
    let host_bits = u32::MAX >> prefix;
    match ip.to_bits() & host_bits {
        0 => Some("network"),
        bits if bits == host_bits => Some("broadcast"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netmasks() {
        let four: IpAddr = "192.168.1.10".parse().unwrap();
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        for (mask, prefix) in [("255.255.255.0", Some(24)), ("24", Some(24)), ("255.255.255.255", Some(32)), ("32", Some(32))] {
            assert_eq!(prefix_length(four, mask), prefix, "{mask}");
        }
        for wrong in ["0", "33", "255.0.255.0", "0.0.0.0", "255.255.255", "ffff::", "", "-1", "256", "999"] {
            assert_eq!(prefix_length(four, wrong), None, "{wrong}");
        }
        assert_eq!(prefix_length(six, "64"), Some(64));
        assert_eq!(prefix_length(six, "129"), None);
        assert_eq!(prefix_length(six, "255.255.255.0"), None);
    }

    #[test]
    fn addresses_that_are_no_hosts() {
        assert_eq!(not_of_a_host("10.0.0.0".parse().unwrap(), 24), Some("network"));
        assert_eq!(not_of_a_host("10.0.0.255".parse().unwrap(), 24), Some("broadcast"));
        assert_eq!(not_of_a_host("10.0.0.255".parse().unwrap(), 16), None);
        assert_eq!(not_of_a_host("10.0.0.1".parse().unwrap(), 31), None);
    }
}
