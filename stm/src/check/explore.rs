//! Runs programs under loom: all interleavings and all legal values, up to a bound on preemptions.
//!
//! Every wait is an abort (the platform cannot wait), so each transaction is tried once and there is no loop without end. An execution
//! fails if no serial order explains it, if a log or a lock is left behind, if the protocol panics, or if it does not come to an end.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::heap::{Heap, Session};
use super::oracle::{self, End, Execution, Seen};
use super::platform::{Loom, MODEL_THREADS, begin_execution, describe_model, enter_model_thread};
use super::program::{Kind, Op, Program, Transaction, name};
use super::sleep;
use crate::attempt::Mode;
use crate::header::Header;
use crate::protocol::Protocol;
use crate::run::Interrupt;

/// Where an exploration must stop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// The number of preemptions in an execution; none for all executions.
    pub bound: Option<usize>,
    /// The number of executions.
    pub executions: Option<u64>,
    /// The time.
    pub deadline: Option<Instant>,
    /// Whether also to run to its end what repeats an earlier execution in another order of independent steps. What comes out is the same; it
    /// is there to check that.
    pub repetitions: bool,
}

impl Limits {
    /// No limit but a bound on preemptions.
    #[must_use]
    pub fn bound(bound: Option<usize>) -> Self {
        Limits { bound, ..Limits::default() }
    }
}

/// How an exploration ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Every execution within the bound was explained.
    Clean,
    /// Stopped by a limit before the end: nothing is concluded.
    Capped,
    /// An execution that breaks the contract.
    Broken(Box<Counterexample>),
}

/// An execution that breaks the contract.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The program, or the name of a scenario.
    pub program: String,
    /// What is wrong.
    pub complaint: String,
    /// The execution in columns.
    pub picture: String,
    /// The bound under which it was found.
    pub bound: Option<usize>,
    /// The number of the execution, for a replay.
    pub execution: u64,
}

impl std::fmt::Display for Counterexample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.complaint)?;
        writeln!(f, "program `{}`, execution {}", self.program, self.execution)?;
        f.write_str(&self.picture)
    }
}

/// What an exploration found and how much it looked at.
#[derive(Clone, Debug)]
pub struct Exploration {
    /// How many executions were run.
    pub executions: u64,
    /// How many of them were cut because they repeat an earlier one in another order of independent steps.
    pub cut: u64,
    /// What the programs' transactions read, how they ended and what they left, hashed, in all executions.
    pub outcomes: HashSet<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a model's execution found wrong.
#[derive(Clone, Debug)]
pub(crate) struct Wrong {
    pub(crate) complaint: String,
    pub(crate) picture: String,
}

/// Ends an exploration from within.
struct Stop;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static CUT: Cell<u64> = const { Cell::new(0) };
    static OUTCOMES: RefCell<HashSet<u64>> = RefCell::default();
    static FOUND: RefCell<Option<Wrong>> = const { RefCell::new(None) };
    static IN_MODEL: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread runs a model; its panics are results and not to be printed.
pub(crate) fn in_model() -> bool {
    IN_MODEL.get()
}

/// Keeps the panics of models from being printed: they are caught and reported.
pub(crate) fn silence_model_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // Shuttle puts its own hook on top of the others when it first runs; this one must be above it.
        shuttle::check_random(|| (), 1);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !in_model() {
                before(info);
            }
        }));
    });
}

/// Runs `f`, whose panics are results.
pub(crate) fn quietly<R>(f: impl FnOnce() -> R) -> R {
    silence_model_panics();
    let before = IN_MODEL.replace(true);
    let result = f();
    IN_MODEL.set(before);
    result
}

/// The text of a panic.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

