//! From the flowgraph to register code.
//!
//! One pass over the blocks in reverse postorder. What makes the code fast:
//!
//! 1. A comparison at the end of a block whose result only decides the jump becomes part of the jump.
//! 2. A chain of such comparisons of one variable with constants becomes one [`Switch`](Opcode::Switch).
//! 3. Small constants are part of the instruction; other constants sit in registers.
//! 4. A jump to a small block that ends in a condition (the head of a loop, most often) becomes a copy of that block, which saves a jump each
//!    time round. Every cycle of the code still has a backward jump, where the interpreter polls, since addresses cannot only grow.
//! 5. Two instructions that often follow each other are fused (`fuse.rs`).
//! 6. Reading a variable is checked only where it may not have been set.

use std::collections::HashMap;

use super::analysis::{Analysis, VarSet};
use super::instruction::{Instruction, Opcode};
use super::{Code, FieldCache, GuardSite, Site, SwitchTable, fuse};
use crate::flowgraph::op::Op;
use crate::flowgraph::program::{
    Assign, Block, BlockId, ConstId, Function, FunctionId, Immediate, Operand, Program, Terminator, VarId,
};
use crate::value::Value;

/// Slots that instructions name directly.
const REGISTERS: usize = 256;
/// Scratch registers for operands that have none of their own.
const SCRATCH: usize = 3;
/// At most so many constants get registers.
const CONSTANT_REGISTERS: usize = 64;
/// A chain of comparisons becomes a table from this length on.
const SWITCH_FROM: usize = 3;
/// Blocks of at most so many operations are copied instead of jumped to.
const COPIED: usize = 4;
/// The most slots of a frame.
const SLOTS: usize = u16::MAX as usize;

/// Compiles a function that is entered at `start` with the variables `given` set.
///
/// # Errors
/// When the function has more variables than a frame can hold.
pub(crate) fn compile(
    program: &Program,
    id: FunctionId,
    start: BlockId,
    given: &[VarId],
    constants: &[Value],
    fuse: bool,
) -> Result<Code, TooManyVariables> {
    let function = &program.functions[id.index()];
    let analysis = Analysis::new(function, start, given);
    let layout = Layout::new(function, &analysis, constants)?;
    let mut compiler = Compiler {
        program,
        function,
        constants,
        fuse,
        analysis,
        layout,
        words: Vec::new(),
        sites: Vec::new(),
        starts: vec![u32::MAX; function.blocks.len()],
        fixups: Vec::new(),
        caches: 0,
        switches: Vec::new(),
        guards: Vec::new(),
        set: None,
        site: Site { block: start, op: 0 },
    };
    compiler.run();
    Ok(compiler.finish(id))
}

/// A function has more variables and constants than a frame can hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooManyVariables;

struct Layout {
    slots: Vec<u16>,
    constant_slots: HashMap<ConstId, u16>,
    scratch: u8,
    template: Vec<Value>,
}

impl Layout {
    fn new(function: &Function, analysis: &Analysis, constants: &[Value]) -> Result<Layout, TooManyVariables> {
        let (direct, in_calls) = constant_uses(function, analysis, constants);
        let variables = function.variables.len();
        let direct = &direct[..direct.len().min(CONSTANT_REGISTERS)];
        let mut by_use: Vec<usize> = (function.parameters..variables).collect();
        by_use.sort_by_key(|var| std::cmp::Reverse(analysis.uses[*var]));
        // Parameters first, then the variables used most, the constants and the scratch registers; what is left lies further out.
        let near = REGISTERS - SCRATCH - direct.len();
        let far = by_use.split_off(near.saturating_sub(function.parameters).min(by_use.len()));
        let mut template = vec![Value::UNDEFINED; function.parameters];
        let mut slots: Vec<usize> = (0..variables).collect();
        for var in by_use {
            slots[var] = template.len();
            template.push(Value::UNDEFINED);
        }
        let mut constant_slots = HashMap::new();
        if function.parameters <= near {
            for constant in direct {
                constant_slots.insert(*constant, template.len());
                template.push(constants[constant.index()]);
            }
        }
        let scratch = template.len().min(REGISTERS - SCRATCH);
        if function.parameters > near {
            // So many parameters reach into the scratch registers' place: parameters there are moved out.
            return Err(TooManyVariables);
        }
        template.resize(scratch + SCRATCH, Value::NONE);
        for var in far {
            slots[var] = template.len();
            template.push(Value::UNDEFINED);
        }
        for constant in in_calls {
            constant_slots.entry(constant).or_insert_with(|| {
                template.push(constants[constant.index()]);
                template.len() - 1
            });
        }
        if template.len() >= SLOTS {
            return Err(TooManyVariables);
        }
        Ok(Layout {
            slots: slots.into_iter().map(|slot| slot as u16).collect(),
            constant_slots: constant_slots.into_iter().map(|(constant, slot)| (constant, slot as u16)).collect(),
            scratch: scratch as u8,
            template,
        })
    }
}

