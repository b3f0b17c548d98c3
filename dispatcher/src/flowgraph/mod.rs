//! Flowgraph programs as events: the one module that names the virtual machine.
//!
//! A [`Program`] is a virtual machine whose functions are queued as events. Each thread that executes them has a worker of the machine, kept
//! from event to event. What an attempt allocates goes when it is aborted; what the program prints, logs, writes and queues goes through
//! the event's effects.

mod sources;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use optimist_flowgraph::Literal;
use optimist_flowgraph::flowgraph::fault::{Fault, RuntimeError};
use optimist_flowgraph::flowgraph::program::FunctionId;
use optimist_flowgraph::value::Value;
use optimist_flowgraph::vm::{
    Collected, Condition, EffectMark, EventContext, EventSource, Interruption, Outcome, QueuedCall, Refusal, Root,
    Rows, Vm, Worker,
};
use optimist_stm::attempt::Attempt;
use optimist_stm::protocol::Any;
use optimist_stm::{Abort, Interrupt};
use parking_lot::Mutex;

use crate::effects::Output;
use crate::event::{Context, Event, EventResult, Failure};
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
    log: Output,
    /// Files that the program has appended to.
    files: Mutex<HashMap<String, Output>>,
    /// Where they are.
    folder: PathBuf,
    /// Where events of sources go: the queue that the program was first added to.
    queue: OnceLock<Weak<crate::queue::Shared>>,
    connections: sources::Connections,
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

impl Program {
    /// The program that this machine is ready to run. Its log goes to `log`; the files that it names are in `folder`.
    #[must_use]
    pub fn new(vm: Vm, log: Output, folder: impl Into<PathBuf>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only uniqueness matters.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let shared = Shared {
            vm,
            id,
            log,
            files: Mutex::default(),
            folder: folder.into(),
            queue: OnceLock::new(),
            connections: sources::Connections::default(),
        };
        Program { shared: Arc::new(shared) }
    }

    /// The machine.
    #[must_use]
    pub fn vm(&self) -> &Vm {
        &self.shared.vm
    }

    /// A function's call as an event.
    #[must_use]
    pub fn call(&self, function: FunctionId, arguments: Vec<Root>) -> impl Handler + use<> {
        Call::new(Called::Function { program: self.clone(), function, arguments })
    }

    /// A function's calls with records as their argument, each as an event. Each record is made within its event.
    pub fn records(&self, function: FunctionId, rows: Rows) -> impl Iterator<Item = impl Handler + use<>> + use<> {
        let count = rows.len();
        let rows = Arc::new(CalledWithRows { program: self.clone(), function, rows });
        (0..count).map(move |row| Call::new(Called::WithRow(rows.clone(), row)))
    }

    /// A call with something that a source has given, as an event.
    fn item(&self, template: &Arc<Template>, item: Item) -> impl Handler + use<> {
        Call::new(Called::WithItem(self.clone(), template.clone(), item))
    }

    /// Queues a call as an event. The events of the program's sources go to the same queue.
    #[track_caller]
    pub fn add(&self, queue: &TransactionQueue, function: FunctionId, arguments: Vec<Root>) {
        self.shared.queue.get_or_init(|| Arc::downgrade(queue.shared()));
        queue.add_handler(Options::new(), self.call(function, arguments));
    }

