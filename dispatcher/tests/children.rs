//! Child queues: so many at once, counted and waited for by themselves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use optimist_dispatcher::effects::Memory;
use optimist_dispatcher::{Config, OnError, Options, Order, Output, TVar, TransactionQueue, outln};

fn queue(threads: usize, order: Order) -> (TransactionQueue, Memory) {
    let (stdout, printed) = Output::memory("printed");
    let on_error = OnError::Collect;
    (TransactionQueue::new(Config { threads, order, stdout, on_error, ..Config::default() }), printed)
}

#[test]
fn at_most_so_many_run_at_once() {
    for (order, _) in Order::ALL {
        for most in [1, 2, 3] {
            let (queue, _) = queue(4, *order);
            let child = queue.child(most);
            let (running, highest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            // The first ones wait for each other where they can run at the same time, so that they do.
            let together = Arc::new(Barrier::new(if *order == Order::Ordered { 1 } else { most }));
            for n in 0..60 {
                let (running, highest, together) = (running.clone(), highest.clone(), together.clone());
                child.add(move |_| {
                    if n < most {
                        together.wait();
                    }
                    highest.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    if n < most {
                        together.wait();
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                });
                queue.add(|_| Ok(()));
            }
            let report = queue.run().unwrap();
            assert_eq!((report.counters.commits, child.executed(), child.pending()), (120, 60, 0), "{order}");
            assert!(highest.load(Ordering::SeqCst) <= most, "{order} {most}");
            assert!(*order == Order::Ordered || highest.load(Ordering::SeqCst) == most, "{order} {most}");
        }
    }
}

/// One at a time, in the order in which they were added, however they end; what they add comes after them.
#[test]
fn one_at_a_time_keeps_the_order() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    for (order, _) in Order::ALL {
        let (queue, printed) = queue(4, *order);
        let child = queue.child(1);
        let gate = TVar::new(false);
        for n in 0..40_u32 {
            let (gate, mut repeats) = (gate.clone(), 0);
            child.add(move |ev| {
                outln!(ev, "{n}");
                match n {
                    10 => return ev.fail("ten"),
                    11 => panic!("eleven"),
                    12 => ev.add(|ev| {
                        outln!(ev, "added by 12");
                        Ok(())
                    }),
                    13 => ev.add_after(Duration::from_millis(1), |ev| {
                        outln!(ev, "added by 13");
                        Ok(())
                    }),
                    14 if repeats < 3 => {
                        repeats += 1;
                        ev.again();
                    }
                    20 => {
                        let open = gate.get(ev)?;
                        ev.check(open)?;
                    }
                    _ => {}
                }
                Ok(())
            });
        }
        let open = gate.clone();
        queue.add_after(Duration::from_millis(2), move |ev| Ok(open.set(ev, true)?));
        let last = child.clone();
        child.when_empty(move |ev| {
            outln!(ev, "empty {} {}", last.executed(), last.failed());
            Ok(())
        });
        if *order == Order::Ordered {
            // An ordered event that waits for a later one would wait for ever.
            gate.store(true);
        }
        queue.run().unwrap();
        let mut expected: Vec<String> = (0..40).filter(|n| !(10..=11).contains(n)).map(|n| n.to_string()).collect();
        for _ in 0..3 {
            expected.insert(expected.iter().position(|line| line == "14").unwrap(), "14".into());
        }
        expected.extend(["added by 12".into(), "added by 13".into(), "empty 43 2".into()]);
        assert_eq!(printed.text().lines().collect::<Vec<_>>(), expected, "{order}");
    }
    std::panic::set_hook(hook);
}

#[test]
fn additions_wait_for_the_commit() {
    let (queue, printed) = queue(2, Order::Free);
    let child = queue.child(2);
    for fails in [false, true] {
        let child = child.clone();
        queue.add(move |ev| {
            child.add(move |ev| {
                outln!(ev, "child of one that fails: {fails}");
                Ok(())
            });
            let counted = child.clone();
            child.when_empty(move |ev| {
                outln!(ev, "empty of one that fails: {fails}, {}", counted.pending());
                Ok(())
            });
            if fails { ev.fail("fails") } else { Ok(()) }
        });
    }
    queue.run().unwrap();
    assert_eq!(printed.text(), "child of one that fails: false\nempty of one that fails: false, 0\n");
}

#[test]
fn a_child_is_cleared_by_itself() {
    let (queue, printed) = queue(1, Order::Free);
    let (child, other) = (queue.child(1), queue.child(1));
    for n in 0..10 {
        for (name, child) in [("child", &child), ("other", &other)] {
            child.add_with(Options::new().name(name), move |ev| {
                outln!(ev, "{name} {n}");
                Ok(())
            });
        }
    }
    assert_eq!((child.pending(), queue.pending()), (10, 2));
    child.clear();
    assert_eq!((child.pending(), other.pending()), (1, 10));
    queue.run().unwrap();
    assert_eq!(printed.text().lines().filter(|line| line.starts_with("child")).count(), 1);
    assert_eq!((child.executed(), other.executed()), (1, 10));
    // Dropping the parent's events frees the places that they had.
    child.add(|_| Ok(()));
    queue.clear();
    assert_eq!((child.pending(), child.executed()), (0, 1));
    assert!(child.parent().pending() == 0);
}
