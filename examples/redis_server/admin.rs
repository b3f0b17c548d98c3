//! Commands about the server: INFO, CONFIG, CLIENT, COMMAND, OBJECT, DEBUG.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::call::{Call, Done, SYNTAX, error};
use crate::glob::matches;
use crate::numbers::integer;
use crate::server::Config;
use crate::session::Client;
use crate::table::flags;
use crate::value::{Item, Value};

pub(crate) fn ping(call: &mut Call<'_, '_>) -> Done {
    match call.args {
        [_] => call.reply.simple("PONG"),
        [_, text] => call.reply.bulk(text),
        _ => return error("ERR wrong number of arguments for 'ping' command"),
    }
    Ok(())
}

pub(crate) fn echo(call: &mut Call<'_, '_>) -> Done {
    call.reply.bulk(call.args[1]);
    Ok(())
}

pub(crate) fn time(call: &mut Call<'_, '_>) -> Done {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    call.reply.array(2);
    call.reply.text(&time.as_secs().to_string());
    call.reply.text(&time.subsec_micros().to_string());
    Ok(())
}

/// Commands that have nothing to do here and say so politely, since clients and tools send them.
pub(crate) fn nothing(call: &mut Call<'_, '_>) -> Done {
    call.reply.ok();
    Ok(())
}

pub(crate) fn zero(call: &mut Call<'_, '_>) -> Done {
    call.reply.integer(0);
    Ok(())
}

pub(crate) fn empty(call: &mut Call<'_, '_>) -> Done {
    if call.is(1, "RESET") || call.is(1, "FLUSH") {
        call.reply.ok()
    } else {
        call.reply.array(0)
    }
    Ok(())
}

pub(crate) fn role(call: &mut Call<'_, '_>) -> Done {
    call.reply.array(3);
    call.reply.text("master");
    call.reply.integer(0);
    call.reply.array(0);
    Ok(())
}

pub(crate) fn info(call: &mut Call<'_, '_>) -> Done {
    let server = call.server;
    let wanted: Vec<String> =
        call.args[1..].iter().map(|section| String::from_utf8_lossy(section).to_ascii_lowercase()).collect();
    let has = |section: &str| {
        wanted.is_empty()
            || wanted.iter().any(|own| matches!(own.as_str(), "all" | "default" | "everything") || own == section)
    };
    let mut text = String::new();
    let mut section = |name: &str, lines: &[(&str, String)]| {
        if has(&name.to_ascii_lowercase()) {
            let blank = if text.is_empty() { "" } else { "\r\n" };
            let _ = write!(text, "{blank}# {name}\r\n");
            for (key, value) in lines {
                let _ = write!(text, "{key}:{value}\r\n");
            }
        }
    };
    let uptime = server.started.elapsed().as_secs();
    section(
        "Server",
        &[
            ("redis_version", crate::VERSION.into()),
            ("redis_mode", "standalone".into()),
            ("os", std::env::consts::OS.into()),
            ("arch_bits", usize::BITS.to_string()),
            ("process_id", std::process::id().to_string()),
            ("run_id", server.run_id.clone()),
            ("tcp_port", server.port.to_string()),
            ("uptime_in_seconds", uptime.to_string()),
            ("io_threads_active", server.threads.to_string()),
        ],
    );
    if has("clients") {
        let clients = server.clients.len(call.tx)?;
        section(
            "Clients",
            &[
                ("connected_clients", clients.to_string()),
                ("blocked_clients", server.blocked.load(Ordering::Relaxed).to_string()),
            ],
        );
    }
    let memory = resident();
    let max_memory = server.config.values.get(call.tx)?.get("maxmemory").cloned().unwrap_or_default();
    section(
        "Memory",
        &[("used_memory", memory.to_string()), ("used_memory_rss", memory.to_string()), ("maxmemory", max_memory)],
    );
    let log = server.log.is_some();
    let broken = server.log_broken.load(Ordering::Relaxed);
    section(
        "Persistence",
        &[
            ("loading", "0".into()),
            ("aof_enabled", i32::from(log).to_string()),
            ("aof_last_write_status", if broken { "err" } else { "ok" }.into()),
        ],
    );
    let commands: u64 = server.commands.iter().map(|count| count.0.load(Ordering::Relaxed)).sum();
    let statistics = optimist::stm::statistics();
    let channels = server.subscriptions.channels.len(call.tx)?;
    section(
        "Stats",
        &[
            ("total_connections_received", server.connections_received.load(Ordering::Relaxed).to_string()),
            ("total_commands_processed", commands.to_string()),
            ("expired_keys", server.expired.load(Ordering::Relaxed).to_string()),
            ("evicted_keys", "0".into()),
            ("pubsub_channels", channels.to_string()),
        ],
    );
    section("Transactions", &[("statistics", format!("{statistics:?}"))]);
    section("Replication", &[("role", "master".into()), ("connected_slaves", "0".into())]);
    if has("keyspace") {
        let mut lines = Vec::new();
        for number in 0..crate::server::DATABASES {
            let db = server.database(call.tx, number)?;
            let keys = server.dbs[db].len(call.tx)?;
            if keys > 0 {
                let expires = server.expiring[db].get(call.tx)?;
                lines.push((format!("db{number}"), format!("keys={keys},expires={expires}")));
            }
        }
        let lines: Vec<(&str, String)> = lines.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        section("Keyspace", &lines);
    }
    call.reply.verbatim(&text);
    Ok(())
}

