//! A connection: splits its input into commands, runs each as an event, and keeps what belongs to the connection alone.
//!
//! MULTI only collects; EXEC is one event. What a blocked command waits for is whatever it has read; it is run again, from the same
//! bytes, when that changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use optimist::dispatcher::reactor::{Ended, Io, Next, Outbox, Session};
use optimist::dispatcher::{Event, EventResult, Interrupt};
use optimist::stm::{Abort, TVar, Tx};

use crate::call::{Call, Effects, Fail, append_command};
use crate::codec::{Split, Splitter};
use crate::reply::Reply;
use crate::server::Server;
use crate::table::{Command, Run, flags};
use crate::value::Bytes;

/// What others may know of a connection.
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) peer: String,
    /// None for the server itself.
    pub(crate) outbox: Option<Outbox>,
    pub(crate) name: TVar<Bytes>,
    pub(crate) since: Instant,
    /// Its command waits for a change.
    pub(crate) blocked: AtomicBool,
    /// Set by CLIENT UNBLOCK: 1 for a timeout, 2 for an error.
    pub(crate) unblock: TVar<u64>,
}

impl Client {
    /// Whoever runs commands that no connection has sent.
    pub(crate) fn internal() -> Self {
        Client {
            id: 0,
            peer: String::new(),
            outbox: None,
            name: TVar::new(Vec::new().into()),
            since: Instant::now(),
            blocked: AtomicBool::new(false),
            unblock: TVar::new(0),
        }
    }
}

pub(crate) struct Connection {
    outbox: Outbox,
    pub(crate) server: Arc<Server>,
    pub(crate) client: Arc<Client>,
    splitter: Splitter,
    pub(crate) reply: Reply,
    effects: Effects,
    pub(crate) db: usize,
    /// The commands since MULTI.
    pub(crate) multi: Option<Vec<Queued>>,
    /// A command could not be queued, so EXEC must fail.
    pub(crate) multi_failed: bool,
    pub(crate) watched: Vec<(usize, Bytes, u64)>,
    pub(crate) channels: BTreeSet<Bytes>,
    pub(crate) patterns: BTreeSet<Bytes>,
    /// When the blocked command gives up: known once it has blocked, and none if never.
    deadline: Option<Option<Instant>>,
    pub(crate) closing: bool,
    /// CLIENT REPLY: whether replies are sent, and whether the next one is.
    pub(crate) replies: bool,
    pub(crate) skip: bool,
}

/// A command queued by MULTI.
pub(crate) struct Queued {
    pub(crate) command: &'static Command,
    pub(crate) words: Vec<Vec<u8>>,
}

/// A command about to run.
pub(crate) struct Planned<'a> {
    pub(crate) command: &'static Command,
    pub(crate) words: &'a [&'a [u8]],
}

impl Connection {
    pub(crate) fn new(server: Arc<Server>, client: Arc<Client>, outbox: Outbox) -> Self {
        Connection {
            outbox,
            server,
            client,
            splitter: Splitter::default(),
            reply: Reply::default(),
            effects: Effects::default(),
            db: 0,
            multi: None,
            multi_failed: false,
            watched: Vec::new(),
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            deadline: None,
            closing: false,
            replies: true,
            skip: false,
        }
    }

    pub(crate) fn subscribed(&self) -> bool {
        !self.channels.is_empty() || !self.patterns.is_empty()
    }

