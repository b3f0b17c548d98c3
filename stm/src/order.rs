//! Many transactions with the outcome of running them one after the other: speculation in a fixed order, and when not to speculate.
//!
//! 1. Positions are handed out in their order. A position runs ahead of its turn on committed state, waits for its turn at the end of its
//!    body, and commits then, validated once; if that fails it runs a second time, in its turn, and cannot fail. What it would
//!    write is marked meanwhile, so that later positions wait for it and do not speculate in vain ([`ordered`](crate::protocol::ordered)).
//! 2. What a body does ahead of its turn other than reach its end (abort, panic) does not count: it runs again in its turn.
//! 3. The work is cut into *epochs*, each either speculative, on all threads, or one by one, on the thread that has just committed the
//!    last position, while the others sleep. Each is timed, and the next one is of the kind that took less time for a position. So
//!    conflicts are not asked about but what they cost, and so do bodies count that are too short to be handed to another processor.
//!    An epoch that nobody has joined in time says nothing; it is followed by another of its kind.
//! 4. While one by one is faster, speculation is tried for a few positions now and then, ever less often. While speculation is faster
//!    nothing is tried: it is compared with the last time measured.
//! 5. The first epoch runs one by one, before any thread is started. If what is left would take no longer than starting threads, none is.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use parking_lot::{Condvar, Mutex};

use crate::abort::Abort;
use crate::atomics::Native;
use crate::attempt::{Attempt, Mode};
use crate::protocol::{Kind, Ordered};
use crate::run::{Body, Interrupt};
use crate::runtime;
use crate::tx::{Result, Tx};

/// What [`in_order`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// Positions, each committed once.
    pub positions: u64,
    /// How often a body ran, to its end or not.
    pub executions: u64,
    /// How often reads were validated: at a commit, or because a snapshot was moved.
    pub validations: u64,
    /// How many positions ran one by one.
    pub one_by_one: u64,
}

impl Executed {
    fn add(&mut self, other: Executed) {
        self.positions += other.positions;
        self.executions += other.executions;
        self.validations += other.validations;
        self.one_by_one += other.one_by_one;
    }
}

/// Runs `body` once for each of the positions from 0 to `count - 1`, each as a transaction, on up to `threads` threads. The outcome, the
/// results included, is that of running them one after the other.
///
/// A counter that every position adds to should be a [`TCounter`](crate::collections::TCounter), whose additions do not conflict.
/// Transactions that others run meanwhile fall in between anywhere.
///
/// The setting is that of Gelashvili et al., "Block-STM" (PPoPP 2023).
///
/// # Panics
/// Within a transaction, and as [`lease`](runtime::lease), since the protocol is [`ordered`](crate::protocol::ordered) meanwhile. If the
/// body panics in a position's turn: the positions before it have then been committed, and none after it.
///
/// # Abort safety
/// The body may run twice for a position.
///
/// ```
/// use optimist_stm::{TVar, order::in_order};
///
/// let log = TVar::new(Vec::new());
/// let (lengths, done) = in_order(2, 100, |tx, position| {
///     log.modify(tx, |log| [log.as_slice(), &[position]].concat())?;
///     log.with(tx, Vec::len)
/// });
/// assert!(log.load().into_iter().eq(0..100));
/// assert!(lengths.into_iter().eq(1..=100));
/// assert_eq!(done.positions, 100);
/// ```
pub fn in_order<R: Send>(
    threads: usize,
    count: u64,
    body: impl Fn(&mut Tx<'_, Ordered>, u64) -> Result<R> + Sync,
) -> (Vec<R>, Executed) {
    /// The turn is the domain's, so one order runs at a time.
    static ONE: Mutex<()> = Mutex::new(());
    assert!(!runtime::in_transaction(), "an order within a transaction");
    let _one = ONE.lock();
    let _lease = runtime::lease(Kind::Ordered);
    runtime::domain().start_order();
    let run = Run {
        body,
        count,
        next: CachePadded::new(AtomicU64::new(0)),
        end: CachePadded::new(AtomicU64::new(0)),
        untimed: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
        panicked: Mutex::new(None),
        plan: Mutex::new(Plan::default()),
        changed: Condvar::new(),
    };
    let mut first = Worker::new(&run);
    let begun = Instant::now();
    let at = first.one_by_one(0, BASELINE.min(count));
    let took = begun.elapsed();
    let left = took.mul_f64((count - at) as f64 / at.max(1) as f64);
    let others = if left < WORTH_A_THREAD { 0 } else { threads.saturating_sub(1) };
    if others == 0 {
        first.one_by_one(at, count);
    } else {
        run.plan.lock().measure(Way::OneByOne, at, took);
    }
    let mut done = std::thread::scope(|scope| {
        let start = |_| {
            scope.spawn(|| {
                let mut worker = Worker::new(&run);
                worker.work();
                worker.finish()
            })
        };
        let others: Vec<_> = (0..others).map(start).collect();
        if !others.is_empty() {
            first.lead(at);
            first.work();
        }
        let mut done = vec![first.finish()];
        done.extend(others.into_iter().map(|other| other.join().expect("a worker catches panics")));
        done
    });
    if let Some(payload) = run.panicked.into_inner() {
        resume_unwind(payload);
    }
    let mut executed = Executed::default();
    let mut results: Vec<(u64, R)> = Vec::with_capacity(count as usize);
    for (more, counts) in &mut done {
        results.append(more);
        executed.add(*counts);
    }
    results.sort_unstable_by_key(|(position, _)| *position);
    debug_assert!(results.iter().map(|(position, _)| *position).eq(0..count));
    (results.into_iter().map(|(_, result)| result).collect(), executed)
}

/// How many positions run one by one at first.
const BASELINE: u64 = 16;
/// How many positions a first speculative epoch has, and one that is a trial.
const TRIAL: u64 = 24;
/// How many positions of an epoch must have been run by several threads for it to say anything.
const TELLING: u64 = 8;
/// How many positions an epoch has at most, so that a change is noticed.
const LONGEST: u64 = 1024;
/// How many positions run one by one between two trials, at first and at most.
const REST: (u64, u64) = (512, 1 << 14);
/// Below this it is not worth starting a thread, which takes some tens of microseconds.
const WORTH_A_THREAD: Duration = Duration::from_micros(200);
/// By how much the other way must be faster, so that noise does not decide.
const HYSTERESIS: f64 = 1.03;

/// A way to run an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    /// Every position in its turn, on one thread.
    #[default]
    OneByOne,
    /// Ahead of the turn, on all threads.
    Speculative,
}

