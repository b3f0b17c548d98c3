//! Sources of a program's events: clients, their lines and bytes, files, standard input.
//!
//! A program sees a connection as a number, behind which there is a [`Peer`]: what the program wants of the connection's input, and what of it
//! waits to be received. Both are transactional, so that whatever an event says about a connection is undone if the event is, and an event that
//! waits for input is woken by it.
//!
//! 1. As long as the program has not said that it wants lines or chunks, input goes into an inbox of limited size, from which any event may
//!    receive it.
//! 2. Lines and chunks are handled one after the other, in the order in which they have arrived: those that lie in the inbox first, by one
//!    event, and then each by an event of its own.
//! 3. Whoever waits for the end is told after the last line.
//! 4. An event that fails ends its connection, and counts as every event that fails.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use optimist_flowgraph::flowgraph::fault::Fault;
use optimist_flowgraph::vm::{Condition, EventSource, Input, Refusal};
use optimist_stm::attempt::Attempt;
use optimist_stm::{Abort, Interrupt, TVar, Tx};
use parking_lot::Mutex;

use super::{Item, Program, Template};
use crate::event::{Context, Event, EventResult, Hook};
use crate::queue::{Additions, TransactionQueue};
use crate::reactor::{Ended, Io, Limits, Next, Outbox, Service, Session};
use crate::task::{Handler, Options, Task};

/// A line that is longer than this ends its connection; so much waits in an inbox before the connection is not read any more.
const LONGEST: usize = 16 << 20;

/// The connections of a program, by their numbers.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u32,
    peers: HashMap<u32, Arc<Peer>>,
}

impl Connections {
    fn add(&self, outbox: &Outbox, address: &str) -> (u32, Arc<Peer>) {
        let mut open = self.open.lock();
        let id = open.next;
        open.next += 1;
        let peer = Arc::new(Peer {
            outbox: outbox.clone(),
            address: address.to_owned(),
            wants: TVar::new(Arc::new(Wants::default())),
            inbox: TVar::new(Arc::default()),
            ended: TVar::new(false),
            closed: AtomicBool::new(false),
        });
        open.peers.insert(id, peer.clone());
        (id, peer)
    }

    /// The connection, unless it is over.
    fn get(&self, id: u32) -> Option<Arc<Peer>> {
        self.open.lock().peers.get(&id).cloned()
    }

    fn remove(&self, id: u32) {
        self.open.lock().peers.remove(&id);
    }
}

/// A connection that is not over.
pub(super) struct Peer {
    outbox: Outbox,
    address: String,
    wants: TVar<Arc<Wants>>,
    inbox: TVar<Arc<Vec<u8>>>,
    /// Nothing more will arrive.
    ended: TVar<bool>,
    /// The program has closed it, and wants nothing more of it.
    closed: AtomicBool,
}

/// What the program wants of a connection.
#[derive(Clone, Default)]
struct Wants {
    input: Use,
    when_readable: Vec<Arc<Template>>,
    when_closed: Vec<Arc<Template>>,
}

/// What becomes of a connection's input.
#[derive(Clone, Default)]
enum Use {
    /// It is kept until it is received.
    #[default]
    Kept,
    Lines(Arc<Template>),
    Chunks(Arc<Template>),
}

impl Use {
    /// Whether the program has said what is to become of the input.
    fn is_handled(&self) -> bool {
        !matches!(self, Use::Kept)
    }
}

