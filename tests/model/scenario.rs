//! Where a search begins: a cluster brought to an interesting point by ordinary steps, so that few further ones lead to
//! every interleaving around it.

use std::rc::Rc;

use drcm::{
    cluster::{Node, Start},
    config::parse_cfg,
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
    /// All is well and the operator is about to put the owner in standby.
    Planned,
    /// The backup runs the group, the home node is well again and about to get it back.
    Homecoming,
}

impl Scenario {
    /// Steps that `make test` can afford.
    pub fn usual_depth(self) -> usize {
        match self {
            Self::Settled | Self::HalfHeard | Self::Forgotten => 7,
            // More is in flight when they begin, or more can happen.
            Self::Cold | Self::CutOff | Self::Planned | Self::Homecoming => 6,
        }
    }

    /// The first state of the search.
    pub fn begin(self) -> State {
        let usual = Budget { crashes: 1, hiccups: 1, standbys: 0 };
        // The owner counts slowly and the others fast: as bad as it may be.
        let slow_owner = [SLOW, FAST, FAST];
        match self {
            Self::Settled => cold([RIGHT; NODES], usual).calm(8, &[]).owned_by(A),
            Self::Cold => cold(slow_owner, usual).calm(3, &[]).must(QUIET),
            Self::CutOff => cold(slow_owner, usual).calm(8, &[]).owned_by(A).calm(1, &[(A, B), (A, C)]).must(QUIET),
            Self::HalfHeard => cold(slow_owner, usual).calm(8, &[]).owned_by(A).calm(4, &[(A, B)]).owned_by(A),
            Self::Forgotten => Self::HalfHeard.begin().must(Step::Crash(2)).must(Step::Restart(2)).owned_by(A),
            Self::Planned => cold(slow_owner, Budget { standbys: 1, ..usual }).calm(8, &[]).owned_by(A),
            Self::Homecoming => {
                let mut state = cold([FAST, SLOW, FAST], usual).calm(8, &[]).owned_by(A);
                state.budget.crashes += 1;
                state = state.must(Step::Crash(0)).calm(8, &[]).owned_by(B).must(Step::Restart(0)).calm(10, &[]).owned_by(B);
                state
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

/// A new life of a node.
pub fn node(rules: &Rules, node: usize, life: u8, now: Instant) -> Node {
    Node::new(rules.config.clone(), rules.names[node], boot(life), Start::default(), rules.clocks[node].local(now))
}

/// All three start together.
fn cold(clocks: [Clock; NODES], budget: Budget) -> State {
    let config = parse_cfg("model.cfg", CONFIG).unwrap_or_else(|report| panic!("{report}")).config;
    let names = [config.nodes[A].id, config.nodes[B].id, config.nodes[C].id];
    let rules = Rc::new(Rules { group: config.groups[0].id, config, names, clocks, newest_tag: false });
    let hosts = [A, B, C].map(|number| {
        let mut host = Host::new(node(&rules, number, 1, 0), 1);
        host.seal();
        Rc::new(host)
    });
    let mut truth = Truth::default();
    for number in [A, B, C] {
        truth.restarts(number, 1);
    }
    State { rules, now: 0, hosts, flying: Vec::new(), truth: Rc::new(truth), budget }
}
