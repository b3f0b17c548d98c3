//! What the transactions of one heap share: the clock, the slots, and the token of the irrevocable one.
//!
//! Every word that a commit may write stands on a cache line of its own, so that reading one of them never costs a transfer
//! because of a write to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use crate::abort::{Abort, REASONS};
use crate::alone::Bias;
use crate::atomics::{Atomics, Native, Word};
use crate::header::FRESH;
use crate::history::History;
use crate::reclaim::Retired;
use crate::watch::Watchers;

/// The value of `Slot::active` while its thread runs no transaction.
pub const IDLE: u64 = u64::MAX;

/// The age of a transaction that has met no conflict yet: younger than every other.
pub const NO_AGE: u64 = u64::MAX;

/// One era, in the word that says which protocol is in force.
pub(crate) const ERA: u64 = 1 << 8;

/// The protocol in force, without the era.
#[inline(always)]
pub(crate) const fn kind_of(regime: u64) -> u64 {
    regime & (ERA - 1)
}

/// The state shared by all transactions on one heap.
///
/// A heap belongs to one domain: two transactions in different domains do not see each other's locks.
#[derive(Debug)]
pub struct Domain<A: Atomics = Native> {
    /// The global version clock. Its advance is the [`Clock`](crate::clock::Clock)'s business.
    pub clock: CachePadded<A::Word>,
    /// A sequence lock for protocols that need one.
    pub sequence: CachePadded<A::Word>,
    /// A plain lock for protocols that need one.
    pub lock: CachePadded<A::Word>,
    /// Replaced values for readers of older states.
    pub(crate) history: History,
    /// The position whose turn it is to commit, under a protocol with a fixed order.
    pub(crate) turn: CachePadded<A::Word>,
    /// How many wait for their turn.
    pub(crate) turn_waiters: CachePadded<A::Word>,
    /// The protocol in force, as a number, in the lowest byte; see [`runtime`](crate::runtime). Above it the number of the era.
    pub(crate) regime: CachePadded<A::Word>,
    /// Tickets for the irrevocable token, taken.
    tickets: CachePadded<A::Word>,
    /// Tickets for the irrevocable token, served. The token is taken while the two differ.
    served: CachePadded<A::Word>,
    /// The source of ages.
    ages: CachePadded<A::Word>,
    /// Transactions that wait for a change.
    pub(crate) watchers: Watchers<A>,
    slots: RwLock<Slots<A>>,
    /// Values retired by threads that have ended.
    pub(crate) orphans: Mutex<Vec<Retired>>,
}

#[derive(Debug)]
struct Slots<A: Atomics> {
    all: Vec<Arc<Slot<A>>>,
    free: Vec<usize>,
    taken: Vec<usize>,
    biased: Option<usize>,
}

impl<A: Atomics> Default for Domain<A> {
    fn default() -> Self {
        Domain {
            clock: CachePadded::new(A::Word::new(FRESH)),
            sequence: CachePadded::new(A::Word::new(0)),
            lock: CachePadded::new(A::Word::new(0)),
            history: History::default(),
            turn: CachePadded::new(A::Word::new(0)),
            turn_waiters: CachePadded::new(A::Word::new(0)),
            regime: CachePadded::new(A::Word::new(0)),
            tickets: CachePadded::new(A::Word::new(0)),
            served: CachePadded::new(A::Word::new(0)),
            ages: CachePadded::new(A::Word::new(1)),
            watchers: Watchers::default(),
            slots: RwLock::new(Slots { all: Vec::new(), free: Vec::new(), taken: Vec::new(), biased: None }),
            orphans: Mutex::new(Vec::new()),
        }
    }
}

