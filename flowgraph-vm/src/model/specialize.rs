//! Partial evaluation: polyvariant, online, naive.
//!
//! A block is specialised to what is known when control reaches it. An operation on known operands is carried out now and leaves nothing
//! behind; any other stays, with its known operands as constants, and its target is not known any more. A jump leads to the version
//! of its target specialised to what is known at the jump. Versions are cached by label and known variables, whatever the order in
//! which these became known, so that a loop in which nothing new becomes known closes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::flowgraph::print;
use crate::flowgraph::program::{Assign, Block, BlockId, End, Function, Operand, Program, Terminator, VarId};
use crate::flowgraph::semantics::evaluate;
use crate::literal::Literal;
use crate::model::{Given, Known, Limits, ModelError, begin};

/// A residual program: an ordinary core program whose first block is the entry, and for each block its cache key.
#[derive(Clone, Debug)]
pub struct Residual {
    /// The program. Its spans still point into the original source, so that its failures are reported there.
    pub program: Program,
    /// For each block the label and the known variables it was made for, as in `power_rec {y=5,res=1}`.
    pub keys: Vec<String>,
}

impl Residual {
    /// The residual blocks.
    pub fn function(&self) -> &Function {
        &self.program.functions[0]
    }

    /// The label to start at.
    pub fn entry(&self) -> &str {
        &self.function().blocks[0].label
    }

    /// The text form, each block with its cache key as a comment. It parses again.
    pub fn print(&self) -> String {
        print::program(&self.program, |_, block| Some(self.keys[block.index()].clone()))
    }
}

/// Specialises a core program from a label on to the variables that are known.
///
/// # Errors
///
/// An unknown label, or a limit. A failing operation is no error: it stays, and fails when it is reached.
pub fn specialize(program: &Program, start: &str, known: &Given, limits: Limits) -> Result<Residual, ModelError> {
    let (function, start) = begin(program, start, known)?;
    let known = Known::given(&function, known);
    let mut residual = Program { functions: Vec::new(), ..program.clone() };
    let mut specializer = Specializer {
        function: &function,
        residual: &mut residual,
        cache: HashMap::new(),
        made: vec![0; function.blocks.len()],
        blocks: Vec::new(),
        keys: Vec::new(),
        labels: HashSet::new(),
        pending: VecDeque::new(),
        limits,
    };
    specializer.version(start, known);
    while let Some((id, label, original, known)) = specializer.pending.pop_front() {
        specializer.fill(id, label, original, known)?;
    }
    let Specializer { blocks, keys, .. } = specializer;
    let blocks = blocks.into_iter().map(|block| block.expect("every version was filled")).collect();
    residual.functions = vec![Function { blocks, ..function }];
    Ok(Residual { program: residual, keys })
}

struct Specializer<'a> {
    function: &'a Function,
    residual: &'a mut Program,
    /// The versions there are, by label and known variables.
    cache: HashMap<(BlockId, Vec<(VarId, Literal)>), BlockId>,
    /// How many versions each block has.
    made: Vec<usize>,
    /// The residual blocks; `None` while one waits to be filled.
    blocks: Vec<Option<Block>>,
    keys: Vec<String>,
    /// The residual labels given so far.
    labels: HashSet<Arc<str>>,
    /// Versions to fill: residual block with its label, original block, what is known.
    pending: VecDeque<(BlockId, Arc<str>, BlockId, Known)>,
    limits: Limits,
}

impl Specializer<'_> {
    /// The residual block for this label and these known variables; a new one waits to be filled.
    fn version(&mut self, original: BlockId, known: Known) -> BlockId {
        let key = (original, known.key());
        if let Some(&id) = self.cache.get(&key) {
            return id;
        }
        let id = BlockId::from(self.blocks.len());
        self.cache.insert(key, id);
        self.blocks.push(None);
        self.keys.push(self.key_text(original, &known));
        let label = self.label(original);
        self.pending.push_back((id, label, original, known));
        id
    }

    /// The label of the next version of a block: its own, and a number from 1 on.
    fn label(&mut self, original: BlockId) -> Arc<str> {
        self.made[original.index()] += 1;
        let mut name = self.function.blocks[original.index()].label.to_string();
        loop {
            let label: Arc<str> = format!("{name}{}", self.made[original.index()]).into();
            if self.labels.insert(Arc::clone(&label)) {
                return label;
            }
            // The eleventh version of `a` and the first of `a1` must not be confused.
            name.push('_');
        }
    }

    fn key_text(&self, original: BlockId, known: &Known) -> String {
        let known: Vec<String> =
            known.iter().map(|(var, value)| format!("{}={value}", self.function.variables[var.index()])).collect();
        format!("{} {{{}}}", self.function.blocks[original.index()].label, known.join(","))
    }

    /// Makes the residual block for one version.
    fn fill(&mut self, id: BlockId, label: Arc<str>, original: BlockId, mut known: Known) -> Result<(), ModelError> {
        let block = &self.function.blocks[original.index()];
        if self.blocks.len() > self.limits.blocks {
            let versions = self.made[original.index()];
            let message = format!(
                "specialising has not ended after {} residual blocks: `{}` has {versions} versions",
                self.limits.blocks, block.label
            );
            return Err(ModelError::limit(message, block));
        }
        let mut ops = Vec::new();
        for assign in &block.ops {
            ops.extend(self.assign(assign, &mut known));
        }
        let terminator = match block.end.terminator {
            Terminator::Goto(then) | Terminator::Promote { then, .. } => Terminator::Goto(self.version(then, known)),
            Terminator::If { condition, then, other } => match self.value(condition, &known) {
                Some(value) => Terminator::Goto(self.version(if value.is_zero() { other } else { then }, known)),
                None => {
                    let then = self.version(then, known.clone());
                    Terminator::If { condition, then, other: self.version(other, known) }
                }
            },
            Terminator::PrintAndStop(value) => Terminator::PrintAndStop(self.operand(value, &known)),
            ref other => unreachable!("a core program does not end a block with {other:?}"),
        };
        let end = End { terminator, span: block.end.span };
        self.blocks[id.index()] = Some(Block { label, ops, end, span: block.span });
        Ok(())
    }

    /// Carries out an operation if that can be done now; otherwise what stays of it.
    fn assign(&mut self, assign: &Assign, known: &mut Known) -> Option<Assign> {
        let target = assign.target.expect("a core operation has a target");
        let args: Option<Vec<Literal>> = assign.args.iter().map(|&arg| self.value(arg, known)).collect();
        // A result that cannot be written down could not stand in the residual program.
        if let Some(args) = args
            && let Some(Ok(value)) = evaluate(assign.op, &args)
            && value.is_writable()
        {
            known.set(target, value);
            return None;
        }
        let args = assign.args.iter().map(|&arg| self.operand(arg, known)).collect();
        known.forget(target);
        Some(Assign { args, ..assign.clone() })
    }

    /// The value of an operand, if it is known.
    fn value(&self, operand: Operand, known: &Known) -> Option<Literal> {
        match operand {
            Operand::Const(constant) => Some(self.residual.constants[constant].clone()),
            Operand::Var(var) => known.get(var).cloned(),
        }
    }

    /// The operand as it stays: a constant if its value is known.
    fn operand(&mut self, operand: Operand, known: &Known) -> Operand {
        match self.value(operand, known) {
            Some(value) => Operand::Const(self.residual.constants.intern(value)),
            None => operand,
        }
    }
}
