//! What would happen: the nodes' own decision, run ahead in memory. Real [`cluster::Node`](crate::cluster::Node)s talk over a
//! network that loses nothing, in virtual time, from the state that the cluster is in.
//!
//! Owns that little world and what is told of it. Decides nothing itself, never does IO and never reads a clock: every forecast
//! can be repeated. What resources take to start and stop is not known here, and counts as nothing.

mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    cluster::Wait,
    model::{Config, GroupId, NodeId, Record, Subject},
};

use world::World;

/// The state of a cluster, as its nodes report it.
#[derive(Clone, Debug)]
pub struct Situation {
    /// The configuration.
    pub config: Arc<Config>,
    /// Nodes that are not up.
    pub down: BTreeSet<NodeId>,
    /// Who runs each leased group.
    pub owners: BTreeMap<GroupId, NodeId>,
    /// Groups that cannot run on a node.
    pub failed: BTreeSet<(GroupId, NodeId)>,
    /// What operators want.
    pub wishes: Vec<Record>,
    /// Votes that are not with the node they belong to: whose, and with whom.
    pub lent: Vec<(NodeId, NodeId)>,
}

/// What would become of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Groups that something would happen to, in the configuration's order.
    pub courses: Vec<Course>,
    /// Groups that nothing would happen to.
    pub untouched: usize,
    /// Majority afterwards, as the first survivor sees it; none when there is none.
    pub quorum: Option<Majority>,
}

/// What would become of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// The group.
    pub group: GroupId,
    /// Where it runs now.
    pub before: Option<NodeId>,
    /// Where it would run, and after how long an interruption; or what it would wait for.
    pub after: Result<(NodeId, Duration), Stop>,
}

/// Why a group would run nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No node that may run it would be up.
    NobodyLeft,
    /// A node that may run it would be up, and wait for this.
    Waits(NodeId, Wait),
    /// A node that may run it would be up, and be about to.
    Undecided(NodeId),
}

/// Majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Majority {
    /// There is one.
    pub quorate: bool,
    /// Votes in touch.
    pub seen: usize,
    /// Votes in all.
    pub voters: usize,
    /// It goes on by the rules of a pair.
    pub alone: bool,
}

/// Why nothing can be foretold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForecastError {
    /// More would have to be computed than is worth waiting for.
    #[error("the cluster is too large for a forecast: {events} messages and timers, and it has not come to rest")]
    TooLarge {
        /// What was handled.
        events: u64,
    },
}

/// Moments within a heartbeat interval at which a node is let die: how much of it is over matters for the interruption.
const PHASES: u32 = 4;

impl Situation {
    /// What would happen if these nodes lost their power at once. Interruptions are the longest of several moments.
    ///
    /// # Errors
    /// [`ForecastError`]
    pub fn without(&self, nodes: &BTreeSet<NodeId>) -> Result<Forecast, ForecastError> {
        let start = World::settled(self)?;
        let before = start.owners();
        // What would happen in any case, a return home for instance, is no consequence.
        let mut spared = start.clone();
        spared.run(spared.horizon())?;
        let spared = spared.owners();
        let mut worst: Option<World> = None;
        let mut outages: BTreeMap<GroupId, Duration> = BTreeMap::new();
        for phase in 0..PHASES {
            let mut world = start.clone();
            world.run(self.config.server.keep_alive_interval * phase / PHASES)?;
            let begun = world.now();
            nodes.iter().for_each(|node| world.crash(*node));
            world.run(world.horizon())?;
            for (group, outage) in world.outages_since(begun) {
                let longest = outages.entry(group).or_default();
                *longest = (*longest).max(outage);
            }
            worst = Some(world);
        }
        let world = worst.expect("there are several phases");
        Ok(self.told(nodes, &before, &spared, &world, &outages))
    }

    /// Where everything would run if the nodes that are up came together now: under another configuration, for instance.
    ///
    /// # Errors
    /// [`ForecastError`]
    pub fn owners(&self) -> Result<BTreeMap<GroupId, NodeId>, ForecastError> {
        let mut world = World::settled(self)?;
        world.run(self.config.server.failback_delay + world.horizon())?;
        Ok(world.owners())
    }

    fn told(
        &self,
        dead: &BTreeSet<NodeId>,
        before: &BTreeMap<GroupId, NodeId>,
        spared: &BTreeMap<GroupId, NodeId>,
        world: &World,
        outages: &BTreeMap<GroupId, Duration>,
    ) -> Forecast {
        let after = world.owners();
        let mut courses = Vec::new();
        let mut untouched = 0;
        for group in &self.config.groups {
            let (was, is) = (before.get(&group.id).copied(), after.get(&group.id).copied());
            let outage = outages.get(&group.id).copied().unwrap_or_default();
            let anyway = was.is_some_and(|was| !dead.contains(&was)) && is.is_some() && is == spared.get(&group.id).copied();
            if was == is && outage.is_zero() || anyway && was != is {
                untouched += 1;
                continue;
            }
            courses.push(Course { group: group.id, before: was, after: is.map(|owner| (owner, outage)).ok_or_else(|| world.stop(group)) });
        }
        Forecast { courses, untouched, quorum: world.majority() }
    }

