//! A thread of the reactor: its poller, its connections, and the rounds in which it serves them.
//!
//! A round: wait; note who is readable; read each of those once and run the batch of events that this gives; settle; write what was
//! sent. A connection whose read filled the buffer has probably more, and comes again in the next round, after the others.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token};
use optimist_stm::watch::Watch;

use super::execute::{Io, Runner};
use super::limits::Limits;
use super::listen::{Listener, Stream};
use super::mailbox::{Mailbox, Note};
use super::outbox::{self, Outbox};
use super::{Next, Service, Session, Shared};

const MAILBOX: Token = Token(0);
const SIGNALS: Token = Token(1);
const FIRST_LISTENER: usize = 2;
/// Tokens from here on are connections: the index, and the generation in the upper half.
const FIRST_CONNECTION: usize = 1 << 8;

/// What one read takes at most.
const READ: usize = 64 << 10;

/// How long accepting pauses when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What of a poller exists before its thread.
pub(super) struct Seed {
    poll: Poll,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Seed {
    pub(super) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox::new(&poll, MAILBOX)?);
        Ok(Seed { poll, mailbox })
    }
}

pub(super) struct Poller<'s, S: Service> {
    index: usize,
    service: &'s S,
    limits: &'s Limits,
    shared: &'s Arc<Shared>,
    poll: Poll,
    mailbox: Arc<Mailbox>,
    listeners: Vec<Listener>,
    signals: Option<UnixStream>,
    slots: Vec<Slot<S::Session>>,
    free: Vec<usize>,
    /// Connections with input to serve.
    ready: VecDeque<Token>,
    /// When blocked connections give up; stale entries are recognised by the connection's own time.
    deadlines: BinaryHeap<Reverse<(Instant, Token)>>,
    runner: Runner,
    scratch: Vec<u8>,
    /// When the service wants to be called.
    timer: Option<Instant>,
    /// Accepting is paused until then.
    accept_at: Option<Instant>,
    /// The thread of the next connection.
    next: usize,
    /// When what is left is cut off.
    stop_at: Option<Instant>,
    live: usize,
}

struct Slot<T> {
    generation: usize,
    connection: Option<Box<Connection<T>>>,
}

struct Connection<T> {
    stream: Stream,
    session: T,
    outbox: Outbox,
    token: Token,
    /// Input that is not taken yet.
    input: Vec<u8>,
    /// The socket may have input.
    readable: bool,
    /// It is in the list of those to serve.
    queued: bool,
    /// The end of the input is in the socket, behind what may still be there: a read that was not full is no sign that nothing is left.
    read_closed: bool,
    /// The peer will send no more.
    ended: bool,
    /// Nothing more is taken; it is closed when what was sent is written.
    closing: bool,
    /// What its event waits for.
    watch: Option<Watch>,
    blocked: bool,
    until: Option<Instant>,
    timed_out: bool,
    error: Option<io::Error>,
}

impl<T> Connection<T> {
    fn is_over(&self) -> bool {
        self.error.is_some() || (self.outbox.is_closed()) || (self.closing && self.outbox.waiting() == 0)
    }
}

impl<'s, S: Service> Poller<'s, S> {
    /// A poller, on the thread that it is to run on.
    pub(super) fn new(index: usize, seed: Seed, service: &'s S, limits: &'s Limits, shared: &'s Arc<Shared>) -> Self {
        let Seed { poll, mailbox } = seed;
        Poller {
            index,
            service,
            limits,
            shared,
            poll,
            mailbox,
            listeners: Vec::new(),
            signals: None,
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            deadlines: BinaryHeap::new(),
            runner: Runner::new(index, shared.queue.clone()),
            scratch: vec![0; READ],
            timer: None,
            accept_at: None,
            next: 0,
            stop_at: None,
            live: 0,
        }
    }

    pub(super) fn add_listener(&mut self, mut listener: Listener) -> io::Result<()> {
        let token = Token(FIRST_LISTENER + self.listeners.len());
        assert!(token.0 < FIRST_CONNECTION, "too many listeners");
        self.poll.registry().register(&mut listener, token, Interest::READABLE)?;
        self.listeners.push(listener);
        Ok(())
    }

