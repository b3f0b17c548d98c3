//! The B+-tree below [`TOrderedMap`](super::TOrderedMap): its nodes, the way to a key, splitting and shrinking, visits of a range.
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
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Bound, Deref};

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

/// Keys and values in the order of the keys.
pub(super) struct Tree<K: 'static, V: 'static> {
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

impl<K> Branch<K> {
    /// Below which child a key is, if it is anywhere.
    #[inline(always)]
    fn child_of<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.keys.partition_point(|k| k.borrow() <= key)
    }
}

/// A step on the way to a leaf: the branch, and which of its children comes next.
struct Step<'a> {
    link: &'a Link,
    branch: u64,
    child: usize,
}

/// The way to a key. It is used within one operation only.
pub(super) struct Way<'a, V: 'static> {
    steps: Vec<Step<'a>>,
    /// The link to the leaf.
    link: &'a Link,
    /// What it holds: a leaf, or nothing.
    word: u64,
    /// Where in the leaf the key is, or would be.
    at: usize,
    /// The value of the key, if the key is there.
    pub(super) value: Option<&'a Cell<V>>,
}

impl<K, V> Tree<K, V>
where
    K: Ord + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// An empty one, and the first handle to it.
    pub(super) fn shared() -> Shared<Self> {
        // SAFETY: the tree is retired with its last handle.
        let (root, count) = unsafe { (Link::new(0), Stripes::new(0)) };
        Shared::new(Tree { root, count, entries: PhantomData })
    }

    /// The link to a leaf and what it holds, a leaf or nothing: at each branch on the way, `choose` says which child comes next.
    #[inline(always)]
    fn descend<'a, R: Read>(
        &'a self,
        tx: &mut R,
        mut choose: impl FnMut(&'a Link, u64, &'a Branch<K>) -> usize,
    ) -> Result<(&'a Link, u64)> {
        let mut link = &self.root;
        loop {
            let word = link.get(tx)?;
            if word & tag::MASK != tag::BRANCH {
                return Ok((link, word));
            }
            // SAFETY: the link, just read, says that the word leads to a branch.
            let branch = unsafe { node::<Branch<K>>(word - tag::BRANCH) };
            link = &branch.children[choose(link, word - tag::BRANCH, branch)];
        }
    }

    /// The entry of a key.
    #[inline]
    pub(super) fn find<R: Read, Q>(&self, tx: &mut R, key: &Q) -> Result<Option<&Cell<V>>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (_, word) = self.descend(tx, |_, _, branch| branch.child_of(key))?;
        if word == 0 {
            return Ok(None);
        }
        // SAFETY: the way ends at a leaf or at nothing.
        let leaf = unsafe { node::<Leaf<K>>(word - tag::LEAF) };
        let found = leaf.keys.binary_search_by(|k| k.borrow().cmp(key)).ok();
        // SAFETY: a leaf's words lead to entries, which are unlinked only with it.
        Ok(found.map(|at| unsafe { node(leaf.entries[at]) }))
    }

    /// The way to a key, with all its steps.
    pub(super) fn way<R: Read, Q>(&self, tx: &mut R, key: &Q) -> Result<Way<'_, V>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut steps = Vec::new();
        let (link, word) = self.descend(tx, |link, at, branch| {
            let child = branch.child_of(key);
            steps.push(Step { link, branch: at, child });
            child
        })?;
        if word == 0 {
            return Ok(Way { steps, link, word, at: 0, value: None });
        }
        // SAFETY: the way ends at a leaf or at nothing.
        let leaf = unsafe { node::<Leaf<K>>(word - tag::LEAF) };
        let found = leaf.keys.binary_search_by(|k| k.borrow().cmp(key));
        // SAFETY: a leaf's words lead to entries, which are unlinked only with it.
        let value = found.ok().map(|at| unsafe { node(leaf.entries[at]) });
        let (Ok(at) | Err(at)) = found;
        Ok(Way { steps, link, word, at, value })
    }

    /// A new branch with what the links of `children` hold.
    fn birth_branch<P: Protocol>(tx: &mut Tx<'_, P>, keys: impl Iterator<Item = K>, children: &[u64]) -> u64 {
        // SAFETY: a branch is retired when it is unlinked, or with the tree.
        let children = children.iter().map(|word| unsafe { Link::new(*word) });
        let branch = Branch::<K> { keys: Few::collect(keys), children: Few::collect(children) };
        birth(tx, branch) | tag::BRANCH
    }

    /// Adds a key that is not there, at the end of its way.
    pub(super) fn add<P: Protocol>(&self, tx: &mut Tx<'_, P>, mut way: Way<'_, V>, key: K, value: V) -> Result<()> {
        // SAFETY: an entry is retired when it is unlinked, or with the tree.
        let entry = birth(tx, unsafe { Cell::new(value) });
        let birth_leaf = |tx: &mut Tx<'_, P>, pairs: &[(&K, u64)]| {
            let keys = Few::collect(pairs.iter().map(|pair| pair.0.clone()));
            birth(tx, Leaf { keys, entries: Few::collect(pairs.iter().map(|pair| pair.1)) }) | tag::LEAF
        };
        self.count.add(tx, 1)?;
        if way.word == 0 {
            let leaf = birth_leaf(tx, &[(&key, entry)]);
            return way.link.set(tx, leaf);
        }
        // SAFETY: the way says so.
        let leaf = unsafe { node::<Leaf<K>>(way.word - tag::LEAF) };
        let mut pairs: Vec<(&K, u64)> = leaf.keys.iter().zip(leaf.entries.iter().copied()).collect();
        pairs.insert(way.at, (&key, entry));
        // SAFETY: what hangs in its place does not lead to it.
        unsafe { unlink::<Leaf<K>, P>(tx, way.word - tag::LEAF) };
        if pairs.len() <= LEAF {
            let leaf = birth_leaf(tx, &pairs);
            return way.link.set(tx, leaf);
        }
        // Keys often come in ascending order; then the left half will get no more, so it stays nearly full.
        let middle = if way.at + 1 == pairs.len() { LEAF - 1 } else { pairs.len() / 2 };
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
                return link.set(tx, branch);
            }
            let middle = if child + 2 == children.len() { FANOUT - 1 } else { children.len() / 2 };
            let mut keys = keys.into_iter();
            left = Self::birth_branch(tx, keys.by_ref().take(middle - 1), &children[..middle]);
            separator = keys.next().expect("there is a key between any two children");
            right = Self::birth_branch(tx, keys, &children[middle..]);
        }
        let root = Self::birth_branch(tx, std::iter::once(separator), &[left, right]);
        self.root.set(tx, root)
    }

    /// Removes the key at the end of the way.
    ///
    /// # Panics
    /// If it is not there.
    pub(super) fn cut<P: Protocol>(&self, tx: &mut Tx<'_, P>, mut way: Way<'_, V>) -> Result<()> {
        // A key that does not equal its clone is not found again.
        assert!(way.value.is_some(), "the key to be removed is there");
        // SAFETY: the way says so.
        let leaf = unsafe { node::<Leaf<K>>(way.word - tag::LEAF) };
        // SAFETY: what hangs in the leaf's place leads neither to it nor to the entry.
        unsafe {
            unlink::<Cell<V>, P>(tx, leaf.entries[way.at]);
            unlink::<Leaf<K>, P>(tx, way.word - tag::LEAF);
        }
        self.count.add(tx, -1)?;
        if leaf.keys.len() > 1 {
            let rest = (0..leaf.keys.len()).filter(|index| *index != way.at);
            let keys = Few::collect(rest.clone().map(|index| leaf.keys[index].clone()));
            let leaf = birth(tx, Leaf { keys, entries: Few::collect(rest.map(|index| leaf.entries[index])) });
            return way.link.set(tx, leaf | tag::LEAF);
        }
        let Some(Step { link, branch, child }) = way.steps.pop() else {
            return self.root.set(tx, 0);
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
        link.set(tx, word)
    }

    /// How many keys there are.
    pub(super) fn len<R: Read>(&self, tx: &mut R) -> Result<usize> {
        Ok(self.count.sum(tx)? as usize)
    }

    /// Whether there is no key.
    pub(super) fn is_empty<R: Read>(&self, tx: &mut R) -> Result<bool> {
        Ok(self.root.get(tx)? == 0)
    }

    /// Calls `f` with the keys within the bounds and their values, in ascending order, while it returns true.
    pub(super) fn visit<R: Read, Q>(
        &self,
        tx: &mut R,
        bounds: (Bound<&Q>, Bound<&Q>),
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
                        Bound::Included(low) | Bound::Excluded(low) => branch.child_of(low),
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
        below(tx, &self.root, bounds, &mut f).map(|_| ())
    }

    /// The key and value at the end of the way that takes child `choose(children)` everywhere.
    pub(super) fn outermost<R: Read>(&self, tx: &mut R, choose: impl Fn(usize) -> usize) -> Result<Option<(K, V)>>
    where
        V: Clone,
    {
        let (_, word) = self.descend(tx, |_, _, branch| choose(branch.children.len()))?;
        if word == 0 {
            return Ok(None);
        }
        // SAFETY: the way ends at a leaf or at nothing.
        let leaf = unsafe { node::<Leaf<K>>(word - tag::LEAF) };
        let at = choose(leaf.keys.len());
        // SAFETY: a leaf's words lead to entries.
        let value = unsafe { node::<Cell<V>>(leaf.entries[at]) }.get(tx)?;
        Ok(Some((leaf.keys[at].clone(), value)))
    }

    /// Removes every key.
    pub(super) fn clear<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<()> {
        // Reads every link, so that nothing can be added below one that is cut off.
        self.visit::<_, K>(tx, (Bound::Unbounded, Bound::Unbounded), |_, _, _| Ok(true))?;
        let word = self.root.get(tx)?;
        if word != 0 {
            self.root.set(tx, 0)?;
            tx.attempt.note_replaced(word, free_tree::<K, V>);
        }
        self.count.set(tx, 0)
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

impl<K: 'static, V: 'static> Drop for Tree<K, V> {
    fn drop(&mut self) {
        // SAFETY: the tree is freed, so no transaction can reach its nodes.
        unsafe { free_tree::<K, V>(self.root.get_mut()) };
    }
}
