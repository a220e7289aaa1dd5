//! What voters tell nodes that are no voters about each other, so that those need not hear each other: a roster on the
//! side that tells, what came of it on the side that is told.
//!
//! Every change of a roster has a number of its own. A reader that has come as far as N takes what changed after N, in one
//! message or in ten, repeated or not; one that lacks something sees it from the numbers.

use crate::model::{BootId, Fact, Roster, Version};

/// Most facts in one message: the longest takes 51 bytes.
const FACTS_PER_MESSAGE: usize = 24;

/// What a voter knows of the nodes that are no voters, by their place among its members.
#[derive(Clone, Debug, Default, Hash)]
pub struct Book {
    /// The number before its first change. A process that takes the place of another begins with a higher one.
    began: Version,
    version: Version,
    /// Told to everyone up to here.
    told: Version,
    /// Something has changed since that must not wait for the next heartbeat.
    urgent: bool,
    known: Vec<Option<Known>>,
}

#[derive(Clone, Debug, Hash)]
struct Known {
    fact: Fact,
    changed: Version,
}

impl Book {
    pub fn beginning(began: Version) -> Self {
        Self { began, version: began, told: began, ..Self::default() }
    }

    pub fn began(&self) -> Version {
        self.began
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Notes what is known of the member at this place; counts it as a change when it is news.
    pub fn note(&mut self, place: usize, fact: Fact) {
        if self.known.len() <= place {
            self.known.resize(place + 1, None);
        }
        let before = self.known[place].as_ref().map(|known| known.fact);
        if before.is_some_and(|before| same(&before, &fact)) {
            return;
        }
        self.version = self.version.next();
        // Who comes back may wait; who goes, hands over or changes its mind may not.
        self.urgent |= before.is_some_and(|before| before.alive);
        self.known[place] = Some(Known { fact, changed: self.version });
    }

    /// What must be told to everyone now: what changed since the last time, when something of it is urgent or a heartbeat
    /// is under way anyhow.
    pub fn news(&mut self, heartbeat: bool, age_us: impl Fn(usize) -> u64) -> Vec<Roster> {
        if self.told == self.version || !(self.urgent || heartbeat) {
            return Vec::new();
        }
        let from = std::mem::replace(&mut self.told, self.version);
        self.urgent = false;
        self.since(from, age_us)
    }

    /// Everything that changed after `from`. `age_us`: for how long the member at a place has not been heard.
    pub fn since(&self, from: Version, age_us: impl Fn(usize) -> u64) -> Vec<Roster> {
        let mut changed: Vec<(Version, Fact)> = self
            .known
            .iter()
            .enumerate()
            .filter_map(|(place, known)| known.as_ref().map(|known| (place, known)))
            .filter(|(_, known)| known.changed > from)
            .map(|(place, known)| (known.changed, Fact { age_us: age_us(place), ..known.fact }))
            .collect();
        changed.sort_unstable_by_key(|(changed, _)| *changed);
        let began = self.began;
        let mut from = from.max(began);
        let mut parts = Vec::new();
        for part in changed.chunks(FACTS_PER_MESSAGE) {
            let to = part.last().map_or(self.version, |(changed, _)| *changed);
            parts.push(Roster { began, from, to, facts: part.iter().map(|(_, fact)| *fact).collect() });
            from = to;
        }
        parts
    }
}

/// Whether two facts say the same; when it was heard last does not count.
fn same(one: &Fact, other: &Fact) -> bool {
    let Fact { node: _, boot, alive, age_us: _, tag: _, state, version, entries } = *one;
    (boot, alive, state, version, entries) == (other.boot, other.alive, other.state, other.version, other.entries)
}

/// What one voter has told.
#[derive(Clone, Debug, Default, Hash)]
pub struct Told {
    /// The number with which its roster began.
    pub began: Version,
    /// Its roster is known up to here.
    pub have: Version,
    /// The members it calls alive, by place, and the incarnation it speaks of.
    vouches: Vec<(usize, BootId)>,
}

impl Told {
    /// Nothing yet of a roster that begins with this number.
    pub fn beginning(began: Version) -> Self {
        Self { began, have: began, vouches: Vec::new() }
    }

    /// It calls a member alive, or no longer.
    pub fn vouches(&mut self, place: usize, boot: Option<BootId>) {
        self.vouches.retain(|(other, _)| *other != place);
        self.vouches.extend(boot.map(|boot| (place, boot)));
    }

    /// Whom it calls alive.
    pub fn vouched(&self) -> impl Iterator<Item = (usize, BootId)> + '_ {
        self.vouches.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NodeId, NodeState, Tag};

    fn fact(node: u64, version: u64, alive: bool) -> Fact {
        Fact {
            node: NodeId(node),
            boot: BootId(1),
            alive,
            age_us: 0,
            tag: Tag(version),
            state: NodeState::default(),
            version: Version(version),
            entries: 1,
        }
    }

    fn nodes(parts: &[Roster]) -> Vec<u64> {
        parts.iter().flat_map(|part| &part.facts).map(|fact| fact.node.0).collect()
    }

    #[test]
    fn only_news_counts_and_each_change_has_its_number() {
        let mut book = Book::default();
        book.note(0, fact(10, 1, true));
        book.note(1, fact(11, 1, true));
        book.note(0, Fact { age_us: 7, tag: Tag(99), ..fact(10, 1, true) });
        assert_eq!(book.version(), Version(2));
        book.note(0, fact(10, 2, true));
        assert_eq!(nodes(&book.since(Version(0), |_| 0)), [11, 10]);
        assert_eq!(nodes(&book.since(Version(2), |_| 0)), [10]);
        assert!(book.since(Version(3), |_| 0).is_empty());
    }

    #[test]
    fn a_newcomer_waits_for_the_heartbeat_and_a_death_does_not() {
        let mut book = Book::default();
        book.note(0, fact(10, 1, true));
        assert!(book.news(false, |_| 0).is_empty());
        assert_eq!(nodes(&book.news(true, |_| 0)), [10]);
        book.note(0, fact(10, 1, false));
        assert_eq!(nodes(&book.news(false, |_| 0)), [10]);
        assert!(book.news(true, |_| 0).is_empty());
        book.note(0, fact(10, 1, true));
        assert!(book.news(false, |_| 0).is_empty());
    }

    #[test]
    fn a_long_roster_is_told_in_parts_that_follow_each_other() {
        let mut book = Book::default();
        for place in 0..200 {
            book.note(place, fact(place as u64, 1, true));
        }
        let parts = book.since(Version(3), |place| place as u64);
        assert_eq!(parts.len(), 9);
        let mut have = Version(3);
        for part in &parts {
            assert_eq!(part.from, have);
            have = part.to;
        }
        assert_eq!(have, book.version());
        assert_eq!(nodes(&parts), (3..200).collect::<Vec<_>>());
    }
}
