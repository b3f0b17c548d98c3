//! The collections against the standard library's, with random operations, failures, nested transactions and threads.

mod freeing;
mod map;
mod model;
mod ordered;
mod queue;
mod set;
mod vector;
