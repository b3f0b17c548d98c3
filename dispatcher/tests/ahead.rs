//! The protocol of a run in order. By itself in a process, for elsewhere other tests hold leases.

use std::sync::{Arc, Barrier};

use optimist_dispatcher::{Config, Kind, Order, TransactionQueue};

/// Without a protocol of its own a run in order is under one that lets events run ahead, and leaves behind the one it found.
#[test]
fn events_run_ahead_by_default() {
    let queue = TransactionQueue::new(Config { threads: 2, order: Order::Ordered, ..Config::default() });
    let before = optimist_stm::runtime::protocol();
    let together = Arc::new(Barrier::new(2));
    for _ in 0..2 {
        let together = together.clone();
        queue.add(move |_| {
            // Comes back only if both run at once.
            together.wait();
            Ok(())
        });
    }
    let report = queue.run().unwrap();
    assert_eq!((report.protocol, optimist_stm::runtime::protocol()), (Kind::Tl2, before));
}
