//! Sequences of steps, feeds, map and reduce.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use optimist_dispatcher::{Abort, Config, OnError, Order, TVar, TransactionQueue};

const ORDERS: [Order; 5] = [Order::Free, Order::Fifo, Order::Keyed, Order::Priority, Order::Ordered];

fn queue(threads: usize, order: Order) -> TransactionQueue {
    TransactionQueue::new(Config { threads, order, ..Config::default() })
}

#[test]
fn a_generator_takes_each_item_once_whatever_is_retried() {
    for order in ORDERS {
        for threads in [1, 3] {
            let queue = queue(threads, order);
            let taken = Arc::new(AtomicU64::new(0));
            let log = TVar::new(Vec::new());
            let (count, steps) = (taken.clone(), log.clone());
            let items = (0..100_u64).inspect(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            queue.add_generator(items, move |ev, n| {
                let mut log = steps.get(ev)?;
                log.push(*n);
                steps.set(ev, log)?;
                if ev.attempts() == 1 && n % 3 == 0 { Err(Abort::Chaos.into()) } else { Ok(()) }
            });
            assert_eq!(queue.run().unwrap().counters.commits, 100);
            assert_eq!((log.load(), taken.load(Ordering::Relaxed)), ((0..100).collect(), 100));
        }
    }
}

#[test]
fn a_feed_runs_an_event_for_each_item() {
    for order in ORDERS {
        let queue = queue(3, order);
        let sum = Arc::new([TVar::new(0_u64), TVar::new(0)]);
        let cells = sum.clone();
        queue.add_each(0..3000_u64, move |ev, n| Ok(cells[(n % 2) as usize].modify(ev, |sum| sum + n)?));
        queue.run().unwrap();
        assert_eq!(sum.each_ref().map(TVar::load), [1499 * 1500, 1500 * 1500], "{order}");
    }
}

#[test]
fn map_keeps_the_order_of_the_items_and_reduce_the_bracketing() {
    for order in ORDERS {
        let queue = queue(4, order);
        assert_eq!(queue.map(0..500_u64, |_, n| Ok(n * n)).unwrap(), (0..500).map(|n| n * n).collect::<Vec<_>>());
        let text = |threads| {
            let queue = self::queue(threads, order);
            queue.map_reduce(0..9, |_, n| Ok(n.to_string()), |_, a, b| Ok(format!("({a}{b})"))).unwrap().unwrap()
        };
        assert_eq!(text(1), text(4));
        assert_eq!(text(4).chars().filter(char::is_ascii_digit).count(), 9);
        let nothing = queue.map_reduce(Vec::<u64>::new(), |_, n| Ok(*n), |_, a, b| Ok(a + b));
        assert_eq!(nothing.unwrap(), None);
    }
}

#[test]
fn map_reports_what_failed() {
    let queue = queue(2, Order::Free);
    queue.configure(Config { on_error: OnError::Collect, ..queue.config() });
    let error = queue.map(0..10, |ev, n| if *n == 7 { ev.fail("seven") } else { Ok(*n) }).unwrap_err();
    assert!(error.to_string().contains("seven") && error.report().counters.commits == 9);
    assert_eq!(queue.pending(), 0);
}
