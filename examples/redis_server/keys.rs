//! Commands on keys of any type.

use crate::call::{Call, Done, SYNTAX, error};
use crate::glob::matches;
use crate::server::DATABASES;
use crate::strings::expiry;
use crate::value::{Bytes, Key, Table, Text, Value};

pub(crate) fn del(call: &mut Call<'_, '_>) -> Done {
    let mut count = 0;
    for &key in &call.args[1..] {
        if call.delete(key)? {
            count += 1;
            call.notify('g', "del", key)?;
        }
    }
    call.reply.integer(count);
    Ok(())
}

pub(crate) fn exists(call: &mut Call<'_, '_>) -> Done {
    let mut count = 0;
    for key in &call.args[1..] {
        count += i64::from(call.exists(key)?);
    }
    call.reply.integer(count);
    Ok(())
}

pub(crate) fn kind(call: &mut Call<'_, '_>) -> Done {
    let kind = call.with(call.args[1], |item| item.map_or("none", |item| item.value.kind()))?;
    call.reply.simple(kind);
    Ok(())
}

pub(crate) fn rename(call: &mut Call<'_, '_>) -> Done {
    move_key(call, true)
}

pub(crate) fn renamenx(call: &mut Call<'_, '_>) -> Done {
    move_key(call, false)
}

fn move_key(call: &mut Call<'_, '_>, replaces: bool) -> Done {
    let (from, to) = (call.args[1], call.args[2]);
    let Some(item) = call.get(from)? else { return error("ERR no such key") };
    let taken = call.exists(to)?;
    if !replaces && taken {
        call.reply.integer(0);
        return Ok(());
    }
    if from != to {
        call.delete(from)?;
        call.put(to, item.value, item.expires)?;
        call.notify('g', "rename_from", from)?;
        call.notify('g', "rename_to", to)?;
    }
    if replaces {
        call.reply.ok()
    } else {
        call.reply.integer(1)
    }
    Ok(())
}

fn database(text: &[u8]) -> Option<usize> {
    crate::numbers::integer(text).and_then(|db| usize::try_from(db).ok()).filter(|db| *db < DATABASES)
}

pub(crate) fn copy(call: &mut Call<'_, '_>) -> Done {
    let (from, to) = (call.args[1], call.args[2]);
    let (mut target, mut replace) = (call.db, false);
    let mut at = 3;
    while at < call.args.len() {
        if call.is(at, "REPLACE") {
            replace = true;
        } else if call.is(at, "DB") && at + 1 < call.args.len() {
            call.integer(at + 1)?;
            let Some(db) = database(call.arg(at + 1)) else { return error("ERR DB index is out of range") };
            target = call.server.database(call.tx, db)?;
            at += 1;
        } else {
            return error(SYNTAX);
        }
        at += 1;
    }
    if from == to && target == call.db {
        return error("ERR source and destination objects are the same");
    }
    let found = call.get(from)?;
    let source = std::mem::replace(&mut call.db, target);
    let done: Done<bool> = (|| {
        let Some(item) = found else { return Ok(false) };
        if call.exists(to)? && !replace {
            return Ok(false);
        }
        call.put(to, item.value, item.expires)?;
        call.notify('g', "copy_to", to)?;
        Ok(true)
    })();
    call.db = source;
    call.reply.integer(i64::from(done?));
    Ok(())
}

/// MOVE: to another database.
pub(crate) fn move_to(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let Some(db) = database(call.arg(2)) else {
        call.integer(2)?;
        return error("ERR DB index is out of range");
    };
    let target = call.server.database(call.tx, db)?;
    if target == call.db {
        return error("ERR source and destination objects are the same");
    }
    let found = call.get(key)?;
    let source = std::mem::replace(&mut call.db, target);
    let taken = call.exists(key);
    call.db = source;
    let Some(item) = found.filter(|_| !matches!(taken, Ok(true))) else {
        taken?;
        call.reply.integer(0);
        return Ok(());
    };
    call.delete(key)?;
    call.notify('g', "move_from", key)?;
    call.db = target;
    let done = call.put(key, item.value, item.expires);
    let told = call.notify('g', "move_to", key);
    call.db = source;
    done?;
    told?;
    call.reply.integer(1);
    Ok(())
}

