//! Makes events for operators of what the parts of the daemon note: who ran a group before, how long each step of its way here
//! took, and who tells people of what several nodes see. Pure: it is given the time, and writes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tracing::Level;

use super::decisions;
use crate::model::{
    Action, AskReason, Assignment, Cause, Config, Decision, GroupId, Incident, IncidentKind, NodeId, Severity, StopReason, Time, Timeline,
};

/// What a part of the daemon noted.
#[derive(Clone, Debug)]
pub enum Note {
    /// The core decided something.
    Decided(Decision),
    /// The core ordered a start or a stop.
    Ordered(Action),
    /// A node says that it runs these.
    Runs(NodeId, Vec<GroupId>),
    /// The addresses of a group were announced for the first time.
    Announced(GroupId),
    /// Something became of a resource.
    Resource(Assignment, ResourceNews),
    /// Something became of this daemon, in words.
    Daemon(IncidentKind, Severity, String),
}

/// What became of a resource.
#[derive(Clone, Debug)]
pub enum ResourceNews {
    /// It failed, in these words, and is started again.
    Failed(String),
    /// It failed too often.
    GivenUp(String),
    /// It is back: what had become of it, after its name.
    Restored(&'static str),
    /// It does not stop.
    Stuck(String),
}

/// How a peer was last known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Up,
    Down { last: Option<Time>, noticed: Time },
    Left { noticed: Time },
}

/// A group on its way to this node.
#[derive(Clone, Debug)]
struct Way {
    /// What its times are counted from.
    began: Time,
    from: Option<NodeId>,
    cause: Cause,
    detected: Option<Time>,
    stopped: Option<Time>,
    lease: Option<Time>,
    announced: Option<Time>,
}

/// What the events so far leave to be known.
#[derive(Debug)]
pub struct Chronicle {
    me: NodeId,
    peers: BTreeMap<NodeId, Peer>,
    /// Who ran each group last.
    owners: BTreeMap<GroupId, NodeId>,
    ways: BTreeMap<GroupId, Way>,
    /// Taken over from the process before this one: nothing happened to them.
    adopted: BTreeSet<GroupId>,
    /// Being stopped here.
    stops: BTreeMap<GroupId, (Time, StopReason)>,
    /// Known not to stop: told once, until the group is started again.
    stuck: BTreeSet<(Option<GroupId>, String)>,
}

/// An event in the making.
struct Draft {
    kind: IncidentKind,
    severity: Severity,
    text: String,
    about: Option<NodeId>,
    group: Option<GroupId>,
    resource: Option<String>,
    timeline: Option<Timeline>,
    took: Option<Duration>,
    /// Other nodes see it too.
    shared: bool,
}

impl Draft {
    fn new(kind: IncidentKind, severity: Severity, text: String) -> Self {
        Self { kind, severity, text, about: None, group: None, resource: None, timeline: None, took: None, shared: false }
    }

    fn about(self, node: NodeId) -> Self {
        Self { about: Some(node), ..self }
    }

    fn group(self, group: GroupId) -> Self {
        Self { group: Some(group), ..self }
    }

    fn shared(self) -> Self {
        Self { shared: true, ..self }
    }
}

impl Chronicle {
    /// Of a node that has just started.
    #[must_use]
    pub fn new(me: NodeId) -> Self {
        Self {
            me,
            peers: BTreeMap::new(),
            owners: BTreeMap::new(),
            ways: BTreeMap::new(),
            adopted: BTreeSet::new(),
            stops: BTreeMap::new(),
            stuck: BTreeSet::new(),
        }
    }

