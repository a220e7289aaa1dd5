//! What is shown, and what keys do to it.

use std::collections::VecDeque;

use jiff::tz::TimeZone;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::changes::Known;
use crate::{
    cli::{
        events, explain,
        output::printable,
        paint::{Ink, Palette},
    },
    health::{Assessment, Status, assess},
    model::{ClusterReport, Command, Config, Group, Incident, NodeId},
};

/// Changes that are remembered.
const REMEMBERED: usize = 500;

/// What to do after a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Go on.
    Stay,
    /// The operator leaves.
    Leave,
    /// The operator wants this, and has confirmed it.
    Order(Command),
}

/// Which list the keys are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Focus {
    Nodes,
    Groups,
}

/// What stands before the lists.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Dialog {
    /// Yes or no.
    Confirm { question: String, command: Command },
    /// Where to?
    Pick { group: usize, candidates: Vec<NodeId>, at: usize },
    /// Something to read, from this line on.
    Text { title: String, text: String, from: u16 },
}

/// A report and what it comes to.
pub(super) struct Seen {
    pub(super) report: ClusterReport,
    pub(super) assessment: Assessment,
    known: Known,
}

/// One line about a group.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GroupLine {
    pub(super) title: String,
    pub(super) owner: Option<NodeId>,
    /// The worst of its resources.
    pub(super) status: Status,
    /// Milliseconds left of its lease.
    pub(super) lease_ms: Option<u64>,
    pub(super) note: String,
}

/// All of it.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) zone: TimeZone,
    pub(super) palette: Palette,
    pub(super) seen: Option<Seen>,
    /// Why there is no newer report.
    pub(super) fault: Option<String>,
    /// Newest last: when, how grave, what.
    pub(super) events: VecDeque<(i64, Ink, String)>,
    /// When the first report came.
    began: Option<i64>,
    pub(super) focus: Focus,
    pub(super) node: usize,
    pub(super) group: usize,
    pub(super) dialog: Option<Dialog>,
}

const HELP: &str = "\
Tab           nodes or groups
Up, Down      choose (also k, j; Home, End, Page Up, Page Down)
Enter, e      explain the group, or what runs on the node
m             move the group to another node
u             take a move back
f             send the group home once
c             let what failed be tried again
s             put the node into standby
o             let the node take part again
M             maintenance on, or off
?             this list
q             leave; Esc closes a window

Nothing is done before it is confirmed.";

impl State {
    pub(super) fn new(config: Config, zone: TimeZone, palette: Palette) -> Self {
        Self {
            config,
            zone,
            palette,
            seen: None,
            fault: None,
            events: VecDeque::new(),
            began: None,
            focus: Focus::Groups,
            node: 0,
            group: 0,
            dialog: None,
        }
    }

    /// A report has come.
    pub(super) fn learn(&mut self, report: ClusterReport) {
        self.began.get_or_insert(report.at);
        let assessment = assess(&self.config, &report);
        let known = Known::of(&self.config, &report, &assessment, self.seen.as_ref().map(|seen| &seen.known));
        let news = match &self.seen {
            Some(before) => known.since(&before.known, &self.config),
            None => vec![(
                Ink::Plain,
                format!("watching from {}; the cluster is {}", self.config.name(report.asked), assessment.verdict.health.word()),
            )],
        };
        for (ink, what) in news {
            self.event(report.at, ink, &what);
        }
        if self.fault.take().is_some() {
            self.event(report.at, Ink::Good, "the nodes answer again");
        }
        self.node = self.node.min(assessment.members.len().saturating_sub(1));
        self.seen = Some(Seen { report, assessment, known });
    }

    /// No node answered.
    pub(super) fn miss(&mut self, fault: &str, at: i64) {
        if self.fault.is_none() {
            self.event(at, Ink::Bad, "no node answers");
        }
        self.fault = Some(printable(fault));
    }

    /// What became of an order.
    pub(super) fn told(&mut self, done: Result<Vec<String>, String>, at: i64) {
        match done {
            Ok(sentences) => sentences.iter().for_each(|sentence| self.event(at, Ink::Strong, sentence)),
            Err(fault) => self.event(at, Ink::Bad, &fault),
        }
    }

    /// How a group came where it runs.
    pub(super) fn way(&mut self, event: &Incident) {
        let Some(what) = events::short(event) else { return };
        let (at, ink) = (event.at_ms / 1000, events::ink(event));
        // It may be older than what a report told meanwhile; put before that, nobody would see it.
        let place = match self.began.is_some_and(|began| at < began) {
            true => self.events.partition_point(|(other, ..)| *other <= at),
            false => self.events.len(),
        };
        self.remember(place, at, ink, &what);
    }

