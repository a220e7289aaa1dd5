//! `drcm.printcfg/1`

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use super::page;
use crate::{
    cli::printcfg::{relay, without_passwords},
    config::Word as _,
    model::{Alerts, Config, Driver, Kind, NodeConfig, Options, Resource, Server, Spec},
};

/// The document of a configuration that was read from `file`. Spans are in seconds unless the key says milliseconds.
#[must_use]
pub fn printcfg(config: &Config, file: &Path) -> String {
    let groups: Vec<Value> = config
        .groups
        .iter()
        .map(|group| {
            json!({
                "id": group.id.to_string(),
                "title": group.title(config),
                "home": config.name(group.home),
                "candidates": group.candidates.iter().map(|node| config.name(*node)).collect::<Vec<_>>(),
                "resources": group.assignments.iter().map(|assignment| assignment.resource.to_string()).collect::<Vec<_>>(),
                "leased": group.is_leased(),
            })
        })
        .collect();
    page(&json!({
        "schema": "drcm.printcfg/1",
        "file": file.to_string_lossy(),
        "fingerprint": config.fingerprint.to_string(),
        "server": server(&config.server),
        "nodes": config.nodes.iter().map(|own| node(config, own)).collect::<Vec<_>>(),
        "resources": config.resources.iter().map(resource).collect::<Vec<_>>(),
        "groups": groups,
    }))
}

fn server(server: &Server) -> Value {
    let log = &server.log;
    json!({
        "udpport": server.udpport,
        "tcpport": server.tcpport,
        "keep_alive_interval_ms": millis(server.keep_alive_interval),
        "dead_node_count": server.dead_node_count,
        "bind_to_keep_alive_ip": server.bind_to_keep_alive_ip,
        "apply": server.apply,
        "quorum": server.quorum.word(),
        "no_quorum": server.no_quorum.word(),
        "failback": server.failback.word(),
        "failback_delay": seconds(server.failback_delay),
        "takeover": server.takeover.word(),
        "stop_timeout": seconds(server.stop_timeout),
        "gateway": server.gateway.map(|gateway| gateway.to_string()),
        "resource_driver": if server.script_driver { "script" } else { "native" },
        "auth_dir": server.auth_dir.to_string_lossy(),
        "run_dir": server.run_dir.to_string_lossy(),
        "log_dir": server.log_dir.to_string_lossy(),
        "spool_dir": server.spool_dir.to_string_lossy(),
        "cluster_user": server.cluster_user,
        "cluster_group": server.cluster_group,
        "sudo_command": server.sudo_command,
        "service_name": server.service_name,
        "logfile": log.file,
        "num_logs_to_keep": log.keep,
        "max_log_size": log.max_size,
        "log_queue_size": log.queue,
        "clear_log": log.clear,
        "enable_logging": log.enabled,
        "log_level": log.level,
        "debug_level": log.debug,
        "verbose_level": log.verbose,
        "bash_shell": server.bash_shell.to_string_lossy(),
        "bash_rc_file": server.bash_rc_file.as_ref().map(|file| file.to_string_lossy()),
        "cluster_umask": format!("{:03o}", server.umask),
        "alerts": alerts(&server.alerts),
        "status_listen": server.status_page.as_ref().map(|page| page.listen.to_string()),
        "status_token": server.status_page.as_ref().and_then(|page| page.token.clone()),
    })
}

fn alerts(alerts: &Alerts) -> Value {
    let webhook = alerts.webhook.as_ref();
    json!({
        "alert_command": alerts.command.as_ref().map(|path| path.to_string_lossy()),
        "hooks_dir": alerts.hooks_dir.to_string_lossy(),
        "alert_timeout": seconds(alerts.timeout),
        "alert_severity": alerts.severity.word(),
        "alert_email": alerts.email,
        "alert_text": alerts.text,
        "alert_lists": alerts.lists.as_ref().map(|path| path.to_string_lossy()),
        "alert_from": alerts.from,
        "alert_hours": alerts.hours,
        "smtp_server": relay(&alerts.smtp),
        "webhook_url": webhook.map(|webhook| webhook.url.as_str()),
        "webhook_token": webhook.and_then(|webhook| webhook.token.as_deref()),
        "webhook_ca": webhook.and_then(|webhook| webhook.authorities.as_ref()).map(|path| path.to_string_lossy()),
    })
}

fn node(config: &Config, node: &NodeConfig) -> Value {
    let checks: serde_json::Map<String, Value> =
        Kind::ALL.into_iter().map(|kind| (kind.word().to_owned(), json!(seconds(node.checks.of(kind))))).collect();
    json!({
        "name": node.name,
        "hostname": node.hostname,
        "ip": node.keep_alive_ip.to_string(),
        "active": node.active,
        "voter": node.voter,
        "transport": node.transport.word(),
        "keep_alive_interval_ms": millis(node.pace.interval),
        "dead_node_count": node.pace.count,
        "keep_services": node.keep.services,
        "keep_filesystems": node.keep.filesystems,
        "keep_applications": node.keep.applications,
        "checks": checks,
        "resources": node.primary.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "backups": node.backup.iter().map(|assignment| format!("{}:{}", config.name(assignment.home), assignment.resource)).collect::<Vec<_>>(),
    })
}

fn resource(resource: &Resource) -> Value {
    json!({
        "kind": resource.id.kind.word(),
        "nickname": resource.id.nickname,
        "spec": spec(&resource.spec),
        "script": match &resource.driver {
            Driver::Native => None,
            Driver::Script(path) => Some(path.to_string_lossy()),
        },
        "options": options(&resource.options),
    })
}

/// With the keys of cm.toml.
fn spec(spec: &Spec) -> Value {
    match spec {
        Spec::FileSystem(file_system) => json!({ "source": file_system.source, "target": file_system.target.to_string_lossy() }),
        Spec::Address(address) => json!({
            "ip": address.ip.to_string(),
            "prefix": address.prefix,
            "interface": address.interface.label.as_ref().unwrap_or(&address.interface.device),
        }),
        Spec::Service(service) => json!({ "service": service.name }),
        Spec::Application(application) => json!({
            "run_as": format!("{}:{}", application.user, application.group),
            "start": application.start,
            "stop": application.stop,
            "ensure": application.ensure,
        }),
        Spec::Crontab(crontab) => {
            json!({ "template": crontab.template.to_string_lossy(), "install_dir": crontab.install_dir.to_string_lossy() })
        }
    }
}

fn options(options: &Options) -> Value {
    json!({
        "start_timeout": seconds(options.start_timeout),
        "stop_timeout": seconds(options.stop_timeout),
        "check_timeout": seconds(options.check_timeout),
        "restart_limit": options.restart_limit,
        "restart_window": seconds(options.restart_window),
        "order": options.order,
        "mount_options": options.mount_options.as_deref().map(without_passwords),
    })
}

fn seconds(span: Duration) -> Value {
    // 60, not 60.0: most spans are whole.
    if span.subsec_nanos() == 0 { json!(span.as_secs()) } else { json!(span.as_secs_f64()) }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::json::golden, health::fixture::three_nodes};

    #[test]
    fn the_whole_configuration_and_no_password() {
        let mut config = three_nodes();
        config.resources[4].options.mount_options = Some("vers=3.0,password=hush".into());
        config.resources[1].driver = Driver::Script("/opt/own.sh".into());
        config.nodes[2].checks.services = Duration::from_millis(1500);
        let text = printcfg(&config, Path::new("/etc/drcm/cm.toml"));
        assert!(!text.contains("hush"), "{text}");
        golden("printcfg", "drcm.printcfg/1", &text);
    }
}