    /// The queue that the program was added to.
    fn queue(&self) -> Option<TransactionQueue> {
        self.shared.queue.get()?.upgrade().map(TransactionQueue::from_shared)
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
    called: Called,
    /// Where the last attempt said `retry`.
    waits: Option<Box<RuntimeError>>,
}

/// What is called, and with what.
enum Called {
    Function { program: Program, function: FunctionId, arguments: Vec<Root> },
    WithItem(Program, Arc<Template>, Item),
    WithRow(Arc<CalledWithRows>, usize),
}

impl Called {
    fn program(&self) -> &Program {
        match self {
            Called::Function { program, .. } | Called::WithItem(program, ..) => program,
            Called::WithRow(rows, _) => &rows.program,
        }
    }
}

/// Rows, each the argument of a call of its own.
struct CalledWithRows {
    program: Program,
    function: FunctionId,
    rows: Rows,
}

/// A call to which something that a source has given is added as an argument.
struct Template {
    function: FunctionId,
    /// The other arguments.
    arguments: Box<[Root]>,
    /// The item's place among the arguments.
    place: usize,
}

/// Something that a source has given. It becomes a value within the event.
enum Item {
    Connection(u32),
    Text(String),
    Bytes(Vec<u8>),
}

impl Template {
    fn of(call: QueuedCall, place: usize) -> Self {
        Template { function: call.function, arguments: call.arguments.into(), place }
    }
}

impl Item {
    fn make(&self, worker: &mut Worker) -> Value {
        match self {
            Item::Connection(id) => Value::connection(*id),
            Item::Text(text) => worker.text(text),
            Item::Bytes(bytes) => worker.bytes(bytes),
        }
    }
}

impl Program {
    /// Runs a call within an event, for which the worker has begun.
    fn execute(
        &self,
        worker: &mut Worker,
        event: &mut Event<'_>,
        function: FunctionId,
        arguments: &[Value],
    ) -> Result<Outcome, Interruption> {
        let (tx, context) = event.split();
        let mut context = Effects { program: self, context, marks: Vec::new() };
        self.shared.vm.call::<Any>(tx, worker, function, arguments, &mut context)
    }

    /// Begins an event of this thread's worker that is not one of the program's own, unless that has been done.
    fn join(&self, worker: &mut Worker, event: &mut Event<'_>) {
        if !worker.is_in_event() {
            worker.begin();
            let program = self.clone();
            event.on_commit(move || end(&program, true));
            let program = self.clone();
            event.on_abort(move || end(&program, false));
        }
    }

    /// Runs a call with something that a source has given, within an event that is not the call's own.
    fn handle(&self, event: &mut Event<'_>, template: &Template, item: Item) -> EventResult {
        with_worker(self, |worker| {
            self.join(worker, event);
            let arguments = template.with(worker, &item);
            self.execute(worker, event, template.function, &arguments).map(drop).map_err(interrupt)
        })
    }

    /// Calls a function of the program within an event, as a part of it: what the function does to the program's objects, and what the event
    /// does to its own, commits together or not at all. Gives what the function returns, if that is immutable, and else `none`.
    ///
    /// ```
    /// use optimist_dispatcher::flowgraph::Program;
    /// use optimist_dispatcher::{Output, TVar, TransactionQueue};
    /// use optimist_flowgraph::vm::{Vm, VmConfig};
    /// use optimist_flowgraph::{Literal, Source, compile};
    ///
    /// let source = Source::new("stock.flow", "
    ///     shared stock = map()
    ///     fn put(what, count) {
    ///         stock[what] = get(stock, what, 0) + count
    ///         if stock[what] < 0 { raise 'sold_out' }
    ///         return stock[what]
    ///     }
    /// ");
    /// let program = Program::new(Vm::new(compile(&source).unwrap(), VmConfig::default())?, Output::stderr(), ".");
    /// program.initialise()?;
    /// let put = program.vm().function("put").unwrap();
    /// let (queue, earned) = (TransactionQueue::default(), TVar::new(0));
    /// for count in [3, -1, -2] {
    ///     let (program, earned) = (program.clone(), earned.clone());
    ///     queue.add(move |ev| {
    ///         program.call_within(ev, put, &[Literal::string("tea"), Literal::int(count)])?;
    ///         Ok(earned.modify(ev, |sum| sum - 5 * count.min(0))?)
    ///     });
    /// }
    /// queue.run()?;
    /// assert_eq!(earned.load(), 15);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What the program raised, a [`ProgramFailure`], or an abort. Within a function that a program has called.
    ///
    /// # Panics
    /// If the number of arguments is not that of the parameters.
    pub fn call_within(
        &self,
        event: &mut Event<'_>,
        function: FunctionId,
        arguments: &[Literal],
    ) -> EventResult<Literal> {
        if WORKERS.with(|workers| workers.try_borrow_mut().is_err()) {
            return event.fail("a function that the program has called cannot call the program");
        }
        let vm = &self.shared.vm;
        with_worker(self, |worker| {
            self.join(worker, event);
            let arguments: Vec<Value> = arguments.iter().map(|literal| worker.value_of(vm, literal)).collect();
            match self.execute(worker, event, function, &arguments).map_err(interrupt)? {
                Outcome::Returned(value) => Ok(vm.literal_of(value).unwrap_or(Literal::None)),
                Outcome::Stopped => Ok(Literal::None),
            }
        })
    }

