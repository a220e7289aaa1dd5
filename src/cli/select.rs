//! Which node an operator means.

use std::{net::IpAddr, path::Path};

use super::CliError;
use crate::config::nearest;
use crate::model::{Config, NodeConfig, NodeId};

/// Finds a node by nodename, hostname, address, or `localhost` (`here`, when this machine is a node).
///
/// # Errors
/// [`CliError::UnknownNode`] with the nearest name.
pub fn node<'a>(config: &'a Config, file: &Path, here: Option<NodeId>, wanted: &str) -> Result<&'a NodeConfig, CliError> {
    let address: Option<IpAddr> = wanted.parse().ok();
    let by_name = config.nodes.iter().find(|node| node.name == wanted);
    let found = by_name
        .or_else(|| config.nodes.iter().find(|node| node.hostname.eq_ignore_ascii_case(wanted) || node.name.eq_ignore_ascii_case(wanted)))
        .or_else(|| address.and_then(|address| config.nodes.iter().find(|node| node.keep_alive_ip == address)))
        .or_else(|| is_local(wanted, address).then_some(here).flatten().and_then(|id| config.node(id)));
    found.ok_or_else(|| CliError::UnknownNode {
        name: wanted.to_owned(),
        file: file.to_owned(),
        nearest: nearest(wanted, config.nodes.iter().flat_map(|node| [node.name.as_str(), node.hostname.as_str()])).map(str::to_owned),
        known: config.nodes.iter().map(|node| node.name.clone()).collect(),
    })
}

fn is_local(wanted: &str, address: Option<IpAddr>) -> bool {
    wanted.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fixture;

    #[test]
    fn a_node_is_found_by_each_of_its_names() {
        let config = fixture::three_nodes();
        let file = Path::new("/etc/drcm/cm.cfg");
        let second = NodeId::of("cmnode2");
        for wanted in ["cmnode2", "CMNODE2", "cmnode2.example.com", "10.0.0.2", "localhost", "127.0.0.1"] {
            assert_eq!(node(&config, file, Some(second), wanted).map(|node| node.id).expect(wanted), second, "{wanted}");
        }
    }

    #[test]
    fn an_unknown_node_comes_with_the_nearest_name() {
        let config = fixture::three_nodes();
        let file = Path::new("/etc/drcm/cm.cfg");
        let error = node(&config, file, None, "cmnod2").expect_err("no such node").to_string();
        assert_eq!(error, "unknown node \"cmnod2\" in /etc/drcm/cm.cfg: did you mean \"cmnode2\"?");
        let error = node(&config, file, None, "localhost").expect_err("this machine is no node").to_string();
        assert!(error.contains("cmnode1, cmnode2, cmnode3"), "{error}");
    }
}
