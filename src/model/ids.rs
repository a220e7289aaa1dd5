//! Identities. They are hashes of names, so that nodes whose files list things in another order still agree.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Electorate;

/// 64-bit FNV-1a over length-prefixed parts; stable across versions and architectures because it travels on the wire.
fn stable_hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut eat = |byte: u8| {
        hash ^= u64::from(byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    };
    for part in parts {
        (part.len() as u64).to_le_bytes().into_iter().for_each(&mut eat);
        part.iter().copied().for_each(&mut eat);
    }
    hash
}

macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:x})"), self.0)
            }
        }
    };
}

opaque_id! {
    /// A `[CM_NODE]`, identified by the hash of its `nodename`.
    NodeId
}
opaque_id! {
    /// One incarnation of a daemon: random, drawn at start. A restart is another boot of the same node.
    BootId
}
opaque_id! {
    /// One resource as one home node lists it (`home:kind:nickname`): the unit that must never run twice.
    AssignmentId
}
opaque_id! {
    /// The assignments that move together, identified by the hash of exactly these assignments: the same id always
    /// means the same members, on every node and in every version of the configuration.
    GroupId
}
opaque_id! {
    /// What a configuration means, as a hash; equal on nodes that run the same cluster.
    Fingerprint
}
opaque_id! {
    /// An [`Electorate`], as a hash; equal on nodes that count the same voters and remember the same of earlier ones.
    ElectorateId
}
opaque_id! {
    /// Number of one heartbeat of one boot; grows by one each. A lease is timed from the moment its tag was drawn.
    Tag
}
opaque_id! {
    /// Number of a node's list of claims; grows whenever the list changes.
    Version
}
opaque_id! {
    /// Number of a vote: grows by one with every hand-over. Its upper half counts how often the voter it belongs to had to
    /// make it anew.
    VoteNumber
}

impl Default for VoteNumber {
    fn default() -> Self {
        Self::FIRST
    }
}
opaque_id! {
    /// Number of one start or stop order for a group; reports that answer an older one are dropped.
    Generation
}

impl NodeId {
    /// The id of the node with this `nodename`.
    #[must_use]
    pub fn of(nodename: &str) -> Self {
        Self(stable_hash([b"node".as_slice(), nodename.as_bytes()]))
    }
}

impl GroupId {
    /// The id of the group made of exactly these assignments, in any order.
    #[must_use]
    pub fn of(assignments: &[AssignmentId]) -> Self {
        let mut sorted: Vec<[u8; 8]> = assignments.iter().map(|id| id.0.to_be_bytes()).collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self(stable_hash(std::iter::once(b"group".as_slice()).chain(sorted.iter().map(<[u8; 8]>::as_slice))))
    }
}

impl Fingerprint {
    /// The fingerprint of a canonical rendering of a configuration.
    #[must_use]
    pub fn of(canonical: &str) -> Self {
        Self(stable_hash([b"config".as_slice(), canonical.as_bytes()]))
    }
}

impl ElectorateId {
    /// The id of what a node counts.
    #[must_use]
    pub fn of(electorate: &Electorate) -> Self {
        let Electorate { voters, former, new } = electorate;
        let mut parts: Vec<[u8; 8]> = vec![u64::from(*new).to_be_bytes()];
        for set in std::iter::once(voters).chain(former) {
            parts.push((set.len() as u64).to_be_bytes());
            parts.extend(set.iter().map(|node| node.0.to_be_bytes()));
        }
        let parts = std::iter::once(b"electorate".as_slice()).chain(parts.iter().map(<[u8; 8]>::as_slice));
        Self(stable_hash(parts))
    }
}

impl Tag {
    /// The tag after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Default for Version {
    /// Before the first list.
    fn default() -> Self {
        Self(0)
    }
}

impl Version {
    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl VoteNumber {
    /// Of a vote that was never passed on.
    pub const FIRST: Self = Self(0);

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The first number of a vote that is made anew.
    #[must_use]
    pub fn anew(self) -> Self {
        Self(((self.0 >> 32) + 1) << 32)
    }

    /// Not below `number`, so that nothing below it is taken any more.
    #[must_use]
    pub fn rules_out_below(self, number: Self) -> bool {
        self.0.saturating_add(1) >= number.0
    }

    /// At least the last number below `number`.
    #[must_use]
    pub fn ruling_out_below(self, number: Self) -> Self {
        self.max(Self(number.0.saturating_sub(1)))
    }
}

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The five kinds of resource, in the order in which a group starts them (it stops them in reverse).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `[CM_FILESYSTEMS]`
    FileSystem,
    /// `[CM_IPADDRS]`
    Address,
    /// `[CM_SERVICES]`
    Service,
    /// `[CM_APPLICATIONS]`
    Application,
    /// `[CM_CRONTABS]`
    Crontab,
}

impl Kind {
    /// All kinds, in start order.
    pub const ALL: [Self; 5] = [Self::FileSystem, Self::Address, Self::Service, Self::Application, Self::Crontab];

    /// The word of `rstats` for this kind (a contract: scripts parse it).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::FileSystem => "filesystem",
            Self::Address => "ip",
            Self::Service => "service",
            Self::Application => "application",
            Self::Crontab => "cron",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A resource of the global sections. A nickname is unique within its kind only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceId {
    /// Its section.
    pub kind: Kind,
    /// Its nickname, as written.
    pub nickname: String,
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.nickname)
    }
}

/// A resource as one node lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Assignment {
    /// The node whose `node_*` list names the resource.
    pub home: NodeId,
    /// The resource.
    pub resource: ResourceId,
}

impl Assignment {
    /// The identity of this assignment on every node.
    #[must_use]
    pub fn id(&self) -> AssignmentId {
        AssignmentId(stable_hash([
            b"assignment".as_slice(),
            &self.home.0.to_be_bytes(),
            self.resource.kind.word().as_bytes(),
            self.resource.nickname.as_bytes(),
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_the_set_of_its_assignments() {
        let (a, b, c) = (AssignmentId(1), AssignmentId(2), AssignmentId(3));
        assert_eq!(GroupId::of(&[a, b]), GroupId::of(&[b, a, a]));
        assert_ne!(GroupId::of(&[a, b]), GroupId::of(&[a, c]));
        assert_ne!(GroupId::of(&[a]), GroupId::of(&[a, b]));
    }

    #[test]
    fn the_same_nickname_in_two_sections_is_two_assignments() {
        let home = NodeId::of("cmnode1");
        let of = |kind| Assignment { home, resource: ResourceId { kind, nickname: "web".into() } }.id();
        assert_ne!(of(Kind::Address), of(Kind::Service));
    }
}
