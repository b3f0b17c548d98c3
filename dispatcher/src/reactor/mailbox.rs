//! Notes that workers leave each other, and the wake-up that goes with the first of them.
//!
//! Whoever leaves a note makes it visible and *rings*; only the first ring since the owner last *answered* costs a system call. The owner,
//! woken by its poller, answers first and takes the notes after that. So a note is either there when the owner takes them, or its ring
//! comes after the answer and wakes the owner again. The loom model below goes through the cases.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mio::{Poll, Token, Waker};
use optimist_stm::atomics::{Atomics, Native, Word};
use parking_lot::Mutex;

use super::Hosted;
use super::connection::Connection;
use super::governor::Accounts;
use super::source::Stream;

/// Something that a worker has to do for another.
pub(super) enum Note {
    /// Serve this connection.
    Connection(Stream, String, Arc<Hosted>),
    /// This connection is yours from now on.
    Moved(Box<Connection>),
    /// There are to be more or fewer workers with connections: hand over those that you have too many.
    Level,
    /// There is something in the outbox of this connection of yours.
    Flush(Token),
    /// What this connection of yours waits for has changed.
    Resume(Token),
    /// There are sources that nobody watches.
    Look,
    /// Accept no more, and close what falls idle.
    Drain,
}

/// Whether a wake-up is on its way.
#[derive(Debug)]
struct Bell<A: Atomics = Native>(A::Word);

impl<A: Atomics> Default for Bell<A> {
    fn default() -> Self {
        Bell(A::Word::new(0))
    }
}

impl<A: Atomics> Bell<A> {
    /// Whether the caller must wake the owner. Relaxed: what goes with the ring is passed on under a lock that was released before, and
    /// that lock orders the two as well.
    #[must_use]
    fn ring(&self) -> bool {
        self.0.compare_exchange(0, 1, Ordering::Relaxed).is_ok()
    }

    /// Called by the owner before it looks at what has been left. Relaxed, as in `ring`.
    fn answer(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A worker's mailbox.
pub(crate) struct Mailbox {
    bell: Bell,
    notes: Mutex<Vec<Note>>,
    waker: Waker,
    /// How many connections its worker has, those on their way included. Relaxed: it is a measure, not a promise.
    pub(super) live: AtomicUsize,
    /// What its worker has done, and what that took.
    pub(super) accounts: Accounts,
}

/// Mailboxes are equal if they are the same one.
impl PartialEq for Mailbox {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("bell", &self.bell).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// Called by the worker.
    pub(super) fn new(poll: &Poll, token: Token) -> io::Result<Self> {
        let waker = Waker::new(poll.registry(), token)?;
        Ok(Mailbox {
            bell: Bell::default(),
            notes: Mutex::default(),
            waker,
            live: AtomicUsize::new(0),
            accounts: Accounts::new(),
        })
    }

    /// Leaves a note and wakes the worker.
    pub(super) fn leave(&self, note: Note) {
        self.notes.lock().push(note);
        self.wake();
    }

    /// Wakes the worker, if it sleeps in its poller, now or the next time that it does.
    pub(crate) fn wake(&self) {
        if self.bell.ring() {
            // It fails only if the poller is gone, and with it everybody whom the wake-up could concern.
            let _ = self.waker.wake();
        }
    }

    pub(super) fn take(&self) -> Vec<Note> {
        self.bell.answer();
        std::mem::take(&mut *self.notes.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loom_atomics::Loom;

    /// An owner that sleeps until it is woken, and two who leave it a note each. If a note is left behind, the model deadlocks.
    fn model<const ANSWERS_LAST: bool>() {
        loom::model(|| {
            let bell: Arc<Bell<Loom>> = Arc::default();
            let notes = Arc::new(loom::sync::Mutex::new(0));
            let waker = Arc::new((loom::sync::Mutex::new(false), loom::sync::Condvar::new()));
            let leavers: Vec<_> = (0..2)
                .map(|_| {
                    let (bell, notes, waker) = (bell.clone(), notes.clone(), waker.clone());
                    loom::thread::spawn(move || {
                        *notes.lock().unwrap() += 1;
                        if bell.ring() {
                            *waker.0.lock().unwrap() = true;
                            waker.1.notify_one();
                        }
                    })
                })
                .collect();
            let mut taken = 0;
            while taken < 2 {
                let mut woken = waker.0.lock().unwrap();
                while !*woken {
                    woken = waker.1.wait(woken).unwrap();
                }
                *woken = false;
                drop(woken);
                if !ANSWERS_LAST {
                    bell.answer();
                }
                taken += std::mem::take(&mut *notes.lock().unwrap());
                if ANSWERS_LAST {
                    bell.answer();
                }
            }
            leavers.into_iter().for_each(|leaver| leaver.join().unwrap());
        });
    }

    #[test]
    fn no_note_is_left_behind() {
        model::<false>();
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn the_model_finds_an_answer_that_comes_too_late() {
        model::<true>();
    }
}