/// The memory of the process, in bytes.
pub(crate) fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 4096
}

pub(crate) fn config(call: &mut Call<'_, '_>) -> Done {
    let server = call.server;
    if call.is(1, "GET") && call.args.len() >= 3 {
        let values = server.config.values.get(call.tx)?;
        let mut found: Vec<(String, String)> = Vec::new();
        for pattern in &call.args[2..] {
            let pattern = pattern.to_ascii_lowercase();
            for (name, value) in &values {
                let older = name.replace("listpack", "ziplist");
                for name in [name, &older] {
                    if matches(&pattern, name.as_bytes()) && !found.iter().any(|(own, _)| own == name) {
                        found.push((name.clone(), value.clone()));
                    }
                }
            }
        }
        call.reply.map(found.len());
        for (name, value) in found {
            call.reply.text(&name);
            call.reply.text(&value);
        }
    } else if call.is(1, "SET") && call.args.len() >= 4 && call.args.len().is_multiple_of(2) {
        let mut values = server.config.values.get(call.tx)?;
        let mut changes = Vec::new();
        for pair in call.args[2..].chunks_exact(2) {
            let (name, value) = (String::from_utf8_lossy(pair[0]), String::from_utf8_lossy(pair[1]));
            let own = Config::canonical(&name);
            if !values.contains_key(&own) {
                return error(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
            }
            match Config::check(&own, &value) {
                Ok(value) => changes.push((own, value)),
                Err(text) => {
                    return error(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {text}"));
                }
            }
        }
        for (name, value) in &changes {
            values.insert(name.clone(), value.clone());
        }
        server.config.values.set(call.tx, values)?;
        changes.iter().for_each(|(name, value)| server.config.apply(name, value));
        call.reply.ok();
    } else if call.is(1, "RESETSTAT") || call.is(1, "REWRITE") {
        call.reply.ok();
    } else {
        return unknown_subcommand(call);
    }
    Ok(())
}

fn unknown_subcommand<T>(call: &Call<'_, '_>) -> Done<T> {
    let name = String::from_utf8_lossy(call.arg(0)).to_ascii_uppercase();
    let sub = String::from_utf8_lossy(call.args.get(1).copied().unwrap_or_default()).into_owned();
    error(format!("ERR unknown subcommand or wrong number of arguments for '{sub}'. Try {name} HELP."))
}

fn describe(client: &Client, name: &[u8], db: usize) -> String {
    format!(
        "id={} addr={} laddr=127.0.0.1:0 fd=0 name={} age={} idle=0 flags={} db={db} sub=0 psub=0 ssub=0 multi=-1 watch=0 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem={} tot-mem=0 events=r cmd=client|list user=default redir=-1 resp=2",
        client.id,
        client.peer,
        String::from_utf8_lossy(name),
        client.since.elapsed().as_secs(),
        if client.blocked.load(Ordering::Relaxed) { "b" } else { "N" },
        client.outbox.as_ref().map_or(0, |outbox| outbox.waiting()),
    )
}

/// The subcommands of CLIENT that are events.
pub(crate) fn client(call: &mut Call<'_, '_>) -> Done {
    let (server, own) = (call.server, call.client);
    match () {
        () if call.is(1, "ID") => call.reply.integer(own.id as i64),
        () if call.is(1, "GETNAME") => {
            let name = own.name.get(call.tx)?;
            call.reply.bulk(&name);
        }
        () if call.is(1, "INFO") => {
            let name = own.name.get(call.tx)?;
            call.reply.verbatim(&format!("{}\n", describe(own, &name, call.db)));
        }
        () if call.is(1, "LIST") => {
            let mut wanted: Option<Vec<u64>> = None;
            if call.args.len() > 2 {
                if call.is(2, "ID") && call.args.len() > 3 {
                    let ids = call.args[3..].iter().map(|id| integer(id).and_then(|id| u64::try_from(id).ok()));
                    match ids.collect() {
                        Some(ids) => wanted = Some(ids),
                        None => return error("ERR Invalid client ID"),
                    }
                } else if !(call.is(2, "TYPE") && call.args.len() == 4) {
                    return error(SYNTAX);
                }
            }
            let mut clients: Vec<Arc<Client>> =
                server.clients.entries(call.tx)?.into_iter().map(|(_, client)| client).collect();
            clients.retain(|client| wanted.as_ref().is_none_or(|wanted| wanted.contains(&client.id)));
            clients.sort_by_key(|client| client.id);
            let mut text = String::new();
            for client in clients {
                let name = client.name.get(call.tx)?;
                let _ = writeln!(text, "{}", describe(&client, &name, 0));
            }
            call.reply.verbatim(&text);
        }
        () if call.is(1, "UNBLOCK") && matches!(call.args.len(), 3 | 4) => {
            let id = call.integer(2)?;
            let how = match () {
                () if call.args.len() == 3 || call.is(3, "TIMEOUT") => 1,
                () if call.is(3, "ERROR") => 2,
                () => return error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
            };
            let client = server.clients.get(call.tx, &(id as u64))?;
            let blocked = client.filter(|client| client.blocked.load(Ordering::Relaxed));
            if let Some(client) = &blocked {
                client.unblock.set(call.tx, how)?;
            }
            call.reply.integer(i64::from(blocked.is_some()));
        }
        () if call.is(1, "KILL") && call.args.len() >= 3 => {
            let clients = server.clients.entries(call.tx)?;
            let old = call.args.len() == 3;
            let mut count = 0;
            for (_, client) in clients {
                let filter = |at: usize| {
                    let value = call.args.get(at + 1).copied().unwrap_or_default();
                    match () {
                        () if call.is(at, "ID") => integer(value) == Some(client.id as i64),
                        () if call.is(at, "ADDR") => client.peer.as_bytes() == value,
                        () if call.is(at, "SKIPME") => value.eq_ignore_ascii_case(b"no") || client.id != own.id,
                        () => true,
                    }
                };
                let hit = if old {
                    client.peer.as_bytes() == call.arg(2)
                } else {
                    (2..call.args.len()).step_by(2).all(filter)
                };
                if hit {
                    count += 1;
                    call.effects.kills.extend(client.outbox.clone());
                }
            }
            match (old, count) {
                (true, 0) => return error("ERR No such client"),
                (true, _) => call.reply.ok(),
                (false, count) => call.reply.integer(count),
            }
        }
        () if call.is(1, "GETREDIR") => call.reply.integer(-1),
        () if call.is(1, "NO-EVICT")
            || call.is(1, "NO-TOUCH")
            || call.is(1, "SETINFO")
            || call.is(1, "PAUSE")
            || call.is(1, "UNPAUSE") =>
        {
            call.reply.ok();
        }
        () => return unknown_subcommand(call),
    }
    Ok(())
}

pub(crate) fn command(call: &mut Call<'_, '_>) -> Done {
    let all = crate::table::COMMANDS;
    if call.args.len() == 1 || call.is(1, "INFO") || call.is(1, "DOCS") {
        let names: Vec<String> = if call.args.len() > 2 {
            call.args[2..].iter().map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).collect()
        } else {
            all.iter().map(|command| command.name.to_owned()).collect()
        };
        if call.is(1, "DOCS") {
            call.reply.map(0);
            return Ok(());
        }
        call.reply.array(names.len());
        for name in names {
            let Some(command) = all.iter().find(|command| command.name == name) else {
                call.reply.null_array();
                continue;
            };
            call.reply.array(6);
            call.reply.text(command.name);
            call.reply.integer(command.arity.into());
            call.reply.set(1);
            call.reply.simple(if command.flags & flags::WRITE != 0 { "write" } else { "readonly" });
            for number in [command.keys.0, command.keys.1, command.keys.2] {
                call.reply.integer(number.into());
            }
        }
    } else if call.is(1, "COUNT") {
        call.reply.integer(all.len() as i64);
    } else if call.is(1, "LIST") {
        call.reply.array(all.len());
        all.iter().for_each(|command| call.reply.text(command.name));
    } else if call.is(1, "GETKEYS") && call.args.len() > 2 {
        let words = &call.args[2..];
        let command = match crate::table::find(words) {
            Ok(command) if command.keys.0 > 0 => command,
            Ok(_) => return error("ERR The command has no key arguments"),
            Err(_) => return error("ERR Invalid command specified"),
        };
        let (first, last, step) = command.keys;
        let last = if last < 0 { words.len() as i32 + last } else { last };
        let keys: Vec<&[u8]> =
            (first..=last).step_by(step.max(1) as usize).filter_map(|at| words.get(at as usize).copied()).collect();
        call.reply.array(keys.len());
        keys.iter().for_each(|key| call.reply.bulk(key));
    } else {
        return unknown_subcommand(call);
    }
    Ok(())
}

/// The name of the representation that Redis would use for a value; here there is one per type, but clients' tests look at it.
fn encoding(call: &mut Call<'_, '_>, item: &Item) -> Done<&'static str> {
    let values = call.server.config.values.get(call.tx)?;
    let setting = |name: &str| values.get(name).and_then(|value| value.parse::<i64>().ok()).unwrap_or(0);
    let small = |count: usize, longest: usize, kind: &str| {
        count as i64 <= setting(&format!("{kind}-max-listpack-entries"))
            && longest as i64 <= setting(&format!("{kind}-max-listpack-value"))
    };
    Ok(match &item.value {
        Value::Str(value) => value.encoding(),
        Value::List(list) => {
            let limit = setting("list-max-listpack-size");
            let bytes: usize = list.iter().map(|value| value.len() + 4).sum();
            let fits = match limit {
                0.. => list.len() as i64 <= limit,
                _ => bytes <= (2048 << limit.unsigned_abs().min(5)),
            };
            if fits { "listpack" } else { "quicklist" }
        }
        Value::Hash(hash) => {
            let longest = hash.iter().map(|(field, value)| field.len().max(value.len())).max().unwrap_or(0);
            if small(hash.len(), longest, "hash") { "listpack" } else { "hashtable" }
        }
        Value::Set(set) => {
            let numbers = set.keys().all(|member| integer(member).is_some());
            let longest = set.keys().map(|member| member.len()).max().unwrap_or(0);
            if numbers && set.len() as i64 <= setting("set-max-intset-entries") {
                "intset"
            } else if small(set.len(), longest, "set") {
                "listpack"
            } else {
                "hashtable"
            }
        }
        Value::ZSet(zset) => {
            let longest = zset.members.keys().map(|member| member.len()).max().unwrap_or(0);
            if small(zset.len(), longest, "zset") { "listpack" } else { "skiplist" }
        }
    })
}

