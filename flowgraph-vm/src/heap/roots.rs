//! Roots: values held from outside the virtual machine's own stacks.
//!
//! Every thread has a table of its own (a [`RootShard`]), so that threads which queue and run events do not meet; a root may be
//! dropped on another thread, which then takes that table's lock.

use std::sync::Arc;

use parking_lot::Mutex;

use super::object::Object;
use crate::value::Value;

#[derive(Default)]
struct Slots {
    values: Vec<Value>,
    free: Vec<u32>,
}

/// The roots made by one thread.
#[derive(Default)]
pub(crate) struct RootShard(Mutex<Slots>);

impl RootShard {
    pub(crate) fn root(self: &Arc<Self>, value: Value) -> Root {
        if value.object().is_none() {
            return Root { value, place: None };
        }
        let mut slots = self.0.lock();
        let slot = match slots.free.pop() {
            Some(slot) => {
                slots.values[slot as usize] = value;
                slot
            }
            None => {
                slots.values.push(value);
                (slots.values.len() - 1) as u32
            }
        };
        Root { value, place: Some((self.clone(), slot)) }
    }

    pub(crate) fn objects(&self, visit: &mut dyn FnMut(Object)) {
        self.0.lock().values.iter().filter_map(|value| value.object()).for_each(visit);
    }
}

/// A value that stays good until this is dropped.
///
/// Numbers, symbols and `none` cost nothing to root; an object takes a place in its thread's table.
pub struct Root {
    value: Value,
    place: Option<(Arc<RootShard>, u32)>,
}

impl Root {
    /// A root for a value that refers to no object; `None` if it does.
    pub fn plain(value: Value) -> Option<Root> {
        value.object().is_none().then_some(Root { value, place: None })
    }

    /// The value.
    pub fn value(&self) -> Value {
        self.value
    }
}

impl Clone for Root {
    fn clone(&self) -> Root {
        match &self.place {
            None => Root { value: self.value, place: None },
            Some((shard, _)) => shard.root(self.value),
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some((shard, slot)) = self.place.take() {
            let mut slots = shard.0.lock();
            slots.values[slot as usize] = Value::NONE;
            slots.free.push(slot);
        }
    }
}

impl std::fmt::Debug for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_roots_are_forgotten_and_their_places_used_again() {
        let shard = Arc::new(RootShard::default());
        let count = |shard: &RootShard| {
            let mut seen = 0;
            shard.objects(&mut |_| seen += 1);
            seen
        };
        let (a, b) = (shard.root(Value::object_at(64)), shard.root(Value::object_at(128)));
        let plain = shard.root(Value::ONE);
        assert!(plain.place.is_none());
        assert_eq!(count(&shard), 2);
        let again = a.clone();
        drop(a);
        assert_eq!(count(&shard), 2);
        drop((again, b));
        assert_eq!(count(&shard), 0);
        let _c = shard.root(Value::object_at(64));
        assert_eq!(shard.0.lock().values.len(), 3);
    }
}
