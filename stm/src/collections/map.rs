//! A hash map versioned by slot and by key.
//!
//! It is a hash trie (Bagwell, "Ideal hash trees", 2001; the transactional use is Bronson's in ScalaSTM) whose inner nodes are never removed:
//!
//! ```text
//!   root        branch of 32 slots, each a word with a header
//!    │ 5 bits of the hash
//!    ├── 0                     nothing here
//!    ├── entry                 one key
//!    ├── leaf ── entry…        2 to 8 keys: an immutable array of hashes and entries
//!    └── branch                more; and so on with the next 5 bits
//!
//!   entry       hash, key, and the value in a cell of its own
//! ```
//!
//! 1. The value of a present key is changed in its entry's cell; no slot is written.
//! 2. A key is added or removed by a write to the last slot on its way: an entry, a new leaf, or a new branch comes to hang there. So
//!    growth conflicts only with those who have looked into the one slot that grows.
//! 3. A slot that holds a branch holds it for good. Keys whose hashes agree in all bits share a leaf of any length.
//! 4. The length is summed up by thread.
#![expect(unsafe_code, reason = "follows words that lead to nodes")]

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;

use super::cell::{Cell, Link, birth, free_node, node, retire, unlink};
use super::shared::{Shared, Stripes};
use crate::protocol::Protocol;
use crate::tx::{Read, Result, Tx};

/// Bits of the hash that a branch uses.
const BITS: u32 = 5;
/// Slots in a branch.
const FANOUT: usize = 1 << BITS;
/// Keys in a leaf before it becomes a branch.
const LEAF: usize = 8;

/// What a slot holds: a pointer whose low bits say to what. No bit and no pointer is an empty slot.
mod tag {
    pub(super) const ENTRY: u64 = 1;
    pub(super) const LEAF: u64 = 2;
    pub(super) const BRANCH: u64 = 3;
    pub(super) const MASK: u64 = 3;
}

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
    inner: Shared<Inner<K, V, S>>,
}

struct Inner<K: 'static, V: 'static, S: 'static> {
    root: Branch,
    count: Stripes,
    hasher: S,
    entries: PhantomData<Entry<K, V>>,
}

struct Branch {
    slots: [Link; FANOUT],
}

struct Entry<K: 'static, V: 'static> {
    value: Cell<V>,
    hash: u64,
    key: K,
}

/// An immutable array of hashes and words that lead to entries, behind a thin pointer: first its length, then the pairs.
#[derive(Clone, Copy)]
struct Leaf<'a> {
    pairs: &'a [[u64; 2]],
}

impl Leaf<'_> {
    /// A new leaf, as the word that leads to it.
    fn birth<P: Protocol>(tx: &mut Tx<'_, P>, pairs: impl Iterator<Item = [u64; 2]>) -> u64 {
        let mut words = vec![[0, 0]];
        words.extend(pairs);
        words[0][0] = words.len() as u64 - 1;
        let word = Box::into_raw(words.into_boxed_slice()).cast::<[u64; 2]>().expose_provenance() as u64;
        tx.attempt.note_born(word, Self::retire);
        word
    }

    /// # Safety
    /// As [`node`].
    #[inline(always)]
    unsafe fn at<'a>(word: u64) -> Leaf<'a> {
        let first = std::ptr::with_exposed_provenance::<[u64; 2]>(word as usize);
        // SAFETY: by the caller's promise; the layout is that of `birth`.
        unsafe {
            let length = (*first)[0] as usize;
            Leaf { pairs: std::slice::from_raw_parts(first.add(1), length) }
        }
    }

    /// # Safety
    /// As [`free_node`].
    unsafe fn free(word: u64) {
        let first = std::ptr::with_exposed_provenance_mut::<[u64; 2]>(word as usize);
        // SAFETY: by the caller's promise; the layout is that of `birth`.
        unsafe {
            let length = (*first)[0] as usize + 1;
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(first, length)));
        }
    }

    /// For the leaf of a transaction that has been undone.
    unsafe fn retire(word: u64) {
        // SAFETY: as in the module `cell`.
        unsafe { retire(word, Self::free) };
    }
}

impl Branch {
    fn new(mut words: impl FnMut(usize) -> u64) -> Self {
        // SAFETY: branches are parts of a map, which is retired with its last handle, and are freed with it.
        Branch { slots: std::array::from_fn(|index| unsafe { Link::new(words(index)) }) }
    }
}

