//! What a file says, before it is judged: the same for both formats.

use crate::model::Kind;

use super::source::{Span, Text};

/// All sections of one file.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// `[CM_SERVER]`.
    pub(super) server: Vec<Entry>,
    /// The nodes, in file order.
    pub(super) nodes: Vec<NodeDraft>,
    /// The resources, in file order.
    pub(super) resources: Vec<ResourceDraft>,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Text,
    pub(super) value: Value,
}

/// A value as written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    One(Text),
    Many(Vec<Text>, Span),
}

/// One node section.
#[derive(Debug)]
pub(super) struct NodeDraft {
    /// Where it begins.
    pub(super) header: Span,
    pub(super) entries: Vec<Entry>,
}

/// One resource.
#[derive(Debug)]
pub(super) struct ResourceDraft {
    pub(super) kind: Kind,
    pub(super) nickname: Text,
    /// `None` when it is so broken that only its name is known (already reported).
    pub(super) fields: Option<Vec<Entry>>,
}
