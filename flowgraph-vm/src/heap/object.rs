//! Objects as they lie in memory, and access to their words.
//!
//! ```text
//!             mutable kinds                                   immutable kinds
//!   word -1   stm header (a version or a lock; the barriers')
//!   word 0    meta                                            meta
//!   word 1    first field                                     first field
//!   …
//!
//!   meta word:  63 ─────────── 32 │ 31 ──── 16 │ 15 ─ 10 │ 9      │ 8     │ 7 ─ 0
//!               number of fields  │ shape      │ unused  │ frozen │ large │ kind
//! ```
//!
//! An object's address is that of its meta word, so that fields lie at the same places in both.
//!
//! The collector keeps its marks elsewhere and never writes to an object. The meta word of a mutable object changes only when it is
//! frozen, which is a transactional write like that of a field: undone when the event aborts.
//!
//! Every word is an `AtomicU64`: a transaction that will not commit may read a field while another writes it, and the
//! collector of another thread reads what a mutator wrote before it stopped. Plain accesses are relaxed; the order between threads comes
//! from the barriers, and for the collector from the handshake at safepoints.
//!
//! An [`Object`] is a bare address. Inside this crate holding one is a promise: the object is reachable from a root (a
//! register, a log, a global, a handle), or no safepoint has been passed since it was allocated. Under that promise its
//! words may be accessed, which is why the accessors here are safe to call; they check nothing but the bounds, and that in debug builds only.

#![expect(unsafe_code, reason = "objects are raw memory that the collector owns")]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::value::Value;

/// Set in a kind whose objects have an stm header.
const HAS_HEADER: u8 = 0x80;
/// Set in a kind whose fields are not values.
const RAW: u8 = 0x40;

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])* $variant:ident = $number:expr, $name:literal; )*) => {
        /// What an object is.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Kind {
            $( $(#[doc = $doc])* $variant = $number, )*
        }

        impl Kind {
            fn from_byte(byte: u8) -> Kind {
                match byte {
                    $( b if b == Kind::$variant as u8 => Kind::$variant, )*
                    other => unreachable!("a meta word holds the kind {other:#x}"),
                }
            }

            /// What a program calls such a value.
            pub(crate) const fn name(self) -> &'static str {
                match self { $( Kind::$variant => $name, )* }
            }
        }
    };
}

kinds! {
    /// An immutable list of values.
    List = 1, "list";
    /// A record of an input: its header (a list of symbols), then its values.
    Record = 2, "record";
    /// The chunks of an array. The shape is the sort of its elements; field 0 is the length.
    Array = 3, "array";
    /// The ends of a queue: head and tail.
    Queue = 4, "queue";
    /// A float whose exponent does not fit in a word.
    Float = RAW, "float";
    /// An integer beyond 61 bits: the shape is 1 when it is negative; limbs from the lowest.
    Big = RAW | 1, "int";
    /// UTF-8 text: its length in bytes, then the bytes.
    Text = RAW | 2, "string";
    /// Bytes: their number, then the bytes.
    Bytes = RAW | 3, "bytes";
    /// An object with named fields; the shape is its type.
    Struct = HAS_HEADER, "object";
    /// A part of an array of values.
    Chunk = HAS_HEADER | 1, "part of an array";
    /// An inner node of a map, a slot for each value of four bits of the hash. The root is the map.
    Map = HAS_HEADER | 2, "map";
    /// One key of a map with its value: value, key, next with the same hash, hash.
    Entry = HAS_HEADER | 3, "entry of a map";
    /// A word by itself: a global variable, an end of a queue.
    Cell = HAS_HEADER | 4, "cell";
    /// A part of a queue: the next part, then the slots.
    Segment = HAS_HEADER | 5, "part of a queue";
    /// A part of an array of floats or machine integers, as bits.
    RawChunk = HAS_HEADER | RAW, "part of an array";
}

/// Set in an object with memory of its own instead of a place in a block.
const LARGE: u64 = 1 << 8;
/// Set in a mutable object that will never change again.
const FROZEN: u64 = 1 << 9;
const SHAPE_SHIFT: u32 = 16;
const LENGTH_SHIFT: u32 = 32;

/// An object's meta word.
#[derive(Clone, Copy)]
pub(crate) struct Meta(u64);

