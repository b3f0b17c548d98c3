//! What was sent to a connection and is not written yet, and what an event is about to send.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use mio::Token;
use optimist_stm::{Abort, Interrupt, TVar};
use parking_lot::{ArcMutexGuard, Mutex, RawMutex};

use super::Limits;
use super::mailbox::{Mailbox, Note};
use super::source::Stream;
use crate::event::{Event, EventResult};
use crate::task::Task;

/// Where events send what a connection's peer is to receive. Cloning it gives another handle to the same one; outboxes are equal if they
/// are the same one.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    /// Its place in the order in which outboxes are locked.
    id: u64,
    /// Bytes in the buffer, for those who look without locking.
    waiting: AtomicUsize,
    closed: AtomicBool,
    /// To be closed once everything has been written.
    closing: AtomicBool,
    hard: usize,
    high_water: usize,
    low_water: usize,
    /// Whether more than the high water mark has been waiting and it is not yet down to the low one, for events. It changes only at the
    /// marks, so those who look at it in their events seldom meet.
    congested: TVar<bool>,
    /// Held by whoever changes `congested`, so that the last change is the newest one.
    publishing: Mutex<()>,
    /// It carries datagrams.
    datagrams: bool,
    buffer: Arc<Mutex<Buffer>>,
}

struct Buffer {
    /// The worker that the connection belongs to, and what it knows it by.
    mailbox: Arc<Mailbox>,
    token: Token,
    bytes: Vec<u8>,
    /// Its worker knows that there is something to write.
    noted: bool,
    /// What `congested` is to be.
    congested: bool,
    /// What `congested` is.
    published: bool,
    /// The position of the first of `bytes` in all that was ever sent.
    start: u64,
    /// Where what each event has sent ends, and the event's number.
    events: VecDeque<(u64, u64)>,
    /// What is to happen when all has been written up to a position.
    then: VecDeque<(u64, Task)>,
}

impl Buffer {
    fn new(mailbox: Arc<Mailbox>, token: Token) -> Self {
        Buffer {
            mailbox,
            token,
            bytes: Vec::new(),
            noted: false,
            congested: false,
            published: false,
            start: 0,
            events: VecDeque::new(),
            then: VecDeque::new(),
        }
    }

    /// Makes the connection's worker look at it.
    fn call(&self) {
        self.mailbox.leave(Note::Flush(self.token));
    }

    /// Compares what waits with the marks, and says whether events are to be told of a change.
    fn measure(&mut self, shared: &Shared) -> bool {
        let mark = if self.congested { shared.low_water } else { shared.high_water };
        self.congested = self.bytes.len() > mark;
        self.congested != self.published
    }
}

/// A connection does not take what is sent to it: so many bytes wait to be written.
#[derive(Debug)]
pub struct OutboxFull(pub usize);

impl fmt::Display for OutboxFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection does not take what is sent to it: {} bytes wait to be written", self.0)
    }
}

impl std::error::Error for OutboxFull {}

/// Why a connection ended before everything that was sent to it had been written. It is the inner error of what
/// [`Session::closed`](super::Session::closed) gets.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unsent {
    /// The [number](Event::number) of the first event whose bytes were not all written.
    pub event: u64,
    /// Bytes that were not written.
    pub bytes: usize,
    /// What the operating system reported.
    pub error: io::Error,
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes from event {} on were not written: {}", self.bytes, self.event, self.error)
    }
}

impl std::error::Error for Unsent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// An outbox's buffer is given back to the allocator when it is empty and larger than this.
const KEEP: usize = 64 << 10;

impl Outbox {
    pub(super) fn new(mailbox: &Arc<Mailbox>, token: Token, limits: &Limits, datagrams: bool) -> Self {
        Outbox {
            shared: Arc::new(Shared {
                // Relaxed: only uniqueness matters.
                id: NEXT.fetch_add(1, Ordering::Relaxed),
                waiting: AtomicUsize::new(0),
                closed: AtomicBool::new(false),
                closing: AtomicBool::new(false),
                hard: limits.hard,
                high_water: limits.high_water,
                low_water: limits.low_water,
                congested: TVar::new(false),
                publishing: Mutex::new(()),
                datagrams,
                buffer: Arc::new(Mutex::new(Buffer::new(mailbox.clone(), token))),
            }),
        }
    }

