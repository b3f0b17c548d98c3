//! Faults at every step: what a transaction does when its body is aborted, fails, panics, runs out of memory or is held up anywhere.
//!
//! A *program* is made from a seed: two threads that move amounts between boxed accounts and add them up. It has *steps*: before and after each
//! access, within a nested part, at the end of the body. Each [`Injected`] fault is planted at each step in turn, in an execution of its own
//! under a random schedule (shuttle; its threads also change places at every access to shared memory). Afterwards
//!
//! - the amounts add up, and exactly the transactions that were reported as committed have taken effect;
//! - no object is locked, no log holds an entry, no token is taken, nobody waits, and no slot says that a transaction runs;
//! - the same thread's next transaction commits;
//! - every value is alive if an object holds it and freed if not.
//!
//! Everything follows from the [`Case`], which is printed with what was wrong: [`replay`] runs it again.
//!
//! *Running out of memory* means here that an allocation which the body knows how to ask for (`try_reserve`) is refused. An allocation that
//! cannot be refused, such as that of a `Box` or of a transaction's own logs, ends the process: that is so in all of stable Rust.
#![expect(unsafe_code, reason = "frees the values of the programs, which are entries of a table")]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::str::FromStr;
use std::sync::Arc;

use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use super::explore::{panic_text, quietly};
use super::heap::{Heap, Session, View};
use super::platform::Shuttle;
use super::recorder::Random;
use crate::Abort;
use crate::attempt::Mode;
use crate::domain::IDLE;
use crate::header::Header;
use crate::protocol::Protocol;
use crate::reclaim;
use crate::run::Interrupt;

macro_rules! injected {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
        /// What goes wrong at a step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Injected {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Injected {
            /// All of them.
            pub const ALL: &'static [Injected] = &[$(Injected::$name),+];

            fn name(self) -> &'static str {
                match self { $(Injected::$name => $text,)+ }
            }
        }
    };
}

injected! {
    /// The attempt aborts.
    Abort = "abort";
    /// The attempt aborts and asks to be run irrevocably.
    Escalate = "escalate";
    /// The body fails with an error of its own.
    Error = "error";
    /// The body panics.
    Panic = "panic";
    /// An allocation is refused, and the body fails for it.
    NoMemory = "no-memory";
    /// The thread gives way once.
    Yield = "yield";
    /// The thread is held up for as long as the others have something to do.
    Stall = "stall";
    /// The destructor of a value made or replaced from now on panics.
    Destructor = "destructor";
    /// A hook panics, whether the transaction commits or not.
    Hook = "hook";
}

/// One fault in one execution of one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// The seed of the program and of the schedule.
    pub seed: u64,
    /// The thread.
    pub thread: usize,
    /// The step of the thread, from 0.
    pub step: usize,
    /// What goes wrong there.
    pub fault: Injected,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.seed, self.thread, self.step, self.fault.name())
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no case; expected seed/thread/step/fault such as 17/0/4/panic");
        let [seed, thread, step, fault] = text.split('/').collect::<Vec<_>>()[..] else { return Err(wrong()) };
        let fault = Injected::ALL.iter().copied().find(|injected| injected.name() == fault).ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        Ok(Case { seed: number(seed)?, thread: number(thread)? as usize, step: number(step)? as usize, fault })
    }
}

const THREADS: usize = 2;
const ACCOUNTS: usize = 3;
const START: u64 = 5;
/// Transactions of each thread, and one more after the fault.
const TRANSACTIONS: usize = 2;

/// The boxed values of an execution.
#[derive(Default)]
struct Boxes {
    /// The amount in each, until it is freed.
    amounts: Vec<Option<u64>>,
    /// The next one freed has a destructor that panics.
    panics: bool,
}

thread_local! {
    // Shuttle runs all threads of an execution on one.
    static BOXES: RefCell<Boxes> = RefCell::default();
    /// Whether a hook of each thread's transaction was told of its commit.
    static COMMITTED: [Cell<bool>; THREADS] = const { [const { Cell::new(false) }; THREADS] };
}

fn born(amount: u64) -> u64 {
    BOXES.with_borrow_mut(|boxes| {
        boxes.amounts.push(Some(amount));
        boxes.amounts.len() as u64 - 1
    })
}