pub(crate) fn object(call: &mut Call<'_, '_>) -> Done {
    if call.is(1, "HELP") || call.args.len() != 3 {
        return unknown_subcommand(call);
    }
    let Some(item) = call.get(call.args[2])? else {
        call.reply.null();
        return Ok(());
    };
    if call.is(1, "ENCODING") {
        let encoding = encoding(call, &item)?;
        call.reply.text(encoding);
    } else if call.is(1, "REFCOUNT") {
        call.reply.integer(references(&item.value));
    } else if call.is(1, "IDLETIME") {
        call.reply.integer(0);
    } else if call.is(1, "FREQ") {
        return error(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        );
    } else {
        return unknown_subcommand(call);
    }
    Ok(())
}

/// How many refer to a value, as Redis counts: small numbers are shared by all who hold them, which it tells by the largest count.
fn references(value: &Value) -> i64 {
    match value {
        Value::Str(text) if matches!(integer(text), Some(0..10_000)) => i32::MAX.into(),
        _ => 1,
    }
}

pub(crate) fn memory(call: &mut Call<'_, '_>) -> Done {
    if call.is(1, "USAGE") && call.args.len() >= 3 {
        match call.get(call.args[2])? {
            None => call.reply.null(),
            Some(item) => call.reply.integer(64 + size(&item.value) as i64),
        }
        return Ok(());
    }
    call.reply.ok();
    Ok(())
}

