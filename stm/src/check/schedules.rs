//! Longer random programs under random schedules: the whole loop around a transaction, with its retries and its last resort.
//!
//! Shuttle runs one thread at a time and decides at random who goes on, either evenly or with few preemptions at random places (PCT, Burckhardt
//! et al., ASPLOS 2010). It knows nothing of weak memory, but it reaches programs that are out of reach for an exhaustive search: three threads,
//! several transactions, more objects, and each transaction repeated until it commits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use super::explore::{panic_text, quietly};
use super::heap::{Heap, Session};
use super::history::History;
use super::platform::Shuttle;
use super::recorder::{Part, Random, Ticks, run_part};
use crate::protocol::Protocol;

/// How many schedules run between two looks at the time.
const BATCH: usize = 500;

/// Runs random programs under random schedules until the time is over; returns how many.
///
/// # Errors
/// What was wrong, with the seed of the program.
pub fn explore<P: Protocol<Shuttle>>(time: Duration) -> (u64, Result<(), String>) {
    explore_some::<P>(time, u64::MAX)
}

/// As [`explore`], but at most so many schedules.
///
/// # Errors
/// As [`explore`].
pub fn explore_some<P: Protocol<Shuttle>>(time: Duration, most: u64) -> (u64, Result<(), String>) {
    let start = Instant::now();
    let count = Arc::new(AtomicU64::new(0));
    let mut batch = 0_u64;
    while start.elapsed() < time && count.load(Ordering::Relaxed) < most {
        let counted = count.clone();
        let program = move || {
            let seed = counted.fetch_add(1, Ordering::Relaxed);
            execute::<P>(seed);
        };
        let mut config = Config::new();
        config.failure_persistence = FailurePersistence::None;
        config.max_steps = MaxSteps::FailAfter(1_000_000);
        config.silence_warnings = true;
        let outcome = quietly(|| {
            catch_unwind(AssertUnwindSafe(|| {
                if batch.is_multiple_of(2) {
                    Runner::new(RandomScheduler::new_from_seed(batch, BATCH), config).run(program);
                } else {
                    Runner::new(PctScheduler::new_from_seed(batch, 3, BATCH), config).run(program);
                }
            }))
        });
        batch += 1;
        let done = count.load(Ordering::Relaxed);
        if let Err(payload) = outcome {
            return (done, Err(format!("{} (program {}, batch {})", panic_text(&*payload), done - 1, batch - 1)));
        }
    }
    (count.load(Ordering::Relaxed), Ok(()))
}

/// One random program: two or three threads, up to three transactions each.
fn execute<P: Protocol<Shuttle>>(seed: u64) {
    let mut random = Random::new(seed + 1);
    let threads = 2 + random.below(2) as u32;
    let heap = Heap::<Shuttle>::new(2 + random.below(2) as usize);
    let ticks = Ticks::default();
    let mut sessions: Vec<Session<Shuttle, P>> = (0..threads).map(|_| Session::new(&heap)).collect();
    let part =
        |thread: u32| Part { thread, seed: seed * 8 + u64::from(thread) + 1, transactions: 1 + seed % 3, accesses: 4 };
    let others: Vec<_> = (1..threads)
        .map(|thread| {
            let (mut session, ticks, part) = (sessions.pop().expect("one each"), ticks.clone(), part(thread));
            shuttle::thread::spawn(move || {
                let history = run_part(&mut session, part, &ticks);
                (session, history)
            })
        })
        .collect();
    let mut whole: History = run_part(&mut sessions[0], part(0), &ticks);
    for other in others {
        let (session, history) = other.join().expect("a panic ends the whole execution");
        sessions.push(session);
        whole.append(&history);
    }
    if let Err(violation) = whole.check() {
        panic!("{violation}");
    }
}
