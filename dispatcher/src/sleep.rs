//! How idle workers sleep, and how whoever adds an event wakes one.
//!
//! An adder must not pay for the possibility that somebody sleeps, and no wake-up may be lost. So:
//!
//! 1. A worker that found nothing *announces* itself (adds one to the count), executes a heavy fence, and looks for work once more.
//! 2. If it finds some, it *withdraws*: takes one from the count. If the count is zero already, somebody has claimed it, and a permit is
//!    on its way that it must take.
//! 3. Otherwise it waits for a permit.
//! 4. An adder makes the event visible, executes a light fence, and looks at the count. If it is not zero it *claims* a sleeper (takes
//!    one from the count) and posts a permit.
//!
//! The fences of rules 1 and 4 are asymmetric: either the worker's second look finds the event, or the adder sees the worker's
//! announcement. The count is what [`Sleepers`] holds; its loom model is below. Permits are a semaphore of a mutex and a condition variable.
//!
//! The last worker that comes to wait, with no permit left, decides whether the run is over; it sees everything that the others did
//! because they have passed through the mutex.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crossbeam_utils::CachePadded;
use optimist_stm::atomics::{Atomics, Native, Word};
use parking_lot::{Condvar, Mutex};

/// The count of workers that have announced their sleep and that nobody has claimed.
#[derive(Debug)]
pub(crate) struct Sleepers<A: Atomics = Native>(CachePadded<A::Word>);

impl<A: Atomics> Default for Sleepers<A> {
    fn default() -> Self {
        Sleepers(CachePadded::new(A::Word::new(0)))
    }
}

impl<A: Atomics> Sleepers<A> {
    /// Rule 1. What the caller looks at afterwards is ordered after the announcement.
    pub(crate) fn announce(&self) {
        // Relaxed: the heavy fence pairs with the light one in `claim`.
        self.0.fetch_add(1, Ordering::Relaxed);
        A::heavy();
    }

    /// Rule 2: whether the worker may go on at once; if not it must take a permit first.
    #[must_use]
    pub(crate) fn withdraw(&self) -> bool {
        self.take()
    }

    /// Rule 4: whether a permit must be posted.
    #[inline(always)]
    #[must_use]
    pub(crate) fn claim(&self) -> bool {
        // Pairs with the heavy fence in `announce`.
        A::light();
        self.0.load(Ordering::Relaxed) != 0 && self.take()
    }

    /// Takes one from the count unless it is zero. Relaxed: the permit's mutex orders everything else.
    fn take(&self) -> bool {
        let mut seen = self.0.load(Ordering::Relaxed);
        while seen != 0 {
            match self.0.compare_exchange(seen, seen - 1, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(found) => seen = found,
            }
        }
        false
    }

    fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Why a worker woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// There may be work.
    Work,
    /// The deadline has passed.
    Time,
    /// The run is over.
    Finished,
}

/// Where the workers of a queue sleep.
#[derive(Debug, Default)]
pub(crate) struct Sleep {
    sleepers: Sleepers,
    state: Mutex<State>,
    changed: Condvar,
    /// Wakes the worker that polls.
    waker: OnceLock<Arc<mio::Waker>>,
}

#[derive(Debug, Default)]
struct State {
    permits: usize,
    /// Workers that wait, the polling one included.
    waiting: usize,
    /// One of them polls for I/O instead of waiting for the condition.
    polling: bool,
    closed: bool,
}

impl Sleep {
    /// Prepares for a run. No worker exists.
    pub(crate) fn open(&self) {
        self.sleepers.reset();
        *self.state.lock() = State::default();
    }

    /// Ends the run: every worker that waits or will wait is told so.
    pub(crate) fn close(&self) {
        let polling = {
            let mut state = self.state.lock();
            state.closed = true;
            state.polling
        };
        self.changed.notify_all();
        if polling {
            self.wake_poller();
        }
    }

    /// Rule 4, after an event was made visible.
    #[inline(always)]
    pub(crate) fn notify(&self) {
        if self.sleepers.claim() {
            self.post();
        }
    }

    #[cold]
    #[inline(never)]
    fn post(&self) {
        let mut state = self.state.lock();
        state.permits += 1;
        // Whoever polls is left to it if somebody else can be woken.
        let wake_poller = state.polling && state.permits >= state.waiting;
        drop(state);
        if wake_poller {
            self.wake_poller()
        } else {
            let _ = self.changed.notify_one();
        }
    }

    /// Gives the means to wake a worker that polls.
    pub(crate) fn set_waker(&self, waker: Arc<mio::Waker>) {
        let _ = self.waker.set(waker);
    }

