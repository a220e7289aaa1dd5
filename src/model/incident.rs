//! What operators may want to know of, in one shape for the journal, hooks, mails and programs.

use serde::{Deserialize, Serialize};

/// Longest name of a group that is repeated, in bytes: it names every resource of the group.
const LONGEST_TITLE: usize = 200;
/// Longest sentence, in bytes.
const LONGEST_TEXT: usize = 600;

/// Something that happened, as one node saw it. Nodes and groups are named, not numbered: it outlives the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Grows by one with each on that node.
    pub number: u64,
    /// When, in milliseconds since 1970 by that node's clock.
    pub at_ms: i64,
    /// When, in milliseconds since that machine booted: nobody can set this clock.
    pub boot_ms: u64,
    /// The `nodename` of the node that saw it.
    pub node: String,
    /// What.
    #[serde(rename = "event")]
    pub kind: IncidentKind,
    /// How bad it is.
    pub severity: Severity,
    /// The node that it is about, where it is about one.
    #[serde(default)]
    pub about: Option<String>,
    /// The group that it is about.
    #[serde(default)]
    pub group: Option<String>,
    /// The resource that it is about, `kind:nickname`.
    #[serde(default)]
    pub resource: Option<String>,
    /// All of it in a sentence.
    pub text: String,
    /// How a group came to run here.
    #[serde(default)]
    pub timeline: Option<Timeline>,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub took_ms: Option<u64>,
    /// This node tells people of it; others that see the same do not.
    pub tells: bool,
}

/// An [`Incident`] for programs: one JSON document, `drcm.event/1`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EventDocument<'a> {
    schema: &'static str,
    #[serde(flatten)]
    incident: &'a Incident,
}

/// Events of several nodes for programs: `drcm.events/1`.
#[derive(Clone, Debug, Serialize)]
pub struct EventsDocument<'a> {
    schema: &'static str,
    nodes: Vec<Answered<'a>>,
    events: Vec<EventDocument<'a>>,
}

/// Whether a node answered.
#[derive(Clone, Debug, Serialize)]
struct Answered<'a> {
    name: &'a str,
    answered: bool,
}

impl<'a> EventsDocument<'a> {
    /// What was chosen of these pages.
    #[must_use]
    pub fn new(config: &'a super::Config, pages: &[EventPage], chosen: &[&'a Incident]) -> Self {
        let answered = |id| pages.iter().any(|page| page.node == id && page.answered);
        let nodes = config.nodes.iter().map(|node| Answered { name: &node.name, answered: answered(node.id) });
        Self { schema: "drcm.events/1", nodes: nodes.collect(), events: chosen.iter().map(|event| event.document()).collect() }
    }
}

impl Incident {
    /// As documented for programs.
    #[must_use]
    pub const fn document(&self) -> EventDocument<'_> {
        EventDocument { schema: "drcm.event/1", incident: self }
    }

    /// A group's title as incidents repeat it.
    #[must_use]
    pub fn title(title: &str) -> String {
        cut(title, LONGEST_TITLE)
    }

    /// A sentence as incidents hold it.
    #[must_use]
    pub fn sentence(text: &str) -> String {
        cut(text, LONGEST_TEXT)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The normal course of things.
    Info,
    /// The cluster helped itself, or needs a look.
    Warning,
    /// Something does not run, and will not without help.
    Critical,
}

impl Severity {
    /// The word in events and in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// The daemon of this node has started.
    Started,
    /// It leaves.
    Leaving,
    /// Another configuration is in force, or was refused.
    Reload,
    /// Another node is heard.
    NodeUp,
    /// Another node is silent.
    NodeDown,
    /// Another node said goodbye.
    NodeLeft,
    /// In touch with a majority.
    Quorum,
    /// No longer.
    NoQuorum,
    /// In a pair: this node goes on by itself.
    Alone,
    /// A group runs here whose owner failed.
    Failover,
    /// A group runs here that its owner gave away.
    Moved,
    /// A group runs here that ran nowhere, as far as is known.
    GroupStarted,
    /// A group was stopped here and given back.
    GroupStopped,
    /// The lease of a group ran out here.
    LeaseLost,
    /// A group cannot run here.
    Unable,
    /// A resource died, or did not start, and is started again.
    ResourceFailed,
    /// A resource is given up here.
    ResourceGivenUp,
    /// An address was taken away by somebody and is put back.
    ResourceRestored,
    /// A resource does not stop.
    ResourceStuck,
    /// The configurations of two nodes differ, or agree again.
    Configuration,
    /// A vote changed its place, or should.
    Vote,
    /// An operator wants something, or no longer.
    Order,
    /// Events were lost, or people could not be told of them.
    Untold,
    /// Something that this version does not know.
    #[serde(other)]
    Other,
}

impl IncidentKind {
    /// All that this version knows.
    pub const ALL: [Self; 23] = [
        Self::Started,
        Self::Leaving,
        Self::Reload,
        Self::NodeUp,
        Self::NodeDown,
        Self::NodeLeft,
        Self::Quorum,
        Self::NoQuorum,
        Self::Alone,
        Self::Failover,
        Self::Moved,
        Self::GroupStarted,
        Self::GroupStopped,
        Self::LeaseLost,
        Self::Unable,
        Self::ResourceFailed,
        Self::ResourceGivenUp,
        Self::ResourceRestored,
        Self::ResourceStuck,
        Self::Configuration,
        Self::Vote,
        Self::Order,
        Self::Untold,
    ];

