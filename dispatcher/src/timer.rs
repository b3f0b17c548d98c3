//! Events that start later: a heap ordered by time, looked at by workers between events and slept towards by idle ones.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::task::Task;

const NONE: u64 = u64::MAX;

/// The timers of a queue.
#[derive(Debug)]
pub(crate) struct Timers {
    /// The earliest time, in nanoseconds since `base`, or [`NONE`]. Written under the lock of `heap`; a stale reading delays a timer
    /// until the next look.
    earliest: AtomicU64,
    base: Instant,
    heap: Mutex<Heap>,
}

#[derive(Debug, Default)]
struct Heap {
    entries: BinaryHeap<Reverse<Entry>>,
    /// Makes timers of equal times fire in the order in which they were set.
    serial: u64,
}

#[derive(Debug)]
struct Entry {
    when: Instant,
    serial: u64,
    task: Task,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.when, self.serial).cmp(&(other.when, other.serial))
    }
}

impl Default for Timers {
    fn default() -> Self {
        Timers { earliest: AtomicU64::new(NONE), base: Instant::now(), heap: Mutex::default() }
    }
}

impl Timers {
    fn publish(&self, heap: &Heap) {
        let earliest = heap.entries.peek().map_or(NONE, |Reverse(entry)| {
            u64::try_from(entry.when.saturating_duration_since(self.base).as_nanos()).unwrap_or(NONE - 1)
        });
        self.earliest.store(earliest, Ordering::Relaxed);
    }

    /// Sets a timer; says whether it is now the earliest.
    pub(crate) fn add(&self, delay: Duration, task: Task) -> bool {
        let when = Instant::now() + delay;
        let mut heap = self.heap.lock();
        let serial = heap.serial;
        heap.serial += 1;
        heap.entries.push(Reverse(Entry { when, serial, task }));
        self.publish(&heap);
        heap.entries.peek().is_some_and(|Reverse(entry)| entry.serial == serial)
    }

    /// Whether there is any.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.earliest.load(Ordering::Relaxed) == NONE
    }

    /// When the earliest fires.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        match self.earliest.load(Ordering::Relaxed) {
            NONE => None,
            nanoseconds => Some(self.base + Duration::from_nanos(nanoseconds)),
        }
    }

    /// Hands over those that are due.
    pub(crate) fn fire(&self, mut into: impl FnMut(Task)) {
        let now = Instant::now();
        if self.earliest().is_none_or(|earliest| earliest > now) {
            return;
        }
        let mut heap = self.heap.lock();
        while heap.entries.peek().is_some_and(|Reverse(entry)| entry.when <= now) {
            if let Some(Reverse(entry)) = heap.entries.pop() {
                into(entry.task);
            }
        }
        self.publish(&heap);
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.lock().entries.len()
    }

    pub(crate) fn clear(&self) {
        let entries = {
            let mut heap = self.heap.lock();
            let entries = std::mem::take(&mut heap.entries);
            self.publish(&heap);
            entries
        };
        // Dropped outside the lock: a handler's destructor may do anything.
        drop(entries);
    }
}
