//! Strings and counters.

use crate::call::{Call, Done, Fail, NOT_INTEGER, SYNTAX, WRONG_TYPE, error};
use crate::numbers::{float, integer, plain};
use crate::value::{Bytes, Item, Text, Value};

const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

fn check_length(call: &Call<'_, '_>, length: u64) -> Done {
    let limit = call.server.config.max_bulk.load(std::sync::atomic::Ordering::Relaxed);
    if length > limit { error(TOO_LONG) } else { Ok(()) }
}

/// Sets a key to a string.
fn store(call: &mut Call<'_, '_>, key: &[u8], value: &[u8], expires: i64) -> Done {
    call.put(key, Value::Str(Text::new(value)), expires)
}

/// Sets a key to a string that is likely to be changed in place again, as a string of its own.
fn store_raw(call: &mut Call<'_, '_>, key: &[u8], value: Vec<u8>, expires: i64) -> Done {
    call.put(key, Value::Str(Text::Long(value.into())), expires)
}

pub(crate) fn get(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    // The common case copies from the value right into the reply.
    let reply = &mut *call.reply;
    let now = call.now;
    let mut wrong = false;
    let found = call.server.dbs[call.db].with(call.tx, key, |item| {
        if item.is_over(now) {
            return false;
        }
        match &item.value {
            Value::Str(value) => reply.bulk(value),
            _ => wrong = true,
        }
        true
    })?;
    if wrong {
        return call.string(key).map(drop);
    }
    if found != Some(true) {
        call.reply.null();
        if found.is_some() {
            call.exists(key)?;
        }
    }
    Ok(())
}

/// When a key is to expire: from a number in seconds or milliseconds, from now or since 1970.
pub(crate) fn expiry(call: &Call<'_, '_>, number: i64, milliseconds: bool, absolute: bool, command: &str) -> Done<i64> {
    let invalid = || error(format!("ERR invalid expire time in '{command}' command"));
    let Some(time) = (if milliseconds { Some(number) } else { number.checked_mul(1000) }) else { return invalid() };
    match if absolute { Some(time) } else { time.checked_add(call.now) } {
        Some(time) => Ok(time),
        None => invalid(),
    }
}

/// What the options of SET and GETEX say about time: keep what is there, none, or a time.
enum Expiry {
    Unsaid,
    Keep,
    Persist,
    At(i64),
}

fn expiry_option(call: &Call<'_, '_>, at: usize, seen: &Expiry, command: &str) -> Done<Option<Expiry>> {
    let units = [("EX", false, false), ("PX", true, false), ("EXAT", false, true), ("PXAT", true, true)];
    for (word, milliseconds, absolute) in units {
        if call.is(at, word) {
            if !matches!(seen, Expiry::Unsaid) || at + 1 >= call.args.len() {
                return error(SYNTAX);
            }
            let number = call.integer(at + 1)?;
            if number <= 0 {
                return error(format!("ERR invalid expire time in '{command}' command"));
            }
            return Ok(Some(Expiry::At(expiry(call, number, milliseconds, absolute, command)?)));
        }
    }
    Ok(None)
}