/// The constants that instructions want in registers, most wanted first, and those that calls pass.
fn constant_uses(function: &Function, analysis: &Analysis, constants: &[Value]) -> (Vec<ConstId>, Vec<ConstId>) {
    let mut counts: HashMap<ConstId, usize> = HashMap::new();
    let mut in_calls = Vec::new();
    for block in &analysis.order {
        let block = &function.blocks[block.index()];
        for op in &block.ops {
            for (i, arg) in op.args.iter().enumerate() {
                let Operand::Const(constant) = *arg else { continue };
                match op.op {
                    Op::Call => in_calls.push(constant),
                    Op::Add | Op::Sub if small_operand(op, constants).is_some_and(|(_, k)| k == i) => {}
                    _ if is_quick(op.op) => *counts.entry(constant).or_default() += 1,
                    _ => {}
                }
            }
        }
    }
    let mut direct: Vec<_> = counts.into_iter().collect();
    direct.sort_by_key(|(constant, count)| (std::cmp::Reverse(*count), *constant));
    (direct.into_iter().map(|(constant, _)| constant).collect(), in_calls)
}

fn is_quick(op: Op) -> bool {
    use Op::*;
    matches!(
        op,
        Add | Sub
            | Mul
            | FloorDiv
            | Modulo
            | Div
            | Eq
            | Ne
            | Lt
            | Le
            | Gt
            | Ge
            | ReadList
            | SetIndex
            | SetField
            | SetGlobal
    )
}

/// The small constant of an addition or subtraction, as what is to be added, and which operand it is.
fn small_operand(op: &Assign, constants: &[Value]) -> Option<(i32, usize)> {
    let small = |arg: Operand| match arg {
        Operand::Const(constant) => {
            constants[constant.index()].as_int().filter(|i| i.abs() < 1 << 28).map(|i| i as i32)
        }
        Operand::Var(_) => None,
    };
    match (op.op, &op.args[..]) {
        (Op::Add, [Operand::Var(_), b]) => small(*b).map(|i| (i, 1)),
        (Op::Add, [a, Operand::Var(_)]) => small(*a).map(|i| (i, 0)),
        (Op::Sub, [Operand::Var(_), b]) => small(*b).map(|i| (-i, 1)),
        _ => None,
    }
}

struct Compiler<'a> {
    program: &'a Program,
    function: &'a Function,
    constants: &'a [Value],
    /// Whether instructions may be fused.
    fuse: bool,
    analysis: Analysis,
    layout: Layout,
    words: Vec<Instruction>,
    sites: Vec<Site>,
    /// Where each block begins.
    starts: Vec<u32>,
    /// Jumps to be filled in.
    fixups: Vec<(Place, BlockId)>,
    caches: usize,
    switches: Vec<(u32, Vec<(Value, BlockId)>)>,
    guards: Vec<(GuardSite, BlockId)>,
    /// What is certainly set at this point of the block.
    set: Option<VarSet>,
    site: Site,
}

