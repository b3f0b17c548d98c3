//! `norec`: no ownership records; one sequence lock, validation by value.
//!
//! *Source.* Dalessandro, Spear and Scott, "NOrec: streamlining STM by abolishing ownership records" (PPoPP 2010).
//!
//! *Guarantee.* Opaque and privatisation-safe: a writer that has not committed has written nothing, and one that has is finished before
//! the next can begin.
//!
//! *Cost.* A read: two loads and one log entry of two words. A commit: one compare-and-swap, one store. Headers are neither read nor
//! written. Commits of writers exclude each other, and every commit makes all others compare all their values again, so it suits few
//! threads and short transactions. A value that changes and changes back is not noticed, which serializability allows.
//! An irrevocable transaction reserves the sequence: nobody else can commit writes until it is over, so all that it reads goes on holding.
//! Others read and run meanwhile; those that have written wait at their commit.
#![expect(unsafe_code, reason = "dereferences places that the caller of the barrier keeps alive")]

use std::sync::atomic::Ordering;

use super::{Info, Protocol};
use crate::abort::Abort;
use crate::atomics::{Atomics, Word, likely, unlikely};
use crate::attempt::{Attempt, DropWord, Mode, Place, ValueRead};

/// One sequence lock, [`Domain::sequence`](crate::domain::Domain::sequence):
///
/// | bits | meaning |
/// | --- | --- |
/// | 0, `WRITER` | a writer writes back |
/// | 1, `RESERVED` | an irrevocable transaction runs: only that may set bit 0 |
/// | 2 to 63 | the number of commits |
///
/// A snapshot is a sequence with both bits clear.
#[derive(Clone, Copy, Debug)]
pub struct Norec;

const WRITER: u64 = 1;
const RESERVED: u64 = 2;
const COMMIT: u64 = 4;

impl<A: Atomics> Protocol<A> for Norec {
    const INFO: Info = Info {
        name: "norec",
        source: "Dalessandro, Spear, Scott: NOrec, PPoPP 2010",
        opaque: true,
        privatisation_safe: true,
        readers_never_abort: false,
        ordered: false,
        in_place: false,
    };

    #[inline(always)]
    fn begin(tx: &mut Attempt<A>) -> Result<(), Abort> {
        // Headers say nothing here, so every access goes through the protocol.
        tx.limit = 0;
        // Acquire: as in `quiet_sequence`.
        let now = tx.domain().sequence.load(Ordering::Acquire);
        tx.snapshot = if likely(now & (WRITER | RESERVED) == 0) { now } else { quiet_sequence(tx)? };
        if unlikely(tx.mode == Mode::Irrevocable) {
            reserve_sequence(tx)?;
        }
        Ok(())
    }

    #[inline(always)]
    unsafe fn read(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        if !tx.buffer.is_empty()
            && let Some(value) = tx.buffer.get(place.field)
        {
            return Ok(value);
        }
        // SAFETY: the caller keeps the object alive. Acquire pairs with the release of a write-back: if the value is newer than
        // the snapshot, the sequence read next has changed.
        let mut value = unsafe { place.field() }.load(Ordering::Acquire);
        if tx.domain().sequence.load(Ordering::Relaxed) & !RESERVED != tx.snapshot {
            // SAFETY: as above.
            value = unsafe { read_again(tx, place)? };
        }
        tx.values.push(ValueRead { place, value });
        Ok(value)
    }

    #[inline(always)]
    unsafe fn read_only(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // The log of values is what makes a re-run unnecessary after a commit elsewhere, so it is kept here too.
        // SAFETY: by the caller's promise.
        unsafe { Self::read(tx, place) }
    }

    #[inline(always)]
    unsafe fn write(tx: &mut Attempt<A>, place: Place<A>, value: u64, drop: Option<DropWord>) -> Result<(), Abort> {
        super::lazy::write(tx, place, value, drop);
        Ok(())
    }

    fn validate(tx: &mut Attempt<A>) -> Result<(), Abort> {
        revalidate(tx)
    }

    #[inline(always)]
    fn commit(tx: &mut Attempt<A>) -> Result<(), Abort> {
        if tx.buffer.is_empty() {
            tx.values.clear();
            if unlikely(tx.mode == Mode::Irrevocable) {
                give_up_reservation(tx);
            }
            return Ok(());
        }
        write_back(tx)
    }

    fn rollback(tx: &mut Attempt<A>) {
        tx.buffer.clear();
        tx.values.clear();
        if tx.mode == Mode::Irrevocable {
            give_up_reservation(tx);
        }
    }
}

/// Takes the sequence lock and writes the values back.
#[inline(never)]
fn write_back<A: Atomics>(tx: &mut Attempt<A>) -> Result<(), Abort> {
    take_sequence(tx)?;
    if crate::mutant!(A, "norec-released-before-write-back", false, true) {
        release_sequence(tx);
    }
    for index in 0..tx.buffer.writes().len() {
        let write = &tx.buffer.writes()[index];
        // SAFETY: whoever wrote the field promised that the object stays allocated until the attempt ends.
        let field = unsafe { write.place.field() };
        let (value, drop) = (write.value, write.drop);
        // Relaxed: this transaction holds the sequence lock.
        let old = field.load(Ordering::Relaxed);
        // Release pairs with the acquire in `read`.
        field.store(value, Ordering::Release);
        if let Some(drop) = drop {
            tx.note_replaced(old, drop);
        }
    }
    if crate::mutant!(A, "norec-released-before-write-back", true, false) {
        release_sequence(tx);
    }
    A::light();
    tx.notify_buffered();
    tx.buffer.clear();
    tx.values.clear();
    Ok(())
}

