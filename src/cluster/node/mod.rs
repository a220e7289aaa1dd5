//! One node of the cluster: events and the time in, outputs out.

mod alone;
mod digest;
mod electorate;
mod exchange;
mod operator;
mod ownership;
mod pace;
mod relay;
mod reload;
mod votes;

pub use alone::Standing;
pub use reload::NotNow;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    member::Member,
    memory::{Memory, Stale},
    tenure::{Tenure, drift_margin},
    view::{GroupView, View, WishView},
    votes::Votes,
    wishes::WishMap,
};
use crate::model::{
    Action, AssignmentId, BootId, Config, Decision, Electorate, Entry, Event, GroupId, NodeId, NodeState, Order, Output, Pace, Tag, Time,
    Version, VoteNote, Wake,
};
pub use operator::Draft;

/// What a node remembers from before its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The longest lease that an earlier life of this node may have granted; zero when unknown.
    pub longest_lease: Duration,
    /// What it last counted as voters: see [`Output::Remember`]; none when unknown.
    pub electorate: Option<Electorate>,
    /// What was last kept by [`Output::KeepVotes`]; `None` when nothing ever was, or it is lost.
    pub votes: Option<Vec<VoteNote>>,
}

/// One node's part in the cluster. Hashed, it is all that its future depends on besides the configuration.
#[derive(Clone, Debug)]
pub struct Node {
    config: Arc<Config>,
    me: NodeId,
    boot: BootId,
    voters: Vec<NodeId>,
    members: Vec<Member>,
    votes: Votes,
    tenures: Vec<Tenure>,
    own: Pace,
    /// All nodes have the same pace.
    alike: bool,
    /// Definitions of groups that our configuration does not know, arriving in parts, by who tells them.
    learning: BTreeMap<(NodeId, GroupId), exchange::Lesson>,
    relays: relay::Relays,
    electorate: electorate::Own,

    tag: Tag,
    /// When each recent heartbeat was begun: leases are timed from there.
    asked: VecDeque<(Tag, Time)>,
    version: Version,
    list: Vec<Entry>,
    list_changed: bool,
    ask_now: bool,
    next_heartbeat: Time,

    silent_until: Time,
    /// What operators want; and what of it concerns this node.
    wishes: WishMap,
    hands_off: bool,
    standby: bool,
    leaving: bool,
    /// How often goodbye has been said.
    goodbyes: u32,
    known_quorate: bool,
    alone: alone::Alone,

    began: bool,
    /// Takes the place of a process before it.
    resumed: bool,
    review: (Time, Wake),
    out: Vec<Output>,
}

impl Node {
    /// A node that has just started as incarnation `boot`. Nothing happens before the first [`Node::handle`].
    ///
    /// `me` must be a node of `config`; a node that is not runs nothing and grants nothing.
    #[must_use]
    pub fn new(config: Arc<Config>, me: NodeId, boot: BootId, start: Start, now: Time) -> Self {
        let voters: Vec<NodeId> = config.voters().collect();
        let cap = longest_lease(&config);
        let forgotten = cap.max(start.longest_lease);
        let silent_until = now + forgotten + drift_margin(forgotten);
        let lends = !alone::pair_rules(&config, voters.len());
        let mut votes = Votes::new(&voters, me, lends, cap, forgotten, start.votes.as_deref(), silent_until);
        for group in &config.groups {
            let members: Vec<AssignmentId> = group.assignments.iter().map(crate::model::Assignment::id).collect();
            votes.define(group.id, &members);
        }
        let tenures = config
            .groups
            .iter()
            .filter_map(|group| {
                let rank = group.candidates.iter().position(|candidate| *candidate == me)?;
                Some(Tenure::new(group.id, super::voter::index(rank), group.is_leased()))
            })
            .collect();
        let electorate = electorate::Own::after(start.electorate, &voters);
        let relays = relay::Relays::new(votes.is_voter(), voters.len(), config.nodes.len());
        let mut node = Self {
            members: match config.node(me) {
                Some(own) => {
                    config.nodes.iter().filter(|node| node.id != me).map(|node| Member::new(node.id, pace::between(own, node))).collect()
                }
                None => Vec::new(),
            },
            own: config.node(me).map_or_else(|| config.server.pace(), |node| node.pace),
            alike: config.nodes.iter().all(|node| node.pace == config.nodes[0].pace),
            me,
            boot,
            voters,
            votes,
            tenures,
            learning: BTreeMap::new(),
            relays,
            electorate,
            tag: first_tag(boot),
            asked: VecDeque::new(),
            version: Version(0),
            list: Vec::new(),
            list_changed: false,
            ask_now: false,
            next_heartbeat: now,
            silent_until,
            wishes: WishMap::default(),
            hands_off: false,
            standby: false,
            leaving: false,
            goodbyes: 0,
            known_quorate: false,
            alone: alone::Alone::new(silent_until),
            began: false,
            resumed: false,
            review: (now, Wake::Heartbeat),
            out: Vec::new(),
            config,
        };
        // What it remembers binds it before anybody has been heard.
        node.rebound();
        node
    }

