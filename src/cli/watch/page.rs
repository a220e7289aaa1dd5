//! Draws the state: nodes above, groups below them, what has changed at the bottom; a window before them when there is one.

use jiff::{Timestamp, tz::TimeZone};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState, Wrap},
};

use super::state::{Dialog, Focus, GroupLine, Seen, State};
use crate::{
    cli::{
        output::printable,
        paint::{Ink, Palette},
    },
    health::{Assessment, Health, Majority, Member},
    model::NodeId,
};

/// The least that makes sense.
const LEAST: (u16, u16) = (40, 10);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        frame.render_widget(Paragraph::new(format!("{} x {} at least, or drcm status", LEAST.0, LEAST.1)).wrap(Wrap { trim: true }), area);
        return;
    }
    let nodes = state.seen.as_ref().map_or(1, |seen| seen.assessment.members.len());
    // A third for the nodes at most, a quarter for what has changed; the rest for the groups.
    let nodes = u16::try_from(nodes + 3).unwrap_or(u16::MAX).min((area.height / 3).max(5));
    let events = (area.height / 4).max(4);
    let [top, above, middle, below, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(nodes),
        Constraint::Min(3),
        Constraint::Length(events),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(title(state), top);
    draw_nodes(frame, state, above);
    draw_groups(frame, state, middle);
    draw_events(frame, state, below);
    frame.render_widget(
        Paragraph::new("q leave  Tab list  Enter explain  m move  s standby  o online  ? keys").style(style(state.palette, Ink::Quiet)),
        keys,
    );
    if let Some(dialog) = &state.dialog {
        draw_dialog(frame, state, dialog, area);
    }
}

fn style(palette: Palette, ink: Ink) -> Style {
    let colour = |colour| if palette == Palette::PLAIN { Style::new() } else { Style::new().fg(colour) };
    match ink {
        Ink::Plain => Style::new(),
        Ink::Strong => Style::new().add_modifier(Modifier::BOLD),
        Ink::Good => colour(Color::Green),
        Ink::Warning => colour(Color::Yellow),
        Ink::Bad => colour(Color::Red).add_modifier(Modifier::BOLD),
        Ink::Quiet => Style::new().add_modifier(Modifier::DIM),
    }
}

fn title(state: &State) -> Line<'_> {
    let paint = |ink, text: String| Span::styled(text, style(state.palette, ink));
    let Some(Seen { report, assessment, .. }) = &state.seen else {
        let (ink, text) = match &state.fault {
            Some(_) => (Ink::Bad, " drcm  no node answers; trying again every second"),
            None => (Ink::Plain, " drcm  asking the nodes ..."),
        };
        return Line::from(paint(ink, text.to_owned()));
    };
    let mut spans = vec![paint(Ink::Strong, " drcm ".to_owned())];
    spans.push(paint(Ink::Plain, format!(" {} from {}  ", clock(report.at, &state.zone), state.config.name(report.asked))));
    if state.fault.is_some() {
        spans.push(paint(Ink::Bad, "OLD: no node answers now".to_owned()));
        return Line::from(spans);
    }
    let ink = match assessment.verdict.health {
        Health::Healthy => Ink::Good,
        Health::Degraded => Ink::Warning,
        Health::Critical | Health::Unknown => Ink::Bad,
    };
    spans.push(paint(ink, assessment.verdict.health.word().to_owned()));
    let (ink, votes) = quorum(assessment.majority);
    spans.push(paint(ink, format!("  {votes}")));
    if assessment.maintenance {
        spans.push(paint(Ink::Warning, "  MAINTENANCE".to_owned()));
    }
    let reasons = assessment.verdict.reasons.join("; ");
    spans.push(paint(Ink::Plain, format!("  {}", printable(&reasons))));
    Line::from(spans)
}

fn quorum(majority: Majority) -> (Ink, String) {
    let Majority { quorate, seen, voters, silent, pair_rules, unknown } = majority;
    match (unknown, quorate, silent, pair_rules) {
        (true, ..) => (Ink::Warning, "quorum not known".to_owned()),
        (false, true, ..) => (Ink::Good, format!("quorum {seen}/{voters}")),
        (false, false, true, _) => (Ink::Warning, format!("quorum not yet {seen}/{voters}")),
        (false, false, false, true) => (Ink::Warning, format!("alone {seen}/{voters}")),
        (false, false, false, false) => (Ink::Bad, format!("NO QUORUM {seen}/{voters}")),
    }
}

fn block(state: &State, title: &str, focused: bool) -> Block<'static> {
    let ink = if focused { Ink::Strong } else { Ink::Quiet };
    Block::bordered().title(format!(" {} ", printable(title))).border_style(style(state.palette, ink))
}

