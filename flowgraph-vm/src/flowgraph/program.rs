//! The flowgraph: a program as functions of basic blocks, the one representation that every tier starts from.
//!
//! ```text
//! Program ─ functions ─ Function ─ blocks ─ Block ─ assignments ─ Assign { target, op, immediate, operands, span }
//!    │                      └ variables              └ end ─ End { terminator, span }
//!    └ constants, names, object types, shared variables, host functions
//! ```
//!
//! Everything that is named in the text is a small number here ([`VarId`], [`BlockId`], …), an index into a table of the program or of
//! the function, so that a bytecode compiler maps variables to registers as they are, a partial evaluator keys its cache by block
//! and known variables, and a conversion to static single assignment renames without looking at text. Operands are variables or
//! constants and never expressions: nested expressions and structured statements were taken apart by the lowering.
//!
//! Rules that hold for every program that [`compile`](crate::compile) returns:
//!
//! 1. Every id is in range, and every operation has a number of operands that its table line allows and the immediate it needs.
//! 2. In a program of functions, `blocks[0]` is where a function starts. A core program is one function without a name, whose start
//!    label the caller chooses; its variables live in one environment that the caller fills.
//! 3. Guarded regions ([`Terminator::Enter`], [`Terminator::Leave`]) nest: on every path the number of entered and not yet left
//!    regions at a block is the same, and it is zero at `Return`. Leaving by `Raise`, by a failing operation or by `Retry` is the
//!    machine's business.
//!
//! A block knows nothing of the blocks that jump to it; [`Function::predecessors`] computes that when wanted.

use std::collections::HashMap;
use std::sync::Arc;

use crate::flowgraph::op::Op;
use crate::literal::Literal;
use crate::source::{Source, Span};

macro_rules! ids {
    ($( $name:ident $doc:literal; )*) => { $(
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub u32);

        impl $name {
            /// The number as an index.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl From<usize> for $name {
            fn from(index: usize) -> Self {
                Self(index as u32)
            }
        }
    )* };
}

ids! {
    VarId "A variable of a function: an index into [`Function::variables`].";
    BlockId "A block of a function: an index into [`Function::blocks`].";
    ConstId "A constant of a program: an index into [`Constants`].";
    FunctionId "A function: an index into [`Program::functions`].";
    NameId "A field's name: an index into [`Names`].";
    TypeId "An object type: an index into [`Program::types`].";
    GlobalId "A shared variable: an index into [`Program::globals`].";
    HostId "A function of the embedding program: an index into [`Program::hosts`].";
}

/// The type of every caught error: always the first of [`Program::types`].
pub const ERROR_TYPE: TypeId = TypeId(0);

/// The fields of [`ERROR_TYPE`], in order: what kind of failure (a symbol such as `'raised'` or `'index_out_of_range'`), the message, the
/// raised value (`none` for failures of the machine), the place `file:line:column`, and the list of places of the calls that led to it.
pub const ERROR_FIELDS: [&str; 5] = ["kind", "message", "value", "place", "trace"];

/// Whether a program consists of labelled blocks or of functions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgramKind {
    /// Labelled blocks with one environment.
    Core,
    /// Functions, objects, shared variables, events.
    Functions,
}

/// A whole program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where it came from; all spans point into it.
    pub source: Arc<Source>,
    /// Labelled blocks or functions.
    pub kind: ProgramKind,
    /// The functions; for a core program exactly one.
    pub functions: Vec<Function>,
    /// The constants that operands name.
    pub constants: Constants,
    /// The field names that immediates name.
    pub names: Names,
    /// The object types, [`ERROR_TYPE`] first.
    pub types: Vec<ObjectType>,
    /// The shared variables.
    pub globals: Vec<Global>,
    /// The functions of the embedding program that this one may call.
    pub hosts: Vec<HostFunction>,
    /// The function without parameters that gives the shared variables their first values, in the order of the text; it runs before
    /// all events.
    pub initialiser: Option<FunctionId>,
}

/// A function: parameters, variables, blocks.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name; empty for a core program's only one.
    pub name: Arc<str>,
    /// How many parameters; they are the first variables.
    pub parameters: usize,
    /// The names of its variables. Temporaries of the lowering have names that start with an underscore.
    pub variables: Vec<Arc<str>>,
    /// Its blocks; the first is the entry.
    pub blocks: Vec<Block>,
    /// Whether it was declared `pure`: its result depends on its arguments alone and it changes nothing, so that a call with known
    /// arguments may be carried out at specialisation time.
    pub pure: bool,
    /// The span of its head.
    pub span: Span,
}

