//! Sockets as sources of events.
//!
//! A [`Reactor`] has a few threads, each with its own poller and its own share of the connections. A thread that finds a connection
//! readable reads it and runs, there and then, the events that its [`Session`] makes of the input: between readiness and
//! running there is no queue, no other thread and no barrier. Events of connections of different threads run side by side, each as one
//! transaction; all that arrived in one read of one connection is a batch of events run in order.
//!
//! The contract, in addition to that of [`effects`](crate::effects):
//!
//! 1. What a session received stays in its input until the event that it makes of it has committed. An attempt that aborts, and an event
//!    that blocks, is run again with the same bytes.
//! 2. What an event [sends](Event::send), to its own connection or to any other, is appended to that connection's [`Outbox`]
//!    when it commits, exactly once, in the order of commits for each outbox: an outbox is locked before the commit and unlocked when the
//!    bytes are in it. An event that fails has sent nothing.
//! 3. Outboxes are written to their sockets when the batches of a round are done, after [`Service::settle`]. A thread writes only
//!    its own connections' sockets; others leave it a note.
//! 4. A connection whose outbox holds more than the high water mark is not read until it is below the low one. Over the hard
//!    limit `send` fails inside the event that sends.
//! 5. A failed write ends the connection, and [`Session::closed`] is told of it, in which it may run an event.
//! 6. SIGTERM and SIGINT, or [`Handle::stop`]: nothing is accepted any more, what has arrived is served and what was sent is
//!    written, connections are closed as they fall idle, and what is left at the deadline is cut off.
//! 7. A thread without anything to do sleeps in its poller: there are no ticks but those that the service asks for.

mod execute;
mod limits;
mod listen;
mod mailbox;
mod outbox;
mod poller;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use execute::{Ended, Io};
pub use limits::{Limits, raise_descriptor_limit};
pub(crate) use outbox::Sends;
pub use outbox::{Outbox, OutboxFull};

use crate::TransactionQueue;
use crate::config::{Config, OnError};
use listen::Listener;
use mailbox::{Mailbox, Note};

/// What a reactor serves.
pub trait Service: Send + Sync + 'static {
    /// The state of one connection.
    type Session: Session;

    /// A connection has been accepted.
    fn connected(&self, outbox: &Outbox, peer: &str) -> Self::Session;

    /// What is sent to whom comes when there are already as many connections as there may be.
    fn refusal(&self) -> &[u8] {
        b""
    }

    /// Called on every thread after the events of a round, before anything they sent goes to a socket: the place to write out a log.
    fn settle(&self) {}

    /// Called on every thread when it starts, and again when the time it returned has come, unless that is never.
    fn timer(&self, _io: &mut Io<'_>) -> Option<Instant> {
        None
    }

    /// Something that belongs to no connection has failed: an event that another added, an output, the accepting of connections.
    fn failed(&self, what: &str) {
        eprintln!("{what}");
    }
}

/// The state of one connection, and what becomes of its input.
pub trait Session: Send + 'static {
    /// There is input: as much as has arrived and is not taken yet. It makes an event of the first request in it, or says why not.
    ///
    /// # Abort safety
    /// Called once per request; the body it passes to [`Io::event`] is called once per attempt.
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next;

    /// The connection is gone: closed by the peer (no error), by [`Next::Close`], or by a failure.
    fn closed(&mut self, _io: &mut Io<'_>, _error: Option<&io::Error>) {}
}

/// What a session made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It used up so many bytes, and may be called with the rest.
    Took(usize),
    /// It needs more than there is.
    Incomplete,
    /// Its event waits for a change: it is called with the same input when there has been one, or when the time has come.
    Blocked(Option<Instant>),
    /// The connection is to be closed when what was sent is written.
    Close,
}

/// Serves connections until it is told to stop.
pub struct Reactor<S> {
    service: S,
    threads: usize,
    limits: Limits,
    listeners: Vec<Listener>,
    signals: bool,
    shared: Arc<Shared>,
}

