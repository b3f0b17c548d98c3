//! Events that read and write 2 of 65,536 objects, one of them hot with some probability: speed-up over plain sequential code on two
//! threads, beside one mutex around everything. Both sides are measured in turn; the best of several rounds counts.
//!
//! `cargo run --release -p optimist-dispatcher --example hot_object [WORK]`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use optimist_dispatcher::{Config, Report, TVar, TransactionQueue};
use parking_lot::Mutex;

const EVENTS: u64 = 100_000;
const OBJECTS: usize = 65_536;
const ROUNDS: usize = 5;

fn mix(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

/// Something to do between reading and writing.
fn work(mut value: u64, steps: u64) -> u64 {
    for _ in 0..steps {
        value = value.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407).rotate_left(7);
    }
    value
}

fn places(percent: u64) -> Vec<(usize, usize)> {
    let mut seed = 1;
    let pick = |seed: &mut u64| mix(seed) as usize % OBJECTS;
    (0..EVENTS)
        .map(|_| {
            let hot = mix(&mut seed) % 100 < percent;
            (if hot { 0 } else { pick(&mut seed) }, pick(&mut seed))
        })
        .collect()
}

fn timed(best: &mut f64, body: impl FnOnce()) {
    let started = Instant::now();
    body();
    *best = best.min(started.elapsed().as_nanos() as f64 / EVENTS as f64);
}

fn run(
    queue: &TransactionQueue,
    cells: &Arc<Vec<TVar<u64>>>,
    places: &[(usize, usize)],
    steps: u64,
    best: &mut f64,
) -> Report {
    for &(a, b) in places {
        let cells = cells.clone();
        queue.add(move |ev| {
            let (x, y) = (cells[a].get(ev)?, cells[b].get(ev)?);
            let z = work(x ^ y, steps);
            cells[a].set(ev, x + 1)?;
            cells[b].set(ev, y + (z >> 60))?;
            Ok(())
        });
    }
    let mut report = None;
    timed(best, || report = Some(queue.run().expect("no event fails")));
    report.expect("a report")
}

fn main() {
    let steps = std::env::args().nth(1).map_or(300, |steps| steps.parse().expect("a number"));
    println!("hot %   plain ns   one mutex   1 thread   2 threads   without learning   aborts/event   serialised");
    for percent in [0, 1, 10, 50, 100] {
        let places = places(percent);
        let mut best = [f64::MAX; 5];
        let mut last = Report::default();
        let cells: Arc<Vec<TVar<u64>>> = Arc::new((0..OBJECTS).map(|_| TVar::new(0)).collect());
        let queue = |threads, collisions| TransactionQueue::new(Config { threads, collisions, ..Config::default() });
        let (one, two, stubborn) = (queue(1, 0), queue(2, Config::default().collisions), queue(2, 0));
        for _ in 0..ROUNDS {
            let mut plain = vec![0_u64; OBJECTS];
            timed(&mut best[0], || {
                for &(a, b) in &places {
                    let z = work(plain[a] ^ plain[b], steps);
                    plain[a] += 1;
                    plain[b] += z >> 60;
                }
            });
            black_box(&plain);
            let locked = Mutex::new(plain);
            timed(&mut best[1], || {
                std::thread::scope(|scope| {
                    for half in places.chunks(places.len() / 2) {
                        let locked = &locked;
                        scope.spawn(move || {
                            for &(a, b) in half {
                                let mut objects = locked.lock();
                                let z = work(objects[a] ^ objects[b], steps);
                                objects[a] += 1;
                                objects[b] += z >> 60;
                            }
                        });
                    }
                });
            });
            run(&one, &cells, &places, steps, &mut best[2]);
            last = run(&two, &cells, &places, steps, &mut best[3]);
            run(&stubborn, &cells, &places, steps, &mut best[4]);
        }
        println!(
            "{percent:>5}{:>11.0}{:>12.2}{:>11.2}{:>12.2}{:>19.2}{:>15.3}{:>13}",
            best[0],
            best[0] / best[1],
            best[0] / best[2],
            best[0] / best[3],
            best[0] / best[4],
            last.counters.conflicts() as f64 / EVENTS as f64,
            last.counters.serialised,
        );
    }
}