/// A basic block.
#[derive(Clone, PartialEq, Debug)]
pub struct Block {
    /// Its label, unique in its function.
    pub label: Arc<str>,
    /// What it does.
    pub ops: Vec<Assign>,
    /// How it ends.
    pub end: End,
    /// The span of its label (or of the statement it was made for).
    pub span: Span,
}

/// An operand: small, copied about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operand {
    /// A variable of the function.
    Var(VarId),
    /// A constant of the program.
    Const(ConstId),
}

impl Operand {
    /// The variable, if it is one.
    pub fn var(self) -> Option<VarId> {
        match self {
            Self::Var(var) => Some(var),
            Self::Const(_) => None,
        }
    }
}

/// What an operation needs to know besides its operands; which one follows from its [`Notation`](super::op::Notation).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Immediate {
    /// Nothing.
    None,
    /// A function to call or queue.
    Function(FunctionId),
    /// A function to call for each thing that a source gives, which becomes the argument at this place.
    Each(FunctionId, u32),
    /// An object type.
    Type(TypeId),
    /// A field.
    Field(NameId),
    /// A shared variable.
    Global(GlobalId),
    /// A function of the embedding program.
    Host(HostId),
}

/// One operation with its operands and the variable that takes its result.
#[derive(Clone, PartialEq, Debug)]
pub struct Assign {
    /// Where the result goes; `None` where it is not wanted.
    pub target: Option<VarId>,
    /// The operation.
    pub op: Op,
    /// What it needs besides operands.
    pub immediate: Immediate,
    /// Its operands.
    pub args: Vec<Operand>,
    /// The operation's own place in the text (not the whole statement's): errors point here.
    pub span: Span,
}

/// How a block ends, and where that is written.
#[derive(Clone, PartialEq, Debug)]
pub struct End {
    /// How.
    pub terminator: Terminator,
    /// Where.
    pub span: Span,
}

/// What a guarded region guards against.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Guard {
    /// Failure: the handler runs when something inside raises or fails. The error, an object of [`ERROR_TYPE`], goes to this variable.
    Failure(Option<VarId>),
    /// Waiting: the handler runs when something inside says `retry`. If the handler (a second alternative, outside the region) says
    /// `retry` as well, that leads to the next outer such region or else waits for what either has read.
    Retry,
}

/// How a block ends.
#[derive(Clone, PartialEq, Debug)]
pub enum Terminator {
    /// `goto L`.
    Goto(BlockId),
    /// `if v goto L1 else goto L2`: the second exactly if the value is the integer 0.
    If {
        /// What decides.
        condition: Operand,
        /// Where to go if it is not the integer 0.
        then: BlockId,
        /// Where to go if it is.
        other: BlockId,
    },
    /// `print_and_stop(v)`: prints and ends the run of a core program, or the event of a function.
    PrintAndStop(Operand),
    /// `promote(v) goto L`: only jumps, except for the compiling tiers. A variable that was never set is no failure here.
    Promote {
        /// What to specialise to.
        value: Operand,
        /// Where to go.
        then: BlockId,
    },
    /// `return v`.
    Return(Operand),
    /// `raise v`.
    Raise(Operand),
    /// `retry`: gives up this attempt, and starts anew when something that it has read has changed.
    Retry,
    /// Enters a guarded region at `body`. The machine remembers heap, effects and the function's variables as they are here; when
    /// the guard strikes, in the region or in a function called from it, they are put back as they were and `handler` goes on
    /// outside the region.
    Enter {
        /// Against what.
        guard: Guard,
        /// The region's first block.
        body: BlockId,
        /// Where to go on when the guard strikes.
        handler: BlockId,
    },
    /// Leaves the innermost region, keeping what it did.
    Leave(BlockId),
}