fn follow(word: u64) -> u64 {
    BOXES.with_borrow(|boxes| boxes.amounts[word as usize].expect("a transaction follows a value that is freed"))
}

unsafe fn free(word: u64) {
    let panics = BOXES.with_borrow_mut(|boxes| {
        assert!(boxes.amounts[word as usize].take().is_some(), "a value is freed twice");
        std::mem::take(&mut boxes.panics)
    });
    if panics {
        resume_unwind(Box::new(Planted));
    }
}

/// What planted panics carry.
struct Planted;

/// Why a body failed.
struct Failed;

/// Counts the steps of a thread, and lets the fault happen at its own.
struct Steps {
    next: usize,
    fault: Option<(usize, Injected)>,
    happened: bool,
}

impl Steps {
    fn step(&mut self, view: &mut View<'_, Shuttle, impl Protocol<Shuttle>>) -> Result<(), Interrupt<Failed>> {
        let this = self.next;
        self.next += 1;
        let Some((_, fault)) = self.fault.take_if(|(step, _)| *step == this) else { return Ok(()) };
        self.happened = true;
        match fault {
            Injected::Abort => return Err(Interrupt::Abort(Abort::Chaos)),
            Injected::Escalate => return Err(Interrupt::Abort(Abort::Irrevocable)),
            Injected::Error => return Err(Interrupt::Error(Failed)),
            Injected::Panic => resume_unwind(Box::new(Planted)),
            Injected::NoMemory => {
                // More than there is: the allocator says so.
                if Vec::<u8>::new().try_reserve_exact(isize::MAX as usize).is_err() {
                    return Err(Interrupt::Error(Failed));
                }
            }
            Injected::Yield => shuttle::thread::yield_now(),
            Injected::Stall => (0..300).for_each(|_| shuttle::thread::yield_now()),
            Injected::Destructor => BOXES.with_borrow_mut(|boxes| boxes.panics = true),
            Injected::Hook => {
                view.descriptor().add_commit_hook(Box::new(|| resume_unwind(Box::new(Planted))));
                view.descriptor().add_abort_hook(Box::new(|| resume_unwind(Box::new(Planted))));
            }
        }
        Ok(())
    }
}

/// One transaction of a program.
#[derive(Clone, Copy, Debug)]
enum Task {
    /// Moves one from an account to another, the second half in a nested part that is undone at first if it says so.
    Move { from: usize, to: usize, twice: bool, mode: Mode },
    /// Adds the accounts up.
    Sum { mode: Mode },
}

impl Task {
    fn random(random: &mut Random) -> Self {
        let irrevocable = random.below(8) == 0;
        if random.below(4) == 0 {
            let mode = if random.below(2) == 0 { Mode::ReadOnly } else { Mode::Update };
            return Task::Sum { mode };
        }
        let from = random.below(ACCOUNTS as u64) as usize;
        let to = (from + 1 + random.below(ACCOUNTS as u64 - 1) as usize) % ACCOUNTS;
        let mode = if irrevocable { Mode::Irrevocable } else { Mode::Update };
        Task::Move { from, to, twice: random.below(2) == 0, mode }
    }

    fn mode(self) -> Mode {
        match self {
            Task::Move { mode, .. } | Task::Sum { mode } => mode,
        }
    }

    /// One attempt of `thread`, which also tells a hook of its commit, and counts itself in an object of the thread's own.
    fn attempt<P: Protocol<Shuttle>>(
        self,
        view: &mut View<'_, Shuttle, P>,
        thread: usize,
        steps: &mut Steps,
    ) -> Result<(), Interrupt<Failed>> {
        view.descriptor().add_commit_hook(Box::new(move || COMMITTED.with(|all| all[thread].set(true))));
        steps.step(view)?;
        match self {
            Task::Sum { .. } => {
                let mut sum = 0;
                for account in 0..ACCOUNTS {
                    sum += follow(view.get(account)?);
                    steps.step(view)?;
                }
                assert!(!P::INFO.opaque || sum == START * ACCOUNTS as u64, "a body has seen a sum of {sum}");
            }
            Task::Move { from, to, twice, .. } => {
                let left = follow(view.get(from)?).checked_sub(1);
                steps.step(view)?;
                if let Some(left) = left {
                    view.set_owned(from, born(left), free)?;
                    steps.step(view)?;
                    Self::deposit(view, to, twice, steps)?;
                }
            }
        }
        if self.mode() != Mode::ReadOnly {
            let count = view.get(ACCOUNTS + thread)?;
            view.set(ACCOUNTS + thread, count + 1)?;
            steps.step(view)?;
        }
        Ok(())
    }