fn draw_nodes(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let focused = state.focus == Focus::Nodes;
    let block = block(state, "Nodes", focused);
    let Some(seen) = &state.seen else {
        let fault = state.fault.clone().unwrap_or_default();
        frame.render_widget(Paragraph::new(fault).wrap(Wrap { trim: true }).block(block), area);
        return;
    };
    let assessment = &seen.assessment;
    let rows: Vec<Row<'_>> = assessment
        .members
        .iter()
        .map(|member| {
            let (ink, word) = match (member.up, member.standby) {
                (true, false) => (Ink::Good, "Up"),
                (true, true) => (Ink::Warning, "Standby"),
                (false, _) => (Ink::Bad, "Down"),
            };
            let runs = assessment.rows.iter().filter(|row| row.owner_node == Some(member.node) && row.status.runs()).count();
            Row::new([
                Cell::new(printable(&member.name)),
                Cell::new(word).style(style(state.palette, ink)),
                Cell::new(votes(state, seen, member.node)),
                Cell::new(runs.to_string()),
                Cell::new(member.version.clone().unwrap_or_default()),
                Cell::new(note(assessment, member)),
            ])
        })
        .collect();
    let names = width(assessment.members.iter().map(|member| member.name.as_str()), 4, area.width / 3);
    let widths = [
        Constraint::Length(names),
        Constraint::Length(7),
        Constraint::Length(5),
        Constraint::Length(4),
        Constraint::Length(8),
        Constraint::Min(10),
    ];
    let head = Row::new(["NODE", "STATE", "VOTES", "RUNS", "VERSION", "NOTE"]).style(style(state.palette, Ink::Quiet));
    draw_table(frame, Table::new(rows, widths).header(head), block, area, focused.then_some(state.node));
}

/// How many votes a node grants with.
fn votes(state: &State, seen: &Seen, node: NodeId) -> String {
    let own = seen.report.members.iter().find(|member| member.node == node).and_then(|member| member.report.as_ref());
    match own.and_then(|own| own.quorum.votes.as_ref()) {
        Some(votes) => votes.len().to_string(),
        None if own.is_some() && state.config.node(node).is_some_and(|node| node.voter) => "?".to_owned(),
        None => "-".to_owned(),
    }
}

/// What is odd about a node, and whose votes it has besides its own.
fn note(assessment: &Assessment, member: &Member) -> String {
    let lent = assessment.lent.iter().filter(|lent| lent.with == member.name).map(|lent| format!("has {}'s vote", lent.vote));
    let notes: Vec<String> = member.notes.iter().cloned().chain(lent).collect();
    printable(&notes.join("; "))
}

fn draw_groups(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let focused = state.focus == Focus::Groups;
    let lines = state.lines();
    let count = lines.len();
    let block = block(state, &format!("Groups ({count})"), focused);
    let owner = |line: &GroupLine| line.owner.map_or_else(|| "-".to_owned(), |owner| state.config.name(owner));
    let owners: Vec<String> = lines.iter().map(owner).collect();
    let titles = width(lines.iter().map(|line| line.title.as_str()), 5, area.width * 2 / 5);
    let nodes = width(owners.iter().map(String::as_str), 5, area.width / 4);
    let rows = lines.iter().zip(&owners).map(|(line, owner)| {
        Row::new([
            Cell::new(printable(&line.title)),
            Cell::new(printable(owner)),
            Cell::new(line.status.word()).style(style(state.palette, Ink::of(line.status))),
            Cell::new(line.lease_ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1000.0))),
            Cell::new(printable(&line.note)),
        ])
    });
    let widths = [Constraint::Length(titles), Constraint::Length(nodes), Constraint::Length(9), Constraint::Length(6), Constraint::Min(8)];
    let head = Row::new(["GROUP", "OWNER", "STATUS", "LEASE", "WHY"]).style(style(state.palette, Ink::Quiet));
    draw_table(frame, Table::new(rows, widths).header(head), block, area, focused.then_some(state.group));
}

fn draw_table(frame: &mut Frame<'_>, table: Table<'_>, block: Block<'_>, area: Rect, selected: Option<usize>) {
    let table = table.block(block).row_highlight_style(Style::new().add_modifier(Modifier::REVERSED)).highlight_symbol("> ");
    frame.render_stateful_widget(table, area, &mut TableState::default().with_selected(selected));
}

