//! Tracing: once around a loop, recording.
//!
//! The tracer interprets from an anchor and records each operation. Where control could have gone elsewhere it records a *guard* with the
//! label to go on at if the guard fails. When the anchor is reached again the trace is closed. A program that stops before that has a trace
//! that ends with what it printed.

use std::fmt;

use crate::flowgraph::print::{Assignment, Shown};
use crate::flowgraph::program::{Assign, BlockId, Function, Operand, Program, Terminator, VarId};
use crate::literal::Literal;
use crate::model::interpreter::{Machine, Next};
use crate::model::optimizer::optimize;
use crate::model::{Given, Limits, ModelError, begin};
use crate::source::Span;

/// What a guard makes sure of.
#[derive(Clone, PartialEq, Debug)]
pub enum Condition {
    /// The variable is not the integer 0.
    True,
    /// The variable is the integer 0.
    False,
    /// The variable has this value.
    Value(Literal),
}

/// A place where control could have gone elsewhere.
#[derive(Clone, PartialEq, Debug)]
pub struct Guard {
    /// The variable that decides.
    pub var: VarId,
    /// What it was.
    pub condition: Condition,
    /// Where to go on if it is not.
    pub otherwise: BlockId,
    /// Variables to set before going on there, in the order in which they became known.
    pub resume: Vec<(VarId, Literal)>,
    /// The end of a block that this came from.
    pub span: Span,
}

/// One step of a trace.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// An operation, and the block that it stands in.
    Assign(Assign, BlockId),
    /// A guard, and the block whose end it was.
    Guard(Guard, BlockId),
}

/// How a trace ends.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Finish {
    /// It goes round again.
    Loop,
    /// It prints and stops, in this block.
    Stop(Operand, BlockId),
}

/// A trace: steps in a row.
#[derive(Clone, PartialEq, Debug)]
pub struct Trace {
    /// Where it starts.
    pub anchor: BlockId,
    /// What it does.
    pub steps: Vec<Step>,
    /// How it ends.
    pub finish: Finish,
}

/// All that the model has to say about one trace of a program.
#[derive(Clone, Debug)]
pub struct Traced {
    /// The program with the constants that the optimiser added.
    pub program: Program,
    /// Its function, with room for the caller's variables.
    pub function: Function,
    /// The trace as recorded.
    pub trace: Trace,
    /// The trace as optimised.
    pub optimized: Trace,
    /// What the program prints, the optimised trace being run as often as its guards allow.
    pub output: Result<Literal, ModelError>,
}

/// Traces a core program from an anchor, optimises the trace, and runs the program to its end through it.
///
/// # Errors
///
/// A failure of the program while it is traced, an unknown label, or a limit. A failure after that is the `output`.
pub fn trace(program: &Program, anchor: &str, given: &Given, limits: Limits) -> Result<Traced, ModelError> {
    let (function, anchor) = begin(program, anchor, given)?;
    let mut machine = Machine::new(program, &function, given, limits);
    let trace = record(&mut machine, anchor, limits)?;
    let mut optimized_program = program.clone();
    let optimized = optimize(&trace, &mut optimized_program.constants);
    // The environment goes on from where recording left it; only constants were added to the program.
    let mut machine = machine.with_program(&optimized_program);
    let output = match trace.finish {
        Finish::Loop => follow(&mut machine, &optimized),
        Finish::Stop(value, block) => {
            let block = &function.blocks[block.index()];
            machine.value(value, block, block.end.span)
        }
    };
    Ok(Traced { program: optimized_program, function, trace, optimized, output })
}

