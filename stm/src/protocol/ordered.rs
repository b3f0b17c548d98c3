//! `ordered`: transactions run speculatively and commit in an order fixed beforehand.
//!
//! *Source.* The setting is that of Gelashvili et al., "Block-STM: scaling blockchain execution by turning ordering curse to a performance
//! blessing" (PPoPP 2023); the way is older: a turn that is passed on, as in Mehrara et al., "Parallelizing sequential applications on
//! commodity hardware using a low-cost software transactional memory" (PLDI 2009). A transaction executes on committed state, waits for its
//! turn, and validates once. Nobody else can commit during its turn, so if that fails the second execution is the last, and
//! there is never more than one validation at the commit of an execution.
//!
//! *Dependency marks.* An execution that fails in its turn keeps the locks of what it was about to write until it has run again. Whoever
//! comes later and reads one of these objects waits for it: what it would read is about to be written. Block-STM marks such writes as
//! estimates in its multi-version memory; here the object's own header is the mark, and the wait is that for any lock.
//!
//! *Guarantee.* Opaque; commits in the order of [`Attempt::position`]. Transactions without a position commit at any time.
//!
//! *Cost.* `tl2`'s, plus a store and a wake-up for the turn. A commit waits until all earlier ones are done, so the speculation
//! reaches as far ahead as there are threads. When it does not pay, [`order`](crate::order) goes one by one.
#![expect(unsafe_code, reason = "implements barriers, whose callers keep the objects alive")]

use std::sync::atomic::Ordering;

use super::{Info, Protocol, lazy};
use crate::abort::Abort;
use crate::atomics::{Atomics, Word};
use crate::attempt::{Attempt, DropWord, Place};
use crate::clock::{Clock, Gv1};
use crate::domain::Domain;

/// The position of a transaction that may commit at any time.
pub const ANY_POSITION: u64 = u64::MAX;

/// Speculation with commits in a fixed order.
#[derive(Clone, Copy, Debug)]
pub struct Ordered;

impl<A: Atomics> Protocol<A> for Ordered {
    const INFO: Info = Info {
        name: "ordered",
        source: "Gelashvili et al.: Block-STM, PPoPP 2023; Mehrara et al., PLDI 2009",
        opaque: true,
        privatisation_safe: false,
        readers_never_abort: false,
        ordered: true,
        in_place: false,
    };

    #[inline(always)]
    fn begin(tx: &mut Attempt<A>) -> Result<(), Abort> {
        tx.snapshot = Gv1::now(tx.domain());
        tx.limit = 0;
        tx.position = ANY_POSITION;
        Ok(())
    }

    #[inline(always)]
    unsafe fn read(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // SAFETY: by the caller's promise.
        unsafe { lazy::read::<A, Gv1>(tx, place) }
    }

    #[inline(always)]
    unsafe fn read_only(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // Even a transaction that only reads may have to see what an earlier position has yet to write, so it keeps its log.
        // SAFETY: by the caller's promise.
        unsafe { lazy::read::<A, Gv1>(tx, place) }
    }

    #[inline(always)]
    unsafe fn write(tx: &mut Attempt<A>, place: Place<A>, value: u64, drop: Option<DropWord>) -> Result<(), Abort> {
        lazy::write(tx, place, value, drop);
        Ok(())
    }

    /// With a position: waits for the turn first, so that what holds now holds in the order.
    fn validate(tx: &mut Attempt<A>) -> Result<(), Abort> {
        await_turn(tx)?;
        lazy::extend::<A, Gv1>(tx, 0)
    }

