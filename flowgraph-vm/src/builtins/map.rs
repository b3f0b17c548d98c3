//! Maps: hash tries of versioned nodes.
//!
//! A map is its root node. A node has sixteen slots, one for each value of four bits of the key's hash, and a slot holds nothing, an
//! entry, or another node for the next four bits. An entry is an object of its own:
//!
//! ```text
//!   node:   slot 0 … slot 15
//!   entry:  value, key, next entry with the same hash, hash
//! ```
//!
//! Everything is an object with its own header, so that events meet only where they must: two that change different keys
//! share no entry; one that adds a key writes one node, which others have read only if their keys agree in all bits down to it; and
//! no word counts the entries, since that one would be written by all. `len` therefore walks the map.
//!
//! Only the value of an entry and the link to the next ever change. Nodes are not merged again when keys are removed.

use std::cmp::Ordering;

use super::access::{Access, Make};
use super::order;
use crate::barrier::Protocol;
use crate::flowgraph::fault::Fault;
use crate::heap::{Kind, Object};
use crate::interpreter::Trap;
use crate::value::Value;

const BITS: u32 = 4;
const SLOTS: usize = 1 << BITS;
/// The hash has so many bits that choose slots; entries that agree in all of them form a chain.
const HASH_BITS: u32 = 60;

/// The fields of an entry.
mod entry {
    pub(super) const VALUE: usize = 0;
    pub(super) const KEY: usize = 1;
    pub(super) const NEXT: usize = 2;
    pub(super) const HASH: usize = 3;
    pub(super) const FIELDS: usize = 4;
}

fn slot_of(hash: u64, depth: u32) -> usize {
    (hash >> (depth * BITS)) as usize & (SLOTS - 1)
}

fn hash_of(key: Value) -> u64 {
    // Kept in a field as a small integer.
    order::hash(key) & ((1 << HASH_BITS) - 1)
}

fn check_key(key: Value) -> Result<(), Trap> {
    if order::is_key(key) { Ok(()) } else { Err(Fault::NotAKey { kind: "not-a-number" }.into()) }
}

