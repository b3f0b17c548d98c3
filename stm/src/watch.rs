//! Waiting for a change: how `retry` parks a transaction until something it has read is written by another.
//!
//! 1. The waiter registers under the addresses of the headers it has read, executes a heavy fence, validates, and gives up waiting
//!    if that fails. Otherwise it rolls back and parks.
//! 2. A commit unlocks what it wrote, executes a light fence, and, if anyone is registered, fires the watches under those addresses.
//! 3. So either the waiter's validation sees the new versions, or the commit sees the waiter: no wake-up is lost.
//! 4. An abort fires nothing: it restores what was there.
//!
//! The table is keyed by address and never follows it, so a parked transaction keeps nothing alive. A hit on another object that
//! shares a bucket's address after reuse is a spurious wake-up: the waiter runs again and waits again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::atomics::{Atomics, Native, Word};
use crate::domain::{Domain, address, park, unpark_all};

const BUCKETS: usize = 64;

/// The address under which those are registered who wait for any commit.
pub(crate) const ANY_OBJECT: usize = 0;

/// The watches of a domain.
#[derive(Debug)]
pub(crate) struct Watchers<A: Atomics> {
    /// How many are registered.
    count: CachePadded<A::Word>,
    buckets: Box<[Mutex<Vec<Entry<A>>>]>,
}

#[derive(Debug)]
struct Entry<A: Atomics> {
    address: usize,
    watch: Arc<State<A>>,
}

impl<A: Atomics> Default for Watchers<A> {
    fn default() -> Self {
        Watchers { count: CachePadded::new(A::Word::new(0)), buckets: (0..BUCKETS).map(|_| Mutex::default()).collect() }
    }
}

impl<A: Atomics> Watchers<A> {
    /// Whether somebody waits. That a waiter is seen is due to the light fence of rule 2, which the caller has executed. Acquire pairs
    /// with the release in `register`: whoever sees a waiter sees its watch (the mutex of the bucket orders the two as well, but a
    /// model checker does not look into it).
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) != 0
    }

    /// Fires the watches under these addresses.
    pub(crate) fn notify(&self, addresses: impl Iterator<Item = usize>) {
        let mut fired = Vec::new();
        for address in addresses.chain(std::iter::once(ANY_OBJECT)) {
            let bucket = self.buckets[bucket(address)].lock();
            fired.extend(bucket.iter().filter(|entry| entry.address == address).map(|entry| entry.watch.clone()));
        }
        for watch in fired {
            watch.fire();
        }
    }
}

fn bucket(address: usize) -> usize {
    (address >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58
}

struct State<A: Atomics> {
    /// 1 once something has changed.
    fired: A::Word,
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl<A: Atomics> std::fmt::Debug for State<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("fired", &self.fired).finish_non_exhaustive()
    }
}

impl<A: Atomics> State<A> {
    fn fire(&self) {
        // Release pairs with the acquire in `has_fired`: the woken transaction sees what it was woken for. Equivalent: if it did not, it would
        // register again, and rule 3 would show it the change.
        self.fired.store(1, Ordering::Release);
        let then = self.then.lock().take();
        if A::CAN_WAIT {
            unpark_all(address(&self.fired));
        }
        if let Some(then) = then {
            then();
        }
    }

    fn has_fired(&self) -> bool {
        // Acquire: see `fire`. Equivalent: as there.
        self.fired.load(Ordering::Acquire) == 1
    }
}

/// A registered interest in a set of objects, until it is dropped.
#[derive(Debug)]
pub struct Watch<A: Atomics = Native> {
    domain: Arc<Domain<A>>,
    addresses: Vec<usize>,
    state: Arc<State<A>>,
}

impl<A: Atomics> Watch<A> {
    /// Registers under the addresses of headers.
    pub(crate) fn register(domain: &Arc<Domain<A>>, addresses: impl Iterator<Item = usize>) -> Self {
        let mut addresses: Vec<usize> = addresses.collect();
        addresses.sort_unstable();
        addresses.dedup();
        if crate::mutant!(A, "watch-first-object-only", false, true) {
            addresses.truncate(1);
        }
        let state = Arc::new(State { fired: A::Word::new(0), then: Mutex::new(None) });
        for &address in &addresses {
            let entry = Entry { address, watch: state.clone() };
            domain.watchers.buckets[bucket(address)].lock().push(entry);
        }
        // Release: see `any`. The heavy fence is that of rule 1.
        domain.watchers.count.fetch_add(1, Ordering::Release);
        A::heavy();
        Watch { domain: domain.clone(), addresses, state }
    }

    /// Whether something watched has changed.
    #[must_use]
    pub fn has_fired(&self) -> bool {
        self.state.has_fired()
    }

    /// Blocks the thread until something watched has changed.
    pub fn wait(&self) {
        while !self.has_fired() {
            park(address(&self.state.fired), || !self.has_fired(), None);
        }
    }

    /// Blocks the thread until something watched has changed or the time is over, and says whether it has changed.
    pub fn wait_for(&self, limit: std::time::Duration) -> bool {
        let deadline = std::time::Instant::now() + limit;
        while !self.has_fired() {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return false;
            }
            park(address(&self.state.fired), || !self.has_fired(), Some(left));
        }
        true
    }

    /// Calls `then` once something watched has changed, on the thread that changed it, or at once if that has happened. The watch
    /// must be kept until then.
    pub fn on_change(&self, then: impl FnOnce() + Send + 'static) {
        *self.state.then.lock() = Some(Box::new(then));
        if self.has_fired() {
            let then = self.state.then.lock().take();
            if let Some(then) = then {
                then();
            }
        }
    }
}

impl<A: Atomics> Drop for Watch<A> {
    fn drop(&mut self) {
        for &address in &self.addresses {
            self.domain.watchers.buckets[bucket(address)]
                .lock()
                .retain(|entry| !Arc::ptr_eq(&entry.watch, &self.state));
        }
        self.domain.watchers.count.fetch_add(u64::MAX, Ordering::Relaxed);
    }
}