    pub(super) fn add_signals(&mut self) -> io::Result<()> {
        let (read, write) = StdUnixStream::pair()?;
        read.set_nonblocking(true)?;
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        let mut read = UnixStream::from_std(read);
        self.poll.registry().register(&mut read, SIGNALS, Interest::READABLE)?;
        self.signals = Some(read);
        Ok(())
    }

    pub(super) fn run(mut self) {
        outbox::enter(Some(self.mailbox.clone()));
        let mut events = Events::with_capacity(1024);
        let mut to_write = Vec::new();
        self.fire_timer();
        if self.shared.stopping.load(Ordering::Acquire) {
            self.begin_stop();
        }
        while !self.is_over() {
            let timeout = self.timeout();
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                self.service.failed(&format!("the poller failed: {error}"));
                break;
            }
            for event in &events {
                match event.token() {
                    MAILBOX => self.read_notes(),
                    SIGNALS => self.read_signals(),
                    Token(listener) if listener < FIRST_CONNECTION => self.accept(listener - FIRST_LISTENER),
                    token => {
                        if event.is_writable() {
                            self.write(token);
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.note_readable(token, event.is_read_closed() || event.is_error());
                        }
                    }
                }
            }
            self.look_at_times();
            for _ in 0..self.ready.len() {
                if let Some(token) = self.ready.pop_front() {
                    self.serve(token);
                }
            }
            self.settle();
            outbox::take_to_write(&mut to_write);
            for token in to_write.drain(..) {
                self.write(token);
            }
            if self.stop_at.is_some() {
                self.close_idle();
            }
        }
        for index in 0..self.slots.len() {
            self.close(index);
        }
        self.settle();
        outbox::enter(None);
    }

    fn is_over(&self) -> bool {
        self.stop_at.is_some_and(|at| self.live == 0 || at <= Instant::now())
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.deadlines.peek().map(|Reverse((when, _))| *when);
        let first = [deadline, self.timer, self.accept_at, self.stop_at].into_iter().flatten().min()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    fn look_at_times(&mut self) {
        if self.deadlines.is_empty() && self.timer.is_none() && self.accept_at.is_none() {
            return;
        }
        let now = Instant::now();
        while let Some(Reverse((when, token))) = self.deadlines.peek().copied()
            && when <= now
        {
            self.deadlines.pop();
            if let Some(connection) = self.connection(token)
                && connection.blocked
                && connection.until == Some(when)
            {
                connection.timed_out = true;
                self.resume(token);
            }
        }
        if self.timer.is_some_and(|when| when <= now) {
            self.fire_timer();
        }
        if self.accept_at.is_some_and(|when| when <= now) {
            self.accept_at = None;
            for listener in 0..self.listeners.len() {
                self.accept(listener);
            }
        }
    }

    fn fire_timer(&mut self) {
        let mut watch = None;
        let mut io = Io { runner: &mut self.runner, outbox: None, watch: &mut watch, timed_out: false };
        self.timer = self.service.timer(&mut io);
    }

    fn settle(&mut self) {
        self.service.settle();
        for output in self.runner.unflushed.drain(..) {
            if let Err(error) = output.flush() {
                self.service.failed(&format!("{}: {error}", output.name()));
            }
        }
        for failure in self.runner.failures.drain(..) {
            self.service.failed(&failure);
        }
    }

    fn read_signals(&mut self) {
        let mut buffer = [0; 16];
        if self.signals.as_mut().is_some_and(|pipe| pipe.read(&mut buffer).is_ok_and(|n| n > 0)) {
            self.shared.stop();
        }
    }

    fn read_notes(&mut self) {
        for note in self.mailbox.take() {
            match note {
                Note::Connection(stream, peer) => self.adopt(stream, &peer),
                Note::Flush(token) => self.write(token),
                Note::Resume(token) => self.resume(token),
                Note::Stop => self.begin_stop(),
            }
        }
    }

    fn begin_stop(&mut self) {
        self.listeners.clear();
        self.accept_at = None;
        self.stop_at.get_or_insert_with(|| Instant::now() + self.limits.grace);
        for index in 0..self.slots.len() {
            // Whoever has sent something that was not noticed yet is served.
            if let Some(connection) = &self.slots[index].connection {
                self.note_readable(connection.token, false);
            }
        }
    }

    fn accept(&mut self, index: usize) {
        while let Some(listener) = self.listeners.get(index) {
            match listener.accept() {
                Ok((mut stream, peer)) => {
                    if self.shared.connections.load(Ordering::Relaxed) >= self.limits.connections {
                        // It fits into an empty socket buffer, or the peer is gone.
                        let _ = stream.write(self.service.refusal());
                        continue;
                    }
                    self.shared.connections.fetch_add(1, Ordering::Relaxed);
                    let mailboxes = self.shared.mailboxes.get().expect("set before the threads start");
                    let thread = self.next % mailboxes.len();
                    self.next += 1;
                    if thread == self.index {
                        self.adopt(stream, &peer);
                    } else {
                        mailboxes[thread].leave(Note::Connection(stream, peer));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error) => {
                    self.service.failed(&format!("no connection can be accepted for a while: {error}"));
                    self.accept_at = Some(Instant::now() + ACCEPT_PAUSE);
                    break;
                }
            }
        }
    }

    fn adopt(&mut self, mut stream: Stream, peer: &str) {
        if self.stop_at.is_some() {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: None });
            self.slots.len() - 1
        });
        let token = Token((FIRST_CONNECTION + index) | (self.slots[index].generation << 32));
        if let Err(error) = self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE) {
            self.service.failed(&format!("a connection cannot be watched: {error}"));
            self.free.push(index);
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let outbox = Outbox::new(&self.mailbox, token, self.limits.hard);
        let session = self.service.connected(&outbox, peer);
        self.live += 1;
        self.slots[index].connection = Some(Box::new(Connection {
            stream,
            session,
            outbox,
            token,
            input: Vec::new(),
            readable: true,
            queued: true,
            read_closed: false,
            ended: false,
            closing: false,
            watch: None,
            blocked: false,
            until: None,
            timed_out: false,
            error: None,
        }));
        self.ready.push_back(token);
    }

    fn index_of(&self, token: Token) -> Option<usize> {
        let index = (token.0 & 0xFFFF_FFFF) - FIRST_CONNECTION;
        (self.slots.get(index)?.generation == token.0 >> 32).then_some(index)
    }

    fn connection(&mut self, token: Token) -> Option<&mut Connection<S::Session>> {
        let index = self.index_of(token)?;
        self.slots[index].connection.as_deref_mut()
    }

    fn note_readable(&mut self, token: Token, closed: bool) {
        let Some(connection) = self.connection(token) else { return };
        connection.read_closed |= closed;
        connection.readable = true;
        if !connection.queued {
            connection.queued = true;
            self.ready.push_back(token);
        }
    }

    fn resume(&mut self, token: Token) {
        let Some(connection) = self.connection(token) else { return };
        connection.blocked = false;
        connection.watch = None;
        connection.until = None;
        if !connection.queued {
            connection.queued = true;
            self.ready.push_back(token);
        }
    }

    /// Reads a connection once, and runs the events that its input gives.
    fn serve(&mut self, token: Token) {
        let Some(index) = self.index_of(token) else { return };
        let Some(mut connection) = self.slots[index].connection.take() else { return };
        connection.queued = false;
        let paused = connection.outbox.waiting() > self.limits.high_water;
        if !connection.closing && !paused && !connection.is_over() {
            self.receive(&mut connection);
        }
        let over = connection.is_over();
        self.slots[index].connection = Some(connection);
        if over {
            self.close(index);
        }
    }

    fn receive(&mut self, connection: &mut Connection<S::Session>) {
        // What a blocked connection sends is read only as far as shows whether the peer is still there.
        let mut fresh = 0;
        if connection.readable && !(connection.blocked && connection.input.len() > READ) {
            match connection.stream.read(&mut self.scratch) {
                Ok(0) => {
                    connection.readable = false;
                    connection.ended = true;
                }
                Ok(n) => {
                    fresh = n;
                    // A read that was not full has emptied the socket; what comes later is a new edge.
                    connection.readable = n == self.scratch.len() || connection.read_closed;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    connection.error = Some(error);
                    return;
                }
            }
        }
        if !connection.blocked {
            // Most requests are taken right out of the buffer they were read into.
            let scratch = std::mem::take(&mut self.scratch);
            if connection.input.is_empty() {
                let taken = self.take(connection, &scratch[..fresh]);
                connection.input.extend_from_slice(&scratch[taken..fresh]);
            } else {
                connection.input.extend_from_slice(&scratch[..fresh]);
                let input = std::mem::take(&mut connection.input);
                let taken = self.take(connection, &input);
                connection.input = input;
                if taken == connection.input.len() {
                    connection.input = Vec::new();
                } else if taken > 0 {
                    connection.input.drain(..taken);
                }
            }
            self.scratch = scratch;
        } else {
            connection.input.extend_from_slice(&self.scratch[..fresh]);
        }
        if connection.input.len() > self.limits.input {
            connection.error = Some(io::Error::other("too much input at once"));
        }
        let full = connection.outbox.waiting() > self.limits.high_water;
        if connection.ended && !full {
            connection.closing = true;
        } else if connection.readable && !full && !connection.queued {
            connection.queued = true;
            self.ready.push_back(connection.token);
        }
    }

    /// Lets the session take requests off the input, and says how much it took.
    fn take(&mut self, connection: &mut Connection<S::Session>, input: &[u8]) -> usize {
        let mut taken = 0;
        while taken < input.len() && !connection.closing {
            if connection.outbox.waiting() > self.limits.high_water {
                break;
            }
            let mut io = Io {
                runner: &mut self.runner,
                outbox: Some(&connection.outbox),
                watch: &mut connection.watch,
                timed_out: std::mem::take(&mut connection.timed_out),
            };
            let session = &mut connection.session;
            let rest = &input[taken..];
            // A session that panics outside its events costs its connection, not the thread.
            let next = catch_unwind(AssertUnwindSafe(|| session.receive(rest, &mut io))).unwrap_or_else(|_| {
                connection.error = Some(io::Error::other("the session panicked"));
                Next::Close
            });
            match next {
                Next::Took(n) => taken += n,
                Next::Incomplete => break,
                Next::Close => connection.closing = true,
                Next::Blocked(until) => {
                    connection.blocked = true;
                    connection.until = until;
                    if let Some(when) = until {
                        self.deadlines.push(Reverse((when, connection.token)));
                    }
                    if let Some(watch) = &connection.watch {
                        let (mailbox, token) = (self.mailbox.clone(), connection.token);
                        watch.on_change(move || mailbox.leave(Note::Resume(token)));
                    }
                    break;
                }
            }
        }
        taken
    }

    fn write(&mut self, token: Token) {
        let Some(index) = self.index_of(token) else { return };
        let Some(connection) = self.slots[index].connection.as_deref_mut() else { return };
        let before = connection.outbox.waiting();
        if let Err(error) = connection.outbox.write(&mut connection.stream) {
            connection.error = Some(error);
        }
        let waiting = connection.outbox.waiting();
        if connection.is_over() {
            self.close(index);
            return;
        }
        // The input of a connection that was full is served from where it was left.
        let room =
            before > self.limits.low_water || connection.readable || !connection.input.is_empty() || connection.ended;
        if waiting <= self.limits.low_water && room && !connection.queued && !connection.blocked && !connection.closing
        {
            let more = connection.readable || connection.ended || before > self.limits.low_water;
            if more {
                connection.queued = true;
                self.ready.push_back(token);
            }
        }
    }

    fn close_idle(&mut self) {
        for index in 0..self.slots.len() {
            let idle = self.slots[index].connection.as_ref().is_some_and(|connection| {
                !connection.queued
                    && !connection.readable
                    && connection.outbox.waiting() == 0
                    && connection.input.is_empty()
                    || connection.blocked
            });
            if idle {
                self.close(index);
            }
        }
    }

    fn close(&mut self, index: usize) {
        let Some(mut connection) = self.slots[index].connection.take() else { return };
        connection.watch = None;
        let mut io = Io {
            runner: &mut self.runner,
            outbox: Some(&connection.outbox),
            watch: &mut connection.watch,
            timed_out: false,
        };
        connection.session.closed(&mut io, connection.error.as_ref());
        connection.outbox.mark_closed();
        // The descriptor is closed with the stream, which ends its registration in any case.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        let slot = &mut self.slots[index];
        slot.generation = (slot.generation + 1) & 0x7FFF_FFFF;
        self.free.push(index);
        self.live -= 1;
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