    /// Sends what has been written to `reply` in an event of its own.
    pub(crate) fn send(&mut self, io: &mut Io<'_>) {
        if !self.reply.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.reply.bytes);
            if self.replies
                && let Ended::Failed(_) | Ended::Panicked(_) = io.event(|ev| ev.send(&self.outbox, &bytes))
            {
                // It cannot be told, so it is closed.
                self.closing = true;
            }
            self.reply.bytes = bytes;
            self.reply.bytes.clear();
        }
    }

    /// Runs commands as one event. None if they wait for a change.
    pub(crate) fn transact(
        &mut self,
        io: &mut Io<'_>,
        commands: &[Planned<'_>],
        exec: bool,
        timed_out: bool,
    ) -> Option<()> {
        let now = Server::now();
        let replies = self.replies && !self.skip;
        // A key that has another type by now is none that a blocked command waits for.
        let waits = self.deadline.is_some();
        let Connection { server, client, reply, effects, db, watched, outbox, .. } = self;
        let (server, client) = (&**server, &*client);
        let mut block = None;
        let mut selected = *db;
        let ended = io.event(|ev| {
            reply.bytes.clear();
            effects.clear();
            selected = *db;
            if exec {
                for (db, key, stamp) in &*watched {
                    if stamp_of(server, ev, *db, key, now)? != *stamp {
                        reply.null_array();
                        return if replies { ev.send(outbox, &reply.bytes) } else { Ok(()) };
                    }
                }
                reply.array(commands.len());
            }
            for Planned { command, words } in commands {
                if exec && command.name == "select" {
                    // The one command that changes the connection from within a transaction.
                    match words.get(1).and_then(|word| crate::numbers::integer(word)) {
                        Some(number @ 0..16) => {
                            selected = number as usize;
                            reply.ok();
                        }
                        _ => reply.error("ERR DB index is out of range"),
                    }
                    continue;
                }
                let run = match command.run {
                    Run::Event(run) => run,
                    Run::Session(_) if command.name == "client" => crate::admin::client,
                    Run::Session(_) => {
                        // What is left is UNWATCH, which EXEC does in any case.
                        reply.ok();
                        continue;
                    }
                };
                let start = reply.bytes.len();
                let dirty = effects.dirty;
                let db = server.database(ev, selected)?;
                let mut call =
                    Call { tx: ev.tx(), args: words, reply, server, effects, client, db, now, own_log: false };
                let done = match run(&mut call) {
                    Err(Fail::Error(text)) if waits && text.starts_with("WRONGTYPE") => Err(Fail::Block),
                    done => done,
                };
                let own_log = call.own_log;
                match done {
                    Ok(()) => {}
                    Err(Fail::Abort(abort)) => return Err(Interrupt::Abort(abort)),
                    Err(Fail::Error(text)) => {
                        reply.bytes.truncate(start);
                        reply.error(&text);
                    }
                    Err(Fail::Block) => {
                        let unblock = client.unblock.get(ev)?;
                        let nothing = |reply: &mut Reply| match command.name {
                            "blmove" | "brpoplpush" => reply.null(),
                            _ => reply.null_array(),
                        };
                        if exec || timed_out {
                            nothing(reply);
                        } else if unblock != 0 {
                            client.unblock.set(ev, 0)?;
                            if unblock == 1 {
                                nothing(reply);
                            } else {
                                reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK");
                            }
                        } else {
                            block = Some(timeout(command, words));
                            return Err(Interrupt::Abort(Abort::Retry));
                        }
                    }
                }
                if effects.dirty != dirty && !own_log && server.log.is_some() {
                    append_command(&mut effects.log, words);
                    effects.logged += 1;
                }
            }
            release(ev, server, effects, selected)?;
            if replies { ev.send(outbox, &reply.bytes) } else { Ok(()) }
        });
        *db = selected;
        match ended {
            Ended::Committed(()) => {
                self.reply.bytes.clear();
                crate::expire_later(&mut self.effects.expiries);
                self.skip = false;
                return Some(());
            }
            Ended::Blocked => {
                self.reply.bytes.clear();
                if self.deadline.is_none() {
                    let timeout = block.unwrap_or(Duration::ZERO);
                    self.deadline = Some((!timeout.is_zero()).then(|| Instant::now() + timeout));
                }
                return None;
            }
            Ended::Failed(failure) => {
                self.reply.bytes.clear();
                self.reply.error(&format!("ERR {failure}"));
            }
            Ended::Panicked(message) => {
                self.reply.bytes.clear();
                self.reply.error(&format!("ERR the command panicked and was rolled back: {message}"));
            }
        }
        self.send(io);
        Some(())
    }

    fn run(&mut self, words: &[&[u8]], io: &mut Io<'_>) -> Option<()> {
        let timed_out = io.timed_out();
        let count = &self.server.commands[io.thread() % self.server.commands.len()].0;
        // Relaxed, and no read-modify-write: the thread is the only writer.
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let command = match crate::table::find(words) {
            Ok(command) => command,
            Err(text) => {
                self.multi_failed |= self.multi.is_some();
                self.reply.error(&text);
                self.send(io);
                return Some(());
            }
        };
        if command.flags & flags::WRITE != 0 && self.server.log_broken.load(Ordering::Relaxed) {
            self.multi_failed |= self.multi.is_some();
            self.reply
                .error("MISCONF Errors writing to the AOF file: the log cannot be written, so nothing may be changed");
            self.send(io);
            return Some(());
        }
        if self.multi.is_some() && command.flags & flags::UNQUEUED == 0 {
            if command.flags & flags::NOT_IN_MULTI != 0 {
                self.multi_failed = true;
                self.reply.error("ERR Command not allowed inside a transaction");
            } else {
                let words = words.iter().map(|word| word.to_vec()).collect();
                self.multi.get_or_insert_default().push(Queued { command, words });
                self.reply.simple("QUEUED");
            }
            self.send(io);
            return Some(());
        }
        if self.subscribed() && !self.reply.resp3 && command.flags & flags::SUBSCRIBED == 0 {
            self.reply.error(&format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                command.name
            ));
            self.send(io);
            return Some(());
        }
        if command.name == "ping" && self.subscribed() && !self.reply.resp3 {
            crate::connection::ping_subscribed(self, words);
            self.send(io);
            return Some(());
        }
        match command.run {
            Run::Event(_) => self.transact(io, &[Planned { command, words }], false, timed_out),
            Run::Session(run) => {
                run(self, words, io);
                if !self.skip || command.name != "client" {
                    self.skip = false;
                }
                self.send(io);
                Some(())
            }
        }
    }
}

