//! A thread's own end of the heap: allocation, events, safepoints.
//!
//! # The rules of an event
//! 1. [`Mutator::begin_event`] remembers the cursor. What is allocated from there on is *fresh*.
//! 2. Memory that the event went through is remembered as runs, so that [`Mutator::end_event`] can take it all back: after
//!    an abort always, after a commit when nothing *escaped*, which is when no reference to an object was stored into an
//!    object that is not fresh, nor handed out of the event.
//! 3. An object is fresh when it lies in the current run behind the place where the event (or the last savepoint) found the cursor,
//!    or in a block that this event took empty. "Not fresh" is always a safe answer: it costs a barrier. A savepoint
//!    makes everything not fresh, since from then on writes must be undone one by one.
//! 4. What was found out about an object in an attempt (that reading it needs no further log entry, that it is fresh) is remembered in two
//!    small tables, which are emptied when it may not hold any more: at the next attempt, after a collection, and what is fresh at a savepoint.
//! 5. A collection in the middle of an event ends all this for what exists: survivors are no longer fresh, and the runs are forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::*};

use parking_lot::Mutex;

use super::block::{BLOCK, Block, LINE, Run};
use super::{Heap, Kind, Meta, MutatorShared, Object, Root, RootShard, state};
use crate::barrier::{self, Owner};
use crate::flowgraph::fault::Fault;

/// Objects above this size have memory of their own.
const LARGE: usize = BLOCK / 4;
/// Places in the tables of what is known about objects used lately.
const KNOWN: usize = 32;
/// Back edges and calls between two looks at the world.
const FUEL: i64 = 4096;
/// The rest of a run is kept for later when it is at least so large.
const WORTH_KEEPING: usize = 2 * LINE;

/// What one thread allocates with. One per worker; an event at a time.
pub struct Mutator {
    cursor: usize,
    limit: usize,
    /// The current run is fresh from here on, up to `fresh_size` bytes.
    fresh_start: usize,
    fresh_size: usize,
    /// Names this event (since its last savepoint) in blocks that it took empty; 0 until it takes one.
    serial: u64,
    /// Whether an object of this event may be referred to from outside.
    escaped: bool,
    in_event: bool,
    /// Whether this event has frozen something that is not fresh.
    pub(crate) has_frozen: bool,
    /// See [`Mutator::is_pressed`].
    pressed: bool,
    /// Whose locks the running attempt may read and write through without asking its protocol.
    pub(crate) owner: Owner,
    /// Objects whose next read by this attempt needs no entry in the log, each at the place that its address gives.
    known: [usize; KNOWN],
    /// Objects that were found fresh.
    known_fresh: [usize; KNOWN],
    /// Whether there is anything in these two tables.
    knows_any: bool,
    /// Back edges and calls until the next safepoint poll.
    pub(crate) fuel: i64,
    /// What `fuel` was when it was last set, less what was taken away so that the poll comes at once.
    given: i64,
    /// The cursor at the beginning of the event.
    saved: Run,
    /// The runs that the event took after the one it began in.
    taken: Vec<Run>,
    /// Bytes in all that the event took, collected since or not, and in large objects.
    event_bytes: usize,
    /// With more than so many it is to be polled at once.
    event_limit: usize,
    /// Free runs that belong to this thread.
    spare: Vec<Run>,
    /// A block whose later lines may be free.
    block: Option<(Block, usize)>,
    /// The number of collections this mutator has taken notice of.
    epoch: u64,
    heap: Arc<Heap>,
    shared: Arc<MutatorShared>,
}

impl Mutator {
    pub(super) fn new(heap: Arc<Heap>) -> Mutator {
        let shared = Arc::new(MutatorShared {
            state: AtomicU8::new(state::IDLE),
            stack: Mutex::default(),
            roots: Arc::new(RootShard::default()),
        });
        heap.mutators.lock().push(shared.clone());
        Mutator {
            cursor: 0,
            limit: 0,
            fresh_start: 0,
            fresh_size: 0,
            serial: 0,
            escaped: false,
            in_event: false,
            has_frozen: false,
            pressed: false,
            owner: Owner::NOBODY,
            known: [0; KNOWN],
            known_fresh: [0; KNOWN],
            knows_any: false,
            fuel: FUEL,
            given: FUEL,
            saved: Run { start: 0, end: 0 },
            taken: Vec::new(),
            event_bytes: 0,
            event_limit: usize::MAX,
            spare: Vec::new(),
            block: None,
            epoch: heap.epoch.load(Relaxed),
            heap,
            shared,
        }
    }

    /// The heap.
    pub fn heap(&self) -> &Arc<Heap> {
        &self.heap
    }