pub(crate) fn swapdb(call: &mut Call<'_, '_>) -> Done {
    let (Some(a), Some(b)) = (database(call.arg(1)), database(call.arg(2))) else {
        for (at, which) in [(1, "first"), (2, "second")] {
            if crate::numbers::integer(call.arg(at)).is_none() {
                return error(format!("ERR invalid {which} DB index"));
            }
        }
        return error("ERR DB index is out of range");
    };
    call.server.swap(call.tx, a, b)?;
    crate::waiting::look_again(call.tx, call.server, &[a, b], call.effects)?;
    call.effects.dirty += 1;
    call.reply.ok();
    Ok(())
}

pub(crate) fn dbsize(call: &mut Call<'_, '_>) -> Done {
    let size = call.server.dbs[call.db].len(call.tx)?;
    call.reply.integer(size as i64);
    Ok(())
}

pub(crate) fn keys(call: &mut Call<'_, '_>) -> Done {
    let pattern = call.args[1];
    let now = call.now;
    let mut found: Vec<Key> = Vec::new();
    let mut cursor = 0;
    loop {
        cursor = call.server.dbs[call.db].scan(call.tx, cursor, usize::MAX, |key, item| {
            if (item.expires == 0 || item.expires > now) && matches(pattern, key) {
                found.push(key.clone());
            }
        })?;
        if cursor == 0 {
            break;
        }
    }
    call.reply.array(found.len());
    found.iter().for_each(|key| call.reply.bulk(key));
    Ok(())
}

pub(crate) fn randomkey(call: &mut Call<'_, '_>) -> Done {
    let now = call.now;
    let mut cursor = crate::random(usize::MAX) as u64;
    // From somewhere to the end, and if there is nothing, from the beginning.
    for _ in 0..2 {
        loop {
            let mut found: Vec<Key> = Vec::new();
            cursor = call.server.dbs[call.db].scan(call.tx, cursor, 1, |key, item| {
                if item.expires == 0 || item.expires > now {
                    found.push(key.clone());
                }
            })?;
            if !found.is_empty() {
                call.reply.bulk(&found[crate::random(found.len())]);
                return Ok(());
            }
            if cursor == 0 {
                break;
            }
        }
    }
    call.reply.null();
    Ok(())
}

fn clear(call: &mut Call<'_, '_>, db: usize) -> Done {
    call.server.clear(call.tx, db)?;
    call.effects.dirty += 1;
    Ok(())
}

fn check_flush(call: &Call<'_, '_>) -> Done {
    match call.args.len() {
        1 => Ok(()),
        2 if call.is(1, "SYNC") || call.is(1, "ASYNC") => Ok(()),
        _ => error(SYNTAX),
    }
}

pub(crate) fn flushdb(call: &mut Call<'_, '_>) -> Done {
    check_flush(call)?;
    clear(call, call.db)?;
    call.reply.ok();
    Ok(())
}

pub(crate) fn flushall(call: &mut Call<'_, '_>) -> Done {
    check_flush(call)?;
    for number in 0..DATABASES {
        let db = call.server.database(call.tx, number)?;
        clear(call, db)?;
    }
    call.reply.ok();
    Ok(())
}

fn expire_with(call: &mut Call<'_, '_>, milliseconds: bool, absolute: bool, name: &str) -> Done {
    let key = call.args[1];
    let number = call.integer(2)?;
    let expires = expiry(call, number, milliseconds, absolute, name)?;
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for at in 3..call.args.len() {
        match () {
            () if call.is(at, "NX") => nx = true,
            () if call.is(at, "XX") => xx = true,
            () if call.is(at, "GT") => gt = true,
            () if call.is(at, "LT") => lt = true,
            () => {
                let option = String::from_utf8_lossy(call.arg(at)).into_owned();
                return error(format!("ERR Unsupported option {option}"));
            }
        }
    }
    if nx && (xx || gt || lt) {
        return error("ERR NX and XX, GT or LT options at the same time are not compatible");
    }
    if gt && lt {
        return error("ERR GT and LT options at the same time are not compatible");
    }
    let Some(item) = call.get(key)? else {
        call.reply.integer(0);
        return Ok(());
    };
    let old = item.expires;
    // A key that does not expire counts as one that does so later than all others.
    let refused =
        nx && old != 0 || xx && old == 0 || gt && (old == 0 || expires <= old) || lt && old != 0 && expires >= old;
    if refused {
        call.reply.integer(0);
        return Ok(());
    }
    if expires <= call.now {
        call.delete(key)?;
        call.log(&[b"DEL", key]);
        call.notify('g', "del", key)?;
    } else {
        call.put(key, item.value, expires)?;
        call.log(&[b"PEXPIREAT", key, expires.to_string().as_bytes()]);
        call.notify('g', "expire", key)?;
    }
    call.reply.integer(1);
    Ok(())
}

