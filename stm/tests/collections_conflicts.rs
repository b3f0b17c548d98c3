//! Which operations on the collections conflict, and which do not.
//!
//! A test of its own in a process of its own: a counter's additions do not conflict unless there are more threads than summands, and
//! other tests have threads.

use std::thread;

use optimist_stm::collections::{TCounter, TMap, TOrderedMap, TQueue, TVec};
use optimist_stm::{Kind, Result, TVar, Tx, atomically, lease};

/// Runs `other` to its end on another thread in the middle of `first`, and says how often `first` was attempted: more than once if the
/// two conflict.
fn attempts<T, U>(first: impl Fn(&mut Tx<'_>) -> Result<T>, other: impl Fn(&mut Tx<'_>) -> Result<U> + Sync) -> u32 {
    let mut attempts = 0;
    // Also writes something that nobody else knows: a transaction that only reads may commit as of its beginning.
    let mark = TVar::new(0);
    atomically(|tx| {
        attempts += 1;
        mark.set(tx, 1)?;
        first(tx)?;
        if attempts == 1 {
            thread::scope(|scope| {
                scope.spawn(|| atomically(|tx| other(tx).map(|_| ())));
            });
        }
        Ok(())
    });
    attempts
}

#[test]
fn independent_operations_do_not_conflict_and_dependent_ones_do() {
    // A protocol that keeps writes back, so that the second transaction never waits for the first.
    let _lease = lease(Kind::Tl2);
    let (map, ordered, queue, vector) = (TMap::new(), TOrderedMap::new(), TQueue::new(), TVec::new());
    let counter = TCounter::new(0);
    for n in 0..1000_u64 {
        atomically(|tx| {
            map.insert(tx, n, n)?;
            queue.push(tx, n)?;
            vector.push(tx, n)?;
            ordered.insert(tx, n, n)
        });
    }
    let add = |old: Option<&u64>| old.map_or(0, |n| n + 1);

    assert_eq!(attempts(|tx| map.update(tx, 1, add), |tx| map.update(tx, 2, add)), 1);
    assert_eq!(attempts(|tx| map.update(tx, 1, add), |tx| map.update(tx, 1, add)), 2);
    assert_eq!(attempts(|tx| map.contains_key(tx, &1), |tx| map.update(tx, 1, add)), 1);
    assert_eq!(attempts(|tx| map.contains_key(tx, &1), |tx| map.remove(tx, &1)), 2);
    assert_eq!(attempts(|tx| map.insert(tx, 5000, 0), |tx| map.len(tx)), 1);
    assert_eq!(attempts(|tx| map.len(tx), |tx| map.insert(tx, 5001, 0)), 2);
    // Growth conflicts with those at the slot that grows: with few others, however much grows.
    let grow = |tx: &mut Tx<'_>| (6000..6010).try_for_each(|key| map.insert(tx, key, 0).map(|_| ()));
    let disturbed = (100..200_u64).filter(|key| attempts(|tx| map.get(tx, key), grow) > 1).count();
    assert!(disturbed < 20, "growth elsewhere disturbed {disturbed} of 100 look-ups");

    assert_eq!(attempts(|tx| ordered.modify(tx, &7, |n| n + 1), |tx| ordered.modify(tx, &8, |n| n + 1)), 1);
    assert_eq!(attempts(|tx| ordered.modify(tx, &7, |n| n + 1), |tx| ordered.modify(tx, &7, |n| n + 1)), 2);
    assert_eq!(attempts(|tx| ordered.get(tx, &7), |tx| ordered.remove(tx, &900)), 1);
    assert_eq!(attempts(|tx| ordered.range(tx, 100..200), |tx| ordered.insert(tx, 900, 0)), 1);
    assert_eq!(attempts(|tx| ordered.range(tx, 100..200), |tx| ordered.remove(tx, &150)), 2);

    assert_eq!(attempts(|tx| queue.push(tx, 1), |tx| queue.pop(tx)), 1);
    assert_eq!(attempts(|tx| queue.pop(tx), |tx| queue.push(tx, 1)), 1);
    assert_eq!(attempts(|tx| queue.pop(tx), |tx| queue.pop(tx)), 2);
    // With one value left the ends still do not meet; with none they do, since the outcome depends on it.
    let short = TQueue::new();
    atomically(|tx| short.push(tx, 1));
    assert_eq!(attempts(|tx| short.push(tx, 2), |tx| short.pop(tx)), 1);
    assert_eq!(attempts(|tx| short.pop(tx), |tx| short.push(tx, 3)), 1);
    assert_eq!(atomically(|tx| short.values(tx)), [3]);
    atomically(|tx| short.clear(tx));
    assert_eq!(attempts(|tx| short.pop(tx), |tx| short.push(tx, 4)), 2);

    assert_eq!(attempts(|tx| vector.modify(tx, 7, |n| n + 1), |tx| vector.modify(tx, 8, |n| n + 1)), 1);
    assert_eq!(attempts(|tx| vector.modify(tx, 7, |n| n + 1), |tx| vector.modify(tx, 7, |n| n + 1)), 2);
    assert_eq!(attempts(|tx| vector.get(tx, 7), |tx| vector.push(tx, 8)), 1);
    assert_eq!(attempts(|tx| vector.push(tx, 7), |tx| vector.push(tx, 8)), 2);

    assert_eq!(attempts(|tx| counter.add(tx, 1), |tx| counter.add(tx, 1)), 1);
    assert_eq!(attempts(|tx| counter.get(tx), |tx| counter.add(tx, 1)), 2);
}
