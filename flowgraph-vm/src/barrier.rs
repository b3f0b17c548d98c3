//! Barriers: the one place where the language meets the transactions.
//!
//! Everything that a running event reads or writes in a mutable object goes through here. The recipe that compiled code may inline, for
//! object `o` (the address of its meta word) and field `i`:
//!
//! ```text
//! fresh:  o - mutator.fresh_start < mutator.fresh_size (unsigned)      → plain access of [o + 8 + 8·i]
//! frozen: [o] has the frozen bit, and after the read [o - 8] is unlocked → the value needs no log
//! known:  mutator.known[o >> 5 & 31] == o (logged, fresh or frozen)     → the value needs no log if [o - 8] <= attempt.limit
//! held:   [o - 8] is locked by mutator.owner                            → the value needs nothing
//! read:   value = [o + 8 + 8·i];  [o - 8] <= attempt.limit             → append o - 8 to the reads
//! write:  the protocol's write recipe with the header at o - 8 and the field at o + 8 + 8·i
//!         an object stored into one that is not fresh also sets mutator.escaped
//! ```
//!
//! The arrow from the language to the transactions goes through this module alone; no other file of this crate names `optimist_stm`.

#![expect(unsafe_code, reason = "the protocols dereference addresses of headers and fields")]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

pub use optimist_stm::abort::Abort;
pub use optimist_stm::attempt::{Attempt, Savepoint};
pub(crate) use optimist_stm::header::Owner;
pub use optimist_stm::protocol::{Any, Protocol};
pub use optimist_stm::run::Interrupt;

use optimist_stm::atomics::{Atomics, Native};
use optimist_stm::attempt::Place;
use optimist_stm::header::{FRESH, Header};

use crate::heap::{Kind, Meta, Mutator, Object};
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

/// Whether reads go to memory at once under this protocol, whatever the object: then every question about it costs more than it saves.
const fn reads_are_plain<P: Protocol>() -> bool {
    matches!(P::INFO.name.as_bytes(), b"global-lock" | b"unprotected")
}

/// Tells the thread's end of the heap whose locks the running attempt may read and write through.
#[inline]
pub(crate) fn enter<P: Protocol>(tx: &Attempt, heap: &mut Mutator) {
    heap.owner = if P::INFO.in_place { tx.owner } else { tx.owner_in_place() };
}

/// Reads a field of a mutable object, as bits, if that takes no more than a look at the header: this attempt holds the object
/// already, or it is as the snapshot saw it and its first read in this attempt has done what was to be done (a log entry, unless the object
/// is the event's own or frozen).
#[inline(always)]
pub(crate) fn read_quickly<P: Protocol>(tx: &Attempt, heap: &Mutator, object: Object, index: usize) -> Option<u64> {
    if const { reads_are_plain::<P>() } {
        return Some(object.raw(index));
    }
    // Acquire pairs with the release of a write in place, as in the protocols, so that the header is loaded afterwards.
    let value = object.field(index).load(Acquire);
    // SAFETY: the object is reachable, and no collection frees what a running transaction has touched. Relaxed: ordered by the acquire.
    let header = Header(unsafe { &*object.header() }.load(Relaxed));
    // Protocols whose reads are not of this kind keep the limit at zero and the owner at nobody.
    if (header.0 <= tx.limit && heap.knows(object)) || header.is_held_by(heap.owner) { Some(value) } else { None }
}

