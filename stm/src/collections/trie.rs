//! The hash trie below [`TMap`](super::TMap): its nodes, the way to a key, growth and shrinking, visits and scans.
//!
//! It is Bagwell's ("Ideal hash trees", 2001; the transactional use is Bronson's in ScalaSTM), but its inner nodes are never removed:
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
use std::hash::{BuildHasher, Hash};
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

/// Keys and values by the hashes of the keys.
pub(super) struct Trie<K: 'static, V: 'static, S: 'static> {
    root: Branch,
    count: Stripes,
    hasher: S,
    entries: PhantomData<Entry<K, V>>,
}

struct Branch {
    slots: [Link; FANOUT],
}

pub(super) struct Entry<K: 'static, V: 'static> {
    pub(super) value: Cell<V>,
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
        // SAFETY: branches are parts of a trie, which is retired with its last handle, and are freed with it.
        Branch { slots: std::array::from_fn(|index| unsafe { Link::new(words(index)) }) }
    }
}

/// The slot of a branch for a hash of which the lower `shift` bits are used up.
#[inline(always)]
fn index(hash: u64, shift: u32) -> usize {
    (hash >> shift) as usize & (FANOUT - 1)
}

/// The last slot on the way to a key.
pub(super) struct End<'a, K: 'static, V: 'static> {
    slot: &'a Link,
    /// What it holds: nothing, an entry or a leaf.
    word: u64,
    hash: u64,
    /// The bits of the hash used up on the way.
    shift: u32,
    /// The word that leads to the key's entry, or 0.
    entry: u64,
    entries: PhantomData<&'a Entry<K, V>>,
}

impl<'a, K: 'static, V: 'static> End<'a, K, V> {
    /// The key's entry, if the key is there. The reference is used within one operation only.
    #[inline(always)]
    pub(super) fn entry(&self) -> Option<&'a Entry<K, V>> {
        // SAFETY: found on the way just read.
        (self.entry != 0).then(|| unsafe { node(self.entry) })
    }
}

impl<K, V, S> Trie<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// An empty one, and the first handle to it.
    pub(super) fn shared(hasher: S) -> Shared<Self> {
        // SAFETY: the trie is retired with its last handle.
        let count = unsafe { Stripes::new(0) };
        Shared::new(Trie { root: Branch::new(|_| 0), count, hasher, entries: PhantomData })
    }

    /// The way to a key, as far as it goes.
    #[inline]
    pub(super) fn find<R: Read, Q>(&self, tx: &mut R, key: &Q) -> Result<End<'_, K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        let mut slot = &self.root.slots[index(hash, 0)];
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
            return Ok(End { slot, word, hash, shift, entry, entries: PhantomData });
        }
    }

    /// Hangs a new entry at the end of the way to its key.
    #[inline(never)]
    pub(super) fn add<P: Protocol>(&self, tx: &mut Tx<'_, P>, end: &End<'_, K, V>, key: K, value: V) -> Result<()> {
        // SAFETY: an entry is retired when it is unlinked, or with the trie.
        let entry = birth(tx, Entry { value: unsafe { Cell::new(value) }, hash: end.hash, key });
        let pair = [end.hash, entry];
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
                // What hangs in the slot in its place does not lead to the leaf.
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
        self.count.add(tx, 1)
    }

    /// Unlinks the entry that was found.
    ///
    /// # Panics
    /// If none was.
    #[inline(never)]
    pub(super) fn cut<P: Protocol>(&self, tx: &mut Tx<'_, P>, end: &End<'_, K, V>) -> Result<()> {
        // A key that does not equal its clone is not found again.
        assert!(end.entry != 0, "the key to be removed is there");
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
        self.count.add(tx, -1)
    }

    /// How many keys there are.
    pub(super) fn len<R: Read>(&self, tx: &mut R) -> Result<usize> {
        Ok(self.count.sum(tx)? as usize)
    }

    /// Calls `f` with every key and value, until it fails.
    pub(super) fn try_for_each<R: Read>(
        &self,
        tx: &mut R,
        mut f: impl FnMut(&mut R, &K, &V) -> Result<()>,
    ) -> Result<()> {
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
        self.root.slots.iter().try_for_each(|slot| visit(tx, slot, &mut f))
    }

    /// Calls `f` with keys and values from `cursor` on, a whole slot at a time, until it has been called `wanted` times or more; returns the
    /// cursor to go on with, or 0 at the end. The cursor is a hash whose lowest five bits come first in the order of the scan, as the
    /// trie has it.
    pub(super) fn scan<R: Read>(
        &self,
        tx: &mut R,
        mut cursor: u64,
        wanted: usize,
        mut f: impl FnMut(&K, &V),
    ) -> Result<u64> {
        let mut visited = 0;
        loop {
            let mut slot = &self.root.slots[index(cursor, 0)];
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

    /// Removes every key.
    pub(super) fn clear<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<()> {
        // Reads every slot, so that nothing can be added below a branch that is cut off.
        self.try_for_each(tx, |_, _, _| Ok(()))?;
        for slot in &self.root.slots {
            let word = slot.get(tx)?;
            if word != 0 {
                slot.set(tx, 0)?;
                tx.attempt.note_replaced(word, free_tree::<K, V>);
            }
        }
        self.count.set(tx, 0)
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

impl<K: 'static, V: 'static, S: 'static> Drop for Trie<K, V, S> {
    fn drop(&mut self) {
        for slot in &mut self.root.slots {
            // SAFETY: the trie is freed, so no transaction can reach its nodes.
            unsafe { free_tree::<K, V>(slot.get_mut()) };
        }
    }
}
