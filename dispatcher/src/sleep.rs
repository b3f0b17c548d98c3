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
//! 5. A worker that has a poller waits in it: it leaves its mailbox with the others', and whoever posts a permit takes a mailbox
//!    away and wakes its worker. A worker that comes back, by whatever it was woken, takes the permit if its mailbox is gone, and
//!    otherwise withdraws as in rule 2.
//!
//! The fences of rules 1 and 4 are asymmetric: either the worker's second look finds the event, or the adder sees the worker's
//! announcement. The count is what [`Sleepers`] holds; its loom model is below. Permits are a semaphore of a mutex and a condition variable.
//!
//! The last worker that comes to wait, with no permit left, decides whether the run is over; it sees everything that the others did
//! because they have passed through the mutex.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_utils::CachePadded;
use optimist_stm::atomics::{Atomics, Native, Word};
use parking_lot::{Condvar, Mutex};

use crate::reactor::Mailbox;

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
    /// How often all who wait were roused.
    roused: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    permits: usize,
    /// Workers that wait, those in their pollers included.
    waiting: usize,
    /// The mailboxes of those.
    polling: Vec<Arc<Mailbox>>,
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
        let mut state = self.state.lock();
        self.close_locked(&mut state);
    }

    fn close_locked(&self, state: &mut State) {
        state.closed = true;
        self.changed.notify_all();
        state.polling.iter().for_each(|mailbox| mailbox.wake());
    }

    /// How often [`rouse`](Self::rouse) was called.
    pub(crate) fn roused(&self) -> usize {
        // Acquire pairs with the release in `rouse`.
        self.roused.load(Ordering::Acquire)
    }

    /// Wakes all who wait without a poller, so that they look around: there is a new kind of thing to wait for.
    pub(crate) fn rouse(&self) {
        // Under the lock, so that nobody is between looking and waiting. Release pairs with the acquire of whoever looks.
        let _state = self.state.lock();
        self.roused.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
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
        let mailbox = state.polling.pop();
        drop(state);
        match mailbox {
            Some(mailbox) => mailbox.wake(),
            None => {
                let _ = self.changed.notify_one();
            }
        }
    }

    /// Rule 3 for a worker that waits in its poller: `None` if it may. `finished` as in [`wait`](Self::wait).
    pub(crate) fn begin_polling(
        &self,
        mailbox: &Arc<Mailbox>,
        workers: usize,
        finished: impl FnOnce() -> bool,
    ) -> Option<Wake> {
        let mut state = self.state.lock();
        if state.permits > 0 {
            state.permits -= 1;
            return Some(Wake::Work);
        }
        if !state.closed && state.waiting + 1 == workers && finished() {
            self.close_locked(&mut state);
        }
        if state.closed {
            return Some(Wake::Finished);
        }
        state.waiting += 1;
        state.polling.push(mailbox.clone());
        None
    }

    /// Rule 5, after polling.
    pub(crate) fn end_polling(&self, mailbox: &Arc<Mailbox>) -> Wake {
        let mut state = self.state.lock();
        state.waiting -= 1;
        if state.closed {
            return Wake::Finished;
        }
        let place = state.polling.iter().position(|other| Arc::ptr_eq(other, mailbox));
        if let Some(place) = place {
            state.polling.swap_remove(place);
        } else if state.permits > 0 {
            state.permits -= 1;
            return Wake::Work;
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

    /// Rule 3. `finished` is asked, under the lock, when all of the `workers` wait. Comes back too if all have been roused since they were
    /// `roused` so often.
    pub(crate) fn wait(
        &self,
        workers: usize,
        roused: usize,
        deadline: Option<Instant>,
        finished: impl FnOnce() -> bool,
    ) -> Wake {
        let mut state = self.state.lock();
        state.waiting += 1;
        if state.waiting == workers && state.permits == 0 && !state.closed && finished() {
            self.close_locked(&mut state);
        }
        let wake = loop {
            if state.closed {
                break Wake::Finished;
            }
            if state.permits > 0 {
                state.permits -= 1;
                break Wake::Work;
            }
            if self.roused() != roused {
                break Wake::Time;
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
            other.wait(2, 0, None, || true)
        });
        sleep.announce();
        assert_eq!(sleep.wait(2, 0, None, || true), Wake::Finished);
        assert_eq!(thread.join().unwrap(), Wake::Finished);
    }

    #[test]
    fn a_deadline_wakes_and_leaves_no_claim() {
        let sleep = Sleep::default();
        sleep.open();
        sleep.announce();
        let wake = sleep.wait(2, 0, Some(Instant::now() + Duration::from_millis(5)), || true);
        assert_eq!(wake, Wake::Time);
        assert!(!sleep.sleepers.claim());
    }
}
