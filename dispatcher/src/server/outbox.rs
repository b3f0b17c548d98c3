//! What was sent to a connection and is not written yet, and what an event is about to send.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use mio::Token;
use parking_lot::{ArcMutexGuard, Mutex, RawMutex};

use super::listen::Stream;
use super::mailbox::{Mailbox, Note};
use crate::event::{Event, EventResult};
use optimist_stm::Interrupt;

/// Where events send what a connection's peer is to receive. Cloning it gives another handle to the same one.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    /// Its place in the order in which outboxes are locked.
    id: u64,
    /// Bytes in the buffer, for those who look without locking.
    waiting: AtomicUsize,
    closed: AtomicBool,
    hard: usize,
    token: Token,
    mailbox: Arc<Mailbox>,
    buffer: Arc<Mutex<Buffer>>,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Its thread knows that there is something to write.
    noted: bool,
}

/// A connection does not take what is sent to it: so many bytes wait to be written.
#[derive(Debug)]
pub struct OutboxFull(pub usize);

impl fmt::Display for OutboxFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection does not take what is sent to it: {} bytes wait to be written", self.0)
    }
}

impl std::error::Error for OutboxFull {}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// An outbox's buffer is given back to the allocator when it is empty and larger than this.
const KEEP: usize = 64 << 10;

impl Outbox {
    pub(super) fn new(mailbox: &Arc<Mailbox>, token: Token, hard: usize) -> Self {
        Outbox {
            shared: Arc::new(Shared {
                // Relaxed: only uniqueness matters.
                id: NEXT.fetch_add(1, Ordering::Relaxed),
                waiting: AtomicUsize::new(0),
                closed: AtomicBool::new(false),
                hard,
                token,
                mailbox: mailbox.clone(),
                buffer: Arc::default(),
            }),
        }
    }

    /// A number that no other outbox of the process has or had.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Bytes sent and not yet written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        // Relaxed: it is a measure, not a promise.
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Whether the connection is closed, or about to be. What is sent to it disappears.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Closes the connection, dropping what is not written. From within an event it belongs into [`Event::on_commit`].
    pub fn close(&self) {
        if !self.shared.closed.swap(true, Ordering::Relaxed) {
            self.shared.mailbox.leave(Note::Flush(self.shared.token));
        }
    }

    pub(super) fn mark_closed(&self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        let mut buffer = self.shared.buffer.lock();
        buffer.bytes = Vec::new();
        self.shared.waiting.store(0, Ordering::Relaxed);
    }

