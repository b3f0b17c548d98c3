//! What a program sees of the transaction module: events, their order, their effects, their failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use optimist_dispatcher::effects::Memory;
use optimist_dispatcher::{
    Config, Event, EventResult, OnError, Options, Order, Output, Rest, TVar, TransactionQueue, outln,
};

const ORDERS: [Order; 5] = [Order::Free, Order::Fifo, Order::Keyed, Order::Priority, Order::Ordered];

fn queue(threads: usize, order: Order) -> (TransactionQueue, Memory) {
    let (stdout, memory) = Output::memory("memory");
    (TransactionQueue::new(Config { threads, order, stdout, ..Config::default() }), memory)
}

/// Calls `test` for every order on 1, 2 and 4 threads.
fn everywhere(mut test: impl FnMut(TransactionQueue, Memory)) {
    for order in ORDERS {
        for threads in [1, 2, 4] {
            let (queue, memory) = queue(threads, order);
            test(queue, memory);
        }
    }
}

/// Each event adds the next one of its chain. Chains stay in order, whatever happens between their steps.
#[test]
fn chains_stay_in_order_while_interleaving() {
    everywhere(|queue, _| {
        const CHAINS: usize = 5;
        const STEPS: u32 = 200;
        fn step(
            chain: usize,
            n: u32,
            log: TVar<Vec<(usize, u32)>>,
        ) -> impl FnMut(&mut Event<'_>) -> EventResult + Send {
            move |ev| {
                log.modify(ev, |log| {
                    let mut log = log.clone();
                    log.push((chain, n));
                    log
                })?;
                if n + 1 < STEPS {
                    ev.add(step(chain, n + 1, log.clone()));
                }
                Ok(())
            }
        }
        let log = TVar::new(Vec::new());
        for chain in 0..CHAINS {
            queue.add(step(chain, 0, log.clone()));
        }
        queue.run().unwrap();
        let log = log.load();
        assert_eq!(log.len(), CHAINS * STEPS as usize);
        for chain in 0..CHAINS {
            let steps: Vec<u32> = log.iter().filter(|(c, _)| *c == chain).map(|(_, n)| *n).collect();
            assert_eq!(steps, (0..STEPS).collect::<Vec<_>>());
        }
    });
}

#[test]
fn every_event_of_a_tree_runs_once() {
    everywhere(|queue, _| {
        const DEPTH: u32 = 12;
        fn node(index: u32, seen: Arc<Vec<TVar<u32>>>) -> impl FnMut(&mut Event<'_>) -> EventResult + Send {
            move |ev| {
                seen[index as usize].modify(ev, |n| n + 1)?;
                for child in [2 * index, 2 * index + 1] {
                    if child < 1 << DEPTH {
                        ev.add(node(child, seen.clone()));
                    }
                }
                Ok(())
            }
        }
        let seen: Arc<Vec<TVar<u32>>> = Arc::new((0..1 << DEPTH).map(|_| TVar::new(0)).collect());
        queue.add(node(1, seen.clone()));
        let report = queue.run().unwrap();
        assert_eq!(report.counters.commits, (1 << DEPTH) - 1);
        assert!(seen[1..].iter().all(|count| count.load() == 1) && seen[0].load() == 0);
    });
}

#[test]
fn three_events_of_seven_appends_never_interleave() {
    everywhere(|queue, memory| {
        for _ in 0..30 {
            let log = TVar::new(Vec::new());
            for letter in ["a", "b", "c"] {
                let log = log.clone();
                queue.add(move |ev| {
                    for n in 0..7 {
                        log.modify(ev, |log| {
                            let mut log = log.clone();
                            log.push((letter, n));
                            log
                        })?;
                        ev.print(format_args!("{letter}{n}"));
                        std::thread::yield_now();
                    }
                    Ok(())
                });
            }
            queue.run().unwrap();
            let log = log.load();
            assert_eq!(log.len(), 21);
            for run in log.chunks(7) {
                assert!(run.iter().enumerate().all(|(n, entry)| *entry == (run[0].0, n)), "{log:?}");
            }
        }
        let text = memory.text();
        assert_eq!(text.len(), 30 * 42);
        for run in text.as_bytes().chunks(14) {
            assert!(run.chunks(2).enumerate().all(|(n, two)| two[0] == run[0] && two[1] == b'0' + n as u8), "{text}");
        }
    });
}

