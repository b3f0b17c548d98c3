//! Sorted sets.

use std::ops::{Bound, Range};

use crate::call::{Call, Done, Fail, NOT_FLOAT, SYNTAX, error};
use crate::numbers::{double, float};
use crate::several::{DIFFERENCE, INTERSECTION, Operation, UNION, counted_keys, pops, reply_count};
use crate::strings::span;
use crate::value::{Bytes, Item, Value, ZSet};

fn load(call: &mut Call<'_, '_>, key: &[u8]) -> Done<ZSet> {
    Ok(call.zset(key)?.map_or_else(ZSet::default, |(zset, _)| zset))
}

/// Members with their scores, in some order.
type Ranked = Vec<(Bytes, f64)>;

/// Writes members, and their scores if wanted.
fn reply_ranked(call: &mut Call<'_, '_>, ranked: &[(Bytes, f64)], with_scores: bool) {
    let nested = with_scores && call.reply.resp3;
    call.reply.array(if with_scores && !nested { 2 * ranked.len() } else { ranked.len() });
    for (member, score) in ranked {
        if nested {
            call.reply.array(2);
        }
        call.reply.bulk(member);
        if with_scores {
            call.reply.double(*score);
        }
    }
}

pub(crate) fn zadd(call: &mut Call<'_, '_>) -> Done {
    let (mut nx, mut xx, mut gt, mut lt, mut ch, mut incr) = (false, false, false, false, false, false);
    let mut at = 2;
    while at < call.args.len() {
        match () {
            () if call.is(at, "NX") => nx = true,
            () if call.is(at, "XX") => xx = true,
            () if call.is(at, "GT") => gt = true,
            () if call.is(at, "LT") => lt = true,
            () if call.is(at, "CH") => ch = true,
            () if call.is(at, "INCR") => incr = true,
            () => break,
        }
        at += 1;
    }
    let pairs = &call.args[at..];
    if pairs.is_empty() || pairs.len() % 2 == 1 {
        return error(SYNTAX);
    }
    if nx && xx {
        return error("ERR XX and NX options at the same time are not compatible");
    }
    if [gt, lt, nx].iter().filter(|given| **given).count() > 1 {
        return error("ERR GT, LT, and/or NX options at the same time are not compatible");
    }
    if incr && pairs.len() > 2 {
        return error("ERR INCR option supports a single increment-element pair");
    }
    let scores: Option<Vec<f64>> = pairs.chunks_exact(2).map(|pair| float(pair[0])).collect();
    let Some(scores) = scores else { return error(NOT_FLOAT) };
    add(call, &scores, pairs, [nx, xx, gt, lt, ch, incr])
}

pub(crate) fn zincrby(call: &mut Call<'_, '_>) -> Done {
    let increment = call.float(2)?;
    let pair = [call.args[2], call.args[3]];
    add(call, &[increment], &pair, [false, false, false, false, false, true])
}

fn add(call: &mut Call<'_, '_>, scores: &[f64], pairs: &[&[u8]], options: [bool; 6]) -> Done {
    let [nx, xx, gt, lt, ch, incr] = options;
    let key = call.args[1];
    let (mut zset, expires) = call.zset(key)?.unwrap_or_default();
    let (mut added, mut changed, mut last) = (0, 0, None);
    for (pair, &score) in pairs.chunks_exact(2).zip(scores) {
        let member = pair[1];
        let old = zset.members.get(member).copied();
        let score = match old {
            Some(old) if incr => {
                let sum = old + score;
                if sum.is_nan() {
                    return error("ERR resulting score is not a number (NaN)");
                }
                sum
            }
            _ => score,
        };
        let refused = match old {
            Some(old) => nx || gt && score <= old || lt && score >= old,
            None => xx,
        };
        if refused {
            continue;
        }
        last = Some(score);
        if old != Some(score) {
            zset.insert(member, score);
            if old.is_none() { added += 1 } else { changed += 1 }
        }
    }
    if added + changed > 0 {
        call.store_zset(key, zset, expires)?;
        if incr && let Some(score) = last {
            call.log(&[b"ZADD", key, double(score).as_bytes(), pairs[1]]);
        }
        call.notify('z', if incr { "zincr" } else { "zadd" }, key)?;
    }
    match (incr, last) {
        (true, Some(score)) => call.reply.double(score),
        (true, None) => call.reply.null(),
        (false, _) => call.reply.integer(if ch { added + changed } else { added }),
    }
    Ok(())
}

