//! From text to syntax tree, and back to tidy text.

pub mod ast;
pub mod format;
pub mod parser;
pub mod token;

pub(crate) use parser::parse_literal;
