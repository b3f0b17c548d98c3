//! How idle workers sleep, and how whoever adds an event wakes one.
//!
//! An adder must not pay for the possibility that somebody sleeps, and no wake-up may be lost. So:
//!
//! 1. A worker that found nothing *announces* itself (adds one to the count), executes a heavy fence, and looks for work once more.
//! 2. If it finds some, it *withdraws*: takes one from the count. If the count is zero already, somebody has claimed it, and a permit is
//!    on its way that it must take. That permit may have gone to another who announced itself later; then this one has left its place in the
//!    count, so the count is looked at once more, under the lock. Whoever is still owed a permit gets the next one that is posted, before
//!    anybody who waits for work, since nobody else knows of the work that it has found.
//! 3. Otherwise it waits for a permit.
//! 4. An adder makes the event visible, executes a light fence, and looks at the count. If it is not zero it *claims* a sleeper (takes
//!    one from the count) and posts a permit.
//! 5. A worker that has a poller waits in it: it leaves its mailbox with the others', and whoever posts a permit takes a mailbox
//!    away and wakes its worker. A worker that comes back, by whatever it was woken, takes the permit if its mailbox is gone, and
//!    otherwise withdraws as in rule 2.
//! 6. With sources of events workers fall asleep and wake all the time, and a heavy fence interrupts all others. So from then on both sides
//!    execute an ordinary fence instead: adders first, workers when a heavy fence has made sure that no adder is left who does not.
//!
//! The fences of rules 1 and 4 are asymmetric: either the worker's second look finds the event, or the adder sees the worker's
//! announcement. The count is what [`Sleepers`] holds; its loom models are below, with and without pollers. Permits are a semaphore of a mutex and a condition variable.
//!
//! The last worker that comes to wait, with no permit left, decides whether the run is over; it sees everything that the others did
//! because they have passed through the mutex.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    /// Rule 1. What the caller looks at afterwards is ordered after the announcement; `fenced` as in rule 6.
    pub(crate) fn announce(&self, fenced: bool) {
        // Relaxed: the fence pairs with the one in `claim`.
        self.0.fetch_add(1, Ordering::Relaxed);
        if fenced { A::fence() } else { A::heavy() }
    }

    /// Rule 2: whether the worker may go on at once; if not it must take a permit first.
    #[must_use]
    pub(crate) fn withdraw(&self) -> bool {
        self.take()
    }

    /// Rule 4: whether a permit must be posted; `fenced` as in rule 6.
    #[inline(always)]
    #[must_use]
    pub(crate) fn claim(&self, fenced: bool) -> bool {
        // Pairs with the fence in `announce`.
        if fenced {
            A::fence()
        } else {
            A::light()
        }
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
    state: Mutex<State<Arc<Mailbox>>>,
    changed: Condvar,
    /// A permit was granted to whom one was owed.
    granted: Condvar,
    /// How often all who wait were roused.
    roused: AtomicUsize,
    /// Rule 6, for adders and for workers.
    adders_fence: AtomicBool,
    workers_fence: AtomicBool,
}

/// What workers agree on under a lock. `M` is the mailbox of a worker that has a poller.
#[derive(Debug)]
struct State<M> {
    permits: usize,
    /// Permits for those who have been claimed and do not wait for work.
    granted: usize,
    /// How many more of those there are.
    owed: usize,
    /// Workers that wait, those in their pollers included.
    waiting: usize,
    /// The mailboxes of those.
    polling: Vec<M>,
    closed: bool,
}

impl<M> Default for State<M> {
    fn default() -> Self {
        State { permits: 0, granted: 0, owed: 0, waiting: 0, polling: Vec::new(), closed: false }
    }
}

/// Who is to be woken after a permit was posted.
enum Posted<M> {
    /// One of those to whom one was owed.
    Owed,
    /// This one, in its poller.
    Polling(M),
    /// One of those who wait.
    Waiting,
}

/// What a worker does that comes back from its poller.
#[derive(Debug, PartialEq, Eq)]
enum Back {
    GoOn,
    Withdraw,
    Finished,
}

impl<M: PartialEq> State<M> {
    /// Whoever was claimed and waits for nothing but its permit comes first: nobody else knows of what it has found.
    fn post(&mut self) -> Posted<M> {
        if self.owed > 0 {
            self.owed -= 1;
            self.granted += 1;
            return Posted::Owed;
        }
        self.permits += 1;
        self.polling.pop().map_or(Posted::Waiting, Posted::Polling)
    }