pub(crate) fn zrem(call: &mut Call<'_, '_>) -> Done {
    let key = call.args[1];
    let (mut zset, expires) = call.zset(key)?.unwrap_or_default();
    let removed = call.args[2..].iter().filter(|member| zset.remove(member).is_some()).count();
    if removed > 0 {
        call.notify('z', "zrem", key)?;
        call.store_zset(key, zset, expires)?;
    }
    call.reply.integer(removed as i64);
    Ok(())
}

pub(crate) fn zcard(call: &mut Call<'_, '_>) -> Done {
    let zset = load(call, call.args[1])?;
    call.reply.integer(zset.len() as i64);
    Ok(())
}

pub(crate) fn zscore(call: &mut Call<'_, '_>) -> Done {
    let zset = load(call, call.args[1])?;
    match zset.members.get(call.args[2]) {
        Some(score) => call.reply.double(*score),
        None => call.reply.null(),
    }
    Ok(())
}

pub(crate) fn zmscore(call: &mut Call<'_, '_>) -> Done {
    let zset = load(call, call.args[1])?;
    call.reply.array(call.args.len() - 2);
    for &member in &call.args[2..] {
        match zset.members.get(member) {
            Some(score) => call.reply.double(*score),
            None => call.reply.null(),
        }
    }
    Ok(())
}

fn rank(call: &mut Call<'_, '_>, reverse: bool) -> Done {
    let with_score = call.args.len() == 4 && call.is(3, "WITHSCORE");
    if call.args.len() > 4 || call.args.len() == 4 && !with_score {
        return error(SYNTAX);
    }
    let zset = load(call, call.args[1])?;
    let Some(&score) = zset.members.get(call.args[2]) else {
        if with_score {
            call.reply.null_array()
        } else {
            call.reply.null()
        }
        return Ok(());
    };
    let below = zset.rank(score, call.args[2]);
    if with_score {
        call.reply.array(2);
    }
    call.reply.integer(if reverse { zset.len() - 1 - below } else { below } as i64);
    if with_score {
        call.reply.double(score);
    }
    Ok(())
}

pub(crate) fn zrank(call: &mut Call<'_, '_>) -> Done {
    rank(call, false)
}

pub(crate) fn zrevrank(call: &mut Call<'_, '_>) -> Done {
    rank(call, true)
}

/// A part of a sorted set.
enum Part {
    Index(i64, i64),
    Score(Bound<f64>, Bound<f64>),
    Lex(Bound<Bytes>, Bound<Bytes>),
}

fn score_bound(text: &[u8]) -> Done<Bound<f64>> {
    let (open, digits) = text.strip_prefix(b"(").map_or((false, text), |rest| (true, rest));
    match float(digits) {
        Some(score) if open => Ok(Bound::Excluded(score)),
        Some(score) => Ok(Bound::Included(score)),
        None => error("ERR min or max is not a float"),
    }
}

/// A bound of names. That below the lowest is the empty name; that above the highest is none, and `empty` says which side it is on.
fn lex_bound(text: &[u8], lower: bool) -> Done<Option<Bound<Bytes>>> {
    match text.split_first() {
        Some((b'[', name)) => Ok(Some(Bound::Included(name.into()))),
        Some((b'(', name)) => Ok(Some(Bound::Excluded(name.into()))),
        Some((b'-', [])) => Ok(lower.then_some(Bound::Unbounded)),
        Some((b'+', [])) => Ok((!lower).then_some(Bound::Unbounded)),
        _ => error("ERR min or max not valid string range item"),
    }
}

fn lex_part(min: &[u8], max: &[u8]) -> Done<Part> {
    // A range from above everything, or to below everything, is empty.
    Ok(match (lex_bound(min, true)?, lex_bound(max, false)?) {
        (Some(min), Some(max)) => Part::Lex(min, max),
        _ => Part::Index(1, 0),
    })
}

