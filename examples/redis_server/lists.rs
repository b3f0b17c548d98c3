//! Lists, and the commands that wait for one to have something.

use crate::call::{Call, Done, Fail, SYNTAX, error};
use crate::several::pops;
use crate::strings::span;
use crate::value::{Bytes, List};

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
}

impl Side {
    fn of(call: &Call<'_, '_>, at: usize) -> Done<Side> {
        if call.is(at, "LEFT") {
            Ok(Side::Left)
        } else if call.is(at, "RIGHT") {
            Ok(Side::Right)
        } else {
            error(SYNTAX)
        }
    }

    fn push(self, list: &mut List, value: Bytes) {
        match self {
            Side::Left => list.push_front(value),
            Side::Right => list.push_back(value),
        }
    }

    fn pop(self, list: &mut List) -> Option<Bytes> {
        match self {
            Side::Left => list.pop_front(),
            Side::Right => list.pop_back(),
        }
    }

    fn event(self, left: &'static str, right: &'static str) -> &'static str {
        if self == Side::Left { left } else { right }
    }
}

fn load(call: &mut Call<'_, '_>) -> Done<List> {
    Ok(call.list(call.args[1])?.map_or_else(List::default, |(list, _)| list))
}

fn push(call: &mut Call<'_, '_>, side: Side, only_if_there: bool) -> Done {
    let key = call.args[1];
    let found = call.list(key)?;
    if only_if_there && found.is_none() {
        call.reply.integer(0);
        return Ok(());
    }
    let (mut list, expires) = found.unwrap_or_default();
    call.args[2..].iter().for_each(|value| side.push(&mut list, (*value).into()));
    let length = list.len();
    call.store_list(key, list, expires)?;
    call.notify('l', side.event("lpush", "rpush"), key)?;
    call.reply.integer(length as i64);
    Ok(())
}

pub(crate) fn lpush(call: &mut Call<'_, '_>) -> Done {
    push(call, Side::Left, false)
}

pub(crate) fn rpush(call: &mut Call<'_, '_>) -> Done {
    push(call, Side::Right, false)
}

pub(crate) fn lpushx(call: &mut Call<'_, '_>) -> Done {
    push(call, Side::Left, true)
}

pub(crate) fn rpushx(call: &mut Call<'_, '_>) -> Done {
    push(call, Side::Right, true)
}

/// Takes up to `count` values off a list.
fn take(call: &mut Call<'_, '_>, key: &[u8], side: Side, count: usize) -> Done<Vec<Bytes>> {
    let Some((mut list, expires)) = call.list(key)? else { return Ok(Vec::new()) };
    let mut taken = Vec::new();
    while taken.len() < count
        && let Some(value) = side.pop(&mut list)
    {
        taken.push(value);
    }
    if !taken.is_empty() {
        call.notify('l', side.event("lpop", "rpop"), key)?;
        call.store_list(key, list, expires)?;
        let name: &[u8] = if side == Side::Left { b"LPOP" } else { b"RPOP" };
        call.log(&[name, key, taken.len().to_string().as_bytes()]);
    }
    Ok(taken)
}

fn pop(call: &mut Call<'_, '_>, side: Side, name: &str) -> Done {
    let key = call.args[1];
    let count = match call.args.len() {
        2 => None,
        3 => match call.integer(2) {
            Ok(count @ 0..) => Some(count as usize),
            _ => return error("ERR value is out of range, must be positive"),
        },
        _ => return error(format!("ERR wrong number of arguments for '{name}' command")),
    };
    let there = call.list(key)?.is_some();
    let taken = take(call, key, side, count.unwrap_or(1))?;
    match count {
        None => call.reply.bulk_or_null(taken.first().map(|value| &**value)),
        Some(_) if !there => call.reply.null_array(),
        Some(_) => {
            call.reply.array(taken.len());
            taken.iter().for_each(|value| call.reply.bulk(value));
        }
    }
    Ok(())
}

pub(crate) fn lpop(call: &mut Call<'_, '_>) -> Done {
    pop(call, Side::Left, "lpop")
}

pub(crate) fn rpop(call: &mut Call<'_, '_>) -> Done {
    pop(call, Side::Right, "rpop")
}

pub(crate) fn llen(call: &mut Call<'_, '_>) -> Done {
    let list = load(call)?;
    call.reply.integer(list.len() as i64);
    Ok(())
}

pub(crate) fn lrange(call: &mut Call<'_, '_>) -> Done {
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let list = load(call)?;
    let range = span(start, end, list.len());
    call.reply.array(range.len());
    // An iterator of the tree finds its place once for each chunk.
    let mut focus = list.focus();
    range.for_each(|at| {
        if let Some(value) = focus.get(at) {
            call.reply.bulk(value);
        }
    });
    Ok(())
}