    fn event(&mut self, at: i64, ink: Ink, what: &str) {
        self.remember(self.events.len(), at, ink, what);
    }

    fn remember(&mut self, place: usize, at: i64, ink: Ink, what: &str) {
        self.events.insert(place, (at, ink, printable(what)));
        if self.events.len() > REMEMBERED {
            self.events.pop_front();
        }
    }

    /// A line for each group, in the configuration's order.
    pub(super) fn lines(&self) -> Vec<GroupLine> {
        let Some(Seen { report, assessment, .. }) = &self.seen else { return Vec::new() };
        let line = |group: &Group| {
            let rows: Vec<_> = assessment.rows.iter().filter(|row| row.group == Some(group.id)).collect();
            let worst = rows.iter().max_by_key(|row| gravity(row.status));
            let owner = rows.iter().find_map(|row| row.owner_node);
            let reports = report.members.iter().filter_map(|member| member.report.as_ref());
            let lease = reports.flat_map(|own| &own.groups).filter(|its| its.group == group.id).find_map(|its| its.lease_ms);
            GroupLine {
                title: group.title(&self.config),
                owner,
                status: worst.map_or(Status::Unknown, |row| row.status),
                lease_ms: lease,
                note: worst.and_then(|row| row.notes.first().cloned()).unwrap_or_default(),
            }
        };
        self.config.groups.iter().map(line).collect()
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Step {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Step::Leave;
        }
        match self.dialog.take() {
            Some(dialog) => self.press_in(dialog, key.code),
            None => self.press_outside(key.code),
        }
    }

    fn press_in(&mut self, dialog: Dialog, key: KeyCode) -> Step {
        match (dialog, key) {
            (Dialog::Confirm { command, .. }, KeyCode::Char('y' | 'Y')) => return Step::Order(command),
            (Dialog::Confirm { .. }, KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc) => {}
            (dialog @ Dialog::Confirm { .. }, _) => self.dialog = Some(dialog),
            (Dialog::Text { .. } | Dialog::Pick { .. }, KeyCode::Esc | KeyCode::Char('q')) => {}
            (Dialog::Text { title, text, from }, KeyCode::Down | KeyCode::Char('j') | KeyCode::PageDown) => {
                let last = u16::try_from(text.lines().count()).unwrap_or(u16::MAX).saturating_sub(1);
                self.dialog = Some(Dialog::Text { title, text, from: from.saturating_add(1).min(last) });
            }
            (Dialog::Text { title, text, from }, KeyCode::Up | KeyCode::Char('k') | KeyCode::PageUp) => {
                self.dialog = Some(Dialog::Text { title, text, from: from.saturating_sub(1) });
            }
            (Dialog::Text { .. }, KeyCode::Enter) => {}
            (dialog @ Dialog::Text { .. }, _) => self.dialog = Some(dialog),
            (Dialog::Pick { group, candidates, at }, KeyCode::Enter) => {
                let to = candidates[at];
                let title = self.config.groups[group].title(&self.config);
                let question = format!("Move {title} to {}, until it is taken back?", self.config.name(to));
                self.ask(question, Command::Move { group: self.config.groups[group].id, to, for_seconds: None });
            }
            (Dialog::Pick { group, candidates, at }, key) => {
                let at = step(at, candidates.len(), key);
                self.dialog = Some(Dialog::Pick { group, candidates, at });
            }
        }
        Step::Stay
    }

    fn press_outside(&mut self, key: KeyCode) -> Step {
        match key {
            KeyCode::Char('q') => return Step::Leave,
            KeyCode::Tab | KeyCode::BackTab => self.focus = if self.focus == Focus::Nodes { Focus::Groups } else { Focus::Nodes },
            KeyCode::Char('?' | 'h') => self.dialog = Some(Dialog::Text { title: "Keys".to_owned(), text: HELP.to_owned(), from: 0 }),
            KeyCode::Enter | KeyCode::Char('e') => self.explain(),
            KeyCode::Char('m') => self.pick(),
            KeyCode::Char('u') => self.about_group("Take the move of {} back?", |group| Command::Unmove { group: group.id }),
            KeyCode::Char('f') => self.about_group("Send {} home once?", |group| Command::Failback { group: group.id }),
            KeyCode::Char('c') => {
                self.about_group("Let {} be tried again where it failed?", |group| Command::Cleanup { group: Some(group.id), node: None });
            }
            KeyCode::Char('s') => self.about_node("Put {} into standby? It gives away what it runs.", true),
            KeyCode::Char('o') => self.about_node("Let {} take part again?", false),
            KeyCode::Char('M') => self.maintenance(),
            key => match self.focus {
                Focus::Nodes => self.node = step(self.node, self.seen.as_ref().map_or(0, |seen| seen.assessment.members.len()), key),
                Focus::Groups => self.group = step(self.group, self.config.groups.len(), key),
            },
        }
        Step::Stay
    }

