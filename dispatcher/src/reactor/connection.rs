//! One connection: its stream, its session, the input that is not taken yet, and how a round of its worker deals with them.

use std::io::{self, Read as _};
use std::mem;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use mio::{Registry, Token};
use optimist_stm::watch::Watch;

use super::execute::{Io, Runner};
use super::mailbox::{Mailbox, Note};
use super::outbox::Outbox;
use super::source::{Stream, Watched};
use super::{Hosted, Next, Session};

/// What one read takes at most.
pub(super) const READ: usize = 64 << 10;

/// How much is read from the client of a blocked event, so as to see whether it is still there.
const AHEAD: usize = 1 << 20;

/// How many datagrams one round takes at most.
const DATAGRAMS: usize = 64;

pub(super) struct Connection {
    stream: Stream,
    watched: Watched,
    session: Box<dyn Session>,
    pub(super) outbox: Outbox,
    token: Token,
    mailbox: Arc<Mailbox>,
    pub(super) hosted: Arc<Hosted>,
    /// Input that is not taken yet. Of a datagram socket it is one datagram whose event is blocked.
    input: Vec<u8>,
    /// Who sent it, of a datagram.
    sender: Option<SocketAddr>,
    /// The stream may have input.
    readable: bool,
    /// It is in the list of those to serve.
    pub(super) queued: bool,
    /// The end of the input is in the socket, behind what may still be there: a read that was not full is no sign that nothing is left.
    read_closed: bool,
    /// The peer will send no more.
    ended: bool,
    /// Nothing more is taken; it is closed when what was sent is written.
    closing: bool,
    /// What its event waits for.
    watch: Option<Watch>,
    blocked: bool,
    /// When it is to be called at the latest.
    until: Option<Instant>,
    /// The same, until the poller knows.
    fresh_until: Option<Instant>,
    timed_out: bool,
    pub(super) error: Option<io::Error>,
}

impl Connection {
    /// Begins to watch a stream.
    pub(super) fn new(
        mut stream: Stream,
        peer: &str,
        hosted: Arc<Hosted>,
        token: Token,
        registry: &Registry,
        mailbox: &Arc<Mailbox>,
        runner: &mut Runner,
    ) -> Option<Self> {
        let watched = match stream.watch(registry, token) {
            Ok(watched) => watched,
            Err(error) => {
                runner.failed(format!("a connection cannot be watched: {error}"));
                return None;
            }
        };
        let outbox = Outbox::new(mailbox, token, &hosted.limits, stream.datagrams().is_some());
        let session = runner.catching("a service", |_| hosted.service.connected(&outbox, peer))?;
        Some(Connection {
            stream,
            watched,
            session,
            outbox,
            token,
            mailbox: mailbox.clone(),
            hosted,
            input: Vec::new(),
            sender: None,
            readable: true,
            queued: true,
            read_closed: false,
            ended: false,
            closing: false,
            watch: None,
            blocked: false,
            until: None,
            fresh_until: None,
            timed_out: false,
            error: None,
        })
    }

    pub(super) fn is_over(&self) -> bool {
        let closing = self.closing || self.outbox.is_closing();
        self.error.is_some() || self.outbox.is_closed() || (closing && self.outbox.waiting() == 0)
    }

    /// Whether it can be closed because nothing is left to be done for it.
    pub(super) fn is_idle(&self) -> bool {
        self.blocked
            || !self.queued && !self.readable && self.outbox.waiting() == 0 && self.input.is_empty()
            || self.watched == Watched::Always
    }

    /// Whether another worker may have it. What waits for a change does so here.
    pub(super) fn can_move(&self) -> bool {
        self.stream.is_socket() && !self.blocked && self.watch.is_none() && !self.closing && !self.is_over()
    }

    /// Is watched no more by the worker that has it, so that another can have it.
    pub(super) fn depart(&mut self, registry: &Registry) {
        self.stream.unwatch(registry);
    }

