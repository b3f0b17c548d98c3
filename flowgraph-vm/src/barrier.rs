//! Barriers: the one place where the language meets the transactions.
//!
//! Everything that a running event reads or writes in a mutable object goes through here. The recipe that compiled code may inline, for
//! object `o` (the address of its meta word) and field `i`:
//!
//! ```text
//! fresh:  o - mutator.fresh_start < mutator.fresh_size (unsigned)      → plain access of [o + 8 + 8·i]
//! frozen: [o] has the frozen bit, and after the read [o - 8] is unlocked → the value needs no log
//! read:   value = [o + 8 + 8·i];  [o - 8] <= attempt.limit             → append o - 8 to the reads
//! write:  the protocol's write recipe with the header at o - 8 and the field at o + 8 + 8·i
//!         an object stored into one that is not fresh also sets mutator.escaped
//! ```
//!
//! The arrow from the language to the transactions goes through this module alone; no other file of this crate names `optimist_stm`.

#![expect(unsafe_code, reason = "the protocols dereference addresses of headers and fields")]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

pub use optimist_stm::abort::Abort;
pub use optimist_stm::attempt::{Attempt, Savepoint};
pub use optimist_stm::protocol::{Any, Protocol};
pub use optimist_stm::run::Interrupt;

use optimist_stm::atomics::{Atomics, Native};
use optimist_stm::attempt::Place;
use optimist_stm::header::FRESH;

use crate::heap::{Meta, Mutator, Object};
use crate::value::Value;

/// The cheap half of the fence between a mutator's announcement and its look at the collector's request.
#[inline(always)]
pub(crate) fn light_fence() {
    Native::light();
}

/// The expensive half.
pub(crate) fn heavy_fence() {
    Native::heavy();
}

/// Gives a new object the header of one that nobody has written yet.
#[inline(always)]
pub(crate) fn init_header(object: Object) {
    // SAFETY: the heap has just made room for the header. Relaxed: nobody else can see the object.
    unsafe { &*object.header() }.store(FRESH, Relaxed);
}

#[inline(always)]
fn place(object: Object, index: usize) -> Place {
    Place { header: object.header(), field: object.field(index) }
}

/// Reads a field of a mutable object, as bits.
///
/// # Errors
/// The abort with which this attempt ends.
#[inline(always)]
pub(crate) fn read_bits<P: Protocol>(
    tx: &mut Attempt,
    heap: &Mutator,
    object: Object,
    index: usize,
) -> Result<u64, Abort> {
    // Under one lock every read is a plain one, and the question would cost more than the answer.
    let reads_are_plain = const { matches!(P::INFO.name.as_bytes(), b"global-lock") };
    if !reads_are_plain && heap.is_fresh(object) {
        return Ok(object.raw(index));
    }
    // SAFETY: the object is reachable, and no collection frees what a running transaction has touched.
    unsafe { P::read(tx, place(object, index)) }
}

/// Reads a field of an object whose meta word was seen frozen: immutable for good if the freezing has committed, which the
/// header tells, and then needs no entry in the log.
///
/// # Errors
/// The abort with which this attempt ends.
#[inline]
pub(crate) fn read_frozen<P: Protocol>(
    tx: &mut Attempt,
    heap: &Mutator,
    object: Object,
    index: usize,
) -> Result<u64, Abort> {
    // Acquire pairs with the release of a write in place, as in the protocols: a header that is not newer than the snapshot
    // afterwards says that the value, and the frozen bit seen before, are the committed ones. An abort of the freezing gives the header a new version.
    let value = object.field(index).load(Acquire);
    // SAFETY: as in `read_bits`.
    if unsafe { &*object.header() }.load(Relaxed) <= tx.limit {
        return Ok(value);
    }
    read_bits::<P>(tx, heap, object, index)
}

/// Why a write did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WriteError {
    /// The attempt is over.
    Abort(Abort),
    /// The object was frozen.
    Frozen,
}

impl From<Abort> for WriteError {
    fn from(abort: Abort) -> Self {
        WriteError::Abort(abort)
    }
}

/// Writes bits that are not a value into a field of a mutable object.
///
/// # Errors
/// The abort with which this attempt ends, or that the object is frozen.
#[inline(always)]
pub(crate) fn write_bits<P: Protocol>(
    tx: &mut Attempt,
    heap: &Mutator,
    object: Object,
    index: usize,
    bits: u64,
) -> Result<(), WriteError> {
    if heap.is_fresh(object) {
        if object.meta().is_frozen() {
            return Err(WriteError::Frozen);
        }
        object.init_raw(index, bits);
        return Ok(());
    }
    // SAFETY: as in `read_bits`.
    unsafe { P::write(tx, place(object, index), bits, None) }?;
    // Looked at when the object is ours: another event may have frozen it since the caller looked. The error undoes the write.
    if object.meta().is_frozen() || (heap.has_frozen && is_being_frozen::<P>(tx, object)?) {
        Err(WriteError::Frozen)
    } else {
        Ok(())
    }
}

/// Whether this event itself freezes the object; under a protocol that keeps writes back only the log knows.
#[cold]
fn is_being_frozen<P: Protocol>(tx: &mut Attempt, object: Object) -> Result<bool, Abort> {
    let place = Place { header: object.header(), field: object.meta_word() };
    // SAFETY: as in `read_bits`; the meta word lies behind the header like a field.
    unsafe { P::read(tx, place) }.map(|bits| Meta::from_bits(bits).is_frozen())
}

