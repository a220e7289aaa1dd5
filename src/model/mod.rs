//! The shared words of the project: identities, time, configuration, messages, events, actions, reports.
//!
//! Owns the data every room speaks of. Never does IO and decides nothing; behaviour here is limited to
//! construction, ordering, display and arithmetic of the types themselves.

mod config;
mod electorate;
mod event;
mod file_system;
mod ids;
mod incident;
mod message;
mod operator;
mod report;
mod stock;
mod time;
mod vote;

pub use config::{
    Address, Alerts, Application, CheckIntervals, Config, Crontab, Driver, Failback, FileSystem, Format, Group, Interface, Keep,
    LogSettings, NoQuorum, NodeConfig, Options, Pace, Quorum, Relay, Resource, Server, Service, Spec, StatusPage, Takeover, Transport,
    Webhook,
};
pub use electorate::Electorate;
pub use event::{Action, AskReason, Checks, Decision, Event, Order, Outcome, Output, StopReason, VoteNews, Wake};
pub use file_system::{MountSource, is_bind};
pub use ids::{
    Assignment, AssignmentId, BootId, ElectorateId, Fingerprint, Generation, GroupId, Kind, NodeId, ResourceId, Tag, Version, VoteNumber,
};
#[cfg(test)]
pub use incident::example;
pub use incident::{Cause, EventDocument, EventPage, EventQuery, EventsDocument, Incident, IncidentKind, Severity, Timeline};
pub use message::{
    Ack, Claims, Definition, Digest, Entry, Fact, Heartbeat, Late, Message, NodeState, Refusal, RefusalReason, Relayed, Roster, Stance,
    Want, WantRelayed, WantRoster,
};
pub use operator::{Command, Lasts, Obstacle, Outlook, Record, Stamp, Subject, Unacceptable, Wish, WishDigest, Wishes};
pub use report::{
    Activity, Apply, ClusterReport, DrillReport, GroupReport, MemberReport, NATIVE, NodeReport, Problem, QuorumReport, Request,
    ResourceReport, Response, Right, WishReport,
};
pub use stock::StockScript;
pub use time::{Time, in_words};
pub use vote::{Ballot, HeldVote, PassVote, PassedGrant, VoteAbsent, VoteAck, VoteNote, VoteNotes, VoteTaken, WantVote};
