//! The collections against the standard library's, with random operations, failures, nested transactions and threads.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use optimist_stm::collections::{TCounter, TMap, TOrderedMap, TQueue, TSet, TVec};
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
    Alter(u64),
    Remove(u64),
    Len,
    Sum,
    Retain,
    Clear,
}

/// Adds, changes, removes, or leaves alone what is not there.
fn altered(value: Option<&String>) -> Option<String> {
    match value {
        None => Some("altered".into()),
        Some(value) if value.len() % 2 == 0 => None,
        Some(value) => Some(format!("{value}!!")),
    }
}

fn kept(key: u64, value: &str) -> bool {
    (key + value.len() as u64) % 3 != 0
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
            70..75 => MapOp::Alter(key),
            75..95 => MapOp::Remove(key),
            95..98 => MapOp::Len,
            98 => MapOp::Sum,
            _ if random.below(20) == 0 => MapOp::Clear,
            _ if random.below(10) == 0 => MapOp::Retain,
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
            MapOp::Alter(key) => map.alter(tx, *key, |value| altered(value)).map(|()| None),
            MapOp::Retain => map.retain(tx, |key, value| kept(*key, value)).map(|()| None),
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
            MapOp::Alter(key) => {
                match altered(model.get(key)) {
                    Some(value) => model.insert(*key, value),
                    None => model.remove(key),
                };
                None
            }
            MapOp::Retain => {
                model.retain(|key, value| kept(*key, value));
                None
            }
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

#[derive(Clone, Debug)]
enum OrderedOp {
    Get(u64),
    Contains(u64),
    Insert(u64, u64),
    Update(u64),
    Modify(u64),
    Remove(u64),
    Range(u64, u64),
    First,
    Last,
    PopFirst,
    PopLast,
    InsertIfAbsent(u64),
    GetOrInsert(u64),
    Alter(u64),
    AtMost(u64, usize),
    Len,
    Retain,
    Clear,
}

struct OrderedSubject {
    map: TOrderedMap<u64, u64>,
    keys: u64,
}

impl Subject for OrderedSubject {
    type Op = OrderedOp;
    type Outcome = Vec<(u64, u64)>;
    type Model = BTreeMap<u64, u64>;

    fn op(&self, random: &mut Random) -> OrderedOp {
        let key = random.below(self.keys);
        match random.below(100) {
            0..15 => OrderedOp::Get(key),
            15..20 => OrderedOp::Contains(key),
            20..50 => OrderedOp::Insert(key, random.below(1000)),
            50..55 => OrderedOp::Update(key),
            55..60 => OrderedOp::Modify(key),
            60..63 => OrderedOp::Alter(key),
            63..66 => OrderedOp::InsertIfAbsent(key),
            66..69 => OrderedOp::GetOrInsert(key),
            69..80 => OrderedOp::Remove(key),
            80..84 => OrderedOp::Range(key, key + random.below(50)),
            84..86 => OrderedOp::First,
            86..88 => OrderedOp::Last,
            88..91 => OrderedOp::PopFirst,
            91..93 => OrderedOp::PopLast,
            93..96 => OrderedOp::AtMost(key, random.below(20) as usize + 1),
            96..99 => OrderedOp::Len,
            _ if random.below(20) == 0 => OrderedOp::Clear,
            _ if random.below(10) == 0 => OrderedOp::Retain,
            _ => OrderedOp::Get(key),
        }
    }

    fn apply(&self, tx: &mut Tx<'_>, op: &OrderedOp) -> optimist_stm::Result<Self::Outcome> {
        let map = &self.map;
        let one = |key: &u64, value: Option<u64>| value.map(|value| (*key, value)).into_iter().collect();
        Ok(match op {
            OrderedOp::Get(key) => one(key, map.get(tx, key)?),
            OrderedOp::Contains(key) => one(key, map.contains_key(tx, key)?.then_some(0)),
            OrderedOp::Insert(key, value) => one(key, map.insert(tx, *key, *value)?),
            OrderedOp::Update(key) => {
                map.update(tx, *key, |value| value.map_or(1, |value| value + 1))?;
                Vec::new()
            }
            OrderedOp::Modify(key) => one(key, map.modify(tx, key, |value| value * 2)?.then_some(0)),
            OrderedOp::Remove(key) => one(key, map.remove(tx, key)?),
            OrderedOp::Range(low, high) => map.range(tx, *low..*high)?,
            OrderedOp::First => map.first(tx)?.into_iter().collect(),
            OrderedOp::Last => map.last(tx)?.into_iter().collect(),
            OrderedOp::PopFirst => map.pop_first(tx)?.into_iter().collect(),
            OrderedOp::PopLast => map.pop_last(tx)?.into_iter().collect(),
            OrderedOp::InsertIfAbsent(key) => one(key, map.insert_if_absent(tx, *key, 5)?.then_some(0)),
            OrderedOp::GetOrInsert(key) => one(key, Some(map.get_or_insert_with(tx, *key, || 6)?)),
            OrderedOp::Alter(key) => {
                map.alter(tx, *key, |value| value.map_or(Some(7), |value| (value % 3 != 0).then_some(value + 1)))?;
                Vec::new()
            }
            OrderedOp::Retain => {
                map.retain(tx, |key, value| (key + value) % 3 != 0)?;
                Vec::new()
            }
            OrderedOp::AtMost(key, most) => {
                let mut seen = Vec::new();
                map.visit(tx, (std::ops::Bound::Excluded(*key), std::ops::Bound::Unbounded), |_, key, value| {
                    seen.push((*key, *value));
                    Ok(seen.len() < *most)
                })?;
                seen
            }
            OrderedOp::Len => vec![(map.len(tx)? as u64, u64::from(map.is_empty(tx)?))],
            OrderedOp::Clear => {
                map.clear(tx)?;
                Vec::new()
            }
        })
    }

    fn model(model: &mut Self::Model, op: &OrderedOp) -> Self::Outcome {
        let one = |key: &u64, value: Option<u64>| value.map(|value| (*key, value)).into_iter().collect();
        match op {
            OrderedOp::Get(key) => one(key, model.get(key).copied()),
            OrderedOp::Contains(key) => one(key, model.contains_key(key).then_some(0)),
            OrderedOp::Insert(key, value) => one(key, model.insert(*key, *value)),
            OrderedOp::Update(key) => {
                *model.entry(*key).or_insert(0) += 1;
                Vec::new()
            }
            OrderedOp::Modify(key) => one(key, model.get_mut(key).map(|value| *value *= 2).map(|()| 0)),
            OrderedOp::Remove(key) => one(key, model.remove(key)),
            OrderedOp::Range(low, high) => model.range(*low..*high).map(|(k, v)| (*k, *v)).collect(),
            OrderedOp::First => model.first_key_value().map(|(k, v)| (*k, *v)).into_iter().collect(),
            OrderedOp::Last => model.last_key_value().map(|(k, v)| (*k, *v)).into_iter().collect(),
            OrderedOp::PopFirst => model.pop_first().into_iter().collect(),
            OrderedOp::PopLast => model.pop_last().into_iter().collect(),
            OrderedOp::InsertIfAbsent(key) => {
                let absent = !model.contains_key(key);
                model.entry(*key).or_insert(5);
                one(key, absent.then_some(0))
            }
            OrderedOp::GetOrInsert(key) => one(key, Some(*model.entry(*key).or_insert(6))),
            OrderedOp::Alter(key) => {
                match model.get(key) {
                    None => model.insert(*key, 7),
                    Some(value) if value % 3 != 0 => model.insert(*key, value + 1),
                    Some(_) => model.remove(key),
                };
                Vec::new()
            }
            OrderedOp::Retain => {
                model.retain(|key, value| (*key + *value) % 3 != 0);
                Vec::new()
            }
            OrderedOp::AtMost(key, most) => {
                let bounds = (std::ops::Bound::Excluded(*key), std::ops::Bound::Unbounded);
                model.range(bounds).take(*most).map(|(k, v)| (*k, *v)).collect()
            }
            OrderedOp::Len => vec![(model.len() as u64, u64::from(model.is_empty()))],
            OrderedOp::Clear => {
                model.clear();
                Vec::new()
            }
        }
    }

    fn agrees(&self, model: &Self::Model) {
        let entries = read_only(|tx| self.map.entries(tx));
        assert_eq!(entries, model.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
    }
}

#[test]
fn a_small_ordered_map_agrees_with_the_model() {
    against_model(4, rounds(15_000), || OrderedSubject { map: TOrderedMap::new(), keys: 30 });
}

#[test]
fn a_large_ordered_map_agrees_with_the_model() {
    against_model(3, rounds(20_000), || OrderedSubject { map: TOrderedMap::new(), keys: 20_000 });
}

#[test]
fn an_ordered_map_grows_and_shrinks_by_tens_of_thousands() {
    let map = TOrderedMap::new();
    let count = rounds(100_000);
    // Ascending, descending and mixed, removed in another order.
    for key in 0..count {
        atomically(|tx| map.insert(tx, key * 3, key));
    }
    for key in (0..count).rev() {
        atomically(|tx| map.insert(tx, key * 3 + 1, key));
    }
    for key in 0..count {
        atomically(|tx| map.insert(tx, (key * 7919 % count) * 3 + 2, key));
    }
    let entries = read_only(|tx| map.entries(tx));
    assert!(entries.iter().map(|entry| entry.0).eq(0..count * 3));
    for key in 0..count * 3 {
        let key = key * 7919 % (count * 3);
        assert!(atomically(|tx| map.remove(tx, &key)).is_some(), "{key}");
    }
    assert!(read_only(|tx| map.is_empty(tx)));
}

#[derive(Clone, Debug)]
enum QueueOp {
    Push(u64),
    Pop,
    First,
    Len,
    IsEmpty,
    Values,
    Clear,
}

struct QueueSubject(TQueue<String>);

impl Subject for QueueSubject {
    type Op = QueueOp;
    type Outcome = Vec<String>;
    type Model = VecDeque<String>;

    fn op(&self, random: &mut Random) -> QueueOp {
        match random.below(20) {
            0..8 => QueueOp::Push(random.below(1000)),
            8..16 => QueueOp::Pop,
            16 => QueueOp::First,
            17 => QueueOp::Len,
            18 => QueueOp::IsEmpty,
            _ if random.below(10) == 0 => QueueOp::Clear,
            _ => QueueOp::Values,
        }
    }

    fn apply(&self, tx: &mut Tx<'_>, op: &QueueOp) -> optimist_stm::Result<Vec<String>> {
        Ok(match op {
            QueueOp::Push(value) => {
                self.0.push(tx, value.to_string())?;
                Vec::new()
            }
            QueueOp::Pop => self.0.pop(tx)?.into_iter().collect(),
            QueueOp::First => self.0.with_first(tx, String::clone)?.into_iter().collect(),
            QueueOp::Len => vec![self.0.len(tx)?.to_string()],
            QueueOp::IsEmpty => vec![self.0.is_empty(tx)?.to_string()],
            QueueOp::Values => self.0.values(tx)?,
            QueueOp::Clear => {
                self.0.clear(tx)?;
                Vec::new()
            }
        })
    }

    fn model(model: &mut Self::Model, op: &QueueOp) -> Vec<String> {
        match op {
            QueueOp::Push(value) => {
                model.push_back(value.to_string());
                Vec::new()
            }
            QueueOp::Pop => model.pop_front().into_iter().collect(),
            QueueOp::First => model.front().cloned().into_iter().collect(),
            QueueOp::Len => vec![model.len().to_string()],
            QueueOp::IsEmpty => vec![model.is_empty().to_string()],
            QueueOp::Values => model.iter().cloned().collect(),
            QueueOp::Clear => {
                model.clear();
                Vec::new()
            }
        }
    }

    fn agrees(&self, model: &Self::Model) {
        assert!(read_only(|tx| self.0.values(tx)).iter().eq(model));
    }
}

#[test]
fn a_queue_agrees_with_the_model() {
    against_model(4, rounds(15_000), || QueueSubject(TQueue::new()));
}

#[test]
fn a_queue_hands_every_value_to_one_taker() {
    for &kind in Kind::ALL {
        let _lease = lease(kind);
        let queue = TQueue::new();
        let count = rounds(20_000);
        let taken = thread::scope(|scope| {
            let takers: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| (0..count).map(|_| atomically(|tx| queue.take(tx))).collect::<Vec<u64>>()))
                .collect();
            for giver in 0..2 {
                let queue = &queue;
                scope.spawn(move || (0..count).for_each(|n| atomically(|tx| queue.push(tx, n * 2 + giver))));
            }
            takers.into_iter().map(|taker| taker.join().unwrap()).collect::<Vec<_>>()
        });
        for giver in 0..2 {
            // Each taker sees the values of one giver in their order.
            assert!(taken.iter().all(|taken| taken.iter().filter(|n| *n % 2 == giver).is_sorted()), "{kind}");
        }
        let mut all: Vec<u64> = taken.into_iter().flatten().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..count * 2), "{kind}");
    }
}