pub(crate) fn lindex(call: &mut Call<'_, '_>) -> Done {
    let at = call.integer(2)?;
    let list = load(call)?;
    let at = if at < 0 { at + list.len() as i64 } else { at };
    let value = usize::try_from(at).ok().and_then(|at| list.get(at));
    call.reply.bulk_or_null(value.map(|value| &**value));
    Ok(())
}

pub(crate) fn lset(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let Some((mut list, expires)) = call.list(key)? else { return error("ERR no such key") };
    let at = call.integer(2)?;
    let at = if at < 0 { at + list.len() as i64 } else { at };
    if !(0..list.len() as i64).contains(&at) {
        return error("ERR index out of range");
    }
    list.set(at as usize, call.args[3].into());
    call.store_list(key, list, expires)?;
    call.notify('l', "lset", key)?;
    call.reply.ok();
    Ok(())
}

pub(crate) fn ltrim(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    if let Some((mut list, expires)) = call.list(key)? {
        let range = span(start, end, list.len());
        let kept = list.slice(range).into();
        call.notify('l', "ltrim", key)?;
        call.store_list(key, kept, expires)?;
    }
    call.reply.ok();
    Ok(())
}

pub(crate) fn lrem(call: &mut Call<'_, '_>) -> Done {
    let (key, value) = (call.args[1], call.args[3]);
    let count = call.integer(2)?;
    let Some((list, expires)) = call.list(key)? else {
        call.reply.integer(0);
        return Ok(());
    };
    let limit = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let mut removed = 0;
    let mut keep = |own: &Bytes| {
        let goes = removed < limit && **own == *value;
        removed += usize::from(goes);
        !goes
    };
    let kept: List = if count < 0 {
        let kept: Vec<Bytes> = list.iter().rev().filter(|own| keep(own)).cloned().collect();
        kept.into_iter().rev().collect()
    } else {
        list.iter().filter(|own| keep(own)).cloned().collect()
    };
    if removed > 0 {
        call.notify('l', "lrem", key)?;
        call.store_list(key, kept, expires)?;
    }
    call.reply.integer(removed as i64);
    Ok(())
}

pub(crate) fn linsert(call: &mut Call<'_, '_>) -> Done {
    let after = if call.is(2, "AFTER") {
        1
    } else if call.is(2, "BEFORE") {
        0
    } else {
        return error(SYNTAX);
    };
    let key = call.args[1];
    let Some((mut list, expires)) = call.list(key)? else {
        call.reply.integer(0);
        return Ok(());
    };
    let pivot = call.args[3];
    let Some(at) = list.iter().position(|value| **value == *pivot) else {
        call.reply.integer(-1);
        return Ok(());
    };
    list.insert(at + after, call.args[4].into());
    let length = list.len();
    call.store_list(key, list, expires)?;
    call.notify('l', "linsert", key)?;
    call.reply.integer(length as i64);
    Ok(())
}

pub(crate) fn lpos(call: &mut Call<'_, '_>) -> Done {
    let (mut rank, mut count, mut limit) = (1, None, 0);
    let mut at = 3;
    while at < call.args.len() {
        if at + 1 >= call.args.len() {
            return error(SYNTAX);
        }
        if call.is(at, "RANK") {
            rank = call.integer(at + 1)?;
            if rank == 0 {
                return error(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                );
            }
            if rank == i64::MIN {
                return error(
                    "ERR value is out of range, must be between -9223372036854775807 and 9223372036854775807",
                );
            }
        } else if call.is(at, "COUNT") {
            count = match call.integer(at + 1) {
                Ok(count @ 0..) => Some(count as usize),
                _ => return error("ERR COUNT can't be negative"),
            };
        } else if call.is(at, "MAXLEN") {
            limit = match call.integer(at + 1) {
                Ok(limit @ 0..) => limit as usize,
                _ => return error("ERR MAXLEN can't be negative"),
            };
        } else {
            return error(SYNTAX);
        }
        at += 2;
    }
    let list = load(call)?;
    let value = call.args[2];
    let limit = if limit == 0 { usize::MAX } else { limit };
    let wanted = match count {
        None => 1,
        Some(0) => usize::MAX,
        Some(count) => count,
    };
    let skip = rank.unsigned_abs() as usize - 1;
    let found: Vec<usize> = if rank > 0 {
        let all = list.iter().enumerate().take(limit);
        all.filter(|(_, own)| ***own == *value).map(|(at, _)| at).skip(skip).take(wanted).collect()
    } else {
        let last = list.len().wrapping_sub(1);
        let all = list.iter().rev().enumerate().take(limit);
        all.filter(|(_, own)| ***own == *value).map(|(at, _)| last - at).skip(skip).take(wanted).collect()
    };
    if count.is_some() {
        call.reply.array(found.len());
        found.into_iter().for_each(|at| call.reply.integer(at as i64));
    } else {
        match found.first() {
            Some(at) => call.reply.integer(*at as i64),
            None => call.reply.null(),
        }
    }
    Ok(())
}

