//! Sets.

use crate::call::{Call, Done, SYNTAX, error};
use crate::several::{INTERSECTION, Operation, UNION, counted_keys, reply_count};
use crate::value::{Bytes, Set, Value};

fn load(call: &mut Call<'_, '_>) -> Done<Set> {
    load_key(call, call.args[1])
}

fn load_key(call: &mut Call<'_, '_>, key: &[u8]) -> Done<Set> {
    Ok(call.set(key)?.map_or_else(Set::default, |(set, _)| set))
}

pub(crate) fn sadd(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let (mut set, expires) = call.set(key)?.unwrap_or_default();
    let new = call.args[2..].iter().filter(|member| set.insert(member, ())).count();
    if new > 0 {
        call.store_set(key, set, expires)?;
        call.notify('s', "sadd", key)?;
    }
    call.reply.integer(new as i64);
    Ok(())
}

pub(crate) fn srem(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let (mut set, expires) = call.set(key)?.unwrap_or_default();
    let removed = call.args[2..].iter().filter(|member| set.remove(member).is_some()).count();
    if removed > 0 {
        call.notify('s', "srem", key)?;
        call.store_set(key, set, expires)?;
    }
    call.reply.integer(removed as i64);
    Ok(())
}

pub(crate) fn smove(call: &mut Call<'_, '_>) -> Done {
    let (from, to, member) = (call.args[1], call.args[2], call.args[3]);
    let source = call.set(from)?;
    let target = call.set(to)?;
    let Some((mut source, expires)) = source.filter(|(source, _)| source.contains(member)) else {
        call.reply.integer(0);
        return Ok(());
    };
    if from != to {
        source.remove(member);
        call.notify('s', "srem", from)?;
        call.store_set(from, source, expires)?;
        let (mut target, expires) = target.unwrap_or_default();
        if target.insert(member, ()) {
            call.store_set(to, target, expires)?;
            call.notify('s', "sadd", to)?;
        }
    }
    call.reply.integer(1);
    Ok(())
}

pub(crate) fn sismember(call: &mut Call<'_, '_>) -> Done {
    let set = load(call)?;
    call.reply.integer(i64::from(set.contains(call.args[2])));
    Ok(())
}

pub(crate) fn smismember(call: &mut Call<'_, '_>) -> Done {
    let set = load(call)?;
    call.reply.array(call.args.len() - 2);
    for &member in &call.args[2..] {
        call.reply.integer(i64::from(set.contains(member)));
    }
    Ok(())
}

pub(crate) fn scard(call: &mut Call<'_, '_>) -> Done {
    let set = load(call)?;
    call.reply.integer(set.len() as i64);
    Ok(())
}

pub(crate) fn smembers(call: &mut Call<'_, '_>) -> Done {
    let set = load(call)?;
    reply_set(call, &set);
    Ok(())
}

fn reply_set(call: &mut Call<'_, '_>, set: &Set) {
    call.reply.set(set.len());
    set.keys().for_each(|member| call.reply.bulk(member));
}

pub(crate) fn spop(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let count = match call.args.len() {
        2 => None,
        3 => match call.integer(2) {
            Ok(count @ 0..) => Some(count as usize),
            _ => return error("ERR value is out of range, must be positive"),
        },
        _ => return error(SYNTAX),
    };
    let (mut set, expires) = call.set(key)?.unwrap_or_default();
    let mut popped: Vec<Bytes> = Vec::new();
    if count.is_some_and(|count| count >= set.len()) {
        popped.extend(set.keys().cloned());
        set = Set::default();
    } else {
        for _ in 0..count.unwrap_or(1).min(set.len()) {
            let member = set.at(crate::random(set.len())).0.clone();
            set.remove(&member);
            popped.push(member);
        }
    }
    if !popped.is_empty() {
        let mut words: Vec<&[u8]> = vec![b"SREM", key];
        words.extend(popped.iter().map(|member| &**member));
        call.log(&words);
        call.notify('s', "spop", key)?;
        call.store_set(key, set, expires)?;
    }
    match count {
        None => call.reply.bulk_or_null(popped.first().map(|member| &**member)),
        Some(_) => {
            call.reply.set(popped.len());
            popped.iter().for_each(|member| call.reply.bulk(member));
        }
    }
    Ok(())
}

pub(crate) fn srandmember(call: &mut Call<'_, '_>) -> Done {
    match call.args.len() {
        2 => {
            let set = load(call)?;
            match set.len() {
                0 => call.reply.null(),
                n => call.reply.bulk(set.at(crate::random(n)).0),
            }
        }
        3 => {
            let count = call.integer(2)?;
            if count.unsigned_abs() > i64::MAX as u64 / 2 {
                return error("ERR value is out of range");
            }
            let set = load(call)?;
            let chosen = crate::choose(set.len(), count);
            call.reply.array(chosen.len());
            chosen.into_iter().for_each(|number| call.reply.bulk(set.at(number).0));
        }
        _ => return error(SYNTAX),
    }
    Ok(())
}

fn combine(call: &mut Call<'_, '_>, keys: &[&[u8]], operation: Operation) -> Done<Set> {
    let mut sets = Vec::new();
    for key in keys {
        sets.push(load_key(call, key)?);
    }
    if operation == INTERSECTION {
        sets.sort_by_key(|set| set.len());
    }
    let (first, others) = (&sets[0], &sets[1..]);
    if operation == UNION {
        let mut result = first.clone();
        others.iter().flat_map(|set| set.keys()).for_each(|member| _ = result.insert(member, ()));
        return Ok(result);
    }
    let stays = |member: &Bytes| match operation {
        INTERSECTION => others.iter().all(|set| set.contains(member)),
        _ => !others.iter().any(|set| set.contains(member)),
    };
    let mut result = Set::default();
    first.keys().filter(|member| stays(member)).for_each(|member| _ = result.insert(member, ()));
    Ok(result)
}

/// SUNION, SINTER, SDIFF.
pub(crate) fn combined<const OPERATION: Operation>(call: &mut Call<'_, '_>) -> Done {
    let result = combine(call, &call.args[1..], OPERATION)?;
    reply_set(call, &result);
    Ok(())
}

/// SUNIONSTORE, SINTERSTORE, SDIFFSTORE.
pub(crate) fn stored<const OPERATION: Operation>(call: &mut Call<'_, '_>) -> Done {
    let result = combine(call, &call.args[2..], OPERATION)?;
    let (key, count) = (call.args[1], result.len());
    if count > 0 {
        call.put(key, Value::Set(result), 0)?;
        let name = call.name();
        call.notify('s', &name, key)?;
    } else if call.delete(key)? {
        call.notify('g', "del", key)?;
    }
    call.reply.integer(count as i64);
    Ok(())
}

pub(crate) fn sintercard(call: &mut Call<'_, '_>) -> Done {
    let (keys, at) = counted_keys(call, 1)?;
    reply_count(call, at, |call| Ok(combine(call, keys, INTERSECTION)?.len()))
}