impl<A: Atomics> Domain<A> {
    fn slots_mut(&self) -> RwLockWriteGuard<'_, Slots<A>> {
        if A::CAN_WAIT {
            return self.slots.write();
        }
        // A model checker's threads may be one thread of the system.
        loop {
            if let Some(slots) = self.slots.try_write() {
                return slots;
            }
            A::spin();
        }
    }

    /// Takes a slot, and returns the biased one if there is one; see `alone.rs`.
    pub(crate) fn take_slot(&self) -> (Arc<Slot<A>>, Option<Arc<Slot<A>>>) {
        let mut slots = self.slots_mut();
        let index = slots.free.pop().unwrap_or_else(|| {
            let index = slots.all.len();
            slots.all.push(Arc::new(Slot::new(index)));
            index
        });
        let slot = slots.all[index].clone();
        if !A::BIASED {
            return (slot, None);
        }
        slots.taken.push(index);
        if let [only] = *slots.taken {
            slots.all[only].bias.give();
            slots.biased = Some(only);
            return (slot, None);
        }
        let biased = slots.biased.map(|biased| slots.all[biased].clone());
        (slot, biased)
    }

    /// Notes that the bias has been taken away for good.
    pub(crate) fn forget_bias(&self, slot: &Slot<A>) {
        let mut slots = self.slots_mut();
        if slots.biased == Some(slot.index) && slots.taken.len() > 1 {
            slots.biased = None;
        }
    }

    /// Gives a slot back. Its counters stay, so that totals never shrink.
    pub(crate) fn leave(&self, slot: &Slot<A>) {
        debug_assert_eq!(slot.active.load(Ordering::Relaxed), IDLE);
        let mut slots = self.slots_mut();
        slots.free.push(slot.index);
        if A::BIASED {
            slots.taken.retain(|taken| *taken != slot.index);
            slot.bias.forget();
            slots.biased = None;
            if let [only] = *slots.taken {
                slots.all[only].bias.give();
                slots.biased = Some(only);
            }
        }
    }

    /// The slot with this index.
    pub(crate) fn slot(&self, index: usize) -> Arc<Slot<A>> {
        self.slots.read().all[index].clone()
    }

    /// All slots ever taken.
    pub fn slots(&self) -> Vec<Arc<Slot<A>>> {
        self.slots.read().all.clone()
    }

    /// The next age: larger, which is to say younger, than every earlier one. Relaxed: only the order within the counter matters.
    pub(crate) fn next_age(&self) -> u64 {
        self.ages.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes the token of the irrevocable transaction, in the order of asking.
    ///
    /// # Errors
    /// [`Abort::Busy`] where the platform cannot wait and the token is taken.
    pub(crate) fn take_token(&self) -> Result<(), Abort> {
        if !A::CAN_WAIT {
            // Acquire pairs with the release in `give_token`: what the last holder did is visible to the next.
            let served = self.served.load(Ordering::Acquire);
            // Relaxed: nothing is read through it; the last holder is met in `served`.
            return match self.tickets.compare_exchange(served, served + 1, Ordering::Relaxed) {
                Ok(_) => Ok(()),
                Err(_) => crate::mutant!(A, "token-not-awaited", Err(Abort::Busy), Ok(())),
            };
        }
        let ticket = self.tickets.fetch_add(1, Ordering::AcqRel);
        let mut spins = 0;
        // Acquire pairs with the release in `give_token`.
        while self.served.load(Ordering::Acquire) != ticket {
            spins += 1;
            if spins < 64 {
                A::spin();
            } else {
                park(address(&self.served), || self.served.load(Ordering::Acquire) != ticket, None);
            }
        }
        Ok(())
    }

    /// Gives the token to the next in line.
    pub(crate) fn give_token(&self) {
        // Only the holder writes `served`. Release pairs with the acquire in `take_token`.
        let ticket = self.served.load(Ordering::Relaxed);
        self.served.store(ticket + 1, Ordering::Release);
        if A::CAN_WAIT {
            unpark_all(address(&self.served));
        }
    }

    /// Whether somebody holds or waits for the irrevocable token.
    pub fn token_is_taken(&self) -> bool {
        self.served.load(Ordering::Acquire) != self.tickets.load(Ordering::Acquire)
    }

    /// Waits until every transaction that runs now has ended. See [`runtime::quiesce`](crate::runtime::quiesce).
    ///
    /// Under a platform that cannot wait it returns at once.
    pub fn quiesce(&self) {
        // Whoever begins from here on has a larger stamp. The release makes that what this thread wrote before is seen by whoever reads the
        // new clock; the acquire pairs with the commits before.
        let now = self.clock.fetch_add(1, Ordering::AcqRel);
        self.begin_era();
        let mut rounds = 0_u32;
        while A::CAN_WAIT && self.oldest_active() <= now {
            rounds += 1;
            match rounds {
                0..64 => A::spin(),
                64..80 => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(50)),
            }
        }
    }

    /// Makes transactions that begin from now on take new snapshots, each thread's next one first of all.
    pub(crate) fn begin_era(&self) {
        // Relaxed: an era seen late, or without the clock that it is about, is one transaction more to be waited for.
        self.regime.fetch_add(ERA, Ordering::Relaxed);
    }

    /// The smallest begin stamp among the running transactions, or [`IDLE`]. What was unlinked by a commit with a smaller
    /// stamp can be reached by none of them.
    pub fn oldest_active(&self) -> u64 {
        // Pairs with the light fence after a transaction has published itself: either its store is seen below, or its reads
        // come after this point and find what was unlinked before gone. Equivalent: in a model a light fence is a full one, and a commit
        // has just executed one; natively it is nothing without this.
        A::heavy();
        self.slots.read().all.iter().map(|slot| slot.active.load(Ordering::Acquire)).min().unwrap_or(IDLE)
    }
}

