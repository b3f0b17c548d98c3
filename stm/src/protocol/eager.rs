//! `eager`: encounter-time locks, writes in place with undo, snapshot extension.
//!
//! *Source.* Felber, Fetzer and Riegel, "Dynamic performance tuning of word-based software transactional memory" (PPoPP 2008:
//! write-through with encounter-time locking and snapshot extension), with the versioned lock in the object's header in place of
//! a hashed table, and one check of the header per read in place of two.
//!
//! *Guarantee.* Opaque. Not privatisation-safe: a doomed writer may still have to restore an object that a later transaction has
//! made private.
//!
//! *Cost.* A read: two loads, a comparison, one log entry. A first write to an object: one compare-and-swap and two log entries, whatever
//! the size of the write set; the header of a written object leads straight to its log entry. A commit: one locked instruction with
//! [`Gv1`], and no validation if nobody else has committed since the snapshot.
//!
//! # Why one check suffices
//!
//! A read loads the field, then the header. Suppose the header was unlocked at version `v <= snapshot` although the field's value was
//! not the one that the commit of `v` left there. Then either
//!
//! 1. the value was written later, by a transaction that held the lock. The field's load acquires that store, so the header's load
//!    sees that lock or something later. Whatever that transaction did, it released the object with a stamp taken after the store: a commit's, or
//!    (rule 5 of the contract) a rollback's. A stamp is newer than any snapshot taken before it, and the snapshots taken after it see the
//!    final value. So the header was newer than the snapshot, a contradiction; or
//! 2. the value was older than the snapshot's. But the snapshot's load of the clock acquires everything committed up to it, as does the
//!    change of the clock by a commit whose stamp is the next attempt's snapshot.
//!
//! # The recipe for compiled code
//!
//! ```text
//! read:   value  = load [object + field]          ; acquire: a plain load on x86-64
//!         header = load [object + HEADER]         ; relaxed
//!         if header > [tx + LIMIT]  goto slow     ; unsigned; locked headers have the top bit
//!         if [tx + READS_END] == [tx + READS_CAP] goto grow
//!         store [[tx + READS_END]] = object; [tx + READS_END] += 8
//! write:  header = load [object + HEADER]
//!         if header & OWNER_MASK == [tx + OWNER]  goto held
//!         if header > [tx + LIMIT]  goto slow
//!         cmpxchg [object + HEADER], header → [tx + OWNER] | entry ; on failure goto slow
//!         append {header, version, saved = bit(field) | 1} to locks
//! save:   append {field, load [object + field]} to undo
//!         store [object + field] = value
//! held:   entry = header & ENTRY_MASK; if saved(entry) has bit(field) store [object + field] = value
//!         else set it, goto save
//! ```
//!
//! The log of a read goes away where the object was read or locked before on the same path, the whole barrier where the
//! object was born in this transaction or is frozen.
#![expect(unsafe_code, reason = "dereferences places that the caller of the barrier keeps alive")]

use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use super::{Info, Protocol};
use crate::abort::Abort;
use crate::atomics::{Atomics, Word, likely, unlikely};
use crate::attempt::{Attempt, DropWord, Lock, Mode, Place, Saved};
use crate::clock::{Clock, Gv1};
use crate::header::Header;

/// Encounter-time locking in place. `C` is the clock.
#[derive(Clone, Copy, Debug)]
pub struct Eager<C: Clock = Gv1>(PhantomData<C>);

impl<A: Atomics, C: Clock> Protocol<A> for Eager<C> {
    const INFO: Info = Info {
        name: "eager",
        source: "Felber, Fetzer, Riegel: Dynamic performance tuning of word-based STM, PPoPP 2008",
        opaque: true,
        privatisation_safe: false,
        readers_never_abort: false,
        ordered: false,
        in_place: true,
    };

    const EAGER: bool = true;

    #[inline(always)]
    fn begin(tx: &mut Attempt<A>) -> Result<(), Abort> {
        // The snapshot is the clock as it was read before the transaction published itself, now or earlier.
        C::settle::<A>();
        if unlikely(!tx.keeps_snapshot) {
            tx.keeps_snapshot = true;
        }
        // An irrevocable transaction must lock what it reads, so every access goes the slow way.
        tx.limit = if unlikely(tx.mode == Mode::Irrevocable) { 0 } else { tx.snapshot };
        Ok(())
    }

