//! The default protocol written out by hand, for one kind of number and nothing else: what the generic one must not be slower than.
//!
//! It makes the same steps as `eager` with its common clock: publish, snapshot, headers checked after the fields, locks at the first write with undo in
//! place, one stamp, validation only if others have committed, release, a look for waiters. It has no other protocol to share its code with, no
//! model checker, no values in boxes, no savepoints, no statistics but the count of commits, and it neither frees memory nor waits: what is
//! locked is tried again.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use super::{Access, Body, Side};

const LOCKED: u64 = 1 << 63;
const IDLE: u64 = u64::MAX;

#[repr(align(128))]
struct Padded<T>(T);

static CLOCK: Padded<AtomicU64> = Padded(AtomicU64::new(1));
static WATCHERS: Padded<AtomicU64> = Padded(AtomicU64::new(0));
static REGIME: Padded<AtomicU64> = Padded(AtomicU64::new(0));

#[repr(C, align(16))]
struct Number {
    header: AtomicU64,
    word: AtomicU64,
}

#[repr(C, align(32))]
struct Lock {
    number: *const Number,
    version: u64,
    old: u64,
}

/// A thread's slot, as others see it.
#[repr(C, align(128))]
struct Slot {
    active: AtomicU64,
    commits: AtomicU64,
    waiters: Padded<AtomicU64>,
}

#[repr(C)]
struct Descriptor {
    snapshot: u64,
    reads: *mut *const Number,
    reads_end: *mut *const Number,
    reads_start: *mut *const Number,
    locks: *mut Lock,
    locks_end: *mut Lock,
    locks_start: *mut Lock,
    owner: u64,
    slot: Slot,
}

/// Room in the logs; the largest transaction of the comparison has 1,001 reads.
const ROOM: usize = 4096;

thread_local! {
    static DESCRIPTOR: Cell<*mut Descriptor> = const { Cell::new(std::ptr::null_mut()) };
}

#[inline(always)]
fn descriptor() -> &'static mut Descriptor {
    let mut descriptor = DESCRIPTOR.get();
    if descriptor.is_null() {
        descriptor = new_descriptor();
        DESCRIPTOR.set(descriptor);
    }
    // SAFETY: the descriptor is this thread's own, and not borrowed outside of a transaction; nested ones are excluded next.
    let tx = unsafe { &mut *descriptor };
    assert!(tx.slot.active.load(Ordering::Relaxed) == IDLE, "a transaction within a transaction");
    tx
}

#[cold]
#[inline(never)]
fn new_descriptor() -> *mut Descriptor {
    static OWNERS: AtomicU64 = AtomicU64::new(0);
    let reads = Vec::leak(Vec::with_capacity(ROOM)).as_mut_ptr();
    let locks = Vec::leak(Vec::with_capacity(ROOM)).as_mut_ptr();
    let (reads, locks): (*mut *const Number, *mut Lock) = (reads, locks);
    Box::into_raw(Box::new(Descriptor {
        snapshot: 0,
        reads,
        // SAFETY: the end of the room.
        reads_end: unsafe { reads.add(ROOM) },
        reads_start: reads,
        locks,
        // SAFETY: as above.
        locks_end: unsafe { locks.add(ROOM) },
        locks_start: locks,
        owner: LOCKED | OWNERS.fetch_add(1, Ordering::Relaxed) << 48,
        slot: Slot { active: AtomicU64::new(IDLE), commits: AtomicU64::new(0), waiters: Padded(AtomicU64::new(0)) },
    }))
}

/// The attempt must be repeated.
pub struct Again;

struct Running<'a> {
    tx: &'a mut Descriptor,
    numbers: &'a [&'static Number],
}

struct ReadingOnly<'a> {
    snapshot: u64,
    numbers: &'a [&'static Number],
}

impl Access for ReadingOnly<'_> {
    type Abort = Again;

    #[inline(always)]
    fn get(&mut self, at: usize) -> Result<u64, Again> {
        let number = self.numbers[at];
        let value = number.word.load(Ordering::Acquire);
        if number.header.load(Ordering::Relaxed) <= self.snapshot { Ok(value) } else { Err(Again) }
    }

    fn set(&mut self, _: usize, _: u64) -> Result<(), Again> {
        panic!("a body that only reads has written");
    }
}

impl Access for Running<'_> {
    type Abort = Again;

    #[inline(always)]
    fn get(&mut self, at: usize) -> Result<u64, Again> {
        let number = self.numbers[at];
        let value = number.word.load(Ordering::Acquire);
        if number.header.load(Ordering::Relaxed) <= self.tx.snapshot {
            if self.tx.reads == self.tx.reads_end {
                full();
            }
            // SAFETY: there is room.
            unsafe {
                self.tx.reads.write(number);
                self.tx.reads = self.tx.reads.add(1);
            }
            return Ok(value);
        }
        read_slow(self.tx, number)
    }

    #[inline(always)]
    fn set(&mut self, at: usize, value: u64) -> Result<(), Again> {
        let number = self.numbers[at];
        loop {
            let seen = number.header.load(Ordering::Relaxed);
            if seen <= self.tx.snapshot {
                let lock = self.tx.owner | (self.tx.locks.addr() - self.tx.locks_start.addr()) as u64;
                if number.header.compare_exchange(seen, lock, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    if self.tx.locks == self.tx.locks_end {
                        full();
                    }
                    let old = number.word.load(Ordering::Relaxed);
                    // SAFETY: there is room.
                    unsafe {
                        self.tx.locks.write(Lock { number, version: seen, old });
                        self.tx.locks = self.tx.locks.add(1);
                    }
                    number.word.store(value, Ordering::Release);
                    return Ok(());
                }
            } else if seen & !0xFFFF_FFFF_FFFF == self.tx.owner {
                number.word.store(value, Ordering::Release);
                return Ok(());
            } else {
                extend(self.tx, seen)?;
            }
        }
    }
}