#[test]
fn an_error_stops_the_run_once_and_leaves_a_clean_queue() {
    everywhere(|queue, memory| {
        let done = TVar::new(0_u32);
        for n in 0..100 {
            let done = done.clone();
            queue.add_with(Options::new().name(format!("number {n}")).priority(-n), move |ev| {
                done.modify(ev, |done| done + 1)?;
                outln!(ev, "{n}");
                ev.add(|_| Ok(()));
                if n == 50 {
                    return ev.fail("fifty");
                }
                Ok(())
            });
        }
        let error = queue.run().unwrap_err();
        let event = error.event().expect("an event failed");
        assert_eq!((event.name(), event.to_string().contains("fifty")), (Some("number 50"), true));
        assert_eq!(event.location().file(), file!());
        // Nothing is half-done: as many lines as events that have committed, and all others still pending.
        let report = error.report();
        let printed = memory.text().lines().count();
        assert!(!memory.text().lines().any(|line| line == "50"));
        assert_eq!(printed as u32, done.load());
        let children = report.counters.added;
        assert_eq!(report.pending as u64, 100 - 1 + children - report.counters.commits);
        let rest = queue.run().unwrap();
        assert_eq!(rest.counters.commits, report.pending as u64 + rest.counters.added);
        assert_eq!((done.load(), queue.pending()), (99, 0));
        queue.add(|_| Ok(()));
        assert_eq!(queue.run().unwrap().counters.commits, 1);
    });
}

#[test]
fn ordered_stops_exactly_at_the_failing_event() {
    for threads in [1, 2, 4] {
        for protocol in optimist_stm::Kind::ALL {
            let (queue, memory) = queue(threads, Order::Ordered);
            queue.configure(Config { protocol: Some(*protocol), ..queue.config() });
            for n in 0..200 {
                queue.add(move |ev| {
                    outln!(ev, "{n}");
                    if n == 77 { ev.fail("seventy-seven") } else { Ok(()) }
                });
            }
            let error = queue.run().unwrap_err();
            assert_eq!((error.report().counters.commits, error.report().pending), (77, 122), "{protocol}");
            queue.run().unwrap();
            let expected: String = (0..200).filter(|n| *n != 77).map(|n| format!("{n}\n")).collect();
            assert_eq!(memory.text(), expected, "{protocol}");
        }
    }
}

#[test]
fn what_follows_an_error_is_chosen() {
    for threads in [1, 3] {
        let run = |on_error: OnError| {
            let (queue, memory) = queue(threads, Order::Fifo);
            queue.configure(Config { on_error, ..queue.config() });
            for n in 0..20 {
                queue.add(move |ev| {
                    outln!(ev, "{n}");
                    match n {
                        5 => ev.fail("five"),
                        7 => panic!("seven"),
                        _ => Ok(()),
                    }
                });
            }
            let outcome = queue.run();
            (outcome, memory.text().lines().count(), queue.pending())
        };
        let (outcome, _, pending) = run(OnError::Stop(Rest::Drop));
        assert!(outcome.unwrap_err().event().is_some());
        assert_eq!(pending, 0);
        let (outcome, lines, pending) = run(OnError::Stop(Rest::Finish));
        let error = outcome.unwrap_err();
        assert_eq!((error.report().counters.failures, error.report().errors.len(), lines, pending), (2, 1, 18, 0));
        let (outcome, lines, _) = run(OnError::Collect);
        let report = outcome.unwrap();
        let mut messages: Vec<String> = report.errors.iter().map(ToString::to_string).collect();
        messages.sort();
        assert!(messages.len() == 2 && messages.iter().any(|m| m.contains("panicked: seven")), "{messages:?}");
        assert_eq!(lines, 18);
        let handled = Arc::new(AtomicU64::new(0));
        let count = handled.clone();
        let (outcome, lines, _) = run(OnError::handle(move |error, ev| {
            outln!(ev, "handled: {error}");
            let count = count.clone();
            ev.on_commit(move || {
                count.fetch_add(1, Ordering::Relaxed);
            });
            Ok(())
        }));
        assert_eq!((outcome.unwrap().counters.commits, handled.load(Ordering::Relaxed), lines), (20, 2, 20));
        let (outcome, ..) = run(OnError::handle(|_, ev| ev.fail("the handler fails as well")));
        assert!(outcome.unwrap_err().to_string().contains("the handler fails as well"));
    }
}

