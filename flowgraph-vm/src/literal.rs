//! Constants: what can be written in a program, put into a residual program, or given on the command line.
//!
//! Two notions of sameness live here and must not be mixed up:
//!
//! - [`Literal::equals`] is the language's `==`: structural, kind and value, floats by IEEE (so `nan == nan` is false and
//!   `0.0 == -0.0` is true, while `1 == 1.0` is false).
//! - `PartialEq`/`Hash` are *identity*: the same kind and the same bits. Caches keyed by constants need an equivalence that never
//!   confuses two constants which some operation could tell apart.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use num_traits::{FromPrimitive, Signed, ToPrimitive};

/// An integer of any size. A number that fits an `i64` is always [`Int::Small`], so that equal numbers are equal values.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Int {
    /// A number that fits 64 bits.
    Small(i64),
    /// A number that does not.
    Big(Arc<BigInt>),
}

impl Int {
    /// The number as a big integer.
    pub fn to_big(&self) -> BigInt {
        match self {
            Self::Small(small) => BigInt::from(*small),
            Self::Big(big) => (**big).clone(),
        }
    }

    /// The number if it fits an `i64`.
    pub fn to_i64(&self) -> Option<i64> {
        match self {
            Self::Small(small) => Some(*small),
            Self::Big(_) => None,
        }
    }

    /// The nearest float; infinite if it is beyond the largest.
    pub fn to_f64(&self) -> f64 {
        match self {
            Self::Small(small) => *small as f64,
            Self::Big(big) => big.to_f64().unwrap_or(f64::NAN),
        }
    }

    /// The integer that a float is equal to after dropping its fraction; `None` if it is not finite.
    pub fn from_f64(float: f64) -> Option<Self> {
        BigInt::from_f64(float.trunc()).map(Self::from)
    }

    /// How many bits the magnitude takes.
    pub fn bits(&self) -> u64 {
        match self {
            Self::Small(small) => u64::from(64 - small.unsigned_abs().leading_zeros()),
            Self::Big(big) => big.bits(),
        }
    }

    /// Whether this is 0.
    pub fn is_zero(&self) -> bool {
        matches!(self, Self::Small(0))
    }

    /// Whether this is below 0.
    pub fn is_negative(&self) -> bool {
        match self {
            Self::Small(small) => *small < 0,
            Self::Big(big) => big.sign() == Sign::Minus,
        }
    }

    /// The sum.
    #[must_use]
    pub fn add(&self, other: &Self) -> Self {
        self.either(other, i64::checked_add, |a, b| a + b)
    }

    /// The difference.
    #[must_use]
    pub fn sub(&self, other: &Self) -> Self {
        self.either(other, i64::checked_sub, |a, b| a - b)
    }

    /// The product.
    #[must_use]
    pub fn mul(&self, other: &Self) -> Self {
        self.either(other, i64::checked_mul, |a, b| a * b)
    }

    /// The number with its sign turned.
    #[must_use]
    pub fn neg(&self) -> Self {
        Self::Small(0).sub(self)
    }

    /// The number without its sign.
    #[must_use]
    pub fn abs(&self) -> Self {
        if self.is_negative() { self.neg() } else { self.clone() }
    }

    /// The quotient, rounded towards minus infinity; `None` if `other` is 0.
    #[must_use]
    pub fn div_floor(&self, other: &Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        // The one quotient of two words that does not fit a word is MIN // -1, which the checked form hands on.
        let small = |a: i64, b: i64| a.checked_rem(b).map(|_| Integer::div_floor(&a, &b));
        Some(self.either(other, small, |a, b| a.div_floor(b)))
    }

    /// What [`div_floor`](Self::div_floor) leaves, with the sign of `other`; `None` if `other` is 0.
    #[must_use]
    pub fn mod_floor(&self, other: &Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        let small = |a: i64, b: i64| a.checked_rem(b).map(|_| Integer::mod_floor(&a, &b));
        Some(self.either(other, small, |a, b| a.mod_floor(b)))
    }

    fn either(
        &self,
        other: &Self,
        small: impl Fn(i64, i64) -> Option<i64>,
        big: impl Fn(&BigInt, &BigInt) -> BigInt,
    ) -> Self {
        if let (Self::Small(a), Self::Small(b)) = (self, other)
            && let Some(result) = small(*a, *b)
        {
            return Self::Small(result);
        }
        Self::from(big(&self.to_big(), &other.to_big()))
    }

