//! The typed face under every protocol, with real threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use optimist_stm::{Abort, Interrupt, Kind, TVar, Tx, atomically, irrevocably, lease, read_only, try_atomically};

/// Runs a test under each shipped protocol in turn.
fn under_each(test: impl Fn(Kind)) {
    for &kind in Kind::ALL {
        let lease = lease(kind);
        test(lease.kind());
    }
}

/// A small generator, so that runs can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n) as usize
    }
}

#[test]
fn a_million_transfers_keep_the_total() {
    let transfers = if cfg!(debug_assertions) { 25_000 } else { 250_000 };
    under_each(|kind| {
        let accounts: Vec<TVar<i64>> = (0..100).map(|_| TVar::new(1000)).collect();
        thread::scope(|scope| {
            for seed in 1..=4_u64 {
                let accounts = &accounts;
                scope.spawn(move || {
                    let mut random = Random(seed * 0x9E37_79B9);
                    for round in 0..transfers {
                        let (from, to) = (random.below(100), random.below(100));
                        let amount = random.below(50) as i64;
                        let fails = round % 1000 == 999;
                        let outcome = catch_unwind(AssertUnwindSafe(|| {
                            try_atomically(|tx| {
                                accounts[from].modify(tx, |balance| balance - amount)?;
                                if fails {
                                    // Half of the failures are errors, half are panics.
                                    if round % 2000 == 999 {
                                        return Err(Interrupt::Error("refused"));
                                    }
                                    std::panic::resume_unwind(Box::new("a handler's panic"));
                                }
                                accounts[to].modify(tx, |balance| balance + amount)?;
                                Ok(())
                            })
                        }));
                        assert_eq!(fails, !matches!(outcome, Ok(Ok(()))));
                    }
                });
            }
            let accounts = &accounts;
            scope.spawn(move || {
                for _ in 0..200 {
                    let total: i64 = read_only(|tx| {
                        let mut total = 0;
                        for account in accounts {
                            total += account.get(tx)?;
                        }
                        Ok(total)
                    });
                    assert_eq!(total, 100_000, "{kind}: a reader saw a transfer half done");
                }
            });
        });
        assert_eq!(accounts.iter().map(TVar::load).sum::<i64>(), 100_000, "{kind}");
    });
}

#[test]
fn no_body_sees_an_inconsistent_state() {
    let rounds = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };
    under_each(|kind| {
        let (a, b) = (TVar::new(0_u64), TVar::new(0_u64));
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..rounds {
                    atomically(|tx| {
                        a.set(tx, n)?;
                        b.set(tx, n)
                    });
                }
            });
            scope.spawn(|| {
                for _ in 1..rounds {
                    atomically(|tx| {
                        let (x, y) = (a.get(tx)?, b.get(tx)?);
                        assert_eq!(x, y, "{kind}: a body saw a state that never was");
                        Ok(())
                    });
                }
            });
        });
    });
}

#[test]
fn boxed_values_are_freed_exactly_once() {
    static LIVE: AtomicUsize = AtomicUsize::new(0);
    struct Counted(u64);
    impl Counted {
        fn new(n: u64) -> Self {
            LIVE.fetch_add(1, Ordering::SeqCst);
            Counted(n)
        }
    }
    impl Clone for Counted {
        fn clone(&self) -> Self {
            Counted::new(self.0)
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            LIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    under_each(|kind| {
        let variable = TVar::new(Counted::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for n in 0..2000 {
                        let _ = try_atomically(|tx| {
                            let old = variable.with(tx, |value| value.0)?;
                            variable.set(tx, Counted::new(old + 1))?;
                            variable.set(tx, Counted::new(old + 2))?;
                            if n % 7 == 0 { Err(Interrupt::Error(())) } else { Ok(()) }
                        });
                    }
                });
            }
        });
        assert_eq!(variable.load().0, 3 * (2000 - 286) * 2, "{kind}");
    });
    // The threads have ended and left their garbage behind; a few more transactions collect it.
    let variable = TVar::new(String::new());
    let deadline = Instant::now() + Duration::from_secs(10);
    while LIVE.load(Ordering::SeqCst) != 0 && Instant::now() < deadline {
        variable.store(String::from("x"));
    }
    assert_eq!(LIVE.load(Ordering::SeqCst), 0);
}