/// Where a jump is written down.
type Place = usize;

/// A variable, the constants it is compared with and where each leads, and where the rest goes.
type Chain = (VarId, Vec<(Value, BlockId)>, BlockId);

impl<'a> Compiler<'a> {
    fn run(&mut self) {
        let order = self.analysis.order.clone();
        for (i, id) in order.iter().enumerate() {
            self.starts[id.index()] = self.words.len() as u32;
            self.block(*id, order.get(i + 1).copied());
        }
    }

    /// A block, or a copy of it; `next` is the block whose code follows.
    fn block(&mut self, id: BlockId, next: Option<BlockId>) {
        self.set = Some(self.analysis.set_at[id.index()].clone());
        let block = &self.function.blocks[id.index()];
        let fused = self.fused(id, block);
        let plain = block.ops.len() - fused as usize;
        let mut emitted = Vec::new();
        for (k, op) in block.ops[..plain].iter().enumerate() {
            self.site = Site { block: id, op: k as u32 };
            let word = self.words.len();
            self.operation(op);
            let word = (self.words.len() == word + 1).then_some(word);
            emitted.push(fuse::Emitted { word, user: self.only_user(id, block, k) });
            if let (Some(target), Some(set)) = (op.target, &mut self.set) {
                set.insert(target);
            }
        }
        if self.fuse {
            fuse::chains(&mut self.words, &emitted);
        }
        if fused {
            self.site = Site { block: id, op: plain as u32 };
            self.fused_end(id, block, next);
        } else {
            self.site = Site { block: id, op: block.ops.len() as u32 };
            self.end(block, next);
        }
    }

    /// The operation of the block that alone uses the result of operation `k`, if there is one, and it does so once.
    fn only_user(&self, id: BlockId, block: &Block, k: usize) -> Option<usize> {
        let target = block.ops[k].target?;
        let mut user = None;
        for (i, op) in block.ops.iter().enumerate().skip(k + 1) {
            for _ in op.args.iter().filter(|arg| arg.var() == Some(target)) {
                if user.replace(i).is_some() {
                    return None;
                }
            }
            if op.target == Some(target) {
                return user;
            }
        }
        let lives_on = block.end.terminator.operand().and_then(Operand::var) == Some(target)
            || self.analysis.live_after[id.index()].has(target);
        user.filter(|_| !lives_on)
    }

    /// Goes on at a block: nothing if its code follows, a copy of it if it is small and ends in a condition, else a jump.
    fn go_on(&mut self, target: BlockId, next: Option<BlockId>) {
        let target = self.thread(target);
        if next == Some(target) {
            return;
        }
        let block = &self.function.blocks[target.index()];
        if matches!(block.end.terminator, Terminator::If { .. }) && block.ops.len() <= COPIED {
            self.block(target, next);
        } else {
            self.jump(Opcode::Jump, 0, 0, 0, target);
        }
    }

    fn finish(mut self, id: FunctionId) -> Code {
        for (place, target) in std::mem::take(&mut self.fixups) {
            let jump = self.starts[target.index()] as i32 - (place as i32 + 1);
            self.words[place].set_immediate(jump);
        }
        if self.fuse {
            fuse::steps(&mut self.words);
        }
        let starts = &self.starts;
        let switches = self.switches.iter().map(|(place, cases)| {
            let jump = |target: BlockId| starts[target.index()] as i32 - (*place as i32 + 1);
            SwitchTable::new(&cases.iter().map(|(value, target)| (*value, jump(*target))).collect::<Vec<_>>())
        });
        let guards = self.guards.iter().map(|(site, handler)| GuardSite { handler: starts[handler.index()], ..*site });
        Code {
            function: id,
            switches: switches.collect(),
            guards: guards.collect(),
            words: self.words,
            sites: self.sites,
            slots: self.layout.slots,
            template: self.layout.template,
            parameters: self.function.parameters,
            caches: (0..self.caches).map(|_| FieldCache::new()).collect(),
        }
    }

