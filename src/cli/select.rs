//! Which node or group an operator means.

use std::{net::IpAddr, path::Path};

use super::CliError;
use crate::config::nearest;
use crate::model::{Config, Group, NodeConfig, NodeId, ResourceId};

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

/// Finds a group by its title (`home:nickname+nickname`), or by one of its resources: `nickname`, `kind:nickname`,
/// `home:nickname`, where only one group has it.
///
/// # Errors
/// [`CliError::UnknownGroup`] with the nearest name, [`CliError::AmbiguousGroup`] with all that are meant.
pub fn group<'a>(config: &'a Config, file: &Path, wanted: &str) -> Result<&'a Group, CliError> {
    let found = groups(config, file, wanted)?;
    match found[..] {
        [group] => Ok(group),
        _ => Err(CliError::AmbiguousGroup { name: wanted.to_owned(), titles: found.iter().map(|group| group.title(config)).collect() }),
    }
}

/// Finds every group that is meant: one at least.
///
/// # Errors
/// [`CliError::UnknownGroup`] with the nearest name.
pub fn groups<'a>(config: &'a Config, file: &Path, wanted: &str) -> Result<Vec<&'a Group>, CliError> {
    if let Some(group) = config.groups.iter().find(|group| group.title(config) == wanted) {
        return Ok(vec![group]);
    }
    let found: Vec<&Group> = config.groups.iter().filter(|group| names(config, group).iter().any(|name| name == wanted)).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let known: Vec<String> = config.groups.iter().flat_map(|group| [vec![group.title(config)], names(config, group)].concat()).collect();
    Err(CliError::UnknownGroup {
        name: wanted.to_owned(),
        file: file.to_owned(),
        nearest: nearest(wanted, known.iter().map(String::as_str)).map(str::to_owned),
        known: config.groups.iter().filter(|group| group.is_leased()).map(|group| group.title(config)).collect(),
    })
}

/// The resources of this nickname, or `kind:nickname`, whether a node lists them or not.
pub fn resources<'a>(config: &'a Config, wanted: &str) -> impl Iterator<Item = &'a ResourceId> {
    config.resources.iter().map(|resource| &resource.id).filter(move |id| id.nickname == wanted || id.to_string() == wanted)
}

/// What a group's resources are called.
fn names(config: &Config, group: &Group) -> Vec<String> {
    let home = config.name(group.home);
    let resources = group.assignments.iter().map(|assignment| &assignment.resource);
    resources
        .flat_map(|resource| {
            let nickname = &resource.nickname;
            [nickname.clone(), resource.to_string(), format!("{home}:{nickname}"), format!("{home}:{resource}")]
        })
        .collect()
}

fn is_local(wanted: &str, address: Option<IpAddr>) -> bool {
    wanted.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::fixture;

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
    fn a_group_is_found_by_its_title_and_by_what_is_in_it() {
        let config = fixture::three_nodes();
        let file = Path::new("/etc/drcm/cm.cfg");
        for wanted in ["cmnode1:cmnodef", "cmnodef", "ip:cmnodef", "cmnode1:ip:cmnodef"] {
            assert_eq!(group(&config, file, wanted).map(|group| group.title(&config)).expect(wanted), "cmnode1:cmnodef");
        }
        let error = group(&config, file, "cmnodf").expect_err("no such group").to_string();
        assert_eq!(error, "unknown group or resource \"cmnodf\" in /etc/drcm/cm.cfg: did you mean \"cmnodef\"?");
        let error = group(&config, file, "web").expect_err("two groups").to_string();
        assert_eq!(error, "\"web\" is in several groups: say which, cmnode1:web or cmnode2:web");
        let error = group(&config, file, "zzzzzzzzzzzzz").expect_err("no such group").to_string();
        assert!(error.contains("cmnode1:cmnodef, cmnode1:data"), "{error}");
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
