//! What each core operation computes, on constants: the meaning that every tier shares.
//!
//! A tier with values of its own calls [`evaluate`] for what its fast paths do not cover, or reports the same [`Fault`]s.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::Zero;

use crate::flowgraph::fault::Fault;
use crate::flowgraph::op::Op;
use crate::literal::{Int, Literal};

/// The most bits an integer may have: a program that would exceed this fails instead of eating the machine's memory.
pub const MAX_INT_BITS: u64 = 1 << 24;

/// Carries out an operation on constants.
///
/// Covers the core operations; for any other the answer is `None`, as for those whose result has to be worked out at run time.
///
/// # Errors
///
/// The operation's own failure on these operands.
pub fn evaluate(op: Op, args: &[Literal]) -> Option<Result<Literal, Fault>> {
    Some(match (op, args) {
        (Op::Same, [value]) => Ok(value.clone()),
        (Op::Neg, [value]) => negate(value),
        (Op::Eq, [a, b]) => Ok(Literal::truth(a.equals(b))),
        (Op::Ne, [a, b]) => Ok(Literal::truth(!a.equals(b))),
        (Op::Ge | Op::Gt | Op::Le | Op::Lt, [a, b]) => compare(op, a, b),
        (Op::Add | Op::Sub | Op::Mul | Op::FloorDiv | Op::Modulo | Op::Div, [a, b]) => arithmetic(op, a, b),
        (Op::ReadList, [list, index]) => read_list(list, index),
        _ => return None,
    })
}

fn negate(value: &Literal) -> Result<Literal, Fault> {
    match value {
        Literal::Int(int) => Ok(Literal::Int(int.neg())),
        Literal::Float(float) => Ok(Literal::Float(-float)),
        other => Err(Fault::NotANumber { op: Op::Neg, kind: other.kind() }),
    }
}

fn compare(op: Op, a: &Literal, b: &Literal) -> Result<Literal, Fault> {
    let ordering = match (a, b) {
        (Literal::Int(a), Literal::Int(b)) => Some(a.cmp(b)),
        (Literal::Float(a), Literal::Float(b)) => a.partial_cmp(b),
        (Literal::Int(a), Literal::Float(b)) => a.compare_f64(*b),
        (Literal::Float(a), Literal::Int(b)) => b.compare_f64(*a).map(Ordering::reverse),
        (Literal::Str(a), Literal::Str(b)) => Some(a.cmp(b)),
        (Literal::Bytes(a), Literal::Bytes(b)) => Some(a.cmp(b)),
        _ => {
            return Err(Fault::NotComparable { op, left: a.kind(), right: b.kind() });
        }
    };
    Ok(Literal::truth(holds(op, ordering)))
}

/// Whether a comparison holds for operands in this order; `None` means that one of them is not a number, for which none holds.
pub fn holds(op: Op, ordering: Option<Ordering>) -> bool {
    ordering.is_some_and(|ordering| match op {
        Op::Ge => ordering.is_ge(),
        Op::Gt => ordering.is_gt(),
        Op::Le => ordering.is_le(),
        Op::Lt => ordering.is_lt(),
        _ => unreachable!("{op:?} is not a comparison"),
    })
}

fn arithmetic(op: Op, a: &Literal, b: &Literal) -> Result<Literal, Fault> {
    match (a, b) {
        (Literal::Int(a), Literal::Int(b)) => integers(op, a, b),
        (Literal::Int(a), Literal::Float(b)) => floats(op, a.to_f64(), *b),
        (Literal::Float(a), Literal::Int(b)) => floats(op, *a, b.to_f64()),
        (Literal::Float(a), Literal::Float(b)) => floats(op, *a, *b),
        (Literal::Str(a), Literal::Str(b)) if op == Op::Add => Ok(Literal::Str([&**a, &**b].concat().into())),
        (Literal::Bytes(a), Literal::Bytes(b)) if op == Op::Add => Ok(Literal::Bytes([&**a, &**b].concat().into())),
        (Literal::Int(_) | Literal::Float(_), other) | (other, _) => Err(Fault::NotANumber { op, kind: other.kind() }),
    }
}

