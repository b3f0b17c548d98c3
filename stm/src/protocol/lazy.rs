//! What the protocols that keep writes back until commit have in common: consistent reads of unlocked objects, and a commit that
//! locks, stamps, validates and writes back.
//!
//! Unlike in [`eager`](super::eager), the stamp is taken *before* the values are written, so a reader must check the header on both
//! sides of the field: a header checked only afterwards could be the one of a commit whose value the field did not hold yet.
#![expect(unsafe_code, reason = "dereferences places that the caller of the barrier keeps alive")]

use std::sync::atomic::Ordering;

use crate::abort::Abort;
use crate::atomics::{Atomics, Word};
use crate::attempt::{Attempt, DropWord, Lock, Mode, Place, Saved};
use crate::clock::{Clock, Stamp};
use crate::header::Header;

/// What a consistent look at a field found.
pub(super) enum Seen {
    /// The value under a version that the snapshot covers.
    Value(u64),
    /// The object is locked or changed during the look.
    Busy(Header),
    /// The object is newer than the snapshot.
    Newer(u64),
}

/// Looks at a field of an object: header, field, header.
///
/// # Safety
/// The object stays allocated until the attempt ends.
#[inline(always)]
pub(super) unsafe fn look<A: Atomics>(tx: &Attempt<A>, place: Place<A>) -> Seen {
    // SAFETY: the caller keeps the object alive.
    let (field, header) = unsafe { (place.field(), place.header()) };
    // Acquire pairs with the release of the unlock: the field is at least as new as this header.
    let before = Header(header.load(Ordering::Acquire));
    // Acquire pairs with the release of a write-back: if the field is newer, the second look at the header shows the lock or later.
    let value = field.load(Ordering::Acquire);
    if crate::mutant!(A, "lazy-header-not-read-again", false, true) {
        return if before.0 <= tx.snapshot { Seen::Value(value) } else { Seen::Busy(before) };
    }
    let after = Header(header.load(Ordering::Relaxed));
    if crate::mutant!(A, "lazy-lock-not-looked-at", false, true) && before == after {
        return Seen::Value(value);
    }
    if before == after && before.0 <= tx.snapshot {
        Seen::Value(value)
    } else if before == after && !before.is_locked() {
        if crate::mutant!(A, "lazy-newer-version-accepted", false, true) {
            return Seen::Value(value);
        }
        Seen::Newer(before.0)
    } else {
        Seen::Busy(after)
    }
}

/// Reads a field for an update transaction: its own write, or a value consistent with everything read before.
///
/// # Safety
/// As [`look`].
#[inline(always)]
pub(super) unsafe fn read<A: Atomics, C: Clock>(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
    if !tx.buffer.is_empty()
        && let Some(value) = tx.buffer.get(place.field)
    {
        return Ok(value);
    }
    if tx.mode != Mode::Irrevocable {
        // SAFETY: the caller keeps the object alive.
        if let Seen::Value(value) = unsafe { look(tx, place) } {
            tx.reads.push(place.header);
            return Ok(value);
        }
    }
    // SAFETY: as above.
    unsafe { read_slow::<A, C>(tx, place) }
}

#[cold]
#[inline(never)]
unsafe fn read_slow<A: Atomics, C: Clock>(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
    if tx.mode == Mode::Irrevocable {
        // Whoever holds the lock of everything that it has read cannot be invalidated.
        // SAFETY: the caller keeps the object alive.
        unsafe {
            lock::<A, C>(tx, place)?;
            return Ok(place.field().load(Ordering::Relaxed));
        }
    }
    loop {
        // SAFETY: as above.
        match unsafe { look(tx, place) } {
            Seen::Value(value) => {
                tx.reads.push(place.header);
                return Ok(value);
            }
            Seen::Newer(version) => extend::<A, C>(tx, version)?,
            // Kept from the attempt before.
            Seen::Busy(header) if header.is_held_by(tx.owner) => {
                // SAFETY: as above. Relaxed: nobody else writes a locked object.
                return Ok(unsafe { place.field() }.load(Ordering::Relaxed));
            }
            // SAFETY: as above.
            Seen::Busy(header) if header.is_locked() => tx.wait_for(unsafe { place.header() }, header)?,
            Seen::Busy(_) => A::spin(),
        }
    }
}