    fn deposit<P: Protocol<Shuttle>>(
        view: &mut View<'_, Shuttle, P>,
        to: usize,
        twice: bool,
        steps: &mut Steps,
    ) -> Result<(), Interrupt<Failed>> {
        for last in [!twice, true] {
            let savepoint = view.savepoint();
            let before = follow(view.get(to)?);
            steps.step(view)?;
            view.set_owned(to, born(before + 1), free)?;
            steps.step(view)?;
            if last {
                break;
            }
            view.roll_back_to(savepoint);
            steps.step(view)?;
        }
        Ok(())
    }
}

/// What a thread brings back.
struct Returned<P: Protocol<Shuttle>> {
    session: Session<Shuttle, P>,
    /// Its transactions that took effect, by what was reported of them.
    counted: u64,
    steps: usize,
    happened: bool,
}

/// Runs a thread's transactions, and one more to see that it can.
fn run_thread<P: Protocol<Shuttle>>(
    mut session: Session<Shuttle, P>,
    thread: usize,
    tasks: &[Task],
    fault: Option<(usize, Injected)>,
) -> Returned<P> {
    let mut steps = Steps { next: 0, fault, happened: false };
    let mut counted = 0;
    let last = Task::Move { from: thread, to: thread + 1, twice: true, mode: Mode::Update };
    let mut no_steps = Steps { next: 0, fault: None, happened: false };
    for (index, task) in tasks.iter().copied().chain([last]).enumerate() {
        let steps = if index < tasks.len() { &mut steps } else { &mut no_steps };
        COMMITTED.with(|all| all[thread].set(false));
        let outcome =
            catch_unwind(AssertUnwindSafe(|| session.run(task.mode(), |view| task.attempt(view, thread, steps))));
        let committed = match outcome {
            Ok(Ok(())) => true,
            Ok(Err(Failed)) => false,
            // The panic of a hook comes after the transaction.
            Err(payload) if payload.is::<Planted>() => COMMITTED.with(|all| all[thread].get()),
            Err(payload) => resume_unwind(payload),
        };
        assert!(committed || index < tasks.len(), "the transaction after the fault does not commit");
        if let Some(log) = session.leftovers() {
            panic!("the {log} is not empty after the transaction has ended");
        }
        assert!(!session.attempt_mut().is_running(), "the slot of a thread without a transaction says that one runs");
        counted += u64::from(committed && task.mode() != Mode::ReadOnly);
    }
    Returned { session, counted, steps: steps.next, happened: steps.happened }
}

/// One execution: how many steps each thread has taken, and whether the fault has happened.
fn execute<P: Protocol<Shuttle>>(seed: u64, fault: Option<(usize, usize, Injected)>) -> ([usize; THREADS], bool) {
    let mut random = Random::new(seed + 1);
    let tasks: [[Task; TRANSACTIONS]; THREADS] =
        [[(); TRANSACTIONS]; THREADS].map(|each| each.map(|()| Task::random(&mut random)));
    BOXES.set(Boxes::default());
    let heap = Heap::<Shuttle>::new(ACCOUNTS + THREADS);
    (0..ACCOUNTS).for_each(|account| heap.poke(account, born(START)));
    let planted = |index: usize| fault.filter(|(thread, ..)| *thread == index).map(|(_, step, fault)| (step, fault));
    let [own, other] = [(); THREADS].map(|()| Session::<Shuttle, P>::new(&heap));
    let (others, fault) = (tasks[1], planted(1));
    let thread = shuttle::thread::spawn(move || run_thread(other, 1, &others, fault));
    let first = run_thread(own, 0, &tasks[0], planted(0));
    let second = thread.join().expect("a panic ends the whole execution");
    let (steps, happened) = ([first.steps, second.steps], first.happened || second.happened);
    aftermath(&heap, [first, second]);
    (steps, happened)
}

