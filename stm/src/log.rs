//! Logs that are appended to within a barrier.
//!
//! A log is a vector that keeps its end as a pointer, so that an append is a comparison and two stores, whether compiled from Rust or
//! emitted by a code generator (see the recipe in [`protocol::eager`](crate::protocol::eager)):
//!
//! ```text
//!  start            end            limit
//! ┌──────────────────┬───────────────┐
//! │ entries          │ room          │
//! └──────────────────┴───────────────┘
//! ```
#![expect(unsafe_code, reason = "keeps a vector as three pointers")]

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// A log of entries that need no drop.
#[derive(Debug)]
#[repr(C)]
pub struct Log<T> {
    /// Where the next entry goes.
    end: *mut T,
    /// The end of the room.
    limit: *mut T,
    start: *mut T,
}

// SAFETY: the log owns its entries as a vector does.
unsafe impl<T: Send> Send for Log<T> {}

impl<T> Default for Log<T> {
    fn default() -> Self {
        const { assert!(!std::mem::needs_drop::<T>(), "entries are forgotten, not dropped") };
        Self::from_vec(Vec::new())
    }
}

impl<T> Log<T> {
    fn from_vec(entries: Vec<T>) -> Self {
        let mut entries = ManuallyDrop::new(entries);
        let (start, length, capacity) = (entries.as_mut_ptr(), entries.len(), entries.capacity());
        // SAFETY: both offsets are within the vector's allocation or at its end.
        unsafe { Log { end: start.add(length), limit: start.add(capacity), start } }
    }

    /// The vector that this log is, leaving the log to be overwritten or forgotten.
    fn take_vec(&mut self) -> Vec<T> {
        // SAFETY: the three pointers are those of a vector, as `from_vec` took it apart; the ends are not before the start.
        unsafe {
            let length = self.end.offset_from_unsigned(self.start);
            let capacity = self.limit.offset_from_unsigned(self.start);
            Vec::from_raw_parts(self.start, length, capacity)
        }
    }

    /// Passes the log as a vector to `change`.
    pub(crate) fn as_vec(&mut self, change: impl FnOnce(&mut Vec<T>)) {
        let mut entries = self.take_vec();
        // So that the entries have one owner even if `change` panics.
        self.become_vec(Vec::new());
        change(&mut entries);
        self.become_vec(entries);
    }

    /// Takes over a vector; what the log was is forgotten.
    fn become_vec(&mut self, entries: Vec<T>) {
        let log = ManuallyDrop::new(Self::from_vec(entries));
        (self.end, self.limit, self.start) = (log.end, log.limit, log.start);
    }

    /// Appends an entry. If there is no room, `make_room` makes some.
    #[inline(always)]
    pub(crate) fn push_or(&mut self, entry: T, make_room: impl FnOnce(&mut Self)) {
        if self.end == self.limit {
            make_room(self);
        }
        // SAFETY: there is room for one more.
        unsafe {
            self.end.write(entry);
            self.end = self.end.add(1);
        }
    }

    /// Appends an entry.
    #[inline(always)]
    pub fn push(&mut self, entry: T) {
        self.push_or(entry, Self::grow);
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        self.as_vec(|entries| entries.reserve(entries.len().max(64)));
    }

    /// Whether there is no entry.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Forgets all.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.end = self.start;
    }

    /// Forgets all but the first `length`.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn truncate(&mut self, length: usize) {
        assert!(length <= self.len(), "a log is cut, not extended");
        // SAFETY: within the entries.
        self.end = unsafe { self.start.add(length) };
    }

    /// The entries.
    #[inline(always)]
    #[must_use]
    pub fn entries(&self) -> &[T] {
        self
    }

    /// The distance of the end from the start, in bytes.
    #[inline(always)]
    pub(crate) fn offset(&self) -> usize {
        self.end.addr() - self.start.addr()
    }
}

impl<T> Deref for Log<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: as in `take_vec`; the entries up to the end have been written.
        unsafe { std::slice::from_raw_parts(self.start, self.end.offset_from_unsigned(self.start)) }
    }
}

impl<T> DerefMut for Log<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.end.offset_from_unsigned(self.start)) }
    }
}

impl<'a, T> IntoIterator for &'a Log<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    #[inline(always)]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut Log<T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    #[inline(always)]
    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<T> Drop for Log<T> {
    fn drop(&mut self) {
        drop(self.take_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_growth_and_cuts() {
        let mut log = Log::default();
        assert!(log.is_empty());
        for number in 0..1000_u64 {
            assert_eq!(log.offset(), number as usize * 8);
            log.push(number);
        }
        assert_eq!(log.entries(), (0..1000).collect::<Vec<u64>>());
        log.truncate(10);
        log.push(7);
        assert_eq!((log.len(), log[10]), (11, 7));
        log.clear();
        assert!(log.is_empty() && log.entries().is_empty());
    }
}
