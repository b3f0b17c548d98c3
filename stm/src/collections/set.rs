//! A hash set: a [`TMap`] without values.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

use super::TMap;
use crate::protocol::Protocol;
use crate::tx::{Read, Result, Tx};

/// A transactional hash set. It conflicts as [`TMap`] does.
///
/// ```
/// use optimist_stm::atomically;
/// use optimist_stm::collections::TSet;
///
/// let seen = TSet::new();
/// assert!(atomically(|tx| seen.insert(tx, 7)));
/// assert!(!atomically(|tx| seen.insert(tx, 7)));
/// assert!(atomically(|tx| seen.contains(tx, &7)));
/// ```
pub struct TSet<K: 'static, S: 'static = RandomState> {
    map: TMap<K, (), S>,
}

impl<K: Hash + Eq + Send + Sync + 'static> TSet<K> {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        TSet { map: TMap::new() }
    }
}

impl<K, S> TSet<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// An empty set that hashes with `hasher`.
    #[must_use]
    pub fn with_hasher(hasher: S) -> Self {
        TSet { map: TMap::with_hasher(hasher) }
    }

    /// Adds `key`, and says whether it was not there before.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    #[inline]
    pub fn insert<P: Protocol>(&self, tx: &mut Tx<'_, P>, key: K) -> Result<bool> {
        self.map.insert_if_absent(tx, key, ())
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    #[inline]
    pub fn contains<R: Read, Q>(&self, tx: &mut R, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.map.contains_key(tx, key)
    }

    /// Removes `key`, and says whether it was there.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn remove<P: Protocol, Q>(&self, tx: &mut Tx<'_, P>, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Ok(self.map.remove(tx, key)?.is_some())
    }

    /// How many keys there are. Conflicts with every transaction that adds or removes one.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn len<R: Read>(&self, tx: &mut R) -> Result<usize> {
        self.map.len(tx)
    }

    /// Whether there is no key. Conflicts as [`len`](Self::len).
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn is_empty<R: Read>(&self, tx: &mut R) -> Result<bool> {
        self.map.is_empty(tx)
    }

    /// All keys, cloned, in no particular order and of one state.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn keys<R: Read>(&self, tx: &mut R) -> Result<Vec<K>>
    where
        K: Clone,
    {
        let mut keys = Vec::new();
        self.map.try_for_each(tx, |_, key, ()| {
            keys.push(key.clone());
            Ok(())
        })?;
        Ok(keys)
    }

    /// Removes the keys that `keep` does not want.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Panics
    /// If a key does not equal its clone.
    ///
    /// # Abort safety
    /// `keep` runs again if the transaction does.
    pub fn retain<P: Protocol>(&self, tx: &mut Tx<'_, P>, mut keep: impl FnMut(&K) -> bool) -> Result<()>
    where
        K: Clone,
    {
        self.map.retain(tx, |key, ()| keep(key))
    }

    /// Whether both are handles to the same set.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.map.is_same(&other.map)
    }

    /// Removes every key. Conflicts with whoever has looked for any key.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn clear<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<()> {
        self.map.clear(tx)
    }
}

impl<K, S> Clone for TSet<K, S> {
    fn clone(&self) -> Self {
        TSet { map: self.map.clone() }
    }
}

impl<K, S> Default for TSet<K, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    S: BuildHasher + Default + Send + Sync + 'static,
{
    fn default() -> Self {
        TSet { map: TMap::default() }
    }
}

impl<K, S> fmt::Debug for TSet<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TSet").finish_non_exhaustive()
    }
}
