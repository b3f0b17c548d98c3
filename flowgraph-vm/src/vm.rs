//! The virtual machine as other programs embed it.
//!
//! A [`Vm`] is a program ready to run, with its heap; it is shared by all threads. A [`Worker`] is what one thread runs events with.
//! Whoever runs events (the dispatcher, or [`Vm::run_event`] for a simple case) goes through these steps for each attempt:
//!
//! 1. the transaction begins;
//! 2. [`Worker::begin`], then [`Vm::call`] with the transaction's attempt and an [`EventContext`];
//! 3. the transaction commits or rolls back;
//! 4. [`Worker::end`], which may collect garbage.
//!
//! A call ends with an [`Outcome`] or an [`Interruption`]; no program can bring the machine down.
//!
//! ```
//! use optimist_flowgraph::vm::{Collected, Host, HostKind, Vm, VmConfig};
//! use optimist_flowgraph::{Literal, Source, compile_with};
//!
//! let limit = Host::new("limit", Some(0), HostKind::Pure, |call, _| Ok(call.int(100)));
//! let source = Source::new("pay.flow", "
//!     shared balances = map()
//!     fn pay(name, amount) {
//!         if amount > limit() { raise 'too_much' }
//!         balances[name] = get(balances, name, 0) + amount
//!         return balances[name]
//!     }
//! ");
//! let program = compile_with(&source, &[limit.signature()]).unwrap();
//! let vm = Vm::new(program, VmConfig { hosts: vec![limit], ..VmConfig::default() }).unwrap();
//! let (mut worker, mut context) = (vm.worker(), Collected::default());
//! vm.initialise(&mut worker, &mut context).unwrap();
//!
//! let pay = vm.function("pay").unwrap();
//! let name = worker.root_of(&vm, &Literal::string("Ada"));
//! let mut run = |amount| {
//!     let amount = worker.root_of(&vm, &Literal::int(amount));
//!     vm.run_event(&mut worker, pay, &[name.clone(), amount], &mut context)
//! };
//! assert_eq!(run(30).unwrap().value().as_int(), Some(30));
//! let error = run(101).unwrap_err();
//! assert_eq!(source.place(error.span), "pay.flow:4:31");
//! assert_eq!(run(12).unwrap().value().as_int(), Some(42));
//! ```

use std::sync::Arc;

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

pub use crate::heap::{Heap, HeapConfig, HeapStatistics, Root};
pub use crate::host::{Host, HostCall, HostError, HostKind};
pub use crate::interpreter::context::{
    Collected, Condition, EffectMark, EventContext, EventSource, Input, QueuedCall, Refusal,
};
pub use crate::interpreter::{Interruption, Limits, Outcome, Worker};
pub use crate::record::{ColumnKind, RecordError, RecordHeader, Rows};

use crate::barrier::{self, Any, Attempt, Interrupt, Protocol};
use crate::builtins::access::{Access, Make, elements};
use crate::bytecode::{Code, compile};
use crate::flowgraph::fault::{Fault, RuntimeError};
use crate::flowgraph::program::{BlockId, FunctionId, NameId, Program, VarId};
use crate::heap::{Kind, Mutator, Object};
use crate::interpreter::Machine;
use crate::literal::Literal;
use crate::value::Value;

/// How a virtual machine is set up.
#[derive(Default)]
pub struct VmConfig {
    /// The heap's size and when it is collected.
    pub heap: HeapConfig,
    /// What one event may use.
    pub limits: Limits,
    /// The functions of the embedding program. Their signatures are given to [`compile_with`](crate::compile_with) as well.
    pub hosts: Vec<Host>,
    /// Leaves instructions unfused and floats in no chains; the same programs do the same, more slowly.
    pub unfused: bool,
}

/// The names of symbols, each with a number.
#[derive(Default)]
pub(crate) struct Symbols(RwLock<SymbolTable>);

#[derive(Default)]
struct SymbolTable {
    names: Vec<Arc<str>>,
    numbers: FxHashMap<Arc<str>, u32>,
}

