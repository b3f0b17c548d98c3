//! What all connections share: the databases, who has subscribed to what, the settings, the log.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use optimist::dispatcher::Output;
use optimist::stm::collections::{Change, TCounter, TMap};
use optimist::stm::{Result, TVar, Tx};

use crate::log::Log;
use crate::pubsub::Subscriptions;
use crate::scripts::{Libraries, Script};
use crate::session::Client;
use crate::value::{Bytes, Item, Key};
use crate::waiting::Lines;

/// A database: every key an object of its own, so commands on different keys never meet.
pub(crate) type Database = TMap<Key, Item, foldhash::fast::RandomState>;

/// How many databases there are.
pub(crate) const DATABASES: usize = 16;

/// How many keys are freed at once of a database that was put aside.
const TIDIED: usize = 200;

pub(crate) struct Server {
    /// Two for each number's database: that `n` and `n + 16` are a pair lets one be emptied at leisure while the other is in use.
    pub(crate) dbs: Vec<Database>,
    /// How many keys of each have a time.
    pub(crate) expiring: Vec<TCounter>,
    /// Which pair of databases is behind which number, four bits each. SWAPDB changes it, everybody else reads it.
    order: TVar<u64>,
    /// Of each pair, a bit that says that the second is in use, and one, 16 higher, that says that the other has yet to be emptied.
    halves: TVar<u64>,
    /// How far the database that is being emptied has been scanned.
    tidied: TVar<u64>,
    pub(crate) config: Config,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) clients: TMap<u64, Arc<Client>>,
    /// Scripts by their SHA-1.
    pub(crate) scripts: TMap<Bytes, Arc<Script>>,
    pub(crate) libraries: TVar<Libraries>,
    /// Who waits for an element.
    pub(crate) lines: Lines,
    pub(crate) blocked: AtomicUsize,
    pub(crate) log: Option<Output>,
    /// The log could not be written.
    pub(crate) log_broken: AtomicBool,
    pub(crate) started: Instant,
    pub(crate) port: u16,
    pub(crate) threads: usize,
    pub(crate) run_id: String,
    /// Whether keys are removed when they expire, or only taken for gone.
    pub(crate) active_expire: AtomicBool,
    pub(crate) expired: AtomicU64,
    pub(crate) connections_received: AtomicU64,
    pub(crate) commands: [CommandCount; 64],
}

/// Commands run by one thread: each on a cache line of its own.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct CommandCount(pub(crate) AtomicU64);

