//! `mvcc`: several versions, so that a transaction that only reads never aborts.
//!
//! *Source.* Riegel, Felber and Fetzer, "A lazy snapshot algorithm with eager validation" (DISC 2006), and Lu and Scott, "Generic
//! multiversion STM" (DISC 2013): updates as in [`tl2`](super::tl2); each commit leaves the values that it replaced in a history
//! beside the heap.
//!
//! *Guarantee.* Opaque. A read-only transaction reads the state of its begin and waits at most for a commit that is writing back.
//! Updates are validated, so there is no write skew.
//!
//! *Cost.* `tl2`'s, and per written field an entry in the history. The heap's objects keep one header word and one value: who never runs
//! long readers pays no memory for versions. Entries are dropped, by the batch, when no running transaction is older than they are.
#![expect(unsafe_code, reason = "dereferences places that the caller of the barrier keeps alive")]

use std::sync::atomic::Ordering;

use super::{Info, Protocol, lazy};
use crate::abort::Abort;
use crate::atomics::{Atomics, Word};
use crate::attempt::{Attempt, DropWord, Mode, Place};
use crate::clock::{Clock, Gv1};

/// Lazy versioning with a history for readers.
#[derive(Clone, Copy, Debug)]
pub struct Mvcc;

impl<A: Atomics> Protocol<A> for Mvcc {
    const INFO: Info = Info {
        name: "mvcc",
        source: "Riegel, Felber, Fetzer: A lazy snapshot algorithm, DISC 2006; Lu, Scott: Generic multiversion STM, DISC 2013",
        opaque: true,
        privatisation_safe: false,
        readers_never_abort: true,
        ordered: false,
        in_place: false,
    };

    #[inline(always)]
    fn begin(tx: &mut Attempt<A>) -> Result<(), Abort> {
        tx.snapshot = Gv1::now(tx.domain());
        tx.limit = 0;
        Ok(())
    }

    #[inline(always)]
    unsafe fn read(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // SAFETY: by the caller's promise.
        unsafe { lazy::read::<A, Gv1>(tx, place) }
    }

    #[inline(always)]
    unsafe fn read_only(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // SAFETY: by the caller's promise.
        unsafe {
            if let lazy::Seen::Value(value) = lazy::look(tx, place) {
                return Ok(value);
            }
            read_history(tx, place)
        }
    }

    #[inline(always)]
    unsafe fn write(tx: &mut Attempt<A>, place: Place<A>, value: u64, drop: Option<DropWord>) -> Result<(), Abort> {
        lazy::write(tx, place, value, drop);
        Ok(())
    }

    fn validate(tx: &mut Attempt<A>) -> Result<(), Abort> {
        lazy::extend::<A, Gv1>(tx, 0)
    }

    #[inline]
    fn commit(tx: &mut Attempt<A>) -> Result<(), Abort> {
        if !tx.buffer.is_empty() {
            let stamp = lazy::prepare::<A, Gv1>(tx)?;
            if crate::mutant!(A, "mvcc-history-after-unlock", false, true) {
                let old: Vec<_> = old_values(tx).collect();
                lazy::write_back(tx, stamp);
                tx.domain().history.record(stamp.version, old.into_iter());
            } else {
                // Before the unlock: whoever sees the new version finds the old value.
                tx.domain().history.record(stamp.version, old_values(tx));
                lazy::write_back(tx, stamp);
            }
            if tx.domain().history.is_due() {
                let oldest = tx.domain().oldest_active();
                tx.domain().history.prune(oldest);
            }
        } else if !tx.locks.is_empty() {
            tx.release_locks(0);
        }
        tx.reads.clear();
        Ok(())
    }

    fn rollback(tx: &mut Attempt<A>) {
        lazy::rollback(tx);
    }
}

/// The values about to be replaced.
fn old_values<A: Atomics>(tx: &Attempt<A>) -> impl ExactSizeIterator<Item = (usize, u64)> {
    let old = |write: &crate::buffer::Write<A>| {
        // SAFETY: whoever wrote the field promised that the object stays allocated until the attempt ends. Relaxed: this
        // transaction holds the lock.
        (write.place.field.addr(), unsafe { write.place.field() }.load(Ordering::Relaxed))
    };
    tx.buffer.writes().iter().map(old)
}

/// The object is locked or newer than the snapshot: the value of the snapshot is in the history, or still in place.
#[cold]
#[inline(never)]
unsafe fn read_history<A: Atomics>(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
    if tx.mode == Mode::Irrevocable {
        // SAFETY: the caller keeps the object alive.
        return unsafe { lazy::read::<A, Gv1>(tx, place) };
    }
    // SAFETY: as above.
    let header = unsafe { place.header() };
    loop {
        // SAFETY: as above.
        match unsafe { lazy::look(tx, place) } {
            lazy::Seen::Value(value) => return Ok(value),
            lazy::Seen::Busy(seen) if seen.is_locked() => tx.wait_for(header, seen)?,
            lazy::Seen::Busy(_) => A::spin(),
            lazy::Seen::Newer(version) => {
                if let Some(value) = tx.domain().history.at(place.field.addr(), tx.snapshot) {
                    return Ok(value);
                }
                // The newer commits wrote other fields of the object. What is in place is the snapshot's value, if no commit came
                // between.
                // SAFETY: as above. Acquire: as in `lazy::look`.
                let value = unsafe { place.field() }.load(Ordering::Acquire);
                let same = header.load(Ordering::Relaxed) == version;
                if crate::mutant!(A, "mvcc-header-not-read-again", same, true) {
                    return Ok(value);
                }
            }
        }
    }
}