/// Moves a value from the end of one list to that of another. None if there is none.
fn shift(call: &mut Call<'_, '_>, from: Side, to: Side) -> Done<Option<Bytes>> {
    let (source, target) = (call.args[1], call.args[2]);
    let Some((mut list, expires)) = call.list(source)? else { return Ok(None) };
    if source != target {
        // What is wrong with the target no waiting puts right.
        call.list(target).map_err(Fail::spoken)?;
    }
    let Some(value) = from.pop(&mut list) else { return Ok(None) };
    call.notify('l', from.event("lpop", "rpop"), source)?;
    if source == target {
        to.push(&mut list, value.clone());
        call.store_list(source, list, expires)?;
    } else {
        call.store_list(source, list, expires)?;
        let (mut list, expires) = call.list(target)?.unwrap_or_default();
        to.push(&mut list, value.clone());
        call.store_list(target, list, expires)?;
    }
    call.notify('l', to.event("lpush", "rpush"), target)?;
    let word = |side| if side == Side::Left { b"LEFT".as_slice() } else { b"RIGHT" };
    call.log(&[b"LMOVE", source, target, word(from), word(to)]);
    Ok(Some(value))
}

pub(crate) fn lmove(call: &mut Call<'_, '_>) -> Done {
    let (from, to) = (Side::of(call, 3)?, Side::of(call, 4)?);
    let value = shift(call, from, to)?;
    call.reply.bulk_or_null(value.as_deref());
    Ok(())
}

pub(crate) fn rpoplpush(call: &mut Call<'_, '_>) -> Done {
    let value = shift(call, Side::Right, Side::Left)?;
    call.reply.bulk_or_null(value.as_deref());
    Ok(())
}

/// Checks the timeout of a blocking command.
pub(crate) fn check_timeout(call: &Call<'_, '_>, at: usize) -> Done {
    match crate::numbers::float(call.arg(at)) {
        None => error("ERR timeout is not a float or out of range"),
        Some(timeout) if timeout < 0.0 => error("ERR timeout is negative"),
        Some(timeout) if timeout > 9e15 / 1000.0 => error("ERR timeout is out of range"),
        Some(_) => Ok(()),
    }
}

pub(crate) fn blmove(call: &mut Call<'_, '_>) -> Done {
    let (from, to) = (Side::of(call, 3)?, Side::of(call, 4)?);
    check_timeout(call, 5)?;
    match shift(call, from, to)? {
        Some(value) => {
            call.reply.bulk(&value);
            Ok(())
        }
        None => Err(Fail::Block),
    }
}

pub(crate) fn brpoplpush(call: &mut Call<'_, '_>) -> Done {
    check_timeout(call, 3)?;
    match shift(call, Side::Right, Side::Left)? {
        Some(value) => {
            call.reply.bulk(&value);
            Ok(())
        }
        None => Err(Fail::Block),
    }
}

fn blocking_pop(call: &mut Call<'_, '_>, side: Side) -> Done {
    let last = call.args.len() - 1;
    check_timeout(call, last)?;
    for &key in &call.args[1..last] {
        if let [value] = take(call, key, side, 1)?.as_slice() {
            call.reply.array(2);
            call.reply.bulk(key);
            call.reply.bulk(value);
            return Ok(());
        }
    }
    Err(Fail::Block)
}

pub(crate) fn blpop(call: &mut Call<'_, '_>) -> Done {
    blocking_pop(call, Side::Left)
}

pub(crate) fn brpop(call: &mut Call<'_, '_>) -> Done {
    blocking_pop(call, Side::Right)
}

/// LMPOP and BLMPOP: true if a list had something.
fn pop_several(call: &mut Call<'_, '_>, at: usize) -> Done<bool> {
    let pops = pops(call, at, ["LEFT", "RIGHT"])?;
    let side = if pops.second { Side::Right } else { Side::Left };
    for key in pops.keys {
        let taken = take(call, key, side, pops.count)?;
        if !taken.is_empty() {
            call.reply.array(2);
            call.reply.bulk(key);
            call.reply.array(taken.len());
            taken.iter().for_each(|value| call.reply.bulk(value));
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) fn lmpop(call: &mut Call<'_, '_>) -> Done {
    if !pop_several(call, 1)? {
        call.reply.null_array();
    }
    Ok(())
}

pub(crate) fn blmpop(call: &mut Call<'_, '_>) -> Done {
    check_timeout(call, 1)?;
    if pop_several(call, 2)? { Ok(()) } else { Err(Fail::Block) }
}