/// Reads a field for a read-only transaction without a log.
///
/// # Safety
/// As [`look`].
#[inline(always)]
pub(super) unsafe fn read_only<A: Atomics, C: Clock>(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
    if tx.mode != Mode::Irrevocable {
        // SAFETY: the caller keeps the object alive.
        if let Seen::Value(value) = unsafe { look(tx, place) } {
            return Ok(value);
        }
    }
    // SAFETY: as above.
    unsafe { read_only_slow::<A, C>(tx, place) }
}

#[cold]
#[inline(never)]
unsafe fn read_only_slow<A: Atomics, C: Clock>(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
    if tx.mode == Mode::Irrevocable {
        // SAFETY: the caller keeps the object alive.
        return unsafe { read_slow::<A, C>(tx, place) };
    }
    loop {
        // SAFETY: as above.
        match unsafe { look(tx, place) } {
            Seen::Value(value) => return Ok(value),
            Seen::Newer(version) => {
                C::observe(tx.domain(), version);
                return Err(Abort::Snapshot);
            }
            // SAFETY: as above.
            Seen::Busy(header) if header.is_locked() => tx.wait_for(unsafe { place.header() }, header)?,
            Seen::Busy(_) => A::spin(),
        }
    }
}

/// Keeps back a write.
#[inline(always)]
pub(super) fn write<A: Atomics>(tx: &mut Attempt<A>, place: Place<A>, value: u64, drop: Option<DropWord>) {
    let overwritten = tx.buffer.set(place, value, drop);
    if let (Some(old), Some(drop)) = (overwritten, drop) {
        // Born in this attempt and never to be seen: freed like a committed value if the attempt commits, and with the others that
        // were born if it does not.
        tx.note_replaced(old, drop);
    }
}

/// Moves the snapshot to the present if everything read so far still holds there.
#[cold]
#[inline(never)]
pub(super) fn extend<A: Atomics, C: Clock>(tx: &mut Attempt<A>, version: u64) -> Result<(), Abort> {
    C::observe(tx.domain(), version);
    let now = C::now(tx.domain());
    if !crate::mutant!(A, "lazy-extension-without-validation", reads_hold(tx), true) {
        return Err(Abort::Extension);
    }
    tx.snapshot = now;
    tx.slot().counters.extensions.increment();
    Ok(())
}

/// Whether the reads still hold. An object may have been locked by this transaction for writing without having been read, so a lock
/// of its own counts only with the version before.
pub(super) fn reads_hold<A: Atomics>(tx: &Attempt<A>) -> bool {
    tx.reads.entries().iter().all(|header| {
        // SAFETY: whoever read the object promised that it stays allocated until the attempt ends. Relaxed: the clock has
        // synchronised with the committers that matter.
        let header = Header(unsafe { &**header }.load(Ordering::Relaxed));
        if header.is_held_by(tx.owner) {
            crate::mutant!(
                A,
                "lazy-own-lock-not-compared",
                tx.locks[header.offset() / size_of::<Lock<A>>()].version <= tx.snapshot,
                true
            )
        } else if header.is_locked() {
            crate::mutant!(A, "lazy-foreign-lock-ignored", false, true)
        } else {
            header.0 <= tx.snapshot
        }
    })
}

/// How often a commit waits for a lock before it gives way.
const WAITS: u32 = 8;

