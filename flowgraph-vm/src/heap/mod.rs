//! The heap: a non-moving mark-region collector made for events.
//!
//! Small objects live in blocks of lines (`block.rs`); a thread allocates by bumping a cursor through a free run of lines
//! ([`Mutator`]). Two facts about events shape the rest:
//!
//! - *What an event allocates is private until it commits.* An abort takes the cursor back, and so does the end of an event that
//!   stored no reference to a new object into an older one: the garbage of small events costs nothing. New objects are accessed without barriers.
//! - *Between events there is no stack.* The roots of a collection are the shared variables, the constants of programs and what the
//!   embedding program (the queue of events above all) holds through a [`Root`]; and for an event in the middle of things, the
//!   interpreter's frames and the transaction's log, which are exact as well.
//!
//! A collection (`collect.rs`) stops all threads at their next safepoint, marks from the roots (in parallel when the heap is
//! large), and sweeps by lines. Nothing moves, so addresses in logs stay good, and objects need no second word.
//!
//! The stop is a handshake without shared writes on the way of an event: each mutator announces in a word of its own that it runs,
//! then looks whether somebody asked to stop; the collector asks, then looks at the words. Between the store and the load on either
//! side stands a fence, the cheap half on the mutator's side and the expensive half on the collector's.

pub(crate) mod block;
mod collect;
mod mutator;
pub(crate) mod object;
mod roots;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

pub use mutator::Mutator;
pub use object::Kind;
pub(crate) use object::{Meta, Object};
pub use roots::Root;
pub(crate) use roots::RootShard;

use block::{Block, BlockChunk, LargeObject};

/// How large a heap may grow, and when it is collected.
#[derive(Clone, Copy, Debug)]
pub struct HeapConfig {
    /// Bytes in use after a collection beyond which events fail with a clear error.
    pub limit: usize,
    /// The fewest bytes allocated between two collections.
    pub nursery: usize,
    /// How many more bytes than survived the last collection may be allocated before the next one, in hundredths of those.
    pub growth_percent: usize,
}

impl Default for HeapConfig {
    fn default() -> Self {
        HeapConfig { limit: 4 << 30, nursery: 32 << 20, growth_percent: 75 }
    }
}

/// What the collector did so far. Times are pauses: from the request to stop until all threads may go on.
#[derive(Clone, Copy, Default, Debug)]
pub struct HeapStatistics {
    /// Collections.
    pub collections: u64,
    /// The longest pause.
    pub longest_pause: Duration,
    /// All pauses together.
    pub total_pause: Duration,
    /// Collections that were put off, because an event did not come to a safepoint in time.
    pub put_off: u64,
    /// Bytes that survived the last collection, in whole lines.
    pub live_bytes: usize,
    /// Bytes got from the system and not given back.
    pub reserved_bytes: usize,
}

/// Blocks that nobody allocates in, and everything that must be swept or freed.
#[derive(Default)]
struct Pool {
    chunks: Vec<BlockChunk>,
    free: Vec<Block>,
    recyclable: Vec<Block>,
    large: Vec<LargeObject>,
    large_bytes: usize,
    statistics: HeapStatistics,
}

/// A mutator as the others see it.
pub(crate) struct MutatorShared {
    state: AtomicU8,
    /// The roots of an event that waits at a safepoint.
    stack: Mutex<Vec<Object>>,
    roots: Arc<RootShard>,
}

/// What a mutator is doing, in [`MutatorShared::state`].
mod state {
    /// Between events.
    pub(super) const IDLE: u8 = 0;
    /// In an event.
    pub(super) const RUNNING: u8 = 1;
    /// In an event, waiting at a safepoint with its roots published.
    pub(super) const STOPPED: u8 = 2;
}

