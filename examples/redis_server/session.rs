//! A connection: splits its input into commands, runs them as events, and keeps what belongs to the connection alone.
//!
//! MULTI only collects; EXEC is part of one event. A command that waits for an element has been run, and stays at the head of the input until
//! its connection hears what became of it (`waiting`). A script that waits does so for whatever it has read; it is run again, from the same
//! bytes, when that changes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use optimist::dispatcher::reactor::{Ended, Io, Next, Outbox, Session};
use optimist::dispatcher::{Event, EventResult, Interrupt};
use optimist::stm::{Abort, TVar, Tx};

use crate::call::{Call, Effects, Fail};
use crate::codec::{Malformed, Split, Splitter};
use crate::plan::{Multi, REPLIES, Step, TOGETHER, recycle};
use crate::reply::Reply;
use crate::server::Server;
use crate::table::{Command, Run, flags};
use crate::value::Bytes;
use crate::waiting::{self, Waiter};

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
    /// How many commands of the script that runs are not taken back.
    pub(crate) position: TVar<u64>,
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
            position: TVar::new(0),
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
    pub(crate) multi: Option<Multi>,
    pub(crate) watched: Vec<(usize, Bytes, u64)>,
    pub(crate) channels: BTreeSet<Bytes>,
    pub(crate) patterns: BTreeSet<Bytes>,
    /// The command at the head of the input, if it waits for an element.
    waiter: Option<Arc<Waiter>>,
    pub(crate) closing: bool,
    /// CLIENT REPLY: whether replies are sent, and whether the next one is.
    pub(crate) replies: bool,
    pub(crate) skip: bool,
    /// How many steps the next event may have: one after a conflict, more with every event without.
    together: usize,
    /// Memory that is used again.
    steps: Vec<Step>,
    words: Vec<&'static [u8]>,
    spare: Vec<Multi>,
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
            watched: Vec::new(),
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            waiter: None,
            closing: false,
            replies: true,
            skip: false,
            together: TOGETHER,
            steps: Vec::new(),
            words: Vec::new(),
            spare: Vec::new(),
        }
    }

    pub(crate) fn subscribed(&self) -> bool {
        !self.channels.is_empty() || !self.patterns.is_empty()
    }

    /// Sends what has been written to `reply`, in an event of its own, unless the client wants no reply.
    pub(crate) fn send(&mut self, io: &mut Io<'_>) {
        if !self.reply.bytes.is_empty() {
            let wanted = self.replies && !std::mem::take(&mut self.skip);
            self.deliver(io, wanted);
        }
    }

    /// Sends what has been written to `reply`, if it is `wanted`, and clears it.
    pub(crate) fn deliver(&mut self, io: &mut Io<'_>, wanted: bool) {
        if wanted && let Ended::Failed(_) | Ended::Panicked(_) = io.event(|ev| ev.send(&self.outbox, &self.reply.bytes))
        {
            // It cannot be told, so it is closed.
            self.closing = true;
        }
        self.reply.bytes.clear();
    }

    /// Runs steps, in as few events as may be. None if there is only one and it waits for a change.
    pub(crate) fn transact(&mut self, io: &mut Io<'_>, steps: &[Step], words: &[&[u8]]) -> Option<()> {
        let now = Server::now();
        let replies = self.replies && !self.skip;
        let mut first = 0;
        while first < steps.len() {
            let Connection { server, client, reply, effects, db, outbox, together, .. } = self;
            let mut scene = Scene { server, client, now, waiter: None, selected: *db, log_db: 0 };
            let mut end = steps.len().min(first + *together);
            let mut attempts = 0;
            let ended = io.event(|ev| {
                attempts += 1;
                if attempts > 1 {
                    end = first + 1;
                    crate::scripts::end(false);
                }
                reply.bytes.clear();
                effects.clear();
                (scene.waiter, scene.log_db) = (None, 0);
                scene.fetch(ev, &steps[first..end], words)?;
                for (at, step) in steps[first..end].iter().enumerate() {
                    scene.run(ev, step, words, reply, effects)?;
                    if reply.bytes.len() > REPLIES {
                        end = first + at + 1;
                        break;
                    }
                }
                // Messages come after the replies, also to whoever has published them.
                if replies {
                    ev.send(outbox, &reply.bytes)?;
                }
                release(ev, server, effects)
            });
            crate::scripts::end(matches!(ended, Ended::Committed(())));
            *together = if attempts > 1 { 1 } else { (2 * *together).min(TOGETHER) };
            match ended {
                Ended::Committed(()) => {
                    *db = scene.selected;
                    reply.bytes.clear();
                    crate::expire_later(&mut effects.expiries);
                    first = end;
                    self.skip &= scene.waiter.is_some();
                    self.waiter = scene.waiter;
                }
                Ended::Blocked => {
                    reply.bytes.clear();
                    return None;
                }
                // It is yet to be found out which of them it was.
                Ended::Failed(_) | Ended::Panicked(_) if end > first + 1 => *together = 1,
                Ended::Failed(failure) => {
                    reply.bytes.clear();
                    reply.error(&format!("ERR {failure}"));
                    self.send(io);
                    first += 1;
                }
                Ended::Panicked(message) => {
                    reply.bytes.clear();
                    reply.error(&format!("ERR the command panicked and was rolled back: {message}"));
                    self.send(io);
                    first += 1;
                }
            }
        }
        Some(())
    }

    fn count(&self, commands: u64, io: &Io<'_>) {
        let count = &self.server.commands[io.thread() % self.server.commands.len()].0;
        // Relaxed, and no read-modify-write: the thread is the only writer.
        count.store(count.load(Ordering::Relaxed) + commands, Ordering::Relaxed);
    }

    /// The step that a request comes to, if it can be part of a plan.
    fn plan(&mut self, words: &[&[u8]], at: usize) -> Option<Step> {
        let own = &words[at..];
        let command = crate::table::find(own).ok()?;
        if refusal(&self.server, command).is_some() {
            return None;
        }
        let Some(multi) = &mut self.multi else {
            if command.is(flags::BEGINS) {
                self.multi = Some(self.spare.pop().unwrap_or_default());
                return Some(Step::Reply("OK"));
            }
            return match command.run {
                Run::Event(_) if !command.is(flags::ALONE) => {
                    Some(Step::Command { command, words: at..words.len(), db: self.db })
                }
                _ => None,
            };
        };
        if command.is(flags::ENDS) && !multi.failed && refusal_of_all(&self.server, multi).is_none() {
            let mut multi = self.multi.take()?;
            multi.db = self.db;
            multi.watched.append(&mut self.watched);
            return Some(Step::Exec(multi));
        }
        if command.is(flags::UNQUEUED) || command.is(flags::NOT_IN_MULTI) {
            return None;
        }
        multi.push(command, own);
        Some(Step::Reply("QUEUED"))
    }

    /// Runs a request that can be part of no plan. None if it waits for a change.
    fn run(&mut self, words: &[&[u8]], io: &mut Io<'_>) -> Option<()> {
        self.count(1, io);
        let command = match crate::table::find(words) {
            Ok(command) => command,
            Err(text) => return self.refuse(&text, io),
        };
        if let Some(text) = refusal(&self.server, command) {
            return self.refuse(text, io);
        }
        if let Some(multi) = &mut self.multi
            && !command.is(flags::UNQUEUED)
        {
            if command.is(flags::NOT_IN_MULTI) {
                return self.refuse("ERR Command not allowed inside a transaction", io);
            }
            multi.push(command, words);
            self.reply.simple("QUEUED");
            self.send(io);
            return Some(());
        }
        if self.subscribed() && !self.reply.resp3 && !command.is(flags::SUBSCRIBED) {
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
            Run::Event(_) => {
                let step = Step::Command { command, words: 0..words.len(), db: self.db };
                self.transact(io, &[step], words)
            }
            Run::Session(run) => {
                run(self, words, io);
                self.send(io);
                self.skip &= command.name == "client";
                Some(())
            }
        }
    }

    /// Tells the client what it has been waiting for, if it has. None if it waits on.
    fn wait(&mut self, io: &mut Io<'_>) -> Option<()> {
        let Some(waiter) = &self.waiter else { return Some(()) };
        let (server, timed_out, wanted) = (&self.server, io.timed_out(), self.replies && !self.skip);
        let ended = io.event(|ev| {
            let reply = waiter.outcome(ev, server, timed_out)?;
            if wanted { ev.send(&self.outbox, &reply) } else { Ok(()) }
        });
        match ended {
            Ended::Blocked => return None,
            Ended::Committed(()) => {}
            // It cannot be told, so it is closed.
            Ended::Failed(_) | Ended::Panicked(_) => self.closing = true,
        }
        self.waiter = None;
        self.skip = false;
        Some(())
    }

    /// Answers with an error, which spoils a transaction that is being queued.
    fn refuse(&mut self, text: &str, io: &mut Io<'_>) -> Option<()> {
        if let Some(multi) = &mut self.multi {
            multi.failed = true;
        }
        self.reply.error(text);
        self.send(io);
        Some(())
    }

    /// Runs what has arrived, as far as it makes a plan. Says how much of the input that was, and what comes next.
    fn run_plan(&mut self, input: &[u8], io: &mut Io<'_>) -> (usize, Result<Split, Malformed>) {
        let max_bulk = self.server.config.max_bulk.load(Ordering::Relaxed) as i64;
        let mut steps = std::mem::take(&mut self.steps);
        let mut words: Vec<&[u8]> = recycle(std::mem::take(&mut self.words));
        let plans = self.replies && !self.skip && !self.subscribed() && self.waiter.is_none();
        let mut used = 0;
        let mut split = self.splitter.split(input, max_bulk);
        while let Ok(Split::Request(length)) = split
            && plans
            && !self.splitter.inline
            && steps.len() < TOGETHER
        {
            let start = words.len();
            let rest = &input[used..];
            words.extend(self.splitter.words.iter().map(|range| &rest[range.clone()]));
            if words.len() > start {
                match self.plan(&words, start) {
                    Some(step) => steps.push(step),
                    None => break,
                }
            }
            used += length;
            // What follows depends on which database that leaves the connection in.
            let selects = matches!(steps.last(), Some(Step::Exec(multi)) if multi.selects);
            split = if selects { Ok(Split::Incomplete) } else { self.splitter.split(&input[used..], max_bulk) };
        }
        if !steps.is_empty() {
            self.count(steps.len() as u64, io);
            self.transact(io, &steps, &words);
        }
        for step in steps.drain(..) {
            if let Step::Exec(mut multi) = step
                && self.spare.len() < TOGETHER / 4
            {
                multi.clear();
                self.spare.push(multi);
            }
        }
        self.steps = steps;
        self.words = recycle(words);
        (used, split)
    }

    /// Runs the request at the beginning of the input, which is part of no plan.
    fn run_alone(&mut self, input: &[u8], used: usize, io: &mut Io<'_>) -> Next {
        if !self.splitter.is_empty() {
            let mut done = Some(());
            if self.waiter.is_none() {
                let splitter = std::mem::take(&mut self.splitter);
                let words = splitter.arguments(input);
                done = self.run(&words, io);
                drop(words);
                self.splitter = splitter;
            }
            let blocked = done.and_then(|()| self.wait(io)).is_none();
            if self.client.blocked.load(Ordering::Relaxed) != blocked {
                self.client.blocked.store(blocked, Ordering::Relaxed);
                if blocked {
                    self.server.blocked.fetch_add(1, Ordering::Relaxed);
                } else {
                    self.server.blocked.fetch_sub(1, Ordering::Relaxed);
                }
            }
            if blocked {
                return Next::Blocked(self.waiter.as_ref().and_then(|waiter| waiter.until));
            }
        }
        if self.closing { Next::Close } else { Next::Took(used) }
    }
}

