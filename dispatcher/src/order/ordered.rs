//! `ordered`: every event has a position, and commits when its turn comes.
//!
//! 1. Events get consecutive positions as they leave the inbox. What an event adds goes to the inbox while it is the event's turn.
//! 2. An event runs ahead of its turn, holds no lock on memory meanwhile (the protocol keeps writes back), waits for its turn at the end of
//!    its body, and commits then. If that fails because an earlier event changed what it had read, it runs again, in its turn.
//!    An event that has only read is validated then as well: by itself it would commit as of its snapshot, before its turn.
//! 3. In its turn nobody else commits, so the second attempt is the last.
//! 4. What an event does ahead of its turn other than reach its end (fail, panic, wait for a change) does not count: it runs again in its
//!    turn.
//! 5. Under a protocol that writes in place an event would hold locks that an earlier one needs, so there it starts in its turn.
//!
//! So an event is attempted at most twice, and the earliest one is never held up by others.

use crossbeam_deque::Injector;
use crossbeam_utils::CachePadded;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Local, take};
use crate::task::Task;

#[derive(Default)]
pub(crate) struct Ordered {
    /// The next position. Held while the inbox is read, so that positions follow it.
    next: Mutex<u64>,
}

impl Ordered {
    pub(super) fn next(&self, inbox: &Injector<Task>, _local: &mut Local) -> Option<Task> {
        let mut next = self.next.lock();
        let mut task = take(inbox)?;
        task.position = *next;
        *next += 1;
        Some(task)
    }

    pub(super) fn add(&self, inbox: &Injector<Task>, _local: &Local, task: Task) -> bool {
        let more = !inbox.is_empty();
        inbox.push(task);
        more
    }

    pub(super) fn done(&self, _key: Option<u64>) -> bool {
        false
    }

    pub(super) fn drain(&self) -> Vec<Task> {
        Vec::new()
    }
}

/// Whose turn it is. The state is a number under a mutex; waiters spin on a copy of it first, since a tiny event's turn comes soon.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    copy: CachePadded<AtomicU64>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    position: u64,
    waiting: usize,
    closed: bool,
}

/// How often a waiter looks before it sleeps.
const SPINS: u32 = 200;

impl Turn {
    /// Waits for the turn of `position`. False if the run stops before it comes.
    pub(crate) fn wait(&self, position: u64) -> bool {
        for _ in 0..SPINS {
            if self.copy.load(Ordering::Relaxed) == position {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = self.state.lock();
        state.waiting += 1;
        while state.position != position && !state.closed {
            self.changed.wait(&mut state);
        }
        state.waiting -= 1;
        state.position == position && !state.closed
    }

    /// Ends the turn of the current position.
    pub(crate) fn advance(&self) {
        let mut state = self.state.lock();
        state.position += 1;
        // Relaxed: whoever sees it takes the lock.
        self.copy.store(state.position, Ordering::Relaxed);
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Lets nobody have a turn any more.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}