fn size(value: &Value) -> usize {
    match value {
        Value::Str(value) => value.len(),
        Value::List(list) => list.iter().map(|value| value.len() + 32).sum(),
        Value::Hash(hash) => hash.iter().map(|(field, value)| field.len() + value.len() + 64).sum(),
        Value::Set(set) => set.keys().map(|member| member.len() + 48).sum(),
        Value::ZSet(zset) => zset.members.keys().map(|member| member.len() + 80).sum(),
    }
}

/// DEBUG: what the tests of others need, and the panic that tests of our own do.
pub(crate) fn debug(call: &mut Call<'_, '_>) -> Done {
    if call.is(1, "SLEEP") && call.args.len() == 3 {
        let seconds = call.float(2)?.clamp(0.0, 10.0);
        std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
    } else if call.is(1, "SET-ACTIVE-EXPIRE") && call.args.len() == 3 {
        call.server.active_expire.store(call.arg(2) == b"1", Ordering::Relaxed);
    } else if call.is(1, "OBJECT") && call.args.len() >= 3 {
        let Some(item) = call.get(call.args[2])? else { return error("ERR no such key") };
        let encoding = encoding(call, &item)?;
        let length = size(&item.value);
        let references = references(&item.value);
        call.reply.simple(&format!("Value at:0x0 refcount:{references} encoding:{encoding} serializedlength:{length} lru:0 lru_seconds_idle:0 ql_nodes:1 ql_listpack_max:-2 ql_compressed:0"));
        return Ok(());
    } else if call.is(1, "PROTOCOL") && call.args.len() == 3 {
        return protocol(call);
    } else if call.is(1, "PANIC") {
        panic!("as DEBUG PANIC has asked for");
    }
    call.reply.ok();
    Ok(())
}