/// Why a command must not be run now.
#[inline]
pub(crate) fn refusal(server: &Server, command: &Command) -> Option<&'static str> {
    if !command.is(flags::WRITE) {
        return None;
    }
    if server.log_broken.load(Ordering::Relaxed) {
        return Some("MISCONF Errors writing to the AOF file: the log cannot be written, so nothing may be changed");
    }
    let over = server.config.over_memory.load(Ordering::Relaxed) && !command.is(flags::SHRINKS);
    over.then_some("OOM command not allowed when used memory > 'maxmemory'.")
}

/// Why a transaction must not be run now, although its commands were queued.
pub(crate) fn refusal_of_all(server: &Server, multi: &Multi) -> Option<&'static str> {
    multi.commands().find_map(|(command, _)| refusal(server, command))
}

/// From so many commands on it pays to look at their keys first.
const FETCHED: usize = 4;

/// What the steps of an event have in common.
struct Scene<'a> {
    server: &'a Arc<Server>,
    client: &'a Arc<Client>,
    now: i64,
    /// The command has found nothing and waits.
    waiter: Option<Arc<Waiter>>,
    /// The database that the connection is left with.
    selected: usize,
    /// The database to which the next entry of the log belongs.
    log_db: usize,
}

impl Scene<'_> {
    /// Looks at the keys of several commands, one right after the other. None of these looks depends on another, so the processor waits
    /// for their memory at the same time; the commands then find all of it near.
    fn fetch(&self, ev: &mut Event<'_>, steps: &[Step], words: &[&[u8]]) -> Result<(), Abort> {
        let commands = |step: &Step| if let Step::Exec(multi) = step { multi.len() } else { 1 };
        if steps.iter().map(commands).sum::<usize>() < FETCHED {
            return Ok(());
        }
        let mut look = |db: usize, command: &Command, words: &[&[u8]]| -> Result<(), Abort> {
            if command.keys.0 == 1 {
                let db = self.server.database(ev, db)?;
                self.server.dbs[db].with(ev, words[1], |item| _ = std::hint::black_box(item.stamp))?;
            }
            Ok(())
        };
        for step in steps {
            match step {
                Step::Reply(_) => {}
                Step::Command { command, words: own, db } => look(*db, command, &words[own.clone()])?,
                Step::Exec(multi) => {
                    let words = multi.words();
                    multi.commands().try_for_each(|(command, own)| look(multi.db, command, &words[own]))?;
                }
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        ev: &mut Event<'_>,
        step: &Step,
        words: &[&[u8]],
        reply: &mut Reply,
        effects: &mut Effects,
    ) -> EventResult {
        let start = effects.log.len();
        match step {
            Step::Reply(text) => reply.simple(text),
            Step::Command { command, words: own, db } => {
                self.command(ev, command, (&words[own.clone()], *db), false, reply, effects)?;
                effects.select(start, *db, &mut self.log_db);
            }
            Step::Exec(multi) => {
                let mut db = multi.db;
                for (number, key, stamp) in &multi.watched {
                    if stamp_of(self.server, ev, *number, key, self.now)? != *stamp {
                        reply.null_array();
                        return Ok(());
                    }
                }
                reply.array(multi.len());
                let words = multi.words();
                for (command, own) in multi.commands() {
                    let words = &words[own];
                    if command.name == "select" {
                        // The one command that changes the connection from within a transaction.
                        match crate::numbers::integer(words[1]) {
                            Some(number @ 0..16) => {
                                db = number as usize;
                                reply.ok();
                            }
                            _ => reply.error("ERR DB index is out of range"),
                        }
                        continue;
                    }
                    let start = effects.log.len();
                    self.command(ev, command, (words, db), true, reply, effects)?;
                    effects.select(start, db, &mut self.log_db);
                }
                self.selected = db;
            }
        }
        if !effects.ready.is_empty() {
            waiting::serve(ev, self.server, effects, self.now, &mut self.log_db)?;
        }
        Ok(())
    }

    /// Runs a command, given by its words and its database.
    #[inline]
    fn command(
        &mut self,
        ev: &mut Event<'_>,
        command: &'static Command,
        (words, number): (&[&[u8]], usize),
        exec: bool,
        reply: &mut Reply,
        effects: &mut Effects,
    ) -> EventResult {
        let Scene { server, client, now, .. } = *self;
        let run = match command.run {
            Run::Event(run) => run,
            Run::Session(_) if command.name == "client" => crate::admin::client,
            Run::Session(_) => {
                // What is left is UNWATCH, which EXEC does in any case.
                reply.ok();
                return Ok(());
            }
        };
        let start = reply.bytes.len();
        let db = server.database(ev, number)?;
        let mut call = Call { tx: ev.tx(), args: words, reply, server, effects, client, db, now, own_log: false };
        match call.run(run).map_err(Fail::spoken) {
            Ok(()) => {}
            Err(Fail::Abort(abort)) => return Err(Interrupt::Abort(abort)),
            Err(Fail::Error(text)) => {
                reply.bytes.truncate(start);
                reply.error(&text);
            }
            Err(Fail::Block | Fail::WrongType) if exec => waiting::nothing(command, reply),
            // A script waits for whatever it has read.
            Err(Fail::Block | Fail::WrongType) if command.is(flags::NO_SCRIPT) => {
                waiting::give_up(ev, client, command, reply, false)?;
            }
            Err(Fail::Block | Fail::WrongType) => {
                self.waiter = Some(waiting::enter(ev, server, client, command, (words, number), reply.resp3)?);
            }
        }
        Ok(())
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
pub(crate) fn release(ev: &mut Event<'_>, server: &Server, effects: &mut Effects) -> EventResult {
    if effects.logged > 0
        && let Some(log) = &server.log
    {
        // Several commands are one entry.
        let several = effects.logged > 1;
        if several {
            ev.write(log, b"*1\r\n$5\r\nMULTI\r\n");
        }
        ev.write(log, &effects.log);
        if several {
            ev.write(log, b"*1\r\n$4\r\nEXEC\r\n");
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

impl Session for Connection {
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next {
        match self.run_plan(input, io) {
            _ if self.closing => Next::Close,
            (used @ 1.., _) => Next::Took(used),
            (_, Ok(Split::Incomplete)) => Next::Incomplete,
            (_, Ok(Split::Request(used))) => self.run_alone(input, used, io),
            (_, Err(malformed)) => {
                self.reply.error(&format!("ERR {}", malformed.0));
                self.send(io);
                Next::Close
            }
        }
    }

    fn closed(&mut self, io: &mut Io<'_>, _error: Option<&std::io::Error>) {
        let (server, id) = (self.server.clone(), self.client.id);
        // Nobody serves a closed connection; this is so that it takes no room in the lines.
        if let Some(waiter) = self.waiter.take() {
            io.event(|ev| Ok(waiter.leave(ev, &server)?));
        }
        if self.client.blocked.swap(false, Ordering::Relaxed) {
            self.server.blocked.fetch_sub(1, Ordering::Relaxed);
        }
        crate::pubsub::forget(self, io);
        io.event(|ev| {
            server.clients.remove(ev, &id)?;
            Ok(())
        });
    }
}
