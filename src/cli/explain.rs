//! `drcm explain NICKNAME`: where a resource runs, why there and not elsewhere, and what it waits for: from what every node says
//! of it.

use std::fmt::Write;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    operate,
    output::printable,
    paint::{Ink, Palette},
    table::Table,
};
use crate::{
    health::{View, activity_word, describe},
    model::{Activity, ClusterReport, Config, Failback, Group, NodeId, Quorum, ResourceId, Subject, Wish, in_words},
};

/// The text about these groups. Times are shown in `zone`.
#[must_use]
pub fn render(config: &Config, report: &ClusterReport, groups: &[&Group], zone: &TimeZone, palette: Palette) -> String {
    let view = View::new(config, report);
    let pages: Vec<String> = groups.iter().map(|group| Page { view: &view, group, zone, palette }.render()).collect();
    pages.join("\n")
}

/// The text about resources that no node lists.
#[must_use]
pub fn unlisted(resources: &[&ResourceId]) -> String {
    let line = |id: &&ResourceId| format!("{id} is defined, but no node lists it as its own: nobody runs it\n");
    resources.iter().map(line).collect()
}

/// One group.
struct Page<'a> {
    view: &'a View<'a>,
    group: &'a Group,
    zone: &'a TimeZone,
    palette: Palette,
}

