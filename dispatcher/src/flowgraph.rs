//! Flowgraph programs as events: the one file that names the virtual machine.
//!
//! A [`Program`] is a virtual machine whose functions are queued as events. Each thread that executes them has a worker of the machine, kept
//! from event to event. What an attempt allocates goes when it is aborted; what the program prints, logs, writes and queues goes through
//! the event's effects.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use optimist_flowgraph::flowgraph::fault::{Fault, RuntimeError};
use optimist_flowgraph::flowgraph::program::FunctionId;
use optimist_flowgraph::value::Value;
use optimist_flowgraph::vm::{
    Condition, EffectMark, EventContext, EventSource, Interruption, QueuedCall, RecordError, RecordHeader, Refusal,
    Root, Vm, Worker,
};
use optimist_stm::attempt::Attempt;
use optimist_stm::protocol::Any;
use optimist_stm::{Abort, Interrupt};
use parking_lot::Mutex;

use crate::effects::Output;
use crate::event::{Context, Event, EventResult};
use crate::queue::{Additions, TransactionQueue};
use crate::task::{Handler, Options, Task};

/// A program whose functions run as events.
#[derive(Clone)]
pub struct Program {
    shared: Arc<Shared>,
}

struct Shared {
    vm: Vm,
    /// Tells the programs of a process apart.
    id: u64,
    started: SystemTime,
    log: Output,
    /// Files that the program has appended to.
    files: Mutex<HashMap<String, Output>>,
    /// Where they are.
    folder: PathBuf,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("id", &self.shared.id).finish_non_exhaustive()
    }
}

/// A program's failure in an event, with its place in the source.
#[derive(Debug)]
pub struct ProgramFailure(pub Box<RuntimeError>);

impl fmt::Display for ProgramFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ProgramFailure {}

/// A record of an input that is not as its header says.
#[derive(Debug)]
pub struct RecordFailure(pub RecordError);

impl fmt::Display for RecordFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for RecordFailure {}

impl Program {
    /// The program that this machine is ready to run. Its log goes to `log`; the files that it names are in `folder`.
    #[must_use]
    pub fn new(vm: Vm, log: Output, folder: impl Into<PathBuf>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only uniqueness matters.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let shared = Shared { vm, id, started: SystemTime::now(), log, files: Mutex::default(), folder: folder.into() };
        Program { shared: Arc::new(shared) }
    }

    /// The machine.
    #[must_use]
    pub fn vm(&self) -> &Vm {
        &self.shared.vm
    }

    /// A function's call as an event.
    #[must_use]
    pub fn call(&self, function: FunctionId, arguments: Vec<Root>) -> Box<dyn Handler> {
        Box::new(Call { program: self.clone(), function, arguments: Arguments::Values(arguments) })
    }

    /// A function's call with a record as its argument, as an event. The record is made within the event.
    #[must_use]
    pub fn record(&self, function: FunctionId, header: &Arc<RecordHeader>, fields: Vec<Box<str>>) -> Box<dyn Handler> {
        let arguments = Arguments::Record(header.clone(), fields);
        Box::new(Call { program: self.clone(), function, arguments })
    }

    /// Queues a call as an event.
    #[track_caller]
    pub fn add(&self, queue: &TransactionQueue, function: FunctionId, arguments: Vec<Root>) {
        queue.add_handler(Options::new(), self.call(function, arguments));
    }

    /// The file of this name, opened at its first use.
    fn file(&self, name: &str) -> Result<Output, Fault> {
        let mut files = self.shared.files.lock();
        if let Some(file) = files.get(name) {
            return Ok(file.clone());
        }
        let file = Output::append(self.shared.folder.join(name))
            .map_err(|error| Fault::Other { message: format!("the file `{name}` cannot be opened: {error}") })?;
        files.insert(name.to_owned(), file.clone());
        Ok(file)
    }
}

