//! A steady transaction allocates nothing: its logs are those of the transactions before.
#![expect(unsafe_code, reason = "counts what goes through the allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use optimist_stm::collections::{TCounter, TMap, TOrderedMap, TVec};
use optimist_stm::{Kind, Result, TVar, Tx, TxLocal, atomically, irrevocably, lease, read_only};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending does not matter.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: by the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: u64 = 10_000;

/// Allocations for each call of `transaction`, once it has been called a few times.
fn allocations(transaction: impl Fn()) -> f64 {
    for _ in 0..100 {
        transaction();
    }
    let before = ALLOCATIONS.get();
    for _ in 0..ROUNDS {
        transaction();
    }
    (ALLOCATIONS.get() - before) as f64 / ROUNDS as f64
}

#[test]
fn a_steady_transaction_allocates_nothing() {
    let words: Vec<TVar<u64>> = (0..64).map(TVar::new).collect();
    let name = TVar::new(String::from("a value in a box"));
    let (counter, vector, map, ordered) = (TCounter::new(0), TVec::new(), TMap::new(), TOrderedMap::new());
    for key in 0..100_u64 {
        atomically(|tx| {
            vector.push(tx, key)?;
            ordered.insert(tx, key, key)?;
            map.insert(tx, key, key)
        });
    }
    let sum = |tx: &mut Tx<'_>| words.iter().try_fold(0_u64, |sum, word| Ok(sum + word.get(tx)?));
    let update = |tx: &mut Tx<'_>| -> Result<()> {
        let sum = sum(tx)?;
        for word in &words[..20] {
            word.set(tx, sum % 1000)?;
        }
        let _ = tx.or_else(
            |tx| {
                words[1].set(tx, 5)?;
                tx.retry::<()>()
            },
            |tx| words[30].modify(tx, |n| n + 1),
        )?;
        counter.add(tx, 1)?;
        vector.modify(tx, 7, |n| n + 1)?;
        ordered.modify(tx, &8, |n| n + 1)?;
        map.modify(tx, &9, |n| n + 1)?;
        Ok(())
    };
    for &kind in Kind::ALL {
        let _lease = lease(kind);
        assert_eq!(allocations(|| atomically(|_| Ok(()))), 0.0, "{kind}, empty");
        let read = || {
            read_only(|tx| {
                let length = name.with(tx, String::len)?;
                words.iter().try_fold(length as u64, |sum, word| Ok(sum + word.get(tx)?))
            });
        };
        assert_eq!(allocations(read), 0.0, "{kind}, read-only");
        // Versions of the history are allocated, kept and dropped by the batch.
        let allowed = if kind.info().readers_never_abort && kind != Kind::GlobalLock { 0.1 } else { 0.0 };
        let updates = allocations(|| atomically(update));
        assert!(updates <= allowed, "{kind}, update: {updates}");
        let irrevocable = allocations(|| irrevocably::<_, ()>(|tx| Ok(update(tx)?)).expect("no error"));
        assert!(irrevocable <= allowed, "{kind}, irrevocable: {irrevocable}");
        // A value that does not fit a word is one box.
        let boxed = allocations(|| atomically(|tx| name.set(tx, String::new())));
        assert!((1.0..1.1).contains(&boxed), "{kind}, boxed: {boxed}");
    }
    // What is used of hooks and locals is paid for, and the counter counts.
    static LOCAL: TxLocal<u64> = TxLocal::new(|| 0);
    assert!(
        allocations(|| atomically(|tx| {
            LOCAL.set(tx, 1);
            Ok(())
        })) >= 1.0
    );
}
