//! A client's connection: its socket, what has arrived, what is to be sent, and its event.

use std::any::Any;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use mio::net::TcpStream;
use optimist_stm::TVar;
use parking_lot::Mutex;

use super::{Limits, Service};
use crate::effects::Output;
use crate::event::{Event, EventResult};
use crate::queue::Shared;
use crate::task::{Handler, Options, Task};

/// A client's connection. Cloning it gives another handle; connections are equal if they are the same one.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    id: u64,
    stream: Arc<Socket>,
    peer: SocketAddr,
    output: Output,
    service: Arc<dyn Service>,
    limits: Limits,
    site: &'static Location<'static>,
    queue: Weak<Shared>,
    /// [`IDLE`], [`SCHEDULED`] or [`LOOK_AGAIN`].
    state: AtomicU8,
    /// Nothing is read because too much waits to be sent.
    held_back: AtomicBool,
    input: Mutex<Input>,
    /// What the service keeps with the connection.
    data: OnceLock<Box<dyn Any + Send + Sync>>,
    /// Whether the client has gone, for events that wait on its behalf.
    gone: TVar<bool>,
}

/// The connection has no event.
const IDLE: u8 = 0;
/// Its event is queued, runs, or waits for a change.
const SCHEDULED: u8 = 1;
/// The same, and something has become ready since.
const LOOK_AGAIN: u8 = 2;

/// What has arrived and has not been consumed. Only the connection's event touches it.
#[derive(Default)]
struct Input {
    bytes: Vec<u8>,
    start: usize,
    /// The length of the message that the running attempt handles.
    consumed: usize,
    step: Step,
    stage: Stage,
    /// The running attempt goes on with the next message.
    more: bool,
    /// The last read emptied the socket; what arrives later is announced.
    drained: bool,
    /// Nothing more will arrive.
    ended: bool,
}

/// What the running attempt has come to.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Nothing,
    Opened,
    Consumed,
    Closed,
}

/// How far the connection is in its life.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    New,
    Open,
    Over,
}

/// The socket as the output writes to it.
struct Socket {
    stream: TcpStream,
    /// To be closed once everything has been written.
    closing: AtomicBool,
}

struct SocketWriter(Arc<Socket>);

impl Write for SocketWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0.stream).write(bytes)
    }

    /// Called when everything has been written.
    fn flush(&mut self) -> io::Result<()> {
        if self.0.closing.load(Ordering::Relaxed) {
            // The client may be gone already.
            let _ = self.0.stream.shutdown(Shutdown::Both);
        }
        Ok(())
    }
}

/// How much is read at once.
const CHUNK: usize = 16 << 10;

impl Connection {
    pub(super) fn new(
        id: u64,
        stream: TcpStream,
        peer: SocketAddr,
        service: Arc<dyn Service>,
        limits: Limits,
        site: &'static Location<'static>,
        queue: Weak<Shared>,
    ) -> Self {
        let stream = Arc::new(Socket { stream, closing: AtomicBool::new(false) });
        let output = Output::socket(format!("the connection from {peer}"), SocketWriter(stream.clone()));
        Connection(Arc::new(Inner {
            id,
            stream,
            peer,
            output,
            service,
            limits,
            site,
            queue,
            state: AtomicU8::new(IDLE),
            held_back: AtomicBool::new(false),
            input: Mutex::default(),
            data: OnceLock::new(),
            gone: TVar::new(false),
        }))
    }

    /// A number that no other connection of the queue has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// What the service keeps with the connection, made by `init` at the first call. Not transactional itself: keep transactional variables in
    /// it.
    ///
    /// # Panics
    /// If an earlier call was for another type.
    pub fn data<T: Any + Send + Sync>(&self, init: impl FnOnce() -> T) -> &T {
        let data = self.0.data.get_or_init(|| Box::new(init()));
        data.downcast_ref().expect("a connection keeps one type of data")
    }

    /// Sends bytes when the event commits. To a client that has gone they are dropped.
    ///
    /// # Errors
    /// If more bytes wait to be sent than the hard [limit](Limits::hard) allows.
    pub fn send(&self, ev: &mut Event<'_>, bytes: &[u8]) -> EventResult {
        if bytes.len() > self.0.limits.high_water / 2 || self.0.held_back.load(Ordering::Relaxed) {
            let waiting = self.0.output.buffered() + bytes.len();
            if waiting > self.0.limits.hard {
                return ev.fail(format!("{waiting} bytes would wait to be sent to {}", self.0.peer));
            }
        }
        ev.write(&self.0.output, bytes);
        Ok(())
    }

    /// Closes the connection when the event has committed and everything has been sent.
    pub fn close(&self, ev: &mut Event<'_>) {
        let connection = self.clone();
        ev.on_commit(move || connection.close_now());
    }

    fn close_now(&self) {
        self.0.stream.closing.store(true, Ordering::Relaxed);
        // What cannot be written now is written when the socket is ready, and the socket closed then.
        let _ = self.0.output.flush();
    }

    /// Whether the client has gone. An event that [retries](optimist_stm::Tx::retry) on behalf of a client reads this, so that it
    /// is woken when there is nobody left to wait for.
    ///
    /// # Errors
    /// An abort.
    pub fn is_gone(&self, ev: &mut Event<'_>) -> EventResult<bool> {
        Ok(self.0.gone.get(ev)?)
    }