    /// Belongs to another worker from now on, who is to serve it and to write what was sent meanwhile.
    pub(super) fn arrive(&mut self, token: Token, registry: &Registry, mailbox: &Arc<Mailbox>) {
        if let Err(error) = self.stream.watch(registry, token) {
            self.error = Some(error);
        }
        self.token = token;
        self.mailbox = mailbox.clone();
        self.outbox.move_to(mailbox, token);
        self.readable = true;
        self.queued = true;
    }

    /// The poller has announced input, or the end of it. Says whether it is to be served and is not in the list yet.
    #[must_use]
    pub(super) fn note_readable(&mut self, closed: bool) -> bool {
        self.read_closed |= closed;
        self.readable = true;
        !mem::replace(&mut self.queued, true)
    }

    /// What its event waits for has changed. Says whether it is to be served and is not in the list yet.
    #[must_use]
    pub(super) fn resume(&mut self) -> bool {
        self.blocked = false;
        self.watch = None;
        self.until = None;
        !mem::replace(&mut self.queued, true)
    }

    /// The time has come that its blocked event gave, if that is still the time.
    #[must_use]
    pub(super) fn time_out(&mut self, when: Instant) -> bool {
        self.blocked && self.until == Some(when) && {
            self.timed_out = true;
            self.resume()
        }
    }

    fn is_full(&self) -> bool {
        self.outbox.waiting() > self.hosted.limits.high_water
    }

    /// Reads once, and runs the events that the input gives. Says whether there is more to do, after the others.
    #[must_use]
    pub(super) fn serve(&mut self, runner: &mut Runner, scratch: &mut [u8]) -> bool {
        self.queued = false;
        self.closing |= self.outbox.is_closing();
        if self.closing || self.is_full() || self.is_over() {
            return false;
        }
        runner.site = self.hosted.site;
        if self.stream.datagrams().is_some() {
            self.receive_datagrams(runner, scratch);
        } else {
            self.receive(runner, scratch);
        }
        let full = self.is_full();
        // The client of a blocked event that has left, or will send no more, is not waited for. What it sent last may be unread still.
        if (self.ended || self.blocked && self.read_closed) && !full {
            self.closing = true;
        }
        let waits = self.closing || full || self.blocked && self.input.len() > AHEAD;
        let more = self.readable && !waits;
        self.queued |= more;
        more
    }

    fn receive(&mut self, runner: &mut Runner, scratch: &mut [u8]) {
        // What a blocked connection sends is read only as far as shows whether the peer is still there.
        let mut fresh = 0;
        if self.readable && !(self.blocked && self.input.len() > AHEAD) {
            match self.stream.read(scratch) {
                Ok(0) => {
                    self.readable = false;
                    self.ended = true;
                }
                Ok(n) => {
                    fresh = n;
                    // A read that was not full has emptied the socket; what comes later is a new edge. Not so if the end was announced
                    // with the same edge: it is still there.
                    self.readable = n == scratch.len() || self.read_closed || !self.stream.is_socket();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    // Who writes into a pipe learns of its end by being told.
                    self.ended |= self.read_closed && matches!(self.stream, Stream::Pipes(None, _));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.error = Some(error);
                    return;
                }
            }
        }
        let fresh = &scratch[..fresh];
        if self.blocked {
            self.input.extend_from_slice(fresh);
        } else if self.input.is_empty() {
            // Most requests are taken right out of the buffer they were read into.
            let taken = self.take(runner, fresh);
            self.input.extend_from_slice(&fresh[taken..]);
        } else {
            self.input.extend_from_slice(fresh);
            let mut input = mem::take(&mut self.input);
            let taken = self.take(runner, &input);
            if taken < input.len() {
                input.drain(..taken);
                self.input = input;
            }
        }
        if self.input.len() > self.hosted.limits.input {
            self.error = Some(io::Error::other("too much input at once"));
        }
    }

