//! Text to [`Config`]: cm.cfg and cm.toml, what is wrong in them and where; the auth files; the check of a configuration
//! against the host.
//!
//! Owns the formats, the defaults, the findings and their display. Never starts, stops or sends anything, and writes
//! nothing but the template that `--check-config` puts where a configuration is missing.

mod advice;
mod alerts;
mod auth;
mod check;
mod cm_cfg;
mod cm_toml;
mod conflicts;
mod convert;
mod draft;
mod edited;
mod fields;
mod finding;
mod fingerprint;
mod group;
mod interfaces;
mod keepalived;
mod keys;
mod mounts;
mod node;
mod paces;
mod resolve;
mod resource;
mod schema;
mod server;
mod source;
mod status_page;
mod template;
mod words;

use std::{path::Path, sync::Arc};

use crate::model::{Config, StockScript};

pub use alerts::{is_hook_name, mail_address, program_fault};
pub use auth::{AuthFault, AuthKey, auth_faults, load_auth, load_auth_for, secret};
pub use check::{CheckReport, check, this_node};
pub use convert::{ConvertError, convert};
pub use finding::{Finding, Place, Report, Severity, render};
pub use group::group;
pub use keepalived::{Converted, KeepalivedFile, from_keepalived};
pub use keys::{Format, nearest};
pub use resolve::MAX_NODES;
pub use schema::{Key, Section, Takes, Without, sections};
pub use server::{default_options, default_server};
pub use source::MAX_FILE;
pub use template::{CFG_TEMPLATE, TOML_TEMPLATE, write_template};
pub use words::Word;

use draft::Draft;
use finding::Findings;
use source::Source;

/// A configuration that can be used, and what was found besides: warnings and information, in file order.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Arc<Config>,
    /// Warnings and information.
    pub findings: Vec<Finding>,
}

/// Reads a configuration file: TOML when its name ends in `.toml`, else the format of cm.cfg.
///
/// # Errors
/// All faults of the file at once, or the one that keeps it from being read at all.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    let (text, format) = read(path)?;
    load_text(&path.display().to_string(), &text, format)
}

/// Makes of a text what [`load`] would make of a file with it; `name` is what findings call it.
///
/// # Errors
/// All faults of the text at once.
pub fn load_text(name: &str, text: &str, format: Format) -> Result<Loaded, Report> {
    let mut loaded = match format {
        Format::Toml => parse_toml(name, text),
        Format::Cfg => parse_cfg(name, text),
    }?;
    edited::apply(&mut loaded, Path::new(StockScript::DIRECTORY));
    Ok(loaded)
}

/// The text of a configuration file, and its format by its name.
///
/// # Errors
/// What keeps it from being read.
pub fn read(path: &Path) -> Result<(String, Format), Report> {
    Ok((source::read(path)?, format_of(path)))
}

/// The format of a file of this name.
#[must_use]
pub fn format_of(path: &Path) -> Format {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) { Format::Toml } else { Format::Cfg }
}

/// Reads the text of a cm.cfg; `name` is what findings call it.
///
/// # Errors
/// All faults of the text at once.
pub fn parse_cfg(name: &str, text: &str) -> Result<Loaded, Report> {
    parse(name, Format::Cfg, text, |source, findings| Some(cm_cfg::read(source, findings)))
}

/// Reads the text of a cm.toml; `name` is what findings call it.
///
/// # Errors
/// All faults of the text at once.
pub fn parse_toml(name: &str, text: &str) -> Result<Loaded, Report> {
    parse(name, Format::Toml, text, cm_toml::read)
}

