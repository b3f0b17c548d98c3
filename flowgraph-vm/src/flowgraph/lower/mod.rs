//! From syntax tree to flowgraph: names become numbers, nested expressions become temporaries, structured statements become blocks.
//!
//! `core` takes labelled blocks as they are. `declarations` collects what a program of functions declares, and
//! `body`, `statements` and `expression` take its functions apart, each into one [`Function`](super::program::Function).

mod body;
mod core;
mod declarations;
mod expression;
mod statements;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::flowgraph::program::{Constants, HostFunction, Names, Program, ProgramKind};
use crate::source::Source;
use crate::syntax::ast::File;

/// The name of the function that gives the shared variables their first values.
pub const INITIALISER: &str = "_init";

/// Lowers a tree that was parsed without mistakes. The program is of use only if no diagnostic is an error.
pub fn lower(file: &File, source: &Arc<Source>, hosts: &[HostFunction]) -> (Program, Vec<Diagnostic>) {
    let mut program = Program {
        source: Arc::clone(source),
        kind: file.kind,
        functions: Vec::new(),
        constants: Constants::default(),
        names: Names::default(),
        types: Vec::new(),
        globals: Vec::new(),
        hosts: hosts.to_vec(),
        initialiser: None,
    };
    let diagnostics = match file.kind {
        ProgramKind::Core => core::lower(&file.body, &mut program),
        ProgramKind::Functions => declarations::lower(&file.items, &mut program),
    };
    (program, diagnostics)
}
