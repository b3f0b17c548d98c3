//! What matters to a service: that all clients get their share, that a long event does not hold up short ones, and that waiting costs nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use optimist_dispatcher::{Config, TVar, TransactionQueue};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::bench::{Goals, process_time, steps_of, work};

fn queue(threads: usize) -> TransactionQueue {
    TransactionQueue::new(Config { threads, ..Config::default() })
}

/// The slowest of equal clients, each with one request at a time, as a share of the fastest.
fn slowest_client(steps: u32) -> f64 {
    const CLIENTS: usize = 50;
    let queue = queue(2);
    let served: Arc<[AtomicU64]> = (0..CLIENTS).map(|_| AtomicU64::new(0)).collect();
    let over = Arc::new(AtomicBool::new(false));
    let cells: &'static [TVar<u64>] = Vec::leak((0..CLIENTS).map(|_| TVar::new(0)).collect());
    for client in 0..CLIENTS {
        let (served, over) = (served.clone(), over.clone());
        queue.add(move |ev| {
            let value = cells[client].get(ev)?;
            cells[client].set(ev, work(value, steps))?;
            // Relaxed: both are read when all is over, or may be seen late.
            if !over.load(Ordering::Relaxed) {
                served[client].fetch_add(1, Ordering::Relaxed);
                ev.again();
            }
            Ok(())
        });
    }
    let timer = over.clone();
    let clock = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        timer.store(true, Ordering::Relaxed);
    });
    queue.run().expect("no event fails");
    clock.join().expect("the clock does not panic");
    let counts: Vec<u64> = served.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let (least, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(1));
    least as f64 / most as f64
}

/// The 99th percentile, in microseconds, of the time from the moment that a request is added to its commit. Requests of 5 µs come by tens, so
/// that one core is busy for a fifth of the time; if `long`, one of 10 ms is under way most of the time as well. No two use the same object.
fn p99(steps: u32, long: bool) -> f64 {
    const BURSTS: u32 = 800;
    const BURST: usize = 10;
    let queue = queue(2);
    let hold = queue.hold();
    let times = Arc::new(Mutex::new(Vec::with_capacity(BURSTS as usize * BURST)));
    let runner = {
        let queue = queue.clone();
        std::thread::spawn(move || queue.run().expect("no event fails"))
    };
    let cells: &'static [TVar<u64>] = Vec::leak((0..1024 + BURSTS as usize).map(|_| TVar::new(0)).collect());
    let mut next_long = Instant::now();
    for burst in 0..BURSTS as usize {
        std::thread::sleep(Duration::from_micros(200));
        if long && Instant::now() >= next_long {
            next_long = Instant::now() + Duration::from_millis(12);
            queue.add(move |ev| {
                let value = cells[1024 + burst].get(ev)?;
                Ok(cells[1024 + burst].set(ev, work(value, steps * 2_000))?)
            });
        }
        for n in 0..BURST {
            let times = times.clone();
            let arrival = Instant::now();
            queue.add(move |ev| {
                let cell = &cells[(burst * BURST + n) % 1024];
                let value = cell.get(ev)?;
                cell.set(ev, work(value, steps))?;
                let times = times.clone();
                ev.on_commit(move || times.lock().push(arrival.elapsed()));
                Ok(())
            });
        }
    }
    drop(hold);
    runner.join().expect("the run does not panic");
    let mut times = std::mem::take(&mut *times.lock());
    assert_eq!(times.len(), BURSTS as usize * BURST);
    times.sort_unstable();
    times[times.len() * 99 / 100].as_secs_f64() * 1e6
}

/// The section.
pub fn fairness(rounds: usize, goals: &mut Goals) -> Value {
    let steps = steps_of(5_000.0);
    let share = (0..rounds.div_ceil(3)).map(|_| slowest_client(steps)).fold(0.0, f64::max);
    goals.at_least("slowest of 50 equal clients / fastest", share, 0.8, 0.95);
    let (mut without, mut with) = (f64::MAX, f64::MAX);
    for _ in 0..rounds.div_ceil(2) {
        without = without.min(p99(steps, false));
        with = with.min(p99(steps, true));
    }
    println!("p99 of 5 µs events: {without:.1} µs, {with:.1} µs beside events of 10 ms");
    goals.at_most("p99 of 5 µs events beside 10 ms events / without", with / without, 2.0, 2.0);
    json!({ "slowest_share": share, "p99_us": without, "p99_beside_long_us": with })
}

/// The section.
pub fn idle(rounds: usize, goals: &mut Goals) -> Value {
    let queue = queue(2);
    let hold = queue.hold();
    let runner = {
        let queue = queue.clone();
        std::thread::spawn(move || queue.run().expect("no event fails"))
    };
    std::thread::sleep(Duration::from_millis(50));
    let before = process_time();
    std::thread::sleep(Duration::from_millis(1_000));
    let used = (process_time() - before) as f64 / 1e9 * 100.0;
    let wake = |send: &dyn Fn(Instant, mpsc::Sender<Duration>)| {
        let (sender, receiver) = mpsc::channel();
        let mut times: Vec<Duration> = (0..50 * rounds)
            .map(|_| {
                std::thread::sleep(Duration::from_micros(500));
                send(Instant::now(), sender.clone());
                receiver.recv().expect("an answer")
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    let ours = wake(&|started, answer| {
        queue.add(move |_| {
            let _ = answer.send(started.elapsed());
            Ok(())
        });
    });
    drop(hold);
    runner.join().expect("the run does not panic");
    // A thread that waits for a channel, for comparison.
    let (requests, waiting) = mpsc::channel::<(Instant, mpsc::Sender<Duration>)>();
    let thread = std::thread::spawn(move || {
        for (started, answer) in waiting {
            let _ = answer.send(started.elapsed());
        }
    });
    let channel = wake(&|started, answer| requests.send((started, answer)).expect("the thread waits"));
    drop(requests);
    thread.join().expect("the thread does not panic");
    println!("wake-up, median: {ours:.1} µs; a thread that waits for a channel: {channel:.1} µs");
    goals.at_most("idle, % of a core", used, 0.1, 0.01);
    goals.at_most("wake-up of an idle run, µs", ours, 15.0, 15.0);
    json!({ "idle_percent": used, "wake_us": ours, "channel_wake_us": channel })
}
