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

/// A subject whose operation is a function on each side, and the naive side a function on a plain value. `change` says whether an
/// operation writes: what only reads must not write the naive `TVar`.
fn subject<S, N>(
    name: &'static str,
    operation: &'static str,
    (parts, naive): (S, N),
    on_parts: impl Fn(&S, &mut Tx<'_>, u64) -> Result<()> + Send + Sync + 'static,
    change: impl Fn(u64) -> bool + Send + Sync + 'static,
    on_naive: impl Fn(&mut N, u64) + Send + Sync + 'static,
) -> Subject
where
    S: Send + Sync + 'static,
    N: Clone + Send + Sync + 'static,
{
    let naive = TVar::new(naive);
    Subject {
        name,
        operation,
        parts: Box::new(move |tx, seed| on_parts(&parts, tx, seed)),
        naive: Box::new(move |tx, seed| {
            if !change(seed) {
                return naive.with(tx, |_| ());
            }
            naive.modify(tx, |value| {
                let mut value = value.clone();
                on_naive(&mut value, seed);
                value
            })
        }),
    }
}

fn subjects() -> Vec<Subject> {
    let keys = || (0..SIZE as u64).filter(|key| key % 2 == 0);
    let mixed = "half look-ups, quarter insertions, quarter removals";
    let changes = |seed| choose(seed).1 >= 50;
    /// A structure filled within transactions.
    fn filled<S, K>(structure: S, keys: impl Iterator<Item = K>, add: impl Fn(&S, &mut Tx<'_>, &K) -> Result<()>) -> S {
        keys.for_each(|key| atomically(|tx| add(&structure, tx, &key)));
        structure
    }
    let map = filled(TMap::new(), keys(), |map, tx, key| map.insert(tx, *key, 0).map(drop));
    let ordered = filled(TOrderedMap::new(), keys(), |map, tx, key| map.insert(tx, *key, 0).map(drop));
    let set = filled(TSet::new(), keys(), |set, tx, key| set.insert(tx, *key).map(drop));
    let queue = filled(TQueue::new(), keys(), |queue, tx, key| queue.push(tx, *key));
    let vector = filled(TVec::new(), 0..SIZE as u64, |vector, tx, key| vector.push(tx, *key).map(drop));
    vec![
        subject(
            "TMap",
            mixed,
            (map, keys().map(|key| (key, 0)).collect::<HashMap<u64, u64>>()),
            |map, tx, seed| match choose(seed) {
                (key, 0..50) => map.get(tx, &key).map(drop),
                (key, 50..75) => map.insert(tx, key, seed).map(drop),
                (key, _) => map.remove(tx, &key).map(drop),
            },
            changes,
            |map, seed| match choose(seed) {
                (key, 0..75) => drop(map.insert(key, seed)),
                (key, _) => drop(map.remove(&key)),
            },
        ),
        subject(
            "TSet",
            mixed,
            (set, keys().collect::<HashSet<u64>>()),
            |set, tx, seed| match choose(seed) {
                (key, 0..50) => set.contains(tx, &key).map(drop),
                (key, 50..75) => set.insert(tx, key).map(drop),
                (key, _) => set.remove(tx, &key).map(drop),
            },
            changes,
            |set, seed| match choose(seed) {
                (key, 0..75) => drop(set.insert(key)),
                (key, _) => drop(set.remove(&key)),
            },
        ),
        subject(
            "TOrderedMap",
            mixed,
            (ordered, keys().map(|key| (key, 0)).collect::<BTreeMap<u64, u64>>()),
            |map, tx, seed| match choose(seed) {
                (key, 0..50) => map.get(tx, &key).map(drop),
                (key, 50..75) => map.insert(tx, key, seed).map(drop),
                (key, _) => map.remove(tx, &key).map(drop),
            },
            changes,
            |map, seed| match choose(seed) {
                (key, 0..75) => drop(map.insert(key, seed)),
                (key, _) => drop(map.remove(&key)),
            },
        ),
        subject(
            "TQueue",
            "half pushes, half pops",
            (queue, keys().collect::<VecDeque<u64>>()),
            |queue, tx, seed| match choose(seed) {
                (key, 0..50) => queue.push(tx, key),
                _ => queue.pop(tx).map(drop),
            },
            |_| true,
            |queue, seed| match choose(seed) {
                (key, 0..50) => queue.push_back(key),
                _ => drop(queue.pop_front()),
            },
        ),
        subject(
            "TQueue, short",
            "one pushes, the other pops",
            (filled(TQueue::new(), 0..1_u64, |queue, tx, key| queue.push(tx, *key)), VecDeque::from([0])),
            |queue, tx, seed| if seed % 2 == 0 { queue.push(tx, seed) } else { queue.pop(tx).map(drop) },
            |_| true,
            |queue, seed| match seed % 2 {
                0 => queue.push_back(seed),
                _ => drop(queue.pop_front()),
            },
        ),
        subject(
            "TVec",
            "half look-ups, 48 % changes, 2 % pushes",
            (vector, (0..SIZE as u64).collect::<Vec<u64>>()),
            |vector, tx, seed| match choose(seed) {
                (at, 0..50) => vector.get(tx, at as usize).map(drop),
                (at, 50..98) => vector.set(tx, at as usize, seed).map(drop),
                _ => vector.push(tx, seed).map(drop),
            },
            changes,
            |vector, seed| match choose(seed) {
                (at, 0..98) => vector[at as usize] = seed,
                _ => vector.push(seed),
            },
        ),
        subject(
            "TCounter",
            "additions",
            (TCounter::new(0), 0_i64),
            |counter, tx, _| counter.add(tx, 1),
            |_| true,
            |n, _| *n += 1,
        ),
    ]
}
