//! Events that read, work, and write 2 of 65,536 objects, one of them the same hot one with a given probability. On all sides an object is a box
//! of its own, as objects are.

use std::sync::atomic::{AtomicUsize, Ordering};

use optimist_dispatcher::{Config, Kind, Options, Order, Report, TVar, TransactionQueue};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::bench::{Goals, Samples, random, steps_of, timed, work};

const OBJECTS: usize = 65_536;

/// Which two objects each event uses.
type Places = &'static [(u32, u32)];

fn places(events: usize, percent: u64) -> Places {
    let mut seed = percent;
    let pick = |seed: &mut u64| (random(seed) as usize % (OBJECTS - 1) + 1) as u32;
    Vec::leak(
        (0..events)
            .map(|_| (if random(&mut seed) % 100 < percent { 0 } else { pick(&mut seed) }, pick(&mut seed)))
            .collect(),
    )
}

fn boxes<T>(make: impl Fn() -> T) -> Vec<Box<T>> {
    (0..OBJECTS).map(|_| Box::new(make())).collect()
}

fn plain(objects: &mut [Box<u64>], places: Places, steps: u32) {
    for &(a, b) in places {
        let (x, y) = (*objects[a as usize], *objects[b as usize]);
        let z = work(x ^ y, steps);
        *objects[a as usize] = x + 1;
        *objects[b as usize] = y + (z >> 60);
    }
}

/// Two threads that take events by the block, as a queue would give them out at no cost.
fn on_two_threads(places: Places, body: impl Fn((usize, usize)) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    // Relaxed: it only shares out indices.
                    let from = next.fetch_add(64, Ordering::Relaxed);
                    if from >= places.len() {
                        break;
                    }
                    for &(a, b) in &places[from..places.len().min(from + 64)] {
                        body((a as usize, b as usize));
                    }
                }
            });
        }
    });
}

fn one_lock(objects: &Mutex<Vec<Box<u64>>>, places: Places, steps: u32) {
    on_two_threads(places, |(a, b)| {
        let mut objects = objects.lock();
        let (x, y) = (*objects[a], *objects[b]);
        let z = work(x ^ y, steps);
        *objects[a] = x + 1;
        *objects[b] = y + (z >> 60);
    });
}

fn object_locks(objects: &[Box<Mutex<u64>>], places: Places, steps: u32) {
    on_two_threads(places, |(a, b)| {
        if a == b {
            let mut x = objects[a].lock();
            let z = work(0, steps);
            *x += 1 + (z >> 60);
            return;
        }
        let (low, high) = (objects[a.min(b)].lock(), objects[a.max(b)].lock());
        let (mut x, mut y) = if a < b { (low, high) } else { (high, low) };
        let z = work(*x ^ *y, steps);
        *x += 1;
        *y += z >> 60;
    });
}

fn fast_stm(objects: &[fast_stm::TVar<u64>], places: Places, steps: u32) {
    on_two_threads(places, |(a, b)| {
        fast_stm::atomically(|tx| {
            let (x, y) = (objects[a].read(tx)?, objects[b].read(tx)?);
            let z = work(x ^ y, steps);
            objects[a].write(tx, x + 1)?;
            objects[b].write(tx, y + (z >> 60))
        });
    });
}

/// The event.
macro_rules! event {
    ($ev:ident, $cells:ident, $a:expr, $b:expr, $steps:ident) => {{
        let (a, b) = (&$cells[$a as usize], &$cells[$b as usize]);
        let (x, y) = (a.get($ev)?, b.get($ev)?);
        let z = work(x ^ y, $steps);
        a.set($ev, x + 1)?;
        b.set($ev, y + (z >> 60))?;
        Ok(())
    }};
}

fn add(queue: &TransactionQueue, cells: &'static [TVar<u64>], places: Places, steps: u32) {
    for &(a, b) in places {
        queue.add(move |ev| event!(ev, cells, a, b, steps));
    }
}

fn add_each(queue: &TransactionQueue, cells: &'static [TVar<u64>], places: Places, steps: u32) {
    queue.add_each(places, move |ev, &&(a, b)| event!(ev, cells, a, b, steps));
}

fn queue(config: Config) -> TransactionQueue {
    TransactionQueue::new(config)
}

fn cells() -> &'static [TVar<u64>] {
    Vec::leak((0..OBJECTS).map(|_| TVar::new(0)).collect())
}