    /// Maintenance keeps a cluster from beginning anything, also in the forecast: it is said once everything runs where it does.
    fn wishes_at_start(&self) -> (Vec<Record>, Vec<Record>) {
        self.wishes.iter().copied().partition(|record| record.subject != Subject::Maintenance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::parse_cfg,
        model::{Lasts, Stamp, Wish},
    };

    fn id(name: &str) -> NodeId {
        NodeId::of(name)
    }

    /// Nodes a, b, c ...: a has an address that all others back up, and b one that only c does; each has a service of its own.
    fn situation(nodes: usize, server: &str) -> Situation {
        let mut text = format!(
            "[CM_SERVER]\nkeep_alive_interval = 100\ndead_node_count = 15\n{server}\n[CM_IPADDRS]\none, 10.0.0.100, 24, eth0\n\
             two, 10.0.0.101, 24, eth0\n[CM_SERVICES]\nown, httpd\n"
        );
        for (number, name) in ('a'..).take(nodes).enumerate() {
            let lists = match name {
                'a' => "node_floating_ip_addrs = one",
                'b' => "node_floating_ip_addrs = two\nnode_backup_floating_ip_addrs = a:one",
                'c' => "node_backup_floating_ip_addrs = a:one, b:two",
                _ => "node_backup_floating_ip_addrs = a:one",
            };
            text += &format!(
                "[CM_NODE]\nnodename = {name}\nhostname = {name}\nkeep_alive_ip = 10.0.0.{}\nnode_services = own\n{lists}\n",
                number + 1
            );
        }
        let config = parse_cfg("t", &text).unwrap_or_else(|report| panic!("{report}")).config;
        let owners = config.groups.iter().map(|group| (group.id, group.home)).collect();
        Situation { config, down: BTreeSet::new(), owners, failed: BTreeSet::new(), wishes: Vec::new(), lent: Vec::new() }
    }

    fn group(situation: &Situation, title: &str) -> GroupId {
        situation.config.groups.iter().find(|group| group.title(&situation.config) == title).expect("a group").id
    }

    /// Title, where it goes or none, and the interruption.
    fn told(situation: &Situation, nodes: &[&str]) -> (Vec<(String, Option<NodeId>, Duration)>, Forecast) {
        let forecast = situation.without(&nodes.iter().map(|name| id(name)).collect()).expect("small");
        let courses = forecast.courses.iter().map(|course| {
            let title = situation.config.title(course.group);
            course.after.map_or_else(|_| (title.clone(), None, Duration::ZERO), |(node, outage)| (title.clone(), Some(node), outage))
        });
        (courses.collect(), forecast)
    }

    #[test]
    fn the_first_backup_takes_over_after_the_lease_and_the_rest_is_not_touched() {
        let situation = situation(3, "");
        let (courses, forecast) = told(&situation, &["a"]);
        assert_eq!(courses.len(), 2, "{courses:?}");
        assert_eq!((courses[0].0.as_str(), courses[0].1), ("a:one", Some(id("b"))));
        let outage = courses[0].2;
        assert!(outage > Duration::from_millis(1380) && outage < Duration::from_millis(1560), "{outage:?}");
        assert_eq!((courses[1].0.as_str(), courses[1].1), ("a:own", None));
        assert_eq!(forecast.courses[1].after, Err(Stop::NobodyLeft));
        assert_eq!(forecast.untouched, 3);
        assert_eq!(forecast.quorum, Some(Majority { quorate: true, seen: 2, voters: 3, alone: false }));
    }

    #[test]
    fn without_a_majority_what_is_leased_stops_and_what_is_not_goes_on() {
        let situation = situation(3, "");
        let (courses, forecast) = told(&situation, &["a", "b"]);
        assert!(courses.iter().all(|(_, to, _)| to.is_none()), "{courses:?}");
        assert_eq!(forecast.courses[0].after, Err(Stop::Waits(id("c"), Wait::NoQuorum)));
        assert_eq!((forecast.untouched, forecast.quorum.expect("c is left").quorate), (1, false));
        let all = told(&situation, &["a", "b", "c"]).1;
        assert_eq!((all.quorum, all.courses.len()), (None, 5));
    }

    #[test]
    fn what_runs_elsewhere_now_is_looked_at_where_it_runs() {
        let mut situation = situation(3, "");
        let one = group(&situation, "a:one");
        situation.owners.insert(one, id("c"));
        assert_eq!(told(&situation, &["b"]).0.iter().map(|(title, ..)| title.as_str()).collect::<Vec<_>>(), ["b:two", "b:own"]);
        let (courses, _) = told(&situation, &["c"]);
        assert_eq!((courses[0].0.as_str(), courses[0].1), ("a:one", Some(id("a"))));
    }

    #[test]
    fn standby_failures_moves_and_maintenance_count() {
        let base = situation(3, "");
        let one = group(&base, "a:one");
        let record = |subject, wish| Record { subject, stamp: Stamp { counter: 1, author: id("c") }, wish, lasts: Lasts::Always };
        let with = |record| Situation { wishes: vec![record], ..base.clone() };
        let goes = |situation: &Situation| told(situation, &["a"]).0[0].1;
        assert_eq!(goes(&base), Some(id("b")));
        assert_eq!(goes(&with(record(Subject::Standby(id("b")), Wish::On))), Some(id("c")));
        assert_eq!(goes(&Situation { failed: BTreeSet::from([(one, id("b"))]), ..base.clone() }), Some(id("c")));
        let maintained = with(record(Subject::Maintenance, Wish::On));
        assert_eq!(
            maintained.without(&BTreeSet::from([id("a")])).expect("small").courses[0].after,
            Err(Stop::Waits(id("b"), Wait::Maintenance))
        );
        let mut moved = with(record(Subject::Place(one), Wish::Prefer(id("c"))));
        moved.owners.insert(one, id("c"));
        assert!(told(&moved, &["a"]).0.iter().all(|(title, ..)| title == "a:own"));
        assert_eq!(told(&moved, &["c"]).0[0].1, Some(id("a")), "{:?}", told(&moved, &["c"]));
    }

    #[test]
    fn a_pair_carries_on_alone() {
        let (courses, forecast) = told(&situation(2, ""), &["a"]);
        assert_eq!(courses[0].1, Some(id("b")));
        assert!(forecast.quorum.expect("b is left").alone);
        let alone = told(&situation(2, "quorum = majority"), &["a"]).1;
        assert_eq!(alone.courses[0].after, Err(Stop::Waits(id("b"), Wait::NoQuorum)));
    }

    #[test]
    fn a_lent_vote_counts_where_it_is() {
        // d left and lent its vote to a; c is dead: of four votes a, b and d's are there, and without b half of them.
        let mut situation = situation(4, "");
        situation.down = BTreeSet::from([id("c"), id("d")]);
        assert!(!told(&situation, &["b"]).1.quorum.expect("a").quorate);
        situation.lent = vec![(id("d"), id("a"))];
        assert_eq!(told(&situation, &["c"]).1.quorum.expect("a").seen, 3);
        let (_, forecast) = told(&situation, &["b"]);
        assert_eq!(forecast.quorum, Some(Majority { quorate: false, seen: 2, voters: 4, alone: false }));
    }

    #[test]
    fn the_places_under_another_configuration() {
        let now = situation(3, "");
        let then = Situation { config: situation(2, "").config, ..now };
        let owners = then.owners().expect("small");
        assert_eq!(owners[&group(&then, "a:one")], id("a"));
        assert_eq!(owners.len(), 4);
    }

    #[test]
    fn a_large_cluster_is_foretold_soon() {
        let mut text = String::from("[CM_SERVER]\nkeep_alive_interval = 100\ndead_node_count = 15\n[CM_IPADDRS]\n");
        for number in 0..500 {
            text += &format!("a{number}, 10.1.{}.{}, 16, eth0\n", number / 200, number % 200 + 1);
        }
        for node in 0..7 {
            let own = (0..500).filter(|number| number % 7 == node).map(|number| format!("a{number}")).collect::<Vec<_>>().join(",");
            let other = (node + 6) % 7;
            let backup =
                (0..500).filter(|number| number % 7 == other).map(|number| format!("n{other}:a{number}")).collect::<Vec<_>>().join(",");
            text += &format!(
                "[CM_NODE]\nnodename = n{node}\nhostname = n{node}\nkeep_alive_ip = 10.0.0.{}\nnode_floating_ip_addrs = {own}\n\
                 node_backup_floating_ip_addrs = {backup}\n",
                node + 1
            );
        }
        let config = parse_cfg("t", &text).unwrap_or_else(|report| panic!("{report}")).config;
        let owners = config.groups.iter().map(|group| (group.id, group.home)).collect();
        let situation = Situation { config, down: BTreeSet::new(), owners, failed: BTreeSet::new(), wishes: Vec::new(), lent: Vec::new() };
        let forecast = situation.without(&BTreeSet::from([id("n3")])).expect("not too large");
        assert_eq!(forecast.courses.len(), 1);
        assert_eq!(forecast.courses[0].after.map(|(node, _)| node), Ok(id("n4")));
    }
}
