//! The flowgraph language and its virtual machine.
//!
//! ```text
//! text ── syntax ──▶ tree ── flowgraph::lower ──▶ flowgraph ──▶ bytecode ──▶ interpreter, over heap and barrier
//!           │ format                                  └──▶ model: what it means; specialising and tracing it
//! ```
//!
//! `docs/language-reference.md` shows every construct; [`model`] is the executable definition of the core language.
//!
//! # Embedding
//!
//! A Rust program [compiles](compile_with) a text, makes a [`vm::Vm`] of it and runs its functions as events: by the dispatcher
//! (`optimist_dispatcher::flowgraph::Program`, whose `call_within` makes a function a part of a Rust event), or by itself, as [`vm`] describes. What the program may
//! call of the host is registered as [`vm::Host`], by kind: *pure* functions may be carried out at any time and any number of times,
//! *transactional* ones reach the host's own variables through the running transaction, *irrevocable* ones do what cannot be undone, in an
//! event that nobody can abort any more. [`vm::Limits`] bound what one event may use; whatever the program does, it ends with a value, a
//! failure with its place, or one of these limits, and the machine is good for the next event. `examples/embedding.rs` of the root package
//! shows all of it.
//!
//! ```
//! use optimist_flowgraph::{Literal, Source, compile, model};
//!
//! let source = Source::new("square.flow", "start:\n    y = x * x\n    print_and_stop(y)\n");
//! let program = compile(&source).expect("no mistakes");
//! let printed = model::run(&program, "start", &[("x".into(), Literal::int(12))], model::Limits::default());
//! assert_eq!(printed.map(|value| value.to_string()).as_deref(), Ok("144"));
//! ```

pub mod diagnostic;
pub mod flowgraph;
pub mod literal;
pub mod model;
pub mod source;
pub mod syntax;

pub mod barrier;
mod builtins;
mod bytecode;
pub mod heap;
mod host;
mod interpreter;
mod record;
pub mod value;
pub mod vm;

pub use diagnostic::Diagnostic;
pub use literal::{Int, Literal};
pub use source::{Source, Span};

use std::sync::Arc;

use flowgraph::program::{HostFunction, Program};

/// Parses, lowers and verifies a program.
///
/// # Errors
///
/// All mistakes that were found, warnings among them, in the order of the text.
pub fn compile(source: &Arc<Source>) -> Result<Program, Vec<Diagnostic>> {
    compile_with(source, &[])
}

/// As [`compile`], for a program that may call these functions of the embedding program.
///
/// # Errors
///
/// As [`compile`].
pub fn compile_with(source: &Arc<Source>, hosts: &[HostFunction]) -> Result<Program, Vec<Diagnostic>> {
    let (program, diagnostics) = examine(source, hosts);
    match program {
        Some(program) if !diagnostics.iter().any(Diagnostic::is_error) => Ok(program),
        _ => Err(diagnostics),
    }
}

/// All that can be said against a program without running it: mistakes and warnings, in the order of the text.
pub fn check(source: &Arc<Source>, hosts: &[HostFunction]) -> Vec<Diagnostic> {
    examine(source, hosts).1
}

/// The text of a program, formatted.
///
/// # Errors
///
/// The mistakes of a text that does not parse.
pub fn fmt(source: &Source) -> Result<String, Vec<Diagnostic>> {
    syntax::format::format(source)
}

fn examine(source: &Arc<Source>, hosts: &[HostFunction]) -> (Option<Program>, Vec<Diagnostic>) {
    let (file, diagnostics) = syntax::parser::parse(source.text());
    if !diagnostics.is_empty() {
        return (None, diagnostics);
    }
    let (program, mut diagnostics) = flowgraph::lower::lower(&file, source, hosts);
    if !diagnostics.iter().any(Diagnostic::is_error) {
        diagnostics.extend(flowgraph::verify::verify(&program));
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.primary.span.start);
    (Some(program), diagnostics)
}
