//! `tl2`: lazy writes, locks at commit, a global version clock.
//!
//! *Source.* Dice, Shalev and Shavit, "Transactional Locking II" (DISC 2006), with the versioned lock in the object's header and with
//! the snapshot extension of Riegel, Felber and Fetzer, "A lazy snapshot algorithm with eager validation" (DISC 2006).
//!
//! *Guarantee.* Opaque. Not privatisation-safe: a committed writer may still be writing back what a later transaction has made private.
//!
//! *Cost.* A read: three loads, two comparisons, one log entry, and a search of the write buffer once there is one. A write: one buffer
//! entry. A commit: one compare-and-swap per object written, the clock, validation if anyone else has committed. Locks are held
//! only during the commit, so long transactions block nobody, at the price of finding write conflicts late.
#![expect(unsafe_code, reason = "implements barriers, whose callers keep the objects alive")]

use std::marker::PhantomData;

use super::{Info, Protocol, lazy};
use crate::abort::Abort;
use crate::atomics::Atomics;
use crate::attempt::{Attempt, DropWord, Place};
use crate::clock::{Clock, Gv1};

/// Lazy versioning with commit-time locks. `C` is the clock.
#[derive(Clone, Copy, Debug)]
pub struct Tl2<C: Clock = Gv1>(PhantomData<C>);

impl<A: Atomics, C: Clock> Protocol<A> for Tl2<C> {
    const INFO: Info = Info {
        name: "tl2",
        source: "Dice, Shalev, Shavit: Transactional Locking II, DISC 2006",
        opaque: true,
        privatisation_safe: false,
        readers_never_abort: false,
        ordered: false,
        in_place: false,
    };

    #[inline(always)]
    fn begin(tx: &mut Attempt<A>) -> Result<(), Abort> {
        tx.snapshot = C::now(tx.domain());
        // A header checked only after the field is not enough here; see `lazy`.
        tx.limit = 0;
        Ok(())
    }

    #[inline(always)]
    unsafe fn read(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // SAFETY: by the caller's promise.
        unsafe { lazy::read::<A, C>(tx, place) }
    }

    #[inline(always)]
    unsafe fn read_only(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // SAFETY: by the caller's promise.
        unsafe { lazy::read_only::<A, C>(tx, place) }
    }

    #[inline(always)]
    unsafe fn write(tx: &mut Attempt<A>, place: Place<A>, value: u64, drop: Option<DropWord>) -> Result<(), Abort> {
        lazy::write(tx, place, value, drop);
        Ok(())
    }

    fn validate(tx: &mut Attempt<A>) -> Result<(), Abort> {
        lazy::extend::<A, C>(tx, 0)
    }

    #[inline]
    fn commit(tx: &mut Attempt<A>) -> Result<(), Abort> {
        if !tx.buffer.is_empty() {
            let stamp = lazy::prepare::<A, C>(tx)?;
            lazy::write_back(tx, stamp);
        } else if !tx.locks.is_empty() {
            // An irrevocable transaction that has only read.
            tx.release_locks(0);
        }
        tx.reads.clear();
        Ok(())
    }

    fn rollback(tx: &mut Attempt<A>) {
        lazy::rollback(tx);
    }
}