    /// The word in events (a contract: hooks compare it).
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Leaving => "leaving",
            Self::Reload => "reload",
            Self::NodeUp => "node_up",
            Self::NodeDown => "node_down",
            Self::NodeLeft => "node_left",
            Self::Quorum => "quorum",
            Self::NoQuorum => "no_quorum",
            Self::Alone => "alone",
            Self::Failover => "failover",
            Self::Moved => "moved",
            Self::GroupStarted => "group_started",
            Self::GroupStopped => "group_stopped",
            Self::LeaseLost => "lease_lost",
            Self::Unable => "unable",
            Self::ResourceFailed => "resource_failed",
            Self::ResourceGivenUp => "resource_given_up",
            Self::ResourceRestored => "resource_restored",
            Self::ResourceStuck => "resource_stuck",
            Self::Configuration => "configuration",
            Self::Vote => "vote",
            Self::Order => "order",
            Self::Untold => "untold",
            Self::Other => "other",
        }
    }
}

/// How a group came to run on a node: spans in milliseconds, from the last sign of life of the former owner when that died, else
/// from when it was known here that the group was free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The former owner; none when none is known.
    pub from: Option<String>,
    /// The new owner.
    pub to: String,
    /// Why it changed.
    pub cause: Cause,
    /// Until its silence was noticed.
    pub detected_ms: Option<u64>,
    /// Until it was known that the former owner had stopped it.
    pub stopped_ms: Option<u64>,
    /// Until the lease was won; none for a group that needs none.
    pub lease_ms: Option<u64>,
    /// Until all of it ran.
    pub running_ms: u64,
    /// Until its addresses were announced; none without addresses.
    pub announced_ms: Option<u64>,
}

/// Why the owner changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The former owner fell silent.
    Silence,
    /// It handed the group over.
    HandedOver,
    /// It left the cluster.
    Left,
    /// It lives and has given it up, or lost it.
    GivenUp,
    /// Nobody is known to have had it.
    Free,
    /// Something that this version does not know.
    #[serde(other)]
    Other,
}

/// Which events are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventQuery {
    /// Those of the node asked only; else of every node, which the node asked asks in turn.
    pub own: bool,
    /// Only those with greater numbers, by node; all of those of other nodes.
    pub after: Vec<(super::NodeId, u64)>,
    /// Not those before this, in milliseconds since 1970.
    pub since_ms: i64,
    /// So many at most, the newest.
    pub newest: u32,
}

/// The events of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPage {
    /// The node.
    pub node: super::NodeId,
    /// It was asked and answered.
    pub answered: bool,
    /// The greatest number so far.
    pub newest: u64,
    /// Oldest first.
    pub events: Vec<Incident>,
}

impl EventPage {
    /// The events of all pages, oldest first, in the same order wherever they are put together.
    #[must_use]
    pub fn merged(pages: &[Self]) -> Vec<&Incident> {
        let mut events: Vec<&Incident> = pages.iter().flat_map(|page| &page.events).collect();
        events.sort_by(|one, other| (one.at_ms, &one.node, one.number).cmp(&(other.at_ms, &other.node, other.number)));
        events
    }
}

/// At most so many bytes of a text on one line, whole characters.
fn cut(text: &str, longest: usize) -> String {
    let text: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if text.len() <= longest {
        return text;
    }
    let end = (0..=longest.saturating_sub('…'.len_utf8())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_json() {
        for kind in IncidentKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
        for severity in [Severity::Info, Severity::Warning, Severity::Critical] {
            assert_eq!(serde_json::to_value(severity).unwrap(), severity.word());
        }
        assert_eq!(serde_json::from_str::<IncidentKind>("\"of_a_later_version\"").unwrap(), IncidentKind::Other);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(Incident::title("short"), "short");
        assert_eq!(Incident::sentence("two\nlines\u{1b}"), "two lines ");
        let long = Incident::title(&"ä".repeat(200));
        assert!(long.len() <= LONGEST_TITLE && long.ends_with("ä…"), "{long}");
        assert_eq!(Incident::title(&long), long, "cut again it is the same");
    }
}

/// Events for tests.
#[cfg(test)]
pub mod example {
    use super::{Cause, Incident, IncidentKind, Severity, Timeline};

    /// Something that a node saw.
    pub fn event(node: &str, number: u64, at_ms: i64, text: &str) -> Incident {
        Incident {
            number,
            at_ms,
            boot_ms: 77,
            node: node.to_owned(),
            kind: IncidentKind::NodeUp,
            severity: Severity::Info,
            about: None,
            group: None,
            resource: None,
            text: text.to_owned(),
            timeline: None,
            took_ms: None,
            tells: true,
        }
    }

    /// A group called web went from one node to another, which had found the first dead.
    pub fn failover(from: &str, to: &str, number: u64, at_ms: i64) -> Incident {
        let timeline = Timeline {
            from: Some(from.to_owned()),
            to: to.to_owned(),
            cause: Cause::Silence,
            detected_ms: Some(1500),
            stopped_ms: None,
            lease_ms: Some(1502),
            running_ms: 1504,
            announced_ms: Some(1504),
        };
        Incident {
            kind: IncidentKind::Failover,
            severity: Severity::Warning,
            about: Some(from.to_owned()),
            group: Some(format!("{from}:web")),
            timeline: Some(timeline),
            took_ms: Some(1504),
            ..event(to, number, at_ms, &format!("group {from}:web moved"))
        }
    }
}
