//! What can be said against a flowgraph: the checks that need the graph rather than the text.
//!
//! [`verify`] looks for mistakes in the program. [`well_formed`] looks for mistakes of ours: it states the rules that every lowering and
//! every transformation keeps, and tests call it on their results.

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic};
use crate::flowgraph::op::Notation;
use crate::flowgraph::program::{
    Block, BlockId, Function, Guard, Immediate, Operand, Program, ProgramKind, Terminator, VarId,
};
use crate::source::Span;

/// Reports variables that are read before they can have been set, and guarded regions that do not nest.
///
/// In a core program nothing is known about the environment at the start, so these are run-time errors there.
pub fn verify(program: &Program) -> Vec<Diagnostic> {
    if program.kind == ProgramKind::Core {
        return Vec::new();
    }
    let mut diagnostics = Vec::new();
    for function in &program.functions {
        regions(function, &mut diagnostics);
        unset_reads(program, function, &mut diagnostics);
    }
    diagnostics
}

/// For each block the guarded regions that are open at its start, or the first block where two paths disagree.
fn regions(function: &Function, diagnostics: &mut Vec<Diagnostic>) {
    let mut depths: Vec<Option<usize>> = vec![None; function.blocks.len()];
    let mut pending = vec![(BlockId(0), 0_usize)];
    while let Some((id, depth)) = pending.pop() {
        let block = &function.blocks[id.index()];
        match depths[id.index()] {
            Some(known) if known == depth => continue,
            Some(_) => {
                let message = format!("the block `{}` is reached with different guarded parts around it", block.label);
                diagnostics.push(Diagnostic::new(Code::Misplaced, block.span, message));
                return;
            }
            None => depths[id.index()] = Some(depth),
        }
        match block.end.terminator {
            Terminator::Enter { body, handler, .. } => pending.extend([(body, depth + 1), (handler, depth)]),
            Terminator::Leave(then) if depth > 0 => pending.push((then, depth - 1)),
            Terminator::Leave(_) => {
                diagnostics.push(Diagnostic::new(
                    Code::Misplaced,
                    block.end.span,
                    "`leave` stands outside a guarded part",
                ));
            }
            Terminator::Return(_) if depth > 0 => {
                let diagnostic = Diagnostic::new(
                    Code::Misplaced,
                    block.end.span,
                    "`return` stands inside a guarded part that is not left",
                );
                diagnostics.push(diagnostic);
            }
            _ => pending.extend(block.end.terminator.successors().map(|successor| (successor, depth))),
        }
    }
}

/// A set of variables.
#[derive(Clone, PartialEq)]
struct Variables(Vec<u64>);

impl Variables {
    fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn add(&mut self, var: VarId) {
        self.0[var.index() / 64] |= 1 << (var.index() % 64);
    }

    fn has(&self, var: VarId) -> bool {
        self.0[var.index() / 64] >> (var.index() % 64) & 1 == 1
    }

    /// Adds all of the other's; tells whether any was new.
    fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            changed |= *other & !*own != 0;
            *own |= other;
        }
        changed
    }
}

/// Reports reads of variables that no path from the start has set.
fn unset_reads(program: &Program, function: &Function, diagnostics: &mut Vec<Diagnostic>) {
    let mut at_start: Vec<Option<Variables>> = vec![None; function.blocks.len()];
    let mut parameters = Variables::none(function.variables.len());
    (0..function.parameters).for_each(|index| parameters.add(VarId::from(index)));
    at_start[0] = Some(parameters);
    let mut pending = vec![0_usize];
    while let Some(index) = pending.pop() {
        let block = &function.blocks[index];
        let mut set = at_start[index].clone().expect("a pending block was reached");
        block.ops.iter().filter_map(|assign| assign.target).for_each(|target| set.add(target));
        for successor in block.end.terminator.successors() {
            let mut set = set.clone();
            if let Terminator::Enter { guard: Guard::Failure(Some(error)), handler, .. } = block.end.terminator
                && handler == successor
            {
                set.add(error);
            }
            let changed = match &mut at_start[successor.index()] {
                Some(known) => known.join(&set),
                unknown => {
                    *unknown = Some(set);
                    true
                }
            };
            if changed {
                pending.push(successor.index());
            }
        }
    }
    let mut told: HashMap<VarId, ()> = HashMap::new();
    for (block, set) in function.blocks.iter().zip(at_start) {
        let Some(mut set) = set else { continue };
        reads_in_order(block, |read| match read {
            Event::Read(var, span) => {
                if !set.has(var) && told.insert(var, ()).is_none() {
                    let name = &function.variables[var.index()];
                    let others = function.variables.iter().filter(|other| *other != name && !other.starts_with('_'));
                    let shared = program.globals.iter().map(|global| &*global.name);
                    diagnostics.push(unset(name, span).suggest(name, others.map(|other| &**other).chain(shared)));
                }
            }
            Event::Set(var) => set.add(var),
        });
    }
}