thread_local! {
    /// The workers of this thread, by program. A thread seldom has more than one.
    static WORKERS: RefCell<Vec<(u64, Worker)>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with this thread's worker of the program.
fn with_worker<R>(program: &Program, f: impl FnOnce(&mut Worker) -> R) -> R {
    WORKERS.with_borrow_mut(|workers| {
        let id = program.shared.id;
        let index = match workers.iter().position(|(owner, _)| *owner == id) {
            Some(index) => index,
            None => {
                workers.push((id, program.shared.vm.worker()));
                workers.len() - 1
            }
        };
        f(&mut workers[index].1)
    })
}

/// A call waiting to be executed.
struct Call {
    program: Program,
    function: FunctionId,
    arguments: Arguments,
}

enum Arguments {
    Values(Vec<Root>),
    Record(Arc<RecordHeader>, Vec<Box<str>>),
}

impl Handler for Call {
    fn run(&mut self, event: &mut Event<'_>) -> EventResult {
        let program = &self.program;
        with_worker(program, |worker| {
            worker.begin();
            let arguments: Vec<Value> = match &self.arguments {
                Arguments::Values(roots) => roots.iter().map(Root::value).collect(),
                Arguments::Record(header, fields) => {
                    let record = header.make(worker, fields.iter().map(|field| &**field));
                    vec![record.map_err(|error| Interrupt::Error(Box::new(RecordFailure(error)) as _))?]
                }
            };
            let (tx, context) = event.split();
            let mut context = Effects { program, context, marks: Vec::new() };
            match program.shared.vm.call::<Any>(tx, worker, self.function, &arguments, &mut context) {
                Ok(_) => Ok(()),
                Err(Interruption::Abort(abort)) => Err(Interrupt::Abort(abort)),
                Err(Interruption::Retry) => Err(Interrupt::Abort(Abort::Retry)),
                Err(Interruption::Failed(error)) => Err(Interrupt::Error(Box::new(ProgramFailure(error)) as _)),
            }
        })
    }

    fn aborted(&mut self) {
        end(&self.program, false);
    }

    fn ended(&mut self, committed: bool) {
        end(&self.program, committed);
    }
}

/// Ends the event of this thread's worker, if it is in one: an attempt may have ended before it began its body.
fn end(program: &Program, committed: bool) {
    with_worker(program, |worker| {
        if worker.is_in_event() {
            worker.end(committed);
        }
    });
}

/// The event's effects as the machine sees them.
struct Effects<'a> {
    program: &'a Program,
    context: &'a mut Context,
    marks: Vec<crate::event::EffectMark>,
}

impl EventContext for Effects<'_> {
    fn print(&mut self, line: &str) -> Result<(), Fault> {
        self.context.effects.append(None, line.as_bytes());
        self.context.effects.append(None, b"\n");
        Ok(())
    }

    fn log(&mut self, line: &str) -> Result<(), Fault> {
        self.context.effects.append(Some(&self.program.shared.log), line.as_bytes());
        self.context.effects.append(Some(&self.program.shared.log), b"\n");
        Ok(())
    }

    fn write_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        let file = self.program.file(name)?;
        self.context.effects.append(Some(&file), bytes);
        Ok(())
    }

    fn add(&mut self, call: QueuedCall) -> Result<(), Fault> {
        let QueuedCall { function, arguments, delay, .. } = call;
        let handler = self.program.call(function, arguments);
        Additions::push(Task::new(handler, Location::caller()), delay);
        Ok(())
    }

    fn now(&mut self) -> f64 {
        // The event's time is the system's; the program counts from its start.
        let since = self.context.now().duration_since(self.program.shared.started).unwrap_or_default();
        since.as_secs_f64() * 1000.0
    }

    fn random(&mut self) -> u64 {
        self.context.random()
    }

    fn event_number(&mut self) -> u64 {
        self.context.number()
    }

    fn each(&mut self, _: &mut Attempt, _: EventSource, _: QueuedCall, _: usize) -> Result<(), Refusal> {
        Err(Fault::Other { message: "there are no sources of events here".to_owned() }.into())
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
        self.marks.push(self.context.mark());
        EffectMark(self.marks.len() as u64 - 1)
    }

    fn roll_back_to(&mut self, mark: EffectMark) {
        let index = usize::try_from(mark.0).expect("a mark of this event");
        let mark = self.marks[index];
        self.marks.truncate(index + 1);
        self.context.roll_back_to(&mark);
    }
}
