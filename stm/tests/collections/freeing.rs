//! What is removed, replaced or left over is freed, and once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use optimist_stm::collections::{TMap, TOrderedMap, TQueue, TVec};
use optimist_stm::{Interrupt, Kind, TVar, atomically, lease, try_atomically};

use crate::model::{Random, rounds};

/// A value that counts how many of its kind are alive.
struct Counted(&'static AtomicUsize);

impl Counted {
    fn new(live: &'static AtomicUsize) -> Self {
        live.fetch_add(1, Ordering::SeqCst);
        Counted(live)
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Counted::new(self.0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs transactions until everything retired has been freed.
fn assert_all_freed(live: &AtomicUsize) {
    let variable = TVar::new(String::new());
    let deadline = Instant::now() + Duration::from_secs(20);
    while live.load(Ordering::SeqCst) != 0 && Instant::now() < deadline {
        variable.store(String::from("x"));
    }
    assert_eq!(live.load(Ordering::SeqCst), 0);
}

#[test]
fn the_values_of_a_map_are_freed_exactly_once() {
    static LIVE: AtomicUsize = AtomicUsize::new(0);
    for &kind in Kind::ALL {
        let _lease = lease(kind);
        let map: TMap<u64, Counted> = TMap::new();
        thread::scope(|scope| {
            for seed in 1..4 {
                let map = &map;
                scope.spawn(move || {
                    let mut random = Random(seed * 77);
                    for _ in 0..rounds(20_000) {
                        let (a, b) = (random.below(300), random.below(300));
                        let fails = random.below(5) == 0;
                        let clears = random.below(500) == 0;
                        let _ = try_atomically(|tx| {
                            map.insert(tx, a, Counted::new(&LIVE))?;
                            tx.nested(|tx| {
                                map.insert(tx, b, Counted::new(&LIVE))?;
                                map.remove(tx, &a)?;
                                if fails { Err(Interrupt::Error(())) } else { Ok(()) }
                            })?
                            .ok();
                            if clears {
                                map.clear(tx)?;
                            }
                            if fails && b % 2 == 0 { Err(Interrupt::Error(())) } else { Ok(()) }
                        });
                    }
                });
            }
        });
        drop(map);
    }
    assert_all_freed(&LIVE);
}

#[test]
fn a_map_can_live_and_die_within_a_transaction() {
    static LIVE: AtomicUsize = AtomicUsize::new(0);
    for &kind in Kind::ALL {
        let _lease = lease(kind);
        let outcome = atomically(|tx| {
            let map = TMap::new();
            for key in 0..100 {
                map.insert(tx, key, Counted::new(&LIVE))?;
            }
            map.len(tx)
        });
        assert_eq!(outcome, 100);
    }
    assert_all_freed(&LIVE);
}

#[test]
fn the_nodes_of_queue_vector_and_ordered_map_are_freed_exactly_once() {
    static LIVE: AtomicUsize = AtomicUsize::new(0);
    for &kind in Kind::ALL {
        let _lease = lease(kind);
        let queue: TQueue<Counted> = TQueue::new();
        let vector: TVec<Counted> = TVec::new();
        let ordered: TOrderedMap<u64, Counted> = TOrderedMap::new();
        thread::scope(|scope| {
            for seed in 1..4 {
                let (queue, vector, ordered) = (&queue, &vector, &ordered);
                scope.spawn(move || {
                    let mut random = Random(seed * 77);
                    for _ in 0..rounds(10_000) {
                        let (key, other) = (random.below(500), random.below(500));
                        let (fails, takes, clears) =
                            (random.below(5) == 0, random.below(2) == 0, random.below(1000) == 0);
                        let _ = try_atomically(|tx| {
                            ordered.insert(tx, key, Counted::new(&LIVE))?;
                            tx.nested(|tx| {
                                queue.push(tx, Counted::new(&LIVE))?;
                                vector.push(tx, Counted::new(&LIVE))?;
                                ordered.remove(tx, &other)?;
                                ordered.insert(tx, other + 1000, Counted::new(&LIVE))?;
                                if takes {
                                    queue.pop(tx)?;
                                    vector.pop(tx)?;
                                }
                                if fails { Err(Interrupt::Error(())) } else { Ok(()) }
                            })?
                            .ok();
                            vector.set(tx, key as usize, Counted::new(&LIVE))?;
                            if clears {
                                ordered.clear(tx)?;
                            }
                            if fails && takes { Err(Interrupt::Error(())) } else { Ok(()) }
                        });
                    }
                });
            }
        });
    }
    assert_all_freed(&LIVE);
}
