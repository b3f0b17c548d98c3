//! Model checking of commit protocols, as a product: [`check`] and its parts.
//!
//! What is checked is the production code itself, compiled against a model checker's atomics ([`platform`]); there is no model to keep up
//! to date. [`check`] runs, smallest first:
//!
//! 1. [`program`]: all client programs of a class, enumerated, under loom ([`explore`]): every interleaving up to a bound, with weak
//!    memory. The [`oracle`] searches for a serial order that explains every read, those of aborted transactions included;
//! 2. [`scenario`]: what stands around the commit: waking, reclamation, the token, nesting;
//! 3. [`conformance`]: the phenomena, under real threads;
//! 4. [`schedules`]: longer random programs under random schedules;
//! 5. [`recorder`]: random transactions on real threads, their [`history`] checked for opacity and strict serializability;
//! 6. [`faults`]: aborts, panics, errors and stalls at every step of a body;
//! 7. [`proof`]: every fault that can be planted is planted, and must be found.
//!
//! Whoever writes a protocol calls it from an ordinary test:
//!
//! ```no_run
//! use optimist_stm::check::{Budget, check};
//! use optimist_stm::protocol::Tl2;
//!
//! let verdict = check::<Tl2>(&Budget::ci());
//! assert!(verdict.is_clean(), "{verdict}");
//! ```
//!
//! The guide is `docs/checking-a-protocol.md`.

pub mod conformance;
pub mod explore;
pub mod faults;
pub mod heap;
pub mod history;
pub mod oracle;
pub mod plan;
pub mod platform;
pub mod program;
pub mod proof;
pub mod recorder;
pub mod scenario;
pub mod schedules;
mod sleep;
#[cfg(target_os = "linux")]
pub mod stacks;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

pub use explore::Counterexample;
pub use plan::{Budget, Depth, Stage, StageReport};
pub use platform::{Counting, Fault, Loom, Shuttle};
pub use proof::{Fate, Planted};

use crate::atomics::Native;
use crate::protocol::{Kind, Protocol};

/// A protocol that can be checked: one whose source is generic over the atomics.
pub trait Checked: Protocol<Native> + Protocol<Loom> + Protocol<Shuttle> {}

impl<P: Protocol<Native> + Protocol<Loom> + Protocol<Shuttle>> Checked for P {}

/// What [`check`] found.
#[derive(Clone, Debug)]
#[must_use = "a verdict says whether the protocol is clean"]
pub struct Verdict {
    /// The protocol's name.
    pub protocol: &'static str,
    /// What was explored under loom.
    pub stages: Vec<StageReport>,
    /// What ran on real threads and under random schedules: what it was, and what was wrong.
    pub runs: Vec<(String, Result<(), String>)>,
    /// What became of the planted faults.
    pub faults: Vec<Planted>,
    /// What the budget left undone.
    pub undone: Vec<String>,
}

impl Verdict {
    /// The first counterexample, which is the smallest.
    #[must_use]
    pub fn counterexample(&self) -> Option<&Counterexample> {
        self.stages.iter().find_map(|stage| stage.broken.as_deref())
    }

    /// Whether nothing was found, although every planted fault would have been.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let fine = |planted: &Planted| !matches!(planted.fate, Fate::Survived);
        self.stages.iter().all(|stage| stage.broken.is_none())
            && self.runs.iter().all(|(_, outcome)| outcome.is_ok())
            && self.faults.iter().all(fine)
    }

    /// Whether it is sound and everything asked for was done: what a limit cut off does not count as clean.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let known = |planted: &Planted| planted.fate != Fate::Unknown;
        self.is_sound()
            && self.undone.is_empty()
            && self.stages.iter().all(StageReport::is_clean)
            && self.faults.iter().all(known)
    }

    /// All executions under loom.
    #[must_use]
    pub fn executions(&self) -> u64 {
        self.stages.iter().map(|stage| stage.executions).sum()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.stages {
            writeln!(f, "{} {stage}", self.protocol)?;
        }
        for (run, outcome) in &self.runs {
            match outcome {
                Ok(()) => writeln!(f, "{} {run}: clean", self.protocol)?,
                Err(complaint) => writeln!(f, "{} {run}: BROKEN: {complaint}", self.protocol)?,
            }
        }
        for planted in &self.faults {
            writeln!(f, "{} {planted}", self.protocol)?;
        }
        for undone in &self.undone {
            writeln!(f, "{} {undone}: NOT FINISHED within the budget", self.protocol)?;
        }
        if let Some(counterexample) = self.counterexample() {
            writeln!(f, "\n{counterexample}")?;
            let Counterexample { program, bound, .. } = counterexample;
            let bound = bound.map_or("None".to_owned(), |bound| format!("Some({bound})"));
            writeln!(f, "replay: check::replay::<P>(\"{program}\", {bound})")?;
        }
        let outcome = match () {
            () if !self.is_sound() => "BROKEN",
            () if !self.is_clean() => "nothing found, but not finished",
            () => "clean",
        };
        write!(f, "{}: {outcome}, {} executions", self.protocol, self.executions())
    }
}

