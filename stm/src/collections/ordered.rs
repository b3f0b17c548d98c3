//! An ordered map: a B+-tree versioned by child and by key.
//!
//! ```text
//!   root ──► branch: keys (immutable), children, each a link with a header
//!               └──► leaf: keys and words that lead to entries (immutable)
//!                       └──► entry: the value in a cell of its own
//! ```
//!
//! 1. The value of a present key is changed in its entry; no node is.
//! 2. Adding or removing a key hangs a new leaf into the one link that led to the old.
//! 3. A leaf that would be too long becomes two, and its branch is replaced by one with a child more, in the one link that led to it; so
//!    on upwards. A node that would be empty is taken out of its branch ("free at empty": Johnson and Shasha, JCSS 1993); a branch
//!    with a single child is replaced by the child. So no node is ever empty, and depths may differ.
//! 4. The length is summed up by thread.
#![expect(unsafe_code, reason = "follows words that lead to nodes")]

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Bound, Deref, RangeBounds};

use super::cell::{Cell, Link, birth, free_node, node, unlink};
use super::shared::{Shared, Stripes};
use crate::protocol::Protocol;
use crate::tx::{Read, Result, Tx};

/// Keys in a leaf.
const LEAF: usize = 16;
/// Children of a branch.
const FANOUT: usize = 32;

/// What a link holds: a pointer whose low bits say to what; no pointer in an empty tree.
mod tag {
    pub(super) const LEAF: u64 = 1;
    pub(super) const BRANCH: u64 = 2;
    pub(super) const MASK: u64 = 3;
}

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
    inner: Shared<Inner<K, V>>,
}

struct Inner<K: 'static, V: 'static> {
    root: Link,
    count: Stripes,
    entries: PhantomData<(K, Cell<V>)>,
}

/// Up to `N` values in place.
struct Few<T, const N: usize> {
    length: usize,
    items: [MaybeUninit<T>; N],
}

impl<T, const N: usize> Few<T, N> {
    fn collect(items: impl Iterator<Item = T>) -> Self {
        let mut few = Few { length: 0, items: [const { MaybeUninit::uninit() }; N] };
        for item in items {
            few.items[few.length].write(item);
            few.length += 1;
        }
        few
    }
}

impl<T, const N: usize> Deref for Few<T, N> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: so many have been written.
        unsafe { std::slice::from_raw_parts(self.items.as_ptr().cast(), self.length) }
    }
}

impl<T, const N: usize> Drop for Few<T, N> {
    fn drop(&mut self) {
        for item in &mut self.items[..self.length] {
            // SAFETY: it has been written, and is dropped once.
            unsafe { item.assume_init_drop() };
        }
    }
}

struct Leaf<K> {
    keys: Few<K, LEAF>,
    entries: Few<u64, LEAF>,
}

struct Branch<K> {
    /// Key `i` is the least that can be below child `i + 1`.
    keys: Few<K, { FANOUT - 1 }>,
    children: Few<Link, FANOUT>,
}

/// A step on the way to a leaf: the branch, and which of its children comes next.
struct Step {
    link: *const Link,
    branch: u64,
    child: usize,
}

/// The way to a key.
struct Way {
    steps: Vec<Step>,
    /// The link to the leaf.
    link: *const Link,
    /// What it holds: a leaf, or nothing.
    word: u64,
}

impl Way {
    fn link<'a>(link: *const Link) -> &'a Link {
        // SAFETY: the link belongs to the map or to a node that the running attempt has reached, so neither is freed before its end.
        unsafe { &*link }
    }
}