    /// A node that takes the place of a process before it, as the same incarnation.
    ///
    /// # Errors
    /// When the memory is not that of this node with this configuration.
    pub fn resume(config: Arc<Config>, me: NodeId, memory: Memory, start: Start, now: Time) -> Result<Self, Stale> {
        if memory.me != me {
            return Err(Stale::AnotherNode);
        }
        let same = memory.fingerprint == config.fingerprint;
        if !same && memory.parting.is_none() {
            return Err(Stale::AnotherConfiguration);
        }
        if !same && start.electorate.as_ref().is_none_or(|before| before.voters != Electorate::new(config.voters()).voters) {
            return Err(Stale::OtherVoters);
        }
        let mut node = Self::new(config, me, memory.boot, start, now);
        node.silent_until = memory.silent_until;
        node.votes.listens_until = node.votes.listens_until.min(memory.silent_until);
        node.votes.recall(memory.votes, now);
        node.tag = memory.tag;
        node.begin_roster_anew();
        // The list is published anew: what was only asked for is given back.
        node.version = memory.version;
        node.list_changed = true;
        node.wishes = memory.wishes;
        node.alone.recall(memory.standing);
        match memory.parting {
            Some(parting) if !same => node.inherit(&parting, &memory.tenures, now)?,
            Some(_) | None => {
                for recalled in memory.tenures {
                    if let Some(tenure) = node.tenures.iter_mut().find(|tenure| tenure.group == recalled.group) {
                        *tenure = recalled.recalled();
                    }
                }
            }
        }
        for (subject, _) in node.wishes.all_live().collect::<Vec<_>>() {
            node.obey(subject, now);
        }
        for (peer, record) in memory.electorates {
            if let Some(position) = node.members.iter().position(|member| member.node == peer) {
                node.electorate_told(position, record);
            }
        }
        node.resumed = true;
        Ok(node)
    }

