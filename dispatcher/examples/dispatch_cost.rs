//! What an empty event costs, beside a rayon spawn: nanoseconds an event, best of several rounds taken in turn.
//!
//! `cargo run --release -p optimist-dispatcher --example dispatch_cost`

use std::time::Instant;

use optimist_dispatcher::{Config, TVar, TransactionQueue};

const EVENTS: u64 = 1_000_000;
const ROUNDS: usize = 5;

fn measure(best: &mut f64, body: impl FnOnce()) {
    let started = Instant::now();
    body();
    *best = best.min(started.elapsed().as_nanos() as f64 / EVENTS as f64);
}

fn main() {
    let threads = 2;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
    let names = [
        "rayon scope.spawn",
        "add + run, 1 thread",
        "add + run, 2 threads",
        "run only, 1 thread",
        "run only, 2 threads",
        "chain of again(), 1 thread",
        "tree, 2 threads",
        "2 reads 2 writes, run only, 1 thread",
    ];
    let mut best = [f64::MAX; 8];
    let one = TransactionQueue::new(Config { threads: 1, ..Config::default() });
    let two = TransactionQueue::new(Config { threads, ..Config::default() });
    let cells: Vec<TVar<u64>> = (0..65536).map(|_| TVar::new(0)).collect();
    let cells = std::sync::Arc::new(cells);
    for _ in 0..ROUNDS {
        measure(&mut best[0], || pool.scope(|scope| (0..EVENTS).for_each(|_| scope.spawn(|_| {}))));
        for (index, queue) in [&one, &two].into_iter().enumerate() {
            measure(&mut best[1 + index], || {
                (0..EVENTS).for_each(|_| queue.add(|_| Ok(())));
                queue.run().expect("no event fails");
            });
            (0..EVENTS).for_each(|_| queue.add(|_| Ok(())));
            measure(&mut best[3 + index], || {
                queue.run().expect("no event fails");
            });
        }
        measure(&mut best[5], || {
            let mut left = EVENTS;
            one.add(move |ev| {
                left -= 1;
                if left > 0 {
                    ev.again();
                }
                Ok(())
            });
            one.run().expect("no event fails");
        });
        fn node(
            depth: u32,
        ) -> impl FnMut(&mut optimist_dispatcher::Event<'_>) -> optimist_dispatcher::EventResult + Send {
            move |ev| {
                if depth > 0 {
                    ev.add(node(depth - 1));
                    ev.add(node(depth - 1));
                }
                Ok(())
            }
        }
        measure(&mut best[6], || {
            two.add(node(19));
            two.run().expect("no event fails");
        });
        let mut seed = 1_u64;
        for _ in 0..EVENTS {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (a, b) = ((seed >> 48) as usize, (seed >> 32) as usize & 0xffff);
            let cells = cells.clone();
            one.add(move |ev| {
                cells[a].modify(ev, |n| n + 1)?;
                cells[b].modify(ev, |n| n + 1)?;
                Ok(())
            });
        }
        measure(&mut best[7], || {
            one.run().expect("no event fails");
        });
    }
    for (name, nanoseconds) in names.iter().zip(best) {
        println!("{name:<40}{nanoseconds:>8.1} ns");
    }
}