    #[inline(always)]
    unsafe fn read(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // SAFETY: the caller keeps the object alive.
        let (field, header) = unsafe { (place.field(), place.header()) };
        // Acquire pairs with the release of a write in place; see "Why one check suffices".
        let value = field.load(Ordering::Acquire);
        // Relaxed: ordered after the field by its acquire.
        if likely(header.load(Ordering::Relaxed) <= tx.limit) {
            tx.reads.push(place.header);
            return Ok(value);
        }
        // SAFETY: as above.
        unsafe { Self::read_slow(tx, place) }
    }

    #[inline(always)]
    unsafe fn read_only(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // SAFETY: the caller keeps the object alive.
        let (field, header) = unsafe { (place.field(), place.header()) };
        // As in `read`, without the log.
        let value = field.load(Ordering::Acquire);
        if likely(header.load(Ordering::Relaxed) <= tx.limit) {
            return Ok(value);
        }
        // SAFETY: as above.
        unsafe { Self::read_only_slow(tx, place) }
    }

    #[inline(always)]
    unsafe fn write(tx: &mut Attempt<A>, place: Place<A>, value: u64, drop: Option<DropWord>) -> Result<(), Abort> {
        // SAFETY: by the caller's promise.
        unsafe { Self::write_or(tx, place, value, drop, Self::write_slow) }
    }

    fn validate(tx: &mut Attempt<A>) -> Result<(), Abort> {
        extend::<A, C>(tx, 0)
    }

    #[inline(always)]
    fn commit(tx: &mut Attempt<A>) -> Result<(), Abort> {
        if !tx.locks.is_empty() {
            commit_writes::<A, C>(tx)?;
        }
        tx.reads.clear();
        Ok(())
    }

    fn rollback(tx: &mut Attempt<A>) {
        tx.reads.clear();
        if tx.locks.is_empty() {
            return;
        }
        if crate::mutant!(A, "unlock-before-undo", false, true) {
            let version = C::stamp_for(tx).version;
            tx.release_locks(version);
            tx.undo_all();
            return;
        }
        if crate::mutant!(A, "eager-not-undone", true, false) {
            tx.undo_all();
        }
        tx.undo.clear();
        // Rule 5: a reader may have loaded a value that has just been undone.
        let reuse = crate::mutant!(A, "version-reused-after-abort", false, true);
        let version = C::stamp_for(tx).version;
        if reuse {
            for lock in &mut tx.locks {
                lock.saved = Saved::NOTHING;
            }
        }
        tx.release_locks(version);
    }
}

