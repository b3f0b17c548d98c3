//! Messages: channels and patterns, and who has subscribed to them.
//!
//! The lists of subscribers are transactional like everything else, so a message goes to those who had subscribed at the one
//! moment at which its event took place. Messages of commands in one event leave together, when it commits.

use std::sync::Arc;

use optimist::dispatcher::reactor::{Ended, Io, Outbox};
use optimist::stm::TVar;
use optimist::stm::collections::TMap;

use crate::call::{Call, Done, error};
use crate::glob::matches;
use crate::reply::Reply;
use crate::session::Connection;
use crate::value::Bytes;

/// Somebody who has subscribed.
#[derive(Clone)]
pub(crate) struct Subscriber {
    outbox: Outbox,
    resp3: bool,
}

type Subscribers = Arc<Vec<Subscriber>>;

#[derive(Default)]
pub(crate) struct Subscriptions {
    pub(crate) channels: TMap<Bytes, Subscribers>,
    pub(crate) patterns: TVar<Arc<Vec<(Bytes, Subscriber)>>>,
}

/// Sends a message to all who want it, and says how many they are.
fn send(call: &mut Call<'_, '_>, channel: &[u8], message: &[u8]) -> Done<usize> {
    let subscriptions = &call.server.subscriptions;
    let mut receivers = 0;
    if let Some(subscribers) = subscriptions.channels.get(call.tx, channel)? {
        for subscriber in &*subscribers {
            deliver(call, subscriber, &[b"message", channel, message]);
            receivers += 1;
        }
    }
    for (pattern, subscriber) in &*subscriptions.patterns.get(call.tx)? {
        if matches(pattern, channel) {
            deliver(call, subscriber, &[b"pmessage", pattern, channel, message]);
            receivers += 1;
        }
    }
    Ok(receivers)
}

fn deliver(call: &mut Call<'_, '_>, subscriber: &Subscriber, words: &[&[u8]]) {
    let mut reply = Reply { bytes: Vec::new(), resp3: subscriber.resp3 };
    reply.push(words.len());
    words.iter().for_each(|word| reply.bulk(word));
    call.effects.messages.push((subscriber.outbox.clone(), reply.bytes));
}

pub(crate) fn publish(call: &mut Call<'_, '_>) -> Done {
    let receivers = send(call, call.args[1], call.args[2])?;
    call.reply.integer(receivers as i64);
    Ok(())
}

/// Publishes what has happened to a key, if anybody wants to know.
pub(crate) fn notify(call: &mut Call<'_, '_>, event: &str, key: &[u8]) -> Done {
    let (by_key, by_event) = call.server.config.notification_kinds();
    // Nobody hears of a database that was put aside.
    let Some(db) = call.server.number(call.tx, call.db)? else { return Ok(()) };
    if by_key {
        let channel = [format!("__keyspace@{db}__:").as_bytes(), key].concat();
        send(call, &channel, event.as_bytes())?;
    }
    if by_event {
        send(call, format!("__keyevent@{db}__:{event}").as_bytes(), key)?;
    }
    Ok(())
}

