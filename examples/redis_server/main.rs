//! A server that speaks the protocol of Redis, on all cores and without a lock in its commands.
//!
//! ```text
//! cargo run --release --example redis_server -- --port 6379
//! ```
//!
//! Every command, and every EXEC, is one event: a transaction over the keyspace, run by whichever thread has the connection. Commands
//! on different keys run side by side; those that meet are repeated until the result is as if they had run one after the other. Replies,
//! messages to subscribers and lines of the log leave when the event commits. Small commands that arrive together share an event (`plan`).
//!
//! Handlers of one's own are written in the flowgraph language (`scripts`), and are as atomic as a command:
//!
//! ```text
//! redis-cli EVAL 'fn run(keys, args) { return call("INCRBY", keys[0], args[0]) }' 1 counter 5
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `codec`, `reply`, `numbers`, `glob` | the protocol and its texts |
//! | `value` | what keys hold |
//! | `server`, `session`, `plan`, `call` | what all connections share; one connection; what has arrived from it; one command |
//! | `table` | the one table of commands |
//! | `scripts` | EVAL and libraries, in the flowgraph language |
//! | `several` | what commands on several keys have in common |
//! | `ranking` | the members of a sorted set, by name and by rank |
//! | `waiting` | commands that wait for an element, and who is served first |
//! | `strings`, `hashes`, `lists`, `sets`, `sorted_sets`, `keys`, `pubsub`, `connection`, `admin` | the commands, by family |
//! | `log` | the append-only file, replayed at the start |

mod admin;
mod call;
mod codec;
mod connection;
mod glob;
mod hashes;
mod keys;
mod lists;
mod log;
mod numbers;
mod plan;
mod pubsub;
mod ranking;
mod reply;
mod scripts;
mod server;
mod session;
mod sets;
mod several;
mod sorted_sets;
mod strings;
mod table;
mod value;
mod waiting;

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use optimist::dispatcher::reactor::{Io, Limits, Outbox, Service, raise_descriptor_limit};
use optimist::dispatcher::{Config, OnError, TransactionQueue};
use optimist::stm::TVar;

use server::Server;
use session::{Client, Connection};
use value::Bytes;

/// Values are made on one thread and freed on another all the time, which this allocator takes no lock for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The version that clients are told: that of the protocol's reference whose commands are served.
pub(crate) const VERSION: &str = "7.2.4";

#[derive(Parser)]
#[command(about = "A server that speaks the protocol of Redis")]
struct Arguments {
    /// The port; 0 takes one that is free and prints it.
    #[arg(long, default_value_t = 6379)]
    port: u16,
    /// The address.
    #[arg(long, default_value = "127.0.0.1")]
    bind: std::net::IpAddr,
    /// A Unix socket to listen on as well.
    #[arg(long)]
    unixsocket: Option<PathBuf>,
    /// How many threads; by default one for each core.
    #[arg(long)]
    threads: Option<usize>,
    /// An append-only log: replayed at the start, then continued.
    #[arg(long)]
    aof: Option<PathBuf>,
    /// How many connections at the same time.
    #[arg(long, default_value_t = 10_000)]
    maxclients: usize,
}

struct Redis {
    server: Arc<Server>,
}

impl Service for Redis {
    type Session = Connection;

    fn connected(&self, outbox: &Outbox, peer: &str) -> Connection {
        static IDS: AtomicU64 = AtomicU64::new(1);
        self.server.connections_received.fetch_add(1, Ordering::Relaxed);
        let client = Arc::new(Client {
            id: IDS.fetch_add(1, Ordering::Relaxed),
            peer: peer.to_owned(),
            outbox: Some(outbox.clone()),
            name: TVar::new(Vec::new().into()),
            since: Instant::now(),
            blocked: AtomicBool::new(false),
            unblock: TVar::new(0),
            position: TVar::new(0),
        });
        let (server, entry) = (self.server.clone(), client.clone());
        optimist::atomically(|tx| server.clients.insert(tx, entry.id, entry.clone()).map(drop));
        Connection::new(self.server.clone(), client, outbox.clone())
    }