/// Checks a protocol within a budget: classes of programs and scenarios, smallest first; then the phenomena, random schedules and
/// histories; then the self-proof. Stops at the first counterexample.
pub fn check<P: Checked>(budget: &Budget) -> Verdict {
    let start = Instant::now();
    let deadline = start + budget.time;
    let info = <P as Protocol<Native>>::INFO;
    let mut verdict =
        Verdict { protocol: info.name, stages: Vec::new(), runs: Vec::new(), faults: Vec::new(), undone: Vec::new() };
    let mut checkpoint = plan::Checkpoint::open(budget.checkpoint.clone());
    let mut plantable: BTreeSet<Fault> = BTreeSet::new();
    let mut fingerprint = 0;
    for (index, stage) in budget.depth.stages().iter().enumerate() {
        if Instant::now() >= deadline {
            verdict.undone.push(stage.to_string());
            continue;
        }
        // The first stage always runs: it says what the source is.
        let from = if index == 0 { 0 } else { checkpoint.done(info.name, fingerprint, stage) };
        // What follows the exploration must have its share; the first, small stages are finished in any case.
        let limit = if index == 0 { deadline } else { start + budget.time.mul_f64(0.7) };
        let report = plan::explore_stage::<P>(stage, Some(limit), None, from);
        plantable.extend(report.sites.iter().copied());
        if index == 0 {
            fingerprint = hash(&report.sites);
        }
        if let Err(error) = checkpoint.note(info.name, fingerprint, stage, report.explored) {
            verdict.undone.push(format!("writing the checkpoint ({error})"));
        }
        let broken = report.broken.is_some();
        verdict.stages.push(report);
        if broken {
            return verdict;
        }
    }
    let share = |part: f64| budget.time.mul_f64(part).min(deadline.saturating_duration_since(Instant::now()));
    let mut run = |name: String, outcome| verdict.runs.push((name, outcome));
    for phenomenon in conformance::phenomena::<P>() {
        run(format!("conformance: {}", phenomenon.name), phenomenon.run(Duration::from_secs(20)));
    }
    let (schedules, outcome) = schedules::explore::<P>(share(0.05));
    run(format!("{schedules} random schedules"), outcome);
    let (transactions, outcome) = recorder::record_and_check::<P>(share(0.05), u64::MAX, 2);
    run(format!("{transactions} recorded transactions"), outcome);
    let until = Some(Instant::now() + share(0.05));
    let (injected, outcome) = faults::inject::<P>(u64::MAX, 0, until);
    run(format!("{injected} faults at every step"), outcome);
    if verdict.is_sound() {
        verdict.faults = proof::prove::<P>(&plantable, budget.depth, Some(deadline));
    }
    verdict
}

/// Runs one program again, as a counterexample's last line says.
///
/// # Errors
/// The counterexample.
///
/// # Panics
/// If the text is no program.
pub fn replay<P: Protocol<Loom>>(program: &str, bound: Option<usize>) -> Result<u64, Box<Counterexample>> {
    let program: program::Program = program.parse().unwrap_or_else(|error| panic!("{error}"));
    let exploration = explore::explore::<P>(&program, explore::Limits::bound(bound));
    match exploration.outcome {
        explore::Outcome::Broken(counterexample) => Err(counterexample),
        _ => Ok(exploration.executions),
    }
}

/// Checks a shipped protocol by name. For the command line: `optimist check-protocol NAME [--budget 5m]`.
///
/// # Errors
/// If there is no protocol of this name.
pub fn command(name: &str, budget: &Budget) -> Result<Verdict, crate::protocol::UnknownProtocol> {
    let kind: Kind = name.parse()?;
    Ok(kind.check(budget))
}

fn hash(sites: &BTreeSet<Fault>) -> u64 {
    let mut hasher = DefaultHasher::new();
    sites.hash(&mut hasher);
    hasher.finish()
}