    /// Takes in what was noted at that time. The event that it makes, if it makes one, has no number yet.
    pub fn take(&mut self, config: &Config, note: Note, at: Time, wall_ms: i64) -> Option<Incident> {
        let draft = match note {
            Note::Decided(decision) => self.decided(config, &decision, at),
            Note::Ordered(action) => {
                self.ordered(action, at);
                None
            }
            Note::Runs(node, groups) => {
                self.owners.extend(groups.into_iter().map(|group| (group, node)));
                None
            }
            Note::Announced(group) => {
                if let Some(way) = self.ways.get_mut(&group) {
                    way.announced = Some(at);
                }
                None
            }
            Note::Resource(assignment, news) => self.resource(config, &assignment, news),
            Note::Daemon(kind, severity, text) => Some(Draft::new(kind, severity, text)),
        }?;
        Some(Incident {
            number: 0,
            at_ms: wall_ms,
            boot_ms: at.0 / 1_000_000,
            node: config.name(self.me),
            kind: draft.kind,
            severity: draft.severity,
            about: draft.about.map(|node| config.name(node)),
            group: draft.group.map(|group| Incident::title(&config.title(group))),
            resource: draft.resource,
            text: Incident::sentence(&draft.text),
            timeline: draft.timeline,
            took_ms: draft.took.map(millis),
            tells: !draft.shared || self.speaks(config),
        })
    }

    /// Of what several nodes see, the first of them in the configuration that lives tells people.
    fn speaks(&self, config: &Config) -> bool {
        let lives = |node: NodeId| node == self.me || self.peers.get(&node) == Some(&Peer::Up);
        config.nodes.iter().map(|node| node.id).find(|node| lives(*node)) == Some(self.me)
    }

    fn decided(&mut self, config: &Config, decision: &Decision, at: Time) -> Option<Draft> {
        let (level, text) = decisions::sentence(config, self.me, decision);
        let severity = if level == Level::WARN { Severity::Warning } else { Severity::Info };
        let draft = |kind| Draft::new(kind, severity, text.clone());
        Some(match *decision {
            Decision::PeerUp(node) => {
                self.peers.insert(node, Peer::Up);
                draft(IncidentKind::NodeUp).about(node).shared()
            }
            Decision::PeerDown { node, last } => {
                self.peers.insert(node, Peer::Down { last, noticed: at });
                draft(IncidentKind::NodeDown).about(node).shared()
            }
            Decision::PeerLeft(node) => {
                self.peers.insert(node, Peer::Left { noticed: at });
                draft(IncidentKind::NodeLeft).about(node).shared()
            }
            Decision::Mismatch { node, .. } | Decision::OtherVoters { node, .. } => draft(IncidentKind::Configuration).about(node).shared(),
            Decision::Quorum { quorate: true, .. } => draft(IncidentKind::Quorum),
            Decision::Quorum { quorate: false, .. } => Draft::new(IncidentKind::NoQuorum, Severity::Critical, text),
            Decision::KeepsAlone | Decision::CarriesOnAlone => draft(IncidentKind::Alone),
            Decision::Vote { vote, .. } => draft(IncidentKind::Vote).about(vote),
            Decision::Wished { .. } | Decision::Lapsed(_) => draft(IncidentKind::Order).shared(),
            Decision::Asks { group, why } => {
                self.sets_out(group, why, at);
                return None;
            }
            Decision::Acquired { group, .. } => {
                let way = self.way(group, at);
                way.lease = Some(at);
                return None;
            }
            Decision::Withdrew { .. } => return None,
            Decision::Running { group } => return self.arrives(config, group, at),
            Decision::Lost { group } => {
                self.ways.remove(&group);
                draft(IncidentKind::LeaseLost).group(group)
            }
            Decision::Released { group, .. } => {
                self.ways.remove(&group);
                let (since, why) = self.stops.remove(&group)?;
                let took = at.since(since);
                let text = format!("{text}; it went down in {} ms ({why})", took.as_millis());
                Draft { took: Some(took), text, ..draft(IncidentKind::GroupStopped).group(group) }
            }
            Decision::Unable { group } => draft(IncidentKind::Unable).group(group),
        })
    }

    fn ordered(&mut self, action: Action, at: Time) {
        match action {
            Action::Start { group, adopt, .. } => {
                self.stops.remove(&group);
                self.stuck.retain(|(of, _)| *of != Some(group));
                if adopt {
                    self.adopted.insert(group);
                }
            }
            Action::Stop { group, why, .. } => {
                self.adopted.remove(&group);
                self.stops.insert(group, (at, why));
            }
            Action::Extend { .. } | Action::Announce { .. } | Action::CheckAlone { .. } | Action::HandsOff(_) => {}
        }
    }

