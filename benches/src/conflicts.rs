//! How often two operations conflict: each collection against the standard one in a single `TVar`.
//!
//! The rate is *logical*: it does not depend on the machine. One transaction runs its operation; before it commits, another one runs and
//! commits on a second thread; then the first tries to commit. The share of trials in which it cannot is the probability that
//! two operations in flight conflict. Writes are kept back meanwhile (`tl2`), so that the second never has to wait for the first.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::mpsc;

use optimist_stm::collections::{TCounter, TMap, TOrderedMap, TQueue, TSet, TVec};
use optimist_stm::{Kind, Result, TVar, Tx, atomically, lease};
use serde_json::{Value, json};

use crate::workloads::mix;

/// Keys, values, elements.
const SIZE: usize = 1000;
const TRIALS: u64 = 2000;

type Operation = Box<dyn Fn(&mut Tx<'_>, u64) -> Result<()> + Send + Sync>;

/// A structure and an operation on it, which depends on a seed.
struct Subject {
    name: &'static str,
    operation: &'static str,
    parts: Operation,
    naive: Operation,
}

/// Measures all, prints a table and returns it.
pub(crate) fn measure() -> Value {
    println!("\n## conflicts: probability that two operations in flight conflict\n");
    println!("| structure | operation, on {SIZE} keys | in parts | in one `TVar` |\n|---|---|---|---|");
    let mut rows = serde_json::Map::new();
    let _lease = lease(Kind::Tl2);
    for subject in subjects() {
        let (parts, naive) = (rate(&subject.parts), rate(&subject.naive));
        println!("| {} | {} | {:.1} % | {:.1} % |", subject.name, subject.operation, parts * 100.0, naive * 100.0);
        let row = json!({ "operation": subject.operation, "in_parts": parts, "in_one_tvar": naive, "trials": TRIALS });
        rows.insert(subject.name.into(), row);
    }
    Value::Object(rows)
}

fn rate(operation: &Operation) -> f64 {
    let (ask, asked) = mpsc::channel::<u64>();
    let (answer, answered) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for seed in asked {
                atomically(|tx| operation(tx, seed));
                if answer.send(()).is_err() {
                    break;
                }
            }
        });
        let mut conflicts = 0;
        for trial in 0..TRIALS {
            let mut attempts = 0;
            // Also writes something that nobody else knows: a transaction that only reads may commit as of its beginning.
            let mark = TVar::new(0);
            atomically(|tx| {
                mark.set(tx, 1)?;
                operation(tx, trial * 2)?;
                attempts += 1;
                if attempts == 1 {
                    ask.send(trial * 2 + 1).expect("the other thread listens");
                    answered.recv().expect("the other thread answers");
                }
                Ok(())
            });
            conflicts += u64::from(attempts > 1);
        }
        drop(ask);
        conflicts as f64 / TRIALS as f64
    })
}

/// What the operation with this seed does: its key, and a number from 0 to 99.
fn choose(seed: u64) -> (u64, usize) {
    (mix(seed, SIZE) as u64, mix(!seed, 100))
}

