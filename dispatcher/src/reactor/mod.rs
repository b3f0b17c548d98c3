//! The reactor: sockets and signals as sources of events.
//!
//! There is no I/O thread. A worker that has nothing to do polls in place of sleeping, one at a time; busy workers look once in a while. What
//! becomes ready is turned into an event and goes through the schedule like any other, so between readiness and running there is no barrier and
//! no turn of a loop.
//!
//! 1. Sockets are edge-triggered. Readiness schedules the connection's event, unless that is scheduled already; it is then told to look again.
//! 2. The event itself reads from the socket, in parallel with others. What it has read stays with the connection until the event that
//!    consumed it has committed: a re-run gets the same bytes.
//! 3. A connection has at most one event at a time, so its messages are handled in the order in which they arrive.
//! 4. What an event sends is an [effect](crate::effects), written when it commits; a client that does not read holds up itself: above a
//!    high water mark nothing more is read from it, above a hard limit sending to it fails.
//! 5. While there is a listener or a connection the run goes on; [`TransactionQueue::drain`] closes the listeners and lets it end when no
//!    event is left.

mod connection;
mod signals;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use parking_lot::Mutex;

pub use connection::Connection;
pub use signals::Signal;

use crate::event::{Event, EventResult};
use crate::queue::{Shared, TransactionQueue};

/// What a server does with its clients. Each call is one event.
pub trait Service: Send + Sync + 'static {
    /// A client has connected.
    ///
    /// # Errors
    /// As every event's body. A failure closes the connection.
    fn opened(&self, _ev: &mut Event<'_>, _connection: &Connection) -> EventResult {
        Ok(())
    }

    /// Bytes have arrived that no event has consumed yet. Handles *one* message at their beginning and returns its length; 0 if the
    /// message is not complete, and then nothing else must have been done. What follows the message is handed to the next event.
    ///
    /// # Errors
    /// As every event's body. A failure closes the connection.
    ///
    /// # Abort safety
    /// A re-run gets the same bytes.
    fn received(&self, ev: &mut Event<'_>, connection: &Connection, bytes: &[u8]) -> EventResult<usize>;

    /// The connection is over: the client has closed it, or [`Connection::close`] was called, or it failed.
    ///
    /// # Errors
    /// As every event's body.
    fn closed(&self, _ev: &mut Event<'_>, _connection: &Connection) -> EventResult {
        Ok(())
    }
}

/// How a server treats its clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many connections there may be; further ones wait to be accepted.
    pub connections: usize,
    /// The longest incomplete message, in bytes; a client that sends more is disconnected.
    pub message: usize,
    /// While more bytes than this wait to be sent to a client, nothing is read from it.
    pub high_water: usize,
    /// Sending fails if more bytes than this would wait.
    pub hard: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 10_000, message: 512 << 20, high_water: 1 << 20, hard: 256 << 20 }
    }
}

const WAKE: Token = Token(0);
const SIGNAL: Token = Token(1);
const FIRST: usize = 2;

/// How many events of the operating system are taken at once.
const BATCH: usize = 256;

/// The sources of a queue.
pub(crate) struct Reactor {
    registry: Registry,
    waker: Arc<Waker>,
    poller: Mutex<Poller>,
    sources: Mutex<Sources>,
    /// How many listeners and connections there are.
    count: AtomicUsize,
}

struct Poller {
    poll: Poll,
    events: Events,
}

#[derive(Default)]
struct Sources {
    next: usize,
    listeners: HashMap<Token, Arc<Listener>>,
    connections: HashMap<Token, Connection>,
    signals: Option<signals::Receiver>,
}

/// A listening socket.
struct Listener {
    socket: TcpListener,
    service: Arc<dyn Service>,
    limits: Limits,
    site: &'static Location<'static>,
}

