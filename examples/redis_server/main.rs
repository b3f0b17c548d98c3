//! A server that speaks the protocol of Redis: every command, and every EXEC, is one event, on all cores, with no lock in sight.
//!
//! ```text
//! cargo run --release --example redis_server -- 127.0.0.1:6380 2
//! redis-cli -p 6380
//! redis-benchmark -p 6380 -q
//! ```
//!
//! RESP2 with strings, counters, hashes, lists, sets, sorted sets, expiry, MULTI/EXEC/WATCH, publish and subscribe, and blocking pops.

mod commands;
mod resp;
mod store;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use optimist_dispatcher::reactor::{Connection, Limits, Service};
use optimist_dispatcher::{Config, Event, EventResult, OnError, TransactionQueue};

use resp::Reply;
use store::Store;

struct Server {
    store: Store,
    queue: TransactionQueue,
}

impl Service for Server {
    fn received(&self, ev: &mut Event<'_>, connection: &Connection, bytes: &[u8]) -> EventResult<usize> {
        let mut reply = Reply::default();
        let length = match resp::parse(bytes) {
            Ok(None) => return Ok(0),
            Ok(Some((arguments, length))) => {
                if !arguments.is_empty() {
                    commands::command(ev, &self.store, &self.queue, connection, &arguments, &mut reply)?;
                }
                length
            }
            Err(resp::Malformed(what)) => {
                reply.error(&format!("ERR Protocol error: {what}"));
                connection.close(ev);
                bytes.len()
            }
        };
        if !reply.0.is_empty() {
            connection.send(ev, &reply.0)?;
        }
        Ok(length)
    }

    fn closed(&self, ev: &mut Event<'_>, connection: &Connection) -> EventResult {
        commands::forget(ev, &self.store, connection)
    }
}

/// A queue that serves clients when it is run, and the address that is bound.
pub(crate) fn server(address: &str, threads: usize) -> io::Result<(TransactionQueue, SocketAddr)> {
    let queue = TransactionQueue::new(Config { threads, on_error: OnError::Collect, ..Config::default() });
    let server = Server { store: Store::default(), queue: queue.clone() };
    let address = queue.listen(address, Limits::default(), server)?;
    Ok((queue, address))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:6380".to_owned());
    let threads = arguments.next().map_or(Ok(Config::default().threads), |threads| threads.parse())?;
    let (queue, address) = server(&address, threads)?;
    queue.drain_on_termination(Duration::from_secs(5))?;
    eprintln!("ready at {address} on {threads} threads");
    let report = queue.run()?;
    for error in &report.errors {
        eprintln!("{error}");
    }
    eprintln!("{report}");
    Ok(())
}
