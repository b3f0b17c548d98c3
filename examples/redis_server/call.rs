//! A command in execution: its arguments, the keyspace as its transaction sees it, and what it lets out.

use std::borrow::Cow;
use std::sync::Arc;

use optimist::dispatcher::reactor::Outbox;
use optimist::stm::{Abort, Tx};

use crate::reply::Reply;
use crate::server::Server;
use crate::session::Client;
use crate::value::{Bytes, Hash, Item, List, Set, Value, ZSet};

/// Why a command did not come to its end.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The transaction must end; it will be run again.
    Abort(Abort),
    /// The reply is an error. Nothing has been written.
    Error(Cow<'static, str>),
    /// It waits for a change.
    Block,
}

impl From<Abort> for Fail {
    fn from(abort: Abort) -> Self {
        Fail::Abort(abort)
    }
}

pub(crate) type Done<T = ()> = Result<T, Fail>;

/// An error reply.
pub(crate) fn error<T>(text: impl Into<Cow<'static, str>>) -> Done<T> {
    Err(Fail::Error(text.into()))
}

pub(crate) const SYNTAX: &str = "ERR syntax error";
pub(crate) const NOT_INTEGER: &str = "ERR value is not an integer or out of range";
pub(crate) const NOT_FLOAT: &str = "ERR value is not a valid float";
const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

/// What an event lets out when it commits, besides its reply.
#[derive(Default)]
pub(crate) struct Effects {
    /// Commands for the log, as they are to be replayed.
    pub(crate) log: Vec<u8>,
    pub(crate) logged: usize,
    /// How often the keyspace was changed.
    pub(crate) dirty: usize,
    pub(crate) messages: Vec<(Outbox, Vec<u8>)>,
    /// Keys that expire.
    pub(crate) expiries: Vec<(i64, usize, Bytes)>,
    /// Who is to be closed.
    pub(crate) kills: Vec<Outbox>,
}

impl Effects {
    pub(crate) fn clear(&mut self) {
        self.log.clear();
        self.logged = 0;
        self.dirty = 0;
        self.messages.clear();
        self.expiries.clear();
        self.kills.clear();
    }
}

pub(crate) struct Call<'a, 'e> {
    pub(crate) tx: &'a mut Tx<'e>,
    pub(crate) args: &'a [&'a [u8]],
    pub(crate) reply: &'a mut Reply,
    pub(crate) server: &'a Server,
    pub(crate) effects: &'a mut Effects,
    pub(crate) client: &'a Arc<Client>,
    /// The database, behind any swaps.
    pub(crate) db: usize,
    /// Milliseconds since 1970, the same for all attempts.
    pub(crate) now: i64,
    /// Set by a command that has written its own log entry.
    pub(crate) own_log: bool,
}

impl Call<'_, '_> {
    pub(crate) fn arg(&self, at: usize) -> &[u8] {
        self.args[at]
    }

    pub(crate) fn integer(&self, at: usize) -> Done<i64> {
        crate::numbers::integer(self.args[at]).ok_or(Fail::Error(NOT_INTEGER.into()))
    }

    pub(crate) fn float(&self, at: usize) -> Done<f64> {
        crate::numbers::float(self.args[at]).ok_or(Fail::Error(NOT_FLOAT.into()))
    }

