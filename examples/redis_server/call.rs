//! A command in execution: its arguments, the keyspace as its transaction sees it, and what it lets out.

use std::borrow::Cow;
use std::sync::Arc;

use optimist::dispatcher::reactor::Outbox;
use optimist::stm::collections::Change;
use optimist::stm::{Abort, Tx};

use crate::reply::Reply;
use crate::server::Server;
use crate::session::Client;
use crate::value::{Bytes, Fields, Item, List, Set, Text, Value, ZSet};

/// Why a command did not come to its end.
#[derive(Debug)]
pub(crate) enum Fail {
    /// The transaction must end; it will be run again.
    Abort(Abort),
    /// The reply is an error. Nothing has been written.
    Error(Cow<'static, str>),
    /// The key that the command is about holds a value of another type. For one that already waits that is as if it held none.
    WrongType,
    /// It waits for a change.
    Block,
}

impl Fail {
    /// As what the client is told.
    pub(crate) fn spoken(self) -> Self {
        match self {
            Fail::WrongType => Fail::Error(WRONG_TYPE.into()),
            other => other,
        }
    }
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
pub(crate) const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

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
    /// Keys, with the numbers of their databases, that have got something for which clients wait.
    pub(crate) ready: Vec<(usize, Bytes)>,
}

/// How much effects there were at some moment.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    log: usize,
    logged: usize,
    dirty: usize,
    messages: usize,
    expiries: usize,
    kills: usize,
    ready: usize,
}

impl Effects {
    pub(crate) fn clear(&mut self) {
        self.log.clear();
        self.logged = 0;
        self.dirty = 0;
        self.messages.clear();
        self.expiries.clear();
        self.kills.clear();
        self.ready.clear();
    }

    /// How much there is.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            log: self.log.len(),
            logged: self.logged,
            dirty: self.dirty,
            messages: self.messages.len(),
            expiries: self.expiries.len(),
            kills: self.kills.len(),
            ready: self.ready.len(),
        }
    }

    /// Forgets what came later.
    pub(crate) fn roll_back_to(&mut self, mark: &Mark) {
        self.log.truncate(mark.log);
        self.logged = mark.logged;
        self.dirty = mark.dirty;
        self.messages.truncate(mark.messages);
        self.expiries.truncate(mark.expiries);
        self.kills.truncate(mark.kills);
        self.ready.truncate(mark.ready);
    }

    /// Says that what was logged from `start` on belongs to a database, where the entries before it belong to `current`.
    pub(crate) fn select(&mut self, start: usize, db: usize, current: &mut usize) {
        if self.log.len() > start && *current != db {
            let mut select = Vec::new();
            append_command(&mut select, &[b"SELECT", db.to_string().as_bytes()]);
            self.log.splice(start..start, select);
            self.logged += 1;
            *current = db;
        }
    }
}

