//! The flowgraph: operations, programs, their meaning on constants, and the way there from the text and back.

pub mod fault;
pub mod lower;
pub mod op;
pub mod print;
pub mod program;
pub mod semantics;
pub mod verify;
