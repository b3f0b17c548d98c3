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
mod trap;
mod unwind;

use std::ptr::NonNull;

pub(crate) use trap::Trap;

use context::{EffectMark, EventContext};

use crate::barrier::{Abort, Attempt, Protocol, Savepoint};
use crate::builtins::access::Access;
use crate::builtins::{array, order};
use crate::bytecode::{Code, GuardSite, Instruction, Opcode};
use crate::flowgraph::fault::{Fault, RuntimeError};
use crate::flowgraph::op::Op;
use crate::flowgraph::program::{Assign, Immediate, Operand};
use crate::heap::{Kind, Meta, Mutator};
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
    /// The program waits until something that it has read changes.
    Retry,
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
    /// Backward jumps and calls.
    pub steps: u64,
    /// Calls within calls.
    pub depth: usize,
    /// Bytes printed, logged, written to files and sent.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { steps: u64::MAX, depth: 10_000, output: usize::MAX }
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
        self.steps += crate::heap::FUEL as u64;
        if self.steps > limits.steps {
            return Err(Fault::TooManySteps { limit: limits.steps }.into());
        }
        self.worker.mutator.fuel = (crate::heap::FUEL as u64).min(limits.steps - self.steps + 1) as i64;
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
            self.perform::<P>(tx, assign, &few[..assign.args.len()])?
        } else {
            let args: Vec<Value> = assign.args.iter().map(|operand| self.operand(*operand)).collect();
            self.perform::<P>(tx, assign, &args)?
        };
        if self.worker.mutator.is_pressed() {
            self.poll_holding(tx, value)?;
        }
        Ok(value)
    }

    /// Finds the field of a struct or record and remembers its place.
    #[cold]
    #[inline(never)]
    fn get_field_slowly<P: Protocol>(&mut self, tx: &mut Attempt, index: usize, cache: usize) -> Result<Value, Trap> {
        let assign = self.assignment(index);
        self.remember_field(assign, cache);
        self.perform_at::<P>(tx, index)
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
        let result = self.run_loop::<P>(tx);
        crate::barrier::forbid_interrupt(tx);
        result
    }

    fn run_loop<P: Protocol>(&mut self, tx: &mut Attempt) -> Result<Outcome, Interruption> {
        let mut words: *const Instruction = self.code().words.as_ptr();
        let mut pc: *const Instruction = words;
        // SAFETY: `base` is within the stack.
        let mut base: *mut Value = unsafe { self.worker.stack.as_mut_ptr().add(self.base) };

        // Why all these are sound: the compiler made the code, and it names only slots of the template, which `make_room` made room
        // for; jumps lead to words of the same code, and every way through it ends in an instruction that leaves the loop.
        macro_rules! register {
            ($i:expr) => {
                // SAFETY: see above.
                unsafe { *base.add($i) }
            };
        }
        macro_rules! set {
            ($i:expr, $value:expr) => {{
                let value = $value;
                // SAFETY: see above.
                unsafe { *base.add($i) = value }
            }};
        }
        // The index of the instruction that runs; `pc` is already past it.
        macro_rules! here {
            () => {
                // SAFETY: see above.
                unsafe { pc.offset_from(words) as usize - 1 }
            };
        }
        macro_rules! reload {
            ($next:expr) => {{
                words = self.code().words.as_ptr();
                // SAFETY: see above.
                pc = unsafe { words.add($next) };
                // SAFETY: see above.
                base = unsafe { self.worker.stack.as_mut_ptr().add(self.base) };
            }};
        }
        // The value, or on to the handler of the trap.
        macro_rules! attempt {
            ($result:expr) => {
                match $result {
                    Ok(value) => value,
                    Err(trap) => {
                        let next = self.unwind::<P>(tx, trap, here!())?;
                        reload!(next);
                        continue;
                    }
                }
            };
        }
        macro_rules! jump {
            ($word:expr) => {{
                let distance = $word.immediate() as isize;
                // SAFETY: see above.
                pc = unsafe { pc.offset(distance) };
                let fuel = self.worker.mutator.fuel + (distance >> 63) as i64;
                self.worker.mutator.fuel = fuel;
                if fuel <= 0 {
                    if let Err(trap) = self.poll(tx) {
                        // The place of the error is where the jump led. SAFETY: see above.
                        let index = unsafe { pc.offset_from(words) as usize };
                        let next = self.unwind::<P>(tx, trap, index)?;
                        reload!(next);
                    }
                }
            }};
        }
        macro_rules! arithmetic {
            ($word:expr, $ints:path, $floats:expr) => {{
                let (x, y) = (register!($word.b()), register!($word.c()));
                if Value::both_int(x, y)
                    && let Some(result) = $ints(x, y)
                {
                    set!($word.a(), result);
                } else if Value::both_immediate_floats(x, y)
                    && let Some(result) = Value::float($floats(x.float_unchecked(), y.float_unchecked()))
                {
                    set!($word.a(), result);
                } else {
                    let result = attempt!(self.perform_at::<P>(tx, here!()));
                    set!($word.a(), result);
                }
            }};
        }
        macro_rules! comparison {
            ($word:expr, $ints:expr, $floats:expr) => {{
                let (x, y) = (register!($word.b()), register!($word.c()));
                if Value::both_int(x, y) {
                    set!($word.a(), Value::truth($ints(&(x.bits() as i64), &(y.bits() as i64))));
                } else if Value::both_immediate_floats(x, y) {
                    set!($word.a(), Value::truth($floats(&x.float_unchecked(), &y.float_unchecked())));
                } else {
                    let result = attempt!(self.perform_at::<P>(tx, here!()));
                    set!($word.a(), result);
                }
            }};
        }
        // A jump taken when a comparison gives `$wanted`; `c` says whether that is when the comparison it was made from holds.
        macro_rules! compare_and_jump {
            ($word:expr, $wanted:literal, $ints:expr, $floats:expr) => {{
                let (x, y) = (register!($word.a()), register!($word.b()));
                let taken = if Value::both_int(x, y) {
                    $ints(&(x.bits() as i64), &(y.bits() as i64)) == $wanted
                } else if Value::both_immediate_floats(x, y) {
                    $floats(&x.float_unchecked(), &y.float_unchecked()) == $wanted
                } else {
                    attempt!(self.compare_slowly::<P>(tx, here!())) == ($word.c() != 0)
                };
                if taken {
                    jump!($word);
                }
            }};
        }
        macro_rules! equal_and_jump {
            ($word:expr, $wanted:literal) => {{
                let (x, y) = (register!($word.a()), register!($word.b()));
                // Equal words are equal values but for not-a-number, which lives in the heap; different words of values outside the heap that are
                // no floats are different values.
                let equal = if x == y && !x.is_object() {
                    true
                } else if x.is_object() || x.is_immediate_float() {
                    order::equal(x, y)
                } else {
                    x == y || (y.is_object() && order::equal(x, y))
                };
                if equal == $wanted {
                    jump!($word);
                }
            }};
        }

        loop {
            // SAFETY: see above.
            let word = unsafe { *pc };
            // SAFETY: see above.
            pc = unsafe { pc.add(1) };
            // SAFETY: every word that control reaches was made from an opcode.
            match unsafe { std::mem::transmute::<u8, Opcode>(word.opcode_byte()) } {
                Opcode::Move => set!(word.a(), register!(word.b())),
                Opcode::LoadConstant => set!(word.a(), self.shared.constants[word.immediate() as usize]),
                Opcode::LoadFar => set!(word.a(), register!(word.immediate() as usize)),
                Opcode::StoreFar => set!(word.immediate() as usize, register!(word.a())),
                Opcode::Check => {
                    if register!(word.immediate() as usize).is_undefined() {
                        attempt!(Err(self.unset(word.immediate() as usize)))
                    }
                }
                Opcode::Add => arithmetic!(word, Value::add_ints, std::ops::Add::add),
                Opcode::Sub => arithmetic!(word, Value::sub_ints, std::ops::Sub::sub),
                Opcode::Mul => arithmetic!(word, Value::mul_ints, std::ops::Mul::mul),
                Opcode::FloorDiv | Opcode::Modulo => {
                    let (x, y) = (register!(word.b()), register!(word.c()));
                    // A positive divisor cannot overflow, and rounding down takes one correction.
                    if Value::both_int(x, y) && y.int_unchecked() > 0 {
                        let (x, y) = (x.int_unchecked(), y.int_unchecked());
                        let result =
                            if word.opcode_byte() == Opcode::Modulo as u8 { x.rem_euclid(y) } else { x.div_euclid(y) };
                        set!(word.a(), Value::small(result));
                    } else {
                        let result = attempt!(self.perform_at::<P>(tx, here!()));
                        set!(word.a(), result);
                    }
                }
                Opcode::Div => {
                    let (x, y) = (register!(word.b()), register!(word.c()));
                    if Value::both_immediate_floats(x, y)
                        && y.float_unchecked() != 0.0
                        && let Some(quotient) = Value::float(x.float_unchecked() / y.float_unchecked())
                    {
                        set!(word.a(), quotient);
                    } else {
                        let result = attempt!(self.perform_at::<P>(tx, here!()));
                        set!(word.a(), result);
                    }
                }
                Opcode::AddSmall => {
                    let x = register!(word.b());
                    let small = Value::from_bits(word.immediate() as i64 as u64);
                    if x.is_int()
                        && let Some(sum) = Value::add_ints(x, small)
                    {
                        set!(word.a(), sum);
                    } else {
                        let result = attempt!(self.perform_at::<P>(tx, here!()));
                        set!(word.a(), result);
                    }
                }
                Opcode::Eq | Opcode::Ne => {
                    let (x, y) = (register!(word.b()), register!(word.c()));
                    let equal = if Value::both_int(x, y) { x == y } else { order::equal(x, y) };
                    set!(word.a(), Value::truth(equal == (word.opcode_byte() == Opcode::Eq as u8)));
                }
                Opcode::Lt => comparison!(word, i64::lt, f64::lt),
                Opcode::Le => comparison!(word, i64::le, f64::le),
                Opcode::Jump => jump!(word),
                Opcode::JumpIf => {
                    if register!(word.a()).is_true() {
                        jump!(word);
                    }
                }
                Opcode::JumpIfNot => {
                    if !register!(word.a()).is_true() {
                        jump!(word);
                    }
                }
                Opcode::JumpEq => equal_and_jump!(word, true),
                Opcode::JumpNotEq => equal_and_jump!(word, false),
                Opcode::JumpLt => compare_and_jump!(word, true, i64::lt, f64::lt),
                Opcode::JumpNotLt => compare_and_jump!(word, false, i64::lt, f64::lt),
                Opcode::JumpLe => compare_and_jump!(word, true, i64::le, f64::le),
                Opcode::JumpNotLe => compare_and_jump!(word, false, i64::le, f64::le),
                Opcode::JumpLtSmall => {
                    let x = register!(word.a());
                    let taken = if x.is_int() {
                        (x.bits() as i64) < (word.bc() as i64) << 3
                    } else {
                        attempt!(self.compare_small_slowly::<P>(tx, here!(), true))
                    };
                    if taken {
                        jump!(word);
                    }
                }
                Opcode::JumpNotLtSmall => {
                    let x = register!(word.a());
                    let taken = if x.is_int() {
                        (x.bits() as i64) >= (word.bc() as i64) << 3
                    } else {
                        attempt!(self.compare_small_slowly::<P>(tx, here!(), false))
                    };
                    if taken {
                        jump!(word);
                    }
                }
                Opcode::AddSmallJumpIf => {
                    let x = register!(word.b());
                    let small = Value::from_bits(((word.c() as u8 as i8 as i64) << 3) as u64);
                    let result = if x.is_int()
                        && let Some(sum) = Value::add_ints(x, small)
                    {
                        sum
                    } else {
                        attempt!(self.perform_at::<P>(tx, here!()))
                    };
                    set!(word.a(), result);
                    if result.is_true() {
                        jump!(word);
                    }
                }
                Opcode::Switch => {
                    let table = &self.code().switches[word.immediate() as usize];
                    if let Some(distance) = table.find(register!(word.a())) {
                        jump!(Instruction::new(Opcode::Jump, 0, 0, 0, distance));
                    }
                }
                Opcode::Index => {
                    let (list, index) = (register!(word.b()), register!(word.c()));
                    if index.is_int()
                        && let Some(object) = list.object()
                    {
                        let (meta, i) = (object.meta(), index.int_unchecked() as usize);
                        if meta.is(Kind::List) && i < meta.fields() {
                            set!(word.a(), object.get(i));
                            continue;
                        }
                        if meta.is(Kind::Array) && i < array::length(object) {
                            let value = attempt!(self.access::<P>(tx).array_get(object, i));
                            set!(word.a(), value);
                            continue;
                        }
                    }
                    let value = attempt!(self.perform_at::<P>(tx, here!()));
                    set!(word.a(), value);
                }
                Opcode::IndexSmall => {
                    if let Some(object) = register!(word.b()).object() {
                        let (meta, i) = (object.meta(), word.immediate() as usize);
                        if meta.is(Kind::List) && i < meta.fields() {
                            set!(word.a(), object.get(i));
                            continue;
                        }
                        if meta.is(Kind::Array) && i < array::length(object) {
                            let value = attempt!(self.access::<P>(tx).array_get(object, i));
                            set!(word.a(), value);
                            continue;
                        }
                    }
                    let value = attempt!(self.perform_at::<P>(tx, here!()));
                    set!(word.a(), value);
                }
                Opcode::SetIndex => {
                    let (array, index) = (register!(word.a()), register!(word.b()));
                    if index.is_int()
                        && let Some(object) = array.object_of(Kind::Array)
                        && (index.int_unchecked() as usize) < array::length(object)
                    {
                        let value = register!(word.c());
                        attempt!(self.access::<P>(tx).array_set(object, index.int_unchecked() as usize, value));
                    } else {
                        attempt!(self.perform_at::<P>(tx, here!()));
                    }
                }
                Opcode::GetField => {
                    let cache = word.immediate() as usize;
                    let (kind_and_shape, place) = self.code().caches[cache].load();
                    if let Some(object) = register!(word.b()).object()
                        && object.meta().kind_and_shape() == kind_and_shape
                    {
                        let value = attempt!(self.access::<P>(tx).read(object, place));
                        set!(word.a(), value);
                    } else {
                        let value = attempt!(self.get_field_slowly::<P>(tx, here!(), cache));
                        set!(word.a(), value);
                    }
                }
                Opcode::SetField => {
                    let cache = word.immediate() as usize;
                    let (kind_and_shape, place) = self.code().caches[cache].load();
                    if let Some(object) = register!(word.a()).object()
                        && object.meta().kind_and_shape() == kind_and_shape
                    {
                        let value = register!(word.b());
                        attempt!(self.access::<P>(tx).write(object, place, value));
                    } else {
                        attempt!(self.set_field_slowly::<P>(tx, here!(), cache));
                    }
                }
                Opcode::GetGlobal => {
                    let number = word.immediate() as usize;
                    let cell = self.shared.globals[number];
                    let value = if self.shared.program.globals[number].assigned || self.initialising {
                        attempt!(self.access::<P>(tx).read(cell, 0))
                    } else {
                        // Set before the first event and never again.
                        cell.get(0)
                    };
                    set!(word.a(), value);
                }
                Opcode::SetGlobal => {
                    let cell = self.shared.globals[word.immediate() as usize];
                    let value = register!(word.a());
                    attempt!(self.access::<P>(tx).write(cell, 0, value));
                }
                Opcode::Call => {
                    let here = here!();
                    let caller = self.code();
                    let callee = &*self.shared.codes[word.immediate() as usize];
                    let depth = self.worker.frames.len();
                    if depth >= self.shared.limits.depth {
                        attempt!(Err(Fault::TooDeep { limit: self.shared.limits.depth }.into()))
                    }
                    let new_base = self.base + caller.template.len();
                    self.worker.frames.push(Frame { code: self.code, base: self.base, call: here as u32 });
                    let fuel = self.worker.mutator.fuel - 1;
                    self.worker.mutator.fuel = fuel;
                    let arguments = pc;
                    if new_base + callee.template.len() > self.worker.stack.len() {
                        self.make_room(new_base + callee.template.len());
                    }
                    let stack = self.worker.stack.as_mut_ptr();
                    // SAFETY: both frames lie within the stack; the words after the call name slots of the caller.
                    unsafe {
                        let (old, new) = (stack.add(self.base), stack.add(new_base));
                        std::ptr::copy_nonoverlapping(callee.template.as_ptr(), new, callee.template.len());
                        for i in 0..word.c() {
                            let four = (*arguments.add(i / 4)).0;
                            let slot = (four >> (16 * (i % 4))) as u16 as usize;
                            *new.add(i) = *old.add(slot);
                        }
                    }
                    self.code = NonNull::from(callee);
                    self.base = new_base;
                    reload!(0);
                    if fuel <= 0
                        && let Err(trap) = self.poll(tx)
                    {
                        let next = self.unwind::<P>(tx, trap, 0)?;
                        reload!(next);
                    }
                }
                Opcode::Return => {
                    let value = register!(word.a());
                    let Some(frame) = self.worker.frames.pop() else {
                        return Ok(Outcome::Returned(value));
                    };
                    self.code = frame.code;
                    self.base = frame.base;
                    let call = self.code().words[frame.call as usize];
                    reload!(frame.call as usize + 1 + call.c().div_ceil(4));
                    if call.ab() != u16::MAX as usize {
                        set!(call.ab(), value);
                    }
                }
                Opcode::Perform => {
                    let value = attempt!(self.perform_at::<P>(tx, here!()));
                    let target = word.immediate();
                    if target >= 0 {
                        set!(target as usize, value);
                    }
                }
                Opcode::Enter => self.enter::<P>(tx, word.immediate() as usize),
                Opcode::Leave => {
                    let guard = self.worker.guards.pop().expect("the verifier counts guarded regions");
                    self.worker.saved.truncate(guard.saved);
                }
                Opcode::Raise => attempt!(Err(Trap::Raise(register!(word.a())))),
                Opcode::Retry => attempt!(Err(Trap::Retry)),
                Opcode::Stop => {
                    let mut text = String::new();
                    let (value, shared) = (register!(word.a()), self.shared);
                    attempt!(self.access::<P>(tx).format(shared, value, false, &mut text));
                    attempt!(self.count_output(text.len() + 1));
                    attempt!(self.context.print(&text).map_err(Trap::from));
                    return Ok(Outcome::Stopped);
                }
            }
        }
    }
}