pub(crate) fn set(call: &mut Call<'_, '_>) -> Done {
    let (key, value) = (call.args[1], call.args[2]);
    if call.args.len() == 3 {
        check_length(call, value.len() as u64)?;
        store(call, key, value, 0)?;
        call.notify('$', "set", key)?;
        call.reply.ok();
        return Ok(());
    }
    let (mut nx, mut xx, mut get, mut ifeq, mut time) = (false, false, false, None, Expiry::Unsaid);
    let mut at = 3;
    while at < call.args.len() {
        if let Some(expiry) = expiry_option(call, at, &time, "set")? {
            time = expiry;
            at += 1;
        } else if call.is(at, "NX") && !xx && ifeq.is_none() {
            nx = true;
        } else if call.is(at, "XX") && !nx && ifeq.is_none() {
            xx = true;
        } else if call.is(at, "IFEQ") && !nx && !xx && at + 1 < call.args.len() {
            ifeq = Some(call.args[at + 1]);
            at += 1;
        } else if call.is(at, "GET") {
            get = true;
        } else if call.is(at, "KEEPTTL") && matches!(time, Expiry::Unsaid) {
            time = Expiry::Keep;
        } else {
            return error(SYNTAX);
        }
        at += 1;
    }
    let old = if get || ifeq.is_some() { call.string(key)? } else { None };
    let there = call.with(key, |item| item.map(|item| item.expires))?;
    let equal = ifeq.is_none_or(|wanted| old.as_ref().is_some_and(|(old, _)| **old == *wanted));
    let go = !(nx && there.is_some() || xx && there.is_none()) && equal;
    if go {
        let expires = match time {
            Expiry::At(time) => time,
            Expiry::Keep => there.unwrap_or(0),
            _ => 0,
        };
        if expires != 0 && expires <= call.now {
            call.delete(key)?;
            call.log(&[b"DEL", key]);
        } else {
            store(call, key, value, expires)?;
            if let Expiry::At(_) = time {
                call.log(&[b"SET", key, value, b"PXAT", expires.to_string().as_bytes()]);
            } else if let Expiry::Keep = time {
                call.log(&[b"SET", key, value, b"KEEPTTL"]);
            } else {
                call.log(&[b"SET", key, value]);
            }
        }
        call.notify('$', "set", key)?;
        if let Expiry::At(_) = time {
            call.notify('g', "expire", key)?;
        }
    }
    match (get, go) {
        (true, _) => call.reply.bulk_or_null(old.as_ref().map(|(old, _)| &**old)),
        (false, true) => call.reply.ok(),
        (false, false) => call.reply.null(),
    }
    Ok(())
}

pub(crate) fn setnx(call: &mut Call<'_, '_>) -> Done {
    let (key, value) = (call.args[1], call.args[2]);
    let there = call.exists(key)?;
    if !there {
        store(call, key, value, 0)?;
        call.notify('$', "set", key)?;
    }
    call.reply.integer(i64::from(!there));
    Ok(())
}

fn set_for(call: &mut Call<'_, '_>, milliseconds: bool, name: &str) -> Done {
    let (key, value) = (call.args[1], call.args[3]);
    let number = call.integer(2)?;
    if number <= 0 {
        return error(format!("ERR invalid expire time in '{name}' command"));
    }
    let expires = expiry(call, number, milliseconds, false, name)?;
    store(call, key, value, expires)?;
    call.log(&[b"SET", key, value, b"PXAT", expires.to_string().as_bytes()]);
    call.notify('$', "set", key)?;
    call.notify('g', "expire", key)?;
    call.reply.ok();
    Ok(())
}

pub(crate) fn setex(call: &mut Call<'_, '_>) -> Done {
    set_for(call, false, "setex")
}

pub(crate) fn psetex(call: &mut Call<'_, '_>) -> Done {
    set_for(call, true, "psetex")
}

pub(crate) fn getset(call: &mut Call<'_, '_>) -> Done {
    let (key, value) = (call.args[1], call.args[2]);
    let old = call.string(key)?;
    store(call, key, value, 0)?;
    call.notify('$', "set", key)?;
    call.reply.bulk_or_null(old.as_ref().map(|(old, _)| &**old));
    Ok(())
}

pub(crate) fn getdel(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let old = call.string(key)?;
    if old.is_some() {
        call.delete(key)?;
        call.log(&[b"DEL", key]);
        call.notify('g', "del", key)?;
    }
    call.reply.bulk_or_null(old.as_ref().map(|(old, _)| &**old));
    Ok(())
}

