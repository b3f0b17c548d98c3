//! `Any`: the protocol in force, whichever it is.
//!
//! The default's fast path is inlined and every other operation is a call through a table, so that code compiled once (a closure over
//! [`TVar`](crate::TVar)s, a trace) serves every protocol and pays nothing under the default. It works because all protocols
//! share the meaning of `limit`: what is not newer than it may be read at once.
#![expect(unsafe_code, reason = "passes on places that the caller of the barrier keeps alive")]

use std::sync::atomic::Ordering;

use super::{Eager, Info, Protocol};
use crate::abort::Abort;
use crate::atomics::{Atomics, Native, Word, likely};
use crate::attempt::{Attempt, DropWord, Place, Savepoint};
use crate::clock::Gv1;
use crate::watch::Watch;

type Read<A> = unsafe fn(&mut Attempt<A>, Place<A>) -> Result<u64, Abort>;
pub(super) type Write<A> = unsafe fn(&mut Attempt<A>, Place<A>, u64, Option<DropWord>) -> Result<(), Abort>;
type Step<A> = fn(&mut Attempt<A>) -> Result<(), Abort>;

/// The operations of one protocol.
#[derive(Debug)]
pub struct Calls<A: Atomics> {
    /// Whether begin, read and write of the default are right for it.
    inlined: bool,
    begin: Step<A>,
    read: Read<A>,
    read_only: Read<A>,
    write: Write<A>,
    validate: Step<A>,
    commit: Step<A>,
    watch: fn(&mut Attempt<A>) -> Watch<A>,
    rollback: fn(&mut Attempt<A>),
    savepoint: fn(&mut Attempt<A>) -> Savepoint,
    rollback_to: fn(&mut Attempt<A>, Savepoint),
}

impl Calls<Native> {
    /// The operations of `P`.
    pub(crate) const fn of<P: Protocol>() -> Self {
        Calls {
            inlined: P::EAGER,
            begin: P::begin,
            read: P::read,
            read_only: P::read_only,
            write: P::write,
            validate: P::validate,
            commit: P::commit,
            watch: P::watch,
            rollback: P::rollback,
            savepoint: P::savepoint,
            rollback_to: P::rollback_to,
        }
    }

    /// Whether begin, read and write of the default are right for it.
    pub(crate) fn inlined(&self) -> bool {
        self.inlined
    }
}

/// The protocol in force.
#[derive(Clone, Copy, Debug)]
pub struct Any;

/// The table of the protocol in force.
#[inline(always)]
fn calls(tx: &Attempt<Native>) -> &'static Calls<Native> {
    tx.calls.expect("the runtime has chosen a protocol before the transaction began")
}

/// A write through the table. Not inlined, so that looking up the table does not weigh on the fast path.
#[inline(never)]
unsafe fn write_slow(tx: &mut Attempt<Native>, place: Place, value: u64, drop: Option<DropWord>) -> Result<(), Abort> {
    // SAFETY: passed on to the caller.
    unsafe { (calls(tx).write)(tx, place, value, drop) }
}

/// As [`write_slow`].
#[inline(never)]
unsafe fn read_slow(tx: &mut Attempt<Native>, place: Place) -> Result<u64, Abort> {
    // SAFETY: passed on to the caller.
    unsafe { (calls(tx).read)(tx, place) }
}

/// As [`write_slow`].
#[inline(never)]
unsafe fn read_only_slow(tx: &mut Attempt<Native>, place: Place) -> Result<u64, Abort> {
    // SAFETY: passed on to the caller.
    unsafe { (calls(tx).read_only)(tx, place) }
}

impl Protocol<Native> for Any {
    const INFO: Info = Info {
        name: "any",
        source: "",
        opaque: true,
        privatisation_safe: false,
        readers_never_abort: false,
        ordered: false,
        in_place: false,
    };

    #[inline(always)]
    fn begin(tx: &mut Attempt<Native>) -> Result<(), Abort> {
        if likely(tx.inlined) { <Eager<Gv1>>::begin(tx) } else { (calls(tx).begin)(tx) }
    }

    #[inline(always)]
    unsafe fn read(tx: &mut Attempt<Native>, place: Place) -> Result<u64, Abort> {
        // SAFETY: the caller keeps the object alive.
        let (field, header) = unsafe { (place.field(), place.header()) };
        // The fast path of `eager`, with its orderings.
        let value = field.load(Ordering::Acquire);
        if likely(Word::load(header, Ordering::Relaxed) <= tx.limit) {
            tx.reads.push(place.header);
            return Ok(value);
        }
        // SAFETY: as above.
        unsafe { read_slow(tx, place) }
    }

    #[inline(always)]
    unsafe fn read_only(tx: &mut Attempt<Native>, place: Place) -> Result<u64, Abort> {
        // SAFETY: the caller keeps the object alive.
        let (field, header) = unsafe { (place.field(), place.header()) };
        let value = field.load(Ordering::Acquire);
        if likely(Word::load(header, Ordering::Relaxed) <= tx.limit) {
            return Ok(value);
        }
        // SAFETY: as above.
        unsafe { read_only_slow(tx, place) }
    }

    #[inline(always)]
    unsafe fn write(tx: &mut Attempt<Native>, place: Place, value: u64, drop: Option<DropWord>) -> Result<(), Abort> {
        if likely(tx.inlined) {
            // SAFETY: the caller keeps the object alive. The clock matters only when the snapshot is extended or the writes are
            // stamped, and those go through the table or agree for all clocks.
            return unsafe { <Eager<Gv1>>::write_or(tx, place, value, drop, write_slow) };
        }
        // SAFETY: as above.
        unsafe { write_slow(tx, place, value, drop) }
    }

    fn validate(tx: &mut Attempt<Native>) -> Result<(), Abort> {
        (calls(tx).validate)(tx)
    }

    #[inline(always)]
    fn commit(tx: &mut Attempt<Native>) -> Result<(), Abort> {
        if tx.inlined && tx.locks.is_empty() {
            tx.reads.clear();
            return Ok(());
        }
        (calls(tx).commit)(tx)
    }

    fn watch(tx: &mut Attempt<Native>) -> Watch {
        (calls(tx).watch)(tx)
    }

    fn rollback(tx: &mut Attempt<Native>) {
        (calls(tx).rollback)(tx);
    }

    fn savepoint(tx: &mut Attempt<Native>) -> Savepoint {
        (calls(tx).savepoint)(tx)
    }

    fn rollback_to(tx: &mut Attempt<Native>, savepoint: Savepoint) {
        (calls(tx).rollback_to)(tx, savepoint);
    }
}
