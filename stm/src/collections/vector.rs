//! A vector in chunks.
//!
//! ```text
//!   directory   32 links, each to a segment: 16 elements, 32, 64, …; allocated when first needed, and then there for good
//!   segment     chunks of 16 elements
//!   chunk       how many of its elements are there, and each element in a cell of its own
//! ```
//!
//! 1. Whether an index is there is asked of its chunk, so that looking at one conflicts with a push or pop only in the same chunk.
//! 2. A push or pop also writes the length, so these conflict among each other, as their order says they must.
#![expect(unsafe_code, reason = "follows words that lead to segments")]

use std::fmt;
use std::marker::PhantomData;

use crossbeam_utils::CachePadded;

use super::cell::{Link, Room, birth, free_node, node};
use super::shared::Shared;
use crate::protocol::Protocol;
use crate::tx::{Read, Result, Tx};

/// Elements in a chunk, and in the first segment.
const CHUNK: usize = 16;
/// Segments: enough for 2³⁶ elements.
const SEGMENTS: usize = 32;

/// A transactional vector.
///
/// Cloning it gives another handle to the same vector.
///
/// ```
/// use optimist_stm::atomically;
/// use optimist_stm::collections::TVec;
///
/// let scores: TVec<u32> = TVec::new();
/// atomically(|tx| {
///     scores.push(tx, 3)?;
///     scores.push(tx, 4)
/// });
/// assert!(atomically(|tx| scores.modify(tx, 1, |score| score + 1)));
/// assert_eq!(atomically(|tx| scores.values(tx)), [3, 5]);
/// ```
pub struct TVec<T: 'static> {
    inner: Shared<Inner<T>>,
}

struct Inner<T: 'static> {
    length: CachePadded<Link>,
    directory: [Link; SEGMENTS],
    values: PhantomData<T>,
}

struct Segment<T: 'static> {
    chunks: Box<[Chunk<T>]>,
}

struct Chunk<T: 'static> {
    fill: Link,
    elements: [Room<T>; CHUNK],
}

/// Where an index is: segment, chunk, element.
#[inline(always)]
fn locate(index: usize) -> (usize, usize, usize) {
    let shifted = index + CHUNK;
    let segment = (shifted.ilog2() - CHUNK.ilog2()) as usize;
    let offset = shifted - (CHUNK << segment);
    (segment, offset / CHUNK, offset % CHUNK)
}

impl<T: 'static> Segment<T> {
    fn new(index: usize) -> Self {
        // SAFETY: a segment is freed with the vector, which is retired with its last handle.
        let chunk = || unsafe { Chunk { fill: Link::new(0), elements: std::array::from_fn(|_| Room::new()) } };
        Segment { chunks: (0..1 << index).map(|_| chunk()).collect() }
    }
}

