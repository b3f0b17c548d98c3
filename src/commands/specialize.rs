//! `optimist specialize`: the residual program of a core program.

use optimist::flowgraph::model::cleanup::cleanup;
use optimist::flowgraph::model::{Limits, specialize};

use super::{Failure, Setting, given, model_failure, print, read_program};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The program
    file: String,
    /// The label to start at
    #[arg(long, value_name = "LABEL")]
    start: String,
    /// A known variable; may be repeated
    #[arg(long, value_name = "NAME=LITERAL", num_args = 1..)]
    known: Vec<Setting>,
    /// Print the residual program as it is before clean-up
    #[arg(long)]
    raw: bool,
}

pub(crate) fn command(args: &Args) -> Result<(), Failure> {
    let (source, program) = read_program(&args.file)?;
    let residual = specialize(&program, &args.start, &given(&args.known), Limits::default())
        .map_err(|error| model_failure(&source, &error))?;
    let residual = if args.raw { residual } else { cleanup(residual) };
    print(&residual.print())
}