/// Transfers between accounts, some of which fail or panic half-way: the total stays.
#[test]
fn failures_and_panics_half_way_keep_the_total() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    for order in ORDERS {
        let (queue, _) = queue(4, order);
        queue.configure(Config { on_error: OnError::Collect, ..queue.config() });
        let accounts: Arc<Vec<TVar<i64>>> = Arc::new((0..16).map(|_| TVar::new(100)).collect());
        for n in 0..4000_u64 {
            let accounts = accounts.clone();
            queue.add_with(Options::new().key(n % 3), move |ev| {
                let (from, to) = (ev.random() as usize % 16, ev.random() as usize % 16);
                accounts[from].modify(ev, |a| a - 7)?;
                match n % 20 {
                    3 => panic!("half-way"),
                    4 => return ev.fail("half-way"),
                    _ => accounts[to].modify(ev, |a| a + 7)?,
                }
                Ok(())
            });
        }
        let report = queue.run().unwrap();
        assert_eq!((report.counters.commits, report.counters.failures), (3600, 400), "{order}");
        assert_eq!(accounts.iter().map(TVar::load).sum::<i64>(), 1600, "{order}");
    }
    std::panic::set_hook(hook);
}

/// Each event prints the value that it left in a shared counter: the output must count up without a gap, whatever was retried.
#[test]
fn output_appears_once_and_in_commit_order() {
    for protocol in optimist_stm::Kind::ALL {
        for order in ORDERS {
            let (queue, memory) = queue(4, order);
            queue.configure(Config { protocol: Some(*protocol), ..queue.config() });
            let (log, logged) = Output::memory("log");
            let counter = TVar::new(0_u64);
            for n in 0..2000 {
                let (counter, log) = (counter.clone(), log.clone());
                queue.add(move |ev| {
                    let value = counter.get(ev)?;
                    if n % 2 == 0 {
                        ev.write(&log, format!("{value}\n").as_bytes());
                        outln!(ev, "{value}");
                    } else {
                        outln!(ev, "{value}");
                        ev.write(&log, format!("{value}\n").as_bytes());
                    }
                    counter.set(ev, value + 1)?;
                    Ok(())
                });
            }
            queue.run().unwrap();
            let expected: String = (0..2000).map(|n| format!("{n}\n")).collect();
            assert_eq!(memory.text(), expected, "{protocol} {order}");
            assert_eq!(logged.text(), expected, "{protocol} {order}");
        }
    }
}

#[test]
fn keys_keep_their_order_and_never_collide() {
    for threads in [1, 2, 4] {
        let (queue, _) = queue(threads, Order::Keyed);
        let logs: Arc<Vec<TVar<Vec<u32>>>> = Arc::new((0..8).map(|_| TVar::default()).collect());
        for n in 0..2000_u32 {
            let logs = logs.clone();
            let key = (n * 7 % 8) as usize;
            queue.add_with(Options::new().key(key), move |ev| {
                let mut log = logs[key].get(ev)?;
                std::thread::yield_now();
                log.push(n);
                logs[key].set(ev, log)?;
                Ok(())
            });
        }
        let report = queue.run().unwrap();
        assert_eq!((report.counters.conflicts(), report.counters.attempts), (0, 2000));
        assert!(logs.iter().all(|log| log.load().is_sorted() && log.load().len() == 250));
    }
}

#[test]
fn priorities_and_deadlines_decide_who_starts() {
    let (queue, memory) = queue(1, Order::Priority);
    let now = Instant::now();
    let print = |text: &'static str| {
        move |ev: &mut Event<'_>| {
            ev.print(format_args!("{text} "));
            Ok(())
        }
    };
    queue.add(print("first"));
    queue.add(print("second"));
    queue.add_with(Options::new().deadline(now + Duration::from_secs(9)), print("late"));
    queue.add_with(Options::new().deadline(now + Duration::from_secs(1)), print("soon"));
    queue.add_with(Options::new().priority(-1), print("last"));
    queue.add_with(Options::new().priority(5), print("urgent"));
    queue.run().unwrap();
    assert_eq!(memory.text(), "urgent soon late first second last ");
}