/// Runs `model` under loom in every way within the limits, until it finds something wrong.
pub(crate) fn model(
    program: &str,
    limits: Limits,
    model: impl Fn() -> Result<(), Wrong> + Send + Sync + 'static,
) -> Exploration {
    silence_model_panics();
    COUNT.set(0);
    CUT.set(0);
    FOUND.set(None);
    sleep::start(limits.bound.is_none() && !limits.repetitions);
    OUTCOMES.take();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = limits.bound;
    builder.max_branches = 5_000;
    builder.max_threads = MODEL_THREADS;
    // Loom stops at these silently; the limits here are our own.
    builder.max_duration = None;
    builder.max_permutations = None;
    let capped = Arc::new(AtomicU64::new(0));
    let is_capped = capped.clone();
    IN_MODEL.set(true);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        builder.check(move || {
            let count = COUNT.get();
            let over = limits.executions.is_some_and(|most| count >= most)
                || (count % 64 == 63 && limits.deadline.is_some_and(|deadline| Instant::now() >= deadline));
            if over {
                is_capped.store(1, Ordering::Relaxed);
                resume_unwind(Box::new(Stop));
            }
            COUNT.set(count + 1);
            begin_execution();
            let outcome = catch_unwind(AssertUnwindSafe(&model));
            // What repeats an earlier execution does not say anything, whatever comes of it.
            if sleep::is_cut() {
                CUT.set(CUT.get() + 1);
                return;
            }
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(wrong)) => {
                    FOUND.set(Some(wrong));
                    resume_unwind(Box::new(Stop));
                }
                Err(payload) => resume_unwind(payload),
            }
        });
    }));
    IN_MODEL.set(false);
    let executions = COUNT.get();
    let cut = CUT.get();
    let found = FOUND.take();
    let broken = |wrong: Wrong| {
        let Wrong { complaint, picture } = wrong;
        let counterexample = Counterexample {
            program: program.to_owned(),
            complaint,
            picture,
            bound: limits.bound,
            execution: executions,
        };
        Outcome::Broken(Box::new(counterexample))
    };
    let outcome = match (ended, found) {
        (_, Some(wrong)) => broken(wrong),
        (Ok(()), None) => Outcome::Clean,
        (Err(_), None) if capped.load(Ordering::Relaxed) == 1 => Outcome::Capped,
        (Err(payload), None) => broken(Wrong { complaint: panic_text(&*payload), picture: String::new() }),
    };
    Exploration { executions, cut, outcomes: OUTCOMES.take(), outcome }
}

/// Explores one program under `P`.
#[must_use]
pub fn explore<P: Protocol<Loom>>(program: &Program, limits: Limits) -> Exploration {
    let text = program.to_string();
    let program = program.clone();
    model(&text, limits, move || execute::<P>(&program))
}

/// The steps of an execution, for its picture.
type Steps = Arc<AtomicU64>;

/// What a thread brings back: its session, unless it panicked, and what it saw.
type Returned<P> = (Session<Loom, P>, Vec<Seen>, Option<String>);

/// One execution of a program within a model.
fn execute<P: Protocol<Loom>>(program: &Program) -> Result<(), Wrong> {
    describe_model(program.threads.len(), false);
    let heap = Heap::<Loom>::new(program.objects().max(1));
    let steps: Steps = Arc::default();
    let mut sessions: Vec<Session<Loom, P>> = program.threads.iter().map(|_| Session::new(&heap)).collect();
    let mut others = Vec::new();
    for (index, thread) in program.threads.iter().enumerate().skip(1).rev() {
        let (session, thread, steps) = (sessions.pop().expect("one per thread"), thread.clone(), steps.clone());
        others.push(loom::thread::spawn(move || {
            enter_model_thread(index);
            run_thread(session, index, &thread, &steps)
        }));
    }
    let own = run_thread(sessions.pop().expect("one per thread"), 0, &program.threads[0], &steps);
    let mut returned: Vec<Returned<P>> = vec![own];
    // Joining a model's thread fails only if it panicked, and those panics are caught within.
    returned.extend(others.into_iter().rev().map(|other| other.join().expect("panics are caught")));
    let mut transactions = Vec::new();
    let mut sessions = Vec::new();
    let mut complaint = None;
    for (session, seen, wrong) in returned {
        transactions.extend(seen);
        if complaint.is_some() || wrong.is_some() {
            // Its locks and logs may be in any state, which its destructor would trip over.
            std::mem::forget(session);
        } else {
            sessions.push(session);
        }
        complaint = complaint.or(wrong);
    }
    let mut execution = Execution { transactions, last: vec![0; heap.len()] };
    if complaint.is_none() {
        complaint = aftermath(program, &heap, &mut sessions[0], &mut execution);
    }
    let Some(complaint) = complaint else { return Ok(()) };
    sessions.into_iter().for_each(std::mem::forget);
    Err(Wrong { complaint, picture: picture(program, &execution) })
}

