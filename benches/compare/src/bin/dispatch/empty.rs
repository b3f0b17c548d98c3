//! What an event costs that does nothing, and one of 2 reads and 2 writes, beside what others charge for a task.

use std::hint::black_box;
use std::sync::Arc;

use optimist_dispatcher::{Config, Event, EventResult, TVar, TransactionQueue};
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

use crate::bench::{Goals, Samples, random, timed};

const EVENTS: u64 = 200_000;
const OBJECTS: u64 = 65_536;

/// A way to run a number of empty tasks.
type Side<'a> = (&'static str, Box<dyn FnMut(u64) + 'a>);

type Job = Box<dyn FnOnce() + Send>;

/// Two workers with deques, the first fed by this thread.
fn deques(events: u64) {
    let workers = [crossbeam_deque::Worker::<Job>::new_fifo(), crossbeam_deque::Worker::new_fifo()];
    let stealers = workers.each_ref().map(crossbeam_deque::Worker::stealer);
    for _ in 0..events {
        workers[0].push(Box::new(|| _ = black_box(0)));
    }
    std::thread::scope(|scope| {
        for (index, worker) in workers.into_iter().enumerate() {
            let other = &stealers[1 - index];
            scope.spawn(move || {
                loop {
                    let job = worker.pop().or_else(|| {
                        std::iter::repeat_with(|| other.steal_batch_and_pop(&worker)).find(|s| !s.is_retry())?.success()
                    });
                    match job {
                        Some(job) => job(),
                        None => return,
                    }
                }
            });
        }
    });
}

/// A list under a mutex, two workers that wait for its condition.
fn mutex_and_condition(events: u64) {
    let state = (Mutex::new((std::collections::VecDeque::<Job>::new(), false)), Condvar::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (list, added) = &state;
            scope.spawn(move || {
                loop {
                    let mut locked = list.lock();
                    let job = loop {
                        match locked.0.pop_front() {
                            Some(job) => break job,
                            None if locked.1 => return,
                            None => added.wait(&mut locked),
                        }
                    };
                    drop(locked);
                    job();
                }
            });
        }
        for _ in 0..events {
            state.0.lock().0.push_back(Box::new(|| _ = black_box(0)));
            state.1.notify_one();
        }
        state.0.lock().1 = true;
        state.1.notify_all();
    });
}

fn tree(depth: u32) -> impl FnMut(&mut Event<'_>) -> EventResult + Send {
    move |ev| {
        if depth > 0 {
            ev.add(tree(depth - 1));
            ev.add(tree(depth - 1));
        }
        Ok(())
    }
}

fn queue(threads: usize) -> TransactionQueue {
    TransactionQueue::new(Config { threads, ..Config::default() })
}

