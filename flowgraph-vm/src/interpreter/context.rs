//! What an event sees of the world around it, and leaves there.

use std::time::Duration;

use crate::barrier::{Abort, Attempt};
use crate::flowgraph::fault::Fault;
use crate::flowgraph::program::FunctionId;
use crate::heap::Root;
use crate::source::Span;

/// A call that is to run as an event of its own.
#[derive(Clone, Debug)]
pub struct QueuedCall {
    /// The function.
    pub function: FunctionId,
    /// Its arguments, kept alive.
    pub arguments: Vec<Root>,
    /// At the earliest so long after the event that queues it has committed.
    pub delay: Option<Duration>,
    /// Where in the program it was queued.
    pub span: Span,
}

/// Where events come from by themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EventSource {
    /// The clients that connect to this address.
    Connections(String),
    /// The lines of an input, as strings without their ends.
    Lines(Input),
    /// The bytes of an input, as they come.
    Chunks(Input),
}

/// What is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The connection with this number.
    Connection(u32),
    /// The file of this name; `-` is the standard input.
    File(String),
}

/// What a connection is to come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Something can be received, or never will any more.
    Readable,
    /// It is over.
    Closed,
}

/// Why a context did not do what an operation asked for.
#[derive(Debug)]
pub enum Refusal {
    /// The operation fails.
    Fault(Fault),
    /// The attempt is over.
    Abort(Abort),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Refusal::Fault(fault)
    }
}

impl From<Abort> for Refusal {
    fn from(abort: Abort) -> Self {
        Refusal::Abort(abort)
    }
}

/// A position in an event's effects, to which they can be rolled back. What the number means is the context's business.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EffectMark(pub u64);

/// What an event sees of the world around it, and leaves there. Whoever runs events implements it.
///
/// # Atomicity
/// Everything left here is to be kept back until the event commits, and dropped if it does not.
///
/// # Errors
/// A [`Fault`] that a method returns becomes the failure of the operation that called it.
pub trait EventContext {
    /// Prints a line; the end of the line is not part of it.
    fn print(&mut self, line: &str) -> Result<(), Fault>;
    /// Writes a line to the log.
    fn log(&mut self, line: &str) -> Result<(), Fault>;
    /// Appends bytes to a file.
    fn write_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Fault>;
    /// Queues a call as an event of its own.
    fn add(&mut self, call: QueuedCall) -> Result<(), Fault>;
    /// The time in milliseconds since 1970 began; the same throughout an event.
    fn now(&mut self) -> f64;
    /// 64 random bits.
    fn random(&mut self) -> u64;
    /// The number of this event in the order in which events were added.
    fn event_number(&mut self) -> u64;
    /// Makes the source give events, once this one has committed: calls to which each thing that it gives is added as the argument at this place.
    fn each(&mut self, tx: &mut Attempt, source: EventSource, call: QueuedCall, place: usize) -> Result<(), Refusal>;
    /// Queues a call as an event of its own that starts, once this one has committed, when the connection has come to something.
    fn when(&mut self, tx: &mut Attempt, on: Condition, connection: u32, call: QueuedCall) -> Result<(), Refusal>;
    /// Sends bytes on a connection.
    fn send(&mut self, tx: &mut Attempt, connection: u32, bytes: &[u8]) -> Result<(), Refusal>;
    /// Takes what has arrived on a connection: `None` if nothing has, and nothing at all if nothing will any more.
    fn receive(&mut self, tx: &mut Attempt, connection: u32) -> Result<Option<Vec<u8>>, Refusal>;
    /// Closes a connection.
    fn close(&mut self, connection: u32) -> Result<(), Fault>;
    /// The address at the other end of a connection.
    fn peer(&mut self, connection: u32) -> Result<String, Fault>;
    /// Where the event's effects stand.
    fn mark(&mut self) -> EffectMark;
    /// Drops the effects since the mark.
    fn roll_back_to(&mut self, mark: EffectMark);
}

/// A context by itself, for programs that run outside a dispatcher and for tests: collects output, and counts time and chance from fixed seeds.
#[derive(Debug, Default)]
pub struct Collected {
    /// The lines printed, each with its end.
    pub output: String,
    /// The lines logged, each with its end.
    pub log: String,
    /// What was appended to which file.
    pub files: Vec<(String, Vec<u8>)>,
    /// The calls queued.
    pub queued: Vec<QueuedCall>,
    /// What [`EventContext::now`] says.
    pub now: f64,
    /// The number of this event.
    pub number: u64,
    /// The state of the generator of random numbers.
    pub seed: u64,
    marks: Vec<(usize, usize, usize, usize)>,
}

impl EventContext for Collected {
    fn print(&mut self, line: &str) -> Result<(), Fault> {
        self.output.push_str(line);
        self.output.push('\n');
        Ok(())
    }

    fn log(&mut self, line: &str) -> Result<(), Fault> {
        self.log.push_str(line);
        self.log.push('\n');
        Ok(())
    }

    fn write_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        self.files.push((name.to_owned(), bytes.to_vec()));
        Ok(())
    }

    fn add(&mut self, call: QueuedCall) -> Result<(), Fault> {
        self.queued.push(call);
        Ok(())
    }

    fn now(&mut self) -> f64 {
        self.now
    }

    fn random(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn event_number(&mut self) -> u64 {
        self.number
    }

    fn each(&mut self, _: &mut Attempt, source: EventSource, _: QueuedCall, _: usize) -> Result<(), Refusal> {
        let what = match source {
            EventSource::Connections(_) => "connections",
            EventSource::Lines(_) => "lines",
            EventSource::Chunks(_) => "chunks",
        };
        Err(Fault::Other { message: format!("there is nothing here that could give {what}") }.into())
    }

    fn when(&mut self, _: &mut Attempt, _: Condition, connection: u32, _: QueuedCall) -> Result<(), Refusal> {
        Err(Fault::no_connection(connection).into())
    }

    fn send(&mut self, _: &mut Attempt, connection: u32, _bytes: &[u8]) -> Result<(), Refusal> {
        Err(Fault::no_connection(connection).into())
    }

    fn receive(&mut self, _: &mut Attempt, connection: u32) -> Result<Option<Vec<u8>>, Refusal> {
        Err(Fault::no_connection(connection).into())
    }

    fn close(&mut self, connection: u32) -> Result<(), Fault> {
        Err(Fault::no_connection(connection))
    }

    fn peer(&mut self, connection: u32) -> Result<String, Fault> {
        Err(Fault::no_connection(connection))
    }

    fn mark(&mut self) -> EffectMark {
        self.marks.push((self.output.len(), self.log.len(), self.files.len(), self.queued.len()));
        EffectMark(self.marks.len() as u64 - 1)
    }

    fn roll_back_to(&mut self, mark: EffectMark) {
        let (output, log, files, queued) = self.marks[mark.0 as usize];
        self.marks.truncate(mark.0 as usize + 1);
        self.output.truncate(output);
        self.log.truncate(log);
        self.files.truncate(files);
        self.queued.truncate(queued);
    }
}
