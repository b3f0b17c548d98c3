//! The heap as operations see it: every access to something mutable through the barriers, every new object from the event's own memory.

use std::marker::PhantomData;

use num_bigint::{BigInt, Sign};

use crate::barrier::{self, Attempt, Protocol, WriteError};
use crate::flowgraph::fault::Fault;
use crate::heap::{Kind, Mutator, Object};
use crate::interpreter::Trap;
use crate::literal::Int;
use crate::value::Value;

/// The running attempt and the thread's end of the heap, under one protocol.
pub(crate) struct Access<'a, P> {
    pub(crate) tx: &'a mut Attempt,
    pub(crate) heap: &'a mut Mutator,
    protocol: PhantomData<P>,
}

impl<'a, P: Protocol> Access<'a, P> {
    #[inline(always)]
    pub(crate) fn new(tx: &'a mut Attempt, heap: &'a mut Mutator) -> Self {
        Access { tx, heap, protocol: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn read_bits(&mut self, object: Object, index: usize) -> Result<u64, Trap> {
        match barrier::read_quickly::<P>(self.tx, self.heap, object, index) {
            Some(bits) => Ok(bits),
            None => barrier::read_slowly::<P>(self.tx, self.heap, object, index).map_err(Trap::Abort),
        }
    }

    #[inline(always)]
    pub(crate) fn read(&mut self, object: Object, index: usize) -> Result<Value, Trap> {
        self.read_bits(object, index).map(Value::from_bits)
    }

    #[inline(always)]
    pub(crate) fn write(&mut self, object: Object, index: usize, value: Value) -> Result<(), Trap> {
        barrier::write::<P>(self.tx, self.heap, object, index, value).map_err(|error| refused(object, error))
    }

    #[inline(always)]
    pub(crate) fn write_bits(&mut self, object: Object, index: usize, bits: u64) -> Result<(), Trap> {
        if barrier::write_quickly::<P>(self.tx, self.heap, object, index, bits).map_err(Trap::Abort)? {
            return Ok(());
        }
        barrier::write_slowly::<P>(self.tx, self.heap, object, index, bits).map_err(|error| refused(object, error))
    }

    pub(crate) fn freeze(&mut self, object: Object) -> Result<(), Trap> {
        barrier::freeze::<P>(self.tx, self.heap, object).map_err(Trap::Abort)
    }
}

#[cold]
fn refused(object: Object, error: WriteError) -> Trap {
    match error {
        WriteError::Abort(abort) => Trap::Abort(abort),
        WriteError::Frozen => {
            // A queue keeps its ends in cells; shared variables, which are cells too, cannot be frozen.
            let kind = if object.meta().is(Kind::Cell) { "a queue" } else { object_kind(object) };
            Fault::Frozen { kind }.into()
        }
    }
}

/// What messages call an object of this kind.
pub(crate) fn object_kind(object: Object) -> &'static str {
    match object.meta().kind() {
        Kind::List => "a list",
        Kind::Record => "a record",
        Kind::Array | Kind::Chunk | Kind::RawChunk => "an array",
        Kind::Queue | Kind::Segment => "a queue",
        Kind::Float => "a float",
        Kind::Big => "an integer",
        Kind::Text => "a string",
        Kind::Bytes => "a byte string",
        Kind::Struct => "an object",
        Kind::Map | Kind::Entry => "a map",
        Kind::Cell => "a shared variable",
    }
}

/// What messages call a value of this kind.
pub(crate) fn kind_of(value: Value) -> &'static str {
    if value.is_int() {
        "an integer"
    } else if value.is_immediate_float() {
        "a float"
    } else if value.as_symbol().is_some() {
        "a symbol"
    } else if let Some(object) = value.object() {
        object_kind(object)
    } else if value.as_function().is_some() {
        "a function"
    } else if value.as_connection().is_some() {
        "a connection"
    } else {
        "none"
    }
}