    /// Gives the shared variables their first values. To be done once, before the first call.
    ///
    /// # Errors
    /// What failed.
    pub fn initialise(&self) -> Result<(), ProgramFailure> {
        with_worker(self, |worker| self.shared.vm.initialise(worker, &mut Collected::default())).map_err(ProgramFailure)
    }
}

/// How a call ends its event, or the attempt.
fn interrupt(interruption: Interruption) -> Interrupt<Failure> {
    match interruption {
        Interruption::Abort(abort) => Interrupt::Abort(abort),
        Interruption::Retry(_) => Interrupt::Abort(Abort::Retry),
        Interruption::Failed(error) => Interrupt::Error(Box::new(ProgramFailure(error)) as _),
    }
}

impl Template {
    /// The arguments, with the item in its place.
    fn with(&self, worker: &mut Worker, item: &Item) -> Vec<Value> {
        let item = item.make(worker);
        let mut arguments: Vec<Value> = self.arguments.iter().map(Root::value).collect();
        arguments.insert(self.place, item);
        arguments
    }
}

impl Call {
    fn new(called: Called) -> Self {
        Call { called, waits: None }
    }
}

impl Handler for Call {
    fn run(&mut self, event: &mut Event<'_>) -> EventResult {
        let program = self.called.program();
        with_worker(program, |worker| {
            worker.begin();
            let outcome = match &self.called {
                Called::Function { function, arguments, .. } => {
                    let arguments: Vec<Value> = arguments.iter().map(Root::value).collect();
                    program.execute(worker, event, *function, &arguments)
                }
                Called::WithItem(_, template, item) => {
                    let arguments = template.with(worker, item);
                    program.execute(worker, event, template.function, &arguments)
                }
                Called::WithRow(rows, row) => {
                    let record = rows.rows.make(worker, *row);
                    program.execute(worker, event, rows.function, &[record])
                }
            };
            outcome.map(drop).map_err(|interruption| match interruption {
                Interruption::Retry(waits) => {
                    self.waits = Some(waits);
                    Interrupt::Abort(Abort::Retry)
                }
                other => interrupt(other),
            })
        })
    }

    fn waits(&mut self) -> Option<Failure> {
        self.waits.take().map(|waits| Box::new(ProgramFailure(waits)) as _)
    }

    fn aborted(&mut self) {
        end(self.called.program(), false);
    }

    fn ended(&mut self, committed: bool) {
        end(self.called.program(), committed);
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
        Additions::push(Task::with(handler, Location::caller(), Options::new()), delay);
        Ok(())
    }

    fn now(&mut self) -> f64 {
        let since = self.context.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        since.as_secs_f64() * 1000.0
    }

    fn random(&mut self) -> u64 {
        self.context.random()
    }

    fn event_number(&mut self) -> u64 {
        self.context.number()
    }

    fn each(&mut self, tx: &mut Attempt, source: EventSource, call: QueuedCall, place: usize) -> Result<(), Refusal> {
        self.program.each(self.context, tx, source, Template::of(call, place))
    }

    fn when(&mut self, tx: &mut Attempt, on: Condition, connection: u32, call: QueuedCall) -> Result<(), Refusal> {
        self.program.when(tx, on, connection, Template::of(call, 0))
    }

    fn send(&mut self, _: &mut Attempt, connection: u32, bytes: &[u8]) -> Result<(), Refusal> {
        self.program.send(self.context, connection, bytes)
    }

    fn receive(&mut self, tx: &mut Attempt, connection: u32) -> Result<Option<Vec<u8>>, Refusal> {
        self.program.receive(self.context, tx, connection)
    }

    fn close(&mut self, connection: u32) -> Result<(), Fault> {
        self.program.close(self.context, connection);
        Ok(())
    }

    fn peer(&mut self, connection: u32) -> Result<String, Fault> {
        self.program.peer(connection)
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