/// The ranks of a part.
fn ranks(zset: &ZSet, part: &Part) -> Range<usize> {
    let below_score = |bound: Bound<f64>, lower: bool| match bound {
        Bound::Included(score) if lower => zset.count_while(|(own, _)| own.0 < score),
        Bound::Excluded(score) if !lower => zset.count_while(|(own, _)| own.0 < score),
        Bound::Included(score) | Bound::Excluded(score) => zset.count_while(|(own, _)| own.0 <= score),
        Bound::Unbounded => {
            if lower {
                0
            } else {
                zset.len()
            }
        }
    };
    let below_name = |bound: &Bound<Bytes>, lower: bool| match bound {
        Bound::Included(name) if lower => zset.count_while(|(_, own)| own < name),
        Bound::Excluded(name) if !lower => zset.count_while(|(_, own)| own < name),
        Bound::Included(name) | Bound::Excluded(name) => zset.count_while(|(_, own)| own <= name),
        Bound::Unbounded => {
            if lower {
                0
            } else {
                zset.len()
            }
        }
    };
    let (start, end) = match part {
        Part::Index(start, end) => return span(*start, *end, zset.len()),
        Part::Score(min, max) => (below_score(*min, true), below_score(*max, false)),
        // As with Redis, this is meant for members that all have the same score.
        Part::Lex(min, max) => (below_name(min, true), below_name(max, false)),
    };
    start..end.max(start)
}

/// The members of a part, in order or backwards, from the `skip`th on, at most `limit`.
fn select(zset: &ZSet, part: &Part, reverse: bool, skip: usize, limit: usize) -> Ranked {
    let mut ranks = ranks(zset, part);
    // Positions are counted from the side at which the answer begins.
    if reverse && matches!(part, Part::Index(..)) {
        ranks = zset.len() - ranks.end..zset.len() - ranks.start;
    }
    let count = ranks.len().saturating_sub(skip).min(limit);
    let first = if reverse { ranks.end.saturating_sub(skip + count) } else { ranks.start + skip };
    let mut ranked: Ranked =
        zset.order.from(first).take(count).map(|(score, member)| (member.clone(), score.0)).collect();
    if reverse {
        ranked.reverse();
    }
    ranked
}

