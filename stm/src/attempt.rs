//! The descriptor of a running transaction: its snapshot and its logs.
//!
//! One descriptor per thread, reused from attempt to attempt, so that a steady transaction allocates nothing. Between attempts
//! every log is empty. The logs are a kit that protocols share; each uses those it needs:
//!
//! | log | entry | used for |
//! | --- | --- | --- |
//! | [`reads`](Attempt::reads) | header | version validation |
//! | [`values`](Attempt::values) | field, value | value validation |
//! | [`locks`](Attempt::locks) | header, version before, first field's value before | locks held, writes in place |
//! | [`undo`](Attempt::undo) | field, value before | further writes in place |
//! | [`buffer`](Attempt::buffer) | header, field, value | writes kept back |
//! | `born`, `replaced` | boxed value | who frees a value that does not fit a word |
#![expect(unsafe_code, reason = "logs hold pointers to words whose lifetime the caller of a barrier guarantees")]

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::abort::Abort;
use crate::atomics::{Atomics, Native, Word, unlikely};
use crate::buffer::WriteBuffer;
use crate::domain::{Domain, IDLE, NO_AGE, Slot, kind_of};
use crate::entries::Owned;
pub use crate::entries::{DropWord, Lock, Place, ReadLog, Saved, Undo, ValueRead};
use crate::header::{Header, Owner};
use crate::hooks::{Hooks, Mark};
use crate::log::Log;
use crate::protocol::Calls;
use crate::protocol::ordered::ANY_POSITION;
use crate::reclaim::Garbage;
use crate::watch::{ANY_OBJECT, Watch};

/// How an attempt runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Reads and writes, optimistically.
    Update,
    /// Reads only, without a log; whatever changed under it makes it run again.
    ReadOnly,
    /// Reads and writes with the irrevocable token: never aborted by others.
    Irrevocable,
}

