//! What the executor knows of each resource of this node, for reports.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    model::{Activity, Assignment, AssignmentId, Problem},
    sys::clock,
};

/// One resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// What is being done with it.
    pub activity: Activity,
    /// Up since, in seconds since 1970.
    pub since: Option<i64>,
    /// The last failure that has not been mended.
    pub problem: Option<Problem>,
}

/// All resources of this node.
#[derive(Debug, Default)]
pub struct Board {
    notes: Mutex<BTreeMap<AssignmentId, Note>>,
}

impl Board {
    /// What is known of an assignment.
    #[must_use]
    pub fn note(&self, assignment: &Assignment) -> Note {
        let empty = Note { activity: Activity::Stopped, since: None, problem: None };
        self.notes().get(&assignment.id()).cloned().unwrap_or(empty)
    }

    /// A new activity; one that runs keeps the time since when.
    pub fn set(&self, assignment: &Assignment, activity: Activity) {
        let mut note = self.note(assignment);
        note.since = match activity {
            Activity::Running => note.since.or_else(|| Some(clock::wall_seconds())),
            Activity::Stopping => note.since,
            Activity::Stopped | Activity::Asking | Activity::Starting | Activity::Failed => None,
        };
        if activity == Activity::Running {
            note.problem = None;
        }
        note.activity = activity;
        self.notes().insert(assignment.id(), note);
    }

    /// A failure, the `count`-th of late.
    pub fn fail(&self, assignment: &Assignment, message: String, count: u32) {
        let mut note = self.note(assignment);
        note.problem = Some(Problem { message, at: clock::wall_seconds(), count });
        self.notes().insert(assignment.id(), note);
    }

    fn notes(&self) -> MutexGuard<'_, BTreeMap<AssignmentId, Note>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
