//! Counts the writes to cache lines that threads share, while they run transactions that have nothing in common.

use std::sync::Barrier;

use optimist_stm::check::Counting;
use optimist_stm::check::heap::{Heap, Session};
use optimist_stm::check::platform::{Touched, take_touched};
use optimist_stm::protocol::{Protocol, shipped};

const THREADS: usize = 4;
const TRANSACTIONS: usize = 500;

/// Writes to shared lines for each commit, when each of `THREADS` threads runs `body` on objects of its own.
fn shared_writes<P: Protocol<Counting>>(body: impl Fn(&mut Session<Counting, P>, usize, usize) + Sync) -> f64 {
    let heap = Heap::<Counting>::new(THREADS * TRANSACTIONS);
    let sessions: Vec<Session<Counting, P>> = (0..THREADS).map(|_| Session::new(&heap)).collect();
    let (body, start) = (&body, &Barrier::new(THREADS));
    let touched: Vec<Touched> = std::thread::scope(|scope| {
        let run = |(thread, mut session): (usize, Session<Counting, P>)| {
            scope.spawn(move || {
                start.wait();
                let _ = take_touched();
                for index in 0..TRANSACTIONS {
                    body(&mut session, thread * TRANSACTIONS, index);
                }
                take_touched()
            })
        };
        let threads: Vec<_> = sessions.into_iter().enumerate().map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let others = |this: usize| (0..THREADS).filter(move |other| *other != this);
    let shared = |this: usize| others(this).map(|other| touched[this].writes_shared_with(&touched[other])).max();
    let writes: u64 = (0..THREADS).filter_map(shared).sum();
    writes as f64 / (THREADS * TRANSACTIONS) as f64
}

/// Each transaction reads and writes an object that no other transaction touches.
fn once_each<P: Protocol<Counting>>() -> f64 {
    shared_writes::<P>(|session, first, index| {
        session.atomically(|tx| {
            let value = tx.get(first + index)?;
            tx.set(first + index, value + 1)
        });
    })
}

/// Each thread reads and writes ten objects of its own over and over.
fn over_and_over<P: Protocol<Counting>>() -> f64 {
    shared_writes::<P>(|session, first, index| {
        session.atomically(|tx| {
            let value = tx.get(first + index % 10)?;
            tx.set(first + index % 10, value + 1)
        });
    })
}

/// Each transaction only reads.
fn read_only<P: Protocol<Counting>>() -> f64 {
    shared_writes::<P>(|session, _, index| {
        session.atomically(|tx| tx.get(index).map(|_| ()));
    })
}

#[test]
fn independent_transactions_write_no_shared_line_under_a_deferred_clock() {
    assert_eq!(once_each::<shipped::EagerDeferred>(), 0.0);
    assert_eq!(read_only::<shipped::EagerDeferred>(), 0.0);
    // An object that is met again has a version ahead of the clock, which its reader then moves: at most one write for each commit.
    let again = over_and_over::<shipped::EagerDeferred>();
    println!("over and over: {again:.2} shared writes for each commit");
    assert!(again <= 1.01, "{again}");
}

#[test]
fn a_shared_clock_is_written_by_every_commit_and_by_no_reader() {
    assert!(once_each::<shipped::Eager>() >= 1.0, "the count sees the clock");
    assert_eq!(read_only::<shipped::Eager>(), 0.0);
    assert_eq!(read_only::<shipped::Tl2>(), 0.0);
    assert!(read_only::<shipped::GlobalLock>() >= 2.0, "the count sees the lock");
}