/// The slot of a branch for a hash of which the lower `shift` bits are used up.
#[inline(always)]
fn index(hash: u64, shift: u32) -> usize {
    (hash >> shift) as usize & (FANOUT - 1)
}

/// The last slot on the way to a key.
struct End<'a> {
    slot: &'a Link,
    /// What it holds: nothing, an entry or a leaf.
    word: u64,
    /// The bits of the hash used up on the way.
    shift: u32,
    /// The word that leads to the key's entry, or 0.
    entry: u64,
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
        // SAFETY: the map is retired with its last handle.
        let count = unsafe { Stripes::new(0) };
        TMap { inner: Shared::new(Inner { root: Branch::new(|_| 0), count, hasher, entries: PhantomData }) }
    }

    /// The way to a key, as far as it goes.
    #[inline]
    fn find<R: Read, Q>(&self, tx: &mut R, hash: u64, key: &Q) -> Result<End<'_>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let mut slot = &self.inner.root.slots[index(hash, 0)];
        let mut shift = BITS;
        loop {
            let word = slot.get(tx)?;
            let entry = match word & tag::MASK {
                tag::BRANCH => {
                    // SAFETY: the slot says that the word leads to a branch, and the transaction has just read it.
                    slot = unsafe { &node::<Branch>(word - tag::BRANCH).slots[index(hash, shift)] };
                    shift += BITS;
                    continue;
                }
                tag::ENTRY => {
                    // SAFETY: as above.
                    let entry = unsafe { node::<Entry<K, V>>(word - tag::ENTRY) };
                    if entry.hash == hash && entry.key.borrow() == key { word - tag::ENTRY } else { 0 }
                }
                tag::LEAF => {
                    // SAFETY: as above.
                    let leaf = unsafe { Leaf::at(word - tag::LEAF) };
                    let found = leaf.pairs.iter().find(|pair| {
                        // SAFETY: a leaf's words lead to entries, which are unlinked only with it.
                        pair[0] == hash && unsafe { node::<Entry<K, V>>(pair[1]) }.key.borrow() == key
                    });
                    found.map_or(0, |pair| pair[1])
                }
                _ => 0,
            };
            return Ok(End { slot, word, shift, entry });
        }
    }

    #[inline]
    fn find_key<R: Read, Q>(&self, tx: &mut R, key: &Q) -> Result<Option<&Entry<K, V>>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let end = self.find(tx, self.inner.hasher.hash_one(key), key)?;
        // SAFETY: found on the way just read. The reference is used within one operation only.
        Ok((end.entry != 0).then(|| unsafe { node(end.entry) }))
    }

    /// Hangs a new entry at the end of the way to its key.
    #[inline(never)]
    fn add<P: Protocol>(&self, tx: &mut Tx<'_, P>, end: &End<'_>, hash: u64, key: K, value: V) -> Result<()> {
        // SAFETY: an entry is retired when it is unlinked, or with the map.
        let entry = birth(tx, Entry { value: unsafe { Cell::new(value) }, hash, key });
        let pair = [hash, entry];
        let at = end.word & !tag::MASK;
        let word = match end.word & tag::MASK {
            tag::ENTRY => {
                // SAFETY: the slot says so.
                let other = unsafe { node::<Entry<K, V>>(at) }.hash;
                Leaf::birth(tx, [[other, at], pair].into_iter()) | tag::LEAF
            }
            tag::LEAF => {
                // SAFETY: the slot says so.
                let leaf = unsafe { Leaf::at(at) };
                // SAFETY: what hangs in the slot in its place does not lead to the leaf.
                tx.attempt.note_replaced(at, Leaf::free);
                if leaf.pairs.len() < LEAF || end.shift >= u64::BITS {
                    Leaf::birth(tx, leaf.pairs.iter().copied().chain([pair])) | tag::LEAF
                } else {
                    let all: Vec<[u64; 2]> = leaf.pairs.iter().copied().chain([pair]).collect();
                    let branch = Branch::new(|slot| {
                        let mut here = all.iter().copied().filter(|pair| index(pair[0], end.shift) == slot);
                        match here.clone().count() {
                            0 => 0,
                            1 => here.next().map_or(0, |pair| pair[1] | tag::ENTRY),
                            _ => Leaf::birth(tx, here) | tag::LEAF,
                        }
                    });
                    birth(tx, branch) | tag::BRANCH
                }
            }
            _ => entry | tag::ENTRY,
        };
        end.slot.set(tx, word)?;
        self.inner.count.add(tx, 1)
    }

    /// Unlinks the entry that was found.
    #[inline(never)]
    fn cut<P: Protocol>(&self, tx: &mut Tx<'_, P>, end: &End<'_>) -> Result<()> {
        let at = end.word & !tag::MASK;
        let word = if end.word & tag::MASK == tag::LEAF {
            // SAFETY: the slot says so.
            let leaf = unsafe { Leaf::at(at) };
            tx.attempt.note_replaced(at, Leaf::free);
            let mut rest = leaf.pairs.iter().copied().filter(|pair| pair[1] != end.entry);
            if leaf.pairs.len() == 2 {
                rest.next().map_or(0, |pair| pair[1] | tag::ENTRY)
            } else {
                Leaf::birth(tx, rest) | tag::LEAF
            }
        } else {
            0
        };
        // SAFETY: the slot, which alone leads to the entry, is about to be changed.
        unsafe { unlink::<Entry<K, V>, P>(tx, end.entry) };
        end.slot.set(tx, word)?;
        self.inner.count.add(tx, -1)
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
        match self.find_key(tx, key)? {
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
        Ok(self.find_key(tx, key)?.is_some())
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
        let hash = self.inner.hasher.hash_one(&key);
        let end = self.find(tx, hash, &key)?;
        if end.entry == 0 {
            self.add(tx, &end, hash, key, value)?;
            return Ok(None);
        }
        // SAFETY: found on the way just read.
        let entry = unsafe { node::<Entry<K, V>>(end.entry) };
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
        let hash = self.inner.hasher.hash_one(&key);
        let end = self.find(tx, hash, &key)?;
        if end.entry == 0 {
            self.add(tx, &end, hash, key, value)?;
        }
        Ok(end.entry == 0)
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
        let hash = self.inner.hasher.hash_one(&key);
        let end = self.find(tx, hash, &key)?;
        if end.entry == 0 {
            return self.add(tx, &end, hash, key, f(None));
        }
        // SAFETY: found on the way just read.
        let entry = unsafe { node::<Entry<K, V>>(end.entry) };
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
        let hash = self.inner.hasher.hash_one(&key);
        let end = self.find(tx, hash, &key)?;
        if end.entry == 0 {
            return match f(None) {
                Some(value) => self.add(tx, &end, hash, key, value),
                None => Ok(()),
            };
        }
        // SAFETY: found on the way just read.
        let entry = unsafe { node::<Entry<K, V>>(end.entry) };
        match entry.value.with(tx, |value| f(Some(value)))? {
            Some(value) => entry.value.set(tx, value),
            None => self.cut(tx, &end),
        }
    }

    /// Removes the keys whose values `keep` does not want.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
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
            let end = self.find(tx, self.inner.hasher.hash_one(&key), &key)?;
            self.cut(tx, &end)
        })
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
        match self.find_key(tx, key)? {
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
        let hash = self.inner.hasher.hash_one(&key);
        let end = self.find(tx, hash, &key)?;
        if end.entry == 0 {
            let value = default();
            self.add(tx, &end, hash, key, value.clone())?;
            return Ok(value);
        }
        // SAFETY: found on the way just read.
        unsafe { node::<Entry<K, V>>(end.entry) }.value.get(tx)
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
        let end = self.find(tx, self.inner.hasher.hash_one(key), key)?;
        if end.entry == 0 {
            return Ok(None);
        }
        // SAFETY: found on the way just read.
        let value = unsafe { node::<Entry<K, V>>(end.entry) }.value.get(tx)?;
        self.cut(tx, &end)?;
        Ok(Some(value))
    }

    /// How many keys there are. Conflicts with every transaction that adds or removes one.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn len<R: Read>(&self, tx: &mut R) -> Result<usize> {
        Ok(self.inner.count.sum(tx)? as usize)
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
    pub fn try_for_each<R: Read>(&self, tx: &mut R, mut f: impl FnMut(&mut R, &K, &V) -> Result<()>) -> Result<()> {
        fn visit<K: 'static, V: 'static, R: Read>(
            tx: &mut R,
            slot: &Link,
            f: &mut impl FnMut(&mut R, &K, &V) -> Result<()>,
        ) -> Result<()> {
            let mut entry = |tx: &mut R, word: u64| {
                // SAFETY: the slot just read leads to it.
                let entry = unsafe { node::<Entry<K, V>>(word) };
                let value = entry.value.hold(tx)?;
                f(tx, &entry.key, value.get())
            };
            let word = slot.get(tx)?;
            let at = word & !tag::MASK;
            match word & tag::MASK {
                tag::ENTRY => entry(tx, at),
                // SAFETY: the slot says so.
                tag::LEAF => unsafe { Leaf::at(at) }.pairs.iter().try_for_each(|pair| entry(tx, pair[1])),
                // SAFETY: the slot says so.
                tag::BRANCH => unsafe { node::<Branch>(at) }.slots.iter().try_for_each(|slot| visit(tx, slot, f)),
                _ => Ok(()),
            }
        }
        self.inner.root.slots.iter().try_for_each(|slot| visit(tx, slot, &mut f))
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
    pub fn scan<R: Read>(&self, tx: &mut R, cursor: u64, wanted: usize, mut f: impl FnMut(&K, &V)) -> Result<u64> {
        // The cursor is a hash whose lowest five bits come first in the order of the scan, as the trie has it.
        let mut cursor = cursor;
        let mut visited = 0;
        loop {
            let mut slot = &self.inner.root.slots[index(cursor, 0)];
            let mut shift = 0;
            let word = loop {
                let word = slot.get(tx)?;
                if word & tag::MASK != tag::BRANCH {
                    break word;
                }
                shift += BITS;
                // SAFETY: the slot says that the word leads to a branch, and the transaction has just read it.
                slot = unsafe { &node::<Branch>(word - tag::BRANCH).slots[index(cursor, shift)] };
            };
            let at = word & !tag::MASK;
            let single = [[0, at]];
            let pairs = match word & tag::MASK {
                tag::ENTRY => &single[..],
                // SAFETY: the slot says so.
                tag::LEAF => unsafe { Leaf::at(at) }.pairs,
                _ => &[],
            };
            // Where the slot has been split up between two steps, its first part may have been visited: the cursor tells.
            for pair in pairs {
                // SAFETY: found in the slot just read.
                let entry = unsafe { node::<Entry<K, V>>(pair[1]) };
                entry.value.with(tx, |value| f(&entry.key, value))?;
                visited += 1;
            }
            // The next slot at this depth, or, after the last of a branch, of the one above.
            loop {
                let digit = index(cursor, shift);
                let below = (1_u64 << shift) - 1;
                if digit + 1 < FANOUT && (shift + BITS <= u64::BITS || (digit + 1) >> (u64::BITS - shift) == 0) {
                    cursor = (cursor & below) | ((digit as u64 + 1) << shift);
                    break;
                }
                if shift == 0 {
                    return Ok(0);
                }
                cursor &= below;
                shift -= BITS;
            }
            if visited >= wanted {
                return Ok(cursor);
            }
        }
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
        // Reads every slot, so that nothing can be added below a branch that is cut off.
        self.try_for_each(tx, |_, _, _| Ok(()))?;
        for slot in &self.inner.root.slots {
            let word = slot.get(tx)?;
            if word != 0 {
                slot.set(tx, 0)?;
                tx.attempt.note_replaced(word, free_tree::<K, V>);
            }
        }
        self.inner.count.set(tx, 0)
    }

    /// Whether both are handles to the same map.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.inner.is_same(&other.inner)
    }
}

