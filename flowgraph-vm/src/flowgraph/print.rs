//! A flowgraph as text: labelled blocks that parse again to the same flowgraph.

use std::fmt::{self, Display, Write};

use crate::flowgraph::lower::INITIALISER;
use crate::flowgraph::op::Notation;
use crate::flowgraph::program::{
    Assign, Block, BlockId, ERROR_TYPE, Function, FunctionId, Guard, Immediate, Operand, Program, ProgramKind,
    Terminator, TypeId,
};

/// A whole program; `comment` may say something about a block, which stands behind its label.
pub fn program(program: &Program, comment: impl Fn(FunctionId, BlockId) -> Option<String>) -> String {
    let mut out = String::new();
    let mut gap = "";
    if program.kind == ProgramKind::Functions {
        for (index, object) in program.types.iter().enumerate() {
            if TypeId::from(index) != ERROR_TYPE {
                let fields: Vec<&str> = object.fields.iter().map(|&field| &*program.names[field]).collect();
                let body = if fields.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", fields.join(", ")) };
                let _ = writeln!(out, "object {} {body}", object.name);
                gap = "\n";
            }
        }
        for global in &program.globals {
            let _ = writeln!(out, "shared {}", global.name);
            gap = "\n";
        }
    }
    for (index, function) in program.functions.iter().enumerate() {
        let id = FunctionId::from(index);
        out.push_str(gap);
        gap = "\n";
        if program.kind == ProgramKind::Functions {
            let name = if program.initialiser == Some(id) { INITIALISER } else { &function.name };
            let parameters = function.variables[..function.parameters].join(", ");
            let pure = if function.pure { "pure " } else { "" };
            let _ = writeln!(out, "{pure}fn {name}({parameters}) {{");
        }
        blocks(&mut out, program, function, |block| comment(id, block));
        if program.kind == ProgramKind::Functions {
            out.push_str("}\n");
        }
    }
    out
}

/// The blocks of a function, an empty line between two.
pub fn blocks(out: &mut String, program: &Program, function: &Function, comment: impl Fn(BlockId) -> Option<String>) {
    for (index, block) in function.blocks.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        match comment(BlockId::from(index)) {
            Some(comment) => {
                let _ = writeln!(out, "{}:  # {comment}", block.label);
            }
            None => {
                let _ = writeln!(out, "{}:", block.label);
            }
        }
        block_body(out, program, function, block);
    }
}

fn block_body(out: &mut String, program: &Program, function: &Function, block: &Block) {
    for assign in &block.ops {
        let _ = writeln!(out, "    {}", Assignment { program, function, assign });
    }
    let _ = writeln!(out, "    {}", Ending { program, function, terminator: &block.end.terminator });
}

/// An operand as text.
pub struct Shown<'a> {
    /// Whose constants it may name.
    pub program: &'a Program,
    /// Whose variables it may name.
    pub function: &'a Function,
    /// The operand.
    pub operand: Operand,
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.operand {
            Operand::Var(var) => f.write_str(&self.function.variables[var.index()]),
            Operand::Const(constant) => self.program.constants[constant].fmt(f),
        }
    }
}

/// An assignment as text, without indentation or line end.
pub struct Assignment<'a> {
    /// Whose constants and functions it may name.
    pub program: &'a Program,
    /// Whose variables it may name.
    pub function: &'a Function,
    /// The assignment.
    pub assign: &'a Assign,
}

impl Assignment<'_> {
    fn operand(&self, index: usize) -> Shown<'_> {
        Shown { program: self.program, function: self.function, operand: self.assign.args[index] }
    }

    fn list(&self, f: &mut fmt::Formatter<'_>, from: usize) -> fmt::Result {
        f.write_str("(")?;
        for index in from..self.assign.args.len() {
            if index > from {
                f.write_str(", ")?;
            }
            write!(f, "{}", self.operand(index))?;
        }
        f.write_str(")")
    }
}

impl Assignment<'_> {
    /// `for each item in source(v) add f(a, item)`, with a name for the item that no variable has.
    fn each(&self, f: &mut fmt::Formatter<'_>, function: FunctionId, place: usize) -> fmt::Result {
        let mut item = "item".to_owned();
        while self.function.variable(&item).is_some() {
            item.push('_');
        }
        let name = &self.program.functions[function.index()].name;
        write!(f, "for each {item} in {}({}) add {name}(", self.assign.op.name(), self.operand(0))?;
        for index in 0..self.assign.args.len() {
            let between = if index > 0 { ", " } else { "" };
            match index.cmp(&place) {
                std::cmp::Ordering::Less => write!(f, "{between}{}", self.operand(index + 1))?,
                std::cmp::Ordering::Equal => write!(f, "{between}{item}")?,
                std::cmp::Ordering::Greater => write!(f, "{between}{}", self.operand(index))?,
            }
        }
        f.write_str(")")
    }
}

