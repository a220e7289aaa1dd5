//! The words by which choices are written in a configuration.

use crate::model::{Failback, NoQuorum, Quorum, Takeover, Transport};

/// A choice with its words.
pub trait Word: Copy + PartialEq + 'static {
    /// Every value with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of this value.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| *word)
    }
}

impl Word for Quorum {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("majority", Self::Majority), ("none", Self::None)];
}

impl Word for NoQuorum {
    const WORDS: &'static [(&'static str, Self)] = &[("stop", Self::Stop), ("freeze", Self::Freeze)];
}

impl Word for Failback {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("manual", Self::Manual)];
}

impl Word for Takeover {
    const WORDS: &'static [(&'static str, Self)] = &[("prompt", Self::Prompt), ("strict", Self::Strict)];
}

impl Word for Transport {
    const WORDS: &'static [(&'static str, Self)] = &[("udp", Self::Udp), ("tcp", Self::Tcp)];
}

/// `resource_driver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResourceDriver {
    Native,
    Script,
}

impl Word for ResourceDriver {
    const WORDS: &'static [(&'static str, Self)] = &[("native", Self::Native), ("script", Self::Script)];
}
