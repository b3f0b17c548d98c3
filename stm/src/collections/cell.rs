//! The parts of a node that change: words with a header, embedded in the node.
//!
//! The promise that every barrier asks for, that the object stays allocated until the attempt ends, is given once, by whoever creates
//! a cell: its node is freed only by [`runtime::retire`], or by a transaction that nobody else could have followed to it.
#![expect(unsafe_code, reason = "calls the barriers, and follows pointers to nodes that are retired and not freed")]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::attempt::{DropWord, Place};
use crate::header::FRESH;
use crate::protocol::Protocol;
use crate::runtime;
use crate::tvar::{drop_box, into_word, is_inline, with_word};
use crate::tx::{Read, Result, Tx};

/// A versioned value inside a node.
#[repr(C)]
pub(super) struct Cell<T: 'static> {
    header: AtomicU64,
    word: AtomicU64,
    value: PhantomData<T>,
}

impl<T: 'static> Cell<T> {
    /// A cell that holds `value`.
    ///
    /// # Safety
    /// Once a transaction may have reached the cell, it is freed only when that transaction has ended.
    pub(super) unsafe fn new(value: T) -> Self {
        Cell { header: AtomicU64::new(FRESH), word: AtomicU64::new(into_word(value).0), value: PhantomData }
    }

    #[inline(always)]
    fn place(&self) -> Place {
        Place::new(&self.header, &self.word)
    }

    /// Calls `f` with the value.
    #[inline(always)]
    pub(super) fn with<R: Read, U>(&self, tx: &mut R, f: impl FnOnce(&T) -> U) -> Result<U> {
        // SAFETY: by the promise made to `new`.
        let word = unsafe { tx.read_word(self.place())? };
        // SAFETY: the word is a committed or own value of this cell, and its box is retired and not freed.
        Ok(unsafe { with_word(word, f) })
    }

    /// The value, cloned.
    #[inline(always)]
    pub(super) fn get<R: Read>(&self, tx: &mut R) -> Result<T>
    where
        T: Clone,
    {
        self.with(tx, T::clone)
    }

    /// The value as it is now, to be looked at while the attempt runs.
    #[inline(always)]
    pub(super) fn hold<R: Read>(&self, tx: &mut R) -> Result<Held<T>> {
        // SAFETY: by the promise made to `new`.
        Ok(Held { word: unsafe { tx.read_word(self.place())? }, value: PhantomData })
    }

    /// Sets the value.
    #[inline(always)]
    pub(super) fn set<P: Protocol>(&self, tx: &mut Tx<'_, P>, value: T) -> Result<()> {
        let (word, drop) = into_word(value);
        if let Some(drop) = drop {
            tx.attempt.note_born(word, drop);
        }
        // SAFETY: by the promise made to `new`.
        unsafe { P::write(tx.attempt, self.place(), word, drop) }
    }
}

/// A value that a transaction has read. It must not be used after the attempt.
pub(super) struct Held<T: 'static> {
    word: u64,
    value: PhantomData<T>,
}

impl<T: 'static> Held<T> {
    pub(super) fn get(&self) -> &T {
        if is_inline::<T>() {
            // SAFETY: the word is a valid value of the primitive type, at its start.
            unsafe { &*std::ptr::from_ref(&self.word).cast() }
        } else {
            // SAFETY: a value that is replaced is retired and not freed while the attempt runs.
            unsafe { node(self.word) }
        }
    }
}

impl<T: 'static> Drop for Cell<T> {
    fn drop(&mut self) {
        if !is_inline::<T>() {
            // SAFETY: the cell is the only owner of its present value: those before have been retired or freed.
            unsafe { drop_box::<T>(*self.word.get_mut()) };
        }
    }
}

/// A versioned word inside a node that leads to other nodes. What it means and who frees it is the structure's business.
#[repr(C)]
pub(super) struct Link {
    header: AtomicU64,
    word: AtomicU64,
}

impl Link {
    /// A link that holds `word`.
    ///
    /// # Safety
    /// As [`Cell::new`].
    pub(super) unsafe fn new(word: u64) -> Self {
        Link { header: AtomicU64::new(FRESH), word: AtomicU64::new(word) }
    }

    /// The word.
    #[inline(always)]
    pub(super) fn get<R: Read>(&self, tx: &mut R) -> Result<u64> {
        // SAFETY: by the promise made to `new`.
        unsafe { tx.read_word(Place::new(&self.header, &self.word)) }
    }

    /// Sets the word.
    #[inline(always)]
    pub(super) fn set<P: Protocol>(&self, tx: &mut Tx<'_, P>, word: u64) -> Result<()> {
        // SAFETY: by the promise made to `new`.
        unsafe { P::write(tx.attempt, Place::new(&self.header, &self.word), word, None) }
    }

    /// The word, where no transaction can reach the link.
    pub(super) fn get_mut(&mut self) -> u64 {
        *self.word.get_mut()
    }

    /// The word, where no transaction can change the link any more.
    pub(super) fn get_unreachable(&self) -> u64 {
        // Relaxed: whoever may free the node has synchronised with all that wrote it.
        self.word.load(Ordering::Relaxed)
    }
}

/// A versioned value inside a node that need not be there; the structure knows whether it is.
#[repr(C)]
pub(super) struct Room<T: 'static> {
    header: AtomicU64,
    /// 0 where there is no value, if values are boxed.
    word: AtomicU64,
    value: PhantomData<T>,
}

