//! Commands that concern the connection and not the keyspace.

use optimist::dispatcher::reactor::{Ended, Io};

use crate::plan::{Multi, Step};
use crate::server::{DATABASES, Server};
use crate::session::{Connection, refusal_of_all, stamp_of};
use crate::value::Bytes;

/// PING of a connection that has subscribed: it gets a message, since that is all its client expects.
pub(crate) fn ping_subscribed(connection: &mut Connection, words: &[&[u8]]) {
    let reply = &mut connection.reply;
    reply.array(2);
    reply.text("pong");
    reply.bulk(words.get(1).copied().unwrap_or_default());
}

pub(crate) fn quit(connection: &mut Connection, _words: &[&[u8]], _io: &mut Io<'_>) {
    connection.reply.ok();
    connection.closing = true;
}

/// SHUTDOWN: nothing is accepted any more, what has been begun is finished, and the process ends. The log needs no saving.
pub(crate) fn shutdown(connection: &mut Connection, words: &[&[u8]], io: &mut Io<'_>) {
    let options: [&[u8]; 4] = [b"NOSAVE", b"SAVE", b"NOW", b"FORCE"];
    match words[1..].iter().find(|word| !options.iter().any(|option| option.eq_ignore_ascii_case(word))) {
        Some(word) if word.eq_ignore_ascii_case(b"ABORT") => connection.reply.error("ERR No shutdown in progress."),
        Some(_) => connection.reply.error(crate::call::SYNTAX),
        None => {
            connection.closing = true;
            io.queue().drain();
        }
    }
}

pub(crate) fn reset(connection: &mut Connection, _words: &[&[u8]], io: &mut Io<'_>) {
    crate::pubsub::forget(connection, io);
    connection.multi = None;
    connection.watched.clear();
    connection.db = 0;
    connection.replies = true;
    connection.reply.resp3 = false;
    connection.reply.simple("RESET");
}

pub(crate) fn select(connection: &mut Connection, words: &[&[u8]], _io: &mut Io<'_>) {
    match crate::numbers::integer(words[1]) {
        None => connection.reply.error("ERR invalid DB index"),
        Some(db) if (0..DATABASES as i64).contains(&db) => {
            connection.db = db as usize;
            connection.reply.ok();
        }
        Some(_) => connection.reply.error("ERR DB index is out of range"),
    }
}

pub(crate) fn auth(connection: &mut Connection, words: &[&[u8]], _io: &mut Io<'_>) {
    match words.len() {
        2 | 3 => connection.reply.error(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ),
        _ => connection.reply.error(crate::call::SYNTAX),
    }
}

pub(crate) fn hello(connection: &mut Connection, words: &[&[u8]], io: &mut Io<'_>) {
    let mut resp3 = connection.reply.resp3;
    let mut at = 2;
    if let Some(version) = words.get(1) {
        match crate::numbers::integer(version) {
            Some(2) => resp3 = false,
            Some(3) => resp3 = true,
            Some(_) => return connection.reply.error("NOPROTO unsupported protocol version"),
            None => return connection.reply.error("ERR Protocol version is not an integer or out of range"),
        }
    }
    let mut name = None;
    while at < words.len() {
        if words[at].eq_ignore_ascii_case(b"AUTH") && at + 2 < words.len() {
            at += 3;
        } else if words[at].eq_ignore_ascii_case(b"SETNAME") && at + 1 < words.len() {
            name = Some(words[at + 1]);
            at += 2;
        } else {
            return connection.reply.error("ERR Syntax error in HELLO option");
        }
    }
    if let Some(name) = name
        && !set_name(connection, name, io)
    {
        return;
    }
    let id = connection.client.id as i64;
    let reply = &mut connection.reply;
    reply.resp3 = resp3;
    reply.map(7);
    for (name, value) in [("server", "redis"), ("version", crate::VERSION)] {
        reply.text(name);
        reply.text(value);
    }
    reply.text("proto");
    reply.integer(if resp3 { 3 } else { 2 });
    reply.text("id");
    reply.integer(id);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        reply.text(name);
        reply.text(value);
    }
    reply.text("modules");
    reply.array(0);
}

