//! The self-proof: would the checker have noticed?
//!
//! Every fault that can be planted in what the exploration has executed is planted in turn: the bad branch of each
//! [`mutant!`](crate::mutant!), each ordering weakened by one step, each fence left out. A fault that is found is *killed*. One that
//! survives is either a test that is missing, or of no consequence; then the source says why, in a comment with the word `Equivalent`
//! right above the place:
//!
//! ```text
//! // Equivalent: only the holder of the lock stores here, so there is nothing to order.
//! let seen = header.load(Ordering::Acquire);
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Instant;

use super::plan::{Depth, Stage, explore_stage};
use super::platform::{Fault, Loom};
use super::program::{Class, Kind as Runs};
use crate::protocol::{Kind, Protocol};

/// What became of a planted fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Found.
    Killed {
        /// Under which protocol. What several have in common (a clock, reclamation, waking) needs to be found under one of them: the place
        /// in the source is necessary then.
        protocol: &'static str,
        /// By what stage.
        stage: String,
        /// By what program or scenario.
        program: String,
        /// After how many executions.
        executions: u64,
    },
    /// Not found, and the source argues that there is nothing to find.
    Equivalent(String),
    /// Not found.
    Survived,
    /// The time was over before anything could be said.
    Unknown,
}

/// A planted fault and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planted {
    /// The fault.
    pub fault: Fault,
    /// What became of it.
    pub fate: Fate,
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = self.fault;
        match &self.fate {
            Fate::Killed { protocol, stage, program, executions } => {
                write!(f, "killed      {fault} under {protocol} by `{program}` ({stage}) after {executions} executions")
            }
            Fate::Equivalent(why) => write!(f, "equivalent  {fault}: {why}"),
            Fate::Survived => write!(f, "SURVIVED    {fault}"),
            Fate::Unknown => write!(f, "NOT REACHED {fault}"),
        }
    }
}

/// Plants each fault in `P` and explores until it is found.
#[must_use]
pub fn prove<P: Protocol<Loom>>(faults: &BTreeSet<Fault>, depth: Depth, deadline: Option<Instant>) -> Vec<Planted> {
    faults.iter().map(|&fault| Planted { fault, fate: fate::<P>(fault, depth, deadline) }).collect()
}

/// Plants one fault in `P` and explores until it is found: what takes seconds; the same under every shipped protocol that comes to this place;
/// at last the rest of what is explored at this depth. What the source argues to be of no consequence is looked for in the long form only,
/// and not for long.
#[must_use]
pub fn fate<P: Protocol<Loom>>(fault: Fault, depth: Depth, deadline: Option<Instant>) -> Fate {
    let argued = argument(&fault);
    if let (Some(why), true) = (&argued, depth != Depth::Long) {
        return Fate::Equivalent(why.clone());
    }
    let mut search = Search { fault, deadline, executions: 0, finished: true };
    let mut killed = search.explore::<P>(&Depth::Quick.stages());
    if let (Some(why), None) = (argued, &killed) {
        return Fate::Equivalent(why);
    }
    let others = Kind::ALL.iter().filter(|kind| kind.name() != P::INFO.name);
    killed = killed.or_else(|| others.copied().find_map(|kind| kind.search(&mut search)));
    killed = killed.or_else(|| {
        let mut deeper = depth.stages();
        deeper.retain(|stage| !Depth::Quick.stages().contains(stage));
        search.explore::<P>(&deeper)
    });
    killed.unwrap_or(if search.finished { Fate::Survived } else { Fate::Unknown })
}

/// Where faults can be planted in `P`: what small programs and the scenarios come to.
#[must_use]
pub fn sites<P: Protocol<Loom>>() -> BTreeSet<Fault> {
    let kinds = [Runs::Update, Runs::Fails, Runs::ReadOnly, Runs::Irrevocable];
    let class = |kind| Stage::Class(Class::ONE_ONE.with_one(kind), Some(1));
    let stages = kinds.map(class).into_iter().chain([Stage::Scenarios(Some(1))]);
    stages.flat_map(|stage| explore_stage::<P>(&stage, None, None, 0).sites).collect()
}

/// The search for a planted fault.
pub(crate) struct Search {
    fault: Fault,
    deadline: Option<Instant>,
    executions: u64,
    /// Whether nothing was cut off by the time.
    finished: bool,
}

impl Search {
    /// What is cheap first: scenarios and regressions with a small bound are a thousand executions, and every second fault shows there.
    fn explore<P: Protocol<Loom>>(&mut self, stages: &[Stage]) -> Option<Fate> {
        let is_cheap = |stage: &&Stage| matches!(stage, Stage::Scenarios(Some(1)) | Stage::Regressions(Some(1)));
        let (cheap, others): (Vec<_>, Vec<_>) = stages.iter().partition(is_cheap);
        cheap.into_iter().chain(others).find_map(|stage| {
            let report = explore_stage::<P>(stage, self.deadline, Some(self.fault), 0);
            self.executions += report.executions;
            self.finished &= report.broken.is_some() || report.is_clean();
            report.broken.map(|counterexample| Fate::Killed {
                protocol: P::INFO.name,
                stage: stage.to_string(),
                program: counterexample.program,
                executions: self.executions,
            })
        })
    }

    /// Explores what takes seconds under a protocol that comes to this place as well.
    pub(crate) fn elsewhere<P: Protocol<Loom>>(&mut self) -> Option<Fate> {
        if sites::<P>().contains(&self.fault) { self.explore::<P>(&Depth::Quick.stages()) } else { None }
    }
}

/// The argument in the source that a fault is of no consequence: a comment with `Equivalent:` that ends just above the line, or stands
/// above the statement in which the line is.
#[must_use]
pub fn argument(fault: &Fault) -> Option<String> {
    let source = source(fault.file)?;
    let lines: Vec<&str> = source.lines().collect();
    let mut at = fault.line as usize - 1;
    // Up to the comment in front of the statement, which is a few lines long at most.
    for _ in 0..6 {
        at = at.checked_sub(1)?;
        let line = lines.get(at)?.trim();
        if line.starts_with("//") {
            return comment(&lines, at);
        }
        if line.ends_with(';') || line.ends_with('}') || line.is_empty() {
            return None;
        }
    }
    None
}

/// The argument in the comment that ends at a line.
fn comment(lines: &[&str], end: usize) -> Option<String> {
    let text = |line: &str| line.trim().strip_prefix("//").map(|text| text.trim().to_owned());
    let start = (0..=end).rev().take_while(|&at| text(lines[at]).is_some()).last()?;
    let words: Vec<String> = (start..=end).filter_map(|at| text(lines[at])).collect();
    let whole = words.join(" ");
    whole.split_once("Equivalent:").map(|(_, why)| why.trim().to_owned())
}

/// The source file as the compiler named it: relative to the workspace, in which a test runs one or two folders further down.
fn source(file: &str) -> Option<String> {
    let here = Path::new(file);
    ["", "..", "../.."].iter().find_map(|up| std::fs::read_to_string(Path::new(up).join(here)).ok())
}
