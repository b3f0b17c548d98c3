//! The reactor: sockets, pipes and signals as sources of a queue's events.
//!
//! There is no I/O thread. Each worker of a run has a poller and its own share of the connections. A worker that finds a connection readable
//! reads it and runs, there and then, the events that its [`Session`] makes of the input: between readiness and running there is no queue, no
//! other thread and no barrier. It turns to its poller again and again, and to the events of the queue in between; when there is
//! neither, it sleeps in its poller, where whatever adds an event finds it. So a server is a queue with something to listen to:
//!
//! ```no_run
//! use optimist_dispatcher::reactor::{Ended, Io, Limits, Next, Outbox, Service, Session};
//! use optimist_dispatcher::{TVar, TransactionQueue};
//!
//! /// Answers each byte with how many there have been, from whomever.
//! #[derive(Clone, Default)]
//! struct Count(TVar<u64>);
//!
//! impl Service for Count {
//!     type Session = Count;
//!     fn connected(&self, _outbox: &Outbox, _peer: &str) -> Count {
//!         self.clone()
//!     }
//! }
//!
//! impl Session for Count {
//!     fn receive(&mut self, _input: &[u8], io: &mut Io<'_>) -> Next {
//!         let outbox = io.outbox().clone();
//!         let ended = io.event(|ev| {
//!             let count = self.0.get(ev)? + 1;
//!             self.0.set(ev, count)?;
//!             ev.send(&outbox, format!("{count}\n").as_bytes())
//!         });
//!         if matches!(ended, Ended::Committed(())) { Next::Took(1) } else { Next::Close }
//!     }
//! }
//!
//! let queue = TransactionQueue::default();
//! queue.serve(Limits::default(), Count::default()).listen("127.0.0.1:7000")?;
//! queue.drain_on_termination(std::time::Duration::from_secs(5))?;
//! queue.run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The contract, in addition to that of [`effects`](crate::effects):
//!
//! 1. What a session received stays in its input until the event that it makes of it has committed. An attempt that aborts, and an event
//!    that blocks, is run again with the same bytes. What arrives while an event runs is no part of its input: whatever it sends,
//!    it receives only what had arrived before.
//! 2. What an event [sends](Event::send), to its own connection or to any other, is appended to that connection's [`Outbox`]
//!    when it commits, exactly once, in the order of commits for each outbox: an outbox is locked before the commit and unlocked when the
//!    bytes are in it. An event that fails has sent nothing.
//! 3. Outboxes are written to their sockets when the batches of a round are done, after [`Service::settle`]. A worker writes only
//!    its own connections' sockets; others leave it a note. What is to follow the writing is [said with the sending](Event::send_then).
//!    Between two rounds a connection may be handed over to another worker, so a session keeps nothing in its thread: workers that wait for
//!    processors are tried with fewer of them serving, and stay like that if more is served.
//! 4. A connection whose outbox holds more than the high water mark is not read until it is below the low one, and events that
//!    send to it from elsewhere can [wait for room](Outbox::wait_for_room). Over the hard limit `send` fails inside the event that sends.
//! 5. A failed write ends the connection, and [`Session::closed`] is told of it and of the event to which the first byte that was not
//!    written belongs ([`Unsent`]), in which it may run an event.
//! 6. An event that [retries](optimist_stm::Tx::retry) blocks no worker. It is run again when something that it has read changes, or when the
//!    time comes that its session gave; when its client leaves, it is dropped and the session told.
//! 7. SIGTERM and SIGINT ([`TransactionQueue::drain_on_termination`]), or [`TransactionQueue::drain`]: nothing is accepted any more, what
//!    has arrived is served and what was sent is written, connections are closed as they fall idle, and what is left at the deadline is
//!    cut off.
//! 8. While there is a listener, a datagram socket or a connection, the run goes on. Connections end with their run, however it
//!    ends; listeners stay with the queue until it drains.
//! 9. Events of connections count in the run's report as all others; they have no place in its [order](crate::Order). A session deals itself
//!    with the failures of its events. What nobody else is there to deal with (its own panics, a listener that cannot accept) is an error of
//!    the run, as [`Config::on_error`](crate::Config::on_error) says.

