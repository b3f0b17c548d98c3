//! The families of atomics that the checker compiles the production code against.
//!
//! | platform | atomics | what it sees |
//! | --- | --- | --- |
//! | [`Loom`] | loom's | every interleaving, and every value that the C11 memory model lets a load return |
//! | [`Solitary`] | loom's | the same, for threads whose descriptors come and go |
//! | [`Shuttle`] | shuttle's | random interleavings under sequential consistency, far more of them |
//! | [`Counting`] | the machine's | which cache lines the threads share, and how often they write them |
//!
//! Each reports the places where a fault can be planted: [`mutant!`](crate::mutant!) sites, orderings and fences. One fault at a
//! time can be [planted](plant) on the calling thread, which is where model checkers run all threads of a model.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sleep::{self, Access};
use crate::atomics::{Atomics, Word};

/// What goes wrong at a place in the source, if it is planted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Change {
    /// The second branch of a [`mutant!`](crate::mutant!).
    Mutant(&'static str),
    /// The operation gets a weaker ordering.
    Weaker {
        /// The operation.
        operation: &'static str,
        /// The ordering in the source.
        from: &'static str,
        /// The ordering in its place.
        to: &'static str,
    },
    /// The fence is left out.
    NoFence(&'static str),
}

/// A fault that can be planted: a place and a change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fault {
    /// The source file, as the compiler names it.
    pub file: &'static str,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
    /// What is changed there.
    pub change: Change,
}

impl Fault {
    /// Whether it is a weakened ordering or a fence left out.
    #[must_use]
    pub fn is_ordering(&self) -> bool {
        !matches!(self.change, Change::Mutant(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { file, line, change, .. } = self;
        match change {
            Change::Mutant(id) => write!(f, "{id} ({file}:{line})"),
            Change::Weaker { operation, from, to } => write!(f, "{operation} {from} → {to} ({file}:{line})"),
            Change::NoFence(kind) => write!(f, "no {kind} ({file}:{line})"),
        }
    }
}

thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    static NOTING: Cell<bool> = const { Cell::new(false) };
    static NOTED: RefCell<BTreeSet<Fault>> = const { RefCell::new(BTreeSet::new()) };
}

/// Runs `f` with a fault planted on this thread.
pub fn plant<R>(fault: Option<Fault>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Fault>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }
    let _restore = Restore(PLANTED.replace(fault));
    f()
}

/// Runs `f` and returns the faults that could be planted in what it executes on this thread.
pub fn note_sites<R>(f: impl FnOnce() -> R) -> (R, BTreeSet<Fault>) {
    let before = NOTING.replace(true);
    let result = f();
    NOTING.set(before);
    (result, NOTED.take())
}

fn note(location: &'static Location<'static>, change: Change) {
    let fault = Fault { file: location.file(), line: location.line(), column: location.column(), change };
    NOTED.with_borrow_mut(|noted| noted.insert(fault));
}

/// Whether the fault is planted at this place.
fn is_planted(location: &'static Location<'static>, change: Change) -> bool {
    PLANTED.get().is_some_and(|planted| {
        planted.change == change
            && planted.line == location.line()
            && planted.column == location.column()
            && planted.file == location.file()
    })
}

const fn name(order: Ordering) -> &'static str {
    match order {
        Ordering::Relaxed => "relaxed",
        Ordering::Acquire => "acquire",
        Ordering::Release => "release",
        Ordering::AcqRel => "acq-rel",
        _ => "seq-cst",
    }
}

/// The ordering that an operation executes: the one in the source unless a weaker one is planted.
#[track_caller]
#[inline]
fn weaken(operation: &'static str, order: Ordering) -> Ordering {
    if order == Ordering::Relaxed {
        return order;
    }
    let location = Location::caller();
    let weaker: &[Ordering] = match order {
        Ordering::AcqRel => &[Ordering::Acquire, Ordering::Release],
        _ => &[Ordering::Relaxed],
    };
    let change = |to: Ordering| Change::Weaker { operation, from: name(order), to: name(to) };
    if NOTING.get() {
        for &to in weaker {
            note(location, change(to));
        }
    }
    if PLANTED.get().is_none() {
        return order;
    }
    weaker.iter().copied().find(|&to| is_planted(location, change(to))).unwrap_or(order)
}

/// Whether a fence is executed.
#[track_caller]
fn keeps(fence: &'static str) -> bool {
    let location = Location::caller();
    if NOTING.get() {
        note(location, Change::NoFence(fence));
    }
    !is_planted(location, Change::NoFence(fence))
}

