//! The descriptor of a running transaction: its snapshot and its logs.
//!
//! One descriptor per thread, reused from attempt to attempt, so that a steady transaction allocates nothing. Between attempts
//! every log is empty. The logs are a kit that protocols share; each uses those it needs:
//!
//! | log | entry | used for |
//! | --- | --- | --- |
//! | [`reads`](Attempt::reads) | header | version validation |
//! | [`values`](Attempt::values) | field, value | value validation |
//! | [`locks`](Attempt::locks) | header, version before | locks held |
//! | [`undo`](Attempt::undo) | field, value before | writes in place |
//! | [`buffer`](Attempt::buffer) | header, field, value | writes kept back |
//! | `born`, `replaced` | boxed value | who frees a value that does not fit a word |
#![expect(unsafe_code, reason = "logs hold pointers to words whose lifetime the caller of a barrier guarantees")]

use std::mem::ManuallyDrop;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::abort::Abort;
use crate::atomics::{Atomics, Native, Word};
use crate::buffer::WriteBuffer;
use crate::domain::{Domain, IDLE, NO_AGE, Slot};
use crate::header::{Header, Owner};
use crate::hooks::{Hooks, Mark};
use crate::protocol::Calls;
use crate::protocol::ordered::ANY_POSITION;
use crate::reclaim::Garbage;
use crate::watch::{ANY_OBJECT, Watch};

/// A field and the header of the object that it belongs to.
#[derive(Debug)]
pub struct Place<A: Atomics = Native> {
    /// The header.
    pub header: *const A::Word,
    /// The field.
    pub field: *const A::Word,
}

impl<A: Atomics> Clone for Place<A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: Atomics> Copy for Place<A> {}

impl<A: Atomics> Place<A> {
    /// The place of `field` in the object with this header.
    #[inline(always)]
    pub fn new(header: &A::Word, field: &A::Word) -> Self {
        Place { header, field }
    }

    /// The header.
    ///
    /// # Safety
    /// The object is still allocated.
    #[inline(always)]
    #[must_use]
    pub unsafe fn header<'a>(self) -> &'a A::Word {
        // SAFETY: by the caller's promise.
        unsafe { &*self.header }
    }

    /// The field.
    ///
    /// # Safety
    /// The object is still allocated.
    #[inline(always)]
    #[must_use]
    pub unsafe fn field<'a>(self) -> &'a A::Word {
        // SAFETY: by the caller's promise.
        unsafe { &*self.field }
    }

    /// The bit of this field in [`Lock::saved`]; none for fields too far from the header.
    #[inline(always)]
    pub(crate) fn bit(self) -> u64 {
        let distance = self.field.addr().wrapping_sub(self.header.addr()) / size_of::<A::Word>();
        if distance < 64 { 1 << distance } else { 0 }
    }
}

/// Frees a boxed value, given the word that holds the pointer to it.
pub type DropWord = unsafe fn(u64);

/// How an attempt runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Reads and writes, optimistically.
    Update,
    /// Reads only, without a log; whatever changed under it makes it run again.
    ReadOnly,
    /// Reads and writes with the irrevocable token: never aborted by others.
    Irrevocable,
}

/// A lock held by the running attempt.
#[derive(Debug)]
pub struct Lock<A: Atomics> {
    /// The locked header.
    pub header: *const A::Word,
    /// What it held before.
    pub version: u64,
    /// The fields whose old value is in the undo log since the last savepoint, by distance from the header. Bit 0, the header's
    /// own, says that the object was written at all.
    pub saved: u64,
}

/// The old value of a field written in place.
#[derive(Debug)]
pub struct Undo<A: Atomics> {
    /// The field.
    pub field: *const A::Word,
    /// Its value before.
    pub value: u64,
}

/// A field and the value read from it.
#[derive(Debug)]
pub struct ValueRead<A: Atomics> {
    /// Where.
    pub place: Place<A>,
    /// The value read.
    pub value: u64,
}

