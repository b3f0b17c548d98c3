//! Reclamation: when a value that nobody can reach any more is freed.
//!
//! 1. A transaction publishes its snapshot at its begin in its slot, and [`IDLE`](crate::domain::IDLE) at its end. There is no
//!    second announcement.
//! 2. What a commit makes unreachable is *retired* with the clock read after that commit.
//! 3. It is freed when no running transaction began with a snapshot at or before that stamp: whoever had a later one found it already
//!    unlinked.
//! 4. The collector advances the clock and begins an era, in which snapshots are taken anew, so that rule 3 is met in the end even if nobody
//!    else commits.
//!
//! The idea is epoch-based reclamation (Fraser, "Practical lock-freedom", 2004) with the version clock as the epoch, so
//! that a transaction pins nothing beside its snapshot.
#![expect(unsafe_code, reason = "frees values through type-erased pointers")]

use std::sync::atomic::Ordering;

use crate::atomics::{Atomics, Word};
use crate::attempt::{Attempt, DropWord};
use crate::domain::Domain;
use crate::entries::Owned;
use crate::hooks::quietly;
use crate::runtime;

/// A value waiting to be freed.
#[derive(Debug)]
pub(crate) struct Retired {
    value: Owned,
    stamp: u64,
}

// SAFETY: values reach the heap only through `TVar<T>` and the like, which require `T: Send`.
unsafe impl Send for Retired {}

/// The values retired by one thread.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    retired: Vec<Retired>,
    /// How many there may be before the next collection.
    limit: usize,
    /// Dropping a value may retire others; those wait for the next collection.
    collecting: bool,
}

/// How many values are retired at least between two collections.
const BATCH: usize = 256;

impl Garbage {
    pub(crate) fn leave_to<A: Atomics>(&mut self, domain: &Domain<A>) {
        domain.orphans.lock().append(&mut self.retired);
    }
}

/// Runs `drops`, which drops values while the thread's descriptor is borrowed. Within a transaction their destructors may run none; else
/// they get another descriptor.
pub(crate) fn dropping(drops: impl FnOnce()) {
    if runtime::in_transaction() { drops() } else { runtime::aside(drops) }
}

/// Retires the values that the transaction just committed has replaced.
#[cold]
#[inline(never)]
pub(crate) fn retire_replaced<A: Atomics>(tx: &mut Attempt<A>) {
    // Acquire: at least the stamp of the commit that unlinked the values. Equivalent: nothing is read through the clock here. That it is not
    // older than the begin of a transaction that can still find the values is due to the locks of the commit, taken with acquire before.
    let now = tx.domain().clock.load(Ordering::Acquire);
    let stamp = crate::mutant!(A, "reclaim-stamp-too-old", now + 1, 0);
    let Attempt { replaced, garbage, .. } = tx;
    garbage.retired.extend(replaced.drain(..).map(|value| Retired { value, stamp }));
    collect_if_due(tx);
}

/// Retires one value that no transaction that begins from now on can reach.
///
/// # Safety
/// `drop` may be called on `word` on any thread once no transaction that runs now is left.
pub(crate) unsafe fn retire<A: Atomics>(tx: &mut Attempt<A>, word: u64, drop: DropWord) {
    let stamp = tx.domain().clock.load(Ordering::Acquire) + 1;
    tx.garbage.retired.push(Retired { value: Owned { word, drop }, stamp });
    if tx.slot().active.load(Ordering::Relaxed) == crate::domain::IDLE {
        collect_if_due(tx);
    }
}

/// As [`retire`], for a thread without a descriptor.
///
/// # Safety
/// As [`retire`].
pub(crate) unsafe fn retire_orphan<A: Atomics>(domain: &Domain<A>, word: u64, drop: DropWord) {
    let stamp = domain.clock.load(Ordering::Acquire) + 1;
    domain.orphans.lock().push(Retired { value: Owned { word, drop }, stamp });
}

fn collect_if_due<A: Atomics>(tx: &mut Attempt<A>) {
    if tx.garbage.retired.len() >= tx.garbage.limit.max(BATCH) && !tx.garbage.collecting {
        collect(tx);
    }
}

/// Frees what can be freed. Must not be called within a transaction.
#[cold]
pub(crate) fn collect<A: Atomics>(tx: &mut Attempt<A>) {
    tx.garbage.collecting = true;
    let mut candidates = std::mem::take(&mut tx.garbage.retired);
    if let Some(mut orphans) = tx.domain().orphans.try_lock() {
        candidates.append(&mut orphans);
    }
    // Rule 4. Two: a stamp is the clock plus one, and rule 3 asks for a later begin.
    if crate::mutant!(A, "reclaim-clock-not-advanced", true, false) {
        // Release pairs with the acquire of whoever begins with the advanced clock: it finds the values unlinked. Equivalent: under every
        // shipped protocol the commit has written the clock with release, which this addition carries on, or has executed a full fence
        // after its writes. A protocol need not.
        tx.domain().clock.fetch_add(2, Ordering::Release);
    }
    if crate::mutant!(A, "reclaim-no-new-era", true, false) {
        tx.domain().begin_era();
    }
    let oldest = crate::mutant!(A, "reclaim-running-ignored", tx.domain().oldest_active(), crate::domain::IDLE);
    dropping(|| {
        candidates.retain(|retired| {
            let reachable = retired.stamp >= oldest;
            if !reachable {
                // SAFETY: rule 3: no running transaction can have reached the value.
                quietly(|| unsafe { (retired.value.drop)(retired.value.word) });
            }
            reachable
        });
    });
    tx.garbage.retired.append(&mut candidates);
    // What is left is waited for by some long transaction; looking again too soon would be quadratic.
    tx.garbage.limit = tx.garbage.retired.len() * 2;
    tx.garbage.collecting = false;
}