/// The heap of one virtual machine.
pub struct Heap {
    config: HeapConfig,
    pool: Mutex<Pool>,
    mutators: Mutex<Vec<Arc<MutatorShared>>>,
    /// Held by whoever collects, and waited for by those who must stand still.
    gate: Mutex<()>,
    /// Set while a collection wants everyone to stop.
    stop: Arc<AtomicBool>,
    /// Set when a collection is due.
    wanted: AtomicBool,
    /// The number of collections; mutators forget their runs when it changes.
    epoch: AtomicU64,
    /// Bytes handed to mutators since the last collection.
    handed_out: AtomicUsize,
    /// When `handed_out` passes this, a collection is due.
    threshold: AtomicUsize,
    /// Serial numbers for events that take empty blocks.
    serials: AtomicU64,
    live_bytes: AtomicUsize,
}

impl Heap {
    /// An empty heap.
    pub fn new(config: HeapConfig) -> Arc<Heap> {
        Arc::new(Heap {
            config,
            pool: Mutex::default(),
            mutators: Mutex::default(),
            gate: Mutex::default(),
            stop: Arc::default(),
            wanted: AtomicBool::new(false),
            epoch: AtomicU64::new(1),
            handed_out: AtomicUsize::new(0),
            threshold: AtomicUsize::new(config.nursery),
            serials: AtomicU64::new(1),
            live_bytes: AtomicUsize::new(0),
        })
    }

    /// A mutator for the calling thread, or for whichever thread it is handed to.
    pub fn mutator(self: &Arc<Heap>) -> Mutator {
        Mutator::new(self.clone())
    }

    /// What the collector did so far.
    pub fn statistics(&self) -> HeapStatistics {
        let pool = self.pool.lock();
        let reserved_bytes = pool.chunks.len() * BlockChunk::BYTES + pool.large_bytes;
        HeapStatistics { reserved_bytes, ..pool.statistics }
    }

    /// Whether what survived the last collection is more than the limit allows.
    pub(crate) fn is_over_limit(&self) -> bool {
        // A hint that stops a program some time; its exact moment does not matter.
        self.live_bytes.load(Relaxed) > self.config.limit
    }

    /// Set while a collection wants all events to come to rest.
    pub(crate) fn stop_request(&self) -> &Arc<AtomicBool> {
        &self.stop
    }

    /// Tells which addresses lie in this heap, as it is now.
    pub(crate) fn addresses(&self) -> impl Fn(usize) -> bool + use<> {
        let pool = self.pool.lock();
        let chunks = pool.chunks.iter().map(|chunk| (chunk.start(), BlockChunk::BYTES));
        let large = pool.large.iter().map(|object| (object.address(), object.size()));
        let mut ranges: Vec<(usize, usize)> = chunks.chain(large).collect();
        ranges.sort_unstable();
        move |address| {
            let after = ranges.partition_point(|(start, _)| *start <= address);
            after > 0 && address - ranges[after - 1].0 < ranges[after - 1].1
        }
    }

    pub(crate) fn limit(&self) -> usize {
        self.config.limit
    }

    /// Counts bytes handed to a mutator; true when a collection is due.
    fn count_handed_out(&self, bytes: usize) -> bool {
        // Relaxed: an estimate that decides when to collect, nothing more.
        let total = self.handed_out.fetch_add(bytes, Relaxed) + bytes;
        let due = total > self.threshold.load(Relaxed);
        if due {
            self.wanted.store(true, Relaxed);
        }
        due
    }

    /// A block with free lines in it, or (always if `empty` is asked for) an empty one.
    fn take_block(&self, empty: bool) -> (Block, bool) {
        let mut pool = self.pool.lock();
        if !empty && let Some(block) = pool.recyclable.pop() {
            return (block, false);
        }
        if pool.free.is_empty() {
            let chunk = BlockChunk::new();
            pool.free.extend(chunk.blocks());
            pool.chunks.push(chunk);
        }
        (pool.free.pop().expect("a new chunk has blocks"), true)
    }

    fn take_large(&self, size: usize) -> usize {
        let object = LargeObject::new(size);
        let address = object.address();
        let mut pool = self.pool.lock();
        pool.large_bytes += size;
        pool.large.push(object);
        address
    }
}