    /// How this number compares with a float, exactly (no rounding of either); `None` if the float is not a number.
    pub fn compare_f64(&self, float: f64) -> Option<Ordering> {
        if float.is_nan() {
            return None;
        }
        if float.is_infinite() {
            return Some(if float > 0.0 { Ordering::Less } else { Ordering::Greater });
        }
        let whole = Self::from_f64(float)?;
        let fraction = float - float.trunc();
        Some(self.cmp(&whole).then_with(|| 0.0.partial_cmp(&fraction).unwrap_or(Ordering::Equal)))
    }
}

impl Ord for Int {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Small(a), Self::Small(b)) => a.cmp(b),
            (Self::Big(a), Self::Big(b)) => a.cmp(b),
            // A big number lies beyond every small one, on the side of its sign.
            (Self::Big(big), Self::Small(_)) => {
                if big.is_negative() {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (Self::Small(_), Self::Big(big)) => {
                if big.is_negative() {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
        }
    }
}

impl PartialOrd for Int {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<BigInt> for Int {
    fn from(big: BigInt) -> Self {
        big.to_i64().map_or_else(|| Self::Big(Arc::new(big)), Self::Small)
    }
}

impl From<i64> for Int {
    fn from(small: i64) -> Self {
        Self::Small(small)
    }
}

impl fmt::Display for Int {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Small(small) => write!(f, "{small}"),
            Self::Big(big) => write!(f, "{big}"),
        }
    }
}

impl fmt::Debug for Int {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Int {
    type Err = num_bigint::ParseBigIntError;

    fn from_str(digits: &str) -> Result<Self, Self::Err> {
        match digits.parse() {
            Ok(small) => Ok(Self::Small(small)),
            Err(_) => digits.parse::<BigInt>().map(Self::from),
        }
    }
}

/// A constant. Its `Display` is the literal notation, which [`Literal::parse`] reads back.
#[derive(Clone, Debug)]
pub enum Literal {
    /// The absence of a value, `none`.
    None,
    /// An integer, `-7`.
    Int(Int),
    /// A 64-bit float, `1.5`.
    Float(f64),
    /// A symbol, `'mov_a_r0'`.
    Symbol(Arc<str>),
    /// A string, `"text"`.
    Str(Arc<str>),
    /// A byte string, `b"\xff"`.
    Bytes(Arc<[u8]>),
    /// An immutable list, `[1, 's', [2]]`.
    List(Arc<[Literal]>),
}

impl Literal {
    /// A small integer.
    pub fn int(value: i64) -> Self {
        Self::Int(Int::Small(value))
    }

    /// The integer 1 or 0.
    pub fn truth(value: bool) -> Self {
        Self::int(i64::from(value))
    }

    /// A symbol.
    pub fn symbol(name: &str) -> Self {
        Self::Symbol(name.into())
    }

    /// A string.
    pub fn string(text: &str) -> Self {
        Self::Str(text.into())
    }

    /// The language's `==`: same kind and same value, never an error.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Symbol(a), Self::Symbol(b)) | (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.equals(b)),
            _ => false,
        }
    }

    /// Whether `if` takes its else branch: exactly for the integer 0.
    pub fn is_zero(&self) -> bool {
        matches!(self, Self::Int(Int::Small(0)))
    }

    /// What kind of value this is, as messages name it: `an integer`, `a list`, …
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Symbol(_) => "a symbol",
            Self::Str(_) => "a string",
            Self::Bytes(_) => "a byte string",
            Self::List(_) => "a list",
        }
    }

    /// Whether the literal notation exists and reads back as the same constant. Infinities and not-a-number have none, so a partial
    /// evaluator leaves the operation that makes one in place.
    pub fn is_writable(&self) -> bool {
        match self {
            Self::Float(float) => float.is_finite(),
            Self::List(items) => items.iter().all(Self::is_writable),
            _ => true,
        }
    }

    /// Reads one literal in literal notation, as on the command line's `--set NAME=LITERAL`.
    ///
    /// # Errors
    ///
    /// A sentence saying what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        crate::syntax::parse_literal(text)
    }
}

