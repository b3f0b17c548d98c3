//! `priority`: a heap by priority, deadline and age.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Instant;

use crossbeam_deque::Injector;
use parking_lot::Mutex;

use super::{Local, take};
use crate::task::Task;

#[derive(Default)]
pub(crate) struct Priority(Mutex<State>);

#[derive(Default)]
struct State {
    heap: BinaryHeap<Entry>,
    serial: u64,
}

struct Entry {
    priority: i32,
    deadline: Option<Instant>,
    serial: u64,
    task: Task,
}

impl Entry {
    /// Larger starts first. Events without a deadline come after those with one.
    fn rank(&self) -> (i32, bool, Reverse<Option<Instant>>, Reverse<u64>) {
        (self.priority, self.deadline.is_some(), Reverse(self.deadline), Reverse(self.serial))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl Priority {
    pub(super) fn next(&self, inbox: &Injector<Task>, _local: &mut Local) -> Option<Task> {
        let mut state = self.0.lock();
        while let Some(task) = take(inbox) {
            let (priority, deadline) =
                task.options.as_ref().map_or((0, None), |options| (options.priority, options.deadline));
            let serial = state.serial;
            state.serial += 1;
            state.heap.push(Entry { priority, deadline, serial, task });
        }
        state.heap.pop().map(|entry| entry.task)
    }

    pub(super) fn add(&self, inbox: &Injector<Task>, _local: &Local, task: Task) -> bool {
        inbox.push(task);
        true
    }

    pub(super) fn done(&self, _key: Option<u64>) -> bool {
        false
    }

    pub(super) fn drain(&self) -> Vec<Task> {
        let state = std::mem::take(&mut *self.0.lock());
        let mut entries = state.heap.into_vec();
        entries.sort_unstable_by_key(|entry| entry.serial);
        entries.into_iter().map(|entry| entry.task).collect()
    }
}
