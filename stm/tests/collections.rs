//! The collections against the standard library's, with random operations, failures, nested transactions and threads.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use optimist_stm::collections::TMap;
use optimist_stm::{Interrupt, Kind, TVar, Tx, atomically, lease, read_only, try_atomically};

/// A small generator, so that runs can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Transactions for each thread and protocol: more where they are cheap.
fn rounds(release: u64) -> u64 {
    if cfg!(debug_assertions) { release / 10 } else { release }
}

/// A structure, its operations, and the plain structure that says what they should return.
trait Subject: Sync {
    type Op: Clone + Send + std::fmt::Debug;
    type Outcome: PartialEq + Send + std::fmt::Debug;
    type Model: Default + Clone;

    fn op(&self, random: &mut Random) -> Self::Op;
    fn apply(&self, tx: &mut Tx<'_>, op: &Self::Op) -> optimist_stm::Result<Self::Outcome>;
    fn model(model: &mut Self::Model, op: &Self::Op) -> Self::Outcome;
    /// Compares the whole.
    fn agrees(&self, model: &Self::Model);
}

/// What one committed transaction did: its place in the order of commits, and each operation with its outcome.
type Committed<S> = (u64, Vec<(<S as Subject>::Op, <S as Subject>::Outcome)>);

/// Runs random transactions on several threads under each protocol. Each takes a number from a shared counter, which makes the order of
/// commits known; the committed ones are then repeated on the model in that order. Some fail as a whole, some have a nested
/// transaction that fails: neither may leave a trace.
fn against_model<S: Subject>(threads: u64, transactions: u64, fresh: impl Fn() -> S) {
    for &kind in Kind::ALL {
        let _lease = lease(kind);
        let subject = fresh();
        let numbers = TVar::new(0_u64);
        let log: Mutex<Vec<Committed<S>>> = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for seed in 1..=threads {
                let (subject, numbers, log) = (&subject, &numbers, &log);
                scope.spawn(move || {
                    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                    let mut mine = Vec::new();
                    for _ in 0..transactions {
                        let ops: Vec<S::Op> = (0..=random.below(4)).map(|_| subject.op(&mut random)).collect();
                        let lost: Vec<S::Op> = (0..random.below(3)).map(|_| subject.op(&mut random)).collect();
                        let fails = random.below(8) == 0;
                        let outcome = try_atomically(|tx| {
                            let mut outcomes = Vec::new();
                            for (at, op) in ops.iter().enumerate() {
                                outcomes.push((op.clone(), subject.apply(tx, op)?));
                                if at == 0 && !lost.is_empty() {
                                    let nested = tx.nested(|tx| {
                                        for op in &lost {
                                            subject.apply(tx, op)?;
                                        }
                                        Err::<(), _>(Interrupt::Error(()))
                                    })?;
                                    assert!(nested.is_err());
                                }
                            }
                            if fails {
                                return Err(Interrupt::Error(()));
                            }
                            let number = numbers.get(tx)?;
                            numbers.set(tx, number + 1)?;
                            Ok((number, outcomes))
                        });
                        assert_eq!(outcome.is_err(), fails);
                        mine.extend(outcome);
                    }
                    log.lock().unwrap().extend(mine);
                });
            }
        });
        let mut log = log.into_inner().unwrap();
        log.sort_by_key(|(number, _)| *number);
        let mut model = S::Model::default();
        for (number, outcomes) in log {
            for (op, outcome) in outcomes {
                assert_eq!(S::model(&mut model, &op), outcome, "{kind}: transaction {number}, {op:?}");
            }
        }
        subject.agrees(&model);
    }
}

#[derive(Clone, Debug)]
enum MapOp {
    Get(u64),
    Contains(u64),
    Insert(u64, String),
    Update(u64),
    Modify(u64),
    GetOrInsert(u64),
    Remove(u64),
    Len,
    Sum,
    Clear,
}

/// A hasher so bad that leaves overflow: all keys share all but two bits.
#[derive(Clone, Copy, Default)]
struct Colliding(u64);

impl std::hash::Hasher for Colliding {
    fn finish(&self) -> u64 {
        (self.0 & 3) << 60
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.wrapping_add(bytes.iter().map(|b| u64::from(*b)).sum());
    }
}

struct MapSubject<S: 'static> {
    map: TMap<u64, String, S>,
    keys: u64,
}