    /// This node asks for a group. Asked again, since no majority came, it is still on the same way.
    fn sets_out(&mut self, group: GroupId, why: AskReason, at: Time) {
        let handed_by = match why {
            AskReason::HandedOver { by } => Some(by),
            AskReason::Home | AskReason::Preferred | AskReason::BetterGone | AskReason::StayedFree => None,
        };
        if self.ways.contains_key(&group) && handed_by.is_none() {
            return;
        }
        let from = handed_by.or_else(|| self.owners.get(&group).copied());
        let way = Way { began: at, from, cause: Cause::Free, detected: None, stopped: None, lease: None, announced: None };
        let peer = from.and_then(|from| self.peers.get(&from).copied());
        let way = match (handed_by, from, peer) {
            (Some(_), ..) => Way { cause: Cause::HandedOver, stopped: Some(at), ..way },
            (None, None, _) => way,
            (None, Some(_), Some(Peer::Down { last, noticed })) => {
                Way { began: last.unwrap_or(noticed), cause: Cause::Silence, detected: Some(noticed), ..way }
            }
            (None, Some(_), Some(Peer::Left { noticed })) => Way { began: noticed, cause: Cause::Left, stopped: Some(noticed), ..way },
            (None, Some(_), Some(Peer::Up) | None) => Way { cause: Cause::GivenUp, ..way },
        };
        self.ways.insert(group, way);
    }

    fn way(&mut self, group: GroupId, at: Time) -> &mut Way {
        let fresh = Way { began: at, from: None, cause: Cause::Free, detected: None, stopped: None, lease: None, announced: None };
        self.ways.entry(group).or_insert(fresh)
    }

    /// A group runs here.
    fn arrives(&mut self, config: &Config, group: GroupId, at: Time) -> Option<Draft> {
        let way = self.ways.remove(&group);
        self.owners.insert(group, self.me);
        if self.adopted.remove(&group) {
            return None;
        }
        let title = config.title(group);
        let Some(way) = way else {
            return Some(Draft::new(IncidentKind::GroupStarted, Severity::Info, format!("group {title}: running")).group(group));
        };
        let span = |moment: Time| millis(moment.since(way.began));
        let timeline = Timeline {
            from: way.from.map(|from| config.name(from)),
            to: config.name(self.me),
            cause: way.cause,
            detected_ms: way.detected.map(span),
            stopped_ms: way.stopped.map(span),
            lease_ms: way.lease.map(span),
            running_ms: span(at),
            announced_ms: way.announced.map(span),
        };
        let (kind, severity) = match way.cause {
            Cause::Silence => (IncidentKind::Failover, Severity::Warning),
            // Lost and won again by the same node.
            Cause::GivenUp if way.from == Some(self.me) => (IncidentKind::GroupStarted, Severity::Info),
            Cause::GivenUp => (IncidentKind::Failover, Severity::Warning),
            Cause::HandedOver | Cause::Left => (IncidentKind::Moved, Severity::Info),
            Cause::Free | Cause::Other => (IncidentKind::GroupStarted, Severity::Info),
        };
        let text = format!("group {title} {}", story(&timeline));
        let took = at.since(way.began);
        Some(Draft { about: way.from, took: Some(took), timeline: Some(timeline), ..Draft::new(kind, severity, text).group(group) })
    }

    fn resource(&mut self, config: &Config, assignment: &Assignment, news: ResourceNews) -> Option<Draft> {
        let resource = assignment.resource.to_string();
        let group = config.groups.iter().find(|group| group.assignments.contains(assignment)).map(|group| group.id);
        let draft = match news {
            ResourceNews::Failed(why) => {
                let text = format!("{resource}: {why}; it is started again");
                Draft::new(IncidentKind::ResourceFailed, Severity::Warning, text)
            }
            ResourceNews::GivenUp(why) => {
                let text = format!("{resource} is given up here, see `drcm explain {}`: {why}", assignment.resource.nickname);
                Draft::new(IncidentKind::ResourceGivenUp, Severity::Critical, text)
            }
            ResourceNews::Restored(why) => {
                let text = format!("{resource} {why} and has been put back");
                Draft::new(IncidentKind::ResourceRestored, Severity::Warning, text)
            }
            ResourceNews::Stuck(why) => {
                if !self.stuck.insert((group, resource.clone())) {
                    return None;
                }
                let text = format!("{resource} does not stop, and no other node may start it before: {why}");
                Draft::new(IncidentKind::ResourceStuck, Severity::Critical, text)
            }
        };
        Some(Draft { resource: Some(resource), group, ..draft })
    }
}

