//! The interpreter: a plain loop over [register code](crate::bytecode), generic over the protocol.
//!
//! Quick instructions handle machine integers, immediate floats, lists, arrays and fields with a cached place; for everything else an instruction falls back to
//! the operation of the flowgraph that it was made from ([`Machine::perform_at`]). So each operation has one meaning, and the loop stays small.
//!
//! Frames lie in one stack of values, always filled up to the top, so that they are exact roots. At every backward jump and every
//! call `fuel` is counted down; when it is gone the [poll](Machine::poll) looks whether a collection wants the thread to stop, and whether the event has exceeded its limits.

#![expect(
    unsafe_code,
    reason = "registers and words are reached through bare pointers within bounds that the compiler of the code established"
)]

pub(crate) mod context;
mod dispatch;
mod trap;
mod unwind;

use std::ptr::NonNull;

pub(crate) use trap::Trap;

use context::{EffectMark, EventContext};

use crate::barrier::{Abort, Attempt, Protocol, Savepoint};
use crate::builtins::access::Access;
use crate::bytecode::{Code, GuardSite};
use crate::flowgraph::fault::{Fault, RuntimeError};
use crate::flowgraph::op::Op;
use crate::flowgraph::program::{Assign, Immediate, Operand};
use crate::heap::{Kind, Meta, Mutator, Object};
use crate::value::Value;
use crate::vm::Shared;

/// A call that waits for another one to return.
struct Frame {
    code: NonNull<Code>,
    /// Where its slots begin.
    base: usize,
    /// The call instruction.
    call: u32,
}

impl Frame {
    fn code(&self) -> &Code {
        // SAFETY: as in `Machine::code`; frames are looked at only while the machine runs.
        unsafe { self.code.as_ref() }
    }
}

/// A guarded region that has been entered and not yet left.
struct Guarded {
    site: GuardSite,
    code: NonNull<Code>,
    base: usize,
    /// How many frames wait below it.
    depth: usize,
    savepoint: Savepoint,
    effects: EffectMark,
    /// Where in `saved` the values of the frame's slots begin.
    saved: usize,
}

/// What one thread runs events with: its end of the heap and its stacks, reused from event to event.
pub struct Worker {
    /// The thread's end of the heap.
    pub mutator: Mutator,
    stack: Vec<Value>,
    frames: Vec<Frame>,
    guards: Vec<Guarded>,
    /// The slots of frames as they were when guarded regions were entered.
    saved: Vec<Value>,
}

// SAFETY: the pointers to code in the stacks are used only while a machine runs, which holds the code; between events the stacks are empty.
unsafe impl Send for Worker {}

impl Worker {
    pub(crate) fn new(mutator: Mutator) -> Worker {
        Worker { mutator, stack: Vec::new(), frames: Vec::new(), guards: Vec::new(), saved: Vec::new() }
    }
}

/// How a call ended that ran to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The function returned this value; it is good until the event ends.
    Returned(Value),
    /// The program printed a value and stopped.
    Stopped,
}

/// Why a call did not run to its end.
#[derive(Debug)]
pub enum Interruption {
    /// The attempt is over and must be run again.
    Abort(Abort),
    /// The program waits, here, until something that it has read changes.
    Retry(Box<RuntimeError>),
    /// The event failed.
    Failed(Box<RuntimeError>),
}

impl From<Abort> for Interruption {
    fn from(abort: Abort) -> Self {
        Interruption::Abort(abort)
    }
}

/// Limits of one event.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Backward jumps and calls; an operation on long numbers, strings or lists counts as more of them.
    pub steps: u64,
    /// Calls within calls.
    pub depth: usize,
    /// Bytes printed, logged, written to files and sent.
    pub output: usize,
    /// Bytes allocated, garbage included, beyond the stretch of memory (of at most 32 KiB) that the event begins in. They are counted in such
    /// stretches, so an event may come a little further than this before it is ended.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { steps: u64::MAX, depth: 10_000, output: usize::MAX, memory: usize::MAX }
    }
}

/// The interpreter in the middle of an event.
pub(crate) struct Machine<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) worker: &'a mut Worker,
    pub(crate) context: &'a mut dyn EventContext,
    /// Whether shared variables may still change that no function assigns to.
    pub(crate) initialising: bool,
    code: NonNull<Code>,
    base: usize,
    steps: u64,
    output: usize,
}

