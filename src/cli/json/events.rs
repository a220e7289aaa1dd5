//! `drcm.events/1`, and `drcm.event/1` for a single one.

use super::page;
use crate::model::{Config, EventPage, EventsDocument, Incident};

/// The document of what was chosen of these pages.
#[must_use]
pub fn events(config: &Config, pages: &[EventPage], chosen: &[&Incident]) -> String {
    page(&EventsDocument::new(config, pages, chosen))
}

/// The document of one event, in a line.
#[must_use]
pub fn event(event: &Incident) -> String {
    serde_json::to_string(&event.document()).expect("plain data, which JSON can hold") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::json::golden,
        health::fixture::{failover, three_nodes},
        model::NodeId,
    };

    #[test]
    fn a_failover_with_its_timeline() {
        let config = three_nodes();
        let event = failover(8, 1_790_000_000_123);
        let pages = [EventPage { node: NodeId::of("cmnode2"), answered: true, newest: 8, events: vec![event.clone()] }];
        golden("events", "drcm.events/1", &events(&config, &pages, &[&event]));
        let line = self::event(&event);
        assert_eq!(line.lines().count(), 1);
        let again: Incident = serde_json::from_str(&line).expect("an event");
        assert_eq!(again, event, "the journal is read as it is written");
    }

    #[test]
    fn every_word_is_documented() {
        use crate::model::IncidentKind;
        let documented = include_str!("../../../docs/json.md");
        for kind in IncidentKind::ALL {
            assert!(documented.contains(&format!("`{}`", kind.word())), "{}", kind.word());
        }
    }
}