/// A boxed value and how to free it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owned {
    pub(crate) word: u64,
    pub(crate) drop: DropWord,
}

/// A position in the logs to which an attempt can be rolled back.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint {
    pub(crate) undo: usize,
    pub(crate) buffer: usize,
    pub(crate) born: usize,
    pub(crate) replaced: usize,
    hooks: Mark,
}

/// The running transaction.
///
/// The fields stand in the order of their use, so that a short transaction touches the first cache lines of its descriptor only.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Attempt<A: Atomics = Native> {
    /// The newest version that the fast path may accept without asking: the snapshot, or 0 to send every access to the
    /// protocol.
    pub limit: u64,
    /// The moment whose state the transaction sees.
    pub snapshot: u64,
    /// Headers read.
    pub reads: ReadLog<A>,
    /// This transaction in the headers it locks.
    pub owner: Owner,
    slot: Arc<Slot<A>>,
    /// The regime that this descriptor believes to be in force.
    pub(crate) regime: u64,
    /// How this attempt runs.
    pub mode: Mode,
    /// The body holds something outside of transactional memory that others may wait for until the attempt is over, such as the lock of a
    /// file that it is about to write. It then waits for no transaction that may be waiting for that: it gives way as if it held locks
    /// on memory. Set by the body, for this attempt.
    pub encumbered: bool,
    /// Whether the protocol in force is one whose fast path [`Any`](crate::protocol::Any) has inlined.
    pub(crate) inlined: bool,
    /// Whether there is anything to be done after the commit: values to hand over, an age to forget.
    untidy: bool,
    /// Whether anything is registered in `hooks`.
    pub(crate) hooked: bool,
    /// Whether the locks outlive the rollback, for the next attempt; see [`ordered`](crate::protocol::ordered).
    pub(crate) keeps_locks: bool,
    domain: Arc<Domain<A>>,
    /// Locks held.
    pub locks: Vec<Lock<A>>,
    /// Old values of fields written in place, oldest first.
    pub undo: Vec<Undo<A>>,
    /// How [`Any`](crate::protocol::Any) reaches the protocol in force.
    pub(crate) calls: Option<&'static Calls<A>>,
    /// Values read.
    pub values: Vec<ValueRead<A>>,
    /// Writes kept back.
    pub buffer: WriteBuffer<A>,
    /// The position in a fixed commit order, for protocols that have one.
    pub position: u64,
    pub(crate) born: Vec<Owned>,
    pub(crate) replaced: Vec<Owned>,
    age: u64,
    /// Whom this transaction lost to, to be waited for after the rollback: slot and its count of ended transactions.
    pub(crate) lost_to: Option<(usize, u64)>,
    /// The line of the program whose access ended the attempt, if it was the access of a variable.
    lost_at: Option<&'static Location<'static>>,
    pub(crate) garbage: Garbage,
    /// What the attempt that ended with [`Abort::Retry`] waits for; none if that has changed already.
    pub(crate) blocked: Option<Watch<A>>,
    /// Checks, hooks, and values of the transaction's own.
    pub(crate) hooks: Hooks<A>,
    /// Set by whoever needs this thread's transaction to come to rest: where one that is [`interruptible`](Self::interruptible) would
    /// wait for another, it then gives way instead.
    pub interrupt: Option<Arc<AtomicBool>>,
    /// Whether the attempt may be run again although it is irrevocable, because it has done nothing yet that cannot be undone.
    pub interruptible: bool,
}

