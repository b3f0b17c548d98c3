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
    ($(#[doc = $doc:literal])+ $name:ident, $word_name:ident, $word:ty, $fence:expr, $yield:expr) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        impl Atomics for $name {
            type Word = $word_name;

            const CAN_WAIT: bool = false;

            // Every model starts with as many descriptors as it has threads; `Solitary` is for the others.
            const BIASED: bool = false;

            #[track_caller]
            fn fence() {
                if keeps("fence") {
                    $fence;
                }
            }

            #[track_caller]
            fn light() {
                if keeps("light fence") {
                    $fence;
                }
            }

            #[track_caller]
            fn heavy() {
                if keeps("heavy fence") {
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

        impl Word for $word_name {
            fn new(value: u64) -> Self {
                $word_name::of(<$word>::new(value))
            }

            #[track_caller]
            fn load(&self, order: Ordering) -> u64 {
                self.before_load();
                self.word.load(weaken("load", order))
            }

            #[track_caller]
            fn store(&self, value: u64, order: Ordering) {
                self.before_store();
                self.word.store(value, weaken("store", order));
            }

            #[track_caller]
            fn compare_exchange(&self, current: u64, new: u64, success: Ordering) -> Result<u64, u64> {
                self.before_store();
                self.word.compare_exchange(current, new, weaken("compare_exchange", success), Ordering::Relaxed)
            }

            #[track_caller]
            fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
                self.before_store();
                self.word.fetch_add(value, weaken("fetch_add", order))
            }

            #[track_caller]
            fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
                self.before_store();
                self.word.fetch_max(value, weaken("fetch_max", order))
            }
        }
    };
}

/// A word of [`Loom`].
///
/// Loom explores the other order of two accesses only if the earlier one was the *last* access to the word. A thread that loads a
/// word before it writes it (as every lock does) thereby hides the loads of the others before, and orders in which its write
/// comes first are never tried. So each thread's loads are announced on an object of their own, and each write on those of all others.
/// What serves is a condition variable nobody waits for: telling it is an event that others must be ordered with, and has no effect on
/// memory.
#[derive(Debug)]
pub struct LoomWord {
    // Never dropped: loom would want to know that nobody accesses it any more, which it cannot where `std::sync::Arc` sees to that.
    word: ManuallyDrop<loom::sync::atomic::AtomicU64>,
    loaded_by: [OnceLock<loom::sync::Condvar>; MODEL_THREADS],
}

/// The most threads of a model under loom.
pub const MODEL_THREADS: usize = 4;

loom::lazy_static! {
    // Fences are no events to loom's exploration, but their order is part of the behaviour.
    static ref FENCES: loom::sync::Condvar = loom::sync::Condvar::new();
}

/// A sequentially consistent fence, in every order with the others.
fn loom_fence() {
    FENCES.notify_all();
    loom::sync::atomic::fence(Ordering::SeqCst);
}

loom::thread_local! {
    static MODEL_THREAD: Cell<usize> = Cell::new(0);
}

/// Says that the calling thread of a model is its `index`-th. The first, which starts the others, is 0 and need not say it.
pub fn enter_model_thread(index: usize) {
    MODEL_THREAD.with(|thread| thread.set(index));
}

impl LoomWord {
    fn of(word: loom::sync::atomic::AtomicU64) -> Self {
        LoomWord { word: ManuallyDrop::new(word), loaded_by: [const { OnceLock::new() }; MODEL_THREADS] }
    }

    fn announce(&self, thread: usize) {
        self.loaded_by[thread].get_or_init(loom::sync::Condvar::new).notify_all();
    }

    fn before_load(&self) {
        self.announce(MODEL_THREAD.with(Cell::get));
    }

    fn before_store(&self) {
        let this = MODEL_THREAD.with(Cell::get);
        let threads = MODEL_SIZE.get();
        (0..threads).filter(|thread| *thread != this).for_each(|thread| self.announce(thread));
    }
}

thread_local! {
    /// How many threads the model has that runs on this thread.
    static MODEL_SIZE: Cell<usize> = const { Cell::new(2) };
}

/// Says how many threads the model has.
pub fn set_model_size(threads: usize) {
    assert!(threads <= MODEL_THREADS, "at most {MODEL_THREADS} threads in a model");
    MODEL_SIZE.set(threads);
}

/// A word of [`Shuttle`].
#[derive(Debug)]
pub struct ShuttleWord {
    word: shuttle::sync::atomic::AtomicU64,
}

impl ShuttleWord {
    fn of(word: shuttle::sync::atomic::AtomicU64) -> Self {
        ShuttleWord { word }
    }

    fn before_load(&self) {}

    fn before_store(&self) {}
}

model_platform! {
    /// Loom's atomics: bounded exhaustive exploration under the C11 memory model.
    Loom, LoomWord, loom::sync::atomic::AtomicU64,
    loom_fence(), loom::thread::yield_now()
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
    Shuttle, ShuttleWord, shuttle::sync::atomic::AtomicU64,
    shuttle::sync::atomic::fence(Ordering::SeqCst), shuttle::thread::yield_now()
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