    /// Whether an argument is this word, in any case.
    pub(crate) fn is(&self, at: usize, word: &str) -> bool {
        self.args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// Looks at a key without copying its value.
    pub(crate) fn with<T>(&mut self, key: &[u8], f: impl FnOnce(Option<&Item>) -> T) -> Done<T> {
        let now = self.now;
        let mut f = Some(f);
        let found = self.server.dbs[self.db].with(self.tx, key, |item| {
            let live = item.expires == 0 || item.expires > now;
            if live { f.take().map(|f| f(Some(item))) } else { None }
        })?;
        let expired = matches!(found, Some(None));
        let value = match (found.flatten(), f) {
            (Some(value), _) => value,
            (None, Some(f)) => f(None),
            (None, None) => unreachable!("called with the item"),
        };
        if expired {
            self.remove_expired(key)?;
        }
        Ok(value)
    }

    /// Whoever meets a key whose time has come removes it.
    #[cold]
    fn remove_expired(&mut self, key: &[u8]) -> Done {
        self.server.dbs[self.db].remove(self.tx, key)?;
        append_command(&mut self.effects.log, &[b"DEL", key]);
        self.effects.logged += 1;
        self.server.expired.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.notify('x', "expired", key)
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Done<Option<Item>> {
        self.with(key, |item| item.cloned())
    }

    pub(crate) fn exists(&mut self, key: &[u8]) -> Done<bool> {
        self.with(key, |item| item.is_some())
    }

    /// Sets a key.
    pub(crate) fn put(&mut self, key: &[u8], value: Value, expires: i64) -> Done {
        let stamp = self.server.stamp();
        if expires != 0 {
            self.effects.expiries.push((expires, self.db, key.into()));
        }
        self.server.dbs[self.db].update(self.tx, key.into(), |_| Item { stamp, expires, value })?;
        self.effects.dirty += 1;
        Ok(())
    }

    /// Removes a key and says whether it was there.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Done<bool> {
        let there = self.exists(key)?;
        // One that has expired goes too, but it does not count.
        self.server.dbs[self.db].remove(self.tx, key)?;
        if there {
            self.effects.dirty += 1;
        }
        Ok(there)
    }

    pub(crate) fn string(&mut self, key: &[u8]) -> Done<Option<(Bytes, i64)>> {
        match self.get(key)? {
            None => Ok(None),
            Some(Item { value: Value::Str(value), expires, .. }) => Ok(Some((value, expires))),
            Some(_) => error(WRONG_TYPE),
        }
    }

    /// Puts a command into the log in place of this one.
    pub(crate) fn log(&mut self, words: &[&[u8]]) {
        self.own_log = true;
        append_command(&mut self.effects.log, words);
        self.effects.logged += 1;
    }

    /// Tells those who have subscribed to events of keys.
    pub(crate) fn notify(&mut self, class: char, event: &str, key: &[u8]) -> Done {
        if self.server.config.notifies(class) { crate::pubsub::notify(self, event, key) } else { Ok(()) }
    }
}

macro_rules! containers {
    ($($(#[$doc:meta])* $get:ident, $store:ident: $variant:ident($type:ty);)*) => {
        impl Call<'_, '_> {
            $(
                $(#[$doc])*
                pub(crate) fn $get(&mut self, key: &[u8]) -> Done<Option<($type, i64)>> {
                    match self.get(key)? {
                        None => Ok(None),
                        Some(Item { value: Value::$variant(value), expires, .. }) => Ok(Some((value, expires))),
                        Some(_) => error(WRONG_TYPE),
                    }
                }

                /// Stores it, or removes the key if it is empty.
                pub(crate) fn $store(&mut self, key: &[u8], value: $type, expires: i64) -> Done {
                    if value.len() == 0 {
                        self.delete(key)?;
                        self.notify('g', "del", key)
                    } else {
                        self.put(key, Value::$variant(value), expires)
                    }
                }
            )*
        }
    };
}
containers! {
    /// The list of a key.
    list, store_list: List(List);
    /// The hash of a key.
    hash, store_hash: Hash(Hash);
    /// The set of a key.
    set, store_set: Set(Set);
    /// The sorted set of a key.
    zset, store_zset: ZSet(ZSet);
}

/// Appends a command in the form in which clients send it.
pub(crate) fn append_command(into: &mut Vec<u8>, words: &[&[u8]]) {
    let mut reply = Reply { bytes: std::mem::take(into), resp3: false };
    reply.array(words.len());
    for word in words {
        reply.bulk(word);
    }
    *into = reply.bytes;
}