    fn receive_datagrams(&mut self, runner: &mut Runner, scratch: &mut [u8]) {
        if !self.blocked && self.sender.is_some() {
            let input = mem::take(&mut self.input);
            self.take_datagram(runner, &input);
        }
        for _ in 0..DATAGRAMS {
            if self.blocked || self.closing || self.is_full() {
                return;
            }
            let Some(socket) = self.stream.datagrams() else { return };
            match socket.recv_from(scratch) {
                Ok((length, sender)) => {
                    self.sender = Some(sender);
                    self.take_datagram(runner, &scratch[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return;
                }
                // Word that an earlier datagram has not arrived says nothing about the next one.
                Err(_) => {}
            }
        }
    }

    fn take_datagram(&mut self, runner: &mut Runner, datagram: &[u8]) {
        self.call(runner, datagram);
        if self.blocked {
            self.input = datagram.to_vec();
        } else {
            self.sender = None;
        }
    }

    /// Lets the session take requests off the input, and says how much it took.
    fn take(&mut self, runner: &mut Runner, input: &[u8]) -> usize {
        let mut taken = 0;
        while taken < input.len() && !self.closing && !self.outbox.is_closing() && !self.is_full() {
            match self.call(runner, &input[taken..]) {
                Next::Took(n) => taken += n,
                _ => break,
            }
        }
        taken
    }

    /// Lets the session make one event of its input.
    #[inline]
    fn call(&mut self, runner: &mut Runner, input: &[u8]) -> Next {
        let mut io = Io {
            runner,
            outbox: Some(&self.outbox),
            watch: &mut self.watch,
            timed_out: mem::take(&mut self.timed_out),
            sender: self.sender,
        };
        let session = &mut self.session;
        // A session that panics outside its events costs its connection, not the worker.
        let next = catch_unwind(AssertUnwindSafe(|| session.receive(input, &mut io))).unwrap_or_else(|payload| {
            runner.failed(format!("a session panicked: {}", crate::error::message(&*payload)));
            self.error = Some(io::Error::other("the session panicked"));
            Next::Close
        });
        match next {
            Next::Close => self.closing = true,
            Next::Blocked(until) => {
                self.blocked = true;
                self.until = until;
                self.fresh_until = until;
                if let Some(watch) = &self.watch {
                    let (mailbox, token) = (self.mailbox.clone(), self.token);
                    watch.on_change(move || mailbox.leave(Note::Resume(token)));
                }
            }
            Next::Took(n) => assert!(n <= input.len(), "a session takes no more than it was given"),
            Next::Incomplete => {}
        }
        next
    }

    /// Until when an event waits at the latest that has begun to wait.
    pub(super) fn take_deadline(&mut self) -> Option<Instant> {
        self.fresh_until.take()
    }

    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// Writes what was sent. Says whether there is something to serve that was held back.
    #[must_use]
    pub(super) fn write(&mut self, runner: &mut Runner) -> bool {
        let before = self.outbox.waiting();
        let (shared, mut lost) = (&runner.shared, Vec::new());
        let written = self.outbox.write(&mut self.stream, |task| shared.push(task, None), |error| lost.push(error));
        if let Err(error) = written {
            self.error = Some(error);
        }
        for error in lost {
            runner.failed(format!("a datagram could not be sent: {error}"));
        }
        let low = self.hosted.limits.low_water;
        // The input of a connection that was held back is served from where it was left.
        let more = self.outbox.waiting() <= low
            && (self.readable || self.ended || before > low)
            && !(self.queued || self.blocked || self.closing || self.is_over());
        self.queued |= more;
        more
    }

    /// Tells the session of the end, and lets go of everything.
    pub(super) fn close(mut self, runner: &mut Runner, registry: &Registry) {
        self.watch = None;
        self.stream.unwatch(registry);
        runner.site = self.hosted.site;
        let error = self.outbox.end(self.error.take());
        let Connection { mut session, outbox, mut watch, .. } = self;
        runner.catching("a session", |runner| {
            let mut io = Io { runner, outbox: Some(&outbox), watch: &mut watch, timed_out: false, sender: None };
            session.closed(&mut io, error.as_ref());
            drop(session);
        });
    }
}