pub(crate) struct Call<'a, 'e> {
    pub(crate) tx: &'a mut Tx<'e>,
    pub(crate) args: &'a [&'a [u8]],
    pub(crate) reply: &'a mut Reply,
    pub(crate) server: &'a Arc<Server>,
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
    /// Runs a command, and logs it if it has changed something and has not logged what it did.
    #[inline]
    pub(crate) fn run(&mut self, command: fn(&mut Call<'_, '_>) -> Done) -> Done {
        let dirty = self.effects.dirty;
        command(self)?;
        if self.effects.dirty != dirty && !self.own_log && self.server.log.is_some() {
            append_command(&mut self.effects.log, self.args);
            self.effects.logged += 1;
        }
        Ok(())
    }

    pub(crate) fn arg(&self, at: usize) -> &[u8] {
        self.args[at]
    }

    /// The name of the command.
    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(self.args[0]).to_ascii_lowercase()
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
        let found = self.server.dbs[self.db]
            .with(self.tx, key, |item| if item.is_over(now) { None } else { f.take().map(|f| f(Some(item))) })?;
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
        self.count_expiring(1, 0)?;
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
        if let Value::List(_) | Value::ZSet(_) = value {
            self.note_ready(key)?;
        }
        let item = Item { stamp, expires, value };
        let now = self.now;
        let old = |old: Option<&Item>| (old.map_or(0, |old| old.expires), old.is_none_or(|old| old.is_over(now)));
        let (before, new) = self.server.dbs[self.db].edit(self.tx, key, |own| (Change::Set(item), old(own)))?;
        self.count_expiring(before, expires)?;
        self.effects.dirty += 1;
        if new { self.notify('n', "new", key) } else { Ok(()) }
    }

    /// Notes a key that gets something for which clients may wait.
    #[inline]
    fn note_ready(&mut self, key: &[u8]) -> Done {
        if self.server.lines.contains_key(self.tx, key)?
            && let Some(number) = self.server.number(self.tx, self.db)?
        {
            self.effects.ready.push((number, key.into()));
        }
        Ok(())
    }

    /// A key's time has changed.
    #[inline]
    fn count_expiring(&mut self, before: i64, after: i64) -> Done {
        let change = i64::from(after != 0) - i64::from(before != 0);
        if change != 0 {
            self.server.expiring[self.db].add(self.tx, change)?;
        }
        Ok(())
    }

    /// Looks a key up once and lets `f` say what it is to hold, which keeps its time, or that it stays as it is.
    pub(crate) fn alter<T>(
        &mut self,
        key: &[u8],
        f: impl FnOnce(Option<&Item>) -> Done<(Option<Value>, T)>,
    ) -> Done<T> {
        let now = self.now;
        let mut f = Some(f);
        let (mut changed, mut new) = (false, false);
        let outcome = self.server.dbs[self.db].edit(self.tx, key, |item| {
            if item.is_some_and(|item| item.is_over(now)) {
                return (Change::Keep, None);
            }
            match f.take().map(|f| f(item)) {
                Some(Ok((Some(value), answer))) => {
                    (changed, new) = (true, item.is_none());
                    let expires = item.map_or(0, |item| item.expires);
                    (Change::Set(Item { stamp: self.server.stamp(), expires, value }), Some(Ok(answer)))
                }
                Some(Ok((None, answer))) => (Change::Keep, Some(Ok(answer))),
                Some(Err(fail)) => (Change::Keep, Some(Err(fail))),
                None => unreachable!("called once"),
            }
        })?;
        self.effects.dirty += usize::from(changed);
        if new {
            self.notify('n', "new", key)?;
        }
        match (outcome, f) {
            (Some(answer), _) => answer,
            (None, Some(f)) => {
                self.remove_expired(key)?;
                self.alter(key, f)
            }
            (None, None) => unreachable!("not called for a key that has expired"),
        }
    }

    /// Removes a key and says whether it was there.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Done<bool> {
        let now = self.now;
        // One that has expired goes too, but it does not count.
        let found = self.server.dbs[self.db].edit(self.tx, key, |item| match item {
            None => (Change::Keep, None),
            Some(item) if item.is_over(now) => (Change::Keep, Some(None)),
            Some(item) => (Change::Remove, Some(Some(item.expires))),
        })?;
        match found {
            None => Ok(false),
            Some(None) => self.remove_expired(key).map(|()| false),
            Some(Some(expires)) => {
                self.count_expiring(expires, 0)?;
                self.effects.dirty += 1;
                Ok(true)
            }
        }
    }

    pub(crate) fn string(&mut self, key: &[u8]) -> Done<Option<(Text, i64)>> {
        match self.get(key)? {
            None => Ok(None),
            Some(Item { value: Value::Str(value), expires, .. }) => Ok(Some((value, expires))),
            Some(_) => Err(Fail::WrongType),
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
                        Some(_) => Err(Fail::WrongType),
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
    hash, store_hash: Hash(Fields);
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