impl Symbols {
    /// The number of a name, which is added if it is new.
    pub(crate) fn intern(&self, name: &str) -> u32 {
        if let Some(number) = self.0.read().numbers.get(name) {
            return *number;
        }
        let mut table = self.0.write();
        if let Some(number) = table.numbers.get(name) {
            return *number;
        }
        let number = table.names.len() as u32;
        let name: Arc<str> = name.into();
        table.names.push(name.clone());
        table.numbers.insert(name, number);
        number
    }

    pub(crate) fn name(&self, number: u32) -> Arc<str> {
        self.0.read().names[number as usize].clone()
    }
}

/// What all threads share.
pub(crate) struct Shared {
    pub(crate) program: Arc<Program>,
    pub(crate) symbols: Symbols,
    /// The symbol of each field name, for records.
    pub(crate) name_symbols: Vec<u32>,
    pub(crate) constants: Vec<Value>,
    pub(crate) codes: Vec<Arc<Code>>,
    pub(crate) globals: Vec<Object>,
    pub(crate) limits: Limits,
    pub(crate) hosts: Vec<Host>,
    unfused: bool,
    pub(crate) heap: Arc<Heap>,
    _roots: Vec<Root>,
}

impl Shared {
    /// Where objects of this shape have a field.
    pub(crate) fn field_place(&self, shape: u16, name: NameId) -> Option<usize> {
        self.program.types[shape as usize].fields.iter().position(|field| *field == name)
    }
}

/// A program that cannot be run: a mistake of whoever embeds it, or a function of impossible size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmError(String);

impl std::fmt::Display for VmError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for VmError {}

/// A program ready to run, with its heap. Cloning it gives another handle of the same.
#[derive(Clone)]
pub struct Vm {
    shared: Arc<Shared>,
}

impl Worker {
    /// Begins an event. See the [module](self) for the order of things.
    ///
    /// # Panics
    /// When the last event was not ended.
    #[inline]
    pub fn begin(&mut self) {
        self.mutator.begin_event();
    }

    /// Ends an event whose transaction has committed or has been rolled back. May collect garbage, unless other threads' events do not
    /// come to a safepoint.
    #[inline]
    pub fn end(&mut self, committed: bool) {
        self.mutator.end_event(committed);
    }

    /// Whether an event has begun and not ended.
    pub fn is_in_event(&self) -> bool {
        self.mutator.is_in_event()
    }

    /// Holds a value beyond the event.
    pub fn root(&mut self, value: Value) -> Root {
        self.mutator.root(value)
    }

    /// A string. Within an event.
    pub fn text(&mut self, text: &str) -> Value {
        self.mutator.make_text(text)
    }

    /// A byte string. Within an event.
    pub fn bytes(&mut self, bytes: &[u8]) -> Value {
        self.mutator.make_bytes(bytes)
    }

    /// The value of a constant. Within an event.
    pub fn value_of(&mut self, vm: &Vm, literal: &Literal) -> Value {
        make_literal(&mut self.mutator, &vm.shared.symbols, literal)
    }

    /// A root for the value of a constant. Outside events.
    ///
    /// # Panics
    /// Within an event.
    pub fn root_of(&mut self, vm: &Vm, literal: &Literal) -> Root {
        self.begin();
        let value = self.value_of(vm, literal);
        let root = self.root(value);
        self.end(true);
        root
    }
}

pub(crate) fn make_literal(heap: &mut Mutator, symbols: &Symbols, literal: &Literal) -> Value {
    match literal {
        Literal::None => Value::NONE,
        Literal::Int(int) => heap.make_int(int),
        Literal::Float(float) => heap.make_float(*float),
        Literal::Symbol(name) => Value::symbol(symbols.intern(name)),
        Literal::Str(text) => heap.make_text(text),
        Literal::Bytes(bytes) => heap.make_bytes(bytes),
        Literal::List(items) => {
            let items: Vec<Value> = items.iter().map(|item| make_literal(heap, symbols, item)).collect();
            heap.make_list(&items)
        }
    }
}

