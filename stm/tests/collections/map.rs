//! The hash map against `HashMap`.

use std::collections::HashMap;

use optimist_stm::collections::TMap;
use optimist_stm::{Tx, atomically, read_only};

use crate::model::{Random, Subject, against_model, rounds};

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
        Some(value) if value.len().is_multiple_of(2) => None,
        Some(value) => Some(format!("{value}!!")),
    }
}

fn kept(key: u64, value: &str) -> bool {
    !(key + value.len() as u64).is_multiple_of(3)
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
            MapOp::Alter(key) => map.alter(tx, *key, altered).map(|()| None),
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

/// A key that equals nothing, not even its clone.
#[derive(Clone)]
struct Unequal;

impl std::hash::Hash for Unequal {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl PartialEq for Unequal {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Unequal {}

#[test]
#[should_panic(expected = "the key to be removed is there")]
fn a_key_that_does_not_equal_its_clone_is_noticed_when_it_is_to_be_removed() {
    let map = TMap::new();
    atomically(|tx| map.insert(tx, Unequal, 1));
    atomically(|tx| map.retain(tx, |_, _| false));
}
