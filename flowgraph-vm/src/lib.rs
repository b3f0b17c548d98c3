//! The flowgraph language and its virtual machine.

pub mod flowgraph;
pub mod literal;
pub mod source;
mod syntax;

pub use literal::{Int, Literal};
pub use source::{Source, Span};