impl<C: Clock> Eager<C> {
    /// The fast path of a write, which is the same for every clock; `slow` takes over where it does not apply.
    #[inline(always)]
    pub(super) unsafe fn write_or<A: Atomics>(
        tx: &mut Attempt<A>,
        place: Place<A>,
        value: u64,
        drop: Option<DropWord>,
        slow: super::any::Write<A>,
    ) -> Result<(), Abort> {
        // SAFETY: the caller keeps the object alive.
        let (field, header) = unsafe { (place.field(), place.header()) };
        let seen = Header(header.load(Ordering::Relaxed));
        if seen.0 <= tx.limit {
            if likely(tx.take(header, seen.0)) {
                tx.log_write(place, seen.0, drop);
                // Release pairs with the acquire in `read`.
                field.store(value, Ordering::Release);
                return Ok(());
            }
        } else if seen.is_held_by(tx.owner) {
            tx.log_write_again(place, seen, drop);
            field.store(value, Ordering::Release);
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { slow(tx, place, value, drop) }
    }

    /// The object is locked, or newer than the snapshot, or this transaction locks what it reads.
    #[cold]
    #[inline(never)]
    unsafe fn read_slow<A: Atomics>(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // SAFETY: the caller keeps the object alive.
        let (field, header) = unsafe { (place.field(), place.header()) };
        loop {
            let value = field.load(Ordering::Acquire);
            // Acquire pairs with the release of the unlock: the clock is at least at this version when the snapshot is extended to it.
            let seen = Header(header.load(Ordering::Acquire));
            if seen.is_held_by(tx.owner) {
                return Ok(value);
            }
            if seen.is_locked() {
                tx.wait_for(header, seen)?;
            } else if tx.mode == Mode::Irrevocable {
                if crate::mutant!(A, "eager-irrevocable-reads-unlocked", false, true) {
                    return Ok(value);
                }
                if lock(tx, place, seen) {
                    return Ok(field.load(Ordering::Relaxed));
                }
            } else if seen.0 <= tx.limit {
                tx.reads.push(place.header);
                return Ok(value);
            } else {
                extend::<A, C>(tx, seen.0)?;
            }
        }
    }

    #[cold]
    #[inline(never)]
    unsafe fn read_only_slow<A: Atomics>(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        if tx.mode == Mode::Irrevocable {
            // SAFETY: as promised by the caller.
            return unsafe { Self::read_slow(tx, place) };
        }
        // SAFETY: the caller keeps the object alive.
        let (field, header) = unsafe { (place.field(), place.header()) };
        loop {
            let value = field.load(Ordering::Acquire);
            let seen = Header(header.load(Ordering::Relaxed));
            if seen.is_locked() {
                tx.wait_for(header, seen)?;
            } else if seen.0 <= tx.limit {
                return Ok(value);
            } else {
                if crate::mutant!(A, "eager-reader-accepts-newer", false, true) {
                    return Ok(value);
                }
                C::observe(tx.domain(), seen.0);
                return Err(Abort::Snapshot);
            }
        }
    }

    /// The object is locked by another, newer than the snapshot, or somebody was faster.
    #[cold]
    #[inline(never)]
    unsafe fn write_slow<A: Atomics>(
        tx: &mut Attempt<A>,
        place: Place<A>,
        value: u64,
        drop: Option<DropWord>,
    ) -> Result<(), Abort> {
        // SAFETY: the caller keeps the object alive.
        let (field, header) = unsafe { (place.field(), place.header()) };
        loop {
            // Acquire: as in `read_slow`.
            let seen = Header(header.load(Ordering::Acquire));
            if seen.is_held_by(tx.owner) {
                tx.log_write_again(place, seen, drop);
                field.store(value, Ordering::Release);
                return Ok(());
            }
            if seen.is_locked() {
                tx.wait_for(header, seen)?;
            } else if seen.0 > tx.snapshot
                && tx.mode != Mode::Irrevocable
                && crate::mutant!(A, "eager-writer-accepts-newer", true, false)
            {
                extend::<A, C>(tx, seen.0)?;
            } else {
                lock(tx, place, seen);
            }
        }
    }
}

/// Takes the lock of an unlocked object. What follows finds it by its header.
fn lock<A: Atomics>(tx: &mut Attempt<A>, place: Place<A>, seen: Header) -> bool {
    // SAFETY: the caller of the barrier keeps the object alive.
    let header = unsafe { place.header() };
    let taken = tx.take(header, seen.0);
    if taken {
        tx.locks.push(Lock::new(place.header, seen.0, Saved::NOTHING));
    } else {
        // Somebody was faster; the caller looks again.
        A::spin();
    }
    taken
}

/// Moves the snapshot to the present if everything read so far still holds there. `version` is what made it necessary.
#[cold]
#[inline(never)]
fn extend<A: Atomics, C: Clock>(tx: &mut Attempt<A>, version: u64) -> Result<(), Abort> {
    C::observe(tx.domain(), version);
    let now = C::now(tx.domain());
    if !crate::mutant!(A, "extension-without-validation", tx.reads_hold(), true) {
        return Err(Abort::Extension);
    }
    tx.snapshot = now;
    if tx.mode != Mode::Irrevocable {
        tx.limit = now;
    }
    tx.slot().counters.extensions.increment();
    Ok(())
}

/// Stamps and releases the written objects. A call: inlined, it makes what is around it slower than the call costs.
#[inline(never)]
fn commit_writes<A: Atomics, C: Clock>(tx: &mut Attempt<A>) -> Result<(), Abort> {
    let stamp = C::stamp_for(tx);
    if !stamp.exclusive && tx.mode != Mode::Irrevocable {
        tx.slot().counters.validations.increment();
        if !crate::mutant!(A, "no-commit-validation", tx.reads_hold(), true) {
            return Err(Abort::Validation);
        }
    }
    tx.undo.clear();
    tx.publish_locks(stamp.version);
    if !C::SHARES {
        // The clock's change has acquired everything committed up to its own stamp: a snapshot for the next attempt.
        tx.snapshot = crate::mutant!(A, "eager-kept-snapshot-too-new", stamp.version, stamp.version + 1);
    }
    Ok(())
}
