//! Arithmetic and mathematics beyond the quick cases of the interpreter.

use num_traits::Pow;

use super::access::{Make, kind_of};
use crate::flowgraph::fault::Fault;
use crate::flowgraph::op::Op;
use crate::flowgraph::semantics::{self, MAX_INT_BITS};
use crate::heap::Mutator;
use crate::interpreter::Trap;
use crate::literal::{Int, Literal};
use crate::value::Value;

fn not_a_number(op: Op, value: Value) -> Trap {
    Fault::NotANumber { op, kind: kind_of(value) }.into()
}

fn number(heap: &mut Mutator, literal: &Literal) -> Value {
    match literal {
        Literal::Int(int) => heap.make_int(int),
        Literal::Float(float) => heap.make_float(*float),
        other => unreachable!("arithmetic gave {other:?}"),
    }
}

/// `+`, `-`, `*`, `//`, `%` and `/`.
pub(super) fn arithmetic(heap: &mut Mutator, op: Op, a: Value, b: Value) -> Result<Value, Trap> {
    if let (Some(x), Some(y)) = (a.as_int(), b.as_int()) {
        let quick = match op {
            Op::Add => Value::int(x + y),
            Op::Sub => Value::int(x - y),
            Op::Mul => Value::mul_ints(a, b),
            Op::FloorDiv if y != 0 => Value::int(num_integer::Integer::div_floor(&x, &y)),
            Op::Modulo if y != 0 => Value::int(num_integer::Integer::mod_floor(&x, &y)),
            _ => None,
        };
        if let Some(quick) = quick {
            return Ok(quick);
        }
    }
    let result = match (a.float_value(), b.float_value()) {
        (Some(x), Some(y)) => semantics::floats(op, x, y)?,
        (Some(x), None) => semantics::floats(op, x, b.to_f64().ok_or_else(|| not_a_number(op, b))?)?,
        (None, Some(y)) if let Some(x) = a.to_f64() => semantics::floats(op, x, y)?,
        _ => match (a.integer(), b.integer()) {
            (Some(x), Some(y)) => semantics::integers(op, &x, &y)?,
            (Some(_), None) => return Err(not_a_number(op, b)),
            (None, _) => return join(heap, op, a, b)?.ok_or_else(|| not_a_number(op, a)),
        },
    };
    Ok(number(heap, &result))
}

/// `+` on two strings or byte strings.
fn join(heap: &mut Mutator, op: Op, a: Value, b: Value) -> Result<Option<Value>, Trap> {
    if op != Op::Add {
        return Ok(None);
    }
    if let Some((a, b)) = a.text().zip(b.text()) {
        heap.check_size(a.len() + b.len())?;
        return Ok(Some(heap.make_text(&[a, b].concat())));
    }
    let Some((a, b)) = a.byte_string().zip(b.byte_string()) else { return Ok(None) };
    heap.check_size(a.len() + b.len())?;
    Ok(Some(heap.make_bytes(&[a, b].concat())))
}

pub(super) fn negate(heap: &mut Mutator, value: Value) -> Result<Value, Trap> {
    if let Some(float) = value.float_value() {
        return Ok(heap.make_float(-float));
    }
    match value.integer() {
        Some(int) => Ok(heap.make_int(&int.neg())),
        None => Err(not_a_number(Op::Neg, value)),
    }
}

fn float(op: Op, value: Value) -> Result<f64, Trap> {
    value.to_f64().ok_or_else(|| not_a_number(op, value))
}

pub(super) fn integer(what: &'static str, value: Value) -> Result<Int, Trap> {
    value.integer().ok_or_else(|| Fault::WrongKind { what, wanted: "an integer", got: kind_of(value) }.into())
}

/// A number of elements, bytes, digits: an integer from 0 to `most`.
pub(super) fn size(what: &'static str, value: Value, most: usize) -> Result<usize, Trap> {
    let int = integer(what, value)?;
    match int.to_i64().and_then(|size| usize::try_from(size).ok()) {
        Some(size) if size <= most => Ok(size),
        Some(_) => Err(Fault::TooLarge { what, limit: most }.into()),
        None if int.is_negative() => {
            Err(Fault::OutOfBounds { what, value: int.to_string(), wanted: "0 or more" }.into())
        }
        None => Err(Fault::TooLarge { what, limit: most }.into()),
    }
}

