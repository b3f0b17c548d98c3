//! Optimising a trace: partial evaluation without the control flow.
//!
//! Operations on known operands go away. A guard on a known variable goes away, since it held when it was recorded and follows from what
//! is known; one that stays makes its variable known, if it can. What is known but was not computed exists only in the optimiser's head,
//! so it is put back where it can be seen: each guard that stays carries it as resume data, and it is assigned before the trace
//! ends.

use crate::flowgraph::op::Op;
use crate::flowgraph::program::{Assign, Constants, Immediate, Operand};
use crate::flowgraph::semantics::evaluate;
use crate::literal::Literal;
use crate::model::Known;
use crate::model::tracer::{Condition, Finish, Guard, Step, Trace};
use crate::source::Span;

/// The optimised trace. Constants that it needs are added to the program's.
pub fn optimize(trace: &Trace, constants: &mut Constants) -> Trace {
    let mut known = Known::default();
    let mut steps = Vec::new();
    for step in &trace.steps {
        match step {
            Step::Assign(assign, block) => {
                if let Some(assign) = fold(assign, &mut known, constants) {
                    steps.push(Step::Assign(assign, *block));
                }
            }
            Step::Guard(guard, _) if known.get(guard.var).is_some() => {}
            Step::Guard(guard, block) => {
                let resume = known.iter().map(|(var, value)| (var, value.clone())).collect();
                steps.push(Step::Guard(Guard { resume, ..guard.clone() }, *block));
                match &guard.condition {
                    Condition::True => {}
                    Condition::False => known.set(guard.var, Literal::int(0)),
                    Condition::Value(value) if value.is_writable() => known.set(guard.var, value.clone()),
                    Condition::Value(_) => {}
                }
            }
        }
    }
    let finish = match trace.finish {
        Finish::Stop(operand, block) => Finish::Stop(resolve(operand, &known, constants), block),
        Finish::Loop => {
            for (var, value) in known.iter() {
                let args = vec![Operand::Const(constants.intern(value.clone()))];
                let assign =
                    Assign { target: Some(var), op: Op::Same, immediate: Immediate::None, args, span: Span::default() };
                steps.push(Step::Assign(assign, trace.anchor));
            }
            Finish::Loop
        }
    };
    Trace { anchor: trace.anchor, steps, finish }
}

/// Carries out an operation if its operands are known; otherwise what stays of it.
fn fold(assign: &Assign, known: &mut Known, constants: &mut Constants) -> Option<Assign> {
    let target = assign.target.expect("a core operation has a target");
    let value = |operand: Operand| match operand {
        Operand::Const(constant) => Some(constants[constant].clone()),
        Operand::Var(var) => known.get(var).cloned(),
    };
    let args: Option<Vec<Literal>> = assign.args.iter().map(|&arg| value(arg)).collect();
    if let Some(args) = args
        && let Some(Ok(value)) = evaluate(assign.op, &args)
        && value.is_writable()
    {
        known.set(target, value);
        return None;
    }
    let args = assign.args.iter().map(|&arg| resolve(arg, known, constants)).collect();
    known.forget(target);
    Some(Assign { args, ..assign.clone() })
}

/// The operand as it stays: a constant if its value is known.
fn resolve(operand: Operand, known: &Known, constants: &mut Constants) -> Operand {
    match operand {
        Operand::Var(var) => known.get(var).map_or(operand, |value| Operand::Const(constants.intern(value.clone()))),
        Operand::Const(_) => operand,
    }
}