pub(crate) fn getex(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let mut time = Expiry::Unsaid;
    let mut at = 2;
    while at < call.args.len() {
        if let Some(expiry) = expiry_option(call, at, &time, "getex")? {
            time = expiry;
            at += 2;
        } else if call.is(at, "PERSIST") && matches!(time, Expiry::Unsaid) {
            time = Expiry::Persist;
            at += 1;
        } else {
            return error(SYNTAX);
        }
    }
    let Some((value, expires)) = call.string(key)? else {
        call.reply.null();
        return Ok(());
    };
    match time {
        Expiry::At(time) if time <= call.now => {
            call.delete(key)?;
            call.log(&[b"DEL", key]);
            call.notify('g', "del", key)?;
        }
        Expiry::At(time) => {
            call.put(key, Value::Str(value.clone()), time)?;
            call.log(&[b"PEXPIREAT", key, time.to_string().as_bytes()]);
            call.notify('g', "expire", key)?;
        }
        Expiry::Persist if expires != 0 => {
            call.put(key, Value::Str(value.clone()), 0)?;
            call.log(&[b"PERSIST", key]);
            call.notify('g', "persist", key)?;
        }
        _ => {}
    }
    call.reply.bulk(&value);
    Ok(())
}

pub(crate) fn mget(call: &mut Call<'_, '_>) -> Done {
    call.reply.array(call.args.len() - 1);
    for &key in &call.args[1..] {
        match call.get(key)? {
            Some(Item { value: Value::Str(value), .. }) => call.reply.bulk(&value),
            _ => call.reply.null(),
        }
    }
    Ok(())
}

pub(crate) fn mset(call: &mut Call<'_, '_>) -> Done {
    if call.args.len().is_multiple_of(2) {
        return error("ERR wrong number of arguments for 'mset' command");
    }
    for pair in call.args[1..].chunks_exact(2) {
        store(call, pair[0], pair[1], 0)?;
        call.notify('$', "set", pair[0])?;
    }
    call.reply.ok();
    Ok(())
}

pub(crate) fn msetnx(call: &mut Call<'_, '_>) -> Done {
    if call.args.len().is_multiple_of(2) {
        return error("ERR wrong number of arguments for 'msetnx' command");
    }
    for pair in call.args[1..].chunks_exact(2) {
        if call.exists(pair[0])? {
            call.reply.integer(0);
            return Ok(());
        }
    }
    for pair in call.args[1..].chunks_exact(2) {
        store(call, pair[0], pair[1], 0)?;
        call.notify('$', "set", pair[0])?;
    }
    call.reply.integer(1);
    Ok(())
}

pub(crate) fn append(call: &mut Call<'_, '_>) -> Done {
    let (key, more) = (call.args[1], call.args[2]);
    let (old, expires) = call.string(key)?.unwrap_or_default();
    check_length(call, old.len() as u64 + more.len() as u64)?;
    let value = [&*old, more].concat();
    let length = value.len();
    store_raw(call, key, value, expires)?;
    call.notify('$', "append", key)?;
    call.reply.integer(length as i64);
    Ok(())
}

pub(crate) fn strlen(call: &mut Call<'_, '_>) -> Done {
    let value = call.string(call.args[1])?;
    call.reply.integer(value.map_or(0, |(value, _)| value.len() as i64));
    Ok(())
}

fn add(call: &mut Call<'_, '_>, increment: i64) -> Done {
    let key = call.args[1];
    let number = call.alter(key, |item| {
        let old = match item.map(|item| &item.value) {
            None => 0,
            Some(Value::Str(Text::Int { number, .. })) => *number,
            Some(Value::Str(text)) => integer(text).ok_or(Fail::Error(NOT_INTEGER.into()))?,
            Some(_) => return error(WRONG_TYPE),
        };
        let Some(new) = old.checked_add(increment) else {
            return error("ERR increment or decrement would overflow");
        };
        Ok((Some(Value::Str(Text::from_integer(new))), new))
    })?;
    call.notify('$', "incrby", key)?;
    call.reply.integer(number);
    Ok(())
}

pub(crate) fn incr(call: &mut Call<'_, '_>) -> Done {
    add(call, 1)
}

pub(crate) fn decr(call: &mut Call<'_, '_>) -> Done {
    add(call, -1)
}

pub(crate) fn incrby(call: &mut Call<'_, '_>) -> Done {
    let increment = call.integer(2)?;
    add(call, increment)
}

pub(crate) fn decrby(call: &mut Call<'_, '_>) -> Done {
    match call.integer(2)?.checked_neg() {
        Some(increment) => add(call, increment),
        None => error("ERR decrement would overflow"),
    }
}