    /// A number that no other outbox of the process has or had.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Bytes sent and not yet written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        // Relaxed: it is a measure, not a promise.
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Whether the connection is closed, or about to be. What is sent to it disappears.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Whether more than the [high water mark](Limits::high_water) has been waiting to be written, and the low one has not been reached
    /// since. An event that reads this and [retries](optimist_stm::Tx::retry) is run again when there is room.
    ///
    /// # Errors
    /// An abort.
    pub fn is_congested(&self, ev: &mut Event<'_>) -> EventResult<bool> {
        Ok(self.shared.congested.get(ev)?)
    }

    /// Waits, by [`retry`](optimist_stm::Tx::retry), until the outbox is not congested. Events that send to many use it so as not to fill
    /// the buffers of those who read slowly; as long as there is room they do not meet here.
    ///
    /// # Errors
    /// An abort.
    pub fn wait_for_room(&self, ev: &mut Event<'_>) -> EventResult {
        if self.is_congested(ev)? { Err(Interrupt::Abort(Abort::Retry)) } else { Ok(()) }
    }

    /// Closes the connection, dropping what is not written. From within an event it belongs into [`Event::on_commit`].
    pub fn close(&self) {
        if !self.shared.closed.swap(true, Ordering::Relaxed) {
            self.shared.buffer.lock().call();
        }
    }

    /// Closes the connection once what has been sent is written; of its input nothing more is taken. From within an event it belongs into
    /// [`Event::on_commit`].
    pub fn close_when_written(&self) {
        // Relaxed: the mailbox's lock orders it before the look that the note asks for.
        self.shared.closing.store(true, Ordering::Relaxed);
        self.shared.buffer.lock().call();
    }

    /// Whether it is to be closed once everything has been written.
    pub(super) fn is_closing(&self) -> bool {
        // Relaxed: as in `close_when_written`; whoever looks earlier has one more round.
        self.shared.closing.load(Ordering::Relaxed)
    }

    /// Lets go of what has not been written, and says with what error.
    pub(super) fn end(&self, error: Option<io::Error>) -> Option<io::Error> {
        self.shared.closed.store(true, Ordering::Relaxed);
        let (unsent, then) = {
            let mut buffer = self.shared.buffer.lock();
            self.shared.waiting.store(0, Ordering::Relaxed);
            let first = buffer.events.pop_front();
            buffer.events = VecDeque::new();
            // Whoever waits for room has nothing to wait for any more.
            buffer.congested = false;
            (first.map(|(_, event)| (event, mem::take(&mut buffer.bytes).len())), mem::take(&mut buffer.then))
        };
        // Dropped outside the lock: what an event holds may do anything.
        drop(then);
        self.publish();
        match (error, unsent) {
            (Some(error), Some((event, bytes))) => Some(io::Error::new(error.kind(), Unsent { event, bytes, error })),
            (error, _) => error,
        }
    }

    /// Writes as much as the stream takes. Calls `then` with the events that waited for it, and `lost` with why a datagram could not be
    /// sent.
    pub(super) fn write(
        &self,
        stream: &mut Stream,
        mut then: impl FnMut(Task),
        lost: impl FnMut(io::Error),
    ) -> io::Result<()> {
        let shared = &*self.shared;
        let mut buffer = shared.buffer.lock();
        buffer.noted = false;
        let (written, result) = match stream.datagrams() {
            None => write_stream(&buffer.bytes, stream),
            Some(socket) => write_datagrams(&buffer.bytes, socket, lost),
        };
        buffer.start += written as u64;
        if written == buffer.bytes.len() {
            buffer.bytes.clear();
            buffer.bytes.shrink_to(KEEP);
            buffer.events.clear();
        } else {
            buffer.bytes.drain(..written);
            while buffer.events.front().is_some_and(|(end, _)| *end <= buffer.start) {
                buffer.events.pop_front();
            }
        }
        shared.waiting.store(buffer.bytes.len(), Ordering::Relaxed);
        let changed = buffer.measure(shared);
        if !buffer.then.is_empty() {
            let due = buffer.then.iter().take_while(|(end, _)| *end <= buffer.start).count();
            let due: Vec<_> = buffer.then.drain(..due).collect();
            drop(buffer);
            due.into_iter().for_each(|(_, task)| then(task));
        } else {
            drop(buffer);
        }
        if changed {
            self.publish();
        }
        result
    }