/// What is known about the epochs so far.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    /// Nanoseconds for a position, by way.
    cost: [f64; 2],
    way: Way,
    /// How many positions the present epoch has.
    length: u64,
    /// Since when it is timed, and how many positions were left then.
    begun: Option<Instant>,
    timed: u64,
    /// How many positions to run one by one until the next trial.
    rest: u64,
}

impl Plan {
    fn measure(&mut self, way: Way, positions: u64, took: Duration) {
        self.cost[way as usize] = took.as_nanos() as f64 / positions.max(1) as f64;
    }

    /// Decides on the next epoch. The present one is over.
    fn advance(&mut self, now: Instant) {
        let telling = self.way == Way::OneByOne || self.timed >= TELLING;
        if telling && let Some(begun) = self.begun {
            self.measure(self.way, self.timed, now - begun);
        }
        let [alone, ahead] = self.cost;
        (self.way, self.length) = match self.way {
            // The first epoch has been one by one, or the rest is over: a trial.
            Way::OneByOne => (Way::Speculative, TRIAL),
            Way::Speculative if !telling => (Way::Speculative, self.length),
            Way::Speculative if ahead <= alone * HYSTERESIS => {
                self.rest = 0;
                (Way::Speculative, (self.length * 2).min(LONGEST))
            }
            // The next trial is longer off.
            Way::Speculative => {
                self.rest = (self.rest * 2).clamp(REST.0, REST.1);
                (Way::OneByOne, self.rest)
            }
        };
        self.begin(now, self.length);
    }

    /// The present epoch is timed from now on, with so many positions left.
    fn begin(&mut self, now: Instant, left: u64) {
        (self.begun, self.timed) = (Some(now), left);
    }
}

struct Run<F> {
    body: F,
    count: u64,
    /// The next position to be handed out.
    next: CachePadded<AtomicU64>,
    /// The end of the present speculative epoch.
    end: CachePadded<AtomicU64>,
    /// The present epoch has only been claimed from by whoever has opened it: others are still asleep, and their waking up must not count
    /// against the epoch.
    untimed: AtomicBool,
    /// A position has panicked in its turn.
    stopped: AtomicBool,
    panicked: Mutex<Option<Box<dyn Any + Send>>>,
    plan: Mutex<Plan>,
    changed: Condvar,
}

impl<F> Run<F> {
    /// Whether nothing is left once all before `position` are done.
    fn is_over(&self, position: u64) -> bool {
        // Relaxed: whoever stops the run passes the turn on afterwards, or holds the lock of the plan.
        position >= self.count || self.stopped.load(Ordering::Relaxed)
    }