impl<P: Protocol> Access<'_, P> {
    pub(crate) fn new_map(&mut self) -> Object {
        let node = self.heap.allocate(Kind::Map, 0, SLOTS);
        (0..SLOTS).for_each(|slot| node.init(slot, Value::NONE));
        node
    }

    fn new_entry(&mut self, key: Value, value: Value, hash: u64) -> Object {
        let object = self.heap.allocate(Kind::Entry, 0, entry::FIELDS);
        object.init(entry::VALUE, value);
        object.init(entry::KEY, key);
        object.init(entry::NEXT, Value::NONE);
        object.init(entry::HASH, Value::small(hash as i64));
        object
    }

    /// The node whose slot for this hash holds no other node, that slot, and what it holds.
    fn descend(&mut self, map: Object, hash: u64) -> Result<(Object, u32, Value), Trap> {
        let (mut node, mut depth) = (map, 0);
        loop {
            let held = self.read(node, slot_of(hash, depth))?;
            match held.object_of(Kind::Map) {
                Some(inner) => (node, depth) = (inner, depth + 1),
                None => return Ok((node, depth, held)),
            }
        }
    }

    /// The entry of a key in a chain.
    fn in_chain(&mut self, mut held: Value, key: Value) -> Result<Option<Object>, Trap> {
        while let Some(found) = held.object() {
            // Keys never change.
            if order::equal(found.get(entry::KEY), key) {
                return Ok(Some(found));
            }
            held = self.read(found, entry::NEXT)?;
        }
        Ok(None)
    }

    fn find(&mut self, map: Object, key: Value) -> Result<Option<Object>, Trap> {
        check_key(key)?;
        let (_, _, held) = self.descend(map, hash_of(key))?;
        self.in_chain(held, key)
    }

    /// The value of a key.
    pub(crate) fn map_get(&mut self, map: Object, key: Value) -> Result<Option<Value>, Trap> {
        match self.find(map, key)? {
            Some(found) => self.read(found, entry::VALUE).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn map_has(&mut self, map: Object, key: Value) -> Result<bool, Trap> {
        Ok(self.find(map, key)?.is_some())
    }

    /// Sets the value of a key.
    pub(crate) fn map_set(&mut self, map: Object, key: Value, value: Value) -> Result<(), Trap> {
        check_key(key)?;
        let hash = hash_of(key);
        let (mut node, mut depth, held) = self.descend(map, hash)?;
        if let Some(found) = self.in_chain(held, key)? {
            return self.write(found, entry::VALUE, value);
        }
        let new = self.new_entry(key, value, hash);
        let Some(other) = held.object() else {
            return self.write(node, slot_of(hash, depth), new.value());
        };
        let other_hash = other.get(entry::HASH).int_unchecked() as u64;
        if other_hash == hash {
            new.init(entry::NEXT, held);
            return self.write(node, slot_of(hash, depth), new.value());
        }
        // The two agree so far: new nodes down to where they differ, linked in at last.
        let (place, slot) = (node, slot_of(hash, depth));
        let top = self.new_map();
        node = top;
        loop {
            depth += 1;
            let (mine, its) = (slot_of(hash, depth), slot_of(other_hash, depth));
            if mine != its {
                node.init(mine, new.value());
                node.init(its, held);
                break;
            }
            let inner = self.new_map();
            node.init(mine, inner.value());
            node = inner;
        }
        self.write(place, slot, top.value())
    }

    /// Takes a key out and gives its value.
    pub(crate) fn map_remove(&mut self, map: Object, key: Value) -> Result<Option<Value>, Trap> {
        check_key(key)?;
        let hash = hash_of(key);
        let (node, depth, held) = self.descend(map, hash)?;
        let Some(found) = self.in_chain(held, key)? else { return Ok(None) };
        let value = self.read(found, entry::VALUE)?;
        let next = self.read(found, entry::NEXT)?;
        let mut before = held.object().expect("the chain has an entry");
        if before == found {
            self.write(node, slot_of(hash, depth), next)?;
        } else {
            loop {
                let link = self.read(before, entry::NEXT)?.object().expect("the entry was found further on");
                if link == found {
                    break;
                }
                before = link;
            }
            self.write(before, entry::NEXT, next)?;
        }
        Ok(Some(value))
    }

    /// Calls `visit` with every entry, in no particular order.
    fn each_entry(&mut self, map: Object, visit: &mut dyn FnMut(Object)) -> Result<(), Trap> {
        let mut nodes = vec![map];
        while let Some(node) = nodes.pop() {
            for slot in 0..SLOTS {
                let mut held = self.read(node, slot)?;
                while let Some(object) = held.object() {
                    if object.meta().is(Kind::Map) {
                        nodes.push(object);
                        break;
                    }
                    visit(object);
                    held = self.read(object, entry::NEXT)?;
                }
            }
        }
        Ok(())
    }

    /// How many keys there are.
    pub(crate) fn map_len(&mut self, map: Object) -> Result<usize, Trap> {
        let mut count = 0;
        self.each_entry(map, &mut |_| count += 1)?;
        Ok(count)
    }

    /// The entries as keys and values, in the order of the keys; keys without an order come last, as they were found.
    pub(crate) fn map_items(
        &mut self,
        map: Object,
        symbols: &dyn Fn(u32) -> std::sync::Arc<str>,
    ) -> Result<Vec<(Value, Value)>, Trap> {
        let mut entries = Vec::new();
        self.each_entry(map, &mut |found| entries.push(found))?;
        // Keys that are mutable things have no order and come last, as they were found.
        let (mut ordered, others): (Vec<Object>, Vec<Object>) =
            entries.into_iter().partition(|found| order::is_ordered(found.get(entry::KEY)));
        ordered.sort_by(|a, b| {
            order::total_order(a.get(entry::KEY), b.get(entry::KEY), symbols).unwrap_or(Ordering::Equal)
        });
        ordered
            .into_iter()
            .chain(others)
            .map(|found| Ok((found.get(entry::KEY), self.read(found, entry::VALUE)?)))
            .collect()
    }

    /// Takes everything out.
    pub(crate) fn map_clear(&mut self, map: Object) -> Result<(), Trap> {
        for slot in 0..SLOTS {
            if self.read(map, slot)?.object().is_some() {
                self.write(map, slot, Value::NONE)?;
            }
        }
        Ok(())
    }

    /// The items as a list of lists.
    pub(crate) fn map_items_list(
        &mut self,
        map: Object,
        symbols: &dyn Fn(u32) -> std::sync::Arc<str>,
    ) -> Result<Value, Trap> {
        let items = self.map_items(map, symbols)?;
        let pairs: Vec<Value> = items.into_iter().map(|(key, value)| self.heap.make_list(&[key, value])).collect();
        Ok(self.heap.make_list(&pairs))
    }
}