    fn take(&mut self) -> bool {
        let taken = self.permits > 0;
        self.permits -= usize::from(taken);
        taken
    }

    /// Rule 5: after polling.
    fn end_polling(&mut self, mailbox: &M) -> Back {
        self.waiting -= 1;
        if self.closed {
            return Back::Finished;
        }
        match self.polling.iter().position(|other| other == mailbox) {
            Some(place) => {
                self.polling.swap_remove(place);
                Back::Withdraw
            }
            None if self.take() => Back::GoOn,
            None => Back::Withdraw,
        }
    }
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

    fn close_locked(&self, state: &mut State<Arc<Mailbox>>) {
        state.closed = true;
        self.changed.notify_all();
        self.granted.notify_all();
        state.polling.iter().for_each(|mailbox| mailbox.wake());
    }

    /// How often [`rouse`](Self::rouse) was called.
    pub(crate) fn roused(&self) -> usize {
        // Acquire pairs with the release in `rouse`.
        self.roused.load(Ordering::Acquire)
    }

    /// Wakes all who wait without a poller, so that they look around: there are sources of events to wait for.
    pub(crate) fn rouse(&self) {
        // Relaxed: an adder that does not see it has made its event visible before the heavy fence.
        self.adders_fence.store(true, Ordering::Relaxed);
        Native::heavy();
        // Release pairs with the acquire in `announce`.
        self.workers_fence.store(true, Ordering::Release);
        // Under the lock, so that nobody is between looking and waiting. Release pairs with the acquire of whoever looks.
        let _state = self.state.lock();
        self.roused.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
    }

    /// Rule 4, after an event was made visible.
    #[inline(always)]
    pub(crate) fn notify(&self) {
        // Relaxed: see `rouse`.
        if self.sleepers.claim(self.adders_fence.load(Ordering::Relaxed)) {
            self.post();
        }
    }

