//! The operations: the one list from which names, notation, arity and effects follow.
//!
//! A line reads `Variant "name" notation arity effect "what it does"`. Adding an operation is adding a line here and the code that
//! carries it out in the interpreter; the parser, the verifier, the printer and the language reference follow by themselves.

use std::fmt;

/// How an operation is written in a program's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notation {
    /// Nothing but its operand: `b`.
    Copy,
    /// Between its operands: `a + b`.
    Infix(&'static str),
    /// Before its operand: `-a`.
    Prefix(&'static str),
    /// `a[i]`.
    Index,
    /// `a[i] = v`.
    SetIndex,
    /// `a.field`; the field is the immediate.
    Field,
    /// `a.field = v`; the field is the immediate.
    SetField,
    /// `name`; the shared variable is the immediate.
    Global,
    /// `name = v`; the shared variable is the immediate.
    SetGlobal,
    /// `Type(v, w)`; the object type is the immediate.
    Construct,
    /// `f(v, w)`; the function is the immediate.
    Function,
    /// `f(v, w)`; the host function is the immediate.
    Host,
    /// `add f(v, w)`; the function is the immediate.
    Add,
    /// `add f(v, w) after d`; the function is the immediate, the delay the first operand.
    AddAfter,
    /// `for each x in name(v) add f(a, x)`, found by the operation's own name; the function and the place of `x` among its arguments are
    /// the immediate, the source is the first operand.
    Each,
    /// `when name(v) add f(a)`, found by the operation's own name; the function is the immediate, `v` the first operand.
    When,
    /// `promote(v)` as a statement of its own.
    Promote,
    /// `name(v, w)`, found by the operation's own name.
    Call,
}

/// How many operands an operation takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arity {
    /// At least so many.
    pub least: u8,
    /// At most so many; `u8::MAX` stands for any number.
    pub most: u8,
}

impl Arity {
    const fn exactly(count: u8) -> Self {
        Self { least: count, most: count }
    }

    const fn between(least: u8, most: u8) -> Self {
        Self { least, most }
    }

    const fn at_least(least: u8) -> Self {
        Self { least, most: u8::MAX }
    }

    /// Whether `count` operands are right.
    pub fn allows(self, count: usize) -> bool {
        count >= usize::from(self.least) && (self.most == u8::MAX || count <= usize::from(self.most))
    }
}

impl fmt::Display for Arity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u8| if count == 1 { "argument" } else { "arguments" };
        match (self.least, self.most) {
            (0, 0) => f.write_str("no arguments"),
            (least, most) if least == most => write!(f, "{least} {}", plural(least)),
            (least, u8::MAX) => write!(f, "at least {least} {}", plural(least)),
            (least, most) => write!(f, "{least} to {most} arguments"),
        }
    }
}

/// What an operation does besides giving a result, from the most harmless on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Effect {
    /// Its result depends on its operands alone and it never fails.
    Total,
    /// Its result depends on its operands alone if these are immutable (constants always are); it may fail. On a mutable
    /// operand it reads the heap.
    Pure,
    /// It reads the heap.
    Reads,
    /// It makes a new mutable thing.
    Allocates,
    /// It asks the event's context: the time, a random number, input that arrived.
    Context,
    /// It changes the heap.
    Writes,
    /// It leaves something to be released when the event commits.
    Output,
    /// It runs a function, which may do anything that the function does.
    Calls,
}

macro_rules! arity {
    ($count:literal) => {
        Arity::exactly($count)
    };
    ($least:literal to $most:literal) => {
        Arity::between($least, $most)
    };
    ($least:literal up) => {
        Arity::at_least($least)
    };
}

macro_rules! operations {
    ($( $variant:ident $name:literal ($($notation:tt)+) [$($arity:tt)+] $effect:ident $doc:literal; )*) => {
        /// An operation of the flowgraph.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Op {
            $( #[doc = $doc] $variant, )*
        }

        impl Op {
            /// Every operation, in the order of the table.
            pub const ALL: &[Self] = &[$( Self::$variant, )*];

            /// The name, as it stands in traces, statistics and (for those written as calls) in programs.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $name, )* }
            }

            /// How it is written.
            pub const fn notation(self) -> Notation {
                match self { $( Self::$variant => Notation::$($notation)+, )* }
            }

            /// How many operands it takes.
            pub const fn arity(self) -> Arity {
                match self { $( Self::$variant => arity!($($arity)+), )* }
            }

            /// What it does besides giving a result.
            pub const fn effect(self) -> Effect {
                match self { $( Self::$variant => Effect::$effect, )* }
            }

            /// One line for the language reference.
            pub const fn doc(self) -> &'static str {
                match self { $( Self::$variant => $doc, )* }
            }
        }
    };
}

