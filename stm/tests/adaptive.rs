//! The protocol changes under a running load, by itself.

use std::cell::Cell;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use optimist_stm::adaptive::{Adaptive, adapt};
use optimist_stm::{Kind, TVar, lease, read_only, runtime};

/// Every reader meets a value that is newer than its snapshot: it is aborted, so another protocol gets its trial.
#[test]
fn a_load_of_aborted_readers_gets_another_protocol() {
    let adapting = adapt(Adaptive::new(Kind::Eager), Duration::from_millis(50));
    let (first, second) = (TVar::new(0_u64), TVar::new(0_u64));
    let (ask, asked) = mpsc::channel::<u64>();
    let (answer, answered) = mpsc::channel();
    thread::scope(|scope| {
        let second = &second;
        scope.spawn(move || {
            for n in asked {
                second.store(n);
                answer.send(()).expect("somebody waits");
            }
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut n = 0;
        while adapting.changes() == 0 && Instant::now() < deadline {
            n += 1;
            let begun = Cell::new(false);
            let (_, seen) = read_only(|tx| {
                let before = first.get(tx)?;
                if !begun.replace(true) {
                    ask.send(n).expect("somebody listens");
                    // Not for ever: a change of the protocol holds the other thread up until this transaction is over.
                    let _ = answered.recv_timeout(Duration::from_millis(1));
                }
                Ok((before, second.get(tx)?))
            });
            assert!(seen <= n, "{seen} of {n}");
        }
        drop(ask);
    });
    assert!(adapting.changes() >= 1, "nothing was tried");
    // A lease is stronger.
    let held = lease(Kind::Norec);
    let changes = adapting.changes();
    thread::sleep(Duration::from_millis(200));
    assert_eq!((runtime::protocol(), adapting.changes()), (Kind::Norec, changes));
    drop(held);
    drop(adapting);
    assert_eq!(runtime::protocol(), Kind::Eager, "home again");
}
