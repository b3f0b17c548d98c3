//! The flowgraph: operations, programs, their meaning on constants, and the way there from the text and back.

pub mod fault;
pub mod op;
pub mod program;
pub mod semantics;