/// Arithmetic on integers.
///
/// # Errors
///
/// Division by zero, or a result of more than [`MAX_INT_BITS`] bits.
pub fn integers(op: Op, a: &Int, b: &Int) -> Result<Literal, Fault> {
    let result = match op {
        Op::Add => a.add(b),
        Op::Sub => a.sub(b),
        Op::Mul if a.bits() + b.bits() > MAX_INT_BITS => {
            return Err(Fault::IntegerTooLarge { bits: MAX_INT_BITS });
        }
        Op::Mul => a.mul(b),
        Op::FloorDiv => a.div_floor(b).ok_or(Fault::DivisionByZero { op })?,
        Op::Modulo => a.mod_floor(b).ok_or(Fault::DivisionByZero { op })?,
        Op::Div => return quotient(a, b),
        _ => unreachable!("{op:?} is not arithmetic"),
    };
    if result.bits() > MAX_INT_BITS {
        return Err(Fault::IntegerTooLarge { bits: MAX_INT_BITS });
    }
    Ok(Literal::Int(result))
}

/// Arithmetic on floats. Dividing by zero is an error for floats as it is for integers.
///
/// # Errors
///
/// Division by zero.
pub fn floats(op: Op, a: f64, b: f64) -> Result<Literal, Fault> {
    if b == 0.0 && matches!(op, Op::FloorDiv | Op::Modulo | Op::Div) {
        return Err(Fault::DivisionByZero { op });
    }
    Ok(Literal::Float(match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div => a / b,
        Op::FloorDiv => floor_div(a, b),
        Op::Modulo => modulo(a, b),
        _ => unreachable!("{op:?} is not arithmetic"),
    }))
}

/// The quotient of two integers as a float, also where the integers themselves are beyond all floats.
fn quotient(a: &Int, b: &Int) -> Result<Literal, Fault> {
    let (x, y) = (a.to_f64(), b.to_f64());
    if b.is_zero() || (x.is_finite() && y.is_finite()) {
        return floats(Op::Div, x, y);
    }
    // As many bits of the quotient as a float can take and some more, the last of them telling whether there are others behind it.
    let bits = |int: &Int| i32::try_from(int.bits()).expect("integers are not that long");
    let shift = bits(b) + 66 - bits(a);
    let (a, b) = (a.to_big(), b.to_big());
    let shifted = if shift >= 0 { &a << shift } else { &a >> -shift };
    let (mut quotient, rest) = shifted.div_rem(&b);
    if !rest.is_zero() || (shift < 0 && a.trailing_zeros().is_some_and(|zeros| zeros < u64::from(shift.unsigned_abs())))
    {
        quotient |= BigInt::from(1);
    }
    // In two steps, since the power of two alone may be beyond all floats where the result is not.
    let power = (-shift).clamp(-2200, 2200);
    let leading = Int::from(quotient).to_f64();
    Ok(Literal::Float(leading * 2_f64.powi(power / 2) * 2_f64.powi(power - power / 2)))
}

/// The greatest integer that is not above the quotient, where that is a float; it goes with [`modulo`]. Rounding the rounded quotient down
/// would not do: it may have been rounded up to an integer.
fn floor_div(a: f64, b: f64) -> f64 {
    let quotient = a / b;
    let rest = modulo(a, b);
    if !quotient.is_finite() || rest.is_nan() {
        return quotient.floor();
    }
    let whole = if rest.is_infinite() { -1.0 } else { ((a - rest) / b).round() };
    if whole == 0.0 { 0.0_f64.copysign(quotient) } else { whole }
}

/// The float that floor division leaves: it has the sign of `b`, a zero included.
fn modulo(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest == 0.0 {
        0.0_f64.copysign(b)
    } else if (rest < 0.0) != (b < 0.0) {
        rest + b
    } else {
        rest
    }
}

