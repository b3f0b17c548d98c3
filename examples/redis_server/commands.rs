//! The commands: one table, from which arity checks and COMMAND COUNT follow.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use optimist_dispatcher::reactor::Connection;
use optimist_dispatcher::{Abort, Event, EventResult, Failure, Interrupt, TVar, TransactionQueue};
use optimist_stm::collections::TMap;

use super::resp::{Reply, number};
use super::store::{Bytes, List, Store, Value, clamp, now};

/// What the server keeps with a connection.
#[derive(Default)]
pub(crate) struct Client {
    session: TVar<Session>,
    /// Whether the time of the blocking command is over that the client has sent, if it has sent one with a limit.
    limit: Mutex<Option<TVar<bool>>>,
}

/// What the server knows about a client between commands.
#[derive(Clone, Default)]
struct Session {
    /// The commands since MULTI.
    queued: Option<Vec<Vec<Bytes>>>,
    /// A command since MULTI was none.
    broken: bool,
    watches: Vec<(Bytes, u64)>,
    channels: Vec<Bytes>,
}

/// Why a command did not do what was asked: an error for the client, or something that the event must deal with.
enum Problem {
    Reply(String),
    Interrupt(Interrupt<Failure>),
}

impl From<Interrupt<Failure>> for Problem {
    fn from(interrupt: Interrupt<Failure>) -> Self {
        Problem::Interrupt(interrupt)
    }
}