impl<T: Clone + Send + Sync + 'static> TVec<T> {
    /// An empty vector.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: the vector is retired with its last handle.
        let link = || unsafe { Link::new(0) };
        let directory = std::array::from_fn(|_| link());
        TVec { inner: Shared::new(Inner { length: CachePadded::new(link()), directory, values: PhantomData }) }
    }

    /// The element at `index`, if it is there.
    #[inline]
    fn find<R: Read>(&self, tx: &mut R, index: usize) -> Result<Option<&Room<T>>> {
        let (segment, chunk, element) = locate(index);
        let Some(link) = self.inner.directory.get(segment) else { return Ok(None) };
        let word = link.get(tx)?;
        if word == 0 {
            return Ok(None);
        }
        // SAFETY: the directory, just read, leads to it.
        let chunk = &unsafe { node::<Segment<T>>(word) }.chunks[chunk];
        Ok(((element as u64) < chunk.fill.get(tx)?).then(|| &chunk.elements[element]))
    }

    /// Calls `f` with the element at `index`, if it is there, without cloning it.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    #[inline]
    pub fn with<R: Read, U>(&self, tx: &mut R, index: usize, f: impl FnOnce(&T) -> U) -> Result<Option<U>> {
        match self.find(tx, index)? {
            // SAFETY: its chunk says that it is there.
            Some(element) => unsafe { element.with(tx, f) }.map(Some),
            None => Ok(None),
        }
    }

    /// The element at `index`, cloned, if it is there.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    #[inline]
    pub fn get<R: Read>(&self, tx: &mut R, index: usize) -> Result<Option<T>> {
        self.with(tx, index, T::clone)
    }

    /// Sets the element at `index` if it is there, and says whether it is.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    #[inline]
    pub fn set<P: Protocol>(&self, tx: &mut Tx<'_, P>, index: usize, value: T) -> Result<bool> {
        match self.find(tx, index)? {
            Some(element) => element.set(tx, value).map(|()| true),
            None => Ok(false),
        }
    }

    /// Replaces the element at `index` by `f` of it if it is there, and says whether it is.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Abort safety
    /// `f` runs again if the transaction does.
    #[inline]
    pub fn modify<P: Protocol>(&self, tx: &mut Tx<'_, P>, index: usize, f: impl FnOnce(&T) -> T) -> Result<bool> {
        match self.find(tx, index)? {
            Some(element) => {
                // SAFETY: its chunk says that it is there.
                let value = unsafe { element.with(tx, f)? };
                element.set(tx, value).map(|()| true)
            }
            None => Ok(false),
        }
    }

    /// Appends `value` and returns its index.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// # Panics
    /// With 2³⁶ elements.
    pub fn push<P: Protocol>(&self, tx: &mut Tx<'_, P>, value: T) -> Result<usize> {
        let length = self.inner.length.get(tx)? as usize;
        let (segment, chunk, element) = locate(length);
        let link = self.inner.directory.get(segment).expect("a vector has fewer than 2^36 elements");
        let mut word = link.get(tx)?;
        if word == 0 {
            word = birth(tx, Segment::<T>::new(segment));
            link.set(tx, word)?;
        }
        // SAFETY: the directory leads to it.
        let chunk = &unsafe { node::<Segment<T>>(word) }.chunks[chunk];
        chunk.elements[element].set(tx, value)?;
        chunk.fill.set(tx, element as u64 + 1)?;
        self.inner.length.set(tx, length as u64 + 1)?;
        Ok(length)
    }

    /// Removes the last element and returns it, if there is one.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn pop<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<Option<T>> {
        let Some(last) = (self.inner.length.get(tx)? as usize).checked_sub(1) else { return Ok(None) };
        let (segment, chunk, element) = locate(last);
        let word = self.inner.directory[segment].get(tx)?;
        // SAFETY: there is an element in it, so the directory leads to it.
        let chunk = &unsafe { node::<Segment<T>>(word) }.chunks[chunk];
        let room = &chunk.elements[element];
        // SAFETY: the length says that it is there.
        let value = unsafe { room.with(tx, T::clone)? };
        room.clear(tx)?;
        chunk.fill.set(tx, element as u64)?;
        self.inner.length.set(tx, last as u64)?;
        Ok(Some(value))
    }

    /// Removes the elements from index `length` on.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    ///
    /// ```
    /// # use optimist_stm::{atomically, collections::TVec};
    /// let vector = TVec::new();
    /// (0..5).for_each(|n| drop(atomically(|tx| vector.push(tx, n))));
    /// atomically(|tx| {
    ///     vector.swap(tx, 0, 1)?;
    ///     vector.truncate(tx, 3)
    /// });
    /// assert_eq!(atomically(|tx| vector.values(tx)), [1, 0, 2]);
    /// ```
    pub fn truncate<P: Protocol>(&self, tx: &mut Tx<'_, P>, length: usize) -> Result<()> {
        while self.len(tx)? > length {
            self.pop(tx)?;
        }
        Ok(())
    }

    /// Removes every element. Conflicts with whoever has looked for any.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn clear<P: Protocol>(&self, tx: &mut Tx<'_, P>) -> Result<()> {
        self.truncate(tx, 0)
    }

    /// Exchanges two elements if both are there, and says whether they are. Conflicts with whoever touches one of them.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn swap<P: Protocol>(&self, tx: &mut Tx<'_, P>, first: usize, second: usize) -> Result<bool> {
        let (Some(left), Some(right)) = (self.get(tx, first)?, self.get(tx, second)?) else { return Ok(false) };
        self.set(tx, first, right)?;
        self.set(tx, second, left)
    }

    /// How many elements there are. Conflicts with every push and pop.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn len<R: Read>(&self, tx: &mut R) -> Result<usize> {
        Ok(self.inner.length.get(tx)? as usize)
    }

    /// Whether there is no element. Conflicts as [`len`](Self::len).
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn is_empty<R: Read>(&self, tx: &mut R) -> Result<bool> {
        Ok(self.len(tx)? == 0)
    }

    /// All elements, cloned, in their order.
    ///
    /// # Errors
    /// An [`Abort`](crate::Abort), to be passed on with `?`.
    pub fn values<R: Read>(&self, tx: &mut R) -> Result<Vec<T>> {
        let length = self.len(tx)?;
        let mut values = Vec::with_capacity(length);
        for index in 0..length {
            values.extend(self.get(tx, index)?);
        }
        Ok(values)
    }
}

impl<T: 'static> Drop for Inner<T> {
    fn drop(&mut self) {
        for link in &mut self.directory {
            let word = link.get_mut();
            if word != 0 {
                // SAFETY: the vector is freed, so no transaction can reach its segments.
                unsafe { free_node::<Segment<T>>(word) };
            }
        }
    }
}

impl<T> Clone for TVec<T> {
    fn clone(&self) -> Self {
        TVec { inner: self.inner.clone() }
    }
}

impl<T: Clone + Send + Sync + 'static> Default for TVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for TVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TVec").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let mut expected = (0, 0, 0);
        for index in 0..10_000 {
            assert_eq!(locate(index), expected, "index {index}");
            expected.2 += 1;
            if expected.2 == CHUNK {
                expected = (expected.0, expected.1 + 1, 0);
            }
            if expected.1 == 1 << expected.0 {
                expected = (expected.0 + 1, 0, 0);
            }
        }
    }
}