/// Frees all that hangs in a slot.
///
/// # Safety
/// No transaction can reach it.
unsafe fn free_tree<K: 'static, V: 'static>(word: u64) {
    let at = word & !tag::MASK;
    // SAFETY: the tag says what the word leads to, and by the caller's promise nobody else can.
    unsafe {
        match word & tag::MASK {
            tag::ENTRY => free_node::<Entry<K, V>>(at),
            tag::LEAF => {
                for pair in Leaf::at(at).pairs {
                    free_node::<Entry<K, V>>(pair[1]);
                }
                Leaf::free(at);
            }
            tag::BRANCH => {
                for slot in &node::<Branch>(at).slots {
                    free_tree::<K, V>(slot.get_unreachable());
                }
                free_node::<Branch>(at);
            }
            _ => {}
        }
    }
}

impl<K: 'static, V: 'static, S: 'static> Drop for Inner<K, V, S> {
    fn drop(&mut self) {
        for slot in &mut self.root.slots {
            // SAFETY: the map is freed, so no transaction can reach its nodes.
            unsafe { free_tree::<K, V>(slot.get_mut()) };
        }
    }
}

impl<K, V, S> Clone for TMap<K, V, S> {
    fn clone(&self) -> Self {
        TMap { inner: self.inner.clone() }
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
