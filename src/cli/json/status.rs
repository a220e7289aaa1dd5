//! `drcm.status/1`

use super::page;
use crate::{
    health,
    model::{ClusterReport, Config},
};

/// The document of a cluster that answered.
#[must_use]
pub fn status(config: &Config, report: &ClusterReport) -> String {
    page(&health::document(config, report))
}

/// The document when no node answered, `at` seconds since 1970.
#[must_use]
pub fn status_unanswered(config: &Config, at: i64) -> String {
    page(&health::unanswered(config, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::json::golden,
        health::fixture::{NOON, healthy, kill, of, outlined, set, three_nodes},
        model::{Activity, Fingerprint, Kind, NodeId, Subject, Wish, WishReport},
    };

    #[test]
    fn all_is_well() {
        let config = three_nodes();
        let report = healthy(&config);
        let text = status(&config, &report);
        assert_eq!(text, status(&config, &outlined(&report)));
        golden("status_healthy", "drcm.status/1", &text);
    }

    #[test]
    fn everything_that_can_be_said_is_said() {
        let config = three_nodes();
        let mut report = healthy(&config);
        kill(&mut report, "cmnode2");
        set(&mut report, "cmnode1", Kind::Crontab, "apps2", Activity::Running, "");
        set(&mut report, "cmnode3", Kind::Address, "cmnodef", Activity::Running, "");
        let author = NodeId::of("cmnode3");
        let wish = |subject, wish, seconds_left| WishReport { subject, wish, author, seconds_left };
        let asked = of(&mut report, "cmnode1");
        asked.dropped = vec![("bad seal".into(), 12)];
        asked.quorum.votes = Some(vec![NodeId::of("cmnode1"), NodeId::of("cmnode2")]);
        asked.wishes = vec![
            wish(Subject::Maintenance, Wish::On, None),
            wish(Subject::Standby(author), Wish::On, None),
            wish(Subject::Place(config.groups[0].id), Wish::Prefer(author), Some(7_140)),
            wish(Subject::Place(config.groups[1].id), Wish::Home, Some(86_399)),
        ];
        let third = of(&mut report, "cmnode3");
        third.fingerprint = Fingerprint(2);
        third.quorum.alive.retain(|node| *node != NodeId::of("cmnode1"));
        golden("status_everything", "drcm.status/1", &status(&config, &report));
    }

    #[test]
    fn no_node_answers() {
        golden("status_no_answer", "drcm.status/1", &status_unanswered(&three_nodes(), NOON));
    }
}