/// Looks at what the transactions have left behind, once they are over.
fn aftermath<P: Protocol<Loom>>(
    program: &Program,
    heap: &Heap<Loom>,
    session: &mut Session<Loom, P>,
    execution: &mut Execution,
) -> Option<String> {
    for object in 0..heap.len() {
        let header = Header(heap.header(object));
        if header.is_locked() {
            return Some(format!("{} is still locked after all transactions have ended", name(object as u8)));
        }
        let clock = crate::atomics::Word::load(&*heap.domain().clock, Ordering::Relaxed);
        if header.0 > clock + 1 {
            return Some(format!("{} has version {}, but the clock is only at {clock}", name(object as u8), header.0));
        }
    }
    match read_alone(session, heap.len()) {
        Some(last) => {
            execution.last = last;
            if !sleep::is_cut() {
                note_outcome(execution);
            }
        }
        None => return Some("a transaction that runs alone afterwards cannot commit".to_owned()),
    }
    if oracle::is_explained(program, execution) {
        return None;
    }
    let blamed = oracle::blame(program, execution);
    Some(if blamed.is_empty() {
        "no serial order explains the reads and the final state".to_owned()
    } else {
        let blamed: Vec<String> = blamed.iter().map(|(t, n)| format!("T{}.{}", t + 1, n + 1)).collect();
        format!("no serial order explains the reads of {}", blamed.join(", or those of "))
    })
}

fn note_outcome(execution: &Execution) {
    let mut hasher = DefaultHasher::new();
    execution.last.hash(&mut hasher);
    for Seen { thread, transaction, reads, end, .. } in &execution.transactions {
        (thread, transaction, reads, end).hash(&mut hasher);
    }
    OUTCOMES.with_borrow_mut(|outcomes| outcomes.insert(hasher.finish()));
}

/// Reads all objects in a transaction that nobody disturbs. It may take a few attempts where a first one moves the clock.
fn read_alone<P: Protocol<Loom>>(session: &mut Session<Loom, P>, objects: usize) -> Option<Vec<u64>> {
    (0..4).find_map(|_| {
        session
            .attempt::<_, ()>(Mode::Update, |view| Ok((0..objects).map(|o| view.get(o)).collect::<Result<_, _>>()?))
            .ok()
    })
}

/// Runs the transactions of one thread, each once.
fn run_thread<P: Protocol<Loom>>(
    mut session: Session<Loom, P>,
    thread: usize,
    transactions: &[Transaction],
    steps: &Steps,
) -> Returned<P> {
    let mut all = Vec::new();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        for (index, transaction) in transactions.iter().enumerate() {
            all.push(run_transaction(&mut session, thread, index, transaction, steps));
            if let Some(log) = session.leftovers() {
                return Err(format!("the {log} is not empty after the transaction has ended"));
            }
        }
        Ok(())
    }));
    let complaint = match ended {
        Ok(Ok(())) => None,
        Ok(Err(complaint)) => Some(complaint),
        Err(payload) => Some(format!("the protocol panicked: {}", panic_text(&*payload))),
    };
    (session, all, complaint)
}

