//! `optimist check-protocol`: model-checks shipped commit protocols.

use std::path::PathBuf;
use std::time::Duration;

use optimist::stm::check::program::Program;
use optimist::stm::check::{self, Budget};
use optimist::stm::{Kind, with_protocol};

use super::{Failure, print};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The protocol, or `all`
    name: String,
    /// How much time to spend on each protocol, such as 90s, 5m or 2h; without it, what runs on every change
    #[arg(long, value_name = "TIME", value_parser = duration)]
    budget: Option<Duration>,
    /// A file that remembers what has been explored, so that a later run goes on from there
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Run one program only, as a counterexample names it: 'rx wx | rx wx; ?ry'
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["budget", "checkpoint"])]
    replay: Option<String>,
    /// The most preemptions of an execution that is replayed; without it, any number
    #[arg(long, value_name = "NUMBER", requires = "replay")]
    bound: Option<usize>,
}

pub(crate) fn command(args: &Args) -> Result<(), Failure> {
    let kinds = match args.name.as_str() {
        "all" => Kind::ALL.to_vec(),
        name => vec![name.parse().map_err(|error| Failure::Usage(format!("{error}")))?],
    };
    if let Some(text) = &args.replay {
        let program: Program = text.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
        return replay(&kinds, &program.to_string(), args.bound);
    }
    let mut clean = true;
    for kind in kinds {
        let mut budget = args.budget.map_or_else(Budget::ci, Budget::of);
        budget.checkpoint.clone_from(&args.checkpoint);
        let verdict = kind.check(&budget);
        clean &= verdict.is_clean();
        print(&format!("{verdict}\n"))?;
        if let Some(check::Counterexample { program, bound, .. }) = verdict.counterexample() {
            let bound = bound.map_or_else(String::new, |bound| format!(" --bound {bound}"));
            print(&format!("or:     optimist check-protocol {kind} --replay '{program}'{bound}\n"))?;
        }
    }
    if clean { Ok(()) } else { Err(Failure::Silent) }
}

fn replay(kinds: &[Kind], program: &str, bound: Option<usize>) -> Result<(), Failure> {
    let mut clean = true;
    for &kind in kinds {
        let outcome = with_protocol!(kind, P => check::replay::<P>(program, bound));
        clean &= outcome.is_ok();
        print(&match outcome {
            Ok(executions) => format!("{kind} `{program}`: {executions} executions, clean\n"),
            Err(counterexample) => format!("{kind} {counterexample}\n"),
        })?;
    }
    if clean { Ok(()) } else { Err(Failure::Silent) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("expected a time such as 90s, 5m or 2h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a time such as 90s, 5m or 2h".to_owned())?;
    number
        .checked_mul(seconds)
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| "out of range".to_owned())
}