impl Display for Assignment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Assign { target, op, immediate, .. } = self.assign;
        if let Some(target) = target {
            write!(f, "{} = ", self.function.variables[target.index()])?;
        }
        match (op.notation(), *immediate) {
            (Notation::Copy, _) => write!(f, "{}", self.operand(0)),
            (Notation::Infix(symbol), _) => {
                write!(f, "{} {symbol} {}", self.operand(0), self.operand(1))
            }
            (Notation::Prefix(symbol), _) => write!(f, "{symbol}{}", self.operand(0)),
            (Notation::Index, _) => write!(f, "{}[{}]", self.operand(0), self.operand(1)),
            (Notation::SetIndex, _) => write!(f, "{}[{}] = {}", self.operand(0), self.operand(1), self.operand(2)),
            (Notation::Field, Immediate::Field(field)) => {
                write!(f, "{}.{}", self.operand(0), self.program.names[field])
            }
            (Notation::SetField, Immediate::Field(field)) => {
                write!(f, "{}.{} = {}", self.operand(0), self.program.names[field], self.operand(1))
            }
            (Notation::Global, Immediate::Global(global)) => f.write_str(&self.program.globals[global.index()].name),
            (Notation::SetGlobal, Immediate::Global(global)) => {
                write!(f, "{} = {}", self.program.globals[global.index()].name, self.operand(0))
            }
            (Notation::Construct, Immediate::Type(id)) => {
                f.write_str(&self.program.types[id.index()].name)?;
                self.list(f, 0)
            }
            (Notation::Function, Immediate::Function(id)) => {
                f.write_str(&self.program.functions[id.index()].name)?;
                self.list(f, 0)
            }
            (Notation::Host, Immediate::Host(id)) => {
                f.write_str(&self.program.hosts[id.index()].name)?;
                self.list(f, 0)
            }
            (Notation::Add, Immediate::Function(id)) => {
                write!(f, "add {}", self.program.functions[id.index()].name)?;
                self.list(f, 0)
            }
            (Notation::AddAfter, Immediate::Function(id)) => {
                write!(f, "add {}", self.program.functions[id.index()].name)?;
                self.list(f, 1)?;
                write!(f, " after {}", self.operand(0))
            }
            (Notation::Each, Immediate::Each(id, place)) => self.each(f, id, place as usize),
            (Notation::When, Immediate::Function(id)) => {
                write!(f, "when {}({}) add {}", op.name(), self.operand(0), self.program.functions[id.index()].name)?;
                self.list(f, 1)
            }
            (Notation::Promote | Notation::Call, _) => {
                f.write_str(op.name())?;
                self.list(f, 0)
            }
            (notation, immediate) => {
                unreachable!("{op:?} is written as {notation:?}, but has {immediate:?}")
            }
        }
    }
}

/// The end of a block as text, without indentation or line end.
pub struct Ending<'a> {
    /// Whose constants it may name.
    pub program: &'a Program,
    /// Whose variables and labels it may name.
    pub function: &'a Function,
    /// The end.
    pub terminator: &'a Terminator,
}

impl Display for Ending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = |block: BlockId| &*self.function.blocks[block.index()].label;
        let shown = |operand| Shown { program: self.program, function: self.function, operand };
        match *self.terminator {
            Terminator::Goto(then) => write!(f, "goto {}", label(then)),
            Terminator::If { condition, then, other } => {
                write!(f, "if {} goto {} else goto {}", shown(condition), label(then), label(other))
            }
            Terminator::PrintAndStop(value) => write!(f, "print_and_stop({})", shown(value)),
            Terminator::Promote { value, then } => {
                write!(f, "promote({}) goto {}", shown(value), label(then))
            }
            Terminator::Return(value) => write!(f, "return {}", shown(value)),
            Terminator::Raise(value) => write!(f, "raise {}", shown(value)),
            Terminator::Retry => f.write_str("retry"),
            Terminator::Enter { guard: Guard::Failure(None), body, handler } => {
                write!(f, "try goto {} catch goto {}", label(body), label(handler))
            }
            Terminator::Enter { guard: Guard::Failure(Some(error)), body, handler } => {
                let error = &self.function.variables[error.index()];
                write!(f, "try goto {} catch {error} goto {}", label(body), label(handler))
            }
            Terminator::Enter { guard: Guard::Retry, body, handler } => {
                write!(f, "either goto {} or goto {}", label(body), label(handler))
            }
            Terminator::Leave(then) => write!(f, "leave goto {}", label(then)),
        }
    }
}