#[test]
fn an_event_that_retries_blocks_no_thread() {
    for order in [Order::Free, Order::Fifo, Order::Keyed, Order::Priority] {
        for threads in [1, 2] {
            let (queue, memory) = queue(threads, order);
            let gate = TVar::new(0);
            for n in 1..=20 {
                let gate = gate.clone();
                queue.add(move |ev| {
                    let value = gate.get(ev)?;
                    ev.check(value == n)?;
                    outln!(ev, "{n}");
                    gate.set(ev, n + 1)?;
                    Ok(())
                });
            }
            let open = gate.clone();
            queue.add(move |ev| Ok(open.set(ev, 1)?));
            let report = queue.run().unwrap();
            assert_eq!(memory.text(), (1..=20).map(|n| format!("{n}\n")).collect::<String>());
            assert_eq!(report.counters.commits, 21);
        }
    }
}

#[test]
fn events_that_nobody_can_wake_are_reported_and_stay() {
    let (queue, _) = queue(2, Order::Free);
    let gate = TVar::new(false);
    let condition = gate.clone();
    queue.add_named("waiter", move |ev| {
        let open = condition.get(ev)?;
        Ok(ev.check(open)?)
    });
    let error = queue.run().unwrap_err();
    assert!(error.is_stuck() && error.to_string().contains("event `waiter` added at"), "{error}");
    assert_eq!(queue.pending(), 1);
    gate.store(true);
    assert_eq!(queue.run().unwrap().counters.commits, 1);
}

#[test]
fn nested_parts_drop_their_effects() {
    let (queue, memory) = queue(2, Order::Free);
    let cell = TVar::new(0);
    let inner = cell.clone();
    queue.add(move |ev| {
        outln!(ev, "before");
        let failed: Result<(), _> = ev.nested(|ev| {
            inner.set(ev, 1)?;
            outln!(ev, "dropped");
            ev.add(|ev| ev.fail("must not start"));
            ev.fail("inner")
        })?;
        assert_eq!(failed.unwrap_err().to_string(), "inner");
        let chosen = ev.or_else(
            |ev| {
                inner.set(ev, 2)?;
                outln!(ev, "dropped too");
                Ok(ev.retry()?)
            },
            |ev| {
                outln!(ev, "second");
                Ok(2)
            },
        )?;
        outln!(ev, "after {chosen}");
        Ok(())
    });
    queue.run().unwrap();
    assert_eq!((memory.text().as_str(), cell.load()), ("before\nsecond\nafter 2\n", 0));
}

#[test]
fn free_functions_within_an_event_wait_for_its_commit() {
    let (queue, memory) = queue(2, Order::Free);
    let (other, elsewhere) = self::queue(1, Order::Free);
    let first = Arc::new(AtomicU64::new(0));
    let (inner, inner_other) = (queue.clone(), other.clone());
    let cell = TVar::new(0);
    queue.configure(Config { on_error: OnError::Collect, ..queue.config() });
    queue.add(move |ev| {
        // An attempt that is thrown away, and one that counts.
        inner.add(|ev| {
            outln!(ev, "child");
            Ok(())
        });
        inner_other.add(|ev| {
            outln!(ev, "elsewhere");
            Ok(())
        });
        let attempt = first.fetch_add(1, Ordering::Relaxed);
        cell.set(ev, attempt)?;
        if attempt == 0 { Err(optimist_dispatcher::Abort::Chaos.into()) } else { Ok(()) }
    });
    let queue_in_failing = queue.clone();
    queue.add(move |ev| {
        queue_in_failing.add(|ev| {
            outln!(ev, "never");
            Ok(())
        });
        ev.fail("no")
    });
    let report = queue.run().unwrap();
    assert_eq!((report.counters.commits, report.counters.failures), (2, 1));
    assert_eq!(memory.text(), "child\n");
    assert_eq!((other.pending(), elsewhere.text().as_str()), (1, ""));
    other.run().unwrap();
    assert_eq!(elsewhere.text(), "elsewhere\n");
}