impl<'a> Machine<'a> {
    /// A machine about to call `code`.
    pub(crate) fn new(
        shared: &'a Shared,
        worker: &'a mut Worker,
        context: &'a mut dyn EventContext,
        code: &'a Code,
        arguments: &[Value],
    ) -> Machine<'a> {
        worker.frames.clear();
        worker.guards.clear();
        worker.saved.clear();
        let mut machine = Machine {
            shared,
            worker,
            context,
            initialising: false,
            code: NonNull::from(code),
            base: 0,
            steps: 0,
            output: 0,
        };
        machine.make_room(code.template.len());
        machine.worker.stack[..code.template.len()].copy_from_slice(&code.template);
        machine.worker.stack[..arguments.len()].copy_from_slice(arguments);
        machine
    }

    /// Sets variables of the function about to run.
    pub(crate) fn set_variable(&mut self, slot: u16, value: Value) {
        self.worker.stack[slot as usize] = value;
    }

    fn code(&self) -> &'a Code {
        // SAFETY: code is held by `Shared`, or by the caller of `new`, for as long as the machine lives.
        unsafe { self.code.as_ref() }
    }

    fn make_room(&mut self, top: usize) {
        if self.worker.stack.len() < top {
            self.worker.stack.resize(top.next_power_of_two().max(1024), Value::NONE);
        }
    }

    fn access<'b, P: Protocol>(&'b mut self, tx: &'b mut Attempt) -> Access<'b, P> {
        Access::new(tx, &mut self.worker.mutator)
    }

    /// Counts bytes that leave the event.
    pub(crate) fn count_output(&mut self, bytes: usize) -> Result<(), Trap> {
        let limit = self.shared.limits.output;
        self.output = self.output.saturating_add(bytes);
        if self.output > limit { Err(Fault::TooMuchOutput { limit }.into()) } else { Ok(()) }
    }

    /// Looks at the world outside: a collection that wants this thread to stop, the limits of the event.
    #[cold]
    #[inline(never)]
    fn poll(&mut self, tx: &mut Attempt) -> Result<(), Trap> {
        self.poll_holding(tx, Value::NONE)
    }

    /// As [`poll`](Self::poll), while a value is held that is in no register yet.
    fn poll_holding(&mut self, tx: &mut Attempt, held: Value) -> Result<(), Trap> {
        let limits = &self.shared.limits;
        self.steps += self.worker.mutator.refuel(u64::MAX);
        if self.steps > limits.steps {
            return Err(Fault::TooManySteps { limit: limits.steps }.into());
        }
        self.worker.mutator.refuel((limits.steps - self.steps).saturating_add(1));
        if self.worker.mutator.event_bytes() > limits.memory {
            return Err(Fault::TooMuchAllocated { limit: limits.memory }.into());
        }
        if self.worker.mutator.must_stop() {
            let top = self.base + self.code().template.len();
            let (stack, saved) = (&self.worker.stack[..top], &self.worker.saved);
            let owns = self.shared.heap.addresses();
            self.worker.mutator.safepoint(|roots| {
                let held = std::iter::once(&held);
                roots.extend(stack.iter().chain(saved).chain(held).filter_map(|value| value.object()));
                crate::barrier::logged_objects(tx, &owns, roots);
            });
            let heap = &self.shared.heap;
            if heap.is_over_limit() {
                return Err(Fault::TooMuchMemory { limit: heap.limit() }.into());
            }
        }
        Ok(())
    }

    /// Reads a field of a mutable object where that is not quick.
    #[inline(never)]
    fn read_slowly<P: Protocol>(&mut self, tx: &mut Attempt, object: Object, place: usize) -> Result<u64, Trap> {
        crate::barrier::read_slowly::<P>(tx, &mut self.worker.mutator, object, place).map_err(Trap::Abort)
    }

    /// Writes a field of a mutable object where that is not quick.
    #[inline(never)]
    fn write_slowly<P: Protocol>(
        &mut self,
        tx: &mut Attempt,
        object: Object,
        place: usize,
        value: Value,
    ) -> Result<(), Trap> {
        self.access::<P>(tx).write(object, place, value)
    }

    /// As [`write_slowly`](Self::write_slowly), for bits that are no reference.
    #[inline(never)]
    fn write_bits_slowly<P: Protocol>(
        &mut self,
        tx: &mut Attempt,
        object: Object,
        place: usize,
        bits: u64,
    ) -> Result<(), Trap> {
        self.access::<P>(tx).write_bits(object, place, bits)
    }

    /// The operation that an instruction was made from.
    fn assignment(&self, index: usize) -> &'a Assign {
        let code = self.code();
        let site = code.sites[index];
        let function = &self.shared.program.functions[code.function.index()];
        &function.blocks[site.block.index()].ops[site.op as usize]
    }

    fn operand(&self, operand: Operand) -> Value {
        match operand {
            Operand::Var(var) => self.worker.stack[self.base + self.code().slots[var.index()] as usize],
            Operand::Const(constant) => self.shared.constants[constant.index()],
        }
    }

    /// Carries out the operation that an instruction was made from, whatever its operands are.
    #[inline(never)]
    fn perform_at<P: Protocol>(&mut self, tx: &mut Attempt, index: usize) -> Result<Value, Trap> {
        let assign = self.assignment(index);
        let mut few = [Value::NONE; 6];
        let value = if assign.args.len() <= few.len() {
            for (value, operand) in few.iter_mut().zip(&assign.args) {
                *value = self.operand(*operand);
            }
            let args = &few[..assign.args.len()];
            self.count_work(assign.op, args);
            self.perform::<P>(tx, assign, args)?
        } else {
            let args: Vec<Value> = assign.args.iter().map(|operand| self.operand(*operand)).collect();
            self.count_work(assign.op, &args);
            self.perform::<P>(tx, assign, &args)?
        };
        if self.worker.mutator.is_pressed() {
            self.poll_holding(tx, value)?;
        }
        Ok(value)
    }

    /// Finds the field of a struct or record and remembers its place.
    #[inline(never)]
    fn get_field_slowly<P: Protocol>(&mut self, tx: &mut Attempt, index: usize, cache: usize) -> Result<Value, Trap> {
        let assign = self.assignment(index);
        if let Some(value) = self.get_record_field(assign, cache) {
            return Ok(value);
        }
        self.remember_field(assign, cache);
        self.perform_at::<P>(tx, index)
    }

    /// The field of a record, which is most likely where it was the last time. Records have headers of their own in place of shapes.
    #[inline]
    fn get_record_field(&self, assign: &Assign, cache: usize) -> Option<Value> {
        let record = self.operand(assign.args[0]).object_of(Kind::Record)?;
        let Immediate::Field(name) = assign.immediate else { return None };
        let cache = &self.code().caches[cache];
        let symbol = self.shared.name_symbols[name.index()];
        let place = crate::builtins::record_place(record, symbol, cache.load().1)?;
        cache.store_place(place);
        Some(record.get(1 + place))
    }

    fn remember_field(&self, assign: &Assign, cache: usize) {
        if let (Some(object), Immediate::Field(name)) =
            (self.operand(assign.args[0]).object_of(Kind::Struct), assign.immediate)
        {
            let shape = object.meta().shape();
            if let Some(place) = self.shared.field_place(shape, name) {
                self.code().caches[cache].store(Meta::struct_of_shape(shape), place);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn set_field_slowly<P: Protocol>(&mut self, tx: &mut Attempt, index: usize, cache: usize) -> Result<Value, Trap> {
        let assign = self.assignment(index);
        self.remember_field(assign, cache);
        self.perform_at::<P>(tx, index)
    }

    /// Whether the comparison that a jump was made from holds.
    #[cold]
    #[inline(never)]
    fn compare_slowly<P: Protocol>(&mut self, tx: &mut Attempt, index: usize) -> Result<bool, Trap> {
        Ok(self.perform_at::<P>(tx, index)?.is_true())
    }

    /// Whether a jump on a comparison with a small integer, made from `<` and `<=` or from `>` and `>=`, is taken.
    #[cold]
    #[inline(never)]
    fn compare_small_slowly<P: Protocol>(
        &mut self,
        tx: &mut Attempt,
        index: usize,
        if_less: bool,
    ) -> Result<bool, Trap> {
        let made_from_less = matches!(self.assignment(index).op, Op::Lt | Op::Le);
        Ok(self.perform_at::<P>(tx, index)?.is_true() == (made_from_less == if_less))
    }

    fn unset(&self, slot: usize) -> Trap {
        let code = self.code();
        let function = &self.shared.program.functions[code.function.index()];
        let var = code.slots.iter().position(|other| *other as usize == slot).expect("only variables are checked");
        Fault::Unset { variable: function.variables[var].clone() }.into()
    }

    /// Runs until the first function returns.
    ///
    /// # Errors
    /// Why it did not.
    pub(crate) fn run<P: Protocol>(&mut self, tx: &mut Attempt) -> Result<Outcome, Interruption> {
        crate::barrier::let_interrupt(tx, self.shared.heap.stop_request());
        crate::barrier::enter::<P>(tx, &mut self.worker.mutator);
        self.worker.mutator.limit_event(self.shared.limits.memory);
        self.worker.mutator.refuel(self.shared.limits.steps.saturating_add(1));
        let result = self.run_loop::<P>(tx);
        crate::barrier::forbid_interrupt(tx);
        result
    }
}
