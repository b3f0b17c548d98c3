//! Running blocks.

use crate::flowgraph::fault::{Fault, RuntimeError};
use crate::flowgraph::program::{Assign, Block, BlockId, Function, Operand, Program, Terminator, VarId};
use crate::flowgraph::semantics::evaluate;
use crate::literal::Literal;
use crate::model::{Given, Limits, ModelError, begin};
use crate::source::Span;

/// Runs a core program from a label in the environment given, and returns what it prints.
///
/// # Errors
///
/// The program's own failure, an unknown label, or a limit.
pub fn run(program: &Program, start: &str, given: &Given, limits: Limits) -> Result<Literal, ModelError> {
    let (function, block) = begin(program, start, given)?;
    let mut machine = Machine::new(program, &function, given, limits);
    machine.run(block)
}

/// Where control goes at the end of a block.
pub(super) enum Next {
    Block(BlockId),
    Stop(Literal),
}

/// A program being interpreted: its one environment, and the steps left.
pub(super) struct Machine<'a> {
    program: &'a Program,
    pub(super) function: &'a Function,
    /// The value of each variable; `None` if it was never set.
    environment: Vec<Option<Literal>>,
    limits: Limits,
    steps: u64,
}

impl<'a> Machine<'a> {
    pub(super) fn new(program: &'a Program, function: &'a Function, given: &Given, limits: Limits) -> Self {
        let mut environment = vec![None; function.variables.len()];
        for (name, value) in given {
            environment[function.variable(name).expect("room was made for it").index()] = Some(value.clone());
        }
        Self { program, function, environment, limits, steps: 0 }
    }

    /// The same, going on with a program that differs in its constants only by having more.
    pub(super) fn with_program<'b>(self, program: &'b Program) -> Machine<'b>
    where
        'a: 'b,
    {
        Machine { program, ..self }
    }

    pub(super) fn run(&mut self, start: BlockId) -> Result<Literal, ModelError> {
        let mut next = Next::Block(start);
        loop {
            match next {
                Next::Block(id) => next = self.block(id)?,
                Next::Stop(value) => return Ok(value),
            }
        }
    }

    fn block(&mut self, id: BlockId) -> Result<Next, ModelError> {
        let block = &self.function.blocks[id.index()];
        self.step(block)?;
        for assign in &block.ops {
            self.assign(assign, block)?;
        }
        self.end(block)
    }

    /// Counts a step, which leads into this block.
    pub(super) fn step(&mut self, block: &Block) -> Result<(), ModelError> {
        self.steps += 1;
        if self.steps > self.limits.steps {
            return Err(ModelError::limit(format!("still running after {} blocks", self.limits.steps), block));
        }
        Ok(())
    }

    /// Carries out one operation.
    pub(super) fn assign(&mut self, assign: &Assign, block: &Block) -> Result<(), ModelError> {
        let args: Vec<Literal> =
            assign.args.iter().map(|&arg| self.value(arg, block, assign.span)).collect::<Result<_, _>>()?;
        let result = evaluate(assign.op, &args).expect("a core program has core operations only");
        let value = result.map_err(|fault| self.error(fault, block, assign.span))?;
        if let Some(target) = assign.target {
            self.environment[target.index()] = Some(value);
        }
        Ok(())
    }

    /// Follows the end of a block. `promote` only jumps: it does not even read its variable.
    pub(super) fn end(&self, block: &Block) -> Result<Next, ModelError> {
        let span = block.end.span;
        Ok(match block.end.terminator {
            Terminator::Goto(then) => Next::Block(then),
            Terminator::If { condition, then, other } => {
                Next::Block(if self.value(condition, block, span)?.is_zero() { other } else { then })
            }
            Terminator::Promote { then, .. } => Next::Block(then),
            Terminator::PrintAndStop(value) => Next::Stop(self.value(value, block, span)?),
            ref other => unreachable!("a core program does not end a block with {other:?}"),
        })
    }

    /// The value of an operand.
    pub(super) fn value(&self, operand: Operand, block: &Block, span: Span) -> Result<Literal, ModelError> {
        match operand {
            Operand::Const(constant) => Ok(self.program.constants[constant].clone()),
            Operand::Var(var) => match &self.environment[var.index()] {
                Some(value) => Ok(value.clone()),
                None => {
                    let variable = self.function.variables[var.index()].clone();
                    Err(self.error(Fault::Unset { variable }, block, span))
                }
            },
        }
    }

    /// The value of a variable, if it was set.
    pub(super) fn get(&self, var: VarId) -> Option<&Literal> {
        self.environment[var.index()].as_ref()
    }

    /// Sets a variable from outside.
    pub(super) fn set(&mut self, var: VarId, value: Literal) {
        self.environment[var.index()] = Some(value);
    }

    fn error(&self, fault: Fault, block: &Block, span: Span) -> ModelError {
        RuntimeError::new(fault, self.function.name.clone(), block.label.clone(), span).into()
    }
}