impl Terminator {
    /// The blocks that may follow, in the order of the text.
    pub fn successors(&self) -> impl Iterator<Item = BlockId> {
        let (first, second) = match *self {
            Self::Goto(then) | Self::Promote { then, .. } | Self::Leave(then) => (Some(then), None),
            Self::If { then, other, .. } => (Some(then), Some(other)),
            Self::Enter { body, handler, .. } => (Some(body), Some(handler)),
            Self::PrintAndStop(_) | Self::Return(_) | Self::Raise(_) | Self::Retry => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// The same end with each block that may follow replaced.
    pub fn map_successors(&mut self, mut map: impl FnMut(BlockId) -> BlockId) {
        match self {
            Self::Goto(then) | Self::Promote { then, .. } | Self::Leave(then) => *then = map(*then),
            Self::If { then, other, .. } => {
                *then = map(*then);
                *other = map(*other);
            }
            Self::Enter { body, handler, .. } => {
                *body = map(*body);
                *handler = map(*handler);
            }
            Self::PrintAndStop(_) | Self::Return(_) | Self::Raise(_) | Self::Retry => {}
        }
    }

    /// The operand it reads, if any.
    pub fn operand(&self) -> Option<Operand> {
        match *self {
            Self::If { condition: value, .. }
            | Self::PrintAndStop(value)
            | Self::Promote { value, .. }
            | Self::Return(value)
            | Self::Raise(value) => Some(value),
            Self::Goto(_) | Self::Retry | Self::Enter { .. } | Self::Leave(_) => None,
        }
    }
}

impl Function {
    /// The block with this label.
    pub fn block(&self, label: &str) -> Option<BlockId> {
        self.blocks.iter().position(|block| &*block.label == label).map(BlockId::from)
    }

    /// The variable of this name.
    pub fn variable(&self, name: &str) -> Option<VarId> {
        self.variables.iter().position(|variable| &**variable == name).map(VarId::from)
    }

    /// For each block the blocks that may jump to it, each once.
    pub fn predecessors(&self) -> Vec<Vec<BlockId>> {
        let mut predecessors = vec![Vec::new(); self.blocks.len()];
        for (index, block) in self.blocks.iter().enumerate() {
            for successor in block.end.terminator.successors() {
                let list: &mut Vec<BlockId> = &mut predecessors[successor.index()];
                if list.last() != Some(&BlockId::from(index)) {
                    list.push(BlockId::from(index));
                }
            }
        }
        predecessors
    }
}

impl Program {
    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<FunctionId> {
        self.functions.iter().position(|function| &*function.name == name).map(FunctionId::from)
    }

    /// A core program's only function.
    pub fn core(&self) -> Option<&Function> {
        (self.kind == ProgramKind::Core).then(|| &self.functions[0])
    }
}

/// An object type.
#[derive(Clone, PartialEq, Debug)]
pub struct ObjectType {
    /// Its name.
    pub name: Arc<str>,
    /// Its fields in order.
    pub fields: Vec<NameId>,
    /// Where it is declared; empty for [`ERROR_TYPE`].
    pub span: Span,
}

/// A shared variable.
#[derive(Clone, PartialEq, Debug)]
pub struct Global {
    /// Its name.
    pub name: Arc<str>,
    /// Whether any function assigns to it. If not, it keeps its first value for good and reading it needs no barrier.
    pub assigned: bool,
    /// Where it is declared.
    pub span: Span,
}

/// A function of the embedding program.
#[derive(Clone, PartialEq, Debug)]
pub struct HostFunction {
    /// Its name.
    pub name: Arc<str>,
    /// How many arguments it takes; `None` for any number.
    pub arity: Option<usize>,
    /// Whether its result depends on its arguments alone and it changes nothing.
    pub pure: bool,
}

/// A program's constants, each once.
#[derive(Clone, Debug, Default)]
pub struct Constants {
    values: Vec<Literal>,
    index: HashMap<Literal, ConstId>,
}

impl Constants {
    /// The id of a constant, which is added if it is new.
    pub fn intern(&mut self, value: Literal) -> ConstId {
        if let Some(&id) = self.index.get(&value) {
            return id;
        }
        let id = ConstId::from(self.values.len());
        self.index.insert(value.clone(), id);
        self.values.push(value);
        id
    }

    /// All constants, in the order of their ids.
    pub fn values(&self) -> &[Literal] {
        &self.values
    }
}

impl std::ops::Index<ConstId> for Constants {
    type Output = Literal;

    fn index(&self, id: ConstId) -> &Literal {
        &self.values[id.index()]
    }
}

/// Field names, each once.
#[derive(Clone, Debug, Default)]
pub struct Names {
    values: Vec<Arc<str>>,
    index: HashMap<Arc<str>, NameId>,
}

impl Names {
    /// The id of a name, which is added if it is new.
    pub fn intern(&mut self, name: &str) -> NameId {
        if let Some(&id) = self.index.get(name) {
            return id;
        }
        let id = NameId::from(self.values.len());
        let name: Arc<str> = name.into();
        self.index.insert(name.clone(), id);
        self.values.push(name);
        id
    }

    /// The id of a name, if it is there.
    pub fn find(&self, name: &str) -> Option<NameId> {
        self.index.get(name).copied()
    }

    /// All names, in the order of their ids.
    pub fn values(&self) -> &[Arc<str>] {
        &self.values
    }
}

impl std::ops::Index<NameId> for Names {
    type Output = Arc<str>;

    fn index(&self, id: NameId) -> &Arc<str> {
        &self.values[id.index()]
    }
}
