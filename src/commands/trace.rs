//! `optimist trace`: one trace of a core program, before and after optimising, and what the program prints.

use optimist::flowgraph::model::{Limits, trace};

use super::{Failure, Setting, given, model_failure, print, read_program};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The program
    file: String,
    /// The label to trace from
    #[arg(long, value_name = "LABEL")]
    start: String,
    /// The value of a variable; may be repeated
    #[arg(long, value_name = "NAME=LITERAL", num_args = 1..)]
    set: Vec<Setting>,
}

pub(crate) fn command(args: &Args) -> Result<(), Failure> {
    let (source, program) = read_program(&args.file)?;
    let failed = |error| model_failure(&source, &error);
    let traced = trace(&program, &args.start, &given(&args.set), Limits::default()).map_err(failed)?;
    print(&format!("{}\n", traced.print()))?;
    let output = traced.output.map_err(failed)?;
    print(&format!("{output}\n"))
}