enum Event {
    Read(VarId, Span),
    Set(VarId),
}

fn reads_in_order(block: &Block, mut tell: impl FnMut(Event)) {
    for assign in &block.ops {
        assign.args.iter().filter_map(|arg| arg.var()).for_each(|var| tell(Event::Read(var, assign.span)));
        if let Some(target) = assign.target {
            tell(Event::Set(target));
        }
    }
    if let Some(var) = block.end.terminator.operand().and_then(Operand::var) {
        tell(Event::Read(var, block.end.span));
    }
}

fn unset(name: &Arc<str>, span: Span) -> Diagnostic {
    Diagnostic::new(Code::UnsetRead, span, format!("the variable `{name}` is read here before it is set"))
        .label("no way leads here on which it was set")
}

/// Checks the rules that every flowgraph keeps: ids in range, operands and immediates as the table of operations says, labels unique.
///
/// # Errors
///
/// A sentence on the first rule that is broken.
pub fn well_formed(program: &Program) -> Result<(), String> {
    for function in &program.functions {
        let mut labels = std::collections::HashSet::new();
        for block in &function.blocks {
            let place = format!("{}:{}", function.name, block.label);
            if !labels.insert(&block.label) {
                return Err(format!("{place}: the label is there twice"));
            }
            for assign in &block.ops {
                let (op, count) = (assign.op, assign.args.len());
                if !op.arity().allows(count) {
                    return Err(format!("{place}: {op:?} has {count} operands"));
                }
                let fits = match (op.notation(), assign.immediate) {
                    (Notation::Field | Notation::SetField, Immediate::Field(id)) => {
                        id.index() < program.names.values().len()
                    }
                    (Notation::Global | Notation::SetGlobal, Immediate::Global(id)) => {
                        id.index() < program.globals.len()
                    }
                    (Notation::Construct, Immediate::Type(id)) => {
                        program.types.get(id.index()).is_some_and(|t| t.fields.len() == count)
                    }
                    (Notation::Function | Notation::Add, Immediate::Function(id)) => {
                        program.functions.get(id.index()).is_some_and(|f| f.parameters == count)
                    }
                    (Notation::Each, Immediate::Each(id, place)) => program
                        .functions
                        .get(id.index())
                        .is_some_and(|f| f.parameters == count && (place as usize) < count),
                    (Notation::AddAfter | Notation::When, Immediate::Function(id)) => {
                        program.functions.get(id.index()).is_some_and(|f| f.parameters + 1 == count)
                    }
                    (Notation::Host, Immediate::Host(id)) => id.index() < program.hosts.len(),
                    (
                        Notation::Copy
                        | Notation::Infix(_)
                        | Notation::Prefix(_)
                        | Notation::Index
                        | Notation::SetIndex
                        | Notation::Promote
                        | Notation::Call,
                        Immediate::None,
                    ) => true,
                    _ => false,
                };
                if !fits {
                    return Err(format!("{place}: {op:?} has {:?} with {count} operands", assign.immediate));
                }
            }
            let targets = block.ops.iter().filter_map(|assign| assign.target.map(Operand::Var));
            let operands = block.ops.iter().flat_map(|assign| assign.args.iter().copied());
            for operand in targets.chain(operands).chain(block.end.terminator.operand()) {
                let known = match operand {
                    Operand::Var(var) => var.index() < function.variables.len(),
                    Operand::Const(constant) => constant.index() < program.constants.values().len(),
                };
                if !known {
                    return Err(format!("{place}: {operand:?} is out of range"));
                }
            }
            if block.end.terminator.successors().any(|successor| successor.index() >= function.blocks.len()) {
                return Err(format!("{place}: jumps to a block that is not there"));
            }
        }
        if function.blocks.is_empty() {
            return Err(format!("{}: no blocks", function.name));
        }
    }
    Ok(())
}