pub(crate) fn expire(call: &mut Call<'_, '_>) -> Done {
    expire_with(call, false, false, "expire")
}

pub(crate) fn pexpire(call: &mut Call<'_, '_>) -> Done {
    expire_with(call, true, false, "pexpire")
}

pub(crate) fn expireat(call: &mut Call<'_, '_>) -> Done {
    expire_with(call, false, true, "expireat")
}

pub(crate) fn pexpireat(call: &mut Call<'_, '_>) -> Done {
    expire_with(call, true, true, "pexpireat")
}

pub(crate) fn persist(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let item = call.get(key)?.filter(|item| item.expires != 0);
    call.reply.integer(i64::from(item.is_some()));
    if let Some(item) = item {
        call.put(key, item.value, 0)?;
        call.notify('g', "persist", key)?;
    }
    Ok(())
}

fn time_left(call: &mut Call<'_, '_>, answer: impl Fn(i64, i64) -> i64) -> Done {
    let now = call.now;
    let expires = call.with(call.args[1], |item| item.map(|item| item.expires))?;
    call.reply.integer(match expires {
        None => -2,
        Some(0) => -1,
        Some(expires) => answer(expires, now),
    });
    Ok(())
}

pub(crate) fn ttl(call: &mut Call<'_, '_>) -> Done {
    time_left(call, |expires, now| (expires - now + 500) / 1000)
}

pub(crate) fn pttl(call: &mut Call<'_, '_>) -> Done {
    time_left(call, |expires, now| expires - now)
}

pub(crate) fn expiretime(call: &mut Call<'_, '_>) -> Done {
    time_left(call, |expires, _| (expires + 500) / 1000)
}

pub(crate) fn pexpiretime(call: &mut Call<'_, '_>) -> Done {
    time_left(call, |expires, _| expires)
}

/// The cursor and options of the SCAN family.
struct Scan<'a> {
    cursor: u64,
    pattern: Option<&'a [u8]>,
    kind: Option<String>,
    count: usize,
    no_values: bool,
}

fn scan_options<'a>(call: &Call<'a, '_>, at: usize, keys: bool) -> Done<Scan<'a>> {
    let cursor = std::str::from_utf8(call.arg(at)).ok().and_then(|text| text.parse().ok());
    let Some(cursor) = cursor else { return error("ERR invalid cursor") };
    let mut scan = Scan { cursor, pattern: None, kind: None, count: 10, no_values: false };
    let mut at = at + 1;
    while at < call.args.len() {
        let more = at + 1 < call.args.len();
        if call.is(at, "MATCH") && more {
            scan.pattern = Some(call.args[at + 1]);
        } else if call.is(at, "COUNT") && more {
            match call.integer(at + 1)? {
                count @ 1.. => scan.count = count as usize,
                _ => return error(SYNTAX),
            }
        } else if keys && call.is(at, "TYPE") && more {
            let kind = String::from_utf8_lossy(call.arg(at + 1)).to_ascii_lowercase();
            if !["string", "list", "set", "zset", "hash", "stream"].contains(&kind.as_str()) {
                return error("ERR unknown type name");
            }
            scan.kind = Some(kind);
        } else if !keys && call.is(at, "NOVALUES") {
            scan.no_values = true;
            at += 1;
            continue;
        } else {
            return error(SYNTAX);
        }
        at += 2;
    }
    Ok(scan)
}

