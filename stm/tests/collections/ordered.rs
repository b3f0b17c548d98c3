//! The ordered map against `BTreeMap`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use optimist_stm::collections::TOrderedMap;
use optimist_stm::{Tx, atomically, read_only};

use crate::model::{Random, Subject, against_model, rounds};

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
                map.alter(tx, *key, |value| {
                    value.map_or(Some(7), |value| (!value.is_multiple_of(3)).then_some(value + 1))
                })?;
                Vec::new()
            }
            OrderedOp::Retain => {
                map.retain(tx, |key, value| !(key + value).is_multiple_of(3))?;
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
                    Some(value) if !value.is_multiple_of(3) => model.insert(*key, value + 1),
                    Some(_) => model.remove(key),
                };
                Vec::new()
            }
            OrderedOp::Retain => {
                model.retain(|key, value| !(*key + *value).is_multiple_of(3));
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

/// A key that is greater than everything, even than its clone.
#[derive(Clone)]
struct Greater;

impl PartialEq for Greater {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Greater {}

impl PartialOrd for Greater {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Greater {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Greater
    }
}

#[test]
#[should_panic(expected = "the key to be removed is there")]
fn a_key_that_does_not_equal_its_clone_is_noticed_when_it_is_to_be_removed() {
    let map = TOrderedMap::new();
    atomically(|tx| map.insert(tx, Greater, 1));
    atomically(|tx| map.retain(tx, |_, _| false));
}