#[test]
fn hooks_run_once_and_their_panics_are_reported() {
    let (queue, _) = queue(2, Order::Free);
    queue.configure(Config { on_error: OnError::Collect, ..queue.config() });
    let commits = Arc::new(AtomicU64::new(0));
    let aborts = Arc::new(AtomicU64::new(0));
    let (commit, abort) = (commits.clone(), aborts.clone());
    queue.add_named("hooked", move |ev| {
        let (commit, abort) = (commit.clone(), abort.clone());
        ev.on_commit(move || {
            commit.fetch_add(1, Ordering::Relaxed);
        });
        ev.on_abort(move || {
            abort.fetch_add(1, Ordering::Relaxed);
        });
        if ev.attempts() < 3 { Err(optimist_dispatcher::Abort::Chaos.into()) } else { Ok(()) }
    });
    queue.add_named("bad hook", |ev| {
        ev.on_commit(|| panic!("too late"));
        Ok(())
    });
    let report = queue.run().unwrap();
    assert_eq!((commits.load(Ordering::Relaxed), aborts.load(Ordering::Relaxed)), (1, 2));
    assert_eq!((report.counters.commits, report.errors.len()), (2, 1));
    assert!(report.errors[0].is_after_commit() && report.errors[0].name() == Some("bad hook"));
}

#[test]
fn an_irrevocable_event_runs_its_body_once_from_there() {
    everywhere(|queue, _| {
        let calls = Arc::new(AtomicU64::new(0));
        let counter = TVar::new(0);
        for n in 0..100 {
            let (counter, calls) = (counter.clone(), calls.clone());
            queue.add_with(if n % 10 == 1 { Options::new().irrevocable() } else { Options::new() }, move |ev| {
                counter.modify(ev, |n| n + 1)?;
                if n % 10 == 0 {
                    ev.irrevocable()?;
                }
                if ev.is_irrevocable() && n % 10 < 2 {
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        queue.run().unwrap();
        assert_eq!((counter.load(), calls.load(Ordering::Relaxed)), (100, 20));
    });
}

#[test]
fn timers_fire_in_their_order_and_keep_the_run_alive() {
    let (queue, memory) = queue(2, Order::Free);
    let started = Instant::now();
    // Far enough apart for a busy machine: two that are due at once may commit in any order.
    queue.add(move |ev| {
        for (n, delay) in [(3, 350), (1, 50), (2, 200)] {
            ev.add_after(Duration::from_millis(delay), move |ev| {
                outln!(ev, "{n}");
                Ok(())
            });
        }
        Ok(())
    });
    queue.add_after(Duration::from_secs(1000), |_| Ok(()));
    let drainer = queue.clone();
    queue.add_after(Duration::from_millis(500), move |ev| {
        let drainer = drainer.clone();
        ev.on_commit(move || drainer.drain());
        Ok(())
    });
    let report = queue.run().unwrap();
    assert_eq!(memory.text(), "1\n2\n3\n");
    assert!(started.elapsed() >= Duration::from_millis(500) && started.elapsed() < Duration::from_secs(100));
    // The workers slept instead of spinning.
    let asleep: u64 = report.workers.iter().map(|worker| worker.counters.asleep_ns).sum();
    assert!(asleep > 60_000_000, "{asleep}");
    assert_eq!(report.pending, 1);
}

#[test]
fn a_run_can_be_stopped_and_limited_and_held_open() {
    let (queue, _) = queue(2, Order::Free);
    queue.add(|ev| {
        ev.again();
        Ok(())
    });
    let stopper = queue.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        stopper.stop();
    });
    let error = queue.run().unwrap_err();
    thread.join().unwrap();
    assert!(error.is_cancelled() && error.report().pending == 1 && error.report().counters.commits > 0);
    queue.configure(Config { time_limit: Some(Duration::from_millis(20)), ..queue.config() });
    assert!(queue.run().unwrap_err().is_time_limit());
    queue.clear();

    let (queue, memory) = self::queue(2, Order::Free);
    let hold = queue.hold();
    let adder = queue.clone();
    let thread = std::thread::spawn(move || {
        for n in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
            adder.add(move |ev| {
                outln!(ev, "{n}");
                Ok(())
            });
        }
        drop(hold);
    });
    queue.run().unwrap();
    thread.join().unwrap();
    assert_eq!(memory.text().lines().count(), 20);
}

#[test]
fn many_threads_add_while_the_queue_runs() {
    everywhere(|queue, _| {
        let sum = TVar::new(0_u64);
        let hold = Arc::new(queue.hold());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let (queue, sum, hold) = (queue.clone(), sum.clone(), hold.clone());
                scope.spawn(move || {
                    for _ in 0..300 {
                        let sum = sum.clone();
                        queue.add(move |ev| Ok(sum.modify(ev, |n| n + 1)?));
                    }
                    drop(hold);
                });
            }
            drop(hold);
            queue.run().unwrap();
        });
        queue.run().unwrap();
        assert_eq!(sum.load(), 900);
    });
}

