//! The one table of commands.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use optimist::dispatcher::reactor::Io;

use crate::call::{Call, Done};
use crate::session::Connection;
use crate::several::{DIFFERENCE, INTERSECTION, UNION};
use crate::{admin, connection, hashes, keys, lists, pubsub, scripts, sets, sorted_sets, strings};

/// What is special about a command.
pub(crate) mod flags {
    /// It may change the keyspace.
    pub(crate) const WRITE: u32 = 1;
    /// MULTI does not queue it.
    pub(crate) const UNQUEUED: u32 = 2;
    /// It cannot be part of a MULTI.
    pub(crate) const NOT_IN_MULTI: u32 = 4;
    /// A RESP2 connection that has subscribed may send it.
    pub(crate) const SUBSCRIBED: u32 = 8;
    /// It may block, or takes long: its event has no other command.
    pub(crate) const ALONE: u32 = 16;
    /// MULTI.
    pub(crate) const BEGINS: u32 = 32;
    /// It may be run when there is too much memory in use, though it changes the keyspace.
    pub(crate) const SHRINKS: u32 = 256;
    /// EXEC.
    pub(crate) const ENDS: u32 = 64;
    /// It runs scripts or manages them: no script may call it.
    pub(crate) const NO_SCRIPT: u32 = 128;
}

pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// How many words it has, its name included; negative for at least as many.
    pub(crate) arity: i32,
    pub(crate) flags: u32,
    /// The first and last word that are keys, and the step between them.
    pub(crate) keys: (i32, i32, i32),
    pub(crate) run: Run,
}

