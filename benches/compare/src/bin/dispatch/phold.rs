//! PHOLD, the standard load of parallel simulation (Fujimoto, "Performance of Time Warp under synthetic workloads", 1990): a fixed population of
//! messages hops between processes, each hop some time ahead. The sequential side is a binary heap. On ours time goes on in windows of
//! one look-ahead, in which messages cannot cause each other, and in each window each block of processes is an event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use optimist_dispatcher::{Config, TVar, TransactionQueue};
use serde_json::{Value, json};

use crate::bench::{Goals, Samples, random, steps_of, timed, work};

const PROCESSES: u64 = 1_024;
/// So many neighbouring processes are a block.
const BLOCK: u64 = 16;
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
    let blocks = vec![Vec::new(); (PROCESSES / BLOCK) as usize];
    let mut windows: Vec<Vec<Vec<Message>>> = vec![blocks; (end / LOOK_AHEAD) as usize];
    let post = |windows: &mut Vec<Vec<Vec<Message>>>, message: Message| {
        if let Some(window) = windows.get_mut((message.0 / LOOK_AHEAD) as usize) {
            window[(message.1 / BLOCK) as usize].push(message);
        }
    };
    population().into_iter().for_each(|message| post(&mut windows, message));
    for window in 0..windows.len() {
        let blocks = std::mem::take(&mut windows[window]);
        let sent = queue
            .map(blocks, move |ev, messages: &Vec<Message>| {
                let mut messages = messages.clone();
                messages.sort_unstable();
                let mut sent = Vec::with_capacity(messages.len());
                for message in messages {
                    let cell = &states[message.1 as usize];
                    let (state, message) = hop(cell.get(ev)?, message, steps);
                    cell.set(ev, state)?;
                    sent.push(message);
                }
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