/// PyPy's module deadlocked when a source of events was added and removed before it ran.
#[test]
fn adding_and_removing_does_not_deadlock() {
    everywhere(|queue, _| {
        for _ in 0..50 {
            let hold = queue.hold();
            queue.add(|_| Ok(()));
            queue.clear();
            drop(hold);
            queue.add(|_| Ok(()));
            assert_eq!(queue.run().unwrap().counters.commits, 1);
            assert_eq!(queue.run().unwrap().counters.commits, 0);
        }
    });
}

#[test]
fn time_and_chance_are_fixed_within_an_attempt_and_across_attempts() {
    let draw = |threads| {
        let (queue, memory) = queue(threads, Order::Ordered);
        for _ in 0..50 {
            queue.add(|ev| {
                let (time, chance) = (ev.now(), ev.random());
                assert_eq!(ev.now(), time);
                let second = ev.random();
                assert_ne!(chance, second);
                outln!(ev, "{} {chance} {second}", ev.number());
                if ev.attempts() == 1 { Err(optimist_dispatcher::Abort::Chaos.into()) } else { Ok(()) }
            });
        }
        queue.run().unwrap();
        memory.text()
    };
    assert_eq!(draw(1), draw(4));
}

#[test]
#[should_panic(expected = "a queue cannot be run within an event")]
fn running_within_an_event_panics() {
    let (queue, _) = queue(1, Order::Free);
    let inner = queue.clone();
    queue.add(move |_| {
        inner.run().unwrap();
        Ok(())
    });
    let error = queue.run().unwrap_err();
    panic!("{}", error.event().unwrap());
}

/// Events that all write one object, asleep for a moment in the middle so that they certainly collide.
fn hot(queue: &TransactionQueue, events: u64) -> optimist_dispatcher::Report {
    let hot = TVar::new(0_u64);
    for _ in 0..events {
        let hot = hot.clone();
        queue.add(move |ev| {
            let value = hot.get(ev)?;
            std::thread::sleep(Duration::from_micros(1));
            Ok(hot.set(ev, value + 1)?)
        });
    }
    let report = queue.run().unwrap();
    assert_eq!(hot.load(), events);
    report
}

#[test]
fn events_that_keep_colliding_run_one_after_the_other() {
    for order in [Order::Free, Order::Fifo] {
        let (queue, _) = queue(4, order);
        // A change of the protocol, as other tests make, would be counted too.
        queue.configure(Config { protocol: Some(optimist_stm::Kind::Eager), ..queue.config() });
        // Terms of 512, 1,024 and 2,048 events leave four times in which each of the workers loses, in a window of 32 events, what an event can.
        let learning = hot(&queue, 4_000);
        let most = 4 * 4 * 32 * u64::from(optimist_stm::run::PATIENCE);
        assert!(learning.counters.conflicts() <= most, "{learning}");
        assert!(learning.counters.serialised > 2_000, "{learning}");
        queue.configure(Config { collisions: 0, ..queue.config() });
        let stubborn = hot(&queue, 4_000);
        assert_eq!(stubborn.counters.serialised, 0);
        assert!(stubborn.counters.conflicts() > 2 * learning.counters.conflicts(), "{stubborn}");
    }
}