    /// Begins an event: from here to [`Mutator::end_event`] the heap stays as it is, but for safepoints.
    ///
    /// # Panics
    /// When the last event was not ended.
    #[inline]
    pub fn begin_event(&mut self) {
        assert!(!self.in_event, "an event begins while another one is running");
        self.in_event = true;
        self.start_running();
        self.saved = Run { start: self.cursor, end: self.limit };
        self.fresh_start = self.cursor;
        self.fresh_size = self.limit - self.cursor;
        self.escaped = false;
        self.has_frozen = false;
        self.pressed = false;
        self.event_bytes = 0;
        self.owner = Owner::NOBODY;
        if self.knows_any {
            self.forget_known();
        }
    }

    fn forget_known(&mut self) {
        self.known = [0; KNOWN];
        self.known_fresh = [0; KNOWN];
        self.knows_any = false;
    }

    /// Whether a read of the object needs no entry in the attempt's log, so far as is remembered.
    #[inline(always)]
    pub(crate) fn knows(&self, object: Object) -> bool {
        self.known[known_place(object)] == object.address()
    }

    /// Whether the object is fresh, so far as is remembered.
    #[inline(always)]
    pub(crate) fn knows_as_fresh(&self, object: Object) -> bool {
        self.known_fresh[known_place(object)] == object.address()
    }

    /// Remembers that reads of the object need no further entry in the log, in this attempt.
    #[inline]
    pub(crate) fn note_known(&mut self, object: Object) {
        self.known[known_place(object)] = object.address();
        self.knows_any = true;
    }

    /// Remembers that the object is fresh.
    #[inline]
    pub(crate) fn note_fresh(&mut self, object: Object) {
        self.known_fresh[known_place(object)] = object.address();
        self.note_known(object);
    }

    #[inline]
    fn start_running(&mut self) {
        loop {
            // Relaxed: ordered by the fence against the collector's, which comes between its setting `stop` and looking here.
            self.shared.state.store(state::RUNNING, Relaxed);
            barrier::light_fence();
            // Acquire pairs with the collector's release: what it did to the heap is visible.
            if !self.heap.stop.load(Acquire) {
                break;
            }
            self.shared.state.store(state::IDLE, Release);
            drop(self.heap.gate.lock());
        }
        if self.heap.epoch.load(Relaxed) != self.epoch {
            self.forget_runs();
        }
    }

    /// After a collection all free memory belongs to the pool.
    #[cold]
    fn forget_runs(&mut self) {
        self.epoch = self.heap.epoch.load(Relaxed);
        (self.cursor, self.limit) = (0, 0);
        (self.fresh_start, self.fresh_size) = (0, 0);
        self.serial = 0;
        self.saved = Run { start: 0, end: 0 };
        self.taken.clear();
        self.spare.clear();
        self.block = None;
        self.forget_known();
    }

    /// Ends an event whose transaction has committed or has been rolled back. May collect.
    #[inline]
    pub fn end_event(&mut self, committed: bool) {
        assert!(self.in_event, "an event ends that was not begun");
        self.in_event = false;
        if !(committed && self.escaped) {
            self.take_back();
        } else if !self.taken.is_empty() {
            self.taken.clear();
        }
        self.serial = 0;
        // Release pairs with the collector's acquire: it sees what this event wrote.
        self.shared.state.store(state::IDLE, Release);
        if self.heap.wanted.load(Relaxed) {
            self.heap.collect(&self.shared);
        }
    }

    /// Makes the memory of the event free again.
    fn take_back(&mut self) {
        if self.taken.is_empty() {
            // Still in the run that the event began in (or in none).
            self.cursor = self.saved.start;
            return;
        }
        // What the event went through is free as it was; the last run ends where it ended.
        if self.saved.size() > 0 {
            self.spare.push(self.saved);
        }
        self.spare.append(&mut self.taken);
        let run = self.spare.pop().expect("a run was taken");
        (self.cursor, self.limit) = (run.start, run.end);
        // A very long event must not leave a hoard behind.
        if self.spare.len() > 512 {
            self.spare.sort_unstable_by_key(|run| run.size());
            self.spare.drain(..self.spare.len() - 512);
        }
    }

    /// Whether the object was made by this event, so that nobody else can see it and an abort needs not restore it.
    #[inline(always)]
    pub(crate) fn is_fresh(&self, object: Object) -> bool {
        object.address().wrapping_sub(self.fresh_start) < self.fresh_size
            || (self.serial != 0 && self.is_fresh_elsewhere(object))
    }

    #[inline(always)]
    fn is_fresh_elsewhere(&self, object: Object) -> bool {
        !object.meta().is_large() && Block::of(object.address()).birth() == self.serial
    }

    /// Notes that a reference to an object got out of the event.
    #[inline(always)]
    pub(crate) fn note_escape(&mut self) {
        self.escaped = true;
    }

