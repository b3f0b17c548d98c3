//! A hash map versioned by slot and by key: the operations that a user asks for. What they look at and change is the module `trie`'s.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

use super::shared::Shared;
use super::trie::Trie;
use crate::protocol::Protocol;
use crate::tx::{Read, Result, Tx};

/// A transactional hash map.
///
/// Transactions conflict on it only if they touch the same key, or one adds or removes a key that another has looked for in the same
/// small part. Cloning it gives another handle to the same map.
///
/// ```
/// use optimist_stm::atomically;
/// use optimist_stm::collections::TMap;
///
/// let stock = TMap::new();
/// atomically(|tx| {
///     stock.insert(tx, "apples", 3)?;
///     stock.insert(tx, "pears", 5)?;
///     Ok(())
/// });
/// let sold = atomically(|tx| {
///     let Some(pears) = stock.get(tx, "pears")? else { return tx.retry() };
///     stock.insert(tx, "pears", pears - 1)
/// });
/// assert_eq!(sold, Some(5));
/// assert_eq!(atomically(|tx| stock.get(tx, "pears")), Some(4));
/// assert_eq!(atomically(|tx| stock.len(tx)), 2);
/// ```
pub struct TMap<K: 'static, V: 'static, S: 'static = RandomState> {
    trie: Shared<Trie<K, V, S>>,
}

/// What becomes of a key: the answer to [`TMap::edit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<V> {
    /// It stays as it is.
    Keep,
    /// It has this value.
    Set(V),
    /// It is not there any more.
    Remove,
}

impl<K, V> TMap<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::with_hasher(RandomState::new())
    }
}