/// Lanes hold no events back when a run is stopped, and events in lanes may add, fail and wait.
#[test]
fn lanes_keep_every_event() {
    let (queue, _) = queue(4, Order::Free);
    queue.configure(Config { collisions: 1, on_error: OnError::Collect, ..queue.config() });
    let hot = TVar::new(0_u64);
    for n in 0..5_000_u64 {
        let hot = hot.clone();
        queue.add(move |ev| {
            let value = hot.get(ev)?;
            std::thread::yield_now();
            hot.set(ev, value + 1)?;
            match n % 100 {
                1 => ev.fail("now and then"),
                2 => {
                    let hot = hot.clone();
                    ev.add(move |ev| Ok(hot.modify(ev, |n| n + 1)?));
                    Ok(())
                }
                3 => Ok(ev.check(value > 100)?),
                _ => Ok(()),
            }
        });
    }
    let stopper = queue.clone();
    queue.add_after(Duration::from_millis(3), move |ev| {
        let stopper = stopper.clone();
        ev.on_commit(move || stopper.stop());
        Ok(())
    });
    let first = queue.run().unwrap_err();
    let second = queue.run().unwrap();
    assert!(first.is_cancelled());
    let failures = first.report().counters.failures + second.counters.failures;
    assert_eq!((hot.load(), failures, queue.pending()), (5_000 - 50 + 50, 50, 0));
}

/// The bound on attempts: however many others run against it, an event that writes what all others write is attempted at most once in a batch,
/// `PATIENCE` times optimistically, and once more irrevocably.
#[test]
fn no_event_starves() {
    let (queue, _) = queue(4, Order::Free);
    // A change of the protocol, as other tests make, would begin the count anew.
    let protocol = Some(optimist_stm::Kind::Eager);
    queue.configure(Config { collisions: 0, protocol, ..queue.config() });
    let most = Arc::new(AtomicU64::new(0));
    let cells: Arc<Vec<TVar<u64>>> = Arc::new((0..8).map(|_| TVar::new(0)).collect());
    for n in 0..3_000_usize {
        let (cells, most) = (cells.clone(), most.clone());
        queue.add(move |ev| {
            // One in ten is long and writes everything; the others write one cell each.
            for (index, cell) in cells.iter().enumerate() {
                if n % 10 == 0 || index == n % 8 {
                    cell.modify(ev, |value| value + 1)?;
                    std::thread::yield_now();
                }
            }
            most.fetch_max(u64::from(ev.attempts()), Ordering::Relaxed);
            Ok(())
        });
    }
    queue.run().unwrap();
    assert!(most.load(Ordering::Relaxed) <= u64::from(optimist_stm::run::PATIENCE) + 2);
    assert_eq!(cells.iter().map(TVar::load).sum::<u64>(), 300 * 8 + 2_700);
}

/// A full disk fails no event: it becomes an error of its own, and what could not be written is kept for when it can be.
#[test]
fn a_full_disk_is_reported_after_the_commit() {
    struct Disk(Arc<std::sync::atomic::AtomicBool>, Memory);
    impl std::io::Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.load(Ordering::Relaxed) {
                Err(std::io::ErrorKind::StorageFull.into())
            } else {
                self.1.write(bytes)
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (queue, _) = queue(2, Order::Free);
    queue.configure(Config { on_error: OnError::Collect, ..queue.config() });
    let full = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (_, written) = Output::memory("unused");
    let log = Output::new("the log", Disk(full.clone(), written.clone()));
    let count = TVar::new(0);
    for n in 0..100 {
        let (log, count) = (log.clone(), count.clone());
        queue.add(move |ev| {
            count.modify(ev, |n| n + 1)?;
            ev.write(&log, format!("{n}\n").as_bytes());
            Ok(())
        });
    }
    let report = queue.run().unwrap();
    assert_eq!((report.counters.commits, report.counters.failures, count.load()), (100, 0, 100));
    assert!(report.errors.iter().all(|error| error.is_after_commit() && error.to_string().contains("the log")));
    assert!(!report.errors.is_empty() && log.buffered() > 0);
    full.store(false, Ordering::Relaxed);
    log.flush().unwrap();
    assert_eq!(written.text().lines().count(), 100);
}

#[test]
fn a_pipe_that_nobody_reads_stops_the_run_and_swallows_the_rest() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let stdout = Output::unbuffered("the pipe", writer);
    let queue = TransactionQueue::new(Config { threads: 2, stdout, ..Config::default() });
    for n in 0..100 {
        queue.add(move |ev| {
            outln!(ev, "{n}");
            Ok(())
        });
    }
    let error = queue.run().unwrap_err();
    assert!(error.event().is_some_and(optimist_dispatcher::EventError::is_broken_pipe), "{error}");
    // The reader has gone for good, and is not reported again.
    queue.run().unwrap();
    assert_eq!(queue.pending(), 0);
}