#[derive(Clone, Debug)]
enum VectorOp {
    Push(u64),
    Pop,
    Get(usize),
    Set(usize, u64),
    Modify(usize),
    Swap(usize, usize),
    Truncate(usize),
    Len,
    Values,
}

struct VectorSubject(TVec<String>);

impl Subject for VectorSubject {
    type Op = VectorOp;
    type Outcome = Vec<String>;
    type Model = Vec<String>;

    fn op(&self, random: &mut Random) -> VectorOp {
        let index = random.below(200) as usize;
        match random.below(200) {
            0..51 => VectorOp::Push(random.below(1000)),
            51..100 => VectorOp::Pop,
            100..130 => VectorOp::Get(index),
            130..160 => VectorOp::Set(index, random.below(1000)),
            160..175 => VectorOp::Modify(index),
            175..182 => VectorOp::Swap(index, random.below(200) as usize),
            182 => VectorOp::Truncate(index),
            183..195 => VectorOp::Len,
            _ => VectorOp::Values,
        }
    }

    fn apply(&self, tx: &mut Tx<'_>, op: &VectorOp) -> optimist_stm::Result<Vec<String>> {
        Ok(match op {
            VectorOp::Push(value) => vec![self.0.push(tx, value.to_string())?.to_string()],
            VectorOp::Pop => self.0.pop(tx)?.into_iter().collect(),
            VectorOp::Get(index) => self.0.get(tx, *index)?.into_iter().collect(),
            VectorOp::Set(index, value) => vec![self.0.set(tx, *index, value.to_string())?.to_string()],
            VectorOp::Modify(index) => vec![self.0.modify(tx, *index, |value| format!("{value}."))?.to_string()],
            VectorOp::Swap(first, second) => vec![self.0.swap(tx, *first, *second)?.to_string()],
            VectorOp::Truncate(length) => {
                self.0.truncate(tx, *length)?;
                Vec::new()
            }
            VectorOp::Len => vec![self.0.len(tx)?.to_string(), self.0.is_empty(tx)?.to_string()],
            VectorOp::Values => self.0.values(tx)?,
        })
    }