    fn emit(&mut self, opcode: Opcode, a: u8, b: u8, c: u8, immediate: i32) -> Place {
        self.words.push(Instruction::new(opcode, a, b, c, immediate));
        self.sites.push(self.site);
        self.words.len() - 1
    }

    fn jump(&mut self, opcode: Opcode, a: u8, b: u8, c: u8, target: BlockId) {
        let target = self.thread(target);
        let place = self.emit(opcode, a, b, c, 0);
        self.fixups.push((place, target));
    }

    /// Where a jump to this block ends up when empty blocks are passed over.
    fn thread(&self, mut target: BlockId) -> BlockId {
        for _ in 0..8 {
            let block = &self.function.blocks[target.index()];
            match block.end.terminator {
                Terminator::Goto(next) if block.ops.is_empty() => target = next,
                _ => break,
            }
        }
        target
    }

    fn slot(&self, var: VarId) -> u16 {
        self.layout.slots[var.index()]
    }

    /// Fails at run time if the operand is a variable that was not set.
    fn check(&mut self, operand: Operand) {
        let Operand::Var(var) = operand else { return };
        let set = self.set.as_mut().expect("within a block");
        if !set.has(var) {
            set.insert(var);
            let slot = self.slot(var);
            self.emit(Opcode::Check, 0, 0, 0, slot as i32);
        }
    }

    /// A register that holds the operand; `scratch` is the one to bring it to if it has none.
    fn register(&mut self, operand: Operand, scratch: u8) -> u8 {
        let slot = match operand {
            Operand::Var(var) => Some(self.slot(var)),
            Operand::Const(constant) => self.layout.constant_slots.get(&constant).copied(),
        };
        if let Some(slot) = slot
            && let Ok(register) = u8::try_from(slot)
        {
            return register;
        }
        let register = self.layout.scratch + scratch;
        match (slot, operand) {
            (Some(slot), _) => self.emit(Opcode::LoadFar, register, 0, 0, slot as i32),
            (None, Operand::Const(constant)) => self.emit(Opcode::LoadConstant, register, 0, 0, constant.0 as i32),
            (None, Operand::Var(_)) => unreachable!("every variable has a slot"),
        };
        register
    }

    /// Emits an instruction whose result goes to `a`, and brings that to the target's place.
    fn emit_for(&mut self, target: Option<VarId>, emit: impl FnOnce(&mut Self, u8)) {
        let slot = target.map(|target| self.slot(target));
        match slot.map(u8::try_from) {
            Some(Ok(register)) => emit(self, register),
            _ => {
                let register = self.layout.scratch;
                emit(self, register);
                if let Some(slot) = slot {
                    self.emit(Opcode::StoreFar, register, 0, 0, slot as i32);
                }
            }
        }
    }

