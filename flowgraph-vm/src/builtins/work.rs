//! What operations cost beyond a step, so that the limit of an event's steps bounds its time whatever it works on.

use crate::flowgraph::op::{Effect, Op};
use crate::value::Value;

/// So many bytes are gone through in about the time of a step.
const BYTES_PER_STEP: u64 = 256;

/// So many products of words are formed in about the time of a step.
const PRODUCTS_PER_STEP: u64 = 64;

/// The steps that an operation counts as, besides those of the program around it: none if its operands are small.
#[inline]
pub(super) fn work(op: Op, args: &[Value]) -> u64 {
    let bytes =
        |index: usize| args.get(index).and_then(|value| value.object()).map_or(0, |object| object.meta().size() as u64);
    let products = |a: u64, b: u64| (a / 8).saturating_mul(b / 8) / PRODUCTS_PER_STEP;
    match op {
        Op::Mul | Op::FloorDiv | Op::Modulo => products(bytes(0), bytes(1)),
        Op::Pow => {
            let exponent = args.get(1).and_then(|value| value.as_int()).map_or(0, |exponent| exponent.max(0) as u64);
            let result = exponent.saturating_mul(bytes(0).max(8));
            products(result, result.min(1 << 21))
        }
        Op::Isqrt | Op::ToInt => products(bytes(0), bytes(0)),
        // Numbers become digits by repeated division.
        Op::ToStr | Op::Repr | Op::Print | Op::Log | Op::Fixed | Op::PadLeft | Op::PadRight | Op::Join => {
            (0..args.len())
                .map(|index| {
                    if is_big(args[index]) {
                        products(bytes(index), bytes(index))
                    } else {
                        bytes(index) / BYTES_PER_STEP
                    }
                })
                .sum()
        }
        Op::Len | Op::ReadList => 0,
        _ if op.effect() == Effect::Pure => (0..args.len()).map(bytes).sum::<u64>() / BYTES_PER_STEP,
        _ => 0,
    }
}

fn is_big(value: Value) -> bool {
    value.object().is_some_and(|object| object.meta().kind() == crate::heap::Kind::Big)
}