operations! {
    // The core language. Arithmetic mixes integers and floats to a float; anything else that is not a number is an error.
    Same "same" (Copy) [1] Total "The operand itself.";
    Add "add" (Infix("+")) [2] Pure "The sum of two numbers; two strings or two byte strings joined.";
    Sub "sub" (Infix("-")) [2] Pure "The difference of two numbers.";
    Mul "mul" (Infix("*")) [2] Pure "The product of two numbers.";
    Eq "eq" (Infix("==")) [2] Total "1 if both are the same kind and value, else 0; mutable things are equal only to themselves.";
    Ge "ge" (Infix(">=")) [2] Pure "1 if the first is greater or equal, else 0; two numbers, strings or byte strings.";
    ReadList "readlist" (Index) [2] Pure "An element, counted from 0: of a list in a core program, of anything that can be indexed in a function.";
    Ne "ne" (Infix("!=")) [2] Total "0 if both are the same kind and value, else 1.";
    Lt "lt" (Infix("<")) [2] Pure "1 if the first is less, else 0.";
    Le "le" (Infix("<=")) [2] Pure "1 if the first is less or equal, else 0.";
    Gt "gt" (Infix(">")) [2] Pure "1 if the first is greater, else 0.";
    FloorDiv "floordiv" (Infix("//")) [2] Pure "The quotient rounded towards minus infinity.";
    Modulo "modulo" (Infix("%")) [2] Pure "What floor division leaves; it has the sign of the second.";
    Div "div" (Infix("/")) [2] Pure "The quotient as a float.";
    Neg "neg" (Prefix("-")) [1] Pure "The number with its sign turned.";

    // Kinds and conversions.
    Kind "kind" (Call) [1] Total "A symbol for the kind: 'none 'int 'float 'symbol 'str 'bytes 'list 'array 'map 'queue 'connection, or an object's type.";
    ToInt "int" (Call) [1] Pure "An integer from a number (its fraction dropped) or from a string of digits.";
    ToFloat "float" (Call) [1] Pure "A float from a number or a string.";
    ToStr "str" (Call) [0 up] Reads "Its arguments as text, one after the other, strings as they are.";
    ToSymbol "symbol" (Call) [1] Pure "The symbol named by a string.";
    ToBytes "bytes" (Call) [1] Pure "The bytes of a string in UTF-8, or of a list of integers from 0 to 255.";
    Decode "decode" (Call) [1] Pure "The string whose UTF-8 bytes these are.";
    Repr "repr" (Call) [1] Reads "The value in literal notation, as text.";
    IsInt "is_int" (Call) [1] Total "1 if the value is an integer.";
    IsFloat "is_float" (Call) [1] Total "1 if the value is a float.";
    IsStr "is_str" (Call) [1] Total "1 if the value is a string.";

    // Numbers.
    Abs "abs" (Call) [1] Pure "The number without its sign.";
    Min "min" (Call) [1 up] Pure "The least of its arguments, or of the elements of its only one.";
    Max "max" (Call) [1 up] Pure "The greatest of its arguments, or of the elements of its only one.";
    Pow "pow" (Call) [2] Pure "The first to the power of the second; an integer if both are and the second is not negative.";
    Sqrt "sqrt" (Call) [1] Pure "The square root, a float.";
    Isqrt "isqrt" (Call) [1] Pure "The integer square root, rounded down.";
    Exp "exp" (Call) [1] Pure "e to the power of the number.";
    Ln "ln" (Call) [1] Pure "The natural logarithm.";
    Sin "sin" (Call) [1] Pure "The sine of an angle in radians.";
    Cos "cos" (Call) [1] Pure "The cosine of an angle in radians.";
    Tan "tan" (Call) [1] Pure "The tangent of an angle in radians.";
    Asin "asin" (Call) [1] Pure "The angle in radians with this sine.";
    Acos "acos" (Call) [1] Pure "The angle in radians with this cosine.";
    Atan "atan" (Call) [1] Pure "The angle in radians with this tangent.";
    Atan2 "atan2" (Call) [2] Pure "The angle in radians of the point (second, first).";
    Floor "floor" (Call) [1] Pure "The greatest integer that is not above the number.";
    Ceil "ceil" (Call) [1] Pure "The least integer that is not below the number.";
    Round "round" (Call) [1] Pure "The nearest integer; halves go away from 0.";
    BitAnd "bit_and" (Call) [2] Pure "The bits that are set in both integers.";
    BitOr "bit_or" (Call) [2] Pure "The bits that are set in either integer.";
    BitXor "bit_xor" (Call) [2] Pure "The bits that are set in exactly one of the integers.";
    ShiftLeft "shift_left" (Call) [2] Pure "The integer times 2 to the power of the second.";
    ShiftRight "shift_right" (Call) [2] Pure "The integer floor-divided by 2 to the power of the second.";

    // Lists, strings and byte strings: immutable. Some work on mutable collections too.
    List "list" (Call) [0 up] Total "A list of its arguments.";
    Concat "concat" (Call) [2] Pure "A list of the elements of the first and then those of the second.";
    Len "len" (Call) [1] Pure "How many elements, characters, bytes, entries or waiting values.";
    Slice "slice" (Call) [2 to 3] Pure "The part of a list, string or byte string from the second to before the third (or to the end).";
    Contains "contains" (Call) [2] Pure "1 if the list has the element, or the string the part.";
    Find "find" (Call) [2] Pure "Where in the list, string or byte string the second first occurs; -1 if nowhere.";
    Sort "sort" (Call) [1] Pure "A list of the elements in ascending order; lists compare by their first elements first.";
    Reverse "reverse" (Call) [1] Pure "The elements from the last to the first, as a list, string or byte string.";
    Sum "sum" (Call) [1] Pure "The sum of the elements.";
    Split "split" (Call) [1 to 2] Pure "A list of the parts of a string or byte string between occurrences of the second (or between blanks).";
    Join "join" (Call) [2] Pure "The strings of a list, or its byte strings, with the second between them.";
    Upper "upper" (Call) [1] Pure "The string in capital letters; of a byte string, only those of ASCII.";
    Lower "lower" (Call) [1] Pure "The string in small letters; of a byte string, only those of ASCII.";
    Trim "trim" (Call) [1] Pure "The string or byte string without blanks at its ends.";
    Replace "replace" (Call) [3] Pure "The string or byte string with each occurrence of the second replaced by the third.";
    Repeat "repeat" (Call) [2] Pure "A string or byte string so many times over.";
    StartsWith "starts_with" (Call) [2] Pure "1 if the string starts with the second.";
    EndsWith "ends_with" (Call) [2] Pure "1 if the string ends with the second.";
    PadLeft "pad_left" (Call) [2] Pure "The value as text, with blanks before it up to this width.";
    PadRight "pad_right" (Call) [2] Pure "The value as text, with blanks after it up to this width.";
    Fixed "fixed" (Call) [2] Pure "The number as text with so many digits after the point.";
    Ord "ord" (Call) [1] Pure "The code of a string's first character.";
    Chr "chr" (Call) [1] Pure "The string of the one character with this code.";

    // Objects.
    Construct "construct" (Construct) [0 up] Allocates "A new object of this type with these fields.";
    GetField "getfield" (Field) [1] Reads "A field of an object.";
    SetField "setfield" (SetField) [2] Writes "Sets a field of an object.";

    // Arrays, maps and queues: mutable, in the versioned heap.
    Array "array" (Call) [1 to 2] Allocates "An array of so many elements, each none or the second; or of the elements of a list.";
    FloatArray "f64_array" (Call) [1 to 2] Allocates "A dense array of so many floats, each 0.0 or the second; or of the elements of a list.";
    IntArray "i64_array" (Call) [1 to 2] Allocates "A dense array of so many 64-bit integers, each 0 or the second; or of the elements of a list.";
    Map "map" (Call) [0] Allocates "An empty map.";
    Queue "queue" (Call) [0] Allocates "An empty queue.";
    SetIndex "setindex" (SetIndex) [3] Writes "Sets an element of an array, or a key's value in a map.";
    Get "get" (Call) [2 to 3] Reads "The value of a key in a map; the third (or none) if it is not there.";
    Has "has" (Call) [2] Reads "1 if the map has the key.";
    Remove "remove" (Call) [2] Writes "Takes a key out of a map and gives its value; none if it was not there.";
    Keys "keys" (Call) [1] Reads "A list of a map's keys, in ascending order.";
    Values "values" (Call) [1] Reads "A list of a map's values, in the order of their keys.";
    Items "items" (Call) [1] Reads "A list of the elements of any collection; for a map, of [key, value] in the order of the keys.";
    Iterate "iterate" (Call) [1] Reads "What `for` goes over: a list or array as it is, a map's keys in ascending order, a string's characters.";
    Push "push" (Call) [2] Writes "Puts a value at the end of a queue.";
    Pop "pop" (Call) [1] Writes "Takes the first value out of a queue; none if it is empty.";
    Peek "peek" (Call) [1] Reads "The first value of a queue, left in place; none if it is empty.";
    Clear "clear" (Call) [1] Writes "Takes everything out of a map or queue.";
    Freeze "freeze" (Call) [1] Writes "Makes a value and all that it reaches immutable for good, and gives it back.";

    // Shared variables.
    GetGlobal "getglobal" (Global) [0] Reads "A shared variable.";
    SetGlobal "setglobal" (SetGlobal) [1] Writes "Sets a shared variable.";

    // Calls and events.
    Call "call" (Function) [0 up] Calls "Calls a function.";
    CallHost "callhost" (Host) [0 up] Calls "Calls a function of the embedding program.";
    AddEvent "addevent" (Add) [0 up] Output "Queues a call as an event of its own, which starts if this one commits.";
    AddAfter "addafter" (AddAfter) [1 up] Output "Queues a call as an event of its own, at the earliest after so many milliseconds.";

    // Sources of events. They begin to give when the event that names them commits.
    Connections "connections" (Each) [1 up] Output "Listens on a TCP address, `host:port`: an event for each client that connects.";
    Lines "lines" (Each) [1 up] Output "An event for each line, without its end, of a connection, of a file, or of the standard input (`-`).";
    Chunks "chunks" (Each) [1 up] Output "An event for the bytes that have arrived on a connection, or for each piece of a file.";
    Readable "readable" (When) [1 up] Output "An event once there is something to receive on a connection, or it has ended.";
    Closed "closed" (When) [1 up] Output "An event once a connection is over, whoever has ended it.";
    PromoteHint "promote" (Promote) [1] Total "Tells the compiling tiers to specialise to this value from here on.";

    // What the event's context gives, so that a run can be recorded and replayed.
    Now "now" (Call) [0] Context "The time in milliseconds since 1970 began (UTC), a float; the same throughout an event.";
    Random "random" (Call) [0 to 1] Context "A random float from 0 up to 1; with an integer, a random integer from 0 up to it.";
    EventNumber "event_number" (Call) [0] Context "The number of this event in the order in which events were added.";

    // Output, kept back until the event commits.
    Print "print" (Call) [0 up] Output "Prints its arguments with blanks between them, strings as they are, and ends the line.";
    Log "log" (Call) [0 up] Output "As print, but to the log (standard error).";
    WriteFile "write_file" (Call) [2] Output "Appends a string or byte string to the file of this name.";
    Send "send" (Call) [2] Output "Sends a string or byte string on a connection; to a client that has gone it is dropped.";
    Receive "receive" (Call) [1] Context "Takes what has arrived on a connection, as bytes: none if nothing has, empty if nothing will any more.";
    Close "close" (Call) [1] Output "Closes a connection once everything sent has been written.";
    Peer "peer" (Call) [1] Context "The address at the other end of a connection, as text.";

    // Checks.
    Assert "assert" (Call) [1 to 2] Pure "Fails, with the second as message, if the first is the integer 0.";
}

