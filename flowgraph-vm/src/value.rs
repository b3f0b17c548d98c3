//! Values: everything a program computes with, in eight bytes.
//!
//! The low three bits of the word are its tag.
//!
//! | tag | what | payload |
//! | --- | --- | --- |
//! | `000` | integer of 61 bits, two's complement | upper 61 bits |
//! | `001`, `100`, `101` | 64-bit float, self-tagged | see below |
//! | `010` | object in the heap | address plus 2 |
//! | `011` | immediate | sort in bits 3 to 7, payload above |
//! | `110`, `111` | not used | |
//!
//! Integers carry tag zero, so the machine's own addition, subtraction and comparison work on tagged
//! words, and the overflow flag of the machine says when the result needs a big integer.
//!
//! Floats are *self-tagged*: the word is the float's bits rotated left by four, plus one. The rotation
//! brings the three highest bits of the exponent down to where the tag is, and the three commonest
//! patterns of these bits (`011` and `100`, magnitudes from 2^-255 to 2^257, and `000`, which has the zeros)
//! become the tags `100`, `101` and `001`. A float with other exponents (infinities and not-a-numbers too)
//! does not fit and lives in the heap; programs rarely meet one.
//!
//! The word never says more than a copy of it may: comparing two values with `==` here compares the words,
//! which for two objects is identity. The language's own `==` is structural and lives with the operations.

use std::fmt;

/// The lowest integer that fits in a word.
pub const INT_MIN: i64 = -(1 << 60);
/// The highest integer that fits in a word.
pub const INT_MAX: i64 = (1 << 60) - 1;

const TAG_MASK: u64 = 0b111;
const TAG_OBJECT: u64 = 0b010;
const TAG_IMMEDIATE: u64 = 0b011;
/// Bit `t` is set when the tag `t` means a float; repeated, so that a shift by the low six bits of a word tests it.
const FLOAT_TAGS: u64 = 0x3232_3232_3232_3232;

const SORT_NONE: u64 = 0;
const SORT_UNDEFINED: u64 = 1;
const SORT_SYMBOL: u64 = 2;
const SORT_FUNCTION: u64 = 3;
const SORT_CONNECTION: u64 = 4;

const fn immediate(sort: u64, payload: u32) -> u64 {
    TAG_IMMEDIATE | sort << 3 | (payload as u64) << 8
}

/// One value of the language. Copying it copies the word.
///
/// A value that refers to an object is good until the next collection that finds the object unreachable;
/// outside the virtual machine it is held through a root (see [`crate::heap::Root`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Value(u64);

impl Value {
    /// The value of what returns nothing.
    pub const NONE: Value = Value(immediate(SORT_NONE, 0));
    /// What a variable holds that was never set. Programs never see it: reading it is an error.
    pub const UNDEFINED: Value = Value(immediate(SORT_UNDEFINED, 0));
    /// The integer 0, which is also false.
    pub const ZERO: Value = Value(0);
    /// The integer 1, which is also what comparisons give for true.
    pub const ONE: Value = Value(1 << 3);

    /// The word itself.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The value with this word; the inverse of [`Value::bits`].
    #[inline(always)]
    pub(crate) const fn from_bits(bits: u64) -> Value {
        Value(bits)
    }

    /// A small integer, or `None` when it needs more than 61 bits.
    #[inline(always)]
    pub const fn int(i: i64) -> Option<Value> {
        if i >= INT_MIN && i <= INT_MAX { Some(Value((i as u64) << 3)) } else { None }
    }

    /// A small integer known to fit.
    ///
    /// # Panics
    /// In debug builds, when it does not.
    #[inline(always)]
    pub const fn small(i: i64) -> Value {
        debug_assert!(i >= INT_MIN && i <= INT_MAX);
        Value((i as u64) << 3)
    }

    /// 1 or 0.
    #[inline(always)]
    pub const fn truth(b: bool) -> Value {
        Value((b as u64) << 3)
    }

    /// A float, when its exponent is one that fits in the word.
    #[inline(always)]
    pub const fn float(f: f64) -> Option<Value> {
        let word = f.to_bits().rotate_left(4).wrapping_add(1);
        if Value(word).is_immediate_float() { Some(Value(word)) } else { None }
    }

    /// The symbol with this number in the symbol table.
    #[inline(always)]
    pub const fn symbol(id: u32) -> Value {
        Value(immediate(SORT_SYMBOL, id))
    }

    /// The function with this number in the program.
    #[inline(always)]
    pub const fn function(id: u32) -> Value {
        Value(immediate(SORT_FUNCTION, id))
    }

