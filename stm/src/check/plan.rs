//! What is explored in which order, on all cores, within a budget.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::explore::{Counterexample, Exploration, Limits, Outcome, explore};
use super::platform::{Fault, Loom, note_sites, plant};
use super::program::{Class, Kind, Program};
use super::scenario::scenarios;
use crate::protocol::Protocol;

/// How much is to be done.
#[derive(Clone, Debug)]
pub struct Budget {
    /// The time for everything together.
    pub time: Duration,
    /// How far to go.
    pub depth: Depth,
    /// Where to note what is done, so that a later run goes on from there. A note is used only as long as the protocol's source has not
    /// changed.
    pub checkpoint: Option<PathBuf>,
}

impl Budget {
    /// A few minutes: what runs on every change.
    #[must_use]
    pub fn ci() -> Self {
        Budget { time: Duration::from_secs(600), depth: Depth::Ci, checkpoint: None }
    }

    /// This much time, as deep as it reaches.
    #[must_use]
    pub fn of(time: Duration) -> Self {
        Budget { time, depth: Depth::Long, checkpoint: None }
    }
}

/// How far an exploration goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The first fault of a mutant is enough; only what is explored in seconds.
    Quick,
    /// What runs on every change.
    Ci,
    /// What runs overnight.
    Long,
}

/// One thing to explore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// All scenarios that apply, with this bound on preemptions, or none.
    Scenarios(Option<usize>),
    /// Programs that once were counterexamples to some protocol.
    Regressions(Option<usize>),
    /// A class with this bound on preemptions, or none.
    Class(Class, Option<usize>),
}

fn named(bound: Option<usize>) -> String {
    bound.map_or_else(|| "unbounded".to_owned(), |bound| format!("bound {bound}"))
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Scenarios(bound) => write!(f, "scenarios, {}", named(*bound)),
            Stage::Regressions(bound) => write!(f, "regressions, {}", named(*bound)),
            Stage::Class(class, bound) => write!(f, "class {class}, {}", named(*bound)),
        }
    }
}

/// Programs outside the classes of the short form that have caught a protocol once, with what they caught.
pub const REGRESSIONS: &[&str] = &[
    // A stamp taken over from a lost race, for which the clock had been read before the last write in place was visible (gv4).
    "wx; rx | wy wy | ry",
    // A deferred clock advanced by a reader while a commit that has not seen the advance gives out the same version.
    "wx; rx ry | wy wy",
    // A snapshot kept from a commit: of two threads that each write and then read what the other writes, one must see the other's.
    "wx; ry | wy; rx",
    // A version used again: the second write must not look like the first.
    "wx!; wx | rx rx",
    "wx!; wx! | rx",
    // A field loaded too early on the slow way of a reader: it met the object locked by one who only read it, and the next writer's value.
    "*rx; wx! | ?rx",
    // A sequence given back by one who has not written: whoever finds it must see what was written before.
    "wx wy | *rx | rx ry",
    // A read repeated after a validation, that finds the value of the next commit and not its sequence number (norec).
    "wy; wx wy | rx ry",
];

impl Depth {
    /// What is explored, in order.
    #[must_use]
    pub fn stages(self) -> Vec<Stage> {
        let (one, two, three) = (Class::ONE_ONE, Class::TWO_ONE, Class::ONE_ONE_ONE);
        let kinds = [Kind::Fails, Kind::ReadOnly, Kind::Irrevocable];
        let mut stages = vec![Stage::Class(one, None)];
        stages.extend(kinds.map(|kind| Stage::Class(one.with_one(kind), None)));
        stages.extend([1, 2].map(|bound| Stage::Scenarios(Some(bound))));
        stages.push(Stage::Regressions(Some(1)));
        if self != Depth::Quick {
            stages.extend([Stage::Regressions(Some(2)), Stage::Class(two, Some(1))]);
        }
        if self == Depth::Long {
            stages.extend([Stage::Class(Class::TWO_TWO.up_to(5), None), Stage::Class(three, Some(1))]);
            stages.extend([Stage::Class(two, Some(2)), Stage::Class(two.with_one(Kind::Fails), Some(1))]);
            stages.extend([Stage::Class(two, None), Stage::Class(three, Some(2)), Stage::Scenarios(None)]);
            stages.push(Stage::Class(Class::TWO_TWO, None));
        }
        stages
    }
}

/// What was done of a stage.
#[derive(Clone, Debug)]
pub struct StageReport {
    /// The stage.
    pub stage: Stage,
    /// How many programs or scenarios it has.
    pub programs: usize,
    /// How many of them were explored to the end.
    pub explored: usize,
    /// How many executions that took.
    pub executions: u64,
    /// How many of them were cut as repetitions.
    pub cut: u64,
    /// How long it took.
    pub time: Duration,
    /// The smallest program that broke the contract.
    pub broken: Option<Box<Counterexample>>,
    /// The places at which faults can be planted.
    pub sites: BTreeSet<Fault>,
}