    /// Rule 1 of the reactor. Called by whoever polls, outside of any event.
    pub(super) fn ready(&self, queue: &Arc<Shared>, readable: bool, writable: bool, read_closed: bool) {
        if writable && (self.0.output.buffered() > 0 || self.0.stream.closing.load(Ordering::Relaxed)) {
            // An error shows when the socket is read.
            let _ = self.0.output.flush();
        }
        if read_closed && self.0.state.load(Ordering::Relaxed) != IDLE {
            self.0.gone.store(true);
        }
        let may_resume = writable
            && self.0.held_back.load(Ordering::Relaxed)
            && self.0.output.buffered() <= self.0.limits.high_water / 2
            && self.0.held_back.swap(false, Ordering::AcqRel);
        if readable || may_resume {
            self.schedule(queue);
        }
    }

    fn schedule(&self, queue: &Arc<Shared>) {
        let state = &self.0.state;
        let mut seen = state.load(Ordering::Relaxed);
        loop {
            let next = if seen == IDLE { SCHEDULED } else { LOOK_AGAIN };
            // AcqRel: whoever takes the connection sees what its last event left, and is told of what became ready before.
            match state.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(IDLE) => return queue.push(self.task(), None),
                Ok(_) => return,
                Err(found) => seen = found,
            }
        }
    }

    fn task(&self) -> Task {
        Task::with(
            Box::new(Turn { connection: self.clone(), announced: true }),
            self.0.site,
            Options::new().key(self.0.id),
        )
    }

    /// The event has nothing left to do: the connection becomes idle, unless something has become ready meanwhile.
    fn rest(&self) {
        let state = &self.0.state;
        if state.compare_exchange(SCHEDULED, IDLE, Ordering::AcqRel, Ordering::Relaxed).is_err()
            && let Some(queue) = self.0.queue.upgrade()
        {
            state.store(SCHEDULED, Ordering::Release);
            queue.push(self.task(), None);
        }
    }

    fn over(&self, input: &mut Input) {
        input.stage = Stage::Over;
        input.bytes = Vec::new();
        self.close_now();
        if let Some(queue) = self.0.queue.upgrade()
            && let Some(reactor) = queue.reactor.get()
        {
            reactor.disconnected(&queue, self.0.id);
            queue.sleep.notify();
        }
    }
}

impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.0.id).field("peer", &self.0.peer).finish_non_exhaustive()
    }
}

impl Input {
    /// Reads what has arrived. False if there is nothing new.
    fn read(&mut self, mut stream: &TcpStream) -> bool {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let before = self.bytes.len();
        loop {
            let length = self.bytes.len();
            self.bytes.resize(length + CHUNK, 0);
            let result = stream.read(&mut self.bytes[length..]);
            self.bytes.truncate(length + *result.as_ref().unwrap_or(&0));
            match result {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                // A short read empties the socket; what arrives later is announced again.
                Ok(read) if read < CHUNK => {
                    self.drained = true;
                    break;
                }
                Ok(_) if self.bytes.len() - before >= 16 * CHUNK => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.drained = true;
                    break;
                }
                Err(_) => {
                    self.ended = true;
                    break;
                }
            }
        }
        self.bytes.len() > before
    }
}

/// The event of a connection: one step of its life, and again as long as there is something to do.
struct Turn {
    connection: Connection,
    /// Something has become ready since the socket was last read.
    announced: bool,
}

impl Handler for Turn {
    fn run(&mut self, ev: &mut Event<'_>) -> EventResult {
        let connection = &self.connection;
        let inner = &*connection.0;
        let mut input = inner.input.lock();
        let input = &mut *input;
        input.step = Step::Nothing;
        if std::mem::take(&mut self.announced) {
            input.drained = false;
        }
        match input.stage {
            Stage::Over => return Ok(()),
            Stage::New => {
                inner.service.opened(ev, connection)?;
                input.step = Step::Opened;
                ev.again();
                return Ok(());
            }
            Stage::Open => {}
        }
        if inner.output.buffered() > inner.limits.high_water {
            // Rule 4. The order of the steps matters: the socket may become writable in between. Only a write that finds the socket full
            // is followed by word that it is not, so whoever waits for that word must have made one.
            inner.held_back.store(true, Ordering::Release);
            let _ = inner.output.flush();
            if inner.output.buffered() > inner.limits.high_water {
                return Ok(());
            }
            inner.held_back.store(false, Ordering::Relaxed);
        }
        loop {
            let unread = &input.bytes[input.start..];
            if !unread.is_empty() {
                let consumed = inner.service.received(ev, connection, unread)?;
                if consumed > 0 {
                    assert!(consumed <= unread.len(), "a service consumes no more than it was given");
                    input.consumed = consumed;
                    input.step = Step::Consumed;
                    input.more = consumed < unread.len() || !input.drained || input.ended;
                    if input.more {
                        ev.again();
                    }
                    return Ok(());
                }
                if unread.len() > inner.limits.message {
                    input.ended = true;
                }
            }
            if input.ended || input.drained || !input.read(&inner.stream.stream) {
                break;
            }
        }
        if input.ended {
            inner.service.closed(ev, connection)?;
            input.step = Step::Closed;
        }
        Ok(())
    }

    fn failed(&mut self) {
        // The message that failed is not tried again, and what follows it cannot be understood.
        let connection = &self.connection;
        connection.over(&mut connection.0.input.lock());
    }

    fn ended(&mut self, committed: bool) {
        if !committed {
            return;
        }
        let connection = &self.connection;
        let mut input = connection.0.input.lock();
        match input.step {
            Step::Opened => input.stage = Stage::Open,
            Step::Consumed => {
                input.start += std::mem::take(&mut input.consumed);
                if !input.more {
                    drop(input);
                    connection.rest();
                }
            }
            Step::Closed => connection.over(&mut input),
            Step::Nothing => {
                if input.stage == Stage::Open {
                    drop(input);
                    connection.rest();
                }
            }
        }
    }
}