#[cold]
#[inline(never)]
fn full() -> ! {
    panic!("the logs of this comparison have a fixed size")
}

#[cold]
#[inline(never)]
fn read_slow(tx: &mut Descriptor, number: &Number) -> Result<u64, Again> {
    loop {
        let value = number.word.load(Ordering::Acquire);
        let seen = number.header.load(Ordering::Acquire);
        if seen & !0xFFFF_FFFF_FFFF == tx.owner {
            return Ok(value);
        }
        if seen <= tx.snapshot {
            // SAFETY: there is room: it was looked for by the caller, or the log is at most as long as the transaction.
            unsafe {
                tx.reads.write(number);
                tx.reads = tx.reads.add(1);
            }
            return Ok(value);
        }
        extend(tx, seen)?;
    }
}

#[cold]
#[inline(never)]
fn extend(tx: &mut Descriptor, seen: u64) -> Result<(), Again> {
    if seen & LOCKED != 0 {
        return Err(Again);
    }
    let now = CLOCK.0.load(Ordering::Acquire);
    if !reads_hold(tx) {
        return Err(Again);
    }
    tx.snapshot = now;
    Ok(())
}

fn reads_hold(tx: &Descriptor) -> bool {
    let mut at = tx.reads_start;
    while at != tx.reads {
        // SAFETY: within the log, whose numbers outlive the transaction.
        let header = unsafe { &**at }.header.load(Ordering::Relaxed);
        if header > tx.snapshot && header & !0xFFFF_FFFF_FFFF != tx.owner {
            return false;
        }
        // SAFETY: not beyond the end.
        at = unsafe { at.add(1) };
    }
    true
}

#[inline(never)]
fn commit_writes(tx: &mut Descriptor) -> Result<(), Again> {
    let before = CLOCK.0.fetch_add(1, Ordering::AcqRel);
    if before != tx.snapshot && !reads_hold(tx) {
        return Err(Again);
    }
    let mut at = tx.locks_start;
    while at != tx.locks {
        // SAFETY: within the log.
        unsafe {
            (*(*at).number).header.store(before + 1, Ordering::Release);
            at = at.add(1);
        }
    }
    compiler_fence(Ordering::SeqCst);
    if WATCHERS.0.load(Ordering::Relaxed) != 0 || tx.slot.waiters.0.load(Ordering::Relaxed) != 0 {
        full();
    }
    tx.locks = tx.locks_start;
    Ok(())
}

#[cold]
#[inline(never)]
fn roll_back(tx: &mut Descriptor) {
    let mut at = tx.locks;
    while at != tx.locks_start {
        // SAFETY: within the log.
        unsafe {
            at = at.sub(1);
            (*(*at).number).word.store((*at).old, Ordering::Release);
        }
    }
    if tx.locks != tx.locks_start {
        let version = CLOCK.0.fetch_add(1, Ordering::AcqRel) + 1;
        while at != tx.locks {
            // SAFETY: within the log.
            unsafe {
                (*(*at).number).header.store(version, Ordering::Release);
                at = at.add(1);
            }
        }
    }
    tx.locks = tx.locks_start;
    tx.reads = tx.reads_start;
    tx.slot.active.store(IDLE, Ordering::Release);
    spin_loop();
}

/// A vector of handles, as of `TVar`s, to numbers that stand side by side and are never freed.
pub struct ByHand(Vec<&'static Number>);

impl Side for ByHand {
    fn new(size: usize, value: u64) -> Self {
        let numbers: Vec<Number> =
            (0..size).map(|_| Number { header: AtomicU64::new(1), word: AtomicU64::new(value) }).collect();
        ByHand(Vec::leak(numbers).iter().collect())
    }

    fn name() -> String {
        "eager by hand".into()
    }

    #[inline(always)]
    fn update<B: Body>(&self, body: &B) -> u64 {
        let tx = descriptor();
        loop {
            let now = CLOCK.0.load(Ordering::Acquire);
            tx.slot.active.store(now, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
            if REGIME.0.load(Ordering::Relaxed) != 0 {
                full();
            }
            tx.snapshot = now;
            let outcome = body.run(&mut Running { tx, numbers: &self.0 });
            if let Ok(value) = outcome
                && (tx.locks == tx.locks_start || commit_writes(tx).is_ok())
            {
                tx.reads = tx.reads_start;
                let commits = &tx.slot.commits;
                commits.store(commits.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                tx.slot.active.store(IDLE, Ordering::Release);
                return value;
            }
            roll_back(tx);
        }
    }

    #[inline(always)]
    fn read_only<B: Body>(&self, body: &B) -> u64 {
        let tx = descriptor();
        loop {
            let now = CLOCK.0.load(Ordering::Acquire);
            tx.slot.active.store(now, Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
            let outcome = body.run(&mut ReadingOnly { snapshot: now, numbers: &self.0 });
            tx.slot.active.store(IDLE, Ordering::Release);
            if let Ok(value) = outcome {
                let commits = &tx.slot.commits;
                commits.store(commits.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                return value;
            }
            spin_loop();
        }
    }
}