impl Op {
    /// The operation written between its operands as `symbol`.
    pub fn infix(symbol: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| matches!(op.notation(), Notation::Infix(own) if own == symbol))
    }

    /// The operation called as `name(…)`.
    pub fn called(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| op.notation() == Notation::Call && op.name() == name)
    }

    /// The source of events called `name(…)` in `for each x in name(…)`.
    pub fn source(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| op.notation() == Notation::Each && op.name() == name)
    }

    /// The condition called `name(…)` in `when name(…)`.
    pub fn condition(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| op.notation() == Notation::When && op.name() == name)
    }

    /// Whether it belongs to the core language.
    pub fn is_core(self) -> bool {
        self <= Self::Neg
    }

    /// Whether a partial evaluator may carry it out when all operands are constants. A constant is immutable, so an operation that reads
    /// only its operands qualifies.
    pub fn folds(self) -> bool {
        matches!(self.effect(), Effect::Total | Effect::Pure) && self != Self::PromoteHint
    }

    /// Whether it can be left out if nobody wants its result.
    pub fn is_removable(self) -> bool {
        matches!(self.effect(), Effect::Total) && self != Self::PromoteHint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_symbols_are_unique() {
        let names: HashSet<_> = Op::ALL.iter().map(|op| op.name()).collect();
        assert_eq!(names.len(), Op::ALL.len());
        let infix: Vec<_> = Op::ALL
            .iter()
            .filter_map(|op| if let Notation::Infix(s) = op.notation() { Some(s) } else { None })
            .collect();
        assert_eq!(infix.len(), infix.iter().collect::<HashSet<_>>().len());
    }

    #[test]
    fn the_core_comes_first() {
        let core: Vec<_> = Op::ALL.iter().filter(|op| op.is_core()).map(|op| op.name()).collect();
        assert_eq!(core.join(" "), "same add sub mul eq ge readlist ne lt le gt floordiv modulo div neg");
        assert!(Op::ALL.iter().filter(|op| op.is_core()).all(|op| op.folds()));
    }

    #[test]
    fn arities_read_well() {
        assert_eq!(Op::Len.arity().to_string(), "1 argument");
        assert_eq!(Op::Get.arity().to_string(), "2 to 3 arguments");
        assert_eq!(Op::Min.arity().to_string(), "at least 1 argument");
        assert_eq!(Op::Now.arity().to_string(), "no arguments");
        assert!(Op::Get.arity().allows(3) && !Op::Get.arity().allows(4));
    }
}
