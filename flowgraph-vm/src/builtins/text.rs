//! Operations on strings and byte strings.

use super::access::{Make, elements};
use super::{numbers, place, wrong};
use crate::flowgraph::fault::Fault;
use crate::flowgraph::op::Op;
use crate::heap::Mutator;
use crate::interpreter::Trap;
use crate::value::Value;

/// The longest string that padding or replacing makes.
const LONGEST: usize = 1 << 30;

pub(super) fn string(op: Op, value: Value) -> Result<&'static str, Trap> {
    value.text().ok_or_else(|| wrong(op.name(), "a string", value))
}

/// The bytes of a string or byte string.
pub(super) fn content(op: Op, value: Value) -> Result<&'static [u8], Trap> {
    match (value.text(), value.byte_string()) {
        (Some(text), _) => Ok(text.as_bytes()),
        (None, Some(bytes)) => Ok(bytes),
        _ => Err(wrong(op.name(), "a string or byte string", value)),
    }
}

pub(super) fn to_bytes(heap: &mut Mutator, value: Value) -> Result<Value, Trap> {
    if let Some(text) = value.text() {
        return Ok(heap.make_bytes(text.as_bytes()));
    }
    let Some(list) = value.list() else { return Err(wrong("bytes", "a string or a list of integers", value)) };
    let bytes: Result<Vec<u8>, Trap> = elements(list)
        .map(|item| {
            let int = numbers::integer("bytes", item)?;
            let byte = int.to_i64().and_then(|byte| u8::try_from(byte).ok());
            byte.ok_or_else(|| {
                Fault::OutOfBounds { what: "a byte", value: int.to_string(), wanted: "from 0 to 255" }.into()
            })
        })
        .collect();
    Ok(heap.make_bytes(&bytes?))
}

pub(super) fn decode(heap: &mut Mutator, value: Value) -> Result<Value, Trap> {
    let bytes = value.byte_string().ok_or_else(|| wrong("decode", "a byte string", value))?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(heap.make_text(text)),
        Err(error) => Err(Fault::OutOfBounds {
            what: "decode",
            value: format!("the byte at {}", error.valid_up_to()),
            wanted: "valid UTF-8",
        }
        .into()),
    }
}

pub(super) fn split(heap: &mut Mutator, value: Value, between: Option<Value>) -> Result<Value, Trap> {
    if let Some(whole) = value.byte_string() {
        let parts: Vec<&[u8]> = match between {
            None => whole.split(u8::is_ascii_whitespace).filter(|part| !part.is_empty()).collect(),
            Some(between) => match byte_string(Op::Split, between)? {
                [] => whole.chunks(1).collect(),
                between => parts(whole, between),
            },
        };
        let parts: Vec<Value> = parts.into_iter().map(|part| heap.make_bytes(part)).collect();
        return Ok(heap.make_list(&parts));
    }
    let text = string(Op::Split, value)?;
    let parts: Vec<Value> = match between {
        None => text.split_whitespace().map(|part| heap.make_text(part)).collect(),
        Some(between) => match string(Op::Split, between)? {
            "" => characters(heap, text),
            between => text.split(between).map(|part| heap.make_text(part)).collect(),
        },
    };
    Ok(heap.make_list(&parts))
}

/// What lies between the occurrences of something that is not empty.
fn parts<'a>(whole: &'a [u8], between: &[u8]) -> Vec<&'a [u8]> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while at + between.len() <= whole.len() {
        if whole[at..].starts_with(between) {
            parts.push(&whole[start..at]);
            at += between.len();
            start = at;
        } else {
            at += 1;
        }
    }
    parts.push(&whole[start..]);
    parts
}

/// The byte strings with another between them.
pub(super) fn join_bytes(heap: &mut Mutator, items: &[Value], between: &[u8]) -> Result<Value, Trap> {
    let items: Vec<&[u8]> = items.iter().map(|item| byte_string(Op::Join, *item)).collect::<Result<_, _>>()?;
    let length: usize = items.iter().map(|item| item.len() + between.len()).sum();
    heap.check_size(length)?;
    Ok(heap.make_bytes(&items.join(between)))
}

fn byte_string(op: Op, value: Value) -> Result<&'static [u8], Trap> {
    value.byte_string().ok_or_else(|| wrong(op.name(), "a byte string here", value))
}