    /// The next position of the speculative epoch. Waits for that to begin; none if there will be no more.
    fn claim(&self, opener: &mut bool) -> Option<u64> {
        loop {
            // Positions are claimed in their order, so nobody waits for the turn of one that is not claimed any more.
            if self.is_over(0) {
                return None;
            }
            // Acquire pairs with the release in `lead`: `next` is the epoch's.
            let end = self.end.load(Ordering::Acquire);
            if self.next.load(Ordering::Relaxed) < end {
                // Relaxed: a position is nothing but a number. One beyond the end is given back by being ignored.
                let position = self.next.fetch_add(1, Ordering::Relaxed);
                if position < end {
                    if !*opener && self.untimed.load(Ordering::Relaxed) {
                        self.join(end, position);
                    }
                    return Some(position);
                }
            }
            *opener = false;
            if self.is_over(end) {
                return None;
            }
            let mut plan = self.plan.lock();
            if self.end.load(Ordering::Relaxed) == end && !self.is_over(end) {
                self.changed.wait(&mut plan);
            }
        }
    }

    /// Another than the opener has come to the epoch that ends at `end`: from here on it is timed.
    #[cold]
    fn join(&self, end: u64, position: u64) {
        let mut plan = self.plan.lock();
        // Relaxed: all are changed under the lock.
        if self.end.load(Ordering::Relaxed) == end && self.untimed.swap(false, Ordering::Relaxed) {
            plan.begin(Instant::now(), end - position);
        }
    }
}

struct Worker<'a, F, R> {
    run: &'a Run<F>,
    results: Vec<(u64, R)>,
    counts: Executed,
    validations: u64,
    /// Whether it has opened the present epoch.
    opener: bool,
}

impl<'a, R: Send, F: Fn(&mut Tx<'_, Ordered>, u64) -> Result<R> + Sync> Worker<'a, F, R> {
    fn new(run: &'a Run<F>) -> Self {
        Worker { run, results: Vec::new(), counts: Executed::default(), validations: validations(), opener: false }
    }

    fn finish(mut self) -> (Vec<(u64, R)>, Executed) {
        self.counts.validations = validations() - self.validations;
        (self.results, self.counts)
    }

    /// Runs positions ahead of their turn while there are any.
    fn work(&mut self) {
        while let Some(position) = self.run.claim(&mut self.opener) {
            let last = position + 1 == self.run.end.load(Ordering::Relaxed);
            self.execute(position, false);
            if last {
                self.lead(position + 1);
            }
        }
    }

    /// Having had the last turn of an epoch: decides on the next one. Those that are to run one by one run here.
    fn lead(&mut self, mut at: u64) {
        loop {
            let mut plan = self.run.plan.lock();
            if self.run.is_over(at) {
                self.run.end.store(self.run.count, Ordering::Relaxed);
                self.run.next.store(self.run.count, Ordering::Relaxed);
                self.run.changed.notify_all();
                return;
            }
            // Nobody has joined. Relaxed: as in `join`.
            if plan.way == Way::Speculative && self.run.untimed.load(Ordering::Relaxed) {
                plan.timed = 0;
            }
            plan.advance(Instant::now());
            plan.length = plan.length.min(self.run.count - at);
            plan.timed = plan.length;
            let end = at + plan.length;
            if plan.way == Way::Speculative {
                self.opener = true;
                self.run.untimed.store(true, Ordering::Relaxed);
                self.run.next.store(at, Ordering::Relaxed);
                // Release pairs with the acquire in `claim`.
                self.run.end.store(end, Ordering::Release);
                self.run.changed.notify_all();
                return;
            }
            drop(plan);
            at = self.one_by_one(at, end);
        }
    }

    /// Runs positions in their turns, and says how far it has come.
    fn one_by_one(&mut self, from: u64, to: u64) -> u64 {
        for position in from..to {
            if self.run.is_over(position) {
                return position;
            }
            self.execute(position, true);
            self.counts.one_by_one += 1;
        }
        to
    }

    fn execute(&mut self, position: u64, in_turn: bool) {
        let mut execution = Execution { run: self.run, position, in_turn, executions: 0 };
        let outcome = loop {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                runtime::execute_with_body::<Ordered, R, Stopped>(Mode::Update, &mut execution)
            }));
            if outcome.is_err() && !execution.in_turn {
                // Rule 2.
                execution.await_turn();
                continue;
            }
            break outcome;
        };
        self.counts.executions += execution.executions;
        match outcome {
            Ok(Ok(result)) => {
                self.counts.positions += 1;
                self.results.push((position, result));
            }
            Ok(Err(Stopped)) => runtime::domain().pass_turn(position),
            Err(payload) => {
                // A panic of a hook comes after the commit, which has passed the turn on.
                let mut first = self.run.panicked.lock();
                first.get_or_insert(payload);
                self.run.stopped.store(true, Ordering::Relaxed);
                drop(first);
                if !execution.has_passed() {
                    runtime::domain().pass_turn(position);
                }
                let _plan = self.run.plan.lock();
                self.run.changed.notify_all();
            }
        }
    }
}

