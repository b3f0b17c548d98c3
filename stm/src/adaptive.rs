//! Choosing the protocol by what the transactions do.
//!
//! Off unless somebody calls [`adapt`]. Then, once in each interval:
//!
//! 1. What has been counted in the interval suggests a protocol: [`Mvcc`](Kind::Mvcc) where read-only transactions are aborted,
//!    [`Tl2`](Kind::Tl2) where updates are aborted by or wait for each other, the [`home`](Adaptive::new) protocol where all is calm.
//! 2. A suggestion is only a suggestion: it is put in force for a *trial* of one interval, and stays if it commits more transactions a second
//!    than the one before by a margin. Else the one before comes back, and the next trial of that protocol is twice as far off.
//! 3. So a load that does not change sees a number of changes that grows with the logarithm of the time. Where the load changes (the share
//!    of aborts or of writers moves by more than [`MOVED`]), all protocols may be tried again.
//! 4. An interval in which hardly anything was committed says nothing.
//! 5. A change waits for a moment at which no transaction runs, like every change of the protocol; while somebody holds a
//!    [`Lease`](runtime::Lease), there is none. New transactions wait meanwhile, so a body must not wait for another thread's transaction.
//!
//! Shares are taken from counters that exist anyway: the number of writers is the advance of the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::abort::Abort;
use crate::domain::Statistics;
use crate::protocol::Kind;
use crate::runtime;

