//! `replay`: the order that a recording says, one event at a time. Not an [`Order`](super::Order) to choose: a recording brings it.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_deque::Injector;
use parking_lot::Mutex;

use super::{Local, take};
use crate::record::{Entry, Origin};
use crate::task::Task;

pub(crate) struct Replay {
    entries: Arc<[Entry]>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many have been given out.
    next: usize,
    /// Events that have been added and whose line has not come.
    early: HashMap<Origin, Task>,
}

impl Replay {
    pub(super) fn new(entries: Arc<[Entry]>) -> Self {
        Replay { entries, state: Mutex::default() }
    }

    pub(super) fn next(&self, inbox: &Injector<Task>, local: &mut Local) -> Option<Task> {
        let mut state = self.state.lock();
        while let Some(task) = take(inbox) {
            state.early.insert(Origin(task.origin), task);
        }
        let entry = self.entries.get(state.next)?;
        let task = state.early.remove(&entry.origin)?;
        state.next += 1;
        local.recorded = Some(*entry);
        local.line = state.next as u64;
        Some(task)
    }

    pub(super) fn add(&self, inbox: &Injector<Task>, _local: &Local, task: Task) -> bool {
        inbox.push(task);
        false
    }

    pub(super) fn done(&self, _key: Option<u64>) -> bool {
        false
    }

    pub(super) fn drain(&self) -> Vec<Task> {
        let mut left: Vec<Task> = self.state.lock().early.drain().map(|(_, task)| task).collect();
        left.sort_unstable_by_key(|task| task.origin);
        left
    }

    /// The first event that the recording has and this run has not had.
    pub(super) fn missing(&self) -> Option<Origin> {
        self.entries.get(self.state.lock().next).map(|entry| entry.origin)
    }
}
