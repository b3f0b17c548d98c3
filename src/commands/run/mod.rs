//! `optimist run`: runs a program, with the records of a file as its events.

mod core;
mod events;
mod records;
mod statistics;

use std::num::NonZeroUsize;

use clap::ValueEnum;
use optimist::stm::Kind;

use super::{Failure, Setting, read_program};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The program
    file: String,
    /// The label to start at, in a program without functions; by default its first
    #[arg(long, value_name = "LABEL")]
    start: Option<String>,
    /// The value of a variable, in a program without functions; may be repeated
    #[arg(long, value_name = "NAME=LITERAL", num_args = 1..)]
    set: Vec<Setting>,
    /// Which tiers may run the program. What a tier cannot do yet, the interpreter does: the results are the same
    #[arg(long, value_enum, default_value_t = Tier::Auto)]
    tier: Tier,
    /// How many threads run events
    #[arg(long, value_name = "N", default_value_t = default_threads())]
    threads: NonZeroUsize,
    /// A CSV file: each record becomes an event of its own, handed to `fn record(r)`
    #[arg(long, value_name = "DATA.csv")]
    events: Option<String>,
    /// Write down what the run learns of time, chance and the order of its events, so that it can be replayed
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<String>,
    /// Repeat a run that was recorded, with the same events; one thread does
    #[arg(long, value_name = "FILE")]
    replay: Option<String>,
    /// The commit protocol
    #[arg(long, value_name = "NAME", default_value_t = Kind::default())]
    protocol: Kind,
    /// Show what the run did, on standard error
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    stats: Option<StatsFormat>,
}

/// Which tiers may run a program.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// The interpreter alone
    Interp,
    /// The partial evaluator, then the interpreter
    Pe,
    /// The tracing compiler and the interpreter
    Jit,
    /// Whatever is fastest
    Auto,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StatsFormat {
    /// A table for people
    Text,
    /// One JSON object
    Json,
}

fn default_threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

pub(crate) fn command(args: &Args) -> Result<(), Failure> {
    let (source, program) = read_program(&args.file)?;
    if program.core().is_some() { core::run(args, &source, program) } else { events::run(args, &source, program) }
}