/// The sequence while no writer is inside, without the reservation.
#[inline(never)]
fn quiet_sequence<A: Atomics>(tx: &Attempt<A>) -> Result<u64, Abort> {
    let sequence = &*tx.domain().sequence;
    let mut rounds = 0_u32;
    loop {
        // Acquire pairs with the release in `release_sequence`: everything written back up to here is visible.
        let now = sequence.load(Ordering::Acquire);
        if now & WRITER == 0 {
            return Ok(now & !RESERVED);
        }
        if crate::mutant!(A, "norec-odd-sequence-accepted", false, true) {
            return Ok(now & !RESERVED);
        }
        pause(tx, &mut rounds)?;
    }
}

/// Waits a little for whoever is in the way.
fn pause<A: Atomics>(tx: &Attempt<A>, rounds: &mut u32) -> Result<(), Abort> {
    if !A::CAN_WAIT {
        return Err(Abort::Busy);
    }
    *rounds += 1;
    if *rounds > 64 && tx.encumbered {
        // That may be an irrevocable transaction, which waits for what this one holds.
        return Err(Abort::Yield);
    }
    match *rounds {
        0..64 => A::spin(),
        64..80 => std::thread::yield_now(),
        _ => std::thread::sleep(std::time::Duration::from_micros(20)),
    }
    Ok(())
}

/// Keeps everybody else from committing writes. Nothing has been read yet.
#[cold]
fn reserve_sequence<A: Atomics>(tx: &mut Attempt<A>) -> Result<(), Abort> {
    // Acquire: the writes of the last commit are visible. Of those who reserve there is one at a time, by the token. Equivalent: the snapshot
    // was loaded with acquire, and nothing has been written since if its number is found here.
    while tx.domain().sequence.compare_exchange(tx.snapshot, tx.snapshot | RESERVED, Ordering::Acquire).is_err() {
        tx.snapshot = quiet_sequence(tx)?;
    }
    Ok(())
}

/// Lets others commit writes again, where nothing has been written back.
fn give_up_reservation<A: Atomics>(tx: &mut Attempt<A>) {
    let sequence = &*tx.domain().sequence;
    // Relaxed: nobody else writes a reserved sequence. After a commit that has released it, it is no longer this transaction's.
    if sequence.load(Ordering::Relaxed) == tx.snapshot | RESERVED {
        // Release: what was visible to whoever reserved it is visible to whoever takes it next.
        sequence.store(tx.snapshot, Ordering::Release);
    }
}

/// Takes the sequence lock at a moment when everything read holds.
fn take_sequence<A: Atomics>(tx: &mut Attempt<A>) -> Result<(), Abort> {
    if tx.mode == Mode::Irrevocable {
        // Relaxed: nobody else writes a reserved sequence, and the releases of the fields come after it.
        tx.domain().sequence.store(tx.snapshot | RESERVED | WRITER, Ordering::Relaxed);
        return Ok(());
    }
    let mut rounds = 0;
    let sequence = &*tx.domain().sequence;
    let taken = tx.alone(|| {
        // Relaxed: nobody else writes it.
        let unchanged = sequence.load(Ordering::Relaxed) == tx.snapshot;
        if unchanged {
            sequence.store(tx.snapshot | WRITER, Ordering::Relaxed);
        }
        unchanged
    });
    if taken == Some(true) {
        return Ok(());
    }
    // Acquire: the writes of the last holder are visible; AcqRel is not needed, because what follows is published by releases. Equivalent: the
    // snapshot was loaded with acquire, and nothing has been written since if its number is found here.
    while let Err(seen) = tx.domain().sequence.compare_exchange(tx.snapshot, tx.snapshot | WRITER, Ordering::Acquire) {
        if seen & RESERVED != 0 {
            pause(tx, &mut rounds)?;
            continue;
        }
        tx.slot().counters.validations.increment();
        A::spin();
        if crate::mutant!(A, "norec-no-validation-after-lost-race", false, true) {
            tx.snapshot = quiet_sequence(tx)?;
        } else {
            revalidate(tx)?;
        }
    }
    Ok(())
}

/// Gives the sequence lock back: the snapshot becomes the state just written.
fn release_sequence<A: Atomics>(tx: &mut Attempt<A>) {
    // Release pairs with the acquire in `quiet_sequence`.
    tx.domain().sequence.store(tx.snapshot + COMMIT, Ordering::Release);
}

/// Somebody has committed since the snapshot: compares all values and moves the snapshot.
#[cold]
#[inline(never)]
fn revalidate<A: Atomics>(tx: &mut Attempt<A>) -> Result<(), Abort> {
    loop {
        let now = quiet_sequence(tx)?;
        let holds = tx.values.iter().all(|read| {
            // SAFETY: whoever read the field promised that the object stays allocated until the attempt ends. Acquire: as in
            // `read`. Equivalent: as below.
            unsafe { read.place.field() }.load(Ordering::Acquire) == read.value
        });
        if !crate::mutant!(A, "norec-values-not-compared", holds, true) {
            return Err(Abort::Validation);
        }
        // Somebody may have committed meanwhile. Equivalent: whoever reads or commits under the new snapshot compares the sequence with it once
        // more; looking here already saves a round.
        let after =
            crate::mutant!(A, "norec-sequence-not-read-again", tx.domain().sequence.load(Ordering::Relaxed), now);
        if after & !RESERVED == now {
            tx.snapshot = now;
            tx.slot().counters.extensions.increment();
            return Ok(());
        }
    }
}

#[cold]
#[inline(never)]
unsafe fn read_again<A: Atomics>(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
    loop {
        revalidate(tx)?;
        // SAFETY: the caller keeps the object alive.
        let value = unsafe { place.field() }.load(Ordering::Acquire);
        if tx.domain().sequence.load(Ordering::Relaxed) & !RESERVED == tx.snapshot {
            return Ok(value);
        }
    }
}
