//! Many transactions in a fixed order: the outcome of running them one by one, whatever the threads, the conflicts and the bodies do.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use optimist_stm::collections::TCounter;
use optimist_stm::order::{Executed, in_order};
use optimist_stm::{Abort, Interrupt, Kind, TVar, atomically, lease, statistics};

/// One of these tests gives out positions by hand, and positions are the domain's.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number below `n` that depends on `seed`.
fn mix(seed: u64, n: u64) -> u64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (x ^ (x >> 32)) % n
}

/// Takes so many microseconds.
fn work(microseconds: u64) {
    let end = Instant::now() + Duration::from_micros(microseconds);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// Transfers of which each depends on the balances that it meets: what one by one leaves, and what each returned.
fn plainly(accounts: u64, count: u64) -> (Vec<u64>, Vec<u64>) {
    let mut balances = vec![1000; accounts as usize];
    let moved = (0..count).map(|position| {
        let (from, to) = (mix(position, accounts) as usize, mix(!position, accounts) as usize);
        let amount = (balances[from] / 3).min(position % 50);
        balances[from] -= amount;
        balances[to] += amount;
        balances[to]
    });
    let moved = moved.collect();
    (balances, moved)
}

fn transfers(accounts: u64, count: u64, threads: usize, microseconds: u64) -> (Vec<u64>, Vec<u64>, Executed) {
    let balances: Vec<TVar<u64>> = (0..accounts).map(|_| TVar::new(1000)).collect();
    let (moved, done) = in_order(threads, count, |tx, position| {
        let (from, to) = (&balances[mix(position, accounts) as usize], &balances[mix(!position, accounts) as usize]);
        let amount = (from.get(tx)? / 3).min(position % 50);
        work(microseconds);
        from.modify(tx, |balance| balance - amount)?;
        to.modify(tx, |balance| balance + amount)?;
        to.get(tx)
    });
    (balances.iter().map(TVar::load).collect(), moved, done)
}

#[test]
fn blocks_of_transfers_equal_the_serial_outcome() {
    let _alone = alone();
    let (mut speculative, mut repeated) = (0, 0);
    for accounts in [2, 10, 100, 1000] {
        let expected = plainly(accounts, 1000);
        for threads in [1, 2, 4] {
            for microseconds in [0, 20] {
                let (balances, moved, done) = transfers(accounts, 1000, threads, microseconds);
                assert_eq!((balances, moved), expected, "{accounts} accounts, {threads} threads");
                assert_eq!(done.positions, 1000);
                assert!(done.executions <= 2 * done.positions, "{done:?}: nobody runs more than twice");
                if threads == 1 {
                    assert_eq!((done.one_by_one, done.executions), (1000, 1000), "{done:?}");
                }
                speculative += done.positions - done.one_by_one;
                repeated += done.executions - done.positions;
            }
        }
    }
    assert!(speculative > 100 && repeated > 0, "{speculative} ran ahead, {repeated} twice: nothing was tested");
}

#[test]
fn without_conflicts_every_execution_is_validated_at_most_once() {
    let _alone = alone();
    let variables: Vec<TVar<u64>> = (0..2000).map(|_| TVar::new(0)).collect();
    let (_, done) = in_order(2, 2000, |tx, position| {
        work(20);
        variables[position as usize].modify(tx, |n| n + position)
    });
    assert!(done.executions as f64 <= 1.01 * done.positions as f64, "{done:?}");
    assert!(done.validations as f64 <= 1.05 * done.executions as f64, "{done:?}");
    assert!(variables.iter().map(TVar::load).eq(0..2000));
}

/// All add to one counter and to one variable: the counter's additions do not conflict, the variable's do.
#[test]
fn additions_to_a_counter_do_not_conflict() {
    let _alone = alone();
    let (counter, variable) = (TCounter::new(0), TVar::new(0));
    let (_, commuting) = in_order(2, 1000, |tx, _| {
        counter.add(tx, 1)?;
        work(20);
        Ok(())
    });
    // On one processor a counter has fewer summands than there are threads here.
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
        assert_eq!(commuting.executions, 1000, "{commuting:?}");
    }
    let (seen, conflicting) = in_order(2, 1000, |tx, position| {
        variable.modify(tx, |n| n + 1)?;
        work(20);
        // Reads the counter too, which sees exactly the positions before.
        counter.add(tx, 1)?;
        if position % 100 == 0 { counter.get(tx) } else { Ok(1001 + position as i64) }
    });
    assert!(seen.into_iter().eq(1001..2001), "{conflicting:?}");
    assert_eq!((atomically(|tx| counter.get(tx)), variable.load()), (2000, 1000));
}

