//! What can go wrong while a program runs: one list of faults with one wording each, for every tier.
//!
//! The model, the interpreter and compiled code all report a [`RuntimeError`]: a [`Fault`] with the function, block and stretch of source
//! it happened at and the calls that led there. Two tiers agree about a failing program if their errors are equal.

use std::fmt;
use std::sync::Arc;

use crate::flowgraph::op::Op;
use crate::source::Span;

macro_rules! faults {
    ($( $variant:ident { $( $field:ident: $type:ty ),* } $kind:literal $message:literal $(, $argument:expr)*; )*) => {
        /// What went wrong, without the place.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Fault {
            $( #[doc = concat!("`", $kind, "`: ", $message)] $variant {
                $( #[doc = concat!("`", stringify!($field), "` of the message.")] $field: $type, )*
            }, )*
        }

        impl Fault {
            /// Every kind with its message, in the order of the table.
            pub const KINDS: &[(&str, &str)] = &[$( ($kind, $message), )*];

            /// The kind's name, which a program that catches the error sees as a symbol.
            pub fn kind(&self) -> &'static str {
                match self {
                    $( Self::$variant { .. } => $kind, )*
                }
            }
        }

        impl fmt::Display for Fault {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $( Self::$variant { $( $field, )* } => {
                        $( let _ = $field; )*
                        write!(f, $message $(, $argument)*)
                    } )*
                }
            }
        }
    };
}

faults! {
    Unset { variable: Arc<str> } "unset_variable" "the variable `{variable}` is read, but was never set";
    NotANumber { op: Op, kind: &'static str } "not_a_number" "`{}` needs a number, but got {kind}", symbol(*op);
    NotComparable { op: Op, left: &'static str, right: &'static str } "not_comparable" "`{}` cannot compare {left} with {right}", symbol(*op);
    NotIndexable { kind: &'static str } "not_indexable" "{kind} has no elements to index";
    NotAnIndex { kind: &'static str } "not_an_index" "an index is an integer, but got {kind}";
    IndexOutOfRange { index: String, length: usize } "index_out_of_range" "the index {index} is out of range for a length of {length}";
    KeyNotFound { key: String } "key_not_found" "the map has no key {key}";
    NotAKey { kind: &'static str } "not_a_key" "{kind} cannot be a key of a map";
    DivisionByZero { op: Op } "division_by_zero" "`{}` divides by zero", symbol(*op);
    IntegerTooLarge { bits: u64 } "integer_too_large" "the result would have more than {bits} bits";
    NotAnObject { kind: &'static str, field: Arc<str> } "not_an_object" "{kind} has no field `{field}`";
    NoField { type_name: Arc<str>, field: Arc<str> } "no_field" "an object of type `{type_name}` has no field `{field}`";
    WrongKind { what: &'static str, wanted: &'static str, got: &'static str } "wrong_kind" "{what} needs {wanted}, but got {got}";
    OutOfBounds { what: &'static str, value: String, wanted: &'static str } "out_of_bounds" "{what}: {value} is not {wanted}";
    Frozen { kind: &'static str } "frozen" "{kind} was frozen and cannot change any more";
    CannotFloat { value: String } "not_a_number" "{value} is not written like a number";
    TooDeep { limit: usize } "too_deep" "calls are nested more than {limit} deep";
    TooManySteps { limit: u64 } "too_many_steps" "still running after {limit} steps";
    TooMuchMemory { limit: usize } "too_much_memory" "more than {limit} bytes of memory in use";
    TooMuchAllocated { limit: usize } "too_much_allocated" "more than {limit} bytes of memory allocated in one event";
    TooMuchOutput { limit: usize } "too_much_output" "more than {limit} bytes of output in one event";
    TooLarge { what: &'static str, limit: usize } "too_large" "{what} has a size limit of {limit}";
    Assertion { message: String } "assertion" "{message}";
    Raised { value: String } "raised" "{value}";
    RetryInvalid {  } "retry" "`retry` waits for another event to change something, but there is none that could";
    HostFunction { name: Arc<str>, message: String } "host" "`{name}`: {message}";
    Other { message: String } "other" "{message}";
}

impl Fault {
    /// Something was asked of a connection that there is not, or no more.
    pub fn no_connection(number: u32) -> Self {
        Self::OutOfBounds { what: "a connection", value: number.to_string(), wanted: "open" }
    }

    /// What could be done about it, where there is an answer that fits most programs.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NotANumber { op: Op::Add, kind: "a string" } => Some("`str(a, b)` makes text of any values"),
            Self::NotANumber { op: Op::Mul, kind: "a string" } => {
                Some("`repeat(text, n)` makes it so many times as long")
            }
            Self::NotANumber { kind: "none", .. }
            | Self::NotComparable { left: "none", .. }
            | Self::NotComparable { right: "none", .. } => Some(
                "a function without `return`, an element never set, a key that is not in a map, and an empty queue give none",
            ),
            Self::NotAnIndex { kind: "a float" } => Some("`//` divides without a fraction, and `int(x)` drops it"),
            Self::TooDeep { .. } => Some("a function that calls itself needs a way to end"),
            Self::KeyNotFound { .. } => Some("`get(map, key, otherwise)` gives a value for a key that is not there"),
            Self::NotIndexable { kind: "none" } | Self::NotAnObject { kind: "none", .. } => {
                Some("a key that is not in a map, an empty queue, and a function without `return` give none")
            }
            Self::WrongKind { what: "for", got: "an integer", .. } => {
                Some("a loop over integers is written `for i in 0..n`")
            }
            Self::WrongKind { what: "an assignment to an element", got: "a list", .. } => {
                Some("a list cannot change; an array made of it with `array(list)` can")
            }
            Self::WrongKind { what: "an assignment to an element", got: "a string" | "a byte string", .. } => {
                Some("it cannot change; `replace`, `slice` and `+` make new ones")
            }
            _ => None,
        }
    }
}

/// How messages name an operation: as it is written.
pub fn symbol(op: Op) -> &'static str {
    match op.notation() {
        super::op::Notation::Infix(symbol) | super::op::Notation::Prefix(symbol) => symbol,
        super::op::Notation::Index => "[ ]",
        _ => op.name(),
    }
}

/// One call on the way to an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The function that made the call.
    pub function: Arc<str>,
    /// The call's place.
    pub span: Span,
}

/// An error while running, with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuntimeError {
    /// What went wrong.
    pub fault: Fault,
    /// The function; empty in a core program.
    pub function: Arc<str>,
    /// The block's label.
    pub block: Arc<str>,
    /// The operation, or the end of the block.
    pub span: Span,
    /// The calls that led there, the innermost first.
    pub trace: Vec<Frame>,
}

impl RuntimeError {
    /// A fault at a place, with no calls on the way.
    pub fn new(fault: Fault, function: Arc<str>, block: Arc<str>, span: Span) -> Self {
        Self { fault, function, block, span, trace: Vec::new() }
    }
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for RuntimeError {}