    fn model(model: &mut Self::Model, op: &VectorOp) -> Vec<String> {
        match op {
            VectorOp::Push(value) => {
                model.push(value.to_string());
                vec![(model.len() - 1).to_string()]
            }
            VectorOp::Pop => model.pop().into_iter().collect(),
            VectorOp::Get(index) => model.get(*index).cloned().into_iter().collect(),
            VectorOp::Set(index, value) => {
                vec![model.get_mut(*index).map(|old| *old = value.to_string()).is_some().to_string()]
            }
            VectorOp::Modify(index) => vec![model.get_mut(*index).map(|old| old.push('.')).is_some().to_string()],
            VectorOp::Swap(first, second) => {
                let both = *first < model.len() && *second < model.len();
                if both {
                    model.swap(*first, *second);
                }
                vec![both.to_string()]
            }
            VectorOp::Truncate(length) => {
                model.truncate(*length);
                Vec::new()
            }
            VectorOp::Len => vec![model.len().to_string(), model.is_empty().to_string()],
            VectorOp::Values => model.clone(),
        }
    }

    fn agrees(&self, model: &Self::Model) {
        assert_eq!(&read_only(|tx| self.0.values(tx)), model);
    }
}

#[test]
fn a_vector_agrees_with_the_model() {
    against_model(4, rounds(8_000), || VectorSubject(TVec::new()));
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

#[test]
fn a_set_and_a_counter_agree_with_each_other() {
    for &kind in Kind::ALL {
        let _lease = lease(kind);
        let (set, counter) = (TSet::new(), TCounter::new(5));
        thread::scope(|scope| {
            for seed in 1..4 {
                let (set, counter) = (&set, &counter);
                scope.spawn(move || {
                    let mut random = Random(seed * 99);
                    for _ in 0..rounds(10_000) {
                        let (key, adds) = (random.below(200), random.below(2) == 0);
                        atomically(|tx| {
                            let changed = if adds { set.insert(tx, key)? } else { set.remove(tx, &key)? };
                            assert_eq!(set.contains(tx, &key)?, adds);
                            if changed { counter.add(tx, if adds { 1 } else { -1 }) } else { Ok(()) }
                        });
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..rounds(500) {
                    let (len, count) = read_only(|tx| Ok((set.len(tx)?, counter.get(tx)?)));
                    assert_eq!(len as i64 + 5, count, "{kind}");
                }
            });
        });
        assert_eq!(read_only(|tx| set.keys(tx)).len() as i64 + 5, read_only(|tx| counter.get(tx)));
        atomically(|tx| set.clear(tx));
        assert!(read_only(|tx| set.is_empty(tx)));
        atomically(|tx| counter.set(tx, 3));
        assert_eq!(read_only(|tx| counter.get(tx)), 3);
    }
}
