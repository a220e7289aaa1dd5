//! A node as a hash: what a search over all interleavings tells states apart by.

use std::hash::{Hash, Hasher};

use super::Node;

impl Hash for Node {
    /// Everything but the configuration, which never changes, and what every turn computes anew. Every field is named, so
    /// that a new one cannot be forgotten.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            config: _,
            me,
            boot,
            voters: _,
            members,
            votes,
            tenures,
            own: _,
            alike: _,
            learning,
            relays,
            electorate,
            tag,
            asked,
            version,
            list,
            list_changed,
            ask_now,
            next_heartbeat,
            silent_until,
            wishes,
            hands_off,
            standby,
            leaving,
            goodbyes,
            known_quorate,
            alone,
            began,
            resumed,
            review,
            out: _,
        } = self;
        (me, boot, members, votes, tenures, learning, relays, electorate).hash(state);
        (tag, asked, version, list, list_changed, ask_now, next_heartbeat).hash(state);
        (wishes, hands_off).hash(state);
        (silent_until, standby, leaving, goodbyes, known_quorate, alone, began, resumed, review).hash(state);
    }
}
