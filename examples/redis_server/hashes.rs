//! Hashes.

use crate::call::{Call, Done, NOT_INTEGER, SYNTAX, error};
use crate::numbers::{float, integer, plain};
use crate::value::Fields;

fn load(call: &mut Call<'_, '_>) -> Done<Fields> {
    Ok(call.hash(call.args[1])?.map_or_else(Fields::default, |(hash, _)| hash))
}

fn set_fields(call: &mut Call<'_, '_>, name: &str) -> Done<usize> {
    if call.args.len() % 2 == 1 {
        return error(format!("ERR wrong number of arguments for '{name}' command"));
    }
    let key = call.args[1];
    let (mut hash, expires) = call.hash(key)?.unwrap_or_default();
    let pairs = call.args[2..].chunks_exact(2);
    let new = pairs.filter(|pair| hash.insert(pair[0], pair[1].into())).count();
    call.store_hash(key, hash, expires)?;
    call.notify('h', "hset", key)?;
    Ok(new)
}

pub(crate) fn hset(call: &mut Call<'_, '_>) -> Done {
    let new = set_fields(call, "hset")?;
    call.reply.integer(new as i64);
    Ok(())
}

pub(crate) fn hmset(call: &mut Call<'_, '_>) -> Done {
    set_fields(call, "hmset")?;
    call.reply.ok();
    Ok(())
}

pub(crate) fn hsetnx(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let (mut hash, expires) = call.hash(key)?.unwrap_or_default();
    let there = hash.contains(call.arg(2));
    if !there {
        hash.insert(call.arg(2), call.arg(3).into());
        call.store_hash(key, hash, expires)?;
        call.notify('h', "hset", key)?;
    }
    call.reply.integer(i64::from(!there));
    Ok(())
}

pub(crate) fn hget(call: &mut Call<'_, '_>) -> Done {
    let hash = load(call)?;
    call.reply.bulk_or_null(hash.get(call.args[2]).map(|value| &**value));
    Ok(())
}

pub(crate) fn hmget(call: &mut Call<'_, '_>) -> Done {
    let hash = load(call)?;
    call.reply.array(call.args.len() - 2);
    for &field in &call.args[2..] {
        call.reply.bulk_or_null(hash.get(field).map(|value| &**value));
    }
    Ok(())
}

pub(crate) fn hdel(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let (mut hash, expires) = call.hash(key)?.unwrap_or_default();
    let removed = call.args[2..].iter().filter(|field| hash.remove(field).is_some()).count();
    if removed > 0 {
        call.notify('h', "hdel", key)?;
        call.store_hash(key, hash, expires)?;
    }
    call.reply.integer(removed as i64);
    Ok(())
}

pub(crate) fn hlen(call: &mut Call<'_, '_>) -> Done {
    let hash = load(call)?;
    call.reply.integer(hash.len() as i64);
    Ok(())
}

pub(crate) fn hexists(call: &mut Call<'_, '_>) -> Done {
    let hash = load(call)?;
    call.reply.integer(i64::from(hash.contains(call.args[2])));
    Ok(())
}

pub(crate) fn hstrlen(call: &mut Call<'_, '_>) -> Done {
    let hash = load(call)?;
    call.reply.integer(hash.get(call.args[2]).map_or(0, |value| value.len() as i64));
    Ok(())
}

pub(crate) fn hgetall(call: &mut Call<'_, '_>) -> Done {
    let hash = load(call)?;
    call.reply.map(hash.len());
    for (field, value) in hash.iter() {
        call.reply.bulk(field);
        call.reply.bulk(value);
    }
    Ok(())
}

pub(crate) fn hkeys(call: &mut Call<'_, '_>) -> Done {
    let hash = load(call)?;
    call.reply.array(hash.len());
    hash.keys().for_each(|field| call.reply.bulk(field));
    Ok(())
}

pub(crate) fn hvals(call: &mut Call<'_, '_>) -> Done {
    let hash = load(call)?;
    call.reply.array(hash.len());
    hash.iter().for_each(|(_, value)| call.reply.bulk(value));
    Ok(())
}

pub(crate) fn hincrby(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let increment = call.integer(3).or_else(|_| error(NOT_INTEGER))?;
    let (mut hash, expires) = call.hash(key)?.unwrap_or_default();
    let old = match hash.get(call.arg(2)) {
        None => 0,
        Some(value) => match integer(value) {
            Some(old) => old,
            None => return error("ERR hash value is not an integer"),
        },
    };
    let Some(new) = old.checked_add(increment) else { return error("ERR increment or decrement would overflow") };
    hash.insert(call.arg(2), new.to_string().into_bytes().into());
    call.store_hash(key, hash, expires)?;
    call.notify('h', "hincrby", key)?;
    call.reply.integer(new);
    Ok(())
}

pub(crate) fn hincrbyfloat(call: &mut Call<'_, '_>) -> Done {
    let (key, field) = (call.args[1], call.args[2]);
    let increment = call.float(3)?;
    if !increment.is_finite() {
        return error("ERR value is NaN or Infinity");
    }
    let (mut hash, expires) = call.hash(key)?.unwrap_or_default();
    let old = match hash.get(field) {
        None => 0.0,
        Some(value) => match float(value) {
            Some(old) => old,
            None => return error("ERR hash value is not a float"),
        },
    };
    let new = old + increment;
    if !new.is_finite() {
        return error("ERR increment would produce NaN or Infinity");
    }
    let text = plain(new);
    hash.insert(field, text.as_bytes().into());
    call.store_hash(key, hash, expires)?;
    call.log(&[b"HSET", key, field, text.as_bytes()]);
    call.notify('h', "hincrbyfloat", key)?;
    call.reply.text(&text);
    Ok(())
}

pub(crate) fn hrandfield(call: &mut Call<'_, '_>) -> Done {
    let with_values = call.args.len() == 4 && call.is(3, "WITHVALUES");
    if call.args.len() > 4 || call.args.len() == 4 && !with_values {
        return error(SYNTAX);
    }
    if call.args.len() == 2 {
        let hash = load(call)?;
        match hash.len() {
            0 => call.reply.null(),
            n => call.reply.bulk(hash.at(crate::random(n)).0),
        }
        return Ok(());
    }
    let count = call.integer(2)?;
    if count.unsigned_abs() > i64::MAX as u64 / 2 {
        return error("ERR value is out of range");
    }
    let hash = load(call)?;
    let chosen = crate::choose(hash.len(), count);
    let nested = with_values && call.reply.resp3;
    call.reply.array(if with_values && !nested { 2 * chosen.len() } else { chosen.len() });
    for number in chosen {
        let (field, value) = hash.at(number);
        if nested {
            call.reply.array(2);
        }
        call.reply.bulk(field);
        if with_values {
            call.reply.bulk(value);
        }
    }
    Ok(())
}