impl From<Abort> for Problem {
    fn from(abort: Abort) -> Self {
        Problem::Interrupt(abort.into())
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Self {
        Problem::Reply(text.to_owned())
    }
}

type Done<T = ()> = Result<T, Problem>;

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
const NOT_INTEGER: &str = "ERR value is not an integer or out of range";
const NOT_FLOAT: &str = "ERR value is not a valid float";
const SYNTAX: &str = "ERR syntax error";

struct Call<'a, 'b> {
    ev: &'a mut Event<'b>,
    store: &'a Store,
    queue: &'a TransactionQueue,
    connection: &'a Connection,
    client: &'a Client,
    args: &'a [Bytes],
    reply: &'a mut Reply,
    /// Blocking commands do not block within EXEC.
    in_exec: bool,
}

/// Name, arity (negative: at least so many; the name counts), and what it does.
type Command = (&'static str, i32, fn(&mut Call<'_, '_>) -> Done);

const COMMANDS: &[Command] = &[
    ("PING", -1, |c| Ok(if c.args.len() > 1 { c.reply.bulk(&c.args[1]) } else { c.reply.simple("PONG") })),
    ("ECHO", 2, |c| Ok(c.reply.bulk(&c.args[1]))),
    ("SELECT", 2, |c| if c.args[1] == b"0" { Ok(c.reply.ok()) } else { Err("ERR DB index is out of range".into()) }),
    ("HELLO", -1, hello),
    ("CLIENT", -2, |c| Ok(if c.word(1) == "ID" { c.reply.integer(c.connection.id() as i64) } else { c.reply.ok() })),
    ("COMMAND", -1, |c| {
        Ok(if c.args.len() > 1 && c.word(1) == "COUNT" {
            c.reply.integer(COMMANDS.len() as i64)
        } else {
            c.reply.array(0)
        })
    }),
    ("CONFIG", -2, config),
    ("INFO", -1, info),
    ("DBSIZE", 1, |c| {
        let n = c.store.len(c.ev)?;
        Ok(c.reply.integer(n as i64))
    }),
    ("FLUSHALL", -1, |c| {
        c.store.clear(c.ev)?;
        Ok(c.reply.ok())
    }),
    ("FLUSHDB", -1, |c| {
        c.store.clear(c.ev)?;
        Ok(c.reply.ok())
    }),
    ("TIME", 1, time),
    ("GET", 2, |c| {
        let text = c.text(1)?;
        Ok(c.reply.bulk_or_nil(text.as_deref()))
    }),
    ("SET", -3, set),
    ("SETNX", 3, |c| {
        let absent = c.entry(1)?.is_none();
        if absent {
            c.put_text(1, c.args[2].clone(), None)?;
        }
        Ok(c.reply.integer(absent.into()))
    }),
    ("SETEX", 4, |c| set_for(c, 1000)),
    ("PSETEX", 4, |c| set_for(c, 1)),
    ("GETSET", 3, |c| {
        let old = c.text(1)?;
        c.put_text(1, c.args[2].clone(), None)?;
        Ok(c.reply.bulk_or_nil(old.as_deref()))
    }),
    ("GETDEL", 2, |c| {
        let old = c.text(1)?;
        c.store.remove(c.ev, &c.args[1])?;
        Ok(c.reply.bulk_or_nil(old.as_deref()))
    }),
    ("MGET", -2, mget),
    ("MSET", -3, |c| {
        c.pairs()?;
        c.put_pairs()?;
        Ok(c.reply.ok())
    }),
    ("MSETNX", -3, msetnx),
    ("APPEND", 3, append),
    ("STRLEN", 2, |c| {
        let length = c.text(1)?.map_or(0, |text| text.len());
        Ok(c.reply.integer(length as i64))
    }),
    ("GETRANGE", 4, getrange),
    ("SETRANGE", 4, setrange),
    ("INCR", 2, |c| add_integer(c, 1)),
    ("DECR", 2, |c| add_integer(c, -1)),
    ("INCRBY", 3, |c| {
        let n = c.integer(2)?;
        add_integer(c, n)
    }),
    ("DECRBY", 3, |c| {
        let n = c.integer(2)?.checked_neg().ok_or("ERR decrement would overflow")?;
        add_integer(c, n)
    }),
    ("INCRBYFLOAT", 3, incr_by_float),
    ("DEL", -2, delete),
    ("UNLINK", -2, delete),
    ("EXISTS", -2, exists),
    ("TYPE", 2, |c| {
        let name = c.entry(1)?.map_or("none", |value| value.type_name());
        Ok(c.reply.simple(name))
    }),
    ("EXPIRE", 3, |c| {
        let at = c.later(2, 1000)?;
        expire_at(c, at)
    }),
    ("PEXPIRE", 3, |c| {
        let at = c.later(2, 1)?;
        expire_at(c, at)
    }),
    ("EXPIREAT", 3, |c| {
        let at = c.integer(2)?.saturating_mul(1000);
        expire_at(c, at)
    }),
    ("PEXPIREAT", 3, |c| {
        let at = c.integer(2)?;
        expire_at(c, at)
    }),
    ("TTL", 2, |c| time_left(c, 1000)),
    ("PTTL", 2, |c| time_left(c, 1)),
    ("PERSIST", 2, persist),
    ("KEYS", 2, keys),
    ("SCAN", -2, scan),
    ("RENAME", 3, rename),
    ("RANDOMKEY", 1, random_key),
    ("HSET", -4, |c| {
        let added = hset(c)?;
        Ok(c.reply.integer(added))
    }),
    ("HMSET", -4, |c| {
        hset(c)?;
        Ok(c.reply.ok())
    }),
    ("HSETNX", 4, hsetnx),
    ("HGET", 3, |c| {
        let value = match c.hash(1)? {
            Some(h) => h.get(c.ev, &c.args[2])?,
            None => None,
        };
        Ok(c.reply.bulk_or_nil(value.as_deref()))
    }),
    ("HMGET", -3, hmget),
    ("HGETALL", 2, |c| hash_parts(c, true, true)),
    ("HKEYS", 2, |c| hash_parts(c, true, false)),
    ("HVALS", 2, |c| hash_parts(c, false, true)),
    ("HLEN", 2, |c| {
        let n = match c.hash(1)? {
            Some(h) => h.len(c.ev)?,
            None => 0,
        };
        Ok(c.reply.integer(n as i64))
    }),
    ("HEXISTS", 3, |c| {
        let found = match c.hash(1)? {
            Some(h) => h.contains_key(c.ev, &c.args[2])?,
            None => false,
        };
        Ok(c.reply.integer(found.into()))
    }),
    ("HDEL", -3, hdel),
    ("HINCRBY", 4, hincrby),
    ("LPUSH", -3, |c| push(c, true, true)),
    ("RPUSH", -3, |c| push(c, false, true)),
    ("LPUSHX", -3, |c| push(c, true, false)),
    ("RPUSHX", -3, |c| push(c, false, false)),
    ("LPOP", -2, |c| pop(c, true)),
    ("RPOP", -2, |c| pop(c, false)),
    ("BLPOP", -3, |c| blocking_pop(c, true)),
    ("BRPOP", -3, |c| blocking_pop(c, false)),
    ("LLEN", 2, |c| {
        let n = match c.list(1)? {
            Some(l) => l.len(c.ev)?,
            None => 0,
        };
        Ok(c.reply.integer(n))
    }),
    ("LRANGE", 4, lrange),
    ("LINDEX", 3, |c| {
        let at = c.integer(2)?;
        let item = match c.list(1)? {
            Some(l) => l.get(c.ev, at)?,
            None => None,
        };
        Ok(c.reply.bulk_or_nil(item.as_deref()))
    }),
    ("LSET", 4, lset),
    ("LTRIM", 4, ltrim),
    ("LREM", 4, lrem),
    ("SADD", -3, sadd),
    ("SREM", -3, srem),
    ("SISMEMBER", 3, |c| {
        let found = match c.members(1)? {
            Some(s) => s.contains_key(c.ev, &c.args[2])?,
            None => false,
        };
        Ok(c.reply.integer(found.into()))
    }),
    ("SMEMBERS", 2, |c| {
        let all = c.member_list(1)?;
        Ok(c.reply.bulks(&all))
    }),
    ("SCARD", 2, |c| {
        let n = match c.members(1)? {
            Some(s) => s.len(c.ev)?,
            None => 0,
        };
        Ok(c.reply.integer(n as i64))
    }),
    ("SPOP", -2, |c| random_members(c, true)),
    ("SRANDMEMBER", -2, |c| random_members(c, false)),
    ("SINTER", -2, |c| combine(c, |others, member| others.iter().all(|other| other.contains(member)), false)),
    ("SDIFF", -2, |c| combine(c, |others, member| !others.iter().any(|other| other.contains(member)), false)),
    ("SUNION", -2, |c| combine(c, |_, _| true, true)),
    ("ZADD", -4, zadd),
    ("ZINCRBY", 4, zincrby),
    ("ZSCORE", 3, |c| {
        let score = match c.sorted(1)? {
            Some(z) => z.get(c.ev, &c.args[2])?,
            None => None,
        };
        Ok(c.reply.bulk_or_nil(score.map(float).as_deref()))
    }),
    ("ZCARD", 2, |c| {
        let n = match c.sorted(1)? {
            Some(z) => z.len(c.ev)?,
            None => 0,
        };
        Ok(c.reply.integer(n as i64))
    }),
    ("ZREM", -3, zrem),
    ("ZRANK", 3, zrank),
    ("ZRANGE", -4, zrange),
    ("ZPOPMIN", -2, |c| zpop(c, false)),
    ("ZPOPMAX", -2, |c| zpop(c, true)),
    ("PUBLISH", 3, publish),
];

/// Executes a request.
pub(crate) fn command(
    ev: &mut Event<'_>,
    store: &Store,
    queue: &TransactionQueue,
    connection: &Connection,
    args: &[Bytes],
    reply: &mut Reply,
) -> EventResult {
    let client = connection.data(Client::default);
    let session = &client.session;
    let limited = client.limit.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    if limited {
        // The blocking command comes to its end, unless it retries once more.
        let connection = connection.clone();
        ev.on_commit(move || {
            *connection.data(Client::default).limit.lock().unwrap_or_else(PoisonError::into_inner) = None
        });
    }
    let name = String::from_utf8_lossy(&args[0]).to_ascii_uppercase();
    let in_multi = session.with(ev, |session| session.queued.is_some())?;
    match (name.as_str(), args.len()) {
        ("QUIT", _) => {
            reply.ok();
            connection.close(ev);
        }
        ("MULTI", 1) if in_multi => reply.error("ERR MULTI calls can not be nested"),
        ("MULTI", 1) => {
            session.modify(ev, |session| Session { queued: Some(Vec::new()), broken: false, ..session.clone() })?;
            reply.ok();
        }
        ("EXEC" | "DISCARD", 1) if !in_multi => reply.error(&format!("ERR {name} without MULTI")),
        ("DISCARD", 1) => {
            unwatch(ev, store, session)?;
            reply.ok();
        }
        ("EXEC", 1) => {
            let before = session.get(ev)?;
            let unchanged = unwatch(ev, store, session)?;
            if before.broken {
                reply.error("EXECABORT Transaction discarded because of previous errors.");
            } else if !unchanged {
                reply.nil_array();
            } else {
                let queued = before.queued.unwrap_or_default();
                reply.array(queued.len());
                for args in &queued {
                    execute(Call { ev, store, queue, connection, client, args, reply, in_exec: true })?;
                }
            }
        }
        ("WATCH", 2..) if in_multi => reply.error("ERR WATCH inside MULTI is not allowed"),
        ("WATCH", 2..) => {
            let mut now = session.get(ev)?;
            for key in &args[1..] {
                if !now.watches.iter().any(|(watched, _)| watched == key) {
                    now.watches.push((key.clone(), store.watch(ev, key)?));
                }
            }
            session.set(ev, now)?;
            reply.ok();
        }
        ("UNWATCH", 1) if !in_multi => {
            unwatch(ev, store, session)?;
            reply.ok();
        }
        ("SUBSCRIBE", 2..) => {
            for channel in &args[1..] {
                subscribe(ev, store, connection, session, channel, reply)?;
            }
        }
        ("UNSUBSCRIBE", _) => {
            let channels = if args.len() > 1 { args[1..].to_vec() } else { session.get(ev)?.channels };
            for channel in &channels {
                unsubscribe(ev, store, connection, session, channel, reply)?;
            }
        }
        _ if in_multi => match find(&name, args) {
            Ok(_) => {
                let mut now = session.get(ev)?;
                now.queued.get_or_insert_default().push(args.to_vec());
                session.set(ev, now)?;
                reply.simple("QUEUED");
            }
            Err(error) => {
                session.modify(ev, |session| Session { broken: true, ..session.clone() })?;
                reply.error(&error);
            }
        },
        _ => execute(Call { ev, store, queue, connection, client, args, reply, in_exec: false })?,
    }
    Ok(())
}

/// Ends MULTI and all watches, and says whether what was watched is as it was.
fn unwatch(ev: &mut Event<'_>, store: &Store, session: &TVar<Session>) -> EventResult<bool> {
    let now = session.get(ev)?;
    let mut unchanged = true;
    for (key, seen) in &now.watches {
        unchanged &= store.unwatch(ev, key, *seen)?;
    }
    session.set(ev, Session { queued: None, broken: false, watches: Vec::new(), channels: now.channels })?;
    Ok(unchanged)
}

/// Removes whatever a client that has gone has left behind.
pub(crate) fn forget(ev: &mut Event<'_>, store: &Store, connection: &Connection) -> EventResult {
    let session = connection.data(Client::default).session.get(ev)?;
    for (key, seen) in &session.watches {
        store.unwatch(ev, key, *seen)?;
    }
    for channel in &session.channels {
        leave(ev, store, connection, channel)?;
    }
    Ok(())
}

fn leave(ev: &mut Event<'_>, store: &Store, connection: &Connection, channel: &[u8]) -> EventResult {
    let mut members = store.channels.get(ev, channel)?.unwrap_or_default();
    members.retain(|member| member != connection);
    if members.is_empty() {
        store.channels.remove(ev, channel)?;
    } else {
        store.channels.insert(ev, channel.to_vec(), members)?;
    }
    Ok(())
}

fn subscribe(
    ev: &mut Event<'_>,
    store: &Store,
    connection: &Connection,
    session: &TVar<Session>,
    channel: &Bytes,
    reply: &mut Reply,
) -> EventResult {
    let mut now = session.get(ev)?;
    if !now.channels.contains(channel) {
        now.channels.push(channel.clone());
        let mut members = store.channels.get(ev, channel)?.unwrap_or_default();
        members.push(connection.clone());
        store.channels.insert(ev, channel.clone(), members)?;
    }
    reply.array(3);
    reply.bulk(b"subscribe");
    reply.bulk(channel);
    reply.integer(now.channels.len() as i64);
    Ok(session.set(ev, now)?)
}

fn unsubscribe(
    ev: &mut Event<'_>,
    store: &Store,
    connection: &Connection,
    session: &TVar<Session>,
    channel: &Bytes,
    reply: &mut Reply,
) -> EventResult {
    let mut now = session.get(ev)?;
    now.channels.retain(|own| own != channel);
    leave(ev, store, connection, channel)?;
    reply.array(3);
    reply.bulk(b"unsubscribe");
    reply.bulk(channel);
    reply.integer(now.channels.len() as i64);
    Ok(session.set(ev, now)?)
}

fn find(name: &str, args: &[Bytes]) -> Result<&'static Command, String> {
    let command = COMMANDS.iter().find(|(known, ..)| *known == name);
    let command = command.ok_or_else(|| format!("ERR unknown command '{}'", String::from_utf8_lossy(&args[0])))?;
    let (wanted, given) = (command.1, args.len() as i32);
    if given == wanted || (wanted < 0 && given >= -wanted) {
        Ok(command)
    } else {
        Err(format!("ERR wrong number of arguments for '{}' command", name.to_ascii_lowercase()))
    }
}

/// Executes a command of the table. An error of the client's becomes its reply.
fn execute(mut call: Call<'_, '_>) -> EventResult {
    let name = call.word(0);
    let before = call.reply.0.len();
    let problem = match find(&name, call.args) {
        Ok((.., run)) => match run(&mut call) {
            Ok(()) => return Ok(()),
            Err(Problem::Interrupt(interrupt)) => return Err(interrupt),
            Err(Problem::Reply(text)) => text,
        },
        Err(text) => text,
    };
    call.reply.0.truncate(before);
    call.reply.error(&problem);
    Ok(())
}

macro_rules! typed {
    ($get:ident, $make:ident, $variant:ident, $type:ty, $new:expr) => {
        /// The value of a key, if there is one.
        fn $get(&mut self, arg: usize) -> Done<Option<$type>> {
            match self.entry(arg)? {
                None => Ok(None),
                Some(Value::$variant(value)) => Ok(Some(value)),
                Some(_) => Err(WRONG_TYPE.into()),
            }
        }

        /// The value of a key, made if there is none.
        fn $make(&mut self, arg: usize) -> Done<$type> {
            if let Some(value) = self.$get(arg)? {
                return Ok(value);
            }
            let value: $type = $new;
            self.store.set(self.ev, &self.args[arg], Value::$variant(value.clone()), None)?;
            Ok(value)
        }
    };
}

impl Call<'_, '_> {
    /// An argument as an upper-case word.
    fn word(&self, arg: usize) -> String {
        String::from_utf8_lossy(&self.args[arg]).to_ascii_uppercase()
    }

