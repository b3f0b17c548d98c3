//! The keyspace: a transactional map of values, each of which is versioned in parts.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use optimist_dispatcher::reactor::Connection;
use optimist_dispatcher::{Event, EventResult, TVar};
use optimist_stm::collections::TMap;

pub(crate) type Bytes = Vec<u8>;

/// What a key holds.
#[derive(Clone)]
pub(crate) enum Value {
    Text(Arc<[u8]>),
    List(List),
    Hash(TMap<Bytes, Bytes>),
    Set(TMap<Bytes, ()>),
    /// Scores by member.
    Sorted(TMap<Bytes, f64>),
}

impl Value {
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Text(_) => "string",
            Value::List(_) => "list",
            Value::Hash(_) => "hash",
            Value::Set(_) => "set",
            Value::Sorted(_) => "zset",
        }
    }
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) value: Value,
    /// Milliseconds since 1970.
    pub(crate) expires: Option<u64>,
}

/// A list: its items by position, so that the two ends do not collide while it is long.
#[derive(Clone)]
pub(crate) struct List {
    items: TMap<i64, Bytes>,
    front: TVar<i64>,
    /// One after the last.
    back: TVar<i64>,
}

impl List {
    pub(crate) fn new() -> Self {
        List { items: TMap::new(), front: TVar::new(0), back: TVar::new(0) }
    }

    pub(crate) fn len(&self, ev: &mut Event<'_>) -> EventResult<i64> {
        Ok(self.back.get(ev)? - self.front.get(ev)?)
    }

    pub(crate) fn push(&self, ev: &mut Event<'_>, front: bool, item: Bytes) -> EventResult {
        if front {
            let at = self.front.get(ev)? - 1;
            self.items.insert(ev, at, item)?;
            self.front.set(ev, at)?;
        } else {
            let at = self.back.get(ev)?;
            self.items.insert(ev, at, item)?;
            self.back.set(ev, at + 1)?;
        }
        Ok(())
    }

    pub(crate) fn pop(&self, ev: &mut Event<'_>, front: bool) -> EventResult<Option<Bytes>> {
        let (first, end) = (self.front.get(ev)?, self.back.get(ev)?);
        if first == end {
            return Ok(None);
        }
        let at = if front { first } else { end - 1 };
        if front {
            self.front.set(ev, first + 1)?
        } else {
            self.back.set(ev, end - 1)?
        }
        Ok(self.items.remove(ev, &at)?)
    }

    /// The item at an index, counted from the end if negative.
    pub(crate) fn get(&self, ev: &mut Event<'_>, index: i64) -> EventResult<Option<Bytes>> {
        match self.position(ev, index)? {
            Some(at) => Ok(self.items.get(ev, &at)?),
            None => Ok(None),
        }
    }

