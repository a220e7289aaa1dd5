//! The switch of the laboratory: a bridge in a namespace of its own, and the faults that can be made on it. A node behind a
//! cut port keeps its carrier, as a server behind a dead uplink does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    process::Command,
};

use super::{LabError, Namespace, program};

/// A port of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// Where a node is.
    Node(usize),
    /// Where the client is.
    Client,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(number) => write!(f, "node{}", number + 1),
            Self::Client => f.write_str("client"),
        }
    }
}

/// What a firewall tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
}

impl Protocol {
    const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// The bridge and its faults.
pub struct Switch {
    namespace: Namespace,
    filtered: BTreeSet<(Port, Port, Protocol)>,
    blocked: BTreeSet<(Port, Port)>,
    loss: BTreeMap<(Port, Port), u16>,
}

impl Switch {
    /// A bridge without ports.
    ///
    /// # Errors
    /// [`LabError`], when namespaces are not permitted or `ip` is missing.
    pub fn create() -> Result<Self, LabError> {
        let namespace = Namespace::create("switch")?;
        namespace.ip("link add bridge type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link set bridge up\n")?;
        Ok(Self { namespace, filtered: BTreeSet::new(), blocked: BTreeSet::new(), loss: BTreeMap::new() })
    }

    /// Puts an `eth0` with these addresses into a namespace, with its other end in a port of the switch. The network is as large as that of
    /// the address that is served, as on most sites; the nodes of a large plan, which it cannot hold, have a route.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn connect(&self, port: Port, namespace: &Namespace, address: Ipv4Addr, address_6: Ipv6Addr) -> Result<(), LabError> {
        let path = namespace.path().display();
        let [a, b, c, d] = hardware_address(port)[2..] else { return Ok(()) };
        self.namespace.ip(&format!(
            "link add {port} type veth peer name eth0 address 02:77:{a:02x}:{b:02x}:{c:02x}:{d:02x} netns {path}\n\
             link set {port} master bridge\n\
             link set {port} up\n"
        ))?;
        namespace.ip(&format!(
            "link set eth0 up\n\
             address add {address}/24 dev eth0\n\
             route add 10.77.0.0/16 dev eth0 src {address}\n\
             address add {address_6}/64 dev eth0 nodad\n"
        ))
    }

    /// Puts a socket for a virtual machine into a port: a tap device that is called as the port is. The machine is to be started in
    /// [`Switch::namespace`] and to have the hardware address that [`Switch::hardware_address`] gives.
    ///
    /// # Errors
    /// [`LabError::Command`], also where the kernel has no tap devices.
    pub fn socket(&self, port: Port) -> Result<(), LabError> {
        self.namespace.ip(&format!(
            "tuntap add dev {port} mode tap\n\
             link set {port} master bridge\n\
             link set {port} up\n"
        ))
    }

    /// Where the bridge and its ports are.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The hardware address that whatever is behind a port must have, as text.
    #[must_use]
    pub fn hardware_address(port: Port) -> String {
        hardware_address(port).map(|byte| format!("{byte:02x}")).join(":")
    }