    fn integer(&self, arg: usize) -> Done<i64> {
        number(&self.args[arg]).ok_or_else(|| NOT_INTEGER.into())
    }

    fn float(&self, arg: usize) -> Done<f64> {
        let value = std::str::from_utf8(&self.args[arg]).ok().and_then(|text| text.parse::<f64>().ok());
        value.filter(|value| !value.is_nan()).ok_or_else(|| NOT_FLOAT.into())
    }

    fn entry(&mut self, arg: usize) -> Done<Option<Value>> {
        Ok(self.store.get(self.ev, &self.args[arg])?.map(|entry| entry.value))
    }

    fn text(&mut self, arg: usize) -> Done<Option<Arc<[u8]>>> {
        match self.entry(arg)? {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(WRONG_TYPE.into()),
        }
    }

    fn put_text(&mut self, arg: usize, text: Bytes, expires: Option<u64>) -> Done {
        Ok(self.store.set(self.ev, &self.args[arg], Value::Text(text.into()), expires)?)
    }

    /// As [`put_text`](Self::put_text), and keeps the time at which the key expires.
    fn replace_text(&mut self, arg: usize, text: Bytes) -> Done {
        let expires = self.store.get(self.ev, &self.args[arg])?.and_then(|entry| entry.expires);
        self.put_text(arg, text, expires)
    }

