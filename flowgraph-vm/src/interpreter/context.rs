//! What an event sees of the world around it, and leaves there.

use std::time::Duration;

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
    /// The time in milliseconds since the run started; the same throughout an event.
    fn now(&mut self) -> f64;
    /// 64 random bits.
    fn random(&mut self) -> u64;
    /// The number of this event in the order in which events were added.
    fn event_number(&mut self) -> u64;
    /// Sends bytes on a connection.
    fn send(&mut self, connection: u64, bytes: &[u8]) -> Result<(), Fault>;
    /// What has arrived on a connection.
    fn receive(&mut self, connection: u64) -> Result<Option<Vec<u8>>, Fault>;
    /// Closes a connection.
    fn close(&mut self, connection: u64) -> Result<(), Fault>;
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

    fn send(&mut self, connection: u64, _bytes: &[u8]) -> Result<(), Fault> {
        Err(no_connection(connection))
    }

    fn receive(&mut self, connection: u64) -> Result<Option<Vec<u8>>, Fault> {
        Err(no_connection(connection))
    }

    fn close(&mut self, connection: u64) -> Result<(), Fault> {
        Err(no_connection(connection))
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

fn no_connection(connection: u64) -> Fault {
    Fault::OutOfBounds { what: "a connection", value: connection.to_string(), wanted: "open" }
}