pub(crate) fn pubsub(call: &mut Call<'_, '_>) -> Done {
    let subscriptions = &call.server.subscriptions;
    if call.is(1, "CHANNELS") && call.args.len() <= 3 {
        let pattern = call.args.get(2).copied().unwrap_or(b"*");
        let mut names = Vec::new();
        subscriptions.channels.try_for_each(call.tx, |_, name, _| {
            if matches(pattern, name) {
                names.push(name.clone());
            }
            Ok(())
        })?;
        call.reply.array(names.len());
        names.iter().for_each(|name| call.reply.bulk(name));
    } else if call.is(1, "NUMSUB") {
        call.reply.map(call.args.len() - 2);
        for &name in &call.args[2..] {
            let count = subscriptions.channels.with(call.tx, name, |subscribers| subscribers.len())?;
            call.reply.bulk(name);
            call.reply.integer(count.unwrap_or(0) as i64);
        }
    } else if call.is(1, "NUMPAT") && call.args.len() == 2 {
        let patterns = subscriptions.patterns.get(call.tx)?;
        let distinct: std::collections::BTreeSet<&Bytes> = patterns.iter().map(|(pattern, _)| pattern).collect();
        call.reply.integer(distinct.len() as i64);
    } else if (call.is(1, "SHARDCHANNELS") || call.is(1, "SHARDNUMSUB")) && call.args.len() >= 2 {
        call.reply.array(0);
    } else {
        let name = String::from_utf8_lossy(call.arg(1)).into_owned();
        return error(format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try PUBSUB HELP."));
    }
    Ok(())
}

fn subscribe(connection: &mut Connection, words: &[&[u8]], io: &mut Io<'_>, patterns: bool) {
    let server = connection.server.clone();
    let me = Subscriber { outbox: io.outbox().clone(), resp3: connection.reply.resp3 };
    for &word in &words[1..] {
        let name: Bytes = word.into();
        let set = if patterns { &mut connection.patterns } else { &mut connection.channels };
        let new = set.insert(name.clone());
        let count = connection.channels.len() + connection.patterns.len();
        let reply = &mut connection.reply;
        reply.bytes.clear();
        reply.push(3);
        reply.text(if patterns { "psubscribe" } else { "subscribe" });
        reply.bulk(word);
        reply.integer(count as i64);
        // The answer and the entry in the list are one event: no message comes before the answer, and none after it is missed.
        let ended = io.event(|ev| {
            if new && patterns {
                let mut all = (*server.subscriptions.patterns.get(ev)?).clone();
                all.push((name.clone(), me.clone()));
                server.subscriptions.patterns.set(ev, Arc::new(all))?;
            } else if new {
                server.subscriptions.channels.update(ev, name.clone(), |others| {
                    let mut all = others.map_or_else(Vec::new, |others| (**others).clone());
                    all.push(me.clone());
                    Arc::new(all)
                })?;
            }
            ev.send(&me.outbox, &reply.bytes)
        });
        reply.bytes.clear();
        connection.closing |= !matches!(ended, Ended::Committed(()));
    }
}

fn unsubscribe(connection: &mut Connection, words: &[&[u8]], io: &mut Io<'_>, patterns: bool) {
    let own = if patterns { &connection.patterns } else { &connection.channels };
    let names: Vec<Bytes> = if words.len() > 1 {
        words[1..].iter().map(|word| Bytes::from(*word)).collect()
    } else {
        own.iter().cloned().collect()
    };
    let kind = if patterns { "punsubscribe" } else { "unsubscribe" };
    if names.is_empty() {
        let count = connection.channels.len() + connection.patterns.len();
        connection.reply.push(3);
        connection.reply.text(kind);
        connection.reply.null();
        connection.reply.integer(count as i64);
    }
    for name in names {
        let set = if patterns { &mut connection.patterns } else { &mut connection.channels };
        if set.remove(&name) {
            leave(connection, io, &name, patterns);
        }
        let count = connection.channels.len() + connection.patterns.len();
        connection.reply.push(3);
        connection.reply.text(kind);
        connection.reply.bulk(&name);
        connection.reply.integer(count as i64);
    }
    // These are no replies but messages, so they come even to a client that wants no replies.
    connection.deliver(io, true);
}

fn leave(connection: &Connection, io: &mut Io<'_>, name: &Bytes, patterns: bool) {
    let subscriptions = &connection.server.subscriptions;
    let id = io.outbox().id();
    io.event(|ev| {
        if patterns {
            let mut all = (*subscriptions.patterns.get(ev)?).clone();
            all.retain(|(pattern, other)| pattern != name || other.outbox.id() != id);
            subscriptions.patterns.set(ev, Arc::new(all))?;
            return Ok(());
        }
        if let Some(all) = subscriptions.channels.get(ev, name)? {
            let rest: Vec<Subscriber> = all.iter().filter(|other| other.outbox.id() != id).cloned().collect();
            if rest.is_empty() {
                subscriptions.channels.remove(ev, name)?;
            } else {
                subscriptions.channels.insert(ev, name.clone(), Arc::new(rest))?;
            }
        }
        Ok(())
    });
}

/// Ends all subscriptions of a connection.
pub(crate) fn forget(connection: &mut Connection, io: &mut Io<'_>) {
    for name in std::mem::take(&mut connection.channels) {
        leave(connection, io, &name, false);
    }
    for name in std::mem::take(&mut connection.patterns) {
        leave(connection, io, &name, true);
    }
}

pub(crate) fn subscribe_channels(connection: &mut Connection, words: &[&[u8]], io: &mut Io<'_>) {
    subscribe(connection, words, io, false);
}

pub(crate) fn subscribe_patterns(connection: &mut Connection, words: &[&[u8]], io: &mut Io<'_>) {
    subscribe(connection, words, io, true);
}

pub(crate) fn unsubscribe_channels(connection: &mut Connection, words: &[&[u8]], io: &mut Io<'_>) {
    unsubscribe(connection, words, io, false);
}

pub(crate) fn unsubscribe_patterns(connection: &mut Connection, words: &[&[u8]], io: &mut Io<'_>) {
    unsubscribe(connection, words, io, true);
}