impl<K, V, S> TMap<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// An empty map that hashes with `hasher`.
    #[must_use]
    pub fn with_hasher(hasher: S) -> Self {
        TMap { trie: Trie::shared(hasher) }
    }

    /// Calls `f` with the value of `key`, without cloning it.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    #[inline]
    pub fn with<R: Read, Q, U>(&self, tx: &mut R, key: &Q, f: impl FnOnce(&V) -> U) -> Result<Option<U>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.trie.find(tx, key)?.entry() {
            Some(entry) => entry.value.with(tx, f).map(Some),
            None => Ok(None),
        }
    }

    /// The value of `key`, cloned.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    #[inline]
    pub fn get<R: Read, Q>(&self, tx: &mut R, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.with(tx, key, V::clone)
    }

    /// Whether `key` is there. Conflicts with its removal, but not with a change of its value.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    #[inline]
    pub fn contains_key<R: Read, Q>(&self, tx: &mut R, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Ok(self.trie.find(tx, key)?.entry().is_some())
    }

    /// Sets the value of `key` and returns the one before, if there was one.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Abort safety
    /// If the attempt aborts, `key` and `value` are dropped.
    #[inline]
    pub fn insert<P: Protocol>(&self, tx: &mut Tx<'_, P>, key: K, value: V) -> Result<Option<V>>
    where
        V: Clone,
    {
        let end = self.trie.find(tx, &key)?;
        let Some(entry) = end.entry() else {
            self.trie.add(tx, &end, key, value)?;
            return Ok(None);
        };
        let old = entry.value.get(tx)?;
        entry.value.set(tx, value)?;
        Ok(Some(old))
    }

    /// Adds `key` with `value` if it is not there, and says whether it was not.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    #[inline]
    pub fn insert_if_absent<P: Protocol>(&self, tx: &mut Tx<'_, P>, key: K, value: V) -> Result<bool> {
        let end = self.trie.find(tx, &key)?;
        let absent = end.entry().is_none();
        if absent {
            self.trie.add(tx, &end, key, value)?;
        }
        Ok(absent)
    }

    /// Sets the value of `key` to `f` of the one before, if there was one.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Abort safety
    /// `f` runs again if the transaction does.
    ///
    /// ```
    /// # use optimist_stm::{atomically, collections::TMap};
    /// let words = TMap::new();
    /// for word in "a rose is a rose".split(' ') {
    ///     atomically(|tx| words.update(tx, word, |count| count.map_or(1, |n| n + 1)));
    /// }
    /// assert_eq!(atomically(|tx| words.get(tx, "rose")), Some(2));
    /// ```
    #[inline]
    pub fn update<P: Protocol>(&self, tx: &mut Tx<'_, P>, key: K, f: impl FnOnce(Option<&V>) -> V) -> Result<()> {
        let end = self.trie.find(tx, &key)?;
        let Some(entry) = end.entry() else { return self.trie.add(tx, &end, key, f(None)) };
        let value = entry.value.with(tx, |value| f(Some(value)))?;
        entry.value.set(tx, value)
    }

    /// Sets, changes or removes the value of `key`: `f` gets the present one, if there is one, and returns the new one, if there is to be
    /// one.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Abort safety
    /// `f` runs again if the transaction does.
    ///
    /// ```
    /// # use optimist_stm::{atomically, collections::TMap};
    /// let stock = TMap::new();
    /// atomically(|tx| stock.insert(tx, "bolts", 2));
    /// let take = |n: Option<&u32>| n.and_then(|n| n.checked_sub(1)).filter(|left| *left > 0);
    /// atomically(|tx| stock.alter(tx, "bolts", take));
    /// assert_eq!(atomically(|tx| stock.get(tx, "bolts")), Some(1));
    /// atomically(|tx| stock.alter(tx, "bolts", take));
    /// assert_eq!(atomically(|tx| stock.get(tx, "bolts")), None);
    /// ```
    pub fn alter<P: Protocol>(
        &self,
        tx: &mut Tx<'_, P>,
        key: K,
        f: impl FnOnce(Option<&V>) -> Option<V>,
    ) -> Result<()> {
        let end = self.trie.find(tx, &key)?;
        let Some(entry) = end.entry() else {
            return f(None).map_or(Ok(()), |value| self.trie.add(tx, &end, key, value));
        };
        match entry.value.with(tx, |value| f(Some(value)))? {
            Some(value) => entry.value.set(tx, value),
            None => self.trie.cut(tx, &end),
        }
    }

    /// Removes the keys whose values `keep` does not want.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Panics
    /// If a key does not equal its clone.
    ///
    /// # Atomicity
    /// Conflicts with whoever changes any value; see [`try_for_each`](Self::try_for_each).
    ///
    /// # Abort safety
    /// `keep` runs again if the transaction does.
    ///
    /// ```
    /// # use optimist_stm::{atomically, collections::TMap};
    /// let map = TMap::new();
    /// (0..10).for_each(|n| drop(atomically(|tx| map.insert(tx, n, n * n))));
    /// atomically(|tx| map.retain(tx, |_, square| square % 2 == 0));
    /// assert_eq!(atomically(|tx| map.len(tx)), 5);
    /// ```
    pub fn retain<P: Protocol>(&self, tx: &mut Tx<'_, P>, mut keep: impl FnMut(&K, &V) -> bool) -> Result<()>
    where
        K: Clone,
    {
        let mut unwanted = Vec::new();
        self.try_for_each(tx, |_, key, value| {
            if !keep(key, value) {
                unwanted.push(key.clone());
            }
            Ok(())
        })?;
        unwanted.into_iter().try_for_each(|key| {
            let end = self.trie.find(tx, &key)?;
            self.trie.cut(tx, &end)
        })
    }

    /// As [`alter`](Self::alter), with an answer: looks `key` up once and lets `f` say what becomes of it, which may be nothing. Only a key
    /// that is added is made into one of its own.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Abort safety
    /// `f` runs again if the transaction does.
    ///
    /// ```
    /// # use optimist_stm::{atomically, collections::{Change, TMap}};
    /// let stock: TMap<String, u32> = TMap::new();
    /// let take = |count: Option<&u32>| match count {
    ///     None => (Change::Keep, false),
    ///     Some(1) => (Change::Remove, true),
    ///     Some(n) => (Change::Set(n - 1), true),
    /// };
    /// let taken = || atomically(|tx| stock.edit(tx, "apples", take));
    /// assert!(!taken());
    /// atomically(|tx| stock.edit(tx, "apples", |_| (Change::Set(2), ())));
    /// assert_eq!([taken(), taken(), taken()], [true, true, false]);
    /// assert_eq!(atomically(|tx| stock.len(tx)), 0);
    /// ```
    #[inline]
    pub fn edit<P: Protocol, Q, U>(
        &self,
        tx: &mut Tx<'_, P>,
        key: &Q,
        f: impl FnOnce(Option<&V>) -> (Change<V>, U),
    ) -> Result<U>
    where
        K: Borrow<Q> + for<'q> From<&'q Q>,
        Q: Hash + Eq + ?Sized,
    {
        let end = self.trie.find(tx, key)?;
        let Some(entry) = end.entry() else {
            let (change, answer) = f(None);
            if let Change::Set(value) = change {
                self.trie.add(tx, &end, key.into(), value)?;
            }
            return Ok(answer);
        };
        let (change, answer) = entry.value.with(tx, |value| f(Some(value)))?;
        match change {
            Change::Keep => {}
            Change::Set(value) => entry.value.set(tx, value)?,
            Change::Remove => self.trie.cut(tx, &end)?,
        }
        Ok(answer)
    }

    /// Changes the value of `key` if it is there, and says whether it is.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Abort safety
    /// `f` runs again if the transaction does.
    #[inline]
    pub fn modify<P: Protocol, Q>(&self, tx: &mut Tx<'_, P>, key: &Q, f: impl FnOnce(&V) -> V) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.trie.find(tx, key)?.entry() {
            Some(entry) => {
                let value = entry.value.with(tx, f)?;
                entry.value.set(tx, value)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// The value of `key`, which is set to `default()` first if it is not there.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn get_or_insert_with<P: Protocol>(&self, tx: &mut Tx<'_, P>, key: K, default: impl FnOnce() -> V) -> Result<V>
    where
        V: Clone,
    {
        let end = self.trie.find(tx, &key)?;
        if let Some(entry) = end.entry() {
            return entry.value.get(tx);
        }
        let value = default();
        self.trie.add(tx, &end, key, value.clone())?;
        Ok(value)
    }

    /// Removes `key` and returns its value, if it was there.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn remove<P: Protocol, Q>(&self, tx: &mut Tx<'_, P>, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        let end = self.trie.find(tx, key)?;
        let Some(entry) = end.entry() else { return Ok(None) };
        let value = entry.value.get(tx)?;
        self.trie.cut(tx, &end)?;
        Ok(Some(value))
    }

    /// How many keys there are. Conflicts with every transaction that adds or removes one.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn len<R: Read>(&self, tx: &mut R) -> Result<usize> {
        self.trie.len(tx)
    }

    /// Whether there is no key. Conflicts as [`len`](Self::len).
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn is_empty<R: Read>(&self, tx: &mut R) -> Result<bool> {
        Ok(self.len(tx)? == 0)
    }

    /// Calls `f` with every key and value, in no particular order, until it fails.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`, or the error of `f`.
    ///
    /// # Atomicity
    /// The keys and values are those of one state, and the transaction conflicts with whoever changes any of them.
    pub fn try_for_each<R: Read>(&self, tx: &mut R, f: impl FnMut(&mut R, &K, &V) -> Result<()>) -> Result<()> {
        self.trie.try_for_each(tx, f)
    }

    /// Calls `f` with keys and values from where `cursor` points, a whole slot at a time, until it has been called `wanted` times or
    /// more; returns the cursor to go on with, or 0 at the end. A scan starts with the cursor 0.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Atomicity
    /// Steps of a scan may be different transactions: a key that is there all the time is visited exactly once, one that comes or goes
    /// meanwhile at most once. The cursor stands for a hash and not for a place, so it never goes stale.
    ///
    /// ```
    /// # use optimist_stm::{atomically, collections::TMap};
    /// let squares = TMap::new();
    /// (0..100).for_each(|n| _ = atomically(|tx| squares.insert(tx, n, n * n)));
    /// let (mut cursor, mut seen) = (0, 0);
    /// loop {
    ///     let step = atomically(|tx| {
    ///         let mut count = 0;
    ///         Ok((squares.scan(tx, cursor, 10, |_, _| count += 1)?, count))
    ///     });
    ///     (cursor, seen) = (step.0, seen + step.1);
    ///     if cursor == 0 { break }
    /// }
    /// assert_eq!(seen, 100);
    /// ```
    pub fn scan<R: Read>(&self, tx: &mut R, cursor: u64, wanted: usize, f: impl FnMut(&K, &V)) -> Result<u64> {
        self.trie.scan(tx, cursor, wanted, f)
    }

    /// All keys and values, cloned, in no particular order.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Atomicity
    /// As [`try_for_each`](Self::try_for_each).
    pub fn entries<R: Read>(&self, tx: &mut R) -> Result<Vec<(K, V)>>
    where
        K: Clone,
        V: Clone,
    {
        let mut all = Vec::new();
        self.try_for_each(tx, |_, key, value| {
            all.push((key.clone(), value.clone()));
            Ok(())
        })?;
        Ok(all)
    }

    /// Removes every key.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Atomicity
    /// Conflicts with whoever has looked for any key.
    pub fn clear<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<()> {
        self.trie.clear(tx)
    }

    /// Whether both are handles to the same map.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.trie.is_same(&other.trie)
    }
}

impl<K, V, S> Clone for TMap<K, V, S> {
    fn clone(&self) -> Self {
        TMap { trie: self.trie.clone() }
    }
}

impl<K, V, S> Default for TMap<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + Default + Send + Sync + 'static,
{
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

impl<K, V, S> fmt::Debug for TMap<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TMap").finish_non_exhaustive()
    }
}