impl<A: Atomics> Attempt<A> {
    /// A descriptor in `domain`.
    pub fn new(domain: &Arc<Domain<A>>) -> Self {
        let slot = domain.enter();
        Attempt {
            limit: 0,
            reads: ReadLog::default(),
            snapshot: 0,
            owner: Owner::new(slot.index),
            slot,
            regime: 0,
            mode: Mode::Update,
            encumbered: false,
            inlined: false,
            untidy: false,
            hooked: false,
            keeps_locks: false,
            domain: domain.clone(),
            locks: Vec::new(),
            undo: Vec::new(),
            calls: None,
            values: Vec::new(),
            buffer: WriteBuffer::default(),
            position: ANY_POSITION,
            born: Vec::new(),
            replaced: Vec::new(),
            age: NO_AGE,
            lost_to: None,
            lost_at: None,
            garbage: Garbage::default(),
            blocked: None,
            hooks: Hooks::default(),
            interrupt: None,
            interruptible: false,
        }
    }

    /// The domain.
    #[inline(always)]
    pub fn domain(&self) -> &Domain<A> {
        &self.domain
    }

    /// This transaction's slot.
    #[inline(always)]
    pub fn slot(&self) -> &Slot<A> {
        &self.slot
    }

    /// Whose lock on an object says that the object's fields are this transaction's to read as they stand: its own where the protocol
    /// in force is one that writes in place and that [`Any`](crate::protocol::Any) has inlined, else nobody's.
    #[inline]
    #[must_use]
    pub fn owner_in_place(&self) -> Owner {
        if self.inlined { self.owner } else { Owner::NOBODY }
    }

    /// Whether a field of an object that this transaction holds in place, with the header `held`, may be overwritten as it is: its old
    /// value has been saved since the last savepoint.
    #[inline(always)]
    #[must_use]
    pub fn may_overwrite(&self, held: Header, place: Place<A>) -> bool {
        self.locks.get(held.entry()).is_some_and(|lock| lock.saved & place.bit() != 0)
    }

    /// Publishes that a transaction runs, so that nothing it may reach is freed, and takes the snapshot `now`.
    #[inline(always)]
    pub(crate) fn enter(&mut self, mode: Mode, now: u64) {
        // Relaxed: the light fence orders it before every read of the transaction against the reclaimer's heavy one.
        if crate::mutant!(A, "transaction-not-published", true, false) {
            self.slot.active.store(now, Ordering::Relaxed);
        }
        A::light();
        // After the fence, so that what is known about them here is still known to the compiler in `begin`.
        // The mode is hardly ever another one, and a store costs more than a comparison where a locked instruction follows.
        if self.mode != mode {
            self.mode = mode;
        }
        if self.encumbered {
            self.encumbered = false;
        }
        self.snapshot = now;
    }

    /// Whether an attempt is under way.
    #[inline(always)]
    #[must_use]
    pub fn is_running(&self) -> bool {
        // Relaxed: only the owner writes it.
        self.slot.active.load(Ordering::Relaxed) != IDLE
    }

    /// Notes the line of the program whose access has just been refused.
    #[cold]
    pub(crate) fn note_lost_at(&mut self, place: &'static Location<'static>) {
        self.lost_at = Some(place);
    }

    /// The line of the program whose access ended the attempt, if it was the access of a variable. To be asked at the end of the body, before
    /// anything else happens.
    pub fn take_lost_at(&mut self) -> Option<&'static Location<'static>> {
        self.lost_at.take()
    }

    /// The slot of the transaction that this one has just lost to, if that is known.
    #[must_use]
    pub fn lost_to(&self) -> Option<usize> {
        self.lost_to.map(|(slot, _)| slot)
    }

    /// Publishes that the transaction has ended.
    #[inline(always)]
    pub(crate) fn leave(&mut self) {
        // Release pairs with the acquire in `Domain::oldest_active`: the reads of this transaction happen before whatever is
        // freed because it is over.
        self.slot.active.store(IDLE, Ordering::Release);
    }

    /// Whether the reads still hold: no object read has been locked by another or changed since the snapshot.
    #[inline]
    #[must_use]
    pub fn reads_hold(&self) -> bool {
        self.reads.entries().iter().all(|header| {
            // SAFETY: whoever read the object promised that it stays allocated until the transaction ends. Relaxed: the caller
            // has synchronised with the committers that matter through the clock.
            let header = Header(unsafe { &**header }.load(Ordering::Relaxed));
            header.0 <= self.snapshot
                || header.is_held_by(self.owner)
                || (header.is_locked() && crate::mutant!(A, "foreign-lock-ignored", false, true))
        })
    }