/// Replies of each kind.
fn protocol(call: &mut Call<'_, '_>) -> Done {
    let resp3 = call.reply.resp3;
    match call.arg(2).to_ascii_lowercase().as_slice() {
        b"string" => call.reply.text("Hello World"),
        b"integer" => call.reply.integer(12345),
        b"double" => call.reply.double(f64::from(3141) / 1000.0),
        b"null" => call.reply.null(),
        b"array" | b"set" | b"map" => {
            let kind = call.arg(2).to_ascii_lowercase();
            match kind.as_slice() {
                b"array" => call.reply.array(3),
                b"set" => call.reply.set(3),
                _ => call.reply.map(3),
            }
            for number in 0..3 {
                call.reply.integer(number);
                if kind == b"map" {
                    boolean(call, number == 1);
                }
            }
        }
        b"true" => boolean(call, true),
        b"false" => boolean(call, false),
        b"bignum" if resp3 => call.reply.bytes.extend_from_slice(b"(1234567999999999999999999999999999999\r\n"),
        b"bignum" => call.reply.text("1234567999999999999999999999999999999"),
        b"verbatim" => call.reply.verbatim("This is a verbatim\nstring"),
        b"attrib" => {
            if resp3 {
                call.reply.bytes.extend_from_slice(b"|1\r\n");
                call.reply.text("key-popularity");
                call.reply.array(2);
                call.reply.text("key:123");
                call.reply.integer(90);
            }
            call.reply.text("Some real reply following the attribute");
        }
        b"push" if resp3 => {
            call.reply.push(2);
            call.reply.text("server-cpu-usage");
            call.reply.integer(42);
        }
        _ => {
            return error(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|null|array|set|map|attrib|push|verbatim|true|false",
            );
        }
    }
    Ok(())
}

fn boolean(call: &mut Call<'_, '_>, value: bool) {
    if call.reply.resp3 {
        call.reply.bytes.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" });
    } else {
        call.reply.integer(i64::from(value));
    }
}