    /// From here on nothing is fresh: what exists must be restored if the event rolls back to this point.
    pub(crate) fn savepoint(&mut self) {
        self.fresh_start = self.cursor;
        self.fresh_size = self.limit - self.cursor;
        self.serial = 0;
        self.known_fresh = [0; KNOWN];
    }

    /// Whether an event has begun and not ended.
    pub fn is_in_event(&self) -> bool {
        self.in_event
    }

    /// Refuses what alone would be more than the heap may hold, before it is allocated.
    ///
    /// # Errors
    /// When it would.
    pub(crate) fn check_size(&self, bytes: usize) -> Result<(), Fault> {
        let limit = self.heap.limit();
        if bytes > limit { Err(Fault::TooMuchMemory { limit }) } else { Ok(()) }
    }

    /// Bytes that the event has allocated, in whole runs, those after the run it began in.
    pub(crate) fn event_bytes(&self) -> usize {
        self.event_bytes
    }

    /// Sets the number of bytes beyond which the event is to be polled at once.
    pub(crate) fn limit_event(&mut self, bytes: usize) {
        self.event_limit = bytes;
    }

    /// Counts bytes that the event takes and that the heap hands out; the poll is near when a collection is due or the event has too many.
    fn count(&mut self, taken: usize, handed_out: usize) {
        self.event_bytes += taken;
        let too_many = self.event_bytes > self.event_limit;
        if (handed_out > 0 && self.heap.count_handed_out(handed_out)) || too_many {
            self.poll_soon();
        }
        self.pressed |= too_many;
    }

    /// Lets the next back edge or call poll.
    fn poll_soon(&mut self) {
        let left = self.fuel.max(0);
        self.given -= left;
        self.fuel -= left;
    }

    /// Sets after how many back edges and calls the next poll is, and returns how many there were since this was last done.
    pub(crate) fn refuel(&mut self, fuel: u64) -> u64 {
        let burnt = self.given - self.fuel;
        self.given = fuel.min(FUEL as u64) as i64;
        self.fuel = self.given;
        self.pressed = false;
        burnt as u64
    }

    /// Counts an operation as so many back edges and calls.
    pub(crate) fn burn(&mut self, steps: u64) {
        self.fuel -= steps.min(1 << 40) as i64;
        self.pressed |= self.fuel <= 0;
    }

    /// Whether a large object was allocated that makes a collection due, or the event has allocated more than it may: between one operation
    /// and the next objects could pile up where no loop or call ever polls.
    #[inline(always)]
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// A new object, its fields not filled in yet: they must be before the next safepoint.
    #[inline(always)]
    pub(crate) fn allocate(&mut self, kind: Kind, shape: u16, fields: usize) -> Object {
        let meta = Meta::new(kind, shape, fields);
        let size = meta.size();
        let start = self.cursor;
        if size <= self.limit.wrapping_sub(start) {
            self.cursor = start + size;
            place(start, meta)
        } else {
            self.allocate_slowly(meta)
        }
    }

    #[cold]
    #[inline(never)]
    fn allocate_slowly(&mut self, meta: Meta) -> Object {
        debug_assert!(self.in_event, "objects are made in events");
        let size = meta.size();
        if size > LARGE {
            self.count(size, size);
            self.pressed |= self.fuel <= 0;
            return place(self.heap.take_large(size), meta.large());
        }
        let old = Run { start: self.cursor, end: self.limit };
        let run = self.next_run(size);
        if old.size() >= WORTH_KEEPING {
            self.spare.push(old);
        }
        if self.taken.is_empty() {
            // What the event used of the run it began in is free again if it is taken back.
            self.saved.end = self.saved.end.min(if old.size() >= WORTH_KEEPING { old.start } else { old.end });
        } else if old.size() >= WORTH_KEEPING
            && let Some(last) = self.taken.last_mut()
        {
            last.end = old.start;
        }
        self.taken.push(run);
        (self.cursor, self.limit) = (run.start + size, run.end);
        (self.fresh_start, self.fresh_size) = (run.start, run.size());
        place(run.start, meta)
    }