/// What the threads of a reactor share.
struct Shared {
    mailboxes: std::sync::OnceLock<Vec<Arc<Mailbox>>>,
    connections: AtomicUsize,
    stopping: AtomicBool,
    queue: TransactionQueue,
}

/// Stops a reactor from another thread.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// As SIGTERM does.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn stop(&self) {
        // Release pairs with the acquire of a thread that starts later than this; the others get the note.
        self.stopping.store(true, Ordering::Release);
        for mailbox in self.mailboxes.get().into_iter().flatten() {
            mailbox.leave(Note::Stop);
        }
    }
}

impl<S: Service> Reactor<S> {
    /// A reactor with one thread for each core, and nothing to listen to yet.
    pub fn new(service: S) -> Self {
        let queue = TransactionQueue::new(Config { threads: 1, on_error: OnError::Collect, ..Config::default() });
        Reactor {
            service,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            limits: Limits::default(),
            listeners: Vec::new(),
            signals: false,
            shared: Arc::new(Shared {
                mailboxes: std::sync::OnceLock::new(),
                connections: AtomicUsize::new(0),
                stopping: AtomicBool::new(false),
                queue,
            }),
        }
    }

    /// Runs on so many threads.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Stops at SIGTERM and SIGINT.
    #[must_use]
    pub fn signals(mut self) -> Self {
        self.signals = true;
        self
    }

    /// Listens on a TCP address, and says which it is: port 0 becomes one that is free.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn listen(&mut self, address: SocketAddr) -> io::Result<SocketAddr> {
        let (listener, address) = Listener::tcp(address)?;
        self.listeners.push(listener);
        Ok(address)
    }

    /// Listens on a Unix socket. A socket file that nobody listens to is replaced.
    ///
    /// # Errors
    /// If the socket cannot be had.
    pub fn listen_unix(&mut self, path: impl Into<PathBuf>) -> io::Result<()> {
        self.listeners.push(Listener::unix(path.into())?);
        Ok(())
    }

    /// A handle to stop it with.
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// The queue that takes what its events [add](crate::Event::add); it runs while the reactor does.
    pub fn queue(&self) -> TransactionQueue {
        self.shared.queue.clone()
    }

    /// Serves until it is stopped. The calling thread is one of the reactor's.
    ///
    /// # Errors
    /// If a poller cannot be made.
    pub fn run(self) -> io::Result<()> {
        let Reactor { service, threads, limits, listeners, signals, shared } = self;
        let seeds = (0..threads).map(|_| poller::Seed::new()).collect::<io::Result<Vec<_>>>()?;
        let mailboxes = seeds.iter().map(|seed| seed.mailbox.clone()).collect();
        assert!(shared.mailboxes.set(mailboxes).is_ok(), "a reactor runs once");
        let mut seeds = seeds.into_iter().enumerate();
        let (index, seed) = seeds.next().expect("at least one thread");
        let mut first = poller::Poller::new(index, seed, &service, &limits, &shared);
        for listener in listeners {
            first.add_listener(listener)?;
        }
        if signals {
            first.add_signals()?;
        }
        let hold = shared.queue.hold();
        let queue = shared.queue.clone();
        std::thread::scope(|scope| {
            let (service, limits, shared) = (&service, &limits, &shared);
            let runner = std::thread::Builder::new().name("optimist-queue".into());
            let run = move || match queue.run() {
                Ok(report) => report.errors.iter().for_each(|error| service.failed(&error.to_string())),
                Err(error) => service.failed(&error.to_string()),
            };
            runner.spawn_scoped(scope, run)?;
            for (index, seed) in seeds {
                let run = move || poller::Poller::new(index, seed, service, limits, shared).run();
                std::thread::Builder::new().name(format!("optimist-io-{index}")).spawn_scoped(scope, run)?;
            }
            first.run();
            shared.queue.drain();
            drop(hold);
            Ok(())
        })
    }
}

/// How long a stopping reactor waits for its connections, by default.
const GRACE: Duration = Duration::from_secs(5);
