//! PHOLD, the standard load of parallel simulation (Fujimoto, "Performance of Time Warp under synthetic workloads", 1990): a fixed population of
//! messages hops between processes, each hop some time ahead. The sequential side is a binary heap. On ours each process of a window
//! (messages within one look-ahead of each other cannot cause each other) is an event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use optimist_dispatcher::{Config, TVar, TransactionQueue};
use serde_json::{Value, json};

use crate::bench::{Goals, Samples, random, steps_of, timed, work};

const PROCESSES: u64 = 1_024;
const POPULATION: u64 = 8_192;
const HOPS: u64 = 60_000;
/// The least distance between a message and the one it causes; the mean is five times that.
const LOOK_AHEAD: u64 = 1_000;

/// When and where a message arrives, and its number, which makes the order of messages strict.
type Message = (u64, u64, u64);

fn population() -> Vec<Message> {
    let mut seed = 7;
    (0..POPULATION).map(|n| (random(&mut seed) % (8 * LOOK_AHEAD), random(&mut seed) % PROCESSES, n)).collect()
}

/// What a process does with a message: its new state and the message it sends.
#[inline(always)]
fn hop(state: u64, message: Message, steps: u32) -> (u64, Message) {
    let (time, process, number) = message;
    let state = work(state ^ time, steps);
    let mut seed = state ^ number;
    let (delay, to) = (LOOK_AHEAD + random(&mut seed) % (8 * LOOK_AHEAD), random(&mut seed) % PROCESSES);
    (state.wrapping_add(process), (time + delay, to, number))
}

/// Until this time; found by the sequential run, so that both do the same.
fn sequential(steps: u32) -> (Vec<u64>, u64) {
    let mut states = vec![0; PROCESSES as usize];
    let mut heap: BinaryHeap<Reverse<Message>> = population().into_iter().map(Reverse).collect();
    let mut hops = 0;
    let mut end = u64::MAX;
    while let Some(Reverse(message)) = heap.pop() {
        if message.0 >= end {
            break;
        }
        let (state, sent) = hop(states[message.1 as usize], message, steps);
        states[message.1 as usize] = state;
        heap.push(Reverse(sent));
        hops += 1;
        if hops == HOPS {
            end = (message.0 / LOOK_AHEAD + 1) * LOOK_AHEAD;
        }
    }
    (states, end)
}

fn in_windows(queue: &TransactionQueue, steps: u32, end: u64) -> Vec<u64> {
    let states: &'static [TVar<u64>] = Vec::leak((0..PROCESSES).map(|_| TVar::new(0)).collect());
    let mut windows: Vec<Vec<Message>> = vec![Vec::new(); (end / LOOK_AHEAD) as usize];
    let post = |windows: &mut Vec<Vec<Message>>, message: Message| {
        if let Some(window) = windows.get_mut((message.0 / LOOK_AHEAD) as usize) {
            window.push(message);
        }
    };
    population().into_iter().for_each(|message| post(&mut windows, message));
    for window in 0..windows.len() {
        let mut messages = std::mem::take(&mut windows[window]);
        messages.sort_unstable_by_key(|&(time, process, number)| (process, time, number));
        let groups: Vec<Vec<Message>> = messages.chunk_by(|a, b| a.1 == b.1).map(<[_]>::to_vec).collect();
        let sent = queue
            .map(groups, move |ev, group: &Vec<Message>| {
                let cell = &states[group[0].1 as usize];
                let mut state = cell.get(ev)?;
                let mut sent = Vec::with_capacity(group.len());
                for &message in group {
                    let (next, message) = hop(state, message, steps);
                    state = next;
                    sent.push(message);
                }
                cell.set(ev, state)?;
                Ok(sent)
            })
            .expect("no event fails");
        sent.into_iter().flatten().for_each(|message| post(&mut windows, message));
    }
    states.iter().map(TVar::load).collect()
}

/// The section.
pub fn phold(rounds: usize, goals: &mut Goals) -> Value {
    let steps = steps_of(650.0);
    let queue = TransactionQueue::new(Config { threads: 2, ..Config::default() });
    let mut samples = [Samples::default(), Samples::default()];
    for _ in 0..rounds {
        let mut expected = (Vec::new(), 0);
        samples[0].add(timed(|| expected = sequential(steps)));
        let mut found = Vec::new();
        samples[1].add(timed(|| found = in_windows(&queue, steps, expected.1)));
        assert_eq!(found, expected.0, "both simulate the same");
    }
    let ratio = samples[0].least() / samples[1].least();
    println!(
        "a hop: heap {:.0} ns, two threads {:.0} ns",
        samples[0].least() / HOPS as f64,
        samples[1].least() / HOPS as f64
    );
    goals.at_least("PHOLD, 0.65 µs, two threads / sequential heap", ratio, 1.2, 1.6);
    json!({ "ratio": ratio })
}