pub(super) fn abs(heap: &mut Mutator, value: Value) -> Result<Value, Trap> {
    if let Some(float) = value.float_value() {
        return Ok(heap.make_float(float.abs()));
    }
    match value.integer() {
        Some(int) => Ok(heap.make_int(&int.abs())),
        None => Err(not_a_number(Op::Abs, value)),
    }
}

/// The mathematical functions of one float.
pub(super) fn function(heap: &mut Mutator, op: Op, value: Value) -> Result<Value, Trap> {
    let x = float(op, value)?;
    let in_domain = match op {
        Op::Sqrt => x >= 0.0 || x.is_nan(),
        Op::Ln => x > 0.0 || x.is_nan(),
        Op::Asin | Op::Acos => (-1.0..=1.0).contains(&x) || x.is_nan(),
        _ => true,
    };
    if !in_domain {
        let wanted = match op {
            Op::Sqrt => "0 or more",
            Op::Ln => "more than 0",
            _ => "from -1 to 1",
        };
        let what = op.name();
        let mut text = String::new();
        let _ = crate::literal::write_float(&mut text, x);
        return Err(Fault::OutOfBounds { what, value: text, wanted }.into());
    }
    Ok(heap.make_float(match op {
        Op::Sqrt => x.sqrt(),
        Op::Exp => x.exp(),
        Op::Ln => x.ln(),
        Op::Sin => x.sin(),
        Op::Cos => x.cos(),
        Op::Tan => x.tan(),
        Op::Asin => x.asin(),
        Op::Acos => x.acos(),
        Op::Atan => x.atan(),
        _ => unreachable!("{op:?} is not a function of one float"),
    }))
}

pub(super) fn atan2(heap: &mut Mutator, y: Value, x: Value) -> Result<Value, Trap> {
    let (y, x) = (float(Op::Atan2, y)?, float(Op::Atan2, x)?);
    Ok(heap.make_float(y.atan2(x)))
}

/// `floor`, `ceil` and `round`.
pub(super) fn to_whole(heap: &mut Mutator, op: Op, value: Value) -> Result<Value, Trap> {
    let Some(x) = value.float_value() else {
        return if value.integer().is_some() { Ok(value) } else { Err(not_a_number(op, value)) };
    };
    let whole = match op {
        Op::Floor => x.floor(),
        Op::Ceil => x.ceil(),
        _ => x.round(),
    };
    from_float(heap, whole)
}

fn from_float(heap: &mut Mutator, float: f64) -> Result<Value, Trap> {
    match Int::from_f64(float) {
        Some(int) => Ok(heap.make_int(&int)),
        None => {
            let mut text = String::new();
            let _ = crate::literal::write_float(&mut text, float);
            Err(Fault::OutOfBounds { what: "an integer", value: text, wanted: "a finite number" }.into())
        }
    }
}

pub(super) fn pow(heap: &mut Mutator, a: Value, b: Value) -> Result<Value, Trap> {
    if let (Some(base), Some(exponent)) = (a.integer(), b.integer())
        && !exponent.is_negative()
    {
        let too_large = || Trap::from(Fault::IntegerTooLarge { bits: MAX_INT_BITS });
        let result = match base.to_i64() {
            Some(0 | 1) if exponent.is_zero() => Int::Small(1),
            Some(0 | 1) => base,
            Some(-1) => {
                let odd = exponent.mod_floor(&Int::Small(2)).is_some_and(|rest| !rest.is_zero());
                Int::Small(if odd { -1 } else { 1 })
            }
            _ => {
                let exponent = exponent.to_i64().and_then(|e| u32::try_from(e).ok()).ok_or_else(too_large)?;
                if (base.bits() - 1).saturating_mul(exponent as u64) > MAX_INT_BITS {
                    return Err(too_large());
                }
                Int::from(base.to_big().pow(exponent))
            }
        };
        return Ok(heap.make_int(&result));
    }
    let (x, y) = (float(Op::Pow, a)?, float(Op::Pow, b)?);
    if x == 0.0 && y < 0.0 {
        return Err(Fault::DivisionByZero { op: Op::Pow }.into());
    }
    Ok(heap.make_float(x.powf(y)))
}

pub(super) fn isqrt(heap: &mut Mutator, value: Value) -> Result<Value, Trap> {
    let int = integer("isqrt", value)?;
    if int.is_negative() {
        return Err(Fault::OutOfBounds { what: "isqrt", value: int.to_string(), wanted: "0 or more" }.into());
    }
    Ok(heap.make_int(&Int::from(int.to_big().sqrt())))
}

