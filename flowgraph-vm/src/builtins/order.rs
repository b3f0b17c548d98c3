//! Equality, order and hashes of values.
//!
//! All three work on nested lists without recursion, since a program may nest lists deeper than the machine's stack reaches, and go through
//! a list that is met often only once: `l = list(l, l)`, done sixty times, makes a list of 2^60 leaves out of sixty objects.

use std::cmp::Ordering;
use std::hash::Hasher;

use rustc_hash::{FxHashSet, FxHasher};

use super::access::{elements, kind_of};
use crate::flowgraph::fault::Fault;
use crate::flowgraph::op::Op;
use crate::flowgraph::semantics;
use crate::heap::{Kind, Object};
use crate::interpreter::Trap;
use crate::literal::Int;
use crate::value::Value;

/// Two lists being compared, and how far.
struct Pair(Object, Object, usize);

/// So many lists are gone through before it is noted which: few values have as many.
const UNNOTED: u32 = 256;

/// The pairs of lists that are to be compared. One that has been compared, or is being compared, need not be again: had there been a
/// difference, the comparison would be over.
#[derive(Default)]
struct Open {
    pairs: Vec<Pair>,
    met: u32,
    noted: FxHashSet<(u64, u64)>,
}

impl Open {
    fn push(&mut self, a: Object, b: Object) {
        self.met = self.met.saturating_add(1);
        if self.met < UNNOTED || self.noted.insert((a.value().bits(), b.value().bits())) {
            self.pairs.push(Pair(a, b, 0));
        }
    }
}

/// The language's `==`: kind and value; mutable things are equal only to themselves.
pub(crate) fn equal(a: Value, b: Value) -> bool {
    let mut open = Open::default();
    if !equal_or_lists(a, b, &mut open) {
        return false;
    }
    while let Some(Pair(a, b, next)) = open.pairs.pop() {
        if next < a.meta().fields() {
            open.pairs.push(Pair(a, b, next + 1));
            if !equal_or_lists(a.get(next), b.get(next), &mut open) {
                return false;
            }
        }
    }
    true
}

/// Compares two values as far as they are not lists; two lists of one length are put on the stack.
fn equal_or_lists(a: Value, b: Value, open: &mut Open) -> bool {
    if let (Some(a), Some(b)) = (a.float_value(), b.float_value()) {
        return a == b;
    }
    let (Some(x), Some(y)) = (a.object(), b.object()) else { return a == b };
    let (meta, other) = (x.meta(), y.meta());
    // Of lists even one and the same has to be looked into: not-a-number is not equal to itself.
    if meta.kind() != other.kind() || meta.fields() != other.fields() {
        return false;
    }
    match meta.kind() {
        Kind::Big => meta.shape() == other.shape() && (0..meta.fields()).all(|i| x.raw(i) == y.raw(i)),
        Kind::Text | Kind::Bytes => x.bytes() == y.bytes(),
        Kind::List | Kind::Record => {
            open.push(x, y);
            true
        }
        _ => a == b,
    }
}

/// So many parts of a list take part in its hash.
const HASHED: usize = 10_000;

/// A hash under which equal keys are equal. Only what [`is_key`] allows is hashed by value.
pub(crate) fn hash(value: Value) -> u64 {
    let mut hasher = FxHasher::default();
    let mut open = vec![value];
    let mut left = HASHED;
    while let Some(value) = open.pop().filter(|_| left > 0) {
        left -= 1;
        match value.object() {
            None => match value.as_immediate_float() {
                // Both zeros are equal.
                Some(float) => hasher.write_u64((float + 0.0).to_bits()),
                None => hasher.write_u64(value.bits()),
            },
            Some(object) => {
                let meta = object.meta();
                match meta.kind() {
                    Kind::Big | Kind::Float => (0..meta.fields()).for_each(|i| hasher.write_u64(object.raw(i))),
                    Kind::Text | Kind::Bytes => hasher.write(object.bytes()),
                    Kind::List | Kind::Record => {
                        hasher.write_usize(meta.fields());
                        open.extend((0..meta.fields()).take(left).map(|i| object.get(i)));
                    }
                    _ => hasher.write_u64(value.bits()),
                }
            }
        }
    }
    // The map takes its digits from the low end, where this hash is weakest.
    let hash = hasher.finish();
    hash ^ hash >> 32
}

/// Whether the value can be a key of a map: everything immutable does, and objects as themselves.
pub(crate) fn is_key(value: Value) -> bool {
    !value.float_value().is_some_and(f64::is_nan)
}