    /// Cuts a port off from all others. The node keeps its carrier.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn cut(&self, port: Port) -> Result<(), LabError> {
        self.namespace.ip(&format!("link set {port} nomaster\n"))
    }

    /// Takes a cut back.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn join(&self, port: Port) -> Result<(), LabError> {
        self.namespace.ip(&format!("link set {port} master bridge\n"))
    }

    /// Pulls the cable of a port: the carrier goes.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn unplug(&self, port: Port) -> Result<(), LabError> {
        self.namespace.ip(&format!("link set {port} down\n"))
    }

    /// Puts the cable back.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn plug(&self, port: Port) -> Result<(), LabError> {
        self.namespace.ip(&format!("link set {port} up\n"))
    }

    /// Drops what goes from one port to another; the way back stays open.
    ///
    /// # Errors
    /// [`LabError::Command`]; [`LabError::Missing`] without nftables.
    pub fn block(&mut self, from: Port, to: Port) -> Result<(), LabError> {
        self.blocked.insert((from, to));
        self.apply()
    }

    /// Drops what goes between two ports, both ways.
    ///
    /// # Errors
    /// As [`Switch::block`].
    pub fn part(&mut self, one: Port, other: Port) -> Result<(), LabError> {
        self.blocked.insert((one, other));
        self.blocked.insert((other, one));
        self.apply()
    }

    /// Drops what goes between two ports by one protocol, both ways, as a firewall does.
    ///
    /// # Errors
    /// As [`Switch::block`].
    pub fn filter(&mut self, one: Port, other: Port, protocol: Protocol) -> Result<(), LabError> {
        self.filtered.insert((one, other, protocol));
        self.filtered.insert((other, one, protocol));
        self.apply()
    }

    /// Loses this share of what goes from one port to another, at random.
    ///
    /// # Errors
    /// As [`Switch::block`].
    pub fn lose(&mut self, from: Port, to: Port, permille: u16) -> Result<(), LabError> {
        self.loss.insert((from, to), permille);
        self.apply()
    }

    /// Takes back every block, filter and loss (cuts stay).
    ///
    /// # Errors
    /// As [`Switch::block`].
    pub fn heal(&mut self) -> Result<(), LabError> {
        self.blocked.clear();
        self.filtered.clear();
        self.loss.clear();
        self.apply()
    }

    fn apply(&self) -> Result<(), LabError> {
        let mut command = Command::new(program("nft", "nftables")?);
        command.args(["-f", "-"]);
        self.namespace.feed(command, &rules(&self.blocked, &self.filtered, &self.loss))
    }
}

/// The whole rule set, replacing the one before in a single transaction.
fn rules(blocked: &BTreeSet<(Port, Port)>, filtered: &BTreeSet<(Port, Port, Protocol)>, loss: &BTreeMap<(Port, Port), u16>) -> String {
    let mut text = String::from(
        "add table bridge faults\ndelete table bridge faults\ntable bridge faults {\nchain crossing {\n\
         type filter hook forward priority 0; policy accept;\n",
    );
    for (from, to) in blocked {
        text += &format!("iifname \"{from}\" oifname \"{to}\" drop\n");
    }
    for (from, to, protocol) in filtered {
        text += &format!("iifname \"{from}\" oifname \"{to}\" ip protocol {} drop\n", protocol.word());
    }
    for ((from, to), permille) in loss {
        text += &format!("iifname \"{from}\" oifname \"{to}\" numgen random mod 1000 < {permille} drop\n");
    }
    text + "}\n}\n"
}

/// The hardware address of whatever is behind a port.
pub(super) fn hardware_address(port: Port) -> [u8; 6] {
    match port {
        Port::Node(number) => {
            let number = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
            [0x02, 0x77, 0, 0, number[0], number[1]]
        }
        Port::Client => [0x02, 0x77, 0, 1, 0, 0],
    }
}

/// Which port has this hardware address.
pub(super) fn port_of(address: [u8; 6]) -> Option<Port> {
    match address {
        [0x02, 0x77, 0, 0, high, low] => Some(Port::Node(usize::from(u16::from_be_bytes([high, low])))),
        [0x02, 0x77, 0, 1, 0, 0] => Some(Port::Client),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_names_its_port() {
        for port in [Port::Node(0), Port::Node(1), Port::Node(300), Port::Client] {
            assert_eq!(port_of(hardware_address(port)), Some(port));
        }
        assert_eq!(port_of([0; 6]), None);
        assert_eq!(Switch::hardware_address(Port::Node(2)), "02:77:00:00:00:02");
    }

    #[test]
    fn the_rules_replace_each_other_whole() {
        let text = rules(
            &BTreeSet::from([(Port::Node(0), Port::Client)]),
            &BTreeSet::from([(Port::Node(0), Port::Node(1), Protocol::Udp)]),
            &BTreeMap::from([((Port::Node(1), Port::Node(2)), 100)]),
        );
        assert!(text.contains("iifname \"node1\" oifname \"node2\" ip protocol udp drop\n"));
        assert!(text.starts_with("add table bridge faults\ndelete table bridge faults\n"));
        assert!(text.contains("iifname \"node1\" oifname \"client\" drop\n"));
        assert!(text.contains("iifname \"node2\" oifname \"node3\" numgen random mod 1000 < 100 drop\n"));
    }
}