    /// Writes the old values back, newest first, down to `to`.
    pub fn undo_to(&mut self, to: usize) {
        for entry in self.undo.drain(to..).rev() {
            // SAFETY: as in `reads_hold`; the object is locked by this transaction. Release pairs with the acquire of the
            // field in the read barrier, so that a reader of the restored value also sees the lock.
            unsafe { &*entry.field }.store(entry.value, Ordering::Release);
        }
    }

    /// Unlocks everything: what was written gets `version`, what was only locked its old one.
    #[inline]
    pub fn release_locks(&mut self, version: u64) {
        self.unlock(version);
        self.locks.clear();
        // Pairs with the heavy fence of whoever parks on this slot. Equivalent: in a model nobody can park.
        A::light();
        self.slot.wake();
    }

    /// [`release_locks`](Self::release_locks) of a commit: also wakes whoever waits for a change of the written objects.
    #[inline]
    pub fn publish_locks(&mut self, version: u64) {
        let early = crate::mutant!(A, "watchers-looked-for-before-unlock", false, self.domain.watchers.any());
        self.unlock(crate::mutant!(A, "version-reused-after-commit", version, self.snapshot));
        // Pairs with the heavy fence of a watcher: either it is seen here, or it sees the new versions.
        A::light();
        if crate::mutant!(A, "watchers-looked-for-before-unlock", self.domain.watchers.any(), early) {
            self.notify_watchers();
        }
        self.locks.clear();
        self.slot.wake();
    }

    #[inline(always)]
    fn unlock(&self, version: u64) {
        for lock in &self.locks {
            let version = if lock.saved & 1 == 0 { lock.version } else { version };
            // SAFETY: whoever accessed the object promised that it stays allocated until the attempt has ended. Release pairs
            // with the acquire of whoever locks next, and, through the field, with that of readers.
            unsafe { &*lock.header }.store(version, Ordering::Release);
        }
    }

    /// Registers interest in every commit.
    #[cold]
    pub(crate) fn watch_all(&mut self) -> Watch<A> {
        Watch::register(&self.domain, std::iter::once(ANY_OBJECT))
    }

    #[cold]
    fn notify_watchers(&self) {
        self.domain
            .watchers
            .notify(self.locks.iter().filter(|lock| lock.saved & 1 != 0).map(|lock| lock.header.addr()));
    }

    /// Wakes whoever waits for a change of an object with a buffered write that has just been committed. The caller has executed a
    /// light fence since.
    #[inline]
    pub(crate) fn notify_buffered(&self) {
        if self.domain.watchers.any() {
            self.domain.watchers.notify(self.buffer.writes().iter().map(|write| write.place.header.addr()));
        }
    }

    /// Registers interest in everything read so far. The caller then validates: if that succeeds, any later change fires the watch.
    #[cold]
    pub(crate) fn watch(&mut self) -> Watch<A> {
        let reads = self.reads.entries().iter().map(|header| header.addr());
        let values = self.values.iter().map(|read| read.place.header.addr());
        let locks = self.locks.iter().map(|lock| lock.header.addr());
        Watch::register(&self.domain, reads.chain(values).chain(locks))
    }

    /// Notes that a boxed value was created for a field: freed if the attempt does not commit.
    pub(crate) fn note_born(&mut self, word: u64, drop: DropWord) {
        self.untidy = true;
        self.born.push(Owned { word, drop });
    }

    /// Notes that the committed value `word` will be unreachable once the attempt commits.
    #[inline]
    pub fn note_replaced(&mut self, word: u64, drop: DropWord) {
        self.untidy = true;
        self.replaced.push(Owned { word, drop });
    }