    /// Free memory for at least `size` bytes.
    fn next_run(&mut self, size: usize) -> Run {
        let near_end = self.spare.len().saturating_sub(8);
        if let Some(place) = self.spare[near_end..].iter().rposition(|run| run.size() >= size) {
            let run = self.spare.swap_remove(near_end + place);
            self.count(run.size(), 0);
            return run;
        }
        loop {
            while let Some((block, line)) = self.block {
                let Some((run, next)) = block.next_run(line) else {
                    self.block = None;
                    break;
                };
                self.block = Some((block, next));
                let fits = run.size() >= size;
                self.count(if fits { run.size() } else { 0 }, run.size());
                if fits {
                    return run;
                }
                self.spare.push(run);
            }
            // An event that needs this much takes whole blocks, in which everything is its own.
            let wants_empty = size > LINE || self.event_bytes >= BLOCK;
            let (block, empty) = self.heap.take_block(wants_empty);
            if !empty {
                block.set_birth(0);
                self.block = Some((block, 0));
                continue;
            }
            if self.serial == 0 {
                // Relaxed: only uniqueness matters.
                self.serial = self.heap.serials.fetch_add(1, Relaxed);
            }
            block.set_birth(self.serial);
            let run = block.whole();
            self.count(run.size(), run.size());
            return run;
        }
    }

    /// Whether somebody waits for this thread to stop, or a collection is due.
    #[inline]
    pub(crate) fn must_stop(&self) -> bool {
        self.heap.stop.load(Relaxed) || self.heap.wanted.load(Relaxed)
    }

    /// Stands still for a collection, or makes one. `roots` gives every object that the event can still reach: frames and logs.
    #[cold]
    pub(crate) fn safepoint(&mut self, roots: impl FnOnce(&mut Vec<Object>)) {
        self.pressed = false;
        {
            let mut stack = self.shared.stack.lock();
            stack.clear();
            roots(&mut stack);
        }
        // Release pairs with the collector's acquire: it sees the objects as this event left them.
        self.shared.state.store(state::STOPPED, Release);
        if self.heap.wanted.load(Relaxed) {
            self.heap.collect(&self.shared);
        } else {
            drop(self.heap.gate.lock());
        }
        self.start_running_again();
    }

    fn start_running_again(&mut self) {
        loop {
            self.shared.state.store(state::RUNNING, Relaxed);
            barrier::light_fence();
            if !self.heap.stop.load(Acquire) {
                break;
            }
            self.shared.state.store(state::STOPPED, Release);
            drop(self.heap.gate.lock());
        }
        if self.heap.epoch.load(Relaxed) != self.epoch {
            self.forget_runs();
            // The memory from before the collection cannot be told apart any more: it is left to the next one.
            self.escaped = true;
        }
        self.shared.stack.lock().clear();
    }

    /// Holds a value beyond the event.
    pub fn root(&mut self, value: crate::value::Value) -> Root {
        if value.is_object() {
            self.note_escape();
        }
        self.shared.roots.root(value)
    }
}

/// Where the tables keep an object. Objects in a row, and the parts of an array's neighbouring rows, come to lie in different places.
#[inline(always)]
fn known_place(object: Object) -> usize {
    object.address() / 32 % KNOWN
}

/// Puts the meta word (and the header, if the kind has one) where an object begins.
#[inline(always)]
fn place(start: usize, meta: Meta) -> Object {
    let object = Object::at(start + 8 * meta.has_header() as usize);
    if meta.has_header() {
        barrier::init_header(object);
    }
    object.set_meta(meta);
    object
}

impl Drop for Mutator {
    fn drop(&mut self) {
        // An event that was cut off by a panic is over: its transaction was rolled back by whoever caught it.
        self.shared.state.store(state::IDLE, Release);
        // Roots may outlive the thread; their table then stays until the last is gone, which the collector sees by the count.
        let mut mutators = self.heap.mutators.lock();
        mutators.retain(|other| !Arc::ptr_eq(other, &self.shared) || Arc::strong_count(&other.roots) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::HeapConfig;
    use super::*;

    #[test]
    fn what_is_known_of_an_object_is_forgotten_when_it_may_not_hold() {
        let heap = Heap::new(HeapConfig::default());
        let mut mutator = heap.mutator();
        mutator.begin_event();
        let object = mutator.allocate(Kind::Struct, 0, 1);
        object.init_raw(0, 0);
        let knowledge = |mutator: &Mutator| (mutator.knows(object), mutator.knows_as_fresh(object));
        assert_eq!(knowledge(&mutator), (false, false));
        mutator.note_fresh(object);
        assert_eq!(knowledge(&mutator), (true, true));
        mutator.savepoint();
        assert_eq!(knowledge(&mutator), (true, false), "what is older than a savepoint must be restored");
        mutator.note_fresh(object);
        heap.wanted.store(true, Relaxed);
        mutator.safepoint(|roots| roots.push(object));
        assert_eq!(heap.statistics().collections, 1);
        assert_eq!(knowledge(&mutator), (false, false), "another object may lie there after a collection");
        mutator.note_fresh(object);
        mutator.end_event(true);
        mutator.begin_event();
        assert_eq!(knowledge(&mutator), (false, false), "the next attempt has a log of its own");
        mutator.end_event(true);
    }
}
