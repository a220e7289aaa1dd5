//! What operators want, replicated: the last word on each subject counts, by (counter, author). Nodes give each other all
//! they know; in whatever order it comes, however often, all end up with the same.
//!
//! Time: an end travels as what is left of it and is kept by the clock of each node. Of two copies of one wish the one that
//! ends earlier counts, and one that is over stays over; so neither a slow clock nor a reboot, after which a node knows only
//! what was left when it last wrote it down, can keep a wish alive that has ended elsewhere.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::model::{Lasts, NodeId, Record, Stamp, Subject, Time, Wish, WishDigest};

/// Most subjects that are remembered; of more, the oldest words are forgotten, the same on every node.
pub const MAX_WISHES: usize = 512;
/// How long a word that is over is remembered: a node that was away for longer may bring an older one back.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest that a wish with an end may last.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// A counter further ahead than this is not believed: every order since the cluster was made would not come so far, and one
/// absurd number must not leave no room for the next word.
const LEAP: u64 = 1 << 32;
/// Counters end here, which no believable sequence of words reaches.
const LAST_COUNTER: u64 = 1 << 62;

/// Until when a wish lasts, by the clock of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Until {
    Always,
    Ends(Time),
    /// Over; to be forgotten then.
    Over(Time),
}

impl Until {
    fn of(lasts: Lasts, now: Time) -> Self {
        let after = |ms: u64, longest: Duration| now + Duration::from_millis(ms).min(longest);
        match lasts {
            Lasts::Always => Self::Always,
            Lasts::For(0) => Self::Over(now + REMEMBERED),
            Lasts::For(ms) => Self::Ends(after(ms, LONGEST)),
            Lasts::Over(ms) => Self::Over(after(ms, REMEMBERED)),
        }
    }

    fn lasts(self, now: Time) -> Lasts {
        match self {
            Self::Always => Lasts::Always,
            // Never nothing: that would say it is over.
            Self::Ends(at) => Lasts::For(millis(at.since(now)).max(1)),
            Self::Over(at) => Lasts::Over(millis(at.since(now))),
        }
    }

    /// Of two copies of one wish.
    fn earlier(self, other: Self) -> Self {
        match (self, other) {
            (Self::Over(one), Self::Over(other)) => Self::Over(one.min(other)),
            (over @ Self::Over(_), _) | (_, over @ Self::Over(_)) => over,
            (Self::Ends(one), Self::Ends(other)) => Self::Ends(one.min(other)),
            (ends @ Self::Ends(_), Self::Always) | (Self::Always, ends @ Self::Ends(_)) => ends,
            (Self::Always, Self::Always) => Self::Always,
        }
    }

