//! Checks a commit protocol of one's own and finds the bug planted in it.
//!
//! The protocol is TML, the transactional mutex lock of Dalessandro, Dice, Scott, Shavit and Spear (Euro-Par 2010): one sequence number for
//! the whole heap, odd while somebody writes in place; a reader that sees it change starts again. With `FORGETFUL` a read does not look at
//! the number after it has loaded the value: nearly every test passes, and a body can see a state that never was.
//!
//! `cargo run --release --features check --example check_my_protocol`
#![expect(unsafe_code, reason = "implements barriers, whose callers keep the objects alive")]

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use optimist_stm::Abort;
use optimist_stm::atomics::{Atomics, Word};
use optimist_stm::attempt::{Attempt, DropWord, Lock, Mode, Place, Saved, Undo};
use optimist_stm::check::{Budget, Depth, check};
use optimist_stm::clock::{Clock, Gv1};
use optimist_stm::protocol::{Info, Protocol};

/// The transactional mutex lock.
struct Tml<const FORGETFUL: bool>;

/// Whether this attempt holds the sequence number.
fn holds<A: Atomics>(tx: &Attempt<A>) -> bool {
    tx.domain().sequence.load(Ordering::Relaxed) == tx.snapshot + 1
        && (!tx.locks.is_empty() || tx.mode == Mode::Irrevocable)
}

/// Makes the sequence number odd, unless somebody has written since the attempt began.
fn acquire<A: Atomics>(tx: &Attempt<A>) -> Result<(), Abort> {
    let taken = tx.domain().sequence.compare_exchange(tx.snapshot, tx.snapshot + 1, Ordering::AcqRel);
    taken.map(|_| ()).map_err(|_| Abort::Locked)
}

/// The sequence number when it is even: at once, or once the writer is done.
fn even<A: Atomics>(tx: &Attempt<A>) -> Result<u64, Abort> {
    loop {
        let sequence = tx.domain().sequence.load(Ordering::Acquire);
        if sequence & 1 == 0 {
            return Ok(sequence);
        }
        if !A::CAN_WAIT {
            return Err(Abort::Busy);
        }
        std::thread::yield_now();
    }
}

impl<A: Atomics, const FORGETFUL: bool> Protocol<A> for Tml<FORGETFUL> {
    const INFO: Info = Info {
        name: if FORGETFUL { "tml, forgetful" } else { "tml" },
        source: "Dalessandro et al.: Transactional mutex locks, Euro-Par 2010",
        opaque: true,
        privatisation_safe: false,
        readers_never_abort: false,
        ordered: false,
        in_place: true,
    };

    fn begin(tx: &mut Attempt<A>) -> Result<(), Abort> {
        // Every access goes through the protocol.
        tx.limit = 0;
        loop {
            tx.snapshot = even(tx)?;
            if tx.mode != Mode::Irrevocable {
                return Ok(());
            }
            match acquire(tx) {
                Err(_) if A::CAN_WAIT => {}
                outcome => return outcome,
            }
        }
    }

    unsafe fn read(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // For `retry`, which waits for a change of what was read.
        tx.reads.push(place.header);
        // SAFETY: the caller keeps the object alive. Acquire pairs with the release in `write`: whoever sees the new value sees the number odd.
        let value = unsafe { place.field() }.load(Ordering::Acquire);
        if FORGETFUL || holds(tx) || tx.domain().sequence.load(Ordering::Relaxed) == tx.snapshot {
            Ok(value)
        } else {
            Err(Abort::Validation)
        }
    }

    unsafe fn read_only(tx: &mut Attempt<A>, place: Place<A>) -> Result<u64, Abort> {
        // SAFETY: as promised by the caller.
        unsafe { Self::read(tx, place) }
    }

    unsafe fn write(tx: &mut Attempt<A>, place: Place<A>, value: u64, drop: Option<DropWord>) -> Result<(), Abort> {
        if !holds(tx) {
            acquire(tx)?;
        }
        // SAFETY: the caller keeps the object alive.
        let (header, field) = unsafe { (place.header(), place.field()) };
        if !tx.locks.iter().any(|lock| lock.header == place.header) {
            tx.locks.push(Lock::new(place.header, header.load(Ordering::Relaxed), Saved::WRITTEN));
        }
        let old = field.load(Ordering::Relaxed);
        tx.undo.push(Undo { field: place.field, value: old });
        if let Some(drop) = drop {
            tx.note_replaced(old, drop);
        }
        field.store(value, Ordering::Release);
        Ok(())
    }

    fn validate(tx: &mut Attempt<A>) -> Result<(), Abort> {
        if holds(tx) || tx.domain().sequence.load(Ordering::Acquire) == tx.snapshot {
            Ok(())
        } else {
            Err(Abort::Validation)
        }
    }

    fn commit(tx: &mut Attempt<A>) -> Result<(), Abort> {
        if holds(tx) {
            let version = Gv1::stamp(tx.domain(), tx.snapshot).version;
            tx.publish_locks(version);
            tx.domain().sequence.store(tx.snapshot + 2, Ordering::Release);
        }
        tx.undo.clear();
        tx.reads.clear();
        Ok(())
    }

    fn rollback(tx: &mut Attempt<A>) {
        tx.reads.clear();
        if holds(tx) {
            tx.undo_all();
            let version = Gv1::stamp(tx.domain(), tx.snapshot).version;
            tx.release_locks(version);
            tx.domain().sequence.store(tx.snapshot + 2, Ordering::Release);
        }
    }
}

fn main() -> ExitCode {
    let budget = Budget { time: Duration::from_secs(120), depth: Depth::Quick, checkpoint: None };
    let forgetful = check::<Tml<true>>(&budget);
    println!("{forgetful}\n");
    if forgetful.counterexample().is_none() {
        eprintln!("the planted bug was not found");
        return ExitCode::FAILURE;
    }
    let tml = check::<Tml<false>>(&budget);
    println!("{tml}");
    if tml.counterexample().is_some() || tml.runs.iter().any(|(_, outcome)| outcome.is_err()) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