/// Reads a field of a mutable object, as bits.
///
/// # Errors
/// The abort with which this attempt ends.
#[inline(never)]
pub(crate) fn read_slowly<P: Protocol>(
    tx: &mut Attempt,
    heap: &mut Mutator,
    object: Object,
    index: usize,
) -> Result<u64, Abort> {
    if heap.is_fresh(object) {
        heap.note_fresh(object);
        return Ok(object.raw(index));
    }
    if object.meta().is_frozen() {
        // Immutable for good if the freezing has committed, which the header tells, and then no entry in the log is needed.
        // Acquire pairs with the release of a write in place, as in the protocols: a header that is not newer than the snapshot
        // afterwards says that the value, and the frozen bit seen before, are the committed ones. An abort of the freezing gives the header a new version.
        let value = object.field(index).load(Acquire);
        // SAFETY: as in `read_quickly`.
        if unsafe { &*object.header() }.load(Relaxed) <= tx.limit {
            heap.note_known(object);
            return Ok(value);
        }
    }
    // SAFETY: as in `read_quickly`.
    let value = unsafe { P::read(tx, place(object, index)) }?;
    heap.note_known(object);
    Ok(value)
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

/// Writes bits into a field of a mutable object if nothing needs to be found out about the object: this attempt holds it already,
/// or has seen that it is the event's own. Whether it did.
///
/// # Errors
/// The abort with which this attempt ends.
#[inline(always)]
pub(crate) fn write_quickly<P: Protocol>(
    tx: &mut Attempt,
    heap: &Mutator,
    object: Object,
    index: usize,
    bits: u64,
) -> Result<bool, Abort> {
    if object.meta().is_frozen() {
        return Ok(false);
    }
    if const { matches!(P::INFO.name.as_bytes(), b"unprotected") } || heap.knows_as_fresh(object) {
        object.init_raw(index, bits);
        return Ok(true);
    }
    // SAFETY: as in `read_quickly`. Relaxed: only this thread can make it say what is asked for.
    let header = Header(unsafe { &*object.header() }.load(Relaxed));
    if !header.is_held_by(heap.owner) {
        return Ok(false);
    }
    if tx.may_overwrite(header, place(object, index)) {
        // Release pairs with the acquire of a read, as in the protocols.
        object.field(index).store(bits, Release);
        return Ok(true);
    }
    write_held::<P>(tx, header, object, index, bits).map(|()| true)
}

/// Who has written so many elements of one part of an array is taken to go on, and the others are saved at once.
const MANY: u32 = 4;

/// Writes a field of an object that this attempt holds, whose old value is still to be saved. Not inlined, so that the interpreter's loop keeps its
/// registers.
#[inline(never)]
fn write_held<P: Protocol>(
    tx: &mut Attempt,
    held: Header,
    object: Object,
    index: usize,
    bits: u64,
) -> Result<(), Abort> {
    let meta = object.meta();
    if (meta.is(Kind::RawChunk) || meta.is(Kind::Chunk)) && tx.saved_fields(held) == MANY {
        // SAFETY: these are the fields of the object, which is reachable.
        unsafe { tx.save_fields(held, place(object, 0), meta.fields()) };
    }
    // SAFETY: as in `read_quickly`.
    unsafe { P::write(tx, place(object, index), bits, None) }
}

/// Writes bits that are not a reference into a field of a mutable object.
///
/// # Errors
/// The abort with which this attempt ends, or that the object is frozen.
#[inline(never)]
pub(crate) fn write_slowly<P: Protocol>(
    tx: &mut Attempt,
    heap: &mut Mutator,
    object: Object,
    index: usize,
    bits: u64,
) -> Result<(), WriteError> {
    if heap.is_fresh(object) {
        if object.meta().is_frozen() {
            return Err(WriteError::Frozen);
        }
        heap.note_fresh(object);
        object.init_raw(index, bits);
        return Ok(());
    }
    // SAFETY: as in `read_quickly`.
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
    // SAFETY: as in `read_quickly`; the meta word lies behind the header like a field.
    unsafe { P::read(tx, place) }.map(|bits| Meta::from_bits(bits).is_frozen())
}

/// Writes a field of a mutable object.
///
/// # Errors
/// As [`write_slowly`].
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
    if write_quickly::<P>(tx, heap, object, index, value.bits())? {
        return Ok(());
    }
    write_slowly::<P>(tx, heap, object, index, value.bits())
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
    // SAFETY: as in `read_quickly`; the meta word lies behind the header like a field.
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