impl Meta {
    /// The meta word of a new object.
    #[inline(always)]
    pub(crate) const fn new(kind: Kind, shape: u16, fields: usize) -> Meta {
        debug_assert!(fields <= u32::MAX as usize);
        Meta(kind as u64 | (shape as u64) << SHAPE_SHIFT | (fields as u64) << LENGTH_SHIFT)
    }

    pub(crate) fn from_bits(bits: u64) -> Meta {
        Meta(bits)
    }

    pub(crate) fn large(self) -> Meta {
        Meta(self.0 | LARGE)
    }

    pub(crate) fn frozen(self) -> Meta {
        Meta(self.0 | FROZEN)
    }

    #[inline(always)]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }

    /// Whether the object was frozen, by a committed event or by one that is running.
    #[inline(always)]
    pub(crate) fn is_frozen(self) -> bool {
        self.0 & FROZEN != 0
    }

    /// What the object is.
    pub(crate) fn kind(self) -> Kind {
        Kind::from_byte(self.0 as u8)
    }

    /// Whether the object is of this kind; cheaper than asking for the kind.
    #[inline(always)]
    pub(crate) fn is(self, kind: Kind) -> bool {
        self.0 as u8 == kind as u8
    }

    /// The shape.
    #[inline(always)]
    pub(crate) fn shape(self) -> u16 {
        (self.0 >> SHAPE_SHIFT) as u16
    }

    /// How many fields there are.
    #[inline(always)]
    pub(crate) const fn fields(self) -> usize {
        (self.0 >> LENGTH_SHIFT) as usize
    }

    /// Kind and shape as one number, for inline caches.
    #[inline(always)]
    pub(crate) const fn kind_and_shape(self) -> u32 {
        self.0 as u32 & !((LARGE | FROZEN) as u32)
    }

    /// What [`Meta::kind_and_shape`] gives for a struct of this type.
    pub(crate) const fn struct_of_shape(shape: u16) -> u32 {
        Kind::Struct as u32 | (shape as u32) << SHAPE_SHIFT
    }

    #[inline(always)]
    pub(crate) fn has_header(self) -> bool {
        self.0 as u8 & HAS_HEADER != 0
    }

    pub(crate) fn has_values(self) -> bool {
        self.0 as u8 & RAW == 0
    }

    /// The whole object's size in bytes.
    #[inline(always)]
    pub(crate) const fn size(self) -> usize {
        8 * (1 + (self.0 as u8 & HAS_HEADER != 0) as usize + self.fields())
    }
}

/// The address of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Object(NonNull<AtomicU64>);

// SAFETY: an address may travel; what it refers to is accessed through atomics alone.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

impl Object {
    /// The object at an address that the heap handed out.
    #[inline(always)]
    pub(crate) fn at(address: usize) -> Object {
        debug_assert!(address != 0 && address.is_multiple_of(8));
        // SAFETY: the heap never hands out address 0.
        Object(unsafe { NonNull::new_unchecked(address as *mut AtomicU64) })
    }

    /// The object that owns this stm header.
    #[inline(always)]
    pub(crate) fn of_header(header: *const AtomicU64) -> Object {
        Object::at(header as usize + 8)
    }

    #[inline(always)]
    pub(crate) fn address(self) -> usize {
        self.0.as_ptr() as usize
    }

    /// The value that refers to this object.
    #[inline(always)]
    pub(crate) fn value(self) -> Value {
        Value::object_at(self.address())
    }

