//! Optimist runs event-driven programs on every core without locks.
//!
//! A handler is written as if nobody else were running. Each dispatched event runs as an optimistic transaction over a heap of versioned
//! objects; on conflict it is rolled back and run again, and what it sends or prints leaves only when it commits.
//!
//! The parts are crates of their own, re-exported here: [`stm`], the transactional heap; [`dispatcher`], the queue of events;
//! [`flowgraph`], a language whose every handler is atomic.

pub use optimist_dispatcher as dispatcher;
pub use optimist_flowgraph as flowgraph;
pub use optimist_stm as stm;

pub use optimist_stm::{TVar, Tx, atomically, read_only, try_atomically};

/// The README's programs, run as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

/// The programs of the comparison with other transactional memories, run as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/comparison.md")]
pub struct Comparison;