    /// The connection with this number.
    #[inline(always)]
    pub const fn connection(id: u32) -> Value {
        Value(immediate(SORT_CONNECTION, id))
    }

    /// A reference to the object at this address.
    #[inline(always)]
    pub(crate) const fn object_at(address: usize) -> Value {
        debug_assert!(address.is_multiple_of(8));
        Value(address as u64 | TAG_OBJECT)
    }

    /// Whether this is a small integer.
    #[inline(always)]
    pub const fn is_int(self) -> bool {
        self.0 & TAG_MASK == 0
    }

    /// Whether both are small integers, in one test.
    #[inline(always)]
    pub const fn both_int(a: Value, b: Value) -> bool {
        (a.0 | b.0) & TAG_MASK == 0
    }

    /// The small integer in the word, if it is one.
    #[inline(always)]
    pub const fn as_int(self) -> Option<i64> {
        if self.is_int() { Some(self.0 as i64 >> 3) } else { None }
    }

    /// The small integer in the word; nonsense for any other value.
    #[inline(always)]
    pub(crate) const fn int_unchecked(self) -> i64 {
        self.0 as i64 >> 3
    }

    /// A small integer that is not negative, as it is; for every other value a number larger than any length. One comparison of it
    /// with a length says whether this is a right index.
    #[inline(always)]
    pub(crate) const fn rotated_int(self) -> usize {
        self.0.rotate_right(3) as usize
    }

    /// Whether this is a float that lives in the word.
    #[inline(always)]
    pub const fn is_immediate_float(self) -> bool {
        FLOAT_TAGS.wrapping_shr(self.0 as u32) & 1 != 0
    }

    /// Whether both are floats that live in their words.
    #[inline(always)]
    pub const fn both_immediate_floats(a: Value, b: Value) -> bool {
        a.is_immediate_float() && b.is_immediate_float()
    }

    /// The float in the word, if it is one.
    #[inline(always)]
    pub const fn as_immediate_float(self) -> Option<f64> {
        if self.is_immediate_float() { Some(self.float_unchecked()) } else { None }
    }

    /// The float in the word; nonsense for any other value.
    #[inline(always)]
    pub(crate) const fn float_unchecked(self) -> f64 {
        f64::from_bits(self.0.wrapping_sub(1).rotate_right(4))
    }

    /// The symbol's number, if this is a symbol.
    #[inline(always)]
    pub const fn as_symbol(self) -> Option<u32> {
        if self.0 & 0xff == immediate(SORT_SYMBOL, 0) { Some((self.0 >> 8) as u32) } else { None }
    }

    /// The function's number, if this is a function.
    #[inline(always)]
    pub const fn as_function(self) -> Option<u32> {
        if self.0 & 0xff == immediate(SORT_FUNCTION, 0) { Some((self.0 >> 8) as u32) } else { None }
    }

    /// The connection's number, if this is a connection.
    #[inline(always)]
    pub const fn as_connection(self) -> Option<u32> {
        if self.0 & 0xff == immediate(SORT_CONNECTION, 0) { Some((self.0 >> 8) as u32) } else { None }
    }

    /// Whether this refers to an object of the heap.
    #[inline(always)]
    pub const fn is_object(self) -> bool {
        self.0 & TAG_MASK == TAG_OBJECT
    }

    /// The address of the object, if this refers to one.
    #[inline(always)]
    pub(crate) const fn address(self) -> Option<usize> {
        if self.is_object() { Some((self.0 - TAG_OBJECT) as usize) } else { None }
    }

    /// The address of the object that this refers to; nonsense for any other value.
    #[inline(always)]
    pub(crate) const fn address_unchecked(self) -> usize {
        debug_assert!(self.is_object());
        self.0.wrapping_sub(TAG_OBJECT) as usize
    }

