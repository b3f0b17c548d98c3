//! Memory stays bounded, however many events run.

use optimist_dispatcher::{Config, OnError, Output, TVar, TransactionQueue};

/// The most memory this process has had, in MB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the peak");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") / 1024
}

/// Ten million events with a boxed value each, one million of which fail; half of them come from a feed, half from each other.
#[test]
fn ten_million_small_events_need_little_memory() {
    let events: u64 = if cfg!(debug_assertions) { 1_000_000 } else { 10_000_000 };
    let (stdout, _) = Output::memory("unused");
    let queue = TransactionQueue::new(Config { threads: 2, stdout, on_error: OnError::Collect, ..Config::default() });
    let cells: std::sync::Arc<[TVar<String>]> = (0..64).map(|_| TVar::default()).collect();
    queue.add_each(0..events / 2, move |ev, n| {
        cells[(n % 64) as usize].set(ev, n.to_string())?;
        if n % 5 == 0 {
            return ev.fail("every fifth");
        }
        ev.add(|_| Ok(()));
        Ok(())
    });
    let report = queue.run().unwrap();
    assert_eq!(report.counters.failures, events / 10);
    assert!(report.counters.commits >= events / 10 * 8, "{report}");
    let peak = peak();
    assert!(peak < 200, "{peak} MB");
}
