//! `global-lock`: one lock around every transaction. The oracle that the others are measured and checked against.
//!
//! *Source.* Folklore; "single global lock atomicity" is the semantics that STMs are specified by (Menon et al., SPAA 2008).
//!
//! *Guarantee.* Opaque, privatisation-safe; never aborts by itself.
//!
//! *Cost.* Two locked instructions a transaction, none per access; no parallelism. It is also what a single thread
//! should use when it is sure to be alone, since a read is a plain load.
//!
//! Writes go to their place, with undo, because a body may still fail. Objects written get a new version, so that the heap can be
//! handed to another protocol between transactions.
#![expect(unsafe_code, reason = "dereferences places that the caller of the barrier keeps alive")]

use std::sync::atomic::Ordering;

use super::{Info, Protocol};
use crate::abort::Abort;
use crate::atomics::{Atomics, Word};
use crate::attempt::{Attempt, DropWord, Place};
use crate::clock::{Clock, Gv1};
use crate::domain::{address, park, unpark_all};
use crate::header::Header;
use crate::watch::Watch;

/// One lock around every transaction.
///
/// The lock is [`Domain::lock`](crate::domain::Domain::lock): 0 is free, 1 is taken, 2 is taken with somebody waiting.
#[derive(Clone, Copy, Debug)]
pub struct GlobalLock;

const FREE: u64 = 0;
const TAKEN: u64 = 1;
const CONTENDED: u64 = 2;

impl<A: Atomics> Protocol<A> for GlobalLock {
    const INFO: Info = Info {
        name: "global-lock",
        source: "Menon et al.: Practical weak-atomicity semantics for Java STM, SPAA 2008",
        opaque: true,
        privatisation_safe: true,
        readers_never_abort: true,
        ordered: false,
        in_place: true,
    };

    #[inline]
    fn begin(tx: &mut Attempt<A>) -> Result<(), Abort> {
        let word = &*tx.domain().lock;
        // Acquire pairs with the release in `unlock`: everything the last holder wrote is visible.
        if word.compare_exchange(FREE, TAKEN, Ordering::Acquire).is_err() {
            lock_slow::<A>(word)?;
        }
        tx.snapshot = Gv1::now(tx.domain());
        tx.limit = 0;
        Ok(())
    }

    #[inline(always)]
    unsafe fn read(_tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // SAFETY: the caller keeps the object alive. Relaxed: only the holder of the lock reads or writes.
        Ok(unsafe { place.field() }.load(Ordering::Relaxed))
    }

    #[inline(always)]
    unsafe fn read_only(_tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // SAFETY: as in `read`.
        Ok(unsafe { place.field() }.load(Ordering::Relaxed))
    }

    #[inline]
    unsafe fn write(tx: &mut Attempt<A>, place: Place<A>, value: u64, drop: Option<DropWord>) -> Result<(), Abort> {
        // SAFETY: the caller keeps the object alive. Relaxed: as in `read`.
        let (field, header) = unsafe { (place.field(), place.header()) };
        let seen = Header(header.load(Ordering::Relaxed));
        if seen.is_held_by(tx.owner) {
            tx.log_write_again(place, seen, drop);
        } else {
            // Marked only so that the object is found again by its header; nobody else looks.
            header.store(tx.owner.lock(tx.locks.offset()), Ordering::Relaxed);
            tx.log_write(place, seen.0, drop);
        }
        field.store(value, Ordering::Relaxed);
        Ok(())
    }

    #[inline]
    fn validate(_tx: &mut Attempt<A>) -> Result<(), Abort> {
        Ok(())
    }

    #[inline]
    fn commit(tx: &mut Attempt<A>) -> Result<(), Abort> {
        tx.undo.clear();
        if let Some(version) = stamp(tx) {
            tx.publish_locks(version);
        }
        unlock(tx);
        Ok(())
    }

    /// Nothing says what was read, so any commit is a change.
    fn watch(tx: &mut Attempt<A>) -> Watch<A> {
        tx.watch_all()
    }

    fn rollback(tx: &mut Attempt<A>) {
        if crate::mutant!(A, "lock-released-before-undo", false, true) {
            unlock(tx);
            tx.undo_all();
            return;
        }
        if crate::mutant!(A, "global-lock-not-undone", true, false) {
            tx.undo_all();
        }
        tx.undo.clear();
        if let Some(version) = stamp(tx) {
            tx.release_locks(version);
        }
        unlock(tx);
    }
}

/// The stamp for the objects written, if there are any.
#[inline]
fn stamp<A: Atomics>(tx: &Attempt<A>) -> Option<u64> {
    if tx.locks.is_empty() { None } else { Some(Gv1::stamp_for(tx).version) }
}

#[cold]
fn lock_slow<A: Atomics>(word: &A::Word) -> Result<(), Abort> {
    if !A::CAN_WAIT {
        return crate::mutant!(A, "global-lock-not-awaited", Err(Abort::Busy), Ok(()));
    }
    for _ in 0..64 {
        A::spin();
        if word.load(Ordering::Relaxed) == FREE && word.compare_exchange(FREE, TAKEN, Ordering::Acquire).is_ok() {
            return Ok(());
        }
    }
    loop {
        // Whoever comes this way leaves the lock marked as contended, so that its release wakes the next.
        match word.load(Ordering::Relaxed) {
            FREE => {
                if word.compare_exchange(FREE, CONTENDED, Ordering::Acquire).is_ok() {
                    return Ok(());
                }
            }
            TAKEN => {
                let _ = word.compare_exchange(TAKEN, CONTENDED, Ordering::Relaxed);
            }
            _ => {
                park(address(word), || word.load(Ordering::Relaxed) == CONTENDED, None);
            }
        }
    }
}

#[inline]
fn unlock<A: Atomics>(tx: &Attempt<A>) {
    let word = &*tx.domain().lock;
    // Release pairs with the acquire of the next holder.
    if word.compare_exchange(TAKEN, FREE, Ordering::Release).is_err() {
        word.store(FREE, Ordering::Release);
        unpark_all(address(word));
    }
}