    /// Writes as much as the socket takes. False if it takes no more for now.
    pub(super) fn write(&self, stream: &mut Stream) -> io::Result<bool> {
        use std::io::Write as _;
        let mut buffer = self.shared.buffer.lock();
        buffer.noted = false;
        let mut written = 0;
        let result = loop {
            if written == buffer.bytes.len() {
                break Ok(true);
            }
            match stream.write(&buffer.bytes[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        if written == buffer.bytes.len() {
            buffer.bytes.clear();
            buffer.bytes.shrink_to(KEEP);
        } else {
            buffer.bytes.drain(..written);
        }
        self.shared.waiting.store(buffer.bytes.len(), Ordering::Relaxed);
        result
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("id", &self.id()).field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

thread_local! {
    /// The mailbox of the poller that runs on this thread, and its connections with something to write.
    static HERE: std::cell::RefCell<Here> = const { std::cell::RefCell::new(Here { mailbox: None, to_write: Vec::new() }) };
}

struct Here {
    mailbox: Option<Arc<Mailbox>>,
    to_write: Vec<Token>,
}

/// Makes this thread the one of a mailbox.
pub(super) fn enter(mailbox: Option<Arc<Mailbox>>) {
    HERE.with_borrow_mut(|here| *here = Here { mailbox, to_write: Vec::new() });
}

/// The connections of this thread that have something to write.
pub(super) fn take_to_write(into: &mut Vec<Token>) {
    HERE.with_borrow_mut(|here| std::mem::swap(&mut here.to_write, into));
}

/// What one attempt has sent, not yet released.
#[derive(Default)]
pub(crate) struct Sends {
    bytes: Vec<u8>,
    /// Which part of `bytes` goes where: up to the position, from the one before.
    segments: Vec<(Outbox, usize)>,
    locked: Vec<(u64, ArcMutexGuard<RawMutex, Buffer>)>,
}

impl fmt::Debug for Sends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sends").field("segments", &self.segments).finish_non_exhaustive()
    }
}

impl Sends {
    #[inline]
    pub(crate) fn clear(&mut self) {
        debug_assert!(self.locked.is_empty());
        if !self.segments.is_empty() {
            self.segments.clear();
            self.bytes.clear();
            self.bytes.shrink_to(1 << 20);
        }
    }

    fn append(&mut self, outbox: &Outbox, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        match self.segments.last_mut() {
            Some((last, until)) if Arc::ptr_eq(&last.shared, &outbox.shared) => *until = end,
            _ => self.segments.push((outbox.clone(), end)),
        }
    }

    pub(crate) fn mark(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn roll_back_to(&mut self, mark: usize) {
        self.bytes.truncate(mark);
        while let Some((outbox, end)) = self.segments.pop() {
            let start = self.segments.last().map_or(0, |segment| segment.1);
            if start < mark {
                self.segments.push((outbox, end.min(mark)));
                break;
            }
        }
    }

    /// Locks the outboxes, in the global order.
    #[inline]
    pub(crate) fn lock(&mut self) -> bool {
        match self.segments.as_slice() {
            [] => {}
            [(only, _)] => self.locked.push((only.shared.id, only.shared.buffer.lock_arc())),
            _ => {
                let mut all: Vec<&Outbox> = self.segments.iter().map(|(outbox, _)| outbox).collect();
                all.sort_unstable_by_key(|outbox| outbox.shared.id);
                all.dedup_by_key(|outbox| outbox.shared.id);
                self.locked.extend(all.into_iter().map(|outbox| (outbox.shared.id, outbox.shared.buffer.lock_arc())));
            }
        }
        !self.segments.is_empty()
    }

    pub(crate) fn abandon(&mut self) {
        self.locked.clear();
        self.clear();
    }

    /// Appends what was sent to the outboxes and unlocks them.
    #[inline]
    pub(crate) fn release(&mut self) {
        if self.segments.is_empty() {
            return;
        }
        let mut start = 0;
        for (outbox, end) in &self.segments {
            let bytes = &self.bytes[start..*end];
            start = *end;
            let id = outbox.shared.id;
            let buffer = if let [(_, buffer)] = self.locked.as_mut_slice() {
                buffer
            } else {
                let at = self.locked.binary_search_by_key(&id, |(id, _)| *id).expect("locked before the commit");
                &mut self.locked[at].1
            };
            if outbox.is_closed() {
                continue;
            }
            buffer.bytes.extend_from_slice(bytes);
            outbox.shared.waiting.store(buffer.bytes.len(), Ordering::Relaxed);
            if !buffer.noted {
                buffer.noted = true;
                HERE.with_borrow_mut(|here| match &here.mailbox {
                    Some(mailbox) if Arc::ptr_eq(mailbox, &outbox.shared.mailbox) => {
                        here.to_write.push(outbox.shared.token);
                    }
                    _ => outbox.shared.mailbox.leave(Note::Flush(outbox.shared.token)),
                });
            }
        }
        self.locked.clear();
        self.clear();
    }

    fn waiting_for(&self, outbox: &Outbox) -> usize {
        let mut start = 0;
        let mut sum = 0;
        for (other, end) in &self.segments {
            if Arc::ptr_eq(&other.shared, &outbox.shared) {
                sum += end - start;
            }
            start = *end;
        }
        sum
    }
}

impl Event<'_> {
    /// Sends bytes to a connection when the event commits. To one that is closed they disappear.
    ///
    /// # Errors
    /// [`OutboxFull`] if more than the hard limit would wait to be written.
    pub fn send(&mut self, outbox: &Outbox, bytes: &[u8]) -> EventResult {
        let sends = self.sends();
        let hard = outbox.shared.hard;
        let waiting = outbox.waiting();
        // What the event itself has sent is summed up only where it could matter.
        if waiting + bytes.len() + sends.bytes.len() > hard {
            let own = sends.waiting_for(outbox);
            if waiting + own + bytes.len() > hard {
                return Err(Interrupt::Error(Box::new(OutboxFull(waiting + own))));
            }
        }
        sends.append(outbox, bytes);
        Ok(())
    }
}