pub(crate) fn scan(call: &mut Call<'_, '_>) -> Done {
    let options = scan_options(call, 1, true)?;
    let now = call.now;
    let mut found: Vec<Key> = Vec::new();
    let cursor = call.server.dbs[call.db].scan(call.tx, options.cursor, options.count, |key, item| {
        let fits = options.pattern.is_none_or(|pattern| matches(pattern, key));
        let is_kind = options.kind.as_deref().is_none_or(|kind| item.value.kind() == kind);
        if fits && is_kind && (item.expires == 0 || item.expires > now) {
            found.push(key.clone());
        }
    })?;
    call.reply.array(2);
    call.reply.text(&cursor.to_string());
    call.reply.array(found.len());
    found.iter().for_each(|key| call.reply.bulk(key));
    Ok(())
}

/// Scans a table from its end: what is removed meanwhile makes the last entry move to a lower number, where it is met again rather than
/// missed. The cursor is how many are left.
fn scan_table<V: Clone>(
    call: &mut Call<'_, '_>,
    table: &Table<V>,
    options: &Scan<'_>,
    value: impl Fn(&V) -> Option<Vec<u8>>,
) -> Done {
    let end = match options.cursor {
        0 => table.len(),
        left => table.len().min(left as usize),
    };
    // A small one is answered whole.
    let start = if table.len() <= 128 { 0 } else { end.saturating_sub(options.count) };
    let mut words: Vec<Vec<u8>> = Vec::new();
    for number in (start..end).rev() {
        let (key, own) = table.at(number);
        if options.pattern.is_none_or(|pattern| matches(pattern, key)) {
            words.push(key.to_vec());
            if !options.no_values {
                words.extend(value(own));
            }
        }
    }
    call.reply.array(2);
    call.reply.text(&start.to_string());
    call.reply.array(words.len());
    words.iter().for_each(|word| call.reply.bulk(word));
    Ok(())
}

pub(crate) fn hscan(call: &mut Call<'_, '_>) -> Done {
    let options = scan_options(call, 2, false)?;
    let hash = call.hash(call.args[1])?.unwrap_or_default().0;
    scan_table(call, &hash, &options, |value| Some(value.to_vec()))
}

pub(crate) fn sscan(call: &mut Call<'_, '_>) -> Done {
    let options = scan_options(call, 2, false)?;
    let set = call.set(call.args[1])?.unwrap_or_default().0;
    scan_table(call, &set, &options, |()| None)
}

pub(crate) fn zscan(call: &mut Call<'_, '_>) -> Done {
    let options = scan_options(call, 2, false)?;
    let zset = call.zset(call.args[1])?.unwrap_or_default().0;
    scan_table(call, &zset.members, &options, |score| Some(crate::numbers::double(*score).into_bytes()))
}

