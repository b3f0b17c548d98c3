//! Writes kept back until commit, found again by field.

use crate::atomics::Atomics;
use crate::attempt::{DropWord, Place};
use crate::log::Log;

/// A write kept back.
#[derive(Debug)]
pub struct Write<A: Atomics> {
    /// Where.
    pub place: Place<A>,
    /// What.
    pub value: u64,
    /// How to free the value that it replaces, for boxed values.
    pub drop: Option<DropWord>,
}

/// The buffered writes of one transaction, oldest first, with an index from field to its newest entry.
///
/// Up to `SCAN` entries are searched from the newest back; beyond that an open-addressing table is kept. A write to a field already
/// written since the last savepoint overwrites its entry; one written before the savepoint gets a second entry, which the
/// roll-back removes.
#[derive(Debug)]
pub struct WriteBuffer<A: Atomics> {
    writes: Log<Write<A>>,
    /// Positions in `writes` plus one; 0 is empty. Power of two long, at most half full.
    table: Vec<u32>,
    /// Entries before this one were there at the last savepoint.
    floor: usize,
}

/// The number of writes up to which a scan beats a table.
const SCAN: usize = 8;

impl<A: Atomics> Default for WriteBuffer<A> {
    fn default() -> Self {
        WriteBuffer { writes: Log::default(), table: Vec::new(), floor: 0 }
    }
}

impl<A: Atomics> WriteBuffer<A> {
    /// Whether nothing is kept back.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The newest value kept back for `field`.
    #[inline]
    #[must_use]
    pub fn get(&self, field: *const A::Word) -> Option<u64> {
        self.find(field).map(|index| self.writes[index].value)
    }

    /// Keeps back a write, and returns the value of an earlier one that it overwrites.
    #[inline(always)]
    pub fn set(&mut self, place: Place<A>, value: u64, drop: Option<DropWord>) -> Option<u64> {
        if self.writes.is_empty() {
            self.writes.push(Write { place, value, drop });
            return None;
        }
        self.set_another(place, value, drop)
    }

    #[inline]
    fn set_another(&mut self, place: Place<A>, value: u64, drop: Option<DropWord>) -> Option<u64> {
        match self.find(place.field) {
            Some(index) if index >= self.floor => Some(std::mem::replace(&mut self.writes[index].value, value)),
            _ => {
                self.writes.push(Write { place, value, drop });
                if self.writes.len() > SCAN {
                    self.enter(self.writes.len() - 1);
                }
                None
            }
        }
    }

    /// All writes, oldest first. A field may occur more than once; the last one counts.
    #[must_use]
    pub fn writes(&self) -> &[Write<A>] {
        &self.writes
    }

    /// Forgets all.
    #[inline]
    pub fn clear(&mut self) {
        if !self.writes.is_empty() {
            self.writes.clear();
            // Emptied, not overwritten: a transaction must not pay for the largest one before it.
            if !self.table.is_empty() {
                self.table.clear();
            }
            if self.floor != 0 {
                self.floor = 0;
            }
        }
    }

    pub(crate) fn mark(&mut self) -> usize {
        self.floor = self.writes.len();
        self.floor
    }

    pub(crate) fn roll_back_to(&mut self, mark: usize) {
        self.writes.truncate(mark);
        // An older savepoint may stand further down; treating all that is left as older than a savepoint is conservative.
        self.floor = mark;
        self.rebuild();
    }

    #[inline]
    fn find(&self, field: *const A::Word) -> Option<usize> {
        if self.writes.len() <= SCAN {
            return self.writes.iter().rposition(|write| write.place.field == field);
        }
        let mask = self.table.len() - 1;
        let mut at = hash(field.addr()) & mask;
        loop {
            let entry = self.table[at] as usize;
            if entry == 0 {
                return None;
            }
            if self.writes[entry - 1].place.field == field {
                return Some(entry - 1);
            }
            at = (at + 1) & mask;
        }
    }

    fn enter(&mut self, index: usize) {
        if index == SCAN || (index + 1) * 2 > self.table.len() {
            self.rebuild();
        } else {
            self.insert(index);
        }
    }

    #[cold]
    fn rebuild(&mut self) {
        if self.writes.len() <= SCAN {
            return;
        }
        let size = (self.writes.len() * 4).next_power_of_two();
        self.table.clear();
        self.table.resize(size, 0);
        for index in 0..self.writes.len() {
            self.insert(index);
        }
    }

    /// Enters a write into the table, in place of an older one to the same field.
    fn insert(&mut self, index: usize) {
        let field = self.writes[index].place.field;
        let mask = self.table.len() - 1;
        let mut at = hash(field.addr()) & mask;
        loop {
            let entry = self.table[at] as usize;
            if entry == 0 || self.writes[entry - 1].place.field == field {
                self.table[at] = u32::try_from(index + 1).expect("fewer than 2^32 writes in one transaction");
                return;
            }
            at = (at + 1) & mask;
        }
    }
}

/// Fibonacci hashing of a word's address.
fn hash(address: usize) -> usize {
    (address >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::atomics::Native;

    #[test]
    fn finds_the_newest_write_before_and_after_the_table_is_built() {
        let header = AtomicU64::new(1);
        let fields: Vec<AtomicU64> = (0..1000).map(AtomicU64::new).collect();
        let mut buffer = WriteBuffer::<Native>::default();
        for round in 0..3 {
            for (index, field) in fields.iter().enumerate() {
                buffer.set(Place::new(&header, field), round * 10_000 + index as u64, None);
                assert_eq!(buffer.get(field), Some(round * 10_000 + index as u64));
            }
        }
        assert_eq!(buffer.writes().len(), fields.len());
        for (index, field) in fields.iter().enumerate() {
            assert_eq!(buffer.get(field), Some(20_000 + index as u64));
        }
        buffer.clear();
        assert_eq!(buffer.get(&fields[3]), None);
    }

    #[test]
    fn a_roll_back_brings_the_values_of_the_savepoint_back() {
        let header = AtomicU64::new(1);
        for count in [4, 40] {
            let fields: Vec<AtomicU64> = (0..count).map(AtomicU64::new).collect();
            let mut buffer = WriteBuffer::<Native>::default();
            for field in &fields {
                buffer.set(Place::new(&header, field), 1, None);
            }
            let mark = buffer.mark();
            for field in &fields {
                buffer.set(Place::new(&header, field), 2, None);
                buffer.set(Place::new(&header, field), 3, None);
            }
            assert_eq!(buffer.get(&fields[0]), Some(3));
            buffer.roll_back_to(mark);
            assert!(fields.iter().all(|field| buffer.get(field) == Some(1)));
        }
    }
}