impl Peer {
    /// Handles what lies in the inbox and this, which comes after it, as the program wants it. Of lines, what is not complete stays in the
    /// inbox, unless nothing comes after it.
    fn handle(&self, program: &Program, ev: &mut Event<'_>, wants: &Wants, more: &[u8], last: bool) -> EventResult {
        let mut all = self.inbox.get(ev)?;
        if all.is_empty() && more.is_empty() {
            return Ok(());
        }
        Arc::make_mut(&mut all).extend_from_slice(more);
        let kept = match &wants.input {
            Use::Kept => &all[..],
            Use::Chunks(template) => {
                program.handle(ev, template, Item::Bytes(all.to_vec()))?;
                &[]
            }
            Use::Lines(template) => {
                let mut rest = &all[..];
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    program.handle(ev, template, Item::Text(line(&rest[..end])))?;
                    rest = &rest[end + 1..];
                }
                if last && !rest.is_empty() {
                    program.handle(ev, template, Item::Text(line(rest)))?;
                    rest = &[];
                }
                rest
            }
        };
        Ok(self.inbox.set(ev, Arc::new(kept.to_vec()))?)
    }

    /// Tells whoever waits for the end, after the last line, and forgets a connection of which nothing is left.
    fn tell_of_end(&self, program: &Program, ev: &mut Event<'_>, id: u32) -> EventResult {
        let wants = self.wants.get(ev)?;
        let mut waiting = wants.when_readable.iter().chain(&wants.when_closed).peekable();
        if waiting.peek().is_some() {
            waiting.for_each(|call| program.queue_now(call));
            self.change(ev, |wants| {
                wants.when_readable.clear();
                wants.when_closed.clear();
            })?;
        }
        // What has not been received yet still can be. Relaxed: who closes it says so once for all, and is heard in the end.
        if self.inbox.get(ev)?.is_empty() || self.closed.load(Ordering::Relaxed) {
            let program = program.clone();
            ev.on_commit(move || program.shared.connections.remove(id));
        }
        Ok(())
    }

    fn change(&self, tx: &mut Tx<'_>, change: impl FnOnce(&mut Wants)) -> Result<(), Abort> {
        let mut wants = Wants::clone(&*self.wants.get(tx)?);
        change(&mut wants);
        self.wants.set(tx, Arc::new(wants))
    }
}

/// What a service gives events for.
enum Kind {
    /// Each client that connects.
    Connections(Arc<Template>),
    /// The input of the one stream that it serves.
    Input(Use),
}

/// One source of a program.
struct Source {
    program: Program,
    queue: TransactionQueue,
    kind: Kind,
}

impl Service for Source {
    type Session = Stream;

    fn connected(&self, outbox: &Outbox, address: &str) -> Stream {
        let (id, peer) = self.program.shared.connections.add(outbox, address);
        match &self.kind {
            Kind::Connections(template) => {
                let greeting = self.program.item(template, Item::Connection(id));
                self.queue.add_handler(Options::new(), greeting);
            }
            Kind::Input(input) => {
                let wants = Wants { input: input.clone(), ..Wants::default() };
                peer.wants.store(Arc::new(wants));
            }
        }
        Stream { program: self.program.clone(), queue: self.queue.clone(), id, peer, rest: Vec::new() }
    }
}

/// The session of a connection.
struct Stream {
    program: Program,
    queue: TransactionQueue,
    id: u32,
    peer: Arc<Peer>,
    /// What has arrived of a line that is not complete, in case there is no more.
    rest: Vec<u8>,
}

/// What an event made of the input.
enum Made {
    Took(usize),
    Incomplete,
}

impl Stream {
    fn turn(&self, ev: &mut Event<'_>, input: &[u8]) -> EventResult<Made> {
        let wants = self.peer.wants.get(ev)?;
        let waiting = self.peer.inbox.get(ev)?.len();
        match &wants.input {
            Use::Lines(template) if waiting == 0 => {
                let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Ok(Made::Incomplete) };
                self.program.handle(ev, template, Item::Text(line(&input[..end])))?;
                return Ok(Made::Took(end + 1));
            }
            Use::Kept if waiting >= LONGEST => return Err(Interrupt::Abort(Abort::Retry)),
            Use::Lines(_) if waiting >= LONGEST => return ev.fail("a line is too long"),
            _ => self.peer.handle(&self.program, ev, &wants, input, false)?,
        }
        if !wants.when_readable.is_empty() {
            wants.when_readable.iter().for_each(|call| self.program.queue_now(call));
            self.peer.change(ev, |wants| wants.when_readable.clear())?;
        }
        Ok(Made::Took(input.len()))
    }
}

/// A line without its end, as text.
fn line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes)).into_owned()
}

