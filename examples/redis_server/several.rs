//! What commands on several keys have in common: how many there are, the operations on sets, what is popped from the first that has something.

use crate::call::{Call, Done, Fail, SYNTAX, error};

/// An operation on sets, as a parameter of functions in the table of commands.
pub(crate) type Operation = u8;
pub(crate) const UNION: Operation = 0;
pub(crate) const INTERSECTION: Operation = 1;
pub(crate) const DIFFERENCE: Operation = 2;

/// The keys that follow their number, and where what comes after them begins.
pub(crate) fn counted_keys<'a>(call: &Call<'a, '_>, at: usize) -> Done<(&'a [&'a [u8]], usize)> {
    let Ok(count @ 1..) = call.integer(at) else { return error("ERR numkeys should be greater than 0") };
    let end = at + 1 + count as usize;
    if count as usize > call.args.len() || end > call.args.len() {
        return error("ERR Number of keys can't be greater than number of args");
    }
    Ok((&call.args[at + 1..end], end))
}

/// Replies with how many there are, of which no more than what LIMIT says at `at` are counted.
pub(crate) fn reply_count(
    call: &mut Call<'_, '_>,
    mut at: usize,
    count: impl FnOnce(&mut Call<'_, '_>) -> Done<usize>,
) -> Done {
    let mut limit = 0;
    while at < call.args.len() {
        if !call.is(at, "LIMIT") || at + 1 >= call.args.len() {
            return error(SYNTAX);
        }
        limit = match call.integer(at + 1) {
            Ok(limit @ 0..) => limit,
            _ => return error("ERR LIMIT can't be negative"),
        };
        at += 2;
    }
    let count = count(call)? as i64;
    call.reply.integer(if limit > 0 { count.min(limit) } else { count });
    Ok(())
}

/// The arguments of the commands that pop from the first key that has something.
pub(crate) struct Pops<'a> {
    pub(crate) keys: &'a [&'a [u8]],
    /// Whether it is the second of the two words that was given.
    pub(crate) second: bool,
    pub(crate) count: usize,
}

/// Keys with their number, one of two words that say from which end, and perhaps COUNT.
pub(crate) fn pops<'a>(call: &Call<'a, '_>, at: usize, ends: [&str; 2]) -> Done<Pops<'a>> {
    let (keys, mut at) = counted_keys(call, at).or_else(|fail| match fail {
        Fail::Error(text) if text.contains("Number of keys") => error(SYNTAX),
        other => Err(other),
    })?;
    let second = call.is(at, ends[1]);
    if !second && !call.is(at, ends[0]) {
        return error(SYNTAX);
    }
    at += 1;
    let mut count = 1;
    if at < call.args.len() {
        if !call.is(at, "COUNT") || at + 2 != call.args.len() {
            return error(SYNTAX);
        }
        count = match call.integer(at + 1) {
            Ok(count @ 1..) => count as usize,
            _ => return error("ERR count should be greater than 0"),
        };
    }
    Ok(Pops { keys, second, count })
}