impl Vm {
    /// Makes a program ready to run: compiles its functions and allocates its constants and shared variables. Their first
    /// values are set by [`Vm::initialise`].
    ///
    /// # Errors
    /// When a host function that the program calls is missing, or a function has too many variables.
    pub fn new(program: Program, config: VmConfig) -> Result<Vm, VmError> {
        if program.types.len() > usize::from(u16::MAX) {
            return Err(VmError(format!("a program can have at most {} object types", u16::MAX)));
        }
        let program = Arc::new(program);
        let hosts = match_hosts(&program, config.hosts)?;
        let heap = Heap::new(config.heap);
        let symbols = Symbols::default();
        let mut mutator = heap.mutator();
        mutator.begin_event();
        let mut roots = Vec::new();
        let mut constants = Vec::new();
        for literal in program.constants.values() {
            let value = make_literal(&mut mutator, &symbols, literal);
            roots.push(mutator.root(value));
            constants.push(value);
        }
        let mut globals = Vec::new();
        for _ in &program.globals {
            let cell = mutator.allocate(Kind::Cell, 0, 1);
            cell.init(0, Value::NONE);
            roots.push(mutator.root(cell.value()));
            globals.push(cell);
        }
        mutator.end_event(true);
        let name_symbols = program.names.values().iter().map(|name| symbols.intern(name)).collect();
        let mut codes = Vec::new();
        // The only function of a core program is compiled for the start that is asked for.
        if program.core().is_none() {
            for (i, function) in program.functions.iter().enumerate() {
                let parameters: Vec<VarId> = (0..function.parameters).map(VarId::from).collect();
                let code = compile(&program, FunctionId::from(i), BlockId(0), &parameters, &constants, !config.unfused)
                    .map_err(|_| too_many_variables(&function.name))?;
                codes.push(Arc::new(code));
            }
        }
        let shared = Shared {
            program,
            symbols,
            name_symbols,
            constants,
            codes,
            globals,
            limits: config.limits,
            hosts,
            unfused: config.unfused,
            heap,
            _roots: roots,
        };
        Ok(Vm { shared: Arc::new(shared) })
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.shared.program
    }

