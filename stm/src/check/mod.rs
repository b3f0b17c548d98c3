//! Model checking as a product.
pub mod explore;
pub mod heap;
pub mod oracle;
pub mod platform;
pub mod program;