    fn ask(&mut self, question: String, command: Command) {
        self.dialog = Some(Dialog::Confirm { question, command });
    }

    fn pick(&mut self) {
        let Some(group) = self.config.groups.get(self.group) else { return };
        if self.focus != Focus::Groups || !group.is_leased() {
            let text = match self.focus {
                Focus::Nodes => "Choose a group first: Tab goes to them.".to_owned(),
                Focus::Groups => format!("Only {} may run it: there is nowhere to move it to.", self.config.name(group.home)),
            };
            self.dialog = Some(Dialog::Text { title: "Move".to_owned(), text, from: 0 });
            return;
        }
        let owner = self.lines().get(self.group).and_then(|line| line.owner);
        let candidates: Vec<NodeId> = group.candidates.iter().copied().filter(|candidate| Some(*candidate) != owner).collect();
        self.dialog = Some(Dialog::Pick { group: self.group, candidates, at: 0 });
    }

    fn about_group(&mut self, question: &str, command: impl FnOnce(&Group) -> Command) {
        if let (Focus::Groups, Some(group)) = (self.focus, self.config.groups.get(self.group)) {
            let question = question.replace("{}", &group.title(&self.config));
            let command = command(group);
            self.ask(question, command);
        } else {
            self.hint("Choose a group first: Tab goes to them.");
        }
    }

    fn about_node(&mut self, question: &str, on: bool) {
        let member = self.seen.as_ref().and_then(|seen| seen.assessment.members.get(self.node));
        match (self.focus, member) {
            (Focus::Nodes, Some(member)) => {
                let (question, node) = (question.replace("{}", &member.name), member.node);
                self.ask(question, Command::Standby { node, on });
            }
            _ => self.hint("Choose a node first: Tab goes to them."),
        }
    }

    fn maintenance(&mut self) {
        let on = self.seen.as_ref().is_some_and(|seen| seen.assessment.maintenance);
        let question = match on {
            true => "End maintenance? The cluster looks after everything again.",
            false => "Begin maintenance? Nothing is started, stopped, moved or repaired until it ends.",
        };
        self.ask(question.to_owned(), Command::Maintenance { on: !on });
    }

    fn hint(&mut self, text: &str) {
        self.dialog = Some(Dialog::Text { title: "First".to_owned(), text: text.to_owned(), from: 0 });
    }

    fn explain(&mut self) {
        let Some(seen) = &self.seen else { return };
        let (title, text) = match self.focus {
            Focus::Groups => {
                let Some(group) = self.config.groups.get(self.group) else { return };
                let text = explain::render(&self.config, &seen.report, &[group], &self.zone, Palette::PLAIN);
                (group.title(&self.config), text)
            }
            Focus::Nodes => {
                let Some(member) = seen.assessment.members.get(self.node) else { return };
                let mut text: String = member.notes.iter().map(|note| format!("{}\n", printable(note))).collect();
                let runs = seen.assessment.rows.iter().filter(|row| row.owner_node == Some(member.node));
                let runs: Vec<String> =
                    runs.map(|row| format!("{:<10} {}\n", row.status.word(), printable(&row.resource.to_string()))).collect();
                text.push_str(&if runs.is_empty() { "It runs nothing.\n".to_owned() } else { runs.concat() });
                (format!("{} ({})", member.name, member.ip), text)
            }
        };
        self.dialog = Some(Dialog::Text { title, text, from: 0 });
    }
}

fn step(at: usize, count: usize, key: KeyCode) -> usize {
    let last = count.saturating_sub(1);
    match key {
        KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => (at + 1).min(last),
        KeyCode::PageUp => at.saturating_sub(10),
        KeyCode::PageDown => (at + 10).min(last),
        KeyCode::Home => 0,
        KeyCode::End => last,
        _ => at,
    }
}

