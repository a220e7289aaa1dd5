//! Who else on this host looks after the interfaces of floating addresses, and would take them away.

use std::{fs, path::Path};

use super::finding::{Finding, Severity};

/// Where systemd-networkd writes what it does with each link.
const NETWORKD: &str = "/run/systemd/netif/links";
/// Where NetworkManager does.
const NETWORK_MANAGER: &str = "/run/NetworkManager/devices";

/// A warning for each manager of this interface.
pub(super) fn check(device: &str, index: u32, what: &str, findings: &mut Vec<Finding>) {
    let read = |directory: &str| fs::read_to_string(Path::new(directory).join(index.to_string())).unwrap_or_default();
    if networkd_manages(&read(NETWORKD)) {
        findings.push(
            Finding::new(
                Severity::Warning,
                format!(
                    "{what}: systemd-networkd manages {device} and removes addresses that it does not know whenever it sets it up anew"
                ),
            )
            .help("set KeepConfiguration=yes in its .network file; an address that is taken away is put back, with a gap of milliseconds"),
        );
    }
    if network_manager_manages(&read(NETWORK_MANAGER)) {
        findings.push(
            Finding::new(
                Severity::Warning,
                format!("{what}: NetworkManager manages {device} and removes addresses that it does not know whenever its connection is activated anew"),
            )
            .help(format!(
                "have it leave the interface alone (`nmcli device set {device} managed no`, unmanaged-devices in its configuration); an address that is \
                 taken away is put back, with a gap of milliseconds"
            )),
        );
    }
}

fn networkd_manages(state: &str) -> bool {
    value(state, "ADMIN_STATE").is_some_and(|state| matches!(state, "configured" | "configuring" | "pending" | "initialized"))
}

fn network_manager_manages(state: &str) -> bool {
    value(state, "managed").is_some_and(|managed| matches!(managed, "true" | "full" | "yes" | "1"))
}

/// The value of a key in a file of assignments.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().filter_map(|line| line.split_once('=')).find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_manages_a_link_is_read_from_its_state() {
        assert!(networkd_manages("# private data\nADMIN_STATE=configured\nOPER_STATE=routable\n"));
        assert!(!networkd_manages("ADMIN_STATE=unmanaged\n") && !networkd_manages(""));
        assert!(network_manager_manages("[device]\nmanaged=true\nconnection-uuid=5fb06bd0\n"));
        assert!(!network_manager_manages("[device]\nmanaged=false\n") && !network_manager_manages("[device]\n"));
    }
}
