//! Operations on lists, and those that lists share with strings and byte strings.

use std::cmp::Ordering;
use std::sync::Arc;

use super::access::{Make, elements, kind_of};
use super::{numbers, order, wrong};
use crate::flowgraph::fault::Fault;
use crate::flowgraph::op::Op;
use crate::heap::Mutator;
use crate::interpreter::Trap;
use crate::value::Value;

/// Where a slice begins and ends, in something of this length. An end beyond the last element means the last.
fn bounds(from: Value, to: Option<Value>, length: usize) -> Result<(usize, usize), Trap> {
    let from = numbers::size("the start of a slice", from, i64::MAX as usize)?.min(length);
    let to = match to {
        Some(to) => numbers::size("the end of a slice", to, i64::MAX as usize)?.min(length),
        None => length,
    };
    Ok((from, to.max(from)))
}

pub(super) fn slice(heap: &mut Mutator, value: Value, from: Value, to: Option<Value>) -> Result<Value, Trap> {
    if let Some(list) = value.list() {
        let (from, to) = bounds(from, to, list.meta().fields())?;
        let items: Vec<Value> = (from..to).map(|i| list.get(i)).collect();
        return Ok(heap.make_list(&items));
    }
    if let Some(text) = value.text() {
        let (from, to) = bounds(from, to, if text.is_ascii() { text.len() } else { text.chars().count() })?;
        let part: String;
        let part = if text.is_ascii() {
            &text[from..to]
        } else {
            part = text.chars().skip(from).take(to - from).collect();
            &part
        };
        return Ok(heap.make_text(part));
    }
    if let Some(bytes) = value.byte_string() {
        let (from, to) = bounds(from, to, bytes.len())?;
        return Ok(heap.make_bytes(&bytes[from..to]));
    }
    Err(wrong("slice", "a list, string or byte string", value))
}

/// Where the part first occurs; -1 if nowhere.
pub(super) fn find(value: Value, part: Value) -> Result<Value, Trap> {
    let found = if let Some(list) = value.list() {
        elements(list).position(|item| order::equal(item, part))
    } else if let Some(text) = value.text() {
        let part = part.text().ok_or_else(|| wrong("looking in a string", "a string to look for", part))?;
        text.find(part).map(|place| text[..place].chars().count())
    } else if let Some(bytes) = value.byte_string() {
        let part =
            part.byte_string().ok_or_else(|| wrong("looking in a byte string", "a byte string to look for", part))?;
        if part.is_empty() { Some(0) } else { bytes.windows(part.len()).position(|window| window == part) }
    } else {
        return Err(wrong("looking for something", "a collection, string or byte string", value));
    };
    Ok(Value::small(found.map_or(-1, |place| place as i64)))
}

/// Sorts, equal elements keeping their order.
pub(super) fn sort(items: &mut [Value], symbols: &dyn Fn(u32) -> Arc<str>) -> Result<(), Trap> {
    if items.iter().all(|item| item.is_int()) {
        items.sort_by_key(|item| item.int_unchecked());
        return Ok(());
    }
    if let Some(item) = items.iter().find(|item| !order::is_ordered(**item)) {
        return Err(Fault::NotComparable { op: Op::Sort, left: kind_of(*item), right: kind_of(items[0]) }.into());
    }
    items.sort_by(|a, b| order::total_order(*a, *b, symbols).unwrap_or(Ordering::Equal));
    Ok(())
}
