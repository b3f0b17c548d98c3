//! A worker's share of the reactor: its poller, its connections, and the rounds in which it serves them.
//!
//! A round: note who is readable; read each of those once and run the batch of events that this gives; settle; write what was sent. A
//! connection whose read filled the buffer has probably more, and comes again in the next round, after the others.
//!
//! A connection is handed over after a round: the old worker stops watching it and leaves it in the new one's mailbox. Whoever sends to it
//! meanwhile leaves a note that finds nobody, for the token is used up; so the new worker, once the outbox names it, reads and writes
//! without having been told to.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::connection::{Connection, READ};
use super::execute::{Io, Runner};
use super::mailbox::{Mailbox, Note};
use super::outbox;
use super::source::{Listener, Stream};
use super::{Hosted, Reactor, Source, State, governor, signals};
use crate::queue::{Shared, TransactionQueue};

const MAILBOX: Token = Token(0);
const FIRST_SOURCE: usize = 1;
/// Tokens from here on are connections: the index, and the generation in the upper half.
const FIRST_CONNECTION: usize = 1 << 16;

/// How long accepting pauses when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many events of the operating system are taken at once.
const EVENTS: usize = 1024;

pub(crate) struct Poller {
    shared: Arc<Shared>,
    poll: Poll,
    events: Events,
    mailbox: Arc<Mailbox>,
    sources: Vec<Watching>,
    /// The services of the queue, as far as this worker knows them, and when each wants to be called.
    services: Vec<(Arc<Hosted>, Option<Instant>)>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Connections with input to serve.
    ready: VecDeque<Token>,
    to_write: Vec<Token>,
    /// When blocked connections give up; stale entries are recognised by the connection's own time.
    deadlines: BinaryHeap<Reverse<(Instant, Token)>>,
    scratch: Vec<u8>,
    /// Accepting is paused until then.
    accept_at: Option<Instant>,
    /// When what is left is cut off.
    stop_at: Option<Instant>,
    /// It may have too many connections.
    level: bool,
    /// When the load is looked at next.
    look_at: Instant,
}

/// What is watched that is no connection.
enum Watching {
    Listener(Listener, Arc<Hosted>),
    Signal(signals::Receiver),
}

struct Slot {
    generation: usize,
    connection: Option<Box<Connection>>,
}