    /// Tells events whether it is congested.
    #[cold]
    fn publish(&self) {
        let _alone = self.shared.publishing.lock();
        let (congested, published) = {
            let buffer = self.shared.buffer.lock();
            (buffer.congested, buffer.published)
        };
        if congested != published {
            // Without the buffer's lock, which an event holds that commits and whose locks this may have to wait for.
            self.shared.congested.store(congested);
            self.shared.buffer.lock().published = congested;
        }
    }

    /// The connection has got another worker, who looks at it now. Notes that were left for the other one find nobody.
    pub(super) fn move_to(&self, mailbox: &Arc<Mailbox>, token: Token) {
        let mut buffer = self.shared.buffer.lock();
        buffer.mailbox = mailbox.clone();
        buffer.token = token;
    }
}

fn write_stream(bytes: &[u8], stream: &mut Stream) -> (usize, io::Result<()>) {
    use std::io::Write as _;
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

fn write_datagrams(
    bytes: &[u8],
    socket: &mio::net::UdpSocket,
    mut lost: impl FnMut(io::Error),
) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        let (peer, datagram) = frame::split(&bytes[written..]);
        match socket.send_to(datagram, peer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // A datagram that cannot be sent is lost, as others are on their way; those to other peers may fare better.
            Err(error) => lost(error),
            Ok(_) => {}
        }
        written += frame::HEAD + datagram.len();
    }
    (written, Ok(()))
}

/// Datagrams in an outbox: the peer, the length, the bytes.
mod frame {
    use super::*;

    pub(super) const HEAD: usize = 4 + 2 + 1 + 16;

    pub(super) fn head(peer: SocketAddr, length: usize) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        let (family, address) = match peer.ip() {
            IpAddr::V4(address) => (4, address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => (6, address.octets()),
        };
        let length = u32::try_from(length).expect("a datagram is shorter");
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4..6].copy_from_slice(&peer.port().to_le_bytes());
        head[6] = family;
        head[7..].copy_from_slice(&address);
        head
    }

    pub(super) fn split(bytes: &[u8]) -> (SocketAddr, &[u8]) {
        let (head, rest) = bytes.split_at(HEAD);
        let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
        let port = u16::from_le_bytes(head[4..6].try_into().expect("two bytes"));
        let octets: [u8; 16] = head[7..].try_into().expect("sixteen bytes");
        let ip = match head[6] {
            4 => IpAddr::V4(Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15])),
            _ => IpAddr::V6(Ipv6Addr::from(octets)),
        };
        (SocketAddr::new(ip, port), &rest[..length])
    }
}

/// The longest datagram.
const DATAGRAM: usize = 65_507;