/// What the commands that answer or store a range share.
fn range(call: &mut Call<'_, '_>, target: Option<&[u8]>, at: usize, fixed: Option<(&str, bool)>) -> Done {
    let key = call.args[at];
    let (mut by, mut reverse) = fixed.unwrap_or(("", false));
    let (mut with_scores, mut limits) = (false, None);
    let mut option = at + 3;
    while option < call.args.len() {
        if fixed.is_none() && call.is(option, "BYSCORE") {
            by = "score";
        } else if fixed.is_none() && call.is(option, "BYLEX") {
            by = "lex";
        } else if fixed.is_none() && call.is(option, "REV") {
            reverse = true;
        } else if target.is_none() && call.is(option, "WITHSCORES") {
            with_scores = true;
        } else if call.is(option, "LIMIT") && option + 2 < call.args.len() {
            limits = Some((call.integer(option + 1)?, call.integer(option + 2)?));
            option += 2;
        } else {
            return error(SYNTAX);
        }
        option += 1;
    }
    if limits.is_some() && matches!(by, "" | "index") {
        return error("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
    }
    if with_scores && by == "lex" {
        return error("ERR syntax error, WITHSCORES not supported in combination with BYLEX");
    }
    let (low, high) = (call.args[at + 1], call.args[at + 2]);
    let (low, high) = if reverse && matches!(by, "score" | "lex") { (high, low) } else { (low, high) };
    let part = match by {
        "score" => Part::Score(score_bound(low)?, score_bound(high)?),
        "lex" => lex_part(low, high)?,
        _ => Part::Index(call.integer(at + 1)?, call.integer(at + 2)?),
    };
    let zset = load(call, key)?;
    let (skip, limit) = limits.unwrap_or((0, -1));
    let ranked = if skip < 0 {
        Vec::new()
    } else {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        select(&zset, &part, reverse, skip as usize, limit)
    };
    let Some(target) = target else {
        reply_ranked(call, &ranked, with_scores);
        return Ok(());
    };
    let mut result = ZSet::default();
    for (member, score) in &ranked {
        result.insert(member, *score);
    }
    keep(call, target, result, "zrangestore")
}

fn keep(call: &mut Call<'_, '_>, target: &[u8], result: ZSet, event: &str) -> Done {
    let count = result.len();
    if count > 0 {
        call.put(target, Value::ZSet(result), 0)?;
        call.notify('z', event, target)?;
    } else if call.delete(target)? {
        call.notify('g', "del", target)?;
    }
    call.reply.integer(count as i64);
    Ok(())
}

pub(crate) fn zrange(call: &mut Call<'_, '_>) -> Done {
    range(call, None, 1, None)
}

pub(crate) fn zrangestore(call: &mut Call<'_, '_>) -> Done {
    range(call, Some(call.args[1]), 2, None)
}

pub(crate) fn zrevrange(call: &mut Call<'_, '_>) -> Done {
    range(call, None, 1, Some(("index", true)))
}

pub(crate) fn zrangebyscore(call: &mut Call<'_, '_>) -> Done {
    range(call, None, 1, Some(("score", false)))
}

pub(crate) fn zrevrangebyscore(call: &mut Call<'_, '_>) -> Done {
    range(call, None, 1, Some(("score", true)))
}

pub(crate) fn zrangebylex(call: &mut Call<'_, '_>) -> Done {
    range(call, None, 1, Some(("lex", false)))
}

pub(crate) fn zrevrangebylex(call: &mut Call<'_, '_>) -> Done {
    range(call, None, 1, Some(("lex", true)))
}

fn count(call: &mut Call<'_, '_>, part: &Part) -> Done {
    let zset = load(call, call.args[1])?;
    call.reply.integer(ranks(&zset, part).len() as i64);
    Ok(())
}

pub(crate) fn zcount(call: &mut Call<'_, '_>) -> Done {
    let part = Part::Score(score_bound(call.arg(2))?, score_bound(call.arg(3))?);
    count(call, &part)
}

pub(crate) fn zlexcount(call: &mut Call<'_, '_>) -> Done {
    let part = lex_part(call.arg(2), call.arg(3))?;
    count(call, &part)
}

fn remove_part(call: &mut Call<'_, '_>, part: &Part, event: &str) -> Done {
    let key = call.args[1];
    let (mut zset, expires) = call.zset(key)?.unwrap_or_default();
    let gone = select(&zset, part, false, 0, usize::MAX);
    for (member, _) in &gone {
        zset.remove(member);
    }
    if !gone.is_empty() {
        call.notify('z', event, key)?;
        call.store_zset(key, zset, expires)?;
    }
    call.reply.integer(gone.len() as i64);
    Ok(())
}

pub(crate) fn zremrangebyrank(call: &mut Call<'_, '_>) -> Done {
    let part = Part::Index(call.integer(2)?, call.integer(3)?);
    remove_part(call, &part, "zremrangebyrank")
}

pub(crate) fn zremrangebyscore(call: &mut Call<'_, '_>) -> Done {
    let part = Part::Score(score_bound(call.arg(2))?, score_bound(call.arg(3))?);
    remove_part(call, &part, "zremrangebyscore")
}

pub(crate) fn zremrangebylex(call: &mut Call<'_, '_>) -> Done {
    let part = lex_part(call.arg(2), call.arg(3))?;
    remove_part(call, &part, "zremrangebylex")
}

/// Takes members with the lowest or highest scores.
fn take(call: &mut Call<'_, '_>, key: &[u8], max: bool, count: usize) -> Done<Ranked> {
    let Some((mut zset, expires)) = call.zset(key)? else { return Ok(Vec::new()) };
    let taken = select(&zset, &Part::Index(0, -1), max, 0, count);
    for (member, _) in &taken {
        zset.remove(member);
    }
    if !taken.is_empty() {
        call.notify('z', if max { "zpopmax" } else { "zpopmin" }, key)?;
        call.store_zset(key, zset, expires)?;
        let mut words: Vec<&[u8]> = vec![b"ZREM", key];
        words.extend(taken.iter().map(|(member, _)| &**member));
        call.log(&words);
    }
    Ok(taken)
}

fn pop(call: &mut Call<'_, '_>, max: bool) -> Done {
    let count = match call.args.len() {
        2 => None,
        3 => match call.integer(2) {
            Ok(count @ 0..) => Some(count as usize),
            Ok(_) => return error("ERR value is out of range, must be positive"),
            Err(fail) => return Err(fail),
        },
        _ => return error(SYNTAX),
    };
    let taken = take(call, call.args[1], max, count.unwrap_or(1))?;
    if call.reply.resp3 && count.is_none() {
        call.reply.array(2 * taken.len());
        for (member, score) in &taken {
            call.reply.bulk(member);
            call.reply.double(*score);
        }
    } else {
        reply_ranked(call, &taken, true);
    }
    Ok(())
}

pub(crate) fn zpopmin(call: &mut Call<'_, '_>) -> Done {
    pop(call, false)
}

pub(crate) fn zpopmax(call: &mut Call<'_, '_>) -> Done {
    pop(call, true)
}

fn blocking_pop(call: &mut Call<'_, '_>, max: bool) -> Done {
    let last = call.args.len() - 1;
    crate::lists::check_timeout(call, last)?;
    for &key in &call.args[1..last] {
        if let [(member, score)] = take(call, key, max, 1)?.as_slice() {
            call.reply.array(3);
            call.reply.bulk(key);
            call.reply.bulk(member);
            call.reply.double(*score);
            return Ok(());
        }
    }
    Err(Fail::Block)
}

pub(crate) fn bzpopmin(call: &mut Call<'_, '_>) -> Done {
    blocking_pop(call, false)
}

pub(crate) fn bzpopmax(call: &mut Call<'_, '_>) -> Done {
    blocking_pop(call, true)
}

fn pop_several(call: &mut Call<'_, '_>, at: usize) -> Done<bool> {
    let pops = pops(call, at, ["MIN", "MAX"])?;
    for key in pops.keys {
        let taken = take(call, key, pops.second, pops.count)?;
        if !taken.is_empty() {
            call.reply.array(2);
            call.reply.bulk(key);
            call.reply.array(taken.len());
            for (member, score) in &taken {
                call.reply.array(2);
                call.reply.bulk(member);
                call.reply.double(*score);
            }
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) fn zmpop(call: &mut Call<'_, '_>) -> Done {
    if !pop_several(call, 1)? {
        call.reply.null_array();
    }
    Ok(())
}

pub(crate) fn bzmpop(call: &mut Call<'_, '_>) -> Done {
    crate::lists::check_timeout(call, 1)?;
    if pop_several(call, 2)? { Ok(()) } else { Err(Fail::Block) }
}

pub(crate) fn zrandmember(call: &mut Call<'_, '_>) -> Done {
    let with_scores = call.args.len() == 4 && call.is(3, "WITHSCORES");
    if call.args.len() > 4 || call.args.len() == 4 && !with_scores {
        return error(SYNTAX);
    }
    if call.args.len() == 2 {
        let zset = load(call, call.args[1])?;
        match zset.len() {
            0 => call.reply.null(),
            n => call.reply.bulk(zset.members.at(crate::random(n)).0),
        }
        return Ok(());
    }
    let count = call.integer(2)?;
    if count.unsigned_abs() > i64::MAX as u64 / 2 {
        return error("ERR value is out of range");
    }
    let zset = load(call, call.args[1])?;
    let chosen = crate::choose(zset.len(), count);
    let ranked: Ranked = chosen
        .into_iter()
        .map(|number| {
            let (member, score) = zset.members.at(number);
            (member.clone(), *score)
        })
        .collect();
    reply_ranked(call, &ranked, with_scores);
    Ok(())
}

/// A sorted set, or a plain set whose members have the score 1.
fn load_either(call: &mut Call<'_, '_>, key: &[u8]) -> Done<ZSet> {
    match call.get(key)? {
        Some(Item { value: Value::Set(set), .. }) => {
            let mut zset = ZSet::default();
            set.keys().for_each(|member| _ = zset.insert(member, 1.0));
            Ok(zset)
        }
        _ => load(call, key),
    }
}

fn combine(call: &mut Call<'_, '_>, operation: Operation, stores: bool) -> Done<(ZSet, bool)> {
    let first = 1 + usize::from(stores);
    let Ok(count) = call.integer(first) else { return error(crate::call::NOT_INTEGER) };
    if count < 1 {
        return error(format!("ERR at least 1 input key is needed for '{}' command", call.name()));
    }
    let end = first + 1 + usize::try_from(count).unwrap_or(usize::MAX / 2);
    if end > call.args.len() {
        return error(SYNTAX);
    }
    let keys = &call.args[first + 1..end];
    let mut weights = vec![1.0; keys.len()];
    let (mut aggregate, mut with_scores) = ("sum", false);
    let mut at = end;
    while at < call.args.len() {
        if operation != DIFFERENCE && call.is(at, "WEIGHTS") && at + keys.len() < call.args.len() {
            for (number, weight) in weights.iter_mut().enumerate() {
                *weight = match float(call.arg(at + 1 + number)) {
                    Some(weight) => weight,
                    None => return error("ERR weight value is not a float"),
                };
            }
            at += keys.len();
        } else if operation != DIFFERENCE && call.is(at, "AGGREGATE") && at + 1 < call.args.len() {
            aggregate = match () {
                () if call.is(at + 1, "SUM") => "sum",
                () if call.is(at + 1, "MIN") => "min",
                () if call.is(at + 1, "MAX") => "max",
                () => return error(SYNTAX),
            };
            at += 1;
        } else if !stores && call.is(at, "WITHSCORES") {
            with_scores = true;
        } else {
            return error(SYNTAX);
        }
        at += 1;
    }
    let mut sets = Vec::new();
    for key in keys {
        sets.push(load_either(call, key)?);
    }
    let number = |n: f64| if n.is_nan() { 0.0 } else { n };
    let join = |a: f64, b: f64| match aggregate {
        "min" => a.min(b),
        "max" => a.max(b),
        _ => number(a + b),
    };
    let mut result = ZSet::default();
    match operation {
        UNION => {
            for (set, weight) in sets.iter().zip(&weights) {
                for (member, score) in set.members.iter() {
                    let score = number(score * weight);
                    let old = result.members.get(member).copied();
                    result.insert(member, old.map_or(score, |old| join(old, score)));
                }
            }
        }
        INTERSECTION => {
            for (member, score) in sets[0].members.iter() {
                let mut sum = number(score * weights[0]);
                let rest = sets[1..].iter().zip(&weights[1..]);
                let everywhere = rest.map(|(set, weight)| set.members.get(member).map(|score| number(score * weight)));
                let mut missing = false;
                for score in everywhere {
                    match score {
                        Some(score) => sum = join(sum, score),
                        None => missing = true,
                    }
                }
                if !missing {
                    result.insert(member, sum);
                }
            }
        }
        _ => {
            for (member, score) in sets[0].members.iter() {
                if !sets[1..].iter().any(|set| set.members.contains(member)) {
                    result.insert(member, *score);
                }
            }
        }
    }
    Ok((result, with_scores))
}

/// ZUNION, ZINTER, ZDIFF.
pub(crate) fn combined<const OPERATION: Operation>(call: &mut Call<'_, '_>) -> Done {
    let (result, with_scores) = combine(call, OPERATION, false)?;
    let ranked = select(&result, &Part::Index(0, -1), false, 0, usize::MAX);
    reply_ranked(call, &ranked, with_scores);
    Ok(())
}

/// ZUNIONSTORE, ZINTERSTORE, ZDIFFSTORE.
pub(crate) fn stored<const OPERATION: Operation>(call: &mut Call<'_, '_>) -> Done {
    let (result, _) = combine(call, OPERATION, true)?;
    let name = call.name();
    keep(call, call.args[1], result, &name)
}

pub(crate) fn zintercard(call: &mut Call<'_, '_>) -> Done {
    let (keys, at) = counted_keys(call, 1)?;
    reply_count(call, at, |call| {
        let mut sets = Vec::new();
        for key in keys {
            sets.push(load_either(call, key)?);
        }
        let everywhere = |member: &&Bytes| sets[1..].iter().all(|set| set.members.contains(member));
        Ok(sets[0].members.keys().filter(everywhere).count())
    })
}