fn set_name(connection: &mut Connection, name: &[u8], io: &mut Io<'_>) -> bool {
    if name.iter().any(|byte| !(b'!'..=b'~').contains(byte)) {
        connection.reply.error("ERR Client names cannot contain spaces, newlines or special characters.");
        return false;
    }
    let (client, name) = (connection.client.clone(), Bytes::from(name));
    io.event(|ev| Ok(client.name.set(ev, name.clone())?));
    true
}

pub(crate) fn multi(connection: &mut Connection, _words: &[&[u8]], _io: &mut Io<'_>) {
    if let Some(multi) = &mut connection.multi {
        multi.failed = true;
        connection.reply.error("ERR MULTI calls can not be nested");
    } else {
        connection.multi = Some(Multi::default());
        connection.reply.ok();
    }
}

pub(crate) fn discard(connection: &mut Connection, _words: &[&[u8]], _io: &mut Io<'_>) {
    if connection.multi.take().is_none() {
        connection.reply.error("ERR DISCARD without MULTI");
    } else {
        connection.watched.clear();
        connection.reply.ok();
    }
}

pub(crate) fn exec(connection: &mut Connection, _words: &[&[u8]], io: &mut Io<'_>) {
    let Some(mut multi) = connection.multi.take() else {
        return connection.reply.error("ERR EXEC without MULTI");
    };
    let watched = std::mem::take(&mut connection.watched);
    if multi.failed {
        return connection.reply.error("EXECABORT Transaction discarded because of previous errors.");
    }
    if let Some(text) = refusal_of_all(&connection.server, &multi) {
        return connection.reply.error(&format!("EXECABORT Transaction discarded because of: {text}"));
    }
    (multi.db, multi.watched) = (connection.db, watched);
    connection.transact(io, &[Step::Exec(multi)], &[]);
}

pub(crate) fn watch(connection: &mut Connection, words: &[&[u8]], io: &mut Io<'_>) {
    if let Some(multi) = &mut connection.multi {
        multi.failed = true;
        return connection.reply.error("ERR WATCH inside MULTI is not allowed");
    }
    let (server, db, now) = (connection.server.clone(), connection.db, Server::now());
    let ended = io.event(|ev| {
        let mut stamps = Vec::with_capacity(words.len() - 1);
        for key in &words[1..] {
            stamps.push(stamp_of(&server, ev, db, key, now)?);
        }
        Ok(stamps)
    });
    if let Ended::Committed(stamps) = ended {
        for (key, stamp) in words[1..].iter().zip(stamps) {
            if !connection.watched.iter().any(|(other, own, _)| *other == db && **own == **key) {
                connection.watched.push((db, (*key).into(), stamp));
            }
        }
    }
    connection.reply.ok();
}

pub(crate) fn unwatch(connection: &mut Connection, _words: &[&[u8]], _io: &mut Io<'_>) {
    connection.watched.clear();
    connection.reply.ok();
}

/// CLIENT REPLY, and the other subcommands that change this connection.
pub(crate) fn client(connection: &mut Connection, words: &[&[u8]], io: &mut Io<'_>) {
    let is = |at: usize, word: &str| words.get(at).is_some_and(|own: &&[u8]| own.eq_ignore_ascii_case(word.as_bytes()));
    if is(1, "REPLY") && words.len() == 3 {
        if is(2, "ON") {
            connection.replies = true;
            connection.reply.ok();
        } else if is(2, "OFF") {
            connection.replies = false;
        } else if is(2, "SKIP") {
            connection.skip = true;
        } else {
            connection.reply.error(crate::call::SYNTAX);
        }
    } else if is(1, "SETNAME") && words.len() == 3 {
        if set_name(connection, words[2], io) {
            connection.reply.ok();
        }
    } else {
        let step = Step::Command { command: crate::table::client(), words: 0..words.len(), db: connection.db };
        connection.transact(io, &[step], words);
    }
}