    fn refusal(&self) -> &[u8] {
        b"-ERR max number of clients reached\r\n"
    }

    fn settle(&self) {
        log::settle(&self.server);
    }

    /// Removes keys whose time has come. A key is put on the list of the thread whose event gave it its time.
    fn timer(&self, io: &mut Io<'_>) -> Option<Instant> {
        let now = Server::now();
        while self.server.active_expire.load(Ordering::Relaxed)
            && let Some((when, db, key)) = EXPIRIES.with_borrow_mut(|heap| {
                let due = heap.peek().is_some_and(|Reverse((when, _, _))| *when <= now);
                if due { heap.pop().map(|Reverse(entry)| entry) } else { None }
            })
        {
            log::expire(&self.server, io, when, db, &key);
        }
        if io.thread() == 0 {
            self.server.config.look_at_memory();
            if log::tidy(&self.server, io) {
                return Some(Instant::now() + TICK / 20);
            }
        }
        Some(Instant::now() + TICK)
    }
}

/// How often a thread looks for keys to remove.
const TICK: Duration = Duration::from_millis(50);

type Expiry = (i64, usize, Bytes);

thread_local! {
    static EXPIRIES: RefCell<BinaryHeap<Reverse<Expiry>>> = const { RefCell::new(BinaryHeap::new()) };
    static RANDOM: Cell<u64> = Cell::new(std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0));
}

/// Keys that an event of this thread has given a time.
pub(crate) fn expire_later(expiries: &mut Vec<Expiry>) {
    if !expiries.is_empty() {
        EXPIRIES.with_borrow_mut(|heap| heap.extend(expiries.drain(..).map(Reverse)));
    }
}

/// A random number below `end`.
pub(crate) fn random(end: usize) -> usize {
    let state = RANDOM.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
    RANDOM.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((u128::from(mixed ^ (mixed >> 31)) * end as u128) >> 64) as usize
}

/// `count` numbers below `length`: different ones, or if it is negative, any so many.
pub(crate) fn choose(length: usize, count: i64) -> Vec<usize> {
    if length == 0 || count == 0 {
        return Vec::new();
    }
    if count < 0 {
        return (0..count.unsigned_abs()).map(|_| random(length)).collect();
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(length);
    if count * 3 < length {
        // Floyd's sample.
        let mut chosen = std::collections::HashSet::with_capacity(count);
        for last in length - count..length {
            let number = random(last + 1);
            chosen.insert(if chosen.contains(&number) { last } else { number });
        }
        return chosen.into_iter().collect();
    }
    let mut all: Vec<usize> = (0..length).collect();
    for at in 0..count {
        all.swap(at, at + random(length - at));
    }
    all.truncate(count);
    all
}

fn serve(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let threads =
        arguments.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    // A few descriptors are for everything that is no connection.
    let clients = arguments.maxclients.min(raise_descriptor_limit().saturating_sub(32) as usize);
    let log = arguments.aof.as_deref().map(log::open).transpose()?;
    let (replayed, log) = log.map_or((Vec::new(), None), |(entries, log)| (entries, Some(log)));

    let address = SocketAddr::new(arguments.bind, arguments.port);
    let server = Arc::new(Server::new(arguments.port, threads, log));
    let entries = log::replay(&server, &replayed)?;
    let on_error = OnError::handle(|error, _| {
        eprintln!("{error}");
        Ok(())
    });
    let queue = TransactionQueue::new(Config { threads, on_error, ..Config::default() });
    let limits = Limits { connections: clients, ..Limits::default() };
    let offer = queue.serve(limits, Redis { server: server.clone() });
    let address = offer.listen(address)?;
    if let Some(path) = arguments.unixsocket {
        offer.listen_unix(path)?;
    }
    queue.drain_on_termination(Duration::from_secs(10))?;
    println!("ready on {address} with {threads} threads and {entries} entries from the log");
    queue.run()?;
    log::settle(&server);
    Ok(())
}

fn main() -> ExitCode {
    match serve(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redis_server: {error}");
            ExitCode::FAILURE
        }
    }
}
