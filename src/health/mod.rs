//! What a cluster report means beside the configuration: which resources should run and where each does, why one does not, what
//! is odd about a node, and what it all comes to. Pure: whoever asks the cluster, and however the answer is shown, the judgement
//! is the same.

mod assess;
mod document;
mod verdict;
mod view;

#[cfg(test)]
pub(crate) mod fixture;

pub use assess::{Assessment, Duplicate, LentVote, Majority, Member, Row, Status, assess};
pub use document::{Document, document, unanswered};
pub use verdict::{Health, Verdict};
pub use view::{View, activity_word, describe};