    typed!(list, make_list, List, List, List::new());
    typed!(hash, make_hash, Hash, TMap<Bytes, Bytes>, TMap::new());
    typed!(members, make_members, Set, TMap<Bytes, ()>, TMap::new());
    typed!(sorted, make_sorted, Sorted, TMap<Bytes, f64>, TMap::new());

    /// Notes the change of a key's parts; a key whose last part has gone goes too.
    fn changed(&mut self, arg: usize, empty: bool) -> Done {
        if empty {
            self.store.remove(self.ev, &self.args[arg])?;
        } else {
            self.store.touch(self.ev, &self.args[arg])?;
        }
        Ok(())
    }

    /// So many units of so many milliseconds from now.
    fn later(&mut self, arg: usize, unit: i64) -> Done<i64> {
        let delay = self.integer(arg)?.checked_mul(unit).ok_or("ERR invalid expire time")?;
        Ok((now(self.ev) as i64).saturating_add(delay))
    }

    fn pairs(&self) -> Done {
        if self.args.len() % 2 == 0 {
            Err(format!("ERR wrong number of arguments for '{}' command", self.word(0).to_ascii_lowercase())
                .as_str()
                .into())
        } else {
            Ok(())
        }
    }

    fn put_pairs(&mut self) -> Done {
        for arg in (1..self.args.len()).step_by(2) {
            self.put_text(arg, self.args[arg + 1].clone(), None)?;
        }
        Ok(())
    }