/// SORT: by the elements, by other keys, or not at all.
pub(crate) fn sort(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let read_only = call.is(0, "SORT_RO");
    let (mut by, mut target, mut gets, mut descending, mut alpha, mut limit) =
        (None, None, Vec::new(), false, false, None);
    let mut at = 2;
    while at < call.args.len() {
        let more = call.args.len() - at - 1;
        if call.is(at, "ASC") {
            descending = false;
        } else if call.is(at, "DESC") {
            descending = true;
        } else if call.is(at, "ALPHA") {
            alpha = true;
        } else if call.is(at, "LIMIT") && more >= 2 {
            limit = Some((call.integer(at + 1)?, call.integer(at + 2)?));
            at += 2;
        } else if call.is(at, "STORE") && more >= 1 && !read_only {
            target = Some(call.args[at + 1]);
            at += 1;
        } else if call.is(at, "BY") && more >= 1 {
            by = Some(call.args[at + 1]);
            at += 1;
        } else if call.is(at, "GET") && more >= 1 {
            gets.push(call.args[at + 1]);
            at += 1;
        } else {
            return error(SYNTAX);
        }
        at += 1;
    }
    let item = call.get(key)?;
    let mut elements: Vec<&Bytes> = match item.as_ref().map(|item| &item.value) {
        None => Vec::new(),
        Some(Value::List(list)) => list.iter().collect(),
        Some(Value::Set(set)) => set.keys().collect(),
        Some(Value::ZSet(zset)) => zset.order.from(0).map(|(_, member)| member).collect(),
        Some(_) => return error(crate::call::WRONG_TYPE),
    };
    let sorts = by.is_none_or(|pattern| pattern.contains(&b'*'));
    if sorts && by.is_none() && !alpha {
        elements = by_number(elements, descending)?;
    } else if sorts {
        let mut keyed = Vec::with_capacity(elements.len());
        for element in elements {
            let weight = match by {
                Some(pattern) => look_up(call, pattern, element)?,
                None => Some(element.clone()),
            };
            let number = if alpha {
                0.0
            } else {
                match weight.as_ref().map_or(Some(0.0), |weight| crate::numbers::float(weight)) {
                    Some(number) => number,
                    None => return error(NO_SCORES),
                }
            };
            keyed.push((number, weight, element));
        }
        keyed.sort_unstable_by(|a, b| {
            let order = if alpha { a.1.cmp(&b.1) } else { a.0.total_cmp(&b.0) };
            // Equal weights are ordered by the elements themselves, so that the result is always the same.
            let order = order.then_with(|| a.2.cmp(b.2));
            if descending { order.reverse() } else { order }
        });
        elements = keyed.into_iter().map(|(_, _, element)| element).collect();
    } else if descending {
        elements.reverse();
    }
    if let Some((skip, count)) = limit {
        let skip = skip.max(0) as usize;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        elements = elements.into_iter().skip(skip).take(count).collect();
    }
    if gets.is_empty() && target.is_none() {
        call.reply.array(elements.len());
        elements.iter().for_each(|element| call.reply.bulk(element));
        return Ok(());
    }
    let mut results: Vec<Option<Bytes>> = Vec::new();
    for element in elements {
        if gets.is_empty() {
            results.push(Some(element.clone()));
        } else {
            for pattern in &gets {
                results.push(if *pattern == b"#" { Some(element.clone()) } else { look_up(call, pattern, element)? });
            }
        }
    }
    match target {
        None => {
            call.reply.array(results.len());
            results.iter().for_each(|value| call.reply.bulk_or_null(value.as_deref()));
        }
        Some(target) => {
            let count = results.len();
            if count == 0 {
                if call.delete(target)? {
                    call.notify('g', "del", target)?;
                }
            } else {
                let list = results.into_iter().map(|value| value.unwrap_or_else(|| Vec::new().into())).collect();
                call.put(target, Value::List(list), 0)?;
                call.notify('l', "sortstore", target)?;
            }
            call.reply.integer(count as i64);
        }
    }
    Ok(())
}

const NO_SCORES: &str = "ERR One or more scores can't be converted into double";

/// Sorts elements as the numbers that they are; equal numbers as text.
fn by_number(elements: Vec<&Bytes>, descending: bool) -> Done<Vec<&Bytes>> {
    let mut keyed = Vec::with_capacity(elements.len());
    for element in elements {
        let Some(number) = crate::numbers::float(element) else { return error(NO_SCORES) };
        // The bits of a number, so arranged that integers compare as the numbers do.
        let bits = number.to_bits() as i64;
        keyed.push((bits ^ (((bits >> 63) as u64) >> 1) as i64, element));
    }
    keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)));
    if descending {
        keyed.reverse();
    }
    Ok(keyed.into_iter().map(|(_, element)| element).collect())
}

/// The string, or with `->` the hash field, that a pattern means for an element.
fn look_up(call: &mut Call<'_, '_>, pattern: &[u8], element: &[u8]) -> Done<Option<Bytes>> {
    let Some(star) = pattern.iter().position(|byte| *byte == b'*') else { return Ok(None) };
    let (before, after) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = after.windows(2).position(|two| two == b"->").filter(|at| at + 2 < after.len());
    let (rest, field) = match arrow {
        Some(at) => (&after[..at], Some(&after[at + 2..])),
        None => (after, None),
    };
    let key = [before, element, rest].concat();
    Ok(match (call.get(&key)?.map(|item| item.value), field) {
        (Some(Value::Str(value)), None) => Some(value.to_bytes()),
        (Some(Value::Hash(hash)), Some(field)) => hash.get(field).cloned(),
        _ => None,
    })
}