/// The section.
pub fn objects(rounds: usize, goals: &mut Goals) -> Value {
    const SIDES: [&str; 8] = [
        "plain",
        "one lock",
        "object locks",
        "fast-stm",
        "optimist, 1 thread",
        "optimist, run alone",
        "optimist, add and run",
        "optimist, add_each",
    ];
    let (mut boxed, locked, objects_locked) = (boxes(|| 0), Mutex::new(boxes(|| 0)), boxes(|| Mutex::new(0)));
    let foreign: Vec<fast_stm::TVar<u64>> = (0..OBJECTS).map(|_| fast_stm::TVar::new(0)).collect();
    let cells = cells();
    let one = queue(Config { threads: 1, ..Config::default() });
    let two = queue(Config { threads: 2, ..Config::default() });
    let mut table = serde_json::Map::new();
    for (nanoseconds, events) in [(650.0, 30_000), (6_800.0, 5_000)] {
        let steps = steps_of(nanoseconds);
        println!("events of {nanoseconds} ns; speed-up over plain code; aborts an event");
        println!("{:<10}{}", "hot", SIDES.map(|side| format!("{side:>22}")).concat());
        for percent in [0, 1, 10, 50, 100] {
            let places = places(events, percent);
            let mut samples = vec![Samples::default(); SIDES.len()];
            let mut last = Report::default();
            for _ in 0..rounds {
                samples[0].add(timed(|| plain(&mut boxed, places, steps)));
                samples[1].add(timed(|| one_lock(&locked, places, steps)));
                samples[2].add(timed(|| object_locks(&objects_locked, places, steps)));
                samples[3].add(timed(|| fast_stm(&foreign, places, steps)));
                let run = |queue: &TransactionQueue| queue.run().expect("no event fails");
                samples[4].add(timed(|| {
                    add(&one, cells, places, steps);
                    run(&one);
                }));
                let mut alone = 0.0;
                samples[6].add(timed(|| {
                    add(&two, cells, places, steps);
                    alone = timed(|| last = run(&two));
                }));
                samples[5].add(alone);
                samples[7].add(timed(|| {
                    add_each(&two, cells, places, steps);
                    run(&two);
                }));
            }
            let plain = samples[0].least();
            let speed_up = |side: usize| plain / samples[side].least();
            let aborts = last.counters.conflicts() as f64 / events as f64;
            let cells: Vec<String> = (0..SIDES.len()).map(|side| format!("{:>22.2}", speed_up(side))).collect();
            println!("{percent:<10}{}   {aborts:.3}", cells.concat());
            let row: serde_json::Map<String, Value> =
                SIDES.iter().enumerate().map(|(side, name)| ((*name).into(), json!(speed_up(side)))).collect();
            let name = format!("{nanoseconds} ns, {percent} % hot");
            table.insert(
                name.clone(),
                json!({ "plain_ns": plain / events as f64, "speed_up": row, "aborts_an_event": aborts }),
            );
            let ours = speed_up(6).max(speed_up(7));
            match (percent, nanoseconds < 1_000.0) {
                (0, true) => {
                    goals.at_most("one thread / plain loop, 0.65 µs", 1.0 / speed_up(4), 1.25, 1.10);
                    goals.at_least("two cores, independent events, 0.65 µs", ours, 1.6, 1.85);
                }
                (0, false) => goals.at_least("two cores, independent events, 6.8 µs", ours, 1.85, 1.95),
                (100, true) => {
                    goals.at_least("all hot, 0.65 µs / sequential", ours, 0.80, 0.95);
                    goals.at_most("all hot, 0.65 µs: aborts an event", aborts, 0.2, 0.02);
                }
                _ => {}
            }
            if nanoseconds < 1_000.0 {
                let (must, stretch) = match percent {
                    0 | 1 => (1.8, 2.1),
                    10 => (1.7, 2.0),
                    50 => (1.2, 1.8),
                    _ => (0.9, 1.0),
                };
                goals.at_least(&format!("{name} / one lock"), ours / speed_up(1), must, stretch);
            }
        }
        println!();
    }
    Value::Object(table)
}

/// Compares the throughput of two queues on the same events.
fn ratio(rounds: usize, events: usize, mut base: impl FnMut(Places), mut other: impl FnMut(Places)) -> f64 {
    let places = places(events, 0);
    let mut samples = [Samples::default(), Samples::default()];
    for _ in 0..rounds {
        samples[0].add(timed(|| base(places)));
        samples[1].add(timed(|| other(places)));
    }
    samples[0].least() / samples[1].least()
}

/// The section.
pub fn ordered(rounds: usize, goals: &mut Goals) -> Value {
    let cells = cells();
    let free = queue(Config { threads: 2, ..Config::default() });
    let protocol = Some(Kind::Tl2);
    let in_order = queue(Config { threads: 2, order: Order::Ordered, protocol, ..Config::default() });
    let mut table = serde_json::Map::new();
    for (nanoseconds, events) in [(650.0, 30_000), (6_800.0, 5_000)] {
        let steps = steps_of(nanoseconds);
        let run = |queue: &TransactionQueue, places: Places| {
            add(queue, cells, places, steps);
            queue.run().expect("no event fails");
        };
        let ratio = ratio(rounds, events, |places| run(&free, places), |places| run(&in_order, places));
        let name = format!("ordered / unordered, {nanoseconds} ns");
        goals.at_least(&name, ratio, 0.8, 0.95);
        table.insert(name, json!(ratio));
    }
    Value::Object(table)
}

/// The section.
pub fn irrevocable(rounds: usize, goals: &mut Goals) -> Value {
    let cells = cells();
    let two = queue(Config { threads: 2, ..Config::default() });
    let mut table = serde_json::Map::new();
    for (nanoseconds, events) in [(650.0, 30_000), (6_800.0, 5_000)] {
        let steps = steps_of(nanoseconds);
        let run = |every: usize, places: Places| {
            for (n, &(a, b)) in places.iter().enumerate() {
                let options = if n % every == every - 1 { Options::new().irrevocable() } else { Options::new() };
                two.add_with(options, move |ev| event!(ev, cells, a, b, steps));
            }
            two.run().expect("no event fails");
        };
        let ratio = ratio(rounds, events, |places| run(usize::MAX, places), |places| run(100, places));
        let name = format!("1 % irrevocable / none, {nanoseconds} ns");
        goals.at_least(&name, ratio, 0.85, 0.95);
        table.insert(name, json!(ratio));
    }
    Value::Object(table)
}