/// How often this thread has validated its reads.
fn validations() -> u64 {
    let statistics = runtime::own_statistics();
    statistics.validations + statistics.extensions
}

/// An earlier position has panicked in its turn.
struct Stopped;

/// One position, as the transaction loop sees it.
struct Execution<'a, F> {
    run: &'a Run<F>,
    position: u64,
    in_turn: bool,
    executions: u64,
}

impl<F> Execution<'_, F> {
    fn await_turn(&mut self) {
        runtime::domain().await_turn(self.position);
        self.in_turn = true;
    }

    fn has_passed(&self) -> bool {
        runtime::domain().turn() != self.position
    }
}

impl<R, F: Fn(&mut Tx<'_, Ordered>, u64) -> Result<R>> Body<Native, R, Stopped> for Execution<'_, F> {
    #[inline]
    fn attempt(&mut self, tx: &mut Attempt) -> std::result::Result<R, Interrupt<Stopped>> {
        tx.position = self.position;
        self.executions += 1;
        let result = (self.run.body)(&mut Tx::new(tx), self.position)?;
        if !self.in_turn {
            self.await_turn();
        }
        if self.run.stopped.load(Ordering::Relaxed) { Err(Interrupt::Error(Stopped)) } else { Ok(result) }
    }

    fn aborted(&mut self, reason: Abort) {
        if !self.in_turn && reason != Abort::Retry && reason != Abort::Regime {
            self.await_turn();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a plan for `count` positions where a position costs what `cost` says, and returns how many ran in each way and how often the
    /// way was changed.
    fn simulate(count: u64, cost: impl Fn(u64, Way) -> u64) -> ([u64; 2], usize) {
        let mut plan = Plan::default();
        let mut now = Instant::now();
        plan.measure(Way::OneByOne, 16, Duration::from_nanos(16 * cost(0, Way::OneByOne)));
        let (mut at, mut ran, mut changes, mut before) = (16, [16, 0], 0, Way::OneByOne);
        while at < count {
            plan.advance(now);
            plan.length = plan.length.min(count - at);
            plan.timed = plan.length;
            for position in at..at + plan.length {
                now += Duration::from_nanos(cost(position, plan.way));
            }
            at += plan.length;
            ran[plan.way as usize] += plan.length;
            changes += usize::from(plan.way != before);
            before = plan.way;
        }
        (ran, changes)
    }

    #[test]
    fn the_faster_way_runs_nearly_everything() {
        let (ran, changes) = simulate(10_000, |_, way| if way == Way::OneByOne { 1000 } else { 550 });
        assert_eq!((ran, changes), ([16, 9984], 1));
        let (ran, changes) = simulate(10_000, |_, way| if way == Way::OneByOne { 1000 } else { 2000 });
        assert!(ran[1] <= 5 * TRIAL && changes <= 10, "{ran:?}, {changes} changes");
        let (ran, _) = simulate(1000, |_, way| if way == Way::OneByOne { 1000 } else { 1500 });
        assert!(ran[1] <= 2 * TRIAL, "{ran:?}");
        // About equal: whatever runs goes on.
        let (_, changes) = simulate(10_000, |at, way| if way == Way::OneByOne { 1000 } else { 1000 + at % 29 });
        assert!(changes <= 1, "{changes} changes");
    }

    #[test]
    fn a_change_of_the_load_changes_the_way_both_ways() {
        let hot_later = |at, way| match way {
            Way::OneByOne => 1000,
            Way::Speculative if at < 50_000 => 550,
            Way::Speculative => 1500,
        };
        let (ran, changes) = simulate(100_000, hot_later);
        assert!((48_000..=52_500).contains(&ran[1]), "{ran:?}");
        assert!(changes <= 20, "{changes} changes");
        let cool_later = |at, way| hot_later(100_000 - at, way);
        let (ran, _) = simulate(100_000, cool_later);
        assert!(ran[1] > 30_000, "{ran:?}");
    }
}
