//! Where a search begins: a cluster brought to an interesting point by ordinary steps, so that few further ones lead to
//! every interleaving around it.

use std::{rc::Rc, sync::Arc};

use drcm::{
    cluster::{Node, Start},
    config::parse_cfg,
    model::{Config, Electorate, VoteNote},
};

use super::{
    host::{Clock, Host, Instant, boot},
    state::{Budget, Rules, State, Step},
    truth::{NODES, Truth},
};

/// T is three ticks; heartbeats are due at every tick even by a slow clock.
const CONFIG: &str = "[CM_SERVER]\nkeep_alive_interval = 75\ndead_node_count = 4\nfailback_delay = 1\n\
    [CM_IPADDRS]\nvip, 10.0.0.100, 24, eth0, \n\
    [CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\nnode_floating_ip_addrs = vip\n\
    [CM_NODE]\nnodename = b\nhostname = b\nkeep_alive_ip = 10.0.0.2\nnode_backup_floating_ip_addrs = a:vip\n\
    [CM_NODE]\nnodename = c\nhostname = c\nkeep_alive_ip = 10.0.0.3\n";
/// The same when only the home node voted and the third was not there.
const BEFORE: &str = "[CM_SERVER]\nkeep_alive_interval = 75\ndead_node_count = 4\nfailback_delay = 1\n\
    [CM_IPADDRS]\nvip, 10.0.0.100, 24, eth0, \n\
    [CM_NODE]\nnodename = a\nhostname = a\nkeep_alive_ip = 10.0.0.1\nnode_floating_ip_addrs = vip\nvoter = 1\n\
    [CM_NODE]\nnodename = b\nhostname = b\nkeep_alive_ip = 10.0.0.2\nnode_backup_floating_ip_addrs = a:vip\nvoter = 0\n";
/// Clocks: right, as slow and as fast as is allowed.
const RIGHT: Clock = Clock { rate: 1000 };
const SLOW: Clock = Clock { rate: 990 };
const FAST: Clock = Clock { rate: 1010 };
/// The nodes by number: home, backup, witness.
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const QUIET: Step = Step::Tick { asleep: None };

/// Where a search begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// The home node runs the group and all is well.
    Settled,
    /// All have started together and are about to vote.
    Cold,
    /// The owner has been cut off for two thirds of its lease.
    CutOff,
    /// Owner and backup have not heard each other for a whole lease; the witness hears both.
    HalfHeard,
    /// The same, and the witness has just been started again.
    Forgotten,
    /// The daemon of the owner was killed and started again, and the last question of its earlier life has just arrived, late.
    Reborn,
    /// All is well and the operator is about to put the owner in standby.
    Planned,
    /// The backup runs the group, the home node is well again and about to get it back.
    Homecoming,
    /// All is well and the witness may be told to leave, and to lend its vote to the owner.
    Lending,
    /// The witness is back, without its vote, which the owner has; the owner has not heard the backup for two thirds of its lease.
    Returning,
    /// The owner was the only voter and has yet to be told of two more, one of them new, which are a majority by themselves.
    Recruits,
}

impl Scenario {
    /// Steps that `make test` can afford.
    pub fn usual_depth(self) -> usize {
        match self {
            Self::Settled | Self::HalfHeard | Self::Forgotten => 7,
            // The owner hears nobody yet.
            Self::Recruits => 8,
            // More is in flight when they begin, or more can happen.
            Self::Cold | Self::CutOff | Self::Planned | Self::Homecoming | Self::Reborn | Self::Lending | Self::Returning => 6,
        }
    }