    fn is_over(self) -> bool {
        matches!(self, Self::Over(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Word {
    stamp: Stamp,
    wish: Wish,
    until: Until,
}

/// A wish in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    pub stamp: Stamp,
    pub wish: Wish,
    /// Its end by the clock of this node; none until it is taken back.
    pub ends: Option<Time>,
}

/// What one node knows of what operators want.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WishMap {
    words: BTreeMap<Subject, Word>,
    /// The greatest counter ever seen.
    counter: u64,
    digest: WishDigest,
}

impl WishMap {
    /// Takes in what someone knows. Returns the subjects on which there is a new word, or whose word is over now.
    pub fn merge(&mut self, records: &[Record], now: Time) -> Vec<Subject> {
        let mut changed = Vec::new();
        for record in records {
            if self.take(record, now) {
                changed.push(record.subject);
            }
        }
        if !changed.is_empty() {
            self.forget_surplus();
            self.renew_digest();
            changed.sort_unstable();
            changed.dedup();
        }
        changed
    }

    fn take(&mut self, record: &Record, now: Time) -> bool {
        let Record { subject, stamp, wish, lasts } = *record;
        if !fits(subject, wish) || stamp.counter > LAST_COUNTER || stamp.counter > self.counter.saturating_add(LEAP) {
            return false;
        }
        let mut until = Until::of(lasts, now);
        if !until.is_over() && (wish == Wish::Cleared || matches!(subject, Subject::Cleanup(..))) {
            until = Until::Over(now + REMEMBERED);
        }
        self.counter = self.counter.max(stamp.counter);
        let new = Word { stamp, wish, until };
        let Some(old) = self.words.get_mut(&subject) else {
            self.words.insert(subject, new);
            return true;
        };
        if (new.stamp, new.wish) != (old.stamp, old.wish) {
            let newer = (new.stamp, new.wish) > (old.stamp, old.wish);
            if newer {
                *old = new;
            }
            return newer;
        }
        let was_over = old.until.is_over();
        old.until = old.until.earlier(until);
        old.until.is_over() != was_over
    }

    /// Ends what has run out and forgets what was over long ago. Returns the subjects whose wish ended.
    pub fn expire(&mut self, now: Time) -> Vec<Subject> {
        let mut lapsed = Vec::new();
        let before = self.words.len();
        for (subject, word) in &mut self.words {
            if matches!(word.until, Until::Ends(at) if at <= now) {
                word.until = Until::Over(now + REMEMBERED);
                lapsed.push(*subject);
            }
        }
        self.words.retain(|_, word| !matches!(word.until, Until::Over(at) if at <= now));
        if !lapsed.is_empty() || self.words.len() != before {
            self.renew_digest();
        }
        lapsed
    }

    /// When the next wish ends.
    pub fn next_end(&self) -> Option<Time> {
        let end = |word: &Word| match word.until {
            Until::Ends(at) => Some(at),
            Until::Always | Until::Over(_) => None,
        };
        self.words.values().filter_map(end).min()
    }

    /// The wish in force about a subject.
    pub fn live(&self, subject: Subject) -> Option<Live> {
        self.words.get(&subject).and_then(Word::live)
    }

    /// Every wish in force.
    pub fn all_live(&self) -> impl Iterator<Item = (Subject, Live)> + '_ {
        self.words.iter().filter_map(|(subject, word)| Some((*subject, word.live()?)))
    }

    /// The last word about a subject, in force or not.
    pub fn word(&self, subject: Subject) -> Option<(Stamp, Wish)> {
        self.words.get(&subject).map(|word| (word.stamp, word.wish))
    }

    /// All of it, as it travels and is kept.
    pub fn records(&self, now: Time) -> Vec<Record> {
        let record = |(subject, word): (&Subject, &Word)| Record {
            subject: *subject,
            stamp: word.stamp,
            wish: word.wish,
            lasts: word.until.lasts(now),
        };
        self.words.iter().map(record).collect()
    }

    /// The stamp of the next word said here; none when counters have come to their end.
    pub fn next_stamp(&self, author: NodeId) -> Option<Stamp> {
        (self.counter < LAST_COUNTER).then(|| Stamp { counter: self.counter + 1, author })
    }

    /// Whether so many new subjects find room besides what is in force.
    pub fn has_room(&self, subjects: &[Subject]) -> bool {
        let others = self.all_live().filter(|(subject, _)| !subjects.contains(subject)).count();
        others + subjects.len() <= MAX_WISHES
    }

    /// Equal on nodes that agree.
    pub fn digest(&self) -> WishDigest {
        self.digest
    }

    /// What is over goes by age like the rest: any other order would depend on when a node looks.
    fn forget_surplus(&mut self) {
        while self.words.len() > MAX_WISHES {
            let oldest = self.words.iter().min_by_key(|(subject, word)| (word.stamp, word.wish, **subject)).map(|(subject, _)| *subject);
            if let Some(oldest) = oldest {
                self.words.remove(&oldest);
            }
        }
    }

    fn renew_digest(&mut self) {
        if self.words.is_empty() {
            self.digest = WishDigest(0);
            return;
        }
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        for (subject, word) in &self.words {
            let (kind, one, other): (u8, u64, u64) = match *subject {
                Subject::Maintenance => (0, 0, 0),
                Subject::Standby(node) => (1, node.0, 0),
                Subject::Place(group) => (2, group.0, 0),
                Subject::Cleanup(group, node) => (3, group.0, node.0),
            };
            let (wish, preferred): (u8, u64) = match word.wish {
                Wish::Cleared => (0, 0),
                Wish::On => (1, 0),
                Wish::Prefer(node) => (2, node.0),
                Wish::Home => (3, 0),
            };
            hasher.write(&[kind, wish, u8::from(word.until.is_over())]);
            for part in [one, other, preferred, word.stamp.counter, word.stamp.author.0] {
                hasher.write(&part.to_le_bytes());
            }
        }
        // Zero is for none.
        self.digest = WishDigest(hasher.finish().max(1));
    }
}

impl Word {
    fn live(&self) -> Option<Live> {
        let ends = match self.until {
            Until::Always => None,
            Until::Ends(at) => Some(at),
            Until::Over(_) => return None,
        };
        Some(Live { stamp: self.stamp, wish: self.wish, ends })
    }
}

/// How long a word that is over from the beginning is remembered, as it travels.
pub fn over() -> Lasts {
    Lasts::Over(millis(REMEMBERED))
}

/// Whether a wish can be had about a subject.
fn fits(subject: Subject, wish: Wish) -> bool {
    match subject {
        Subject::Maintenance | Subject::Standby(_) => matches!(wish, Wish::On | Wish::Cleared),
        Subject::Place(_) => matches!(wish, Wish::Prefer(_) | Wish::Home | Wish::Cleared),
        Subject::Cleanup(..) => wish == Wish::On,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// 64-bit FNV-1a: the same on every architecture, since it travels.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::GroupId;

    const NOW: Time = Time(1_000_000_000);

    fn record(subject: Subject, counter: u64, author: u64, wish: Wish, lasts: Lasts) -> Record {
        Record { subject, stamp: Stamp { counter, author: NodeId(author) }, wish, lasts }
    }

    fn map(records: &[Record]) -> WishMap {
        let mut map = WishMap::default();
        map.merge(records, NOW);
        map
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let subject = prop_oneof![
            Just(Subject::Maintenance),
            (0..3_u64).prop_map(|node| Subject::Standby(NodeId(node))),
            (0..3_u64).prop_map(|group| Subject::Place(GroupId(group))),
            (0..2_u64, 0..2_u64).prop_map(|(group, node)| Subject::Cleanup(GroupId(group), NodeId(node))),
        ];
        let wish =
            prop_oneof![Just(Wish::Cleared), Just(Wish::On), (0..3_u64).prop_map(|node| Wish::Prefer(NodeId(node))), Just(Wish::Home)];
        let lasts =
            prop_oneof![Just(Lasts::Always), (0..4_u64).prop_map(|s| Lasts::For(s * 1000)), (1..4_u64).prop_map(|s| Lasts::Over(s * 1000))];
        (subject, 0..6_u64, 0..3_u64, wish, lasts)
            .prop_map(|(subject, counter, author, wish, lasts)| record(subject, counter, author, wish, lasts))
    }

    proptest! {
        #[test]
        fn whatever_the_order_and_however_often_the_result_is_the_same(
            records in prop::collection::vec(any_record(), 0..24),
            swaps in prop::collection::vec((0..24_usize, 0..24_usize), 0..24),
            again in prop::collection::vec(0..24_usize, 0..12),
        ) {
            let mut other = records.clone();
            for (a, b) in swaps {
                if a < other.len() && b < other.len() {
                    other.swap(a, b);
                }
            }
            for at in again {
                if let Some(record) = records.get(at) {
                    other.push(*record);
                }
            }
            let (one, two) = (map(&records), map(&other));
            prop_assert_eq!(one.records(NOW), two.records(NOW));
            prop_assert_eq!(one.digest(), two.digest());
        }

        #[test]
        fn maps_that_are_merged_in_any_grouping_agree(
            a in prop::collection::vec(any_record(), 0..12),
            b in prop::collection::vec(any_record(), 0..12),
            c in prop::collection::vec(any_record(), 0..12),
        ) {
            let join = |one: &WishMap, other: &WishMap| {
                let mut joined = one.clone();
                joined.merge(&other.records(NOW), NOW);
                joined
            };
            let (a, b, c) = (map(&a), map(&b), map(&c));
            let (left, right) = (join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
            prop_assert_eq!(left.records(NOW), right.records(NOW));
            prop_assert_eq!(join(&a, &b).records(NOW), join(&b, &a).records(NOW));
            prop_assert_eq!(join(&a, &a).records(NOW), a.records(NOW));
        }

        #[test]
        fn a_full_map_is_the_same_whatever_came_first(seed in any::<u64>()) {
            let records: Vec<Record> = (0..600_u64)
                .map(|n| record(Subject::Place(GroupId(n % 560)), n * 7919 % 601, n % 5, Wish::Prefer(NodeId(1)), Lasts::Always))
                .collect();
            let mut other = records.clone();
            other.rotate_left(usize::try_from(seed % 600).unwrap());
            let (one, two) = (map(&records), map(&other));
            prop_assert_eq!(one.records(NOW).len(), MAX_WISHES);
            prop_assert_eq!(one.digest(), two.digest());
        }
    }

    #[test]
    fn the_later_word_counts_and_the_author_settles_a_tie() {
        let subject = Subject::Standby(NodeId(1));
        let later = map(&[record(subject, 2, 1, Wish::On, Lasts::Always), record(subject, 1, 9, Wish::Cleared, over())]);
        assert_eq!(later.live(subject).map(|live| live.wish), Some(Wish::On));
        let tie = map(&[record(subject, 2, 1, Wish::On, Lasts::Always), record(subject, 2, 2, Wish::Cleared, over())]);
        assert_eq!(tie.live(subject), None);
    }

    #[test]
    fn what_ended_elsewhere_is_over_here_and_stays_over() {
        let subject = Subject::Place(GroupId(1));
        let for_ms = |ms| record(subject, 1, 1, Wish::Prefer(NodeId(2)), Lasts::For(ms));
        let mut here = map(&[for_ms(5_000)]);
        assert_eq!(here.merge(&[for_ms(1_000)], NOW), [], "it only ends earlier");
        let (before, at) = (here.digest(), NOW + Duration::from_millis(1_000));
        assert_eq!(here.next_end(), Some(at));
        assert_eq!(here.expire(NOW + Duration::from_millis(999)), []);
        assert_eq!(here.expire(at), [subject]);
        assert_ne!(here.digest(), before, "the others must be told");
        // A node that was restarted believes in it for longer.
        assert_eq!(here.merge(&[for_ms(9_000)], at), []);
        assert_eq!(here.live(subject), None);
        let mut there = map(&[for_ms(9_000)]);
        assert_eq!(there.merge(&here.records(at), NOW), [subject]);
        assert_eq!((there.live(subject), there.digest()), (None, here.digest()));
        // Forgotten in the end.
        assert_eq!(here.expire(at + REMEMBERED), []);
        assert_eq!(here.digest(), WishDigest(0));
    }

    #[test]
    fn an_absurd_counter_leaves_room_for_the_next_word() {
        let subject = Subject::Maintenance;
        let mut here = map(&[record(subject, 5, 1, Wish::On, Lasts::Always)]);
        for counter in [u64::MAX, LAST_COUNTER + 1, 6 + LEAP] {
            assert_eq!(here.merge(&[record(subject, counter, 2, Wish::Cleared, over())], NOW), [], "{counter}");
        }
        assert_eq!(here.next_stamp(NodeId(1)), Some(Stamp { counter: 6, author: NodeId(1) }));
        // The furthest that is believed still leaves room.
        here.merge(&[record(subject, 5 + LEAP, 2, Wish::Cleared, over())], NOW);
        let stamp = here.next_stamp(NodeId(1)).unwrap();
        let mut there = here.clone();
        assert_eq!(there.merge(&[Record { subject, stamp, wish: Wish::On, lasts: Lasts::Always }], NOW), [subject]);
    }

    #[test]
    fn wishes_that_make_no_sense_are_not_taken() {
        let mut here = WishMap::default();
        let wrong = [
            record(Subject::Maintenance, 1, 1, Wish::Home, Lasts::Always),
            record(Subject::Standby(NodeId(1)), 1, 1, Wish::Prefer(NodeId(1)), Lasts::Always),
            record(Subject::Place(GroupId(1)), 1, 1, Wish::On, Lasts::Always),
        ];
        assert_eq!(here.merge(&wrong, NOW), []);
        // What is cleared is over, whatever else is said of it; and nothing lasts for ever that has an end.
        here.merge(&[record(Subject::Maintenance, 1, 1, Wish::Cleared, Lasts::Always)], NOW);
        assert_eq!(here.live(Subject::Maintenance), None);
        here.merge(&[record(Subject::Place(GroupId(1)), 2, 1, Wish::Home, Lasts::For(u64::MAX))], NOW);
        assert_eq!(here.next_end(), Some(NOW + LONGEST));
    }
}
