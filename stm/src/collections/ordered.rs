//! An ordered map versioned by child and by key: the operations that a user asks for. What they look at and change is the module `btree`'s.

use std::borrow::Borrow;
use std::fmt;
use std::ops::RangeBounds;

use super::btree::Tree;
use super::shared::Shared;
use crate::protocol::Protocol;
use crate::tx::{Read, Result, Tx};

/// A transactional map in the order of its keys.
///
/// Transactions conflict on it only if they touch the same key, or one adds or removes a key near one that another has looked for.
/// Keys are cloned when their neighbours change, so they should be small or shared (`Arc<str>`). Cloning the map gives another
/// handle to it.
///
/// ```
/// use optimist_stm::atomically;
/// use optimist_stm::collections::TOrderedMap;
///
/// let prices = TOrderedMap::new();
/// for (price, amount) in [(101, 5), (99, 2), (100, 7)] {
///     atomically(|tx| prices.insert(tx, price, amount));
/// }
/// assert_eq!(atomically(|tx| prices.first(tx)), Some((99, 2)));
/// assert_eq!(atomically(|tx| prices.range(tx, 100..)), [(100, 7), (101, 5)]);
/// ```
pub struct TOrderedMap<K: 'static, V: 'static> {
    tree: Shared<Tree<K, V>>,
}