mod connection;
mod execute;
mod governor;
mod limits;
mod mailbox;
mod outbox;
mod poller;
mod signals;
mod source;

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use parking_lot::Mutex;

pub(crate) use execute::Runner;
pub use execute::{Ended, Io};
pub use limits::{Limits, raise_descriptor_limit};
pub(crate) use mailbox::Mailbox;
pub(crate) use outbox::Sends;
pub use outbox::{Outbox, OutboxFull, Unsent};
pub(crate) use poller::Poller;
pub use signals::Signal;

use crate::queue::{Shared, TransactionQueue};
use governor::Governor;
use mailbox::Note;
use source::{Listener, Stream};

#[cfg(doc)]
use crate::event::Event;

/// What a server does with its clients.
pub trait Service: Send + Sync + 'static {
    /// The state of one connection.
    type Session: Session;

    /// A connection has been accepted.
    fn connected(&self, outbox: &Outbox, peer: &str) -> Self::Session;

    /// What is sent to whom comes when there are already as many connections as there may be.
    fn refusal(&self) -> &[u8] {
        b""
    }

    /// Called on every worker after the events of a round, before anything they sent goes to a socket: the place to write out a log.
    fn settle(&self) {}

    /// Called on every worker when it starts, and again when the time it returned has come, unless that is never.
    fn timer(&self, _io: &mut Io<'_>) -> Option<Instant> {
        None
    }
}

/// The state of one connection, and what becomes of its input.
pub trait Session: Send + 'static {
    /// There is input: as much as has arrived and is not taken yet, or one datagram. It makes an event of the first request in it, or says
    /// why not.
    ///
    /// # Panics
    /// If it panics, or takes more than there is, the connection is closed.
    ///
    /// # Abort safety
    /// Called once per request; the body it passes to [`Io::event`] is called once per attempt.
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next;

    /// The connection is gone: closed by the peer (no error), by [`Next::Close`], or by a failure, which is an [`Unsent`] within if it
    /// left something unwritten.
    fn closed(&mut self, _io: &mut Io<'_>, _error: Option<&io::Error>) {}
}

/// What a session made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It used up so many bytes, and may be called with the rest. Of a datagram nothing is left in any case.
    Took(usize),
    /// It needs more than there is.
    Incomplete,
    /// Its event waits for a change: it is called with the same input when there has been one, or when the time has come.
    Blocked(Option<Instant>),
    /// The connection is to be closed when what was sent is written.
    Close,
}

/// A service as the pollers see it.
trait AnyService: Send + Sync {
    fn connected(&self, outbox: &Outbox, peer: &str) -> Box<dyn Session>;
    fn refusal(&self) -> &[u8];
    fn settle(&self);
    fn timer(&self, io: &mut Io<'_>) -> Option<Instant>;
}

impl<S: Service> AnyService for S {
    fn connected(&self, outbox: &Outbox, peer: &str) -> Box<dyn Session> {
        Box::new(Service::connected(self, outbox, peer))
    }

    fn refusal(&self) -> &[u8] {
        Service::refusal(self)
    }

    fn settle(&self) {
        Service::settle(self);
    }

    fn timer(&self, io: &mut Io<'_>) -> Option<Instant> {
        Service::timer(self, io)
    }
}

/// A service of a queue.
struct Hosted {
    service: Box<dyn AnyService>,
    limits: Limits,
    connections: AtomicUsize,
    /// Where it was given to the queue.
    site: &'static Location<'static>,
}

/// What the workers of a queue's run share of its sources.
pub(crate) struct Reactor {
    state: Mutex<State>,
    /// How many listeners, datagram sockets and connections there are.
    alive: AtomicUsize,
}

#[derive(Default)]
struct State {
    services: Vec<Arc<Hosted>>,
    /// Sources that no poller watches.
    sources: Vec<Source>,
    /// The mailboxes of the workers that have a poller.
    mailboxes: Vec<Arc<Mailbox>>,
    /// How many of them have connections.
    governor: Governor,
    /// Where the next connection goes, among equals.
    next: usize,
}

enum Source {
    Listener(Listener, Arc<Hosted>),
    Stream(Stream, String, Arc<Hosted>),
    Signal(signals::Receiver),
}

impl Reactor {
    fn new() -> Self {
        Reactor { state: Mutex::default(), alive: AtomicUsize::new(0) }
    }