/// Looks at what is left once all transactions are over.
fn aftermath<P: Protocol<Shuttle>>(heap: &Arc<Heap<Shuttle>>, returned: [Returned<P>; THREADS]) {
    let clock = crate::atomics::Word::load(&*heap.domain().clock, std::sync::atomic::Ordering::Relaxed);
    for object in 0..heap.len() {
        let header = Header(heap.header(object));
        assert!(!header.is_locked(), "object {object} is still locked");
        assert!(header.0 <= clock + 1, "object {object} has version {}, but the clock is only at {clock}", header.0);
    }
    assert!(!heap.domain().token_is_taken(), "the token is still taken");
    assert!(!heap.domain().watchers.any(), "somebody is still registered as waiting");
    assert_eq!(heap.domain().oldest_active(), IDLE, "a slot says that a transaction runs");
    let held: Vec<u64> = (0..ACCOUNTS).map(|account| heap.peek(account)).collect();
    let sum: u64 = held.iter().map(|word| follow(*word)).sum();
    assert_eq!(sum, START * ACCOUNTS as u64, "the sum afterwards");
    for (thread, Returned { mut session, counted, .. }) in returned.into_iter().enumerate() {
        assert_eq!(heap.peek(ACCOUNTS + thread), counted, "what thread {thread} was told that it has committed");
        BOXES.with_borrow_mut(|boxes| boxes.panics = false);
        // The second round frees what the first has left because the clock had not moved on.
        (0..2).for_each(|_| reclaim::collect(session.attempt_mut()));
    }
    BOXES.with_borrow(|boxes| {
        let live = |word: &usize| boxes.amounts[*word].is_some();
        let leaked = (0..boxes.amounts.len()).filter(live).find(|word| !held.contains(&(*word as u64)));
        assert_eq!(leaked, None, "a value that no object holds was not freed");
    });
}

/// Runs one program once under shuttle.
fn run<P: Protocol<Shuttle>>(
    seed: u64,
    fault: Option<(usize, usize, Injected)>,
) -> Result<([usize; THREADS], bool), String> {
    let result = Arc::new(std::sync::Mutex::new(([0; THREADS], false)));
    let returned = result.clone();
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(1_000_000);
    config.silence_warnings = true;
    // A schedule of its own for each fault.
    let schedule = fault
        .map_or(0, |(thread, step, fault)| 1 + ((thread * 1000 + step) * Injected::ALL.len() + fault as usize) as u64);
    let scheduler = RandomScheduler::new_from_seed(seed << 20 | schedule, 1);
    let outcome = quietly(|| {
        catch_unwind(AssertUnwindSafe(|| {
            Runner::new(scheduler, config)
                .run(move || *result.lock().expect("no panic while locked") = execute::<P>(seed, fault));
        }))
    });
    match outcome {
        Ok(()) => Ok(*returned.lock().expect("no panic while locked")),
        Err(payload) => Err(panic_text(&*payload)),
    }
}

/// Plants faults at every step of one program after the other, until so many have happened. Returns how many have.
///
/// # Errors
/// What was wrong after a fault, with its [`Case`].
pub fn inject<P: Protocol<Shuttle>>(
    faults: u64,
    mut seed: u64,
    deadline: Option<std::time::Instant>,
) -> (u64, Result<(), String>) {
    let mut happened = 0;
    let is_over = || deadline.is_some_and(|deadline| std::time::Instant::now() >= deadline);
    while happened < faults && !is_over() {
        let steps = match run::<P>(seed, None) {
            Ok((steps, _)) => steps,
            Err(complaint) => return (happened, Err(format!("{complaint} (program {seed}, without a fault)"))),
        };
        for (thread, count) in steps.into_iter().enumerate() {
            for step in 0..count {
                for &fault in Injected::ALL {
                    let case = Case { seed, thread, step, fault };
                    match replay::<P>(case) {
                        Ok(this) => happened += u64::from(this),
                        Err(complaint) => return (happened, Err(format!("{complaint} (case {case})"))),
                    }
                }
            }
        }
        seed += 1;
    }
    (happened, Ok(()))
}

/// Runs one case again; says whether the fault has happened, which is not certain where it needs a particular schedule.
///
/// # Errors
/// What was wrong afterwards.
pub fn replay<P: Protocol<Shuttle>>(case: Case) -> Result<bool, String> {
    let Case { seed, thread, step, fault } = case;
    run::<P>(seed, Some((thread, step, fault))).map(|(_, happened)| happened)
}
