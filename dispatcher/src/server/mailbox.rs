//! Notes that threads leave each other, and the wake-up that goes with the first of them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Poll, Token, Waker};
use parking_lot::Mutex;

use super::listen::Stream;

/// Something that a thread has to do for another.
pub(super) enum Note {
    /// Serve this connection.
    Connection(Stream, String),
    /// There is something in the outbox of this connection of yours.
    Flush(Token),
    /// What this connection of yours waits for has changed.
    Resume(Token),
    /// End.
    Stop,
}

/// A thread's mailbox.
pub(super) struct Mailbox {
    notes: Mutex<Vec<Note>>,
    /// A wake-up is on its way, so that another one is not needed.
    woken: AtomicBool,
    waker: Waker,
}

impl Mailbox {
    pub(super) fn new(poll: &Poll, token: Token) -> io::Result<Self> {
        let waker = Waker::new(poll.registry(), token)?;
        Ok(Mailbox { notes: Mutex::default(), woken: AtomicBool::new(false), waker })
    }

    /// Leaves a note and wakes the thread.
    pub(super) fn leave(&self, note: Note) {
        self.notes.lock().push(note);
        // AcqRel pairs with the swap in `take`: either that one comes later and its thread finds the note, or it has come before and the
        // thread is woken.
        if !self.woken.swap(true, Ordering::AcqRel) {
            // It fails only if the poller is gone, and with it everybody the note could concern.
            let _ = self.waker.wake();
        }
    }

    pub(super) fn take(&self) -> Vec<Note> {
        self.woken.swap(false, Ordering::AcqRel);
        std::mem::take(&mut *self.notes.lock())
    }
}