impl Session for Stream {
    fn receive(&mut self, input: &[u8], io: &mut Io<'_>) -> Next {
        match io.event(|ev| self.turn(ev, input)) {
            Ended::Committed(Made::Took(length)) => {
                self.rest.clear();
                Next::Took(length)
            }
            Ended::Committed(Made::Incomplete) => {
                self.rest.clear();
                self.rest.extend_from_slice(input);
                if input.len() > LONGEST { Next::Close } else { Next::Incomplete }
            }
            Ended::Blocked => Next::Blocked(None),
            Ended::Failed(failure) => {
                self.queue.add_handler(Options::new(), Failed(Some(failure)));
                self.rest.clear();
                Next::Close
            }
            Ended::Panicked(message) => {
                self.queue.add_handler(Options::new(), Failed(Some(message.into())));
                self.rest.clear();
                Next::Close
            }
        }
    }

    fn closed(&mut self, _io: &mut Io<'_>, _error: Option<&std::io::Error>) {
        let rest = std::mem::take(&mut self.rest);
        let over = Over { program: self.program.clone(), id: self.id, peer: self.peer.clone(), rest };
        self.queue.add_handler(Options::new(), over);
    }
}

/// The failure of an event of a connection, as one of the queue's.
struct Failed(Option<crate::event::Failure>);

impl Handler for Failed {
    fn run(&mut self, ev: &mut Event<'_>) -> EventResult {
        match self.0.take() {
            Some(failure) => Err(Interrupt::Error(failure)),
            None => ev.fail("the failure has been told"),
        }
    }
}

/// The last event of a connection.
struct Over {
    program: Program,
    id: u32,
    peer: Arc<Peer>,
    rest: Vec<u8>,
}

impl Handler for Over {
    fn run(&mut self, ev: &mut Event<'_>) -> EventResult {
        let Over { program, id, peer, rest } = self;
        let wants = peer.wants.get(ev)?;
        peer.handle(program, ev, &wants, rest, true)?;
        peer.ended.set(ev, true)?;
        peer.tell_of_end(program, ev, *id)
    }
}

/// Handles what a connection had in its inbox before the program said what it wants.
struct CatchUp {
    program: Program,
    id: u32,
    peer: Arc<Peer>,
}

impl Handler for CatchUp {
    fn run(&mut self, ev: &mut Event<'_>) -> EventResult {
        let CatchUp { program, id, peer } = self;
        let (wants, last) = (peer.wants.get(ev)?, peer.ended.get(ev)?);
        peer.handle(program, ev, &wants, &[], last)?;
        if last { peer.tell_of_end(program, ev, *id) } else { Ok(()) }
    }
}

impl Program {
    /// Queues a call that needs no item, within an event.
    fn queue_now(&self, call: &Template) {
        Additions::push(
            Task::with(
                self.call(call.function, call.arguments.to_vec()),
                std::panic::Location::caller(),
                Options::new(),
            ),
            None,
        );
    }

    /// See [`EventContext::each`](optimist_flowgraph::vm::EventContext::each).
    pub(super) fn each(
        &self,
        context: &mut Context,
        tx: &mut Attempt,
        source: EventSource,
        template: Template,
    ) -> Result<(), Refusal> {
        let template = Arc::new(template);
        let (input, of) = match source {
            EventSource::Connections(address) => {
                let server = self.serve(Kind::Connections(template))?;
                // At once, so that an address that cannot be had is a failure of this event; only who accepts waits for the commit.
                let listener = server.reserve(&address).map_err(|error| failed(&address, &error))?;
                context.on_commit.push(Hook(Box::new(move || listener.accept())));
                return Ok(());
            }
            EventSource::Lines(of) => (Use::Lines(template), of),
            EventSource::Chunks(of) => (Use::Chunks(template), of),
        };
        match of {
            Input::Connection(id) => {
                let Some(peer) = self.shared.connections.get(id) else { return Ok(()) };
                let tx = &mut Tx::new(tx);
                peer.change(tx, |wants| wants.input = input)?;
                if !peer.inbox.get(tx)?.is_empty() {
                    let catch_up = CatchUp { program: self.clone(), id, peer };
                    Additions::push(Task::new(catch_up, std::panic::Location::caller()), None);
                }
            }
            Input::File(name) => {
                let server = self.serve(Kind::Input(input))?;
                let file = if name == "-" { None } else { Some(self.open(&name)?) };
                context.on_commit.push(Hook(Box::new(move || {
                    // Without standard input there is nothing in it.
                    match file {
                        Some(file) => server.attach_file(file, name),
                        None => server.attach_stdin().unwrap_or_default(),
                    }
                })));
            }
        }
        Ok(())
    }

