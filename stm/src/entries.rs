//! What the logs of an [`Attempt`](crate::attempt::Attempt) hold: places, locks, old values.
#![expect(unsafe_code, reason = "entries hold pointers to words whose lifetime the caller of a barrier guarantees")]

use std::ops::Deref;

use crate::atomics::{Atomics, Native};
use crate::log::Log;

/// A field and the header of the object that it belongs to.
#[derive(Debug)]
pub struct Place<A: Atomics = Native> {
    /// The header.
    pub header: *const A::Word,
    /// The field.
    pub field: *const A::Word,
}

impl<A: Atomics> Clone for Place<A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<A: Atomics> Copy for Place<A> {}

impl<A: Atomics> Place<A> {
    /// The place of `field` in the object with this header.
    #[inline(always)]
    pub fn new(header: &A::Word, field: &A::Word) -> Self {
        Place { header, field }
    }

    /// The header.
    ///
    /// # Safety
    /// The object is still allocated.
    #[inline(always)]
    #[must_use]
    pub unsafe fn header<'a>(self) -> &'a A::Word {
        // SAFETY: by the caller's promise.
        unsafe { &*self.header }
    }

    /// The field.
    ///
    /// # Safety
    /// The object is still allocated.
    #[inline(always)]
    #[must_use]
    pub unsafe fn field<'a>(self) -> &'a A::Word {
        // SAFETY: by the caller's promise.
        unsafe { &*self.field }
    }

    /// How many words the field stands behind the header, if [`Saved`] can say so.
    #[inline(always)]
    pub(crate) fn distance(self) -> Option<u32> {
        let bytes = self.field.addr().wrapping_sub(self.header.addr());
        let words = bytes / size_of::<A::Word>();
        (words < Saved::FIELDS && words * size_of::<A::Word>() == bytes).then_some(words as u32)
    }
}

/// Frees a boxed value, given the word that holds the pointer to it.
pub type DropWord = unsafe fn(u64);

/// What a [`Lock`] knows about the fields of its object.
///
/// | bits | meaning |
/// | --- | --- |
/// | 0 | the object was written |
/// | 1 … 57 | the old value of the field at this distance from the header, in words, has been saved since the last savepoint |
/// | 58 … 63 | the distance of the field whose old value stands in the lock's own entry; 0 if there is none |
///
/// The values of all other fields are in the undo log. Fields too far from the header have no bit and are saved at every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved(u64);

impl Saved {
    /// The number of distances that have a bit.
    const FIELDS: usize = 58;
    const WRITTEN_BIT: u64 = 1;
    const HERE: u32 = Self::FIELDS as u32;

    /// The object is only locked.
    pub const NOTHING: Saved = Saved(0);
    /// The object was written; where the old values are is the protocol's business.
    pub const WRITTEN: Saved = Saved(Self::WRITTEN_BIT);

    /// The object was written at this distance, and the lock's entry has the old value.
    #[inline(always)]
    pub(crate) fn here(distance: u32) -> Saved {
        Saved(Self::WRITTEN_BIT | 1 << distance | u64::from(distance) << Self::HERE)
    }

    /// Whether the object was written.
    #[inline(always)]
    #[must_use]
    pub fn is_written(self) -> bool {
        self.0 & Self::WRITTEN_BIT != 0
    }

    /// Notes that the object is written.
    #[inline(always)]
    pub fn write(&mut self) {
        self.0 |= Self::WRITTEN_BIT;
    }

    /// Notes that a field is written, and says whether its old value is still to be saved.
    #[inline(always)]
    #[must_use]
    pub fn write_field<A: Atomics>(&mut self, place: Place<A>) -> bool {
        let saved = self.has_field(place);
        let bit = place.distance().map_or(0, |distance| 1 << distance);
        self.0 |= Self::WRITTEN_BIT | bit;
        !saved
    }

    /// Whether the old value of a field has been saved since the last savepoint.
    #[inline(always)]
    #[must_use]
    pub(crate) fn has_field<A: Atomics>(self, place: Place<A>) -> bool {
        place.distance().is_some_and(|distance| self.0 & 1 << distance != 0)
    }

    /// The bits of the fields whose old values have been saved.
    pub(crate) fn fields(self) -> u64 {
        self.0 & !Self::WRITTEN_BIT & !(!0 << Self::HERE)
    }

    /// A savepoint: what has been saved before it is to be saved again.
    pub(crate) fn mark(&mut self) {
        self.0 &= Self::WRITTEN_BIT | !0 << Self::HERE;
    }
}

/// A lock held by the running attempt. An entry never crosses a cache line.
#[derive(Debug)]
#[repr(C, align(32))]
pub struct Lock<A: Atomics> {
    /// The locked header.
    pub header: *const A::Word,
    /// What it held before.
    pub version: u64,
    /// What is known about the fields.
    pub saved: Saved,
    /// The old value of the field that `saved` names.
    pub(crate) value: u64,
}

impl<A: Atomics> Lock<A> {
    /// A lock on an object, nothing of which has been saved in its entry.
    #[inline(always)]
    #[must_use]
    pub fn new(header: *const A::Word, version: u64, saved: Saved) -> Self {
        Lock { header, version, saved, value: 0 }
    }

    /// The field whose old value this entry has, and the value.
    #[inline(always)]
    #[must_use]
    pub fn old_value(&self) -> Option<(*const A::Word, u64)> {
        let distance = (self.saved.0 >> Saved::HERE) as usize;
        if distance == 0 {
            return None;
        }
        let field = self.header.addr() + distance * size_of::<A::Word>();
        // Exposed when the entry was made.
        Some((std::ptr::with_exposed_provenance(field), self.value))
    }
}

/// The old value of a field written in place.
#[derive(Debug)]
pub struct Undo<A: Atomics> {
    /// The field.
    pub field: *const A::Word,
    /// Its value before.
    pub value: u64,
}

/// A field and the value read from it.
#[derive(Debug)]
pub struct ValueRead<A: Atomics> {
    /// Where.
    pub place: Place<A>,
    /// The value read.
    pub value: u64,
}

/// A boxed value and how to free it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owned {
    pub(crate) word: u64,
    pub(crate) drop: DropWord,
}

/// The headers read, in order, possibly repeated.
///
/// A transaction that reads the same objects over and over would grow its log without bound; when the log is full, repetitions are
/// dropped before it is allowed to grow.
#[derive(Debug)]
#[repr(transparent)]
pub struct ReadLog<A: Atomics>(Log<*const A::Word>);

impl<A: Atomics> Default for ReadLog<A> {
    fn default() -> Self {
        ReadLog(Log::default())
    }
}

impl<A: Atomics> ReadLog<A> {
    /// Appends a header.
    #[inline(always)]
    pub fn push(&mut self, header: *const A::Word) {
        self.0.push_or(header, Self::make_room);
    }

    #[cold]
    #[inline(never)]
    fn make_room(log: &mut Log<*const A::Word>) {
        log.as_vec(|entries| {
            entries.sort_unstable();
            entries.dedup();
            let length = entries.len();
            if length * 2 >= entries.capacity() {
                entries.reserve(length.max(64));
            }
        });
    }

    /// Forgets all.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<A: Atomics> Deref for ReadLog<A> {
    type Target = Log<*const A::Word>;

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