    fn wake_poller(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake().expect("the poller's file descriptor is open");
        }
    }

    /// Rule 3 for a worker that is going to poll for I/O instead: `None` if it may.
    pub(crate) fn begin_polling(&self, workers: usize, finished: impl FnOnce() -> bool) -> Option<Wake> {
        let mut state = self.state.lock();
        if state.permits > 0 {
            state.permits -= 1;
            return Some(Wake::Work);
        }
        if !state.closed && state.waiting + 1 == workers && finished() {
            state.closed = true;
            self.changed.notify_all();
        }
        if state.closed {
            return Some(Wake::Finished);
        }
        state.waiting += 1;
        state.polling = true;
        None
    }

    /// After polling: takes back the announcement, or the permit that came instead of it.
    pub(crate) fn end_polling(&self) -> Wake {
        let mut state = self.state.lock();
        state.waiting -= 1;
        state.polling = false;
        if state.closed {
            return Wake::Finished;
        }
        drop(state);
        self.withdraw();
        Wake::Work
    }

    /// Rule 1.
    pub(crate) fn announce(&self) {
        self.sleepers.announce();
    }

    /// Rule 2.
    pub(crate) fn withdraw(&self) {
        if !self.sleepers.withdraw() {
            self.take_permit();
        }
    }

    fn take_permit(&self) {
        let mut state = self.state.lock();
        while state.permits == 0 && !state.closed {
            self.changed.wait(&mut state);
        }
        state.permits = state.permits.saturating_sub(1);
    }

    /// Rule 3. `finished` is asked, under the lock, when all of the `workers` wait.
    pub(crate) fn wait(&self, workers: usize, deadline: Option<Instant>, finished: impl FnOnce() -> bool) -> Wake {
        let mut state = self.state.lock();
        state.waiting += 1;
        if state.waiting == workers && state.permits == 0 && !state.closed && finished() {
            state.closed = true;
            self.changed.notify_all();
            if state.polling {
                self.wake_poller();
            }
        }
        let wake = loop {
            if state.closed {
                break Wake::Finished;
            }
            if state.permits > 0 {
                state.permits -= 1;
                break Wake::Work;
            }
            match deadline {
                None => self.changed.wait(&mut state),
                Some(deadline) => {
                    if self.changed.wait_until(&mut state, deadline).timed_out() && state.permits == 0 && !state.closed
                    {
                        break Wake::Time;
                    }
                }
            }
        };
        state.waiting -= 1;
        drop(state);
        if wake == Wake::Time {
            self.withdraw();
        }
        wake
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::loom_atomics::Loom;

    /// A worker and an adder of some events. If the worker sleeps for ever although an event is left, the model deadlocks.
    fn model<const FENCE_MISSING: bool>(events: u64, preemptions: Option<usize>) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = preemptions;
        builder.check(move || {
            let sleepers: Arc<Sleepers<Loom>> = Arc::default();
            let queued = Arc::new(loom::sync::atomic::AtomicU64::new(0));
            let permits = Arc::new((loom::sync::Mutex::new(0), loom::sync::Condvar::new()));
            let adder = {
                let (sleepers, queued, permits) = (sleepers.clone(), queued.clone(), permits.clone());
                loom::thread::spawn(move || {
                    for _ in 0..events {
                        queued.fetch_add(1, Ordering::Relaxed);
                        let claimed = if FENCE_MISSING {
                            sleepers.0.load(Ordering::Relaxed) != 0 && sleepers.take()
                        } else {
                            sleepers.claim()
                        };
                        if claimed {
                            *permits.0.lock().unwrap() += 1;
                            permits.1.notify_one();
                        }
                    }
                })
            };
            let take = || {
                let seen = queued.load(Ordering::Relaxed);
                seen != 0 && queued.compare_exchange(seen, seen - 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            };
            let take_permit = || {
                let mut count = permits.0.lock().unwrap();
                while *count == 0 {
                    count = permits.1.wait(count).unwrap();
                }
                *count -= 1;
            };
            let mut done = 0;
            while done < events {
                if take() {
                    done += 1;
                    continue;
                }
                sleepers.announce();
                if take() {
                    done += 1;
                    if !sleepers.withdraw() {
                        take_permit();
                    }
                } else {
                    take_permit();
                }
            }
            adder.join().unwrap();
        });
    }

    #[test]
    fn no_wake_up_is_lost() {
        model::<false>(1, None);
        model::<false>(2, Some(2));
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn the_model_finds_a_missing_fence() {
        model::<true>(1, None);
    }

    #[test]
    fn the_last_to_wait_decides() {
        let sleep = Arc::new(Sleep::default());
        sleep.open();
        let other = sleep.clone();
        let thread = std::thread::spawn(move || {
            other.announce();
            other.wait(2, None, || true)
        });
        sleep.announce();
        assert_eq!(sleep.wait(2, None, || true), Wake::Finished);
        assert_eq!(thread.join().unwrap(), Wake::Finished);
    }

    #[test]
    fn a_deadline_wakes_and_leaves_no_claim() {
        let sleep = Sleep::default();
        sleep.open();
        sleep.announce();
        let wake = sleep.wait(2, Some(Instant::now() + Duration::from_millis(5)), || true);
        assert_eq!(wake, Wake::Time);
        assert!(!sleep.sleepers.claim());
    }
}