impl<T: 'static> Room<T> {
    /// An empty one.
    ///
    /// # Safety
    /// As [`Cell::new`].
    pub(super) unsafe fn new() -> Self {
        Room { header: AtomicU64::new(FRESH), word: AtomicU64::new(0), value: PhantomData }
    }

    fn drop_word() -> Option<DropWord> {
        (!is_inline::<T>()).then_some(drop_if_there::<T>)
    }

    /// Calls `f` with the value.
    ///
    /// # Safety
    /// The transaction has read that there is one.
    #[inline(always)]
    pub(super) unsafe fn with<R: Read, U>(&self, tx: &mut R, f: impl FnOnce(&T) -> U) -> Result<U> {
        // SAFETY: by the promise made to `new`.
        let word = unsafe { tx.read_word(Place::new(&self.header, &self.word))? };
        // SAFETY: by the caller's promise the word is a value of this type, since both reads belong to one state.
        Ok(unsafe { with_word(word, f) })
    }

    /// Sets the value.
    #[inline(always)]
    pub(super) fn set<P: Protocol>(&self, tx: &mut Tx<'_, P>, value: T) -> Result<()> {
        let (word, drop) = into_word(value);
        if let Some(drop) = drop {
            tx.attempt.note_born(word, drop);
        }
        // SAFETY: by the promise made to `new`.
        unsafe { P::write(tx.attempt, Place::new(&self.header, &self.word), word, Self::drop_word()) }
    }

    /// Takes the value away.
    #[inline(always)]
    pub(super) fn clear<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<()> {
        match Self::drop_word() {
            // SAFETY: by the promise made to `new`.
            drop @ Some(_) => unsafe { P::write(tx.attempt, Place::new(&self.header, &self.word), 0, drop) },
            None => Ok(()),
        }
    }
}

unsafe fn drop_if_there<T>(word: u64) {
    if word != 0 {
        // SAFETY: the word is that of a boxed value, and passed on by whoever has made it unreachable.
        unsafe { drop_box::<T>(word) };
    }
}

impl<T: 'static> Drop for Room<T> {
    fn drop(&mut self) {
        if !is_inline::<T>() {
            // SAFETY: as for `Cell`.
            unsafe { drop_if_there::<T>(*self.word.get_mut()) };
        }
    }
}

/// An object of two words.
#[repr(C)]
pub(super) struct Two {
    header: AtomicU64,
    words: [AtomicU64; 2],
}

impl Two {
    /// # Safety
    /// As [`Cell::new`].
    pub(super) unsafe fn new(words: [u64; 2]) -> Self {
        Two { header: AtomicU64::new(FRESH), words: words.map(AtomicU64::new) }
    }

    /// A word.
    #[inline(always)]
    pub(super) fn get<R: Read>(&self, tx: &mut R, at: usize) -> Result<u64> {
        // SAFETY: by the promise made to `new`.
        unsafe { tx.read_word(Place::new(&self.header, &self.words[at])) }
    }

    /// Sets a word.
    #[inline(always)]
    pub(super) fn set<P: Protocol>(&self, tx: &mut Tx<'_, P>, at: usize, word: u64) -> Result<()> {
        // SAFETY: by the promise made to `new`.
        unsafe { P::write(tx.attempt, Place::new(&self.header, &self.words[at]), word, None) }
    }

    /// A word, where no transaction can reach the object.
    pub(super) fn get_mut(&mut self, at: usize) -> u64 {
        *self.words[at].get_mut()
    }
}

/// The word that leads to a new node. It belongs to whoever creates it.
pub(super) fn new_node<N>(node: N) -> u64 {
    Box::into_raw(Box::new(node)).expose_provenance() as u64
}

/// The word that leads to a new node, which belongs to the transaction until it commits.
pub(super) fn birth<N, P: Protocol>(tx: &mut Tx<'_, P>, node: N) -> u64 {
    let word = new_node(node);
    tx.attempt.note_born(word, retire_node::<N>);
    word
}

/// Notes that the node will be unreachable once the transaction has committed.
///
/// # Safety
/// The word is from [`birth`] for this type, and nothing leads to the node any more unless the transaction aborts.
pub(super) unsafe fn unlink<N, P: Protocol>(tx: &mut Tx<'_, P>, word: u64) {
    tx.attempt.note_replaced(word, free_node::<N>);
}

/// The node that a word leads to. The reference must not be used after the attempt.
///
/// # Safety
/// The word is from [`birth`] for this type and was read in the running attempt, or nobody else can reach the node.
#[inline(always)]
pub(super) unsafe fn node<'a, N>(word: u64) -> &'a N {
    // SAFETY: by the caller's promise.
    unsafe { &*std::ptr::with_exposed_provenance::<N>(word as usize) }
}

/// Frees a node at once.
///
/// # Safety
/// The word is from [`birth`] for this type and nobody can reach the node.
pub(super) unsafe fn free_node<N>(word: u64) {
    // SAFETY: by the caller's promise.
    drop(unsafe { Box::from_raw(std::ptr::with_exposed_provenance_mut::<N>(word as usize)) });
}

/// Drops a node of a transaction that has been undone. It is retired and not freed: where only a nested transaction is undone, the
/// enclosing one still has the node's headers in its logs.
unsafe fn retire_node<N>(word: u64) {
    // SAFETY: the transaction that created the node has undone what led to it.
    unsafe { retire(word, free_node::<N>) };
}

/// Retires what a word leads to.
///
/// # Safety
/// As [`runtime::retire`].
pub(super) unsafe fn retire(word: u64, drop: DropWord) {
    // SAFETY: by the caller's promise.
    unsafe { runtime::retire(word, drop) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_one_word_beside_its_fields() {
        assert_eq!((size_of::<Cell<u64>>(), size_of::<Cell<String>>()), (16, 16));
        assert_eq!((size_of::<Link>(), size_of::<Room<String>>(), size_of::<Two>()), (16, 16, 24));
    }
}
