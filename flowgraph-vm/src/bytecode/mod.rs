//! Register code: what the interpreter runs.
//!
//! A function of the flowgraph becomes one [`Code`]: words of [instructions](instruction), and beside them for each word the place in the
//! flowgraph that it came from. A frame is a row of slots: parameters first, then the other variables (those used most in the first 256
//! slots, which instructions name directly), then the constants that instructions read, then scratch. The whole row is
//! copied from a template at a call, so that constants cost nothing when used and every variable starts undefined.

mod analysis;
mod compile;
mod fuse;
pub(crate) mod instruction;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::flowgraph::program::{BlockId, FunctionId, Guard};
use crate::value::Value;

pub(crate) use compile::compile;
pub(crate) use instruction::{Instruction, Opcode};

/// Where in the flowgraph an instruction came from: an operation of a block, or (one past the last) the block's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Site {
    pub(crate) block: BlockId,
    pub(crate) op: u32,
}

/// A function as register code.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) function: FunctionId,
    pub(crate) words: Vec<Instruction>,
    /// The place of each word.
    pub(crate) sites: Vec<Site>,
    /// The slot of each variable.
    pub(crate) slots: Vec<u16>,
    /// What the slots hold at first.
    pub(crate) template: Vec<Value>,
    pub(crate) parameters: usize,
    pub(crate) caches: Vec<FieldCache>,
    pub(crate) switches: Vec<SwitchTable>,
    pub(crate) guards: Vec<GuardSite>,
}

/// A guarded region's handler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuardSite {
    pub(crate) guard: Guard,
    /// The word where the handler begins.
    pub(crate) handler: u32,
}

/// What a field access found last: kind and shape of the object above, the field's index below. Racing updates are harmless,
/// since either of two entries is right.
#[derive(Debug)]
pub(crate) struct FieldCache(AtomicU64);

impl FieldCache {
    pub(crate) fn new() -> FieldCache {
        // No object has this kind.
        FieldCache(AtomicU64::new(u64::MAX))
    }

    /// Relaxed: one word that says everything by itself.
    #[inline(always)]
    pub(crate) fn load(&self) -> (u32, usize) {
        let word = self.0.load(Relaxed);
        ((word >> 32) as u32, word as u32 as usize)
    }

    /// Stores a place for objects without a shape.
    #[inline(always)]
    pub(crate) fn store_place(&self, index: usize) {
        // No object has this kind.
        let word = (u32::MAX as u64) << 32 | index as u64;
        // Usually it stands there already, and the line is shared.
        if self.0.load(Relaxed) != word {
            self.0.store(word, Relaxed);
        }
    }

    pub(crate) fn store(&self, kind_and_shape: u32, index: usize) {
        self.0.store((kind_and_shape as u64) << 32 | index as u64, Relaxed);
    }
}

/// A chain of comparisons with constants as one table, hashed by the value's word.
#[derive(Debug)]
pub(crate) struct SwitchTable {
    /// Word and jump; the word of an empty place is one that no value has.
    places: Vec<(u64, i32)>,
    shift: u32,
}

impl SwitchTable {
    const EMPTY: u64 = u64::MAX;

    pub(crate) fn new(cases: &[(Value, i32)]) -> SwitchTable {
        let size = (cases.len() * 2).next_power_of_two().max(2);
        let mut table = SwitchTable { places: vec![(Self::EMPTY, 0); size], shift: 64 - size.trailing_zeros() };
        for (value, jump) in cases {
            let mut place = table.first_place(value.bits());
            while table.places[place].0 != Self::EMPTY {
                if table.places[place].0 == value.bits() {
                    break;
                }
                place = (place + 1) % size;
            }
            // Of equal cases the first counts.
            if table.places[place].0 == Self::EMPTY {
                table.places[place] = (value.bits(), *jump);
            }
        }
        table
    }

    #[inline(always)]
    fn first_place(&self, bits: u64) -> usize {
        (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    /// The jump for this value.
    #[inline(always)]
    pub(crate) fn find(&self, value: Value) -> Option<i32> {
        let mut place = self.first_place(value.bits());
        loop {
            let (bits, jump) = self.places[place];
            if bits == value.bits() {
                return Some(jump);
            }
            if bits == Self::EMPTY {
                return None;
            }
            place = (place + 1) & (self.places.len() - 1);
        }
    }
}

impl Code {
    /// The code as text, one instruction a line, for tests and for people.
    pub(crate) fn listing(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        let mut i = 0;
        while i < self.words.len() {
            let word = self.words[i];
            let _ = writeln!(text, "{i:4}  {word:?}");
            i += word.length();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn switches_find_the_first_of_equal_cases(cases in proptest::collection::vec((0_i64..40, 0_i32..1000), 0..60), probe in 0_i64..50) {
            let cases: Vec<_> = cases.into_iter().map(|(value, jump)| (Value::small(value), jump)).collect();
            let table = SwitchTable::new(&cases);
            let expected = cases.iter().find(|(value, _)| *value == Value::small(probe)).map(|(_, jump)| *jump);
            prop_assert_eq!(table.find(Value::small(probe)), expected);
        }
    }
}
