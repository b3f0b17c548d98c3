//! Programs of events.
use super::Args;
use crate::commands::Failure;
use optimist::flowgraph::Source;
use optimist::flowgraph::flowgraph::program::Program;
use std::sync::Arc;
pub(super) fn run(_args: &Args, _source: &Arc<Source>, _program: Program) -> Result<(), Failure> {
    Err(Failure::Silent)
}
