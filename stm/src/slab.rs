//! Variables in dense blocks: sixteen bytes each, header and word, four to a cache line.
//!
//! An allocator's own header and the count of handles would double what a transaction draws through the cache. Here the counts stand at the
//! start of the block, where no barrier looks, and a cloned handle disturbs no reader:
//!
//! ```text
//!  0                    COUNTS                            64 KiB, aligned to itself
//! ┌────────────────────┬─────────────────────────────────────────┐
//! │ counts, 4 bytes    │ variables, 16 bytes                     │
//! └────────────────────┴─────────────────────────────────────────┘
//! ```
//!
//! 1. A thread takes variables from a list of its own, else from the shared one, else from its newest block in the order of addresses, so that
//!    variables made one after the other stand side by side.
//! 2. A free variable's word leads to the next free one.
//! 3. Whoever frees many that others have made hands them to the shared list in batches.
//! 4. A block is never given back to the system: the most variables that were ever alive are what stays.
#![expect(unsafe_code, reason = "hands out raw memory")]

use std::alloc::{Layout, alloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::header::FRESH;

/// A versioned word.
#[repr(C, align(16))]
pub(crate) struct Variable {
    pub(crate) header: AtomicU64,
    pub(crate) word: AtomicU64,
}

/// The size and the alignment of a block.
const BLOCK: usize = 1 << 16;
/// Variables in a block.
const ROOM: usize = BLOCK / (size_of::<Variable>() + size_of::<AtomicU32>()) / 4 * 4;
/// Bytes of the counts.
const COUNTS: usize = ROOM * size_of::<AtomicU32>();
/// How many variables go to the shared list at a time.
const BATCH: usize = 256;
/// More handles than this to one variable are a leak that would soon make the count wrong.
const MOST_HANDLES: u32 = u32::MAX / 2;

const _: () = assert!(COUNTS.is_multiple_of(size_of::<Variable>()) && COUNTS + ROOM * size_of::<Variable>() <= BLOCK);

/// Free variables, linked through their words.
#[derive(Clone, Copy)]
struct List {
    first: *mut Variable,
    length: usize,
}

// SAFETY: nobody but the list's holder knows what is in it.
unsafe impl Send for List {}

impl List {
    const EMPTY: List = List { first: ptr::null_mut(), length: 0 };

    fn push(&mut self, variable: NonNull<Variable>) {
        // SAFETY: the variable is free, so the list is its only user. Relaxed: lists change hands under a mutex.
        unsafe { variable.as_ref() }.word.store(self.first.expose_provenance() as u64, Ordering::Relaxed);
        self.first = variable.as_ptr();
        self.length += 1;
    }

    fn pop(&mut self) -> Option<NonNull<Variable>> {
        let variable = NonNull::new(self.first)?;
        // SAFETY: as in `push`, which left the address there.
        let next = unsafe { variable.as_ref() }.word.load(Ordering::Relaxed);
        self.first = ptr::with_exposed_provenance_mut(next as usize);
        self.length -= 1;
        Some(variable)
    }

    /// Takes a batch off, or all there is.
    fn split(&mut self) -> List {
        let mut batch = List::EMPTY;
        while batch.length < BATCH
            && let Some(variable) = self.pop()
        {
            batch.push(variable);
        }
        batch
    }
}

/// Part of a block that has never been used.
#[derive(Clone, Copy)]
struct Unused {
    next: *mut Variable,
    count: usize,
}

// SAFETY: as for `List`.
unsafe impl Send for Unused {}

impl Unused {
    const NONE: Unused = Unused { next: ptr::null_mut(), count: 0 };
}

/// What a thread has at hand.
struct Local {
    free: Cell<List>,
    unused: Cell<Unused>,
}

impl Local {
    const fn new() -> Self {
        Local { free: Cell::new(List::EMPTY), unused: Cell::new(Unused::NONE) }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let (mut free, unused) = (self.free.replace(List::EMPTY), self.unused.replace(Unused::NONE));
        let mut shared = SHARED.lock();
        while free.length > 0 {
            shared.lists.push(free.split());
        }
        if unused.count > 0 {
            shared.unused.push(unused);
        }
    }
}

thread_local! {
    static LOCAL: Local = const { Local::new() };
}

/// What threads that had too many or have ended left.
struct Shared {
    /// At most a batch each.
    lists: Vec<List>,
    unused: Vec<Unused>,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { lists: Vec::new(), unused: Vec::new() });

/// A variable that nobody else knows, with one handle.
pub(crate) fn allocate(word: u64) -> NonNull<Variable> {
    let variable = LOCAL.try_with(take).unwrap_or_else(|_| {
        // The thread is ending: it keeps nothing.
        take(&Local::new())
    });
    // SAFETY: it was free. Relaxed: whoever publishes the handle publishes this as well.
    let at = unsafe { variable.as_ref() };
    at.header.store(FRESH, Ordering::Relaxed);
    at.word.store(word, Ordering::Relaxed);
    count(variable).store(1, Ordering::Relaxed);
    variable
}

fn take(local: &Local) -> NonNull<Variable> {
    let mut free = local.free.get();
    if free.length == 0 && local.unused.get().count == 0 {
        let mut shared = SHARED.lock();
        match shared.lists.pop() {
            Some(list) => free = list,
            None => local.unused.set(shared.unused.pop().unwrap_or_else(new_block)),
        }
    }
    let taken = free.pop();
    local.free.set(free);
    taken.unwrap_or_else(|| {
        let Unused { next, count } = local.unused.get();
        // SAFETY: there is one, since there was no other; it lies in a block of which nobody else uses this part.
        unsafe {
            local.unused.set(Unused { next: next.add(1), count: count - 1 });
            initialise(next)
        }
    })
}

/// Makes a variable of memory that has never been one.
///
/// # Safety
/// It lies in a block and nobody else uses it.
unsafe fn initialise(at: *mut Variable) -> NonNull<Variable> {
    // SAFETY: by the caller's promise.
    unsafe {
        at.write(Variable { header: AtomicU64::new(FRESH), word: AtomicU64::new(0) });
        let variable = NonNull::new_unchecked(at);
        count_address(variable).write(AtomicU32::new(0));
        variable
    }
}

#[cold]
fn new_block() -> Unused {
    let layout = Layout::from_size_align(BLOCK, BLOCK).expect("a power of two is an alignment");
    // SAFETY: the size is not zero.
    let block = unsafe { alloc(layout) };
    if block.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: within the block.
    Unused { next: unsafe { block.add(COUNTS) }.cast(), count: ROOM }
}

fn count_address(variable: NonNull<Variable>) -> *mut AtomicU32 {
    let variable = variable.as_ptr().cast::<u8>();
    let within = variable.addr() % BLOCK;
    let index = (within - COUNTS) / size_of::<Variable>();
    // SAFETY: the block begins that many bytes before the variable, and its counts at its beginning.
    unsafe { variable.sub(within).cast::<AtomicU32>().add(index) }
}

/// The number of handles to a variable.
fn count<'a>(variable: NonNull<Variable>) -> &'a AtomicU32 {
    // SAFETY: initialised with the variable, and blocks stay.
    unsafe { &*count_address(variable) }
}

/// One more handle.
pub(crate) fn add_handle(variable: NonNull<Variable>) {
    // Relaxed: a new handle is made from an existing one.
    if count(variable).fetch_add(1, Ordering::Relaxed) >= MOST_HANDLES {
        std::process::abort();
    }
}

/// One handle less; whether it was the last.
#[must_use]
pub(crate) fn drop_handle(variable: NonNull<Variable>) -> bool {
    // Release pairs with the acquire fence: what was done through other handles happens before the variable is retired.
    let last = count(variable).fetch_sub(1, Ordering::Release) == 1;
    if last {
        std::sync::atomic::fence(Ordering::Acquire);
    }
    last
}

/// Gives a variable back.
///
/// # Safety
/// It came from [`allocate`], and neither a handle nor a transaction knows it any more.
pub(crate) unsafe fn free(variable: NonNull<Variable>) {
    let given = LOCAL.try_with(|local| {
        let mut free = local.free.get();
        if free.length >= 2 * BATCH {
            SHARED.lock().lists.push(free.split());
        }
        free.push(variable);
        local.free.set(free);
    });
    if given.is_err() {
        let mut single = List::EMPTY;
        single.push(variable);
        SHARED.lock().lists.push(single);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn variables_made_one_after_the_other_stand_side_by_side() {
        let made: Vec<_> = std::thread::spawn(|| (0..100).map(|word| allocate(word).addr().get()).collect::<Vec<_>>())
            .join()
            .expect("no panic");
        let adjacent = made.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == size_of::<Variable>()).count();
        // Free variables that another test has left may come first.
        assert!(adjacent >= 90, "{adjacent} of 99");
    }

    #[test]
    fn no_two_variables_share_memory_or_a_count() {
        let threads: Vec<_> = (0..4_u64)
            .map(|thread| {
                std::thread::spawn(move || {
                    let mut alive = Vec::new();
                    for round in 0..20_000_u64 {
                        let variable = allocate(thread << 32 | round);
                        add_handle(variable);
                        alive.push((variable, thread << 32 | round));
                        if round % 3 != 0 {
                            let (variable, word) = alive.swap_remove(round as usize * 7 % alive.len());
                            // SAFETY: it is alive and this thread's own.
                            assert_eq!(unsafe { variable.as_ref() }.word.load(Ordering::Relaxed), word);
                            assert!(!drop_handle(variable));
                            assert!(drop_handle(variable));
                            // SAFETY: nobody else knows it.
                            unsafe { free(variable) };
                        }
                    }
                    alive.into_iter().map(|(variable, word)| (variable.addr().get(), word)).collect::<Vec<_>>()
                })
            })
            .collect();
        let alive: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        let distinct: HashSet<usize> = alive.iter().map(|(address, _)| *address).collect();
        assert_eq!(distinct.len(), alive.len());
        for (address, word) in alive {
            let variable = NonNull::new(ptr::with_exposed_provenance_mut::<Variable>(address)).expect("not null");
            // SAFETY: it is alive.
            assert_eq!(unsafe { variable.as_ref() }.word.load(Ordering::Relaxed), word);
        }
    }

    #[test]
    fn what_was_freed_is_used_again() {
        std::thread::spawn(|| {
            let first: HashSet<usize> = (0..1000).map(|_| allocate(0)).map(|variable| variable.addr().get()).collect();
            for &address in &first {
                let variable = NonNull::new(ptr::with_exposed_provenance_mut::<Variable>(address)).expect("not null");
                // SAFETY: made above, known to nobody else.
                unsafe { free(variable) };
            }
            // The thread keeps at least a batch of them.
            assert!((0..BATCH).all(|_| first.contains(&allocate(0).addr().get())));
        })
        .join()
        .expect("no panic");
    }
}
