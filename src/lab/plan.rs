//! What a laboratory's cluster consists of, and the one configuration file that says so.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

/// The floating address of every plan.
pub(super) const SERVED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// Where the client is.
pub(super) const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 200);
/// Where the client is, too.
pub(super) const CLIENT_ADDRESS_6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 200);

/// Nodes that have 10.77.0.1 and on; the next have 10.77.1.1 and on.
const NETWORK: usize = 90;

/// A cluster to be built.
#[derive(Clone, Debug)]
pub struct Plan {
    /// h.
    pub keep_alive_interval: Duration,
    /// Heartbeats to miss before a node counts as dead.
    pub dead_node_count: u32,
    /// How long home must be well before a resource goes back.
    pub failback_delay: Duration,
    /// More lines for `[CM_SERVER]`.
    pub server: String,
    /// More lines for `[CM_IPADDRS]`, and more sections.
    pub sections: String,
    /// The lines of the nodes list the floating address themselves.
    pub own_lists: bool,
    /// The nodes. The first is home of the floating address, the others are its backups in turn.
    pub nodes: Vec<NodePlan>,
}

/// A node to be built.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// `nodename`; the host name is the same with `.lab` behind it.
    pub name: String,
    /// More lines for its `[CM_NODE]`.
    pub lines: String,
}

impl Plan {
    /// This many nodes, `node1` and on, with the documented times: h = 100 ms, 15 missed heartbeats.
    #[must_use]
    pub fn of(nodes: usize) -> Self {
        Self {
            keep_alive_interval: Duration::from_millis(100),
            dead_node_count: 15,
            failback_delay: Duration::from_secs(2),
            server: String::new(),
            sections: String::new(),
            own_lists: false,
            nodes: (1..=nodes).map(|number| NodePlan { name: format!("node{number}"), lines: String::new() }).collect(),
        }
    }

    /// The floating address of the plan.
    #[must_use]
    pub fn served() -> Ipv4Addr {
        SERVED
    }

    /// Where the client is.
    #[must_use]
    pub fn client_address() -> Ipv4Addr {
        CLIENT_ADDRESS
    }

    /// The keep-alive address of a node.
    #[must_use]
    pub fn address(node: usize) -> Ipv4Addr {
        let part = |number: usize| u8::try_from(number).unwrap_or(u8::MAX);
        Ipv4Addr::new(10, 77, part(node / NETWORK), part(node % NETWORK + 1))
    }

    /// The IPv6 address of a node.
    #[must_use]
    pub fn address_6(node: usize) -> Ipv6Addr {
        // Beyond the first few, away from what else is there.
        let part = if node < NETWORK { node + 1 } else { 0x1000 + node };
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::try_from(part).unwrap_or(u16::MAX))
    }

    /// T.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.keep_alive_interval * self.dead_node_count
    }

    /// The text of cm.cfg, with all its directories under `directory`.
    #[must_use]
    pub fn text(&self, directory: &Path) -> String {
        let directory = directory.display();
        let mut text = format!(
            "[CM_SERVER]\n\
             keep_alive_interval = {}\n\
             dead_node_count = {}\n\
             failback_delay = {}\n\
             auth_dir = {directory}/auth\n\
             run_dir = {directory}/run\n\
             log_dir = {directory}/log\n\
             spool_dir = {directory}/spool\n\
             {}\n\
             [CM_IPADDRS]\n\
             # nickname, floating address, netmask, interface, script\n\
             service, {SERVED}, 255.255.255.0, eth0, /etc/drcm/resources/ipv4addr.sh\n\
             {}\n",
            self.keep_alive_interval.as_millis(),
            self.dead_node_count,
            self.failback_delay.as_secs(),
            with_directory(&self.server, &directory.to_string()),
            with_directory(&self.sections, &directory.to_string()),
        );
        let home = self.nodes.first().map_or("", |node| node.name.as_str());
        for (number, node) in self.nodes.iter().enumerate() {
            let service = match (self.own_lists, number) {
                (true, _) => String::new(),
                (false, 0) => "node_floating_ip_addrs = service".to_owned(),
                (false, _) => format!("node_backup_floating_ip_addrs = {home}:service"),
            };
            text += &format!(
                "\n[CM_NODE]\nnodename = {name}\nhostname = {name}.lab\nkeep_alive_ip = {address}\n{service}\n{lines}\n",
                name = node.name,
                address = Self::address(number),
                lines = with_directory(&node.lines, &directory.to_string()),
            );
        }
        text
    }
}

/// A plan is written before its directory is known: `@` stands for it.
fn with_directory(lines: &str, directory: &str) -> String {
    lines.replace('@', directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_node_is_home_and_the_others_back_it_up() {
        let text = Plan::of(3).text(Path::new("/somewhere"));
        assert_eq!(text.matches("[CM_NODE]").count(), 3);
        assert_eq!(text.matches("node_floating_ip_addrs = service").count(), 1);
        assert_eq!(text.matches("node_backup_floating_ip_addrs = node1:service").count(), 2);
        assert!(text.contains("run_dir = /somewhere/run\n"));
        assert!(text.contains("keep_alive_ip = 10.77.0.3\n"));
    }

    #[test]
    fn an_at_sign_stands_for_the_directory() {
        let mut plan = Plan::of(1);
        plan.nodes[0].lines = "node_crontabs = @/x".into();
        assert!(plan.text(Path::new("/d")).contains("node_crontabs = /d/x\n"));
    }
}