    fn member_list(&mut self, arg: usize) -> Done<Vec<Bytes>> {
        let Some(members) = self.members(arg)? else { return Ok(Vec::new()) };
        Ok(members.entries(self.ev)?.into_iter().map(|(member, ())| member).collect())
    }
}

fn hello(c: &mut Call<'_, '_>) -> Done {
    if c.args.len() > 1 && c.args[1] != b"2" {
        return Err("NOPROTO unsupported protocol version".into());
    }
    c.reply.array(6);
    for word in ["server", "optimist", "version", env!("CARGO_PKG_VERSION"), "proto"] {
        c.reply.bulk(word.as_bytes());
    }
    c.reply.integer(2);
    Ok(())
}

fn config(c: &mut Call<'_, '_>) -> Done {
    const SETTINGS: &[(&str, &str)] = &[("save", ""), ("appendonly", "no"), ("maxmemory", "0"), ("databases", "1")];
    match c.word(1).as_str() {
        "GET" if c.args.len() > 2 => {
            let found: Vec<_> = SETTINGS
                .iter()
                .filter(|(name, _)| c.args[2..].iter().any(|glob| matches(glob, name.as_bytes())))
                .collect();
            c.reply.array(2 * found.len());
            for (name, value) in found {
                c.reply.bulk(name.as_bytes());
                c.reply.bulk(value.as_bytes());
            }
        }
        "SET" | "RESETSTAT" => c.reply.ok(),
        _ => return Err(SYNTAX.into()),
    }
    Ok(())
}

fn info(c: &mut Call<'_, '_>) -> Done {
    let keys = c.store.len(c.ev)?;
    let statistics = optimist_stm::statistics();
    let text = format!(
        "# Server\r\nredis_version:7.0.0\r\noptimist_version:{}\r\n# Stats\r\ncommits:{}\r\naborts:{}\r\n# Keyspace\r\ndb0:keys={keys}\r\n",
        env!("CARGO_PKG_VERSION"),
        statistics.commits,
        statistics.aborted(),
    );
    c.reply.bulk(text.as_bytes());
    Ok(())
}

fn time(c: &mut Call<'_, '_>) -> Done {
    let now = now(c.ev);
    c.reply.bulks(&[(now / 1000).to_string(), (now % 1000 * 1000).to_string()]);
    Ok(())
}

fn set(c: &mut Call<'_, '_>) -> Done {
    let (mut expires, mut only_new, mut only_old, mut keep, mut get) = (None, false, false, false, false);
    let mut arg = 3;
    while arg < c.args.len() {
        match c.word(arg).as_str() {
            "NX" => only_new = true,
            "XX" => only_old = true,
            "KEEPTTL" => keep = true,
            "GET" => get = true,
            unit @ ("EX" | "PX" | "EXAT" | "PXAT") => {
                arg += 1;
                if arg >= c.args.len() || expires.is_some() {
                    return Err(SYNTAX.into());
                }
                if c.integer(arg)? <= 0 {
                    return Err("ERR invalid expire time in 'set' command".into());
                }
                let at = match unit {
                    "EX" => c.later(arg, 1000)?,
                    "PX" => c.later(arg, 1)?,
                    "EXAT" => c.integer(arg)?.saturating_mul(1000),
                    _ => c.integer(arg)?,
                };
                expires = Some(at as u64);
            }
            _ => return Err(SYNTAX.into()),
        }
        arg += 1;
    }
    if (only_new && only_old) || (keep && expires.is_some()) {
        return Err(SYNTAX.into());
    }
    let old = if get { c.text(1)? } else { None };
    if only_new || only_old || keep {
        let before = c.store.get(c.ev, &c.args[1])?;
        if (only_new && before.is_some()) || (only_old && before.is_none()) {
            c.reply.bulk_or_nil(old.as_deref());
            return Ok(());
        }
        if keep {
            expires = before.and_then(|entry| entry.expires);
        }
    }
    c.put_text(1, c.args[2].clone(), expires)?;
    if get {
        c.reply.bulk_or_nil(old.as_deref())
    } else {
        c.reply.ok()
    }
    Ok(())
}

fn set_for(c: &mut Call<'_, '_>, unit: i64) -> Done {
    if c.integer(2)? <= 0 {
        return Err(format!("ERR invalid expire time in '{}' command", c.word(0).to_ascii_lowercase()).as_str().into());
    }
    let at = c.later(2, unit)?;
    c.put_text(1, c.args[3].clone(), Some(at as u64))?;
    c.reply.ok();
    Ok(())
}

fn mget(c: &mut Call<'_, '_>) -> Done {
    c.reply.array(c.args.len() - 1);
    for arg in 1..c.args.len() {
        match c.entry(arg)? {
            Some(Value::Text(text)) => c.reply.bulk(&text),
            _ => c.reply.nil(),
        }
    }
    Ok(())
}

fn msetnx(c: &mut Call<'_, '_>) -> Done {
    c.pairs()?;
    for arg in (1..c.args.len()).step_by(2) {
        if c.entry(arg)?.is_some() {
            c.reply.integer(0);
            return Ok(());
        }
    }
    c.put_pairs()?;
    c.reply.integer(1);
    Ok(())
}

fn append(c: &mut Call<'_, '_>) -> Done {
    let mut text = c.text(1)?.map_or(Vec::new(), |text| text.to_vec());
    text.extend_from_slice(&c.args[2]);
    let length = text.len();
    c.replace_text(1, text)?;
    c.reply.integer(length as i64);
    Ok(())
}

fn getrange(c: &mut Call<'_, '_>) -> Done {
    let (start, stop) = (c.integer(2)?, c.integer(3)?);
    let text = c.text(1)?.unwrap_or_else(|| Arc::from([]));
    let range = clamp(start, stop, text.len() as i64);
    c.reply.bulk(range.map_or(&[], |(start, stop)| &text[start as usize..=stop as usize]));
    Ok(())
}

fn setrange(c: &mut Call<'_, '_>) -> Done {
    let offset = usize::try_from(c.integer(2)?).map_err(|_| Problem::from("ERR offset is out of range"))?;
    let mut text = c.text(1)?.map_or(Vec::new(), |text| text.to_vec());
    let new = &c.args[3];
    if !new.is_empty() {
        if offset.saturating_add(new.len()) > 512 << 20 {
            return Err("ERR string exceeds maximum allowed size (proto-max-bulk-len)".into());
        }
        text.resize(text.len().max(offset + new.len()), 0);
        text[offset..offset + new.len()].copy_from_slice(new);
        c.replace_text(1, text.clone())?;
    }
    c.reply.integer(text.len() as i64);
    Ok(())
}

fn add_integer(c: &mut Call<'_, '_>, more: i64) -> Done {
    let old = match c.text(1)? {
        Some(text) => number(&text).ok_or(NOT_INTEGER)?,
        None => 0,
    };
    let new = old.checked_add(more).ok_or("ERR increment or decrement would overflow")?;
    c.replace_text(1, new.to_string().into_bytes())?;
    c.reply.integer(new);
    Ok(())
}

/// A float as Redis prints it.
fn float(value: f64) -> Bytes {
    if value.is_infinite() {
        if value > 0.0 { b"inf".to_vec() } else { b"-inf".to_vec() }
    } else {
        value.to_string().into_bytes()
    }
}

fn incr_by_float(c: &mut Call<'_, '_>) -> Done {
    let old = match c.text(1)? {
        Some(text) => std::str::from_utf8(&text).ok().and_then(|text| text.parse::<f64>().ok()).ok_or(NOT_FLOAT)?,
        None => 0.0,
    };
    let new = old + c.float(2)?;
    if !new.is_finite() {
        return Err("ERR increment would produce NaN or Infinity".into());
    }
    c.replace_text(1, float(new))?;
    c.reply.bulk(&float(new));
    Ok(())
}

fn delete(c: &mut Call<'_, '_>) -> Done {
    let mut count = 0;
    for arg in 1..c.args.len() {
        if c.entry(arg)?.is_some() {
            count += i64::from(c.store.remove(c.ev, &c.args[arg])?);
        }
    }
    c.reply.integer(count);
    Ok(())
}

fn exists(c: &mut Call<'_, '_>) -> Done {
    let mut count = 0;
    for arg in 1..c.args.len() {
        count += i64::from(c.entry(arg)?.is_some());
    }
    c.reply.integer(count);
    Ok(())
}

fn expire_at(c: &mut Call<'_, '_>, at: i64) -> Done {
    let Some(value) = c.entry(1)? else {
        c.reply.integer(0);
        return Ok(());
    };
    if at <= now(c.ev) as i64 {
        c.store.remove(c.ev, &c.args[1])?;
    } else {
        c.store.set(c.ev, &c.args[1], value, Some(at as u64))?;
    }
    c.reply.integer(1);
    Ok(())
}

fn time_left(c: &mut Call<'_, '_>, unit: u64) -> Done {
    let left = match c.store.get(c.ev, &c.args[1])? {
        None => -2,
        Some(entry) => match entry.expires {
            None => -1,
            Some(at) => ((at - now(c.ev) + unit / 2) / unit) as i64,
        },
    };
    c.reply.integer(left);
    Ok(())
}

fn persist(c: &mut Call<'_, '_>) -> Done {
    let entry = c.store.get(c.ev, &c.args[1])?.filter(|entry| entry.expires.is_some());
    c.reply.integer(entry.is_some().into());
    match entry {
        Some(entry) => Ok(c.store.set(c.ev, &c.args[1], entry.value, None)?),
        None => Ok(()),
    }
}

/// Whether a name matches a pattern with `*`, `?`, `[…]` and `\`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return name.is_empty() };
    match first {
        b'*' => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        b'[' if rest.contains(&b']') => {
            let end = rest.iter().position(|byte| *byte == b']').unwrap_or(0);
            let (negated, set) = rest[..end].strip_prefix(b"^").map_or((false, &rest[..end]), |set| (true, set));
            let Some((byte, others)) = name.split_first() else { return false };
            let ranges = set.windows(3).any(|w| w[1] == b'-' && (w[0]..=w[2]).contains(byte));
            (set.contains(byte) || ranges) != negated && matches(&rest[end + 1..], others)
        }
        b'\\' if !rest.is_empty() => name.first() == rest.first() && matches(&rest[1..], &name[1..]),
        b'?' => !name.is_empty() && matches(rest, &name[1..]),
        byte => name.first() == Some(byte) && matches(rest, &name[1..]),
    }
}