/// Takes the lock of an object, whatever its version.
///
/// # Safety
/// As [`look`].
unsafe fn lock<A: Atomics, C: Clock>(tx: &mut Attempt<A>, place: Place<A>) -> Result<(), Abort> {
    // SAFETY: the caller keeps the object alive.
    let header = unsafe { place.header() };
    let mut waits = 0;
    loop {
        let seen = Header(header.load(Ordering::Relaxed));
        if seen.is_held_by(tx.owner) {
            return Ok(());
        }
        if seen.is_locked() {
            // Whoever commits may hold something that the owner of this lock waits for outside the heap, such as an output. Giving
            // way after a while gives that back too.
            waits += 1;
            if waits > WAITS && tx.mode != Mode::Irrevocable {
                return Err(Abort::Locked);
            }
            tx.wait_for(header, seen)?;
        } else if tx.take(header, seen.0) {
            // A blind write may meet a version newer than the snapshot;
            // the stamp must still be newer than that.
            if seen.0 > tx.snapshot {
                C::observe(tx.domain(), seen.0);
            }
            tx.locks.push(Lock::new(place.header, seen.0, Saved::NOTHING));
            return Ok(());
        } else {
            // Somebody was faster.
            A::spin();
        }
    }
}

/// Locks what is to be written, takes a stamp and validates the reads.
///
/// # Errors
/// An abort; the caller rolls back.
pub(super) fn prepare<A: Atomics, C: Clock>(tx: &mut Attempt<A>) -> Result<Stamp, Abort> {
    let early = crate::mutant!(A, "lazy-clock-before-locks", None, Some(C::stamp_for(tx)));
    for index in 0..tx.buffer.writes().len() {
        let place = tx.buffer.writes()[index].place;
        // SAFETY: whoever wrote the field promised that the object stays allocated until the attempt ends.
        unsafe { lock::<A, C>(tx, place)? };
    }
    let stamp = early.unwrap_or_else(|| C::stamp_for(tx));
    if !stamp.exclusive && tx.mode != Mode::Irrevocable {
        tx.slot().counters.validations.increment();
        if !crate::mutant!(A, "lazy-no-commit-validation", reads_hold(tx), true) {
            return Err(Abort::Validation);
        }
    }
    Ok(stamp)
}

/// Writes the values back and releases the objects under `stamp`.
pub(super) fn write_back<A: Atomics>(tx: &mut Attempt<A>, stamp: Stamp) {
    if crate::mutant!(A, "lazy-version-before-value", false, true) {
        publish(tx, stamp);
        store_values(tx);
        tx.buffer.clear();
        return;
    }
    store_values(tx);
    tx.buffer.clear();
    publish(tx, stamp);
}

fn store_values<A: Atomics>(tx: &mut Attempt<A>) {
    for index in 0..tx.buffer.writes().len() {
        let write = &tx.buffer.writes()[index];
        // SAFETY: as in `prepare`.
        let (field, header) = unsafe { (write.place.field(), write.place.header()) };
        // Relaxed: this transaction holds the lock.
        let entry = Header(header.load(Ordering::Relaxed));
        let (value, drop) = (write.value, write.drop);
        let old = field.load(Ordering::Relaxed);
        // Release pairs with the acquire of the field in `look`.
        field.store(value, Ordering::Release);
        if entry.is_held_by(tx.owner) {
            tx.held(entry).saved.write();
        }
        if let Some(drop) = drop {
            tx.note_replaced(old, drop);
        }
    }
}

fn publish<A: Atomics>(tx: &mut Attempt<A>, stamp: Stamp) {
    for lock in &mut tx.locks {
        // An object that an irrevocable transaction has only read keeps its version.
        if tx.mode != Mode::Irrevocable {
            lock.saved.write();
        }
    }
    tx.publish_locks(stamp.version);
}

/// Undoes an attempt: nothing was written, so the objects get their old versions back.
pub(super) fn rollback<A: Atomics>(tx: &mut Attempt<A>) {
    tx.reads.clear();
    tx.buffer.clear();
    if !tx.locks.is_empty() {
        tx.release_locks(0);
    }
}