fn draw_events(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let room = usize::from(area.height.saturating_sub(2));
    let last = state.events.iter().skip(state.events.len().saturating_sub(room));
    let lines: Vec<Line<'_>> = last
        .map(|(at, ink, what)| {
            Line::from(vec![
                Span::styled(format!("{} ", clock(*at, &state.zone)), style(state.palette, Ink::Quiet)),
                Span::styled(what.as_str(), style(state.palette, *ink)),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(block(state, "Changes", false)), area);
}

fn draw_dialog(frame: &mut Frame<'_>, state: &State, dialog: &Dialog, area: Rect) {
    match dialog {
        Dialog::Confirm { question, .. } => {
            let area = window(area, 64, 5);
            let text = vec![Line::from(printable(question)), Line::default(), Line::from("y yes   n no")];
            show(frame, Paragraph::new(text).wrap(Wrap { trim: false }), block(state, "Sure?", true), area);
        }
        Dialog::Pick { group, candidates, at } => {
            let title = state.config.groups[*group].title(&state.config);
            let area = window(area, 64, u16::try_from(candidates.len() + 2).unwrap_or(u16::MAX));
            frame.render_widget(Clear, area);
            let rows = candidates.iter().map(|candidate| Row::new([printable(&state.config.name(*candidate))]));
            let table = Table::new(rows, [Constraint::Min(10)]);
            draw_table(frame, table, block(state, &format!("Move {title} to (Enter, Esc)"), true), area, Some(*at));
        }
        Dialog::Text { title, text, from } => {
            let height = u16::try_from(text.lines().count() + 2).unwrap_or(u16::MAX);
            let area = window(area, area.width.saturating_sub(6), height.max(4));
            let paragraph = Paragraph::new(text.as_str()).wrap(Wrap { trim: false }).scroll((*from, 0));
            show(frame, paragraph, block(state, &format!("{title} (Esc closes)"), true), area);
        }
    }
}

fn show(frame: &mut Frame<'_>, paragraph: Paragraph<'_>, block: Block<'_>, area: Rect) {
    frame.render_widget(Clear, area);
    frame.render_widget(paragraph.block(block), area);
}

/// A window in the middle, no larger than what is there.
fn window(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}

/// As wide as the longest, within bounds.
fn width<'a>(texts: impl Iterator<Item = &'a str>, least: u16, most: u16) -> u16 {
    use unicode_width::UnicodeWidthStr as _;
    let longest = texts.map(|text| u16::try_from(text.width()).unwrap_or(u16::MAX)).max().unwrap_or(0);
    longest.max(least).min(most.max(least))
}

fn clock(at: i64, zone: &TimeZone) -> String {
    Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::{
        health::fixture::{NOON, healthy, kill, of, set, three_nodes},
        model::{Activity, ClusterReport, Config, Kind, Subject, Wish, WishReport},
    };
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    fn screen(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
        terminal.draw(|frame| draw(frame, state)).expect("in memory");
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| format!("{}\n", line(y).trim_end())).collect()
    }

    fn golden(name: &str, state: &State, width: u16, height: u16) {
        let text = screen(state, width, height);
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/watch").join(format!("{name}_{width}x{height}.txt"));
        if std::env::var_os("DRCM_WRITE_GOLDEN").is_some() {
            std::fs::write(&file, &text).expect("the golden file is writable");
        }
        let wanted = std::fs::read_to_string(&file).expect("the golden file exists");
        assert!(text == wanted, "differs from {}:\n{text}", file.display());
    }

    fn of_reports(config: Config, reports: Vec<ClusterReport>) -> State {
        let mut state = State::new(config, TimeZone::UTC, Palette::COLOURED);
        reports.into_iter().for_each(|report| state.learn(report));
        state
    }

    fn press(state: &mut State, code: KeyCode) {
        state.press(KeyEvent::new(code, KeyModifiers::NONE));
    }

    fn failover() -> State {
        let config = three_nodes();
        let before = healthy(&config);
        let mut after = healthy(&config);
        after.at = NOON + 2;
        kill(&mut after, "cmnode2");
        of(&mut after, "cmnode1").quorum.votes = Some(vec![config.nodes[0].id, config.nodes[1].id]);
        set(&mut after, "cmnode1", Kind::Crontab, "apps2", Activity::Running, "");
        of(&mut after, "cmnode1").wishes = vec![WishReport {
            subject: Subject::Standby(crate::model::NodeId::of("cmnode3")),
            wish: Wish::On,
            author: config.nodes[0].id,
            seconds_left: None,
        }];
        of_reports(config, vec![before, after])
    }

    #[test]
    fn a_node_has_died() {
        let state = failover();
        golden("failover", &state, 80, 24);
        golden("failover", &state, 120, 40);
    }

    #[test]
    fn windows_stand_before_the_lists() {
        let mut state = failover();
        press(&mut state, KeyCode::Down);
        press(&mut state, KeyCode::Down);
        press(&mut state, KeyCode::Enter);
        golden("explain", &state, 80, 24);
        press(&mut state, KeyCode::Esc);
        press(&mut state, KeyCode::Home);
        press(&mut state, KeyCode::Char('m'));
        golden("pick", &state, 80, 24);
        press(&mut state, KeyCode::Enter);
        golden("confirm", &state, 80, 24);
        press(&mut state, KeyCode::Esc);
        press(&mut state, KeyCode::Char('?'));
        golden("keys", &state, 80, 24);
    }

    #[test]
    fn nobody_answers() {
        let mut state = State::new(three_nodes(), TimeZone::UTC, Palette::PLAIN);
        state.miss("no node answered:\n  this machine: no daemon", NOON);
        golden("nobody", &state, 80, 24);
    }

    #[test]
    fn any_size_can_be_drawn() {
        let mut state = failover();
        for dialog in [KeyCode::Esc, KeyCode::Enter, KeyCode::Char('?')] {
            press(&mut state, dialog);
            for (width, height) in [(1, 1), (39, 9), (40, 10), (80, 10), (40, 60), (300, 100)] {
                assert_eq!(screen(&state, width, height).lines().count(), usize::from(height));
            }
            press(&mut state, KeyCode::Esc);
        }
    }
}
