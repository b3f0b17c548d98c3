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
//! 6. A [batch](crate::batch) is events at consecutive positions; it has the turn of the first, and passes on that of the last which it
//!    commits. It ends with an event that is to run again, so that what events add stays in order.
//!
//! So an event is attempted at most twice, or three times if the first was in a batch, and the earliest one is never held up by others.

use crossbeam_deque::Injector;
use crossbeam_utils::CachePadded;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicU64, Ordering};

use optimist_stm::attempt::{Attempt, Mode};
use optimist_stm::protocol::{Any as AnyProtocol, Protocol};
use optimist_stm::{Abort, Interrupt};

use super::{Local, take};
use crate::execution::Ending;
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
        task.number = Some(*next);
        *next += 1;
        Some(task)
    }

    /// Takes the events that follow on `batch`, unless others have been quicker, until there are `most` or one that does not `join` the
    /// others, which is returned.
    pub(crate) fn more(
        &self,
        inbox: &Injector<Task>,
        batch: &mut Vec<Task>,
        most: usize,
        join: impl Fn(&Task) -> bool,
    ) -> Option<Task> {
        let mut next = self.next.lock();
        if batch.last().is_none_or(|last| last.number != next.checked_sub(1)) {
            return None;
        }
        while batch.len() < most {
            let mut task = take(inbox)?;
            task.number = Some(*next);
            *next += 1;
            if !join(&task) {
                return Some(task);
            }
            batch.push(task);
        }
        None
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

    /// Ends the turn of the current position and that of the following ones, so many in all.
    pub(crate) fn advance(&self, positions: u64) {
        let mut state = self.state.lock();
        state.position += positions;
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

/// Where what a worker executes stands in the order, if the run has one.
#[derive(Debug)]
pub(crate) struct Standing {
    position: u64,
    /// Nobody commits before it: the order is free, or its turn has come.
    pub(crate) in_turn: bool,
}

impl Standing {
    /// That of an event, or of a batch that begins with it.
    pub(crate) fn new(ordered: bool, first: &Task) -> Self {
        Standing { position: first.number.unwrap_or(0), in_turn: !ordered }
    }

    /// Waits for the turn. False if the run stops before it comes.
    pub(crate) fn wait(&mut self, turn: &Turn) -> bool {
        self.in_turn = self.in_turn || turn.wait(self.position);
        self.in_turn
    }

    /// At the begin of an attempt.
    #[inline(always)]
    pub(crate) fn begin(&self, tx: &Attempt) -> Result<(), Interrupt<Ending>> {
        if !self.in_turn && tx.mode == Mode::Irrevocable {
            // The run stopped while the turn was waited for. What cannot be undone must not begin.
            return Err(Interrupt::Error(Ending::Withdrawn));
        }
        Ok(())
    }

    /// At the end of the body: waits for the turn.
    #[inline(always)]
    pub(crate) fn arrive(&mut self, turn: &Turn, tx: &mut Attempt) -> Result<(), Interrupt<Ending>> {
        if self.in_turn { Ok(()) } else { self.arrive_ahead(turn, tx) }
    }

    fn arrive_ahead(&mut self, turn: &Turn, tx: &mut Attempt) -> Result<(), Interrupt<Ending>> {
        if !self.wait(turn) {
            return Err(Interrupt::Error(Ending::Withdrawn));
        }
        if tx.buffer.is_empty() && tx.locks.is_empty() {
            // What has only read would commit as of its snapshot, which is before its turn.
            <AnyProtocol as Protocol>::validate(tx)?;
        }
        Ok(())
    }

    /// After an abort. What ran ahead of its turn runs again in its turn, and waits for that before it waits for anything of the transaction
    /// loop's. If the run stops meanwhile, the next attempt finds out at its end.
    pub(crate) fn lose(&mut self, turn: &Turn, reason: Abort) {
        if reason != Abort::Regime && reason != Abort::Retry {
            self.wait(turn);
        }
    }
}
