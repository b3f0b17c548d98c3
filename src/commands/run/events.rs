//! Programs of events.
use std::sync::Arc;
use optimist::flowgraph::flowgraph::program::Program;
use optimist::flowgraph::Source;
use super::Args;
use crate::commands::Failure;
pub(super) fn run(_args: &Args, _source: &Arc<Source>, _program: Program) -> Result<(), Failure> { Err(Failure::Silent) }