impl Server {
    pub(crate) fn new(port: u16, threads: usize, log: Option<Log>) -> Self {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        let sync = log.as_ref().map(|log| log.sync.clone()).unwrap_or_default();
        let config = Config { sync, ..Config::default() };
        Server {
            dbs: (0..2 * DATABASES).map(|_| Database::default()).collect(),
            expiring: (0..2 * DATABASES).map(|_| TCounter::new(0)).collect(),
            order: TVar::new(0xFEDC_BA98_7654_3210),
            halves: TVar::new(0),
            tidied: TVar::new(0),
            config,
            subscriptions: Subscriptions::default(),
            clients: TMap::new(),
            scripts: TMap::new(),
            libraries: TVar::new(Libraries::default()),
            lines: Lines::default(),
            blocked: AtomicUsize::new(0),
            log: log.map(|log| log.output),
            log_broken: AtomicBool::new(false),
            started: Instant::now(),
            port,
            threads,
            run_id: format!("{:016x}{:024x}", seed, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            active_expire: AtomicBool::new(true),
            expired: AtomicU64::new(0),
            connections_received: AtomicU64::new(0),
            commands: std::array::from_fn(|_| CommandCount::default()),
        }
    }

    /// The database behind a number.
    pub(crate) fn database(&self, tx: &mut Tx<'_>, number: usize) -> Result<usize> {
        let pair = (self.order.get(tx)? >> (4 * number)) as usize & 15;
        Ok(pair + DATABASES * (self.halves.get(tx)? >> pair & 1) as usize)
    }

    /// The number of a database, if it is in use.
    pub(crate) fn number(&self, tx: &mut Tx<'_>, db: usize) -> Result<Option<usize>> {
        for number in 0..DATABASES {
            if self.database(tx, number)? == db {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Empties a database: it is put aside, and another taken into use. Only if that one has yet to be emptied itself, it takes long.
    pub(crate) fn clear(&self, tx: &mut Tx<'_>, db: usize) -> Result<()> {
        let (pair, halves) = (db % DATABASES, self.halves.get(tx)?);
        if halves >> (pair + DATABASES) & 1 == 0 {
            return self.halves.set(tx, halves ^ (1 | 1 << DATABASES) << pair);
        }
        self.dbs[db].clear(tx)?;
        self.expiring[db].set(tx, 0)
    }

    /// Takes a few keys out of a database that was put aside, and says whether there was one.
    pub(crate) fn tidy(&self, tx: &mut Tx<'_>) -> Result<bool> {
        let halves = self.halves.get(tx)?;
        let aside = halves >> DATABASES;
        if aside == 0 {
            return Ok(false);
        }
        let pair = aside.trailing_zeros() as usize;
        let db = pair + DATABASES * (halves >> pair & 1 ^ 1) as usize;
        let mut keys = Vec::new();
        let cursor = self.tidied.get(tx)?;
        let cursor = self.dbs[db].scan(tx, cursor, TIDIED, |key, _| keys.push(key.clone()))?;
        for key in &keys {
            self.dbs[db].edit(tx, &**key, |_| (Change::Remove, ()))?;
        }
        self.tidied.set(tx, cursor)?;
        if cursor == 0 {
            // What is left is the map's own structure.
            self.dbs[db].clear(tx)?;
            self.expiring[db].set(tx, 0)?;
            self.halves.set(tx, halves ^ 1 << (pair + DATABASES))?;
        }
        Ok(true)
    }

    /// Exchanges two numbers' databases.
    pub(crate) fn swap(&self, tx: &mut Tx<'_>, a: usize, b: usize) -> Result<()> {
        let order = self.order.get(tx)?;
        let change = (order >> (4 * a) ^ order >> (4 * b)) & 15;
        self.order.set(tx, order ^ change << (4 * a) ^ change << (4 * b))
    }

    /// A number that no change of a key had before. Threads take them by the block, so that they do not meet here.
    pub(crate) fn stamp(&self) -> u64 {
        static BLOCKS: AtomicU64 = AtomicU64::new(1);
        thread_local! {
            static NEXT: Cell<u64> = const { Cell::new(0) };
        }
        let next = NEXT.get();
        if next & 0xFFFF != 0 {
            NEXT.set(next + 1);
            return next;
        }
        // Relaxed: only uniqueness matters.
        let block = BLOCKS.fetch_add(1, Ordering::Relaxed) << 16;
        NEXT.set(block + 2);
        block + 1
    }

    /// The time in milliseconds since 1970.
    pub(crate) fn now() -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
    }
}

/// Settings. Those that commands look at all the time are kept as atomics beside the text.
pub(crate) struct Config {
    pub(crate) values: TVar<BTreeMap<String, String>>,
    notify: AtomicU32,
    pub(crate) max_bulk: AtomicU64,
    /// That of the log, if there is one.
    sync: Arc<AtomicBool>,
    /// `maxmemory`, 0 for none.
    max_memory: AtomicU64,
    /// Whether the process takes more than that.
    pub(crate) over_memory: AtomicBool,
}

/// Names and values at the start. Settings that have two names appear under both.
const SETTINGS: &[(&str, &str)] = &[
    ("appenddirname", "appendonlydir"),
    ("appendfilename", "appendonly.aof"),
    ("appendfsync", "everysec"),
    ("appendonly", "no"),
    ("bind", "127.0.0.1"),
    ("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"),
    ("client-query-buffer-limit", "1073741824"),
    ("databases", "16"),
    ("dir", "."),
    ("dbfilename", "dump.rdb"),
    ("hash-max-listpack-entries", "512"),
    ("hash-max-listpack-value", "64"),
    ("hz", "10"),
    ("key-load-delay", "0"),
    ("latency-tracking", "yes"),
    ("latency-tracking-info-percentiles", "50 99 99.9"),
    ("lazyfree-lazy-server-del", "no"),
    ("lazyfree-lazy-user-del", "no"),
    ("lfu-decay-time", "1"),
    ("list-compress-depth", "0"),
    ("list-max-listpack-size", "-2"),
    ("lua-time-limit", "5000"),
    ("maxclients", "10000"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("maxmemory-samples", "5"),
    ("min-replicas-to-write", "0"),
    ("min-slaves-to-write", "0"),
    ("notify-keyspace-events", ""),
    ("port", "0"),
    ("proto-max-bulk-len", "536870912"),
    ("rdb-key-save-delay", "0"),
    ("repl-diskless-load", "disabled"),
    ("repl-ping-replica-period", "10"),
    ("replica-read-only", "yes"),
    ("replica-serve-stale-data", "yes"),
    ("requirepass", ""),
    ("save", ""),
    ("set-max-intset-entries", "512"),
    ("set-max-listpack-entries", "128"),
    ("set-max-listpack-value", "64"),
    ("slave-read-only", "yes"),
    ("slowlog-log-slower-than", "10000"),
    ("slowlog-max-len", "128"),
    ("stream-node-max-entries", "100"),
    ("timeout", "0"),
    ("zset-max-listpack-entries", "128"),
    ("zset-max-listpack-value", "64"),
];

/// The letters of `notify-keyspace-events`, each a bit.
const CLASSES: &str = "KEg$lshzxetdmn";

impl Default for Config {
    fn default() -> Self {
        let values = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config {
            values: TVar::new(values),
            notify: AtomicU32::new(0),
            max_bulk: AtomicU64::new(crate::codec::MAX_BULK as u64),
            sync: Arc::default(),
            max_memory: AtomicU64::new(0),
            over_memory: AtomicBool::new(false),
        }
    }
}

impl Config {
    /// The name under which a setting is kept: older names have `ziplist` where newer ones have `listpack`.
    pub(crate) fn canonical(name: &str) -> String {
        name.to_ascii_lowercase().replace("ziplist", "listpack")
    }

    /// Whether events of this class are published, as messages of either kind.
    pub(crate) fn notifies(&self, class: char) -> bool {
        let flags = self.notify.load(Ordering::Relaxed);
        flags & 3 != 0 && flags & bit(class) != 0
    }

    /// Whether there are messages by key, and by event.
    pub(crate) fn notification_kinds(&self) -> (bool, bool) {
        let flags = self.notify.load(Ordering::Relaxed);
        (flags & 1 != 0, flags & 2 != 0)
    }

    /// Checks a value and says how it is to be kept.
    pub(crate) fn check(name: &str, value: &str) -> std::result::Result<String, String> {
        let numeric =
            SETTINGS.iter().find(|(own, _)| *own == name).is_some_and(|(_, value)| value.parse::<i64>().is_ok());
        if name == "notify-keyspace-events" {
            let flags = flags(value).ok_or("argument must be a valid keyspace event class")?;
            return Ok(letters(flags));
        }
        if numeric {
            let bytes = bytes(value).ok_or("argument couldn't be parsed into an integer")?;
            return Ok(bytes.to_string());
        }
        Ok(value.to_owned())
    }

    /// Finds out whether there is more memory in use than may be. Called from time to time.
    pub(crate) fn look_at_memory(&self) {
        let limit = self.max_memory.load(Ordering::Relaxed);
        let over = limit != 0 && crate::admin::resident() > limit;
        if self.over_memory.load(Ordering::Relaxed) != over {
            self.over_memory.store(over, Ordering::Relaxed);
        }
    }

    /// Sets what is kept beside the text. Called when the event that changed it has committed.
    pub(crate) fn apply(&self, name: &str, value: &str) {
        match name {
            "notify-keyspace-events" => self.notify.store(flags(value).unwrap_or(0), Ordering::Relaxed),
            "proto-max-bulk-len" => self.max_bulk.store(value.parse().unwrap_or(u64::MAX), Ordering::Relaxed),
            "maxmemory" => {
                self.max_memory.store(value.parse().unwrap_or(0), Ordering::Relaxed);
                self.look_at_memory();
            }
            "appendfsync" => self.sync.store(value == "always", Ordering::Relaxed),
            _ => {}
        }
    }
}

fn bit(class: char) -> u32 {
    CLASSES.find(class).map_or(0, |at| 1 << at)
}

fn flags(text: &str) -> Option<u32> {
    text.chars().try_fold(0, |flags, class| match class {
        'A' => Some(flags | "g$lshzxetd".chars().map(bit).sum::<u32>()),
        class if CLASSES.contains(class) => Some(flags | bit(class)),
        _ => None,
    })
}

fn letters(flags: u32) -> String {
    let all: u32 = "g$lshzxetd".chars().map(bit).sum();
    let mut text = String::new();
    if flags & all == all {
        text.push('A');
    } else {
        text.extend("g$lshzxetd".chars().filter(|class| flags & bit(*class) != 0));
    }
    text.extend("KEmn".chars().filter(|class| flags & bit(*class) != 0));
    text
}

/// A number with a unit of memory, as settings have them.
fn bytes(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(lower.len());
    let unit = match &lower[end..] {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    lower[..end].parse::<i64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_swapped() {
        let server = Server::new(0, 1, None);
        let look = || {
            optimist::atomically(|tx| Ok([server.database(tx, 0)?, server.database(tx, 9)?, server.database(tx, 15)?]))
        };
        assert_eq!(look(), [0, 9, 15]);
        optimist::atomically(|tx| server.swap(tx, 0, 15));
        assert_eq!(look(), [15, 9, 0]);
        optimist::atomically(|tx| server.swap(tx, 9, 9));
        assert_eq!(look(), [15, 9, 0]);
    }

    #[test]
    fn flushed_databases_are_emptied_later() {
        let server = Server::new(0, 1, None);
        let set = |db: usize, key: &str| {
            let item = Item { stamp: 1, expires: 0, value: crate::value::Value::Str(crate::value::Text::default()) };
            optimist::atomically(|tx| server.dbs[db].insert(tx, key.as_bytes().into(), item.clone()).map(drop));
        };
        let state = || {
            optimist::atomically(|tx| {
                let db = server.database(tx, 3)?;
                Ok((db, server.dbs[3].len(tx)?, server.dbs[19].len(tx)?, server.number(tx, 3)?, server.number(tx, 19)?))
            })
        };
        (0..1000).for_each(|n| set(3, &format!("k{n}")));
        optimist::atomically(|tx| server.clear(tx, 3));
        assert_eq!(state(), (19, 1000, 0, None, Some(3)));
        set(19, "new");
        // Once more, before the first has been emptied.
        assert!(optimist::atomically(|tx| server.tidy(tx)));
        optimist::atomically(|tx| server.clear(tx, 19));
        assert_eq!((state().0, state().2), (19, 0));
        set(19, "newer");
        while optimist::atomically(|tx| server.tidy(tx)) {}
        assert_eq!(state(), (19, 0, 1, None, Some(3)));
        optimist::atomically(|tx| server.clear(tx, 19));
        assert_eq!(state(), (3, 0, 1, Some(3), None));
    }

    #[test]
    fn stamps_never_repeat() {
        let server = Server::new(0, 1, None);
        let stamps: std::collections::HashSet<u64> = (0..200_000).map(|_| server.stamp()).collect();
        assert_eq!((stamps.len(), stamps.contains(&0)), (200_000, false));
    }

    #[test]
    fn notification_classes() {
        assert_eq!(flags("KEA").map(letters), Some("AKE".to_owned()));
        assert_eq!(flags("K$q"), None);
        assert_eq!(flags("Elg").map(letters), Some("glE".to_owned()));
    }
}
