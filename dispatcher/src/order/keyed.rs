//! `keyed`: events of one key run one after the other. Also known as coloured events (Zeldovich et al., "Multiprocessor support for
//! event-driven programs", USENIX ATC 2003).
//!
//! The inbox is sorted into lanes, one for each key that has an event running, under one lock, so that the order in which events were added is
//! the order within their lane.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crossbeam_deque::Injector;
use parking_lot::Mutex;

use super::{Local, take};
use crate::task::Task;

#[derive(Default)]
pub(crate) struct Keyed(Mutex<State>);

#[derive(Default)]
struct State {
    /// For each key that has an event running or ready: those that wait for it.
    lanes: HashMap<u64, VecDeque<Task>>,
    /// Events at the head of their lane.
    ready: VecDeque<Task>,
    /// Whether ready events and the inbox are to be looked at in turn.
    inbox_first: bool,
}

impl Keyed {
    pub(super) fn next(&self, inbox: &Injector<Task>, _local: &mut Local) -> Option<Task> {
        let mut state = self.0.lock();
        state.inbox_first = !state.inbox_first;
        if !state.inbox_first
            && let Some(task) = state.ready.pop_front()
        {
            return Some(task);
        }
        while let Some(task) = take(inbox) {
            let Some(key) = task.key() else { return Some(task) };
            match state.lanes.entry(key) {
                Entry::Occupied(mut lane) => lane.get_mut().push_back(task),
                Entry::Vacant(lane) => {
                    lane.insert(VecDeque::new());
                    return Some(task);
                }
            }
        }
        state.ready.pop_front()
    }

    pub(super) fn add(&self, inbox: &Injector<Task>, _local: &Local, task: Task) -> bool {
        let more = !inbox.is_empty();
        inbox.push(task);
        more
    }

    pub(super) fn done(&self, key: Option<u64>) -> bool {
        let Some(key) = key else { return false };
        let mut state = self.0.lock();
        let next = match state.lanes.entry(key) {
            Entry::Occupied(mut lane) => match lane.get_mut().pop_front() {
                Some(task) => task,
                None => {
                    lane.remove();
                    return false;
                }
            },
            Entry::Vacant(_) => unreachable!("an event with a key has a lane while it runs"),
        };
        let more = !state.ready.is_empty();
        state.ready.push_back(next);
        more
    }

    pub(super) fn drain(&self) -> Vec<Task> {
        let state = std::mem::take(&mut *self.0.lock());
        // Within each key a ready event is older than those in its lane.
        state.ready.into_iter().chain(state.lanes.into_values().flatten()).collect()
    }
}