    /// Whether there is any listener, datagram socket or connection.
    pub(crate) fn is_empty(&self) -> bool {
        // Acquire pairs with the release in `leave`: whoever sees that the last one is gone sees the events that it has added.
        self.alive.load(Ordering::Acquire) == 0
    }

    fn enter(&self, count: usize) {
        // Relaxed: whoever adds one holds another up, or wakes a worker.
        self.alive.fetch_add(count, Ordering::Relaxed);
    }

    fn leave(&self, count: usize) {
        self.alive.fetch_sub(count, Ordering::Release);
    }

    /// Accepts no more, and closes what falls idle.
    pub(crate) fn drain(&self) {
        let mut state = self.state.lock();
        let before = state.sources.len();
        state.sources.retain(|source| !matches!(source, Source::Listener(..)));
        self.leave(before - state.sources.len());
        state.mailboxes.iter().for_each(|mailbox| mailbox.leave(Note::Drain));
    }

    fn add(&self, source: Source) {
        let mut state = self.state.lock();
        if !matches!(source, Source::Signal(_)) {
            self.enter(1);
        }
        state.sources.push(source);
        if let Some(mailbox) = state.mailboxes.first() {
            mailbox.leave(Note::Look);
        }
    }
}

impl Shared {
    /// The reactor, made at its first use.
    fn reactor(&self) -> &Reactor {
        let mut made = false;
        let reactor = self.reactor.get_or_init(|| {
            made = true;
            Reactor::new()
        });
        if made {
            self.sleep.rouse();
        }
        reactor
    }
}

/// A service that a queue's run offers, and where it is to be had. Cloning it gives another handle to the same one.
#[derive(Clone)]
pub struct Server {
    queue: TransactionQueue,
    hosted: Arc<Hosted>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

impl Server {
    fn add(&self, source: Source) {
        self.queue.shared().reactor().add(source);
    }

    /// Listens on a TCP address, and says which it is: port 0 becomes one that is free.
    ///
    /// # Errors
    /// If the address cannot be had.
    ///
    /// # Atomicity
    /// Within an event this happens at once, and is not undone if the event aborts: it belongs into [`Event::on_commit`].
    pub fn listen(&self, address: impl ToSocketAddrs) -> io::Result<SocketAddr> {
        let reserved = self.reserve(address)?;
        let address = reserved.address();
        reserved.accept();
        Ok(address)
    }

    /// Takes a TCP address without accepting anybody there yet. If what is returned is dropped, the address is free again.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn reserve(&self, address: impl ToSocketAddrs) -> io::Result<Reserved> {
        let (listener, address) = Listener::tcp(resolve(address)?)?;
        Ok(Reserved { server: self.clone(), listener, address })
    }

    /// Listens on a Unix socket. A socket file that nobody listens to is replaced.
    ///
    /// # Errors
    /// If the socket cannot be had.
    pub fn listen_unix(&self, path: impl Into<PathBuf>) -> io::Result<()> {
        let listener = Listener::unix(path.into())?;
        self.add(Source::Listener(listener, self.hosted.clone()));
        Ok(())
    }

    /// Receives datagrams at a UDP address, and says which it is. The socket is one session; its input is one datagram at a time, from
    /// [`Io::sender`], and it answers with [`Event::send_to`].
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn bind_udp(&self, address: impl ToSocketAddrs) -> io::Result<SocketAddr> {
        let socket = UdpSocket::bind(resolve(address)?)?;
        let address = socket.local_addr()?;
        self.attach(Stream::Udp(socket), address.to_string());
        Ok(address)
    }

    /// Serves a TCP connection that was made elsewhere.
    ///
    /// # Errors
    /// If it cannot be made non-blocking.
    pub fn attach_tcp(&self, stream: TcpStream) -> io::Result<()> {
        let peer = stream.peer_addr()?;
        stream.set_nonblocking(true)?;
        self.attach(Stream::Tcp(mio::net::TcpStream::from_std(stream)), peer.to_string());
        Ok(())
    }

