//! The decision: who owns which group. Pure: events and the time go in, outputs come out; it never does IO, never reads a
//! clock, never draws a random number, and iterates ordered collections only, so that every run can be repeated.
//!
//! A group that may run on one node only is a lease, granted by a majority of voters for T at a time. Each node publishes a
//! numbered list of its claims and renews all of them with every heartbeat; voters grant what no other holder has.
//!
//! - [`voter`](self) side: a [`Voter`](voter::Voter) keeps at most one grant per assignment and answers heartbeats; it is one
//!   vote, and [`votes`] says where each vote is: a node that leaves lends it to another.
//! - candidate side: a [`Tenure`](tenure::Tenure) per group walks from down over asking to running and back.
//! - [`member`] knows the peers: who is alive, what they claim, whether they see us.
//! - [`electorate`] says whose votes count while the voters are being changed.
//! - [`relay`] is what voters tell nodes that are no voters about each other.
//! - [`verdict`] decides, from facts alone, whether this node asks for a group now or what it waits for.
//! - [`wishes`] is what operators want, replicated.
//! - [`Node`] ties them together; its [`Memory`] lets another process take its place.

mod electorate;
mod member;
mod memory;
mod node;
mod relay;
mod tenure;
mod verdict;
mod view;
mod voter;
mod votes;
mod wishes;

pub use memory::{Memory, Stale};
pub use node::{Draft, Node, NotNow, Start};
pub use tenure::Phase;
pub use verdict::Wait;
pub use view::{GroupView, View, WishView};

/// Most entries of a claims list in one message, and most refusals in one ack: keeps every message below a datagram.
const ENTRIES_PER_MESSAGE: usize = 36;
/// Most entries of a whole claims list that a peer may publish.
const ENTRIES_PER_LIST: usize = 100_000;
/// Most assignments in one definition message.
const ASSIGNMENTS_PER_DEFINITION: usize = 120;
/// Most wishes in one message: the longest takes 63 bytes.
const WISHES_PER_MESSAGE: usize = 20;