    fn operation(&mut self, op: &Assign) {
        op.args.iter().for_each(|arg| self.check(*arg));
        match (op.op, &op.args[..]) {
            (Op::Same | Op::PromoteHint, [value]) => {
                let value = *value;
                match (op.target, value) {
                    (None, _) => {}
                    (target, Operand::Const(constant)) => {
                        self.emit_for(target, |this, a| {
                            this.emit(Opcode::LoadConstant, a, 0, 0, constant.0 as i32);
                        });
                    }
                    (target, value) => self.emit_for(target, |this, a| {
                        let b = this.register(value, 1);
                        if a != b {
                            this.emit(Opcode::Move, a, b, 0, 0);
                        }
                    }),
                }
            }
            (Op::Add | Op::Sub, [a, b]) if let Some((small, place)) = small_operand(op, self.constants) => {
                let other = if place == 1 { *a } else { *b };
                self.emit_for(op.target, |this, a| {
                    let b = this.register(other, 1);
                    this.emit(Opcode::AddSmall, a, b, 0, small << 3);
                });
            }
            (Op::Add, [b, c]) => self.three(Opcode::Add, op.target, *b, *c),
            (Op::Sub, [b, c]) => self.three(Opcode::Sub, op.target, *b, *c),
            (Op::Mul, [b, c]) => self.three(Opcode::Mul, op.target, *b, *c),
            (Op::FloorDiv, [b, c]) => self.three(Opcode::FloorDiv, op.target, *b, *c),
            (Op::Modulo, [b, c]) => self.three(Opcode::Modulo, op.target, *b, *c),
            (Op::Div, [b, c]) => self.three(Opcode::Div, op.target, *b, *c),
            (Op::Eq, [b, c]) => self.three(Opcode::Eq, op.target, *b, *c),
            (Op::Ne, [b, c]) => self.three(Opcode::Ne, op.target, *b, *c),
            (Op::Lt, [b, c]) => self.three(Opcode::Lt, op.target, *b, *c),
            (Op::Gt, [b, c]) => self.three(Opcode::Lt, op.target, *c, *b),
            (Op::Le, [b, c]) => self.three(Opcode::Le, op.target, *b, *c),
            (Op::Ge, [b, c]) => self.three(Opcode::Le, op.target, *c, *b),
            (Op::ReadList, [b, c]) => match self.small_constant(*c) {
                Some(index) if index >= 0 => {
                    let b = *b;
                    self.emit_for(op.target, |this, a| {
                        let b = this.register(b, 1);
                        this.emit(Opcode::IndexSmall, a, b, 0, index as i32);
                    });
                }
                _ => self.three(Opcode::Index, op.target, *b, *c),
            },
            (Op::SetIndex, [a, b, c]) if op.target.is_none() => {
                let (a, b, c) = (self.register(*a, 0), self.register(*b, 1), self.register(*c, 2));
                self.emit(Opcode::SetIndex, a, b, c, 0);
            }
            (Op::GetField, [object]) => {
                let (object, cache) = (*object, self.new_cache());
                self.emit_for(op.target, |this, a| {
                    let b = this.register(object, 1);
                    this.emit(Opcode::GetField, a, b, 0, cache);
                });
            }
            (Op::SetField, [object, value]) if op.target.is_none() => {
                let (a, b) = (self.register(*object, 0), self.register(*value, 1));
                let cache = self.new_cache();
                self.emit(Opcode::SetField, a, b, 0, cache);
            }
            (Op::GetGlobal, _) if let Immediate::Global(global) = op.immediate => {
                let opcode =
                    if self.program.globals[global.index()].assigned { Opcode::GetGlobal } else { Opcode::GetSettled };
                self.emit_for(op.target, |this, a| {
                    this.emit(opcode, a, 0, 0, global.0 as i32);
                });
            }
            (Op::SetGlobal, [value])
                if op.target.is_none()
                    && let Immediate::Global(global) = op.immediate =>
            {
                let a = self.register(*value, 0);
                self.emit(Opcode::SetGlobal, a, 0, 0, global.0 as i32);
            }
            (Op::Call, args)
                if args.len() < 256
                    && let Immediate::Function(function) = op.immediate =>
            {
                let slots: Vec<u16> = args
                    .iter()
                    .map(|arg| match arg {
                        Operand::Var(var) => self.slot(*var),
                        Operand::Const(constant) => self.layout.constant_slots[constant],
                    })
                    .collect();
                let target = op.target.map_or(u16::MAX, |target| self.slot(target));
                let [a, b] = target.to_le_bytes();
                self.emit(Opcode::Call, a, b, args.len() as u8, function.0 as i32);
                for four in slots.chunks(4) {
                    let word = four.iter().enumerate().fold(0, |word, (i, slot)| word | (*slot as u64) << (16 * i));
                    self.words.push(Instruction(word));
                    self.sites.push(self.site);
                }
            }
            _ => {
                let target = op.target.map_or(-1, |target| self.slot(target) as i32);
                self.emit(Opcode::Perform, 0, 0, 0, target);
            }
        }
    }