impl Reactor {
    fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Arc::new(Waker::new(&registry, WAKE)?);
        let poller = Mutex::new(Poller { poll, events: Events::with_capacity(BATCH) });
        let sources = Mutex::new(Sources { next: FIRST, ..Sources::default() });
        Ok(Reactor { registry, waker, poller, sources, count: AtomicUsize::new(0) })
    }

    /// Whether there is any listener or connection.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(crate) fn waker(&self) -> &Arc<Waker> {
        &self.waker
    }

    /// Polls until something is ready, somebody wakes the poller, or the deadline has passed; schedules what is ready. False if
    /// another worker is polling.
    pub(crate) fn poll(&self, queue: &Arc<Shared>, deadline: Option<Instant>, before: impl FnOnce() -> bool) -> bool {
        let Some(mut poller) = self.poller.try_lock() else { return false };
        if !before() {
            return true;
        }
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let Poller { poll, events } = &mut *poller;
        if poll.poll(events, timeout).is_err() {
            // Interrupted by a signal: whoever polls comes back.
            return true;
        }
        for event in &*events {
            match event.token() {
                WAKE => {}
                SIGNAL => self.signalled(queue),
                token => self.ready(queue, token, event),
            }
        }
        true
    }

    fn ready(&self, queue: &Arc<Shared>, token: Token, event: &mio::event::Event) {
        let (listener, connection) = {
            let sources = self.sources.lock();
            (sources.listeners.get(&token).cloned(), sources.connections.get(&token).cloned())
        };
        if let Some(listener) = listener {
            self.accept(queue, &listener);
        } else if let Some(connection) = connection {
            connection.ready(
                queue,
                event.is_readable() || event.is_read_closed(),
                event.is_writable(),
                event.is_read_closed(),
            );
        }
    }

    fn signalled(&self, queue: &Arc<Shared>) {
        let actions = self.sources.lock().signals.as_mut().map(signals::Receiver::take).unwrap_or_default();
        for action in actions {
            action(&TransactionQueue::from_shared(queue.clone()));
        }
    }

    fn accept(&self, queue: &Arc<Shared>, listener: &Arc<Listener>) {
        loop {
            if self.sources.lock().connections.len() >= listener.limits.connections {
                return;
            }
            match listener.socket.accept() {
                Ok((stream, peer)) => {
                    // An accepted socket that cannot be registered is closed.
                    let _ = self.connect(queue, listener, stream, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nobody is waiting, or the process has no file descriptor left; then the next connection that closes tries again.
                Err(_) => return,
            }
        }
    }

    fn connect(
        &self,
        queue: &Arc<Shared>,
        listener: &Arc<Listener>,
        mut stream: mio::net::TcpStream,
        peer: SocketAddr,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let token = {
            let mut sources = self.sources.lock();
            sources.next += 1;
            Token(sources.next)
        };
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let connection = Connection::new(
            token.0 as u64,
            stream,
            peer,
            listener.service.clone(),
            listener.limits.clone(),
            listener.site,
            Arc::downgrade(queue),
        );
        self.sources.lock().connections.insert(token, connection.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
        connection.ready(queue, true, false, false);
        Ok(())
    }

    /// Forgets a connection, which closes it when its last handle goes.
    fn disconnected(&self, queue: &Arc<Shared>, id: u64) {
        let listeners: Vec<_> = {
            let mut sources = self.sources.lock();
            if sources.connections.remove(&Token(id as usize)).is_none() {
                return;
            }
            sources.listeners.values().cloned().collect()
        };
        // Whoever waits to be accepted is announced only once.
        for listener in listeners {
            self.accept(queue, &listener);
        }
        self.count.fetch_sub(1, Ordering::Release);
    }

    /// Accepts no more.
    pub(crate) fn close_listeners(&self) {
        let listeners = std::mem::take(&mut self.sources.lock().listeners);
        self.count.fetch_sub(listeners.len(), Ordering::Release);
    }
}

impl Shared {
    /// The reactor, made at its first use.
    fn reactor(&self) -> io::Result<&Reactor> {
        if let Some(reactor) = self.reactor.get() {
            return Ok(reactor);
        }
        let reactor = Reactor::new()?;
        let reactor = self.reactor.get_or_init(|| reactor);
        self.sleep.set_waker(reactor.waker().clone());
        Ok(reactor)
    }
}

impl TransactionQueue {
    /// Serves clients that connect to a TCP address, from the next [`run`](Self::run) on. Returns the address that is bound, which
    /// tells the port if 0 was asked for.
    ///
    /// # Errors
    /// If the address cannot be bound.
    #[track_caller]
    pub fn listen(&self, address: impl ToSocketAddrs, limits: Limits, service: impl Service) -> io::Result<SocketAddr> {
        let address = address
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the address names nothing"))?;
        let mut socket = TcpListener::bind(address)?;
        let bound = socket.local_addr()?;
        let reactor = self.shared().reactor()?;
        let token = {
            let mut sources = reactor.sources.lock();
            sources.next += 1;
            Token(sources.next)
        };
        reactor.registry.register(&mut socket, token, Interest::READABLE)?;
        let listener = Listener { socket, service: Arc::new(service), limits, site: Location::caller() };
        reactor.sources.lock().listeners.insert(token, Arc::new(listener));
        reactor.count.fetch_add(1, Ordering::Relaxed);
        self.shared().sleep.notify();
        Ok(bound)
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
        let reactor = self.shared().reactor()?;
        let mut sources = reactor.sources.lock();
        let receiver = match &mut sources.signals {
            Some(receiver) => receiver,
            none => none.insert(signals::Receiver::new(&reactor.registry, SIGNAL)?),
        };
        receiver.add(signal, Arc::new(action))
    }

    /// On SIGTERM and SIGINT: accepts no more connections, finishes what has been received, and ends the run; after `limit` it is stopped.
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