    fn open(&self, name: &str) -> Result<File, Fault> {
        File::open(self.shared.folder.join(name)).map_err(|error| failed(name, &error))
    }

    fn serve(&self, kind: Kind) -> Result<crate::reactor::Server, Fault> {
        let queue = self.queue().ok_or_else(|| Fault::Other { message: "there is no queue for events".to_owned() })?;
        let limits = Limits { input: 2 * LONGEST, ..Limits::default() };
        Ok(queue.serve(limits, Source { program: self.clone(), queue: queue.clone(), kind }))
    }

    /// See [`EventContext::when`](optimist_flowgraph::vm::EventContext::when).
    pub(super) fn when(&self, tx: &mut Attempt, on: Condition, id: u32, call: Template) -> Result<(), Refusal> {
        let Some(peer) = self.shared.connections.get(id) else {
            self.queue_now(&call);
            return Ok(());
        };
        let tx = &mut Tx::new(tx);
        let (ended, waits) = (peer.ended.get(tx)?, !peer.inbox.get(tx)?.is_empty());
        let come = match on {
            // What lies in the inbox is handled before the end is told of, and who handles it tells of it.
            Condition::Closed => ended && !(waits && peer.wants.get(tx)?.input.is_handled()),
            Condition::Readable => ended || waits,
        };
        if come {
            self.queue_now(&call);
            return Ok(());
        }
        let call = Arc::new(call);
        peer.change(tx, |wants| match on {
            Condition::Closed => wants.when_closed.push(call),
            Condition::Readable => wants.when_readable.push(call),
        })?;
        Ok(())
    }

    /// See [`EventContext::send`](optimist_flowgraph::vm::EventContext::send).
    pub(super) fn send(&self, context: &mut Context, id: u32, bytes: &[u8]) -> Result<(), Refusal> {
        let Some(peer) = self.shared.connections.get(id) else { return Ok(()) };
        let full = |error: crate::reactor::OutboxFull| Fault::Other { message: format!("{}: {error}", peer.address) };
        let number = context.number();
        Ok(context.effects.sends.send(number, &peer.outbox, bytes).map_err(full)?)
    }

    /// See [`EventContext::receive`](optimist_flowgraph::vm::EventContext::receive).
    pub(super) fn receive(&self, context: &mut Context, tx: &mut Attempt, id: u32) -> Result<Option<Vec<u8>>, Refusal> {
        let Some(peer) = self.shared.connections.get(id) else { return Ok(Some(Vec::new())) };
        let tx: &mut Tx<'_> = &mut Tx::new(tx);
        let inbox = peer.inbox.get(tx)?;
        if !inbox.is_empty() {
            peer.inbox.set(tx, Arc::default())?;
            if peer.ended.get(tx)? {
                let program = self.clone();
                context.on_commit.push(Hook(Box::new(move || program.shared.connections.remove(id))));
            }
            return Ok(Some(Arc::unwrap_or_clone(inbox)));
        }
        if peer.ended.get(tx)? {
            return Ok(Some(Vec::new()));
        }
        Ok(None)
    }

    /// See [`EventContext::close`](optimist_flowgraph::vm::EventContext::close).
    pub(super) fn close(&self, context: &mut Context, id: u32) {
        if let Some(peer) = self.shared.connections.get(id) {
            context.on_commit.push(Hook(Box::new(move || {
                peer.closed.store(true, Ordering::Relaxed);
                peer.outbox.close_when_written();
            })));
        }
    }

    /// See [`EventContext::peer`](optimist_flowgraph::vm::EventContext::peer).
    pub(super) fn peer(&self, id: u32) -> Result<String, Fault> {
        let peer = self.shared.connections.get(id).ok_or_else(|| Fault::no_connection(id))?;
        Ok(peer.address.clone())
    }
}

fn failed(what: &str, error: &std::io::Error) -> Fault {
    Fault::Other { message: format!("`{what}`: {error}") }
}