    #[cold]
    #[inline(never)]
    fn post(&self) {
        let posted = self.state.lock().post();
        match posted {
            Posted::Polling(mailbox) => mailbox.wake(),
            Posted::Owed => {
                let _ = self.granted.notify_one();
            }
            Posted::Waiting => {
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
        if state.take() {
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
        let back = self.state.lock().end_polling(mailbox);
        match back {
            Back::Finished => return Wake::Finished,
            Back::GoOn => {}
            Back::Withdraw => self.withdraw(),
        }
        Wake::Work
    }

    /// Rule 1.
    pub(crate) fn announce(&self) {
        // Acquire pairs with the release in `rouse`.
        self.sleepers.announce(self.workers_fence.load(Ordering::Acquire));
    }

    /// Rule 2.
    pub(crate) fn withdraw(&self) {
        if !self.sleepers.withdraw() {
            self.take_permit();
        }
    }

    fn take_permit(&self) {
        let mut state = self.state.lock();
        // Once more, under the lock: whoever announced itself since may have taken the permit that was on its way, and then has left its place
        // in the count.
        if !state.take() && !self.sleepers.withdraw() {
            state.owed += 1;
            while state.granted == 0 && !state.closed {
                self.granted.wait(&mut state);
            }
            state.granted = state.granted.saturating_sub(1);
        }
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
            if state.take() {
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
                            sleepers.claim(false)
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
                sleepers.announce(false);
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

    /// Workers that wait in their pollers, where input may wake them too, and as many adders of one event each. If an event is left although
    /// nobody works, or a worker waits for a permit that somebody else has got, the model deadlocks.
    fn polling_model<const OWED_LAST: bool, const ONE_LOOK: bool>(
        workers: usize,
        adders: usize,
        inputs: usize,
        preemptions: usize,
    ) {
        use loom::sync::{Condvar, Mutex};
        struct Shared {
            sleepers: Sleepers<Loom>,
            queued: loom::sync::atomic::AtomicUsize,
            done: loom::sync::atomic::AtomicUsize,
            state: Mutex<State<usize>>,
            granted: Condvar,
            wakers: Vec<(Mutex<bool>, Condvar)>,
        }
        impl Shared {
            fn wake(&self, worker: usize) {
                *self.wakers[worker].0.lock().unwrap() = true;
                self.wakers[worker].1.notify_one();
            }
            fn post<const OWED_LAST: bool>(&self) {
                let posted = {
                    let mut state = self.state.lock().unwrap();
                    let owed = if OWED_LAST && !state.polling.is_empty() { std::mem::take(&mut state.owed) } else { 0 };
                    let posted = state.post();
                    state.owed += owed;
                    posted
                };
                match posted {
                    Posted::Owed => self.granted.notify_one(),
                    Posted::Polling(worker) => self.wake(worker),
                    Posted::Waiting => {}
                }
            }
            fn take(&self) -> bool {
                let seen = self.queued.load(Ordering::Relaxed);
                seen != 0 && self.queued.compare_exchange(seen, seen - 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            }
            fn withdraw<const ONE_LOOK: bool>(&self) {
                if !self.sleepers.withdraw() {
                    let mut state = self.state.lock().unwrap();
                    if !state.take() && (ONE_LOOK || !self.sleepers.withdraw()) {
                        state.owed += 1;
                        while state.granted == 0 && !state.closed {
                            state = self.granted.wait(state).unwrap();
                        }
                        state.granted = state.granted.saturating_sub(1);
                    }
                }
            }
            /// Counts an event that was run; after the last one everybody is told to end.
            fn run(&self, all: usize) {
                if self.done.fetch_add(1, Ordering::AcqRel) + 1 == all {
                    let mut state = self.state.lock().unwrap();
                    state.closed = true;
                    let polling = std::mem::take(&mut state.polling);
                    drop(state);
                    self.granted.notify_all();
                    polling.into_iter().for_each(|worker| self.wake(worker));
                }
            }
            fn work<const ONE_LOOK: bool>(&self, worker: usize, all: usize) {
                loop {
                    if self.take() {
                        self.run(all);
                        continue;
                    }
                    self.sleepers.announce(true);
                    if self.take() {
                        self.withdraw::<ONE_LOOK>();
                        self.run(all);
                        continue;
                    }
                    {
                        let mut state = self.state.lock().unwrap();
                        if state.closed {
                            return;
                        }
                        if state.take() {
                            continue;
                        }
                        state.waiting += 1;
                        state.polling.push(worker);
                    }
                    let mut woken = self.wakers[worker].0.lock().unwrap();
                    while !*woken {
                        woken = self.wakers[worker].1.wait(woken).unwrap();
                    }
                    *woken = false;
                    drop(woken);
                    let back = self.state.lock().unwrap().end_polling(&worker);
                    match back {
                        Back::Finished => return,
                        Back::GoOn => {}
                        Back::Withdraw => self.withdraw::<ONE_LOOK>(),
                    }
                }
            }
        }
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(move || {
            let shared = Arc::new(Shared {
                sleepers: Sleepers::default(),
                queued: loom::sync::atomic::AtomicUsize::new(0),
                done: loom::sync::atomic::AtomicUsize::new(0),
                state: Mutex::new(State::default()),
                granted: Condvar::new(),
                wakers: (0..workers).map(|_| (Mutex::new(false), Condvar::new())).collect(),
            });
            let mut threads: Vec<_> = (1..workers)
                .map(|worker| {
                    let shared = shared.clone();
                    loom::thread::spawn(move || shared.work::<ONE_LOOK>(worker, adders))
                })
                .collect();
            threads.extend((0..adders).map(|adder| {
                let shared = shared.clone();
                loom::thread::spawn(move || {
                    if adder < inputs {
                        shared.wake(adder % workers);
                    }
                    shared.queued.fetch_add(1, Ordering::Relaxed);
                    if shared.sleepers.claim(true) {
                        shared.post::<OWED_LAST>();
                    }
                })
            }));
            shared.work::<ONE_LOOK>(0, adders);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn no_wake_up_of_a_poller_is_lost() {
        polling_model::<false, false>(1, 2, 1, 2);
        polling_model::<false, false>(2, 1, 1, 2);
        polling_model::<false, false>(2, 2, 0, 1);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn the_model_finds_a_permit_that_somebody_else_gets() {
        polling_model::<true, false>(2, 2, 1, 3);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn the_model_finds_a_count_that_is_looked_at_too_early() {
        polling_model::<false, true>(2, 1, 1, 2);
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
        assert!(!sleep.sleepers.claim(false));
    }
}