    #[inline]
    fn commit(tx: &mut Attempt<A>) -> Result<(), Abort> {
        if crate::mutant!(A, "ordered-turn-not-awaited", true, false) {
            await_turn(tx)?;
        }
        if tx.buffer.is_empty() {
            // Nothing to stamp; but in its turn even a reader must have seen all that came before.
            let positioned = tx.position != ANY_POSITION;
            if positioned
                && Gv1::now(tx.domain()) != tx.snapshot
                && !crate::mutant!(A, "ordered-reader-not-validated", lazy::reads_hold(tx), true)
            {
                return Err(Abort::Order);
            }
            if !tx.locks.is_empty() {
                tx.release_locks(0);
            }
        } else {
            let stamp = match lazy::prepare::<A, Gv1>(tx) {
                Ok(stamp) => stamp,
                Err(Abort::Validation) => {
                    // The marks. A hook could run a transaction that waits for them.
                    tx.keeps_locks = A::CAN_WAIT && tx.position != ANY_POSITION && !tx.hooked;
                    return Err(Abort::Order);
                }
                Err(other) => return Err(other),
            };
            // Equivalent: until the values are there the objects are locked, and who is next waits for that, as does who reads both.
            if crate::mutant!(A, "ordered-turn-passed-before-write-back", false, true) {
                pass_turn(tx);
            }
            lazy::write_back(tx, stamp);
        }
        // Equivalent: as above.
        if crate::mutant!(A, "ordered-turn-passed-before-write-back", true, false) {
            pass_turn(tx);
        }
        tx.reads.clear();
        Ok(())
    }

    fn rollback(tx: &mut Attempt<A>) {
        if tx.keeps_locks {
            tx.keeps_locks = false;
            tx.reads.clear();
            tx.buffer.clear();
        } else {
            lazy::rollback(tx);
        }
    }
}

/// Waits until all earlier positions are done.
fn await_turn<A: Atomics>(tx: &mut Attempt<A>) -> Result<(), Abort> {
    if tx.position == ANY_POSITION {
        return Ok(());
    }
    let position = tx.position;
    // Acquire pairs with the release in `Domain::pass_turn`: everything committed before this turn is visible.
    if tx.domain().turn.load(Ordering::Acquire) == position {
        return Ok(());
    }
    if !A::CAN_WAIT {
        return Err(Abort::Order);
    }
    tx.slot().counters.waits.increment();
    tx.domain().await_turn(position);
    Ok(())
}

fn pass_turn<A: Atomics>(tx: &Attempt<A>) {
    if tx.position != ANY_POSITION {
        tx.domain().pass_turn(tx.position);
    }
}

/// How often a waiter for its turn looks before it parks: some ten microseconds, about what parking and waking costs.
const SPINS: usize = 1500;

impl<A: Atomics> Domain<A> {
    /// Starts a new order: the next position to commit is 0. Called while no transaction with a position runs.
    pub fn start_order(&self) {
        self.turn.store(0, Ordering::Release);
    }

    /// The position whose turn it is.
    pub fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// Blocks until all positions before this one are done.
    pub fn await_turn(&self, position: u64) {
        for _ in 0..SPINS {
            if self.turn.load(Ordering::Acquire) == position {
                return;
            }
            A::spin();
        }
        while self.turn.load(Ordering::Acquire) != position {
            // Registered before the last look, with the heavy fence between; pairs with the light one in `pass_turn`.
            self.turn_waiters.fetch_add(1, Ordering::Relaxed);
            A::heavy();
            crate::domain::park(
                crate::domain::address(&self.turn),
                || self.turn.load(Ordering::Acquire) != position,
                None,
            );
            self.turn_waiters.fetch_add(u64::MAX, Ordering::Relaxed);
        }
    }

    /// Ends the turn of this position, which the caller has: the next one may commit. A transaction does this at its commit; whoever
    /// gives a position up instead of committing calls it after [`await_turn`](Self::await_turn).
    pub fn pass_turn(&self, position: u64) {
        // Release pairs with the acquire of whoever awaits the turn.
        self.turn.store(position + 1, Ordering::Release);
        if A::CAN_WAIT {
            A::light();
            if self.turn_waiters.load(Ordering::Relaxed) != 0 {
                crate::domain::unpark_all(crate::domain::address(&self.turn));
            }
        }
    }
}
