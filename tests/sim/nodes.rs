//! A set of nodes.

/// Nodes by number, up to 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nodes([u64; 4]);

impl Nodes {
    /// All of the first `count` nodes.
    pub fn all(count: usize) -> Self {
        let mut all = Self::default();
        (0..count).for_each(|node| all.insert(node));
        all
    }

    /// Adds a node.
    pub fn insert(&mut self, node: usize) {
        self.0[node / 64] |= 1 << (node % 64);
    }

    /// Removes a node.
    pub fn remove(&mut self, node: usize) {
        self.0[node / 64] &= !(1 << (node % 64));
    }

    /// Whether a node is in it.
    pub fn contains(self, node: usize) -> bool {
        self.0[node / 64] >> (node % 64) & 1 == 1
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// The nodes in both.
    pub fn and(self, other: Self) -> Self {
        Self([0, 1, 2, 3].map(|word| self.0[word] & other.0[word]))
    }

    /// The first one.
    pub fn first(self) -> Option<usize> {
        let word = self.0.iter().position(|word| *word != 0)?;
        Some(word * 64 + self.0[word].trailing_zeros() as usize)
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..256).filter(move |node| self.contains(*node))
    }
}