/// `bit_and`, `bit_or`, `bit_xor`, on integers as if they had endlessly many bits.
pub(super) fn bits(heap: &mut Mutator, op: Op, a: Value, b: Value) -> Result<Value, Trap> {
    if let (Some(x), Some(y)) = (a.as_int(), b.as_int()) {
        return Ok(Value::small(match op {
            Op::BitAnd => x & y,
            Op::BitOr => x | y,
            _ => x ^ y,
        }));
    }
    let (x, y) = (integer(op.name(), a)?.to_big(), integer(op.name(), b)?.to_big());
    let result = match op {
        Op::BitAnd => x & y,
        Op::BitOr => x | y,
        _ => x ^ y,
    };
    Ok(heap.make_int(&Int::from(result)))
}

pub(super) fn shift(heap: &mut Mutator, op: Op, a: Value, by: Value) -> Result<Value, Trap> {
    let value = integer(op.name(), a)?;
    let distance = size("a shift", by, MAX_INT_BITS as usize)?;
    let result = if op == Op::ShiftLeft {
        if value.bits() + distance as u64 > MAX_INT_BITS {
            return Err(Fault::IntegerTooLarge { bits: MAX_INT_BITS }.into());
        }
        match value.to_i64() {
            Some(small) if value.bits() + (distance as u64) < 63 => Int::Small(small << distance),
            _ => Int::from(value.to_big() << distance),
        }
    } else {
        match value.to_i64() {
            Some(small) => Int::Small(small >> distance.min(63)),
            None => Int::from(value.to_big() >> distance),
        }
    };
    Ok(heap.make_int(&result))
}

/// `int`.
pub(super) fn to_int(heap: &mut Mutator, value: Value) -> Result<Value, Trap> {
    if value.is_int() || value.integer().is_some() {
        return Ok(value);
    }
    if let Some(float) = value.float_value() {
        return from_float(heap, float.trunc());
    }
    if let Some(text) = value.text() {
        let trimmed = text.trim();
        return match trimmed.parse::<Int>() {
            Ok(int) if int.bits() <= MAX_INT_BITS => Ok(heap.make_int(&int)),
            _ => Err(Fault::CannotFloat { value: Literal::string(text).to_string() }.into()),
        };
    }
    Err(Fault::WrongKind { what: "int", wanted: "a number or a string", got: kind_of(value) }.into())
}

/// `float`.
pub(super) fn to_float(heap: &mut Mutator, value: Value) -> Result<Value, Trap> {
    if let Some(float) = value.to_f64() {
        return Ok(heap.make_float(float));
    }
    if let Some(text) = value.text() {
        return match text.trim().parse::<f64>() {
            Ok(float) => Ok(heap.make_float(float)),
            Err(_) => Err(Fault::CannotFloat { value: Literal::string(text).to_string() }.into()),
        };
    }
    Err(Fault::WrongKind { what: "float", wanted: "a number or a string", got: kind_of(value) }.into())
}

/// The number with so many digits after the point.
pub(super) fn fixed(value: Value, digits: usize) -> Result<String, Trap> {
    if let Some(int) = value.integer() {
        let mut text = int.to_string();
        if digits > 0 {
            text.push('.');
            text.extend(std::iter::repeat_n('0', digits));
        }
        return Ok(text);
    }
    match value.float_value() {
        Some(float) if float.is_finite() => Ok(format!("{float:.digits$}")),
        Some(float) => {
            let mut text = String::new();
            let _ = crate::literal::write_float(&mut text, float);
            Ok(text)
        }
        None => Err(not_a_number(Op::Fixed, value)),
    }
}

/// A delay in milliseconds.
pub(super) fn milliseconds(value: Value) -> Result<std::time::Duration, Trap> {
    let wrong = |text: String| Trap::from(Fault::OutOfBounds { what: "a delay", value: text, wanted: "0 or more" });
    let milliseconds = value
        .to_f64()
        .ok_or_else(|| Trap::from(Fault::WrongKind { what: "a delay", wanted: "a number", got: kind_of(value) }))?;
    std::time::Duration::try_from_secs_f64(milliseconds / 1000.0).map_err(|_| wrong(milliseconds.to_string()))
}