/// Whether a mutant is planted. All places with one id are one mutant: it may take two of them to plant a bug.
#[track_caller]
fn mutated(id: &'static str) -> bool {
    if NOTING.get() {
        // One entry for each id: the first place met stands for all.
        let known = NOTED.with_borrow(|noted| noted.iter().any(|fault| fault.change == Change::Mutant(id)));
        if !known {
            note(Location::caller(), Change::Mutant(id));
        }
    }
    PLANTED.get().is_some_and(|fault| fault.change == Change::Mutant(id))
}

macro_rules! model_platform {
    ($(#[doc = $doc:literal])+ $name:ident, $word_name:ident, $fence:expr, $yield:expr, $heavy:expr) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        impl Atomics for $name {
            type Word = $word_name;

            const CAN_WAIT: bool = false;

            #[track_caller]
            fn fence() {
                if keeps("fence") {
                    $fence;
                }
            }

            #[track_caller]
            fn light() {
                if $heavy && keeps("light fence") {
                    $fence;
                }
            }

            #[track_caller]
            fn heavy() {
                assert!($heavy, "this model was said to execute no heavy fence");
                if keeps("heavy fence") {
                    $fence;
                }
            }

            #[track_caller]
            fn settle() {
                if keeps("settling fence") {
                    $fence;
                }
            }

            fn spin() {
                $yield;
            }

            #[track_caller]
            fn mutated(id: &'static str) -> bool {
                mutated(id)
            }
        }
    };
}

/// A word of [`Loom`].
///
/// Two things are added to loom's own:
///
/// - Loom explores the other order of two accesses only if the earlier one was the *last* access to the word. A thread that loads a word
///   before it writes it (as every lock does) thereby hides the loads of the others before, and orders in which its write comes first
///   are never tried. So each thread's loads are announced on an object of their own, and each write on those of all others. What
///   serves is a condition variable nobody waits for: telling it is an event that others must be ordered with, and has no effect on
///   memory. An access and its announcement are one step: no other thread goes between.
/// - What loom stores is not the value but the number of the store, so that two stores of one value can be told apart; see
///   [`sleep`](super::sleep), which must know which of them a load has found.
#[derive(Debug)]
pub struct LoomWord {
    // Never dropped: loom would want to know that nobody accesses it any more, which it cannot where `std::sync::Arc` sees to that.
    word: ManuallyDrop<loom::sync::atomic::AtomicU64>,
    /// The last store: what the word is to an execution that is cut. Relaxed: all threads of a model are one thread to the machine.
    last: AtomicU64,
    /// Names the word, the same in all executions.
    name: u64,
    loaded_by: [OnceLock<loom::sync::Condvar>; MODEL_THREADS],
}

/// The most threads of a model under loom.
pub const MODEL_THREADS: usize = 4;

/// The name of the fences, which is that of no word.
const ALL_FENCES: u64 = 0;

/// The number of no store.
const NO_STORE: u64 = u64::MAX;

loom::lazy_static! {
    // Fences are no events to loom's exploration, but their order is part of the behaviour.
    static ref FENCES: loom::sync::Condvar = loom::sync::Condvar::new();
}

/// A sequentially consistent fence, in every order with the others.
fn loom_fence() {
    if !sleep::is_cut() {
        FENCES.notify_all();
        loom::sync::atomic::fence(Ordering::SeqCst);
        sleep::note(model_thread(), ALL_FENCES, Access::Write, 0);
    }
}

fn loom_yield() {
    if !sleep::is_cut() {
        sleep::note(model_thread(), ALL_FENCES, Access::Yield, 0);
        loom::thread::yield_now();
    }
}

loom::thread_local! {
    static MODEL_THREAD: Cell<usize> = Cell::new(0);
}

fn model_thread() -> usize {
    MODEL_THREAD.with(Cell::get)
}

/// Says that the calling thread of a model is its `index`-th. The first, which starts the others, is 0 and need not say it.
pub fn enter_model_thread(index: usize) {
    MODEL_THREAD.with(|thread| thread.set(index));
}

/// What the executions of a model have in common, and what one has done.
#[derive(Debug)]
struct Model {
    /// How many threads it has.
    threads: usize,
    /// Whether heavy fences are executed in it, so that light ones are more than nothing.
    heavy: bool,
    /// The values stored, by number of the store.
    stored: Vec<u64>,
    /// How many words each thread has made.
    words: [u64; MODEL_THREADS],
}

thread_local! {
    static MODEL: RefCell<Model> =
        const { RefCell::new(Model { threads: 2, heavy: true, stored: Vec::new(), words: [0; MODEL_THREADS] }) };
}

/// Says how many threads the model has, and whether heavy fences are executed in it.
///
/// A light fence orders nothing against another light fence: natively it is no instruction. Where no heavy one is executed it is nothing
/// here too, which is stricter than a fence and leaves fewer orders to explore.
pub(super) fn describe_model(threads: usize, heavy: bool) {
    assert!(threads <= MODEL_THREADS, "at most {MODEL_THREADS} threads in a model");
    MODEL.with_borrow_mut(|model| (model.threads, model.heavy) = (threads, heavy));
}