/// How it came here, as the end of a sentence.
fn story(timeline: &Timeline) -> String {
    let mut steps = Vec::new();
    if let Some(detected) = timeline.detected_ms {
        steps.push(format!("silence detected after {detected} ms"));
    }
    if let Some(lease) = timeline.lease_ms {
        steps.push(format!("lease after {lease} ms"));
    }
    steps.push(format!("running after {} ms", timeline.running_ms));
    if let Some(announced) = timeline.announced_ms {
        steps.push(format!("announced after {announced} ms"));
    }
    let steps = steps.join(", ");
    let Timeline { from, to, cause, .. } = timeline;
    match (from, cause) {
        (Some(from), _) if from == to => format!("is started again on {to}: {steps}"),
        (Some(from), Cause::Silence) => format!("moved from {from} to {to}, counted from the last sign of life: {steps}"),
        (Some(from), Cause::HandedOver) => format!("moved from {from} to {to}, counted from when it was down there: {steps}"),
        (Some(from), Cause::Left) => format!("moved from {from}, which left, to {to}: {steps}"),
        (Some(from), Cause::GivenUp | Cause::Free | Cause::Other) => format!("moved from {from}, which has given it up, to {to}: {steps}"),
        (None, _) => format!("runs on {to}: {steps}"),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Generation, Kind, ResourceId};

    fn config() -> Config {
        let address = "[CM_IPADDRS]\nweb, 10.0.0.100, 24, eth0, \n";
        let mut text = address.to_owned();
        for (number, lists) in [
            (1, "node_floating_ip_addrs = web"),
            (2, "node_backup_floating_ip_addrs = a1:web"),
            (3, "node_backup_floating_ip_addrs = a1:web"),
        ] {
            text += &format!("[CM_NODE]\nnodename = a{number}\nhostname = a{number}\nkeep_alive_ip = 10.0.0.{number}\n{lists}\n");
        }
        Config::clone(&crate::config::parse_cfg("test.cfg", &text).unwrap_or_else(|report| panic!("{report}")).config)
    }

    /// A chronicle of the second node, and its story.
    struct Story {
        config: Config,
        chronicle: Chronicle,
    }

    impl Story {
        fn new() -> Self {
            let config = config();
            let chronicle = Chronicle::new(config.nodes[1].id);
            let mut story = Self { config, chronicle };
            for node in [0, 2] {
                story.decided(0, Decision::PeerUp(story.config.nodes[node].id));
            }
            story
        }

        fn note(&mut self, ms: u64, note: Note) -> Option<Incident> {
            self.chronicle.take(&self.config, note, Time(ms * 1_000_000), 5)
        }

        fn decided(&mut self, ms: u64, decision: Decision) -> Option<Incident> {
            self.note(ms, Note::Decided(decision))
        }

        fn group(&self) -> GroupId {
            self.config.groups[0].id
        }

        fn node(&self, node: usize) -> NodeId {
            self.config.nodes[node].id
        }
    }

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    #[test]
    fn a_failover_is_counted_from_the_last_sign_of_life() {
        let mut story = Story::new();
        let (group, home) = (story.group(), story.node(0));
        assert!(story.note(10, Note::Runs(home, vec![group])).is_none());
        let down = story.decided(2500, Decision::PeerDown { node: home, last: Some(at(1000)) }).unwrap();
        assert_eq!((down.kind, down.severity, down.tells), (IncidentKind::NodeDown, Severity::Warning, true), "the first that lives tells");
        assert!(story.decided(2500, Decision::Asks { group, why: AskReason::BetterGone }).is_none());
        // A majority was not to be had at once.
        assert!(story.decided(2502, Decision::Withdrew { group }).is_none());
        assert!(story.decided(2510, Decision::Asks { group, why: AskReason::BetterGone }).is_none());
        assert!(story.decided(2512, Decision::Acquired { group, until: at(9000) }).is_none());
        assert!(story.note(2514, Note::Announced(group)).is_none());
        let event = story.decided(2515, Decision::Running { group }).unwrap();
        assert_eq!((event.kind, event.severity), (IncidentKind::Failover, Severity::Warning));
        assert_eq!((event.about.as_deref(), event.group.as_deref(), event.took_ms), (Some("a1"), Some("a1:web"), Some(1515)));
        assert_eq!(
            event.text,
            "group a1:web moved from a1 to a2, counted from the last sign of life: silence detected after 1500 ms, lease after 1512 ms, \
             running after 1515 ms, announced after 1514 ms"
        );
        let timeline = event.timeline.unwrap();
        assert_eq!((timeline.detected_ms, timeline.lease_ms, timeline.announced_ms), (Some(1500), Some(1512), Some(1514)));
        // Running again without a way: nothing but that.
        assert_eq!(story.decided(2600, Decision::Running { group }).unwrap().timeline, None);
    }

    #[test]
    fn a_hand_over_is_no_failure_and_says_how_long_the_stop_took() {
        let mut story = Story::new();
        let (group, me, home) = (story.group(), story.node(1), story.node(0));
        story.decided(100, Decision::Asks { group, why: AskReason::HandedOver { by: home } });
        story.decided(102, Decision::Acquired { group, until: at(9000) });
        let event = story.decided(105, Decision::Running { group }).unwrap();
        assert_eq!((event.kind, event.severity), (IncidentKind::Moved, Severity::Info));
        assert!(
            event.text.contains("moved from a1 to a2, counted from when it was down there: lease after 2 ms, running after 5 ms"),
            "{}",
            event.text
        );
        story.note(200, Note::Ordered(Action::Stop { group, generation: Generation(2), why: StopReason::HandOver(home) }));
        let event = story.decided(212, Decision::Released { group, next: Some(home) }).unwrap();
        assert_eq!((event.kind, event.took_ms), (IncidentKind::GroupStopped, Some(12)));
        assert!(event.text.ends_with("it went down in 12 ms (handed over)"), "{}", event.text);
        // Lost and won again.
        story.decided(300, Decision::Lost { group });
        story.chronicle.owners.insert(group, me);
        story.decided(400, Decision::Asks { group, why: AskReason::StayedFree });
        let event = story.decided(405, Decision::Running { group }).unwrap();
        assert_eq!(event.kind, IncidentKind::GroupStarted);
    }

    #[test]
    fn what_was_taken_over_is_no_event() {
        let mut story = Story::new();
        let group = story.group();
        story.note(1, Note::Ordered(Action::Start { group, generation: Generation(1), until: None, adopt: true }));
        story.decided(1, Decision::Acquired { group, until: at(9000) });
        assert_eq!(story.decided(2, Decision::Running { group }), None);
        let event = story.decided(2, Decision::Running { group }).unwrap();
        assert_eq!(event.kind, IncidentKind::GroupStarted);
    }

    #[test]
    fn one_node_tells_of_what_several_see() {
        let mut story = Story::new();
        let third = story.node(2);
        let down = story.decided(5, Decision::PeerDown { node: third, last: None }).unwrap();
        assert!(!down.tells, "the first node lives and tells");
        let lost = story.decided(6, Decision::Quorum { quorate: false, voters: 1 }).unwrap();
        assert!(lost.tells && lost.severity == Severity::Critical, "nobody else knows");
    }

    #[test]
    fn what_does_not_stop_is_told_once() {
        let mut story = Story::new();
        let group = story.group();
        let assignment = Assignment { home: story.node(0), resource: ResourceId { kind: Kind::Address, nickname: "web".into() } };
        let stuck = |story: &mut Story| story.note(1, Note::Resource(assignment.clone(), ResourceNews::Stuck("busy".into())));
        let event = stuck(&mut story).unwrap();
        assert_eq!(
            (event.severity, event.resource.as_deref(), event.group.as_deref()),
            (Severity::Critical, Some("ip:web"), Some("a1:web"))
        );
        assert_eq!(stuck(&mut story), None);
        story.note(2, Note::Ordered(Action::Start { group, generation: Generation(1), until: None, adopt: false }));
        assert!(stuck(&mut story).is_some());
    }
}