fn run_transaction<P: Protocol<Loom>>(
    session: &mut Session<Loom, P>,
    thread: usize,
    index: usize,
    transaction: &Transaction,
    steps: &Steps,
) -> Seen {
    let mut seen = Seen { thread, transaction: index, reads: Vec::new(), steps: Vec::new(), end: End::Committed };
    // Relaxed: a counter of the checker's, which the model does not see.
    let step = || steps.fetch_add(1, Ordering::Relaxed);
    let outcome = session.attempt(transaction.kind.mode(), |view| {
        for (position, op) in transaction.ops.iter().enumerate() {
            match op {
                Op::Read(object) => seen.reads.push(view.get(usize::from(*object))?),
                Op::Write(object) => view.set(usize::from(*object), Program::value(thread, index, position))?,
            }
            seen.steps.push(step());
        }
        if transaction.kind == Kind::Fails { Err(Interrupt::Error(())) } else { Ok(()) }
    });
    seen.steps.push(step());
    seen.end = match outcome {
        Ok(()) => End::Committed,
        Err(Interrupt::Abort(abort)) => End::Aborted(abort),
        Err(Interrupt::Error(())) => End::Failed,
    };
    seen
}

/// The execution with a column for each thread, in the order in which things were done.
fn picture(program: &Program, execution: &Execution) -> String {
    const WIDTH: usize = 30;
    let mut rows: Vec<(u64, usize, String)> = Vec::new();
    for seen in &execution.transactions {
        let ops = &program.threads[seen.thread][seen.transaction].ops;
        let number = format!("T{}.{}", seen.thread + 1, seen.transaction + 1);
        let mut reads = seen.reads.iter();
        for (index, (op, step)) in ops.iter().zip(&seen.steps).enumerate() {
            // The last step is the end.
            if index + 1 == seen.steps.len() {
                break;
            }
            let text = match op {
                Op::Read(object) => format!("read  {} = {}", name(*object), reads.next().copied().unwrap_or_default()),
                Op::Write(object) => {
                    format!("write {} = {}", name(*object), Program::value(seen.thread, seen.transaction, index))
                }
            };
            rows.push((*step, seen.thread, format!("{number} {text}")));
        }
        let end = match seen.end {
            End::Committed => "commits".to_owned(),
            End::Aborted(abort) => format!("aborts ({abort})"),
            End::Failed => "fails, is rolled back".to_owned(),
        };
        rows.push((seen.steps.last().copied().unwrap_or_default(), seen.thread, format!("{number} {end}")));
    }
    rows.sort();
    let mut text = String::new();
    let line = |text: &mut String, cells: &[String]| {
        let mut line = String::new();
        for cell in cells {
            let _ = write!(line, "  {cell:WIDTH$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    let threads = program.threads.len();
    line(&mut text, &(1..=threads).map(|thread| format!("thread {thread}")).collect::<Vec<_>>());
    for (_, thread, cell) in rows {
        let cells: Vec<String> =
            (0..=thread).map(|at| if at == thread { cell.clone() } else { String::new() }).collect();
        line(&mut text, &cells);
    }
    let last = execution.last.iter().enumerate().map(|(object, value)| format!("{} = {value}", name(object as u8)));
    let _ = writeln!(text, "  afterwards {}; at first all were 0", last.collect::<Vec<_>>().join(", "));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::shipped;

    #[test]
    fn what_is_cut_had_nothing_new_to_say() {
        fn explore_both<P: Protocol<Loom>>(text: &str) {
            let program: Program = text.parse().unwrap();
            let all = explore::<P>(&program, Limits { repetitions: true, ..Limits::default() });
            let some = explore::<P>(&program, Limits::default());
            println!("{} {text}: {} executions, {} without repetitions", P::INFO.name, all.executions, some.executions);
            assert!(matches!((&all.outcome, &some.outcome), (Outcome::Clean, Outcome::Clean)), "{text}");
            assert_eq!(all.outcomes, some.outcomes, "{text}");
            assert!(some.cut > 0 && some.executions < all.executions, "{text}");
        }
        for text in ["rx wx | wx", "wx wy | rx ry", "rx wy | ry wx", "wx; wy | ry"] {
            explore_both::<shipped::Eager>(text);
        }
        for text in ["rx wx | wx", "wx ry | rx"] {
            explore_both::<shipped::Norec>(text);
            explore_both::<shipped::EagerDeferred>(text);
        }
        explore_both::<shipped::Tl2>("wx ry | rx");
    }
}