/// An attempt that reads what an earlier one is about to write again waits for it instead of running in vain.
#[test]
fn a_position_that_runs_again_keeps_others_from_what_it_will_write() {
    let _alone = alone();
    let lease = lease(Kind::Ordered);
    let domain = optimist_stm::runtime::domain();
    domain.start_order();
    let (first, marked, done) = (TVar::new(0), TVar::new(0), AtomicBool::new(false));
    let (attempt, step) = (AtomicU64::new(0), std::sync::Barrier::new(2));
    let before = statistics();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            atomically(|tx| {
                tx.attempt().position = 1;
                let seen = first.get(tx)?;
                // The first attempt has read what position 0 is going to change; the second has begun with the marks set.
                step.wait();
                if attempt.fetch_add(1, Ordering::Relaxed) == 1 {
                    std::thread::sleep(Duration::from_millis(50));
                    done.store(true, Ordering::Release);
                }
                marked.set(tx, seen + 10)
            });
        });
        step.wait();
        atomically(|tx| {
            tx.attempt().position = 0;
            first.set(tx, 1)
        });
        step.wait();
        let attempts = Cell::new(0);
        let seen = atomically(|tx| {
            tx.attempt().position = 2;
            attempts.set(attempts.get() + 1);
            let seen = marked.get(tx)?;
            assert!(done.load(Ordering::Acquire), "read what is about to be written again");
            Ok(seen)
        });
        assert_eq!((seen, attempts.get()), (11, 1), "speculated in vain");
    });
    assert!(statistics().since(&before).waits > 0);
    drop(lease);
}

#[test]
fn a_panic_in_its_turn_stops_the_order_there() {
    let _alone = alone();
    for threads in [1, 3] {
        let log = TVar::new(Vec::new());
        let early = AtomicBool::new(false);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            in_order(threads, 1000, |tx, position| {
                work(20);
                if position == 500 && log.with(tx, Vec::len)? == 500 {
                    panic!("position 500");
                }
                if position > 20 && log.with(tx, Vec::len)? < position as usize {
                    // Ahead of its turn; a panic does not count there.
                    early.store(true, Ordering::Relaxed);
                    panic!("too early");
                }
                log.modify(tx, |log| [log.as_slice(), &[position]].concat())
            })
        }));
        let payload = outcome.unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"position 500"));
        assert!(log.load().into_iter().eq(0..500));
        assert_eq!(early.load(Ordering::Relaxed), threads > 1);
    }
}

#[test]
fn what_a_body_may_do_it_may_do_in_an_order() {
    let _alone = alone();
    let (a, b) = (TVar::new(0), TVar::new(String::new()));
    let hooks = AtomicU64::new(0);
    let hooks: &'static AtomicU64 = Box::leak(Box::new(hooks));
    let (results, done) = in_order(3, 300, |tx, position| {
        work(10);
        let failed = tx.nested(|tx| {
            a.set(tx, 7)?;
            if position % 3 == 0 { Err(Interrupt::Error("no")) } else { Ok(()) }
        })?;
        b.modify(tx, |text| format!("{}{}", &text[text.len().saturating_sub(20)..], position % 10))?;
        tx.on_commit(|| {
            hooks.fetch_add(1, Ordering::Relaxed);
        });
        a.modify(tx, |n| n + 1)?;
        if position % 50 == 49 && tx.attempt().mode != optimist_stm::attempt::Mode::Irrevocable {
            return Err(Abort::Irrevocable);
        }
        Ok((failed.is_err(), a.get(tx)?))
    });
    assert_eq!(done.positions, 300);
    assert_eq!(hooks.load(Ordering::Relaxed), 300);
    let expected = (0..300).scan(0, |a, position| {
        *a = if position % 3 == 0 { *a } else { 7 } + 1;
        Some((position % 3 == 0, *a))
    });
    assert!(results.into_iter().eq(expected));
    assert_eq!(b.load(), "012345678901234567890123456789"[9..].to_owned());
}

#[test]
fn an_empty_order_is_no_order() {
    let _alone = alone();
    let (results, done) = in_order(4, 0, |_, position| Ok(position));
    assert_eq!((results, done), (vec![], Executed::default()));
}
