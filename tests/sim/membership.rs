//! Who is a node, and who votes, in each version of the configuration: nodes come and go, and voters change, one at a time
//! and several at once.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{setup::Plan, speech::Speech};

/// The nodes of one version of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// By node: it is listed.
    pub listed: Vec<bool>,
    /// The voters, ascending.
    pub voters: Vec<usize>,
}

/// Most voters of a small cluster.
const MOST_VOTERS: usize = 7;
/// Draws before an unlucky seed is left as it is.
const DRAWS: usize = 200;

impl Membership {
    /// All nodes, of which the first vote.
    pub fn of_all(count: usize, voters: usize) -> Self {
        Self { listed: vec![true; count], voters: (0..voters).collect() }
    }

    /// The memberships of a seed, one for each layout. They differ in half of the seeds that have two layouts.
    pub fn of(seed: u64, count: usize, layouts: usize, plans: &[Plan]) -> Vec<Self> {
        let same = vec![Self::of_all(count, count.min(MOST_VOTERS)); layouts];
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(7);
        // A version that cannot say which voters it counts is taken to count the reader's.
        let (before, after) = Speech::of(seed);
        if layouts < 2 || count < 3 || before == Speech::Before || after == Speech::Before || random.random_bool(0.4) {
            return same;
        }
        let small_step = random.random_bool(0.5);
        (0..DRAWS)
            .map(|_| (0..layouts).map(|_| Self::draw(count, plans, &mut random)).collect::<Vec<_>>())
            .find(|drawn| {
                let [one, other, ..] = drawn.as_slice() else { return false };
                let difference = one.difference(other);
                one.can_become(other) && other.can_become(one) && if small_step { difference == 1 } else { difference > 1 }
            })
            .unwrap_or(same)
    }

    /// No two sets of voters differ by more than one.
    pub fn differ_by_one(memberships: &[Self]) -> bool {
        memberships.iter().all(|one| memberships.iter().all(|other| one.difference(other) < 2))
    }

    fn difference(&self, other: &Self) -> usize {
        let only = |one: &Self, other: &Self| one.voters.iter().filter(|node| !other.voters.contains(node)).count();
        only(self, other) + only(other, self)
    }

    /// Some set has two voters: the rules of a pair rest on something else than a majority.
    pub fn has_pair(memberships: &[Self]) -> bool {
        memberships.iter().any(|membership| membership.voters.len() == 2)
    }

    fn draw(count: usize, plans: &[Plan], random: &mut ChaCha8Rng) -> Self {
        // A group stays one: its home and another candidate stay.
        let needed =
            |node: usize| plans.iter().any(|plan| plan.candidates.iter().any(|candidates| candidates.iter().take(2).any(|c| *c == node)));
        let listed: Vec<bool> = (0..count).map(|node| needed(node) || random.random_bool(0.6)).collect();
        let mut voters: Vec<usize> = (0..count).filter(|node| listed[*node] && random.random_bool(0.8)).collect();
        voters.truncate(MOST_VOTERS);
        if voters.is_empty() {
            voters.extend(listed.iter().position(|listed| *listed));
        }
        Self { listed, voters }
    }

    /// Enough of these voters stay nodes that those who go are no majority: no cluster could know that they are gone.
    fn can_become(&self, other: &Self) -> bool {
        let staying = self.voters.iter().filter(|node| other.listed[**node]).count();
        staying * 2 >= self.voters.len() && staying + (self.voters.len() / 2 + 1) > self.voters.len()
    }
}