fn parse(name: &str, format: Format, text: &str, read: impl FnOnce(&Source, &mut Findings<'_>) -> Option<Draft>) -> Result<Loaded, Report> {
    let source = Source::new(name, format, text);
    let mut findings = Findings::new(&source);
    let Some(draft) = read(&source, &mut findings) else { return Err(Report { findings: findings.finish() }) };
    let settings = server::read(&draft.server, &mut findings);
    let nodes = draft.nodes.iter().filter_map(|node| node::read(node, settings.server.pace(), &mut findings)).collect();
    let resources = draft
        .resources
        .iter()
        .filter_map(|resource| resource::read(resource, settings.server.script_driver, &settings.options, &mut findings))
        .collect();
    let config = resolve::resolve(settings, nodes, resources, &mut findings);
    let failed = findings.has_errors();
    let findings = findings.finish();
    if failed { Err(Report { findings }) } else { Ok(Loaded { config: Arc::new(config), findings }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two-node example of the documentation, put together from its parts, typing mistake included.
    const README: &str = "\u{feff}# Global configuration\r
[CM_SERVER]\r
udpport = 53897\r
tcpport = 53897\r
bind_to_keep_alive_ip = 1\r
dead_node_count = 60;\r
\r
[CM_CRONTABS]
system, /etc/drcm/crontabs/system_crons, /etc/cron.d, /etc/drcm/resources/crontab.sh
user, /etc/drcm/crontabs/user_crons, /etc/cron.d, /etc/drcm/resources/crontab.sh
apps1, /etc/drcm/crontabs/apps_package1, /etc/cron.d, /etc/drcm/resources/crontab.sh
apps2, /etc/drcm/crontabs/apps_package2, /etc/cron.d, /etc/drcm/resources/crontab.sh
[CM_IPADDRS]
cmnodef, 192.168.122.180, 255.255.255.0, eth0:1, /etc/drcm/resources/ipv4addr.sh
[CM_SERVICES]
web, httpd, /etc/drcm/resources/service.sh
[CM_APPLICATIONS]
ldm, ldm:users, ~/util/ldm_ensure.sh, ldmadmin stop, ~/util/ldm_ensure.sh
[CM_FILESYSTEMS]
data, 192.168.122.1:/data, /data, /etc/drcm/resources/nfs.sh
archive, 192.168.122.1:/archive, /archive, /etc/drcm/resources/nfs.sh
webshare, /192.168.122.225/users/web, /home/users/web, /etc/drcm/resources/cifs.sh
[CM_NODE]
nodename = cmnode1  # This can be any name
hostname = cmnode1.example.com # uname -n
keep_alive_ip = 192.168.122.183
ipapddrs_check = 30
node_crontabs = user,system,apps1
node_backup_crontabs = cmnode2:apps2
node_floating_ip_addrs = cmnodef
node_services = web
node_filesystems = data,arhive,webshare
node_applications = ldm
[CM_NODE]
nodename = cmnode2
hostname = cmnode2.example.com
keep_alive_ip = 192.168.122.184
node_crontabs = apps2
node_backup_crontabs = cmnode1:user,cmnode1:system
node_backup_floating_ip_addrs = cmnode1:cmnodef
node_services = web
node_filesystems = data,arhive,webshare
node_applications = ldm
";

    #[test]
    fn the_documented_example_has_its_typing_mistake_reported() {
        let report = parse_cfg("cm.cfg", README).unwrap_err();
        let lines: Vec<String> = report.errors().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 2, "{report}");
        assert!(lines[0].starts_with("ERROR: cm.cfg:32:25: node cmnode1 lists the file system `arhive`"), "{}", lines[0]);
        assert!(lines[0].contains("nearest: `archive`") && lines[0].contains("^^^^^^"), "{}", lines[0]);
    }

    #[test]
    fn the_documented_example_without_it_means_this() {
        let loaded = parse_cfg("cm.cfg", &README.replace("arhive", "archive")).unwrap();
        let config = &loaded.config;
        assert_eq!(config.server.dead_node_count, 60);
        assert_eq!(config.lease(), std::time::Duration::from_secs(6));
        assert_eq!(config.nodes[0].checks.addresses, std::time::Duration::from_secs(30));
        let titles: Vec<String> = config.groups.iter().map(|group| group.title(config)).collect();
        assert_eq!(
            titles,
            [
                "cmnode1:data",
                "cmnode1:archive",
                "cmnode1:webshare",
                "cmnode1:cmnodef+system+user",
                "cmnode1:web",
                "cmnode1:ldm",
                "cmnode1:apps1",
                "cmnode2:data",
                "cmnode2:archive",
                "cmnode2:webshare",
                "cmnode2:web",
                "cmnode2:ldm",
                "cmnode2:apps2",
            ]
        );
        // The stray `;` and the CIFS source.
        assert_eq!(loaded.findings.iter().map(|finding| finding.severity).collect::<Vec<_>>(), [Severity::Warning; 2]);
    }
}