    /// Frees the boxed values created since the first `to`.
    pub(crate) fn drop_born(&mut self, to: usize) {
        if self.born.len() == to {
            return;
        }
        crate::reclaim::dropping(|| {
            for owned in self.born.drain(to..) {
                // SAFETY: the value was created by this attempt for a field that no longer holds it, and no other transaction
                // follows a pointer before it has validated the field.
                crate::hooks::quietly(|| unsafe { (owned.drop)(owned.word) });
            }
        });
    }

    /// Hands the boxed values created over to be freed later.
    #[cold]
    pub(crate) fn retire_born(&mut self) {
        for owned in std::mem::take(&mut self.born) {
            // SAFETY: as in `drop_born`.
            unsafe { crate::reclaim::retire(self, owned.word, owned.drop) };
        }
    }

    /// A position to which the logs can be rolled back.
    pub(crate) fn mark(&mut self) -> Savepoint {
        if crate::mutant!(A, "savepoint-not-marked", true, false) {
            for lock in &mut self.locks {
                lock.saved &= 1;
            }
        }
        Savepoint {
            undo: self.undo.len(),
            buffer: self.buffer.mark(),
            born: self.born.len(),
            replaced: self.replaced.len(),
            hooks: self.hooks.mark(),
        }
    }

    /// Rolls the kit's logs back to `savepoint`. Reads and locks stay, which is safe and at most conservative.
    pub(crate) fn roll_back_to(&mut self, savepoint: Savepoint) {
        self.undo_to(savepoint.undo);
        for lock in &mut self.locks {
            lock.saved &= 1;
        }
        self.buffer.roll_back_to(savepoint.buffer);
        self.replaced.truncate(savepoint.replaced);
        self.drop_born(savepoint.born);
        self.hooks.roll_back_to(savepoint.hooks);
    }

    /// The age that decides who waits for whom; taken at the first conflict and kept until the transaction commits.
    pub(crate) fn age(&mut self) -> u64 {
        if self.age == NO_AGE {
            self.untidy = true;
            self.age = if self.mode == Mode::Irrevocable { 0 } else { self.domain.next_age() };
            // Relaxed: a stale reading makes the other wait or give way once too often, never wrongly.
            self.slot.age.store(self.age, Ordering::Relaxed);
        }
        self.age
    }

    /// Sets the age of an irrevocable transaction: older than all.
    pub(crate) fn become_eldest(&mut self) {
        self.untidy = true;
        self.age = 0;
        self.slot.age.store(0, Ordering::Relaxed);
    }

    /// Forgets the age, at the end of the transaction.
    pub(crate) fn forget_age(&mut self) {
        if self.age != NO_AGE {
            self.age = NO_AGE;
            self.slot.age.store(NO_AGE, Ordering::Relaxed);
        }
    }

    /// After a commit: hands the values over and forgets the age.
    #[inline(always)]
    pub(crate) fn tidy(&mut self) {
        if self.untidy {
            self.tidy_up();
        }
    }

    #[inline(never)]
    fn tidy_up(&mut self) {
        self.untidy = false;
        self.forget_age();
        self.born.clear();
        if !self.replaced.is_empty() {
            crate::reclaim::retire_replaced(self);
        }
    }

    /// Meets an object locked by another transaction: waits until it may have been released, or gives way.
    ///
    /// Deadlock is excluded by *wait-die* (Rosenkrantz, Stearns and Lewis, TODS 1978): a transaction that holds locks waits only
    /// for younger ones. Whoever holds none, and nothing else that others wait for, may wait for anyone.
    ///
    /// # Errors
    /// [`Abort::Locked`] if this transaction must release its locks first.
    #[cold]
    pub fn wait_for(&mut self, header: &A::Word, seen: Header) -> Result<(), Abort> {
        if !A::CAN_WAIT {
            return Err(Abort::Locked);
        }
        for _ in 0..SPINS {
            A::spin();
            if header.load(Ordering::Relaxed) != seen.0 {
                return Ok(());
            }
        }
        let other = self.domain.slot(seen.slot());
        // Relaxed: a request that is seen late is seen when the next park times out.
        let interrupted = self.interrupt.as_ref().is_some_and(|interrupt| interrupt.load(Ordering::Relaxed));
        let must_yield = interrupted && self.interruptible;
        let holds_something = self.encumbered || !self.locks.is_empty();
        if must_yield || (holds_something && self.age() > other.age.load(Ordering::Relaxed)) {
            self.lost_to = Some((seen.slot(), other.ended.load(Ordering::Relaxed)));
            return Err(Abort::Locked);
        }
        self.age();
        self.slot.counters.waits.increment();
        other.wait_while(|| header.load(Ordering::Relaxed) == seen.0);
        Ok(())
    }
}