/// Which of a group's resources is worth the line.
const fn gravity(status: Status) -> u8 {
    match status {
        Status::Normal => 0,
        Status::Backup => 1,
        Status::Inactive => 2,
        Status::Starting | Status::Stopping => 3,
        Status::Unknown => 4,
        Status::Missing => 5,
        Status::Failed => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        health::fixture::{healthy, kill, set, three_nodes},
        model::{Activity, Kind},
    };

    fn state() -> State {
        let config = three_nodes();
        let report = healthy(&config);
        let mut state = State::new(config, TimeZone::UTC, Palette::PLAIN);
        state.learn(report);
        state
    }

    fn press(state: &mut State, keys: &str) -> Step {
        let mut step = Step::Stay;
        for key in keys.chars() {
            let code = match key {
                '\t' => KeyCode::Tab,
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                letter => KeyCode::Char(letter),
            };
            step = state.press(KeyEvent::new(code, KeyModifiers::NONE));
        }
        step
    }

    #[test]
    fn nothing_is_ordered_before_it_is_confirmed() {
        let mut state = state();
        let (group, to) = (state.config.groups[0].id, NodeId::of("cmnode3"));
        assert_eq!(press(&mut state, "mj\n"), Step::Stay);
        assert!(
            matches!(&state.dialog, Some(Dialog::Confirm { question, .. }) if question == "Move cmnode1:cmnodef to cmnode3, until it is taken back?")
        );
        assert_eq!(press(&mut state, "x"), Step::Stay);
        assert_eq!(press(&mut state, "y"), Step::Order(Command::Move { group, to, for_seconds: None }));
        assert_eq!(state.dialog, None);
        assert_eq!(press(&mut state, "un"), Step::Stay);
        assert_eq!(press(&mut state, "uy"), Step::Order(Command::Unmove { group }));
        assert_eq!(press(&mut state, "\tjsy"), Step::Order(Command::Standby { node: NodeId::of("cmnode2"), on: true }));
        assert_eq!(press(&mut state, "oy"), Step::Order(Command::Standby { node: NodeId::of("cmnode2"), on: false }));
        assert_eq!(press(&mut state, "My"), Step::Order(Command::Maintenance { on: true }));
    }

    #[test]
    fn what_makes_no_sense_is_explained() {
        let mut state = state();
        press(&mut state, "jjjm");
        assert!(matches!(&state.dialog, Some(Dialog::Text { text, .. }) if text.contains("Only cmnode1 may run it")), "{:?}", state.dialog);
        assert_eq!(press(&mut state, "\u{1b}s"), Step::Stay);
        assert!(matches!(&state.dialog, Some(Dialog::Text { text, .. }) if text.contains("Choose a node first")));
        assert_eq!(press(&mut state, "q"), Step::Stay, "closes the window");
        assert_eq!(press(&mut state, "q"), Step::Leave);
        assert_eq!(state.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Step::Leave);
    }

    #[test]
    fn changes_are_told_once() {
        let mut state = state();
        let mut report = healthy(&state.config);
        state.learn(report.clone());
        assert_eq!(state.events.len(), 1);
        kill(&mut report, "cmnode2");
        set(&mut report, "cmnode1", Kind::Crontab, "apps2", Activity::Running, "");
        state.learn(report.clone());
        state.learn(report);
        let told: Vec<&str> = state.events.iter().skip(1).map(|(_, _, what)| what.as_str()).collect();
        assert_eq!(
            told,
            [
                "cmnode2 is down",
                "cmnode2:cron:apps2 went from cmnode2 to cmnode1",
                "cmnode2:service:web: Missing",
                "the cluster is DEGRADED"
            ]
        );
        let late = crate::health::fixture::failover(8, (crate::health::fixture::NOON - 1) * 1000);
        state.way(&late);
        assert!(state.events[0].2.contains("in 1504 ms (noticed 1500"), "before all others: {:?}", state.events);
        state.events.pop_front();
        let meanwhile = crate::health::fixture::failover(9, crate::health::fixture::NOON * 1000);
        state.told(Ok(vec!["done".to_owned()]), crate::health::fixture::NOON + 1);
        state.way(&meanwhile);
        assert!(state.events.back().unwrap().2.contains("in 1504 ms (noticed 1500"), "where news are looked for: {:?}", state.events);
        state.events.truncate(5);
        state.miss("no node answered", 1);
        state.miss("no node answered", 2);
        state.told(Err("the daemon did not take it".to_owned()), 3);
        assert_eq!(state.events.len(), 7);
        for _ in 0..2 * REMEMBERED {
            state.told(Ok(vec!["x".to_owned()]), 4);
        }
        assert_eq!(state.events.len(), REMEMBERED);
    }
}
