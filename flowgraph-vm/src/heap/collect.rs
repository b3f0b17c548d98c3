//! A collection: stop, mark, sweep.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

use super::block::{Block, LargeObject};
use super::{Heap, MutatorShared, Object, Pool, state};
use crate::barrier;

/// Heaps with more bytes than this in use are marked by several threads.
const PARALLEL_FROM: usize = 16 << 20;
/// How many parts the marking begins with, and how many objects each has.
const PARTS: usize = 64;
const PART: usize = 32;
/// A marker with a longer list gives half of it away.
const SPLIT_AT: usize = 2048;
/// How long a collection waits for the events of other threads before it gives up for the time being. An event that waits in a barrier for another one gives way
/// when it is asked to stop; one that is irrevocable, or that is stuck in a function of the embedding program, may not.
const PATIENCE: Duration = Duration::from_millis(50);

impl Heap {
    /// Collects if that is still wanted when the gate is reached. The caller is idle, or stopped with its roots published.
    #[cold]
    pub(super) fn collect(&self, caller: &MutatorShared) {
        let seen = self.epoch.load(Relaxed);
        let _gate = self.gate.lock();
        if self.epoch.load(Relaxed) != seen || !self.wanted.load(Relaxed) {
            return;
        }
        let started = Instant::now();
        // Relaxed: ordered by the fence before the states are looked at. Mutators store their state, fence, and look at `stop`.
        self.stop.store(true, Relaxed);
        barrier::heavy_fence();
        let mutators = self.mutators.lock().clone();
        if wait_for_all(&mutators, caller, started) {
            self.mark_and_sweep(&mutators);
            let pause = started.elapsed();
            let mut pool = self.pool.lock();
            pool.statistics.collections += 1;
            pool.statistics.total_pause += pause;
            pool.statistics.longest_pause = pool.statistics.longest_pause.max(pause);
            drop(pool);
            self.epoch.fetch_add(1, Relaxed);
        } else {
            // Try again after some more allocation; the event that does not stop will have ended by then.
            self.pool.lock().statistics.put_off += 1;
            let more = self.config.nursery / 4;
            self.threshold.fetch_add(more, Relaxed);
        }
        self.wanted.store(false, Relaxed);
        // Release pairs with the mutators' acquire: whoever finds the stop over sees the swept heap.
        self.stop.store(false, Release);
    }

    fn mark_and_sweep(&self, mutators: &[Arc<MutatorShared>]) {
        let mut pool = self.pool.lock();
        let blocks: Vec<Block> = pool.chunks.iter().flat_map(|chunk| chunk.blocks()).collect();
        for block in &blocks {
            block.clear_marks();
            block.set_birth(0);
        }
        let mut roots = Vec::new();
        for mutator in mutators {
            mutator.roots.objects(&mut |object| roots.push(object));
            roots.extend_from_slice(&mutator.stack.lock());
        }
        if self.live_bytes.load(Relaxed) >= PARALLEL_FROM {
            rayon::scope(|scope| mark(roots, Some(scope)));
        } else {
            mark(roots, None);
        }
        let live = sweep(&mut pool, &blocks);
        pool.statistics.live_bytes = live;
        self.live_bytes.store(live, Relaxed);
        self.handed_out.store(0, Relaxed);
        let growth = live / 100 * self.config.growth_percent;
        self.threshold.store(growth.max(self.config.nursery), Relaxed);
    }
}

/// Waits until every mutator but the caller stands still; false when patience ran out.
fn wait_for_all(mutators: &[Arc<MutatorShared>], caller: &MutatorShared, started: Instant) -> bool {
    for mutator in mutators {
        if std::ptr::eq(&**mutator, caller) {
            continue;
        }
        let mut tries = 0_u32;
        // Acquire pairs with the mutator's release: its writes to the heap are visible here.
        while mutator.state.load(Acquire) == state::RUNNING {
            if started.elapsed() > PATIENCE {
                return false;
            }
            tries += 1;
            if tries < 100 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }
    true
}

fn mark_one(object: Object) -> bool {
    let meta = object.meta();
    if meta.is_large() {
        return LargeObject::mark_object(object.start());
    }
    let block = Block::of(object.address());
    let new = block.mark_object(object.address());
    if new {
        block.mark_lines(object.start(), meta.size());
    }
    new
}

/// Marks everything that can be reached from `list`; with a scope, in parts that its threads share.
fn mark(mut list: Vec<Object>, scope: Option<&rayon::Scope<'_>>) {
    list.retain(|object| mark_one(*object));
    let Some(scope) = scope else {
        mark_marked(list, None);
        return;
    };
    // Breadth first until there is enough to share out; depth first, the list of a tree stays as short as the tree is deep.
    let mut queue = VecDeque::from(list);
    while queue.len() < PARTS * PART
        && let Some(object) = queue.pop_front()
    {
        object.references(|child| {
            if mark_one(child) {
                queue.push_back(child);
            }
        });
    }
    for part in Vec::from(queue).chunks(PART) {
        let part = part.to_vec();
        scope.spawn(move |scope| mark_marked(part, Some(scope)));
    }
}

/// Goes on from objects that are marked already.
fn mark_marked(mut list: Vec<Object>, scope: Option<&rayon::Scope<'_>>) {
    while let Some(object) = list.pop() {
        object.references(|child| {
            if mark_one(child) {
                list.push(child);
            }
        });
        if let Some(scope) = scope
            && list.len() > SPLIT_AT
        {
            let half = list.split_off(list.len() / 2);
            scope.spawn(move |scope| mark_marked(half, Some(scope)));
        }
    }
}

/// Sorts the blocks by what is left in them and frees the large objects that nothing refers to. Returns the bytes that live.
fn sweep(pool: &mut Pool, blocks: &[Block]) -> usize {
    pool.free.clear();
    pool.recyclable.clear();
    let mut live = 0;
    for block in blocks {
        let lines = block.marked_lines();
        live += lines * super::block::LINE;
        if lines == 0 {
            pool.free.push(*block);
        } else if block.next_run(0).is_some() {
            pool.recyclable.push(*block);
        }
    }
    pool.large.retain(|object| object.take_mark());
    pool.large_bytes = pool.large.iter().map(|object| object.size()).sum();
    live + pool.large_bytes
}