impl<K, V> TOrderedMap<K, V>
where
    K: Ord + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        TOrderedMap { tree: Tree::shared() }
    }

    /// Calls `f` with the value of `key`, without cloning it.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    #[inline]
    pub fn with<R: Read, Q, U>(&self, tx: &mut R, key: &Q, f: impl FnOnce(&V) -> U) -> Result<Option<U>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match self.tree.find(tx, key)? {
            Some(value) => value.with(tx, f).map(Some),
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
        Q: Ord + ?Sized,
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
        Q: Ord + ?Sized,
    {
        Ok(self.tree.find(tx, key)?.is_some())
    }

    /// Sets the value of `key` and returns the one before, if there was one.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Abort safety
    /// If the attempt aborts, `key` and `value` are dropped.
    pub fn insert<P: Protocol>(&self, tx: &mut Tx<'_, P>, key: K, value: V) -> Result<Option<V>>
    where
        V: Clone,
    {
        let way = self.tree.way(tx, &key)?;
        match way.value {
            Some(present) => {
                let old = present.get(tx)?;
                present.set(tx, value)?;
                Ok(Some(old))
            }
            None => self.tree.add(tx, way, key, value).map(|()| None),
        }
    }

    /// Sets the value of `key` to `f` of the one before, if there was one.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Abort safety
    /// `f` runs again if the transaction does.
    pub fn update<P: Protocol>(&self, tx: &mut Tx<'_, P>, key: K, f: impl FnOnce(Option<&V>) -> V) -> Result<()> {
        let way = self.tree.way(tx, &key)?;
        match way.value {
            Some(present) => {
                let value = present.with(tx, |value| f(Some(value)))?;
                present.set(tx, value)
            }
            None => self.tree.add(tx, way, key, f(None)),
        }
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
    /// # use optimist_stm::{atomically, collections::TOrderedMap};
    /// let stock = TOrderedMap::new();
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
        let way = self.tree.way(tx, &key)?;
        match way.value {
            Some(present) => match present.with(tx, |value| f(Some(value)))? {
                Some(value) => present.set(tx, value),
                None => self.tree.cut(tx, way),
            },
            None => f(None).map_or(Ok(()), |value| self.tree.add(tx, way, key, value)),
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
    /// Conflicts with whoever changes any value; see [`visit`](Self::visit).
    ///
    /// # Abort safety
    /// `keep` runs again if the transaction does.
    ///
    /// ```
    /// # use optimist_stm::{atomically, collections::TOrderedMap};
    /// let map = TOrderedMap::new();
    /// (0..10).for_each(|n| drop(atomically(|tx| map.insert(tx, n, n * n))));
    /// atomically(|tx| map.retain(tx, |_, square| square % 2 == 0));
    /// assert_eq!(atomically(|tx| map.len(tx)), 5);
    /// ```
    pub fn retain<P: Protocol>(&self, tx: &mut Tx<'_, P>, mut keep: impl FnMut(&K, &V) -> bool) -> Result<()> {
        let mut unwanted = Vec::new();
        self.visit::<_, K>(tx, .., |_, key, value| {
            if !keep(key, value) {
                unwanted.push(key.clone());
            }
            Ok(true)
        })?;
        unwanted.into_iter().try_for_each(|key| {
            let way = self.tree.way(tx, &key)?;
            self.tree.cut(tx, way)
        })
    }

    /// Sets the value of `key` if it is not there, and says whether it was not.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn insert_if_absent<P: Protocol>(&self, tx: &mut Tx<'_, P>, key: K, value: V) -> Result<bool> {
        let way = self.tree.way(tx, &key)?;
        if way.value.is_some() {
            return Ok(false);
        }
        self.tree.add(tx, way, key, value).map(|()| true)
    }

    /// The value of `key`, which is set to `default()` first if it is not there.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn get_or_insert_with<P: Protocol>(&self, tx: &mut Tx<'_, P>, key: K, default: impl FnOnce() -> V) -> Result<V>
    where
        V: Clone,
    {
        let way = self.tree.way(tx, &key)?;
        if let Some(present) = way.value {
            return present.get(tx);
        }
        let value = default();
        self.tree.add(tx, way, key, value.clone())?;
        Ok(value)
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
        Q: Ord + ?Sized,
    {
        match self.tree.find(tx, key)? {
            Some(present) => {
                let value = present.with(tx, f)?;
                present.set(tx, value)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Removes `key` and returns its value, if it was there.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn remove<P: Protocol, Q>(&self, tx: &mut Tx<'_, P>, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
        V: Clone,
    {
        let way = self.tree.way(tx, key)?;
        let Some(present) = way.value else { return Ok(None) };
        let value = present.get(tx)?;
        self.tree.cut(tx, way)?;
        Ok(Some(value))
    }

    /// How many keys there are. Conflicts with every transaction that adds or removes one.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn len<R: Read>(&self, tx: &mut R) -> Result<usize> {
        self.tree.len(tx)
    }

    /// Whether there is no key. Conflicts with the addition of the first and the removal of the last.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn is_empty<R: Read>(&self, tx: &mut R) -> Result<bool> {
        self.tree.is_empty(tx)
    }

    /// Calls `f` with the keys in `range` and their values, in ascending order, while it returns true.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`, or the error of `f`.
    ///
    /// # Atomicity
    /// The keys and values are those of one state. The transaction conflicts with whoever changes one that was visited, or adds one where
    /// it looked.
    pub fn visit<R: Read, Q>(
        &self,
        tx: &mut R,
        range: impl RangeBounds<Q>,
        f: impl FnMut(&mut R, &K, &V) -> Result<bool>,
    ) -> Result<()>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.tree.visit(tx, (range.start_bound(), range.end_bound()), f)
    }

    /// The keys in `range` and their values, cloned, in ascending order.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Atomicity
    /// As [`visit`](Self::visit).
    pub fn range<R: Read, Q>(&self, tx: &mut R, range: impl RangeBounds<Q>) -> Result<Vec<(K, V)>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
        V: Clone,
    {
        let mut all = Vec::new();
        self.visit(tx, range, |_, key, value| {
            all.push((key.clone(), value.clone()));
            Ok(true)
        })?;
        Ok(all)
    }

    /// All keys and values, cloned, in ascending order.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn entries<R: Read>(&self, tx: &mut R) -> Result<Vec<(K, V)>>
    where
        V: Clone,
    {
        self.range::<R, K>(tx, ..)
    }

    /// The least key and its value, cloned.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn first<R: Read>(&self, tx: &mut R) -> Result<Option<(K, V)>>
    where
        V: Clone,
    {
        self.tree.outermost(tx, |_| 0)
    }

    /// The greatest key and its value, cloned.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn last<R: Read>(&self, tx: &mut R) -> Result<Option<(K, V)>>
    where
        V: Clone,
    {
        self.tree.outermost(tx, |length| length - 1)
    }

    /// Removes the least key and returns it with its value.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn pop_first<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<Option<(K, V)>>
    where
        V: Clone,
    {
        let Some((key, value)) = self.first(tx)? else { return Ok(None) };
        self.remove(tx, &key)?;
        Ok(Some((key, value)))
    }

    /// Removes the greatest key and returns it with its value.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn pop_last<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<Option<(K, V)>>
    where
        V: Clone,
    {
        let Some((key, value)) = self.last(tx)? else { return Ok(None) };
        self.remove(tx, &key)?;
        Ok(Some((key, value)))
    }

    /// Removes every key.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Atomicity
    /// Conflicts with whoever has looked for any key.
    pub fn clear<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<()> {
        self.tree.clear(tx)
    }

    /// Whether both are handles to the same map.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.tree.is_same(&other.tree)
    }
}

impl<K, V> Clone for TOrderedMap<K, V> {
    fn clone(&self) -> Self {
        TOrderedMap { tree: self.tree.clone() }
    }
}

impl<K: Ord + Clone + Send + Sync + 'static, V: Send + Sync + 'static> Default for TOrderedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for TOrderedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TOrderedMap").finish_non_exhaustive()
    }
}