fn keys(c: &mut Call<'_, '_>) -> Done {
    let names = c.store.names(c.ev)?;
    let found: Vec<_> = names.into_iter().filter(|name| matches(&c.args[1], name)).collect();
    c.reply.bulks(&found);
    Ok(())
}

/// Everything at once: the cursor is always 0.
fn scan(c: &mut Call<'_, '_>) -> Done {
    let mut pattern: &[u8] = b"*";
    for option in c.args[2..].chunks(2) {
        match (String::from_utf8_lossy(&option[0]).to_ascii_uppercase().as_str(), option.get(1)) {
            ("MATCH", Some(glob)) => pattern = glob,
            ("COUNT", Some(_)) => {}
            _ => return Err(SYNTAX.into()),
        }
    }
    let names = c.store.names(c.ev)?;
    let found: Vec<_> = names.into_iter().filter(|name| matches(pattern, name)).collect();
    c.reply.array(2);
    c.reply.bulk(b"0");
    c.reply.bulks(&found);
    Ok(())
}

fn rename(c: &mut Call<'_, '_>) -> Done {
    let entry = c.store.get(c.ev, &c.args[1])?.ok_or("ERR no such key")?;
    c.store.remove(c.ev, &c.args[1])?;
    c.store.set(c.ev, &c.args[2], entry.value, entry.expires)?;
    c.reply.ok();
    Ok(())
}

fn random_key(c: &mut Call<'_, '_>) -> Done {
    let names = c.store.names(c.ev)?;
    let chosen = if names.is_empty() { None } else { Some(&names[(c.ev.random() % names.len() as u64) as usize]) };
    c.reply.bulk_or_nil(chosen.map(Vec::as_slice));
    Ok(())
}

fn hset(c: &mut Call<'_, '_>) -> Done<i64> {
    if c.args.len() % 2 == 1 {
        return Err("ERR wrong number of arguments for 'hset' command".into());
    }
    let hash = c.make_hash(1)?;
    let mut added = 0;
    for pair in c.args[2..].chunks(2) {
        added += i64::from(hash.insert(c.ev, pair[0].clone(), pair[1].clone())?.is_none());
    }
    c.changed(1, false)?;
    Ok(added)
}

fn hsetnx(c: &mut Call<'_, '_>) -> Done {
    let hash = c.make_hash(1)?;
    let absent = !hash.contains_key(c.ev, &c.args[2])?;
    if absent {
        hash.insert(c.ev, c.args[2].clone(), c.args[3].clone())?;
        c.changed(1, false)?;
    }
    c.reply.integer(absent.into());
    Ok(())
}

fn hmget(c: &mut Call<'_, '_>) -> Done {
    let hash = c.hash(1)?;
    c.reply.array(c.args.len() - 2);
    for field in &c.args[2..] {
        let value = match &hash {
            Some(hash) => hash.get(c.ev, field)?,
            None => None,
        };
        c.reply.bulk_or_nil(value.as_deref());
    }
    Ok(())
}

fn hash_parts(c: &mut Call<'_, '_>, names: bool, values: bool) -> Done {
    let entries = match c.hash(1)? {
        Some(hash) => hash.entries(c.ev)?,
        None => Vec::new(),
    };
    c.reply.array(entries.len() * (usize::from(names) + usize::from(values)));
    for (name, value) in &entries {
        if names {
            c.reply.bulk(name);
        }
        if values {
            c.reply.bulk(value);
        }
    }
    Ok(())
}

fn hdel(c: &mut Call<'_, '_>) -> Done {
    let mut count = 0;
    if let Some(hash) = c.hash(1)? {
        for field in &c.args[2..] {
            count += i64::from(hash.remove(c.ev, field)?.is_some());
        }
        let empty = hash.is_empty(c.ev)?;
        c.changed(1, empty)?;
    }
    c.reply.integer(count);
    Ok(())
}

fn hincrby(c: &mut Call<'_, '_>) -> Done {
    let more = c.integer(3)?;
    let hash = c.hash(1)?;
    let old = match &hash {
        Some(hash) => hash.get(c.ev, &c.args[2])?,
        None => None,
    };
    let old = old.map_or(Some(0), |text| number(&text)).ok_or("ERR hash value is not an integer")?;
    let new = old.checked_add(more).ok_or("ERR increment or decrement would overflow")?;
    c.make_hash(1)?.insert(c.ev, c.args[2].clone(), new.to_string().into_bytes())?;
    c.changed(1, false)?;
    c.reply.integer(new);
    Ok(())
}