impl Page<'_> {
    fn render(&self) -> String {
        let (view, group) = (self.view, self.group);
        let mut text = format!("{}\n", self.palette.paint(Ink::Strong, &printable(&group.title(view.config))));
        for assignment in &group.assignments {
            let id = &assignment.resource;
            let what = view.resource(id).map(|resource| describe(&resource.spec)).unwrap_or_default();
            self.line(&mut text, Ink::Plain, &format!("{id}: {what}"));
        }
        if group.assignments.len() > 1 {
            self.line(&mut text, Ink::Quiet, "these have the same home and the same backups, so they move together");
        }
        let (ink, state) = self.state();
        self.line(&mut text, ink, &state);
        text.push('\n');
        text.push_str(&self.candidates());
        let wishes = self.wishes();
        let waits = self.waits();
        if !wishes.is_empty() || !waits.is_empty() {
            text.push('\n');
        }
        for wish in wishes {
            self.line(&mut text, Ink::Warning, &wish);
        }
        for wait in waits {
            self.line(&mut text, Ink::Plain, &wait);
        }
        text
    }

    fn line(&self, text: &mut String, ink: Ink, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}", self.palette.paint(ink, &printable(line)));
    }

    /// Where it runs now.
    fn state(&self) -> (Ink, String) {
        let (view, group) = (self.view, self.group);
        let owners = self.owners();
        let since = |owner: NodeId| {
            let times = group.assignments.iter().filter_map(|assignment| view.on(owner, assignment)?.since);
            times.max().map_or_else(String::new, |at| format!(" since {}", self.moment(at)))
        };
        match owners[..] {
            [] => match group.candidates.iter().copied().find(|node| self.activity(*node).is_some_and(Activity::is_on_its_way)) {
                Some(node) => (Ink::Warning, format!("is being brought up or down on {}", view.name(node))),
                None if group.candidates.iter().any(|node| view.is_up(*node) && view.node_report(*node).is_none()) => {
                    (Ink::Warning, "is not known to run: a node that may run it gave no report".to_owned())
                }
                None => (Ink::Bad, "runs nowhere".to_owned()),
            },
            [owner] if owner == group.home => (Ink::Good, format!("runs at home, on {}{}", view.name(owner), since(owner))),
            [owner] => {
                (Ink::Warning, format!("runs on {}{}, away from its home {}", view.name(owner), since(owner), view.name(group.home)))
            }
            ref several => {
                let names: Vec<String> = several.iter().map(|owner| view.name(*owner)).collect();
                (Ink::Bad, format!("runs on {}, and may run on one node only: check the network between them", names.join(" and ")))
            }
        }
    }

    fn owners(&self) -> Vec<NodeId> {
        let runs = |node: &NodeId| {
            let here = |assignment| self.view.on(*node, assignment).is_some_and(|resource| resource.activity == Activity::Running);
            self.group.assignments.iter().any(here)
        };
        self.group.candidates.iter().copied().filter(runs).collect()
    }

    fn activity(&self, node: NodeId) -> Option<Activity> {
        self.view.group_on(node, self.group).map(|its| its.activity)
    }

    /// Every candidate, in the order in which they are to have it.
    fn candidates(&self) -> String {
        let (view, group) = (self.view, self.group);
        let mut table = Table::new(&["  NODE", "RANK", "STATE", "WHY"]);
        for (rank, candidate) in group.candidates.iter().enumerate() {
            let rank = if rank == 0 { "home".to_owned() } else { format!("backup {rank}") };
            let its = view.group_on(*candidate, group);
            let (ink, state) = match its.map(|its| its.activity) {
                Some(activity @ Activity::Running) => (Ink::Good, activity_word(activity)),
                Some(activity @ Activity::Failed) => (Ink::Bad, activity_word(activity)),
                Some(activity @ Activity::Stopped) => (Ink::Plain, activity_word(activity)),
                Some(activity @ (Activity::Asking | Activity::Starting | Activity::Stopping)) => (Ink::Warning, activity_word(activity)),
                None if view.is_up(*candidate) => (Ink::Warning, "no report"),
                None => (Ink::Bad, "down"),
            };
            let why = match its {
                Some(its) if its.activity == Activity::Running && !group.is_leased() => {
                    "needs no lease: no other node may run it".to_owned()
                }
                Some(its) if its.activity == Activity::Running => self.right(*candidate),
                Some(_) | None => self.reasons(*candidate).join("; "),
            };
            table.inked(&[(&format!("  {}", view.name(*candidate)), Ink::Plain), (&rank, Ink::Plain), (state, ink), (&why, Ink::Plain)]);
        }
        table.render_in(self.palette)
    }

    /// By what right a node runs it.
    fn right(&self, owner: NodeId) -> String {
        match self.preferred() {
            Some((node, _)) if node == owner => "holds the lease; an operator wants it here".to_owned(),
            Some(_) => "holds the lease".to_owned(),
            None if owner == self.group.home => "holds the lease, and is its home".to_owned(),
            None => "holds the lease; the nodes before it could not".to_owned(),
        }
    }

    /// What keeps a node from running it: its own words, and each failure once.
    fn reasons(&self, node: NodeId) -> Vec<String> {
        let (view, group) = (self.view, self.group);
        let mut reasons: Vec<String> = Vec::new();
        let prefix = format!("{}: ", view.name(node));
        for assignment in &group.assignments {
            let reason = view.why_not(node, group, assignment);
            let reason = reason.strip_prefix(&prefix).unwrap_or(&reason).to_owned();
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        // The state says it already.
        reasons.retain(|reason| reason != "down");
        reasons
    }

    /// Where operators want it, and the seconds left of that.
    fn preferred(&self) -> Option<(NodeId, Option<u64>)> {
        let wishes = &self.view.asked()?.wishes;
        wishes.iter().find_map(|wish| match (wish.subject, wish.wish) {
            (Subject::Place(group), Wish::Prefer(node)) if group == self.group.id => Some((node, wish.seconds_left)),
            _ => None,
        })
    }

    /// What operators want that concerns it.
    fn wishes(&self) -> Vec<String> {
        let concerns = |subject| match subject {
            Subject::Maintenance => true,
            Subject::Standby(node) => self.group.candidates.contains(&node),
            Subject::Place(group) | Subject::Cleanup(group, _) => group == self.group.id,
        };
        let wishes = self.view.asked().map(|asked| asked.wishes.as_slice()).unwrap_or_default();
        wishes.iter().filter(|wish| concerns(wish.subject)).filter_map(|wish| operate::sentence(self.view.config, wish)).collect()
    }

    /// What has to happen before it is where it belongs, and how to make it happen.
    fn waits(&self) -> Vec<String> {
        let (view, group) = (self.view, self.group);
        let config = view.config;
        let owners = self.owners();
        let belongs = self.preferred().map_or(group.home, |(node, _)| node);
        if owners.len() > 1 || owners.first() == Some(&belongs) || owners.is_empty() && self.is_on_its_way() {
            return Vec::new();
        }
        let nickname = self.nickname();
        let mut waits = Vec::new();
        if let Some(owner) = owners.first() {
            waits.push(match self.keeps_from(belongs) {
                Some(obstacle) => format!("waits for {}: {obstacle}", view.name(belongs)),
                None if config.server.failback == Failback::Manual && self.preferred().is_none() => {
                    format!("stays on {} (failback = manual) until `drcm failback {nickname}`", view.name(*owner))
                }
                None => format!(
                    "goes to {} once that has been well for {} (failback_delay)",
                    view.name(belongs),
                    in_words(config.server.failback_delay.as_secs())
                ),
            });
            return waits;
        }
        for candidate in &group.candidates {
            let why = self.keeps_from(*candidate).unwrap_or_else(|| self.reasons(*candidate).join("; "));
            waits.push(format!("waits for {}: {}", view.name(*candidate), if why.is_empty() { "nothing known" } else { &why }));
        }
        if group.candidates.len() == 1 {
            waits.push(format!("no other node may run it: name {}:{nickname} in the backup list of another", view.name(group.home)));
        }
        if let Some(quorum) =
            view.asked().map(|asked| &asked.quorum).filter(|quorum| group.is_leased() && !quorum.quorate && !quorum.silent)
            && !(config.server.quorum == Quorum::None || config.server.quorum == Quorum::Auto && quorum.voters == 2)
        {
            waits.push(format!("waits for a majority: {} of {} voters are in touch, start more nodes", quorum.voters_seen, quorum.voters));
        }
        waits
    }

    fn is_on_its_way(&self) -> bool {
        self.group.candidates.iter().any(|node| self.activity(*node).is_some_and(Activity::is_on_its_way))
    }

    /// Why a node cannot take it, and what would change that; nothing when it could.
    fn keeps_from(&self, node: NodeId) -> Option<String> {
        let (view, group) = (self.view, self.group);
        let name = view.name(node);
        let wishes = view.asked().map(|asked| asked.wishes.as_slice()).unwrap_or_default();
        let wished = |subject| wishes.iter().any(|wish| wish.subject == subject && wish.wish == Wish::On);
        if view.config.node(node).is_some_and(|node| !node.active) {
            return Some("it is inactive (node_is_active = 0)".to_owned());
        }
        if wished(Subject::Standby(node)) {
            return Some(format!("it is in standby, until `drcm online {name}`"));
        }
        if !view.is_up(node) {
            return Some("it is down: start it, or look at its log".to_owned());
        }
        if self.activity(node) == Some(Activity::Failed) {
            let nickname = self.nickname();
            return Some(format!(
                "it failed there ({}); mend that and say `drcm cleanup {nickname} {name}`",
                self.reasons(node).join("; ")
            ));
        }
        let report = view.node_report(node)?;
        if !report.quorum.quorate && group.is_leased() && !report.quorum.silent {
            return Some("it does not see a majority".to_owned());
        }
        wished(Subject::Maintenance).then(|| "maintenance is on, until `drcm maintenance off`".to_owned())
    }

    /// How an operator would name it in a command: short where that is clear.
    fn nickname(&self) -> String {
        let config = self.view.config;
        let first = &self.group.assignments[0].resource;
        let others = config.groups.iter().filter(|group| group.assignments.iter().any(|own| own.resource.nickname == first.nickname));
        if others.count() == 1 { first.nickname.clone() } else { self.group.title(config) }
    }

    fn moment(&self, at: i64) -> String {
        Timestamp::from_second(at)
            .map_or_else(|_| at.to_string(), |at| at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::select,
        health::fixture::{NOON, healthy, kill, of, outlined, set, three_nodes},
        model::{Kind, Problem, WishReport},
    };

    fn golden(name: &str, nickname: &str, config: &Config, report: &ClusterReport) {
        let groups = select::groups(config, std::path::Path::new("cm.cfg"), nickname).expect("known");
        let text = render(config, report, &groups, &TimeZone::UTC, Palette::PLAIN);
        assert_eq!(text, render(config, &outlined(report), &groups, &TimeZone::UTC, Palette::PLAIN));
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/explain").join(format!("{name}.txt"));
        if std::env::var_os("DRCM_WRITE_GOLDEN").is_some() {
            std::fs::write(&file, &text).expect("the golden file is writable");
        }
        let wanted = std::fs::read_to_string(&file).expect("the golden file exists");
        assert!(text == wanted, "differs from {}:\n{text}", file.display());
    }

    #[test]
    fn at_home() {
        let config = three_nodes();
        golden("at_home", "cmnodef", &config, &healthy(&config));
    }

    #[test]
    fn several_homes_have_a_page_each() {
        let config = three_nodes();
        golden("two_homes", "web", &config, &healthy(&config));
    }

    #[test]
    fn away_because_home_is_down() {
        let config = three_nodes();
        let mut report = healthy(&config);
        kill(&mut report, "cmnode2");
        set(&mut report, "cmnode1", Kind::Crontab, "apps2", Activity::Running, "");
        golden("home_down", "apps2", &config, &report);
    }

    #[test]
    fn failed_everywhere() {
        let config = three_nodes();
        let mut report = healthy(&config);
        for name in ["cmnode1", "cmnode3"] {
            set(&mut report, name, Kind::FileSystem, "data", Activity::Failed, "it failed on this node");
            let problem = Problem { message: "mount: 192.168.122.1 does not answer: check the server".into(), at: NOON, count: 3 };
            let own = of(&mut report, name);
            own.resources.iter_mut().find(|resource| resource.resource.nickname == "data").expect("listed").problem = Some(problem);
        }
        golden("failed", "data", &config, &report);
    }

    #[test]
    fn moved_and_held_back_by_operators() {
        let mut config = three_nodes();
        config.server.failback = Failback::Manual;
        let mut report = healthy(&config);
        let author = NodeId::of("cmnode3");
        let wish = |subject, wish, seconds_left| WishReport { subject, wish, author, seconds_left };
        let (second, third) = (NodeId::of("cmnode2"), NodeId::of("cmnode3"));
        of(&mut report, "cmnode1").wishes = vec![
            wish(Subject::Place(config.groups[0].id), Wish::Prefer(third), Some(7140)),
            wish(Subject::Standby(third), Wish::On, None),
            wish(Subject::Standby(NodeId(1)), Wish::On, None),
        ];
        golden("moved", "cmnodef", &config, &report);
        set(&mut report, "cmnode1", Kind::Crontab, "apps2", Activity::Running, "");
        set(&mut report, "cmnode2", Kind::Crontab, "apps2", Activity::Stopped, "cmnode1 owns it");
        golden("manual", "apps2", &config, &report);
        let maintenance = wish(Subject::Maintenance, Wish::On, None);
        of(&mut report, "cmnode1").wishes = vec![maintenance, wish(Subject::Standby(second), Wish::On, None)];
        golden("maintenance", "apps2", &config, &report);
    }

    #[test]
    fn what_nobody_lists_is_said_to_be_so() {
        let id = ResourceId { kind: Kind::Address, nickname: "spare".into() };
        assert_eq!(unlisted(&[&id]), "ip:spare is defined, but no node lists it as its own: nobody runs it\n");
    }
}