fn read_list(list: &Literal, index: &Literal) -> Result<Literal, Fault> {
    let Literal::List(items) = list else {
        return Err(Fault::NotIndexable { kind: list.kind() });
    };
    let Literal::Int(index) = index else {
        return Err(Fault::NotAnIndex { kind: index.kind() });
    };
    let place = index.to_i64().and_then(|index| usize::try_from(index).ok());
    match place.and_then(|place| items.get(place)) {
        Some(item) => Ok(item.clone()),
        None => Err(Fault::IndexOutOfRange { index: index.to_string(), length: items.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(op: Op, a: Literal, b: Literal) -> String {
        match evaluate(op, &[a, b]).expect("a core operation") {
            Ok(value) => value.to_string(),
            Err(fault) => format!("{}: {fault}", fault.kind()),
        }
    }

    #[test]
    fn arithmetic_mixes_integers_and_floats() {
        assert_eq!(eval(Op::Add, Literal::int(1), Literal::Float(0.5)), "1.5");
        assert_eq!(eval(Op::Div, Literal::int(1), Literal::int(2)), "0.5");
        assert_eq!(eval(Op::FloorDiv, Literal::Float(-7.0), Literal::int(2)), "-4.0");
        assert_eq!(eval(Op::FloorDiv, Literal::Float(1.0), Literal::Float(0.1)), "9.0");
        assert_eq!(eval(Op::FloorDiv, Literal::Float(1e-308), Literal::Float(-1e300)), "-1.0");
        assert_eq!(eval(Op::FloorDiv, Literal::Float(-1.0), Literal::Float(f64::INFINITY)), "-1.0");
        assert_eq!(eval(Op::FloorDiv, Literal::Float(f64::INFINITY), Literal::int(2)), "inf");
        assert_eq!(eval(Op::FloorDiv, Literal::Float(-0.0), Literal::int(2)), "-0.0");
        assert_eq!(eval(Op::FloorDiv, Literal::Float(0.5), Literal::int(2)), "0.0");
        assert_eq!(eval(Op::Modulo, Literal::Float(-7.5), Literal::int(2)), "0.5");
        assert_eq!(eval(Op::Modulo, Literal::Float(1.0), Literal::Float(f64::INFINITY)), "1.0");
        assert_eq!(eval(Op::Modulo, Literal::Float(7.5), Literal::int(-2)), "-0.5");
        assert_eq!(eval(Op::Modulo, Literal::Float(-7.5), Literal::int(-2)), "-1.5");
        assert_eq!(eval(Op::Modulo, Literal::Float(-4.0), Literal::int(2)), "0.0");
    }

    #[test]
    fn failures_say_what_was_wrong() {
        assert_eq!(
            eval(Op::Add, Literal::int(1), Literal::symbol("a")),
            "not_a_number: `+` needs a number, but got a symbol"
        );
        assert_eq!(
            eval(Op::Add, Literal::symbol("a"), Literal::List([].into())),
            "not_a_number: `+` needs a number, but got a symbol"
        );
        assert_eq!(eval(Op::Div, Literal::int(1), Literal::int(0)), "division_by_zero: `/` divides by zero");
        assert_eq!(eval(Op::Modulo, Literal::Float(1.0), Literal::Float(0.0)), "division_by_zero: `%` divides by zero");
        assert_eq!(
            eval(Op::Ge, Literal::int(1), Literal::List([].into())),
            "not_comparable: `>=` cannot compare an integer with a list"
        );
        assert_eq!(
            eval(Op::ReadList, Literal::List([].into()), Literal::int(-1)),
            "index_out_of_range: the index -1 is out of range for a length of 0"
        );
        assert_eq!(
            eval(Op::ReadList, Literal::int(1), Literal::int(1)),
            "not_indexable: an integer has no elements to index"
        );
    }

    #[test]
    fn equality_never_fails_and_ge_handles_not_a_number() {
        assert_eq!(eval(Op::Eq, Literal::int(1), Literal::symbol("a")), "0");
        assert_eq!(eval(Op::Ge, Literal::Float(f64::NAN), Literal::int(0)), "0");
        assert_eq!(eval(Op::Lt, Literal::Float(f64::NAN), Literal::int(0)), "0");
    }

    #[test]
    fn quotients_of_huge_integers_are_floats() {
        let power = |exponent| Literal::Int(Int::from(BigInt::from(10).pow(exponent)));
        assert_eq!(eval(Op::Div, power(400), power(399)), "10.0");
        assert_eq!(eval(Op::Div, power(400), power(700)), "1e-300");
        assert_eq!(eval(Op::Div, power(400), Literal::int(-3)), "-inf");
        assert_eq!(eval(Op::Div, Literal::int(3), power(400)), "0.0");
        assert_eq!(eval(Op::Div, power(4000), Literal::int(0)), "division_by_zero: `/` divides by zero");
    }

    #[test]
    fn huge_products_are_refused() {
        let huge = Literal::Int(Int::from(BigInt::from(1) << (MAX_INT_BITS - 1)));
        assert!(eval(Op::Mul, huge.clone(), huge).starts_with("integer_too_large"));
    }
}