    /// The heap.
    pub fn heap(&self) -> &Arc<Heap> {
        &self.shared.heap
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What a thread runs events with.
    pub fn worker(&self) -> Worker {
        Worker::new(self.shared.heap.mutator())
    }

    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<FunctionId> {
        self.shared.program.function(name)
    }

    /// The register code of a core program as text, as it is run from a block with these variables given; empty for a program of functions.
    pub fn core_listing(&self, start: BlockId, given: &[VarId]) -> String {
        match self.shared.program.core() {
            Some(_) => {
                compile(&self.shared.program, FunctionId(0), start, given, &self.shared.constants, !self.shared.unfused)
                    .map_or_else(|_| String::new(), |code| code.listing())
            }
            None => String::new(),
        }
    }

    /// The register code of a function as text.
    pub fn listing(&self, function: FunctionId) -> String {
        self.shared.codes[function.index()].listing()
    }

    /// Calls a function within the running transaction, under the protocol `P`, which the attempt was begun with.
    ///
    /// # Errors
    /// Why the call did not run to its end. The transaction is still running; it is to be rolled back.
    ///
    /// # Panics
    /// When the number of arguments is wrong, or the worker has not begun an event.
    ///
    /// # Abort safety
    /// Everything the call does is in the transaction, or left with the context.
    #[inline]
    pub fn call<P: Protocol>(
        &self,
        tx: &mut Attempt,
        worker: &mut Worker,
        function: FunctionId,
        arguments: &[Value],
        context: &mut dyn EventContext,
    ) -> Result<Outcome, Interruption> {
        self.call_code::<P>(tx, worker, &self.shared.codes[function.index()], arguments, context, false)
    }

    fn call_code<P: Protocol>(
        &self,
        tx: &mut Attempt,
        worker: &mut Worker,
        code: &Code,
        arguments: &[Value],
        context: &mut dyn EventContext,
        initialising: bool,
    ) -> Result<Outcome, Interruption> {
        assert_eq!(arguments.len(), code.parameters, "a call passes as many arguments as the function has parameters");
        assert!(worker.is_in_event(), "a call happens within an event");
        let mut machine = Machine::new(&self.shared, worker, context, code, arguments);
        machine.initialising = initialising;
        machine.run::<P>(tx)
    }

    /// Gives the shared variables their first values, as one event, before all others. Does nothing for programs without any.
    ///
    /// # Errors
    /// What failed.
    pub fn initialise(&self, worker: &mut Worker, context: &mut dyn EventContext) -> Result<(), Box<RuntimeError>> {
        let Some(function) = self.shared.program.initialiser else { return Ok(()) };
        self.run_code(worker, &self.shared.codes[function.index()], &[], &[], context, true).map(|_| ())
    }

    /// Runs a function as one event in a transaction of its own, under the protocol in force. The value that the function returns is rooted.
    ///
    /// # Errors
    /// What failed; the event has been rolled back.
    pub fn run_event(
        &self,
        worker: &mut Worker,
        function: FunctionId,
        arguments: &[Root],
        context: &mut dyn EventContext,
    ) -> Result<Root, Box<RuntimeError>> {
        let arguments: Vec<Value> = arguments.iter().map(Root::value).collect();
        self.run_code(worker, &self.shared.codes[function.index()], &arguments, &[], context, false)
    }

    /// Runs a core program from a block, with the variables of its environment that are given. What it prints goes to the context.
    ///
    /// # Errors
    /// A variable that the program does not have is ignored; what fails is the program's own failure.
    ///
    /// # Panics
    /// When the program is one of functions.
    pub fn run_core(
        &self,
        worker: &mut Worker,
        start: BlockId,
        environment: &[(VarId, Literal)],
        context: &mut dyn EventContext,
    ) -> Result<(), Box<RuntimeError>> {
        let function = self.shared.program.core().expect("a core program");
        let given: Vec<VarId> = environment.iter().map(|(var, _)| *var).collect();
        let code =
            compile(&self.shared.program, FunctionId(0), start, &given, &self.shared.constants, !self.shared.unfused)
                .map_err(|_| {
                let fault = Fault::TooLarge { what: "the number of variables", limit: u16::MAX as usize };
                let block = &function.blocks[start.index()];
                Box::new(RuntimeError::new(fault, function.name.clone(), block.label.clone(), block.span))
            })?;
        let roots: Vec<Root> = environment.iter().map(|(_, value)| worker.root_of(self, value)).collect();
        let variables: Vec<(u16, Value)> =
            given.iter().zip(&roots).map(|(var, root)| (code.slots[var.index()], root.value())).collect();
        self.run_code(worker, &code, &[], &variables, context, false).map(|_| ())
    }

    fn run_code(
        &self,
        worker: &mut Worker,
        code: &Code,
        arguments: &[Value],
        variables: &[(u16, Value)],
        context: &mut dyn EventContext,
        initialising: bool,
    ) -> Result<Root, Box<RuntimeError>> {
        assert_eq!(arguments.len(), code.parameters, "a call passes as many arguments as the function has parameters");
        let start = context.mark();
        let mut run = Run { vm: self, worker, code, arguments, variables, context, start, initialising };
        let result = barrier::transaction(&mut run);
        if result.is_err() {
            context.roll_back_to(start);
        }
        worker.end(result.is_ok());
        result
    }

    /// The value as a constant, if it is immutable all through, its lists are nested at most a thousand deep, and it has at most a million parts.
    pub fn literal_of(&self, value: Value) -> Option<Literal> {
        self.nested_literal(value, 1000, &mut 1_000_000)
    }

    /// The value, nested not more than `depth` deep, as a tree of not more than `left` parts.
    fn nested_literal(&self, value: Value, depth: usize, left: &mut usize) -> Option<Literal> {
        *left = left.checked_sub(1)?;
        let object = match value.object() {
            None => {
                return Some(if let Some(int) = value.as_int() {
                    Literal::int(int)
                } else if let Some(float) = value.as_immediate_float() {
                    Literal::Float(float)
                } else if let Some(symbol) = value.as_symbol() {
                    Literal::Symbol(self.shared.symbols.name(symbol))
                } else if value.is_none() {
                    Literal::None
                } else {
                    return None;
                });
            }
            Some(object) => object,
        };
        match object.meta().kind() {
            Kind::Big => value.integer().map(Literal::Int),
            Kind::Float => value.float_value().map(Literal::Float),
            Kind::Text => Some(Literal::string(object.text())),
            Kind::Bytes => Some(Literal::Bytes(object.bytes().into())),
            Kind::List => {
                let depth = depth.checked_sub(1)?;
                let items: Option<Vec<_>> =
                    elements(object).map(|item| self.nested_literal(item, depth, left)).collect();
                items.map(|items| Literal::List(items.into()))
            }
            _ => None,
        }
    }

    /// A value as `print` shows it, strings as they are. Within a transaction, since mutable things are read.
    ///
    /// # Errors
    /// The abort with which the attempt ends, or a failure.
    pub fn show<P: Protocol>(
        &self,
        tx: &mut Attempt,
        worker: &mut Worker,
        value: Value,
    ) -> Result<String, Interruption> {
        let mut text = String::new();
        match Access::<P>::new(tx, &mut worker.mutator).format(&self.shared, value, true, &mut text) {
            Ok(()) => Ok(text),
            Err(crate::interpreter::Trap::Abort(abort)) => Err(Interruption::Abort(abort)),
            Err(_) => Ok("…".to_owned()),
        }
    }
}

fn too_many_variables(function: &str) -> VmError {
    VmError(format!("the function `{function}` has too many variables and constants for one frame"))
}

/// A call as a transaction of its own.
struct Run<'a> {
    vm: &'a Vm,
    worker: &'a mut Worker,
    code: &'a Code,
    arguments: &'a [Value],
    variables: &'a [(u16, Value)],
    context: &'a mut dyn EventContext,
    /// Where the context's effects stood before.
    start: EffectMark,
    initialising: bool,
}