    fn three(&mut self, opcode: Opcode, target: Option<VarId>, b: Operand, c: Operand) {
        self.emit_for(target, |this, a| {
            let (b, c) = (this.register(b, 1), this.register(c, 2));
            this.emit(opcode, a, b, c, 0);
        });
    }

    fn new_cache(&mut self) -> i32 {
        self.caches += 1;
        self.caches as i32 - 1
    }

    fn small_constant(&self, operand: Operand) -> Option<i64> {
        match operand {
            Operand::Const(constant) => self.constants[constant.index()].as_int().filter(|i| i.abs() < 1 << 28),
            Operand::Var(_) => None,
        }
    }

    /// Whether the last operation of the block can become part of its conditional jump.
    fn fused(&self, id: BlockId, block: &Block) -> bool {
        let Terminator::If { condition: Operand::Var(condition), .. } = block.end.terminator else { return false };
        let Some(last) = block.ops.last().filter(|last| last.target == Some(condition)) else { return false };
        match last.op {
            Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge => !self.analysis.live_after[id.index()].has(condition),
            Op::Add | Op::Sub => {
                let near = |slot: u16| usize::from(slot) < REGISTERS;
                small_operand(last, self.constants).is_some_and(|(small, _)| i8::try_from(small).is_ok())
                    && near(self.slot(condition))
            }
            _ => false,
        }
    }

    fn fused_end(&mut self, id: BlockId, block: &Block, next: Option<BlockId>) {
        let Terminator::If { then, other, .. } = block.end.terminator else { unreachable!("see `fused`") };
        let op = block.ops.last().expect("see `fused`");
        op.args.iter().for_each(|arg| self.check(*arg));
        if matches!(op.op, Op::Add | Op::Sub) {
            let (small, place) = small_operand(op, self.constants).expect("see `fused`");
            let b = self.register(op.args[1 - place], 1);
            let a = self.slot(op.target.expect("see `fused`")) as u8;
            self.jump(Opcode::AddSmallJumpIf, a, b, small as i8 as u8, then);
            if next != Some(other) {
                self.jump(Opcode::Jump, 0, 0, 0, other);
            }
            return;
        }
        if op.op == Op::Eq
            && let Some((var, cases, default)) = self.chain(id)
        {
            let a = self.register(Operand::Var(var), 0);
            let place = self.emit(Opcode::Switch, a, 0, 0, self.switches.len() as i32);
            let cases = cases.into_iter().map(|(value, target)| (value, self.thread(target))).collect();
            self.switches.push((place as u32, cases));
            if next != Some(default) {
                self.jump(Opcode::Jump, 0, 0, 0, default);
            }
            return;
        }
        // The jump goes to `then` when the comparison holds, or to `other` when it does not, whichever lets the rest fall through.
        let (holds, target, rest) = if next == Some(then) { (false, other, then) } else { (true, then, other) };
        let [a, b] = op.args[..] else { unreachable!("comparisons have two operands") };
        if let (Op::Lt | Op::Le | Op::Gt | Op::Ge, Some(small)) = (op.op, self.small_constant(b))
            && let Ok(bound) = i16::try_from(small + matches!(op.op, Op::Le | Op::Gt) as i64)
        {
            let less = matches!(op.op, Op::Lt | Op::Le);
            let opcode = if less == holds { Opcode::JumpLtSmall } else { Opcode::JumpNotLtSmall };
            let a = self.register(a, 0);
            let [low, high] = bound.to_le_bytes();
            self.jump(opcode, a, low, high, target);
        } else {
            let (a, b) = (self.register(a, 0), self.register(b, 1));
            let (opcode, a, b) = match (op.op, holds) {
                (Op::Eq, true) | (Op::Ne, false) => (Opcode::JumpEq, a, b),
                (Op::Eq, false) | (Op::Ne, true) => (Opcode::JumpNotEq, a, b),
                (Op::Lt, true) => (Opcode::JumpLt, a, b),
                (Op::Lt, false) => (Opcode::JumpNotLt, a, b),
                (Op::Gt, true) => (Opcode::JumpLt, b, a),
                (Op::Gt, false) => (Opcode::JumpNotLt, b, a),
                (Op::Le, true) => (Opcode::JumpLe, a, b),
                (Op::Le, false) => (Opcode::JumpNotLe, a, b),
                (Op::Ge, true) => (Opcode::JumpLe, b, a),
                _ => (Opcode::JumpNotLe, b, a),
            };
            self.jump(opcode, a, b, holds as u8, target);
        }
        if next != Some(rest) {
            self.jump(Opcode::Jump, 0, 0, 0, rest);
        }
    }