#[test]
fn retry_wakes_when_something_read_changes() {
    under_each(|_| {
        let (slot, log) = (TVar::new(None::<u32>), TVar::new(0_u32));
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..200 {
                    let item = atomically(|tx| match slot.get(tx)? {
                        Some(item) => {
                            slot.set(tx, None)?;
                            Ok(item)
                        }
                        None => tx.retry(),
                    });
                    atomically(|tx| log.modify(tx, |sum| sum + item));
                }
            });
            for item in 0..200 {
                atomically(|tx| {
                    let empty = slot.with(tx, Option::is_none)?;
                    tx.check(empty)?;
                    slot.set(tx, Some(item))
                });
            }
        });
        assert_eq!(log.load(), (0..200_u32).sum::<u32>());
    });
}

/// How long a transaction sleeps that has lost to one which has committed before the loser comes to wait for its end.
fn sleeps_after_losing_to_one_that_has_committed() -> Duration {
    const PATIENCE: Duration = Duration::from_secs(20);
    let (own, contested) = (TVar::new(0), TVar::new(0));
    let (lock, locked) = channel();
    let (lose, lost) = channel();
    let (commit, committed) = channel();
    let (end, ended) = channel::<()>();
    thread::scope(|scope| {
        let held = contested.clone();
        scope.spawn(move || {
            let mut attempts = 0;
            atomically(|tx| {
                attempts += 1;
                if attempts == 1 {
                    // Whoever has been aborted once is older than who comes later.
                    return Err(Abort::Chaos);
                }
                held.set(tx, 1)?;
                lock.send(()).unwrap();
                lost.recv_timeout(PATIENCE).expect("the younger one gives way");
                Ok(())
            });
            commit.send(()).unwrap();
            // Until then its slot is nobody else's.
            ended.recv_timeout(PATIENCE).unwrap_err();
        });
        locked.recv_timeout(PATIENCE).unwrap();
        let since = Arc::new(OnceLock::new());
        let hook_ends = since.clone();
        let mut hook = Some(move || {
            lose.send(()).unwrap();
            committed.recv_timeout(PATIENCE).unwrap();
            hook_ends.set(Instant::now()).unwrap();
        });
        let slept = atomically(|tx| {
            let slept = since.get().map(Instant::elapsed);
            if let Some(hook) = hook.take() {
                tx.on_abort(hook);
            }
            // Who holds something does not wait for the older one within the attempt.
            own.set(tx, 1)?;
            contested.get(tx)?;
            Ok(slept)
        });
        drop(end);
        slept.expect("the first attempt loses")
    })
}

#[test]
fn who_lost_to_a_transaction_does_not_wait_for_the_end_of_one_that_has_committed() {
    let _lease = lease(Kind::Eager);
    // Such a wait has a limit of two milliseconds. A busy machine may keep a thread from running for as long, but not every time.
    let quick = (0..50).any(|_| sleeps_after_losing_to_one_that_has_committed() < Duration::from_millis(1));
    assert!(quick, "the loser slept for as long as it may");
}

#[test]
fn or_else_undoes_the_first_and_nested_undoes_a_failure() {
    under_each(|_| {
        let (a, b) = (TVar::new(1), TVar::new(String::from("b")));
        let outcome = atomically(|tx| {
            a.set(tx, 2)?;
            b.set(tx, "c".into())?;
            let chosen = tx.or_else(
                |tx| {
                    a.set(tx, 3)?;
                    b.set(tx, "d".into())?;
                    tx.retry()
                },
                |tx| Ok((a.get(tx)?, b.get(tx)?)),
            )?;
            let failed = tx.nested(|tx| {
                a.set(tx, 4)?;
                Err::<(), _>(Interrupt::Error("no"))
            })?;
            Ok((chosen, failed, a.get(tx)?))
        });
        assert_eq!(outcome, ((2, "c".to_owned()), Err("no"), 2));
        assert_eq!((a.load(), b.load()), (2, "c".to_owned()));
    });
}