/// What one running transaction shows to the others. One per descriptor, reused by later ones.
///
/// What the owner writes in every transaction stands together, apart from what others may write.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Slot<A: Atomics = Native> {
    /// The clock when the running transaction began, or [`IDLE`].
    pub(crate) active: A::Word,
    pub(crate) bias: Bias<A::Word>,
    pub(crate) counters: Counters,
    /// Not zero while somebody may be parked on this slot.
    waiters: CachePadded<A::Word>,
    /// Its place among the slots of the domain.
    pub index: usize,
    /// The age of the transaction, or [`NO_AGE`].
    pub(crate) age: A::Word,
    /// How many transactions this slot has ended.
    pub(crate) ended: A::Word,
}

impl<A: Atomics> Slot<A> {
    /// What has been counted in this slot.
    pub(crate) fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::default();
        statistics.add(&self.counters);
        statistics
    }

    fn new(index: usize) -> Self {
        Slot {
            index,
            active: A::Word::new(IDLE),
            bias: Bias::new(),
            age: A::Word::new(NO_AGE),
            ended: A::Word::new(0),
            waiters: CachePadded::new(A::Word::new(0)),
            counters: Counters::default(),
        }
    }

    /// Parks the caller until the transaction in this slot has ended or released something, or `blocked` turns false.
    ///
    /// It may return although `blocked` still holds: what was to be waited for may have come and gone, and the like of it have come again
    /// (the owner may have locked the same object at the same place of its next transaction's log). False if it took the whole time limit.
    pub(crate) fn wait_while(&self, blocked: impl Fn() -> bool) -> bool {
        self.waiters.store(1, Ordering::Relaxed);
        // Pairs with the light fence in `wake`: either the owner sees the waiter, or `blocked` sees what the owner released.
        A::heavy();
        // Relaxed: `park` asks under the lock that `unpark_all` takes after the word was reset. Whoever finds it reset has been woken
        // before it was parked, and nobody would wake it again.
        let still = || self.waiters.load(Ordering::Relaxed) != 0 && blocked();
        // The time limit bounds the wait for a transaction that ends between looking for waiters and counting its end.
        park(address(&self.waiters), still, Some(Duration::from_millis(2)))
    }

    /// How many attempts have ended in this slot.
    pub(crate) fn attempts_ended(&self) -> u64 {
        // Relaxed: a count read late is read again before its reader parks.
        self.ended.load(Ordering::Relaxed) + self.counters.commits.get()
    }

    /// Wakes whoever is parked on this slot. Called by the owner after it has released its locks and executed a light fence.
    #[inline(always)]
    pub(crate) fn wake(&self) {
        if A::CAN_WAIT && self.waiters.load(Ordering::Relaxed) != 0 {
            self.wake_parked();
        }
    }

    #[cold]
    fn wake_parked(&self) {
        self.waiters.store(0, Ordering::Relaxed);
        unpark_all(address(&self.waiters));
    }
}

pub(crate) fn address<T>(value: &T) -> usize {
    std::ptr::from_ref(value).addr()
}

/// Parks the caller until somebody unparks the address, unless it is not `blocked` any more. False if the time was over before that.
#[expect(unsafe_code, reason = "parking_lot_core's functions are unsafe because of the address they share")]
pub(crate) fn park(address: usize, blocked: impl Fn() -> bool, limit: Option<Duration>) -> bool {
    // SAFETY: the address is that of a word of ours, so no other user of the parking lot has it; the callbacks neither panic
    // nor park.
    let result = unsafe {
        parking_lot_core::park(
            address,
            blocked,
            || (),
            |_, _| (),
            parking_lot_core::DEFAULT_PARK_TOKEN,
            limit.map(|limit| std::time::Instant::now() + limit),
        )
    };
    result != parking_lot_core::ParkResult::TimedOut
}