/// How two numbers compare; `None` inside when one is not a number, outside when they are not both of a numeric kind.
fn compare_numbers(a: Value, b: Value) -> Option<Option<Ordering>> {
    if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
        return Some(Some(a.cmp(&b)));
    }
    match (a.float_value(), b.float_value()) {
        (Some(a), Some(b)) => Some(a.partial_cmp(&b)),
        (Some(a), None) => b.integer().map(|b| b.compare_f64(a).map(Ordering::reverse)),
        (None, Some(b)) => a.integer().map(|a| a.compare_f64(b)),
        (None, None) => a.integer().zip(b.integer()).map(|(a, b): (Int, Int)| Some(a.cmp(&b))),
    }
}

/// How two values compare as `>=` and its like do: numbers, strings, byte strings.
///
/// # Errors
/// On anything else.
pub(crate) fn compare(op: Op, a: Value, b: Value) -> Result<bool, Trap> {
    let ordering = if let Some(ordering) = compare_numbers(a, b) {
        ordering
    } else if let (Some(a), Some(b)) = (a.text(), b.text()) {
        Some(a.cmp(b))
    } else if let (Some(a), Some(b)) = (a.byte_string(), b.byte_string()) {
        Some(a.cmp(b))
    } else {
        return Err(Fault::NotComparable { op, left: kind_of(a), right: kind_of(b) }.into());
    };
    Ok(semantics::holds(op, ordering))
}

/// The place of a value's kind in the order of all values.
fn rank(value: Value) -> u8 {
    if value.is_none() {
        return 0;
    }
    if value.as_symbol().is_some() {
        return 2;
    }
    if value.as_connection().is_some() {
        return 7;
    }
    match value.object().map(|object| object.meta().kind()) {
        None | Some(Kind::Big | Kind::Float) => 1,
        Some(Kind::Text) => 3,
        Some(Kind::Bytes) => 4,
        Some(Kind::List) => 5,
        Some(_) => 6,
    }
}

/// Whether the value has a place in the total order: it is immutable all through.
pub(crate) fn is_ordered(value: Value) -> bool {
    let (mut open, mut met, mut noted) = (vec![value], 0, FxHashSet::default());
    while let Some(value) = open.pop() {
        match rank(value) {
            5 => {
                met += 1;
                if met < UNNOTED || noted.insert(value.bits()) {
                    open.extend(value.object().into_iter().flat_map(elements));
                }
            }
            6 => return false,
            _ => {}
        }
    }
    true
}

/// A total order of all values, in which keys are listed and lists sorted: `none`, numbers, symbols by name, strings, byte strings,
/// lists by their first difference, connections by age. `None` for mutable things, which have no order.
pub(crate) fn total_order(a: Value, b: Value, symbols: &dyn Fn(u32) -> std::sync::Arc<str>) -> Option<Ordering> {
    let mut open = Open::default();
    let mut result = leaf_order(a, b, symbols, &mut open)?;
    while result == Ordering::Equal
        && let Some(Pair(a, b, next)) = open.pairs.pop()
    {
        let (first, second) = (a.meta().fields(), b.meta().fields());
        if next == first.min(second) {
            result = first.cmp(&second);
        } else {
            open.pairs.push(Pair(a, b, next + 1));
            result = leaf_order(a.get(next), b.get(next), symbols, &mut open)?;
        }
    }
    Some(result)
}

fn leaf_order(a: Value, b: Value, symbols: &dyn Fn(u32) -> std::sync::Arc<str>, open: &mut Open) -> Option<Ordering> {
    let ranks = (rank(a), rank(b));
    if ranks.0 != ranks.1 {
        return if ranks.0 == 6 || ranks.1 == 6 { None } else { Some(ranks.0.cmp(&ranks.1)) };
    }
    match ranks.0 {
        0 => Some(Ordering::Equal),
        1 => match compare_numbers(a, b)? {
            // 1 and 1.0 are different keys: the integer comes first. Not-a-number comes last.
            Some(Ordering::Equal) => Some(a.float_value().is_some().cmp(&b.float_value().is_some())),
            Some(ordering) => Some(ordering),
            None => {
                let nan = |value: Value| value.float_value().is_some_and(f64::is_nan);
                Some(nan(a).cmp(&nan(b)))
            }
        },
        2 if a == b => Some(Ordering::Equal),
        2 => Some(symbols(a.as_symbol()?).cmp(&symbols(b.as_symbol()?))),
        3 => Some(a.text()?.cmp(b.text()?)),
        4 => Some(a.byte_string()?.cmp(b.byte_string()?)),
        7 => Some(a.as_connection().cmp(&b.as_connection())),
        5 => {
            open.push(a.object()?, b.object()?);
            Some(Ordering::Equal)
        }
        _ => None,
    }
}