fn push(c: &mut Call<'_, '_>, front: bool, make: bool) -> Done {
    let list = if make { Some(c.make_list(1)?) } else { c.list(1)? };
    let mut length = 0;
    if let Some(list) = list {
        for item in &c.args[2..] {
            list.push(c.ev, front, item.clone())?;
        }
        length = list.len(c.ev)?;
        c.changed(1, false)?;
    }
    c.reply.integer(length);
    Ok(())
}

fn pop(c: &mut Call<'_, '_>, front: bool) -> Done {
    let count = if c.args.len() > 2 { Some(c.integer(2)?) } else { None };
    if count.is_some_and(|count| count < 0) {
        return Err("ERR value is out of range, must be positive".into());
    }
    let Some(list) = c.list(1)? else {
        if count.is_some() {
            c.reply.nil_array()
        } else {
            c.reply.nil()
        }
        return Ok(());
    };
    let mut items = Vec::new();
    while (items.len() as i64) < count.unwrap_or(1) {
        match list.pop(c.ev, front)? {
            Some(item) => items.push(item),
            None => break,
        }
    }
    let empty = list.len(c.ev)? == 0;
    c.changed(1, empty)?;
    if count.is_some() {
        c.reply.bulks(&items)
    } else {
        c.reply.bulk_or_nil(items.first().map(Vec::as_slice))
    }
    Ok(())
}

/// Pops from the first list that has an item, or waits until one has, the time is over, or the client has gone.
fn blocking_pop(c: &mut Call<'_, '_>, front: bool) -> Done {
    let last = c.args.len() - 1;
    let timeout = c.float(last).map_err(|_| Problem::from("ERR timeout is not a float or out of range"))?;
    if !(0.0..1e9).contains(&timeout) {
        return Err("ERR timeout is negative".into());
    }
    for arg in 1..last {
        if let Some(list) = c.list(arg)?
            && let Some(item) = list.pop(c.ev, front)?
        {
            let empty = list.len(c.ev)? == 0;
            c.changed(arg, empty)?;
            c.reply.bulks(&[&c.args[arg], &item]);
            return Ok(());
        }
    }
    // The limit is kept with the client, because the event that waits runs anew whenever it is woken.
    let mut limit = c.client.limit.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let over = match &limit {
        Some(over) => over.get(c.ev)?,
        None => false,
    };
    if c.in_exec || over || c.connection.is_gone(c.ev)? {
        c.reply.nil_array();
        return Ok(());
    }
    if timeout > 0.0 && limit.is_none() {
        let over = limit.insert(TVar::new(false)).clone();
        // What is read now is what wakes the event.
        over.get(c.ev)?;
        *c.client.limit.lock().unwrap_or_else(PoisonError::into_inner) = limit;
        let queue = c.queue.clone();
        c.ev.on_abort(move || {
            queue.add_after(Duration::from_secs_f64(timeout), move |ev| Ok(over.set(ev, true)?));
        });
    }
    Ok(c.ev.retry()?)
}

fn lrange(c: &mut Call<'_, '_>) -> Done {
    let (start, stop) = (c.integer(2)?, c.integer(3)?);
    let items = match c.list(1)? {
        Some(list) => list.range(c.ev, start, stop)?,
        None => Vec::new(),
    };
    c.reply.bulks(&items);
    Ok(())
}

fn lset(c: &mut Call<'_, '_>) -> Done {
    let at = c.integer(2)?;
    let list = c.list(1)?.ok_or("ERR no such key")?;
    if !list.set(c.ev, at, c.args[3].clone())? {
        return Err("ERR index out of range".into());
    }
    c.changed(1, false)?;
    c.reply.ok();
    Ok(())
}

fn ltrim(c: &mut Call<'_, '_>) -> Done {
    let (start, stop) = (c.integer(2)?, c.integer(3)?);
    if let Some(list) = c.list(1)? {
        let items = list.range(c.ev, start, stop)?;
        let empty = items.is_empty();
        list.replace(c.ev, items)?;
        c.changed(1, empty)?;
    }
    c.reply.ok();
    Ok(())
}

fn lrem(c: &mut Call<'_, '_>) -> Done {
    let count = c.integer(2)?;
    let mut removed = 0;
    if let Some(list) = c.list(1)? {
        let mut items = list.range(c.ev, 0, -1)?;
        if count < 0 {
            items.reverse();
        }
        items.retain(|item| {
            let remove = *item == c.args[3] && (count == 0 || removed < count.abs());
            removed += i64::from(remove);
            !remove
        });
        if count < 0 {
            items.reverse();
        }
        if removed > 0 {
            let empty = items.is_empty();
            list.replace(c.ev, items)?;
            c.changed(1, empty)?;
        }
    }
    c.reply.integer(removed);
    Ok(())
}

fn sadd(c: &mut Call<'_, '_>) -> Done {
    let members = c.make_members(1)?;
    let mut added = 0;
    for member in &c.args[2..] {
        added += i64::from(members.insert(c.ev, member.clone(), ())?.is_none());
    }
    if added > 0 {
        c.changed(1, false)?;
    }
    c.reply.integer(added);
    Ok(())
}

fn srem(c: &mut Call<'_, '_>) -> Done {
    let mut removed = 0;
    if let Some(members) = c.members(1)? {
        for member in &c.args[2..] {
            removed += i64::from(members.remove(c.ev, member)?.is_some());
        }
        let empty = members.is_empty(c.ev)?;
        c.changed(1, empty)?;
    }
    c.reply.integer(removed);
    Ok(())
}

fn random_members(c: &mut Call<'_, '_>, remove: bool) -> Done {
    let count = if c.args.len() > 2 { Some(c.integer(2)?) } else { None };
    let mut all = c.member_list(1)?;
    let mut chosen = Vec::new();
    let wanted = count.unwrap_or(1).unsigned_abs() as usize;
    let repeats = count.is_some_and(|count| count < 0);
    if remove && repeats {
        return Err("ERR value is out of range, must be positive".into());
    }
    while chosen.len() < wanted && !all.is_empty() {
        let at = (c.ev.random() % all.len() as u64) as usize;
        chosen.push(if repeats { all[at].clone() } else { all.swap_remove(at) });
    }
    if remove && let Some(members) = c.members(1)? {
        for member in &chosen {
            members.remove(c.ev, member)?;
        }
        let empty = members.is_empty(c.ev)?;
        c.changed(1, empty)?;
    }
    if count.is_some() {
        c.reply.bulks(&chosen)
    } else {
        c.reply.bulk_or_nil(chosen.first().map(Vec::as_slice))
    }
    Ok(())
}