#[test]
fn a_long_transaction_is_not_starved_by_a_writer_that_never_stops() {
    under_each(|kind| {
        let variables: Vec<TVar<u64>> = (0..1000).map(|_| TVar::new(0)).collect();
        let stop = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random(7);
                while !stop.load(Ordering::Relaxed) {
                    let at = random.below(1000);
                    atomically(|tx| variables[at].modify(tx, |n| n + 1));
                }
            });
            thread::sleep(Duration::from_millis(5));
            for _ in 0..20 {
                let mut attempts = 0;
                atomically(|tx| {
                    attempts += 1;
                    let mut sum = 0;
                    for variable in &variables {
                        sum += variable.get(tx)?;
                    }
                    variables[0].set(tx, sum)
                });
                assert!(attempts <= 2 + 2, "{kind}: {attempts} attempts");
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn an_irrevocable_body_runs_once_among_writers() {
    under_each(|kind| {
        let variables: Vec<TVar<u64>> = (0..8).map(|_| TVar::new(0)).collect();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let runs = AtomicUsize::new(0);
        thread::scope(|scope| {
            for seed in 1..3 {
                let (variables, stop) = (&variables, &stop);
                scope.spawn(move || {
                    let mut random = Random(seed);
                    while !stop.load(Ordering::Relaxed) {
                        let (i, j) = (random.below(8), random.below(8));
                        atomically(|tx| {
                            variables[i].modify(tx, |n| n.wrapping_add(1))?;
                            variables[j].modify(tx, |n| n.wrapping_sub(1))
                        });
                    }
                });
            }
            for _ in 0..200 {
                let total: Result<u64, ()> = irrevocably(|tx: &mut Tx| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    let mut total = 0_u64;
                    for variable in &variables {
                        total = total.wrapping_add(variable.get(tx)?);
                    }
                    variables[3].modify(tx, |n| *n)?;
                    Ok(total)
                });
                assert_eq!(total.unwrap(), 0, "{kind}");
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(runs.load(Ordering::Relaxed), 200, "{kind}: an irrevocable body was run again");
    });
}

/// What runs to its end while an irrevocable transaction that has read one variable and written another stands still.
#[test]
fn others_run_on_beside_an_irrevocable_transaction() {
    under_each(|kind| {
        let variables: Vec<TVar<u32>> = (0..3).map(TVar::new).collect();
        let (read, written, other) = (&variables[0], &variables[1], &variables[2]);
        let ended = |what: &(dyn Fn() + Sync)| {
            let (report, done) = channel();
            let inside = AtomicUsize::new(0);
            thread::scope(|scope| {
                let outcome = irrevocably(|tx| {
                    read.get(tx)?;
                    written.modify(tx, |n| n + 1)?;
                    assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "{kind}: run again");
                    let report = report.clone();
                    scope.spawn(move || {
                        what();
                        let _ = report.send(());
                    });
                    Ok::<_, Interrupt<()>>(done.recv_timeout(Duration::from_millis(60)).is_ok())
                });
                outcome.unwrap()
            })
        };
        // One lock is one lock.
        let alone = kind == Kind::GlobalLock;
        let by_value = kind == Kind::Norec;
        assert_eq!(ended(&|| assert_eq!(other.load(), 2)), !alone, "{kind}: reading something else");
        assert_eq!(ended(&|| other.store(2)), !alone && !by_value, "{kind}: writing something else");
        // What it has touched is what the others must wait for.
        assert_eq!(ended(&|| assert_eq!(read.load(), 0)), by_value, "{kind}: reading what it has read");
        assert_eq!(ended(&|| assert!(written.load() > 0)), by_value, "{kind}: reading what it has written");
        assert!(!ended(&|| written.store(0)), "{kind}: writing what it has written");
        assert!(!ended(&|| read.store(0)), "{kind}: writing what it has read");
    });
}

#[test]
fn a_transaction_within_a_transaction_is_refused() {
    let variable = TVar::new(1);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        atomically(|tx| {
            variable.set(tx, 2)?;
            atomically(|tx| variable.get(tx));
            Ok(())
        })
    }));
    assert!(outcome.is_err());
    assert_eq!(variable.load(), 1);
}

#[test]
fn every_abort_reason_has_a_name_of_its_own() {
    let mut names: Vec<&str> = Abort::ALL.iter().map(|reason| reason.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Abort::ALL.len());
}

#[test]
fn ordered_transactions_commit_in_the_order_of_their_positions() {
    let lease = lease(Kind::Ordered);
    let domain = optimist_stm::runtime::domain();
    domain.start_order();
    let log = TVar::new(Vec::new());
    let next = std::sync::atomic::AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let position = next.fetch_add(1, Ordering::Relaxed);
                    if position >= 2000 {
                        break;
                    }
                    if position % 100 == 50 {
                        // Gives its turn up.
                        domain.await_turn(position);
                        domain.pass_turn(position);
                        continue;
                    }
                    atomically(|tx| {
                        tx.attempt().position = position;
                        let mut entries = log.get(tx)?;
                        entries.push(position);
                        log.set(tx, entries)
                    });
                }
            });
        }
    });
    let expected: Vec<u64> = (0..2000).filter(|position| position % 100 != 50).collect();
    assert_eq!(log.load(), expected);
    drop(lease);
}