    /// The word at this offset from the object's address.
    #[inline(always)]
    fn word(self, offset: usize) -> &'static AtomicU64 {
        // SAFETY: by the promise of the module the object is allocated, and callers stay within its size. The lifetime is a
        // convenience that the same promise bounds; no reference is kept beyond one access.
        unsafe { &*self.0.as_ptr().add(offset) }
    }

    /// Where the object's memory begins.
    #[inline(always)]
    pub(crate) fn start(self) -> usize {
        self.address() - 8 * self.meta().has_header() as usize
    }

    /// The meta word.
    #[inline(always)]
    pub(crate) fn meta(self) -> Meta {
        Meta(self.word(0).load(Relaxed))
    }

    #[inline(always)]
    pub(crate) fn set_meta(self, meta: Meta) {
        self.word(0).store(meta.0, Relaxed);
    }

    /// The address of the meta word of a mutable object, for the barrier that freezes it.
    pub(crate) fn meta_word(self) -> *const AtomicU64 {
        self.0.as_ptr()
    }

    /// The stm header of an object that has one.
    #[inline(always)]
    pub(crate) fn header(self) -> *const AtomicU64 {
        // SAFETY: within the object, as in `word`.
        unsafe { self.0.as_ptr().sub(1) }
    }

    /// The word of a field. Of a mutable object that others can reach, only the barriers access it.
    #[inline(always)]
    pub(crate) fn field(self, index: usize) -> &'static AtomicU64 {
        debug_assert!(index < self.meta().fields());
        self.word(1 + index)
    }

    /// A field as bits, read around the barriers: of an immutable object, or of one that nobody else can see.
    #[inline(always)]
    pub(crate) fn raw(self, index: usize) -> u64 {
        self.field(index).load(Relaxed)
    }

    /// A field, read around the barriers.
    #[inline(always)]
    pub(crate) fn get(self, index: usize) -> Value {
        debug_assert!(self.meta().has_values());
        Value::from_bits(self.raw(index))
    }

    /// Fills in a field of an object that is being made.
    #[inline(always)]
    pub(crate) fn init_raw(self, index: usize, bits: u64) {
        self.field(index).store(bits, Relaxed);
    }

    /// Fills in a field of an object that is being made.
    #[inline(always)]
    pub(crate) fn init(self, index: usize, value: Value) {
        self.init_raw(index, value.bits());
    }

    /// The bytes of a text or a byte string.
    pub(crate) fn bytes(self) -> &'static [u8] {
        debug_assert!(self.meta().is(Kind::Text) || self.meta().is(Kind::Bytes));
        let length = self.raw(0) as usize;
        // SAFETY: the bytes lie in the fields after the first and never change once the object is made; the lifetime is
        // bounded by the promise of the module.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(2).cast::<u8>(), length) }
    }

    /// The text of a text object.
    pub(crate) fn text(self) -> &'static str {
        debug_assert!(self.meta().is(Kind::Text));
        // SAFETY: texts are only made from `str`.
        unsafe { std::str::from_utf8_unchecked(self.bytes()) }
    }

    /// Fills in the bytes of a text or byte string that is being made.
    pub(crate) fn init_bytes(self, bytes: &[u8]) {
        debug_assert!(self.meta().fields() == 1 + bytes.len().div_ceil(8));
        self.init_raw(0, bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for (i, word) in words.iter().enumerate() {
            self.init_raw(1 + i, u64::from_le_bytes(*word).to_le());
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.init_raw(1 + words.len(), u64::from_le_bytes(last).to_le());
        }
    }

    /// Calls `visit` with every object that this one refers to.
    pub(crate) fn references(self, mut visit: impl FnMut(Object)) {
        let meta = self.meta();
        if meta.has_values() {
            for index in 0..meta.fields() {
                if let Some(object) = self.get(index).object() {
                    visit(object);
                }
            }
        }
    }
}

impl Value {
    /// The object that this value refers to, if it refers to one.
    #[inline(always)]
    pub(crate) fn object(self) -> Option<Object> {
        self.address().map(Object::at)
    }

    /// The object that this value is known to refer to.
    #[inline(always)]
    pub(crate) fn object_unchecked(self) -> Object {
        Object::at(self.address_unchecked())
    }

    /// The object of this kind that this value refers to.
    #[inline(always)]
    pub(crate) fn object_of(self, kind: Kind) -> Option<Object> {
        self.object().filter(|object| object.meta().is(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_word_keeps_its_parts_apart() {
        let meta = Meta::new(Kind::Chunk, 0xffff, 0xffff_ffff).large();
        assert_eq!((meta.kind(), meta.shape(), meta.fields()), (Kind::Chunk, 0xffff, 0xffff_ffff));
        assert!(meta.is_large() && !meta.is_frozen() && meta.frozen().is_frozen());
        let meta = Meta::new(Kind::Text, 0, 3);
        assert!(!meta.has_header() && !meta.has_values());
        assert_eq!(meta.size(), 32);
        assert_eq!(Meta::new(Kind::Struct, 7, 1).frozen().kind_and_shape(), Meta::struct_of_shape(7));
    }
}