pub(crate) fn incrbyfloat(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let (old, expires) = match call.string(key)? {
        Some((value, expires)) => (float(&value), expires),
        None => (Some(0.0), 0),
    };
    let (Some(old), increment) = (old, call.float(2)?) else { return error(crate::call::NOT_FLOAT) };
    let new = old + increment;
    if !new.is_finite() {
        return error("ERR increment would produce NaN or Infinity");
    }
    let text = plain(new);
    store(call, key, text.as_bytes(), expires)?;
    call.log(&[b"SET", key, text.as_bytes(), b"KEEPTTL"]);
    call.notify('$', "incrbyfloat", key)?;
    call.reply.text(&text);
    Ok(())
}

/// The part of something of `length` that two signed positions, both included, mean.
pub(crate) fn span(start: i64, end: i64, length: usize) -> std::ops::Range<usize> {
    let length = length as i64;
    let place = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    let (start, end) = (place(start).max(0), place(end).min(length - 1));
    if start > end || start >= length { 0..0 } else { start as usize..end as usize + 1 }
}

pub(crate) fn getrange(call: &mut Call<'_, '_>) -> Done {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let value = call.string(call.args[1])?.map_or_else(Text::default, |(value, _)| value);
    // Unlike in lists, an end before the beginning means the first byte.
    let (start, end) = if start < 0 && end < 0 && start > end {
        (1, 0)
    } else {
        let length = value.len() as i64;
        let place = |at: i64| if at < 0 { (at.saturating_add(length)).max(0) } else { at };
        (place(start), place(end))
    };
    call.reply.bulk(&value[span(start, end, value.len())]);
    Ok(())
}

pub(crate) fn setrange(call: &mut Call<'_, '_>) -> Done {
    let (key, part) = (call.args[1], call.args[3]);
    let offset = call.integer(2)?;
    if offset < 0 {
        return error("ERR offset is out of range");
    }
    let old = call.string(key)?;
    let (old, expires) = old.unwrap_or_default();
    if part.is_empty() {
        call.reply.integer(old.len() as i64);
        return Ok(());
    }
    check_length(call, (offset as u64).saturating_add(part.len() as u64))?;
    let end = offset as usize + part.len();
    let mut value = old.to_vec();
    value.resize(value.len().max(end), 0);
    value[offset as usize..end].copy_from_slice(part);
    let length = value.len();
    store_raw(call, key, value, expires)?;
    call.notify('$', "setrange", key)?;
    call.reply.integer(length as i64);
    Ok(())
}

fn bit_offset(call: &Call<'_, '_>) -> Done<usize> {
    let limit = (call.server.config.max_bulk.load(std::sync::atomic::Ordering::Relaxed) as i64).saturating_mul(8);
    match integer(call.arg(2)) {
        Some(offset) if offset >= 0 && offset < limit => Ok(offset as usize),
        _ => error("ERR bit offset is not an integer or out of range"),
    }
}

pub(crate) fn setbit(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let offset = bit_offset(call)?;
    let bit = match call.arg(3) {
        b"0" => 0,
        b"1" => 1,
        _ => return error("ERR bit is not an integer or out of range"),
    };
    let (old, expires) = call.string(key)?.unwrap_or_default();
    let mut value = old.to_vec();
    let (byte, shift) = (offset / 8, 7 - offset % 8);
    value.resize(value.len().max(byte + 1), 0);
    let before = value[byte] >> shift & 1;
    value[byte] = value[byte] & !(1 << shift) | bit << shift;
    store_raw(call, key, value, expires)?;
    call.notify('$', "setbit", key)?;
    call.reply.integer(i64::from(before));
    Ok(())
}

pub(crate) fn getbit(call: &mut Call<'_, '_>) -> Done {
    let offset = bit_offset(call)?;
    let value = call.string(call.args[1])?;
    let byte = value.as_ref().and_then(|(value, _)| value.get(offset / 8)).copied().unwrap_or(0);
    call.reply.integer(i64::from(byte >> (7 - offset % 8) & 1));
    Ok(())
}