impl PartialEq for Outbox {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Outbox {}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("id", &self.id()).field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

thread_local! {
    /// The mailbox of the worker that runs on this thread, and its connections with something to write.
    static HERE: std::cell::RefCell<Here> = const { std::cell::RefCell::new(Here { mailbox: None, to_write: Vec::new() }) };
}

struct Here {
    mailbox: Option<Arc<Mailbox>>,
    to_write: Vec<Token>,
}

/// Makes this thread the one of a mailbox.
pub(super) fn enter(mailbox: Option<Arc<Mailbox>>) {
    HERE.with_borrow_mut(|here| *here = Here { mailbox, to_write: Vec::new() });
}

/// The connections of this thread that have something to write.
pub(super) fn take_to_write(into: &mut Vec<Token>) {
    HERE.with_borrow_mut(|here| mem::swap(&mut here.to_write, into));
}

/// Whether there are any.
pub(super) fn has_to_write() -> bool {
    HERE.with_borrow(|here| !here.to_write.is_empty())
}

/// What one attempt has sent, not yet released.
#[derive(Default)]
pub(crate) struct Sends {
    bytes: Vec<u8>,
    /// Which part of `bytes` goes where.
    segments: Vec<Segment>,
    /// Events to be added when what was sent up to a position has been written.
    then: Vec<(usize, Task)>,
    locked: Vec<(u64, ArcMutexGuard<RawMutex, Buffer>)>,
    /// Outboxes that have reached a mark with what was released.
    crossed: Vec<Outbox>,
}

/// From the end of the one before up to its own.
#[derive(Debug)]
struct Segment {
    outbox: Outbox,
    end: usize,
    /// The number of the event that sends it.
    event: u64,
}

impl fmt::Debug for Sends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sends").field("segments", &self.segments).finish_non_exhaustive()
    }
}

impl Sends {
    #[inline]
    pub(crate) fn clear(&mut self) {
        debug_assert!(self.locked.is_empty());
        if !self.segments.is_empty() {
            self.segments.clear();
            self.then.clear();
            self.bytes.clear();
            self.bytes.shrink_to(1 << 20);
        }
    }

    #[inline]
    fn append(&mut self, event: u64, outbox: &Outbox, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        let end = self.bytes.len();
        match self.segments.last_mut() {
            Some(last) if last.outbox == *outbox && last.event == event => last.end = end,
            _ => self.segments.push(Segment { outbox: outbox.clone(), end, event }),
        }
    }

    pub(crate) fn mark(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn roll_back_to(&mut self, mark: usize) {
        self.bytes.truncate(mark);
        self.then.retain(|(end, _)| *end <= mark);
        while let Some(last) = self.segments.pop() {
            let start = self.segments.last().map_or(0, |segment| segment.end);
            if start < mark {
                self.segments.push(Segment { end: last.end.min(mark), ..last });
                break;
            }
        }
    }

    /// Locks the outboxes, in the global order.
    #[inline]
    pub(crate) fn lock(&mut self) -> bool {
        match self.segments.as_slice() {
            [] => {}
            [only] => self.locked.push((only.outbox.id(), only.outbox.shared.buffer.lock_arc())),
            _ => {
                let mut all: Vec<&Outbox> = self.segments.iter().map(|segment| &segment.outbox).collect();
                all.sort_unstable_by_key(|outbox| outbox.shared.id);
                all.dedup_by_key(|outbox| outbox.shared.id);
                self.locked.extend(all.into_iter().map(|outbox| (outbox.shared.id, outbox.shared.buffer.lock_arc())));
            }
        }
        !self.segments.is_empty()
    }

    /// Whether anything is sent.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(crate) fn abandon(&mut self) {
        self.locked.clear();
        self.clear();
    }

    /// Appends what was sent to the outboxes, and unlocks them. Says how many bytes that were.
    #[inline]
    pub(crate) fn release(&mut self) -> usize {
        let mut start = 0;
        for Segment { outbox, end, event } in &self.segments {
            let (first, bytes) = (start, &self.bytes[start..*end]);
            start = *end;
            if outbox.is_closed() {
                continue;
            }
            let id = outbox.shared.id;
            let buffer = if let [(_, buffer)] = self.locked.as_mut_slice() {
                buffer
            } else {
                let at = self.locked.binary_search_by_key(&id, |(id, _)| *id).expect("locked before the commit");
                &mut self.locked[at].1
            };
            buffer.bytes.extend_from_slice(bytes);
            outbox.shared.waiting.store(buffer.bytes.len(), Ordering::Relaxed);
            let position = buffer.start + buffer.bytes.len() as u64;
            buffer.events.push_back((position, *event));
            if !self.then.is_empty() {
                let due = self.then.iter().take_while(|(at, _)| *at <= *end).count();
                for (at, task) in self.then.drain(..due) {
                    // Those that end before this part belong to an outbox that is closed.
                    if at > first {
                        buffer.then.push_back((position - (*end - at) as u64, task));
                    }
                }
            }
            // Told by those who fill it, since its worker may be busy while they do.
            if buffer.measure(&outbox.shared) {
                self.crossed.push(outbox.clone());
            }
            if !buffer.noted {
                buffer.noted = true;
                HERE.with_borrow_mut(|here| match &here.mailbox {
                    Some(mailbox) if Arc::ptr_eq(mailbox, &buffer.mailbox) => here.to_write.push(buffer.token),
                    _ => buffer.call(),
                });
            }
        }
        let sent = self.bytes.len();
        self.locked.clear();
        self.clear();
        self.crossed.drain(..).for_each(|outbox| outbox.publish());
        sent
    }