/// How often a waiter looks again before it parks: about as long as a short commit takes.
const SPINS: usize = 48;

impl<A: Atomics> Drop for Attempt<A> {
    fn drop(&mut self) {
        self.garbage.leave_to(&self.domain);
        self.domain.leave(&self.slot);
    }
}

/// The headers read, in order, possibly repeated.
///
/// A transaction that reads the same objects over and over would grow its log without bound; when the log is full, repetitions are
/// dropped before it is allowed to grow.
///
/// It is a vector with its end kept as a pointer, so that an append is a comparison and two stores.
#[derive(Debug)]
#[repr(C)]
pub struct ReadLog<A: Atomics> {
    /// Where the next header goes.
    end: *mut *const A::Word,
    /// The end of the room.
    limit: *mut *const A::Word,
    start: *mut *const A::Word,
}

impl<A: Atomics> Default for ReadLog<A> {
    fn default() -> Self {
        Self::from_vec(Vec::new())
    }
}

impl<A: Atomics> ReadLog<A> {
    fn from_vec(entries: Vec<*const A::Word>) -> Self {
        let mut entries = ManuallyDrop::new(entries);
        let (start, length, capacity) = (entries.as_mut_ptr(), entries.len(), entries.capacity());
        // SAFETY: both offsets are within the vector's allocation or at its end.
        unsafe { ReadLog { end: start.add(length), limit: start.add(capacity), start } }
    }

    /// The vector that this log is, leaving the log to be overwritten or forgotten.
    fn take_vec(&mut self) -> Vec<*const A::Word> {
        // SAFETY: the three pointers are those of a vector, as `from_vec` took it apart; the ends are not before the start.
        unsafe {
            let length = self.end.offset_from_unsigned(self.start);
            let capacity = self.limit.offset_from_unsigned(self.start);
            Vec::from_raw_parts(self.start, length, capacity)
        }
    }

    /// Appends a header.
    #[inline(always)]
    #[expect(clippy::not_unsafe_ptr_arg_deref, reason = "the pointer is stored, not followed")]
    pub fn push(&mut self, header: *const A::Word) {
        if self.end == self.limit {
            self.make_room();
        }
        // SAFETY: there is room for one more.
        unsafe {
            self.end.write(header);
            self.end = self.end.add(1);
        }
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self) {
        let mut entries = self.take_vec();
        entries.sort_unstable();
        entries.dedup();
        let length = entries.len();
        if length * 2 >= entries.capacity() {
            entries.reserve(length.max(64));
        }
        let log = ManuallyDrop::new(Self::from_vec(entries));
        (self.end, self.limit, self.start) = (log.end, log.limit, log.start);
    }

    /// Forgets all.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.end = self.start;
    }

    /// The headers.
    #[inline(always)]
    #[must_use]
    pub fn entries(&self) -> &[*const A::Word] {
        // SAFETY: as in `take_vec`; the entries up to the end have been written.
        unsafe { std::slice::from_raw_parts(self.start, self.end.offset_from_unsigned(self.start)) }
    }
}

impl<A: Atomics> Drop for ReadLog<A> {
    fn drop(&mut self) {
        drop(self.take_vec());
    }
}