/// Before each execution of a model.
pub(super) fn begin_execution() {
    sleep::begin();
    MODEL.with_borrow_mut(|model| {
        (model.threads, model.heavy) = (2, true);
        model.stored.clear();
        model.words = [0; MODEL_THREADS];
    });
}

fn has_heavy_fences() -> bool {
    MODEL.with_borrow(|model| model.heavy)
}

fn number_store(value: u64) -> u64 {
    MODEL.with_borrow_mut(|model| {
        model.stored.push(value);
        model.stored.len() as u64 - 1
    })
}

fn stored(number: u64) -> u64 {
    MODEL.with_borrow(|model| model.stored[number as usize])
}

/// Lets no other thread go between the steps of `f`, nor explores what they find.
fn as_one_step<R>(f: impl FnOnce() -> R) -> R {
    loom::stop_exploring();
    let result = f();
    loom::explore();
    result
}

impl LoomWord {
    fn announce(&self, thread: usize) {
        self.loaded_by[thread].get_or_init(loom::sync::Condvar::new).notify_all();
    }

    fn after_load(&self, found: u64) {
        let this = model_thread();
        sleep::note(this, self.name, Access::Load, found);
        if !sleep::is_cut() {
            as_one_step(|| self.announce(this));
        }
    }

    fn after_write(&self, found: u64) {
        let this = model_thread();
        sleep::note(this, self.name, Access::Write, found);
        if !sleep::is_cut() {
            let threads = MODEL.with_borrow(|model| model.threads);
            as_one_step(|| (0..threads).filter(|thread| *thread != this).for_each(|thread| self.announce(thread)));
        }
    }

    /// The last store of an execution that is cut.
    fn shadow(&self) -> u64 {
        stored(self.last.load(Ordering::Relaxed))
    }

    fn set_shadow(&self, value: u64) {
        self.last.store(number_store(value), Ordering::Relaxed);
    }

    /// A read-modify-write: what is found is replaced by what `change` makes of it, if that is anything.
    #[track_caller]
    fn change(&self, order: Ordering, change: impl Fn(u64) -> Option<u64>) -> Result<u64, u64> {
        let mut expected = self.last.load(Ordering::Relaxed);
        let attempt = |expected: u64| {
            let (expected, new) = match change(stored(expected)) {
                Some(value) => (expected, number_store(value)),
                // Finds out what is there.
                None => (NO_STORE, NO_STORE),
            };
            let outcome = self.word.compare_exchange(expected, new, order, Ordering::Relaxed);
            if outcome.is_ok() {
                self.last.store(new, Ordering::Relaxed);
            }
            outcome
        };
        let mut outcome = if sleep::is_cut() { Err(expected) } else { attempt(expected) };
        if sleep::is_cut() {
            // Another thread may have cut the execution since, and what it did after is not in loom's word.
            if outcome.is_err() {
                let found = self.shadow();
                return change(found).map_or(Err(found), |value| {
                    self.set_shadow(value);
                    Ok(found)
                });
            }
            return Ok(stored(expected));
        }
        // Others have been here before this thread came to it: nobody comes between now.
        while let Err(found) = outcome
            && change(stored(found)).is_some()
        {
            expected = found;
            outcome = as_one_step(|| attempt(expected));
        }
        let found = if outcome.is_ok() { expected } else { outcome.unwrap_or_else(|found| found) };
        self.after_write(found);
        outcome.map(|_| stored(found)).map_err(|_| stored(found))
    }
}

impl Word for LoomWord {
    fn new(value: u64) -> Self {
        let number = number_store(value);
        let this = model_thread();
        let name = MODEL.with_borrow_mut(|model| {
            model.words[this] += 1;
            model.words[this] * MODEL_THREADS as u64 + this as u64
        });
        LoomWord {
            word: ManuallyDrop::new(loom::sync::atomic::AtomicU64::new(number)),
            last: AtomicU64::new(number),
            name,
            loaded_by: [const { OnceLock::new() }; MODEL_THREADS],
        }
    }

    #[track_caller]
    fn load(&self, order: Ordering) -> u64 {
        let order = weaken("load", order);
        if sleep::is_cut() {
            return self.shadow();
        }
        let found = self.word.load(order);
        if sleep::is_cut() {
            return self.shadow();
        }
        self.after_load(found);
        stored(found)
    }

    #[track_caller]
    fn store(&self, value: u64, order: Ordering) {
        let order = weaken("store", order);
        if sleep::is_cut() {
            return self.set_shadow(value);
        }
        let number = number_store(value);
        self.word.store(number, order);
        self.last.store(number, Ordering::Relaxed);
        self.after_write(0);
    }