impl<K, V> TOrderedMap<K, V>
where
    K: Ord + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: the map is retired with its last handle.
        let (root, count) = unsafe { (Link::new(0), Stripes::new(0)) };
        TOrderedMap { inner: Shared::new(Inner { root, count, entries: PhantomData }) }
    }

    /// The entry of a key.
    #[inline]
    fn find<R: Read, Q>(&self, tx: &mut R, key: &Q) -> Result<Option<&Cell<V>>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut link = &self.inner.root;
        loop {
            let word = link.get(tx)?;
            match word & tag::MASK {
                tag::BRANCH => {
                    // SAFETY: the link, just read, says that the word leads to a branch.
                    let branch = unsafe { node::<Branch<K>>(word - tag::BRANCH) };
                    link = &branch.children[branch.keys.partition_point(|k| k.borrow() <= key)];
                }
                tag::LEAF => {
                    // SAFETY: as above.
                    let leaf = unsafe { node::<Leaf<K>>(word - tag::LEAF) };
                    let found = leaf.keys.binary_search_by(|k| k.borrow().cmp(key)).ok();
                    // SAFETY: a leaf's words lead to entries, which are unlinked only with it.
                    return Ok(found.map(|at| unsafe { node(leaf.entries[at]) }));
                }
                _ => return Ok(None),
            }
        }
    }

    /// The way to a key, with all its steps.
    fn way<R: Read, Q>(&self, tx: &mut R, key: &Q) -> Result<Way>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut steps = Vec::new();
        let mut link = &self.inner.root;
        loop {
            let word = link.get(tx)?;
            if word & tag::MASK != tag::BRANCH {
                return Ok(Way { steps, link, word });
            }
            // SAFETY: the link, just read, says that the word leads to a branch.
            let branch = unsafe { node::<Branch<K>>(word - tag::BRANCH) };
            let child = branch.keys.partition_point(|k| k.borrow() <= key);
            steps.push(Step { link, branch: word - tag::BRANCH, child });
            link = &branch.children[child];
        }
    }

    /// A new branch with what the links of `children` hold.
    fn birth_branch<P: Protocol>(tx: &mut Tx<'_, P>, keys: impl Iterator<Item = K>, children: &[u64]) -> u64 {
        // SAFETY: a branch is retired when it is unlinked, or with the map.
        let children = children.iter().map(|word| unsafe { Link::new(*word) });
        let branch = Branch::<K> { keys: Few::collect(keys), children: Few::collect(children) };
        birth(tx, branch) | tag::BRANCH
    }

    /// Adds a key that is not there, at the end of its way.
    fn add<P: Protocol>(&self, tx: &mut Tx<'_, P>, mut way: Way, key: K, value: V) -> Result<()> {
        // SAFETY: an entry is retired when it is unlinked, or with the map.
        let entry = birth(tx, unsafe { Cell::new(value) });
        let birth_leaf = |tx: &mut Tx<'_, P>, pairs: &[(&K, u64)]| {
            let keys = Few::collect(pairs.iter().map(|pair| pair.0.clone()));
            birth(tx, Leaf { keys, entries: Few::collect(pairs.iter().map(|pair| pair.1)) }) | tag::LEAF
        };
        self.inner.count.add(tx, 1)?;
        if way.word == 0 {
            let leaf = birth_leaf(tx, &[(&key, entry)]);
            return Way::link(way.link).set(tx, leaf);
        }
        // SAFETY: the way says so.
        let leaf = unsafe { node::<Leaf<K>>(way.word - tag::LEAF) };
        let mut pairs: Vec<(&K, u64)> = leaf.keys.iter().zip(leaf.entries.iter().copied()).collect();
        let at = leaf.keys.partition_point(|k| *k < key);
        pairs.insert(at, (&key, entry));
        // SAFETY: what hangs in its place does not lead to it.
        unsafe { unlink::<Leaf<K>, P>(tx, way.word - tag::LEAF) };
        if pairs.len() <= LEAF {
            let leaf = birth_leaf(tx, &pairs);
            return Way::link(way.link).set(tx, leaf);
        }
        // Keys often come in ascending order; then the left half will get no more, so it stays nearly full.
        let middle = if at + 1 == pairs.len() { LEAF - 1 } else { pairs.len() / 2 };
        let mut right = birth_leaf(tx, &pairs[middle..]);
        let mut left = birth_leaf(tx, &pairs[..middle]);
        let mut separator = pairs[middle].0.clone();
        while let Some(Step { link, branch, child }) = way.steps.pop() {
            // SAFETY: the way says so.
            let old = unsafe { node::<Branch<K>>(branch) };
            let mut children = Vec::with_capacity(FANOUT + 1);
            for child in old.children.iter() {
                children.push(child.get(tx)?);
            }
            children[child] = left;
            children.insert(child + 1, right);
            let mut keys: Vec<K> = old.keys.to_vec();
            keys.insert(child, separator);
            // SAFETY: what hangs in its place does not lead to it.
            unsafe { unlink::<Branch<K>, P>(tx, branch) };
            if children.len() <= FANOUT {
                let branch = Self::birth_branch(tx, keys.into_iter(), &children);
                return Way::link(link).set(tx, branch);
            }
            let middle = if child + 2 == children.len() { FANOUT - 1 } else { children.len() / 2 };
            let mut keys = keys.into_iter();
            left = Self::birth_branch(tx, keys.by_ref().take(middle - 1), &children[..middle]);
            separator = keys.next().expect("there is a key between any two children");
            right = Self::birth_branch(tx, keys, &children[middle..]);
        }
        let root = Self::birth_branch(tx, std::iter::once(separator), &[left, right]);
        self.inner.root.set(tx, root)
    }

    /// Removes the key at position `at` of the leaf at the end of the way.
    fn cut<P: Protocol>(&self, tx: &mut Tx<'_, P>, mut way: Way, at: usize) -> Result<()> {
        // SAFETY: the way says so.
        let leaf = unsafe { node::<Leaf<K>>(way.word - tag::LEAF) };
        // SAFETY: what hangs in the leaf's place leads neither to it nor to the entry.
        unsafe {
            unlink::<Cell<V>, P>(tx, leaf.entries[at]);
            unlink::<Leaf<K>, P>(tx, way.word - tag::LEAF);
        }
        self.inner.count.add(tx, -1)?;
        if leaf.keys.len() > 1 {
            let rest = (0..leaf.keys.len()).filter(|index| *index != at);
            let keys = Few::collect(rest.clone().map(|index| leaf.keys[index].clone()));
            let leaf = birth(tx, Leaf { keys, entries: Few::collect(rest.map(|index| leaf.entries[index])) });
            return Way::link(way.link).set(tx, leaf | tag::LEAF);
        }
        let Some(Step { link, branch, child }) = way.steps.pop() else {
            return self.inner.root.set(tx, 0);
        };
        // SAFETY: the way says so.
        let old = unsafe { node::<Branch<K>>(branch) };
        let mut children = Vec::with_capacity(FANOUT);
        for (index, other) in old.children.iter().enumerate() {
            if index != child {
                children.push(other.get(tx)?);
            }
        }
        // SAFETY: what hangs in its place does not lead to it.
        unsafe { unlink::<Branch<K>, P>(tx, branch) };
        let word = match children[..] {
            [only] => only,
            _ => {
                // The key to the left of the child goes, or the first.
                let gone = child.saturating_sub(1);
                let keys = old.keys.iter().enumerate().filter(|(index, _)| *index != gone).map(|(_, key)| key.clone());
                Self::birth_branch(tx, keys, &children)
            }
        };
        Way::link(link).set(tx, word)
    }

    /// The position of a key in the leaf at the end of its way.
    fn position<Q>(way: &Way, key: &Q) -> Option<(usize, &'static Cell<V>)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        if way.word == 0 {
            return None;
        }
        // SAFETY: the way says so; the reference is used within one operation only.
        unsafe {
            let leaf = node::<Leaf<K>>(way.word - tag::LEAF);
            let at = leaf.keys.binary_search_by(|k| k.borrow().cmp(key)).ok()?;
            Some((at, node(leaf.entries[at])))
        }
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
        match self.find(tx, key)? {
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
        Ok(self.find(tx, key)?.is_some())
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
        let way = self.way(tx, &key)?;
        match Self::position(&way, &key) {
            Some((_, cell)) => {
                let old = cell.get(tx)?;
                cell.set(tx, value)?;
                Ok(Some(old))
            }
            None => self.add(tx, way, key, value).map(|()| None),
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
        let way = self.way(tx, &key)?;
        match Self::position(&way, &key) {
            Some((_, cell)) => {
                let value = cell.with(tx, |value| f(Some(value)))?;
                cell.set(tx, value)
            }
            None => self.add(tx, way, key, f(None)),
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
        let way = self.way(tx, &key)?;
        match Self::position(&way, &key) {
            Some((at, cell)) => match cell.with(tx, |value| f(Some(value)))? {
                Some(value) => cell.set(tx, value),
                None => self.cut(tx, way, at),
            },
            None => f(None).map_or(Ok(()), |value| self.add(tx, way, key, value)),
        }
    }

    /// Removes the keys whose values `keep` does not want.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
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
            let way = self.way(tx, &key)?;
            let (at, _) = Self::position(&way, &key).expect("the key was just met");
            self.cut(tx, way, at)
        })
    }

    /// Sets the value of `key` if it is not there, and says whether it was not.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn insert_if_absent<P: Protocol>(&self, tx: &mut Tx<'_, P>, key: K, value: V) -> Result<bool> {
        let way = self.way(tx, &key)?;
        if Self::position(&way, &key).is_some() {
            return Ok(false);
        }
        self.add(tx, way, key, value).map(|()| true)
    }

    /// The value of `key`, which is set to `default()` first if it is not there.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn get_or_insert_with<P: Protocol>(&self, tx: &mut Tx<'_, P>, key: K, default: impl FnOnce() -> V) -> Result<V>
    where
        V: Clone,
    {
        let way = self.way(tx, &key)?;
        if let Some((_, cell)) = Self::position(&way, &key) {
            return cell.get(tx);
        }
        let value = default();
        self.add(tx, way, key, value.clone())?;
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
        match self.find(tx, key)? {
            Some(cell) => {
                let value = cell.with(tx, f)?;
                cell.set(tx, value)?;
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
        let way = self.way(tx, key)?;
        let Some((at, cell)) = Self::position(&way, key) else { return Ok(None) };
        let value = cell.get(tx)?;
        self.cut(tx, way, at)?;
        Ok(Some(value))
    }

    /// How many keys there are. Conflicts with every transaction that adds or removes one.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn len<R: Read>(&self, tx: &mut R) -> Result<usize> {
        Ok(self.inner.count.sum(tx)? as usize)
    }

    /// Whether there is no key. Conflicts with the addition of the first and the removal of the last.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn is_empty<R: Read>(&self, tx: &mut R) -> Result<bool> {
        Ok(self.inner.root.get(tx)? == 0)
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
        mut f: impl FnMut(&mut R, &K, &V) -> Result<bool>,
    ) -> Result<()>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        fn below<K, V, R: Read, Q>(
            tx: &mut R,
            link: &Link,
            bounds: (Bound<&Q>, Bound<&Q>),
            f: &mut impl FnMut(&mut R, &K, &V) -> Result<bool>,
        ) -> Result<bool>
        where
            K: Borrow<Q> + 'static,
            V: 'static,
            Q: Ord + ?Sized,
        {
            let word = link.get(tx)?;
            match word & tag::MASK {
                tag::BRANCH => {
                    // SAFETY: the link, just read, says so.
                    let branch = unsafe { node::<Branch<K>>(word - tag::BRANCH) };
                    let first = match bounds.0 {
                        Bound::Included(low) | Bound::Excluded(low) => {
                            branch.keys.partition_point(|k| k.borrow() <= low)
                        }
                        Bound::Unbounded => 0,
                    };
                    for (index, child) in branch.children.iter().enumerate().skip(first) {
                        // The keys below a child are not less than the key to its left.
                        let beyond = index > first
                            && match bounds.1 {
                                Bound::Included(high) => branch.keys[index - 1].borrow() > high,
                                Bound::Excluded(high) => branch.keys[index - 1].borrow() >= high,
                                Bound::Unbounded => false,
                            };
                        if beyond || !below(tx, child, bounds, f)? {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                }
                tag::LEAF => {
                    // SAFETY: as above.
                    let leaf = unsafe { node::<Leaf<K>>(word - tag::LEAF) };
                    let first = match bounds.0 {
                        Bound::Included(low) => leaf.keys.partition_point(|k| k.borrow() < low),
                        Bound::Excluded(low) => leaf.keys.partition_point(|k| k.borrow() <= low),
                        Bound::Unbounded => 0,
                    };
                    for (key, entry) in leaf.keys.iter().zip(leaf.entries.iter()).skip(first) {
                        let within = match bounds.1 {
                            Bound::Included(high) => key.borrow() <= high,
                            Bound::Excluded(high) => key.borrow() < high,
                            Bound::Unbounded => true,
                        };
                        if !within {
                            return Ok(false);
                        }
                        // SAFETY: a leaf's words lead to entries.
                        let value = unsafe { node::<Cell<V>>(*entry) }.hold(tx)?;
                        if !f(tx, key, value.get())? {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                }
                _ => Ok(true),
            }
        }
        let bounds = (range.start_bound(), range.end_bound());
        below(tx, &self.inner.root, bounds, &mut f).map(|_| ())
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
        self.outermost(tx, |_| 0)
    }

    /// The greatest key and its value, cloned.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn last<R: Read>(&self, tx: &mut R) -> Result<Option<(K, V)>>
    where
        V: Clone,
    {
        self.outermost(tx, |length| length - 1)
    }

    /// The key and value at the end of the way that takes child `choose(children)` everywhere.
    fn outermost<R: Read>(&self, tx: &mut R, choose: impl Fn(usize) -> usize) -> Result<Option<(K, V)>>
    where
        V: Clone,
    {
        let mut link = &self.inner.root;
        loop {
            let word = link.get(tx)?;
            match word & tag::MASK {
                tag::BRANCH => {
                    // SAFETY: the link, just read, says so.
                    let branch = unsafe { node::<Branch<K>>(word - tag::BRANCH) };
                    link = &branch.children[choose(branch.children.len())];
                }
                tag::LEAF => {
                    // SAFETY: as above.
                    let leaf = unsafe { node::<Leaf<K>>(word - tag::LEAF) };
                    let at = choose(leaf.keys.len());
                    // SAFETY: a leaf's words lead to entries.
                    let value = unsafe { node::<Cell<V>>(leaf.entries[at]) }.get(tx)?;
                    return Ok(Some((leaf.keys[at].clone(), value)));
                }
                _ => return Ok(None),
            }
        }
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
        // Reads every link, so that nothing can be added below one that is cut off.
        self.visit::<_, K>(tx, .., |_, _, _| Ok(true))?;
        let word = self.inner.root.get(tx)?;
        if word != 0 {
            self.inner.root.set(tx, 0)?;
            tx.attempt.note_replaced(word, free_tree::<K, V>);
        }
        self.inner.count.set(tx, 0)
    }

    /// Whether both are handles to the same map.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.inner.is_same(&other.inner)
    }
}

/// Frees all that a link leads to.
///
/// # Safety
/// No transaction can reach it.
unsafe fn free_tree<K: 'static, V: 'static>(word: u64) {
    let at = word & !tag::MASK;
    // SAFETY: the tag says what the word leads to, and by the caller's promise nobody else can.
    unsafe {
        match word & tag::MASK {
            tag::LEAF => {
                for entry in node::<Leaf<K>>(at).entries.iter() {
                    free_node::<Cell<V>>(*entry);
                }
                free_node::<Leaf<K>>(at);
            }
            tag::BRANCH => {
                for child in node::<Branch<K>>(at).children.iter() {
                    free_tree::<K, V>(child.get_unreachable());
                }
                free_node::<Branch<K>>(at);
            }
            _ => {}
        }
    }
}

impl<K: 'static, V: 'static> Drop for Inner<K, V> {
    fn drop(&mut self) {
        // SAFETY: the map is freed, so no transaction can reach its nodes.
        unsafe { free_tree::<K, V>(self.root.get_mut()) };
    }
}

impl<K, V> Clone for TOrderedMap<K, V> {
    fn clone(&self) -> Self {
        TOrderedMap { inner: self.inner.clone() }
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