/// A value as bytes: a letter for its type, its parts as a command has its words, and a checksum.
pub(crate) fn dump(call: &mut Call<'_, '_>) -> Done {
    let Some(item) = call.get(call.args[1])? else {
        call.reply.null();
        return Ok(());
    };
    let (letter, parts): (u8, Vec<Bytes>) = match &item.value {
        Value::Str(value) => (b's', vec![value.to_bytes()]),
        Value::List(list) => (b'l', list.iter().cloned().collect()),
        Value::Hash(hash) => (b'h', hash.iter().flat_map(|(field, value)| [field.clone(), value.clone()]).collect()),
        Value::Set(set) => (b't', set.keys().cloned().collect()),
        Value::ZSet(zset) => {
            let score = |score: f64| Bytes::from(crate::numbers::double(score).into_bytes());
            (b'z', zset.members.iter().flat_map(|(member, own)| [member.clone(), score(*own)]).collect())
        }
    };
    let mut bytes = vec![letter];
    crate::call::append_command(&mut bytes, &parts.iter().map(|part| &**part).collect::<Vec<_>>());
    bytes.extend(checksum(&bytes).to_le_bytes());
    call.reply.bulk(&bytes);
    Ok(())
}

/// FNV-1a (Fowler, Noll and Vo).
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

fn undump(bytes: &[u8]) -> Option<Value> {
    let (body, sum) = bytes.split_last_chunk::<8>()?;
    if checksum(body) != u64::from_le_bytes(*sum) {
        return None;
    }
    let (letter, rest) = body.split_first()?;
    let mut splitter = crate::codec::Splitter::default();
    splitter.split(rest, crate::codec::MAX_BULK).ok()?;
    let parts = splitter.arguments(rest);
    Some(match letter {
        b's' => Value::Str(Text::new(parts.first()?)),
        b'l' => Value::List(parts.iter().map(|part| Bytes::from(*part)).collect()),
        b't' => {
            let mut set = crate::value::Set::default();
            parts.iter().for_each(|part| _ = set.insert(part, ()));
            Value::Set(set)
        }
        b'h' => {
            let mut hash = crate::value::Fields::default();
            parts.chunks_exact(2).for_each(|pair| _ = hash.insert(pair[0], pair[1].into()));
            Value::Hash(hash)
        }
        b'z' => {
            let mut zset = crate::value::ZSet::default();
            for pair in parts.chunks_exact(2) {
                zset.insert(pair[0], crate::numbers::float(pair[1])?);
            }
            Value::ZSet(zset)
        }
        _ => return None,
    })
}

pub(crate) fn restore(call: &mut Call<'_, '_>) -> Done {
    let (key, payload) = (call.args[1], call.args[3]);
    let time = call.integer(2)?;
    if time < 0 {
        return error("ERR Invalid TTL value, must be >= 0");
    }
    let (mut replace, mut absolute) = (false, false);
    let mut at = 4;
    while at < call.args.len() {
        if call.is(at, "REPLACE") {
            replace = true;
        } else if call.is(at, "ABSTTL") {
            absolute = true;
        } else if (call.is(at, "IDLETIME") || call.is(at, "FREQ")) && at + 1 < call.args.len() {
            at += 1;
        } else {
            return error(SYNTAX);
        }
        at += 1;
    }
    if call.exists(key)? && !replace {
        return error("BUSYKEY Target key name already exists.");
    }
    let Some(value) = undump(payload) else { return error("ERR DUMP payload version or checksum are wrong") };
    let expires = if time == 0 { 0 } else { expiry(call, time, true, absolute, "restore")? };
    if expires != 0 && expires <= call.now {
        call.delete(key)?;
        call.log(&[b"DEL", key]);
    } else {
        call.put(key, value, expires)?;
        call.log(&[b"RESTORE", key, expires.to_string().as_bytes(), payload, b"REPLACE", b"ABSTTL"]);
        call.notify('g', "restore", key)?;
    }
    call.reply.ok();
    Ok(())
}