/// Interprets from the anchor until it is reached again, recording.
fn record(machine: &mut Machine<'_>, anchor: BlockId, limits: Limits) -> Result<Trace, ModelError> {
    let function = machine.function;
    let mut steps = Vec::new();
    let mut id = anchor;
    loop {
        let block = &function.blocks[id.index()];
        machine.step(block)?;
        for assign in &block.ops {
            machine.assign(assign, block)?;
            steps.push(Step::Assign(assign.clone(), id));
        }
        let next = machine.end(block)?;
        let guard =
            |var, condition, otherwise| Guard { var, condition, otherwise, resume: Vec::new(), span: block.end.span };
        match (&block.end.terminator, &next) {
            (&Terminator::If { condition: Operand::Var(var), then, other }, &Next::Block(taken)) => {
                // Both ways may lead to the same block; the value tells which one was taken.
                let zero = machine.value(Operand::Var(var), block, block.end.span)?.is_zero();
                debug_assert_eq!(taken, if zero { other } else { then });
                let guard = if zero { guard(var, Condition::False, then) } else { guard(var, Condition::True, other) };
                steps.push(Step::Guard(guard, id));
            }
            (&Terminator::Promote { value: Operand::Var(var), then }, _) => {
                // What was never set cannot be guarded, and need not be: nothing follows from it.
                if let Some(value) = machine.get(var) {
                    steps.push(Step::Guard(guard(var, Condition::Value(value.clone()), then), id));
                }
            }
            (&Terminator::PrintAndStop(value), _) => {
                return Ok(Trace { anchor, steps, finish: Finish::Stop(value, id) });
            }
            _ => {}
        }
        if steps.len() > limits.trace {
            let message = format!(
                "the trace has not come back to `{}` after {} steps",
                function.blocks[anchor.index()].label,
                limits.trace
            );
            return Err(ModelError::limit(message, block));
        }
        match next {
            Next::Block(next) if next == anchor => {
                return Ok(Trace { anchor, steps, finish: Finish::Loop });
            }
            Next::Block(next) => id = next,
            Next::Stop(_) => unreachable!("only print_and_stop stops"),
        }
    }
}

/// Runs a closed trace until one of its guards fails, and then the program from there to its end.
fn follow(machine: &mut Machine<'_>, trace: &Trace) -> Result<Literal, ModelError> {
    let function = machine.function;
    loop {
        machine.step(&function.blocks[trace.anchor.index()])?;
        for step in &trace.steps {
            match step {
                Step::Assign(assign, block) => machine.assign(assign, &function.blocks[block.index()])?,
                Step::Guard(guard, block) => {
                    let value = machine.value(Operand::Var(guard.var), &function.blocks[block.index()], guard.span)?;
                    let holds = match &guard.condition {
                        Condition::True => !value.is_zero(),
                        Condition::False => value.is_zero(),
                        // What follows was computed from this very constant, so nothing less than the same bits will do.
                        Condition::Value(expected) => value == *expected,
                    };
                    if !holds {
                        for (var, value) in &guard.resume {
                            machine.set(*var, value.clone());
                        }
                        return machine.run(guard.otherwise);
                    }
                }
            }
        }
    }
}

impl Traced {
    /// The trace and the optimised trace as text.
    pub fn print(&self) -> String {
        let anchor = &self.function.blocks[self.trace.anchor.index()].label;
        let (trace, optimized) = (self.steps(&self.trace), self.steps(&self.optimized));
        format!("trace {anchor}:\n{trace}\noptimized {anchor}:\n{optimized}")
    }

    /// The steps of a trace, one to a line, indented.
    pub fn steps(&self, trace: &Trace) -> String {
        let mut out = String::new();
        for step in &trace.steps {
            match step {
                Step::Assign(assign, _) => {
                    let shown = Assignment { program: &self.program, function: &self.function, assign };
                    out += &format!("    {shown}\n");
                }
                Step::Guard(guard, _) => out += &format!("    {}\n", ShownGuard { function: &self.function, guard }),
            }
        }
        match trace.finish {
            Finish::Loop => out += "    loop\n",
            Finish::Stop(operand, _) => {
                let shown = Shown { program: &self.program, function: &self.function, operand };
                out += &format!("    print_and_stop({shown})\n");
            }
        }
        out
    }
}

struct ShownGuard<'a> {
    function: &'a Function,
    guard: &'a Guard,
}

impl fmt::Display for ShownGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variable = |var: VarId| &self.function.variables[var.index()];
        let Guard { var, condition, otherwise, resume, .. } = self.guard;
        match condition {
            Condition::True => write!(f, "guard_true {}", variable(*var))?,
            Condition::False => write!(f, "guard_false {}", variable(*var))?,
            Condition::Value(value) => write!(f, "guard_value {} {value}", variable(*var))?,
        }
        write!(f, " else {}", self.function.blocks[otherwise.index()].label)?;
        for (index, (var, value)) in resume.iter().enumerate() {
            write!(f, "{} {}={value}", if index == 0 { " with" } else { "," }, variable(*var))?;
        }
        Ok(())
    }
}