impl Command {
    pub(crate) fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// How a command is run.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// As an event.
    Event(fn(&mut Call<'_, '_>) -> Done),
    /// By the connection, which may run events.
    Session(fn(&mut Connection, &[&[u8]], &mut Io<'_>)),
}

const fn event(
    name: &'static str,
    arity: i32,
    flags: u32,
    keys: (i32, i32, i32),
    run: fn(&mut Call<'_, '_>) -> Done,
) -> Command {
    Command { name, arity, flags, keys, run: Run::Event(run) }
}

const fn session(
    name: &'static str,
    arity: i32,
    flags: u32,
    run: fn(&mut Connection, &[&[u8]], &mut Io<'_>),
) -> Command {
    Command { name, arity, flags, keys: (0, 0, 0), run: Run::Session(run) }
}

/// Scripts take long, and do not call one another.
const SCRIPT: u32 = flags::ALONE | flags::NO_SCRIPT;

/// All commands.
#[rustfmt::skip]
pub(crate) static COMMANDS: &[Command] = &[
    event("get", 2, 0, (1, 1, 1), strings::get),
    event("set", -3, flags::WRITE, (1, 1, 1), strings::set),
    event("setnx", 3, flags::WRITE, (1, 1, 1), strings::setnx),
    event("setex", 4, flags::WRITE, (1, 1, 1), strings::setex),
    event("psetex", 4, flags::WRITE, (1, 1, 1), strings::psetex),
    event("getset", 3, flags::WRITE, (1, 1, 1), strings::getset),
    event("getdel", 2, flags::WRITE | flags::SHRINKS, (1, 1, 1), strings::getdel),
    event("getex", -2, flags::WRITE | flags::SHRINKS, (1, 1, 1), strings::getex),
    event("mget", -2, 0, (1, -1, 1), strings::mget),
    event("mset", -3, flags::WRITE, (1, -1, 2), strings::mset),
    event("msetnx", -3, flags::WRITE, (1, -1, 2), strings::msetnx),
    event("append", 3, flags::WRITE, (1, 1, 1), strings::append),
    event("strlen", 2, 0, (1, 1, 1), strings::strlen),
    event("incr", 2, flags::WRITE, (1, 1, 1), strings::incr),
    event("decr", 2, flags::WRITE, (1, 1, 1), strings::decr),
    event("incrby", 3, flags::WRITE, (1, 1, 1), strings::incrby),
    event("decrby", 3, flags::WRITE, (1, 1, 1), strings::decrby),
    event("incrbyfloat", 3, flags::WRITE, (1, 1, 1), strings::incrbyfloat),
    event("getrange", 4, 0, (1, 1, 1), strings::getrange),
    event("substr", 4, 0, (1, 1, 1), strings::getrange),
    event("setrange", 4, flags::WRITE, (1, 1, 1), strings::setrange),
    event("setbit", 4, flags::WRITE, (1, 1, 1), strings::setbit),
    event("getbit", 3, 0, (1, 1, 1), strings::getbit),
    event("bitcount", -2, 0, (1, 1, 1), strings::bitcount),
    event("lcs", -3, flags::ALONE, (1, 2, 1), strings::lcs),
    event("hset", -4, flags::WRITE, (1, 1, 1), hashes::hset),
    event("hmset", -4, flags::WRITE, (1, 1, 1), hashes::hmset),
    event("hsetnx", 4, flags::WRITE, (1, 1, 1), hashes::hsetnx),
    event("hget", 3, 0, (1, 1, 1), hashes::hget),
    event("hmget", -3, 0, (1, 1, 1), hashes::hmget),
    event("hdel", -3, flags::WRITE | flags::SHRINKS, (1, 1, 1), hashes::hdel),
    event("hlen", 2, 0, (1, 1, 1), hashes::hlen),
    event("hexists", 3, 0, (1, 1, 1), hashes::hexists),
    event("hstrlen", 3, 0, (1, 1, 1), hashes::hstrlen),
    event("hgetall", 2, 0, (1, 1, 1), hashes::hgetall),
    event("hkeys", 2, 0, (1, 1, 1), hashes::hkeys),
    event("hvals", 2, 0, (1, 1, 1), hashes::hvals),
    event("hincrby", 4, flags::WRITE, (1, 1, 1), hashes::hincrby),
    event("hincrbyfloat", 4, flags::WRITE, (1, 1, 1), hashes::hincrbyfloat),
    event("hrandfield", -2, 0, (1, 1, 1), hashes::hrandfield),
    event("hscan", -3, 0, (1, 1, 1), keys::hscan),
    event("lpush", -3, flags::WRITE, (1, 1, 1), lists::lpush),
    event("rpush", -3, flags::WRITE, (1, 1, 1), lists::rpush),
    event("lpushx", -3, flags::WRITE, (1, 1, 1), lists::lpushx),
    event("rpushx", -3, flags::WRITE, (1, 1, 1), lists::rpushx),
    event("lpop", -2, flags::WRITE | flags::SHRINKS, (1, 1, 1), lists::lpop),
    event("rpop", -2, flags::WRITE | flags::SHRINKS, (1, 1, 1), lists::rpop),
    event("llen", 2, 0, (1, 1, 1), lists::llen),
    event("lrange", 4, 0, (1, 1, 1), lists::lrange),
    event("lindex", 3, 0, (1, 1, 1), lists::lindex),
    event("lset", 4, flags::WRITE, (1, 1, 1), lists::lset),
    event("ltrim", 4, flags::WRITE | flags::SHRINKS, (1, 1, 1), lists::ltrim),
    event("lrem", 4, flags::WRITE | flags::SHRINKS, (1, 1, 1), lists::lrem),
    event("linsert", 5, flags::WRITE, (1, 1, 1), lists::linsert),
    event("lpos", -3, 0, (1, 1, 1), lists::lpos),
    event("lmove", 5, flags::WRITE, (1, 2, 1), lists::lmove),
    event("rpoplpush", 3, flags::WRITE, (1, 2, 1), lists::rpoplpush),
    event("blmove", 6, flags::WRITE | flags::ALONE, (1, 2, 1), lists::blmove),
    event("brpoplpush", 4, flags::WRITE | flags::ALONE, (1, 2, 1), lists::brpoplpush),
    event("blpop", -3, flags::WRITE | flags::SHRINKS | flags::ALONE, (1, -2, 1), lists::blpop),
    event("brpop", -3, flags::WRITE | flags::SHRINKS | flags::ALONE, (1, -2, 1), lists::brpop),
    event("lmpop", -4, flags::WRITE | flags::SHRINKS, (0, 0, 0), lists::lmpop),
    event("blmpop", -5, flags::WRITE | flags::SHRINKS | flags::ALONE, (0, 0, 0), lists::blmpop),
    event("sadd", -3, flags::WRITE, (1, 1, 1), sets::sadd),
    event("srem", -3, flags::WRITE | flags::SHRINKS, (1, 1, 1), sets::srem),
    event("smove", 4, flags::WRITE | flags::SHRINKS, (1, 2, 1), sets::smove),
    event("sismember", 3, 0, (1, 1, 1), sets::sismember),
    event("smismember", -3, 0, (1, 1, 1), sets::smismember),
    event("scard", 2, 0, (1, 1, 1), sets::scard),
    event("smembers", 2, 0, (1, 1, 1), sets::smembers),
    event("spop", -2, flags::WRITE | flags::SHRINKS, (1, 1, 1), sets::spop),
    event("srandmember", -2, 0, (1, 1, 1), sets::srandmember),
    event("sunion", -2, flags::ALONE, (1, -1, 1), sets::combined::<UNION>),
    event("sinter", -2, flags::ALONE, (1, -1, 1), sets::combined::<INTERSECTION>),
    event("sdiff", -2, flags::ALONE, (1, -1, 1), sets::combined::<DIFFERENCE>),
    event("sunionstore", -3, flags::WRITE | flags::ALONE, (1, -1, 1), sets::stored::<UNION>),
    event("sinterstore", -3, flags::WRITE | flags::ALONE, (1, -1, 1), sets::stored::<INTERSECTION>),
    event("sdiffstore", -3, flags::WRITE | flags::ALONE, (1, -1, 1), sets::stored::<DIFFERENCE>),
    event("sintercard", -3, flags::ALONE, (0, 0, 0), sets::sintercard),
    event("sscan", -3, 0, (1, 1, 1), keys::sscan),
    event("zadd", -4, flags::WRITE, (1, 1, 1), sorted_sets::zadd),
    event("zincrby", 4, flags::WRITE, (1, 1, 1), sorted_sets::zincrby),
    event("zrem", -3, flags::WRITE | flags::SHRINKS, (1, 1, 1), sorted_sets::zrem),
    event("zcard", 2, 0, (1, 1, 1), sorted_sets::zcard),
    event("zscore", 3, 0, (1, 1, 1), sorted_sets::zscore),
    event("zmscore", -3, 0, (1, 1, 1), sorted_sets::zmscore),
    event("zrank", -3, 0, (1, 1, 1), sorted_sets::zrank),
    event("zrevrank", -3, 0, (1, 1, 1), sorted_sets::zrevrank),
    event("zrange", -4, 0, (1, 1, 1), sorted_sets::zrange),
    event("zrangestore", -5, flags::WRITE, (1, 2, 1), sorted_sets::zrangestore),
    event("zrevrange", -4, 0, (1, 1, 1), sorted_sets::zrevrange),
    event("zrangebyscore", -4, 0, (1, 1, 1), sorted_sets::zrangebyscore),
    event("zrevrangebyscore", -4, 0, (1, 1, 1), sorted_sets::zrevrangebyscore),
    event("zrangebylex", -4, 0, (1, 1, 1), sorted_sets::zrangebylex),
    event("zrevrangebylex", -4, 0, (1, 1, 1), sorted_sets::zrevrangebylex),
    event("zcount", 4, 0, (1, 1, 1), sorted_sets::zcount),
    event("zlexcount", 4, 0, (1, 1, 1), sorted_sets::zlexcount),
    event("zremrangebyrank", 4, flags::WRITE | flags::SHRINKS, (1, 1, 1), sorted_sets::zremrangebyrank),
    event("zremrangebyscore", 4, flags::WRITE | flags::SHRINKS, (1, 1, 1), sorted_sets::zremrangebyscore),
    event("zremrangebylex", 4, flags::WRITE | flags::SHRINKS, (1, 1, 1), sorted_sets::zremrangebylex),
    event("zpopmin", -2, flags::WRITE | flags::SHRINKS, (1, 1, 1), sorted_sets::zpopmin),
    event("zpopmax", -2, flags::WRITE | flags::SHRINKS, (1, 1, 1), sorted_sets::zpopmax),
    event("bzpopmin", -3, flags::WRITE | flags::SHRINKS | flags::ALONE, (1, -2, 1), sorted_sets::bzpopmin),
    event("bzpopmax", -3, flags::WRITE | flags::SHRINKS | flags::ALONE, (1, -2, 1), sorted_sets::bzpopmax),
    event("zmpop", -4, flags::WRITE | flags::SHRINKS, (0, 0, 0), sorted_sets::zmpop),
    event("bzmpop", -5, flags::WRITE | flags::SHRINKS | flags::ALONE, (0, 0, 0), sorted_sets::bzmpop),
    event("zrandmember", -2, 0, (1, 1, 1), sorted_sets::zrandmember),
    event("zunion", -3, flags::ALONE, (0, 0, 0), sorted_sets::combined::<UNION>),
    event("zinter", -3, flags::ALONE, (0, 0, 0), sorted_sets::combined::<INTERSECTION>),
    event("zdiff", -3, flags::ALONE, (0, 0, 0), sorted_sets::combined::<DIFFERENCE>),
    event("zunionstore", -4, flags::WRITE | flags::ALONE, (1, 1, 1), sorted_sets::stored::<UNION>),
    event("zinterstore", -4, flags::WRITE | flags::ALONE, (1, 1, 1), sorted_sets::stored::<INTERSECTION>),
    event("zdiffstore", -4, flags::WRITE | flags::ALONE, (1, 1, 1), sorted_sets::stored::<DIFFERENCE>),
    event("zintercard", -3, flags::ALONE, (0, 0, 0), sorted_sets::zintercard),
    event("zscan", -3, 0, (1, 1, 1), keys::zscan),
    event("del", -2, flags::WRITE | flags::SHRINKS, (1, -1, 1), keys::del),
    event("unlink", -2, flags::WRITE | flags::SHRINKS, (1, -1, 1), keys::del),
    event("exists", -2, 0, (1, -1, 1), keys::exists),
    event("touch", -2, 0, (1, -1, 1), keys::exists),
    event("type", 2, 0, (1, 1, 1), keys::kind),
    event("rename", 3, flags::WRITE | flags::SHRINKS, (1, 2, 1), keys::rename),
    event("renamenx", 3, flags::WRITE | flags::SHRINKS, (1, 2, 1), keys::renamenx),
    event("copy", -3, flags::WRITE, (1, 2, 1), keys::copy),
    event("move", 3, flags::WRITE | flags::SHRINKS, (1, 1, 1), keys::move_to),
    event("swapdb", 3, flags::WRITE | flags::SHRINKS, (0, 0, 0), keys::swapdb),
    event("dbsize", 1, 0, (0, 0, 0), keys::dbsize),
    event("keys", 2, flags::ALONE, (0, 0, 0), keys::keys),
    event("randomkey", 1, 0, (0, 0, 0), keys::randomkey),
    event("flushdb", -1, flags::WRITE | flags::SHRINKS | flags::ALONE, (0, 0, 0), keys::flushdb),
    event("flushall", -1, flags::WRITE | flags::SHRINKS | flags::ALONE, (0, 0, 0), keys::flushall),
    event("expire", -3, flags::WRITE | flags::SHRINKS, (1, 1, 1), keys::expire),
    event("pexpire", -3, flags::WRITE | flags::SHRINKS, (1, 1, 1), keys::pexpire),
    event("expireat", -3, flags::WRITE | flags::SHRINKS, (1, 1, 1), keys::expireat),
    event("pexpireat", -3, flags::WRITE | flags::SHRINKS, (1, 1, 1), keys::pexpireat),
    event("persist", 2, flags::WRITE | flags::SHRINKS, (1, 1, 1), keys::persist),
    event("ttl", 2, 0, (1, 1, 1), keys::ttl),
    event("pttl", 2, 0, (1, 1, 1), keys::pttl),
    event("expiretime", 2, 0, (1, 1, 1), keys::expiretime),
    event("pexpiretime", 2, 0, (1, 1, 1), keys::pexpiretime),
    event("dump", 2, flags::ALONE, (1, 1, 1), keys::dump),
    event("restore", -4, flags::WRITE | flags::ALONE, (1, 1, 1), keys::restore),
    event("scan", -2, 0, (0, 0, 0), keys::scan),
    event("sort", -2, flags::WRITE | flags::ALONE, (1, 1, 1), keys::sort),
    event("sort_ro", -2, flags::ALONE, (1, 1, 1), keys::sort),
    event("publish", 3, 0, (0, 0, 0), pubsub::publish),
    event("pubsub", -2, 0, (0, 0, 0), pubsub::pubsub),
    event("ping", -1, flags::SUBSCRIBED, (0, 0, 0), admin::ping),
    event("echo", 2, 0, (0, 0, 0), admin::echo),
    event("time", 1, 0, (0, 0, 0), admin::time),
    event("info", -1, flags::ALONE, (0, 0, 0), admin::info),
    event("config", -2, 0, (0, 0, 0), admin::config),
    event("command", -1, flags::ALONE, (0, 0, 0), admin::command),
    event("object", -2, 0, (2, 2, 1), admin::object),
    event("memory", -2, 0, (0, 0, 0), admin::memory),
    event("debug", -2, flags::ALONE | flags::NO_SCRIPT, (0, 0, 0), admin::debug),
    event("role", 1, 0, (0, 0, 0), admin::role),
    event("eval", -3, SCRIPT, (0, 0, 0), scripts::eval),
    event("eval_ro", -3, SCRIPT, (0, 0, 0), scripts::eval),
    event("evalsha", -3, SCRIPT, (0, 0, 0), scripts::evalsha),
    event("evalsha_ro", -3, SCRIPT, (0, 0, 0), scripts::evalsha),
    event("fcall", -3, SCRIPT, (0, 0, 0), scripts::fcall),
    event("fcall_ro", -3, SCRIPT, (0, 0, 0), scripts::fcall),
    event("function", -2, SCRIPT, (0, 0, 0), scripts::function),
    event("script", -2, SCRIPT, (0, 0, 0), scripts::script),
    event("slowlog", -2, 0, (0, 0, 0), admin::empty),
    event("latency", -2, 0, (0, 0, 0), admin::empty),
    event("wait", 3, 0, (0, 0, 0), admin::zero),
    event("lastsave", 1, 0, (0, 0, 0), admin::zero),
    event("save", 1, flags::ALONE | flags::NOT_IN_MULTI, (0, 0, 0), admin::nothing),
    event("bgsave", -1, 0, (0, 0, 0), admin::nothing),
    event("bgrewriteaof", 1, 0, (0, 0, 0), admin::nothing),
    session("select", 2, 0, connection::select),
    session("multi", 1, flags::UNQUEUED | flags::BEGINS, connection::multi),
    session("exec", 1, flags::UNQUEUED | flags::ENDS, connection::exec),
    session("discard", 1, flags::UNQUEUED, connection::discard),
    session("watch", -2, flags::UNQUEUED, connection::watch),
    session("unwatch", 1, 0, connection::unwatch),
    session("hello", -1, flags::NOT_IN_MULTI, connection::hello),
    session("auth", -2, flags::NOT_IN_MULTI, connection::auth),
    session("shutdown", -1, flags::NOT_IN_MULTI, connection::shutdown),
    session("quit", -1, flags::UNQUEUED | flags::SUBSCRIBED, connection::quit),
    session("reset", 1, flags::UNQUEUED | flags::SUBSCRIBED, connection::reset),
    session("client", -2, 0, connection::client),
    session("subscribe", -2, flags::NOT_IN_MULTI | flags::SUBSCRIBED, pubsub::subscribe_channels),
    session("unsubscribe", -1, flags::NOT_IN_MULTI | flags::SUBSCRIBED, pubsub::unsubscribe_channels),
    session("psubscribe", -2, flags::NOT_IN_MULTI | flags::SUBSCRIBED, pubsub::subscribe_patterns),
    session("punsubscribe", -1, flags::NOT_IN_MULTI | flags::SUBSCRIBED, pubsub::unsubscribe_patterns),
];

/// The subcommands of CLIENT that do not change the connection.
static CLIENT: Command = event("client", -2, 0, (0, 0, 0), admin::client);

static BY_NAME: LazyLock<HashMap<&str, &'static Command, foldhash::fast::RandomState>> =
    LazyLock::new(|| COMMANDS.iter().map(|command| (command.name, command)).collect());

/// The command that the words call.
///
/// # Errors
/// If there is none, or not with so many words.
pub(crate) fn find(words: &[&[u8]]) -> Result<&'static Command, Cow<'static, str>> {
    let mut lower = [0; 24];
    let name = words[0];
    let known = lower.get_mut(..name.len()).and_then(|lower| {
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        BY_NAME.get(std::str::from_utf8(lower).ok()?).copied()
    });
    let Some(command) = known else {
        let mut text = format!("ERR unknown command '{}', with args beginning with: ", shortened(name));
        for word in words[1..].iter().take(20) {
            if text.len() > 128 {
                break;
            }
            text.push_str(&format!("'{}' ", shortened(word)));
        }
        return Err(text.into());
    };
    let count = words.len() as i32;
    if command.arity >= 0 && count != command.arity || count < command.arity.abs() {
        return Err(format!("ERR wrong number of arguments for '{}' command", command.name).into());
    }
    Ok(command)
}

fn shortened(word: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&word[..word.len().min(128)])
}

/// CLIENT as an event.
pub(crate) fn client() -> &'static Command {
    &CLIENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_any_case() {
        assert_eq!(find(&[b"GeT", b"k"]).map(|command| command.name).ok(), Some("get"));
        assert_eq!(find(&[b"get"]).err().as_deref(), Some("ERR wrong number of arguments for 'get' command"));
        assert_eq!(
            find(&[b"nope", b"x"]).err().as_deref(),
            Some("ERR unknown command 'nope', with args beginning with: 'x' ")
        );
        assert_eq!(BY_NAME.len(), COMMANDS.len(), "a name appears twice");
        assert!(COMMANDS.iter().all(|command| command.name.len() <= 24));
    }
}