/// Writes a field of a mutable object.
///
/// # Errors
/// As [`write_bits`].
#[inline(always)]
pub(crate) fn write<P: Protocol>(
    tx: &mut Attempt,
    heap: &mut Mutator,
    object: Object,
    index: usize,
    value: Value,
) -> Result<(), WriteError> {
    if value.is_object() && !heap.is_fresh(object) {
        heap.note_escape();
    }
    write_bits::<P>(tx, heap, object, index, value.bits())
}

/// Makes a mutable object immutable for good, once this event has committed.
///
/// # Errors
/// The abort with which this attempt ends.
pub(crate) fn freeze<P: Protocol>(tx: &mut Attempt, heap: &mut Mutator, object: Object) -> Result<(), Abort> {
    let meta: Meta = object.meta();
    if heap.is_fresh(object) {
        object.set_meta(meta.frozen());
        return Ok(());
    }
    heap.has_frozen = true;
    let place = Place { header: object.header(), field: object.meta_word() };
    // SAFETY: as in `read_bits`; the meta word lies behind the header like a field.
    unsafe { P::write(tx, place, meta.frozen().bits(), None) }
}

/// Adds every object that the attempt's logs still need: what was read, locked and is to be written, and both the old and the
/// new values of what was written. A transaction may also have touched what is not in this heap; `owns` tells the addresses that are.
pub(crate) fn logged_objects(tx: &Attempt, owns: &dyn Fn(usize) -> bool, list: &mut Vec<Object>) {
    let reads = tx.reads.entries().iter().copied().chain(tx.values.iter().map(|read| read.place.header));
    let writes =
        tx.locks.iter().map(|lock| lock.header).chain(tx.buffer.writes().iter().map(|write| write.place.header));
    list.extend(reads.chain(writes).filter(|header| owns(header.addr())).map(Object::of_header));
    // An old value is a reference only in an object of values. The lock log has the first one of each object, the undo log the others; there
    // the object is the locked one that lies before the field.
    let first = tx.locks.iter().filter_map(|lock| lock.old_value().map(|(field, value)| (lock.header, field, value)));
    let first = first.filter(|(header, ..)| owns(header.addr()));
    let first = first.map(|(header, field, value)| (Object::of_header(header), field, value));
    let mut locked: Vec<usize> =
        tx.locks.iter().map(|lock| lock.header.addr()).filter(|header| owns(*header)).collect();
    locked.sort_unstable();
    let further = tx.undo.iter().filter(|undo| owns(undo.field.addr())).map(|undo| {
        let after = locked.partition_point(|header| *header < undo.field.addr());
        (Object::of_header(std::ptr::with_exposed_provenance(locked[after - 1])), undo.field, undo.value)
    });
    let kept_back = tx.buffer.writes().iter().filter(|write| owns(write.place.header.addr()));
    let kept_back = kept_back.map(|write| (Object::of_header(write.place.header), write.place.field, write.value));
    for (object, field, word) in first.chain(further).chain(kept_back) {
        if object.meta().has_values() && field != object.meta_word() {
            list.extend(Value::from_bits(word).object());
        }
    }
}

/// Whether the attempt can no longer be aborted by others, so that it may do what cannot be undone.
pub(crate) fn is_irrevocable(tx: &Attempt) -> bool {
    tx.mode == optimist_stm::attempt::Mode::Irrevocable
}

/// Lets a collection interrupt the transaction where it waits for another one, which may itself stand at a safepoint.
#[inline]
pub(crate) fn let_interrupt(tx: &mut Attempt, stop: &Arc<AtomicBool>) {
    if !tx.interrupt.as_ref().is_some_and(|known| Arc::ptr_eq(known, stop)) {
        tx.interrupt = Some(stop.clone());
    }
    tx.interruptible = true;
}

/// The attempt is about to do what cannot be undone, or is no longer the language's.
#[inline]
pub(crate) fn forbid_interrupt(tx: &mut Attempt) {
    tx.interruptible = false;
}

/// What a transaction runs, and what it does when an attempt was aborted.
pub(crate) trait Body<R, E> {
    /// One attempt.
    ///
    /// # Errors
    /// What ends it.
    fn attempt(&mut self, tx: &mut Attempt) -> Result<R, Interrupt<E>>;

    /// Called when an attempt has been rolled back, before anything is waited for.
    fn aborted(&mut self);
}

struct Told<'a, B>(&'a mut B);

impl<R, E, B: Body<R, E>> optimist_stm::run::Body<Native, R, E> for Told<'_, B> {
    fn attempt(&mut self, tx: &mut Attempt) -> Result<R, Interrupt<E>> {
        self.0.attempt(tx)
    }

    fn aborted(&mut self, _reason: Abort) {
        self.0.aborted();
    }
}

/// Runs `body` as a transaction of its own, under the protocol in force, as often as it takes to commit. Blocks while it waits for a change.
///
/// # Errors
/// The error of the body; the transaction has been rolled back.
pub(crate) fn transaction<R, E>(body: &mut impl Body<R, E>) -> Result<R, E> {
    loop {
        match optimist_stm::runtime::execute_body(optimist_stm::attempt::Mode::Update, &mut Told(body)) {
            Ok(value) => return Ok(value),
            Err(optimist_stm::Stop::Error(error)) => return Err(error),
            Err(optimist_stm::Stop::Blocked(watch)) => {
                watch.wait();
            }
        }
    }
}