/// What happened in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Transactions committed.
    pub commits: u64,
    /// Those of them that wrote something; 0 where the protocol in force does not count them.
    pub writers: u64,
    /// Attempts of read-only transactions that were aborted.
    pub reader_aborts: u64,
    /// Other attempts that were aborted, and waits for others.
    pub conflicts: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Sample {
    /// What has been counted between two moments.
    fn between(before: &Moment, after: &Moment) -> Sample {
        let counted = after.statistics.since(&before.statistics);
        let reader_aborts = counted.aborts[Abort::Snapshot as usize];
        let asked_for = counted.aborts[Abort::Retry as usize] + counted.aborts[Abort::Regime as usize];
        Sample {
            commits: counted.commits,
            writers: (after.clock - before.clock).min(counted.commits),
            reader_aborts,
            conflicts: counted.aborted() - reader_aborts - asked_for + counted.waits,
            elapsed: after.time - before.time,
        }
    }

    fn rate(&self) -> f64 {
        self.commits as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn share(&self, of: u64) -> f64 {
        of as f64 / self.commits.max(1) as f64
    }
}

/// Below this an interval says nothing.
const ENOUGH: u64 = 500;
/// The share of aborts and waits at which another protocol is worth a trial, and that below which all is calm.
const MANY: f64 = 0.05;
const CALM: f64 = 0.01;
/// By how much a trial must be faster.
const MARGIN: f64 = 1.10;
/// A share that has moved by this much is another load.
pub const MOVED: f64 = 0.20;
/// How many intervals lie between two trials of a protocol, at first and at most.
const REST: (u32, u32) = (4, 1 << 10);

/// A policy that says which protocol should be in force. See the [module](self).
///
/// ```
/// use optimist_stm::{Kind, adaptive::{Adaptive, Sample}};
/// use std::time::Duration;
///
/// let mut policy = Adaptive::new(Kind::Eager);
/// let sample = Sample { commits: 10_000, reader_aborts: 4_000, elapsed: Duration::from_millis(100), ..Sample::default() };
/// // Readers are aborted, so `mvcc` gets a trial; it commits twice as many, so it stays.
/// assert_eq!(policy.next(&sample), Kind::Mvcc);
/// assert_eq!(policy.next(&Sample { commits: 20_000, reader_aborts: 0, ..sample }), Kind::Mvcc);
/// ```
#[derive(Clone, Debug)]
pub struct Adaptive {
    home: Kind,
    current: Kind,
    /// On trial: what was in force before, and its rate.
    trial: Option<(Kind, f64)>,
    /// For each protocol: the interval before which it gets no trial, and the length of the rest after its next failure.
    rests: Vec<(u64, u32)>,
    interval: u64,
    /// The shares of conflicts and writers when the present protocol had been settled on.
    settled: Option<(f64, f64)>,
}

impl Adaptive {
    /// A policy that begins with `home` and returns to it where nothing speaks for another protocol.
    #[must_use]
    pub fn new(home: Kind) -> Self {
        let rests = vec![(0, REST.0); Kind::ALL.len()];
        Adaptive { home, current: home, trial: None, rests, interval: 0, settled: None }
    }

    /// The protocol that should be in force after an interval like this.
    pub fn next(&mut self, sample: &Sample) -> Kind {
        self.interval += 1;
        if sample.commits < ENOUGH {
            return self.current;
        }
        if let Some((before, rate)) = self.trial.take() {
            self.settled = None;
            let rest = &mut self.rests[self.current as usize];
            if sample.rate() < rate * MARGIN {
                *rest = (self.interval + u64::from(rest.1), (rest.1 * 2).min(REST.1));
                self.current = before;
            } else {
                rest.1 = REST.0;
                // What has lost is not tried again at once.
                self.rests[before as usize].0 = self.interval + u64::from(REST.0);
            }
            return self.current;
        }
        let conflicts = sample.share(sample.reader_aborts + sample.conflicts).min(1.0);
        let now = (conflicts, sample.share(sample.writers));
        let settled = *self.settled.get_or_insert(now);
        if (settled.0 - now.0).abs() > MOVED || (settled.1 - now.1).abs() > MOVED {
            self.settled = Some(now);
            self.rests.fill((0, REST.0));
        }
        let suggestion = if sample.share(sample.reader_aborts) > MANY {
            Kind::Mvcc
        } else if sample.share(sample.conflicts) > MANY {
            Kind::Tl2
        } else if conflicts < CALM {
            self.home
        } else {
            self.current
        };
        if suggestion != self.current && self.rests[suggestion as usize].0 <= self.interval {
            self.trial = Some((self.current, sample.rate()));
            self.current = suggestion;
        }
        self.current
    }
}

/// The counters at some moment.
struct Moment {
    time: Instant,
    statistics: Statistics,
    clock: u64,
}

impl Moment {
    fn now() -> Self {
        // Relaxed: a number among others, none of which belongs to the same moment exactly.
        let clock = runtime::domain().clock.load(Ordering::Relaxed);
        Moment { time: Instant::now(), statistics: runtime::statistics(), clock }
    }
}

/// Keeps a policy at work while it lives. See [`adapt`].
#[derive(Debug)]
#[must_use = "the policy is at work only while this is held"]
pub struct Adapting {
    home: Kind,
    state: Arc<(Mutex<State>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    ends: bool,
    changes: u64,
}

/// Lets `policy` choose the protocol once in each `interval`, on a thread of its own. When this is dropped, the policy's home protocol is
/// put in force again, unless somebody holds a lease.
///
/// Worth it for programs that run for long under loads that change, with intervals of a tenth of a second or more.
///
/// # Panics
/// If no thread can be started.
///
/// ```
/// use optimist_stm::{Kind, TVar, atomically, adaptive::{Adaptive, adapt}};
/// use std::time::Duration;
///
/// let adapting = adapt(Adaptive::new(Kind::Eager), Duration::from_millis(100));
/// let counter = TVar::new(0);
/// (0..1000).for_each(|_| atomically(|tx| counter.modify(tx, |n| n + 1)));
/// println!("changed {} times", adapting.changes());
/// ```
pub fn adapt(mut policy: Adaptive, interval: Duration) -> Adapting {
    let state = Arc::new((Mutex::new(State::default()), Condvar::new()));
    let (home, shared) = (policy.home, state.clone());
    let work = move || {
        let (state, changed) = &*shared;
        let mut before = Moment::now();
        let mut state = state.lock();
        while !state.ends {
            changed.wait_for(&mut state, interval);
            let after = Moment::now();
            let wanted = policy.next(&Sample::between(&before, &after));
            if !state.ends && wanted != runtime::protocol() && runtime::change(wanted) {
                state.changes += 1;
            }
            // The wait for a quiet moment is nobody's interval.
            before = Moment::now();
        }
    };
    let thread = std::thread::Builder::new().name("optimist-adapt".into()).spawn(work);
    Adapting { home, state, thread: Some(thread.expect("a thread can be started")) }
}

impl Adapting {
    /// How often the protocol has been changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.0.lock().changes
    }
}

impl Drop for Adapting {
    fn drop(&mut self) {
        self.state.0.lock().ends = true;
        self.state.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported; there is nothing to be done about it here.
            let _ = thread.join();
        }
        if !runtime::in_transaction() {
            runtime::change(self.home);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a policy for some intervals of a load, given what the load does under a protocol: commits, reader aborts, conflicts. Returns
    /// how often the protocol was changed.
    fn simulate(policy: &mut Adaptive, intervals: u64, load: impl Fn(Kind, u64) -> (u64, u64, u64)) -> u64 {
        let (mut kind, mut changes) = (policy.current, 0);
        for interval in 0..intervals {
            let (commits, reader_aborts, conflicts) = load(kind, interval);
            let elapsed = Duration::from_millis(100);
            let sample = Sample { commits, writers: commits / 2, reader_aborts, conflicts, elapsed };
            let next = policy.next(&sample);
            changes += u64::from(next != kind);
            kind = next;
        }
        changes
    }

    /// Long readers: better under `mvcc`.
    fn readers(kind: Kind, interval: u64) -> (u64, u64, u64) {
        let noise = interval % 7 * 300;
        if kind == Kind::Mvcc { (20_000 + noise, 0, 100) } else { (10_000 + noise, 4_000, 100) }
    }

    /// Nobody meets anybody: best under `eager`.
    fn calm(kind: Kind, interval: u64) -> (u64, u64, u64) {
        let noise = interval % 5 * 500;
        if kind == Kind::Eager { (60_000 + noise, 0, 10) } else { (40_000 + noise, 0, 10) }
    }

    #[test]
    fn a_policy_switches_both_ways() {
        let mut policy = Adaptive::new(Kind::Eager);
        for _ in 0..3 {
            // All is calm under `mvcc` too, so the way home is tried a few times.
            assert!(simulate(&mut policy, 50, readers) <= 1 + 2 * 4);
            assert_eq!(policy.current, Kind::Mvcc);
            assert_eq!(simulate(&mut policy, 50, calm), 1);
            assert_eq!(policy.current, Kind::Eager);
        }
        let contended = |kind, interval: u64| {
            let noise = interval % 3 * 100;
            if kind == Kind::Tl2 { (9_000 + noise, 0, 2_000) } else { (6_000 + noise, 0, 3_000) }
        };
        simulate(&mut policy, 50, contended);
        assert_eq!(policy.current, Kind::Tl2);
    }

    #[test]
    fn a_policy_does_not_switch_back_and_forth() {
        // Readers are aborted whatever is in force, and `mvcc` is no better: each trial fails, and they get rare.
        let mut policy = Adaptive::new(Kind::Eager);
        let changes = simulate(&mut policy, 2000, |_, interval| (10_000 + interval % 9 * 100, 3_000, 100));
        assert_eq!(policy.current, Kind::Eager);
        assert!(changes <= 2 * 10, "{changes} changes");
        // The same load, calm under `mvcc` and slower at home: the way home is tried ever less often.
        let mut policy = Adaptive::new(Kind::Eager);
        let changes =
            simulate(&mut policy, 2000, |kind, _| if kind == Kind::Mvcc { (20_000, 0, 0) } else { (10_000, 4_000, 0) });
        assert_eq!(policy.current, Kind::Mvcc);
        assert!(changes <= 2 * 10, "{changes} changes");
        // What is within the noise does not count.
        let mut policy = Adaptive::new(Kind::Eager);
        let changes = simulate(&mut policy, 2000, |kind, interval| {
            let noise = interval % 11 * 80;
            if kind == Kind::Tl2 { (10_500 + noise, 0, 2_000) } else { (10_000 + noise, 0, 2_000) }
        });
        assert_eq!(policy.current, Kind::Eager);
        assert!(changes <= 2 * 10, "{changes} changes");
    }

    #[test]
    fn an_idle_interval_says_nothing() {
        let mut policy = Adaptive::new(Kind::Eager);
        assert_eq!(simulate(&mut policy, 100, |_, _| (100, 100, 100)), 0);
    }
}
