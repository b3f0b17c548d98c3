//! The loop that runs instructions.
//!
//! An arm of the `match` is the quick case of its instruction and ends with `continue 'next`. Where it does not apply, the arm falls out of the
//! `match`, and the operation of the flowgraph is carried out in one place below it, whose value goes to register `a`. A fused instruction does what it
//! and the one behind it do; where that is not quick, it does what the plain instruction does that it was made from, and the one behind it follows by
//! itself. It must not go back to the `match` for that: a loop around it makes the compiler decode operands that most arms do not want.

#![expect(
    unsafe_code,
    reason = "registers and words are reached through bare pointers within bounds that the compiler of the code established"
)]

use std::ptr::NonNull;

use super::{Frame, Interruption, Machine, Outcome, Trap};
use crate::barrier::{self, Attempt, Protocol};
use crate::builtins::access::Make;
use crate::builtins::{array, order};
use crate::bytecode::{Instruction, Opcode};
use crate::flowgraph::fault::Fault;
use crate::heap::Kind;
use crate::value::Value;

impl Machine<'_> {
    pub(super) fn run_loop<P: Protocol>(&mut self, tx: &mut Attempt) -> Result<Outcome, Interruption> {
        let mut pc: *const Instruction = self.code().words.as_ptr();
        // SAFETY: `base` is within the stack.
        let mut base: *mut Value = unsafe { self.worker.stack.as_mut_ptr().add(self.base) };

        // Why all these are sound: the compiler made the code, and it names only slots of the template, which `make_room` made room
        // for; jumps lead to words of the same code, and every way through it ends in an instruction that leaves the loop.
        'next: loop {
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
                    unsafe { pc.offset_from(self.code().words.as_ptr()) as usize - 1 }
                };
            }
            macro_rules! reload {
                ($next:expr) => {{
                    // SAFETY: see above.
                    pc = unsafe { self.code().words.as_ptr().add($next) };
                    // SAFETY: see above.
                    base = unsafe { self.worker.stack.as_mut_ptr().add(self.base) };
                }};
            }
            let trap: Trap = 'trapped: {
                // The value, or on to the handler of the trap, in the one place below where that is looked for: many such places would leave
                // the compiler no registers for what every instruction needs.
                macro_rules! attempt {
                    ($result:expr) => {
                        match $result {
                            Ok(value) => value,
                            Err(trap) => break 'trapped trap,
                        }
                    };
                }
                // SAFETY: see above.
                let mut word = unsafe { *pc };
                // SAFETY: see above.
                pc = unsafe { pc.add(1) };
                // A field of a mutable object.
                macro_rules! read {
                    ($object:expr, $place:expr) => {{
                        let (object, place) = ($object, $place);
                        match barrier::read_quickly::<P>(tx, &self.worker.mutator, object, place) {
                            Some(bits) => bits,
                            None => attempt!(self.read_slowly::<P>(tx, object, place)),
                        }
                    }};
                }
                // Whether a field of a mutable object could be written quickly.
                macro_rules! written {
                    ($object:expr, $place:expr, $bits:expr) => {
                        attempt!(
                            barrier::write_quickly::<P>(tx, &self.worker.mutator, $object, $place, $bits)
                                .map_err(Trap::Abort)
                        )
                    };
                }
                macro_rules! jump {
                    ($word:expr) => {{
                        let distance = $word.immediate() as isize;
                        // SAFETY: see above.
                        pc = unsafe { pc.offset(distance) };
                        let fuel = self.worker.mutator.fuel + (distance >> 63) as i64;
                        self.worker.mutator.fuel = fuel;
                        if fuel <= 0
                            && let Err(trap) = self.poll(tx)
                        {
                            // The place of the error is where the jump led. SAFETY: see above.
                            pc = unsafe { pc.add(1) };
                            break 'trapped trap;
                        }
                    }};
                }
                // Both operands must be of one kind; mixed ones are left to the operation.
                macro_rules! arithmetic {
                    ($x:expr, $y:expr, $ints:path, $floats:expr) => {{
                        let (x, y) = ($x, $y);
                        if Value::both_int(x, y) {
                            $ints(x, y)
                        } else if Value::both_immediate_floats(x, y) {
                            Value::float($floats(x.float_unchecked(), y.float_unchecked()))
                        } else {
                            None
                        }
                    }};
                }
                macro_rules! arithmetic_arm {
                    ($word:expr, $ints:path, $floats:expr) => {{
                        if let Some(result) = arithmetic!(register!($word.b()), register!($word.c()), $ints, $floats) {
                            set!($word.a(), result);
                            continue 'next;
                        }
                    }};
                }
                macro_rules! comparison {
                    ($word:expr, $ints:expr, $floats:expr) => {{
                        let (x, y) = (register!($word.b()), register!($word.c()));
                        if Value::both_int(x, y) {
                            set!($word.a(), Value::truth($ints(&(x.bits() as i64), &(y.bits() as i64))));
                            continue 'next;
                        } else if Value::both_immediate_floats(x, y) {
                            set!($word.a(), Value::truth($floats(&x.float_unchecked(), &y.float_unchecked())));
                            continue 'next;
                        }
                    }};
                }
                // The instruction behind the one that runs.
                macro_rules! following {
                    () => {
                        // SAFETY: see above; a fused instruction was made from two.
                        unsafe { *pc }
                    };
                }
                macro_rules! skip_following {
                    () => {
                        // SAFETY: see above.
                        pc = unsafe { pc.add(1) }
                    };
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

                // Where a dense array of floats, whose index is in range, has the element.
                macro_rules! float_element {
                    ($word:expr) => {
                        match register!($word.b()).object() {
                            Some(object) if object.meta().kind_and_shape() == array::FLOATS => {
                                array::locate_in(object, register!($word.c()))
                            }
                            _ => None,
                        }
                    };
                }
                // Adds a constant, and goes on as `$then` says.
                macro_rules! add_small_arm {
                    ($then:block) => {{
                        let x = register!(word.b());
                        let small = Value::from_bits(word.immediate() as i64 as u64);
                        if x.is_int() {
                            if let Some(sum) = Value::add_ints(x, small) {
                                set!(word.a(), sum);
                                $then
                            }
                        } else if x.is_immediate_float()
                            && small != Value::ZERO
                            && let Some(sum) = Value::float(x.float_unchecked() + small.int_unchecked() as f64)
                        {
                            set!(word.a(), sum);
                            continue 'next;
                        }
                    }};
                }
                macro_rules! jump_lt_small_arm {
                    ($wanted:literal) => {{
                        let x = register!(word.a());
                        let taken = if x.is_int() {
                            ((x.bits() as i64) < (word.bc() as i64) << 3) == $wanted
                        } else {
                            attempt!(self.compare_small_slowly::<P>(tx, here!(), $wanted))
                        };
                        if taken {
                            jump!(word);
                        }
                        continue 'next;
                    }};
                }
                // An element of a list or an array.
                macro_rules! index_arm {
                    ($word:expr, $index:expr) => {{
                        let index = $index;
                        if let Some(object) = register!($word.b()).object() {
                            let meta = object.meta();
                            if meta.is(Kind::List) {
                                if index.rotated_int() < meta.fields() {
                                    set!($word.a(), object.get(index.rotated_int()));
                                    continue 'next;
                                }
                            } else if let Some((chunk, place)) = array::locate(object, meta, index) {
                                let bits = read!(chunk, place);
                                if let Some(value) = array::immediate(meta, bits) {
                                    set!($word.a(), value);
                                    continue 'next;
                                }
                            }
                        }
                    }};
                }
                let float: f64 = 'floats: {
                    // Arithmetic at the beginning of a chain of floats.
                    macro_rules! arithmetic_through {
                        ($ints:path, $floats:expr) => {{
                            let (x, y) = (register!(word.b()), register!(word.c()));
                            if Value::both_int(x, y) {
                                if let Some(result) = $ints(x, y) {
                                    set!(word.a(), result);
                                    continue 'next;
                                }
                            } else if Value::both_immediate_floats(x, y) {
                                break 'floats $floats(x.float_unchecked(), y.float_unchecked());
                            }
                        }};
                    }

                    // SAFETY: every word that control reaches was made from an opcode.
                    match unsafe { std::mem::transmute::<u8, Opcode>(word.opcode_byte()) } {
                        Opcode::Move => {
                            set!(word.a(), register!(word.b()));
                            continue 'next;
                        }
                        Opcode::LoadConstant => {
                            set!(word.a(), self.shared.constants[word.immediate() as usize]);
                            continue 'next;
                        }
                        Opcode::LoadFar => {
                            set!(word.a(), register!(word.immediate() as usize));
                            continue 'next;
                        }
                        Opcode::StoreFar => {
                            set!(word.immediate() as usize, register!(word.a()));
                            continue 'next;
                        }
                        Opcode::Check => {
                            if register!(word.immediate() as usize).is_undefined() {
                                attempt!(Err(self.unset(word.immediate() as usize)))
                            }
                            continue 'next;
                        }
                        Opcode::Add | Opcode::AddOn => arithmetic_arm!(word, Value::add_ints, std::ops::Add::add),
                        Opcode::Sub | Opcode::SubOn | Opcode::SubFromOn => {
                            arithmetic_arm!(word, Value::sub_ints, std::ops::Sub::sub)
                        }
                        Opcode::Mul | Opcode::MulOn => arithmetic_arm!(word, Value::mul_ints, std::ops::Mul::mul),
                        Opcode::AddThrough => arithmetic_through!(Value::add_ints, std::ops::Add::add),
                        Opcode::SubThrough => arithmetic_through!(Value::sub_ints, std::ops::Sub::sub),
                        Opcode::MulThrough => arithmetic_through!(Value::mul_ints, std::ops::Mul::mul),
                        Opcode::FloorDiv => {
                            let (x, y) = (register!(word.b()), register!(word.c()));
                            // A positive divisor cannot overflow, and rounding down takes one correction.
                            if Value::both_int(x, y) && y.int_unchecked() > 0 {
                                set!(word.a(), Value::small(x.int_unchecked().div_euclid(y.int_unchecked())));
                                continue 'next;
                            }
                        }
                        Opcode::Modulo => {
                            let (x, y) = (register!(word.b()), register!(word.c()));
                            if Value::both_int(x, y) && y.int_unchecked() > 0 {
                                set!(word.a(), Value::small(x.int_unchecked().rem_euclid(y.int_unchecked())));
                                continue 'next;
                            }
                        }
                        Opcode::Div | Opcode::DivOn => {
                            let (x, y) = (register!(word.b()), register!(word.c()));
                            if Value::both_immediate_floats(x, y)
                                && y.float_unchecked() != 0.0
                                && let Some(quotient) = Value::float(x.float_unchecked() / y.float_unchecked())
                            {
                                set!(word.a(), quotient);
                                continue 'next;
                            }
                        }
                        Opcode::DivThrough => {
                            let (x, y) = (register!(word.b()), register!(word.c()));
                            if Value::both_immediate_floats(x, y) && y.float_unchecked() != 0.0 {
                                break 'floats x.float_unchecked() / y.float_unchecked();
                            }
                        }
                        Opcode::AddSmall | Opcode::AddSmallOn => {
                            add_small_arm!({
                                continue 'next;
                            });
                        }
                        Opcode::AddSmallIndex => {
                            add_small_arm!({
                                word = following!();
                                skip_following!();
                                index_arm!(word, register!(word.c()));
                            });
                        }
                        Opcode::AddSmallJumpLt => {
                            add_small_arm!({
                                word = following!();
                                skip_following!();
                                compare_and_jump!(word, true, i64::lt, f64::lt);
                                continue 'next;
                            });
                        }
                        Opcode::AddSmallJumpLtSmall => {
                            add_small_arm!({
                                word = following!();
                                skip_following!();
                                jump_lt_small_arm!(true)
                            });
                        }
                        Opcode::Eq | Opcode::Ne => {
                            let (x, y) = (register!(word.b()), register!(word.c()));
                            let equal = if Value::both_int(x, y) { x == y } else { order::equal(x, y) };
                            set!(word.a(), Value::truth(equal == (word.opcode_byte() == Opcode::Eq as u8)));
                            continue 'next;
                        }
                        Opcode::Lt => comparison!(word, i64::lt, f64::lt),
                        Opcode::Le => comparison!(word, i64::le, f64::le),
                        Opcode::Jump => {
                            jump!(word);
                            continue 'next;
                        }
                        Opcode::JumpIf => {
                            if register!(word.a()).is_true() {
                                jump!(word);
                            }
                            continue 'next;
                        }
                        Opcode::JumpIfNot => {
                            if !register!(word.a()).is_true() {
                                jump!(word);
                            }
                            continue 'next;
                        }
                        Opcode::JumpEq => {
                            equal_and_jump!(word, true);
                            continue 'next;
                        }
                        Opcode::JumpNotEq => {
                            equal_and_jump!(word, false);
                            continue 'next;
                        }
                        Opcode::JumpLt => {
                            compare_and_jump!(word, true, i64::lt, f64::lt);
                            continue 'next;
                        }
                        Opcode::JumpNotLt => {
                            compare_and_jump!(word, false, i64::lt, f64::lt);
                            continue 'next;
                        }
                        Opcode::JumpLe => {
                            compare_and_jump!(word, true, i64::le, f64::le);
                            continue 'next;
                        }
                        Opcode::JumpNotLe => {
                            compare_and_jump!(word, false, i64::le, f64::le);
                            continue 'next;
                        }
                        Opcode::JumpLtSmall => jump_lt_small_arm!(true),
                        Opcode::JumpNotLtSmall => jump_lt_small_arm!(false),
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
                            continue 'next;
                        }
                        Opcode::Switch => {
                            let table = &self.code().switches[word.immediate() as usize];
                            if let Some(distance) = table.find(register!(word.a())) {
                                jump!(Instruction::new(Opcode::Jump, 0, 0, 0, distance));
                            }
                            continue 'next;
                        }
                        Opcode::Index | Opcode::IndexAddOn | Opcode::IndexSubOn | Opcode::IndexMulOn => {
                            index_arm!(word, register!(word.c()))
                        }
                        Opcode::IndexSmall => index_arm!(word, Value::small(word.immediate() as i64)),
                        Opcode::IndexThrough => {
                            if let Some((chunk, place)) = float_element!(word) {
                                break 'floats f64::from_bits(read!(chunk, place));
                            }
                            index_arm!(word, register!(word.c()))
                        }
                        Opcode::SetIndex | Opcode::SetIndexOn => {
                            if let Some(object) = register!(word.a()).object()
                                && let meta = object.meta()
                                && let Some((chunk, place)) = array::locate(object, meta, register!(word.b()))
                            {
                                let value = register!(word.c());
                                if let Some(bits) = array::immediate_bits(meta, value) {
                                    if !written!(chunk, place, bits) {
                                        attempt!(self.write_bits_slowly::<P>(tx, chunk, place, bits));
                                    }
                                    continue 'next;
                                }
                                if meta.kind_and_shape() == array::VALUES {
                                    attempt!(self.write_slowly::<P>(tx, chunk, place, value));
                                    continue 'next;
                                }
                            }
                            attempt!(self.perform_at::<P>(tx, here!()));
                            continue 'next;
                        }
                        Opcode::GetField => {
                            let cache = word.immediate() as usize;
                            let (kind_and_shape, place) = self.code().caches[cache].load();
                            let value = if let Some(object) = register!(word.b()).object()
                                && object.meta().kind_and_shape() == kind_and_shape
                            {
                                Value::from_bits(read!(object, place))
                            } else {
                                attempt!(self.get_field_slowly::<P>(tx, here!(), cache))
                            };
                            set!(word.a(), value);
                            continue 'next;
                        }
                        Opcode::SetField => {
                            let cache = word.immediate() as usize;
                            let (kind_and_shape, place) = self.code().caches[cache].load();
                            if let Some(object) = register!(word.a()).object()
                                && object.meta().kind_and_shape() == kind_and_shape
                            {
                                let value = register!(word.b());
                                if value.is_object() || !written!(object, place, value.bits()) {
                                    attempt!(self.write_slowly::<P>(tx, object, place, value));
                                }
                            } else {
                                attempt!(self.set_field_slowly::<P>(tx, here!(), cache));
                            }
                            continue 'next;
                        }
                        Opcode::GetSettled if !self.initialising => {
                            set!(word.a(), self.shared.globals[word.immediate() as usize].get(0));
                            continue 'next;
                        }
                        Opcode::GetGlobal | Opcode::GetSettled => {
                            let cell = self.shared.globals[word.immediate() as usize];
                            let value = Value::from_bits(read!(cell, 0));
                            set!(word.a(), value);
                            continue 'next;
                        }
                        Opcode::SetGlobal => {
                            let cell = self.shared.globals[word.immediate() as usize];
                            let value = register!(word.a());
                            attempt!(self.write_slowly::<P>(tx, cell, 0, value));
                            continue 'next;
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
                                // The place of the error is where the function begins. SAFETY: see above.
                                pc = unsafe { pc.add(1) };
                                break 'trapped trap;
                            }
                            continue 'next;
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
                            continue 'next;
                        }
                        Opcode::Perform => {
                            let value = attempt!(self.perform_at::<P>(tx, here!()));
                            let target = word.immediate();
                            if target >= 0 {
                                set!(target as usize, value);
                            }
                            continue 'next;
                        }
                        Opcode::Enter => {
                            self.enter::<P>(tx, word.immediate() as usize);
                            continue 'next;
                        }
                        Opcode::Leave => {
                            let guard = self.worker.guards.pop().expect("the verifier counts guarded regions");
                            self.worker.saved.truncate(guard.saved);
                            continue 'next;
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
                    // What the quick cases do not cover.
                    match self.perform_at::<P>(tx, here!()) {
                        Ok(value) => {
                            set!(word.a(), value);
                            continue 'next;
                        }
                        Err(trap) => break 'trapped trap,
                    }
                };
                // In a chain of floats: `float` is the result so far, and `maker` is behind the instruction that it is of.
                let (mut float, mut maker) = (float, pc);
                loop {
                    let next = following!();
                    macro_rules! with {
                        ($operand:expr, $operation:expr) => {{
                            let other = register!($operand);
                            if !other.is_immediate_float() {
                                break;
                            }
                            float = $operation(float, other.float_unchecked());
                            skip_following!();
                            maker = pc;
                        }};
                    }
                    macro_rules! with_element {
                        ($operation:expr) => {{
                            let Some((chunk, place)) = float_element!(next) else { break };
                            float = $operation(float, f64::from_bits(read!(chunk, place)));
                            // SAFETY: see above; two instructions have been done.
                            pc = unsafe { pc.add(2) };
                            maker = pc;
                        }};
                    }
                    // SAFETY: as for the `match` above.
                    match unsafe { std::mem::transmute::<u8, Opcode>(next.opcode_byte()) } {
                        Opcode::AddOn => with!(next.c(), std::ops::Add::add),
                        Opcode::SubOn => with!(next.c(), std::ops::Sub::sub),
                        Opcode::SubFromOn => with!(next.b(), |float: f64, other: f64| other - float),
                        Opcode::MulOn => with!(next.c(), std::ops::Mul::mul),
                        Opcode::DivOn if register!(next.c()).as_immediate_float() != Some(0.0) => {
                            with!(next.c(), std::ops::Div::div)
                        }
                        Opcode::AddSmallOn => {
                            let small = Value::from_bits(next.immediate() as i64 as u64);
                            let index = register!(next.b());
                            if !index.is_int() {
                                break;
                            }
                            let Some(sum) = Value::add_ints(index, small) else { break };
                            set!(next.a(), sum);
                            skip_following!();
                        }
                        Opcode::IndexAddOn => with_element!(std::ops::Add::add),
                        Opcode::IndexSubOn => with_element!(std::ops::Sub::sub),
                        Opcode::IndexMulOn => with_element!(std::ops::Mul::mul),
                        Opcode::SetIndexOn => {
                            if let Some(object) = register!(next.a()).object()
                                && object.meta().kind_and_shape() == array::FLOATS
                                && let Some((chunk, place)) = array::locate_in(object, register!(next.b()))
                                && written!(chunk, place, float.to_bits())
                            {
                                skip_following!();
                                continue 'next;
                            }
                            break;
                        }
                        _ => break,
                    }
                }
                // SAFETY: see above; there is an instruction before this place.
                let maker = unsafe { *maker.sub(1) };
                set!(maker.a(), self.worker.mutator.make_float(float));
                continue 'next;
            };
            let next = self.unwind::<P>(tx, trap, here!())?;
            reload!(next);
        }
    }
}