    /// Whether this is [`Value::NONE`].
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0 == Value::NONE.0
    }

    /// Whether this is [`Value::UNDEFINED`].
    #[inline(always)]
    pub const fn is_undefined(self) -> bool {
        self.0 == Value::UNDEFINED.0
    }

    /// What a condition makes of it: false exactly for the integer 0.
    #[inline(always)]
    pub const fn is_true(self) -> bool {
        self.0 != 0
    }

    /// `a + b` on two small integers, unless it needs a big one.
    #[inline(always)]
    pub(crate) const fn add_ints(a: Value, b: Value) -> Option<Value> {
        match (a.0 as i64).checked_add(b.0 as i64) {
            Some(sum) => Some(Value(sum as u64)),
            None => None,
        }
    }

    /// `a - b` on two small integers, unless it needs a big one.
    #[inline(always)]
    pub(crate) const fn sub_ints(a: Value, b: Value) -> Option<Value> {
        match (a.0 as i64).checked_sub(b.0 as i64) {
            Some(difference) => Some(Value(difference as u64)),
            None => None,
        }
    }

    /// `a * b` on two small integers, unless it needs a big one.
    #[inline(always)]
    pub(crate) const fn mul_ints(a: Value, b: Value) -> Option<Value> {
        match (a.0 as i64 >> 3).checked_mul(b.0 as i64) {
            Some(product) => Some(Value(product as u64)),
            None => None,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(i) = self.as_int() {
            write!(f, "{i}")
        } else if let Some(x) = self.as_immediate_float() {
            write!(f, "{x:?}")
        } else if let Some(id) = self.as_symbol() {
            write!(f, "symbol {id}")
        } else if let Some(id) = self.as_function() {
            write!(f, "function {id}")
        } else if let Some(id) = self.as_connection() {
            write!(f, "connection {id}")
        } else if let Some(address) = self.address() {
            write!(f, "object at {address:#x}")
        } else if self.is_none() {
            f.write_str("none")
        } else if self.is_undefined() {
            f.write_str("undefined")
        } else {
            write!(f, "word {:#x}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_float_window_is_where_the_table_says() {
        for f in [0.0, -0.0, 1.0, -1.0, 0.1, 1e70, 1e-70, f64::from_bits(0x4ff0_0000_0000_0000)] {
            let v = Value::float(f).unwrap_or_else(|| panic!("{f} should fit"));
            assert_eq!(v.as_immediate_float().map(f64::to_bits), Some(f.to_bits()));
            assert!(!v.is_int() && !v.is_object());
        }
        for f in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, 1e300, 1e-100] {
            assert_eq!(Value::float(f), None, "{f} should not fit");
        }
        assert!(Value::float(2f64.powi(-255)).is_some() && Value::float(2f64.powi(-256)).is_none());
        assert!(Value::float(2f64.powi(256)).is_some() && Value::float(2f64.powi(257)).is_none());
    }

    #[test]
    fn only_the_integer_zero_is_false() {
        assert!(!Value::ZERO.is_true());
        for v in [Value::ONE, Value::NONE, Value::float(0.0).unwrap(), Value::symbol(0), Value::function(0)] {
            assert!(v.is_true(), "{v:?}");
        }
    }

    proptest! {
        #[test]
        fn integers_agree_with_128_bits(a in INT_MIN..=INT_MAX, b in INT_MIN..=INT_MAX, shift in 0u32..60) {
            let b = b >> shift;
            let (x, y) = (Value::small(a), Value::small(b));
            let back = |r: i128| i64::try_from(r).ok().and_then(Value::int);
            prop_assert_eq!(Value::add_ints(x, y), back(a as i128 + b as i128));
            prop_assert_eq!(Value::sub_ints(x, y), back(a as i128 - b as i128));
            prop_assert_eq!(Value::mul_ints(x, y), back(a as i128 * b as i128));
            prop_assert_eq!((x.bits() as i64).cmp(&(y.bits() as i64)), a.cmp(&b));
        }

        #[test]
        fn only_integers_in_range_are_right_indices(bits in any::<u64>(), length in 0_usize..1 << 32, near in -3_i64..3) {
            for value in [Value::from_bits(bits), Value::small(length as i64 + near), Value::small(near)] {
                let right = value.as_int().is_some_and(|i| i >= 0 && (i as usize) < length);
                prop_assert_eq!(value.rotated_int() < length, right, "{:?} of {}", value, length);
            }
        }

        #[test]
        fn words_mean_one_thing(bits in any::<u64>()) {
            let v = Value::from_bits(bits);
            let meanings = [v.is_int(), v.is_immediate_float(), v.is_object(), v.as_symbol().is_some(), v.as_function().is_some()];
            prop_assert!(meanings.iter().filter(|m| **m).count() <= 1);
            if let Some(f) = v.as_immediate_float() {
                prop_assert_eq!(Value::float(f), Some(v));
            }
        }

        #[test]
        fn floats_survive(bits in any::<u64>()) {
            let f = f64::from_bits(bits);
            if let Some(v) = Value::float(f) {
                prop_assert_eq!(v.as_immediate_float().map(f64::to_bits), Some(bits));
            }
        }
    }
}