pub(super) fn convert(heap: &mut Mutator, op: Op, value: Value) -> Result<Value, Trap> {
    if let Some(bytes) = value.byte_string() {
        return Ok(match op {
            Op::Upper => heap.make_bytes(&bytes.to_ascii_uppercase()),
            Op::Lower => heap.make_bytes(&bytes.to_ascii_lowercase()),
            _ => heap.make_bytes(bytes.trim_ascii()),
        });
    }
    let text = string(op, value)?;
    Ok(match op {
        Op::Upper => heap.make_text(&text.to_uppercase()),
        Op::Lower => heap.make_text(&text.to_lowercase()),
        _ => heap.make_text(text.trim()),
    })
}

pub(super) fn replace(heap: &mut Mutator, value: Value, old: Value, new: Value) -> Result<Value, Trap> {
    if let Some(whole) = value.byte_string() {
        let (old, new) = (byte_string(Op::Replace, old)?, byte_string(Op::Replace, new)?);
        if old.is_empty() {
            return Ok(value);
        }
        let parts = parts(whole, old);
        heap.check_size(whole.len() + parts.len().saturating_mul(new.len()).min(LONGEST))?;
        return Ok(heap.make_bytes(&parts.join(new)));
    }
    let (text, old, new) = (string(Op::Replace, value)?, string(Op::Replace, old)?, string(Op::Replace, new)?);
    if old.is_empty() {
        return Ok(value);
    }
    let occurrences = text.matches(old).count();
    heap.check_size((text.len() + occurrences.saturating_mul(new.len())).min(LONGEST + 1))?;
    if text.len() + occurrences.saturating_mul(new.len()) > LONGEST {
        return Err(Fault::TooLarge { what: "a string", limit: LONGEST }.into());
    }
    Ok(heap.make_text(&text.replace(old, new)))
}

pub(super) fn repeat(heap: &mut Mutator, value: Value, times: Value) -> Result<Value, Trap> {
    let unit = content(Op::Repeat, value)?;
    let times = numbers::size("a number of times", times, LONGEST / unit.len().max(1))?;
    heap.check_size(unit.len() * times)?;
    match value.text() {
        Some(text) => Ok(heap.make_text(&text.repeat(times))),
        None => Ok(heap.make_bytes(&unit.repeat(times))),
    }
}

pub(super) fn has_end(op: Op, value: Value, part: Value) -> Result<Value, Trap> {
    let (whole, part) = (content(op, value)?, content(op, part)?);
    Ok(Value::truth(if op == Op::StartsWith { whole.starts_with(part) } else { whole.ends_with(part) }))
}

pub(super) fn pad(heap: &mut Mutator, op: Op, content: &str, width: Value) -> Result<Value, Trap> {
    let width = numbers::size("a width", width, 1 << 20)?;
    let blanks = " ".repeat(width.saturating_sub(content.chars().count()));
    let (before, after) = if op == Op::PadLeft { (&*blanks, "") } else { ("", &*blanks) };
    Ok(heap.make_text(&[before, content, after].concat()))
}

/// `ord`.
pub(super) fn code(value: Value) -> Result<Value, Trap> {
    match string(Op::Ord, value)?.chars().next() {
        Some(first) => Ok(Value::small(first as i64)),
        None => {
            let value = "an empty string".to_owned();
            Err(Fault::OutOfBounds { what: "ord", value, wanted: "one with characters" }.into())
        }
    }
}

/// `chr`.
pub(super) fn character(heap: &mut Mutator, value: Value) -> Result<Value, Trap> {
    let code = numbers::integer("chr", value)?;
    let character = code.to_i64().and_then(|code| u32::try_from(code).ok()).and_then(char::from_u32);
    match character {
        Some(character) => Ok(heap.make_text(character.encode_utf8(&mut [0; 4]))),
        None => {
            Err(Fault::OutOfBounds { what: "chr", value: code.to_string(), wanted: "the code of a character" }.into())
        }
    }
}

/// One character of a string, by its place.
pub(super) fn character_at(heap: &mut Mutator, text: &str, index: Value) -> Result<Value, Trap> {
    if text.is_ascii() {
        let place = place(index, text.len())?;
        return Ok(heap.make_text(&text[place..=place]));
    }
    let place = place(index, text.chars().count())?;
    let character = text.chars().nth(place).expect("the place is in range");
    Ok(heap.make_text(character.encode_utf8(&mut [0; 4])))
}

/// All characters of a string, each a string.
pub(super) fn characters(heap: &mut Mutator, text: &str) -> Vec<Value> {
    let mut buffer = [0; 4];
    text.chars().map(|character| heap.make_text(character.encode_utf8(&mut buffer))).collect()
}
