//! The events of several nodes in one answer that fits a frame. Pure.

use crate::model::{EventPage, Incident, NodeId};

/// Most events in one answer, whatever was asked for.
const MOST: usize = 1000;

/// The page of a node that answered. What it says of others is not asked for.
#[must_use]
pub fn page_of(node: NodeId, pages: Vec<EventPage>) -> EventPage {
    pages.into_iter().find(|page| page.node == node).unwrap_or_else(|| no_page(node))
}

/// Of a node that did not answer.
#[must_use]
pub fn no_page(node: NodeId) -> EventPage {
    EventPage { node, answered: false, newest: 0, events: Vec::new() }
}

/// The newest of all of them, so many at most.
#[must_use]
pub fn within(mut pages: Vec<EventPage>, newest: u32) -> Vec<EventPage> {
    let most = usize::try_from(newest).unwrap_or(MOST).min(MOST);
    let age = |page: &EventPage, event: &Incident| (event.at_ms, page.node, event.number);
    let mut ages: Vec<_> = pages.iter().flat_map(|page| page.events.iter().map(|event| age(page, event))).collect();
    ages.sort_unstable_by(|one, other| other.cmp(one));
    if let Some(too_old) = ages.get(most) {
        for page in &mut pages {
            let node = page.node;
            page.events.retain(|event| (event.at_ms, node, event.number) > *too_old);
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IncidentKind, Severity};

    fn event(number: u64, at_ms: i64) -> Incident {
        Incident {
            number,
            at_ms,
            boot_ms: 0,
            node: String::new(),
            kind: IncidentKind::NodeUp,
            severity: Severity::Info,
            about: None,
            group: None,
            resource: None,
            text: String::new(),
            timeline: None,
            took_ms: None,
            tells: true,
        }
    }

    #[test]
    fn the_newest_of_all_nodes_are_kept() {
        let page = |node, times: &[i64]| EventPage {
            node: NodeId(node),
            answered: true,
            newest: 9,
            events: times.iter().enumerate().map(|(at, time)| event(at as u64 + 1, *time)).collect(),
        };
        let pages = || vec![page(1, &[10, 30, 50]), page(2, &[20, 40, 60]), no_page(NodeId(3))];
        let left = |pages: Vec<EventPage>| -> Vec<Vec<i64>> {
            pages.iter().map(|page| page.events.iter().map(|event| event.at_ms).collect()).collect()
        };
        assert_eq!(left(within(pages(), 3)), [vec![50], vec![40, 60], vec![]]);
        assert_eq!(left(within(vec![page(1, &[7, 7, 7, 7])], 3)), [vec![7, 7, 7]]);
        assert_eq!(left(within(pages(), 6)), [vec![10, 30, 50], vec![20, 40, 60], vec![]]);
        assert_eq!(left(within(pages(), 0)), [vec![], vec![], vec![]] as [Vec<i64>; 3]);
        assert_eq!(page_of(NodeId(2), pages()).newest, 9);
        assert!(!page_of(NodeId(7), pages()).answered);
    }
}
