//! Arrays: a fixed number of elements in versioned parts.
//!
//! The array itself is immutable: its length, then its chunks. A chunk holds 32 elements behind a header of its own, so that events in
//! different ranges do not meet. Dense arrays keep floats or 64-bit integers as bits, never in the heap.

use super::access::{Access, Make, kind_of};
use crate::barrier::Protocol;
use crate::flowgraph::fault::Fault;
use crate::heap::{Kind, Meta, Object};
use crate::interpreter::Trap;
use crate::value::Value;

/// Elements in a chunk, a power of two. A protocol finds out in one word which fields of an object have been saved,
/// if they lie within its 64 bits.
pub(crate) const CHUNK: usize = 32;
/// The most elements of an array.
pub(crate) const LONGEST: usize = 1 << 28;

/// What an array holds; the shape of the array and of its chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum Sort {
    /// Any values.
    Values = 0,
    /// Floats.
    Floats = 1,
    /// 64-bit integers.
    Integers = 2,
}

impl Sort {
    #[inline(always)]
    pub(crate) fn of(array: Object) -> Sort {
        match array.meta().shape() {
            0 => Sort::Values,
            1 => Sort::Floats,
            _ => Sort::Integers,
        }
    }
}

/// The number of elements.
#[inline(always)]
pub(crate) fn length(array: Object) -> usize {
    array.get(0).int_unchecked() as usize
}

/// The chunk with this element.
#[inline(always)]
pub(crate) fn chunk(array: Object, index: usize) -> Object {
    let chunk = array.get(1 + index / CHUNK);
    // Chunks are always objects.
    chunk.object_unchecked()
}

/// Kind and shape of an array of any values.
pub(crate) const VALUES: u32 = Meta::new(Kind::Array, Sort::Values as u16, 0).kind_and_shape();
/// Kind and shape of a dense array of floats.
pub(crate) const FLOATS: u32 = Meta::new(Kind::Array, Sort::Floats as u16, 0).kind_and_shape();

/// Where an element lies, chunk and place, if this is an array (`meta` is its meta word) and the index an integer in its range.
#[inline(always)]
pub(crate) fn locate(object: Object, meta: Meta, index: Value) -> Option<(Object, usize)> {
    if meta.is(Kind::Array) { locate_in(object, index) } else { None }
}

/// Where an element of an array lies, if the index is an integer in its range.
#[inline(always)]
pub(crate) fn locate_in(array: Object, index: Value) -> Option<(Object, usize)> {
    let index = index.rotated_int();
    if index < length(array) { Some((chunk(array, index), index % CHUNK)) } else { None }
}

/// Bits of an element as the value they stand for, unless that needs memory.
#[inline(always)]
pub(crate) fn immediate(array: Meta, bits: u64) -> Option<Value> {
    match array.shape() {
        shape if shape == Sort::Floats as u16 => Value::float(f64::from_bits(bits)),
        shape if shape == Sort::Values as u16 => Some(Value::from_bits(bits)),
        _ => Value::int(bits as i64),
    }
}

/// The value as an element is kept, if it is an immediate one of the right kind; for arrays of any values, if it is no reference.
#[inline(always)]
pub(crate) fn immediate_bits(array: Meta, value: Value) -> Option<u64> {
    match array.shape() {
        shape if shape == Sort::Floats as u16 => value.as_immediate_float().map(f64::to_bits),
        shape if shape == Sort::Values as u16 => Some(value.bits()).filter(|_| !value.is_object()),
        _ => value.as_int().map(|int| int as u64),
    }
}

impl<P: Protocol> Access<'_, P> {
    /// A new array whose elements are all this value.
    pub(crate) fn new_array(&mut self, sort: Sort, length: usize, first: Value) -> Result<Value, Trap> {
        if length > LONGEST {
            return Err(Fault::TooLarge { what: "an array", limit: LONGEST }.into());
        }
        self.heap.check_size(8 * length)?;
        let bits = self.element_bits(sort, first)?;
        let chunks = length.div_ceil(CHUNK);
        let kind = if sort == Sort::Values { Kind::Chunk } else { Kind::RawChunk };
        let array = self.heap.allocate(Kind::Array, sort as u16, 1 + chunks);
        array.init(0, Value::small(length as i64));
        for i in 0..chunks {
            let size = CHUNK.min(length - i * CHUNK);
            let chunk = self.heap.allocate(kind, sort as u16, size);
            (0..size).for_each(|k| chunk.init_raw(k, bits));
            array.init(1 + i, chunk.value());
        }
        Ok(array.value())
    }

    /// A new array with these elements.
    pub(crate) fn array_of(&mut self, sort: Sort, items: &[Value]) -> Result<Value, Trap> {
        let zero = match sort {
            Sort::Floats => Value::float(0.0).expect("zero fits"),
            _ => Value::ZERO,
        };
        let value = self.new_array(sort, items.len(), zero)?;
        let array = value.object().expect("just made");
        for (i, item) in items.iter().enumerate() {
            let bits = self.element_bits(sort, *item)?;
            // Not yet seen by anybody.
            chunk(array, i).init_raw(i % CHUNK, bits);
        }
        Ok(value)
    }

    /// The value as an element is kept.
    #[inline(always)]
    fn element_bits(&self, sort: Sort, value: Value) -> Result<u64, Trap> {
        match sort {
            Sort::Values => Ok(value.bits()),
            Sort::Floats => match value.as_immediate_float() {
                Some(float) => Ok(float.to_bits()),
                None => dense_bits(sort, value),
            },
            Sort::Integers => match value.as_int() {
                Some(integer) => Ok(integer as u64),
                None => dense_bits(sort, value),
            },
        }
    }

    /// An element whose index is in range.
    #[inline(always)]
    pub(crate) fn array_get(&mut self, array: Object, index: usize) -> Result<Value, Trap> {
        let bits = self.read_bits(chunk(array, index), index % CHUNK)?;
        Ok(match Sort::of(array) {
            Sort::Values => Value::from_bits(bits),
            Sort::Floats => self.heap.make_float(f64::from_bits(bits)),
            Sort::Integers => self.heap.make_i64(bits as i64),
        })
    }

    /// Sets an element whose index is in range.
    #[inline(always)]
    pub(crate) fn array_set(&mut self, array: Object, index: usize, value: Value) -> Result<(), Trap> {
        let sort = Sort::of(array);
        let bits = self.element_bits(sort, value)?;
        match sort {
            Sort::Values => self.write(chunk(array, index), index % CHUNK, value),
            _ => self.write_bits(chunk(array, index), index % CHUNK, bits),
        }
    }

    /// All elements.
    pub(crate) fn array_items(&mut self, array: Object) -> Result<Vec<Value>, Trap> {
        (0..length(array)).map(|i| self.array_get(array, i)).collect()
    }
}

/// An element of a dense array that is not the common kind of number.
#[cold]
fn dense_bits(sort: Sort, value: Value) -> Result<u64, Trap> {
    if sort == Sort::Floats {
        let float = value.to_f64().ok_or_else(|| wrong_element("an f64_array", "numbers", value))?;
        Ok(float.to_bits())
    } else {
        let integer = value.machine_integer();
        integer.map(|integer| integer as u64).ok_or_else(|| wrong_element("an i64_array", "integers of 64 bits", value))
    }
}

#[cold]
fn wrong_element(what: &'static str, wanted: &'static str, value: Value) -> Trap {
    let got = if value.object_of(Kind::Big).is_some() { "a longer one" } else { kind_of(value) };
    Fault::WrongKind { what, wanted, got }.into()
}
