//! The core language, executable: what a flowgraph means, what specialising one means, and what a trace of one is.
//!
//! This is the page to read first, and the oracle that every faster tier is tested against. It is written for the reader: no
//! cleverness, no state but what the text describes, about a page for each of its four parts.
//!
//! 1. [`interpreter`] runs blocks in one environment.
//! 2. [`specialize`](mod@specialize) runs what can be run with only some variables known, and leaves a *residual program* that does the rest.
//! 3. [`tracer`] interprets once around a loop and records the operations done, with a guard where control could have gone elsewhere.
//! 4. [`optimizer`] specialises a trace as (2) specialises blocks, without the control flow.
//!
//! [`cleanup`] makes residual programs readable, [`random`] makes programs to try all of this on.
//!
//! The model follows C. F. Bolz, "Comparing Partial Evaluation and Tracing" (2012), which gives the same in Prolog. Naive specialisation need not
//! end and tracing need not come back to where it started, so everything here runs within [`Limits`] and says so when one is reached.

pub mod cleanup;
pub mod interpreter;
pub mod optimizer;
pub mod random;
pub mod specialize;
pub mod tracer;

use std::fmt;
use std::sync::Arc;

use crate::diagnostic::{Code, Diagnostic};
use crate::flowgraph::fault::RuntimeError;
use crate::flowgraph::program::{Block, BlockId, Function, Program, VarId};
use crate::literal::Literal;
use crate::source::{Source, Span};

pub use interpreter::run;
pub use specialize::{Residual, specialize};
pub use tracer::{Traced, trace};

/// How far the model goes before it gives up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many blocks may be run.
    pub steps: u64,
    /// So many residual blocks may be made.
    pub blocks: usize,
    /// So many entries may a trace have.
    pub trace: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 100_000_000, blocks: 10_000, trace: 100_000 }
    }
}

/// Why there is no result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ModelError {
    /// The program failed.
    Runtime(Box<RuntimeError>),
    /// There is no such label.
    UnknownLabel {
        /// What was asked for.
        label: String,
        /// The label that was perhaps meant.
        suggestion: Option<String>,
    },
    /// The program has functions; the model is about labelled blocks.
    NotCore,
    /// A limit was reached.
    Limit {
        /// Which one, as a sentence.
        message: String,
        /// The label of the block where that was.
        label: Arc<str>,
        /// The block's place.
        span: Span,
    },
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => error.fmt(f),
            Self::UnknownLabel { label, suggestion } => {
                write!(f, "there is no label `{label}`")?;
                suggestion.iter().try_for_each(|name| write!(f, "; did you mean `{name}`?"))
            }
            Self::NotCore => f.write_str("this needs a program of labelled blocks, without functions"),
            Self::Limit { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for ModelError {}

impl From<RuntimeError> for ModelError {
    fn from(error: RuntimeError) -> Self {
        Self::Runtime(Box::new(error))
    }
}

impl ModelError {
    /// A limit that was reached in a block.
    fn limit(message: String, block: &Block) -> Self {
        Self::Limit { message, label: block.label.clone(), span: block.span }
    }

    /// The error with its place in the source, if it has one.
    pub fn to_diagnostic(&self, source: &Source) -> Option<Diagnostic> {
        match self {
            Self::Runtime(error) => Some(error.to_diagnostic(source)),
            Self::Limit { message, label, span } => {
                Some(Diagnostic::new(Code::Runtime, *span, message).label(format!("in block `{label}`")))
            }
            _ => None,
        }
    }
}

/// Variables with values, as the caller gives them: by name.
pub type Given = [(Arc<str>, Literal)];

/// The core program's function with room for the caller's variables, and the block to start at.
fn begin(program: &Program, start: &str, given: &Given) -> Result<(Function, BlockId), ModelError> {
    let mut function = program.core().ok_or(ModelError::NotCore)?.clone();
    let Some(block) = function.block(start) else {
        let labels = function.blocks.iter().map(|block| &*block.label);
        let suggestion = crate::diagnostic::suggestion(start, labels).map(str::to_owned);
        return Err(ModelError::UnknownLabel { label: start.to_owned(), suggestion });
    };
    for (name, _) in given {
        if function.variable(name).is_none() {
            function.variables.push(Arc::clone(name));
        }
    }
    Ok((function, block))
}

/// What is known while specialising: some variables with their values, in the order in which they became known.
#[derive(Clone, Default, Debug)]
pub struct Known(Vec<(VarId, Literal)>);

impl Known {
    fn given(function: &Function, given: &Given) -> Self {
        let mut known = Self::default();
        for (name, value) in given {
            known.set(function.variable(name).expect("room was made for it"), value.clone());
        }
        known
    }

    /// The variable's value, if it is known.
    pub fn get(&self, var: VarId) -> Option<&Literal> {
        self.0.iter().find(|(known, _)| *known == var).map(|(_, value)| value)
    }

    /// The variable is known from now on; if it was already, it keeps its place in the order.
    fn set(&mut self, var: VarId, value: Literal) {
        match self.0.iter_mut().find(|(known, _)| *known == var) {
            Some((_, old)) => *old = value,
            None => self.0.push((var, value)),
        }
    }

    /// The variable is not known any more.
    fn forget(&mut self, var: VarId) {
        self.0.retain(|(known, _)| *known != var);
    }

    /// The variables with their values, in the order in which they became known.
    pub fn iter(&self) -> impl Iterator<Item = (VarId, &Literal)> {
        self.0.iter().map(|(var, value)| (*var, value))
    }

    /// The same regardless of order, for use as a key.
    fn key(&self) -> Vec<(VarId, Literal)> {
        let mut key = self.0.clone();
        key.sort_by_key(|(var, _)| *var);
        key
    }
}

#[cfg(test)]
mod tests;