fn subjects() -> Vec<Subject> {
    let keys = || (0..SIZE as u64).filter(|key| key % 2 == 0);
    let mixed = "half look-ups, quarter insertions, quarter removals";
    vec![
        {
            let (map, naive) = (TMap::new(), TVar::new(keys().map(|key| (key, 0)).collect::<HashMap<u64, u64>>()));
            keys().for_each(|key| {
                atomically(|tx| map.insert(tx, key, 0));
            });
            Subject {
                name: "TMap",
                operation: mixed,
                parts: Box::new(move |tx, seed| match choose(seed) {
                    (key, 0..50) => map.get(tx, &key).map(drop),
                    (key, 50..75) => map.insert(tx, key, seed).map(drop),
                    (key, _) => map.remove(tx, &key).map(drop),
                }),
                naive: Box::new(move |tx, seed| match choose(seed) {
                    (key, 0..50) => naive.with(tx, |map| map.get(&key).copied()).map(drop),
                    (key, 50..75) => naive.modify(tx, |map| {
                        let mut map = map.clone();
                        map.insert(key, seed);
                        map
                    }),
                    (key, _) => naive.modify(tx, |map| {
                        let mut map = map.clone();
                        map.remove(&key);
                        map
                    }),
                }),
            }
        },
        {
            let (set, naive) = (TSet::new(), TVar::new(keys().collect::<HashSet<u64>>()));
            keys().for_each(|key| {
                atomically(|tx| set.insert(tx, key));
            });
            Subject {
                name: "TSet",
                operation: mixed,
                parts: Box::new(move |tx, seed| match choose(seed) {
                    (key, 0..50) => set.contains(tx, &key).map(drop),
                    (key, 50..75) => set.insert(tx, key).map(drop),
                    (key, _) => set.remove(tx, &key).map(drop),
                }),
                naive: Box::new(move |tx, seed| match choose(seed) {
                    (key, 0..50) => naive.with(tx, |set| set.contains(&key)).map(drop),
                    (key, 50..75) => naive.modify(tx, |set| {
                        let mut set = set.clone();
                        set.insert(key);
                        set
                    }),
                    (key, _) => naive.modify(tx, |set| {
                        let mut set = set.clone();
                        set.remove(&key);
                        set
                    }),
                }),
            }
        },
        {
            let map = TOrderedMap::new();
            let naive = TVar::new(keys().map(|key| (key, 0)).collect::<BTreeMap<u64, u64>>());
            keys().for_each(|key| {
                atomically(|tx| map.insert(tx, key, 0));
            });
            Subject {
                name: "TOrderedMap",
                operation: mixed,
                parts: Box::new(move |tx, seed| match choose(seed) {
                    (key, 0..50) => map.get(tx, &key).map(drop),
                    (key, 50..75) => map.insert(tx, key, seed).map(drop),
                    (key, _) => map.remove(tx, &key).map(drop),
                }),
                naive: Box::new(move |tx, seed| match choose(seed) {
                    (key, 0..50) => naive.with(tx, |map| map.get(&key).copied()).map(drop),
                    (key, 50..75) => naive.modify(tx, |map| {
                        let mut map = map.clone();
                        map.insert(key, seed);
                        map
                    }),
                    (key, _) => naive.modify(tx, |map| {
                        let mut map = map.clone();
                        map.remove(&key);
                        map
                    }),
                }),
            }
        },
        {
            let (queue, naive) = (TQueue::new(), TVar::new(keys().collect::<VecDeque<u64>>()));
            keys().for_each(|key| atomically(|tx| queue.push(tx, key)));
            Subject {
                name: "TQueue",
                operation: "half pushes, half pops",
                parts: Box::new(move |tx, seed| match choose(seed) {
                    (key, 0..50) => queue.push(tx, key),
                    _ => queue.pop(tx).map(drop),
                }),
                naive: Box::new(move |tx, seed| {
                    let (key, kind) = choose(seed);
                    naive.modify(tx, |queue| {
                        let mut queue = queue.clone();
                        if kind < 50 {
                            queue.push_back(key);
                        } else {
                            queue.pop_front();
                        }
                        queue
                    })
                }),
            }
        },
        {
            let (vector, naive) = (TVec::new(), TVar::new((0..SIZE as u64).collect::<Vec<u64>>()));
            (0..SIZE as u64).for_each(|key| {
                atomically(|tx| vector.push(tx, key));
            });
            Subject {
                name: "TVec",
                operation: "half look-ups, 48 % changes, 2 % pushes",
                parts: Box::new(move |tx, seed| match choose(seed) {
                    (at, 0..50) => vector.get(tx, at as usize).map(drop),
                    (at, 50..98) => vector.set(tx, at as usize, seed).map(drop),
                    _ => vector.push(tx, seed).map(drop),
                }),
                naive: Box::new(move |tx, seed| match choose(seed) {
                    (at, 0..50) => naive.with(tx, |vector| vector[at as usize]).map(drop),
                    (at, kind) => naive.modify(tx, |vector| {
                        let mut vector = vector.clone();
                        if kind < 98 {
                            vector[at as usize] = seed;
                        } else {
                            vector.push(seed);
                        }
                        vector
                    }),
                }),
            }
        },
        {
            let (counter, naive) = (TCounter::new(0), TVar::new(0_i64));
            Subject {
                name: "TCounter",
                operation: "additions",
                parts: Box::new(move |tx, _| counter.add(tx, 1)),
                naive: Box::new(move |tx, _| naive.modify(tx, |n| n + 1)),
            }
        },
    ]
}
