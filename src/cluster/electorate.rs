//! Sets of voters, when not all nodes count the same ones: which majorities meet, and whose vote counts for whom.
//!
//! During a rolling change of the voters some nodes count the old ones and some the new. Safety rests on any two majorities
//! sharing a voter, so a vote counts only where that still holds, and a lease needs more than a majority of the new voters
//! for as long as somebody may count the old ones:
//!
//! 1. A node counts the vote of one that counts the same voters; or of one that comes from the node's own set, or from which
//!    the node's own set comes, when every majority of the one set shares a voter with every majority of the other. That is
//!    so whenever the sets differ by one voter.
//! 2. A lease under new voters must also share a voter with every majority of each former set that it, or a node whose vote
//!    it counts, remembers. Where the sets differ by one voter that follows from the majority alone; where they differ by
//!    more it keeps the new voters from acting before so many of the old ones have changed that the others are no majority.
//!    Of former voters of which each may act alone, by the rules of a pair, it takes all that are voters still; and while any
//!    former voters rely on their majority, nobody acts alone.
//! 3. A node that remembers nothing has no weight of its own: among those that grant there must be one that does, until it
//!    has heard every voter. Newcomers that outnumber the old voters can so never be a cluster of their own.
//! 4. A former set is forgotten when every node has been heard with the present one. Nobody is left who counts the former
//!    one, and who comes back with it later is not counted, by rule 1.

use crate::model::{Electorate, NodeId};

/// Voters that make a majority of so many.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Voters that share one with every majority of so many.
pub fn meets_majorities(voters: usize) -> usize {
    voters + 1 - majority(voters)
}

/// Whether every majority of one set shares a voter with every majority of the other.
pub fn always_meet(one: &[NodeId], other: &[NodeId]) -> bool {
    let common = one.iter().filter(|node| other.contains(node)).count();
    let least_common = |set: &[NodeId]| majority(set.len()).saturating_sub(set.len() - common);
    least_common(one) + least_common(other) > common
}

/// Whether a node that counts `own` counts the vote of one that counts `other`.
pub fn counts(own: &Electorate, other: &Electorate) -> bool {
    let related = own.former.contains(&other.voters) || other.former.contains(&own.voters);
    own.voters == other.voters || (related && always_meet(&own.voters, &other.voters))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(voters: &[u64]) -> Vec<NodeId> {
        voters.iter().copied().map(NodeId).collect()
    }

    /// By trying every pair of majorities.
    fn meet_by_trial(one: &[u64], other: &[u64]) -> bool {
        let majorities = |set: &[u64]| -> Vec<u64> {
            (0_u64..1 << set.len())
                .filter(|chosen| chosen.count_ones() as usize >= majority(set.len()))
                .map(|chosen| (0..set.len()).filter(|at| chosen >> at & 1 == 1).fold(0, |nodes, at| nodes | 1 << set[at]))
                .collect()
        };
        majorities(one).iter().all(|one| majorities(other).iter().all(|other| one & other != 0))
    }

    #[test]
    fn it_is_known_which_majorities_meet() {
        for one in 1_u64..64 {
            for other in 1_u64..64 {
                let nodes = |set: u64| (0..6).filter(|node| set >> node & 1 == 1).collect::<Vec<u64>>();
                let (one, other) = (nodes(one), nodes(other));
                assert_eq!(always_meet(&set(&one), &set(&other)), meet_by_trial(&one, &other), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn one_voter_more_or_less_is_always_fine_and_two_are_not() {
        for count in 1..9 {
            let (fewer, more): (Vec<u64>, Vec<u64>) = ((0..count).collect(), (0..=count).collect());
            assert!(always_meet(&set(&fewer), &set(&more)));
        }
        assert!(!always_meet(&set(&[1, 2, 3]), &set(&[1, 2, 3, 4, 5])));
        assert!(!always_meet(&set(&[1, 2, 3]), &set(&[1, 2, 4])));
    }

    #[test]
    fn a_set_that_comes_from_the_own_one_counts_and_a_forgotten_one_does_not() {
        let of = |voters: &[u64], former: &[&[u64]]| Electorate {
            voters: set(voters),
            former: former.iter().map(|former| set(former)).collect(),
            new: false,
        };
        let (old, changing, settled) = (of(&[1, 2, 3], &[]), of(&[1, 2, 3, 4], &[&[1, 2, 3]]), of(&[1, 2, 3, 4], &[]));
        assert!(counts(&old, &changing) && counts(&changing, &old) && counts(&changing, &settled));
        assert!(!counts(&old, &settled) && !counts(&settled, &old));
        assert!(!counts(&old, &of(&[1, 2, 3, 4, 5], &[&[1, 2, 3]])));
    }

    #[test]
    fn half_of_an_even_number_meets_every_majority() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(meets_majorities), [1, 1, 2, 2, 3, 3, 4]);
    }
}