/// The section.
pub fn empty(rounds: usize, goals: &mut Goals) -> Value {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let (one, two) = (queue(1), queue(2));
    let run = |queue: &TransactionQueue| assert_eq!(queue.run().expect("no event fails").counters.conflicts(), 0);
    let cells: &'static [TVar<u64>] = Vec::leak((0..OBJECTS).map(|_| TVar::new(0)).collect());
    let mut plain: Vec<Box<u64>> = (0..OBJECTS).map(|_| Box::new(0)).collect();
    let foreign: &'static [fast_stm::TVar<u64>] = Vec::leak((0..OBJECTS).map(|_| fast_stm::TVar::new(0)).collect());
    let pair = |seed: &mut u64| {
        let bits = random(seed);
        ((bits & 0xffff) as usize, (bits >> 16 & 0xffff) as usize)
    };
    let mut sides: Vec<Side<'_>> = vec![
        ("rayon scope.spawn", Box::new(|n| pool.scope(|scope| (0..n).for_each(|_| scope.spawn(|_| _ = black_box(0)))))),
        ("crossbeam-deque, two workers", Box::new(deques)),
        (
            "tokio spawn",
            Box::new(|n| {
                let tasks: Vec<_> = (0..n).map(|_| tokio.spawn(async { black_box(0) })).collect();
                tokio.block_on(async {
                    for task in tasks {
                        task.await.expect("the task does not panic");
                    }
                });
            }),
        ),
        ("mutex and condition", Box::new(mutex_and_condition)),
        (
            "optimist, add and run, 1 thread",
            Box::new(|n| {
                (0..n).for_each(|_| one.add(|_| Ok(())));
                run(&one);
            }),
        ),
        (
            "optimist, add and run",
            Box::new(|n| {
                (0..n).for_each(|_| two.add(|_| Ok(())));
                run(&two);
            }),
        ),
        (
            "optimist, add_each and run",
            Box::new(|n| {
                two.add_each(0..n, |_, _| Ok(()));
                run(&two);
            }),
        ),
        (
            "optimist, events that add two",
            Box::new(|n| {
                two.add(tree(n.ilog2()));
                run(&two);
            }),
        ),
        (
            "optimist, four threads add while it runs",
            Box::new(|n| {
                let hold = Arc::new(two.hold());
                std::thread::scope(|scope| {
                    for _ in 0..4 {
                        let (queue, hold) = (&two, hold.clone());
                        scope.spawn(move || {
                            (0..n / 4).for_each(|_| queue.add(|_| Ok(())));
                            drop(hold);
                        });
                    }
                    drop(hold);
                    run(&two);
                });
            }),
        ),
        (
            "2 reads 2 writes: plain code",
            Box::new(|n| {
                let mut seed = n;
                for _ in 0..n {
                    let (a, b) = pair(&mut seed);
                    let (x, y) = (*plain[a], *plain[b]);
                    *plain[a] = x + 1;
                    *plain[b] = y + 1;
                }
            }),
        ),
        (
            "2 reads 2 writes: fast-stm, no queue",
            Box::new(move |n| {
                let mut seed = n;
                for _ in 0..n {
                    let (a, b) = pair(&mut seed);
                    fast_stm::atomically(|tx| {
                        let (x, y) = (foreign[a].read(tx)?, foreign[b].read(tx)?);
                        foreign[a].write(tx, x + 1)?;
                        foreign[b].write(tx, y + 1)
                    });
                }
            }),
        ),
        (
            "2 reads 2 writes: optimist, 1 thread",
            Box::new(|n| {
                let mut seed = n;
                for _ in 0..n {
                    let (a, b) = pair(&mut seed);
                    one.add(move |ev| {
                        let (x, y) = (cells[a].get(ev)?, cells[b].get(ev)?);
                        cells[a].set(ev, x + 1)?;
                        cells[b].set(ev, y + 1)?;
                        Ok(())
                    });
                }
                run(&one);
            }),
        ),
    ];
    let mut samples = vec![Samples::default(); sides.len()];
    for _ in 0..rounds {
        for ((_, side), samples) in sides.iter_mut().zip(&mut samples) {
            samples.add(timed(|| side(EVENTS)) / EVENTS as f64);
        }
    }
    let mut table = serde_json::Map::new();
    for ((name, _), samples) in sides.iter().zip(&samples) {
        println!("{name:<48}{:>8.1} ns", samples.least());
        table.insert((*name).into(), json!({ "ns": samples.least(), "ns_median": samples.median() }));
    }
    println!();
    let of = |name: &str| samples[sides.iter().position(|side| side.0 == name).expect("a side of this name")].least();
    let rayon = of("rayon scope.spawn");
    goals.at_most("empty event, add and run / rayon spawn", of("optimist, add and run") / rayon, 2.0, 1.2);
    goals.at_most("empty event, events that add / rayon spawn", of("optimist, events that add two") / rayon, 2.0, 1.2);
    let over = of("2 reads 2 writes: optimist, 1 thread") - of("2 reads 2 writes: plain code");
    goals.at_most("2 reads 2 writes over plain code, ns", over, 150.0, 60.0);
    Value::Object(table)
}