impl PartialEq for Literal {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Symbol(a), Self::Symbol(b)) | (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Literal {}

impl Hash for Literal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::None => {}
            Self::Int(int) => int.hash(state),
            Self::Float(float) => float.to_bits().hash(state),
            Self::Symbol(text) | Self::Str(text) => text.hash(state),
            Self::Bytes(bytes) => bytes.hash(state),
            Self::List(items) => items.hash(state),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Int(int) => write!(f, "{int}"),
            Self::Float(float) => write_float(f, *float),
            Self::Symbol(name) => write_quoted(f, name, '\''),
            Self::Str(text) => write_quoted(f, text, '"'),
            Self::Bytes(bytes) => write_bytes(f, bytes),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Writes a float so that it reads back as the same float and never looks like an integer.
///
/// # Errors
///
/// Those of the writer.
pub fn write_float(f: &mut impl fmt::Write, float: f64) -> fmt::Result {
    if float.is_nan() {
        f.write_str("nan")
    } else if float.is_infinite() {
        f.write_str(if float > 0.0 { "inf" } else { "-inf" })
    } else {
        write!(f, "{float:?}")
    }
}

/// Writes text between quotes with the escapes that the lexer understands.
///
/// # Errors
///
/// Those of the writer.
pub fn write_quoted(f: &mut impl fmt::Write, text: &str, quote: char) -> fmt::Result {
    f.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            c if c == quote => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char(quote)
}

/// Writes a byte string as `b"…"`.
///
/// # Errors
///
/// Those of the writer.
pub fn write_bytes(f: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    f.write_str("b\"")?;
    for &byte in bytes {
        match byte {
            b'\n' => f.write_str("\\n")?,
            b'\r' => f.write_str("\\r")?,
            b'\t' => f.write_str("\\t")?,
            b'\\' => f.write_str("\\\\")?,
            b'"' => f.write_str("\\\"")?,
            0x20..=0x7e => f.write_char(char::from(byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(text: &str) -> Int {
        text.parse().expect("digits")
    }

    #[test]
    fn integers_grow_and_shrink() {
        let big = Int::Small(i64::MAX).add(&Int::Small(1));
        assert!(matches!(big, Int::Big(_)));
        assert_eq!(big.to_string(), "9223372036854775808");
        assert_eq!(big.sub(&Int::Small(1)), Int::Small(i64::MAX));
        assert_eq!(Int::Small(i64::MIN).neg(), big);
        assert_eq!(Int::Small(i64::MIN).div_floor(&Int::Small(-1)), Some(big));
        assert_eq!(Int::Small(i64::MIN).mod_floor(&Int::Small(-1)), Some(Int::Small(0)));
        assert_eq!(int("10").mul(&int("-100000000000000000000")).to_string(), "-1000000000000000000000");
    }

    #[test]
    fn division_rounds_towards_minus_infinity() {
        for (a, b, quotient, rest) in [(7, 2, 3, 1), (-7, 2, -4, 1), (7, -2, -4, -1), (-7, -2, 3, -1)] {
            assert_eq!(Int::Small(a).div_floor(&Int::Small(b)), Some(Int::Small(quotient)));
            assert_eq!(Int::Small(a).mod_floor(&Int::Small(b)), Some(Int::Small(rest)));
        }
        assert_eq!(Int::Small(1).div_floor(&Int::Small(0)), None);
    }

    #[test]
    fn integers_and_floats_compare_exactly() {
        let above = int("9007199254740993");
        assert_eq!(above.compare_f64(9007199254740992.0), Some(Ordering::Greater));
        assert_eq!(Int::Small(-1).compare_f64(-1.5), Some(Ordering::Greater));
        assert_eq!(Int::Small(1).compare_f64(1.0), Some(Ordering::Equal));
        assert_eq!(Int::Small(1).compare_f64(1.5), Some(Ordering::Less));
        assert_eq!(Int::Small(1).compare_f64(f64::NAN), None);
        assert_eq!(int("1000000000000000000000").compare_f64(f64::NEG_INFINITY), Some(Ordering::Greater));
    }

    #[test]
    fn equality_is_structural_and_identity_is_by_bits() {
        assert!(!Literal::int(1).equals(&Literal::Float(1.0)));
        assert!(Literal::Float(0.0).equals(&Literal::Float(-0.0)));
        assert_ne!(Literal::Float(0.0), Literal::Float(-0.0));
        assert!(!Literal::Float(f64::NAN).equals(&Literal::Float(f64::NAN)));
        assert_eq!(Literal::Float(f64::NAN), Literal::Float(f64::NAN));
        assert!(!Literal::symbol("a").equals(&Literal::string("a")));
    }

    #[test]
    fn literal_notation() {
        let list =
            Literal::List([Literal::int(1), Literal::symbol("s"), Literal::List([Literal::int(2)].into())].into());
        assert_eq!(list.to_string(), "[1, 's', [2]]");
        assert_eq!(Literal::Float(1e300).to_string(), "1e300");
        assert_eq!(Literal::Float(-0.0).to_string(), "-0.0");
        assert_eq!(Literal::symbol("it's\n").to_string(), r"'it\'s\n'");
        assert_eq!(Literal::Bytes([0xff, b'a', b'"'].into()).to_string(), r#"b"\xffa\"""#);
    }
}