impl Poller {
    /// A poller, made on the thread of its worker.
    pub(crate) fn new(shared: &Arc<Shared>, runner: &mut Runner, draining: impl FnOnce() -> bool) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox::new(&poll, MAILBOX)?);
        outbox::enter(Some(mailbox.clone()));
        let mut poller = Poller {
            shared: shared.clone(),
            poll,
            events: Events::with_capacity(EVENTS),
            mailbox: mailbox.clone(),
            sources: Vec::new(),
            services: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            to_write: Vec::new(),
            deadlines: BinaryHeap::new(),
            scratch: vec![0; READ],
            accept_at: None,
            stop_at: None,
            level: false,
            look_at: Instant::now(),
        };
        poller.reactor().state.lock().mailboxes.push(mailbox);
        poller.look_for_sources(runner);
        // After the mailbox is known: either this sees that the run drains, or whoever drains it leaves a note.
        if draining() {
            poller.begin_stop();
        }
        Ok(poller)
    }

    fn reactor(&self) -> &Reactor {
        self.shared.reactor.get().expect("there is no poller without a reactor")
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Whether there is something to do that no poll is needed for.
    pub(crate) fn has_work(&self) -> bool {
        !self.ready.is_empty() || outbox::has_to_write()
    }

    /// When there is something to do although nothing becomes ready.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let deadline = self.deadlines.peek().map(|Reverse((when, _))| *when);
        let timers = self.services.iter().filter_map(|(_, timer)| *timer);
        timers.chain([deadline, self.accept_at, self.stop_at].into_iter().flatten()).min()
    }

    /// Waits until something is ready, somebody wakes the worker, or the time has passed.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// A round.
    pub(crate) fn serve(&mut self, runner: &mut Runner) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                MAILBOX => self.read_notes(runner),
                Token(source) if source < FIRST_CONNECTION => self.source_ready(source - FIRST_SOURCE, runner),
                token => {
                    if event.is_writable() {
                        self.write(token, runner);
                    }
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        self.note_readable(token, event.is_read_closed() || event.is_error());
                    }
                }
            }
        }
        self.events = events;
        self.events.clear();
        self.look_at_times(runner);
        for _ in 0..self.ready.len() {
            if let Some(token) = self.ready.pop_front() {
                self.serve_connection(token, runner);
            }
        }
        self.settle(runner);
        let mut to_write = std::mem::take(&mut self.to_write);
        outbox::take_to_write(&mut to_write);
        for token in to_write.drain(..) {
            self.write(token, runner);
        }
        self.to_write = to_write;
        self.mailbox.accounts.note(runner.events());
        // After the round, when all that was sent has been settled.
        if std::mem::take(&mut self.level) {
            self.hand_over(runner);
        }
        if self.stop_at.is_some() {
            self.close_idle(runner);
        }
    }

    fn look_at_times(&mut self, runner: &mut Runner) {
        if self.deadline().is_none() {
            return;
        }
        let now = Instant::now();
        while let Some(Reverse((when, token))) = self.deadlines.peek().copied()
            && when <= now
        {
            self.deadlines.pop();
            if let Some(connection) = self.connection(token)
                && connection.time_out(when)
            {
                self.ready.push_back(token);
            }
        }
        for index in 0..self.services.len() {
            if self.services[index].1.is_some_and(|when| when <= now) {
                self.fire_timer(index, runner);
            }
        }
        if self.accept_at.is_some_and(|when| when <= now) {
            self.accept_at = None;
            for source in 0..self.sources.len() {
                self.source_ready(source, runner);
            }
        }
        if self.stop_at.is_some_and(|when| when <= now) {
            for index in 0..self.slots.len() {
                if let Some(connection) = &mut self.slots[index].connection {
                    connection.error.get_or_insert_with(|| io::Error::new(io::ErrorKind::TimedOut, "cut off"));
                }
                self.close(index, runner);
            }
        }
    }

    fn fire_timer(&mut self, index: usize, runner: &mut Runner) {
        let (hosted, timer) = &mut self.services[index];
        runner.site = hosted.site;
        let next = runner.catching("a timer", |runner| {
            let mut watch = None;
            let mut io = Io { runner, outbox: None, watch: &mut watch, timed_out: false, sender: None };
            hosted.service.timer(&mut io)
        });
        *timer = next.flatten();
    }

    fn settle(&mut self, runner: &mut Runner) {
        for (hosted, _) in &self.services {
            runner.site = hosted.site;
            runner.catching("a service", |_| hosted.service.settle());
        }
        for output in std::mem::take(&mut runner.unflushed) {
            if let Err(error) = output.flush() {
                runner.failed(format!("{} could not be written: {error}", output.name()));
            }
        }
    }

    fn read_notes(&mut self, runner: &mut Runner) {
        for note in self.mailbox.take() {
            match note {
                Note::Connection(stream, peer, hosted) => self.adopt(stream, &peer, hosted, runner),
                Note::Moved(connection) => self.welcome(connection, runner),
                Note::Level => self.level = true,
                Note::Flush(token) => self.write(token, runner),
                Note::Resume(token) => {
                    if let Some(connection) = self.connection(token)
                        && connection.resume()
                    {
                        self.ready.push_back(token);
                    }
                }
                Note::Look => self.look_for_sources(runner),
                Note::Drain => self.begin_stop(),
            }
        }
    }

    /// Begins to watch what nobody watches yet, and meets services that are new.
    fn look_for_sources(&mut self, runner: &mut Runner) {
        let (sources, services) = {
            let mut state = self.reactor().state.lock();
            (std::mem::take(&mut state.sources), state.services[self.services.len()..].to_vec())
        };
        for hosted in services {
            self.services.push((hosted, None));
            self.fire_timer(self.services.len() - 1, runner);
        }
        for source in sources {
            match source {
                Source::Listener(listener, hosted) => self.watch(Watching::Listener(listener, hosted), runner),
                Source::Signal(receiver) => self.watch(Watching::Signal(receiver), runner),
                Source::Stream(stream, peer, hosted) => self.place(stream, peer, hosted, runner),
            }
        }
    }

    fn watch(&mut self, mut watching: Watching, runner: &mut Runner) {
        let token = Token(FIRST_SOURCE + self.sources.len());
        assert!(token.0 < FIRST_CONNECTION, "too many listeners");
        let registry = self.poll.registry();
        let result = match &mut watching {
            Watching::Listener(listener, _) => registry.register(listener, token, Interest::READABLE),
            Watching::Signal(receiver) => registry.register(&mut receiver.stream, token, Interest::READABLE),
        };
        if let Err(error) = result {
            runner.failed(format!("a source cannot be watched: {error}"));
        }
        self.sources.push(watching);
        if self.stop_at.is_some() {
            self.close_listeners();
        }
    }

    fn close_listeners(&mut self) {
        let before = self.sources.len();
        self.sources.retain(|source| matches!(source, Watching::Signal(_)));
        // Tokens are places, and the signals have moved up.
        for (index, source) in self.sources.iter_mut().enumerate() {
            if let Watching::Signal(receiver) = source {
                let token = Token(FIRST_SOURCE + index);
                let _ = self.poll.registry().reregister(&mut receiver.stream, token, Interest::READABLE);
            }
        }
        self.reactor().leave(before - self.sources.len());
        self.accept_at = None;
    }

    fn begin_stop(&mut self) {
        self.close_listeners();
        let grace = self.services.iter().map(|(hosted, _)| hosted.limits.grace).max().unwrap_or_default();
        self.stop_at.get_or_insert_with(|| Instant::now() + grace);
        for slot in &mut self.slots {
            // Whoever has sent something that was not noticed yet is served.
            if let Some(connection) = &mut slot.connection
                && connection.note_readable(false)
            {
                self.ready.push_back(connection.token());
            }
        }
    }

    fn source_ready(&mut self, index: usize, runner: &mut Runner) {
        match self.sources.get_mut(index) {
            Some(Watching::Listener(..)) => self.accept(index, runner),
            Some(Watching::Signal(receiver)) => {
                let action = receiver.take().then(|| receiver.action.clone());
                let queue = TransactionQueue::from_shared(self.shared.clone());
                runner.catching("a signal's action", |_| action.iter().for_each(|action| action(&queue)));
            }
            None => {}
        }
    }

    fn accept(&mut self, index: usize, runner: &mut Runner) {
        while let Some(Watching::Listener(listener, hosted)) = self.sources.get(index) {
            match listener.accept() {
                Ok((mut stream, peer)) => {
                    // Relaxed: it is a measure, not a promise.
                    if hosted.connections.load(Ordering::Relaxed) >= hosted.limits.connections {
                        // It fits into an empty socket buffer, or the peer is gone.
                        let _ = stream.write(hosted.service.refusal());
                        continue;
                    }
                    let hosted = hosted.clone();
                    self.reactor().enter(1);
                    self.place(stream, peer, hosted, runner);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error) => {
                    runner.site = hosted.site;
                    runner.failed(format!("no connection can be accepted for a while: {error}"));
                    self.accept_at = Some(Instant::now() + ACCEPT_PAUSE);
                    break;
                }
            }
        }
    }

    /// Gives a connection to the worker that has the fewest.
    fn place(&mut self, stream: Stream, peer: String, hosted: Arc<Hosted>, runner: &mut Runner) {
        hosted.connections.fetch_add(1, Ordering::Relaxed);
        {
            let mut state = self.reactor().state.lock();
            let count = state.governor.active(state.mailboxes.len());
            let first = state.next;
            state.next = first + 1;
            let place = (0..count)
                .map(|step| (first + step) % count)
                .min_by_key(|place| state.mailboxes[*place].live.load(Ordering::Relaxed));
            let mailbox = &state.mailboxes[place.expect("this worker has a mailbox")];
            mailbox.live.fetch_add(1, Ordering::Relaxed);
            if !Arc::ptr_eq(mailbox, &self.mailbox) {
                // Under the lock, so that its worker is not ending.
                return mailbox.leave(Note::Connection(stream, peer, hosted));
            }
        }
        self.adopt(stream, &peer, hosted, runner);
    }

    /// A connection does not come about, or is over.
    fn forget(&self, hosted: &Hosted) {
        hosted.connections.fetch_sub(1, Ordering::Relaxed);
        self.mailbox.live.fetch_sub(1, Ordering::Relaxed);
        self.reactor().leave(1);
    }

    fn adopt(&mut self, stream: Stream, peer: &str, hosted: Arc<Hosted>, runner: &mut Runner) {
        if self.stop_at.is_some() {
            return self.forget(&hosted);
        }
        let (index, token) = self.take_slot();
        runner.site = hosted.site;
        let registry = self.poll.registry();
        match Connection::new(stream, peer, hosted.clone(), token, registry, &self.mailbox, runner) {
            Some(connection) => {
                self.slots[index].connection = Some(Box::new(connection));
                self.ready.push_back(token);
            }
            None => {
                self.free.push(index);
                self.forget(&hosted);
            }
        }
    }

    fn take_slot(&mut self) -> (usize, Token) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: None });
            self.slots.len() - 1
        });
        (index, Token((FIRST_CONNECTION + index) | (self.slots[index].generation << 32)))
    }

    fn give_slot_back(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.generation = (slot.generation + 1) & 0x7FFF_FFFF;
        self.free.push(index);
    }

    /// Takes a connection over from another worker.
    fn welcome(&mut self, mut connection: Box<Connection>, runner: &mut Runner) {
        let (index, token) = self.take_slot();
        connection.arrive(token, self.poll.registry(), &self.mailbox);
        self.slots[index].connection = Some(connection);
        self.ready.push_back(token);
        self.write(token, runner);
    }

    /// Hands connections over to workers that are to have more.
    fn hand_over(&mut self, runner: &mut Runner) {
        let shared = self.shared.clone();
        // All the time, so that no other worker is ending.
        let Some(state) = shared.reactor.get().map(|reactor| reactor.state.lock()) else { return };
        let (serving, others) = state.mailboxes.split_at(state.governor.active(state.mailboxes.len()));
        let live = |mailbox: &Arc<Mailbox>| mailbox.live.load(Ordering::Relaxed);
        let share = if serving.contains(&self.mailbox) {
            serving.iter().chain(others).map(live).sum::<usize>().div_ceil(serving.len())
        } else {
            0
        };
        for index in 0..self.slots.len() {
            if live(&self.mailbox) <= share {
                break;
            }
            let to = serving.iter().filter(|mailbox| **mailbox != self.mailbox).min_by_key(|mailbox| live(mailbox));
            if let Some(to) = to
                && let Some(mut connection) = self.slots[index].connection.take_if(|connection| connection.can_move())
            {
                connection.depart(self.poll.registry());
                self.give_slot_back(index);
                self.mailbox.live.fetch_sub(1, Ordering::Relaxed);
                to.live.fetch_add(1, Ordering::Relaxed);
                to.leave(Note::Moved(connection));
                runner.note_moved();
            }
        }
    }

    /// Now and then, lets the governor look at the load and say how many workers are to have connections.
    #[inline]
    pub(crate) fn govern(&mut self, now: Instant) {
        if now >= self.look_at {
            self.look_at = now + governor::WINDOW;
            self.look_at_load(now);
        }
    }

    #[cold]
    fn look_at_load(&self, now: Instant) {
        let mut state = self.reactor().state.lock();
        let State { mailboxes, governor, .. } = &mut *state;
        if mailboxes.first() == Some(&self.mailbox)
            && let Some(load) = mailboxes.iter().map(|mailbox| mailbox.accounts.read()).sum()
            && governor.look(now, mailboxes.len(), load)
        {
            mailboxes.iter().for_each(|mailbox| mailbox.leave(Note::Level));
        }
    }

    fn index_of(&self, token: Token) -> Option<usize> {
        let index = (token.0 & 0xFFFF_FFFF) - FIRST_CONNECTION;
        (self.slots.get(index)?.generation == token.0 >> 32).then_some(index)
    }

    fn connection(&mut self, token: Token) -> Option<&mut Connection> {
        let index = self.index_of(token)?;
        self.slots[index].connection.as_deref_mut()
    }

    fn note_readable(&mut self, token: Token, closed: bool) {
        if let Some(connection) = self.connection(token)
            && connection.note_readable(closed)
        {
            self.ready.push_back(token);
        }
    }

    fn serve_connection(&mut self, token: Token, runner: &mut Runner) {
        let Some(index) = self.index_of(token) else { return };
        let Some(connection) = self.slots[index].connection.as_deref_mut() else { return };
        if connection.serve(runner, &mut self.scratch) {
            self.ready.push_back(token);
        }
        if connection.is_over() {
            self.close(index, runner);
        } else if let Some(when) = connection.take_deadline() {
            self.deadlines.push(Reverse((when, token)));
        }
    }

    fn write(&mut self, token: Token, runner: &mut Runner) {
        let Some(index) = self.index_of(token) else { return };
        let Some(connection) = self.slots[index].connection.as_deref_mut() else { return };
        if connection.write(runner) {
            self.ready.push_back(token);
        }
        if connection.is_over() {
            self.close(index, runner);
        }
    }

    fn close_idle(&mut self, runner: &mut Runner) {
        for index in 0..self.slots.len() {
            if self.slots[index].connection.as_ref().is_some_and(|connection| connection.is_idle()) {
                self.close(index, runner);
            }
        }
    }

    fn close(&mut self, index: usize, runner: &mut Runner) {
        let Some(connection) = self.slots[index].connection.take() else { return };
        let hosted = connection.hosted.clone();
        connection.close(runner, self.poll.registry());
        self.give_slot_back(index);
        self.forget(&hosted);
    }

    /// Ends with the run: closes the connections, and leaves the sources to the next one.
    pub(crate) fn end(mut self, runner: &mut Runner) {
        {
            let mut state = self.reactor().state.lock();
            state.mailboxes.retain(|mailbox| !Arc::ptr_eq(mailbox, &self.mailbox));
        }
        // Nobody finds the mailbox any more.
        for note in self.mailbox.take() {
            match note {
                Note::Connection(_, _, hosted) => self.forget(&hosted),
                Note::Moved(connection) => self.welcome(connection, runner),
                _ => {}
            }
        }
        let sources = std::mem::take(&mut self.sources);
        for index in 0..self.slots.len() {
            self.close(index, runner);
        }
        self.settle(runner);
        outbox::enter(None);
        let mut state = self.reactor().state.lock();
        for source in sources {
            state.sources.push(match source {
                Watching::Listener(mut listener, hosted) => {
                    let _ = self.poll.registry().deregister(&mut listener);
                    Source::Listener(listener, hosted)
                }
                Watching::Signal(mut receiver) => {
                    let _ = self.poll.registry().deregister(&mut receiver.stream);
                    Source::Signal(receiver)
                }
            });
        }
    }
}