    /// Serves a connection of Unix sockets that was made elsewhere.
    ///
    /// # Errors
    /// If it cannot be made non-blocking.
    pub fn attach_unix(&self, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        self.attach(Stream::Unix(mio::net::UnixStream::from_std(stream)), "a socket".to_owned());
        Ok(())
    }

    /// Serves pipes as one connection: what the session receives comes from `reader`, what is sent to it goes into `writer`. Either may be
    /// missing.
    ///
    /// # Errors
    /// If they cannot be made non-blocking.
    pub fn attach_pipes(&self, reader: Option<OwnedFd>, writer: Option<OwnedFd>) -> io::Result<()> {
        let reader = reader.map(mio::unix::pipe::Receiver::from);
        let writer = writer.map(mio::unix::pipe::Sender::from);
        if let Some(reader) = &reader {
            reader.set_nonblocking(true)?;
        }
        if let Some(writer) = &writer {
            writer.set_nonblocking(true)?;
        }
        self.attach(Stream::Pipes(reader, writer), "a pipe".to_owned());
        Ok(())
    }

    /// Serves standard input, be it a terminal, a pipe or a file, as a connection that nothing can be sent to.
    ///
    /// # Errors
    /// If there is none.
    pub fn attach_stdin(&self) -> io::Result<()> {
        self.attach(Stream::stdin()?, "standard input".to_owned());
        Ok(())
    }

    /// Serves the content of a file as a connection that nothing can be sent to.
    pub fn attach_file(&self, file: File, name: impl Into<String>) {
        self.attach(Stream::File(file), name.into());
    }

    fn attach(&self, stream: Stream, peer: String) {
        self.add(Source::Stream(stream, peer, self.hosted.clone()));
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.hosted.connections.load(Ordering::Relaxed)
    }

    /// The queue whose runs offer it.
    #[must_use]
    pub fn queue(&self) -> &TransactionQueue {
        &self.queue
    }
}

/// An address that is taken, where nobody is accepted yet. See [`Server::reserve`].
#[must_use = "the address is free again when this is dropped"]
pub struct Reserved {
    server: Server,
    listener: Listener,
    address: SocketAddr,
}

impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Reserved {
    /// The address, which tells the port if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts clients from now on.
    pub fn accept(self) {
        self.server.add(Source::Listener(self.listener, self.server.hosted.clone()));
    }
}

fn resolve(address: impl ToSocketAddrs) -> io::Result<SocketAddr> {
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "the address names nothing");
    address.to_socket_addrs()?.next().ok_or_else(none)
}

impl TransactionQueue {
    /// Offers a service, from the next [`run`](Self::run) on or in the one in progress. What is returned says where.
    #[track_caller]
    pub fn serve(&self, limits: Limits, service: impl Service) -> Server {
        let hosted = Arc::new(Hosted {
            service: Box::new(service),
            limits,
            connections: AtomicUsize::new(0),
            site: Location::caller(),
        });
        let reactor = self.shared().reactor();
        let mut state = reactor.state.lock();
        state.services.push(hosted.clone());
        state.mailboxes.iter().for_each(|mailbox| mailbox.leave(Note::Look));
        drop(state);
        Server { queue: self.clone(), hosted }
    }

    /// Calls `action` when the process gets a signal, on a worker, outside of any event.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn on_signal(
        &self,
        signal: Signal,
        action: impl Fn(&TransactionQueue) + Send + Sync + 'static,
    ) -> io::Result<()> {
        let receiver = signals::Receiver::new(signal, Arc::new(action))?;
        self.shared().reactor().add(Source::Signal(receiver));
        Ok(())
    }

    /// On SIGTERM and SIGINT: [drains](Self::drain) the run, and if it has not ended after `limit`, [stops](Self::stop) it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn drain_on_termination(&self, limit: Duration) -> io::Result<()> {
        for signal in [Signal::Terminate, Signal::Interrupt] {
            self.on_signal(signal, move |queue| {
                let stopping = queue.clone();
                queue.add_after(limit, move |ev| {
                    let queue = stopping.clone();
                    ev.on_commit(move || queue.stop());
                    Ok(())
                });
                queue.drain();
            })?;
        }
        Ok(())
    }
}