    pub(crate) fn set(&self, ev: &mut Event<'_>, index: i64, item: Bytes) -> EventResult<bool> {
        match self.position(ev, index)? {
            Some(at) => {
                self.items.insert(ev, at, item)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn position(&self, ev: &mut Event<'_>, index: i64) -> EventResult<Option<i64>> {
        let (front, back) = (self.front.get(ev)?, self.back.get(ev)?);
        let at = if index < 0 { back.saturating_add(index) } else { front.saturating_add(index) };
        Ok((front..back).contains(&at).then_some(at))
    }

    pub(crate) fn range(&self, ev: &mut Event<'_>, start: i64, stop: i64) -> EventResult<Vec<Bytes>> {
        let front = self.front.get(ev)?;
        let length = self.back.get(ev)? - front;
        let Some((start, stop)) = clamp(start, stop, length) else { return Ok(Vec::new()) };
        let mut items = Vec::new();
        for index in start..=stop {
            items.extend(self.items.get(ev, &(front + index))?);
        }
        Ok(items)
    }

    /// Replaces all items.
    pub(crate) fn replace(&self, ev: &mut Event<'_>, items: Vec<Bytes>) -> EventResult {
        while self.pop(ev, false)?.is_some() {}
        items.into_iter().try_for_each(|item| self.push(ev, false, item))
    }
}

/// A range of Redis's, inclusive and with negative indices counted from the end, as indices; nothing if it is empty.
pub(crate) fn clamp(start: i64, stop: i64, length: i64) -> Option<(i64, i64)> {
    let from_end = |index: i64| if index < 0 { length.saturating_add(index) } else { index };
    let (start, stop) = (from_end(start).max(0), from_end(stop).min(length - 1));
    (start <= stop).then_some((start, stop))
}

/// Everything that the server keeps.
#[derive(Clone, Default)]
pub(crate) struct Store {
    keys: TMap<Bytes, Entry>,
    /// For keys that somebody watches: how often they were touched, and how many watch.
    watched: TMap<Bytes, (u64, usize)>,
    /// How many watch anything.
    watchers: TVar<usize>,
    pub(crate) channels: TMap<Bytes, Vec<Connection>>,
}

pub(crate) fn now(ev: &mut Event<'_>) -> u64 {
    u64::try_from(ev.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Store {
    pub(crate) fn get(&self, ev: &mut Event<'_>, key: &[u8]) -> EventResult<Option<Entry>> {
        let Some(entry) = self.keys.get(ev, key)? else { return Ok(None) };
        if let Some(expires) = entry.expires
            && expires <= now(ev)
        {
            self.remove(ev, key)?;
            return Ok(None);
        }
        Ok(Some(entry))
    }

    pub(crate) fn set(&self, ev: &mut Event<'_>, key: &[u8], value: Value, expires: Option<u64>) -> EventResult {
        self.keys.insert(ev, key.to_vec(), Entry { value, expires })?;
        self.touch(ev, key)
    }

    pub(crate) fn remove(&self, ev: &mut Event<'_>, key: &[u8]) -> EventResult<bool> {
        let removed = self.keys.remove(ev, key)?.is_some();
        if removed {
            self.touch(ev, key)?;
        }
        Ok(removed)
    }

    pub(crate) fn len(&self, ev: &mut Event<'_>) -> EventResult<usize> {
        Ok(self.keys.len(ev)?)
    }

    /// All keys that have not expired.
    pub(crate) fn names(&self, ev: &mut Event<'_>) -> EventResult<Vec<Bytes>> {
        let now = now(ev);
        let entries = self.keys.entries(ev)?;
        let live = entries.into_iter().filter(|(_, entry)| entry.expires.is_none_or(|expires| expires > now));
        Ok(live.map(|(name, _)| name).collect())
    }

    pub(crate) fn clear(&self, ev: &mut Event<'_>) -> EventResult {
        for name in self.names(ev)? {
            self.touch(ev, &name)?;
        }
        Ok(self.keys.clear(ev)?)
    }

    /// Notes a change for those that watch the key.
    pub(crate) fn touch(&self, ev: &mut Event<'_>, key: &[u8]) -> EventResult {
        if self.watchers.get(ev)? > 0 {
            self.watched.modify(ev, key, |(touched, watching)| (touched + 1, *watching))?;
        }
        Ok(())
    }

    /// Begins to watch a key; the number is to be compared later.
    pub(crate) fn watch(&self, ev: &mut Event<'_>, key: &[u8]) -> EventResult<u64> {
        // A key that has expired counts as removed now, not when it is looked at next.
        self.get(ev, key)?;
        self.watchers.modify(ev, |count| count + 1)?;
        let (touched, watching) = self.watched.get(ev, key)?.unwrap_or_default();
        self.watched.insert(ev, key.to_vec(), (touched, watching + 1))?;
        Ok(touched)
    }

    /// Ends a watch, and says whether the key is as it was.
    pub(crate) fn unwatch(&self, ev: &mut Event<'_>, key: &[u8], seen: u64) -> EventResult<bool> {
        self.get(ev, key)?;
        self.watchers.modify(ev, |count| count - 1)?;
        let (touched, watching) = self.watched.get(ev, key)?.unwrap_or_default();
        if watching <= 1 {
            self.watched.remove(ev, key)?;
        } else {
            self.watched.insert(ev, key.to_vec(), (touched, watching - 1))?;
        }
        Ok(touched == seen)
    }
}