    /// The chain of comparisons of one variable with constants that begins at the end of this block: the variable, the
    /// constants and where each leads, and where the rest goes.
    fn chain(&self, first: BlockId) -> Option<Chain> {
        let mut cases = Vec::new();
        let mut seen = vec![first];
        let (var, value, then, mut default) = self.link(first)?;
        cases.push((value, then));
        while !seen.contains(&default)
            && self.function.blocks[default.index()].ops.len() == 1
            && let Some((next_var, value, then, other)) = self.link(default)
            && next_var == var
        {
            seen.push(default);
            cases.push((value, then));
            default = other;
        }
        (cases.len() >= SWITCH_FROM).then_some((var, cases, default))
    }

    /// The comparison of a variable with a constant at the end of a block: variable, constant, where equality leads and where else.
    fn link(&self, id: BlockId) -> Option<(VarId, Value, BlockId, BlockId)> {
        let block = &self.function.blocks[id.index()];
        let op = block.ops.last().filter(|op| op.op == Op::Eq && self.fused(id, block))?;
        let Terminator::If { then, other, .. } = block.end.terminator else { return None };
        let (var, constant) = match op.args[..] {
            [Operand::Var(var), Operand::Const(constant)] | [Operand::Const(constant), Operand::Var(var)] => {
                (var, constant)
            }
            _ => return None,
        };
        // Comparing words is comparing values for these.
        let value = self.constants[constant.index()];
        (value.is_int() || value.as_symbol().is_some()).then_some((var, value, then, other))
    }

    fn end(&mut self, block: &Block, next: Option<BlockId>) {
        let terminator = &block.end.terminator;
        // `promote` only jumps, whatever it is about.
        if let Some(operand) = terminator.operand()
            && !matches!(terminator, Terminator::Promote { .. })
        {
            self.check(operand);
        }
        match *terminator {
            Terminator::Goto(target) | Terminator::Promote { then: target, .. } => self.go_on(target, next),
            Terminator::If { condition, then, other } => {
                let a = self.register(condition, 0);
                if next == Some(then) {
                    self.jump(Opcode::JumpIfNot, a, 0, 0, other);
                } else {
                    self.jump(Opcode::JumpIf, a, 0, 0, then);
                    if next != Some(other) {
                        self.jump(Opcode::Jump, 0, 0, 0, other);
                    }
                }
            }
            Terminator::PrintAndStop(value) => self.leave_with(Opcode::Stop, value),
            Terminator::Return(value) => self.leave_with(Opcode::Return, value),
            Terminator::Raise(value) => self.leave_with(Opcode::Raise, value),
            Terminator::Retry => {
                self.emit(Opcode::Retry, 0, 0, 0, 0);
            }
            Terminator::Enter { guard, body, handler } => {
                self.emit(Opcode::Enter, 0, 0, 0, self.guards.len() as i32);
                self.guards.push((GuardSite { guard, handler: 0 }, handler));
                if next != Some(body) {
                    self.jump(Opcode::Jump, 0, 0, 0, body);
                }
            }
            Terminator::Leave(target) => {
                self.emit(Opcode::Leave, 0, 0, 0, 0);
                if next != Some(target) {
                    self.jump(Opcode::Jump, 0, 0, 0, target);
                }
            }
        }
    }

    fn leave_with(&mut self, opcode: Opcode, value: Operand) {
        let a = self.register(value, 0);
        self.emit(opcode, a, 0, 0, 0);
    }
}