    /// What a process must know that takes the place of this one.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.remembered(|group| self.config.group(group).is_some())
    }

    /// `configured`: its successor knows from the configuration what such a group consists of.
    fn remembered(&self, configured: impl Fn(GroupId) -> bool) -> Memory {
        Memory {
            me: self.me,
            boot: self.boot,
            fingerprint: self.config.fingerprint,
            tag: self.tag,
            version: self.version,
            silent_until: self.silent_until,
            wishes: self.wishes.clone(),
            standing: self.alone.standing(),
            votes: self.votes.memory(configured),
            tenures: self.tenures.clone(),
            electorates: self
                .members
                .iter()
                .filter_map(|member| Some((member.node, Electorate::clone(&member.electorate.as_ref()?.1))))
                .collect(),
            parting: None,
        }
    }

    /// Takes in one event at `now` (which must not go back) and says what to do, in order.
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Output> {
        // First of all, whatever the event: a lease that ran out while we slept must not be acted upon.
        self.expire(now);
        self.begin(now);
        match event {
            Event::Timer => {}
            Event::Received { from, boot, message } => self.receive(from, boot, message, now),
            Event::Done { group, generation, outcome } => self.done(group, generation, outcome, now),
            Event::Fitness { group, able } => self.fitness(group, able),
            Event::Order(order) => self.order(order, now),
            Event::Wished(records) => self.wished(&records, now),
            Event::Alone { checks, clear } => self.alone_answer(checks, clear, now),
            Event::VotesKept { serial } => self.votes_kept(serial),
        }
        self.look_at_wishes(now);
        self.watch_members(now);
        // What was heard may have cost a lease the votes it rests on.
        self.expire(now);
        self.review(now);
        let greeted = self.publish(now);
        self.extend(now);
        self.relay(&greeted, now);
        self.take_up(now);
        self.tend_votes(now);
        std::mem::take(&mut self.out)
    }

    /// When [`Event::Timer`] is due next, and for what.
    #[must_use]
    pub fn deadline(&self) -> (Time, Wake) {
        if self.next_heartbeat <= self.review.0 { (self.next_heartbeat, Wake::Heartbeat) } else { self.review }
    }

    /// The longest lease this node may ever have granted: to be kept where it survives a reboot.
    #[must_use]
    pub fn longest_lease(&self) -> Duration {
        longest_lease(&self.config)
    }

    /// What this node counts as voters, to be kept where it survives a reboot before anything is granted; changes come as
    /// [`Output::Remember`].
    #[must_use]
    pub fn electorate(&self) -> &Electorate {
        self.electorate.record()
    }

    /// This incarnation.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// What this node knows, for an operator.
    #[must_use]
    pub fn view(&self, now: Time) -> View {
        View {
            quorate: self.quorate(now),
            voters_seen: self.voters_seen(now),
            votes: self.votes.granting(now),
            voters: self.voters.len(),
            silent: now < self.silent_until(),
            eligible: self.eligible(),
            standby: self.standby,
            hands_off: self.hands_off,
            wishes: self
                .wishes
                .all_live()
                .map(|(subject, live)| WishView { subject, wish: live.wish, author: live.stamp.author, ends: live.ends })
                .collect(),
            alone: self.alone.is_alone(),
            alive: self.members.iter().filter(|member| self.is_alive(member, now)).map(|member| member.node).collect(),
            mismatched: self
                .members
                .iter()
                .filter(|member| self.is_alive(member, now) && member.fingerprint.is_some_and(|other| other != self.config.fingerprint))
                .map(|member| member.node)
                .collect(),
            uncounted: self.uncounted(now),
            unheard: self.unheard(),
            awaited: self.awaited(now),
            votes_astray: self.votes_astray(now),
            groups: self.tenures.iter().map(|tenure| self.group_view(tenure, now)).collect(),
        }
    }

    fn group_view(&self, tenure: &Tenure, now: Time) -> GroupView {
        let holds = tenure.claim.as_ref().and_then(|claim| self.kept_until(claim)).filter(|until| *until > now);
        let owner = if tenure.is_active() || tenure.inherits().is_some() { Some(self.me) } else { self.claimed_by(tenure.group, now) };
        let wait = (tenure.phase == super::tenure::Phase::Down && tenure.leased).then(|| self.facts(tenure, now).verdict().err()).flatten();
        GroupView {
            group: tenure.group,
            rank: tenure.rank,
            phase: tenure.phase,
            leased: tenure.leased,
            until: holds,
            owner,
            wait,
            unable: tenure.unable,
        }
    }

    /// T of this node.
    fn lease(&self) -> Duration {
        self.own.lease()
    }

    fn is_alive(&self, member: &Member, now: Time) -> bool {
        member.alive(now) && member.is_vouched(self.live_voters())
    }

    fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    fn voter_index(&self, node: NodeId) -> Option<usize> {
        self.voters.iter().position(|voter| *voter == node)
    }

    /// May run resources at all.
    fn eligible(&self) -> bool {
        !self.standby && !self.leaving && self.config.node(self.me).is_some_and(|node| node.active)
    }

    /// Votes of nodes in two-way touch, this node included.
    fn voters_seen(&self, now: Time) -> usize {
        (0..self.voters.len()).filter(|vote| self.sees_vote(*vote, now)).count()
    }

    /// The vote is here, or at a node in touch.
    fn sees_vote(&self, vote: usize, now: Time) -> bool {
        let vote = self.voters[vote];
        self.votes.serves(vote) || self.members.iter().any(|member| member.has_vote(vote) && self.is_in_touch(member, now))
    }

    /// Two-way, and its vote counts.
    fn is_in_touch(&self, member: &Member, now: Time) -> bool {
        self.is_alive(member, now) && member.hears_us() && member.electorate.is_some() && !member.other_voters
    }

    fn majority(&self) -> usize {
        super::electorate::majority(self.voters.len())
    }

    /// Grants that make the lease of what runs here.
    fn needed_to_keep(&self) -> usize {
        self.alone.needed_to_keep().unwrap_or_else(|| self.majority())
    }

    /// Grants that make a new lease.
    fn needed_to_take(&self) -> usize {
        self.alone.needed_to_take().unwrap_or_else(|| self.majority())
    }

    fn quorate(&self, now: Time) -> bool {
        self.voters_seen(now) >= self.needed_to_take() && (self.alone.needed_to_take().is_some() || self.suffices(now))
    }

    fn state(&self, now: Time) -> NodeState {
        // In its silence a node does not ask: peers must not wait for it, nor send a group home to it.
        let quorate = self.quorate(now) && self.silent_until() <= now;
        NodeState {
            eligible: self.eligible(),
            left: self.leaving && self.is_clear() && self.votes_settled(now),
            quorate,
            standby: self.standby,
        }
    }

    /// The end of start-up silence; a node that grants nothing has none.
    fn silent_until(&self) -> Time {
        self.votes.silent_until()
    }

    /// Nothing is up, on its way or claimed.
    fn is_clear(&self) -> bool {
        self.tenures.iter().all(|tenure| tenure.phase == super::tenure::Phase::Down && tenure.claim.is_none())
    }

    fn order(&mut self, order: Order, now: Time) {
        match order {
            Order::Leave => self.leaving = true,
            Order::Standby(on) => self.stand_by(on, now),
            Order::Cleanup(group) => self.clean_up(group),
            Order::ConfirmVoters => self.confirm_voters(),
        }
        // What peers are told of us has changed: do not let them wait for the next heartbeat.
        self.ask_now = true;
    }

    /// Reports who came and who went.
    fn watch_members(&mut self, now: Time) {
        self.review_electorate();
        self.watch_voters(now);
        let live_voters = self.live_voters();
        let mut healed = false;
        for member in &mut self.members {
            let alive = member.alive(now) && member.is_vouched(live_voters);
            let state = member.state();
            if alive && state.eligible && state.quorate && member.hears_us() {
                member.well_since.get_or_insert(now);
            } else {
                member.well_since = None;
            }
            if alive == member.known_alive {
                continue;
            }
            if alive {
                member.known_alive = true;
                healed = true;
                self.out.push(Output::Decided(Decision::PeerUp(member.node)));
            } else {
                let decision = if member.has_left() {
                    Decision::PeerLeft(member.node)
                } else {
                    Decision::PeerDown { node: member.node, last: member.last_heard() }
                };
                member.bury();
                self.out.push(Output::Decided(decision));
            }
        }
        if healed {
            // While apart, switches and neighbours may have learned another way to our addresses.
            for tenure in self.tenures.iter().filter(|tenure| tenure.phase == super::tenure::Phase::Running) {
                self.out.push(Output::Act(Action::Announce { group: tenure.group }));
            }
        }
        self.watch_alone(now);
        let quorate = self.quorate(now);
        if quorate != self.known_quorate {
            self.known_quorate = quorate;
            let voters = super::voter::index(self.voters_seen(now));
            self.out.push(Output::Decided(Decision::Quorum { quorate, voters }));
        }
    }
}

/// Where the tags of an incarnation begin: far from those of any other, or an answer meant for an earlier one, held up on
/// its way, would be taken for an answer to this one's heartbeat of the same number.
fn first_tag(boot: BootId) -> Tag {
    Tag(boot.0 & 0x7fff_ffff_0000_0000)
}

/// The longest lease that a voter with this configuration grants.
fn longest_lease(config: &Config) -> Duration {
    pace::lease_over(config, config.longest_lease())
}