pub(crate) fn bitcount(call: &mut Call<'_, '_>) -> Done {
    let value = call.string(call.args[1])?.map_or_else(Text::default, |(value, _)| value);
    let bits = match call.args.len() {
        2 => {
            call.reply.integer(value.iter().map(|byte| i64::from(byte.count_ones())).sum());
            return Ok(());
        }
        4 => false,
        5 if call.is(4, "BYTE") => false,
        5 if call.is(4, "BIT") => true,
        _ => return error(SYNTAX),
    };
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let count: i64 = if bits {
        span(start, end, value.len() * 8).map(|bit| i64::from(value[bit / 8] >> (7 - bit % 8) & 1)).sum()
    } else {
        value[span(start, end, value.len())].iter().map(|byte| i64::from(byte.count_ones())).sum()
    };
    call.reply.integer(count);
    Ok(())
}

/// The longest common subsequence of two strings, by dynamic programming.
pub(crate) fn lcs(call: &mut Call<'_, '_>) -> Done {
    let (mut indices, mut length, mut with_length, mut least) = (false, false, false, 0);
    let mut at = 3;
    while at < call.args.len() {
        if call.is(at, "IDX") {
            indices = true;
        } else if call.is(at, "LEN") {
            length = true;
        } else if call.is(at, "WITHMATCHLEN") {
            with_length = true;
        } else if call.is(at, "MINMATCHLEN") && at + 1 < call.args.len() {
            least = call.integer(at + 1)?.max(0);
            at += 1;
        } else {
            return error(SYNTAX);
        }
        at += 1;
    }
    if indices && length {
        return error("ERR If you want both the length and indexes, please just use IDX.");
    }
    let mut load = |at: usize| -> Done<Bytes> {
        match call.get(call.args[at])? {
            None => Ok(Vec::new().into()),
            Some(Item { value: Value::Str(value), .. }) => Ok(value.to_bytes()),
            Some(_) => error("ERR The specified keys must contain string values"),
        }
    };
    let (a, b) = (load(1)?, load(2)?);
    let width = b.len() + 1;
    let Some(cells) = (a.len() + 1).checked_mul(width).filter(|cells| *cells < 1 << 28) else {
        return error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
    };
    let mut longest = vec![0_u32; cells];
    for i in 1..=a.len() {
        for j in 1..width {
            longest[i * width + j] = if a[i - 1] == b[j - 1] {
                longest[(i - 1) * width + j - 1] + 1
            } else {
                longest[(i - 1) * width + j].max(longest[i * width + j - 1])
            };
        }
    }
    let total = longest[cells - 1];
    if length {
        call.reply.integer(i64::from(total));
        return Ok(());
    }
    // From the end: the matches, as ranges that are extended backwards as long as both sides are adjacent.
    let mut common = Vec::with_capacity(total as usize);
    let mut ranges: Vec<(usize, usize, usize)> = Vec::new();
    let (mut i, mut j) = (a.len(), b.len());
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            common.push(a[i - 1]);
            (i, j) = (i - 1, j - 1);
            match ranges.last_mut() {
                Some((from_a, from_b, count)) if *from_a == i + 1 && *from_b == j + 1 => {
                    (*from_a, *from_b, *count) = (i, j, *count + 1);
                }
                _ => ranges.push((i, j, 1)),
            }
        } else if longest[(i - 1) * width + j] > longest[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    if !indices {
        common.reverse();
        call.reply.bulk(&common);
        return Ok(());
    }
    ranges.retain(|(_, _, count)| *count as i64 >= least);
    call.reply.map(2);
    call.reply.text("matches");
    call.reply.array(ranges.len());
    for (from_a, from_b, count) in ranges {
        call.reply.array(2 + usize::from(with_length));
        for from in [from_a, from_b] {
            call.reply.array(2);
            call.reply.integer(from as i64);
            call.reply.integer((from + count - 1) as i64);
        }
        if with_length {
            call.reply.integer(count as i64);
        }
    }
    call.reply.text("len");
    call.reply.integer(i64::from(total));
    Ok(())
}