    /// The first state of the search.
    pub fn begin(self) -> State {
        let usual = Budget { crashes: 1, hiccups: 1, standbys: 0, leaves: 0 };
        // The owner counts slowly and the others fast: as bad as it may be.
        let slow_owner = [SLOW, FAST, FAST];
        match self {
            Self::Settled => cold([RIGHT; NODES], usual).calm(8, &[]).owned_by(A),
            Self::Cold => cold(slow_owner, usual).calm(3, &[]).must(QUIET),
            Self::CutOff => cold(slow_owner, usual).calm(8, &[]).owned_by(A).calm(1, &[(A, B), (A, C)]).must(QUIET),
            Self::HalfHeard => cold(slow_owner, usual).calm(8, &[]).owned_by(A).calm(4, &[(A, B)]).owned_by(A),
            Self::Forgotten => Self::HalfHeard.begin().must(Step::Crash(2)).must(Step::Restart(2)).owned_by(A),
            Self::Reborn => {
                let mut state = cold(slow_owner, usual).calm(8, &[]).owned_by(A).must(QUIET);
                let late = state.intercept(A, C);
                state.budget.crashes += 1;
                state = state.must(Step::Crash(0)).must(Step::Restart(0)).calm(1, &[(A, C)]).must(QUIET);
                state.arrives_late(late).all_arrives(&[(A, C)]).calm(1, &[]).must(QUIET)
            }
            Self::Planned => cold(slow_owner, Budget { standbys: 1, ..usual }).calm(8, &[]).owned_by(A),
            Self::Homecoming => {
                let mut state = cold([FAST, SLOW, FAST], usual).calm(8, &[]).owned_by(A);
                state.budget.crashes += 1;
                state = state.must(Step::Crash(0)).calm(8, &[]).owned_by(B).must(Step::Restart(0)).calm(11, &[]).owned_by(B);
                state
            }
            Self::Lending => cold(slow_owner, Budget { leaves: 1, ..usual }).calm(8, &[]).owned_by(A),
            Self::Returning => {
                let state = cold(slow_owner, Budget { leaves: 1, ..usual }).calm(8, &[]).owned_by(A);
                let state = state.must(Step::Leave(2)).all_arrives(&[]).calm(2, &[]).calm(2, &[(A, B)]).owned_by(A);
                state.must(Step::Restart(2))
            }
            Self::Recruits => {
                let before = parse_cfg("before.cfg", BEFORE).unwrap_or_else(|report| panic!("{report}")).config;
                // An owner whose own vote is enough tells the executor of it with its next heartbeat only: it must not oversleep.
                let budget = Budget { crashes: 2, hiccups: 0, standbys: 0, leaves: 0 };
                let state = cold_after(slow_owner, budget, Some((before, [2, 2, 1]))).calm(8, &[]).owned_by(A);
                state.must(Step::Crash(1)).must(Step::Restart(1)).must(Step::Restart(2)).calm(6, &[(A, B)]).owned_by(A)
            }
        }
    }
}

impl State {
    fn owned_by(self, node: usize) -> Self {
        let owners: Vec<usize> = self.owners().collect();
        assert_eq!(owners, [node], "a scenario is not what it says");
        self
    }
}

/// A new life of a node, with what is on its disk.
pub fn node(rules: &Rules, node: usize, life: u8, noted: Option<Electorate>, votes: Option<Vec<VoteNote>>, now: Instant) -> Node {
    let start = Start { electorate: noted, votes, ..Start::default() };
    Node::new(rules.config_of(node, life).clone(), rules.names[node], boot(life), start, rules.clocks[node].local(now))
}

/// All three start together.
fn cold(clocks: [Clock; NODES], budget: Budget) -> State {
    cold_after(clocks, budget, None)
}

/// Those start together that are in the configuration before the present one, if there is one.
fn cold_after(clocks: [Clock; NODES], budget: Budget, before: Option<(Arc<Config>, [u8; NODES])>) -> State {
    let config = parse_cfg("model.cfg", CONFIG).unwrap_or_else(|report| panic!("{report}")).config;
    let names = [config.nodes[A].id, config.nodes[B].id, config.nodes[C].id];
    let rules = Rc::new(Rules { group: config.groups[0].id, config, before, names, clocks, newest_tag: false });
    let hosts = [A, B, C].map(|number| {
        let first = !rules.is_newcomer(number);
        let mut host = if first { Host::new(node(&rules, number, 1, None, None, 0), 1) } else { Host::dark() };
        host.seal();
        Rc::new(host)
    });
    let mut truth = Truth::default();
    for number in [A, B, C].into_iter().filter(|number| hosts[*number].life > 0) {
        truth.restarts(number, 1);
    }
    State { rules, now: 0, hosts, flying: Vec::new(), truth: Rc::new(truth), budget }
}