/// The stamp of a key, 0 if it is not there.
pub(crate) fn stamp_of(server: &Server, tx: &mut Tx<'_>, db: usize, key: &[u8], now: i64) -> Result<u64, Abort> {
    let db = server.database(tx, db)?;
    let stamp =
        server.dbs[db].with(tx, key, |item| if item.expires != 0 && item.expires <= now { 0 } else { item.stamp })?;
    Ok(stamp.unwrap_or(0))
}

/// Hands what the commands let out to the event.
pub(crate) fn release(ev: &mut Event<'_>, server: &Server, effects: &mut Effects, db: usize) -> EventResult {
    if effects.logged > 0
        && let Some(log) = &server.log
    {
        if effects.logged == 1 && db == 0 {
            ev.write(log, &effects.log);
        } else {
            let mut entry = Vec::with_capacity(effects.log.len() + 64);
            append_command(&mut entry, &[b"MULTI"]);
            append_command(&mut entry, &[b"SELECT", db.to_string().as_bytes()]);
            entry.extend_from_slice(&effects.log);
            append_command(&mut entry, &[b"EXEC"]);
            ev.write(log, &entry);
        }
    }
    for (outbox, message) in &effects.messages {
        // A subscriber that does not read is cut off; the publisher has nothing to do with it.
        if let Err(Interrupt::Error(_)) = ev.send(outbox, message) {
            let outbox = outbox.clone();
            ev.on_commit(move || outbox.close());
        }
    }
    for outbox in effects.kills.drain(..) {
        ev.on_commit(move || outbox.close());
    }
    Ok(())
}

/// How long a blocking command waits, zero for ever.
fn timeout(command: &Command, words: &[&[u8]]) -> Duration {
    let at = if matches!(command.name, "blmpop" | "bzmpop") { 1 } else { words.len() - 1 };
    let seconds = words.get(at).and_then(|word| crate::numbers::float(word)).unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

impl Session for Connection {
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next {
        let max_bulk = self.server.config.max_bulk.load(Ordering::Relaxed) as i64;
        match self.splitter.split(input, max_bulk) {
            Ok(Split::Incomplete) => Next::Incomplete,
            Err(malformed) => {
                self.reply.error(&format!("ERR {}", malformed.0));
                self.send(io);
                Next::Close
            }
            Ok(Split::Request(used)) => {
                if !self.splitter.is_empty() {
                    let splitter = std::mem::take(&mut self.splitter);
                    let words = splitter.arguments(input);
                    let done = self.run(&words, io);
                    drop(words);
                    self.splitter = splitter;
                    let blocked = done.is_none();
                    if self.client.blocked.load(Ordering::Relaxed) != blocked {
                        self.client.blocked.store(blocked, Ordering::Relaxed);
                        if blocked {
                            self.server.blocked.fetch_add(1, Ordering::Relaxed);
                        } else {
                            self.server.blocked.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                    if blocked {
                        return Next::Blocked(self.deadline.flatten());
                    }
                    self.deadline = None;
                }
                if self.closing { Next::Close } else { Next::Took(used) }
            }
        }
    }

    fn closed(&mut self, io: &mut Io<'_>, _error: Option<&std::io::Error>) {
        if self.client.blocked.swap(false, Ordering::Relaxed) {
            self.server.blocked.fetch_sub(1, Ordering::Relaxed);
        }
        crate::pubsub::forget(self, io);
        let (server, id) = (self.server.clone(), self.client.id);
        io.event(|ev| {
            server.clients.remove(ev, &id)?;
            Ok(())
        });
    }
}