    fn waiting_for(&self, outbox: &Outbox) -> usize {
        let mut start = 0;
        let mut sum = 0;
        for segment in &self.segments {
            if segment.outbox == *outbox {
                sum += segment.end - start;
            }
            start = segment.end;
        }
        sum
    }

    /// Sends bytes to a connection when the event of this number commits.
    pub(crate) fn send(&mut self, event: u64, outbox: &Outbox, bytes: &[u8]) -> Result<(), OutboxFull> {
        self.check(outbox, bytes.len())?;
        self.append(event, outbox, bytes);
        Ok(())
    }

    fn check(&self, outbox: &Outbox, length: usize) -> Result<(), OutboxFull> {
        let hard = outbox.shared.hard;
        let waiting = outbox.waiting();
        // What the event itself has sent is summed up only where it could matter.
        if waiting + length + self.bytes.len() > hard {
            let own = self.waiting_for(outbox);
            if waiting + own + length > hard {
                return Err(OutboxFull(waiting + own));
            }
        }
        Ok(())
    }
}

impl Event<'_> {
    /// Sends bytes to a connection when the event commits. To one that is closed they disappear.
    ///
    /// # Errors
    /// [`OutboxFull`] if more than the [hard limit](Limits::hard) would wait to be written. If the outbox is that of a datagram socket.
    pub fn send(&mut self, outbox: &Outbox, bytes: &[u8]) -> EventResult {
        if outbox.shared.datagrams {
            return self.fail("a datagram needs an address: see `send_to`");
        }
        let (sends, number) = self.sends();
        Ok(sends.send(number, outbox, bytes)?)
    }

    /// As [`send`](Self::send), and adds an event when the bytes have been handed to the operating system. If the connection ends before
    /// that, the event is dropped, and [`Session::closed`](super::Session::closed) told.
    ///
    /// # Errors
    /// As [`send`](Self::send), and if there is nothing to send.
    #[track_caller]
    pub fn send_then(
        &mut self,
        outbox: &Outbox,
        bytes: &[u8],
        then: impl FnMut(&mut Event<'_>) -> EventResult + Send + 'static,
    ) -> EventResult {
        if bytes.is_empty() {
            return self.fail("nothing is sent that an event could follow");
        }
        let task = Task::new(then, Location::caller());
        self.send(outbox, bytes)?;
        let (sends, _) = self.sends();
        sends.then.push((sends.bytes.len(), task));
        Ok(())
    }

    /// Sends a datagram from a [socket](super::Server::bind_udp) when the event commits.
    ///
    /// # Errors
    /// As [`send`](Self::send). If the datagram is longer than 65,507 bytes, or the outbox not that of a datagram socket.
    pub fn send_to(&mut self, outbox: &Outbox, peer: SocketAddr, bytes: &[u8]) -> EventResult {
        if !outbox.shared.datagrams {
            return self.fail("only datagrams need an address: see `send`");
        }
        if bytes.len() > DATAGRAM {
            return self.fail(format!("{} bytes do not fit into a datagram", bytes.len()));
        }
        let (sends, number) = self.sends();
        sends.check(outbox, frame::HEAD + bytes.len())?;
        sends.append(number, outbox, &frame::head(peer, bytes.len()));
        sends.append(number, outbox, bytes);
        Ok(())
    }
}