/// A position in the logs to which an attempt can be rolled back.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint {
    pub(crate) undo: usize,
    pub(crate) locks: usize,
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
    /// Whether the next attempt to update begins with the snapshot that this one ends with; see [`enter`](Self::enter).
    pub(crate) keeps_snapshot: bool,
    /// Whether the locks outlive the rollback, for the next attempt; see [`ordered`](crate::protocol::ordered).
    pub(crate) keeps_locks: bool,
    domain: Arc<Domain<A>>,
    /// Locks held.
    pub locks: Log<Lock<A>>,
    /// Old values of fields written in place that are not in the lock log, oldest first.
    pub undo: Log<Undo<A>>,
    /// How [`Any`](crate::protocol::Any) reaches the protocol in force.
    pub(crate) calls: Option<&'static Calls<A>>,
    /// Values read.
    pub values: Log<ValueRead<A>>,
    /// Writes kept back.
    pub buffer: WriteBuffer<A>,
    /// The position in a fixed commit order, for protocols that have one.
    pub position: u64,
    pub(crate) born: Vec<Owned>,
    pub(crate) replaced: Vec<Owned>,
    age: u64,
    /// Whom this transaction lost to, to be waited for after the rollback: slot and its count of ended transactions.
    pub(crate) lost_to: Option<(usize, u64)>,
    /// How many transactions had committed here when one last met a lock that was released soon.
    met_lock_at: u64,
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
            keeps_snapshot: false,
            keeps_locks: false,
            domain: domain.clone(),
            locks: Log::default(),
            undo: Log::default(),
            calls: None,
            values: Log::default(),
            buffer: WriteBuffer::default(),
            position: ANY_POSITION,
            born: Vec::new(),
            replaced: Vec::new(),
            age: NO_AGE,
            lost_to: None,
            met_lock_at: 0,
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
        self.locks.get(held.offset() / size_of::<Lock<A>>()).is_some_and(|lock| lock.saved.has_field(place))
    }

    /// Publishes that a transaction runs, so that nothing it may reach is freed, and takes a snapshot. Whether the protocol that this
    /// descriptor believes to be in force is.
    ///
    /// A snapshot that this thread has taken before serves as well, if the protocol says so and can extend it: what it covers is visible here
    /// already, and an object that has changed since is met with its new version. So a transaction that meets none does not look at the
    /// clock, which everybody writes, before it commits. What reads only has no log to extend a snapshot with, and takes a new one.
    ///
    /// An empty transaction costs what its memory accesses cost, so each is made once.
    #[inline(always)]
    #[must_use]
    pub(crate) fn enter(&mut self, mode: Mode) -> bool {
        let domain = &*self.domain;
        if unlikely(!self.keeps_snapshot || mode == Mode::ReadOnly) {
            self.snapshot = domain.clock.load(Ordering::Acquire);
        }
        // Relaxed: the light fence orders it before every read of the transaction against the reclaimer's heavy one.
        if crate::mutant!(A, "transaction-not-published", true, false) {
            self.slot.active.store(self.snapshot, Ordering::Relaxed);
        }
        A::light();
        // Relaxed: the light fence orders it after the slot was published; see the rules in `runtime`.
        let in_force = domain.regime.load(Ordering::Relaxed) == self.regime;
        // After the fence, so that what is known about them here is still known to the compiler in `begin`.
        // They hardly ever change, and a store costs more than a comparison where a locked instruction follows.
        if unlikely([self.mode as u8, self.encumbered.into()] != [mode as u8, 0]) {
            self.mode = mode;
            self.encumbered = false;
        }
        in_force
    }

    /// As [`enter`](Self::enter), which has said no: where merely a new [era](Domain::begin_era) has begun, with a new snapshot.
    #[cold]
    #[inline(never)]
    pub(crate) fn enter_era(&mut self) -> bool {
        self.keeps_snapshot = false;
        loop {
            // Relaxed: as in `enter`, which looks again.
            let regime = self.domain.regime.load(Ordering::Relaxed);
            if kind_of(regime) != kind_of(self.regime) {
                return false;
            }
            self.regime = regime;
            if self.enter(self.mode) {
                return true;
            }
        }
    }

    /// Runs `step`, which reads and then writes a shared word, without a locked instruction, if no other thread can run transactions: see
    /// `alone.rs`.
    #[inline(always)]
    #[must_use]
    pub(crate) fn alone<R>(&self, step: impl FnOnce() -> R) -> Option<R> {
        self.slot.bias.enter::<A, R>(step)
    }

    /// Replaces a header that was seen unlocked by this transaction's lock, whose entry will be the next one. False if somebody was faster.
    #[inline(always)]
    #[must_use]
    pub(crate) fn take(&self, header: &A::Word, seen: u64) -> bool {
        let lock = self.owner.lock(self.locks.offset());
        let taken = self.alone(|| {
            // Relaxed: nobody else looks before the step is over.
            let unchanged = header.load(Ordering::Relaxed) == seen;
            if unchanged {
                header.store(lock, Ordering::Relaxed);
            }
            unchanged
        });
        // Acquire pairs with the release of the last unlock: the old value saved next is the committed one. Equivalent: a version that
        // the snapshot covers was published through the clock as well, and the release of the field orders the lock before it; elsewhere the
        // load that found the version has acquired it already.
        taken.unwrap_or_else(|| header.compare_exchange(seen, lock, Ordering::Acquire).is_ok())
    }

    /// Whether an attempt is under way.
    #[inline(always)]
    #[must_use]
    pub fn is_running(&self) -> bool {
        // Relaxed: only the owner writes it.
        self.slot.active.load(Ordering::Relaxed) != IDLE
    }

    /// After a commit: publishes that the transaction has ended, and counts it.
    #[inline(always)]
    pub(crate) fn leave_committed(&mut self) {
        let slot = &*self.slot;
        slot.counters.commits.increment();
        // As in `leave`.
        slot.active.store(IDLE, Ordering::Release);
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

    /// Notes a lock just taken in order to write a field, and saves the field's old value.
    #[inline(always)]
    pub(crate) fn log_write(&mut self, place: Place<A>, version: u64, drop: Option<DropWord>) {
        // SAFETY: the caller of the barrier keeps the object alive. Relaxed: nobody else writes a locked object.
        let value = unsafe { place.field() }.load(Ordering::Relaxed);
        match place.distance() {
            Some(distance) if distance > 0 => {
                place.field.expose_provenance();
                self.locks.push(Lock { header: place.header, version, saved: Saved::here(distance), value });
            }
            _ => {
                self.locks.push(Lock::new(place.header, version, Saved::WRITTEN));
                self.undo.push(Undo { field: place.field, value });
            }
        }
        if let Some(drop) = drop {
            self.note_replaced(value, drop);
        }
    }

    /// Saves the old value of a field of an object that this transaction holds, unless that has been done since the last savepoint.
    #[inline]
    pub(crate) fn log_write_again(&mut self, place: Place<A>, seen: Header, drop: Option<DropWord>) {
        let unsaved = self.held(seen).saved.write_field(place);
        // A boxed value is replaced by every write and must be noted each time.
        if (unsaved && crate::mutant!(A, "second-field-not-saved", true, false)) || drop.is_some() {
            self.log_further(place, drop);
        }
    }

    /// Of an object that this transaction holds in place, with the header `held`: how many fields have had their old value saved since the last
    /// savepoint.
    #[inline]
    #[must_use]
    pub fn saved_fields(&self, held: Header) -> u32 {
        self.locks.get(held.offset() / size_of::<Lock<A>>()).map_or(0, |lock| lock.saved.fields().count_ones())
    }

    /// Saves the old values of those of the `count` fields from `first` on that have none saved yet, of an object that this transaction holds in
    /// place with the header `held`: where many fields are written one after the other, one loop costs less than as many barriers.
    ///
    /// # Safety
    /// All of them are fields of the object, which is reachable.
    pub unsafe fn save_fields(&mut self, held: Header, first: Place<A>, count: usize) {
        for index in 0..count {
            let place: Place<A> = Place { header: first.header, field: first.field.wrapping_add(index) };
            if place.distance().is_some() && self.held(held).saved.write_field(place) {
                // SAFETY: by the caller's promise. Relaxed: nobody else writes what is locked here.
                let value = unsafe { place.field() }.load(Ordering::Relaxed);
                self.undo.push(Undo { field: place.field, value });
            }
        }
    }

    #[inline(never)]
    fn log_further(&mut self, place: Place<A>, drop: Option<DropWord>) {
        // SAFETY: as in `log_write`. Relaxed: as there.
        let value = unsafe { place.field() }.load(Ordering::Relaxed);
        self.undo.push(Undo { field: place.field, value });
        if let Some(drop) = drop {
            self.note_replaced(value, drop);
        }
    }

    /// The entry of an object that this transaction holds, by its header.
    #[inline(always)]
    pub(crate) fn held(&mut self, header: Header) -> &mut Lock<A> {
        &mut self.locks[header.offset() / size_of::<Lock<A>>()]
    }

    /// Writes all old values back.
    pub fn undo_all(&mut self) {
        self.undo_to(0, 0);
    }

    /// Writes old values back: those after the first `undo` of the undo log, newest first, and those in the entries after the first
    /// `locks`. The latter are the older ones where both have the same field.
    fn undo_to(&mut self, undo: usize, locks: usize) {
        let further = self.undo[undo..].iter().rev().map(|entry| (entry.field, entry.value));
        let first = self.locks[locks..].iter().rev().filter_map(Lock::old_value);
        for (field, value) in further.chain(first) {
            // SAFETY: as in `reads_hold`; the object is locked by this transaction. Release pairs with the acquire of the
            // field in the read barrier, so that a reader of the restored value also sees the lock.
            unsafe { &*field }.store(value, Ordering::Release);
        }
        self.undo.truncate(undo);
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
            let version = if lock.saved.is_written() { version } else { lock.version };
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
            .notify(self.locks.iter().filter(|lock| lock.saved.is_written()).map(|lock| lock.header.addr()));
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
            self.locks.iter_mut().for_each(|lock| lock.saved.mark());
        }
        Savepoint {
            undo: self.undo.len(),
            locks: self.locks.len(),
            buffer: self.buffer.mark(),
            born: self.born.len(),
            replaced: self.replaced.len(),
            hooks: self.hooks.mark(),
        }
    }

    /// Rolls the kit's logs back to `savepoint`. Reads and locks stay, which is safe and at most conservative.
    pub(crate) fn roll_back_to(&mut self, savepoint: Savepoint) {
        self.undo_to(savepoint.undo, savepoint.locks);
        self.locks.iter_mut().for_each(|lock| lock.saved.mark());
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
        if unlikely(self.untidy) {
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

    /// After meeting a lock that was released soon: where that happens all the time, and nobody waits for this transaction, leaves the others
    /// alone for a moment. They then find what they write in their own cache, and do in that moment what would take several times as
    /// long if the lines went to and fro.
    fn stand_back(&mut self) {
        let commits = self.slot.counters.commits.get();
        let since = commits - std::mem::replace(&mut self.met_lock_at, commits);
        if since < CROWD && self.locks.is_empty() && !self.encumbered {
            (0..STEPS_BACK).for_each(|_| A::spin());
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
                self.stand_back();
                return Ok(());
            }
        }
        // Not earlier: in other threads' slots stands what they write in each transaction.
        let other = self.domain.slot(seen.slot());
        let ended = other.attempts_ended();
        // The attempt that holds the lock has not been counted yet.
        if header.load(Ordering::Relaxed) != seen.0 {
            return Ok(());
        }
        // Relaxed: a request that is seen late is seen when the next park times out.
        let interrupted = self.interrupt.as_ref().is_some_and(|interrupt| interrupt.load(Ordering::Relaxed));
        let must_yield = interrupted && self.interruptible;
        let holds_something = self.encumbered || !self.locks.is_empty();
        if must_yield || (holds_something && self.age() > other.age.load(Ordering::Relaxed)) {
            self.lost_to = Some((seen.slot(), ended));
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

/// Meeting others' locks with fewer commits in between is a crowd.
const CROWD: u64 = 64;

/// How long one stands back from a crowd, in steps of waiting: about a hundred of the shortest transactions.
const STEPS_BACK: usize = 128;

impl<A: Atomics> Drop for Attempt<A> {
    fn drop(&mut self) {
        self.garbage.leave_to(&self.domain);
        self.domain.leave(&self.slot);
    }
}