impl barrier::Body<Root, Box<RuntimeError>> for Run<'_> {
    fn attempt(&mut self, tx: &mut Attempt) -> Result<Root, Interrupt<Box<RuntimeError>>> {
        self.worker.begin();
        let mut machine = Machine::new(&self.vm.shared, self.worker, self.context, self.code, self.arguments);
        machine.initialising = self.initialising;
        self.variables.iter().for_each(|(slot, value)| machine.set_variable(*slot, *value));
        match machine.run::<Any>(tx) {
            Ok(Outcome::Returned(value)) => Ok(self.worker.root(value)),
            Ok(Outcome::Stopped) => Ok(self.worker.root(Value::NONE)),
            Err(Interruption::Abort(abort)) => Err(Interrupt::Abort(abort)),
            Err(Interruption::Retry(_)) => Err(Interrupt::Abort(barrier::Abort::Retry)),
            Err(Interruption::Failed(error)) => Err(Interrupt::Error(error)),
        }
    }

    fn aborted(&mut self) {
        // An attempt may have been aborted before it began.
        if self.worker.is_in_event() {
            self.worker.end(false);
        }
        self.context.roll_back_to(self.start);
    }
}

/// The host functions in the order in which the program numbers them.
fn match_hosts(program: &Program, mut hosts: Vec<Host>) -> Result<Vec<Host>, VmError> {
    program
        .hosts
        .iter()
        .map(|wanted| match hosts.iter().position(|host| host.name() == &*wanted.name) {
            Some(place) => Ok(hosts.swap_remove(place)),
            None => {
                Err(VmError(format!("the program calls `{}`, which the embedding program does not have", wanted.name)))
            }
        })
        .collect()
}