/// New immutable things.
pub(crate) trait Make {
    fn make_float(&mut self, float: f64) -> Value;
    fn make_int(&mut self, int: &Int) -> Value;
    fn make_i64(&mut self, int: i64) -> Value;
    fn make_text(&mut self, text: &str) -> Value;
    fn make_bytes(&mut self, bytes: &[u8]) -> Value;
    fn make_list(&mut self, items: &[Value]) -> Value;
}

impl Make for Mutator {
    #[inline]
    fn make_float(&mut self, float: f64) -> Value {
        Value::float(float).unwrap_or_else(|| {
            let object = self.allocate(Kind::Float, 0, 1);
            object.init_raw(0, float.to_bits());
            object.value()
        })
    }

    fn make_int(&mut self, int: &Int) -> Value {
        match int {
            Int::Small(small) => self.make_i64(*small),
            Int::Big(big) => {
                let limbs = big.magnitude().iter_u64_digits();
                let object = self.allocate(Kind::Big, (big.sign() == Sign::Minus) as u16, limbs.len());
                for (i, limb) in limbs.enumerate() {
                    object.init_raw(i, limb);
                }
                object.value()
            }
        }
    }

    #[inline]
    fn make_i64(&mut self, int: i64) -> Value {
        Value::int(int).unwrap_or_else(|| {
            let object = self.allocate(Kind::Big, (int < 0) as u16, 1);
            object.init_raw(0, int.unsigned_abs());
            object.value()
        })
    }

    fn make_text(&mut self, text: &str) -> Value {
        let object = self.allocate(Kind::Text, 0, 1 + text.len().div_ceil(8));
        object.init_bytes(text.as_bytes());
        object.value()
    }

    fn make_bytes(&mut self, bytes: &[u8]) -> Value {
        let object = self.allocate(Kind::Bytes, 0, 1 + bytes.len().div_ceil(8));
        object.init_bytes(bytes);
        object.value()
    }

    fn make_list(&mut self, items: &[Value]) -> Value {
        let object = self.allocate(Kind::List, 0, items.len());
        for (i, item) in items.iter().enumerate() {
            object.init(i, *item);
        }
        object.value()
    }
}

impl Value {
    /// The integer, of whatever size.
    pub(crate) fn integer(self) -> Option<Int> {
        if let Some(small) = self.as_int() {
            return Some(Int::Small(small));
        }
        let object = self.object_of(Kind::Big)?;
        let meta = object.meta();
        let digits: Vec<u32> =
            (0..meta.fields()).flat_map(|i| [object.raw(i) as u32, (object.raw(i) >> 32) as u32]).collect();
        let sign = if meta.shape() == 1 { Sign::Minus } else { Sign::Plus };
        Some(Int::from(BigInt::from_slice(sign, &digits)))
    }

    /// The integer, if it fits a machine word.
    pub(crate) fn machine_integer(self) -> Option<i64> {
        match self.as_int() {
            Some(small) => Some(small),
            None => self.integer()?.to_i64(),
        }
    }

    /// The float.
    #[inline]
    pub(crate) fn float_value(self) -> Option<f64> {
        match self.as_immediate_float() {
            Some(float) => Some(float),
            None => self.object_of(Kind::Float).map(|object| f64::from_bits(object.raw(0))),
        }
    }

    /// The number as a float, integers rounded.
    #[inline]
    pub(crate) fn to_f64(self) -> Option<f64> {
        match self.as_int() {
            Some(small) => Some(small as f64),
            None => self.float_value().or_else(|| self.integer().map(|int| int.to_f64())),
        }
    }

    pub(crate) fn text(self) -> Option<&'static str> {
        self.object_of(Kind::Text).map(Object::text)
    }

    pub(crate) fn byte_string(self) -> Option<&'static [u8]> {
        self.object_of(Kind::Bytes).map(Object::bytes)
    }

    pub(crate) fn list(self) -> Option<Object> {
        self.object_of(Kind::List)
    }
}

/// The elements of a list.
pub(crate) fn elements(list: Object) -> impl DoubleEndedIterator<Item = Value> + ExactSizeIterator {
    (0..list.meta().fields()).map(move |i| list.get(i))
}