impl StageReport {
    /// Whether everything was explored and nothing found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.broken.is_none() && self.explored == self.programs
    }
}

impl fmt::Display for StageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StageReport { stage, programs, explored, executions, cut, time, .. } = self;
        write!(f, "{stage}: {explored} of {programs} programs, {executions} executions ({cut} cut as repetitions), ")?;
        write!(f, "{:.1} s", time.as_secs_f64())?;
        match () {
            () if self.broken.is_some() => f.write_str(", BROKEN"),
            () if explored < programs => f.write_str(", NOT FINISHED"),
            () => f.write_str(", clean"),
        }
    }
}

/// Explores a stage of `P` on all cores, with a fault planted or not, from its `from`-th program on.
#[must_use]
pub fn explore_stage<P: Protocol<Loom>>(
    stage: &Stage,
    deadline: Option<Instant>,
    fault: Option<Fault>,
    from: usize,
) -> StageReport {
    let limits = |bound: Option<usize>| Limits { bound, deadline, ..Limits::default() };
    match stage {
        Stage::Scenarios(bound) => {
            let all = scenarios::<P>();
            run_all(stage, all.len(), fault, from, |index| all[index].explore(limits(*bound)))
        }
        Stage::Regressions(bound) => {
            let parse = |text: &&str| text.parse::<Program>().expect("the table holds programs");
            let programs: Vec<Program> = REGRESSIONS.iter().map(parse).collect();
            run_all(stage, programs.len(), fault, from, |index| explore::<P>(&programs[index], limits(*bound)))
        }
        Stage::Class(class, bound) => {
            let programs = class.programs();
            run_all(stage, programs.len(), fault, from, |index| explore::<P>(&programs[index], limits(*bound)))
        }
    }
}

/// Runs `count` explorations on all cores, in order, until one finds something.
fn run_all(
    stage: &Stage,
    count: usize,
    fault: Option<Fault>,
    from: usize,
    explore: impl Fn(usize) -> Exploration + Sync,
) -> StageReport {
    let start = Instant::now();
    let next = AtomicUsize::new(from);
    let (executions, cut) = (AtomicU64::new(0), AtomicU64::new(0));
    let stopped = AtomicBool::new(false);
    let done = Mutex::new(vec![false; count]);
    let broken: Mutex<BTreeMap<usize, Box<Counterexample>>> = Mutex::default();
    let sites: Mutex<BTreeSet<Fault>> = Mutex::default();
    done.lock().expect("no panic")[..from].fill(true);
    let work = || {
        plant(fault, || {
            let ((), noted) = note_sites(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count || stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let exploration = explore(index);
                    executions.fetch_add(exploration.executions, Ordering::Relaxed);
                    cut.fetch_add(exploration.cut, Ordering::Relaxed);
                    match exploration.outcome {
                        Outcome::Clean => done.lock().expect("no panic")[index] = true,
                        Outcome::Capped => stopped.store(true, Ordering::Relaxed),
                        Outcome::Broken(counterexample) => {
                            broken.lock().expect("no panic").insert(index, counterexample);
                            stopped.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
            sites.lock().expect("no panic").extend(noted);
        });
    };
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(2, usize::from).min(count) {
            scope.spawn(work);
        }
        work();
    });
    let done = done.into_inner().expect("no panic");
    StageReport {
        stage: stage.clone(),
        programs: count,
        explored: done.iter().take_while(|done| **done).count(),
        executions: executions.into_inner(),
        cut: cut.into_inner(),
        time: start.elapsed(),
        broken: broken.into_inner().expect("no panic").into_values().next(),
        sites: sites.into_inner().expect("no panic"),
    }
}

/// Notes of what is done, one line for each stage: protocol, fingerprint of its source, stage, programs explored.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    path: Option<PathBuf>,
    done: BTreeMap<String, usize>,
}

impl Checkpoint {
    pub(crate) fn open(path: Option<PathBuf>) -> Self {
        let text = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let line = |line: &str| {
            let (key, count) = line.rsplit_once('\t')?;
            Some((key.to_owned(), count.parse().ok()?))
        };
        Checkpoint { path, done: text.lines().filter_map(line).collect() }
    }

    fn key(protocol: &str, fingerprint: u64, stage: &Stage) -> String {
        format!("{protocol}\t{fingerprint:016x}\t{stage}")
    }

    pub(crate) fn done(&self, protocol: &str, fingerprint: u64, stage: &Stage) -> usize {
        self.done.get(&Self::key(protocol, fingerprint, stage)).copied().unwrap_or(0)
    }

    pub(crate) fn note(
        &mut self,
        protocol: &str,
        fingerprint: u64,
        stage: &Stage,
        count: usize,
    ) -> std::io::Result<()> {
        self.done.insert(Self::key(protocol, fingerprint, stage), count);
        let Some(path) = &self.path else { return Ok(()) };
        let text: String = self.done.iter().map(|(key, count)| format!("{key}\t{count}\n")).collect();
        std::fs::write(path, text)
    }
}