impl<S: std::hash::BuildHasher + Send + Sync + 'static> Subject for MapSubject<S> {
    type Op = MapOp;
    type Outcome = Option<String>;
    type Model = HashMap<u64, String>;

    fn op(&self, random: &mut Random) -> MapOp {
        let key = random.below(self.keys);
        match random.below(100) {
            0..20 => MapOp::Get(key),
            20..25 => MapOp::Contains(key),
            25..50 => MapOp::Insert(key, random.below(1000).to_string()),
            50..60 => MapOp::Update(key),
            60..65 => MapOp::Modify(key),
            65..70 => MapOp::GetOrInsert(key),
            70..95 => MapOp::Remove(key),
            95..98 => MapOp::Len,
            98 => MapOp::Sum,
            _ if random.below(20) == 0 => MapOp::Clear,
            _ => MapOp::Get(key),
        }
    }

    fn apply(&self, tx: &mut Tx<'_>, op: &MapOp) -> optimist_stm::Result<Option<String>> {
        let map = &self.map;
        match op {
            MapOp::Get(key) => map.get(tx, key),
            MapOp::Contains(key) => Ok(map.contains_key(tx, key)?.then(String::new)),
            MapOp::Insert(key, value) => map.insert(tx, *key, value.clone()),
            MapOp::Update(key) => {
                map.update(tx, *key, |value| value.map_or_else(|| "new".into(), |value| format!("{value}+")))?;
                Ok(None)
            }
            MapOp::Modify(key) => Ok(map.modify(tx, key, |value| format!("{value}*"))?.then(String::new)),
            MapOp::GetOrInsert(key) => map.get_or_insert_with(tx, *key, || "given".into()).map(Some),
            MapOp::Remove(key) => map.remove(tx, key),
            MapOp::Len => Ok(Some(map.len(tx)?.to_string())),
            MapOp::Sum => {
                let mut sum = 0;
                map.try_for_each(tx, |_, key, value| {
                    sum += *key + value.len() as u64;
                    Ok(())
                })?;
                Ok(Some(sum.to_string()))
            }
            MapOp::Clear => map.clear(tx).map(|()| None),
        }
    }

    fn model(model: &mut Self::Model, op: &MapOp) -> Option<String> {
        match op {
            MapOp::Get(key) => model.get(key).cloned(),
            MapOp::Contains(key) => model.contains_key(key).then(String::new),
            MapOp::Insert(key, value) => model.insert(*key, value.clone()),
            MapOp::Update(key) => {
                model.entry(*key).and_modify(|value| value.push('+')).or_insert_with(|| "new".into());
                None
            }
            MapOp::Modify(key) => model.get_mut(key).map(|value| {
                value.push('*');
                String::new()
            }),
            MapOp::GetOrInsert(key) => Some(model.entry(*key).or_insert_with(|| "given".into()).clone()),
            MapOp::Remove(key) => model.remove(key),
            MapOp::Len => Some(model.len().to_string()),
            MapOp::Sum => Some(model.iter().map(|(key, value)| key + value.len() as u64).sum::<u64>().to_string()),
            MapOp::Clear => {
                model.clear();
                None
            }
        }
    }

    fn agrees(&self, model: &Self::Model) {
        let entries: HashMap<u64, String> = read_only(|tx| self.map.entries(tx)).into_iter().collect();
        assert_eq!(&entries, model);
        assert_eq!(read_only(|tx| self.map.len(tx)), model.len());
        assert_eq!(read_only(|tx| self.map.is_empty(tx)), model.is_empty());
    }
}

#[test]
fn a_small_map_agrees_with_the_model() {
    against_model(4, rounds(20_000), || MapSubject { map: TMap::new(), keys: 20 });
}

#[test]
fn a_growing_map_agrees_with_the_model() {
    against_model(3, rounds(20_000), || MapSubject { map: TMap::new(), keys: 5000 });
}

#[test]
fn a_map_of_colliding_hashes_agrees_with_the_model() {
    against_model(3, rounds(10_000), || MapSubject {
        map: TMap::with_hasher(std::hash::BuildHasherDefault::<Colliding>::default()),
        keys: 100,
    });
}

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
fn independent_keys_of_a_map_do_not_conflict() {
    let _lease = lease(Kind::Eager);
    let map: TMap<u64, u64> = TMap::new();
    for key in 0..1000 {
        atomically(|tx| map.insert(tx, key, 0));
    }
    // One transaction changes a key while another is in the middle of changing a different one: if they shared an object, the
    // outer could not commit at its first attempt.
    let mut attempts = 0;
    atomically(|tx| {
        attempts += 1;
        map.update(tx, 1, |n| n.map_or(0, |n| n + 1))?;
        thread::scope(|scope| {
            scope.spawn(|| {
                for key in 2..1000 {
                    atomically(|tx| map.update(tx, key, |n| n.map_or(0, |n| n + 1)));
                }
                // Growth far away does not disturb either.
                for key in 10_000..10_010 {
                    atomically(|tx| map.insert(tx, key, 0));
                }
            });
        });
        map.get(tx, &1)
    });
    assert_eq!(attempts, 1);
}