/// The members of the first set that are to be kept, given the others; with `all`, the others' members as well.
fn combine(c: &mut Call<'_, '_>, keep: fn(&[Vec<Bytes>], &Bytes) -> bool, all: bool) -> Done {
    let mut result = c.member_list(1)?;
    let mut others = Vec::new();
    for arg in 2..c.args.len() {
        others.push(c.member_list(arg)?);
    }
    result.retain(|member| keep(&others, member));
    if all {
        result.extend(others.into_iter().flatten());
        result.sort_unstable();
        result.dedup();
    }
    c.reply.bulks(&result);
    Ok(())
}

fn zadd(c: &mut Call<'_, '_>) -> Done {
    let mut first = 2;
    let (mut only_new, mut only_old, mut changed_too, mut increment) = (false, false, false, false);
    while first < c.args.len() {
        match c.word(first).as_str() {
            "NX" => only_new = true,
            "XX" => only_old = true,
            "CH" => changed_too = true,
            "INCR" => increment = true,
            _ => break,
        }
        first += 1;
    }
    let pairs = c.args.len() - first;
    if pairs == 0 || pairs % 2 == 1 || (only_new && only_old) || increment {
        return Err(SYNTAX.into());
    }
    let scores: Vec<f64> = (first..c.args.len()).step_by(2).map(|arg| c.float(arg)).collect::<Done<_>>()?;
    let existing = c.sorted(1)?;
    let mut count = 0;
    if existing.is_some() || !only_old {
        let sorted = c.make_sorted(1)?;
        for (pair, score) in c.args[first..].chunks(2).zip(scores) {
            let old = sorted.get(c.ev, &pair[1])?;
            if (only_new && old.is_some()) || (only_old && old.is_none()) {
                continue;
            }
            sorted.insert(c.ev, pair[1].clone(), score)?;
            count += i64::from(old.is_none() || (changed_too && old != Some(score)));
        }
        c.changed(1, false)?;
    }
    c.reply.integer(count);
    Ok(())
}

fn zincrby(c: &mut Call<'_, '_>) -> Done {
    let more = c.float(2)?;
    let old = match c.sorted(1)? {
        Some(sorted) => sorted.get(c.ev, &c.args[3])?,
        None => None,
    };
    let new = old.unwrap_or(0.0) + more;
    if new.is_nan() {
        return Err("ERR resulting score is not a number (NaN)".into());
    }
    c.make_sorted(1)?.insert(c.ev, c.args[3].clone(), new)?;
    c.changed(1, false)?;
    c.reply.bulk(&float(new));
    Ok(())
}

fn zrem(c: &mut Call<'_, '_>) -> Done {
    let mut removed = 0;
    if let Some(sorted) = c.sorted(1)? {
        for member in &c.args[2..] {
            removed += i64::from(sorted.remove(c.ev, member)?.is_some());
        }
        let empty = sorted.is_empty(c.ev)?;
        c.changed(1, empty)?;
    }
    c.reply.integer(removed);
    Ok(())
}

/// The members by score, then by name.
fn by_score(c: &mut Call<'_, '_>) -> Done<Vec<(Bytes, f64)>> {
    let Some(sorted) = c.sorted(1)? else { return Ok(Vec::new()) };
    let mut all = sorted.entries(c.ev)?;
    all.sort_unstable_by(|(a, x), (b, y)| x.total_cmp(y).then_with(|| a.cmp(b)));
    Ok(all)
}

fn zrank(c: &mut Call<'_, '_>) -> Done {
    let rank = by_score(c)?.iter().position(|(member, _)| *member == c.args[2]);
    match rank {
        Some(rank) => c.reply.integer(rank as i64),
        None => c.reply.nil(),
    }
    Ok(())
}

fn zrange(c: &mut Call<'_, '_>) -> Done {
    let (start, stop) = (c.integer(2)?, c.integer(3)?);
    let (mut scores, mut reversed) = (false, false);
    for arg in 4..c.args.len() {
        match c.word(arg).as_str() {
            "WITHSCORES" => scores = true,
            "REV" => reversed = true,
            _ => return Err(SYNTAX.into()),
        }
    }
    let mut all = by_score(c)?;
    if reversed {
        all.reverse();
    }
    let range = clamp(start, stop, all.len() as i64);
    let chosen = range.map_or(&[][..], |(start, stop)| &all[start as usize..=stop as usize]);
    scored(c.reply, chosen, scores);
    Ok(())
}

fn scored(reply: &mut Reply, members: &[(Bytes, f64)], scores: bool) {
    reply.array(members.len() * (1 + usize::from(scores)));
    for (member, score) in members {
        reply.bulk(member);
        if scores {
            reply.bulk(&float(*score));
        }
    }
}

fn zpop(c: &mut Call<'_, '_>, largest: bool) -> Done {
    let count = if c.args.len() > 2 { c.integer(2)? } else { 1 };
    let count = usize::try_from(count).map_err(|_| Problem::from("ERR value is out of range, must be positive"))?;
    let mut all = by_score(c)?;
    if largest {
        all.reverse();
    }
    all.truncate(count);
    if let Some(sorted) = c.sorted(1)? {
        for (member, _) in &all {
            sorted.remove(c.ev, member)?;
        }
        let empty = sorted.is_empty(c.ev)?;
        c.changed(1, empty)?;
    }
    scored(c.reply, &all, true);
    Ok(())
}

fn publish(c: &mut Call<'_, '_>) -> Done {
    let members = c.store.channels.get(c.ev, &c.args[1])?.unwrap_or_default();
    let mut message = Reply::default();
    message.bulks(&[b"message".as_slice(), &c.args[1], &c.args[2]]);
    for member in &members {
        member.send(c.ev, &message.0)?;
    }
    c.reply.integer(members.len() as i64);
    Ok(())
}