    #[track_caller]
    fn compare_exchange(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64> {
        let order = weaken("compare_exchange", success);
        self.change(order, |found| (found == current).then_some(new))
    }

    #[track_caller]
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        let order = weaken("fetch_add", order);
        self.change(order, |found| Some(found.wrapping_add(value))).expect("it changes whatever it finds")
    }

    #[track_caller]
    fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        let order = weaken("fetch_max", order);
        self.change(order, |found| Some(found.max(value))).expect("it changes whatever it finds")
    }
}

/// A word of [`Shuttle`].
#[derive(Debug)]
pub struct ShuttleWord(shuttle::sync::atomic::AtomicU64);

impl Word for ShuttleWord {
    fn new(value: u64) -> Self {
        ShuttleWord(shuttle::sync::atomic::AtomicU64::new(value))
    }

    #[track_caller]
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(weaken("load", order))
    }

    #[track_caller]
    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, weaken("store", order));
    }

    #[track_caller]
    fn compare_exchange(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64> {
        self.0.compare_exchange(current, new, weaken("compare_exchange", success), Ordering::Relaxed)
    }

    #[track_caller]
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, weaken("fetch_add", order))
    }

    #[track_caller]
    fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_max(value, weaken("fetch_max", order))
    }
}

model_platform! {
    /// Loom's atomics: bounded exhaustive exploration under the C11 memory model.
    Loom, LoomWord, loom_fence(), loom_yield(), has_heavy_fences()
}

/// [`Loom`] for programs in which descriptors come and go: with the [bias](crate::atomics::Atomics::BIASED) of a thread that is alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solitary;

impl Atomics for Solitary {
    type Word = LoomWord;

    const CAN_WAIT: bool = false;

    const BIASED: bool = true;

    #[track_caller]
    fn fence() {
        Loom::fence();
    }

    #[track_caller]
    fn light() {
        Loom::light();
    }

    #[track_caller]
    fn heavy() {
        Loom::heavy();
    }

    #[track_caller]
    fn settle() {
        Loom::settle();
    }

    fn spin() {
        Loom::spin();
    }

    #[track_caller]
    fn mutated(id: &'static str) -> bool {
        mutated(id)
    }
}

model_platform! {
    /// Shuttle's atomics: random schedules, sequentially consistent.
    Shuttle, ShuttleWord, shuttle::sync::atomic::fence(Ordering::SeqCst), shuttle::thread::yield_now(), true
}

/// The machine's atomics, counting: each thread notes the cache lines that it reads and writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting;

/// A word of [`Counting`]: as large as the machine's, so that what stands on one line natively does so here.
#[derive(Debug)]
#[repr(transparent)]
pub struct CountingWord(AtomicU64);

/// Bytes in a cache line.
const LINE: usize = 64;

/// The lines that one thread has touched.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// How often each line was read.
    pub reads: std::collections::HashMap<usize, u64>,
    /// How often each line was written.
    pub writes: std::collections::HashMap<usize, u64>,
}

impl Touched {
    /// How many of this thread's writes went to lines that `other` has touched.
    #[must_use]
    pub fn writes_shared_with(&self, other: &Touched) -> u64 {
        let shared = |line: &usize| other.reads.contains_key(line) || other.writes.contains_key(line);
        self.writes.iter().filter(|(line, _)| shared(line)).map(|(_, count)| count).sum()
    }
}

thread_local! {
    static TOUCHED: RefCell<Touched> = RefCell::default();
}

/// Takes what the calling thread has touched since the last call.
#[must_use]
pub fn take_touched() -> Touched {
    TOUCHED.take()
}

impl CountingWord {
    fn note_read(&self) {
        let line = std::ptr::from_ref(self).addr() / LINE;
        TOUCHED.with_borrow_mut(|touched| *touched.reads.entry(line).or_default() += 1);
    }

    fn note_write(&self) {
        let line = std::ptr::from_ref(self).addr() / LINE;
        TOUCHED.with_borrow_mut(|touched| *touched.writes.entry(line).or_default() += 1);
    }
}

impl Atomics for Counting {
    type Word = CountingWord;

    const CAN_WAIT: bool = true;

    const BIASED: bool = true;

    fn fence() {
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    fn light() {
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    fn heavy() {
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    fn spin() {
        std::thread::yield_now();
    }
}

impl Word for CountingWord {
    fn new(value: u64) -> Self {
        CountingWord(AtomicU64::new(value))
    }

    fn load(&self, order: Ordering) -> u64 {
        self.note_read();
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.note_write();
        self.0.store(value, order);
    }

    fn compare_exchange(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64> {
        self.note_write();
        self.0.compare_exchange(current, new, success, Ordering::Relaxed)
    }

    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.note_write();
        self.0.fetch_add(value, order)
    }

    fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.note_write();
        self.0.fetch_max(value, order)
    }
}