#[expect(unsafe_code, reason = "parking_lot_core's functions are unsafe because of the address they share")]
pub(crate) fn unpark_all(address: usize) {
    // SAFETY: as in `park`.
    unsafe {
        parking_lot_core::unpark_all(address, parking_lot_core::DEFAULT_UNPARK_TOKEN);
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {
        /// The counters of one slot. Only the owner writes them, with plain stores; anyone may read.
        #[derive(Debug, Default)]
        #[repr(C)]
        pub(crate) struct Counters {
            $($(#[doc = $doc])+ pub(crate) $name: Counter,)+
            pub(crate) aborts: [Counter; REASONS],
        }

        /// Totals over all slots of a domain.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Statistics {
            $($(#[doc = $doc])+ pub $name: u64,)+
            /// Attempts that ended without committing, by reason.
            pub aborts: [u64; REASONS],
        }

        impl Statistics {
            /// The names and values of the counters, without the aborts.
            #[must_use]
            pub fn counters(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }

            /// What has been counted since `earlier`.
            #[must_use]
            pub fn since(&self, earlier: &Statistics) -> Statistics {
                let mut aborts = self.aborts;
                for (now, before) in aborts.iter_mut().zip(earlier.aborts) {
                    *now -= before;
                }
                Statistics { $($name: self.$name - earlier.$name,)+ aborts }
            }

            fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.get();)+
                for (total, counter) in self.aborts.iter_mut().zip(&counters.aborts) {
                    *total += counter.get();
                }
            }
        }
    };
}

counters! {
    /// Transactions committed.
    commits;
    /// Snapshots moved forward in place of an abort.
    extensions;
    /// Commits that validated their reads because others had committed meanwhile.
    validations;
    /// Times a transaction parked because of another one.
    waits;
    /// Transactions that ran irrevocably, by request or as the last resort.
    irrevocable;
    /// Transactions rolled back because their body failed or panicked.
    failures;
}

impl Statistics {
    /// All aborted attempts.
    #[must_use]
    pub fn aborted(&self) -> u64 {
        self.aborts.iter().sum()
    }

    /// The aborts that occurred, with their reasons.
    pub fn aborts_by_reason(&self) -> impl Iterator<Item = (Abort, u64)> + '_ {
        Abort::ALL.iter().map(|reason| (*reason, self.aborts[*reason as usize])).filter(|(_, count)| *count > 0)
    }

    /// Attempts for each commit; 1 without any conflict.
    #[must_use]
    pub fn attempts_per_commit(&self) -> f64 {
        if self.commits == 0 { 0.0 } else { (self.commits + self.aborted()) as f64 / self.commits as f64 }
    }
}

impl<A: Atomics> Domain<A> {
    /// The totals over all threads, ended ones included. Counts of running transactions may be missing.
    pub fn statistics(&self) -> Statistics {
        let mut total = Statistics::default();
        for slot in &self.slots.read().all {
            total.add(&slot.counters);
        }
        total
    }
}

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds one. Relaxed load and store: only the owner of the slot writes.
    #[inline(always)]
    pub(crate) fn increment(&self) {
        self.0.store(self.0.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::LazyLock;

    use super::*;

    thread_local! {
        static MEANWHILE: Cell<fn()> = const { Cell::new(|| ()) };
    }

    /// The machine's atomics, with something that happens while a heavy fence is executed.
    #[derive(Debug)]
    struct Scripted;

    impl Atomics for Scripted {
        type Word = AtomicU64;
        const CAN_WAIT: bool = true;

        fn fence() {
            Native::fence();
        }

        fn light() {}

        fn heavy() {
            Native::fence();
            MEANWHILE.get()();
        }

        fn spin() {}
    }

    static OWNER: LazyLock<Slot<Scripted>> = LazyLock::new(|| Slot::new(0));

    #[test]
    fn a_wake_up_that_comes_before_its_waiter_is_parked_is_not_lost() {
        // The owner releases what is waited for, and takes the same again at once, so that it looks as if nothing had happened.
        MEANWHILE.set(|| OWNER.wake());
        assert!(OWNER.wait_while(|| true), "the waiter slept for as long as it may");
        // Without a wake-up it sleeps for as long as it may.
        MEANWHILE.set(|| ());
        assert!(!OWNER.wait_while(|| true));
    }
}
